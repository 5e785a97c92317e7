/* tokenizer.c - floor 2: byte-level BPE (Radford et al. 2019, section 2.2): text to ids and back.
 *
 * Text is cut into pieces by GPT-2's pattern, and each piece, taken as bytes, is merged: of all adjacent pairs
 * that the merge list names, the one of lowest rank, leftmost first, until none is left (Sennrich et al. 2016).
 * Few pieces are new, so a cache answers for most of them. */
#include "tokenizer_impl.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- the scanner -----------------------------------------------------------------------------------------
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+                                  */

/* Class and length of the character at p; the text is valid UTF-8. */
static inline int class_at(const uint8_t *p, int *length) {
    uint32_t c = p[0];
    if (c < 0x80) return *length = 1, unicode_class(c);
    if (c < 0xe0) return *length = 2, unicode_class((c & 0x1f) << 6 | (p[1] & 0x3f));
    if (c < 0xf0) return *length = 3, unicode_class((c & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3f));
    return *length = 4,
           unicode_class((c & 7) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3f));
}

/* Length of the contraction at p, which holds an apostrophe; 0 if there is none. */
static size_t scan_contraction(const uint8_t *p, size_t n) {
    if (n > 1 && (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd')) return 2;
    if (n > 2 &&
        ((p[1] == 'r' && p[2] == 'e') || (p[1] == 'v' && p[2] == 'e') || (p[1] == 'l' && p[2] == 'l')))
        return 3;
    return 0;
}

/* White space runs to its end at the end of the text; before a word it leaves its last character behind,
 * unless that is all there is. */
static size_t scan_space(const uint8_t *p, size_t n) {
    size_t end = 0, last = 0;
    for (int length; end < n && class_at(p + end, &length) == UNICODE_SPACE; end += (size_t)length)
        last = end;
    return end < n && last > 0 ? last : end;
}

size_t tokenizer_piece(const uint8_t *p, size_t n) {
    size_t end = p[0] == '\'' ? scan_contraction(p, n) : 0;
    if (end) return end;
    end = p[0] == ' ' && n > 1;
    int length, kind = class_at(p + end, &length);
    if (kind == UNICODE_SPACE) return scan_space(p, n);
    do end += (size_t)length;
    while (end < n && class_at(p + end, &length) == kind);
    return end;
}

/* Unicode 16, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
static size_t character(const uint8_t *p, size_t n) {
    if (p[0] < 0x80) return 1;
    size_t length = p[0] >= 0xc2 && p[0] <= 0xdf   ? 2
                    : (p[0] & 0xf0) == 0xe0        ? 3
                    : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                   : 0;
    if (!length || length > n) return 0;
    uint8_t lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) return 0;
    for (size_t i = 2; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    return length;
}

size_t tokenizer_valid_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (n - i >= 8 && (memcpy(&eight, p + i, 8), (eight & 0x8080808080808080u) == 0)) i += 8;
        if (i == n) break;
        size_t length = character(p + i, n - i);
        if (!length) break;
        i += length;
    }
    return i;
}

/* ---- a tokenizer from its parts --------------------------------------------------------------------------- */

void ids_free(Ids *ids) {
    free(ids->id);
    *ids = (Ids){0};
}

static void ids_reserve(Ids *ids, size_t more) {
    if (ids->cap - ids->n >= more) return;
    ids->cap = ids->cap * 2 > ids->n + more ? ids->cap * 2 : ids->n + more;
    ids->id = xrealloc(ids->id, ids->cap * sizeof *ids->id);
}

void tokenizer_byte_order(uint8_t order[256]) {
    int n = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int b = 0; b < 256; b++) {
            bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
            if (printable == (pass == 0)) order[n++] = (uint8_t)b;
        }
}

Tokenizer *tokenizer_new(void) {
    Tokenizer *t = xcalloc(1, sizeof *t);
    t->start = xcalloc(1, sizeof *t->start);
    t->eot = -1;
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

int32_t tokenizer_size(const Tokenizer *t) {
    return t->n;
}

int32_t tokenizer_eot(const Tokenizer *t) {
    return t->eot;
}

const char *tokenizer_bytes(const Tokenizer *t, int32_t id, size_t *n) {
    if (id < 0 || id >= t->n) return *n = 0, NULL;
    Bytes b = tokenizer_token(t, id);
    *n = b.n;
    return b.p;
}

static uint64_t hash_bytes(const char *p, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 32;
    return h;
}

/* The slot of these bytes: theirs, or the empty one where they would go. */
static int32_t *find_slot(const Tokenizer *t, const char *bytes, size_t n) {
    for (uint64_t h = hash_bytes(bytes, n);; h++) {
        int32_t *slot = &t->find[h & (t->find_size - 1)];
        if (*slot < 0) return slot;
        Bytes b = tokenizer_token(t, *slot);
        if (b.n == n && !memcmp(b.p, bytes, n)) return slot;
    }
}

int32_t tokenizer_find(const Tokenizer *t, const char *bytes, size_t n) {
    return t->find_size ? *find_slot(t, bytes, n) : -1;
}

static void find_grow(Tokenizer *t) {
    t->find_size = t->find_size ? t->find_size * 2 : 1024;
    t->find = xrealloc(t->find, t->find_size * sizeof *t->find);
    memset(t->find, -1, t->find_size * sizeof *t->find);
    for (int32_t id = 0; id < t->n; id++) {
        Bytes b = tokenizer_token(t, id);
        *find_slot(t, b.p, b.n) = id;
    }
}

int32_t tokenizer_add(Tokenizer *t, const char *bytes, size_t n) {
    if ((uint32_t)t->n >= t->find_size / 2) find_grow(t);
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 512;
        t->start = xrealloc(t->start, ((size_t)t->cap + 1) * sizeof *t->start);
    }
    str_put(&t->bytes, bytes, n);
    *find_slot(t, bytes, n) = t->n;
    t->start[++t->n] = t->bytes.n;
    return t->n - 1;
}

void tokenizer_add_special(Tokenizer *t, int32_t id) {
    size_t n = tokenizer_token(t, id).n;
    int32_t at = t->n_special++;
    t->special = xrealloc(t->special, (size_t)t->n_special * sizeof *t->special);
    for (; at > 0 && tokenizer_token(t, t->special[at - 1]).n < n; at--) t->special[at] = t->special[at - 1];
    t->special[at] = id;
}

void tokenizer_add_merge(Tokenizer *t, int32_t left, int32_t right, int32_t id) {
    if ((t->n_merges & (t->n_merges - 1)) == 0)
        t->merge = xrealloc(t->merge, (t->n_merges ? 2 * (size_t)t->n_merges : 1) * sizeof *t->merge);
    t->merge[t->n_merges++] = (Merge){left, right, id};
}

void tokenizer_free(Tokenizer *t) {
    if (!t) return;
    for (Cache *c = t->idle, *next; c; c = next) next = *(Cache **)c, free(c);
    pthread_mutex_destroy(&t->lock);
    str_free(&t->bytes);
    free(t->start);
    free(t->find);
    free(t->merge);
    free(t->special);
    free(t->pair);
    free(t);
}

static inline PairSlot *pair_slot(const Tokenizer *t, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)left << 32 | (uint32_t)right, mask = ((uint64_t)1 << t->pair_bits) - 1;
    uint64_t h = (key * 0x9e3779b97f4a7c15u) >> (64 - t->pair_bits);
    while (t->pair[h].rank != NO_RANK && t->pair[h].key != key) h = (h + 1) & mask;
    return &t->pair[h];
}

