package engine

import (
	"context"
	"math"
	"slices"
	"testing"

	"krait/model"
	"krait/sample"
)

// TestAdjustedSpeculation: greedy output under penalties, biases and a pattern, and the log-probabilities of its tokens, are those of plain
// decoding, whoever guesses.
func TestAdjustedSpeculation(t *testing.T) {
	m := stories(t)
	e := New(m)
	texts := make([]string, m.Config.VocabSize)
	for id := range texts {
		texts[id] = string(rune('a' + id%26))
	}
	pattern, err := sample.NewPattern("([a-m]{1,4}[n-z])*", texts, []int32{1})
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]sample.Adjustments{
		"none": {}, "repetition": {Repetition: 1.3}, "frequency": {Frequency: 0.5}, "presence": {Presence: 1.5}, "pattern": {Pattern: pattern},
		"bias": {Bias: map[int32]float64{400: 3, 403: math.Inf(-1)}}, "all": {Repetition: 1.2, Frequency: 0.1, Presence: 0.3, Bias: map[int32]float64{300: 2}, Pattern: pattern},
	} {
		tokens := func(r Request) (out []Token) {
			for token, err := range e.Generate(context.Background(), r, nil) {
				if err != nil {
					t.Fatal(err)
				}
				token.Drafted = false
				out = append(out, token)
			}
			return out
		}
		r := Request{Prompt: []int32{1, 403, 407}, MaxTokens: 80, Sampling: sample.Options{Adjustments: a}, LogProbs: true, Stop: []int32{1}}
		plain := tokens(r)
		if plain[0].LogProb >= 0 || name != "none" && slices.Equal(plain, tokens(Request{Prompt: r.Prompt, MaxTokens: 80, LogProbs: true, Stop: r.Stop})) {
			t.Errorf("%s: changes nothing: %v", name, plain)
		}
		for k := 1; k <= 9; k += 4 {
			for _, d := range []*model.Model{nil, m, subset(t, m, []int{0, 1, 2}, 0), cutHead(t, m, 2)} {
				s := r
				s.Draft, s.NGram, s.Speculate, s.FixedDepth, s.Branch = d, d == nil, k, true, k > 1
				if got := tokens(s); !slices.Equal(got, plain) {
					t.Errorf("%s, depth %d: %v, want %v", name, k, got, plain)
				}
			}
		}
	}
}

func TestSeedReproduces(t *testing.T) {
	m := stories(t)
	e := New(m)
	r := Request{Prompt: []int32{1}, MaxTokens: 60, Sampling: sample.Options{Temperature: 1, TopP: 0.95}, Seed: 9}
	first, _ := generate(t, e, r)
	again, _ := generate(t, e, r)
	other := r
	other.Seed = 10
	different, _ := generate(t, e, other)
	if !slices.Equal(first, again) || slices.Equal(first, different) {
		t.Fatal("a seed must determine the output")
	}
	r.Draft, r.Speculate, r.FixedDepth = subset(t, m, []int{0, 1}, 0), 3, true
	first, _ = generate(t, e, r)
	if again, _ = generate(t, e, r); !slices.Equal(first, again) {
		t.Fatal("a seed must determine the output of a fixed depth")
	}
}

// chiSquareQuantile is the normal quantile of p = 0.001.
const chiSquareQuantile = 3.0902

