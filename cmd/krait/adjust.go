package main

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/sample"
	"krait/tokenizer"
)

// adjustConfig is what generate and run are asked to do with logits before they sample.
type adjustConfig struct {
	bias, regex string
}

// flags binds the flags of sampling but the seed.
func (c *adjustConfig) flags(f *pflag.FlagSet, o *sample.Options) {
	f.Float64Var(&o.Temperature, "temperature", 0, "divides the logits by `T`; 0 is greedy")
	f.Float64Var(&o.TopP, "top-p", 0, "sample from the fewest tokens whose probabilities sum to `P`; 0 and 1: all")
	f.IntVar(&o.TopK, "top-k", 0, "sample from the `K` likeliest tokens; 0: all")
	f.Float64Var(&o.MinP, "min-p", 0, "sample from tokens at least `P` times as likely as the likeliest; 0: all")
	f.Float64Var(&o.Repetition, "repetition-penalty", 0, "`X` above 1 makes tokens of prompt and output less likely, below 1 more; 0 and 1: off")
	f.Float64Var(&o.Frequency, "frequency-penalty", 0, "subtract `X` from a token's logit for every time that the output has it")
	f.Float64Var(&o.Presence, "presence-penalty", 0, "subtract `X` from the logits of tokens that the output has")
	f.StringVar(&c.bias, "logit-bias", "", `add to logits: a JSON `+"`OBJECT`"+` of token ids, such as {"50": -5, "51": 2}; -100 and less bans a token`)
	f.StringVar(&c.regex, "regex", "", "the output as a whole has to match this regular `EXPRESSION`")
}

// bansFrom is the bias from which a token is banned, as OpenAI's API has it.
const bansFrom = -100

// check reads --logit-bias and checks the options.
func (c *adjustConfig) check(cmd *cobra.Command, o *sample.Options) error {
	if c.bias != "" {
		if json.Unmarshal([]byte(c.bias), &o.Bias) != nil {
			return usage(cmd, "--logit-bias %q: want a JSON object of token ids and numbers, such as {\"50\": -5}", c.bias)
		}
		for id, b := range o.Bias {
			if b <= bansFrom {
				o.Bias[id] = math.Inf(-1)
			}
		}
	}
	if err := o.Validate(); err != nil {
		return usage(cmd, "%v", err)
	}
	return nil
}

// compile makes the pattern of --regex for a model.
func (c *adjustConfig) compile(target *loaded, o *sample.Options) error {
	if c.regex == "" {
		return nil
	}
	err := target.mustTokenize(": --regex is about text")
	if err == nil {
		o.Pattern, err = sample.NewPattern(c.regex, tokenTexts(target.tokenizer), target.EOS)
	}
	if err != nil {
		return fmt.Errorf("--regex: %w", err)
	}
	return nil
}

// tokenTexts returns what each token adds to a text that has begun; special tokens and pieces of characters add nothing.
func tokenTexts(t *tokenizer.Tokenizer) []string {
	texts := make([]string, t.VocabSize())
	begin, err := t.Encode("a", false)
	if err != nil {
		return texts
	}
	for id := range texts {
		s := t.NewStream(true)
		for _, b := range begin {
			s.Push(b)
		}
		texts[id] = s.Push(int32(id))
	}
	return texts
}
