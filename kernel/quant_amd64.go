package kernel

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// panelKernel is a generated family of panel kernels.
type panelKernel func(n, k int, w, x *byte, ldx int, y *float32, ldy int)

// narrowBy makes a level's product of a kernel family that takes up to rows rows. The family gets pointers: the slices are checked here.
func narrowBy(f PanelFormat, rows int, kernel panelKernel, activations func(dst []byte, x []float32)) narrow {
	width, block := f.width(), f.block()
	return narrow{rows, func(y []float32, ldy int, w, x []byte, ldx, rows, k int) {
		_, _, _ = y[(rows-1)*ldy+width-1], w[k/superblock*block-1], x[(rows-1)*ldx+f.activationBytes(k)-1]
		kernel(rows, k, unsafe.SliceData(w), unsafe.SliceData(x), ldx, unsafe.SliceData(y), 4*ldy)
	}, activations}
}

// narrowAVX2 is exact in the integers: no sum saturates.
func narrowAVX2() [panelFormats]narrow {
	return [panelFormats]narrow{
		BF16: narrowBy(BF16, 4, panelBF16AVX2, brainRowVectors),
		Q8:   narrowBy(Q8, 4, panelQ8AVX2, quantizeRowVectors(Q8)),
		Q4:   narrowBy(Q4, 4, panelQ4AVX2, quantizeRowVectors(Q4)),
	}
}

// narrowAVX512 uses what this processor has of VNNI and BF16.
func narrowAVX512() [panelFormats]narrow {
	n := narrowAVX2()
	if cpu.X86.HasAVX512VNNI {
		n[Q8] = narrowBy(Q8, 8, panelQ8AVX512, quantizeRowVectors(Q8))
		n[Q4] = narrowBy(Q4, 8, panelQ4AVX512, quantizeRowVectors(Q4))
	}
	if cpu.X86.HasAVX512BF16 {
		n[BF16] = narrowBy(BF16, 8, panelBF16AVX512, brainRowVectors)
	}
	return n
}

func brainRowVectors(dst []byte, x []float32) {
	_ = dst[2*len(x)-1]
	brainRowAVX2(&dst[0], &x[0], len(x))
}

func quantizeRowVectors(f PanelFormat) func(dst []byte, x []float32) {
	shift := f.shift()
	return func(dst []byte, x []float32) {
		_ = dst[f.activationBytes(len(x))-1]
		quantizeRowAVX2(&dst[0], &x[0], len(x)/quantGroupLen, shift)
	}
}

func streamVectorsAVX2(p []byte)   { streamAVX2(&p[0], len(p)) }
func streamVectorsAVX512(p []byte) { streamAVX512(&p[0], len(p)) }
