package main

import (
	"cmp"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"krait/model"
	"krait/score"
)

// evalConfig is the text of an evaluation and how it is read.
type evalConfig struct {
	text            string
	context, stride int
	weights, kv     string
	json            bool
}

func (c *evalConfig) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.text, "text", "", "the text `FILE`, UTF-8")
	f.IntVar(&c.context, "context", 0, "read in windows of `N` tokens (default: the model's context, at most 2048)")
	f.IntVar(&c.stride, "stride", 0, "begin a window every `N` tokens (default: the context)")
	f.StringVar(&c.weights, "type", "f32", weightsUsage)
	f.StringVar(&c.kv, "kv", "", kvUsage)
	f.BoolVar(&c.json, "json", false, "print one JSON object")
}

func (c *evalConfig) validate(cmd *cobra.Command) error {
	if err := requireFlags(cmd, "text"); err != nil {
		return err
	}
	f := cmd.Flags()
	switch {
	case f.Changed("context") && c.context < 2:
		return usage(cmd, "--context is %d, want at least 2", c.context)
	case f.Changed("stride") && c.stride < 1:
		return usage(cmd, "--stride is %d, want a positive number", c.stride)
	case c.context > 0 && c.stride > c.context:
		return usage(cmd, "--stride %d is more than --context %d", c.stride, c.context)
	}
	return cmp.Or(checkType(cmd, c.weights), checkKV(cmd, c.kv))
}

// defaults sets what was not given from the model.
func (c *evalConfig) defaults(u *ui, m *model.Config) error {
	if c.context == 0 {
		c.context = 2048
		if m.MaxPositionEmbeddings > 0 {
			c.context = min(c.context, m.MaxPositionEmbeddings)
		}
	}
	if c.stride == 0 {
		c.stride = c.context
	}
	if c.stride > c.context {
		return fmt.Errorf("--stride %d is more than the model's context of %d", c.stride, c.context)
	}
	if m.MaxPositionEmbeddings > 0 && c.context > m.MaxPositionEmbeddings {
		u.note("windows of %d tokens are longer than the model's context of %d", c.context, m.MaxPositionEmbeddings)
	}
	return nil
}

func evalCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval",
		Short: "measure a model on text",
		Long:  "Measure a model on text: its perplexity, its agreement with another model, or a reward model's agreement with preferences.",
	}
	onlySubVerbs(cmd)
	cmd.AddCommand(pplCommand(u), agreementCommand(u), evalRewardCommand(u))
	return cmd
}

// perplexity is the JSON object of eval ppl.
type perplexity struct {
	NLL         float64 `json:"nll"`
	Perplexity  float64 `json:"perplexity"`
	Tokens      int     `json:"tokens"`
	Bytes       int     `json:"bytes"`
	BitsPerByte float64 `json:"bits_per_byte"`
	Context     int     `json:"context"`
	Stride      int     `json:"stride"`
}

func pplCommand(u *ui) *cobra.Command {
	var c evalConfig
	cmd := verb("ppl MODEL", cobra.Command{
		Short: "the perplexity of a model on a text",
		Long: `Measure how well a model predicts a text: nats a token, perplexity (their exponential) and bits a byte of the text,
which models with different tokenizers share. The text is read in windows of --context tokens; with --stride N below it, windows
overlap and each token is predicted once, in the first window that holds it.`,
		Example: `  krait example teacher
  krait eval ppl teacher --text teacher/heldout.txt
  krait eval ppl teacher --text teacher/heldout.txt --context 256 --stride 128 --json`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := c.validate(cmd); err != nil {
			return err
		}
		m, err := u.loadPacked(args[0], c.weights)
		if err != nil {
			return err
		}
		setKV(c.kv, m.Model)
		if err := c.defaults(u, &m.Model.Config); err != nil {
			return err
		}
		ids, bytes, err := m.readText(c.text)
		if err != nil {
			return err
		}
		l, err := score.Perplexity(cmd.Context(), m.Model, ids, c.context, c.stride)
		if err != nil {
			return fmt.Errorf("%s: %w", c.text, err)
		}
		r := perplexity{
			NLL: l.Mean(), Perplexity: l.Perplexity(), Tokens: l.Tokens, Bytes: bytes, BitsPerByte: l.NLL / math.Ln2 / float64(bytes),
			Context: c.context, Stride: c.stride,
		}
		if math.IsNaN(r.Perplexity) || math.IsInf(r.Perplexity, 0) {
			return fmt.Errorf("%s on %s: %g nats a token: the model's weights are broken", args[0], c.text, r.NLL)
		}
		if c.json {
			return u.json(r)
		}
		u.table([][]string{
			{"perplexity", fmt.Sprintf("%.4f", r.Perplexity)},
			{"nll", fmt.Sprintf("%.4f nats a token", r.NLL)},
			{"bits per byte", fmt.Sprintf("%.4f", r.BitsPerByte)},
			{"tokens", fmt.Sprintf("%d predicted, in windows of %d every %d", r.Tokens, r.Context, r.Stride)},
			{"bytes", fmt.Sprint(r.Bytes)},
		})
		return nil
	})
	c.flags(cmd)
	return cmd
}

// agreement is the JSON object of eval agreement.
type agreement struct {
	KL      float64 `json:"kl"`
	Top1    float64 `json:"top1"`
	Tokens  int     `json:"tokens"`
	Context int     `json:"context"`
	Stride  int     `json:"stride"`
}

func agreementCommand(u *ui) *cobra.Command {
	var c evalConfig
	cmd := verb("agreement MODEL TEACHER", cobra.Command{
		Short: "how far a model follows its teacher on a text",
		Long: `Measure how far a model follows its teacher: the mean divergence KL(teacher ‖ model) in nats a token, and the share of
tokens at which both have the same first choice. Both must share a tokenizer.`,
		Example: `  krait example teacher
  krait init teacher --attn-layers 0,1,2,3 --out hybrid
  krait eval agreement hybrid teacher --text teacher/heldout.txt`,
	}, func(cmd *cobra.Command, args []string) error {
		if err := c.validate(cmd); err != nil {
			return err
		}
		m, err := u.loadPacked(args[0], c.weights)
		if err != nil {
			return err
		}
		setKV(c.kv, m.Model)
		teacher, err := u.load(args[1])
		if err != nil {
			return err
		}
		if err := sameTokens(m, teacher); err != nil {
			return err
		}
		if err := c.defaults(u, &m.Model.Config); err != nil {
			return err
		}
		ids, _, err := m.readText(c.text)
		if err != nil {
			return err
		}
		teacher.Model.Pack()
		a, err := score.Agree(cmd.Context(), m.Model, teacher.Model, ids, c.context, c.stride)
		if err != nil {
			return fmt.Errorf("%s: %w", c.text, err)
		}
		r := agreement{KL: a.KL, Top1: a.Top1, Tokens: a.Tokens, Context: c.context, Stride: c.stride}
		if math.IsNaN(r.KL) || math.IsInf(r.KL, 0) {
			return fmt.Errorf("%s against %s on %s: %g nats a token: a model's weights are broken", args[0], args[1], c.text, r.KL)
		}
		if c.json {
			return u.json(r)
		}
		u.table([][]string{
			{"kl", fmt.Sprintf("%.5f nats a token", r.KL)},
			{"top-1", fmt.Sprintf("%.2f %%", 100*r.Top1)},
			{"tokens", fmt.Sprintf("%d, in windows of %d every %d", r.Tokens, r.Context, r.Stride)},
		})
		return nil
	})
	c.flags(cmd)
	return cmd
}
