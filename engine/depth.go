package engine

import (
	"slices"
	"sync"
	"time"
)

const (
	warmRounds  = 3    // plain rounds before the first proposal: they measure what plain decoding costs
	trusted     = 2    // measurements of a time, of which the shortest counts, that are no accident
	remeasure   = 128  // rounds after which the time of plain steps is measured again
	outdated    = 256  // rounds after which the time of others is believed less and less
	firstWait   = 16   // rounds before a source that does not pay is tried again; doubles with each trial
	longestWait = 1024 //
	probeDepth  = 2    // tokens of such a trial
	probeShare  = 0.01 // of the time since the last trial that a trial may lose
	margin      = 1.02 // a plan must promise this much over plain decoding
	forget      = 0.97 // weight of the acceptance seen a round earlier
	proven      = 3    // proposals of a source, of late, after which what they were worth is believed
	credit      = 0.01 // of the time so far that proposals of others may have lost
	carried     = 4    // rounds that the acceptance of earlier requests counts for in a new one
	secondGuess = 0.4  // how often the second candidate is held to be right where the first is not
	rowGuess    = 0.05 // of a plain step of one sequence: what a row costs before any was measured
	horizon     = 8    // rounds at least over which a draft's catching up is spread
)

// costs is what an engine knows of speed: the times of its steps, and what each source of proposals was worth in all requests so far.
type costs struct {
	mu      sync.Mutex
	steps   map[int]*steps // by the number of sequences in a step
	records map[sourceKey]*record
	seconds float64 // of steps and proposals so far
	saved   float64 // of what the same tokens would have taken plainly
}

// sourceKey is what acceptance depends on, beside the text.
type sourceKey struct {
	draft   any // a model, or nil
	source  source
	sampled bool
}

func newCosts() *costs { return &costs{steps: map[int]*steps{}, records: map[sourceKey]*record{}} }

// tally counts, at each position of a proposal, how often it was judged and how often accepted, the past fading.
type tally struct{ tried, hits []float64 }

func (t *tally) add(k, accepted int) {
	for len(t.tried) < k {
		t.tried, t.hits = append(t.tried, 0), append(t.hits, 0)
	}
	for i := range t.tried {
		t.tried[i] *= forget
		t.hits[i] *= forget
	}
	for i := range min(k, accepted+1) {
		t.tried[i]++
		if i < accepted {
			t.hits[i]++
		}
	}
}

// at returns the acceptance at position i, where guess is what it is held to be with the weight of so many rounds.
func (t *tally) at(i int, guess, weight float64) float64 {
	if i >= len(t.tried) {
		return guess
	}
	return (t.hits[i] + weight*guess) / (t.tried[i] + weight)
}

// weight returns how many proposals were judged, of late.
func (t *tally) weight() float64 {
	if len(t.tried) == 0 {
		return 0
	}
	return t.tried[0]
}

// record is what an engine knows of one source.
type record struct {
	tally
	token, catchUp timing // of one proposed token, and of one that the source has to see first, in units
	deepest        int    // proposal so far
	first          float64
	second         tally // how often the second candidate was right where the first was not
	wait, idle     int   // rounds until the next trial of a source that does not pay, and rounds since the last
}

// record returns what is known of a source.
func (c *costs) record(k sourceKey) *record {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.records[k]
	if r == nil {
		r = &record{first: k.source.guess(), deepest: k.source.deepest(), wait: firstWait}
		c.records[k] = r
	}
	return r
}

// offer is what one source could propose for a sequence in the next step.
type offer struct {
	source         source
	record         *record
	seen           *tally  // in this request
	most           int     // tokens
	behind         int     // tokens that the source has to see first
	made           int     // tokens of the answer so far: as many are expected to follow
	branches       bool    // it can give a second candidate for the first token
	token, catchUp float64 // seconds of one token of it, and of one of behind; plan fills them in
}

// choice is the outcome: offer number i proposes k tokens, with a branch also a second candidate for the first. k = 0 is plain decoding.
type choice struct {
	i, k   int
	branch bool
}

func (c choice) proposes() bool { return c.k > 0 }

// reach returns the probability that token number i+1 of the offer is accepted with all before it; it goes on from that of token i.
func (o *offer) reach(i int, reach, accept float64) (float64, float64) {
	accept = o.record.at(i, accept, 1)
	here := o.seen.at(i, accept, carried)
	return reach * here, accept
}

// late returns the seconds of catching up that each of the rounds in which it pays is charged with.
func (o *offer) late() float64 { return float64(o.behind) * o.catchUp / float64(max(horizon, o.made)) }

