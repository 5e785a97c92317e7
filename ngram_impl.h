/* ngram_impl.h - floor 2: what ngram.c and ngram_train.c share: hashes of n-grams and the file.
 *
 * DIR/ngram.bin, little-endian: a NgramHeader, zeros up to byte 512, then buckets of eight 64-bit entries. An n-gram
 * is found by a 64-bit hash of its words: the upper half, scaled to the number of buckets, says in which bucket it
 * is; the lower half tells it from the others. Entries follow each other in the order of their hashes, so a full
 * bucket runs over into the next one, and the first free entry ends a search. The last bucket has one. */
#ifndef GPT_NGRAM_IMPL_H
#define GPT_NGRAM_IMPL_H

#include "ngram.h"
#include "words.h"

enum { NGRAM_VERSION = 1, NGRAM_BUCKET = 8, NGRAM_TABLE = 512 };
#define NGRAM_MAGIC "gptngram"
#define NGRAM_FILE  "ngram.bin"

typedef struct NgramHeader {
    char magic[8];
    uint32_t version, unit, order;
    uint32_t table_crc;    /* crc32 of the table */
    uint64_t home_buckets; /* those that hashes point to */
    uint64_t buckets;      /* with those behind that the last ones run over into */
    uint64_t ngrams[NGRAM_LONGEST];
    double discount[NGRAM_LONGEST][3];
    uint32_t guessed;    /* see NgramInfo */
    uint32_t header_crc; /* crc32 of all that comes before */
} NgramHeader;
_Static_assert(sizeof(NgramHeader) <= NGRAM_TABLE, "the table starts behind the header");

/* An entry: hash << 32 | code of the probability << 16 | code of the back-off weight. 0: free. */
#define NGRAM_STEPS 4096.0 /* of log10 */

/* The hash of the words that KenLM calls <unk>, <s> and </s>; no word of a text has these. */
enum { HASH_UNK = 1, HASH_BOS = 2, HASH_EOS = 3 };

/* A word's hash; texts' words may collide with nothing but each other. */
static inline uint64_t ngram_word(NgramUnit unit, Span w) {
    uint64_t h = unit == NGRAM_WORDS ? hash_word(w) : hash_bytes(w.p, w.n, 0);
    return h <= HASH_EOS ? h + HASH_EOS + 1 : h;
}

/* An n-gram's hash goes from its last word backwards, so the hash of each suffix is a step on the way. */
static inline uint64_t ngram_first(uint64_t last_word) {
    return hash_mix(last_word);
}
static inline uint64_t ngram_join(uint64_t hash, uint64_t word_before) {
    return hash_join(hash, word_before);
}

static inline uint64_t ngram_bucket(uint64_t hash, uint64_t home_buckets) {
    return (hash >> 32) * home_buckets >> 32;
}

/* log10 of the probability of the last of n words, after those before it, which start a sentence. */
double ngram_log10(const Ngram *m, const uint64_t *words, int n);

static inline bool ngram_next(NgramUnit unit, Span *left, Span *word) {
    return unit == NGRAM_WORDS ? word_next(left, word) : token_next(left, word);
}
#endif
