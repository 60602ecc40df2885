package checkpoint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"krait/internal/golden"
	"krait/model"
)

// TestGreedy continues prompts token by token with a state, as decoding does, and compares with what Transformers chose from whole passes.
func TestGreedy(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(golden.Dir(t, ""), "greedy.json"))
	if err != nil {
		t.Fatal(err)
	}
	var models map[string][]struct{ Prompt, IDs []int32 }
	if err := json.Unmarshal(data, &models); err != nil || len(models) != 19 {
		t.Fatalf("%d models, %v", len(models), err)
	}
	for name, rows := range models {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		chosen := 0
		for _, r := range rows {
			state, next := c.Model.NewState(), r.Prompt
			var got []int32
			for range r.IDs {
				h := c.Model.Logits(nil, c.Model.Forward(nil, model.Single(next, state)))
				next = []int32{argmax(h.Row(len(next) - 1))}
				got = append(got, next[0])
			}
			if !slices.Equal(got, r.IDs) {
				t.Errorf("%s: %v goes on with %v, want %v", name, r.Prompt, got, r.IDs)
			}
			chosen += len(got)
		}
		if chosen < 40 {
			t.Errorf("%s: only %d tokens are compared", name, chosen)
		}
	}
}
