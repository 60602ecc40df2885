package recipe

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/internal/golden"
	"krait/loss"
	"krait/model"
)

// stepsTolerance is how far weights may be from TRL's after three steps, relative to each tensor's largest.
const stepsTolerance = 1e-4

// trlSteps is what internal/golden/trl/steps.py left.
type trlSteps struct {
	*golden.Expected
	policy, reward string
}

func openSteps(t *testing.T) trlSteps {
	dir := golden.Dir(t, "../trl/testdata/steps")
	return trlSteps{golden.Open(t, "../trl/testdata/steps"), filepath.Join(dir, "policy"), filepath.Join(dir, "reward")}
}

// lists returns lists of tokens that lie end to end.
func (e trlSteps) lists(name string) (lists [][]int32) {
	ids := e.Ints(name)
	for _, n := range e.Ints(name + "_lengths") {
		lists = append(lists, ids[:n:n])
		ids = ids[n:]
	}
	return lists
}

// pairs returns chosen and rejected answers behind their prompts.
func (e trlSteps) pairs() (groups [][]data.Sequence, tokens int) {
	for i, prompt := range e.lists("prompts") {
		var group []data.Sequence
		for _, side := range []string{"chosen", "rejected"} {
			s := data.Sequence{IDs: append(append([]int32{}, prompt...), e.lists(side)[i]...)}
			for j := range s.IDs {
				s.Learn = append(s.Learn, j >= len(prompt))
			}
			tokens += len(s.IDs)
			group = append(group, s)
		}
		groups = append(groups, group)
	}
	return groups, tokens
}

// train is that of the golden steps, all rows in one batch.
func (e trlSteps) train(tokens int) TrainConfig {
	c := DefaultTrain()
	c.Steps, c.BatchTokens, c.Warmup, c.LR, c.Beta2, c.Clip, c.SaveEvery = 3, tokens, 0, 1e-3, 0.999, 1, 0
	return c
}

// same compares a model's weights with the golden ones of a prefix.
func (e trlSteps) same(t *testing.T, prefix string, m *model.Model) {
	t.Helper()
	for name, p := range m.Params {
		golden.Close(t, prefix+" "+name, p.Data, e.Floats(prefix+"."+name), stepsTolerance)
	}
}

// losses compares those of the steps, which TRL logs in float32.
func (e trlSteps) losses(t *testing.T, name, out string) {
	t.Helper()
	steps, err := ReadMetrics(out)
	if err != nil || len(steps) != 3 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for i, want := range e.Floats(name) {
		if d := steps[i].Loss - want; math.Abs(d) > 1e-4*want {
			t.Errorf("%s: step %d has the loss %g, TRL %g", name, i+1, steps[i].Loss, want)
		}
	}
}

// TestDPOStepsAsTRL makes three steps of DPO and wants the weights of TRL's DPOTrainer.
func TestDPOStepsAsTRL(t *testing.T) {
	e := openSteps(t)
	start, err := checkpoint.Load(e.policy)
	if err != nil {
		t.Fatal(err)
	}
	groups, tokens := e.pairs()
	c := DefaultDPO()
	c.Model, c.Out, c.TrainConfig = e.policy, filepath.Join(t.TempDir(), "out"), e.train(tokens)
	if err := c.train(t.Context(), loss.Preference{Beta: 0.1}, start, nil, groups, nil, quiet); err != nil {
		t.Fatal(err)
	}
	e.same(t, "dpo", start.Model)
	e.losses(t, "dpo.losses", c.Out)
}

// TestRewardStepsAsTRL makes three steps of a reward model with margins and wants the weights of TRL's RewardTrainer.
func TestRewardStepsAsTRL(t *testing.T) {
	e := openSteps(t)
	start, err := checkpoint.LoadReward(e.reward)
	if err != nil {
		t.Fatal(err)
	}
	groups, tokens := e.pairs()
	c := DefaultReward()
	c.Model, c.Out, c.Centre, c.TrainConfig = e.reward, filepath.Join(t.TempDir(), "out"), 0.01, e.train(tokens)
	if err := c.train(t.Context(), start, groups, e.Floats("margins"), nil, quiet); err != nil {
		t.Fatal(err)
	}
	e.same(t, "reward", start.Model)
	e.losses(t, "reward.losses", c.Out)
}

// TestPPOStepsAsTRL makes three steps of PPO on given responses, and wants the weights of the policy and the value model and the figures of TRL's
// PPOTrainer, with the batch in one piece and in two.
func TestPPOStepsAsTRL(t *testing.T) {
	for _, accumulate := range []int{1, 2} {
		e := openSteps(t)
		c := DefaultPPO()
		c.Policy, c.Reward, c.Out = e.policy, e.reward, filepath.Join(t.TempDir(), "out")
		c.Batch, c.PPOEpochs, c.ResponseLength, c.MissingEOS = 4, 3, 6, 1
		c.TrainConfig = e.train(64)
		c.Schedule, c.FloorLR, c.Clip, c.Accumulate = "constant", 1, 0, accumulate
		s, err := c.rollouts(quiet)
		if err != nil {
			t.Fatal(err)
		}
		s.prompts = e.lists("prompts")
		s.respond = func(context.Context) (list []*rollout, err error) {
			for i, response := range e.lists("responses") {
				r := &rollout{Prompt: s.prompts[i], Response: response}
				for j, id := range response {
					if id == s.policy.EOS[0] {
						r.Response, r.Ended = response[:j+1], true
					}
				}
				list = append(list, r)
			}
			return list, nil
		}
		if err := s.train(t.Context()); err != nil {
			t.Fatal(err)
		}
		e.same(t, "ppo", s.policy.Model)
		e.same(t, "value", s.value)
		steps, err := ReadMetrics(c.Out)
		if err != nil || len(steps) != 3 {
			t.Fatalf("%d steps, %v", len(steps), err)
		}
		for _, name := range []string{"objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward", "objective/scores",
			"loss/policy_avg", "loss/value_avg", "policy/clipfrac_avg", "val/clipfrac_avg", "val/num_eos_tokens"} {
			mean := 0.0 // TRL logs that of the iteration's steps
			for _, step := range steps {
				mean += step.Parts[name] / 3
			}
			if want := e.Floats("ppo." + name)[0]; math.Abs(mean-want) > 1e-4*max(1, math.Abs(want)) {
				t.Errorf("%s is %g, TRL's %g", name, mean, want)
			}
		}
	}
}

// TestSFTStepsAsTRL makes three steps on chosen answers, of which the prompts are given, and wants the weights of TRL's SFTTrainer.
func TestSFTStepsAsTRL(t *testing.T) {
	e := openSteps(t)
	start, err := checkpoint.Load(e.policy)
	if err != nil {
		t.Fatal(err)
	}
	pairs, _ := e.pairs()
	var rows [][]data.Sequence
	tokens := 0
	for _, p := range pairs {
		rows = append(rows, p[:1])
		tokens += len(p[0].IDs)
	}
	m := start.Model
	s := &training{stage: "sft", out: filepath.Join(t.TempDir(), "out"), config: "", TrainConfig: e.train(tokens), checkpoint: start, report: quiet,
		profile: new(autograd.Profile), loss: func(t *autograd.Tape, b data.Batch) loss.Total {
			return loss.CrossEntropy(t, loss.Head{Hidden: m.Forward(t, modelBatch(b)), Weight: m.Head()}, b.Targets)
		}}
	if s.stream, err = s.groups(rows); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.same(t, "sft", m)
	e.losses(t, "sft.losses", s.out)
}
