package recipe

import (
	"context"
	"errors"
	"fmt"
	"math"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
)

// RewardConfig is the configuration of Reward.
type RewardConfig struct {
	Model   string   `json:"model"`
	Data    []string `json:"data"` // files of preferences, all of them
	Out     string   `json:"-"`
	Margin  string   `json:"margin"`                     // by how much the chosen answer is to be ahead: none, column or scores
	Centre  float64  `json:"center_rewards_coefficient"` // weight of the squared sum of both scores, which holds them around 0
	HeldOut int      `json:"held_out"`                   // so many pairs, the last ones, judge the result and are not learnt from
	RowsConfig
	TrainConfig
}

// DefaultReward returns the defaults of Reward: those of TRL, where it has some.
func DefaultReward() RewardConfig {
	c := RewardConfig{Margin: "column", TrainConfig: DefaultTrain()}
	c.LR, c.Beta2, c.Context = 1e-4, 0.999, 1024
	return c
}

func (c *RewardConfig) check() error {
	switch {
	case c.Margin != "none" && c.Margin != "column" && c.Margin != "scores":
		return fmt.Errorf("margin %q: want none, column or scores", c.Margin)
	case !(c.Centre >= 0):
		return fmt.Errorf("the coefficient that centres rewards is %g, want a number from 0 up", c.Centre)
	case c.HeldOut < 0:
		return fmt.Errorf("%d pairs to hold out, want a number from 0 up", c.HeldOut)
	}
	return nil
}

// Reward trains a model that judges answers, the first half of stage three with PPO: a language model whose output layer is replaced by one
// that gives the last token a score, by the Bradley-Terry loss on pairs of answers. The result has Transformers' layout of such models.
func Reward(ctx context.Context, c RewardConfig, report Report) error {
	if err := c.check(); err != nil {
		return err
	}
	start, rows, err := c.start(c.Model, &c.TrainConfig, report)
	if err != nil {
		return err
	}
	if m := start.Model.Config.Mamba; m != nil && m.Backbone {
		return errors.New("a pure Mamba model of its authors' form cannot become a reward model: their files know none")
	}
	var margins []float64
	groups, err := rows.pairs(c.Data, func(p data.Preference) error {
		m, err := c.marginOf(p)
		margins = append(margins, m)
		return err
	})
	if err != nil {
		return err
	}
	if len(groups) <= c.HeldOut {
		return fmt.Errorf("%w: %d are held out", rows.unusable(errors.New("no pair is left to learn from")), c.HeldOut)
	}
	report(Event{Stage: "reward", Note: rows.summary("pairs", data.InMemory(groups))})
	start.Model.ToReward()
	return c.train(ctx, start, groups, margins, rows.figures(), report)
}

// train trains a reward model on pairs, each with its margin.
func (c *RewardConfig) train(ctx context.Context, start *checkpoint.Checkpoint, groups [][]data.Sequence, margins []float64, figures map[string]float64, report Report) error {
	learnt := len(groups) - c.HeldOut
	stream, err := data.NewGroups(groups[:learnt], c.BatchTokens, c.Seed)
	if err != nil {
		return err
	}
	m := start.Model
	lossOf := func(t *autograd.Tape, b data.Batch) loss.Total {
		var of []float64
		for _, n := range b.Groups {
			of = append(of, margins[n])
		}
		return loss.BradleyTerry(t, m.Logits(t, m.Forward(t, modelBatch(b))), ends(b.Lens), of, c.Centre)
	}
	after := func(ctx context.Context) (map[string]float64, error) {
		if c.HeldOut == 0 {
			return nil, nil
		}
		j, err := judge(ctx, m, groups[learnt:], c.BatchTokens)
		return map[string]float64{"eval_accuracy": j.Accuracy, "eval_accuracy_low": j.Low, "eval_accuracy_high": j.High,
			"eval_margin": j.Margin, "eval_pairs": float64(j.Pairs)}, err
	}
	return (&training{stage: "reward", out: c.Out, config: *c, inputs: c.rowInputs(c.Data, c.Model), TrainConfig: c.TrainConfig,
		checkpoint: start, stream: stream, loss: lossOf, unit: "pairs", figures: figures, after: after,
		profile: new(autograd.Profile), report: report}).run(ctx)
}

// marginOf returns by how much a pair's chosen answer is to be ahead.
func (c *RewardConfig) marginOf(p data.Preference) (float64, error) {
	switch {
	case c.Margin == "scores" && p.Gap == nil:
		return 0, errors.New("it has no score_chosen and score_rejected to take a margin from")
	case c.Margin == "scores":
		return *p.Gap, nil
	case c.Margin == "column" && p.Margin != nil:
		return *p.Margin, nil
	}
	return 0, nil
}

// ends returns the last row of each of the sequences that lie end to end.
func ends(lens []int) []int {
	last := make([]int, len(lens))
	at := 0
	for i, n := range lens {
		at += n
		last[i] = at - 1
	}
	return last
}

// scores returns what a reward model gives to sequences, about tokens of them together.
func scores(ctx context.Context, m *model.Model, sequences []data.Sequence, tokens int) ([]float64, error) {
	scratch := autograd.NewScratch()
	var list []float64
	for at := 0; at < len(sequences); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to, size := at, 0
		for to < len(sequences) && (to == at || size+len(sequences[to].IDs) <= tokens) {
			size += len(sequences[to].IDs)
			to++
		}
		b := data.BatchOf(sequences[at:to]...)
		scratch.Reset()
		rows := m.Logits(scratch, m.Forward(scratch, modelBatch(b)))
		for _, end := range ends(b.Lens) {
			s := float64(rows.Data[end])
			if math.IsNaN(s) || math.IsInf(s, 0) {
				return nil, fmt.Errorf("answer %d: the reward model's score is %g: its weights are no numbers to compute with", len(list)+1, s)
			}
			list = append(list, s)
		}
		at = to
	}
	return list, nil
}

// loadReward reads a reward model, whose token ids must mean what the policy's mean.
func loadReward(dir string, policy *checkpoint.Checkpoint) (*model.Model, error) {
	c, err := checkpoint.LoadReward(dir)
	if err != nil {
		return nil, err
	}
	if err := sameTokenizer("reward model", c, policy); err != nil {
		return nil, err
	}
	return c.Model, nil
}
