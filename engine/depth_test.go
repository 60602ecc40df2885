package engine

import (
	"math/rand/v2"
	"testing"
	"time"
)

// machine is a made-up machine in whose time a step of b sequences with rows proposed tokens takes step(b, rows), a plain one of one
// sequence 1. What is measured there is longer by up to a twentieth, and, as often as hiccups says, up to nine times as long.
type machine struct {
	costs    *costs
	step     func(b, rows int) float64
	hiccups  float64
	rng      *rand.Rand
	now      float64 // time since the beginning
	tokens   int
	proposed int
	branched int
	fickle   bool    // its speed changes now and then
	slow     float64 // what is measured takes so many times as long
}

func newMachine(step func(b, rows int) float64, hiccups float64, stream uint64) *machine {
	return &machine{costs: newCosts(), step: step, hiccups: hiccups, rng: rand.New(rand.NewPCG(*seed, stream))}
}

// takes lets time pass and returns what is measured of it.
func (m *machine) takes(t float64) time.Duration {
	m.now += t
	t *= 1 + 0.05*m.rng.Float64()
	if m.fickle && m.rng.IntN(60) == 0 {
		m.slow = 1 + 3*m.rng.Float64()
	}
	t *= max(1, m.slow)
	if m.rng.Float64() < m.hiccups {
		t *= 1 + 8*m.rng.Float64()
	}
	return time.Duration(t * float64(10*time.Millisecond))
}

// linear is a machine on which a row costs row of a plain step.
func linear(row float64) func(b, rows int) float64 {
	return func(b, rows int) float64 { return 1 + row*float64(b+rows-1) }
}

// guesser is a source in the made-up world: a token costs token, one that it has to see first catchUp.
type guesser struct {
	source                 source
	token, catchUp, accept float64
	second                 float64 // how often its second candidate is right where the first is not
}

// sequence is a request there: at each step some of the guessers have something to say.
type sequence struct {
	guessers []guesser
	says     func() []bool // nil: all always
	seen     [sources]tally
	behind   int
	made     int
}

// run runs steps of the sequences together and returns tokens a unit of time of each, and the mean number of tokens proposed for it.
func (m *machine) run(n, most int, sequences ...*sequence) (rate float64, depths []float64) {
	tokens, start := m.tokens, m.now
	depths = make([]float64, len(sequences))
	plan, offers := make([]choice, len(sequences)), make([][]offer, len(sequences))
	for range n {
		from := make([][]guesser, len(sequences))
		for i, s := range sequences {
			says := make([]bool, len(s.guessers))
			for j := range says {
				says[j] = true
			}
			if s.says != nil {
				says = s.says()
			}
			offers[i] = nil
			for j, g := range s.guessers {
				if says[j] {
					o := offer{source: g.source, record: m.costs.record(sourceKey{source: g.source}), seen: &s.seen[g.source], most: most, made: s.made, branches: g.second > 0}
					if g.catchUp > 0 && s.behind > maxLag {
						o.behind = s.behind
					}
					offers[i], from[i] = append(offers[i], o), append(from[i], g)
				}
			}
		}
		m.costs.plan(plan, offers)
		rows, yield, branches := 0, 0, 0
		var settled []proposal
		for i, c := range plan {
			rows += c.k
			depths[i] += float64(c.k) / float64(n)
		}
		for i, s := range sequences {
			c, got := plan[i], 0
			if c.k > 0 {
				o, g := offers[i][c.i], from[i][c.i]
				propose, late := m.takes(g.token*float64(c.k)), m.takes(g.catchUp*float64(o.behind))
				if g.token > 0 {
					m.costs.proposed(o.record, c.k, propose, o.behind, late, false)
				}
				for got < c.k && m.rng.Float64() < g.accept {
					got++
				}
				m.costs.judged(o.record, o.seen, c.k, got)
				settled = append(settled, proposal{o.record, c.k, got, propose})
				if c.branch {
					branches++
				}
				if c.branch && got == 0 {
					right := m.rng.Float64() < g.second
					if m.costs.judgedSecond(o.record, right); right {
						m.tokens++
						yield++
					}
				}
				if g.catchUp > 0 {
					s.behind = -got - 1
				}
			}
			s.behind += got + 1
			m.tokens += got + 1
			s.made += got + 1
			yield += got + 1
		}
		m.proposed += rows
		m.branched += branches
		took := m.takes(m.step(len(sequences), rows+branches))
		m.costs.stepped(len(sequences), rows+branches, branches, yield, took, settled...)
	}
	return float64(m.tokens-tokens) / (m.now - start) / float64(len(sequences)), depths
}

