package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
	"krait/sample"
)

func labelCommand(u *ui) *cobra.Command {
	c := recipe.DefaultLabel()
	var asJSON bool
	cmd := verb("label TEACHER", cobra.Command{
		Short: "let the teacher write the text that a student learns from, or take text that there is",
		Long: `Let the teacher write documents: the pseudo-labels that align, distill and draft learn from. Without --prompts
it writes from the beginning of a text. With --text it writes nothing: the documents are the rows of files, in the
forms that sft reads (of conversations, all from the first answer on is learnt); rows longer than --max-tokens become several
documents, and --pack lays texts end to end. A run that was stopped goes on when the same command is given again;
the result is the same as that of a run in one piece.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 500 --max-tokens 256
  krait label teacher --out answers --prompts prompts.txt --temperature 0.7 --top-p 0.95
  krait label teacher --out dataset --text stories.txt --max-tokens 512 --pack --decontaminate teacher/heldout.txt`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		if err := requireFlags(cmd, "out"); err != nil {
			return err
		}
		counts := map[string]int{"width": c.Width}
		if cmd.Flags().Changed("count") {
			counts["count"] = c.Count
		}
		if err := positive(cmd, counts); err != nil {
			return err
		}
		if err := checkLabelText(cmd, &c); err != nil {
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
	f.StringVar(&c.Prompts, "prompts", "", "prompts, used in turn: a text file with one a line, or `DATA` with rows of a \"prompt\" each")
	f.StringArrayVar(&c.Text, "text", nil, "take the documents from text or conversations: a file or a dataset of the hub, `DATA`; may be given again")
	f.BoolVar(&c.Pack, "pack", false, "lay the texts end to end in documents of --max-tokens")
	f.BoolVar(&c.SkipBad, "skip-bad-rows", false, "leave out rows of --text that mean nothing instead of stopping at the first")
	f.StringArrayVar(&c.Decontaminate, "decontaminate", nil, "leave out rows of --text that share text with the evaluation set `FILE`; may be given again")
	f.IntVar(&c.DecontaminateWords, "decontaminate-ngram", 0, "`N` words in a row that are shared text (default: 13)")
	f.IntVar(&c.Count, "count", 0, "write `N` documents (default: 1000; of --text at most N, and all by default)")
	f.IntVar(&c.MaxTokens, "max-tokens", c.MaxTokens, "at most `N` tokens of a document, prompt included")
	f.Float64Var(&c.Temperature, "temperature", c.Temperature, "divides the logits by `T`; 0 is greedy")
	f.Float64Var(&c.TopP, "top-p", c.TopP, "sample from the fewest tokens whose probabilities sum to `P`; 1: all")
	f.IntVar(&c.TopK, "top-k", 0, "sample from the `K` likeliest tokens; 0: all")
	f.Uint64Var(&c.Seed, "seed", 0, "`SEED` of the sampling")
	f.StringVar(&c.Type, "type", "", weightsUsage+" (default: f32)")
	f.IntVar(&c.TopKLogits, "top-k-logits", 0, "keep the `K` likeliest tokens at each place, for distill without --teacher; 0: none")
	f.IntVar(&c.Width, "width", c.Width, "write `N` documents side by side; changes no document")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// checkLabelText refuses flags of what the teacher writes beside those of text that there is.
func checkLabelText(cmd *cobra.Command, c *recipe.LabelConfig) error {
	of, refused := "of what the teacher writes: with --text it writes nothing", []string{"prompts", "temperature", "top-p", "top-k", "type", "width"}
	if len(c.Text) == 0 {
		of, refused = "of the rows of --text", []string{"pack", "skip-bad-rows", "decontaminate", "decontaminate-ngram"}
	}
	for _, name := range refused {
		if cmd.Flags().Changed(name) {
			return usage(cmd, "--%s is %s", name, of)
		}
	}
	return nil
}
