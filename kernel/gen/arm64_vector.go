package main

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// This file is what the loops over elements do differently on arm64. The descriptions of kernels name registers and operations as on
// amd64; here they get their names on arm64. NEON has no masks and no operands in memory: a tail of one to three elements has code of its own for each length, and
// constants wait in the registers that a loop leaves free.
//
// R0…R6 are the streams, R7 the index in bytes, R8 the number of elements, R9…R15 the streams' addresses at the index, R16 the constants,
// R17 scratch, R21 the end of the next turn, R22 the number of bytes.

var neonLevel = level{name: "NEON", lanes: 4, regs: 32, reg: "V", arm: true}

// neonRegs are the general registers of arm64 that stand for those of amd64 in the descriptions that both share.
var neonRegs = map[string]string{"DI": "R0", "SI": "R1", "R8": "R2", "R9": "R3", "R10": "R4", "R11": "R5", "R12": "R6", "CX": "R8", "AX": "R19", "BX": "R20"}

// streamAddress is the register that holds a stream's address at the index.
func streamAddress(stream string) string {
	n, err := strconv.Atoi(neonRegs[stream][1:])
	if err != nil || n > 6 {
		panic("no stream " + stream)
	}
	return fmt.Sprintf("R%d", 9+n)
}

// neonNames translates operations. Like VMAXPS and VMINPS in the order in which bodies use them, FMAX and FMIN return a NaN that is in x.
var neonNames = map[string]string{
	"VADDPS": "fadd", "VSUBPS": "fsub", "VMULPS": "fmul", "VDIVPS": "fdiv", "VMAXPS": "fmax", "VMINPS": "fmin",
	"VSQRTPS": "fsqrt", "VCVTPS2DQ": "fcvtns", "VROUNDPS $8,": "frintn",
}

// neonGo are operations that Go's assembler knows; %d are y, x and the output.
var neonGo = map[string]string{
	"VORPS": "VORR V%d.B16, V%d.B16, V%d.B16", "VPADDD": "VADD V%d.S4, V%d.S4, V%d.S4",
}

// vn is the number of a vector register.
func vn(name string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "V"))
	if err != nil {
		panic("not a vector register: " + name)
	}
	return n
}

func (g *gen) neonOp(mnemonic, y, x, out string) {
	if format, ok := neonGo[mnemonic]; ok {
		g.f(format, vn(y), vn(x), vn(out))
		return
	}
	g.w(neonName(mnemonic), vn(out), vn(x), vn(y))
}

func neonName(mnemonic string) string {
	name, ok := neonNames[mnemonic]
	if !ok {
		panic("arm64: no name for " + mnemonic)
	}
	return name
}

func (g *gen) neonUnary(mnemonic, x, out string) {
	if n, ok := strings.CutPrefix(mnemonic, "VPSLLD $"); ok {
		g.f("VSHL $%s V%d.S4, V%d.S4", n, vn(x), vn(out))
		return
	}
	g.w(neonName(mnemonic), vn(out), vn(x))
}

// neonCombine is reg = reg op x in reductions, in which the largest number ignores NaN.
func (g *gen) neonCombine(op string, x, reg int) {
	name := neonName(op)
	if op == "VMAXPS" {
		name = "fmaxnm"
	}
	g.w(name, reg, reg, x)
}

func (b *body) neonMove(store bool, v, p string) {
	at := streamAddress(p)
	b.streamsUsed[p] = true
	move := func(size string) {
		mem, reg := fmt.Sprintf("%d(%s)", b.copy*b.bytes(), at), fmt.Sprintf("F%d", vn(v))
		if store {
			mem, reg = reg, mem
		}
		b.f("FMOV%s %s, %s", size, mem, reg)
	}
	move([]string{"Q", "S", "D", "D"}[b.tail])
	if b.tail == 3 {
		b.f("ADD $8, %s, R17", at)
		if store {
			b.f("VST1 V%d.S[2], (R17)", vn(v))
		} else {
			b.f("VLD1 (R17), V%d.S[2]", vn(v))
		}
	}
}

// elements on arm64: the loop with copies of the body side by side, then with one, then the tails.
func (g *gen) neonElements(unroll, pins int, write func(b *body)) {
	single, tails, done := g.newLabel("single"), g.newLabel("tails"), g.newLabel("done")
	g.f("MOVD $0, R7")
	g.f("LSL $2, R8, R22")
	g.f("MOVD $constants<>(SB), R16")
	loop := func(copies int, next string) {
		l := g.newLabel("loop")
		step := copies * g.bytes()
		g.f("ADD $%d, R7, R21", step)
		g.f("CMP R22, R21")
		g.f("BGT %s", next)
		g.neonBodies(copies, pins, 0, l, write)
		g.f("MOVD R21, R7")
		g.f("ADD $%d, R21", step)
		g.f("CMP R22, R21")
		g.f("BLE %s", l)
	}
	if unroll > 1 {
		loop(unroll, single)
		g.label(single)
	}
	loop(1, tails)
	g.label(tails)
	two, three := g.newLabel("two"), g.newLabel("three")
	g.f("SUBS R7, R22, R21")
	g.f("BEQ %s", done)
	g.f("CMP $8, R21")
	g.f("BEQ %s", two)
	g.f("BGT %s", three)
	g.neonBodies(1, pins, 1, "", write)
	g.f("B %s", done)
	g.label(two)
	g.neonBodies(1, pins, 2, "", write)
	g.f("B %s", done)
	g.label(three)
	g.neonBodies(1, pins, 3, "", write)
	g.label(done)
}

