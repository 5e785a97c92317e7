/* test_demo.c - demo.c and the promises of demo_grammar.h.
 *
 * Everything here reads the rules' notation itself, character by character, and shares only the tables with
 * demo.c: it is a second, slow opinion on what a document's derivations are and what they cost. */
#include "test.h"
#include "demo.h"
#include "demo_grammar.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { N_RULES = sizeof demo_rules / sizeof *demo_rules };

/* ---- reading the notation ------------------------------------------------------------------------------ */

typedef struct Ref {
    bool draw, capital;
    int rule, form;
    const char *after;
} Ref;

static bool word_is(const char *word, size_t n, const char *s) {
    return strlen(s) == n && !strncasecmp(word, s, n);
}

static Ref read_ref(const char *t) {
    size_t n = strcspn(t, "]}"), name = strcspn(t + 1, ".]}");
    Ref r = {.draw = *t == '[', .rule = -1, .after = t + n + 1};
    for (size_t i = 1; i < n; i++) r.capital |= isupper(t[i]) != 0;
    for (int i = 0; i < N_RULES && r.rule < 0; i++)
        if (tolower(t[1]) == *demo_rules[i].name && word_is(t + 1, name, demo_rules[i].name)) r.rule = i;
    CHECK(r.rule >= 0, "%s", t);
    if (1 + name == n) return r;
    char forms[100], *save = NULL;
    strcpy(forms, demo_rules[r.rule].forms);
    char *f = strtok_r(forms, " ", &save);
    while (f && !word_is(t + 2 + name, n - name - 2, f)) f = strtok_r(NULL, " ", &save), r.form++;
    CHECK(f, "%s", t);
    return r;
}

/* A form of an alternative: its text starts here and ends at `|` or the end of the string. */
static const char *form_text(int rule, int alternative, int form) {
    const char *t = demo_rules[rule].alternatives[alternative];
    while (form--) t = strchr(t, '|') + 1;
    return t;
}

static int alternatives(int rule) {
    int n = 0;
    while (demo_rules[rule].alternatives[n]) n++;
    return n;
}

/* -log p of an alternative */
static double surprise(int rule, int alternative) {
    static double total[N_RULES];
    if (total[rule] == 0)
        for (int k = 0; k < alternatives(rule); k++) total[rule] += demo_weight(k);
    return log(total[rule] / demo_weight(alternative));
}

/* What is still to be said: the rest of a text, and of those that referred to it. */
typedef struct Rest {
    const char *t;
    const struct Rest *up;
} Rest;

static Rest skip_ends(Rest r) {
    while (r.t && (!*r.t || *r.t == '|')) r = r.up ? *r.up : (Rest){0};
    return r;
}

/* ---- every derivation of a text ------------------------------------------------------------------------ */

typedef struct Search {
    int drawn[N_RULES];
    int found; /* derivations */
    double nats;
} Search;

/* Tries every way to derive `text` from `r`; `capital` is owed to the next character. */
static void derive(Search *s, const char *text, Rest r, bool capital, double nats) {
    for (;; text++, r.t++, capital = false) {
        r = skip_ends(r);
        if (!r.t || *r.t == '[' || *r.t == '{') break;
        if (*text != (capital ? toupper(*r.t) : *r.t)) return;
    }
    if (!r.t) {
        s->found += !*text;
        if (!*text) s->nats = nats;
        return;
    }
    Ref ref = read_ref(r.t);
    Rest up = {ref.after, r.up};
    int before = s->drawn[ref.rule], first = ref.draw ? 0 : before;
    for (int k = first; k < (ref.draw ? alternatives(ref.rule) : first + 1); k++) {
        s->drawn[ref.rule] = k;
        derive(s, text, (Rest){form_text(ref.rule, k, ref.form), &up}, capital || ref.capital,
               nats + (ref.draw ? surprise(ref.rule, k) : 0));
    }
    s->drawn[ref.rule] = before;
}

TEST(demo_documents_have_one_derivation_of_that_probability) {
    Str text = {0};
    for (uint64_t i = 0; i < 2000; i++) {
        Search s = {0};
        text.n = 0;
        double p = demo_document(3, i, &text);
        derive(&s, text.p, (Rest){"[story]", NULL}, false, 0);
        EXPECT(s.found == 1, "%d derivations of: %s", s.found, text.p);
        EXPECT(fabs(s.nats + p) < 1e-9, "%.17g, not %.17g: %s", s.nats, -p, text.p);
    }
    str_free(&text);
}

