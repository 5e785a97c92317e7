/* tokenizer.c - floor 2: byte-level BPE (Radford et al. 2019, section 2.2): text to ids and back.
 *
 * Text is cut into pieces by GPT-2's pattern, and each piece, taken as bytes, is merged: of all adjacent
 * pairs that the merge list names, the one of lowest rank, leftmost first, until none is left (Sennrich et
 * al. 2016). Few pieces are new, so a cache answers for most of them. */
#include "tokenizer_impl.h"
#include "unicode.h"

#include <stdlib.h>
#include <string.h>

/* ---- the scanner -----------------------------------------------------------------------------------------
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */

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

/* Sixty-four bytes at a time: a bit for each byte, and what starts a piece is a matter of shifts. The
 * vectors are the compiler's, so this is the same on every machine. */
typedef uint8_t Bytes64 __attribute__((vector_size(64)));
typedef uint64_t Words8 __attribute__((vector_size(64)));
typedef uint8_t Bytes8 __attribute__((vector_size(8)));

/* Bit i: byte i of a comparison's result, 0 or 0xff. */
static inline uint64_t bits(const Bytes64 *v) {
    enum { A = 1, B = 2, C = 4, D = 8, E = 16, F = 32, G = 64, H = 128 };
    static const Bytes64 weight = {A, B, C, D, E, F, G, H, A, B, C, D, E, F, G, H, A, B, C, D, E, F,
                                   G, H, A, B, C, D, E, F, G, H, A, B, C, D, E, F, G, H, A, B, C, D,
                                   E, F, G, H, A, B, C, D, E, F, G, H, A, B, C, D, E, F, G, H};
    Words8 w = (Words8)(*v & weight);
    w |= w >> 32;
    w |= w >> 16;
    w |= w >> 8;
    Bytes8 low = __builtin_convertvector(w, Bytes8);
    uint64_t out;
    memcpy(&out, &low, 8);
    return out;
}

/* Bits of the bytes in p[0..64) that start a piece, given that p[0] does. Right below bit `known`, which
 * looks at the byte after as well and ends at the first byte that is not ASCII. */
static uint64_t piece_starts(const uint8_t *p, int *known) {
    Bytes64 v;
    memcpy(&v, p, 64);
    const Bytes64 is_wide = (Bytes64)(v >= 0x80), is_blank = (Bytes64)(v == ' '),
                  is_quote = (Bytes64)(v == '\'');
    const Bytes64 is_letter = (Bytes64)((v | 0x20) - 'a' < 26), is_number = (Bytes64)(v - '0' < 10);
    const Bytes64 is_space = is_blank | (Bytes64)(v - '\t' < 5);
    uint64_t wide = bits(&is_wide), blank = bits(&is_blank), space = bits(&is_space);
    uint64_t letter = bits(&is_letter), number = bits(&is_number), other = ~(letter | number | space);
    uint64_t runs_on = (letter & letter << 1) | (number & number << 1) | (other & other << 1);
    *known = (wide ? __builtin_ctzll(wide) : 64) - 1;
    /* White space starts a piece after a word, and so does its last character before one; a word, unless a
     * blank stands before it. */
    uint64_t starts = (space & (~space << 1 | ~space >> 1)) | (~space & ~(blank << 1) & ~runs_on);
    for (uint64_t a = starts & bits(&is_quote); a; a &= a - 1) {
        int at = __builtin_ctzll(a);
        size_t length = at < *known ? scan_contraction(p + at, (size_t)(64 - at)) : 0;
        if (length) starts = (starts & ~((uint64_t)2 << at)) | (uint64_t)1 << at << length;
    }
    return starts;
}

int tokenizer_pieces(const uint8_t *p, size_t n, size_t end[MAX_PIECES]) {
    int pieces = 0;
    if (n >= 64 && p[0] < 0x80 && p[1] < 0x80) {
        int known;
        uint64_t starts = piece_starts(p, &known);
        for (starts &= ((uint64_t)1 << known) - 2; starts; starts &= starts - 1)
            end[pieces++] = (size_t)__builtin_ctzll(starts);
    }
    if (!pieces) end[pieces++] = tokenizer_piece(p, n);
    return pieces;
}