// plan fills in for each sequence of a step who proposes and how many tokens, so that the expected tokens a second are the most:
//
//	rate = (B + Σ gains) / (T(B + rows) + Σ time of proposing)
//
// for B sequences, where the gain of a row is the probability that its token and all before it are accepted, and T is measured. What was
// not tried is judged by its neighbours, and a proposal is at most twice as long as any of its source or any measured before, so growing is cheap. Where no
// plan is better than plain decoding, sources are tried now and then, for a share of the time that does not matter. Sources of which little is
// known take part in plans as long as proposals have not lost more than that, and one whose plans do not come true takes part in none.
func (c *costs) plan(plan []choice, sequences [][]offer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(plan)
	b := len(sequences)
	s := c.of(b)
	if s.times[0].n < warmRounds || s.round-s.times[0].round >= remeasure {
		return
	}
	unit := c.unit()
	for _, offers := range sequences {
		for j := range offers {
			o := &offers[j]
			o.token, o.catchUp = o.record.token.seconds*unit, o.record.catchUp.seconds*unit
		}
	}
	plain := float64(b) / s.times[0].seconds
	overdrawn := c.saved < -credit*c.seconds-s.times[0].seconds
	for i, offers := range sequences {
		alone := plain
		for j := range offers {
			if overdrawn && offers[j].record.weight() < proven || s.ledger(offers[j].record).loses() {
				continue
			}
			if k, r := s.best(&offers[j], b); r > alone*margin || r > alone && plan[i].k > 0 {
				plan[i], alone = choice{i: j, k: k}, r
			}
		}
	}
	if slices.ContainsFunc(plan, choice.proposes) && (b == 1 || s.balance(sequences, plan) > plain*margin) {
		for i, p := range plan {
			if p.k > 0 {
				r := sequences[i][p.i].record
				r.idle, r.wait = 0, firstWait
			}
		}
		if b == 1 {
			plan[0].branch = s.branches(&sequences[0][plan[0].i], plan[0].k)
		}
		return
	}
	clear(plan)
	s.tryOne(sequences, plan)
}

// mayPay reports whether a source is likely to be used by a request: as far as is known it pays, or it was hardly tried.
func (c *costs) mayPay(r *record, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(1)
	if r.weight() < proven || s.times[0].n < warmRounds {
		return true
	}
	_, rate := s.best(&offer{record: r, seen: new(tally), most: most, token: r.token.seconds * c.unit()}, 1)
	return rate*s.times[0].seconds > 1 && !s.ledger(r).loses()
}

// best returns the number of tokens of an offer with the highest rate if the other sequences of b decode plainly.
func (s *steps) best(o *offer, b int) (best int, rate float64) {
	gain, reach, accept := 0.0, 1.0, o.record.first
	late := o.late()
	measured := max(1, len(s.times)-1)
	for k := 1; k <= min(o.most, 2*o.record.deepest, 2*measured); k++ {
		reach, accept = o.reach(k-1, reach, accept)
		gain += reach
		if r := (float64(b) + gain) / (s.time(k) + late + float64(k)*o.token); r > rate {
			best, rate = k, r
		}
	}
	return best, rate
}

// branches reports whether a second candidate for the first of k tokens raises the rate: it is a row more now, and, where it is accepted, one
// more in the next step, since the state has not seen it.
func (s *steps) branches(o *offer, k int) bool {
	if !o.branches {
		return false
	}
	gain, reach, accept := 0.0, 1.0, o.record.first
	first := 0.0
	for i := range k {
		if reach, accept = o.reach(i, reach, accept); i == 0 {
			first = reach
		}
		gain += reach
	}
	right := (1 - first) * o.record.second.at(0, secondGuess, 1)
	own := float64(k) * o.token
	without := (1 + gain) / (s.time(k) + own)
	with := (1 + gain + right) / (s.time(k+1) + s.branch.seconds + right*(s.time(k+1)-s.time(k)) + own)
	return with > without*margin
}

