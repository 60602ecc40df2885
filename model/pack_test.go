package model

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"krait/autograd"
	"krait/quant"
	"krait/tensor"
)

var narrow = []quant.Format{quant.BF16, quant.Q8, quant.Q4}

func packable(t *testing.T, tied bool) *Model {
	t.Helper()
	c := Config{HiddenSize: 96, IntermediateSize: 130, NumHiddenLayers: 3, NumAttentionHeads: 6, NumKeyValueHeads: 2, HeadDim: 16, VocabSize: 77,
		MaxPositionEmbeddings: 64, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: tied}
	c.Mamba = MambaFor(&c, []int{1})
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, p := range m.Params {
		for i := range p.Data {
			p.Data[i] += float32(rng.NormFloat64() * 0.1)
		}
	}
	return m
}

func logits(m *Model, tokens []int32) []float32 {
	return m.Logits(nil, m.Forward(nil, Single(tokens, nil))).Data
}

// TestPackAs: a narrow model computes about what it computed in f32 (the weights are random, so errors grow), in verification the same bits
// as token by token, and packing its values changes nothing.
func TestPackAs(t *testing.T) {
	tokens := []int32{5, 9, 70, 0, 1, 2, 33, 7, 7, 7, 12, 60, 3, 4, 20, 21, 22, 76}
	for _, tied := range []bool{true, false} {
		exact := logits(packable(t, tied), tokens)
		for _, f := range narrow {
			m := packable(t, tied)
			m.PackAs(f)
			m.Pack() // stays
			if m.Format() != f {
				t.Fatalf("packed as %v: %v", f, m.Format())
			}
			got := logits(m, tokens)
			if slices.Equal(got, exact) {
				t.Errorf("%v, tied %v: nothing was rounded", f, tied)
			}
			limit := map[quant.Format]float32{quant.BF16: 0.05, quant.Q8: 0.1, quant.Q4: 0.7}[f]
			if d := distance(got, exact); d > limit {
				t.Errorf("%v, tied %v: logits are off by %.3f of their size", f, tied, d)
			}
			verified, plain := m.NewState(), m.NewState()
			for _, run := range [][]int32{tokens[:1], tokens[1:4], tokens[4:9], tokens[9:]} {
				verified.Mark()
				part := m.Logits(nil, m.Forward(nil, Single(run, verified)))
				verified.Keep(len(run))
				for i, token := range run {
					if one := m.Logits(nil, m.Forward(nil, Single([]int32{token}, plain))); !slices.Equal(part.Row(i), one.Data) {
						t.Errorf("%v, tied %v: row %d of a run of %d differs from the token's alone", f, tied, i, len(run))
					}
				}
			}
			checkMatrices(t, m, f, tied)
			restored := frozen(t, m, f)
			if !slices.Equal(logits(restored, tokens), got) || restored.NumParams() != m.NumParams() {
				t.Errorf("%v, tied %v: a model of the same matrices is another", f, tied)
			}
			m.PackAs(quant.F32)
			if !slices.Equal(logits(m, tokens), exact) {
				t.Errorf("%v: f32 did not come back", f)
			}
		}
	}
}

// frozen returns a model for inference that is packed from the weights of m.
func frozen(t *testing.T, m *Model, f quant.Format) *Model {
	t.Helper()
	z, err := NewFrozen(m.Config, f)
	if err != nil {
		t.Fatal(err)
	}
	from := map[string]*tensor.Tensor{}
	for name, p := range m.Params {
		from[name] = p
	}
	matrices := map[string]bool{}
	for name, p := range z.Params {
		if p.Data == nil {
			matrices[name] = true
			continue
		}
		copy(p.Data, from[name].Data)
	}
	err = z.PackFrom(func(name string, out, in int, g quant.Format) (quant.Matrix, error) {
		if !matrices[name] {
			t.Errorf("%v: %s has numbers and is packed", f, name)
		}
		delete(matrices, name)
		return quant.Quantize(from[name].Data, out, in, g, nil), nil
	})
	if err != nil || len(matrices) > 0 {
		t.Fatalf("%v: %v; never packed: %v", f, err, matrices)
	}
	return z
}

// TestFrozen: a model without float32 matrices computes the bits of one that has them, and says what it cannot do.
func TestFrozen(t *testing.T) {
	tokens := []int32{5, 9, 70, 0, 1, 2, 33}
	for _, tied := range []bool{true, false} {
		for _, f := range append([]quant.Format{quant.F32}, narrow...) {
			m := packable(t, tied)
			m.PackAs(f)
			z := frozen(t, m, f)
			z.Pack()
			if z.Format() != f || z.NumParams() != m.NumParams() || !slices.Equal(logits(z, tokens), logits(m, tokens)) {
				t.Errorf("%v, tied %v: frozen, it is another model", f, tied)
			}
			mustPanic(t, "PackAs", func() { z.PackAs(f) })
			mustPanic(t, "Train", func() { z.Train(func(string) bool { return true }) })
		}
	}
	z, err := NewFrozen(packable(t, true).Config, quant.Q8)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := z.PackFrom(func(string, int, int, quant.Format) (quant.Matrix, error) { return quant.Matrix{}, broken }); err != broken {
		t.Error("the error of a matrix was lost:", err)
	}
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("a frozen model allows %s", what)
		}
	}()
	f()
}

func distance(a, b []float32) float32 {
	var d, size float32
	for i := range a {
		d = max(d, a[i]-b[i], b[i]-a[i])
		size = max(size, b[i], -b[i])
	}
	return d / size
}

// checkMatrices looks at which weights are narrow, and at their values packed again.
func checkMatrices(t *testing.T, m *Model, f quant.Format, tied bool) {
	t.Helper()
	formats := map[string]quant.Format{}
	for name, g := range m.Formats(f) {
		formats[name] = g
	}
	n := 0
	for name, x := range m.Matrices {
		n++
		want := f
		if strings.HasPrefix(name, "model.embed") || name == "lm_head.weight" {
			want = f.Head()
		} else if strings.HasSuffix(name, "v_proj.weight") {
			want = f.Values()
		}
		if x.Format() != want || formats[name] != want {
			t.Errorf("%s is %v, listed as %v, want %v", name, x.Format(), formats[name], want)
		}
		out, in := x.Dims()
		values := make([]float32, out*in)
		x.Dequantize(values)
		if again := quant.Quantize(values, out, in, x.Format(), nil); !bytes.Equal(again.Data(), x.Data()) {
			t.Errorf("%s: packing its values changes it", name)
		}
	}
	if want := 7 + 2*5 + 2; n != len(formats) || (tied && n != want-1) || (!tied && n != want) {
		t.Errorf("%d narrow matrices, %d listed", n, len(formats))
	}
}

// TestTrainingIsF32: a model that is packed narrow still trains its float32 weights.
func TestTrainingIsF32(t *testing.T) {
	tokens := []int32{1, 2, 3}
	m := packable(t, true)
	want := logits(m, tokens)
	m.PackAs(quant.Q4)
	m.Train(func(string) bool { return true })
	tape := autograd.NewTape()
	if got := m.Logits(tape, m.Forward(tape, Single(tokens, nil))).Data; !slices.Equal(got, want) {
		t.Error("training reads the packed weights")
	}
}
