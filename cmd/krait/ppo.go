package main

import (
	"context"

	"github.com/spf13/cobra"

	"krait/recipe"
)

func ppoCommand(u *ui) *cobra.Command {
	c := recipe.DefaultPPO()
	var asJSON bool
	cmd := verb("ppo POLICY", cobra.Command{
		Short: "train a model to please a reward, held by a reference",
		Long: `Proximal policy optimisation: POLICY answers prompts, the answers are rewarded, and the policy learns to do more of what
was better than a value model expected, a little at a time and at a price for each nat of KL to the reference. The reward is a
model of krait reward, or a rule: rule:happy counts happy words in an answer's last 20 words, rule:FILE those of a file.
An iteration is --rollout-batch answers and --ppo-epochs times --mini-batches of the --steps. Metrics have TRL's names.
A run that was stopped goes on when the same command is given again, bit for bit.`,
		Example: `  krait ppo tuned --reward judge --prompts prompts.txt --out aligned --steps 400
  krait ppo stories --reward rule:happy --out happy --steps 120 --lr 3e-4 --temperature 1`,
	}, func(cmd *cobra.Command, args []string) error {
		c.Policy = args[0]
		if err := requireFlags(cmd, "reward", "out"); err != nil {
			return err
		}
		if err := checkTrain(cmd, &c.TrainConfig); err != nil {
			return err
		}
		if err := c.Check(); err != nil {
			return usage(cmd, "%v", err)
		}
		inputs := []string{c.Policy, c.Ref, c.Draft}
		if !recipe.IsRule(c.Reward) {
			inputs = append(inputs, c.Reward)
		}
		return u.stage(cmd.Context(), c.Out, asJSON, inputs, func(ctx context.Context, report recipe.Report) error {
			return recipe.PPO(ctx, c, report)
		})
	})
	f := cmd.Flags()
	trainFlags(f, &c.TrainConfig)
	c.TrainConfig = recipe.DefaultPPO().TrainConfig
	f.StringVar(&c.Reward, "reward", "", "directory of a reward `MODEL`, or a rule: rule:happy, rule:FILE")
	f.StringVar(&c.Ref, "ref", "", "directory of the reference: `MODEL` (default: the policy as it starts)")
	f.StringVar(&c.Prompts, "prompts", "", "prompts: a text file with one a line, or `DATA` with rows of a \"prompt\" each (default: the beginning of a text)")
	f.BoolVar(&c.AsChat, "as-chat", false, "prompts are said by the user in a conversation; otherwise they begin a text")
	f.StringVar(&c.Out, "out", "", "directory to make: `DIR`")
	f.IntVar(&c.Batch, "rollout-batch", c.Batch, "`N` answers of an iteration")
	f.IntVar(&c.ResponseLength, "response-length", c.ResponseLength, "at most `N` tokens of an answer")
	f.Float64Var(&c.Temperature, "temperature", c.Temperature, "divides the logits by `T`, in sampling and learning")
	f.IntVar(&c.PPOEpochs, "ppo-epochs", c.PPOEpochs, "`N` passes over an iteration's answers")
	f.IntVar(&c.MiniBatches, "mini-batches", c.MiniBatches, "`N` steps of a pass")
	f.Float64Var(&c.KLCoef, "kl-coef", c.KLCoef, "`PRICE` of a nat of KL to the reference")
	f.StringVar(&c.KLEstimator, "kl-estimator", c.KLEstimator, "`NAME` of the estimate of KL: k1 or k3")
	f.Float64Var(&c.ClipRange, "cliprange", c.ClipRange, "`LIMIT` of the ratio's distance from 1")
	f.Float64Var(&c.ClipValue, "cliprange-value", c.ClipValue, "`LIMIT` of a value's change")
	f.Float64Var(&c.ValueCoef, "vf-coef", c.ValueCoef, "`WEIGHT` of the value loss")
	f.Float64Var(&c.Gamma, "gamma", c.Gamma, "`DISCOUNT` of later rewards")
	f.Float64Var(&c.Lambda, "lam", c.Lambda, "`DECAY` of generalised advantage estimation")
	f.BoolVar(&c.WhitenRewards, "whiten-rewards", false, "give rewards variance 1")
	f.Float64Var(&c.MissingEOS, "missing-eos-penalty", 0, "`PENALTY` of an answer that does not end by itself")
	f.IntVar(&c.Width, "width", c.Width, "write `N` answers side by side; changes no answer")
	f.StringVar(&c.Draft, "draft", "", "let this `MODEL` guess answers ahead, which changes no distribution")
	f.BoolVar(&c.NGram, "ngram", false, "guess what followed the same tokens before in an answer or its prompt")
	f.IntVar(&c.Speculate, "speculate", 0, "guess `N` tokens ahead (default: 4 with --draft or --ngram)")
	rowDefaults(f)
	weightFlags(f, &c.TrainConfig)
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}
