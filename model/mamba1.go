package model

import (
	"fmt"
	"math"
	"math/rand/v2"

	"krait/autograd"
	"krait/tensor"
)

// Mamba1 is the Mamba mixer of the paper's releases (method §1.3). Each group of d_state channels is a head of its own, with a row of C, and
// shares a row of B with its neighbours: as released, groups that shared a head of the teacher's attention are not paired again (§1.4).
// DtBias is the whole bias of the step sizes; the releases' layer adds its file's twice, so package checkpoint doubles it.
type Mamba1 struct {
	InProjX, InProjZ, BProj, CProj *Linear
	DtProjDown, DtProj             *Linear        // (dt_rank, hidden), (d_inner, dt_rank); the bias of DtProj is DtBias
	ConvWeight, ConvBias           *tensor.Tensor // (channels, 1, d_conv), (channels)
	DtBias, ALog, D                *tensor.Tensor // (d_inner), (d_inner, d_state), (d_inner)
	OutProj                        *Linear
	shape                          autograd.ScanShape
	repeat                         []int32 // the columns of x, each group repeated for those that share it
	repeatFirst                    bool    // the convolution comes after the repetition
	rates                          []float32
}

func newMamba1(c *Config) *Mamba1 {
	m := c.Mamba
	s := autograd.ScanShape{G: m.DInner / m.DState, P: m.DState, N: m.DState, KB: m.DXB / m.DState, KC: m.DInner / m.DState}
	channels := m.DInner
	if !m.RepeatFirst {
		channels = m.DXB
	}
	return &Mamba1{
		InProjX: newLinear(m.DXB, c.HiddenSize, false), InProjZ: newLinear(m.DInner, c.HiddenSize, false),
		BProj: newLinear(m.DXB, c.HiddenSize, false), CProj: newLinear(m.DInner, c.HiddenSize, false),
		DtProjDown: newLinear(m.DTRank, c.HiddenSize, false), DtProj: newLinear(m.DInner, m.DTRank, false),
		ConvWeight: tensor.New(channels, 1, m.DConv), ConvBias: tensor.New(channels),
		DtBias: tensor.New(m.DInner), ALog: tensor.New(m.DInner, m.DState), D: tensor.New(m.DInner),
		OutProj: newLinear(c.HiddenSize, m.DInner, c.OBias),
		shape:   s, repeat: autograd.Repeat(0, s.KB, s.P, s.G/s.KB), repeatFirst: m.RepeatFirst,
	}
}

// Forward implements Mixer.
func (m *Mamba1) Forward(t *autograd.Tape, u *tensor.Tensor, b *layout, layer int) *tensor.Tensor {
	x := m.InProjX.Forward(t, u) // (rows, d_xb)
	if m.repeatFirst {
		x = autograd.Columns(t, x, m.repeat)
	}
	x = autograd.SiLU(t, b.convolved(t, layer, x, m.ConvWeight, m.ConvBias))
	if !m.repeatFirst {
		x = autograd.Columns(t, x, m.repeat)
	}
	dt := m.DtProj.Forward(t, m.DtProjDown.Forward(t, u))
	y := b.scanned(t, layer, x, dt, m.BProj.Forward(t, u), m.CProj.Forward(t, u), scanWeights{m.DtBias, m.ALog, m.D, m.frozenRates(), m.shape})
	return m.OutProj.Forward(t, autograd.SwiGLU(t, m.InProjZ.Forward(t, u), y))
}

// frozenRates returns what pack computed, unless the rates are being trained.
func (m *Mamba1) frozenRates() []float32 {
	if m.ALog.Grad != nil {
		return nil
	}
	return m.rates
}

func (m *Mamba1) pack() { m.rates = m.shape.Rates(m.ALog.Data) }

func (m *Mamba1) linears() []*Linear {
	return []*Linear{m.InProjX, m.InProjZ, m.BProj, m.CProj, m.DtProjDown, m.DtProj, m.OutProj}
}

