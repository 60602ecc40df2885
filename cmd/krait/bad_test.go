package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"krait/safetensors"
)

func TestUsage(t *testing.T) {
	dir := home(t)
	for _, c := range []struct{ args, want string }{
		{"genrate teacher", "did you mean generate?"},
		{"--nope", "--nope"},
		{"help nonsense", "nonsense"},
		{"eval", "ppl, agreement"},
		{"eval pp --text x", "did you mean ppl?"},
		{"completion tcsh", "tcsh"},
		{"generate", "MODEL is missing"},
		{"generate teacher extra --prompt a", `"extra" is one too many`},
		{"generate teacher", "either --prompt or --prompt-ids"},
		{"generate teacher --prompt a --prompt-ids [1]", "either --prompt or --prompt-ids"},
		{"generate teacher --prompt a --max-tokens many", `--max-tokens "many": want a whole number`},
		{"generate teacher --prompt a --max-tokens 0", "--max-tokens is 0"},
		{"generate teacher --prompt a --max-tokens", "--max-tokens needs a value"},
		{"generate teacher --prompt a --temperature -1", "temperature is -1"},
		{"generate teacher --prompt a --temperature NaN", "temperature is NaN"},
		{"generate teacher --prompt a --top-p 1.5", "top-p is 1.5"},
		{"generate teacher --prompt a --seed -1", `--seed "-1"`},
		{"generate teacher --prompt a --speculate 3", "--draft MODEL or --ngram"},
		{"generate teacher --prompt a --ngram --speculate -3", "--speculate is -3"},
		{"generate teacher --prompt a --logit-bias [1]", "--logit-bias"},
		{"generate teacher --prompt a --repetition-penalty -2", "repetition penalty is -2"},
		{"generate teacher --prompt a --regex a --ignore-eos", "--ignore-eos"},
		{"generate teacher --prompt a --self-draft 3-1", "--self-draft \"3-1\""},
		{"generate teacher --prompt a --self-draft 0 --draft teacher", "two drafts"},
		{"draft teacher --layers 0 --labels l --out x --vocab 0", "--vocab is 0"},
		{"draft teacher --head medusa --labels l --out x", "--head \"medusa\""},
		{"draft teacher --head eagle --from teacher --labels l --out x", "layers of TARGET"},
		{"draft teacher --head eagle --unroll 9 --labels l --out x", "--unroll is 9"},
		{"draft teacher --layers 0 --unroll 2 --labels l --out x", "goes with --head"},
		{"generate teacher --prompt a --ngram-corpus=", "--ngram-corpus is empty"},
		{"generate teacher --prompt a --type q9", `--type "q9": want f32, bf16, q8, q4`},
		{"generate teacher --prompt-ids [1.5]", "--prompt-ids"},
		{"generate teacher --prompt-ids []", "--prompt-ids"},
		{"eval ppl teacher", "--text FILE is missing"},
		{"eval ppl teacher --text x --context 1", "--context is 1"},
		{"eval ppl teacher --text x --context 8 --stride 9", "--stride 9"},
		{"eval agreement teacher --text x", "TEACHER is missing"},
		{"logits teacher --out x", "--ids FILE is missing"},
		{"init teacher --attn-layers 1", "--out DIR is missing"},
		{"init teacher --out x", "either --attn-layers LIST or --every K"},
		{"init teacher --out x --attn-layers 1;3", "want numbers of layers"},
		{"init teacher --out x --attn-layers 1,1", "stands twice"},
		{"init teacher --out x --every 0", "--every is 0"},
		{"init teacher --out x --every 2 --init best", "want attention, linear or random"},
		{"label teacher --out x --count 0", "--count is 0"},
		{"label teacher --out x --max-tokens 1", "--max-tokens is 1"},
		{"label teacher --out x --text a --temperature 0.7", "--temperature is of what the teacher writes"},
		{"label teacher --out x --pack", "--pack is of the rows of --text"},
		{"distill teacher --teacher teacher --labels l", "--out DIR is missing"},
		{"distill teacher --teacher teacher --labels l --out x --lr 0", "--lr is 0"},
		{"distill teacher --teacher teacher --labels l --out x --compute fp8", "want f32 or bf16"},
		{"distill teacher --teacher teacher --labels l --out x --steps 5 --warmup 6", "--warmup is 6"},
		{"distill teacher --teacher teacher --labels l --out x --kl-weight 0", "both 0"},
		{"distill teacher --teacher teacher --labels l --out x --clip NaN", "--clip is NaN"},
		{"align teacher --teacher teacher --labels l --out x --steps -1", "--steps is -1"},
		{"draft teacher --labels l --out x --layers none", "--layers"},
	} {
		r := krait(t, dir, "", strings.Fields(c.args)...)
		if r.status != 2 || r.out != "" || !strings.Contains(r.errors, c.want) || !strings.Contains(r.errors, "krait help") || strings.Count(r.errors, "\n") != 1 {
			t.Errorf("krait %s: %+v, want %q", c.args, r, c.want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("x was made")
	}
	c := command(dir, "env")
	c.Env = append(c.Env, "KRAIT_KERNELS=nonsense")
	if r := finish(t, c); r.status != 2 || !strings.Contains(r.errors, "nonsense") {
		t.Errorf("KRAIT_KERNELS=nonsense: %+v", r)
	}
	for _, args := range [][]string{{}, {"help"}, {"--help"}, {"--version"}, {"help", "eval", "ppl"}, {"generate", "--help"}, {"completion", "bash"}} {
		if r := krait(t, dir, "", args...); r.status != 0 || r.out == "" || r.errors != "" {
			t.Errorf("krait %v: status %d, %d bytes, %q", args, r.status, len(r.out), r.errors)
		}
	}
}

// TestHelp holds every verb to an example.
func TestHelp(t *testing.T) {
	for _, c := range rootCommand(newUI()).Commands() {
		if c.Name() == "completion" || c.HasSubCommands() {
			continue
		}
		if c.Short == "" || !strings.Contains(c.Example, "krait ") {
			t.Errorf("%s: no short text or no example", c.Name())
		}
	}
}

// edit changes fields of a JSON file; nil removes one.
func edit(t *testing.T, path string, fields map[string]any) {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(read(t, path), &object); err != nil {
		t.Fatal(err)
	}
	for k, v := range fields {
		if object[k] = v; v == nil {
			delete(object, k)
		}
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, data)
}

// rewrite changes the list of a model's tensors.
func rewrite(t *testing.T, dir string, change func([]safetensors.Tensor) []safetensors.Tensor) {
	t.Helper()
	path := filepath.Join(dir, "model.safetensors")
	f, err := safetensors.Parse(read(t, path))
	if err != nil {
		t.Fatal(err)
	}
	var list []safetensors.Tensor
	for _, name := range f.Names() {
		x, _ := f.Tensor(name)
		list = append(list, x)
	}
	if err := safetensors.Write(path, change(list), f.Metadata()); err != nil {
		t.Fatal(err)
	}
}

func TestBadModel(t *testing.T) {
	config := func(k string, v any) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { edit(t, filepath.Join(dir, "config.json"), map[string]any{k: v}) }
	}
	weights := func(change func([]byte) []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, "model.safetensors")
			write(t, path, change(read(t, path)))
		}
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   []string // the file and the tensor or field
	}{
		{"unknown tensor", func(t *testing.T, dir string) {
			rewrite(t, dir, func(l []safetensors.Tensor) []safetensors.Tensor {
				x := l[0]
				x.Name = "model.extra.weight"
				return append(l, x)
			})
		}, []string{"m", "model.extra.weight", "unknown"}},
		{"missing tensor", func(t *testing.T, dir string) {
			rewrite(t, dir, func(l []safetensors.Tensor) []safetensors.Tensor {
				return slices.DeleteFunc(l, func(x safetensors.Tensor) bool { return x.Name == "model.norm.weight" })
			})
		}, []string{"m", "model.norm.weight", "missing"}},
		{"wrong shape", func(t *testing.T, dir string) {
			rewrite(t, dir, func(l []safetensors.Tensor) []safetensors.Tensor {
				for i := range l {
					if l[i].Name == "model.norm.weight" {
						l[i].Shape = []int{8, 8}
					}
				}
				return l
			})
		}, []string{"m", "model.norm.weight", "[8 8]", "[64]"}},
		{"truncated header", weights(func(b []byte) []byte { return b[:100] }), []string{"model.safetensors"}},
		{"truncated data", weights(func(b []byte) []byte { return b[:len(b)-4] }), []string{"model.safetensors"}},
		{"empty file", weights(func([]byte) []byte { return nil }), []string{"model.safetensors"}},
		{"oversized header", weights(func(b []byte) []byte {
			binary.LittleEndian.PutUint64(b, 1<<62)
			return b
		}), []string{"model.safetensors"}},
		{"no weights", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "model.safetensors")) }, []string{"m", "model.safetensors"}},
		{"no config", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "config.json")) }, []string{"m", "config.json"}},
		{"broken config", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "config.json"), []byte("{")) }, []string{"config.json"}},
		{"rope_scaling", config("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 4}), []string{"config.json", "rope_scaling", "yarn"}},
		{"hidden_act", config("hidden_act", "gelu"), []string{"config.json", "hidden_act", "gelu"}},
		{"model_type", config("model_type", "gpt2"), []string{"config.json", "model_type", "gpt2"}},
		{"heads", config("num_key_value_heads", 3), []string{"config.json", "num_key_value_heads"}},
		{"tokenizer", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "tokenizer.json"), []byte("[]")) }, []string{"m", "tokenizer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, dir, "example", "m")
			c.damage(t, filepath.Join(dir, "m"))
			fails(t, dir, c.want, "generate", "m", "--prompt", "a")
			if c.name != "tokenizer" {
				fails(t, dir, c.want, "init", "m", "--attn-layers", "1", "--out", "x")
			}
			onlyEntries(t, dir, "m")
		})
	}
}

