"""How fast a teacher answers prompts: krait label against Transformers' generate, by turns.

    python scripts/label-throughput.py --krait ./krait --model MODEL --prompts prompts.jsonl [--count 48] [--max-tokens 256] [--rounds 3]

Both write answers to the same prompts, said by the user in the model's chat template, in documents of the same length (prompt included), 16 side by side,
at temperature 0.7, top-p 0.95, top-k 10. Transformers has the weights in float32 (its fastest on a processor without bfloat16 products) and its time is
that of generate alone, prompts padded on the left; krait has them as --type says (q8) and its time is that of the whole command but for the start of the
process. The model that Transformers reads is what "krait export --format hf" makes of MODEL. Needs torch and transformers (made with 2.15.0 and 5.24.0).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

SAMPLING = {"temperature": 0.7, "top_p": 0.95, "top_k": 10}


class Full(StoppingCriteria):
    """Ends a row when it has as many tokens as a document may have, padding not counted."""

    def __init__(self, pads, limit):
        self.pads, self.limit = pads, limit

    def __call__(self, ids, scores, **kwargs):
        return ids.shape[1] - self.pads >= self.limit


def run_krait(a, out, seed):
    """Returns the answers' tokens, seconds, and the prompts' ids."""
    command = [a.krait, "label", a.model, "--prompts", a.prompts, "--as-chat", "--count", str(a.count), "--max-tokens", str(a.max_tokens), "--width", str(a.batch),
               "--seed", str(seed), "--out", out, "--json", "-q"]
    for name, value in SAMPLING.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    if a.type != "f32":
        command += ["--type", a.type]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, "GOMAXPROCS": str(a.threads)})
    with open(os.path.join(out, "labels.jsonl")) as f:
        docs = [json.loads(line) for line in f]
    return sum(len(d["ids"]) - d["prompt"] for d in docs), json.loads(done.stdout)["seconds"], [d["ids"][: d["prompt"]] for d in docs]


def run_transformers(a, model, tokenizer, prompts):
    """Returns the answers' tokens and seconds."""
    eos = model.generation_config.eos_token_id
    eos = set(eos if isinstance(eos, list) else [eos])
    tokens, seconds = 0, 0.0
    for at in range(0, len(prompts), a.batch):
        batch = tokenizer.pad({"input_ids": prompts[at : at + a.batch]}, padding_side="left", return_tensors="pt")
        width = batch["input_ids"].shape[1]
        pads = width - batch["attention_mask"].sum(1)
        start = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(**batch, do_sample=True, **SAMPLING, max_new_tokens=a.max_tokens - int(width - pads.max()), pad_token_id=tokenizer.pad_token_id,
                                 stopping_criteria=StoppingCriteriaList([Full(pads, a.max_tokens)]))
        seconds += time.perf_counter() - start
        for row, pad in zip(out.tolist(), pads.tolist()):
            answer = row[width : pad + a.max_tokens]
            ends = [i for i, t in enumerate(answer) if t in eos]
            tokens += ends[0] + 1 if ends else len(answer)
    return tokens, seconds


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--krait", default="krait")
    p.add_argument("--model", required=True, help="directory or GGUF file")
    p.add_argument("--prompts", required=True, help="JSON lines with a prompt each")
    p.add_argument("--hf", help="what krait export --format hf made of the model; without it that is made anew")
    p.add_argument("--count", type=int, default=48)
    p.add_argument("--max-tokens", type=int, default=256)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--type", default="q8")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    with tempfile.TemporaryDirectory() as tmp:
        if a.hf is None:
            a.hf = os.path.join(tmp, "hf")
            subprocess.run([a.krait, "export", a.model, "--format", "hf", "--out", a.hf, "-q"], check=True, stdout=subprocess.DEVNULL)
        tokenizer = AutoTokenizer.from_pretrained(a.hf)
        model = AutoModelForCausalLM.from_pretrained(a.hf, dtype=torch.float32).eval()
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        with open(a.prompts) as f:
            texts = [json.loads(line)["prompt"] for line in f if line.strip()]
        prompts = [tokenizer.apply_chat_template([{"role": "user", "content": texts[i % len(texts)]}], add_generation_prompt=True, return_dict=False) for i in range(a.count)]
        run_transformers(argparse.Namespace(**{**vars(a), "max_tokens": max(map(len, prompts[: a.batch])) + 2}), model, tokenizer, prompts[: a.batch])  # warms up
        rounds = []
        for n in range(a.rounds):
            ours, ours_s, read = run_krait(a, os.path.join(tmp, f"labels-{n}"), n)
            if read != prompts:
                sys.exit("the prompts' tokens differ: the two would not do the same work")
            torch.manual_seed(n)
            theirs, theirs_s = run_transformers(a, model, tokenizer, prompts)
            row = {"krait_tokens": ours, "krait_tokens_per_second": ours / ours_s, "transformers_tokens": theirs, "transformers_tokens_per_second": theirs / theirs_s}
            row["ratio"] = row["krait_tokens_per_second"] / row["transformers_tokens_per_second"]
            rounds.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(json.dumps({"threads": a.threads, "batch": a.batch, "type": a.type, "count": a.count, "max_tokens": a.max_tokens,
                      **{k: statistics.median(r[k] for r in rounds) for k in rounds[0]}, "rounds": rounds}, indent=2))


if __name__ == "__main__":
    main()
