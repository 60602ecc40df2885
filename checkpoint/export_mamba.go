package checkpoint

import (
	"errors"
	"slices"
	"strings"

	"krait/gguf"
	"krait/model"
	"krait/tensor"
)

// mambaArch is llama.cpp's architecture for the pure models of Mamba's authors with Mamba1 layers.
const mambaArch = "mamba"

// mambaContext is the context that llama.cpp's own converter claims for models that have no longest one.
const mambaContext = 1 << 20

// mambaNames are the parts of a layer's names, Hugging Face's and llama.cpp's.
var mambaNames = strings.NewReplacer("backbone.embeddings.", "token_embd.", "backbone.norm_f.", "output_norm.", "lm_head.", "output.", "backbone.layers.", "blk.",
	"mixer.in_proj.", "ssm_in.", "mixer.conv1d.", "ssm_conv1d.", "mixer.x_proj.", "ssm_x.", "mixer.dt_proj.", "ssm_dt.", "mixer.A_log", "ssm_a", "mixer.D", "ssm_d",
	"mixer.out_proj.", "ssm_out.", ".norm.", ".attn_norm.")

// checkMamba says what of a pure Mamba model llama.cpp cannot express.
func checkMamba(c *model.Config) error {
	switch {
	case c.Mamba.DTRank == 0:
		return errors.New("a pure Mamba2 model cannot be written as GGUF: only those with Mamba1 layers can")
	case c.Mamba.ProjBias:
		return errors.New("a pure Mamba model with use_bias cannot be written as GGUF: llama.cpp has no biases of its projections")
	}
	return nil
}

// mambaEntries is the metadata that describes a pure Mamba model.
func mambaEntries(c *model.Config) []gguf.KV {
	list := []gguf.KV{{Key: "general.architecture", Value: mambaArch}, {Key: "general.type", Value: "model"}}
	for _, e := range []struct {
		key string
		v   int
	}{
		{"context_length", mambaContext}, {"embedding_length", c.HiddenSize}, {"block_count", c.NumHiddenLayers}, {"feed_forward_length", 0},
		{"attention.head_count", 0}, {"vocab_size", c.VocabSize}, {"ssm.conv_kernel", c.Mamba.DConv}, {"ssm.inner_size", c.Mamba.DInner},
		{"ssm.state_size", c.Mamba.DState}, {"ssm.time_step_rank", c.Mamba.DTRank},
	} {
		list = append(list, gguf.KV{Key: mambaArch + "." + e.key, Value: uint32(e.v)})
	}
	return append(list, gguf.KV{Key: mambaArch + ".attention.layer_norm_rms_epsilon", Value: c.RMSNormEps}, gguf.KV{Key: mambaArch + ".ssm.dt_b_c_rms", Value: false})
}

// mambaItem describes one weight of a pure Mamba model: the scan's A is written itself, and like the convolution in f32.
func mambaItem(name string, p *tensor.Tensor, t gguf.Type) exportItem {
	x := gguf.Tensor{Name: mambaNames.Replace(name), Dims: slices.Clone(p.Shape)}
	data := func() *tensor.Tensor { return p }
	switch {
	case strings.HasSuffix(name, ".A_log"):
		x.Type = gguf.F32
		data = func() *tensor.Tensor { return decay(&tensor.Tensor{Shape: p.Shape, Data: slices.Clone(p.Data)}) }
	case strings.HasSuffix(name, ".conv1d.weight"):
		x.Type, x.Dims = gguf.F32, []int{p.Shape[0], p.Shape[2]}
		data = func() *tensor.Tensor { return &tensor.Tensor{Shape: []int{p.Shape[0], p.Shape[2]}, Data: p.Data} }
	case len(p.Shape) == 2:
		x.Type = exportType(name, p, t)
	default:
		x.Type = gguf.F32
	}
	slices.Reverse(x.Dims)
	return exportItem{Tensor: x, data: data}
}
