package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// SentencePieceJSON returns the tokenizer of a tokenizer.model as a tokenizer.json. added is the added_tokens.json beside it and config the
// tokenizer_config.json; either may be nil. The model must be SentencePiece's BPE; as Transformers does, the text between special tokens is
// cut and marked by itself.
func SentencePieceJSON(model, added, config []byte) ([]byte, error) {
	g, err := readSentencePiece(model)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w", err)
	}
	if err := g.addFrom(added, config); err != nil {
		return nil, err
	}
	return g.JSON()
}

// readSentencePiece reads the protocol buffer ModelProto of sentencepiece_model.proto.
func readSentencePiece(data []byte) (*GGUF, error) {
	m := spModel{GGUF: GGUF{Model: "llama", BOS: -1, EOS: -1, UNK: -1}, bos: "<s>", eos: "</s>", kind: spUnigram, prefix: true, squeeze: true, escape: true}
	err := eachField(data, func(f field) error {
		switch f.number {
		case 1:
			return m.addPiece(f)
		case 2:
			return m.trainer(f)
		case 3:
			return m.normalizer(f)
		}
		return nil
	})
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, err
	}
	g := &m.GGUF
	g.AddSpacePrefix, g.squeeze = &m.prefix, m.squeeze
	for id, token := range g.Tokens {
		switch t := g.Types[id]; {
		case t == ggufUnknown && g.UNK < 0:
			g.UNK = int32(id)
		case t == ggufControl && token == m.bos:
			g.BOS = int32(id)
		case t == ggufControl && token == m.eos:
			g.EOS = int32(id)
		}
	}
	return g, g.check()
}

// The kinds of models, as trainer_spec numbers them.
const (
	spUnigram = 1
	spBPE     = 2
)

// spLongest bounds the bytes of a piece: every way to cut one in two is tried. The longest known are runs of a hundred spaces.
const spLongest = 1 << 10

// spModel is what a ModelProto says.
type spModel struct {
	GGUF
	bos, eos                string
	kind                    uint64
	prefix, squeeze, escape bool // of the normalizer
	suffix                  bool // spaces mark the end of words
	charsmap                int  // bytes of normalization rules
	byteFallback            bool
}

func (m *spModel) addPiece(f field) error {
	piece, score, kind := "", float32(0), int32(ggufNormal)
	err := eachField(f.bytes, func(f field) error {
		switch f.number {
		case 1:
			piece = string(f.bytes)
		case 2:
			score = math.Float32frombits(uint32(f.value))
		case 3:
			kind = int32(min(f.value, math.MaxInt32))
		}
		return nil
	})
	if err == nil && (kind < ggufNormal || kind > ggufByte) {
		err = fmt.Errorf("type %d is unknown", kind)
	}
	if err == nil && kind == ggufUnused {
		err = errors.New("it is marked unused, which is not supported")
	}
	if err == nil && piece == "" {
		err = errors.New("it is empty")
	}
	if err == nil && len(piece) > spLongest {
		err = fmt.Errorf("it has %d bytes, more than %d", len(piece), spLongest)
	}
	if err == nil && score != score {
		err = errors.New("its score is not a number")
	}
	if err != nil {
		return fmt.Errorf("piece %d: %w", len(m.Tokens), err)
	}
	m.Tokens, m.Scores, m.Types = append(m.Tokens, piece), append(m.Scores, score), append(m.Types, kind)
	return nil
}

func (m *spModel) trainer(f field) error {
	return eachField(f.bytes, func(f field) error {
		switch f.number {
		case 3:
			m.kind = f.value
		case 24:
			m.suffix = f.value != 0
		case 35:
			m.byteFallback = f.value != 0
		case 46:
			m.bos = string(f.bytes)
		case 47:
			m.eos = string(f.bytes)
		}
		return nil
	})
}

func (m *spModel) normalizer(f field) error {
	return eachField(f.bytes, func(f field) error {
		switch f.number {
		case 2:
			m.charsmap = len(f.bytes)
		case 3:
			m.prefix = f.value != 0
		case 4:
			m.squeeze = f.value != 0
		case 5:
			m.escape = f.value != 0
		}
		return nil
	})
}

