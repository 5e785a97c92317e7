/* test_dataloader.c - dataloader.c and shard.c: what a row is, order, weights, shards there and back, refusals. */
#define _DEFAULT_SOURCE
#include "dataloader.h"
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- shards as llm.c would write them: word 3 and those after it are zero -------------------------------- */

static void put32(Str *s, uint32_t v) {
    uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    str_put(s, b, 4);
}

static void header(Str *s, const uint32_t *words, int n) {
    for (int i = 0; i < 256; i++) put32(s, i < n ? words[i] : 0);
}

/* DIR/NAME with tokens base, base + 1, ...; returns its path. */
static char *counting_shard(const char *dir, const char *name, uint32_t n, uint32_t base) {
    Err e = {0};
    Str s = {0};
    header(&s, (const uint32_t[]){SHARD_MAGIC, 1, n, 4}, 4);
    for (uint32_t i = 0; i < n; i++) put32(&s, base + i);
    char *path = path_join(dir, name);
    EXPECT(file_write(path, s.p, s.n, &e), "%s", e.msg);
    str_free(&s);
    return path;
}

enum { V = 1 << 20 };

static Loader *open_one(const char *path, int T, bool shuffle, uint64_t seed) {
    Err e = {0};
    Loader *l = loader_open(&(Source){path, 1}, 1, T, shuffle, seed, V, &e);
    EXPECT(l, "%s", e.msg);
    return l;
}

/* The first token of row q; checks the others and the targets against a shard of counting tokens. */
static int32_t row(const Loader *l, uint64_t q, int T) {
    Err e = {0};
    int32_t x[64], y[64];
    EXPECT(loader_rows(l, q, 1, x, y, &e), "%s", e.msg);
    for (int t = 0; t < T; t++) EXPECT(x[t] == x[0] + t && y[t] == x[t] + 1, "row %d, token %d", (int)q, t);
    return x[0];
}

/* ---- the order of rows ----------------------------------------------------------------------------------- */

TEST(loader_file_order) {
    const char *dir = test_dir();
    const int T = 7;
    char *a = counting_shard(dir, "a_000000.bin", 7 * 5 + 1, 0); /* five sequences, exactly */
    char *b =
        counting_shard(dir, "a_000001.bin", 7 * 3 + 7, 1000); /* three, and a rest that lacks one target */
    char *c = counting_shard(dir, "a_000002.bin", 4, 2000);   /* none */
    char *d = counting_shard(dir, "a_000003.bin", 7 * 2 + 3, 3000); /* two */
    static const int32_t starts[] = {0, 7, 14, 21, 28, 1000, 1007, 1014, 3000, 3007};
    Loader *l = open_one(dir, T, false, 1);
    EXPECT(loader_sequences(l) == 10 && loader_tokens(l) == 36 + 28 + 4 + 17);
    for (uint64_t q = 0; q < 35; q++) EXPECT(row(l, q, T) == starts[q % 10], "row %d", (int)q);
    loader_close(l);
    free(a), free(b), free(c), free(d);
}

TEST(loader_each_sequence_once_an_epoch) {
    static const int sizes[] = {1, 2, 3, 5, 16, 17, 100, 1025};
    const int T = 3;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int n = sizes[k], moved = 0;
        char *path = counting_shard(test_dir(), "s.bin", (uint32_t)(n * T + 1), 0);
        Loader *l = open_one(path, T, true, 5), *other = open_one(path, T, true, 6);
        int differ = 0;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            char *seen = xcalloc((size_t)n, 1);
            for (uint64_t i = 0; i < (uint64_t)n; i++) {
                int32_t at = row(l, epoch * (uint64_t)n + i, T) / T;
                EXPECT(!seen[at]++, "%d sequences, epoch %d: number %d twice", n, (int)epoch, at);
                moved += at != row(l, i, T) / T;
                differ += at != row(other, epoch * (uint64_t)n + i, T) / T;
            }
            free(seen);
        }
        if (n >= 100)
            EXPECT(moved > n && differ > 2 * n, "%d, %d: epochs and seeds must give orders of their own",
                   moved, differ);
        loader_close(l), loader_close(other);
        free(path);
    }
}

