package autograd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/kernel"
	"krait/tensor"
)

// gradTolerance bounds the error of a float32 gradient against fourth-order central differences in float64 of a float32 forward, relative
// to the gradient's root mean square.
const gradTolerance = 1e-3

// check compares the gradients of f with central differences for every element of every input.
func check(t *testing.T, f func(tape *Tape) *tensor.Tensor, inputs ...*tensor.Tensor) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range inputs {
		x.Grad = make([]float32, len(x.Data))
	}
	tape := NewTape()
	y := f(tape)
	weights := make([]float32, len(y.Data))
	for i := range weights {
		weights[i] = float32(rng.NormFloat64())
	}
	copy(tape.Grad(y), weights)
	tape.Backward()
	objective := func() float64 {
		var sum float64
		for i, v := range f(nil).Data {
			sum += float64(v) * float64(weights[i])
		}
		return sum
	}
	for n, x := range inputs {
		var norm, worst float64
		for _, g := range x.Grad {
			norm += float64(g) * float64(g)
		}
		norm = math.Sqrt(norm/float64(len(x.Grad))) + 1e-3
		for i, v := range x.Data {
			const h = 1.0 / 64
			at := func(d float32) float64 {
				x.Data[i] = v + d
				return objective()
			}
			want := (8*(at(h)-at(-h)) - (at(2*h) - at(-2*h))) / (12 * h)
			x.Data[i] = v
			worst = max(worst, math.Abs(want-float64(x.Grad[i]))/norm)
		}
		if worst > gradTolerance {
			t.Errorf("input %d %v: error %.2g of the gradient's RMS, want ≤ %g", n, x.Shape, worst, gradTolerance)
		}
	}
}

func random(rng *rand.Rand, scale float32, shape ...int) *tensor.Tensor {
	x := tensor.New(shape...)
	for i := range x.Data {
		x.Data[i] = scale * float32(rng.NormFloat64())
	}
	return x
}

func TestGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := func(shape ...int) *tensor.Tensor { return random(rng, 1, shape...) }
	runs := []struct{ start, n int }{{0, 19}, {19, 1}, {20, 6}}
	const rows = 26
	t.Run("Embed", func(t *testing.T) {
		table := r(7, 5)
		check(t, func(tp *Tape) *tensor.Tensor { return Embed(tp, table, []int32{1, 6, 1, 0}) }, table)
	})
	t.Run("Linear", func(t *testing.T) {
		x, w, b := r(9, 11), r(5, 11), r(5)
		check(t, func(tp *Tape) *tensor.Tensor { return Linear(tp, x, Dense{Tensor: w}, b) }, x, w, b)
	})
	t.Run("LinearBF16", func(t *testing.T) {
		// Numbers of few bits are bf16 as they are, so the products of all three passes must be those of float32 but for the order of sums.
		whole := func(shape ...int) *tensor.Tensor {
			x := tensor.New(shape...)
			for i := range x.Data {
				x.Data[i] = float32(rng.IntN(255) - 127)
			}
			x.Grad = make([]float32, len(x.Data))
			return x
		}
		x, w := whole(33, 21), whole(40, 21)
		var results [2][]float32
		for i, bf16 := range []bool{false, true} {
			clear(x.Grad)
			clear(w.Grad)
			tp := NewTape()
			y := Linear(tp, x, Dense{Tensor: w, BF16: bf16}, nil)
			for j := range tp.Grad(y) {
				y.Grad[j] = float32(j%251 - 125)
			}
			tp.Backward()
			results[i] = slices.Concat(y.Data, x.Grad, w.Grad)
		}
		if !slices.Equal(results[0], results[1]) { // sums below 2²⁴: no rounding
			t.Error("products of bf16 numbers differ from those of the same numbers as float32")
		}
		clear(x.Row(0))
		x.Data[0] = 1 + 0x1p-12
		if y := Linear(nil, x, Dense{Tensor: w, BF16: true}, nil); y.Data[0] != w.Data[0] {
			t.Errorf("1 + 2⁻¹² times %g is %g: it was not rounded to bf16", w.Data[0], y.Data[0])
		}
	})
	t.Run("Beside", func(t *testing.T) {
		a, b := r(4, 3), r(4, 5)
		check(t, func(tp *Tape) *tensor.Tensor { return Beside(tp, a, b) }, a, b)
		if y := Beside(nil, a, b); !slices.Equal(y.Row(2), slices.Concat(a.Row(2), b.Row(2))) {
			t.Errorf("%v", y.Row(2))
		}
	})
	t.Run("Before", func(t *testing.T) {
		x := r(7, 3)
		lens := []int{4, 1, 2}
		check(t, func(tp *Tape) *tensor.Tensor { return Before(tp, x, lens) }, x)
		y := Before(nil, x, lens)
		for row, from := range []int{-1, 0, 1, 2, -1, -1, 5} {
			want := make([]float32, 3)
			if from >= 0 {
				want = x.Row(from)
			}
			if !slices.Equal(y.Row(row), want) {
				t.Errorf("row %d: %v, want %v", row, y.Row(row), want)
			}
		}
	})
	t.Run("RMSNorm", func(t *testing.T) {
		x, w := r(4, 24), r(24)
		check(t, func(tp *Tape) *tensor.Tensor { return RMSNorm(tp, x, w, 1e-5) }, x, w)
	})
	t.Run("GatedRMSNorm", func(t *testing.T) {
		for _, p := range []int{8, 16, 5} {
			x, z, w := r(5, 3*p), r(5, 3*p), r(3*p)
			check(t, func(tp *Tape) *tensor.Tensor { return GatedRMSNorm(tp, x, z, w, 3, 1e-5) }, x, z, w)
		}
	})
	t.Run("Rope", func(t *testing.T) {
		x := r(5, 24)
		cos, sin := make([]float32, 20), make([]float32, 20)
		for i := range cos {
			s, c := math.Sincos(rng.Float64() * 6)
			cos[i], sin[i] = float32(c), float32(s)
		}
		check(t, func(tp *Tape) *tensor.Tensor { return Rope(tp, x, cos, sin, 3) }, x)
	})
	t.Run("SiLU", func(t *testing.T) {
		x := r(5, 24)
		check(t, func(tp *Tape) *tensor.Tensor { return SiLU(tp, x) }, x)
	})
	t.Run("SwiGLU", func(t *testing.T) {
		g, u := r(5, 24), r(5, 24)
		check(t, func(tp *Tape) *tensor.Tensor { return SwiGLU(tp, g, u) }, g, u)
	})
	t.Run("Add", func(t *testing.T) {
		a, b := r(5, 24), r(5, 24)
		check(t, func(tp *Tape) *tensor.Tensor { return Add(tp, a, b) }, a, b)
	})
	t.Run("AddRow", func(t *testing.T) {
		a, b := r(5, 24), r(24)
		check(t, func(tp *Tape) *tensor.Tensor { return AddRow(tp, a, b) }, a, b)
	})
	t.Run("Mul", func(t *testing.T) {
		a, b := r(5, 24), r(5, 24)
		check(t, func(tp *Tape) *tensor.Tensor { return Mul(tp, a, b) }, a, b)
	})
	t.Run("Split", func(t *testing.T) {
		x := r(5, 10)
		check(t, func(tp *Tape) *tensor.Tensor {
			s := Split(tp, x, 4, 2, 4)
			return Mul(tp, s[0], s[2])
		}, x)
	})
	for _, h := range []Heads{{H: 4, K: 2, P: 8}, {H: 3, K: 3, P: 16}, {H: 4, K: 1, P: 8, Window: 7}, {H: 2, K: 2, P: 40}} {
		t.Run(fmt.Sprintf("Attend%v", h), func(t *testing.T) {
			q, k, v := r(rows, h.H*h.P), r(rows, h.K*h.P), r(rows, h.K*h.P)
			var ar []AttendRun
			for _, x := range runs {
				ar = append(ar, AttendRun{Start: x.start, Len: x.n})
			}
			check(t, func(tp *Tape) *tensor.Tensor { return Attend(tp, q, k, v, h, ar) }, q, k, v)
		})
	}
	t.Run("Conv1D", func(t *testing.T) {
		x, w, b := r(rows, 12), r(12, 1, 4), r(12)
		var cr []ConvRun
		for _, x := range runs {
			cr = append(cr, ConvRun{Start: x.start, Len: x.n})
		}
		check(t, func(tp *Tape) *tensor.Tensor { return Conv1D(tp, x, w, b, cr) }, x, w, b)
	})
	for _, s := range []SSDShape{{4, 2, 8, 8}, {3, 3, 16, 16}, {4, 1, 8, 16}} {
		t.Run(fmt.Sprintf("SSD%v", s), func(t *testing.T) {
			xbc, dt := random(rng, 0.5, rows, s.Width()), r(rows, s.H)
			bias, a, d := r(s.H), random(rng, 0.5, s.H), r(s.H)
			var sr []SSDRun
			for _, x := range runs {
				sr = append(sr, SSDRun{Start: x.start, Len: x.n})
			}
			check(t, func(tp *Tape) *tensor.Tensor { return SSD(tp, xbc, dt, bias, a, d, s, sr) }, xbc, dt, bias, a, d)
		})
	}
}

// TestLongAttention crosses the block of query rows, the panels and the grids of key blocks and parts, with one head, whose parts are cut over
// the cores when there are few rows.
func TestLongAttention(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const n = 2400
	h := Heads{H: 2, K: 1, P: 32}
	q, k, v := random(rng, 1, n, 64), random(rng, 1, n, 32), random(rng, 1, n, 32)
	for _, h.KV = range []kernel.KVFormat{kernel.KVF32, kernel.KVF16} {
		for _, h.Window = range []int{0, 40, 1500} {
			whole := Attend(nil, q, k, v, h, []AttendRun{{0, n, nil}})
			cache := []kernel.KV{{Format: h.KV}}
			for at := 0; at < n; {
				step := min(n-at, 1+rng.IntN(9))
				if at < 2000 {
					step += rng.IntN(200)
				}
				y := Attend(nil, q.Slice(at, at+step), k.Slice(at, at+step), v.Slice(at, at+step), h, []AttendRun{{0, step, cache}})
				for i, got := range y.Data {
					if want := whole.Data[at*64+i]; got != want {
						t.Fatalf("%v, window %d: token %d in a run of %d: %g, alone in one run %g", h.KV, h.Window, at, step, got, want)
					}
				}
				at += step
			}
		}
	}
}
