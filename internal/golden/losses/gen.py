#!/usr/bin/env python3
"""Writes testdata/: what the losses must be on random hidden rows and random heads, in float64 by PyTorch.

    VENV/bin/python gen.py              # the VENV of ../README.md with trl 1.12.0; a second run writes the same bytes

testdata/divergences/expected.safetensors: `hidden` (rows, 8) and `head` (vocab, 8) of the student and `teacher_hidden`,
`teacher_head` of the teacher, `targets` (-100: not counted), `ids`, `log_probs` (rows, 5) and `tail` (rows) of the
teacher's five likeliest tokens, `mix`; for each KIND of `forward`, `reverse`, `js`, `skew`, `skew-reverse` the sum over
counted rows `sum.KIND` and the gradients `hidden.KIND`, `head.KIND`, and the same with `.top` behind for the five tokens
and the rest as one outcome. Forward, reverse and JS are TRL's own generalized_jsd_loss, the skewed ones DistiLLM's formulas.

testdata/reward/expected.safetensors: Bradley-Terry of TRL's RewardTrainer: `scores`, `ends`, `margins`, `centre`, `loss`, `grad`.

testdata/ppo/expected.safetensors: a rollout of three responses, one of which ends by itself, as TRL's PPOTrainer computes it with its own
masked_mean and masked_whiten on padded rows, and the same numbers without the padding, response after response:
`logps`, `ref`, `scores`, `values`, `lengths`, `steps` (values of each response), k1 and k3 sums, `advantages`, `returns`,
with whitened rewards too; then the policy loss and the value loss of new log-probabilities and values, with gradients.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from trl.experimental.gkd.gkd_trainer import GKDTrainer
from trl.experimental.ppo.ppo_trainer import INVALID_LOGPROB, masked_mean, masked_whiten
from trl.trainer.utils import selective_log_softmax

HERE = Path(__file__).parent
torch.set_num_threads(1)
f64 = torch.float64


def write(name, tensors):
    folder = HERE / "testdata" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "expected.safetensors"
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path)
    path.chmod(0o644)


def normal(g, *shape, scale=1.0):
    return torch.from_numpy((g.standard_normal(shape) * scale).astype(np.float32)).double()


def divergence(kind, mix, student, teacher):
    """The sum over rows of the divergence between log-probabilities (rows, outcomes)."""
    if kind in ("forward", "reverse", "js"):
        beta = {"forward": 0.0, "reverse": 1.0, "js": mix}[kind]
        return GKDTrainer.generalized_jsd_loss(student[None], teacher[None], beta=beta, reduction="sum")
    a, b = (teacher, student) if kind == "skew" else (student, teacher)
    mixture = torch.log(mix * a.exp() + (1 - mix) * b.exp())
    return (a.exp() * (a - mixture)).sum()


def grouped(log_probs, ids):
    """The likeliest tokens' log-probabilities, and that of all the others together."""
    rest = torch.ones_like(log_probs, dtype=torch.bool).scatter(1, ids, False)
    return torch.cat([log_probs.gather(1, ids), log_probs.masked_fill(~rest, -torch.inf).logsumexp(1, keepdim=True)], 1)


