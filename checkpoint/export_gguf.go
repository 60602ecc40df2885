package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"krait/gguf"
	"krait/model"
	"krait/tensor"
	"krait/tokenizer"
)

// fileTypes are the values of general.file_type for the types that ExportGGUF writes.
var fileTypes = map[gguf.Type]uint32{gguf.F32: 0, gguf.F16: 1, gguf.Q4_0: 2, gguf.Q8_0: 7, gguf.BF16: 32}

// ExportGGUF writes a Llama, Qwen2 or Qwen3 model, a hybrid of Mamba2 layers in the paper's form, or a pure Mamba model, as a GGUF file that
// llama.cpp runs, with its tokenizer if it has one. Matrices are of type t, one of F32, F16, BF16, Q8_0 and Q4_0; vectors are F32. A matrix whose rows are not whole blocks becomes F16, and beside Q4_0
// the embedding and the head are Q8_0, as they suffer most.
func ExportGGUF(path string, c *Checkpoint, t gguf.Type) error {
	return ExportGGUFFrom(path, c, t, nil)
}

// ExportGGUFFrom is ExportGGUF of a model whose matrices have no numbers, as model.NewFrozen makes it: weights sets data (rows, cols) to those of
// one when its turn comes, so that there is one at a time in memory.
func ExportGGUFFrom(path string, c *Checkpoint, t gguf.Type, weights func(name string, data []float32, cols int)) error {
	if _, ok := fileTypes[t]; !ok {
		return fmt.Errorf("type %s: want F32, F16, BF16, Q8_0 or Q4_0", t)
	}
	if err := RefuseExisting(path); err != nil {
		return err
	}
	mc := &c.Model.Config
	arch, err := exportArchitecture(mc)
	if err != nil {
		return err
	}
	metadata := append(modelEntries(arch, mc), gguf.KV{Key: "general.file_type", Value: fileTypes[t]}, gguf.KV{Key: "general.quantization_version", Value: uint32(2)})
	more, err := c.tokenizerEntries()
	if err != nil {
		return err
	}
	items := exportItems(arch, c.Model, t)
	var list []gguf.Tensor
	byName := map[string]exportItem{}
	for _, it := range items {
		list = append(list, it.Tensor)
		byName[it.Name] = it
	}
	return gguf.WriteFunc(path, append(metadata, more...), list, func(x gguf.Tensor) ([]byte, error) {
		it := byName[x.Name]
		p := it.from
		if p != nil && p.Data == nil && weights != nil {
			p.Data = make([]float32, tensor.Size(p.Shape))
			weights(it.name, p.Data, p.Cols())
			defer func() { p.Data = nil }()
		}
		return exportTensor(it.data(), x.Type, it.head)
	})
}

// exportItem is a tensor to be written, made when its turn comes.
type exportItem struct {
	gguf.Tensor
	data func() *tensor.Tensor
	head int            // the width of heads whose rows change their order, or 0
	from *tensor.Tensor // the weight that data is made of, and its name in Params; nil for what is computed
	name string
}

// exportItems lists what is written for a model.
func exportItems(arch string, m *model.Model, t gguf.Type) []exportItem {
	var items []exportItem
	if divisors := ropeDivisors(&m.Config); divisors != nil {
		p := tensor.Of(divisors, len(divisors))
		items = append(items, exportItem{Tensor: gguf.Tensor{Name: "rope_freqs.weight", Dims: p.Shape}, data: func() *tensor.Tensor { return p }})
	}
	for name, p := range m.Params {
		if strings.Contains(name, ".mamba.") {
			continue // graniteItems has them
		}
		if arch == mambaArch {
			it := mambaItem(name, p, t)
			it.from, it.name = p, name
			items = append(items, it)
			continue
		}
		x := gguf.Tensor{Name: ggufNames.Replace(name), Type: exportType(name, p, t), Dims: slices.Clone(p.Shape)}
		slices.Reverse(x.Dims)
		it := exportItem{Tensor: x, data: func() *tensor.Tensor { return p }, from: p, name: name}
		if arch == "llama" || arch == graniteHybrid {
			it.head = rotaryHead(name, &m.Config)
		}
		items = append(items, it)
	}
	if arch != graniteHybrid {
		return items
	}
	names := map[*tensor.Tensor]string{}
	for name, p := range m.Params {
		names[p] = name
	}
	for i, b := range m.Blocks {
		if x, ok := b.Mixer.(*model.Mamba2); ok {
			for _, it := range graniteItems(i, x, &m.Config, t) {
				it.name = names[it.from]
				items = append(items, it)
			}
		}
	}
	return items
}

