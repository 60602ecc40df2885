package eval

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"krait/engine"
	"krait/kernel"
	"krait/model"
)

// SpecConfig says what BenchSpec measures.
type SpecConfig struct {
	Synthetic []float64 // mean tokens a step
	Depth     int       // tokens that a step proposes; negative: chosen by measured cost
	Runs      int
	Seconds   float64
	Peer      *Peer                              // speculates beside us; may be nil
	Report    func(done, total int, what string) // may be nil
}

// SpecReport is the JSON object of krait bench spec.
type SpecReport struct {
	ISA        string    `json:"isa"`
	Processor  string    `json:"processor,omitempty"`
	Threads    int       `json:"threads"`
	Shape      string    `json:"shape"`
	Vocabulary int       `json:"vocabulary"`
	Type       string    `json:"type"`
	Parameters int       `json:"parameters"`
	Rows       []SpecRow `json:"rows"`
	AtOnce     int       `json:"at_once,omitempty"`            // sequences of a step, where that was asked for
	StepMS     []float64 `json:"step_milliseconds"`            // of the target: T(1), T(2), …; of several sequences, by the guesses in it: 0, 1, …
	DraftMS    float64   `json:"draft_milliseconds,omitempty"` // of a proposed token
	Rollback   *Rollback `json:"rollback,omitempty"`
	Peer       *Peer     `json:"peer,omitempty"`
}

// Rollback is what taking guesses back costs a step of Rows rows, the first of which is the sequence's own: the commit and the work of replaying
// in the next step what was kept, as a share of the step; and the memory of the guesses of one sequence, beside that of as many
// copies of its state.
type Rollback struct {
	Rows       int     `json:"rows"`
	Share      float64 `json:"share"`       // mean over all numbers of guesses kept, 0 to Rows-1
	WorstShare float64 `json:"worst_share"` // of the number that costs most
	LogBytes   int     `json:"log_bytes"`
	CopiesByte int     `json:"state_copies_bytes"`
}

// SpecRow is plain decoding and speculation in turns: medians over Runs of each, and of the ratios of neighbours.
type SpecRow struct {
	Name                 string    `json:"name"`
	TokensPerStep        float64   `json:"tokens_per_step"`
	Depth                int       `json:"depth"`
	Acceptance           float64   `json:"acceptance"` // of a proposed token, given those before it
	PlainTokensPerSecond float64   `json:"plain_tokens_per_second"`
	TokensPerSecond      float64   `json:"tokens_per_second"`
	Speedup              float64   `json:"speedup"`
	SpeedupRange         []float64 `json:"speedup_range,omitempty"`
	MeanDepth            float64   `json:"mean_depth"`              // of text: measured cost chooses it round by round
	AcceptanceAt         []float64 `json:"acceptance_at,omitempty"` // of the token at each position, given those before it
	LeastSpeedup         float64   `json:"least_speedup,omitempty"` // of the slowest prompt
	Identical            bool      `json:"identical"`               // greedy output with this draft and depth, nothing synthetic, is that of plain decoding
	Draft                SpecDraft `json:"draft,omitzero"`
	Peer                 *SpecPeer `json:"peer,omitempty"`
	Runs                 int       `json:"runs"`
	Disturbed            int       `json:"disturbed_runs,omitempty"` // left out, as in BenchRow
}

// SpecDraft is the shape of the model that proposes.
type SpecDraft struct {
	Name       string `json:"name"`
	Layers     int    `json:"layers"`
	Hidden     int    `json:"hidden"`
	Heads      int    `json:"heads"`
	KVHeads    int    `json:"kv_heads"`
	MLP        int    `json:"mlp"`
	Vocabulary int    `json:"vocabulary"`
	Parameters int    `json:"parameters"`
	Type       string `json:"type"`
}

