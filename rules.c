/* rules.c - floor 2: see rules.h. One pass over the words of a text finds everything; what costs anything beyond
 * that, repeated n-grams, looks only where the next shorter n-gram was repeated. */
#include "rules.h"
#include "unicode.h"
#include "words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RULE_ROW(id, name, m, most, limit, hi, help) {name, m, most, limit, help},
const Rule rules[N_RULES] = {RULES(RULE_ROW) RUN_RULES(RULE_ROW)};
#undef RULE_ROW

const char *const measure_names[N_RULE_MEASURES] = {
    "words",      "word_length", "hashes",          "ellipses",       "bullets",       "ellipsis_lines",
    "alpha",      "stop_words",  "dup_lines",       "dup_line_chars", "dup_paras",     "dup_para_chars",
    "top_2",      "top_3",       "top_4",           "dup_5",          "dup_6",         "dup_7",
    "dup_8",      "dup_9",       "dup_10",          "sentences",      "braces",        "lorem_ipsum",
    "line_punct", "short_lines", "duplicate_chars", "newlines",       "urls",          "special",
    "perplexity", "rarity",      "score",           "language_score", "lm_perplexity",
};
_Static_assert(sizeof measure_names / sizeof *measure_names == N_RULE_MEASURES, "a name for each measure");

bool rule_holds(bool most, double value, double limit) {
    return isnan(limit) || isnan(value) || (most ? value <= limit : value >= limit);
}

int rules_broken(const double limit[N_RULES], const double value[N_RULE_MEASURES]) {
    for (int i = 0; i < N_RULES; i++)
        if (!rule_holds(rules[i].most, value[rules[i].measure], limit[i])) return i;
    return -1;
}

/* ---- tables of one document ------------------------------------------------------------------------------ */

typedef struct Slot {
    uint64_t key;
    uint32_t stamp, count;
} Slot;

/* Open addressing. Slots of earlier documents carry an older stamp, so nothing is ever cleared; a short document uses
 * only the first slots, which stay in the cache. */
typedef struct Table {
    Slot *slot;
    size_t cap, mask;
    uint32_t stamp;
} Table;

static void table_start(Table *t, size_t items) {
    size_t want = 64;
    while (want < 2 * items) want *= 2;
    if (want > t->cap) {
        free(t->slot);
        t->slot = xcalloc(t->cap = want, sizeof *t->slot);
        t->stamp = 0;
    }
    t->mask = want - 1;
    if (++t->stamp == 0) memset(t->slot, 0, t->cap * sizeof *t->slot), t->stamp = 1;
}

/* Counts the key once more; where it is. */
static inline uint32_t table_add(Table *t, uint64_t key) {
    size_t i = hash_mix(key) & t->mask;
    for (;; i = (i + 1) & t->mask) {
        Slot *s = &t->slot[i];
        if (s->stamp != t->stamp) return *s = (Slot){key, t->stamp, 1}, (uint32_t)i;
        if (s->key == key) return s->count++, (uint32_t)i;
    }
}

struct Measurer {
    uint64_t brief; /* characters of the longest short line */
    Table lines, paragraphs, words;
    size_t cap;
    uint32_t *gram;  /* [words] the repeated n-gram that starts here, from 1; 0: it stands here only */
    uint32_t *at;    /* [hot] where repeated n-grams start, in order */
    uint32_t *place; /* [hot] their slots */
    uint64_t *end;   /* [words + 1] characters of the words before */
};

Measurer *measurer_new(int64_t brief) {
    Measurer *r = xcalloc(1, sizeof *r);
    r->brief = (uint64_t)brief;
    return r;
}

void measurer_free(Measurer *r) {
    if (!r) return;
    free(r->lines.slot);
    free(r->paragraphs.slot);
    free(r->words.slot);
    free(r->gram);
    free(r->at);
    free(r->place);
    free(r->end);
    free(r);
}

