package main

import "fmt"

// The microkernels of arm64: rows × cols elements of C in registers, one chain of multiply-adds an element, in k order. NEON has no masks, so
// partial blocks of columns are done in widths of 8, 4, 2 and 1.

// neonTile is one microkernel; cols is a power of two, at most 64.
type neonTile struct{ rows, cols int }

const (
	neonRows = 6  // with 16 columns, 24 registers of C
	neonCols = 16 // a tile's columns
)

func (k neonTile) name() string { return fmt.Sprintf("tileNEON_%dx%d", k.rows, k.cols) }

// vectors is the number of registers that a row of the tile takes.
func (k neonTile) vectors() int { return max(1, k.cols/4) }

// size is the suffix of FMOV for a vector of the tile.
func (k neonTile) size() string {
	switch k.cols {
	case 1:
		return "S"
	case 2:
		return "D"
	}
	return "Q"
}

func (g *gen) neonGemm() {
	var kernels []neonTile
	for r := 1; r <= neonRows; r++ {
		for c := neonCols; c > 0; c /= 2 {
			kernels = append(kernels, neonTile{r, c})
		}
	}
	kernels = append(kernels, neonTile{1, 64}, neonTile{1, 32}, neonTile{2, 32}, neonTile{3, 32})
	cases := ""
	for _, k := range kernels {
		g.neonTile(k)
		cases += fmt.Sprintf("\tcase %d<<8 | %d:\n\t\t%s(t)\n", k.rows, k.cols, k.name())
	}
	fmt.Fprintf(&g.stubs, "\n// runNEON runs the microkernel for rows rows and cols columns.\nfunc runNEON(t *tile, rows, cols int) {\n\tswitch rows<<8 | cols {\n%s\tdefault:\n\t\tpanic(\"kernel: no such tile\")\n\t}\n}\n", cases)
	g.neonPackedTile()
	g.neonPackTranspose()
	g.neonPeak()
	g.neonStream()
}

// Registers of the microkernels: R0 the tile, R2 B, R3 C, R4…R9 the rows of A, R11 the stride of k in A, R12 and R13 those of k and of panels
// in B, R14 that of rows in C, R15 counts k, R16 says whether to add. V24…V27 hold B and V28…V31 elements of A.
const (
	neonB = 24
	neonA = 28
)

func (g *gen) neonTileArgs(fields ...[2]string) {
	g.f("MOVD t+0(FP), R0")
	for _, f := range append(fields, [2]string{"b", "R2"}, [2]string{"c", "R3"}, [2]string{"a", "R4"}, [2]string{"cRow", "R14"}, [2]string{"k", "R15"}, [2]string{"add", "R16"}) {
		g.f("MOVD tile_%s(R0), %s", f[0], f[1])
	}
}

