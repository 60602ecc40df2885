// Package model is the hybrid decoder: Llama blocks whose mixer is attention, Mamba1 or Mamba2, one Forward for training and inference, the
// recurrent state with its rollback, and the initialisation of a hybrid from its teacher. It knows no files, flags or HTTP.
package model

import (
	"fmt"
	"math"
	"slices"
)

// Config describes a model in the terms of config.json and mamba_config.json.
type Config struct {
	HiddenSize            int
	IntermediateSize      int
	NumHiddenLayers       int
	NumAttentionHeads     int
	NumKeyValueHeads      int
	HeadDim               int
	VocabSize             int
	MaxPositionEmbeddings int
	RMSNormEps            float32
	RopeTheta             float64
	RopeScaling           RopeScaling
	TieWordEmbeddings     bool
	QKVBias, OBias        bool // attention_bias; Qwen2 has the first alone
	MLPBias               bool
	QKNorm                bool // each head's queries and keys are normalised before rotation (Qwen3)
	SlidingWindow         int  // 0: none
	Mamba                 *MambaConfig
	// NumLabels is 0 for a language model. A reward model has 1: its output layer gives each token a score instead of the next one's logits.
	NumLabels  int
	HeadTokens []int32 // the only tokens that the output layer knows, ascending; nil: all. Drafts have such.
	Eagle      bool    // a draft head: its rows begin with a target's hidden states, see Fusion
}

// RopeScaling is rope_scaling of config.json. The zero value scales nothing.
type RopeScaling struct {
	Type                          string // "", "linear" or "llama3"
	Factor                        float64
	LowFreqFactor, HighFreqFactor float64
	OriginalMaxPositionEmbeddings int
}

// MambaConfig is mamba_config.json: the shape of the Mamba layers and which layers are still attention. Heads are d_inner/NGroups wide.
type MambaConfig struct {
	DInner, DXB, DState, NGroups, DConv int
	IntermediateSize                    int     // of the Mamba blocks' MLPs
	RMSNormEps                          float32 // of the Mamba blocks' two norms; the gated norm's is always 1e-5
	AttnLayers                          []int
	// Identity means that x, B and C are not activated after the convolution (ssm_cfg.activation "identity", as in Phi-Mamba), ZBias
	// that the gate has a bias (z_bias), NoNorm that there is no gated norm (rmsnorm false). The paper's releases have none of them.
	Identity, ZBias, NoNorm bool
	// DTRank is the rank of the step sizes of Mamba1 layers; 0 means that the layers are Mamba2.
	DTRank int
	// RepeatFirst means that x, and B of Mamba2, are repeated for the heads that share them before the convolution, not after it
	// (repeat_kv_before_conv). Of the paper's releases, Mamba1 does and Mamba2 does not.
	RepeatFirst bool
	// Backbone means a pure model of Mamba's authors: blocks without MLP, Groups rows of B and C for all heads, and in Mamba2 heads of
	// any width. DXB and IntermediateSize are nothing then, and of Config all that concerns attention and MLPs.
	Backbone bool
	Groups   int
	ProjBias bool // use_bias: the input and output projections have one
}

// IsAttention reports whether layer i is an attention layer.
func (c *Config) IsAttention(i int) bool {
	return c.Mamba == nil || slices.Contains(c.Mamba.AttnLayers, i)
}

// maxLayers bounds the layers of a model; the deepest known have under 200.
const maxLayers = 1 << 20

// positive reports whether v is a positive number, neither infinite nor NaN.
func positive(v float32) bool { return v > 0 && v <= math.MaxFloat32 }

// Validate refuses a configuration that no model can have, naming the field.
func (c *Config) Validate() error {
	type size struct {
		name string
		v    int
	}
	backbone := c.Mamba != nil && c.Mamba.Backbone
	sizes := []size{{"hidden_size", c.HiddenSize}, {"num_hidden_layers", c.NumHiddenLayers}, {"vocab_size", c.VocabSize}}
	if !backbone {
		sizes = append(sizes, size{"intermediate_size", c.IntermediateSize}, size{"num_attention_heads", c.NumAttentionHeads},
			size{"num_key_value_heads", c.NumKeyValueHeads}, size{"head_dim", c.HeadDim})
	}
	for _, f := range sizes {
		if f.v <= 0 || f.v > 1<<24 {
			return fmt.Errorf("%s is %d, want a positive number", f.name, f.v)
		}
	}
	if err := c.validateHead(); err != nil {
		return err
	}
	switch {
	case c.NumLabels < 0 || c.NumLabels > 1:
		return fmt.Errorf("num_labels is %d, want 1, a reward model's", c.NumLabels)
	case c.Eagle && c.NumLabels > 0:
		return fmt.Errorf("a draft head has logits, not num_labels %d", c.NumLabels)
	case c.NumHiddenLayers > maxLayers:
		return fmt.Errorf("num_hidden_layers is %d, more than any model has", c.NumHiddenLayers)
	case !positive(c.RMSNormEps):
		return fmt.Errorf("rms_norm_eps is %g, want a positive number", c.RMSNormEps)
	case backbone:
		return c.Mamba.validateBackbone()
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fmt.Errorf("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head_dim %d is odd, so its halves cannot be rotated", c.HeadDim)
	case !positive(float32(c.RopeTheta)):
		return fmt.Errorf("rope_theta is %g, want a positive number", c.RopeTheta)
	case c.SlidingWindow < 0:
		return fmt.Errorf("sliding_window is %d, want a positive number or null", c.SlidingWindow)
	}
	if c.Mamba != nil {
		return c.Mamba.validate(c)
	}
	return nil
}

