package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"krait/autograd"
	"krait/model"
	"krait/tensor"
)

// Batch serves requests, up to width of them together: each step feeds one run a sequence, its last token and what is proposed behind it, and
// sequences join and leave at any step, a joining one prefilling beside the others. next hands out the requests until it returns false;
// done takes the output tokens, which it may keep, and the finish reason of request number i in the order of next, as they finish. A
// greedy request's output is that of Generate, whatever the width and the neighbours are, and so is that of one that samples
// with no or with fixed depth. The first error ends the whole.
func (e *Engine) Batch(ctx context.Context, width int, next func() (Request, bool), done func(i int, tokens []int32, finish string) error) error {
	if width < 1 {
		return fmt.Errorf("batch width is %d, want a positive number", width)
	}
	b := &batch{engine: e, width: width, next: next, done: done, tape: e.takeTape()}
	defer b.close()
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
		if err := b.step(ctx); err != nil {
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
	ready   []*slot // that are past their prompts
	rows    []int   // theirs
	offers  [][]offer
	choices []choice
	settled []proposal // of the step
	prompts int        // rows of prompts in the step
}

// slot is one sequence of a batch.
type slot struct {
	*generation
	i      int
	logits []float32 // of the rows it fed
	hidden *tensor.Tensor
	piece  int // rows of its prompt in the step, and where they begin
	row    int
	err    error
}

// close gives the tapes back.
func (b *batch) close() {
	b.engine.returnTape(b.tape)
	for _, s := range b.slots {
		s.close(b.engine)
	}
}

// join fills the free slots.
func (b *batch) join() error {
	for len(b.slots) < b.width && !b.drained {
		r, ok := b.next()
		if !ok {
			b.drained = true
			break
		}
		if err := b.engine.check(&r); err != nil {
			return fmt.Errorf("request %d: %w", b.count, err)
		}
		s := &slot{i: b.count}
		if r.Stats == nil {
			r.Stats = new(Stats)
		}
		*r.Stats = Stats{PromptTokens: len(r.Prompt)}
		s.generation = b.engine.newGeneration(r, r.Stats)
		b.slots = append(b.slots, s)
		b.count++
	}
	return nil
}

// plan lets every sequence that is past its prompt propose.
func (b *batch) plan(ctx context.Context) error {
	b.ready, b.offers = b.ready[:0], b.offers[:0]
	guess := false
	for _, s := range b.slots {
		if s.state.Len() < len(s.Prompt)-1 {
			continue
		}
		b.ready = append(b.ready, s)
		offers := s.generation.offers()
		if s.FixedDepth {
			offers = nil
		}
		b.offers = append(b.offers, offers)
		guess = guess || s.Speculate > 0
	}
	if len(b.ready) == 0 {
		return nil
	}
	b.choices = append(b.choices[:0], make([]choice, len(b.ready))...)
	if guess {
		b.engine.costs.plan(b.choices, b.offers)
	}
	for i, s := range b.ready {
		if s.FixedDepth {
			b.choices[i] = s.fixed(s.offered)
		}
		if err := s.begin(ctx, b.choices[i]); err != nil {
			return fmt.Errorf("request %d, %w", s.i, err)
		}
	}
	return nil
}

// compose lays out a step: the last token and the proposal of every sequence that is past its prompt, and pieces of prompts until there are
// enough rows.
func (b *batch) compose() {
	b.fed.Tokens, b.fed.Runs, b.rows, b.prompts = b.fed.Tokens[:0], b.fed.Runs[:0], b.rows[:0], 0
	for _, s := range b.slots {
		piece, start := s.fed, len(b.fed.Runs)
		s.piece = 0
		if from, prompt := s.state.Len(), len(s.Prompt)-1; from < prompt {
			if b.prompts >= prefillGrid {
				continue // its turn comes when others have passed their prompts
			}
			piece = s.tokens[from:pieceEnd(from, prompt)]
			s.row, s.piece = len(b.fed.Tokens), len(piece)
			b.prompts += len(piece)
		} else {
			for i := range piece {
				b.rows = append(b.rows, len(b.fed.Tokens)+i)
			}
			b.fed.Runs = s.layOut(b.fed.Runs)
		}
		b.fed.Tokens = append(b.fed.Tokens, piece...)
		if len(b.fed.Runs) == start {
			b.fed.Runs = append(b.fed.Runs, model.Run{Len: len(piece), State: s.state})
		}
	}
}

// step feeds a run of every sequence, commits the tokens of those past their prompt, and hands out the finished.
func (b *batch) step(ctx context.Context) error {
	start := time.Now()
	if err := b.plan(ctx); err != nil {
		return err
	}
	b.compose()
	tape, m := b.tape, b.engine.Target
	tape.Reset()
	hidden := m.Forward(tape, b.fed) // (rows, hidden)
	for _, s := range b.slots {
		if s.piece > 0 && s.sees() {
			s.draft.above.saw(s.state.Len()-s.piece, hidden.Slice(s.row, s.row+s.piece).Data)
		}
	}
	if len(b.ready) == 0 {
		return nil
	}
	if len(b.rows) < hidden.Rows() {
		hidden = gather(tape, hidden, b.rows)
	}
	logits := m.Logits(tape, hidden) // (rows of ready, vocab)
	vocab := m.Config.VocabSize
	row := 0
	for _, s := range b.ready {
		s.logits, s.hidden = logits.Data[row*vocab:][:len(s.fed)*vocab], hidden.Slice(row, row+len(s.fed))
		row += len(s.fed)
	}
	more, branches := len(b.rows)-len(b.ready), 0
	for _, s := range b.ready {
		branches += s.second
	}
	tensor.Rows(len(b.ready), b.work(vocab), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			s := b.ready[i]
			s.err = s.end(s.hidden, s.logits)
		}
	})
	if b.prompts == 0 {
		tokens, step := 0, time.Since(start)
		b.settled = b.settled[:0]
		for _, s := range b.ready {
			tokens += len(s.block)
			step -= s.proposing
			b.settled = append(b.settled, s.proposal())
		}
		b.engine.costs.stepped(len(b.ready), more, branches, tokens, step, b.settled...)
	}
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

// leave hands out the sequences that have ended and drops their slots.
func (b *batch) leave() error {
	for _, s := range b.ready {
		if s.err != nil {
			return fmt.Errorf("request %d, %w", s.i, s.err)
		}
		if reason := s.finish(); reason != "" {
			s.close(b.engine)
			s.state = nil
			if err := b.done(s.i, s.tokens[len(s.Prompt):], reason); err != nil {
				return err
			}
		}
	}
	b.slots = slices.DeleteFunc(b.slots, func(s *slot) bool { return s.state == nil })
	return nil
}