func TestDepthFollowsCost(t *testing.T) {
	for _, c := range []struct {
		name                                 string
		row, draft, catchUp, accept, hiccups float64
		rate                                 float64 // at least; the best that can be had is 1, 1, 1, 1, 1, 4.05, 4.05 and 1.51
		least, most                          float64 // mean depth
	}{
		{"useless draft", 0.2, 0.1, 0.01, 0.02, 0, 0.98, 0, 0.1},
		{"useless draft, hiccups", 0.2, 0.1, 0.01, 0.02, 0.05, 0.97, 0, 0.1},
		{"good but dear draft", 0.5, 1, 0.1, 0.8, 0, 0.97, 0, 0.2},
		{"rows as dear as rounds", 1, 0, 0, 0.9, 0, 0.97, 0, 0.3},
		{"useless, dear to feed", 0.1, 0.2, 0.2, 0, 0, 0.98, 0, 0.1},
		{"good and cheap", 0.05, 0.02, 0.002, 0.9, 0, 3.5, 6, 12},
		{"good and cheap, hiccups", 0.05, 0.02, 0.002, 0.9, 0.05, 3.2, 6, 12},
		{"fair and cheap", 0.1, 0.05, 0.005, 0.6, 0, 1.4, 1, 5},
	} {
		m := newMachine(linear(c.row), c.hiccups, 7)
		rate, depth := m.run(1000, 12, &sequence{guessers: []guesser{{fromModel, c.draft, c.catchUp, c.accept, 0}}})
		if rate < c.rate || depth[0] < c.least || depth[0] > c.most {
			t.Errorf("%s: %.3f times plain decoding with mean depth %.2f", c.name, rate, depth[0])
		}
	}
}

// TestWorstCase has no source that is ever right, in short requests one after another.
func TestWorstCase(t *testing.T) {
	for _, row := range []float64{0.04, 0.2, 0.5} {
		m := newMachine(linear(row), 0.01, 14)
		for request := range 20 {
			var all []guesser
			for c := range source(matchLengths) {
				all = append(all, guesser{source: fromText + c}, guesser{source: fromCorpus + c})
			}
			s := &sequence{guessers: append(all, guesser{fromModel, 0.2, 0.02, 0, 0})}
			s.says = func() []bool {
				says := make([]bool, len(s.guessers))
				says[m.rng.IntN(len(all))] = true
				says[len(all)] = true
				return says
			}
			m.run(100, 16, s)
			least := 0.97
			if request < 4 { // eleven sources are tried in the first few hundred tokens
				least = 0.92
			}
			if rate := float64(m.tokens) / m.now; rate < least {
				t.Errorf("rows that cost %g, after %d requests: %.3f times plain decoding", row, request+1, rate)
			}
		}
	}
}

// TestDepthRecovers gives a draft that becomes useful after it was given up.
func TestDepthRecovers(t *testing.T) {
	m := newMachine(linear(0.1), 0, 8)
	s := &sequence{guessers: []guesser{{fromModel, 0.05, 0.002, 0, 0}}}
	m.run(300, 8, s)
	s.guessers[0].accept = 0.9
	if _, depth := m.run(2000, 8, s); depth[0] < 2 {
		t.Errorf("mean depth %.2f after recovery", depth[0])
	}
}

// TestDraftResumes gives a good draft nothing to say for a few hundred tokens, which it has to see first when it speaks again: a cost that is paid
// once and that the answer to come is worth.
func TestDraftResumes(t *testing.T) {
	m := newMachine(linear(0.1), 0, 20)
	silent := false
	s := &sequence{guessers: []guesser{{fromModel, 0.2, 0.1, 0.7, 0}}, says: func() []bool { return []bool{!silent} }}
	m.run(200, 8, s) // learn
	silent = true
	m.run(200, 8, s)
	silent = false
	if rate, depth := m.run(200, 8, s); rate < 1.05 || depth[0] < 0.5 {
		t.Errorf("%.2f times plain decoding, mean depth %.2f", rate, depth[0])
	}
}

