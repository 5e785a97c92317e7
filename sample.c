/* sample.c - floor 4: see sample.h. */
#include "sample.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- one token out of V logits ------------------------------------------------------------------------- */

void sample_defaults(SampleParams *p) {
    *p = (SampleParams){.temperature = 0.8,
                        .top_p = 1,
                        .repetition_penalty = 1,
                        .seed = 1,
                        .max_tokens = 200,
                        .use_cache = true};
}

bool sample_check(const SampleParams *p, Err *e) {
    if (!(p->temperature >= 0 && p->temperature <= 1e6))
        return err_usage(e, "--temperature is %g; it must be 0 (greedy) or more", p->temperature);
    if (p->top_k < 0) return err_usage(e, "--top-k is %d; it must be 0 (all) or more", p->top_k);
    if (!(p->top_p > 0 && p->top_p <= 1))
        return err_usage(e, "--top-p is %g; it must be over 0 and at most 1 (off)", p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return err_usage(e, "--min-p is %g; it must be between 0 (off) and 1", p->min_p);
    if (!(p->repetition_penalty > 0 && p->repetition_penalty <= 1e6))
        return err_usage(e, "--repetition-penalty is %g; it must be over 0 (1: off)", p->repetition_penalty);
    if (p->max_tokens < 0)
        return err_usage(e, "--max-tokens is %d; it must be 0 (to the end of the context) or more",
                         p->max_tokens);
    for (int i = 0; i < p->n_stop; i++)
        if (!*p->stop[i] || !utf8_valid(p->stop[i], strlen(p->stop[i])))
            return err_usage(e, "--stop %d is %s", i + 1, *p->stop[i] ? "not valid UTF-8" : "empty");
    return true;
}

/* Each token seen, once: its logit moves away from being chosen (Keskar et al. 2019, section 4.1). */
static void penalize(float *logits, int64_t V, double penalty, const int32_t *seen, size_t n_seen) {
    uint8_t *done = xcalloc((size_t)V / 8 + 1, 1);
    for (size_t i = 0; i < n_seen; i++) {
        int32_t id = seen[i];
        if (id < 0 || id >= V || (done[id / 8] >> id % 8 & 1)) continue;
        done[id / 8] |= (uint8_t)(1 << id % 8);
        logits[id] = (float)(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty);
    }
    free(done);
}

/* What can still be drawn: n values with their ids, ids rising. */
typedef struct Candidates {
    float *x;
    int32_t *id;
    int64_t n;
} Candidates;

enum { LANES = 16 }; /* fixed inner loops become vector code, with one order of sums on every machine */

/* The largest finite value, -INFINITY if there is none. */
static float largest(const float *x, int64_t n) {
    float max = -INFINITY;
#pragma omp simd reduction(max : max)
    for (int64_t i = 0; i < n; i++) {
        float v = x[i] <= FLT_MAX ? x[i] : -INFINITY;
        max = v > max ? v : max;
    }
    return max;
}

static double sum(const float *x, int64_t n) {
    double lane[LANES] = {0}, total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += x[i + j];
    for (; i < n; i++) total += x[i];
    for (int j = 0; j < LANES; j++) total += lane[j];
    return total;
}

/* e^x for x <= 0, 0 below -87: 2^k e^r with |r| <= ln 2 / 2 and Taylor's series. (expf is a call, and calls
 * are not made vectors.) */
static inline float exp_negative(float x) {
    float y = x > -87 ? x : -87, k = rintf(y * 1.44269504f);
    float r = y - k * 0.693359375f + k * 2.12194440e-4f; /* ln 2 in two parts */
    float p = 1.f / 720 + r * (1.f / 5040);
    p = 1.f / 6 + r * (1.f / 24 + r * (1.f / 120 + r * p));
    p = 1 + r * (1 + r * (0.5f + r * p));
    int32_t bits = ((int32_t)k + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return x > -87 ? p * power : 0;
}

/* Bits that sort as unsigned numbers the way the floats sort; -0 is 0. */
static uint32_t sort_key(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static float from_sort_key(uint32_t k) {
    float x;
    k = k >> 31 ? k & 0x7fffffffu : ~k;
    memcpy(&x, &k, sizeof x);
    return x;
}

/* The value at which the largest ones together weigh *target, and in *target how much of that is left for
 * those equal to it. A value weighs itself if `by_value`, else 1. Radix selection: each of three passes adds
 * up the weights that share the leading bits of the threshold found so far, and finds the next 10 or 11. */
static float find_threshold(const float *x, int64_t n, bool by_value, double *target) {
    enum { BINS = 2048 };
    static const int shift[] = {21, 10, 0};
    uint32_t threshold = 0, known = 0;
    for (int pass = 0; pass < 3; pass++) {
        double weight[BINS] = {0};
        uint32_t bins = pass < 2 ? BINS : BINS / 2, at = 0;
        for (int64_t i = 0; i < n; i++) {
            uint32_t k = sort_key(x[i]);
            if ((k & known) == threshold) weight[k >> shift[pass] & (bins - 1)] += by_value ? x[i] : 1;
        }
        bool reached = false;
        for (uint32_t b = bins; b-- > 0 && !reached;) {
            if (weight[b] <= 0) continue;
            at = b;
            reached = weight[b] >= *target;
            if (!reached) *target -= weight[b];
        }
        if (!reached) *target = INFINITY; /* by rounding: all of them are needed */
        threshold |= at << shift[pass];
        known |= (bins - 1) << shift[pass];
    }
    return from_sort_key(threshold);
}

/* Keep the values over t, and of those equal to it the first ones, as long as `left` lasts. */
static void keep_over(Candidates *c, float t, double left, bool by_value) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i += LANES) {
        int m = c->n - i < LANES ? (int)(c->n - i) : LANES, any = 0;
        for (int j = 0; j < m; j++) any |= c->x[i + j] >= t;
        for (int j = 0; any && j < m; j++) { /* written first, counted if wanted: no branch to guess */
            float x = c->x[i + j];
            c->x[n] = x, c->id[n] = c->id[i + j];
            n += x > t;
            if (x == t && left > 0) left -= by_value ? x : 1, n++;
        }
    }
    c->n = n;
}

/* First a bound that is cheap and leaves few: k of the maxima of many disjoint groups are over the k-th of
 * them, so the k-th largest value of all is not below it. */
static void keep_top_k(Candidates *c, int k) {
    enum { GROUPS = 1024 };
    double left = k;
    if (k <= GROUPS / 4 && c->n > GROUPS) {
        float max[GROUPS];
        memcpy(max, c->x, sizeof max);
        for (int64_t i = GROUPS; i < c->n; i++) {
            float *m = &max[i % GROUPS];
            *m = c->x[i] > *m ? c->x[i] : *m;
        }
        keep_over(c, find_threshold(max, GROUPS, false, &left), INFINITY, false);
        left = k;
    }
    float t = find_threshold(c->x, c->n, false, &left);
    keep_over(c, t, left, false);
}

/* Here too: all values under (1 - top_p) of the mean weigh less than 1 - top_p, so the rest will do. */
static void keep_top_p(Candidates *c, double top_p) {
    double total = sum(c->x, c->n), left = top_p * total;
    keep_over(c, (float)((1 - top_p) * total / (double)c->n * 0.999), INFINITY, false);
    float t = find_threshold(c->x, c->n, true, &left);
    keep_over(c, t, left, true);
}

int64_t sample_candidates(float *logits, int32_t *id, int64_t V, const SampleParams *p) {
    float max = largest(logits, V);
    Candidates c = {logits, id, max > -INFINITY ? V : 0};
    for (int32_t i = 0; i < c.n; i++) {
        id[i] = i;
        c.x[i] = logits[i] <= max ? logits[i] : -INFINITY; /* NaN and infinity cannot be drawn */
    }
    if (p->top_k > 0 && p->top_k < c.n) keep_top_k(&c, p->top_k);
    for (int64_t i = 0; i < c.n; i++) c.x[i] = exp_negative((float)((c.x[i] - max) / p->temperature));
    if (p->top_p < 1 && c.n) keep_top_p(&c, p->top_p);
    if (p->min_p > 0) keep_over(&c, (float)p->min_p, INFINITY, false);
    return c.n;
}

int32_t sample_token(float *logits, int64_t V, const SampleParams *p, uint64_t sequence, uint64_t pos,
                     const int32_t *seen, size_t n_seen) {
    int32_t *id, got = -1;
    if (p->repetition_penalty != 1) penalize(logits, V, p->repetition_penalty, seen, n_seen);
    if (p->temperature == 0) {
        float max = largest(logits, V);
        if (max == -INFINITY) return -1;
        for (got = 0; logits[got] != max;) got++;
        return got;
    }
    id = xmalloc((size_t)V * sizeof *id);
    int64_t n = sample_candidates(logits, id, V, p);
    double left = sum(logits, n) * rand_uniform(p->seed, RAND_SAMPLE, sequence, pos);
    for (int64_t i = 0; i < n && left >= 0; i++) { /* after the last one left < 0, or ~1e-12 by rounding */
        if (logits[i] > 0) got = id[i];
        left -= logits[i];
    }
    free(id);
    return got;
}

/* ---- bytes to text ------------------------------------------------------------------------------------- */

/* Hand over n held bytes: runs of valid UTF-8 as they are, U+FFFD in place of what cannot be. */
static void text_emit(SampleText *s, size_t n) {
    const char *p = s->held.p;
    for (size_t at = 0; at < n;) {
        size_t good = at;
        int k = 0;
        while (good < n && (k = utf8_length(p + good, n - good)) > 0) good += (size_t)k;
        if (good > at) s->sink(s->ctx, s->i, p + at, good - at, false);
        if (good < n) {
            size_t bad = 1; /* Unicode 15, section 3.9: replace maximal subparts */
            while (good + bad < n && utf8_length(p + good, bad + 1) == -(int)(bad + 1)) bad++;
            s->sink(s->ctx, s->i, "\xef\xbf\xbd", 3, false);
            good += bad;
        }
        at = good;
    }
    s->held.n -= n;
    if (s->held.n) memmove(s->held.p, p + n, s->held.n);
}

/* How many of the stop string's first bytes stand at p, if all n bytes there, or the whole of it, fit. */
static size_t matches(const char *p, size_t n, const char *stop) {
    size_t len = strlen(stop), m = n < len ? n : len;
    return memcmp(p, stop, m) == 0 ? m : 0;
}

bool sample_text_put(SampleText *s, const char *bytes, size_t n) {
    str_put(&s->held, bytes, n);
    size_t wait = s->held.n; /* from here on it could become a stop string */
    for (size_t at = 0; at < s->held.n; at++) {
        for (int k = 0; k < s->n_stop; k++) {
            size_t m = matches(s->held.p + at, s->held.n - at, s->stop[k]);
            if (m == strlen(s->stop[k])) {
                text_emit(s, at);
                s->held.n = 0;
                return true;
            }
            if (m && at < wait) wait = at;
        }
    }
    text_emit(s, utf8_whole(s->held.p, wait));
    return false;
}

void sample_text_end(SampleText *s) {
    text_emit(s, s->held.n);
    s->sink(s->ctx, s->i, "", 0, true);
    str_free(&s->held);
}

/* ---- decoding ------------------------------------------------------------------------------------------ */

void sample_memory_free(SampleMemory *k) {
    if (k->kv.slots) kv_free(&k->kv);
    ids_free(&k->ids);
    *k = (SampleMemory){0};
}

typedef struct Sequence {
    int32_t *ids; /* prompt and output */
    size_t n;
    SampleText text;
} Sequence;

typedef struct Run {
    Gpt *m;
    const Tokenizer *t;
    const SampleParams *p;
    KvCache *kv;
    int64_t V, drawable; /* ids of the model; those that the tokenizer has a text for */
    int rows;            /* of one gpt_decode call */
    Sequence *seq;
    int *live, n_live;                  /* sequences that still grow, in order */
    int32_t *token, *slot, *pos, *want; /* [rows] */
    float *logits;                      /* [n_samples, V]: row j is live[j]'s */
} Run;

/* Tokens from .. n of one sequence into its slot, a matrix of rows at a time; the last one's logits. */
static void feed(Run *r, const int32_t *ids, size_t from, size_t n, int slot, float *logits) {
    for (size_t at = from; at < n; at += (size_t)r->rows) {
        int k = n - at < (size_t)r->rows ? (int)(n - at) : r->rows;
        for (int i = 0; i < k; i++) r->slot[i] = slot, r->pos[i] = (int32_t)at + i;
        r->want[0] = k - 1;
        gpt_decode(r->m, r->kv, ids + at, r->slot, r->pos, k, r->want, at + (size_t)k == n, logits);
    }
}

/* Give every slot what slot 0 holds at positions 0 .. n: by way of the host, which any back end can. */
static void share_prompt(const Run *r, int n_slots, size_t n) {
    const ModelConfig *c = gpt_config(r->m);
    const Ops *ops = r->kv->ops;
    int64_t HS = c->n_embd / c->n_head, head = r->kv->capacity * HS;
    void *host = xmalloc(n * (size_t)HS * sizeof(float));
    for (int64_t l = 0; l < 2 * c->n_layer && n_slots > 1; l++) {
        Tensor x = l % 2 ? r->kv->v[l / 2] : r->kv->k[l / 2]; /* [slots, NH, capacity, HS] */
        size_t bytes = n * (size_t)HS * dtype_size(x.dtype);
        for (int64_t h = 0; h < c->n_head; h++) {
            ops->to_host(host, tensor_at(x, h * head).p, bytes);
            for (int64_t s = 1; s < n_slots; s++)
                ops->to_device(tensor_at(x, (s * c->n_head + h) * head).p, host, bytes);
        }
    }
    free(host);
}

/* One token further: the logits of every live sequence after its last token. */
static void advance(Run *r) {
    for (int lo = 0; lo < r->n_live; lo += r->rows) {
        int n = r->n_live - lo < r->rows ? r->n_live - lo : r->rows;
        for (int i = 0; i < n; i++) {
            const Sequence *s = &r->seq[r->live[lo + i]];
            r->token[i] = s->ids[s->n - 1];
            r->slot[i] = r->live[lo + i];
            r->pos[i] = (int32_t)s->n - 1;
            r->want[i] = i;
        }
        gpt_decode(r->m, r->kv, r->token, r->slot, r->pos, n, r->want, n, r->logits + lo * r->V);
    }
}

static void advance_without_cache(Run *r) {
    for (int i = 0; i < r->n_live; i++) {
        const Sequence *s = &r->seq[r->live[i]];
        feed(r, s->ids, 0, s->n, r->live[i], r->logits + i * r->V);
    }
}

/* Draw a token for every live sequence, and print it; keep in `live` those that go on. */
static bool draw(Run *r, size_t limit, SampleStats *stats, Err *e) {
    int n = 0;
#pragma omp parallel for schedule(static, 1)
    for (int i = 0; i < r->n_live; i++) {
        Sequence *s = &r->seq[r->live[i]];
        s->ids[s->n] =
            sample_token(r->logits + i * r->V, r->drawable, r->p, (uint64_t)r->live[i], s->n, s->ids, s->n);
    }
    for (int i = 0; i < r->n_live; i++) {
        Sequence *s = &r->seq[r->live[i]];
        int32_t id = s->ids[s->n];
        if (id < 0)
            return err_set(
                e, "the model's output at position %zu holds no finite number; its weights are damaged",
                s->n);
        size_t len;
        const char *bytes = tokenizer_bytes(r->t, id, &len);
        s->n++;
        stats->new_tokens++;
        bool ends = id == tokenizer_eot(r->t) && !r->p->ignore_eot;
        if (!ends) ends = sample_text_put(&s->text, bytes, len) || s->n == limit;
        if (ends)
            sample_text_end(&s->text);
        else
            r->live[n++] = r->live[i];
    }
    r->n_live = n;
    return true;
}

/* The cache to work with, and how many tokens of the prompt it holds already (never all: the last one's
 * logits are wanted). */
static bool open_cache(Run *r, KvCache *own, const int32_t *prompt, size_t n_prompt, int n_samples,
                       size_t limit, size_t *held, Err *e) {
    SampleMemory *k = r->p->memory;
    CHECK(!k || n_samples == 1, "a dialogue is one sequence");
    *held = 0;
    r->kv = k ? &k->kv : own;
    if (!r->kv->slots)
        return kv_create(r->kv, r->m, n_samples, k ? gpt_config(r->m)->n_positions : (int64_t)limit, e);
    while (*held < k->fed && *held < n_prompt - 1 && k->ids.id[*held] == prompt[*held]) ++*held;
    return true;
}

static bool check_prompt(const Run *r, const int32_t *prompt, size_t n, Err *e) {
    int64_t room = gpt_config(r->m)->n_positions;
    if (n == 0) return err_usage(e, "the prompt is empty");
    if (n >= (size_t)room)
        return err_usage(e, "the prompt has %zu tokens; this model's context holds %lld, the answer included",
                         n, (long long)room);
    for (size_t i = 0; i < n; i++)
        if (prompt[i] < 0 || prompt[i] >= r->V)
            return err_set(e,
                           "the prompt's token %d is beyond the model's vocabulary of %lld: the tokenizer "
                           "is not this model's",
                           (int)prompt[i], (long long)r->V);
    return true;
}

/* What a run needs besides the cache. */
static void start_sequences(Run *r, const int32_t *prompt, size_t n_prompt, int n_samples, size_t limit,
                            SampleSink sink, void *ctx) {
    size_t rows = (size_t)gpt_decode_rows(r->m), ints = rows * sizeof(int32_t);
    r->rows = (int)rows;
    r->token = xmalloc(4 * ints);
    r->slot = r->token + rows, r->pos = r->slot + rows, r->want = r->pos + rows;
    r->logits = xmalloc((size_t)n_samples * (size_t)r->V * sizeof(float));
    r->live = xmalloc((size_t)n_samples * sizeof(int));
    r->seq = xcalloc((size_t)n_samples, sizeof *r->seq);
    for (int i = 0; i < n_samples; i++) {
        r->live[r->n_live++] = i;
        r->seq[i].ids = xmalloc(limit * sizeof(int32_t));
        memcpy(r->seq[i].ids, prompt, n_prompt * sizeof(int32_t));
        r->seq[i].n = n_prompt;
        r->seq[i].text =
            (SampleText){.stop = r->p->stop, .n_stop = r->p->n_stop, .sink = sink, .ctx = ctx, .i = i};
    }
}

/* Keep what a dialogue wants kept, and let go of the rest. */
static void finish(Run *r, KvCache *own, int n_samples) {
    SampleMemory *k = r->p->memory;
    for (int i = 0; i < n_samples; i++) {
        Sequence *s = &r->seq[i];
        if (k) {
            ids_free(&k->ids);
            k->ids = (Ids){s->ids, s->n, s->n};
            k->fed = s->n - 1; /* the last one drawn was never fed */
        } else {
            free(s->ids);
        }
        str_free(&s->text.held);
    }
    if (own->slots) kv_free(own);
    free(r->token), free(r->logits), free(r->live), free(r->seq);
}

bool sample_run(Gpt *m, const Tokenizer *t, const int32_t *prompt, size_t n_prompt, int n_samples,
                const SampleParams *p, SampleSink sink, void *ctx, SampleStats *stats, Err *e) {
    const ModelConfig *c = gpt_config(m);
    KvCache own = {0};
    Run r = {.m = m, .t = t, .p = p, .V = c->vocab_size, .drawable = tokenizer_size(t)};
    if (r.drawable > r.V) r.drawable = r.V;
    size_t limit = (size_t)c->n_positions, held;
    *stats = (SampleStats){.prompt_tokens = (int64_t)n_prompt};
    if (!sample_check(p, e) || !check_prompt(&r, prompt, n_prompt, e)) return false;
    if (p->max_tokens && limit - n_prompt > (size_t)p->max_tokens) limit = n_prompt + (size_t)p->max_tokens;
    if (!open_cache(&r, &own, prompt, n_prompt, n_samples, limit, &held, e)) return false;
    start_sequences(&r, prompt, n_prompt, n_samples, limit, sink, ctx);

    double t0 = now_seconds();
    feed(&r, prompt, held, n_prompt, 0, r.logits);
    share_prompt(&r, n_samples, n_prompt);
    for (int64_t i = 1; i < n_samples; i++) memcpy(r.logits + i * r.V, r.logits, (size_t)r.V * sizeof(float));
    double t1 = now_seconds();
    bool ok = draw(&r, limit, stats, e);
    while (ok && r.n_live) {
        if (p->use_cache)
            advance(&r);
        else
            advance_without_cache(&r);
        ok = draw(&r, limit, stats, e);
    }
    stats->prompt_tokens -= (int64_t)held;
    stats->prefill_seconds = t1 - t0;
    stats->decode_seconds = now_seconds() - t1;
    finish(&r, &own, n_samples);
    return ok;
}

/* ---- dialogues ----------------------------------------------------------------------------------------- */

bool dialogue_add(Dialogue *d, const int32_t *ids, size_t n, size_t limit) {
    if (n > limit) return false;
    int drop = 0;
    while (drop < d->n && d->ids.n - d->turn[drop] + n > limit) drop++;
    size_t cut = drop < d->n ? d->turn[drop] : d->ids.n;
    d->ids.n -= cut, d->n -= drop;
    if (cut) memmove(d->ids.id, d->ids.id + cut, d->ids.n * sizeof *d->ids.id);
    for (int i = 0; i < d->n; i++) d->turn[i] = d->turn[i + drop] - cut;

    d->turn = xrealloc(d->turn, (size_t)(d->n + 1) * sizeof *d->turn);
    d->turn[d->n++] = d->ids.n;
    if (d->ids.n + n > d->ids.cap)
        d->ids.id = xrealloc(d->ids.id, (d->ids.cap = 2 * (d->ids.n + n)) * sizeof *d->ids.id);
    memcpy(d->ids.id + d->ids.n, ids, n * sizeof *ids);
    d->ids.n += n;
    return true;
}

/* The answer, as it was drawn, becomes part of the turn. */
static void dialogue_take_answer(Dialogue *d) {
    const Ids *all = &d->memory.ids;
    if (all->n > d->ids.cap) d->ids.id = xrealloc(d->ids.id, (d->ids.cap = 2 * all->n) * sizeof *d->ids.id);
    memcpy(d->ids.id, all->id, all->n * sizeof *all->id);
    d->ids.n = all->n;
}

bool dialogue_turn(Dialogue *d, Gpt *m, const Tokenizer *t, const char *line, const SampleParams *p,
                   SampleSink sink, void *ctx, SampleStats *stats, Err *e) {
    size_t room = (size_t)gpt_config(m)->n_positions, answer = room / 2;
    if (p->max_tokens && (size_t)p->max_tokens < answer) answer = (size_t)p->max_tokens;
    SampleParams mine = *p;
    mine.memory = &d->memory;
    Str text = {0};
    Ids ids = {0};
    str_printf(&text, "%s%s\n", d->n ? "\n" : "", line);
    bool ok = tokenizer_encode(t, text.p, text.n, SPECIAL_TEXT, &ids, e);
    if (ok && !dialogue_add(d, ids.id, ids.n, room - answer))
        ok = err_usage(e,
                       "this line has %zu tokens; the model's context has room for %zu of them and an answer",
                       ids.n, room - answer);
    if (ok) ok = sample_run(m, t, d->ids.id, d->ids.n, 1, &mine, sink, ctx, stats, e);
    if (ok) dialogue_take_answer(d);
    str_free(&text);
    ids_free(&ids);
    return ok;
}

void dialogue_free(Dialogue *d) {
    sample_memory_free(&d->memory);
    ids_free(&d->ids);
    free(d->turn);
    *d = (Dialogue){0};
}
