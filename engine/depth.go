package engine

import "time"

const (
	warmRounds  = 3    // plain rounds before the first proposal: they measure what plain decoding costs
	remeasure   = 128  // rounds after which a measured time is out of date
	firstWait   = 16   // plain rounds before a source that did not pay is tried again; doubles with each trial
	longestWait = 1024 //
	probeDepth  = 2    // tokens of such a trial
	margin      = 1.02 // a depth must promise this much over plain decoding
	forget      = 0.97 // weight of the acceptance seen a round earlier
	prior       = 0.6  // acceptance of what has not been tried, with the weight of one round
)

// depth chooses how many tokens a round proposes: the number k that maximises expected tokens a second, E(k) / (T(k+1) + k·draft),
// where E(k) = 1 + Σ_{j≤k} Π_{i≤j} a_i with a_i the acceptance of token i given those before it, and T(n) the measured time of a
// round of n rows. Depths that were not tried are judged by their neighbours, and the depth at most doubles, so growing is cheap.
type depth struct {
	max     int
	fixed   bool
	round   int
	times   []timing // of rounds with n rows
	sources [sources]sourceDepth
}

// timing is a running estimate of a duration in seconds.
type timing struct {
	seconds float64
	n       int // measurements
	round   int // of the latest
}

// sourceDepth is what is known of one source.
type sourceDepth struct {
	tried, hits []float64 // at each position, the past fading
	draft       timing    // of one token
	deepest     int
	idle, wait  int // plain rounds since the last trial, and the number of them until the next
}

func newDepth(most int, fixed bool) *depth {
	d := &depth{max: most, fixed: fixed, times: make([]timing, most+2)}
	for i := range d.sources {
		d.sources[i] = sourceDepth{tried: make([]float64, most), hits: make([]float64, most), deepest: 1, wait: firstWait}
	}
	return d
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

// verified takes in the time of the target's part of a round with n rows.
func (d *depth) verified(n int, t time.Duration) {
	d.round++
	d.times[n].add(t.Seconds(), d.round)
}

// drafted takes in the time in which a source proposed k tokens.
func (d *depth) drafted(s source, k int, t time.Duration) {
	d.sources[s].draft.add(t.Seconds()/float64(k), d.round)
}

// accepted takes in how many of k proposed tokens were accepted.
func (d *depth) accepted(s source, k, accepted int) {
	x := &d.sources[s]
	x.deepest = max(x.deepest, k)
	for i := range x.tried {
		x.tried[i] *= forget
		x.hits[i] *= forget
	}
	for i := range min(k, accepted+1) {
		x.tried[i]++
		if i < accepted {
			x.hits[i]++
		}
	}
}

// choose returns the number of tokens that a source is to propose, at most most.
func (d *depth) choose(s source, most int) int {
	most = min(most, d.max)
	if most <= 0 {
		return 0
	}
	if d.fixed {
		return most
	}
	if d.round < warmRounds || d.round-d.times[1].round >= remeasure {
		return 0
	}
	x := &d.sources[s]
	best, rate := d.best(x, min(most, 2*x.deepest))
	if rate*d.times[1].seconds > margin {
		x.idle, x.wait = 0, firstWait
		return best
	}
	if x.idle++; x.idle > x.wait {
		x.idle, x.wait = 0, min(2*x.wait, longestWait)
		return min(best, probeDepth)
	}
	return 0
}

// best returns the depth from 1 to most with the highest expected rate in tokens a second.
func (d *depth) best(x *sourceDepth, most int) (best int, rate float64) {
	expected, reach, accept := 1.0, 1.0, prior
	for k := 1; k <= most; k++ {
		accept = (x.hits[k-1] + accept) / (x.tried[k-1] + 1)
		reach *= accept
		expected += reach
		if r := expected / (d.time(k+1) + float64(k)*x.draft.seconds); r > rate {
			best, rate = k, r
		}
	}
	return best, rate
}

// time returns the expected time of a round with n rows: measured lately, or on the line through the nearest that were.
func (d *depth) time(n int) float64 {
	known := func(i int) bool {
		return d.times[i].n > 0 && (i == 1 || d.round-d.times[i].round < remeasure)
	}
	lo, hi := n, n
	for ; !known(lo); lo-- { // a round of one row has been measured always
	}
	for hi < len(d.times) && !known(hi) {
		hi++
	}
	switch t := d.times[lo].seconds; {
	case lo == n:
		return t
	case hi < len(d.times):
		return t + (d.times[hi].seconds-t)*float64(n-lo)/float64(hi-lo)
	case lo > 1:
		return t + (t-d.times[1].seconds)*float64(n-lo)/float64(lo-1)
	default:
		return t
	}
}
