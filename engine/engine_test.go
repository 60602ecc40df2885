package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"krait/model"
	"krait/sample"
)

func TestReferenceContinuations(t *testing.T) {
	e := New(stories(t))
	for _, ref := range references(t) {
		got, stats := generate(t, e, ref.request())
		if !slices.Equal(got, ref.Greedy) {
			t.Errorf("prompt %v: %v, want %v", ref.Prompt, got, ref.Greedy)
		}
		want := FinishLength
		if ref.Greedy[len(ref.Greedy)-1] == 1 {
			want = FinishStop
		}
		if stats.FinishReason != want || stats.PromptTokens != len(ref.Prompt) {
			t.Errorf("prompt %v: %+v, want finish %q", ref.Prompt, stats, want)
		}
	}
}

// TestGreedySpeculation compares speculative with plain output: targets of every kind, drafts from useless to perfect, n-grams, every depth.
func TestGreedySpeculation(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 2))
	for name, m := range map[string]*model.Model{
		"stories260k": stories(t), "tiny-hybrid": tiny(t, "tiny-hybrid"), "tiny-pure": tiny(t, "tiny-pure"), "llama-gqa": tiny(t, "llama-gqa"),
		"mistral-window": tiny(t, "mistral-window"), "random hybrid": randomModel(t, 40, 0, 4, []int{1}, 3),
	} {
		vocab, layers := m.Config.VocabSize, make([]int, m.Config.NumHiddenLayers)
		for i := range layers {
			layers[i] = i
		}
		drafts := map[string]*model.Model{
			"none": nil, "itself": m, "nearly itself": subset(t, m, layers, 0.02), "first layer": subset(t, m, layers[:1], 0), "last layer": subset(t, m, layers[len(layers)-1:], 0),
			"head of every third token": cutHead(t, m, 3), "short cut": shortcut(t, m), "eagle": eagle(t, m, layers[len(layers)-1:], nil, 0.05, 16), "eagle of every second token": eagle(t, m, layers[:1], []int32{0, 2, 4, 6, 8}, 0.05, 17),
			"larger vocabulary":  randomModel(t, vocab+9, 0, 1, []int{0}, 14),
			"smaller vocabulary": randomModel(t, vocab/2, 0, 1, []int{0}, 15),
			"random attention":   randomModel(t, vocab, 0, 1, []int{0}, 4), "random hybrid": randomModel(t, vocab, 0, 2, []int{0}, 5), "random mamba": randomModel(t, vocab, 40, 1, nil, 6),
		}
		e := New(m, slices.Collect(values(drafts))...)
		corpus := NewCorpus(text(rng, vocab, 300, 0.1))
		for _, n := range []int{1, 40} {
			r := Request{Prompt: randomPrompt(rng, vocab, n), MaxTokens: 70}
			plain, _ := generate(t, e, r)
			for draft, d := range drafts {
				for k := 1; k <= 12; k++ {
					if testing.Short() && k%5 != 2 {
						continue
					}
					s := r
					s.Draft, s.NGram, s.Speculate, s.FixedDepth = d, d == nil || k%3 == 0, k, k%2 == 0
					if k%4 == 0 {
						s.Corpus = corpus
					}
					s.Branch = k%4 < 2 // with a fixed depth, k%4 == 0
					got, stats := generate(t, e, s)
					if !slices.Equal(got, plain) {
						t.Fatalf("%s, draft %s, depth %d, prompt %v: %v, want %v", name, draft, k, s.Prompt, got, plain)
					}
					if draft == "itself" && !s.NGram && s.Corpus == nil && s.FixedDepth && stats.Accepted != stats.Drafted {
						t.Fatalf("%s drafts for itself, depth %d: %+v", name, k, stats)
					}
				}
			}
		}
	}
}

