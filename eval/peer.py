# Runs llama.cpp for krait bench. Argument: a JSON object of model, threads, context. Then a line in, a line out:
# {"prompt": ids, "tokens": n}  ->  {"prompt_tokens", "prompt_seconds", "tokens", "seconds"}; the first line out names the peer.
import json
import sys

import xllamacpp


def main():
    c = json.loads(sys.argv[1])
    p = xllamacpp.CommonParams()
    p.model.path = c["model"]
    p.n_ctx = c["context"]
    p.n_parallel = 1
    p.n_gpu_layers = 0
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = c["threads"]
    p.cache_prompt = False
    p.warmup = True
    p.verbosity = 0
    server = xllamacpp.Server(p)
    print(json.dumps({"name": "llama.cpp", "version": "xllamacpp " + xllamacpp.__version__}), flush=True)
    for line in sys.stdin:
        r = json.loads(line)
        answer = server.handle_completions({
            "prompt": r["prompt"], "n_predict": r["tokens"], "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": False})
        t = answer.get("timings")
        if t is None:
            print(json.dumps({"error": json.dumps(answer)[:300]}), flush=True)
            continue
        print(json.dumps({
            "prompt_tokens": t["prompt_n"], "prompt_seconds": t["prompt_ms"] / 1e3,
            "tokens": t["predicted_n"], "seconds": t["predicted_ms"] / 1e3}), flush=True)


main()
