package checkpoint

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"krait/internal/golden"
	"krait/safetensors"
)

// saved are reference checkpoints whose save others must be able to read.
var saved = []string{"llama-gqa", "llama-bias", "llama-headdim", "llama-rope3-type", "llama-rope_parameters", "mistral-window", "qwen2", "qwen3",
	"qwen3-bias", "torch-bin", "torch-shards", "tiny-hybrid", "tiny-pure", "tiny-mamba1", "tiny-mamba1-fused", "tiny-fused",
	"mamba", "mamba-authors", "mamba2-authors", "mamba2-groups", "mamba2-tied"}

// TestOthersRead has Transformers load what Save wrote, where KRAIT_PYTHON names a Python that has it (internal/golden/requirements.txt).
// The provenance that lies beside must not trouble it.
func TestOthersRead(t *testing.T) {
	python := os.Getenv("KRAIT_PYTHON")
	if python == "" {
		t.Skip("KRAIT_PYTHON names no Python with Transformers")
	}
	out := t.TempDir()
	for _, name := range saved {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Provenance = &Provenance{Stage: "test", Version: "1", Metrics: map[string]float64{"loss": 1}}
		if err := Save(filepath.Join(out, name), c); err != nil {
			t.Fatal(err)
		}
		c.config = nil // as that of a model which came from no directory
		if err := Save(filepath.Join(out, "fresh-"+name), c); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Dir(golden.Dir(t, "tiny-hybrid"))
	report, err := exec.Command(python, filepath.Join(root, "..", "reload.py"), out, root).CombinedOutput()
	t.Logf("%s", report)
	if err != nil {
		t.Error(err)
	}
}

// TestPaperNames checks that a hybrid is saved under the names and shapes of the paper's training layout, with the fields of its configuration:
// those of the reference files, whose generator wrote them down by itself.
func TestPaperNames(t *testing.T) {
	for _, name := range []string{"tiny-hybrid", "tiny-mamba1", "tiny-pure"} {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "x")
		if err := Save(dir, c); err != nil {
			t.Fatal(err)
		}
		got, want := shapes(t, dir), shapes(t, golden.Dir(t, name))
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: saved %v, want %v", name, got, want)
		}
		fields := func(dir string) map[string]json.RawMessage {
			var m map[string]json.RawMessage
			data, err := os.ReadFile(filepath.Join(dir, "mamba_config.json"))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &m); err != nil {
				t.Fatal(err)
			}
			return m
		}
		if got, want := slices.Sorted(maps.Keys(fields(dir))), slices.Sorted(maps.Keys(fields(golden.Dir(t, name)))); !slices.Equal(got, want) {
			t.Errorf("%s: mamba_config.json has %v, want %v", name, got, want)
		}
	}
}

func shapes(t *testing.T, dir string) map[string][]int {
	t.Helper()
	set, err := safetensors.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	m := map[string][]int{}
	for _, name := range set.Names() {
		x, _ := set.Tensor(name)
		m[name] = x.Shape
	}
	return m
}

// TestSaveTypes checks that a checkpoint which came in bf16 goes out in bf16 as the same numbers, and says so.
func TestSaveTypes(t *testing.T) {
	for name, dtype := range map[string]safetensors.DType{"llama-mqa-bf16": safetensors.BF16, "llama-f16": safetensors.F16, "tiny-mamba1-fused": safetensors.BF16} {
		c, err := Load(golden.Dir(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.DType = dtype
		dir := filepath.Join(t.TempDir(), "x")
		if err := Save(dir, c); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][]float32{}
		for n, p := range c.Model.Params {
			want[n] = p.Data
		}
		for n, p := range again.Model.Params {
			if !slices.Equal(p.Data, want[n]) {
				t.Errorf("%s: %s is not what it was", name, n)
			}
		}
		if got, want := string(again.config["torch_dtype"]), map[safetensors.DType]string{"BF16": `"bfloat16"`, "F16": `"float16"`}[dtype]; got != want {
			t.Errorf("%s: torch_dtype %s, want %s", name, got, want)
		}
	}
}
