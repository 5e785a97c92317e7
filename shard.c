/* shard.c - floor 2: the writing half of dataloader.h: text to shards, and a look inside. */
#include "dataloader.h"
#include "docs.h"

#include <cjson/cJSON.h> /* PREFIX.json */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long ull;

/* ---- a set of shards on its way to the disk -------------------------------------------------------------- */

typedef struct Set {
    const char *dir, *prefix; /* borrowed */
    char *stem;               /* DIR/PREFIX */
    int width;
    uint64_t shard_tokens;
    OutFile info;      /* its temporary file marks the set as unfinished */
    OutFile shard;     /* the one being written, if shard.path is set */
    uint64_t in_shard; /* tokens in it, and their crc32 */
    uint32_t crc;
    int n_shards;
    uint64_t documents, tokens, bytes;
    double nats; /* NAN once a document came without */
} Set;

static char *shard_path(const Set *s, int i) {
    Str path = {0};
    str_printf(&path, "%s_%06d.bin", s->stem, i);
    return path.p;
}

/* Is this file name PREFIX_000000.bin (a number of 6 or more digits), .bin.tmp, or PREFIX.json? */
static bool belongs(const char *name, const char *prefix) {
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n)) return false;
    name += n;
    if (!strcmp(name, ".json") || !strcmp(name, ".json.tmp")) return true;
    size_t digits = name[0] == '_' ? strspn(name + 1, "0123456789") : 0;
    return digits >= 6 && (!strcmp(name + 1 + digits, ".bin") || !strcmp(name + 1 + digits, ".bin.tmp"));
}

/* Looks for an earlier set of this name: an error, or, with `remove`, removed, its info file first. */
static bool set_clear(const Set *s, bool remove, Err *e) {
    char **names;
    int n;
    if (!path_exists(s->dir)) return true;
    if (!dir_list(s->dir, &names, &n, e)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        if (!belongs(names[i], s->prefix)) continue;
        char *path = path_join(s->dir, names[i]);
        if (remove)
            ok = !strcmp(path, s->info.tmp) || dir_remove(path, e);
        else
            ok = err_set(e, "%s: is there already; use another --out or --prefix, or --overwrite", path);
        free(path);
    }
    names_free(names, n);
    return ok;
}

/* From here until set_commit() no reader takes the shards in this folder for a whole set. */
static bool set_open(Set *s, const ShardJob *job, const char *prefix, int width, Err *e) {
    Str info = {0};
    *s = (Set){.dir = job->out_dir, .prefix = prefix, .width = width, .shard_tokens = job->shard_tokens};
    s->stem = path_join(job->out_dir, prefix);
    str_printf(&info, "%s.json", s->stem);
    bool ok = (job->overwrite || set_clear(s, false, e)) && dir_make(s->dir, e) &&
              file_create(&s->info, info.p, e) && set_clear(s, true, e);
    str_free(&info);
    return ok;
}

static bool set_open_shard(Set *s, Err *e) {
    static const uint8_t header[SHARD_HEADER];
    char *path = shard_path(s, s->n_shards);
    bool ok = file_create(&s->shard, path, e);
    if (ok) file_put(&s->shard, header, sizeof header);
    s->in_shard = s->crc = 0;
    free(path);
    return ok;
}

static void put_le32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static bool set_close_shard(Set *s, Err *e) {
    uint8_t h[32] = {0};
    bool large = s->in_shard > INT32_MAX; /* then word 2 says as much as it can, words 6 and 7 the rest */
    put_le32(h, SHARD_MAGIC);
    put_le32(h + 4, 1);
    put_le32(h + 8, large ? INT32_MAX : (uint32_t)s->in_shard);
    put_le32(h + 12, (uint32_t)s->width);
    put_le32(h + 16, 1);
    put_le32(h + 20, s->crc);
    if (large) put_le32(h + 24, (uint32_t)s->in_shard), put_le32(h + 28, (uint32_t)(s->in_shard >> 32));
    file_patch(&s->shard, 0, h, sizeof h);
    s->n_shards++;
    return file_commit(&s->shard, e);
}

