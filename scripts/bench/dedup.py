#!/usr/bin/env python3
"""Near-duplicates: `gpt data dedup` against datasketch, on one thread each, and what either finds.

    PYTHON scripts/bench/dedup.py [--mb 20] [--peer-docs 2000] [--rounds 3] [--threads 1]

PYTHON needs datasketch. The corpus is made here: documents of about 500 words by Zipf's law, a third of them copies of
others with 0 to 12 % of their words changed: how many of those are dropped, and whether for a text that they come from, is
printed first (all that --peer-docs 0 does). A round takes a fresh process of each program, one after the other.
Ours is timed as a whole command, reading and gzip'd writing included, and for its signatures alone (which still
includes reading JSON and splitting words); datasketch only for its own part, texts and
5-grams of words ready in memory, on the first --peer-docs documents: signatures by update_batch (its fastest way,
with its default hash and with Python's own), then MinHashLSH with 14 bands of 8. Clusters are compared on those
documents; both follow the same curve with other random numbers, so they differ where the similarity is near 0.72: the
mean similarity of what only one of them found is printed as well.
"""

import argparse, gzip, json, os, random, re, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.environ.get("GPT", os.path.join(ROOT, "gpt"))
NGRAM, BANDS, ROWS = 5, 14, 8


def corpus(path, size):
    r = random.Random(1)
    vocabulary = [
        "".join(r.choice("etaoinshrdlucmfwypvbgk") for _ in range(2 + int(r.expovariate(0.25))))
        for _ in range(30000)
    ]
    weights = [1 / (k + 2) for k in range(len(vocabulary))]
    texts, written, origin = [], 0, []  # origin: the first of its family, and the share of words changed
    with open(path, "w") as f:
        while written < size:
            if texts and r.random() < 0.33:
                source = r.randrange(len(texts))
                words = texts[source].split(" ")
                share = r.choice([0, 0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.12])
                for _ in range(int(len(words) * share)):
                    words[r.randrange(len(words))] = r.choice(vocabulary)
                origin.append((origin[source][0], share))
            else:
                words = r.choices(vocabulary, weights, k=max(20, int(r.gauss(500, 150))))
                origin.append((len(texts), None))
            texts.append(" ".join(words))
            f.write(json.dumps({"i": len(texts) - 1, "text": texts[-1]}) + "\n")
            written += len(texts[-1])
    return texts, written, origin


def grams(text):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + NGRAM]) for i in range(max(1, len(words) - NGRAM + 1))}


