package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"krait/data"
)

func preferTest(t *testing.T, out string) PreferConfig {
	model := stories(t, "")
	prompts := filepath.Join(t.TempDir(), "prompts.txt")
	if err := os.WriteFile(prompts, []byte("Once upon a time\n\nLily was\nThe dog\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return PreferConfig{A: model, B: model, Prompts: prompts, Out: out, Count: 9, MaxTokens: 12, Temperature: 1, TopP: 1, Seed: 4}
}

// longer chooses the longer answer, and now and then nothing.
func longer(x Comparison) (string, error) {
	switch {
	case x.Number%4 == 0:
		return ChooseNone, nil
	case x.Number%7 == 0:
		return ChooseSkip, nil
	case len(x.First) > len(x.Second):
		return ChooseFirst, nil
	}
	return ChooseSecond, nil
}

// TestPrefer checks that the chosen answers are the chosen ones, that both models are shown first, and that the rows are read as preferences.
func TestPrefer(t *testing.T) {
	c := preferTest(t, filepath.Join(t.TempDir(), "pairs.jsonl"))
	got, err := Prefer(t.Context(), c, longer, quiet)
	if err != nil || got.Alike != 2 || got.Skipped != 1 || got.A+got.B != 6 || got.Left != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	rows := 0
	for p, err := range data.Preferences(c.Out) {
		if err != nil {
			t.Fatal(err)
		}
		rows++
		if len(p.Chosen.Completion) < len(p.Rejected.Completion) || p.Chosen.Prompt == "" {
			t.Errorf("row %+v", p)
		}
	}
	votes, err := os.ReadFile(c.Out + votesSuffix)
	if err != nil || rows != 6 || !strings.Contains(string(votes), `"shown":0`) || !strings.Contains(string(votes), `"shown":1`) {
		t.Errorf("%d rows, votes %s, %v", rows, votes, err)
	}
	d := dpoTest(t, filepath.Join(t.TempDir(), "dpo"))
	d.Pairs = []string{c.Out}
	if err := DPO(t.Context(), d, quiet); err != nil {
		t.Error(err)
	}
}

// TestPreferGoesOn checks that decisions survive a quit, an error and a half-written line, with the same result as in one sitting.
func TestPreferGoesOn(t *testing.T) {
	c := preferTest(t, filepath.Join(t.TempDir(), "pairs.jsonl"))
	if _, err := Prefer(t.Context(), c, longer, quiet); err != nil {
		t.Fatal(err)
	}
	whole, parts := c.Out, c
	parts.Out = filepath.Join(t.TempDir(), "pairs.jsonl")
	left := c.Count
	for i := range 20 {
		seen := 0
		got, err := Prefer(t.Context(), parts, func(x Comparison) (string, error) {
			if seen++; seen > 2 {
				if i%2 == 0 {
					return ChooseQuit, nil
				}
				return "", context.Canceled
			}
			return longer(x)
		}, quiet)
		if i%2 == 1 && got.Left > 0 && !errors.Is(err, context.Canceled) || i%2 == 0 && err != nil {
			t.Fatalf("%+v, %v", got, err)
		}
		if got.Left != max(0, left-2) {
			t.Fatalf("%d left after %d", got.Left, left)
		}
		if left = got.Left; left == 0 {
			break
		}
		f, err := os.OpenFile(parts.Out+votesSuffix, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(`{"prompt":"Onc`); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	sameFile(t, whole, parts.Out)
	parts.Seed++
	if _, err := Prefer(t.Context(), parts, longer, quiet); err == nil || !strings.Contains(err.Error(), "of another comparison") {
		t.Errorf("error %v of other settings", err)
	}
	if err := os.Remove(parts.Out + votesSuffix); err != nil {
		t.Fatal(err)
	}
	if _, err := Prefer(t.Context(), parts, longer, quiet); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("error %v of a file that is there", err)
	}
}

// TestPreferJudge checks that a rule and a reward model choose what they find better.
func TestPreferJudge(t *testing.T) {
	c := preferTest(t, filepath.Join(t.TempDir(), "pairs.jsonl"))
	c.Judge, c.Prompts, c.Count, c.MaxTokens = "rule:happy", "", 40, 40
	got, err := Prefer(t.Context(), c, nil, quiet)
	if err != nil || got.A+got.B == 0 || got.Alike == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	happy, err := parseRule(c.Judge)
	if err != nil {
		t.Fatal(err)
	}
	for p, err := range data.Preferences(c.Out) {
		if err != nil {
			t.Fatal(err)
		}
		if a, b := happy.score(p.Chosen.Completion), happy.score(p.Rejected.Completion); a <= b {
			t.Errorf("chosen %g, rejected %g: %+v", a, b, p)
		}
	}
	r := rewardTest(t, filepath.Join(t.TempDir(), "judge"))
	if err := Reward(t.Context(), r, quiet); err != nil {
		t.Fatal(err)
	}
	c.Judge, c.Out = r.Out, c.Out+"2"
	if got, err = Prefer(t.Context(), c, nil, quiet); err != nil || got.A+got.B+got.Alike != 40 || got.A+got.B < 30 {
		t.Errorf("%+v, %v", got, err)
	}
	for want, change := range map[string]func(*PreferConfig){
		"no such file":               func(c *PreferConfig) { c.Judge = "rule:none" },
		"want a reward model":        func(c *PreferConfig) { c.Judge = c.A },
		"has no chat template":       func(c *PreferConfig) { c.AsChat = true },
		"answers of 0 tokens":        func(c *PreferConfig) { c.MaxTokens = 0 },
		"judges text and cannot":     func(c *PreferConfig) { c.B = r.Out },
		"temperature is -1, want a ": func(c *PreferConfig) { c.Temperature = -1 },
	} {
		c := preferTest(t, filepath.Join(t.TempDir(), "pairs.jsonl"))
		change(&c)
		if _, err := Prefer(t.Context(), c, longer, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(c.Out + votesSuffix); err == nil {
			t.Errorf("%s: a file was begun", want)
		}
	}
}