// check refuses what would give other ids than SentencePiece's.
func (m *spModel) check() error {
	kinds := map[uint64]string{spUnigram: "unigram", 3: "word", 4: "character"}
	switch {
	case len(m.Tokens) == 0:
		return errors.New("no pieces: this is not a SentencePiece model")
	case m.kind != spBPE && kinds[m.kind] != "":
		return fmt.Errorf("a %s model is not supported, only BPE is: convert it to a tokenizer.json of another kind, or use a model with one", kinds[m.kind])
	case m.kind != spBPE:
		return fmt.Errorf("model type %d is unknown, only BPE is supported", m.kind)
	case m.charsmap > 0:
		return fmt.Errorf("its normalizer has %d bytes of character rules, which are not supported: only the identity is", m.charsmap)
	case m.suffix || !m.escape:
		return errors.New("white space that ends words (treat_whitespace_as_suffix) or stays a space (escape_whitespaces off) is not supported")
	}
	bytes := 0
	for id, t := range m.Types {
		if t == ggufByte {
			if _, ok := byteOf(m.Tokens[id]); !ok {
				return fmt.Errorf("piece %d (%q) is marked as a byte and spells none", id, m.Tokens[id])
			}
			bytes++
		}
	}
	if m.byteFallback && bytes != 256 {
		return fmt.Errorf("byte_fallback needs pieces for all 256 bytes, there are %d", bytes)
	}
	return nil
}

// addFrom adds the tokens of added_tokens.json and of added_tokens_decoder in tokenizer_config.json.
func (g *GGUF) addFrom(added, config []byte) error {
	var c struct {
		Decoder map[string]struct {
			Content string
			Special bool
		} `json:"added_tokens_decoder"`
		Legacy     *bool
		BOS        tokenName   `json:"bos_token"`
		EOS        tokenName   `json:"eos_token"`
		PAD        tokenName   `json:"pad_token"`
		UNK        tokenName   `json:"unk_token"`
		Additional []tokenName `json:"additional_special_tokens"`
	}
	if config != nil {
		if err := json.Unmarshal(config, &c); err != nil {
			return fmt.Errorf("tokenizer_config.json: invalid JSON: %w", err)
		}
	}
	g.modern = c.Legacy != nil && !*c.Legacy
	special := append(c.Additional, c.BOS, c.EOS, c.PAD, c.UNK)
	var list []addedToken
	ids := map[string]int32{}
	if added != nil {
		if err := json.Unmarshal(added, &ids); err != nil {
			return fmt.Errorf("added_tokens.json: want an object of tokens and their ids: %w", err)
		}
	}
	for token, id := range ids {
		list = append(list, addedToken{ID: id, Content: token, Special: slices.Contains(special, tokenName(token))})
	}
	for key, a := range c.Decoder {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil {
			return fmt.Errorf("tokenizer_config.json: added_tokens_decoder: %q is not an id", key)
		}
		list = append(list, addedToken{ID: int32(id), Content: a.Content, Special: a.Special})
	}
	slices.SortFunc(list, func(a, b addedToken) int { return int(a.ID) - int(b.ID) })
	for _, a := range list {
		if err := g.add(a); err != nil {
			return err
		}
	}
	return nil
}

// add enters one added token at its id, which is a piece's or lies behind the pieces.
func (g *GGUF) add(a addedToken) error {
	if a.ID < 0 || a.Content == "" {
		return fmt.Errorf("added token %q: id %d", a.Content, a.ID)
	}
	if err := checkTop(a.ID, len(g.Tokens)); err != nil {
		return fmt.Errorf("added token %q: %w", a.Content, err)
	}
	g.Pad(int(a.ID) + 1)
	if g.Types[a.ID] == ggufUnused {
		g.Tokens[a.ID] = a.Content
	} else if g.Tokens[a.ID] != a.Content {
		return fmt.Errorf("added token %q has id %d, which tokenizer.model gives to %q", a.Content, a.ID, g.Tokens[a.ID])
	}
	switch {
	case g.Types[a.ID] == ggufUnknown:
	case a.Special:
		g.Types[a.ID] = ggufControl
	default:
		g.Types[a.ID] = ggufUserDefined
	}
	return nil
}
