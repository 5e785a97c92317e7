#!/usr/bin/env python3
"""Our model folders beside Hugging Face's transformers, and llm.c's files beside numpy.

    GPT=./gpt python3 test/compat/test_checkpoint.py [NAME...]

Needs torch, transformers, safetensors, numpy. Ends with "N passed, N failed, N skipped".
"""
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, OpenAIGPTConfig,
                          OpenAIGPTLMHeadModel, PreTrainedTokenizerFast)
from transformers.utils import logging as hf_logging

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
WORK = tempfile.TemporaryDirectory(prefix="gpt-checkpoint-")
VOCAB, POSITIONS, WIDTH, LAYERS, HEADS = 197, 48, 40, 3, 5

hf_logging.disable_progress_bar()
hf_logging.disable_default_handler()


def path(name):
    return os.path.join(WORK.name, name)


def gpt(*words, fails=False):
    r = subprocess.run([GPT, *words], capture_output=True, text=True)
    assert (r.returncode != 0) == fails, (words, r.returncode, r.stderr)
    return r.stderr if fails else r.stdout


class Warnings(logging.Handler):
    """What transformers says while a block runs."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())

    def __enter__(self):
        logging.getLogger("transformers").addHandler(self)
        return self.said

    def __exit__(self, *_):
        logging.getLogger("transformers").removeHandler(self)


def model_of(kind="gpt2", **more):
    """A model with weights large enough that every one of them matters to the loss."""
    torch.manual_seed(5)
    sizes = dict(vocab_size=VOCAB, n_positions=POSITIONS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
                 bos_token_id=None, eos_token_id=1, **more)
    model = (OpenAIGPTLMHeadModel(OpenAIGPTConfig(**sizes)) if kind == "openai-gpt"
             else GPT2LMHeadModel(GPT2Config(**sizes)))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(1.0 if "ln_" in name and name.endswith("weight") else 0.0, 0.25)
    return model.eval()


def opened(folder, cls=AutoModelForCausalLM):
    """The model transformers makes of a folder of ours, which must please it in every way."""
    with Warnings() as said:
        model, info = cls.from_pretrained(folder, output_loading_info=True)
    assert not said, said
    assert not any(info.values()), info
    assert model.dtype == torch.float32
    return model.eval()


def equal(ours, theirs):
    a, b = ours.state_dict(), theirs.state_dict()
    assert a.keys() == b.keys()
    for k in a:
        assert torch.equal(a[k], b[k].float()), k


def through_ours(folder):
    out = folder + "-ours"
    gpt("convert", "--model", folder, "--to", "hf", "--out", out)
    return out


def write_shard(file, ids):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(ids)
    with open(file, "wb") as f:
        f.write(header.tobytes() + np.asarray(ids, "<u2").tobytes())


def same_loss(model, folder):
    """Ours and theirs, over windows of POSITIONS random tokens: the logits behind it are the same."""
    windows = 20
    ids = np.random.default_rng(3).integers(0, VOCAB, windows * POSITIONS + 1)
    write_shard(path("tokens.bin"), ids)
    ours = json.loads(gpt("eval", "--model", folder, "--data", path("tokens.bin"), "--seq-len", str(POSITIONS),
                          "--json"))
    x = torch.tensor(ids[:-1]).view(windows, POSITIONS)
    with torch.no_grad():
        logits = model.double()(x).logits
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[1:])).item()
    model.float()
    assert ours["tokens"] == windows * POSITIONS
    assert theirs > math.log(VOCAB) + 0.5, theirs  # far from what a model without weights would say
    assert abs(ours["loss"] - theirs) < 1e-5 * theirs, (ours["loss"], theirs)


def check(model, folder, cls=None):
    out = through_ours(folder)
    equal(opened(out), model)
    equal(opened(out, cls or type(model)), model)
    same_loss(model.float(), folder)
    same_loss(model, out)
    return out


def test_gpt2_tied():
    model = model_of()
    model.save_pretrained(path("tied"))
    out = check(model, path("tied"))
    assert "lm_head.weight" not in load_file(os.path.join(out, "model.safetensors"))


def test_gpt2_untied():
    model = model_of(tie_word_embeddings=False)
    assert not torch.equal(model.lm_head.weight, model.transformer.wte.weight)
    model.save_pretrained(path("untied"))
    check(model, path("untied"))


def test_gpt2_without_prefix():
    model = model_of()
    model.transformer.save_pretrained(path("bare"))
    assert "wte.weight" in load_file(path("bare/model.safetensors"))
    check(model, path("bare"))


def test_gpt2_old_file():
    """As downloaded folders have it: masks beside the weights, and the tied head written as well."""
    model = model_of()
    model.save_pretrained(path("old"))
    tensors = {k.removeprefix("transformer."): v for k, v in model.state_dict().items()}
    tensors["lm_head.weight"] = tensors["lm_head.weight"].clone()
    for i in range(LAYERS):
        tensors[f"h.{i}.attn.bias"] = torch.tril(torch.ones(POSITIONS, POSITIONS)).view(1, 1, POSITIONS, POSITIONS)
        tensors[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, path("old/model.safetensors"), metadata={"format": "pt"})
    check(model, path("old"))


def test_gpt2_other_shape():
    model = model_of(n_inner=56, scale_attn_by_inverse_layer_idx=True, layer_norm_epsilon=1e-3)
    model.save_pretrained(path("inner"))
    check(model, path("inner"))
    assert "n_inner" in gpt("convert", "--model", path("inner"), "--to", "llmc", "--out", path("x.bin"), fails=True)


def test_gpt1():
    model = model_of("openai-gpt")
    model.save_pretrained(path("gpt1"))
    check(model, path("gpt1"))


def test_sharded():
    model = model_of(tie_word_embeddings=False)
    model.save_pretrained(path("sharded"), max_shard_size="40KB")
    assert len([f for f in os.listdir(path("sharded")) if f.endswith(".safetensors")]) > 4
    check(model, path("sharded"))


def test_half_precision():
    for dtype in torch.float16, torch.bfloat16:
        folder = path(str(dtype))
        model_of().to(dtype).save_pretrained(folder)
        check(GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval(), folder)


def test_gpt3_is_not_taken_for_gpt2():
    """Banded attention: no class of transformers computes it, so none may open it without complaint."""
    folder = path("gpt3")
    os.mkdir(folder)
    config = model_of().config.to_dict() | {"model_type": "gpt3", "attention_window": 16}
    tensors = {k.replace("transformer.", "gpt3."): v for k, v in model_of().state_dict().items()
               if k != "lm_head.weight"}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)
    save_file(tensors, os.path.join(folder, "model.safetensors"))
    out = through_ours(folder)
    assert load_file(os.path.join(out, "model.safetensors")).keys() == tensors.keys()
    try:
        AutoModelForCausalLM.from_pretrained(out)
        raise AssertionError("transformers opened a gpt3 model")
    except ValueError as e:
        assert "gpt3" in str(e)
    with Warnings() as said:
        _, info = GPT2LMHeadModel.from_pretrained(out, output_loading_info=True)
    assert len(info["missing_keys"]) > 30 and len(info["unexpected_keys"]) > 30 and said


# llm.c's file: kinds in this order, stacked over layers; True: [out, in] there, [in, out] in Hugging Face's.
LLMC = [("wte.weight", False), ("wpe.weight", False)] + [
    ("h.%d." + name, matrix) for name, matrix in [
        ("ln_1.weight", False), ("ln_1.bias", False), ("attn.c_attn.weight", True), ("attn.c_attn.bias", False),
        ("attn.c_proj.weight", True), ("attn.c_proj.bias", False), ("ln_2.weight", False), ("ln_2.bias", False),
        ("mlp.c_fc.weight", True), ("mlp.c_fc.bias", False), ("mlp.c_proj.weight", True), ("mlp.c_proj.bias", False),
    ]] + [("ln_f.weight", False), ("ln_f.bias", False)]


def llmc_file(model, version):
    """The bytes that llm.c's own exporter writes, from the description of its format."""
    padded = -(-VOCAB // 128) * 128
    header = torch.zeros(256, dtype=torch.int32)
    header[:8] = torch.tensor([20240326, version, POSITIONS, VOCAB, LAYERS, HEADS, WIDTH, padded])
    state, out = model.transformer.state_dict(), [header.numpy().tobytes()]
    for name, matrix in LLMC:
        for i in range(LAYERS if "%d" in name else 1):
            t = state[name % i if "%d" in name else name]
            t = t.t() if matrix else t
            if name == "wte.weight":
                t = torch.nn.functional.pad(t, (0, 0, 0, padded - VOCAB))
            t = t.to(torch.float32 if version == 3 else torch.bfloat16).contiguous()
            out.append(t.view(torch.uint8).numpy().tobytes())
    return b"".join(out)


def test_llmc():
    model = model_of()
    model.save_pretrained(path("for-llmc"))
    gpt("convert", "--model", path("for-llmc"), "--to", "llmc", "--out", path("ours.bin"))
    theirs = llmc_file(model, 3)
    ours = open(path("ours.bin"), "rb").read()
    assert len(ours) == len(theirs)
    assert ours[:32] == theirs[:32] and ours[40:] == theirs[40:]  # words 8 and 9 are our crc32
    for version in 3, 5:
        file = path(f"theirs-{version}.bin")
        with open(file, "wb") as f:
            f.write(llmc_file(model, version))
        if version == 5:
            model = model.bfloat16().float()
        check(model, file, GPT2LMHeadModel)


def test_trained_checkpoint():
    """A folder that gpt train wrote, opened by transformers as it stands."""
    rng = np.random.default_rng(1)
    with open(path("text.txt"), "w") as f:
        f.write(" ".join("".join(rng.choice(list("abcdefgh"), 3)) for _ in range(4000)))
    gpt("tokenizer", "train", "--input", path("text.txt"), "--vocab-size", "300", "--out", path("tokenizer"))
    write_shard(path("train.bin"), rng.integers(0, VOCAB, 5000))
    for kind in "gpt2", "openai-gpt":
        config = {"name": kind, "out": path("run-" + kind), "tokenizer": path("tokenizer"),
                  "model": {"model_type": kind, "n_positions": POSITIONS, "n_embd": WIDTH, "n_layer": LAYERS,
                            "n_head": HEADS, "initializer_range": 0.2},
                  "data": {"train": [{"path": path("train.bin")}]},
                  "train": {"max_steps": 3, "global_batch_size": 2, "checkpoint_interval": 1, "precision": "fp32"}}
        with open(path(kind + ".json"), "w") as f:
            json.dump(config, f)
        gpt("train", "--config", path(kind + ".json"))
        run = config["out"]
        newest = os.path.join(run, open(os.path.join(run, "latest")).read().strip())
        assert os.path.basename(newest) == "step-00000003"
        model = opened(newest)
        same_loss(model, run)
        same_loss(model, newest)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=os.path.join(newest, "tokenizer.json"))
        assert model.config.vocab_size == len(tokenizer) == 300
        assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
        assert tokenizer.decode(tokenizer("abc def").input_ids) == "abc def"


