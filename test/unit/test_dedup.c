/* test_dedup.c - minhash.c against plain arithmetic, exact similarities and the theory; sets.c against
 * labels; dedup.c on planted duplicates. */
#include "dedup.h"
#include "minhash.h"
#include "sets.h"
#include "test.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t rand_u64(uint64_t step, uint64_t i) {
    return (uint64_t)rand_u32(5, RAND_TEST, step, 2 * i) << 32 | rand_u32(5, RAND_TEST, step, 2 * i + 1);
}

/* ---- minhash.c ----------------------------------------------------------------------------------------- */

static uint64_t permute_plainly(uint64_t a, uint64_t x, uint64_t b) {
    return (uint64_t)(((unsigned __int128)a * x + b) % MINHASH_P);
}

TEST(dedup_permutation_is_modular) {
    const uint64_t p = MINHASH_P;
    const uint64_t edges[] = {0, 1, 2, 7, 8, 0xffffffff, 0x100000000, 0x100000001, p / 2, p - 2, p - 1, p};
    enum { EDGES = sizeof edges / sizeof *edges };
    for (uint64_t i = 0; i < 20000; i++) {
        bool edge = i < EDGES * EDGES * EDGES;
        uint64_t a = edge ? edges[i % EDGES] : rand_u64(1, i) % p;
        uint64_t x = edge ? edges[i / EDGES % EDGES] : rand_u64(2, i) % p;
        uint64_t b = edge ? edges[i / EDGES / EDGES] : rand_u64(3, i) % p;
        uint32_t a0 = (uint32_t)a, a1 = (uint32_t)(a >> 32);
        MinHash m = {.n = 1, .a0 = &a0, .a1 = &a1, .b = &b};
        uint64_t want = permute_plainly(a, x, b), got = minhash_permute(&m, 0, x);
        EXPECT(got == want, "%llx x %llx + %llx: %llx, not %llx", (unsigned long long)a,
               (unsigned long long)x, (unsigned long long)b, (unsigned long long)got,
               (unsigned long long)want);
    }
}

/* The loop over vectors is the smallest of one at a time, for every tail of the loop. */
TEST(dedup_signature_is_the_smallest) {
    for (int rows = 1; rows <= 19; rows++) {
        Err e = {0};
        MinHash m;
        uint64_t x[100], mins[1024];
        EXPECT(minhash_open(&m, 1, rows, 5, &e));
        for (uint64_t i = 0; i < 100; i++) x[i] = rand_u64(4, i) % MINHASH_P;
        minhash_signature(&m, x, 100, mins);
        for (int i = 0; i < m.n; i++) {
            uint64_t a = (uint64_t)m.a1[i] << 32 | m.a0[i], least = MINHASH_P;
            EXPECT(a >= 1 && a < MINHASH_P && m.b[i] < MINHASH_P);
            for (int k = 0; k < 100; k++) {
                uint64_t y = permute_plainly(a, x[k], m.b[i]);
                if (y < least) least = y;
            }
            EXPECT(mins[i] == least, "%d rows, row %d", rows, i);
        }
        minhash_signature(&m, x, 0, mins);
        EXPECT(mins[0] == MINHASH_P);
        minhash_close(&m);
    }
}

static Hashes shingles_of(const char *text, int ngram) {
    Hashes h = {0};
    minhash_shingles(text, strlen(text), ngram, &h);
    return h;
}

TEST(dedup_shingles) {
    Hashes a = shingles_of("The quick, brown fox jumps over the lazy dog.", 5);
    Hashes b = shingles_of("  the QUICK brown\nfox -- jumps over (the) lazy dog", 5);
    EXPECT(a.n == 5 && b.n == 5 && !memcmp(a.p, b.p, 5 * sizeof *a.p));
    Hashes tail =
        shingles_of("over the lazy dog jumps over the lazy dog", 5); /* the last five words are the same */
    EXPECT(tail.n == 5 && tail.p[4] == a.p[4] && tail.p[0] != a.p[4]);
    Hashes few = shingles_of("the quick", 5), none = shingles_of(" ... !", 5),
           one = shingles_of("The quick!", 5);
    EXPECT(few.n == 1 && none.n == 0 && one.n == 1 && few.p[0] == one.p[0]);
    Hashes order = shingles_of("quick the", 5);
    EXPECT(order.n == 1 && order.p[0] != few.p[0]);
    for (size_t i = 0; i < a.n; i++) EXPECT(a.p[i] < MINHASH_P);
    free(a.p), free(b.p), free(tail.p), free(few.p), free(none.p), free(one.p), free(order.p);
}

