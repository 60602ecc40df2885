//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// narrowAVX2 is exact in the integers: no sum saturates.
func narrowAVX2() [panelFormats]narrow {
	return [panelFormats]narrow{
		BF16: narrowBy(BF16, 4, panelBF16AVX2, brainRowVectors),
		Q8:   narrowBy(Q8, 4, panelQ8AVX2, quantizeBy(Q8, quantizeWordsAVX2)),
		Q4:   narrowBy(Q4, 4, panelQ4AVX2, quantizeBy(Q4, quantizeRowAVX2)),
	}
}

// narrowAVX512 uses what this processor has of VNNI and BF16.
func narrowAVX512() [panelFormats]narrow {
	n := narrowAVX2()
	if cpu.X86.HasAVX512VNNI {
		n[Q8] = narrow{passBy(Q8, 4, 1, panelQ8AVX512), passBy(Q8, 4, 2, pairQ8AVX512), quantizeBy(Q8, quantizeDigitsAVX2)}
		n[Q4] = narrow{passBy(Q4, 8, 1, panelQ4AVX512), passBy(Q4, 6, 2, pairQ4AVX512), quantizeBy(Q4, quantizeRowAVX2)}
	}
	if cpu.X86.HasAVX512BF16 {
		n[BF16] = narrowBy(BF16, 8, panelBF16AVX512, brainRowVectors)
	}
	return n
}

func dotPeaksAVX2() [panelFormats]dotPeak {
	return [panelFormats]dotPeak{Q8: {peakDot8AVX2, 2 * 2 * 8 * 4 * 8}, Q4: {peakDot4AVX2, 2 * 64 * 4 * 8}}
}

// dotPeaksAVX512 are those of the instructions that narrowAVX512 uses.
func dotPeaksAVX512() [panelFormats]dotPeak {
	if !cpu.X86.HasAVX512VNNI {
		return dotPeaksAVX2()
	}
	return [panelFormats]dotPeak{Q8: {peakDot8AVX512, 2 * 24 * 4 * 16}, Q4: {peakDot4AVX512, 2 * 32 * 4 * 16}}
}

func brainRowVectors(dst []byte, x []float32) {
	_ = dst[2*len(x)-1]
	brainRowAVX2(&dst[0], &x[0], len(x))
}

func streamVectorsAVX2(p []byte)   { streamAVX2(&p[0], len(p)) }
func streamVectorsAVX512(p []byte) { streamAVX512(&p[0], len(p)) }
