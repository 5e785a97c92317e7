/* test_classifier.c - classifier.c, classifier_train.c: what is learnt, how it is judged, the two rules that decide, and
 * what must be refused. scripts/bench/classifier.py holds it against fastText. */
#include "classifier_impl.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char root[256], model_dir[300];

/* A text of n words out of 400, those of a kind more often in a part of its own. */
static char *make_text(uint64_t i, int kind, int n) {
    Str s = {0};
    for (int w = 0; w < n; w++) {
        uint32_t r = rand_u32(9, RAND_TEST, i, (uint64_t)w), word = r >> 8 & 511;
        if (r % 8 == 0) word = 512 + 8 * (uint32_t)kind + (r >> 8) % 8;
        str_printf(&s, "%sw%u", w ? " " : "", word);
    }
    return s.p;
}

/* Document i of a kind; every 20th is the same in all kinds. */
static char *document(uint64_t i, int kind, int n) {
    return make_text(i % 20 ? i : i % 400, i % 20 ? kind : 9, n);
}

/* Writes documents lo .. hi - 1 as a file of the test's folder; malloc'd path. */
static char *make_file(const char *name, uint64_t lo, uint64_t hi, int kind, int n) {
    Err e = {0};
    Str s = {0};
    char *path = path_join(root, name);
    for (uint64_t i = lo; i < hi; i++) {
        char *text = document(i, kind, n);
        str_printf(&s, "{\"text\": \"%s\"}\n", text);
        free(text);
    }
    EXPECT(file_write(path, s.p, s.n, &e), "%s", e.msg);
    str_free(&s);
    return path;
}

static void make_root(void) {
    snprintf(root, sizeof root, "%s", test_dir());
    snprintf(model_dir, sizeof model_dir, "%s/model", root);
}

static bool train_sets(const ClassifierSet *sets, int n, ClassifierJob job, ClassifierReport *r, Err *e) {
    job.sets = sets;
    job.n_sets = n;
    job.out_dir = model_dir;
    return classifier_train(&job, r, e);
}

/* Documents 0 .. n - 1 are positive, n .. 2 n - 1 are not. */
static bool train_two(int n, int words, ClassifierJob job, ClassifierReport *r, Err *e) {
    make_root();
    const char *yes = make_file("yes.jsonl", 0, (uint64_t)n, 0, words),
               *no = make_file("no.jsonl", (uint64_t)n, 2 * (uint64_t)n, 1, words);
    bool ok = train_sets((ClassifierSet[]){{"positive", &yes, 1}, {NULL, &no, 1}}, 2, job, r, e);
    free((char *)yes);
    free((char *)no);
    return ok;
}

static ClassifierJob small_job(void) {
    ClassifierJob job = classifier_defaults();
    job.buckets = 1 << 14;
    return job;
}

