package engine

import (
	"context"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"

	"krait/autograd"
	"krait/model"
	"krait/sample"
	"krait/tensor"
)

// source is who proposes a round's tokens. A match of the last tokens, in the sequence or in the corpus, is as good as it is long, so
// matches of different length are sources of their own.
type source int

const (
	fromModel  source = iota
	fromText          // and matchLengths sources
	fromCorpus = fromText + matchLengths
	sources    = fromCorpus + matchLengths
)

// matchLengths is the number of classes of matches: of 2, 3 to 4, 5 to 8, 9 to 16 and more tokens.
const matchLengths = 5

const (
	shortestMatch = 2 // tokens of a match that is used at all
	sureMatch     = 3 // tokens of a match that goes before the draft model
)

// class returns the class of a match of length tokens.
func class(length int) source { return source(min(bits.Len(uint(length-1)), matchLengths) - 1) }

// propose appends a round's proposed tokens to fed: at most Speculate, one below what is left to produce, since a round also emits the
// target's own token, and as many as the draft's context holds.
func (g *generation) propose(ctx context.Context) error {
	most := min(g.Speculate, g.limit-len(g.tokens)-1)
	at, match, inCorpus := g.match()
	switch {
	case match >= sureMatch || match >= shortestMatch && g.draft == nil:
		g.source = fromText + class(match)
		if inCorpus {
			g.source = fromCorpus + class(match)
		}
	case g.draft != nil:
		g.source = fromModel
		most = min(most, g.draft.room(len(g.tokens)))
	default:
		return nil
	}
	k := g.depth.choose(g.source, most)
	switch {
	case k == 0:
		return nil
	case g.source == fromModel:
		return g.proposeByModel(ctx, k)
	case inCorpus:
		g.fed = g.Corpus.propose(g.fed, g.reader.at, k)
	default:
		g.fed = propose(g.fed, g.tokens, at, k)
	}
	return nil
}

// match returns the length of the longest match of the last tokens, and where it goes on: at a position of the sequence or in the corpus.
func (g *generation) match() (at, length int, inCorpus bool) {
	if g.automaton != nil {
		at, length = g.automaton.match(g.tokens)
	}
	if g.Corpus != nil {
		if n := g.reader.match(g.tokens); n > length {
			return 0, n, true
		}
	}
	return at, length, false
}

// proposeByModel appends k tokens of the draft's to fed.
func (g *generation) proposeByModel(ctx context.Context, k int) error {
	if err := g.draft.catchUp(ctx, g.tokens); err != nil {
		return err
	}
	start := time.Now()
	var err error
	if g.fed, err = g.draft.propose(g.fed, g.tokens, k); err != nil {
		return fmt.Errorf("draft of token %d: %w", len(g.tokens), err)
	}
	g.depth.drafted(g.source, k, time.Since(start))
	return nil
}

// maxLag is the number of tokens that the draft has not seen up to which they are fed as part of the next proposal.
const maxLag = 8

// drafter proposes with a draft model, which has its own state. After a round the state has seen all tokens but the last, or, where all
// proposed tokens were accepted, but the last two, since the last proposed one was never fed (method §4.3).
type drafter struct {
	model    *model.Model
	state    *model.State
	sampling sample.Options
	rng      *rand.Rand
	q        [][]float32 // the distributions (vocab) that the tokens were drawn from
	tape     *autograd.Tape
	runs     [1]model.Run
	last     tensor.Tensor // (1, hidden)
	shape    [2]int
	lag, k   int // of the proposal being judged: tokens fed that are committed, tokens proposed
}

func newDrafter(m *model.Model, o sample.Options, rng *rand.Rand, k int, t *autograd.Tape) *drafter {
	return &drafter{model: m, state: m.NewState(), sampling: o, rng: rng, q: make([][]float32, k), tape: t}
}

// room returns how many tokens can be proposed behind n tokens within the draft's context.
func (d *drafter) room(n int) int {
	if context := d.model.Config.MaxPositionEmbeddings; context > 0 {
		return max(0, context-n+1)
	}
	return int(^uint(0) >> 1)
}

// catchUp feeds tokens that the draft has not seen, except the last few, if there are many.
func (d *drafter) catchUp(ctx context.Context, tokens []int32) error {
	if len(tokens)-d.state.Len() <= maxLag || d.room(len(tokens)) == 0 {
		return nil
	}
	return feed(ctx, d.tape, d.model, d.state, tokens[:len(tokens)-1])
}

// propose appends k tokens to fed. What it feeds stays provisional until keep.
func (d *drafter) propose(fed, tokens []int32, k int) ([]int32, error) {
	next := tokens[d.state.Len():]
	d.lag, d.k = len(next), k
	d.state.Mark()
	for i := range k {
		d.tape.Reset()
		d.runs[0] = model.Run{Len: len(next), State: d.state}
		hidden := d.model.Forward(d.tape, model.Batch{Tokens: next, Runs: d.runs[:]}) // (len(next), hidden)
		x, err := d.token(d.model.Logits(d.tape, d.lastRow(hidden)).Data, i)
		if err != nil {
			return fed, err
		}
		fed = append(fed, x)
		next = fed[len(fed)-1:]
	}
	return fed, nil
}

// lastRow returns the last row of hidden as a matrix, without garbage.
func (d *drafter) lastRow(hidden *tensor.Tensor) *tensor.Tensor {
	d.shape = [2]int{1, hidden.Cols()}
	d.last = tensor.Tensor{Shape: d.shape[:], Data: hidden.Row(hidden.Rows() - 1)}
	return &d.last
}

func (d *drafter) token(logits []float32, i int) (int32, error) {
	if d.sampling.Greedy() {
		return sample.Argmax(logits)
	}
	var err error
	if d.q[i], err = sample.Dist(d.q[i], logits, d.sampling); err != nil {
		return 0, err
	}
	return sample.Pick(d.q[i], d.rng), nil
}

// keep commits what was fed of the accepted tokens and forgets the rest.
func (d *drafter) keep(accepted int) { d.state.Keep(d.lag + min(accepted, d.k-1)) }