/* ---- the promises, for all documents ------------------------------------------------------------------- */

/* Is there an expansion of a that begins an expansion of b, or the other way round? A recall may say anything
 * that its rule can, unless both sides make the same one; the same draw on both sides is taken to be the same
 * alternative, for that rule's own check shows that two different ones part. */
static bool overlap(Rest a, bool capital_a, Rest b, bool capital_b) {
    for (;;) {
        a = skip_ends(a), b = skip_ends(b);
        if (!a.t || !b.t) return true;
        bool ref_a = strchr("[{", *a.t), ref_b = strchr("[{", *b.t);
        size_t n = strcspn(a.t, "]}") + 1;
        if (ref_a && ref_b && capital_a == capital_b && !strncmp(a.t, b.t, n)) {
            a.t += n, b.t += n;
            continue;
        }
        if (ref_a || ref_b) break;
        if ((capital_a ? toupper(*a.t) : *a.t) != (capital_b ? toupper(*b.t) : *b.t)) return false;
        capital_a = capital_b = false;
        a.t++, b.t++;
    }
    if (!strchr("[{", *a.t)) return overlap(b, capital_b, a, capital_a);
    Ref ref = read_ref(a.t);
    Rest up = {ref.after, a.up};
    for (int k = 0; k < alternatives(ref.rule); k++)
        if (overlap((Rest){form_text(ref.rule, k, ref.form), &up}, capital_a || ref.capital, b, capital_b))
            return true;
    return false;
}

static void expect_prefix_free(int rule, int form, bool capital) {
    for (int i = 0; i < alternatives(rule); i++) {
        Rest a = {form_text(rule, i, form), NULL};
        for (int j = 0; j < i; j++) {
            Rest b = {form_text(rule, j, form), NULL};
            EXPECT(!overlap(a, capital, b, capital), "%s: \"%s\" and \"%s\"", demo_rules[rule].name, a.t,
                   b.t);
        }
    }
}

TEST(demo_alternatives_are_told_apart_from_left_to_right) {
    bool checked[N_RULES][8][2] = {{{false}}};
    for (int r = 0; r < N_RULES; r++)
        for (int k = 0; k < alternatives(r); k++)
            for (const char *t = demo_rules[r].alternatives[k]; (t = strchr(t, '[')); t++) {
                Ref ref = read_ref(t);
                if (!checked[ref.rule][ref.form][ref.capital])
                    expect_prefix_free(ref.rule, ref.form, ref.capital);
                checked[ref.rule][ref.form][ref.capital] = true;
            }
    expect_prefix_free(0, 0, false); /* the story, which no rule draws */
}

/* What may have happened on the way to a place in a document. */
typedef struct Past {
    bool may[N_RULES], must[N_RULES]; /* drawn on some path, on all paths */
    int words_min, words_max;
} Past;

static bool recalled[N_RULES], open_rules[N_RULES];

static Past walk(const char *t, Past past);

static Past walk_rule(Ref ref, Past before) {
    Past after = {0};
    before.may[ref.rule] = before.must[ref.rule] = true;
    open_rules[ref.rule] = true;
    for (int k = 0; k < alternatives(ref.rule); k++) {
        Past p = walk(form_text(ref.rule, k, ref.form), before);
        if (k == 0) after = p;
        for (int r = 0; r < N_RULES; r++) after.may[r] |= p.may[r], after.must[r] &= p.must[r];
        if (p.words_min < after.words_min) after.words_min = p.words_min;
        if (p.words_max > after.words_max) after.words_max = p.words_max;
    }
    open_rules[ref.rule] = false;
    return after;
}

static Past walk(const char *t, Past past) {
    while (*t && *t != '|') {
        if (*t != '[' && *t != '{') {
            past.words_min += *t == ' ', past.words_max += *t == ' ';
            t++;
            continue;
        }
        Ref ref = read_ref(t);
        const char *name = demo_rules[ref.rule].name;
        EXPECT(!open_rules[ref.rule] || !ref.draw, "%s contains itself", name);
        if (open_rules[ref.rule]) return past;
        if (ref.draw && recalled[ref.rule]) EXPECT(!past.may[ref.rule], "%s may be drawn twice: %s", name, t);
        if (!ref.draw) EXPECT(past.must[ref.rule], "%s may not have been drawn: %s", name, t);
        past = walk_rule(ref, past);
        t = ref.after;
    }
    return past;
}

