package engine

import "time"

// steps is the times of steps of a number of sequences.
type steps struct {
	b      int            // sequences
	all    map[int]*steps // of every number of sequences
	round  int
	times  []timing // of as many rows more than sequences
	probe  float64  // seconds of plain rounds since the last trial of a source
	branch timing   // what a step with a branch takes longer than one of as many rows without

	mean    float64             // seconds of a plain step, interruptions included up to a point
	ledgers map[*record]*ledger // of one sequence's sources; nil: of all together in steps of several
}

// ledger is what proposals of a source really cost and brought, in plain steps, the past fading. The shortest times tell what a step can
// do, which is what to plan with; whether plans come true is told by all of them.
type ledger struct {
	n, spent, worth float64
	wait, rest      int // plain steps that its source was stopped for last, and that are left of them
}

const (
	meanShare = 0.05 // of a plain step in their mean
	audited   = 12   // proposals, of late, after which the ledger is believed
	mostTimes = 3    // a step counts for at most so many plain ones beyond what its rows may take
	slack     = 1.5  // plain steps that proposals, of late, may have lost by chance
	firstStop = 128  // plain steps that a source is stopped for whose plans do not come true; doubles as long as they do not
)

// add enters a proposal. A ledger that stops its source forgets half of what it holds, so that some more proposals judge it afterwards.
func (l *ledger) add(spent, worth float64) {
	l.n, l.spent, l.worth = forget*l.n+1, forget*l.spent+spent, forget*l.worth+worth
	switch {
	case l.n < audited:
	case l.spent-l.worth > slack:
		l.wait = min(max(firstStop, 2*l.wait), longestWait)
		l.rest = l.wait
		l.n, l.spent, l.worth = l.n/2, l.spent/2, l.worth/2
	case l.n > 2*audited:
		l.wait = 0
	}
}

// age takes in a plain step.
func (l *ledger) age() { l.rest = max(0, l.rest-1) }

// gain returns tokens a second in the rounds of proposals, over plain decoding's.
func (l *ledger) gain() float64 { return (l.n + l.worth) / (l.n + l.spent) }

// loses reports that the source, of which plans promise otherwise, makes decoding slower.
func (l *ledger) loses() bool { return l.rest > 0 }

// ledger returns that of a source of one sequence, or that of all sources where there are several: a source may be right in one and wrong in another.
func (s *steps) ledger(r *record) *ledger {
	if s.b > 1 {
		r = nil
	}
	l := s.ledgers[r]
	if l == nil {
		l = &ledger{}
		s.ledgers[r] = l
	}
	return l
}

// proposal is what a source did in a step.
type proposal struct {
	record   *record
	rows     int
	accepted int
	took     time.Duration // proposing, without what the source had to see first: that is paid once, not as long as it goes on
}

// settle enters the proposals of a step that took t, proposing not included, in their ledger.
func (s *steps) settle(t time.Duration, all []proposal) {
	rows, accepted := 0, 0
	var took time.Duration
	var by *record
	for _, p := range all {
		if p.rows > 0 {
			rows, accepted, took, by = rows+p.rows, accepted+p.accepted, took+p.took, p.record
		}
	}
	if s.mean == 0 || rows == 0 {
		return
	}
	b := float64(s.b)
	s.ledger(by).add(min((t+took).Seconds()/s.mean-1, float64(rows)/b+mostTimes), float64(accepted)/b)
}

// timing is a running estimate of a duration in seconds.
type timing struct {
	seconds float64
	n       int // measurements
	round   int // of the latest
}

// add takes in a measurement. Interruptions and first uses of memory make times longer, nothing makes them shorter, so a short time
// counts for more, and of the first few only the shortest counts.
func (t *timing) add(seconds float64, round int) {
	switch {
	case t.n == 0 || t.n < warmRounds && seconds < t.seconds:
		t.seconds = seconds
	case t.n < warmRounds:
	case seconds < t.seconds:
		t.seconds += 0.3 * (seconds - t.seconds)
	default:
		t.seconds += 0.1 * (min(seconds, 2*t.seconds) - t.seconds)
	}
	t.n++
	t.round = round
}

// measured takes in the time of a step of so many more rows than sequences. Where it is news, the machine has become slower or faster, for other
// steps too: what was measured before keeps its proportions. More rows never take less time.
func (s *steps) measured(rows int, seconds float64) {
	x := &s.times[rows]
	before, known := x.seconds, x.n >= warmRounds
	x.add(seconds, s.round)
	for i := range s.times {
		y := &s.times[i]
		if known && i != rows {
			y.seconds *= x.seconds / before
		}
		if i < rows {
			y.seconds = min(y.seconds, x.seconds)
		} else if y.n > 0 && x.n >= trusted {
			y.seconds = max(y.seconds, x.seconds)
		}
	}
}

// time returns the expected time of a step with rows proposed tokens: measured, or on the line through the nearest that were. A time measured
// once may be that of an interruption, which would keep its number of rows from ever being tried again: it counts only where it is
// shorter than what the others let expect.
func (s *steps) time(rows int) float64 {
	known := func(i int) bool { return i == 0 || s.times[i].n >= trusted }
	lo := min(rows, len(s.times)-1)
	for ; !known(lo); lo-- { // plain steps have always been measured
	}
	hi := rows
	for hi < len(s.times) && !known(hi) {
		hi++
	}
	if lo == rows {
		return s.fading(rows)
	}
	t := s.times[lo].seconds
	switch {
	case hi < len(s.times):
		t += max(0, s.times[hi].seconds-t) * float64(rows-lo) / float64(hi-lo)
	case lo > 0: // a row costs no more than its share of a step that is bound by arithmetic
		t += min(max(0, t-s.times[0].seconds)/float64(lo), s.times[0].seconds/float64(s.b)) * float64(rows-lo)
	default:
		t = s.hoped(rows)
	}
	if rows < len(s.times) && s.times[rows].n > 0 {
		t = min(t, s.times[rows].seconds)
	}
	return t
}

// hoped returns the time of a step with rows proposed tokens before it was measured: that of a step of more sequences with as many rows together,
// where one was, for the weights are most of a step. Else a row of few sequences is held to be cheap, so that it is tried, and one of many, whose steps
// are bound by arithmetic, to cost its share.
func (s *steps) hoped(rows int) float64 {
	plain := s.times[0].seconds
	for more := 1; more <= rows; more++ {
		o := s.all[s.b+more]
		if o == nil || rows-more >= len(o.times) {
			continue
		}
		if t := o.times[rows-more]; t.n >= trusted {
			return max(plain, t.seconds)
		}
	}
	return plain * (1 + min(rowGuess*float64(s.b), 1/float64(s.b))*float64(rows))
}

// fading returns a measured time. One that is out of date moves towards what is hoped, so that what was far too slow is tried again later than
// what was nearly fast enough.
func (s *steps) fading(rows int) float64 {
	t, age := s.times[rows].seconds, s.round-s.times[rows].round
	if rows > 0 && age > outdated {
		hoped := s.hoped(rows)
		t = hoped + max(0, t-hoped)*outdated/float64(age)
	}
	return t
}

// StepTimes returns the measured times in seconds of steps of so many sequences together, by the number of proposed tokens in them; 0
// where none was measured.
func (e *Engine) StepTimes(sequences int) []float64 {
	e.costs.mu.Lock()
	defer e.costs.mu.Unlock()
	var times []float64
	for _, t := range e.costs.of(sequences).times {
		times = append(times, t.seconds)
	}
	return times
}
