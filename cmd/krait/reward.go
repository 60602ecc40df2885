package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func rewardCommand(u *ui) *cobra.Command {
	c := recipe.DefaultReward()
	var asJSON bool
	cmd := verb("reward MODEL", cobra.Command{
		Short: "train a model that judges answers, from pairs of them",
		Long: `Train a reward model: MODEL with an output layer that gives the last token of an answer a score, so that chosen answers
score more than rejected ones (Bradley-Terry). ppo takes it as --reward. A FILE is what dpo reads: rows with chosen and rejected.
A row's margin says by how much the chosen one is to be ahead. The result has the layout of Transformers'
LlamaForSequenceClassification with one label.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait reward tuned --data ultrafeedback.jsonl.gz --as-chat --out judge --held-out 200 --steps 500
  krait reward tuned --data pairs.jsonl --margin scores --out judge`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Model = args[0]
		if err := requireFlags(cmd, "data", "out"); err != nil {
			return err
		}
		switch {
		case c.Margin != "none" && c.Margin != "column" && c.Margin != "scores":
			return usage(cmd, "--margin %q: want none, column or scores", c.Margin)
		case c.HeldOut < 0:
			return usage(cmd, "--held-out is %d, want a number from 0 up", c.HeldOut)
		}
		if err := notNegative(cmd, map[string]float64{"center-rewards": c.Centre}); err != nil {
			return err
		}
		if err := checkRows(cmd, &c.RowsConfig); err != nil {
			return err
		}
		if err := checkTrain(cmd, &c.TrainConfig); err != nil {
			return err
		}
		return u.stage(cmd.Context(), c.Out, asJSON, []string{c.Model}, func(ctx context.Context, report recipe.Report) error {
			return recipe.Reward(ctx, c, report)
		})
	})
	f := cmd.Flags()
	f.StringArrayVar(&c.Data, "data", nil, "preferences: a file or a dataset of the hub, `DATA`; may be given again")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.StringVar(&c.Margin, "margin", c.Margin, "`WHERE` rows say how far apart their answers are: none, column (margin) or scores (score_chosen - score_rejected)")
	f.Float64Var(&c.Centre, "center-rewards", 0, "`WEIGHT` of the squared sum of a pair's scores, which holds scores around 0")
	f.IntVar(&c.HeldOut, "held-out", 0, "judge the result by the last `N` pairs, which are not learnt from")
	rowFlags(f, &c.RowsConfig)
	trainFlags(f, &c.TrainConfig)
	c.TrainConfig = recipe.DefaultReward().TrainConfig
	rowDefaults(f)
	weightFlags(f, &c.TrainConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
