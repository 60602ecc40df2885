package checkpoint

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"krait/gguf"
	"krait/internal/golden"
	"krait/model"
	"krait/safetensors"
	"krait/score"
)

// ggufGoldens is where internal/golden/gguf keeps what its scripts wrote.
const ggufGoldens = "../internal/golden/gguf/testdata"

// TestGGUFGoldenLogits loads tiny models that another program turned into GGUF files and compares their logits with Transformers'.
func TestGGUFGoldenLogits(t *testing.T) {
	for _, name := range []string{"llama-gqa", "llama-bias", "llama-headdim", "llama-linear", "llama-rope3-type", "llama-f16", "llama-mqa-bf16", "qwen2", "qwen3"} {
		e := golden.Open(t, name)
		c, err := Load(filepath.Join(ggufGoldens, name+".gguf"))
		if err != nil {
			t.Fatal(err)
		}
		got := c.Model.Logits(nil, c.Model.Forward(nil, goldenBatch(e))).Data
		golden.Close(t, name, got, e.Floats("logits"), logitTolerance)
		if !slices.Equal(c.BOS, []int32{1}) || !slices.Equal(c.EOS, []int32{2}) {
			t.Errorf("%s: BOS %v, EOS %v", name, c.BOS, c.EOS)
		}
		// Saved as a directory, it is the same model.
		dir := filepath.Join(t.TempDir(), "hf")
		if err := Save(dir, c); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range again.Model.Logits(nil, again.Model.Forward(nil, goldenBatch(e))).Data {
			if v != got[i] {
				t.Fatalf("%s: written as a directory and read again: logit %d is %g, want %g", name, i, v, got[i])
			}
		}
	}
}

