#!/usr/bin/env python3
"""gpt data lm beside KenLM, in one run: training, asking, sizes, peak memory, perplexity.

    GPT=./gpt KENLM=folder python3 scripts/bench/ngram.py [--corpus FILE] [--mb 100] [--order 5] [--rounds 3] [--threads N]

KENLM is the folder of lmplz, build_binary and query (see test/compat/test_ngram.py for how to come by them). Without
--corpus the text is made from Debian's documentation packages, as scripts/bench/tokenizer.py does; every 20th line is
held out. Each side is timed as whole processes, one after the other in each round, and the medians are given: training
as lmplz and build_binary (probing, its fastest form) against gpt data lm train; asking with one thread, start and
opening of the model included. Perplexities must agree within 1 %, or the run fails.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer import debian_corpus  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
KENLM = os.environ.get("KENLM", "")


class Run:
    """A process: its seconds, its peak memory in MB, what it printed."""

    def __init__(self, *words, stdin=os.devnull):
        with open(stdin, "rb") as data, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = time.perf_counter()
            p = subprocess.Popen(words, stdin=data, stdout=out, stderr=err)
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
            self.seconds = time.perf_counter() - start
            self.mb = usage.ru_maxrss / 1024
            err.seek(0)
            assert p.returncode == 0, (words, err.read().decode())
            out.seek(0)
            self.out = out.read().decode()


def corpus(args, folder):
    if not args.corpus:
        return debian_corpus(folder)[1][: int(args.mb * 1e6)]
    with open(args.corpus, errors="replace") as f:
        return f.read(int(args.mb * 1e6))


def split(text, folder):
    text = re.sub(r"</?s>|<unk>", " ", text)  # which lmplz refuses
    lines = [line for line in text.split("\n") if line.strip()]
    for name, which in ("train.txt", [x for i, x in enumerate(lines) if i % 20]), ("test.txt", lines[::20]):
        with open(f"{folder}/{name}", "w") as f:
            f.write("\n".join(which) + "\n")


def ours(folder, args):
    train = Run(GPT, "data", "lm", "train", "--input", f"{folder}/train.txt", "--out", f"{folder}/ours", "--unit",
                "tokens", "--order", str(args.order), "--memory", args.memory, "--threads", str(args.threads))
    ask = Run(GPT, "data", "lm", "score", "--model", f"{folder}/ours", "--input", f"{folder}/test.txt", "--threads", "1")
    return train.seconds, train.mb, ask.seconds, float(ask.out.split("\t")[0])


def theirs(folder, args):
    a = Run(f"{KENLM}/lmplz", "-o", str(args.order), "-S", args.memory, "-T", folder, "--arpa", f"{folder}/k.arpa",
            stdin=f"{folder}/train.txt")
    b = Run(f"{KENLM}/build_binary", "probing", f"{folder}/k.arpa", f"{folder}/k.probing")
    ask = Run(f"{KENLM}/query", "-v", "summary", f"{folder}/k.probing", stdin=f"{folder}/test.txt")
    perplexity = float(re.search(r"including OOVs:\s*(\S+)", ask.out)[1])
    return a.seconds + b.seconds, max(a.mb, b.mb), ask.seconds, perplexity


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--corpus")
    args.add_argument("--mb", type=float, default=100)
    args.add_argument("--order", type=int, default=5)
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--threads", type=int, default=os.cpu_count())
    args.add_argument("--memory", default="1G")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if os.fork() == 0:  # a process starts with its parent's peak memory: keep this one small
            split(corpus(args, folder), folder)
            os._exit(0)
        os.wait()
        rounds = [(ours(folder, args), theirs(folder, args)) for _ in range(args.rounds)]
        a, b = ([statistics.median(r[side][i] for r in rounds) for i in range(4)] for side in (0, 1))
        words = len(open(f"{folder}/test.txt").read().split())
        Run(f"{KENLM}/build_binary", "-q", "8", "-b", "8", "-a", "255", "trie", f"{folder}/k.arpa", f"{folder}/k.trie")
        size = {n: os.path.getsize(f"{folder}/{f}") / 1e6
                for n, f in (("train", "train.txt"), ("ours", "ours/ngram.bin"), ("probing", "k.probing"), ("trie", "k.trie"))}
        print(f"order {args.order}, {size['train']:.1f} MB to learn from, {words} words to ask about, {args.threads} threads")
        print("                    |     ours |    KenLM | ratio")
        print(f"training, s         | {a[0]:8.2f} | {b[0]:8.2f} | {b[0] / a[0]:.2f}")
        print(f"its peak memory, MB | {a[1]:8.0f} | {b[1]:8.0f} | {b[1] / a[1]:.2f}")
        print(f"asking, s           | {a[2]:8.2f} | {b[2]:8.2f} | {b[2] / a[2]:.2f}")
        print(f"words a second      | {words / a[2]:8.0f} | {words / b[2]:8.0f} |")
        print(f"model, MB           | {size['ours']:8.1f} | {size['probing']:8.1f} (probing), {size['trie']:.1f} (8-bit trie)")
        print(f"perplexity          | {a[3]:8.2f} | {b[3]:8.2f} | {b[3] / a[3]:.5f}")
        if abs(a[3] / b[3] - 1) > 0.01:
            sys.exit("the perplexities do not agree")


if __name__ == "__main__":
    main()
