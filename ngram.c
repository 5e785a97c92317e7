/* ngram.c - floor 2: see ngram.h: opening a model, and asking it. */
#include "ngram_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct Ngram {
    Map map;
    NgramHeader h;
    const uint64_t *table; /* [buckets * NGRAM_BUCKET] */
    double unknown;        /* log10 of <unk>'s probability */
    double start_backoff;  /* log10 of <s>'s back-off weight */
};

/* ---- the file -------------------------------------------------------------------------------------------- */

static const uint64_t *bucket_of(const Ngram *m, uint64_t hash) {
    return m->table + ngram_bucket(hash, m->h.home_buckets) * NGRAM_BUCKET;
}

/* The entry of an n-gram, 0 if it is not there. */
static uint64_t find(const Ngram *m, uint64_t hash) {
    const uint64_t *entry = bucket_of(m, hash);
    while (*entry && (uint32_t)(*entry >> 32) != (uint32_t)hash) entry++;
    return *entry;
}

static double entry_probability(uint64_t entry) {
    return (1 - (double)(entry >> 16 & 0xffff)) / NGRAM_STEPS;
}
static double entry_backoff(uint64_t entry) {
    return -(double)(entry & 0xffff) / NGRAM_STEPS;
}

static bool damaged(const char *path, const char *what, Err *e) {
    return err_set(e, "%s: is damaged: %s; train it again (gpt data lm train)", path, what);
}

static bool check_header(const NgramHeader *h, const Map *map, const char *path, Err *e) {
    if (map->n < NGRAM_TABLE || memcmp(h->magic, NGRAM_MAGIC, sizeof h->magic))
        return err_set(e, "%s: is no n-gram model; gpt data lm train makes one", path);
    if (h->version != NGRAM_VERSION)
        return err_set(e, "%s: is of version %u, this program reads %d; train it again", path, h->version,
                       NGRAM_VERSION);
    if (crc32_of(0, h, offsetof(NgramHeader, header_crc)) != h->header_crc)
        return damaged(path, "the checksum of its header does not match", e);
    size_t table;
    if (h->unit > NGRAM_TOKENS || h->order < 2 || h->order > NGRAM_LONGEST || !h->home_buckets ||
        h->home_buckets > h->buckets || h->home_buckets >> 32)
        return damaged(path, "its header makes no sense", e);
    if (!size_mul(h->buckets, NGRAM_BUCKET * sizeof(uint64_t), &table) || map->n - NGRAM_TABLE != table)
        return damaged(path, "it is not as long as its header says", e);
    return true;
}

static bool check_table(const Ngram *m, const char *path, Err *e) {
    size_t n = m->h.buckets * NGRAM_BUCKET;
    if (crc32_of(0, m->table, n * sizeof *m->table) != m->h.table_crc)
        return damaged(path, "the checksum of its table does not match", e);
    if (m->table[n - 1]) return damaged(path, "its table has no end", e);
    uint64_t entry[] = {find(m, ngram_first(HASH_UNK)), find(m, ngram_first(HASH_BOS)),
                        find(m, ngram_first(HASH_EOS))};
    return (entry[0] && entry[1] && entry[2]) || damaged(path, "it lacks <unk>, <s> or </s>", e);
}

Ngram *ngram_open(const char *dir, Err *e) {
    Ngram *m = xcalloc(1, sizeof *m);
    char *path = path_join(dir, NGRAM_FILE);
    bool ok = map_open(&m->map, path, e);
    if (ok) memcpy(&m->h, m->map.p, m->map.n < sizeof m->h ? m->map.n : sizeof m->h);
    ok = ok && check_header(&m->h, &m->map, path, e);
    if (ok) m->table = (const uint64_t *)(m->map.p + NGRAM_TABLE);
    ok = ok && check_table(m, path, e);
    free(path);
    if (!ok) return ngram_close(m), NULL;
    m->unknown = entry_probability(find(m, ngram_first(HASH_UNK)));
    m->start_backoff = entry_backoff(find(m, ngram_first(HASH_BOS)));
    return m;
}

void ngram_close(Ngram *m) {
    if (!m) return;
    map_close(&m->map);
    free(m);
}

NgramInfo ngram_info(const Ngram *m) {
    NgramInfo info = {
        .unit = (NgramUnit)m->h.unit, .order = (int)m->h.order, .guessed = m->h.guessed, .bytes = m->map.n};
    memcpy(info.ngrams, m->h.ngrams, sizeof info.ngrams);
    memcpy(info.discount, m->h.discount, sizeof info.discount);
    return info;
}

