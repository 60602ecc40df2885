#!/usr/bin/env python3
"""Writes repeats.json: what SmolLM2-135M-Instruct (Q4_1 as q8) answers to the prompts of scripts/spec-prompts.py.

usage: repeats.py KRAIT MODEL DIRECTORY... > repeats.json, each directory written by spec-prompts.py: of The Wonderful Wizard of Oz (Project
Gutenberg) and of TinyStories, 4 prompts each"""
import json, subprocess, sys


def krait(*args, text=None):
    return subprocess.run([sys.argv[1], *args], input=text, capture_output=True, text=True, check=True).stdout


answers, model = [], sys.argv[2]
for directory in sys.argv[3:]:
    for kind in ("repeat", "edit", "summarise"):
        for line in open(f"{directory}/{kind}.jsonl"):
            chat = krait("template", model, text=json.dumps([{"role": "user", "content": json.loads(line)["prompt"]}]))
            prompt = json.loads(krait("tokenize", model, "--no-special", text=json.dumps(chat) + "\n"))
            out = krait("generate", model, "--type", "q8", "--prompt-ids", json.dumps(prompt), "--max-tokens", "120", "--ngram", "--json")
            answers.append(json.dumps({"kind": kind, "prompt": prompt, "answer": json.loads(out)["ids"]}, separators=(",", ":")))
print("[" + ",\n".join(answers) + "]")
