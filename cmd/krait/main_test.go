package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"krait/safetensors"
)

// The tests run the program as its users do: a built binary, its streams, its exit status, and the files it leaves.

var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "krait-test")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "krait")
		if runtime.GOOS == "windows" {
			program += ".exe"
		}
		if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// outcome is what a command left.
type outcome struct {
	status      int
	out, errors string
}

// command returns a krait command in dir.
func command(dir string, args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "KRAIT_KERNELS=", "NO_COLOR=1")
	return c
}

// finish runs a command to its end.
func finish(t *testing.T, c *exec.Cmd) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	c.Stderr = &errs
	if c.Stdout == nil {
		c.Stdout = &out
	}
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// krait runs krait in dir with an input.
func krait(t *testing.T, dir, in string, args ...string) outcome {
	t.Helper()
	c := command(dir, args...)
	c.Stdin = strings.NewReader(in)
	return finish(t, c)
}

// must runs krait in dir, which has to succeed, and returns its standard output.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	r := krait(t, dir, "", args...)
	if r.status != 0 {
		t.Fatalf("krait %s: status %d\n%s%s", strings.Join(args, " "), r.status, r.out, r.errors)
	}
	return r.out
}

// mustJSON is must for a verb that prints one JSON object and nothing else.
func mustJSON(t *testing.T, dir string, v any, args ...string) map[string]any {
	t.Helper()
	out := must(t, dir, args...)
	var keys map[string]any
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		t.Fatalf("krait %s: %v in %q", strings.Join(args, " "), err, out)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// home returns a directory with the embedded model in teacher.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, dir, "example", "teacher")
	return dir
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantKeys(t *testing.T, object map[string]any, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if _, ok := object[k]; !ok {
			t.Errorf("no key %q in %v", k, object)
		}
	}
}

func TestGenerate(t *testing.T) {
	dir := home(t)
	var plain, ids, ngram, corpus, self generated
	keys := mustJSON(t, dir, &plain, "generate", "teacher", "--prompt", "Once upon a time", "--max-tokens", "80", "--json")
	wantKeys(t, keys, "text", "ids", "prompt_tokens", "tokens", "finish_reason", "prefill_tokens_per_second", "tokens_per_second")
	if _, ok := keys["drafted"]; ok {
		t.Error("plain output has a key drafted")
	}
	const begin = ", there was a little girl named Lily. She loved to play outside in the park." // llama2.c's continuation
	if !strings.HasPrefix(plain.Text, begin) || plain.Tokens != 80 || len(plain.IDs) != 80 || plain.PromptTokens != 5 || plain.FinishReason != "length" {
		t.Errorf("%+v", plain)
	}
	if r := krait(t, dir, "", "generate", embeddedName, "--prompt", "Once upon a time", "--max-tokens", "80"); r.out != plain.Text+"\n" ||
		!strings.Contains(r.errors, "Prompt: 5 tokens") || !strings.Contains(r.errors, "Generation: 80 tokens") {
		t.Errorf("stream %q, footer %q, want text %q", r.out, r.errors, plain.Text)
	}
	if r := krait(t, dir, "Once upon a time", "generate", "-q", "teacher", "--prompt", "-", "--max_tokens", "80"); r.out != plain.Text+"\n" || r.errors != "" {
		t.Errorf("prompt from standard input: %q, %q", r.out, r.errors)
	}
	encoded := strings.TrimSpace(krait(t, dir, `"Once upon a time"`, "tokenize", "teacher").out)
	mustJSON(t, dir, &ids, "generate", "teacher", "--prompt-ids", encoded, "--max-tokens", "80", "--json")
	keys = mustJSON(t, dir, &ngram, "generate", "teacher", "--prompt", "Once upon a time", "--max-tokens", "80", "--ngram", "--json")
	wantKeys(t, keys, "drafted", "accepted", "tokens_per_step")
	write(t, filepath.Join(dir, "corpus.txt"), []byte("Once upon a time"+plain.Text))
	mustJSON(t, dir, &corpus, "generate", "teacher", "--prompt", "Once upon a time", "--max-tokens", "80", "--ngram-corpus", "corpus.txt", "--temperature", "1e-9", "--seed", "1", "--json")
	if corpus.Drafted < 60 || corpus.Accepted < corpus.Drafted-4 { // the corpus holds the answer; its end may be cut otherwise
		t.Errorf("a corpus of the same text: %d of %d accepted", corpus.Accepted, corpus.Drafted)
	}
	mustJSON(t, dir, &self, "generate", "teacher", "--prompt", "Once upon a time", "--max-tokens", "80", "--draft", "teacher", "--speculate", "3", "--json")
	for name, g := range map[string]generated{"ids": ids, "ngram": ngram, "corpus": corpus, "self": self} {
		if !slices.Equal(g.IDs, plain.IDs) || g.Text != plain.Text {
			t.Errorf("%s: %q, want %q", name, g.Text, plain.Text)
		}
	}
	if self.Drafted > self.Accepted+4 || self.Accepted == 0 { // its end may be cut otherwise
		t.Errorf("the model as its own draft: %d of %d accepted", self.Accepted, self.Drafted)
	}
	adjusted := []string{"generate", "teacher", "--prompt", "Once upon a time", "--max-tokens", "60", "--repetition-penalty", "1.3", "--presence-penalty", "0.5",
		"--frequency-penalty", "0.1", "--logit-bias", `{"403": -100, "430": 1.5}`, "--regex", "([a-zA-Z,]+ ?){4,8}\\.", "--logprobs", "--json"}
	mustJSON(t, dir, &ids, adjusted...)
	mustJSON(t, dir, &self, append(adjusted, "--draft", "teacher", "--ngram")...)
	if !slices.Equal(ids.IDs, self.IDs) || !slices.Equal(ids.LogProbs, self.LogProbs) || len(ids.LogProbs) != ids.Tokens || ids.FinishReason != "stop" ||
		!regexp.MustCompile(`^([a-zA-Z,]+ ?){4,8}\.$`).MatchString(strings.TrimSpace(ids.Text)) {
		t.Errorf("adjusted: %+v, with guesses %+v", ids, self)
	}
	sampled := []string{"generate", "teacher", "--prompt", "A", "--temperature", "1", "--top-k", "50", "--top-p", "0.9", "--min-p", "0.01", "--seed", "5", "--ngram"}
	if a, b := must(t, dir, sampled...), must(t, dir, sampled...); a != b {
		t.Errorf("one seed, two texts: %q, %q", a, b)
	}
}