func values[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestLongPrompt crosses the grids of prefill and of attention.
func TestLongPrompt(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 3))
	m := randomModel(t, 30, 0, 3, []int{2}, 7)
	e := New(m)
	for _, n := range []int{255, 256, 257, 258, 511, 530, 800} {
		r := Request{Prompt: randomPrompt(rng, 30, n), MaxTokens: 60}
		plain, _ := generate(t, e, r)
		r.Speculate, r.FixedDepth, r.Draft = 5, true, subset(t, m, []int{0, 2}, 0.01)
		if got, _ := generate(t, e, r); !slices.Equal(got, plain) {
			t.Fatalf("prompt of %d: %v, want %v", n, got, plain)
		}
		r.NGram = true
		if got, _ := generate(t, e, r); !slices.Equal(got, plain) {
			t.Fatalf("prompt of %d with n-grams: %v, want %v", n, got, plain)
		}
	}
}

// TestStopInsideBlock makes every token of a plain output the stop token in turn, with a draft whose tokens are all accepted.
func TestStopInsideBlock(t *testing.T) {
	m := stories(t)
	e := New(m)
	r := Request{Prompt: []int32{1}, MaxTokens: 40}
	plain, _ := generate(t, e, r)
	for _, stop := range plain {
		s := r
		s.Stop, s.Draft, s.Speculate, s.FixedDepth = []int32{511, stop}, m, 7, true
		got, stats := generate(t, e, s)
		if want := plain[:slices.Index(plain, stop)+1]; !slices.Equal(got, want) || stats.FinishReason != FinishStop {
			t.Fatalf("stop at %d: %v (%s), want %v", stop, got, stats.FinishReason, want)
		}
	}
}

