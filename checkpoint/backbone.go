package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"krait/model"
)

// backbones are the kinds of config.json for pure Mamba models (method §6.3).
var backbones = []string{"mamba", "mamba2"}

// backboneConfig is the part of a pure Mamba model's config.json that matters here, in Transformers' words.
type backboneConfig struct {
	StateSize         *int     `json:"state_size"`
	Expand            *number  `json:"expand"`
	ConvKernel        *int     `json:"conv_kernel"`
	NGroups           *int     `json:"n_groups"`
	NumHeads          *int     `json:"num_heads"`
	HeadDim           *int     `json:"head_dim"`
	IntermediateSize  *int     `json:"intermediate_size"`
	TimeStepRank      dtRank   `json:"time_step_rank"`
	TimeStepLimit     []number `json:"time_step_limit"`
	LayerNormEpsilon  *number  `json:"layer_norm_epsilon"`
	UseBias           bool     `json:"use_bias"`
	UseConvBias       *bool    `json:"use_conv_bias"`
	TieWordEmbeddings *bool    `json:"tie_word_embeddings"`
}

// backbone turns the file's fields into a Config. What is absent has Transformers' default.
func (h *hfConfig) backbone(config []byte) (model.Config, error) {
	var b backboneConfig
	if err := json.Unmarshal(config, &b); err != nil {
		return model.Config{}, err
	}
	two := h.ModelType == "mamba2"
	switch {
	case h.HiddenAct != nil && *h.HiddenAct != "silu":
		return model.Config{}, fmt.Errorf("hidden_act %q: want silu", *h.HiddenAct)
	case b.UseConvBias != nil && !*b.UseConvBias:
		return model.Config{}, fmt.Errorf("use_conv_bias false: a convolution without bias cannot be read")
	case len(b.TimeStepLimit) > 0 && (len(b.TimeStepLimit) != 2 || b.TimeStepLimit[0] > 0 || !math.IsInf(float64(b.TimeStepLimit[1]), 1)):
		return model.Config{}, fmt.Errorf("time_step_limit %v: limits of the step sizes cannot be computed", b.TimeStepLimit)
	}
	expand := 2.0
	if b.Expand != nil {
		expand = float64(*b.Expand)
	}
	if !(expand > 0 && expand <= 1<<10) {
		return model.Config{}, fmt.Errorf("expand is %g, want a positive number", expand)
	}
	inner := int(expand * float64(h.HiddenSize))
	m := &model.MambaConfig{Backbone: true, DInner: inner, DConv: pick(b.ConvKernel, 4), NGroups: 1, Groups: 1, ProjBias: b.UseBias, RMSNormEps: 1e-5, AttnLayers: []int{}}
	if b.LayerNormEpsilon != nil {
		m.RMSNormEps = float32(*b.LayerNormEpsilon)
	}
	tied := !two
	if b.TieWordEmbeddings != nil {
		tied = *b.TieWordEmbeddings
	}
	if two {
		m.DState, m.NGroups, m.Groups = pick(b.StateSize, 128), pick(b.NumHeads, 128), pick(b.NGroups, 8)
		if width := pick(b.HeadDim, 64); m.NGroups > 1<<24 || width > 1<<24 || m.NGroups*width != inner {
			return model.Config{}, fmt.Errorf("num_heads %d of head_dim %d, want together expand · hidden_size = %d", m.NGroups, width, inner)
		}
	} else {
		m.DState, m.DInner = pick(b.StateSize, 16), pick(b.IntermediateSize, inner)
		m.DTRank = or(int(b.TimeStepRank), (h.HiddenSize+15)/16)
	}
	return model.Config{HiddenSize: h.HiddenSize, NumHiddenLayers: h.NumHiddenLayers, VocabSize: h.VocabSize, RMSNormEps: m.RMSNormEps, TieWordEmbeddings: tied, Mamba: m}, nil
}

// pick returns *v, or what absence means.
func pick(v *int, absent int) int {
	if v == nil {
		return absent
	}
	return *v
}

// mambaSSM is the config.json of Mamba's authors' own releases.
type mambaSSM struct {
	DModel        int    `json:"d_model"`
	NLayer        int    `json:"n_layer"`
	VocabSize     int    `json:"vocab_size"`
	DIntermediate int    `json:"d_intermediate"`
	AttnLayers    []int  `json:"attn_layer_idx"`
	RMSNorm       *bool  `json:"rms_norm"`
	PadVocab      *int   `json:"pad_vocab_size_multiple"`
	Tied          *bool  `json:"tie_embeddings"`
	SSM           ssmNew `json:"ssm_cfg"`
}

