/* decontam.h - floor 3: documents that hold pieces of an evaluation set do not stay.
 *
 * After Brown et al. 2020 (GPT-3), appendix C: texts are compared by runs of 13 words in lower case without
 * punctuation. A run that more than 10 documents hold is a common phrase and does not count. Either the whole
 * document goes, or the run and 200 characters on both sides of it: then the pieces of at least 200
 * characters stay, unless there are more than 10 of them. A text of the evaluation set with 8 to 12 words is
 * compared as a whole; shorter ones are not. */
#ifndef GPT_DECONTAM_H
#define GPT_DECONTAM_H

#include "util.h"

typedef struct DecontamJob {
    const char *const *files;
    int n_files;
    const char *const
        *against; /* evaluation sets: every string in a .jsonl line, whatever its name, or a .txt */
    int n_against;
    const char *out; /* folder for kept_000000.jsonl.gz, dropped_000000.jsonl.gz, ..., report.json */
    const char *key; /* the field that holds the text; NULL: "text" */
    int ngram;       /* words: 13 */
    int most;        /* documents that may hold a run before it is a common phrase: 10 */
    bool cut;        /* cut the runs out instead of dropping the document */
    int threads;     /* 0: all */
    bool overwrite;
} DecontamJob;

/* A document in the dropped set gets "contaminated_by" (FILE:LINE of the evaluation text), "ngram" (the run
 * as it stands in the document) and "action", "dropped" or "cut". `counts`, if not NULL: documents that stay
 * whole, that are cut, that go; all 0 if the job was complete already. */
bool decontam_run(const DecontamJob *job, uint64_t counts[3], Err *e);
#endif