/* Unicode 16, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF. */
size_t tokenizer_character(const uint8_t *p, size_t n) {
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
        size_t length = tokenizer_character(p + i, n - i);
        if (!length) break;
        i += length;
    }
    return i;
}

/* ---- a tokenizer from its parts ------------------------------------------------------------------------ */

void ids_free(Ids *ids) {
    free(ids->id);
    *ids = (Ids){0};
}

void ids_reserve(Ids *ids, size_t more) {
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
    const size_t *start = t->shown_start ? t->shown_start : t->start;
    *n = start[id + 1] - start[id];
    return (t->shown_start ? t->shown.p : t->bytes.p) + start[id];
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
    uint8_t first = (uint8_t)*tokenizer_token(t, id).p;
    t->lead = t->n_special == 1 || t->lead == first ? first : -1;
    t->leads[first] = true;
}

void tokenizer_add_merge(Tokenizer *t, int32_t left, int32_t right, int32_t id) {
    if ((t->n_merges & (t->n_merges - 1)) == 0)
        t->merge = xrealloc(t->merge, (t->n_merges ? 2 * (size_t)t->n_merges : 1) * sizeof *t->merge);
    t->merge[t->n_merges++] = (Merge){left, right, id};
}

/* The rank of left and right side by side, NO_RANK if they do not merge, and the slot that says so. */
static inline uint32_t find_rank(const Tokenizer *t, int32_t left, int32_t right, uint64_t **slot) {
    uint64_t key = (uint64_t)left << ID_BITS | (uint64_t)right;
    uint64_t h = key * 0x9e3779b97f4a7c15u >> (64 - t->pair_bits), mask = ((uint64_t)1 << t->pair_bits) - 1;
    while (t->pair[h] >> RANK_BITS != key && t->pair[h] != UINT64_MAX) h = (h + 1) & mask;
    *slot = &t->pair[h];
    return t->pair[h] & NO_RANK;
}

static inline uint32_t rank_of(const Tokenizer *t, int32_t left, int32_t right) {
    uint64_t *slot;
    return find_rank(t, left, right, &slot);
}

/* So it is where merges were learnt. Then no merge brings up a pair of lower rank than its own. */
static bool are_in_order(const Tokenizer *t) {
    uint8_t *later = xcalloc((size_t)t->n + 1, 1); /* ids that a merge still to come will make */
    bool ok = true;
    for (int32_t i = 0; i < t->n_merges; i++) ok = ok && !later[t->merge[i].id]++;
    for (int32_t i = 0; i < t->n_merges && ok; i++) {
        ok = !later[t->merge[i].left] && !later[t->merge[i].right];
        later[t->merge[i].id] = 0;
    }
    free(later);
    return ok;
}

static bool make_pairs(Tokenizer *t, const char *name, Err *e) {
    t->pair_bits = 4;
    while ((int64_t)1 << t->pair_bits < 2 * (int64_t)t->n_merges) t->pair_bits++;
    t->pair = xmalloc(sizeof *t->pair << t->pair_bits);
    memset(t->pair, -1, sizeof *t->pair << t->pair_bits);
    t->made = xmalloc((size_t)t->n_merges * sizeof *t->made);
    for (int i = 0; i < 256 * 256; i++) t->byte_rank[i] = NO_RANK;
    for (int32_t rank = 0; rank < t->n_merges; rank++) {
        Merge m = t->merge[rank];
        uint64_t *slot;
        uint32_t other = find_rank(t, m.left, m.right, &slot);
        if (other != NO_RANK)
            return err_set(e, "%s: merge %d is the same as merge %u; each pair may be listed once", name,
                           rank + 1, other + 1);
        t->made[rank] = m.id;
        Bytes left = tokenizer_token(t, m.left), right = tokenizer_token(t, m.right);
        if (left.n == 1 && right.n == 1)
            t->byte_rank[(uint8_t)*left.p << 8 | (uint8_t)*right.p] = (uint32_t)rank;
        *slot = ((uint64_t)m.left << ID_BITS | (uint64_t)m.right) << RANK_BITS | (uint64_t)rank;
    }
    t->in_order = are_in_order(t);
    return true;
}

