package engine

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"krait/autograd"
	"krait/model"
	"krait/sample"
	"krait/tensor"
)

// prefillGrid is where a prompt is cut: pieces end at multiples of it, so that memory is bounded. It is enough rows for the matrix kernels.
const prefillGrid = 256

// Generate yields the output of the request token by token, as rounds commit them, and fills stats, which may be nil. A request that
// cannot be served, a cancelled context (ctx.Err()) and broken logits are yielded as an error, which is the last value.
func (e *Engine) Generate(ctx context.Context, r Request, stats *Stats) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		if stats == nil {
			stats = new(Stats)
		}
		*stats = Stats{PromptTokens: len(r.Prompt)}
		if err := e.check(&r); err != nil {
			yield(Token{}, err)
			return
		}
		g := e.newGeneration(r, stats)
		defer g.close(e)
		g.run(ctx, nil, yield)
	}
}

// run yields the output; prefilled, which may be nil, is called when the states have seen the prompt but its last token.
func (g *generation) run(ctx context.Context, prefilled func(), yield func(Token, error) bool) error {
	err := g.prefill(ctx)
	if err == nil && prefilled != nil {
		prefilled()
	}
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		if err = g.round(ctx); err != nil {
			break
		}
		for i, token := range g.block {
			g.stats.Tokens++
			if i == len(g.block)-1 {
				g.stats.FinishReason = g.finish()
			}
			if !yield(token, nil) || g.stats.FinishReason != "" {
				return nil
			}
		}
	}
	yield(Token{}, err)
	return err
}

// generation is one sequence on its way.
type generation struct {
	Request
	target   *model.Model
	costs    *costs
	state    *model.State // has seen all tokens but the last one or two
	tokens   []int32      // prompt and output
	limit    int
	rng      *rand.Rand
	stats    *Stats
	tape     *autograd.Tape
	runs     []model.Run
	fed      []int32   // what the round feeds: tokens that the state has not seen, a second candidate for the next, and the proposed ones
	known    int       // of them, tokens that stand: the last, and the one before where that was a second candidate
	second   int       // second candidates: 0 or 1
	block    []Token   // what the round commits
	branched bool      // the block begins with the second candidate
	p        []float32 // target distribution (vocab)
	left     []float32 // what is left of it when a candidate was refused (vocab)
	history  *sample.History
	adjusted []float32 // logits (vocab)

	// Who proposes.
	draft     *drafter
	automaton *automaton // of the tokens
	at        int        // where its match goes on
	reader    *reader    // of the tokens in the corpus
	records   [sources]*record
	seen      [sources]tally
	offered   []offer
	alone     [1][]offer // offered, as a step of one sequence
	choice    [1]choice
	source    source        // of the round
	proposing time.Duration // what the draft took of it
	usual     time.Duration // the same without what it had to see first because it was not asked before
}

func (e *Engine) newGeneration(r Request, stats *Stats) *generation {
	limit := e.limit(&r)
	tokens := make([]int32, 0, min(limit, len(r.Prompt)+1024)) // room for the usual output
	g := &generation{
		Request: r, target: e.Target, costs: e.costs, state: e.Target.NewState(), tokens: append(tokens, r.Prompt...), limit: limit, rng: newRNG(r.Seed),
		stats: stats, tape: e.takeTape(), history: sample.NewHistory(r.Sampling.Adjustments, r.Prompt),
	}
	if r.Speculate == 0 {
		g.Draft, g.NGram, g.Corpus = nil, false, nil
		return g
	}
	if r.Draft != nil {
		g.draft = newDrafter(g, e.takeTape())
	}
	if r.NGram {
		g.automaton = newAutomaton()
	}
	if r.Corpus != nil {
		g.reader = &reader{corpus: r.Corpus}
	}
	stats.DraftedAt, stats.JudgedAt, stats.AcceptedAt = make([]int, r.Speculate), make([]int, r.Speculate), make([]int, r.Speculate)
	return g
}

// close gives the tapes back.
func (g *generation) close(e *Engine) {
	e.returnTape(g.tape)
	if g.draft != nil {
		e.returnTape(g.draft.tape)
	}
}

