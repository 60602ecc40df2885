package model

import (
	"fmt"

	"krait/autograd"
	"krait/tensor"
)

// The pure models of Mamba's authors, as Transformers has them (`mamba`, `mamba2`; method §6.3): a block is a norm and a mixer, without MLP, and
// the names are their own.

// validateBackbone refuses what no such model can have.
func (m *MambaConfig) validateBackbone() error {
	switch {
	case len(m.AttnLayers) > 0:
		return fmt.Errorf("a pure Mamba model has no attention layers")
	case m.DInner <= 0 || m.DState <= 0 || m.DConv <= 0 || m.NGroups <= 0 || m.Groups <= 0:
		return fmt.Errorf("inner size %d, state_size %d, conv_kernel %d, num_heads %d, n_groups %d: all must be positive", m.DInner, m.DState, m.DConv, m.NGroups, m.Groups)
	case m.DInner > 1<<24 || m.DState > 1<<24 || m.DConv > 1<<24 || m.DTRank > 1<<24:
		return fmt.Errorf("inner size %d, state_size %d, conv_kernel %d, time_step_rank %d: larger than any model's", m.DInner, m.DState, m.DConv, m.DTRank)
	case m.DInner%m.NGroups != 0 || m.NGroups%m.Groups != 0:
		return fmt.Errorf("inner size %d, num_heads %d and n_groups %d do not divide each other", m.DInner, m.NGroups, m.Groups)
	case !positive(m.RMSNormEps):
		return fmt.Errorf("layer_norm_epsilon is %g, want a positive number", m.RMSNormEps)
	}
	return nil
}

// newBackboneMamba2 returns the layer with as many rows of B and C as there are groups; they are repeated for the group's heads after the
// convolution. The gated norm is over each group.
func newBackboneMamba2(c *Config) *Mamba2 {
	m := c.Mamba
	s := autograd.SSDShape{H: m.NGroups, K: m.NGroups, P: m.DInner / m.NGroups, N: m.DState}
	channels := m.DInner + 2*m.Groups*m.DState
	x := &Mamba2{
		InProj:     newLinear(m.DInner+channels+s.H, c.HiddenSize, m.ProjBias),
		ConvWeight: tensor.New(channels, 1, m.DConv), ConvBias: tensor.New(channels),
		DtBias: tensor.New(s.H), ALog: tensor.New(s.H), D: tensor.New(s.H), NormWeight: tensor.New(m.DInner),
		OutProj: newLinear(c.HiddenSize, m.DInner, m.ProjBias),
		shape:   s, normGroups: m.Groups, normEps: m.RMSNormEps, prefix: "mixer.",
		expand: append(autograd.Repeat(0, 1, m.DInner, 1), autograd.Repeat(m.DInner, 2*m.Groups, m.DState, s.H/m.Groups)...),
	}
	fill(x.NormWeight, 1)
	return x
}

// BackboneMamba is the Mamba mixer as its authors have it (Gu and Dao 2023): one row of B and C for all channels, computed from x.
type BackboneMamba struct {
	InProj, XProj, DtProj, OutProj *Linear        // rows [x, z]; rows [dt, B, C]; its bias is that of the step sizes
	ConvWeight, ConvBias           *tensor.Tensor // (d_inner, 1, d_conv), (d_inner)
	DtBias, ALog, D                *tensor.Tensor // (d_inner), (d_inner, d_state), (d_inner)
	shape                          autograd.ScanShape
	rates                          []float32
}

// scanGroup is the number of channels that a scan takes together where the model does not say.
const scanGroup = 16

func newBackboneMamba(c *Config) *BackboneMamba {
	m := c.Mamba
	s := autograd.ScanShape{G: 1, P: m.DInner, N: m.DState, KB: 1, KC: 1}
	if m.DInner%scanGroup == 0 {
		s.G, s.P = m.DInner/scanGroup, scanGroup
	}
	return &BackboneMamba{
		InProj: newLinear(2*m.DInner, c.HiddenSize, m.ProjBias), XProj: newLinear(m.DTRank+2*m.DState, m.DInner, false),
		DtProj: newLinear(m.DInner, m.DTRank, false), OutProj: newLinear(c.HiddenSize, m.DInner, m.ProjBias),
		ConvWeight: tensor.New(m.DInner, 1, m.DConv), ConvBias: tensor.New(m.DInner),
		DtBias: tensor.New(m.DInner), ALog: tensor.New(m.DInner, m.DState), D: tensor.New(m.DInner), shape: s,
	}
}

// Forward implements Mixer.
func (m *BackboneMamba) Forward(t *autograd.Tape, u *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	inner := m.shape.Dim()
	xz := autograd.Split(t, m.InProj.Forward(t, u), inner, inner)
	x := autograd.SiLU(t, b.convolved(t, layer, xz[0], m.ConvWeight, m.ConvBias))
	dbc := autograd.Split(t, m.XProj.Forward(t, x), m.DtProj.Weight.Shape[1], m.shape.N, m.shape.N)
	rates := m.rates
	if m.ALog.Grad != nil {
		rates = nil
	}
	y := b.scanned(t, layer, x, m.DtProj.Forward(t, dbc[0]), dbc[1], dbc[2], scanWeights{m.DtBias, m.ALog, m.D, rates, m.shape})
	return m.OutProj.Forward(t, autograd.SwiGLU(t, xz[1], y))
}

func (m *BackboneMamba) pack() { m.rates = m.shape.Rates(m.ALog.Data) }

func (m *BackboneMamba) linears() []*Linear { return []*Linear{m.InProj, m.XProj, m.DtProj, m.OutProj} }

func (m *BackboneMamba) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + "mixer."
	return yield(p+"A_log", m.ALog) && yield(p+"D", m.D) &&
		m.InProj.params(p+"in_proj", yield) && m.XProj.params(p+"x_proj", yield) &&
		m.DtProj.params(p+"dt_proj", yield) && yield(p+"dt_proj.bias", m.DtBias) &&
		yield(p+"conv1d.weight", m.ConvWeight) && yield(p+"conv1d.bias", m.ConvBias) &&
		m.OutProj.params(p+"out_proj", yield)
}

func (m *BackboneMamba) newState() layerState {
	return &mamba1State{autograd.NewScanState(m.shape), autograd.NewConvState(m.ConvWeight.Shape[0], m.ConvWeight.Shape[2])}
}

// names are what a kind of model calls the weights outside its mixers.
type names struct{ embed, layer, mixerNorm, norm string }

func (c *Config) names() names {
	if c.Mamba != nil && c.Mamba.Backbone {
		return names{"backbone.embeddings.weight", "backbone.layers.%d.", "norm.weight", "backbone.norm_f.weight"}
	}
	return names{"model.embed_tokens.weight", "model.layers.%d.", "input_layernorm.weight", "model.norm.weight"}
}
