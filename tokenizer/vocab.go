package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// reader walks over JSON that encoding/json has found valid. Vocabularies and merges are most of a tokenizer.json, and
// reflection over a hundred thousand small values takes longer than everything else together.
type reader struct {
	data []byte
	at   int
}

// peek skips white space and returns the byte that follows, or 0 at the end.
func (r *reader) peek() byte {
	for r.at < len(r.data) {
		switch b := r.data[r.at]; b {
		case ' ', '\t', '\n', '\r', ',', ':':
			r.at++
		default:
			return b
		}
	}
	return 0
}

// open steps into an array or object.
func (r *reader) open(bracket byte) error {
	if b := r.peek(); b != bracket {
		return fmt.Errorf("%q where %q should be", b, bracket)
	}
	r.at++
	return nil
}

func (r *reader) string() (string, error) {
	if b := r.peek(); b != '"' {
		return "", fmt.Errorf("%q where a string should be", b)
	}
	start := r.at
	for r.at++; r.at < len(r.data) && r.data[r.at] != '"'; r.at++ {
		if r.data[r.at] == '\\' {
			r.at++
		}
	}
	r.at++
	raw := r.data[start:r.at]
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err
}

func (r *reader) id() (int32, error) {
	r.peek()
	start := r.at
	for r.at < len(r.data) && strings.IndexByte("0123456789+-.eE", r.data[r.at]) >= 0 {
		r.at++
	}
	n, err := strconv.ParseInt(string(r.data[start:r.at]), 10, 32)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("id %q is not a number from 0 to %d", r.data[start:r.at], math.MaxInt32)
	}
	return int32(n), nil
}

// checkTop refuses ids that only a damaged file has: the id table must not be larger than the file justifies.
func checkTop(top int32, tokens int) error {
	const gap = 1 << 16
	if int64(top) > 2*int64(tokens)+gap {
		return fmt.Errorf("id %d with only %d tokens", top, tokens)
	}
	return nil
}

// loadModel fills the BPE model and the id tables from the model section.
func (t *Tokenizer) loadModel(f *file) error {
	c, m := &f.Model, &t.model
	switch {
	case c.Type != "BPE" && (c.Type != "" || c.Merges == nil):
		return fmt.Errorf("type %q is not supported, only BPE is", c.Type)
	case c.Dropout != nil && *c.Dropout != 0:
		return fmt.Errorf("dropout %v is not supported: ids would be random", *c.Dropout)
	case c.Prefix != "" || c.Suffix != "":
		return fmt.Errorf("continuing_subword_prefix %q and end_of_word_suffix %q are not supported", c.Prefix, c.Suffix)
	}
	m.fuseUnk, m.byteFallback, m.ignoreMerges = c.FuseUnk, c.ByteFallback, c.IgnoreMerges
	if err := t.loadVocab(c.Vocab); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	if err := m.loadMerges(c.Merges); err != nil {
		return fmt.Errorf("merges: %w", err)
	}
	m.unk = -1
	if c.UnkToken != nil {
		id, ok := m.vocab[*c.UnkToken]
		if !ok {
			return fmt.Errorf("unk_token %q is not in the vocabulary", *c.UnkToken)
		}
		m.unk = id
	}
	for b := range m.bytes {
		spelling := string(byteRunes[b])
		if !m.byteLevel {
			spelling = fmt.Sprintf("<0x%02X>", b)
		}
		id, ok := m.vocab[spelling]
		if !ok {
			id = -1
		}
		m.bytes[b] = id
	}
	m.cache = newWordCache()
	return nil
}

func (t *Tokenizer) loadVocab(raw json.RawMessage) error {
	r := reader{data: raw}
	if err := r.open('{'); err != nil {
		return err
	}
	type entry struct {
		token string
		id    int32
	}
	var entries []entry
	top := int32(-1)
	for r.peek() != '}' {
		token, err := r.string()
		if err != nil {
			return err
		}
		id, err := r.id()
		if err != nil {
			return fmt.Errorf("token %q: %w", token, err)
		}
		entries = append(entries, entry{token, id})
		top = max(top, id)
	}
	if err := checkTop(top, len(entries)); err != nil {
		return err
	}
	t.tokens, t.held = make([]string, top+1), make([]bool, top+1)
	t.model.vocab = make(map[string]int32, len(entries))
	for _, e := range entries {
		t.model.vocab[e.token] = e.id
		t.tokens[e.id], t.held[e.id] = e.token, true
	}
	return nil
}

// spaceMark is what SentencePiece writes for a space.
const spaceMark = "▁"

func (m *model) loadMerges(raw json.RawMessage) error {
	r := reader{data: raw}
	if err := r.open('['); err != nil {
		return err
	}
	_, cuttable := m.vocab[spaceMark]
	cuttable = cuttable && !m.byteLevel && !m.ignoreMerges
	m.merges = make(map[uint64]merge, len(raw)/24)
	var joined []byte
	for rank := int32(0); r.peek() != ']'; rank++ {
		a, b, err := r.pair()
		if err != nil {
			return fmt.Errorf("merge %d: %w", rank, err)
		}
		joined = append(append(joined[:0], a...), b...)
		left, okA := m.vocab[a]
		right, okB := m.vocab[b]
		id, ok := m.vocab[string(joined)]
		if !okA || !okB || !ok {
			return fmt.Errorf("merge %d: %q, %q or both together are not in the vocabulary", rank, a, b)
		}
		m.merges[pairKey(left, right)] = merge{rank, id}
		cuttable = cuttable && !joinsWords(string(joined))
	}
	if cuttable {
		m.mark = spaceMark
	}
	return nil
}

// joinsWords reports whether token has a space mark after anything but a space mark. If no merge makes such a token, no merge
// ever reaches across the beginning of a word, and words may be merged one by one.
func joinsWords(token string) bool {
	inner := strings.TrimLeft(token, spaceMark)
	return strings.Contains(inner, spaceMark)
}

// pair reads one merge: "a b" or ["a", "b"].
func (r *reader) pair() (a, b string, err error) {
	if r.peek() != '[' {
		s, err := r.string()
		if err != nil {
			return "", "", err
		}
		a, b, ok := strings.Cut(s, " ")
		if !ok || strings.Contains(b, " ") {
			return "", "", fmt.Errorf("%q is not two tokens with a space between", s)
		}
		return a, b, nil
	}
	r.at++
	if a, err = r.string(); err != nil {
		return "", "", err
	}
	if b, err = r.string(); err != nil {
		return "", "", err
	}
	if r.peek() != ']' {
		return "", "", errors.New("more than two tokens")
	}
	r.at++
	return a, b, nil
}

// validIDs reports an id that has no token.
func (t *Tokenizer) validIDs(ids []int32) error {
	if i := slices.IndexFunc(ids, func(id int32) bool { _, ok := t.Token(id); return !ok }); i >= 0 {
		return fmt.Errorf("id %d has no token", ids[i])
	}
	return nil
}

// oneRune returns the only rune of s.
func oneRune(s string) (rune, error) {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 || n != len(s) {
		return 0, fmt.Errorf("%q is not one character", s)
	}
	return r, nil
}