// changed loads a golden file with changes made to its metadata and tensors.
func changed(t *testing.T, name string, change func(kv map[string]any, tensors map[string]gguf.Tensor)) error {
	t.Helper()
	f, err := gguf.Open(filepath.Join(ggufGoldens, name+".gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kv, tensors := map[string]any{}, map[string]gguf.Tensor{}
	for _, k := range f.Keys() {
		kv[k] = f.Value(k)
	}
	for _, n := range f.Names() {
		tensors[n], _ = f.Tensor(n)
	}
	change(kv, tensors)
	var entries []gguf.KV
	for k, v := range kv {
		entries = append(entries, gguf.KV{Key: k, Value: v})
	}
	var list []gguf.Tensor
	for n, x := range tensors {
		x.Name = n
		list = append(list, x)
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := gguf.Write(path, entries, list); err != nil {
		t.Fatal(err)
	}
	_, err = Load(path)
	return err
}

func TestGGUFRefuses(t *testing.T) {
	type kvs = map[string]any
	type tensors = map[string]gguf.Tensor
	if err := changed(t, "llama-gqa", func(kvs, tensors) {}); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(kv kvs, x tensors){
		"general.architecture is missing":              func(kv kvs, x tensors) { delete(kv, "general.architecture") },
		`architecture "gemma": want llama`:             func(kv kvs, x tensors) { kv["general.architecture"] = "gemma" },
		"one of 3 parts":                               func(kv kvs, x tensors) { kv["split.count"] = uint16(3) },
		"llama.block_count is missing":                 func(kv kvs, x tensors) { delete(kv, "llama.block_count") },
		"llama.embedding_length is 48":                 func(kv kvs, x tensors) { kv["llama.embedding_length"] = uint32(48) },
		"llama.attention.head_count is missing or not": func(kv kvs, x tensors) { kv["llama.attention.head_count"] = []int32{4, 4} },
		"llama.attention.head_count is 0":              func(kv kvs, x tensors) { kv["llama.attention.head_count"] = uint32(0) },
		"num_attention_heads 4 is not a multiple":      func(kv kvs, x tensors) { kv["llama.attention.head_count_kv"] = uint32(3) },
		"rms_norm_eps is 0":                            func(kv kvs, x tensors) { delete(kv, "llama.attention.layer_norm_rms_epsilon") },
		"rope.freq_base is not a finite number":        func(kv kvs, x tensors) { kv["llama.rope.freq_base"] = float32(math.Inf(1)) },
		"llama.rope.dimension_count is 4, want 8":      func(kv kvs, x tensors) { kv["llama.rope.dimension_count"] = uint32(4) },
		"llama.expert_count is 8":                      func(kv kvs, x tensors) { kv["llama.expert_count"] = uint32(8) },
		`rope.scaling.type "yarn"`:                     func(kv kvs, x tensors) { kv["llama.rope.scaling.type"] = "yarn" },
		"llama.logit_scale is 0.5":                     func(kv kvs, x tensors) { kv["llama.logit_scale"] = float32(0.5) },
		"a model of at least":                          func(kv kvs, x tensors) { kv["llama.block_count"] = uint32(1 << 20) },
		"tensor blk.1.ffn_up.weight is missing": func(kv kvs, x tensors) {
			x["blk.1.other.weight"] = x["blk.1.ffn_up.weight"]
			delete(x, "blk.1.ffn_up.weight")
		},
		"tensor blk.0.attn_q_norm.weight is unknown": func(kv kvs, x tensors) { x["blk.0.attn_q_norm.weight"] = x["output_norm.weight"] },
		"tensor token_embd.weight is missing":        func(kv kvs, x tensors) { delete(x, "token_embd.weight") },
		"tensor blk.0.attn_q.weight: shape [16 32], want [": func(kv kvs, x tensors) {
			x["blk.0.attn_q.weight"] = x["blk.0.attn_k.weight"]
			x["rope_freqs.weight"] = floats(1, 1, 1, 1)
			pad(x)
		},
		"type Q2_K cannot be read":               func(kv kvs, x tensors) { x["t"] = gguf.Tensor{Type: 10, Dims: []int{256}, Data: make([]byte, 84)} },
		"divisors that are not those of Llama 3": func(kv kvs, x tensors) { x["rope_freqs.weight"] = floats(1, 2, 5, 8) },
		"rope_freqs.weight has the divisor 0.5":  func(kv kvs, x tensors) { x["rope_freqs.weight"] = floats(0.5, 0.5, 0.5, 0.5) },
		"tokenizer.ggml.tokens is missing":       func(kv kvs, x tensors) { kv["tokenizer.ggml.model"] = "gpt2" },
	} {
		err := changed(t, "llama-gqa", change)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "load ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func floats(v ...float32) gguf.Tensor {
	data, _ := gguf.Quantize(gguf.F32, v)
	return gguf.Tensor{Dims: []int{len(v)}, Data: data}
}

// pad adds a tensor that makes the number of weights large enough.
func pad(x map[string]gguf.Tensor) { x["blk.9.pad"] = floats(make([]float32, 1<<12)...) }

// TestLlama3Scaling finds the scaling of Llama 3.1, 3.2 and of files that say their context.
func TestLlama3Scaling(t *testing.T) {
	for _, c := range []struct {
		factor        float64
		head, context int
		theta         float64
	}{{8, 128, 8192, 500000}, {32, 64, 8192, 500000}, {4, 64, 4096, 10000}} {
		r := llama3Rope{factor: c.factor, low: 1, high: 4, context: float64(c.context)}
		divisors := make([]float32, c.head/2)
		for i := range divisors {
			divisors[i] = float32(r.divisor(i, len(divisors), c.theta))
		}
		got, err := llama3Scaling(divisors, c.theta, c.context)
		if err != nil || got["factor"] != c.factor || got["original_max_position_embeddings"] != c.context {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
}

// realModel returns the path of a file below the folder that KRAIT_MODELS names.
func realModel(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("KRAIT_MODELS")
	if dir == "" {
		t.Skip("KRAIT_MODELS names no folder with models")
	}
	return filepath.Join(dir, name)
}

const smolLM2 = "smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

// TestSmolLM2 compares a real quantised model with Transformers: tokens, logits, greedy continuations, likelihood.
func TestSmolLM2(t *testing.T) {
	path := realModel(t, smolLM2)
	start := time.Now()
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded := time.Since(start)
	c.Model.Pack()
	tok, err := c.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(ggufGoldens, "smollm2.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The scale is that of the logits, about 20; the error of float32 in another order of sums is a few 1e-6 of it.
	const tolerance = 1e-4
	for n, prompt := range []string{"The capital of France is", "Once upon a time, there was a little girl named Lily. She loved to play outside in the",
		"<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"} {
		e := ggufGolden{t, f, string(rune('0' + n))}
		want := e.ints("ids")
		ids, err := tok.Encode(prompt, true)
		if err != nil || !slices.Equal(ids, want) {
			t.Errorf("%q is %v (%v), want %v", prompt, ids, err, want)
		}
		state := c.Model.NewState()
		logits := c.Model.Logits(nil, c.Model.Forward(nil, model.Single(want, state))) // (positions, vocabulary)
		if n == 0 && !testing.Short() {
			t.Logf("read in %v, first token after %v", loaded, time.Since(start))
		}
		var strided []float32
		for i := range want {
			for j := 0; j < logits.Cols(); j += 48 {
				strided = append(strided, logits.Row(i)[j])
			}
		}
		golden.Close(t, "logits", strided, e.floats("logits"), tolerance)
		var top []float32
		for i, id := range e.ints("top") {
			top = append(top, logits.Row(i / 8)[id])
		}
		golden.Close(t, "largest logits", top, e.floats("topvalue"), tolerance)
		if n == 0 {
			golden.Close(t, "a row", logits.Row(len(want)-1), e.floats("row"), tolerance)
		}
		row := logits.Row(len(want) - 1)
		for i, id := range e.ints("greedy") {
			if got := argmax(row); got != id {
				t.Errorf("%q: token %d after it is %d, want %d", prompt, i, got, id)
				break
			}
			row = c.Model.Logits(nil, c.Model.Forward(nil, model.Single([]int32{id}, state))).Row(0)
		}
	}
	expectNLL(t, c.Model, ggufGolden{t, f, "1"}.ints("ids"), f)
	if !slices.Equal(c.EOS, []int32{2, 0}) || !strings.Contains(string(c.Files["chat_template.jinja"]), "<|im_start|>") {
		t.Errorf("EOS is %v, the chat template %.40q", c.EOS, c.Files["chat_template.jinja"])
	}
}

func expectNLL(t *testing.T, m *model.Model, ids []int32, f *safetensors.File) {
	t.Helper()
	x, _ := f.Tensor("nll")
	want := make([]float32, 1)
	if err := safetensors.Float32s(want, x); err != nil {
		t.Fatal(err)
	}
	l, err := score.Perplexity(t.Context(), m, ids, 64, 64)
	if got := l.Mean(); err != nil || math.Abs(got-float64(want[0])) > 1e-4*got {
		t.Errorf("the likelihood is %g (%v), want %g", got, err, want[0])
	}
}

func argmax(row []float32) int32 {
	best := 0
	for i, v := range row {
		if v > row[best] {
			best = i
		}
	}
	return int32(best)
}

// ggufGolden reads the tensors of one prompt.
type ggufGolden struct {
	t      *testing.T
	f      *safetensors.File
	prompt string
}

func (e ggufGolden) tensor(name string) safetensors.Tensor {
	e.t.Helper()
	x, ok := e.f.Tensor(name + "." + e.prompt)
	if !ok {
		e.t.Fatalf("no %s.%s", name, e.prompt)
	}
	return x
}

func (e ggufGolden) ints(name string) []int32 {
	x := e.tensor(name)
	v := make([]int32, x.Len())
	for i := range v {
		v[i] = int32(x.Data[8*i]) | int32(x.Data[8*i+1])<<8 | int32(x.Data[8*i+2])<<16
	}
	return v
}

func (e ggufGolden) floats(name string) []float64 {
	x := e.tensor(name)
	v := make([]float32, x.Len())
	if err := safetensors.Float32s(v, x); err != nil {
		e.t.Fatal(err)
	}
	wide := make([]float64, len(v))
	for i := range v {
		wide[i] = float64(v[i])
	}
	return wide
}
