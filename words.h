/* words.h - floor 1: the characters, words, lines and paragraphs of a text, and 64-bit hashes of them.
 *
 * Nothing here allocates, and nothing depends on the locale. Bytes that are not UTF-8 count as U+FFFD each. */
#ifndef GPT_WORDS_H
#define GPT_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Span {
    const char *p;
    size_t n;
} Span;

/* ---- characters ------------------------------------------------------------------------------------------ */

/* The code point at **p, which moves behind it; *p < end. */
uint32_t char_next(const char **p, const char *end);
size_t char_put(char *dst, uint32_t c); /* as UTF-8, up to 4 bytes */
uint32_t char_lower(uint32_t c);        /* Unicode's simple lower case: one character stays one */
bool char_is_space(uint32_t c);         /* White_Space */
bool char_is_word(uint32_t c);          /* letters, marks and numbers */

/* Lower case of a whole string; dst holds n + n / 2 + 4 bytes. Returns its length. Bytes that are not UTF-8 stay. */
size_t text_lower(const char *s, size_t n, char *dst);

/* ---- pieces ----------------------------------------------------------------------------------------------
 * `Span left = {text, n}, w; while (word_next(&left, &w)) ...` visits all words; the others go the same way. */

/* A word: letters, marks and numbers in a row, with single apostrophes (' or U+2019) between two of them
 * ("don't", "l’été", "1990's"). An ideograph and a kana is a word alone, since no spaces stand between them. */
bool word_next(Span *left, Span *word);
/* What stands between white space, punctuation and all: "(see", "end.", "--". */
bool token_next(Span *left, Span *token);
/* Up to "\n", which belongs to no line. Every "\n" ends a line; the last line may lack one. */
bool line_next(Span *left, Span *line);
/* Lines in a row that hold more than white space; a paragraph's last line break is not part of it. */
bool paragraph_next(Span *left, Span *paragraph);
Span span_trim(Span s); /* without white space at both ends */

/* ---- hashes ----------------------------------------------------------------------------------------------
 * They are written to files and decide what is dropped, so they are the same on every machine and for ever. */

/* A permutation of 64-bit numbers whose every output bit depends on every input bit (MurmurHash3's finalizer). */
static inline uint64_t hash_mix(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
    return x ^ x >> 33;
}

/* The hash of a sequence whose hash so far is `h`, one item longer: an n-gram is n - 1 joins. Not symmetric. */
static inline uint64_t hash_join(uint64_t h, uint64_t item) {
    unsigned __int128 x =
        (unsigned __int128)(h ^ 0x9e3779b97f4a7c15u) * ((item << 32 | item >> 32) ^ 0xd1b54a32d192ed03u);
    return (uint64_t)x ^ (uint64_t)(x >> 64);
}

uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);
/* Of a word in lower case, U+2019 as an apostrophe: the same for "Don't", "don’t" and "DON'T". */
uint64_t hash_word(Span word);
#endif
