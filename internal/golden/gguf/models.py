"""Writes testdata/NAME.gguf for some of the tiny models in ../testdata, with the gguf package and the rules of llama.cpp's converter
(convert_hf_to_gguf.py): names, the order of the rows of q and k, divisors of the rotary frequencies. Their logits are those of
../testdata/NAME/expected.safetensors.

    VENV/bin/python models.py
"""
import json
import math
import os

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, MODEL_ARCH, RopeScalingType, get_tensor_name_map
from safetensors import safe_open

here = os.path.dirname(os.path.abspath(__file__))


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def divisors(c, s, head):
    out = []
    for freq in 1.0 / (c["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float32) / head)):
        wavelen = 2 * math.pi / freq
        low, high, old = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
        if wavelen < old / high:
            out.append(1)
        elif wavelen > old / low:
            out.append(s["factor"])
        else:
            smooth = (old / wavelen - low) / (high - low)
            out.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(out, dtype=np.float32)


for name in ["llama-gqa", "llama-bias", "llama-headdim", "llama-linear", "llama-rope3-type", "llama-f16", "llama-mqa-bf16", "qwen2", "qwen3"]:
    folder = os.path.join(here, "..", "testdata", name)
    c = json.load(open(os.path.join(folder, "config.json")))
    arch = c["model_type"]
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    head = c.get("head_dim") or c["hidden_size"] // heads
    w = GGUFWriter(os.path.join(here, "testdata", name + ".gguf"), arch)
    w.add_context_length(c["max_position_embeddings"]), w.add_embedding_length(c["hidden_size"]), w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"]), w.add_head_count(heads), w.add_head_count_kv(kv)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"]), w.add_rope_freq_base(c["rope_theta"]), w.add_vocab_size(c["vocab_size"])
    w.add_rope_dimension_count(head)
    if head * heads != c["hidden_size"]:
        w.add_key_length(head), w.add_value_length(head)
    if c.get("use_sliding_window"):
        w.add_sliding_window(c["sliding_window"])
    w.add_bos_token_id(1), w.add_eos_token_id(2)
    scaling = c.get("rope_scaling") or {}
    if scaling.get("type") == "linear":
        w.add_rope_scaling_type(RopeScalingType.LINEAR), w.add_rope_scaling_factor(scaling["factor"])
    elif scaling:
        w.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        w.add_tensor("rope_freqs.weight", divisors(c, scaling, head))
    names = get_tensor_name_map({"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}[arch], c["num_hidden_layers"])
    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
        for k in f.keys():
            t = f.get_tensor(k)
            kind = {"torch.bfloat16": GGMLQuantizationType.BF16, "torch.float16": GGMLQuantizationType.F16}.get(str(t.dtype))
            x = t.float().numpy()
            if arch == "llama" and ".q_proj." in k:
                x = permute(x, heads)
            if arch == "llama" and ".k_proj." in k:
                x = permute(x, kv)
            to = names.get_name(k, try_suffixes=(".weight", ".bias"))
            if kind == GGMLQuantizationType.BF16 and x.ndim > 1:
                w.add_tensor(to, (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(x.shape[0], -1), raw_dtype=kind)
            elif kind == GGMLQuantizationType.F16 and x.ndim > 1:
                w.add_tensor(to, x.astype(np.float16))
            else:
                w.add_tensor(to, x)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    print(name)