/* All 120 orders of five sequences are about equally likely. */
TEST(loader_shuffle_is_even) {
    char *path = counting_shard(test_dir(), "s.bin", 6, 0);
    int count[3125] = {0}, orders = 0;
    for (uint64_t seed = 0; seed < 4; seed++) {
        Loader *l = open_one(path, 1, true, seed);
        for (uint64_t epoch = 0; epoch < 6000; epoch++) {
            int code = 0;
            for (uint64_t i = 0; i < 5; i++) code = code * 5 + row(l, epoch * 5 + i, 1);
            count[code]++;
        }
        loader_close(l);
    }
    for (int i = 0; i < 3125; i++) {
        orders += count[i] > 0;
        EXPECT(!count[i] || (count[i] > 200 - 70 && count[i] < 200 + 70), "order %d came %d times of 200", i,
               count[i]);
    }
    EXPECT(orders == 120, "%d orders", orders);
    free(path);
}

/* At every row, each source has had its share, as closely as dataloader.c says: to within half the sum of the
 * reciprocals of the first n - 1 Fibonacci numbers. And its sequences come once an epoch of its own. */
static double weights_bound(int n) {
    double sum = 0;
    for (int i = 1, f = 1, g = 1, next; i < n; i++, next = f + g, f = g, g = next) sum += 1.0 / f;
    return sum / 2;
}

TEST(loader_weights) {
    enum { MOST = 8, ROWS = 3000 };
    char *path[MOST];
    Source src[MOST];
    int size[MOST];
    const char *dir = test_dir();
    for (int i = 0; i < MOST; i++) {
        char name[32];
        snprintf(name, sizeof name, "s%d.bin", i);
        size[i] = 10 + 37 * i;
        path[i] = counting_shard(dir, name, (uint32_t)size[i] + 1, (uint32_t)i * 1000);
    }
    double worst[MOST + 1] = {0};
    for (uint64_t trial = 0; trial < 70; trial++) {
        Err e = {0};
        int n = 2 + (int)(trial % 7), seen[MOST][300] = {{0}}, had[MOST] = {0};
        double sum = 0;
        for (int i = 0; i < n; i++) {
            double u = rand_uniform(3, RAND_TEST, trial, (uint64_t)i), near_worst = i ? 1 + 0.1 * u : 0.001;
            src[i] = (Source){path[i], trial % 3 == 0 ? u + 0.01 : trial % 3 == 1 ? exp(6 * u) : near_worst};
            sum += src[i].weight;
        }
        Loader *l = loader_open(src, n, 1, true, 9, V, &e);
        EXPECT(l, "%s", e.msg);
        for (uint64_t q = 0; q < ROWS; q++) {
            int32_t token = row(l, q, 1), s = token / 1000;
            EXPECT(seen[s][token % 1000]++ == had[s] / size[s], "trial %d: source %d repeats", (int)trial, s);
            had[s]++;
            for (int i = 0; i < n; i++)
                worst[n] = fmax(worst[n], fabs(had[i] - (double)(q + 1) * src[i].weight / sum));
        }
        loader_close(l);
    }
    for (int n = 2; n <= MOST; n++) {
        EXPECT(worst[n] <= weights_bound(n) + 1e-9, "%d sources: off by %g rows", n, worst[n]);
        EXPECT(worst[n] > 0.9 * weights_bound(n) || n > 3, "%d sources: only %g rows", n, worst[n]);
    }
    for (int i = 0; i < MOST; i++) free(path[i]);
}

