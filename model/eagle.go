package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"krait/autograd"
	"krait/tensor"
)

// Fusion is the entrance of a draft head (EAGLE, Li et al. 2024; DeepSeek-V3's multi-token prediction): where a model's rows begin as
// embeddings e, a head's begin as
//
//	Proj · [EmbedNorm(e(x_t)) ; HiddenNorm(h_{t-1})]
//
// with h_{t-1} what the target's Forward returned at the token before, after its final norm, or, where the target has not been there yet, what the
// head's own Forward returned. So the head's Forward at x_t guesses the target's at x_t, and its Logits the token behind.
type Fusion struct {
	EmbedNorm, HiddenNorm *Norm
	Proj                  *Linear // (hidden, 2·hidden)
}

func newFusion(c *Config) *Fusion {
	return &Fusion{newNorm(c.HiddenSize, c.RMSNormEps), newNorm(c.HiddenSize, c.RMSNormEps), newLinear(c.HiddenSize, 2*c.HiddenSize, false)}
}

// Forward returns the fused rows of embeddings and hidden rows, (rows, hidden) each.
func (f *Fusion) Forward(t *autograd.Tape, embedded, hidden *tensor.Tensor) *tensor.Tensor {
	return f.Proj.Forward(t, f.join(t, embedded, hidden))
}

// join returns what Proj multiplies: (rows, 2·hidden).
func (f *Fusion) join(t *autograd.Tape, embedded, hidden *tensor.Tensor) *tensor.Tensor {
	return autograd.Beside(t, f.EmbedNorm.Forward(t, embedded), f.HiddenNorm.Forward(t, hidden))
}

// params yields the weights under DeepSeek's names.
func (f *Fusion) params(yield func(string, *tensor.Tensor) bool) bool {
	return yield("enorm.weight", f.EmbedNorm.Weight) && yield("hnorm.weight", f.HiddenNorm.Weight) && f.Proj.params("eh_proj", yield)
}

// begin returns the rows with which a batch enters the first block: (rows, hidden).
func (m *Model) begin(t *autograd.Tape, b Batch) *tensor.Tensor {
	x := m.embed(t, b.Tokens)
	if (m.Fusion != nil) != (b.Hidden != nil) {
		panic("model: a draft head, and nothing else, reads hidden rows")
	}
	if m.Fusion == nil {
		return x
	}
	return m.Fusion.Forward(t, x, b.Hidden)
}

// headNoise is the size of the random part of a new fusion, in units of 1/√(2·hidden).
const headNoise = 0.1

// NewEagle returns a draft head for a target, not trained yet: a fusion that lets the embeddings through and little more, copies of the target's layers listed, its final norm, and its
// embeddings and output layer, cut to headTokens as Subset does.
func NewEagle(target *Model, layers []int, headTokens []int32, rng *rand.Rand) (*Model, error) {
	c, err := subsetConfig(target, layers)
	if err != nil {
		return nil, err
	}
	if c.Eagle {
		return nil, fmt.Errorf("the model is a draft head itself")
	}
	c.Eagle = true
	m, err := subset(target, c, layers, headTokens)
	if err != nil {
		return nil, err
	}
	w, size := m.Fusion.Proj.Weight, headNoise/math.Sqrt(float64(2*c.HiddenSize))
	for r := range w.Rows() {
		for i := range w.Row(r) {
			w.Row(r)[i] = float32(size * rng.NormFloat64())
		}
		w.Row(r)[r] += 1
	}
	return m, nil
}

// Fused returns what a head's fusion multiplies for each row of a batch: (rows, 2·hidden).
func (m *Model) Fused(t *autograd.Tape, b Batch) *tensor.Tensor {
	return m.Fusion.join(t, m.embed(t, b.Tokens), b.Hidden)
}

// Silence makes a block that adds nothing to its rows: the last matrices of mixer and MLP become zeros, which training goes on from.
func (b *Block) Silence() {
	list := b.Mixer.linears()
	list = list[len(list)-1:]
	if b.MLP != nil {
		list = append(list, b.MLP.DownProj)
	}
	for _, l := range list {
		clear(l.Weight.Data)
		if l.Bias != nil {
			clear(l.Bias.Data)
		}
	}
}
