package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/loss"
	"krait/recipe"
)

func distillCommand(u *ui) *cobra.Command {
	var c recipe.DistillConfig
	var asJSON bool
	cmd := verb("distill STUDENT", cobra.Command{
		Short: "train a student end to end to predict as its teacher does",
		Long: `Train a student end to end on the teacher's text: its distribution is to follow the teacher's (--kl-weight, nats of
KL(teacher ‖ student) a token, or another divergence by --kl) and to predict the text (--ce-weight, cross-entropy).
Without --teacher it follows the likeliest tokens that label stored with --top-k-logits, the others as one.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 200
  krait init teacher --attn-layers 1,3 --out hybrid
  krait distill hybrid --teacher teacher --labels labels --out distilled --steps 200`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Student = args[0]
		if err := requireFlags(cmd, "labels", "out"); err != nil {
			return err
		}
		if err := checkDistill(cmd, &c); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Student, c.Teacher}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Distill(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringVar(&c.Teacher, "teacher", "", "directory of the teacher: `MODEL` (default: what --labels holds of it)")
	distillFlags(f, &c)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// distillFlags binds what distill and draft share.
func distillFlags(f *pflag.FlagSet, c *recipe.DistillConfig) {
	f.StringVar(&c.Labels, "labels", "", "directory that label made: `DIR`")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.Float64Var(&c.KL, "kl-weight", 1, "`WEIGHT` of the divergence from the teacher")
	f.Float64Var(&c.CE, "ce-weight", 0, "`WEIGHT` of the cross-entropy on the text")
	f.StringVar(&c.Divergence, "kl", "forward", "`DIVERGENCE` from the teacher: forward, reverse, js, skew, skew-reverse or tv (total variation, which is 1 less the acceptance of a draft)")
	f.Float64Var(&c.Mix, "kl-mix", 0, "`WEIGHT` of the first distribution in the mixture of js (0: 0.5), skew and skew-reverse (0: 0.1)")
	f.BoolVar(&c.PaperKLScale, "paper-kl-scale", false, "sum the divergence over all positions of a document, as the paper's code does")
	trainFlags(f, &c.TrainConfig)
	weightFlags(f, &c.TrainConfig)
}

func checkDistill(cmd *cobra.Command, c *recipe.DistillConfig) error {
	if err := notNegative(cmd, map[string]float64{"kl-weight": c.KL, "ce-weight": c.CE}); err != nil {
		return err
	}
	if c.KL+c.CE == 0 {
		return usage(cmd, "--kl-weight and --ce-weight are both 0, want one positive")
	}
	kind, err := loss.ParseDivergence(c.Divergence)
	switch {
	case err != nil:
		return usage(cmd, "--kl %q: want forward, reverse, js, skew, skew-reverse or tv", c.Divergence)
	case cmd.Flags().Changed("kl-mix") && !kind.Mixes():
		return usage(cmd, "--kl-mix: the divergence %s has no mixture", c.Divergence)
	case !(c.Mix >= 0 && c.Mix < 1):
		return usage(cmd, "--kl-mix is %g, want a number above 0 and below 1", c.Mix)
	}
	if kind == loss.ForwardKL {
		c.Divergence = "" // the default, which older work in progress does not name
	}
	return checkTrain(cmd, &c.TrainConfig)
}