static bool make_pairs(Tokenizer *t, const char *name, Err *e) {
    t->pair_bits = 4;
    while ((int64_t)1 << t->pair_bits < 2 * (int64_t)t->n_merges) t->pair_bits++;
    t->pair = xmalloc(sizeof *t->pair << t->pair_bits);
    memset(t->pair, -1, sizeof *t->pair << t->pair_bits);
    for (int32_t rank = 0; rank < t->n_merges; rank++) {
        Merge m = t->merge[rank];
        PairSlot *s = pair_slot(t, m.left, m.right);
        if (s->rank != NO_RANK)
            return err_set(e, "%s: merge %d is the same as merge %u; each pair may be listed once", name,
                           rank + 1, s->rank + 1);
        *s = (PairSlot){(uint64_t)m.left << 32 | (uint32_t)m.right, (uint32_t)rank, m.id};
    }
    return true;
}

/* Every byte needs an id, and every longer token a merge that makes it: what no merge makes was either cut off
 * the merge list or is a special token that the files do not declare. */
static bool check_tokens(Tokenizer *t, const char *name, Err *e) {
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        t->byte_id[b] = tokenizer_find(t, &byte, 1);
        if (t->byte_id[b] < 0)
            return err_set(e, "%s: no token for the byte 0x%02x; all 256 are needed", name, b);
    }
    uint8_t *made = xcalloc((size_t)t->n, 1);
    for (int32_t i = 0; i < t->n_merges; i++) made[t->merge[i].id] = 1;
    for (int32_t i = 0; i < t->n_special; i++) made[t->special[i]] = 1;
    bool ok = true;
    for (int32_t id = 0; id < t->n && ok; id++) {
        Bytes b = tokenizer_token(t, id);
        if (b.n > 1 && !made[id])
            ok = err_set(
                e,
                "%s: no merge makes the token \"%.*s\" (id %d), nor is it declared as a special token; "
                "is the list of merges cut short?",
                name, (int)(b.n < 64 ? b.n : 64), b.p, id);
    }
    free(made);
    return ok;
}

