package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// buildNormalizers flattens a normalizer section into steps.
func buildNormalizers(c *component) ([]normalizer, error) {
	var steps []normalizer
	for _, c := range flatten(c, func(c *component) []component { return c.Normalizers }) {
		n, err := buildNormalizer(c)
		if err != nil {
			return nil, fmt.Errorf("normalizer %s: %w", c.Type, err)
		}
		steps = append(steps, n)
	}
	return steps, nil
}

func buildNormalizer(c *component) (normalizer, error) {
	switch c.Type {
	case "NFC":
		return unicodeForm(norm.NFC), nil
	case "NFD":
		return unicodeForm(norm.NFD), nil
	case "NFKC":
		return unicodeForm(norm.NFKC), nil
	case "NFKD":
		return unicodeForm(norm.NFKD), nil
	case "Prepend":
		return prepend(c.Prepend), nil
	case "Replace":
		find, err := c.Pattern.finder()
		if err != nil {
			return nil, err
		}
		return replace(find, c.Content), nil
	case "Strip":
		return strip(c.StripLeft, c.StripRight), nil
	case "Lowercase":
		return lowercase, nil
	case "ByteLevel":
		return spellBytes, nil
	}
	return nil, errors.New("this type is not supported")
}

func prepend(with string) normalizer {
	return func(_ *encoder, s string, edit func(i, j int, with string)) {
		if s != "" {
			edit(0, 0, with)
		}
	}
}

func replace(find finder, with string) normalizer {
	return func(e *encoder, s string, edit func(i, j int, with string)) {
		find(e, s, func(i, j int) { edit(i, j, with) })
	}
}

// unicodeForm normalises segment by segment, so that what is normal already is left alone.
func unicodeForm(f norm.Form) normalizer {
	return func(_ *encoder, s string, edit func(i, j int, with string)) {
		for i := f.QuickSpanString(s); i < len(s); {
			n := segment(f, s[i:])
			if to := normalForm(f, s[i:i+n]); to != s[i:i+n] {
				edit(i, i+n, to)
			}
			i += n
			i += f.QuickSpanString(s[i:])
		}
	}
}

// segment returns the length of the shortest beginning of s that normalises by itself.
func segment(f norm.Form, s string) int {
	_, n := utf8.DecodeRuneInString(s)
	for n < len(s) && !f.PropertiesString(s[n:]).BoundaryBefore() {
		_, size := utf8.DecodeRuneInString(s[n:])
		n += size
	}
	return n
}

// normalForm is f.String without its stream-safe rule, which would put U+034F into long runs of combining marks.
func normalForm(f norm.Form, s string) string {
	const safe = 30 // runes; the rule needs more combining marks than that
	if utf8.RuneCountInString(s) <= safe {
		return f.String(s)
	}
	decompose := norm.NFD
	if f == norm.NFKC || f == norm.NFKD {
		decompose = norm.NFKD
	}
	var runes []rune
	for _, r := range s {
		runes = append(runes, []rune(decompose.String(string(r)))...)
	}
	class := func(r rune) uint8 { return norm.NFD.PropertiesString(string(r)).CCC() }
	for i := 1; i < len(runes); i++ { // canonical order: stable within a run of marks
		for j := i; j > 0 && class(runes[j]) != 0 && class(runes[j-1]) > class(runes[j]); j-- {
			runes[j], runes[j-1] = runes[j-1], runes[j]
		}
	}
	if f == norm.NFD || f == norm.NFKD {
		return string(runes)
	}
	return string(compose(runes, class))
}

// compose joins marks with the starter before them where one rune for both exists and no mark of the same class stands between.
func compose(runes []rune, class func(rune) uint8) []rune {
	out := runes[:0:0]
	starter := -1
	for _, r := range runes {
		c := class(r)
		if starter >= 0 {
			last := class(out[len(out)-1])
			blocked := len(out)-1 > starter && (last == 0 || last >= c)
			if pair := []rune(norm.NFC.String(string([]rune{out[starter], r}))); !blocked && len(pair) == 1 {
				out[starter] = pair[0]
				continue
			}
		}
		if c == 0 {
			starter = len(out)
		}
		out = append(out, r)
	}
	return out
}

func strip(left, right bool) normalizer {
	return func(_ *encoder, s string, edit func(i, j int, with string)) {
		start, stop := 0, len(s)
		if left {
			start = len(s) - len(strings.TrimLeftFunc(s, unicode.IsSpace))
		}
		if right {
			stop = start + len(strings.TrimRightFunc(s[start:], unicode.IsSpace))
		}
		if start > 0 {
			edit(0, start, "")
		}
		if stop < len(s) {
			edit(stop, len(s), "")
		}
	}
}

func lowercase(_ *encoder, s string, edit func(i, j int, with string)) {
	for i, r := range s {
		switch low := unicode.ToLower(r); {
		case r == 'İ': // the one rune whose lower case is two
			edit(i, i+utf8.RuneLen(r), "i̇")
		case low != r:
			edit(i, i+utf8.RuneLen(r), string(low))
		}
	}
}
