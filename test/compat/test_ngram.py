#!/usr/bin/env python3
"""Our n-gram models beside KenLM's, and beside a plain implementation of modified Kneser-Ney in exact fractions.

    GPT=./gpt KENLM=folder python3 test/compat/test_ngram.py [NAME...]

KENLM is where lmplz and query are (else PATH is searched); what needs them is skipped without. KenLM's sources come
with the PyPI package kenlm (pip download kenlm --no-deps --no-binary kenlm; cmake builds lmplz and query, given Boost).
Ends with "N passed, N failed, N skipped".
"""
import collections
import fractions
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
WORK = tempfile.TemporaryDirectory(prefix="gpt-ngram-")
F = fractions.Fraction


class Skip(Exception):
    pass


def path(name):
    return os.path.join(WORK.name, name)


def run(*words, data=None):
    r = subprocess.run(words, input=data, capture_output=True, text=True)
    assert r.returncode == 0, (words, r.stderr)
    return r.stdout, r.stderr


def kenlm(name):
    where = os.path.join(os.environ["KENLM"], name) if "KENLM" in os.environ else shutil.which(name)
    if not where or not os.path.exists(where):
        raise Skip(f"no {name}; see KENLM at the top of this file")
    return where


def zipf_sentences(n, words, seed):
    """Sentences from a random bigram source, so that there is something to learn, with a few blank lines."""
    r = random.Random(seed)
    after = {}
    lines = []
    for _ in range(n):
        w, line = 0, []
        for _ in range(r.randint(1, 20)):
            w = r.choice(after.setdefault(w, [int(words ** r.random()) for _ in range(8)]))
            line.append(f"w{w}" if r.random() < 0.9 else f"w{int(words ** r.random())}")
        lines.append("\t ".join(line))
        if r.random() < 0.05:
            lines.append("  ")
    return lines


def write(name, lines):
    with open(path(name), "w") as f:
        f.write("".join(line + "\n" for line in lines))
    return path(name)


def write_documents(name, documents):
    with open(path(name), "w") as f:
        f.writelines(json.dumps({"text": d}) + "\n" for d in documents)
    return path(name)


def train(text, order, *flags):
    out = run(GPT, "data", "lm", "train", "--input", text, "--out", path("ours"), "--order", str(order), "--unit",
              "tokens", *flags)[0]
    return [(int(n), [float(x) for x in d.split()[:3]])
            for n, d in re.findall(r"^\d-grams: (\d+), discounts (.*)$", out, re.M)]


def perplexities(documents):
    out = run(GPT, "data", "lm", "score", "--model", path("ours"), "--input", write_documents("d.jsonl", documents))[0]
    return [float(line.split("\t")[0]) for line in out.splitlines()]


# ---- the plain implementation ----


class Plain:
    """Chen & Goodman's equations as they stand; slow. Counts of short n-grams are those of the words before them."""

    def __init__(self, lines, order):
        full = [collections.Counter() for _ in range(order + 1)]
        for line in lines:
            words = ["<s>", *line.split(), "</s>"]
            for n in range(1, order + 1):
                full[n].update(tuple(words[i:i + n]) for i in range(len(words) - n + 1) if len(words) > 2)
        self.order = order
        self.count = [None, *full[1:]]
        for n in range(1, order):
            before = collections.defaultdict(set)
            for g in full[n + 1]:
                before[g[1:]].add(g[0])
            self.count[n] = {g: c if g[0] == "<s>" else len(before[g]) for g, c in full[n].items()}
        del self.count[1][("<s>",)]
        self.words = len(self.count[1]) + 1  # with <unk>
        self.discount = [None, *(self.discounts(n) for n in range(1, order + 1))]
        self.after = [None, *(collections.defaultdict(list) for _ in range(order))]
        for n in range(1, order + 1):
            for g, c in self.count[n].items():
                self.after[n][g[:-1]].append(c)

    def discounts(self, n):
        t = collections.Counter(self.count[n].values())
        y = F(t[1], t[1] + 2 * t[2])
        return [0, *(k - (k + 1) * y * F(t[k + 1], t[k]) for k in (1, 2, 3))]

    def p(self, word, history):
        history = tuple(history[len(history) - self.order + 1:] if len(history) >= self.order else history)
        n = len(history) + 1
        counts = self.after[n].get(history)
        shorter = F(1, self.words) if n == 1 else self.p(word, history[1:])
        if not counts:
            return shorter
        d, c = self.discount[n], self.count[n].get((*history, word), 0)
        return (c - d[min(c, 3)] + sum(d[min(x, 3)] for x in counts) * shorter) / F(sum(counts))

    def perplexity(self, document):
        total, n = 0.0, 0
        for line in document.split("\n"):
            words = line.split()
            history = ["<s>"]
            for w in [*words, "</s>"] if words else []:
                total -= math.log(self.p(w if (w,) in self.count[1] else "<unk>", history))
                n += 1
                history.append(w)
        return math.exp(total / n)


