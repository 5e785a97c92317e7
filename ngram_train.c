/* ngram_train.c - floor 2: see ngram.h: estimating a model, in streams that are sorted and merged on disk, after
 * Heafield, Pouzyrevsky, Clark & Koehn, "Scalable Modified Kneser-Ney Language Model Estimation" (2013).
 *
 *   count    text -> n-grams of the full length and how often they occur, in suffix order
 *   adjust   -> for each length its n-grams and their adjusted counts, in context order; the discounts
 *   spread   -> for each n-gram its discounted share and what its context leaves over, in suffix order
 *   join     -> probabilities, each from that of its suffix, by hash
 *   write    -> the table
 *
 * An n-gram is held backwards, its last word first: so suffix order is the order of its words as they stand, and
 * context order the same with the last word put behind. */
#include "docs.h"
#include "extsort.h"
#include "ngram_impl.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { UNK, BOS, EOS, FIRST_WORD };

/* Numbers for words: an open-addressing table from hash to id, read without locks, grown between batches. */
typedef struct Vocab {
    uint64_t *slot_hash; /* 0: free */
    uint32_t *slot_id;
    size_t slots;   /* a power of two */
    uint64_t *hash; /* of each id */
    size_t n, cap;
} Vocab;

typedef struct Train {
    const NgramJob *job;
    int order, threads;
    Vocab vocab;
    Sorter *counts;                      /* of n-grams of the full length */
    Sorter *contexts[NGRAM_LONGEST + 1]; /* by length, from 2 */
    Sorter *shares[NGRAM_LONGEST + 1];
    Sorter *entries;
    uint64_t *unigram;                       /* [vocab.n] adjusted counts */
    uint64_t adjusted[NGRAM_LONGEST + 1][5]; /* how many n-grams have an adjusted count of 1, .. 4 */
    double discount[NGRAM_LONGEST + 1][4];   /* by the adjusted count, 3 for more */
    uint32_t guessed;                        /* discounts: see NgramInfo */
    uint64_t kept[NGRAM_LONGEST + 1];
    uint64_t tokens; /* words and sentence ends */
} Train;

/* ---- words ----------------------------------------------------------------------------------------------- */

/* Where a hash is, or the free slot where it would go. */
static size_t vocab_slot(const Vocab *v, uint64_t hash, uint64_t *there) {
    size_t at = hash & (v->slots - 1);
    while ((*there = __atomic_load_n(&v->slot_hash[at], __ATOMIC_ACQUIRE)) && *there != hash)
        at = (at + 1) & (v->slots - 1);
    return at;
}

/* From one thread: makes sure that `more` words find room. */
static void vocab_reserve(Vocab *v, size_t more) {
    size_t slots = v->slots ? v->slots : 1 << 12;
    while ((v->n + more) * 3 / 2 > slots) slots *= 2;
    if (v->n + more > v->cap) v->hash = xrealloc(v->hash, (v->cap = v->n + more) * sizeof *v->hash);
    if (slots == v->slots) return;
    free(v->slot_hash);
    free(v->slot_id);
    v->slot_hash = xcalloc(slots, sizeof *v->slot_hash);
    v->slot_id = xmalloc(slots * sizeof *v->slot_id);
    v->slots = slots;
    for (size_t id = 0; id < v->n; id++) {
        uint64_t there;
        size_t at = vocab_slot(v, v->hash[id], &there);
        v->slot_hash[at] = v->hash[id];
        v->slot_id[at] = (uint32_t)id;
    }
}

/* The id of a word; from any thread, as long as there is room. Which id a new word gets depends on the threads, but
 * nothing that is written does. */
static uint32_t vocab_id(Vocab *v, uint64_t hash) {
    uint64_t there;
    size_t at = vocab_slot(v, hash, &there);
    if (there) return v->slot_id[at];
#pragma omp critical(vocab)
    {
        at = vocab_slot(v, hash, &there);
        if (!there) {
            v->hash[v->n] = hash;
            v->slot_id[at] = (uint32_t)v->n++;
            __atomic_store_n(&v->slot_hash[at], hash, __ATOMIC_RELEASE);
        }
    }
    return v->slot_id[at];
}

static void vocab_init(Vocab *v) {
    vocab_reserve(v, FIRST_WORD);
    vocab_id(v, HASH_UNK);
    vocab_id(v, HASH_BOS);
    vocab_id(v, HASH_EOS);
}

/* ---- count ----------------------------------------------------------------------------------------------- */

