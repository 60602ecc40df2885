package checkpoint

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/internal/golden"
	"krait/model"
	"krait/tensor"
)

// headOf makes a draft head of a golden model.
func headOf(t *testing.T, name string, known []int32) (target, head *Checkpoint) {
	t.Helper()
	target, err := Load(golden.Dir(t, name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.NewEagle(target.Model, []int{0}, known, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	head = target.With(m)
	head.Target = Fingerprint(target.Model)
	return target, head
}

// TestEagleRoundTrip writes heads of every kind of layer, wide and narrow: what is read back computes the same bits and fits its target.
func TestEagleRoundTrip(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-mamba1", "llama-gqa", "mamba2-tied"} {
		target, head := headOf(t, name, []int32{0, 3, 4})
		rows := func(m *model.Model) []float32 {
			b := model.Single([]int32{1, 5, 9}, nil)
			b.Hidden = tensor.New(3, m.Config.HiddenSize)
			for i := range b.Hidden.Data {
				b.Hidden.Data[i] = float32(i%7) - 3
			}
			return m.Logits(nil, m.Forward(nil, b)).Data
		}
		dir, narrow := filepath.Join(t.TempDir(), "h"), filepath.Join(t.TempDir(), "n")
		if err := Save(dir, head); err != nil {
			t.Fatal(err)
		}
		got, err := LoadDraft(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(rows(got.Model), rows(head.Model)) {
			t.Errorf("%s: read back it is another head", name)
		}
		packed, err := LoadDraftPacked(dir, "q8", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := SaveQuantized(narrow, packed); err != nil {
			t.Fatal(err)
		}
		again, err := LoadDraftPacked(narrow, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(rows(again.Model), rows(packed.Model)) {
			t.Errorf("%s: read back from q8 it is another head", name)
		}
		for _, head := range []*Checkpoint{got, again} {
			if perhaps, err := CheckHead(target, head); err != nil || perhaps != "" {
				t.Errorf("%s: %q, %v", name, perhaps, err)
			}
		}
		small, err := LoadPacked(golden.Dir(t, name), "q4")
		if err != nil {
			t.Fatal(err)
		}
		if perhaps, err := CheckHead(small, got); err != nil || perhaps != "" {
			t.Errorf("%s in q4: %q, %v", name, perhaps, err)
		}
		for _, load := range []func() (*Checkpoint, error){func() (*Checkpoint, error) { return Load(dir) }, func() (*Checkpoint, error) { return LoadPacked(dir, "q8") }} {
			if _, err := load(); err == nil || !strings.Contains(err.Error(), "draft head") {
				t.Errorf("%s as a language model: %v", name, err)
			}
		}
	}
}

// TestCheckHead: a head goes with its target, with a doubt with a model of other weights, and with no model of another shape.
func TestCheckHead(t *testing.T) {
	target, head := headOf(t, "tiny-hybrid", nil)
	if perhaps, err := CheckHead(target, target); perhaps != "" || err != nil {
		t.Errorf("a model as a draft: %q, %v", perhaps, err)
	}
	target.Model.Norm.Weight.Data[0]++
	if perhaps, err := CheckHead(target, head); err != nil || !strings.Contains(perhaps, "other weights") {
		t.Errorf("other weights: %q, %v", perhaps, err)
	}
	c := target.Model.Config
	for want, change := range map[string]func(c *model.Config){
		"hidden states of":   func(c *model.Config) { c.HiddenSize += 8 },
		"a vocabulary of 61": func(c *model.Config) { c.VocabSize += 8 },
	} {
		other := c
		change(&other)
		m, err := model.New(other)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := CheckHead(New(m), head); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "h")
	if err := Save(dir, head); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), `"eagle"`, `"medusa"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadDraft(dir); err == nil || !strings.Contains(err.Error(), `draft_type "medusa"`) {
		t.Errorf("%v", err)
	}
}