class Skip(Exception):
    pass


def by_ranks(n, *words):
    """gpt as n ranks under mpirun."""
    r = subprocess.run([os.path.join(ROOT, "test/parallel/run.sh"), str(n), GPT, *words], capture_output=True, text=True)
    if shutil.which("mpirun") is None or "built without MPI" in r.stderr:
        raise Skip("no mpirun, or a build without MPI")
    assert r.returncode == 0, (words, r.returncode, r.stderr)


def test_checkpoint_of_many_ranks():
    """What each of some grids wrote opens in transformers as it stands; grids go on from each other's checkpoints, and
    end near where one process ends."""
    rng = np.random.default_rng(1)
    write_shard(path("many.bin"), rng.integers(0, VOCAB, 5000))
    grids = [(1, []), (4, ["parallel.tensor=2", "parallel.zero=1"]), (2, ["parallel.zero=2"]),
             (4, ["parallel.tensor=2", "parallel.pipeline=2"]), (2, ["parallel.pipeline=2", "parallel.interleave=2"])]
    for kind in "gpt2", "openai-gpt":
        config = {"model": {"model_type": kind, "n_positions": POSITIONS, "n_embd": WIDTH, "n_layer": 4, "n_head": 4,
                            "vocab_size": VOCAB, "initializer_range": 0.2},
                  "data": {"train": [{"path": path("many.bin")}]},
                  "train": {"max_steps": 2 * len(grids), "global_batch_size": 4, "micro_batch_size": 1, "threads": 1,
                            "precision": "fp32", "keep_checkpoints": 0, "checkpoint_interval": 2},
                  "optimizer": {"lr": 1e-4}, "lr_schedule": {"name": "constant", "warmup_steps": 0}}
        with open(path("many.json"), "w") as f:
            json.dump(config, f)
        common = ["train", "--config", path("many.json")]
        gpt(*common, "--set", "out=" + path("alone-" + kind))
        run = path("many-" + kind)
        for i, (ranks, sets) in enumerate(grids):
            words = [w for s in sets + ["out=" + run, f"train.max_steps={2 * i + 2}"] for w in ("--set", s)]
            by_ranks(ranks, *common, *words, *(["--resume"] if i else []))
            newest = os.path.join(run, "checkpoints", f"step-{2 * i + 2:08d}")
            shards = [f for f in os.listdir(newest) if f.startswith("model-")]
            assert len(shards) == (ranks if ranks > 1 else 0), shards
            ours = opened(newest)
            same_loss(ours, newest)
            equal(opened(through_ours(newest)), ours)
            alone = os.path.join(path("alone-" + kind), "checkpoints", os.path.basename(newest))
            near(all_tensors(newest, "model"), all_tensors(alone, "model"), 2e-5)  # ten steps of up to 1e-4 each
            near(all_tensors(newest, "optimizer"), all_tensors(alone, "optimizer"), 1e-6)


def near(ours, theirs, bound):
    """Keys' biases move no logit after the softmax, so their gradients are rounding errors, which AdamW scales up."""
    assert ours.keys() == theirs.keys()
    for k in ours:
        a, b = ours[k], theirs[k]
        if k.endswith("c_attn.bias"):
            a, b = (torch.cat([x[:WIDTH], x[2 * WIDTH:]]) for x in (a, b))
        assert (a - b).abs().max() < bound, (k, (a - b).abs().max())


def all_tensors(folder, base):
    tensors = {}
    for f in os.listdir(folder):
        if f.startswith(base) and f.endswith(".safetensors"):
            part = load_file(os.path.join(folder, f))
            assert not tensors.keys() & part.keys(), f
            tensors |= part
    return tensors


def main():
    tests = {k[5:]: v for k, v in globals().items() if k.startswith("test_")}
    passed = failed = skipped = 0
    for name, fn in tests.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        start = time.monotonic()
        try:
            fn()
            passed += 1
            print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Skip as why:
            skipped += 1
            print(f"skipped {name}: {why}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
