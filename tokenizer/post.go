package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// templateItem is one place of a TemplateProcessing template: a special token or the text.
type templateItem struct {
	SpecialToken *struct{ ID string }
	Sequence     *struct{ ID string }
}

// postProcess works out what the post-processor puts before and after a text.
func (t *Tokenizer) postProcess(c *component) error {
	for _, c := range flatten(c, func(c *component) []component { return c.Processors }) {
		before, after, err := t.around(c)
		if err != nil {
			return fmt.Errorf("post_processor %s: %w", c.Type, err)
		}
		t.prefix = append(before, t.prefix...)
		t.suffix = append(t.suffix, after...)
	}
	return nil
}

// around returns the ids that one post-processor adds.
func (t *Tokenizer) around(c *component) (before, after []int32, err error) {
	switch c.Type {
	case "ByteLevel": // moves offsets only
	case "TemplateProcessing":
		before, after, err = c.template()
	case "BertProcessing", "RobertaProcessing":
		if before, err = pairID(c.Cls); err == nil {
			after, err = pairID(c.Sep)
		}
	default:
		err = errors.New("this type is not supported")
	}
	if err == nil {
		err = t.validIDs(slices.Concat(before, after))
	}
	return before, after, err
}

func (c *component) template() (before, after []int32, err error) {
	texts := 0
	for _, item := range c.Single {
		switch {
		case item.Sequence != nil:
			texts++
		case item.SpecialToken != nil:
			token, ok := c.SpecialTokens[item.SpecialToken.ID]
			if !ok {
				return nil, nil, fmt.Errorf("special token %q is not among special_tokens", item.SpecialToken.ID)
			}
			if texts == 0 {
				before = append(before, token.IDs...)
			} else {
				after = append(after, token.IDs...)
			}
		default:
			return nil, nil, errors.New("an item is neither SpecialToken nor Sequence")
		}
	}
	if texts != 1 {
		return nil, nil, fmt.Errorf("the text stands %d times in the template for a single sequence", texts)
	}
	return before, after, nil
}

// pairID reads the id of a ["token", id] pair.
func pairID(pair []any) ([]int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok && id == float64(int32(id)) {
			return []int32{int32(id)}, nil
		}
	}
	return nil, fmt.Errorf("%v is not a token with its id", pair)
}

// tokenName is a token in tokenizer_config.json: a string, or an object with content.
type tokenName string

// UnmarshalJSON reads either form.
func (n *tokenName) UnmarshalJSON(data []byte) error {
	var object struct{ Content string }
	if json.Unmarshal(data, &object) == nil {
		*n = tokenName(object.Content)
		return nil
	}
	return json.Unmarshal(data, (*string)(n))
}

// configure applies tokenizer_config.json. Only the Llama-like classes obey its switches, and they then replace what the
// post-processor says.
func (t *Tokenizer) configure(data []byte) error {
	var c struct {
		Class  string    `json:"tokenizer_class"`
		AddBOS *bool     `json:"add_bos_token"`
		AddEOS *bool     `json:"add_eos_token"`
		BOS    tokenName `json:"bos_token"`
		EOS    tokenName `json:"eos_token"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	switch c.Class {
	case "LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast", "GemmaTokenizer", "GemmaTokenizerFast":
	default:
		return nil
	}
	if c.AddBOS == nil && c.AddEOS == nil {
		return nil
	}
	t.prefix, t.suffix = nil, nil
	if c.AddBOS == nil || *c.AddBOS { // these classes add BOS unless told otherwise
		id, ok := t.ID(string(c.BOS))
		if !ok {
			return fmt.Errorf("bos_token %q is not in the vocabulary", c.BOS)
		}
		t.prefix = []int32{id}
	}
	if c.AddEOS != nil && *c.AddEOS {
		id, ok := t.ID(string(c.EOS))
		if !ok {
			return fmt.Errorf("eos_token %q is not in the vocabulary", c.EOS)
		}
		t.suffix = []int32{id}
	}
	return nil
}
