package tokenizer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// GGUF is the tokenizer of a GGUF file: its tokenizer.ggml entries.
type GGUF struct {
	Model  string // "gpt2": byte-level BPE; "llama": SentencePiece's BPE
	Pre    string // how text is cut into words, by llama.cpp's name; "gpt2" only
	Tokens []string
	Types  []int32   // by id, see the constants; may be empty: all normal
	Scores []float32 // by id; "llama" only: of two merges the one that makes the token of higher score comes first
	Merges []string  // "gpt2" only: two tokens with a space between, in order
	// The ids of special tokens, -1 where there is none.
	BOS, EOS, UNK int32
	// Switches, nil where the file leaves them to the model.
	AddBOS, AddEOS, AddSpacePrefix *bool

	squeeze bool // spaces at the ends vanish, and all but one of a run; only a tokenizer.model says so
	modern  bool // a space is put before the text, and not again behind each special token
}

// The types of tokens in a GGUF file.
const (
	ggufNormal      = 1
	ggufUnknown     = 2
	ggufControl     = 3
	ggufUserDefined = 4
	ggufByte        = 6
)

// preTokenizer is what a name in tokenizer.ggml.pre means.
type preTokenizer struct {
	names        []string
	patterns     []string // cut the text one after the other
	digits       bool     // before, every digit is cut off
	gpt2         bool     // at last, GPT-2's pattern cuts
	nfc          bool     // the Hugging Face tokenizers of this kind normalise first
	ignoreMerges bool     // a word that is a token is not merged
	bos          bool     // BOS is put first unless the file says otherwise
}

