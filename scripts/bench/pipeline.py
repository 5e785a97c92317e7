#!/usr/bin/env python3
"""The whole way from a raw pile to token shards, on one core: megabytes of raw input a second of CPU time.

    python3 scripts/bench/pipeline.py [--text FOLDER] [--html FOLDER] [--rounds 3]

The stages of scripts/curate_debian.sh, in its order, and decontamination: `data clean` with configs/clean.json and
output.anonymise (decoding, rules, exact duplicates, anonymising; what is dropped is written, too), `data dedup`,
`data decontaminate` against each 50th of what is left, and `data shard`. Each reads what the one before has written; the
tokenizer is trained beforehand, and not counted. The folders are, if nothing else is said, what that script has made of
Debian's packages: data/debian/raw, and the handbook's pages. How fast the whole is depends on how much the rules leave, as
only that goes on: it is printed. CPU time counts, of the program and its threads (one). GPT is the program.
"""
import argparse
import glob
import gzip
import os
import resource
import statistics
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))


def gpt(*args):
    """CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([GPT, *args, "--threads", "1"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(args)}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size(files):
    """Bytes when unpacked."""
    return sum(len(gzip.open(f).read()) if f.endswith(".gz") else os.path.getsize(f) for f in files)


def held(files, path):
    with open(path, "wb") as out:
        for f in files:
            with gzip.open(f) as lines:
                out.writelines(line for i, line in enumerate(lines) if i % 50 == 0)


def run(folder, tokenizer, d):
    """Of each stage: its name, MB that it reads, CPU seconds."""
    raw = [f for f in glob.glob(f"{folder}/**/*", recursive=True) if os.path.isfile(f)]
    stages, files = [], raw

    def stage(name, out, *args):
        nonlocal files
        seconds = gpt("data", name, *args, "--input", *([folder] if files is raw else files), "--out", f"{d}/{name}")
        stages.append((name, size(files) / 1e6, seconds))
        files = sorted(glob.glob(f"{d}/{name}/{out}_*.jsonl.gz"))

    stage("clean", "clean", "--config", os.path.join(ROOT, "configs/clean.json"), "--set", "output.anonymise=true")
    stage("dedup", "kept")
    held(files, f"{d}/held.jsonl")
    stage("decontaminate", "kept", "--against", f"{d}/held.jsonl")
    if not os.path.exists(tokenizer):
        gpt("tokenizer", "train", "--input", *files, "--vocab-size", "4096", "--out", tokenizer)
    stage("shard", "", "--tokenizer", tokenizer)
    return stages


def main():
    arg = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arg.add_argument("--text", default="data/debian/raw")
    arg.add_argument("--html", default="/usr/share/doc/debian-handbook/html/en-US")
    arg.add_argument("--rounds", type=int, default=3)
    a = arg.parse_args()
    for kind, folder in ("text", a.text), ("HTML", a.html):
        rounds = []
        with tempfile.TemporaryDirectory() as keep:
            for _ in range(a.rounds):
                with tempfile.TemporaryDirectory() as d:
                    rounds.append(run(folder, f"{keep}/tokenizer", d))
        for name, mb, _ in rounds[0]:
            seconds = statistics.median(s for r in rounds for n, _, s in r if n == name)
            print(f"{kind}: {name:14} {mb:7.2f} MB in {seconds:6.2f} s")
        mb = rounds[0][0][1]
        rate = statistics.median(mb / sum(s for _, _, s in r) for r in rounds)
        print(f"{kind}: {mb:.1f} MB of raw input, of which {rounds[0][1][1] / mb:.1%} are left by the rules: "
              f"{rate:.1f} MB/s on a core, all stages together", flush=True)


if __name__ == "__main__":
    main()
