//go:build (amd64 || arm64) && !purego

package kernel

import (
	"runtime"
	"unsafe"
)

const (
	directRows  = 16      // up to this many rows are read in place, and each panel is read once, in order, as it comes from memory
	panelGroup  = 128     // columns that a single row takes at a time
	streamWork  = 1 << 17 // weights from which a few rows are spread over the cores: reading them takes longer than the products
	groupChunks = 2       // chunks of panel groups a processor, so that a late worker costs half its share
)

// packPanelBy is packPanelPortable by squares of the level's vectors, whose columns beyond the last row are cleared again.
func packPanelBy(g *geometry, dst, w []float32, rows, k int) {
	_, _ = dst[PanelWidth*k-1], w[rows*k-1]
	for r := 0; r < rows; r += g.lanes {
		n := min(g.lanes, rows-r)
		g.pack(&dst[r], 4*PanelWidth, &w[r*k], 4*k, n, k, true)
		for l := 0; l < k && n < g.lanes; l++ {
			clear(dst[l*PanelWidth+r+n:][:g.lanes-n])
		}
	}
}

// transposeBy is transposePortable by squares of the level's vectors. The last square ends with the last row, so it may write some columns again.
func transposeBy(g *geometry, y, x []float32, rows, cols int) {
	if rows < g.lanes || cols == 0 {
		transposePortable(y, x, rows, cols)
		return
	}
	_, _ = y[rows*cols-1], x[rows*cols-1]
	for r := 0; r < rows; r += g.lanes {
		r := min(r, rows-g.lanes)
		g.pack(&y[r], 4*rows, &x[r*cols], 4*cols, g.lanes, cols, true)
	}
}

func mulPanelsBlocked(g *geometry, y []float32, ldy int, x []float32, ldx, rows int, w *Panels) {
	if rows <= 0 || w.N <= 0 {
		return
	}
	checkMatrix("y", y, rows, w.N, ldy)
	checkMatrix("x", x, rows, w.K, ldx)
	p := product{
		geometry: g, c: unsafe.SliceData(y), a: unsafe.SliceData(x), b: unsafe.SliceData(w.Data), ldc: ldy, lda: ldx,
		panels: true, m: rows, n: w.N, k: w.K,
	}
	switch {
	case w.K <= 0:
		p.clear()
	case rows > directRows:
		if rows*w.N*w.K < parallelWork || !p.parallel() {
			p.plan(rows, w.N)
			p.block(0, rows, 0, w.N)
		}
	case w.N*w.K < streamWork && rows*w.N*w.K < parallelWork || runtime.GOMAXPROCS(0) == 1:
		p.panelGroups(0, w.N)
	default:
		p.parallelGroups()
	}
}

// panelGroups computes the columns j0…j1 for a few rows, which it reads in place.
func (p *product) panelGroups(j0, j1 int) {
	for j := j0; j < j1; j += panelGroup {
		p.block(0, p.m, j, min(j+panelGroup, j1))
	}
}

func (p *product) parallelGroups() {
	j := groupJobs.get()
	j.product = *p
	panels := (p.n + PanelWidth - 1) / PanelWidth
	j.chunks = min(panels, groupChunks*runtime.GOMAXPROCS(0))
	Parallel(j.chunks, j.run)
	j.product = product{}
	groupJobs.put(j)
}

// groupJob is a job for few rows: its chunks are ranges of panels.
type groupJob struct {
	product
	chunks int
	run    func(i int)
}

var groupJobs = freeList[groupJob]{make: func() *groupJob {
	j := new(groupJob)
	j.run = j.chunk
	return j
}}

func (j *groupJob) chunk(i int) {
	panels := (j.n + PanelWidth - 1) / PanelWidth
	cut := func(i int) int { return min(j.n, panels*i/j.chunks*PanelWidth) }
	j.panelGroups(cut(i), cut(i+1))
}

func mulPanelDirect(g *geometry, c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	if m <= 0 || cols <= 0 {
		return
	}
	p := newProduct(g, c, ldc, Operand{Data: a, Stride: lda}, Operand{Data: b, Stride: ldb}, m, cols, k, accumulate)
	if k <= 0 {
		p.clear()
		return
	}
	p.block(0, m, 0, cols)
}
