/* Samplers against small cases done by hand, text out of a stream of bytes, decoding with a tiny model. */
#include "sample.h"
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- samplers ------------------------------------------------------------------------------------------ */

/* Which of n <= 32 tokens can be drawn at all, as a mask: 500 draws reach anything over one in 30. */
static uint32_t support(const float *logits, int n, const SampleParams *p, const int32_t *seen,
                        size_t n_seen) {
    uint32_t mask = 0;
    for (uint64_t pos = 0; pos < 500; pos++) {
        float copy[32];
        memcpy(copy, logits, (size_t)n * sizeof *copy);
        int32_t id = sample_token(copy, n, p, 7, pos, seen, n_seen);
        if (id < 0 || id >= n) return 0;
        mask |= 1u << id;
    }
    return mask;
}

/* Probabilities 1/16, 1/2, 1/16, 1/4, 1/8: the logits are their logarithms and something else. */
static const float halves[] = {3 - 2.7725887f, 3 - 0.6931472f, 3 - 2.7725887f, 3 - 1.3862944f,
                               3 - 2.0794415f};

TEST(sample_cuts) {
    static const struct {
        int top_k;
        double top_p, min_p;
        uint32_t kept;
    } cases[] = {
        {0, 1, 0, 0x1f},    {1, 1, 0, 0x02},     {2, 1, 0, 0x0a},    {3, 1, 0, 0x1a},
        {4, 1, 0, 0x1b}, /* of two equal ones the lower id */
        {5, 1, 0, 0x1f},    {99, 1, 0, 0x1f},    {0, 0.49, 0, 0x02}, {0, 0.51, 0, 0x0a},
        {0, 0.74, 0, 0x0a}, {0, 0.76, 0, 0x1a},  {0, 0.93, 0, 0x1b}, {0, 0.94, 0, 0x1f},
        {0, 1e-9, 0, 0x02},                     /* never none */
        {0, 1, 0.51, 0x02}, {0, 1, 0.49, 0x0a}, /* relative to the largest */
        {0, 1, 0.26, 0x0a}, {0, 1, 0.24, 0x1a},  {0, 1, 0.13, 0x1a}, {0, 1, 0.12, 0x1f},
        {0, 1, 1, 0x02},    {3, 0.56, 0, 0x02}, /* after top-k 3 the first has 4/7 = 0.571 of what is left */
        {3, 0.58, 0, 0x0a}, {4, 0.9, 0.3, 0x0a},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SampleParams p;
        sample_defaults(&p);
        p.temperature = 1, p.top_k = cases[i].top_k, p.top_p = cases[i].top_p, p.min_p = cases[i].min_p;
        uint32_t got = support(halves, 5, &p, NULL, 0);
        EXPECT(got == cases[i].kept, "case %zu: %x, not %x", i, got, cases[i].kept);
    }
}

TEST(sample_equal_logits_keep_the_lowest_ids) {
    const float flat[] = {-2, -2, -2, -2, -0.0f, 0.0f, -2, -2};
    SampleParams p;
    sample_defaults(&p);
    p.temperature = 1, p.top_k = 1;
    EXPECT(support(flat, 8, &p, NULL, 0) == 0x10); /* -0 is no less than 0 */
    p.top_k = 2;
    EXPECT(support(flat, 8, &p, NULL, 0) == 0x30);
    p.top_k = 4;
    EXPECT(support(flat, 8, &p, NULL, 0) == 0x33);
    p.top_k = 0, p.top_p = 0.5;
    EXPECT(support(flat, 4, &p, NULL, 0) == 0x03); /* four quarters: exactly two are needed */
    p.top_p = 0.51;
    EXPECT(support(flat, 4, &p, NULL, 0) == 0x07);
}

