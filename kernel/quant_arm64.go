//go:build !purego

package kernel

// narrowNEON is how NEON multiplies narrow weights, with or without SDOT and USDOT. The bits are the same.
func narrowNEON(sdot, usdot bool) [panelFormats]narrow {
	n := [panelFormats]narrow{
		BF16: narrowBy(BF16, 4, panelBF16NEON, brainRowVectors),
		Q8:   narrowBy(Q8, 1, panelQ8LongNEON, quantizeBy(Q8, quantizeDigitsNEON)),
		Q4:   narrowBy(Q4, 2, panelQ4LongNEON, quantizeBy(Q4, quantizeRowNEON)),
	}
	if sdot {
		n[Q8] = narrowBy(Q8, 2, panelQ8DotNEON, quantizeBy(Q8, quantizeDigitsNEON))
		n[Q4] = narrowBy(Q4, 4, panelQ4DotNEON, quantizeBy(Q4, quantizeRowNEON))
	}
	if usdot {
		n[Q8] = narrowBy(Q8, 2, panelQ8MixedNEON, quantizeBy(Q8, quantizeDigitsNEON))
	}
	return n
}

// dotPeaksNEON are those of the instructions that narrowNEON uses.
func dotPeaksNEON(sdot bool) [panelFormats]dotPeak {
	if !sdot {
		return [panelFormats]dotPeak{Q8: {peakDot8LongNEON, 2 * 16 * 8}, Q4: {peakDot4LongNEON, 2 * 16 * 8}}
	}
	return [panelFormats]dotPeak{Q8: {peakDot8DotNEON, 2 * 24 * 4 * 4}, Q4: {peakDot4DotNEON, 2 * 32 * 4 * 4}}
}

func brainRowVectors(dst []byte, x []float32) {
	_ = dst[2*len(x)-1]
	brainRowNEON(&dst[0], &x[0], len(x))
}
