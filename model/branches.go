package model

import (
	"fmt"

	"krait/autograd"
	"krait/tensor"
)

// A batch whose runs rewind holds trees. What mixes along sequences takes its runs in passes then, so that no pass has a state twice: a branch
// finds in its state the chain from the root to its parent, which is in the log, and the arithmetic is that of a chain. (A tree mask and a scan
// that keeps a stack of state tiles would read a state once for all branches; but with one kind of arithmetic the rows are exact by
// construction, and the branches that pay are few and short.)

// start returns the position of the first row of run i.
func (b *Batch) start(i int) int {
	r := b.Runs[i]
	if r.State == nil {
		return 0
	}
	pos := r.State.length - r.Rewind
	for _, before := range b.Runs[:i] {
		if before.State == r.State {
			pos += before.Len - before.Rewind
		}
	}
	return pos
}

// checkRun panics where run i is none.
func (m *Model) checkRun(b *Batch, i int) {
	r := b.Runs[i]
	if r.Len <= 0 || r.State != nil && len(r.State.layers) != len(m.Blocks) {
		panic(fmt.Sprintf("model: run of %d tokens with a state that is not this model's", r.Len))
	}
	if r.Rewind != 0 && (r.Rewind < 0 || r.State == nil || r.State.mark < 0 || b.start(i) < r.State.mark+r.State.sure) {
		panic(fmt.Sprintf("model: a run that rewinds %d tokens, which are not all provisional", r.Rewind))
	}
}

// mixed returns what mix makes of the rows xs and runs of a batch with branches, (rows, cols), pass by pass. part returns the part of a layer's
// state that is rewound before.
func (l *layout) mixed(t *autograd.Tape, layer, cols int, xs []*tensor.Tensor, part func(layerState) rewinder, mix func(xs []*tensor.Tensor, l *layout) *tensor.Tensor) *tensor.Tensor {
	y := t.New(xs[0].Rows(), cols)
	row := 0
	for first := 0; first < len(l.runs); {
		rows, end := 0, first
		seen := map[*State]bool{}
		for ; end < len(l.runs) && !seen[l.runs[end].State]; end++ {
			r := l.runs[end]
			rows += r.Len
			if r.State != nil {
				seen[r.State] = true
			}
			if r.Rewind > 0 {
				part(r.State.layers[layer]).Rewind(r.Rewind)
			}
		}
		slices := make([]*tensor.Tensor, len(xs))
		for i, x := range xs {
			slices[i] = x.Slice(row, row+rows)
		}
		copy(y.Data[row*cols:], mix(slices, &layout{runs: l.runs[first:end]}).Data)
		row += rows
		first = end
	}
	return y
}

// rewinder forgets the last n provisional tokens.
type rewinder interface{ Rewind(n int) }

// The parts of a layer's state.
func keysAndValues(s layerState) rewinder { return s.(*attentionState) }
func window(s layerState) rewinder        { return s.(convHolder).convState() }
func recurrence(s layerState) rewinder {
	if m, ok := s.(*mambaState); ok {
		return m.ssm
	}
	return s.(*mamba1State).ssm
}

// convolved is the causal convolution of a Mamba layer.
func (l *layout) convolved(t *autograd.Tape, layer int, x, weight, bias *tensor.Tensor) *tensor.Tensor {
	if !l.branches {
		return autograd.Conv1D(t, x, weight, bias, l.convRuns(layer))
	}
	return l.mixed(t, layer, x.Cols(), []*tensor.Tensor{x}, window, func(xs []*tensor.Tensor, l *layout) *tensor.Tensor {
		return autograd.Conv1D(t, xs[0], weight, bias, l.convRuns(layer))
	})
}

// scanWeights are what a Mamba1 scan has beside its rows.
type scanWeights struct {
	dtBias, aLog, d *tensor.Tensor
	rates           []float32
	shape           autograd.ScanShape
}

// scanned is the scan of a Mamba1 layer over rows of x, Δ, B and C.
func (l *layout) scanned(t *autograd.Tape, layer int, x, dt, b, c *tensor.Tensor, w scanWeights) *tensor.Tensor {
	if !l.branches {
		return autograd.SelectiveScan(t, x, dt, b, c, w.dtBias, w.aLog, w.d, w.rates, w.shape, l.scanRuns(layer))
	}
	return l.mixed(t, layer, w.shape.Dim(), []*tensor.Tensor{x, dt, b, c}, recurrence, func(xs []*tensor.Tensor, l *layout) *tensor.Tensor {
		return autograd.SelectiveScan(t, xs[0], xs[1], xs[2], xs[3], w.dtBias, w.aLog, w.d, w.rates, w.shape, l.scanRuns(layer))
	})
}