/* Deal after deal each source gives its quota, to the row and evenly spread, and goes through its epochs. */
TEST(loader_deals) {
    enum { N = 3, DEALS = 60 };
    Err e = {0};
    const char *dir = test_dir();
    const int size[N] = {10, 47, 84};
    char *path[N];
    Source src[N];
    int seen[N][100] = {{0}};
    uint64_t given[N] = {0}, from = 5;
    for (int i = 0; i < N; i++) {
        path[i] = counting_shard(dir, (const char *const[]){"a.bin", "b.bin", "c.bin"}[i],
                                 (uint32_t)size[i] + 1, (uint32_t)i * 1000);
        src[i] = (Source){path[i], 1};
    }
    Loader *l = loader_open(src, N, 1, true, 9, V, &e);
    EXPECT(l && loader_sequences_of(l, 2) == 84, "%s", e.msg);
    for (uint64_t k = 0; k < DEALS; k++) {
        uint64_t quota[N], had[N] = {0}, all = 0;
        for (int i = 0; i < N; i++)
            all += quota[i] = rand_below(1, RAND_TEST, k, (uint64_t)i, k % 7 ? 40 : 2);
        loader_deal(l, from, quota, given);
        loader_prefetch(l, from, (int)all + 3); /* no further than was dealt */
        for (uint64_t q = 0; q < all; q++) {
            const int32_t token = row(l, from + q, 1), s = token / 1000;
            EXPECT(seen[s][token % 1000]++ == (int)(given[s] + had[s]) / size[s], "source %d repeats", s);
            had[s]++;
            for (int i = 0; i < N; i++)
                EXPECT(fabs((double)had[i] - (double)((q + 1) * quota[i]) / (double)all) <= 1);
        }
        for (int i = 0; i < N; i++)
            EXPECT(had[i] == quota[i], "deal %d, source %d", (int)k, i), given[i] += had[i];
        from += all;
    }
    loader_close(l);
    for (int i = 0; i < N; i++) free(path[i]);
}

/* A row depends on its number alone: not on how many are asked for at once, so not on ranks or threads. */
TEST(loader_rows_are_a_pure_function) {
    Err e = {0};
    const char *dir = test_dir();
    enum { T = 5, N = 64 };
    int32_t all[2][N][T], part[2][N][T];
    char *a = counting_shard(dir, "a.bin", 200, 0), *b = counting_shard(dir, "b.bin", 90, 5000);
    const Source src[] = {{a, 2}, {b, 1}};
    Loader *l = loader_open(src, 2, T, true, 11, V, &e);
    EXPECT(l && loader_rows(l, 100, N, all[0][0], all[1][0], &e), "%s", e.msg);
    for (int ranks = 2; ranks <= 8; ranks *= 2) {
        memset(part, 0, sizeof part);
#pragma omp parallel for num_threads(4)
        for (int r = ranks - 1; r >= 0; r--) {
            Err mine = {0};
            int n = N / ranks;
            loader_rows(l, 100 + (uint64_t)(r * n), n, part[0][r * n], part[1][r * n], &mine);
        }
        EXPECT(!memcmp(all, part, sizeof all), "%d ranks", ranks);
    }
    loader_close(l);
    free(a), free(b);
}

static bool page_is_here(uint8_t *page) {
    unsigned char in = 1;
    return mincore(page, 1, &in) == 0 && in & 1;
}

/* Is it within two seconds? */
static bool page_comes(uint8_t *page) {
    double t0 = now_seconds();
    while (!page_is_here(page) && now_seconds() - t0 < 2) continue;
    return page_is_here(page);
}

