/* tensors.c - floor 4: see tensors.h. Everything walks the parameter tables, the whole model's and those of the ranks, and
 * goes in blocks, so that no second copy of a tensor is ever in memory. */
#include "tensors.h"

#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 18 /* numbers */ };

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static Grid grid_of(const Gpt *m) {
    const Grid g = gpt_options(m)->grid;
    return g.ranks ? g : GRID_OF_ONE;
}

bool ranks_agree(const Gpt *m, bool ok, Err *e) {
    Comm *comm = gpt_options(m)->comm;
    return comm ? comm_agree(comm, ok, e) : ok;
}

/* ---- what a rank holds ----------------------------------------------------------------------------------- */

int64_t part_before(const Param *p, int64_t at) {
    const int64_t within = at % p->pitch - p->first;
    return at / p->pitch * p->inner + min64(max64(within, 0), p->inner);
}

int64_t part_stretch(const Param *p, int64_t from, int64_t *at) {
    *at = from / p->inner * p->pitch + p->first + from % p->inner;
    return p->inner - from % p->inner;
}

/* Of which weights a rank has a set's numbers: ranges, and where in the set each begins. */
typedef struct Kept {
    Range *range;
    int64_t *first;
    int n;
    int64_t total;
} Kept;

static Kept kept_make(Range *ranges, int n) {
    Kept k = {.range = ranges, .first = xmalloc((size_t)(n + 1) * sizeof *k.first), .n = n};
    for (int i = 0; i < n; k.total += ranges[i++].n) k.first[i] = k.total;
    return k;
}

/* A set of tensors, as all the ranks of a stage have it. */
typedef struct Set {
    const char *prefix;
    float *at;
    bool matrices; /* it has the matrices inside the layers */
    Kept *kept;    /* of each data rank, or one that goes for all */
    int n_kept;
} Set;

static const Kept *kept_of(const Set *s, int dp_rank) {
    return &s->kept[s->n_kept > 1 ? dp_rank : 0];
}

static Set set_make(const Gpt *m, const Moment *moment) {
    const Grid g = grid_of(m);
    const bool weights = !*moment->prefix, shared = !weights && gpt_options(m)->zero > 0;
    Set s = {.prefix = moment->prefix, .at = moment->at, .n_kept = shared ? g.dp : 1};
    s.kept = xcalloc((size_t)s.n_kept, sizeof *s.kept);
    for (int d = 0; d < s.n_kept; d++) {
        int n = 1;
        int64_t total;
        Range *ranges = shared ? gpt_owned(m, d, &n, &total) : xmalloc(sizeof *ranges);
        if (!shared) *ranges = (Range){0, gpt_elements(m)};
        s.kept[d] = kept_make(ranges, n);
    }
    const int64_t total = kept_of(&s, g.dp_rank)->total;
    s.matrices = moment->n == total;
    CHECK(moment->n <= total && (s.matrices || (!shared && g.tp == 1)), "set %s", s.prefix);
    return s;
}

static Set *sets_make(const Gpt *m, const Moment *moments, int n) {
    Set *s = xmalloc((size_t)n * sizeof *s);
    for (int i = 0; i < n; i++) s[i] = set_make(m, &moments[i]);
    return s;
}

static void sets_free(Set *s, int n) {
    for (int i = 0; i < n; i++) {
        for (int d = 0; d < s[i].n_kept; d++) free(s[i].kept[d].range), free(s[i].kept[d].first);
        free(s[i].kept);
    }
    free(s);
}

static bool set_has(const Set *s, const Param *p) {
    return s->matrices || !p->parts;
}

/* Numbers [from, from + n) of a rank's part of a tensor, which it has at `at` of the set. */
typedef struct Run {
    int64_t from, n, at;
} Run;

