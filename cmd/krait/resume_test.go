package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for a sign of life before it calls the program stuck.
const patience = 2 * time.Minute

// stopWhen runs krait until ready says so, stops it with the signal, and returns its exit status. A run that ends by itself first
// fails the test.
func stopWhen(t *testing.T, dir string, signal os.Signal, ready func() bool, args ...string) int {
	t.Helper()
	c := command(dir, args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { c.Wait(); close(ended) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ready() {
		select {
		case <-ended:
			t.Fatalf("krait %s ended before it was stopped: %s", strings.Join(args, " "), errs.String())
		case <-ctx.Done():
			c.Process.Kill()
			t.Fatalf("krait %s: nothing to stop after %v", strings.Join(args, " "), patience)
		case <-time.After(time.Millisecond):
		}
	}
	if err := c.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	<-ended
	if signal == os.Interrupt && !strings.Contains(errs.String(), "the same command goes on from there") {
		t.Errorf("an interrupted stage said %q", errs.String())
	}
	return c.ProcessState.ExitCode()
}

// stops are how the tests end a run: killed without a word twice, then interrupted as by Ctrl-C.
func stops() []os.Signal {
	if runtime.GOOS == "windows" {
		return []os.Signal{os.Kill, os.Kill}
	}
	return []os.Signal{os.Kill, os.Kill, os.Interrupt}
}

// TestResumeLabel: a labelling that was killed and run again leaves the same bytes as one in one piece.
func TestResumeLabel(t *testing.T) {
	dir := home(t)
	label := func(out string) []string {
		return []string{"label", "teacher", "--count", "240", "--max-tokens", "160", "--width", "4", "--seed", "3", "--out", out}
	}
	must(t, dir, label("whole")...)
	lines := func() int {
		data, err := os.ReadFile(filepath.Join(dir, "parts.partial", "labels.jsonl"))
		if err != nil {
			return 0
		}
		return bytes.Count(data, []byte("\n"))
	}
	for i, signal := range stops() {
		want := 1 + 40*i // further each time
		checkStop(t, signal, stopWhen(t, dir, signal, func() bool { return lines() >= want }, label("parts")...))
		absent(t, filepath.Join(dir, "parts"))
	}
	before := lines()
	r := krait(t, dir, "", label("parts")...)
	if r.status != 0 || !strings.Contains(r.errors, "going on from document") || before == 0 {
		t.Fatalf("%d lines, then %+v", before, r)
	}
	same(t, filepath.Join(dir, "whole", "labels.jsonl"), filepath.Join(dir, "parts", "labels.jsonl"))
	absent(t, filepath.Join(dir, "parts.partial"))
}

// TestResumeDistill: a distillation that was killed between and during steps and run again ends in the same weights, bit for bit.
func TestResumeDistill(t *testing.T) {
	dir := home(t)
	must(t, dir, "label", "teacher", "--count", "40", "--max-tokens", "48", "--out", "labels")
	must(t, dir, "init", "teacher", "--attn-layers", "1,3", "--out", "hybrid")
	distill := func(out string) []string {
		return []string{"distill", "hybrid", "--teacher", "teacher", "--labels", "labels", "--steps", "60", "--batch-tokens", "200", "--accumulate", "2",
			"--ce-weight", "0.5", "--weight-decay", "0.1", "--crop", "0.3", "--save-steps", "3", "--seed", "9", "--out", out}
	}
	resumes(t, dir, 60, 3, distill)
}

// TestResumePreferences: the reward model, PPO with it and DPO, killed and run again, end in the same weights, bit for bit.
func TestResumePreferences(t *testing.T) {
	dir := home(t)
	var pairs strings.Builder
	for i := range 12 {
		fmt.Fprintf(&pairs, "{\"prompt\": \"Once upon a time\", \"chosen\": \" there was a dog%s\", \"rejected\": \" tree the%s\"}\n", strings.Repeat(" happy", i), strings.Repeat(" down", i))
	}
	if err := os.WriteFile(filepath.Join(dir, "pairs.jsonl"), []byte(pairs.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	train := []string{"--steps", "36", "--save-steps", "1", "--batch-tokens", "256", "--lr", "1e-4"}
	for _, stage := range [][]string{
		{"reward", "teacher", "--data", "pairs.jsonl", "--held-out", "2"}, {"dpo", "teacher", "--pairs", "pairs.jsonl"},
		{"ppo", "teacher", "--reward", "reward-whole", "--rollout-batch", "12", "--response-length", "16", "--ppo-epochs", "3", "--mini-batches", "2"},
	} {
		resumes(t, dir, 36, 1, func(out string) []string {
			return slices.Concat(stage, train, []string{"--out", stage[0] + "-" + out})
		}, stage[0]+"-")
	}
}

// resumes runs a command that trains for steps and saves its state every few of them, in one piece and killed several times, and compares the weights.
func resumes(t *testing.T, dir string, steps, every int, command func(out string) []string, prefix ...string) {
	t.Helper()
	name := func(out string) string { return filepath.Join(dir, strings.Join(prefix, "")+out) }
	must(t, dir, command("whole")...)
	saved := func() int {
		latest := 0
		states, err := filepath.Glob(filepath.Join(name("parts.partial"), "state-*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range states {
			if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(s), "state-")); err == nil {
				latest = max(latest, n)
			}
		}
		return latest
	}
	for i, signal := range stops() {
		want := every + steps/4*i // further each time
		checkStop(t, signal, stopWhen(t, dir, signal, func() bool { return saved() >= want }, command("parts")...))
		absent(t, name("parts"))
	}
	step := saved()
	r := krait(t, dir, "", command("parts")...)
	if r.status != 0 || step == 0 || !strings.Contains(r.errors, fmt.Sprintf("going on from step %d of %d", step, steps)) {
		t.Fatalf("state %d, then %+v", step, r)
	}
	same(t, filepath.Join(name("whole"), "model.safetensors"), filepath.Join(name("parts"), "model.safetensors"))
	absent(t, name("parts.partial"))
	if n := bytes.Count(read(t, filepath.Join(name("parts"), "metrics.jsonl")), []byte("\n")); n != steps {
		t.Errorf("%d lines of metrics for %d steps", n, steps)
	}
}

func checkStop(t *testing.T, signal os.Signal, status int) {
	t.Helper()
	if signal == os.Interrupt && status != statusInterrupted {
		t.Errorf("interrupted with status %d", status)
	}
}

func absent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); err == nil {
		t.Fatalf("%s is there", path)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	if !bytes.Equal(read(t, a), read(t, b)) {
		t.Errorf("%s and %s differ", a, b)
	}
}

// TestInterruptGenerate: Ctrl-C ends a text with its line.
func TestInterruptGenerate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no interrupt to send")
	}
	dir := home(t)
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	edit(t, filepath.Join(dir, "teacher", "config.json"), map[string]any{"max_position_embeddings": 1 << 20})
	c := command(dir, "generate", "teacher", "--prompt", "Once", "--ignore-eos", "--max-tokens", "1000000")
	var errs bytes.Buffer
	c.Stdout, c.Stderr = out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if info, err := out.Stat(); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			c.Process.Kill()
			t.Fatal("no text")
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	text := read(t, filepath.Join(dir, "out"))
	if status := c.ProcessState.ExitCode(); status != statusInterrupted || !bytes.HasSuffix(text, []byte("\n")) || !strings.Contains(errs.String(), "ended by interrupted") {
		t.Errorf("status %d, text ends %q, errors %q", status, text[max(0, len(text)-20):], errs.String())
	}
}
