package recipe

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/loss"
)

func ppoTest(t *testing.T, out string) PPOConfig {
	c := DefaultPPO()
	c.Policy, c.Reward, c.Out = stories(t, ""), "rule:happy", out
	c.Batch, c.ResponseLength, c.Temperature, c.PPOEpochs, c.MiniBatches = 8, 12, 1, 2, 2
	c.TrainConfig = tiny()
	c.Steps, c.LR, c.Schedule = 10, 1e-4, "constant"
	return c
}

// TestPPOBeginsAtRatioOne checks that responses were sampled from the policy that learns from them: where an iteration begins, new and old
// log-probabilities are the same, and the sampled tokens are as likely as its entropy says.
func TestPPOBeginsAtRatioOne(t *testing.T) {
	c := ppoTest(t, filepath.Join(t.TempDir(), "out"))
	c.MiniBatches, c.Batch, c.ResponseLength, c.Temperature, c.Accumulate = 1, 32, 40, 0.8, 2
	if err := PPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	steps, err := ReadMetrics(c.Out)
	if err != nil || len(steps) != c.Steps {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for i, s := range steps {
		ratio, change := s.Parts["val/ratio"], s.Parts["policy/approxkl_avg"]
		if first := i%c.PPOEpochs == 0; first && (math.Abs(ratio-1) > 1e-4 || change > 1e-8) || !first && change == 0 {
			t.Errorf("step %d: ratio %g, change %g", s.Step, ratio, change)
		}
	}
	if kl := steps[0].Parts["objective/kl"]; math.Abs(kl) > 1e-3 {
		t.Errorf("KL %g to the reference before the first step", kl)
	}
	if steps[len(steps)-1].Parts["objective/kl"] == 0 {
		t.Error("the policy has not moved")
	}
	sampledFromPolicy(t, c)
}

// sampledFromPolicy checks that the sampled tokens are as likely as the policy's entropy says.
func sampledFromPolicy(t *testing.T, c PPOConfig) {
	t.Helper()
	s, err := c.rollouts(quiet)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.sample(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := rolloutBatch(list)
	tape, m := autograd.NewScratch(), s.policy.Model
	head := c.head(m, m.Forward(tape, modelBatch(b)))
	total := loss.PPO{Clip: 0.2}.Policy(tape, head, b.Targets, loss.LogProbs(tape, head, b.Targets), make([]float64, len(b.Targets)))
	var surprise, squares, n float64 // -log p(token) - entropy has the mean 0
	for i, l := range loss.LogProbs(tape, head, b.Targets) {
		if b.Targets[i] >= 0 {
			surprise, squares, n = surprise-l, squares+l*l, n+1
		}
	}
	mean := surprise / n
	entropy, deviation := total.Parts["policy/entropy_avg"]/n, math.Sqrt((squares/n-mean*mean)/n)
	if math.Abs(mean-entropy) > 4*deviation {
		t.Errorf("the %g sampled tokens are %.4f nats unlikely, their entropy is %.4f ± %.4f: another distribution", n, mean, entropy, deviation)
	}
}

// TestPPOGuessesAhead: responses that a draft and n-grams guessed ahead are the policy's own: the ratio is 1 where an iteration begins, the sampled
// tokens are as likely as its entropy says, second tokens come as often as plain ones do, and the width changes none.
func TestPPOGuessesAhead(t *testing.T) {
	dir := t.TempDir()
	c := ppoTest(t, filepath.Join(dir, "out"))
	c.Draft, c.NGram, c.MiniBatches, c.Batch, c.ResponseLength, c.Temperature, c.Steps = filepath.Join(dir, "draft"), true, 1, 48, 40, 0.8, 4
	if err := Init(t.Context(), InitConfig{Teacher: c.Policy, Out: c.Draft, AttnLayers: []int{0, 2, 4}, Init: "linear"}, quiet); err != nil {
		t.Fatal(err)
	}
	if err := PPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	steps, err := ReadMetrics(c.Out)
	if err != nil || len(steps) != 4 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for i, s := range steps {
		ratio, change := s.Parts["val/ratio"], s.Parts["policy/approxkl_avg"]
		if first := i%c.PPOEpochs == 0; first && (math.Abs(ratio-1) > 1e-4 || change > 1e-8) || !first && change == 0 {
			t.Errorf("step %d: ratio %g, change %g", s.Step, ratio, change)
		}
	}
	p, err := checkpoint.ReadProvenance(c.Out)
	if err != nil || !(p.Metrics["rollout_tokens_per_step"] > 1.05) {
		t.Errorf("%v tokens a step, %v", p.Metrics["rollout_tokens_per_step"], err)
	}
	sampledFromPolicy(t, c)
	narrow, wide := respond(t, c, 1), respond(t, c, 16)
	for i := range narrow {
		if !slices.Equal(narrow[i].Response, wide[i].Response) {
			t.Fatalf("response %d is %v alone and %v beside others", i, narrow[i].Response, wide[i].Response)
		}
	}
	c.Batch, c.ResponseLength, c.Prompts = 1000, 2, filepath.Join(dir, "prompts.txt")
	if err := os.WriteFile(c.Prompts, []byte("Once upon a time, there was a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	guessed := respond(t, c, 16)
	c.Draft, c.NGram, c.Speculate, c.Seed = "", false, 0, c.Seed+1
	if chi, freedom := secondTokens(guessed, respond(t, c, 16)); freedom < 5 || chi > freedom+4*math.Sqrt(2*freedom) {
		t.Errorf("chi-squared is %.1f for %g degrees of freedom", chi, freedom)
	}
}

// respond samples the responses of the first iteration.
func respond(t *testing.T, c PPOConfig, width int) []*rollout {
	t.Helper()
	c.Width = width
	s, err := c.rollouts(quiet)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.sample(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// secondTokens returns Pearson's statistic of the last tokens of two equally long lists of responses, rare ones together.
func secondTokens(a, b []*rollout) (chi, freedom float64) {
	counts, rest := map[int32][2]float64{}, [2]float64{}
	for n, list := range [][]*rollout{a, b} {
		for _, r := range list {
			x := counts[r.Response[len(r.Response)-1]]
			x[n]++
			counts[r.Response[len(r.Response)-1]] = x
		}
	}
	add := func(x [2]float64) {
		if sum := x[0] + x[1]; sum > 0 {
			chi, freedom = chi+(x[0]-x[1])*(x[0]-x[1])/sum, freedom+1
		}
	}
	for _, x := range counts {
		if x[0]+x[1] < 10 {
			rest[0], rest[1] = rest[0]+x[0], rest[1]+x[1]
		} else {
			add(x)
		}
	}
	add(rest)
	return chi, freedom - 1
}

// TestPPOPleasesRule trains the embedded model to end its stories happily.
func TestPPOPleasesRule(t *testing.T) {
	c := ppoTest(t, filepath.Join(t.TempDir(), "out"))
	c.Batch, c.ResponseLength, c.MiniBatches, c.PPOEpochs, c.Steps, c.LR, c.BatchTokens, c.KLCoef = 64, 40, 1, 4, 48, 1.5e-4, 4096, 0.1
	if err := PPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	steps, err := ReadMetrics(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	first, last := steps[0].Parts, steps[len(steps)-1].Parts
	t.Logf("score %.3f (deviation %.3f) before, %.3f after, KL %.2f", first["objective/scores"], first["objective/scores_std"], last["objective/scores"], last["objective/kl"])
	if gain := last["objective/scores"] - first["objective/scores"]; gain < first["objective/scores_std"]/2 || last["objective/kl"] > 10 {
		t.Errorf("scores %+v, then %+v", first, last)
	}
	text, err := os.ReadFile(filepath.Join(c.Out, samplesFile))
	if err != nil {
		t.Fatal(err)
	}
	var row struct {
		Response string
		Score    *float64
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if err := json.Unmarshal([]byte(lines[0]), &row); err != nil || len(lines) != c.Batch || row.Response == "" || row.Score == nil {
		t.Errorf("%d samples, the first %s, %v", len(lines), lines[0], err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.Out, "rollout-*")); len(left) > 0 {
		t.Errorf("%v were left", left)
	}
	if _, err := checkpoint.Load(c.Out); err != nil {
		t.Error(err)
	}
}

// TestPPOResumes checks that a run which is stopped while it samples and between steps ends in the same bits, with a reward model too.
func TestPPOResumes(t *testing.T) {
	dir := t.TempDir()
	c := ppoTest(t, filepath.Join(dir, "whole"))
	r := rewardTest(t, filepath.Join(dir, "judge"))
	if err := Reward(t.Context(), r, quiet); err != nil {
		t.Fatal(err)
	}
	c.Reward, c.SaveEvery, c.Steps, c.Prompts = r.Out, 1, 6, rowsFile(t, "Once upon a time", "The dog", "Lily was")
	if err := os.Rename(c.Prompts, c.Prompts+".txt"); err != nil {
		t.Fatal(err)
	}
	c.Prompts += ".txt"
	if err := PPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	c.Out = filepath.Join(dir, "parts")
	seen := 0
	interrupt(t, func(r Report) error {
		return PPO(t.Context(), c, func(e Event) {
			if seen++; e.Unit == "steps" || seen%8 == 5 { // all steps, and now and then a response
				r(e)
			}
		})
	})
	for _, name := range []string{"model.safetensors", samplesFile} {
		sameFile(t, filepath.Join(dir, "whole", name), filepath.Join(c.Out, name))
	}
	whole, _ := ReadMetrics(filepath.Join(dir, "whole"))
	parts, err := ReadMetrics(c.Out)
	if err != nil || len(parts) != len(whole) {
		t.Fatalf("%d steps, %v, want %d", len(parts), err, len(whole))
	}
	for i := range parts {
		if parts[i].Loss != whole[i].Loss || parts[i].Parts["objective/scores"] != whole[i].Parts["objective/scores"] {
			t.Errorf("step %d: %+v in parts, %+v in one piece", i+1, parts[i], whole[i])
		}
	}
}

func TestBadPPO(t *testing.T) {
	words := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(words, []byte("1 2 3"), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*PPOConfig){
		"want positive numbers":      func(c *PPOConfig) { c.Batch = 0 },
		"want a multiple of 6":       func(c *PPOConfig) { c.MiniBatches, c.Accumulate = 3, 2 },
		"temperature is 0":           func(c *PPOConfig) { c.Temperature = 0 },
		"kl estimator \"k2\"":        func(c *PPOConfig) { c.KLEstimator = "k2" },
		"kl_coef -1":                 func(c *PPOConfig) { c.KLCoef = -1 },
		"cliprange 0":                func(c *PPOConfig) { c.ClipRange = 0 },
		"gamma 2":                    func(c *PPOConfig) { c.Gamma = 2 },
		"the reward is missing":      func(c *PPOConfig) { c.Reward = "" },
		"want a reward model, as kr": func(c *PPOConfig) { c.Reward = c.Policy },
		"no such file":               func(c *PPOConfig) { c.Reward = "rule:none" },
		"with a draft or ngram":      func(c *PPOConfig) { c.Speculate = 3 },
		"has no words":               func(c *PPOConfig) { c.Reward = "rule:" + words },
		"leave no room":              func(c *PPOConfig) { c.ResponseLength = 512 },
	} {
		c := ppoTest(t, filepath.Join(t.TempDir(), "out"))
		change(&c)
		if err := PPO(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(checkpoint.Partial(c.Out)); err == nil {
			t.Errorf("%s: work was begun", want)
		}
	}
}
