package autograd

import "krait/tensor"

// Recompute returns f(x) and, on a tape that records, forgets all that f makes on the way: Backward runs f again, on a tape of its own, and
// then its gradients. Memory is that of one f at a time, for the time of a second forward (Chen et al. 2016, Training Deep Nets with Sublinear
// Memory Cost). The two passes are the same instructions, so the gradients are those without it, bit by bit. f must do the same both times:
// it may not advance a state.
func Recompute(t *Tape, x *tensor.Tensor, f func(t *Tape, x *tensor.Tensor) *tensor.Tensor) *tensor.Tensor {
	if t == nil || !t.record {
		return f(t, x)
	}
	if t.again == nil {
		t.again = NewTape()
	}
	t.again.SetProfile(t.profile)
	first := f(t.again, &tensor.Tensor{Shape: x.Shape, Data: x.Data, Grad: x.Grad})
	recorded := first.Grad != nil
	y := t.arena.Tensor(first.Rows(), first.Cols())
	copy(y.Data, first.Data)
	t.again.Reset()
	if !recorded {
		return y
	}
	t.result(y, x)
	t.Record(again, func() {
		second := f(t.again, &tensor.Tensor{Shape: x.Shape, Data: x.Data, Grad: x.Grad})
		copy(t.again.Grad(second), y.Grad)
		t.again.Backward()
		t.again.Reset()
	})
	return y
}
