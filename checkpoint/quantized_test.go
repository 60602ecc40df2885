package checkpoint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/internal/golden"
	"krait/model"
)

func logitsOf(m *model.Model) []float32 {
	tokens := []int32{1, 5, 9, 30, 2, 2, 17, 40, 3, 8, 22}
	return m.Logits(nil, m.Forward(nil, model.Single(tokens, nil))).Data
}

// TestQuantizedRoundTrip writes models of every kind in every format: what is read back computes the same bits, packed or from its values.
func TestQuantizedRoundTrip(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-pure", "llama-gqa", "llama-bias", "qwen3", "tiny-mamba1", "mamba", "mamba2-tied"} {
		for _, format := range []string{"bf16", "q8", "q4"} {
			c, err := LoadPacked(golden.Dir(t, name), format)
			if err != nil {
				t.Fatal(err)
			}
			want := logitsOf(c.Model)
			dir := filepath.Join(t.TempDir(), "m")
			if err := SaveQuantized(dir, c); err != nil {
				t.Fatal(err)
			}
			for _, as := range []string{"", format} {
				stored, err := LoadPacked(dir, as)
				if err != nil {
					t.Fatal(err)
				}
				if stored.Model.Format().String() != format || !slices.Equal(logitsOf(stored.Model), want) {
					t.Errorf("%s %s: read back as %q it is another model", name, format, as)
				}
			}
			wide, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if wide.config[quantField] != nil {
				t.Errorf("%s: float32 weights with a %s", name, quantField)
			}
			plain := filepath.Join(t.TempDir(), "f32")
			if err := Save(plain, wide); err != nil {
				t.Fatal(err)
			}
			again, err := LoadPacked(plain, format)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(logitsOf(again.Model), want) {
				t.Errorf("%s %s: packing its values makes another model", name, format)
			}
		}
	}
}

// TestQuantizedRefuses breaks a directory in the ways that matter.
func TestQuantizedRefuses(t *testing.T) {
	c, err := LoadPacked(golden.Dir(t, "llama-gqa"), "q4")
	if err != nil {
		t.Fatal(err)
	}
	const weight = "model.layers.0.mlp.up_proj.weight"
	for want, change := range map[string]func(q *quantizationConfig){
		"version 2":    func(q *quantizationConfig) { q.Version = 2 },
		"q5":           func(q *quantizationConfig) { q.Format = "q5" },
		"shape [1728]": func(q *quantizationConfig) { delete(q.Weights, weight) },
		"bytes, a matrix": func(q *quantizationConfig) {
			q.Weights[weight] = quantShape{"q8", q.Weights[weight].Shape}
		},
		"shape [3]":            func(q *quantizationConfig) { q.Weights[weight] = quantShape{"q4", []int{3}} },
		"shape [-1 4]":         func(q *quantizationConfig) { q.Weights[weight] = quantShape{"q4", []int{-1, 4}} },
		"is missing":           func(q *quantizationConfig) { q.Weights["x"] = quantShape{"q4", []int{1, 1}} },
		"other than those of":  func(q *quantizationConfig) { q.Method = "gptq" },
		"weights of type \"\"": func(q *quantizationConfig) { q.Weights[weight] = quantShape{"", []int{4, 4}} },
	} {
		dir := filepath.Join(t.TempDir(), "m")
		if err := SaveQuantized(dir, c); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var config map[string]any
		var q struct {
			Q quantizationConfig `json:"quantization_config"`
		}
		if err := json.Unmarshal(data, &config); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &q); err != nil {
			t.Fatal(err)
		}
		change(&q.Q)
		config[quantField] = q.Q
		if data, err = json.Marshal(config); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadPacked(dir, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := SaveQuantized(filepath.Join(t.TempDir(), "m"), New(c.Model)); err != nil {
		t.Error("a model from no directory:", err)
	}
	if c, err = Load(golden.Dir(t, "llama-gqa")); err != nil {
		t.Fatal(err)
	}
	if err := SaveQuantized(filepath.Join(t.TempDir(), "m"), c); err == nil {
		t.Error("float32 weights were written as narrow ones")
	}
	if _, err := LoadPacked(golden.Dir(t, "llama-gqa"), "q5"); err == nil {
		t.Error("q5 was accepted")
	}
}
