/* normalise.c - floor 2: see normalise.h. Most texts are ASCII, or nearly: every stage first looks whether it has
 * anything to do. */
#include "normalise.h"
#include "unicode_nfc.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

static void put_char(Str *out, uint32_t c) {
    char b[4];
    str_put(out, b, char_put(b, c));
}

/* Bytes before the first that is not ASCII. */
static size_t ascii_run(const char *p, size_t n) {
    size_t i = 0;
    for (uint64_t x; i + 8 <= n; i += 8) {
        memcpy(&x, p + i, 8);
        if (x & 0x8080808080808080u) break;
    }
    while (i < n && (unsigned char)p[i] < 0x80) i++;
    return i;
}

/* ---- UTF-8, Windows-1252 --------------------------------------------------------------------------------- */

/* Bytes 0x80 to 0x9f of Windows-1252; 0: it has none there. */
static const uint16_t cp1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178,
};

static uint32_t from_cp1252(unsigned char b) {
    uint32_t c = b >= 0x80 && b < 0xa0 ? cp1252[b - 0x80] : b;
    return c ? c : 0xfffd;
}

/* The byte that Windows-1252 has for c, those it lacks as Latin-1's control characters; -1: none, or ASCII. */
static int to_cp1252(uint32_t c) {
    if (c >= 0x80 && c <= 0xff) return (int)c;
    for (int i = 0; c > 0xff && i < 32; i++)
        if (cp1252[i] == c) return 0x80 + i;
    return -1;
}

/* Bytes at p that are UTF-8; whether any of them is beyond ASCII. */
static size_t valid_run(const char *p, size_t n, bool *beyond) {
    size_t i = 0;
    for (;;) {
        i += ascii_run(p + i, n - i);
        int k = i < n ? utf8_length(p + i, n - i) : 0;
        if (k <= 0) return i;
        *beyond = true;
        i += (size_t)k;
    }
}

void utf8_repair(const char *text, size_t n, Str *out, NormaliseCounts *counts) {
    bool beyond = false;
    for (size_t i = 0; i < n && !beyond; i++) i += valid_run(text + i, n - i, &beyond);
    uint64_t before = counts->repaired;
    for (size_t i = 0; i < n; i++) {
        bool any;
        size_t run = valid_run(text + i, n - i, &any);
        str_put(out, text + i, run);
        i += run;
        if (i == n) break;
        if (counts->repaired++ == before && !before) counts->first = i;
        put_char(out, beyond ? 0xfffd : from_cp1252((unsigned char)text[i]));
    }
}

/* A byte order mark of UTF-16, which no UTF-8 begins with. */
static bool is_utf16(const char *text, size_t n) {
    return n >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2));
}

/* To UTF-8, the mark left out; half a surrogate pair, or half a unit at the end, becomes U+FFFD. */
static void utf16_decode(const char *text, size_t n, Str *out, NormaliseCounts *counts) {
    const unsigned char *s = (const unsigned char *)text;
    const size_t high = s[0] == 0xff; /* where a unit has its high byte */
    str_put(out, "", 0);
    for (size_t i = 2; i < n; i += 2) {
        uint32_t c = i + 1 < n ? (uint32_t)s[i + high] << 8 | s[i + !high] : 0xdfff;
        uint32_t low = i + 3 < n ? (uint32_t)s[i + 2 + high] << 8 | s[i + 2 + !high] : 0;
        if ((c & 0xfc00) == 0xd800 && (low & 0xfc00) == 0xdc00) {
            c = 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff);
            i += 2;
        } else if ((c & 0xf800) == 0xd800) {
            c = 0xfffd;
            if (counts->repaired++ == 0) counts->first = i;
        }
        put_char(out, c);
    }
}

/* The bytes that the characters at *p stand for in Windows-1252, as long as they make one UTF-8 character: its
 * length, *p behind them; 0 if they make none. */
static int mojibake_at(const char **p, const char *end, char bytes[4]) {
    const char *s = *p;
    int need = 0;
    for (int k = 0; k < 4 && s < end; k++) {
        int b = to_cp1252(char_next(&s, end));
        if (b < 0) return 0;
        bytes[k] = (char)b;
        need = utf8_length(bytes, (size_t)k + 1);
        if (need == k + 1) return *p = s, need;
        if (need >= 0) return 0;
    }
    return 0;
}

/* "Ã©" is hardly ever meant, but "É»" ends a French quotation. So only what begins with one of the three
 * commonest is always put right; the rest where most letters of the text beyond ASCII are part of such. */
static bool mojibake_sure(uint32_t first) {
    return first == 0xc2 || first == 0xc3 || first == 0xe2;
}

static bool mojibake_rules(const char *p, const char *end) {
    uint64_t parts = 0, others = 0;
    char bytes[4];
    while (p < end && (p += ascii_run(p, (size_t)(end - p))) < end) {
        if (mojibake_at(&p, end, bytes))
            parts++;
        else
            others += char_next(&p, end) < 0x2000;
    }
    return parts > others;
}

