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

With --head eagle it is a draft head: it reads the hidden state that TARGET had at the token before, joined with the token's embedding,
and by default has one layer, of the kind of TARGET's last, with TARGET's embeddings and output layer. It learns to guess several tokens
in a row on its own hidden states (--unroll). It is right more often than a draft of its size, and for TARGET alone.

A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 200
  krait draft teacher --layers 0,4 --labels labels --out small --steps 200
  krait generate teacher --draft small --prompt "Once upon a time"
  krait draft teacher --head eagle --labels labels --out head --steps 200 --kl tv`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Teacher = args[0]
		required := []string{"layers", "labels", "out"}
		if c.Head != "" {
			required = required[1:]
		}
		if err := requireFlags(cmd, required...); err != nil {
			return err
		}
		if cmd.Flags().Changed("layers") {
			var err error
			if c.Layers, err = parseLayers(layers); err != nil || len(c.Layers) == 0 {
				return usage(cmd, "--layers %q: want numbers of layers, each once, such as 0,4", layers)
			}
		}
		if err := checkHead(cmd, &c); err != nil {
			return err
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
	f.StringVar(&layers, "layers", "", "`LIST` of layers that the draft begins with, such as 0,4 (default with --head: the last)")
	f.StringVar(&c.Head, "head", "", "make a draft head on TARGET's hidden states, of this `KIND`: eagle")
	f.IntVar(&c.Unroll, "unroll", 0, "let the head learn `N` guesses in a row, the later ones on its own hidden states (default 3)")
	f.Float64Var(&c.Hidden, "hidden-weight", 0, "`WEIGHT` of the smooth L1 distance between the head's hidden states and TARGET's")
	f.IntVar(&c.Vocab, "vocab", 0, "let the draft guess only the `N` tokens that are most frequent in the labels, which makes it faster; 0: all")
	f.StringVar(&c.From, "from", "", "directory of the `MODEL` to take the layers from (default: TARGET)")
	distillFlags(f, &c.DistillConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// checkHead checks what goes with --head.
func checkHead(cmd *cobra.Command, c *recipe.DraftConfig) error {
	f := cmd.Flags()
	if !f.Changed("head") {
		for _, name := range []string{"unroll", "hidden-weight"} {
			if f.Changed(name) {
				return usage(cmd, "--%s goes with --head eagle", name)
			}
		}
		return nil
	}
	switch {
	case c.Head != recipe.HeadEagle:
		return usage(cmd, "--head %q: want eagle", c.Head)
	case f.Changed("from"):
		return usage(cmd, "--from: a draft head begins with layers of TARGET")
	case f.Changed("unroll") && (c.Unroll < 1 || c.Unroll > recipe.MostUnroll):
		return usage(cmd, "--unroll is %d, want a number from 1 to %d", c.Unroll, recipe.MostUnroll)
	case c.PaperKLScale:
		return usage(cmd, "--paper-kl-scale is for students, not for a draft head")
	}
	return notNegative(cmd, map[string]float64{"hidden-weight": c.Hidden})
}