// neonBodies writes copies of the body, interleaved, after the label and what the loop keeps in registers.
func (g *gen) neonBodies(copies, pins, tail int, label string, write func(b *body)) {
	g.streamsUsed = map[string]bool{}
	code := g.interleave(copies, tail > 0, tail, write)
	constants := constantsOf(code)
	start := g.asm.Len()
	for kept := len(constants); ; kept-- {
		if kept < 0 {
			panic("NEON: out of vector registers: unroll less")
		}
		if g.neonAssign(code, pins, constants[:kept], label) {
			return
		}
		g.asm.Truncate(start)
	}
}

// constantsOf lists the constants of the code, those with most uses first.
func constantsOf(code []instruction) []string {
	uses := map[string]int{}
	var names []string
	for _, in := range code {
		for _, v := range in.in {
			if v.mem == "" {
				continue
			}
			if uses[v.mem] == 0 {
				names = append(names, v.mem)
			}
			uses[v.mem]++
		}
	}
	sort.SliceStable(names, func(i, j int) bool { return uses[names[i]] > uses[names[j]] })
	return names
}

// neonRegisters are the registers of one loop.
type neonRegisters struct {
	free []int
	home map[int]int    // of virtual registers
	kept map[string]int // of constants
	out  bool           // ran out of registers
}

func (r *neonRegisters) take() int {
	if len(r.free) == 0 {
		r.out = true
		return 0
	}
	n := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return n
}

func (r *neonRegisters) name(v val) string {
	switch {
	case v.mem != "":
		return fmt.Sprintf("V%d", r.kept[v.mem])
	case v.id < 0:
		return fmt.Sprintf("V%d", fixed(v))
	}
	return fmt.Sprintf("V%d", r.home[v.id])
}

// neonAssign writes the code with the constants kept in registers and reports whether the registers sufficed.
func (g *gen) neonAssign(code []instruction, pins int, kept []string, label string) bool {
	r := &neonRegisters{free: []int{31}, home: map[int]int{}, kept: map[string]int{}}
	for i := g.regs - 2 - pins; i >= 0; i-- {
		r.free = append(r.free, i)
	}
	for _, c := range kept {
		r.kept[c] = r.take()
		g.f("FMOVQ %s, F%d", c, r.kept[c])
	}
	if label != "" {
		g.label(label)
	}
	start := g.asm.Len()
	last := map[int]int{}
	for i, in := range code {
		for _, v := range in.in {
			last[v.id] = i
		}
	}
	for i, in := range code {
		g.neonInstruction(r, in, func(v val) bool { return v.id > 0 && last[v.id] == i })
	}
	if r.out {
		return false
	}
	text := string(g.asm.Bytes()[start:]) // the bodies have now said which streams they use
	g.asm.Truncate(start)
	for i := range streamRegs {
		if s := streamRegs[i]; g.streamsUsed[s] {
			g.f("ADD R7, %s, %s", neonRegs[s], streamAddress(s))
		}
	}
	g.asm.WriteString(text)
	return true
}

// neonInstruction writes one instruction; dies says which of its inputs nobody reads later.
func (g *gen) neonInstruction(r *neonRegisters, in instruction, dies func(v val) bool) {
	var fetched []string
	for _, v := range in.in {
		if _, ok := r.kept[v.mem]; v.mem != "" && !ok {
			r.kept[v.mem] = r.take()
			g.f("FMOVQ %s, F%d", v.mem, r.kept[v.mem])
			fetched = append(fetched, v.mem)
		}
	}
	if in.fma != "" {
		g.neonMultiplyAdd(r, in, dies)
	} else {
		if in.out > 0 && in.early {
			r.home[in.out] = r.take()
		}
		r.release(in, dies, -1)
		out := ""
		if in.out > 0 {
			if !in.early {
				r.home[in.out] = r.take()
			}
			out = fmt.Sprintf("V%d", r.home[in.out])
		}
		in.emit(r.name, out)
	}
	for _, c := range fetched {
		r.free = append(r.free, r.kept[c])
		delete(r.kept, c)
	}
}

// release frees the registers of inputs that die, but not the register keep.
func (r *neonRegisters) release(in instruction, dies func(v val) bool, keep int) {
	seen := map[int]bool{}
	for _, v := range in.in {
		if dies(v) && !seen[v.id] && r.home[v.id] != keep {
			r.free = append(r.free, r.home[v.id])
		}
		seen[v.id] = true
	}
}

