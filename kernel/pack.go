package kernel

import (
	"runtime"
	"unsafe"
)

// Rows yields rows lo…hi-1 of a matrix, row-major: a view of them, or in scratch, which has the room. Several goroutines call it at once,
// for rows of their own.
type Rows func(scratch []float32, lo, hi int) []float32

// DenseRows returns the rows of w, row-major, k numbers each.
func DenseRows(w []float32, k int) Rows {
	return func(_ []float32, lo, hi int) []float32 { return w[lo*k : hi*k] }
}

// eachPanel calls pack, over all cores, with the rows of each panel of width rows of a matrix (n,k); the last panel may have fewer.
func eachPanel(rows Rows, n, k, width int, pack func(panel int, w []float32, rows int)) {
	if k == 0 {
		return
	}
	Parallel((n+width-1)/width, func(i int) {
		s := packScratch.get()
		s.data = grow(s.data, width*k)
		lo, hi := i*width, min(n, (i+1)*width)
		pack(i, rows(s.data[:(hi-lo)*k], lo, hi), hi-lo)
		packScratch.put(s)
	})
}

var packScratch = freeList[struct{ data []float32 }]{make: func() *struct{ data []float32 } { return new(struct{ data []float32 }) }}

// Panels is a weight matrix W (N,K) packed for multiplication: panel j holds rows 32j…32j+31 as [K][32], zero-filled at the end. Data may
// stand in a Memory.
type Panels struct {
	N, K   int
	Data   []float32
	memory *Memory // kept alive
}

// PackPanels packs w (n,k), row-major, on the Go heap, over all cores.
func PackPanels(w []float32, n, k int) *Panels {
	checkSize(w, n, k)
	return PackRows(DenseRows(w, k), n, k, nil)
}

// PackRows packs a matrix (n,k) into memory m, or on the Go heap if m is nil, over all cores.
func PackRows(rows Rows, n, k int, m *Memory) *Panels {
	p := &Panels{N: n, K: k, memory: m}
	size := roundUp(n, PanelWidth) * k
	if m != nil {
		p.Data = floatsOf(m.Bytes(4 * size))
	} else {
		p.Data = make([]float32, size)
	}
	eachPanel(rows, n, k, PanelWidth, func(i int, w []float32, rows int) {
		active.packPanel(p.Data[i*PanelWidth*k:][:PanelWidth*k], w, rows, k)
	})
	runtime.KeepAlive(m)
	return p
}

// Mul sets y (rows,N) = x (rows,K)·Wᵀ, with row strides ldy and ldx, over all cores where that pays. The bits are those of Gemm.
func (p *Panels) Mul(y []float32, ldy int, x []float32, ldx, rows int) {
	active.mulPanels(y, ldy, x, ldx, rows, p)
	runtime.KeepAlive(p)
}

// Row sets dst (K) to row r of W.
func (p *Panels) Row(dst []float32, r int) {
	panel := p.Data[r/PanelWidth*PanelWidth*p.K:]
	for l := range dst[:p.K] {
		dst[l] = panel[l*PanelWidth+r%PanelWidth]
	}
	runtime.KeepAlive(p)
}

// packPanelPortable sets dst [k][32] to the transpose of w (rows,k), rows ≤ 32. The columns of dst that w lacks are zeros before and stay so.
func packPanelPortable(dst, w []float32, rows, k int) {
	for r := range rows {
		for l, v := range w[r*k:][:k] {
			dst[l*PanelWidth+r] = v
		}
	}
}

// floatsOf returns the memory of b, which begins on a multiple of four bytes, as numbers.
func floatsOf(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// Transpose sets y (cols, rows) to the transpose of x (rows, cols).
func Transpose(y, x []float32, rows, cols int) { active.transpose(y, x, rows, cols) }

func transposePortable(y, x []float32, rows, cols int) {
	for r := range rows {
		for c, v := range x[r*cols:][:cols] {
			y[c*rows+r] = v
		}
	}
}
