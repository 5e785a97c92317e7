/* classifier_train.c - floor 2: see classifier.h: learning weights, calibrating them, and saying how good they are.
 *
 * Documents become sorted lists of buckets once; then AdaGrad (Duchi, Hazan & Singer 2011) goes over them, a batch at a
 * time: first all scores of the batch, then all steps. Threads share the documents in the first part and the buckets in the
 * second, where each weight is one thread's, which takes its steps in the order of the documents. So every sum has one
 * order, and the weights are the same, bit for bit, for any number of threads. */
#include "classifier_impl.h"
#include "docs.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

typedef struct Example {
    uint64_t at; /* its features are feature[at .. at + n) */
    uint32_t n;
    int16_t label; /* -1: none */
    uint16_t part;
} Example;

typedef struct Weight {
    float w, squares; /* the sum of its squared gradients */
} Weight;

typedef struct Train {
    const ClassifierJob *job;
    int labels, threads;
    LabelInfo label[CLASSIFIER_LABELS];
    uint32_t *feature; /* of all documents; each one's are sorted */
    uint64_t n_features, feature_cap;
    Example *example;
    size_t n, cap;
    Weight *weight; /* [buckets][labels] */
    Weight bias[CLASSIFIER_LABELS];
} Train;

ClassifierJob classifier_defaults(void) {
    return (ClassifierJob){.buckets = 1 << 22, .ngrams = 2, .epochs = 5, .rate = 0.5, .held_out = 0.1};
}

/* ---- documents to lists of buckets ----------------------------------------------------------------------- */

/* A document while it is read. */
typedef struct Reading {
    uint32_t *feature;
    size_t n;
    uint64_t hash;
    Err e;
} Reading;

static int by_number(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Radix sort by bytes, unless there are few. */
static void sort_numbers(uint32_t *p, size_t n, uint32_t largest) {
    if (n < 128) {
        qsort(p, n, sizeof *p, by_number);
        return;
    }
    uint32_t *from = p, *to = xmalloc(n * sizeof *p), *spare = to;
    for (int shift = 0; shift < 32 && largest >> shift; shift += 8) {
        size_t start[256] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) start[from[i] >> shift & 255]++;
        for (int d = 0; d < 256; d++) {
            size_t k = start[d];
            start[d] = sum;
            sum += k;
        }
        for (size_t i = 0; i < n; i++) to[start[from[i] >> shift & 255]++] = from[i];
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != p) memcpy(p, from, n * sizeof *p);
    free(spare);
}

static void read_features(Reading *r, const char *text, size_t n, const ClassifierJob *job) {
    Features f = features_of(text, n, job->ngrams, job->chars, job->buckets);
    size_t cap = 0;
    for (size_t got = 1; got; r->n += got) {
        if (cap < r->n + FEATURES_AT_ONCE)
            r->feature = xrealloc(r->feature, (cap = cap * 2 + FEATURES_AT_ONCE) * sizeof *r->feature);
        got = features_next(&f, r->feature + r->n);
    }
    r->hash = hash_bytes(text, n, 0);
    sort_numbers(r->feature, r->n, (uint32_t)(job->buckets - 1));
}

static void add_example(Train *t, const Reading *r, int label) {
    if (!r->n) return; /* no words, so nothing to learn */
    if (t->n == t->cap) t->example = xrealloc(t->example, (t->cap = t->cap * 2 + 1024) * sizeof *t->example);
    if (t->n_features + r->n > t->feature_cap)
        t->feature = xrealloc(t->feature, (t->feature_cap = t->feature_cap * 2 + r->n) * sizeof *t->feature);
    memcpy(t->feature + t->n_features, r->feature, r->n * sizeof *r->feature);
    t->example[t->n++] = (Example){.at = t->n_features,
                                   .n = (uint32_t)r->n,
                                   .label = (int16_t)label,
                                   .part = classifier_part(r->hash, t->job->held_out)};
    t->n_features += r->n;
}

enum { READ_DOCS = 4096, READ_BYTES = 8 << 20, LARGEST = 1 << 30 };

