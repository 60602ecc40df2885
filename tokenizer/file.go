package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// component is any entry of the normalizer, pre_tokenizer, post_processor and decoder sections: Type says which fields count.
type component struct {
	Type             string
	Normalizers      []component
	Pretokenizers    []component
	Processors       []component
	Decoders         []component
	Pattern          *pattern
	Content          string
	Prepend          string
	StripLeft        bool `json:"strip_left"`
	StripRight       bool `json:"strip_right"`
	Behavior         string
	Invert           bool
	IndividualDigits bool  `json:"individual_digits"`
	AddPrefixSpace   *bool `json:"add_prefix_space"`
	UseRegex         *bool `json:"use_regex"`
	Replacement      string
	PrependScheme    string `json:"prepend_scheme"`
	Split            *bool
	Start, Stop      int
	Single           []templateItem
	SpecialTokens    map[string]struct{ IDs []int32 } `json:"special_tokens"`
	Sep, Cls         []any
}

// flatten lists the components of a section in the order they act; nested gives the members of a Sequence.
func flatten(c *component, nested func(*component) []component) []*component {
	if c == nil {
		return nil
	}
	if c.Type != "Sequence" {
		return []*component{c}
	}
	var all []*component
	members := nested(c)
	for i := range members {
		all = append(all, flatten(&members[i], nested)...)
	}
	return all
}

// metaspace returns the mark that stands for a space and the prepend scheme: always, first or never.
func (c *component) metaspace() (mark, scheme string, err error) {
	scheme = c.PrependScheme
	if scheme == "" { // files older than prepend_scheme
		scheme = "always"
		if c.AddPrefixSpace != nil && !*c.AddPrefixSpace {
			scheme = "never"
		}
	}
	if scheme != "always" && scheme != "first" && scheme != "never" {
		return "", "", fmt.Errorf("prepend_scheme %q is not supported", scheme)
	}
	if utf8.RuneCountInString(c.Replacement) != 1 {
		return "", "", fmt.Errorf("replacement %q is not one character", c.Replacement)
	}
	return c.Replacement, scheme, nil
}

// file is tokenizer.json. The two large lists of the model stay raw: see vocab.go.
type file struct {
	AddedTokens   []addedToken `json:"added_tokens"`
	Normalizer    *component
	PreTokenizer  *component `json:"pre_tokenizer"`
	PostProcessor *component `json:"post_processor"`
	Decoder       *component
	Model         struct {
		Type         string
		Dropout      *float64
		UnkToken     *string `json:"unk_token"`
		Prefix       string  `json:"continuing_subword_prefix"`
		Suffix       string  `json:"end_of_word_suffix"`
		FuseUnk      bool    `json:"fuse_unk"`
		ByteFallback bool    `json:"byte_fallback"`
		IgnoreMerges bool    `json:"ignore_merges"`
		Vocab        json.RawMessage
		Merges       json.RawMessage
	}
}

// Load reads dir/tokenizer.json, or dir/tokenizer.model where there is none, and, where the tokenizer class obeys them, the BOS and EOS
// switches of dir/tokenizer_config.json.
func Load(dir string) (*Tokenizer, error) {
	var bad error
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			bad = err
		}
		return data
	}
	data, config := read("tokenizer.json"), read("tokenizer_config.json")
	if data == nil && bad == nil {
		pieces, added := read("tokenizer.model"), read("added_tokens.json")
		if pieces == nil && bad == nil {
			return nil, fmt.Errorf("%s: neither tokenizer.json nor tokenizer.model is there", dir)
		}
		if bad == nil {
			data, bad = SentencePieceJSON(pieces, added, config)
		}
		if bad != nil {
			bad = fmt.Errorf("%s: %w", dir, bad)
		}
	}
	if bad != nil {
		return nil, bad
	}
	t, err := ParseWith(data, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return t, nil
}

// ParseWith reads the contents of a tokenizer.json and of the tokenizer_config.json beside it, which may be nil.
func ParseWith(data, config []byte) (*Tokenizer, error) {
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w", err)
	}
	if config != nil {
		if err := t.configure(config); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w", err)
		}
	}
	return t, nil
}

// Parse reads the content of a tokenizer.json.
func Parse(data []byte) (*Tokenizer, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not valid UTF-8")
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	t := &Tokenizer{}
	var err error
	if t.splitters, t.model.byteLevel, err = buildSplitters(f.PreTokenizer); err != nil {
		return nil, err
	}
	if t.normalizer, err = buildNormalizers(f.Normalizer); err != nil {
		return nil, err
	}
	if err := t.loadModel(&f); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if err := t.addTokens(f.AddedTokens); err != nil {
		return nil, err
	}
	if err := t.postProcess(f.PostProcessor); err != nil {
		return nil, err
	}
	t.spaced = f.Decoder == nil
	if t.decoder, err = buildDecoder(f.Decoder); err != nil {
		return nil, err
	}
	return t, nil
}

// addTokens enters the added tokens into the id tables and builds the matchers that find them.
func (t *Tokenizer) addTokens(added []addedToken) error {
	t.added = make(map[string]int32, len(added))
	top := int32(len(t.tokens)) - 1
	for _, a := range added {
		top = max(top, a.ID)
	}
	if err := checkTop(top, len(t.tokens)+len(added)); err != nil {
		return err
	}
	t.tokens = slices.Grow(t.tokens, int(top)+1-len(t.tokens))[:top+1]
	t.held = slices.Grow(t.held, int(top)+1-len(t.held))[:top+1]
	t.special = make([]bool, top+1)
	var raw, normalized []addedToken
	e := encoder{t: t}
	for _, a := range added {
		if id, ok := t.model.vocab[a.Content]; ok {
			a.ID = id // a token of the model keeps the model's id, whatever the entry says
		}
		if a.ID < 0 {
			return fmt.Errorf("added token %q: id %d", a.Content, a.ID)
		}
		t.added[a.Content], t.tokens[a.ID], t.held[a.ID] = a.ID, a.Content, true
		t.special[a.ID] = a.Special
		if !a.Normalized {
			raw = append(raw, a)
			continue
		}
		c := chunk{s: a.Content, first: true}
		for _, n := range t.normalizer {
			c = e.rewrite(c, n)
		}
		a.Content = c.s // the text it is looked for in is normalised too
		normalized = append(normalized, a)
	}
	t.raw, t.normalized = newMatcher(raw), newMatcher(normalized)
	return e.err
}
