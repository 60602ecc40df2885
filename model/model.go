package model

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"krait/autograd"
	"krait/kernel"
	"krait/quant"
	"krait/tensor"
)

// Model is a decoder of Llama blocks, some of whose mixers are Mamba.
type Model struct {
	Config      Config
	EmbedTokens *tensor.Tensor // (vocab, hidden)
	Fusion      *Fusion        // of a draft head, else nil
	Blocks      []*Block
	Norm        *Norm
	head        *Linear // its Weight is EmbedTokens when the embeddings are tied
	rope        *ropeTable
	format      quant.Format     // of the packed weights
	frozen      bool             // the matrices are there only packed
	kv          *kernel.KVFormat // what SetKV chose; nil: the weights' format decides
	embedded    *quant.Matrix    // the embeddings where they are there packed
	recompute   bool             // what a block makes is forgotten and made again for its gradients
}

// Block is one decoder layer. MLPNorm and MLP are nil in pure models of Mamba's authors.
type Block struct {
	MixerNorm, MLPNorm *Norm
	Mixer              Mixer
	MLP                *MLP
}

// New returns a model of the configuration's shape with zero weights and unit norms.
func New(c Config) (*Model, error) {
	m, err := newShape(c)
	if err != nil {
		return nil, err
	}
	for _, l := range m.linears {
		l.Weight.Data = make([]float32, tensor.Size(l.Weight.Shape))
	}
	return m, nil
}

// NewFrozen returns a model for inference alone, whose matrices will be in format f: PackFrom gives them to it, and until then, as for ever
// in float32, they have no numbers. What Params yields with Data is the caller's to fill before, matrices that are float32 in every format
// among it.
func NewFrozen(c Config, f quant.Format) (*Model, error) {
	m, err := newShape(c)
	if err != nil {
		return nil, err
	}
	m.format, m.frozen = f, true
	m.formatKV()
	for name, l := range m.linears {
		unpacked := f == quant.F32 && l.Weight == m.EmbedTokens && l != m.head // products never read it
		if unpacked || m.formatOf(name, l, quant.Q4) == quant.F32 {
			l.Weight.Data = make([]float32, tensor.Size(l.Weight.Shape))
		}
	}
	return m, nil
}

// newShape returns a model whose matrices have no numbers.
func newShape(c Config) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	m := &Model{Config: c, EmbedTokens: tensor.Shaped(c.VocabSize, c.HiddenSize), Norm: newNorm(c.HiddenSize, c.RMSNormEps), rope: newRopeTable(&c)}
	m.head = &Linear{Weight: m.EmbedTokens}
	if c.NumLabels > 0 {
		m.head.Weight = tensor.Shaped(c.NumLabels, c.HiddenSize)
	} else if !c.TieWordEmbeddings {
		m.head.Weight = tensor.Shaped(c.HeadRows(), c.HiddenSize)
	}
	if c.Eagle {
		m.Fusion = newFusion(&c)
	}
	for i := range c.NumHiddenLayers {
		m.Blocks = append(m.Blocks, newBlock(&c, i))
	}
	return m, nil
}

func newBlock(c *Config, i int) *Block {
	eps, intermediate := c.RMSNormEps, c.IntermediateSize
	if !c.IsAttention(i) {
		eps, intermediate = c.Mamba.RMSNormEps, c.Mamba.IntermediateSize
	}
	if c.Mamba != nil && c.Mamba.Backbone {
		b := &Block{MixerNorm: newNorm(c.HiddenSize, eps)}
		if c.Mamba.DTRank > 0 {
			b.Mixer = newBackboneMamba(c)
		} else {
			b.Mixer = newBackboneMamba2(c)
		}
		return b
	}
	b := &Block{
		MixerNorm: newNorm(c.HiddenSize, eps), MLPNorm: newNorm(c.HiddenSize, eps),
		MLP: &MLP{
			GateProj: newLinear(intermediate, c.HiddenSize, c.MLPBias),
			UpProj:   newLinear(intermediate, c.HiddenSize, c.MLPBias),
			DownProj: newLinear(c.HiddenSize, intermediate, c.MLPBias),
		},
	}
	switch {
	case c.IsAttention(i):
		b.Mixer = newAttention(c)
	case c.Mamba.DTRank > 0:
		b.Mixer = newMamba1(c)
	default:
		b.Mixer = newMamba2(c)
	}
	return b
}

// Forward returns the rows after the block: (rows, hidden).
func (b *Block) Forward(t *autograd.Tape, x *tensor.Tensor, l *layout, layer int) *tensor.Tensor {
	return b.feed(t, autograd.Add(t, x, b.Mixer.Forward(t, b.MixerNorm.Forward(t, x), l, layer)))
}

