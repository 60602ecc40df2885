package tokenizer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// step is one decoder: it makes the stage of a new text.
type step func() stage

// stage is a decoder at work on one text: tokens go in one by one, and come out, changed, as early as they are certain.
// Whole texts are decoded the same way, so a stream cannot differ from them.
type stage interface {
	push(token string, emit func(string))
	flush(emit func(string))
}

// buildDecoder flattens a decoder section into steps.
func buildDecoder(c *component) ([]step, error) {
	var steps []step
	fused := false // from here on there is one token, the whole text, of which pieces arrive
	for _, c := range flatten(c, func(c *component) []component { return c.Decoders }) {
		s, err := buildStep(c)
		if err != nil {
			return nil, fmt.Errorf("decoder %s: %w", c.Type, err)
		}
		switch {
		case !fused || c.Type == "Fuse":
		case c.Type == "Strip" && c.Stop == 0:
			mark := c.Content
			s = func() stage { return &stripStart{mark: mark, left: c.Start} }
		default: // it may need the whole text to act
			steps = append(steps, func() stage { return &collect{} })
		}
		steps = append(steps, s)
		fused = fused || c.Type == "Fuse" || c.Type == "ByteLevel"
	}
	return steps, nil
}

func buildStep(c *component) (step, error) {
	switch c.Type {
	case "ByteLevel":
		return func() stage { return &byteLevel{} }, nil
	case "ByteFallback":
		return func() stage { return &byteFallback{} }, nil
	case "Fuse":
		return func() stage { return mapTokens(func(s string) string { return s }) }, nil
	case "Replace":
		find, err := c.Pattern.finder()
		if err != nil {
			return nil, err
		}
		edits := replace(find, c.Content)
		return func() stage {
			return mapTokens(func(s string) string { return (&encoder{}).rewrite(chunk{s: s}, edits).s })
		}, nil
	case "Strip":
		mark, err := oneRune(c.Content)
		if err != nil {
			return nil, err
		}
		if c.Start < 0 || c.Stop < 0 {
			return nil, fmt.Errorf("start %d, stop %d", c.Start, c.Stop)
		}
		return func() stage {
			return mapTokens(func(s string) string { return stripMarks(s, string(mark), c.Start, c.Stop) })
		}, nil
	case "Metaspace":
		mark, scheme, err := c.metaspace()
		if err != nil {
			return nil, err
		}
		return func() stage { return &metaspace{mark: mark, start: scheme != "never"} }, nil
	}
	return nil, errors.New("this type is not supported")
}

// stripMarks cuts at most start marks off the front of s and at most stop off its end.
func stripMarks(s, mark string, start, stop int) string {
	for ; start > 0 && strings.HasPrefix(s, mark); start-- {
		s = s[len(mark):]
	}
	for ; stop > 0 && strings.HasSuffix(s, mark); stop-- {
		s = s[:len(s)-len(mark)]
	}
	return s
}

// mapTokens is a stage that looks at each token alone.
type mapTokens func(token string) string

func (f mapTokens) push(token string, emit func(string)) { emit(f(token)) }
func (f mapTokens) flush(func(string))                   {}

// collect holds the whole text back.
type collect struct{ text strings.Builder }

func (c *collect) push(token string, _ func(string)) { c.text.WriteString(token) }
func (c *collect) flush(emit func(string))           { emit(c.text.String()) }

// stripStart cuts at most left marks off the front of a text that arrives in pieces.
type stripStart struct {
	mark string
	left int
}

func (s *stripStart) push(piece string, emit func(string)) {
	for ; s.left > 0 && strings.HasPrefix(piece, s.mark); s.left-- {
		piece = piece[len(s.mark):]
	}
	if piece != "" {
		s.left = 0
		emit(piece)
	}
}

func (s *stripStart) flush(func(string)) {}

// metaspace writes marks as spaces and drops those of the first token if the encoder had put them there.
type metaspace struct {
	mark  string
	start bool
}

func (m *metaspace) push(token string, emit func(string)) {
	with := " "
	if m.start {
		with, m.start = "", false
	}
	emit(strings.ReplaceAll(token, m.mark, with))
}

func (m *metaspace) flush(func(string)) {}

// byteFallback turns runs of <0xNN> tokens into the text they spell. A run that is not wholly valid becomes one U+FFFD per
// byte, as in Hugging Face's library, so nothing of it is certain before it ends.
type byteFallback struct{ run []byte }

func (b *byteFallback) push(token string, emit func(string)) {
	if v, ok := byteOf(token); ok {
		b.run = append(b.run, v)
		return
	}
	b.flush(emit)
	emit(token)
}

// byteOf returns the byte that a token of the form <0xNN> stands for.
func byteOf(token string) (byte, bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	v, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(v), err == nil
}

func (b *byteFallback) flush(emit func(string)) {
	if len(b.run) == 0 {
		return
	}
	if utf8.Valid(b.run) {
		emit(string(b.run))
	} else {
		for range b.run {
			emit("\uFFFD")
		}
	}
	b.run = b.run[:0]
}

// byteLevel reads the byte alphabet; a character whose bytes are spread over tokens waits for the last of them.
type byteLevel struct{ held []byte }

func (b *byteLevel) push(token string, emit func(string)) {
	b.held = readBytes(b.held, token)
	text, n := lossy(b.held, false)
	b.held = append(b.held[:0], b.held[n:]...)
	if text != "" {
		emit(text)
	}
}

func (b *byteLevel) flush(emit func(string)) {
	text, _ := lossy(b.held, true)
	b.held = b.held[:0]
	if text != "" {
		emit(text)
	}
}

// lossy returns the text of b, where each longest piece that cannot be part of a character becomes one U+FFFD, and how many
// bytes it used: unless final, a beginning of a character at the end is left.
func lossy(b []byte, final bool) (string, int) {
	if utf8.Valid(b) {
		return string(b), len(b)
	}
	var out []byte
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			if !final && !utf8.FullRune(b[i:]) {
				break
			}
			n = brokenLen(b[i:])
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return string(out), i
}

// brokenLen returns how many bytes at the start of b, which is no character, could begin one: at least 1.
func brokenLen(b []byte) int {
	n := 1
	for n < len(b) && n < utf8.UTFMax && !utf8.FullRune(b[:n]) {
		n++
	}
	// b[:n] is the shortest piece that is decided, and decided to be wrong by its last byte, unless b ended before that.
	if n > 1 && utf8.FullRune(b[:n]) {
		n--
	}
	return n
}
