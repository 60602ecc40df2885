package chat

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What no template needs, and a hostile one could end the program with: all of these recurse.
const (
	maxDepth  = 100     // of brackets, of blocks and of macros that call each other
	maxTokens = 10_000  // of a tag
	maxSource = 4 << 20 // bytes
	maxRange  = 100_000 // elements, as in Jinja2's sandbox
)

// pieceKind is what a piece of a template's source is.
type pieceKind int

const (
	textPiece  pieceKind = iota
	printPiece           // {{ … }}
	blockPiece           // {% … %}
)

// piece is a stretch of a template: text as it will be printed, or a tag's tokens.
type piece struct {
	kind   pieceKind
	text   string
	tokens []token
	line   int
}

// word returns the name that a block begins with.
func (p *piece) word() string {
	if p.kind == blockPiece && len(p.tokens) > 0 && p.tokens[0].kind == nameToken {
		return p.tokens[0].text
	}
	return ""
}

type tokenKind int

const (
	nameToken tokenKind = iota
	numberToken
	stringToken // text is the string it means
	opToken
)

type token struct {
	kind tokenKind
	text string
}

func (t token) is(op string) bool { return t.kind == opToken && t.text == op }
func (t token) named(n ...string) bool {
	for _, name := range n {
		if t.kind == nameToken && t.text == name {
			return true
		}
	}
	return false
}

// lexer cuts a template's source into pieces by Jinja2's rules, with trim_blocks and lstrip_blocks on, as Transformers has them.
type lexer struct {
	src       string
	at        int
	lineStart bool // what is before at is the beginning of a line, because a tag took the newline
	pieces    []piece
}

// lex returns the pieces of a source. One newline at its end does not count, and CR LF is LF.
func lex(src string) ([]piece, error) {
	if len(src) > maxSource {
		return nil, fmt.Errorf("%d bytes, more than a template has", len(src))
	}
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	x := &lexer{src: strings.TrimSuffix(src, "\n"), lineStart: true}
	for x.at < len(x.src) {
		if err := x.next(); err != nil {
			return nil, fmt.Errorf("line %d: %w", x.line(), err)
		}
	}
	return x.pieces, nil
}

func (x *lexer) line() int { return 1 + strings.Count(x.src[:min(x.at, len(x.src))], "\n") }

// next takes the text up to the next tag, and the tag.
func (x *lexer) next() error {
	rest := x.src[x.at:]
	start := -1
	for i := 0; i+1 < len(rest); i++ {
		if rest[i] == '{' && strings.IndexByte("{%#", rest[i+1]) >= 0 {
			start = i
			break
		}
	}
	if start < 0 {
		x.text(rest)
		x.at = len(x.src)
		return nil
	}
	open := rest[start+1]
	text, after := rest[:start], rest[start+2:]
	sign := byte(0)
	if after != "" && (after[0] == '-' || after[0] == '+') {
		sign, after = after[0], after[1:]
	}
	x.text(x.strip(text, sign, open != '{'))
	x.at = len(x.src) - len(after)
	x.lineStart = false
	switch open {
	case '#':
		end := strings.Index(after, "#}")
		if end < 0 {
			return fmt.Errorf("a comment has no end")
		}
		x.closeTag(end, after[:end])
		return nil
	case '%':
		if body, ok := rawTag(after, "raw"); ok {
			return x.raw(body)
		}
	}
	return x.tag(open)
}

func (x *lexer) text(s string) {
	if s != "" {
		x.pieces = append(x.pieces, piece{kind: textPiece, text: s, line: x.line()})
	}
}

// strip cuts the white space that belongs to the tag behind text: all of it for a minus sign, the indentation of a block.
func (x *lexer) strip(text string, sign byte, block bool) string {
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || !block {
		return text
	}
	line := strings.LastIndexByte(text, '\n') + 1
	if (line > 0 || x.lineStart) && strings.TrimLeftFunc(text[line:], isSpace) == "" {
		return text[:line]
	}
	return text
}

// isSpace reports what Python calls white space.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// closeTag moves behind a block or a comment whose two closing characters begin n bytes from here; before is what is inside.
func (x *lexer) closeTag(n int, before string) {
	x.at += n + 2
	switch {
	case strings.HasSuffix(before, "-"):
		x.skipSpace()
	case strings.HasSuffix(before, "+"):
	case x.at < len(x.src) && x.src[x.at] == '\n':
		x.at++
		x.lineStart = true
	}
}

// skipSpace moves behind white space.
func (x *lexer) skipSpace() {
	rest := strings.TrimLeftFunc(x.src[x.at:], isSpace)
	at := len(x.src) - len(rest)
	x.lineStart = at > x.at && x.src[at-1] == '\n'
	x.at = at
}

// rawTag reports whether s, which follows {%, is the tag of that word, and returns what is behind it.
func rawTag(s, word string) (string, bool) {
	s, ok := strings.CutPrefix(strings.TrimLeftFunc(s, isSpace), word)
	if !ok {
		return "", false
	}
	s = strings.TrimLeftFunc(s, isSpace)
	if inside, ok := strings.CutPrefix(s, "-%}"); ok {
		return strings.TrimLeftFunc(inside, isSpace), true
	}
	return strings.CutPrefix(s, "%}")
}

