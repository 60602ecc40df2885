#!/usr/bin/env python3
"""Reads what Krait saved the way others do, and compares: reload.py SAVED TESTDATA

SAVED has folders of the same names as TESTDATA's, each the save of a load of it (fresh-NAME: without the config.json that it came with). Pure models are loaded by Transformers, strictly, and must give
the expected logits; hybrids must have exactly the tensors that the paper's code loads with strict=True, and its MambaConfig's
fields. checkpoint's TestOthersRead runs this where KRAIT_PYTHON names a Python with requirements.txt installed.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers import logging as transformers_logging

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
torch.set_num_threads(1)

MAMBA = {
    1: ["A_log", "D", "conv1d.bias", "conv1d.weight", "dt_proj.bias"] + [n + ".weight" for n in (
        "in_proj_x", "in_proj_z", "B_proj", "C_proj", "dt_proj_down", "dt_proj", "out_proj")],
    2: ["A_log", "D", "dt_bias", "conv1d.bias", "conv1d.weight", "in_proj.weight", "norm.weight", "out_proj.weight"],
}
# The fields of MambaConfig: its constructor takes these and no others.
FIELDS = {"d_model", "ssm_cfg", "rms_norm_eps", "vocab_size", "d_inner", "d_xb", "intermediate_size", "hidden_act", "n_layer", "attn_layers"}


def paper_keys(config, mamba):
    keys = {"model.embed_tokens.weight", "model.norm.weight"}
    if not config["tie_word_embeddings"]:
        keys.add("lm_head.weight")
    kind = 2 if "ngroups" in mamba["ssm_cfg"] else 1
    for i in range(config["num_hidden_layers"]):
        names = ["input_layernorm", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
        if i in mamba["attn_layers"]:
            names += [f"self_attn.{n}_proj" for n in "qkvo"]
        else:
            keys |= {f"model.layers.{i}.mamba.{n}" for n in MAMBA[kind]}
        keys |= {f"model.layers.{i}.{n}.weight" for n in names}
    return keys


def main(saved, testdata):
    for dir in sorted(saved.iterdir()):
        expected = load_file(testdata / dir.name.removeprefix("fresh-") / "expected.safetensors")
        config = json.loads((dir / "config.json").read_text())
        if (dir / "mamba_config.json").exists():
            mamba = json.loads((dir / "mamba_config.json").read_text())
            keys = set(load_file(dir / "model.safetensors"))
            assert keys == paper_keys(config, mamba), keys ^ paper_keys(config, mamba)
            assert set(mamba) == FIELDS, set(mamba) ^ FIELDS
            print(f"{dir.name}: {len(keys)} tensors, the paper's names")
            continue
        model, info = AutoModelForCausalLM.from_pretrained(
            dir, dtype=torch.float64, attn_implementation="eager", output_loading_info=True)
        assert not any(info.values()), info
        with torch.no_grad():
            logits = [model.eval()(run[None], use_cache=False).logits[0].double()
                      for run in expected["tokens"].split(expected["run_lengths"].tolist())]
        want = expected["logits"]
        error = ((torch.cat(logits) - want).abs().max() / want.abs().max()).item()
        print(f"{dir.name}: Transformers' logits differ by {error:.1e} of the largest")
        assert error < 1e-5, dir.name


main(Path(sys.argv[1]), Path(sys.argv[2]))
