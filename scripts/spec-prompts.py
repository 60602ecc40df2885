#!/usr/bin/env python3
"""Writes prompts whose answers repeat them, for `krait bench spec --ngram --text FILE`: repeat.jsonl (a passage again), edit.jsonl (a passage
with one word replaced) and summarise.jsonl (the sentences that matter, quoted). Passages are consecutive sentences of a text.

usage: spec-prompts.py TEXT DIRECTORY [PROMPTS]"""
import collections, json, pathlib, re, sys


def passages(text, count, words=90):
    """count passages of about so many words, at equal distances."""
    sentences = re.findall(r"[A-Z\"'][^.!?]{15,240}[.!?][\"']?(?=\s)", re.sub(r"\s+", " ", text))
    step = len(sentences) // count
    if step < 8:
        sys.exit(f"the text has {len(sentences)} sentences, want 8 for each of {count} passages")
    for i in range(count):
        passage, at = [], i * step + step // 2  # not the table of contents
        while at < len(sentences) and sum(len(s.split()) for s in passage) < words:
            passage.append(sentences[at].strip())
            at += 1
        yield " ".join(passage)


def replaced(passage):
    """The most frequent word of five letters or more, and what it is replaced by."""
    words = collections.Counter(w for w in re.findall(r"[A-Za-z]+", passage) if len(w) >= 5)
    word = min(words, key=lambda w: (-words[w], passage.index(w)))
    return word, "Zephyr" if word[0].isupper() else "lantern"


def main():
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    text, out = pathlib.Path(sys.argv[1]).read_text(errors="replace"), pathlib.Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    out.mkdir(parents=True, exist_ok=True)
    sets = {"repeat": [], "edit": [], "summarise": []}
    for p in passages(text, count):
        a, b = replaced(p)
        sets["repeat"].append(f"Repeat the following text word for word.\n\n{p}")
        sets["edit"].append(f'Write the following text again, with every "{a}" replaced by "{b}" and nothing else changed.\n\n{p}')
        sets["summarise"].append(f"Summarise the following text by quoting its most important sentences word for word, one on each line.\n\n{p}")
    for name, prompts in sets.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts))


main()
