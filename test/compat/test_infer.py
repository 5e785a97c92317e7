#!/usr/bin/env python3
"""What `gpt sample` says and what `gpt eval` scores, beside Hugging Face's transformers.

    GPT=./gpt python3 test/compat/test_infer.py [NAME...]

Needs torch, transformers, numpy. Ends with "N passed, N failed, N skipped".
"""
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
import torch
from transformers import (GPT2Config, GPT2LMHeadModel, LogitsProcessorList, MinPLogitsWarper,
                          PreTrainedTokenizerFast, RepetitionPenaltyLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
from transformers.utils import logging as hf_logging

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
WORK = tempfile.TemporaryDirectory(prefix="gpt-infer-")
POSITIONS = 96

hf_logging.disable_progress_bar()
hf_logging.disable_default_handler()


def path(name):
    return os.path.join(WORK.name, name)


def gpt(*words):
    r = subprocess.run([GPT, *map(str, words)], capture_output=True)
    assert r.returncode == 0, (words, r.returncode, r.stderr)
    return r.stdout.decode()


def setup():
    """A tokenizer and shards of ours; a model of theirs, random, but its choices are not close calls."""
    gpt("data", "demo", "--out", path("docs.jsonl"), "--bytes", "100K")
    gpt("tokenizer", "train", "--input", path("docs.jsonl"), "--vocab-size", 600, "--out", path("model"))
    gpt("data", "shard", "--input", path("docs.jsonl"), "--tokenizer", path("model"), "--out", path("data"))
    torch.manual_seed(5)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=600, n_positions=POSITIONS, n_embd=64, n_layer=3, n_head=4,
                                       initializer_range=0.15, bos_token_id=599, eos_token_id=599)).eval()
    model.save_pretrained(path("model"))
    return model, PreTrainedTokenizerFast(tokenizer_file=path("model/tokenizer.json"))


torch.set_num_threads(1)
MODEL, TOKENIZER = setup()
PROMPTS = ["Once upon a time", "The", "Nora was a kind girl who lived beyond the river.", "3 + 4 = caf\u00e9"]


def ids_of(text):
    return TOKENIZER(text)["input_ids"]


def text_of(ids):
    return TOKENIZER.decode(ids, clean_up_tokenization_spaces=False)


def test_greedy_is_generate():
    for prompt in PROMPTS:
        ids = torch.tensor([ids_of(prompt)])
        theirs = MODEL.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=60)
        theirs = [i for i in theirs[0, ids.shape[1]:].tolist() if i != 599]
        for more in [], ["--no-cache"]:
            ours = gpt("sample", "--model", path("model"), "--prompt", prompt, "--temperature", 0,
                       "--max-tokens", 60, "--precision", "fp32", *more)
            assert ours == text_of(theirs) + "\n", (prompt, ours, text_of(theirs))


def next_token_probabilities(prompt, processors):
    ids = torch.tensor([ids_of(prompt)])
    with torch.no_grad():
        logits = MODEL(ids).logits[:, -1]
    p = torch.softmax(LogitsProcessorList(processors)(ids, logits)[0].double(), -1)
    by_text = {}
    for i, x in enumerate(p.tolist()):
        text = "" if i == 599 else text_of([i])
        if x > 0:
            by_text[text] = by_text.get(text, 0) + x
    return by_text


def test_samplers_draw_as_the_warpers_do():
    cases = [
        (["--temperature", 1], []),
        (["--temperature", 0.7], [TemperatureLogitsWarper(0.7)]),
        (["--temperature", 1.5, "--top-k", 7], [TemperatureLogitsWarper(1.5), TopKLogitsWarper(7)]),
        (["--temperature", 1.5, "--top-p", 0.6], [TemperatureLogitsWarper(1.5), TopPLogitsWarper(0.6)]),
        (["--temperature", 2.0, "--min-p", 0.2], [TemperatureLogitsWarper(2.0), MinPLogitsWarper(0.2)]),
        (["--temperature", 1, "--repetition-penalty", 3.0], [RepetitionPenaltyLogitsProcessor(3.0)]),
        (["--temperature", 2.0, "--top-k", 40, "--top-p", 0.8, "--repetition-penalty", 1.3],
         [RepetitionPenaltyLogitsProcessor(1.3), TemperatureLogitsWarper(2.0), TopKLogitsWarper(40),
          TopPLogitsWarper(0.8)]),
    ]
    n = 4000
    for flags, processors in cases:
        want = next_token_probabilities(PROMPTS[2], processors)
        out = gpt("sample", "--model", path("model"), "--prompt", PROMPTS[2], "--samples", n, "--max-tokens", 1,
                  "--precision", "fp32", "--seed", 3, *flags)
        drawn = [x[:-1] for x in re.split(r"---- sample \d+ of \d+ ----\n", out)[1:]]
        assert len(drawn) == n
        assert set(drawn) <= set(want), (flags, set(drawn) - set(want))
        # Pearson's chi-square, rare ones together; mean k - 1, deviation sqrt(2 (k - 1))
        often = [t for t in want if n * want[t] >= 5]
        rare = 1 - sum(want[t] for t in often)
        chi = sum((drawn.count(t) - n * want[t]) ** 2 / (n * want[t]) for t in often)
        if n * rare >= 1:
            chi += (n - sum(map(drawn.count, often)) - n * rare) ** 2 / (n * rare)
        k = len(often)
        assert chi < k + 5 * math.sqrt(2 * k), (flags, chi, k)


