package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/model"
	"krait/quant"
	"krait/sample"
)

// chainOf returns what a head must guess behind tokens: computed from nothing, in one pass for each guess.
func chainOf(t *testing.T, target, head *model.Model, tokens []int32, k int) (chain []int32) {
	t.Helper()
	n, width := len(tokens), target.Config.HiddenSize
	above := &above{width: width}
	if n > 1 {
		above.saw(0, target.Forward(nil, model.Single(tokens[:n-1], nil)).Data)
	}
	all := slices.Clone(tokens)
	for range k {
		b := model.Single(all, nil)
		b.Hidden = above.before(nil, 0, len(all))
		hidden := head.Forward(nil, b)
		last := hidden.Slice(len(all)-1, len(all))
		x, err := sample.Argmax(head.Logits(nil, last).Data)
		if err != nil {
			t.Fatal(err)
		}
		above.saw(len(all)-1, last.Data)
		all = append(all, x)
	}
	return all[n:]
}

// TestHeadReadsTheTarget compares every proposal of draft heads with one computed from nothing: of attention and of Mamba layers, with and without
// branches, behind prompts that cross the pieces of a prefill, and after rounds that nobody drafted for.
func TestHeadReadsTheTarget(t *testing.T) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(*seed, 31))
	m := randomModel(t, 40, 0, 4, []int{1, 3}, 33)
	for name, head := range map[string]*model.Model{"attention": eagle(t, m, []int{3}, nil, 0.2, 34), "mamba": eagle(t, m, []int{0, 2}, nil, 0.2, 35)} {
		e := New(m, head)
		for _, n := range []int{1, 2, 30, 300} {
			for _, branch := range []bool{false, true} {
				r := Request{Prompt: randomPrompt(rng, 40, n), MaxTokens: 60, Draft: head, Speculate: 4, FixedDepth: true, Branch: branch}
				g := e.newGeneration(r, new(Stats))
				if err := g.prefill(ctx); err != nil {
					t.Fatal(err)
				}
				for round := range 14 {
					if idle := round > 4 && round < 8; idle {
						g.Speculate = 0
					} else {
						g.Speculate = 4
					}
					tokens := slices.Clone(g.tokens)
					if err := g.round(ctx); err != nil {
						t.Fatal(err)
					}
					if g.Speculate == 0 {
						continue
					}
					got := g.fed[g.known+g.second:]
					if want := chainOf(t, m, head, tokens, 4); !slices.Equal(got, want) {
						t.Fatalf("%s, prompt of %d, branch %v, round %d: guesses %v, want %v", name, n, branch, round, got, want)
					}
				}
				g.close(e)
			}
		}
	}
}

// TestHeadEverywhere: with a head, output is that of plain decoding and as many guesses are right in batches and in a conversation as in a fresh
// generation, with wide and narrow weights.
func TestHeadEverywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 32))
	for _, f := range []quant.Format{quant.F32, quant.Q8} {
		m := wideModel(t)
		head := eagle(t, m, []int{m.Config.NumHiddenLayers - 1}, nil, 0.02, 36)
		m.PackAs(f)
		head.PackAs(f)
		e := New(m, head)
		vocab := m.Config.VocabSize
		var all []Request
		var want [][]int32
		for i, n := range []int{1, 40, 270} {
			r := Request{Prompt: randomPrompt(rng, vocab, n), MaxTokens: 20}
			plain, _ := generate(t, e, r)
			r.Draft, r.Speculate, r.FixedDepth, r.Branch = head, 3, true, i%2 == 0
			got, _ := generate(t, e, r)
			if !slices.Equal(got, plain) {
				t.Fatalf("%v, prompt of %d: %v, want %v", f, n, got, plain)
			}
			all, want = append(all, r), append(want, plain)
		}
		outputs, _ := runBatch(t, e, 3, all)
		for i, got := range outputs {
			if !slices.Equal(got, want[i]) {
				t.Errorf("%v, request %d of a batch: %v, want %v", f, i, got, want[i])
			}
		}
		s := e.NewSession(head)
		said := randomPrompt(rng, vocab, 10) // it stays within the scan's first chunk: behind it, a prompt's bits are not those of an answer
		for n := range 5 {
			if n == 3 { // what was said is told otherwise
				said = said[:len(said)-6]
			}
			r := Request{Prompt: said, MaxTokens: 8, Draft: head, Speculate: 3, FixedDepth: true}
			got, stats := turn(t, s, r)
			fresh, freshStats := generate(t, e, r)
			if !slices.Equal(got, fresh) || stats.Accepted != freshStats.Accepted || stats.Rounds != freshStats.Rounds {
				t.Errorf("%v, turn %d: %v with %d of %d accepted, a fresh generation gives %v with %d of %d", f, n, got, stats.Accepted, stats.Drafted, fresh, freshStats.Accepted, freshStats.Drafted)
			}
			said = append(append(said, got...), randomPrompt(rng, vocab, 3)...)
		}
	}
}

// TestAbove: rows come in pieces that overlap or leave gaps, and go from both ends.
func TestAbove(t *testing.T) {
	a := &above{width: 1}
	a.saw(0, []float32{1, 2, 3})
	a.saw(1, []float32{9, 9, 4}) // the first two are there
	a.saw(6, []float32{7})
	if got := a.before(nil, 0, 8).Data; !slices.Equal(got, []float32{0, 1, 2, 3, 4, 0, 0, 7}) {
		t.Errorf("%v", got)
	}
	a.forget(2)
	b := a.clone()
	a.cut(4)
	if got := a.before(nil, 1, 5).Data; !slices.Equal(got, []float32{0, 0, 3, 4, 0}) || a.first != 2 {
		t.Errorf("%v from %d on", got, a.first)
	}
	if b.forget(50); b.end() != 7 || len(b.rows) != 0 {
		t.Errorf("%v from %d on", b.rows, b.first)
	}
}
