/* dataloader.c - floor 2: see dataloader.h. shard.c writes what this file reads. */
#include "dataloader.h"

#include <cjson/cJSON.h> /* PREFIX.json */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h> /* madvise */
#include <unistd.h>

typedef unsigned long long ull;

/* ---- one shard ------------------------------------------------------------------------------------------- */

static uint32_t le32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Fills n and width from the header, after all of its promises have been checked. */
static bool shard_header(Shard *s, Err *e) {
    const uint8_t *h = s->map.p;
    if (s->map.n < SHARD_HEADER)
        return err_set(e, "%s: %zu bytes are too few for a token shard, whose header has %d", s->path,
                       s->map.n, SHARD_HEADER);
    uint32_t magic = le32(h), version = le32(h + 4), width = le32(h + 12);
    bool llama3 = magic == SHARD_MAGIC_LLAMA3;
    if (magic != SHARD_MAGIC && !llama3)
        return err_set(e, "%s: not a token shard: its first number is %u, not %d", s->path, magic,
                       SHARD_MAGIC);
    if (version != (llama3 ? 7 : 1))
        return err_set(e, "%s: shard version %u is not one that this program reads", s->path, version);
    if (llama3) width = 4;
    if (width != 0 && width != 2 && width != 4)
        return err_set(e, "%s: %u bytes a token; shards have 2 or 4", s->path, width);
    uint64_t n64 = (uint64_t)le32(h + 28) << 32 | le32(h + 24);
    size_t bytes;
    s->width = width ? (int)width : 2;
    s->n = n64 ? n64 : le32(h + 8);
    s->tokens = h + SHARD_HEADER;
    s->has_crc = le32(h + 16) == 1;
    s->crc = le32(h + 20);
    if (s->n == 0) return err_set(e, "%s: holds no tokens", s->path);
    if (!size_mul(s->n, (size_t)s->width, &bytes) || bytes != s->map.n - SHARD_HEADER)
        return err_set(
            e,
            "%s: its header says %llu tokens of %d bytes, but %zu bytes follow it; the file is cut "
            "short, or not finished",
            s->path, (ull)s->n, s->width, s->map.n - SHARD_HEADER);
    return true;
}

static bool shard_verify(const Shard *s, Err *e) {
    if (!s->has_crc) return true;
    uint32_t crc = crc32_of(0, s->tokens, s->n * (uint64_t)s->width);
    return crc == s->crc ||
           err_set(e, "%s: its tokens have crc32 %08x, but its header says %08x; the file is damaged",
                   s->path, crc, s->crc);
}

bool shard_open(Shard *s, const char *path, bool verify, Err *e) {
    *s = (Shard){.path = xstrdup(path)};
    if (map_open(&s->map, path, e) && shard_header(s, e) && (!verify || shard_verify(s, e))) return true;
    shard_close(s);
    return false;
}

void shard_close(Shard *s) {
    map_close(&s->map);
    free(s->path);
    *s = (Shard){0};
}

void shard_read(const Shard *s, uint64_t at, uint64_t n, int32_t *dst) {
    CHECK(at <= s->n && n <= s->n - at, "tokens %llu + %llu of %llu", (ull)at, (ull)n, (ull)s->n);
    const uint8_t *p = s->tokens + at * (uint64_t)s->width;
    if (s->width == 2) {
        for (uint64_t i = 0; i < n; i++) dst[i] = p[2 * i] | p[2 * i + 1] << 8;
    } else {
        for (uint64_t i = 0; i < n; i++) dst[i] = (int32_t)le32(p + 4 * i);
    }
}

/* ---- sets of shards -------------------------------------------------------------------------------------- */

