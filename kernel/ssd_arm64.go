//go:build !purego

package kernel

// ssdLanes is two registers.
func ssdLanes(int) int { return 8 }

func ssdVector(a *ssdArgs, _ int) { ssdStepNEON(a) }