const tekkenPattern = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// preTokenizers are those of the families that this program computes. The last one is what llama.cpp does where there is no name. Of the
// names of an entry the first is written.
var preTokenizers = []preTokenizer{
	{names: []string{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}, digits: true, gpt2: true},
	{names: []string{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"}, patterns: []string{llama3Pattern}, ignoreMerges: true, bos: true},
	{names: []string{"smaug-bpe", "dbrx"}, patterns: []string{llama3Pattern}},
	{names: []string{"qwen2", "deepseek-r1-qwen", "megrez"}, patterns: []string{qwen2Pattern}, nfc: true},
	{names: []string{"gpt-2", "gpt2", "phi-2", "olmo", "mpt", "trillion"}, gpt2: true},
	{names: []string{"tekken"}, patterns: []string{tekkenPattern}, ignoreMerges: true, bos: true},
	{names: []string{"default", ""}, patterns: []string{`[\p{P}\$\+<=>\^~\|]+`, `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`, `\p{N}+`, `[0-9][0-9][0-9]`}},
}

type object = map[string]any

// JSON returns the tokenizer as a tokenizer.json, which says the same in the form that everything else here reads.
func (g *GGUF) JSON() ([]byte, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	out := object{"version": "1.0", "truncation": nil, "padding": nil, "normalizer": nil, "pre_tokenizer": nil}
	var err error
	switch g.Model {
	case "gpt2":
		err = g.byteLevel(out)
	case "llama":
		g.sentencePiece(out)
	default:
		err = fmt.Errorf("tokenizer.ggml.model %q: want gpt2 or llama", g.Model)
	}
	if err != nil {
		return nil, err
	}
	out["added_tokens"] = g.addedTokens()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err = enc.Encode(out)
	return []byte(b.String()), err
}

func (g *GGUF) check() error {
	switch n := len(g.Tokens); {
	case n == 0:
		return errors.New("tokenizer.ggml.tokens is missing or empty")
	case len(g.Types) != 0 && len(g.Types) != n:
		return fmt.Errorf("tokenizer.ggml.token_type has %d entries, there are %d tokens", len(g.Types), n)
	case g.Model == "llama" && len(g.Scores) != n:
		return fmt.Errorf("tokenizer.ggml.scores has %d entries, there are %d tokens", len(g.Scores), n)
	}
	seen := make(map[string]int, len(g.Tokens))
	for id, token := range g.Tokens {
		if !utf8.ValidString(token) {
			return fmt.Errorf("tokenizer.ggml.tokens: token %d is not valid UTF-8", id)
		}
		if first, ok := seen[token]; ok {
			return fmt.Errorf("tokenizer.ggml.tokens: token %d (%q) has the spelling of token %d as well", id, token, first)
		}
		seen[token] = id
	}
	for _, id := range []struct {
		name string
		v    int32
	}{{"bos", g.BOS}, {"eos", g.EOS}, {"unknown", g.UNK}} {
		if id.v < -1 || int(id.v) >= len(g.Tokens) {
			return fmt.Errorf("tokenizer.ggml.%s_token_id is %d, there are %d tokens", id.name, id.v, len(g.Tokens))
		}
	}
	return nil
}

// typeOf returns a token's type.
func (g *GGUF) typeOf(id int) int32 {
	if len(g.Types) == 0 {
		return ggufNormal
	}
	return g.Types[id]
}

func (g *GGUF) vocab() map[string]int32 {
	vocab := make(map[string]int32, len(g.Tokens))
	for id, token := range g.Tokens {
		vocab[token] = int32(id)
	}
	return vocab
}

// addedTokens are those found in the text before anything else.
func (g *GGUF) addedTokens() []addedToken {
	added := []addedToken{}
	for id, token := range g.Tokens {
		switch t := g.typeOf(id); t {
		case ggufControl, ggufUnknown, ggufUserDefined:
			added = append(added, addedToken{ID: int32(id), Content: token, Special: t != ggufUserDefined, Normalized: t == ggufUserDefined && strings.Contains(token, spaceMark)})
		}
	}
	return added
}

// byteLevel fills in the sections of a model of GPT-2's kind.
func (g *GGUF) byteLevel(out object) error {
	i := slices.IndexFunc(preTokenizers, func(p preTokenizer) bool { return slices.Contains(p.names, g.Pre) })
	if i < 0 {
		return fmt.Errorf("tokenizer.ggml.pre %q is unknown: how this tokenizer cuts text into words cannot be told", g.Pre)
	}
	p := preTokenizers[i]
	if p.nfc {
		out["normalizer"] = object{"type": "NFC"}
	}
	out["pre_tokenizer"] = p.section()
	out["decoder"] = object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
	merges := make([][2]string, len(g.Merges))
	for i, m := range g.Merges {
		at := -1
		if len(m) > 0 {
			at = strings.IndexByte(m[1:], ' ') // a token may begin with a space, so the one that divides is not the first byte
		}
		if at < 0 {
			return fmt.Errorf("tokenizer.ggml.merges: entry %d is %q, want two tokens with a space between", i, m)
		}
		merges[i] = [2]string{m[:at+1], m[at+2:]}
	}
	out["model"] = g.modelSection(merges, object{"ignore_merges": p.ignoreMerges})
	out["post_processor"] = g.around(p.bos)
	return nil
}

// section returns the pre_tokenizer of tokenizer.json.
func (p *preTokenizer) section() object {
	var steps []object
	if p.digits {
		steps = append(steps, object{"type": "Digits", "individual_digits": true})
	}
	for _, pattern := range p.patterns {
		steps = append(steps, object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false})
	}
	steps = append(steps, object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": p.gpt2})
	if len(steps) == 1 {
		return steps[0]
	}
	return object{"type": "Sequence", "pretokenizers": steps}
}

func (g *GGUF) modelSection(merges [][2]string, more object) object {
	m := object{
		"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil, "end_of_word_suffix": nil,
		"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": g.vocab(), "merges": merges,
	}
	for k, v := range more {
		m[k] = v
	}
	return m
}

// around returns the post_processor: BOS and EOS where they are added.
func (g *GGUF) around(bos bool) any {
	if g.AddBOS != nil {
		bos = *g.AddBOS
	}
	bos, eos := bos && g.BOS >= 0, g.AddEOS != nil && *g.AddEOS && g.EOS >= 0
	if !bos && !eos {
		return nil
	}
	single, pair, special := []object{}, []object{}, object{}
	add := func(id int32) {
		token := g.Tokens[id]
		special[token] = object{"id": token, "ids": []int32{id}, "tokens": []string{token}}
		single = append(single, object{"SpecialToken": object{"id": token, "type_id": 0}})
	}
	if bos {
		add(g.BOS)
	}
	single = append(single, object{"Sequence": object{"id": "A", "type_id": 0}})
	if eos {
		add(g.EOS)
	}
	pair = append(pair, object{"Sequence": object{"id": "A", "type_id": 0}}, object{"Sequence": object{"id": "B", "type_id": 1}})
	return object{"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
}

// sentencePiece fills in the sections of a model of Llama 2's kind.
func (g *GGUF) sentencePiece(out object) {
	prefix := g.AddSpacePrefix == nil || *g.AddSpacePrefix
	var steps []object
	if g.squeeze {
		steps = append(steps, object{"type": "Replace", "pattern": object{"Regex": `(?<![ ▁])[ ▁]+\z|\A +|(?<= ) +`}, "content": ""})
	}
	if prefix && !g.modern {
		steps = append(steps, object{"type": "Prepend", "prepend": spaceMark})
	}
	if g.modern {
		scheme := "never"
		if prefix {
			scheme = "first"
		}
		out["pre_tokenizer"] = object{"type": "Metaspace", "replacement": spaceMark, "prepend_scheme": scheme, "split": false}
	} else {
		steps = append(steps, object{"type": "Replace", "pattern": object{"String": " "}, "content": spaceMark})
	}
	switch len(steps) {
	case 0:
	case 1:
		out["normalizer"] = steps[0]
	default:
		out["normalizer"] = object{"type": "Sequence", "normalizers": steps}
	}
	decoders := []object{{"type": "Replace", "pattern": object{"String": spaceMark}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}}
	if g.squeeze { // whatever spaces ids begin with, no text did
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": math.MaxInt32, "stop": 0})
	} else if prefix {
		decoders = append(decoders, object{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	out["decoder"] = object{"type": "Sequence", "decoders": decoders}
	more := object{"byte_fallback": true, "fuse_unk": true}
	if g.UNK >= 0 {
		more["unk_token"] = g.Tokens[g.UNK]
	}
	out["model"] = g.modelSection(g.scoredMerges(), more)
	out["post_processor"] = g.around(true)
}

// scoredMerges lists every pair of tokens that make a third, the one of higher score first. SentencePiece merges by score alone; where
// two pairs make the same token, the order is the one of Hugging Face's converter.
func (g *GGUF) scoredMerges() [][2]string {
	vocab := g.vocab()
	type scored struct {
		left, right string
		score       float32
	}
	var all []scored
	for id, token := range g.Tokens {
		if t := g.typeOf(id); t != ggufNormal && t != ggufUserDefined {
			continue
		}
		from := len(all)
		for i := range token {
			if _, ok := vocab[token[:i]]; !ok || i == 0 {
				continue
			}
			if _, ok := vocab[token[i:]]; ok {
				all = append(all, scored{token[:i], token[i:], g.Scores[id]})
			}
		}
		slices.SortFunc(all[from:], func(a, b scored) int {
			return cmp.Or(cmp.Compare(vocab[a.left], vocab[b.left]), cmp.Compare(vocab[a.right], vocab[b.right]))
		})
	}
	slices.SortStableFunc(all, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	merges := make([][2]string, len(all))
	for i, m := range all {
		merges[i] = [2]string{m.left, m.right}
	}
	return merges
}
