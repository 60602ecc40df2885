package main

// reduceInts combines the lanes of Y register r into all lanes of its X name.
func (g *gen) reduceInts(op string, r, tmp int) {
	g.f("VEXTRACTI128 $1, Y%d, X%d", r, tmp)
	g.f("%s X%d, X%d, X%[3]d", op, tmp, r)
	for _, order := range []string{"0x4e", "0xb1"} {
		g.f("VPSHUFD $%s, X%d, X%d", order, r, tmp)
		g.f("%s X%d, X%d, X%[3]d", op, tmp, r)
	}
}

// quantizeRow writes groups of 32 activations as the panel kernels read them. The largest magnitude is found on the bits, so that NaN
// and Inf win, and scale + (scale-scale) makes a NaN of both.
func (g *gen) quantizeRow() {
	g.function("quantizeRow"+g.name, "dst *byte, x *float32, groups, shift int", "",
		"writes groups of 32 of x as 32 bytes q, their scale and -Σq<<shift")
	g.load("dst", "DI")
	g.load("x", "SI")
	g.load("groups", "BX")
	g.load("shift", "CX")
	const order, tiny, inverse127, all127, magnitude = 11, 12, 13, 14, 15
	g.f("MOVQ $0x0703060205010400, DX")
	g.f("VMOVQ DX, X%d", order)
	g.f("VPMOVZXBD X%d, Y%[1]d", order)
	g.f("VMOVUPS %s, Y%d", g.bits("quantTiny", 0x0d800000), tiny)
	g.f("VMOVUPS %s, Y%d", g.constant("inverse127", 1.0/127), inverse127)
	g.f("VMOVUPS %s, Y%d", g.constant("all127", 127), all127)
	g.f("VMOVUPS %s, Y%d", g.bits("magnitude", 0x7fffffff), magnitude)
	loop := g.newLabel("loop")
	g.label(loop)
	for v := range 4 {
		g.f("VMOVUPS %d(SI), Y%d", 32*v, v)
		g.f("VPAND Y%d, Y%d, Y%d", magnitude, v, 4+v)
	}
	g.f("VPMAXSD Y5, Y4, Y4")
	g.f("VPMAXSD Y7, Y6, Y6")
	g.f("VPMAXSD Y6, Y4, Y4")
	g.reduceInts("VPMAXSD", 4, 5)
	g.f("VDIVSS X4, X%d, X5", all127)
	g.f("VMULSS X%d, X4, X6", inverse127)
	g.f("VSUBSS X6, X6, X7")
	g.f("VADDSS X7, X6, X6")
	g.f("VCMPPS $1, X%d, X4, X7", tiny)
	g.f("VANDNPS X5, X7, X5")
	g.f("VANDNPS X6, X7, X6")
	g.f("VBROADCASTSS X5, Y5")
	for v := range 4 {
		g.f("VMULPS Y5, Y%d, Y%[1]d", v)
		g.f("VCVTPS2DQ Y%d, Y%[1]d", v)
	}
	g.f("VPADDD Y0, Y1, Y8")
	g.f("VPADDD Y2, Y3, Y9")
	g.f("VPADDD Y9, Y8, Y8")
	g.reduceInts("VPADDD", 8, 9)
	g.f("VMOVD X8, DX")
	g.f("SHLL CX, DX")
	g.f("NEGL DX")
	g.f("VPACKSSDW Y1, Y0, Y0")
	g.f("VPACKSSDW Y3, Y2, Y2")
	g.f("VPACKSSWB Y2, Y0, Y0")
	g.f("VPERMD Y0, Y%d, Y0", order)
	g.f("VMOVDQU Y0, (DI)")
	g.f("VMOVSS X6, %d(DI)", quantScale)
	g.f("MOVL DX, %d(DI)", quantOffset)
	g.f("ADDQ $128, SI")
	g.f("ADDQ $%d, DI", quantGroup)
	g.f("DECQ BX")
	g.f("JNZ %s", loop)
	g.ret()
}

