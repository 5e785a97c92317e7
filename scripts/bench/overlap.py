#!/usr/bin/env python3
"""How much of the gradients' way over the wire hides behind the backward pass.

    python3 scripts/bench/overlap.py [--rounds 5] [--steps 6] [--bucket 4] [--wire MBIT] [--keep DIR]

Two ranks on this machine train the same model on half a batch each, once with gradients reduced in buckets of so many MB,
as soon as they are complete, and once all together when the last of them is (one bucket). The timeline (train.trace_steps)
says when each rank had finished its backward pass and began to wait for the sums ("join"), and until when. Exposed is the
time from when the last rank has finished until the last has all sums: a rank that waits for a slower one to finish waits for
its computing, not for the wire. Rounds alternate; figures are medians over rounds of the mean over steps. The model has a
small vocabulary: a tied embedding is complete only when the backward pass ends, so its own gradient can never hide.

Where the ranks share memory, a wire is nothing but computing, which takes its time from theirs. --wire gives them one that
takes time and few cycles: each rank in a network namespace of its own, joined by a pair of virtual interfaces that let so many
megabits a second through (tc tbf), and Open MPI over TCP between them. For root; needs iproute2. What it sets up is gone when
it ends: the namespaces overlap0 and overlap1, and all that is in them.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile

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
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-2000:]}")


def wire_up(mbit, folder):
    """The start of a command that runs two ranks with a wire between them."""
    spaces = ("overlap0", "overlap1")
    ip = lambda *words: run("ip", *map(str, words), cwd=folder)
    for space in spaces:
        ip("netns", "add", space)
    ip("link", "add", "wire0", "netns", spaces[0], "type", "veth", "peer", "name", "wire1", "netns", spaces[1])
    for i, space in enumerate(spaces):
        ip("-n", space, "addr", "add", f"10.77.0.{i + 1}/24", "dev", f"wire{i}")
        for link in ("lo", f"wire{i}"):
            ip("-n", space, "link", "set", link, "up")
        ip("netns", "exec", space, "tc", "qdisc", "add", "dev", f"wire{i}", "root", "tbf", "rate", f"{mbit}mbit",
           "burst", "256kb", "latency", "50ms")
    agent = os.path.join(folder, "agent")  # what mpirun takes for ssh
    with open(agent, "w") as f:
        f.write(f'#!/bin/sh\nshift\nexec ip netns exec {spaces[1]} sh -c "$*"\n')
    os.chmod(agent, 0o755)
    mca = {"plm_rsh_agent": agent, "btl": "tcp,self", "pml": "ob1", "btl_tcp_if_include": "10.77.0.0/24",
           "oob_tcp_if_include": "10.77.0.0/24"}
    return ["ip", "netns", "exec", spaces[0], "mpirun", "-np", "2", "-H", "10.77.0.1:1,10.77.0.2:1", "--map-by", "node",
            "--bind-to", "none", "--allow-run-as-root", "--wdir", folder, *[w for k, v in mca.items() for w in ("--mca", k, v)]]


def wire_down():
    for space in ("overlap0", "overlap1"):
        subprocess.run(["ip", "netns", "del", space], stderr=subprocess.DEVNULL)


def spans(trace, lane):
    """Of each rank, in their order."""
    named = {(s["pid"], s["tid"]): s["args"]["name"] for s in trace if s.get("ph") == "M" and s["name"] == "thread_name"}
    each = {}
    for s in sorted((s for s in trace if s.get("ph") == "X"), key=lambda s: s["ts"]):
        if named[s["pid"], s["tid"]] == lane:
            each.setdefault(s["pid"], []).append((s["ts"] / 1e6, (s["ts"] + s["dur"]) / 1e6))
    return list(each.values())


def exposed(trace, steps):
    """Seconds a step. The first step is left out: memory is touched for the first time there."""
    joins = spans(trace, "join")
    assert len(joins) == 2 and all(len(j) == steps for j in joins)
    return statistics.mean(max(end for _, end in s) - max(begin for begin, _ in s) for s in list(zip(*joins))[1:])


def on_the_way(trace, steps):
    return statistics.mean(sum(e - b for b, e in s) for s in spans(trace, "gradients")) / steps


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--rounds", type=int, default=5)
    arg.add_argument("--steps", type=int, default=6)
    arg.add_argument("--bucket", type=int, default=4, help="MB")
    arg.add_argument("--wire", type=int, help="Mbit a second")
    arg.add_argument("--keep", help="folder for the timelines")
    a = arg.parse_args()
    found = {"buckets": [], "one bucket": []}
    with tempfile.TemporaryDirectory() as d:
        run(GPT, "data", "demo", "--out", "s.jsonl", "--bytes", "1M", "--seed", "3", cwd=d)
        run(GPT, "tokenizer", "train", "--input", "s.jsonl", "--vocab-size", "512", "--out", "tok", cwd=d)
        run(GPT, "data", "shard", "--input", "s.jsonl", "--tokenizer", "tok", "--out", "shards", cwd=d)
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump(CONFIG, f)
        ranks = wire_up(a.wire, d) if a.wire else [os.path.join(ROOT, "test/parallel/run.sh"), "2"]
        for i in range(a.rounds):
            for kind, mb in (("buckets", a.bucket), ("one bucket", 1 << 20)):
                run(*ranks, GPT, "train", "--config", "config.json", "--overwrite",
                    *[w for k in (f"train.max_steps={a.steps}", f"train.trace_steps={a.steps}", f"parallel.bucket_mb={mb}")
                      for w in ("--set", k)], cwd=d)
                path = os.path.join(d, "runs/overlap/trace.json")
                with open(path) as f:
                    trace = json.load(f)
                found[kind].append((exposed(trace, a.steps), on_the_way(trace, a.steps)))
                if a.keep:
                    os.makedirs(a.keep, exist_ok=True)
                    shutil.copy(path, os.path.join(a.keep, f"{kind.replace(' ', '-')}-{i}.json"))
                print(f"round {i + 1}, {kind}: exposed {found[kind][-1][0]:.4f} s a step, of {found[kind][-1][1]:.4f} s of gradients", flush=True)
    join = {k: statistics.median(x[0] for x in v) for k, v in found.items()}
    ratio = statistics.median(b[0] / o[0] for b, o in zip(found["buckets"], found["one bucket"]))
    print(f"exposed a step: {join['buckets']:.4f} s in buckets, {join['one bucket']:.4f} s in one; {100 * ratio:.1f} % of it (goal: under 10 %)")


try:
    main()
finally:
    if "--wire" in " ".join(sys.argv):
        wire_down()
