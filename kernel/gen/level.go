package main

import "fmt"

// level is a vector instruction set.
type level struct {
	name  string // suffix of function names
	lanes int    // float32 lanes of a vector
	regs  int    // vector registers
	reg   string // prefix of their names
	arm   bool   // arm64
}

var (
	avx512 = level{name: "AVX512", lanes: 16, regs: 32, reg: "Z"}
	avx2   = level{name: "AVX2", lanes: 8, regs: 16, reg: "Y"}
)

func (l level) bytes() int { return 4 * l.lanes }

// unroll chooses by level the number of copies of a loop's body that the registers allow: 32 or 16 of them.
func (l level) unroll(avx512, avx2 int) int {
	if l.regs == 32 {
		return avx512
	}
	return avx2
}

// v names vector register i.
func (l level) v(i int) string { return fmt.Sprintf("%s%d", l.reg, i) }

// zero clears vector register i.
func (g *gen) zero(i int) {
	if g.arm {
		g.f("VEOR V%d.B16, V%[1]d.B16, V%[1]d.B16", i)
		return
	}
	if g.lanes == 16 {
		g.f("VPXORD %s, %[1]s, %[1]s", g.v(i))
		return
	}
	g.f("VXORPS %s, %[1]s, %[1]s", g.v(i))
}

// setMask prepares the mask for the first n lanes, 0 ≤ n ≤ lanes, where n is in the register count, which it overwrites: K1 on AVX-512,
// vector register mask on AVX2. tmp is a free register other than CX; count must be CX.
func (g *gen) setMask(mask int, tmp string) {
	if g.lanes == 16 {
		g.f("MOVL $1, %s", tmp)
		g.f("SHLL CX, %s", tmp)
		g.f("DECL %s", tmp)
		g.f("KMOVW %s, K1", tmp)
		return
	}
	g.f("NEGQ CX")
	g.f("LEAQ tailMask<>+32(SB), %s", tmp)
	g.f("VMOVUPS (%s)(CX*4), %s", tmp, g.v(mask))
}

// maskedLoad loads the lanes of the mask and clears the others.
func (g *gen) maskedLoad(addr string, dst, mask int) {
	if g.lanes == 16 {
		g.f("VMOVUPS.Z %s, K1, %s", addr, g.v(dst))
		return
	}
	g.f("VMASKMOVPS %s, %s, %s", addr, g.v(mask), g.v(dst))
}

func (g *gen) maskedStore(src int, addr string, mask int) {
	if g.lanes == 16 {
		g.f("VMOVUPS %s, K1, %s", g.v(src), addr)
		return
	}
	g.f("VMASKMOVPS %s, %s, %s", g.v(src), g.v(mask), addr)
}
