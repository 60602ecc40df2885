package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
	"krait/model"
	"krait/tensor"
)

// PPOConfig is the configuration of PPO. A step is of the optimiser: an iteration has PPOEpochs·MiniBatches of them.
type PPOConfig struct {
	Policy         string  `json:"policy"`
	Reward         string  `json:"reward"`  // a reward model, or a rule: rule:happy, rule:FILE
	Ref            string  `json:"ref"`     // the reference; empty: the policy as it starts
	Prompts        string  `json:"prompts"` // as Label's
	AsChat         bool    `json:"as_chat"` // prompts are said by the user in a conversation; otherwise they begin a text
	Out            string  `json:"-"`
	Batch          int     `json:"rollout_batch_size"` // responses of an iteration
	ResponseLength int     `json:"response_length"`    // tokens of a response, at most
	Temperature    float64 `json:"temperature"`        // of sampling and of all log-probabilities
	PPOEpochs      int     `json:"num_ppo_epochs"`     // passes over an iteration's responses
	MiniBatches    int     `json:"num_mini_batches"`   // steps of a pass
	KLCoef         float64 `json:"kl_coef"`            // price of a nat of KL to the reference
	KLEstimator    string  `json:"kl_estimator"`       // k1 or k3
	ClipRange      float64 `json:"cliprange"`
	ClipValue      float64 `json:"cliprange_value"`
	ValueCoef      float64 `json:"vf_coef"`
	Gamma          float64 `json:"gamma"`
	Lambda         float64 `json:"lam"`
	WhitenRewards  bool    `json:"whiten_rewards"`
	MissingEOS     float64 `json:"missing_eos_penalty"`    // taken from the score of a response that does not end by itself
	Draft          string  `json:"draft,omitempty"`        // a model that guesses the responses ahead; they are as likely as without
	NGram          bool    `json:"ngram,omitempty"`        // guesses what followed the same tokens before
	Speculate      int     `json:"speculate,omitempty"`    // tokens to guess ahead, always as many, so that a seed gives the same responses again; 0: 4 with a draft or n-grams
	Width          int     `json:"-" yaml:"rollout_width"` // responses written side by side; changes none
	TrainConfig
}

// DefaultPPO returns the defaults of PPO: those of TRL, where it has some.
func DefaultPPO() PPOConfig {
	c := PPOConfig{Batch: 64, ResponseLength: 53, Temperature: 0.7, PPOEpochs: 4, MiniBatches: 1, KLCoef: 0.05, KLEstimator: "k1", ClipRange: 0.2,
		ClipValue: 0.2, ValueCoef: 0.1, Gamma: 1, Lambda: 0.95, Width: 16, TrainConfig: DefaultTrain()}
	c.Steps, c.LR, c.Beta2, c.Schedule, c.Warmup = 400, 3e-6, 0.999, "linear", 0
	return c
}

// Check refuses values that no PPO can have.
func (c *PPOConfig) Check() error {
	switch {
	case c.Batch <= 0 || c.ResponseLength <= 0 || c.PPOEpochs <= 0 || c.MiniBatches <= 0:
		return fmt.Errorf("%d responses of %d tokens, %d epochs, %d mini-batches: want positive numbers", c.Batch, c.ResponseLength, c.PPOEpochs, c.MiniBatches)
	case c.Accumulate > 0 && c.Batch%(c.MiniBatches*c.Accumulate) != 0:
		return fmt.Errorf("%d responses cannot be cut into %d mini-batches of %d batches: want a multiple of %d", c.Batch, c.MiniBatches, c.Accumulate,
			c.MiniBatches*c.Accumulate)
	case !(c.Temperature > 0) || math.IsInf(c.Temperature, 0):
		return fmt.Errorf("temperature is %g, want a positive number: PPO learns from what is sampled", c.Temperature)
	case c.KLEstimator != "k1" && c.KLEstimator != "k3":
		return fmt.Errorf("kl estimator %q: want k1 or k3", c.KLEstimator)
	case !(c.KLCoef >= 0) || !(c.ValueCoef >= 0) || !(c.MissingEOS >= 0):
		return fmt.Errorf("kl_coef %g, vf_coef %g, missing_eos_penalty %g: want numbers from 0 up", c.KLCoef, c.ValueCoef, c.MissingEOS)
	case !(c.ClipRange > 0) || !(c.ClipValue > 0):
		return fmt.Errorf("cliprange %g, cliprange_value %g: want positive numbers", c.ClipRange, c.ClipValue)
	case !(c.Gamma >= 0 && c.Gamma <= 1) || !(c.Lambda >= 0 && c.Lambda <= 1):
		return fmt.Errorf("gamma %g and lam %g: want numbers from 0 to 1", c.Gamma, c.Lambda)
	case c.Speculate < 0 || c.Speculate > 0 && c.Draft == "" && !c.NGram:
		return fmt.Errorf("speculate is %d: want a number from 1 up, with a draft or ngram to guess tokens", c.Speculate)
	case c.Reward == "":
		return errors.New("the reward is missing: want a reward model, or a rule such as rule:happy")
	}
	return nil
}

