package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func evalRewardCommand(u *ui) *cobra.Command {
	c := recipe.JudgeConfig{Context: recipe.DefaultReward().Context, BatchTokens: recipe.DefaultReward().BatchTokens}
	var asJSON bool
	cmd := verb("reward MODEL", cobra.Command{
		Short: "how often a reward model prefers the answer that was preferred",
		Long: `Let a reward model score pairs of answers: the share of pairs in which the chosen answer has the higher score, with
its 95 % interval (Wilson), and the mean difference. A FILE is what reward and dpo read: rows with chosen and rejected.`,
		Example: `  krait eval reward judge --data held-out.jsonl --as-chat`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Model = args[0]
		if err := requireFlags(cmd, "data"); err != nil {
			return err
		}
		if err := positive(cmd, map[string]int{"context": c.Context}); err != nil {
			return err
		}
		if err := checkRows(cmd, &c.RowsConfig); err != nil {
			return err
		}
		j, err := recipe.Judge(cmd.Context(), c, u.report)
		if err != nil {
			return err
		}
		if asJSON {
			return u.json(j)
		}
		u.table([][]string{
			{"accuracy", fmt.Sprintf("%.1f %% [%.1f, %.1f]", 100*j.Accuracy, 100*j.Low, 100*j.High)},
			{"margin", fmt.Sprintf("%.4f", j.Margin)},
			{"pairs", fmt.Sprint(j.Pairs)},
		})
		return nil
	})
	f := cmd.Flags()
	f.StringArrayVar(&c.Data, "data", nil, "preferences: a file or a dataset of the hub, `DATA`; may be given again")
	f.IntVar(&c.Context, "context", c.Context, "cut answers with their prompts after `N` tokens")
	rowFlags(f, &c.RowsConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
