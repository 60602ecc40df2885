package main

import "fmt"

// Convolutions and the state space step on arm64. Channels are taken in blocks of 8, 4, 2 and 1, which needs no masks.

func (g *gen) neonScans() {
	for _, w := range convWidths {
		g.neonConv(w)
		g.neonConvGrad(w)
	}
	g.neonSSD()
}

// neonChannels loads or stores channels elements at base, in vector registers from r on.
func (g *gen) neonChannels(store bool, channels, r int, base string) {
	size := neonTile{1, channels}.size()
	for v := range max(1, channels/4) {
		if store {
			g.f("FMOV%s F%d, %d(%s)", size, r+v, 16*v, base)
		} else {
			g.f("FMOV%s %d(%s), F%d", size, 16*v, base, r+v)
		}
	}
}

// neonBlocks writes block for widths of channels that are powers of two from most on down; channels, in register count, run out. pointers
// move along.
func (g *gen) neonBlocks(count string, most int, block func(channels int), pointers ...string) {
	for c := most; c > 0; c /= 2 {
		loop, next := g.newLabel("columns"), g.newLabel("narrower")
		g.label(loop)
		g.f("CMP $%d, %s", c, count)
		g.f("BLT %s", next)
		block(c)
		for _, p := range pointers {
			g.f("ADD $%d, %s", 4*c, p)
		}
		g.f("SUB $%d, %s", c, count)
		g.f("B %s", loop)
		g.label(next)
	}
}

func (g *gen) neonArgs(pairs ...[2]string) {
	for _, p := range pairs {
		g.f("MOVD %s, %s", g.args[p[0]], p[1])
	}
}

// neonConv keeps the filter of a block of channels in registers and goes down the rows: R10… are the taps' rows of x.
func (g *gen) neonConv(width int) {
	g.function(fmt.Sprintf("conv1D%dNEON", width), "y *float32, ldy int, x *float32, ldx int, w, bias *float32, rows, dim int", "", "works on rows > 0; strides are in bytes")
	g.neonArgs([2]string{"y", "R0"}, [2]string{"ldy", "R1"}, [2]string{"x", "R2"}, [2]string{"ldx", "R3"}, [2]string{"w", "R4"}, [2]string{"bias", "R5"}, [2]string{"dim", "R7"})
	g.f("LSL $2, R7, R8")
	g.neonBlocks("R7", 16, func(channels int) {
		vecs := max(1, channels/4)
		bias, acc := width*vecs, (width+1)*vecs
		x := acc + vecs
		g.f("MOVD R4, R9")
		for k := range width {
			g.neonChannels(false, channels, k*vecs, "R9")
			g.f("ADD R8, R9")
		}
		g.neonChannels(false, channels, bias, "R5")
		g.f("MOVD R2, R10")
		for k := 1; k < width; k++ {
			g.f("ADD R3, R%d, R%d", 9+k, 10+k)
		}
		g.f("MOVD R0, R14")
		g.f("MOVD %s, R6", g.args["rows"])
		loop := g.newLabel("rows")
		g.label(loop)
		for v := range vecs {
			g.f("VMOV V%d.B16, V%d.B16", bias+v, acc+v)
		}
		for k := range width {
			tap := fmt.Sprintf("R%d", 10+k)
			g.neonChannels(false, channels, x, tap)
			for v := range vecs {
				g.f("VFMLA V%d.S4, V%d.S4, V%d.S4", x+v, k*vecs+v, acc+v)
			}
			g.f("ADD R3, %s", tap)
		}
		g.neonChannels(true, channels, acc, "R14")
		g.f("ADD R1, R14")
		g.f("SUBS $1, R6")
		g.f("BNE %s", loop)
	}, "R0", "R2", "R4", "R5")
	g.ret()
}

// neonConvGrad goes down the rows with one vector of channels, as conv1DGrad does: R0 dx, R1 its stride, R2 dw, R3 db, R4 dy, R5 its
// stride, R6 x, R7 its stride, R8 w, R9 channels, R10 the filter's stride.
func (g *gen) neonConvGrad(width int) {
	g.function(fmt.Sprintf("conv1DGrad%dNEON", width), "dx *float32, lddx int, dw, db, dy *float32, lddy int, x *float32, ldx int, w *float32, rows, dim int", "", "works on rows > 0; strides are in bytes")
	for i, name := range []string{"dx", "lddx", "dw", "db", "dy", "lddy", "x", "ldx", "w", "dim"} {
		g.f("MOVD %s, R%d", g.args[name], i)
	}
	g.f("LSL $2, R9, R10")
	g.neonBlocks("R9", 4, func(channels int) {
		dw, w, d, db, dy, tmp := convGradRegs(width)
		addTo := func(r int, base string) { // memory += register r
			g.neonChannels(false, channels, tmp, base)
			g.w("fadd", tmp, tmp, r)
			g.neonChannels(true, channels, tmp, base)
		}
		g.f("MOVD R8, R11")
		for k := range width {
			g.neonChannels(false, channels, w+k, "R11")
			g.f("ADD R10, R11")
			g.zero(dw + k)
			g.zero(d + k)
		}
		g.zero(db)
		g.f("MOVD R0, R11") // the row of dx
		g.f("MOVD R4, R12") // of dy
		g.f("MOVD R6, R13") // of x
		g.f("MOVD %s, R14", g.args["rows"])
		loop := g.newLabel("rows")
		g.label(loop)
		g.neonChannels(false, channels, dy, "R12")
		g.w("fadd", db, db, dy)
		g.f("MOVD R13, R15")
		for k := range width {
			g.f("VFMLA V%d.S4, V%d.S4, V%d.S4", dy, w+k, d+k)
			g.neonChannels(false, channels, tmp, "R15")
			g.f("VFMLA V%d.S4, V%d.S4, V%d.S4", tmp, dy, dw+k)
			g.f("ADD R7, R15")
		}
		addTo(d, "R11")
		for k := range width - 1 {
			g.f("VMOV V%d.B16, V%d.B16", d+k+1, d+k)
		}
		g.zero(d + width - 1)
		g.f("ADD R1, R11")
		g.f("ADD R5, R12")
		g.f("ADD R7, R13")
		g.f("SUBS $1, R14")
		g.f("BNE %s", loop)
		for k := range width - 1 {
			addTo(d+k, "R11")
			g.f("ADD R1, R11")
		}
		g.f("MOVD R2, R11")
		for k := range width {
			addTo(dw+k, "R11")
			g.f("ADD R10, R11")
		}
		addTo(db, "R3")
	}, "R0", "R2", "R3", "R4", "R6", "R8")
	g.ret()
}