// prefill feeds all tokens of the prompt but the last, which begins the first round.
func (g *generation) prefill(ctx context.Context) error {
	start := time.Now()
	defer func() { g.stats.Prefill = time.Since(start) }()
	var saw func(at int, hidden *tensor.Tensor)
	if g.sees() {
		saw = func(at int, hidden *tensor.Tensor) { g.draft.above.saw(at, hidden.Data) }
	}
	if err := feed(ctx, g.tape, g.target, g.state, g.tokens[:len(g.tokens)-1], nil, saw); err != nil {
		return err
	}
	if g.draft == nil || !g.draft.knows(g.tokens) || !g.FixedDepth && !g.costs.mayPay(g.recordOf(fromModel), g.Speculate) {
		return nil // a draft that will not be used need not know the prompt
	}
	return g.draft.catchUp(ctx, g.tokens)
}

// feed brings a state to the end of tokens, the first of which it has seen, piece by piece. read, which may be nil, returns the hidden rows that a
// draft head reads beside the next n tokens; saw, which may be nil, takes those of the tokens from position at on.
func feed(ctx context.Context, t *autograd.Tape, m *model.Model, s *model.State, tokens []int32, read func(n int) *tensor.Tensor, saw func(at int, hidden *tensor.Tensor)) error {
	for s.Len() < len(tokens) {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece := tokens[s.Len():pieceEnd(s.Len(), len(tokens))]
		t.Reset()
		b, at := model.Single(piece, s), s.Len()
		if read != nil {
			b.Hidden = read(len(piece))
		}
		if hidden := m.Forward(t, b); saw != nil {
			saw(at, hidden)
		}
	}
	return nil
}

// pieceEnd returns where the piece of a prefill that begins at position from ends.
func pieceEnd(from, to int) int { return min(to, (from/prefillGrid+1)*prefillGrid) }

// round feeds the last token and what is proposed behind it as one run, and commits the accepted tokens and one of the target's own.
func (g *generation) round(ctx context.Context) error {
	start := time.Now()
	defer func() { g.stats.Decode += time.Since(start) }()
	g.choice[0] = choice{}
	if g.alone[0] = g.offers(); g.FixedDepth {
		g.choice[0] = g.fixed(g.offered)
	} else if g.Speculate > 0 {
		g.costs.plan(g.choice[:], g.alone[:])
	}
	if err := g.begin(ctx, g.choice[0]); err != nil {
		return err
	}
	g.tape.Reset()
	g.runs = g.layOut(g.runs[:0])
	hidden := g.target.Forward(g.tape, model.Batch{Tokens: g.fed, Runs: g.runs}) // (len(fed), hidden)
	if err := g.end(hidden, g.target.Logits(g.tape, hidden).Data); err != nil {
		return err
	}
	if g.Speculate > 0 { // what choosing and keeping books take is part of the step: a plain one does without
		took := time.Since(start) - g.proposing
		g.costs.stepped(1, len(g.fed)-1, g.second, len(g.block), took, g.proposal())
	}
	return nil
}

// proposed returns the rows of the round that are no tokens' own.
func (g *generation) proposed() int { return len(g.fed) - g.known }

// proposal returns what was proposed in the round and became of it.
func (g *generation) proposal() proposal {
	return proposal{record: g.records[g.source], rows: g.proposed(), accepted: len(g.block) - 1, took: g.usual}
}

// layOut appends the round's runs: one, or, with a second candidate, the tree of it and the chain beside it.
func (g *generation) layOut(runs []model.Run) []model.Run {
	if g.second == 0 {
		return append(runs, model.Run{Len: len(g.fed), State: g.state})
	}
	branch := g.known + g.second
	return append(runs, model.Run{Len: branch, State: g.state}, model.Run{Len: len(g.fed) - branch, State: g.state, Rewind: g.second})
}

// begin fills fed with the tokens that the state has not seen and the proposal that was chosen. Until end the state's tokens are provisional.
func (g *generation) begin(ctx context.Context, c choice) error {
	g.fed = append(g.fed[:0], g.tokens[g.state.Len():]...)
	g.known, g.second, g.proposing, g.usual = len(g.fed), 0, 0, 0
	if err := g.propose(ctx, c); err != nil {
		return err
	}
	if g.proposed() > 0 {
		g.state.MarkAfter(g.known)
	}
	return nil
}

