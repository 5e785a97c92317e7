/* clean.c - floor 3: see clean.h. */
#include "clean.h"
#include "docs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct Cleaner {
    const CleanConfig *config;
    const CleanModels *models;
    Measurer *measurer;
    Str html, text, spare, low, scrubbed;
};

/* Which labels of the model are wanted: all, if none is named. */
static bool find_languages(CleanModels *m, const char *names, Err *e) {
    int labels = classifier_labels(m->language);
    for (int k = 0; k < labels; k++) m->wanted[k] = !*names;
    for (size_t n; *names; names += n + (names[n] == ',')) {
        int found = 0;
        n = strcspn(names, ",");
        for (int k = 0; k < labels; k++) {
            const char *label = classifier_label(m->language, k);
            if (strlen(label) != n || memcmp(label, names, n)) continue;
            m->wanted[k] = true;
            found++;
        }
        if (!found)
            return err_usage(e, "language.wanted: the model knows no \"%.*s\"; it knows \"%s\" and others",
                             (int)n, names, classifier_label(m->language, 0));
    }
    return true;
}

bool clean_models_open(CleanModels *m, const CleanConfig *c, Err *e) {
    *m = (CleanModels){0};
    bool ok = (!*c->ngram || (m->ngram = ngram_open(c->ngram, e)) != NULL) &&
              (!*c->classifier || (m->classifier = classifier_open(c->classifier, e)) != NULL) &&
              (!*c->language || (m->language = classifier_open(c->language, e)) != NULL) &&
              (!m->language || find_languages(m, c->languages, e)) &&
              (!c->anonymise || (m->pii = pii_open(&(PiiOptions){0}, e)) != NULL);
    if (ok && !m->ngram &&
        !(isnan(c->limit[R_MAX_PERPLEXITY]) && isnan(c->limit[R_MIN_PERPLEXITY]) &&
          isnan(c->limit[R_MAX_RARITY])))
        ok = err_usage(
            e, "models.max_perplexity, min_perplexity and max_rarity need models.ngram: make one with "
               "gpt data lm train");
    if (ok && !m->classifier && !isnan(c->limit[R_MIN_SCORE]))
        ok =
            err_usage(e, "models.min_score needs models.classifier: make one with gpt data classifier train");
    if (ok && !m->language && *c->languages)
        ok = err_usage(e, "language.wanted needs language.model: make one with scripts/train_language.sh");
    if (!ok) clean_models_close(m);
    return ok;
}

void clean_models_close(CleanModels *m) {
    ngram_close(m->ngram);
    classifier_close(m->classifier);
    classifier_close(m->language);
    pii_close(m->pii);
    *m = (CleanModels){0};
}

Cleaner *cleaner_new(const CleanConfig *config, const CleanModels *models) {
    Cleaner *c = xcalloc(1, sizeof *c);
    c->config = config;
    c->models = models;
    c->measurer = measurer_new(config->short_line);
    return c;
}

void cleaner_free(Cleaner *c) {
    if (!c) return;
    measurer_free(c->measurer);
    str_free(&c->html);
    str_free(&c->text);
    str_free(&c->spare);
    str_free(&c->low);
    str_free(&c->scrubbed);
    free(c);
}

bool clean_extract(Cleaner *c, RawDoc *raw, const char **text, size_t *n, NormaliseCounts *counts, Err *e) {
    Doc doc = {.text = raw->data.p, .n = raw->data.n, .file = "", .line = raw->line, .named_by = "input.key"};
    Err bad = {0};
    if (raw->kind == RAW_JSON && !doc_text(&doc, c->config->key, &bad)) /* it says file:line: what */
        return err_set(e, "line %llu: %s", (unsigned long long)raw->line, strstr(bad.msg, ": ") + 2);
    if (raw->kind == RAW_HTML) {
        c->html.n = 0;
        if (!html_text(&c->config->html, doc.text, doc.n, &c->html, e)) return false;
        doc.text = c->html.p, doc.n = c->html.n;
    }
    normalise(&c->config->normalise, doc.text, doc.n, &c->text, &c->spare, counts);
    *text = c->text.p ? c->text.p : "";
    *n = c->text.n;
    return true;
}

/* ASCII capitals become small; the rest stays. */
static const char *lower(Cleaner *c, const char *text, size_t n) {
    c->low.n = 0;
    str_put(&c->low, text, n);
    for (size_t i = 0; i < n; i++) {
        char b = c->low.p[i];
        c->low.p[i] = (char)(b + (b >= 'A' && b <= 'Z' ? 32 : 0));
    }
    return c->low.p;
}

/* Models cost more than all the rules, so only what the rules leave gets to them. */
static int ask_models(const Cleaner *c, const char *text, size_t n, double value[N_RULE_MEASURES]) {
    if (c->models->ngram) {
        NgramScore score = {0};
        ngram_score(c->models->ngram, text, n, &score);
        value[M_PERPLEXITY] =
            score.words ? score_perplexity(&score) : NAN; /* nothing that it takes for a word */
        value[M_RARITY] = score.words ? score_rarity(&score) : NAN;
    }
    if (c->models->classifier) value[M_SCORE] = classifier_score(c->models->classifier, text, n);
    return rules_broken(c->config->limit, value);
}

/* A text shows its language soon. */
enum { LANGUAGE_BYTES = 8192 };

/* Each label's score is a probability of its own; they are scaled to add up to 1. */
static int ask_language(const CleanModels *m, const char *text, size_t n, double value[N_RULE_MEASURES]) {
    double score[CLASSIFIER_LABELS], sum = 0, wanted = 0;
    int best = 0;
    classifier_scores(m->language, text, n > LANGUAGE_BYTES ? utf8_whole(text, LANGUAGE_BYTES) : n, score);
    for (int k = 0; k < classifier_labels(m->language); k++) {
        sum += score[k];
        if (score[k] > score[best]) best = k;
        if (m->wanted[k] && score[k] > wanted) wanted = score[k];
    }
    value[M_LANGUAGE] = wanted / sum;
    return best;
}

size_t clean_judge(Cleaner *c, char *text, size_t n, Judgement *v) {
    memset(v, 0, sizeof *v);
    if (c->config->lines.on) n = lines_clean(&c->config->lines, text, n, lower(c, text, n), v->dropped);
    measure(c->measurer, text, n, v->value);
    v->language = c->models->language && n ? ask_language(c->models, text, n, v->value) : -1;
    v->broken = rules_broken(c->config->limit, v->value);
    if (v->broken < 0 && n) v->broken = ask_models(c, text, n, v->value);
    return n;
}

void clean_scrub(Cleaner *c, const char **text, size_t *n, PiiCounts *counts) {
    if (!c->models->pii) return;
    c->scrubbed.n = 0;
    pii_scrub(c->models->pii, *text, *n, &c->scrubbed, counts);
    *text = c->scrubbed.p ? c->scrubbed.p : "";
    *n = c->scrubbed.n;
}
