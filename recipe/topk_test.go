package recipe

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"krait/autograd"
	"krait/checkpoint"
	"krait/data"
)

// labelled writes labels of the embedded model that keep the k likeliest tokens, into a directory of that name.
func labelled(t *testing.T, teacher, dir string, k int) LabelConfig {
	t.Helper()
	c := LabelConfig{Teacher: teacher, Out: dir, Count: 6, MaxTokens: 60, Temperature: 1, TopP: 1, Seed: 3, TopKLogits: k, Width: 4}
	if err := Label(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	return c
}

func distillTest(t *testing.T, c DistillConfig, out string) []float64 {
	t.Helper()
	c.Out = out
	if err := Distill(t.Context(), c, quiet); err != nil {
		t.Fatal(err)
	}
	steps, err := ReadMetrics(c.Out)
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for _, s := range steps {
		losses = append(losses, s.Loss)
	}
	return losses
}

// TestDistillStored checks that a teacher of which all tokens are stored teaches what the teacher itself does, whatever the divergence, and that one
// of a few tokens is never further away.
func TestDistillStored(t *testing.T) {
	dir := t.TempDir()
	c := DistillConfig{Teacher: stories(t, ""), Student: filepath.Join(dir, "student"), KL: 1, CE: 0.1, TrainConfig: tiny()}
	c.LR, c.Context, c.BatchTokens = 1e-3, 64, 128
	if err := Init(t.Context(), InitConfig{Teacher: c.Teacher, Out: c.Student, AttnLayers: []int{1, 3}, Init: "attention"}, quiet); err != nil {
		t.Fatal(err)
	}
	all, few := labelled(t, c.Teacher, filepath.Join(dir, "all"), 512), labelled(t, c.Teacher, filepath.Join(dir, "few"), 8)
	for _, divergence := range []string{"", "reverse", "js"} {
		c.Divergence = divergence
		for _, paper := range []bool{false, true} {
			c.PaperKLScale = paper
			name := "run-" + divergence + map[bool]string{true: "paper"}[paper]
			c.Labels = all.Out
			online := distillTest(t, c, filepath.Join(dir, name+"online"))
			without := c
			without.Teacher = ""
			stored := distillTest(t, without, filepath.Join(dir, name+"stored"))
			for i := range online {
				if d := math.Abs(online[i] - stored[i]); !(d <= 1e-4*online[i]) {
					t.Errorf("%s: step %d: loss %g of all tokens, %g of the teacher", name, i, stored[i], online[i])
				}
			}
			without.Part, without.Parts, c.Part, c.Parts = 2, 2, 2, 2
			halves := [2][]float64{distillTest(t, c, filepath.Join(dir, name+"half")), distillTest(t, without, filepath.Join(dir, name+"stored-half"))}
			if d := math.Abs(halves[0][0] - halves[1][0]); !(d <= 1e-4*halves[0][0]) || halves[0][0] == online[0] {
				t.Errorf("%s: the second half begins at %g, %g of the teacher", name, halves[1][0], halves[0][0])
			}
			without.Part, without.Parts, c.Part, c.Parts = 0, 0, 0, 0
			without.Labels = few.Out
			some := distillTest(t, without, filepath.Join(dir, name+"few"))
			if !(some[0] < online[0]) || some[0] < online[0]/3 {
				t.Errorf("%s: the loss begins at %g of eight tokens, at %g of the teacher", name, some[0], online[0])
			}
			if paper && online[0] < 20*distillMean {
				t.Errorf("%s: the loss %g is no sum over a document", name, online[0])
			}
		}
	}
}

// distillMean is less than a fresh hybrid's divergence of any kind, in nats a token.
const distillMean = 0.1

// TestLabelTopKResumes checks that labelling goes on from any place with the same bytes, while the teacher reads too.
func TestLabelTopKResumes(t *testing.T) {
	dir := t.TempDir()
	c := labelled(t, stories(t, ""), filepath.Join(dir, "whole"), 8)
	c.Out = filepath.Join(dir, "parts")
	interrupt(t, func(r Report) error { return Label(t.Context(), c, r) })
	for _, name := range []string{labelsFile, topKFile} {
		sameFile(t, filepath.Join(dir, "whole", name), filepath.Join(c.Out, name))
	}
	docs, err := data.ReadDocuments(filepath.Join(c.Out, labelsFile), 512)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openTopKReader(c.Out, docs, 512)
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()
	top, err := r.of([]int{1, 0})
	if err != nil || len(top.Tail) != len(docs[0].IDs)+len(docs[1].IDs) {
		t.Fatalf("%d rows, %v", len(top.Tail), err)
	}
	for row, tail := range top.Tail {
		sum := float64(tail)
		for i, l := range top.LogProbs[row*8:][:8] {
			sum += math.Exp(float64(l))
			if i > 0 && l > top.LogProbs[row*8+i-1] {
				t.Fatalf("row %d is not in order", row)
			}
		}
		if math.Abs(sum-1) > 1e-5 {
			t.Fatalf("row %d has probability %g in all", row, sum)
		}
	}
}

// TestLabelNarrow checks that narrow weights write other text than the teacher's own, the same whatever the width, and that what the teacher finds
// likely there is said by its own weights.
func TestLabelNarrow(t *testing.T) {
	dir := t.TempDir()
	teacher := stories(t, "")
	wide := labelled(t, teacher, filepath.Join(dir, "wide"), 0)
	c := wide
	c.Type, c.TopKLogits = "q4", 4
	write := func(name string, width int) []data.Document {
		c.Out, c.Width = filepath.Join(dir, name), width
		if err := Label(t.Context(), c, quiet); err != nil {
			t.Fatal(err)
		}
		docs, err := data.ReadDocuments(filepath.Join(c.Out, labelsFile), 512)
		if err != nil {
			t.Fatal(err)
		}
		return docs
	}
	docs := write("narrow", 4)
	write("again", 1)
	sameFile(t, filepath.Join(dir, "narrow", labelsFile), filepath.Join(dir, "again", labelsFile))
	if a, err := os.ReadFile(filepath.Join(wide.Out, labelsFile)); err != nil {
		t.Fatal(err)
	} else if b, err := os.ReadFile(filepath.Join(dir, "narrow", labelsFile)); err != nil || bytes.Equal(a, b) {
		t.Errorf("q4 wrote what f32 did, %v", err)
	}
	m, err := checkpoint.Load(teacher)
	if err != nil {
		t.Fatal(err)
	}
	m.Model.Pack()
	r, err := openTopKReader(filepath.Join(dir, "narrow"), docs, 512)
	if err != nil {
		t.Fatal(err)
	}
	defer r.file.Close()
	top, err := r.of([]int{0})
	if err != nil {
		t.Fatal(err)
	}
	scratch := autograd.NewScratch()
	n := len(docs[0].IDs)
	logits := m.Model.Logits(scratch, m.Model.Forward(scratch, modelBatch(data.Batch{Tokens: docs[0].IDs, Lens: []int{n}})))
	ids, logProbs := make([]int32, 4), make([]float32, 4)
	for row := range n {
		likeliest(logits.Row(row), ids, logProbs)
		if d := logProbs[0] - top.LogProbs[row*4]; top.IDs[row*4] != ids[0] || !(math.Abs(float64(d)) < 1e-5) {
			t.Fatalf("row %d: token %d is the likeliest, the teacher says %d; their log-probabilities differ by %g", row, top.IDs[row*4], ids[0], d)
		}
	}
	c.Type, c.Out = "q5", filepath.Join(dir, "bad")
	if err := Label(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "q5") {
		t.Errorf("q5: %v", err)
	}
}

func TestBadDivergence(t *testing.T) {
	dir := t.TempDir()
	teacher := stories(t, "")
	labels := labelled(t, teacher, filepath.Join(dir, "labels"), 0).Out
	kept := labelled(t, teacher, filepath.Join(dir, "kept"), 4).Out
	for want, change := range map[string]func(*DistillConfig){
		"divergence \"kl\"":      func(c *DistillConfig) { c.Divergence = "kl" },
		"has no mixture":         func(c *DistillConfig) { c.Divergence, c.Mix = "reverse", 0.5 },
		"above 0 and below 1":    func(c *DistillConfig) { c.Divergence, c.Mix = "js", 1 },
		"--top-k-logits":         func(c *DistillConfig) { c.Teacher = "" },
		"raise the context":      func(c *DistillConfig) { c.Teacher, c.Labels, c.Context = "", kept, 20 },
		"crop must be 0":         func(c *DistillConfig) { c.Teacher, c.Labels, c.Crop = "", kept, 0.5 },
		"there is no teacher: s": func(c *DistillConfig) { c.Teacher, c.Labels, c.KL, c.CE = "", kept, 0, 1 },
	} {
		c := DistillConfig{Teacher: teacher, Student: teacher, Labels: labels, Out: filepath.Join(t.TempDir(), "out"), KL: 1, TrainConfig: tiny()}
		c.Context = 64
		change(&c)
		if err := Distill(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	c := LabelConfig{Teacher: teacher, Out: filepath.Join(dir, "many"), Count: 1, MaxTokens: 8, TopKLogits: 513}
	if err := Label(t.Context(), c, quiet); err == nil || !strings.Contains(err.Error(), "at most 512") {
		t.Errorf("error %v, want at most the vocabulary", err)
	}
}
