//go:build !purego

package kernel

import "unsafe"

// The geometries of GemmBF16: pairs of bf16 as elements where the processor multiplies them, and float32 panels that are rounded once they
// are packed where it does not.
var (
	geometryPairs         = geometry{avx512: true, pairs: true, rows: 14, lanes: 16, rowPanels: 12, cols: 256}
	geometryRoundedAVX512 = geometry{avx512: true, rounded: true, rows: 14, lanes: 16, rowPanels: 12, cols: 256}
	geometryRoundedAVX2   = geometry{rounded: true, rows: 6, lanes: 8, rowPanels: 16, cols: 128}
)

func gemmPairs(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryPairs, c, ldc, a, b, m, n, k, accumulate, parallel)
}

func gemmRoundedAVX512(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryRoundedAVX512, c, ldc, a, b, m, n, k, accumulate, parallel)
}

func gemmRoundedAVX2(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryRoundedAVX2, c, ldc, a, b, m, n, k, accumulate, parallel)
}

// mulBrainPairs is Mul for many rows on panels of bf16. The bits are those of the kernels for few rows.
func mulBrainPairs(y []float32, ldy int, x []float32, ldx, rows int, w *QuantPanels) {
	p := product{
		geometry: &geometryPairs, c: unsafe.SliceData(y), a: unsafe.SliceData(x), b: (*float32)(unsafe.Pointer(unsafe.SliceData(w.Data))),
		ldc: ldy, lda: ldx, panels: true, m: rows, n: w.N, k: w.K,
	}
	if rows*w.N*w.K < parallelWork || !p.parallel() {
		p.plan(rows, w.N)
		p.block(0, rows, 0, w.N)
	}
}

// roundPacked rounds a packed operand to bf16 in place, where that is how the level multiplies bf16. Panels are whole vectors.
func (g *geometry) roundPacked(x []float32) {
	switch {
	case !g.rounded || len(x) == 0:
	case g.avx512:
		brainRoundAVX512(&x[0], len(x))
	default:
		brainRoundAVX2(&x[0], len(x))
	}
}

// packPairs is pack for pairs.
func packPairs(dst *float32, dstStride int, src *float32, srcStride, rows, k int, transpose bool) {
	if transpose {
		packTransposeBF16AVX512(dst, dstStride, src, srcStride, rows, k)
	} else {
		packCopyBF16AVX512(dst, dstStride, src, srcStride, rows, k)
	}
}
