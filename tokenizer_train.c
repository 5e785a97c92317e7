/* tokenizer_train.c - floor 2: learning merges (Sennrich et al. 2016, algorithm 1), fast.
 *
 * The text is counted down to its distinct pieces first; then the most frequent pair of neighbouring ids
 * is merged, again and again. Of equally frequent pairs the one with the smaller ids goes first, as in
 * Hugging Face's BpeTrainer. All counts are exact integers, so nothing depends on the number of threads. */
#include "tokenizer_impl.h"
#include "docs.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting pieces ----------------------------------------------------------------------------------- */

typedef struct Word {
    uint64_t hash, count; /* count 0: an empty slot */
    size_t at;            /* where its bytes are */
    uint32_t n;
} Word;

/* An open-addressing table of pieces; one a thread. */
typedef struct Words {
    Word *slot;
    size_t n, size; /* a power of two */
    Str bytes;
} Words;

static uint64_t hash_piece(const uint8_t *p, size_t n) {
    uint64_t h = n, v;
    for (; n > 8; p += 8, n -= 8) {
        memcpy(&v, p, 8);
        h = (h ^ v) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    v = 0;
    memcpy(&v, p, n);
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static void words_grow(Words *w) {
    Words old = *w;
    w->size = old.size ? old.size * 2 : 1 << 12;
    w->slot = xcalloc(w->size, sizeof *w->slot);
    for (size_t i = 0; i < old.size; i++) {
        if (!old.slot[i].count) continue;
        size_t at = old.slot[i].hash;
        while (w->slot[at & (w->size - 1)].count) at++;
        w->slot[at & (w->size - 1)] = old.slot[i];
    }
    free(old.slot);
}

static void words_put(Words *w, const uint8_t *p, uint32_t n, uint64_t hash, uint64_t count) {
    if (w->n * 2 >= w->size) words_grow(w);
    for (size_t at = hash;; at++) {
        Word *s = &w->slot[at & (w->size - 1)];
        if (!s->count) {
            *s = (Word){hash, count, w->bytes.n, n};
            str_put(&w->bytes, p, n);
            w->n++;
            return;
        }
        if (s->hash == hash && s->n == n && !memcmp(w->bytes.p + s->at, p, n)) {
            s->count += count;
            return;
        }
    }
}

static void words_free(Words *w) {
    free(w->slot);
    str_free(&w->bytes);
}

static void words_put_text(Words *w, const uint8_t *p, size_t n) {
    if (n > 1) words_put(w, p, (uint32_t)n, hash_piece(p, n), 1); /* a single byte holds no pair */
}

/* Count the pieces of a text. The name of the end-of-text token separates texts; bytes that are not UTF-8
 * teach nothing and are passed over. */
static void count_pieces(Words *w, const uint8_t *p, size_t n) {
    static const char eot[] = "<|endoftext|>";
    while (n) {
        const uint8_t *stop = memmem(p, n, eot, sizeof eot - 1);
        size_t text = stop ? (size_t)(stop - p) : n, valid = tokenizer_valid_prefix(p, text);
        for (size_t i = 0, end[MAX_PIECES]; i < valid;) {
            size_t start = 0;
            int pieces = tokenizer_pieces(p + i, valid - i, end);
            for (int j = 0; j < pieces; start = end[j++]) words_put_text(w, p + i + start, end[j] - start);
            i += start;
        }
        size_t done = valid < text ? valid + 1 : stop ? text + sizeof eot - 1 : n;
        p += done;
        n -= done;
    }
}

enum { BATCH = 4096 };

/* The pieces of all files in words[0]. */
static bool count_files(Words *words, int threads, Docs *docs, const char *key, Err *e) {
    static const size_t per_thread = 4 << 20;
    Doc *doc = xmalloc(BATCH * sizeof *doc);
    bool ok = true;
    for (int n = 1; n && ok;) {
        ok = docs_batch(docs, doc, BATCH, per_thread * (size_t)threads, &n, e);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
        for (int i = 0; i < n; i++) {
            Err mine = {0};
            if (doc_text(&doc[i], key, &mine))
                count_pieces(&words[omp_get_thread_num()], (const uint8_t *)doc[i].text, doc[i].n);
            else
#pragma omp critical
                ok = err_set(e, "%s", mine.msg);
            free(doc[i].text);
        }
    }
    free(doc);
    for (int i = 1; i < threads && ok; i++)
        for (size_t j = 0; j < words[i].size; j++) {
            const Word *s = &words[i].slot[j];
            if (s->count)
                words_put(words, (const uint8_t *)words[i].bytes.p + s->at, s->n, s->hash, s->count);
        }
    return ok;
}

/* ---- merging ----------------------------------------------------------------------------------------------
 * All distinct pieces stand in one array of symbols, a list linked both ways, a stop between pieces. A
 * pair knows where it stands, so a merge touches only what it changes. Every occurrence of a pair comes to
 * be when the younger of its two ids is made, so a pair's places are complete from the start, and its
 * count only falls after that. */

enum { STOP = -1, GONE = -2 };

typedef struct Symbol {
    int32_t id; /* STOP between pieces, GONE when it was merged into the one before */
    uint32_t prev, next;
    uint32_t word;
} Symbol;

typedef struct Pair {
    int32_t left, right; /* left is STOP in an empty slot */
    int64_t count;
    uint32_t *at; /* [n] places of its left halves, ascending; some may be out of date */
    uint32_t n;
} Pair;

/* A pair on the heap; `count` is what it was when it was put there, at least what it is now. */
typedef struct Candidate {
    int64_t count;
    int32_t left, right;
} Candidate;

/* A pair that the merge in progress has made, by the id beside the new one. */
typedef struct Fresh {
    int32_t other;
    uint32_t at;
    bool right; /* the other stands to the right */
} Fresh;

typedef struct Trainer {
    Symbol *symbol;
    size_t n_symbols;
    int64_t *count; /* of each word */
    Pair *pair;     /* [n_slots] open-addressing table */
    size_t n_pairs, n_slots;
    Candidate *heap;
    size_t n_heap, heap_cap;
    Fresh *fresh;
    size_t n_fresh, fresh_cap;
    int64_t *fresh_count[2]; /* [vocab_size] by the other id; [1]: it stands to the right */
    uint32_t *fresh_n[2];
} Trainer;

static bool before(Candidate a, Candidate b) {
    if (a.count != b.count) return a.count > b.count;
    return a.left != b.left ? a.left < b.left : a.right < b.right;
}

static void heap_put(Trainer *r, Candidate c) {
    if (r->n_heap == r->heap_cap)
        r->heap = xrealloc(r->heap, (r->heap_cap = r->heap_cap * 2 + 1024) * sizeof *r->heap);
    size_t i = r->n_heap++;
    for (; i && before(c, r->heap[(i - 1) / 2]); i = (i - 1) / 2) r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = c;
}

static Candidate heap_take(Trainer *r) {
    Candidate top = r->heap[0], c = r->heap[--r->n_heap];
    size_t i = 0;
    for (size_t kid; (kid = 2 * i + 1) < r->n_heap; i = kid) {
        kid += kid + 1 < r->n_heap && before(r->heap[kid + 1], r->heap[kid]);
        if (!before(r->heap[kid], c)) break;
        r->heap[i] = r->heap[kid];
    }
    r->heap[i] = c;
    return top;
}

static Pair *find_pair(const Trainer *r, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    for (h ^= h >> 32;; h++) {
        Pair *p = &r->pair[h & (r->n_slots - 1)];
        if (p->left == STOP || (p->left == left && p->right == right)) return p;
    }
}

static void grow_pairs(Trainer *r) {
    Pair *old = r->pair;
    size_t n = r->n_slots;
    r->n_slots = n ? n * 2 : 1 << 12;
    r->pair = xmalloc(r->n_slots * sizeof *r->pair);
    for (size_t i = 0; i < r->n_slots; i++) r->pair[i].left = STOP;
    for (size_t i = 0; i < n; i++)
        if (old[i].left != STOP) *find_pair(r, old[i].left, old[i].right) = old[i];
    free(old);
}

/* A new pair, with room for the `places` where it stands. */
static Pair *add_pair(Trainer *r, int32_t left, int32_t right, int64_t count, uint32_t places) {
    if (r->n_pairs * 2 >= r->n_slots) grow_pairs(r);
    Pair *p = find_pair(r, left, right);
    CHECK(p->left == STOP, "the pair %d %d is made twice", left, right);
    *p = (Pair){left, right, count, xmalloc(places * sizeof *p->at), 0};
    r->n_pairs++;
    heap_put(r, (Candidate){count, left, right});
    return p;
}

/* Lay the words out as symbols. */
static bool lay_out(Trainer *r, const Words *w, const int32_t id_of[256], Err *e) {
    r->n_symbols = w->bytes.n + w->n + 1;
    if (r->n_symbols >= UINT32_MAX)
        return err_set(e, "the files hold %zu bytes of distinct words, more than can be trained on at once",
                       w->bytes.n);
    r->symbol = xmalloc(r->n_symbols * sizeof *r->symbol);
    r->count = xmalloc(w->n * sizeof *r->count);
    uint32_t at = 0, word = 0;
    for (size_t i = 0; i < w->size; i++) {
        const Word *s = &w->slot[i];
        if (!s->count) continue;
        r->symbol[at++].id = STOP;
        for (uint32_t j = 0; j < s->n; j++, at++)
            r->symbol[at] = (Symbol){id_of[(uint8_t)w->bytes.p[s->at + j]], at - 1, at + 1, word};
        r->count[word++] = (int64_t)s->count;
    }
    r->symbol[at].id = STOP;
    return true;
}

/* The pairs of bytes, with their counts and places. */
static void first_pairs(Trainer *r) {
    int64_t *count = xcalloc(256 * 256, sizeof *count);
    uint32_t *places = xcalloc(256 * 256, sizeof *places);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i + 1 < r->n_symbols; i++) {
            int32_t left = r->symbol[i].id, right = r->symbol[i + 1].id;
            if (left == STOP || right == STOP) continue;
            Pair *p = pass ? find_pair(r, left, right) : NULL;
            if (pass)
                p->at[p->n++] = i;
            else
                count[left * 256 + right] += r->count[r->symbol[i].word], places[left * 256 + right]++;
        }
        for (int i = 0; i < 256 * 256 && pass == 0; i++)
            if (places[i]) add_pair(r, i / 256, i % 256, count[i], places[i]);
    }
    free(count);
    free(places);
}

