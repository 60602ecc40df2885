package eval

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"krait/kernel"
	"krait/model"
	"krait/quant"
	"krait/tensor"
)

// shape is a model without weights: what speed depends on.
type shape struct {
	name, what                                 string
	hidden, layers, heads, kvHeads, mlp, vocab int
	kind                                       kind
	draft                                      string
}

// kind is what the layers of a shape are.
type kind int

const (
	attention kind = iota
	hybrid         // the even ones Mamba2
	untied         // attention, with an output layer of its own
	untiedHybrid
	pureMamba // Mamba1 as its authors have it
)

// shapes are the models that can be measured without having them. Drafts take the vocabulary of the model they propose for.
var shapes = []shape{
	{"smol135m", "SmolLM2-135M", 576, 30, 9, 3, 1536, 49152, attention, "draft10m"},
	{"hybrid135m", "the same with the even layers Mamba2", 576, 30, 9, 3, 1536, 49152, hybrid, "draft10m"},
	{"llama1b", "a Llama of 1.04 billion weights", 2048, 16, 32, 8, 8192, 32000, attention, "draft29m"},
	{"hybrid1b", "the same with the even layers Mamba2", 2048, 16, 32, 8, 8192, 32000, hybrid, "draft29m"},
	{"llama8b-hybrid", "Llama-3-8B with the even layers Mamba2 (Wang et al. 2024, 50 %)", 4096, 32, 32, 8, 14336, 128256, untiedHybrid, "llama4layer"},
	{"zephyr7b-hybrid", "Zephyr-7B with the even layers Mamba2 (the same)", 4096, 32, 32, 8, 14336, 32000, untiedHybrid, "zephyr2layer"},
	{"mamba2.8b", "Mamba-2.8B", 2560, 64, 0, 0, 0, 50280, pureMamba, "mamba130m"},
	{"llama4layer", "four layers of Llama-3-8B, its draft in the paper", 4096, 4, 32, 8, 14336, 128256, untied, ""},
	{"zephyr2layer", "two layers of Zephyr-7B, a draft of the paper", 4096, 2, 32, 8, 14336, 32000, untied, ""},
	{"zephyr4layer", "four layers of Zephyr-7B, a draft of the paper", 4096, 4, 32, 8, 14336, 32000, untied, ""},
	{"mamba130m", "Mamba-130M, the draft of Mamba-2.8B in the paper", 768, 24, 0, 0, 0, 50280, pureMamba, "draft10m"},
	{"tinymamba", "a Mamba for tests", 64, 3, 0, 0, 0, 1024, pureMamba, "tinydraft"},
	{"tiny", "a Llama for tests", 128, 4, 4, 2, 256, 1024, attention, "tinydraft"},
	{"tinyhybrid", "the same with the even layers Mamba2", 128, 4, 4, 2, 256, 1024, hybrid, "tinydraft"},
	{"draft29m", "a draft for the billion", 512, 4, 8, 2, 1600, 32000, attention, ""},
	{"draft10m", "a draft for the small ones", 192, 2, 3, 1, 512, 49152, attention, ""},
	{"tinydraft", "a draft for tests", 64, 1, 2, 1, 64, 1024, attention, ""},
}

// shapeContext is the longest sequence of a shape.
const shapeContext = 65536

// ShapeNames lists the shapes that ShapeConfig knows.
func ShapeNames() []string {
	var names []string
	for _, s := range shapes {
		names = append(names, s.name)
	}
	return names
}

