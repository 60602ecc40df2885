package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"krait/recipe"
	"krait/safetensors"
)

// smallDemo makes the recipe demo run in seconds.
var smallDemo = []string{"recipe", "run", "demo", "labels.count=12", "labels.max_tokens=64", "train.steps=4", "train.batch_tokens=200", "out=run"}

// TestRecipeRun: a recipe's stages are made once, a change is said before anything is replaced, and only what depends on it is made again.
func TestRecipeRun(t *testing.T) {
	dir := t.TempDir()
	var s runSummary
	mustJSON(t, dir, &s, append(smallDemo, "--json")...)
	var names []string
	for _, st := range s.Stages {
		names = append(names, st.Name)
	}
	if want := []string{"teacher", "labels", "hybrid_init", "hybrid_aligned", "hybrid", "pure_init", "pure_aligned", "pure", "draft"}; !slices.Equal(names, want) {
		t.Fatalf("stages %v, want %v", names, want)
	}
	if s.Stages[4].Metrics["num_tokens"] <= 0 {
		t.Errorf("%+v", s.Stages[4])
	}
	pure, hybrid := filepath.Join(dir, "run", "pure", "model.safetensors"), filepath.Join(dir, "run", "hybrid", "model.safetensors")
	before, old := read(t, pure), read(t, hybrid)
	if r := krait(t, dir, "", smallDemo...); r.status != 0 || strings.Count(r.errors, "is there already") != len(names) {
		t.Errorf("again: %+v", r)
	}
	changed := append(slices.Clone(smallDemo), "hybrid.learning_rate=2e-3")
	fails(t, dir, []string{"hybrid: learning_rate 0.003 → 0.002", "so hybrid, draft would be made again", "--force"}, changed...)
	if string(read(t, hybrid)) != string(old) {
		t.Fatal("a refused run changed a model")
	}
	must(t, dir, append(changed, "--force", "-q")...)
	if string(read(t, hybrid)) == string(old) || string(read(t, pure)) != string(before) {
		t.Error("another rate left the hybrid as it was, or changed the other model")
	}
	if r := krait(t, dir, "", changed...); r.status != 0 || strings.Count(r.errors, "is there already") != len(names) {
		t.Errorf("after --force: %+v", r)
	}
}