const (
	deepest      = 8  // the most tokens a step proposes where the depth is chosen
	costRounds   = 5  // measurements of each step's time
	leastOutput  = 48 // tokens of a run
	mostOutput   = 256
	sameOutput   = 48 // tokens of the comparison
	mostAccepted = 0.95
	rollbackRows = 5 // four guesses, as in the paper
	// Rolling back costs so little that only the shortest of many steps tell.
	rollbackRounds = 60
	rollbackTime   = 4 * time.Second
)

// spec is a measurement on its way.
type spec struct {
	SpecConfig
	engine        *engine.Engine
	target, draft *model.Model
	steps         []float64 // seconds of a step of the target with i+1 rows
	propose       float64   // seconds of a proposed token
	done, total   int
}

// BenchSpec measures lossless speculation with synthetic acceptance: how many of the proposed tokens count as accepted is drawn, so that
// a step yields the asked tokens on average; the draft, the verification, the commit and the choice of tokens are real.
func BenchSpec(ctx context.Context, target, draft BenchSubject, c SpecConfig) (*SpecReport, error) {
	for _, mean := range c.Synthetic {
		if !(mean >= 1) || c.Depth >= 0 && mean > float64(c.Depth+1) {
			return nil, fmt.Errorf("%g tokens a step: want at least 1, and at most one more than the depth", mean)
		}
	}
	s := &spec{SpecConfig: c, engine: engine.New(target.Model, draft.Model), target: target.Model, draft: draft.Model, total: 1 + len(c.Synthetic)*(c.Runs+1)}
	if err := s.costs(ctx); err != nil {
		return nil, err
	}
	r := &SpecReport{
		ISA: kernel.Level(), Processor: processor(), Threads: runtime.GOMAXPROCS(0), Shape: target.Name, Vocabulary: target.Model.Config.VocabSize, Type: target.Model.Format().String(),
		Parameters: target.Model.NumParams(), DraftMS: 1e3 * s.propose, Peer: c.Peer,
	}
	for _, t := range s.steps {
		r.StepMS = append(r.StepMS, 1e3*t)
	}
	var err error
	if r.Rollback, err = s.rollback(ctx); err != nil {
		return nil, err
	}
	shape := draftOf(draft)
	for _, mean := range c.Synthetic {
		row, err := s.row(ctx, mean)
		if err != nil {
			return nil, err
		}
		row.Draft = shape
		r.Rows = append(r.Rows, row)
	}
	s.report("")
	return r, nil
}

// draftOf describes a draft.
func draftOf(d BenchSubject) SpecDraft {
	c := &d.Model.Config
	return SpecDraft{d.Name, c.NumHiddenLayers, c.HiddenSize, c.NumAttentionHeads, c.NumKeyValueHeads, c.IntermediateSize, c.HeadRows(), d.Model.NumParams(), d.Model.Format().String()}
}

// rollback measures what rolling back costs, on steps of rollbackRows rows: a step after one of which so many rows were kept, against one
// after a step of which nothing is left.
func (s *spec) rollback(ctx context.Context) (*Rollback, error) {
	x := newStepper(s.target)
	if err := x.prefix(ctx, prefixRows); err != nil {
		return nil, err
	}
	r := &Rollback{Rows: rollbackRows, CopiesByte: rollbackRows * s.target.StateBytes(0)}
	var least [rollbackRows + 1]float64 // seconds of a step and of the commit before it, by the rows kept
	start := time.Now()
	for round := range rollbackRounds {
		if round >= 2*costRounds && time.Since(start) > rollbackTime {
			break
		}
		for keep := range least {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			x.state.MarkAfter(min(keep, 1))
			x.tape.Reset()
			x.model.Forward(x.tape, model.Single(x.rows[:rollbackRows], x.state))
			r.LogBytes = x.state.LogBytes()
			start := time.Now()
			x.state.Keep(keep)
			commit := time.Since(start).Seconds()
			t, err := x.step(rollbackRows, 0)
			if err != nil {
				return nil, err
			}
			if t += commit; round == 0 || t < least[keep] {
				least[keep] = t
			}
		}
	}
	for _, t := range least[1:] {
		share := max(0, t/least[0]-1)
		r.Share += share / rollbackRows
		r.WorstShare = max(r.WorstShare, share)
	}
	return r, nil
}

