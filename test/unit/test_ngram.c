/* test_ngram.c - ngram.c, ngram_train.c: probabilities worked out by hand, distributions that must sum to one, and
 * what must be refused. test/compat/test_ngram.py holds them against KenLM. */
#include "ngram_impl.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char model_dir[256]; /* where train() puts a model */

static bool train(const char *text, NgramJob job, Err *e) {
    char path[256];
    const char *root = test_dir(); /* empties it */
    snprintf(path, sizeof path, "%s/text.txt", root);
    snprintf(model_dir, sizeof model_dir, "%s/model", root);
    job.files = (const char *const[]){path};
    job.n_files = 1;
    job.out_dir = model_dir;
    if (!job.memory) job.memory = 1 << 20;
    return file_write(path, text, strlen(text), e) && ngram_train(&job, e);
}

/* The bytes of the model that train() made; malloc'd. */
static char *model_bytes(size_t *n) {
    Err e = {0};
    char *data = NULL, *path = path_join(model_dir, NGRAM_FILE);
    *n = 0;
    EXPECT(file_read(path, SIZE_MAX / 2, &data, n, &e), "%s", e.msg);
    free(path);
    return data;
}

static Ngram *model_of(const char *text, NgramJob job) {
    Err e = {0};
    Ngram *m = train(text, job, &e) ? ngram_open(model_dir, &e) : NULL;
    EXPECT(m, "%s", e.msg);
    return m;
}

static bool near(double a, double b) {
    return fabs(a - b) <
           1e-3 * fabs(b); /* half a step of 1/4096 in log10 is 2.8e-4, times three or four factors */
}

static double probability(const Ngram *m, const char *text) {
    NgramScore s = {0};
    ngram_score(m, text, strlen(text), &s);
    return pow(10, s.log10);
}

/* Bigrams: <s>c 1, <s>a 2, <s>b 2, c</s> 1, a</s> 1, ab 1, b</s> 3: so 4, 2, 1 and 0 occur 1, 2, 3 and 4 times,
 * Y = 4 / (4 + 2 2) = 1/2, D1 = 1 - 2 Y 2/4 = 1/2, D2 = 2 - 3 Y 1/2 = 5/4, D3 = 3 - 4 Y 0/1 = 3. Different words
 * before a: 1, b: 2, c: 1, </s>: 3: so Y = 2 / (2 + 2) = 1/2, D1 = 1 - 2 Y 1/2 = 1/2, D2 = 2 - 3 Y 1/1 = 1/2, D3 = 3;
 * they sum to 7, the discounts to 9/2, shared by the four and <unk>: p(a) = (1/2 + 9/10) / 7 = 1/5. */
TEST(ngram_by_hand) {
    Ngram *m = model_of("c\na\nb\n\nb\na  b\n", (NgramJob){.order = 2, .unit = NGRAM_TOKENS});
    if (!m) return;
    static const double discount[2][3] = {{0.5, 0.5, 3}, {0.5, 1.25, 3}};
    NgramInfo info = ngram_info(m);
    for (int n = 0; n < 2; n++)
        for (int k = 0; k < 3; k++)
            EXPECT(fabs(info.discount[n][k] - discount[n][k]) < 1e-12, "%g", info.discount[n][k]);
    EXPECT(info.guessed == 0 && info.order == 2 && info.ngrams[0] == 6 && info.ngrams[1] == 7);
    double end = 0.9 / 7, a = 0.75 / 5 + 0.6 / 5, b = 0.75 / 5 + 0.6 * 2.4 / 7;
    EXPECT(near(probability(m, "a b"),
                a * (0.5 / 2 + 0.5 * 2.4 / 7) * end)); /* all of b's three go to shorter ones */
    EXPECT(near(probability(m, "b b"), b * 2.4 / 7 * end));
    EXPECT(near(probability(m, "zebra"), 0.6 * end * end)); /* <unk> is as likely as </s> here */
    EXPECT(near(probability(m, "a\n\n \nb\n"), a * (0.5 / 2 + 0.5 * end) * b * end));
    EXPECT(near(ngram_perplexity(m, "zebra", 5), 1 / sqrt(0.6 * end * end)));
    EXPECT(isinf(ngram_perplexity(m, " \n", 2)));
    NgramScore s = {0};
    ngram_score(m, "a b\nb zebra", 11, &s);
    EXPECT(near(score_rarity(&s), 1 / sqrt(sqrt(0.2 * 2.4 / 7 * 2.4 / 7 * end))), "%g", score_rarity(&s));
    EXPECT(isinf(score_rarity(&(NgramScore){0})));
    ngram_close(m);
}

