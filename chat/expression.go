package chat

import (
	"fmt"
	"slices"
	"strings"
)

// ownFilters are the filters that the engine takes from us.
var ownFilters = []string{"tojson", "trim", "string", "length", "count", "items", "join", "title", "capitalize", "first", "last", "upper", "lower", "list", "replace", "format"}

// ownMethods are the methods of strings that the engine takes from us, and those that Transformers forbids because they change a value.
var ownMethods = []string{"split", "rsplit", "strip", "lstrip", "rstrip", "title", "capitalize", "rfind", "find", "join", "splitlines", "isdigit", "partition", "rpartition", "removeprefix", "removesuffix",
	"append", "pop", "insert", "update", "clear", "extend", "remove", "setdefault"}

// expression writes an expression, outside brackets and in them, for the engine. It need not understand precedence except that an operand
// of + and - reaches to the next operator that binds as strongly or less.
func expression(tokens []token) (string, error) {
	var b strings.Builder
	for start := 0; start <= len(tokens); {
		end := start
		for depth := 0; end < len(tokens); end++ {
			t := tokens[end]
			if t.kind == opToken && strings.Contains("([{", t.text) {
				depth++
			} else if t.kind == opToken && strings.Contains(")]}", t.text) {
				depth--
			} else if depth == 0 && endsOperand(tokens, end) {
				break
			}
		}
		afterIs := start > 0 && (tokens[start-1].named("is") || start > 1 && tokens[start-1].named("not") && tokens[start-2].named("is"))
		s, err := sum(tokens[start:end], afterIs)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
		if end < len(tokens) {
			b.WriteString(" " + tokens[end].text + " ")
		}
		start = end + 1
	}
	return b.String(), nil
}

// endsOperand reports whether the token at i separates operands of sums. A name behind a dot, a bar or "is" is no keyword.
func endsOperand(tokens []token, i int) bool {
	t := tokens[i]
	if t.kind == opToken {
		switch t.text {
		case ",", ":", "=", "==", "!=", "<", ">", "<=", ">=":
			return true
		}
		return false
	}
	if i > 0 && (tokens[i-1].is(".") || tokens[i-1].is("|") || tokens[i-1].named("is") && !t.named("not")) {
		return false
	}
	return t.named("and", "or", "not", "in", "is", "if", "else")
}

