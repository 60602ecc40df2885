package recipe

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"krait/checkpoint"
	"krait/data"
)

// rankedStories has the embedded model write stories, and makes rows of preferences of those that the rule finds happy and those that it does not:
// three of each happy story among the first ones, and one among the others, which are held out and no fewer than that number.
func rankedStories(t *testing.T, count int) (rows []string, heldOut int) {
	t.Helper()
	dir := t.TempDir()
	c := LabelConfig{Teacher: stories(t, ""), Out: filepath.Join(dir, "labels"), Count: count, MaxTokens: 64, Temperature: 1, TopP: 1, Seed: 5, Width: 16}
	if err := Label(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	docs, err := data.ReadDocuments(filepath.Join(c.Out, labelsFile), 512)
	if err != nil {
		t.Fatal(err)
	}
	start, err := checkpoint.Load(c.Teacher)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := start.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	happy, err := parseRule("rule:happy")
	if err != nil {
		t.Fatal(err)
	}
	learnt := len(docs) * 3 / 4
	for part, docs := range [][]data.Document{docs[:learnt], docs[learnt:]} {
		var good, bad []string
		for _, d := range docs {
			text, err := tok.Decode(d.IDs, true)
			if err != nil {
				t.Fatal(err)
			}
			if happy.score(text) > 0 {
				good = append(good, text)
			} else {
				bad = append(bad, text)
			}
		}
		each := 3 - 2*part
		for i := range min(each*len(good), each*len(bad)) {
			row, err := json.Marshal(map[string]any{"prompt": "", "chosen": good[i/each], "rejected": bad[i%len(bad)]})
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, string(row))
			heldOut += part
		}
	}
	return rows, heldOut
}

func rewardTest(t *testing.T, out string) RewardConfig {
	c := DefaultReward()
	c.Model, c.Data, c.Out = stories(t, ""), []string{rowsFile(t, pairRows...)}, out
	c.TrainConfig = tiny()
	return c
}

