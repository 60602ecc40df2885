package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// NewGGUF returns the GGUF form of a tokenizer.json and of the tokenizer_config.json beside it, which may be nil. What the form cannot
// say is an error. BOS and EOS are those that the tokenizer itself adds, or -1.
func NewGGUF(data, config []byte) (*GGUF, error) {
	t, err := ParseWith(data, config)
	if err != nil {
		return nil, err
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("tokenizer.json: invalid JSON: %w", err)
	}
	g := &GGUF{Tokens: slices.Clone(t.tokens), Types: make([]int32, len(t.tokens)), BOS: -1, EOS: -1, UNK: -1}
	for id := range g.Tokens {
		g.Types[id] = ggufNormal
		if !t.held[id] {
			g.Tokens[id], g.Types[id] = fmt.Sprintf("[PAD%d]", id), ggufUnused
		}
	}
	for _, id := range t.added {
		g.Types[id] = ggufUserDefined
		if t.special[id] {
			g.Types[id] = ggufControl
		}
	}
	if err := g.ends(t); err != nil {
		return nil, err
	}
	merges, err := readMerges(f.Model.Merges)
	if err != nil {
		return nil, err
	}
	if t.model.byteLevel {
		err = g.fromByteLevel(&f, merges)
	} else {
		err = g.fromSentencePiece(t, &f, merges)
	}
	return g, err
}

// ggufUnused is the type of ids that have no token.
const ggufUnused = 5

// Pad adds tokens without meaning until there are n, as many as the model's embedding has rows.
func (g *GGUF) Pad(n int) {
	for id := len(g.Tokens); id < n; id++ {
		g.Tokens, g.Types = append(g.Tokens, fmt.Sprintf("[PAD%d]", id)), append(g.Types, ggufUnused)
		if g.Scores != nil {
			g.Scores = append(g.Scores, unreachable)
		}
	}
}

// unreachable is the score of tokens that no merge makes.
const unreachable = -1e9

// ends takes over what the tokenizer puts around a text.
func (g *GGUF) ends(t *Tokenizer) error {
	if len(t.prefix) > 1 || len(t.suffix) > 1 {
		return fmt.Errorf("the tokenizer puts %d tokens before and %d after a text, GGUF has a place for one of each", len(t.prefix), len(t.suffix))
	}
	bos, eos := len(t.prefix) == 1, len(t.suffix) == 1
	g.AddBOS, g.AddEOS = &bos, &eos
	if bos {
		g.BOS = t.prefix[0]
	}
	if eos {
		g.EOS = t.suffix[0]
	}
	return nil
}

func readMerges(raw json.RawMessage) ([][2]string, error) {
	r := reader{data: raw}
	if err := r.open('['); err != nil {
		return nil, err
	}
	var merges [][2]string
	for r.peek() != ']' {
		a, b, err := r.pair()
		if err != nil {
			return nil, err
		}
		merges = append(merges, [2]string{a, b})
	}
	return merges, nil
}

func (g *GGUF) fromByteLevel(f *file, merges [][2]string) error {
	g.Model = "gpt2"
	var p preTokenizer
	for _, c := range flatten(f.PreTokenizer, func(c *component) []component { return c.Pretokenizers }) {
		switch {
		case c.Type == "Digits" && c.IndividualDigits && len(p.patterns) == 0:
			p.digits = true
		case c.Type == "Split" && c.Behavior == "Isolated" && !c.Invert && c.Pattern != nil && c.Pattern.Regex != nil:
			p.patterns = append(p.patterns, *c.Pattern.Regex)
		case c.Type == "ByteLevel" && (c.AddPrefixSpace == nil || !*c.AddPrefixSpace):
			p.gpt2 = c.UseRegex == nil || *c.UseRegex
		default:
			return fmt.Errorf("tokenizer.json: pre_tokenizer %s has no name in GGUF", c.Type)
		}
	}
	for _, c := range flatten(f.Normalizer, func(c *component) []component { return c.Normalizers }) {
		if c.Type != "NFC" { // llama.cpp does not normalise; nearly all text is in this form already
			return fmt.Errorf("tokenizer.json: normalizer %s has no place in GGUF", c.Type)
		}
	}
	i := slices.IndexFunc(preTokenizers, func(q preTokenizer) bool {
		return q.digits == p.digits && q.gpt2 == p.gpt2 && q.ignoreMerges == f.Model.IgnoreMerges && slices.Equal(q.patterns, p.patterns)
	})
	if i < 0 {
		return errors.New("tokenizer.json: this way to cut text into words has no name in GGUF")
	}
	g.Pre = preTokenizers[i].names[0]
	for _, m := range merges {
		if strings.ContainsRune(m[0], ' ') || strings.ContainsRune(m[1], ' ') {
			return fmt.Errorf("tokenizer.json: the merge of %q and %q cannot be written in GGUF", m[0], m[1])
		}
		g.Merges = append(g.Merges, m[0]+" "+m[1])
	}
	return nil
}

