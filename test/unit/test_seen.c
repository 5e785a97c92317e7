/* test_seen.c - seen.c: what stood earlier, by one table of all hashes as by a table a part. */
#include "seen.h"
#include "test.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

enum { FILES = 3, DOCUMENTS = 2000 };

/* Each file's hashes: of 6000 in all, every third stood earlier. */
static uint64_t hash_of(int file, int doc) {
    int i = file * DOCUMENTS + doc;
    return hash_mix((uint64_t)(i % 3 ? i : i / 6));
}

static char *file_of(const char *dir, const char *name, int i) {
    Str s = {0};
    str_printf(&s, "%s/%d.%s", dir, i, name);
    return s.p;
}

static void write_hashes(const char *path, int file) {
    SeenWriter w;
    Err e = {0};
    EXPECT(seen_create(&w, path, &e), "%s", e.msg);
    for (int doc = 0; doc < DOCUMENTS; doc++) seen_put(&w, hash_of(file, doc), doc, SEEN_DOCUMENT);
    EXPECT(seen_commit(&w, &e), "%s", e.msg);
}

TEST(seen_in_parts_as_at_once) {
    const char *dir = test_dir();
    char *hashes[FILES], *once[FILES], *parts[FILES];
    Err e = {0};
    for (int i = 0; i < FILES; i++) {
        hashes[i] = file_of(dir, "seen", i), once[i] = file_of(dir, "once", i),
        parts[i] = file_of(dir, "parts", i);
        write_hashes(hashes[i], i);
    }
    EXPECT(seen_find((const char *const *)hashes, (const char *const *)once, FILES, (size_t)1 << 30, &e),
           "%s", e.msg);
    EXPECT(seen_find((const char *const *)hashes, (const char *const *)parts, FILES, 1, &e), "%s",
           e.msg); /* no two parts fit */
    for (int f = 0; f < FILES; f++) {
        Drop *a = NULL, *b = NULL;
        size_t n = 0, m = 0, at = 0;
        EXPECT(seen_drops(once[f], &a, &n, &e) && seen_drops(parts[f], &b, &m, &e), "%s", e.msg);
        EXPECT(n == m && n > DOCUMENTS / 8 && !memcmp(a, b, n * sizeof *a), "%zu and %zu", n, m);
        for (int doc = 0; doc < DOCUMENTS; doc++) {
            bool before = false;
            for (int i = 0; i < f * DOCUMENTS + doc && !before; i++)
                before = hash_of(i / DOCUMENTS, i % DOCUMENTS) == hash_of(f, doc);
            bool listed = at < n && a[at].doc == doc;
            EXPECT(listed == before, "file %d, document %d", f, doc);
            at += listed;
        }
        free(a), free(b);
        free(hashes[f]), free(once[f]), free(parts[f]);
    }
}
