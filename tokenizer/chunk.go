package tokenizer

import "strings"

// chunk is a piece of the text on its way to the model, perhaps rewritten, that remembers where its bytes come from.
type chunk struct {
	s     string
	first bool     // nothing of the text precedes it
	base  int      // offset of s in the text, unless spans are kept
	spans [][2]int // the origin of each byte of s; nil while s is a piece of the text as it was
}

// cut returns bytes i to j of c.
func (c chunk) cut(i, j int) chunk {
	d := chunk{s: c.s[i:j], first: c.first && i == 0, base: c.base + i}
	if c.spans != nil {
		d.spans = c.spans[i:j]
	}
	return d
}

// origin returns the range of the text that bytes i to j of c come from.
func (c chunk) origin(i, j int) [2]int {
	switch {
	case c.spans == nil:
		return [2]int{c.base + i, c.base + j}
	case i < j:
		return [2]int{c.spans[i][0], c.spans[j-1][1]}
	case i < len(c.spans):
		return [2]int{c.spans[i][0], c.spans[i][0]}
	case len(c.spans) > 0:
		return [2]int{c.spans[i-1][1], c.spans[i-1][1]}
	}
	return [2]int{}
}

// normalizer calls edit for each range of s that it replaces, from left to right.
type normalizer func(e *encoder, s string, edit func(i, j int, with string))

// rewrite applies a normalizer to c; origins are followed only if e tracks them.
func (e *encoder) rewrite(c chunk, n normalizer) chunk {
	var b strings.Builder
	var spans [][2]int
	done, changed := 0, false
	keep := func(i int) {
		b.WriteString(c.s[done:i])
		for k := done; e.track && k < i; k++ {
			spans = append(spans, c.origin(k, k+1))
		}
	}
	n(e, c.s, func(i, j int, with string) {
		if !changed {
			b.Grow(len(c.s) + len(c.s)/2)
		}
		changed = true
		keep(i)
		b.WriteString(with)
		if e.track {
			from := c.origin(i, j)
			for range len(with) {
				spans = append(spans, from)
			}
		}
		done = j
	})
	if !changed {
		return c
	}
	keep(len(c.s))
	return chunk{s: b.String(), first: c.first, base: c.base, spans: spans}
}
