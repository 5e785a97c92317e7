#!/usr/bin/env python3
"""Whole training runs of ours beside PyTorch's, and our initial weights beside those of transformers.

    GPT=./gpt python3 test/compat/test_model.py [NAME...]

Needs torch, transformers, numpy. Ends with "N passed, N failed, N skipped". test/golden/ holds the same model's logits
and every gradient, for a machine without Python; test_checkpoint.py opens each other's folders.
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig, OpenAIGPTLMHeadModel
from transformers.utils import logging as hf_logging

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
WORK = tempfile.TemporaryDirectory(prefix="gpt-model-")
VOCAB, POSITIONS, WIDTH, LAYERS, HEADS = 197, 48, 40, 3, 5
STEPS, BATCH, MICRO, SEQ = 12, 4, 2, 31
LR, MIN_LR, WARMUP, DECAY, CLIP, BETAS, EPS = 3e-3, 3e-4, 4, 0.2, 0.86, (0.9, 0.98), 1e-9

hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()


def path(name):
    return os.path.join(WORK.name, name)


def gpt(*words):
    r = subprocess.run([GPT, *words], capture_output=True, text=True)
    assert r.returncode == 0, (words, r.returncode, r.stderr)
    return r.stdout


def write_shard(file, ids):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(ids)
    with open(file, "wb") as f:
        f.write(header.tobytes() + np.asarray(ids, "<u2").tobytes())


def shape_of(kind, **more):
    return dict(vocab_size=VOCAB, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
                embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=1, **more)


def model_of(kind, **more):
    torch.manual_seed(3)
    if kind == "openai-gpt":
        return OpenAIGPTLMHeadModel(OpenAIGPTConfig(**shape_of(kind, **more)))
    return GPT2LMHeadModel(GPT2Config(**shape_of(kind, **more)))


def schedule(step):
    """Of step 1, 2, ..., as optim.h says."""
    if step < WARMUP:
        return LR * step / WARMUP
    left = (STEPS - step) / (STEPS - WARMUP)
    return MIN_LR + (LR - MIN_LR) * (1 - math.cos(math.pi * left)) / 2


def train_theirs(model, ids):
    """Loss and gradient norm of each step, in double precision; leaves the trained model."""
    model.double().train()
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}],
                              betas=BETAS, eps=EPS)
    losses, norms = [], []
    for step in range(STEPS):
        at = [(step * BATCH + i) * SEQ for i in range(BATCH)]
        x = torch.stack([ids[a:a + SEQ] for a in at])
        y = torch.stack([ids[a + 1:a + SEQ + 1] for a in at])
        loss = F.cross_entropy(model(x).logits.flatten(0, 1), y.flatten())
        adamw.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        losses.append(loss.item())
        for group in adamw.param_groups:
            group["lr"] = schedule(step + 1)
        adamw.step()
    return losses, norms


def train_ours(name, config):
    config = {"name": name, "out": path(name), "data": {"train": [{"path": path("train.bin")}], "shuffle": False},
              **config}
    with open(path(name + ".json"), "w") as f:
        json.dump(config, f)
    gpt("train", "--config", path(name + ".json"))
    with open(os.path.join(path(name), "metrics.jsonl")) as f:
        steps = [json.loads(line) for line in f]
    latest = open(os.path.join(path(name), "latest")).read().strip()
    return [s for s in steps if "loss" in s], os.path.join(path(name), latest)


def same_run(kind, precision="fp32", recompute="none", loss_bound=2e-6, weight_bound=1e-5, **more):
    """The same start, the same data, the same optimizer: the same losses and the same weights."""
    name = f"{kind}-{precision}-{recompute}-{len(more)}"
    ids = np.random.default_rng(7).integers(0, VOCAB, STEPS * BATCH * SEQ + 1)
    write_shard(path("train.bin"), ids)
    model = model_of(kind, **more)
    start = path(name + "-start")
    model.save_pretrained(start)
    losses, norms = train_theirs(model, torch.tensor(ids))
    ours, folder = train_ours(name, {
        "init_from": start,
        "train": {"max_steps": STEPS, "global_batch_size": BATCH, "micro_batch_size": MICRO, "seq_len": SEQ,
                  "precision": precision, "recompute": recompute, "checkpoint_interval": STEPS, "log_interval": 1},
        "optimizer": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "max_grad_norm": CLIP},
        "lr_schedule": {"name": "cosine", "warmup_steps": WARMUP, "min_lr": MIN_LR}})
    assert [s["step"] for s in ours] == list(range(1, STEPS + 1))
    for s, loss, norm in zip(ours, losses, norms):
        assert abs(s["loss"] / loss - 1) < loss_bound, (s, loss)
        assert abs(s["grad_norm"] / norm - 1) < 20 * loss_bound, (s, norm)
        assert math.isclose(s["lr"], schedule(s["step"]), rel_tol=1e-6), s
    assert min(norms) < CLIP < max(norms), norms  # clipping acts in some steps, not in all
    trained = type(model).from_pretrained(folder).double()
    theirs = dict(model.named_parameters())
    for key, p in trained.named_parameters():
        # Keys' biases have no gradient (softmax does not see them): what Adam makes of its rounding means nothing.
        a, b = p.detach(), theirs[key].detach()
        if key.endswith("c_attn.bias"):
            a, b = (torch.cat([t[:WIDTH], t[2 * WIDTH:]]) for t in (a, b))
        off = ((a - b).norm() / b.norm()).item()
        assert off < weight_bound, (key, off)
    x = torch.tensor(ids[:POSITIONS])[None]
    off = (trained.eval()(x).logits - model.eval()(x).logits).norm() / model(x).logits.norm()
    assert off < weight_bound, off


def test_gpt2_run():
    same_run("gpt2")


def test_gpt2_untied_run():
    same_run("gpt2", tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True)


def test_gpt1_run():
    same_run("openai-gpt")


def test_gpt2_recomputed_run():
    same_run("gpt2", recompute="block")


def test_gpt2_bf16_run():
    same_run("gpt2", precision="bf16", loss_bound=2e-3, weight_bound=0.1)


def test_initial_weights():
    """Tensor by tensor, the mean and the deviation of transformers' own initialisation."""
    write_shard(path("train.bin"), np.arange(SEQ + 1) % VOCAB)
    text = path("text.txt")
    with open(text, "w") as f:
        f.write("some text to learn a vocabulary from, any will do " * 50)
    gpt("tokenizer", "train", "--input", text, "--vocab-size", "270", "--out", path("tokenizer"))
    for kind in "gpt2", "openai-gpt":
        shape = {k: v for k, v in shape_of(kind).items() if not k.endswith("token_id") and k != "vocab_size"}
        _, folder = train_ours("init-" + kind, {
            "tokenizer": path("tokenizer"), "model": {"model_type": kind, **shape},
            "train": {"max_steps": 1, "global_batch_size": 1, "seq_len": SEQ, "precision": "fp32"},
            "optimizer": {"lr": 1e-30, "weight_decay": 0}, "lr_schedule": {"min_lr": 0}})
        theirs = model_of(kind)
        ours = dict(type(theirs).from_pretrained(folder).named_parameters())
        for key, p in theirs.named_parameters():
            a, b, few = ours[key].detach().double(), p.detach().double(), 5 / math.sqrt(p.numel())
            assert abs(a.mean() - b.mean()) <= few * b.std() * 1.5 + 1e-12, (key, a.mean(), b.mean())
            assert abs(a.std() - b.std()) <= few * b.std() + 1e-12, (key, a.std(), b.std())


def main():
    tests = {k[5:]: v for k, v in globals().items() if k.startswith("test_")}
    passed = failed = 0
    for name, fn in tests.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        start = time.monotonic()
        try:
            fn()
            passed += 1
            print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {name}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
