package sample

import (
	"fmt"
	"maps"
	"math"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// Pattern is a regular expression (Go's syntax) that a whole output has to match: at each token only those are allowed with which it can
// still do so. It serves any number of requests at once.
//
// It is a machine over tokens, built as outputs reach its states: a state is the set of places in the expression's program where the text so
// far can be, and knows which tokens lead on. Tokens that are not whole characters, and those without text, are never allowed.
type Pattern struct {
	prog  *syntax.Prog
	texts []string // of the tokens
	order []int32  // tokens that have a text, in its order: neighbours share their beginnings
	stop  []int32  // tokens that end the output
	start *patternState
	mu    sync.Mutex
	known map[string]*patternState
}

// patternState is a state of the machine.
type patternState struct {
	places  []uint32
	whole   bool     // the output may end here
	allowed []uint64 // a bit a token; nil: not known yet
	byRune  map[rune]*patternState
}

func (s *patternState) dead() bool { return len(s.places) == 0 }

// NewPattern compiles an expression for a vocabulary: texts[id] is what token id adds to a text. The tokens stop end an output that matches.
func NewPattern(expression string, texts []string, stop []int32) (*Pattern, error) {
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expression, err)
	}
	p := &Pattern{texts: texts, stop: stop, known: map[string]*patternState{}}
	if p.prog, err = syntax.Compile(parsed.Simplify()); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expression, err)
	}
	for _, i := range p.prog.Inst {
		if i.Op == syntax.InstEmptyWidth && syntax.EmptyOp(i.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
			return nil, fmt.Errorf("pattern %q: word boundaries and line ends cannot be held to token by token", expression)
		}
	}
	if len(stop) == 0 {
		return nil, fmt.Errorf("pattern %q: no token ends the output, so that none could", expression)
	}
	for id, text := range texts {
		if text != "" && utf8.ValidString(text) && !slices.Contains(stop, int32(id)) {
			p.order = append(p.order, int32(id))
		}
	}
	slices.SortStableFunc(p.order, func(a, b int32) int { return strings.Compare(texts[a], texts[b]) })
	begin := newPlaces()
	p.reach(begin, uint32(p.prog.Start), syntax.EmptyBeginText)
	p.start = p.stateOf(begin.sorted())
	return p, nil
}

// places is a set of places in the program, and those seen on the way there.
type places struct{ at, seen map[uint32]bool }

func newPlaces() places { return places{map[uint32]bool{}, map[uint32]bool{}} }

func (p places) sorted() []uint32 { return slices.Sorted(maps.Keys(p.at)) }

// reach adds the places from which a character is read next, starting at pc, where the conditions hold. That the text has to end is a
// place of its own, on which stateOf decides.
func (p *Pattern) reach(to places, pc uint32, hold syntax.EmptyOp) {
	if to.seen[pc] {
		return
	}
	to.seen[pc] = true
	i := &p.prog.Inst[pc]
	switch i.Op {
	case syntax.InstAlt, syntax.InstAltMatch:
		p.reach(to, i.Out, hold)
		p.reach(to, i.Arg, hold)
	case syntax.InstCapture, syntax.InstNop:
		p.reach(to, i.Out, hold)
	case syntax.InstEmptyWidth:
		if need := syntax.EmptyOp(i.Arg) &^ hold; need == 0 {
			p.reach(to, i.Out, hold)
		} else if need == syntax.EmptyEndText {
			to.at[pc] = true
		}
	case syntax.InstFail:
	default:
		to.at[pc] = true
	}
}

// step returns the state after a character.
func (p *Pattern) step(s *patternState, r rune) *patternState {
	if next := s.byRune[r]; next != nil {
		return next
	}
	next := newPlaces()
	for _, pc := range s.places {
		i := &p.prog.Inst[pc]
		if i.Op != syntax.InstMatch && i.Op != syntax.InstEmptyWidth && i.MatchRune(r) {
			p.reach(next, i.Out, 0)
		}
	}
	s.byRune[r] = p.stateOf(next.sorted())
	return s.byRune[r]
}

// stateOf returns the state of a set of places.
func (p *Pattern) stateOf(at []uint32) *patternState {
	key := fmt.Sprint(at)
	if s := p.known[key]; s != nil {
		return s
	}
	end := newPlaces()
	for _, pc := range at {
		p.reach(end, pc, syntax.EmptyBeginText|syntax.EmptyEndText)
	}
	s := &patternState{places: at, byRune: map[rune]*patternState{}}
	for pc := range end.at {
		s.whole = s.whole || p.prog.Inst[pc].Op == syntax.InstMatch
	}
	p.known[key] = s
	return s
}

// after returns the state behind a token; behind one that is not allowed, or ends the output, nothing is.
func (p *Pattern) after(s *patternState, token int32) *patternState {
	p.mu.Lock()
	defer p.mu.Unlock()
	if int(token) >= len(p.texts) || p.texts[token] == "" || slices.Contains(p.stop, token) {
		return p.stateOf(nil)
	}
	for _, r := range p.texts[token] {
		s = p.step(s, r)
	}
	return s
}

// mask sets the logits (vocab) of tokens that are not allowed in a state to -Inf.
func (p *Pattern) mask(logits []float32, s *patternState) {
	p.mu.Lock()
	if s.allowed == nil {
		s.allowed = p.allow(s)
	}
	allowed := s.allowed
	p.mu.Unlock()
	for id := range logits {
		if id/64 >= len(allowed) || allowed[id/64]>>(id%64)&1 == 0 {
			logits[id] = float32(math.Inf(-1))
		}
	}
}

// allow returns the tokens that lead on from a state. It reads them in the order of their texts, so that what neighbours share is read once.
func (p *Pattern) allow(s *patternState) []uint64 {
	allowed := make([]uint64, (len(p.texts)+63)/64)
	set := func(id int32) {
		if int(id) < len(p.texts) {
			allowed[id/64] |= 1 << (id % 64)
		}
	}
	if s.whole {
		for _, id := range p.stop {
			set(id)
		}
	}
	before, path := "", []*patternState{s} // path[i]: the state after i characters of before
	for _, id := range p.order {
		text := p.texts[id]
		shared, at := 0, 0 // characters and bytes
		for at < len(before) && at < len(text) {
			r, n := utf8.DecodeRuneInString(text[at:])
			if q, _ := utf8.DecodeRuneInString(before[at:]); q != r {
				break
			}
			at += n
			shared++
		}
		path = path[:min(shared+1, len(path))]
		before = text
		if shared >= len(path) { // what they share leads nowhere
			continue
		}
		for _, r := range text[at:] {
			next := p.step(path[len(path)-1], r)
			if next.dead() {
				break
			}
			path = append(path, next)
		}
		if len(path) == utf8.RuneCountInString(text)+1 {
			set(id)
		}
	}
	return allowed
}