static bool has_suffix(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

char *shard_set(const char *path) {
    char *set = xstrdup(path);
    size_t n = strlen(set), keep;
    if (has_suffix(set, ".bin")) set[n -= 4] = 0;
    for (keep = n; keep && set[keep - 1] >= '0' && set[keep - 1] <= '9';) keep--;
    if (keep < n && keep && set[keep - 1] == '_') set[keep - 1] = 0;
    return set;
}

/* Is there a word in the name that begins with "val"? */
static bool names_validation(const char *name) {
    for (const char *p = name; (p = strstr(p, "val")); p++)
        if (p == name || !isalpha((unsigned char)p[-1])) return true;
    return false;
}

/* The .bin files of a folder; validation and training shards are never taken together. */
static bool list_folder(const char *path, char ***names, int *n, Err *e) {
    char **all;
    int n_all, n_val = 0;
    if (!dir_list(path, &all, &n_all, e)) return false;
    *names = xcalloc((size_t)n_all, sizeof **names);
    for (int i = 0; i < n_all; i++) {
        if (!has_suffix(all[i], ".bin")) continue;
        n_val += names_validation(all[i]);
        (*names)[(*n)++] = path_join(path, all[i]);
    }
    names_free(all, n_all);
    if (*n == 0) return err_set(e, "%s: no token shards (.bin files) in this folder", path);
    if (n_val && n_val < *n)
        return err_set(e, "%s: holds validation shards beside others; name those you mean, as %s/train_*.bin",
                       path, path);
    return true;
}

/* No shard of a set is taken before the set is whole: shard_write() removes this mark as its last act. */
static bool check_whole(char *const *names, int n, Err *e) {
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        Str mark = {0};
        char *set = shard_set(names[i]);
        str_printf(&mark, "%s.json.tmp", set);
        if (path_exists(mark.p))
            ok = err_set(
                e,
                "%s: its set is not finished (%s is there); wait for `gpt data shard`, or run it again "
                "with --overwrite",
                names[i], mark.p);
        str_free(&mark);
        free(set);
    }
    return ok;
}

bool shard_list(const char *path, char ***names, int *n, Err *e) {
    *names = NULL;
    *n = 0;
    bool ok;
    if (path_is_dir(path)) {
        ok = list_folder(path, names, n, e);
    } else if (path_exists(path)) { /* before the glob: a name may hold a '[' */
        *names = xcalloc(1, sizeof **names);
        (*names)[(*n)++] = xstrdup(path);
        ok = true;
    } else {
        ok = glob_list(path, names, n, e);
    }
    if (ok && check_whole(*names, *n, e)) return true;
    names_free(*names, *n);
    *names = NULL;
    *n = 0;
    return false;
}

static bool info_number(const cJSON *o, const char *key, double *value) {
    const cJSON *it = cJSON_GetObjectItemCaseSensitive(o, key);
    if (it && (!cJSON_IsNumber(it) || !(it->valuedouble >= 0 && it->valuedouble < 0x1p63))) return false;
    *value = it ? it->valuedouble : 0;
    return true;
}

/* Reads SET.json; zeros if there is none. */
static bool info_read(const char *set, ShardInfo *info, Err *e) {
    Str path = {0};
    char *text = NULL;
    size_t n;
    str_printf(&path, "%s.json", set);
    *info = (ShardInfo){0};
    bool there = path_exists(path.p), ok = !there || file_read(path.p, 1 << 20, &text, &n, e);
    if (there && ok) {
        double documents, tokens, bytes, vocab;
        cJSON *o = cJSON_Parse(text);
        ok = cJSON_IsObject(o) && info_number(o, "documents", &documents) &&
             info_number(o, "tokens", &tokens) && info_number(o, "bytes", &bytes) &&
             info_number(o, "vocab_size", &vocab) && vocab <= INT32_MAX &&
             info_number(o, "nats", &info->nats);
        if (ok)
            info->documents = (uint64_t)documents, info->tokens = (uint64_t)tokens,
            info->bytes = (uint64_t)bytes, info->vocab_size = (int32_t)vocab;
        else
            err_set(e, "%s: not the info file of a set of shards; remove it, or make the shards again",
                    path.p);
        cJSON_Delete(o);
    }
    free(text);
    str_free(&path);
    return ok;
}

/* Adds the info of one set, of which `names` are the shards asked for. *known: it is for exactly these tokens. */
static bool info_add(ShardInfo *sum, char *const *names, int n, const char *set, bool *known, Err *e) {
    ShardInfo info;
    uint64_t tokens = 0;
    if (!info_read(set, &info, e)) return false;
    for (int i = 0; i < n; i++) {
        Shard s;
        if (!shard_open(&s, names[i], false, e)) return false;
        tokens += s.n;
        shard_close(&s);
    }
    if (info.tokens != tokens) *known = false;
    sum->documents += info.documents;
    sum->tokens += info.tokens;
    sum->bytes += info.bytes;
    sum->vocab_size = info.vocab_size;
    sum->nats = info.nats > 0 && sum->nats >= 0 ? sum->nats + info.nats : -1;
    return true;
}