// validateHead checks the tokens of a cut output layer.
func (c *Config) validateHead() error {
	if len(c.HeadTokens) == 0 {
		return nil
	}
	if c.TieWordEmbeddings {
		return fmt.Errorf("draft_head_tokens: an output layer of %d tokens cannot be tied to the embeddings", len(c.HeadTokens))
	}
	last := int32(-1)
	for _, id := range c.HeadTokens {
		if id <= last || int(id) >= c.VocabSize {
			return fmt.Errorf("draft_head_tokens: %d after %d: want ascending ids below the vocabulary of %d", id, last, c.VocabSize)
		}
		last = id
	}
	return nil
}

// HeadRows returns the rows of the output layer.
func (c *Config) HeadRows() int {
	if len(c.HeadTokens) > 0 {
		return len(c.HeadTokens)
	}
	return c.VocabSize
}

func (m *MambaConfig) validate(c *Config) error {
	switch {
	case m.IntermediateSize <= 0:
		return fmt.Errorf("mamba_config: intermediate_size is %d, want a positive number", m.IntermediateSize)
	case m.DInner <= 0 || m.DXB <= 0 || m.DState <= 0 || m.NGroups <= 0 || m.DConv <= 0:
		return fmt.Errorf("mamba_config: d_inner %d, d_xb %d, d_state %d, ngroups %d, d_conv %d: all must be positive", m.DInner, m.DXB, m.DState, m.NGroups, m.DConv)
	case m.DInner%m.NGroups != 0:
		return fmt.Errorf("mamba_config: d_inner %d is not a multiple of ngroups %d", m.DInner, m.NGroups)
	case m.DInner/m.NGroups != m.DState:
		return fmt.Errorf("mamba_config: d_state %d is not the head width d_inner/ngroups = %d", m.DState, m.DInner/m.NGroups)
	case m.DXB%m.DState != 0 || m.NGroups%(m.DXB/m.DState) != 0:
		return fmt.Errorf("mamba_config: d_xb %d does not divide %d heads of width %d into equal groups", m.DXB, m.NGroups, m.DState)
	case m.DTRank < 0 || m.DTRank > 0 && (m.Identity || m.ZBias || m.NoNorm):
		return fmt.Errorf("mamba_config: dt_rank %d, activation, z_bias and rmsnorm do not go together in one layer", m.DTRank)
	case !positive(m.RMSNormEps):
		return fmt.Errorf("mamba_config: rms_norm_eps is %g, want a positive number", m.RMSNormEps)
	}
	return CheckAttnLayers(m.AttnLayers, c.NumHiddenLayers)
}

// CheckAttnLayers refuses a list of attention layers that does not fit a model of n layers.
func CheckAttnLayers(layers []int, n int) error {
	seen := map[int]bool{}
	for _, l := range layers {
		if l < 0 || l >= n {
			return fmt.Errorf("attn_layers: %d is not a layer of a model with %d layers (0…%d)", l, n, n-1)
		}
		if seen[l] {
			return fmt.Errorf("attn_layers: %d stands twice", l)
		}
		seen[l] = true
	}
	return nil
}

// MambaFor returns the configuration of the Mamba2 layers that take the place of the teacher's attention except in attnLayers: heads and
// widths are the teacher's (method §1.2).
func MambaFor(teacher *Config, attnLayers []int) *MambaConfig {
	layers := slices.Clone(attnLayers)
	slices.Sort(layers)
	return &MambaConfig{
		DInner: teacher.NumAttentionHeads * teacher.HeadDim, DXB: teacher.NumKeyValueHeads * teacher.HeadDim,
		DState: teacher.HeadDim, NGroups: teacher.NumAttentionHeads, DConv: 4,
		IntermediateSize: teacher.IntermediateSize, RMSNormEps: teacher.RMSNormEps, AttnLayers: layers,
	}
}

// Mamba1For is MambaFor with Mamba1 layers (method §1.3), of 16 states a channel as the paper's.
func Mamba1For(teacher *Config, attnLayers []int) *MambaConfig {
	m := MambaFor(teacher, attnLayers)
	m.DState = 16
	m.NGroups = m.DInner / m.DState
	m.DTRank = (teacher.HiddenSize + 15) / 16
	m.RepeatFirst = true
	return m
}
