package engine

// Corpus is a text whose continuations requests guess from. It serves any number of them at once.
type Corpus struct {
	automaton
	best []int32 // of each state, the edge that the text takes most often; -1: it has none
}

// NewCorpus returns the corpus of a text's tokens.
func NewCorpus(tokens []int32) *Corpus {
	c := &Corpus{automaton: *newAutomaton()}
	for _, x := range tokens {
		c.extend(x)
	}
	times := c.occurrences(tokens)
	c.best = make([]int32, len(c.states))
	for s := range c.states {
		c.best[s] = -1
		for e := c.states[s].edges; e >= 0; e = c.edges[e].next {
			if b := c.best[s]; b < 0 || times[c.edges[e].to] >= times[c.edges[b].to] { // of equals the one that came first, which stands last
				c.best[s] = e
			}
		}
	}
	return c
}

// occurrences returns how often the strings of each state occur: that is the number of the text's prefixes that end with them.
func (c *Corpus) occurrences(tokens []int32) []int32 {
	times := make([]int32, len(c.states))
	s := int32(0)
	for _, x := range tokens {
		s = c.edges[c.edge(s, x)].to
		times[s] = 1 // a prefix is the longest string of its state
	}
	byLength := make([][]int32, len(tokens)+1)
	for s := range c.states {
		n := c.states[s].length
		byLength[n] = append(byLength[n], int32(s))
	}
	for n := len(tokens); n > 0; n-- {
		for _, s := range byLength[n] {
			times[c.states[s].link] += times[s]
		}
	}
	return times
}

// place is where a sequence is in a corpus: the state of its longest suffix that occurs there, and that suffix's length.
type place struct{ state, length int32 }

// follow returns the place after one more token.
func (c *Corpus) follow(p place, token int32) place {
	for p.state > 0 && c.edge(p.state, token) < 0 {
		p.state = c.states[p.state].link
		p.length = c.states[p.state].length
	}
	if e := c.edge(p.state, token); e >= 0 {
		return place{c.edges[e].to, p.length + 1}
	}
	return place{}
}

// propose appends to dst k tokens, each the most frequent one behind the place and those before it.
func (c *Corpus) propose(dst []int32, p place, k int) []int32 {
	for range k {
		for p.state > 0 && c.best[p.state] < 0 { // the end of the text
			p.state = c.states[p.state].link
		}
		if p.state == 0 {
			return dst
		}
		e := c.edges[c.best[p.state]]
		dst = append(dst, e.token)
		p.state = e.to
	}
	return dst
}

// reader follows one sequence through a corpus.
type reader struct {
	corpus *Corpus
	at     place
	seen   int
}

// match takes in the tokens that are new and returns how many of the last ones occur in the corpus.
func (r *reader) match(tokens []int32) int {
	for _, x := range tokens[r.seen:] {
		r.at = r.corpus.follow(r.at, x)
	}
	r.seen = len(tokens)
	return int(r.at.length)
}
