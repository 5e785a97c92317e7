/* classifier.c - floor 2: see classifier.h: opening a model, asking it, and deciding. */
#include "classifier_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Classifier {
    Map map;
    ClassifierHeader h;
    LabelInfo label[CLASSIFIER_LABELS];
    const float *weights; /* [buckets][labels] */
};

/* ---- the file -------------------------------------------------------------------------------------------- */

static bool damaged(const char *path, const char *what, Err *e) {
    return err_set(e, "%s: is damaged: %s; train it again (gpt data classifier train)", path, what);
}

static bool check_header(const ClassifierHeader *h, const Map *map, const char *path, Err *e) {
    if (map->n < sizeof *h || memcmp(h->magic, CLASSIFIER_MAGIC, sizeof h->magic))
        return err_set(e, "%s: is no classifier; gpt data classifier train makes one", path);
    if (h->version != CLASSIFIER_VERSION)
        return err_set(e, "%s: is of version %u, this program reads %d; train it again", path, h->version,
                       CLASSIFIER_VERSION);
    if (crc32_of(0, h, offsetof(ClassifierHeader, header_crc)) != h->header_crc)
        return damaged(path, "the checksum of its header does not match", e);
    if (!h->labels || h->labels > CLASSIFIER_LABELS || !h->ngrams || h->ngrams > NGRAMS_LONGEST ||
        h->chars > NGRAMS_LONGEST || !h->buckets || h->buckets >> 32)
        return damaged(path, "its header makes no sense", e);
    if (map->n != classifier_weights_at(h->labels) + h->buckets * h->labels * sizeof(float))
        return damaged(path, "it is not as long as its header says", e);
    if (crc32_of(0, map->p + sizeof *h, map->n - sizeof *h) != h->crc)
        return damaged(path, "its checksum does not match", e);
    return true;
}

Classifier *classifier_open(const char *dir, Err *e) {
    Classifier *c = xcalloc(1, sizeof *c);
    char *path = path_join(dir, CLASSIFIER_FILE);
    bool ok = map_open(&c->map, path, e);
    if (ok) memcpy(&c->h, c->map.p, c->map.n < sizeof c->h ? c->map.n : sizeof c->h);
    ok = ok && check_header(&c->h, &c->map, path, e);
    if (ok) {
        memcpy(c->label, c->map.p + sizeof c->h, c->h.labels * sizeof *c->label);
        for (uint32_t i = 0; i < c->h.labels; i++) c->label[i].name[CLASSIFIER_NAME - 1] = 0;
        c->weights = (const float *)(c->map.p + classifier_weights_at(c->h.labels));
    }
    free(path);
    if (!ok) return classifier_close(c), NULL;
    return c;
}

void classifier_close(Classifier *c) {
    if (!c) return;
    map_close(&c->map);
    free(c);
}

int classifier_labels(const Classifier *c) {
    return (int)c->h.labels;
}

const char *classifier_label(const Classifier *c, int label) {
    CHECK(label >= 0 && label < (int)c->h.labels);
    return c->label[label].name;
}

/* ---- asking ---------------------------------------------------------------------------------------------- */

static uint32_t bucket_of(const Features *f, uint64_t hash) {
    return (uint32_t)((hash >> 32) * f->buckets >> 32);
}

/* The n-grams of a word's characters in lower case, a space before and behind it, up to the longest that are asked for.
 * What follows the first WORD_CHARS - 2 characters is left out. */
static size_t char_features(const Features *f, Span word, uint32_t *bucket) {
    uint32_t c[WORD_CHARS];
    size_t chars = 0, n = 0;
    const char *p = word.p, *end = p + word.n;
    c[chars++] = ' ';
    while (p < end && chars < WORD_CHARS - 1) c[chars++] = char_lower(char_next(&p, end));
    c[chars++] = ' ';
    for (size_t i = 0; i < chars; i++) {
        uint64_t hash = hash_mix(c[i]);
        for (size_t k = i + 1;; k++) {
            if (k - i > 1 || c[i] != ' ') bucket[n++] = bucket_of(f, hash);
            if (k == chars || k - i == (size_t)f->chars) break;
            hash = hash_join(hash, c[k]);
        }
    }
    return n;
}

size_t features_next(Features *f, uint32_t bucket[FEATURES_AT_ONCE]) {
    size_t n = 0, most = (size_t)(f->ngrams + WORD_CHARS * f->chars);
    Span word;
    while (n + most <= FEATURES_AT_ONCE && word_next(&f->left, &word)) {
        uint64_t first = hash_word(word), hash = first;
        for (int i = 0;; hash = hash_join(hash, f->before[i++])) {
            bucket[n++] = bucket_of(f, hash);
            if (i == f->n_before) break;
        }
        if (f->chars) n += char_features(f, word, bucket + n);
        for (int i = f->ngrams - 1; i > 0; i--) f->before[i] = f->before[i - 1];
        f->before[0] = first;
        if (f->n_before < f->ngrams - 1) f->n_before++;
    }
    return n;
}