// fromSentencePiece gives the tokens scores that make the merges happen in the same order.
func (g *GGUF) fromSentencePiece(t *Tokenizer, f *file, merges [][2]string) error {
	g.Model, g.Pre = "llama", "default"
	prefix, err := spacePrefix(f)
	if err != nil {
		return err
	}
	g.AddSpacePrefix, g.UNK = &prefix, t.model.unk
	g.Scores = make([]float32, len(g.Tokens))
	for id := range g.Scores {
		g.Scores[id] = unreachable
	}
	for _, id := range t.model.bytes {
		if id >= 0 {
			g.Types[id], g.Scores[id] = ggufByte, 0
		}
	}
	if g.UNK >= 0 {
		g.Types[g.UNK] = ggufUnknown
	}
	for id, kind := range g.Types {
		if kind == ggufControl || kind == ggufUnknown {
			g.Scores[id] = 0
		}
	}
	for i := len(merges) - 1; i >= 0; i-- {
		id := t.model.vocab[merges[i][0]+merges[i][1]]
		if g.Types[id] == ggufNormal {
			g.Scores[id] = -float32(i)
		}
	}
	// Merging by score uses every pair of tokens that makes a third, in the order of the third's score.
	scored := g.scoredMerges()
	listed := make(map[[2]string]bool, len(merges))
	for _, m := range merges {
		listed[m] = true
	}
	for i, m := range scored {
		if len(scored) != len(merges) || !listed[m] || m[0]+m[1] != merges[i][0]+merges[i][1] {
			return fmt.Errorf("tokenizer.json: the order of its merges does not come from scores of tokens, so GGUF cannot say it (merge %d)", i)
		}
	}
	return nil
}

// spacePrefix reports whether a space is put before the text, and refuses what is not SentencePiece's way.
func spacePrefix(f *file) (bool, error) {
	prefix, marks := false, false
	for _, c := range flatten(f.Normalizer, func(c *component) []component { return c.Normalizers }) {
		switch {
		case c.Type == "Prepend" && c.Prepend == spaceMark:
			prefix = true
		case c.Type == "Replace" && c.Pattern != nil && c.Pattern.String != nil && *c.Pattern.String == " " && c.Content == spaceMark:
			marks = true
		default:
			return false, fmt.Errorf("tokenizer.json: normalizer %s has no place in GGUF", c.Type)
		}
	}
	for _, c := range flatten(f.PreTokenizer, func(c *component) []component { return c.Pretokenizers }) {
		if c.Type != "Metaspace" {
			return false, fmt.Errorf("tokenizer.json: pre_tokenizer %s has no name in GGUF", c.Type)
		}
		mark, scheme, err := c.metaspace()
		if err != nil || mark != spaceMark {
			return false, errors.Join(errors.New("tokenizer.json: pre_tokenizer Metaspace has another mark than U+2581"), err)
		}
		prefix, marks = scheme != "never", true
	}
	if !marks || !f.Model.ByteFallback {
		return false, errors.New("tokenizer.json: neither byte-level nor SentencePiece's kind, so GGUF has no name for it")
	}
	return prefix, nil
}
