package score

import (
	"context"
	"fmt"

	"krait/autograd"
	"krait/model"
	"krait/tensor"
)

// chainEvery is the number of tokens between the places of a text at which chains are tried.
const chainEvery = 8

// AcceptChain is Accept for a draft head (model.Fusion), guess by guess: element i is the acceptance of guess number i+1 where those before it are the
// text's. The first guess is judged at every token, as the head has the target's hidden state there; the later ones, for which it has its own
// alone, every few tokens.
func AcceptChain(ctx context.Context, head, target *model.Model, texts [][]int32, guesses int) ([]Acceptance, error) {
	if x, y := head.Config.VocabSize, target.Config.VocabSize; x != y {
		return nil, fmt.Errorf("vocabularies of %d and %d tokens cannot be compared", x, y)
	}
	a := make([]Acceptance, guesses)
	tape := autograd.NewScratch()
	for _, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if len(text) < 2 {
			continue
		}
		tape.Reset()
		c := &chain{head: head, target: target, tape: tape, tokens: text[:len(text)-1]}
		c.read()
		for i := range a {
			c.judge(&a[i], i)
		}
	}
	for i := range a {
		if a[i].Tokens == 0 {
			return nil, fmt.Errorf("no text of %d tokens: there is nothing to compare", i+2)
		}
		a[i].Expected /= float64(a[i].Tokens)
		a[i].Top1 /= float64(a[i].Tokens)
	}
	return a, nil
}

// chain is one text read by a head and its target.
type chain struct {
	head, target *model.Model
	tape         *autograd.Tape
	tokens       []int32
	hidden       *tensor.Tensor // the target's (tokens, hidden)
	states       []*model.State // of the head, one for each place that chains begin at, and their last hidden rows
	own          *tensor.Tensor // (places, hidden)
	first        *tensor.Tensor // the head's rows where it has the target's hidden state (tokens, hidden)
}

// read reads the text with both models.
func (c *chain) read() {
	c.hidden = c.target.Forward(c.tape, model.Single(c.tokens, nil))
	above := autograd.Before(c.tape, c.hidden, []int{len(c.tokens)})
	c.first = c.head.Forward(c.tape, model.Batch{Tokens: c.tokens, Runs: []model.Run{{Len: len(c.tokens)}}, Hidden: above})
	s := c.head.NewState()
	for at := 0; at < len(c.tokens); at += chainEvery {
		from := s.Len()
		c.head.Forward(c.tape, model.Batch{Tokens: c.tokens[from : at+1], Runs: []model.Run{{Len: at + 1 - from, State: s}}, Hidden: above.Slice(from, at+1)})
		x := c.head.NewState()
		x.Restore(s.Snapshot())
		c.states = append(c.states, x)
	}
	c.own = c.tape.New(len(c.states), c.hidden.Cols())
	for i := range c.states {
		copy(c.own.Row(i), c.first.Row(i*chainEvery))
	}
}

// judge adds up guess number i+1; the guesses must be judged in order.
func (c *chain) judge(a *Acceptance, i int) {
	guesses, truth := c.first, c.hidden
	if i > 0 {
		guesses, truth = c.further(i)
	}
	for lo := 0; lo < guesses.Rows(); lo += 256 {
		hi := min(guesses.Rows(), lo+256)
		a.add(c.head.Logits(c.tape, guesses.Slice(lo, hi)), c.target.Logits(c.tape, truth.Slice(lo, hi)))
	}
}

// further feeds each chain one more token, with the head's own hidden row, and returns the rows of head and target.
func (c *chain) further(i int) (guesses, truth *tensor.Tensor) {
	b := model.Batch{}
	for n, s := range c.states {
		at := n*chainEvery + i
		if at >= len(c.tokens) {
			c.states = c.states[:n] // the text ends
			break
		}
		b.Tokens, b.Runs = append(b.Tokens, c.tokens[at]), append(b.Runs, model.Run{Len: 1, State: s})
	}
	if len(b.Tokens) == 0 {
		return c.own.Slice(0, 0), c.own.Slice(0, 0)
	}
	b.Hidden = c.own.Slice(0, len(b.Tokens))
	c.own = c.head.Forward(c.tape, b)
	truth = c.tape.New(len(b.Tokens), c.hidden.Cols())
	for n := range b.Tokens {
		copy(truth.Row(n), c.hidden.Row(n*chainEvery+i))
	}
	return c.own, truth
}