/* The pair (left, right) has come to stand at `at`: one of them is the id that is being made. */
static void note_fresh(Trainer *r, int32_t id, int32_t left, int32_t right, uint32_t at, int64_t count) {
    if (r->n_fresh == r->fresh_cap)
        r->fresh = xrealloc(r->fresh, (r->fresh_cap = r->fresh_cap * 2 + 1024) * sizeof *r->fresh);
    bool is_right = left == id;
    int32_t other = is_right ? right : left;
    r->fresh[r->n_fresh++] = (Fresh){other, at, is_right};
    r->fresh_count[is_right][other] += count;
    r->fresh_n[is_right][other]++;
}

/* One occurrence of (left, right) is no more. If the pair was made by this merge, at the occurrence just
 * before, its left is the new id. */
static void forget(Trainer *r, int32_t id, int32_t left, int32_t right, int64_t count) {
    if (left == id)
        r->fresh_count[1][right] -= count;
    else
        find_pair(r, left, right)->count -= count;
}

/* Merge one occurrence, at symbol a, into id. */
static void merge_at(Trainer *r, uint32_t at, int32_t id) {
    Symbol *a = &r->symbol[at], *b = &r->symbol[a->next];
    const Symbol *x = &r->symbol[a->prev], *y = &r->symbol[b->next];
    int64_t count = r->count[a->word];
    if (x->id != STOP) {
        forget(r, id, x->id, a->id, count);
        note_fresh(r, id, x->id, id, a->prev, count);
    }
    if (y->id != STOP) {
        forget(r, id, b->id, y->id, count);
        note_fresh(r, id, id, y->id, at, count);
        r->symbol[b->next].prev = at;
    }
    a->id = id;
    a->next = b->next;
    b->id = GONE;
}

