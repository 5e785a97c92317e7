#!/usr/bin/env python3
"""How much of the gradients' way over the wire hides behind the backward pass.

    python3 scripts/bench/overlap.py [--rounds 5] [--steps 6] [--bucket 4] [--keep DIR]

Two ranks on this machine train the same model on half a batch each, once with gradients reduced in buckets of so many MB,
as soon as they are complete, and once all together when the last of them is (one bucket). The timeline (train.trace_steps)
says how long the main thread waited for them ("join"), and how long they took ("gradients"). Rounds alternate; figures are
medians over rounds of the slower rank's time a step. The model has a small vocabulary: a tied embedding is complete only
when the backward pass ends, so its own gradient can never hide.
"""
import argparse, json, os, shutil, statistics, subprocess, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.environ.get("GPT", os.path.join(ROOT, "gpt"))
CONFIG = {
    "name": "overlap", "tokenizer": "tok",
    "model": {"n_positions": 256, "n_embd": 512, "n_layer": 12, "n_head": 8},
    "data": {"train": "shards/train_*.bin"},
    "train": {"global_batch_size": 8, "micro_batch_size": 4, "checkpoint_interval": 0, "precision": "fp32", "threads": 1},
    "parallel": {"checksum_interval": 0},
}


def run(*words, cwd):
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-2000:]}")


def seconds(trace, lane, steps):
    """Of the slower rank, a step. The first step is left out: memory is touched for the first time there."""
    each = {}
    for pid in {s["pid"] for s in trace}:
        begun = sorted(s["ts"] for s in trace if s["pid"] == pid and s["name"] == "forward")
        after = begun[len(begun) // steps]
        spans = [s for s in trace if s["pid"] == pid and s.get("ph") == "X" and s["ts"] >= after]
        names = {s["tid"]: s["args"]["name"] for s in trace if s.get("ph") == "M" and s["pid"] == pid and s["name"] == "thread_name"}
        each[pid] = sum(s["dur"] for s in spans if names.get(s["tid"], s.get("cat")) == lane) / 1e6 / (steps - 1)
    return max(each.values())


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--rounds", type=int, default=5)
    arg.add_argument("--steps", type=int, default=6)
    arg.add_argument("--bucket", type=int, default=4, help="MB")
    arg.add_argument("--keep", help="folder for the timelines")
    a = arg.parse_args()
    found = {"buckets": [], "one bucket": []}
    with tempfile.TemporaryDirectory() as d:
        run(GPT, "data", "demo", "--out", "s.jsonl", "--bytes", "1M", "--seed", "3", cwd=d)
        run(GPT, "tokenizer", "train", "--input", "s.jsonl", "--vocab-size", "512", "--out", "tok", cwd=d)
        run(GPT, "data", "shard", "--input", "s.jsonl", "--tokenizer", "tok", "--out", "shards", cwd=d)
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump(CONFIG, f)
        for i in range(a.rounds):
            for kind, mb in (("buckets", a.bucket), ("one bucket", 1 << 20)):
                run(os.path.join(ROOT, "test/parallel/run.sh"), "2", GPT, "train", "--config", "config.json", "--overwrite",
                    *[w for k in (f"train.max_steps={a.steps}", f"train.trace_steps={a.steps}", f"parallel.bucket_mb={mb}")
                      for w in ("--set", k)], cwd=d)
                path = os.path.join(d, "runs/overlap/trace.json")
                with open(path) as f:
                    trace = json.load(f)
                found[kind].append([seconds(trace, lane, a.steps) for lane in ("join", "gradients")])
                if a.keep:
                    os.makedirs(a.keep, exist_ok=True)
                    shutil.copy(path, os.path.join(a.keep, f"{kind.replace(' ', '-')}-{i}.json"))
                print(f"round {i + 1}, {kind}: waited {found[kind][-1][0]:.4f} s a step for {found[kind][-1][1]:.4f} s of gradients", flush=True)
    join = {k: statistics.median(x[0] for x in v) for k, v in found.items()}
    ratio = statistics.median(b[0] / o[0] for b, o in zip(found["buckets"], found["one bucket"]))
    print(f"exposed a step: {join['buckets']:.4f} s in buckets, {join['one bucket']:.4f} s in one; {100 * ratio:.1f} % of it (goal: under 10 %)")


main()
