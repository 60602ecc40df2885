package recipe

import (
	"path/filepath"
	"strings"
	"testing"

	"krait/checkpoint"
)

// TestEagle trains draft heads by divergence and total variation, whole and cut, with and without the hidden states' distance: training makes their
// guesses better at every place, what was frozen is the target's, and the record says how good they are.
func TestEagle(t *testing.T) {
	dir := t.TempDir()
	c := DraftConfig{Head: HeadEagle, DistillConfig: DefaultDistill()}
	c.Teacher, c.Labels, c.TrainConfig = stories(t, ""), filepath.Join(dir, "labels"), tiny()
	if err := Label(t.Context(), LabelConfig{Teacher: c.Teacher, Out: c.Labels, Count: 30, MaxTokens: 60, Temperature: 1, Width: 8}, quiet); err != nil {
		t.Fatal(err)
	}
	target, err := checkpoint.Load(c.Teacher)
	if err != nil {
		t.Fatal(err)
	}
	c.BatchTokens, c.Context, c.LR = 512, 64, 1e-2
	for name, change := range map[string]func(c *DraftConfig){
		"whole": func(c *DraftConfig) { c.Hidden = 0.5 }, "cut-tv": func(c *DraftConfig) { c.Vocab, c.Divergence, c.Unroll, c.Layers = 200, "tv", 2, []int{1} },
	} {
		train := func(steps int) map[string]float64 {
			d := c
			change(&d)
			d.Out, d.Steps = filepath.Join(t.TempDir(), name), steps
			if err := Draft(t.Context(), d, quiet); err != nil {
				t.Fatal(err)
			}
			out, err := checkpoint.LoadDraft(d.Out)
			if err != nil {
				t.Fatal(err)
			}
			if perhaps, err := checkpoint.CheckHead(target, out); perhaps != "" || err != nil || !out.Model.Config.Eagle {
				t.Errorf("%s: %q, %v", name, perhaps, err)
			}
			if out.Model.EmbedTokens.Data[70] != target.Model.EmbedTokens.Data[70] || out.Model.Norm.Weight.Data[0] == target.Model.Norm.Weight.Data[0] && steps > 1 {
				t.Errorf("%s: embeddings or norm", name)
			}
			return out.Provenance.Metrics
		}
		few, many := train(1), train(30)
		places := []string{"expected_acceptance", "expected_acceptance_2", "expected_acceptance_3"}
		if name == "cut-tv" {
			places = places[:2]
		}
		for _, place := range places {
			if many[place] < few[place]+0.05 || many[place] >= 1 {
				t.Errorf("%s: %s %.3f after one step, %.3f after 30", name, place, few[place], many[place])
			}
		}
	}
	for want, change := range map[string]func(c *DraftConfig){
		`head "medusa"`: func(c *DraftConfig) { c.Head = "medusa" }, "unroll is 9": func(c *DraftConfig) { c.Unroll = 9 },
		"layers of its target": func(c *DraftConfig) { c.From = "elsewhere" }, "for a draft head": func(c *DraftConfig) { c.Head, c.Unroll = "", 2 },
		"9 is not a layer": func(c *DraftConfig) { c.Layers = []int{9} }, "hidden_weight is -1": func(c *DraftConfig) { c.Hidden = -1 },
		"eval_text": func(c *DraftConfig) { c.EvalText, c.EvalEvery = "x", 1 }, "which layers": func(c *DraftConfig) { c.Head = "" },
	} {
		d := c
		d.Out = filepath.Join(t.TempDir(), "x")
		change(&d)
		if err := Draft(t.Context(), d, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