type ssmNew struct {
	Layer   string `json:"layer"`
	DState  *int   `json:"d_state"`
	DConv   *int   `json:"d_conv"`
	Expand  *int   `json:"expand"`
	HeadDim *int   `json:"headdim"`
	NGroups *int   `json:"ngroups"`
	DTRank  dtRank `json:"dt_rank"`
}

// translate returns the authors' config.json in Transformers' words.
func (s *mambaSSM) translate() (map[string]any, error) {
	pad := pick(s.PadVocab, 8)
	switch {
	case s.DIntermediate != 0 || len(s.AttnLayers) > 0:
		return nil, fmt.Errorf("d_intermediate %d, attn_layer_idx %v: only models of Mamba layers alone can be read in this form", s.DIntermediate, s.AttnLayers)
	case s.RMSNorm != nil && !*s.RMSNorm:
		return nil, fmt.Errorf("rms_norm false: layer norms cannot be read")
	case !slices.Contains([]string{"", "Mamba1", "Mamba2"}, s.SSM.Layer):
		return nil, fmt.Errorf("ssm_cfg.layer %q: want Mamba1 or Mamba2", s.SSM.Layer)
	case pad <= 0 || s.VocabSize < 0 || s.VocabSize > 1<<24 || pad > 1<<24:
		return nil, fmt.Errorf("vocab_size %d, pad_vocab_size_multiple %d: want positive numbers", s.VocabSize, pad)
	}
	out := map[string]any{
		"hidden_size": s.DModel, "num_hidden_layers": s.NLayer, "vocab_size": (s.VocabSize + pad - 1) / pad * pad,
		"expand": pick(s.SSM.Expand, 2), "conv_kernel": pick(s.SSM.DConv, 4), "tie_word_embeddings": s.Tied == nil || *s.Tied,
		"layer_norm_epsilon": 1e-5, "hidden_act": "silu", "use_bias": false, "use_conv_bias": true,
	}
	if s.SSM.Layer != "Mamba2" {
		out["model_type"], out["architectures"] = "mamba", []string{"MambaForCausalLM"}
		out["state_size"] = pick(s.SSM.DState, 16)
		if s.SSM.DTRank > 0 {
			out["time_step_rank"] = int(s.SSM.DTRank)
		}
		return out, nil
	}
	out["model_type"], out["architectures"] = "mamba2", []string{"Mamba2ForCausalLM"}
	width := pick(s.SSM.HeadDim, 64)
	if width <= 0 {
		return nil, fmt.Errorf("ssm_cfg.headdim is %d, want a positive number", width)
	}
	out["state_size"], out["head_dim"], out["n_groups"] = pick(s.SSM.DState, 128), width, pick(s.SSM.NGroups, 1)
	out["num_heads"] = pick(s.SSM.Expand, 2) * s.DModel / width
	return out, nil
}

// fromMambaSSM replaces the authors' form of config.json by Transformers'; every other file is as it was.
func fromMambaSSM(config []byte) ([]byte, error) {
	var known struct {
		ModelType string          `json:"model_type"`
		DModel    json.RawMessage `json:"d_model"`
		SSM       json.RawMessage `json:"ssm_cfg"`
	}
	if err := json.Unmarshal(config, &known); err != nil || known.ModelType != "" || known.DModel == nil || known.SSM == nil {
		return config, err
	}
	var s mambaSSM
	if err := json.Unmarshal(config, &s); err != nil {
		return nil, err
	}
	out, err := s.translate()
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// formatBackbone returns the fields of config.json that a pure Mamba model decides.
func formatBackbone(c *model.Config) map[string]any {
	m := c.Mamba
	out := map[string]any{
		"model_type": "mamba2", "architectures": []string{"Mamba2ForCausalLM"}, "hidden_size": c.HiddenSize, "num_hidden_layers": c.NumHiddenLayers,
		"vocab_size": c.VocabSize, "tie_word_embeddings": c.TieWordEmbeddings, "state_size": m.DState, "conv_kernel": m.DConv, "use_bias": m.ProjBias,
		"use_conv_bias": true, "hidden_act": "silu", "layer_norm_epsilon": shortFloat(m.RMSNormEps), "expand": float64(m.DInner) / float64(c.HiddenSize),
	}
	if m.DTRank > 0 {
		out["model_type"], out["architectures"] = "mamba", []string{"MambaForCausalLM"}
		out["intermediate_size"], out["time_step_rank"] = m.DInner, m.DTRank
	} else {
		out["num_heads"], out["head_dim"], out["n_groups"] = m.NGroups, m.DInner/m.NGroups, m.Groups
	}
	return out
}