/* The pairs that the merge has made go on the heap. */
static void add_fresh(Trainer *r, int32_t id) {
    for (size_t i = 0; i < r->n_fresh; i++) {
        Fresh f = r->fresh[i];
        if (r->fresh_count[f.right][f.other] <= 0) continue;
        int32_t left = f.right ? id : f.other, right = f.right ? f.other : id;
        Pair *p = find_pair(r, left, right);
        if (p->left == STOP)
            p = add_pair(r, left, right, r->fresh_count[f.right][f.other], r->fresh_n[f.right][f.other]);
        p->at[p->n++] = f.at;
    }
    for (size_t i = 0; i < r->n_fresh; i++) {
        Fresh f = r->fresh[i];
        r->fresh_count[f.right][f.other] = 0;
        r->fresh_n[f.right][f.other] = 0;
    }
    r->n_fresh = 0;
}

/* Make the next merge; false when no pair is left. */
static bool next_merge(Trainer *r, Tokenizer *t) {
    Candidate top;
    Pair *p;
    do {
        if (!r->n_heap) return false;
        top = heap_take(r);
        p = find_pair(r, top.left, top.right);
        if (p->count != top.count && p->count > 0) heap_put(r, (Candidate){p->count, top.left, top.right});
    } while (p->count != top.count || top.count <= 0);
    Str s = {0};
    for (int i = 0; i < 2; i++) {
        Bytes half = tokenizer_token(t, i ? top.right : top.left);
        str_put(&s, half.p, half.n);
    }
    /* No two merges make the same bytes: a part of an encoding is the encoding of that part, so where these
     * bytes stand they have already been merged the first way. */
    CHECK(tokenizer_find(t, s.p, s.n) < 0, "two merges make %s", s.p);
    int32_t id = tokenizer_add(t, s.p, s.n);
    str_free(&s);
    tokenizer_add_merge(t, top.left, top.right, id);
    for (uint32_t i = 0; i < p->n; i++) {
        const Symbol *a = &r->symbol[p->at[i]];
        if (a->id == top.left && r->symbol[a->next].id == top.right) merge_at(r, p->at[i], id);
    }
    free(p->at);
    p->at = NULL;
    p->n = 0;
    add_fresh(r, id);
    return true;
}

