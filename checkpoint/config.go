package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"krait/model"
)

// hfConfig is the part of config.json that matters here, in its own spelling.
type hfConfig struct {
	ModelType             string          `json:"model_type"`
	Architectures         []string        `json:"architectures"`
	HiddenSize            int             `json:"hidden_size"`
	IntermediateSize      int             `json:"intermediate_size"`
	NumHiddenLayers       int             `json:"num_hidden_layers"`
	NumAttentionHeads     int             `json:"num_attention_heads"`
	NumKeyValueHeads      *int            `json:"num_key_value_heads"`
	HeadDim               *int            `json:"head_dim"`
	VocabSize             int             `json:"vocab_size"`
	MaxPositionEmbeddings int             `json:"max_position_embeddings"`
	RMSNormEps            *number         `json:"rms_norm_eps"`
	RopeTheta             *number         `json:"rope_theta"`
	RopeScaling           *hfRope         `json:"rope_scaling"`
	RopeParameters        *hfRope         `json:"rope_parameters"`
	HiddenAct             *string         `json:"hidden_act"`
	TieWordEmbeddings     *bool           `json:"tie_word_embeddings"`
	AttentionBias         bool            `json:"attention_bias"`
	MLPBias               bool            `json:"mlp_bias"`
	SlidingWindow         *int            `json:"sliding_window"`
	UseSlidingWindow      *bool           `json:"use_sliding_window"`
	BOSTokenID            tokenIDs        `json:"bos_token_id"`
	EOSTokenID            tokenIDs        `json:"eos_token_id"`
	QuantizationConfig    json.RawMessage `json:"quantization_config"`
	PartialRotaryFactor   *number         `json:"partial_rotary_factor"`
	NumExperts            *int            `json:"num_local_experts"`
	LogitSoftcap          *number         `json:"final_logit_softcapping"`
	LayerTypes            []string        `json:"layer_types"`
	MaxWindowLayers       *int            `json:"max_window_layers"`
	RopeInterleaved       bool            `json:"rope_interleaved"`
	DraftHeadTokens       []int32         `json:"draft_head_tokens"` // ours: the tokens that a draft's output layer knows
	DraftType             string          `json:"draft_type"`        // ours: "eagle" for a draft head
	DraftTarget           string          `json:"draft_target"`      // ours: the fingerprint of a draft head's target
	AttnLayers            *[]int          `json:"attn_layers"`       // Qwerky's
	AttentionLayers       *[]int          `json:"attention_layers"`
	NumLabels             *int            `json:"num_labels"`
	ID2Label              map[string]any  `json:"id2label"`

	fields map[string]json.RawMessage // the whole file
}

// hfRope is rope_scaling, in both spellings of its type, and the newer rope_parameters, which holds rope_theta too.
type hfRope struct {
	Type          string  `json:"type"`
	RopeType      string  `json:"rope_type"`
	RopeTheta     *number `json:"rope_theta"`
	Factor        float64 `json:"factor"`
	LowFreq       float64 `json:"low_freq_factor"`
	HighFreq      float64 `json:"high_freq_factor"`
	OriginalMaxPE int     `json:"original_max_position_embeddings"`
}

// tokenIDs is a token id, a list of them, or null.
type tokenIDs []int32

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	var one *int32
	if json.Unmarshal(b, &one) == nil {
		if one != nil {
			*t = tokenIDs{*one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int32)(t))
}

// families are the kinds of config.json that are read, qwerky those that mean one of the paper's hybrids of Llama (method §6.2).
var (
	families = []string{"llama", "mistral", "qwen2", "qwen3"}
	qwerky   = []string{"mambainllama_mamba", "qwerky_llama_mamba_hybrid"}
)

// parseConfig reads config.json and, if there is one, mamba_config.json.
func parseConfig(config, mamba []byte) (model.Config, *hfConfig, error) {
	return parseConfigFor(config, mamba, hint{})
}

