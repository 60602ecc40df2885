package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"krait/autograd"
	"krait/model"
	"krait/sample"
	"krait/tensor"
)

// Batch serves requests with plain decoding, up to width of them together: each step feeds one run a sequence, and sequences join and leave
// at any step, a joining one prefilling beside the others. next hands out the requests until it returns false; done takes the output
// tokens, which it may keep, and the finish reason of request number i in the order of next, as they finish. A request's output is
// that of Generate, whatever the width and the neighbours are. The first error ends the whole.
func (e *Engine) Batch(ctx context.Context, width int, next func() (Request, bool), done func(i int, tokens []int32, finish string) error) error {
	if width < 1 {
		return fmt.Errorf("batch width is %d, want a positive number", width)
	}
	b := &batch{engine: e, width: width, next: next, done: done, tape: e.takeTape()}
	defer e.returnTape(b.tape)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.join(); err != nil {
			return err
		}
		if len(b.slots) == 0 {
			return nil
		}
		if err := b.step(); err != nil {
			return err
		}
	}
}

type batch struct {
	engine  *Engine
	width   int
	next    func() (Request, bool)
	done    func(i int, tokens []int32, finish string) error
	count   int // requests taken
	drained bool
	slots   []*slot
	tape    *autograd.Tape
	fed     model.Batch
	ready   []*slot // whose last row's logits give a token
	rows    []int   // those rows
}

// slot is one sequence of a batch.
type slot struct {
	Request
	i      int
	state  *model.State
	tokens []int32 // prompt and output
	limit  int
	rng    *rand.Rand
	p      []float32
	err    error
}

// join fills the free slots.
func (b *batch) join() error {
	for len(b.slots) < b.width && !b.drained {
		r, ok := b.next()
		if !ok {
			b.drained = true
			break
		}
		err := b.engine.check(&r)
		if err == nil && r.Speculate > 0 {
			err = fmt.Errorf("speculate is %d, a batch decodes plainly", r.Speculate)
		}
		if err != nil {
			return fmt.Errorf("request %d: %w", b.count, err)
		}
		limit := b.engine.limit(&r)
		tokens := make([]int32, 0, min(limit, len(r.Prompt)+1024)) // room for the usual output
		b.slots = append(b.slots, &slot{
			Request: r, i: b.count, state: b.engine.Target.NewState(), tokens: append(tokens, r.Prompt...), limit: limit, rng: newRNG(r.Seed),
		})
		b.count++
	}
	return nil
}

// compose lays out a step: the last token of every sequence that is past its prompt, and pieces of prompts until there are enough rows.
func (b *batch) compose() {
	b.fed.Tokens, b.fed.Runs, b.ready, b.rows = b.fed.Tokens[:0], b.fed.Runs[:0], b.ready[:0], b.rows[:0]
	prompts := 0
	for _, s := range b.slots {
		from, to := s.state.Len(), len(s.tokens)
		if prompt := len(s.Prompt) - 1; from < prompt {
			if prompts >= prefillGrid {
				continue // its turn comes when others have passed their prompts
			}
			to = pieceEnd(from, prompt)
			prompts += to - from
		} else {
			b.ready = append(b.ready, s)
			b.rows = append(b.rows, len(b.fed.Tokens))
		}
		b.fed.Tokens = append(b.fed.Tokens, s.tokens[from:to]...)
		b.fed.Runs = append(b.fed.Runs, model.Run{Len: to - from, State: s.state})
	}
}

// step feeds a run of every sequence, appends a token to those past their prompt, and hands out the finished.
func (b *batch) step() error {
	b.compose()
	tape, m := b.tape, b.engine.Target
	tape.Reset()
	hidden := m.Forward(tape, b.fed) // (rows, hidden)
	if len(b.ready) == 0 {
		return nil
	}
	if len(b.rows) < hidden.Rows() {
		hidden = gather(tape, hidden, b.rows)
	}
	logits := m.Logits(tape, hidden) // (ready, vocab)
	vocab := m.Config.VocabSize
	tensor.Rows(len(b.ready), b.work(vocab), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			b.ready[i].append(logits.Data[i*vocab:][:vocab])
		}
	})
	return b.leave()
}

// work returns the elements of simple work that choosing a token costs.
func (b *batch) work(vocab int) int {
	if b.ready[0].Sampling.Greedy() {
		return vocab
	}
	return 16 * vocab // an exponential each
}

func gather(t *autograd.Tape, x *tensor.Tensor, rows []int) *tensor.Tensor {
	y := t.New(len(rows), x.Cols())
	for i, r := range rows {
		copy(y.Row(i), x.Row(r))
	}
	return y
}

// append chooses the next token from its logits (vocab).
func (s *slot) append(logits []float32) {
	var token int32
	if s.Sampling.Greedy() {
		token, s.err = sample.Argmax(logits)
	} else if s.p, s.err = sample.Dist(s.p, logits, s.Sampling); s.err == nil {
		token = sample.Pick(s.p, s.rng)
	}
	s.tokens = append(s.tokens, token)
}

// leave hands out the sequences that have ended and drops their slots.
func (b *batch) leave() error {
	for _, s := range b.ready {
		if s.err != nil {
			return fmt.Errorf("request %d, token %d: %w", s.i, len(s.tokens)-1, s.err)
		}
		if reason := finish(s.tokens, s.Stop, s.limit); reason != "" {
			output := s.tokens[len(s.Prompt):]
			s.state = nil
			if err := b.done(s.i, output, reason); err != nil {
				return err
			}
		}
	}
	b.slots = slices.DeleteFunc(b.slots, func(s *slot) bool { return s.state == nil })
	return nil
}
