//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

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
