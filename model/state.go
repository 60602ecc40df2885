package model

import (
	"fmt"

	"krait/autograd"
	"krait/kernel"
	"krait/quant"
	"krait/tensor"
)

// Batch is rows of tokens laid end to end and cut into runs: Σ Len = len(Tokens).
type Batch struct {
	Tokens []int32
	Runs   []Run
	Hidden *tensor.Tensor // (rows, hidden): what a draft head reads beside the tokens, see Fusion; nil for other models
}

// Run is Len rows of one sequence. State carries the sequence; nil is a fresh sequence that nobody continues.
//
// Several runs of a batch may share a state that is marked: each goes on from where the one before it ended, less the last Rewind provisional
// tokens, which are forgotten. So a batch holds a tree of guesses, its nodes in preorder: each branch is a run that rewinds to its
// parent. A token's arithmetic is that of the chain from the root to it, and Keep keeps tokens of the last branch.
type Run struct {
	Len    int
	State  *State
	Rewind int
}

// Single returns a batch of one run.
func Single(tokens []int32, s *State) Batch {
	return Batch{Tokens: tokens, Runs: []Run{{Len: len(tokens), State: s}}}
}

// State is what a sequence leaves behind for its continuation: keys and values of each attention layer, the recurrent state and the
// convolution's window of each Mamba layer. It is a transaction: tokens fed after Mark are provisional until Keep.
type State struct {
	length int
	mark   int // length at Mark, or -1
	sure   int // tokens behind the mark that Keep has to keep
	layers []layerState
}

// layerState is one layer's part of a State.
type layerState interface {
	mark(sure int)    // begin a transaction whose first tokens, so many, will certainly be kept
	keep(mark, n int) // commit the first n tokens fed since the length was mark, forget the rest
	clone() layerState
	bytes() int
}

// NewState returns the state of an empty sequence.
func (m *Model) NewState() *State {
	s := &State{mark: -1}
	for _, b := range m.Blocks {
		s.layers = append(s.layers, b.Mixer.newState())
	}
	return s
}

// Len returns the number of tokens fed, provisional ones included.
func (s *State) Len() int { return s.length }

// Mark makes the tokens fed from here on provisional.
func (s *State) Mark() { s.MarkAfter(0) }

// MarkAfter is Mark where the first tokens fed, so many, will certainly be kept: they need not be prepared for being forgotten.
func (s *State) MarkAfter(sure int) {
	if s.mark >= 0 {
		panic("model: Mark of a state that is marked")
	}
	s.mark, s.sure = s.length, sure
	for _, l := range s.layers {
		l.mark(sure)
	}
}

// Keep commits the first n tokens fed since Mark, which include those that are sure, and forgets the rest.
func (s *State) Keep(n int) {
	fed := s.length - s.mark
	if s.mark < 0 || n < min(s.sure, fed) || n > fed {
		panic(fmt.Sprintf("model: Keep(%d) of %d tokens since mark %d, %d of them sure", n, fed, s.mark, s.sure))
	}
	if fed > 0 {
		for _, l := range s.layers {
			l.keep(s.mark, n)
		}
	}
	s.length = s.mark + n
	s.mark = -1
}

// Bytes returns the memory that the sequence's state takes now.
func (s *State) Bytes() int {
	n := 0
	for _, l := range s.layers {
		n += l.bytes()
	}
	return n
}

// LogBytes returns the memory that the provisional tokens take beside what they will leave behind: the logs of the Mamba layers, with a second state of Mamba1
// layers, and the rows of their convolutions. It is what speculation costs a sequence.
func (s *State) LogBytes() int {
	n := 0
	for _, l := range s.layers {
		switch x := l.(type) {
		case *mambaState:
			n += x.ssm.LogBytes() + x.conv.LogBytes()
		case *mamba1State:
			n += x.ssm.LogBytes() + x.conv.LogBytes()
		}
	}
	return n
}

// Snapshot is a copy of a state that shares nothing with it.
type Snapshot struct{ s State }

// Snapshot returns a copy of the state. A marked state has none.
func (s *State) Snapshot() *Snapshot {
	if s.mark >= 0 {
		panic("model: Snapshot of a state that is marked")
	}
	return &Snapshot{s.copy()}
}