static bool share_a_band(const MinHash *m, const uint64_t *a, const uint64_t *b) {
    uint64_t ka[256], kb[256];
    minhash_keys(m, a, ka);
    minhash_keys(m, b, kb);
    for (int i = 0; i < m->bands; i++)
        if (ka[i] == kb[i]) return true;
    return false;
}

/* Two sets of `n` numbers, of which `common` are in both; `trial` makes each pair another. */
static void pair_of_sets(int trial, int n, int common, uint64_t *a, uint64_t *b) {
    for (int i = 0; i < n; i++) {
        a[i] = rand_u64(10 + (uint64_t)trial, (uint64_t)i) % MINHASH_P;
        b[i] = i < common ? a[i] : rand_u64(10 + (uint64_t)trial, (uint64_t)(n + i)) % MINHASH_P;
    }
}

/* How often sets of exactly known similarity share a band: 1 - (1 - s^8)^14, to four standard deviations. The
 * estimate of s from 112 bytes errs as it should, too: its variance is s (1 - s) / 112, a little more for
 * chance. */
TEST(dedup_follows_the_s_curve) {
    enum { TRIALS = 600, N = 60 };
    static const int commons[] = {60, 58, 57, 53, 50, 45, 40, 30};
    Err e = {0};
    MinHash m;
    EXPECT(minhash_open(&m, 14, 8, 5, &e));
    for (size_t k = 0; k < sizeof commons / sizeof *commons; k++) {
        double s = commons[k] / (2.0 * N - commons[k]), error = 0, square = 0;
        int found = 0;
        for (int trial = 0; trial < TRIALS; trial++) {
            uint64_t a[N], b[N], ma[112], mb[112];
            uint8_t low[2][112];
            pair_of_sets(trial, N, commons[k], a, b);
            minhash_signature(&m, a, N, ma);
            minhash_signature(&m, b, N, mb);
            for (int i = 0; i < 112; i++) low[0][i] = (uint8_t)ma[i], low[1][i] = (uint8_t)mb[i];
            found += share_a_band(&m, ma, mb);
            double off = minhash_similarity(low[0], low[1], 112) - s;
            error += off / TRIALS, square += off * off / TRIALS;
        }
        double p = minhash_curve(14, 8, s), sigma = sqrt(p * (1 - p) / TRIALS), rate = (double)found / TRIALS;
        double want = s * (1 - s) / 112;
        EXPECT(fabs(rate - p) <= 4 * sigma + 1e-9, "s %.3f: %.3f share a band, theory %.3f", s, rate, p);
        EXPECT(fabs(error) <= 4 * sqrt(want / TRIALS) + 0.002, "s %.3f: the estimate is off by %.4f", s,
               error);
        EXPECT(square <= 1.3 * want + 1e-5, "s %.3f: variance %.6f, theory %.6f", s, square, want);
    }
    minhash_close(&m);
}

TEST(dedup_curve) {
    EXPECT(fabs(minhash_curve(14, 8, 0.8) - 0.923548) < 1e-6 && minhash_curve(14, 8, 0) == 0);
    EXPECT(fabs(minhash_curve(1, 1, 0.3) - 0.3) < 1e-12 && minhash_curve(14, 8, 1) == 1);
}

TEST(dedup_minhash_refuses) {
    Err e = {0};
    MinHash m;
    EXPECT(!minhash_open(&m, 0, 8, 5, &e));
    EXPECT_ERR(&e, "0 bands of 8 rows");
    EXPECT(!minhash_open(&m, 256, 64, 5, &e));
    EXPECT_ERR(&e, "at most 256 bands");
    EXPECT(!minhash_open(&m, 14, 8, 65, &e));
    EXPECT_ERR(&e, "1 to 64 words, not 65");
}

/* ---- sets.c -------------------------------------------------------------------------------------------- */

TEST(dedup_sets_are_components) {
    enum { N = 500 };
    Err e = {0};
    Sets s;
    int label[N];
    char *path = path_join(test_dir(), "sets");
    EXPECT(sets_open(&s, path, N, &e) && !path_exists(path));
    for (int i = 0; i < N; i++) label[i] = i;
    for (uint64_t k = 0; k < 400; k++) {
        uint64_t i = rand_u64(8, 2 * k) % N, j = rand_u64(8, 2 * k + 1) % N;
        sets_join(&s, i, j);
        int from = label[i] < label[j] ? label[j] : label[i], to = label[i] < label[j] ? label[i] : label[j];
        for (int v = 0; v < N; v++)
            if (label[v] == from) label[v] = to;
    }
    for (uint64_t i = 0; i < N; i++)
        EXPECT(sets_find(&s, i) == (uint64_t)label[i], "element %llu", (unsigned long long)i);
    sets_close(&s);
    free(path);
}

