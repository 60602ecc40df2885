package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"krait/model"
)

// mambaJSON is mamba_config.json in the paper's form, and the words of Qwerky's files for the same things (method §6.2).
type mambaJSON struct {
	DModel           int     `json:"d_model"`
	SSMCfg           *ssmCfg `json:"ssm_cfg"`
	RMSNormEps       *number `json:"rms_norm_eps"`
	VocabSize        *int    `json:"vocab_size"`
	DInner           *int    `json:"d_inner"`
	DXB              *int    `json:"d_xb"`
	IntermediateSize *int    `json:"intermediate_size"`
	HiddenAct        string  `json:"hidden_act"`
	NLayer           *int    `json:"n_layer"`
	AttnLayers       *[]int  `json:"attn_layers"`

	SSMConfig             *ssmCfg `json:"ssm_config,omitempty"`
	MambaVersion          string  `json:"mamba_version,omitempty"`
	NGroups               int     `json:"n_groups,omitempty"`
	NumHeads              int     `json:"num_heads,omitempty"`
	HeadDim               int     `json:"head_dim,omitempty"`
	SSMStateSize          int     `json:"ssm_state_size,omitempty"`
	DConv                 int     `json:"d_conv,omitempty"`
	MambaIntermediateSize *int    `json:"mamba_intermediate_size,omitempty"`
}

// ssmCfg holds the layer's own parameters. The fields from activation to rmsnorm are extensions with the names that mamba_ssm and Phi-Mamba
// use; they are written only where they differ from the paper's layer.
type ssmCfg struct {
	Expand      *int   `json:"expand,omitempty"`
	NGroups     int    `json:"ngroups,omitempty"`
	DState      int    `json:"d_state,omitempty"`
	DConv       int    `json:"d_conv,omitempty"`
	DTRank      dtRank `json:"dt_rank,omitempty"`
	RepeatFirst *bool  `json:"repeat_kv_before_conv,omitempty"`
	Activation  string `json:"activation,omitempty"`
	ZBias       bool   `json:"z_bias,omitempty"`
	RMSNorm     *bool  `json:"rmsnorm,omitempty"`
}

// dtRank is a number or "auto", which is 0.
type dtRank int

// UnmarshalJSON implements json.Unmarshaler.
func (r *dtRank) UnmarshalJSON(b []byte) error {
	if string(b) == `"auto"` {
		return nil
	}
	return json.Unmarshal(b, (*int)(r))
}

// mamba1States is d_state where a Mamba1 layer's configuration has none.
const mamba1States = 16

// parseMamba reads mamba_config.json for a model of configuration c. attn is config.json's own list of attention layers, if it has one.
func parseMamba(data []byte, c *model.Config, attn *[]int, h hint) (*model.MambaConfig, error) {
	var j mambaJSON
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields() // every field of this file is of consequence
	if err := dec.Decode(&j); err != nil {
		return nil, err
	}
	if j.AttnLayers == nil {
		j.AttnLayers = attn
	}
	if j.SSMCfg == nil {
		j.SSMCfg = j.SSMConfig
	}
	if err := j.check(c); err != nil {
		return nil, err
	}
	s := j.SSMCfg
	m := &model.MambaConfig{
		DXB: *j.DXB, DState: or(s.DState, j.SSMStateSize), DConv: or(s.DConv, j.DConv, 4), IntermediateSize: *j.IntermediateSize,
		RMSNormEps: c.RMSNormEps, AttnLayers: *j.AttnLayers,
		Identity: s.Activation == "identity", ZBias: s.ZBias, NoNorm: s.RMSNorm != nil && !*s.RMSNorm,
	}
	if j.RMSNormEps != nil {
		m.RMSNormEps = float32(*j.RMSNormEps)
	}
	switch {
	case j.DInner != nil:
		m.DInner = *j.DInner
	case j.MambaIntermediateSize != nil:
		m.DInner = *j.MambaIntermediateSize
	case s.Expand != nil:
		m.DInner = *s.Expand * j.DModel
	default:
		m.DInner = 2 * j.DModel // the layers' own default
	}
	return m, j.layer(m, c, h)
}

