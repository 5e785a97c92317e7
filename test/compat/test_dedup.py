#!/usr/bin/env python3
"""`gpt data dedup` beside datasketch: the same clusters.

    GPT=./gpt python3 test/compat/test_dedup.py

Signatures are computed here once more, in Python's whole numbers, from what minhash.h and words.h promise; datasketch
finds the pairs that share a band. Ends with "N passed, N failed, N skipped".
"""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile

try:
    import datasketch
    import numpy
except ImportError:
    print("skipped: datasketch is not installed\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
# from version 2 on, ready values must say which scheme they are of; for bands any will do
SCHEME = {} if datasketch.__version__ < "2" else {"scheme": "legacy"}
M64, P = (1 << 64) - 1, (1 << 61) - 1


def mix(x):
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & M64
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & M64
    return x ^ x >> 33


def join(h, item):
    x = (h ^ 0x9E3779B97F4A7C15) * (((item << 32 | item >> 32) & M64) ^ 0xD1B54A32D192ED03)
    return (x ^ x >> 64) & M64


def hash_word(word):
    data = word.lower().encode()
    h, n = mix(len(data)), len(data) // 8 * 8
    for at in range(0, n, 8):
        h = join(h, int.from_bytes(data[at : at + 8], "little"))
    return mix(join(h, int.from_bytes(data[n:], "little")))


def shingles(text, ngram):
    words = [hash_word(w) for w in re.findall(r"[A-Za-z0-9]+", text)]
    runs = [words[i : i + ngram] for i in range(max(1, len(words) - ngram + 1))] if words else []
    found = set()
    for run in runs:
        h = 0
        for w in run:
            h = (h * 0x9E3779B97F4A7C15 + w) & M64
        x = mix(h) >> 3
        found.add(0 if x == P else x)
    return found


def philox(key, lo):
    c, k = [lo & 0xFFFFFFFF, lo >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return (c[0] << 32 | c[1]) % P


def permutations(n):
    return [(philox(0x6D696E68617368, 2 * i) or 1, philox(0x6D696E68617368, 2 * i + 1)) for i in range(n)]


def signature(text, ngram, perms):
    x = shingles(text, ngram)
    return [min((a * s + b) % P for s in x) for a, b in perms]


def clusters(texts, bands, rows, ngram):
    """For each text the first one of its cluster, by datasketch's index."""
    perms = permutations(bands * rows)
    index = datasketch.MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    parent = list(range(len(texts)))

    def find(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for i, text in enumerate(texts):
        values = numpy.array(signature(text, ngram, perms), dtype=numpy.uint64)
        m = datasketch.MinHash(num_perm=bands * rows, hashvalues=values, **SCHEME)
        for j in index.query(m):
            a, b = find(i), find(j)
            parent[max(a, b)] = min(a, b)
        index.insert(i, m)
    return [find(i) for i in range(len(texts))]


def ours(texts, bands, rows, ngram, folder):
    path, out = os.path.join(folder, "x.jsonl"), os.path.join(folder, "out")
    with open(path, "w") as f:
        f.writelines(json.dumps({"i": i, "text": t}) + "\n" for i, t in enumerate(texts))
    subprocess.run(
        [
            GPT,
            "data",
            "dedup",
            "--input",
            path,
            "--out",
            out,
            "--bands",
            str(bands),
            "--rows",
            str(rows),
            "--ngram",
            str(ngram),
        ],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    first = [None] * len(texts)
    with gzip.open(os.path.join(out, "kept_000000.jsonl.gz"), "rt") as f:
        for o in map(json.loads, f):
            first[o["i"]] = o["i"]
    with gzip.open(os.path.join(out, "dropped_000000.jsonl.gz"), "rt") as f:
        for o in map(json.loads, f):
            first[o["i"]] = int(o["duplicate_of"].rsplit(":", 1)[1]) - 1
    return first


def corpus(seed):
    r = random.Random(seed)
    texts = []
    for _ in range(60):
        words = [f"w{r.randrange(3000)}" for _ in range(80)]
        for changed in (0, 0, 1, 2, 4, 8):
            copy = list(words)
            for _ in range(changed):
                copy[r.randrange(80)] = f"w{r.randrange(3000)}"
            texts.append(r.choice([" ", ", "]).join(copy).replace("w", r.choice("wW")))
    r.shuffle(texts)
    return texts


def main():
    passed = failed = 0
    for k, (bands, rows, ngram) in enumerate([(14, 8, 5), (20, 5, 3), (5, 20, 8)]):
        with tempfile.TemporaryDirectory() as folder:
            texts = corpus(k)
            want, got = clusters(texts, bands, rows, ngram), ours(texts, bands, rows, ngram, folder)
            ok = want == got and 60 < len(set(want)) < len(texts)
            print(
                f"{'ok     ' if ok else 'FAILED '} {bands} bands of {rows}, {ngram} words: {len(set(want))} clusters of {len(texts)} texts"
            )
            passed, failed = passed + ok, failed + (not ok)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
