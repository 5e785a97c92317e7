#!/usr/bin/env python3
"""Writes the tables of Unicode that the tokenizer and the curation of text need.

    python3 scripts/gen_unicode.py gpt2 > unicode.h        letters, numbers and white space
    python3 scripts/gen_unicode.py gpt1 > unicode_gpt1.h   lower case, white space, punctuation
    python3 scripts/gen_unicode.py words > unicode_words.h  what words are made of, lower case
    python3 scripts/gen_unicode.py nfc > unicode_nfc.h      canonical decomposition and composition

The version is pinned, because ids depend on it: 16.0.0 is what tiktoken's regex engine has. Python 3.14
carries it as `unicodedata`; with any other Python, install `unicodedata2==16.0.0` first.
"""

import sys
import unicodedata

VERSION = "16.0.0"
if unicodedata.unidata_version != VERSION:
    try:
        import unicodedata2 as unicodedata
    except ImportError:
        pass
if unicodedata.unidata_version != VERSION:
    sys.exit(
        f"gen_unicode: Unicode {unicodedata.unidata_version} is here, {VERSION} is needed: "
        f"pip install unicodedata2=={VERSION}"
    )

# The property White_Space (PropList.txt), which no release has changed since 6.3; it is not in unicodedata.
WHITE = {
    *range(0x09, 0x0E),
    0x20,
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
}
# Capitals of Unicode 15 and 16, which str.lower() of a Python before 3.14 does not know.
NEW_LOWER = {
    0x1C89: 0x1C8A,
    0xA7CB: 0x264,
    0xA7CC: 0xA7CD,
    0xA7DA: 0xA7DB,
    0xA7DC: 0x19B,
    **{c: c + 0x20 for c in range(0x10D50, 0x10D66)},
}
HANGUL = range(0xAC00, 0xD7A4)  # decomposed by arithmetic


def category(c):
    return unicodedata.category(chr(c))


def two_levels(kinds, bits):
    """Unique blocks of 2**bits code points, four to a byte, and for each block of the input its number."""
    size, blocks, index = 1 << bits, {}, []
    for at in range(0, len(kinds), size):
        k = kinds[at : at + size]
        packed = tuple(sum(k[i + j] << 2 * j for j in range(4)) for i in range(0, size, 4))
        index.append(blocks.setdefault(packed, len(blocks)))
    while index[-1] == index[-2]:
        index.pop()  # the last block stands for everything above
    return index, [b for block in blocks for b in block]


def c_array(kind, name, values):
    lines, line = [], "   "
    for v in values:
        if len(line) + len(str(v)) + 2 > 110:
            lines.append(line)
            line = "   "
        line += f" {v},"
    return f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line]) + "\n};\n"


def class_table(name, kind):
    """The two tables of a class of two bits, and the function that looks it up."""
    kinds = [kind(c) for c in range(0x110000)]
    bits = min(
        range(4, 12), key=lambda b: (max(two_levels(kinds, b)[0]) > 255, sum(map(len, two_levels(kinds, b))))
    )
    index, blocks = two_levels(kinds, bits)
    print(f"""\
/* Two levels: blocks of {1 << bits} code points, four to a byte; those past the index are like its last. */
{c_array("uint8_t", name + "_index", index)}
{c_array("uint8_t", name + "_blocks", blocks)}
static inline int {name}_class(uint32_t c) {{
    uint32_t block = c >> {bits} < sizeof {name}_index ? c >> {bits} : sizeof {name}_index - 1;
    uint32_t at = c & {(1 << bits) - 1};
    return {name}_blocks[{name}_index[block] * {(1 << bits) // 4} + at / 4] >> at % 4 * 2 & 3;
}}
""")


def gpt2():
    other, letter, number, space = range(4)
    print(f"""\
/* unicode.h - floor 0, part of tokenizer.c: letters, numbers and white space of Unicode {VERSION}.
 * Written by scripts/gen_unicode.py; do not edit. clang-format off */
#ifndef GPT_UNICODE_H
#define GPT_UNICODE_H

#include <stdint.h>

/* The classes that GPT-2's pattern tells apart: \\p{{L}}, \\p{{N}}, \\s (White_Space), and the rest. */
enum {{ UNICODE_OTHER, UNICODE_LETTER, UNICODE_NUMBER, UNICODE_SPACE }};
""")
    class_table(
        "unicode", lambda c: space if c in WHITE else {"L": letter, "N": number}.get(category(c)[0], other)
    )
    print("#endif")


def plain(c):
    """A character in lower case, without the marks that its canonical decomposition sets it under."""
    base = [d for d in unicodedata.normalize("NFD", chr(c)) if unicodedata.category(d) != "Mn"]
    return [ord(e) for d in base for e in (chr(NEW_LOWER[ord(d)]) if ord(d) in NEW_LOWER else d.lower())]


