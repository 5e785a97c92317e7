#!/usr/bin/env python3
"""Writes unicode.h: which code points are letters, numbers and white space.

    python3 scripts/gen_unicode.py > unicode.h

The version is pinned, because ids depend on it: 16.0.0 is what tiktoken's regex engine has. Python 3.14 carries
it as `unicodedata`; with any other Python, install `unicodedata2==16.0.0` first.
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
    sys.exit(f"gen_unicode: have Unicode {unicodedata.unidata_version}, need {VERSION}: pip install unicodedata2=={VERSION}")

OTHER, LETTER, NUMBER, SPACE = range(4)
# The property White_Space (PropList.txt), which no release has changed since 6.3; it is not in unicodedata.
WHITE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


def kind(c):
    if c in WHITE:
        return SPACE
    return {"L": LETTER, "N": NUMBER}.get(unicodedata.category(chr(c))[0], OTHER)


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


def c_array(name, values):
    lines, line = [], "   "
    for v in values:
        if len(line) + len(str(v)) + 2 > 110:
            lines.append(line)
            line = "   "
        line += f" {v},"
    return f"static const uint8_t {name}[{len(values)}] = {{\n" + "\n".join(lines + [line]) + "\n};\n"


kinds = [kind(c) for c in range(0x110000)]
BITS = min(range(4, 12), key=lambda b: (max(two_levels(kinds, b)[0]) > 255, sum(map(len, two_levels(kinds, b)))))
index, blocks = two_levels(kinds, BITS)
print(f"""\
/* unicode.h - floor 2, part of tokenizer.c: letters, numbers and white space of Unicode {VERSION}.
 * Written by scripts/gen_unicode.py; do not edit. clang-format off */
#ifndef GPT_UNICODE_H
#define GPT_UNICODE_H

#include <stdint.h>

/* The classes that GPT-2's pattern tells apart: \\p{{L}}, \\p{{N}}, \\s (White_Space), and the rest. */
enum {{ UNICODE_OTHER, UNICODE_LETTER, UNICODE_NUMBER, UNICODE_SPACE }};

/* Two levels: blocks of {1 << BITS} code points, four to a byte; code points past the index are like its last. */
""")
print(c_array("unicode_index", index))
print(c_array("unicode_blocks", blocks))
print(f"""\
static inline int unicode_class(uint32_t c)
{{
    uint32_t block = c >> {BITS} < sizeof unicode_index ? c >> {BITS} : sizeof unicode_index - 1;
    uint32_t at = c & {(1 << BITS) - 1};
    return unicode_blocks[unicode_index[block] * {(1 << BITS) // 4} + at / 4] >> at % 4 * 2 & 3;
}}

#endif""")
