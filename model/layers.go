package model

import (
	"krait/autograd"
	"krait/kernel"
	"krait/tensor"
)

// Linear is y = x·Wᵀ + b: Weight (out, in), Bias (out) or nil.
type Linear struct {
	Weight, Bias *tensor.Tensor
	packed       *kernel.Panels
}

func newLinear(out, in int, bias bool) *Linear {
	l := &Linear{Weight: tensor.New(out, in)}
	if bias {
		l.Bias = tensor.New(out)
	}
	return l
}

// weight returns the matrix in the form that serves best: packed once Pack has been called, unless it is being trained.
func (l *Linear) weight() autograd.Weight {
	if l.packed != nil && l.Weight.Grad == nil {
		return autograd.Packed{Panels: l.packed}
	}
	return autograd.Dense{Tensor: l.Weight}
}

// Forward returns x·Wᵀ + b: (rows, out).
func (l *Linear) Forward(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor {
	return autograd.Linear(t, x, l.weight(), l.Bias)
}

func (l *Linear) params(name string, yield func(string, *tensor.Tensor) bool) bool {
	return yield(name+".weight", l.Weight) && (l.Bias == nil || yield(name+".bias", l.Bias))
}

// Norm is RMSNorm with a weight (dim).
type Norm struct {
	Weight *tensor.Tensor
	Eps    float32
}

func newNorm(dim int, eps float32) *Norm {
	n := &Norm{Weight: tensor.New(dim), Eps: eps}
	fill(n.Weight, 1)
	return n
}

func fill(t *tensor.Tensor, v float32) {
	for i := range t.Data {
		t.Data[i] = v
	}
}

// Forward returns the normalised rows.
func (n *Norm) Forward(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor {
	return autograd.RMSNorm(t, x, n.Weight, n.Eps)
}

// MLP is the SwiGLU feed-forward layer of Llama.
type MLP struct{ GateProj, UpProj, DownProj *Linear }

// Forward returns down(silu(gate(x))·up(x)): (rows, hidden).
func (m *MLP) Forward(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor {
	return m.DownProj.Forward(t, autograd.SwiGLU(t, m.GateProj.Forward(t, x), m.UpProj.Forward(t, x)))
}

// Mixer moves information along a sequence. Attention and Mamba2 are the kinds there are.
type Mixer interface {
	// Forward returns the mixer's output (rows, hidden) for normalised rows x (rows, hidden).
	Forward(t *autograd.Tape, x *tensor.Tensor, b *layout, layer int) *tensor.Tensor
	newState() layerState
	linears() []*Linear
	params(prefix string, yield func(string, *tensor.Tensor) bool) bool
}

// Attention is grouped-query attention with rotary positions.
type Attention struct {
	QProj, KProj, VProj, OProj *Linear
	heads                      autograd.Heads
}

func newAttention(c *Config) *Attention {
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	return &Attention{
		QProj: newLinear(q, c.HiddenSize, c.QKVBias), KProj: newLinear(kv, c.HiddenSize, c.QKVBias), VProj: newLinear(kv, c.HiddenSize, c.QKVBias),
		OProj: newLinear(c.HiddenSize, q, c.OBias),
		heads: autograd.Heads{H: c.NumAttentionHeads, K: c.NumKeyValueHeads, P: c.HeadDim, Window: c.SlidingWindow},
	}
}

// Forward implements Mixer.
func (a *Attention) Forward(t *autograd.Tape, x *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	q := autograd.Rope(t, a.QProj.Forward(t, x), b.cos, b.sin, a.heads.H) // (rows, H·P)
	k := autograd.Rope(t, a.KProj.Forward(t, x), b.cos, b.sin, a.heads.K) // (rows, K·P)
	v := a.VProj.Forward(t, x)
	return a.OProj.Forward(t, autograd.Attend(t, q, k, v, a.heads, b.attendRuns(layer)))
}

func (a *Attention) linears() []*Linear { return []*Linear{a.QProj, a.KProj, a.VProj, a.OProj} }

func (a *Attention) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + "self_attn."
	return a.QProj.params(p+"q_proj", yield) && a.KProj.params(p+"k_proj", yield) &&
		a.VProj.params(p+"v_proj", yield) && a.OProj.params(p+"o_proj", yield)
}

// gateNormEps is hard-wired in the paper's layer, whatever the model's rms_norm_eps is.
const gateNormEps = 1e-5

// Mamba2 is the Mamba2 mixer of the paper's releases (method §1.2). The rows of InProj are [z, x, B, C, dt]; x and B come at key-value
// width and serve a group of heads each.
type Mamba2 struct {
	InProj               *Linear
	ConvWeight, ConvBias *tensor.Tensor // (channels, 1, d_conv), (channels)
	DtBias, ALog, D      *tensor.Tensor // (H)
	ZBias, NormWeight    *tensor.Tensor // (d_inner), nil where the configuration has none
	OutProj              *Linear
	shape                autograd.SSDShape
	identity             bool
}

func newMamba2(c *Config) *Mamba2 {
	m := c.Mamba
	s := autograd.SSDShape{H: m.NGroups, K: m.DXB / m.DState, P: m.DState, N: m.DState}
	x := &Mamba2{
		InProj:     newLinear(m.DInner+s.Width()+s.H, c.HiddenSize, false),
		ConvWeight: tensor.New(s.Width(), 1, m.DConv), ConvBias: tensor.New(s.Width()),
		DtBias: tensor.New(s.H), ALog: tensor.New(s.H), D: tensor.New(s.H),
		OutProj: newLinear(c.HiddenSize, m.DInner, c.OBias),
		shape:   s, identity: m.Identity,
	}
	if m.ZBias {
		x.ZBias = tensor.New(m.DInner)
	}
	if !m.NoNorm {
		x.NormWeight = tensor.New(m.DInner)
		fill(x.NormWeight, 1)
	}
	return x
}

// Forward implements Mixer.
func (m *Mamba2) Forward(t *autograd.Tape, x *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	inner := m.shape.H * m.shape.P
	parts := autograd.Split(t, m.InProj.Forward(t, x), inner, m.shape.Width(), m.shape.H)
	z, xbc, dt := parts[0], parts[1], parts[2]
	if m.ZBias != nil {
		z = autograd.AddRow(t, z, m.ZBias)
	}
	xbc = autograd.Conv1D(t, xbc, m.ConvWeight, m.ConvBias, b.convRuns(layer))
	if !m.identity {
		xbc = autograd.SiLU(t, xbc)
	}
	y := autograd.SSD(t, xbc, dt, m.DtBias, m.ALog, m.D, m.shape, b.ssdRuns(layer)) // (rows, d_inner)
	if m.NormWeight != nil {
		y = autograd.GatedRMSNorm(t, y, z, m.NormWeight, m.shape.H, gateNormEps)
	} else {
		y = autograd.SwiGLU(t, z, y)
	}
	return m.OutProj.Forward(t, y)
}

func (m *Mamba2) linears() []*Linear { return []*Linear{m.InProj, m.OutProj} }

func (m *Mamba2) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + "mamba."
	return yield(p+"dt_bias", m.DtBias) && yield(p+"A_log", m.ALog) && yield(p+"D", m.D) &&
		m.InProj.params(p+"in_proj", yield) &&
		yield(p+"conv1d.weight", m.ConvWeight) && yield(p+"conv1d.bias", m.ConvBias) &&
		(m.ZBias == nil || yield(p+"z_bias", m.ZBias)) &&
		(m.NormWeight == nil || yield(p+"norm.weight", m.NormWeight)) &&
		m.OutProj.params(p+"out_proj", yield)
}
