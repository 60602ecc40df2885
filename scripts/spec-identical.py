#!/usr/bin/env python3
"""Greedy answers with guesses are those of plain decoding: every source, depth, branch and batch of `krait bench spec --check-identical`, for
each format of the weights and each level of the kernels that this machine can run.

usage: spec-identical.py KRAIT MODEL PROMPTS [FLAG...], the flags being those of krait bench spec: who guesses, --prompts N, --max-tokens N"""
import json, os, re, subprocess, sys


def levels(krait):
    said = subprocess.run([krait, "env"], env={**os.environ, "KRAIT_KERNELS": "none"}, capture_output=True, text=True).stderr
    return re.search(r"this machine can run ([a-z0-9, ]+)", said)[1].strip().split(", ")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    krait, model, prompts, *flags = sys.argv[1:]
    different = 0
    for level in levels(krait):
        for kind in ("f32", "q8", "q4"):
            command = [krait, "bench", "spec", model, "--text", prompts, "--type", kind, "--check-identical", "--json", *flags]
            run = subprocess.run(command, env={**os.environ, "KRAIT_KERNELS": level}, capture_output=True, text=True)
            if not run.stdout:
                sys.exit(run.stderr.strip().splitlines()[-1])
            r = json.loads(run.stdout)
            bad = [c for c in r["checks"] if c["identical"] != r["prompts"]]
            different += len(bad)
            answers = r["prompts"] * len(r["checks"])
            print(f"{level} {kind}: {r['prompts']} prompts, {r['tokens']} tokens, {len(r['checks'])} ways of guessing, {answers} answers,",
                  f"{len(bad)} ways with differences" if bad else "all identical", flush=True)
            for c in bad:
                print("  ", json.dumps(c)[:300], flush=True)
    sys.exit(different > 0)


main()
