package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func dpoCommand(u *ui) *cobra.Command {
	var c recipe.DPOConfig
	var teacher string
	var asJSON bool
	cmd := verb("dpo MODEL", cobra.Command{
		Short: "train a model to prefer the answers that were preferred",
		Long: `Direct preference optimisation: the model learns to find chosen answers likelier than rejected ones, measured by a
reference that it must not leave far behind. The reference is --teacher (or --ref), or else the model as it starts. A FILE is
JSON lines or a JSON array, gzip or not, of rows with chosen and rejected: strings or messages, with their prompt in prompt or
conversations, or in common (UltraFeedback, HH-RLHF's transcripts). Strings are plain text, unless --as-chat is given.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait dpo tuned --teacher teacher --pairs ultrafeedback.jsonl.gz --as-chat --out aligned --steps 500
  krait dpo tuned --pairs pairs.jsonl --beta 0.1 --loss-type ipo --out aligned`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Model = args[0]
		if err := requireFlags(cmd, "pairs", "out"); err != nil {
			return err
		}
		switch {
		case teacher != "" && c.Ref != "":
			return usage(cmd, "--teacher and --ref are two words for the same: want one of them")
		case teacher != "":
			c.Ref = teacher
		}
		if err := checkPreference(cmd, &c); err != nil {
			return err
		}
		if err := checkRows(cmd, &c.RowsConfig); err != nil {
			return err
		}
		if err := checkTrain(cmd, &c.TrainConfig); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Model, c.Ref}, func(ctx context.Context, report recipe.Report) error {
			return recipe.DPO(ctx, c, report)
		})
	})
	c = recipe.DefaultDPO()
	f := cmd.Flags()
	f.StringArrayVar(&c.Pairs, "pairs", nil, "preferences: a file or a dataset of the hub, `DATA`; may be given again")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.StringVar(&c.Ref, "ref", "", "directory of the reference: `MODEL` (default: the model as it starts)")
	f.StringVar(&teacher, "teacher", "", "another word for --ref: `MODEL`")
	f.Float64Var(&c.Beta, "beta", c.Beta, "`STRENGTH` with which the reference holds the model")
	f.StringVar(&c.LossType, "loss-type", c.LossType, "`LOSS` of a pair: sigmoid or ipo")
	f.Float64Var(&c.Smoothing, "label-smoothing", c.Smoothing, "`SHARE` of pairs taken to be labelled the wrong way round")
	rowFlags(f, &c.RowsConfig)
	trainFlags(f, &c.TrainConfig)
	c.TrainConfig = recipe.DefaultDPO().TrainConfig
	rowDefaults(f)
	weightFlags(f, &c.TrainConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func checkPreference(cmd *cobra.Command, c *recipe.DPOConfig) error {
	switch {
	case c.LossType != "sigmoid" && c.LossType != "ipo":
		return usage(cmd, "--loss-type %q: want sigmoid or ipo", c.LossType)
	case !(c.Beta > 0):
		return usage(cmd, "--beta is %g, want a positive number", c.Beta)
	case !(c.Smoothing >= 0 && c.Smoothing < 0.5):
		return usage(cmd, "--label-smoothing is %g, want a share from 0 to below 0.5", c.Smoothing)
	case c.LossType == "ipo" && c.Smoothing != 0:
		return usage(cmd, "--label-smoothing is %g: the loss ipo has none", c.Smoothing)
	}
	return nil
}
