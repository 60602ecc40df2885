package tokenizer

import "strings"

// Stream decodes ids as they come. What Push and Flush return, put together, is what Decode returns for all ids.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	started     bool
	stages      []stage
	out         strings.Builder
}

// NewStream returns a decoder for one text. skipSpecial leaves out special tokens.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial}
	for _, make := range t.decoder {
		s.stages = append(s.stages, make())
	}
	return s
}

// Push adds one id and returns the text that has become certain; it is empty while a character is incomplete. An id without
// a token adds nothing: models often have more rows than their tokenizer has tokens.
func (s *Stream) Push(id int32) string {
	s.push(id)
	return s.take()
}

// Flush ends the text and returns what was held back.
func (s *Stream) Flush() string {
	for i, g := range s.stages {
		g.flush(func(token string) { s.send(token, i+1) })
	}
	return s.take()
}

func (s *Stream) push(id int32) {
	token, ok := s.t.Token(id)
	if !ok || s.skipSpecial && s.t.special[id] {
		return
	}
	if s.t.spaced && s.started {
		s.out.WriteByte(' ')
	}
	s.started = true
	s.send(token, 0)
}

// send passes a token to the i-th stage and what comes out to the next ones.
func (s *Stream) send(token string, i int) {
	if i == len(s.stages) {
		s.out.WriteString(token)
		return
	}
	s.stages[i].push(token, func(token string) { s.send(token, i+1) })
}

func (s *Stream) take() string {
	text := s.out.String()
	s.out.Reset()
	return text
}
