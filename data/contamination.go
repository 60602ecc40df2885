package data

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"os"
	"strings"
	"unicode"
)

// Overlap finds text that stands in evaluation sets too: runs of words that both have (the n-grams of GPT-3's appendix C, 13 words). A text with fewer
// words is found as a whole.
type Overlap struct {
	words int
	seed  maphash.Seed
	found map[uint64]string // hash of a run to the set that it stands in
	short map[int]bool      // lengths of runs that are whole texts
}

// minOverlapWords is the least number of words of a text that can be found: shorter ones stand everywhere.
const minOverlapWords = 6

// NewOverlap reads evaluation sets: every string of at least minOverlapWords words in their rows. The files are of any of the forms that rows have.
func NewOverlap(words int, paths ...string) (*Overlap, error) {
	o := &Overlap{words: words, seed: maphash.MakeSeed(), found: map[uint64]string{}, short: map[int]bool{}}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = fileRows(f, func(_ int, text []byte) bool {
			var v any
			if json.Unmarshal(text, &v) == nil {
				o.addStrings(v, path)
			}
			return true
		})
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return o, nil
}

// addStrings adds all strings of a JSON value.
func (o *Overlap) addStrings(v any, set string) {
	switch x := v.(type) {
	case string:
		o.add(x, set)
	case []any:
		for _, e := range x {
			o.addStrings(e, set)
		}
	case map[string]any:
		for _, e := range x {
			o.addStrings(e, set)
		}
	}
}

func (o *Overlap) add(text, set string) {
	words := plainWords(text)
	n := o.words
	if len(words) < n {
		if n = len(words); n < minOverlapWords {
			return
		}
		o.short[n] = true
	}
	for i := 0; i+n <= len(words); i++ {
		o.found[o.hash(words[i:i+n])] = set
	}
}

func (o *Overlap) hash(words []string) uint64 {
	return maphash.String(o.seed, strings.Join(words, " "))
}

// In returns the evaluation set that shares a run of words with the text, and whether there is one.
func (o *Overlap) In(text string) (set string, found bool) {
	words := plainWords(text)
	lengths := []int{o.words}
	for n := range o.short {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		for i := 0; i+n <= len(words); i++ {
			if set, ok := o.found[o.hash(words[i:i+n])]; ok {
				return set, true
			}
		}
	}
	return "", false
}

// plainWords returns the words of a text in small letters, without what is neither letter nor digit.
func plainWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// Text returns all that is said in an example.
func (c *Chat) Text() string {
	var b strings.Builder
	for _, m := range c.Messages {
		b.WriteString(m.Content)
		b.WriteByte('\n')
	}
	if len(c.Messages) == 0 {
		b.WriteString(c.Prompt + c.Completion)
	}
	return b.String()
}