// exportArchitecture returns llama.cpp's name for the kind of model, or says what GGUF cannot express.
func exportArchitecture(c *model.Config) (string, error) {
	switch {
	case len(c.HeadTokens) > 0:
		return "", fmt.Errorf("an output layer of %d of %d tokens cannot be written as GGUF: make the draft without --vocab", len(c.HeadTokens), c.VocabSize)
	case c.Mamba != nil && c.Mamba.Backbone:
		return mambaArch, checkMamba(c)
	case c.Mamba != nil:
		return graniteHybrid, checkGranite(c)
	case c.QKNorm && (c.QKVBias || c.OBias || c.MLPBias):
		return "", errors.New("norms of queries and keys beside biases cannot be written as GGUF: llama.cpp has no architecture of this kind")
	case c.QKNorm:
		return "qwen3", nil
	case c.QKVBias && !c.OBias:
		return "qwen2", nil
	}
	return "llama", nil
}

// exportType returns the type that a weight is written in.
func exportType(name string, p *tensor.Tensor, t gguf.Type) gguf.Type {
	if len(p.Shape) == 1 {
		return gguf.F32
	}
	if t == gguf.Q4_0 && (strings.HasSuffix(name, "embed_tokens.weight") || strings.HasSuffix(name, "embeddings.weight") || name == "lm_head.weight") {
		t = gguf.Q8_0
	}
	if block, _ := t.Block(); p.Shape[1]%block != 0 {
		return gguf.F16
	}
	return t
}

// exportTensor returns a weight's bytes, the rows of rotary heads in ggml's order.
func exportTensor(p *tensor.Tensor, t gguf.Type, head int) ([]byte, error) {
	rows, cols := p.Shape[0], 1
	if len(p.Shape) == 2 {
		cols = p.Shape[1]
	} else if head == 0 {
		return gguf.Quantize(t, p.Data)
	}
	block, size := t.Block()
	rowBytes := cols / block * size
	out := make([]byte, rows*rowBytes)
	failed := make([]error, rows)
	tensor.Rows(rows, cols, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			from := r
			if head > 0 {
				from = halves(r, head)
			}
			b, err := gguf.Quantize(t, p.Data[from*cols:(from+1)*cols])
			copy(out[r*rowBytes:], b)
			failed[r] = err
		}
	})
	for r, err := range failed { // one is enough, and always the same one
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", r, err)
		}
	}
	return out, nil
}

// modelEntries is the metadata that describes the model.
func modelEntries(arch string, c *model.Config) []gguf.KV {
	if arch == mambaArch {
		return mambaEntries(c)
	}
	number := func(v int) any { return uint32(v) }
	list := []gguf.KV{
		{Key: "general.architecture", Value: arch},
		{Key: "general.type", Value: "model"},
		{Key: arch + ".context_length", Value: number(c.MaxPositionEmbeddings)},
		{Key: arch + ".embedding_length", Value: number(c.HiddenSize)},
		{Key: arch + ".block_count", Value: number(c.NumHiddenLayers)},
		{Key: arch + ".feed_forward_length", Value: number(c.IntermediateSize)},
		{Key: arch + ".attention.head_count", Value: number(c.NumAttentionHeads)},
		{Key: arch + ".attention.head_count_kv", Value: number(c.NumKeyValueHeads)},
		{Key: arch + ".attention.key_length", Value: number(c.HeadDim)},
		{Key: arch + ".attention.value_length", Value: number(c.HeadDim)},
		{Key: arch + ".attention.layer_norm_rms_epsilon", Value: c.RMSNormEps},
		{Key: arch + ".rope.freq_base", Value: float32(c.RopeTheta)},
		{Key: arch + ".rope.dimension_count", Value: number(c.HeadDim)},
		{Key: arch + ".vocab_size", Value: number(c.VocabSize)},
	}
	if s := c.RopeScaling; s.Type == "linear" {
		list = append(list, gguf.KV{Key: arch + ".rope.scaling.type", Value: "linear"}, gguf.KV{Key: arch + ".rope.scaling.factor", Value: float32(s.Factor)})
	} else if s.Type == "llama3" && s.OriginalMaxPositionEmbeddings != usualContext {
		list = append(list, gguf.KV{Key: arch + ".rope.scaling.original_context_length", Value: number(s.OriginalMaxPositionEmbeddings)})
	}
	if arch == graniteHybrid {
		list = graniteEntries(list, c)
	}
	if c.SlidingWindow > 0 {
		list = append(list, gguf.KV{Key: arch + ".attention.sliding_window", Value: number(c.SlidingWindow)})
	}
	return list
}

