#!/usr/bin/env python3
"""Mojibake: what `gpt data clean` puts right beside what ftfy puts right, on sentences whose truth is known.

    GPT=./gpt python3 test/compat/test_ftfy.py

Sentences of several languages are broken as the web breaks them: UTF-8 read as Windows-1252 or as Latin-1, once or
twice. Both programs are asked for the original; neither may change what was never broken. Needs ftfy (PyPI).
"""
import json
import os
import random
import subprocess
import sys
import tempfile
import gzip
import glob
import unicodedata

try:
    import ftfy
    import ftfy.bad_codecs  # noqa: F401  sloppy-windows-1252
except ImportError as why:
    print(f"0 passed, 0 failed, 1 skipped: {why}")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
CLAUSES = {
    "French": ["l’été était très chaud", "la forêt brûlait déjà", "où êtes-vous né", "ça coûte vingt €", "le garçon reçoit un œuf"],
    "German": ["die Straße führt über die Brücke", "schöne Grüße aus Köln", "er aß früh", "„Öl“ für Ärzte", "das Gemüse wächst"],
    "Spanish": ["el niño pequeño soñó", "¿dónde está el jardín?", "la canción más bonita", "mañana comerá piñón", "según él, sí"],
    "Polish": ["zażółć gęślą jaźń", "źle się śpi późną nocą", "łódź płynie ku wyspie", "dziewięć gęsi odleciało", "chłopiec tańczył"],
    "English": ["it’s a “quoted” word – isn’t it", "the café’s menu… was naïve", "a résumé costs £5", "© 2024 – all rights", "10 °C or ½ cup"],
    "Russian": ["зимой идёт снег", "мы читаем длинные книги", "где находится вокзал", "он любит чёрный хлеб", "вечером будет дождь"],
    "Greek": ["η θάλασσα είναι ήρεμη", "πού είναι ο σταθμός", "διαβάζουμε βιβλία", "το ψωμί είναι ζεστό", "αύριο θα βρέξει"],
    "Japanese": ["猫が庭で眠っている", "明日は雨が降るでしょう", "駅はどこですか", "本を読みました", "新しいパンを買う"],
    "Arabic": ["القطة نائمة في الحديقة", "سوف تمطر غدا", "أين المحطة", "نقرأ الكتب", "الخبز ساخن"],
    "emoji": ["well done 👍 friend", "I ❤ this place", "see you 😀 soon", "a 🎂 for you", "so 😂 funny"],
}
BREAKS = {
    "untouched": lambda t: t,
    "Windows-1252": lambda t: t.encode().decode("sloppy-windows-1252"),
    "Latin-1": lambda t: t.encode().decode("latin-1"),
    "Windows-1252 twice": lambda t: t.encode().decode("sloppy-windows-1252").encode().decode("sloppy-windows-1252"),
}


def sentences(clauses, n, rng):
    return [", ".join(rng.choice(clauses) for _ in range(rng.randint(2, 8))) + "." for _ in range(n)]


def cleaned(texts, scratch):
    """Each text as `gpt data clean` leaves it, all rules off."""
    path, out = os.path.join(scratch, "in.jsonl"), os.path.join(scratch, "out")
    with open(path, "w") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    keys = subprocess.run([GPT, "help", "clean"], capture_output=True, text=True, check=True).stdout.split("\n")
    sets = ["lines.clean=false", "duplicates.documents=false"]
    sets += [k.split()[0] + "=null" for k in keys if k.startswith(("gopher.", "repetition.", "c4.", "fineweb.", "own."))]
    subprocess.run([GPT, "data", "clean", "--input", path, "--out", out, *(w for s in sets for w in ("--set", s))], check=True,
                   capture_output=True)
    found = {}
    for name in glob.glob(f"{out}/clean_*.jsonl.gz"):
        with gzip.open(name, "rt") as f:
            for line in f:
                row = json.loads(line)
                found[row["line"]] = row["text"]
    return [found.get(i + 1, "") for i in range(len(texts))]


def main():
    rng = random.Random(1)
    passed = failed = 0
    for language, clauses in CLAUSES.items():
        truth = [unicodedata.normalize("NFC", t) for t in sentences(clauses, 200, rng)]
        for how, broken in BREAKS.items():
            given = [broken(t) for t in truth]
            with tempfile.TemporaryDirectory() as scratch:
                ours = [a == b for a, b in zip(cleaned(given, scratch), truth)]
            theirs = [ftfy.fix_encoding(g) == t for g, t in zip(given, truth)]
            good = sum(ours) == len(ours) if how == "untouched" else sum(ours) >= sum(theirs) - len(truth) // 50
            passed, failed = passed + good, failed + (not good)
            print(f"{'ok     ' if good else 'FAILED '} {language}, {how}: {sum(ours)} of {len(truth)} right, ftfy {sum(theirs)}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