/* Puts the n-gram that ends with this word: `gram` holds it and those before it, the nearest first. */
static bool put_gram(Train *t, int lane, uint32_t *gram, uint32_t id, Err *e) {
    memmove(gram + 1, gram, (size_t)(t->order - 1) * sizeof *gram);
    gram[0] = id;
    return sorter_put(t->counts, lane, gram, e);
}

static bool count_text(Train *t, int lane, const char *text, size_t n, uint64_t *tokens, Err *e) {
    Span left = {text, n}, line, word;
    uint32_t gram[NGRAM_LONGEST + 2];
    sort_put_count(gram + t->order, 1);
    while (line_next(&left, &line)) {
        uint64_t words = 0;
        for (int i = 0; i < t->order; i++) gram[i] = BOS;
        for (; ngram_next(t->job->unit, &line, &word); words++)
            if (!put_gram(t, lane, gram, vocab_id(&t->vocab, ngram_word(t->job->unit, word)), e))
                return false;
        if (words && !put_gram(t, lane, gram, EOS, e)) return false;
        *tokens += words + (words > 0);
    }
    return true;
}

enum { BATCH = 1024 };

static bool count_batch(Train *t, Doc *doc, int n, Err *e) {
    uint64_t tokens = 0;
#pragma omp parallel for num_threads(t->threads) schedule(dynamic) reduction(+ : tokens)
    for (int i = 0; i < n; i++) {
        Err mine = {0};
        if (!doc_text(&doc[i], t->job->key ? t->job->key : "text", &mine) ||
            !count_text(t, omp_get_thread_num(), doc[i].text, doc[i].n, &tokens, &mine))
#pragma omp critical
            err_set(e, "%s", mine.msg);
        free(doc[i].text);
    }
    t->tokens += tokens;
    return !e->code;
}

static bool count_files(Train *t, Err *e) {
    Docs docs;
    Doc *doc = xcalloc(BATCH, sizeof *doc);
    bool ok = docs_open(&docs, t->job->files, t->job->n_files, e);
    for (int n = 1; ok && n;) {
        size_t bytes = 0;
        ok = docs_batch(&docs, doc, BATCH, (size_t)t->threads << 21, &n, e);
        for (int i = 0; i < n; i++) bytes += doc[i].n;
        vocab_reserve(&t->vocab, bytes / 2 + 1); /* a word has a byte, and one behind it */
        if (ok && t->vocab.n + bytes > UINT32_MAX) ok = err_set(e, "more than 4 billion different words");
        ok = count_batch(t, doc, n, e) && ok;
    }
    docs_close(&docs);
    free(doc);
    if (ok && !t->tokens)
        ok = err_set(e, "%s%s: no words to learn from", t->job->files[0], t->job->n_files > 1 ? ", ..." : "");
    return ok && sorter_sort(t->counts, e);
}

/* ---- adjust ----------------------------------------------------------------------------------------------
 * An n-gram's adjusted count is how often it occurs if it has the full length or starts a sentence, and else how
 * many different words occur before it. In suffix order those of a length follow each other. */

enum { PRUNED = 1 }; /* the least bit of what is put as a count */

typedef struct Group {
    uint64_t actual, before; /* of the n-gram at hand: occurrences, different words before it */
} Group;

static bool put_adjusted(Train *t, int n, const uint32_t *gram, const Group *g, Err *e) {
    if (n > 1 && gram[n - 2] == BOS) return true; /* <s> <s> ...: one would do */
    uint64_t count = n == t->order || gram[n - 1] == BOS ? g->actual : g->before;
    bool pruned = g->actual <= t->job->prune[n - 1];
    if (count < 5) t->adjusted[n][count]++;
    t->kept[n] += !pruned;
    if (n == 1) return t->unigram[gram[0]] = count, true;
    uint32_t record[NGRAM_LONGEST + 2];
    memcpy(record, gram + 1, (size_t)(n - 1) * sizeof *record);
    record[n - 1] = gram[0];
    sort_put_count(record + n, count << 1 | (pruned ? PRUNED : 0));
    return sorter_put(t->contexts[n], 0, record, e);
}

/* The n-grams of `gram` longer than `same` are complete. */
static bool close_groups(Train *t, const uint32_t *gram, int same, Group *g, Err *e) {
    for (int n = t->order; n > same; n--) {
        if (!put_adjusted(t, n, gram, &g[n], e)) return false;
        g[n - 1].actual += g[n].actual;
        g[n - 1].before++;
        g[n] = (Group){0};
    }
    return true;
}

