//go:build (amd64 || arm64) && !purego

package kernel

// halfStep is the number of elements that the conversions take at a time.
const halfStep = 16

// toHalfBy is toHalfPortable with a kernel for whole steps.
func toHalfBy(kernel func(dst *uint16, x *float32, n int)) func(y []uint16, x []float32) {
	return func(y []uint16, x []float32) {
		y = y[:len(x)]
		whole := len(x) / halfStep * halfStep
		if whole > 0 {
			kernel(&y[0], &x[0], whole)
		}
		toHalfPortable(y[whole:], x[whole:])
	}
}

// fromHalfBy is fromHalfPortable with a kernel for whole steps.
func fromHalfBy(kernel func(dst *float32, x *uint16, n int)) func(y []float32, x []uint16) {
	return func(y []float32, x []uint16) {
		y = y[:len(x)]
		whole := len(x) / halfStep * halfStep
		if whole > 0 {
			kernel(&y[0], &x[0], whole)
		}
		fromHalfPortable(y[whole:], x[whole:])
	}
}