static void measurer_grow(Measurer *r, size_t words) {
    if (words < r->cap) return;
    r->cap = words + words / 2 + 1024;
    r->gram = xrealloc(r->gram, r->cap * sizeof *r->gram);
    r->at = xrealloc(r->at, r->cap * sizeof *r->at);
    r->place = xrealloc(r->place, r->cap * sizeof *r->place);
    r->end = xrealloc(r->end, r->cap * sizeof *r->end);
}

/* ---- words ----------------------------------------------------------------------------------------------- */

enum { SPACE = 1, WORD = 2, LETTER = 4, PLAIN = 8 }; /* PLAIN: nothing special about it */

static const uint8_t ascii_flags[128] = {
    ['\t'] = SPACE | PLAIN,
    ['\n'] = SPACE | PLAIN,
    ['\v'] = SPACE | PLAIN,
    ['\f'] = SPACE | PLAIN,
    ['\r'] = SPACE | PLAIN,
    [' '] = SPACE | PLAIN,
    ['0' ... '9'] = WORD | PLAIN,
    ['A' ... 'Z'] = WORD | LETTER | PLAIN,
    ['a' ... 'z'] = WORD | LETTER | PLAIN,
    ['.'] = PLAIN,
    [','] = PLAIN,
    ['!'] = PLAIN,
    ['?'] = PLAIN,
    [':'] = PLAIN,
    [';'] = PLAIN,
    ['"'] = PLAIN,
    ['\''] = PLAIN,
    ['-'] = PLAIN,
    ['('] = PLAIN,
    [')'] = PLAIN,
};

static unsigned flags_of(uint32_t c) {
    if (c < 128) return ascii_flags[c];
    if (char_is_space(c)) return SPACE | PLAIN;
    unsigned f = char_is_word(c) ? WORD | PLAIN : 0;
    if (unicode_class(c) == UNICODE_LETTER) f |= LETTER;
    if (c >= 0x2010 && c <= 0x201f) f |= PLAIN; /* dashes and quotation marks */
    return f;
}

typedef struct Tally {
    uint64_t chars, special;                         /* of the whole text */
    uint64_t words, named, alpha, named_chars, urls; /* all words; with a letter or number; with a letter */
    uint64_t sentences, stop_words;
    uint64_t lines, filled, bullets, tails, punctuated, brief; /* filled: lines with something in them */
    uint64_t dup_lines, dup_line_chars, paragraphs, dup_paragraphs, dup_paragraph_chars, line_chars;
} Tally;

/* A word: its bytes, its characters, what they are, and the last one that is no closing quote or bracket. */
typedef struct Token {
    const char *p;
    size_t n, chars;
    unsigned any; /* flags of any of its characters */
    unsigned special;
} Token;

/* The next word before `end`, which is the end of a line. Characters passed over are counted. */
static bool next_token(const char **p, const char *end, Tally *t, Token *w) {
    const char *s = *p;
    for (; s < end; t->chars++) {
        const char *at = s;
        uint32_t c = (unsigned char)*s < 0x80 ? (uint32_t)*s++ : char_next(&s, end);
        if (!(flags_of(c) & SPACE)) {
            s = at;
            break;
        }
    }
    *w = (Token){.p = s};
    for (const char *at; s < end; w->chars++) {
        at = s;
        uint32_t c = (unsigned char)*s < 0x80 ? (uint32_t)*s++ : char_next(&s, end);
        unsigned f = flags_of(c);
        if (f & SPACE) {
            s = at;
            break;
        }
        w->any |= f;
        w->special += !(f & PLAIN);
    }
    w->n = (size_t)(s - w->p);
    *p = s;
    t->chars += w->chars;
    t->special += w->special;
    return w->n > 0;
}

