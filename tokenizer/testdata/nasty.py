#!/usr/bin/env python3
"""Writes nasty.jsonl.gz: strings made to break tokenizers, with what Hugging Face's `tokenizers` makes of them.

    pip install tokenizers==0.23.3
    ./nasty.py QWEN2 LLAMA3        # the tokenizer.json files (or .json.gz) of Qwen2.5 and Llama 3, which are too large to stand here

The first line lists the texts. Each line after it is a family: a name, the file's SHA-256, its tokens around a text (prefix), then per text
the ids without special tokens, and, only where they differ from the text, the decoded text with and without special tokens; then offsets
in bytes for some of the texts; then lists of random ids with their decoded texts. The families with "recipe" are made from another
family's file by replacing the sections given there.
"""
import gzip, hashlib, json, os, random, sys
from tokenizers import Tokenizer, __version__

assert __version__ == "0.23.3", __version__
here = os.path.dirname(os.path.abspath(__file__))
OFFSETS = 400  # texts whose offsets are kept
LISTS = 300  # random lists of ids

fixed = ["", "a", " ", "  ", "   leading", "trailing   ", "Hello world", "Hello  world", "hello\nworld", "\n\n\n", "\n \n\t x", "\r\n\r\nfoo",
    "\t\ttabs", "I'm you've he'll they'd it's we're I'M YOU'VE", "don't'll's'", "12345678901234567890", "3.14159 1e-10 0x7f", "a1b2c3",
    "$1,234.56", "٣٤٥ ½ Ⅻ ²³", "naïve café résumé", "e\u0301 cafe\u0301 (decomposed)", "Å ﬁ ﬂ ſ", "日本語のテキスト", "中文字符测试。你好,世界!",
    "한국어 텍스트", "Привет мир", "مرحبا بالعالم", "नमस्ते दुनिया", "ไทยภาษา", "😀😃👍🏽👨‍👩‍👧‍👦🏳️‍🌈", "emoji 😀 mid", "\u200b\u200czero\u200dwidth\ufeffBOM",
    "\u00a0nbsp\u00a0 \u2003em\u3000ideographic", "foo\u0000bar", "\u0085nel\u2028ls\u2029ps", "tab\u000bvt\u000cff", "<|endoftext|>",
    "x<|endoftext|>y", "<s>", "</s>", "<s>hi</s>", "[INST] hi [/INST]", "<|begin_of_text|>x<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|im_start|>user\nhi<|im_end|>\n", "def f(x):\n    return x**2  # comment\n",
    "for (int i=0;i<10;i++) { a[i] += b[i]; }", "https://example.com/a?b=c&d=%20#frag", "a" * 60, "=" * 100, "-" * 77 + "\n", " " * 83 + "x",
    "!!!???...", "(a) [b] {c} <d>", "\\n \\t \\\\", "\"quoted\" 'single' `tick`", "ＦＵＬＬｗｉｄｔｈ　１２３", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚", "\U0001F1FA\U0001F1F8\U0001F1EC\U0001F1E7",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞", "İstanbul ıI ẞß", "ǅ ǆ Ǆ", "ʻokina ’curly’ “quotes” — em–en…",
    "CamelCaseIdentifier snake_case_identifier SCREAMING_SNAKE", "x'S x'T x'RE x'VE x'M x'LL x'D", "ſ's 'ſ K'K", "  \n  \n  end", "a \n b",
    "a\n\n b", "word\u00adsoft", "▁ ▁▁ ▁a", "a▁b", "Ġ Ċ Ġa", "<0x0A>", "<unk>", "x <pad> y", "\U00010000\U0010FFFF", "\ue000private",
    "line1\r\nline2\rline3\n", "mixed 中英文 text 123 テスト", "100% $5 #tag @user ^ ~ | \\", "1 2 3 4 5", "1234", "12", "00000000", "a.b.c.d", "...",
    "..", "???!!", "¿Qué?", "ß", "ﷺ", "  a  b   c    d     e", "\n\n\n\n\n\n\n\n", "\t\n\t\n", " \n", " \t \n x", "end with space \n ",
    " " * 500, "é" * 300, "e\u0301" * 40, "a" + "\u0301" * 45 + "\u0323" * 3, "\u1100\u1161\u11a8\uac00\u11a8", "1" * 400, "'" * 40, "'s" * 30]

rng = random.Random(7)
pools = ["abcdefghijklmnopqrstuvwxyz", "ABC xyz 012 ,.;:!?'\"\n\t", "áéíóúñçßøåæ 日本語中文한국 😀👍 \u00a0\u200b\u2003", "'sS'tT'rReE'vV'mM'lL'dD ",
    "0123456789.,-+eE ", " \n\r\t\u00a0\u0085\u2028\u3000 ", "\u0301\u0323\u0308\u0327aeoAEO\u1100\u1161\u11a8\uac00", "▁Ġ <0xE4>", "½²Ⅻ٣五१ 1a"]