static bool read_batch(Train *t, Doc *doc, int n, int label, Err *e) {
    Reading *r = xcalloc((size_t)n, sizeof *r);
    const char *key = t->job->key ? t->job->key : "text";
#pragma omp parallel for num_threads(t->threads) schedule(dynamic)
    for (int i = 0; i < n; i++) {
        if (doc[i].n > LARGEST)
            err_set(&r[i].e, "%s: a document of more than 1 GiB; cut it into several", doc[i].file);
        else if (doc_text(&doc[i], key, &r[i].e))
            read_features(&r[i], doc[i].text, doc[i].n, t->job);
        free(doc[i].text);
    }
    for (int i = 0; i < n; i++) {
        if (r[i].e.code) err_set(e, "%s", r[i].e.msg);
        add_example(t, &r[i], label);
        free(r[i].feature);
    }
    free(r);
    return !e->code;
}

static bool read_set(Train *t, const ClassifierSet *set, int label, Err *e) {
    Docs docs;
    if (!docs_open(&docs, set->files, set->n_files, e)) return false;
    Doc *doc = xcalloc(READ_DOCS, sizeof *doc);
    bool ok = docs.whole = true;
    for (int n = 1; ok && n;) {
        ok = docs_batch(&docs, doc, READ_DOCS, READ_BYTES, &n, e);
        ok = read_batch(t, doc, n, label, e) && ok;
    }
    docs_close(&docs);
    free(doc);
    return ok;
}

/* The number of a label, a new one if need be. */
static bool label_number(Train *t, const char *name, int *label, Err *e) {
    *label = -1;
    if (!name) return true;
    for (int i = 0; i < t->labels; i++)
        if (!strcmp(t->label[i].name, name)) return *label = i, true;
    if (!*name || strlen(name) >= CLASSIFIER_NAME)
        return err_usage(e, "a label has 1 to %d bytes, not \"%s\"", CLASSIFIER_NAME - 1, name);
    if (t->labels == CLASSIFIER_LABELS)
        return err_usage(e, "a classifier has %d labels at most", CLASSIFIER_LABELS);
    strcpy(t->label[t->labels].name, name);
    *label = t->labels++;
    return true;
}

/* There must be something to tell apart. */
static bool check_examples(const Train *t, Err *e) {
    for (int k = 0; k < t->labels; k++) {
        size_t with = 0, n = 0;
        for (size_t i = 0; i < t->n; i++)
            if (t->example[i].part == PART_TRAIN) with += t->example[i].label == k, n++;
        if (!with || with == n)
            return err_set(e, "%s: no document %s this label to learn from (%zu in all)", t->label[k].name,
                           with ? "without" : "with", n);
    }
    return true;
}

static bool read_all(Train *t, Err *e) {
    for (int i = 0; i < t->job->n_sets; i++) {
        int label;
        if (!label_number(t, t->job->sets[i].label, &label, e) || !read_set(t, &t->job->sets[i], label, e))
            return false;
    }
    if (!t->labels) return err_usage(e, "no label to learn");
    return check_examples(t, e);
}

/* ---- learning -------------------------------------------------------------------------------------------- */

/* What a document's weights come to, for each label. */
static void sum_of(const Train *t, const Example *x, double *sum) {
    const int labels = t->labels;
    for (int k = 0; k < labels; k++) sum[k] = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        const Weight *w = t->weight + (size_t)t->feature[x->at + i] * (size_t)labels;
        for (int k = 0; k < labels; k++) sum[k] += (double)w[k].w;
    }
    double scale = feature_scale(x->n);
    for (int k = 0; k < labels; k++) sum[k] = sum[k] * scale + (double)t->bias[k].w;
}

static void step(Weight *w, float gradient, float rate) {
    w->squares += gradient * gradient;
    w->w -= rate * gradient / sqrtf(w->squares + 1e-12f);
}

