// Package autograd is a small explicit tape and the differentiable operations of Llama, Mamba2 and their losses. An operation computes
// its result at once and, on a recording tape, leaves behind the function that adds its gradients. Gradients always accumulate.
package autograd

import (
	"time"

	"krait/tensor"
)

// Kind says what sort of work an operation is, for the profile of a training step.
type Kind int

// The kinds of work of a step. What a step spends outside every operation is overhead.
const (
	GEMM Kind = iota
	Scan
	Attention
	Elementwise
	kinds
)

// String returns the kind's name as reports print it.
func (k Kind) String() string { return [...]string{"gemm", "scan", "attention", "elementwise"}[k] }

// Profile is the time spent in operations of each kind, forward and gradient together.
type Profile [kinds]time.Duration

// Tape owns the activations of a step and, when it records, the gradient functions in forward order. A nil tape records nothing and
// takes memory from the heap.
type Tape struct {
	arena   tensor.Arena
	record  bool
	grads   []gradient
	profile *Profile
}

type gradient struct {
	kind Kind
	f    func()
}

// NewTape returns a tape that records.
func NewTape() *Tape { return &Tape{record: true} }

// NewScratch returns a tape that records nothing and is used for its arena: inference without garbage. Reset ends a step.
func NewScratch() *Tape { return &Tape{} }

// SetProfile makes the tape add the time of its operations to p; nil stops it.
func (t *Tape) SetProfile(p *Profile) { t.profile = p }

// Reset forgets the recorded operations and takes back all activations: tensors made on the tape are dead afterwards.
func (t *Tape) Reset() {
	if t == nil {
		return
	}
	clear(t.grads)
	t.grads = t.grads[:0]
	t.arena.Reset()
}

// Forgets reports whether memory on the tape can be taken back before Reset: a tape that records needs all of it for the gradients, and
// the heap of a nil tape takes care of itself.
func (t *Tape) Forgets() bool { return t != nil && !t.record }

// Place returns where the tape's memory stands, for Release.
func (t *Tape) Place() tensor.Place { return t.arena.Place() }

// Release takes back all tensors made since the tape stood at p. The tape must be one that Forgets.
func (t *Tape) Release(p tensor.Place) {
	if t.record {
		panic("autograd: Release on a tape that records")
	}
	t.arena.Release(p)
}

// Bytes returns the memory that the tape holds for activations.
func (t *Tape) Bytes() int { return t.arena.Bytes() }

// New returns a matrix (rows, cols) with undefined contents. It has a (zero) gradient if the tape records and an input has one.
func (t *Tape) New(rows, cols int, inputs ...*tensor.Tensor) *tensor.Tensor {
	if t == nil {
		return tensor.New(rows, cols)
	}
	y := t.arena.Tensor(rows, cols)
	if t.Recording(inputs...) {
		y.Grad = t.arena.Zero(rows * cols)
	}
	return y
}

// Recording reports whether an operation on these inputs must leave a gradient function.
func (t *Tape) Recording(inputs ...*tensor.Tensor) bool {
	if t == nil || !t.record {
		return false
	}
	for _, x := range inputs {
		if x != nil && x.Grad != nil {
			return true
		}
	}
	return false
}

// Scratch returns n elements with undefined contents that live until Reset.
func (t *Tape) Scratch(n int) []float32 {
	if t == nil {
		return make([]float32, n)
	}
	return t.arena.Raw(n)
}

// Record leaves the gradient function of an operation.
func (t *Tape) Record(kind Kind, f func()) { t.grads = append(t.grads, gradient{kind, f}) }

// Start begins the measurement of an operation; the returned value goes to Stop.
func (t *Tape) Start() time.Time {
	if t == nil || t.profile == nil {
		return time.Time{}
	}
	return time.Now()
}

// Stop ends the measurement begun by Start.
func (t *Tape) Stop(kind Kind, start time.Time) {
	if !start.IsZero() {
		t.profile[kind] += time.Since(start)
	}
}

// Backward runs the recorded gradient functions in reverse. The gradients of the results it starts from must be set already, as
// every loss of package loss does.
func (t *Tape) Backward() {
	for i := len(t.grads) - 1; i >= 0; i-- {
		g := t.grads[i]
		start := t.Start()
		g.f()
		t.Stop(g.kind, start)
	}
}
