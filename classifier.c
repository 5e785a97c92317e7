/* classifier.c - floor 2: see classifier.h: opening a model, asking it, and deciding. */
#include "classifier_impl.h"

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
        !h->buckets || h->buckets >> 32)
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

size_t features_next(Features *f, uint32_t bucket[FEATURES_AT_ONCE]) {
    size_t n = 0;
    Span word;
    while (n + (size_t)f->ngrams <= FEATURES_AT_ONCE && word_next(&f->left, &word)) {
        uint64_t first = hash_word(word), hash = first;
        for (int i = 0;; hash = hash_join(hash, f->before[i++])) {
            bucket[n++] = (uint32_t)((hash >> 32) * f->buckets >> 32);
            if (i == f->n_before) break;
        }
        for (int i = f->ngrams - 1; i > 0; i--) f->before[i] = f->before[i - 1];
        f->before[0] = first;
        if (f->n_before < f->ngrams - 1) f->n_before++;
    }
    return n;
}

void classifier_scores(const Classifier *c, const char *text, size_t n, double *scores) {
    const int labels = (int)c->h.labels;
    Features f = features_of(text, n, (int)c->h.ngrams, c->h.buckets);
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

/* Hoare's selection: afterwards all[k] is what sorting would put there. */
static void select_nth(Keep *all, size_t n, size_t k) {
    for (size_t lo = 0, hi = n; hi - lo > 1;) {
        Keep pivot = all[lo + (hi - lo - 1) / 2]; /* not the last one, so that both parts hold something */
        size_t i = lo, j = hi - 1;
        for (;; i++, j--) {
            while (keep_before(all[i], pivot)) i++;
            while (keep_before(pivot, all[j])) j--;
            if (i >= j) break;
            Keep swap = all[i];
            all[i] = all[j];
            all[j] = swap;
        }
        if (k <= j)
            hi = j + 1;
        else
            lo = j + 1;
    }
}

Keep keep_share(Keep *all, size_t n, double share) {
    CHECK(n && share > 0 && share <= 1);
    double want = floor(share * (double)n + 0.5);
    size_t k = want < 1 ? 1 : want > (double)n ? n : (size_t)want;
    select_nth(all, n, k - 1);
    return all[k - 1];
}

bool keep_pareto(Keep k, double alpha, uint64_t seed) {
    double u = rand_uniform(seed, RAND_KEEP, k.hash, 0);
    return pow(1 - u, -1 / alpha) - 1 > 1 - k.score;
}
