package engine

import (
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"krait/checkpoint"
	"krait/internal/golden"
	"krait/model"
)

var seed = flag.Uint64("seed", 1, "seed of the random tests")

func load(t testing.TB, dir string) *model.Model {
	t.Helper()
	c, err := checkpoint.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c.Model
}

func stories(t testing.TB) *model.Model { return load(t, filepath.Join("..", "recipe", "stories260k")) }

func tiny(t testing.TB, name string) *model.Model { return load(t, golden.Dir(t, name)) }

// randomModel returns a hybrid with random weights, of layers layers, those in attention attending.
func randomModel(t testing.TB, vocab, context, layers int, attention []int, seed uint64) *model.Model {
	t.Helper()
	c := model.Config{
		HiddenSize: 32, IntermediateSize: 40, NumHiddenLayers: layers, NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 8, VocabSize: vocab,
		MaxPositionEmbeddings: context, RMSNormEps: 1e-5, RopeTheta: 10000,
	}
	if len(attention) < layers {
		c.Mamba = model.MambaFor(&c, attention)
	}
	m, err := model.New(c)
	if err != nil {
		t.Fatal(err)
	}
	perturb(m, 0.3, seed)
	return m
}

// perturb adds noise to every weight.
func perturb(m *model.Model, size float64, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	for _, p := range m.Params {
		for i := range p.Data {
			p.Data[i] += float32(rng.NormFloat64() * size)
		}
	}
}

// subset returns a draft of the given layers with noise on its weights.
func subset(t testing.TB, m *model.Model, layers []int, noise float64) *model.Model {
	t.Helper()
	d, err := model.Subset(m, layers, nil)
	if err != nil {
		t.Fatal(err)
	}
	perturb(d, noise, *seed)
	return d
}

// cutHead returns m as a draft of itself whose head knows every n-th token.
func cutHead(t testing.TB, m *model.Model, n int) *model.Model {
	t.Helper()
	var known []int32
	for id := 0; id < m.Config.VocabSize; id += n {
		known = append(known, int32(id))
	}
	d, err := model.Subset(m, seq(m.Config.NumHiddenLayers), known)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// eagle returns a draft head of m with the layers listed, and noise on its weights.
func eagle(t testing.TB, m *model.Model, layers []int, known []int32, noise float64, seed uint64) *model.Model {
	t.Helper()
	d, err := model.NewEagle(m, layers, known, rand.New(rand.NewPCG(seed, 12)))
	if err != nil {
		t.Fatal(err)
	}
	perturb(d, noise, seed)
	return d
}

// shortcut returns all layers of m but the last, or, where it has one layer, m.
func shortcut(t testing.TB, m *model.Model) *model.Model {
	t.Helper()
	if m.Config.NumHiddenLayers == 1 {
		return m
	}
	d, err := model.Shortcut(m, seq(m.Config.NumHiddenLayers-1))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func randomPrompt(rng *rand.Rand, vocab, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = int32(rng.IntN(vocab))
	}
	return p
}

// generate returns the whole output.
func generate(t testing.TB, e *Engine, r Request) ([]int32, Stats) {
	t.Helper()
	var stats Stats
	var out []int32
	drafted := 0
	for token, err := range e.Generate(context.Background(), r, &stats) {
		if err != nil {
			t.Fatal(err)
		}
		if token.Drafted {
			drafted++
		}
		out = append(out, token.ID)
	}
	if stats.Tokens != len(out) || stats.Accepted != drafted || stats.Rounds != len(out)-drafted && stats.FinishReason != FinishStop {
		t.Fatalf("%d tokens, %d of them drafted, but stats are %+v", len(out), drafted, stats)
	}
	return out, stats
}

// reference is a greedy continuation by llama2.c.
type reference struct {
	Prompt []int32 `json:"ids_with_bos"`
	Greedy []int32 `json:"greedy_ids"`
}

func references(t testing.TB) []reference {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "stories260k-greedy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var refs []reference
	if err := json.Unmarshal(data, &refs); err != nil {
		t.Fatal(err)
	}
	return refs
}

// referenceLength is the number of tokens, prompt included, at which the references end.
const referenceLength = 256

func (r reference) request() Request {
	return Request{Prompt: r.Prompt, MaxTokens: referenceLength - len(r.Prompt), Stop: []int32{1}}
}