/* Does the word end a sentence, closing quotes and brackets aside? */
static bool ends_sentence(const Token *w) {
    const char *p = w->p + w->n;
    while (p > w->p) {
        if (p - w->p >= 3 && (!memcmp(p - 3, "\xe2\x80\x9d", 3) || !memcmp(p - 3, "\xe2\x80\x99", 3)))
            p -= 3;
        else if (p[-1] == '"' || p[-1] == '\'' || p[-1] == ')' || p[-1] == ']')
            p--;
        else
            break;
    }
    if (p == w->p) return false;
    return p[-1] == '.' || p[-1] == '!' || p[-1] == '?' ||
           (p - w->p >= 3 && !memcmp(p - 3, "\xe3\x80\x82", 3)); /* the ideographic full stop */
}

static unsigned stop_word(const char *p, size_t n) {
    static const char *const words[] = {"the", "be", "to", "of", "and", "that", "have", "with"};
    if (n < 2 || n > 4) return 0;
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == n && !memcmp(words[i], p, n)) return 1u << i;
    return 0;
}

static bool is_url(const Token *w) {
    return w->n > 7 &&
           (!memcmp(w->p, "http://", 7) || !memcmp(w->p, "https://", 8) || !memcmp(w->p, "www.", 4));
}

/* The words of one line: tallied, and their places in the table kept for the n-grams. */
static unsigned line_words(Measurer *r, Span line, Tally *t) {
    const char *p = line.p, *end = line.p + line.n;
    Token w;
    unsigned stops = 0;
    bool ended = true;
    while (next_token(&p, end, t, &w)) {
        uint64_t i = t->words++;
        r->gram[i] = table_add(&r->words, hash_bytes(w.p, w.n, 0));
        r->end[i + 1] = r->end[i] + w.chars;
        stops |= stop_word(w.p, w.n);
        t->alpha += (w.any & LETTER) != 0;
        if (w.any & WORD) t->named++, t->named_chars += w.chars;
        if (is_url(&w)) t->urls += w.chars;
        ended = ends_sentence(&w);
        t->sentences += ended;
    }
    t->sentences += !ended;
    return stops;
}

/* ---- lines ----------------------------------------------------------------------------------------------- */

static bool begins(Span s, const char *with) {
    size_t n = strlen(with);
    return s.n >= n && !memcmp(s.p, with, n);
}

static bool ends(Span s, const char *with) {
    size_t n = strlen(with);
    return s.n >= n && !memcmp(s.p + s.n - n, with, n);
}

/* Ends in a mark that ends a sentence: Latin, Greek, Armenian, Arabic, Devanagari, Ethiopic, Khmer, CJK, full width. */
static bool ends_in_punctuation(Span s) {
    static const char *const marks[] = {"\u0589", "\u061f", "\u06d4", "\u0964", "\u0965", "\u1362",
                                        "\u17d4", "\u203c", "\u203d", "\u2047", "\u2048", "\u2049",
                                        "\u3002", "\uff01", "\uff0e", "\uff1f", "\uff61"};
    if (!s.n) return false;
    char c = s.p[s.n - 1];
    if (c == '.' || c == '!' || c == '?') return true;
    for (size_t i = 0; (unsigned char)c >= 0x80 && i < sizeof marks / sizeof *marks; i++)
        if (ends(s, marks[i])) return true;
    return false;
}

/* One paragraph so far: its lines' hashes joined. */
typedef struct Paragraph {
    uint64_t hash, chars, lines;
} Paragraph;

static void paragraph_close(Measurer *r, Paragraph *g, Tally *t) {
    if (!g->lines) return;
    uint64_t chars = g->chars + g->lines - 1;
    t->paragraphs++;
    if (r->paragraphs.slot[table_add(&r->paragraphs, g->hash)].count > 1)
        t->dup_paragraphs++, t->dup_paragraph_chars += chars;
    *g = (Paragraph){0};
}