bool tokenizer_finish(Tokenizer *t, const char *name, Err *e) {
    if (!check_tokens(t, name, e) || !make_pairs(t, name, e)) return false;
    for (int32_t i = 0; i < t->n_merges; i++) {
        Bytes b = tokenizer_token(t, t->merge[i].id);
        const uint8_t *p = (const uint8_t *)b.p;
        for (size_t j = 0; j + 1 < b.n; j++)
            t->joins[(p[j] << 8 | p[j + 1]) / 8] |= (uint8_t)(1 << p[j + 1] % 8);
    }
    return true;
}

/* ---- merging one piece ------------------------------------------------------------------------------------ */

enum { SHORT_PIECE = 48 };

/* A short piece: look at every pair each time. Returns how many ids are left in id[0..n). */
static int merge_short(const Tokenizer *t, int32_t *id, int n) {
    PairSlot pair[SHORT_PIECE]; /* what merging id[i] and id[i + 1] would give */
    for (int i = 0; i + 1 < n; i++) pair[i] = *pair_slot(t, id[i], id[i + 1]);
    while (n > 1) {
        int best = 0;
        for (int i = 1; i + 1 < n; i++)
            if (pair[i].rank < pair[best].rank) best = i;
        if (pair[best].rank == NO_RANK) break;
        id[best] = pair[best].id;
        n--;
        memmove(id + best + 1, id + best + 2, (size_t)(n - best - 1) * sizeof *id);
        memmove(pair + best, pair + best + 1, (size_t)(n - best) * sizeof *pair);
        if (best > 0) pair[best - 1] = *pair_slot(t, id[best - 1], id[best]);
        if (best + 1 < n) pair[best] = *pair_slot(t, id[best], id[best + 1]);
    }
    return n;
}

/* A binary heap of rank << 32 | position, smallest on top. */
typedef struct Heap {
    uint64_t *at;
    size_t n, cap;
} Heap;

static void heap_push(Heap *h, uint64_t v) {
    if (h->n == h->cap) h->at = xrealloc(h->at, (h->cap = h->cap * 2 + 1024) * sizeof *h->at);
    size_t i = h->n++;
    for (; i && h->at[(i - 1) / 2] > v; i = (i - 1) / 2) h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = v;
}

static uint64_t heap_pop(Heap *h) {
    uint64_t top = h->at[0], v = h->at[--h->n];
    size_t i = 0;
    for (size_t kid; (kid = 2 * i + 1) < h->n; i = kid) {
        kid += kid + 1 < h->n && h->at[kid + 1] < h->at[kid];
        if (h->at[kid] >= v) break;
        h->at[i] = h->at[kid];
    }
    h->at[i] = v;
    return top;
}

/* A long piece: a heap of pairs over a linked list, O(n log n). A heap entry is stale, and skipped, when the
 * pair at its position no longer has its rank. */