// TestRewardLearnsRule trains a reward model on stories ranked by a rule, and has it judge others: it must know better in nine of ten pairs.
func TestRewardLearnsRule(t *testing.T) {
	rows, heldOut := rankedStories(t, 1600)
	c := rewardTest(t, filepath.Join(t.TempDir(), "judge"))
	c.Data, c.HeldOut, c.Margin = []string{rowsFile(t, rows...)}, heldOut, "none"
	c.Steps, c.BatchTokens, c.Warmup, c.LR = 160, 2048, 10, 1e-3
	if err := Reward(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	p, err := checkpoint.ReadProvenance(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rows: %v", len(rows), p.Metrics)
	steps, err := ReadMetrics(c.Out)
	if err != nil || math.Abs(steps[0].Loss-math.Ln2) > 1e-6 {
		t.Errorf("first step %+v, %v, want log 2", steps[0], err)
	}
	if p.Metrics["eval_accuracy"] < 0.9 || p.Metrics["eval_margin"] <= 0 || p.Metrics["eval_accuracy_low"] >= p.Metrics["eval_accuracy"] {
		t.Errorf("%v, want an accuracy of 0.9", p.Metrics)
	}
	held := JudgeConfig{Model: c.Out, Data: []string{rowsFile(t, rows[len(rows)-heldOut:]...)}, Context: c.Context, BatchTokens: c.BatchTokens}
	j, err := Judge(t.Context(), held, quiet)
	if want := p.Metrics; err != nil || j.Accuracy != want["eval_accuracy"] || math.Abs(j.Margin-want["eval_margin"]) > 1e-9 || j.Low != want["eval_accuracy_low"] || j.Pairs != heldOut {
		t.Errorf("judged apart: %+v, %v, want %v", j, err, want)
	}
	held.Model = c.Model
	if _, err := Judge(t.Context(), held, quiet); err == nil || !strings.Contains(err.Error(), "want a reward model") {
		t.Errorf("error %v of a language model that is to judge", err)
	}
	if last := steps[len(steps)-1]; last.Parts["accuracy"] < 0.9 || last.Parts["max_reward"] < last.Parts["mean_reward"] || last.Parts["margin"] <= 0 {
		t.Errorf("last step %+v", last)
	}
}

// TestRewardLoads checks the form of the result: Transformers' layout, read back as a reward model, and never as a language model.
func TestRewardLoads(t *testing.T) {
	c := rewardTest(t, filepath.Join(t.TempDir(), "judge"))
	if err := Reward(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(c.Out, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Architectures []string
		ID2Label      map[string]string
	}
	if err := json.Unmarshal(text, &config); err != nil || config.Architectures[0] != "LlamaForSequenceClassification" || len(config.ID2Label) != 1 {
		t.Errorf("%s, %v", text, err)
	}
	judge, err := checkpoint.LoadReward(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]int{}
	for name, p := range judge.Model.Params {
		names[name] = p.Shape
	}
	if s := names["score.weight"]; len(s) != 2 || s[0] != 1 || s[1] != 64 || names["lm_head.weight"] != nil {
		t.Errorf("weights %v", names)
	}
	if _, err := checkpoint.Load(c.Out); err == nil || !strings.Contains(err.Error(), "judges text and cannot write it") {
		t.Errorf("error %v of a reward model read as a language model", err)
	}
	if _, err := checkpoint.LoadPacked(c.Out, "q8"); err == nil {
		t.Error("a reward model was packed to write")
	}
	if _, err := checkpoint.LoadReward(c.Model); err == nil || !strings.Contains(err.Error(), "want a reward model") {
		t.Errorf("error %v of a language model read as a reward model", err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := checkpoint.Save(again, judge); err != nil {
		t.Fatal(err)
	}
	sameFile(t, filepath.Join(c.Out, "model.safetensors"), filepath.Join(again, "model.safetensors"))
}

// TestRewardResumes checks that a run which is stopped between steps ends in the same bits.
func TestRewardResumes(t *testing.T) {
	dir := t.TempDir()
	c := rewardTest(t, filepath.Join(dir, "whole"))
	c.SaveEvery, c.HeldOut = 1, 1
	if err := Reward(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	c.Out = filepath.Join(dir, "parts")
	interrupt(t, func(r Report) error { return Reward(t.Context(), c, r) })
	for _, name := range []string{"model.safetensors", "config.json"} {
		sameFile(t, filepath.Join(dir, "whole", name), filepath.Join(c.Out, name))
	}
}

// TestRewardMargins checks that margins come from where they are told to.
func TestRewardMargins(t *testing.T) {
	row := func(margin string) string {
		return fmt.Sprintf(`{"prompt":"Once upon","chosen":" a time there was","rejected":" was there time"%s}`, margin)
	}
	for _, x := range []struct {
		where, margin, fails string
		first                float64 // loss of equal scores
	}{
		{"column", `,"margin":2`, "", 2.1269280110429727},
		{"column", ``, "", math.Ln2},
		{"none", `,"margin":2`, "", math.Ln2},
		{"scores", `,"score_chosen":9,"score_rejected":7`, "", 2.1269280110429727},
		{"scores", ``, "no score_chosen", 0},
		{"column", `,"margin":"much"`, "margin is \"much\"", 0},
	} {
		c := rewardTest(t, filepath.Join(t.TempDir(), "judge"))
		c.Data, c.Margin, c.Steps = []string{rowsFile(t, row(x.margin))}, x.where, 1
		err := Reward(t.Context(), c, quiet)
		if x.fails != "" {
			if err == nil || !strings.Contains(err.Error(), x.fails) || !strings.Contains(err.Error(), "line 1") {
				t.Errorf("%s%s: error %v, want %q", x.where, x.margin, err, x.fails)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		steps, err := ReadMetrics(c.Out)
		if err != nil || math.Abs(steps[0].Loss-x.first) > 1e-6 {
			t.Errorf("%s%s: loss %g, %v, want %g", x.where, x.margin, steps[0].Loss, err, x.first)
		}
	}
}

func TestBadReward(t *testing.T) {
	for want, change := range map[string]func(*RewardConfig){
		"margin \"much\"":     func(c *RewardConfig) { c.Margin = "much" },
		"centres rewards":     func(c *RewardConfig) { c.Centre = -1 },
		"4 are held out":      func(c *RewardConfig) { c.HeldOut = 4 },
		"crop must be 0":      func(c *RewardConfig) { c.Crop = 0.5 },
		"no such file":        func(c *RewardConfig) { c.Data = append(c.Data, "none") },
		"nothing in it is to": func(c *RewardConfig) { c.Data = []string{rowsFile(t, `{"prompt":"a","chosen":"","rejected":"b"}`)} },
	} {
		c := rewardTest(t, filepath.Join(t.TempDir(), "out"))
		change(&c)
		if err := Reward(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(checkpoint.Partial(c.Out)); err == nil {
			t.Errorf("%s: work was begun", want)
		}
	}
}
