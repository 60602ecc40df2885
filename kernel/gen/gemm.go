package main

import "fmt"

// tileKernel is one microkernel: rows × vecs vectors of C in registers, one multiply-add chain per element, in k order.
type tileKernel struct {
	rows, vecs int
	masked     bool // the last vector is partial
	packed     bool // A is packed (level.slot floats per k), B in panels of panelBytes per k: strides are constants
	pairs      bool // a step of k is a pair of bf16 in place of a float32, and sums begin with C, not at zero: one chain over all blocks of k
	half       bool // B is f16, its rows contiguous over the tile's columns
}

// slot is the number of floats per k in a packed row panel of A.
func (l level) slot() int { return l.lanes }

// maxRows × 2 vectors is the tile that fills the registers: two stay for B and at least two for broadcasts.
func (l level) maxRows() int { return (l.regs - 4) / 2 }

func (k tileKernel) name(l level) string {
	kind := l.name
	switch {
	case k.pairs:
		kind = "BF16" + kind
	case k.half:
		kind = "Half" + kind
	}
	n := fmt.Sprintf("tile%s_%dx%d", kind, k.rows, k.vecs)
	if k.masked {
		n += "masked"
	}
	if k.packed {
		n += "packed"
	}
	return n
}

// tileKernels lists the level's microkernels. Few rows take more columns, because a chain of multiply-adds is bound by latency: about
// eight must run side by side.
func (l level) tileKernels() []tileKernel {
	ks := []tileKernel{{rows: l.maxRows(), vecs: 2, packed: true}}
	for r := 1; r <= l.maxRows(); r++ {
		ks = append(ks, tileKernel{rows: r, vecs: 2}, tileKernel{rows: r, vecs: 2, masked: true}, tileKernel{rows: r, vecs: 1, masked: true})
	}
	return append(ks, tileKernel{rows: 1, vecs: 8}, tileKernel{rows: 1, vecs: 4}, tileKernel{rows: 2, vecs: 4}, tileKernel{rows: 3, vecs: 4})
}

func (g *gen) gemm() {
	g.tiles(g.name, g.tileKernels())
	g.packTranspose()
	g.packCopy()
	g.peak()
	if g.lanes == 16 {
		var ks []tileKernel
		for _, k := range g.tileKernels() {
			if k.pairs = true; k.vecs <= 2 {
				ks = append(ks, k)
			}
		}
		g.tiles("BF16"+g.name, ks)
		g.packPairs()
		g.peakPairs()
		g.tileProduct()
		g.packTileRows()
		g.transposeTiles()
		g.peakTiles()
	}
	g.roundPairs()
}

// tiles writes microkernels and the function that chooses among them.
func (g *gen) tiles(suffix string, ks []tileKernel) {
	for _, k := range ks {
		g.tile(k)
	}
	fmt.Fprintf(&g.stubs, "\n// run%s runs the microkernel for rows rows and vecs vectors of columns, the last of them partial if masked.\n", suffix)
	fmt.Fprintf(&g.stubs, "func run%s(t *tile, rows, vecs int, masked bool) {\n\tkind := rows<<4 | vecs\n\tif masked {\n\t\tkind |= 1 << 8\n\t}\n\tswitch kind {\n", suffix)
	for _, k := range ks {
		if k.packed {
			continue
		}
		kind := k.rows<<4 | k.vecs
		if k.masked {
			kind |= 1 << 8
		}
		fmt.Fprintf(&g.stubs, "\tcase %#x:\n\t\t%s(t)\n", kind, k.name(g.level))
	}
	fmt.Fprintf(&g.stubs, "\tdefault:\n\t\tpanic(\"kernel: no such tile\")\n\t}\n}\n")
}

// tileRegs is the assignment of vector registers in a microkernel.
type tileRegs struct{ b, bcast, bcasts, mask int }

func (g *gen) acc(k tileKernel, row, vec int) int { return row*k.vecs + vec }

// tile writes one microkernel. Register use: AX, R10, R11 point at rows 0, 5 and 10 of A, R8 and R9 are one and three row strides, R12
// the stride of k in A, BX the row of B, R13 its stride, R15 and, with few rows, R9 one and three panels of B; DI and SI the row of C
// and its stride.
func (g *gen) tile(k tileKernel) {
	g.function(k.name(g.level), "t *tile", "", "")
	g.load("t", "DI")
	g.f("MOVQ tile_a(DI), AX")
	g.f("MOVQ tile_b(DI), BX")
	if !k.packed {
		g.tileStrides(k)
	}
	r := tileRegs{b: k.rows * k.vecs}
	r.bcast = r.b + min(k.vecs, 2)
	r.bcasts = min(2, g.regs-r.bcast)
	if k.masked {
		r.mask = g.regs - 1
		if g.lanes == 8 {
			r.bcasts = min(2, g.regs-1-r.bcast)
		}
		g.f("MOVQ tile_cols(DI), CX")
		g.setMask(r.mask, "DX")
	}
	g.f("MOVQ tile_add(DI), DX")
	g.f("MOVQ tile_k(DI), CX")
	g.f("MOVQ tile_cRow(DI), SI")
	g.f("MOVQ tile_c(DI), DI")
	if k.packed {
		g.f("MOVQ DI, R8")
		for i := range k.rows {
			g.f("PREFETCHT0 (R8)")
			if g.lanes == 16 {
				g.f("PREFETCHT0 64(R8)")
			}
			if i < k.rows-1 {
				g.f("ADDQ SI, R8")
			}
		}
	}
	g.tileBegin(k, r)
	if k.packed {
		g.packedLoop(k, r)
	} else {
		g.stridedLoop(k, r)
	}
	g.tileEnd(k, r)
}

