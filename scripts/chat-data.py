"""Writes the files that the recipe smollm2-50-chat and `krait bench spec` read, from public data sets as they are published.

python3 scripts/chat-data.py DATA OUT

DATA holds instruct/ (Open-Assistant prompts, UltraChat's evaluation prompts, GPTeacher), eval/gsm8k/ and preference/ (UltraFeedback, PandaLM).
OUT gets prompts.jsonl, chats.jsonl, pairs.jsonl and pairs-held.jsonl to learn from and be checked on, held.jsonl (prompts that nothing learns from),
chat.jsonl, maths.jsonl and code.jsonl for the speed of speculation, and pandalm.jsonl, the pairs of PandaLM's test set that two of three people
agree on, for `krait eval reward`. No row is in two of them. Needs Python alone.
"""
import gzip
import json
import pathlib
import random
import sys

if len(sys.argv) != 3:
    sys.exit(__doc__)
data, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])


def text(name):
    raw = (data / name).read_bytes()
    return (gzip.decompress(raw) if name.endswith(".gz") else raw).decode()


def lines(name):
    return [json.loads(line) for line in text(name).splitlines() if line.strip()]


def write(name, rows):
    (out / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(name, len(rows))


def as_prompts(texts):
    return [{"prompt": t.strip()} for t in texts if 8 <= len(t.strip()) <= 600]


random.seed(1)
out.mkdir(parents=True, exist_ok=True)
oasst = lines("instruct/oasst_en_100_text.jsonl") + lines("instruct/oasst_prompt_lottery_en_250_text.jsonl")
ultrachat = [row["data"] for row in json.loads(text("instruct/ultrachat_eval_prompts.json"))]
gsm8k = [row["question"] for row in lines("eval/gsm8k/train.jsonl.gz")]
roleplay = json.loads(text("instruct/gpteacher_roleplay.json.gz"))
codegen = json.loads(text("instruct/gpteacher_codegen.json.gz"))


def instruction(row):
    return "\n".join(part for part in (row["instruction"], row.get("input", "")) if part)


for rows in (oasst, ultrachat, gsm8k, roleplay, codegen):
    random.shuffle(rows)
write("chat.jsonl", as_prompts(oasst[:12] + ultrachat[:12]))
write("maths.jsonl", as_prompts([row["question"] for row in lines("eval/gsm8k/test.jsonl")[:24]]))
write("code.jsonl", as_prompts([instruction(row) for row in codegen[:24]]))
held = oasst[12:24] + ultrachat[12:24] + gsm8k[:12] + [instruction(row) for row in codegen[24:36]]
write("held.jsonl", as_prompts(held))
prompts = oasst[24:] + ultrachat[24:] + gsm8k[12:512] + [instruction(row) for row in codegen[36:436] + roleplay[:300]]
random.shuffle(prompts)
write("prompts.jsonl", as_prompts(prompts))
chats = codegen[436:836] + roleplay[300:700]
write("chats.jsonl", [{"messages": [{"role": "user", "content": instruction(row)}, {"role": "assistant", "content": row["response"]}]}
                      for row in chats if row["response"].strip()])
pairs = lines("preference/ultrafeedback_1000_train.jsonl.gz")
write("pairs.jsonl", pairs[:800])
write("pairs-held.jsonl", pairs[800:])
agreed = []
for row in json.loads(text("preference/pandalm_testset_v1.json")):
    votes = [row[f"annotator{i}"] for i in (1, 2, 3)]
    best = max((1, 2), key=votes.count)
    answers = [row["response1"], row["response2"]]
    if votes.count(best) >= 2 and all(isinstance(a, str) and a.strip() for a in answers):
        agreed.append({"prompt": instruction(row), "chosen": row[f"response{best}"], "rejected": row[f"response{3 - best}"]})
write("pandalm.jsonl", agreed)
