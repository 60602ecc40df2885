package loss

import (
	"math"
	"testing"

	"krait/autograd"
	"krait/kernel"
)

// TestTotalVariation compares the loss with its definition in float64, and its gradient with differences of the loss.
func TestTotalVariation(t *testing.T) {
	const rows, width, vocab = 5, 6, 11
	student, teacher := head(1, rows, width, vocab), head(2, rows, width, vocab)
	targets := []int32{0, 3, -1, 10, 2}
	value := func(tape *autograd.Tape) float64 {
		return Distill(tape, student, teacher, targets, Weights{KL: 1, Divergence: TotalVariation}).Sum
	}
	want := 0.0
	for r, target := range targets {
		if target < 0 {
			continue
		}
		p, q := softmax(teacher, r), softmax(student, r)
		for i := range p {
			want += 0.5 * math.Abs(p[i]-q[i])
		}
	}
	student.Hidden.Grad = make([]float32, rows*width)
	if got := value(autograd.NewTape()); math.Abs(got-want) > 1e-5 {
		t.Errorf("total variation %g, want %g", got, want)
	}
	grad := append([]float32(nil), student.Hidden.Grad...)
	if kernel.Sum(grad[2*width:3*width]) != 0 {
		t.Error("a row without a target has a gradient")
	}
	student.Hidden.Grad = nil
	const step = 1e-2
	for i, g := range grad {
		x := &student.Hidden.Data[i]
		was := *x
		*x = was + step
		up := value(nil)
		*x = was - step
		down := value(nil)
		*x = was
		if slope := (up - down) / (2 * step); math.Abs(slope-float64(g)) > 2e-2*max(1, math.Abs(slope)) {
			t.Errorf("gradient %d is %g, differences say %g", i, g, slope)
		}
	}
}