static size_t merge_long(const Tokenizer *t, int32_t *id, size_t n) {
    CHECK(n < UINT32_MAX, "a piece of %zu bytes without a place to cut it", n);
    uint32_t *next = xmalloc((n + 1) * sizeof *next), *prev = xmalloc((n + 1) * sizeof *prev);
    Heap heap = {0};
    for (size_t i = 0; i <= n; i++) next[i] = (uint32_t)i + 1, prev[i] = (uint32_t)i - 1;
    for (size_t i = 0; i + 1 < n; i++) {
        uint32_t rank = pair_slot(t, id[i], id[i + 1])->rank;
        if (rank != NO_RANK) heap_push(&heap, (uint64_t)rank << 32 | i);
    }
    while (heap.n) {
        uint64_t top = heap_pop(&heap);
        uint32_t at = (uint32_t)top, right = next[at];
        if (id[at] < 0 || right >= n) continue;
        const PairSlot *pair = pair_slot(t, id[at], id[right]);
        if (pair->rank != top >> 32) continue;
        id[at] = pair->id;
        id[right] = -1;
        next[at] = next[right];
        prev[next[right]] = at;
        uint32_t before = prev[at], rank;
        if (at && (rank = pair_slot(t, id[before], id[at])->rank) != NO_RANK)
            heap_push(&heap, (uint64_t)rank << 32 | before);
        if (next[at] < n && (rank = pair_slot(t, id[at], id[next[at]])->rank) != NO_RANK)
            heap_push(&heap, (uint64_t)rank << 32 | at);
    }
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        if (id[i] >= 0) id[left++] = id[i];
    free(next);
    free(prev);
    free(heap.at);
    return left;
}

/* Merge p[0..n) as one piece, whatever its length. Where no token holds two neighbouring bytes no merge can
 * cross, so a long piece falls into parts. */
static void encode_piece(const Tokenizer *t, const uint8_t *p, size_t n, Ids *out) {
    while (n) {
        size_t part = n;
        if (n > SHORT_PIECE)
            for (part = 1; part < n && t->joins[(p[part - 1] << 8 | p[part]) / 8] >> p[part] % 8 & 1;) part++;
        ids_reserve(out, part);
        int32_t *id = out->id + out->n;
        for (size_t i = 0; i < part; i++) id[i] = t->byte_id[p[i]];
        out->n += part <= SHORT_PIECE ? (size_t)merge_short(t, id, (int)part) : merge_long(t, id, part);
        p += part;
        n -= part;
    }
}

/* ---- the cache ---------------------------------------------------------------------------------------------
 * Direct-mapped: a piece of up to 15 bytes that becomes up to 3 ids has one slot; the last one in stays. */

enum { CACHE_BITS = 16, CACHE_KEY = 15, CACHE_IDS = 3 };

typedef struct CacheSlot {
    uint64_t key[2]; /* the bytes, zeros, and in the last byte their number */
    int32_t id[CACHE_IDS];
    uint32_t n;
} CacheSlot;

struct Cache {
    Cache *next; /* idle */
    CacheSlot slot[1 << CACHE_BITS];
};

static Cache *cache_take(const Tokenizer *t) {
    Tokenizer *mine = (Tokenizer *)t; /* the pool is the one thing that encoding changes */
    pthread_mutex_lock(&mine->lock);
    Cache *c = mine->idle;
    if (c) mine->idle = c->next;
    pthread_mutex_unlock(&mine->lock);
    return c ? c : xcalloc(1, sizeof *c);
}

static void cache_give(const Tokenizer *t, Cache *c) {
    Tokenizer *mine = (Tokenizer *)t;
    pthread_mutex_lock(&mine->lock);
    c->next = mine->idle;
    mine->idle = c;
    pthread_mutex_unlock(&mine->lock);
}

static CacheSlot *cache_slot(Cache *c, const uint64_t key[2]) {
    unsigned __int128 product =
        (unsigned __int128)(key[0] ^ 0x9e3779b97f4a7c15u) * (key[1] ^ 0xd1b54a32d192ed03u);
    uint64_t h = (uint64_t)(product >> 64) ^ (uint64_t)product;
    return &c->slot[h >> (64 - CACHE_BITS)];
}

