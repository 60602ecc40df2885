package model

import (
	"krait/autograd"
	"krait/kernel"
	"krait/quant"
	"krait/tensor"
)

// Linear is y = x·Wᵀ + b: Weight (out, in), Bias (out) or nil.
type Linear struct {
	Weight, Bias *tensor.Tensor
	packed       autograd.Weight // nil until Pack
	bf16         bool            // products of the float32 weight round their operands to bf16
}

// newLinear returns a layer whose Weight has no numbers yet.
func newLinear(out, in int, bias bool) *Linear {
	l := &Linear{Weight: tensor.Shaped(out, in)}
	if bias {
		l.Bias = tensor.New(out)
	}
	return l
}

// weight returns the matrix in the form that serves best: packed once Pack has been called, unless it is being trained.
func (l *Linear) weight() autograd.Weight {
	if l.packed != nil && l.Weight.Grad == nil {
		return l.packed
	}
	return autograd.Dense{Tensor: l.Weight, BF16: l.bf16}
}

// Forward returns x·Wᵀ + b: (rows, out).
func (l *Linear) Forward(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor {
	return autograd.Linear(t, x, l.weight(), l.Bias)
}

// together returns what Forward of each layer does: at most four that read the same rows, of which those ready for inference are multiplied in
// one pass.
func together(t *autograd.Tape, x *tensor.Tensor, layers ...*Linear) (ys [4]*tensor.Tensor) {
	var ms [4]quant.Matrix
	var out [4][]float32
	for i, l := range layers {
		m, ok := l.weight().(quant.Matrix)
		if _, in := l.dims(); !ok || in != x.Cols() || t.Recording(x) {
			for i, l := range layers {
				ys[i] = l.Forward(t, x)
			}
			return ys
		}
		ms[i] = m
	}
	defer t.Stop(autograd.GEMM, t.Start())
	for i, l := range layers {
		n, _ := l.dims()
		ys[i] = t.New(x.Rows(), n)
		out[i] = ys[i].Data
	}
	quant.MulEach(ms[:len(layers)], out[:len(layers)], x.Data, x.Rows())
	for i, l := range layers {
		if l.Bias != nil {
			for r := range x.Rows() {
				kernel.Add(ys[i].Row(r), l.Bias.Data)
			}
		}
	}
	return ys
}

func (l *Linear) dims() (out, in int) { return l.weight().Dims() }

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
	ys := together(t, x, m.GateProj, m.UpProj)
	return m.DownProj.Forward(t, autograd.SwiGLU(t, ys[0], ys[1]))
}

// Mixer moves information along a sequence. Attention, Mamba1 and Mamba2 are the kinds there are.
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
	QNorm, KNorm               *Norm // of each head's queries and keys before rotation (head_dim); nil where the model has none
	heads                      autograd.Heads
}

func newAttention(c *Config) *Attention {
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	a := &Attention{
		QProj: newLinear(q, c.HiddenSize, c.QKVBias), KProj: newLinear(kv, c.HiddenSize, c.QKVBias), VProj: newLinear(kv, c.HiddenSize, c.QKVBias),
		OProj: newLinear(c.HiddenSize, q, c.OBias),
		heads: autograd.Heads{H: c.NumAttentionHeads, K: c.NumKeyValueHeads, P: c.HeadDim, Window: c.SlidingWindow},
	}
	if c.QKNorm {
		a.QNorm, a.KNorm = newNorm(c.HeadDim, c.RMSNormEps), newNorm(c.HeadDim, c.RMSNormEps)
	}
	return a
}

// Forward implements Mixer.
func (a *Attention) Forward(t *autograd.Tape, x *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	ys := together(t, x, a.QProj, a.KProj, a.VProj)
	q, k, v := ys[0], ys[1], ys[2] // (rows, H·P), (rows, K·P) twice
	if a.QNorm != nil {
		q = autograd.HeadRMSNorm(t, q, a.QNorm.Weight, a.heads.H, a.QNorm.Eps)
		k = autograd.HeadRMSNorm(t, k, a.KNorm.Weight, a.heads.K, a.KNorm.Eps)
	}
	q, k = autograd.Rope(t, q, b.cos, b.sin, a.heads.H), autograd.Rope(t, k, b.cos, b.sin, a.heads.K)
	return a.OProj.Forward(t, a.attend(t, q, k, v, b, layer))
}

func (a *Attention) attend(t *autograd.Tape, q, k, v *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	if !b.branches {
		return autograd.Attend(t, q, k, v, a.heads, b.attendRuns(layer))
	}
	return b.mixed(t, layer, a.heads.H*a.heads.P, []*tensor.Tensor{q, k, v}, keysAndValues, func(xs []*tensor.Tensor, l *layout) *tensor.Tensor {
		return autograd.Attend(t, xs[0], xs[1], xs[2], a.heads, l.attendRuns(layer))
	})
}