def ours(path, out, threads):
    """Seconds of the whole command, and of its signatures."""
    start = time.perf_counter()
    done = subprocess.run(
        [GPT, "data", "dedup", "--input", path, "--out", out, "--threads", str(threads), "--overwrite"],
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - start, float(re.search(r"signed in ([\d.]+) s", done.stderr)[1])


def kept_by_ours(out):
    with gzip.open(os.path.join(out, "kept_000000.jsonl.gz"), "rt") as f:
        return {json.loads(line)["i"] for line in f}


def planted(out, origin):
    """Recall by the share of words that were changed, and precision."""
    with gzip.open(os.path.join(out, "dropped_000000.jsonl.gz"), "rt") as f:
        dropped = {d["i"]: int(d["duplicate_of"].rsplit(":", 1)[1]) - 1 for d in map(json.loads, f)}
    right = sum(origin[i][0] == origin[kept][0] for i, kept in dropped.items())
    print(f"planted: {len(dropped)} dropped, {right} of them for one of their family: precision {right / len(dropped):.4f}")
    for share in sorted({s for _, s in origin if s is not None}):
        copies = [i for i, (_, s) in enumerate(origin) if s == share]
        hits = sum(i in dropped for i in copies)
        print(f"  {100 * share:4.1f} % of the words changed: {hits} of {len(copies)} found, recall {hits / len(copies):.4f}")


PEER = r"""
import datasketch, json, pickle, sys, time
sets, fast = pickle.load(open(sys.argv[1], "rb")), sys.argv[2] == "hash"
start = time.perf_counter()
data = [[g.encode() for g in s] for s in sets]
more = {"hashfunc": lambda d: hash(d) & 0xffffffff} if fast else {}
start = time.perf_counter()
sketches = []
for s in data:
    m = datasketch.MinHash(num_perm=112, **more)
    m.update_batch(s)
    sketches.append(m)
signed = time.perf_counter()
index, parent = datasketch.MinHashLSH(num_perm=112, params=(14, 8)), list(range(len(sets)))
def find(i):
    while parent[i] != i:
        i = parent[i]
    return i
for i, m in enumerate(sketches):
    for j in index.query(m):
        a, b = find(i), find(j)
        parent[max(a, b)] = min(a, b)
    index.insert(i, m)
print(json.dumps([signed - start, time.perf_counter() - signed, [find(i) == i for i in range(len(sets))]]))
"""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--mb", type=float, default=20)
    p.add_argument("--peer-docs", type=int, default=2000)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    import pickle

    with tempfile.TemporaryDirectory() as work:
        path, few, sets = (os.path.join(work, n) for n in ("all.jsonl", "few.jsonl", "sets"))
        texts, size, origin = corpus(path, a.mb * 1e6)
        ours(path, os.path.join(work, "out"), a.threads)
        planted(os.path.join(work, "out"), origin)
        if not a.peer_docs:
            return
        some = texts[: a.peer_docs]
        with open(path) as f, open(few, "w") as g:
            g.writelines(line for _, line in zip(some, f))
        gram_sets = [grams(t) for t in some]
        pickle.dump(gram_sets, open(sets, "wb"))
        shingles = sum(map(len, gram_sets))
        rows = []
        for k in range(a.rounds):
            t, t_signed = ours(path, os.path.join(work, "out"), a.threads)
            row = {"ours, all, MB/s": size / t * 1e-6, "ours, all, docs/s": len(texts) / t}
            row["ours, signatures, docs/s"] = len(texts) / t_signed
            for name in ("sha1", "hash"):
                env = dict(os.environ, PYTHONHASHSEED="0", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
                signed, indexed, kept = json.loads(
                    subprocess.run(
                        [sys.executable, "-c", PEER, sets, name], check=True, capture_output=True, env=env
                    ).stdout
                )
                row[f"datasketch ({name}), all, docs/s"] = len(some) / (signed + indexed)
                row[f"datasketch ({name}), signatures, docs/s"] = len(some) / signed
                for part in ("all", "signatures"):
                    row[f"ratio to {name}, {part}"] = (
                        row[f"ours, {part}, docs/s"] / row[f"datasketch ({name}), {part}, docs/s"]
                    )
            rows.append(row)
            print(f"round {k + 1}: " + ", ".join(f"{n} {v:.4g}" for n, v in row.items()), flush=True)
        print(
            f"\n{len(texts)} documents, {size * 1e-6:.1f} MB; datasketch on {len(some)} of them, {shingles} 5-grams; medians of {a.rounds}:"
        )
        for n in rows[0]:
            print(f"  {n:42} {statistics.median(r[n] for r in rows):10.4g}")
        ours(few, os.path.join(work, "few"), a.threads)
        mine, theirs = kept_by_ours(os.path.join(work, "few")), {i for i, k in enumerate(kept) if k}
        print(
            f"  both drop {len(some) - len(mine | theirs)}, only ours {len(theirs - mine)}, only datasketch {len(mine - theirs)} of {len(some)}"
        )
        for name, only in (("ours", theirs - mine), ("datasketch", mine - theirs)):
            near = [
                max(len(gram_sets[i] & s) / len(gram_sets[i] | s) for j, s in enumerate(gram_sets) if j != i)
                for i in sorted(only)[:50]
            ]
            if near:
                print(
                    f"  dropped by {name} only: similarity to the nearest other, mean {statistics.mean(near):.3f}, {min(near):.3f} to {max(near):.3f}"
                )


if __name__ == "__main__":
    main()
