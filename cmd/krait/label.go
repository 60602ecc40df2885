package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
	"krait/sample"
)

func labelCommand(u *ui) *cobra.Command {
	var c recipe.LabelConfig
	var asJSON bool
	cmd := verb("label TEACHER", cobra.Command{
		Short: "let the teacher write the text that a student learns from",
		Long: `Let the teacher write documents: the pseudo-labels that align, distill and draft learn from. Without --prompts
it writes from the beginning of a text. A run that was stopped goes on when the same command is given again;
the result is the same as that of a run in one piece.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 500 --max-tokens 256
  krait label teacher --out answers --prompts prompts.txt --temperature 0.7 --top-p 0.95`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		if err := requireFlags(cmd, "out"); err != nil {
			return err
		}
		if err := positive(cmd, map[string]int{"count": c.Count, "width": c.Width}); err != nil {
			return err
		}
		if c.TopKLogits < 0 {
			return usage(cmd, "--top-k-logits is %d, want a positive number, or 0 for none", c.TopKLogits)
		}
		if err := checkType(cmd, c.Type); err != nil {
			return err
		}
		if c.MaxTokens < 2 {
			return usage(cmd, "--max-tokens is %d, want at least 2", c.MaxTokens)
		}
		if err := (sample.Options{Temperature: c.Temperature, TopP: c.TopP, TopK: c.TopK}).Validate(); err != nil {
			return usage(cmd, "%v", err)
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Teacher}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Label(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.BoolVar(&c.AsChat, "as-chat", false, "prompts are said by the user in a conversation; otherwise they begin a text")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.StringVar(&c.Prompts, "prompts", "", "`FILE` of prompts, one a line, or .jsonl with a \"prompt\" each; used in turn")
	f.IntVar(&c.Count, "count", 1000, "write `N` documents")
	f.IntVar(&c.MaxTokens, "max-tokens", 256, "at most `N` tokens of a document, prompt included")
	f.Float64Var(&c.Temperature, "temperature", 1, "divides the logits by `T`; 0 is greedy")
	f.Float64Var(&c.TopP, "top-p", 1, "sample from the fewest tokens whose probabilities sum to `P`; 1: all")
	f.IntVar(&c.TopK, "top-k", 0, "sample from the `K` likeliest tokens; 0: all")
	f.Uint64Var(&c.Seed, "seed", 0, "`SEED` of the sampling")
	f.StringVar(&c.Type, "type", "", weightsUsage+" (default: f32)")
	f.IntVar(&c.TopKLogits, "top-k-logits", 0, "keep the `K` likeliest tokens at each place, for distill without --teacher; 0: none")
	f.IntVar(&c.Width, "width", 16, "write `N` documents side by side; changes no document")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
