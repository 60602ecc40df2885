//go:build !purego

package kernel

import "math"

// ssdLanes is two registers.
func ssdLanes(int) int { return 8 }

func ssdVector(a *ssdArgs, _ int) { ssdStepNEON(a) }

// exp2By makes powers of 2 of those of e.
func exp2By(exp func(y, x []float32), scale func(y []float32, a float32, x []float32)) func(y, x []float32) {
	return func(y, x []float32) {
		scale(y, math.Ln2, x)
		exp(y, y)
	}
}