// fails runs krait, which has to fail with one sentence that holds every part of want.
func fails(t *testing.T, dir string, want []string, args ...string) {
	t.Helper()
	r := krait(t, dir, "", args...)
	ok := r.status == 1 && r.out == "" && strings.HasPrefix(r.errors, "krait: ") && strings.Count(r.errors, "\n") == 1
	for _, w := range want {
		ok = ok && strings.Contains(r.errors, w)
	}
	if !ok {
		t.Errorf("krait %s: %+v, want status 1 and %q", strings.Join(args, " "), r, want)
	}
}

// onlyEntries holds a directory to what is meant to be in it: nothing half-written.
func onlyEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(want, e.Name()) {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// swapTokens exchanges the ids of two tokens.
func swapTokens(t *testing.T, path, a, b string) {
	t.Helper()
	var file struct {
		Model struct{ Vocab map[string]int }
	}
	if err := json.Unmarshal(read(t, path), &file); err != nil {
		t.Fatal(err)
	}
	text, entry := string(read(t, path)), func(token string, id int) string { return fmt.Sprintf("%q:%d,", token, id) }
	v := file.Model.Vocab
	for _, token := range []string{a, b} {
		if !strings.Contains(text, entry(token, v[token])) {
			t.Fatalf("%s: no %s", path, entry(token, v[token]))
		}
	}
	write(t, path, []byte(strings.NewReplacer(entry(a, v[a]), entry(a, v[b]), entry(b, v[b]), entry(b, v[a])).Replace(text)))
}

func TestBadInput(t *testing.T) {
	dir := home(t)
	write(t, filepath.Join(dir, "latin1"), []byte("caf\xe9"))
	write(t, filepath.Join(dir, "file"), []byte("text"))
	must(t, dir, "init", "teacher", "--attn-layers", "1,3", "--out", "hybrid")
	must(t, dir, "example", "other")
	swapTokens(t, filepath.Join(dir, "other", "tokenizer.json"), "q", "z")
	for name, ids := range map[string]string{"range": "[[1],[1,512]]", "empty": "[[1],[]]", "none": "[]", "float": "[[1,1.5]]", "null": "[[null]]", "broken": "[[1"} {
		write(t, filepath.Join(dir, name+".json"), []byte(ids))
	}
	for _, c := range []struct {
		args string
		want []string
	}{
		{"generate nowhere --prompt a", []string{"nowhere"}},
		{"generate file --prompt a", []string{"file", "not a directory"}},
		{"generate teacher --prompt-ids [1,512]", []string{"512"}},
		{"generate teacher --prompt a --draft nowhere", []string{"nowhere"}},
		{"generate teacher --prompt a --draft other", []string{"draft", "teacher", "other", `"q"`, `"z"`}},
		{"eval ppl teacher --text latin1", []string{"latin1", "UTF-8", "byte 3"}},
		{"eval ppl teacher --text nowhere", []string{"nowhere"}},
		{"eval agreement teacher hybrid --text latin1", []string{"latin1", "UTF-8", "byte 3"}},
		{"logits teacher --ids range.json --out y", []string{"range.json", "row 1", "position 1", "512"}},
		{"logits teacher --ids empty.json --out y", []string{"empty.json", "row 1"}},
		{"logits teacher --ids none.json --out y", []string{"none.json"}},
		{"logits teacher --ids float.json --out y", []string{"float.json", "row 0", "position 1", "1.5"}},
		{"logits teacher --ids null.json --out y", []string{"null.json", "row 0", "position 0"}},
		{"logits teacher --ids broken.json --out y", []string{"broken.json"}},
		{"logits teacher --ids range.json --out file/y", []string{"range.json"}},
		{"tokenize hybrid/nowhere", []string{"nowhere"}},
		{"show file", []string{"file"}},
		{"show nowhere", []string{"nowhere"}},
		{"example teacher", []string{"teacher exists already"}},
		{"init teacher --attn-layers 1 --out hybrid", []string{"hybrid exists already"}},
		{"init teacher --attn-layers 7 --out y", []string{"7", "5 layers"}},
		{"init teacher --every 9 --out y", []string{"--every 9"}},
		{"init stories260k --attn-layers 1 --out y", []string{"krait example"}},
		{"label teacher --out y --max-tokens 513", []string{"512"}},
		{"label teacher --out y --prompts nowhere", []string{"nowhere"}},
		{"distill hybrid --teacher teacher --labels nowhere --out y", []string{"nowhere"}},
		{"align teacher --teacher teacher --labels nowhere --out y", []string{"nowhere"}},
		// A directory that cannot be written: the path goes through a file, which stops even the superuser.
		{"example file/y", []string{"file/y"}},
		{"init teacher --attn-layers 1 --out file/y", []string{"file/y"}},
		{"label teacher --count 1 --out file/y", []string{"file/y"}},
	} {
		fails(t, dir, c.want, strings.Fields(c.args)...)
	}
	r := krait(t, dir, "a\xffb", "generate", "teacher", "--prompt", "-")
	if r.status != 1 || !strings.Contains(r.errors, "UTF-8 at byte 1") {
		t.Errorf("prompt that is not UTF-8: %+v", r)
	}
	onlyEntries(t, dir, "teacher", "hybrid", "other", "latin1", "file", "range.json", "empty.json", "none.json", "float.json", "null.json", "broken.json")
}

// TestNoSpace lets every verb that writes run into the limit of a file's size, as into the end of a disk.
func TestNoSpace(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("no shell that limits the size of files")
	}
	dir := home(t)
	write(t, filepath.Join(dir, "ids.json"), []byte("[[1,2,3,4,5,6,7,8]]"))
	for _, args := range []string{"example y", "init teacher --attn-layers 1 --out y", "logits teacher --ids ids.json --out y"} {
		c := exec.Command(shell, "-c", `ulimit -f 8; exec "$0" "$@"`) // at most 8 blocks, of 512 or 1024 bytes
		c.Args = append(append(c.Args, program), strings.Fields(args)...)
		c.Dir = dir
		if r := finish(t, c); r.status != 1 || r.out != "" || !strings.Contains(r.errors, "y") || strings.Count(r.errors, "\n") != 1 {
			t.Errorf("krait %s: %+v", args, r)
		}
		onlyEntries(t, dir, "teacher", "ids.json")
	}
}

// TestFullOutput notices that standard output cannot be written.
func TestFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full")
	}
	defer full.Close()
	for _, args := range []string{"env --json", "show stories260k", "generate stories260k --prompt a --max-tokens 5", "generate stories260k --prompt a --json", "help", "tokenize stories260k"} {
		c := command(t.TempDir(), strings.Fields(args)...)
		c.Stdin, c.Stdout = strings.NewReader("\"a\"\n"), full
		if r := finish(t, c); r.status != 1 || !strings.Contains(r.errors, "write standard output: no space left on device") {
			t.Errorf("krait %s: %+v", args, r)
		}
	}
}
