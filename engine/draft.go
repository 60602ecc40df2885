package engine

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
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

// shortestMatch is the length of a match that is used at all.
const shortestMatch = 2

// class returns the class of a match of length tokens.
func class(length int) source { return source(min(bits.Len(uint(length-1)), matchLengths) - 1) }

// guess returns the acceptance that a source is held to have before anything is known.
func (s source) guess() float64 {
	if s == fromModel {
		return 0.6
	}
	return [matchLengths]float64{0.4, 0.5, 0.7, 0.85, 0.9}[s.class()]
}

// deepest returns half of the tokens that a source may propose before anything is known; later it is twice as many as ever before.
func (s source) deepest() int {
	if s == fromModel {
		return 1
	}
	return [matchLengths]int{1, 1, 2, 4, 8}[s.class()]
}

func (s source) class() source { return (s - fromText) % matchLengths }

// offers fills g.offered with what the sources could propose: at most Speculate tokens, one below what is left to produce, since a round also
// emits the target's own token, and as many as the draft's context holds.
func (g *generation) offers() []offer {
	g.offered = g.offered[:0]
	most := min(g.Speculate, g.limit-len(g.tokens)-1)
	if most <= 0 {
		return nil
	}
	if g.automaton != nil {
		var length int
		if g.at, length = g.automaton.match(g.tokens); length >= shortestMatch {
			g.offer(fromText+class(length), most, 0)
		}
	}
	if g.Corpus != nil {
		if length := g.reader.match(g.tokens); length >= shortestMatch {
			g.offer(fromCorpus+class(length), most, 0)
		}
	}
	if g.draft != nil && g.draft.knows(g.tokens) {
		g.offer(fromModel, min(most, g.draft.room(len(g.tokens))), g.draft.behind(len(g.tokens)))
	}
	return g.offered
}

func (g *generation) offer(s source, most, behind int) {
	if most <= 0 {
		return
	}
	g.offered = append(g.offered, offer{source: s, record: g.recordOf(s), seen: &g.seen[s], most: most, behind: behind, made: len(g.tokens) - len(g.Prompt), branches: s == fromModel})
}

// recordOf returns what is known of a source.
func (g *generation) recordOf(s source) *record {
	if g.records[s] == nil {
		k := sourceKey{source: s, sampled: !g.Sampling.Greedy()}
		if s == fromModel {
			k.draft = g.draft.model
		}
		g.records[s] = g.costs.record(k)
	}
	return g.records[s]
}

// fixed returns the choice of a request of fixed depth: what was measured has no say, so that a seed gives the same output again. A match goes
// by its length, and before the draft model unless it is of the shortest.
func (g *generation) fixed(offers []offer) choice {
	rank := func(s source) source {
		if s == fromModel {
			return 1
		}
		return 2 * s.class()
	}
	var best choice
	for i, o := range offers {
		if best.k == 0 || rank(o.source) > rank(offers[best.i].source) {
			best = choice{i: i, k: o.most, branch: g.Branch && o.source == fromModel}
		}
	}
	return best
}

// propose appends the tokens of a choice to fed.
func (g *generation) propose(ctx context.Context, c choice) error {
	if c.k == 0 {
		return nil
	}
	switch g.source = g.offered[c.i].source; {
	case g.source == fromModel:
		return g.proposeByModel(ctx, c)
	case g.source >= fromCorpus:
		g.fed = g.Corpus.propose(g.fed, g.reader.at, c.k)
	default:
		g.fed = propose(g.fed, g.tokens, g.at, c.k)
	}
	return nil
}

// proposeByModel appends tokens of the draft's to fed, behind a second candidate if there is to be a branch.
func (g *generation) proposeByModel(ctx context.Context, c choice) error {
	start := time.Now()
	behind := g.draft.behind(len(g.tokens))
	if err := g.draft.catchUp(ctx, g.tokens); err != nil {
		return err
	}
	late := time.Since(start)
	var err error
	if g.fed, err = g.draft.propose(g.fed, g.tokens, c); err != nil {
		return fmt.Errorf("draft of token %d: %w", len(g.tokens), err)
	}
	g.second, g.proposing = g.draft.seconds, time.Since(start)
	if k := g.proposed() - g.second; k > 0 {
		resumed := g.draft.lag > len(g.block)+1 // it has seen nothing of the round before, or of all so far
		g.usual = g.costs.proposed(g.records[fromModel], k, g.proposing-late, behind, late, resumed)
	}
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
	history  *sample.History // the sequence's, which the proposal extends while it is made
	adjusted []float32
	q        [][]float32 // the distributions (vocab) that the tokens were drawn from
	tape     *autograd.Tape
	runs     [1]model.Run
	last     tensor.Tensor // (1, hidden)
	shape    [2]int
	vocab    int // the target's
	checked  int // tokens that are known to be in the draft's vocabulary
	seconds  int // second candidates in the proposal being judged
	lag, k   int // of the proposal being judged: tokens fed that are committed, tokens proposed

	// Of a draft head.
	above    *above    // what it reads of the target's, else nil
	own      []float32 // its last row (hidden)
	ownRow   tensor.Tensor
	ownShape [2]int
}

