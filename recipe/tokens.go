package recipe

import (
	"krait/autograd"
	"krait/data"
	"krait/loss"
	"krait/train"
)

// tokenCount counts the tokens that a training reads where its loss counts something else, pairs.
type tokenCount struct{ step, total int }

// countedStep is a line of metrics.jsonl of a training whose loss counts pairs.
type countedStep struct {
	train.Step
	Pairs    int `json:"pairs"`
	NumPairs int `json:"num_pairs"`
}

// line returns what metrics.jsonl says of a step: tokens are tokens there, whatever the loss counts.
func (t *training) line(s train.Step) any {
	if t.unit == "" {
		return s
	}
	t.tokens.total += t.tokens.step
	c := countedStep{s, s.Tokens, s.Total}
	c.Tokens, c.Total = t.tokens.step, t.tokens.total
	t.tokens.step = 0
	return c
}

// countedLoss is the loss with its tokens counted.
func (t *training) countedLoss(tape *autograd.Tape, b data.Batch) loss.Total {
	t.tokens.step += len(b.Tokens)
	return t.loss(tape, b)
}
