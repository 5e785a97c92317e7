#!/usr/bin/env python3
"""How much memory each stage of `gpt data` takes for how much input: a table, and a failure over --most.

    python3 scripts/bench/big.py [DIR] [--gb 10] [--most-mb 2000] [--threads N]

The input is stories of `gpt data demo`, 250 MB of text a file, gzip'd; every fourth file is the one before it once more,
so that dedup has what to find. DIR (data/big) needs about as many bytes free as the input has; it is emptied before and
after. GPT is the program (./gpt). 10 GB take twenty-five minutes on two cores.
"""
import argparse
import os
import shutil
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
FILE = 250_000_000


def run(*words):
    """Seconds and the most MB of memory that a command took."""
    start = time.perf_counter()
    pid = os.fork()
    if not pid:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execv(GPT, [GPT, "data", *words])
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"gpt data {' '.join(words)}: {open('log').read()[-500:]}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir", nargs="?", default="data/big")
    p.add_argument("--gb", type=float, default=10)
    p.add_argument("--most-mb", type=float, default=2000)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    a.dir = os.path.abspath(a.dir)
    os.makedirs(a.dir, exist_ok=True)
    free = shutil.disk_usage(a.dir).free
    if free < a.gb * 1.2e9:
        sys.exit(f"{a.dir}: {free / 1e9:.0f} GB are free; {a.gb * 1.2:.0f} are needed")
    shutil.rmtree(a.dir)
    os.makedirs(a.dir)
    os.chdir(a.dir)
    n = max(1, round(a.gb * 1e9 / FILE))
    files = [f"stories_{i:03d}.jsonl.gz" for i in range(n)]
    for i, name in enumerate(files):
        run("demo", "--out", name, "--bytes", str(FILE), "--seed", str(i - 1 if i % 4 == 3 else i))
    with open("against.jsonl", "w") as f:
        f.write('{"text": "a set of questions, none of which the stories hold, as far as anyone here knows"}\n')
    gb = n * FILE / 1e9
    print(f"| command | GB | s | MB/s | peak MB, {a.threads} threads |\n|---|---|---|---|---|", flush=True)
    over = False
    for stage, more in ("clean", []), ("dedup", []), ("decontaminate", ["--against", "against.jsonl"]), ("anonymise", []):
        seconds, peak = run(stage, "--input", *files, *more, "--out", stage, "--threads", str(a.threads))
        print(f"| {stage} | {gb:.1f} | {seconds:.0f} | {1e3 * gb / seconds:.0f} | {peak:.0f} |", flush=True)
        over |= peak > a.most_mb
        if stage in ("decontaminate", "anonymise"):
            shutil.rmtree(stage)
    os.chdir("/")
    shutil.rmtree(a.dir)
    return over


if __name__ == "__main__":
    sys.exit(main())
