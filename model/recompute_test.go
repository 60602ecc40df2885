package model

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"krait/autograd"
)

// TestRecompute: the gradients of every weight are the same bits with and without recomputation, whatever is frozen, with keys and values in f16 too;
// the activations of many layers take less memory; and runs with a state, which cannot be run twice, are left alone.
func TestRecompute(t *testing.T) {
	b := Batch{Tokens: make([]int32, 90), Runs: []Run{{Len: 61}, {Len: 1}, {Len: 28}}}
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range b.Tokens {
		b.Tokens[i] = int32(rng.IntN(13))
	}
	weights := make([]float32, 90*24)
	for i := range weights {
		weights[i] = float32(rng.NormFloat64())
	}
	gradients := func(m *Model, trained func(string) bool) (all [][]float32, bytes int) {
		m.Train(trained)
		tape := autograd.NewTape()
		for range 2 { // the second step meets memory that the first one left
			tape.Reset()
			y := m.Forward(tape, b)
			copy(tape.Grad(y), weights)
			tape.Backward()
		}
		for _, p := range m.Params {
			all = append(all, slices.Clone(p.Grad))
		}
		return all, tape.Bytes()
	}
	for name, m := range map[string]*Model{
		"hybrid": tiny(t, 1, 2, 0, 1), "window": tiny(t, 2, 2, 7, 0, 2), "attention, f16": halfKV(tiny(t, 3, 2, 0, 0, 1, 2)), "mamba1": tinyLike(t, 4, 2, 0, []int{1}, mamba1),
	} {
		for what, trained := range map[string]func(string) bool{
			"all": func(string) bool { return true }, "mixers": func(n string) bool { return strings.Contains(n, ".mamba.") || strings.Contains(n, ".self_attn.") },
			"the last layer": func(n string) bool { return strings.Contains(n, "layers.2.") },
		} {
			m.Recompute(false)
			want, _ := gradients(m, trained)
			m.Recompute(true)
			got, _ := gradients(m, trained)
			nonzero := false
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Fatalf("%s, %s: the gradient of weight %d differs", name, what, i)
				}
				nonzero = nonzero || slices.ContainsFunc(got[i], func(g float32) bool { return g != 0 })
			}
			if !nonzero {
				t.Errorf("%s, %s: no gradient", name, what)
			}
		}
	}
	deep := tinyLike(t, 1, 2, 0, []int{1, 3, 5, 7, 9, 11}, func(c *Config) { c.NumHiddenLayers, c.IntermediateSize = 12, 2000 })
	all := func(string) bool { return true }
	_, kept := gradients(deep, all)
	deep.Recompute(true)
	if _, less := gradients(deep, all); less > kept/3 {
		t.Errorf("twelve layers hold %d bytes of activations with recomputation, %d without", less, kept)
	}
	m := tiny(t, 1, 2, 0, 0, 1, 2)
	m.Train(func(string) bool { return false })
	m.Recompute(true)
	s := m.NewState()
	m.Forward(autograd.NewTape(), Single([]int32{1, 2, 3}, s))
	if s.Len() != 3 {
		t.Errorf("a state of %d tokens, want 3", s.Len())
	}
}
