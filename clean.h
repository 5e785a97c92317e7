/* clean.h - floor 3: one document, from raw bytes to a verdict. */
#ifndef GPT_CLEAN_H
#define GPT_CLEAN_H

#include "html.h"
#include "normalise.h"
#include "rules.h"
#include "source.h"

typedef struct CleanConfig {
    char key[64]; /* where a line of .jsonl has its text */
    HtmlOptions html;
    Normalise normalise;
    LineRules lines;
    double limit[N_RULES]; /* NAN: off */
} CleanConfig;

/* What one thread needs; documents use the same memory, one after the other. */
typedef struct Cleaner Cleaner;
Cleaner *cleaner_new(const CleanConfig *c);
void cleaner_free(Cleaner *c);

/* Raw bytes to normalised text: *text points into the cleaner until the next call. Errors name no file. */
bool clean_extract(Cleaner *c, RawDoc *raw, const char **text, size_t *n, NormaliseCounts *counts, Err *e);
/* Drops lines from text[n] in place, returns what is left, and judges that. */
size_t clean_judge(Cleaner *c, char *text, size_t n, Judgement *v);
#endif
