package checkpoint

import (
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"krait/internal/golden"
	"krait/model"
	"krait/safetensors"
)

// copyOf returns the files of a reference checkpoint.
func copyOf(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	for _, file := range []string{"config.json", "mamba_config.json", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(golden.Dir(t, name), file))
		if err == nil {
			files[file] = &fstest.MapFile{Data: data}
		}
	}
	return files
}

// replace is a change of one file's text.
func replace(file, old, new string) func(t *testing.T, files fstest.MapFS) {
	return func(t *testing.T, files fstest.MapFS) {
		text := string(files[file].Data)
		if !strings.Contains(text, old) {
			t.Fatalf("%s has no %q", file, old)
		}
		files[file] = &fstest.MapFile{Data: []byte(strings.Replace(text, old, new, 1))}
	}
}

// TestRefused spoils a reference checkpoint; each must be refused with a sentence that names the file, the field or tensor and the reason.
func TestRefused(t *testing.T) {
	const config, mamba = "config.json", "mamba_config.json"
	for name, c := range map[string]struct {
		from   string
		change func(t *testing.T, files fstest.MapFS)
		want   []string
	}{
		"truncated JSON":   {"tiny-hybrid", replace(config, "}", ""), []string{config, "ends too early"}},
		"duplicate key":    {"tiny-hybrid", replace(config, `"hidden_size": 32`, `"hidden_size": 32, "hidden_size": 32`), []string{config, `"hidden_size" stands twice`}},
		"nested duplicate": {"tiny-hybrid", replace(mamba, `"ngroups": 4`, `"ngroups": 4, "ngroups": 4`), []string{mamba, `"ngroups" stands twice`}},
		"UTF-8":            {"tiny-hybrid", replace(config, "llama", "lla\xffma"), []string{config, "UTF-8"}},
		"text behind":      {"tiny-hybrid", replace(config, "\n}\n", "\n}{}"), []string{config, "text after"}},
		"unknown family":   {"tiny-hybrid", replace(config, `"llama"`, `"gpt2"`), []string{config, `"gpt2"`}},
		"huge vocabulary":  {"tiny-hybrid", replace(config, `"vocab_size": 61`, `"vocab_size": 16000000`), []string{config, "at least 512", "the files have"}},
		"huge hidden":      {"tiny-hybrid", replace(config, `"hidden_size": 32`, `"hidden_size": 1e30`), []string{config, "hidden_size"}},
		"huge layers":      {"llama-gqa", replace(config, `"num_hidden_layers": 2`, `"num_hidden_layers": 16000000`), []string{config, "num_hidden_layers is 16000000"}},
		"many layers":      {"llama-gqa", replace(config, `"num_hidden_layers": 2`, `"num_hidden_layers": 1000000`), []string{config, "the files have"}},
		"negative":         {"tiny-hybrid", replace(config, `"vocab_size": 61`, `"vocab_size": -61`), []string{config, "vocab_size is -61"}},
		"infinite eps":     {"tiny-hybrid", replace(config, `1e-05`, `Infinity`), []string{config, "rms_norm_eps"}},
		"NaN eps":          {"tiny-hybrid", replace(mamba, `1e-05`, `{"__float__": "NaN"}`), []string{"rms_norm_eps"}},
		"interleaved":      {"tiny-hybrid", replace(config, `"llama"`, `"llama", "rope_interleaved": true`), []string{config, "rope_interleaved"}},
		"unknown field":    {"tiny-hybrid", replace(mamba, `"d_xb"`, `"d_xc": 1, "d_xb"`), []string{mamba, "d_xc"}},
		"missing field":    {"tiny-hybrid", replace(mamba, `"d_xb"`, `"d_inner"`), []string{mamba}},
		"no ssm_cfg":       {"tiny-hybrid", replace(mamba, `"ssm_cfg"`, `"ssm_config"`), nil},
		"layers":           {"tiny-hybrid", replace(mamba, `"n_layer": 2`, `"n_layer": 3`), []string{mamba, "n_layer is 3"}},
		"kind":             {"tiny-hybrid", replace(mamba, `"d_model"`, `"mamba_version": "Mamba3", "d_model"`), []string{mamba, "Mamba3"}},
		"attention layer 7": {"tiny-hybrid", replace(mamba, `"attn_layers": [
    1
  ]`, `"attn_layers": [7]`), []string{"attn_layers", "7"}},
		"other layer": {"tiny-hybrid", replace(mamba, `"attn_layers": [
    1
  ]`, `"attn_layers": [0]`), []string{"tensor model.layers.0.self_attn.q_proj.weight is missing"}},
		"narrow heads": {"llama-gqa", replace(config, `"num_key_value_heads": 2`, `"num_key_value_heads": 1`), []string{"tensor model.layers.0.self_attn.k_proj.weight", "shape"}},
		"not the kind": {"tiny-hybrid", func(t *testing.T, files fstest.MapFS) { delete(files, mamba) }, []string{"tensor model.layers.0."}},
		"fused rows":   {"tiny-fused", replace(config, `"num_key_value_heads": 2`, `"num_key_value_heads": 1`), []string{"tensor model.layers.0.mha.in_proj.weight", "want 48 rows"}},
		"truncated weights": {"tiny-hybrid", func(t *testing.T, files fstest.MapFS) {
			data := files["model.safetensors"].Data
			files["model.safetensors"] = &fstest.MapFile{Data: data[:len(data)-4]}
		}, []string{"truncated"}},
		"integer weights": {"tiny-hybrid", retyped("model.norm.weight", "I32"), []string{"tensor model.norm.weight", "I32"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := copyOf(t, c.from)
			c.change(t, files)
			for _, load := range []func(fs.FS) (*Checkpoint, error){LoadFS, OutlineFS} {
				_, err := load(files)
				if c.want == nil {
					if err != nil {
						t.Errorf("%v, want no error", err)
					}
					continue
				}
				if err == nil {
					t.Fatal("no error")
				}
				for _, want := range c.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q, want one with %q", err, want)
					}
				}
			}
		})
	}
}