// parseConfigFor is parseConfig for weights that say h themselves.
func parseConfigFor(config, mamba []byte, h hint) (model.Config, *hfConfig, error) {
	var f hfConfig
	config, err := readJSON(config)
	if err == nil {
		config, err = fromMambaSSM(config)
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(config, &f), json.Unmarshal(config, &f.fields))
	}
	if err != nil {
		return model.Config{}, nil, fmt.Errorf("config.json: %w", err)
	}
	var c model.Config
	if slices.Contains(backbones, f.ModelType) {
		c, err = f.backbone(config)
		mamba = nil
	} else {
		c, err = f.model()
	}
	if err != nil {
		return c, nil, fmt.Errorf("config.json: %w", err)
	}
	if c.NumLabels, err = f.labels(); err != nil {
		return c, nil, fmt.Errorf("config.json: %w", err)
	}
	c.HeadTokens = f.DraftHeadTokens
	switch f.DraftType {
	case "":
	case eagleType:
		c.Eagle = true
	default:
		return c, nil, fmt.Errorf("config.json: draft_type %q: want %q", f.DraftType, eagleType)
	}
	if mamba != nil {
		attn := f.AttnLayers
		if attn == nil {
			attn = f.AttentionLayers
		}
		if mamba, err = readJSON(mamba); err == nil {
			c.Mamba, err = parseMamba(mamba, &c, attn, h)
		}
		if err != nil {
			return c, nil, fmt.Errorf("mamba_config.json: %w", err)
		}
		if len(c.Mamba.AttnLayers) == c.NumHiddenLayers {
			c.Mamba = nil
		}
	}
	if err := c.Validate(); err != nil {
		return c, nil, fmt.Errorf("config.json: %w", err)
	}
	return c, &f, nil
}

// model turns the file's fields into a Config. Where a field may be absent, the default is the one that Transformers documents for it.
func (h *hfConfig) model() (model.Config, error) {
	if err := h.refuse(); err != nil {
		return model.Config{}, err
	}
	c := model.Config{
		HiddenSize: h.HiddenSize, IntermediateSize: h.IntermediateSize, NumHiddenLayers: h.NumHiddenLayers,
		NumAttentionHeads: h.NumAttentionHeads, NumKeyValueHeads: h.NumAttentionHeads, VocabSize: h.VocabSize,
		MaxPositionEmbeddings: h.MaxPositionEmbeddings, RMSNormEps: 1e-6, RopeTheta: 10000,
		QKVBias: h.AttentionBias, OBias: h.AttentionBias, MLPBias: h.MLPBias,
		TieWordEmbeddings: h.TieWordEmbeddings != nil && *h.TieWordEmbeddings,
	}
	h.family(&c)
	if h.NumKeyValueHeads != nil {
		c.NumKeyValueHeads = *h.NumKeyValueHeads
	}
	switch {
	case h.HeadDim != nil:
		c.HeadDim = *h.HeadDim
	case h.ModelType == "qwen3":
		c.HeadDim = 128
	case h.NumAttentionHeads <= 0 || h.HiddenSize%h.NumAttentionHeads != 0:
		return c, fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", h.HiddenSize, h.NumAttentionHeads)
	default:
		c.HeadDim = h.HiddenSize / h.NumAttentionHeads
	}
	if h.RMSNormEps != nil {
		c.RMSNormEps = float32(*h.RMSNormEps)
	}
	if h.RopeTheta != nil {
		c.RopeTheta = float64(*h.RopeTheta)
	}
	rope := h.RopeScaling
	if h.RopeParameters != nil {
		rope = h.RopeParameters
	}
	if err := rope.apply(&c); err != nil {
		return c, err
	}
	window, err := h.window(&c)
	c.SlidingWindow = window
	return c, err
}

// labels returns the number of scores that a classifier gives, or 0 for a language model. Only a reward model's one can be read.
func (h *hfConfig) labels() (int, error) {
	if !slices.ContainsFunc(h.Architectures, func(a string) bool { return strings.HasSuffix(a, rewardSuffix) }) {
		return 0, nil
	}
	n := 2 // Transformers' default
	if h.NumLabels != nil {
		n = *h.NumLabels
	} else if h.ID2Label != nil {
		n = len(h.ID2Label)
	}
	if n != 1 {
		return 0, fmt.Errorf("a classifier of %d labels: only a reward model, with one, can be read", n)
	}
	return n, nil
}

