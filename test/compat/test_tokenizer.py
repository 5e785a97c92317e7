#!/usr/bin/env python3
"""Our tokenizer beside tiktoken, Hugging Face's tokenizers and transformers.

    GPT=./gpt GPT2_VOCAB=folder python3 test/compat/test_tokenizer.py [NAME...]

Everything is checked on a vocabulary trained here; with GPT2_VOCAB (or data/gpt2-vocab, where
scripts/get_data.sh puts it) on GPT-2's own as well. Ends with "N passed, N failed, N skipped".
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata

import tiktoken
import tiktoken.load
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
GPT2 = os.environ.get("GPT2_VOCAB", os.path.join(ROOT, "data", "gpt2-vocab"))
EOT = "<|endoftext|>"
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
WORK = tempfile.TemporaryDirectory(prefix="gpt-tokenizer-")


class Skip(Exception):
    pass


def gpt(*words, data=b"", fails=False):
    r = subprocess.run([GPT, "tokenizer", *words], input=data, capture_output=True)
    assert (r.returncode != 0) == fails, (words, r.returncode, r.stderr.decode(errors="replace"))
    return r.stderr.decode() if fails else r.stdout


def encode(folder, data, *flags):
    return [int(w) for w in gpt("encode", "--tokenizer", folder, *flags, data=data).split()]


def decode(folder, ids):
    return gpt("decode", "--tokenizer", folder, data=" ".join(map(str, ids)).encode())


def two_files(folder):
    """Vocabulary and merges, by either pair of names; None if they are not there."""
    for pair in ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"):
        paths = [os.path.join(folder, name) for name in pair]
        if all(map(os.path.exists, paths)):
            return paths


def tiktoken_of(folder):
    """tiktoken with the ranks of a folder: its own reader for GPT-2's two files does for any byte-level BPE."""
    vocab, merges = two_files(folder)
    ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(merges, vocab)
    return tiktoken.Encoding(folder, pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={EOT: len(ranks)})


WORDS = """
the of and to in a is that for it was on are as with his they at be this from I have or by one had not but
what all were when we there can an your which their said if do will each about how up out them then she
many some so these would other into has more her two like him see time could no make than first been its
who now people my made over did down only way find use may water long little very after words called just
where most know
""".split()


def prose(rng, n):
    """English-like text: words by Zipf's law, made-up words, numbers, punctuation, contractions, paragraphs."""
    out = []
    for _ in range(n):
        w = WORDS[min(int(rng.paretovariate(0.7)) - 1, len(WORDS) - 1)]
        if rng.random() < 0.2:
            w = "".join(
                rng.choice(["ka", "ro", "ti", "ness", "ing", "pre", "al", "tion", "qu", "é", "ß"])
                for _ in range(rng.randint(2, 4))
            )
        if rng.random() < 0.05:
            w = str(rng.randint(0, 99999))
        if rng.random() < 0.05:
            w += rng.choice(["'s", "'t", "'ll", "'re", "'ve", "'d", "'m"])
        out.append(w.capitalize() if rng.random() < 0.1 else w)
        out.append(rng.choice([" "] * 12 + [", ", ". ", ".\n", ";  ", " - ", "!\n\n", "\t"]))
    return "".join(out)


_trained = {}


def trained(spelling="strings"):
    """A folder of ours with 2,000 entries."""
    if spelling not in _trained:
        out = os.path.join(WORK.name, "ours-" + spelling)
        text = os.path.join(WORK.name, "text.txt")
        with open(text, "w", newline="") as f:
            f.write(prose(random.Random(1), 60000))
        gpt("train", "--input", text, "--vocab-size", "2000", "--out", out, "--merges", spelling)
        _trained[spelling] = out
    return _trained[spelling]


def vocabularies():
    ours = trained()
    yield ours, tiktoken_of(ours)
    if two_files(GPT2):
        yield GPT2, tiktoken_of(GPT2)


