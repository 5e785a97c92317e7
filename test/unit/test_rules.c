/* test_rules.c - rules.c: each measure on documents small enough to count by hand, each rule on both sides of its limit. */
#include "rules.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double value[N_RULE_MEASURES];

static void measure_text(const char *text) {
    static Measurer *m; /* used again: what an earlier document left must not show */
    if (!m) m = measurer_new(MEASURE_SHORT);
    measure(m, text, strlen(text), value);
}

#define EXPECT_VALUE(m, want)                                                                     \
    EXPECT(fabs(value[m] - (want)) < 1e-12, "%s is %.17g, not %.17g", measure_names[m], value[m], \
           (double)(want))

TEST(rules_of_nothing) {
    const char *const empty[] = {"", "\n", " \n\t\n "};
    for (int i = 0; i < 3; i++) {
        measure_text(empty[i]);
        for (int m = 0; m < M_PERPLEXITY; m++) EXPECT_VALUE(m, 0);
        EXPECT(isnan(value[M_PERPLEXITY]) && isnan(value[M_SCORE]));
    }
}

TEST(rules_words) {
    measure_text("The cat, and # the dog -- 12 ... end\u2026");
    /* The cat, and the dog 12 end.. have letters or numbers; # -- ... have none */
    EXPECT_VALUE(M_WORDS, 7);
    EXPECT_VALUE(M_WORD_LENGTH, (3 + 4 + 3 + 3 + 3 + 2 + 4) / 7.0);
    EXPECT_VALUE(M_HASHES, 1 / 10.0);
    EXPECT_VALUE(M_ELLIPSES, 2 / 10.0);
    EXPECT_VALUE(M_ALPHA, 6 / 10.0);
    EXPECT_VALUE(M_STOP_WORDS, 2); /* and, the; "The" is none */
    measure_text("be to of that have with the and the be");
    EXPECT_VALUE(M_STOP_WORDS, 8);
    measure_text("\u00e9t\u00e9 \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d");
    EXPECT_VALUE(M_WORDS, 3);
    EXPECT_VALUE(M_WORD_LENGTH, 10 / 3.0);
    EXPECT_VALUE(M_ALPHA, 1);
    measure_text("see http://a.bc/d or www.x.org now");
    EXPECT_VALUE(M_URLS, (13 + 9) / 34.0);
    measure_text("a|b ~ \u00a7 (ok), \u201cso\u201d");
    EXPECT_VALUE(M_SPECIAL, 3 / 18.0);
    measure_text("if (x) { y[1] = {2}; } Lorem Ipsum, LOREM IPSUM lorem  ipsum");
    EXPECT_VALUE(M_BRACES, 2);
    EXPECT_VALUE(M_LOREM, 2);
}

TEST(rules_lines) {
    measure_text("- one\n\n \u2022 two.\nthree...\nfour\u2026\nfive!");
    EXPECT_VALUE(M_BULLETS, 2 / 6.0);
    EXPECT_VALUE(M_ELLIPSIS_LINES, 2 / 6.0);
    EXPECT_VALUE(M_LINE_PUNCT, 3 / 5.0);
    EXPECT_VALUE(M_SHORT_LINES, 1);
    EXPECT_VALUE(M_NEWLINES, 5 / 7.0);
    EXPECT_VALUE(M_SENTENCES, 5); /* "- one" is one, too; U+2026 ends none, but its line does */
    measure_text("123456789012345678901234567890\n1234567890123456789012345678901");
    EXPECT_VALUE(M_SHORT_LINES, 0.5); /* 30 characters are short, 31 are not */
    measure_text("He said \"No.\" (Why?) \u201cOh!\u201d she\ncried. And on");
    EXPECT_VALUE(M_SENTENCES, 6);
    measure_text("\u5b8c\u3002\nok\u061f");
    EXPECT_VALUE(M_LINE_PUNCT, 1);
}

TEST(rules_short_lines) {
    static const char text[] = "ten chars.\nthirty characters, and no more\neleven char";
    static const int brief[] = {9, 10, 11, 30}, short_ones[] = {0, 1, 2, 3};
    for (int i = 0; i < 4; i++) {
        Measurer *m = measurer_new(brief[i]);
        measure(m, text, sizeof text - 1, value);
        EXPECT_VALUE(M_SHORT_LINES, short_ones[i] / 3.0);
        measurer_free(m);
    }
}

