#!/usr/bin/env python3
"""Writes testdata/: what DPO's loss, metrics and gradients must be for tiny-hybrid, the model of ../testdata.

    VENV/bin/python gen.py              # the VENV of ../README.md; a second run writes the same bytes

The model is computed in float64 by the loops of ../gen.py. The losses are those of TRL's DPOTrainer written out,
a pair a row: `sigmoid`; `sigmoid` with label smoothing (cDPO: -(1-s) log σ(βΔ) - s log σ(-βΔ)); and `ipo`, whose
difference is of means over an answer's tokens. Metrics have TRL's names.

testdata/dpo-KIND/expected.safetensors: `tokens`, `run_lengths` (chosen, rejected, pair by pair), `targets` of each row
(-100: not counted), `reference` (pairs, 2), `beta`, `label_smoothing`; the sums over pairs `loss_sum` and `sum.METRIC`;
`grad.NAME` of loss_sum for every tensor NAME of tiny-hybrid's file.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.argv = sys.argv[:1]
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
import gen as oracle  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

MODEL = HERE.parent / "testdata" / "tiny-hybrid"
PROMPTS, CHOSEN, REJECTED = [4, 7, 3], [9, 3, 12], [5, 11, 6]


def pairs():
    """A packed batch: prompts shared by the two answers; the rows that predict an answer's tokens are counted."""
    g = np.random.default_rng(20)
    tokens, targets, lengths = [], [], []
    for p, c, r in zip(PROMPTS, CHOSEN, REJECTED):
        prompt = g.integers(0, oracle.VOCAB, p)
        for n in (c, r):
            run = np.concatenate([prompt, g.integers(0, oracle.VOCAB, n)])
            y = np.full(len(run), -100)
            y[p - 1:-1] = run[p:]
            tokens.append(run)
            targets.append(y)
            lengths.append(len(run))
    t = lambda x: torch.from_numpy(np.concatenate(x))
    return {"tokens": t(tokens), "targets": t(targets), "run_lengths": torch.tensor(lengths)}


def dpo(logps, reference, counts, kind, beta, smoothing):
    """TRL's loss of each pair and its metrics, by pair. logps, reference and counts are (pairs, 2): chosen, rejected."""
    chosen_scores, rejected_scores = (logps - reference).unbind(1)
    if kind == "ipo":
        delta = chosen_scores / counts[:, 0] - rejected_scores / counts[:, 1]
        loss = (delta - 1 / (2 * beta)) ** 2
    else:
        delta = chosen_scores - rejected_scores
        loss = -F.logsigmoid(beta * delta) * (1 - smoothing) - F.logsigmoid(-beta * delta) * smoothing
    chosen, rejected = beta * chosen_scores, beta * rejected_scores
    return loss, {
        "rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": chosen - rejected,
        "rewards/accuracies": (chosen > rejected).double(), "logps/chosen": logps[:, 0], "logps/rejected": logps[:, 1],
    }


def main():
    torch.set_num_threads(1)
    c, m = (json.loads((MODEL / f).read_text()) for f in ("config.json", "mamba_config.json"))
    w = {k: v.double().requires_grad_(True) for k, v in load_file(MODEL / "model.safetensors").items()}
    b = pairs()
    reference = None
    for kind, beta, smoothing in (("sigmoid", 0.1, 0.0), ("smoothed", 0.3, 0.2), ("ipo", 0.2, 0.0)):
        logits = oracle.forward(w, c, m, b)[1]
        counted = b["targets"] >= 0
        rows = torch.log_softmax(logits, -1).gather(1, b["targets"].clamp(min=0)[:, None])[:, 0] * counted
        lengths = b["run_lengths"].tolist()
        logps = torch.stack([r.sum() for r in rows.split(lengths)]).view(-1, 2)
        counts = torch.tensor([r.sum() for r in counted.split(lengths)]).view(-1, 2)
        if reference is None:  # another model's would differ by a few nats
            reference = logps.detach() + torch.tensor([[1.5, -2.0], [-4.0, 3.0], [0.25, 0.75]], dtype=torch.float64)
        loss, metrics = dpo(logps, reference, counts, kind, beta, smoothing)
        e = dict(b, reference=reference, loss_sum=loss.sum(), beta=torch.tensor(beta, dtype=torch.float64),
                 label_smoothing=torch.tensor(smoothing, dtype=torch.float64))
        e.update({"sum." + k: v.sum() for k, v in metrics.items()})
        e.update(oracle.grads(loss.sum(), w))
        oracle.write_tensors(HERE / "testdata" / f"dpo-{kind}" / "expected.safetensors", e)
        print(kind, loss.tolist())


main()
