package chat

import (
	"fmt"
	"slices"
	"strings"
)

// The engine that evaluates templates differs from Jinja2 in places. So a template is cut by lex and written anew, in a form where
// those places do not come up: text stands in string literals, out of reach of the engine's handling of white space; names that must be
// there, sums, printed values and some filters go through functions of ours (functions.go), which act as Jinja2 does.

// rewrite returns a source for the engine. With spans set, generation blocks are marked in the output.
func rewrite(src string, spans bool) (string, error) {
	pieces, err := lex(src)
	if err != nil {
		return "", err
	}
	w := &rewriter{pieces: pieces, spans: spans}
	for i := range pieces {
		if err := w.piece(i); err != nil {
			return "", fmt.Errorf("line %d: %w", pieces[i].line, err)
		}
	}
	if n := len(w.open); n > 0 {
		return "", fmt.Errorf("%s has no end%s", w.open[n-1].word, w.open[n-1].word)
	}
	return w.out.String(), nil
}

type rewriter struct {
	pieces []piece
	spans  bool
	out    strings.Builder
	open   []opened
}

// opened is a block that has not ended; scoped is a loop whose body is a scope of its own.
type opened struct {
	word   string
	scoped bool
}

// paired are the blocks that have an end.
var paired = []string{"for", "if", "macro", "call", "filter", "set", "generation"}

func (w *rewriter) piece(i int) error {
	p := &w.pieces[i]
	switch p.kind {
	case textPiece:
		w.out.WriteString("{{" + quote(p.text) + "}}")
		return nil
	case printPiece:
		if len(p.tokens) == 0 {
			return fmt.Errorf("an expression is missing")
		}
		e, err := expression(p.tokens)
		w.out.WriteString("{{krait_str(" + e + ")}}")
		return err
	}
	word := p.word()
	rest := p.tokens
	if len(rest) > 0 {
		rest = rest[1:]
	}
	block := ""
	var err error
	switch word {
	case "for":
		block, err = w.loop(i, rest)
	case "if", "elif":
		if word == "if" {
			w.push(word)
		}
		block, err = expression(rest)
		block = word + " (" + block + ")"
	case "set":
		block, err = w.set(rest)
	case "macro":
		w.push("macro")
		block = "macro " + plain(rest)
	case "call":
		w.push("call")
		block = "call " + plain(rest)
	case "filter":
		w.push("filter")
		block = "filter " + plain(rest)
	case "generation":
		w.push("generation")
		block = "call krait_generation()"
		if !w.spans {
			block = "call krait_scope()"
		}
	case "else":
		if len(w.open) > 0 && w.open[len(w.open)-1].scoped {
			w.out.WriteString("{% endcall %}")
			w.open[len(w.open)-1].scoped = false
		}
		block = "else"
	case "break", "continue":
		block = word
	default:
		block, err = w.end(word)
	}
	if err != nil {
		return err
	}
	if len(w.open) > maxDepth {
		return fmt.Errorf("blocks are nested more than %d deep", maxDepth)
	}
	w.out.WriteString("{% " + block + " %}")
	if word == "macro" {
		w.out.WriteString("{{krait_enter()}}")
	}
	if n := len(w.open); word == "for" && w.open[n-1].scoped {
		w.out.WriteString("{% call krait_scope() %}")
	}
	return nil
}

func (w *rewriter) push(word string) { w.open = append(w.open, opened{word: word}) }

// end closes the innermost block.
func (w *rewriter) end(word string) (string, error) {
	opener, ok := strings.CutPrefix(word, "end")
	if !ok || !slices.Contains(paired, opener) {
		return "", fmt.Errorf("there is no tag %q", word)
	}
	n := len(w.open) - 1
	if n < 0 || w.open[n].word != opener {
		return "", fmt.Errorf("%s ends nothing", word)
	}
	if w.open[n].scoped {
		w.out.WriteString("{% endcall %}")
	}
	w.open = w.open[:n]
	if opener == "macro" {
		w.out.WriteString("{{krait_leave()}}")
	}
	if opener == "generation" {
		return "endcall", nil
	}
	return word, nil
}

// loop writes the head of a for block. Its body becomes a scope of its own where it sets variables, which do not live on into the next round.
func (w *rewriter) loop(i int, tokens []token) (string, error) {
	in := depthZero(tokens, func(t token) bool { return t.named("in") })
	if in < 0 {
		return "", fmt.Errorf("for without in")
	}
	over := tokens[in+1:]
	tail := ""
	if at := depthZero(over, func(t token) bool { return t.named("recursive") }); at >= 0 {
		return "", fmt.Errorf("recursive loops are not supported")
	}
	if at := depthZero(over, func(t token) bool { return t.named("if") }); at >= 0 {
		filter, err := expression(over[at+1:])
		if err != nil {
			return "", err
		}
		over, tail = over[:at], " if ("+filter+")"
	}
	e, err := expression(over)
	w.open = append(w.open, opened{"for", w.setsInside(i)})
	return "for " + plain(tokens[:in]) + " in krait_iter(" + e + ")" + tail, err
}

// setsInside reports whether the body of the loop at piece i sets variables and is left by its end alone.
func (w *rewriter) setsInside(i int) bool {
	depth, sets := 0, false
	for j := i; j < len(w.pieces); j++ {
		switch p := &w.pieces[j]; p.word() {
		case "for":
			depth++
		case "endfor":
			if depth--; depth == 0 {
				return sets
			}
		case "set":
			sets = sets || depth == 1 && !(len(p.tokens) > 2 && p.tokens[2].is("."))
		case "break", "continue":
			if depth == 1 {
				return false
			}
		}
	}
	return sets
}

// set writes a set block, or the head of one that ends with endset.
func (w *rewriter) set(tokens []token) (string, error) {
	at := depthZero(tokens, func(t token) bool { return t.is("=") })
	if at < 0 {
		if len(tokens) != 1 {
			return "", fmt.Errorf("set: want one name")
		}
		w.push("set")
		return "set " + tokens[0].text, nil
	}
	if slices.ContainsFunc(tokens[:at], func(t token) bool { return t.is(",") }) {
		return "", fmt.Errorf("set of several names is not supported")
	}
	e, err := expression(tokens[at+1:])
	return "set " + compact(tokens[:at]) + " = " + e, err
}

// depthZero returns the index of the first token outside brackets that match finds, or -1.
func depthZero(tokens []token, match func(token) bool) int {
	depth := 0
	for i, t := range tokens {
		switch {
		case t.kind == opToken && strings.Contains("([{", t.text):
			depth++
		case t.kind == opToken && strings.Contains(")]}", t.text):
			depth--
		case depth == 0 && match(t):
			return i
		}
	}
	return -1
}

// plain writes tokens as they are, compact without spaces between them.
func plain(tokens []token) string { return join(tokens, " ") }

func compact(tokens []token) string { return join(tokens, "") }

func join(tokens []token, sep string) string {
	words := make([]string, len(tokens))
	for i, t := range tokens {
		words[i] = t.source()
	}
	return strings.Join(words, sep)
}

func (t token) source() string {
	if t.kind == stringToken {
		return quote(t.text)
	}
	return t.text
}

var quoter = strings.NewReplacer("\\", "\\\\", "'", "\\'", "\n", "\\n")

// quote writes a string literal that the engine reads back as s.
func quote(s string) string { return "'" + quoter.Replace(s) + "'" }
