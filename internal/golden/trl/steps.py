#!/usr/bin/env python3
"""Writes testdata/steps/: three optimiser steps of TRL's SFTTrainer, DPOTrainer, RewardTrainer and PPOTrainer on tiny Llamas, in float64.

    VENV/bin/python steps.py            # the VENV of ../README.md with trl 1.12.0; a second run writes the same bytes

testdata/steps/policy and testdata/steps/reward are Hugging Face directories of random weights; reward has a score instead
of logits. testdata/steps/expected.safetensors: `prompts` and `prompt_lengths` are four prompts laid end to end, likewise
`chosen` and `rejected`, their answers, and `responses`, those that the policy is taken to have sampled, one of which ends with
the end-of-text token 2; `margins` of the pairs; `sft.NAME` (of the chosen answers), `dpo.NAME`, `reward.NAME`, `ppo.NAME`, `value.NAME` the tensor NAME after
three steps; `sft.losses`, `dpo.losses`, `reward.losses`, and of PPO's iteration `objective/*` and the first step's `loss/*`.

All four rows are one batch. SFT, DPO and reward: AdamW (0.9, 0.999, 1e-8), rate 1e-3 on a cosine to 0 in three steps, gradients clipped at 1. PPO: one iteration of
three epochs, rate 1e-3, no clipping; temperature 0.7, missing_eos_penalty 1, the rest TRL's defaults.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
HERE = Path(__file__).parent
sys.argv = sys.argv[:1]
sys.path.insert(0, str(HERE.parent))
sys.dont_write_bytecode = True
import gen as oracle  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast  # noqa: E402
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer  # noqa: E402
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer  # noqa: E402

OUT = HERE / "testdata" / "steps"
PAD, BOS, EOS, LENGTH = 0, 1, 2, 6
COMMON = dict(max_steps=3, per_device_train_batch_size=4, gradient_accumulation_steps=1, learning_rate=1e-3, lr_scheduler_type="cosine",
              warmup_steps=0, max_grad_norm=1.0, weight_decay=0.0, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True,
              logging_steps=1, gradient_checkpointing=False)


def tokenizer():
    t = Tokenizer(models.WordLevel({f"w{i}w": i for i in range(oracle.VOCAB)}, unk_token="w3w"))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=t, pad_token="w0w", bos_token="w1w", eos_token="w2w", unk_token="w3w")


def build():
    """The two models, saved in float32."""
    torch.manual_seed(40)
    config = LlamaConfig(**{k: v for k, v in oracle.llama_config().items() if k not in ("architectures", "torch_dtype", "model_type")}, pad_token_id=PAD)
    shutil.rmtree(OUT, ignore_errors=True)
    for kind, name in ((LlamaForCausalLM, "policy"), (LlamaForSequenceClassification, "reward")):
        config.num_labels = 1 if name == "reward" else 2
        m = kind(config)
        for p in m.parameters():
            torch.nn.init.normal_(p, 1.0 if p.dim() == 1 else 0.0, 0.05 if p.dim() == 1 else 0.2)
        m.save_pretrained(OUT / name)
        for f in (OUT / name).iterdir():
            f.chmod(0o644)
            if f.name == "generation_config.json":
                f.unlink()


def load(kind, name):
    return kind.from_pretrained(OUT / name, dtype=torch.float64, attn_implementation="eager")


def rows():
    g = np.random.default_rng(41)
    draw = lambda n: g.integers(3, oracle.VOCAB, n).tolist()
    prompts = [draw(4) for _ in range(4)]
    chosen, rejected = [draw(n) + [EOS] for n in (5, 2, 7, 3)], [draw(n) + [EOS] for n in (3, 6, 4, 3)]
    responses = [draw(LENGTH) for _ in range(4)]
    responses[2][3] = EOS
    return prompts, chosen, rejected, responses


def weights(prefix, model):
    return {f"{prefix}.{k}": v.detach().clone() for k, v in model.state_dict().items()}


def sft(prompts, chosen):
    model = load(LlamaForCausalLM, "policy")
    data = Dataset.from_list([{"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)} for p, c in zip(prompts, chosen)])
    with tempfile.TemporaryDirectory() as d:
        t = SFTTrainer(model=model, args=SFTConfig(output_dir=d, completion_only_loss=True, **COMMON), train_dataset=data, processing_class=tokenizer())
        t.train()
    losses = [h["loss"] for h in t.state.log_history if "loss" in h]
    print("sft", losses)
    return {**weights("sft", model), "sft.losses": torch.tensor(losses, dtype=torch.float64)}


def dpo(prompts, chosen, rejected):
    model = load(LlamaForCausalLM, "policy")
    text = lambda ids: "".join(f" w{i}w" for i in ids)  # DPOTrainer tokenises by itself
    data = Dataset.from_list([{"prompt": text(p), "chosen": text(c), "rejected": text(r)} for p, c, r in zip(prompts, chosen, rejected)])
    with tempfile.TemporaryDirectory() as d:
        t = DPOTrainer(model=model, ref_model=load(LlamaForCausalLM, "policy"), args=DPOConfig(output_dir=d, beta=0.1, **COMMON), train_dataset=data,
                       processing_class=tokenizer())
        t.train()
    losses = [h["loss"] for h in t.state.log_history if "loss" in h]
    print("dpo", losses)
    return {**weights("dpo", model), "dpo.losses": torch.tensor(losses, dtype=torch.float64)}


def reward(prompts, chosen, rejected, margins):
    model = load(LlamaForSequenceClassification, "reward")
    data = Dataset.from_list([{"chosen_ids": p + c, "rejected_ids": p + r, "margin": m} for p, c, r, m in zip(prompts, chosen, rejected, margins)])
    with tempfile.TemporaryDirectory() as d:
        t = RewardTrainer(model=model, args=RewardConfig(output_dir=d, center_rewards_coefficient=0.01, **COMMON), train_dataset=data, processing_class=tokenizer())
        t.train()
    losses = [h["loss"] for h in t.state.log_history if "loss" in h]
    print("reward", losses)
    return {**weights("reward", model), "reward.losses": torch.tensor(losses, dtype=torch.float64)}


def ppo(prompts, responses):
    policy, value = load(LlamaForCausalLM, "policy"), load(LlamaForSequenceClassification, "reward")
    said = {tuple(p): r for p, r in zip(prompts, responses)}

    def generation(model, queries, _, pad, config):
        """What the policy is taken to have sampled, with the logits that it has there."""
        answers = torch.tensor([said[tuple(q)] for q in queries.tolist()])
        both = torch.cat([queries, answers], 1)
        logits = ppo_trainer.forward(model, both, pad).logits[:, queries.shape[1] - 1:-1]
        return both, logits / config.temperature

    ppo_trainer.batch_generation = generation
    data = Dataset.from_list([{"input_ids": p} for p in prompts])
    with tempfile.TemporaryDirectory() as d:
        args = PPOConfig(output_dir=d, total_episodes=4, per_device_train_batch_size=4, gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=3,
                         response_length=LENGTH, stop_token="eos", missing_eos_penalty=1.0, temperature=0.7, learning_rate=1e-3, num_sample_generations=0,
                         local_rollout_forward_batch_size=4, use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, logging_steps=1,
                         gradient_checkpointing=False)
        t = PPOTrainer(args=args, processing_class=tokenizer(), model=policy, ref_model=load(LlamaForCausalLM, "policy"),
                       reward_model=load(LlamaForSequenceClassification, "reward"), value_model=value, train_dataset=data)
        t.train()
    history = {k: v for h in t.state.log_history for k, v in h.items()}
    print("ppo", history)
    e = {**weights("ppo", policy), **weights("value", value)}
    for name in ("objective/kl", "objective/entropy", "objective/non_score_reward", "objective/rlhf_reward", "objective/scores", "loss/policy_avg",
                 "loss/value_avg", "policy/clipfrac_avg", "val/clipfrac_avg", "val/num_eos_tokens"):
        e["ppo." + name] = torch.tensor([history[name]], dtype=torch.float64)
    return e


def main():
    build()
    prompts, chosen, rejected, responses = rows()
    margins = [0.0, 1.5, 0.0, 0.5]
    flat = lambda lists: torch.tensor([i for x in lists for i in x])
    e = {"margins": torch.tensor(margins, dtype=torch.float64)}
    for name, lists in (("prompts", prompts), ("chosen", chosen), ("rejected", rejected), ("responses", responses)):
        e[name], e[name + "_lengths"] = flat(lists), torch.tensor([len(x) for x in lists])
    e.update(sft(prompts, chosen))
    e.update(dpo(prompts, chosen, rejected))
    e.update(reward(prompts, chosen, rejected, margins))
    e.update(ppo(prompts, responses))
    save_file({k: v.contiguous() for k, v in e.items()}, OUT / "expected.safetensors")
    (OUT / "expected.safetensors").chmod(0o644)


main()