TEST(sample_greedy_and_temperature) {
    SampleParams p;
    sample_defaults(&p);
    p.temperature = 0;
    EXPECT(support(halves, 5, &p, NULL, 0) == 0x02);
    const float tie[] = {1, 5, 5, 2};
    EXPECT(support(tie, 4, &p, NULL, 0) == 0x02);
    p.temperature = 1e-300; /* greedy, but for ties */
    EXPECT(support(tie, 4, &p, NULL, 0) == 0x06);
    /* Temperature comes before top-p: at 1/2 the probabilities are squared, 1/2 becomes 64/86 = 0.744. */
    p.temperature = 0.5, p.top_p = 0.74;
    EXPECT(support(halves, 5, &p, NULL, 0) == 0x02);
    p.top_p = 0.75;
    EXPECT(support(halves, 5, &p, NULL, 0) == 0x0a);
}

TEST(sample_repetition_penalty) {
    const float logits[] = {2, 1.5f, -1, -1.5f};
    const int32_t seen[] = {0, 0, 0, 2, 0};
    SampleParams p;
    sample_defaults(&p);
    p.temperature = 0, p.repetition_penalty = 1.3; /* once a token, not once an occurrence: 2 -> 1.538 */
    EXPECT(support(logits, 4, &p, seen, 5) == 0x01);
    p.repetition_penalty = 1.4; /* 1.43 */
    EXPECT(support(logits, 4, &p, seen, 5) == 0x02);
    p.temperature = 1, p.top_k = 3,
    p.repetition_penalty = 1.6; /* -1 -> -1.6: negative logits move down too */
    EXPECT(support(logits, 4, &p, seen, 5) == 0x0b);
    p.repetition_penalty = 1.4;
    EXPECT(support(logits, 4, &p, seen, 5) == 0x07);
    const int32_t foreign[] = {-1, 4, 1 << 30};
    p.temperature = 0, p.repetition_penalty = 9;
    EXPECT(support(logits, 4, &p, foreign, 3) == 0x01);
}

/* Pearson's test on 20,000 draws: with 5 - 1 degrees of freedom 23.5 is passed once in 10,000 seeds. */
TEST(sample_distribution) {
    const double want[] = {1 / 16.0, 1 / 2.0, 1 / 16.0, 1 / 4.0, 1 / 8.0};
    enum { N = 20000 };
    for (uint64_t seed = 1; seed <= 3; seed++) {
        SampleParams p;
        sample_defaults(&p);
        p.temperature = 1, p.seed = seed;
        int count[5] = {0};
        for (uint64_t pos = 0; pos < N; pos++) {
            float copy[5];
            memcpy(copy, halves, sizeof copy);
            count[sample_token(copy, 5, &p, seed, pos, NULL, 0)]++;
        }
        double chi = 0;
        for (int i = 0; i < 5; i++) chi += pow(count[i] - N * want[i], 2) / (N * want[i]);
        EXPECT(chi < 23.5, "seed %d: chi-square %g", (int)seed, chi);
    }
}

TEST(sample_depends_on_seed_sequence_and_position) {
    SampleParams p;
    sample_defaults(&p);
    p.temperature = 1;
    float flat[1000];
    int32_t got[5];
    for (int i = 0; i < 5; i++) {
        memset(flat, 0, sizeof flat);
        p.seed = i == 2 ? 2 : 1;
        got[i] = sample_token(flat, 1000, &p, i == 3, i == 4, NULL, 0);
    }
    EXPECT(got[0] == got[1]);
    EXPECT(got[0] != got[2] && got[0] != got[3] && got[0] != got[4]);
}

/* The same sets as a sort would keep, on a vocabulary of GPT-2's size with many equal values. */
static const float *sorting;
static int by_logit_then_id(const void *a, const void *b) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    return sorting[i] != sorting[j] ? (sorting[i] < sorting[j] ? 1 : -1) : i < j ? -1 : 1;
}