// TestContextEnds fills the context: 128 positions are fed, and the token behind the last of them is produced.
func TestContextEnds(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "llama-gqa"} {
		m := tiny(t, name)
		e := New(m)
		for _, n := range []int{1, 100, 127, 128} {
			r := Request{Prompt: slices.Repeat([]int32{7}, n), MaxTokens: 1000}
			plain, stats := generate(t, e, r)
			if len(plain) != 129-n || stats.FinishReason != FinishLength {
				t.Fatalf("%s, prompt of %d: %d tokens (%s)", name, n, len(plain), stats.FinishReason)
			}
			r.Draft, r.Speculate, r.FixedDepth = m, 9, true
			if got, stats := generate(t, e, r); !slices.Equal(got, plain) || stats.FinishReason != FinishLength {
				t.Fatalf("%s, prompt of %d, speculative: %v, want %v", name, n, got, plain)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	m := tiny(t, "tiny-hybrid")
	e := New(m)
	broken := subset(t, m, []int{0}, 0)
	broken.Norm.Weight.Data[0] = float32(math.NaN())
	for want, r := range map[string]Request{
		"prompt is empty": {MaxTokens: 1},
		"prompt has 129 tokens, the model's context has 128": {Prompt: make([]int32, 129), MaxTokens: 1},
		"max tokens is 0": {Prompt: []int32{1}},
		"prompt token 1 is 61, the vocabulary has 61":    {Prompt: []int32{1, 61}, MaxTokens: 1},
		"prompt token 0 is -1":                           {Prompt: []int32{-1}, MaxTokens: 1},
		"speculate is -1":                                {Prompt: []int32{1}, MaxTokens: 1, Speculate: -1},
		"neither a draft model nor n-grams nor a corpus": {Prompt: []int32{1}, MaxTokens: 1, Speculate: 2},
		"top-p is 2":                                     {Prompt: []int32{1}, MaxTokens: 1, Sampling: sample.Options{TopP: 2}},
		"draft of token 1: logit 0 is NaN":               {Prompt: []int32{1}, MaxTokens: 9, Draft: broken, Speculate: 2, FixedDepth: true},
	} {
		n := 0
		for _, err := range e.Generate(context.Background(), r, nil) {
			if n++; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		if n != 1 {
			t.Errorf("%q: %d values", want, n)
		}
	}
	good := Request{Prompt: []int32{1}, MaxTokens: 3, NGram: true, Speculate: 2}
	for want, r := range map[string]Request{
		"request 1: speculate is 2, but there is neither": {Prompt: []int32{1}, MaxTokens: 3, Speculate: 2},
		"request 1, draft of token 1: logit 0 is NaN":     {Prompt: []int32{1}, MaxTokens: 9, Draft: broken, Speculate: 2, FixedDepth: true},
	} {
		err := e.Batch(context.Background(), 2, requests(good, r), func(int, []int32, string) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("batch: %v, want %q", err, want)
		}
	}
	for _, err := range New(broken).Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 3}, nil) {
		if err == nil || !strings.Contains(err.Error(), "NaN") {
			t.Errorf("broken target: %v", err)
		}
	}
}

func TestCancellation(t *testing.T) {
	e := New(stories(t))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	for token, err := range e.Generate(ctx, Request{Prompt: []int32{1}, MaxTokens: 200, Draft: e.Target, Speculate: 4, FixedDepth: true}, nil) {
		if n++; n == 3 {
			cancel()
		}
		if n > 5+1 { // the rest of the block that was committed, then the error
			t.Fatalf("went on: %v, %v", token, err)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	for _, err := range e.Generate(ctx, Request{Prompt: make([]int32, 500), MaxTokens: 1}, nil) {
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("prefill: %v", err)
		}
	}
	err := e.Batch(ctx, 2, requests(Request{Prompt: []int32{1}, MaxTokens: 5}), nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("batch: %v", err)
	}
	for range e.Generate(context.Background(), Request{Prompt: []int32{1}, MaxTokens: 20}, nil) {
		break // a consumer may leave
	}
}

// TestStateRollback shows the ground that speculation stands on: after any sequence of marked runs and partial commits, the next logits
// are, bit for bit, those of a state that was fed the kept tokens one by one.
func TestStateRollback(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 5))
	for name, m := range map[string]*model.Model{"hybrid": tiny(t, "tiny-hybrid"), "pure": tiny(t, "tiny-pure"), "attention": stories(t), "window": tiny(t, "mistral-window")} {
		m.Pack()
		s, plain := m.NewState(), m.NewState()
		for s.Len() < 110 {
			run := randomPrompt(rng, m.Config.VocabSize, 1+rng.IntN(13))
			n := rng.IntN(len(run) + 1)
			s.Mark()
			got := m.Logits(nil, m.Forward(nil, model.Single(run, s)))
			s.Keep(n)
			for i, x := range run[:n] {
				want := m.Logits(nil, m.Forward(nil, model.Single([]int32{x}, plain)))
				if !slices.Equal(got.Row(i), want.Data) {
					t.Fatalf("%s: position %d, row %d of a run of %d", name, plain.Len()-1, i, len(run))
				}
			}
		}
	}
}

// wideModel returns a hybrid with the shapes of a small real model, so that products cross the kernels' blocks.
func wideModel(t testing.TB) *model.Model {
	t.Helper()
	c := model.Config{HiddenSize: 576, IntermediateSize: 1536, NumHiddenLayers: 3, NumAttentionHeads: 9, NumKeyValueHeads: 3, HeadDim: 64, VocabSize: 1003,
		TieWordEmbeddings: true, RMSNormEps: 1e-5, RopeTheta: 10000}
	c.Mamba = model.MambaFor(&c, []int{1})
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	perturb(m, 0.05, 31)
	m.Pack()
	return m
}