// Restore makes the state a copy of the snapshot.
func (s *State) Restore(from *Snapshot) { *s = from.s.copy() }

func (s *State) copy() State {
	c := State{length: s.length, mark: s.mark}
	for _, l := range s.layers {
		c.layers = append(c.layers, l.clone())
	}
	return c
}

type attentionState struct{ kv []kernel.KV }

func (a *Attention) newState() layerState {
	s := &attentionState{kv: make([]kernel.KV, a.heads.K)}
	for i := range s.kv {
		s.kv[i].P, s.kv[i].Format = a.heads.P, a.heads.KV
	}
	return s
}

func (s *attentionState) mark(int) {} // keys and values are cut

func (s *attentionState) keep(mark, n int) {
	for i := range s.kv {
		s.kv[i].Len = mark + n
	}
}

// Rewind forgets the last n provisional tokens.
func (s *attentionState) Rewind(n int) {
	for i := range s.kv {
		s.kv[i].Len -= n
	}
}

func (s *attentionState) clone() layerState {
	return &attentionState{kernel.CloneKV(s.kv)}
}

func (s *attentionState) bytes() int {
	n := 0
	for i := range s.kv {
		n += s.kv[i].Bytes()
	}
	return n
}

type mambaState struct {
	ssm  *autograd.SSDState
	conv *autograd.ConvState
}

func (m *Mamba2) newState() layerState {
	return &mambaState{autograd.NewSSDState(m.shape), autograd.NewConvState(m.ConvWeight.Shape[0], m.ConvWeight.Shape[2])}
}

func (s *mambaState) mark(sure int)     { s.ssm.Mark(sure) }
func (s *mambaState) keep(_, n int)     { s.ssm.Keep(n); s.conv.Keep(n) }
func (s *mambaState) clone() layerState { return &mambaState{s.ssm.Clone(), s.conv.Clone()} }
func (s *mambaState) bytes() int        { return s.ssm.Bytes() + s.conv.Bytes() }

func (s *mambaState) convState() *autograd.ConvState { return s.conv }

// convHolder is the state of a layer with a convolution.
type convHolder interface{ convState() *autograd.ConvState }

// SetKV chooses the format of keys and values: those of states made from here on, and those of sequences that nobody continues, except where
// a gradient is recorded. Without it they are f16 where the weights are narrow, and float32 where those are: see DefaultKV.
func (m *Model) SetKV(f kernel.KVFormat) {
	m.kv = &f
	m.formatKV()
}

// KV returns the format of keys and values.
func (m *Model) KV() kernel.KVFormat {
	if m.kv != nil {
		return *m.kv
	}
	return DefaultKV(m.format)
}

// DefaultKV returns the format of keys and values beside weights of a format: what f16 loses is less than what narrow weights have lost.
func DefaultKV(weights quant.Format) kernel.KVFormat {
	if weights == quant.F32 {
		return kernel.KVF32
	}
	return kernel.KVF16
}

// formatKV tells the layers the format.
func (m *Model) formatKV() {
	for _, b := range m.Blocks {
		if a, ok := b.Mixer.(*Attention); ok {
			a.heads.KV = m.KV()
		}
	}
}

// Repeat makes a sequence n tokens long by repeating keys and values that it has. It is for measuring how long a step takes far from the
// beginning, without the time to get there; what the state says means nothing.
func (s *State) Repeat(n int) {
	if s.mark >= 0 || s.length == 0 || n < s.length {
		panic(fmt.Sprintf("model: Repeat(%d) of %d tokens, mark %d", n, s.length, s.mark))
	}
	for _, l := range s.layers {
		if a, ok := l.(*attentionState); ok {
			kernel.ReserveKV(a.kv, n)
			for i := range a.kv {
				a.kv[i].Repeat(n)
			}
		}
	}
	s.length = n
}

// StateBytes returns the memory of one sequence's state after tokens tokens.
func (m *Model) StateBytes(tokens int) int {
	n := 0
	for _, b := range m.Blocks {
		switch x := b.Mixer.(type) {
		case *Attention:
			n += 2 * x.heads.KV.Bytes() * tokens * x.heads.K * x.heads.P
		default:
			n += x.newState().bytes()
		}
	}
	return n
}