/* ---- dedup.c ------------------------------------------------------------------------------------------- */

enum { GROUPS = 120, COPIES = 5, WORDS = 150 };
static const int changed[COPIES] = {0, 0, 1, 3, 20}; /* words of each copy that are not the original's */

/* Document (group, copy): random words, of which some are others in the copy. */
static void put_document(int group, int copy, Str *text) {
    text->n = 0;
    for (uint64_t w = 0; w < WORDS; w++) {
        uint64_t step = 1000 + (uint64_t)group, k = w;
        for (int c = 0; c < changed[copy]; c++)
            if (rand_u64(step, 10000 + (uint64_t)(copy * 100 + c)) % WORDS == w)
                k = 20000 + w + (uint64_t)copy * 1000;
        str_printf(text, "%sw%llu", w ? copy == 1 ? ", " : " " : "",
                   (unsigned long long)(rand_u64(step, k) % 5000));
    }
}

/* The planted corpus in two files, the copies of a group far from each other. */
static void write_corpus(const char *dir, char *path[2]) {
    Err e = {0};
    Str file[2] = {{0}}, text = {0};
    for (int copy = 0; copy < COPIES; copy++)
        for (int group = 0; group < GROUPS; group++) {
            put_document(group, copy, &text);
            str_printf(&file[group % 2], "{\"text\": \"%s\", \"group\": %d, \"copy\": %d, \"score\": %d}\n",
                       text.p, group, copy, copy == 2 ? 9 : 1);
        }
    for (int i = 0; i < 2; i++) {
        path[i] = path_join(dir, i ? "b.jsonl" : "a.jsonl");
        EXPECT(file_write(path[i], file[i].p, file[i].n, &e));
        str_free(&file[i]);
    }
    str_free(&text);
}