func newDrafter(g *generation, t *autograd.Tape) *drafter {
	return &drafter{model: g.Draft, state: g.Draft.NewState(), sampling: g.Sampling, rng: g.rng, history: g.history, q: make([][]float32, g.Speculate), tape: t,
		vocab: g.target.Config.VocabSize, above: newAbove(g.Draft)}
}

// knows reports whether all tokens are in the draft's vocabulary, which may be padded to another size than the target's.
func (d *drafter) knows(tokens []int32) bool {
	for d.checked < len(tokens) && int(tokens[d.checked]) < d.model.Config.VocabSize {
		d.checked++
	}
	return d.checked == len(tokens)
}

// room returns how many tokens can be proposed behind n tokens within the draft's context.
func (d *drafter) room(n int) int {
	if context := d.model.Config.MaxPositionEmbeddings; context > 0 {
		return max(0, context-n+1)
	}
	return int(^uint(0) >> 1)
}

// behind returns how many of n tokens catchUp would feed.
func (d *drafter) behind(n int) int {
	if n-d.state.Len() <= maxLag || d.room(n) == 0 {
		return 0
	}
	return n - 1 - d.state.Len()
}

// catchUp feeds tokens that the draft has not seen, except the last, if they are many.
func (d *drafter) catchUp(ctx context.Context, tokens []int32) error {
	if d.behind(len(tokens)) == 0 {
		return nil
	}
	err := feed(ctx, d.tape, d.model, d.state, tokens[:len(tokens)-1], d.read, nil)
	d.forget()
	return err
}

// forget drops the hidden rows that the state has read.
func (d *drafter) forget() {
	if d.above != nil {
		d.above.forget(d.state.Len() - 1)
	}
}

// propose appends the tokens of a choice to fed, a second candidate first. What it feeds stays provisional until keep.
func (d *drafter) propose(fed, tokens []int32, c choice) ([]int32, error) {
	next := tokens[d.state.Len():]
	d.lag, d.k, d.seconds = len(next), c.k, 0
	d.state.MarkAfter(d.lag)
	made := 0
	defer func() { d.history.Pop(made) }()
	for i := range c.k {
		d.tape.Reset()
		logits := d.adjust(d.forward(next, i))
		if !slices.ContainsFunc(logits, possible) { // the tokens that the draft knows are all forbidden here
			if d.k = i + 1; i == 0 {
				d.keep(0) // nobody will judge: what was fed are tokens that stay
			}
			return fed, nil
		}
		x, err := d.token(logits, i)
		if err != nil {
			return fed, err
		}
		if c.branch && i == 0 {
			if second := secondBest(logits, x); second >= 0 {
				fed, d.seconds = append(fed, second), 1
			}
		}
		fed = append(fed, x)
		d.history.Push(x)
		made++
		next = fed[len(fed)-1:]
	}
	return fed, nil
}

// forward feeds the tokens before guess number i and returns its logits (vocab).
func (d *drafter) forward(next []int32, i int) []float32 {
	d.runs[0] = model.Run{Len: len(next), State: d.state}
	b := model.Batch{Tokens: next, Runs: d.runs[:]}
	if i == 0 {
		b.Hidden = d.read(len(next))
	} else {
		b.Hidden = d.readOwn()
	}
	last := d.lastRow(d.model.Forward(d.tape, b))
	if d.above != nil {
		d.own = append(d.own[:0], last.Data...)
	}
	return d.model.Logits(d.tape, last).Data
}

// secondBest returns the token with the largest logit but token x, or -1 where only x is possible.
func secondBest(logits []float32, x int32) int32 {
	best, at := float32(math.Inf(-1)), int32(-1)
	for i, v := range logits {
		if v > best && int32(i) != x {
			best, at = v, int32(i)
		}
	}
	return at
}

// lastRow returns the last row of hidden as a matrix, without garbage.
func (d *drafter) lastRow(hidden *tensor.Tensor) *tensor.Tensor {
	d.shape = [2]int{1, hidden.Cols()}
	d.last = tensor.Tensor{Shape: d.shape[:], Data: hidden.Row(hidden.Rows() - 1)}
	return &d.last
}

// adjust returns the logits of the tokens that the target knows, adjusted.
func (d *drafter) adjust(logits []float32) []float32 {
	logits = d.history.Adjust(d.adjusted, logits[:min(len(logits), d.vocab)])
	if d.history != nil {
		d.adjusted = logits
	}
	return logits
}

// possible reports whether a logit is not that of a forbidden token.
func possible(logit float32) bool { return !math.IsInf(float64(logit), -1) }

// token draws the proposed token number i.
func (d *drafter) token(logits []float32, i int) (int32, error) {
	if d.sampling.Greedy() {
		return sample.Argmax(logits)
	}
	var err error
	if d.q[i], err = sample.Dist(d.q[i], logits, d.sampling); err != nil {
		return 0, err
	}
	for len(d.q[i]) < d.vocab {
		d.q[i] = append(d.q[i], 0)
	}
	return sample.Pick(d.q[i], d.rng), nil
}

// keep commits what was fed of the accepted tokens and forgets the rest. A head forgets the accepted ones too: they come again with the target's
// hidden rows, which are better than its own.
func (d *drafter) keep(accepted int) {
	if d.above != nil {
		accepted = 0
	}
	d.state.Keep(d.lag + min(accepted, d.k-1))
	d.forget()
}
