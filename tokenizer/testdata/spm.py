#!/usr/bin/env python3
"""Writes sentencepiece.jsonl.gz: small tokenizer.model files, trained with different flags, and Llama 2's pieces as one, with the ids that
the `sentencepiece` package gives the texts of nasty.jsonl.gz, and its decoded text where it is not the text.

    pip install sentencepiece==0.2.3
    ./spm.py
"""
import base64, gzip, io, json, os
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb

assert spm.__version__ == "0.2.3", spm.__version__
here = os.path.dirname(os.path.abspath(__file__))


def unzip(name):
    with gzip.open(os.path.join(here, name)) as f:
        return f.read()


texts = json.loads(unzip("nasty.jsonl.gz").split(b"\n", 1)[0])
corpus = [json.loads(line)["text"] for line in unzip("hf_vectors.jsonl.gz").decode().rstrip("\n").split("\n")]


def train(**flags):
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(s for t in corpus for s in t.split("\n")), model_writer=out, character_coverage=.995,
                                   minloglevel=2, hard_vocab_limit=False, **({"model_type": "bpe", "vocab_size": 700, "normalization_rule_name": "identity"} | flags))
    return out.getvalue()


def llama2():
    """The model of Llama 2: its tokenizer.json says the pieces, and the scores are minus the order of the merges."""
    vocab = json.loads(unzip("tinyllama.json.gz"))["model"]["vocab"]
    m = pb.ModelProto()
    for piece, i in sorted(vocab.items(), key=lambda e: e[1]):
        kind = 2 if i == 0 else 3 if i < 3 else 6 if i < 259 else 1
        m.pieces.add(piece=piece, score=0 if i < 259 else -1e9 if set(piece) == {"▁"} and len(piece) > 1 else 259 - i, type=kind)
    m.trainer_spec.model_type, m.trainer_spec.byte_fallback = 2, True
    m.normalizer_spec.name, m.normalizer_spec.add_dummy_prefix, m.normalizer_spec.remove_extra_whitespaces = "identity", True, False
    return m.SerializeToString()


models = {
    "llama2": llama2(),
    "bytes": train(byte_fallback=True),  # the trainer's defaults: spaces are squeezed
    "plain": train(remove_extra_whitespaces=False),  # no byte fallback: unknown characters
    "bare": train(byte_fallback=True, add_dummy_prefix=False, remove_extra_whitespaces=False, split_digits=True),
    "squeezed-bare": train(byte_fallback=True, add_dummy_prefix=False),
    "across": train(byte_fallback=True, split_by_whitespace=False, remove_extra_whitespaces=False),
}
refused = {
    "unigram": train(model_type="unigram", vocab_size=400),
    "word": train(model_type="word"),
    "nfkc": train(normalization_rule_name="nmt_nfkc", vocab_size=400),
    "suffix": train(treat_whitespace_as_suffix=True, vocab_size=400),
}
with open(os.path.join(here, "sentencepiece.jsonl.gz"), "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
    def write(row):
        z.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    for name, data in models.items():
        p = spm.SentencePieceProcessor(model_proto=data)
        ids = [p.encode(t) for t in texts]
        decoded = {i: d for i, t in enumerate(texts) if (d := p.decode(ids[i])) != t}
        print(name, p.vocab_size(), "pieces,", sum(map(len, ids)), "ids")
        write({"name": name, "model": "" if name == "llama2" else base64.b64encode(data).decode(), "ids": ids, "decoded": decoded})
    for name, data in refused.items():
        write({"name": name, "model": base64.b64encode(data).decode()})
# Llama 2's pieces stand in tinyllama.json.gz already; the test writes the model from them as llama2 does.
