package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCard: a result's card names its base, inherits licence, language and data sets through every stage, and shows configuration and figures.
func TestCard(t *testing.T) {
	card := func(dir string) string {
		b, err := os.ReadFile(filepath.Join(dir, cardFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	out, _, err := trainSmall(t, func(*DistillConfig) {})
	if err != nil {
		t.Fatal(err)
	}
	text := card(out)
	for _, want := range []string{"---\nlicense: mit\n", "base_model: teacher\n", "base_model_relation: finetune\n", "library_name: krait\n", "- distill\n", "# Model card of out",
		"attention in layers 1 and 3", "`distill`", `"learning_rate": 0.001`, "| num_tokens |", "labels.jsonl", "mit, inherited"} {
		if !strings.Contains(text, want) {
			t.Errorf("the card does not say %q:\n%s", want, text)
		}
	}
	teacher := teacherDir(t)
	theirs := "---\nlicense: apache-2.0\nlanguage:\n- en\n- de\nbase_model: org/root\ndatasets: [org/data]\n---\n# Theirs\n"
	if err := os.WriteFile(filepath.Join(teacher, cardFile), []byte(theirs), 0o644); err != nil {
		t.Fatal(err)
	}
	hybrid := filepath.Join(t.TempDir(), "hybrid")
	if err := Init(t.Context(), InitConfig{Teacher: teacher, Out: hybrid, AttnLayers: []int{1}, Init: "linear"}, func(Event) {}); err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(t.TempDir(), "small")
	if err := Quantize(t.Context(), QuantizeConfig{Model: hybrid, Out: small, Type: "q8"}, func(Event) {}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"license: apache-2.0\n", "- de\n", "- org/data\n", "base_model: teacher\n", "base_model_relation: quantized\n"} {
		if text := card(small); !strings.Contains(text, want) || strings.Contains(text, "Theirs") {
			t.Errorf("the card of the quantised hybrid does not say %q:\n%s", want, text)
		}
	}
	if got := modelID("/cache/hub/models--org--name/snapshots/0123"); got != "org/name" {
		t.Errorf("%q", got)
	}
}
