package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"krait/recipe"
)

// TestRecipeSelect: the layers that a selection finds are those that the initialisations after it keep, from the teacher that was measured, and the
// run's report has their table and picture.
func TestRecipeSelect(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text"), []byte(recipe.HeldOut()[:3000]))
	write(t, filepath.Join(dir, "s.yaml"), []byte(`model: stories260k
stages:
- {stage: init, name: pure, attn_layers: none}
- {stage: select, method: greedy, keep: 2, max_length: 128, text: text}
- {stage: init, name: fresh}
- {stage: init, name: kept, mamba_from: pure}
- {stage: init, name: other, attn_layers: [0]}
`))
	must(t, dir, "recipe", "run", "s.yaml", "out=run", "-q")
	run := filepath.Join(dir, "run")
	var chosen recipe.Selection
	if err := json.Unmarshal(read(t, filepath.Join(run, "select", "selection.json")), &chosen); err != nil || len(chosen.AttnLayers) != 2 || len(chosen.Candidates) != 9 {
		t.Fatalf("%v: %+v", err, chosen)
	}
	for name, want := range map[string][]int{"fresh": chosen.AttnLayers, "kept": chosen.AttnLayers, "other": {0}} {
		var m shown
		mustJSON(t, dir, &m, "show", filepath.Join("run", name), "--json")
		if !reflect.DeepEqual(m.LayersByKind["attention"], want) {
			t.Errorf("%s has attention in %v, want %v", name, m.LayersByKind["attention"], want)
		}
	}
	teacher, pure, kept := openModel(t, filepath.Join(run, "teacher")), openModel(t, filepath.Join(run, "pure")), openModel(t, filepath.Join(run, "kept"))
	for l := range 5 {
		from, name := pure, fmt.Sprintf("model.layers.%d.mamba.in_proj.weight", l)
		if slices.Contains(chosen.AttnLayers, l) {
			from, name = teacher, fmt.Sprintf("model.layers.%d.self_attn.q_proj.weight", l)
		}
		if len(from[name]) == 0 || !slices.Equal(kept[name], from[name]) {
			t.Errorf("%s was not taken over", name)
		}
	}
	page := string(read(t, filepath.Join(run, "report.html")))
	if !strings.Contains(page, "Layers that keep attention: select") || !strings.Contains(page, "KL, round 2") || strings.Count(page, `<rect class="chosen"`) != 2 || strings.Count(page, `<rect class="layer"`) != 3 {
		t.Errorf("the report lacks the selection: %d bars of chosen layers", strings.Count(page, `<rect class="chosen"`))
	}
	fails(t, dir, []string{"select: keep 2 → 1", "so select, fresh, kept, other would be made again"}, "recipe", "run", "s.yaml", "out=run", "select.keep=1")

	// Without a student the one model with attention is measured; a directory outside the run serves as well as a stage.
	write(t, filepath.Join(dir, "l.yaml"), []byte("model: stories260k\nstages:\n- {stage: select, method: leave-one-out, keep: 1, max_length: 128, text: text}\n- {stage: init}\n- {stage: init, name: again, teacher: teacher, selection: run/select}\n"))
	must(t, dir, "recipe", "run", "l.yaml", "out=loo", "-q")
	var one, two shown
	mustJSON(t, dir, &one, "show", "loo/init", "--json")
	mustJSON(t, dir, &two, "show", "loo/again", "--json")
	if len(one.LayersByKind["attention"]) != 1 || !reflect.DeepEqual(two.LayersByKind["attention"], chosen.AttnLayers) {
		t.Errorf("%v, %v", one.LayersByKind, two.LayersByKind)
	}
	fails(t, dir, []string{"run/select chooses the layers, so attn_layers"}, "recipe", "run", "l.yaml", "out=bad", "again.attn_layers=[1]")
	write(t, filepath.Join(dir, "run", "select", "selection.json"), []byte("{}"))
	fails(t, dir, []string{"selection.json: no layers are chosen in it"}, "init", "run/teacher", "--attn-layers", "run/select", "--out", "x")
	fails(t, dir, []string{"mamba_from: layer 0 of run/other is attention"}, "init", "run/teacher", "--attn-layers", "1", "--mamba-from", "run/other", "--out", "x")
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("a refused init left a directory")
	}
}
