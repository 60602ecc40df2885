package main

const packParams = "dst *float32, dstStride int, src *float32, srcStride, rows, k int"

func (g *gen) packArgs() {
	g.load("dst", "DI")
	g.load("dstStride", "R8")
	g.load("src", "SI")
	g.load("srcStride", "R9")
	g.load("rows", "R10")
	g.load("k", "BX")
}

// packTranspose turns rows of k elements into columns: dst[l][i] = src[i][l], a square of lanes × lanes at a time. Rows beyond the last
// repeat it, so nothing outside is read; the lanes they fill are never stored by a product.
func (g *gen) packTranspose() {
	g.function("packTranspose"+g.name, packParams, "", "sets dst[l][i] = src[i][l] for i < rows ≤ lanes, l < k, strides in bytes; a row of dst is a whole vector")
	g.packArgs()
	loop, tail, done := g.newLabel("loop"), g.newLabel("tail"), g.newLabel("done")
	g.label(loop)
	g.f("SUBQ $%d, BX", g.lanes)
	g.f("JLT %s", tail)
	g.packRows(func(addr string, dst int) { g.f("VMOVUPS %s, %s", addr, g.v(dst)) })
	g.transpose()
	for i := range g.lanes {
		g.f("VMOVUPS %s, (DI)", g.v(i))
		g.f("ADDQ R8, DI")
	}
	g.f("ADDQ $%d, SI", g.bytes())
	g.f("JMP %s", loop)
	g.label(tail)
	g.f("ADDQ $%d, BX", g.lanes)
	g.f("JZ %s", done)
	g.f("MOVQ BX, CX")
	mask := g.regs - 1 // AVX2 loads all rows before it needs this register
	g.setMask(mask, "DX")
	g.packRows(func(addr string, dst int) { g.maskedLoad(addr, dst, mask) })
	g.transpose()
	for i := range g.lanes {
		g.f("VMOVUPS %s, (DI)", g.v(i))
		g.f("ADDQ R8, DI")
		g.f("DECQ BX")
		g.f("JZ %s", done)
	}
	g.label(done)
	g.ret()
}

// packRows loads a vector of each row into registers 0, 1, …, without a step past the last row.
func (g *gen) packRows(load func(addr string, dst int)) {
	g.f("MOVQ SI, DX")
	for i := range g.lanes {
		load("(DX)", i)
		if i < g.lanes-1 {
			g.f("LEAQ (DX)(R9*1), R11")
			g.f("CMPQ R10, $%d", i+1)
			g.f("CMOVQGT R11, DX")
		}
	}
}

// transpose turns the square in registers 0, 1, …: afterwards register i holds what was column i.
func (g *gen) transpose() {
	n, v := g.lanes, g.v
	for i := 0; i < n; i += 2 { // pairs of rows
		g.f("VUNPCKLPS %s, %s, %s", v(i+1), v(i), v(n+i))
		g.f("VUNPCKHPS %s, %s, %s", v(i+1), v(i), v(n+i+1))
	}
	for i := 0; i < n; i += 4 { // groups of four: register i+c holds column 4·lane128+c
		g.f("VUNPCKLPD %s, %s, %s", v(n+i+2), v(n+i), v(i))
		g.f("VUNPCKHPD %s, %s, %s", v(n+i+2), v(n+i), v(i+1))
		g.f("VUNPCKLPD %s, %s, %s", v(n+i+3), v(n+i+1), v(i+2))
		g.f("VUNPCKHPD %s, %s, %s", v(n+i+3), v(n+i+1), v(i+3))
	}
	if n == 8 {
		for c := range 4 {
			g.f("VPERM2F128 $0x31, %s, %s, %s", v(4+c), v(c), v(8+c))
			g.f("VINSERTF128 $1, X%d, %s, %s", 4+c, v(c), v(c))
			g.f("VMOVAPS %s, %s", v(8+c), v(4+c))
		}
		return
	}
	for c := range 4 {
		g.f("VSHUFF32X4 $0x88, %s, %s, %s", v(4+c), v(c), v(16+4*c))
		g.f("VSHUFF32X4 $0xdd, %s, %s, %s", v(4+c), v(c), v(17+4*c))
		g.f("VSHUFF32X4 $0x88, %s, %s, %s", v(12+c), v(8+c), v(18+4*c))
		g.f("VSHUFF32X4 $0xdd, %s, %s, %s", v(12+c), v(8+c), v(19+4*c))
	}
	for c := range 4 {
		a, b, d, e := v(16+4*c), v(17+4*c), v(18+4*c), v(19+4*c)
		g.f("VSHUFF32X4 $0x88, %s, %s, %s", d, a, v(c))
		g.f("VSHUFF32X4 $0xdd, %s, %s, %s", d, a, v(8+c))
		g.f("VSHUFF32X4 $0x88, %s, %s, %s", e, b, v(4+c))
		g.f("VSHUFF32X4 $0xdd, %s, %s, %s", e, b, v(12+c))
	}
}

// packCopy copies the first rows ≤ lanes elements of each of k rows: the operand already stands as the product wants it.
func (g *gen) packCopy() {
	g.function("packCopy"+g.name, packParams, "", "sets dst[l][i] = src[l][i] for i < rows ≤ lanes, l < k, strides in bytes; a row of dst is a whole vector")
	g.packArgs()
	g.f("MOVQ R10, CX")
	const mask = 1
	g.setMask(mask, "DX")
	loop := g.newLabel("loop")
	g.label(loop)
	g.maskedLoad("(SI)", 0, mask)
	g.f("VMOVUPS %s, (DI)", g.v(0))
	g.f("ADDQ R9, SI")
	g.f("ADDQ R8, DI")
	g.f("DECQ BX")
	g.f("JNZ %s", loop)
	g.ret()
}
