//go:build !purego

package kernel

// ssdLanes is 16 where the level has vectors of 16 and p is a multiple, and else 8.
func ssdLanes(p int) int {
	if p%16 == 0 && active.lanes == 16 {
		return 16
	}
	return 8
}

func ssdVector(a *ssdArgs, lanes int) {
	if lanes == 16 {
		ssdStepAVX512(a)
	} else {
		ssdStepAVX2(a)
	}
}