/* The same sets, and weights, as a sort would keep: 50,257 normal logits, many of them equal. */
TEST(sample_cuts_match_a_sort) {
    enum { V = 50257 };
    float *logits = xmalloc(V * sizeof *logits), *left = xmalloc(V * sizeof *left);
    int32_t *order = xmalloc(V * sizeof *order), *id = xmalloc(V * sizeof *id);
    for (int i = 0; i < V; i++) {
        double u = rand_uniform(3, RAND_TEST, 0, (uint64_t)i), v = rand_uniform(3, RAND_TEST, 1, (uint64_t)i);
        logits[i] = (float)round(40 * sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v)) / 16;
        order[i] = i;
    }
    sorting = logits;
    qsort(order, V, sizeof *order, by_logit_then_id);
    static const int keep[] = {1, 2, 40, 255, 257, 1000, 50256, 1, 7, 300, 20000};
    for (int test = 0; test < 11; test++) {
        SampleParams p;
        sample_defaults(&p);
        p.temperature = 1;
        if (test < 7) p.top_k = keep[test];
        double below = 0, all = 0;
        for (int i = 0; i < V; i++) {
            double w = exp((double)logits[order[i]] - logits[order[0]]);
            below += i < keep[test] - 1 ? w : i == keep[test] - 1 ? w / 2 : 0;
            all += w;
        }
        if (test >= 7) p.top_p = below / all; /* in the middle of what the last one kept adds */
        memcpy(left, logits, V * sizeof *left);
        int64_t n = sample_candidates(left, id, V, &p);
        EXPECT(n == keep[test], "kept %d, not %d", (int)n, keep[test]);
        bool rising = true, same = true;
        for (int64_t i = 0; i < n; i++) {
            double w = exp((double)logits[id[i]] - logits[order[0]]);
            same &= fabs(left[i] - w) <= 2e-7 * w;
            rising &= i == 0 || id[i] > id[i - 1];
        }
        sorting = logits;
        qsort(id, (size_t)n, sizeof *id, by_logit_then_id);
        EXPECT(rising && same && !memcmp(id, order, (size_t)n * sizeof *id), "test %d", test);
    }
    free(logits), free(left), free(order), free(id);
}

/* A top-p so near to 1 that only rounding could leave anything out. */
TEST(sample_nearly_everything) {
    float x[2000];
    int32_t id[2000];
    SampleParams p;
    sample_defaults(&p);
    p.temperature = 1, p.top_p = nextafter(1, 0);
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < 2000; i++) x[i] = 27 * (float)rand_uniform(round, RAND_TEST, 0, i);
        int64_t n = sample_candidates(x, id, 2000, &p);
        EXPECT(n == 2000, "%d", (int)n);
    }
}

TEST(sample_damaged_logits) {
    SampleParams p;
    sample_defaults(&p);
    float all[] = {NAN, NAN, -INFINITY};
    EXPECT(sample_token(all, 3, &p, 0, 0, NULL, 0) == -1);
    const float some[] = {NAN, INFINITY, 1, -INFINITY, NAN};
    for (int cut = 0; cut < 4; cut++) {
        sample_defaults(&p);
        p.top_k = cut == 1, p.top_p = cut == 2 ? 0.5 : 1, p.min_p = cut == 3 ? 0.5 : 0;
        EXPECT(support(some, 5, &p, NULL, 0) == 0x04, "cut %d", cut);
    }
}

/* ---- text ---------------------------------------------------------------------------------------------- */

typedef struct Heard {
    Str text[8];
    int pieces[8], ends[8];
    bool broken;
} Heard;

static void hear(void *ctx, int i, const char *text, size_t n, bool last) {
    Heard *h = ctx;
    str_put(&h->text[i], text, n);
    h->pieces[i] += n > 0;
    h->ends[i] += last;
    if (!utf8_valid(text, n)) h->broken = true;
}

static void heard_free(Heard *h) {
    for (int i = 0; i < 8; i++) str_free(&h->text[i]);
    *h = (Heard){0};
}

