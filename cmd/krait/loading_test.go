package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"krait/gguf"
	"krait/recipe"
)

// TestLoading: reading weights is shown from a gigabyte on, and the next model's is shown again.
func TestLoading(t *testing.T) {
	var out bytes.Buffer
	u := &ui{err: &out, stages: map[string]*progress{}}
	small := u.loading("dir/small")
	small(1<<29, recipe.SlowLoad-1)
	small(recipe.SlowLoad-1, recipe.SlowLoad-1)
	if out.Len() > 0 {
		t.Errorf("a small model: %q", out.String())
	}
	for _, name := range []string{"dir/first", "second"} {
		out.Reset()
		p := u.loading(name)
		p(1<<20, 2<<30)
		p(1<<30, 2<<30)
		if out.Len() > 0 {
			t.Errorf("%s at once: %q", name, out.String())
		}
		u.stages["load"].printed = time.Now().Add(-time.Minute)
		p(3<<29, 2<<30)
		p(2<<30, 2<<30)
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "krait: load 1536/2048 MiB") || !strings.HasPrefix(lines[1], "krait: load 2048/2048 MiB") || !strings.HasSuffix(lines[1], filepath.Base(name)) {
			t.Errorf("%s: %q", name, lines)
		}
	}
}

// TestTemplateOfGGUF: the template of a GGUF file is read without the model: this one's no program knows, and it has no weights.
func TestTemplateOfGGUF(t *testing.T) {
	dir := t.TempDir()
	err := gguf.Write(filepath.Join(dir, "m.gguf"), []gguf.KV{
		{Key: "general.architecture", Value: "unheard-of"}, {Key: "tokenizer.chat_template", Value: "{{ bos_token }}{{ messages[0].content }}!"},
		{Key: "tokenizer.ggml.tokens", Value: []string{"<a>", "<b>"}}, {Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := krait(t, dir, `[{"role": "user", "content": "Hi"}]`, "template", "m.gguf")
	if r.status != 0 || r.out != "<b>Hi!" {
		t.Errorf("%+v", r)
	}
	if r := krait(t, dir, `[]`, "template", "nowhere"); r.status != 1 || !strings.Contains(r.errors, "nowhere") {
		t.Errorf("no file: %+v", r)
	}
}

// TestExportMamba: a pure Mamba model leaves in Transformers' layout, which checkpoint's TestOthersRead has Transformers read; again it is
// the same bytes.
func TestExportMamba(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mamba", "mamba-authors", "mamba2-groups"} {
		from, err := filepath.Abs(filepath.Join("../../internal/golden/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		must(t, dir, "export", from, "--format", "hf", "--out", name)
		must(t, dir, "export", name, "--format", "hf", "--out", name+"-again")
		for _, file := range []string{"config.json", "model.safetensors"} {
			if !bytes.Equal(read(t, filepath.Join(dir, name, file)), read(t, filepath.Join(dir, name+"-again", file))) {
				t.Errorf("%s: %s differs the second time", name, file)
			}
		}
		if config := string(read(t, filepath.Join(dir, name, "config.json"))); !strings.Contains(config, `ForCausalLM"`) || !strings.Contains(config, `"model_type": "mamba`) {
			t.Errorf("%s: %s", name, config)
		}
	}
	hybrid, err := filepath.Abs("../../internal/golden/testdata/tiny-hybrid")
	if err != nil {
		t.Fatal(err)
	}
	fails(t, dir, []string{"use --format mil"}, "export", hybrid, "--format", "hf", "--out", "x")
}
