#!/usr/bin/env python3
"""Writes testdata/: tiny random checkpoints and what a correct implementation must compute from them.

    python3 -m venv VENV && VENV/bin/pip install -r requirements.txt
    VENV/bin/python gen.py [OUT]        # OUT defaults to testdata/ beside this file; it is replaced

Seeded: a second run writes the same bytes. Takes under a minute on one core; needs no network once installed.

Every folder is a Hugging Face checkpoint directory (config.json, for hybrids mamba_config.json, weights in
safetensors) plus expected.safetensors, except tiny-distill and tiny-train, whose student is tiny-hybrid:

    tiny-hybrid       Mamba2 + attention, GQA: logits, hidden rows, the mixer's input and output, all gradients of CE
    tiny-pure         two Mamba2 layers, MHA shapes, tied embeddings, bf16 file: logits, all gradients of CE
    tiny-mqa          Mamba2 + attention, one KV head, d_inner and q width (32) below hidden_size (40): logits
    tiny-two-configs  Mamba blocks' eps and intermediate_size differ from the attention blocks': logits
    tiny-mamba1       Mamba1 + attention, training layout: logits, hidden rows, mixer, all gradients of CE
    tiny-mamba1-*     bf16 in the fused layout; the fused layout in Qwerky's words, with the convolution at key-value width: logits
    tiny-fused        Mamba2 with fused attention: logits
    tiny-wide         Mamba2 with repeat_kv_before_conv: logits
    mamba*            pure models without MLP, Transformers' and their authors' files: logits, all gradients of CE, through Transformers
    tiny-distill      teacher/ is an attention-only Llama; KL against it and the gradients of 1.0*KL + 0.1*CE
    tiny-train        ten AdamW steps of tiny-hybrid: losses, gradient norms, learning rates, final weights
    conv-linear       an attention-only teacher: what its layer 0 must compute right after conversion (linear attention)
    llama-*, mistral-window, qwen2, qwen3*, sharded, torch-*
                      teachers in the spellings found in the wild: logits through Transformers

Conventions. A batch is packed: `tokens` (rows) are the runs end to end, cut by `run_lengths`; positions restart at 0
in each run and nothing spans two runs. `targets` (rows) is the label OF THAT ROW (already shifted), -100 = not counted.
Sums are sums over counted rows, in nats. `grad.NAME` is the gradient with respect to the tensor NAME of the file (a
tied embedding's holds both uses).

The hybrids are computed by the loops below, token by token and head by head in float64 from the rounded weights of the
file, with no library layer. The loops are then held against Transformers: the mixer against Zamba2MambaMixer, the
attention model against LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM, the optimiser against torch.optim.
"""

import json
import math
import shutil
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Mamba2Config, MambaConfig, Zamba2Config
from transformers import logging as transformers_logging
from transformers.models.zamba2.modeling_zamba2 import Zamba2MambaMixer

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "testdata")
VOCAB = 61
f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


# ---------------------------------------------------------------- configurations and weights

def llama_config(**over):
    """config.json of a two-layer attention-only Llama, GQA; `over` replaces keys, None removes them."""
    c = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCAB,
        "hidden_act": "silu",
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    c.update(over)
    return {k: v for k, v in c.items() if v is not None or k == "rope_scaling" and k not in over}


def mamba_config(c, attn_layers, **over):
    """mamba_config.json beside config c, with the fields of the published files."""
    H, K, p = shape(c)
    m = {
        "d_model": c["hidden_size"],
        "ssm_cfg": {"expand": 1, "ngroups": H, "d_state": p},
        "rms_norm_eps": c["rms_norm_eps"],
        "vocab_size": None,
        "d_inner": H * p,
        "d_xb": K * p,
        "intermediate_size": c["intermediate_size"],
        "hidden_act": "silu",
        "n_layer": c["num_hidden_layers"],
        "attn_layers": attn_layers,
    }
    m.update(over)
    return m


def shape(c):
    """(heads, KV heads, head_dim)"""
    H = c["num_attention_heads"]
    return H, c.get("num_key_value_heads") or H, c.get("head_dim") or c["hidden_size"] // H


def rng(name):
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def make_weights(name, c, m=None, dtype=f32, qkv_bias=False):
    """Random weights of the file, large enough that every part of the model shows in the logits."""
    g = rng(name)
    d, V = c["hidden_size"], c["vocab_size"]
    H, K, p = shape(c)
    w = {}

    def linear(key, out, inn, bias=False, gain=1.2):
        w[key + ".weight"] = g.normal(0, gain / math.sqrt(inn), (out, inn))
        if bias:
            w[key + ".bias"] = g.normal(0, 0.5, out)

    def norm(key, n):
        w[key + ".weight"] = g.normal(1, 0.2, n)

    tied = c["tie_word_embeddings"]
    w["model.embed_tokens.weight"] = g.normal(0, 0.4 if tied else 1, (V, d))
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        ff = c["intermediate_size"]
        norm(layer + "input_layernorm", d)
        if m and i not in m["attn_layers"]:
            ff = m["intermediate_size"]
            di, dxb = m["d_inner"], m["d_xb"]
            mix = layer + "mamba."
            if "ngroups" not in m["ssm_cfg"]:
                mamba1_weights(w, g, mix, c, m, linear)
            else:
                channels = 3 * di if m["ssm_cfg"].get("repeat_kv_before_conv") else di + 2 * dxb
                linear(mix + "in_proj", 2 * di + 2 * dxb + H, d)
                w[mix + "conv1d.weight"] = g.uniform(-0.5, 0.5, (channels, 1, 4))
                w[mix + "conv1d.bias"] = g.uniform(-0.5, 0.5, channels)
                tau = np.exp(g.uniform(math.log(1e-3), math.log(1e-1), H))
                tau[-1] = 2.0  # one head forgets at once: with A up to -16, decay down to e^-60 and less
                tau[0] = 0.5
                w[mix + "dt_bias"] = tau + np.log(-np.expm1(-tau))
                w[mix + "A_log"] = np.log(g.uniform(1, 16, H))
                w[mix + "D"] = g.normal(1, 0.5, H)
                norm(mix + "norm", di)
                linear(mix + "out_proj", d, di)
        else:
            att = layer + "self_attn."
            bias = c.get("attention_bias", False)
            linear(att + "q_proj", H * p, d, bias or qkv_bias, 1.8)
            linear(att + "k_proj", K * p, d, bias or qkv_bias, 1.8)
            linear(att + "v_proj", K * p, d, bias or qkv_bias)
            linear(att + "o_proj", d, H * p, bias)
            if c["model_type"] == "qwen3":
                norm(att + "q_norm", p)
                norm(att + "k_norm", p)
        norm(layer + "post_attention_layernorm", d)
        bias = c.get("mlp_bias", False)
        linear(layer + "mlp.gate_proj", ff, d, bias)
        linear(layer + "mlp.up_proj", ff, d, bias)
        linear(layer + "mlp.down_proj", d, ff, bias)
    norm("model.norm", d)
    if not tied:
        linear("lm_head", V, d, gain=2.0)
    return {k: torch.from_numpy(v).to(dtype) for k, v in w.items()}


