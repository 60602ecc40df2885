package autograd

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The gradients of results must come and go: in a chain of operations no more than a few may have memory at a time, in the second step as in
// the first, and the result must not depend on what the memory held.
func TestGradientsEnd(t *testing.T) {
	const rows, width, depth = 64, 128, 30
	rng := rand.New(rand.NewPCG(5, 6))
	w := random(rng, 0.1, width, width)
	x := random(rng, 1, rows, width)
	w.Grad = make([]float32, len(w.Data))
	tape := NewTape()
	var first []float32
	for step := range 3 {
		tape.Reset()
		clear(w.Grad)
		h := x
		for range depth {
			h = Add(tape, h, SiLU(tape, Linear(tape, h, Dense{Tensor: w}, nil)))
		}
		for i := range tape.Grad(h) {
			h.Grad[i] = float32(i % 7)
		}
		tape.Backward()
		if got, most := tape.pool.Bytes(), 4*4*rows*width; got > most {
			t.Errorf("step %d: gradients of %d bytes, want at most %d", step, got, most)
		}
		if step == 0 {
			first = slices.Clone(w.Grad)
		} else if !slices.Equal(first, w.Grad) {
			t.Fatalf("step %d has another gradient than the first", step)
		}
	}
	before := tape.Bytes()
	tape.Reset()
	y := Linear(tape, x, Dense{Tensor: w}, nil)
	tape.Grad(y)
	tape.Reset() // without Backward: the gradient's memory must come back
	if got := tape.Bytes(); got != before {
		t.Errorf("the tape holds %d bytes, before %d", got, before)
	}
}