// balance shortens a plan whose proposals were chosen each for itself: rows are taken in the order of their gains while the rate rises.
func (s *steps) balance(sequences [][]offer, plan []choice) (rate float64) {
	type row struct {
		sequence   int
		gain, cost float64
	}
	var rows []row
	for i, p := range plan {
		if p.k == 0 {
			continue
		}
		o := &sequences[i][p.i]
		cost := o.late()
		reach, accept := 1.0, o.record.first
		for j := range p.k {
			reach, accept = o.reach(j, reach, accept)
			rows = append(rows, row{i, reach, cost + o.token})
			cost = 0
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { // gains fall along a proposal, so its tokens stay in order
		switch {
		case a.gain > b.gain:
			return -1
		case a.gain < b.gain:
			return 1
		}
		return 0
	})
	tokens, cost, best := float64(len(plan)), 0.0, 0
	rate = tokens / s.times[0].seconds
	for i, r := range rows {
		tokens += r.gain
		cost += r.cost
		if x := tokens / (s.time(i+1) + cost); x > rate {
			rate, best = x, i+1
		}
	}
	for i := range plan {
		plan[i].k = 0
	}
	for _, r := range rows[:best] {
		plan[r.sequence].k++
	}
	return rate
}

// tryOne lets a source that does not pay propose a little, if its turn has come and the time that it will probably lose is little.
func (s *steps) tryOne(sequences [][]offer, plan []choice) {
	for i, offers := range sequences {
		for j := range offers {
			o := &offers[j]
			k := min(o.most, probeDepth)
			o.record.idle++
			loss := s.time(k) - s.times[0].seconds + float64(k)*o.token + float64(o.behind)*o.catchUp
			if k > 0 && o.record.idle > o.record.wait && loss <= probeShare*s.probe {
				o.record.idle, o.record.wait = 0, min(2*o.record.wait, longestWait)
				s.probe = 0
				plan[i] = choice{i: j, k: k}
				return
			}
		}
	}
}

// of returns the times of steps of b sequences.
func (c *costs) of(b int) *steps {
	s := c.steps[b]
	if s == nil {
		s = &steps{b: b, all: c.steps, times: make([]timing, 1), ledgers: map[*record]*ledger{}}
		c.steps[b] = s
	}
	return s
}

// stepped takes in the time of the target's part of a step of b sequences that proposed rows tokens together, so many of them on branches, and
// yielded tokens, and what became of its proposals.
func (c *costs) stepped(b, rows, branches, tokens int, t time.Duration, proposals ...proposal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(b)
	s.round++
	if branches > 0 && s.times[0].n > 0 {
		s.branch.add(max(0, t.Seconds()-s.time(rows)), s.round)
	} else {
		for len(s.times) <= rows {
			s.times = append(s.times, timing{})
		}
		s.measured(rows, t.Seconds())
	}
	c.seconds += t.Seconds()
	if rows == 0 {
		s.probe += t.Seconds()
		if s.mean == 0 {
			s.mean = s.times[0].seconds
		}
		s.mean += meanShare * (min(t.Seconds(), (1+mostTimes)*s.mean) - s.mean)
		for _, l := range s.ledgers {
			l.age()
		}
	} else {
		c.saved += float64(tokens)/float64(b)*s.times[0].seconds - t.Seconds()
	}
	s.settle(t, proposals)
}

// unit returns the time in whose terms proposing is measured, so that the machine's changes of speed are its changes too: that of a plain step.
func (c *costs) unit() float64 {
	if t := c.of(1).times[0]; t.n > 0 {
		return t.seconds
	}
	return 1
}

// proposed takes in the time in which a source proposed k tokens, and that in which it saw behind others first. It returns what the proposal would
// have taken if the source had been asked in the step before too: a source that resumed has fed what it missed with its first token.
func (c *costs) proposed(r *record, k int, t time.Duration, behind int, late time.Duration, resumed bool) (usual time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seconds += t.Seconds() + late.Seconds()
	c.saved -= t.Seconds() + late.Seconds()
	unit := c.unit()
	r.token.add(t.Seconds()/float64(k)/unit, 0)
	if behind > 0 {
		r.catchUp.add(late.Seconds()/float64(behind)/unit, 0)
	}
	if resumed {
		return min(t, time.Duration(float64(k)*r.token.seconds*unit*float64(time.Second)))
	}
	return t
}

// judged takes in how many of k proposed tokens were accepted.
func (c *costs) judged(r *record, seen *tally, k, accepted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.deepest = max(r.deepest, k)
	r.add(k, accepted)
	seen.add(k, accepted)
	if s := c.of(1); accepted == k && float64(1+k)*s.times[0].seconds > margin*(s.time(k)+float64(k)*r.token.seconds*c.unit()) {
		r.wait = max(firstWait, r.wait/4) // what would pay if it were always so is tried again soon
	}
}

// judgedSecond takes in whether the second candidate was right where the first was not.
func (c *costs) judgedSecond(r *record, right bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	accepted := 0
	if right {
		accepted = 1
	}
	r.second.add(1, accepted)
}