// end judges the proposal by the target's hidden rows (len(fed), hidden) and logits (len(fed), vocab), fills block and commits it.
func (g *generation) end(hidden *tensor.Tensor, logits []float32) error {
	if err := g.accept(logits); err != nil {
		return fmt.Errorf("token %d: %w", len(g.tokens), err)
	}
	g.tell(hidden)
	if g.proposed() > 0 {
		kept := g.known
		if !g.branched { // the chain is the last branch, which the state has
			kept += len(g.block) - 1
		}
		g.state.Keep(kept)
	}
	g.committed()
	return nil
}

// accept fills block from the target's logits (len(fed), vocab): the row of a token judges the one proposed behind it.
func (g *generation) accept(logits []float32) error {
	g.block, g.branched = g.block[:0], false
	chain := g.fed[g.known+g.second:]
	forced := -1
	if g.Synthetic != nil && len(chain) > 0 {
		forced = min(max(g.Synthetic(len(chain)), 0), len(chain))
	}
	vocab := g.target.Config.VocabSize
	row := g.known - 1
	for i := 0; ; i++ {
		drafted := int32(-1)
		if i < len(chain) && !g.branched {
			drafted = chain[i]
		}
		own := logits[row*vocab:][:vocab]
		token, accepted, err := g.decide(own, i, drafted)
		if err != nil {
			return err
		}
		if forced >= 0 {
			if g.branched, accepted = false, i < forced; accepted {
				token = drafted
			}
		}
		g.block = append(g.block, Token{ID: token, Drafted: accepted})
		if g.history.Push(token); g.LogProbs {
			g.block[i].LogProb = sample.LogProb(own, token)
		}
		if !accepted || slices.Contains(g.Stop, token) {
			return nil
		}
		if row = g.known + g.second + i; g.branched { // that of the token
			row = g.known
		}
	}
}

// decide returns the token behind a row's logits (vocab), the i-th of the round, and whether it was proposed; drafted is the chain's, -1 where
// there is none.
func (g *generation) decide(logits []float32, i int, drafted int32) (token int32, accepted bool, err error) {
	logits = g.history.Adjust(g.adjusted, logits)
	if g.history != nil {
		g.adjusted = logits
	}
	second := int32(-1)
	if i == 0 && g.second > 0 {
		second = g.fed[g.known]
	}
	if g.Sampling.Greedy() {
		token, err = sample.Argmax(logits)
		g.branched = g.branched || token == second
		return token, token == drafted || token == second, err
	}
	if g.p, err = sample.Dist(g.p, logits, g.Sampling); err != nil {
		return 0, false, err
	}
	switch {
	case drafted < 0:
		return sample.Pick(g.p, g.rng), false, nil
	case second >= 0:
		of := 0
		token, of = sample.VerifyTwo(&g.left, g.p, g.draft.q[i], drafted, second, g.rng)
		g.branched = of == 1
		return token, of >= 0, nil
	case g.source == fromModel:
		token, accepted = sample.Verify(g.p, g.draft.q[i], drafted, g.rng)
	default:
		token, accepted = sample.VerifyCertain(g.p, drafted, g.rng)
	}
	return token, accepted, nil
}

// committed appends the round's block to the tokens and tells everyone who proposes.
func (g *generation) committed() {
	k, accepted := g.proposed()-g.second, 0
	for _, t := range g.block {
		g.tokens = append(g.tokens, t.ID)
		if t.Drafted {
			accepted++
		}
	}
	g.stats.Rounds++
	g.stats.Drafted += k
	g.stats.Alternatives += g.second
	g.stats.Accepted += accepted
	if g.branched {
		g.stats.Branched++
		accepted = 0 // of the chain
	}
	if k == 0 {
		return
	}
	for i := range k {
		g.stats.DraftedAt[i]++
	}
	for i := range min(k, accepted+1) {
		g.stats.JudgedAt[i]++
	}
	for i := range accepted {
		g.stats.AcceptedAt[i]++
	}
	g.costs.judged(g.records[g.source], &g.seen[g.source], k, accepted)
	if g.second > 0 && accepted == 0 {
		g.costs.judgedSecond(g.records[g.source], g.branched)
	}
	if g.source == fromModel {
		g.draft.keep(accepted)
	}
}

// finish returns why the output ends with the tokens there are, or "".
func (g *generation) finish() string { return finish(g.tokens, g.Stop, g.limit) }

func finish(tokens, stop []int32, limit int) string {
	switch {
	case slices.Contains(stop, tokens[len(tokens)-1]):
		return FinishStop
	case len(tokens) >= limit:
		return FinishLength
	}
	return ""
}
