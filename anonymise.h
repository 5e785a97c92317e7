/* anonymise.h - floor 3: files of documents with what identifies a person taken out (pii.h). */
#ifndef GPT_ANONYMISE_H
#define GPT_ANONYMISE_H

#include "pii.h"

typedef struct AnonymiseJob {
    const char *const *files;
    int n_files;
    const char *out; /* folder for clean_000000.jsonl.gz, ..., report.json */
    const char *key; /* the field that holds the text; NULL: "text" */
    PiiOptions pii;
    int threads; /* 0: all */
    bool overwrite;
} AnonymiseJob;

/* Lines in which nothing was found stay as they are, byte for byte. `counts` is 0 if the job was complete
 * already. */
bool anonymise_run(const AnonymiseJob *job, PiiCounts *counts, Err *e);

/* From one open file to another, any text, a line at a time. */
bool anonymise_stream(int in, int out, const PiiOptions *o, PiiCounts *counts, Err *e);

/* Kinds from a list such as "email,phone", "default" or "all". */
bool anonymise_kinds(const char *list, unsigned *kinds, Err *e);
#endif
