package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/kernel"
	"krait/model"
	"krait/quant"
)

// TestNarrowSpeculation: with weights in every format, at every level of kernels, speculative and batched output are the plain output's bytes.
func TestNarrowSpeculation(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 12))
	was := kernel.Level()
	defer kernel.SetLevel(was)
	for _, level := range kernel.Levels() {
		if level == "portable" && testing.Short() {
			continue
		}
		kernel.SetLevel(level)
		for _, f := range []quant.Format{quant.BF16, quant.Q8, quant.Q4} {
			for _, name := range []string{"stories260k", "tiny-hybrid", "tiny-pure", "tiny-mamba1"} {
				load := func() *model.Model {
					if name == "stories260k" {
						return stories(t)
					}
					return tiny(t, name)
				}
				m := load()
				if level == "portable" && m.NumParams() > 100000 {
					continue
				}
				checkNarrowSpeculation(t, fmt.Sprintf("%s %v %s", level, f, name), rng, m, load(), f)
			}
		}
	}
}

func checkNarrowSpeculation(t *testing.T, what string, rng *rand.Rand, m, draft *model.Model, f quant.Format) {
	t.Helper()
	m.PackAs(f)
	draft.PackAs(quant.Q4)
	e := New(m, draft)
	if m.Format() != f {
		t.Fatalf("%s: the engine made it %v", what, m.Format())
	}
	r := Request{Prompt: randomPrompt(rng, m.Config.VocabSize, 20), MaxTokens: 50}
	plain, _ := generate(t, e, r)
	for k := 1; k <= 9; k += 2 {
		s := r
		s.Draft, s.NGram, s.Speculate, s.FixedDepth, s.Branch = draft, k%3 == 0, k, true, k > 5
		if got, _ := generate(t, e, s); !slices.Equal(got, plain) {
			t.Errorf("%s, depth %d: %v, want %v", what, k, got, plain)
		}
	}
	err := e.Batch(context.Background(), 3, requests(r, r, r, r), func(i int, got []int32, _ string) error {
		if !slices.Equal(got, plain) {
			t.Errorf("%s, in a batch: %v, want %v", what, got, plain)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
