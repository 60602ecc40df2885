package checkpoint

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"krait/safetensors"
)

// formatConfig writes config.json: the fields of the checkpoint this one came from, with those set that the model decides. An ordinary
// Llama configuration, as the paper's releases have it.
func (c *Checkpoint) formatConfig() ([]byte, error) {
	mc := &c.Model.Config
	out := map[string]any{}
	if c.config == nil {
		out = c.freshConfig()
	}
	for k, v := range c.config {
		out[k] = v
	}
	if slices.Contains(qwerky, c.modelType()) { // written in the paper's words
		out["model_type"], out["architectures"] = "llama", []string{"LlamaForCausalLM"}
		delete(out, "attn_layers")
		delete(out, "attention_layers")
		delete(out, "auto_map")
	}
	c.draftFields(out)
	if mc.Mamba != nil && mc.Mamba.Backbone {
		maps.Copy(out, formatBackbone(mc))
		return writeJSON(c.withDType(out))
	}
	for k, v := range map[string]any{
		"hidden_size": mc.HiddenSize, "intermediate_size": mc.IntermediateSize, "num_hidden_layers": mc.NumHiddenLayers,
		"num_attention_heads": mc.NumAttentionHeads, "num_key_value_heads": mc.NumKeyValueHeads, "head_dim": mc.HeadDim,
		"vocab_size": mc.VocabSize, "rms_norm_eps": shortFloat(mc.RMSNormEps), "tie_word_embeddings": mc.TieWordEmbeddings,
	} {
		out[k] = v
	}
	if mc.NumLabels > 0 {
		rewardFields(out)
	}
	if out["rope_parameters"] == nil {
		out["rope_theta"] = mc.RopeTheta
	}
	return writeJSON(c.withDType(out))
}

// rewardSuffix ends the architecture of a model that scores text, writerSuffix that of one that writes it.
const rewardSuffix, writerSuffix = "ForSequenceClassification", "ForCausalLM"

// rewardFields says as Transformers does that a model has one score instead of logits.
func rewardFields(out map[string]any) {
	kind, _ := json.Marshal(out["architectures"]) // strings, in either form
	var names []string
	_ = json.Unmarshal(kind, &names) // none: Llama's
	if len(names) == 0 {
		names = []string{"Llama" + writerSuffix}
	}
	for i, name := range names {
		names[i] = strings.TrimSuffix(strings.TrimSuffix(name, writerSuffix), rewardSuffix) + rewardSuffix
	}
	out["architectures"] = names
	out["id2label"], out["label2id"] = map[string]string{"0": "LABEL_0"}, map[string]int{"LABEL_0": 0}
	delete(out, "num_labels")
}

// dtype returns the type of the saved weights.
func (c *Checkpoint) dtype() safetensors.DType {
	if c.DType == "" {
		return safetensors.F32
	}
	return c.DType
}

// withDType says in the file's own word what the weights are.
func (c *Checkpoint) withDType(out map[string]any) map[string]any {
	dtype := "torch_dtype"
	if out["dtype"] != nil {
		dtype = "dtype"
	}
	out[dtype] = map[safetensors.DType]string{safetensors.F32: "float32", safetensors.BF16: "bfloat16", safetensors.F16: "float16"}[c.dtype()]
	return out
}

// modelType returns model_type of the configuration that the checkpoint came with.
func (c *Checkpoint) modelType() string {
	var s string
	_ = json.Unmarshal(c.config["model_type"], &s) // absent or no string: none of the known
	return s
}

// freshConfig is the configuration of a model that came with none: the kind of model that has what this one has, and all that formatConfig
// does not set.
func (c *Checkpoint) freshConfig() map[string]any {
	mc := &c.Model.Config
	out := map[string]any{"model_type": "llama", "architectures": []string{"LlamaForCausalLM"}, "hidden_act": "silu"}
	switch {
	case mc.QKNorm:
		out["model_type"], out["architectures"] = "qwen3", []string{"Qwen3ForCausalLM"}
		out["attention_bias"] = mc.QKVBias
	case mc.QKVBias && !mc.OBias:
		out["model_type"], out["architectures"] = "qwen2", []string{"Qwen2ForCausalLM"}
	case mc.SlidingWindow > 0:
		out["model_type"], out["architectures"] = "mistral", []string{"MistralForCausalLM"}
	default:
		out["attention_bias"], out["mlp_bias"] = mc.QKVBias, mc.MLPBias
	}
	if mc.SlidingWindow > 0 {
		out["sliding_window"] = mc.SlidingWindow
		if mc.QKNorm || mc.QKVBias {
			out["use_sliding_window"], out["max_window_layers"] = true, 0
		}
	} else if out["model_type"] != "llama" {
		out["sliding_window"] = nil
	}
	if mc.MaxPositionEmbeddings > 0 {
		out["max_position_embeddings"] = mc.MaxPositionEmbeddings
	}
	if s := mc.RopeScaling; s.Type != "" {
		scaling := map[string]any{"rope_type": s.Type, "factor": s.Factor}
		if s.Type == "llama3" {
			scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["original_max_position_embeddings"] = s.LowFreqFactor, s.HighFreqFactor, s.OriginalMaxPositionEmbeddings
		}
		out["rope_scaling"] = scaling
	}
	for key, ids := range map[string][]int32{"bos_token_id": c.BOS, "eos_token_id": c.EOS} {
		switch len(ids) {
		case 0:
		case 1:
			out[key] = ids[0]
		default:
			out[key] = ids
		}
	}
	return out
}
