#!/usr/bin/env python3
"""Makes the golden files of this folder: what PyTorch and transformers compute for tiny models, in double precision.

    python3 test/golden/make_golden.py        (torch, transformers, safetensors, numpy)

weights.safetensors holds the tensors all cases share, by GPT-2's names. Each CASE.safetensors holds its config.json as
metadata, and: losses [B, T] of every target, logits [B, T, V], grad.NAME of the mean loss for every parameter, and
step_loss, step_grad_norm [10] of ten AdamW steps, each on its own batch. test/unit/test_golden.c reads them.
"""
import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTLMHeadModel
from transformers.models.openai.modeling_openai import MLP

HERE = os.path.dirname(os.path.abspath(__file__))
V, P, C, NH, L, INNER = 131, 23, 24, 4, 3, 37  # odd on purpose: head size 6, nothing a multiple of a vector
B, T, STEPS = 2, 19, 10
SHAPE = dict(vocab_size=V, n_positions=P, n_embd=C, n_head=NH, n_layer=L)
NO_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
OPTIMIZER = dict(lr=3e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, max_grad_norm=1.7)
WINDOW = 5
CASES = {
    "gpt2_tied": dict(model_type="gpt2", tie_word_embeddings=True),
    "gpt2_untied": dict(model_type="gpt2", tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True),
    "gpt1_tied": dict(model_type="openai-gpt", tie_word_embeddings=True),
    "gpt1_untied": dict(model_type="openai-gpt", tie_word_embeddings=False),
    "gpt3": dict(model_type="gpt3", tie_word_embeddings=True, attention_window=WINDOW),
}
GPT1_NAMES = {"tokens_embed.weight": "wte.weight", "positions_embed.weight": "wpe.weight"}


def banded(attention):
    """GPT-3's locally banded attention: row t sees columns t - WINDOW + 1 .. t."""
    plain = attention.forward

    def forward(hidden_states, **kwargs):
        row, col = torch.arange(T)[:, None], torch.arange(T)[None, :]
        hidden = (col > row) | (col <= row - WINDOW)
        mask = torch.zeros(1, 1, T, T, dtype=hidden_states.dtype).masked_fill(hidden, -1e300)
        return plain(hidden_states, **{**kwargs, "attention_mask": mask})

    attention.forward = forward


def build(case):
    if case["model_type"] == "openai-gpt":
        config = OpenAIGPTConfig(**SHAPE, **NO_DROPOUT, tie_word_embeddings=case["tie_word_embeddings"])
        model = OpenAIGPTLMHeadModel(config)
        for block in model.transformer.h:
            block.mlp = MLP(INNER, config)
    else:
        extra = {k: v for k, v in case.items() if k in ("tie_word_embeddings", "scale_attn_by_inverse_layer_idx")}
        config = GPT2Config(**SHAPE, **NO_DROPOUT, **extra, n_inner=INNER, attn_implementation="eager")
        model = GPT2LMHeadModel(config)
        if case["model_type"] == "gpt3":
            for block in model.transformer.h[1::2]:
                banded(block.attn)
    return model.double().train()


def parameters(model):
    """(our name, shared name, tensor) of every parameter."""
    for name, p in model.named_parameters():
        name = name.removeprefix("transformer.")
        yield name, GPT1_NAMES.get(name, name), p


def shared_weights():
    """Larger than a real initialisation, so that every term shows: a wrong scale, mask or sign moves the loss."""
    rng, out = np.random.default_rng(1), {}
    for _, name, p in parameters(build(CASES["gpt2_untied"])):
        noise = 0.2 * rng.standard_normal(tuple(p.shape))
        is_gain = "ln_" in name and name.endswith("weight")
        out[name] = (noise + 1 if is_gain else noise).astype(np.float32)
    return out


def batches():
    rng = np.random.default_rng(2)
    data = rng.integers(0, V, (STEPS, B, T + 1)).astype(np.int32)
    targets = data[:, :, 1:].copy()
    targets[rng.random(targets.shape) < 0.1] = -1  # not scored
    return data[:, :, :-1].copy(), targets


def mean_loss(model, tokens, targets):
    logits = model(input_ids=torch.tensor(tokens).long()).logits
    losses = F.cross_entropy(logits.reshape(-1, V), torch.tensor(targets).long().reshape(-1), ignore_index=-1, reduction="none")
    return logits, losses, losses.sum() / int((targets >= 0).sum())


def run(case, weights, tokens, targets):
    model = build(case)
    with torch.no_grad():
        for _, shared, p in parameters(model):
            p.copy_(torch.tensor(weights[shared]).double())
    out = {}
    logits, losses, loss = mean_loss(model, tokens[0], targets[0])
    loss.backward()
    out["logits"], out["losses"] = logits, losses.reshape(B, T)
    for name, _, p in parameters(model):
        out["grad." + name] = p.grad.clone()

    named = [p for _, _, p in parameters(model)]
    groups = [{"params": [p for p in named if p.ndim >= 2], "weight_decay": OPTIMIZER["weight_decay"]},
              {"params": [p for p in named if p.ndim < 2], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=OPTIMIZER["lr"], betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"])
    step_loss, step_norm = [], []
    for step in range(STEPS):
        adamw.zero_grad()
        _, _, loss = mean_loss(model, tokens[step], targets[step])
        loss.backward()
        step_norm.append(torch.nn.utils.clip_grad_norm_(named, OPTIMIZER["max_grad_norm"]))
        step_loss.append(loss.detach())
        adamw.step()
    out["step_loss"], out["step_grad_norm"] = torch.stack(step_loss), torch.stack(step_norm)
    exact = ("step_loss", "step_grad_norm", "losses")
    return {k: v.detach().numpy().astype(np.float64 if k in exact else np.float32) for k, v in out.items()}


def main():
    weights = shared_weights()
    tokens, targets = batches()
    save_file({**weights, "tokens": tokens, "targets": targets}, os.path.join(HERE, "weights.safetensors"))
    for name, case in CASES.items():
        config = {**SHAPE, **NO_DROPOUT, "n_inner": INNER, **case}
        meta = {"config": json.dumps(config), "optimizer": json.dumps(OPTIMIZER)}
        result = run(case, weights, tokens, targets)
        save_file(result, os.path.join(HERE, name + ".safetensors"), metadata=meta)
        print(name, "loss", result["step_loss"][0], "->", result["step_loss"][-1], "norm", result["step_grad_norm"][:3])


if __name__ == "__main__":
    main()