/* The runs of [lo, hi) of the part; at most k->n. */
static int part_runs(const Param *p, const Kept *k, int64_t lo, int64_t hi, Run *runs) {
    int n = 0;
    for (int i = 0; i < k->n; i++) {
        const int64_t begin = k->range[i].at - p->at;
        const int64_t from = max64(lo, begin), to = min64(hi, begin + k->range[i].n);
        if (from < to) runs[n++] = (Run){from, to - from, k->first[i] + from - begin};
    }
    return n;
}

/* ---- names ----------------------------------------------------------------------------------------------- */

/* Prefix of the model's tensors in its files. gpt3 has one that transformers does not know: its GPT-2 class must not
 * take a model with banded attention for a dense one. */
static const char *base_prefix(const ModelConfig *c) {
    return !strcmp(c->model_type, "gpt3") ? "gpt3." : "transformer.";
}

/* In files, weights carry the model's prefix, all but the head; moments their own. */
static void tensor_name(char out[128], const ModelConfig *c, const char *prefix, const Param *p) {
    const char *base = strcmp(p->name, "lm_head.weight") ? base_prefix(c) : "";
    snprintf(out, 128, "%s%s%s", *prefix ? prefix : base, *prefix ? "." : "", p->name);
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

/* ---- files of safetensors ---------------------------------------------------------------------------------- */

/* A file, or several, and which of their tensors is which row of the table. */
typedef struct Bound {
    SafeTensors file;
    const StTensor **tensor; /* [sets, rows] */
    int rows;
} Bound;

static void bound_read(const ModelFile *s, int set, const Param *p, int64_t at, int64_t n, float *dst) {
    const Bound *b = s->file;
    const StTensor *t = b->tensor[set * b->rows + p->row];
    CHECK(st_read_f32(t, (uint64_t)at, (uint64_t)n, dst), "tensor %s", t->name);
}

static void bound_close(ModelFile *s) {
    Bound *b = s->file;
    st_close(&b->file);
    free(b->tensor);
    free(b);
}

static const char *shape_text(char out[192], int rank, const uint64_t *shape) {
    int n = snprintf(out, 192, "[");
    for (int i = 0; i < rank; i++)
        n += snprintf(out + n, 192 - (size_t)n, "%s%" PRIu64, i ? ", " : "", shape[i]);
    snprintf(out + n, 192 - (size_t)n, "]");
    return out;
}

static bool check_tensor(const StTensor *t, const Param *p, const char *where, Err *e) {
    const uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
    char found[192], expected[192];
    if (t->rank != p->rank || memcmp(t->shape, shape, (size_t)p->rank * sizeof *shape))
        return err_set(e, "%s: tensor %s has shape %s; %s is expected", where, t->name,
                       shape_text(found, t->rank, t->shape), shape_text(expected, p->rank, shape));
    return st_read_f32(t, 0, 0, &(float){0}) ||
           err_set(e, "%s: tensor %s does not hold floating-point numbers", where, t->name);
}

/* Tensors of Hugging Face's files that are no parameters: the causal mask that older releases wrote, and a head that
 * is tied to the embedding but written all the same. */
static bool pass_over(const StTensor *t, const StTensor *embedding, const char *where, Err *e) {
    if (ends_with(t->name, ".attn.bias") || ends_with(t->name, ".attn.masked_bias")) return true;
    if (strcmp(t->name, "lm_head.weight"))
        return err_set(e, "%s: tensor %.200s has no place in the model that config.json describes", where,
                       t->name);
    if (t->dtype == embedding->dtype && t->end - t->begin == embedding->end - embedding->begin &&
        !memcmp(t->data, embedding->data, (size_t)(t->end - t->begin)))
        return true;
    return err_set(e,
                   "%s: lm_head.weight differs from the embedding, but config.json ties the two: set "
                   "tie_word_embeddings to false there if the head is meant",
                   where);
}

static bool wrong_moments(const char *where, const char *name, const char *what, Err *e) {
    return err_set(e,
                   "%s: tensor %.200s %s; a run goes on with the model and the optimizer.name it began with",
                   where, name, what);
}

/* Every row of the table must be in the file once, and nothing else. */
static bool bind(Bound *b, const char *where, const ModelConfig *c, const Param *table, const Set *sets,
                 int n_sets, Err *e) {
    const StTensor *embedding = NULL;
    bool *used = xcalloc((size_t)b->file.n, sizeof *used), ok = true;
    for (int i = 0; i < n_sets * b->rows && ok; i++) {
        const Param *p = &table[i % b->rows];
        const Set *set = &sets[i / b->rows];
        char key[128];
        if (!set_has(set, p)) continue;
        tensor_name(key, c, set->prefix, p);
        const StTensor *t = st_find(&b->file, key);
        if (!t && !*set->prefix) t = st_find(&b->file, p->name);
        if (!t) {
            ok = *set->prefix ? wrong_moments(where, key, "is missing", e)
                              : err_set(e, "%s: tensor %s is missing", where, p->name);
            continue;
        }
        if (p->split == SPLIT_VOCAB) embedding = t;
        used[t - b->file.tensors] = true;
        b->tensor[i] = t;
        ok = check_tensor(t, p, where, e);
    }
    for (int i = 0; i < b->file.n && ok; i++)
        ok = used[i] || (*sets->prefix ? wrong_moments(where, b->file.tensors[i].name, "is not expected", e)
                                       : pass_over(&b->file.tensors[i], embedding, where, e));
    free(used);
    return ok;
}

static bool bound_open(ModelFile *s, const char *path, const ModelConfig *c, const Set *sets, int n_sets,
                       Err *e) {
    Bound *b = xcalloc(1, sizeof *b);
    *s = (ModelFile){bound_read, bound_close, b};
    int64_t elements;
    Param *table = gpt_params(c, NULL, &b->rows, &elements);
    b->tensor = xcalloc((size_t)(n_sets * b->rows), sizeof(*b->tensor));
    char *where = st_path(path);
    bool ok = st_open(&b->file, path, e) && bind(b, where, c, table, sets, n_sets, e);
    free(where);
    free(table);
    if (!ok) s->close(s);
    return ok;
}

bool weights_open(ModelFile *s, const char *path, const ModelConfig *c, Err *e) {
    return bound_open(s, path, c, &(Set){.prefix = "", .matrices = true}, 1, e);
}

/* ---- loading --------------------------------------------------------------------------------------------- */

/* Numbers [from, from + n) of a part, gathered from where they stand in the file. */
static void read_part(const ModelFile *s, int set, const Param *p, int64_t from, int64_t n, float *dst) {
    for (int64_t k, at; n > 0; from += k, dst += k, n -= k) {
        k = min64(part_stretch(p, from, &at), n);
        s->read(s, set, p, at, k, dst);
    }
}

/* Everything that this rank has of a set. The padding of the vocabulary stays as it is: zero. */
static void load_set(const Gpt *m, const ModelFile *s, int number, const Set *set) {
    const Ops *ops = gpt_options(m)->ops;
    const Kept *kept = kept_of(set, grid_of(m).dp_rank);
    float *block = xmalloc(BLOCK * sizeof *block);
    Run *runs = xmalloc((size_t)(kept->n + 1) * sizeof *runs);
    int n;
    const Param *table = gpt_table(m, &n);
    for (const Param *p = table; p < table + n; p++) {
        const int n_runs = set_has(set, p) ? part_runs(p, kept, 0, p->outer * p->inner, runs) : 0;
        for (const Run *r = runs; r < runs + n_runs; r++)
            for (int64_t at = 0, k; at < r->n; at += k) {
                k = min64(r->n - at, BLOCK);
                read_part(s, number, p, r->from + at, k, block);
                ops->to_device(set->at + r->at + at, block, (size_t)k * sizeof *block);
                comm_alive("loading a checkpoint");
            }
    }
    free(runs);
    free(block);
}

void weights_load(Gpt *m, const ModelFile *s) {
    Set *set = sets_make(m, &(Moment){"", gpt_weights(m), gpt_elements(m)}, 1);
    load_set(m, s, 0, set);
    sets_free(set, 1);
}

bool moments_load(const Gpt *m, const char *path, const Moment *moments, int n_sets, Err *e) {
    ModelFile s;
    Set *sets = sets_make(m, moments, n_sets);
    bool ok = bound_open(&s, path, gpt_config(m), sets, n_sets, e);
    for (int i = 0; i < n_sets && ok; i++) load_set(m, &s, i, &sets[i]);
    if (ok) s.close(&s);
    sets_free(sets, n_sets);
    return ok;
}

/* ---- who writes what ------------------------------------------------------------------------------------- */

/* One tensor of the files, and the rank that writes it. */
typedef struct Entry {
    int set, row, rank;
} Entry;

/* All ranks deal the same. */
typedef struct Deal {
    Entry *at; /* stage by stage; in files of one rank, set by set in the order of the table */
    int n;
    int files;
    int *file; /* [ranks]: from 1; 0: it writes none */
} Deal;

static int least(const int64_t *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] < x[best]) best = i;
    return best;
}