/* ---- asking ----------------------------------------------------------------------------------------------
 * A word is looked up as the last one of ever longer n-grams, each of which is likely not in the cache. So a word's
 * hashes are made, and its cache lines asked for, AHEAD words before they are needed. */

enum { AHEAD = 16 };

typedef struct Question {
    bool first, end;              /* of its sentence */
    int n;                        /* the longest n-gram that fits in its sentence */
    uint64_t hash[NGRAM_LONGEST]; /* [n] of its suffixes, the shortest first */
} Question;

typedef struct Asker {
    const Ngram *m;
    NgramScore *score;
    Question ring[AHEAD];
    uint64_t asked, answered;
    uint64_t before[NGRAM_LONGEST]; /* the words before, the nearest first */
    int n_before;                   /* of this sentence, as many as matter */
    double backoff[NGRAM_LONGEST];  /* log10 of the weights of the last word's n-grams, the shortest first */
    int n_backoff;
} Asker;

static void answer(Asker *a) {
    const Question *q = &a->ring[a->answered++ % AHEAD];
    uint64_t entry, longest = 0;
    double backoff[NGRAM_LONGEST];
    int n = 0;
    if (q->first) a->backoff[0] = a->m->start_backoff, a->n_backoff = 1;
    for (; n < q->n && (entry = find(a->m, q->hash[n])); n++) {
        if (!n && !q->end) a->score->alone += entry_probability(entry);
        longest = entry, backoff[n] = entry_backoff(entry);
    }
    if (!longest) a->score->alone += a->m->unknown;
    a->score->log10 += longest ? entry_probability(longest) : a->m->unknown;
    a->score->unknown += !longest;
    /* The history's n-grams that were too long weigh in: those of max(n, 1) words and more. */
    for (int i = n ? n - 1 : 0; i < a->n_backoff && i < q->n - 1; i++) a->score->log10 += a->backoff[i];
    memcpy(a->backoff, backoff, (size_t)n * sizeof *backoff);
    a->n_backoff = n;
}

static void ask(Asker *a, uint64_t word, bool first) {
    if (a->asked - a->answered == AHEAD) answer(a);
    Question *q = &a->ring[a->asked++ % AHEAD];
    uint64_t hash = ngram_first(word);
    q->first = first;
    q->end = word == HASH_EOS;
    for (q->n = 0;; hash = ngram_join(hash, a->before[q->n - 1])) {
        q->hash[q->n++] = hash;
        __builtin_prefetch(bucket_of(a->m, hash));
        if (q->n > a->n_before) break;
    }
    memmove(a->before + 1, a->before, (NGRAM_LONGEST - 1) * sizeof *a->before);
    a->before[0] = word;
    if (a->n_before < (int)a->m->h.order - 1) a->n_before++;
}

static void start_sentence(Asker *a) {
    a->before[0] = HASH_BOS;
    a->n_before = 1;
}

static void answer_all(Asker *a) {
    while (a->answered < a->asked) answer(a);
}

/* The words of a line, if it has any, and the sentence's end. */
static void ask_line(Asker *a, Span line) {
    NgramUnit unit = (NgramUnit)a->m->h.unit;
    Span word;
    start_sentence(a);
    uint64_t words = 0;
    for (; ngram_next(unit, &line, &word); words++) ask(a, ngram_word(unit, word), !words);
    if (!words) return;
    ask(a, HASH_EOS, false);
    a->score->words += words;
    a->score->sentences++;
}

void ngram_score(const Ngram *m, const char *text, size_t n, NgramScore *score) {
    Asker a = {.m = m, .score = score};
    Span left = {text, n}, line;
    while (line_next(&left, &line)) ask_line(&a, line);
    answer_all(&a);
}

double ngram_log10(const Ngram *m, const uint64_t *words, int n) {
    NgramScore score = {0};
    Asker a = {.m = m, .score = &score};
    start_sentence(&a);
    for (int i = 0; i < n - 1; i++) ask(&a, words[i], !i);
    answer_all(&a);
    double before = score.log10;
    ask(&a, words[n - 1], n == 1);
    answer_all(&a);
    return score.log10 - before;
}

double score_perplexity(const NgramScore *s) {
    uint64_t n = s->words + s->sentences;
    return n ? pow(10, -s->log10 / (double)n) : INFINITY;
}

double score_rarity(const NgramScore *s) {
    return s->words ? pow(10, -s->alone / (double)s->words) : INFINITY;
}

double ngram_perplexity(const Ngram *m, const char *text, size_t n) {
    NgramScore score = {0};
    ngram_score(m, text, n, &score);
    return score_perplexity(&score);
}