POOLS = [
    " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000\x1c\x1f\u180e\u200b\ufeff",
    "abcXYZéßñžДяあ漢字한ªǅʰ\u0300\u0301\u093e𝒜𐐀",
    "0123456789²½Ⅷ٣४𝟙①",
    "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~—“”…€😀👩‍👩‍👧\u0000\u007f\ufffd\U000e0001",
    "'s't're've'm'll'd'S'RE",
]


def random_text(rng, n):
    """Runs of one kind, single spaces, whole contractions, and any code point at all."""
    out = []
    while len(out) < n:
        r = rng.random()
        if r < 0.08:
            c = rng.randrange(0x110000)
            out.append(chr(c) if not 0xD800 <= c < 0xE000 else "?")
        elif r < 0.25:
            out.append(" ")
        elif r < 0.35:
            out.append(
                rng.choice(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'", "''", " '", "'r", "'v", "'l"])
            )
        elif r < 0.5:
            out.append(rng.choice(WORDS))
        else:
            pool = rng.choice(POOLS)
            out.extend(rng.choice(pool) for _ in range(rng.randint(1, 4)))
    return "".join(out)


def same(folder, enc, data, what):
    """Ours and tiktoken's ids of one input, text or not; and back again."""
    want = enc._encode_bytes(data) if isinstance(data, bytes) else enc.encode_ordinary(data)
    raw = data if isinstance(data, bytes) else data.encode()
    got = encode(folder, raw, "--special", "text")
    assert got == want, f"{what}: {raw[:200]!r}: ours {got[:40]} tiktoken {want[:40]}"
    assert decode(folder, got) == raw, what


def test_random_utf8():
    rng = random.Random(2)
    for folder, enc in vocabularies():
        for i in range(40):
            same(folder, enc, random_text(rng, 4000), f"text {i}")
        for i in range(40):
            same(folder, enc, random_text(rng, rng.randint(0, 20)), f"short text {i}")


def test_every_code_point():
    """Each code point between two letters, and after a space: any wrong class changes the pieces."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    folder, enc = next(vocabularies())
    for at in range(0, len(points), 1 << 17):
        text = "".join(f"a{c}a {c} 1{c}1.{c}" for c in points[at : at + (1 << 17)])
        same(folder, enc, text, f"code points from {at:#x}")


def test_invalid_bytes():
    rng = random.Random(3)
    for folder, enc in vocabularies():
        for i in range(250 if folder == trained() else 60):
            text = random_text(rng, rng.randint(0, 60)).encode()
            kind = rng.randrange(4)
            if kind == 0:  # cut anywhere
                data = text[: rng.randint(0, len(text))]
            elif kind == 1:  # one broken byte
                at = rng.randint(0, len(text))
                data = text[:at] + bytes([rng.randrange(128, 256)]) + text[at:]
            elif kind == 2:  # blanks before the break
                data = (
                    text
                    + rng.choice([b" ", b"\n\n ", b"  ", b" \t ", b"\xc2\xa0 "])
                    + rng.choice([b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
                    + text[:20]
                )
            else:
                data = bytes(rng.randrange(256) for _ in range(rng.randint(0, 40)))
            same(folder, enc, data, f"bytes {i}")


def test_pathological():
    cases = {
        "a million ^": "^" * 1_000_000,
        "512 KiB of one letter": "a" * (1 << 19),
        "blanks": " " * 300_000 + "x" + "\n" * 300_000,
        "blanks and tabs": (" " * 50 + "\t") * 5000 + "end",
        "apostrophes": "'" * 200_000 + "'s" * 100_000,
        "one long word": "".join(random.Random(4).choice("abcdefgh") for _ in range(200_000)),
        "digits": "0123456789" * 20_000,
        "combining": "e\u0301" * 100_000,
        "one wide letter": "漢" * 100_000,
    }
    for folder, enc in vocabularies():
        for what, text in cases.items():
            start = time.monotonic()
            got = encode(folder, text.encode())
            took = time.monotonic() - start
            assert took < 5, f"{what}: {took:.1f} s"
            # tiktoken is quadratic on some of these: ids are compared on a part of them
            assert decode(folder, got) == text.encode(), what
            short = text[: len(text) // 50]
            same(folder, enc, short, what)


def test_special():
    folder = trained()
    enc = tiktoken_of(folder)
    for text in [
        EOT,
        "a" + EOT,
        EOT + EOT + " b",
        "x <|endoftext| > <|endoftext|>\n",
        "<|endof" + EOT + "text|>",
        "",
    ]:
        assert encode(folder, text.encode()) == enc.encode(text, allowed_special="all"), text
        assert encode(folder, text.encode(), "--special", "text") == enc.encode(
            text, disallowed_special=()
        ), text
        if EOT in text:
            assert "special token" in gpt(
                "encode", "--tokenizer", folder, "--special", "refuse", data=text.encode(), fails=True
            )
        else:
            assert encode(folder, text.encode(), "--special", "refuse") == enc.encode(text)


def agree(hf, folder, special=EOT):
    """Ours and theirs, a function from text to ids, on one long text at a time."""
    rng = random.Random(5)
    texts = [random_text(rng, 5000) for _ in range(4)] + [prose(rng, 2000)]
    if special:
        texts.append(f"one{special} two{special}{special}\n")
    for text in texts:
        # Hugging Face's libraries have older tables of Unicode, down to its version 8: keep to what all know.
        text = "".join(c for c in text if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs", "Co"))
        ours, want = encode(folder, text.encode()), hf(text)
        at = next((i for i, (a, b) in enumerate(zip(ours, want)) if a != b), min(len(ours), len(want)))
        assert ours == want, (folder, at, ours[at - 3 : at + 5], want[at - 3 : at + 5], len(ours), len(want))


def test_tokenizers_open_ours():
    for spelling in "strings", "pairs":
        folder = trained(spelling)
        merges = json.load(open(os.path.join(folder, "tokenizer.json")))["model"]["merges"]
        assert isinstance(merges[0], str if spelling == "strings" else list)
        hf = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        agree(lambda s: hf.encode(s).ids, folder)
        assert hf.decode(hf.encode("It's 9 o'clock.").ids) == "It's 9 o'clock."
        bpe = Tokenizer(
            models.BPE.from_file(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"))
        )
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        agree(lambda s: bpe.encode(s).ids, folder, special=None)


def test_transformers_open_ours():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    folder = trained()
    for cls in transformers.AutoTokenizer, transformers.GPT2TokenizerFast:
        hf = cls.from_pretrained(folder)
        agree(lambda s: hf(s)["input_ids"], folder)
        assert hf.eos_token == EOT and hf.eos_token_id == hf.vocab_size - 1 == len(hf) - 1


def hf_trained(files_or_texts, vocab_size):
    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOT],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    hf.train_from_iterator(files_or_texts, trainer)
    return hf


def test_we_open_tokenizers():
    hf = hf_trained([prose(random.Random(6), 5000)], 600)
    for spelling in "pairs", "strings":
        folder = os.path.join(WORK.name, "theirs-" + spelling)
        os.makedirs(folder, exist_ok=True)
        whole = json.loads(hf.to_str())
        pairs = [m.split(" ") if isinstance(m, str) else m for m in whole["model"]["merges"]]
        whole["model"]["merges"] = pairs if spelling == "pairs" else [" ".join(m) for m in pairs]
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            json.dump(whole, f)
        agree(lambda s: hf.encode(s).ids, folder)
    folder = os.path.join(WORK.name, "theirs-two-files")
    os.makedirs(folder, exist_ok=True)
    hf.model.save(folder)
    agree(lambda s: hf.encode(s).ids, folder)


def test_we_open_transformers():
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    hf = transformers.AutoTokenizer.from_pretrained(trained())
    hf.add_special_tokens({"pad_token": "<|pad|>"})
    hf.add_tokens(["frobnicate"])
    folder = os.path.join(WORK.name, "saved-by-transformers")
    hf.save_pretrained(folder)
    agree(lambda s: hf(s)["input_ids"], folder)
    text = "We frobnicate<|pad|>!"
    assert encode(folder, text.encode()) == hf(text)["input_ids"]


def test_gpt1():
    """A small tokenizer of GPT-1's kind: from transformers to us and back."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    hf = transformers.OpenAIGPTTokenizer()
    rng = random.Random(8)
    texts = [prose(rng, 3000), "".join(POOLS), 'Ünïcödé ÀÉ Ørsted; 漢字, "x"! ﬁ İstanbul 한국어 각']
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    inner = hf.backend_tokenizer
    model = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    model.normalizer, model.pre_tokenizer = inner.normalizer, inner.pre_tokenizer
    model.train_from_iterator(texts, trainer)
    two = os.path.join(WORK.name, "gpt1-two-files")
    os.makedirs(two)
    model.model.save(two)
    hf = transformers.OpenAIGPTTokenizer.from_pretrained(two)
    saved = os.path.join(WORK.name, "gpt1-saved-by-transformers")
    hf.save_pretrained(saved)
    moved = {0x166D, 0x1734, 0x1885, 0x1886}  # to another category after Unicode 8, which their library has
    known = [
        chr(c) for c in range(1, 0x30000) if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co")
    ]
    every = "".join(f"a{c}a {c} " for c in known if ord(c) not in moved)
    for folder in two, saved:
        agree(lambda s: hf(s)["input_ids"], folder, special="<unk>")
        ids = encode(folder, every.encode())
        assert ids == hf(every)["input_ids"]
        text = "It's the ÉTÉ of 1984,  isn't it?"
        assert decode(folder, encode(folder, text.encode())).decode() == hf.decode(
            hf(text)["input_ids"], clean_up_tokenization_spaces=False
        )


def test_merges_equal():
    rng = random.Random(7)
    texts = [prose(rng, 400) for _ in range(60)] + [
        "a" * 5000,
        "ab" * 999 + "b",
        " " * 77,
        "zz top " * 50,
        "x",
    ]
    path = os.path.join(WORK.name, "documents.jsonl")
    with open(path, "w") as f:
        f.writelines(json.dumps({"text": t}) + "\n" for t in texts)
    theirs = [tuple(m) for m in json.loads(hf_trained(texts, 3000).to_str())["model"]["merges"]]
    for threads in "1", "2", "7":
        out = os.path.join(WORK.name, "merges-" + threads)
        gpt("train", "--input", path, "--vocab-size", "3000", "--out", out, "--threads", threads)
        ours = [
            tuple(line.split(" ")) for line in open(os.path.join(out, "merges.txt")).read().split("\n")[1:-1]
        ]
        first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
        assert ours == theirs, (
            len(ours),
            len(theirs),
            first,
            first is not None and (ours[first], theirs[first]),
        )


def test_gpt2_vocabulary():
    """Of GPT-2's own: known ids, and that every entry is the encoding of its own bytes."""
    if not two_files(GPT2):
        raise Skip("no GPT-2 vocabulary; set GPT2_VOCAB or run scripts/get_data.sh gpt2-vocab")
    assert encode(GPT2, b"Hello world") == [15496, 995]
    assert encode(GPT2, EOT.encode()) == [50256]
    enc = tiktoken_of(GPT2)
    tokens = [enc.decode_single_token_bytes(i) for i in range(50256)]
    # \xff never stands in text, so what follows it is merged as one piece; a zero byte joins nothing in GPT-2
    ids = encode(GPT2, b"\xff" + b"\x00".join(tokens))
    assert [i for i in ids[1:] if i != 188] == [i for i in range(50256) if i != 188]


def main():
    tests = {k[5:]: v for k, v in globals().items() if k.startswith("test_")}
    passed = failed = skipped = 0
    for name, fn in tests.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        start = time.monotonic()
        try:
            fn()
            passed += 1
            print(f"ok      {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Skip as why:
            skipped += 1
            print(f"skipped {name}: {why}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {name}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
