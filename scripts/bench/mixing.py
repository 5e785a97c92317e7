#!/usr/bin/env python3
"""What each rule of data.mixing does to the held-out loss of three real sources, at equal tokens.

    python3 scripts/bench/mixing.py [--steps 250] [--seeds 1] [--keep FOLDER]

The sources are of Debian packages (libreoffice-help-en-us, fortunes, jargon-text: scripts/curate_debian.sh installs them):
pages of help through `gpt data clean`; fortunes and the jargon file, short and odd; and the changelogs of all packages, as
they are: terse, repetitive, full of names, versions and numbers of bugs. What is in those depends on which packages the
machine has. Each page goes to the test set (one in 20), to the held-out set that the rules look at (one in 20), or to
training. All runs have the same model, tokens and seed; `static` has weights 6 : 3 : 1, by how good the sources look; all
other rules start from equal ones; `doremi` is compared with the stratified run, and `doremi, again` is a run with its
average weights, as the paper trains its main model. Losses are of the test sets, nats a token, at the end. Needs nothing
but gpt. GPT is the program.
"""

import argparse
import glob
import gzip
import itertools
import json
import os
import random
import subprocess
import tempfile

GPT = os.path.abspath(os.environ.get("GPT", "./gpt"))
SOURCES = ["help", "jokes", "changelogs"]
STATIC = {"help": 6, "jokes": 3, "changelogs": 1}


def gpt(*args):
    done = subprocess.run([GPT, *args], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(args)}\n{done.stderr}")
    return done.stdout


def help_pages(scratch):
    gpt("data", "clean", "--input", "/usr/share/libreoffice/help/en-US/text", "--out", f"{scratch}/clean")
    for path in sorted(glob.glob(f"{scratch}/clean/clean_*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as f:
            yield from (json.loads(line)["text"] for line in f)


def joke_pages():
    for path in sorted(glob.glob("/usr/share/games/fortunes/*.u8")):
        with open(path, encoding="utf-8", errors="replace") as f:
            jokes = f.read().replace("\b", "").split("\n%\n")
        yield from ("\n\n".join(jokes[i:i + 8]) for i in range(0, len(jokes), 8))
    with gzip.open("/usr/share/doc/jargon-text/jargon.txt.gz", "rt", encoding="utf-8", errors="replace") as f:
        lines = f.read().split("\n")
    yield from ("\n".join(lines[i:i + 60]) for i in range(0, len(lines), 60))


def changelog_pages():
    """The newest 600 lines of each, so that no package is most of it; what packages of one source share comes once."""
    seen = set()
    for path in sorted(glob.glob("/usr/share/doc/*/changelog*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as f:
            lines = list(itertools.islice(f, 600))
        for i in range(0, len(lines), 60):
            page = "".join(lines[i:i + 60])
            if page not in seen:
                yield page
            seen.add(page)


def make_sources(scratch, most_bytes):
    """Shards SOURCE/{train,val,test}_*.bin with one tokenizer; the same number of bytes of each."""
    for name, pages in ("help", help_pages(scratch)), ("jokes", joke_pages()), ("changelogs", changelog_pages()):
        pages = [page for page in pages if page.strip()]
        random.Random(2).shuffle(pages)
        parts, written = {"train": [], "val": [], "test": []}, 0
        for i, page in enumerate(pages):
            parts[{0: "val", 10: "test"}.get(i % 20, "train")].append(json.dumps({"text": page}))
            written += len(page.encode())
            if written > most_bytes:
                break
        for part, lines in parts.items():
            with open(f"{scratch}/{name}_{part}.jsonl", "w") as f:
                f.write("\n".join(lines) + "\n")
    gpt("tokenizer", "train", "--input", *(f"{scratch}/{s}_train.jsonl" for s in SOURCES), "--vocab-size", "2048",
        "--out", f"{scratch}/tok")
    for s in SOURCES:
        for part in "train", "val", "test":
            gpt("data", "shard", "--input", f"{scratch}/{s}_{part}.jsonl", "--tokenizer", f"{scratch}/tok", "--prefix",
                part, "--out", f"{scratch}/{s}")


def train(scratch, name, rule, weights, steps, seed):
    """Trains; returns the share of rows that each source gave, its test loss, and the published lines."""
    out = f"{scratch}/{name}-{seed}"
    sources = [{"name": s, "path": f"{scratch}/{s}/train_*.bin", "val": f"{scratch}/{s}/val_*.bin",
                "weight": weights.get(s, 1), "epochs": 1000} for s in SOURCES]
    config = {"out": out, "tokenizer": f"{scratch}/tok",
              "model": {"n_positions": 128, "n_embd": 128, "n_layer": 4, "n_head": 4},
              "data": {"train": sources, "mixing": rule},
              "mixing": {"interval": 10, "rows": 32, "reference": f"{scratch}/stratified-{seed}"},
              "train": {"max_steps": steps, "global_batch_size": 16, "seed": seed, "eval_interval": 0,
                        "checkpoint_interval": 0},
              "optimizer": {"lr": 3e-3}, "lr_schedule": {"name": "cosine", "warmup_steps": steps // 10, "min_lr": 3e-4}}
    with open(f"{out}.json", "w") as f:
        json.dump(config, f)
    gpt("train", "--config", f"{out}.json", "--overwrite")
    with open(f"{out}/metrics.jsonl") as f:
        published = [line["mixing"] for line in map(json.loads, f) if "mixing" in line]
    rows = [published[-1][s]["rows"] for s in SOURCES]
    losses = [json.loads(gpt("eval", "--model", out, "--data", f"{scratch}/{s}/test_*.bin", "--seq-len", "128", "--max-tokens", "32768",
                                    "--json"))
              ["loss"] for s in SOURCES]
    return [n / sum(rows) for n in rows], losses, published


def show(name, shares, losses, published):
    first, last = published[len(published) // 10], published[-1]
    line = " ".join(f"{x:10.3f}" for x in shares) + "  " + " ".join(f"{x:10.4f}" for x in losses + [sum(losses) / 3])
    weights = "  ".join(f"{first[s]['weight']:.2f} > {last[s]['weight']:.2f}" for s in SOURCES)
    print(f"{name:14} {line}  {weights}", flush=True)


def run_seed(scratch, steps, seed):
    print(f"\nseed {seed}\n{'':14} {'share of the rows':^32}  {'test loss':^43}  weight after a tenth > at the end")
    print(f"{'':14} " + " ".join(f"{s:>10}" for s in SOURCES) + "  " + " ".join(f"{s:>10}" for s in SOURCES + ["mean"]))
    for rule in "stratified", "static", "validation", "exp3", "doremi":
        result = train(scratch, rule, rule, STATIC if rule == "static" else {}, steps, seed)
        show(rule, *result)
    average = dict(zip(SOURCES, result[0]))
    show("doremi, again", *train(scratch, "again", "static", average, steps, seed))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=250, help="optimizer steps a run, of 16 x 128 tokens")
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--megabytes", type=float, default=4, help="of text of each source, at most")
    p.add_argument("--keep", help="a folder for everything that is made; else it is removed")
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = os.path.abspath(o.keep) if o.keep else temporary
        os.makedirs(scratch, exist_ok=True)
        make_sources(scratch, o.megabytes * 1e6)
        print(f"{o.steps} steps of 2048 tokens a run; sources of " + ", ".join(
            f"{os.path.getsize(f'{scratch}/{s}_train.jsonl') / 1e6:.1f}" for s in SOURCES) + " MB")
        for seed in range(1, o.seeds + 1):
            run_seed(scratch, o.steps, seed)


if __name__ == "__main__":
    main()