def divergences():
    g = np.random.default_rng(31)
    rows, width, vocab, k, mix = 9, 8, 37, 5, 0.3
    hidden, head = normal(g, rows, width), normal(g, vocab, width)
    teacher_hidden, teacher_head = normal(g, rows, width), normal(g, vocab, width)
    targets = torch.from_numpy(g.integers(0, vocab, rows))
    targets[[2, 6]] = -100
    counted = targets >= 0
    teacher = torch.log_softmax(teacher_hidden @ teacher_head.T, -1)
    top, ids = teacher.topk(k, -1)
    # what is stored is rounded to float32
    top, tail = top.float().double(), (1 - top.exp().sum(1)).float().double()
    stored = torch.cat([top, tail.log()[:, None]], 1)
    e = {"hidden": hidden, "head": head, "teacher_hidden": teacher_hidden, "teacher_head": teacher_head, "targets": targets,
         "ids": ids, "log_probs": top, "tail": tail, "mix": torch.tensor([mix], dtype=f64)}
    for kind in ("forward", "reverse", "js", "skew", "skew-reverse"):
        for suffix in ("", ".top"):
            h, w = hidden.clone().requires_grad_(True), head.clone().requires_grad_(True)
            student = torch.log_softmax(h @ w.T, -1)
            if suffix:
                student = grouped(student, ids)
            loss = divergence(kind, mix, student[counted], (stored if suffix else teacher)[counted])
            loss.backward()
            e.update({f"sum.{kind}{suffix}": loss[None], f"hidden.{kind}{suffix}": h.grad, f"head.{kind}{suffix}": w.grad})
            print(kind, suffix, loss.item())
    write("divergences", e)


def reward():
    g = np.random.default_rng(32)
    scores = normal(g, 30, scale=2.0).requires_grad_(True)
    ends = torch.tensor([4, 9, 10, 17, 25, 29])
    margins, centre = torch.tensor([0.0, 1.5, 0.5], dtype=f64), 0.01
    chosen, rejected = scores[ends].view(-1, 2).unbind(1)
    loss = -F.logsigmoid(chosen - rejected - margins).sum() + centre * ((chosen + rejected) ** 2).sum()
    loss.backward()
    write("reward", {"scores": scores, "ends": ends, "margins": margins, "centre": torch.tensor([centre], dtype=f64),
                     "loss": loss[None], "grad": scores.grad, "accuracy": (chosen > rejected).double().sum()[None],
                     "margin": (chosen - rejected).sum()[None], "mean_reward": (chosen + rejected).sum()[None] / 2})


