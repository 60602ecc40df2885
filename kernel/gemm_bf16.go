package kernel

import "time"

// GemmBF16 is Gemm with both operands rounded to bf16: to nearest even, a NaN becomes quiet, a denormal number counts as zero. Products are
// exact and sums are float32. The definition, which the portable level and the instructions for bf16 share bit for bit, is one chain of
// additions an element: it begins with C where that is added to and else with zero, and takes k in pairs, the odd one of each first. Sums
// and products that leave the range of normal float32 numbers are the exception: the processors flush them to zero. Levels without such
// instructions, and those where they are slow, add up the same rounded operands in Gemm's order, and AMX adds up 32 terms before it adds them to
// the sum: their results are close, not equal.
func GemmBF16(c []float32, ldc int, a, b Operand, m, n, k int, accumulate bool) {
	active.gemmBF16(c, ldc, a, b, m, n, k, accumulate, true)
}

// GemmBF16Seq is GemmBF16 on the calling goroutine alone. The bits are the same.
func GemmBF16Seq(c []float32, ldc int, a, b Operand, m, n, k int, accumulate bool) {
	active.gemmBF16(c, ldc, a, b, m, n, k, accumulate, false)
}

// HasBF16 reports whether the level in use has instructions for products of bf16: on some processors twice as many a second as of float32, on
// others half as many.
func HasBF16() bool { return active.peakBF16 != nil }

// TilesBF16 reports whether GemmBF16 is the work of matrix instructions (AMX), many times as fast as vectors.
func TilesBF16() bool { return active.peakTiles != nil }

// brainOperand is v as GemmBF16 multiplies with it.
func brainOperand(v float32) float32 {
	if v > -0x1p-126 && v < 0x1p-126 {
		return 0
	}
	return brainToFloat(floatToBrain(v))
}

func gemmBF16Portable(c []float32, ldc int, a, b Operand, m, n, k int, accumulate, parallel bool) {
	columns := make([]float32, n*k) // of B, rounded
	for j := range n {
		for l := range k {
			columns[j*k+l] = brainOperand(b.at(l, j))
		}
	}
	row := func(i int) {
		ai, ci := make([]float32, k), c[i*ldc:][:n]
		for l := range ai {
			ai[l] = brainOperand(a.at(i, l))
		}
		if !accumulate {
			clear(ci)
		}
		for j := range ci {
			ci[j] = dotPairs(ci[j], ai, columns[j*k:][:k])
		}
	}
	if parallel && m*n*k > 1<<16 {
		Parallel(m, row)
		return
	}
	for i := range m {
		row(i)
	}
}

// dotPairs adds the products of a and b to sum, pair by pair. The values are bf16, so a product is exact, and it does not matter whether
// the compiler joins it with the addition.
func dotPairs(sum float32, a, b []float32) float32 {
	for l := 0; l < len(a); l += 2 {
		if l+1 < len(a) {
			sum += a[l+1] * b[l+1]
		}
		sum += a[l] * b[l]
	}
	return sum
}

// BF16Peak is FMAPeak with pairs of bf16: the limit of products of few rows with weights in bf16. It is 0 where the level in use has no
// instructions for them.
func BF16Peak(d time.Duration) float64 { return peakRate(active.peakBF16, 2*active.peakFlops, d) }

// GemmBF16Peak is FMAPeak with what GemmBF16 multiplies with: its limit. Where the instructions for bf16 are slow or missing that is float32.
func GemmBF16Peak(d time.Duration) float64 {
	if active.peakTiles != nil {
		return peakRate(active.peakTiles, active.tilesFlops, d)
	}
	return max(BF16Peak(d), FMAPeak(d))
}
