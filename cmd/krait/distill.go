package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"krait/recipe"
)

func distillCommand(u *ui) *cobra.Command {
	var c recipe.DistillConfig
	var asJSON bool
	cmd := verb("distill STUDENT", cobra.Command{
		Short: "train a student end to end to predict as its teacher does",
		Long: `Train a student end to end on the teacher's text: its distribution is to follow the teacher's (--kl-weight, nats of
KL(teacher ‖ student) a token) and to predict the text (--ce-weight, cross-entropy).
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait example teacher
  krait label teacher --out labels --count 200
  krait init teacher --attn-layers 1,3 --out hybrid
  krait distill hybrid --teacher teacher --labels labels --out distilled --steps 200`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Student = args[0]
		if err := requireFlags(cmd, "teacher", "labels", "out"); err != nil {
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
	f.StringVar(&c.Teacher, "teacher", "", "directory of the teacher: `MODEL`")
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
	return checkTrain(cmd, &c.TrainConfig)
}