marks = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|padding|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>",
    "<|start_header_id|>", "<|reserved_special_token_7|>", "<|vision_start|>", "<tool_call>", "<0x00>", "<0xFF>", "<0x41>", "<|", "|>", "<", "▁<s>", "[INST]",
    "<empty_output>", "<issue_start>", "   ", " " * 8, "  ", "\n"]
words = ["Hello", " world", "the", " and", "don't", "naïve", "日本", " 123", "x", "  ", "\n", ".", "Ünïcode", "I'LL", "👍🏽"]


def char():
    r = rng.random()
    while True:
        c = rng.randint(0, 0x2ff) if r < .4 else rng.randint(0x300, 0xffff) if r < .85 else rng.randint(0x10000, 0x1ffff)
        if not 0xd800 <= c <= 0xdfff:
            return chr(c)


def make_texts(samples):
    texts = list(fixed)
    for _ in range(650):
        p = rng.choice(pools) + rng.choice(pools)
        texts.append("".join(rng.choice(p) for _ in range(rng.randint(1, 50))))
    for _ in range(600):
        texts.append("".join(char() for _ in range(rng.randint(1, 24))))
    for _ in range(200):
        texts.append("".join(rng.choice(marks) if rng.random() < .5 else rng.choice(words) for _ in range(rng.randint(1, 10))))
    for _ in range(150):  # pieces of real vocabularies side by side
        texts.append("".join(rng.choice(samples) for _ in range(rng.randint(1, 12))))
    return list(dict.fromkeys(texts))


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return f.read()


def byte_offsets(text, spans):
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[a], at[b]] for a, b in spans]


def family(name, data, texts, **more):
    t = Tokenizer.from_str(data.decode())
    t.no_truncation()
    t.no_padding()
    out = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), **more, "prefix": t.encode("").ids, "ids": [], "decoded": {}, "skipped": {}, "offsets": {}, "lists": []}
    for i, text in enumerate(texts):
        e = t.encode(text, add_special_tokens=False)
        with_special = t.encode(text).ids
        assert with_special == out["prefix"] + e.ids, (name, text)
        out["ids"].append(e.ids)
        if (d := t.decode(e.ids, skip_special_tokens=False)) != text:
            out["decoded"][i] = d
        if (s := t.decode(e.ids, skip_special_tokens=True)) != d:
            out["skipped"][i] = s
        if i % (len(texts) // OFFSETS) == 0:
            out["offsets"][i] = [v for span in byte_offsets(text, e.offsets) for v in span]
    r = random.Random(name)
    top, special = t.get_vocab_size(), [i for i, a in t.get_added_tokens_decoder().items() if a.special]
    low = [i for i in range(300) if t.id_to_token(i) is not None]
    for _ in range(LISTS):
        ids = [r.choice(special) if (k := r.random()) < .1 else r.choice(low) if k < .7 else r.randrange(top) for _ in range(r.randint(1, 20))]
        ids = [i for i in ids if t.id_to_token(i) is not None]
        d, s = t.decode(ids, skip_special_tokens=False), t.decode(ids, skip_special_tokens=True)
        out["lists"].append([ids, d] + ([s] if s != d else []))
    return out


def main(qwen2, llama3):
    files = {n: read(os.path.join(here, n + ".json.gz")) for n in ("gpt_neox_20b", "smollm2", "tinyllama")}
    files["qwen2"], files["llama3"] = read(qwen2), read(llama3)
    samples = []
    for n in ("smollm2", "tinyllama", "qwen2"):
        t = Tokenizer.from_str(files[n].decode())
        samples += [s for s in (t.decode([rng.randrange(t.get_vocab_size())]) for _ in range(400)) if s and "\ufffd" not in s]
    texts = make_texts(samples)
    rows = [family(n, d, texts) for n, d in files.items()]
    # Llama 2's vocabulary as Transformers writes it since its `legacy` switch: a pre-tokenizer instead of normalisers (Mistral, Zephyr).
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    sections = {"normalizer": None, "pre_tokenizer": metaspace}
    made = json.loads(files["tinyllama"]) | sections
    rows.append(family("tinyllama-metaspace", json.dumps(made).encode(), texts, recipe={"of": "tinyllama", "sections": sections}))
    # Llama 3's pipeline over a vocabulary that stands here, for machines without Llama 3's file.
    l3, made = json.loads(files["llama3"]), json.loads(files["gpt_neox_20b"])
    sections = {k: l3[k] for k in ("normalizer", "pre_tokenizer", "decoder")}
    made |= sections
    made["model"]["ignore_merges"] = True
    rows.append(family("gpt_neox_20b-llama3", json.dumps(made).encode(), texts, recipe={"of": "gpt_neox_20b", "sections": sections, "ignore_merges": True}))
    for r in rows:
        print(r["name"], len(texts), "texts,", sum(map(len, r["ids"])), "ids")
    with open(os.path.join(here, "nasty.jsonl.gz"), "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
        z.write(json.dumps(texts, ensure_ascii=False).encode() + b"\n")
        for r in rows:
            z.write(json.dumps(r, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
