package model

import (
	"fmt"
	"slices"
)

// Restore returns a copy of a student of all kinds of layers whose layers listed are the teacher's attention again, with the norm before it. It shares
// nothing with either.
func Restore(student, teacher *Model, layers []int) (*Model, error) {
	s, t := &student.Config, &teacher.Config
	switch {
	case s.Mamba == nil || s.Mamba.Backbone:
		return nil, fmt.Errorf("the student has no Mamba layers in the place of attention")
	case s.HiddenSize != t.HiddenSize || s.NumHiddenLayers != t.NumHiddenLayers || s.VocabSize != t.VocabSize:
		return nil, fmt.Errorf("the student has %d layers of %d, the teacher %d of %d: want one of its shape", s.NumHiddenLayers, s.HiddenSize, t.NumHiddenLayers, t.HiddenSize)
	}
	if err := CheckAttnLayers(layers, t.NumHiddenLayers); err != nil {
		return nil, err
	}
	c, mamba := student.Config, *s.Mamba
	mamba.AttnLayers = slices.Sorted(slices.Values(append(slices.Clone(mamba.AttnLayers), layers...)))
	mamba.AttnLayers = slices.Compact(mamba.AttnLayers)
	if c.Mamba = &mamba; len(mamba.AttnLayers) == c.NumHiddenLayers {
		c.Mamba = nil
	}
	for _, l := range layers {
		if !t.IsAttention(l) {
			return nil, fmt.Errorf("layer %d of the teacher is Mamba, there is no attention to restore", l)
		}
	}
	m, err := New(c)
	if err != nil {
		return nil, err
	}
	from := map[string][]float32{}
	for name, p := range student.Params {
		from[name] = p.Data
	}
	for name, p := range teacher.Params {
		for _, l := range layers {
			prefix := fmt.Sprintf(t.names().layer, l)
			if len(name) > len(prefix) && name[:len(prefix)] == prefix && (name[len(prefix):] == t.names().mixerNorm || from[name] == nil) {
				from[name] = p.Data
			}
		}
	}
	for name, p := range m.Params {
		if copy(p.Data, from[name]) != len(p.Data) {
			return nil, fmt.Errorf("%s: %d weights, want %d", name, len(from[name]), len(p.Data))
		}
	}
	return m, nil
}

// WithoutMixer returns a copy of a model one of whose attention layers puts out nothing: what a token learns from others there is gone, the MLP
// is not.
func WithoutMixer(m *Model, layer int) (*Model, error) {
	c, err := New(m.Config)
	if err != nil {
		return nil, err
	}
	a, ok := c.Blocks[layer].Mixer.(*Attention)
	if !ok {
		return nil, fmt.Errorf("layer %d is Mamba, want an attention layer", layer)
	}
	from := map[string][]float32{}
	for name, p := range m.Params {
		from[name] = p.Data
	}
	for name, p := range c.Params {
		copy(p.Data, from[name])
	}
	clear(a.OProj.Weight.Data)
	if a.OProj.Bias != nil {
		clear(a.OProj.Bias.Data)
	}
	return c, nil
}
