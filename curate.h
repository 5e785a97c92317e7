/* curate.h - floor 4: raw text to clean documents: `gpt data clean` and `gpt data explain`.
 *
 * Stages over units of work (one file, or small files in a row):
 *   read    raw bytes to normalised text, and the hashes of its documents and lines
 *   seen    which of them stood earlier in the run
 *   judge   what is left is measured and judged, and written
 *   weigh   if there is a GPT: it scores what the rules leave, one unit after the other on all threads
 *   keep    if only a share of it is to be kept: the threshold follows from all scores of the run, so it is written here
 * Each stage leaves a file per unit that appears whole or not at all, so a run that was killed goes on from there, and
 * the result is the same, byte for byte; nor does it depend on the number of threads, nor on that of ranks (team.h), who
 * deal out the units; what stood earlier is found by rank 0. */
#ifndef GPT_CURATE_H
#define GPT_CURATE_H

#include "clean.h"
#include "words.h"

typedef struct CurateConfig {
    CleanConfig clean;
    int64_t max_document, unit; /* bytes of the longest document; of a unit of work */
    struct {
        bool documents, lines;
        int64_t min_line, memory_mb; /* characters of the shortest line that counts */
    } duplicates;
    struct {
        double
            share; /* of the documents that the rules leave, the best by the classifier's score; NAN: all */
        double pareto; /* GPT-3's rule: the shape of its numbers; NAN: no */
        int64_t seed;
    } keep;
    double dropped; /* share of the dropped documents that are written */
    int64_t gzip_level;
} CurateConfig;

void curate_defaults(CurateConfig *c);
bool curate_read(CurateConfig *c, const char *path, Err *e);
bool curate_set(CurateConfig *c, const char *assignment, Err *e);
bool curate_check(const CurateConfig *c, Err *e); /* does one key need another? */
bool curate_keeps_all(const CurateConfig *c);     /* what the rules leave */
void curate_print(const CurateConfig *c, Str *json);
void curate_help(Str *text); /* `gpt help clean` */

/* The model of config.clean.lm, as whoever can open it hands it over: perplexities of n texts, as good as those of one
 * after the other; NAN where there is none. */
typedef struct CurateLm {
    void (*score)(const void *model, const Span *text, int n, double *perplexity);
    const void *model;
} CurateLm;

typedef struct CurateJob {
    CurateConfig config;
    CurateLm lm;               /* of zeros if config.clean.lm is empty */
    const char *const *inputs; /* files and folders */
    int n_inputs;
    const char *out;
    int threads; /* 0: all cores */
} CurateJob;

/* Writes OUT/clean_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json and report.html; goes on from what an
 * earlier call has left there. */
bool curate_run(const CurateJob *job, Err *e);

/* Each document of a file through every stage and rule, as text for people. */
bool curate_explain(const CurateConfig *c, const CurateLm *lm, const char *path, int documents, Str *out,
                    Err *e);
#endif
