#!/usr/bin/env python3
"""gpt data clean beside datatrove (the same rules) and trafilatura (HTML to text), on one core each.

    python3 scripts/bench/curate.py [--text-mb 100] [--html FOLDER] [--rounds 3]

The text is Debian's documentation as gpt extracts it, again and again with a number in front of each document, so that
none is a duplicate. datatrove's filters run in this process, on documents that are in memory already, with str.split()
for its word tokenizer: spaCy, its default, is many times slower. gpt's time is the whole program's: reading .jsonl,
normalising, C4's lines, all rules, duplicates, writing .jsonl.gz. Rounds are interleaved; medians are printed.
Needs: datatrove, trafilatura (each is left out if it is not there). GPT is the program.
"""

import argparse
import glob
import gzip
import json
import os
import re
import resource
import statistics
import subprocess
import tempfile
import time

GPT = os.path.abspath(os.environ.get("GPT", "./gpt"))


def clean(inputs, out, *extra):
    """CPU seconds and wall seconds of one run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run([GPT, "data", "clean", "--input", *inputs, "--out", out, "--threads", "1", *extra], check=True,
                   stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.time() - start


def documents(folder):
    for path in sorted(glob.glob(f"{folder}/clean_*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as f:
            yield from (json.loads(line)["text"] for line in f)


def make_text(html, path, size, scratch):
    """Writes the .jsonl; returns some of its documents and its bytes."""
    keep_all = ["--set", "gopher.min_words=null", "--set", "c4.max_braces=null", "--set", "lines.clean=false",
                "--set", "repetition.max_dup_5=null", "--set", "fineweb.max_duplicate_chars=null"]
    clean([html], f"{scratch}/base", *keep_all)
    base, texts, written, number = list(documents(f"{scratch}/base")), [], 0, 0
    with open(path, "w", encoding="utf-8") as f:
        while written < size:
            text = f"Page {number} of this book.\n{base[number % len(base)]}"
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            number += 1
            texts.append(text)
    return texts, written


def datatrove_filters():
    from datatrove.pipeline.filters import c4_filters, fineweb_quality_filter, gopher_quality_filter
    from datatrove.pipeline.filters import gopher_repetition_filter

    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language=None: text.split()
    c4_filters.split_into_sentences = lambda text, language=None: re.split(r"(?<=[.!?])\s+", text)
    return [gopher_repetition_filter.GopherRepetitionFilter(), c4_filters.C4QualityFilter(filter_no_terminal_punct=False),
            gopher_quality_filter.GopherQualityFilter(), fineweb_quality_filter.FineWebQualityFilter()]


def time_datatrove(filters, texts):
    """MB/s over every document through every filter: gpt computes every measure of every document, too."""
    from datatrove.data import Document

    start, size = time.process_time(), 0
    for text in texts:
        size += len(text.encode())
        for f in filters:
            f.filter(Document(text=text, id=""))
    return size / 1e6 / (time.process_time() - start)


def time_trafilatura(html, limit=60):
    import trafilatura

    pages = sorted(glob.glob(f"{html}/**/*.html", recursive=True))[:limit]
    texts = [open(p, encoding="utf-8", errors="replace").read() for p in pages]
    start = time.process_time()
    for t in texts:
        trafilatura.extract(t)
    return sum(map(len, texts)) / 1e6 / (time.process_time() - start)


def row(name, ours, theirs, peer):
    ours = statistics.median(ours)
    line = f"| {name} | {ours:.1f} MB/s |"
    if theirs:
        theirs = statistics.median(theirs)
        line += f" {peer} {theirs:.2f} MB/s | {ours / theirs:.0f} x |"
    print(line)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--text-mb", type=float, default=100)
    p.add_argument("--html", default="/usr/share/doc/debian-handbook/html/en-US")
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    ours, pages, theirs, extract = [], [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/text.jsonl"
        texts, size = make_text(a.html, path, a.text_mb * 1e6, scratch)
        html_size = sum(os.path.getsize(f) for f in glob.glob(f"{a.html}/**/*.html", recursive=True))
        config = ["--set", "lines.end_punctuation=false"]
        try:
            filters = datatrove_filters()
        except ImportError:
            filters = None
        for i in range(a.rounds):
            ours.append(size / 1e6 / clean([path], f"{scratch}/t{i}", *config)[0])
            pages.append(html_size / 1e6 / clean([a.html], f"{scratch}/h{i}", *config)[0])
            if filters:
                theirs.append(time_datatrove(filters, texts[:1000]))
            try:
                extract.append(time_trafilatura(a.html))
            except ImportError:
                pass
    print("| per core, CPU time | gpt data clean | peer | ratio |\n|---|---|---|---|")
    row(f"text, {size / 1e6:.0f} MB", ours, theirs, "datatrove's filters")
    row(f"HTML, {html_size / 1e6:.0f} MB, to judged text", pages, extract, "trafilatura, to text alone")


if __name__ == "__main__":
    main()