/* Each tensor of a stage to that of its ranks that has the fewest numbers to write so far. */
static void deal_stage(Deal *d, const Param *table, int n, const Set *sets, int n_sets, int first_rank,
                       int ranks) {
    int64_t *load = xcalloc((size_t)ranks, sizeof *load);
    d->at = xrealloc(d->at, (size_t)(d->n + n_sets * n) * sizeof *d->at);
    for (int i = 0; i < n_sets * n; i++) {
        const Param *p = &table[i % n];
        if (p->copy || !set_has(&sets[i / n], p)) continue;
        const int to = least(load, ranks);
        load[to] += p->count;
        d->at[d->n++] = (Entry){i / n, p->row, first_rank + to};
    }
    free(load);
}

static Deal deal_make(const ModelConfig *c, const GptOptions *given, const Set *sets, int n_sets) {
    GptOptions o = given ? *given : (GptOptions){0};
    const Grid g = o.grid.ranks ? o.grid : GRID_OF_ONE;
    Deal d = {.file = xcalloc((size_t)g.ranks, sizeof(int))};
    for (int stage = 0, n; stage < g.pp; stage++) {
        int64_t elements;
        o.grid = grid_at(g.dp, g.pp, g.tp, stage * g.dp * g.tp);
        Param *table = gpt_params(c, &o, &n, &elements);
        deal_stage(&d, table, n, sets, n_sets, o.grid.rank, g.dp * g.tp);
        free(table);
    }
    for (int i = 0; i < d.n; i++) d.file[d.at[i].rank] = 1;
    for (int r = 0; r < g.ranks; r++)
        if (d.file[r]) d.file[r] = ++d.files;
    return d;
}

