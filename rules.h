/* rules.h - floor 2: what can be measured of a text, and the published limits that tell prose from debris.
 *
 * Gopher: Rae et al. 2021, section A.1.1 and table A1. C4: Raffel et al. 2020, section 2.2. FineWeb: Penedo et al.
 * 2024, section 3.6. A word is what stands between white space, as in Gopher; lengths are in characters. */
#ifndef GPT_RULES_H
#define GPT_RULES_H

#include "util.h"

#include <math.h>

/* ---- measures and rules ---------------------------------------------------------------------------------- */

enum {
    M_WORDS,          /* with a letter or a number in them */
    M_WORD_LENGTH,    /* mean, of those */
    M_HASHES,         /* "#" per word; here and below words without letters and numbers count, too */
    M_ELLIPSES,       /* "..." and U+2026 per word */
    M_BULLETS,        /* share of lines that begin with "-" or U+2022 */
    M_ELLIPSIS_LINES, /* share of lines that end in an ellipsis */
    M_ALPHA,          /* share of words with a letter */
    M_STOP_WORDS,     /* how many of: the be to of and that have with */
    M_DUP_LINES,      /* share of lines that stood earlier in the document; empty ones are none */
    M_DUP_LINE_CHARS, /* their characters */
    M_DUP_PARAS,      /* the same of paragraphs: what empty lines separate */
    M_DUP_PARA_CHARS,
    M_TOP_2, /* share of the characters in the commonest 2-gram of words */
    M_TOP_3,
    M_TOP_4,
    M_DUP_5, /* share of the characters in 5-grams that stood earlier, without overlap */
    M_DUP_6,
    M_DUP_7,
    M_DUP_8,
    M_DUP_9,
    M_DUP_10,
    M_SENTENCES, /* words that end in . ! or ?, and lines that do not */
    /* Of the lines that are left, as all measures. C4's own code, and datatrove's, looks for "lorem ipsum" before it drops
     * a line that names JavaScript, and for both before it drops one about policies: one such line costs the whole
     * document there, and here only itself. */
    M_BRACES,      /* how many "{" */
    M_LOREM,       /* how often "lorem ipsum" */
    M_LINE_PUNCT,  /* share of lines that end in punctuation that ends a sentence; empty ones are no lines */
    M_SHORT_LINES, /* share of lines of few characters, MEASURE_SHORT unless said otherwise */
    M_CHAR_DUP,    /* share of characters, without line breaks, in lines that stood earlier */
    M_NEWLINES,    /* line breaks per word */
    M_URLS,        /* share of characters in words that are URLs */
    M_SPECIAL,     /* share of characters that are no letters, numbers, white space or common punctuation */
    M_PERPLEXITY, /* of an n-gram model; this and the next two are NAN without a model, or after a rule was broken */
    M_RARITY,        /* the same of its words alone: 10^-(mean log10 of their unigram probabilities) */
    M_SCORE,         /* of a classifier */
    M_LANGUAGE,      /* how likely it is the most likely language of those wanted; NAN without a model */
    M_LM_PERPLEXITY, /* of a GPT; NAN without one, or after a rule was broken */
    N_RULE_MEASURES
};

/* A rule: name (its key in a config), measure, which side is good, default limit, largest sensible limit. A limit that
 * is NAN (null in a config) switches the rule off. They are judged in this order; the first broken one is the reason. */
