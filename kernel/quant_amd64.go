//go:build !purego

package kernel

import "golang.org/x/sys/cpu"

// narrowAVX2 is exact in the integers: no sum saturates. Even one row is a fifth faster with fetching ahead (measured: Zen 3).
func narrowAVX2() [panelFormats]narrow {
	return [panelFormats]narrow{
		BF16: narrowBy(BF16, 4, 2048, panelBF16AVX2, brainRowVectors),
		Q8:   narrowBy(Q8, 4, 4096, panelQ8AVX2, quantizeBy(Q8, quantizeWordsAVX2)),
		Q4:   narrowBy(Q4, 4, 4096, panelQ4AVX2, quantizeBy(Q4, quantizeRowAVX2)),
	}
}

// fetchNear is the distance at which the AVX-512 kernels fetch weights from the second cache into the first; from memory into the second they do
// at eight times it. The first cache alone cannot wait for as many lines as memory's latency asks for (measured: Sapphire Rapids).
const fetchNear = 1024

// narrowAVX512 uses what this processor has of VNNI and BF16.
func narrowAVX512() [panelFormats]narrow {
	n := narrowAVX2()
	if cpu.X86.HasAVX512VNNI {
		n[Q8] = narrowBy(Q8, 8, fetchNear, panelQ8AVX512, quantizeBy(Q8, quantizeDigitsAVX2))
		n[Q4] = narrowBy(Q4, 8, fetchNear, panelQ4AVX512, quantizeBy(Q4, quantizeRowAVX2))
	}
	if cpu.X86.HasAVX512BF16 {
		n[BF16] = narrowBy(BF16, 8, fetchNear, panelBF16AVX512, brainRowVectors)
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
