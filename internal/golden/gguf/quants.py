"""Writes testdata/quants.gguf with the gguf package: for each type T a tensor T of random blocks and T.f32, what gguf.quants.dequantize
makes of it; a float32 tensor "source" and what gguf.quants.quantize makes of it (source.F16, .BF16, .Q8_0, .Q4_0); metadata of every kind.

    VENV/bin/python quants.py
"""
import os

import numpy as np
from gguf import GGMLQuantizationType as T, GGUFWriter, GGUFValueType as V
from gguf.quants import dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(6)

w = GGUFWriter(os.path.join(here, "testdata", "quants.gguf"), "test")
w.add_uint8("k.u8", 200), w.add_int8("k.i8", -3), w.add_uint16("k.u16", 60000), w.add_int16("k.i16", -300)
w.add_uint32("k.u32", 4000000000), w.add_int32("k.i32", -70000), w.add_uint64("k.u64", 2**63 + 5), w.add_int64("k.i64", -2**60)
w.add_float32("k.f32", 0.1), w.add_float64("k.f64", 0.1), w.add_bool("k.bool", True), w.add_string("k.string", "naïve ▁")
w.add_array("k.strings", ["a", "", "ßc"]), w.add_array("k.ints", [1, -2, 3]), w.add_array("k.floats", [0.5, -1.25])
w.add_array("k.bools", [True, False])

# Where the halves lie in a block: their bits are drawn as numbers, since random ones would be NaN now and then.
halves = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
for t, at in halves.items():
    elements, size = GGML_QUANT_SIZES[t]
    rows, blocks = 3, 2
    raw = rng.integers(0, 256, (rows * blocks, size), dtype=np.uint8)
    for a in at:
        raw[:, a:a + 2] = rng.normal(0, 0.02, rows * blocks).astype(np.float16).view(np.uint8).reshape(-1, 2)
    raw[0, at[0]:at[0] + 2] = np.array([3], np.uint16).view(np.uint8)  # a subnormal scale
    raw = raw.reshape(rows, blocks * size)
    w.add_tensor(t.name, raw, raw_dtype=t)
    w.add_tensor(t.name + ".f32", dequantize(raw, t))

h = np.concatenate([rng.normal(0, 1, 50).astype(np.float16).view(np.uint16), rng.integers(0, 0x7c01, 200).astype(np.uint16)]).view(np.float16)
w.add_tensor("F16", h)
w.add_tensor("F16.f32", dequantize(h.view(np.uint8), T.F16))
b = rng.integers(0, 0x7f81, 250).astype(np.uint16).view(np.uint8)
w.add_tensor("BF16", b, raw_dtype=T.BF16)
w.add_tensor("BF16.f32", dequantize(b, T.BF16))

source = rng.normal(0, 0.05, (8, 128)).astype(np.float32)
source[1, :32] = 0
source[2, :32] = np.round(rng.normal(0, 40, 32)) / 127 * 1.5  # halves between two steps
source[3] *= 1e-6
source[4, 40:70] = source[4, 39]  # equal magnitudes: the first decides the sign
source[4, 41] = -source[4, 39]
source[5] *= 1e5
w.add_tensor("source", source)
for t in (T.F16, T.BF16, T.Q8_0, T.Q4_0):
    with np.errstate(over="ignore"):
        q = quantize(source, t)
    w.add_tensor("source." + t.name, q, raw_dtype=t)

w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