/* The report, worked out again from the scores of the model that was written. */
TEST(classifier_report) {
    enum { N = 1500, WORDS = 12 };
    static ClassifierReport r;
    static double score[2 * N];
    static bool has[2 * N];
    Err e = {0};
    ClassifierJob job = small_job();
    job.held_out = 0.4;
    EXPECT(train_two(N, WORDS, job, &r, &e), "%s", e.msg);
    Classifier *c = classifier_open(model_dir, &e);
    EXPECT(c && classifier_labels(c) == 1 && !strcmp(classifier_label(c, 0), "positive"), "%s", e.msg);
    if (!c) return;
    size_t n = 0, right = 0, calibrated = 0, positives = 0;
    double promised = 0, happened = 0, won = 0, pairs = 0;
    for (uint64_t i = 0; i < 2 * N; i++) {
        char *text = document(i, i >= N, WORDS);
        ClassifierPart part = classifier_part(hash_bytes(text, strlen(text), 0), job.held_out);
        double p = classifier_score(c, text, strlen(text));
        if (part == PART_TEST) score[n] = p, has[n++] = i < N;
        if (part == PART_CALIBRATE) promised += p, happened += i < N, calibrated++;
        free(text);
    }
    for (size_t i = 0; i < n; i++) {
        right += (score[i] >= 0.5) == has[i];
        positives += has[i];
        for (size_t j = 0; j < n; j++) {
            if (!has[i] || has[j]) continue;
            won += score[i] > score[j] ? 1 : score[i] == score[j] ? 0.5 : 0;
            pairs++;
        }
    }
    EXPECT(r.tested == n && r.calibrated == calibrated && r.trained == 2 * N - n - calibrated);
    EXPECT(r.of[0].positives == positives && fabs(r.accuracy - (double)right / (double)n) < 1e-9);
    EXPECT(r.accuracy > 0.85 && r.accuracy < 1, "%f", r.accuracy);
    EXPECT(fabs(r.of[0].auc - won / pairs) < 1e-5, "%f, not %f", r.of[0].auc, won / pairs);
    /* Platt's scores are right on average where they were fitted, but for his targets of almost 0 and 1. */
    EXPECT(fabs(promised - happened) < 2, "%f promised, %f happened", promised, happened);
    double ece = 0;
    for (int b = 0; b < CLASSIFIER_BINS; b++) {
        double sum = 0, with = 0, in = 0;
        for (size_t i = 0; i < n; i++)
            if ((int)(score[i] * 10) == b || (b == 9 && score[i] >= 1)) sum += score[i], with += has[i], in++;
        ece += fabs(sum - with) / (double)n;
        EXPECT((double)r.of[0].bin[b].n == in);
    }
    EXPECT(fabs(ece - r.of[0].ece) < 1e-6 && ece < 0.05, "%f, not %f", r.of[0].ece, ece);
    EXPECT(r.of[0].raw_ece != r.of[0].ece);
    classifier_close(c);
}

/* A word's weight and what AdaGrad has seen of it, by itself. */
typedef struct Plain {
    double w, squares;
} Plain;

static void plain_step(Plain *p, double gradient, double rate) {
    p->squares += gradient * gradient;
    if (gradient != 0) p->w -= rate * gradient / sqrt(p->squares);
}

static double plain_sum(const Plain *words, double bias, const int count[3]) {
    double sum = 0, n = count[0] + count[1] + count[2];
    for (int k = 0; k < 3; k++) sum += count[k] * words[k].w;
    return sum / sqrt(n) + bias;
}

/* The weights of three words after AdaGrad in the order of documents that the seed says, written out. */
TEST(classifier_takes_the_steps_of_adagrad) {
    enum { N = 6, EPOCHS = 3 };
    static const int count[N][3] = {{3, 1, 0}, {1, 0, 0}, {2, 2, 1}, {0, 1, 4}, {1, 0, 1}, {0, 2, 2}};
    static ClassifierReport r;
    Plain word[3] = {0}, bias = {0};
    size_t order[N];
    Err e = {0};
    Str text[N] = {0}, file[2] = {0};
    make_root();
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 3; k++)
            for (int c = 0; c < count[i][k]; c++) str_printf(&text[i], "%c ", "xyz"[k]);
        str_printf(&file[i >= N / 2], "{\"text\": \"%s\"}\n", text[i].p);
        order[i] = (size_t)i;
    }
    const char *path[2] = {path_join(root, "0.jsonl"), path_join(root, "1.jsonl")};
    for (int i = 0; i < 2; i++) EXPECT(file_write(path[i], file[i].p, file[i].n, &e), "%s", e.msg);
    ClassifierJob job = {.buckets = 1 << 14, .ngrams = 1, .epochs = EPOCHS, .rate = 0.3, .seed = 5};
    EXPECT(train_sets((ClassifierSet[]){{"yes", &path[0], 1}, {NULL, &path[1], 1}}, 2, job, &r, &e), "%s",
           e.msg);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        for (size_t i = N; i > 1; i--) {
            size_t j = rand_below(job.seed, RAND_SHUFFLE, (uint64_t)epoch, i, i), swap = order[i - 1];
            order[i - 1] = order[j], order[j] = swap;
        }
        double rate = 0.3 * (1 - (double)epoch / EPOCHS);
        for (int i = 0; i < N; i++) {
            const int *c = count[order[i]];
            double error = logistic(plain_sum(word, bias.w, c)) - (order[i] < N / 2);
            for (int k = 0; k < 3; k++) plain_step(&word[k], error * c[k] / sqrt(c[0] + c[1] + c[2]), rate);
            plain_step(&bias, error, rate);
        }
    }
    Classifier *c = classifier_open(model_dir, &e);
    EXPECT(c, "%s", e.msg);
    for (int i = 0; i < N; i++) {
        double want = logistic(plain_sum(word, bias.w, count[i])),
               got = c ? classifier_score(c, text[i].p, text[i].n) : 0;
        EXPECT(fabs(got - want) < 1e-5, "document %d: %.7f, not %.7f", i, got, want);
        str_free(&text[i]);
    }
    for (int i = 0; i < 2; i++) str_free(&file[i]), free((char *)path[i]);
    classifier_close(c);
}

