/* minhash.c - floor 2: see minhash.h. */
#include "minhash.h"
#include "words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- permutations -------------------------------------------------------------------------------------- */

enum { MOST_BANDS = 256, MOST_ROWS = 64, MOST_PERMUTATIONS = 1024, MOST_WORDS = 64 };

/* A number below p from 128 random bits: 2^61 = 1 (mod p), and the bias is below 2^-60. */
static uint64_t below_p(const uint32_t r[4]) {
    uint64_t x = (uint64_t)r[0] << 32 | r[1];
    return x % MINHASH_P;
}

bool minhash_open(MinHash *m, int bands, int rows, int ngram, Err *e) {
    *m = (MinHash){.bands = bands, .rows = rows, .ngram = ngram, .n = bands * rows};
    if (bands < 1 || bands > MOST_BANDS || rows < 1 || rows > MOST_ROWS || m->n > MOST_PERMUTATIONS)
        return err_usage(e, "%d bands of %d rows: at most %d bands, %d rows and %d of both together", bands,
                         rows, MOST_BANDS, MOST_ROWS, MOST_PERMUTATIONS);
    if (ngram < 1 || ngram > MOST_WORDS)
        return err_usage(e, "an n-gram has 1 to %d words, not %d", MOST_WORDS, ngram);
    size_t n = (size_t)m->n;
    m->a0 = xcalloc(n, sizeof *m->a0);
    m->a1 = xcalloc(n, sizeof *m->a1);
    m->b = xcalloc(n, sizeof *m->b);
    for (size_t i = 0; i < n; i++) {
        uint32_t r[4];
        philox4x32(0x6d696e68617368, 0, 2 * i, r);
        uint64_t a = below_p(r);
        if (a == 0) a = 1;
        philox4x32(0x6d696e68617368, 0, 2 * i + 1, r);
        m->a0[i] = (uint32_t)a, m->a1[i] = (uint32_t)(a >> 32), m->b[i] = below_p(r);
    }
    return true;
}

void minhash_close(MinHash *m) {
    free(m->a0);
    free(m->a1);
    free(m->b);
    *m = (MinHash){0};
}

/* (a x + b) mod p from halves: with x = x1 2^32 + x0 the product is a1 x1 2^64 + (a1 x0 + a0 x1) 2^32 + a0
 * x0, where 2^64 = 8 and 2^61 = 1 (mod p). All terms are below 2^61 but for a few units, so their sum stays
 * below 2^64. Products of 32 bits are what vector units have. */
static inline uint64_t permute(uint32_t a0, uint32_t a1, uint64_t b, uint32_t x0, uint32_t x1) {
    const uint64_t low29 = ((uint64_t)1 << 29) - 1;
    uint64_t lo = (uint64_t)a0 * x0, mid = (uint64_t)a0 * x1 + (uint64_t)a1 * x0, hi = (uint64_t)a1 * x1;
    uint64_t s = (lo & MINHASH_P) + (lo >> 61) + ((mid & low29) << 32) + (mid >> 29) + (hi << 3) + b;
    s = (s & MINHASH_P) + (s >> 61);
    uint64_t less = s - MINHASH_P; /* wraps around, and so is larger, where s < p */
    return less < s ? less : s;
}

uint64_t minhash_permute(const MinHash *m, int i, uint64_t x) {
    return permute(m->a0[i], m->a1[i], m->b[i], (uint32_t)x, (uint32_t)(x >> 32));
}

void minhash_signature(const MinHash *m, const uint64_t *shingles, size_t n, uint64_t *mins) {
    const uint32_t *restrict a0 = m->a0, *restrict a1 = m->a1;
    const uint64_t *restrict b = m->b;
    uint64_t *restrict least = mins;
    for (int i = 0; i < m->n; i++) least[i] = MINHASH_P;
    for (size_t s = 0; s < n; s++) {
        uint32_t x0 = (uint32_t)shingles[s], x1 = (uint32_t)(shingles[s] >> 32);
#pragma omp simd
        for (int i = 0; i < m->n; i++) {
            uint64_t y = permute(a0[i], a1[i], b[i], x0, x1);
            least[i] = y < least[i] ? y : least[i];
        }
    }
}

/* ---- shingles ------------------------------------------------------------------------------------------ */

void hashes_put(Hashes *h, uint64_t x) {
    if (h->n == h->cap) h->p = xrealloc(h->p, (h->cap = h->cap * 2 + 256) * sizeof *h->p);
    h->p[h->n++] = x;
}

static uint64_t shingle(uint64_t polynomial) {
    uint64_t x = hash_mix(polynomial) >> 3;
    return x == MINHASH_P ? 0 : x;
}

/* A run of words w_1 ... w_n is the polynomial w_1 C^(n-1) + ... + w_n, so that the next run is one step
 * away. */
void minhash_shingles(const char *text, size_t n, int ngram, Hashes *out) {
    const uint64_t c = 0x9e3779b97f4a7c15u;
    uint64_t ring[MOST_WORDS] = {0}, h = 0, c_n = 1;
    size_t words = 0;
    Span left = {text, n}, word;
    for (int i = 0; i < ngram; i++) c_n *= c;
    out->n = 0;
    for (; word_next(&left, &word); words++) {
        uint64_t hash = hash_word(word), *oldest = &ring[words % (size_t)ngram];
        h = h * c - *oldest * c_n + hash;
        *oldest = hash;
        if (words + 1 >= (size_t)ngram) hashes_put(out, shingle(h));
    }
    if (words && !out->n) hashes_put(out, shingle(h));
}

/* ---- bands --------------------------------------------------------------------------------------------- */

void minhash_keys(const MinHash *m, const uint64_t *mins, uint64_t *keys) {
    for (int band = 0; band < m->bands; band++) {
        uint64_t h = hash_mix((uint64_t)band + 1);
        for (int row = 0; row < m->rows; row++) h = hash_mix(h ^ mins[band * m->rows + row]);
        keys[band] = h;
    }
}

double minhash_similarity(const uint8_t *a, const uint8_t *b, int n) {
    int same = 0;
    for (int i = 0; i < n; i++) same += a[i] == b[i];
    double chance = 1.0 / 256, s = ((double)same / n - chance) / (1 - chance);
    return s < 0 ? 0 : s;
}

double minhash_curve(int bands, int rows, double s) {
    return 1 - pow(1 - pow(s, rows), bands);
}