#define RULES(X)                                                                                             \
    X(LANGUAGE, "language.min_score", M_LANGUAGE, false, 0.65, 1,                                            \
      "smallest score of a language that is wanted")                                                         \
    X(GOPHER_MIN_WORDS, "gopher.min_words", M_WORDS, false, 50, 1e12, "fewest words")                        \
    X(GOPHER_MAX_WORDS, "gopher.max_words", M_WORDS, true, 100000, 1e12, "most words")                       \
    X(GOPHER_MIN_LENGTH, "gopher.min_word_length", M_WORD_LENGTH, false, 3, 1e6, "shortest mean word")       \
    X(GOPHER_MAX_LENGTH, "gopher.max_word_length", M_WORD_LENGTH, true, 10, 1e6, "longest mean word")        \
    X(GOPHER_HASHES, "gopher.max_hashes", M_HASHES, true, 0.1, 1e6, "most \"#\" per word")                   \
    X(GOPHER_ELLIPSES, "gopher.max_ellipses", M_ELLIPSES, true, 0.1, 1e6, "most ellipses per word")          \
    X(GOPHER_BULLETS, "gopher.max_bullets", M_BULLETS, true, 0.9, 1, "most lines with a bullet")             \
    X(GOPHER_TAILS, "gopher.max_ellipsis_lines", M_ELLIPSIS_LINES, true, 0.3, 1, "most lines ending in ...") \
    X(GOPHER_ALPHA, "gopher.min_alpha", M_ALPHA, false, 0.8, 1, "fewest words with a letter")                \
    X(GOPHER_STOP, "gopher.min_stop_words", M_STOP_WORDS, false, 2, 8,                                       \
      "fewest of: the be to of and that have with")                                                          \
    X(REP_LINES, "repetition.max_lines", M_DUP_LINES, true, 0.3, 1, "most repeated lines")                   \
    X(REP_PARAS, "repetition.max_paragraphs", M_DUP_PARAS, true, 0.3, 1, "most repeated paragraphs")         \
    X(REP_LINE_CHARS, "repetition.max_line_chars", M_DUP_LINE_CHARS, true, 0.2, 1,                           \
      "most characters in repeated lines")                                                                   \
    X(REP_PARA_CHARS, "repetition.max_paragraph_chars", M_DUP_PARA_CHARS, true, 0.2, 1,                      \
      "most characters in repeated paragraphs")                                                              \
    X(REP_TOP_2, "repetition.max_top_2", M_TOP_2, true, 0.2, 1e3, "most characters in the commonest 2-gram") \
    X(REP_TOP_3, "repetition.max_top_3", M_TOP_3, true, 0.18, 1e3,                                           \
      "most characters in the commonest 3-gram")                                                             \
    X(REP_TOP_4, "repetition.max_top_4", M_TOP_4, true, 0.16, 1e3,                                           \
      "most characters in the commonest 4-gram")                                                             \
    X(REP_DUP_5, "repetition.max_dup_5", M_DUP_5, true, 0.15, 1, "most characters in repeated 5-grams")      \
    X(REP_DUP_6, "repetition.max_dup_6", M_DUP_6, true, 0.14, 1, "most characters in repeated 6-grams")      \
    X(REP_DUP_7, "repetition.max_dup_7", M_DUP_7, true, 0.13, 1, "most characters in repeated 7-grams")      \
    X(REP_DUP_8, "repetition.max_dup_8", M_DUP_8, true, 0.12, 1, "most characters in repeated 8-grams")      \
    X(REP_DUP_9, "repetition.max_dup_9", M_DUP_9, true, 0.11, 1, "most characters in repeated 9-grams")      \
    X(REP_DUP_10, "repetition.max_dup_10", M_DUP_10, true, 0.10, 1, "most characters in repeated 10-grams")  \
    X(C4_SENTENCES, "c4.min_sentences", M_SENTENCES, false, 5, 1e6,                                          \
      "fewest sentences, after lines were dropped")                                                          \
    X(C4_BRACES, "c4.max_braces", M_BRACES, true, 0, 1e12, "most \"{\": they mean code")                     \
    X(C4_LOREM, "c4.max_lorem_ipsum", M_LOREM, true, 0, 1e12, "most \"lorem ipsum\"")                        \
    X(FINEWEB_PUNCT, "fineweb.min_line_punctuation", M_LINE_PUNCT, false, 0.12, 1,                           \
      "fewest lines that end in punctuation")                                                                \
    X(FINEWEB_SHORT, "fineweb.max_short_lines", M_SHORT_LINES, true, 0.67, 1, "most short lines")            \
    X(FINEWEB_DUP, "fineweb.max_duplicate_chars", M_CHAR_DUP, true, 0.01, 1,                                 \
      "most characters in repeated lines")                                                                   \
    X(FINEWEB_NEWLINES, "fineweb.max_newlines", M_NEWLINES, true, 0.3, 1e3, "most line breaks per word")     \
    X(OWN_URLS, "own.max_urls", M_URLS, true, 0.3, 1, "most characters in URLs")                             \
    X(OWN_SPECIAL, "own.max_special", M_SPECIAL, true, 0.3, 1, "most special characters")                    \
    X(MAX_PERPLEXITY, "models.max_perplexity", M_PERPLEXITY, true, NAN, 1e12, "largest perplexity")          \
    X(MIN_PERPLEXITY, "models.min_perplexity", M_PERPLEXITY, false, NAN, 1e12,                               \
      "smallest perplexity: below are lists and boilerplate")                                                \
    X(MAX_RARITY, "models.max_rarity", M_RARITY, true, NAN, 1e12,                                            \
      "largest perplexity of the words alone, by their frequency")                                           \
    X(MIN_SCORE, "models.min_score", M_SCORE, false, NAN, 1, "smallest score of the classifier")             \
    X(MAX_LM, "models.max_lm_perplexity", M_LM_PERPLEXITY, true, NAN, 1e12, "largest perplexity of the GPT") \
    X(MIN_LM, "models.min_lm_perplexity", M_LM_PERPLEXITY, false, NAN, 1e12, "smallest perplexity of the GPT")

