/* curate_explain.c - floor 4, part of curate.c: documents through every stage and rule, for people to read. */
#include "curate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Told {
    Str *out;
} Told;

static void tell(void *ctx, const char *file, const Problem *p) {
    Told *t = ctx;
    str_printf(t->out, "%s: at byte %llu: %s; passed over\n", file, (unsigned long long)p->offset, p->what);
}

static void explain_normalise(Str *out, const NormaliseCounts *n) {
    if (n->repaired)
        str_printf(out, "  %llu bytes were not UTF-8, the first at byte %llu\n",
                   (unsigned long long)n->repaired, (unsigned long long)n->first);
    if (n->mojibake)
        str_printf(out, "  %llu characters of mojibake put right\n", (unsigned long long)n->mojibake);
    if (n->controls) str_printf(out, "  %llu control characters left out\n", (unsigned long long)n->controls);
    if (n->composed) str_puts(out, "  composed to NFC\n");
}

static void explain_rule(Str *out, const Rule *rule, double value, double limit) {
    char side[32] = "off", verdict[64] = "";
    if (!isnan(limit)) snprintf(side, sizeof side, "%s %.6g", rule->most ? "<=" : ">=", limit);
    if (isnan(limit) || isnan(value))
        snprintf(verdict, sizeof verdict, "-");
    else if (rule_holds(rule->most, value, limit))
        snprintf(verdict, sizeof verdict, "pass");
    else
        snprintf(verdict, sizeof verdict, "DROP, %.6g too %s", fabs(value - limit),
                 rule->most ? "many" : "few");
    str_printf(out, "  %-32s %12.6g  %-12s %s\n", rule->name, value, side, verdict);
}

/* What becomes of the best only a run can tell; with GPT-3's rule, how likely is it? P(Pareto > 1 - s) = (2 - s)^-a. */
static void explain_keep(Str *out, const CurateConfig *c, double score) {
    const char *name = rules[R_KEEP].name;
    if (curate_keeps_all(c) || isnan(score)) return;
    if (isnan(c->keep.pareto))
        str_printf(out, "  %-32s %12.6g  %-12s\n", name, score, "the run's");
    else
        str_printf(out, "  %-32s %12.6g  %-12s kept with probability %.3g\n", "models.pareto", score, "",
                   pow(2 - score, -c->keep.pareto));
}

static void explain_text(Str *out, const CurateConfig *c, const CleanModels *models, const CurateLm *lm,
                         Cleaner *cleaner, const char *text, size_t n) {
    Str copy = {0};
    Judgement v;
    str_put(&copy, text, n);
    size_t left = clean_judge(cleaner, copy.p, n, &v);
    if (lm->score && left && v.broken < 0) {
        lm->score(lm->model, &(Span){copy.p, left}, 1, &v.value[M_LM_PERPLEXITY]);
        v.broken = rules_broken(c->clean.limit, v.value);
    }
    str_printf(out, "  %zu bytes of text; %zu after C4's rules for lines", n, left);
    for (int i = 0; i < N_LINE_RULES; i++)
        if (v.dropped[i])
            str_printf(out, "; %s dropped %llu", line_rule_names[i], (unsigned long long)v.dropped[i]);
    str_printf(out, "\n  %-32s %12s  %-12s\n", "rule", "value", "limit");
    for (int i = 0; i < R_KEEP; i++)
        explain_rule(out, &rules[i], v.value[rules[i].measure], c->clean.limit[i]);
    explain_keep(out, c, v.value[M_SCORE]);
    if (v.language >= 0) str_printf(out, "  language: %s\n", classifier_label(models->language, v.language));
    if (!left)
        str_puts(out, "  verdict: dropped, nothing is left of it\n");
    else if (v.broken >= 0)
        str_printf(out, "  verdict: dropped by %s: %s\n", rules[v.broken].name, rules[v.broken].help);
    else
        str_printf(out, "  verdict: kept (unless it stood earlier in a run%s)\n",
                   curate_keeps_all(c) ? "" : ", or others score higher");
    str_free(&copy);
}

bool curate_explain(const CurateConfig *c, const CurateLm *lm, const char *path, int documents, Str *out,
                    Err *e) {
    Told told = {out};
    CleanModels models;
    if (!curate_check(c, e) || !clean_models_open(&models, &c->clean, e)) return false;
    Source *s = source_open(path, (size_t)c->max_document, tell, &told, e);
    Cleaner *cleaner = cleaner_new(&c->clean, &models);
    bool opened = s != NULL;
    RawDoc raw = {0};
    int i = 0;
    for (; s && i < documents && source_next(s, &raw); i++) {
        NormaliseCounts counts = {0};
        const char *text;
        size_t n;
        Err bad = {0};
        str_printf(out, "%s, document %d, at byte %llu: %zu bytes\n", path, i + 1,
                   (unsigned long long)raw.offset, raw.data.n);
        if (!clean_extract(cleaner, &raw, &text, &n, &counts, &bad)) {
            str_printf(out, "  verdict: dropped, it cannot be read: %s\n", bad.msg);
            continue;
        }
        explain_normalise(out, &counts);
        explain_text(out, c, &models, lm, cleaner, text, n);
    }
    if (s && !i) str_printf(out, "%s: no document in it can be read\n", path);
    raw_free(&raw);
    cleaner_free(cleaner);
    source_close(s);
    clean_models_close(&models);
    return opened;
}
