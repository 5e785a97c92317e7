/* dedup.h - floor 3: of documents that are nearly the same, one stays.
 *
 * Signatures of all documents (minhash.h) go to the disk; the keys of their bands are sorted there; documents
 * that share a key are in one cluster, and so are clusters that share a document; of each cluster one
 * document is kept. Results depend on neither the threads nor the memory, and a job that was killed goes on
 * from what is complete. */
#ifndef GPT_DEDUP_H
#define GPT_DEDUP_H

#include "util.h"

typedef enum DedupKeep {
    DEDUP_FIRST,   /* in the order of the input */
    DEDUP_LONGEST, /* most bytes of text; among equals the first */
    DEDUP_SCORE,   /* highest number under `score`; among equals, and where there is none, the first */
} DedupKeep;

typedef struct DedupJob {
    const char *const *files;
    int n_files;
    const char *out;   /* folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json */
    const char *key;   /* the field that holds the text; NULL: "text" */
    const char *score; /* a field, or a path such as "scores.quality"; for DEDUP_SCORE */
    DedupKeep keep;
    int bands, rows, ngram;
    int threads;     /* 0: all */
    uint64_t memory; /* bytes for sorting */
    bool overwrite;
} DedupJob;

typedef struct DedupResult {
    uint64_t kept, dropped;            /* documents; both 0 if the job was complete already */
    double sign_s, cluster_s, write_s; /* seconds in each stage, as far as it was left to do */
} DedupResult;

/* A dropped document's line gets "duplicate_of", the FILE:LINE of the one that stays (a .txt's FILE), and
 * "similarity", estimated from the signatures. */
bool dedup_run(const DedupJob *job, DedupResult *result, Err *e);
#endif
