/* stats.c - floor 3: see stats.h. */
#include "stats.h"
#include "words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *reason_name(int reason) {
    static const char *const own[] = {"unreadable", "empty", "duplicate"};
    return reason < N_RULES ? rules[reason].name : own[reason - N_RULES];
}

/* ---- histograms ------------------------------------------------------------------------------------------ */

/* Counts of things are drawn on a logarithmic scale, 1, 10^(1/6), ...; shares and ratios on a linear one up to `top`. */
static double top_of(int measure) {
    switch (measure) {
    case M_WORDS:
    case M_SENTENCES:
    case M_BRACES:
    case M_LOREM:
    case M_PERPLEXITY:
    case M_RARITY:
    case M_LM_PERPLEXITY: return 0;
    case M_WORD_LENGTH: return 16;
    case M_STOP_WORDS: return STATS_BINS / 4.0; /* four bins a word */
    default: return 1;
    }
}

double stats_position(int measure, double x) {
    double top = top_of(measure);
    double b = top > 0 ? x / top * STATS_BINS : x < 1 ? x : 1 + 6 * log10(x);
    return b < 0 ? 0 : b > STATS_BINS ? STATS_BINS : b;
}

static int bin_of(int measure, double x) {
    int b = (int)stats_position(measure, x);
    return b < STATS_BINS ? b : STATS_BINS - 1;
}

double stats_edge(int measure, int b) {
    double top = top_of(measure);
    return top > 0 ? top * b / STATS_BINS : b ? pow(10, (b - 1) / 6.0) : 0;
}

/* ---- samples --------------------------------------------------------------------------------------------- */

/* Is a nearer to the limit than b? Of equally near ones, the earlier in the run. */
static bool nearer(double a, uint64_t a_order, const Sample *b, double limit) {
    if (!b->order) return true;
    double x = fabs(a - limit), y = fabs(b->value - limit);
    return x != y ? x < y : a_order < b->order;
}

/* Makes room for a sample where it belongs; NULL if those there are nearer. */
static Sample *sample_place(Sample *list, double value, uint64_t order, double limit) {
    int at = STATS_SAMPLES;
    while (at > 0 && nearer(value, order, &list[at - 1], limit)) at--;
    if (at == STATS_SAMPLES) return NULL;
    memmove(list + at + 1, list + at, (size_t)(STATS_SAMPLES - 1 - at) * sizeof *list);
    return &list[at];
}

static void excerpt(char *dst, size_t size, const char *text, size_t n) {
    if (n >= size) n = utf8_whole(text, size - 1);
    memset(dst, 0, size); /* to the last byte, so that files of statistics are the same each time */
    memcpy(dst, text, n);
}

void stats_measure(Stats *s, int measure, double value) {
    if (!isnan(value)) s->histogram[measure][bin_of(measure, value)]++;
}

void stats_rule(Stats *s, int rule, bool broken, double value, double limit, const char *text, size_t n,
                const char *file, uint64_t order) {
    if (isnan(limit) || isnan(value)) return;
    s->breaks[rule] += broken;
    Sample *at = sample_place(s->sample[rule][broken], value, order, limit);
    if (!at) return;
    at->value = value;
    at->order = order;
    excerpt(at->file, sizeof at->file, file, strlen(file));
    excerpt(at->text, sizeof at->text, text, n);
}

/* ---- counts ---------------------------------------------------------------------------------------------- */

void stats_problem(Stats *s, const char *file, const Problem *p) {
    if (s->problems < STATS_PROBLEMS) {
        excerpt(s->problem[s->problems].file, STATS_FILE, file, strlen(file));
        s->problem[s->problems].is = *p;
    }
    s->problems++;
}

void stats_dropped(Stats *s, int reason, uint64_t bytes) {
    s->dropped[reason]++;
    s->dropped_bytes[reason] += bytes;
}

void stats_kept(Stats *s, uint64_t bytes) {
    s->kept++;
    s->kept_bytes += bytes;
}