/* Every byte needs an id, and every longer token a merge that makes it: what no merge makes was either cut
 * off the merge list or is a special token that the files do not declare. */
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
    if (t->gpt1) return tokenizer_gpt1_finish(t, name, e) && make_pairs(t, name, e);
    if (!check_tokens(t, name, e) || !make_pairs(t, name, e)) return false;
    for (int32_t i = 0; i < t->n_merges; i++) {
        Bytes b = tokenizer_token(t, t->merge[i].id);
        const uint8_t *p = (const uint8_t *)b.p;
        for (size_t j = 0; j + 1 < b.n; j++)
            t->joins[(p[j] << 8 | p[j + 1]) / 8] |= (uint8_t)(1 << p[j + 1] % 8);
    }
    return true;
}

/* ---- merging one piece --------------------------------------------------------------------------------- */

enum { SHORT_PIECE = 64 };

/* The rank of ids i and i + 1 before anything is merged; p, if any, are the bytes they stand for. */
static inline uint32_t first_rank(const Tokenizer *t, const uint8_t *p, const int32_t *id, size_t i) {
    return p ? t->byte_rank[p[i] << 8 | p[i + 1]] : rank_of(t, id[i], id[i + 1]);
}

/* A short piece: look at every pair each time. Position i holds rank << 6 | i of the pair that starts
 * there, so the least of them is the next merge; all ones where there is none. Returns the number of ids. */
