// Package tokenizer turns text into token ids and back, by the rules a Hugging Face tokenizer.json states:
// the BPE models of the Llama, GPT-2, GPT-NeoX, SmolLM and Qwen families, byte-level or SentencePiece-style.
package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// Tokenizer is a loaded tokenizer.json. It is safe for concurrent use.
type Tokenizer struct {
	tokens  []string // by id; an id without a token has held[id] == false
	held    []bool
	special []bool
	added   map[string]int32 // ids of the added tokens; the others are in model.vocab

	raw        *matcher // added tokens found in the text as it is
	normalized *matcher // added tokens found after normalisation
	normalizer []normalizer
	splitters  []splitter
	model      model
	prefix     []int32 // what the post-processor puts around a single sequence
	suffix     []int32
	decoder    []step
	spaced     bool // no decoder section: tokens are joined with spaces
}

// Encode returns the ids of text. Added tokens such as "<s>" are recognised inside it; addSpecial also puts the
// post-processor's tokens (BOS, EOS) around them. Text that is not valid UTF-8 is an error.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int32, error) {
	e := encoder{t: t, ids: make([]int32, 0, len(text)/3+4)}
	if err := e.run(text, addSpecial); err != nil {
		return nil, err
	}
	return e.ids, nil
}

// EncodeOffsets is Encode with the half-open byte range of text that each id stands for. A token that the tokenizer put in
// (BOS, a prepended space) has an empty range; one that spells some bytes of a character has the range of these bytes, unless
// normalisation changed the character: then all its ids have the range of the whole.
func (t *Tokenizer) EncodeOffsets(text string, addSpecial bool) ([]int32, [][2]int, error) {
	e := encoder{t: t, track: true}
	if err := e.run(text, addSpecial); err != nil {
		return nil, nil, err
	}
	return e.ids, e.spans, nil
}

// Decode returns the text of ids. skipSpecial leaves out special tokens. Bytes that are no valid UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) (string, error) {
	s := t.NewStream(skipSpecial)
	for i, id := range ids {
		if _, ok := t.Token(id); !ok {
			return "", fmt.Errorf("id %d at position %d has no token: the vocabulary ends at %d", id, i, len(t.tokens))
		}
		s.push(id)
	}
	return s.Flush(), nil
}

// VocabSize returns the highest id plus one, added tokens included. A model's embedding may have more rows.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token, spelled as in tokenizer.json (byte-level tokens in their byte alphabet).
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.added[token]
	if !ok {
		id, ok = t.model.vocab[token]
	}
	return id, ok
}

// Token returns the token of an id, spelled as in tokenizer.json.
func (t *Tokenizer) Token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(t.tokens) || !t.held[id] {
		return "", false
	}
	return t.tokens[id], true
}

// IsSpecial reports whether id is an added token marked special.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return id >= 0 && int(id) < len(t.special) && t.special[id]
}

// encoder is the work of one Encode.
type encoder struct {
	t     *Tokenizer
	track bool // fill spans
	ids   []int32
	spans [][2]int // one per id, if track
	err   error    // the first failure of a regular expression
	merge merger
}

func (e *encoder) run(text string, addSpecial bool) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("text is not valid UTF-8 at byte %d", invalidAt(text))
	}
	if addSpecial {
		e.append(e.t.prefix, [2]int{})
	}
	e.t.raw.split(chunk{s: text, first: true}, func(c chunk, id int32) {
		if id >= 0 {
			e.append([]int32{id}, c.origin(0, len(c.s)))
			return
		}
		for _, n := range e.t.normalizer {
			c = e.rewrite(c, n)
		}
		e.t.normalized.split(c, func(c chunk, id int32) {
			if id >= 0 {
				e.append([]int32{id}, c.origin(0, len(c.s)))
				return
			}
			e.pretokenize(c, 0)
		})
	})
	if addSpecial {
		e.append(e.t.suffix, [2]int{len(text), len(text)})
	}
	return e.err
}

// append adds ids that all come from one range of the text.
func (e *encoder) append(ids []int32, from [2]int) {
	e.ids = append(e.ids, ids...)
	if e.track {
		for range ids {
			e.spans = append(e.spans, from)
		}
	}
}

// pretokenize sends c through the splitters from the i-th on, and what comes out of the last to the model.
func (e *encoder) pretokenize(c chunk, i int) {
	if c.s == "" || e.err != nil {
		return
	}
	if i == len(e.t.splitters) {
		e.word(c)
		return
	}
	e.t.splitters[i](e, c, func(c chunk) { e.pretokenize(c, i+1) })
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func invalidAt(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return len(s)
}