// sum writes operands joined by + and -; with more than one, each must be something that can be added.
func sum(tokens []token, test bool) (string, error) {
	var parts, ops []string
	start := 0
	for depth, i := 0, 0; i <= len(tokens); i++ {
		if i < len(tokens) {
			t := tokens[i]
			if t.kind == opToken && strings.Contains("([{", t.text) {
				depth++
			} else if t.kind == opToken && strings.Contains(")]}", t.text) {
				depth--
			}
			unary := i == start || tokens[i-1].kind == opToken && strings.Contains("* / % // **", tokens[i-1].text)
			if depth > 0 || unary || !t.is("+") && !t.is("-") {
				continue
			}
			ops = append(ops, " "+t.text+" ")
		}
		s, err := concatenation(tokens[start:i], test)
		if err != nil {
			return "", err
		}
		parts = append(parts, s)
		start = i + 1
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	s := parts[0]
	for i, op := range ops {
		if op == " + " {
			s = "krait_add(" + s + ", " + parts[i+1] + ")"
		} else {
			s = "(" + s + op + parts[i+1] + ")"
		}
	}
	return s, nil
}

// concatenation writes operands joined by ~, which binds more strongly than a sum.
func concatenation(tokens []token, test bool) (string, error) {
	var parts []string
	for {
		at := depthZero(tokens, func(t token) bool { return t.is("~") })
		part := tokens
		if at >= 0 {
			part = tokens[:at]
		}
		s, err := product(part, test)
		if err != nil || at < 0 && parts == nil {
			return s, err
		}
		parts = append(parts, s)
		if at < 0 {
			return "krait_cat(" + strings.Join(parts, ", ") + ")", nil
		}
		tokens = tokens[at+1:]
	}
}

// product writes an operand of a sum: values with what hangs on them, filters, and operators that bind more strongly. In a test the
// first name is the test's.
func product(tokens []token, test bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(tokens); {
		t := tokens[i]
		switch {
		case t.is("|"):
			if i+1 == len(tokens) || tokens[i+1].kind != nameToken {
				return "", fmt.Errorf("a filter's name is missing")
			}
			b.WriteString("|" + own(ownFilters, tokens[i+1].text))
			i += 2
			if i < len(tokens) && tokens[i].is("(") {
				s, n, err := brackets(tokens[i:])
				if err != nil {
					return "", err
				}
				b.WriteString(s)
				i += n
			}
		case i == 0 && len(tokens) > 1 && (t.is("-") || t.is("+")): // binds more strongly than a filter
			s, n, err := value(tokens[1:])
			if err != nil {
				return "", err
			}
			b.WriteString("(" + t.text + s + ")")
			i = 1 + n
		case t.kind == opToken && !strings.Contains("([{", t.text):
			b.WriteString(" " + t.text + " ")
			i++
		case test && i == 0:
			name := t.source()
			if name == "sequence" { // to the engine only lists are sequences
				name = "iterable"
			}
			b.WriteString(name)
			i++
			if i < len(tokens) && !tokens[i].is("(") {
				b.WriteString("(")
				s, err := product(tokens[i:], false)
				b.WriteString(s + ")")
				return b.String(), err
			}
		default:
			s, n, err := value(tokens[i:])
			if err != nil {
				return "", err
			}
			b.WriteString(s)
			i += n
		}
	}
	return b.String(), nil
}

func own(names []string, name string) string {
	if slices.Contains(names, name) {
		return "krait_" + name
	}
	return name
}

// value writes a name, a literal or something in brackets, with the attributes, items and calls that hang on it, and returns how many tokens it
// took. What an attribute or an item is taken of must be defined.
func value(tokens []token) (s string, n int, err error) {
	t := tokens[0]
	label := clip(t.text)
	switch {
	case t.kind == opToken:
		if s, n, err = brackets(tokens); err != nil {
			return "", 0, err
		}
		label = "value"
	case t.kind == stringToken:
		for n < len(tokens) && tokens[n].kind == stringToken { // literals side by side are one
			s += tokens[n].text
			n++
		}
		s = quote(s)
	default:
		s, n = t.text, 1
	}
	for n < len(tokens) {
		switch next := tokens[n]; {
		case next.is("."):
			if n+1 == len(tokens) || tokens[n+1].kind != nameToken && tokens[n+1].kind != numberToken {
				return "", 0, fmt.Errorf("the name of an attribute is missing")
			}
			name := tokens[n+1].text
			s = "krait_need(" + s + ", " + quote(label) + ")"
			n += 2
			label = clip(name)
			if tokens[n-1].kind == numberToken {
				s += "[" + name + "]"
				continue
			}
			if own(ownMethods, name) != name && n < len(tokens) && tokens[n].is("(") {
				args, k, err := brackets(tokens[n:])
				if err != nil {
					return "", 0, err
				}
				s, n = "krait_method("+quote(name)+", "+s+", "+args[1:], n+k
				continue
			}
			s += "." + name
		case next.is("["):
			args, k, err := brackets(tokens[n:])
			if err != nil {
				return "", 0, err
			}
			s = "krait_need(" + s + ", " + quote(label) + ")" + args
			label = clip(compact(tokens[n : n+k]))
			n += k
		case next.is("("):
			args, k, err := brackets(tokens[n:])
			if err != nil {
				return "", 0, err
			}
			s, n = s+args, n+k
		default:
			return s, n, nil
		}
	}
	return s, n, nil
}

// clip shortens what an error calls a value: labels stand in the source, and labels of labels must not grow.
func clip(s string) string {
	if len(s) > 40 {
		return "an item"
	}
	return s
}

// brackets writes what stands in the brackets that tokens begin with, and returns how many tokens that is.
func brackets(tokens []token) (string, int, error) {
	if tokens[0].kind != opToken || !strings.Contains("([{", tokens[0].text) {
		return "", 0, fmt.Errorf("unexpected %q", tokens[0].text)
	}
	depth := 0
	for i, t := range tokens {
		if t.kind != opToken {
			continue
		}
		if strings.Contains("([{", t.text) {
			depth++
		} else if strings.Contains(")]}", t.text) {
			depth--
		}
		if depth == 0 {
			inside, err := expression(tokens[1:i])
			return tokens[0].text + " " + inside + " " + t.text, i + 1, err
		}
	}
	return "", 0, fmt.Errorf("%q has no end", tokens[0].text)
}