static bool set_put(Set *s, const int32_t *ids, size_t n, Err *e) {
    uint8_t bytes[1 << 14];
    while (n) {
        if (!s->shard.path && !set_open_shard(s, e)) return false;
        size_t k = sizeof bytes / (size_t)s->width, size;
        if (k > n) k = n;
        if (k > s->shard_tokens - s->in_shard) k = s->shard_tokens - s->in_shard;
        if (s->width == 2) {
            for (size_t i = 0; i < k; i++)
                bytes[2 * i] = (uint8_t)ids[i], bytes[2 * i + 1] = (uint8_t)(ids[i] >> 8);
        } else {
            for (size_t i = 0; i < k; i++) put_le32(bytes + 4 * i, (uint32_t)ids[i]);
        }
        size = k * (size_t)s->width;
        s->crc = crc32_of(s->crc, bytes, size);
        file_put(&s->shard, bytes, size);
        if (s->shard.err.code) return err_set(e, "%s", s->shard.err.msg); /* a full disk is told at once */
        s->in_shard += k;
        s->tokens += k;
        ids += k;
        n -= k;
        if (s->in_shard == s->shard_tokens && !set_close_shard(s, e)) return false;
    }
    return true;
}

static bool set_commit(Set *s, const char *tokenizer_dir, int32_t vocab_size, int32_t eot, Err *e) {
    if (s->shard.path && !set_close_shard(s, e)) return false;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "documents", (double)s->documents);
    cJSON_AddNumberToObject(o, "tokens", (double)s->tokens);
    cJSON_AddNumberToObject(o, "bytes", (double)s->bytes);
    cJSON_AddNumberToObject(o, "shards", s->n_shards);
    cJSON_AddNumberToObject(o, "vocab_size", vocab_size);
    cJSON_AddNumberToObject(o, "eot", eot);
    if (isfinite(s->nats)) cJSON_AddNumberToObject(o, "nats", s->nats);
    if (tokenizer_dir) cJSON_AddStringToObject(o, "tokenizer", tokenizer_dir);
    char *text = cJSON_Print(o);
    CHECK(text);
    file_printf(&s->info, "%s\n", text);
    cJSON_free(text);
    cJSON_Delete(o);
    return file_commit(&s->info, e);
}

/* Removes what an unfinished set has written, the mark last; of a finished one only frees the memory. */
static void set_close(Set *s) {
    Err ignored = {0};
    file_abandon(&s->shard);
    for (int i = 0; i < s->n_shards && s->info.tmp; i++) {
        char *path = shard_path(s, i);
        dir_remove(path, &ignored);
        free(path);
    }
    file_abandon(&s->info);
    free(s->stem);
    *s = (Set){0};
}

/* ---- batches of documents -------------------------------------------------------------------------------- */

typedef struct Item {
    Doc doc;
    Set *to;
    int32_t *ids;
    size_t n_ids;
    Err e;
} Item;

typedef struct Batch {
    Item *items;
    int n, cap;
    size_t bytes;
} Batch;

typedef struct Work {
    const ShardJob *job;
    EncodeFn encode;
    const void *ctx;
    int32_t eot, vocab_size;
    Docs docs;
    Set sets[2]; /* train, val */
    int n_sets;
    size_t batch_bytes;
    /* The reader's: */
    uint64_t n_documents;
    Set *to;        /* where the document at hand goes */
    bool tail;      /* val is the end of a single .txt, which is cut after `cut_after` bytes */
    bool val_first; /* the next piece is the first one of val */
    uint64_t at, cut_after;
    /* The writer's: */
    double start, shown;
} Work;

static void batch_add(Batch *b, const Doc *doc, Set *to) {
    if (b->n == b->cap) b->items = xrealloc(b->items, (size_t)(b->cap = b->cap * 2 + 64) * sizeof *b->items);
    b->items[b->n++] = (Item){.doc = *doc, .to = to};
    b->bytes += doc->n;
}

/* A piece of a single .txt, on either side of the cut or across it. */
static void add_piece(Work *w, Batch *b, Doc doc) {
    uint64_t at = w->at;
    w->at += doc.n;
    if (w->to == &w->sets[0] && w->at > w->cut_after) {
        size_t from = w->cut_after > at ? w->cut_after - at : 0;
        char *line = memchr(doc.text + from, '\n', doc.n - from);
        if (line) {
            Doc head = doc;
            head.n = (size_t)(line + 1 - doc.text);
            doc.n -= head.n;
            doc.text = memcpy(xmalloc(doc.n + 1), line + 1, doc.n + 1);
            head.text[head.n] = 0;
            batch_add(b, &head, w->to);
            w->to = &w->sets[1];
            w->val_first = true;
        }
    }
    if (w->val_first) doc.first = true;
    if (doc.n)
        w->val_first = false, batch_add(b, &doc, w->to);
    else
        free(doc.text);
}

