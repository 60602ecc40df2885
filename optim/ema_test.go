package optim

import (
	"math"
	"slices"
	"testing"

	"krait/tensor"
)

// TestEMA holds the average against its closed form, decay^n·w0 + (1-decay)·Σ decay^(n-i)·w_i, and swaps it in and out.
func TestEMA(t *testing.T) {
	const decay, steps = 0.9, 7
	x := tensor.New(5, 3)
	for i := range x.Data {
		x.Data[i] = float32(i)
	}
	want := make([]float64, len(x.Data))
	e := NewEMA(decay, []Param{{Tensor: x}})
	for i, w := range x.Data {
		want[i] = math.Pow(decay, steps) * float64(w)
	}
	for n := 1; n <= steps; n++ {
		for i := range x.Data {
			x.Data[i] += float32(math.Sin(float64(n * (i + 1))))
			want[i] += (1 - decay) * math.Pow(decay, float64(steps-n)) * float64(x.Data[i])
		}
		e.Update()
	}
	weights := slices.Clone(x.Data)
	e.Swap()
	for i, v := range x.Data {
		if math.Abs(float64(v)-want[i]) > 1e-5 {
			t.Errorf("element %d is %g, want %g", i, v, want[i])
		}
	}
	if e.Swap(); !slices.Equal(x.Data, weights) {
		t.Error("the weights did not come back")
	}
}
