#!/usr/bin/env python3
"""Encoding against tiktoken and Hugging Face's tokenizers, and training against tokenizers, in one run.

    PYTHON scripts/bench/tokenizer.py [--corpus FILE] [--mb 100] [--rounds 5] [--threads 2] [--vocab DIR]

PYTHON needs tiktoken and tokenizers. Encoding is on one thread. Ours is the whole process, `gpt tokenizer
encode --count`: it starts, opens the vocabulary, reads the file, encodes. Of the peers only the call that
encodes is timed, each in a fresh process, with the text in memory and cut into documents of some 100 KB, by
the fastest call they have. Training learns 32,000 entries from the same documents on the same number of
threads: ours again is the whole process, theirs train_from_iterator alone. Each round runs all of them one
after the other; the table gives medians over the rounds, of the rates and of each round's ratios. Ids and
merges must be the same, or the run fails.

Without --corpus the text is made from Debian's documentation packages (fetched with apt-get download):
paragraphs of at least 60 characters of which 88 % are letters and spaces, shuffled. --vocab is a folder
with GPT-2's vocabulary (data/gpt2-vocab, where scripts/get_data.sh puts it); without one, one is trained
here.
"""

import argparse
import gzip
import html
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GPT = os.environ.get("GPT", os.path.join(ROOT, "gpt"))
EOT = "<|endoftext|>"
PACKAGES = [
    "dict-gcide",
    "bible-kjv-text",
    "jargon-text",
    "perl-doc",
    "python3-doc",
    "python3.11-doc",
    "debian-handbook",
    "postgresql-doc-15",
    "manpages-dev",
    "linux-doc-6.1",
]


def plain(path):
    """The text of a documentation file."""
    data = open(path, "rb").read()
    text = (gzip.decompress(data) if path.endswith((".gz", ".dz")) else data).decode("utf-8", "ignore")
    if ".html" in path:
        text = html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"(?s)<(script|style|head).*?</\1>", "", text)))
    return text


def paragraphs(text):
    for p in re.split(r"\n\s*\n", text):
        p = " ".join(p.split())
        if len(p) >= 60 and sum(map(str.isalpha, p)) + p.count(" ") >= 0.88 * len(p):
            yield p


def debian_corpus(folder):
    """English prose out of Debian's documentation; what was used, and the text."""
    used = [
        p
        for p in PACKAGES
        if subprocess.run(["apt-get", "download", "-q", p], cwd=folder, capture_output=True).returncode == 0
    ]
    if not used:
        sys.exit("tokenizer.py: apt-get downloads none of the documentation packages; give --corpus FILE")
    for deb in [f for f in os.listdir(folder) if f.endswith(".deb")]:
        subprocess.run(["dpkg-deb", "-x", deb, "x"], cwd=folder, check=True)
    found = []
    for base, dirs, files in os.walk(os.path.join(folder, "x")):
        dirs[:] = sorted(
            d for d in dirs if d != "translations" and not re.fullmatch(r"(?!en-US)[a-z]{2}-[A-Z]{2}", d)
        )
        for f in sorted(files):
            path = os.path.join(base, f)
            if not os.path.islink(path) and (
                re.search(r"\.(rst|txt|pod|dict|html)(\.gz|\.dz)?$", f) or "/man/" in path
            ):
                found.extend(paragraphs(plain(path)))
    random.Random(1).shuffle(found)
    return " ".join(used), "\n".join(found)


def documents(text, size=100_000):
    """Cut before a line break after a character that is not white space, where no piece can cross."""
    at = 0
    while at < len(text):
        end = text.find("\n", at + size)
        while end > 0 and text[end - 1].isspace():
            end = text.find("\n", end + 1)
        end = len(text) if end < 0 else end
        yield text[at:end]
        at = end


# ---- the peers, each in a process of its own ----


def two_files(folder):
    """Vocabulary and merges, by either pair of names; None if they are not there."""
    for pair in ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"):
        paths = [os.path.join(folder, name) for name in pair]
        if all(map(os.path.exists, paths)):
            return paths


def peer_tiktoken(a, docs):
    import tiktoken
    import tiktoken.load
    from tiktoken_ext.openai_public import r50k_pat_str

    vocab, merges = two_files(a.vocab)
    ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(merges, vocab)
    enc = tiktoken.Encoding(
        "x", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={EOT: len(ranks)}
    )
    calls = {
        "encode_ordinary": enc.encode_ordinary,
        "encode_to_numpy": lambda d: enc.encode_to_numpy(d, disallowed_special=()),
    }
    return fastest(calls, docs, lambda call: sum(len(call(d)) for d in docs), lambda call: call(docs[0]))


def peer_tokenizers(a, docs):
    from tokenizers import Tokenizer, models, pre_tokenizers

    hf = Tokenizer(models.BPE.from_file(*two_files(a.vocab)))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    calls = {name: getattr(hf, name) for name in ("encode_batch", "encode_batch_fast") if hasattr(hf, name)}
    return fastest(
        calls, docs, lambda call: sum(len(call([d])[0].ids) for d in docs), lambda call: call(docs[:1])
    )


def fastest(calls, docs, run, warm):
    """Try each call on one document, and time the faster one on all."""
    tried = {}
    for name, call in calls.items():
        warm(call)
        t0 = time.perf_counter()
        warm(call)
        tried[name] = time.perf_counter() - t0
    name = min(tried, key=tried.get)
    t0 = time.perf_counter()
    ids = run(calls[name])
    return {"seconds": time.perf_counter() - t0, "ids": ids, "call": name}