// TestSampledSpeculation compares the frequencies of all outputs of three tokens with their exact probabilities.
func TestSampledSpeculation(t *testing.T) {
	if testing.Short() {
		t.Skip("forty thousand generations")
	}
	const vocab, draws = 4, 5000
	m := randomModel(t, vocab, 0, 2, []int{1}, 21)
	draft := randomModel(t, vocab, 0, 1, nil, 22)
	e := New(m, draft)
	prompt := []int32{2, 0, 3, 2, 0, 3, 2, 0}
	pattern, err := sample.NewPattern("(bc|[ac]d)[a-d]+", []string{"a", "b", "c", "d"}, []int32{99})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []sample.Options{
		{Temperature: 1.5}, {Temperature: 2, TopK: 3, TopP: 0.9, MinP: 0.05},
		{Temperature: 1.5, Adjustments: sample.Adjustments{Repetition: 1.4, Frequency: 0.6, Presence: 0.8, Bias: map[int32]float64{1: 0.7}}},
		{Temperature: 1.5, Adjustments: sample.Adjustments{Pattern: pattern, Presence: 1}},
	} {
		exact := exactOutputs(t, m, prompt, o)
		for name, r := range map[string]Request{
			"plain": {}, "draft": {Draft: draft, Speculate: 2, FixedDepth: true}, "n-grams": {NGram: true, Speculate: 3, FixedDepth: true},
			"corpus":   {Corpus: NewCorpus([]int32{0, 1, 2, 0, 3, 3, 2, 0, 0, 1}), Speculate: 3, FixedDepth: true},
			"adaptive": {Draft: draft, NGram: true, Speculate: 2}, "branches": {Draft: draft, Speculate: 2, FixedDepth: true, Branch: true}, "branches of one": {Draft: draft, Speculate: 1, FixedDepth: true, Branch: true},
			"eagle":              {Draft: eagle(t, m, []int{1}, nil, 0.5, 25), Speculate: 2, FixedDepth: true},
			"eagle branches":     {Draft: eagle(t, m, []int{0}, nil, 0.5, 26), Speculate: 2, FixedDepth: true, Branch: true},
			"cut head":           {Draft: cutHead(t, draft, 2), Speculate: 2, FixedDepth: true},
			"larger vocabulary":  {Draft: randomModel(t, vocab+3, 0, 1, nil, 23), Speculate: 2, FixedDepth: true},
			"smaller vocabulary": {Draft: randomModel(t, vocab-1, 0, 1, nil, 24), Speculate: 2, FixedDepth: true},
		} {
			r.Prompt, r.MaxTokens, r.Sampling = prompt, 3, o
			counts := make([]int, len(exact))
			for i := range draws {
				r.Seed = *seed + uint64(i)
				out, _ := generate(t, e, r)
				counts[(out[0]*vocab+out[1])*vocab+out[2]]++
			}
			x, df := 0.0, -1.0
			for i, c := range counts {
				if want := exact[i] * draws; want > 0 {
					x += (float64(c) - want) * (float64(c) - want) / want
					df++
				} else if c > 0 {
					t.Errorf("%s, %+v: %d impossible outputs", name, o, c)
				}
			}
			if limit := df * math.Pow(1-2/(9*df)+chiSquareQuantile*math.Sqrt(2/(9*df)), 3); x > limit {
				t.Errorf("%s, %+v: chi-square %.1f over %g degrees, limit %.1f", name, o, x, df, limit)
			}
		}
	}
}

// exactOutputs returns the probability of every output of three tokens.
func exactOutputs(t *testing.T, m *model.Model, prompt []int32, o sample.Options) []float64 {
	t.Helper()
	vocab := m.Config.VocabSize
	dist := func(tokens []int32) []float32 {
		logits := m.Logits(nil, m.Forward(nil, model.Single(tokens, nil)))
		h := sample.NewHistory(o.Adjustments, prompt)
		for _, id := range tokens[len(prompt):] {
			h.Push(id)
		}
		p, err := sample.Dist(nil, h.Adjust(nil, logits.Row(len(tokens)-1)), o)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	var exact []float64
	for a, pa := range dist(prompt) {
		if pa == 0 {
			exact = append(exact, make([]float64, vocab*vocab)...)
			continue
		}
		for b, pb := range dist(append(slices.Clone(prompt), int32(a))) {
			if pb == 0 {
				exact = append(exact, make([]float64, vocab)...)
				continue
			}
			for _, pc := range dist(append(slices.Clone(prompt), int32(a), int32(b))) {
				exact = append(exact, float64(pa)*float64(pb)*float64(pc))
			}
		}
	}
	if len(exact) != vocab*vocab*vocab {
		t.Fatal(len(exact))
	}
	return exact
}