bool shard_info(const char *path, ShardInfo *info, Err *e) {
    char **names;
    int n, next;
    bool ok = true, known = true;
    *info = (ShardInfo){0};
    if (!shard_list(path, &names, &n, e)) return false;
    for (int i = 0; i < n && ok; i = next) {
        char *set = shard_set(names[i]);
        for (next = i + 1; next < n; next++) {
            char *other = shard_set(names[next]);
            bool same = !strcmp(set, other);
            free(other);
            if (!same) break;
        }
        ok = info_add(info, names + i, next - i, set, &known, e);
        free(set);
    }
    names_free(names, n);
    if (!ok || !known) *info = (ShardInfo){0};
    if (info->nats < 0) info->nats = 0;
    return ok;
}

/* ---- the order of things -----------------------------------------------------------------------------------
 * Two functions decide what row q is, and neither looks at any other row. mix_find() says which source it comes
 * from and how many rows that source had before; permute() says which of the source's sequences that is. */

/* A keyed permutation of [0, n): a Feistel network over the next even number of bits, walked on until it lands
 * inside [0, n) again (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains", method 2). Less than four
 * steps on average. */
static uint64_t permute(uint64_t seed, uint64_t source, uint64_t epoch, uint64_t i, uint64_t n) {
    enum { ROUNDS = 8 };
    int half = 1;
    while (half < 32 && (n - 1) >> (2 * half)) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < ROUNDS; round++) {
            uint32_t f = rand_u32(seed, RAND_SHUFFLE, epoch, source << 40 | round << 32 | right);
            uint64_t mixed = left ^ (f & mask);
            left = right;
            right = mixed;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

/* Weights are met by a binary tree: each inner node deals its rows to its two sides, so that of its first q rows
 * the lighter side gets round(q * share). How many rows a side had before row q is then a closed form: nothing is
 * scanned, nothing drifts. The rounding of a level, at most 1/2 a row, reaches a leaf multiplied by the shares on
 * the way down. In Huffman's tree (the two lightest join first) a share of r is followed by shares of at most
 * 1 / r - 1, so for n sources the sum is at most half of 1/1 + 1/1 + 1/2 + 1/3 + 1/5 + ..., the reciprocals of the
 * first n - 1 Fibonacci numbers: 1/2 a row for two sources, 1 for three, 1.68 for any number. */
typedef struct Node {
    double weight;
    uint64_t share; /* of the lighter side, times 2^64; at most a half */
    int side[2];    /* the lighter one first; a leaf has none: it is the source with its number */
    bool joined;
} Node;

typedef struct Stock {
    uint64_t first, n; /* its sequences in the numbering of all */
} Stock;

struct Loader {
    Shard *shards;
    uint64_t *first; /* [n_shards + 1]: sequences before each shard */
    int n_shards, n_sources, T;
    Stock *stock;         /* [n_sources] */
    Node *nodes;          /* [2 n_sources - 1]: the leaves first, the root last */
    uint64_t *given;      /* [n_sources] rows before */
    uint64_t from, until; /* row `from`; those up to `until` have been dealt */
    uint64_t tokens, seed;
    int32_t vocab_size, made_with; /* the model's ids; those of the shards' tokenizer, 0: not known */
    bool shuffle;
};

static int mix_lightest(const Node *nodes, int n) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!nodes[i].joined && (best < 0 || nodes[i].weight < nodes[best].weight)) best = i;
    return best;
}

static void mix_build(Node *nodes, int n_sources) {
    for (int i = n_sources; i < 2 * n_sources - 1; i++) {
        int a = mix_lightest(nodes, i);
        nodes[a].joined = true;
        int b = mix_lightest(nodes, i);
        nodes[b].joined = true;
        double weight = nodes[a].weight + nodes[b].weight, share = weight > 0 ? nodes[a].weight / weight : 0;
        nodes[i] = (Node){.weight = weight, .share = (uint64_t)ldexp(share, 64), .side = {a, b}};
    }
}

/* round(q * share); q is below 2^63, so that the product fits. */
static uint64_t mix_count(uint64_t q, uint64_t share) {
    return (uint64_t)(((unsigned __int128)q * share + ((uint64_t)1 << 63)) >> 64);
}