/* Twice-read text looks like this after one round of undoing, so callers go on until nothing changes. */
void mojibake_undo(const char *text, size_t n, Str *out, NormaliseCounts *counts) {
    bool all = mojibake_rules(text, text + n);
    for (const char *p = text, *end = text + n; p < end;) {
        size_t run = ascii_run(p, (size_t)(end - p));
        str_put(out, p, run);
        if ((p += run) == end) break;
        char bytes[4];
        const char *after = p;
        uint32_t first = char_next(&after, end);
        int k = all || mojibake_sure(first) ? mojibake_at(&p, end, bytes) : 0;
        counts->mojibake += k > 0;
        if (k)
            str_put(out, bytes, (size_t)k);
        else
            str_put(out, p, (size_t)(after - p)), p = after;
    }
}

/* Could there be any? Its first byte is read as one of U+00C2 to U+00F4, in UTF-8 c3 82 to c3 b4. */
static bool mojibake_likely(const char *p, size_t n) {
    const char *end = p + n;
    while ((p = memchr(p, 0xc3, (size_t)(end - p))) != NULL) {
        if (end - p > 2 && (unsigned char)p[1] >= 0x82 && (unsigned char)p[1] <= 0xb4 && (p[2] & 0x80))
            return true;
        p++;
    }
    return false;
}

/* ---- NFC (Unicode Standard Annex 15) --------------------------------------------------------------------- */

/* Binary search of rows of `width` numbers for the last whose first is at most `c`; NULL before all. */
static const uint32_t *row_of(const uint32_t *rows, size_t n, size_t width, uint32_t c) {
    size_t lo = 0, hi = n / width;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (rows[middle * width] <= c)
            lo = middle;
        else
            hi = middle;
    }
    return rows[lo * width] <= c ? rows + lo * width : NULL;
}
#define ROW_OF(table, width, c) row_of(table, sizeof table / sizeof *(table), width, c)

static uint32_t combining(uint32_t c) {
    const uint32_t *row = c < 0x300 ? NULL : ROW_OF(nfc_combining, 3, c);
    return row && c <= row[1] ? row[2] : 0;
}

typedef struct Chars {
    uint32_t *c;
    size_t n, cap;
} Chars;

/* In canonical order: behind all marks of its class or a lower one, or the last character that is no mark. */
static void chars_add(Chars *s, uint32_t c) {
    if (s->n == s->cap) s->c = xrealloc(s->c, (s->cap = 2 * s->cap + 64) * sizeof *s->c);
    size_t i = s->n++;
    for (uint32_t k = combining(c); k && i && combining(s->c[i - 1]) > k; i--) s->c[i] = s->c[i - 1];
    s->c[i] = c;
}

static void decompose(Chars *s, uint32_t c) {
    if (c >= 0xac00 && c <= 0xd7a3) { /* Hangul syllables, by arithmetic (section 3.12) */
        uint32_t at = c - 0xac00;
        chars_add(s, 0x1100 + at / 588);
        chars_add(s, 0x1161 + at % 588 / 28);
        if (at % 28) chars_add(s, 0x11a7 + at % 28);
        return;
    }
    const uint32_t *row = c < 0xc0 ? NULL : ROW_OF(nfc_pairs, 3, c);
    if (!row || row[0] != c) {
        chars_add(s, c);
        return;
    }
    decompose(s, row[1]);
    if (row[2]) decompose(s, row[2]);
}

/* What a and b compose to, 0: nothing. */
static uint32_t compose(uint32_t a, uint32_t b) {
    if (a >= 0x1100 && a < 0x1113 && b >= 0x1161 && b < 0x1176)
        return 0xac00 + ((a - 0x1100) * 21 + b - 0x1161) * 28;
    if (a >= 0xac00 && a <= 0xd7a3 && (a - 0xac00) % 28 == 0 && b > 0x11a7 && b < 0x11c3)
        return a + b - 0x11a7;
    const uint32_t *row = ROW_OF(nfc_composed, 3, a), *first = nfc_composed;
    for (; row && row >= first && row[0] == a; row -= 3)
        if (row[1] == b) return row[2];
    return 0;
}

/* Composes s in place: each character with the last starter, unless one between them blocks it. */
static void recompose(Chars *s) {
    size_t starter = SIZE_MAX, out = 0;
    uint32_t last = 0; /* class of the character before, of those that stay */
    for (size_t i = 0; i < s->n; i++) {
        uint32_t c = s->c[i], k = combining(c), made = 0;
        bool open = starter != SIZE_MAX && (out == starter + 1 || last < k);
        if (open && (made = compose(s->c[starter], c)) != 0) {
            s->c[starter] = made;
            continue;
        }
        if (!k) starter = out;
        last = k;
        s->c[out++] = c;
    }
    s->n = out;
}

bool nfc_is(const char *text, size_t n) {
    for (const char *p = text, *end = text + n; p < end;) {
        p += ascii_run(p, (size_t)(end - p));
        if (p < end && nfc_class(char_next(&p, end))) return false;
    }
    return true;
}