static void trainer_free(Trainer *r) {
    for (size_t i = 0; i < r->n_slots; i++)
        if (r->pair[i].left != STOP) free(r->pair[i].at);
    for (int i = 0; i < 2; i++) free(r->fresh_count[i]), free(r->fresh_n[i]);
    free(r->symbol);
    free(r->count);
    free(r->pair);
    free(r->heap);
    free(r->fresh);
}

static bool learn(Tokenizer *t, const Words *words, int32_t vocab_size, Err *e) {
    uint8_t order[256];
    int32_t id_of[256];
    Trainer r = {0};
    tokenizer_byte_order(order);
    for (int id = 0; id < 256; id++) id_of[order[id]] = tokenizer_add(t, &(char){(char)order[id]}, 1);
    for (int i = 0; i < 2; i++) {
        r.fresh_count[i] = xcalloc((size_t)vocab_size, sizeof **r.fresh_count);
        r.fresh_n[i] = xcalloc((size_t)vocab_size, sizeof **r.fresh_n);
    }
    bool ok = lay_out(&r, words, id_of, e);
    if (ok) {
        grow_pairs(&r);
        first_pairs(&r);
        while (t->n < vocab_size - 1 && next_merge(&r, t)) continue;
        t->eot = tokenizer_add(t, "<|endoftext|>", 13);
        tokenizer_add_special(t, t->eot);
        ok = tokenizer_finish(t, "the tokenizer just trained", e);
    }
    trainer_free(&r);
    return ok;
}

Tokenizer *tokenizer_train(const char *const *files, int n_files, const char *key, int32_t vocab_size,
                           int threads, Err *e) {
    enum { FEWEST = 257, MOST = MAX_IDS };
    Docs docs;
    if (vocab_size < FEWEST || vocab_size > MOST) {
        err_usage(e, "a vocabulary of %d: it must have %d (the bytes and <|endoftext|>) to %d entries",
                  vocab_size, FEWEST, MOST);
        return NULL;
    }
    if (threads <= 0) threads = omp_get_max_threads();
    if (!docs_open(&docs, files, n_files, e)) return NULL;
    Words *words = xcalloc((size_t)threads, sizeof *words);
    Tokenizer *t = tokenizer_new();
    bool ok = count_files(words, threads, &docs, key ? key : "text", e) && learn(t, words, vocab_size, e);
    docs_close(&docs);
    for (int i = 0; i < threads; i++) words_free(&words[i]);
    free(words);
    if (ok) return t;
    tokenizer_free(t);
    return NULL;
}