def mamba1_weights(w, g, mix, c, m, linear):
    """The tensors of one Mamba1 mixer by their names in the training layout."""
    d, di, dxb = c["hidden_size"], m["d_inner"], m["d_xb"]
    rank, states = math.ceil(d / 16), m["ssm_cfg"].get("d_state", 16)
    for key, rows in (("in_proj_x", dxb), ("in_proj_z", di), ("B_proj", dxb), ("C_proj", di), ("dt_proj_down", rank)):
        linear(mix + key, rows, d)
    w[mix + "dt_proj.weight"] = g.uniform(-1, 1, (di, rank)) / math.sqrt(rank)
    tau = np.exp(g.uniform(math.log(1e-2), 0, di))
    w[mix + "dt_proj.bias"] = (tau + np.log(-np.expm1(-tau))) / 2  # the layer adds it twice
    channels = di if m["ssm_cfg"].get("repeat_kv_before_conv", True) else dxb
    w[mix + "conv1d.weight"] = g.uniform(-0.5, 0.5, (channels, 1, 4))
    w[mix + "conv1d.bias"] = g.uniform(-0.5, 0.5, channels)
    w[mix + "A_log"] = np.log(np.arange(1, states + 1) * g.uniform(0.7, 1.4, (di, states)))
    w[mix + "D"] = g.normal(1, 0.5, di)
    linear(mix + "out_proj", d, di)


def fuse(w, c):
    """The same weights under the names of the paper's inference code."""
    out = dict(w)
    for i in range(c["num_hidden_layers"]):
        for target, keys in (
            ("mha.in_proj", ["self_attn." + n + "_proj" for n in "qkv"]),
            ("mha.out_proj", ["self_attn.o_proj"]),
            ("mamba.in_proj", ["mamba." + n for n in ("in_proj_z", "in_proj_x", "B_proj", "C_proj", "dt_proj_down")]),
        ):
            keys = [f"model.layers.{i}.{k}.weight" for k in keys]
            if keys[0] in w:
                out[f"model.layers.{i}.{target}.weight"] = torch.cat([out.pop(k) for k in keys])
    return out


def cast(w, dtype, grad=False):
    return {k: v.to(dtype).clone().requires_grad_(grad) for k, v in w.items()}


def batch(name, run_lengths, targets=False):
    g = rng(name + " batch")
    rows = sum(run_lengths)
    b = {
        "tokens": torch.from_numpy(g.integers(0, VOCAB, rows)),
        "run_lengths": torch.tensor(run_lengths),
    }
    if targets:
        y = g.integers(0, VOCAB, rows)
        y[g.random(rows) < 0.2] = -100
        b["targets"] = torch.from_numpy(y)
    return b


# ---------------------------------------------------------------- the oracle

