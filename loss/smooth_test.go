package loss

import (
	"math"
	"testing"

	"krait/autograd"
)

// TestSmoothL1 compares with the definition and the gradient with differences; a row without a target does not count.
func TestSmoothL1(t *testing.T) {
	x, y := head(3, 3, 5, 2).Hidden, head(4, 3, 5, 2).Hidden
	x.Row(0)[1] += 4
	targets := []int32{7, -1, 0}
	x.Grad = make([]float32, len(x.Data))
	got := SmoothL1(autograd.NewTape(), x, y.Data, targets, 0.5)
	value := func() float64 {
		sum := 0.0
		for r, target := range targets {
			for i, v := range x.Row(r) {
				if e := math.Abs(float64(v - y.Row(r)[i])); target < 0 {
				} else if e < 1 {
					sum += e * e / 2
				} else {
					sum += e - 0.5
				}
			}
		}
		return 0.5 * sum / 5
	}
	if want := value(); math.Abs(got-want) > 1e-6 {
		t.Errorf("%g, want %g", got, want)
	}
	for i := range x.Data {
		const h = 1.0 / 512
		x.Data[i] += h
		up := value()
		x.Data[i] -= 2 * h
		want := (up - value()) / (2 * h)
		x.Data[i] += h
		if math.Abs(want-float64(x.Grad[i])) > 1e-3 {
			t.Errorf("element %d: gradient %g, want %g", i, x.Grad[i], want)
		}
	}
}