// head returns a model's side of a loss at the temperature. TRL divides by so little more than it.
func (c *PPOConfig) head(m *model.Model, hidden *tensor.Tensor) loss.Head {
	return loss.Head{Hidden: hidden, Weight: m.Head(), Temperature: c.Temperature + 1e-7}
}

// PPO trains a policy to please a reward without leaving its reference far behind, stage three of the method with a reward model: proximal policy
// optimisation as TRL has it (method §3.6), without padding. The value model begins as the reward model, or with a rule as the policy
// with a new output layer; only the policy is the stage's result.
func PPO(ctx context.Context, c PPOConfig, report Report) error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Steps <= 0 {
		return errors.New("steps is 0: PPO has no passes over data to count instead")
	}
	s, err := c.rollouts(report)
	if err != nil {
		return err
	}
	return s.train(ctx)
}

// train runs the iterations.
func (s *rollouts) train(ctx context.Context) error {
	c, m := s.c, s.policy.Model
	return (&training{stage: "ppo", out: c.Out, config: *c, inputs: []string{c.Policy, c.Ref, ruleFile(c.Reward), c.Prompts, c.Draft}, TrainConfig: c.TrainConfig, checkpoint: s.policy,
		value: s.value, frozen: s.beside, stream: s, loss: func(t *autograd.Tape, b data.Batch) loss.Total { return s.loss(t, m, b) }, ahead: s.collect, after: s.finish,
		says: s.says, profile: s.profile, report: s.report}).run(ctx)
}

// rollouts reads the models and prompts.
func (c *PPOConfig) rollouts(report Report) (*rollouts, error) {
	policy, err := report.load(c.Policy)
	if err != nil {
		return nil, err
	}
	s := &rollouts{c: c, dir: checkpoint.Partial(c.Out), policy: policy, report: report, loaded: -1, profile: new(autograd.Profile), steering: policy.EOS}
	s.respond = s.sample
	limit := policy.Model.Config.MaxPositionEmbeddings
	if limit <= 0 || limit > c.Context {
		limit = c.Context
	}
	if limit <= c.ResponseLength {
		return nil, fmt.Errorf("responses of %d tokens leave no room for prompts in a context of %d", c.ResponseLength, limit)
	}
	if s.prompts, err = labelPrompts(policy, c.Prompts, limit-c.ResponseLength+1, c.AsChat); err != nil {
		return nil, err
	}
	ref := c.Ref
	if ref == "" {
		ref = c.Policy
	}
	if s.ref, err = loadReference(report, ref, policy); err != nil {
		return nil, err
	}
	s.beside = append(s.beside, s.ref)
	if err := c.guesses(s); err != nil {
		return nil, err
	}
	return s, c.judges(s)
}

// guessAhead is how many tokens are guessed where nothing says it.
const guessAhead = 4

// guesses reads the draft model.
func (c *PPOConfig) guesses(s *rollouts) error {
	if (c.Draft != "" || c.NGram) && c.Speculate == 0 {
		c.Speculate = guessAhead
	}
	if c.Draft == "" {
		return nil
	}
	draft, err := s.report.loadDraftPacked(c.Draft, "f32")
	if err != nil {
		return err
	}
	if _, err := checkpoint.CheckHead(s.policy, draft); err != nil {
		return fmt.Errorf("draft %s: %w", c.Draft, err)
	}
	if err := sameTokenizer("draft", draft, s.policy); err != nil {
		return err
	}
	s.draft = draft.Model
	s.beside = append(s.beside, s.draft)
	return nil
}

// judges reads the reward and the value model.
func (c *PPOConfig) judges(s *rollouts) error {
	if !IsRule(c.Reward) {
		judge, err := loadReward(c.Reward, s.policy)
		if err != nil {
			return err
		}
		if s.value, err = loadReward(c.Reward, s.policy); err != nil {
			return err
		}
		judge.Pack()
		s.beside = append(s.beside, judge)
		s.judge = func(ctx context.Context, list []*rollout) error {
			var sequences []data.Sequence
			for _, r := range list {
				ids := append(append([]int32{}, r.Prompt...), r.Response...)
				sequences = append(sequences, data.Sequence{IDs: ids, Learn: make([]bool, len(ids))})
			}
			scores, err := scores(ctx, judge, sequences, c.BatchTokens)
			for i := range scores {
				list[i].Score = scores[i]
			}
			return err
		}
		return nil
	}
	rule, err := parseRule(c.Reward)
	if err != nil {
		return err
	}
	tok, err := s.policy.Tokenizer()
	if err != nil {
		return fmt.Errorf("%s: %w", c.Policy, err)
	}
	value, err := s.report.load(c.Policy)
	if err != nil {
		return err
	}
	s.value = value.Model
	s.value.ToReward()
	s.judge = func(_ context.Context, list []*rollout) error {
		for _, r := range list {
			text, err := tok.Decode(r.Response, true)
			if err != nil {
				return err
			}
			r.Score = rule.score(text)
		}
		return nil
	}
	return nil
}