def runs(mapped, gap=2):
    """(first, last) of the code points that change, with small gaps filled."""
    found = []
    for c in sorted(mapped):
        if found and c - found[-1][1] <= gap + 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def gpt1():
    word, gone, space, punctuation = range(4)

    def kind(c):
        if c in (9, 10, 13):
            return space
        if category(c) in ("Cc", "Cf", "Co", "Cs", "Mn") or c == 0xFFFD:
            return gone
        if c in WHITE:
            return space
        symbol = c < 128 and chr(c).isprintable() and not chr(c).isalnum()
        return punctuation if symbol or category(c)[0] == "P" else word

    mapped = {c: plain(c) for c in range(0x110000) if kind(c) == word and c not in HANGUL}
    mapped |= {c: plain(c) for c in range(0x110000) if kind(c) == punctuation}
    changed = {c for c, to in mapped.items() if to != [c]}
    run, to, longer = [], [], []
    for first, last in runs(changed):
        run.append((first, last - first + 1, len(to)))
        for c in range(first, last + 1):
            out = mapped.get(c, [c])
            if len(out) != 1:
                longer.append((c, *(out + [0] * (3 - len(out)))))
                out = [0]
            to.append(out[0])
    print(f"""\
/* unicode_gpt1.h - floor 0, part of tokenizer_gpt1.c: characters as GPT-1's tokenizer sees them, by Unicode
 * {VERSION}. Written by scripts/gen_unicode.py; do not edit. clang-format off */
#ifndef GPT_UNICODE_GPT1_H
#define GPT_UNICODE_GPT1_H

#include <stdint.h>

/* Part of a word; dropped (control and format characters, marks without width); white space; a word alone. */
enum {{ GPT1_WORD, GPT1_GONE, GPT1_SPACE, GPT1_PUNCTUATION }};
""")
    class_table("gpt1", kind)
    print(
        "/* Runs of characters that change (case, accents): first, how many, where in gpt1_to. */"
    )
    print(c_array("uint32_t", "gpt1_run", [v for r in run for v in r]))
    print("/* What they become; 0: more than one character, in gpt1_longer. */")
    print(c_array("uint32_t", "gpt1_to", to))
    print("/* A character and the up to three it becomes. */")
    print(c_array("uint32_t", "gpt1_longer", [v for r in longer for v in r]))
    print("#endif")


def lower(c):
    """Simple lower case (one character): of those with a longer one (only U+0130), its first."""
    return NEW_LOWER.get(c) or ord(chr(c).lower()[0])


def lower_runs():
    """(first, last, step, difference) for c = first, first + step, ... whose lower case is c + difference."""
    found = []
    for c, to in ((c, lower(c)) for c in range(0x80, 0x110000)):
        if to == c:
            continue
        run = found[-1] if found else None
        if run and run[3] == to - c and c - run[1] in ((1, 2) if run[1] == run[0] else (run[2],)):
            run[2], run[1] = c - run[1], c
        else:
            found.append([c, c, 1, to - c])
    return found


def words():
    other, word, space, alone = range(4)

    def kind(c):
        if c in WHITE:
            return space
        if unicodedata.name(chr(c), "").startswith(("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HIRAGANA LETTER",
                                                    "KATAKANA LETTER")):
            return alone
        return word if category(c)[0] in "LMN" else other

    print(f"""\
/* unicode_words.h - floor 0, part of words.c: what words are made of, and lower case, by Unicode {VERSION}.
 * Written by scripts/gen_unicode.py; do not edit. clang-format off */
#ifndef GPT_UNICODE_WORDS_H
#define GPT_UNICODE_WORDS_H

#include <stdint.h>

/* The rest; letters, marks and numbers; white space; ideographs and kana, which are not written with spaces. */
enum {{ WORDS_OTHER, WORDS_LETTER, WORDS_SPACE, WORDS_ALONE }};
""")
    class_table("words", kind)
    print(f"""\
/* Simple lower case beyond ASCII: first, last, step, difference (modulo 2^32), in order. */
{c_array("uint32_t", "words_lower", [v % (1 << 32) for r in lower_runs() for v in r])}
#endif""")


def nfc():
    pairs = {}
    for c in range(0x110000):
        d = unicodedata.decomposition(chr(c))
        if d and not d.startswith("<") and c not in HANGUL:
            pairs[c] = [int(x, 16) for x in d.split()] + [0]
    composed = sorted(
        (*d[:2], c) for c, d in pairs.items() if unicodedata.normalize("NFC", "".join(map(chr, d[:2]))) == chr(c)
    )
    classes = []  # runs of one combining class: first, last, class
    for c in range(0x110000):
        k = unicodedata.combining(chr(c))
        if k and classes and classes[-1][1:] == [c - 1, k]:
            classes[-1][1] = c
        elif k:
            classes.append([c, c, k])
    second = {b for _, b, _ in composed} | {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}

    def kind(c):
        if unicodedata.combining(chr(c)) or c in second:
            return 1
        return 1 if unicodedata.normalize("NFC", chr(c)) != chr(c) else 0

    print(f"""\
/* unicode_nfc.h - floor 0, part of normalise.c: canonical decomposition and composition by Unicode {VERSION}.
 * Written by scripts/gen_unicode.py; do not edit. clang-format off */
#ifndef GPT_UNICODE_NFC_H
#define GPT_UNICODE_NFC_H

#include <stdint.h>

/* 0: a text of such characters alone is in NFC already. */""")
    class_table("nfc", kind)
    print("/* Canonical decomposition, one step, Hangul aside: character, first, second or 0; in order. */")
    print(c_array("uint32_t", "nfc_pairs", [v for c, d in sorted(pairs.items()) for v in (c, *d[:2])]))
    print("/* What two characters compose to: first, second, composed; in order. */")
    print(c_array("uint32_t", "nfc_composed", [v for row in composed for v in row]))
    print("/* Canonical combining classes other than 0: first, last, class; in order. */")
    print(c_array("uint32_t", "nfc_combining", [v for r in classes for v in r]))
    print("#endif")


if __name__ == "__main__":
    tables = {"gpt2": gpt2, "gpt1": gpt1, "words": words, "nfc": nfc}
    if len(sys.argv) != 2 or sys.argv[1] not in tables:
        sys.exit(__doc__)
    tables[sys.argv[1]]()
