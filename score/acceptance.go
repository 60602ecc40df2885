package score

import (
	"context"
	"fmt"
	"math"

	"krait/autograd"
	"krait/kernel"
	"krait/model"
	"krait/tensor"
)

// Acceptance is how good a draft guesses: Expected is the mean probability Σ min(p, q) that speculative sampling at temperature 1 accepts a
// token drawn from the draft's distribution q where the target's is p (Leviathan et al. 2023, corollary 3.6), Top1 the share of
// tokens at which both have the same first choice, which is what greedy decoding accepts.
type Acceptance struct {
	Expected, Top1 float64
	Tokens         int
}

// Accept compares a draft with its target at every token of texts but their first. Each of the texts is read whole.
func Accept(ctx context.Context, draft, target *model.Model, texts [][]int32) (Acceptance, error) {
	var a Acceptance
	if x, y := draft.Config.VocabSize, target.Config.VocabSize; x != y {
		return a, fmt.Errorf("vocabularies of %d and %d tokens cannot be compared", x, y)
	}
	tape := autograd.NewScratch()
	for _, text := range texts {
		if err := ctx.Err(); err != nil {
			return a, err
		}
		if len(text) < 2 {
			continue
		}
		tape.Reset()
		b := model.Single(text[:len(text)-1], nil)
		dh, th := draft.Forward(tape, b), target.Forward(tape, b)
		for lo := 0; lo < dh.Rows(); lo += 256 {
			hi := min(dh.Rows(), lo+256)
			a.add(draft.Logits(tape, dh.Slice(lo, hi)), target.Logits(tape, th.Slice(lo, hi)))
		}
	}
	if a.Tokens == 0 {
		return a, fmt.Errorf("no text of two tokens: there is nothing to compare")
	}
	a.Expected /= float64(a.Tokens)
	a.Top1 /= float64(a.Tokens)
	return a, nil
}

// add adds rows of logits (rows, vocab), which it uses up.
func (a *Acceptance) add(draft, target *tensor.Tensor) {
	for r := range draft.Rows() {
		x, y := draft.Row(r), target.Row(r)
		if argmax(x) == argmax(y) {
			a.Top1++
		}
		q, p := kernel.ExpSum(x, x, kernel.Max(x)), kernel.ExpSum(y, y, kernel.Max(y))
		overlap := 0.0
		for i := range x {
			overlap += math.Min(float64(x[i])/float64(q), float64(y[i])/float64(p))
		}
		a.Expected += overlap
		a.Tokens++
	}
}