// advantages computes those of an iteration's responses, and the figures under TRL's names (scores_std is ours).
func (c *PPOConfig) advantages(list []*rollout) map[string]float64 {
	figures := map[string]float64{"val/num_eos_tokens": 0}
	n := float64(len(list))
	rewards, tokens := make([][]float64, len(list)), make([][]float64, len(list))
	for i, r := range list {
		rewards[i] = make([]float64, len(r.Values))
		score := r.Score
		if r.Ended {
			figures["val/num_eos_tokens"]++
		} else {
			score -= c.MissingEOS
		}
		for j, l := range r.LogProbs {
			kl := loss.KLEstimate(c.KLEstimator == "k3", l, r.Ref[j])
			rewards[i][j] = -c.KLCoef * kl
			figures["objective/kl"] += kl / n
			figures["objective/entropy"] -= l / n
			figures["objective/non_score_reward"] -= c.KLCoef * kl / n
		}
		rewards[i][len(r.Values)-1] += score
		figures["objective/scores"] += score / n
	}
	for _, r := range list {
		score := r.Score - figures["objective/scores"]
		if !r.Ended {
			score -= c.MissingEOS
		}
		figures["objective/scores_std"] += score * score / max(n-1, 1)
	}
	figures["objective/scores_std"] = math.Sqrt(figures["objective/scores_std"])
	figures["objective/rlhf_reward"] = figures["objective/scores"] + figures["objective/non_score_reward"]
	if c.WhitenRewards {
		loss.Whiten(false, rewards...)
	}
	for i, r := range list {
		r.advantages, r.returns = loss.GAE(rewards[i], r.Values, c.Gamma, c.Lambda)
		r.advantages = r.advantages[:len(r.Response)]
		tokens[i] = r.advantages
	}
	loss.Whiten(true, tokens...)
	return figures
}

// loss is PPO's loss of the latest micro-batch: a sum over its response tokens, whose value part is weighed so that the mini-batch's sum
// over its tokens is policy mean + coefficient · value mean.
func (s *rollouts) loss(t *autograd.Tape, m *model.Model, b data.Batch) loss.Total {
	old, _ := spreadRows(s.dealt, func(r *rollout) []float64 { return r.LogProbs })
	advantages, _ := spreadRows(s.dealt, func(r *rollout) []float64 { return r.advantages })
	oldValues, counted := spreadRows(s.dealt, func(r *rollout) []float64 { return r.Values })
	returns, _ := spreadRows(s.dealt, func(r *rollout) []float64 { return r.returns })
	p := loss.PPO{Clip: s.c.ClipRange, ClipValue: s.c.ClipValue}
	mb := modelBatch(b)
	total := p.Policy(t, s.c.head(m, m.Forward(t, mb)), b.Targets, old, advantages)
	scale := float64(s.counts[0]) / float64(s.counts[1])
	value := p.Value(t, s.value.Logits(t, s.value.Forward(t, mb)), counted, oldValues, returns, s.c.ValueCoef*scale)
	total.Sum += s.c.ValueCoef * scale * value.Sum
	for name, v := range value.Parts {
		total.Parts[name] = scale * v
	}
	for name, v := range s.figures {
		total.Parts[name] = v * float64(total.Tokens)
	}
	return total
}

// says describes a step for the user.
func (s *rollouts) says(parts map[string]float64) string {
	return fmt.Sprintf("score %.3f  kl %.2f", parts["objective/scores"], parts["objective/kl"])
}

// samplesFile holds the responses of the last iteration, one JSON object a line.
const samplesFile = "samples.jsonl"

// finish leaves the last iteration's responses as text, and the score that the policy began and ended with.
func (s *rollouts) finish(context.Context) (map[string]float64, error) {
	if s.loaded < 0 { // resumed where all was done
		s.at.Epoch = max(0, s.at.Epoch-1)
		if err := s.read(); err != nil {
			return nil, err
		}
	}
	tok, err := s.policy.Tokenizer()
	if err != nil && s.policy.Files["tokenizer.json"] != nil {
		return nil, fmt.Errorf("%s: %w", s.c.Policy, err)
	}
	text := func(ids []int32) (any, error) {
		if tok == nil {
			return ids, nil
		}
		return tok.Decode(ids, true)
	}
	var out bytes.Buffer
	for _, r := range s.list {
		prompt, err := text(r.Prompt)
		if err != nil {
			return nil, err
		}
		response, err := text(r.Response)
		if err != nil {
			return nil, err
		}
		line, err := json.Marshal(map[string]any{"prompt": prompt, "response": response, "score": r.Score, "ended": r.Ended})
		if err != nil {
			return nil, err
		}
		out.Write(append(line, '\n'))
	}
	if err := checkpoint.WriteFile(filepath.Join(s.dir, samplesFile), out.Bytes()); err != nil {
		return nil, err
	}
	figures := map[string]float64{"scores": s.figures["objective/scores"], "kl": s.figures["objective/kl"]}
	if s.drafted.Rounds > 0 && s.c.Speculate > 0 {
		figures["rollout_tokens_per_step"] = 1 + float64(s.drafted.Accepted)/float64(s.drafted.Rounds)
	}
	return figures, s.prune(math.MaxInt)
}
