package engine

// automaton is the suffix automaton of a sequence of tokens, grown token by token (Blumer et al. 1985): the smallest machine that
// reads every string of the sequence and no other. A state stands for strings that occur at the same places; its link is the state of
// their longest suffix that occurs at other places too. It takes at most two states and three edges a token, and constant time on average.
type automaton struct {
	states []suffixState
	edges  []suffixEdge
	index  map[uint64]int32 // (state, token) to an edge
	last   int32            // the state of the whole sequence
	seen   int              // tokens taken in
}

type suffixState struct {
	length int32 // of the longest of its strings
	link   int32 // -1: the first state, that of the empty string
	end    int32 // the position behind an occurrence
	edges  int32 // the first of a list; -1: none
}

type suffixEdge struct{ token, to, next int32 }

// freshest bounds the suffixes whose latest occurrence is noted with each token, longest first: where a short period goes on for long,
// all of them would be as many as there are tokens.
const freshest = 32

func newAutomaton() *automaton {
	return &automaton{states: []suffixState{{link: -1, edges: -1}}, index: map[uint64]int32{}}
}

// edge returns the edge from a state with a token, or -1.
func (a *automaton) edge(state, token int32) int32 {
	if e, ok := a.index[edgeKey(state, token)]; ok {
		return e
	}
	return -1
}

func edgeKey(state, token int32) uint64 { return uint64(state)<<32 | uint64(uint32(token)) }

func (a *automaton) connect(from, token, to int32) {
	e := int32(len(a.edges))
	a.edges = append(a.edges, suffixEdge{token, to, a.states[from].edges})
	a.states[from].edges = e
	a.index[edgeKey(from, token)] = e
}

func (a *automaton) state(s suffixState) int32 {
	a.states = append(a.states, s)
	return int32(len(a.states) - 1)
}

// extend takes in the next token.
func (a *automaton) extend(token int32) {
	for s, n := a.states[a.last].link, 0; s > 0 && n < freshest; s, n = a.states[s].link, n+1 {
		a.states[s].end = int32(a.seen) // until now they told of an earlier place, which is what match asks for
	}
	a.seen++
	whole := a.state(suffixState{length: int32(a.seen), end: int32(a.seen), edges: -1})
	s := a.last
	a.last = whole
	for ; s >= 0 && a.edge(s, token) < 0; s = a.states[s].link {
		a.connect(s, token, whole)
	}
	if s < 0 {
		return // the token is new
	}
	to := a.edges[a.edge(s, token)].to
	if a.states[s].length+1 < a.states[to].length {
		to = a.split(s, token, to)
	}
	a.states[whole].link = to
}

// split takes from the state to its strings that are at most one token longer than those of s, which now occur at the end too, and
// returns their new state.
func (a *automaton) split(s, token, to int32) int32 {
	was := a.states[to]
	short := a.state(suffixState{length: a.states[s].length + 1, link: was.link, end: was.end, edges: -1})
	for e := was.edges; e >= 0; e = a.edges[e].next {
		a.connect(short, a.edges[e].token, a.edges[e].to)
	}
	for ; s >= 0; s = a.states[s].link {
		e := a.edge(s, token)
		if e < 0 || a.edges[e].to != to {
			break
		}
		a.edges[e].to = short
	}
	a.states[to].link = short
	return short
}

// match takes in the tokens that are new and returns the length of the longest suffix of tokens that occurs earlier in them, and the
// position behind such an occurrence: the latest, unless more than freshest suffixes repeat.
func (a *automaton) match(tokens []int32) (at, length int) {
	for _, x := range tokens[a.seen:] {
		a.extend(x)
	}
	s := a.states[a.last].link
	if s <= 0 {
		return 0, 0
	}
	return int(a.states[s].end), int(a.states[s].length)
}

// propose appends to dst the k tokens from position at on. Where the tokens end the proposal goes on with itself: the match is a period.
func propose(dst, tokens []int32, at, k int) []int32 {
	base := len(dst)
	for i := range k {
		if at+i < len(tokens) {
			dst = append(dst, tokens[at+i])
		} else {
			dst = append(dst, dst[base+at+i-len(tokens)])
		}
	}
	return dst
}
