# Times the training step of `krait bench --tests train2048` in PyTorch eager, float32, or of train2048_bf16 with autocast to bf16: distillation (KL to a teacher of the same shape, and
# cross-entropy) of a Llama, or of a hybrid some of whose layers are Mamba2, one run of tokens, AdamW. The scan is the chunked form of the
# Mamba2 paper's listing, attention PyTorch's fused one. Argument: a JSON object (see trainShape in benchtrainpeer.go). Prints one JSON object.
# krait bench --compare pytorch runs it; needs torch (measured with 2.9).
import glob
import json
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

C = json.loads(sys.argv[1])
HIDDEN, LAYERS, HEADS, KV, MLP, VOCAB = (C[name] for name in ("hidden", "layers", "heads", "kv_heads", "mlp", "vocabulary"))
WIDTH, EPS, CONV, CHUNK = C["head_width"], C["eps"], 4, 64
INNER = HEADS * WIDTH


def linear(i, o):
    return nn.Linear(i, o, bias=False)


class Norm(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = linear(HIDDEN, HEADS * WIDTH), linear(HIDDEN, KV * WIDTH), linear(HIDDEN, KV * WIDTH)
        self.o = linear(HEADS * WIDTH, HIDDEN)

    def forward(self, x, cos, sin):
        t = x.shape[0]
        q, k, v = (f(x).view(t, -1, WIDTH).transpose(0, 1) for f in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (y.repeat_interleave(HEADS // KV, 0) for y in (k, v))
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
        return self.o(y.transpose(0, 1).reshape(t, HEADS * WIDTH))


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
        self.inp, self.out = linear(HIDDEN, INNER + self.channels + HEADS), linear(INNER, HIDDEN)
        self.conv = nn.Conv1d(self.channels, self.channels, CONV, groups=self.channels, padding=CONV - 1)
        self.dt, self.a, self.d = (nn.Parameter(torch.zeros(HEADS)) for _ in range(3))
        self.norm = nn.Parameter(torch.ones(INNER))

    def forward(self, x, *_):
        t = x.shape[0]
        z, xbc, dt = self.inp(x).split((INNER, self.channels, HEADS), -1)
        xbc = F.silu(self.conv(xbc.t()[None])[0, :, :t].t())
        u, b, c = xbc.split((KV * WIDTH, KV * WIDTH, INNER), -1)
        u, b = (y.view(t, KV, WIDTH).repeat_interleave(HEADS // KV, 1) for y in (u, b))
        dt = F.softplus(dt + self.dt)
        y = ssd(u * dt[..., None], -torch.exp(self.a) * dt, b, c.reshape(t, HEADS, WIDTH)) + u * self.d[:, None]
        y = y * F.silu(z).view(t, HEADS, WIDTH)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.out(y.reshape(t, INNER) * self.norm)


class Block(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.n1, self.n2 = Norm(HIDDEN), Norm(HIDDEN)
        self.mixer = Mamba2() if i in C["mamba"] else Attention()
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
        self.head = None if C["tied"] else linear(HIDDEN, VOCAB)
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids, cos, sin):
        x = self.embed(ids)
        for b in self.blocks:
            x = b(x, cos, sin)
        return F.linear(self.norm(x), (self.head or self.embed).weight)


def waited():
    """The nanoseconds for which threads of this process were ready and had no processor, where the system tells."""
    total = 0
    for name in glob.glob("/proc/self/task/*/schedstat"):
        try:
            with open(name) as f:
                total += int(f.read().split()[1])
        except OSError:  # the thread has ended
            pass
    return total


def main():
    tokens, threads = C["tokens"], C["threads"]
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    student, teacher = Model(), Model()
    teacher.load_state_dict(student.state_dict())
    opt = torch.optim.AdamW(student.parameters(), lr=1e-5, betas=(0.9, 0.98))
    ids, targets = torch.randint(VOCAB, (2, tokens))
    angles = torch.arange(tokens)[:, None] * C["theta"] ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    cos, sin = angles.cos(), angles.sin()
    for _ in range(2):  # the first warms up
        start, before = time.perf_counter(), waited()
        with torch.autocast("cpu", torch.bfloat16, enabled=C["bf16"]):
            with torch.no_grad():
                want = F.log_softmax(teacher(ids, cos, sin), -1)
            logits = student(ids, cos, sin)
            loss = F.kl_div(F.log_softmax(logits, -1), want, reduction="batchmean", log_target=True) + F.cross_entropy(logits, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        seconds, lost = time.perf_counter() - start, waited() - before
    print(json.dumps({
        "version": "torch " + torch.__version__, "seconds": seconds, "waited": lost / 1e9 / seconds / threads, "loss": loss.item(),
        "parameters": sum(p.numel() for p in student.parameters()), "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


main()