// neonSSD advances eight lanes of a head's state, as ssdStep does: a tile of rows stays in registers through all tokens. R0 points at the
// arguments, R1 and R2 are the tile and its row stride, R3 the rows left, R4 the offset of the tile's first row in b and c, R6…R11 the
// token's decay, dt, x, b, c, y, R12 counts tokens, R13…R15 are write, tokens and quiet, R19…R23 the strides.
func (g *gen) neonSSD() {
	g.function("ssdStepNEON", "a *ssdArgs", "", "")
	g.f("MOVD %s, R0", g.args["a"])
	field := func(name, reg string) { g.f("MOVD ssdArgs_%s(R0), %s", name, reg) }
	for _, f := range [][2]string{{"s", "R1"}, {"lds", "R2"}, {"n", "R3"}, {"write", "R13"}, {"tokens", "R14"}, {"quiet", "R15"},
		{"ldh", "R19"}, {"ldx", "R20"}, {"ldb", "R21"}, {"ldc", "R22"}, {"ldy", "R23"}} {
		field(f[0], f[1])
	}
	g.f("MOVD $0, R4")
	for rows := 8; rows > 0; rows /= 2 {
		tiles, next := g.newLabel("tiles"), g.newLabel("fewer")
		g.label(tiles)
		g.f("CMP $%d, R3", rows)
		g.f("BLT %s", next)
		g.neonSSDTile(rows, field)
		g.f("ADD $%d, R4", 4*rows)
		g.f("SUB $%d, R3", rows)
		g.f("B %s", tiles)
		g.label(next)
	}
	g.ret()
}

func (g *gen) neonSSDTile(rows int, field func(name, reg string)) {
	tile := func(store bool) {
		g.f("MOVD R1, R5")
		for j := range rows {
			g.neonChannels(store, 8, 2*j, "R5")
			g.f("ADD R2, R5")
		}
	}
	tile(false)
	for _, f := range [][2]string{{"decay", "R6"}, {"dt", "R7"}, {"x", "R8"}, {"b", "R9"}, {"c", "R10"}, {"y", "R11"}} {
		field(f[0], f[1])
	}
	g.f("ADD R4, R9")
	g.f("ADD R4, R10")
	g.f("MOVD $0, R12")
	token, check, silent, done := g.newLabel("token"), g.newLabel("check"), g.newLabel("silent"), g.newLabel("done")
	g.label(token)
	g.f("CMP R13, R12")
	g.f("BNE %s", check)
	g.f("CBZ R12, %s", check)
	tile(true)
	g.label(check)
	g.f("CMP R14, R12")
	g.f("BGE %s", done)
	g.neonSSDToken(rows, silent)
	g.label(silent)
	for _, a := range [][2]string{{"R19", "R6"}, {"R19", "R7"}, {"R20", "R8"}, {"R21", "R9"}, {"R22", "R10"}, {"R23", "R11"}} {
		g.f("ADD %s, %s", a[0], a[1])
	}
	g.f("ADD $1, R12")
	g.f("B %s", token)
	g.label(done)
	for range rows {
		g.f("ADD R2, R1")
	}
}

// neonSSDToken is s = decay·s + (dt·x)·b, then y += s·c unless the token is quiet.
func (g *gen) neonSSDToken(rows int, silent string) {
	const x, y, row, scalar = 16, 18, 22, 24 // x, two chains of y, elements of b or c, decay and dt
	chains := min(rows, 2)
	g.f("FMOVS (R6), F%d", scalar)
	g.f("FMOVS (R7), F%d", scalar+1)
	g.neonChannels(false, 8, x, "R8")
	for v := range 2 {
		g.w("fmul element", x+v, x+v, scalar+1, 0)
	}
	g.neonChannels(false, rows, row, "R9")
	for j := range rows {
		for v := range 2 {
			g.w("fmul element", 2*j+v, 2*j+v, scalar, 0)
			g.w("fmla", 2*j+v, x+v, row+j/4, j%4)
		}
	}
	g.f("CMP R15, R12")
	g.f("BLT %s", silent)
	for i := range 2 * chains {
		g.zero(y + i)
	}
	g.neonChannels(false, rows, row, "R10")
	for j := range rows {
		for v := range 2 {
			g.w("fmla", y+j%chains*2+v, 2*j+v, row+j/4, j%4)
		}
	}
	for v := 0; v < 2 && chains == 2; v++ {
		g.w("fadd", y+v, y+v, y+2+v)
	}
	store := g.newLabel("store")
	g.f("CBZ R4, %s", store)
	g.neonChannels(false, 8, row, "R11")
	for v := range 2 {
		g.w("fadd", y+v, y+v, row+v)
	}
	g.label(store)
	g.neonChannels(true, 8, y, "R11")
}