static size_t merge_short(const Tokenizer *t, const uint8_t *p, size_t n, int32_t *id) {
    uint32_t pair[SHORT_PIECE];
    uint8_t next[SHORT_PIECE + 1], prev[SHORT_PIECE + 1];
    size_t padded = (n + 7) & ~(size_t)7;
    for (size_t i = 0; i < padded; i++) pair[i] = UINT32_MAX;
    for (size_t i = 0; i <= n; i++) next[i] = (uint8_t)(i + 1), prev[i] = (uint8_t)(i - 1);
    for (size_t i = 0; i + 1 < n; i++) pair[i] = first_rank(t, p, id, i) << 6 | (uint32_t)i;
    for (;;) {
        uint32_t best = UINT32_MAX;
        for (size_t i = 0; i < padded; i++) best = pair[i] < best ? pair[i] : best;
        if (best >> 6 >= NO_RANK) break;
        uint32_t at = best & 63, gone = next[at], after = next[gone], before = prev[at];
        id[at] = t->made[best >> 6];
        pair[gone] = UINT32_MAX;
        next[at] = (uint8_t)after;
        prev[after] = (uint8_t)at;
        pair[at] = after < n ? rank_of(t, id[at], id[after]) << 6 | at : UINT32_MAX;
        if (at) pair[before] = rank_of(t, id[before], id[at]) << 6 | before;
    }
    size_t left = 0;
    for (size_t i = 0; i < n; i = next[i]) id[left++] = id[i];
    return left;
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

/* A piece between the two: a heap of pairs over a linked list, O(n log n). A heap entry is stale, and skipped, when the
 * pair at its position no longer has its rank. */
static size_t merge_middling(const Tokenizer *t, const uint8_t *p, size_t n, int32_t *id) {
    CHECK(n < UINT32_MAX, "a piece of %zu bytes without a place to cut it", n);
    uint32_t *next = xmalloc((n + 1) * sizeof *next), *prev = xmalloc((n + 1) * sizeof *prev);
    Heap heap = {0};
    for (size_t i = 0; i <= n; i++) next[i] = (uint32_t)i + 1, prev[i] = (uint32_t)i - 1;
    for (size_t i = 0; i + 1 < n; i++) {
        uint64_t rank = first_rank(t, p, id, i);
        if (rank != NO_RANK) heap_push(&heap, rank << 32 | i);
    }
    while (heap.n) {
        uint64_t top = heap_pop(&heap);
        uint32_t at = (uint32_t)top, right = next[at];
        if (id[at] < 0 || right >= n) continue;
        if (rank_of(t, id[at], id[right]) != top >> 32) continue;
        id[at] = t->made[top >> 32];
        id[right] = -1;
        next[at] = next[right];
        prev[next[right]] = at;
        uint32_t before = prev[at], rank;
        if (at && (rank = rank_of(t, id[before], id[at])) != NO_RANK)
            heap_push(&heap, (uint64_t)rank << 32 | before);
        if (next[at] < n && (rank = rank_of(t, id[at], id[next[at]])) != NO_RANK)
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

/* The places of each rank's pairs, as lists in one array. A pair that is gone is found out when its turn comes. */
typedef struct Places {
    uint32_t *first; /* [n_merges]; NOWHERE: none */
    uint64_t *at;    /* place << 32 | the next in its list */
    size_t n;
} Places;
#define NOWHERE UINT32_MAX

static inline void add_place(Places *s, uint32_t rank, uint32_t at) {
    if (rank == NO_RANK) return;
    s->at[s->n] = (uint64_t)at << 32 | s->first[rank];
    s->first[rank] = (uint32_t)s->n++;
}

/* A long piece, of a tokenizer whose merges are in order: rank by rank, in time linear in n. Only pairs of an id with
 * itself can overlap; in a run of that id they are taken from the left. */
static size_t merge_long(const Tokenizer *t, const uint8_t *p, size_t n, int32_t *id) {
    CHECK(n < UINT32_MAX / 3, "a piece of %zu bytes without a place to cut it", n);
    uint32_t *next = xmalloc((n + 1) * sizeof *next), *prev = xmalloc((n + 1) * sizeof *prev);
    Places s = {xmalloc((size_t)t->n_merges * sizeof *s.first), xmalloc(3 * n * sizeof *s.at), 0};
    memset(s.first, -1, (size_t)t->n_merges * sizeof *s.first);
    for (size_t i = 0; i <= n; i++) next[i] = (uint32_t)i + 1, prev[i] = (uint32_t)i - 1;
    for (size_t i = n - 1; i-- > 0;) add_place(&s, first_rank(t, p, id, i), (uint32_t)i);
    for (int32_t rank = 0; rank < t->n_merges; rank++) {
        const int32_t left = t->merge[rank].left, right = t->merge[rank].right;
        for (uint32_t e = s.first[rank]; e != NOWHERE; e = (uint32_t)s.at[e]) {
            uint32_t at = (uint32_t)(s.at[e] >> 32);
            while (left == right && id[at] == left && at && id[prev[at]] == left) at = prev[at];
            while (at < n && id[at] == left && next[at] < n && id[next[at]] == right) {
                const uint32_t gone = next[at], after = next[gone], before = prev[at];
                id[at] = t->made[rank], id[gone] = -1;
                next[at] = after, prev[after] = at;
                if (at) add_place(&s, rank_of(t, id[before], id[at]), before);
                if (after < n) add_place(&s, rank_of(t, id[at], id[after]), at);
                at = after;
                if (left != right) break;
            }
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i = next[i]) id[kept++] = id[i];
    free(next), free(prev), free(s.first), free(s.at);
    return kept;
}

size_t tokenizer_merge(const Tokenizer *t, const uint8_t *p, size_t n, int32_t *id) {
    if (n <= SHORT_PIECE) return merge_short(t, p, n, id);
    const bool is_long =
        n > (size_t)t->n_merges / 4; /* going through all ranks is then little beside the rest */
    return is_long && t->in_order ? merge_long(t, p, n, id) : merge_middling(t, p, n, id);
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
        out->n += tokenizer_merge(t, p, part, id);
        p += part;
        n -= part;
    }
}

/* ---- the cache --------------------------------------------------------------------------------------------
 * Two pieces of up to 15 bytes that become up to 3 ids share a cache line; a third that belongs there
 * takes the place of the one used longer ago. */

enum { CACHE_BITS = 17, CACHE_KEY = 15, CACHE_IDS = 3 };

typedef struct CacheSlot {
    uint64_t key[2]; /* the bytes, zeros, and in the last byte their number */
    int32_t id[CACHE_IDS];
    uint32_t n;
} CacheSlot;

struct Cache {
    Cache *next; /* idle */
    Arena memory;
    CacheSlot (*line)[2]; /* [1 << CACHE_BITS] the one used last is first */
};

static Cache *cache_new(void) {
    Cache *c = xcalloc(1, sizeof *c);
    size_t bytes = sizeof *c->line << CACHE_BITS;
    Err e = {0};
    CHECK(arena_init(&c->memory, bytes, "the tokenizer's cache", &e), "%s", e.msg);
    c->line = arena_take(&c->memory, bytes);
    return c;
}

static Cache *cache_take(const Tokenizer *t) {
    Tokenizer *mine = (Tokenizer *)t; /* the pool is the one thing that encoding changes */
    pthread_mutex_lock(&mine->lock);
    Cache *c = mine->idle;
    if (c) mine->idle = c->next;
    pthread_mutex_unlock(&mine->lock);
    return c ? c : cache_new();
}

static void cache_give(const Tokenizer *t, Cache *c) {
    Tokenizer *mine = (Tokenizer *)t;
    pthread_mutex_lock(&mine->lock);
    c->next = mine->idle;
    mine->idle = c;
    pthread_mutex_unlock(&mine->lock);
}

static inline CacheSlot *cache_line(const Cache *c, uint64_t k0, uint64_t k1) {
    unsigned __int128 product = (unsigned __int128)(k0 ^ 0x9e3779b97f4a7c15u) * (k1 ^ 0xd1b54a32d192ed03u);
    return c->line[((uint64_t)(product >> 64) ^ (uint64_t)product) >> (64 - CACHE_BITS)];
}

static inline bool holds(const CacheSlot *s, uint64_t k0, uint64_t k1) {
    return ((s->key[0] ^ k0) | (s->key[1] ^ k1)) == 0;
}

enum { WINDOW = 256 };

/* A piece on its way through the cache: its line is asked for long before it is read. */
typedef struct Lookup {
    const uint8_t *p;
    size_t n;
    uint64_t k0, k1;
    CacheSlot *line; /* NULL: not for the cache */
} Lookup;

/* A piece that is not first in its line: find it there or merge it, and put it first. */
static __attribute__((noinline)) void encode_second(const Tokenizer *t, const Lookup *l, Ids *out) {
    CacheSlot s = l->line[1];
    if (holds(&s, l->k0, l->k1)) {
        memcpy(out->id + out->n, s.id, sizeof s.id);
        out->n += s.n;
    } else {
        size_t was = out->n;
        encode_piece(t, l->p, l->n, out);
        if (out->n - was > CACHE_IDS) return;
        s = (CacheSlot){.key = {l->k0, l->k1}, .n = (uint32_t)(out->n - was)};
        memcpy(s.id, out->id + was, s.n * sizeof *s.id);
    }
    l->line[1] = l->line[0];
    l->line[0] = s;
}

void tokenizer_free(Tokenizer *t) {
    if (!t) return;
    for (Cache *c = t->idle, *next; c; c = next) next = c->next, arena_free(&c->memory), free(c);
    pthread_mutex_destroy(&t->lock);
    str_free(&t->bytes);
    str_free(&t->shown);
    free(t->shown_start);
    free(t->start);
    free(t->find);
    free(t->merge);
    free(t->special);
    free(t->pair);
    free(t->made);
    free(t);
}

/* ---- encode -------------------------------------------------------------------------------------------- */

/* The key of a piece of n <= 15 bytes with at least 16 bytes of text from p on. */
static inline void load_key(const uint8_t *p, size_t n, uint64_t *k0, uint64_t *k1) {
    static const uint64_t ones[] = {0,     0,     0,     0,     0,     0,     0,     0,
                                    ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull, ~0ull};
    uint64_t part = ((uint64_t)1 << n % 8 * 8) - 1;
    memcpy(k0, p, 8);
    memcpy(k1, p + 8, 8);
    *k0 &= part | ones[n];
    *k1 = (*k1 & part & ones[n]) | (uint64_t)n << 56;
}

/* Cut text from p[*at..n) on into pieces, at most WINDOW, and ask for their lines; how many. */
static int look_up(const Cache *c, const uint8_t *p, size_t n, size_t *at, Lookup look[WINDOW]) {
    int pieces = 0;
    while (*at < n && pieces <= WINDOW - MAX_PIECES) {
        size_t end[MAX_PIECES], from = *at, start = 0;
        int more = tokenizer_pieces(p + from, n - from, end);
        for (int i = 0; i < more; start = end[i++]) {
            Lookup *l = &look[pieces++];
            *l = (Lookup){.p = p + from + start, .n = end[i] - start};
            if (l->n > CACHE_KEY || n - from - start < 16) continue;
            load_key(l->p, l->n, &l->k0, &l->k1);
            l->line = cache_line(c, l->k0, l->k1);
            __builtin_prefetch(l->line, 1);
        }
        *at = from + start;
    }
    return pieces;
}

/* Append the ids of valid UTF-8; returns where in *out the last piece's begin. */
static size_t encode_text(const Tokenizer *t, const Cache *c, const uint8_t *p, size_t n, Ids *out) {
    size_t last = out->n;
    Lookup look[WINDOW];
    for (size_t at = 0; at < n;) {
        int pieces = look_up(c, p, n, &at, look);
        for (const Lookup *l = look; l < look + pieces; l++) {
            last = out->n;
            ids_reserve(out, CACHE_KEY);
            if (!l->line) {
                encode_piece(t, l->p, l->n, out);
            } else if (!holds(l->line, l->k0, l->k1)) {
                encode_second(t, l, out);
            } else {
                memcpy(out->id + out->n, l->line->id, sizeof l->line->id);
                out->n += l->line->n;
            }
        }
    }
    return last;
}

static bool all_blank(const Tokenizer *t, int32_t id) {
    Bytes b = tokenizer_token(t, id);
    for (size_t i = 0; i < b.n; i++)
        if (b.p[i] != ' ' && b.p[i] != '\n' && b.p[i] != '\t') return false;
    return true;
}

/* Any bytes, as tiktoken's _encode_bytes takes them: text up to the first byte that is not UTF-8 is
 * encoded as text; then its last piece (with the blank tokens before it, if it begins with one) and
 * everything that follows are merged as one piece. */
static void encode_bytes(const Tokenizer *t, const Cache *c, const uint8_t *p, size_t n, Ids *out) {
    size_t valid = tokenizer_valid_prefix(p, n), first = out->n;
    size_t keep = encode_text(t, c, p, valid, out);
    if (valid == n) return;
    if (keep < out->n && all_blank(t, out->id[keep]))
        while (keep > first && all_blank(t, out->id[keep - 1])) keep--;
    for (; out->n > keep; out->n--) valid -= tokenizer_token(t, out->id[out->n - 1]).n;
    encode_piece(t, p + valid, n - valid, out);
}

/* The first place at or after `at` where a special token's first byte stands; n if there is none. */
static size_t next_lead(const Tokenizer *t, const char *p, size_t at, size_t n) {
    if (t->lead >= 0) {
        const char *found = memchr(p + at, t->lead, n - at);
        return found ? (size_t)(found - p) : n;
    }
    while (at < n && !t->leads[(uint8_t)p[at]]) at++;
    return at;
}

/* The first special token in p[at..n): its id and place, or -1. */
static int32_t next_special(const Tokenizer *t, const char *p, size_t at, size_t n, size_t *where) {
    if (!t->n_special) return *where = n, -1;
    for (*where = next_lead(t, p, at, n); *where < n; *where = next_lead(t, p, *where + 1, n))
        for (int32_t i = 0; i < t->n_special; i++) {
            Bytes name = tokenizer_token(t, t->special[i]);
            if (name.n <= n - *where && !memcmp(p + *where, name.p, name.n)) return t->special[i];
        }
    return -1;
}

bool tokenizer_encode(const Tokenizer *t, const char *text, size_t n, SpecialMode mode, Ids *out, Err *e) {
    Cache *c = cache_take(t);
    bool ok = true;
    for (size_t at = 0, where = n; at < n && ok;) {
        int32_t id = mode == SPECIAL_TEXT ? -1 : next_special(t, text, at, n, &where);
        if (id >= 0 && mode == SPECIAL_REFUSE) {
            Bytes name = tokenizer_token(t, id);
            ok = err_set(e,
                         "the text holds the special token %.*s at byte %zu; --special split gives it its "
                         "id, --special "
                         "text takes it as plain text",
                         (int)name.n, name.p, where);
            break;
        }
        if (t->gpt1)
            tokenizer_gpt1_encode(t, (const uint8_t *)text + at, where - at, out);
        else
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
    if (t->gpt1 && n && tokenizer_gpt1_ends_word(t, ids[n - 1]))
        out->p[--out->n] = 0; /* no space after the last word */
    return true;
}
