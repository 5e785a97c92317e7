/* classifier.h - floor 2: what kind of text is this? A linear model over hashed words and word n-grams, in the manner of
 * fastText (Joulin et al. 2016) and of GPT-3's quality filter (Brown et al. 2020, appendix A): logistic regression for
 * each label, calibrated on text held out. Also the two rules that make a decision of a score. */
#ifndef GPT_CLASSIFIER_H
#define GPT_CLASSIFIER_H

#include "util.h"

enum { CLASSIFIER_LABELS = 64, CLASSIFIER_NAME = 64, CLASSIFIER_BINS = 10 };

/* ---- asking ---- */

typedef struct Classifier Classifier;
Classifier *classifier_open(const char *dir,
                            Err *e); /* DIR/classifier.bin; reads it once, for its checksum */
void classifier_close(Classifier *c);
int classifier_labels(const Classifier *c);
const char *classifier_label(const Classifier *c, int label);

/* The calibrated probability, 0 to 1, that a text has each label; the first one's alone. From any thread. */
void classifier_scores(const Classifier *c, const char *text, size_t n, double *scores);
double classifier_score(const Classifier *c, const char *text, size_t n);

/* ---- training ----
 * Holds 4 bytes a word and n-gram of all documents in memory (some 1.5 times the text's size), and 8 a weight. */

typedef struct ClassifierSet {
    const char *label; /* sets of one label are one; NULL: documents that have none */
    const char *const *files;
    int n_files;
} ClassifierSet;

typedef struct ClassifierJob {
    const ClassifierSet *sets;
    int n_sets;
    const char *key; /* where a .jsonl line has its text; NULL: "text" */
    const char *out_dir;
    uint64_t buckets; /* weights a label */
    int ngrams;       /* longest word n-grams, 1 .. 5 */
    int chars; /* longest n-grams of characters within words, 0 .. 5: for languages (Cavnar & Trenkle 1994) */
    int epochs;
    double rate;     /* AdaGrad's */
    double held_out; /* share of the documents, chosen by their hashes: half to calibrate, half to report */
    uint64_t seed;   /* of the order in which documents are seen */
    int threads;     /* 0: all; the result is the same for any number */
} ClassifierJob;
ClassifierJob classifier_defaults(void);

/* How well scores are on the half of the held-out documents that nothing was fitted to. */
typedef struct ClassifierBin {
    uint64_t n;
    double score, share; /* means: what was promised, and how many had the label */
} ClassifierBin;
typedef struct ClassifierReport {
    int labels;
    uint64_t trained, calibrated, tested; /* documents */
    uint64_t features;                    /* words and n-grams of all of these */
    double accuracy; /* one label: score >= 1/2 is right; more: the highest score is right */
    struct {
        char label[CLASSIFIER_NAME];
        uint64_t positives; /* of those tested */
        double auc, ece;    /* expected calibration error, over ten bins of equal width */
        double raw_ece;     /* before calibration */
        ClassifierBin bin[CLASSIFIER_BINS];
    } of[CLASSIFIER_LABELS];
} ClassifierReport;
bool classifier_train(const ClassifierJob *job, ClassifierReport *report, Err *e);

/* ---- deciding ----------------------------------------------------------------------------------------------
 * Both rules look at a document's score and hash only, so neither order nor threads nor ranks matter. */

typedef struct Keep {
    double score;
    uint64_t hash; /* of the document's text: hash_bytes(text, n, 0) */
} Keep;

/* Does a go before b? The higher score does; of equal ones the smaller hash. */
bool keep_before(Keep a, Keep b);
/* The last one of the share of all documents (rounded to nearest, and at least one) that goes before the others: keep
 * those that do not come after it. Each of the n files holds Keeps, as they lie in memory; no more than a buffer of
 * them is held at a time. Scores are 0 or more. *all is how many there are; *last makes sense if there are any. */
bool keep_share(const char *const *files, int n, double share, Keep *last, uint64_t *all, Err *e);
/* GPT-3's rule: yes if a Pareto number of shape `alpha` (9 there; numpy's, so it begins at 0) is above 1 - score. */
bool keep_pareto(Keep k, double alpha, uint64_t seed);
#endif
