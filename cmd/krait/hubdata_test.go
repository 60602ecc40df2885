package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDatasets: a dataset that was pulled is data, pairs and prompts by its name, on a command line and in a recipe, and trains as its file does; one
// that is not there is said before anything is made.
func TestDatasets(t *testing.T) {
	dir := home(t)
	h := newHub(t, map[string]string{"datasets/org/pairs": filepath.Join(dir, "pairs"), "datasets/org/prompts": filepath.Join(dir, "prompts"), "datasets/org/texts": filepath.Join(dir, "texts")})
	cache := hubEnv(t, h)
	rows := "{\"prompt\":\"Once upon\",\"chosen\":\" a time there was a happy dog\",\"rejected\":\" a dog\"}\n{\"prompt\":\"The cat\",\"chosen\":\" sat on the mat\",\"rejected\":\" fell\"}\n"
	for name, text := range map[string]string{"pairs/train_prefs-00000-of-00001.jsonl": rows, "pairs/test_prefs-00000-of-00001.jsonl": rows, "pairs/README.md": "pairs",
		"texts/train.jsonl":  "{\"text\": \"Once upon a time\"}\n{\"text\": \"The cat sat\"}\n",
		"prompts/train.json": `[{"prompt": "Once upon"}, {"messages": [{"role": "user", "content": "The cat"}]}]`} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), []byte(text))
	}
	dpo := func(out string, pairs ...string) []string {
		args := []string{"dpo", "teacher", "--steps", "2", "--batch-tokens", "60", "--out", out, "-q"}
		for _, p := range pairs {
			args = append(args, "--pairs", p)
		}
		return args
	}
	fails(t, dir, []string{"org/pairs: no such file or directory, and datasets/org/pairs is not in the cache", `"krait pull --dataset org/pairs" fetches it`}, dpo("x", "org/pairs")...)
	fails(t, dir, []string{"lost.jsonl: no such file or directory"}, dpo("x", "lost.jsonl")...)
	for _, name := range []string{"org/pairs", "org/prompts", "org/texts"} {
		must(t, dir, "pull", "--dataset", name, "-q")
	}
	t.Setenv("HF_HUB_OFFLINE", "1") // the cache is enough from here on
	fails(t, dir, []string{"has several sets of rows: choose one as datasets/org/pairs:test_prefs"}, dpo("x", "org/pairs")...)
	fails(t, dir, []string{"has no file, pattern or split dev: it has test_prefs-00000-of-00001.jsonl, train_prefs"}, dpo("x", "org/pairs:dev")...)
	fails(t, dir, []string{"not its revision v2"}, dpo("x", "org/pairs@v2:train_prefs")...)
	must(t, dir, dpo("a", filepath.Join("pairs", "train_prefs-00000-of-00001.jsonl"))...)
	must(t, dir, dpo("b", "org/pairs@main:train_prefs")...)
	if !bytes.Equal(read(t, filepath.Join(dir, "a", "model.safetensors")), read(t, filepath.Join(dir, "b", "model.safetensors"))) {
		t.Error("a dataset trains otherwise than its file")
	}
	if out := must(t, dir, "data", "inspect", "org/pairs:train_prefs", "--model", "teacher", "--pairs"); !strings.Contains(out, "happy") {
		t.Errorf("inspect: %s", out)
	}
	must(t, dir, "label", "teacher", "--prompts", "org/prompts", "--count", "4", "--max-tokens", "20", "--out", "labels", "-q")
	if text := string(read(t, filepath.Join(dir, "labels", "labels.jsonl"))); strings.Count(text, "\n") != 4 {
		t.Errorf("labels: %s", text)
	}
	must(t, dir, "label", "teacher", "--text", "org/texts", "--max-tokens", "20", "--out", "texts-labels", "-q")
	if text := string(read(t, filepath.Join(dir, "texts-labels", "labels.jsonl"))); strings.Count(text, "\n") != 2 {
		t.Errorf("labels: %s", text)
	}
	must(t, dir, append(dpo("mixed", "org/pairs:train_prefs"), "--mixture", "org/pairs:test_prefs=2")...)
	if record := string(read(t, filepath.Join(dir, "mixed", "krait.json"))); !strings.Contains(record, "test_prefs-00000-of-00001.jsonl") {
		t.Errorf("the record does not say what was mixed in: %s", record)
	}
	fails(t, dir, []string{"org/absent is not in the cache"}, append(dpo("x", "org/pairs:train_prefs"), "--mixture", "org/absent=2")...)
	if r := krait(t, dir, "", "label", "teacher", "--prompts", "org/pairs:*", "--count", "4", "--out", "y"); r.status != statusUsage || !strings.Contains(r.errors, "--prompts org/pairs:* means 3 files, want one") {
		t.Errorf("%+v", r)
	}

	recipe := func(pairs, prompts string) string {
		write(t, filepath.Join(dir, "r.yaml"), []byte("model: teacher\ntrain: {steps: 2, batch_tokens: 60}\nstages:\n- {stage: label, prompts: \""+prompts+"\", count: 3, max_tokens: 20}\n"+
			"- {stage: dpo, dataset_name: \""+pairs+"\", mixture: {\"org/pairs:test_prefs\": 2}}\n"))
		return "r.yaml"
	}
	must(t, dir, "recipe", "run", recipe("org/pairs:train_prefs", "org/prompts"), "out=run", "-q")
	if record := string(read(t, filepath.Join(dir, "run", "dpo", "krait.json"))); strings.Count(record, filepath.Join(cache, "datasets--org--pairs")) < 2 {
		t.Errorf("the record does not say what was read: %s", record)
	}
	fails(t, dir, []string{"r.yaml:5:4: stage dpo: datasets/org/pairs has several sets of rows"}, "recipe", "validate", recipe("org/pairs", "org/prompts"))
	fails(t, dir, []string{"stage label: org/pairs:* means 3 files: one is wanted here"}, "recipe", "validate", recipe("org/pairs:train_prefs", "org/pairs:*"))
	must(t, dir, "recipe", "validate", recipe("org/absent:train", "org/prompts")) // it may be pulled before the run
	fails(t, dir, []string{"stage dpo: data: org/absent:train does not exist (no file here, and no dataset in the cache; \"krait pull --dataset org/absent\" fetches one of the hub)"}, "recipe", "run", "r.yaml", "out=other")
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Error("a refused run made its directory")
	}
}