// raw takes a raw block, whose content begins at body.
func (x *lexer) raw(body string) error {
	start := len(x.src) - len(body)
	x.at = start
	for i := 0; ; {
		n := strings.Index(body[i:], "{%")
		if n < 0 {
			return fmt.Errorf("raw has no endraw")
		}
		i += n
		tag := body[i+2:]
		sign := byte(0)
		if tag != "" && (tag[0] == '-' || tag[0] == '+') {
			sign, tag = tag[0], tag[1:]
		}
		inner, ok := strings.CutPrefix(strings.TrimLeftFunc(tag, isSpace), "endraw")
		inner = strings.TrimLeftFunc(inner, isSpace)
		end := strings.Index(inner, "%}")
		if !ok || end > 1 || end < 0 || end == 1 && inner[0] != '-' && inner[0] != '+' {
			i += 2
			continue
		}
		x.text(x.strip(body[:i], sign, true))
		x.at = len(x.src) - len(inner)
		x.lineStart = false
		x.closeTag(end, inner[:end])
		return nil
	}
}

// tag takes the tokens of a tag and its end. A closing brace inside brackets does not end it.
func (x *lexer) tag(open byte) error {
	p := piece{kind: printPiece, line: x.line()}
	end := "}}"
	if open == '%' {
		p.kind, end = blockPiece, "%}"
	}
	depth := 0
	for x.at < len(x.src) {
		rest := x.src[x.at:]
		if r, n := utf8.DecodeRuneInString(rest); isSpace(r) {
			x.at += n
			continue
		}
		if depth == 0 {
			sign := rest[:0]
			if rest[0] == '-' || rest[0] == '+' && open == '%' {
				sign = rest[:1]
			}
			if strings.HasPrefix(rest[len(sign):], end) {
				x.pieces = append(x.pieces, p)
				x.endTag(sign, open)
				return nil
			}
		}
		t, n, err := lexToken(rest)
		if err != nil {
			return err
		}
		if t.kind == opToken && strings.Contains("([{", t.text) {
			if depth++; depth > maxDepth {
				return fmt.Errorf("brackets are nested more than %d deep", maxDepth)
			}
		}
		if t.kind == opToken && strings.Contains(")]}", t.text) {
			if depth--; depth < 0 {
				return fmt.Errorf("%q opens nowhere", t.text)
			}
		}
		if p.tokens = append(p.tokens, t); len(p.tokens) > maxTokens {
			return fmt.Errorf("a tag of more than %d tokens", maxTokens)
		}
		x.at += n
	}
	return fmt.Errorf("a tag has no end")
}

func (x *lexer) endTag(sign string, open byte) {
	if open == '%' {
		x.closeTag(len(sign), sign)
		return
	}
	x.at += len(sign) + 2
	if sign == "-" {
		x.skipSpace()
	}
}

var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

// lexToken returns the token that s begins with and its length.
func lexToken(s string) (token, int, error) {
	switch r, _ := utf8.DecodeRuneInString(s); {
	case r == '\'' || r == '"':
		return lexString(s)
	case r >= '0' && r <= '9':
		n := 1
		for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '_' || s[n] == '.' && n+1 < len(s) && s[n+1] >= '0' && s[n+1] <= '9') {
			n++
		}
		return number(s, n)
	case r == '_' || unicode.IsLetter(r):
		n := strings.IndexFunc(s, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(s)
		}
		return token{nameToken, s[:n]}, n, nil
	}
	for _, op := range operators {
		if strings.HasPrefix(s, op) {
			return token{opToken, op}, len(op), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(s)
	return token{}, 0, fmt.Errorf("unexpected character %q", r)
}

// number returns the number whose digits are the first n bytes of s, and its exponent if it has one.
func number(s string, n int) (token, int, error) {
	if n < len(s) && s[n]|0x20 == 'e' {
		k := n + 1
		if k < len(s) && (s[k] == '-' || s[k] == '+') {
			k++
		}
		from := k
		for k < len(s) && s[k] >= '0' && s[k] <= '9' {
			k++
		}
		if k > from {
			f, err := strconv.ParseFloat(s[:k], 64)
			return token{numberToken, floatRepr(f)}, k, err
		}
	}
	return token{numberToken, strings.ReplaceAll(s[:n], "_", "")}, n, nil
}

// lexString returns the string literal that s begins with, its escapes resolved as Python does.
func lexString(s string) (token, int, error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return token{stringToken, b.String()}, i + 1, nil
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		default:
			i += unescape(&b, s[i+1:])
		}
	}
	return token{}, 0, fmt.Errorf("a string has no end")
}

var escapes = map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': ""}

// unescape writes what the escape means that s, which follows a backslash, begins with, and returns its length.
func unescape(b *strings.Builder, s string) int {
	if plain, ok := escapes[s[0]]; ok {
		b.WriteString(plain)
		return 1
	}
	digits, base := 0, 16
	from := 1
	switch c := s[0]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, from = 3, 8, 0
	}
	v, n := 0, from
	for ; n < len(s) && n-from < digits; n++ {
		d := strings.IndexByte("0123456789abcdef", s[n]|0x20)
		if s[n] >= '0' && s[n] <= '9' {
			d = int(s[n] - '0')
		}
		if d < 0 || d >= base {
			break
		}
		v = v*base + d
	}
	if digits == 0 || n-from == 0 || base == 16 && n-from < digits {
		b.WriteByte('\\')
		b.WriteByte(s[0])
		return 1
	}
	b.WriteRune(rune(v))
	return n
}
