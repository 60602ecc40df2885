// Package score says how good a model is on text: its likelihood, and how far it agrees with another model.
package score

import (
	"context"
	"errors"
	"fmt"
	"math"

	"krait/autograd"
	"krait/kernel"
	"krait/loss"
	"krait/model"
	"krait/tensor"
)

// Likelihood is a model's negative log-likelihood of text, summed over Tokens predicted tokens, in nats.
type Likelihood struct {
	NLL    float64
	Tokens int
}

// Mean returns the nats a token.
func (l Likelihood) Mean() float64 { return l.NLL / float64(l.Tokens) }

// Perplexity returns exp of the mean.
func (l Likelihood) Perplexity() float64 { return math.Exp(l.Mean()) }

// batchRows is about how many rows are computed together.
const batchRows = 4096

// windows cuts ids into runs of at most size tokens, one every stride, and marks which rows count: each token but the first is predicted
// once, in the first window that holds it and a token before it (the sliding window of Transformers' perplexity guide; with
// stride = size, the first token of each window goes unpredicted).
func windows(ids []int32, size, stride int) ([]model.Batch, [][]int32, error) {
	if size < 2 || stride < 1 || stride > size {
		return nil, nil, fmt.Errorf("context %d and stride %d: want a context of at least 2 and a stride from 1 to the context", size, stride)
	}
	if len(ids) < 2 {
		return nil, nil, fmt.Errorf("text of %d tokens: want at least 2", len(ids))
	}
	var batches []model.Batch
	var targets [][]int32
	done := 0 // tokens before this have been predicted or passed over
	for begin := 0; begin < len(ids); begin += stride {
		end := min(len(ids), begin+size)
		if n := len(batches); n == 0 || len(batches[n-1].Tokens)+end-begin > batchRows {
			batches, targets = append(batches, model.Batch{}), append(targets, nil)
		}
		b, t := &batches[len(batches)-1], &targets[len(targets)-1]
		b.Tokens = append(b.Tokens, ids[begin:end]...)
		b.Runs = append(b.Runs, model.Run{Len: end - begin})
		for i := begin; i < end; i++ {
			target := int32(-1)
			if i+1 < end && i+1 >= done {
				target = ids[i+1]
			}
			*t = append(*t, target)
		}
		done = end
		if end == len(ids) {
			break
		}
	}
	return batches, targets, nil
}

// Perplexity returns the model's likelihood of ids, read in windows of size tokens every stride tokens.
func Perplexity(ctx context.Context, m *model.Model, ids []int32, size, stride int) (Likelihood, error) {
	var l Likelihood
	batches, targets, err := windows(ids, size, stride)
	if err == nil {
		err = wholeHead(m)
	}
	if err != nil {
		return l, err
	}
	tape := autograd.NewScratch()
	for i, b := range batches {
		if err := ctx.Err(); err != nil {
			return l, err
		}
		tape.Reset()
		t := loss.CrossEntropy(tape, loss.Head{Hidden: m.Forward(tape, b), Weight: m.Head()}, targets[i])
		l.NLL += t.Sum
		l.Tokens += t.Tokens
	}
	return l, nil
}

// wholeHead refuses a draft whose output layer leaves tokens out: it gives those no probability, and the likelihood of a text is 0.
func wholeHead(m *model.Model) error {
	if m.Config.Eagle {
		return errors.New("a draft head has no likelihood of text: it reads its target's hidden states")
	}
	if n := len(m.Config.HeadTokens); n > 0 {
		return fmt.Errorf("a draft whose output layer knows %d of %d tokens has no likelihood of text", n, m.Config.VocabSize)
	}
	return nil
}

// Agreement is how far a model follows its teacher: the mean KL(teacher ‖ model) in nats a token, and the share of tokens at which
// both have the same first choice.
type Agreement struct {
	KL, Top1 float64
	Tokens   int
}

// Agree compares a model with its teacher on ids, read in windows of size tokens every stride tokens.
func Agree(ctx context.Context, m, teacher *model.Model, ids []int32, size, stride int) (Agreement, error) {
	var a Agreement
	batches, targets, err := windows(ids, size, stride)
	if err != nil {
		return a, err
	}
	if err := errors.Join(wholeHead(m), wholeHead(teacher)); err != nil {
		return a, err
	}
	if m.Config.VocabSize != teacher.Config.VocabSize {
		return a, fmt.Errorf("vocabularies of %d and %d tokens cannot be compared", m.Config.VocabSize, teacher.Config.VocabSize)
	}
	tape := autograd.NewScratch()
	var same int
	for i, b := range batches {
		if err := ctx.Err(); err != nil {
			return a, err
		}
		tape.Reset()
		sh, th := m.Forward(tape, b), teacher.Forward(tape, b)
		t := loss.Distill(tape, loss.Head{Hidden: sh, Weight: m.Head()}, loss.Head{Hidden: th, Weight: teacher.Head()}, targets[i], loss.Weights{KL: 1})
		a.KL += t.Sum
		a.Tokens += t.Tokens
		same += sameChoice(tape, m, teacher, sh, th, targets[i])
	}
	a.KL /= float64(a.Tokens)
	a.Top1 = float64(same) / float64(a.Tokens)
	return a, nil
}

// sameChoice counts the rows with a target at which both models' first choices agree.
func sameChoice(t *autograd.Tape, m, teacher *model.Model, sh, th *tensor.Tensor, targets []int32) int {
	n := 0
	for lo := 0; lo < sh.Rows(); lo += 256 {
		hi := min(sh.Rows(), lo+256)
		x, y := m.Logits(t, sh.Slice(lo, hi)), teacher.Logits(t, th.Slice(lo, hi))
		for r := range hi - lo {
			if targets[lo+r] >= 0 && argmax(x.Row(r)) == argmax(y.Row(r)) {
				n++
			}
		}
	}
	return n
}

func argmax(x []float32) int {
	m := kernel.Max(x)
	for i, v := range x {
		if v == m {
			return i
		}
	}
	return -1
}