TEST(classifier_topics) {
    static ClassifierReport r;
    Err e = {0};
    make_root();
    const char *file[5];
    ClassifierSet sets[5];
    for (int k = 0; k < 5; k++) {
        char name[32];
        snprintf(name, sizeof name, "%d.jsonl", k);
        file[k] = make_file(name, (uint64_t)k * 400, (uint64_t)k * 400 + 400, k % 4, 20);
        sets[k] = (ClassifierSet){(const char *const[]){"a", "b", "c", NULL}[k % 4], &file[k], 1};
    }
    EXPECT(train_sets(sets, 5, small_job(), &r, &e), "%s", e.msg);
    EXPECT(r.labels == 3 && !strcmp(r.of[2].label, "c") && r.of[0].positives > r.of[1].positives);
    Classifier *c = classifier_open(model_dir, &e);
    EXPECT(c, "%s", e.msg);
    for (int k = 0; c && k < 4; k++) {
        double s[CLASSIFIER_LABELS];
        char *text = make_text(5000, k, 100);
        classifier_scores(c, text, strlen(text), s);
        for (int i = 0; i < 3; i++) EXPECT(i == k ? s[i] > 0.8 : s[i] < 0.2, "of %d: %d has %f", k, i, s[i]);
        free(text);
    }
    classifier_close(c);
    for (int k = 0; k < 5; k++) free((char *)file[k]);
}

TEST(classifier_threads_change_nothing) {
    char *first = NULL, *data;
    size_t n, n_first = 0;
    for (int threads = 1; threads <= 5; threads += 2) {
        static ClassifierReport r;
        Err e = {0};
        ClassifierJob job = small_job();
        job.threads = threads;
        job.epochs = 2;
        EXPECT(train_two(15, 17000, job, &r, &e), "%s", e.msg); /* long enough for a batch to be shared */
        char *path = path_join(model_dir, CLASSIFIER_FILE);
        EXPECT(file_read(path, SIZE_MAX / 2, &data, &n, &e), "%s", e.msg);
        if (!first)
            first = data, n_first = n;
        else
            EXPECT(n == n_first && !memcmp(first, data, n), "%d threads", threads);
        if (data != first) free(data);
        free(path);
    }
    free(first);
}

static int by_keep(const void *a, const void *b) {
    return keep_before(*(const Keep *)a, *(const Keep *)b) ? -1
                                                           : keep_before(*(const Keep *)b, *(const Keep *)a);
}