def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def mamba2(w, u, H, K, p):
    """One run through a Mamba2-in-Llama mixer: u (T, d) -> (T, d). w holds the mixer's tensors by short name."""
    di, dxb, r = H * p, K * p, H // K
    proj = u @ w["in_proj.weight"].T
    z, xbc, dt = proj.split([di, di + 2 * dxb, H], -1)
    conv = w["conv1d.weight"][:, 0]
    if len(conv) == 3 * di:  # repeat_kv_before_conv
        rows = [h // r * p + i for h in range(H) for i in range(p)]
        xbc = torch.cat([xbc[:, rows], xbc[:, dxb:][:, rows], xbc[:, 2 * dxb:]], 1)
        dxb, r = di, 1
    S = [u.new_zeros(p, p) for _ in range(H)]
    out = []
    for t in range(len(u)):
        c = w["conv1d.bias"]
        for k in range(4):
            if t - 3 + k >= 0:
                c = c + conv[:, k] * xbc[t - 3 + k]
        c = F.silu(c)
        row = []
        for h in range(H):
            kv = h // r
            x = c[kv * p:(kv + 1) * p]
            B = c[dxb + kv * p:dxb + (kv + 1) * p]
            C = c[2 * dxb + h * p:2 * dxb + (h + 1) * p]
            delta = F.softplus(dt[t, h] + w["dt_bias"][h])
            a = torch.exp(-torch.exp(w["A_log"][h]) * delta)
            S[h] = a * S[h] + delta * torch.outer(x, B)
            y = S[h] @ C + w["D"][h] * x
            y = y * F.silu(z[t, h * p:(h + 1) * p])
            row.append(rms_norm(y, w["norm.weight"][h * p:(h + 1) * p], 1e-5))
        out.append(torch.cat(row))
    return torch.stack(out) @ w["out_proj.weight"].T


def mamba1(w, u, di, dxb):
    """One run through a Mamba1-in-Llama mixer: u (T, d) -> (T, d), channel by channel as the released code pairs them."""
    N = w["A_log"].shape[1]
    x, z, B, C = (u @ w[n + ".weight"].T for n in ("in_proj_x", "in_proj_z", "B_proj", "C_proj"))
    delta = u @ w["dt_proj_down.weight"].T @ w["dt_proj.weight"].T + w["dt_proj.bias"]  # nn.Linear with its bias
    delta = F.softplus(delta + w["dt_proj.bias"])  # and the bias again
    source = [c // N // (di // dxb) * N + c % N for c in range(di)]  # the column of x for each channel
    before = len(w["conv1d.bias"]) == di  # repeat_kv_before_conv
    if before:
        x = x[:, source]
    conv = w["conv1d.weight"][:, 0]
    rows = []
    for t in range(len(u)):
        c = w["conv1d.bias"]
        for k in range(4):
            if t - 3 + k >= 0:
                c = c + conv[:, k] * x[t - 3 + k]
        rows.append(F.silu(c))
    x = torch.stack(rows)
    if not before:
        x = x[:, source]
    A = -torch.exp(w["A_log"])
    S = [u.new_zeros(N, N) for _ in range(di // N)]  # of each group of N channels: (channel, state)
    out = []
    for t in range(len(u)):
        row = []
        for g in range(di // N):
            ch = slice(g * N, (g + 1) * N)
            kv = g // (di // dxb)
            b, cc = B[t, kv * N:(kv + 1) * N], C[t, ch]
            decay = torch.exp(delta[t, ch, None] * A[ch])
            S[g] = decay * S[g] + (delta[t, ch] * x[t, ch])[:, None] * b[None, :]
            row.append(S[g] @ cc + w["D"][ch] * x[t, ch])
        out.append(torch.cat(row) * F.silu(z[t]))
    return torch.stack(out) @ w["out_proj.weight"].T


def rope_frequencies(c, p):
    """p/2 angles per position, float64."""
    s = c.get("rope_parameters") or c.get("rope_scaling") or {}
    theta = s.get("rope_theta") or c["rope_theta"]
    kind = s.get("rope_type") or s.get("type") or "default"
    out = []
    for i in range(p // 2):
        f = theta ** (-2 * i / p)
        if kind == "linear":
            f /= s["factor"]
        elif kind == "llama3":
            orig, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
            wavelength = 2 * math.pi / f
            if wavelength > orig / low:
                f /= s["factor"]
            elif wavelength > orig / high:
                smooth = (orig / wavelength - low) / (high - low)
                f = (1 - smooth) * f / s["factor"] + smooth * f
        else:
            assert kind == "default", kind
        out.append(f)
    return torch.tensor(out, dtype=f64)


def attention(w, u, c, window):
    """One run through softmax attention: u (T, d) -> (T, d)."""
    H, K, p = shape(c)
    T = len(u)

    def project(name, heads):
        y = u @ w[name + "_proj.weight"].T
        if name + "_proj.bias" in w:
            y = y + w[name + "_proj.bias"]
        return y.view(T, heads, p)

    angle = torch.outer(torch.arange(T, dtype=f64), rope_frequencies(c, p))
    cos, sin = angle.cos().to(u.dtype)[:, None], angle.sin().to(u.dtype)[:, None]

    def rotate(y):
        a, b = y[..., :p // 2], y[..., p // 2:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    q, k, v = project("q", H), project("k", K), project("v", K)
    if "q_norm.weight" in w:
        q, k = (rms_norm(y, w[n + "_norm.weight"], c["rms_norm_eps"]) for n, y in (("q", q), ("k", k)))
    q, k = rotate(q), rotate(k)
    out = []
    for t in range(T):
        first = max(0, t - window + 1) if window else 0
        row = []
        for h in range(H):
            kv = h // (H // K)
            score = k[first:t + 1, kv] @ q[t, h] / math.sqrt(p)
            row.append(torch.softmax(score, 0) @ v[first:t + 1, kv])
        out.append(torch.cat(row))
    y = torch.stack(out) @ w["o_proj.weight"].T
    return y + w["o_proj.bias"] if "o_proj.bias" in w else y


def mlp(w, x):
    def linear(name, x):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y
    return linear("down_proj", F.silu(linear("gate_proj", x)) * linear("up_proj", x))


def under(w, prefix):
    return {k[len(prefix):]: v for k, v in w.items() if k.startswith(prefix)}


def forward(w, c, m, b, trace=None):
    """(rows after the final norm, logits) of a packed batch. m is None for an attention-only model."""
    lengths = b["run_lengths"].tolist()
    window = c.get("sliding_window") if c.get("use_sliding_window", True) else None
    x = w["model.embed_tokens.weight"][b["tokens"]]
    for i in range(c["num_hidden_layers"]):
        lw = under(w, f"model.layers.{i}.")
        is_mamba = m and i not in m["attn_layers"]
        eps = (m if is_mamba else c)["rms_norm_eps"]
        u = rms_norm(x, lw["input_layernorm.weight"], eps)
        if is_mamba:
            mw = under(lw, "mamba.")
            one = (lambda run: mamba2(mw, run, *shape(c))) if "dt_bias" in mw else (lambda run: mamba1(mw, run, m["d_inner"], m["d_xb"]))
            mix = torch.cat([one(run) for run in u.split(lengths)])
            if trace is not None:
                trace[f"mixer.{i}.in"], trace[f"mixer.{i}.out"] = u.detach(), mix.detach()
        else:
            mix = torch.cat([attention(under(lw, "self_attn."), run, c, window) for run in u.split(lengths)])
        x = x + mix
        x = x + mlp(under(lw, "mlp."), rms_norm(x, lw["post_attention_layernorm.weight"], eps))
    hidden = rms_norm(x, w["model.norm.weight"], c["rms_norm_eps"])
    head = w["model.embed_tokens.weight"] if c["tie_word_embeddings"] else w["lm_head.weight"]
    return hidden, hidden @ head.T


def ce_sum(logits, targets):
    rows = (targets >= 0).nonzero()[:, 0]
    return -torch.log_softmax(logits[rows], -1)[torch.arange(len(rows)), targets[rows]].sum()


def kl_sum(p_logits, q_logits, targets):
    """Sum over counted rows of KL(p || q)."""
    rows = targets >= 0
    p, q = torch.log_softmax(p_logits[rows], -1), torch.log_softmax(q_logits[rows], -1)
    return (p.exp() * (p - q)).sum()


def grads(loss, w):
    return {"grad." + k: g for k, g in zip(w, torch.autograd.grad(loss, list(w.values())))}


# ---------------------------------------------------------------- files

def write_config(dir, c, m=None):
    dir.mkdir(parents=True, exist_ok=True)
    for name, conf in (("config.json", c), ("mamba_config.json", m)):
        if conf is not None:
            (dir / name).write_text(json.dumps(conf, indent=2) + "\n")


def write_tensors(path, tensors, metadata=None):
    """F64, F32, F16, BF16 and I64 tensors; the order in the file depends on names and dtypes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, metadata)


def write_model(dir, c, m, w):
    write_config(dir, c, m)
    write_tensors(dir / "model.safetensors", w, {"format": "pt"})


def check(what, a, b, tolerance, relative=False):
    a, b = a.detach().double(), b.detach().double()
    d = (a - b).abs().max().item()
    if relative:
        d /= b.abs().max().item()
    print(f"  check {what:58s} {d:.1e}  (limit {tolerance:.0e})")
    assert d <= tolerance, what


float32_error = {}


def note(folder, name, got, want):
    """Records how far the same loops land in float32: largest error over the tensor's largest value."""
    scale = want.abs().max().item()
    err = (got.detach().double() - want).abs().max().item() / (scale or 1)
    key = (folder, "grad.*" if name.startswith("grad.") else "final.*" if name.startswith("final.") else name)
    float32_error[key] = max(float32_error.get(key, 0), err)


# ---------------------------------------------------------------- cross-checks of the mixer

def check_zamba(name, w, c, m):
    """The loop of mamba2 against Transformers' Zamba2MambaMixer after repeating each KV head's rows r times."""
    H, K, p = shape(c)
    d, di, dxb, r = c["hidden_size"], m["d_inner"], m["d_xb"], H // K
    conf = Zamba2Config(
        hidden_size=di, mamba_expand=1, n_mamba_heads=H, mamba_ngroups=H, mamba_d_state=p, mamba_d_conv=4,
        chunk_size=8, time_step_min=0.0, add_bias_linear=False, num_hidden_layers=2, num_attention_heads=2,
        layers_block_type=["mamba", "mamba"])
    mixer = Zamba2MambaMixer(conf, layer_idx=0).eval().to(f32)
    assert mixer.intermediate_size == di and mixer.head_dim == p
    mixer.in_proj = torch.nn.Linear(d, 4 * di + H, bias=False)  # Zamba2 has no hidden_size beside d_inner / expand
    mixer.out_proj = torch.nn.Linear(di, d, bias=False)

    def repeat(t, interleaved=True):  # (dxb, ...) -> (di, ...)
        heads = t.view(K, p, *t.shape[1:])
        heads = heads.repeat_interleave(r, 0) if interleaved else torch.cat([heads] * r)
        return heads.reshape(di, *t.shape[1:])

    def expand(t, lead, **kw):  # rows [lead z][dxb x][dxb B][rest]
        z, x, B, rest = t.split([lead, dxb, dxb, len(t) - lead - 2 * dxb])
        return torch.cat([z, repeat(x, **kw), repeat(B, **kw), rest])

    for layer in range(c["num_hidden_layers"]):
        if layer in m["attn_layers"]:
            continue
        mw = under(w, f"model.layers.{layer}.mamba.")
        u = torch.from_numpy(rng(name + " zamba").normal(0, 1, (41, d))).to(f32)
        want = mamba2(cast(mw, f64), u.double(), H, K, p)
        for interleaved in (True, False):
            state = {k: v.to(f32) for k, v in mw.items()}
            state["in_proj.weight"] = expand(state["in_proj.weight"], di, interleaved=interleaved)
            state["conv1d.weight"] = expand(state["conv1d.weight"], 0, interleaved=interleaved)
            state["conv1d.bias"] = expand(state["conv1d.bias"], 0, interleaved=interleaved)
            mixer.load_state_dict(state, strict=True)
            with torch.no_grad():
                got = mixer(u[None])[0]
            if interleaved:
                check(f"{name} layer {layer} mixer = Zamba2MambaMixer", got, want, 1e-5, relative=True)
            elif 1 < K < H:
                assert (got.double() - want).abs().max() > 0.1, "tiled pairing must differ"


# ---------------------------------------------------------------- folders

def make_hybrid():
    """tiny-hybrid, and what is built on it: tiny-distill and tiny-train."""
    c = llama_config(_name_or_path="nobody/no-such-base-model")
    m = mamba_config(c, [1])
    w = make_weights("tiny-hybrid f", c, m)  # of eight seeds, one whose gradients float32 can follow
    write_model(OUT / "tiny-hybrid", c, m, w)
    b = batch("tiny-hybrid", [37, 1, 26], targets=True)
    b["targets"][36] = b["targets"][63] = -100  # the last rows of the long runs have no next token
    b["targets"][37] = 5  # the run of one row counts
    counted = (b["targets"] >= 0).sum().item()

    tc = llama_config()
    teacher = make_weights("tiny-distill teacher", tc)
    write_model(OUT / "tiny-distill" / "teacher", tc, None, teacher)

    def compute(dtype):
        e, e_distill = {}, {}
        p = cast(w, dtype, grad=True)
        hidden, logits = forward(p, c, m, b, trace=e)
        ce = ce_sum(logits, b["targets"])
        e.update(hidden=hidden, logits=logits, ce_sum=ce)
        teacher_logits = forward(cast(teacher, dtype), tc, None, b)[1]
        kl = kl_sum(teacher_logits, logits, b["targets"])
        e_distill.update(teacher_logits=teacher_logits, ce_sum=ce, kl_sum=kl,
                         kl_reverse_sum=kl_sum(logits, teacher_logits, b["targets"]))
        g_ce = dict(zip(p, torch.autograd.grad(ce, list(p.values()), retain_graph=True)))
        g_kl = dict(zip(p, torch.autograd.grad(kl, list(p.values()))))
        e.update({"grad." + k: g_ce[k] for k in p})
        e_distill.update({"grad." + k: 1.0 * g_kl[k] + 0.1 * g_ce[k] for k in p})
        return e, e_distill

    want, want_distill = compute(f64)
    got, got_distill = compute(f32)
    for folder, a, z in (("tiny-hybrid", got, want), ("tiny-distill", got_distill, want_distill)):
        for k in z:
            note(folder, k, a[k], z[k])
        write_tensors(OUT / folder / "expected.safetensors", {**b, **z})
    check_hf("tiny-distill/teacher", OUT / "tiny-distill" / "teacher", tc, teacher)
    check_zamba("tiny-hybrid", w, c, m)

    def train(dtype):
        steps, warmup, peak, beta1, beta2, eps, decay, clip = 10, 3, 1e-2, 0.9, 0.95, 1e-8, 0.1, 1.0
        p = cast(w, dtype, grad=True)
        decayed = [k for k in p if p[k].ndim >= 2 and not k.endswith("conv1d.weight")]
        # torch's own optimiser walks along, fed the same gradients.
        q = cast(w, dtype)
        other = torch.optim.AdamW(
            [{"params": [q[k] for k in p if k in decayed], "weight_decay": decay},
             {"params": [q[k] for k in p if k not in decayed], "weight_decay": 0.0}],
            betas=(beta1, beta2), eps=eps, foreach=False)
        first, second = ({k: torch.zeros_like(v) for k, v in p.items()} for _ in range(2))
        losses, norms, rates = [], [], []
        for s in range(steps):
            lr = peak * ((s + 1) / warmup if s < warmup else
                         0.5 * (1 + math.cos(math.pi * (s - warmup) / (steps - warmup))))
            loss = ce_sum(forward(p, c, m, b)[1], b["targets"]) / counted
            g = dict(zip(p, torch.autograd.grad(loss, list(p.values()))))
            norm = torch.sqrt(sum((v * v).sum() for v in g.values()))
            scale = min(1.0, clip / (norm.item() + 1e-6))
            with torch.no_grad():
                for k, v in p.items():
                    gk = g[k] * scale
                    q[k].grad = gk.clone()
                    first[k] = beta1 * first[k] + (1 - beta1) * gk
                    second[k] = beta2 * second[k] + (1 - beta2) * gk * gk
                    m_hat = first[k] / (1 - beta1 ** (s + 1))
                    v_hat = second[k] / (1 - beta2 ** (s + 1))
                    if k in decayed:
                        v *= 1 - lr * decay
                    v -= lr * m_hat / (v_hat.sqrt() + eps)
            for group in other.param_groups:
                group["lr"] = lr
            other.step()
            losses.append(loss.item())
            norms.append(norm.item())
            rates.append(lr)
        check(f"tiny-train {dtype} = torch.optim.AdamW", torch.cat([v.flatten() for v in p.values()]),
              torch.cat([v.flatten() for v in q.values()]), 1e-12 if dtype == f64 else 1e-5)
        e = {k: torch.tensor(v, dtype=f64) for k, v in (("losses", losses), ("grad_norms", norms), ("lr", rates))}
        e.update({"final." + k: v for k, v in p.items()})
        return e

    want, got = train(f64), train(f32)
    assert want["losses"][-1] < 0.8 * want["losses"][0]
    for k in want:
        note("tiny-train", k, got[k], want[k])
    write_tensors(OUT / "tiny-train" / "expected.safetensors", {**b, **want})


def make_pure():
    c = llama_config(hidden_size=48, num_attention_heads=3, num_key_value_heads=3, tie_word_embeddings=True,
                     torch_dtype="bfloat16", _name_or_path="nobody/no-such-base-model")
    m = mamba_config(c, [])
    w = make_weights("tiny-pure g", c, m, bf16)  # chosen like tiny-hybrid's
    write_model(OUT / "tiny-pure", c, m, w)
    b = batch("tiny-pure", [50, 19], targets=True)

    def compute(dtype):
        p = cast(w, dtype, grad=True)
        logits = forward(p, c, m, b)[1]
        ce = ce_sum(logits, b["targets"])
        return {"logits": logits, "ce_sum": ce, **grads(ce, p)}

    want, got = compute(f64), compute(f32)
    for k in want:
        note("tiny-pure", k, got[k], want[k])
    write_tensors(OUT / "tiny-pure" / "expected.safetensors", {**b, **want})
    check_zamba("tiny-pure", w, c, m)


def make_logits_only(name, c, m, dtype=f32, written=None, files=None):
    """`written` turns the weights into what the file holds, `files` writes c, m into the folder."""
    w = make_weights(name, c, m, dtype)
    write_model(OUT / name, c, m, written(w, c) if written else w)
    if files:
        for f in OUT.joinpath(name).glob("*config.json"):
            f.unlink()
        files(OUT / name)
    b = batch(name, [33, 5])
    want = forward(cast(w, f64), c, m, b)[1]
    note(name, "logits", forward(cast(w, f32), c, m, b)[1], want)
    write_tensors(OUT / name / "expected.safetensors", {**b, "logits": want})
    if "ngroups" in m["ssm_cfg"] and "repeat_kv_before_conv" not in m["ssm_cfg"]:
        check_zamba(name, w, c, m)


def make_mamba1():
    """Mamba1 hybrids: two 32-wide heads of the teacher are four groups of 16 channels, paired as released."""
    def config(**over):
        return llama_config(**{"hidden_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, **over})

    def mamba(c, **ssm):
        return mamba_config(c, [1], ssm_cfg={"expand": 1, **ssm})

    c = config()
    m = mamba(c)
    w = make_weights("tiny-mamba1", c, m)
    write_model(OUT / "tiny-mamba1", c, m, w)
    b = batch("tiny-mamba1", [41, 1, 17], targets=True)

    def compute(dtype):
        e = {}
        p = cast(w, dtype, grad=True)
        hidden, logits = forward(p, c, m, b, trace=e)
        ce = ce_sum(logits, b["targets"])
        return {**e, "hidden": hidden, "logits": logits, "ce_sum": ce, **grads(ce, p)}

    want, got = compute(f64), compute(f32)
    for k in want:
        note("tiny-mamba1", k, got[k], want[k])
    write_tensors(OUT / "tiny-mamba1" / "expected.safetensors", {**b, **want})

    c = config(num_attention_heads=4, num_key_value_heads=2, head_dim=16, torch_dtype="bfloat16")
    make_logits_only("tiny-mamba1-fused", c, mamba(c, d_state=8), bf16, fuse)

    # The same layout in Qwerky's words, with the convolution at key-value width: only the tensor's shape says so.
    c = config(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    narrow = mamba(c, d_state=4, repeat_kv_before_conv=False)

    def qwerky(dir):
        write_config(dir, {**c, "model_type": "qwerky_llama_mamba_hybrid", "attention_layers": [1]}, {
            "d_model": 40, "mamba_intermediate_size": 32, "d_xb": 16, "ssm_config": {"expand": 1}, "ssm_state_size": 4, "d_conv": 4,
            "mamba_version": "Mamba1", "num_heads": 4, "head_dim": 8, "n_groups": 2, "intermediate_size": c["intermediate_size"],
            "rms_norm_eps": c["rms_norm_eps"], "hidden_act": "silu", "n_layer": 2, "vocab_size": None})

    make_logits_only("tiny-mamba1-narrow", c, narrow, f32, fuse, qwerky)

    c = llama_config()
    make_logits_only("tiny-fused", c, mamba_config(c, [0]), f32, fuse)
    make_logits_only("tiny-wide", c, mamba_config(
        c, [0], ssm_cfg={"expand": 1, "ngroups": 4, "d_state": 8, "repeat_kv_before_conv": True}))


def hf_logits(dir, tokens):
    model, info = AutoModelForCausalLM.from_pretrained(
        dir, dtype=f64, attn_implementation="eager", output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        return model.eval()(tokens[None], use_cache=False).logits[0].double()


def check_hf(name, dir, c, w, seed=None):
    """A model written in c's spelling, read by Transformers, against the loops; returns (batch, both logits)."""
    b = batch(seed or name, [40])
    ours, theirs = forward(cast(w, f64), c, None, b)[1], hf_logits(dir, b["tokens"])
    # Transformers keeps norms, softmax and rotary angles in float32 even in a float64 model.
    check(f"{name} loops = Transformers", ours, theirs, 1e-5)
    return b, ours, theirs


def make_llama(name, c, dtype=f32, qkv_bias=False, weights=None, files=None):
    """One teacher. `weights`: seed of weights and tokens, where two folders share them; `files` writes the weights."""
    w = make_weights(weights or name, c, None, dtype, qkv_bias)
    dir = OUT / name
    write_config(dir, c)
    (files or (lambda dir, w: write_tensors(dir / "model.safetensors", w, {"format": "pt"})))(dir, w)
    b, ours, theirs = check_hf(name, dir, c, w, weights)
    note(name, "logits", forward(cast(w, f32), c, None, b)[1], theirs)
    write_tensors(dir / "expected.safetensors", {**b, "logits": theirs})
    return b, ours


def write_shards(dir, w):
    names, shards = sorted(w), 3
    weight_map = {}
    for s in range(shards):
        file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
        part = names[len(names) * s // shards:len(names) * (s + 1) // shards]
        write_tensors(dir / file, {k: w[k] for k in part}, {"format": "pt"})
        weight_map.update({k: file for k in part})
    total = sum(v.numel() * v.element_size() for v in w.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (dir / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_bin(dir, w):
    """torch.save of a module's state: an OrderedDict of Parameters, one of them a transposed view, two of them one storage."""
    state = OrderedDict((k, torch.nn.Parameter(v, requires_grad=False)) for k, v in w.items())
    q = "model.layers.0.self_attn.q_proj.weight"
    state[q] = w[q].T.contiguous().T
    assert not state[q].is_contiguous()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    state._metadata = OrderedDict({"": {"version": 1}})
    torch.save(state, dir / "pytorch_model.bin")


def write_bin_shards(dir, w):
    names, shards = sorted(w), 2
    weight_map = {}
    for s in range(shards):
        file = f"pytorch_model-{s + 1:05d}-of-{shards:05d}.bin"
        part = names[len(names) * s // shards:len(names) * (s + 1) // shards]
        torch.save({k: w[k].to(bf16 if s else f32) for k in part}, dir / file)
        weight_map.update({k: file for k in part})
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (dir / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_backbone(name, conf, dtype, spell):
    """A pure model of Mamba's authors: weights drawn here, everything else Transformers' own CPU path in float64 (with its casts to
    float32 of A, dt and norms). `spell` turns config.json and the weights into what the folder holds."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(conf).to(f64).eval()
    g = rng(name)
    tied = conf.tie_word_embeddings
    w = {}
    for key, v in model.state_dict().items():
        if tied and key == "lm_head.weight":
            continue
        shape, last = tuple(v.shape), key.split(".mixer.")[-1]
        if last == "A_log":
            x = np.log(np.arange(1, shape[-1] + 1) * g.uniform(0.7, 1.4, shape))
        elif last == "dt_bias" or last == "dt_proj.bias":
            tau = np.exp(g.uniform(math.log(1e-2), 0, shape))
            x = tau + np.log(-np.expm1(-tau))
        elif last == "D" or "norm" in key:
            x = g.normal(1, 0.3, shape)
        elif key.endswith("bias"):
            x = g.normal(0, 0.3, shape)
        else:
            x = g.normal(0, (2 if tied else 1.2) / math.sqrt(shape[-1]), shape)
        w[key] = torch.from_numpy(x).to(dtype)
    model.load_state_dict({**w, **({"lm_head.weight": w["backbone.embeddings.weight"]} if tied else {})})
    dir = OUT / name
    dir.mkdir(parents=True)
    spell(dir, json.loads(conf.to_json_string(use_diff=False)), w)
    b = batch(name, [21, 1, 9], targets=True)
    logits = torch.cat([model(run[None], use_cache=False).logits[0] for run in b["tokens"].split(b["run_lengths"].tolist())]).double()
    ce = ce_sum(logits, b["targets"])
    ce.backward()
    params = dict(model.named_parameters())
    write_tensors(dir / "expected.safetensors", {**b, "logits": logits, "ce_sum": ce, **{"grad." + k: params[k].grad for k in w}})


def make_backbones():
    keep = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "state_size", "expand", "conv_kernel", "n_groups", "num_heads",
            "head_dim", "intermediate_size", "time_step_rank", "time_step_limit", "layer_norm_epsilon", "use_bias", "use_conv_bias",
            "hidden_act", "tie_word_embeddings", "residual_in_fp32", "bos_token_id", "eos_token_id", "transformers_version")

    def hub(dir, c, w):
        write_config(dir, {"architectures": ["MambaForCausalLM" if c["model_type"] == "mamba" else "Mamba2ForCausalLM"],
                           **{k: c[k] for k in keep if k in c}})
        write_tensors(dir / "model.safetensors", w, {"format": "pt"})

    def older(dir, c, w):  # Transformers before 5 wrote a bare Infinity
        hub(dir, {**c, "time_step_limit": [0.0, float("inf")]}, w)

    def authors(dir, c, w):  # mamba_ssm's own files: another config.json, torch.save, the head beside the embedding
        ssm = {"layer": "Mamba2", "headdim": c["head_dim"], "d_state": c["state_size"]} if c["model_type"] == "mamba2" else {}
        write_config(dir, {"d_model": c["hidden_size"], "n_layer": c["num_hidden_layers"], "vocab_size": c["vocab_size"] - 3, "ssm_cfg": ssm,
                           "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16})
        w = {k.replace("embeddings", "embedding"): v for k, v in w.items()}
        torch.save({**w, "lm_head.weight": w["backbone.embedding.weight"]}, dir / "pytorch_model.bin")

    small = dict(hidden_size=32, num_hidden_layers=2, vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    two = dict(state_size=8, head_dim=16, num_heads=4, chunk_size=8)
    make_backbone("mamba2-groups", Mamba2Config(**small, **two, n_groups=2, use_bias=True, tie_word_embeddings=False), f32, hub)
    make_backbone("mamba2-tied", Mamba2Config(**small, **two, n_groups=1, layer_norm_epsilon=1e-6, tie_word_embeddings=True), bf16, older)
    make_backbone("mamba", MambaConfig(**small, state_size=5, use_bias=True, time_step_rank=3), f32, hub)
    padded = {**small, "vocab_size": 64}
    make_backbone("mamba2-authors", Mamba2Config(**padded, **two, n_groups=1, tie_word_embeddings=True), f32, authors)
    make_backbone("mamba-authors", MambaConfig(**padded), f32, authors)


def make_llamas():
    def matters(name, c, b, ours, **plain):
        """The feature under test must move the logits: the same weights without it differ."""
        w = {k: v.double() for k, v in load_file(OUT / name / "model.safetensors").items()}
        d = (forward(w, {**c, **plain}, None, b)[1] - ours).abs().max().item()
        print(f"  matters {name:56s} {d:.1e}")
        assert d > 0.1, name

    tied = llama_config(tie_word_embeddings=True)
    make_llama("llama-gqa", tied)
    make_llama("sharded", tied, weights="llama-gqa", files=write_shards)
    make_llama("llama-mqa-bf16", llama_config(num_key_value_heads=1, torch_dtype="bfloat16"), bf16)
    make_llama("torch-bin", tied, weights="llama-gqa", files=write_bin)
    make_llama("torch-shards", llama_config(torch_dtype="bfloat16"), bf16, files=write_bin_shards)
    make_llama("llama-f16", llama_config(num_key_value_heads=4, torch_dtype="float16"), f16)
    make_llama("llama-headdim", llama_config(head_dim=12))
    make_llama("llama-bias", llama_config(attention_bias=True, mlp_bias=True))

    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    for key in ("rope_type", "type"):
        c = llama_config(rope_scaling={**llama3, key: "llama3"})
        matters("llama-rope3-" + key, c, *make_llama("llama-rope3-" + key, c, weights="llama-rope3"), rope_scaling=None)
    c = llama_config(rope_scaling={"type": "linear", "factor": 4.0})
    matters("llama-linear", c, *make_llama("llama-linear", c), rope_scaling=None)

    for a, z in (("llama-gqa", "sharded"), ("llama-gqa", "torch-bin"), ("llama-rope3-rope_type", "llama-rope3-type")):
        a, z = (load_file(OUT / f / "expected.safetensors") for f in (a, z))
        assert all(torch.equal(a[k], z[k]) for k in a)

    # Two heads of 16: the wavelengths fall in all three bands of llama3 scaling.
    c = llama_config(
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, rope_theta=None, rope_scaling=None, torch_dtype=None,
        dtype="float32", transformers_version="5.24.0", use_cache=True,
        rope_parameters={**llama3, "original_max_position_embeddings": 64, "rope_theta": 2000.0, "rope_type": "llama3"})
    b, ours = make_llama("llama-rope_parameters", c)
    matters("llama-rope_parameters", c, b, ours, rope_parameters={"rope_theta": 2000.0})
    matters("llama-rope_parameters", c, b, ours, rope_parameters={**c["rope_parameters"], "rope_theta": 10000.0})

    c = llama_config(architectures=["MistralForCausalLM"], model_type="mistral", sliding_window=8, torch_dtype="bfloat16",
                     attention_bias=None, mlp_bias=None)
    matters("mistral-window", c, *make_llama("mistral-window", c, bf16), sliding_window=None)

    # sliding_window is there but switched off.
    c = llama_config(architectures=["Qwen2ForCausalLM"], model_type="qwen2", attention_bias=None, mlp_bias=None,
                     rms_norm_eps=1e-6, use_sliding_window=False, sliding_window=8, max_window_layers=2,
                     tie_word_embeddings=True)
    matters("qwen2", c, *make_llama("qwen2", c, qkv_bias=True), use_sliding_window=True)

    # head_dim is not hidden_size / heads; the file is written the way Transformers' save_pretrained spells special floats.
    c = llama_config(architectures=["Qwen3ForCausalLM"], model_type="qwen3", attention_bias=False, mlp_bias=None,
                     rms_norm_eps=1e-6, head_dim=12, use_sliding_window=False, sliding_window=None, max_window_layers=2,
                     torch_dtype="bfloat16", layer_types=["full_attention", "full_attention"])
    make_llama("qwen3", c, bf16)
    c = llama_config(architectures=["Qwen3ForCausalLM"], model_type="qwen3", attention_bias=True, mlp_bias=None,
                     rms_norm_eps=1e-6, head_dim=8, tie_word_embeddings=True, rope_theta=1000000.0,
                     router_limit=float("inf"), router_floor=float("-inf"), router_nothing=float("nan"))
    make_llama("qwen3-bias", c)


def make_linear():
    """Section "init mapping": with conv = identity, no SiLU, Delta = 1, A = 0, D = 0, gate = 1 and no norm, the converted
    layer is the teacher's causal linear attention, without RoPE, scale and softmax."""
    c = llama_config()
    w = make_weights("conv-linear", c)
    write_model(OUT / "conv-linear", c, None, w)
    H, K, p = shape(c)
    u = torch.from_numpy(rng("conv-linear u").normal(0, 1, (23, c["hidden_size"])))

    def linear(dtype, pair):
        att = under(cast(w, dtype), "model.layers.0.self_attn.")
        x = u.to(dtype)
        q, k, v = ((x @ att[n + "_proj.weight"].T).view(len(u), -1, p) for n in "qkv")
        rows = [torch.cat([sum((q[t, h] @ k[j, pair(h)]) * v[j, pair(h)] for j in range(t + 1)) for h in range(H)])
                for t in range(len(u))]
        return torch.stack(rows) @ att["o_proj.weight"].T

    want, tiled = linear(f64, lambda h: h // (H // K)), linear(f64, lambda h: h % K)
    assert (want - tiled).abs().max() > 1
    # The same as a state: S += v k', y = S q.
    att = under(cast(w, f64), "model.layers.0.self_attn.")
    q, k, v = ((u @ att[n + "_proj.weight"].T).view(len(u), -1, p) for n in "qkv")
    y = [torch.einsum("jp,jn,tn->tp", v[:, h // 2], k[:, h // 2], q[:, h]) for h in range(H)]
    check("conv-linear last row = state form", torch.cat([r[-1] for r in y]) @ att["o_proj.weight"].T, want[-1], 1e-10)
    note("conv-linear", "linear_attention_out", linear(f32, lambda h: h // (H // K)), want)
    write_tensors(OUT / "conv-linear" / "expected.safetensors",
                  {"u": u, "linear_attention_out": want, "tiled_out": tiled})


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    make_hybrid()
    make_pure()
    make_logits_only("tiny-mqa", *(lambda c: (c, mamba_config(c, [1])))(
        llama_config(hidden_size=40, num_key_value_heads=1, head_dim=8)))
    make_logits_only("tiny-two-configs", *(lambda c: (c, mamba_config(c, [1], rms_norm_eps=1e-5, intermediate_size=56)))(
        llama_config(rms_norm_eps=0.1)))
    make_mamba1()
    make_backbones()
    make_llamas()
    make_linear()
    print("error of the same loops in float32, over the tensor's largest value:")
    for (folder, name), err in float32_error.items():
        print(f"  {folder:24s} {name:24s} {err:.1e}")


if __name__ == "__main__":
    main()