/* The first of a document's features that is not below a bucket. */
static uint32_t first_feature(const Train *t, const Example *x, uint64_t bucket) {
    uint32_t lo = 0, hi = x->n;
    while (lo < hi) {
        uint32_t middle = lo + (hi - lo) / 2;
        if (t->feature[x->at + middle] < bucket)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo;
}

/* The steps that a document asks of the buckets lo .. hi - 1. */
static void step_slice(Train *t, const Example *x, const float *error, uint64_t lo, uint64_t hi, float rate) {
    const uint32_t *f = t->feature + x->at;
    const int labels = t->labels;
    float scale = (float)feature_scale(x->n);
    for (uint32_t i = first_feature(t, x, lo), times; i < x->n && f[i] < hi; i += times) {
        for (times = 1; i + times < x->n && f[i + times] == f[i];) times++;
        Weight *w = t->weight + (size_t)f[i] * (size_t)labels;
        for (int k = 0; k < labels; k++) step(&w[k], error[k] * scale * (float)times, rate);
    }
}

/* As many threads as the work of a batch is worth: they wait for each other twice. */
static int batch_threads(const Train *t, const size_t *order, size_t n) {
    enum { WORTH = 1 << 15 };
    uint64_t work = 0;
    for (size_t i = 0; i < n; i++) work += t->example[order[i]].n * (uint64_t)t->labels;
    return work / WORTH < (uint64_t)t->threads ? (int)(work / WORTH) + 1 : t->threads;
}

static void learn_batch(Train *t, const size_t *order, size_t n, float *error, float rate) {
    const int labels = t->labels;
#pragma omp parallel num_threads(batch_threads(t, order, n))
    {
#pragma omp for schedule(dynamic, 8)
        for (size_t i = 0; i < n; i++) {
            const Example *x = &t->example[order[i]];
            double sum[CLASSIFIER_LABELS];
            sum_of(t, x, sum);
            for (int k = 0; k < labels; k++)
                error[i * (size_t)labels + (size_t)k] = (float)(logistic(sum[k]) - (x->label == k));
        }
        uint64_t me = (uint64_t)omp_get_thread_num(), all = (uint64_t)omp_get_num_threads();
        uint64_t lo = t->job->buckets * me / all, hi = t->job->buckets * (me + 1) / all;
        for (size_t i = 0; i < n; i++)
            step_slice(t, &t->example[order[i]], error + i * (size_t)labels, lo, hi, rate);
    }
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < labels; k++) step(&t->bias[k], error[i * (size_t)labels + (size_t)k], rate);
}

/* Small enough for many steps an epoch, large enough for threads to be worth their while. */
static size_t batch_size(size_t n) {
    return n / 256 < 1 ? 1 : n / 256 > 256 ? 256 : n / 256;
}

static void learn(Train *t) {
    size_t *order = xmalloc(t->n * sizeof *order), n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (t->example[i].part == PART_TRAIN) order[n++] = i;
    size_t batch = batch_size(n);
    float *error = xmalloc(batch * (size_t)t->labels * sizeof *error);
    t->weight = xcalloc(t->job->buckets * (size_t)t->labels, sizeof *t->weight);
    for (int epoch = 0; epoch < t->job->epochs; epoch++) {
        for (size_t i = n; i > 1; i--) { /* Fisher and Yates */
            size_t j = rand_below(t->job->seed, RAND_SHUFFLE, (uint64_t)epoch, i, i), swap = order[i - 1];
            order[i - 1] = order[j];
            order[j] = swap;
        }
        float rate = (float)(t->job->rate * (1 - (double)epoch / t->job->epochs));
        for (size_t i = 0; i < n; i += batch)
            learn_batch(t, order + i, n - i < batch ? n - i : batch, error, rate);
    }
    free(error);
    free(order);
}

/* ---- calibrating and testing ----------------------------------------------------------------------------- */

typedef struct Scored {
    double x; /* the sum of weights */
    bool has; /* the label */
} Scored;

/* The sums of one part's documents, [n][labels]. */
static Scored *score_part(const Train *t, ClassifierPart part, size_t *n) {
    size_t *which = xmalloc((t->n + 1) * sizeof *which), labels = (size_t)t->labels;
    *n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (t->example[i].part == part) which[(*n)++] = i;
    Scored *s = xmalloc((*n * labels + 1) * sizeof *s);
#pragma omp parallel for num_threads(t->threads)
    for (size_t i = 0; i < *n; i++) {
        double sum[CLASSIFIER_LABELS];
        const Example *x = &t->example[which[i]];
        sum_of(t, x, sum);
        for (size_t k = 0; k < labels; k++) s[i * labels + k] = (Scored){sum[k], x->label == (int)k};
    }
    free(which);
    return s;
}

/* Cross-entropy of the calibrated scores with Platt's targets, and its derivatives. */
typedef struct Fit {
    double loss, slope, offset, slope2, offset2, both;
} Fit;