func (s *spec) report(what string) {
	if s.Report != nil {
		s.Report(s.done, s.total, what)
	}
}

// costs measures the steps that the depth is chosen by, taking turns.
func (s *spec) costs(ctx context.Context) error {
	s.report("costs")
	target, draft := newStepper(s.target), newStepper(s.draft)
	for _, x := range []*stepper{target, draft} {
		if err := x.prefix(ctx, prefixRows); err != nil {
			return err
		}
	}
	rows := max(deepest, s.Depth) + 1
	times, proposals := make([][]float64, rows), []float64(nil)
	for round := range costRounds + 1 {
		for n := range rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			t, err := target.step(n+1, 1)
			if err != nil {
				return err
			}
			d, err := draft.step(1, 1)
			if err != nil {
				return err
			}
			if round > 0 { // the first touches new memory
				times[n], proposals = append(times[n], t), append(proposals, d)
			}
		}
	}
	for _, t := range times {
		s.steps = append(s.steps, median(t))
	}
	s.propose = median(proposals)
	s.done++
	return nil
}

// depth returns the number of tokens to propose. What counts is how long a draft is good that yields mean tokens a step when it may
// propose without end: its tokens are accepted with probability 1 - 1/mean each. 0: plain decoding is as fast.
func (s *spec) depth(mean float64) int {
	if s.Depth >= 0 {
		return s.Depth
	}
	best, rate := 0, 1/s.steps[0]
	least := int(math.Ceil(mean)) // so that a draft of that quality can yield the mean, with lengths on both sides of it
	for k := max(1, least); k < len(s.steps); k++ {
		if r := expected(1-1/mean, k) / (s.steps[k] + float64(k)*s.propose); r > rate {
			best, rate = k, r
		}
	}
	return best
}

// expected returns the mean tokens of a step that proposes k tokens, each accepted with probability a given those before it.
func expected(a float64, k int) float64 {
	sum, p := 1.0, 1.0
	for range k {
		p *= a
		sum += p
	}
	return sum
}