static void line_shape(Measurer *r, Span line, uint64_t chars, Paragraph *g, Tally *t) {
    Span s = span_trim(line);
    t->lines++;
    t->bullets += begins(s, "-") || begins(s, "\u2022");
    t->tails += ends(s, "...") || ends(s, "\u2026");
    if (!s.n) {
        paragraph_close(r, g, t);
        return;
    }
    uint64_t h = hash_bytes(line.p, line.n, 0);
    if (r->lines.slot[table_add(&r->lines, h)].count > 1) t->dup_lines++, t->dup_line_chars += chars;
    t->filled++;
    t->punctuated += ends_in_punctuation(line);
    t->brief += chars <= r->brief;
    t->line_chars += chars;
    *g = (Paragraph){hash_join(g->hash, h), g->chars + chars, g->lines + 1};
}

/* ---- n-grams of words ------------------------------------------------------------------------------------ */

/* From n-grams to (n+1)-grams: one can be repeated only where the n-grams at its start and one word on both are, so
 * that pair is its exact key. at[hot] shrinks to where that is so. */
static size_t longer_grams(Measurer *r, size_t hot, size_t words, size_t n) {
    Table *t = &r->words;
    size_t kept = 0;
    table_start(t, hot);
    for (size_t i = 0; i < hot; i++) {
        uint32_t p = r->at[i];
        bool both = p + n < words && r->gram[p + 1];
        r->place[i] = both ? table_add(t, (uint64_t)r->gram[p] << 32 | r->gram[p + 1]) : UINT32_MAX;
    }
    for (size_t i = 0; i < hot; i++) {
        uint32_t p = r->at[i], place = r->place[i];
        bool twice = place != UINT32_MAX && t->slot[place].count > 1;
        r->gram[p] = twice ? place + 1 : 0;
        if (twice) r->at[kept++] = p;
    }
    return kept;
}

/* Characters of the commonest n-gram, spaces between its words counted, times how often it is there; the first of
 * equally common ones. */
static uint64_t top_gram(const Measurer *r, size_t hot, size_t words, size_t n) {
    if (words < n) return 0;
    uint32_t most = 1, where = 0;
    for (size_t i = 0; i < hot; i++) {
        uint32_t count = r->words.slot[r->gram[r->at[i]] - 1].count;
        if (count > most) most = count, where = r->at[i];
    }
    return (r->end[where + n] - r->end[where] + n - 1) * most;
}

/* Characters of n-grams that stood earlier. After one, the words go on behind it. */
static uint64_t dup_grams(Measurer *r, size_t hot, size_t n) {
    enum { SEEN = 1u << 31 };
    uint64_t chars = 0;
    size_t next = 0;
    for (size_t i = 0; i < hot; i++) {
        uint32_t p = r->at[i];
        Slot *s = &r->words.slot[r->gram[p] - 1];
        if (p < next) continue;
        if (s->count & SEEN) chars += r->end[p + n] - r->end[p], next = p + n;
        s->count |= SEEN;
    }
    return chars;
}

