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
	again // operations that are run once more, which count as what they are
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
	made    []result
	inputs  []*tensor.Tensor // of all results, one after another
	pool    tensor.Pool      // of the results' gradients
	given   [][]float32      // taken from the pool for the gradient function that runs
	lists   []*tensor.Tensor // free places for lists of results
	listed  int
	profile *Profile
	again   *Tape // what Recompute runs on; nil until it does
}

// result is a tensor made by an operation, whose gradient has no memory but while Backward needs it: from the first gradient function that
// adds to it to the one of the operation itself.
type result struct {
	y      *tensor.Tensor
	op     int // index of the operation's gradient function
	lo, hi int // of its inputs
}

// pending stands for a gradient that has no memory yet.
var pending = make([]float32, 0)

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
	for _, r := range t.made {
		t.drop(r.y) // where Backward did not run
	}
	clear(t.grads)
	clear(t.made)
	clear(t.inputs)
	t.grads, t.made, t.inputs = t.grads[:0], t.made[:0], t.inputs[:0]
	t.listed = 0
	t.arena.Reset()
}

// list returns room for n results that lives until Reset.
func (t *Tape) list(n int) []*tensor.Tensor {
	if t == nil {
		return make([]*tensor.Tensor, n)
	}
	if t.listed+n > len(t.lists) {
		t.lists, t.listed = make([]*tensor.Tensor, max(64, 2*len(t.lists), n)), 0
	}
	l := t.lists[t.listed:][:n:n]
	t.listed += n
	return l
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
func (t *Tape) Bytes() int {
	n := t.arena.Bytes() + t.pool.Bytes()
	if t.again != nil {
		n += t.again.Bytes()
	}
	return n
}

// New returns a matrix (rows, cols) with undefined contents. It has a gradient, which Grad returns, if the tape records and an input has one.
func (t *Tape) New(rows, cols int, inputs ...*tensor.Tensor) *tensor.Tensor {
	if t == nil {
		return tensor.New(rows, cols)
	}
	y := t.arena.Tensor(rows, cols)
	if t.Recording(inputs...) {
		t.result(y, inputs...)
	}
	return y
}

// result gives y a gradient that is made when it is needed.
func (t *Tape) result(y *tensor.Tensor, inputs ...*tensor.Tensor) {
	y.Grad = pending
	lo := len(t.inputs)
	for _, x := range inputs {
		if x != nil {
			t.inputs = append(t.inputs, x)
		}
	}
	t.made = append(t.made, result{y, len(t.grads), lo, len(t.inputs)})
}

// Grad returns the gradient of x, nil where it has none. That of a tensor made on the tape comes into being, as zeros, when it is first
// asked for, and ends when Backward has passed the operation that made x.
func (t *Tape) Grad(x *tensor.Tensor) []float32 {
	if x.Grad != nil && len(x.Grad) < len(x.Data) {
		x.Grad = t.pool.Take(len(x.Data))[:len(x.Data)]
		clear(x.Grad)
	}
	return x.Grad
}

// drop takes back the memory of a result's gradient.
func (t *Tape) drop(y *tensor.Tensor) {
	if len(y.Grad) > 0 {
		t.pool.Give(y.Grad[:cap(y.Grad)])
		y.Grad = pending
	}
}

// gradOrScratch returns x's gradient, or memory to write a gradient into that nobody wants, which ends with the gradient function.
func (t *Tape) gradOrScratch(x *tensor.Tensor) []float32 {
	if x.Grad != nil {
		return x.Grad
	}
	b := t.pool.Take(len(x.Data))
	t.given = append(t.given, b)
	clear(b[:len(x.Data)])
	return b[:len(x.Data)]
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
	if !start.IsZero() && kind < kinds {
		t.profile[kind] += time.Since(start)
	}
}

// Backward runs the recorded gradient functions in reverse. The gradients of the results it starts from must be set already, as
// every loss of package loss does.
func (t *Tape) Backward() {
	last := len(t.made)
	for i := len(t.grads) - 1; i >= 0; i-- {
		g := t.grads[i]
		start := t.Start()
		first := last
		for first > 0 && t.made[first-1].op >= i {
			first--
		}
		for _, r := range t.made[first:last] {
			t.Grad(r.y)
			for _, x := range t.inputs[r.lo:r.hi] {
				t.Grad(x)
			}
		}
		g.f()
		for _, r := range t.made[first:last] {
			t.drop(r.y)
		}
		for j, b := range t.given {
			t.pool.Give(b)
			t.given[j] = nil
		}
		t.given, last = t.given[:0], first
		t.Stop(g.kind, start)
	}
}
