"""Languages told apart: a model of scripts/train_language.sh against langdetect and py3langid, which bring their own.

    scripts/bench/language.py [--model data/language] [--lines 300]

The lines are those that the script left in MODEL/test, from a book that none of our model's examples come from. The
peers are asked for the same languages where they can be told (py3langid). Needs langdetect and py3langid (PyPI).
"""
import argparse, glob, json, os, subprocess, sys, time

import langdetect, py3langid

p = argparse.ArgumentParser()
p.add_argument("--model", default="data/language")
p.add_argument("--lines", type=int, default=300, help="of each language")
p.add_argument("--gpt", default=os.path.join(os.path.dirname(__file__), "../../gpt"))
a = p.parse_args()

lines = []  # (language, text)
for path in sorted(glob.glob(a.model + "/test/*.jsonl")):
    language = os.path.basename(path)[:-6]
    texts = [json.loads(x)["text"] for x in open(path, encoding="utf8")]
    lines += [(language, t) for t in texts[:: max(1, len(texts) // a.lines)]]
if not lines:
    sys.exit(f"{a.model}/test: no lines; run scripts/train_language.sh")
known = [os.path.basename(x)[:-6] for x in glob.glob(a.model + "/train/*.jsonl")]


def ours():
    text = "".join(json.dumps({"text": t}) + "\n" for _, t in lines)
    path = os.path.join(a.model, "lines.jsonl")
    with open(path, "w") as f:
        f.write(text)
    out = subprocess.run([a.gpt, "data", "classifier", "score", "--model", a.model, "--input", path],
                         check=True, capture_output=True, text=True).stdout.splitlines()
    os.remove(path)
    labels = out[0].split("\t")[:-1]
    for row in out[1:]:
        score = [float(x) for x in row.split("\t")[: len(labels)]]
        yield labels[score.index(max(score))]


def theirs_langid():
    py3langid.set_languages(["no" if x == "nb" else x for x in known])
    return (py3langid.classify(t)[0] for _, t in lines)


def theirs_langdetect():
    langdetect.DetectorFactory.seed = 0
    for _, t in lines:
        try:
            yield langdetect.detect(t)[:2]
        except langdetect.lang_detect_exception.LangDetectException:
            yield "?"


print(f"{len(lines)} lines in {len({x for x, _ in lines})} languages")
for name, ask in ("gpt", ours), ("py3langid", theirs_langid), ("langdetect", theirs_langdetect):
    start = time.perf_counter()
    said = list(ask())
    seconds = time.perf_counter() - start
    right = sum(x == want for x, (want, _) in zip(said, lines))
    print(f"{name:12} {100 * right / len(lines):6.2f} % right, {seconds:6.2f} s")
