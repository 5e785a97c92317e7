#!/usr/bin/env python3
"""Makes muon.safetensors: ten steps of Muon (Jordan et al. 2024) on the tiny GPT-2 of make_golden.py.

    python3 test/golden/make_muon.py        (as make_golden.py, which made weights.safetensors)

In double precision, but for what Muon rounds to bf16: the normalised momentum, and each product of the Newton-Schulz
iteration. Holds losses, step_loss and step_grad_norm as the other files do, and moved.NAME, the sum of the ten
updates, of some tensors: flat, square in three parts, tall, and two that AdamW moves.
"""
import json
import math
import os

import numpy as np
import torch
from safetensors.numpy import save_file

import make_golden as golden

CASE = golden.CASES["gpt2_tied"]
MUON = dict(momentum=0.9, lr_ratio=5)
KEPT = ["h.0.attn.c_attn.weight", "h.1.mlp.c_fc.weight", "h.2.mlp.c_proj.weight", "wpe.weight", "h.1.ln_2.weight"]


def bf16(x):
    return x.to(torch.bfloat16).double()


def orthogonal(u):
    """About P Q^T, for a matrix u with singular value decomposition P S Q^T."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = bf16(u / u.norm())
    for _ in range(5):
        left = x.shape[0] <= x.shape[1]
        gram = bf16(x @ x.T if left else x.T @ x)
        poly = bf16(b * gram + c * gram @ gram)
        x = bf16(a * x + (poly @ x if left else x @ poly))
    return x


def muon_step(p, m, lr, decay, parts):
    m.mul_(MUON["momentum"]).add_(p.grad, alpha=1 - MUON["momentum"])
    u = MUON["momentum"] * m + (1 - MUON["momentum"]) * p.grad
    o = torch.cat([orthogonal(part) for part in u.chunk(parts, dim=1)], dim=1)
    size = 0.2 * math.sqrt(max(p.shape[0], p.shape[1] // parts))
    p.sub_(lr * (size * o + decay * p))


def run(weights, tokens, targets):
    model, opt = golden.build(CASE), golden.OPTIMIZER
    named = {name: p for name, _, p in golden.parameters(model)}
    with torch.no_grad():
        for name, shared, p in golden.parameters(model):
            p.copy_(torch.tensor(weights[shared]).double())
    hidden = {name: torch.zeros_like(p) for name, p in named.items() if name.startswith("h.") and p.ndim == 2}
    rest = [p for name, p in named.items() if name not in hidden]
    groups = [{"params": [p for p in rest if p.ndim == 2], "weight_decay": opt["weight_decay"]},
              {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=opt["lr"], betas=opt["betas"], eps=opt["eps"])
    out = {"step_loss": [], "step_grad_norm": []}
    for step in range(golden.STEPS):
        model.zero_grad()
        _, losses, loss = golden.mean_loss(model, tokens[step], targets[step])
        loss.backward()
        if step == 0:
            out["losses"] = losses.detach().reshape(golden.B, golden.T)
        out["step_grad_norm"].append(torch.nn.utils.clip_grad_norm_(named.values(), opt["max_grad_norm"]))
        out["step_loss"].append(loss.detach())
        adamw.step()
        with torch.no_grad():
            for name, m in hidden.items():
                parts = 3 if "c_attn" in name else 1
                muon_step(named[name], m, opt["lr"] * MUON["lr_ratio"], opt["weight_decay"], parts)
    out = {k: v if torch.is_tensor(v) else torch.stack(v) for k, v in out.items()}
    moved = {f"moved.{k}": named[k].detach().numpy() - weights[k].astype(np.float64) for k in KEPT}
    return {**{k: v.numpy() for k, v in out.items()}, **{k: v.astype(np.float32) for k, v in moved.items()}}


def main():
    config = {**golden.SHAPE, **golden.NO_DROPOUT, "n_inner": golden.INNER, **CASE}
    meta = {"config": json.dumps(config), "optimizer": json.dumps({**golden.OPTIMIZER, **MUON})}
    result = run(golden.shared_weights(), *golden.batches())
    save_file(result, os.path.join(golden.HERE, "muon.safetensors"), metadata=meta)
    print("loss", result["step_loss"][0], "->", result["step_loss"][-1], "norm", result["step_grad_norm"][:3])


if __name__ == "__main__":
    main()