static Fit fit_at(const Scored *s, size_t n, size_t stride, double slope, double offset,
                  const double target[2]) {
    Fit f = {0};
    for (size_t i = 0; i < n; i++) {
        double x = s[i * stride].x, z = slope * x + offset, y = target[s[i * stride].has], p = logistic(z);
        f.loss += (z > 0 ? z : 0) + log1p(exp(-fabs(z))) - y * z;
        f.slope += (p - y) * x;
        f.offset += p - y;
        f.slope2 += p * (1 - p) * x * x;
        f.offset2 += p * (1 - p);
        f.both += p * (1 - p) * x;
    }
    return f;
}

/* Platt's scaling by Newton's method with halved steps (Lin, Lin & Weng 2007). With few examples of either kind the targets
 * stay away from 0 and 1, so it is never far off; with none at all the weights' own sum stands. */
static void calibrate(LabelInfo *l, const Scored *s, size_t n, size_t stride) {
    double with = 0;
    for (size_t i = 0; i < n; i++) with += s[i * stride].has;
    double target[2] = {1 / ((double)n - with + 2), (with + 1) / (with + 2)};
    l->slope = 1, l->offset = 0;
    if (with < 1 || with > (double)n - 1) return;
    Fit f = fit_at(s, n, stride, 1, 0, target);
    for (int i = 0; i < 100 && hypot(f.slope, f.offset) > 1e-7 * (double)n; i++) {
        double a = f.slope2 + 1e-9, c = f.offset2 + 1e-9, det = a * c - f.both * f.both;
        double slope = -(c * f.slope - f.both * f.offset) / det,
               offset = -(a * f.offset - f.both * f.slope) / det;
        double size = 1;
        Fit next;
        for (;; size /= 2) {
            next = fit_at(s, n, stride, l->slope + size * slope, l->offset + size * offset, target);
            if (next.loss <= f.loss || size < 1e-10) break;
        }
        l->slope += size * slope;
        l->offset += size * offset;
        f = next;
    }
}

static double calibrated(const LabelInfo *l, double x) {
    return logistic(l->slope * x + l->offset);
}

static double calibration_error(const Scored *s, size_t n, size_t stride, const LabelInfo *l,
                                ClassifierBin bin[CLASSIFIER_BINS]) {
    double error = 0;
    memset(bin, 0, CLASSIFIER_BINS * sizeof *bin);
    for (size_t i = 0; i < n; i++) {
        double p = calibrated(l, s[i * stride].x);
        ClassifierBin *b = &bin[p < 1 ? (int)(p * CLASSIFIER_BINS) : CLASSIFIER_BINS - 1];
        b->n++;
        b->score += p;
        b->share += s[i * stride].has;
    }
    for (int i = 0; i < CLASSIFIER_BINS; i++) {
        if (!bin[i].n) continue;
        error += fabs(bin[i].score - bin[i].share);
        bin[i].score /= (double)bin[i].n;
        bin[i].share /= (double)bin[i].n;
    }
    return error / (double)n;
}

static int by_score(const void *a, const void *b) {
    double x = ((const Scored *)a)->x, y = ((const Scored *)b)->x;
    return (x > y) - (x < y);
}

/* The chance that a document with the label scores above one without; half for a tie. NAN if there are none. */
static double area_under_curve(const Scored *s, size_t n, size_t stride) {
    Scored *sorted = xmalloc((n + 1) * sizeof *sorted);
    double below = 0, won = 0, with = 0;
    for (size_t i = 0; i < n; i++) sorted[i] = s[i * stride];
    qsort(sorted, n, sizeof *sorted, by_score);
    for (size_t i = 0, end; i < n; i = end) {
        double has = 0;
        for (end = i; end < n && sorted[end].x <= sorted[i].x; end++) has += sorted[end].has;
        double not = (double)(end - i) - has;
        won += has * (below + not / 2);
        below += not ;
        with += has;
    }
    free(sorted);
    return won / (with * below);
}

/* How many of the documents get their label: by the highest score, or, if there is but one, by half. */
static double accuracy_of(const Train *t, const Scored *s, size_t n) {
    size_t right = 0, labels = (size_t)t->labels;
    for (size_t i = 0; i < n; i++) {
        const Scored *x = s + i * labels;
        size_t best = 0;
        for (size_t k = 1; k < labels; k++)
            if (calibrated(&t->label[k], x[k].x) > calibrated(&t->label[best], x[best].x)) best = k;
        right += labels == 1 ? (calibrated(t->label, x->x) >= 0.5) == x->has : x[best].has;
    }
    return (double)right / (double)n;
}

