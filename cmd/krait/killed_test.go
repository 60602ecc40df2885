package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"krait/recipe"
)

// everyStage is a recipe of seconds with every kind of stage.
const everyStage = `model: stories260k
seed: 3
train: {steps: 30, batch_tokens: 300, max_length: 128, save_steps: 4, eval_steps: 10, eval_rows: 6}
stages:
- {stage: label, count: 60, max_tokens: 96, width: 4}
- {stage: select, method: leave-one-out, keep: 2, text: story.txt}
- {stage: init, selection: select, init: linear}
- {stage: align}
- {stage: distill, ce_weight: 0.2, gradient_accumulation_steps: 2, weight_decay: 0.1, crop: 0.3}
- {stage: draft, layers: [4]}
- {stage: stepwise, attn_layers: [[1], []], align: {steps: 8}, distill: {steps: 8}}
- {stage: sft, model: distill, data: chats.jsonl, num_train_epochs: 2, save_total_limit: 3}
- {stage: reward, model: sft, data: pairs.jsonl, steps: 20, eval_steps: 0, eval_rows: 0}
- {stage: dpo, model: sft, ref: teacher, pairs: pairs.jsonl, steps: 20, learning_rate: 1e-4}
- {stage: ppo, policy: sft, reward: reward, steps: 8, rollout_batch_size: 8, response_length: 16, num_ppo_epochs: 2, batch_tokens: 400, save_steps: 2, eval_steps: 0, eval_rows: 0}
- {stage: quantize, model: dpo, type: q4}
- {stage: export, model: dpo, format: gguf, type: q8_0}
- {stage: eval, models: [init, distill, sft, dpo], max_bytes: 6000, max_length: 128}
`

// storyRows writes rows of conversations and of preferences from the stories inside the program: the beginning of a story, how it goes on, and how
// another one does.
func storyRows(t *testing.T, dir string) {
	t.Helper()
	lines := strings.FieldsFunc(recipe.HeldOut(), func(r rune) bool { return r == '\n' })
	var chats, pairs bytes.Buffer
	for i := range 60 {
		a, b := []rune(lines[i]), []rune(lines[i+1])
		if len(a) < 120 || len(b) < 120 {
			continue
		}
		prompt := string(a[:40])
		for _, row := range []struct {
			to *bytes.Buffer
			v  map[string]string
		}{{&chats, map[string]string{"prompt": prompt, "completion": string(a[40:120])}},
			{&pairs, map[string]string{"prompt": prompt, "chosen": string(a[40:100]), "rejected": string(b[40:100])}}} {
			j, err := json.Marshal(row.v)
			if err != nil {
				t.Fatal(err)
			}
			row.to.Write(append(j, '\n'))
		}
	}
	write(t, filepath.Join(dir, "chats.jsonl"), chats.Bytes())
	write(t, filepath.Join(dir, "pairs.jsonl"), pairs.Bytes())
	write(t, filepath.Join(dir, "story.txt"), []byte(lines[0]))
}

// results are the files of a run that must not depend on how it was interrupted: weights, labels, what was exported and measured.
func results(t *testing.T, run string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(run, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasSuffix(path, ".partial") {
			return fs.SkipDir
		}
		if slices.Contains([]string{"model.safetensors", "labels.jsonl", "reference.jsonl", "selection.json", "model.gguf", "eval.json", "config.json"}, d.Name()) {
			name, err := filepath.Rel(run, path)
			if err != nil {
				return err
			}
			files[name] = read(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestKilledRecipe kills a recipe of every kind of stage at random moments without a word (KRAIT_KILLS of them, 4 without it), and starts it again
// each time: whatever is there is whole, and in the end every result is that of a run in one piece, bit for bit.
func TestKilledRecipe(t *testing.T) {
	kills := 4
	if s := os.Getenv("KRAIT_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	storyRows(t, dir)
	write(t, filepath.Join(dir, "every.yaml"), []byte(everyStage))
	run := func(out string) []string { return []string{"recipe", "run", "every.yaml", "out=" + out, "-q"} }
	start := time.Now()
	must(t, dir, run("whole")...)
	whole := time.Since(start)
	want := results(t, filepath.Join(dir, "whole"))
	if len(want) < 25 {
		t.Fatalf("only %d results", len(want))
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	var killed []string
	for round := 0; len(killed) < kills; round++ {
		parts := fmt.Sprintf("parts-%d", round)
		for len(killed) < kills && killOnce(t, dir, run(parts), time.Duration((0.02+1.5*rng.Float64())*float64(whole)/5), &killed) {
			compareResults(t, want, results(t, filepath.Join(dir, parts)), fmt.Sprintf("seed %d, kill %d", seed, len(killed)))
		}
		must(t, dir, run(parts)...)
		got := results(t, filepath.Join(dir, parts))
		compareResults(t, want, got, fmt.Sprintf("seed %d, the end of round %d", seed, round))
		if len(got) != len(want) {
			t.Errorf("%d results, want %d", len(got), len(want))
		}
		left, err := filepath.Glob(filepath.Join(dir, parts, "*.partial"))
		if err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
	}
	t.Logf("%d kills over a recipe of %v: %s", len(killed), whole.Round(100*time.Millisecond), strings.Join(killed, ", "))
}

// killOnce starts krait, kills it after a while and notes at which stage; it reports false where the program ended by itself before.
func killOnce(t *testing.T, dir string, args []string, after time.Duration, killed *[]string) bool {
	t.Helper()
	c := command(dir, args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("krait ended before it was killed: %v: %s", err, errs.String())
		}
		return false
	case <-time.After(after):
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	at := "between stages"
	if left, err := filepath.Glob(filepath.Join(dir, strings.TrimPrefix(args[3], "out="), "*.partial")); err == nil && len(left) > 0 {
		at = strings.TrimSuffix(filepath.Base(left[0]), ".partial")
	}
	*killed = append(*killed, fmt.Sprintf("%s (%v)", at, after.Round(10*time.Millisecond)))
	return true
}

// compareResults holds what is there to what a run in one piece made.
func compareResults(t *testing.T, want, got map[string][]byte, when string) {
	t.Helper()
	for name, b := range got {
		if w, ok := want[name]; !ok || !bytes.Equal(b, w) {
			t.Errorf("%s: %s differs from that of a run in one piece", when, name)
		}
	}
}
