package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/autograd"
	"krait/quant"
	"krait/tensor"
)

// TestEagle compares a head's rows with the definition of the fusion before its block, and shows that they depend on the hidden rows, in every format.
func TestEagle(t *testing.T) {
	m := tiny(t, 3, 2, 0, 1)
	known := []int32{0, 2, 5}
	rng := rand.New(rand.NewPCG(4, 4))
	head, err := NewEagle(m, []int{2}, known, rng)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*tensor.Tensor{head.Fusion.EmbedNorm.Weight, head.Fusion.HiddenNorm.Weight, head.Fusion.Proj.Weight} {
		for i := range p.Data {
			p.Data[i] = float32(rng.NormFloat64())
		}
	}
	tokens := []int32{1, 2, 5, 3}
	width := m.Config.HiddenSize
	above := autograd.Before(nil, m.Forward(nil, Single(tokens, nil)), []int{len(tokens)})
	b := Single(tokens, nil)
	b.Hidden = above
	fused := tensor.New(len(tokens), width)
	for r, id := range tokens {
		e, h := normalised(head.EmbedTokens.Row(int(id)), head.Fusion.EmbedNorm), normalised(above.Row(r), head.Fusion.HiddenNorm)
		both := slices.Concat(e, h)
		for i := range width {
			for j, w := range head.Fusion.Proj.Weight.Row(i) {
				fused.Row(r)[i] += w * both[j]
			}
		}
	}
	l := head.layout(nil, b)
	want := head.Norm.Forward(nil, head.Blocks[0].Forward(nil, fused, l, 0))
	for i, got := range head.Forward(nil, b).Data {
		if math.Abs(float64(got-want.Data[i])) > 1e-4 {
			t.Fatalf("element %d: %g, want %g", i, got, want.Data[i])
		}
	}
	for i, v := range head.Logits(nil, want).Row(0) {
		if math.IsInf(float64(v), -1) == slices.Contains(known, int32(i)) {
			t.Errorf("token %d of a head that knows %v has %g", i, known, v)
		}
	}
	for _, f := range []quant.Format{quant.F32, quant.BF16, quant.Q8} {
		head.PackAs(f)
		x := head.Forward(nil, b).Clone()
		other := b
		other.Hidden = tensor.New(len(tokens), width)
		if slices.Equal(head.Forward(nil, other).Data, x.Data) {
			t.Errorf("%v: the hidden rows change nothing", f)
		}
	}
}

func normalised(x []float32, n *Norm) []float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = v * n.Weight.Data[i] / float32(math.Sqrt(sum/float64(len(x))+float64(n.Eps)))
	}
	return y
}

func TestBadEagle(t *testing.T) {
	m := tiny(t, 3, 2, 0, 1)
	rng := rand.New(rand.NewPCG(4, 4))
	head, err := NewEagle(m, []int{1}, nil, rng)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() (*Model, error){
		"no such layer":  func() (*Model, error) { return NewEagle(m, []int{9}, nil, rng) },
		"head of a head": func() (*Model, error) { return NewEagle(head, []int{0}, nil, rng) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for what, f := range map[string]func(){
		"a head without hidden rows": func() { head.Forward(nil, Single([]int32{1}, nil)) },
		"a model with hidden rows": func() {
			b := Single([]int32{1}, nil)
			b.Hidden = tensor.New(1, m.Config.HiddenSize)
			m.Forward(nil, b)
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}