static bool adjust(Train *t, Err *e) {
    Group g[NGRAM_LONGEST + 1] = {0};
    uint32_t gram[NGRAM_LONGEST] = {0};
    const uint32_t *r;
    bool any = false;
    t->unigram = xcalloc(t->vocab.n, sizeof *t->unigram);
    t->kept[1] = 2; /* <unk> and <s>, which no text holds */
    for (;;) {
        if (!sorter_next(t->counts, &r, e)) return false;
        int same = 0;
        while (r && any && same < t->order && r[same] == gram[same]) same++;
        if (any && !close_groups(t, gram, same, g, e)) return false;
        if (!r) break;
        memcpy(gram, r, (size_t)t->order * sizeof *gram);
        g[t->order].actual = sort_get_count(r + t->order);
        any = true;
    }
    sorter_close(t->counts);
    t->counts = NULL;
    for (int n = 2; n <= t->order; n++)
        if (!sorter_sort(t->contexts[n], e)) return false;
    return true;
}

/* Discounts from counts of adjusted counts: Chen & Goodman, equation 26. */
static bool discounts_of(const uint64_t count[5], double d[4]) {
    if (!count[1] || !count[2] || !count[3]) return false;
    double y = (double)count[1] / ((double)count[1] + 2 * (double)count[2]);
    for (int k = 1; k <= 3; k++) {
        d[k] = k - (k + 1) * y * (double)count[k + 1] / (double)count[k];
        if (d[k] < 0 || d[k] > k) return false;
    }
    return true;
}

/* Where the text is too small or too regular for that, what lmplz --discount_fallback takes. */
static void set_discounts(Train *t) {
    for (int n = 1; n <= t->order; n++) {
        double *d = t->discount[n];
        if (discounts_of(t->adjusted[n], d)) continue;
        d[1] = 0.5, d[2] = 1, d[3] = 1.5;
        t->guessed |= 1u << (n - 1);
    }
}

/* ---- spread ---------------------------------------------------------------------------------------------- */

/* What the n-grams of one context come to. */
typedef struct Spread {
    double total,
        left_over; /* adjusted counts; what the discounts and the pruned ones leave for shorter n-grams */
} Spread;

static void spread_add(Spread *s, const double d[4], uint64_t count, bool pruned) {
    s->total += (double)count;
    s->left_over += pruned ? (double)count : d[count < 3 ? count : 3];
}

static uint32_t code_of(double log10_loss) {
    double steps = log10_loss * NGRAM_STEPS + 0.5;
    return steps < 0 ? 0 : steps < 0xffff ? (uint32_t)steps : 0xffff;
}

/* For the table: of an n-gram, a code of its probability or of its back-off weight. The two have the same key, so
 * they become one, and where only the weight comes the n-gram was pruned. */
static bool put_entry(Train *t, uint64_t hash, uint32_t probability, uint32_t backoff, Err *e) {
    uint32_t record[4] = {(uint32_t)(hash >> 32), (uint32_t)hash};
    sort_put_count(record + 2, probability << 16 | backoff);
    return sorter_put(t->entries, 0, record, e);
}

static bool put_probability(Train *t, uint64_t hash, double p, Err *e) {
    uint32_t code = code_of(-log10(p));
    return put_entry(t, hash, code < 0xffff ? code + 1 : 0xffff, 0, e);
}

static bool put_backoff(Train *t, uint64_t hash, double weight, Err *e) {
    uint32_t code = code_of(-log10(weight));
    return !code || put_entry(t, hash, 0, code, e);
}

/* The hash of n words, the last one first. */
static uint64_t hash_of(const Train *t, const uint32_t *gram, int n) {
    uint64_t hash = ngram_first(t->vocab.hash[gram[0]]);
    for (int i = 1; i < n; i++) hash = ngram_join(hash, t->vocab.hash[gram[i]]);
    return hash;
}

