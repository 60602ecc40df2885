package main

// The bf16 product: panels as for float32, with a pair of bf16, the even k in the low half, in place of each float32, so that half as many
// steps of k make the product.

// packPairs writes packTransposeBF16 and packCopyBF16, which are packTranspose and packCopy with pairs of k rounded to bf16 as elements. An
// odd last k is paired with zero. Rounding is to nearest even; a NaN becomes quiet, a denormal number zero.
func (g *gen) packPairs() {
	g.packTransposePairs()
	g.packCopyPairs()
}

func (g *gen) packTransposePairs() {
	g.function("packTransposeBF16"+g.name, packParams, "",
		"sets dst[p][i] = the pair src[i][2p], src[i][2p+1] for i < rows ≤ lanes, 2p < k, strides in bytes; a row of dst is a whole vector")
	g.packArgs()
	const spare = 31
	loop, tail, done := g.newLabel("loop"), g.newLabel("tail"), g.newLabel("done")
	whole := func(addr string, dst int) {
		g.f("VMOVUPS 64%s, %s", addr, g.v(spare))
		g.f("VMOVUPS %s, %s", addr, g.v(spare-1))
		g.roundBF16(spare, spare-1, dst)
	}
	g.label(loop)
	g.f("SUBQ $%d, BX", 2*g.lanes)
	g.f("JLT %s", tail)
	g.packRows(whole)
	g.transpose()
	for i := range g.lanes {
		g.f("VMOVUPS %s, (DI)", g.v(i))
		g.f("ADDQ R8, DI")
	}
	g.f("ADDQ $%d, SI", 2*g.bytes())
	g.f("JMP %s", loop)
	g.label(tail)
	g.f("ADDQ $%d, BX", 2*g.lanes)
	g.f("JZ %s", done)
	g.halfMasks()
	g.packRows(func(addr string, dst int) {
		g.f("VMOVUPS.Z 64%s, K2, %s", addr, g.v(spare))
		g.f("VMOVUPS.Z %s, K1, %s", addr, g.v(spare-1))
		g.roundBF16(spare, spare-1, dst)
	})
	g.transpose()
	for i := range g.lanes {
		g.f("VMOVUPS %s, (DI)", g.v(i))
		g.f("ADDQ R8, DI")
		g.f("SUBQ $2, BX")
		g.f("JLE %s", done)
	}
	g.label(done)
	g.ret()
}

// halfMasks sets K1 and K2 for the first and the second 16 of BX < 32 elements.
func (g *gen) halfMasks() {
	g.f("MOVQ BX, CX")
	g.f("MOVL $1, DX")
	g.f("SHLL CX, DX")
	g.f("DECL DX")
	g.f("KMOVW DX, K1")
	g.f("SHRL $16, DX")
	g.f("KMOVW DX, K2")
}

func (g *gen) packCopyPairs() {
	g.function("packCopyBF16"+g.name, packParams, "",
		"sets dst[p][i] = the pair src[2p][i], src[2p+1][i] for i < rows ≤ lanes, 2p < k, strides in bytes; a row of dst is a whole vector")
	g.packArgs()
	g.f("MOVQ R10, CX")
	const mask = 1
	g.setMask(mask, "DX")
	g.f("VMOVUPS interleave<>(SB), Z3")
	loop, last, done := g.newLabel("loop"), g.newLabel("last"), g.newLabel("done")
	pair := func() {
		g.roundBF16(1, 0, 2) // 16 of the even k, then 16 of the odd one
		g.f("VPERMW Z2, Z3, Z2")
		g.f("VMOVUPS Z2, (DI)")
	}
	g.label(loop)
	g.f("SUBQ $2, BX")
	g.f("JLT %s", last)
	g.maskedLoad("(SI)", 0, mask)
	g.maskedLoad("(SI)(R9*1)", 1, mask)
	pair()
	g.f("LEAQ (SI)(R9*2), SI")
	g.f("ADDQ R8, DI")
	g.f("JMP %s", loop)
	g.label(last)
	g.f("ADDQ $2, BX")
	g.f("JZ %s", done)
	g.maskedLoad("(SI)", 0, mask)
	g.zero(1)
	pair()
	g.label(done)
	g.ret()
}

// dotBF16 encodes VDPBF16PS src2, src1, dst, which the assembler lacks: EVEX.512.F3.0F38.W0 52 /r. To each lane of dst it adds the product of
// the high halves of the sources' lanes and then, rounding again, that of the low ones.
func (g *gen) dotBF16(src2, src1, dst int) { g.evexBF16("VDPBF16PS", 2, 0x52, src2, src1, dst) }