func TestEval(t *testing.T) {
	dir := home(t)
	text := read(t, filepath.Join(dir, "teacher", "heldout.txt"))[:4000]
	write(t, filepath.Join(dir, "text"), text)
	var p, overlap perplexity
	keys := mustJSON(t, dir, &p, "eval", "ppl", "teacher", "--text", "text", "--json")
	wantKeys(t, keys, "nll", "perplexity", "tokens", "bytes", "bits_per_byte")
	if p.Perplexity < 3 || p.Perplexity > 8 || p.Bytes != 4000 || p.Tokens < 1000 || p.BitsPerByte < 0.9 || p.BitsPerByte > 1.5 {
		t.Errorf("%+v", p)
	}
	mustJSON(t, dir, &overlap, "eval", "ppl", embeddedName, "--text", "text", "--context", "512", "--stride", "64", "--json")
	if overlap.NLL >= p.NLL || overlap.Tokens < p.Tokens {
		t.Errorf("more context: %+v, less: %+v", overlap, p)
	}
	var a agreement
	keys = mustJSON(t, dir, &a, "eval", "agreement", "teacher", embeddedName, "--text", "text", "--json")
	wantKeys(t, keys, "kl", "top1", "tokens")
	if a.KL > 1e-9 || a.Top1 != 1 || a.Tokens != p.Tokens {
		t.Errorf("a model against itself: %+v", a)
	}
}

