//go:build (amd64 || arm64) && !purego

package kernel

import "unsafe"

// panelKernel is a generated family of kernels for one panel, or for two.
type panelKernel func(n, k int, w *byte, between int, x *byte, ldx int, y *float32, ldy int, at uintptr, step int)

const (
	fetchFar    = 8192 // bytes from the weights in use to those that one pass over a panel fetches from memory (measured: Sapphire Rapids)
	fetchPasses = 4    // most passes that share the fetching of the weights of the next block
)

// passBy makes a pass of a family that takes up to rows rows. A pass alone fetches what comes after its weights in memory; of several, each
// brings its part of the next block, which is elsewhere. The family gets pointers: the slices are checked here.
func passBy(f PanelFormat, rows, panels int, kernel panelKernel) panelPass {
	width, block := panels*f.width(), f.block()
	return panelPass{rows, panels, func(y []float32, ldy int, w []byte, between int, x []byte, ldx, rows, k int, next nextWeights) {
		bytes := k / superblock * block
		_, _, _ = y[(rows-1)*ldy+width-1], w[between+bytes-1], x[(rows-1)*ldx+f.activationBytes(k)-1]
		at, step := uintptr(unsafe.Pointer(unsafe.SliceData(w))), 0
		switch passes := min(next.passes, fetchPasses); {
		case passes == 1:
			at, step = at+fetchFar, cacheLine
		case next.pass < passes:
			at, step = at+uintptr(next.ahead+bytes/passes*next.pass), cacheLine/passes
		}
		kernel(rows, k, unsafe.SliceData(w), between, unsafe.SliceData(x), ldx, unsafe.SliceData(y), 4*ldy, at, step)
	}}
}

// narrowBy makes a level's product of a kernel family that takes up to rows rows of one panel.
func narrowBy(f PanelFormat, rows int, kernel panelKernel, activations func(dst []byte, x []float32)) narrow {
	p := passBy(f, rows, 1, kernel)
	return narrow{p, p, activations}
}

// quantizeBy makes a level's rounding of rows of a generated kernel.
func quantizeBy(f PanelFormat, kernel func(dst *byte, x *float32, groups int)) func(dst []byte, x []float32) {
	return func(dst []byte, x []float32) {
		_ = dst[f.activationBytes(len(x))-1]
		kernel(unsafe.SliceData(dst), unsafe.SliceData(x), len(x)/quantGroupLen)
	}
}
