package main

import "fmt"

// convWidths are the filter widths that have kernels; models use 4.
var convWidths = []int{2, 3, 4}

// tap is the address of row t+k, where reg points at row t and R8 and R9 are one and three row strides.
func tap(reg string, offset, k int) string {
	return fmt.Sprintf("%d(%s)", offset, reg) + []string{"", "(R8*1)", "(R8*2)", "(R9*1)"}[k]
}

// columns writes a loop over the channels: in blocks of vecs vectors, then single ones, then the tail. CX counts the channels; next
// moves the pointers.
func (g *gen) columns(vecs int, block func(vecs int, masked bool), pointers ...string) {
	tail, done := g.newLabel("tail"), g.newLabel("done")
	for v := vecs; v > 0; v /= 2 {
		loop, next := g.newLabel("columns"), g.newLabel("narrower")
		g.label(loop)
		g.f("CMPQ CX, $%d", v*g.lanes)
		g.f("JLT %s", next)
		block(v, false)
		for _, p := range pointers {
			g.f("ADDQ $%d, %s", v*g.bytes(), p)
		}
		g.f("SUBQ $%d, CX", v*g.lanes)
		g.f("JMP %s", loop)
		g.label(next)
	}
	g.label(tail)
	g.f("TESTQ CX, CX")
	g.f("JZ %s", done)
	g.setMask(g.maskReg(), "R15")
	block(1, true)
	g.label(done)
}

// loadVec and storeVec move vector register r, masked in the tail.
func (g *gen) loadVec(addr string, r int, masked bool) {
	if masked {
		g.maskedLoad(addr, r, g.maskReg())
	} else {
		g.f("VMOVUPS %s, %s", addr, g.v(r))
	}
}

func (g *gen) storeVec(r int, addr string, masked bool) {
	if masked {
		g.maskedStore(r, addr, g.maskReg())
	} else {
		g.f("VMOVUPS %s, %s", g.v(r), addr)
	}
}

// conv1D keeps the filter of a block of channels in registers and goes down the rows.
func (g *gen) conv1D(width int) {
	g.function(fmt.Sprintf("conv1D%d%s", width, g.name), "y *float32, ldy int, x *float32, ldx int, w, bias *float32, rows, dim int", "", "works on rows > 0; strides are in bytes")
	for _, a := range [][2]string{{"y", "DI"}, {"ldy", "R10"}, {"x", "SI"}, {"ldx", "R8"}, {"w", "R11"}, {"bias", "R12"}, {"dim", "R13"}} {
		g.load(a[0], a[1])
	}
	g.f("LEAQ (R8)(R8*2), R9")
	g.f("MOVQ R13, CX")
	g.f("SHLQ $2, R13")
	block := func(vecs int, masked bool) {
		w := func(k, v int) int { return k*vecs + v }
		bias, acc := width*vecs, (width+1)*vecs
		g.f("MOVQ R11, DX")
		for k := range width {
			for v := range vecs {
				g.loadVec(fmt.Sprintf("%d(DX)", v*g.bytes()), w(k, v), masked)
			}
			g.f("ADDQ R13, DX")
		}
		for v := range vecs {
			g.loadVec(fmt.Sprintf("%d(R12)", v*g.bytes()), bias+v, masked)
		}
		g.f("MOVQ SI, AX")
		g.f("MOVQ DI, BX")
		g.load("rows", "DX")
		loop := g.newLabel("rows")
		g.label(loop)
		for v := range vecs {
			g.f("VMOVAPS %s, %s", g.v(bias+v), g.v(acc+v))
		}
		for k := range width {
			for v := range vecs {
				x := tap("AX", v*g.bytes(), k)
				if masked {
					g.loadVec(x, acc+1, true)
					x = g.v(acc + 1)
				}
				g.f("VFMADD231PS %s, %s, %s", x, g.v(w(k, v)), g.v(acc+v))
			}
		}
		for v := range vecs {
			g.storeVec(acc+v, fmt.Sprintf("%d(BX)", v*g.bytes()), masked)
		}
		g.f("ADDQ R8, AX")
		g.f("ADDQ R10, BX")
		g.f("DECQ DX")
		g.f("JNZ %s", loop)
	}
	g.columns(2, block, "DI", "SI", "R11", "R12")
	g.ret()
}

