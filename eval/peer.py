# Runs llama.cpp for krait bench, through its C interface, so that no server and no choice of tokens counts against it. Argument: a JSON object
# of model, threads, context (tokens of each sequence), sequences, and draft (a model that guesses, or empty). Then a line in, a line out:
# {"prefix", "rows", "sequences", "steps", "all"}  ->  {"seconds", "rows", "steps"}
# Each sequence is fed prefix tokens; then each of steps batches gives rows more to every sequence, with logits for all of them or, if not
# all, for the last. seconds are those of a step.
# {"prefix", "depth", "accepted"}  ->  {"seconds", "rows", "steps", "rollback"}
# After prefix tokens, a round for each number in accepted: the draft guesses depth tokens one by one, the model is fed them with its own token,
# and so many of the guesses stay. What the others have left in the model's memory is taken back: by the memory itself where it can ("cut"), else
# by the copy that was made before, and feeding what stays again ("copy"). seconds are those of all rounds, rows the tokens that stay.
# The first line out names the peer.
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
            ("llama_attach_threadpool", None, [pointer, pointer, pointer]), ("llama_memory_seq_rm", ctypes.c_bool, [pointer] + [ctypes.c_int32] * 3),
            ("llama_state_seq_get_size_ext", ctypes.c_size_t, [pointer, ctypes.c_int32, ctypes.c_uint32]),
            ("llama_state_seq_get_data_ext", ctypes.c_size_t, [pointer, pointer, ctypes.c_size_t, ctypes.c_int32, ctypes.c_uint32]),
            ("llama_state_seq_set_data_ext", ctypes.c_size_t, [pointer, pointer, ctypes.c_size_t, ctypes.c_int32, ctypes.c_uint32]),
            ("llama_sampler_init_greedy", pointer, []), ("llama_sampler_sample", ctypes.c_int32, [pointer, pointer, ctypes.c_int32])]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
    return lib


RECURRENT = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY: a copy of what can't be cut


class Model:
    """A model with its context, on threads that two of them may share."""

    def __init__(self, lib, file, context, sequences, threads, pool):
        self.lib = lib
        model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
        if not model:
            raise SystemExit("llama.cpp cannot load " + file)
        p = lib.llama_context_default_params()
        if list(p.words[:4]) != [512, LARGEST, 512, 1]:  # n_ctx, n_batch, n_ubatch, n_seq_max
            raise SystemExit("this version of llama.cpp has other parameters: " + str(list(p.words[:4])))
        p.words[0], p.words[3] = context * sequences, sequences
        self.context = lib.llama_init_from_model(model, p)
        if not self.context:
            raise SystemExit("llama.cpp makes no context for " + file)
        lib.llama_set_n_threads(self.context, threads, threads)
        lib.llama_attach_threadpool(self.context, pool, pool)
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(LARGEST, 0, 1)
        self.greedy = lib.llama_sampler_init_greedy()
        self.saved = None

    def clear(self):
        self.lib.llama_memory_clear(self.memory, True)

    def save(self):
        size = self.lib.llama_state_seq_get_size_ext(self.context, 0, RECURRENT)
        if self.saved is None or len(self.saved) < size:
            self.saved = ctypes.create_string_buffer(size)
        self.lib.llama_state_seq_get_data_ext(self.context, self.saved, size, 0, RECURRENT)

    def restore(self):
        if not self.lib.llama_state_seq_set_data_ext(self.context, self.saved, len(self.saved), 0, RECURRENT):
            raise RuntimeError("llama.cpp does not take its state back")

    def cut(self, at):
        """Forgets the tokens from position at on, where the memory can."""
        return self.lib.llama_memory_seq_rm(self.memory, 0, at, -1)

    def choose(self, row):
        return self.lib.llama_sampler_sample(self.greedy, self.context, row)

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


class Peer:
    def __init__(self, c):
        lib = library()
        lib.llama_log_set(quiet, None)
        pool = lib.ggml_threadpool_new(ctypes.byref(lib.ggml_threadpool_params_default(c["threads"])))
        self.model = Model(lib, c["model"], c["context"], c["sequences"], c["threads"], pool)
        self.draft = Model(lib, c["draft"], c["context"], 1, c["threads"], pool) if c.get("draft") else None
        self.warm = set()

    def run(self, r):
        if "accepted" in r:
            return self.speculate(r["prefix"], r["depth"], r["accepted"])
        rows, sequences, at = r["rows"], r["sequences"], r["prefix"]
        if (rows, sequences) not in self.warm:  # the memory of a batch of this size is taken once
            self.warm.add((rows, sequences))
            self.model.clear()
            self.model.feed(rows, sequences, 0, r["all"])
        self.model.clear()
        if at > 0:
            self.model.feed(at, sequences, 0, False)
        total = 0.0
        for _ in range(r["steps"]):
            total += self.model.feed(rows, sequences, at, r["all"])
            at += rows
        return {"seconds": total / r["steps"], "rows": rows * sequences, "steps": r["steps"]}

    def speculate(self, at, depth, accepted):
        model, draft = self.model, self.draft
        cuts = True
        if depth:
            model.clear()
            model.feed(8, 1, 0, False)
            cuts = model.cut(6)  # a memory with recurrent states refuses
        for warm in (True, False):  # the first rounds take memory
            model.clear()
            model.feed(at, 1, 0, False)
            if depth:
                draft.clear()
                draft.feed(at, 1, 0, False)
            where, lag = at, 0  # lag: tokens that the draft has not been fed
            start = time.perf_counter()
            for kept in accepted[:3] if warm else accepted:
                for guess in range(depth):
                    rows = 1 + lag if guess == 0 else 1
                    draft.feed(rows, 1, where + guess + 1 - rows, False)
                    draft.choose(rows - 1)
                if depth and not cuts:
                    model.save()
                model.feed(depth + 1, 1, where, True)
                for row in range(kept + 1):
                    model.choose(row)
                if kept < depth:
                    if cuts:
                        model.cut(where + kept + 1)
                    else:
                        model.restore()
                        model.cut(where)  # what it has beside, its keys and values
                        model.feed(kept + 1, 1, where, False)
                    draft.cut(where + kept + 1)
                lag = 1 if depth and kept == depth else 0
                where += kept + 1
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "rows": where - at, "steps": len(accepted), "rollback": "cut" if cuts else "copy"}


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