/* What loader_prefetch() asked for is in memory soon after, and nothing else needs to be. */
TEST(loader_prefetch_reads_ahead) {
    Err e = {0};
    const char *dir = test_dir();
    enum { N = 4 << 20 };
    char *path = counting_shard(dir, "a.bin", N / 4, 0);
    int fd = open(path, O_RDONLY);
    uint8_t *p = mmap(NULL, N, PROT_READ, MAP_SHARED, fd, 0);
    uint8_t *there = p + N / 2; /* a page of row 512, which starts a header after the middle */
    uint8_t *other = p + N / 4 * 3;
    Loader *l = open_one(path, 1024, false, 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    bool cold = !page_is_here(there) && !page_is_here(other);
    bool heeded = cold && madvise(other, 1, MADV_WILLNEED) == 0 && page_comes(other);
    if (heeded) {
        loader_prefetch(l, 512, 1);
        EXPECT(page_comes(there));
    }
    loader_close(l);
    munmap(p, N);
    close(fd);
    free(path);
    EXPECT_OK(&e);
    if (!cold) SKIP("this file system keeps its pages");
    if (!heeded) SKIP("this system does not heed madvise");
}

/* ---- what must be refused -------------------------------------------------------------------------------- */

TEST(shard_refused) {
    static const struct {
        uint32_t words[8];
        int tokens_bytes;
        const char *why;
    } cases[] = {
        {{SHARD_MAGIC, 1, 4}, 8, NULL},
        {{SHARD_MAGIC, 1, 4, 2}, 8, NULL},
        {{SHARD_MAGIC, 1, 4, 4}, 16, NULL},
        {{SHARD_MAGIC_LLAMA3, 7, 4}, 16, NULL},
        {{SHARD_MAGIC, 1, INT32_MAX, 2, 0, 0, 4, 0}, 8, NULL}, /* words 6 and 7 go before word 2 */
        {{20240522, 1, 4}, 8, "not a token shard: its first number is 20240522"},
        {{SHARD_MAGIC, 2, 4}, 8, "shard version 2"},
        {{SHARD_MAGIC_LLAMA3, 1, 4}, 16, "shard version 1"},
        {{SHARD_MAGIC, 1, 4, 3}, 12, "3 bytes a token"},
        {{SHARD_MAGIC, 1, 0}, 0, "holds no tokens"},
        {{SHARD_MAGIC, 1, 4}, 7, "but 7 bytes follow"},
        {{SHARD_MAGIC, 1, 4}, 10, "but 10 bytes follow"},
        {{SHARD_MAGIC, 1, 5}, 8, "says 5 tokens of 2 bytes"},
        {{SHARD_MAGIC, 1, 0xffffffff}, 8, "says 4294967295 tokens"},
        {{SHARD_MAGIC, 1, 0, 4, 0, 0, 1, 0x40000000}, 4, "tokens of 4 bytes"}, /* n * 4 wraps to 4 */
        {{SHARD_MAGIC, 1, 4, 2, 1, 12345}, 8, "but its header says 00003039; the file is damaged"},
    };
    char *path = path_join(test_dir(), "s.bin");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Err e = {0};
        Str s = {0};
        Shard shard;
        header(&s, cases[i].words, 8);
        for (int k = 0; k < cases[i].tokens_bytes; k++) str_put(&s, "a", 1);
        EXPECT(file_write(path, s.p, s.n, &e));
        bool ok = shard_open(&shard, path, true, &e);
        if (ok)
            EXPECT(!cases[i].why && shard.n == 4, "case %zu", i);
        else if (cases[i].why)
            EXPECT_ERR(&e, cases[i].why);
        else
            EXPECT(ok, "case %zu: %s", i, e.msg);
        if (ok) shard_close(&shard);
        str_free(&s);
    }
    Err e = {0};
    Shard shard;
    EXPECT(file_write(path, "", 0, &e) && !shard_open(&shard, path, false, &e));
    EXPECT_ERR(&e, "is empty");
    EXPECT(file_write(path, "short", 5, &e) && !shard_open(&shard, path, false, &e));
    EXPECT_ERR(&e, "5 bytes are too few for a token shard");
    free(path);
}