// layer decides the kind of layer and what depends on it.
func (j *mambaJSON) layer(m *model.MambaConfig, c *model.Config, h hint) error {
	s := j.SSMCfg
	one := s.NGroups == 0 && j.MambaVersion != "Mamba2" || j.MambaVersion == "Mamba1"
	if h.mamba1 != "" || h.mamba2 != "" {
		one = h.mamba1 != ""
	}
	if h.mamba1 != "" && h.mamba2 != "" {
		return fmt.Errorf("the weights have Mamba1 layers (%s) and Mamba2 layers (%s): a model of both cannot be read", h.mamba1, h.mamba2)
	}
	if one {
		m.DState = or(m.DState, mamba1States)
		m.DTRank = or(h.dtRank, int(s.DTRank), (c.HiddenSize+15)/16)
		m.RepeatFirst = s.RepeatFirst == nil || *s.RepeatFirst
		if m.DXB != m.DInner && (h.convChannels == m.DXB || h.convChannels == m.DInner) {
			m.RepeatFirst = h.convChannels == m.DInner
		}
		if m.DState > 0 {
			m.NGroups = m.DInner / m.DState
		}
		return nil
	}
	m.NGroups = or(s.NGroups, h.heads, j.NumHeads)
	if m.NGroups <= 0 {
		return fmt.Errorf("ssm_cfg has no ngroups, and the weights have no Mamba layer that would tell")
	}
	m.DState = or(m.DState, m.DInner/m.NGroups)
	m.RepeatFirst = s.RepeatFirst != nil && *s.RepeatFirst
	if narrow, wide := m.DInner+2*m.DXB, 3*m.DInner; narrow != wide && (h.convChannels == narrow || h.convChannels == wide) {
		m.RepeatFirst = h.convChannels == wide
	}
	return nil
}

// or returns the first number that is not 0.
func or(list ...int) int {
	for _, v := range list {
		if v != 0 {
			return v
		}
	}
	return 0
}

// check refuses what is missing or contradicts config.json.
func (j *mambaJSON) check(c *model.Config) error {
	for _, f := range []struct {
		name    string
		missing bool
	}{{"ssm_cfg", j.SSMCfg == nil}, {"d_xb", j.DXB == nil}, {"intermediate_size", j.IntermediateSize == nil}, {"n_layer", j.NLayer == nil}, {"attn_layers", j.AttnLayers == nil}} {
		if f.missing {
			return fmt.Errorf("%s is missing", f.name)
		}
	}
	switch {
	case *j.NLayer != c.NumHiddenLayers:
		return fmt.Errorf("n_layer is %d, config.json has %d layers", *j.NLayer, c.NumHiddenLayers)
	case j.DModel != c.HiddenSize:
		return fmt.Errorf("d_model is %d, config.json has hidden_size %d", j.DModel, c.HiddenSize)
	case j.HiddenAct != "" && j.HiddenAct != "silu":
		return fmt.Errorf("hidden_act %q: want silu", j.HiddenAct)
	case !slices.Contains([]string{"", "silu", "swish", "identity"}, j.SSMCfg.Activation):
		return fmt.Errorf("ssm_cfg.activation %q: want silu or identity", j.SSMCfg.Activation)
	case !slices.Contains([]string{"", "Mamba1", "Mamba2"}, j.MambaVersion):
		return fmt.Errorf("mamba_version %q: want Mamba1 or Mamba2", j.MambaVersion)
	case j.DInner != nil && j.MambaIntermediateSize != nil && *j.MambaIntermediateSize != *j.DInner && *j.MambaIntermediateSize != *j.IntermediateSize:
		return fmt.Errorf("mamba_intermediate_size is %d, neither d_inner %d nor intermediate_size %d", *j.MambaIntermediateSize, *j.DInner, *j.IntermediateSize)
	}
	return nil
}

// formatMamba writes mamba_config.json.
func formatMamba(c *model.Config) ([]byte, error) {
	m := c.Mamba
	expand := 1
	layers := append([]int{}, m.AttnLayers...)
	s := &ssmCfg{Expand: &expand, NGroups: m.NGroups, DState: m.DState, ZBias: m.ZBias}
	eps := number(shortFloat(m.RMSNormEps))
	j := mambaJSON{
		DModel: c.HiddenSize, SSMCfg: s, RMSNormEps: &eps, DInner: &m.DInner, DXB: &m.DXB, IntermediateSize: &m.IntermediateSize,
		HiddenAct: "silu", NLayer: &c.NumHiddenLayers, AttnLayers: &layers,
	}
	if m.DConv != 4 {
		s.DConv = m.DConv
	}
	if m.Identity {
		s.Activation = "identity"
	}
	if m.NoNorm {
		s.RMSNorm = new(bool)
	}
	one := m.DTRank > 0
	if m.RepeatFirst != one {
		s.RepeatFirst = &m.RepeatFirst
	}
	if one { // as the paper's files of Mamba1 are: what is the layer's default is not written
		s.NGroups = 0
		if m.DState == mamba1States {
			s.DState = 0
		}
		if m.DTRank != (c.HiddenSize+15)/16 {
			s.DTRank = dtRank(m.DTRank)
		}
	}
	return writeJSON(j)
}