/* Of the first n documents, round(n * val_fraction) go to val. */
static Set *deal(Work *w) {
    double i = (double)w->n_documents++, f = w->job->val_fraction;
    return &w->sets[floor((i + 1) * f + 0.5) > floor(i * f + 0.5)];
}

static bool batch_read(Work *w, Batch *b, Err *e) {
    b->n = 0;
    b->bytes = 0;
    while (b->bytes < w->batch_bytes) {
        Doc doc;
        if (!docs_next(&w->docs, &doc, e)) return false;
        if (!doc.text) break;
        if (w->tail) {
            add_piece(w, b, doc);
        } else {
            if (doc.first) w->to = deal(w);
            batch_add(b, &doc, w->to);
        }
    }
    return true;
}

static void item_encode(const Work *w, Item *it) {
    if (doc_text(&it->doc, w->job->key ? w->job->key : "text", &it->e))
        w->encode(w->ctx, it->doc.text, it->doc.n, &it->ids, &it->n_ids, &it->e);
}

static bool item_write(const Work *w, Item *it, Err *e) {
    Set *s = it->to;
    if (it->e.code) return *e = it->e, false;
    for (size_t i = 0; i < it->n_ids; i++) CHECK((uint32_t)it->ids[i] < (uint32_t)w->vocab_size);
    if (it->doc.first) {
        s->documents++;
        s->nats += it->doc.nats;
        if (!set_put(s, &w->eot, 1, e)) return false;
    }
    s->bytes += it->doc.n;
    return set_put(s, it->ids, it->n_ids, e);
}

/* On a terminal a line that keeps changing; in a log, a line now and then. */
static void show_progress(Work *w, bool final) {
    double now = now_seconds(), bytes = 0, tokens = 0, documents = 0;
    if (final ? !progress_is_terminal() : now - w->shown < (progress_is_terminal() ? 0.5 : 30)) return;
    w->shown = now;
    for (int i = 0; i < w->n_sets; i++) {
        documents += (double)w->sets[i].documents;
        tokens += (double)w->sets[i].tokens;
        bytes += (double)w->sets[i].bytes;
    }
    char t[24], d[24];
    progress_line(final, "%s documents, %.1f MB, %s tokens; %.1f MB/s", human_count(documents, d),
                  bytes * 1e-6, human_count(tokens, t), bytes * 1e-6 / (now - w->start + 1e-9));
}

/* Writes the batch in order, and empties it. */
static bool batch_write(Work *w, Batch *b, Err *e) {
    bool ok = true;
    for (int i = 0; i < b->n; i++) {
        ok = ok && item_write(w, &b->items[i], e);
        free(b->items[i].doc.text);
        free(b->items[i].ids);
    }
    b->n = 0;
    if (ok) show_progress(w, false);
    return ok;
}

/* One thread reads the next batch while the others encode this one. */
static bool pump(Work *w, Err *e) {
    Batch batch[2] = {0};
    Err unread = {0};
    bool ok = batch_read(w, &batch[0], &unread);
    for (int at = 0; ok && batch[at].n; at ^= 1) {
        Batch *now = &batch[at], *next = &batch[!at];
#pragma omp taskgroup
        {
#pragma omp taskloop grainsize(1) nogroup
            for (uint64_t i = 0; i < (uint64_t)now->n; i++) item_encode(w, &now->items[i]);
            ok = batch_read(w, next, &unread);
        }
        ok = batch_write(w, now, e) && ok;
    }
    if (unread.code) err_set(e, "%s", unread.msg); /* but an error in a document before it comes first */
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < batch[i].n; k++) free(batch[i].items[k].doc.text);
        free(batch[i].items);
    }
    return ok;
}

/* ---- the job --------------------------------------------------------------------------------------------- */

static bool text_length(const char *path, uint64_t *length, Err *e) {
    Text t;
    size_t got = 1;
    bool ok = text_open(&t, path, e);
    if (!ok) return false;
    char *block = xmalloc(1 << 18);
    for (*length = 0; ok && got; *length += got) ok = text_block(&t, block, 1 << 18, &got, e);
    free(block);
    text_close(&t);
    return ok;
}