def losses(ids, start):
    """Nats of ids[start:] given what is before each, and whether each was the likeliest."""
    with torch.no_grad():
        logits = MODEL(torch.tensor([ids[:-1]])).logits[0, start - 1:].double()
    target = torch.tensor(ids[start:])
    nats = torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
    return nats, bool((logits.argmax(-1) == target).all())


def test_loss_over_windows():
    shard = np.fromfile(path("data/train_000000.bin"), dtype="<u2")[512:].tolist()
    for T in 96, 31:
        windows = [shard[at:at + T + 1] for at in range(0, len(shard) - T, T)][:40]
        nats = sum(losses(w, 1)[0] for w in windows)
        targets = [i for w in windows for i in w[1:]]
        size = len(text_of([i for i in targets if i != 599]).encode())
        r = json.loads(gpt("eval", "--model", path("model"), "--data", path("data/train_000000.bin"), "--json",
                           "--seq-len", T, "--max-tokens", 40 * T))
        assert r["tokens"] == len(targets)
        assert abs(r["loss"] * r["tokens"] / nats - 1) < 1e-6, (r, nats / len(targets))
        assert abs(r["bits_per_byte"] * size * math.log(2) / nats - 1) < 1e-6
        assert abs(r["perplexity"] / math.exp(nats / len(targets)) - 1) < 1e-5


def pair(context, target):
    """lm-evaluation-harness's request: (nats, greedy) of target after context, cut from the left to fit."""
    a, b = ids_of(context) if context else [599], ids_of(target)
    ids = (a + b)[-(POSITIONS + 1):]
    return losses(ids, len(ids) - len(b)) + (len(b),)


def test_multiple_choice():
    rng = np.random.default_rng(0)
    words = "the fox met a bear by old river, and said: \u00e9t\u00e9 who lives here? Nobody but me".split()
    say = lambda lo, hi: " ".join(rng.choice(words, rng.integers(lo, hi)))
    right, lines = np.zeros(3), []
    for i in range(60):
        ctx, endings = ("" if i == 7 else say(1, 60)), [say(1, 12) for _ in range(4)]
        scores = [pair(ctx, " " + e) for e in endings]
        label = int(rng.integers(4))
        right += [np.argmin([s[0] for s in scores]) == label,
                  np.argmin([s[0] / len(e) for s, e in zip(scores, endings)]) == label,
                  np.argmin([s[0] / s[2] for s in scores]) == label]
        lines.append(json.dumps({"ctx": ctx, "endings": endings, "label": label}, ensure_ascii=i % 2 == 0))
    open(path("choice.jsonl"), "w").write("\n".join(lines) + "\n")
    r = json.loads(gpt("eval", "--model", path("model"), "--task", path("choice.jsonl"), "--json"))
    assert [r["items"], r["acc"], r["acc_norm"], r["acc_norm_tokens"]] == [60, *right / 60], (r, right / 60)


def test_cloze():
    texts, nats, greedy = [], 0, 0
    for i, prompt in enumerate(PROMPTS * 5):
        context = text_of(ids_of(prompt)[:2 + i])
        ids = torch.tensor([ids_of(context)])
        likely = text_of(MODEL(ids).logits[0, -1].argmax(-1, keepdim=True).tolist())
        word = likely[1:] if re.fullmatch(" [a-zA-Z]+", likely) else "bear"
        n, g, _ = pair(context, " " + word)
        texts.append(json.dumps({"text": context + " " + word}))
        nats, greedy = nats + n, greedy + g
    open(path("words.jsonl"), "w").write("\n".join(texts))
    r = json.loads(gpt("eval", "--model", path("model"), "--task", path("words.jsonl"), "--json"))
    assert r["items"] == len(texts) and r["accuracy"] == greedy / len(texts)
    assert abs(math.log(r["perplexity"]) / (nats / len(texts)) - 1) < 1e-6, (r, nats / len(texts))


def main():
    tests = {k[5:]: f for k, f in globals().items() if k.startswith("test_")}
    wanted = [k for k in tests if not sys.argv[1:] or k in sys.argv[1:]]
    failed = 0
    for name in wanted:
        t0 = time.time()
        try:
            tests[name]()
            print(f"ok      infer {name} ({time.time() - t0:.1f} s)")
        except Exception:
            failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED  infer {name}")
    print(f"{len(wanted) - failed} passed, {failed} failed, 0 skipped")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