def ppo():
    """PPOTrainer.train's own lines, on given numbers."""
    g = np.random.default_rng(33)
    batch, T, width, vocab = 3, 7, 8, 19
    gamma, lam, kl_coef, clip, clip_value, temperature = 0.97, 0.9, 0.05, 0.2, 0.25, 0.7
    sequence_lengths = torch.tensor([6, 3, 5])  # index of the last token; the second and third end before T
    hidden, head = normal(g, batch, T, width, scale=0.7), normal(g, vocab, width)
    responses = torch.from_numpy(g.integers(0, vocab, (batch, T)))
    scores = normal(g, batch, scale=2.0)
    logits = hidden @ head.T / (temperature + 1e-7)
    new_start = selective_log_softmax(logits, responses)
    logprobs = (new_start + normal(g, batch, T, scale=0.3)).float().double()
    ref_logprobs = (logprobs + normal(g, batch, T, scale=0.5)).float().double()
    values, new_values = normal(g, batch, T), normal(g, batch, T)
    response_idxs = torch.arange(T).repeat(batch, 1)
    padding_mask = response_idxs > sequence_lengths.unsqueeze(1)
    logprobs = torch.masked_fill(logprobs, padding_mask, INVALID_LOGPROB)
    ref_logprobs = torch.masked_fill(ref_logprobs, padding_mask, INVALID_LOGPROB)
    sequence_lengths_p1 = sequence_lengths + 1
    padding_mask_p1 = response_idxs > (sequence_lengths_p1.unsqueeze(1))
    values = torch.masked_fill(values, padding_mask_p1, 0)
    steps = (~padding_mask_p1).sum(1)
    flat = lambda x, mask: x[~mask]
    e = {"lengths": sequence_lengths + 1, "steps": steps, "scores": scores, "logps": flat(logprobs, padding_mask),
         "ref": flat(ref_logprobs, padding_mask), "values": flat(values, padding_mask_p1),
         "constants": torch.tensor([gamma, lam, kl_coef, clip, clip_value, temperature + 1e-7], dtype=f64)}
    for estimator in ("k1", "k3"):
        for whiten in (False, True):
            logr = ref_logprobs - logprobs
            kl = -logr if estimator == "k1" else (logr.exp() - 1) - logr
            rewards = -kl_coef * kl
            actual_start = torch.arange(batch)
            actual_end = torch.where(sequence_lengths_p1 < T, sequence_lengths_p1, sequence_lengths)
            rewards[actual_start, actual_end] += scores
            if whiten:
                rewards = masked_whiten(rewards, mask=~padding_mask_p1, shift_mean=False)
                rewards = torch.masked_fill(rewards, padding_mask_p1, 0)
            lastgaelam, advantages_reversed = 0, []
            for t in reversed(range(T)):
                nextvalues = values[:, t + 1] if t < T - 1 else 0.0
                delta = rewards[:, t] + gamma * nextvalues - values[:, t]
                lastgaelam = delta + gamma * lam * lastgaelam
                advantages_reversed.append(lastgaelam)
            advantages = torch.stack(advantages_reversed[::-1], axis=1)
            returns = advantages + values
            advantages = masked_whiten(advantages, ~padding_mask)
            advantages = torch.masked_fill(advantages, padding_mask, 0)
            suffix = f".{estimator}" + (".whitened" if whiten else "")
            e.update({"kl" + suffix: kl.sum(1), "advantages" + suffix: flat(advantages, padding_mask),
                      "returns" + suffix: flat(returns, padding_mask_p1)})
    # the losses, of the last advantages and returns
    h, w, v = hidden.clone().requires_grad_(True), head.clone().requires_grad_(True), new_values.clone().requires_grad_(True)
    logits = h @ w.T / (temperature + 1e-7)
    new_logprobs = torch.masked_fill(selective_log_softmax(logits, responses), padding_mask, INVALID_LOGPROB)
    vpred = torch.masked_fill(v, padding_mask_p1, 0)
    vpredclipped = torch.clamp(vpred, values - clip_value, values + clip_value)
    vf_losses1, vf_losses2 = torch.square(vpred - returns), torch.square(vpredclipped - returns)
    vf_loss = 0.5 * masked_mean(torch.max(vf_losses1, vf_losses2), ~padding_mask_p1)
    vf_clipfrac = masked_mean((vf_losses2 > vf_losses1).double(), ~padding_mask_p1)
    ratio = torch.exp(new_logprobs - logprobs)
    pg_losses, pg_losses2 = -advantages * ratio, -advantages * torch.clamp(ratio, 1.0 - clip, 1.0 + clip)
    pg_loss = masked_mean(torch.max(pg_losses, pg_losses2), ~padding_mask)
    pg_clipfrac = masked_mean((pg_losses2 > pg_losses).double(), ~padding_mask)
    prob_dist = torch.nn.functional.softmax(logits, dim=-1)
    entropy = torch.logsumexp(logits, dim=-1) - torch.sum(prob_dist * logits, dim=-1)
    pg_loss.backward()
    vf_loss.backward()
    e.update({"hidden": flat(hidden, padding_mask), "head": head, "targets": flat(responses, padding_mask),
              "new_values": flat(new_values, padding_mask_p1), "policy_loss": pg_loss[None], "value_loss": vf_loss[None],
              "policy_clipfrac": pg_clipfrac[None], "value_clipfrac": vf_clipfrac[None],
              "entropy": masked_mean(entropy, ~padding_mask)[None], "ratio": masked_mean(ratio, ~padding_mask)[None],
              "hidden.grad": flat(h.grad, padding_mask), "head.grad": w.grad, "values.grad": flat(v.grad, padding_mask_p1)})
    print("ppo", pg_loss.item(), vf_loss.item(), pg_clipfrac.item(), vf_clipfrac.item())
    write("ppo", e)


sys.dont_write_bytecode = True
divergences()
reward()
ppo()