/* Fewer words than discounts: 1/2, 1, 3/2. One word: <s>a 1, a</s> 1; the words before a and </s>: 1 each. */
TEST(ngram_one_word) {
    Ngram *m = model_of("a", (NgramJob){.order = 3, .unit = NGRAM_TOKENS});
    if (!m) return;
    EXPECT(ngram_info(m).guessed == 7);
    double p = 0.25 + 0.5 / 3; /* of a and of </s>, with <unk> for the third of what is left over */
    double in = 0.5 + 0.5 * p; /* after one word; after two: */
    EXPECT(near(probability(m, "a"), in * (0.5 + 0.5 * in)));
    ngram_close(m);
}

/* Sentences of words whose ranks follow Zipf's law. */
static char *zipf_text(int words, int different) {
    Str s = {0};
    for (int i = 0; i < words; i++) {
        double u = rand_uniform(3, RAND_TEST, 0, (uint64_t)i);
        str_printf(&s, "w%d%s", (int)pow(different, u),
                   rand_u32(4, RAND_TEST, 0, (uint64_t)i) % 8 ? " " : "\n");
    }
    return s.p;
}

static uint64_t word_number(const Ngram *m, int k) {
    char w[16];
    return ngram_word(ngram_info(m).unit, (Span){w, (size_t)snprintf(w, sizeof w, "w%d", k)});
}

/* After any history, seen or not, the probabilities of all words, </s> and <unk> sum to one. */
static void expect_sums_to_one(const Ngram *m, int different) {
    for (uint64_t trial = 0; trial < 60; trial++) {
        uint64_t words[8];
        int n = 1 + (int)(trial % 6);
        for (int i = 0; i < n - 1; i++) {
            double u = rand_uniform(5, RAND_TEST, trial, (uint64_t)i);
            words[i] = i == 2 ? HASH_UNK : word_number(m, (int)pow(different, u));
        }
        double sum = 0;
        for (int k = 1; k < different + 2; k++) {
            words[n - 1] = k < different ? word_number(m, k) : k == different ? HASH_EOS : HASH_UNK;
            sum += pow(10, ngram_log10(m, words, n));
        }
        EXPECT(fabs(sum - 1) < 8e-4, "after %d words: %.9f", n - 1, sum);
    }
}

TEST(ngram_sums_to_one) {
    enum { DIFFERENT = 150 };
    char *text = zipf_text(20000, DIFFERENT);
    static const NgramJob jobs[] = {{.order = 2},
                                    {.order = 3, .unit = NGRAM_TOKENS},
                                    {.order = 5},
                                    {.order = 4, .prune = {0, 0, 1, 2}},
                                    {.order = 3, .prune = {0, 3, 3}}};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        Ngram *m = model_of(text, jobs[i]);
        if (m && ngram_info(m).ngrams[0] == DIFFERENT - 1 + 3) expect_sums_to_one(m, DIFFERENT);
        EXPECT(m && ngram_info(m).ngrams[0] == DIFFERENT - 1 + 3, "a word never came up");
        ngram_close(m);
    }
    free(text);
}

/* Pruning leaves out what occurs too rarely, counted in the text, not by the words before it. */
TEST(ngram_prunes) {
    Ngram *m = model_of("a b\na b\na c\n", (NgramJob){.order = 2, .unit = NGRAM_TOKENS, .prune = {0, 1}});
    if (!m) return;
    EXPECT(ngram_info(m).ngrams[1] == 3); /* <s>a 3, ab 2, b</s> 2; not ac 1, c</s> 1 */
    ngram_close(m);
}

