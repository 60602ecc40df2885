//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

// panelKernel is a generated family of kernels for one panel.
type panelKernel func(n, k int, w, x *byte, ldx int, y *float32, ldy, ahead int)

// narrowBy makes a level's product of a kernel family that takes up to rows rows and fetches weights ahead in the first pass over them. The family
// gets pointers: the slices are checked here.
func narrowBy(f PanelFormat, rows, ahead int, kernel panelKernel, activations func(dst []byte, x []float32)) narrow {
	width, block := f.width(), f.block()
	return narrowPass(rows, func(y []float32, ldy int, w []byte, _ int, x []byte, ldx, rows, k int, next nextWeights) {
		_, _, _ = y[(rows-1)*ldy+width-1], w[k/superblock*block-1], x[(rows-1)*ldx+f.activationBytes(k)-1]
		far := ahead
		if next.pass > 0 { // they are near
			far = 0
		}
		kernel(rows, k, unsafe.SliceData(w), unsafe.SliceData(x), ldx, unsafe.SliceData(y), 4*ldy, far)
	}, activations)
}

// quantizeBy makes a level's rounding of rows of a generated kernel.
func quantizeBy(f PanelFormat, kernel func(dst *byte, x *float32, groups int)) func(dst []byte, x []float32) {
	return func(dst []byte, x []float32) {
		_ = dst[f.activationBytes(len(x))-1]
		kernel(unsafe.SliceData(dst), unsafe.SliceData(x), len(x)/quantGroupLen)
	}
}