TEST(loader_refused) {
    Err e = {0};
    const char *dir = test_dir();
    char *a = counting_shard(dir, "x_train.bin", 20, 0), *empty = path_join(dir, "empty"),
         *glob = path_join(dir, "n*.bin");
    EXPECT(dir_make(empty, &e));
    struct {
        Source src;
        int T;
        int32_t vocab;
        const char *why;
    } cases[] = {
        {{empty, 1}, 4, V, "no token shards (.bin files) in this folder"},
        {{glob, 1}, 4, V, "n*.bin: no such file"},
        {{"/nowhere/x.bin", 1}, 4, V, "no such file"},
        {{a, 0}, 4, V, "its weight is 0"},
        {{a, -1}, 4, V, "its weight is -1"},
        {{a, NAN}, 4, V, "its weight is"},
        {{a, 1}, 20, V, "the 21 tokens that a sequence of length 20 needs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT(!loader_open(&cases[i].src, 1, cases[i].T, true, 0, cases[i].vocab, &e), "case %zu", i);
        EXPECT_ERR(&e, cases[i].why);
    }
    Loader *l = loader_open(&(Source){a, 1}, 1, 4, false, 0, 12, &e);
    int32_t x[8], y[8];
    EXPECT(l && loader_rows(l, 0, 2, x, y, &e));
    EXPECT(!loader_rows(l, 2, 1, x, y, &e)); /* tokens 8 .. 11, and the last target is 12 */
    EXPECT_ERR(&e, "x_train.bin: token 12 is id 12, but the vocabulary has 12");
    loader_close(l);
    char *b = counting_shard(dir, "x_val.bin", 20, 0);
    EXPECT(!loader_open(&(Source){dir, 1}, 1, 4, true, 0, V, &e));
    EXPECT_ERR(&e, "holds validation shards beside others");
    EXPECT(file_write(a, "", 0, &e) && !loader_open(&(Source){a, 1}, 1, 4, true, 0, V, &e));
    EXPECT_ERR(&e, "x_train.bin: is empty");
    free(a), free(b), free(empty), free(glob);
}

/* ---- text to shards -------------------------------------------------------------------------------------- */

/* A tokenizer of runs: white space and words, each a token named by its hash. Like BPE, it may be cut before white
 * space. *(int *)ctx is the size of its vocabulary; the last id is the end of text. */
static bool encode_runs(const void *ctx, const char *text, size_t n, int32_t **ids, size_t *n_ids, Err *e) {
    (void)e;
    *ids = xmalloc((n + 1) * sizeof **ids);
    *n_ids = 0;
    for (size_t i = 0, start; i < n;) {
        uint32_t hash = 0;
        bool space = (unsigned char)text[start = i] <= ' ';
        for (; i < n && ((unsigned char)text[i] <= ' ') == space; i++)
            hash = hash * 31 + (unsigned char)text[i];
        (*ids)[(*n_ids)++] = (int32_t)(hash % (uint32_t)(*(const int *)ctx - 1));
        (void)start;
    }
    return true;
}

static void append_ids(Str *s, int vocab, const char *text) {
    Err e = {0};
    int32_t *ids, eot = vocab - 1;
    size_t n;
    encode_runs(&vocab, text, strlen(text), &ids, &n, &e);
    str_put(s, &eot, 4);
    str_put(s, ids, n * 4);
    free(ids);
}

/* The tokens of all shards of a path as int32, one after the other; counts the shards. */
static Str read_all(const char *path, int *n_shards) {
    Err e = {0};
    Str all = {0};
    char **names;
    EXPECT(shard_list(path, &names, n_shards, &e), "%s", e.msg);
    for (int i = 0; i < *n_shards; i++) {
        Shard s;
        if (!shard_open(&s, names[i], true, &e)) break;
        int32_t *ids = xmalloc(s.n * 4);
        shard_read(&s, 0, s.n, ids);
        str_put(&all, ids, s.n * 4);
        free(ids);
        shard_close(&s);
    }
    EXPECT_OK(&e);
    names_free(names, *n_shards);
    return all;
}

static void expect_same(const Str *a, const Str *b, const char *what) {
    EXPECT(a->n == b->n && !memcmp(a->p, b->p, a->n), "%s: %zu and %zu tokens", what, a->n / 4, b->n / 4);
}

/* Documents from two .jsonl files, one with "nats"; both widths, several shards, any number of threads. */
TEST(shard_write_documents) {
    Err e = {0};
    const char *dir = test_dir();
    char *in = path_join(dir, "in.jsonl"), *out = path_join(dir, "out"), *train = path_join(out, "t_*.bin"),
         *val = path_join(out, "val_*.bin");
    for (int vocab = 300; vocab <= 70000; vocab += 69700) {
        Str want = {0}, want_val = {0}, lines = {0};
        int bytes = 0, n_shards, n_val;
        for (int i = 0; i < 400; i++) {
            Str text = {0};
            for (int k = 0; k < i % 40; k++) str_printf(&text, "w%d ", i * k);
            str_printf(&lines, "{\"nats\": 0.25, \"body\": \"%s\"}\n", text.p ? text.p : "");
            append_ids((i + 1) % 10 == 5 ? &want_val : &want, vocab, text.p ? text.p : "");
            bytes += (int)text.n;
            str_free(&text);
        }
        EXPECT(file_write(in, lines.p, lines.n, &e));
        for (int threads = 1; threads <= 4; threads++) {
            const char *files[] = {in};
            ShardJob job = {files, 1, "body", "tok", out, "t", 1000, 0.1, threads, true};
            ShardInfo info, val_info;
            EXPECT(shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "%s", e.msg);
            Str got = read_all(train, &n_shards), got_val = read_all(val, &n_val);
            expect_same(&got, &want, "train"), expect_same(&got_val, &want_val, "val");
            EXPECT(n_shards == (int)((want.n / 4 + 999) / 1000), "%d shards", n_shards);
            EXPECT(shard_info(train, &info, &e) && shard_info(val, &val_info, &e), "%s", e.msg);
            EXPECT(info.documents == 360 && info.tokens == want.n / 4 && info.nats == 90);
            EXPECT(val_info.documents == 40 && val_info.nats == 10 &&
                   (int)(val_info.bytes + info.bytes) == bytes);
            str_free(&got), str_free(&got_val);
        }
        str_free(&want), str_free(&want_val), str_free(&lines);
    }
    free(in), free(out), free(train), free(val);
}

/* A .txt of several megabytes is encoded in pieces, as if whole, and its end becomes the validation set. */
TEST(shard_write_long_text) {
    Err e = {0};
    int vocab = 50000, n;
    const char *dir = test_dir();
    char *in = path_join(dir, "in.txt"), *out = path_join(dir, "out"), *train = path_join(out, "train_*.bin"),
         *val = path_join(out, "val_*.bin");
    Str text = {0}, want = {0}, want_val = {0};
    for (int i = 0; i < 300000; i++)
        str_printf(&text, "%d word%s\n%s", i, i % 3 ? "" : " ", i % 7 ? "" : "\n\n");
    EXPECT(file_write(in, text.p, text.n, &e));
    size_t cut = (size_t)((double)text.n * (1 - 0.1));
    while (text.p[cut] != '\n') cut++;
    cut++;
    append_ids(&want_val, vocab, text.p + cut);
    text.p[cut] = 0;
    append_ids(&want, vocab, text.p);
    const char *files[] = {in};
    ShardJob job = {files, 1, NULL, NULL, out, NULL, 100000, 0.1, 1, false};
    EXPECT(shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "%s", e.msg);
    Str got = read_all(train, &n), got_val = read_all(val, &n);
    expect_same(&got, &want, "train"), expect_same(&got_val, &want_val, "val");
    ShardInfo info;
    EXPECT(shard_info(train, &info, &e) && info.documents == 1 && info.bytes == cut && info.nats == 0);
    str_free(&got), str_free(&got_val), str_free(&text), str_free(&want), str_free(&want_val);
    free(in), free(out), free(train), free(val);
}

TEST(shard_write_refused) {
    Err e = {0};
    int vocab = 300;
    const char *dir = test_dir();
    char *bad = path_join(dir, "bad.jsonl"), *line = path_join(dir, "one.txt"),
         *good = path_join(dir, "g.jsonl"), *out = path_join(dir, "out"),
         *mark = path_join(out, "train.json.tmp"), *cut = path_join(dir, "cut.txt.gz");
    Str late = {0};
    for (int i = 0; i < 20; i++) str_puts(&late, "{\"text\":\"a b c d e f\"}\n");
    str_puts(&late, "{\"text\":\"a\"}\n{\"text\":3}\n");
    static const char gz[] = "\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x54\x48"; /* cut short */
    EXPECT(file_write(cut, gz, sizeof gz - 1, &e));
    EXPECT(file_write(bad, late.p, late.n, &e) && file_write(line, "one line", 8, &e));
    EXPECT(file_write(good, "{\"text\":\"a b\"}\n", 15, &e));
    const struct {
        const char *in;
        double val;
        uint64_t tokens;
        const char *prefix, *why;
    } cases[] = {
        {cut, 0, 100, NULL, "cut.txt.gz: the gzip data ends too early"},
        {bad, 0, 16, NULL, "bad.jsonl:22: no text in \"text\""},
        {line, 0.1, 100, NULL, "no line break where it should be cut"},
        {good, 0.1, 100, NULL, "too few documents for this validation fraction"},
        {good, 1, 100, NULL, "must be at least 0 and below 1"},
        {good, NAN, 100, NULL, "must be at least 0 and below 1"},
        {good, 0, 3, NULL, "at least 16 tokens"},
        {good, 0, 100, "a/b", "cannot be the first part of a file name"},
        {good, 0.1, 100, "val", "taken by the validation part"},
        {out, 0, 100, NULL, "its name must end in"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *files[] = {cases[i].in};
        ShardJob job = {files, 1, NULL, NULL, out, cases[i].prefix, cases[i].tokens, cases[i].val, 2, false};
        EXPECT(!shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "case %zu", i);
        EXPECT_ERR(&e, cases[i].why);
        char **left;
        int n = 0;
        if (path_is_dir(out)) EXPECT(dir_list(out, &left, &n, &e)), names_free(left, n);
        EXPECT(n == 0, "case %zu leaves %d files", i, n);
    }
    const char *files[] = {good};
    ShardJob job = {files, 1, NULL, NULL, out, NULL, 100, 0, 1, false};
    EXPECT(shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "%s", e.msg);
    EXPECT(!shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e));
    EXPECT_ERR(&e, "train.json: is there already");
    EXPECT(file_write(mark, "", 0, &e)); /* as a killed job leaves it */
    EXPECT(!loader_open(&(Source){out, 1}, 1, 1, true, 0, vocab, &e));
    EXPECT_ERR(&e, "its set is not finished");
    job.overwrite = true;
    EXPECT(shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "%s", e.msg);
    Loader *l = loader_open(&(Source){out, 1}, 1, 1, true, 0, vocab, &e);
    EXPECT(l && loader_tokens(l) == 4, "%s", e.msg);
    loader_close(l);
    free(bad), free(line), free(good), free(out), free(mark), free(cut);
    str_free(&late);
}

/* The info of a set is for the whole set; a part of it has none. */
TEST(shard_info_of_a_part) {
    Err e = {0};
    int vocab = 300;
    const char *dir = test_dir();
    char *in = path_join(dir, "in.txt"), *part = path_join(dir, "train_000000.bin"),
         *json = path_join(dir, "train.json");
    EXPECT(file_write(in, "a b c d e f g h i j k l m n o p", 31, &e));
    const char *files[] = {in};
    ShardJob job = {files, 1, NULL, NULL, dir, NULL, 16, 0, 1, false};
    ShardInfo info;
    EXPECT(shard_write(&job, encode_runs, &vocab, vocab - 1, vocab, &e), "%s", e.msg);
    EXPECT(shard_info(dir, &info, &e) && info.tokens == 32 && info.bytes == 31 && info.nats == 0);
    EXPECT(shard_info(part, &info, &e) && info.tokens == 0 && info.bytes == 0);
    EXPECT(file_write(json, "{\"tokens\":-1}", 13, &e) && !shard_info(dir, &info, &e));
    EXPECT_ERR(&e, "train.json: not the info file");
    EXPECT(dir_remove(json, &e) && shard_info(dir, &info, &e) && info.tokens == 0);
    free(in), free(part), free(json);
}

static bool decode_ids(const void *ctx, const int32_t *ids, size_t n, Str *out, Err *e) {
    (void)ctx, (void)e;
    for (size_t i = 0; i < n; i++) str_printf(out, "<%d>", ids[i]);
    return true;
}

TEST(shard_inspect_shows_documents) {
    Err e = {0};
    const char *dir = test_dir();
    Str a = {0}, b = {0}, out = {0};
    char *first = path_join(dir, "s_000000.bin"), *second = path_join(dir, "s_000001.bin");
    header(&a, (const uint32_t[]){SHARD_MAGIC, 1, 5, 4}, 4);
    header(&b, (const uint32_t[]){SHARD_MAGIC, 1, 3, 4}, 4);
    for (int i = 0; i < 5; i++) put32(&a, (const uint32_t[]){9, 1, 2, 9, 3}[i]);
    for (int i = 0; i < 3; i++) put32(&b, (const uint32_t[]){4, 9, 77}[i]);
    EXPECT(file_write(first, a.p, a.n, &e) && file_write(second, b.p, b.n, &e));
    EXPECT(shard_inspect(dir, true, 2, 100, decode_ids, NULL, &out, &e), "%s", e.msg);
    EXPECT(strstr(out.p, "2 shards, 8 tokens\n3 documents (they start with token 9), largest token 77\n"),
           "%s", out.p);
    EXPECT(strstr(out.p, "--- document 1, 3 tokens\n<1><2>\n--- document 2, 3 tokens\n<3><4>\n"), "%s",
           out.p);
    EXPECT(!strstr(out.p, "document 3"));
    EXPECT(!shard_inspect(dir, true, 0, 77, NULL, NULL, &out, &e));
    EXPECT_ERR(&e, "s_000001.bin: holds id 77, but the vocabulary has 77");
    str_free(&a), str_free(&b), str_free(&out);
    free(first), free(second);
}