TEST(rules_repeated_lines) {
    /* lines: aa bbb aa aa cc; characters 11 and 6 line breaks */
    measure_text("aa\nbbb\n\naa\n\naa\ncc");
    EXPECT_VALUE(M_DUP_LINES, 2 / 5.0);
    EXPECT_VALUE(M_DUP_LINE_CHARS, 4 / 17.0);
    EXPECT_VALUE(M_CHAR_DUP, 4 / 11.0);
    EXPECT_VALUE(M_DUP_PARAS, 0);
    measure_text("aa\nb\n\n\naa\nb\n\nb\naa\n\naa\nb");
    EXPECT_VALUE(M_DUP_PARAS, 2 / 4.0);
    EXPECT_VALUE(M_DUP_PARA_CHARS, 8 / 23.0);
}

TEST(rules_top_grams) {
    measure_text("a b c d");
    EXPECT_VALUE(M_TOP_2, 3 / 7.0); /* all are there once: the first one, "a b" */
    EXPECT_VALUE(M_TOP_3, 5 / 7.0);
    EXPECT_VALUE(M_TOP_4, 7 / 7.0);
    measure_text("xx yy z xx yy z yy");
    EXPECT_VALUE(M_TOP_2, 10 / 18.0); /* "xx yy" twice; "yy z" twice, but later */
    EXPECT_VALUE(M_TOP_3, 14 / 18.0);
    EXPECT_VALUE(M_TOP_4, 10 / 18.0); /* "xx yy z xx": each is there once */
    measure_text("a a a a");
    EXPECT_VALUE(M_TOP_2, 9 / 7.0); /* they overlap, so more than all of it */
    measure_text("a");
    EXPECT_VALUE(M_TOP_2, 0);
}

TEST(rules_dup_grams) {
    /* The second "1 2 3 4 5" is repeated; so is the third, and "2 3 4 5 6" is only reached behind it. */
    measure_text("1 2 3 4 5 6 1 2 3 4 5 6 1 2 3 4 5 7");
    double chars = 35;
    EXPECT_VALUE(M_DUP_5, 10 / chars);
    EXPECT_VALUE(M_DUP_6, 6 / chars);
    EXPECT_VALUE(M_DUP_7, 7 / chars);
    EXPECT_VALUE(M_DUP_8, 8 / chars);
    EXPECT_VALUE(M_DUP_10, 10 / chars);
    measure_text("1 2 3 4 5 6 7 8 9 10 1 2 3 4 6 5");
    EXPECT_VALUE(M_DUP_5, 0);
}

/* The measures by their definitions, without any cleverness: quadratic. */
static void slow_grams(char *const *word, size_t words, size_t n, size_t *top, size_t *dup) {
    size_t best = 0, next = 0;
    bool *added = xcalloc(words + 1, sizeof *added);
    *top = *dup = 0;
    for (size_t i = 0; i + n <= words; i++) {
        size_t count = 0, length = n - 1, chars = 0;
        bool before = false;
        for (size_t k = 0; k < n; k++) length += strlen(word[i + k]), chars += strlen(word[i + k]);
        for (size_t j = 0; j + n <= words; j++) {
            bool same = true;
            for (size_t k = 0; k < n && same; k++) same = !strcmp(word[i + k], word[j + k]);
            count += same;
            before |= same && j < i && added[j];
        }
        if (count > best) best = count, *top = count * length;
        if (i < next) continue;
        if (before)
            *dup += chars, next = i + n;
        else
            added[i] = true;
    }
    free(added);
}

TEST(rules_grams_by_the_definition) {
    for (uint64_t seed = 0; seed < 60; seed++) {
        char text[2000], copy[2000], *word[400];
        size_t n = 0, words = 0, kinds = 2 + seed % 7;
        uint64_t length = 5 + rand_below(seed, RAND_TEST, 0, 0, 150);
        for (uint64_t i = 0; i < length; i++)
            n += (size_t)sprintf(text + n, "%s%.*s", i ? " " : "",
                                 (int)(1 + rand_below(seed, RAND_TEST, 1, i, kinds)), "abcdefgh");
        strcpy(copy, text);
        for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) word[words++] = w;
        measure_text(text);
        for (size_t k = 2; k <= 10; k++) {
            size_t top, dup;
            slow_grams(word, words, k, &top, &dup);
            if (k <= 4)
                EXPECT_VALUE(M_TOP_2 + k - 2, (double)top / (double)n);
            else
                EXPECT_VALUE(M_DUP_5 + k - 5, (double)dup / (double)n);
        }
    }
}