static void deal_free(Deal *d) {
    free(d->at);
    free(d->file);
}

static void file_name(char out[64], const Deal *d, const char *base, int rank) {
    if (d->files == 1)
        snprintf(out, 64, "%s.safetensors", base);
    else
        snprintf(out, 64, "%s-%05d-of-%05d.safetensors", base, d->file[rank], d->files);
}

/* Elements [at, at + n) of a tensor. */
typedef struct Block {
    const Entry *entry;
    int64_t at, n;
} Block;

/* How far a rank has come with its file. */
typedef struct Cursor {
    int entry;
    int64_t at;
} Cursor;

static bool next_block(const Deal *d, int rank, const Param *whole, Cursor *c, Block *b) {
    for (; c->entry < d->n; c->entry++, c->at = 0) {
        const Entry *e = &d->at[c->entry];
        const int64_t left = whole[e->row].count - c->at;
        if (e->rank != rank || left == 0) continue;
        *b = (Block){e, c->at, min64(left, BLOCK)};
        c->at += b->n;
        return true;
    }
    return false;
}

/* ---- saving ---------------------------------------------------------------------------------------------- */

typedef struct Save {
    const ModelConfig *c;
    const Ops *ops;
    Comm *comm;
    Grid grid;
    Deal deal;
    Set *sets;
    int n_sets;
    Param *whole, **table; /* the whole model's; of each tensor rank of this stage, [tp] */
    int *place;            /* where row i of the whole stands in these */
    Run *runs;
    float *part, *block; /* [BLOCK] */
} Save;

