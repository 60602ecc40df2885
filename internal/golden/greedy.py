#!/usr/bin/env python3
"""Writes testdata/greedy.json: the greedy continuations that Transformers gives the tiny models of testdata which it reads as they are.

    VENV/bin/python greedy.py      # requirements.txt

Each prompt begins at another token of the model's expected.safetensors and is as long as a run of it may be; the 24 ids after it are chosen
one by one from whole forward passes. A choice so close that float32 in another order of sums could turn it ends the continuation.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers import logging as transformers_logging

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()
torch.set_num_threads(1)
HERE = Path(__file__).parent / "testdata"
NAMES = ["llama-gqa", "sharded", "llama-mqa-bf16", "llama-f16", "llama-headdim", "llama-bias", "llama-rope3-rope_type", "llama-rope3-type", "llama-linear",
         "llama-rope_parameters", "mistral-window", "qwen2", "qwen3", "qwen3-bias", "torch-bin", "torch-shards", "mamba", "mamba2-groups", "mamba2-tied"]
out = {}
for name in NAMES:
    m = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = load_file(HERE / name / "expected.safetensors")["tokens"].long().tolist()
    rows = []
    for start, length in ((0, 3), (7, 11), (20, 1)):
        seq = tokens[start:start + length]
        for _ in range(24):
            with torch.no_grad():
                logits = m(torch.tensor([seq])).logits[0, -1]
            top = logits.topk(2).values
            if top[0] - top[1] < 1e-3 * logits.abs().max():
                break
            seq.append(int(logits.argmax()))
        rows.append({"prompt": seq[:length], "ids": seq[length:]})
    print(name, [len(r["ids"]) for r in rows])
    out[name] = rows
(HERE / "greedy.json").write_text(json.dumps(out) + "\n")