static bool check_job(const ShardJob *job, const char *prefix, Err *e) {
    if (job->n_files == 0) return err_usage(e, "no input files");
    if (!(job->val_fraction >= 0 && job->val_fraction < 1))
        return err_usage(e, "the validation fraction must be at least 0 and below 1, not %g",
                         job->val_fraction);
    if (job->shard_tokens < 16) return err_usage(e, "a shard must have at least 16 tokens");
    if (!*prefix || strchr(prefix, '/'))
        return err_usage(e, "\"%s\" cannot be the first part of a file name", prefix);
    if (job->val_fraction > 0 && !strcmp(prefix, "val"))
        return err_usage(e, "the prefix \"val\" is taken by the validation part");
    return true;
}

/* All that can be refused before anything is read: names, sets that are there already. */
static bool work_open(Work *w, const ShardJob *job, Err *e) {
    const char *prefix = job->prefix ? job->prefix : "train";
    int width = w->vocab_size > 65536 ? 4 : 2;
    w->n_sets = job->val_fraction > 0 ? 2 : 1;
    w->tail = w->n_sets == 2 && job->n_files == 1 && doc_is_text(job->files[0]);
    w->to = &w->sets[0];
    w->start = w->shown = now_seconds();
    if (!check_job(job, prefix, e) || !docs_open(&w->docs, job->files, job->n_files, e)) return false;
    if (w->tail) {
        uint64_t length;
        if (!text_length(job->files[0], &length, e)) return false;
        w->cut_after = (uint64_t)((double)length * (1 - job->val_fraction));
    }
    return set_open(&w->sets[0], job, prefix, width, e) &&
           (w->n_sets == 1 || set_open(&w->sets[1], job, "val", width, e));
}

static bool work_commit(Work *w, Err *e) {
    for (int i = 0; i < w->n_sets; i++)
        if (w->sets[i].documents == 0)
            return err_set(e, "nothing for %s: %s", w->sets[i].stem,
                           w->n_sets == 1 ? "no document in the input"
                           : w->tail      ? "the text has no line break where it should be cut"
                                          : "too few documents for this validation fraction");
    for (int i = 0; i < w->n_sets; i++)
        if (!set_commit(&w->sets[i], w->job->tokenizer_dir, w->vocab_size, w->eot, e)) return false;
    show_progress(w, true);
    return true;
}

bool shard_write(const ShardJob *job, EncodeFn encode, const void *ctx, int32_t eot, int32_t vocab_size,
                 Err *e) {
    CHECK(eot >= 0 && eot < vocab_size);
    const int threads = job->threads > 0 ? job->threads : omp_get_max_threads();
    Work w = {.job = job, .encode = encode, .ctx = ctx, .eot = eot, .vocab_size = vocab_size};
    w.batch_bytes = (size_t)(threads + 1) << 20;
    bool ok = work_open(&w, job, e);
    if (ok) {
#pragma omp parallel num_threads(threads)
#pragma omp single
        ok = pump(&w, e);
    }
    ok = ok && work_commit(&w, e);
    for (int i = 0; i < w.n_sets; i++) set_close(&w.sets[i]);
    docs_close(&w.docs);
    return ok;
}

/* ---- a look inside --------------------------------------------------------------------------------------- */

enum { SHOWN = 200, WINDOW = 1 << 16 }; /* tokens of a document that are shown; tokens read at once */

typedef struct View {
    DecodeFn decode;
    const void *ctx;
    Str *out;
    int32_t eot; /* the token that the first shard starts with */
    int documents, left;
    int32_t ids[SHOWN]; /* the document at hand: its first tokens, and how many it has */
    uint64_t n;
} View;

static bool view_document(View *v, Err *e) {
    size_t n = v->n < SHOWN ? v->n : SHOWN;
    if (v->n == 0) return true;
    str_printf(v->out, "--- document %d, %llu tokens\n", v->documents - v->left + 1, (ull)v->n);
    if (v->decode) {
        if (!v->decode(v->ctx, v->ids + 1, n - 1, v->out, e))
            return false; /* without its end-of-text token */
    } else {
        for (size_t i = 0; i < n; i++) str_printf(v->out, i ? " %d" : "%d", v->ids[i]);
    }
    str_puts(v->out, v->n > n ? " [...]\n" : "\n");
    v->left--;
    v->n = 0;
    return true;
}

