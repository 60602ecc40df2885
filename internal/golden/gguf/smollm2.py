"""Writes testdata/smollm2.safetensors: what Transformers makes of SmolLM2-135M-Instruct.Q4_1.gguf (Apache-2.0, not in this repository),
whose weights it converts to float32.

    VENV/bin/python smollm2.py DIRECTORY-OF-THE-GGUF

For each prompt N: ids.N, greedy.N (the 20 ids that follow), logits.N (positions, every 48th token), top.N (positions, 8 ids) and
topvalue.N (positions, 8). row.0 is the whole last row of the first prompt. nll is the mean negative log-likelihood of the second
prompt's targets.
"""
import os
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

here = os.path.dirname(os.path.abspath(__file__))
name = "SmolLM2-135M-Instruct.Q4_1.gguf"
torch.set_num_threads(1)
m = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
assert all(p.dtype == torch.float32 for p in m.parameters())
tok = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=name)
prompts = [
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the",
    "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n",
]
out = {}
for n, p in enumerate(prompts):
    ids = torch.tensor([tok(p, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = m(ids).logits[0]
        seq = ids
        for _ in range(20):  # by hand: generate would add processors of its own
            seq = torch.cat([seq, m(seq).logits[:, -1].argmax(-1, keepdim=True)], 1)
    top = logits.topk(8)
    out[f"ids.{n}"] = ids[0].numpy().astype(np.int64)
    out[f"greedy.{n}"] = seq[0, ids.shape[1]:].numpy().astype(np.int64)
    out[f"logits.{n}"] = logits[:, ::48].contiguous().numpy()
    out[f"top.{n}"], out[f"topvalue.{n}"] = top.indices.numpy().astype(np.int64), top.values.numpy()
    if n == 0:
        out["row.0"] = logits[-1].numpy()
    if n == 1:
        lp = torch.log_softmax(logits[:-1].double(), -1)
        out["nll"] = np.array([-lp.gather(1, ids[0, 1:, None]).mean().item()])
    print(repr(p), ids[0].tolist(), repr(tok.decode(seq[0, ids.shape[1]:])))
save_file(out, os.path.join(here, "testdata", "smollm2.safetensors"))
