/* tokenizer_gpt1.c - floor 2: GPT-1's tokenizer (Radford et al. 2018), as Hugging Face's
 * OpenAIGPTTokenizer has it.
 *
 * Text becomes lower case without accents; words are what white space and punctuation leave, and each mark
 * is a word. A word is merged character by character, its last one written with "</w>" behind it. What is
 * not in the vocabulary is <unk>, so decoding does not give the text back: it puts one space between
 * words. */
#include "tokenizer_impl.h"
#include "unicode_gpt1.h"

#include <stdlib.h>
#include <string.h>

enum { MAPPED = 3 }; /* the most characters that one becomes */

/* The code point at p[0..n), n > 0, and its length; U+FFFD and 1 where the bytes are not UTF-8. */
static uint32_t decode(const uint8_t *p, size_t n, size_t *length) {
    *length = tokenizer_character(p, n);
    switch (*length) {
    case 1: return p[0];
    case 2: return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    case 3: return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    case 4: return (p[0] & 7u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    default: return *length = 1, 0xfffd;
    }
}

static void put_utf8(Str *s, uint32_t c) {
    char b[4];
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint32_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, c >>= 6) b[i] = (char)(0x80 | (c & 0x3f));
    b[0] = (char)(lead[n] | c);
    str_put(s, b, (size_t)n);
}

/* Hangul syllables decompose by arithmetic (Unicode, section 3.12). */
static int map_hangul(uint32_t c, uint32_t to[MAPPED]) {
    uint32_t s = c - 0xac00;
    to[0] = 0x1100 + s / 588;
    to[1] = 0x1161 + s % 588 / 28;
    to[2] = 0x11a7 + s % 28;
    return s % 28 ? 3 : 2;
}

/* What c becomes in lower case without accents; how many characters that is. */
static int map(uint32_t c, uint32_t to[MAPPED]) {
    enum {
        RUNS = sizeof gpt1_run / sizeof *gpt1_run / 3,
        LONGER = sizeof gpt1_longer / sizeof *gpt1_longer / 4
    };
    to[0] = c;
    if (c < 0x80) return to[0] += c >= 'A' && c <= 'Z' ? 32 : 0, 1;
    if (c >= 0xac00 && c <= 0xd7a3) return map_hangul(c, to);
    size_t lo = 0, hi = RUNS;
    while (hi - lo > 1) {
        size_t middle = (lo + hi) / 2;
        if (gpt1_run[3 * middle] <= c)
            lo = middle;
        else
            hi = middle;
    }
    uint32_t at = c - gpt1_run[3 * lo];
    if (c < gpt1_run[3 * lo] || at >= gpt1_run[3 * lo + 1]) return 1;
    if ((to[0] = gpt1_to[gpt1_run[3 * lo + 2] + at]) != 0) return 1;
    for (size_t i = 0; i < LONGER; i++)
        if (gpt1_longer[4 * i] == c) {
            memcpy(to, gpt1_longer + 4 * i + 1, MAPPED * sizeof *to);
            return to[2] ? 3 : 2;
        }
    return 0;
}

/* Each of these is a word by itself: BERT's list of CJK ideographs. */
static bool ideograph(uint32_t c) {
    return (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x4e00 && c <= 0x9fff) || (c >= 0xf900 && c <= 0xfaff) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
           (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* Merge the word that has been gathered, and append its ids. */
static void end_word(const Tokenizer *t, Str *word, Ids *out) {
    if (!word->n) return;
    size_t n = 0;
    ids_reserve(out, word->n);
    int32_t *id = out->id + out->n;
    for (size_t at = 0, length; at < word->n; at += length) {
        length = tokenizer_character((const uint8_t *)word->p + at, word->n - at);
        if (at + length == word->n) str_puts(word, "</w>"), length = word->n - at;
        int32_t found = tokenizer_find(t, word->p + at, length);
        id[n++] = found >= 0 ? found : t->unk;
    }
    out->n += tokenizer_merge(t, NULL, n, id);
    word->n = 0;
}

void tokenizer_gpt1_encode(const Tokenizer *t, const uint8_t *p, size_t n, Ids *out) {
    Str word = {0};
    for (size_t at = 0, length; at < n; at += length) {
        uint32_t c = decode(p + at, n - at, &length), to[MAPPED];
        int kind = gpt1_class(c);
        if (kind == GPT1_GONE) continue;
        if (kind != GPT1_WORD || ideograph(c)) end_word(t, &word, out);
        if (kind == GPT1_SPACE) continue;
        for (int i = 0, k = map(c, to); i < k; i++) {
            bool mark = gpt1_class(to[i]) == GPT1_PUNCTUATION;
            if (mark) end_word(t, &word, out);
            put_utf8(&word, to[i]);
            if (mark) end_word(t, &word, out);
        }
        if (ideograph(c)) end_word(t, &word, out);
    }
    end_word(t, &word, out);
    str_free(&word);
}

bool tokenizer_gpt1_ends_word(const Tokenizer *t, int32_t id) {
    Bytes b = tokenizer_token(t, id);
    return b.n > 4 && !memcmp(b.p + b.n - 4, "</w>", 4);
}

bool tokenizer_gpt1_finish(Tokenizer *t, const char *name, Err *e) {
    t->unk = tokenizer_find(t, "<unk>", 5);
    if (t->unk < 0) return err_set(e, "%s: the vocabulary of a GPT-1 tokenizer needs the token <unk>", name);
    t->shown_start = xmalloc(((size_t)t->n + 1) * sizeof *t->shown_start);
    for (int32_t id = 0; id < t->n; id++) {
        Bytes b = tokenizer_token(t, id);
        bool ends = tokenizer_gpt1_ends_word(t, id);
        t->shown_start[id] = t->shown.n;
        str_put(&t->shown, b.p, ends ? b.n - 4 : b.n);
        if (ends) str_puts(&t->shown, " ");
    }
    t->shown_start[t->n] = t->shown.n;
    return true;
}
