package quant

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/autograd"
	"krait/kernel"
)

var _ autograd.Weight = Matrix{}

func gaussian(n int) []float32 {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(rng.NormFloat64() * 0.05)
	}
	return w
}

// TestMatrix holds every format against f32: the values within their error, twice the same, products of the values, bytes there and back.
func TestMatrix(t *testing.T) {
	rms := map[Format]float64{F32: 0, BF16: 0.002, Q8: 0.006, Q4: 0.09} // of Gaussian weights
	for _, s := range [][2]int{{1, 1}, {40, 172}, {33, 64}, {512, 64}, {100, 576}} {
		out, in := s[0], s[1]
		w, x := gaussian(out*in), gaussian(5*in)
		exact := make([]float32, 5*out)
		Quantize(w, out, in, F32, nil).MulRows(exact, x, 5)
		for f, limit := range rms {
			m := Quantize(w, out, in, f, nil)
			if o, i := m.Dims(); o != out || i != in || m.Format() != f {
				t.Fatalf("%v: (%d, %d) of %v", f, o, i, m.Format())
			}
			values := make([]float32, out*in)
			m.Dequantize(values)
			if e := relative(values, w); e > limit {
				t.Errorf("%v %v: relative error %.4f", f, s, e)
			}
			again := Quantize(values, out, in, f, nil)
			if !bytes.Equal(again.Data(), m.Data()) {
				t.Errorf("%v %v: packing the values gives another matrix", f, s)
			}
			y := make([]float32, 5*out)
			m.MulRows(y, x, 5)
			if e := relative(y, exact); out > 1 && e > 1.5*limit+0.008 {
				t.Errorf("%v %v: relative error of a product %.4f", f, s, e)
			}
			if f == F32 {
				continue
			}
			back, err := FromBytes(m.Data(), out, in, f, new(kernel.Memory))
			if err != nil {
				t.Fatal(err)
			}
			z := make([]float32, 5*out)
			if back.MulRows(z, x, 5); !slices.Equal(z, y) {
				t.Errorf("%v %v: the bytes make another matrix", f, s)
			}
			if _, err := FromBytes(m.Data()[1:], out, in, f, nil); err == nil {
				t.Errorf("%v: a byte is missing and nobody says so", f)
			}
		}
	}
}

func relative(a, b []float32) float64 {
	var e, r float64
	for i := range b {
		e += math.Pow(float64(a[i])-float64(b[i]), 2)
		r += math.Pow(float64(b[i]), 2)
	}
	return math.Sqrt(e / r)
}

func TestParse(t *testing.T) {
	for f := F32; f <= Q4; f++ {
		if got, err := Parse(f.String()); err != nil || got != f {
			t.Errorf("%v: %v, %v", f, got, err)
		}
	}
	if _, err := Parse("q5"); err == nil {
		t.Error("q5 was accepted")
	}
	if Q4.Head() != Q8 || BF16.Head() != BF16 {
		t.Error("heads")
	}
}
