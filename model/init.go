package model

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"krait/tensor"
)

// Init says how the new Mamba layers of a hybrid begin.
type Init int

const (
	// InitAttention is the paper's: V, K, Q, O become x, B, C and the output projection, the rest as Mamba2 begins, with a random convolution.
	InitAttention Init = iota
	// InitLinear is InitAttention with an identity convolution and D = 0, and a neutral gate where the layer has a gate bias: with Identity,
	// ZBias and NoNorm in the configuration, and no decay, the fresh layer is the teacher's linear attention.
	InitLinear
	// InitRandom takes nothing from the teacher's attention: the ablation of the paper's Table 7.
	InitRandom
)

// ParseInit reads an Init as the command line spells it.
func ParseInit(s string) (Init, error) {
	switch s {
	case "attention":
		return InitAttention, nil
	case "linear":
		return InitLinear, nil
	case "random":
		return InitRandom, nil
	}
	return 0, fmt.Errorf("init %q: want attention, linear or random", s)
}

// neutralGate is the z with silu(z) = 1.
const neutralGate = 1.2784645

// FromTeacher returns a hybrid of the teacher's shape: layers outside c.AttnLayers become the Mamba layers of c that begin as init says, everything
// else is a copy. A teacher's layer that is Mamba already is copied whole. The biases of q, k and v, where the teacher has them, go
// into the convolution's bias, which is the same function behind the first tokens; the bias of o stays with the output projection.
func FromTeacher(teacher *Model, c *MambaConfig, init Init, rng *rand.Rand) (*Model, error) {
	config := teacher.Config
	if c.Backbone || config.Mamba != nil && config.Mamba.Backbone {
		return nil, fmt.Errorf("a pure Mamba model has no attention that a hybrid could begin from")
	}
	config.Mamba = c
	if len(c.AttnLayers) == config.NumHiddenLayers {
		config.Mamba = nil
	}
	for _, l := range c.AttnLayers {
		if l >= 0 && l < config.NumHiddenLayers && !teacher.Config.IsAttention(l) {
			return nil, fmt.Errorf("attn_layers: layer %d of the teacher is Mamba, there is no attention to keep", l)
		}
	}
	m, err := New(config)
	if err != nil {
		return nil, err
	}
	from := map[string]*tensor.Tensor{}
	for name, p := range teacher.Params {
		from[name] = p
	}
	for name, p := range m.Params {
		if src, ok := from[name]; ok {
			if !slices.Equal(p.Shape, src.Shape) {
				return nil, fmt.Errorf("%s: shape %v, the teacher's is %v", name, p.Shape, src.Shape)
			}
			copy(p.Data, src.Data)
		}
	}
	for i, b := range m.Blocks {
		mamba, ok := b.Mixer.(interface {
			init(a *Attention, init Init, rng *rand.Rand) error
		})
		if attention, ok2 := teacher.Blocks[i].Mixer.(*Attention); ok && ok2 {
			if err := mamba.init(attention, init, rng); err != nil {
				return nil, fmt.Errorf("layer %d: %w", i, err)
			}
		}
	}
	return m, nil
}

// init fills a fresh layer (method §1.2).
func (m *Mamba2) init(a *Attention, init Init, rng *rand.Rand) error {
	s := m.shape
	if m.repeat != nil {
		return fmt.Errorf("a layer that repeats x and B before the convolution cannot begin from attention")
	}
	if s.H*s.P != a.heads.H*a.heads.P || s.K*s.P != a.heads.K*a.heads.P {
		return fmt.Errorf("d_inner %d and d_xb %d, the teacher's attention is %d and %d wide", s.H*s.P, s.K*s.P, a.heads.H*a.heads.P, a.heads.K*a.heads.P)
	}
	inner, hidden := s.H*s.P, m.InProj.Weight.Shape[1]
	uniform(m.InProj.Weight.Data, 1/math.Sqrt(float64(hidden)), rng)
	half := 1 / math.Sqrt(float64(m.ConvWeight.Shape[2])) // PyTorch's Conv1d: fan-in is d_conv
	uniform(m.ConvWeight.Data, half, rng)
	uniform(m.ConvBias.Data, half, rng)
	for h := range s.H {
		m.DtBias.Data[h] = stepBias(rng)
		m.ALog.Data[h] = float32(math.Log(1 + 15*rng.Float64()))
		m.D.Data[h] = 1
	}
	if init == InitRandom {
		uniform(m.OutProj.Weight.Data, 1/math.Sqrt(float64(inner)), rng)
		return nil
	}
	if init == InitLinear {
		identityConv(m.ConvWeight, m.ConvBias)
		clear(m.D.Data)
		if m.ZBias != nil {
			clear(m.InProj.Weight.Data[:inner*hidden])
			fill(m.ZBias, neutralGate)
		}
	}
	row, channel := inner, 0
	for _, l := range []*Linear{a.VProj, a.KProj, a.QProj} {
		copy(m.InProj.Weight.Data[row*hidden:], l.Weight.Data)
		if l.Bias != nil {
			m.foldBias(channel, l.Bias.Data)
		}
		row += l.Weight.Shape[0]
		channel += l.Weight.Shape[0]
	}
	copy(m.OutProj.Weight.Data, a.OProj.Weight.Data)
	if a.OProj.Bias != nil {
		copy(m.OutProj.Bias.Data, a.OProj.Bias.Data)
	}
	return nil
}

// stepBias draws the bias of a step size: softplus⁻¹(τ) with τ log-uniform in [1e-3, 1e-1].
func stepBias(rng *rand.Rand) float32 {
	tau := max(1e-4, math.Exp(math.Log(1e-3)+rng.Float64()*(math.Log(1e-1)-math.Log(1e-3))))
	return float32(tau + math.Log(-math.Expm1(-tau)))
}

// identityConv makes a convolution (channels, 1, d_conv) that hands on the present.
func identityConv(weight, bias *tensor.Tensor) {
	width := weight.Shape[2]
	clear(weight.Data)
	clear(bias.Data)
	for c := range bias.Data {
		weight.Data[c*width+width-1] = 1
	}
}

// foldBias moves a bias before the convolution into the convolution's own: conv(x+b) = conv(x) + b·Σw.
func (m *Mamba2) foldBias(channel int, bias []float32) {
	width := m.ConvWeight.Shape[2]
	for i, b := range bias {
		for _, w := range m.ConvWeight.Data[(channel+i)*width:][:width] {
			m.ConvBias.Data[channel+i] += b * w
		}
	}
}

// uniform fills x with U(-bound, bound).
func uniform(x []float32, bound float64, rng *rand.Rand) {
	for i := range x {
		x[i] = float32((2*rng.Float64() - 1) * bound)
	}
}