func findShape(name string) (*shape, error) {
	i := slices.IndexFunc(shapes, func(s shape) bool { return s.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no shape is called %q: want one of %s", name, strings.Join(ShapeNames(), ", "))
	}
	return &shapes[i], nil
}

// ShapeConfig returns the configuration of a shape.
func ShapeConfig(name string) (model.Config, error) {
	s, err := findShape(name)
	if err != nil {
		return model.Config{}, err
	}
	if s.kind == pureMamba {
		inner := 2 * s.hidden
		return model.Config{HiddenSize: s.hidden, NumHiddenLayers: s.layers, VocabSize: s.vocab, RMSNormEps: 1e-5, TieWordEmbeddings: true, Mamba: &model.MambaConfig{
			Backbone: true, DInner: inner, DState: 16, NGroups: 1, Groups: 1, DConv: 4, DTRank: (s.hidden + 15) / 16, RMSNormEps: 1e-5, AttnLayers: []int{}}}, nil
	}
	c := model.Config{
		HiddenSize: s.hidden, IntermediateSize: s.mlp, NumHiddenLayers: s.layers, NumAttentionHeads: s.heads, NumKeyValueHeads: s.kvHeads,
		HeadDim: s.hidden / s.heads, VocabSize: s.vocab, MaxPositionEmbeddings: shapeContext, RMSNormEps: 1e-5, RopeTheta: 1e5, TieWordEmbeddings: s.kind != untied && s.kind != untiedHybrid,
	}
	if s.kind == hybrid || s.kind == untiedHybrid {
		var attention []int
		for i := 1; i < s.layers; i += 2 {
			attention = append(attention, i)
		}
		c.Mamba = model.MambaFor(&c, attention)
	}
	return c, nil
}

// DraftShape names the shape of the draft that a model is measured with unless another is asked for: that of its own shape, or one that
// suits its size.
func DraftShape(name string, m *model.Config) string {
	if s, err := findShape(name); err == nil && s.draft != "" {
		return s.draft
	}
	switch {
	case m.HiddenSize >= 1536:
		return "draft29m"
	case m.HiddenSize >= 384:
		return "draft10m"
	}
	return "tinydraft"
}

// RandomModel returns a model whose weights are drawn at random, the same for the same seed, and packed in a format: products, norms and
// scans see numbers of the usual sizes, so they take the time that trained weights take. A model in a narrow format never has float32
// weights of its matrices in memory, and is good for inference alone.
func RandomModel(c model.Config, seed uint64, f quant.Format) (*model.Model, error) {
	if f == quant.F32 {
		m, err := model.New(c)
		if err != nil {
			return nil, err
		}
		randomWeights(m, seed)
		m.Pack()
		return m, nil
	}
	m, weights, err := RandomShape(c, seed, f)
	if err != nil {
		return nil, err
	}
	var memory kernel.Memory
	return m, m.PackFrom(func(name string, out, in int, g quant.Format) (quant.Matrix, error) {
		rows := func(scratch []float32, lo, hi int) []float32 {
			scratch = scratch[:(hi-lo)*in]
			weights(name, in)(scratch, lo*in)
			return scratch
		}
		return quant.Pack(rows, out, in, g, &memory), nil
	})
}

// RandomShape is RandomModel before it has its matrices. weights returns the function that sets part of a matrix, with rows of cols elements, from
// element at on.
func RandomShape(c model.Config, seed uint64, f quant.Format) (m *model.Model, weights func(name string, cols int) func(part []float32, at int), err error) {
	if m, err = model.NewFrozen(c, f); err != nil {
		return nil, nil, err
	}
	seeds := randomWeights(m, seed)
	return m, func(name string, cols int) func(part []float32, at int) {
		value := randomValue(name, cols)
		return func(part []float32, at int) {
			for i := range part {
				part[i] = float32(value(uniform(seeds[name]<<32 + uint64(at+i))))
			}
		}
	}, nil
}

// randomWeights fills the weights that have room, and returns the seed of each.
func randomWeights(m *model.Model, seed uint64) map[string]uint64 {
	seeds := map[string]uint64{}
	for name, p := range m.Params {
		seed++
		seeds[name] = seed
		value := randomValue(name, p.Cols())
		tensor.Rows(len(p.Data), 4, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				p.Data[i] = float32(value(uniform(seeds[name]<<32 + uint64(i))))
			}
		})
	}
	return seeds
}

// randomValue returns the function that makes one weight, whose rows have cols elements, of a number in [0,1).
func randomValue(name string, cols int) func(u float64) float64 {
	switch {
	case strings.HasSuffix(name, "norm.weight"), strings.HasSuffix(name, "norm_f.weight"), strings.HasSuffix(name, ".D"):
		return func(float64) float64 { return 1 }
	case strings.HasSuffix(name, ".A_log"):
		return func(u float64) float64 { return math.Log(1 + 15*u) }
	case strings.HasSuffix(name, ".dt_bias"), strings.HasSuffix(name, "dt_proj.bias"): // Δ from 0.001 to 0.1, through the inverse of softplus
		return func(u float64) float64 { return math.Log(math.Expm1(0.001 * math.Pow(100, u))) }
	case strings.HasSuffix(name, "embed_tokens.weight"), strings.HasSuffix(name, "embeddings.weight"):
		return func(u float64) float64 { return (2*u - 1) * 0.035 }
	case strings.HasSuffix(name, ".bias"):
		return func(u float64) float64 { return (2*u - 1) * 0.01 }
	case strings.HasSuffix(name, "conv1d.weight"):
		return func(u float64) float64 { return u - 0.5 }
	}
	scale := math.Sqrt(3 / float64(cols))
	return func(u float64) float64 { return (2*u - 1) * scale }
}

// uniform returns a number in [0,1) that looks random in i (SplitMix64, Steele et al. 2014).
func uniform(i uint64) float64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// randomTokens returns n token ids.
func randomTokens(n, vocab int, seed uint64) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(uniform(seed<<32+uint64(i)) * float64(vocab))
	}
	return tokens
}