static void save_begin(Save *s, const Gpt *m, const Moment *moments, int n_sets) {
    GptOptions o = *gpt_options(m);
    int n, most = 1;
    int64_t elements;
    *s = (Save){.c = gpt_config(m), .ops = o.ops, .comm = o.comm, .grid = grid_of(m), .n_sets = n_sets};
    s->sets = sets_make(m, moments, n_sets);
    s->deal = deal_make(s->c, &o, s->sets, n_sets);
    s->whole = gpt_params(s->c, NULL, &n, &elements);
    s->place = xcalloc((size_t)n, sizeof *s->place);
    s->table = xcalloc((size_t)s->grid.tp, sizeof(*s->table));
    for (int t = 0; t < s->grid.tp; t++) {
        o.grid = grid_at(s->grid.dp, s->grid.pp, s->grid.tp, s->grid.rank - s->grid.tp_rank + t);
        s->table[t] = gpt_params(s->c, &o, &n, &elements);
    }
    for (int i = 0; i < n; i++)
        if (!s->table[0][i].copy) s->place[s->table[0][i].row] = i;
    for (int i = 0; i < n_sets; i++)
        for (int d = 0; d < s->sets[i].n_kept; d++)
            if (s->sets[i].kept[d].n > most) most = s->sets[i].kept[d].n;
    s->runs = xmalloc((size_t)most * sizeof *s->runs);
    s->part = xmalloc(BLOCK * sizeof *s->part);
    s->block = xmalloc(BLOCK * sizeof *s->block);
}

static void save_end(Save *s) {
    for (int t = 0; t < s->grid.tp; t++) free(s->table[t]);
    sets_free(s->sets, s->n_sets);
    deal_free(&s->deal);
    free(s->table);
    free(s->whole);
    free(s->place);
    free(s->runs);
    free(s->part);
    free(s->block);
}

/* What a rank of this stage gives to a block: s->runs of the returned row of its table. Slices come from all tensor
 * ranks, shared state from all data ranks; of what several have, the writer takes its own. */
static const Param *pieces(const Save *s, const Block *b, Grid giver, int *n_runs) {
    const Set *set = &s->sets[b->entry->set];
    const Param *p = &s->table[giver.tp_rank][s->place[b->entry->row]];
    const Grid writer = grid_at(giver.dp, giver.pp, giver.tp, b->entry->rank);
    const bool same_slice = p->split == SPLIT_NONE, same_state = set->n_kept == 1;
    *n_runs = 0;
    if ((same_slice && giver.tp_rank != writer.tp_rank) || (same_state && giver.dp_rank != writer.dp_rank))
        return p;
    *n_runs = part_runs(p, kept_of(set, giver.dp_rank), part_before(p, b->at), part_before(p, b->at + b->n),
                        s->runs);
    return p;
}

/* This rank's pieces of a block, side by side in s->part. Returns how many numbers. */
static int64_t fetch(const Save *s, const Block *b) {
    int64_t at = 0;
    int n;
    pieces(s, b, s->grid, &n);
    for (const Run *r = s->runs; r < s->runs + n; at += r++->n)
        s->ops->to_host(s->part + at, s->sets[b->entry->set].at + r->at, (size_t)r->n * sizeof(float));
    return at;
}

