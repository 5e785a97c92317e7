/* clean.h - floor 3: one document, from raw bytes to a verdict. */
#ifndef GPT_CLEAN_H
#define GPT_CLEAN_H

#include "classifier.h"
#include "html.h"
#include "ngram.h"
#include "normalise.h"
#include "pii.h"
#include "rules.h"
#include "source.h"

typedef struct CleanConfig {
    char key[64]; /* where a line of .jsonl has its text */
    HtmlOptions html;
    Normalise normalise;
    LineRules lines;
    int64_t short_line;                                       /* characters of the longest */
    double limit[N_RULES];                                    /* NAN: off */
    char ngram[512], classifier[512], language[512], lm[512]; /* folders of models; empty: none */
    char lm_precision[8];
    char languages[256]; /* those that are wanted, a comma between two; empty: any */
    bool anonymise;
} CleanConfig;

typedef struct CleanModels {
    Ngram *ngram;
    Classifier *classifier, *language;
    bool wanted[CLASSIFIER_LABELS]; /* of the languages */
    Pii *pii;
} CleanModels;
bool clean_models_open(CleanModels *m, const CleanConfig *c,
                       Err *e); /* what the config names; NULL the rest */
void clean_models_close(CleanModels *m);

/* What one thread needs, beside the models, which all share; documents use the same memory, one after the other. */
typedef struct Cleaner Cleaner;
Cleaner *cleaner_new(const CleanConfig *c, const CleanModels *models);
void cleaner_free(Cleaner *c);

/* Raw bytes to normalised text: *text points into the cleaner until the next call. Errors name no file. */
bool clean_extract(Cleaner *c, RawDoc *raw, const char **text, size_t *n, NormaliseCounts *counts, Err *e);
/* Drops lines from text[n] in place, returns what is left, and judges that. */
size_t clean_judge(Cleaner *c, char *text, size_t n, Judgement *v);
/* With what identifies people replaced, if the config says so: *text points into the cleaner until the next call. */
void clean_scrub(Cleaner *c, const char **text, size_t *n, PiiCounts *counts);
#endif