// TestBestSource has two sources, each better in its turn.
func TestBestSource(t *testing.T) {
	m := newMachine(linear(0.05), 0, 15)
	s := &sequence{guessers: []guesser{{fromText + 3, 0, 0, 0.95, 0}, {fromModel, 0.1, 0.001, 0.95, 0}}}
	turn := 0
	s.says = func() []bool { turn++; return []bool{turn%40 < 20, true} }
	m.run(400, 16, s)
	text, draft := m.costs.record(sourceKey{source: fromText + 3}), m.costs.record(sourceKey{source: fromModel})
	if text.tried[0] < 10 || draft.tried[0] < 10 {
		t.Errorf("the text was asked %.0f times of late, the draft %.0f times", text.tried[0], draft.tried[0])
	}
	s.guessers[0].accept, s.says = 0.1, nil // what stands in the text is now misleading
	if _, depth := m.run(200, 16, s); depth[0] < 2 || text.at(0, 0, 0) > 0.7 {
		t.Errorf("mean depth %.2f, acceptance of the text's first token %.2f", depth[0], text.at(0, 0, 0))
	}
}

// TestLearning runs a second request on the engine of the first.
func TestLearning(t *testing.T) {
	m := newMachine(linear(0.05), 0, 16)
	good := []guesser{{fromModel, 0.02, 0.002, 0.95, 0}}
	m.run(200, 12, &sequence{guessers: good})
	if _, depth := m.run(1, 12, &sequence{guessers: good}); depth[0] < 6 {
		t.Errorf("the first round of a second request proposes %g tokens", depth[0])
	}
}

// TestBatchDepth: on a machine that reads weights for up to 8 rows and computes from there on, many sequences leave no room for guesses,
// and of a few the one that repeats itself gets it.
func TestBatchDepth(t *testing.T) {
	roof := func(b, rows int) float64 { return max(1, float64(b+rows)/8) }
	repeat := func(accept float64) *sequence { return &sequence{guessers: []guesser{{fromText + 2, 0, 0, accept, 0}}} }
	m := newMachine(roof, 0, 17)
	rate, depth := m.run(500, 16, repeat(0.9), repeat(0.02), repeat(0.02), repeat(0.02))
	if rate < 1.3 || depth[0] < 2 || depth[0] > 8 || depth[1] > 0.2 {
		t.Errorf("four sequences: %.2f times plain decoding, depths %.2f", rate, depth)
	}
	var many []*sequence
	for range 16 {
		many = append(many, repeat(0.5))
	}
	if rate, depth = m.run(500, 16, many...); rate < 0.5*0.985 || depth[0] > 0.2 { // plain decoding of 16 yields one half each
		t.Errorf("sixteen sequences: %.3f, depths %.2f", rate, depth)
	}
}

// TestShortBatch: eight sequences that hold a few hundred tokens in all, two sources with little to give and a ninth row that takes a third of a step, as
// kernels of eight rows a pass make it. There is no time to learn in, and nothing is to be lost by it either.
func TestShortBatch(t *testing.T) {
	passes := func(b, rows int) float64 { return 1 + 0.25*float64((b+rows-1)/8) + 0.04*float64(b+rows-1) }
	const runs = 60
	mean, worst := 0.0, 1.0
	for stream := range uint64(runs) {
		m := newMachine(passes, 0.01, 50+stream)
		one := func() *sequence {
			s := &sequence{behind: 60}
			for c := range source(matchLengths) {
				s.guessers = append(s.guessers, guesser{source: fromText + c, accept: 0.6})
			}
			s.guessers = append(s.guessers, guesser{fromModel, 0.15, 0.01, 0.25, 0})
			s.says = func() []bool {
				says := make([]bool, len(s.guessers))
				if says[len(says)-1] = true; m.rng.Float64() < 0.3 {
					says[m.rng.IntN(matchLengths)] = true
				}
				return says
			}
			return s
		}
		plain := 0.0
		for range 2 {
			var all []*sequence
			for range 8 {
				all = append(all, one())
			}
			for n := 8; n > 0; n-- { // they end one after another
				rounds := 10
				if n == 8 {
					rounds = 90
				}
				before := m.tokens
				m.run(rounds, 8, all[:n]...)
				plain += float64(m.tokens-before) / float64(n) * passes(n, 0)
			}
		}
		mean += plain / m.now / runs
		worst = min(worst, plain/m.now)
	}
	t.Logf("%.3f times plain decoding on average, at worst %.3f", mean, worst)
	if mean < 0.985 || worst < 0.93 {
		t.Errorf("%.3f times plain decoding on average, at worst %.3f", mean, worst)
	}
}