// acceptance returns the probability with which a step of k proposed tokens yields mean tokens.
func acceptance(mean float64, k int) float64 {
	lo, hi := 0.0, 1.0
	for range 60 {
		if mid := (lo + hi) / 2; expected(mid, k) < mean {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// lengths returns a source of accepted lengths: each is drawn as if every token were accepted with probability a. The draws are spread
// evenly, so that few of them already have the right mean.
func lengths(a float64, seed uint64) func(k int) int {
	u := rand.New(rand.NewPCG(seed, 2)).Float64()
	return func(k int) int {
		u += math.Phi - 1
		u -= math.Floor(u)
		n := 0
		for p := a; n < k && u < p; p *= a {
			n++
		}
		return n
	}
}

// row measures one mean.
func (s *spec) row(ctx context.Context, mean float64) (SpecRow, error) {
	k := s.depth(mean)
	r := SpecRow{Name: fmt.Sprintf("synthetic-%g", mean), Depth: k, MeanDepth: float64(k), TokensPerStep: 1}
	if k > 0 {
		r.Acceptance = acceptance(mean, k)
	}
	var err error
	s.report(r.Name + " identical")
	if r.Identical, err = s.identical(ctx, max(k, 1)); err != nil {
		return r, err
	}
	s.done++
	most := min(max(int(s.Seconds/s.steps[0]), leastOutput), mostOutput)
	if window := s.target.Config.MaxPositionEmbeddings; window > 0 {
		most = min(most, window-1)
	}
	plain := engine.Request{Prompt: []int32{1}, MaxTokens: most + max(deepest, k)}
	var pairs []pair
	for run := range s.Runs {
		waited := watch(0)
		s.report(fmt.Sprintf("%s depth %d", r.Name, k))
		p, _, err := s.rate(ctx, plain, most)
		if err != nil {
			return r, err
		}
		speculative := plain
		if k > 0 {
			speculative.Draft, speculative.Speculate, speculative.FixedDepth = s.draft, k, true
			speculative.Synthetic = lengths(r.Acceptance, uint64(run))
		}
		f, tokens, err := s.rate(ctx, speculative, most)
		if err != nil {
			return r, err
		}
		own := waited()
		var peer *SpecPeer
		if k > 0 {
			if peer, err = s.peerRounds(k, most, lengths(r.Acceptance, uint64(run))); err != nil {
				return r, err
			}
		}
		pairs = append(pairs, pair{p, f, tokens, own, peer})
		s.done++
	}
	r.fill(pairs)
	return r, nil
}

// pair is a run of plain decoding and one of speculation: tokens a second, and tokens a step of the latter.
type pair struct {
	plain, fast, perStep, waited float64
	peer                         *SpecPeer
}

// fill sets the row's figures.
func (r *SpecRow) fill(pairs []pair) {
	all := len(pairs)
	pairs = undisturbed(pairs, func(p pair) float64 { return p.waited })
	r.Runs, r.Disturbed = len(pairs), all-len(pairs)
	var plains, fasts, ratios, perStep []float64
	for _, p := range pairs {
		plains, fasts, ratios, perStep = append(plains, p.plain), append(fasts, p.fast), append(ratios, p.fast/p.plain), append(perStep, p.perStep)
	}
	r.PlainTokensPerSecond, r.TokensPerSecond, r.Speedup, r.TokensPerStep = median(plains), median(fasts), median(ratios), median(perStep)
	r.SpeedupRange = []float64{slices.Min(ratios), slices.Max(ratios)}
	if pairs[0].peer != nil {
		pick := func(of func(p *SpecPeer) float64) float64 {
			var all []float64
			for _, p := range pairs {
				all = append(all, of(p.peer))
			}
			return median(all)
		}
		r.Peer = &SpecPeer{
			PlainTokensPerSecond: pick(func(p *SpecPeer) float64 { return p.PlainTokensPerSecond }), TokensPerSecond: pick(func(p *SpecPeer) float64 { return p.TokensPerSecond }),
			Speedup: pick(func(p *SpecPeer) float64 { return p.Speedup }), Rollback: pairs[0].peer.Rollback,
		}
	}
}

// rate generates and returns tokens a second and tokens a step.
func (s *spec) rate(ctx context.Context, r engine.Request, most int) (perSecond, perStep float64, err error) {
	var stats engine.Stats
	if _, err := generateFor(ctx, s.engine, r, &stats, math.Inf(1), most); err != nil {
		return 0, 0, err
	}
	tokens := float64(stats.Rounds + stats.Accepted) // whole rounds, whether or not the last one's tokens were all taken
	return tokens / stats.Decode.Seconds(), tokens / float64(stats.Rounds), nil
}

// identical reports whether greedy output with the draft is that of plain decoding. A draft of random weights guesses
// nothing, so a draft that is always right, the target itself, is tried too.
func (s *spec) identical(ctx context.Context, k int) (bool, error) {
	r := engine.Request{Prompt: []int32{1, 2, 3}, MaxTokens: sameOutput}
	if window := s.target.Config.MaxPositionEmbeddings; window > 0 {
		r.MaxTokens = min(r.MaxTokens, window-len(r.Prompt))
	}
	plain, err := generateFor(ctx, s.engine, r, nil, math.Inf(1), sameOutput)
	if err != nil {
		return false, err
	}
	for _, draft := range []*model.Model{s.draft, s.target} {
		r.Draft, r.Speculate, r.FixedDepth = draft, k, true
		fast, err := generateFor(ctx, s.engine, r, nil, math.Inf(1), sameOutput)
		if err != nil || !slices.Equal(plain, fast) {
			return false, err
		}
	}
	return true, nil
}
