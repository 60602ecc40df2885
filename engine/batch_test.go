package engine

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"krait/model"
	"krait/sample"
)

// requests returns the next function of a batch over a list.
func requests(list ...Request) func() (Request, bool) {
	i := 0
	return func() (Request, bool) {
		if i == len(list) {
			return Request{}, false
		}
		i++
		return list[i-1], true
	}
}

func runBatch(t testing.TB, e *Engine, width int, list []Request) (outputs [][]int32, finishes []string) {
	t.Helper()
	outputs, finishes = make([][]int32, len(list)), make([]string, len(list))
	err := e.Batch(context.Background(), width, requests(list...), func(i int, tokens []int32, finish string) error {
		outputs[i], finishes[i] = tokens, finish
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return outputs, finishes
}

// TestBatchEqualsGenerate gives the same requests to batches of several widths and to Generate.
func TestBatchEqualsGenerate(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 6))
	for name, m := range map[string]*model.Model{"stories260k": stories(t), "hybrid": randomModel(t, 64, 500, 3, []int{1}, 9), "tiny-pure": tiny(t, "tiny-pure")} {
		draft := subset(t, m, []int{0}, 0.01)
		e := New(m, draft)
		corpus := NewCorpus(text(rng, m.Config.VocabSize, 300, 0.1))
		context := m.Config.MaxPositionEmbeddings
		var list []Request
		for i := range 90 {
			n := 1 + rng.IntN(12)
			if i%10 == 0 {
				n = 1 + rng.IntN(context)
			}
			r := Request{Prompt: randomPrompt(rng, m.Config.VocabSize, n), MaxTokens: 1 + rng.IntN(60), Seed: rng.Uint64(), Stop: []int32{1, 2}}
			if i%3 > 0 {
				r.Sampling = sample.Options{Temperature: 0.5 + rng.Float64(), TopK: rng.IntN(40), TopP: rng.Float64()}
			}
			switch r.FixedDepth = true; i % 5 { // a fixed depth makes sampled output depend on the seed alone
			case 0:
				r.Draft, r.Speculate, r.Branch = draft, 1+rng.IntN(6), i%2 == 0
			case 1:
				r.Draft, r.NGram, r.Corpus, r.Speculate = m, true, corpus, 1+rng.IntN(9)
			case 2:
				r.NGram, r.Speculate = true, 8
			}
			if r.Sampling.Greedy() {
				r.FixedDepth = rng.IntN(2) == 0
			}
			list = append(list, r)
		}
		want := make([][]int32, len(list))
		finish := make([]string, len(list))
		for i, r := range list {
			var stats Stats
			if r.Sampling.Greedy() {
				r.Speculate = 0
			}
			want[i], stats = generate(t, e, r)
			finish[i] = stats.FinishReason
		}
		for _, width := range []int{1, 7, 64} {
			got, reasons := runBatch(t, e, width, list)
			for i := range list {
				if !slices.Equal(got[i], want[i]) || reasons[i] != finish[i] {
					t.Fatalf("%s, width %d, request %d: %v (%s), want %v (%s)", name, width, i, got[i], reasons[i], want[i], finish[i])
				}
			}
		}
	}
}

func BenchmarkBatch(b *testing.B) {
	e := New(stories(b))
	list := make([]Request, 64)
	for i := range list {
		list[i] = Request{Prompt: []int32{1}, MaxTokens: 256, Sampling: sample.Options{Temperature: 1, TopP: 0.95}, Seed: uint64(i)}
	}
	b.ReportAllocs()
	tokens := 0
	for b.Loop() {
		out, _ := runBatch(b, e, 64, list)
		for _, o := range out {
			tokens += len(o)
		}
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}