def test_plain_implementation():
    """Discounts to the last printed digit, perplexities to the steps of the table."""
    lines = zipf_sentences(300, 60, 1)
    others = zipf_sentences(40, 90, 2)  # with words and pairs that the first ones lack
    documents = ["\n".join(others[i:i + 2]) + "\n" for i in range(0, len(others) - 2, 2)]
    documents = [d for d in documents if d.split()]
    for order in 2, 3, 4:
        said = train(write("train.txt", lines), order)
        plain = Plain(lines, order)
        for n in range(1, order + 1):
            assert said[n - 1][0] == len(plain.count[n]) + 2 * (n == 1), (n, said)
            assert all(abs(a - float(b)) <= 0.5001e-4 for a, b in zip(said[n - 1][1], plain.discount[n][1:])), (n, said)
        for d, ours in zip(documents, perplexities(documents), strict=True):
            want = plain.perplexity(d)
            assert abs(ours - want) < 0.006 + 4e-4 * want, (d, ours, want)


# ---- KenLM ----


def query(arpa, text):
    out = run(kenlm("query"), "-v", "summary", arpa, data=text)[0]
    return float(re.search(r"Perplexity including OOVs:\s*(\S+)", out)[1])


def agrees_with_kenlm(order, *prune):
    lines = [line for line in zipf_sentences(3000, 2000, 3) if line.split()]
    others = [line for line in zipf_sentences(200, 3000, 4) if line.split()]
    text = write("train.txt", lines)
    flags = ["--prune", *prune] if prune else []
    arpa, said = run(kenlm("lmplz"), "-o", str(order), "-S", "200M", "-T", WORK.name, *flags,
                     data="".join(line + "\n" for line in lines))
    with open(path("k.arpa"), "w") as f:
        f.write(arpa)
    ours = train(text, order, *flags)
    theirs = [(int(n), [float(x) for x in d]) for n, *d in
              re.findall(r"^\d (\d+)(?:/\d+)? D1=(\S+) D2=(\S+) D3\+=(\S+)$", said, re.M)]
    sizes = [int(n) for n in re.findall(r"^ngram \d+=(\d+)$", arpa, re.M)]
    assert [n for n, _ in ours] == sizes, (ours, sizes)
    assert len(theirs) == order
    for (_, a), (_, b) in zip(ours, theirs):
        assert all(abs(x - y) < 1e-4 for x, y in zip(a, b)), (a, b)
    documents = ["\n".join(others[i:i + 5]) + "\n" for i in range(0, len(others), 5)]
    for d, p in zip(documents, perplexities(documents), strict=True):
        want = query(path("k.arpa"), d)
        assert abs(p - want) < 1e-3 * want, (d, p, want)  # ten times closer than 1 %


def test_kenlm_bigrams():
    agrees_with_kenlm(2)


def test_kenlm_5():
    agrees_with_kenlm(5)


def test_kenlm_5_pruned():
    agrees_with_kenlm(5, "0", "0", "1")


def test_kenlm_3_pruned_hard():
    agrees_with_kenlm(3, "0", "2", "3")


def main():
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_") and (len(sys.argv) < 2 or n in sys.argv)]
    count = collections.Counter()
    for name, test in tests:
        try:
            test()
            verdict = "ok"
        except Skip as why:
            verdict = "skipped"
            name += f": {why}"
        except Exception:
            traceback.print_exc()
            verdict = "FAILED"
        count[verdict] += 1
        print(f"{verdict:7} {name}", flush=True)
    print(f"{count['ok']} passed, {count['FAILED']} failed, {count['skipped']} skipped")
    sys.exit(count["FAILED"] > 0)


if __name__ == "__main__":
    main()
