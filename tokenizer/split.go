package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// splitter is a pre-tokenizer step: it cuts c, perhaps rewriting it, and emits the pieces in order.
type splitter func(e *encoder, c chunk, emit func(chunk))

// finder calls match for each stretch of s that a pattern matches, from left to right.
type finder func(e *encoder, s string, match func(i, j int))

// matchTimeout ends a regular expression that backtracks without end: the pattern comes from a file we did not write.
const matchTimeout = 10 * time.Second

// pattern is what Split and Replace look for.
type pattern struct {
	String *string
	Regex  *string
}

func (p *pattern) finder() (finder, error) {
	switch {
	case p == nil || p.String == nil && p.Regex == nil:
		return nil, errors.New("pattern is missing")
	case p.String != nil && *p.String == "":
		return nil, errors.New("pattern is empty")
	case p.String != nil:
		return findLiteral(*p.String), nil
	}
	scan := map[string]scanner{gpt2Pattern: scanGPT2, llama3Pattern: scanLlama3, qwen2Pattern: scanQwen2}[*p.Regex]
	if scan != nil {
		return func(_ *encoder, s string, match func(i, j int)) {
			for i := 0; i < len(s); {
				j := scan(s, i)
				match(i, j)
				i = j
			}
		}, nil
	}
	return findRegexp(*p.Regex)
}

func findLiteral(what string) finder {
	return func(_ *encoder, s string, match func(i, j int)) {
		for i := 0; ; {
			k := strings.Index(s[i:], what)
			if k < 0 {
				return
			}
			match(i+k, i+k+len(what))
			i += k + len(what)
		}
	}
}

// findRegexp uses regexp2, because these patterns look ahead, which the standard library's engine cannot.
func findRegexp(expr string) (finder, error) {
	re, err := regexp2.Compile(expr, regexp2.Unicode)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", expr, err)
	}
	if re.RightToLeft() {
		return nil, fmt.Errorf("pattern %q matches from right to left", expr)
	}
	re.MatchTimeout = matchTimeout
	return func(e *encoder, s string, match func(i, j int)) {
		found, err := re.FindAllStringIndex(s, -1)
		if err != nil {
			e.fail(fmt.Errorf("pattern %q: %w", expr, err))
			return
		}
		for _, m := range found {
			match(m[0], m[1])
		}
	}, nil
}

// findRunes matches single runes of a class.
func findRunes(is func(rune) bool) finder {
	return func(_ *encoder, s string, match func(i, j int)) {
		for i, r := range s {
			if is(r) {
				match(i, i+utf8.RuneLen(r))
			}
		}
	}
}

// span is a stretch of a chunk that matched the pattern or lies between matches.
type span struct {
	i, j    int
	matched bool
}

// splitBy cuts where find matches; behavior says what becomes of the matches, as tokenizer.json spells it.
func splitBy(find finder, behavior string, invert bool) (splitter, error) {
	switch behavior {
	case "Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext":
	default:
		return nil, fmt.Errorf("behavior %q is not supported", behavior)
	}
	if behavior == "Isolated" { // the common one: no list of spans
		return func(e *encoder, c chunk, emit func(chunk)) {
			done := 0
			find(e, c.s, func(i, j int) {
				if done < i {
					emit(c.cut(done, i))
				}
				if i < j {
					emit(c.cut(i, j))
				}
				done = j
			})
			if done < len(c.s) {
				emit(c.cut(done, len(c.s)))
			}
		}, nil
	}
	return func(e *encoder, c chunk, emit func(chunk)) {
		var spans []span
		done := 0
		find(e, c.s, func(i, j int) {
			if done < i {
				spans = append(spans, span{done, i, invert})
			}
			if i < j {
				spans = append(spans, span{i, j, !invert})
			}
			done = j
		})
		if done < len(c.s) {
			spans = append(spans, span{done, len(c.s), invert})
		}
		for _, s := range regroup(spans, behavior) {
			emit(c.cut(s.i, s.j))
		}
	}, nil
}

// regroup joins neighbouring spans, or drops the matched ones, as behavior asks.
func regroup(spans []span, behavior string) []span {
	var out []span
	for k, s := range spans {
		join := false
		switch behavior {
		case "Removed":
			if s.matched {
				continue
			}
		case "Contiguous":
			join = k > 0 && spans[k-1].matched == s.matched
		case "MergedWithPrevious":
			join = k > 0 && s.matched && !spans[k-1].matched
		case "MergedWithNext":
			join = k > 0 && spans[k-1].matched && !s.matched
		}
		if join {
			out[len(out)-1].j = s.j
		} else {
			out = append(out, s)
		}
	}
	return out
}