/* The source that row *q comes from; *q becomes the number of rows it gave before. */
static int mix_find(const Node *nodes, int n_sources, uint64_t *q) {
    int at = 2 * n_sources - 2;
    while (at >= n_sources) {
        uint64_t before = mix_count(*q, nodes[at].share);
        bool light = mix_count(*q + 1, nodes[at].share) > before;
        *q = light ? before : *q - before;
        at = nodes[at].side[!light];
    }
    return at;
}

/* ---- the loader ------------------------------------------------------------------------------------------ */

/* Sources that were made with different tokenizers speak of different things by the same ids. */
static bool same_vocabulary(Loader *l, const char *source, const char *shard, Err *e) {
    ShardInfo info;
    char *set = shard_set(shard);
    bool ok = info_read(set, &info, e);
    free(set);
    if (!ok || !info.vocab_size) return ok;
    if (!l->made_with) l->made_with = info.vocab_size;
    return l->made_with == info.vocab_size ||
           err_set(e,
                   "%s: was made with a vocabulary of %d ids, the sources before it with %d; all need one "
                   "tokenizer",
                   source, info.vocab_size, l->made_with);
}

/* Opens the shards of one source and numbers their sequences. */
static bool open_source(Loader *l, const Source *src, Stock *stock, Err *e) {
    char **names;
    int n;
    if (!(src->weight > 0 && isfinite(src->weight)))
        return err_set(e, "%s: its weight is %g; it must be above 0", src->path, src->weight);
    if (!shard_list(src->path, &names, &n, e)) return false;
    l->shards = xrealloc(l->shards, (size_t)(l->n_shards + n) * sizeof *l->shards);
    l->first = xrealloc(l->first, (size_t)(l->n_shards + n + 1) * sizeof *l->first);
    l->first[0] = 0;
    stock->first = l->first[l->n_shards];
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        Shard *s = &l->shards[l->n_shards];
        if (!(ok = shard_open(s, names[i], false, e))) break;
        uint64_t sequences = (s->n - 1) / (uint64_t)l->T;
        l->n_shards++;
        l->first[l->n_shards] = l->first[l->n_shards - 1] + sequences;
        l->tokens += s->n;
    }
    if (ok) ok = same_vocabulary(l, src->path, names[0], e);
    names_free(names, n);
    stock->n = l->first[l->n_shards] - stock->first;
    return ok && (stock->n ||
                  err_set(e, "%s: not one of its shards has the %d tokens that a sequence of length %d needs",
                          src->path, l->T + 1, l->T));
}

/* Small sets are verified before the first step; for large ones `gpt data inspect --verify` takes its time. */
static bool verify_small(const Loader *l, Err *e) {
    uint64_t bytes = 0;
    bool ok = true;
    for (int i = 0; i < l->n_shards; i++) bytes += l->shards[i].map.n;
    for (int i = 0; i < l->n_shards && ok && bytes <= (uint64_t)256 << 20; i++)
        ok = shard_verify(&l->shards[i], e);
    return ok;
}

static void note_unused_weights(const Source *sources, int n) {
    for (int i = 1; i < n; i++)
        if (sources[i].weight != sources[0].weight) {
            note("data without shuffling comes in file order; the weights of its sources are not used");
            return;
        }
}

Loader *loader_open(const Source *sources, int n_sources, int T, bool shuffle, uint64_t seed,
                    int32_t vocab_size, Err *e) {
    CHECK(n_sources > 0 && T > 0 && vocab_size > 0);
    Loader *l = xcalloc(1, sizeof *l);
    *l = (Loader){.T = T,
                  .shuffle = shuffle,
                  .seed = seed,
                  .vocab_size = vocab_size,
                  .n_sources = n_sources,
                  .until = UINT64_MAX};
    l->given = xcalloc((size_t)n_sources, sizeof *l->given);
    l->stock = xcalloc((size_t)n_sources, sizeof *l->stock);
    l->nodes = xcalloc((size_t)(2 * n_sources - 1), sizeof *l->nodes);
    bool ok = true;
    for (int i = 0; i < n_sources && ok; i++) {
        ok = open_source(l, &sources[i], &l->stock[i], e);
        l->nodes[i].weight = sources[i].weight;
    }
    if (!ok || !verify_small(l, e)) {
        loader_close(l);
        return NULL;
    }
    if (!shuffle) note_unused_weights(sources, n_sources);
    mix_build(l->nodes, n_sources);
    return l;
}

