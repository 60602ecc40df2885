package checkpoint

import (
	"context"
	"math"
	"strings"
	"testing"

	"krait/autograd"
	"krait/internal/golden"
	"krait/loss"
	"krait/model"
	"krait/optim"
	"krait/train"
)

// TestGoldenTraining repeats ten optimiser steps of the float64 reference: losses, norms, rates and the weights that result.
func TestGoldenTraining(t *testing.T) {
	e := golden.Open(t, "tiny-train")
	c, err := Load(golden.Dir(t, "tiny-hybrid"))
	if err != nil {
		t.Fatal(err)
	}
	m, b, targets := c.Model, goldenBatch(e), e.Ints("targets")
	m.Train(func(string) bool { return true })
	var params []optim.Param
	for name, p := range m.Params {
		params = append(params, optim.Param{Name: name, Tensor: p, Scale: 1, Decay: len(p.Shape) >= 2 && !strings.HasSuffix(name, "conv1d.weight")})
	}
	var losses, norms, rates []float32
	r := &train.Run[model.Batch]{
		Config:    train.Config{Steps: 10, Schedule: optim.Schedule{Peak: 1e-2, Warmup: 3, Total: 10}, Clip: 1},
		Optimizer: optim.NewAdamW(optim.Config{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1}, params),
		Next:      func() model.Batch { return b },
		Loss: func(tape *autograd.Tape, b model.Batch) loss.Total {
			return loss.CrossEntropy(tape, loss.Head{Hidden: m.Forward(tape, b), Weight: m.Head()}, targets)
		},
		Log: func(s train.Step) error {
			losses, norms, rates = append(losses, float32(s.Loss)), append(norms, float32(s.GradNorm)), append(rates, float32(s.LR))
			return nil
		},
	}
	if err := r.Loop(context.Background()); err != nil {
		t.Fatal(err)
	}
	for what, x := range map[string]struct {
		got       []float32
		tolerance float64
	}{"losses": {losses, 2e-5}, "grad_norms": {norms, 1e-4}, "lr": {rates, 1e-6}} {
		want := e.Floats(what)
		for i, w := range want {
			if d := math.Abs(float64(x.got[i])-w) / math.Max(w, 1e-12); d > x.tolerance && !(w == 0 && x.got[i] == 0) {
				t.Errorf("%s of step %d: %g, want %g", what, i, x.got[i], w)
			}
		}
	}
	for name, p := range m.Params {
		golden.Close(t, "final "+name, p.Data, e.Floats("final."+name), 1e-3) // Adam magnifies what nearly cancels in a gradient
	}
}

// TestAccumulation checks that two batches of unequal length give the gradients of the two together: sums travel, means are made once.
func TestAccumulation(t *testing.T) {
	e := golden.Open(t, "tiny-hybrid")
	c, err := Load(golden.Dir(t, "tiny-hybrid"))
	if err != nil {
		t.Fatal(err)
	}
	m, b, targets := c.Model, goldenBatch(e), e.Ints("targets")
	m.Train(func(string) bool { return true })
	grads := func(parts ...int) map[string][]float32 {
		tape, row, run := autograd.NewTape(), 0, 0
		for _, runs := range parts {
			n := 0
			for _, r := range b.Runs[run : run+runs] {
				n += r.Len
			}
			tape.Reset()
			part := model.Batch{Tokens: b.Tokens[row : row+n], Runs: b.Runs[run : run+runs]}
			loss.CrossEntropy(tape, loss.Head{Hidden: m.Forward(tape, part), Weight: m.Head()}, targets[row:row+n])
			tape.Backward()
			row, run = row+n, run+runs
		}
		g := map[string][]float32{}
		for name, p := range m.Params {
			g[name] = append([]float32(nil), p.Grad...)
			clear(p.Grad)
		}
		return g
	}
	whole, parts := grads(3), grads(1, 2)
	for name, w := range whole {
		want := make([]float64, len(w))
		for i, v := range w {
			want[i] = float64(v)
		}
		golden.Close(t, name, parts[name], want, 1e-5)
	}
}

// TestPacking perturbs one document of a packed batch: the logits of the others must not move by a bit.
func TestPacking(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		m, b := c.Model, goldenBatch(e)
		before := append([]float32(nil), m.Logits(nil, m.Forward(nil, b)).Data...)
		first := b.Runs[0].Len
		for i := range first {
			b.Tokens[i] = (b.Tokens[i] + 7) % int32(m.Config.VocabSize)
		}
		after := m.Logits(nil, m.Forward(nil, b)).Data
		vocab := m.Config.VocabSize
		changed := false
		for i, v := range after {
			if i < first*vocab {
				changed = changed || v != before[i]
			} else if v != before[i] {
				t.Fatalf("%s: logit %d of row %d moved from %g to %g", name, i%vocab, i/vocab, before[i], v)
			}
		}
		if !changed {
			t.Fatalf("%s: the perturbed document's own logits did not move", name)
		}
	}
}

// TestCausality changes the last token of a document: no logit before it may move by a bit.
func TestCausality(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "mistral-window", "tiny-mamba1"} {
		e := golden.Open(t, name)
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		m, b := c.Model, goldenBatch(e)
		n := b.Runs[0].Len
		tokens := append([]int32(nil), b.Tokens[:n]...)
		before := m.Logits(nil, m.Forward(nil, model.Single(tokens, nil)))
		tokens[n-1] = (tokens[n-1] + 1) % int32(m.Config.VocabSize)
		after := m.Logits(nil, m.Forward(nil, model.Single(tokens, nil)))
		for i, v := range after.Data[:(n-1)*m.Config.VocabSize] {
			if v != before.Data[i] {
				t.Fatalf("%s: logit %d moved", name, i)
			}
		}
	}
}