// buildSplitters flattens a pre_tokenizer section. It reports whether the last step spells bytes as runes: that step is then
// left to the model, which looks bytes up directly.
func buildSplitters(c *component) (steps []splitter, byteLevel bool, err error) {
	flat := flatten(c, func(c *component) []component { return c.Pretokenizers })
	for i, c := range flat {
		last := i == len(flat)-1
		more, err := buildSplitter(c, last)
		if err != nil {
			return nil, false, fmt.Errorf("pre_tokenizer %s: %w", c.Type, err)
		}
		steps = append(steps, more...)
		byteLevel = last && c.Type == "ByteLevel"
	}
	return steps, byteLevel, nil
}

func buildSplitter(c *component, last bool) ([]splitter, error) {
	one := func(find finder, behavior string, invert bool) ([]splitter, error) {
		s, err := splitBy(find, behavior, invert)
		return []splitter{s}, err
	}
	switch c.Type {
	case "ByteLevel":
		return byteLevelSplitters(c, last), nil
	case "Split":
		find, err := c.Pattern.finder()
		if err != nil {
			return nil, err
		}
		return one(find, c.Behavior, c.Invert)
	case "Digits":
		if c.IndividualDigits {
			return one(findRunes(isNumber), "Isolated", false)
		}
		return one(findRunes(isNumber), "Contiguous", false)
	case "Punctuation":
		if c.Behavior == "" {
			c.Behavior = "Isolated" // the format's documented default
		}
		return one(findRunes(isPunctuation), c.Behavior, false)
	case "Whitespace":
		return []splitter{splitWords}, nil
	case "WhitespaceSplit":
		return one(findRunes(unicode.IsSpace), "Removed", false)
	case "Metaspace":
		return metaspaceSplitters(c)
	}
	return nil, errors.New("this type is not supported")
}

func byteLevelSplitters(c *component, last bool) []splitter {
	var steps []splitter
	if c.AddPrefixSpace != nil && *c.AddPrefixSpace {
		steps = append(steps, func(e *encoder, c chunk, emit func(chunk)) {
			if c.s[0] != ' ' {
				c = e.rewrite(c, prepend(" "))
			}
			emit(c)
		})
	}
	if c.UseRegex == nil || *c.UseRegex {
		steps = append(steps, func(_ *encoder, c chunk, emit func(chunk)) {
			for i := 0; i < len(c.s); {
				j := scanGPT2(c.s, i)
				emit(c.cut(i, j))
				i = j
			}
		})
	}
	if !last {
		steps = append(steps, func(e *encoder, c chunk, emit func(chunk)) { emit(e.rewrite(c, spellBytes)) })
	}
	return steps
}

// metaspaceSplitters writes spaces as a visible mark and begins a piece at each.
func metaspaceSplitters(c *component) ([]splitter, error) {
	mark, scheme, err := c.metaspace()
	if err != nil {
		return nil, err
	}
	spaces := findLiteral(" ")
	steps := []splitter{func(e *encoder, c chunk, emit func(chunk)) {
		c = e.rewrite(c, func(e *encoder, s string, edit func(i, j int, with string)) {
			spaces(e, s, func(i, j int) { edit(i, j, mark) })
		})
		if (scheme == "always" || scheme == "first" && c.first) && !strings.HasPrefix(c.s, mark) {
			c = e.rewrite(c, prepend(mark))
		}
		emit(c)
	}}
	if c.Split != nil && !*c.Split {
		return steps, nil
	}
	cut, err := splitBy(findLiteral(mark), "MergedWithNext", false)
	return append(steps, cut), err
}

// splitWords emits runs of word characters and runs of other visible characters; white space vanishes.
func splitWords(_ *encoder, c chunk, emit func(chunk)) {
	kind := func(r rune) int {
		switch {
		case isWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	start, current := 0, 0
	for i, r := range c.s {
		if k := kind(r); k != current {
			if current != 0 {
				emit(c.cut(start, i))
			}
			start, current = i, k
		}
	}
	if current != 0 {
		emit(c.cut(start, len(c.s)))
	}
}