static uint32_t float_bits(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
static double bits_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The n-grams of one context: its words, and `m` records of the last word and its count. */
static bool spread_context(Train *t, int n, const uint32_t *context, const uint32_t (*last)[3], size_t m,
                           Err *e) {
    const double *d = t->discount[n];
    Spread s = {0};
    for (size_t i = 0; i < m; i++) {
        uint64_t count = sort_get_count(last[i] + 1);
        spread_add(&s, d, count >> 1, count & PRUNED);
    }
    double weight = s.left_over / s.total;
    uint32_t record[NGRAM_LONGEST + 2];
    memcpy(record + 1, context, (size_t)(n - 1) * sizeof *record);
    record[n + 1] = float_bits(weight);
    for (size_t i = 0; i < m; i++) {
        uint64_t count = sort_get_count(last[i] + 1);
        if (count & PRUNED) continue;
        count >>= 1;
        record[0] = last[i][0];
        record[n] = float_bits(((double)count - d[count < 3 ? count : 3]) / s.total);
        if (!sorter_put(t->shares[n], 0, record, e)) return false;
    }
    return put_backoff(t, hash_of(t, context, n - 1), weight, e);
}

static bool spread(Train *t, int n, Err *e) {
    uint32_t context[NGRAM_LONGEST] = {0}, (*last)[3] = NULL;
    size_t m = 0, cap = 0, bytes = (size_t)(n - 1) * sizeof *context;
    const uint32_t *r = NULL;
    bool ok;
    while ((ok = sorter_next(t->contexts[n], &r, e))) {
        if (m && (!r || memcmp(r, context, bytes))) {
            if (!(ok = spread_context(t, n, context, (const uint32_t(*)[3])last, m, e))) break;
            m = 0;
        }
        if (!r) break;
        memcpy(context, r, bytes);
        if (m == cap) last = xrealloc(last, (cap = cap * 2 + 64) * sizeof *last);
        memcpy(last[m++], r + n - 1, sizeof *last);
    }
    free(last);
    sorter_close(t->contexts[n]);
    t->contexts[n] = NULL;
    return ok && sorter_sort(t->shares[n], e);
}

/* ---- join ------------------------------------------------------------------------------------------------ */

/* The streams of all lengths, walked as a tree: below an n-gram are those it is a suffix of. */
typedef struct Walk {
    Train *t;
    const uint32_t *head[NGRAM_LONGEST + 1];
    uint32_t gram[NGRAM_LONGEST];
    Err *e;
} Walk;

/* All n-grams of length n whose suffix is gram[0 .. n - 1), which has this hash and probability. */
static bool walk(Walk *w, int n, uint64_t hash, double p) {
    Train *t = w->t;
    if (n > t->order) return true;
    while (w->head[n] && !memcmp(w->head[n], w->gram, (size_t)(n - 1) * sizeof *w->gram)) {
        const uint32_t *r = w->head[n];
        uint64_t longer = ngram_join(hash, t->vocab.hash[r[n - 1]]);
        double q = bits_float(r[n]) + bits_float(r[n + 1]) * p;
        w->gram[n - 1] = r[n - 1];
        if (!put_probability(t, longer, q, w->e) || !sorter_next(t->shares[n], &w->head[n], w->e) ||
            !walk(w, n + 1, longer, q))
            return false;
    }
    return true;
}

/* Unigrams share what they leave over equally, <unk> among them; <s> never follows anything. */
static bool join(Train *t, Err *e) {
    Walk w = {.t = t, .e = e};
    Spread s = {0};
    for (size_t id = EOS; id < t->vocab.n; id++) spread_add(&s, t->discount[1], t->unigram[id], false);
    for (int n = 2; n <= t->order; n++)
        if (!sorter_next(t->shares[n], &w.head[n], e)) return false;
    for (size_t id = 0; id < t->vocab.n; id++) {
        uint64_t count = t->unigram[id], hash = ngram_first(t->vocab.hash[id]);
        double share = count ? (double)count - t->discount[1][count < 3 ? count : 3] : 0;
        double p = id == BOS ? 1 : (share + s.left_over / (double)(t->vocab.n - 1)) / s.total;
        w.gram[0] = (uint32_t)id;
        if (!put_probability(t, hash, p, e) || !walk(&w, 2, hash, p)) return false;
    }
    for (int n = 2; n <= t->order; n++) CHECK(!w.head[n], "an n-gram's suffix must be there");
    return sorter_sort(t->entries, e);
}

/* ---- write ----------------------------------------------------------------------------------------------- */

/* All entries from the bucket that they belong into on, and at least one free one at the end. */
static bool write_table(Train *t, OutFile *f, NgramHeader *h, Err *e) {
    uint64_t at = 0; /* entries written */
    const uint32_t *r;
    static const uint64_t zeros[NGRAM_BUCKET];
    while (sorter_next(t->entries, &r, e) && r) {
        if (!(r[2] >> 16)) continue;
        uint64_t entry = (uint64_t)r[1] << 32 | r[2];
        uint64_t home = ngram_bucket((uint64_t)r[0] << 32, h->home_buckets) * NGRAM_BUCKET;
        for (; at < home; at++) file_put(f, zeros, sizeof *zeros);
        file_put(f, &entry, sizeof entry);
        at++;
    }
    uint64_t end = (at > h->home_buckets * NGRAM_BUCKET ? at / NGRAM_BUCKET : h->home_buckets) * NGRAM_BUCKET;
    if (at >= end) end += NGRAM_BUCKET;
    for (; at < end; at++) file_put(f, zeros, sizeof *zeros);
    h->buckets = end / NGRAM_BUCKET;
    return !e->code;
}

static bool write_model(Train *t, Err *e) {
    NgramHeader h = {.magic = NGRAM_MAGIC, .version = NGRAM_VERSION, .unit = t->job->unit};
    uint64_t all = 0;
    h.order = (uint32_t)t->order;
    h.guessed = t->guessed;
    for (int n = 1; n <= t->order; n++) {
        all += h.ngrams[n - 1] = t->kept[n];
        memcpy(h.discount[n - 1], t->discount[n] + 1, sizeof *h.discount);
    }
    h.home_buckets = all / (NGRAM_BUCKET * 3 / 4) + 1;
    if (h.home_buckets >> 32) return err_set(e, "%llu n-grams are too many", (unsigned long long)all);
    char *path = path_join(t->job->out_dir, NGRAM_FILE);
    OutFile f;
    static const uint8_t blank[NGRAM_TABLE];
    bool ok = file_create(&f, path, e);
    if (ok) {
        file_put(&f, blank, sizeof blank);
        f.crc = 0;
        ok = write_table(t, &f, &h, e);
        h.table_crc = f.crc;
        h.header_crc = crc32_of(0, &h, offsetof(NgramHeader, header_crc));
        file_patch(&f, 0, &h, sizeof h);
        if (ok)
            ok = file_commit(&f, e);
        else
            file_abandon(&f);
    }
    free(path);
    return ok;
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

static Sorter *open_sorter(const Train *t, int width, int key, bool sum, uint64_t share, int lanes) {
    return sorter_open(&(SortPlan){.width = width,
                                   .key = key,
                                   .sum = sum,
                                   .memory = t->job->memory / share,
                                   .lanes = lanes,
                                   .dir = t->job->out_dir});
}

/* At any time the sorters of two steps are alive: half of the memory for each. */
static void open_sorters(Train *t) {
    uint64_t half = 2, each = half * (uint64_t)(t->order - 1);
    t->counts = open_sorter(t, t->order + 2, t->order, true, half, t->threads);
    for (int n = 2; n <= t->order; n++) {
        t->contexts[n] = open_sorter(t, n + 2, n, false, each, 1);
        t->shares[n] = open_sorter(t, n + 2, n, false, each, 1);
    }
    t->entries = open_sorter(t, 4, 2, true, half, 1);
}

static void train_free(Train *t) {
    sorter_close(t->counts);
    for (int n = 2; n <= t->order; n++) sorter_close(t->contexts[n]), sorter_close(t->shares[n]);
    sorter_close(t->entries);
    free(t->vocab.slot_hash);
    free(t->vocab.slot_id);
    free(t->vocab.hash);
    free(t->unigram);
}

static bool check_job(const NgramJob *job, Err *e) {
    if (job->order < 2 || job->order > NGRAM_LONGEST)
        return err_usage(e, "an n-gram model is of order 2 to %d, not %d", NGRAM_LONGEST, job->order);
    if (job->prune[0]) return err_usage(e, "words are not pruned: the first number is 0");
    for (int n = 1; n < job->order; n++)
        if (job->prune[n] < job->prune[n - 1])
            return err_usage(e,
                             "longer n-grams are pruned as much as shorter ones or more, not %llu after %llu",
                             (unsigned long long)job->prune[n], (unsigned long long)job->prune[n - 1]);
    return true;
}

bool ngram_train(const NgramJob *job, Err *e) {
    if (!check_job(job, e) || !dir_make(job->out_dir, e)) return false;
    Train t = {
        .job = job, .order = job->order, .threads = job->threads ? job->threads : omp_get_max_threads()};
    vocab_init(&t.vocab);
    open_sorters(&t);
    bool ok = count_files(&t, e) && adjust(&t, e);
    if (ok) set_discounts(&t);
    for (int n = 2; ok && n <= t.order; n++) ok = spread(&t, n, e);
    ok = ok && join(&t, e) && write_model(&t, e);
    train_free(&t);
    return ok;
}
