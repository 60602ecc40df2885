//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

// kBlock is the length of the blocks in which a product adds up k terms; the last block may be shorter. Each block's sum starts at zero
// and runs in k order in one chain, and is then added to C. Nothing but k may decide it: it decides the bits.
func kBlock(k int) int {
	blocks := (k + kBlockMax - 1) / kBlockMax
	if blocks <= 1 {
		return k
	}
	return roundUp((k+blocks-1)/blocks, 8)
}

// tile is the argument of the microkernels: a tile of C and the first elements of the rows of A and columns of B that make it.
type tile struct {
	a, b, c    unsafe.Pointer
	k          int
	aRow, aK   int // bytes from a row of A to the next, and from one k to the next
	bK, bPanel int // bytes from one k of B to the next, and from one panel of B to the next
	cRow       int // bytes from a row of C to the next
	cols       int // columns in the last vector, where it is partial
	add        int // 1: add to C; 0: overwrite it
}

// colBlock is the number of columns of B that are packed at a time.
const colBlock = 1536

func (g *geometry) nr() int { return 2 * g.lanes }

// product is C = A·B with its operands as pointers, bounds checked.
type product struct {
	geometry     *geometry
	c, a, b      *float32
	ldc, lda     int
	ldb          int
	aTrans       bool
	bTrans       bool
	panels       bool // b is the data of Panels
	add          bool
	m, n, k      int
	packA, packB bool
}

// bView says where columns of B stand: column j of a block is at base + j/width·panel + j%width, in bytes.
type bView struct {
	base             unsafe.Pointer
	width, panel, bK int
}

func (v *bView) at(j int) unsafe.Pointer {
	return unsafe.Add(v.base, j/v.width*v.panel+j%v.width*4)
}

func newProduct(g *geometry, c []float32, ldc int, a, b Operand, m, n, k int, add bool) product {
	checkMatrix("C", c, m, n, ldc)
	if a.Trans {
		checkMatrix("A", a.Data, k, m, a.Stride)
	} else {
		checkMatrix("A", a.Data, m, k, a.Stride)
	}
	if b.Trans {
		checkMatrix("B", b.Data, n, k, b.Stride)
	} else {
		checkMatrix("B", b.Data, k, n, b.Stride)
	}
	return product{
		geometry: g, c: unsafe.SliceData(c), a: unsafe.SliceData(a.Data), b: unsafe.SliceData(b.Data), ldc: ldc, lda: a.Stride, ldb: b.Stride,
		aTrans: a.Trans, bTrans: b.Trans, add: add, m: m, n: n, k: k,
	}
}

// small is the number of elements of an operand that lie well in L1 as they are.
const small = 8192

// wideBlock is the size in bytes from which a block of k rows no longer lies well in L1's address translations.
const wideBlock = 256 << 10

// plan decides which operands of a block of m × n are worth packing. Reading an operand in place costs cache conflicts, where its rows
// are a multiple of 2 KB apart, and address translations, where a block is wide; packing it costs a transpose, or a copy through L2,
// which only much use repays.
func (p *product) plan(m, n int) {
	g := p.geometry
	if g.pairs || g.rounded { // as the caller has them they are not bf16
		p.packA, p.packB = true, !p.panels
		return
	}
	wide := func(stride int) bool { return 4*stride*kBlock(p.k) > wideBlock }
	if p.aTrans {
		p.packA = m*p.k > small && (n > 4*g.nr() || wide(p.lda) && n > g.nr())
	} else {
		p.packA = m*p.k > small && (n > 8*g.nr() || p.lda%512 == 0 && n > g.nr())
	}
	if p.bTrans {
		p.packB = !p.panels
	} else {
		p.packB = !p.panels && n*p.k > small && (m > 256 || wide(p.ldb) && m > 2*g.rows)
	}
}

func gemmBlocked(g *geometry, c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	if m <= 0 || n <= 0 {
		return
	}
	p := newProduct(g, c, ldc, a, b, m, n, k, accumulate)
	if k <= 0 {
		p.clear()
		return
	}
	if parallel && m*n*k >= parallelWork && p.parallel() {
		return
	}
	p.plan(m, n)
	p.block(0, m, 0, n)
}

// clear is the product with k = 0.
func (p *product) clear() {
	for i := 0; i < p.m && !p.add; i++ {
		clear(unsafe.Slice(p.cAt(i, 0), p.n))
	}
}

func offset(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), 4*n)) }

func (p *product) cAt(i, j int) *float32 { return offset(p.c, i*p.ldc+j) }

func (p *product) aAt(i, l int) *float32 {
	if p.aTrans {
		i, l = l, i
	}
	return offset(p.a, i*p.lda+l)
}

func (p *product) bAt(l, j int) *float32 {
	switch {
	case p.panels: // j is a multiple of PanelWidth
		return offset(p.b, j*p.panelK()+p.steps(l)*PanelWidth)
	case p.bTrans:
		return offset(p.b, j*p.ldb+l)
	}
	return offset(p.b, l*p.ldb+j)
}

// block computes rows i0…i1 and columns j0…j1 of C.
func (p *product) block(i0, i1, j0, j1 int) {
	var s *scratch
	if p.packA || p.packB {
		s = scratches.get()
		defer scratches.put(s)
	}
	if p.ownBlock(s, i0, i1, j0, j1) {
		return
	}
	kc := kBlock(p.k)
	if p.geometry.pairs {
		kc = 2 * kBlock((p.k+1)/2)
	}
	for j := j0; j < j1; j += colBlock {
		for l := 0; l < p.k; l += kc {
			p.kBlock(s, i0, i1, j, min(j+colBlock, j1), l, min(kc, p.k-l))
		}
	}
}

