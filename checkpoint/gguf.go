package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"krait/gguf"
	"krait/model"
	"krait/quant"
	"krait/tokenizer"
)

// IsGGUF reports whether path is a GGUF file: a regular file that is named or that begins like one.
func IsGGUF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "GGUF" || strings.EqualFold(filepath.Ext(path), ".gguf")
}

// loadGGUF reads a model of llama.cpp's: configuration and tokenizer come from the metadata, in the form of the files that a directory
// would have, and the weights are converted to float32 one by one from the mapped file.
func loadGGUF(path string, w wanted) (*Checkpoint, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load %w", err)
	}
	defer f.Close()
	c, err := fromGGUF(f, w)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return c, nil
}

// GGUFTokenizer reads the tokenizer of a GGUF file, which need not have anything else.
func GGUFTokenizer(path string) (*tokenizer.Tokenizer, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	files, err := tokenizerFiles(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if files["tokenizer.json"] == nil {
		return nil, fmt.Errorf("%s: the file has no tokenizer", path)
	}
	t, err := tokenizer.ParseWith(files["tokenizer.json"], files["tokenizer_config.json"])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func fromGGUF(f *gguf.File, w wanted) (*Checkpoint, error) {
	config, err := ggufConfig(f)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	mc, h, err := parseConfig(text, nil)
	if err != nil {
		return nil, err
	}
	if err := justified(f, &mc); err != nil {
		return nil, err
	}
	c := &Checkpoint{BOS: h.BOSTokenID, EOS: h.EOSTokenID}
	if err := json.Unmarshal(text, &c.config); err != nil {
		return nil, err
	}
	if c.Files, err = tokenizerFiles(f); err != nil {
		return nil, err
	}
	c.parseTokenizer()
	architecture, _ := f.String("general.architecture")
	g := ggufWeights{File: f, config: &mc, interleaved: architecture == "llama", progress: w.progress}
	if w.outline {
		if c.Model, err = outlineOf(mc); err != nil {
			return nil, err
		}
		return c, g.fill(c.Model)
	}
	if !w.packed {
		if c.Model, err = model.New(mc); err != nil {
			return nil, err
		}
		return c, g.fill(c.Model)
	}
	format := quant.F32
	if w.format != "" {
		if format, err = quant.Parse(w.format); err != nil {
			return nil, err
		}
	}
	if c.Model, err = model.NewFrozen(mc, format); err != nil {
		return nil, err
	}
	if err := g.fill(c.Model); err != nil {
		return nil, err
	}
	return c, g.pack(c.Model)
}

// justified refuses a configuration that has more weights than the file holds, before memory is taken for them, and tensors of a type
// that cannot be read.
func justified(f *gguf.File, c *model.Config) error {
	have := 0.0
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		if !gguf.Convertible(t.Type) {
			return fmt.Errorf("tensor %s: type %s cannot be read (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K can)", name, t.Type)
		}
		have += float64(t.Len())
	}
	hidden, heads, kv := float64(c.HiddenSize), float64(c.NumAttentionHeads*c.HeadDim), float64(c.NumKeyValueHeads*c.HeadDim)
	layer := 2*hidden + 2*hidden*heads + 2*hidden*kv + 3*hidden*float64(c.IntermediateSize)
	if want := hidden*float64(c.VocabSize) + hidden + float64(c.NumHiddenLayers)*layer; have < want {
		return fmt.Errorf("the metadata describes a model of at least %.0f weights, the file has %.0f", want, have)
	}
	return nil
}

// ggufReader reads metadata and remembers the first failure.
type ggufReader struct {
	*gguf.File
	arch string
	err  error
}

// uint returns a number that must be there.
func (r *ggufReader) uint(key string) int {
	key = r.arch + "." + key
	v, ok := r.Uint(key)
	if !ok || v > math.MaxInt32 {
		r.fail(fmt.Errorf("metadata key %s is missing or not a whole number", key))
		return 0
	}
	return int(v)
}

// uintOr returns a number that may be absent.
func (r *ggufReader) uintOr(key string, otherwise int) int {
	if !r.Has(r.arch + "." + key) {
		return otherwise
	}
	return r.uint(key)
}

// float returns a number that the file may hold as float32 or float64, as the short decimal it was written for.
func (r *ggufReader) float(key string, otherwise float64) float64 {
	key = r.arch + "." + key
	if !r.Has(key) {
		return otherwise
	}
	v, ok := r.Float(key)
	if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
		r.fail(fmt.Errorf("metadata key %s is not a finite number", key))
		return 0
	}
	return shortFloat(float32(v))
}