void stats_judged(Stats *s, const Judgement *v, const double limit[N_RULES], const char *text, size_t n,
                  const char *file, uint64_t order) {
    s->judged++;
    s->judged_bytes += n;
    for (int i = 0; i < N_LINE_RULES; i++) s->lines[i] += v->dropped[i];
    for (int m = 0; m < N_RULE_MEASURES; m++) stats_measure(s, m, v->value[m]);
    for (int i = 0; i < N_RULES; i++) {
        double x = v->value[rules[i].measure];
        stats_rule(s, i, !rule_holds(rules[i].most, x, limit[i]), x, limit[i], text, n, file, order);
    }
}

void stats_language(Stats *s, int label, const char *name, uint64_t bytes) {
    snprintf(s->language[label].name, CLASSIFIER_NAME, "%s", name);
    s->language[label].documents++;
    s->language[label].bytes += bytes;
}

static void merge_samples(Sample *into, const Sample *from, double limit) {
    for (int i = 0; i < STATS_SAMPLES && from[i].order; i++) {
        Sample *at = sample_place(into, from[i].value, from[i].order, limit);
        if (at) *at = from[i];
    }
}

static void add(uint64_t *into, const uint64_t *from, size_t n) {
    for (size_t i = 0; i < n; i++) into[i] += from[i];
}

void stats_merge(Stats *into, const Stats *s, const double limit[N_RULES]) {
    for (uint64_t i = 0; i < STATS_PROBLEMS && i < s->problems && into->problems + i < STATS_PROBLEMS; i++)
        into->problem[into->problems + i] = s->problem[i];
    into->problems += s->problems;
    into->documents += s->documents, into->bytes += s->bytes;
    into->judged += s->judged, into->judged_bytes += s->judged_bytes;
    into->kept += s->kept, into->kept_bytes += s->kept_bytes;
    into->duplicate_lines += s->duplicate_lines;
    add(into->dropped, s->dropped, N_REASONS);
    add(into->dropped_bytes, s->dropped_bytes, N_REASONS);
    add(into->breaks, s->breaks, N_RULES);
    add(into->anonymised.n, s->anonymised.n, PII_KINDS);
    add(into->lines, s->lines, N_LINE_RULES);
    into->normalised.repaired += s->normalised.repaired;
    into->normalised.mojibake += s->normalised.mojibake;
    into->normalised.controls += s->normalised.controls;
    into->normalised.composed += s->normalised.composed;
    for (int k = 0; k < CLASSIFIER_LABELS; k++) {
        if (!s->language[k].documents) continue;
        memcpy(into->language[k].name, s->language[k].name, CLASSIFIER_NAME);
        into->language[k].documents += s->language[k].documents;
        into->language[k].bytes += s->language[k].bytes;
    }
    add(&into->histogram[0][0], &s->histogram[0][0], (size_t)N_RULE_MEASURES * STATS_BINS);
    for (int i = 0; i < N_RULES; i++)
        for (int side = 0; side < 2; side++)
            merge_samples(into->sample[i][side], s->sample[i][side], limit[i]);
}

/* ---- files of a run that goes on ------------------------------------------------------------------------- */

bool stats_save(const Stats *s, const char *path, Err *e) {
    OutFile f;
    if (!file_create(&f, path, e)) return false;
    file_put(&f, s, sizeof *s);
    uint32_t crc = f.crc;
    file_put(&f, &crc, sizeof crc);
    return file_commit(&f, e);
}

bool stats_load(Stats *s, const char *path, Err *e) {
    char *data;
    size_t n;
    uint32_t crc;
    if (!file_read(path, SIZE_MAX / 2, &data, &n, e)) return false;
    bool ok = n == sizeof *s + sizeof crc;
    if (ok) {
        memcpy(s, data, sizeof *s);
        memcpy(&crc, data + sizeof *s, sizeof crc);
        ok = crc == crc32_of(0, data, sizeof *s);
    }
    free(data);
    return ok || err_set(e, "%s: is damaged, or of another version; remove the output folder and start again",
                         path);
}