/* Puts such pieces where they belong in s->block. */
static void spread(const Save *s, const Block *b, const Param *p, int n_runs) {
    const float *src = s->part;
    for (const Run *r = s->runs; r < s->runs + n_runs; r++)
        for (int64_t i = 0, k, at; i < r->n; i += k, src += k) {
            k = min64(part_stretch(p, r->from + i, &at), r->n - i);
            memcpy(s->block + (at - b->at), src, (size_t)k * sizeof *src);
        }
}

/* The writer's side: its own pieces and everybody's, in the order of the ranks. */
static void collect(const Save *s, const Block *b) {
    const Grid g = s->grid;
    const int first = g.pp_rank * g.dp * g.tp;
    for (int rank = first, n; rank < first + g.dp * g.tp; rank++) {
        if (rank == g.rank) fetch(s, b);
        const Param *p = pieces(s, b, grid_at(g.dp, g.pp, g.tp, rank), &n);
        int64_t numbers = 0;
        for (int i = 0; i < n; i++) numbers += s->runs[i].n;
        if (rank != g.rank && numbers)
            comm_host_recv(s->comm, rank, s->part, (size_t)numbers * sizeof(float));
        spread(s, b, p, n);
    }
}

/* In each round the ranks of a stage put together one block of every one's file. All pass through the messages in the
 * same order, by round, writer and sender, so of those not yet passed the first always has both its ends waiting. What
 * comes after a round, writing, they do at the same time. A writer whose disk fails goes on collecting to the end. */
static void put_blocks(const Save *s, StWriter *w) {
    const int ranks = s->grid.dp * s->grid.tp, first = s->grid.pp_rank * ranks;
    Cursor *cursor = xcalloc((size_t)ranks, sizeof *cursor);
    for (bool more = true; more;) {
        int64_t mine = 0;
        more = false;
        for (int i = 0; i < ranks; i++) {
            Block b;
            if (!next_block(&s->deal, first + i, s->whole, &cursor[i], &b)) continue;
            more = true;
            if (first + i == s->grid.rank) {
                collect(s, &b);
                mine = b.n;
            } else {
                const int64_t n = fetch(s, &b);
                if (n) comm_host_send(s->comm, first + i, s->part, (size_t)n * sizeof(float));
            }
        }
        if (mine) st_writer_put(w, s->block, (size_t)mine * sizeof(float));
        comm_alive("saving a checkpoint");
    }
    free(cursor);
}

/* A writer of what the deal gives to a rank, its header written. */
static StWriter *begin_file(const Deal *d, int rank, const ModelConfig *c, const Param *whole,
                            const Set *sets, const char *path, Err *e) {
    StWriter *w = st_writer();
    char key[128];
    for (const Entry *x = d->at; x < d->at + d->n; x++) {
        const Param *p = &whole[x->row];
        const uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
        if (x->rank != rank) continue;
        tensor_name(key, c, sets[x->set].prefix, p);
        st_writer_add(w, key, ST_F32, p->rank, shape);
    }
    if (st_writer_begin(w, path, e)) return w;
    st_writer_abandon(w);
    return NULL;
}

/* BASE.safetensors.index.json: which tensor is in which file. */
static bool put_index(const Save *s, const char *dir, const char *base, SavedFile *file, Err *e) {
    Str json = {0};
    char key[128], name[64];
    uint64_t total = 0;
    for (int i = 0; i < s->deal.n; i++) total += (uint64_t)s->whole[s->deal.at[i].row].count * sizeof(float);
    str_printf(&json, "{\n  \"metadata\": {\"total_size\": %" PRIu64 "},\n  \"weight_map\": {", total);
    for (const Entry *x = s->deal.at; x < s->deal.at + s->deal.n; x++) {
        tensor_name(key, s->c, s->sets[x->set].prefix, &s->whole[x->row]);
        file_name(name, &s->deal, base, x->rank);
        str_printf(&json, "%s\n    \"%s\": \"%s\"", x == s->deal.at ? "" : ",", key, name);
    }
    str_puts(&json, "\n  }\n}\n");
    *file = (SavedFile){.bytes = json.n, .crc = crc32_of(0, json.p, json.n)};
    snprintf(file->name, sizeof file->name, "%s.safetensors.index.json", base);
    char *path = path_join(dir, file->name);
    bool ok = file_write(path, json.p, json.n, e);
    free(path);
    str_free(&json);
    return ok;
}