void loader_close(Loader *l) {
    if (!l) return;
    for (int i = 0; i < l->n_shards; i++) shard_close(&l->shards[i]);
    free(l->shards);
    free(l->first);
    free(l->stock);
    free(l->given);
    free(l->nodes);
    free(l);
}

uint64_t loader_sequences(const Loader *l) {
    return l->first[l->n_shards];
}

uint64_t loader_sequences_of(const Loader *l, int source) {
    return l->stock[source].n;
}

uint64_t loader_tokens(const Loader *l) {
    return l->tokens;
}

/* Quotas are weights whose sum is the number of rows, and then each node's last count is exact: every source gives its
 * quota. */
void loader_deal(Loader *l, uint64_t from, const uint64_t *quota, const uint64_t *given) {
    CHECK(l->shuffle);
    l->from = l->until = from;
    for (int i = 0; i < l->n_sources; i++) {
        l->nodes[i] = (Node){.weight = (double)quota[i]};
        l->given[i] = given[i];
        l->until += quota[i];
    }
    mix_build(l->nodes, l->n_sources);
}

/* The shard that holds row q, and the place in it where the row's sequence starts. */
static const Shard *find_row(const Loader *l, uint64_t q, uint64_t *at) {
    uint64_t sequence = q % loader_sequences(l);
    CHECK(q >= l->from && q < l->until, "row %llu of %llu to %llu", (ull)q, (ull)l->from, (ull)l->until);
    if (l->shuffle) {
        q -= l->from;
        int s = mix_find(l->nodes, l->n_sources, &q);
        const Stock *stock = &l->stock[s];
        q += l->given[s];
        sequence = stock->first + permute(l->seed, (uint64_t)s, q / stock->n, q % stock->n, stock->n);
    }
    int lo = 0, hi = l->n_shards; /* first[lo] <= sequence < first[hi] */
    while (hi - lo > 1) {
        int mid = lo + (hi - lo) / 2;
        if (l->first[mid] <= sequence)
            lo = mid;
        else
            hi = mid;
    }
    *at = (sequence - l->first[lo]) * (uint64_t)l->T;
    return &l->shards[lo];
}

/* Reads n tokens, none of them beyond the vocabulary. */
static bool read_checked(const Loader *l, const Shard *s, uint64_t at, int n, int32_t *dst, Err *e) {
    uint32_t largest = 0;
    shard_read(s, at, (uint64_t)n, dst);
    for (int i = 0; i < n; i++) largest = (uint32_t)dst[i] > largest ? (uint32_t)dst[i] : largest;
    if (largest < (uint32_t)l->vocab_size) return true;
    int i = 0;
    while ((uint32_t)dst[i] < (uint32_t)l->vocab_size) i++;
    return err_set(
        e,
        "%s: token %llu is id %u, but the vocabulary has %d; these shards need the tokenizer they were "
        "made with",
        s->path, (ull)at + (ull)i, (uint32_t)dst[i], l->vocab_size);
}

bool loader_rows(const Loader *l, uint64_t first, int n, int32_t *tokens, int32_t *targets, Err *e) {
    const size_t T = (size_t)l->T;
    for (int i = 0; i < n; i++, tokens += T, targets += T) {
        uint64_t at;
        const Shard *s = find_row(l, first + (uint64_t)i, &at);
        if (!read_checked(l, s, at, l->T, tokens, e)) return false;
        if (!read_checked(l, s, at + T, 1, targets + T - 1, e)) return false;
        memcpy(targets, tokens + 1, (T - 1) * sizeof *targets);
    }
    return true;
}

void loader_prefetch(const Loader *l, uint64_t first, int n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < n && first + (uint64_t)i < l->until; i++) {
        uint64_t at;
        const Shard *s = find_row(l, first + (uint64_t)i, &at);
        const uint8_t *p = s->tokens + at * (uint64_t)s->width;
        uintptr_t lo = (uintptr_t)p & ~(page - 1), hi = (uintptr_t)p + ((size_t)l->T + 1) * (size_t)s->width;
        madvise((void *)lo, hi - lo, MADV_WILLNEED); /* advice only */
    }
}