/* gram[] holds the words' places in the table. */
static void grams(Measurer *r, size_t words, double chars, double value[N_RULE_MEASURES]) {
    size_t hot = 0;
    for (size_t i = 0; i < words; i++) {
        uint32_t place = r->gram[i];
        bool twice = r->words.slot[place].count > 1;
        r->gram[i] = twice ? place + 1 : 0;
        if (twice) r->at[hot++] = (uint32_t)i;
    }
    r->gram[words] = 0;
    for (size_t n = 2; n <= 10; n++) {
        hot = longer_grams(r, hot, words, n - 1);
        if (n <= 4)
            value[M_TOP_2 + n - 2] = (double)top_gram(r, hot, words, n) / chars;
        else
            value[M_DUP_5 + n - 5] = (double)dup_grams(r, hot, n) / chars;
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------- */

static uint64_t count_byte(const char *p, size_t n, char c) {
    uint64_t k = 0;
    for (size_t i = 0; i < n; i++) k += p[i] == c;
    return k;
}

static uint64_t count_text(const char *p, size_t n, const char *what) {
    size_t len = strlen(what);
    uint64_t k = 0;
    for (const char *end = p + n; (p = memmem(p, (size_t)(end - p), what, len)); p += len) k++;
    return k;
}

static uint64_t count_lorem(const char *p, size_t n) {
    static const char words[] = "lorem ipsum";
    enum { LENGTH = sizeof words - 1 };
    uint64_t k = 0;
    int likely = 0; /* "m i" is rare, and such a loop is fast */
    for (size_t i = 0; i + LENGTH <= n; i++)
        likely |= ((p[i + 4] | 32) == 'm') & (p[i + 5] == ' ') & ((p[i + 6] | 32) == 'i') &
                  ((p[i + 7] | 32) == 'p');
    for (size_t i = 0; likely && i + LENGTH <= n; i++)
        if ((p[i] | 32) == 'l' && (p[i + 1] | 32) == 'o' && !strncasecmp(p + i, words, LENGTH)) k++;
    return k;
}

static double share(uint64_t a, uint64_t b) {
    return b ? (double)a / (double)b : 0;
}

static void measure_from(const Tally *t, unsigned stops, double v[N_RULE_MEASURES]) {
    v[M_WORDS] = (double)t->named;
    v[M_WORD_LENGTH] = share(t->named_chars, t->named);
    v[M_BULLETS] = share(t->bullets, t->lines);
    v[M_ELLIPSIS_LINES] = share(t->tails, t->lines);
    v[M_ALPHA] = share(t->alpha, t->words);
    v[M_STOP_WORDS] = __builtin_popcount(stops);
    v[M_DUP_LINES] = share(t->dup_lines, t->filled);
    v[M_DUP_LINE_CHARS] = share(t->dup_line_chars, t->chars);
    v[M_DUP_PARAS] = share(t->dup_paragraphs, t->paragraphs);
    v[M_DUP_PARA_CHARS] = share(t->dup_paragraph_chars, t->chars);
    v[M_SENTENCES] = (double)t->sentences;
    v[M_LINE_PUNCT] = share(t->punctuated, t->filled);
    v[M_SHORT_LINES] = share(t->brief, t->filled);
    v[M_CHAR_DUP] = share(t->dup_line_chars, t->line_chars);
    v[M_URLS] = share(t->urls, t->chars);
    v[M_SPECIAL] = share(t->special, t->chars);
}

void measure(Measurer *r, const char *text, size_t n, double value[N_RULE_MEASURES]) {
    Tally t = {0};
    Paragraph g = {0};
    unsigned stops = 0;
    memset(value, 0, N_RULE_MEASURES * sizeof *value);
    value[M_PERPLEXITY] = value[M_RARITY] = value[M_SCORE] = value[M_LANGUAGE] = value[M_LM_PERPLEXITY] = NAN;
    uint64_t breaks = count_byte(text, n, '\n');
    measurer_grow(r, n / 2 + 2);
    table_start(&r->lines, breaks + 1);
    table_start(&r->paragraphs, breaks / 2 + 1);
    table_start(&r->words, n / 4 + 1);
    r->end[0] = 0;
    for (Span left = {text, n}, line; line_next(&left, &line);) {
        uint64_t before = t.chars;
        stops |= line_words(r, line, &t);
        line_shape(r, line, t.chars - before, &g, &t);
    }
    paragraph_close(r, &g, &t);
    t.chars += breaks;
    measure_from(&t, stops, value);
    value[M_NEWLINES] = share(breaks, t.words);
    value[M_BRACES] = (double)count_byte(text, n, '{');
    value[M_HASHES] = share(count_byte(text, n, '#'), t.words);
    value[M_ELLIPSES] = share(count_text(text, n, "...") + count_text(text, n, "\u2026"), t.words);
    value[M_LOREM] = (double)count_lorem(text, n);
    if (t.words) grams(r, t.words, (double)t.chars, value);
}

/* ---- C4's rules for lines -------------------------------------------------------------------------------- */

const char *const line_rule_names[N_LINE_RULES] = {"long_word", "few_words", "end_punctuation", "javascript",
                                                   "policy"};

static bool holds(const char *p, size_t n, const char *what) {
    return memmem(p, n, what, strlen(what)) != NULL;
}

static bool holds_policy(const char *low, size_t n) {
    static const char *const phrases[] = {"cookie policy", "uses cookies", "use of cookies", "use cookies"};
    if (holds(low, n, "terms of use") || holds(low, n, "privacy policy")) return true;
    if (!holds(low, n, "cookie")) return false;
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++)
        if (holds(low, n, phrases[i])) return true;
    return false;
}

static bool long_word(Span line, int64_t most) {
    Span left = line, word;
    while (token_next(&left, &word)) {
        int64_t chars = 0;
        if (word.n <= (size_t)most) continue;
        for (size_t i = 0; i < word.n; i++) chars += ((unsigned char)word.p[i] & 0xc0) != 0x80;
        if (chars > most) return true;
    }
    return false;
}

static bool fewer_words(Span line, int64_t least) {
    Span left = line, word;
    int64_t k = 0;
    while (k < least && token_next(&left, &word)) k++;
    return k < least;
}

/* Cuts "[12]", "[]", "[edit]" and "[citation needed]" out of a line that begins at p; its new length. */
static size_t cut_citations(char *p, size_t n) {
    static const char *const notes[] = {"edit]", "citation needed]"};
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        size_t len = 0;
        if (p[i] == '[') {
            size_t k = i + 1;
            while (k < n && p[k] >= '0' && p[k] <= '9') k++;
            if (k < n && p[k] == ']') len = k + 1 - i;
            for (int j = 0; j < 2 && !len; j++)
                if (n - i > strlen(notes[j]) && !memcmp(p + i + 1, notes[j], strlen(notes[j])))
                    len = strlen(notes[j]) + 1;
        }
        if (!len) p[out++] = p[i++];
        i += len;
    }
    return out;
}