/* All of `in`, k bytes at a time; "text" or "text|" when a stop string ended it. */
static Heard stream(const char *in, size_t n, size_t k, const char *const *stop, int n_stop, Str *out) {
    Heard h = {0};
    SampleText s = {.stop = stop, .n_stop = n_stop, .sink = hear, .ctx = &h};
    bool stopped = false;
    for (size_t at = 0; at < n && !stopped; at += k)
        stopped = sample_text_put(&s, in + at, n - at < k ? n - at : k);
    sample_text_end(&s);
    EXPECT(h.ends[0] == 1 && !h.broken);
    str_put(out, h.text[0].p, h.text[0].n);
    str_puts(out, stopped ? "|" : "");
    return h;
}

TEST(sample_text_whole_characters) {
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80!", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80!"},
        {"a\xc3", "a\xef\xbf\xbd"},         /* cut at the end */
        {"a\xf0\x9f\x98", "a\xef\xbf\xbd"}, /* one piece of a character: one mark */
        {"\xf0\x9f\x98z", "\xef\xbf\xbdz"},
        {"\xe2\x82\xe2\x82\xac", "\xef\xbf\xbd\xe2\x82\xac"},
        {"\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xff"
         "a",
         "\xef\xbf\xbd"
         "a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 1; k <= 5; k++) {
            Str got = {0};
            Heard h = stream(cases[i].in, strlen(cases[i].in), k, NULL, 0, &got);
            EXPECT(!strcmp(got.p, cases[i].out), "case %zu by %zu: \"%s\"", i, k, got.p);
            heard_free(&h), str_free(&got);
        }
}

TEST(sample_text_flows) { /* nothing waits that need not */
    Heard h = {0};
    const char *stop[] = {"\n\nQ:"};
    SampleText s = {.stop = stop, .n_stop = 1, .sink = hear, .ctx = &h};
    EXPECT(!sample_text_put(&s, "one\n", 4) && h.text[0].n == 3);
    EXPECT(!sample_text_put(&s, "\nQ", 2) && h.text[0].n == 3);
    EXPECT(!sample_text_put(&s, ".\xe2\x82", 3) && h.text[0].n == 7);
    EXPECT(!sample_text_put(&s, "\xac", 1) && h.text[0].n == 10);
    EXPECT(!strcmp(h.text[0].p, "one\n\nQ.\xe2\x82\xac"));
    sample_text_end(&s);
    heard_free(&h);
}