TEST(ngram_threads_and_memory_change_nothing) {
    char *text = zipf_text(20000, 500), *first = NULL;
    size_t n_first = 0;
    static const NgramJob jobs[] = {{.threads = 1, .memory = 1 << 26},
                                    {.threads = 1, .memory = 1},
                                    {.threads = 3, .memory = 1},
                                    {.threads = 4, .memory = 1 << 20}};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        Err e = {0};
        NgramJob job = jobs[i];
        job.order = 4;
        size_t n;
        EXPECT(train(text, job, &e), "%s", e.msg);
        char *data = model_bytes(&n);
        if (!first) {
            first = data, n_first = n;
        } else {
            EXPECT(data && n == n_first && !memcmp(data, first, n), "job %zu", i);
            free(data);
        }
    }
    free(first);
    free(text);
}

TEST(ngram_units) {
    Ngram *m = model_of("Don't stop, Ünder!\n", (NgramJob){.order = 2, .unit = NGRAM_WORDS});
    NgramScore s = {0};
    if (!m) return;
    ngram_score(m, "DON\xe2\x80\x99T \xc3\xbcnder? stop; go", 24, &s);
    EXPECT(s.words == 4 && s.unknown == 1 && s.sentences == 1);
    ngram_close(m);
    m = model_of("Don't stop, Ünder!\n", (NgramJob){.order = 2, .unit = NGRAM_TOKENS});
    s = (NgramScore){0};
    if (!m) return;
    ngram_score(m, "Don't stop Ünder!\n\n--", 22, &s);
    EXPECT(s.words == 4 && s.unknown == 2 && s.sentences == 2);
    ngram_close(m);
}

TEST(ngram_refuses_to_train) {
    Err e = {0};
    EXPECT(!train("", (NgramJob){.order = 3}, &e));
    EXPECT_ERR(&e, "text.txt: is empty");
    EXPECT(!train(" ... \n\n", (NgramJob){.order = 3}, &e));
    EXPECT_ERR(&e, "text.txt: no words to learn from");
    EXPECT(!train("a", (NgramJob){.order = 9}, &e));
    EXPECT_ERR(&e, "of order 2 to 8, not 9");
    EXPECT(!train("a", (NgramJob){.order = 3, .prune = {0, 2, 1}}, &e));
    EXPECT_ERR(&e, "as much as shorter ones or more, not 1 after 2");
    EXPECT(!train("a", (NgramJob){.order = 3, .prune = {1, 1, 1}}, &e));
    EXPECT_ERR(&e, "words are not pruned");
}

/* As it is, without the wait for the disk. */
static void overwrite(const char *path, const char *data, size_t n) {
    FILE *f = fopen(path, "w");
    EXPECT(f && fwrite(data, 1, n, f) == n && !fclose(f));
}

/* Any byte that is changed, or cut off, is noticed. */
TEST(ngram_refuses_damage) {
    Err e = {0};
    size_t n;
    EXPECT(train("a b\nb a\n", (NgramJob){.order = 2}, &e), "%s", e.msg);
    char *data = model_bytes(&n), *path = path_join(model_dir, NGRAM_FILE);
    if (!data) return;
    for (size_t at = 0; at < n; at += at < NGRAM_TABLE ? 1 : 5) {
        if (at >= sizeof(NgramHeader) && at < NGRAM_TABLE) continue; /* zeros that mean nothing */
        data[at] ^= 0x20;
        overwrite(path, data, n);
        EXPECT(!ngram_open(model_dir, &e), "byte %zu", at);
        EXPECT_ERR(&e, NGRAM_FILE);
        data[at] ^= 0x20;
    }
    static const size_t sizes[] = {1, 100, NGRAM_TABLE, NGRAM_TABLE + 8};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        overwrite(path, data, sizes[i]);
        EXPECT(!ngram_open(model_dir, &e));
        EXPECT_ERR(&e, i < 2 ? "is no n-gram model" : "not as long as its header says");
    }
    overwrite(path, data, n);
    Ngram *m = ngram_open(model_dir, &e);
    EXPECT_OK(&e);
    ngram_close(m);
    EXPECT(!ngram_open("/nowhere", &e));
    EXPECT_ERR(&e, "/nowhere/ngram.bin");
    free(data);
    free(path);
}
