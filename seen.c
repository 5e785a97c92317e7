/* seen.c - floor 2: see seen.h. */
#include "seen.h"
#include "words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file is a row of chunks: how many entries each part has, then the entries, part by part. */
typedef struct Chunk {
    uint32_t n[SEEN_PARTS];
} Chunk;

static unsigned part_of(uint64_t hash) {
    return (unsigned)(hash >> 58);
}

/* ---- writing --------------------------------------------------------------------------------------------- */

bool seen_create(SeenWriter *w, const char *path, Err *e) {
    *w = (SeenWriter){.entry = xmalloc(SEEN_CHUNK * sizeof *w->entry)};
    if (file_create(&w->file, path, e)) return true;
    free(w->entry);
    return false;
}

static void chunk_write(SeenWriter *w) {
    Chunk c = {0};
    size_t at[SEEN_PARTS] = {0};
    if (!w->n) return;
    Seen *sorted = xmalloc(w->n * sizeof *sorted);
    for (size_t i = 0; i < w->n; i++) c.n[part_of(w->entry[i].hash)]++;
    for (int p = 1; p < SEEN_PARTS; p++) at[p] = at[p - 1] + c.n[p - 1];
    for (size_t i = 0; i < w->n; i++) sorted[at[part_of(w->entry[i].hash)]++] = w->entry[i];
    file_put(&w->file, &c, sizeof c);
    file_put(&w->file, sorted, w->n * sizeof *sorted);
    free(sorted);
    w->n = 0;
}

void seen_put(SeenWriter *w, uint64_t hash, int32_t doc, int32_t line) {
    w->entry[w->n++] = (Seen){hash, doc, line};
    if (w->n == SEEN_CHUNK) chunk_write(w);
}

bool seen_commit(SeenWriter *w, Err *e) {
    chunk_write(w);
    free(w->entry);
    w->entry = NULL;
    return file_commit(&w->file, e);
}

void seen_abandon(SeenWriter *w) {
    free(w->entry);
    w->entry = NULL;
    file_abandon(&w->file);
}

/* ---- finding --------------------------------------------------------------------------------------------- */

typedef struct Set {
    uint64_t *key; /* 0: free */
    size_t mask;
} Set;

/* Was the hash there already? It is now. */
static bool set_add(Set *s, uint64_t hash) {
    uint64_t key = hash ? hash : 1;
    size_t i = hash_mix(key) & s->mask;
    for (; s->key[i]; i = (i + 1) & s->mask)
        if (s->key[i] == key) return true;
    s->key[i] = key;
    return false;
}

static bool read_exactly(FILE *f, void *p, size_t n, const char *path, Err *e) {
    if (fread(p, 1, n, f) == n) return true;
    return err_set(e, "%s: %s", path,
                   ferror(f) ? strerror(errno) : "is cut short; remove the folder and start again");
}

/* Calls back with the next chunk's counts, the file standing at its first entry; *end after the last. */
static bool next_chunk(FILE *f, Chunk *c, const char *path, bool *end, Err *e) {
    size_t got = fread(c, 1, sizeof *c, f);
    *end = got == 0 && !ferror(f);
    return *end || got == sizeof *c ||
           err_set(e, "%s: is cut short; remove the folder and start again", path);
}

static bool count_parts(const char *path, uint64_t total[SEEN_PARTS], Err *e) {
    FILE *f = fopen(path, "rb");
    Chunk c;
    bool end = false, ok = f || err_set(e, "%s: cannot open: %s", path, strerror(errno));
    while (ok && (ok = next_chunk(f, &c, path, &end, e)) && !end) {
        uint64_t n = 0;
        for (int p = 0; p < SEEN_PARTS; p++) total[p] += c.n[p], n += c.n[p];
        ok = fseeko(f, (off_t)(n * sizeof(Seen)), SEEK_CUR) == 0 ||
             err_set(e, "%s: %s", path, strerror(errno));
    }
    if (f) fclose(f);
    return ok;
}

/* The entries of parts lo .. hi - 1 of one chunk, looked up and kept. */
static bool chunk_find(FILE *f, const Chunk *c, int lo, int hi, Seen *buf, Set *set, FILE *out,
                       const char *path, Err *e) {
    uint64_t before = 0, n = 0, after = 0;
    for (int p = 0; p < SEEN_PARTS; p++) *(p < lo ? &before : p < hi ? &n : &after) += c->n[p];
    if (before + n + after > SEEN_CHUNK) return err_set(e, "%s: is damaged", path);
    if (fseeko(f, (off_t)(before * sizeof *buf), SEEK_CUR) != 0)
        return err_set(e, "%s: %s", path, strerror(errno));
    if (!read_exactly(f, buf, (size_t)n * sizeof *buf, path, e)) return false;
    for (size_t i = 0; i < n; i++)
        if (set_add(set, buf[i].hash)) {
            Drop d = {buf[i].doc, buf[i].line};
            fwrite(&d, sizeof d, 1, out);
        }
    return fseeko(f, (off_t)(after * sizeof *buf), SEEK_CUR) == 0 ||
           err_set(e, "%s: %s", path, strerror(errno));
}

static bool file_find(const char *path, const char *drops, int lo, int hi, Seen *buf, Set *set, Err *e) {
    FILE *f = fopen(path, "rb"), *out = fopen(drops, lo ? "ab" : "wb");
    Chunk c;
    bool end = false, ok = f || err_set(e, "%s: cannot open: %s", path, strerror(errno));
    if (!out) ok = err_set(e, "%s: cannot write: %s", drops, strerror(errno));
    while (ok && (ok = next_chunk(f, &c, path, &end, e)) && !end)
        ok = chunk_find(f, &c, lo, hi, buf, set, out, path, e);
    if (f) fclose(f);
    if (out && (ferror(out) | fclose(out))) ok = err_set(e, "%s: cannot write: %s", drops, strerror(errno));
    return ok;
}

bool seen_find(const char *const *hashes, const char *const *drops, int n, size_t memory, Err *e) {
    uint64_t total[SEEN_PARTS] = {0};
    for (int i = 0; i < n; i++)
        if (!count_parts(hashes[i], total, e)) return false;
    Seen *buf = xmalloc(SEEN_CHUNK * sizeof *buf);
    bool ok = true;
    for (int lo = 0, hi; lo < SEEN_PARTS && ok; lo = hi) {
        uint64_t entries = total[lo];
        size_t slots = 1024;
        for (hi = lo + 1; hi < SEEN_PARTS && (entries + total[hi]) * 3 * sizeof(uint64_t) <= memory; hi++)
            entries += total[hi];
        while (slots < entries + entries / 2) slots *= 2;
        Set set = {xcalloc(slots, sizeof *set.key), slots - 1};
        for (int i = 0; i < n && ok; i++) ok = file_find(hashes[i], drops[i], lo, hi, buf, &set, e);
        free(set.key);
    }
    free(buf);
    return ok;
}

static int by_place(const void *a, const void *b) {
    const Drop *x = a, *y = b;
    return x->doc != y->doc ? (x->doc > y->doc) - (x->doc < y->doc)
                            : (x->line > y->line) - (x->line < y->line);
}

bool seen_drops(const char *path, Drop **drop, size_t *n, Err *e) {
    char *data;
    size_t bytes;
    *drop = NULL;
    *n = 0;
    if (!file_read(path, SIZE_MAX / 2, &data, &bytes, e)) return false;
    *drop = (Drop *)(void *)data;
    *n = bytes / sizeof **drop;
    qsort(*drop, *n, sizeof **drop, by_place);
    return true;
}
