#!/usr/bin/env python3
"""Makes the files beside it: what Hugging Face's tokenizers and tiktoken say, for test/unit/test_tokenizer.c.

    python3 test/golden/tokenizer/make.py        (needs tokenizers, tiktoken, regex)

corpus.txt                   made-up text
tokenizer.json vocab.json merges.txt   what tokenizers learns from it, 400 entries, <|endoftext|> first
pieces.txt                   texts cut by GPT-2's pattern: the pieces in hex, a space between
ids.txt                      any bytes, in hex, a tab, and their ids under that vocabulary by tiktoken
gpt1/          a small tokenizer of GPT-1's kind by tokenizers; its ids.txt has a third column, the
               text, in hex, that the ids decode to
"""

import json
import os
import random

import regex
import tiktoken
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
EOT = "<|endoftext|>"
PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def path(name):
    return os.path.join(HERE, name)


def corpus(rng):
    syllables = "ba ker lo mi stra the ing er un qu é ß да 漢".split()
    words = ["".join(rng.choice(syllables) for _ in range(rng.randint(1, 4))) for _ in range(150)]
    words += ["it's", "we'll", "don't", "aaaa", "abababab", "1984", "3.14", "zzzzzzz"]
    gaps = [" "] * 10 + [", ", ". ", "\n", "\n\n", "\n\n\n", "  ", "    ", "\t", "...", " -- "]
    return "".join(
        words[min(int(rng.paretovariate(0.8)) - 1, len(words) - 1)] + rng.choice(gaps) for _ in range(2500)
    )


def train(text):
    hf = Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.train_from_iterator(
        [text],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=[EOT],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    hf.save(path("tokenizer.json"), pretty=False)
    hf.model.save(HERE)


def oracle():
    """tiktoken with that vocabulary; its ranks are ids less one."""
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    hidden = [b for b in range(256) if b not in shown]
    byte = {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}
    vocab = json.load(open(path("vocab.json")))
    ranks = {bytes(byte[c] for c in token): id - 1 for token, id in vocab.items() if token != EOT}
    return tiktoken.Encoding("golden", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


PIECES = [
    "Hello, world",
    "it's we're I've I'm he'll she'd don't",
    "IT'S 'S'T'RE",
    "'s's 's ''s '''s",
    "'",
    "''",
    "' '",
    "'r 're 'l 'll 'v 've",
    "x'sy'tz",
    "'sabc'llabc",
    " 's",
    "a  b",
    "a   b",
    "a \n b",
    "\n\nx",
    "\n\n x",
    " \t x",
    "x   ",
    "x\n",
    "   ",
    " ",
    "\t",
    "\t\tx",
    " \u00a0x",
    "\u00a0x",
    "\u00a0\u00a0x",
    "\u3000漢字 漢字",
    "x\u2003\u2003y",
    "a\u0085b",
    "a\u001cb \u001c",
    "a\u200bb",
    "a\ufeffb",
    "\u180e x",
    "1²½Ⅷ٣ 12",
    "e\u0301te\u0301 ",
    "क्षत्रिय",
    "naïve café",
    "x1y2",
    " 1 22 333",
    "!?.. ...x",
    " !x !1",
    "$5.00",
    "a_b-c",
    "<|endoftext|>",
    "👩\u200d👩\u200d👧 😀x",
    "Дом'с",
    "ªºǅʰ",
    "𝒜𝟙𐐀",
    "\u0000a\u007f",
    "tab\tx\ttab",
    "a\r\nb\r\n\r\nc",
    "x\u2028y\u2029",
    " \u0301",
    "  \u0301",
    "'\u0301s",
    "漢's",
    "1's",
    "\n's",
    " 's ",
    "a '",
]


def texts(rng):
    yield from (p.encode() for p in PIECES)
    text = corpus(rng)
    for _ in range(12):
        at = rng.randrange(len(text) - 200)
        yield text[at : at + rng.randint(1, 150)].encode()
    yield from (
        b"aaaa" * 40,
        b"ab" * 60,
        b" " * 33 + b"x",
        b"",
        b"\xff",
        b"x\xff",
        b"x \xffy z",
        b"x  \xffy",
        b"x\n \t\xc3",
        b"\xc2\xa0 \xe2\x82",
        b"ba\xe6\xbc",
        b"loba\xed\xa0\x80ing",
        b"ing\xc0\x80",
        b"it's\xf4\x90\x80\x80it's we'll",
        b"the\x80 the the the",
        "ß".encode()[1:] + b" un",
        b"  \n\n  \xf8 the",
        "a  \u00fc".encode() + b"\xff",
        "a \n\n  \u00fcb".encode() + b"\x80",
        bytes(range(256)),
    )


def gpt1(text):
    hf = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    hf.normalizer = normalizers.BertNormalizer(lowercase=True)
    hf.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    hf.decoder = decoders.BPEDecoder(suffix="</w>")
    hf.train_from_iterator(
        [text, "".join(map(chr, range(33, 127)))],
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
        ),
    )
    os.makedirs(path("gpt1"), exist_ok=True)
    hf.save(path("gpt1/tokenizer.json"), pretty=False)
    hf.model.save(path("gpt1"))
    cases = (
        PIECES
        + [text[i * 500 : i * 500 + 80] for i in range(8)]
        + [
            "",
            " ",
            "The ÉTÉ's über-Ærø, İstanbul ẞ ﬁ Ⅷ",
            "漢字かな한국어각",
            "a\u00adb\u200bc\u0301d",
            "x<unk>y",
            "Word" * 40,
            "</w>",
            "¡¿«»—…",
        ]
    )
    with open(path("gpt1/ids.txt"), "w") as f:
        for t in cases:
            ids = hf.encode(t).ids
            f.write(
                "\t".join(
                    [
                        t.encode().hex(),
                        " ".join(map(str, ids)),
                        hf.decode(ids, skip_special_tokens=False).encode().hex(),
                    ]
                )
                + "\n"
            )


def main():
    rng = random.Random(11)
    text = corpus(rng)
    with open(path("corpus.txt"), "w", newline="") as f:
        f.write(text)
    train(text)
    with open(path("pieces.txt"), "w") as f:
        for p in PIECES:
            pieces = regex.findall(PATTERN, p)
            assert "".join(pieces) == p
            f.write(" ".join(x.encode().hex() for x in pieces) + "\n")
    gpt1(text)
    enc = oracle()
    with open(path("ids.txt"), "w") as f:
        for t in texts(rng):
            f.write(t.hex() + "\t" + " ".join(str(i + 1) for i in enc._encode_bytes(t)) + "\n")


if __name__ == "__main__":
    main()
