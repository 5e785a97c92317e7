/* curate_config.c - floor 4, part of curate.c: the keys of a config of `gpt data clean`. */
#include "curate.h"
#include "keys.h"

#include <math.h>
#include <string.h>

#define TEXT(path, field, v, help)          KEY_TEXT(CurateConfig, path, field, v, help)
#define CHOICE(path, field, all, help)      KEY_CHOICE(CurateConfig, path, field, all, help)
#define NAMES(path, field, v, help)         KEY_NAMES(CurateConfig, path, field, v, help)
#define INT(path, field, v, lo, hi, help)   KEY_INT(CurateConfig, path, field, v, lo, hi, help)
#define FLOAT(path, field, v, lo, hi, help) KEY_FLOAT(CurateConfig, path, field, v, lo, hi, help)
#define BOOL(path, field, v, help)          KEY_BOOL(CurateConfig, path, field, v, help)
#define MAYBE(path, field, lo, hi, help) \
    { path, K_FLOAT, KEY_AT(CurateConfig, field), NAN, lo, hi, NULL, help, true }
/* null switches a rule off. */
#define RULE(id, path, measure, most, v, hi, help) \
    {path, K_FLOAT, KEY_AT(CurateConfig, clean.limit[R_##id]), v, 0, hi, NULL, help, true},

/* clang-format off */
static const Key keys[] = {
    TEXT("input.key", clean.key, "text", "where a line of .jsonl has its text"),
    INT("input.max_document", max_document, 16 << 20, 1 << 10, 1 << 30, "bytes; longer documents are passed over, and told"),
    INT("input.unit", unit, 64 << 20, 1, 1e15, "bytes; files in a row are put together up to this, to one file of output"),

    FLOAT("html.max_links", clean.html.max_links, 0.5, 0, 1, "drop blocks with more of their characters in links: navigation; 1: keep all"),

    BOOL("normalise.mojibake", clean.normalise.mojibake, 1, "undo UTF-8 that was read as Windows-1252"),
    BOOL("normalise.nfc", clean.normalise.nfc, 1, "Unicode's canonical composition, form C"),
    BOOL("normalise.spaces", clean.normalise.spaces, 1, "no white space at the ends of lines, one empty line in a row"),

    BOOL("lines.clean", clean.lines.on, 1, "C4's rules for lines"),
    INT("lines.max_word", clean.lines.max_word, 1000, 0, 1e12, "drop lines with a longer word; 0: none"),
    INT("lines.min_words", clean.lines.min_words, 3, 0, 1e6, "drop lines with fewer words"),
    BOOL("lines.end_punctuation", clean.lines.end_punctuation, 1, "drop lines that do not end in . ? ! \" or '"),
    BOOL("lines.javascript", clean.lines.javascript, 1, "drop lines that name JavaScript"),
    BOOL("lines.policy", clean.lines.policy, 1, "drop lines about cookies, terms of use, privacy policies"),
    BOOL("lines.citations", clean.lines.citations, 1, "cut [1], [edit] and [citation needed]"),
    INT("lines.short", clean.short_line, MEASURE_SHORT, 0, 1e6, "characters of the longest line that fineweb.max_short_lines calls short"),

    BOOL("duplicates.documents", duplicates.documents, 1, "drop documents that stood earlier in the run"),
    BOOL("duplicates.lines", duplicates.lines, 0, "drop lines that stood earlier in the run"),
    INT("duplicates.min_line", duplicates.min_line, 40, 1, 1e9, "bytes of the shortest line that is dropped so"),
    INT("duplicates.memory_mb", duplicates.memory_mb, 512, 1, 1 << 20, "for the table of hashes; more of them take more passes"),

    TEXT("language.model", clean.language, "", "folder of a classifier whose labels are languages, as scripts/train_language.sh makes it"),
    NAMES("language.wanted", clean.languages, "", "the languages that are kept; none named: all that the model is sure of"),
    RULES(RULE)

    TEXT("models.ngram", clean.ngram, "", "folder of an n-gram model, from gpt data lm train"),
    TEXT("models.classifier", clean.classifier, "", "folder of a classifier, from gpt data classifier train"),
    TEXT("models.lm", clean.lm, "", "folder of a GPT that scores what all else leaves, as --lm does"),
    CHOICE("models.lm_precision", clean.lm_precision, "fp32|bf16|auto", "of its matrix products"),
    MAYBE("models.keep", keep.share, 1e-9, 1, "keep this share of what the rules leave, the best by the classifier's score; 0.2: a fifth"),
    MAYBE("models.pareto", keep.pareto, 0.01, 1e6, "or GPT-3's rule: keep if a Pareto number of this shape is above 1 - score; theirs: 9"),
    INT("models.seed", keep.seed, 0, 0, 1e15, "of these numbers"),

    BOOL("output.anonymise", clean.anonymise, 0, "e-mail addresses, phone and card numbers and the like become <EMAIL>, ..."),
    FLOAT("output.dropped", dropped, 1, 0, 1, "share of the dropped documents that are written, with the reason"),
    INT("output.gzip_level", gzip_level, 1, 1, 9, "1: fast, 9: small"),
};
/* clang-format on */
static const Keys table = {keys, sizeof keys / sizeof *keys, "gpt help clean"};

void curate_defaults(CurateConfig *c) {
    memset(c, 0, sizeof *c);
    keys_defaults(&table, c);
    c->clean.limit[R_KEEP] = NAN;
}

bool curate_read(CurateConfig *c, const char *path, Err *e) {
    return keys_read(&table, c, path, e);
}

bool curate_set(CurateConfig *c, const char *assignment, Err *e) {
    return keys_set(&table, c, assignment, e);
}

void curate_print(const CurateConfig *c, Str *json) {
    keys_print(&table, c, json);
}

void curate_help(Str *text) {
    CurateConfig c;
    curate_defaults(&c);
    keys_help(&table, &c, text);
}

bool curate_keeps_all(const CurateConfig *c) {
    return isnan(c->keep.share) && isnan(c->keep.pareto);
}

bool curate_check(const CurateConfig *c, Err *e) {
    if (!*c->clean.lm && !(isnan(c->clean.limit[R_MAX_LM]) && isnan(c->clean.limit[R_MIN_LM])))
        return err_usage(e,
                         "models.max_lm_perplexity and min_lm_perplexity need a GPT: models.lm, or --lm DIR");
    if (curate_keeps_all(c)) return true;
    if (!*c->clean.classifier)
        return err_usage(e, "models.keep and models.pareto need models.classifier: make one with gpt data "
                            "classifier train");
    return isnan(c->keep.share) || isnan(c->keep.pareto) ||
           err_usage(e, "models.keep and models.pareto are two ways to choose; give one of them");
}
