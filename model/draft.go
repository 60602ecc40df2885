package model

import (
	"fmt"
	"slices"

	"krait/tensor"
)

// Subset returns a smaller model made of the given layers of m with its embeddings, final norm and head: the beginning of a draft model.
// A head of fewer tokens, which headTokens lists in ascending order, is cut out of m's; nil keeps it.
func Subset(m *Model, layers []int, headTokens []int32) (*Model, error) {
	c, err := subsetConfig(m, layers)
	if err != nil {
		return nil, err
	}
	return subset(m, c, layers, headTokens)
}

// subset is Subset for a configuration that may say more.
func subset(m *Model, c Config, layers []int, headTokens []int32) (*Model, error) {
	if len(headTokens) > 0 {
		if len(m.Config.HeadTokens) > 0 {
			return nil, fmt.Errorf("the model's head is cut to %d tokens already", len(m.Config.HeadTokens))
		}
		c.HeadTokens, c.TieWordEmbeddings = headTokens, false
	}
	d, err := New(c)
	if err != nil {
		return nil, err
	}
	copy(d.EmbedTokens.Data, m.EmbedTokens.Data)
	copy(d.Norm.Weight.Data, m.Norm.Weight.Data)
	copy(d.head.Weight.Data, m.HeadOf(headTokens).Data)
	for i, l := range layers {
		from := map[string]*tensor.Tensor{}
		m.Blocks[l].params(c.names(), func(name string, p *tensor.Tensor) bool { from[name] = p; return true })
		d.Blocks[i].params(c.names(), func(name string, p *tensor.Tensor) bool { copy(p.Data, from[name].Data); return true })
	}
	return d, nil
}

// subsetConfig returns the configuration of some of m's layers.
func subsetConfig(m *Model, layers []int) (Config, error) {
	c := m.Config
	if len(layers) == 0 {
		return c, fmt.Errorf("a draft needs at least one layer")
	}
	if err := CheckAttnLayers(layers, m.Config.NumHiddenLayers); err != nil {
		return c, err
	}
	c.NumHiddenLayers = len(layers)
	if c.Mamba != nil {
		mamba := *c.Mamba
		mamba.AttnLayers = nil
		for i, l := range layers {
			if m.Config.IsAttention(l) {
				mamba.AttnLayers = append(mamba.AttnLayers, i)
			}
		}
		c.Mamba = &mamba
		if len(mamba.AttnLayers) == len(layers) {
			c.Mamba = nil
		}
	}
	return c, nil
}

// HeadOf returns the rows (len(tokens), hidden) of the output layer's float32 weight for some tokens; nil are all.
func (m *Model) HeadOf(tokens []int32) *tensor.Tensor {
	if len(tokens) == 0 {
		return m.head.Weight
	}
	w := tensor.New(len(tokens), m.Config.HiddenSize)
	for i, id := range tokens {
		copy(w.Row(i), m.head.Weight.Row(int(id)))
	}
	return w
}

// Shortcut returns a model of some of m's layers in their order, for inference, that shares its weights, packed as they are: m guesses for
// itself by leaving layers out. It takes no memory of its own but its states.
func Shortcut(m *Model, layers []int) (*Model, error) {
	if !slices.IsSorted(layers) {
		return nil, fmt.Errorf("layers %v of the model itself: want them in ascending order", layers)
	}
	c, err := subsetConfig(m, layers)
	if err != nil {
		return nil, err
	}
	if len(layers) == m.Config.NumHiddenLayers {
		return nil, fmt.Errorf("all %d layers are no short cut: leave some out", len(layers))
	}
	s := *m
	s.Config, s.Blocks = c, nil
	for _, l := range layers {
		s.Blocks = append(s.Blocks, m.Blocks[l])
	}
	return &s, nil
}