def peer_train(a, docs):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=32000,
        special_tokens=[EOT],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    t0 = time.perf_counter()
    hf.train_from_iterator(docs, trainer)
    seconds = time.perf_counter() - t0
    hf.model.save(os.path.dirname(a.corpus), "theirs")
    return {"seconds": seconds}


PEERS = {"tiktoken": peer_tiktoken, "tokenizers": peer_tokenizers, "train": peer_train}


def peer(name, a, work, threads):
    env = {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    cmd = [
        sys.executable,
        os.path.abspath(__file__),
        "--peer",
        name,
        "--corpus",
        os.path.join(work, "text.txt"),
        "--vocab",
        a.vocab,
    ]
    return json.loads(subprocess.run(cmd, env={**os.environ, **env}, check=True, capture_output=True).stdout)


# ---- ours ----


def ours_encode(a, work):
    t0 = time.perf_counter()
    out = subprocess.run(
        [
            GPT,
            "tokenizer",
            "encode",
            "--tokenizer",
            a.vocab,
            "--input",
            os.path.join(work, "text.txt"),
            "--count",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    return {"seconds": time.perf_counter() - t0, "ids": int(out.stdout)}


def ours_train(a, work):
    t0 = time.perf_counter()
    subprocess.run(
        [
            GPT,
            "tokenizer",
            "train",
            "--input",
            os.path.join(work, "text.jsonl"),
            "--vocab-size",
            "32000",
            "--threads",
            str(a.threads),
            "--out",
            os.path.join(work, "ours"),
        ],
        check=True,
        capture_output=True,
    )
    return {"seconds": time.perf_counter() - t0}


def own_vocabulary(work):
    ours_train(argparse.Namespace(threads=os.cpu_count()), work)
    return os.path.join(work, "ours")


def prepare(a, work):
    """text.txt and text.jsonl in the work folder, and a vocabulary; says what they are."""
    used = a.corpus or None
    text = open(a.corpus, encoding="utf-8", errors="ignore", newline="").read() if a.corpus else None
    if not text:
        used, text = debian_corpus(work)
    data = text.encode()[: a.mb * 1_000_000]
    text = data.decode("utf-8", "ignore")
    with open(os.path.join(work, "text.txt"), "w", newline="") as f:
        f.write(text)
    docs = list(documents(text))
    with open(os.path.join(work, "text.jsonl"), "w") as f:
        f.writelines(json.dumps({"text": d}, ensure_ascii=False) + "\n" for d in docs)
    said = a.vocab
    if not two_files(a.vocab):
        a.vocab, said = own_vocabulary(work), "32,000 entries, trained on the text"
    print(f"text: {len(data) / 1e6:.1f} MB, {len(docs)} documents, from {used}\nvocabulary: {said}")
    return len(data) / 1e6


def merges(path):
    return [
        line
        for line in open(path, encoding="utf-8").read().split("\n")
        if line and not line.startswith("#version")
    ]


def report(what, mb, rounds, peers):
    """One line for ours and one for each peer: the median rate, and how many times faster ours is."""
    for name in ["ours", *peers]:
        rate = statistics.median(mb / r[name]["seconds"] for r in rounds)
        ratio = statistics.median(r[name]["seconds"] / r["ours"]["seconds"] for r in rounds)
        call = rounds[0][name].get("call", "")
        print(
            f"{what:<7} {name:<11} {rate:8.2f} MB/s"
            + (f"   ours is {ratio:6.2f} times as fast   {call}" if name != "ours" else ""),
            flush=True,
        )


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--corpus"), p.add_argument("--mb", type=int, default=100), p.add_argument(
        "--rounds", type=int, default=5
    )
    p.add_argument("--threads", type=int, default=2), p.add_argument(
        "--vocab", default=os.path.join(ROOT, "data", "gpt2-vocab")
    )
    p.add_argument("--peer", choices=PEERS)
    a = p.parse_args()
    if a.peer:
        docs = list(documents(open(a.corpus, encoding="utf-8", newline="").read()))
        print(json.dumps(PEERS[a.peer](a, docs)))
        return
    with tempfile.TemporaryDirectory(prefix="gpt-bench-") as work:
        mb = prepare(a, work)
        encode, train = [], []
        for _ in range(a.rounds):
            encode.append(
                {
                    "ours": ours_encode(a, work),
                    "tiktoken": peer("tiktoken", a, work, 1),
                    "tokenizers": peer("tokenizers", a, work, 1),
                }
            )
            counts = {k: v["ids"] for k, v in encode[-1].items()}
            assert len(set(counts.values())) == 1, f"they do not agree: {counts}"
        report("encode", mb, encode, ["tiktoken", "tokenizers"])
        for _ in range(a.rounds):
            train.append({"ours": ours_train(a, work), "tokenizers": peer("train", a, work, a.threads)})
            assert merges(os.path.join(work, "ours", "merges.txt")) == merges(
                os.path.join(work, "theirs-merges.txt")
            ), "merges differ"
        report("train", mb, train, ["tokenizers"])
        print(
            f"the same {counts['ours']} ids, the same merges; {a.rounds} rounds, {a.threads} threads to train"
        )


if __name__ == "__main__":
    main()
