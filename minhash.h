/* minhash.h - floor 2: how alike are two texts, from a few hundred bytes of each?
 *
 * A text is the set of its word n-grams. Under a random permutation the smallest elements of two sets are the
 * same with probability |A and B| / |A or B|, their Jaccard similarity s (Broder 1997). A signature holds the
 * smallest element under each of bands x rows permutations; texts that agree in all rows of at least one band
 * are candidates, which happens with probability 1 - (1 - s^rows)^bands (Indyk and Motwani 1998). */
#ifndef GPT_MINHASH_H
#define GPT_MINHASH_H

#include "util.h"

#define MINHASH_P (((uint64_t)1 << 61) - 1) /* a Mersenne prime */

/* Permutations x -> (a x + b) mod 2^61-1 (Carter and Wegman 1979), the same in every run. */
typedef struct MinHash {
    int bands, rows, ngram, n; /* n = bands x rows, up to a multiple of 8 the arrays are padded */
    uint32_t *a0, *a1;         /* [n] a = a1 2^32 + a0, 1 <= a < p */
    uint64_t *b;               /* [n] 0 <= b < p */
} MinHash;

/* At most 256 bands, 64 rows, 1024 permutations, n-grams of 64 words. */
bool minhash_open(MinHash *m, int bands, int rows, int ngram, Err *e);
void minhash_close(MinHash *m);

typedef struct Hashes {
    uint64_t *p;
    size_t n, cap;
} Hashes;
void hashes_put(Hashes *h, uint64_t x);

/* One number below p for each run of `ngram` words, in order of the text, repeats and all; a text with fewer
 * words is one run, a text without words none. */
void minhash_shingles(const char *text, size_t n, int ngram, Hashes *out);

/* mins[i], i < m->n: the smallest (a_i x + b_i) mod p of all shingles x; p if there are none. */
void minhash_signature(const MinHash *m, const uint64_t *shingles, size_t n, uint64_t *mins);

/* One key a band, equal where all of the band's rows are (or by chance: 2^-64). */
void minhash_keys(const MinHash *m, const uint64_t *mins, uint64_t *keys);

/* (a x + b) mod p, one at a time. */
uint64_t minhash_permute(const MinHash *m, int i, uint64_t x);

/* An estimate of the similarity from the lowest byte of each of n minima (b-bit minwise hashing, Li and Konig
 * 2010). */
double minhash_similarity(const uint8_t *a, const uint8_t *b, int n);

/* The theory: the probability that texts of similarity s share a band. */
double minhash_curve(int bands, int rows, double s);
#endif