/* One more shard, until enough documents are complete. */
static bool view_shard(View *v, const Shard *s, Err *e) {
    int32_t *ids = xmalloc(WINDOW * sizeof *ids);
    bool ok = true;
    for (uint64_t at = 0; at < s->n && ok && v->left; at += WINDOW) {
        uint64_t n = s->n - at < WINDOW ? s->n - at : WINDOW;
        shard_read(s, at, n, ids);
        for (uint64_t i = 0; i < n && ok && v->left; i++) {
            if (ids[i] == v->eot) ok = view_document(v, e);
            if (v->n < SHOWN) v->ids[v->n] = ids[i];
            v->n++;
        }
    }
    free(ids);
    return ok;
}

/* Reads all tokens: how many start a document, and which is the largest. */
static uint32_t count_documents(const Shard *s, int32_t eot, uint64_t *documents) {
    int32_t *ids = xmalloc(WINDOW * sizeof *ids);
    uint32_t largest = 0;
    for (uint64_t at = 0; at < s->n; at += WINDOW) {
        uint64_t n = s->n - at < WINDOW ? s->n - at : WINDOW;
        shard_read(s, at, n, ids);
        for (uint64_t i = 0; i < n; i++) {
            *documents += ids[i] == eot;
            if ((uint32_t)ids[i] > largest) largest = (uint32_t)ids[i];
        }
    }
    free(ids);
    return largest;
}

typedef struct Totals {
    uint64_t tokens, documents;
    uint32_t largest;
} Totals;

static bool inspect_shard(View *v, const char *path, bool verify, bool first, int32_t vocab_size, Totals *t,
                          Err *e) {
    Shard s;
    if (!shard_open(&s, path, verify, e)) return false;
    if (first) shard_read(&s, 0, 1, &v->eot);
    t->tokens += s.n;
    str_printf(v->out, "%s: %llu tokens of %d bytes%s\n", path, (ull)s.n, s.width,
               !s.has_crc ? ", no checksum"
               : verify   ? ", checksum right"
                          : "");
    bool ok = true;
    if (verify) {
        uint32_t largest = count_documents(&s, v->eot, &t->documents);
        if (largest > t->largest) t->largest = largest;
        if (vocab_size && largest >= (uint32_t)vocab_size)
            ok = err_set(e, "%s: holds id %u, but the vocabulary has %d; it was made with another tokenizer",
                         path, largest, vocab_size);
    }
    shard_close(&s);
    return ok;
}

static void inspect_totals(View *v, int n_shards, const ShardInfo *info, bool verify, const Totals *t) {
    str_printf(v->out, "%d shard%s, %llu tokens\n", n_shards, n_shards == 1 ? "" : "s", (ull)t->tokens);
    if (verify)
        str_printf(v->out, "%llu documents (they start with token %d), largest token %u\n", (ull)t->documents,
                   v->eot, t->largest);
    if (info->tokens)
        str_printf(v->out, "info: %llu documents, %llu bytes of text, %.3f bytes a token\n",
                   (ull)info->documents, (ull)info->bytes, (double)info->bytes / (double)info->tokens);
    if (info->nats > 0)
        str_printf(v->out, "info: the floor of the loss is %.4f nats a token\n",
                   info->nats / (double)info->tokens);
}

bool shard_inspect(const char *path, bool verify, int documents, int32_t vocab_size, DecodeFn decode,
                   const void *ctx, Str *out, Err *e) {
    View v = {.decode = decode, .ctx = ctx, .out = out, .documents = documents, .left = documents};
    Totals t = {0};
    ShardInfo info;
    char **names;
    int n;
    if (!shard_info(path, &info, e) || !shard_list(path, &names, &n, e)) return false;
    bool ok = true;
    for (int i = 0; i < n && ok; i++) ok = inspect_shard(&v, names[i], verify, i == 0, vocab_size, &t, e);
    if (ok) inspect_totals(&v, n, &info, verify, &t);
    for (int i = 0; i < n && ok && v.left; i++) {
        Shard s;
        if (!(ok = shard_open(&s, names[i], false, e))) break;
        ok = view_shard(&v, &s, e);
        shard_close(&s);
    }
    ok = ok && (!v.left || view_document(&v, e));
    names_free(names, n);
    return ok;
}