// tileBegin sets the accumulators to zero, or for pairs to C where the tile adds to it: by masks, since the assembler does not come to an end
// with a jump of that length before the aligned loop.
func (g *gen) tileBegin(k tileKernel, r tileRegs) {
	if !k.pairs {
		for i := range k.rows * k.vecs {
			g.zero(i)
		}
		return
	}
	g.f("NEGQ DX")
	g.f("KMOVW DX, K2")
	if k.masked {
		g.f("KANDW K1, K2, K3")
	}
	g.f("MOVQ DI, DX")
	for i := range k.rows {
		for v := range k.vecs {
			mask := "K2"
			if k.masked && v == k.vecs-1 {
				mask = "K3"
			}
			g.f("VMOVUPS.Z %d(DX), %s, %s", v*g.bytes(), mask, g.v(g.acc(k, i, v)))
		}
		if i < k.rows-1 {
			g.f("ADDQ SI, DX")
		}
	}
}

// multiplyAdd adds to acc the products of the vectors a and b, or of their pairs of bf16.
func (g *gen) multiplyAdd(k tileKernel, a, b, acc int) {
	if k.pairs {
		g.dotBF16(a, b, acc)
		return
	}
	g.f("VFMADD231PS %s, %s, %s", g.v(a), g.v(b), g.v(acc))
}

// tileStrides loads the strides that a microkernel over unpacked operands needs.
func (g *gen) tileStrides(k tileKernel) {
	g.f("MOVQ tile_aRow(DI), R8")
	if k.rows > 3 {
		g.f("LEAQ (R8)(R8*2), R9")
	}
	if k.rows > 5 {
		g.f("LEAQ (AX)(R8*4), R10")
		g.f("ADDQ R8, R10")
	}
	if k.rows > 10 {
		g.f("LEAQ (R10)(R8*4), R11")
		g.f("ADDQ R8, R11")
	}
	g.f("MOVQ tile_aK(DI), R12")
	g.f("MOVQ tile_bK(DI), R13")
	if k.vecs > 2 && !k.half {
		g.f("MOVQ tile_bPanel(DI), R15")
	}
}

// aAddress is the address of row i of A at the current k.
func aAddress(i int) string {
	base := []string{"AX", "R10", "R11"}[i/5]
	return "(" + base + ")" + []string{"", "(R8*1)", "(R8*2)", "(R9*1)", "(R8*4)"}[i%5]
}

// bAddress is the address of vector v of B at the current k: panels are panelWidth columns wide.
func (g *gen) bAddress(v int) string {
	perPanel := panelWidth / g.lanes
	offset := v % perPanel * g.bytes()
	return fmt.Sprintf("%d(%s)", offset, "BX") + []string{"", "(R15*1)", "(R15*2)", "(R9*1)"}[v/perPanel]
}

const panelWidth = 32

func (g *gen) stridedLoop(k tileKernel, r tileRegs) {
	if k.vecs > 2 && !k.half { // no kernel needs both row 3 of A and panel 3 of B
		g.f("LEAQ (R15)(R15*2), R9")
	}
	loop := g.newLabel("loop")
	g.f("PCALIGN $32")
	g.label(loop)
	if k.half {
		for o := 0; o < k.vecs*g.bytes()/2; o += 64 {
			g.f("PREFETCHT1 %d(BX)", halfFar+o)
			g.f("PREFETCHT0 %d(BX)", halfNear+o)
		}
	}
	if k.rows == 1 && !k.pairs && !k.half {
		g.f("VBROADCASTSS (AX), %s", g.v(r.bcast))
		for v := range k.vecs {
			if k.masked && v == k.vecs-1 {
				g.maskedLoad(g.bAddress(v), r.b, r.mask)
				g.f("VFMADD231PS %s, %s, %s", g.v(r.b), g.v(r.bcast), g.v(v))
				continue
			}
			g.f("VFMADD231PS %s, %s, %s", g.bAddress(v), g.v(r.bcast), g.v(v))
		}
	} else {
		g.tileStep(k, r)
	}
	for i := 0; i < k.rows; i += 5 {
		g.f("ADDQ R12, %s", []string{"AX", "R10", "R11"}[i/5])
	}
	g.f("ADDQ R13, BX")
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
}