// conv1DGrad goes down the rows with one vector of channels: the filter, its gradient, and the gradients of the width rows of x under the
// filter stay in registers; a row of dx is touched once, when the filter leaves it.
func (g *gen) conv1DGrad(width int) {
	g.function(fmt.Sprintf("conv1DGrad%d%s", width, g.name), "dx *float32, lddx int, dw, db, dy *float32, lddy int, x *float32, ldx int, w *float32, rows, dim int", "", "works on rows > 0; strides are in bytes")
	for _, a := range [][2]string{{"dx", "DI"}, {"lddx", "R10"}, {"dw", "R11"}, {"db", "R12"}, {"dy", "SI"}, {"x", "AX"}, {"ldx", "R8"}, {"dim", "R13"}} {
		g.load(a[0], a[1])
	}
	g.f("LEAQ (R8)(R8*2), R9")
	g.f("MOVQ R13, CX")
	g.f("SHLQ $2, R13")
	g.load("w", "BX")
	block := func(_ int, masked bool) {
		dw, w, d, db, _, tmp := convGradRegs(width)
		addTo := func(r int, addr string) { // memory += register r
			g.loadVec(addr, tmp, masked)
			g.f("VADDPS %s, %s, %[2]s", g.v(r), g.v(tmp))
			g.storeVec(tmp, addr, masked)
		}
		g.f("MOVQ BX, DX")
		for k := range width {
			g.loadVec("(DX)", w+k, masked)
			g.f("ADDQ R13, DX")
			g.zero(dw + k)
			g.zero(d + k)
		}
		g.zero(db)
		for _, p := range []string{"DI", "SI", "AX", "BX", "CX"} {
			g.f("PUSHQ %s", p)
		}
		g.f("MOVQ %s, DX", g.args["rows"])
		g.f("MOVQ %s, R15", g.args["lddy"])
		g.conv1DGradRows(width, masked, addTo)
		for k := range width - 1 {
			addTo(d+k, "(DI)")
			g.f("ADDQ R10, DI")
		}
		for _, p := range []string{"CX", "BX", "AX", "SI", "DI"} {
			g.f("POPQ %s", p)
		}
		g.f("MOVQ R11, DX")
		for k := range width {
			addTo(dw+k, "(DX)")
			g.f("ADDQ R13, DX")
		}
		addTo(db, "(R12)")
	}
	g.columns(1, block, "DI", "SI", "AX", "BX", "R11", "R12")
	g.ret()
}

// convGradRegs are the first registers of the filter's gradient, the filter, the rows of dx under it, and those of db, dy and a scratch.
func convGradRegs(width int) (dw, w, d, db, dy, tmp int) {
	return 0, width, 2 * width, 3 * width, 3*width + 1, 3*width + 2
}

// conv1DGradRows is the loop over rows: DX counts them, and SI, AX and DI stand at the row of dy, x and dx.
func (g *gen) conv1DGradRows(width int, masked bool, addTo func(r int, addr string)) {
	dw, w, d, db, dy, tmp := convGradRegs(width)
	loop := g.newLabel("rows")
	g.label(loop)
	g.loadVec("(SI)", dy, masked)
	g.f("VADDPS %s, %s, %[2]s", g.v(dy), g.v(db))
	for k := range width {
		g.f("VFMADD231PS %s, %s, %s", g.v(dy), g.v(w+k), g.v(d+k))
	}
	for k := range width {
		g.loadVec(tap("AX", 0, k), tmp, masked)
		g.f("VFMADD231PS %s, %s, %s", g.v(tmp), g.v(dy), g.v(dw+k))
	}
	addTo(d, "(DI)")
	for k := range width - 1 {
		g.f("VMOVAPS %s, %s", g.v(d+k+1), g.v(d+k))
	}
	g.zero(d + width - 1)
	g.f("ADDQ R15, SI")
	g.f("ADDQ R8, AX")
	g.f("ADDQ R10, DI")
	g.f("DECQ DX")
	g.f("JNZ %s", loop)
}