static void test(const Train *t, ClassifierReport *r) {
    size_t n, labels = (size_t)t->labels;
    Scored *s = score_part(t, PART_TEST, &n);
    r->tested = n;
    for (size_t k = 0; k < labels; k++) {
        static const LabelInfo raw = {.slope = 1};
        memcpy(r->of[k].label, t->label[k].name, CLASSIFIER_NAME);
        for (size_t i = 0; i < n; i++) r->of[k].positives += s[i * labels + k].has;
        r->of[k].auc = area_under_curve(s + k, n, labels);
        r->of[k].raw_ece = calibration_error(s + k, n, labels, &raw, r->of[k].bin);
        r->of[k].ece = calibration_error(s + k, n, labels, &t->label[k], r->of[k].bin);
    }
    r->accuracy = accuracy_of(t, s, n);
    free(s);
}

static void calibrate_all(Train *t, ClassifierReport *r) {
    size_t n;
    Scored *s = score_part(t, PART_CALIBRATE, &n);
    r->calibrated = n;
    for (int k = 0; k < t->labels; k++) calibrate(&t->label[k], s + k, n, (size_t)t->labels);
    free(s);
}

/* ---- the file -------------------------------------------------------------------------------------------- */

static bool write_model(const Train *t, Err *e) {
    ClassifierHeader h = {.magic = CLASSIFIER_MAGIC, .version = CLASSIFIER_VERSION};
    h.labels = (uint32_t)t->labels;
    h.ngrams = (uint32_t)t->job->ngrams;
    h.chars = (uint32_t)t->job->chars;
    h.buckets = t->job->buckets;
    OutFile f;
    char *path = path_join(t->job->out_dir, CLASSIFIER_FILE);
    bool ok = dir_make(t->job->out_dir, e) && file_create(&f, path, e);
    free(path);
    if (!ok) return false;
    file_put(&f, &h, sizeof h);
    f.crc = 0;
    for (int k = 0; k < t->labels; k++) {
        LabelInfo l = t->label[k];
        l.offset += l.slope * (double)t->bias[k].w; /* so that readers need to know of no bias */
        file_put(&f, &l, sizeof l);
    }
    static const uint8_t zeros[64];
    file_put(&f, zeros, classifier_weights_at(h.labels) - f.n);
    for (size_t i = 0; i < h.buckets * h.labels; i++) file_put(&f, &t->weight[i].w, sizeof(float));
    h.crc = f.crc;
    h.header_crc = crc32_of(0, &h, offsetof(ClassifierHeader, header_crc));
    file_patch(&f, 0, &h, sizeof h);
    return file_commit(&f, e);
}

static bool check_job(const ClassifierJob *j, Err *e) {
    if (!j->buckets || j->buckets >> 31) return err_usage(e, "a classifier has 1 to 2G buckets");
    if (j->ngrams < 1 || j->ngrams > NGRAMS_LONGEST)
        return err_usage(e, "word n-grams have 1 to %d words, not %d", NGRAMS_LONGEST, j->ngrams);
    if (j->chars < 0 || j->chars > NGRAMS_LONGEST)
        return err_usage(e, "n-grams of characters have 0 to %d, not %d", NGRAMS_LONGEST, j->chars);
    if (j->epochs < 1 || !(j->rate > 0)) return err_usage(e, "epochs and the rate are above 0");
    if (!(j->held_out >= 0 && j->held_out < 1)) return err_usage(e, "the part held out is 0 to 1");
    return true;
}

bool classifier_train(const ClassifierJob *job, ClassifierReport *report, Err *e) {
    Train t = {.job = job, .threads = job->threads ? job->threads : omp_get_max_threads()};
    *report = (ClassifierReport){0};
    bool ok = check_job(job, e) && read_all(&t, e);
    if (ok) {
        learn(&t);
        calibrate_all(&t, report);
        test(&t, report);
        report->labels = t.labels;
        report->trained = t.n - report->calibrated - report->tested;
        report->features = t.n_features;
        ok = write_model(&t, e);
    }
    free(t.feature);
    free(t.example);
    free(t.weight);
    return ok;
}
