package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func draftCommand(u *ui) *cobra.Command {
	var c recipe.DraftConfig
	var layers string
	var asJSON bool
	cmd := verb("draft TARGET", cobra.Command{
		Short: "make a small model that guesses ahead for a large one",
		Long: `Make a draft for speculative decoding: some layers of a model, with its embeddings and head, distilled from TARGET,
whose text it is to guess. The layers are TARGET's, or those of --from, which must share its tokenizer.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 200
  krait draft teacher --layers 0,4 --labels labels --out small --steps 200
  krait generate teacher --draft small --prompt "Once upon a time"`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		if err := requireFlags(cmd, "layers", "labels", "out"); err != nil {
			return err
		}
		var err error
		if c.Layers, err = parseLayers(layers); err != nil || len(c.Layers) == 0 {
			return usage(cmd, "--layers %q: want numbers of layers, each once, such as 0,4", layers)
		}
		if c.Vocab < 0 || cmd.Flags().Changed("vocab") && c.Vocab == 0 {
			return usage(cmd, "--vocab is %d, want a positive number", c.Vocab)
		}
		if err := checkDistill(cmd, &c.DistillConfig); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Teacher, c.From}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Draft(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringVar(&layers, "layers", "", "`LIST` of layers that the draft begins with, such as 0,4")
	f.IntVar(&c.Vocab, "vocab", 0, "let the draft guess only the `N` tokens that are most frequent in the labels, which makes it faster; 0: all")
	f.StringVar(&c.From, "from", "", "directory of the `MODEL` to take the layers from (default: TARGET)")
	distillFlags(f, &c.DistillConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