// tileStep is one k of a strided microkernel with several rows; with more than two vectors it takes them two at a time.
func (g *gen) tileStep(k tileKernel, r tileRegs) {
	for v0 := 0; v0 < k.vecs; v0 += 2 {
		vecs := min(2, k.vecs-v0)
		for v := range vecs {
			switch {
			case k.half:
				g.f("VCVTPH2PS %d(BX), %s", (v0+v)*g.bytes()/2, g.v(r.b+v))
			case k.masked && v0+v == k.vecs-1:
				g.maskedLoad(g.bAddress(v0+v), r.b+v, r.mask)
			default:
				g.f("VMOVUPS %s, %s", g.bAddress(v0+v), g.v(r.b+v))
			}
		}
		for i := range k.rows {
			t := r.bcast + i%r.bcasts
			g.f("VBROADCASTSS %s, %s", aAddress(i), g.v(t))
			for v := range vecs {
				g.multiplyAdd(k, t, r.b+v, g.acc(k, i, v0+v))
			}
		}
	}
}

// packedLoop is the hot loop: everything at constant distances, some k a turn, B fetched into L1 ahead of its use. Longer AVX-512 loops
// no longer fit the queue that replays short loops, and lose 5 %.
func (g *gen) packedLoop(k tileKernel, r tileRegs) {
	unroll := g.unroll(3, 4)
	aStep, bStep := 4*g.slot(), 2*g.bytes()
	step := func(u int) {
		for v := range 2 {
			g.f("VMOVUPS %d(BX), %s", u*bStep+v*g.bytes(), g.v(r.b+v))
		}
		for i := range k.rows {
			t := r.bcast + i%r.bcasts
			g.f("VBROADCASTSS %d(AX), %s", u*aStep+4*i, g.v(t))
			for v := range 2 {
				g.multiplyAdd(k, t, r.b+v, g.acc(k, i, v))
			}
		}
	}
	loop, tail, done := g.newLabel("loop"), g.newLabel("tail"), g.newLabel("done")
	g.f("SUBQ $%d, CX", unroll)
	g.f("JLT %s", tail)
	g.f("PCALIGN $32")
	g.label(loop)
	for o := 0; o < unroll*bStep; o += 64 {
		g.f("PREFETCHT0 %d(BX)", 1024+o)
	}
	for u := range unroll {
		step(u)
	}
	g.f("ADDQ $%d, AX", unroll*aStep)
	g.f("ADDQ $%d, BX", unroll*bStep)
	g.f("SUBQ $%d, CX", unroll)
	g.f("JGE %s", loop)
	g.label(tail)
	g.f("ADDQ $%d, CX", unroll)
	g.f("JZ %s", done)
	rest := g.newLabel("rest")
	g.label(rest)
	step(0)
	g.f("ADDQ $%d, AX", aStep)
	g.f("ADDQ $%d, BX", bStep)
	g.f("DECQ CX")
	g.f("JNZ %s", rest)
	g.label(done)
}

// tileEnd stores the tile, or adds it to C.
func (g *gen) tileEnd(k tileKernel, r tileRegs) {
	store := g.newLabel("store")
	rows := func(vec func(i, v int, addr string, masked bool)) {
		for i := range k.rows {
			for v := range k.vecs {
				vec(g.acc(k, i, v), v, fmt.Sprintf("%d(DI)", v*g.bytes()), k.masked && v == k.vecs-1)
			}
			if i < k.rows-1 {
				g.f("ADDQ SI, DI")
			}
		}
		g.ret()
	}
	put := func(acc int, addr string, masked bool) {
		if masked {
			g.maskedStore(acc, addr, r.mask)
		} else {
			g.f("VMOVUPS %s, %s", g.v(acc), addr)
		}
	}
	if k.pairs {
		rows(func(acc, v int, addr string, masked bool) { put(acc, addr, masked) })
		return
	}
	g.f("TESTQ DX, DX")
	g.f("JZ %s", store)
	rows(func(acc, v int, addr string, masked bool) {
		if masked {
			g.maskedLoad(addr, r.b, r.mask)
			g.f("VADDPS %s, %s, %s", g.v(r.b), g.v(acc), g.v(acc))
		} else {
			g.f("VADDPS %s, %s, %s", addr, g.v(acc), g.v(acc))
		}
		put(acc, addr, masked)
	})
	g.label(store)
	rows(func(acc, v int, addr string, masked bool) { put(acc, addr, masked) })
}

// peak is a loop of multiply-adds on registers alone, in as many chains as hide their latency: the limit of every product.
func (g *gen) peak() {
	const chains = 12
	g.function("peak"+g.name, "n int", "", "runs n turns of 24 multiply-adds of a vector")
	g.load("n", "CX")
	for i := range chains + 2 {
		g.zero(i)
	}
	loop := g.newLabel("loop")
	g.label(loop)
	for i := range 2 * chains {
		g.f("VFMADD231PS %s, %s, %s", g.v(chains), g.v(chains+1), g.v(i%chains))
	}
	g.f("DECQ CX")
	g.f("JNZ %s", loop)
	g.ret()
}