/* As many as asked for, ties and all: exactly those that sorting puts in front. */
TEST(classifier_keep_share) {
    EXPECT(keep_before((Keep){0.5, 1}, (Keep){0.5, 2}) && !keep_before((Keep){0.5, 2}, (Keep){0.5, 1}));
    EXPECT(keep_before((Keep){0.6, 2}, (Keep){0.5, 1}) && !keep_before((Keep){0.5, 1}, (Keep){0.5, 1}));
    make_root();
    Err e = {0};
    Keep last;
    uint64_t total;
    char *path[] = {path_join(root, "a"), path_join(root, "b"), path_join(root, "c")};
    const char *file[] = {path[0], path[1], path[2]};
    EXPECT(!keep_share(file, 3, 0.5, &last, &total, &e) && strstr(e.msg, "a: cannot open"));
    e = (Err){0};
    for (size_t n = 1; n < 20000; n = n * 3 + 1) {
        Keep *all = xmalloc(n * sizeof *all), *sorted = xmalloc(n * sizeof *sorted);
        for (size_t i = 0; i < n; i++)
            all[i] = (Keep){rand_u32(1, RAND_TEST, n, i) % (1 + n / 4) / 7.0,
                            hash_mix(rand_u32(2, RAND_TEST, n, i))};
        memcpy(sorted, all, n * sizeof *all);
        qsort(sorted, n, sizeof *sorted, by_keep);
        const size_t cut[] = {0, n / 3, n / 3, n}; /* the second file is empty */
        for (int i = 0; i < 3; i++)
            EXPECT(file_write(file[i], all + cut[i], (cut[i + 1] - cut[i]) * sizeof *all, &e), "%s", e.msg);
        static const double share[] = {1e-9, 0.2, 0.5, 0.77, 1};
        for (int s = 0; s < 5; s++) {
            size_t want = (size_t)(share[s] * (double)n + 0.5), kept = 0;
            EXPECT(keep_share(file, 3, share[s], &last, &total, &e) && total == n, "%s", e.msg);
            for (size_t i = 0; i < n; i++) kept += !keep_before(last, all[i]);
            if (!want) want = 1;
            EXPECT(kept == want && !memcmp(&last, &sorted[want - 1], sizeof last), "%zu of %zu, not %zu",
                   kept, n, want);
        }
        free(all);
        free(sorted);
    }
    for (int i = 0; i < 3; i++) free(path[i]);
}

/* P(pareto > 1 - s) = (2 - s)^-9; the same document gets the same answer. */
TEST(classifier_keep_pareto) {
    enum { N = 40000 };
    static const double score[] = {1, 0.95, 0.8, 0.5, 0};
    for (int s = 0; s < 5; s++) {
        double kept = 0, want = pow(2 - score[s], -9);
        for (uint64_t i = 0; i < N; i++) kept += keep_pareto((Keep){score[s], hash_mix(i)}, 9, 3);
        EXPECT(fabs(kept / N - want) < 4 * sqrt(want * (1 - want) / N) + 1e-9, "%f, not %f", kept / N, want);
    }
    EXPECT(keep_pareto((Keep){0.7, 11}, 9, 0) == keep_pareto((Keep){0.7, 11}, 9, 0));
}

TEST(classifier_refuses_to_train) {
    static ClassifierReport r;
    Err e = {0};
    make_root();
    const char *yes = make_file("yes.jsonl", 0, 20, 0, 5);
    EXPECT(!train_sets((ClassifierSet[]){{"positive", &yes, 1}}, 1, small_job(), &r, &e));
    EXPECT_ERR(&e, "positive: no document without this label to learn from");
    EXPECT(!train_sets((ClassifierSet[]){{NULL, &yes, 1}}, 1, small_job(), &r, &e));
    EXPECT_ERR(&e, "no label to learn");
    EXPECT(!train_sets((ClassifierSet[]){{"", &yes, 1}}, 1, small_job(), &r, &e));
    EXPECT_ERR(&e, "a label has 1 to 63 bytes");
    ClassifierJob job = small_job();
    job.buckets = 0;
    EXPECT(!train_sets((ClassifierSet[]){{"a", &yes, 1}}, 1, job, &r, &e));
    EXPECT_ERR(&e, "1 to 2G buckets");
    const char *nowhere = "nowhere.jsonl";
    EXPECT(!train_sets((ClassifierSet[]){{"a", &nowhere, 1}}, 1, small_job(), &r, &e));
    EXPECT_ERR(&e, "nowhere.jsonl: ");
    free((char *)yes);
}

