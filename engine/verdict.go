package engine

import (
	"cmp"
	"fmt"
	"slices"
)

// Verdict is what an engine holds of one source of proposals for sequences alone, by what it has measured: the number of tokens to propose, and
// why. Times are in plain steps.
type Verdict struct {
	Source     string    // "draft", "n-grams of 3 to 4 tokens", "corpus of 2 tokens", …
	Depth      int       // tokens that promise the most tokens a second; 0: no number promises more than plain decoding
	Gain       float64   // tokens a second, over plain decoding, of Depth tokens, or where that is 0 of the best other number
	Tried      int       // that number: what Step, Guess and Acceptance are of
	Step       float64   // time of a step that judges so many tokens
	Guess      float64   // time of proposing them
	Acceptance []float64 // of the token at each position, given those before it
	Judged     float64   // proposals judged, of late
}

// Verdicts returns what the engine holds of the sources of a request, those that have been judged, kind by kind, the most judged first.
func (e *Engine) Verdicts(r *Request) []Verdict {
	c := e.costs
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.of(1)
	if s.times[0].n < warmRounds {
		return nil
	}
	var all []Verdict
	for _, from := range []struct {
		asked       bool
		first, last source
	}{{r.NGram, fromText, fromCorpus - 1}, {r.Corpus != nil, fromCorpus, sources - 1}, {r.Draft != nil, fromModel, fromModel}} {
		start := len(all)
		for k := from.first; from.asked && k <= from.last; k++ {
			key := sourceKey{source: k, sampled: !r.Sampling.Greedy()}
			if k == fromModel {
				key.draft = r.Draft
			}
			if rec := c.records[key]; rec != nil && rec.weight() > 0 {
				all = append(all, s.verdict(k, rec, r.Speculate, c.unit()))
			}
		}
		slices.SortStableFunc(all[start:], func(a, b Verdict) int { return cmp.Compare(b.Judged, a.Judged) })
	}
	return all
}

// verdict judges a source that may propose most tokens.
func (s *steps) verdict(from source, r *record, most int, unit float64) Verdict {
	plain := s.times[0].seconds
	o := offer{source: from, record: r, seen: new(tally), most: most, token: r.token.seconds * unit}
	k, rate := s.best(&o, 1)
	v := Verdict{Source: from.String(), Tried: k, Gain: rate * plain, Judged: r.weight()}
	v.Step, v.Guess = s.time(k)/plain, float64(k)*o.token/plain
	if v.Gain > margin {
		v.Depth = k
	}
	if l := s.ledger(r); l.loses() {
		v.Depth, v.Gain = 0, l.gain()
	}
	accept, reach := r.first, 1.0
	for i := range k {
		before := reach
		if reach, accept = o.reach(i, reach, accept); before > 0 {
			v.Acceptance = append(v.Acceptance, reach/before)
		}
	}
	return v
}

func (s source) String() string {
	lengths := [matchLengths]string{"2", "3 to 4", "5 to 8", "9 to 16", "more than 16"}
	switch {
	case s == fromModel:
		return "draft"
	case s >= fromCorpus:
		return fmt.Sprintf("corpus, matches of %s tokens", lengths[s.class()])
	}
	return fmt.Sprintf("n-grams, matches of %s tokens", lengths[s.class()])
}

// String says in a sentence which number of tokens is chosen and why.
func (v Verdict) String() string {
	first := 0.0
	if len(v.Acceptance) > 0 {
		first = v.Acceptance[0]
	}
	why := fmt.Sprintf("%s: %.0f %% of first guesses are right, a step that judges %d takes %.2f of a plain one", v.Source, 100*first, v.Tried, v.Step)
	if v.Guess > 0 {
		why += fmt.Sprintf(", guessing %.2f", v.Guess)
	}
	if v.Depth > 0 {
		return fmt.Sprintf("%s: %d, for %.2f times plain speed", why, v.Depth, v.Gain)
	}
	return fmt.Sprintf("%s: 0, since that makes %.2f times plain speed", why, v.Gain)
}
