package recipe

import (
	"path/filepath"
	"slices"
	"testing"

	"krait/checkpoint"
	"krait/data"
)

// TestDraft trains drafts with whole and cut output layers by divergence and by total variation, and checks that training makes their guesses
// better and that the record says how good.
func TestDraft(t *testing.T) {
	dir := t.TempDir()
	c := DraftConfig{Layers: []int{0, 4}, DistillConfig: DefaultDistill()}
	c.Teacher, c.Labels, c.TrainConfig = stories(t, ""), filepath.Join(dir, "labels"), tiny()
	if err := Label(t.Context(), LabelConfig{Teacher: c.Teacher, Out: c.Labels, Count: 30, MaxTokens: 60, Temperature: 1, Width: 8}, quiet); err != nil {
		t.Fatal(err)
	}
	c.BatchTokens, c.Context = 512, 64
	for name, change := range map[string]func(c *DraftConfig){
		"whole": func(c *DraftConfig) {}, "cut": func(c *DraftConfig) { c.Vocab = 200 },
		"cut-tv": func(c *DraftConfig) { c.Vocab, c.Divergence = 200, "tv" },
	} {
		accepted := func(steps int) float64 {
			d := c
			change(&d)
			d.Out, d.Steps = filepath.Join(t.TempDir(), name), steps
			d.LR = 2e-3
			if err := Draft(t.Context(), d, quiet); err != nil {
				t.Fatal(err)
			}
			out, err := checkpoint.Load(d.Out)
			if err != nil {
				t.Fatal(err)
			}
			if n := out.Model.Config.HeadRows(); d.Vocab > 0 && n != d.Vocab || d.Vocab == 0 && n != 512 {
				t.Errorf("%s: the output layer has %d rows", name, n)
			}
			if e := out.Provenance.Metrics["expected_acceptance"]; e > 0 && e < 1 {
				return e
			}
			t.Fatalf("%s: %v", name, out.Provenance.Metrics)
			return 0
		}
		if few, many := accepted(1), accepted(25); many < few+0.02 {
			t.Errorf("%s: expected acceptance %.3f after one step, %.3f after 25", name, few, many)
		}
	}
}

func TestFrequent(t *testing.T) {
	docs := []data.Document{{IDs: []int32{5, 5, 2, 9}}, {IDs: []int32{9, 9, 2, 7}}}
	if got := frequent(docs, 12, 4); !slices.Equal(got, []int32{2, 5, 7, 9}) {
		t.Errorf("%v", got)
	}
	if got := frequent(docs, 12, 6); !slices.Equal(got, []int32{0, 1, 2, 5, 7, 9}) {
		t.Errorf("%v", got)
	}
	if got := headRows([]int32{9, 2, 3, -1}, []int32{2, 9}); !slices.Equal(got, []int32{1, 0, -1, -1}) {
		t.Errorf("%v", got)
	}
}
