package recipe

import (
	"context"
	"fmt"
	"math"
	"slices"

	"krait/autograd"
	"krait/data"
	"krait/kernel"
	"krait/model"
	"krait/tensor"
)

const (
	fitTokens    = 16   // tokens a number of the hidden state that a head's start is fitted to
	fitRidge     = 1e-3 // of the mean square of an input
	fitSteps     = 40   // of conjugate gradients
	fitWidth     = 64   // the hidden size at which a learning rate means what it says
	fitTolerance = 1e-4 // of the residual at which they end, as a share of the first
)

// fitHead makes a new head the best linear one: its blocks put out nothing, its fusion is the ridge regression of the target's hidden state on the
// embedding and the hidden state before, and its final norm shrinks as the fit is uncertain. From there it learns faster than from anything
// copied or random: its first guesses are already those of the mean next state.
func fitHead(ctx context.Context, head, target *model.Model, docs []data.Document) error {
	f := newFit(head)
	for _, d := range docs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.rows >= fitTokens*head.Config.HiddenSize {
			break
		}
		f.read(head, target, d.IDs)
	}
	if f.rows < 2 {
		return fmt.Errorf("the labels have no document of three tokens to begin a draft head with")
	}
	for _, b := range head.Blocks {
		b.Silence()
	}
	w := head.Fusion.Proj.Weight
	f.solve(w)
	kernel.Scale(head.Norm.Weight.Data, f.certainty(w), head.Norm.Weight.Data)
	kernel.Scale(w.Data, f.length(), w.Data)
	return nil
}

// fit is a linear regression: inputs x (2·hidden), outputs y (hidden), the hidden state over the weight of the norm that it went through.
type fit struct {
	tape   *autograd.Tape
	xx, yx autograd.Dense // their gradients are Σ xᵀx (2·hidden, 2·hidden) and Σ yᵀx (hidden, 2·hidden)
	yy     []float64      // Σ y², column by column
	rows   int
}

func newFit(head *model.Model) *fit {
	d := head.Config.HiddenSize
	sums := func(rows int) autograd.Dense {
		x := tensor.Shaped(rows, 2*d)
		x.Grad = make([]float32, rows*2*d)
		return autograd.Dense{Tensor: x}
	}
	return &fit{tape: autograd.NewScratch(), xx: sums(2 * d), yx: sums(d), yy: make([]float64, d)}
}

// read adds a document.
func (f *fit) read(head, target *model.Model, ids []int32) {
	if limit := target.Config.MaxPositionEmbeddings; limit > 0 {
		ids = ids[:min(len(ids), limit)]
	}
	if len(ids) < 2 {
		return
	}
	f.tape.Reset()
	hidden := target.Forward(f.tape, model.Single(ids, nil))
	x := head.Fused(f.tape, model.Batch{Tokens: ids, Hidden: autograd.Before(f.tape, hidden, []int{len(ids)})})
	y := f.tape.New(hidden.Rows(), hidden.Cols())
	for r := range y.Rows() {
		for i, w := range target.Norm.Weight.Data {
			if y.Row(r)[i] = 0; w != 0 {
				y.Row(r)[i] = hidden.Row(r)[i] / w
			}
		}
	}
	n := len(ids) - 1 // the first has no hidden state before it
	x, y = x.Slice(1, n+1), y.Slice(1, n+1)
	f.xx.WeightGrad(x.Data, x.Data, n)
	f.yx.WeightGrad(y.Data, x.Data, n)
	for r := range n {
		for i, v := range y.Row(r) {
			f.yy[i] += float64(v) * float64(v)
		}
	}
	f.rows += n
}

// solve sets w (hidden, 2·hidden) to the solution of w·(Σxᵀx + ridge) = Σyᵀx by conjugate gradients, all rows at once.
func (f *fit) solve(w *tensor.Tensor) {
	n := f.xx.Shape[0]
	a := autograd.Dense{Tensor: tensor.Of(f.xx.Grad, n, n)}
	trace := 0.0
	for i := range n {
		trace += float64(a.Data[i*n+i])
	}
	for i := range n {
		a.Data[i*n+i] += float32(fitRidge * trace / float64(n))
	}
	clear(w.Data)
	residual, p := tensor.Of(f.yx.Grad, w.Shape...), tensor.Of(append([]float32(nil), f.yx.Grad...), w.Shape...)
	ap := tensor.New(w.Shape...)
	squares := make([]float64, w.Rows())
	first := 0.0
	for r := range squares {
		squares[r] = float64(kernel.Dot(residual.Row(r), residual.Row(r)))
		first += squares[r]
	}
	for range fitSteps {
		a.MulRows(ap.Data, p.Data, p.Rows())
		left := 0.0
		for r, before := range squares {
			curvature := float64(kernel.Dot(p.Row(r), ap.Row(r)))
			if before == 0 || !(curvature > 0) {
				continue
			}
			step := float32(before / curvature)
			kernel.Axpy(w.Row(r), step, p.Row(r))
			kernel.Axpy(residual.Row(r), -step, ap.Row(r))
			squares[r] = float64(kernel.Dot(residual.Row(r), residual.Row(r)))
			kernel.Scale(p.Row(r), float32(squares[r]/before), p.Row(r))
			kernel.Add(p.Row(r), residual.Row(r))
			left += squares[r]
		}
		if left <= fitTolerance*fitTolerance*first {
			break
		}
	}
}

// certainty returns the length of the fitted rows w·x beside that of the rows y: what the fit explains.
func (f *fit) certainty(w *tensor.Tensor) float32 {
	n := f.xx.Shape[0]
	wa := tensor.New(w.Shape...)
	autograd.Dense{Tensor: tensor.Of(f.xx.Grad, n, n)}.MulRows(wa.Data, w.Data, w.Rows())
	total := 0.0
	for _, square := range f.yy {
		total += square
	}
	return float32(math.Sqrt(float64(kernel.Dot(w.Data, wa.Data)) / total))
}

// length returns by how much longer than y the rows are made, which the final norm undoes: then the first steps of a training change the usual number
// in a row by the same share whatever the hidden size is and however much a few numbers outgrow the others, as they do in large models. AdamW's first
// steps change every weight alike, and a number of a row is a sum over 2·hidden of them.
func (f *fit) length() float32 {
	squares := slices.Sorted(slices.Values(f.yy))
	usual := math.Sqrt(squares[len(squares)/2] / float64(f.rows))
	return float32(float64(len(squares)) / fitWidth / max(usual, 1e-3))
}
