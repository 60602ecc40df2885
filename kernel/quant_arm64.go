//go:build !purego

package kernel

// narrowNEON is how NEON multiplies narrow weights, with or without SDOT and USDOT. The bits are the same.
func narrowNEON(sdot, usdot bool) [panelFormats]narrow {
	n := [panelFormats]narrow{
		BF16: narrowBy(BF16, 4, panelBF16NEON, brainRowVectors),
		Q8:   narrowBy(Q8, 2, panelQ8LongNEON, quantizeRowVectors(Q8)),
		Q4:   narrowBy(Q4, 2, panelQ4LongNEON, quantizeRowVectors(Q4)),
	}
	if sdot {
		n[Q8] = narrowBy(Q8, 4, panelQ8DotNEON, quantizeRowVectors(Q8))
		n[Q4] = narrowBy(Q4, 4, panelQ4DotNEON, quantizeRowVectors(Q4))
	}
	if usdot {
		n[Q8] = narrowBy(Q8, 4, panelQ8MixedNEON, quantizeRowVectors(Q8))
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

func quantizeRowVectors(f PanelFormat) func(dst []byte, x []float32) {
	shift := f.shift()
	return func(dst []byte, x []float32) {
		_ = dst[f.activationBytes(len(x))-1]
		quantizeRowNEON(&dst[0], &x[0], len(x)/quantGroupLen, shift)
	}
}

func residualVectors(dst, x []float32, act []byte) {
	groups := len(x) / quantGroupLen
	_, _ = dst[len(x)-1], act[groups*quantGroupBytes-1]
	residualRowNEON(&dst[0], &x[0], &act[0], groups)
}