// roundBF16 encodes VCVTNE2PS2BF16 lo, hi, dst, which the assembler lacks: EVEX.512.F2.0F38.W0 72 /r. The low half of dst gets lo rounded to
// bf16, the high half hi.
func (g *gen) roundBF16(hi, lo, dst int) { g.evexBF16("VCVTNE2PS2BF16", 3, 0x72, lo, hi, dst) }

// evexBF16 encodes an instruction of AVX512_BF16 on 512-bit registers: prefix is 2 for F3 and 3 for F2.
func (g *gen) evexBF16(name string, prefix, opcode, src2, src1, dst int) {
	inverted := func(x, b int) int { return 1 ^ x>>b&1 }
	p0 := inverted(dst, 3)<<7 | inverted(src2, 4)<<6 | inverted(src2, 3)<<5 | inverted(dst, 4)<<4 | 2
	p1 := (^src1&15)<<3 | 1<<2 | prefix
	p2 := 2<<5 | inverted(src1, 4)<<3
	g.f("LONG $0x%02x%02x%02x62; WORD $0x%02x%02x // %s Z%d, Z%d, Z%d", p2, p1, p0, 0xc0|(dst&7)<<3|src2&7, opcode, name, src2, src1, dst)
}

// peakPairs is peak with pairs of bf16.
func (g *gen) peakPairs() {
	const chains = 24
	g.function("peakBF16"+g.name, "n int", "", "runs n turns of 24 multiply-adds of a vector of pairs")
	g.load("n", "CX")
	for i := range chains + 2 {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range chains {
		g.dotBF16(chains, chains+1, i%chains)
	}
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
	g.ret()
}

// roundPairs writes the kernel that rounds to bf16 and stays float32, for processors that cannot multiply bf16.
func (g *gen) roundPairs() {
	g.function("brainRound"+g.name, "x *float32, n int", "", "rounds n numbers to bf16 in place, n a multiple of lanes: to nearest even, a NaN becomes quiet, a denormal number zero")
	g.load("x", "SI")
	g.load("n", "CX")
	g.f("VMOVUPS %s, %s", g.bits("roundHalf", 0x7fff), g.v(4))
	g.f("VMOVUPS %s, %s", g.bits("one32", 1), g.v(5))
	g.f("VMOVUPS %s, %s", g.bits("highWords", 0xffff0000), g.v(6))
	g.f("VMOVUPS %s, %s", g.bits("brainNaN", 0x7fc00000), g.v(7))
	g.f("VMOVUPS %s, %s", g.bits("brainAbs", 0x7fffffff), g.v(8))
	g.f("VMOVUPS %s, %s", g.bits("brainNormal", 0x007fffff), g.v(9))
	loop := g.newLabel("loop")
	g.label(loop)
	g.f("VMOVUPS (SI), %s", g.v(0))
	and := "VPAND"
	if g.lanes == 16 {
		and = "VPANDD"
	}
	g.f("VPSRLD $16, %s, %s", g.v(0), g.v(1))
	g.f("%s %s, %s, %s", and, g.v(5), g.v(1), g.v(1))
	g.f("VPADDD %s, %s, %s", g.v(4), g.v(1), g.v(1))
	g.f("VPADDD %s, %s, %s", g.v(0), g.v(1), g.v(1))
	g.f("%s %s, %s, %s", and, g.v(6), g.v(1), g.v(1))
	g.f("%s %s, %s, %s", and, g.v(8), g.v(0), g.v(2))
	if g.lanes == 16 {
		g.f("VPCMPGTD Z9, Z2, K1") // neither zero nor denormal
		g.f("VMOVDQU32.Z Z1, K1, Z1")
		g.f("VCMPPS $3, Z0, Z0, K1") // unordered: NaN
		g.f("VMOVDQU32 Z7, K1, Z1")
	} else {
		g.f("VPCMPGTD Y9, Y2, Y2")
		g.f("VPAND Y2, Y1, Y1")
		g.f("VCMPPS $3, Y0, Y0, Y2")
		g.f("VBLENDVPS Y2, Y7, Y1, Y1")
	}
	g.f("VMOVUPS %s, (SI)", g.v(1))
	g.f("ADDQ $%d, SI", g.bytes())
	g.f("SUBQ $%d, CX", g.lanes)
	g.f("JG %s", loop)
	g.ret()
}
