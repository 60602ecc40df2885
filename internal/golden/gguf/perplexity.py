"""Writes testdata/perplexity.json.gz: the likelihood that Transformers gives the beginning of two texts, WikiText-2's validation part and
questions with answers of GSM8K's test part, under SmolLM2-135M-Instruct.Q4_1.gguf, whose weights it converts to float32.

    VENV/bin/python perplexity.py DIRECTORY-OF-THE-GGUF WIKITEXT2-VALID.TXT GSM8K-TEST.JSONL

A text is cut into windows of `context` tokens; the first token of each is not predicted. `nll` has each window's sum in nats, and `text` is
what the ids stand for, so that a test begins with the text.
"""
import gzip
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here = os.path.dirname(os.path.abspath(__file__))
name, tokens, context = "SmolLM2-135M-Instruct.Q4_1.gguf", 2048, 512
torch.set_num_threads(2)
m = AutoModelForCausalLM.from_pretrained(sys.argv[1], gguf_file=name, dtype=torch.float32, attn_implementation="eager").eval()
assert all(p.dtype == torch.float32 for p in m.parameters())
tok = AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=name)
wiki = open(sys.argv[2], encoding="utf-8").read(20000)
rows = [json.loads(line) for line in open(sys.argv[3], encoding="utf-8")][:60]
gsm = "\n\n".join(f"Question: {r['question']}\nAnswer: {r['answer']}" for r in rows)
out = []
for label, text in (("wikitext-2 valid", wiki), ("gsm8k test", gsm)):
    ids = tok(text, add_special_tokens=False)["input_ids"][:tokens]
    assert len(ids) == tokens and text.startswith(tok.decode(ids, clean_up_tokenization_spaces=False)), label
    nll = []
    for at in range(0, tokens, context):
        window = torch.tensor([ids[at:at + context]])
        with torch.no_grad():
            lp = torch.log_softmax(m(window).logits[0, :-1].double(), -1)
        nll.append(-lp.gather(1, window[0, 1:, None]).sum().item())
    mean = sum(nll) / (tokens - len(nll))
    print(label, "nats a token", mean, "perplexity", float(torch.tensor(mean).exp()))
    out.append({"label": label, "text": tok.decode(ids, clean_up_tokenization_spaces=False), "ids": ids, "context": context, "nll": nll})
with open(os.path.join(here, "testdata", "perplexity.json.gz"), "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
    z.write(json.dumps(out, ensure_ascii=False).encode())
