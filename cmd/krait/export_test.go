package main

import (
	"strings"
	"testing"
)

// TestExport writes the default model as GGUF files and reads them with the other verbs.
func TestExport(t *testing.T) {
	dir := home(t)
	must(t, dir, "export", "teacher", "--format", "gguf", "--type", "f32", "--out", "t.gguf")
	must(t, dir, "export", "t.gguf", "--format", "hf", "--out", "copy")
	must(t, dir, "export", "teacher", "--format", "gguf", "--type", "Q8_0", "--out", "q8.gguf")
	prompt := []string{"--prompt", "Once upon a time", "--max-tokens", "24", "--temperature", "0", "-q"}
	want := must(t, dir, append([]string{"generate", "teacher"}, prompt...)...)
	for _, name := range []string{"t.gguf", "copy"} {
		if got := must(t, dir, append([]string{"generate", name}, prompt...)...); got != want {
			t.Errorf("%s says %q, want %q", name, got, want)
		}
	}
	for _, args := range []string{"tokenize MODEL", "detokenize MODEL"} {
		in := map[string]string{"tokenize MODEL": "\"Once  upon\"\n\"<s>é\"\n", "detokenize MODEL": "[1,403,407]\n[432]\n"}[args]
		a := krait(t, dir, in, strings.Fields(strings.Replace(args, "MODEL", "teacher", 1))...)
		b := krait(t, dir, in, strings.Fields(strings.Replace(args, "MODEL", "q8.gguf", 1))...)
		if a != b || a.status != 0 {
			t.Errorf("%s: %v from the GGUF file, want %v", args, b, a)
		}
	}
	if got := must(t, dir, "show", "q8.gguf", "--json"); !strings.Contains(got, `"architecture":"llama"`) || !strings.Contains(got, `"tokenizer":true`) ||
		!strings.Contains(got, `{"name":"blk.0.attn_k.weight","dtype":"Q8_0","shape":[32,64],"bytes":2176}`) {
		t.Errorf("show: %s", got)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"export teacher --out x", 2, "--format FORM is missing"},
		{"export teacher --format onnx --out x", 2, "want gguf, hf or mil"},
		{"export teacher --format gguf --type q9 --out x", 2, "want f32, f16, bf16, q8_0 or q4_0"},
		{"export teacher --format gguf --type q6_k --out x", 1, "type Q6_K: want F32"},
		{"export teacher --format hf --type f32 --out x", 2, "--format gguf only"},
		{"export teacher --format gguf --out t.gguf", 1, "exists already"},
		{"export none --format gguf --out x", 1, "none"},
	} {
		got := krait(t, dir, "", strings.Fields(c.args)...)
		if got.status != c.status || !strings.Contains(got.errors, c.want) {
			t.Errorf("%s: status %d, %q, want %d, %q", c.args, got.status, got.errors, c.status, c.want)
		}
	}
}
