//go:build !purego

package kernel

import "unsafe"

// geometry is what the driver of products knows of NEON: a "vector" is two registers, so that a tile of 6 × 2·8 fills 24 of the 32.
type geometry struct {
	pairs       bool // never: elements of packed operands are pairs of bf16
	rounded     bool // packed operands are rounded to bf16
	rows, lanes int
	rowPanels   int // of packed A that stay in L2
	cols        int // of packed B that stay in L2 with them
}

var (
	geometryNEON        = geometry{rows: 6, lanes: 8, rowPanels: 16, cols: 128}
	geometryRoundedNEON = geometry{rounded: true, rows: 6, lanes: 8, rowPanels: 16, cols: 128}
)

// ownBlock reports that no geometry has a driver of its own.
func (*product) ownBlock(*scratch, int, int, int, int) bool { return false }

// run runs the microkernel for rows rows and vecs vectors; partial columns are done in widths that are powers of two.
func (g *geometry) run(t *tile, rows, vecs int, masked bool) {
	if !masked {
		runNEON(t, rows, vecs*g.lanes)
		return
	}
	b, c, cols := t.b, t.c, (vecs-1)*g.lanes+t.cols
	for at, width := 0, g.nr(); at < cols; width /= 2 {
		if cols-at >= width {
			t.b, t.c = unsafe.Add(b, 4*at), unsafe.Add(c, 4*at) // never beyond the end, where another object may lie
			runNEON(t, rows, width)
			at += width
		}
	}
	t.b, t.c = b, c
}

func (g *geometry) runPacked(t *tile) { tileNEON_6x16packed(t) }

func (g *geometry) pack(dst *float32, dstStride int, src *float32, srcStride, rows, k int, transpose bool) {
	if transpose {
		packTransposeNEON(dst, dstStride, src, srcStride, rows, k)
		return
	}
	d, s := unsafe.Pointer(dst), unsafe.Pointer(src)
	for l := range k {
		to, from := unsafe.Add(d, l*dstStride), unsafe.Add(s, l*srcStride)
		if rows == 8 {
			*(*[8]float32)(to) = *(*[8]float32)(from)
		} else {
			copy(unsafe.Slice((*float32)(to), rows), unsafe.Slice((*float32)(from), rows))
		}
	}
}

func gemmNEON(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryNEON, c, ldc, a, b, m, n, k, accumulate, parallel)
}

func gemmRoundedNEON(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryRoundedNEON, c, ldc, a, b, m, n, k, accumulate, parallel)
}

// roundPacked rounds a packed operand to bf16 in place, where that is how products of bf16 are made.
func (g *geometry) roundPacked(x []float32) {
	if !g.rounded {
		return
	}
	for i, v := range x {
		x[i] = brainOperand(v)
	}
}

func mulPanelsNEON(y []float32, ldy int, x []float32, ldx, rows int, p *Panels) {
	mulPanelsBlocked(&geometryNEON, y, ldy, x, ldx, rows, p)
}

func mulPanelNEON(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	mulPanelDirect(&geometryNEON, c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
}

func packPanelNEON(dst, w []float32, rows, k int) { packPanelBy(&geometryNEON, dst, w, rows, k) }

func transposeNEON(y, x []float32, rows, cols int) { transposeBy(&geometryNEON, y, x, rows, cols) }
