package engine

import (
	"context"
	"errors"
	"iter"

	"krait/model"
)

// maxSaved is the number of earlier states that a session can go back to. Each is a copy of all keys and values.
const maxSaved = 2

// Session is one conversation: what the target and the draft have seen of it stays in their states, so that a turn feeds only what is new.
// It serves one turn at a time.
type Session struct {
	engine *Engine
	target memory
	draft  *memory // nil: no draft
	kept   int
	again  int
}

// NewSession begins a conversation. The draft, which may be nil, proposes tokens in turns that ask for Speculate.
func (e *Engine) NewSession(draft *model.Model) *Session {
	s := &Session{engine: e, target: memory{model: e.Target}}
	s.target.forget()
	if draft != nil {
		s.draft = &memory{model: draft}
		s.draft.forget()
	}
	return s
}

// Generate is Engine.Generate for a turn whose Prompt is the whole conversation. Of the tokens that it has in common with what the target has
// seen, only those are fed again that follow the latest of the states kept from the beginnings of answers. The output is that of
// Engine.Generate: how a sequence is cut into pieces changes no bit. The draft is the session's.
func (s *Session) Generate(ctx context.Context, r Request, stats *Stats) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		if stats == nil {
			stats = new(Stats)
		}
		*stats = Stats{PromptTokens: len(r.Prompt)}
		s.kept, s.again = 0, 0
		if r.Draft = nil; s.draft != nil {
			r.Draft = s.draft.model
		}
		if err := s.engine.check(&r); err != nil {
			yield(Token{}, err)
			return
		}
		g := s.engine.newGeneration(r, stats)
		defer g.close(s.engine)
		s.begin(g)
		whole := false // the states were left between two rounds, as they are unless something broke
		defer func() { s.end(g, whole) }()
		err := g.run(ctx, func() { s.save(g) }, yield)
		whole = err == nil || errors.Is(err, ctx.Err())
	}
}

// Fed tells of the latest turn how many tokens of its prompt were in the target's state already, and how many others the target had seen
// and had to see again.
func (s *Session) Fed() (kept, again int) { return s.kept, s.again }

// begin puts the session's states, at some beginning of the prompt, into a generation.
func (s *Session) begin(g *generation) {
	s.again = s.target.meet(g.tokens)
	s.kept = len(s.target.seen)
	g.state = s.target.state
	if g.draft != nil {
		s.draft.meet(g.tokens)
		g.draft.state = s.draft.state
		if above := s.draft.above; above != nil {
			above.cut(s.kept) // what the target feeds again it leaves again
			g.draft.above = above
		}
	}
}

// save keeps copies of the states before the answer.
func (s *Session) save(g *generation) {
	s.target.save(g.tokens)
	if g.draft != nil {
		s.draft.save(g.tokens)
	}
}

// end takes the states back, or drops them where they are not whole.
func (s *Session) end(g *generation, whole bool) {
	if !whole {
		s.target.forget()
		if s.draft != nil {
			s.draft.forget()
		}
		return
	}
	s.target.saw(g.tokens)
	if g.draft != nil {
		s.draft.saw(g.tokens)
	}
}

// memory is what one model remembers of a session.
type memory struct {
	model *model.Model
	state *model.State
	seen  []int32 // what the state has seen
	saved []saved // earlier states, oldest first
	above *above  // of a draft head: what it has yet to read
}

// saved is the state after the first n of the tokens seen.
type saved struct {
	n     int
	state *model.Snapshot
	above *above
}

func (m *memory) forget() {
	m.state, m.seen, m.saved, m.above = m.model.NewState(), nil, nil, newAbove(m.model)
}

// meet brings the state to a beginning of tokens, without the last, and returns how many tokens behind it were seen already.
func (m *memory) meet(tokens []int32) (again int) {
	most := 0
	for most < min(len(m.seen), len(tokens)-1) && m.seen[most] == tokens[most] {
		most++
	}
	if len(m.seen) == most {
		return 0
	}
	for len(m.saved) > 0 && m.saved[len(m.saved)-1].n > most {
		m.saved = m.saved[:len(m.saved)-1]
	}
	if len(m.saved) == 0 {
		m.forget()
		return most
	}
	last := m.saved[len(m.saved)-1]
	m.state.Restore(last.state)
	m.above = last.above.clone()
	m.seen = m.seen[:last.n]
	return most - last.n
}

func (m *memory) saw(tokens []int32) { m.seen = append(m.seen[:0], tokens[:m.state.Len()]...) }

func (m *memory) save(tokens []int32) {
	m.saw(tokens)
	n := len(m.seen)
	if len(m.saved) > 0 && m.saved[len(m.saved)-1].n == n {
		return
	}
	m.saved = append(m.saved, saved{n, m.state.Snapshot(), m.above.clone()})
	if len(m.saved) > maxSaved {
		m.saved = append(m.saved[:0], m.saved[1:]...)
	}
}