// residualRow takes from groups of 32 numbers what their activations stand for. The product is rounded before it is subtracted.
func (g *gen) residualRow() {
	g.function("residualRow"+g.name, "dst, x *float32, act *byte, groups int", "", "sets groups of 32 of dst to x less the numbers that act stands for")
	g.load("dst", "DI")
	g.load("x", "SI")
	g.load("act", "AX")
	g.load("groups", "CX")
	loop := g.newLabel("loop")
	g.label(loop)
	g.f("VBROADCASTSS %d(AX), Y15", quantScale)
	for v := range 4 {
		g.f("VPMOVSXBD %d(AX), Y%d", 8*v, v)
		g.f("VCVTDQ2PS Y%d, Y%[1]d", v)
		g.f("VMULPS Y15, Y%d, Y%[1]d", v)
		g.f("VMOVUPS %d(SI), Y%d", 32*v, 4+v)
		g.f("VSUBPS Y%d, Y%d, Y%d", v, 4+v, v)
		g.f("VMOVUPS Y%d, %d(DI)", v, 32*v)
	}
	g.f("ADDQ $128, SI")
	g.f("ADDQ $128, DI")
	g.f("ADDQ $%d, AX", quantGroup)
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
	g.ret()
}

// brainRow rounds float32 to bf16, to nearest even; a NaN becomes the quiet NaN.
func (g *gen) brainRow() {
	g.function("brainRow"+g.name, "dst *byte, x *float32, n int", "", "sets dst[i] = bf16(x[i]); n > 0 is a multiple of 16")
	g.load("dst", "DI")
	g.load("x", "SI")
	g.load("n", "CX")
	g.f("VMOVUPS %s, Y15", g.bits("one32", 1))
	g.f("VMOVUPS %s, Y14", g.bits("roundHalf", 0x7fff))
	g.f("VMOVUPS %s, Y13", g.bits("quietNaN", 0x7fc0))
	loop := g.newLabel("loop")
	g.label(loop)
	for v := range 2 {
		g.f("VMOVUPS %d(SI), Y%d", 32*v, v)
		g.f("VCMPPS $3, Y%d, Y%[1]d, Y%d", v, 4+v)
		g.f("VPSRLD $16, Y%d, Y%d", v, 2+v)
		g.f("VPAND Y15, Y%d, Y%[1]d", 2+v)
		g.f("VPADDD Y14, Y%d, Y%[1]d", 2+v)
		g.f("VPADDD Y%d, Y%d, Y%[2]d", 2+v, v)
		g.f("VPSRLD $16, Y%d, Y%[1]d", v)
		g.f("VPBLENDVB Y%d, Y13, Y%d, Y%[2]d", 4+v, v)
	}
	g.f("VPACKUSDW Y1, Y0, Y0")
	g.f("VPERMQ $0xd8, Y0, Y0")
	g.f("VMOVDQU Y0, (DI)")
	g.f("ADDQ $64, SI")
	g.f("ADDQ $32, DI")
	g.f("SUBQ $16, CX")
	g.f("JG %s", loop)
	g.ret()
}

// stream reads memory as fast as the level can.
func (g *gen) stream() {
	g.function("stream"+g.name, "p *byte, n int", "", "reads n bytes from p, a multiple of 512")
	g.load("p", "BX")
	g.load("n", "CX")
	for i := range 8 {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for o := 0; o < 512; o += g.bytes() {
		r := o / g.bytes() % 8
		if g.lanes == 16 {
			g.f("VPADDD %d(BX), Z%d, Z%[2]d", o, r)
		} else {
			g.f("VPADDD %d(BX), Y%d, Y%[2]d", o, r)
		}
	}
	g.f("ADDQ $512, BX")
	g.f("SUBQ $512, CX")
	g.f("JG %s", loop)
	g.ret()
}
