package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The split patterns of the large families. They are matched by hand, several times faster than by a regular expression;
// the tests compare both.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scanner returns the end of the piece that begins at s[i], i < len(s).
type scanner func(s string, i int) int

// class is what the patterns tell apart.
type class uint8

const (
	other  class = iota // [^\s\p{L}\p{N}]
	letter              // \p{L}
	number              // \p{N}
	space               // \s
	end                 // no rune is left
)

var asciiClass = func() (t [utf8.RuneSelf]class) {
	for r := range rune(utf8.RuneSelf) {
		t[r] = classOf(r)
	}
	return t
}()

func classOf(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

// next returns the class and size of the rune at s[i:].
func next(s string, i int) (class, int) {
	if i >= len(s) {
		return end, 0
	}
	if b := s[i]; b < utf8.RuneSelf {
		return asciiClass[b], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return classOf(r), n
}

// skip returns the end of the run of runes of class c that begins at s[i].
func skip(s string, i int, c class) int {
	for {
		k, n := next(s, i)
		if k != c {
			return i
		}
		i += n
	}
}

func scanGPT2(s string, i int) int {
	if n := contraction(s[i:], false); n > 0 {
		return i + n
	}
	j := i
	if s[i] == ' ' {
		j++
	}
	if c, _ := next(s, j); c == letter || c == number || c == other {
		return skip(s, j, c)
	}
	return skipSpace(s, i)
}

func scanLlama3(s string, i int) int { return scanLlama(s, i, 3) }
func scanQwen2(s string, i int) int  { return scanLlama(s, i, 1) }

// scanLlama tries the alternatives of llama3Pattern in order, with at most digits numbers in a piece.
func scanLlama(s string, i, digits int) int {
	if n := contraction(s[i:], true); n > 0 {
		return i + n
	}
	c, n := next(s, i)
	switch {
	case c == letter:
		return skip(s, i, letter)
	case c == number:
		for ; digits > 0 && c == number; digits-- {
			i += n
			c, n = next(s, i)
		}
		return i
	case s[i] != '\r' && s[i] != '\n':
		if c, _ := next(s, i+n); c == letter {
			return skip(s, i+n, letter)
		}
	}
	j := i
	if s[i] == ' ' {
		j++
	}
	if c, _ := next(s, j); c == other {
		j = skip(s, j, other)
		for j < len(s) && (s[j] == '\r' || s[j] == '\n') {
			j++
		}
		return j
	}
	if k := strings.LastIndexAny(s[i:skip(s, i, space)], "\r\n"); k >= 0 {
		return i + k + 1
	}
	return skipSpace(s, i)
}

// skipSpace is \s+(?!\S)|\s+: white space leaves its last rune to the word that follows, unless it has only one.
func skipSpace(s string, i int) int {
	j := skip(s, i, space)
	if j == len(s) {
		return j
	}
	if _, n := utf8.DecodeLastRuneInString(s[i:j]); j-n > i {
		return j - n
	}
	return j
}

// contraction returns the length of an English contraction ('s, 't, 're, …) at the start of s, or 0.
func contraction(s string, fold bool) int {
	if s[0] != '\'' {
		return 0
	}
	letterAt := func(i int) (rune, int) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if fold && r == 'ſ' {
			return 's', n // the one rune outside ASCII that equals one of these letters when case is ignored
		}
		if fold {
			r = unicode.ToLower(r)
		}
		return r, n
	}
	a, n := letterAt(1)
	switch a {
	case 's', 't', 'm', 'd':
		return 1 + n
	case 'r', 'v', 'l':
		b, m := letterAt(1 + n)
		if a != 'l' && b == 'e' || a == 'l' && b == 'l' {
			return 1 + n + m
		}
	}
	return 0
}

func isNumber(r rune) bool { return unicode.IsNumber(r) }

// isPunctuation is ASCII's notion, which counts symbols such as $ and +, and Unicode's beyond.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && asciiClass[r] == other
	}
	return unicode.IsPunct(r)
}

// isWord is \w as the Unicode standard defines it for regular expressions.
func isWord(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