func (m *Mamba1) params(prefix string, yield func(string, *tensor.Tensor) bool) bool {
	p := prefix + "mamba."
	return yield(p+"A_log", m.ALog) && yield(p+"D", m.D) &&
		m.InProjX.params(p+"in_proj_x", yield) && m.InProjZ.params(p+"in_proj_z", yield) &&
		m.BProj.params(p+"B_proj", yield) && m.CProj.params(p+"C_proj", yield) && m.DtProjDown.params(p+"dt_proj_down", yield) &&
		m.DtProj.params(p+"dt_proj", yield) && yield(p+"dt_proj.bias", m.DtBias) &&
		yield(p+"conv1d.weight", m.ConvWeight) && yield(p+"conv1d.bias", m.ConvBias) &&
		m.OutProj.params(p+"out_proj", yield)
}

type mamba1State struct {
	ssm  *autograd.ScanState
	conv *autograd.ConvState
}

func (m *Mamba1) newState() layerState {
	return &mamba1State{autograd.NewScanState(m.shape), autograd.NewConvState(m.ConvWeight.Shape[0], m.ConvWeight.Shape[2])}
}

func (s *mamba1State) mark(sure int)                  { s.ssm.Mark(sure) }
func (s *mamba1State) keep(_, n int)                  { s.ssm.Keep(n); s.conv.Keep(n) }
func (s *mamba1State) clone() layerState              { return &mamba1State{s.ssm.Clone(), s.conv.Clone()} }
func (s *mamba1State) bytes() int                     { return s.ssm.Bytes() + s.conv.Bytes() }
func (s *mamba1State) convState() *autograd.ConvState { return s.conv }

func (l *layout) scanRuns(layer int) []autograd.ScanRun {
	runs := runsOf(l, &l.scan)
	row := 0
	for i, r := range l.runs {
		runs[i] = autograd.ScanRun{Start: row, Len: r.Len}
		if r.State != nil {
			runs[i].State, runs[i].Provisional = r.State.layers[layer].(*mamba1State).ssm, r.State.mark >= 0
		}
		row += r.Len
	}
	return runs
}

// init fills a fresh layer (method §1.3): V, K, Q and O become x, B, C and the output projection. The step sizes begin as Mamba's own do,
// not as in the releases, whose doubled bias makes them their squares.
func (m *Mamba1) init(a *Attention, init Init, rng *rand.Rand) error {
	inner, xb, hidden, rank := m.shape.Dim(), m.BProj.Weight.Shape[0], m.BProj.Weight.Shape[1], m.DtProj.Weight.Shape[1]
	if inner != a.heads.H*a.heads.P || xb != a.heads.K*a.heads.P {
		return fmt.Errorf("d_inner %d and d_xb %d, the teacher's attention is %d and %d wide", inner, xb, a.heads.H*a.heads.P, a.heads.K*a.heads.P)
	}
	for _, l := range []*Linear{a.QProj, a.KProj, a.VProj} {
		if l.Bias != nil && init != InitRandom {
			return fmt.Errorf("the teacher's attention has biases of q, k and v, for which a Mamba1 layer has no place")
		}
	}
	bound := 1 / math.Sqrt(float64(hidden))
	for _, l := range []*Linear{m.InProjX, m.InProjZ, m.BProj, m.CProj, m.DtProjDown} {
		uniform(l.Weight.Data, bound, rng)
	}
	uniform(m.DtProj.Weight.Data, 1/math.Sqrt(float64(rank)), rng)
	half := 1 / math.Sqrt(float64(m.ConvWeight.Shape[2]))
	uniform(m.ConvWeight.Data, half, rng)
	uniform(m.ConvBias.Data, half, rng)
	for c := range inner {
		m.DtBias.Data[c] = stepBias(rng)
		m.D.Data[c] = 1
		for n := range m.shape.N {
			m.ALog.Data[c*m.shape.N+n] = float32(math.Log(float64(n + 1))) // S4D-real
		}
	}
	if init == InitRandom {
		uniform(m.OutProj.Weight.Data, 1/math.Sqrt(float64(inner)), rng)
		return nil
	}
	if init == InitLinear {
		identityConv(m.ConvWeight, m.ConvBias)
		clear(m.D.Data)
	}
	copy(m.InProjX.Weight.Data, a.VProj.Weight.Data)
	copy(m.BProj.Weight.Data, a.KProj.Weight.Data)
	copy(m.CProj.Weight.Data, a.QProj.Weight.Data)
	copy(m.OutProj.Weight.Data, a.OProj.Weight.Data)
	if a.OProj.Bias != nil {
		copy(m.OutProj.Bias.Data, a.OProj.Bias.Data)
	}
	return nil
}