/* On the first rank: the names of all files, beside the sizes that their writers have told. */
static void list_files(const Save *s, const char *base, const SavedFile *told, SavedFile *files) {
    for (int r = 0; r < s->grid.ranks; r++) {
        if (!s->deal.file[r]) continue;
        SavedFile *f = &files[s->deal.file[r] - 1];
        *f = told[r];
        file_name(f->name, &s->deal, base, r);
    }
}

static bool put_file(const Save *s, const char *dir, const char *base, bool ok, SavedFile *mine, Err *e) {
    char name[64], *path = NULL;
    StWriter *w = NULL;
    if (ok && !path_is_dir(dir))
        ok = err_set(
            e, "%s: the first rank made this folder, and it is not here: all ranks must see the same files",
            dir);
    if (s->deal.file[s->grid.rank] && ok) {
        file_name(name, &s->deal, base, s->grid.rank);
        path = path_join(dir, name);
        ok = (w = begin_file(&s->deal, s->grid.rank, s->c, s->whole, s->sets, path, e)) != NULL;
    }
    free(path);
    if (s->comm) ok = comm_agree(s->comm, ok, e);
    if (!ok && w) st_writer_abandon(w);
    if (!ok) return false;
    put_blocks(s, w);
    return !w || st_writer_commit(w, &mine->crc, &mine->bytes, e);
}

bool tensors_save(const Gpt *m, const char *dir, const char *base, const Moment *moments, int n_sets, bool ok,
                  SavedFile **files, int *n_files, Err *e) {
    Save s;
    SavedFile mine = {.bytes = 0};
    save_begin(&s, m, moments, n_sets);
    SavedFile *told = xcalloc((size_t)s.grid.ranks, sizeof *told);
    *files = xcalloc((size_t)s.deal.files + 1, sizeof **files);
    *n_files = grid_is_root(&s.grid) ? s.deal.files : 0;
    ok = ranks_agree(m, put_file(&s, dir, base, ok, &mine, e), e);
    if (s.comm && ok)
        comm_host_gather(s.comm, told, &mine, sizeof mine);
    else
        *told = mine;
    if (grid_is_root(&s.grid)) list_files(&s, base, told, *files);
    if (ok && s.deal.files > 1 && grid_is_root(&s.grid))
        ok = put_index(&s, dir, base, &(*files)[(*n_files)++], e);
    free(told);
    save_end(&s);
    return ranks_agree(m, ok, e);
}

bool weights_copy(const ModelFile *s, const ModelConfig *c, const char *dir, SavedFile *file, Err *e) {
    Set set = {.prefix = "", .matrices = true};
    Deal d = deal_make(c, NULL, &set, 1);
    Cursor cursor = {0};
    Block b;
    int n;
    int64_t elements;
    Param *whole = gpt_params(c, NULL, &n, &elements);
    float *block = xmalloc(BLOCK * sizeof *block);
    file_name(file->name, &d, "model", 0);
    char *path = path_join(dir, file->name);
    StWriter *w = begin_file(&d, 0, c, whole, &set, path, e);
    while (w && next_block(&d, 0, whole, &cursor, &b)) {
        s->read(s, 0, &whole[b.entry->row], b.at, b.n, block);
        st_writer_put(w, block, (size_t)b.n * sizeof *block);
    }
    free(block);
    free(path);
    free(whole);
    deal_free(&d);
    return w && st_writer_commit(w, &file->crc, &file->bytes, e);
}