func (a *Attention) linears() []*Linear { return []*Linear{a.QProj, a.KProj, a.VProj, a.OProj} }

func (a *Attention) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + "self_attn."
	return a.QProj.params(p+"q_proj", yield) && a.KProj.params(p+"k_proj", yield) &&
		a.VProj.params(p+"v_proj", yield) && a.OProj.params(p+"o_proj", yield) &&
		(a.QNorm == nil || yield(p+"q_norm.weight", a.QNorm.Weight) && yield(p+"k_norm.weight", a.KNorm.Weight))
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
	shape                autograd.SSDShape // K = H where x and B are repeated before the convolution
	identity             bool
	repeat               []int32 // the columns of that repetition, or nil
	expand               []int32 // the columns of [x, B, C] after the convolution, or nil for all as they are
	normGroups           int     // the gated norm is over each of so many groups
	normEps              float32
	prefix               string // of the weights' names
}

func newMamba2(c *Config) *Mamba2 {
	m := c.Mamba
	s := autograd.SSDShape{H: m.NGroups, K: m.DXB / m.DState, P: m.DState, N: m.DState}
	rows := m.DInner + s.Width() + s.H
	var repeat []int32
	if m.RepeatFirst { // the columns of [x, B, C], those of x and B as often as a group has heads
		r := s.H / s.K
		repeat = append(autograd.Repeat(0, 2*s.K, s.P, r), autograd.Repeat(2*m.DXB, s.H, s.N, 1)...)
		s.K = s.H
	}
	x := &Mamba2{
		InProj:     newLinear(rows, c.HiddenSize, false),
		ConvWeight: tensor.New(s.Width(), 1, m.DConv), ConvBias: tensor.New(s.Width()),
		DtBias: tensor.New(s.H), ALog: tensor.New(s.H), D: tensor.New(s.H),
		OutProj: newLinear(c.HiddenSize, m.DInner, c.OBias),
		shape:   s, identity: m.Identity, repeat: repeat, normGroups: s.H, normEps: gateNormEps, prefix: "mamba.",
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
	parts := autograd.Split(t, m.InProj.Forward(t, x), inner, m.InProj.Weight.Shape[0]-inner-m.shape.H, m.shape.H)
	z, xbc, dt := parts[0], parts[1], parts[2]
	if m.repeat != nil {
		xbc = autograd.Columns(t, xbc, m.repeat)
	}
	if m.ZBias != nil {
		z = autograd.AddRow(t, z, m.ZBias)
	}
	xbc = b.convolved(t, layer, xbc, m.ConvWeight, m.ConvBias)
	if !m.identity {
		xbc = autograd.SiLU(t, xbc)
	}
	if m.expand != nil {
		xbc = autograd.Columns(t, xbc, m.expand)
	}
	y := m.scan(t, xbc, dt, b, layer) // (rows, d_inner)
	if m.NormWeight != nil {
		y = autograd.GatedRMSNorm(t, y, z, m.NormWeight, m.normGroups, m.normEps)
	} else {
		y = autograd.SwiGLU(t, z, y)
	}
	return m.OutProj.Forward(t, y)
}

func (m *Mamba2) scan(t *autograd.Tape, xbc, dt *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	if !b.branches {
		return autograd.SSD(t, xbc, dt, m.DtBias, m.ALog, m.D, m.shape, b.ssdRuns(layer))
	}
	return b.mixed(t, layer, m.shape.H*m.shape.P, []*tensor.Tensor{xbc, dt}, recurrence, func(xs []*tensor.Tensor, l *layout) *tensor.Tensor {
		return autograd.SSD(t, xs[0], xs[1], m.DtBias, m.ALog, m.D, m.shape, l.ssdRuns(layer))
	})
}

func (m *Mamba2) linears() []*Linear { return []*Linear{m.InProj, m.OutProj} }

func (m *Mamba2) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + m.prefix
	return yield(p+"dt_bias", m.DtBias) && yield(p+"A_log", m.ALog) && yield(p+"D", m.D) &&
		m.InProj.params(p+"in_proj", yield) &&
		yield(p+"conv1d.weight", m.ConvWeight) && yield(p+"conv1d.bias", m.ConvBias) &&
		(m.ZBias == nil || yield(p+"z_bias", m.ZBias)) &&
		(m.NormWeight == nil || yield(p+"norm.weight", m.NormWeight)) &&
		m.OutProj.params(p+"out_proj", yield)
}