// ropeDivisors returns what llama3 scaling divides the inverse frequencies by, nil where there is none.
func ropeDivisors(c *model.Config) []float32 {
	s := c.RopeScaling
	if s.Type != "llama3" {
		return nil
	}
	r := llama3Rope{s.Factor, s.LowFreqFactor, s.HighFreqFactor, float64(s.OriginalMaxPositionEmbeddings)}
	divisors := make([]float32, c.HeadDim/2)
	for i := range divisors {
		divisors[i] = float32(r.divisor(i, len(divisors), c.RopeTheta))
	}
	return divisors
}

// tokenizerEntries is the metadata of the tokenizer and the chat template.
func (c *Checkpoint) tokenizerEntries() ([]gguf.KV, error) {
	var list []gguf.KV
	add := func(key string, v any) { list = append(list, gguf.KV{Key: "tokenizer." + key, Value: v}) }
	g := &tokenizer.GGUF{BOS: -1, EOS: -1, UNK: -1}
	if data, ok := c.Files["tokenizer.json"]; ok {
		var err error
		if g, err = tokenizer.NewGGUF(data, c.Files["tokenizer_config.json"]); err != nil {
			return nil, err
		}
		if n := c.Model.Config.VocabSize; len(g.Tokens) > n {
			return nil, fmt.Errorf("tokenizer.json has %d tokens, the model's vocabulary %d", len(g.Tokens), n)
		}
		g.Pad(c.Model.Config.VocabSize)
		add("ggml.model", g.Model)
		add("ggml.pre", g.Pre)
		add("ggml.tokens", g.Tokens)
		if g.Model == "llama" {
			add("ggml.scores", g.Scores)
		}
		add("ggml.token_type", g.Types)
		if g.Model == "gpt2" {
			add("ggml.merges", g.Merges)
		}
		add("ggml.add_bos_token", *g.AddBOS)
		add("ggml.add_eos_token", *g.AddEOS)
		if g.AddSpacePrefix != nil {
			add("ggml.add_space_prefix", *g.AddSpacePrefix)
		}
	} else {
		add("ggml.model", "none")
	}
	if g.BOS < 0 && len(c.BOS) > 0 {
		g.BOS = c.BOS[0]
	}
	ends := slices.Concat(c.EOS, []int32{-1, -1, -1}) // a text, a turn, a message: all of them end an answer
	if ends[0] < 0 {
		ends[0] = g.EOS
	}
	for i, key := range []string{"bos", "unknown", "eos", "eot", "eom"} {
		if id := slices.Concat([]int32{g.BOS, g.UNK}, ends)[i]; id >= 0 && int(id) < c.Model.Config.VocabSize {
			add("ggml."+key+"_token_id", uint32(id))
		}
	}
	if text, ok := c.chatTemplate(); ok {
		add("chat_template", text)
	}
	return list, nil
}

// chatTemplate returns the template of the files that have one.
func (c *Checkpoint) chatTemplate() (string, bool) {
	if text, ok := c.Files["chat_template.jinja"]; ok {
		return string(text), true
	}
	var config struct {
		ChatTemplate json.RawMessage `json:"chat_template"`
	}
	var text string
	if json.Unmarshal(c.Files["tokenizer_config.json"], &config) != nil || json.Unmarshal(config.ChatTemplate, &text) != nil {
		return "", false
	}
	return text, text != ""
}