static int by_hash(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The exact similarity of two texts, from their sorted sets of shingles. */
static double jaccard(const Str *a, const Str *b) {
    Hashes h[2] = {{0}};
    size_t n[2] = {0}, both = 0;
    for (int i = 0; i < 2; i++) {
        minhash_shingles((i ? b : a)->p, (i ? b : a)->n, 5, &h[i]);
        qsort(h[i].p, h[i].n, sizeof *h[i].p, by_hash);
        for (size_t k = 0; k < h[i].n; k++)
            if (!n[i] || h[i].p[n[i] - 1] != h[i].p[k]) h[i].p[n[i]++] = h[i].p[k];
    }
    for (size_t i = 0, k = 0; i < n[0] && k < n[1];) {
        int order = by_hash(&h[0].p[i], &h[1].p[k]);
        both += order == 0;
        i += order <= 0, k += order >= 0;
    }
    free(h[0].p), free(h[1].p);
    return (double)both / (double)(n[0] + n[1] - both);
}

typedef bool Kept[GROUPS][COPIES];

static void read_set(const char *dir, const char *name, bool value, Kept kept, Str *all) {
    for (int i = 0; i < 2; i++) {
        Err e = {0};
        Text t;
        char *line, *path = path_join(dir, name);
        size_t n;
        path[strlen(path) - strlen("0.jsonl.gz")] = (char)('0' + i);
        EXPECT(text_open(&t, path, &e));
        while (text_line(&t, &line, &n, &e) && line) {
            cJSON *o = cJSON_Parse(line);
            EXPECT(o && cJSON_HasObjectItem(o, "duplicate_of") == !value);
            if (o)
                kept[cJSON_GetObjectItem(o, "group")->valueint][cJSON_GetObjectItem(o, "copy")->valueint] =
                    value;
            cJSON_Delete(o);
            str_put(all, line, n);
        }
        EXPECT_OK(&e);
        text_close(&t);
        free(path);
    }
}

static void run_job(const DedupJob *job, Kept kept, Str *all) {
    Err e = {0};
    EXPECT(dedup_run(job, &(DedupResult){0}, &e), "%s", e.msg);
    read_set(job->out, "kept_000000.jsonl.gz", true, kept, all);
    read_set(job->out, "dropped_000000.jsonl.gz", false, kept, all);
}

/* Copies are dropped as often as the theory says for their exact similarity, originals never. */
TEST(dedup_planted_duplicates) {
    const char *dir = test_dir();
    char *path[2], *out = path_join(dir, "out");
    Kept kept = {{0}};
    Str all = {0}, a = {0}, b = {0};
    write_corpus(dir, path);
    DedupJob job = {.files = (const char *const *)path,
                    .n_files = 2,
                    .out = out,
                    .bands = 14,
                    .rows = 8,
                    .ngram = 5,
                    .threads = 2,
                    .memory = 1 << 20};
    run_job(&job, kept, &all);
    for (int copy = 0; copy < COPIES; copy++) {
        double want = 0, variance = 0, dropped = 0;
        for (int group = 0; group < GROUPS; group++) {
            put_document(group, 0, &a);
            put_document(group, copy, &b);
            double p = minhash_curve(14, 8, jaccard(&a, &b));
            want += p, variance += p * (1 - p), dropped += !kept[group][copy];
        }
        if (copy == 0) want = variance = 0;
        if (copy == 1) EXPECT(want == GROUPS, "the exact copies are similar only to %g", want / GROUPS);
        EXPECT(fabs(dropped - want) <= 4 * sqrt(variance) + 1.5, "copy %d: %g dropped, theory %.1f", copy,
               dropped, want);
    }
    str_free(&all), str_free(&a), str_free(&b);
    free(path[0]), free(path[1]), free(out);
}

static void remove_file(const char *dir, const char *name) {
    Err e = {0};
    char *path = path_join(dir, name);
    EXPECT(dir_remove(path, &e));
    free(path);
}

/* The same bytes for any number of threads, any memory, and after going on from parts that are missing. */
TEST(dedup_same_bytes) {
    const char *dir = test_dir();
    char *path[2], *out[3];
    Kept kept = {{0}};
    Str all[3] = {{0}};
    write_corpus(dir, path);
    for (int i = 0; i < 3; i++) {
        out[i] = path_join(dir, (const char *[]){"x", "y", "z"}[i]);
        DedupJob job = {.files = (const char *const *)path,
                        .n_files = 2,
                        .out = out[i],
                        .bands = 14,
                        .rows = 8,
                        .ngram = 5,
                        .threads = 1 + i,
                        .memory = i == 1 ? 1 : 1 << 24};
        run_job(&job, kept, &all[i]);
        if (i < 2) continue;
        remove_file(out[i], "kept_000001.jsonl.gz"); /* as if killed: no report, one part gone */
        remove_file(out[i], "report.json");
        all[i].n = 0;
        run_job(&job, kept, &all[i]);
    }
    for (int i = 1; i < 3; i++)
        EXPECT(all[i].n > 100000 && all[i].n == all[0].n && !memcmp(all[i].p, all[0].p, all[0].n), "run %d",
               i);
    for (int i = 0; i < 3; i++) str_free(&all[i]), free(out[i]);
    free(path[0]), free(path[1]);
}

TEST(dedup_which_one_stays) {
    const char *dir = test_dir();
    char *path[2];
    write_corpus(dir, path);
    for (int keep = DEDUP_FIRST; keep <= DEDUP_SCORE; keep++) {
        char name[2] = {(char)('0' + keep), 0}, *out = path_join(dir, name);
        Kept kept = {{0}};
        Str all = {0};
        DedupJob job = {.files = (const char *const *)path,
                        .n_files = 2,
                        .out = out,
                        .keep = (DedupKeep)keep,
                        .score = "score",
                        .bands = 14,
                        .rows = 8,
                        .ngram = 5,
                        .memory = 1 << 20};
        run_job(&job, kept, &all);
        int wins[COPIES] = {0}; /* copy 1 is longer by its commas; copy 2 has the best score */
        for (int group = 0; group < GROUPS; group++)
            for (int copy = 0; copy < COPIES; copy++) wins[copy] += kept[group][copy];
        int winner = keep == DEDUP_FIRST ? 0 : keep == DEDUP_LONGEST ? 1 : 2;
        for (int copy = 0; copy < 3; copy++)
            EXPECT(copy == winner ? wins[copy] == GROUPS : wins[copy] <= 2, "keep %d: copy %d stays %d times",
                   keep, copy, wins[copy]);
        str_free(&all);
        free(out);
    }
    free(path[0]), free(path[1]);
}

TEST(dedup_other_job_refused) {
    Err e = {0};
    const char *dir = test_dir();
    char *path[2], *out = path_join(dir, "out");
    Kept kept = {{0}};
    Str all = {0};
    write_corpus(dir, path);
    DedupJob job = {.files = (const char *const *)path,
                    .n_files = 2,
                    .out = out,
                    .bands = 14,
                    .rows = 8,
                    .ngram = 5,
                    .memory = 1 << 20};
    run_job(&job, kept, &all);
    job.rows = 7;
    EXPECT(!dedup_run(&job, &(DedupResult){0}, &e));
    EXPECT_ERR(&e, "holds another job");
    job.overwrite = true;
    EXPECT(dedup_run(&job, &(DedupResult){0}, &e), "%s", e.msg);
    str_free(&all);
    free(path[0]), free(path[1]), free(out);
}