// TestRecipeMistakes: what is wrong with a recipe is said with its place, all of it at once, and nothing is made.
func TestRecipeMistakes(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad.yaml"), []byte(`model: stories260k
sed: 3
train:
  lerning_rate: 2e-5
  max_steps: 1.5
stages:
  - stage: lable
  - stage: label
    cout: 3
    temperature: hot
  - stage: distill
    learning_rate: "2e-5"
`))
	fails(t, dir, []string{`bad.yaml:2:1: a recipe has no key "sed": did you mean seed?`, `bad.yaml:4:3: train has no key "lerning_rate": did you mean learning_rate?`,
		`bad.yaml:5:14: max_steps is "1.5": want a whole number`, `bad.yaml:7:5: there is no stage of the kind "lable": did you mean label?`,
		`bad.yaml:9:5: a stage of the kind label has no key "cout": did you mean count?`, `bad.yaml:10:18: temperature is "hot": want a number`,
		`bad.yaml:12:20: learning_rate is "2e-5": want a number`}, "recipe", "run", "bad.yaml")
	for text, want := range map[string]string{
		"model: a\nstages: [\n":               "broken.yaml:2:9: ",
		"model: a\nmodel: b\nstages: []":      "broken.yaml:2:1: ",
		"model: a\nstages: []":                "stages: the list is empty",
		"model: a\nstages:\n- stage: distill": "stage distill: labels: no stage before makes any",
		"stages:\n- stage: init\n  every: 2":  "the recipe has no model",
		"model: a\nstages:\n- stage: init\n  teacher: label\n  every: 2\n- stage: label":     "stage init: teacher: the stage label comes later",
		"model: a\nstages:\n- stage: label\n  name: ../x":                                    `"../x" is no name for a stage`,
		"model: a\nstages:\n- stage: label\n- stage: label\n  name: label":                   `two stages are called "label"`,
		"model: a\nstages:\n- stage: label\n- stage: distill\n  steps: 4\n  warmup_steps: 9": "broken.yaml:4:3: stage distill: 9 warm-up steps of 4",
	} {
		write(t, filepath.Join(dir, "broken.yaml"), []byte(text))
		fails(t, dir, []string{want}, "recipe", "validate", "broken.yaml")
	}
	fails(t, dir, []string{"there is no recipe dmo: did you mean demo?"}, "recipe", "run", "dmo")
	fails(t, dir, []string{`there is no stage "lables": did you mean labels?`}, "recipe", "validate", "demo", "lables.count=3")
	fails(t, dir, []string{"argument labels.count=x: count is \"x\": want a whole number"}, "recipe", "validate", "demo", "labels.count=x")
	fails(t, dir, []string{"stage label: teacher: nowhere does not exist"}, "recipe", "run", "smollm2-50", "model=nowhere")
	if r := krait(t, dir, "", "recipe", "run", "demo", "labels"); r.status != statusUsage || !strings.Contains(r.errors, "want key=value") {
		t.Errorf("%+v", r)
	}
	if r := krait(t, dir, "", "recipe", "run"); r.status != statusUsage || !strings.Contains(r.errors, "RECIPE is missing") {
		t.Errorf("%+v", r)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("refused recipes left %v, %v", entries, err)
	}
}

// TestRecipeEmbedded: every recipe inside the program is sound, can be copied, and is what the schema describes.
func TestRecipeEmbedded(t *testing.T) {
	dir := t.TempDir()
	var schema map[string]any
	if err := json.Unmarshal([]byte(must(t, dir, "recipe", "schema")), &schema); err != nil || schema["properties"] == nil {
		t.Fatal(err)
	}
	list := must(t, dir, "recipe", "ls")
	for _, name := range []string{"demo", "dpo", "paper-llama3-50", "ppo", "smollm2-25", "smollm2-50", "smollm2-50-chat"} {
		if !strings.Contains(list, "\n"+name+" ") {
			t.Errorf("recipe ls lacks %s: %s", name, list)
		}
		must(t, dir, "recipe", "validate", name)
		must(t, dir, "recipe", "cp", name, name+".yaml")
		if must(t, dir, "recipe", "cat", name) != string(read(t, filepath.Join(dir, name+".yaml"))) {
			t.Errorf("cat and cp of %s differ", name)
		}
		fails(t, dir, []string{"is there already"}, "recipe", "cp", name, name+".yaml")
	}
}

// TestRecipeAliases: the keys of TRL and of the paper's code mean the same as ours, a number may have an exponent, and what has no effect is said.
func TestRecipeAliases(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), []byte(`model_name_or_path: stories260k
output_dir: here
seed: 42
stages:
  - stage: label
  - {stage: init, ssm_layers: [0, 2, 4], init_with_kqvo: true}
  - stage: distill
    kl_weight: 0.1
    ce_weight: 1
    learning_rate: 8.0e-5
    lr_scheduler_type: constant_with_warmup
    num_train_epochs: 1
    max_steps: -1
    max_seq_length: 256
    per_device_train_batch_size: 4
    gradient_accumulation_steps: 8
    warmup_ratio: 0.01
    bf16: true
`))
	r := krait(t, dir, "", "recipe", "validate", "a.yaml", "--json")
	var s struct {
		Stages []struct {
			Name   string
			Config map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || len(s.Stages) != 4 || !strings.Contains(r.errors, "a.yaml:18:5: bf16 has no effect here") {
		t.Fatalf("%v: %+v", err, r)
	}
	for key, want := range map[string]any{"learning_rate": 8e-5, "lr_scheduler_type": "constant", "num_train_epochs": 1.0, "max_length": 256.0, "batch_tokens": 1024.0,
		"gradient_accumulation_steps": 8.0, "warmup_ratio": 0.01, "seed": 42.0, "teacher": "teacher", "student": "init", "labels": "label"} {
		if got := s.Stages[3].Config[key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
}

// TestRecipeStepwise: the chain's layers are the paper's, each step goes on from the one before, and a list that gives attention back is refused.
func TestRecipeStepwise(t *testing.T) {
	dir := t.TempDir()
	file := func(keys string) string {
		write(t, filepath.Join(dir, "s.yaml"), []byte("model: stories260k\ntrain: {steps: 3, batch_tokens: 100}\nstages:\n- {stage: label, count: 12, max_tokens: 48}\n- stage: stepwise\n"+keys))
		return "s.yaml"
	}
	layers := func(args ...string) (all [][]any) {
		var s struct {
			Stages []struct {
				Kind   string
				Config map[string]any
			}
		}
		mustJSON(t, dir, &s, append([]string{"recipe", "validate", "--json"}, args...)...)
		for _, st := range s.Stages {
			if st.Kind == "init" {
				all = append(all, st.Config["attn_layers"].([]any))
			}
		}
		return all
	}
	got := layers(file("  ratios: [75, 50, 25, 12.5, 0]\n  num_layers: 32\n"))
	if len(got) != 5 || len(got[0]) != 24 || got[0][0] != 1.0 || len(got[1]) != 16 || got[1][15] != 31.0 || len(got[2]) != 8 || got[2][0] != 3.0 || len(got[3]) != 4 || got[3][0] != 7.0 || len(got[4]) != 0 {
		t.Errorf("the paper's ratios: %v", got)
	}
	if got := layers(file("  order: paper\n  num_layers: 8\n")); len(got) != 8 || len(got[0]) != 7 || got[0][0] != 1.0 || len(got[3]) != 4 || got[3][3] != 7.0 || len(got[7]) != 0 {
		t.Errorf("the paper's order: %v", got)
	}
	fails(t, dir, []string{"step 2 wants attention in layer 2, which has lost it before"}, "recipe", "validate", file("  attn_layers: [[1, 3], [2]]\n"))
	fails(t, dir, []string{"want one of ratios, attn_layers and order"}, "recipe", "validate", file("  num_layers: 5\n"))
	must(t, dir, "recipe", "run", file("  ratios: [60, 40, 0]\n  align: {steps: 2}\n"), "out=chain", "-q")
	var m shown
	mustJSON(t, dir, &m, "show", filepath.Join("chain", "distill-0"), "--json")
	if len(m.LayersByKind["attention"]) != 0 {
		t.Errorf("%v", m.LayersByKind)
	}
	// What a step does not replace goes into the next as it is.
	a, b := openModel(t, filepath.Join(dir, "chain", "distill-60")), openModel(t, filepath.Join(dir, "chain", "init-40"))
	for _, name := range []string{"model.embed_tokens.weight", "model.norm.weight", "model.layers.0.mlp.gate_proj.weight"} {
		if !slices.Equal(a[name], b[name]) {
			t.Errorf("%s was not carried over", name)
		}
	}
	start := openModel(t, filepath.Join(dir, "chain", "teacher"))
	if slices.Equal(a["model.embed_tokens.weight"], start["model.embed_tokens.weight"]) {
		t.Error("the first step left the embeddings as they were: nothing shows that they are carried over")
	}
}

// TestRecipeTwoChains: a chain begins where it says, and goes on from its own steps.
func TestRecipeTwoChains(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "s.yaml"), []byte(`model: stories260k
train: {steps: 2, batch_tokens: 100}
stages:
- {stage: label, count: 4, max_tokens: 48}
- {stage: stepwise, name: a, ratios: [60, 20], init: {teacher: teacher}}
- {stage: stepwise, name: b, ratios: [60, 20], init: {teacher: teacher}}
`))
	must(t, dir, "recipe", "run", "s.yaml", "out=run", "-q")
	for _, step := range []string{"60", "20"} {
		a, b := read(t, filepath.Join(dir, "run", "a-distill-"+step, "model.safetensors")), read(t, filepath.Join(dir, "run", "b-distill-"+step, "model.safetensors"))
		if string(a) != string(b) {
			t.Errorf("two chains from the same model differ at %s %%", step)
		}
	}
	a, b := openModel(t, filepath.Join(dir, "run", "a-distill-60")), openModel(t, filepath.Join(dir, "run", "a-init-20"))
	if !slices.Equal(a["model.embed_tokens.weight"], b["model.embed_tokens.weight"]) {
		t.Error("the second step does not go on from the first")
	}
}

// openModel reads the weights of a directory.
func openModel(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string][]byte{}
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		all[name] = slices.Clone(x.Data)
	}
	return all
}

// TestRuns: runs are listed, compared and reported, also one that has not ended.
func TestRuns(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "r.yaml"), []byte(`model: stories260k
train: {steps: 12, batch_tokens: 120}
stages:
- {stage: label, count: 12, max_tokens: 48}
- {stage: init, every: 2}
- {stage: align}
- {stage: distill}
- {stage: quantize, type: q8}
- {stage: export, format: gguf, type: q8_0}
- {stage: eval, models: [init, distill], max_bytes: 3000, max_length: 128, prompt: Once upon a time, max_tokens: 20}
`))
	must(t, dir, "recipe", "run", "r.yaml", "out=runs/a", "-q")
	must(t, dir, "recipe", "run", "r.yaml", "out=runs/b", "distill.learning_rate=2e-3", "-q")
	if out := must(t, dir, "runs"); strings.Count(out, "8/8") != 2 || !strings.Contains(out, filepath.Join("runs", "a")) || !strings.Contains(out, "perplexity_ratio.distill") {
		t.Errorf("%s", out)
	}
	var d runDiff
	mustJSON(t, dir, &d, "diff", "runs/a", "runs/b", "--json")
	if len(d.Stages) != 1 || d.Stages[0] != (stageDiff{"distill", "learning_rate", "0.001", "0.002"}) {
		t.Errorf("%+v", d.Stages)
	}
	i := slices.IndexFunc(d.Figures, func(f runFigure) bool { return f.Name == "perplexity.distill" })
	if i < 0 || d.Figures[i].A == nil || d.Figures[i].B == nil || *d.Figures[i].A == *d.Figures[i].B {
		t.Errorf("%+v", d.Figures)
	}
	if out := must(t, dir, "diff", "runs/a", "runs/b"); !strings.Contains(out, "learning_rate") || !strings.Contains(out, "perplexity.distill") {
		t.Errorf("%s", out)
	}
	page := string(read(t, filepath.Join(dir, "runs", "a", "report.html")))
	for _, want := range []string{"8 of 8 stages", "MAMAM", "Alignment of the layers", "distill", "Text by distill", "<svg"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if n := strings.Count(page, "<svg"); n != 2 {
		t.Errorf("%d charts, want one a training", n)
	}
	var rows []map[string]any
	if err := json.Unmarshal(read(t, filepath.Join(dir, "runs", "a", "eval", "eval.json")), &rows); err != nil || len(rows) != 3 || rows[0]["kl"].(float64) > 1e-9 || rows[2]["kl"].(float64) <= 0 {
		t.Errorf("%v, %v", err, rows)
	}
	var p perplexity
	write(t, filepath.Join(dir, "text"), []byte(recipe.HeldOut()[:3000]))
	mustJSON(t, dir, &p, "eval", "ppl", "runs/a/distill", "--text", "text", "--context", "128", "--json")
	if p.Perplexity != rows[2]["perplexity"].(float64) {
		t.Errorf("the stage measured a perplexity of %v, eval ppl %v", rows[2]["perplexity"], p.Perplexity)
	}
	must(t, dir, "generate", "runs/a/quantize", "--prompt", "Once", "--max-tokens", "5", "-q")
	if file := read(t, filepath.Join(dir, "runs", "a", "export", "model.gguf")); !strings.HasPrefix(string(file), "GGUF") {
		t.Errorf("model.gguf begins with %q", file[:min(8, len(file))])
	}
	if err := os.RemoveAll(filepath.Join(dir, "runs", "b", "distill")); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "report", "runs/b", "--out", "half.html")
	fails(t, dir, []string{"run.json: no such file"}, "report", "nowhere")
}

// TestRecipeFlat: a file without a list of stages, with the keys of the paper's code or of TRL, is one stage (or its init before it).
func TestRecipeFlat(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, "one.yaml"), []byte("model_name: teacher\nssm_layers: [0, 2, 4]\nkl_weight: 0.1\nce_weight: 1\ntrain_datasets_path: [a, b]\n"+
		"output_dir: o/\nseed: 42\nper_device_train_batch_size: 1\nnum_train_epochs: 1\ngradient_accumulation_steps: 8\nlearning_rate: 8.0e-5\nmax_grad_norm: 0.1\n"))
	r := krait(t, dir, "", "recipe", "validate", "one.yaml", "labels=texts", "--json")
	var s struct {
		Stages []struct {
			Kind   string
			Config map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || len(s.Stages) != 2 || s.Stages[0].Kind != "init" || s.Stages[1].Kind != "distill" ||
		!strings.Contains(r.errors, "give labels=DIR") {
		t.Fatalf("%v: %+v", err, r)
	}
	if c := s.Stages[1].Config; c["labels"] != "texts" || c["learning_rate"] != 8e-5 || c["train"].([]any)[0] != ".mamba." || c["teacher"] != "teacher" {
		t.Errorf("%v", c)
	}
	write(t, filepath.Join(dir, "rows.jsonl"), []byte("{\"text\":\"one two three\"}\n{\"text\":\"four five six\"}\n"))
	write(t, filepath.Join(dir, "two.yaml"), []byte("model_name_or_path: teacher\ntorch_dtype: bfloat16\ndataset_mixer:\n  rows.jsonl: 1.0\nlearning_rate: 2.0e-05\n"+
		"max_seq_length: 64\nmax_steps: -1\nnum_train_epochs: 2\noutput_dir: two/\nwarmup_ratio: 0.01\nper_device_train_batch_size: 1\n"))
	must(t, dir, "recipe", "run", "two.yaml", "-q")
	if metrics := read(t, filepath.Join(dir, "two", "sft", "metrics.jsonl")); strings.Count(string(metrics), "\n") != 2 {
		t.Errorf("two passes over a batch of rows made %s", metrics)
	}
}
