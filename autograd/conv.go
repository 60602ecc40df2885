package autograd

import (
	"krait/kernel"
	"krait/tensor"
)

// ConvRun is one sequence's rows in a batch: Len rows from row Start on. State holds the inputs before them; nil is a fresh sequence, whose
// past is zero. Provisional rows may be forgotten later.
type ConvRun struct {
	Start, Len  int
	State       *ConvState
	Provisional bool
}

// ConvState is the window of one sequence in one causal convolution: the last width-1 committed inputs, then the provisional ones.
type ConvState struct {
	dim, past, rows int // rows = past + provisional rows
	x               []float32
}

// NewConvState returns the window of an empty sequence: width-1 zero rows.
func NewConvState(dim, width int) *ConvState {
	return &ConvState{dim: dim, past: width - 1, rows: width - 1, x: make([]float32, (width-1)*dim)}
}

// Keep commits the first n provisional rows and forgets the rest.
func (s *ConvState) Keep(n int) {
	copy(s.x, s.x[n*s.dim:][:s.past*s.dim])
	s.rows = s.past
}

// Rewind forgets the last n provisional rows.
func (s *ConvState) Rewind(n int) { s.rows -= n }

// Clone returns a copy that shares nothing.
func (s *ConvState) Clone() *ConvState {
	c := *s
	c.x = append([]float32(nil), s.x[:s.rows*s.dim]...)
	return &c
}

// LogBytes returns the memory of the provisional rows.
func (s *ConvState) LogBytes() int { return 4 * (s.rows - s.past) * s.dim }

// Bytes returns the memory of the committed window.
func (s *ConvState) Bytes() int { return 4 * s.past * s.dim }

// feed appends rows of inputs and returns them with the width-1 rows before them.
func (s *ConvState) feed(x []float32, rows int) []float32 {
	s.x = append(s.x[:s.rows*s.dim], x[:rows*s.dim]...)
	s.rows += rows
	return s.x[(s.rows-rows-s.past)*s.dim:]
}

// Conv1D is the causal depthwise convolution of each run: y[t][c] = bias[c] + Σ_k w[c][k]·x[t-width+1+k][c], with zeros before the start
// of a sequence. x (rows, dim), w (dim, 1, width) as in the checkpoint, bias (dim).
func Conv1D(t *Tape, x, w, bias *tensor.Tensor, runs []ConvRun) *tensor.Tensor {
	defer t.Stop(Scan, t.Start())
	rows, d, width := x.Rows(), x.Cols(), w.Shape[2]
	y := t.New(rows, d, x, w, bias)
	wT := t.Scratch(width * d) // lanes run along channels
	kernel.Transpose(wT, w.Data, d, width)
	c := convolution{y.Data, x.Data, wT, bias.Data, d, width}
	total := 0
	for _, r := range runs {
		total += r.Len
	}
	if total*d < 1<<14 { // less than a hand-over to another core costs
		for _, r := range runs {
			c.run(r)
		}
	} else {
		c := c // so that it stays off the heap where there is no hand-over
		kernel.Parallel(len(runs), func(i int) { c.run(runs[i]) })
	}
	if t.Recording(x, w, bias) {
		t.Record(Scan, func() { conv1DGrad(t, x, w, bias, y, wT, runs) })
	}
	return y
}

// convolution is the operands of Conv1D; w is transposed.
type convolution struct {
	y, x, w, bias []float32
	d, width      int
}

// run computes one run.
func (c *convolution) run(r ConvRun) {
	d, width := c.d, c.width
	y, x := c.y[r.Start*d:], c.x[r.Start*d:]
	if r.State != nil {
		kernel.Conv1D(y, d, r.State.feed(x, r.Len), d, c.w, c.bias, r.Len, d, width)
		if !r.Provisional {
			r.State.Keep(r.State.rows - r.State.past)
		}
		return
	}
	head := min(r.Len, width-1) // rows that see zeros from before the start
	padded := make([]float32, (head+width-1)*d)
	copy(padded[(width-1)*d:], x[:head*d])
	kernel.Conv1D(y, d, padded, d, c.w, c.bias, head, d, width)
	if r.Len > head {
		kernel.Conv1D(y[head*d:], d, x, d, c.w, c.bias, r.Len-head, d, width)
	}
}

// conv1DGrad adds the gradients run by run; those of the weights are summed by run and added in order.
func conv1DGrad(t *Tape, x, w, bias, y *tensor.Tensor, wT []float32, runs []ConvRun) {
	d, width := x.Cols(), w.Shape[2]
	dx, dw, db := t.gradOrScratch(x), t.gradOrScratch(w), t.gradOrScratch(bias)
	parts := make([]float32, len(runs)*(width+1)*d) // of each run: dw transposed, then db
	kernel.Parallel(len(runs), func(i int) {
		r := runs[i]
		part := parts[i*(width+1)*d:][:(width+1)*d]
		past, rows := width-1, r.Start*d
		head := min(r.Len, past) // rows that see zeros from before the start
		padded, dpadded := make([]float32, (head+past)*d), make([]float32, (head+past)*d)
		copy(padded[past*d:], x.Data[rows:][:head*d])
		kernel.Conv1DGrad(dpadded, d, part[:width*d], part[width*d:], y.Grad[rows:], d, padded, d, wT, head, d, width)
		kernel.Add(dx[rows:][:head*d], dpadded[past*d:])
		if r.Len > head {
			kernel.Conv1DGrad(dx[rows:], d, part[:width*d], part[width*d:], y.Grad[rows+head*d:], d, x.Data[rows:], d, wT, r.Len-head, d, width)
		}
	})
	for i := range runs {
		part := parts[i*(width+1)*d:][:(width+1)*d]
		for c := range d {
			for k := range width {
				dw[c*width+k] += part[k*d+c]
			}
		}
		kernel.Add(db, part[width*d:])
	}
}