/* A piece ends before a character that is in NFC alone and composes with nothing before it. */
void nfc_compose(const char *text, size_t n, Str *out) {
    enum { LONGEST = 256 }; /* no letter has so many marks; sorting more would be quadratic */
    Chars s = {0};
    for (const char *p = text, *end = text + n; p < end;) {
        s.n = 0;
        decompose(&s, char_next(&p, end));
        while (p < end && s.n < LONGEST) {
            const char *after = p;
            uint32_t c = char_next(&after, end);
            if (!nfc_class(c)) break;
            decompose(&s, c);
            p = after;
        }
        recompose(&s);
        for (size_t i = 0; i < s.n; i++) put_char(out, s.c[i]);
    }
    free(s.c);
}

/* ---- characters that have no business in a text ---------------------------------------------------------- */

enum { KEEP, DROP, BLANK, BREAK };

static int business(uint32_t c) {
    if (c == '\n' || c == 0x85 || c == 0x2028 || c == 0x2029 || c == '\f' || c == '\v') return BREAK;
    if (c < 0x20) return c == '\t' ? KEEP : DROP;
    if (c < 0x7f) return KEEP;
    if (c < 0xa0 || c == 0xad || c == 0xfeff) return DROP;
    if ((c >= 0x200b && c <= 0x200f && c != 0x200c && c != 0x200d) || (c >= 0x202a && c <= 0x202e) ||
        (c >= 0x2060 && c <= 0x2069) || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe)
        return DROP;
    return c != ' ' && char_is_space(c) ? BLANK : KEEP;
}

/* Ends a line that is `from` bytes into the text. */
static void end_line(Str *out, bool spaces, size_t *empty) {
    if (spaces) {
        while (out->n && (out->p[out->n - 1] == ' ' || out->p[out->n - 1] == '\t')) out->n--;
        *empty = !out->n || out->p[out->n - 1] == '\n' ? *empty + 1 : 0;
        if (!out->n || *empty > 1) return;
    }
    str_put(out, "\n", 1);
}

/* Printable ASCII. */
static bool is_plain(char c) {
    return (unsigned char)(c - 0x20) < 0x5f;
}

/* Bytes up to the next that needs a look. */
static size_t plain_run(const char *p, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int odd = 0;
        for (int k = 0; k < 16; k++) odd |= !is_plain(p[i + (size_t)k]);
        if (odd) break;
    }
    while (i < n && is_plain(p[i])) i++;
    return i;
}

static void tidy(const char *text, size_t n, bool spaces, Str *out, NormaliseCounts *counts) {
    size_t empty = 0;
    str_put(out, "", 0);
    for (const char *p = text, *end = text + n; p < end;) {
        size_t run = plain_run(p, (size_t)(end - p));
        str_put(out, p, run);
        if ((p += run) == end) break;
        const char *at = p;
        uint32_t c = char_next(&p, end);
        if (c == '\r') c = p < end && *p == '\n' ? (p++, '\n') : '\n';
        int what = business(c);
        counts->controls += what == DROP;
        if (what == KEEP)
            str_put(out, at, (size_t)(p - at));
        else if (what == BLANK)
            str_put(out, " ", 1);
        else if (what == BREAK)
            end_line(out, spaces, &empty);
    }
    while (spaces && out->n && strchr(" \t\n", out->p[out->n - 1])) out->n--;
    out->p[out->n] = 0;
}

/* Gives what is in *a to whoever reads it next, and *b, emptied, to whoever writes. */
static void turn(Str *a, Str *b, const char **text, size_t *n) {
    Str t = *a;
    *a = *b;
    *b = t;
    *text = b->p;
    *n = b->n;
    a->n = 0;
}

void normalise(const Normalise *how, const char *text, size_t n, Str *out, Str *spare,
               NormaliseCounts *counts) {
    bool beyond = false;
    enum { ROUNDS = 3 }; /* mojibake of mojibake of mojibake */
    out->n = 0;
    if (is_utf16(text, n)) {
        utf16_decode(text, n, out, counts);
        turn(out, spare, &text, &n);
    }
    if (ascii_run(text, n) < n) {
        if (valid_run(text, n, &beyond) < n) {
            utf8_repair(text, n, out, counts);
            turn(out, spare, &text, &n);
        }
        uint64_t fixed = counts->mojibake;
        for (int i = 0; how->mojibake && i < ROUNDS && mojibake_likely(text, n);
             i++, fixed = counts->mojibake) {
            mojibake_undo(text, n, out, counts);
            turn(out, spare, &text, &n);
            if (counts->mojibake == fixed) break;
        }
    }
    tidy(text, n, how->spaces, out, counts);
    if (!how->nfc || nfc_is(out->p, out->n)) return;
    turn(out, spare, &text, &n); /* last: what was left out may have stood between a letter and its mark */
    nfc_compose(text, n, out);
    counts->composed++;
}