void classifier_scores(const Classifier *c, const char *text, size_t n, double *scores) {
    const int labels = (int)c->h.labels;
    Features f = features_of(text, n, (int)c->h.ngrams, (int)c->h.chars, c->h.buckets);
    uint32_t bucket[FEATURES_AT_ONCE];
    double sum[CLASSIFIER_LABELS] = {0};
    uint64_t all = 0;
    for (size_t got; (got = features_next(&f, bucket)) > 0; all += got)
        for (size_t i = 0; i < got; i++)
            for (int k = 0; k < labels; k++)
                sum[k] += (double)c->weights[(size_t)bucket[i] * (size_t)labels + (size_t)k];
    for (int k = 0; k < labels; k++)
        scores[k] = logistic(c->label[k].slope * sum[k] * feature_scale(all) + c->label[k].offset);
}

double classifier_score(const Classifier *c, const char *text, size_t n) {
    double scores[CLASSIFIER_LABELS];
    classifier_scores(c, text, n, scores);
    return scores[0];
}

/* ---- deciding -------------------------------------------------------------------------------------------- */

bool keep_before(Keep a, Keep b) {
    return a.score != b.score ? a.score > b.score : a.hash < b.hash;
}

/* Where a document stands is a number of eight digits of 16 bits: the score's bits, turned over (those of numbers from
 * 0 on sort as the numbers do), then the hash. The first digit's is the first of the order. */
enum { KEEP_DIGITS = 8, KEEP_VALUES = 1 << 16, KEEP_BUFFER = 4096 };

typedef struct KeepOrder {
    uint64_t word[2];
} KeepOrder;

static KeepOrder keep_order(Keep k) {
    KeepOrder o = {{0, k.hash}};
    memcpy(&o.word[0], &k.score, sizeof k.score);
    o.word[0] = ~o.word[0];
    return o;
}

static int digit_shift(int digit) {
    return 48 - digit % 4 * 16;
}

/* Are the first `digits` of both the same? */
static bool same_start(KeepOrder a, KeepOrder b, int digits) {
    if (digits > 4 && a.word[0] != b.word[0]) return false;
    int last = digits > 4;
    return !digits || (a.word[last] ^ b.word[last]) >> digit_shift(digits - 1) == 0;
}

/* Counts the values of a digit among those that start as `start` does. */
static bool count_digit(const char *path, KeepOrder start, int digit, uint64_t *count, Err *e) {
    Keep some[KEEP_BUFFER];
    FILE *f = fopen(path, "rb");
    if (!f) return err_set(e, "%s: cannot open: %s", path, strerror(errno));
    for (size_t got; (got = fread(some, sizeof *some, KEEP_BUFFER, f)) > 0;)
        for (size_t i = 0; i < got; i++) {
            KeepOrder o = keep_order(some[i]);
            if (same_start(o, start, digit)) count[o.word[digit / 4] >> digit_shift(digit) & 0xffff]++;
        }
    bool ok = !ferror(f) || err_set(e, "%s: cannot read", path);
    fclose(f);
    return ok;
}

bool keep_share(const char *const *files, int n, double share, Keep *last, uint64_t *all, Err *e) {
    CHECK(share > 0 && share <= 1);
    uint64_t *count = xmalloc(KEEP_VALUES * sizeof *count), rank = 0;
    KeepOrder at = {{0, 0}};
    bool ok = true;
    *all = 0;
    for (int digit = 0; digit < KEEP_DIGITS && ok; digit++) {
        memset(count, 0, KEEP_VALUES * sizeof *count);
        for (int i = 0; i < n && ok; i++) ok = count_digit(files[i], at, digit, count, e);
        if (!digit && ok) {
            for (int v = 0; v < KEEP_VALUES; v++) *all += count[v];
            if (!*all) break;
            double want = floor(share * (double)*all + 0.5);
            rank = want < 1 ? 0 : (uint64_t)want - 1;
        }
        uint64_t v = 0;
        while (ok && v < KEEP_VALUES && rank >= count[v]) rank -= count[v++];
        at.word[digit / 4] |= v << digit_shift(digit);
    }
    free(count);
    at.word[0] = ~at.word[0];
    memcpy(&last->score, &at.word[0], sizeof last->score);
    last->hash = at.word[1];
    return ok;
}

bool keep_pareto(Keep k, double alpha, uint64_t seed) {
    double u = rand_uniform(seed, RAND_KEEP, k.hash, 0);
    return pow(1 - u, -1 / alpha) - 1 > 1 - k.score;
}