// neonMultiplyAdd writes z ± x·y over z, or over a copy of z.
func (g *gen) neonMultiplyAdd(r *neonRegisters, in instruction, dies func(v val) bool) {
	x, y, z := in.in[0], in.in[1], in.in[2]
	var out int
	if dies(z) && z.id != x.id && z.id != y.id {
		out = r.home[z.id]
	} else {
		out = r.take()
		g.f("VMOV %s.B16, V%d.B16", r.name(z), out)
	}
	op := map[string]string{"VFMADD": "VFMLA", "VFNMADD": "VFMLS"}[in.fma]
	g.f("%s %s.S4, %s.S4, V%d.S4", op, r.name(y), r.name(x), out)
	r.release(in, dies, out)
	r.home[in.out] = out
}

// neonReduce combines the lanes of a register, in an order that never changes, into lane 0 of F0.
func (g *gen) neonReduce(op string, reg int) string {
	if op == "VMAXPS" {
		g.w("fmaxnmv", 0, reg)
		return "F0"
	}
	g.w("faddp", 0, reg, reg)
	g.w("faddp", 0, 0, 0)
	return "F0"
}

// neonBroadcast fills fixed register i with F0.
func (g *gen) neonBroadcast(i int) { g.f("VDUP V0.S[0], V%d.S4", fixed(g.pin(i))) }

// neonFill replaces the lanes beyond the tail by those of c.
func (b *body) neonFill(v, c val) val {
	out := b.add1([]val{v, c}, func(reg func(val) string, out string) {
		b.f("VMOV %s.B16, %s.B16", reg(v), out)
		for lane := b.tail; lane < b.lanes; lane++ {
			b.f("VMOV %s.S[%d], %s.S[%[2]d]", reg(c), lane, out)
		}
	})
	b.code[len(b.code)-1].early = true
	return out
}

// neonIfNegative is yes in the lanes in which x has its sign set, and no in the others.
func (b *body) neonIfNegative(x, yes, no val) val {
	out := b.add1([]val{x, yes, no}, func(reg func(val) string, out string) {
		b.w("cmlt", vn(out), vn(reg(x)))
		b.f("VBSL %s.B16, %s.B16, %s.B16", reg(no), reg(yes), out)
	})
	b.code[len(b.code)-1].early = true
	return out
}

// fillPin sets fixed register i to a constant.
func (g *gen) fillPin(i int, c val) {
	if g.arm {
		g.f("MOVD $constants<>(SB), R16")
		g.f("FMOVQ %s, F%d", c.mem, fixed(g.pin(i)))
		return
	}
	g.f("VMOVUPS %s, %s", c.mem, g.v(fixed(g.pin(i))))
}

// neonAdamW fills the fixed registers of adamw.
func (g *gen) neonAdamW() {
	scalar := func(pin int, ops ...string) { // leaves the scalar in F0
		for _, op := range ops {
			g.f("%s", op)
		}
		g.neonBroadcast(pin)
	}
	arg := func(n, reg string) string { return "FMOVS " + g.args[n] + ", " + reg }
	const one = "FMOVS $1.0, F0"
	scalar(beta1, arg("Beta1", "F0"))
	scalar(rest1, one, arg("Beta1", "F1"), "FSUBS F1, F0, F0")
	scalar(beta2, arg("Beta2", "F0"))
	scalar(rest2, one, arg("Beta2", "F1"), "FSUBS F1, F0, F0")
	scalar(scale, arg("Scale", "F0"))
	scalar(eps, arg("Eps", "F0"))
	scalar(perC2, one, arg("C2", "F1"), "FDIVS F1, F0, F0")
	scalar(keep, one, arg("LR", "F1"), arg("WeightDecay", "F2"), "FMULS F2, F1, F1", "FSUBS F1, F0, F0")
	scalar(rate, arg("LR", "F0"), arg("C1", "F1"), "FDIVS F1, F0, F0")
}

// neonRstd is rstd from the sum in F0 and the length in R8.
func (g *gen) neonRstd() {
	g.f("SCVTFS R8, F1")
	g.f("FDIVS F1, F0, F0")
	g.f("FMOVS %s, F1", g.args["eps"])
	g.f("FADDS F1, F0, F0")
	g.f("FSQRTS F0, F0")
	g.f("FMOVS $1.0, F1")
	g.f("FDIVS F0, F1, F0")
	g.result("F0")
	g.neonBroadcast(0)
}

// neonNormGrad is normGradScalars from the sum in F0 and the length in R8.
func (g *gen) neonNormGrad() {
	g.f("SCVTFS R8, F1")
	g.f("FDIVS F1, F0, F0")
	g.f("FMOVS %s, F1", g.args["rstd"])
	g.f("FMULS F1, F1, F2")
	g.f("FMULS F1, F2, F2")
	g.f("FMULS F2, F0, F0")
	g.neonBroadcast(0)
}
