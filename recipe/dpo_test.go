package recipe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
	"krait/loss"
)

// pairRows are pairs whose chosen answers are stories and whose rejected ones are not.
var pairRows = []string{
	`{"prompt":"Once upon","chosen":" a time there was","rejected":" was there time"}`, `{"prompt":"The cat","chosen":" sat on the mat","rejected":" mat the"}`,
	`{"prompt":"Lily was","chosen":" very happy","rejected":" down tree happy"}`, `{"prompt":"The big","chosen":" tree fell","rejected":" dog dog dog"}`,
}

func dpoTest(t *testing.T, out string) DPOConfig {
	c := DefaultDPO()
	c.Model, c.Pairs, c.Out = stories(t, ""), []string{rowsFile(t, pairRows...)}, out
	c.TrainConfig = tiny()
	c.LR = 1e-4
	return c
}

// TestDPO checks that training begins at log 2 where the reference is the start, in pairs, and that margins rise; and another reference.
func TestDPO(t *testing.T) {
	c := dpoTest(t, filepath.Join(t.TempDir(), "out"))
	if err := DPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	metrics, err := ReadMetrics(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	first, last := metrics[0], metrics[len(metrics)-1]
	const ln2 = 0.6931471805599453
	if d := first.Loss - ln2; d > 1e-6 || d < -1e-6 || first.Tokens < 20 || last.Total < 6*20 {
		t.Errorf("first step %+v, want log 2, and tokens", first)
	}
	if last.Parts["rewards/margins"] < 0.05 || last.Loss > first.Loss {
		t.Errorf("last step %+v: margins did not rise", last)
	}
	c.Ref, c.Out, c.LossType = c.Out, c.Out+"2", "ipo"
	if err := DPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	if metrics, err = ReadMetrics(c.Out); err != nil || metrics[0].Parts["rewards/margins"] >= 0 {
		t.Errorf("against the trained model: %+v, %v, want a margin below zero", metrics, err)
	}
	p, err := checkpoint.ReadProvenance(c.Out)
	if err != nil || p.Metrics["num_pairs"] == 0 || p.Metrics["num_tokens"] < 6*20 || len(p.Inputs) != 3 {
		t.Errorf("record %+v, %v", p, err)
	}
}

// TestDPOResumes checks that a run which is stopped while the reference is asked and between steps ends in the same bits.
func TestDPOResumes(t *testing.T) {
	dir := t.TempDir()
	c := dpoTest(t, filepath.Join(dir, "whole"))
	c.SaveEvery = 1
	if err := DPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	c.Out = filepath.Join(dir, "parts")
	interrupt(t, func(r Report) error { return DPO(t.Context(), c, r) })
	whole, _ := ReadMetrics(filepath.Join(dir, "whole"))
	if parts, err := ReadMetrics(c.Out); err != nil || len(parts) != len(whole) || parts[5].Total != whole[5].Total {
		t.Errorf("metrics %+v, %v, want those of %+v", parts, err, whole)
	}
	for _, name := range []string{"model.safetensors", referenceFile} {
		sameFile(t, filepath.Join(dir, "whole", name), filepath.Join(c.Out, name))
	}
}

func TestBadDPO(t *testing.T) {
	other := stories(t, "")
	var tok map[string]any
	file := filepath.Join(other, "tokenizer.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &tok); err != nil {
		t.Fatal(err)
	}
	vocab := tok["model"].(map[string]any)["vocab"].(map[string]any)
	vocab["q"], vocab["z"] = vocab["z"], vocab["q"]
	if text, err = json.Marshal(tok); err == nil {
		err = os.WriteFile(file, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*DPOConfig){
		"loss type \"hinge\"":      func(c *DPOConfig) { c.LossType = "hinge" },
		"beta is 0":                func(c *DPOConfig) { c.Beta = 0 },
		"label smoothing is 0.5":   func(c *DPOConfig) { c.Smoothing = 0.5 },
		"the loss ipo has none":    func(c *DPOConfig) { c.LossType, c.Smoothing = "ipo", 0.1 },
		"crop must be 0":           func(c *DPOConfig) { c.Crop = 0.5 },
		"another tokenizer":        func(c *DPOConfig) { c.Ref = other },
		"date \"today\"":           func(c *DPOConfig) { c.Date = "today" },
		"no such file":             func(c *DPOConfig) { c.Pairs = append(c.Pairs, "none") },
		": line 1: rejected: noth": func(c *DPOConfig) { c.Pairs = []string{rowsFile(t, `{"prompt":"a","chosen":"b","rejected":""}`)} },
	} {
		c := dpoTest(t, filepath.Join(t.TempDir(), "out"))
		change(&c)
		if err := DPO(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		if _, err := os.Stat(checkpoint.Partial(c.Out)); err == nil {
			t.Errorf("%s: work was begun", want)
		}
	}
}

// TestReferenceOfWhatIsDealt: a run of few steps asks the reference of the pairs that it will see and those held out, and of no others.
func TestReferenceOfWhatIsDealt(t *testing.T) {
	c := dpoTest(t, filepath.Join(t.TempDir(), "out"))
	var rows []string
	for i := range 60 {
		rows = append(rows, strings.Replace(pairRows[i%len(pairRows)], `","chosen`, fmt.Sprintf(` %d","chosen`, i), 1))
	}
	c.Pairs = []string{rowsFile(t, rows...)}
	c.Steps, c.BatchTokens, c.LR, c.EvalEvery, c.EvalRows = 3, 60, 1e-12, 1, 5
	if err := DPO(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	metrics, err := ReadMetrics(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics { // a pair without its reference would be far from log 2
		if d := m.Loss - math.Ln2; math.Abs(d) > 1e-5 || m.Eval == nil || math.Abs(m.Eval.Loss-math.Ln2) > 1e-5 {
			t.Errorf("step %+v, eval %+v, want log 2 in both", m, m.Eval)
		}
	}
	text, err := os.ReadFile(filepath.Join(c.Out, referenceFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte("\n")); n < 5+3 || n > 30 {
		t.Errorf("the reference was asked of %d pairs of 60, want those of three steps and 5 held out", n)
	}
}

// TestReferencePerPair checks that the kept log-probabilities are those of the answers' tokens, each pair by itself.
func TestReferencePerPair(t *testing.T) {
	c := dpoTest(t, "")
	start, r, err := c.start(c.Model, &c.TrainConfig, quiet)
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := r.pairs(c.Pairs, func(data.Preference) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	refs, err := references(t.Context(), filepath.Join(t.TempDir(), referenceFile), start.Model, pairs, []bool{true, true, true, true}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for i, pair := range pairs {
		for j, want := range []float64{refs[i].Chosen, refs[i].Rejected} {
			b := data.BatchOf(pair[j])
			tape := autograd.NewScratch()
			got := -loss.CrossEntropy(tape, loss.Head{Hidden: start.Model.Forward(tape, modelBatch(b)), Weight: start.Model.Head()}, b.Targets).Sum
			if d := got - want; d > 1e-4 || d < -1e-4 {
				t.Errorf("pair %d, answer %d: %g alone, %g kept", i, j, got, want)
			}
		}
	}
}