// TestRowsAreExact feeds several sequences in one batch, prompts beside marked runs of unequal length, and compares every kept row with the logits of
// its sequence fed alone, one token at a time.
func TestRowsAreExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 10))
	m := wideModel(t)
	const sequences = 5
	together, alone := make([]*model.State, sequences), make([]*model.State, sequences)
	for i := range together {
		together[i], alone[i] = m.NewState(), m.NewState()
	}
	for step := range 6 {
		var b model.Batch
		for _, s := range together {
			length := 1 + rng.IntN(14)
			if rng.IntN(3) == 0 { // a piece of a prompt, longer than the chunks of a scan without a state
				length = 50 + rng.IntN(60)
			} else {
				s.Mark()
			}
			b.Tokens = append(b.Tokens, randomPrompt(rng, m.Config.VocabSize, length)...)
			b.Runs = append(b.Runs, model.Run{Len: length, State: s})
		}
		got := m.Logits(nil, m.Forward(nil, b))
		row := 0
		for i, r := range b.Runs {
			n := r.Len
			if n < 50 {
				n = rng.IntN(r.Len + 1)
				r.State.Keep(n)
			}
			for j := row; j < row+n; j++ {
				want := m.Logits(nil, m.Forward(nil, model.Single(b.Tokens[j:j+1], alone[i])))
				if !slices.Equal(got.Row(j), want.Data) {
					t.Fatalf("step %d, sequence %d, position %d", step, i, alone[i].Len()-1)
				}
			}
			row += r.Len
		}
	}
}

// TestConcurrentRequests serves requests of one engine from several goroutines.
func TestConcurrentRequests(t *testing.T) {
	m := stories(t)
	e := New(m)
	ref := references(t)[1]
	errs := make(chan error)
	for i := range 6 {
		r := ref.request()
		if i%2 == 0 {
			r.NGram, r.Speculate = true, 5
		}
		go func() {
			var got []int32
			for token, err := range e.Generate(context.Background(), r, nil) {
				if err != nil {
					errs <- err
					return
				}
				got = append(got, token.ID)
			}
			if !slices.Equal(got, ref.Greedy) {
				errs <- fmt.Errorf("request %d: %v, want %v", i, got, ref.Greedy)
				return
			}
			errs <- nil
		}()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestSynthetic(t *testing.T) {
	m := stories(t)
	e := New(m)
	r := Request{Prompt: []int32{1}, MaxTokens: 101, Draft: randomModel(t, 512, 0, 1, []int{0}, 8), Speculate: 4, FixedDepth: true, Synthetic: func(k int) int { return 2 }}
	out, stats := generate(t, e, r)
	if len(out) != 101 || stats.Rounds != 34 || stats.AcceptedAt[1] < 33 || stats.AcceptedAt[2] != 0 {
		t.Fatalf("%+v", stats)
	}
}

func BenchmarkGenerate(b *testing.B) {
	m := stories(b)
	draft := subset(b, m, []int{0}, 0)
	e := New(m, draft)
	r := Request{Prompt: []int32{1}, MaxTokens: 255}
	with := func(f func(r *Request)) Request { x := r; f(&x); return x }
	for name, r := range map[string]Request{
		"plain": r, "layer0": with(func(r *Request) { r.Draft, r.Speculate = draft, 4 }), "ngram": with(func(r *Request) { r.NGram, r.Speculate = true, 8 }),
		"layer0-fixed4": with(func(r *Request) { r.Draft, r.Speculate, r.FixedDepth = draft, 4, true }),
		"itself-fixed4": with(func(r *Request) { r.Draft, r.Speculate, r.FixedDepth = m, 4, true }),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			tokens, rounds := 0, 0
			for b.Loop() {
				_, stats := generate(b, e, r)
				tokens += stats.Tokens
				rounds += stats.Rounds
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
			b.ReportMetric(float64(tokens)/float64(rounds), "tokens/round")
		})
	}
}

func ExampleEngine_Generate() {
	m, _ := model.New(model.Config{HiddenSize: 8, IntermediateSize: 8, NumHiddenLayers: 1, NumAttentionHeads: 1, NumKeyValueHeads: 1, HeadDim: 8,
		VocabSize: 5, RMSNormEps: 1e-5, RopeTheta: 1e4}) // zero weights: all logits are equal, the first wins
	var stats Stats
	for token, err := range New(m).Generate(context.Background(), Request{Prompt: []int32{3}, MaxTokens: 2}, &stats) {
		fmt.Println(token.ID, err)
	}
	fmt.Println(stats.FinishReason)
	// Output:
	// 0 <nil>
	// 0 <nil>
	// length
}
