#!/usr/bin/env python3
"""Training speed of GPT-2 124M against PyTorch on this machine's CPU, in one run.

    PYTHON scripts/bench/train.py [--shapes 4x256,4x1024] [--precisions bf16,fp32] [--rounds 5] [--threads 2]

PYTHON needs torch (the newest is the honest peer) and numpy. Each round runs ours (a fresh process: one step to
warm up, then timed steps), then as many timed steps of PyTorch's (one process that waits between rounds, so that
compilation is never timed), on random tokens. A round's figure is the ratio of the two medians; the table gives the
median over the rounds. MFU is ours, 6N + 6LCT over the peak that `gpt` probes with register-only multiply-adds at its
start. PyTorch runs as its users would after tuning: bf16 autocast, scaled_dot_product_attention, fused AdamW, with
and without torch.compile (the faster counts), huge pages and one OpenMP pool. Peak memory is the kernel's maximum
resident set.
"""
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time

import torch_gpt2

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

TUNED = {
    "OMP_PROC_BIND": "close", "OMP_PLACES": "cores",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 30), "MALLOC_TRIM_THRESHOLD_": str(32 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def run(cmd):
    """Runs a command; returns what it wrote to stderr, and its peak resident bytes."""
    with tempfile.TemporaryFile() as err:
        p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=err)
        _, status, usage = os.wait4(p.pid, 0)
        err.seek(0)
        log = err.read().decode()
    if status != 0:
        sys.exit(f"{' '.join(cmd)}: status {status}\n{log[-2000:]}")
    return log, usage.ru_maxrss << 10


def ours(work, B, T, precision, steps, threads):
    out = os.path.join(work, "run")
    shutil.rmtree(out, ignore_errors=True)
    sets = [f"out={out}", "tokenizer=", f"data.train={work}/tokens.bin", "data.val=[]", f"train.max_steps={steps + 1}",
            f"train.global_batch_size={B}", f"train.micro_batch_size={B}", f"train.seq_len={T}",
            f"train.precision={precision}", f"train.threads={threads}", "train.eval_interval=0",
            "train.sample_interval=0", "train.checkpoint_interval=0", "train.recompute=gelu"]
    log, rss = run([os.path.join(ROOT, "gpt"), "train", "--config", os.path.join(ROOT, "configs/gpt2-124m.json"),
                          "--set", *sets])
    lines = [json.loads(x) for x in open(os.path.join(out, "metrics.jsonl"))][1:]
    ready = [float(x.split()[3]) for x in log.splitlines() if x.startswith("gpt: ready after")]
    shutil.rmtree(out)
    return {"tok_s": statistics.median(x["tokens_per_second"] for x in lines),
            "mfu": statistics.median(x["mfu"] for x in lines), "rss": rss, "ready": ready[0] if ready else None}


class Peer:
    """PyTorch's process: warm when __init__ returns, then one line in, one measurement out."""

    def __init__(self, B, T, precision, steps, threads, compile_):
        cmd = [sys.executable, os.path.abspath(__file__), "--peer", f"{B}x{T}", "--precisions", precision, "--steps",
               str(steps), "--threads", str(threads)] + (["--compile"] if compile_ else [])
        env = {**os.environ, **TUNED, "OMP_NUM_THREADS": str(threads)}
        self.compiled = compile_
        self.process = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        env=env, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{' '.join(cmd)}: did not start")

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        """Returns the process's peak memory in bytes."""
        self.process.stdin.close()
        return os.wait4(self.process.pid, 0)[2].ru_maxrss << 10


def peer_main(a):
    """The peer's process: GPT-2 124M in plain PyTorch."""
    import torch
    torch.set_num_threads(a.threads)
    B, T = map(int, a.peer.split("x"))
    model, opt = torch_gpt2.make(12, 768, 12, 50304, 1024)
    step_of = torch.compile(model) if a.compile else model

    def step():
        idx = torch.randint(50257, (B, T + 1))
        t0 = time.time()
        with torch.autocast("cpu", torch.bfloat16, enabled=a.precisions == "bf16"):
            loss = step_of(idx[:, :-1], idx[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        return time.time() - t0

    step(), step()
    print("ready", flush=True)
    for _ in sys.stdin:
        seconds = statistics.median(step() for _ in range(a.steps))
        print(json.dumps({"tok_s": B * T / seconds, "version": torch.__version__}), flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--shapes", default="4x256,4x1024")
    ap.add_argument("--precisions", default="bf16,fp32")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--compile", action="store_true", help=argparse.SUPPRESS)
    ap.add_argument("--peer", help=argparse.SUPPRESS)
    a = ap.parse_args()
    if a.peer:
        return peer_main(a)
    cpu = next((x.split(":")[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "unknown")
    print(f"GPT-2 124M training, {a.threads} threads, {cpu}; medians of {a.rounds} rounds")
    with tempfile.TemporaryDirectory() as work:
        torch_gpt2.write_tokens(os.path.join(work, "tokens.bin"), 1 << 20)
        for precision in a.precisions.split(","):
            for shape in a.shapes.split(","):
                compare(work, precision, *map(int, shape.split("x")), a)


def compare(work, precision, B, T, a):
    steps = a.steps if B * T <= 1024 else 1
    speed = {}
    for compile_ in (False, True):
        trial = Peer(B, T, precision, steps, a.threads, compile_)
        speed[compile_] = trial.measure()["tok_s"]
        trial.stop()
    them = Peer(B, T, precision, steps, a.threads, speed[True] > speed[False])
    rows = []
    for _ in range(a.rounds):
        us = ours(work, B, T, precision, steps, a.threads)
        peer = them.measure()
        rows.append({**us, "peer": peer["tok_s"], "ratio": us["tok_s"] / peer["tok_s"]})
    rss = them.stop()
    med = {key: statistics.median(r[key] for r in rows) for key in rows[0]}
    print(f"{precision} {B}x{T}: {med['ratio']:.2f} times PyTorch {peer['version']}{' compiled' if them.compiled else ''} "
          f"(rounds {min(r['ratio'] for r in rows):.2f} to {max(r['ratio'] for r in rows):.2f}); "
          f"MFU {100 * med['mfu']:.0f} %; peak memory {med['rss'] / 2**30:.1f} GiB, {med['rss'] / rss:.2f} of "
          f"PyTorch's {rss / 2**30:.1f} GiB; {med['tok_s']:.0f} against {med['peer']:.0f} tokens/s; "
          f"first step after {med['ready']:.2f} s", flush=True)


if __name__ == "__main__":
    main()
