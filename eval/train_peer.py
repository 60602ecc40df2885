# Times the training step of `krait bench --tests train2048` in PyTorch eager, float32, and then krait's own, for the ratio of the two in the
# same minutes: distillation (KL to a teacher of the same shape, and cross-entropy) of a hybrid of SmolLM2-135M's shape whose even layers are
# Mamba2, one run of tokens, AdamW. The scan is the chunked form of the Mamba2 paper's listing, attention PyTorch's fused one.
# Usage: python train_peer.py KRAIT [--tokens 2048] [--threads N] [--steps 3]. Needs torch (measured with 2.9). Prints one JSON object.
import argparse
import json
import resource
import subprocess
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

HIDDEN, LAYERS, HEADS, KV, MLP, VOCAB, WIDTH, CONV, CHUNK = 576, 30, 9, 3, 1536, 49152, 64, 4, 64


def linear(i, o):
    return nn.Linear(i, o, bias=False)


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = linear(HIDDEN, HIDDEN), linear(HIDDEN, KV * WIDTH), linear(HIDDEN, KV * WIDTH)
        self.o = linear(HIDDEN, HIDDEN)

    def forward(self, x, cos, sin):
        t = x.shape[0]
        q, k, v = (f(x).view(t, -1, WIDTH).transpose(0, 1) for f in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(HEADS // KV, 0) for y in (k, v))
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        return self.o(y.transpose(0, 1).reshape(t, HIDDEN))


def segsum(x):
    n = x.shape[-1]
    c = x.cumsum(-1)
    return (c[..., :, None] - c[..., None, :]).masked_fill(~torch.ones(n, n, dtype=torch.bool).tril(), -torch.inf)


def ssd(x, a, b, c):  # x (t, h, p) times Δ, a (t, h), b and c (t, h, n)
    x, b, c = (y.view(-1, CHUNK, HEADS, y.shape[-1]) for y in (x, b, c))
    a = a.view(-1, CHUNK, HEADS).permute(2, 0, 1)  # h c l
    sums = a.cumsum(-1)
    y = torch.einsum("clhn,cshn,hcls,cshp->clhp", c, b, torch.exp(segsum(a)), x)
    states = torch.einsum("clhn,hcl,clhp->chpn", b, torch.exp(sums[:, :, -1:] - sums), x)
    states = torch.cat((torch.zeros_like(states[:1]), states))
    decay = torch.exp(segsum(F.pad(sums[:, :, -1], (1, 0))))
    states = torch.einsum("hzc,chpn->zhpn", decay, states)[:-1]
    return (y + torch.einsum("clhn,chpn,hcl->clhp", c, states, torch.exp(sums))).reshape(-1, HEADS, WIDTH)


class Mamba2(nn.Module):
    def __init__(self):
        super().__init__()
        self.channels = 2 * KV * WIDTH + HEADS * WIDTH
        self.inp, self.out = linear(HIDDEN, HIDDEN + self.channels + HEADS), linear(HIDDEN, HIDDEN)
        self.conv = nn.Conv1d(self.channels, self.channels, CONV, groups=self.channels, padding=CONV - 1)
        self.dt, self.a, self.d = (nn.Parameter(torch.zeros(HEADS)) for _ in range(3))
        self.norm = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x, *_):
        t = x.shape[0]
        z, xbc, dt = self.inp(x).split((HIDDEN, self.channels, HEADS), -1)
        xbc = F.silu(self.conv(xbc.t()[None])[0, :, :t].t())
        u, b, c = xbc.split((KV * WIDTH, KV * WIDTH, HIDDEN), -1)
        u, b = (y.view(t, KV, WIDTH).repeat_interleave(HEADS // KV, 1) for y in (u, b))
        dt = F.softplus(dt + self.dt)
        y = ssd(u * dt[..., None], -torch.exp(self.a) * dt, b, c.reshape(t, HEADS, WIDTH)) + u * self.d[:, None]
        y = y * F.silu(z).view(t, HEADS, WIDTH)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.out(y.reshape(t, HIDDEN) * self.norm)


class Block(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.n1, self.n2 = Norm(HIDDEN), Norm(HIDDEN)
        self.mixer = Mamba2() if i % 2 == 0 else Attention()
        self.gate, self.up, self.down = linear(HIDDEN, MLP), linear(HIDDEN, MLP), linear(MLP, HIDDEN)

    def forward(self, x, cos, sin):
        x = x + self.mixer(self.n1(x), cos, sin)
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, HIDDEN)
        self.blocks = nn.ModuleList(Block(i) for i in range(LAYERS))
        self.norm = Norm(HIDDEN)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids, cos, sin):
        x = self.embed(ids)
        for b in self.blocks:
            x = b(x, cos, sin)
        return F.linear(self.norm(x), self.embed.weight)


def peer(tokens, steps):
    torch.manual_seed(1)
    student, teacher = Model(), Model()
    teacher.load_state_dict(student.state_dict())
    opt = torch.optim.AdamW(student.parameters(), lr=1e-5, betas=(0.9, 0.98))
    ids, targets = torch.randint(VOCAB, (2, tokens))
    angles = torch.arange(tokens)[:, None] * 1e5 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    cos, sin = angles.cos(), angles.sin()
    times, cpu = [], []
    for _ in range(steps + 1):  # the first warms up
        start, used = time.perf_counter(), time.process_time()
        with torch.no_grad():
            want = F.log_softmax(teacher(ids, cos, sin), -1)
        logits = student(ids, cos, sin)
        loss = F.kl_div(F.log_softmax(logits, -1), want, reduction="batchmean", log_target=True) + F.cross_entropy(logits, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"name": "torch " + torch.__version__, "seconds": sorted(times[1:])[steps // 2], "processor_seconds": sorted(cpu[1:])[steps // 2],
            "parameters": sum(p.numel() for p in student.parameters()), "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("krait")
    p.add_argument("--tokens", type=int, default=2048)
    p.add_argument("--threads", type=int, default=torch.get_num_threads())
    p.add_argument("--steps", type=int, default=3)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    theirs = peer(a.tokens, a.steps)
    result = {"tokens": a.tokens, "threads": a.threads, "peer": theirs}
    if a.tokens == 2048:
        out = subprocess.run([a.krait, "bench", "--shape", "hybrid135m", "--type", "f32", "--tests", "train2048", "--runs", str(a.steps), "--threads",
                              str(a.threads), "--json"], check=True, capture_output=True, text=True).stdout
        row = json.loads(out)["rows"][0]
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        result["krait"] = {"seconds": row["milliseconds"] / 1e3, "row": row, "peak_gib": usage.ru_maxrss / 2**20}
        result["ratio"] = theirs["seconds"] / result["krait"]["seconds"]
    print(json.dumps(result))


main()
