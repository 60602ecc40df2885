package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

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
	RMSNormEps            *float64        `json:"rms_norm_eps"`
	RopeTheta             *float64        `json:"rope_theta"`
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
	PartialRotaryFactor   *float64        `json:"partial_rotary_factor"`
	NumExperts            *int            `json:"num_local_experts"`
	LogitSoftcap          *float64        `json:"final_logit_softcapping"`
	LayerTypes            []string        `json:"layer_types"`
}

// hfRope is rope_scaling, in both spellings of its type, and the newer rope_parameters, which holds rope_theta too.
type hfRope struct {
	Type          string   `json:"type"`
	RopeType      string   `json:"rope_type"`
	RopeTheta     *float64 `json:"rope_theta"`
	Factor        float64  `json:"factor"`
	LowFreq       float64  `json:"low_freq_factor"`
	HighFreq      float64  `json:"high_freq_factor"`
	OriginalMaxPE int      `json:"original_max_position_embeddings"`
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

// parseConfig reads config.json and, if there is one, mamba_config.json.
func parseConfig(config, mamba []byte) (model.Config, *hfConfig, error) {
	var h hfConfig
	if err := json.Unmarshal(config, &h); err != nil {
		return model.Config{}, nil, fmt.Errorf("config.json: %w", err)
	}
	c, err := h.model()
	if err != nil {
		return c, nil, fmt.Errorf("config.json: %w", err)
	}
	if mamba != nil {
		if c.Mamba, err = parseMamba(mamba, &c); err != nil {
			return c, nil, fmt.Errorf("mamba_config.json: %w", err)
		}
		if len(c.Mamba.AttnLayers) == c.NumHiddenLayers {
			c.Mamba = nil
		}
	}
	if err := c.Validate(); err != nil {
		return c, nil, fmt.Errorf("config.json: %w", err)
	}
	return c, &h, nil
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
	if h.ModelType == "qwen2" {
		c.QKVBias, c.OBias = true, false
	}
	if h.NumKeyValueHeads != nil {
		c.NumKeyValueHeads = *h.NumKeyValueHeads
	}
	switch {
	case h.HeadDim != nil:
		c.HeadDim = *h.HeadDim
	case h.NumAttentionHeads <= 0 || h.HiddenSize%h.NumAttentionHeads != 0:
		return c, fmt.Errorf("hidden_size %d is not a multiple of num_attention_heads %d", h.HiddenSize, h.NumAttentionHeads)
	default:
		c.HeadDim = h.HiddenSize / h.NumAttentionHeads
	}
	if h.RMSNormEps != nil {
		c.RMSNormEps = float32(*h.RMSNormEps)
	}
	if h.RopeTheta != nil {
		c.RopeTheta = *h.RopeTheta
	}
	rope := h.RopeScaling
	if h.RopeParameters != nil {
		rope = h.RopeParameters
	}
	if err := rope.apply(&c); err != nil {
		return c, err
	}
	window := h.SlidingWindow != nil && *h.SlidingWindow > 0
	if window && (h.UseSlidingWindow == nil && h.ModelType == "mistral" || h.UseSlidingWindow != nil && *h.UseSlidingWindow) {
		c.SlidingWindow = *h.SlidingWindow
	}
	return c, nil
}

// refuse names what this program does not compute, rather than compute it wrongly.
func (h *hfConfig) refuse() error {
	if !slices.Contains([]string{"llama", "mistral", "qwen2"}, h.ModelType) {
		return fmt.Errorf("model_type %q: want llama, mistral or qwen2", h.ModelType)
	}
	if h.HiddenAct != nil && *h.HiddenAct != "silu" {
		return fmt.Errorf("hidden_act %q: want silu", *h.HiddenAct)
	}
	if len(h.QuantizationConfig) > 0 && string(h.QuantizationConfig) != "null" {
		return fmt.Errorf("quantization_config: quantised weights cannot be read")
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
	if h.UseSlidingWindow != nil && *h.UseSlidingWindow && slices.Contains(h.LayerTypes, "full_attention") {
		return fmt.Errorf("layer_types: a window in some layers only cannot be computed")
	}
	return nil
}

func (r *hfRope) apply(c *model.Config) error {
	if r == nil {
		return nil
	}
	if r.RopeTheta != nil {
		c.RopeTheta = *r.RopeTheta
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

// mambaJSON is mamba_config.json in the paper's form. The fields after ngroups in ssm_cfg are extensions with the names that mamba_ssm and
// Phi-Mamba use; they are written only where they differ from the paper's layer.
type mambaJSON struct {
	DModel           int     `json:"d_model"`
	SSMCfg           ssmCfg  `json:"ssm_cfg"`
	RMSNormEps       float64 `json:"rms_norm_eps"`
	VocabSize        *int    `json:"vocab_size"`
	DInner           *int    `json:"d_inner"`
	DXB              *int    `json:"d_xb"`
	IntermediateSize *int    `json:"intermediate_size"`
	HiddenAct        string  `json:"hidden_act"`
	NLayer           *int    `json:"n_layer"`
	AttnLayers       *[]int  `json:"attn_layers"`
}

type ssmCfg struct {
	Expand     *int   `json:"expand,omitempty"`
	NGroups    int    `json:"ngroups"`
	DState     int    `json:"d_state"`
	DConv      int    `json:"d_conv,omitempty"`
	Activation string `json:"activation,omitempty"`
	ZBias      bool   `json:"z_bias,omitempty"`
	RMSNorm    *bool  `json:"rmsnorm,omitempty"`
}

func parseMamba(data []byte, c *model.Config) (*model.MambaConfig, error) {
	var j mambaJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields() // every field of this file is of consequence
	if err := dec.Decode(&j); err != nil {
		return nil, err
	}
	for name, missing := range map[string]bool{"d_xb": j.DXB == nil, "intermediate_size": j.IntermediateSize == nil, "n_layer": j.NLayer == nil, "attn_layers": j.AttnLayers == nil} {
		if missing {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	switch {
	case j.SSMCfg.NGroups == 0:
		return nil, fmt.Errorf("ssm_cfg has no ngroups: Mamba1 layers cannot be read")
	case *j.NLayer != c.NumHiddenLayers:
		return nil, fmt.Errorf("n_layer is %d, config.json has %d layers", *j.NLayer, c.NumHiddenLayers)
	case j.DModel != c.HiddenSize:
		return nil, fmt.Errorf("d_model is %d, config.json has hidden_size %d", j.DModel, c.HiddenSize)
	case j.HiddenAct != "" && j.HiddenAct != "silu":
		return nil, fmt.Errorf("hidden_act %q: want silu", j.HiddenAct)
	case !slices.Contains([]string{"", "silu", "swish", "identity"}, j.SSMCfg.Activation):
		return nil, fmt.Errorf("ssm_cfg.activation %q: want silu or identity", j.SSMCfg.Activation)
	}
	m := &model.MambaConfig{
		DXB: *j.DXB, DState: j.SSMCfg.DState, NGroups: j.SSMCfg.NGroups, DConv: 4, IntermediateSize: *j.IntermediateSize,
		RMSNormEps: float32(j.RMSNormEps), AttnLayers: *j.AttnLayers,
		Identity: j.SSMCfg.Activation == "identity", ZBias: j.SSMCfg.ZBias, NoNorm: j.SSMCfg.RMSNorm != nil && !*j.SSMCfg.RMSNorm,
	}
	if j.SSMCfg.DConv != 0 {
		m.DConv = j.SSMCfg.DConv
	}
	switch {
	case j.DInner != nil:
		m.DInner = *j.DInner
	case j.SSMCfg.Expand != nil:
		m.DInner = *j.SSMCfg.Expand * j.DModel
	default:
		m.DInner = 2 * j.DModel // the layers' own default
	}
	return m, nil
}

// formatMamba writes mamba_config.json.
func formatMamba(c *model.Config) ([]byte, error) {
	m := c.Mamba
	expand := 1
	layers := append([]int{}, m.AttnLayers...)
	j := mambaJSON{
		DModel: c.HiddenSize, SSMCfg: ssmCfg{Expand: &expand, NGroups: m.NGroups, DState: m.DState, ZBias: m.ZBias},
		RMSNormEps: shortFloat(m.RMSNormEps), DInner: &m.DInner, DXB: &m.DXB, IntermediateSize: &m.IntermediateSize,
		HiddenAct: "silu", NLayer: &c.NumHiddenLayers, AttnLayers: &layers,
	}
	if m.DConv != 4 {
		j.SSMCfg.DConv = m.DConv
	}
	if m.Identity {
		j.SSMCfg.Activation = "identity"
	}
	if m.NoNorm {
		j.SSMCfg.RMSNorm = new(bool)
	}
	return json.MarshalIndent(j, "", " ")
}