// TestBranches: a second candidate is asked for where it is often right and rows cost little, and only there.
func TestBranches(t *testing.T) {
	for _, c := range []struct {
		row, accept, second float64
		want                bool
	}{{0.02, 0.4, 0.6, true}, {0.3, 0.5, 0.3, false}, {0.02, 0.98, 0.5, false}, {0.05, 0.5, 0.001, false}} {
		m := newMachine(linear(c.row), 0, 18)
		s := &sequence{guessers: []guesser{{fromModel, 0.02, 0.001, c.accept, c.second}}}
		m.run(300, 8, s) // learn
		m.branched = 0
		if m.run(200, 8, s); (m.branched > 100) != c.want {
			t.Errorf("%+v: %d branches in 200 rounds", c, m.branched)
		}
	}
}

// TestFickleMachine: on a machine whose speed changes by a factor of up to four every few dozen rounds, a useless draft costs little, and a good
// one is used.
func TestFickleMachine(t *testing.T) {
	for stream := range uint64(5) {
		for _, c := range []struct{ accept, rate float64 }{{0.02, 0.96}, {0.9, 2.5}} {
			m := newMachine(linear(0.05), 0.01, 30+stream)
			m.fickle = true
			for range 10 {
				m.run(200, 12, &sequence{guessers: []guesser{{fromModel, 0.2 * (1 - c.accept), 0.01, c.accept, 0.2}}})
			}
			if rate := float64(m.tokens) / m.now; rate < c.rate {
				t.Errorf("acceptance %g: %.3f times plain decoding", c.accept, rate)
			}
		}
	}
}

// TestPlansThatFail: steps that judge guesses are fast at their best, which is what plans are made of, and every third is slow. Alone and together,
// guesses that are right too seldom for that are given up, and those that are not go on.
func TestPlansThatFail(t *testing.T) {
	for _, c := range []struct {
		accept, rate float64
		sequences    int
	}{{0.35, 0.97, 1}, {0.9, 1.6, 1}, {0.35, 0.96, 3}, {0.9, 1.6, 3}} {
		var m *machine
		m = newMachine(func(_, rows int) float64 {
			if rows > 0 && m.rng.IntN(3) == 0 {
				return 2.2
			}
			return 1 + 0.01*float64(rows)
		}, 0, 19)
		var all []*sequence
		for range c.sequences {
			all = append(all, &sequence{guessers: []guesser{{fromModel, 0.05, 0.001, c.accept, 0}}})
		}
		if rate, depths := m.run(3000, 8, all...); rate < c.rate {
			t.Errorf("%d sequences, acceptance %g: %.3f times plain decoding, depths %.2f", c.sequences, c.accept, rate, depths)
		}
	}
}

// TestInterruptedStep: a time that was measured once, and is too long to be true, does not keep its number of rows from being tried again; measured
// again it does.
func TestInterruptedStep(t *testing.T) {
	c := newCosts()
	step := func(rows int, ms float64) { c.stepped(1, rows, 0, 1+rows, time.Duration(ms*float64(time.Millisecond))) }
	for range warmRounds {
		step(0, 10)
	}
	step(1, 11)
	step(1, 11)
	step(3, 40)
	if got := c.of(1).time(3); got > 0.014 {
		t.Errorf("after one long step of 3 more rows it is held to take %g s, want what the others let expect, 0.013 s", got)
	}
	step(3, 40)
	if got := c.of(1).time(3); got < 0.039 {
		t.Errorf("after two long steps of 3 more rows they are held to take %g s, want 0.04 s", got)
	}
}
