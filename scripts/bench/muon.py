#!/usr/bin/env python3
"""What Muon does to the loss on real text, next to a tuned AdamW, at equal tokens and at equal time.

    python3 scripts/bench/muon.py --text FILE [--steps 250] [--seeds 2] [--set key=value ...]
        [--adamw-lrs 5e-4,1e-3,2e-3,4e-3] [--muon-lrs 2e-3,4e-3,8e-3,1.6e-2]

FILE is any text (scripts/get_data.sh fetches Tiny Shakespeare), of which a tenth is held out. Both optimizers train the
same small GPT-2 from the same initial weights on the same batches, once for each of as many learning rates, and the
best goes on with more seeds. Time: a step's seconds, of runs that take turns, so that other load on the machine hits both; Muon's
run at equal time is as many steps shorter as its steps are longer, with its schedule fitted to that. No cost of tuning
is hidden: Muon's other knobs stay at their defaults. Needs nothing but python3.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GPT = os.environ.get("GPT", os.path.join(ROOT, "gpt"))
NAMES = ("adamw", "muon")


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-2000:]}")


def prepare(work, text, vocab):
    tok = os.path.join(work, "tok")
    run(GPT, "tokenizer", "train", "--input", text, "--vocab-size", str(vocab), "--out", tok)
    run(GPT, "data", "shard", "--input", text, "--tokenizer", tok, "--val-fraction", "0.1", "--out",
        os.path.join(work, "shards"))
    config = {
        "name": "muon", "tokenizer": tok,
        "model": {"model_type": "gpt2", "n_positions": 256, "n_embd": 192, "n_layer": 4, "n_head": 6},
        "data": {"train": os.path.join(work, "shards/train_*.bin"), "val": os.path.join(work, "shards/val_*.bin")},
        "train": {"global_batch_size": 16, "seq_len": 256, "eval_interval": 0, "eval_batches": 40,
                  "checkpoint_interval": 0, "log_interval": 1000},
        "optimizer": {"betas": [0.9, 0.95], "weight_decay": 0.1, "max_grad_norm": 1.0},
        "lr_schedule": {"name": "cosine"},
    }
    with open(os.path.join(work, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)


def train(work, name, lr, steps, seed, extra):
    """The lines of metrics of one run."""
    out = os.path.join(work, "run")
    run(GPT, "train", "--config", os.path.join(work, "config.json"), "--overwrite", "--set", f"out={out}",
        f"optimizer.name={name}", f"optimizer.lr={lr}", f"lr_schedule.min_lr={lr / 10}", f"train.max_steps={steps}",
        f"lr_schedule.warmup_steps={steps // 10}", f"train.seed={seed}", *extra)
    with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def seconds_a_step(work, lr, extra, rounds=8, steps=12):
    """Muon's over AdamW's, and AdamW's: medians over rounds in which both run, in turns."""
    ratios, seconds = [], []
    for _ in range(rounds):
        took = {}
        for name in NAMES:
            lines = train(work, name, lr[name], steps, 1, [*extra, "data.val=[]"])
            took[name] = statistics.median(x["seconds"] for x in lines[2:])
        ratios.append(took["muon"] / took["adamw"])
        seconds.append(took["adamw"])
    return statistics.median(ratios), min(ratios), max(ratios), statistics.median(seconds)


def spread(losses):
    return f"{statistics.mean(losses):.4f} ({', '.join(f'{x:.4f}' for x in losses)})"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", required=True)
    p.add_argument("--steps", type=int, default=250)
    p.add_argument("--adamw-lrs", default="5e-4,1e-3,2e-3,4e-3")
    p.add_argument("--muon-lrs", default="2e-3,4e-3,8e-3,1.6e-2")
    p.add_argument("--seeds", type=int, default=2, help="of the best learning rate's runs")
    p.add_argument("--vocab", type=int, default=2048)
    p.add_argument("--set", nargs="*", default=[], help="more keys for all runs")
    a = p.parse_args()
    lrs = {"adamw": [float(x) for x in a.adamw_lrs.split(",")], "muon": [float(x) for x in a.muon_lrs.split(",")]}
    if len(lrs["adamw"]) != len(lrs["muon"]):
        sys.exit("the same number of learning rates for both")
    with tempfile.TemporaryDirectory() as work:
        prepare(work, a.text, a.vocab)
        loss, best = {}, {}
        for name in NAMES:
            for lr in lrs[name]:
                loss[name, lr] = train(work, name, lr, a.steps, 1, a.set)[-1]["val_loss"]
                print(f"{name} at learning rate {lr:g}: {loss[name, lr]:.4f}", flush=True)
            best[name] = min(lrs[name], key=lambda lr: loss[name, lr])
            if best[name] in (lrs[name][0], lrs[name][-1]):
                print(f"{name}'s best learning rate lies at its list's edge: widen it", flush=True)
        ratio, least, most, seconds = seconds_a_step(work, best, a.set)
        fewer = round(a.steps / ratio)
        print(f"a step: AdamW {seconds:.3f} s; Muon {ratio:.3f} times that ({least:.3f} to {most:.3f})", flush=True)

        def losses(name, steps):
            seeds = range(1, a.seeds + 1)
            known = {1: loss[name, best[name]]} if steps == a.steps else {}
            return [known.get(k) or train(work, name, best[name], steps, k, a.set)[-1]["val_loss"] for k in seeds]

        print("| validation loss | learning rate | mean (each seed) |\n|---|---|---|")
        print(f"| AdamW, {a.steps} steps | {best['adamw']:g} | {spread(losses('adamw', a.steps))} |", flush=True)
        print(f"| Muon, {a.steps} steps: equal tokens | {best['muon']:g} | {spread(losses('muon', a.steps))} |", flush=True)
        print(f"| Muon, {fewer} steps: equal time | {best['muon']:g} | {spread(losses('muon', fewer))} |", flush=True)


if __name__ == "__main__":
    main()
