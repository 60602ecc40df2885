//go:build !purego

package kernel

// geometry is what the driver knows of a level: a tile of rows × 2·lanes fills the registers.
type geometry struct {
	avx512      bool
	pairs       bool // elements of packed operands are pairs of bf16, two k each
	rounded     bool // packed operands are rounded to bf16
	tiles       bool // pairs by AMX: blocks are computed by tileBlock
	rows, lanes int
	rowPanels   int // of packed A that stay in L2
	cols        int // of packed B that stay in L2 with them
}

var (
	geometryAVX512 = geometry{avx512: true, rows: 14, lanes: 16, rowPanels: 12, cols: 256}
	geometryAVX2   = geometry{rows: 6, lanes: 8, rowPanels: 16, cols: 128}
)

// ownBlock computes a block where the geometry has a driver of its own, and reports whether it did.
func (p *product) ownBlock(s *scratch, i0, i1, j0, j1 int) bool {
	if p.geometry.tiles {
		p.tileBlock(s, i0, i1, j0, j1)
	}
	return p.geometry.tiles
}

// run runs the microkernel for rows rows and vecs vectors. The calls are direct, so that a tile can live on the stack.
func (g *geometry) run(t *tile, rows, vecs int, masked bool) {
	switch {
	case g.pairs:
		runBF16AVX512(t, rows, vecs, masked)
	case g.avx512:
		runAVX512(t, rows, vecs, masked)
	default:
		runAVX2(t, rows, vecs, masked)
	}
}

func (g *geometry) runPacked(t *tile) {
	switch {
	case g.pairs:
		tileBF16AVX512_14x2packed(t)
	case g.avx512:
		tileAVX512_14x2packed(t)
	default:
		tileAVX2_6x2packed(t)
	}
}

func (g *geometry) pack(dst *float32, dstStride int, src *float32, srcStride, rows, k int, transpose bool) {
	switch {
	case g.pairs:
		packPairs(dst, dstStride, src, srcStride, rows, k, transpose)
	case g.avx512 && transpose:
		packTransposeAVX512(dst, dstStride, src, srcStride, rows, k)
	case g.avx512:
		packCopyAVX512(dst, dstStride, src, srcStride, rows, k)
	case transpose:
		packTransposeAVX2(dst, dstStride, src, srcStride, rows, k)
	default:
		packCopyAVX2(dst, dstStride, src, srcStride, rows, k)
	}
}

func gemmAVX512(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryAVX512, c, ldc, a, b, m, n, k, accumulate, parallel)
}

func gemmAVX2(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	gemmBlocked(&geometryAVX2, c, ldc, a, b, m, n, k, accumulate, parallel)
}

func packPanelAVX512(dst, w []float32, rows, k int) { packPanelBy(&geometryAVX512, dst, w, rows, k) }

func packPanelAVX2(dst, w []float32, rows, k int) { packPanelBy(&geometryAVX2, dst, w, rows, k) }

func transposeAVX512(y, x []float32, rows, cols int) { transposeBy(&geometryAVX512, y, x, rows, cols) }

func transposeAVX2(y, x []float32, rows, cols int) { transposeBy(&geometryAVX2, y, x, rows, cols) }

func mulPanelsAVX512(y []float32, ldy int, x []float32, ldx, rows int, p *Panels) {
	mulPanelsBlocked(&geometryAVX512, y, ldy, x, ldx, rows, p)
}

func mulPanelsAVX2(y []float32, ldy int, x []float32, ldx, rows int, p *Panels) {
	mulPanelsBlocked(&geometryAVX2, y, ldy, x, ldx, rows, p)
}

func mulPanelAVX512(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	mulPanelDirect(&geometryAVX512, c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
}

func mulPanelAVX2(c []float32, ldc int, a []float32, lda, m int, b []float32, ldb, k, cols int, accumulate bool) {
	mulPanelDirect(&geometryAVX2, c, ldc, a, lda, m, b, ldb, k, cols, accumulate)
}