// family sets what the kinds of model differ in where their files say nothing.
func (h *hfConfig) family(c *model.Config) {
	absent := func(name string) bool { return h.fields[name] == nil } // null is not absent
	switch h.ModelType {
	case "mistral":
		if absent("num_key_value_heads") {
			c.NumKeyValueHeads = 8
		}
		if absent("sliding_window") {
			window := 4096
			h.SlidingWindow = &window
		}
	case "qwen2":
		c.QKVBias, c.OBias = true, false
	case "qwen3":
		c.QKNorm = true
	}
	if strings.HasPrefix(h.ModelType, "qwen") && absent("num_key_value_heads") {
		c.NumKeyValueHeads = 32
	}
}

// window returns the sliding window, or 0. Mistral's is in all layers; Qwen's has a switch and may spare the first layers.
func (h *hfConfig) window(c *model.Config) (int, error) {
	on := h.UseSlidingWindow == nil && h.ModelType == "mistral" || h.UseSlidingWindow != nil && *h.UseSlidingWindow
	if !on || h.SlidingWindow == nil || *h.SlidingWindow == 0 {
		return 0, nil
	}
	full, all := 0, c.NumHiddenLayers // layers without a window
	switch {
	case len(h.LayerTypes) > 0:
		all = len(h.LayerTypes)
		for _, kind := range h.LayerTypes {
			if kind == "full_attention" {
				full++
			}
		}
	case strings.HasPrefix(h.ModelType, "qwen"):
		full = 28
		if h.MaxWindowLayers != nil {
			full = min(max(*h.MaxWindowLayers, 0), all)
		}
	}
	switch {
	case full >= all:
		return 0, nil
	case full > 0:
		return 0, fmt.Errorf("sliding_window in %d of %d layers: a window in some layers only cannot be computed", all-full, all)
	}
	return *h.SlidingWindow, nil
}

// refuse names what this program does not compute, rather than compute it wrongly.
func (h *hfConfig) refuse() error {
	if !slices.Contains(families, h.ModelType) && !slices.Contains(qwerky, h.ModelType) {
		return fmt.Errorf("model_type %q: want %s", h.ModelType, strings.Join(slices.Concat(families, backbones), ", "))
	}
	if h.HiddenAct != nil && *h.HiddenAct != "silu" {
		return fmt.Errorf("hidden_act %q: want silu", *h.HiddenAct)
	}
	if len(h.QuantizationConfig) > 0 && string(h.QuantizationConfig) != "null" && !isOurs(h.QuantizationConfig) {
		return fmt.Errorf("quantization_config: quantised weights cannot be read, other than those of krait quantize")
	}
	if h.PartialRotaryFactor != nil && *h.PartialRotaryFactor != 1 {
		return fmt.Errorf("partial_rotary_factor %g: want 1", *h.PartialRotaryFactor)
	}
	if h.NumExperts != nil {
		return fmt.Errorf("num_local_experts: mixtures of experts cannot be read")
	}
	if h.LogitSoftcap != nil && *h.LogitSoftcap != 0 {
		return fmt.Errorf("final_logit_softcapping %g: want none", *h.LogitSoftcap)
	}
	if h.RopeInterleaved {
		return fmt.Errorf("rope_interleaved: only heads rotated by halves can be read")
	}
	return nil
}

func (r *hfRope) apply(c *model.Config) error {
	if r == nil {
		return nil
	}
	if r.RopeTheta != nil {
		c.RopeTheta = float64(*r.RopeTheta)
	}
	kind := r.RopeType
	if kind == "" {
		kind = r.Type
	}
	switch kind {
	case "", "default":
		return nil
	case "linear", "llama3":
	default:
		return fmt.Errorf("rope_scaling of type %q: want linear or llama3", kind)
	}
	c.RopeScaling = model.RopeScaling{Type: kind, Factor: r.Factor, LowFreqFactor: r.LowFreq, HighFreqFactor: r.HighFreq, OriginalMaxPositionEmbeddings: r.OriginalMaxPE}
	if !(r.Factor > 0) {
		return fmt.Errorf("rope_scaling: factor is %g, want a positive number", r.Factor)
	}
	if kind == "llama3" && !(r.LowFreq > 0 && r.HighFreq > r.LowFreq && r.OriginalMaxPE > 0) {
		return fmt.Errorf("rope_scaling of type llama3: low_freq_factor %g, high_freq_factor %g, original_max_position_embeddings %d do not fit", r.LowFreq, r.HighFreq, r.OriginalMaxPE)
	}
	return nil
}