TEST(classifier_refuses_damage) {
    static ClassifierReport r;
    Err e = {0};
    char *data;
    size_t n;
    ClassifierJob job = small_job();
    job.buckets = 100;
    EXPECT(train_two(20, 5, job, &r, &e), "%s", e.msg);
    char *path = path_join(model_dir, CLASSIFIER_FILE);
    EXPECT(file_read(path, SIZE_MAX / 2, &data, &n, &e), "%s", e.msg);
    for (size_t at = 0; at<n + 4; at += at> 160 && at + 7 < n ? 7 : 1) {
        FILE *f = fopen(path, "w");
        size_t size = at < n ? n : (at - n) * 17; /* changed, then cut */
        if (at < n) data[at] ^= 4;
        EXPECT(f && fwrite(data, 1, size, f) == size && !fclose(f));
        if (at < n) data[at] ^= 4;
        EXPECT(!classifier_open(model_dir, &e), "byte %zu", at);
        EXPECT_ERR(&e, CLASSIFIER_FILE);
    }
    free(data);
    free(path);
}

/* Words that were never seen, in spellings that were: only n-grams of characters can tell. Kind 0 has vowels between its
 * consonants, kind 1 has none. */
TEST(classifier_languages) {
    static ClassifierReport r;
    Err e = {0};
    make_root();
    char *file[2];
    for (int kind = 0; kind < 2; kind++) {
        Str s = {0};
        for (uint64_t i = 0; i < 300; i++) {
            str_puts(&s, "{\"text\": \"");
            for (uint64_t c = 0; c < 40; c++) {
                uint32_t at = rand_u32((uint64_t)kind, RAND_TEST, i, c);
                str_printf(&s, "%c%s", "bdfglmnprst"[at % 11], kind || at >> 8 & 1 ? "" : "o");
                if (c % 8 == 7) str_puts(&s, " ");
            }
            str_puts(&s, "\"}\n");
        }
        EXPECT(file_write(file[kind] = path_join(root, kind ? "b.jsonl" : "a.jsonl"), s.p, s.n, &e));
        str_free(&s);
    }
    const char *a = file[0], *b = file[1];
    const ClassifierSet sets[] = {{"a", &a, 1}, {"b", &b, 1}};
    ClassifierJob job = classifier_defaults();
    job.buckets = 1 << 14;
    job.held_out = 0.3;
    EXPECT(train_sets(sets, 2, job, &r, &e) && r.accuracy < 0.8, "words alone: %.3f", r.accuracy);
    job.chars = 3;
    EXPECT(train_sets(sets, 2, job, &r, &e) && r.accuracy > 0.99, "%s %.3f", e.msg, r.accuracy);
    Classifier *c = classifier_open(model_dir, &e);
    double score[2];
    classifier_scores(c, "gorfomos", 8, score);
    EXPECT(score[0] > score[1], "%f %f", score[0], score[1]);
    classifier_close(c);
    job.chars = 6;
    EXPECT(!train_sets(sets, 2, job, &r, &e) && strstr(e.msg, "characters"));
    free(file[0]), free(file[1]);
}

/* n-grams of up to two characters of " ab ": a ab b, those with the spaces, and the word itself. */
TEST(classifier_char_features) {
    uint32_t bucket[FEATURES_AT_ONCE], swapped[FEATURES_AT_ONCE];
    Features f = features_of("ab", 2, 1, 2, 1u << 30), g = features_of("AB", 2, 1, 2, 1u << 30);
    EXPECT(features_next(&f, bucket) == 6 && features_next(&f, swapped) == 0);
    EXPECT(features_next(&g, swapped) == 6 && !memcmp(bucket, swapped, 6 * sizeof *bucket));
    char wide[4000]; /* of a long word only the beginning counts */
    memset(wide, 'x', sizeof wide);
    f = features_of(wide, sizeof wide, NGRAMS_LONGEST, NGRAMS_LONGEST, 1 << 20);
    size_t n = features_next(&f, bucket);
    EXPECT(n == 1 + 5 * WORD_CHARS - 10 - 2, "%zu", n);
}
