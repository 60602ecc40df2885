# Runs llama.cpp for krait bench, through its C interface, so that no server and no choice of tokens counts against it. Argument: a JSON object
# of model, threads, context (tokens of each sequence), sequences. Then a line in, a line out:
# {"prefix", "rows", "sequences", "steps", "all"}  ->  {"seconds", "rows", "steps"}
# Each sequence is fed prefix tokens; then each of steps batches gives rows more to every sequence, with logits for all of them or, if not
# all, for the last. seconds are those of a step. The first line out names the peer.
import ctypes
import json
import sys
import time

import xllamacpp
import xllamacpp.xllamacpp as native


class Opaque(ctypes.Structure):  # parameters by value: they go through memory, and more than there is does no harm
    _fields_ = [("words", ctypes.c_uint32 * 256)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p), ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)), ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8))]


LARGEST = 2048  # tokens of a batch, llama.cpp's own default
quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


def library():
    lib = ctypes.CDLL(native.__file__)
    pointer = ctypes.c_void_p
    for name, result, arguments in [
            ("llama_model_default_params", Opaque, []), ("llama_context_default_params", Opaque, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Opaque]), ("llama_init_from_model", pointer, [pointer, Opaque]),
            ("llama_set_n_threads", None, [pointer, ctypes.c_int32, ctypes.c_int32]), ("llama_get_memory", pointer, [pointer]),
            ("llama_memory_clear", None, [pointer, ctypes.c_bool]), ("llama_batch_init", Batch, [ctypes.c_int32] * 3),
            ("llama_decode", ctypes.c_int32, [pointer, Batch]), ("llama_synchronize", None, [pointer]), ("llama_get_logits", pointer, [pointer]),
            ("ggml_threadpool_params_default", Opaque, [ctypes.c_int]), ("ggml_threadpool_new", pointer, [pointer]),
            ("llama_attach_threadpool", None, [pointer, pointer, pointer])]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
    return lib


class Peer:
    def __init__(self, c):
        self.lib = library()
        self.lib.llama_log_set(quiet, None)
        model = self.lib.llama_model_load_from_file(c["model"].encode(), self.lib.llama_model_default_params())
        if not model:
            raise SystemExit("llama.cpp cannot load " + c["model"])
        p = self.lib.llama_context_default_params()
        if list(p.words[:4]) != [512, LARGEST, 512, 1]:  # n_ctx, n_batch, n_ubatch, n_seq_max
            raise SystemExit("this version of llama.cpp has other parameters: " + str(list(p.words[:4])))
        p.words[0], p.words[3] = c["context"] * c["sequences"], c["sequences"]
        self.context = self.lib.llama_init_from_model(model, p)
        if not self.context:
            raise SystemExit("llama.cpp makes no context for " + c["model"])
        self.lib.llama_set_n_threads(self.context, c["threads"], c["threads"])
        pool = self.lib.ggml_threadpool_new(ctypes.byref(self.lib.ggml_threadpool_params_default(c["threads"])))
        self.lib.llama_attach_threadpool(self.context, pool, pool)
        self.memory = self.lib.llama_get_memory(self.context)
        self.batch = self.lib.llama_batch_init(LARGEST, 0, 1)
        self.warm = set()

    def feed(self, rows, sequences, at, every):
        """Feeds every sequence rows tokens from position at on; returns the seconds."""
        b = self.batch
        b.n_tokens = rows * sequences
        for s in range(sequences):
            for r in range(rows):
                i = s * rows + r
                b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = 1 + (at + r + s) * 7 % 200, at + r, 1, s
                b.logits[i] = every or r == rows - 1
        start = time.perf_counter()
        code = self.lib.llama_decode(self.context, b)
        self.lib.llama_synchronize(self.context)
        seconds = time.perf_counter() - start
        if code != 0:
            raise RuntimeError("llama_decode of %d rows of %d sequences gives %d" % (rows, sequences, code))
        return seconds

    def run(self, r):
        rows, sequences, at = r["rows"], r["sequences"], r["prefix"]
        if (rows, sequences) not in self.warm:  # the memory of a batch of this size is taken once
            self.warm.add((rows, sequences))
            self.lib.llama_memory_clear(self.memory, True)
            self.feed(rows, sequences, 0, r["all"])
        self.lib.llama_memory_clear(self.memory, True)
        if at > 0:
            self.feed(at, sequences, 0, False)
        total = 0.0
        for _ in range(r["steps"]):
            total += self.feed(rows, sequences, at, r["all"])
            at += rows
        return {"seconds": total / r["steps"], "rows": rows * sequences, "steps": r["steps"]}


def main():
    peer = Peer(json.loads(sys.argv[1]))
    print(json.dumps({"name": "llama.cpp", "version": "xllamacpp " + xllamacpp.__version__}), flush=True)
    for line in sys.stdin:
        try:
            answer = peer.run(json.loads(line))
        except RuntimeError as e:
            answer = {"error": str(e)}
        print(json.dumps(answer), flush=True)


main()
