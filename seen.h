/* seen.h - floor 2: exact duplicates over a whole run. Each unit of work leaves the hashes of its documents and lines in
 * a file; when all are there, a pass over these files, in their order, tells each unit what stood earlier. So the first
 * in input order stays, whoever was how fast, and memory is bounded: hashes lie in 64 parts of each file by their
 * highest bits, and a pass takes as many parts as fit. */
#ifndef GPT_SEEN_H
#define GPT_SEEN_H

#include "util.h"

enum { SEEN_PARTS = 64, SEEN_CHUNK = 1 << 18, SEEN_DOCUMENT = -1 };

typedef struct Seen {
    uint64_t hash;
    int32_t doc;  /* number within the unit */
    int32_t line; /* of the document; SEEN_DOCUMENT: the hash is the document's */
} Seen;

typedef struct SeenWriter {
    OutFile file;
    Seen *entry;
    size_t n;
} SeenWriter;
bool seen_create(SeenWriter *w, const char *path, Err *e);
void seen_put(SeenWriter *w, uint64_t hash, int32_t doc, int32_t line);
bool seen_commit(SeenWriter *w, Err *e);
void seen_abandon(SeenWriter *w);

typedef struct Drop {
    int32_t doc, line;
} Drop;

/* Reads hash files in order, writes for each a list of what to drop, to `drops[i]`. `memory` in bytes. */
bool seen_find(const char *const *hashes, const char *const *drops, int n, size_t memory, Err *e);
/* A unit's list, in order of document and line; malloc'd, NULL if it is empty. */
bool seen_drops(const char *path, Drop **drop, size_t *n, Err *e);
#endif