/* A rule that only a whole run can judge: its limit is what the last of the best documents got. */
#define RUN_RULES(X) \
    X(KEEP, "models.keep", M_SCORE, false, NAN, 1, "smallest score among the share that is kept")

#define RULE_ID(id, ...) R_##id,
enum { RULES(RULE_ID) RUN_RULES(RULE_ID) N_RULES };
#undef RULE_ID

typedef struct Rule {
    const char *name; /* "gopher.min_words" */
    int measure;
    bool most; /* the limit is the most that passes; else the least */
    double limit;
    const char *help;
} Rule;
extern const Rule rules[N_RULES];
extern const char *const measure_names[N_RULE_MEASURES]; /* "words", "word_length", ... */

/* What one thread needs to measure: tables that grow to the longest document and are used again. */
typedef struct Measurer Measurer;
enum { MEASURE_SHORT = 30 };           /* FineWeb's */
Measurer *measurer_new(int64_t brief); /* characters of the longest short line */
void measurer_free(Measurer *r);

/* Measure a text; shares of nothing are 0. */
void measure(Measurer *r, const char *text, size_t n, double value[N_RULE_MEASURES]);
bool rule_holds(bool most, double value, double limit); /* so does a NAN on either side */
int rules_broken(const double limit[N_RULES], const double value[N_RULE_MEASURES]); /* the first, or -1 */

/* ---- lines ----------------------------------------------------------------------------------------------- */

/* C4's rules for lines. Why a line goes, in the order of judging. */
enum { LINE_LONG_WORD, LINE_FEW_WORDS, LINE_NO_PUNCT, LINE_JAVASCRIPT, LINE_POLICY, N_LINE_RULES };
extern const char *const line_rule_names[N_LINE_RULES];

typedef struct LineRules {
    bool on;
    int64_t max_word; /* characters of the longest word; 0: any */
    int64_t min_words;
    bool end_punctuation; /* . ? ! " or ' at the end, and no ellipsis */
    bool javascript;      /* drop lines that name it */
    bool policy;          /* drop lines about cookies, terms of use, privacy policies */
    bool citations;       /* cut [1], [edit] and [citation needed] out of lines */
} LineRules;

/* Drops lines from text[n] in place, and white space around the others; returns what is left. `low` holds the text in
 * ASCII lower case. dropped[] counts lines by reason. */
size_t lines_clean(const LineRules *r, char *text, size_t n, const char *low, uint64_t dropped[N_LINE_RULES]);

/* What all of them say of one document. */
typedef struct Judgement {
    double value[N_RULE_MEASURES];
    int broken;                     /* the first rule that it breaks; -1: none */
    int language;                   /* the most likely one, a label of the model; -1: there is no model */
    uint64_t dropped[N_LINE_RULES]; /* lines, by reason */
} Judgement;
#endif
