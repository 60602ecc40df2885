"""Writes the same three rows as Parquet (snappy and zstd), and as JSON lines with gzip and zstd: python rows.py (pyarrow 23.0.0, zstandard 0.25.0)."""
import gzip, json
import pyarrow as pa, pyarrow.parquet as pq, zstandard

def say(role, content):
    return {"role": role, "content": content}

rows = [
    {"prompt": "What is 1+1?", "prompt_id": "a", "score": 8.5, "tags": ["x", "y"],
     "messages": [say("user", "What is 1+1?"), say("assistant", "2 ✓")]},
    {"prompt": "Who?", "prompt_id": None, "score": None, "tags": [],
     "messages": [say("system", "Be short."), say("user", "Who?"), say("assistant", "Me."), say("user", "And?"), say("assistant", "You.")]},
    {"prompt": "", "prompt_id": "c", "score": 1.0, "tags": None, "messages": []},
]
table = pa.Table.from_pylist(rows)
pq.write_table(table, "rows.parquet", compression="snappy", row_group_size=2)
pq.write_table(table, "rows-zstd.parquet", compression="zstd", use_dictionary=False)
text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
with open("rows.jsonl.zst", "wb") as f:
    f.write(zstandard.ZstdCompressor().compress(text))
with open("rows.jsonl.gz", "wb") as f:
    f.write(gzip.compress(text, mtime=0))
