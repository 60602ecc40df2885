package model

import (
	"math"
	"slices"
	"testing"

	"krait/quant"
)

// TestSubset: a draft whose head is cut has the logits of the whole head for the tokens that it knows, and -Inf for the others; a short cut
// through the model's own layers has the logits of a copy of these layers, in every format.
func TestSubset(t *testing.T) {
	for _, f := range []quant.Format{quant.F32, quant.BF16, quant.Q8} {
		m := tiny(t, 3, 2, 0, 1)
		layers := seq(m.Config.NumHiddenLayers)[1:]
		vocab := m.Config.VocabSize
		known := []int32{0, 2, 3, int32(vocab - 1)}
		whole, err := Subset(m, layers, nil)
		if err != nil {
			t.Fatal(err)
		}
		cut, err := Subset(m, layers, known)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []*Model{m, whole, cut} {
			x.PackAs(f)
		}
		short, err := Shortcut(m, layers)
		if err != nil {
			t.Fatal(err)
		}
		logits := func(x *Model) []float32 { return x.Logits(nil, x.Forward(nil, Single([]int32{1, 2, 5, 3}, nil))).Data }
		want := logits(whole)
		if got := logits(short); !slices.Equal(got, want) {
			t.Errorf("%v: a short cut differs from a copy of its layers", f)
		}
		for i, got := range logits(cut) {
			if id := int32(i % vocab); !slices.Contains(known, id) {
				if !math.IsInf(float64(got), -1) {
					t.Errorf("%v: token %d, which the head does not know, has %g", f, id, got)
				}
			} else if math.Abs(float64(got-want[i])) > 1e-5 {
				t.Errorf("%v: token %d has %g, want %g", f, id, got, want[i])
			}
		}
	}
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestBadSubset(t *testing.T) {
	m := tiny(t, 3, 2, 0, 1)
	cut, err := Subset(m, []int{0}, []int32{1, 2})
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() (*Model, error){
		"no layer":          func() (*Model, error) { return Subset(m, nil, nil) },
		"no such layer":     func() (*Model, error) { return Subset(m, []int{99}, nil) },
		"tokens descending": func() (*Model, error) { return Subset(m, []int{0}, []int32{3, 1}) },
		"no such token":     func() (*Model, error) { return Subset(m, []int{0}, []int32{3, 1 << 20}) },
		"cut twice":         func() (*Model, error) { return Subset(cut, []int{0}, []int32{1}) },
		"layers descending": func() (*Model, error) { return Shortcut(m, []int{1, 0}) },
		"all layers":        func() (*Model, error) { return Shortcut(m, seq(m.Config.NumHiddenLayers)) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