/* Each rule: a value just inside its limit passes, one just outside breaks that rule and no other. */
TEST(rules_limits) {
    double limit[N_RULES], v[N_RULE_MEASURES];
    for (int i = 0; i < N_RULES; i++) limit[i] = NAN;
    memset(v, 0, sizeof v);
    EXPECT(rules_broken(limit, v) == -1);
    for (int i = 0; i < N_RULES; i++) {
        const Rule *r = &rules[i];
        double at = isnan(r->limit) ? 0.5 : r->limit; /* those of models are off by default */
        limit[i] = v[r->measure] = at;
        EXPECT(rules_broken(limit, v) == -1, "%s: the limit itself passes", r->name);
        v[r->measure] = at + (r->most ? 1e-6 : -1e-6);
        EXPECT(rules_broken(limit, v) == i, "%s", r->name);
        limit[i] = NAN;
        EXPECT(rules_broken(limit, v) == -1, "%s is off", r->name);
    }
    EXPECT(!rule_holds(true, 2, 1) && rule_holds(false, 2, 1) && rule_holds(true, NAN, 1));
}

static const char *cleaned(const LineRules *r, const char *text, uint64_t dropped[N_LINE_RULES]) {
    static char out[4096];
    char low[4096];
    size_t n = strlen(text);
    memcpy(out, text, n + 1);
    for (size_t i = 0; i <= n; i++)
        low[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
    memset(dropped, 0, N_LINE_RULES * sizeof *dropped);
    out[lines_clean(r, out, n, low, dropped)] = 0;
    return out;
}

TEST(rules_lines_that_go) {
    const LineRules all = {true, 10, 3, true, true, true, true};
    uint64_t dropped[N_LINE_RULES];
    static const struct {
        const char *text, *left;
        int why;
    } cases[] = {
        {"One two three.", "One two three.", N_LINE_RULES},
        {" One two \"three!\" \n", "One two \"three!\"", N_LINE_RULES},
        {"One two elevenchars.", "", LINE_LONG_WORD},
        {"One two tenchars..", "One two tenchars..", N_LINE_RULES},
        {"One two \u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9.",
         "One two \u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9.", N_LINE_RULES},
        {"One two.", "", LINE_FEW_WORDS},
        {"One two three", "", LINE_NO_PUNCT},
        {"One two three...", "", LINE_NO_PUNCT},
        {"Turn JavaScript on.", "", LINE_JAVASCRIPT},
        {"Read our Privacy Policy.", "", LINE_POLICY},
        {"We have cookies here.", "We have cookies here.", N_LINE_RULES},
        {"It is so.[1] Or [edit] not [citation needed][] yet.", "It is so. Or  not  yet.", N_LINE_RULES},
        {"So it is. [23]", "So it is.", N_LINE_RULES},
        {"See [1a] and [editor].", "See [1a] and [editor].", N_LINE_RULES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = cleaned(&all, cases[i].text, dropped);
        EXPECT(!strcmp(got, cases[i].left), "case %zu: \"%s\"", i, got);
        for (int k = 0; k < N_LINE_RULES; k++)
            EXPECT(dropped[k] == (k == cases[i].why), "case %zu: %s", i, line_rule_names[k]);
    }
    const char *got = cleaned(&all, "\nOne two three.\n\nno\n\n\nFour five six.\n\n", dropped);
    EXPECT(!strcmp(got, "One two three.\n\nFour five six."), "\"%s\"", got);
    LineRules none = {.on = true};
    EXPECT(!strcmp(cleaned(&none, "a [1]\n...\nJavaScript", dropped), "a [1]\n...\nJavaScript"));
    EXPECT(!strcmp(cleaned(&(LineRules){0}, "  a ", dropped), "  a "));
}