// kBlock adds the terms l…l+k to the columns j0…j1 of rows i0…i1 of C.
func (p *product) kBlock(s *scratch, i0, i1, j0, j1, l, k int) {
	g := p.geometry
	t := tile{k: p.steps(k), cRow: 4 * p.ldc}
	if p.add || l > 0 {
		t.add = 1
	}
	view := p.view(s, j0, j1, l, k)
	height, rowBlock := g.height(i1-i0), i1-i0
	if p.packA {
		rowBlock = g.rowPanels * height
	}
	for i := i0; i < i1; i += rowBlock {
		ie := min(i+rowBlock, i1)
		if p.packA {
			p.packRows(s, i, ie, height, l, k)
		}
		for j := j0; j < j1; j += g.cols {
			je := min(j+g.cols, j1)
			for r := i; r < ie; r += height {
				t.a, t.aRow, t.aK = p.rowPanel(s, r, (r-i)/height, l, k)
				t.c = unsafe.Pointer(p.cAt(r, j))
				p.sweep(&t, &view, min(height, ie-r), j-j0, je-j0)
			}
		}
	}
}

// steps is the number of elements that k terms are in a packed operand.
func (p *product) steps(k int) int {
	if p.geometry.pairs {
		return (k + 1) / 2
	}
	return k
}

// panelK is the number of elements of a row in Panels, or in QuantPanels of bf16.
func (p *product) panelK() int {
	if p.geometry.pairs {
		return roundUp(p.k, superblock) / 2
	}
	return p.k
}

// height is the number of rows of a row panel: all registers' worth, but a few rows are cut evenly, because the last of uneven
// panels would have too few chains of multiply-adds to hide their latency.
func (g *geometry) height(m int) int {
	panels := (m + g.rows - 1) / g.rows
	if panels > 5 {
		return g.rows
	}
	return (m + panels - 1) / panels
}

// rowPanel returns the address and strides of the row panel that starts at row r and term l.
func (p *product) rowPanel(s *scratch, r, index, l, k int) (a unsafe.Pointer, aRow, aK int) {
	if p.packA {
		slot := p.geometry.lanes
		return unsafe.Pointer(&s.a[index*slot*p.steps(k)]), 4, 4 * slot
	}
	if p.aTrans {
		return unsafe.Pointer(p.aAt(r, l)), 4, 4 * p.lda
	}
	return unsafe.Pointer(p.aAt(r, l)), 4 * p.lda, 4
}

// view returns where the columns j0…j1 of B stand from term l on, after packing them if that is the plan.
func (p *product) view(s *scratch, j0, j1, l, k int) bView {
	switch {
	case p.panels:
		return bView{unsafe.Pointer(p.bAt(l, j0)), PanelWidth, 4 * PanelWidth * p.panelK(), 4 * PanelWidth}
	case !p.packB:
		return bView{unsafe.Pointer(p.bAt(l, j0)), PanelWidth, 4 * PanelWidth, 4 * p.ldb}
	}
	g, steps := p.geometry, p.steps(k)
	nr := g.nr()
	s.b = grow(s.b, roundUp(j1-j0, nr)*steps)
	for j := j0; j < j1; j += g.lanes {
		dst := (j-j0)/nr*nr*steps + (j-j0)%nr
		g.pack(&s.b[dst], 4*nr, p.bAt(l, j), 4*p.ldb, min(g.lanes, j1-j), k, p.bTrans)
	}
	g.roundPacked(s.b)
	return bView{unsafe.Pointer(&s.b[0]), nr, 4 * nr * steps, 4 * nr}
}

// packRows packs rows i0…i1 of A in panels of height rows.
func (p *product) packRows(s *scratch, i0, i1, height, l, k int) {
	slot := p.geometry.lanes * p.steps(k)
	s.a = grow(s.a, (i1-i0+height-1)/height*slot)
	for i, d := i0, 0; i < i1; i, d = i+height, d+slot {
		p.geometry.pack(&s.a[d], 4*p.geometry.lanes, p.aAt(i, l), 4*p.lda, min(height, i1-i), k, !p.aTrans)
	}
	p.geometry.roundPacked(s.a)
}

// sweep multiplies one row panel, t.a, with the columns j0…j1 of view; t.c is C at column j0.
func (p *product) sweep(t *tile, view *bView, rows, j0, j1 int) {
	g := p.geometry
	nr := g.nr()
	t.bK, t.bPanel = view.bK, view.panel
	packed := p.packA && rows == g.rows && view.bK == 4*nr
	c := t.c
	for j := j0; j < j1; {
		t.b, t.c = view.at(j), unsafe.Add(c, 4*(j-j0))
		cols := j1 - j
		switch {
		case cols >= nr && packed:
			g.runPacked(t)
			cols = nr
		case rows == 1 && !g.pairs && cols >= 8*g.lanes && view.width == PanelWidth:
			g.run(t, rows, 8, false)
			cols = 8 * g.lanes
		case rows <= 3 && !g.pairs && cols >= 4*g.lanes && view.width == PanelWidth:
			g.run(t, rows, 4, false)
			cols = 4 * g.lanes
		case cols >= nr:
			g.run(t, rows, 2, false)
			cols = nr
		case cols > g.lanes:
			t.cols = cols - g.lanes
			g.run(t, rows, 2, true)
		default:
			t.cols = cols
			g.run(t, rows, 1, true)
		}
		j += cols
	}
}
