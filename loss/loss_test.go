package loss

import (
	"math"
	"math/rand/v2"
	"testing"

	"krait/autograd"
	"krait/tensor"
)

func head(seed uint64, rows, width, vocab int) Head {
	rng := rand.New(rand.NewPCG(seed, 1))
	h := Head{Hidden: tensor.New(rows, width), Weight: autograd.Dense{Tensor: tensor.New(vocab, width)}}
	for _, t := range []*tensor.Tensor{h.Hidden, h.Weight.(autograd.Dense).Tensor} {
		for i := range t.Data {
			t.Data[i] = float32(rng.NormFloat64())
		}
	}
	return h
}

// TestDistillAgainstDefinition compares both terms and the gradient of the hidden rows with their definitions in float64; rows that do not count
// must change nothing. The rows cross a chunk.
func TestDistillAgainstDefinition(t *testing.T) {
	const rows, width, vocab = chunkRows + 40, 6, 11
	student, teacher := head(1, rows, width, vocab), head(2, rows, width, vocab)
	targets := make([]int32, rows)
	for i := range targets {
		targets[i] = int32(i % vocab)
		if i%5 == 0 {
			targets[i] = -1
		}
	}
	student.Hidden.Grad = make([]float32, rows*width)
	tape := autograd.NewTape()
	w := Weights{KL: 0.7, CE: 0.3}
	got := Distill(tape, student, teacher, targets, w)
	var kl, ce float64
	counted := 0
	for r, target := range targets {
		ps, pt := softmax(student, r), softmax(teacher, r)
		grad := make([]float64, width)
		if target >= 0 {
			counted++
			ce -= math.Log(ps[target])
			for v := range ps {
				kl += pt[v] * math.Log(pt[v]/ps[v])
				d := w.KL*(ps[v]-pt[v]) + w.CE*ps[v]
				if v == int(target) {
					d -= w.CE
				}
				for i := range grad {
					grad[i] += d * float64(student.Weight.(autograd.Dense).Data[v*width+i])
				}
			}
		}
		for i, want := range grad {
			if d := math.Abs(want - float64(student.Hidden.Grad[r*width+i])); d > 1e-5 {
				t.Fatalf("row %d: gradient %g, want %g", r, student.Hidden.Grad[r*width+i], want)
			}
		}
	}
	if got.Tokens != counted || math.Abs(got.Parts["kl"]-kl) > 1e-4*kl || math.Abs(got.Parts["ce"]-ce) > 1e-4*ce || math.Abs(got.Sum-(w.KL*kl+w.CE*ce)) > 1e-3 {
		t.Errorf("got %+v, want kl %g, ce %g over %d", got, kl, ce, counted)
	}
}

func softmax(h Head, row int) []float64 {
	d := h.Weight.(autograd.Dense)
	p := make([]float64, d.Shape[0])
	var sum float64
	for v := range p {
		for i, x := range h.Hidden.Row(row) {
			p[v] += float64(x) * float64(d.Row(v)[i])
		}
		p[v] = math.Exp(p[v])
		sum += p[v]
	}
	for v := range p {
		p[v] /= sum
	}
	return p
}

// TestSquaredError checks the value and the gradient: a target doubled with its prediction changes nothing.
func TestSquaredError(t *testing.T) {
	x := tensor.Of([]float32{1, 2, 3, 4}, 2, 2)
	x.Grad = make([]float32, 4)
	target := []float32{1, 0, 3, 2} // squares sum to 14, differences to 8: per row 7
	l := SquaredError(autograd.NewTape(), x, target)
	if l.Tokens != 2 || math.Abs(l.Sum-8.0/7) > 1e-6 {
		t.Errorf("got %+v, want 8/7 over 2 rows", l)
	}
	for i, want := range []float32{0, 4.0 / 7, 0, 4.0 / 7} {
		if math.Abs(float64(x.Grad[i]-want)) > 1e-6 {
			t.Errorf("gradient %d is %g, want %g", i, x.Grad[i], want)
		}
	}
}