func (r *ggufReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// ggufConfig returns the metadata as a config.json.
func ggufConfig(f *gguf.File) (map[string]any, error) {
	arch, ok := f.String("general.architecture")
	if !ok {
		return nil, errors.New("metadata key general.architecture is missing")
	}
	class := map[string]string{"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[arch]
	if class == "" {
		return nil, fmt.Errorf("architecture %q: want llama (which Mistral's files have too), qwen2 or qwen3", arch)
	}
	if n, ok := f.Uint("split.count"); ok && n > 1 {
		return nil, fmt.Errorf("the file is one of %d parts: join them first (llama-gguf-split --merge)", n)
	}
	embedding, ok := f.Tensor("token_embd.weight")
	if !ok || len(embedding.Dims) != 2 {
		return nil, errors.New("tensor token_embd.weight is missing or not a matrix")
	}
	r := &ggufReader{File: f, arch: arch}
	heads, hidden := r.uint("attention.head_count"), r.uint("embedding_length")
	switch {
	case r.err != nil:
		return nil, r.err
	case heads == 0:
		return nil, fmt.Errorf("metadata key %s.attention.head_count is 0", arch)
	case hidden != embedding.Dims[0]:
		return nil, fmt.Errorf("metadata key %s.embedding_length is %d, token_embd.weight has %d columns", arch, hidden, embedding.Dims[0])
	}
	headDim := r.uintOr("attention.key_length", hidden/heads)
	c := map[string]any{
		"model_type": arch, "architectures": []string{class}, "hidden_act": "silu",
		"hidden_size": hidden, "intermediate_size": r.uint("feed_forward_length"), "num_hidden_layers": r.uint("block_count"),
		"num_attention_heads": heads, "num_key_value_heads": r.uintOr("attention.head_count_kv", heads), "head_dim": headDim,
		"vocab_size": embedding.Dims[1], "max_position_embeddings": r.uintOr("context_length", 2048),
		"rms_norm_eps": r.float("attention.layer_norm_rms_epsilon", 0), "rope_theta": r.float("rope.freq_base", 10000),
		"tie_word_embeddings": !hasTensor(f, "output.weight"),
	}
	if arch != "qwen2" {
		c["attention_bias"], c["mlp_bias"] = hasTensor(f, "blk.0.attn_output.bias"), hasTensor(f, "blk.0.ffn_gate.bias")
	}
	if n := r.uintOr("attention.sliding_window", 0); n > 0 {
		c["sliding_window"], c["use_sliding_window"] = n, true
	}
	r.refuse(headDim)
	r.rope(c, headDim)
	r.ends(c)
	return c, r.err
}

func hasTensor(f *gguf.File, name string) bool {
	_, ok := f.Tensor(name)
	return ok
}

// refuse names what this program does not compute, rather than compute it wrongly.
func (r *ggufReader) refuse(headDim int) {
	for key, want := range map[string]int{"attention.value_length": headDim, "rope.dimension_count": headDim, "expert_count": 0} {
		if n := r.uintOr(key, want); n != want {
			r.fail(fmt.Errorf("%s.%s is %d, want %d", r.arch, key, n, want))
		}
	}
	for _, key := range []string{"attention.scale", "logit_scale", "residual_scale", "embedding_scale", "attention.clamp_kqv", "attention.max_alibi_bias"} {
		if v := r.float(key, 0); v != 0 {
			r.fail(fmt.Errorf("%s.%s is %g, which this program does not compute", r.arch, key, v))
		}
	}
}

// rope finds out how the rotary angles are scaled.
func (r *ggufReader) rope(c map[string]any, headDim int) {
	kind, _ := r.String(r.arch + ".rope.scaling.type")
	factor := r.float("rope.scaling.factor", r.float("rope.scale_linear", 1))
	switch {
	case kind == "linear" || kind == "" && factor != 1:
		if factor != 1 {
			c["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": factor}
		}
	case kind != "" && kind != "none":
		r.fail(fmt.Errorf("%s.rope.scaling.type %q: want none or linear", r.arch, kind))
	}
	t, ok := r.Tensor("rope_freqs.weight")
	if !ok || r.err != nil {
		return
	}
	divisors := make([]float32, headDim/2)
	if err := gguf.Float32s(divisors, t); err != nil {
		r.fail(err)
		return
	}
	if c["rope_scaling"] != nil {
		r.fail(errors.New("rope_freqs.weight beside linear scaling cannot be computed"))
		return
	}
	theta, _ := c["rope_theta"].(float64)
	scaling, err := llama3Scaling(divisors, theta, r.uintOr("rope.scaling.original_context_length", 0))
	if err != nil {
		r.fail(err)
	} else if scaling != nil {
		c["rope_scaling"] = scaling
	}
}

// llama3Scaling finds the rope_scaling that makes these divisors of the inverse frequencies. Files keep the divisors only; the
// context length that they are for is the usual one, or else what the metadata says.
func llama3Scaling(divisors []float32, theta float64, original int) (map[string]any, error) {
	factor := float64(slices.Max(divisors))
	if !(factor >= 1) || math.IsInf(factor, 0) {
		return nil, fmt.Errorf("rope_freqs.weight has the divisor %g", factor)
	}
	if factor == 1 && slices.Min(divisors) == 1 {
		return nil, nil
	}
	for _, context := range []int{usualContext, original} {
		s := llama3Rope{factor: shortFloat(float32(factor)), low: 1, high: 4, context: float64(context)}
		if context > 0 && s.makes(divisors, theta) {
			return map[string]any{"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low, "high_freq_factor": s.high, "original_max_position_embeddings": context}, nil
		}
	}
	return nil, errors.New("rope_freqs.weight holds divisors that are not those of Llama 3's scaling")
}

// usualContext is original_max_position_embeddings in all of Llama 3's releases.
const usualContext = 8192

// llama3Rope is rope_scaling of type llama3.
type llama3Rope struct{ factor, low, high, context float64 }

// divisor returns what the scaling divides the i-th of n inverse frequencies by.
func (r *llama3Rope) divisor(i, n int, theta float64) float64 {
	wavelen := 2 * math.Pi * math.Pow(theta, float64(i)/float64(n))
	switch {
	case wavelen < r.context/r.high:
		return 1
	case wavelen > r.context/r.low:
		return r.factor
	default:
		smooth := (r.context/wavelen - r.low) / (r.high - r.low)
		return 1 / ((1-smooth)/r.factor + smooth)
	}
}

// divisorTolerance is a few units in the last place of float32, in which converters compute and store the divisors.
const divisorTolerance = 2e-5

func (r *llama3Rope) makes(divisors []float32, theta float64) bool {
	for i, d := range divisors {
		if want := r.divisor(i, len(divisors), theta); !(math.Abs(float64(d)-want) <= divisorTolerance*want) {
			return false
		}
	}
	return true
}

// endTokens are the texts of control tokens that end an answer in the chat formats of these families, whatever the metadata names.
var endTokens = []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>"}

// ends finds BOS and the tokens that end a text.
func (r *ggufReader) ends(c map[string]any) {
	id := func(key string) int { return specialID(r.File, key) }
	if bos := id("bos"); bos >= 0 {
		c["bos_token_id"] = bos
	}
	ends := []int{}
	for _, key := range []string{"eos", "eot", "eom"} {
		if v := id(key); v >= 0 && !slices.Contains(ends, v) {
			ends = append(ends, v)
		}
	}
	tokens, _ := r.Strings("tokenizer.ggml.tokens")
	types, _ := r.Ints("tokenizer.ggml.token_type")
	for i, token := range tokens {
		if i < len(types) && types[i] == controlToken && slices.Contains(endTokens, token) && !slices.Contains(ends, i) {
			ends = append(ends, i)
		}
	}
	switch len(ends) {
	case 0:
	case 1:
		c["eos_token_id"] = ends[0]
	default:
		c["eos_token_id"] = ends
	}
}

// controlToken is the type of special tokens in tokenizer.ggml.token_type.
const controlToken = 3

// specialID returns the id of a special token, or -1.
func specialID(f *gguf.File, name string) int {
	if v, ok := f.Uint("tokenizer.ggml." + name + "_token_id"); ok && v <= math.MaxInt32 {
		return int(v)
	}
	return -1
}

// tokenizerFiles returns the tokenizer as the files that a directory would have; none where the file has no tokenizer.
func tokenizerFiles(f *gguf.File) (map[string][]byte, error) {
	files := map[string][]byte{}
	if t, ok := f.String("tokenizer.chat_template"); ok {
		files["chat_template.jinja"] = []byte(t)
	}
	g := &tokenizer.GGUF{BOS: int32(specialID(f, "bos")), EOS: int32(specialID(f, "eos")), UNK: int32(specialID(f, "unknown"))}
	g.Model, _ = f.String("tokenizer.ggml.model")
	if g.Model == "" || g.Model == "none" || g.Model == "no_vocab" {
		return files, nil
	}
	g.Pre, _ = f.String("tokenizer.ggml.pre")
	g.Tokens, _ = f.Strings("tokenizer.ggml.tokens")
	g.Scores, _ = f.Floats("tokenizer.ggml.scores")
	g.Merges, _ = f.Strings("tokenizer.ggml.merges")
	types, _ := f.Ints("tokenizer.ggml.token_type")
	for _, t := range types {
		g.Types = append(g.Types, int32(t))
	}
	for key, to := range map[string]**bool{"add_bos_token": &g.AddBOS, "add_eos_token": &g.AddEOS, "add_space_prefix": &g.AddSpacePrefix} {
		if v, ok := f.Bool("tokenizer.ggml." + key); ok {
			*to = &v
		}
	}
	var err error
	if files["tokenizer.json"], err = g.JSON(); err != nil {
		return nil, err
	}
	files["tokenizer_config.json"], err = specialTokens(f, g.Tokens)
	return files, err
}

// specialTokens returns the tokenizer_config.json that names a file's special tokens.
func specialTokens(f *gguf.File, tokens []string) ([]byte, error) {
	config := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}
	for name, key := range map[string]string{"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"} {
		if id := specialID(f, name); id >= 0 && id < len(tokens) {
			config[key] = tokens[id]
		}
	}
	return json.MarshalIndent(config, "", "  ")
}

// GGUFChat returns the files of a GGUF file's chat template, and reads nothing else of it: neither weights nor what the model is.
func GGUFChat(path string) (map[string][]byte, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load %w", err)
	}
	defer f.Close()
	files := map[string][]byte{}
	if t, ok := f.String("tokenizer.chat_template"); ok {
		files["chat_template.jinja"] = []byte(t)
	}
	tokens, _ := f.Strings("tokenizer.ggml.tokens")
	if files["tokenizer_config.json"], err = specialTokens(f, tokens); err != nil {
		return nil, fmt.Errorf("load %s: %w", path, err)
	}
	return files, nil
}