static void encode_cached(const Tokenizer *t, Cache *c, const uint8_t *p, size_t n, Ids *out) {
    if (n > CACHE_KEY) {
        encode_piece(t, p, n, out);
        return;
    }
    uint64_t key[2] = {0, (uint64_t)n << 56};
    memcpy(key, p, n);
    CacheSlot *s = cache_slot(c, key);
    if (s->key[0] != key[0] || s->key[1] != key[1]) {
        size_t was = out->n;
        encode_piece(t, p, n, out);
        if (out->n - was > CACHE_IDS) return;
        *s = (CacheSlot){.key = {key[0], key[1]}, .n = (uint32_t)(out->n - was)};
        memcpy(s->id, out->id + was, s->n * sizeof *s->id);
        return;
    }
    ids_reserve(out, CACHE_IDS);
    memcpy(out->id + out->n, s->id, sizeof s->id);
    out->n += s->n;
}

/* ---- encode ------------------------------------------------------------------------------------------------ */

/* Append the ids of valid UTF-8; returns where in *out the last piece's begin. */
static size_t encode_text(const Tokenizer *t, Cache *c, const uint8_t *p, size_t n, Ids *out) {
    size_t last = out->n;
    for (size_t i = 0, length; i < n; i += length) {
        length = tokenizer_piece(p + i, n - i);
        last = out->n;
        encode_cached(t, c, p + i, length, out);
    }
    return last;
}

static bool all_blank(const Tokenizer *t, int32_t id) {
    Bytes b = tokenizer_token(t, id);
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] != ' ' && b.p[i] != '\n' && b.p[i] != '\t') return false;
    return true;
}

/* Any bytes, as tiktoken's _encode_bytes takes them: text up to the first byte that is not UTF-8 is encoded as
 * text; then its last piece (with the blank tokens before it, if it begins with one) and everything that
 * follows are merged as one piece. */
static void encode_bytes(const Tokenizer *t, Cache *c, const uint8_t *p, size_t n, Ids *out) {
    size_t valid = tokenizer_valid_prefix(p, n), first = out->n;
    size_t keep = encode_text(t, c, p, valid, out);
    if (valid == n) return;
    if (keep < out->n && all_blank(t, out->id[keep]))
        while (keep > first && all_blank(t, out->id[keep - 1])) keep--;
    for (; out->n > keep; out->n--) valid -= tokenizer_token(t, out->id[out->n - 1]).n;
    encode_piece(t, p + valid, n - valid, out);
}

/* The first special token in p[at..n): its id and place, or -1. */
static int32_t next_special(const Tokenizer *t, const char *p, size_t at, size_t n, size_t *where) {
    bool first[256] = {0};
    for (int32_t i = 0; i < t->n_special; i++) first[(uint8_t)t->bytes.p[t->start[t->special[i]]]] = true;
    for (; at < n; at++) {
        if (!first[(uint8_t)p[at]]) continue;
        for (int32_t i = 0; i < t->n_special; i++) {
            Bytes name = tokenizer_token(t, t->special[i]);
            if (name.n > n - at || memcmp(p + at, name.p, name.n)) continue;
            *where = at;
            return t->special[i];
        }
    }
    *where = n;
    return -1;
}

bool tokenizer_encode(const Tokenizer *t, const char *text, size_t n, SpecialMode mode, Ids *out, Err *e) {
    Cache *c = cache_take(t);
    bool ok = true;
    for (size_t at = 0, where = n; at < n && ok;) {
        int32_t id = mode == SPECIAL_TEXT ? -1 : next_special(t, text, at, n, &where);
        if (id >= 0 && mode == SPECIAL_REFUSE) {
            Bytes name = tokenizer_token(t, id);
            ok = err_set(
                e,
                "the text holds the special token %.*s at byte %zu; allow it to be split off, or have "
                "it taken as plain text",
                (int)name.n, name.p, where);
            break;
        }
        encode_bytes(t, c, (const uint8_t *)text + at, where - at, out);
        at = where;
        if (id < 0) continue;
        ids_reserve(out, 1);
        out->id[out->n++] = id;
        at += t->start[id + 1] - t->start[id];
    }
    cache_give(t, c);
    return ok;
}

bool tokenizer_decode(const Tokenizer *t, const int32_t *ids, size_t n, Str *out, Err *e) {
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *p = tokenizer_bytes(t, ids[i], &length);
        if (!p) return err_set(e, "id %d (number %zu) is not in the vocabulary of %d", ids[i], i + 1, t->n);
        str_put(out, p, length);
    }
    return true;
}
