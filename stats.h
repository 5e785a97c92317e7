/* stats.h - floor 3: what happened to the documents of a unit of work, or of a whole run: counts that add up,
 * histograms, samples. The report is drawn from nothing else, so it does not depend on who did the work when. */
#ifndef GPT_STATS_H
#define GPT_STATS_H

#include "classifier.h"
#include "normalise.h"
#include "pii.h"
#include "rules.h"
#include "source.h"

/* Why a document goes: a rule, by its number, or one of these. */
enum { REASON_UNREADABLE = N_RULES, REASON_EMPTY, REASON_DUPLICATE, N_REASONS };
const char *reason_name(int reason); /* "gopher.min_words", "duplicate" */

enum { STATS_BINS = 48, STATS_SAMPLES = 3, STATS_EXCERPT = 200, STATS_PROBLEMS = 20, STATS_FILE = 200 };

typedef struct Sample {
    double value;
    uint64_t order; /* of the document in the run; 0: no sample */
    char file[STATS_FILE], text[STATS_EXCERPT];
} Sample;

typedef struct Stats {
    uint64_t documents, bytes;     /* that were read */
    uint64_t judged, judged_bytes; /* that reached the rules */
    uint64_t kept, kept_bytes;
    uint64_t dropped[N_REASONS], dropped_bytes[N_REASONS];
    uint64_t breaks[N_RULES]; /* documents that break this rule, whatever else they break */
    uint64_t lines[N_LINE_RULES], duplicate_lines;
    NormaliseCounts normalised;
    PiiCounts anonymised;
    struct {
        char name[CLASSIFIER_NAME];
        uint64_t documents, bytes;
    } language
        [CLASSIFIER_LABELS]; /* the most likely one of those that reached the rules; by the model's label */
    uint64_t histogram[N_RULE_MEASURES][STATS_BINS];
    Sample sample[N_RULES][2][STATS_SAMPLES]; /* nearest to the limit: that pass, that break it */
    uint64_t problems;
    struct {
        char file[STATS_FILE];
        Problem is;
    } problem[STATS_PROBLEMS]; /* the first ones */
} Stats;

void stats_problem(Stats *s, const char *file, const Problem *p);
/* A document that was judged. `order` counts documents from 1, over the whole run. */
void stats_judged(Stats *s, const Judgement *v, const double limit[N_RULES], const char *text, size_t n,
                  const char *file, uint64_t order);
void stats_language(Stats *s, int label, const char *name, uint64_t bytes);
/* One measure, one rule of those: nothing if the value or the limit is a NAN. */
void stats_measure(Stats *s, int measure, double value);
void stats_rule(Stats *s, int rule, bool broken, double value, double limit, const char *text, size_t n,
                const char *file, uint64_t order);
/* And what becomes of it. */
void stats_dropped(Stats *s, int reason, uint64_t bytes);
void stats_kept(Stats *s, uint64_t bytes);
void stats_merge(Stats *into, const Stats *s, const double limit[N_RULES]); /* in the order of the run */

/* A measure's range: bin b of its histogram covers edges b and b + 1. */
double stats_edge(int measure, int b);
double stats_position(int measure, double x); /* in bins, from 0 to STATS_BINS */

bool stats_save(const Stats *s, const char *path, Err *e);
bool stats_load(Stats *s, const char *path, Err *e);
#endif