// neonTile writes a microkernel over operands as they lie.
func (g *gen) neonTile(k neonTile) {
	g.function(k.name(), "t *tile", "", "")
	g.neonTileArgs([2]string{"aRow", "R10"}, [2]string{"aK", "R11"}, [2]string{"bK", "R12"}, [2]string{"bPanel", "R13"})
	for i := 1; i < k.rows; i++ {
		g.f("ADD R10, R%d, R%d", 3+i, 4+i)
	}
	if k.cols > panelWidth {
		g.f("ADD R2, R13")
	}
	for i := range k.rows * k.vectors() {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	g.f("PCALIGN $16")
	g.label(loop)
	for i := range k.rows {
		if k.rows <= 4 {
			g.f("FMOVS (R%d), F%d", 4+i, neonA+i)
			g.f("ADD R11, R%d", 4+i)
		}
	}
	for v0 := 0; v0 < k.vectors(); v0 += 4 {
		n := min(4, k.vectors()-v0)
		g.neonLoadB(k, v0, n)
		for i := range k.rows {
			a := neonA + i%4
			if k.rows > 4 {
				g.f("FMOVS (R%d), F%d", 4+i, a)
				g.f("ADD R11, R%d", 4+i)
			}
			for v := range n {
				g.w("fmla", i*k.vectors()+v0+v, neonB+v, a, 0)
			}
		}
	}
	g.f("ADD R12, R2")
	if k.cols > panelWidth {
		g.f("ADD R12, R13")
	}
	g.f("SUBS $1, R15")
	g.f("BNE %s", loop)
	g.neonTileEnd(k)
}

// neonLoadB loads n vectors of B at the current k, from vector v0 on.
func (g *gen) neonLoadB(k neonTile, v0, n int) {
	base, at := "R2", v0*16
	if v0 >= panelWidth/4 {
		base, at = "R13", at-panelWidth*4
	}
	if n == 1 {
		g.f("FMOV%s %d(%s), F%d", k.size(), at, base, neonB)
		return
	}
	for v := 0; v < n; v += 2 {
		g.f("FLDPQ %d(%s), (F%d, F%d)", at+16*v, base, neonB+v, neonB+v+1)
	}
}

// neonTileEnd stores the tile, or adds it to C.
func (g *gen) neonTileEnd(k neonTile) {
	store := g.newLabel("store")
	rows := func(add bool) {
		for i := range k.rows {
			for v := range k.vectors() {
				acc := i*k.vectors() + v
				if add {
					t := neonB + v%4
					g.f("FMOV%s %d(R3), F%d", k.size(), 16*v, t)
					g.w("fadd", acc, acc, t)
				}
				g.f("FMOV%s F%d, %d(R3)", k.size(), acc, 16*v)
			}
			if i < k.rows-1 {
				g.f("ADD R14, R3")
			}
		}
		g.ret()
	}
	g.f("CBZ R16, %s", store)
	rows(true)
	g.label(store)
	rows(false)
}

// neonPackedTile is the hot loop: 8 floats of A for each k, of which 6 count, and 16 of B.
func (g *gen) neonPackedTile() {
	k := neonTile{neonRows, neonCols}
	g.function(k.name()+"packed", "t *tile", "", "")
	g.neonTileArgs()
	for i := range k.rows * k.vectors() {
		g.zero(i)
	}
	step := func(u int) {
		a := neonA + u%2*2
		g.f("FLDPQ.P 32(R4), (F%d, F%d)", a, a+1)
		for v := 0; v < 4; v += 2 {
			g.f("FLDPQ.P 32(R2), (F%d, F%d)", neonB+v, neonB+v+1)
		}
		for i := range k.rows {
			for v := range 4 {
				g.w("fmla", 4*i+v, neonB+v, a+i/4, i%4)
			}
		}
	}
	const unroll = 4
	loop, rest, tail, done := g.newLabel("loop"), g.newLabel("rest"), g.newLabel("tail"), g.newLabel("done")
	g.f("SUBS $%d, R15", unroll)
	g.f("BLT %s", tail)
	g.f("PCALIGN $16")
	g.label(loop)
	g.f("PRFM 1024(R2), PLDL1KEEP")
	for u := range unroll {
		step(u)
	}
	g.f("SUBS $%d, R15", unroll)
	g.f("BGE %s", loop)
	g.label(tail)
	g.f("ADDS $%d, R15", unroll)
	g.f("BEQ %s", done)
	g.label(rest)
	step(0)
	g.f("SUBS $1, R15")
	g.f("BNE %s", rest)
	g.label(done)
	g.neonTileEnd(k)
}

// neonPackTranspose turns eight rows of k elements into columns, four of them at a time. Rows beyond the last repeat it, so nothing outside is
// read. R6…R13 point at the rows.
func (g *gen) neonPackTranspose() {
	g.function("packTransposeNEON", packParams, "", "sets dst[l][i] = src[i][l] for i < rows ≤ 8, l < k, strides in bytes; a row of dst is 8 floats")
	for i, name := range []string{"dst", "dstStride", "src", "srcStride", "rows", "k"} {
		g.f("MOVD %s, R%d", g.args[name], i)
	}
	g.f("MOVD R2, R6")
	for i := 1; i < 8; i++ {
		g.f("ADD R3, R%d, R14", 5+i)
		g.f("CMP $%d, R4", i)
		g.f("CSEL GT, R14, R%d, R%d", 5+i, 6+i)
	}
	loop, tail, one, done := g.newLabel("loop"), g.newLabel("tail"), g.newLabel("one"), g.newLabel("done")
	g.f("SUBS $4, R5")
	g.f("BLT %s", tail)
	g.label(loop)
	for i := range 8 {
		g.f("FMOVQ.P 16(R%d), F%d", 6+i, i)
	}
	for h := 0; h < 8; h += 4 { // pairs of rows, then fours
		for i := 0; i < 4; i += 2 {
			g.f("VTRN1 V%d.S4, V%d.S4, V%d.S4", h+i+1, h+i, 16+h+i)
			g.f("VTRN2 V%d.S4, V%d.S4, V%d.S4", h+i+1, h+i, 17+h+i)
		}
		for c := range 2 {
			g.f("VTRN1 V%d.D2, V%d.D2, V%d.D2", 18+h+c, 16+h+c, h+c)
			g.f("VTRN2 V%d.D2, V%d.D2, V%d.D2", 18+h+c, 16+h+c, h+c+2)
		}
	}
	for c := range 4 {
		g.f("FSTPQ (F%d, F%d), (R0)", c, c+4)
		g.f("ADD R1, R0")
	}
	g.f("SUBS $4, R5")
	g.f("BGE %s", loop)
	g.label(tail)
	g.f("ADDS $4, R5")
	g.f("BEQ %s", done)
	g.label(one)
	for i := range 8 {
		g.f("FMOVS.P 4(R%d), F%d", 6+i, i)
		g.f("FMOVS F%d, %d(R0)", i, 4*i)
	}
	g.f("ADD R1, R0")
	g.f("SUBS $1, R5")
	g.f("BNE %s", one)
	g.label(done)
	g.ret()
}

// neonPeak is a loop of multiply-adds on registers alone.
func (g *gen) neonPeak() {
	const chains = 24
	g.function("peakNEON", "n int", "", "runs n turns of 24 multiply-adds of a vector")
	g.f("MOVD %s, R8", g.args["n"])
	for i := range chains + 2 {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range chains {
		g.f("VFMLA V%d.S4, V%d.S4, V%d.S4", chains, chains+1, i)
	}
	g.f("SUBS $1, R8")
	g.f("BNE %s", loop)
	g.ret()
}

// neonStream reads memory.
func (g *gen) neonStream() {
	g.function("streamNEON", "p *byte, n int", "", "reads n bytes from p, a multiple of 512")
	g.f("MOVD %s, R0", g.args["p"])
	g.f("MOVD %s, R8", g.args["n"])
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range 16 {
		g.f("FLDPQ.P 32(R0), (F%d, F%d)", i%4*2, i%4*2+1)
	}
	g.f("SUBS $512, R8")
	g.f("BGT %s", loop)
	g.ret()
}