// feed returns x with the output of the MLP added, where there is one.
func (b *Block) feed(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor {
	if b.MLP == nil {
		return x
	}
	return autograd.Add(t, x, b.MLP.Forward(t, b.MLPNorm.Forward(t, x)))
}

// Forward returns the hidden rows after the final norm (rows, hidden) and advances the states of the batch's runs.
func (m *Model) Forward(t *autograd.Tape, b Batch) *tensor.Tensor {
	l := m.layout(t, b)
	x := m.begin(t, b)
	if t.Forgets() {
		x = m.forwardInPlace(t, x, l)
	} else {
		for i, block := range m.Blocks {
			x = m.block(t, block, x, l, i)
		}
	}
	l.done()
	return m.Norm.Forward(t, x)
}

// forwardInPlace runs the blocks with the activations of one block at a time in memory: the rows go back and forth between two places.
func (m *Model) forwardInPlace(t *autograd.Tape, x *tensor.Tensor, l *layout) *tensor.Tensor {
	spare := t.New(x.Rows(), x.Cols())
	for i, block := range m.Blocks {
		p := t.Place()
		copy(spare.Data, block.Forward(t, x, l, i).Data)
		t.Release(p)
		x, spare = spare, x
	}
	return x
}

// MixerTraces returns, for each layer, the input of its mixer (after the norm) and the mixer's output, both (rows, hidden): what layer-local
// alignment compares. It computes only as many layers as the last one wanted.
func (m *Model) MixerTraces(t *autograd.Tape, b Batch, want func(layer int) bool, yield func(layer int, in, out *tensor.Tensor)) {
	l := m.layout(t, b)
	x := m.begin(t, b)
	last := -1
	for i := range m.Blocks {
		if want(i) {
			last = i
		}
	}
	for i := 0; i <= last; i++ {
		block := m.Blocks[i]
		in := block.MixerNorm.Forward(t, x)
		out := block.Mixer.Forward(t, in, l, i)
		if want(i) {
			yield(i, in, out)
		}
		x = block.feed(t, autograd.Add(t, x, out))
	}
	l.done()
}

// Mix returns the output of one layer's mixer for normalised rows x (rows, hidden) laid out as the batch is.
func (m *Model) Mix(t *autograd.Tape, layer int, x *tensor.Tensor, b Batch) *tensor.Tensor {
	mixer, l := m.Blocks[layer].Mixer, m.layout(t, b)
	if !m.recompute || l.stateful() {
		return mixer.Forward(t, x, l, layer)
	}
	return autograd.Recompute(t, x, func(t *autograd.Tape, x *tensor.Tensor) *tensor.Tensor { return mixer.Forward(t, x, l, layer) })
}

// Logits returns hidden·headᵀ: (rows, vocab), a reward model's scores (rows, 1). Callers pass only the rows they need. Tokens that a cut head does not know have -Inf.
func (m *Model) Logits(t *autograd.Tape, hidden *tensor.Tensor) *tensor.Tensor {
	y := m.head.Forward(t, hidden)
	if len(m.Config.HeadTokens) == 0 {
		return y
	}
	all := t.New(hidden.Rows(), m.Config.VocabSize)
	fill(all, float32(math.Inf(-1)))
	for r := range hidden.Rows() {
		row, known := all.Row(r), y.Row(r)
		for i, id := range m.Config.HeadTokens {
			row[id] = known[i]
		}
	}
	return all
}

// Head returns the weight (Config.HeadRows, hidden) of the output layer.
func (m *Model) Head() autograd.Weight { return m.head.weight() }

// Params yields every weight under its name in the checkpoint, in a fixed order. A weight that is not here does not exist.
func (m *Model) Params(yield func(name string, p *tensor.Tensor) bool) {
	n := m.Config.names()
	if !yield(n.embed, m.EmbedTokens) || m.Fusion != nil && !m.Fusion.params(yield) {
		return
	}
	for i, b := range m.Blocks {
		prefix := fmt.Sprintf(n.layer, i)
		if !b.params(n, func(name string, p *tensor.Tensor) bool { return yield(prefix+name, p) }) {
			return
		}
	}
	if !yield(n.norm, m.Norm.Weight) || m.head.Weight == m.EmbedTokens {
		return
	}
	if m.Config.NumLabels > 0 {
		yield("score.weight", m.head.Weight)
	} else {
		yield("lm_head.weight", m.head.Weight)
	}
}

// ToReward makes a language model a reward model: an output layer of zeros, which gives each token the score 0, takes the place of the old one.
func (m *Model) ToReward() {
	m.Config.NumLabels = 1
	m.head = &Linear{Weight: tensor.New(1, m.Config.HiddenSize)}
}

// params yields the block's weights under their names within the layer.
func (b *Block) params(n names, yield func(name string, p *tensor.Tensor) bool) bool {
	return yield(n.mixerNorm, b.MixerNorm.Weight) && b.Mixer.params("", yield) && (b.MLP == nil ||
		yield("post_attention_layernorm.weight", b.MLPNorm.Weight) &&
			b.MLP.GateProj.params("mlp.gate_proj", yield) && b.MLP.UpProj.params("mlp.up_proj", yield) &&
			b.MLP.DownProj.params("mlp.down_proj", yield))
}

// NumParams returns the number of weights.
func (m *Model) NumParams() int {
	n := 0
	for _, p := range m.Params {
		n += tensor.Size(p.Shape)
	}
	return n
}

// Train gives a gradient to the weights that trainable accepts and takes it from all others.
func (m *Model) Train(trainable func(name string) bool) {
	m.mustHaveNumbers()
	for name, p := range m.Params {
		p.Grad = nil
		if trainable(name) {
			p.Grad = make([]float32, len(p.Data))
		}
	}
}

// layout is what the mixers need to know about a batch: where its runs are and each row's rotary angles.
type layout struct {
	runs     []Run
	cos, sin []float32 // (rows, head_dim/2)
	branches bool      // a run rewinds
	passing  bool      // the runs below are of one layer at a time, since no gradient will ask for them again
	attend   []autograd.AttendRun
	conv     []autograd.ConvRun
	ssd      []autograd.SSDRun
	scan     []autograd.ScanRun
}

// layouts are those that have passed.
var layouts = sync.Pool{New: func() any { return new(layout) }}

// runsOf returns room for the layout's runs in a mixer's form.
func runsOf[T any](l *layout, kept *[]T) []T {
	n := len(l.runs)
	if !l.passing {
		return make([]T, n)
	}
	*kept = slices.Grow((*kept)[:0], n)[:n]
	return *kept
}

func (m *Model) layout(t *autograd.Tape, b Batch) *layout {
	total, branches := 0, false
	for i, r := range b.Runs {
		m.checkRun(&b, i)
		total += r.Len
		branches = branches || r.Rewind > 0
	}
	if total != len(b.Tokens) {
		panic(fmt.Sprintf("model: runs of %d tokens in a batch of %d", total, len(b.Tokens)))
	}
	half := m.Config.HeadDim / 2
	l := layouts.Get().(*layout)
	l.runs, l.cos, l.sin, l.branches, l.passing = b.Runs, t.Scratch(total*half), t.Scratch(total*half), branches, t.Forgets()
	row := 0
	for i, r := range b.Runs {
		pos := b.start(i)
		cos, sin := m.rope.angles(pos + r.Len)
		copy(l.cos[row*half:], cos[pos*half:(pos+r.Len)*half])
		copy(l.sin[row*half:], sin[pos*half:(pos+r.Len)*half])
		row += r.Len
	}
	return l
}

// stateful reports whether a run goes on from a state or leaves one.
func (l *layout) stateful() bool {
	return slices.ContainsFunc(l.runs, func(r Run) bool { return r.State != nil })
}

// done advances the states of the runs. The layout is not used any more.
func (l *layout) done() {
	for _, r := range l.runs {
		if r.State != nil {
			r.State.length += r.Len - r.Rewind
		}
	}
	if l.passing {
		clear(l.attend)
		clear(l.conv)
		clear(l.ssd)
		clear(l.scan)
		l.runs, l.cos, l.sin = nil, nil, nil
		layouts.Put(l)
	}
}

func (l *layout) attendRuns(layer int) []autograd.AttendRun {
	runs := runsOf(l, &l.attend)
	row := 0
	for i, r := range l.runs {
		runs[i] = autograd.AttendRun{Start: row, Len: r.Len}
		if r.State != nil {
			runs[i].Cache = r.State.layers[layer].(*attentionState).kv
		}
		row += r.Len
	}
	return runs
}

func (l *layout) convRuns(layer int) []autograd.ConvRun {
	runs := runsOf(l, &l.conv)
	row := 0
	for i, r := range l.runs {
		runs[i] = autograd.ConvRun{Start: row, Len: r.Len}
		if r.State != nil {
			runs[i].State, runs[i].Provisional = r.State.layers[layer].(convHolder).convState(), r.State.mark >= 0
		}
		row += r.Len
	}
	return runs
}

func (l *layout) ssdRuns(layer int) []autograd.SSDRun {
	runs := runsOf(l, &l.ssd)
	row := 0
	for i, r := range l.runs {
		runs[i] = autograd.SSDRun{Start: row, Len: r.Len}
		if r.State != nil {
			runs[i].State, runs[i].Provisional = r.State.layers[layer].(*mambaState).ssm, r.State.mark >= 0
		}
		row += r.Len
	}
	return runs
}