TEST(demo_recalls_follow_exactly_one_draw) {
    for (int r = 0; r < N_RULES; r++)
        for (int k = 0; k < alternatives(r); k++)
            for (const char *t = demo_rules[r].alternatives[k]; (t = strchr(t, '{')); t++)
                recalled[read_ref(t).rule] = true;
    Past end = walk("[story]", (Past){.words_min = 1, .words_max = 1});
    EXPECT(end.words_min >= 50 && end.words_max <= 200, "%d to %d words", end.words_min, end.words_max);
    for (int r = 0; r < N_RULES; r++) EXPECT(end.may[r], "nothing draws %s", demo_rules[r].name);
}

/* ---- the floor ----------------------------------------------------------------------------------------- */

TEST(demo_entropy_is_the_mean_of_documents) {
    enum { N = 20000 };
    double nats, bytes, sum[2] = {0}, squares[2] = {0};
    Str text = {0};
    demo_entropy(&nats, &bytes);
    for (uint64_t i = 0; i < N; i++) {
        text.n = 0;
        double x[2] = {-demo_document(11, i, &text) - nats, (double)text.n - bytes};
        for (int j = 0; j < 2; j++) sum[j] += x[j], squares[j] += x[j] * x[j];
    }
    for (int j = 0; j < 2; j++) {
        double mean = sum[j] / N, error = sqrt(squares[j]) / N; /* of the mean */
        EXPECT(fabs(mean) < 3.5 * error, "%s: the mean is off by %.4f, %.1f standard errors",
               j ? "bytes" : "nats", mean, mean / error);
    }
    str_free(&text);
}

TEST(demo_document_depends_on_seed_and_index_only) {
    Str a = {0}, b = {0};
    double p = demo_document(5, 1000, &a);
    for (uint64_t i = 0; i < 10; i++) b.n = 0, demo_document(5, i, &b);
    b.n = 0;
    EXPECT(demo_document(5, 1000, &b) == p && a.n == b.n && !memcmp(a.p, b.p, a.n));
    b.n = 0;
    EXPECT(demo_document(6, 1000, &b) != p);
    str_free(&a);
    str_free(&b);
}

/* ---- files --------------------------------------------------------------------------------------------- */

/* The documents in a file equal demo_document's, to the last bit; returns how many there are. */
static uint64_t expect_documents(const char *path, uint64_t seed, uint64_t *bytes) {
    Err e = {0};
    Text in;
    Str text = {0};
    char *line;
    size_t n;
    uint64_t i = 0;
    *bytes = 0;
    EXPECT(text_open(&in, path, &e));
    for (; text_line(&in, &line, &n, &e) && line; i++) {
        cJSON *json = cJSON_ParseWithLength(line, n);
        text.n = 0;
        double p = demo_document(seed, i, &text);
        EXPECT(!strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(json, "text")), text.p), "%s", line);
        EXPECT(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "nats")) == -p, "%s", line);
        *bytes += text.n;
        cJSON_Delete(json);
    }
    EXPECT_OK(&e);
    text_close(&in);
    str_free(&text);
    return i;
}

TEST(demo_write_plain_and_gzip) {
    Err e = {0};
    char *plain = path_join(test_dir(), "a.jsonl"), *gz = path_join(test_dir(), "a.jsonl.gz");
    uint64_t bytes;
    EXPECT(demo_write(plain, 7, 300000, UINT64_MAX, &e));
    uint64_t n = expect_documents(plain, 7, &bytes);
    EXPECT(bytes >= 300000 && bytes < 300000 + 2000, "%lu bytes", (unsigned long)bytes);
    EXPECT(demo_write(gz, 7, UINT64_MAX, n, &e));
    EXPECT(expect_documents(gz, 7, &bytes) == n && bytes >= 300000);
    Map a, b;
    EXPECT(map_open(&a, plain, &e) && map_open(&b, gz, &e));
    EXPECT(b.n < a.n / 3 && b.p[0] == 0x1f && b.p[1] == 0x8b);
    map_close(&a);
    map_close(&b);
    EXPECT(!demo_write("/nonexistent/a.jsonl", 7, 1, 1, &e));
    EXPECT_ERR(&e, "/nonexistent/a.jsonl");
    free(plain);
    free(gz);
}