// retyped declares a tensor's bytes to be of another type.
func retyped(name string, dtype safetensors.DType) func(t *testing.T, files fstest.MapFS) {
	return func(t *testing.T, files fstest.MapFS) {
		f, err := safetensors.Parse(files["model.safetensors"].Data)
		if err != nil {
			t.Fatal(err)
		}
		var list []safetensors.Tensor
		for _, n := range f.Names() {
			x, _ := f.Tensor(n)
			if n == name {
				x.DType = dtype
			}
			list = append(list, x)
		}
		path := filepath.Join(t.TempDir(), "x")
		if err := safetensors.Write(path, list, nil); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files["model.safetensors"] = &fstest.MapFile{Data: data}
	}
}

// TestPreference checks which of a directory's weights are read: safetensors before torch's, the good before none at all.
func TestPreference(t *testing.T) {
	dir := t.TempDir()
	for file, from := range map[string]string{"config.json": "llama-gqa", "model.safetensors": "llama-gqa"} {
		data, err := os.ReadFile(filepath.Join(golden.Dir(t, from), file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(dir, "pytorch_model.bin")
	if err := os.WriteFile(bin, []byte("no file of torch's"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err != nil {
		t.Errorf("%v, want the safetensors", err)
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "pytorch_model.bin") {
		t.Errorf("error %v, want one about pytorch_model.bin", err)
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "no weights") {
		t.Errorf("error %v, want one that there are no weights", err)
	}
}

// TestPublishedConfigs reads what the published models' config.json say that matters here.
func TestPublishedConfigs(t *testing.T) {
	for name, c := range map[string]struct {
		json    string
		window  int
		kv      int
		headDim int
		norm    bool
	}{
		"SmolLM2-135M": {`{"model_type":"llama","architectures":["LlamaForCausalLM"],"attention_bias":false,"hidden_act":"silu","hidden_size":576,"intermediate_size":1536,
			"is_llama_config":true,"max_position_embeddings":8192,"mlp_bias":false,"num_attention_heads":9,"num_hidden_layers":30,"num_key_value_heads":3,"pretraining_tp":1,
			"rms_norm_eps":1e-05,"rope_interleaved":false,"rope_scaling":null,"rope_theta":100000,"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":49152}`, 0, 3, 64, false},
		"TinyLlama": {`{"model_type":"llama","hidden_act":"silu","hidden_size":2048,"intermediate_size":5632,"max_position_embeddings":2048,"num_attention_heads":32,
			"num_hidden_layers":22,"num_key_value_heads":4,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":null,"rope_theta":10000.0,"vocab_size":32000}`, 0, 4, 64, false},
		"Zephyr": {`{"model_type":"mistral","hidden_act":"silu","hidden_size":4096,"intermediate_size":14336,"max_position_embeddings":32768,"num_attention_heads":32,
			"num_hidden_layers":32,"num_key_value_heads":8,"rms_norm_eps":1e-05,"rope_theta":10000.0,"sliding_window":4096,"pad_token_id":2,"vocab_size":32000}`, 4096, 8, 128, false},
		"Mistral v0.3": {`{"model_type":"mistral","hidden_size":4096,"intermediate_size":14336,"num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,
			"rms_norm_eps":1e-05,"rope_theta":1000000.0,"sliding_window":null,"vocab_size":32768}`, 0, 8, 128, false},
		"Qwen3-0.6B": {`{"model_type":"qwen3","attention_bias":false,"head_dim":128,"hidden_act":"silu","hidden_size":1024,"intermediate_size":3072,"max_position_embeddings":40960,
			"max_window_layers":28,"num_attention_heads":16,"num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":1000000,
			"sliding_window":null,"tie_word_embeddings":true,"use_sliding_window":false,"vocab_size":151936,"eos_token_id":151645}`, 0, 8, 128, true},
		"Qwen2.5-0.5B": {`{"model_type":"qwen2","hidden_size":896,"intermediate_size":4864,"max_window_layers":21,"num_attention_heads":14,"num_hidden_layers":24,
			"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,"tie_word_embeddings":true,"use_sliding_window":false,"vocab_size":151936}`, 0, 2, 64, false},
	} {
		mc, _, err := parseConfig([]byte(c.json), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if mc.SlidingWindow != c.window || mc.NumKeyValueHeads != c.kv || mc.HeadDim != c.headDim || mc.QKNorm != c.norm {
			t.Errorf("%s: %+v", name, mc)
		}
	}
}

// TestFloats checks the three spellings of floats that JSON has no word for, and that what is carried is written as it was.
func TestFloats(t *testing.T) {
	const text = `{"a": [0.0, Infinity], "b": -Infinity, "c": NaN, "d": {"__float__": "Infinity"}, "n": -5, "s": "Infinity \" NaN, -Infinity"}`
	data, err := readJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		A       [2]number
		B, C, D number
	}
	var carried map[string]json.RawMessage
	if err := json.Unmarshal(data, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &carried); err != nil {
		t.Fatal(err)
	}
	if !math.IsInf(float64(x.A[1]), 1) || !math.IsInf(float64(x.B), -1) || !math.IsNaN(float64(x.C)) || !math.IsInf(float64(x.D), 1) {
		t.Errorf("read as %v", x)
	}
	out, err := writeJSON(carried)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(string(out)), " "); strings.ReplaceAll(strings.ReplaceAll(got, "{ ", "{"), " }", "}") !=
		strings.ReplaceAll(strings.ReplaceAll(text, "[0", "[ 0"), "y]", "y ]") {
		t.Errorf("written as %s", got)
	}
}

// FuzzConfig feeds both configuration files: whatever comes, an error or a configuration that can be written and read again.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"tiny-hybrid", "tiny-mamba1-narrow", "qwen3-bias", "llama-rope_parameters", "mistral-window"} {
		files := copyOf(f, name)
		mamba := []byte(nil)
		if m := files["mamba_config.json"]; m != nil {
			mamba = m.Data
		}
		f.Add(files["config.json"].Data, mamba)
	}
	f.Fuzz(func(t *testing.T, config, mamba []byte) {
		if len(mamba) == 0 {
			mamba = nil
		}
		mc, _, err := parseConfig(config, mamba)
		if err != nil {
			return
		}
		_ = leastWeights(&mc)
		if mc.Mamba == nil {
			return
		}
		out, err := formatMamba(&mc)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := parseConfig(config, out)
		if err != nil || again.Mamba.DInner != mc.Mamba.DInner || again.Mamba.DTRank != mc.Mamba.DTRank || again.Mamba.RepeatFirst != mc.Mamba.RepeatFirst {
			t.Fatalf("written as %s: %v", out, err)
		}
	})
}

// FuzzLoad feeds both configuration files beside good weights: an error, or a model that computes.
func FuzzLoad(f *testing.F) {
	names := []string{"tiny-hybrid", "tiny-mamba1-narrow", "tiny-fused", "mamba", "mamba2-groups", "qwen3"}
	var all []fstest.MapFS
	for i, name := range names {
		files := copyOf(f, name)
		all = append(all, files)
		mamba := []byte(nil)
		if m := files["mamba_config.json"]; m != nil {
			mamba = m.Data
		}
		f.Add(byte(i), files["config.json"].Data, mamba)
	}
	f.Fuzz(func(t *testing.T, which byte, config, mamba []byte) {
		files := fstest.MapFS{"config.json": {Data: config}, "model.safetensors": all[int(which)%len(all)]["model.safetensors"]}
		if len(mamba) > 0 {
			files["mamba_config.json"] = &fstest.MapFile{Data: mamba}
		}
		c, err := LoadFS(files)
		if err != nil {
			return
		}
		c.Model.Forward(nil, model.Single([]int32{0, 0, 0}, c.Model.NewState()))
	})
}

// TestWhichShard: what is wrong with a tensor is said with the file that holds it.
func TestWhichShard(t *testing.T) {
	for _, c := range []struct{ golden, index, file, tensor string }{
		{"sharded", "model.safetensors.index.json", "model-00002-of-00003.safetensors", "model.layers.0.self_attn.k_proj.weight"},
		{"torch-shards", "pytorch_model.bin.index.json", "", "model.layers.0.self_attn.k_proj.weight"},
		{"llama-gqa", "", "model.safetensors", "model.layers.0.self_attn.k_proj.weight"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(golden.Dir(t, c.golden))); err != nil {
			t.Fatal(err)
		}
		if c.file == "" { // the index knows
			var index struct {
				Map map[string]string `json:"weight_map"`
			}
			data, err := os.ReadFile(filepath.Join(dir, c.index))
			if err != nil || json.Unmarshal(data, &index) != nil || index.Map[c.tensor] == "" {
				t.Fatalf("%s: %v", c.index, err)
			}
			c.file = index.Map[c.tensor]
		}
		config := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		heads := strings.Replace(string(data), `"num_key_value_heads": 2`, `"num_key_value_heads": 1`, 1)
		if heads == string(data) {
			t.Fatalf("%s has no two key-value heads", c.golden)
		}
		if err := os.WriteFile(config, []byte(heads), 0o644); err != nil {
			t.Fatal(err)
		}
		want := c.file + ": tensor " + c.tensor + ": shape"
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", c.golden, err, want)
		}
	}
}
