package main

import "fmt"

// reduceInts combines the lanes of Y register r into all lanes of its X name.
func (g *gen) reduceInts(op string, r, tmp int) {
	g.f("VEXTRACTI128 $1, Y%d, X%d", r, tmp)
	g.f("%s X%d, X%d, X%[3]d", op, tmp, r)
	for _, order := range []string{"0x4e", "0xb1"} {
		g.f("VPSHUFD $%s, X%d, X%d", order, r, tmp)
		g.f("%s X%d, X%d, X%[3]d", op, tmp, r)
	}
}

// quantizeRow writes groups of 32 activations of 8 bits as the panel kernels read them.
func (g *gen) quantizeRow() {
	g.function("quantizeRow"+g.name, "dst *byte, x *float32, groups int", "",
		"writes groups of 32 of x as 32 bytes q, their scale and -8·Σq")
	g.quantizeGroups(4, 127, func() {
		g.f("VPACKSSDW Y1, Y0, Y0")
		g.f("VPACKSSDW Y3, Y2, Y2")
		g.f("VPACKSSWB Y2, Y0, Y0")
		g.f("VPERMD Y0, Y%d, Y0", byteOrder)
		g.f("VMOVDQU Y0, (DI)")
	})
}

// quantizeRow16 is quantizeRow for 16 bits, which pack writes from registers 0…3.
func (g *gen) quantizeRow16(name string, pack func()) {
	g.function("quantize"+name+g.name, "dst *byte, x *float32, groups int", "",
		"writes groups of 32 of x as 16 bits q each, their scale and -128·Σq")
	g.quantizeGroups(8, 32639, pack)
}

// byteOrder is the register with the order of dwords in which packing twice leaves numbers.
const byteOrder = 11

// packWords writes words, each four as 0, 2, 1, 3.
func (g *gen) packWords() {
	for v := 0; v < 4; v += 2 {
		g.f("VPACKSSDW Y%d, Y%d, Y%[2]d", v+1, v)
		g.f("VPSHUFLW $0xd8, Y%d, Y%[1]d", v)
		g.f("VPSHUFHW $0xd8, Y%d, Y%[1]d", v)
		g.f("VPERMQ $0xd8, Y%d, Y%[1]d", v)
		g.f("VMOVDQU Y%d, %d(DI)", v, 16*v)
	}
}

// packDigits writes the high bytes, rounded, and the low ones, which stand for themselves less 256 where they are negative.
func (g *gen) packDigits() {
	for v := 0; v < 4; v += 2 {
		g.f("VPACKSSDW Y%d, Y%d, Y%[2]d", v+1, v)
		g.f("VPADDW %s, Y%d, Y%d", g.bits("words128", 0x00800080), v, 4+v)
		g.f("VPSRLW $8, Y%d, Y%[1]d", 4+v)
		g.f("VPAND %s, Y%d, Y%[2]d", g.bits("lowBytes", 0x00ff00ff), v)
	}
	for d := range 2 {
		v, at := 4-4*d, d*lowDigits
		g.f("VPACKUSWB Y%d, Y%d, Y%[2]d", v+2, v)
		g.f("VPERMD Y%d, Y%d, Y%[1]d", v, byteOrder)
		g.f("VMOVDQU Y%d, %d(DI)", v, at)
	}
}

// quantizeGroups rounds groups of 32 numbers to integers up to most in magnitude, which pack writes from registers 0…3. The largest
// magnitude is found on the bits, so that NaN and Inf win, and scale + (scale-scale) makes a NaN of both.
func (g *gen) quantizeGroups(bits, most int, pack func()) {
	g.load("dst", "DI")
	g.load("x", "SI")
	g.load("groups", "BX")
	const tiny, inverse, all, magnitude = 12, 13, 14, 15
	g.f("MOVQ $0x0703060205010400, DX")
	g.f("VMOVQ DX, X%d", byteOrder)
	g.f("VPMOVZXBD X%d, Y%[1]d", byteOrder)
	g.f("VMOVUPS %s, Y%d", g.bits("quantTiny", 0x0d800000), tiny)
	g.f("VMOVUPS %s, Y%d", g.constant(fmt.Sprintf("inverse%d", most), 1/float64(most)), inverse)
	g.f("VMOVUPS %s, Y%d", g.constant(fmt.Sprintf("all%d", most), float64(most)), all)
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
	g.f("VDIVSS X4, X%d, X5", all)
	g.f("VMULSS X%d, X4, X6", inverse)
	g.f("VSUBSS X6, X6, X7")
	g.f("VADDSS X7, X6, X6")
	g.f("VCMPPS $1, X%d, X4, X7", tiny)
	g.f("VANDNPS X5, X7, X5")
	g.f("VANDNPS X6, X7, X6")
	g.f("VMOVSS X6, %d(DI)", quantScale(bits))
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
	g.f("SHLL $%d, DX", bits-1)
	g.f("NEGL DX")
	g.f("MOVL DX, %d(DI)", quantOffset(bits))
	pack()
	g.f("ADDQ $128, SI")
	g.f("ADDQ $%d, DI", quantGroup(bits))
	g.f("DECQ BX")
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