func TestLogits(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, "ids.json"), []byte("[[1, 403, 407], [1]]\n"))
	if err := os.Remove(filepath.Join(dir, "teacher", "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	must(t, dir, "logits", "teacher", "--ids", "ids.json", "--out", "out.safetensors")
	f, err := safetensors.Open(filepath.Join(dir, "out.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, rows := range map[string]int{"logits.0": 3, "logits.1": 1} {
		x, ok := f.Tensor(name)
		if !ok || x.DType != safetensors.F32 || !slices.Equal(x.Shape, []int{rows, 512}) {
			t.Errorf("%s: %v %v", name, x.DType, x.Shape)
		}
	}
	a, _ := f.Tensor("logits.0")
	b, _ := f.Tensor("logits.1")
	if !bytes.Equal(a.Data[:len(b.Data)], b.Data) {
		t.Error("the logits behind the first token depend on the ones after it")
	}
	// Without a tokenizer, ids are still generated.
	if out := must(t, dir, "generate", "teacher", "--prompt-ids", "[1]", "--max-tokens", "3"); !strings.HasPrefix(out, "[") {
		t.Errorf("%q", out)
	}
}

func TestTokenize(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, "example", "m")
	for _, name := range []string{"model.safetensors", "config.json"} { // tokenizer files alone will do
		if err := os.Remove(filepath.Join(dir, "m", name)); err != nil {
			t.Fatal(err)
		}
	}
	in := "\"Once upon a time\"\n\"\"\n\"<b> & \\n \u00e9\"\n"
	r := krait(t, dir, in, "tokenize", "m")
	if want := "[1,403,407,261,378]\n[1]\n"; r.status != 0 || !strings.HasPrefix(r.out, want) || strings.Count(r.out, "\n") != 3 {
		t.Fatalf("%+v, want %q first", r, want)
	}
	if r := krait(t, dir, r.out, "detokenize", "m"); !strings.HasPrefix(r.out, "\"<s> Once upon a time\"\n\"<s>\"\n\"<s> <b> & ") {
		t.Errorf("%+v", r)
	}
	r = krait(t, dir, in, "tokenize", "m", "--no-special")
	if !strings.HasPrefix(r.out, "[403,407,261,378]\n[]\n") {
		t.Fatalf("%+v", r)
	}
	if r := krait(t, dir, r.out, "detokenize", "m"); r.out != in {
		t.Errorf("there and back: %q, want %q", r.out, in)
	}
	for in, where := range map[string]string{"\"a\"\nb\n": "line 2", "\"a\"\n\n": "line 2", "null\n": "line 1", "\"a\xff\"": "byte 2", "\"a\" \"b\"": "line 1"} {
		if r := krait(t, dir, in, "tokenize", "m"); r.status != 1 || !strings.Contains(r.errors, where) {
			t.Errorf("%q: %+v", in, r)
		}
	}
	for in, where := range map[string]string{"[1]\n[1.5]\n": "line 2", "[9999]": "9999", "null": "line 1", "[-1]": "line 1"} {
		if r := krait(t, dir, in, "detokenize", "m"); r.status != 1 || !strings.Contains(r.errors, where) {
			t.Errorf("%q: %+v", in, r)
		}
	}
}

func TestStages(t *testing.T) {
	dir := home(t)
	var s stageSummary
	mustJSON(t, dir, &s, "label", "teacher", "--out", "labels", "--count", "24", "--max-tokens", "40", "--json")
	if s.Stage != "label" || s.Out != "labels" || s.Metrics["documents"] != 24 {
		t.Errorf("%+v", s)
	}
	must(t, dir, "init", "teacher", "--every", "2", "--out", "hybrid")
	must(t, dir, "init", "teacher", "--attn-layers", "none", "--init", "linear", "--identity-activation", "--z-bias", "--no-norm", "--out", "pure")
	small := []string{"--labels", "labels", "--steps", "3", "--batch-tokens", "128", "--json"}
	mustJSON(t, dir, &s, append([]string{"align", "pure", "--teacher", "teacher", "--out", "aligned"}, small...)...)
	if s.Stage != "align" || s.Metrics["num_tokens"] <= 0 {
		t.Errorf("%+v", s)
	}
	mustJSON(t, dir, &s, append([]string{"distill", "hybrid", "--teacher", "teacher", "--ce-weight", "0.5", "--freeze", ".mlp.", "--out", "distilled"}, small...)...)
	mustJSON(t, dir, &s, append([]string{"draft", "hybrid", "--from", "teacher", "--layers", "0,4", "--out", "small"}, small...)...)
	mustJSON(t, dir, &s, append([]string{"draft", "hybrid", "--layers", "0-1", "--vocab", "300", "--kl", "tv", "--out", "cut"}, small...)...)
	if a := s.Metrics["expected_acceptance"]; a <= 0.05 || a >= 1 || s.Metrics["top1"] <= 0 {
		t.Errorf("%+v", s)
	}
	mustJSON(t, dir, &s, append([]string{"draft", "distilled", "--head", "eagle", "--unroll", "2", "--vocab", "300", "--out", "head"}, small...)...)
	if a := s.Metrics["expected_acceptance_2"]; a <= 0.05 || a >= 1 || s.Metrics["top1_2"] <= 0 {
		t.Errorf("%+v", s)
	}
	must(t, dir, "quantize", "head", "--type", "q8", "--out", "head8")
	var m shown
	keys := mustJSON(t, dir, &m, "show", "distilled", "--json")
	wantKeys(t, keys, "architecture", "layers", "layers_by_kind", "parameters", "bytes", "state_bytes", "provenance")
	if m.Architecture != "hybrid" || !slices.Equal(m.LayersByKind["attention"], []int{1, 3}) || m.StateBytes.PerToken != 512 || m.Provenance.Stage != "distill" {
		t.Errorf("%+v", m)
	}
	var file shownFile
	mustJSON(t, dir, &file, "show", "hybrid/model.safetensors", "--json")
	if file.Parameters != m.Parameters || len(file.Tensors) == 0 {
		t.Errorf("%d tensors, %d parameters", len(file.Tensors), file.Parameters)
	}
	var plain, spec generated
	mustJSON(t, dir, &plain, "generate", "distilled", "--prompt", "The", "--max-tokens", "60", "--json")
	for _, guess := range [][]string{{"--draft", "small"}, {"--draft", "cut"}, {"--draft", "head"}, {"--draft", "head8", "--ngram"}, {"--self-draft", "0-2"}, {"--self-draft", "1,4", "--ngram"}} {
		mustJSON(t, dir, &spec, append([]string{"generate", "distilled", "--prompt", "The", "--max-tokens", "60", "--json"}, guess...)...)
		if !slices.Equal(plain.IDs, spec.IDs) {
			t.Errorf("with %v %q, alone %q", guess, spec.Text, plain.Text)
		}
	}
	if r := krait(t, dir, "", "generate", "hybrid", "--prompt", "The", "--max-tokens", "9", "--draft", "head"); r.status != 0 || !strings.Contains(r.errors, "model with other weights") {
		t.Errorf("the head of a later stage: %+v", r)
	}
	for wrong, why := range map[string]string{
		"generate head --prompt A": "it is a draft head", "draft head --head eagle --labels labels --out x": "it is a draft head", "eval ppl head --text teacher/heldout.txt": "it is a draft head",
		"eval ppl cut --text teacher/heldout.txt": "knows 300 of 512 tokens has no likelihood", "distill cut --teacher teacher --labels labels --out x --steps 1": "knows 300 of 512 tokens",
		"distill hybrid --teacher cut --labels labels --out x --steps 1": "cut is a draft", "export cut --format gguf --out x.gguf": "make the draft without --vocab",
		"draft cut --layers 0 --vocab 30 --labels labels --out x --steps 1": "cut is a draft", "generate distilled --prompt A --self-draft 0-4": "all 5 layers are no short cut",
		"generate distilled --prompt A --self-draft 9": "9 is not a layer", "draft hybrid --layers 0 --vocab 512 --labels labels --out x": "fewer than the target's 512",
	} {
		if r := krait(t, dir, "", strings.Fields(wrong)...); r.status != 1 || !strings.Contains(r.errors, why) {
			t.Errorf("%s: %+v, want %q", wrong, r, why)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".partial") {
			t.Errorf("%s was left", e.Name())
		}
	}
	for _, human := range [][]string{{"show", "pure"}, {"show", "pure/model.safetensors"}, {"env"}} {
		if strings.Count(must(t, dir, human...), "\n") < 5 {
			t.Errorf("krait %v says too little", human)
		}
	}
	wantKeys(t, mustJSON(t, dir, nil, "env", "--json"), "version", "go", "os", "arch", "cores", "kernels", "kernels_why", "kernels_available")
}