TEST(sample_text_stop_strings) {
    static const struct {
        const char *in, *stop[3], *out;
    } cases[] = {
        {"one two three", {"two"}, "one |"},
        {"one two three", {"tow"}, "one two three"},
        {"aaab", {"aab"}, "a|"},
        {"ababac", {"abac"}, "ab|"},
        {"stop", {"stop"}, "|"},
        {"sto", {"stop"}, "sto"},         /* waited for in vain */
        {"xabcd", {"abcd", "bc"}, "xa|"}, /* the one that is complete first ends it */
        {"xabc", {"c", "abc"}, "x|"},     /* both at once: the longer reach */
        {"\xe2\x82\xac\xc3\xa9!", {"\xc3\xa9"}, "\xe2\x82\xac|"},
        {"\xe2\x82\xc3\xa9!", {"\xc3\xa9"}, "\xef\xbf\xbd|"},
        {"a\n\n", {"\n"}, "a|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t k = 1; k <= 2; k++) {
            int n_stop = 0;
            while (n_stop < 3 && cases[i].stop[n_stop]) n_stop++;
            Str got = {0};
            Heard h = stream(cases[i].in, strlen(cases[i].in), k, cases[i].stop, n_stop, &got);
            EXPECT(!strcmp(got.p, cases[i].out), "case %zu by %zu: \"%s\"", i, k, got.p);
            heard_free(&h), str_free(&got);
        }
}

/* ---- decoding with a tiny model ------------------------------------------------------------------------ */

typedef struct Tiny {
    Tokenizer *t;
    Gpt *m;
    Ids prompt;
} Tiny;

/* A model with random weights, large enough that its choices are not close calls. */
static Tiny tiny(int rows, Dtype compute) {
    Err e = {0};
    Tiny y = {0};
    Config c;
    char *path = path_join(test_dir(), "text.txt");
    const char *text =
        "the cat sat on the mat, the dog on the log, and the caf\xc3\xa9 was \xe2\x82\xac 3 \xf0\x9f\x98\x80";
    EXPECT(file_write(path, text, strlen(text), &e));
    y.t = tokenizer_train((const char *const *)&path, 1, NULL, 270, 1, &e);
    EXPECT_OK(&e);
    config_defaults(&c);
    c.model.vocab_size = tokenizer_size(y.t);
    c.model.n_layer = 2, c.model.n_embd = 48, c.model.n_head = 3, c.model.n_positions = 64;
    GptOptions o = {.ops = &cpu_ops, .compute = compute, .B = 1};
    o.T = rows;
    EXPECT(cpu_ops.start(1, &e) && (y.m = gpt_create(&c.model, &o, &e)));
    EXPECT_OK(&e);
    gpt_init(y.m, 11);
    int n;
    const Param *p = gpt_table(y.m, &n);
    for (int i = 0; i < n; i++)
        for (int64_t j = 0; j < p[i].count && p[i].init == INIT_NORMAL; j++)
            gpt_weights(y.m)[p[i].at + j] *= 12;
    gpt_weights_changed(y.m, false);
    EXPECT(tokenizer_encode(y.t, text, strlen(text), SPECIAL_TEXT, &y.prompt, &e) && y.prompt.n > 20);
    free(path);
    return y;
}

static void tiny_free(Tiny *y) {
    gpt_free(y->m);
    tokenizer_free(y->t);
    ids_free(&y->prompt);
}

/* n samples after the first n_prompt tokens of the prompt, as heard. */
static Heard samples(const Tiny *y, size_t n_prompt, int n, const SampleParams *p, SampleStats *stats) {
    Err e = {0};
    Heard h = {0};
    SampleStats other;
    EXPECT(sample_run(y->m, y->t, y->prompt.id, n_prompt, n, p, hear, &h, stats ? stats : &other, &e));
    EXPECT_OK(&e);
    EXPECT(!h.broken);
    for (int i = 0; i < n; i++) EXPECT(h.ends[i] == 1);
    return h;
}

static bool same_text(const Heard *a, const Heard *b, int n) {
    for (int i = 0; i < n; i++)
        if (a->text[i].n != b->text[i].n || memcmp(a->text[i].p, b->text[i].p, a->text[i].n)) return false;
    return true;
}

/* fp32: in bf16 the one-query attention over the cache rounds elsewhere than the tiles of a whole pass do. */
TEST(sample_greedy_with_and_without_cache) {
    Tiny y = tiny(64, DT_F32);
    for (size_t n_prompt = 1; n_prompt <= 17; n_prompt += 8) {
        SampleParams p;
        SampleMemory k = {0};
        sample_defaults(&p);
        p.temperature = 0, p.max_tokens = 0, p.memory = &k, p.ignore_eot = true;
        Heard with = samples(&y, n_prompt, 1, &p, NULL);
        /* The training pass, which knows no cache, would have chosen the same tokens. */
        EXPECT(k.ids.n == 64 && k.fed == 63);
        int32_t best[64];
        float loss[64];
        gpt_losses(y.m, &(Batch){.tokens = k.ids.id, .targets = k.ids.id, .B = 1, .T = 63}, loss, best);
        for (size_t i = n_prompt - 1; i < 63; i++) EXPECT(best[i] == k.ids.id[i + 1], "position %d", (int)i);
        p.memory = NULL, p.use_cache = false;
        Heard without = samples(&y, n_prompt, 1, &p, NULL);
        EXPECT(same_text(&with, &without, 1));
        heard_free(&with), heard_free(&without), sample_memory_free(&k);
    }
    tiny_free(&y);
}

/* bf16: what greedy decoding over the cache chose is, to the pass without one, as likely as its own choice,
 * give or take the rounding of a few logits. */
TEST(sample_greedy_in_bf16) {
    Tiny y = tiny(64, DT_BF16);
    SampleParams p;
    SampleMemory k = {0};
    sample_defaults(&p);
    p.temperature = 0, p.max_tokens = 0, p.memory = &k, p.ignore_eot = true;
    Heard h = samples(&y, 9, 1, &p, NULL);
    int32_t best[64];
    float chosen[64], first[64];
    gpt_losses(y.m, &(Batch){.tokens = k.ids.id, .targets = k.ids.id + 1, .B = 1, .T = 63}, chosen, best);
    gpt_losses(y.m, &(Batch){.tokens = k.ids.id, .targets = best, .B = 1, .T = 63}, first, NULL);
    int same = 0;
    for (int i = 8; i < 63; i++) {
        same += best[i] == k.ids.id[i + 1];
        EXPECT(chosen[i] - first[i] < 0.3f, "position %d: %g nats less likely", i, chosen[i] - first[i]);
    }
    EXPECT(same > 45, "%d of 55", same);
    heard_free(&h), sample_memory_free(&k);
    tiny_free(&y);
}

TEST(sample_batch_and_chunks) {
    Tiny y = tiny(64, DT_F32), small = tiny(3, DT_F32);
    SampleParams p;
    SampleStats stats;
    sample_defaults(&p);
    p.temperature = 1, p.max_tokens = 30, p.seed = 5;
    Heard all = samples(&y, 20, 8, &p, &stats);
    EXPECT(stats.prompt_tokens == 20 && stats.new_tokens > 8 && stats.new_tokens <= 240);
    for (int i = 1; i < 8; i++) EXPECT(strcmp(all.text[0].p, all.text[i].p) != 0);
    for (int n = 1; n < 8; n += 3) { /* alone, and with others */
        Heard some = samples(&y, 20, n, &p, NULL);
        EXPECT(same_text(&some, &all, n), "%d samples", n);
        heard_free(&some);
    }
    Heard chunks = samples(&small, 20, 8, &p, NULL); /* three tokens at a time, prompt and batch */
    EXPECT(same_text(&chunks, &all, 8));
    p.seed = 6;
    Heard other = samples(&y, 20, 1, &p, NULL);
    EXPECT(!same_text(&other, &all, 1));
    heard_free(&all), heard_free(&chunks), heard_free(&other);
    tiny_free(&y), tiny_free(&small);
}

TEST(sample_threads) {
    Tiny y = tiny(64, DT_F32);
    SampleParams p;
    Err e = {0};
    Heard h[3];
    sample_defaults(&p);
    p.max_tokens = 6;
    for (int i = 0; i < 3; i++) {
        EXPECT(cpu_ops.start(i + 1, &e));
        h[i] = samples(&y, 20, 2, &p, NULL);
        EXPECT(same_text(&h[0], &h[i], 2), "%d threads", i + 1);
    }
    for (int i = 0; i < 3; i++) heard_free(&h[i]);
    EXPECT(cpu_ops.start(1, &e));
    tiny_free(&y);
}

TEST(sample_stops) {
    Tiny y = tiny(64, DT_F32);
    SampleParams p;
    SampleStats stats;
    sample_defaults(&p);
    p.temperature = 0, p.max_tokens = 40, p.ignore_eot = true;
    Heard whole = samples(&y, 7, 1, &p, &stats);
    EXPECT(stats.new_tokens == 40);
    /* Any three bytes of plain text in it, wherever the tokens' borders are. */
    int tried = 0;
    for (size_t at = 1; at + 3 < whole.text[0].n; at++) {
        char three[4] = {whole.text[0].p[at], whole.text[0].p[at + 1], whole.text[0].p[at + 2]};
        const char *stop = three;
        if (!utf8_valid(three, 3) || !strcmp(three, "\xef\xbf\xbd") ||
            strstr(whole.text[0].p, three) != whole.text[0].p + at)
            continue;
        p.stop = &stop, p.n_stop = 1;
        Heard cut = samples(&y, 7, 1, &p, &stats);
        EXPECT(cut.text[0].n == at && !memcmp(cut.text[0].p, whole.text[0].p, at), "stop at %d", (int)at);
        EXPECT(stats.new_tokens < 40 || at > whole.text[0].n - 8);
        heard_free(&cut);
        tried++;
    }
    EXPECT(tried > 3, "only %d", tried);
    heard_free(&whole);
    tiny_free(&y);
}

TEST(sample_ends) {
    Tiny y = tiny(64, DT_F32);
    int32_t eot = tokenizer_eot(y.t);
    int ended = 0;
    for (uint64_t seed = 0; seed < 16; seed++) {
        SampleParams p;
        SampleMemory k = {0};
        sample_defaults(&p);
        p.temperature = 3, p.max_tokens = 0, p.seed = seed, p.memory = &k;
        Heard h = samples(&y, 5, 1, &p, NULL);
        for (size_t i = 5; i + 1 < k.ids.n; i++) EXPECT(k.ids.id[i] != eot);
        bool by_eot = k.ids.id[k.ids.n - 1] == eot;
        EXPECT(by_eot || k.ids.n == 64);
        EXPECT(!by_eot || !strstr(h.text[0].p ? h.text[0].p : "", "endoftext"));
        ended += by_eot && k.ids.n < 64;
        heard_free(&h), sample_memory_free(&k);
        if (!by_eot) continue;
        p.ignore_eot = true, p.memory = &k;
        h = samples(&y, 5, 1, &p, NULL);
        EXPECT(k.ids.n == 64);
        heard_free(&h), sample_memory_free(&k);
    }
    EXPECT(ended > 0 && ended < 16, "%d", ended);
    tiny_free(&y);
}

TEST(sample_refuses) {
    Tiny y = tiny(64, DT_F32);
    SampleParams p;
    SampleStats stats;
    Heard h = {0};
    Err e = {0};
    int32_t ids[64] = {0};
    sample_defaults(&p);
    EXPECT(!sample_run(y.m, y.t, ids, 0, 1, &p, hear, &h, &stats, &e));
    EXPECT_ERR(&e, "the prompt is empty");
    EXPECT(!sample_run(y.m, y.t, ids, 64, 1, &p, hear, &h, &stats, &e));
    EXPECT_ERR(&e, "the prompt has 64 tokens; this model's context holds 64");
    ids[3] = 270;
    EXPECT(!sample_run(y.m, y.t, ids, 5, 1, &p, hear, &h, &stats, &e));
    EXPECT_ERR(&e, "token 270 is beyond");
    ids[3] = 0;
    gpt_weights(y.m)[0] = NAN;
    gpt_weights_changed(y.m, false);
    EXPECT(!sample_run(y.m, y.t, ids, 5, 1, &p, hear, &h, &stats, &e));
    EXPECT_ERR(&e, "no finite number");
    const char *empty = "", *latin = "caf\xe9";
    const SampleParams wrong[] = {
        {.temperature = -1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = NAN, .top_p = 1, .repetition_penalty = 1},
        {.top_k = -1, .top_p = 1, .repetition_penalty = 1},
        {.top_p = 0, .repetition_penalty = 1},
        {.top_p = 1.5, .repetition_penalty = 1},
        {.top_p = 1, .min_p = 2, .repetition_penalty = 1},
        {.top_p = 1, .repetition_penalty = 0},
        {.top_p = 1, .repetition_penalty = 1, .max_tokens = -1},
        {.top_p = 1, .repetition_penalty = 1, .stop = &empty, .n_stop = 1},
        {.top_p = 1, .repetition_penalty = 1, .stop = &latin, .n_stop = 1},
    };
    static const char *const why[] = {
        "--temperature", "--temperature",        "--top-k",      "--top-p", "--top-p",
        "--min-p",       "--repetition-penalty", "--max-tokens", "empty",   "UTF-8"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        EXPECT(!sample_check(&wrong[i], &e) && e.code == EXIT_USAGE);
        EXPECT_ERR(&e, why[i]);
    }
    heard_free(&h);
    tiny_free(&y);
}

/* ---- dialogues ----------------------------------------------------------------------------------------- */

TEST(dialogue_drops_whole_turns) {
    Dialogue d = {0};
    int32_t ids[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    EXPECT(dialogue_add(&d, ids, 4, 10) && d.n == 1 && d.ids.n == 4);
    EXPECT(dialogue_add(&d, ids + 4, 3, 10) && d.n == 2 && d.ids.n == 7);
    EXPECT(dialogue_add(&d, ids + 7, 3, 10) && d.n == 3 && d.ids.n == 10); /* just fits */
    EXPECT(!memcmp(d.ids.id, ids, sizeof ids));
    EXPECT(dialogue_add(&d, ids, 1, 10) && d.n == 3 && d.ids.n == 7); /* one too many: four go */
    EXPECT(d.ids.id[0] == 4 && d.turn[0] == 0 && d.turn[1] == 3 && d.turn[2] == 6);
    EXPECT(!dialogue_add(&d, ids, 10, 9) && d.n == 3 && d.ids.n == 7);
    EXPECT(dialogue_add(&d, ids, 9, 9) && d.n == 1 && d.ids.n == 9 && d.turn[0] == 0);
    EXPECT(!memcmp(d.ids.id, ids, 9 * sizeof *ids));
    dialogue_free(&d);
}

TEST(dialogue_remembers) {
    Tiny y = tiny(64, DT_F32);
    Dialogue d = {0};
    SampleParams p;
    SampleStats stats;
    Err e = {0};
    sample_defaults(&p);
    p.max_tokens = 8;
    size_t before = 0;
    bool dropped = false;
    for (int turn = 0; turn < 6; turn++) {
        Heard h = {0}, fresh = {0};
        EXPECT(dialogue_turn(&d, y.m, y.t, "the cat sat", &p, hear, &h, &stats, &e));
        EXPECT_OK(&e);
        EXPECT(d.ids.n <= 64 && h.ends[0] == 1);
        /* Only what is new was prefilled, and the answer is the one to the dialogue read afresh. */
        size_t answered = (size_t)stats.new_tokens, n_prompt = d.ids.n - answered;
        if (n_prompt > before)
            EXPECT(stats.prompt_tokens <= (int64_t)(n_prompt - before) + 1);
        else
            dropped = true, EXPECT(stats.prompt_tokens > (int64_t)n_prompt / 2);
        EXPECT(sample_run(y.m, y.t, d.ids.id, n_prompt, 1, &p, hear, &fresh, &stats, &e));
        EXPECT(same_text(&h, &fresh, 1), "turn %d", turn);
        before = d.ids.n;
        heard_free(&h), heard_free(&fresh);
    }
    EXPECT(dropped && d.n < 6);
    int turns = d.n;
    char line[400];
    memset(line, 'x', sizeof line - 1), line[sizeof line - 1] = 0;
    EXPECT(!dialogue_turn(&d, y.m, y.t, line, &p, hear, NULL, &stats, &e) && d.n == turns);
    EXPECT_ERR(&e, "this line has");
    dialogue_free(&d);
    tiny_free(&y);
}