/* Which rule drops the line, N_LINE_RULES if none. `cut` is the line without its citations, `low` in lower case; js
 * and policy say whether those words are worth looking for. */
static int line_reason(const LineRules *r, Span cut, Span low, bool js, bool policy) {
    char last = cut.n ? cut.p[cut.n - 1] : 0;
    if (r->end_punctuation && (!last || !strchr(".?!\"'", last) || ends(cut, "..."))) return LINE_NO_PUNCT;
    if (js && holds(low.p, low.n, "javascript")) return LINE_JAVASCRIPT;
    if (policy && holds_policy(low.p, low.n)) return LINE_POLICY;
    return N_LINE_RULES;
}

size_t lines_clean(const LineRules *r, char *text, size_t n, const char *low,
                   uint64_t dropped[N_LINE_RULES]) {
    if (!r->on) return n;
    bool js = r->javascript && holds(low, n, "javascript");
    bool policy = r->policy && holds_policy(low, n), cites = r->citations && memchr(text, '[', n);
    size_t out = 0;
    for (Span left = {text, n}, whole; line_next(&left, &whole);) {
        Span line = span_trim(whole), cut = line;
        int why = N_LINE_RULES;
        if (!line.n) { /* it parts paragraphs: kept, once */
            if (out > 1 && text[out - 2] != '\n') text[out++] = '\n';
            continue;
        }
        if (r->max_word && line.n > (size_t)r->max_word && long_word(line, r->max_word))
            why = LINE_LONG_WORD;
        else if (r->min_words && fewer_words(line, r->min_words))
            why = LINE_FEW_WORDS;
        if (cites) cut = span_trim((Span){line.p, cut_citations(text + (line.p - text), line.n)});
        if (why == N_LINE_RULES) why = line_reason(r, cut, (Span){low + (line.p - text), line.n}, js, policy);
        if (why < N_LINE_RULES) {
            dropped[why]++;
            continue;
        }
        memmove(text + out, cut.p, cut.n);
        out += cut.n;
        text[out++] = '\n';
    }
    while (out && text[out - 1] == '\n') out--;
    return out;
}
