/* tokenizer_files.c - floor 2: the folders that tokenizers live in, as GPT-2 and Hugging Face write them.
 *
 * In these files a token is written in a byte alphabet: each byte is one character, itself where it is
 * printable and U+0100 onwards where it is not, so that a space is "Ġ". Special tokens are written as they
 * are, and so are all tokens of GPT-1. */
#include "tokenizer_impl.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 28 }; /* no tokenizer known comes near 256 MiB */

/* ---- the byte alphabet --------------------------------------------------------------------------------- */

enum { PRINTABLE = 188, LAST_CHAR = 256 + 256 - PRINTABLE };

typedef struct Alphabet {
    int16_t byte_of[LAST_CHAR]; /* of a character, -1: not in the alphabet */
    int16_t char_of[256];       /* of a byte */
} Alphabet;

static void alphabet_init(Alphabet *a) {
    uint8_t order[256];
    tokenizer_byte_order(order);
    memset(a, -1, sizeof *a);
    for (int id = 0; id < 256; id++) {
        int c = id < PRINTABLE ? order[id] : 256 + id - PRINTABLE;
        a->byte_of[c] = order[id];
        a->char_of[order[id]] = (int16_t)c;
    }
}

/* Append bytes as the alphabet spells them. */
static void alphabet_spell(const Alphabet *a, Bytes b, Str *out) {
    for (size_t i = 0; i < b.n; i++) {
        int c = a->char_of[(uint8_t)b.p[i]];
        if (c < 0x80)
            str_put(out, (char[]){(char)c}, 1);
        else
            str_put(out, (char[]){(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))}, 2);
    }
}

/* Append to *out the bytes that text[0..n) spells; false if a character is not of the alphabet. */
static bool alphabet_read(const Alphabet *a, const char *text, size_t n, Str *out) {
    for (size_t i = 0; i < n; i++) {
        unsigned c = (uint8_t)text[i];
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xdf || i + 1 >= n || (text[i + 1] & 0xc0) != 0x80) return false;
            c = (c & 0x1f) << 6 | (text[++i] & 0x3f);
        }
        if (c >= LAST_CHAR || a->byte_of[c] < 0) return false;
        str_put(out, (char[]){(char)a->byte_of[c]}, 1);
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* What the files say, before it is known to make sense. */
typedef struct Draft {
    const char *path; /* that errors blame */
    Alphabet alphabet;
    const char **token; /* [n] by id, as written; owned by the JSON trees */
    bool *special;      /* [n] */
    int32_t n;
    Tokenizer *t;
} Draft;

static cJSON *read_json(const char *path, Err *e) {
    char *data;
    const char *end = NULL;
    size_t n;
    if (!file_read(path, MAX_FILE, &data, &n, e)) return NULL;
    cJSON *json = cJSON_ParseWithLengthOpts(data, n + 1, &end, true);
    if (!json)
        err_set(e, "%s: not valid JSON, or cut short; it breaks at byte %td of %zu", path,
                end ? end - data : 0, n);
    free(data);
    return json;
}

/* Append the bytes of a token that a file spells text[0..n). */
static bool draft_read(const Draft *d, const char *text, size_t n, Str *out) {
    if (!d->t->gpt1) return alphabet_read(&d->alphabet, text, n, out);
    str_put(out, text, n);
    return true;
}

static bool draft_token(Draft *d, const char *text, const cJSON *id, bool special, Err *e) {
    double v = cJSON_IsNumber(id) ? id->valuedouble : -1;
    if (!(v >= 0 && v < d->n && v == (int32_t)v))
        return err_set(e, "%s: the id of \"%.64s\" is not one of 0 to %d; %d tokens need ids without holes",
                       d->path, text, d->n - 1, d->n);
    int32_t at = (int32_t)v;
    if (d->token[at] && strcmp(d->token[at], text))
        return err_set(e, "%s: \"%.64s\" and \"%.64s\" both have the id %d", d->path, d->token[at], text, at);
    if (!*text) return err_set(e, "%s: the token with id %d is empty", d->path, at);
    d->token[at] = text;
    d->special[at] |= special;
    return true;
}

/* The number of tokens: those of the vocabulary, and the added ones whose ids it does not hold. */
static int32_t count_tokens(const cJSON *vocab, const cJSON *added) {
    int32_t n = cJSON_GetArraySize(vocab), extra = 0;
    for (const cJSON *a = added ? added->child : NULL; a; a = a->next) {
        const cJSON *id = a->child ? cJSON_GetObjectItemCaseSensitive(a, "id") : a;
        extra += cJSON_IsNumber(id) && id->valuedouble >= n;
    }
    return n + extra;
}

/* vocab: {"token": id, ...}. added: [{"id": 1, "content": "token"}, ...] or {"token": id, ...} or NULL. */
static bool draft_vocab(Draft *d, const cJSON *vocab, const cJSON *added, Err *e) {
    if (!cJSON_IsObject(vocab) || !vocab->child)
        return err_set(e, "%s: no vocabulary here; expected {\"token\": id, ...}", d->path);
    d->n = count_tokens(vocab, added);
    if (d->n > MAX_IDS) return err_set(e, "%s: %d tokens; at most %d can be read", d->path, d->n, MAX_IDS);
    d->token = xcalloc((size_t)d->n, sizeof *d->token);
    d->special = xcalloc((size_t)d->n, sizeof *d->special);
    for (const cJSON *v = vocab->child; v; v = v->next)
        if (!draft_token(d, v->string, v, !strcmp(v->string, d->t->gpt1 ? "<unk>" : "<|endoftext|>"), e))
            return false;
    for (const cJSON *a = added ? added->child : NULL; a; a = a->next) {
        const cJSON *content = cJSON_GetObjectItemCaseSensitive(a, "content");
        const char *text = a->string ? a->string : cJSON_GetStringValue(content);
        if (!text) return err_set(e, "%s: an added token without \"content\"", d->path);
        if (!draft_token(d, text, a->string ? a : cJSON_GetObjectItemCaseSensitive(a, "id"), true, e))
            return false;
    }
    for (int32_t id = 0; id < d->n; id++)
        if (!d->token[id])
            return err_set(e, "%s: no token has the id %d; %d tokens need ids without holes", d->path, id,
                           d->n);
    return true;
}

/* Hand the tokens over to the tokenizer, as bytes. */
static bool draft_add_tokens(Draft *d, Err *e) {
    Str s = {0};
    bool ok = true;
    for (int32_t id = 0; id < d->n && ok; id++) {
        s.n = 0;
        const char *text = d->token[id];
        if (d->special[id])
            str_puts(&s, text);
        else if (!draft_read(d, text, strlen(text), &s))
            ok = err_set(
                e,
                "%s: the token \"%.64s\" (id %d) is not in GPT-2's byte alphabet; only byte-level BPE "
                "can be read",
                d->path, text, id);
        if (ok && tokenizer_find(d->t, s.p, s.n) >= 0)
            ok = err_set(e, "%s: the token \"%.64s\" is listed twice", d->path, text);
        if (!ok) break;
        tokenizer_add(d->t, s.p, s.n);
        if (d->special[id]) tokenizer_add_special(d->t, id);
        if (!strcmp(text, "<|endoftext|>")) d->t->eot = id;
    }
    str_free(&s);
    return ok;
}

/* One merge: its two halves as written. */
static bool draft_merge(Draft *d, const char *left, size_t n_left, const char *right, size_t n_right,
                        Err *e) {
    Str s = {0};
    int32_t id[3] = {-1, -1, -1};
    bool ok = draft_read(d, left, n_left, &s);
    size_t middle = s.n;
    ok = ok && draft_read(d, right, n_right, &s) && middle && s.n > middle;
    if (ok) {
        id[0] = tokenizer_find(d->t, s.p, middle);
        id[1] = tokenizer_find(d->t, s.p + middle, s.n - middle);
        id[2] = tokenizer_find(d->t, s.p, s.n);
    }
    str_free(&s);
    for (int i = 0; i < 3 && ok; i++) ok = id[i] >= 0 && !d->special[id[i]];
    if (ok)
        tokenizer_add_merge(d->t, id[0], id[1], id[2]);
    else
        err_set(e, "%s: merge %d, \"%.*s %.*s\": its halves and what they make must all be in the vocabulary",
                d->path, d->t->n_merges + 1, (int)(n_left < 64 ? n_left : 64), left,
                (int)(n_right < 64 ? n_right : 64), right);
    return ok;
}

/* "a b", n bytes. */
static bool draft_merge_line(Draft *d, const char *line, size_t n, Err *e) {
    const char *space = memchr(line, ' ', n);
    size_t left = space ? (size_t)(space - line) : 0;
    if (!space || memchr(space + 1, ' ', n - left - 1))
        return err_set(e, "%s: merge %d, \"%.*s\", is not two tokens with a space between them", d->path,
                       d->t->n_merges + 1, (int)(n < 64 ? n : 64), line);
    return draft_merge(d, line, left, space + 1, n - left - 1, e);
}

/* merges.txt: a merge a line, after a first line with the version. */
static bool draft_merges_txt(Draft *d, const char *path, Err *e) {
    char *data;
    size_t n;
    d->path = path;
    if (!file_read(path, MAX_FILE, &data, &n, e)) return false;
    bool ok = n > 0 || err_set(e, "%s: is empty; a list of merges starts with \"#version: 0.2\"", path);
    for (size_t at = 0, length; at < n && ok; at += length + 1) {
        const char *line = data + at, *end = memchr(line, '\n', n - at);
        length = end ? (size_t)(end - line) : n - at;
        size_t trimmed = length - (length && line[length - 1] == '\r');
        if (trimmed == 0 || (at == 0 && !strncmp(line, "#version", 8))) continue;
        ok = draft_merge_line(d, line, trimmed, e);
    }
    free(data);
    return ok;
}

/* tokenizer.json's list: "a b" in files of before tokenizers 0.20, ["a", "b"] since. */
static bool draft_merges_json(Draft *d, const cJSON *merges, Err *e) {
    if (!cJSON_IsArray(merges)) return err_set(e, "%s: model.merges is missing, or not a list", d->path);
    bool ok = true;
    for (const cJSON *m = merges->child; m && ok; m = m->next) {
        const char *left = cJSON_GetStringValue(m->child), *right = NULL;
        if (left && m->child->next && !m->child->next->next) right = cJSON_GetStringValue(m->child->next);
        if (cJSON_IsString(m))
            ok = draft_merge_line(d, m->valuestring, strlen(m->valuestring), e);
        else if (left && right)
            ok = draft_merge(d, left, strlen(left), right, strlen(right), e);
        else
            ok =
                err_set(e, "%s: merge %d is neither \"a b\" nor [\"a\", \"b\"]", d->path, d->t->n_merges + 1);
    }
    return ok;
}

/* Is json[key] missing, null, false, 0 or ""? */
static bool unset(const cJSON *json, const char *key) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(json, key);
    return !v || cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0) ||
           (cJSON_IsString(v) && !*v->valuestring);
}

/* Is json[key] this string? */
static bool is(const cJSON *json, const char *key, const char *text) {
    const char *v = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, key));
    return v && !strcmp(v, text);
}

static bool is_false(const cJSON *json, const char *key) {
    return cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json, key));
}

/* GPT-2's way from text to pieces. */
static bool check_gpt2(const char *path, const cJSON *json, Err *e) {
    const cJSON *pre = cJSON_GetObjectItemCaseSensitive(json, "pre_tokenizer");
    if (!is(pre, "type", "ByteLevel") || is_false(pre, "use_regex"))
        return err_set(e, "%s: the pre_tokenizer is not ByteLevel with GPT-2's pattern", path);
    if (!unset(pre, "add_prefix_space"))
        return err_set(e, "%s: pre_tokenizer.add_prefix_space is not supported", path);
    return unset(json, "normalizer") || err_set(e, "%s: a normalizer is not supported", path);
}

/* GPT-1's. */
static bool check_gpt1(const char *path, const cJSON *json, Err *e) {
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(json, "normalizer");
    if (!is(n, "type", "BertNormalizer") || unset(n, "lowercase") || is_false(n, "clean_text") ||
        is_false(n, "handle_chinese_chars") || is_false(n, "strip_accents") ||
        !is(cJSON_GetObjectItemCaseSensitive(json, "pre_tokenizer"), "type", "BertPreTokenizer"))
        return err_set(e, "%s: words end in \"</w>\", but the normalizer and pre_tokenizer are not GPT-1's",
                       path);
    return true;
}

/* Only what cuts and merges as GPT-2 or GPT-1 does can be read; all else would give other ids without a
 * word. */
static bool check_pipeline(Draft *d, const cJSON *json, Err *e) {
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    if (!cJSON_IsObject(model))
        return err_set(e, "%s: no \"model\" here; is this a tokenizer.json?", d->path);
    if (!unset(model, "type") && !is(model, "type", "BPE"))
        return err_set(e, "%s: not a BPE model; only byte-level BPE can be read", d->path);
    static const char *const keys[] = {"dropout", "continuing_subword_prefix", "byte_fallback",
                                       "ignore_merges"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!unset(model, keys[i])) return err_set(e, "%s: model.%s is not supported", d->path, keys[i]);
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(json, "added_tokens");
    for (const cJSON *a = added ? added->child : NULL; a; a = a->next)
        if (!unset(a, "lstrip") || !unset(a, "rstrip") || !unset(a, "single_word"))
            return err_set(e, "%s: added tokens with lstrip, rstrip or single_word are not supported",
                           d->path);
    d->t->gpt1 = is(model, "end_of_word_suffix", "</w>");
    if (!d->t->gpt1 && !unset(model, "end_of_word_suffix"))
        return err_set(e, "%s: model.end_of_word_suffix is not supported", d->path);
    return (d->t->gpt1 ? check_gpt1 : check_gpt2)(d->path, json, e);
}

static bool open_json(Draft *d, const char *path, Err *e) {
    d->path = path;
    cJSON *json = read_json(path, e);
    if (!json) return false;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    bool ok = check_pipeline(d, json, e) &&
              draft_vocab(d, cJSON_GetObjectItemCaseSensitive(model, "vocab"),
                          cJSON_GetObjectItemCaseSensitive(json, "added_tokens"), e) &&
              draft_add_tokens(d, e) &&
              draft_merges_json(d, cJSON_GetObjectItemCaseSensitive(model, "merges"), e) &&
              tokenizer_finish(d->t, path, e);
    cJSON_Delete(json);
    return ok;
}

/* Do words end in "</w>", as in GPT-1's vocabulary? No piece of GPT-2's pattern holds that. */
static bool is_gpt1(const cJSON *vocab) {
    for (const cJSON *v = vocab->child; v; v = v->next) {
        size_t n = v->string ? strlen(v->string) : 0;
        if (n > 4 && !strcmp(v->string + n - 4, "</w>")) return true;
    }
    return false;
}

static bool open_pair(Draft *d, const char *vocab_path, const char *merges_path, const char *added_path,
                      Err *e) {
    d->path = vocab_path;
    cJSON *added = NULL, *vocab = read_json(vocab_path, e);
    bool ok = vocab != NULL;
    d->t->gpt1 = ok && is_gpt1(vocab);
    if (ok && path_exists(added_path)) ok = (added = read_json(added_path, e)) != NULL;
    ok = ok && draft_vocab(d, vocab, added, e) && draft_add_tokens(d, e) &&
         draft_merges_txt(d, merges_path, e) && tokenizer_finish(d->t, merges_path, e);
    cJSON_Delete(vocab);
    cJSON_Delete(added);
    return ok;
}

static bool open_dir(Draft *d, const char *dir, Err *e) {
    char *json = path_join(dir, "tokenizer.json"), *added = path_join(dir, "added_tokens.json");
    char *vocab = path_join(dir, "vocab.json"), *merges = path_join(dir, "merges.txt");
    char *encoder = path_join(dir, "encoder.json"), *bpe = path_join(dir, "vocab.bpe");
    bool ok;
    if (path_exists(json))
        ok = open_json(d, json, e);
    else if (path_exists(vocab))
        ok = open_pair(d, vocab, merges, added, e);
    else if (path_exists(encoder))
        ok = open_pair(d, encoder, bpe, added, e);
    else
        ok = err_set(
            e,
            "%s: no tokenizer in this folder; expected tokenizer.json, or vocab.json with merges.txt, or "
            "encoder.json with vocab.bpe",
            dir);
    char *paths[] = {json, added, vocab, merges, encoder, bpe};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) free(paths[i]);
    return ok;
}

Tokenizer *tokenizer_open(const char *path, Err *e) {
    Draft d = {.t = tokenizer_new()};
    alphabet_init(&d.alphabet);
    bool ok = path_is_dir(path) ? open_dir(&d, path, e) : open_json(&d, path, e);
    free(d.token);
    free(d.special);
    if (ok) return d.t;
    tokenizer_free(d.t);
    return NULL;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Every token as the files spell it: id i is text.p[start[i]..start[i + 1]). */
typedef struct Spelling {
    Str text;
    size_t *start;
} Spelling;

static Spelling spell(const Tokenizer *t) {
    Spelling s = {.start = xmalloc(((size_t)t->n + 1) * sizeof *s.start)};
    Alphabet alphabet;
    alphabet_init(&alphabet);
    bool *special = xcalloc((size_t)t->n, sizeof *special);
    for (int32_t i = 0; i < t->n_special; i++) special[t->special[i]] = true;
    for (int32_t id = 0; id < t->n; id++) {
        Bytes b = tokenizer_token(t, id);
        s.start[id] = s.text.n;
        if (special[id] || t->gpt1)
            str_put(&s.text, b.p, b.n);
        else
            alphabet_spell(&alphabet, b, &s.text);
    }
    s.start[t->n] = s.text.n;
    free(special);
    return s;
}

static void put_token(Str *out, const Spelling *s, int32_t id) {
    str_put(out, s->text.p + s->start[id], s->start[id + 1] - s->start[id]);
}

/* What stands between the quotes of a JSON string. */
static void put_escaped(Str *out, const Spelling *s, int32_t id) {
    for (const char *p = s->text.p + s->start[id], *end = s->text.p + s->start[id + 1]; p < end; p++) {
        if (*p == '"' || *p == '\\')
            str_put(out, (char[]){'\\', *p}, 2);
        else if ((uint8_t)*p < ' ')
            str_printf(out, "\\u%04x", *p);
        else
            str_put(out, p, 1);
    }
}

static void put_vocab(Str *out, const Tokenizer *t, const Spelling *s) {
    for (int32_t id = 0; id < t->n; id++) {
        str_puts(out, id ? ", \"" : "{\"");
        put_escaped(out, s, id);
        str_printf(out, "\": %d", id);
    }
    str_puts(out, "}");
}

static void put_merges_txt(Str *out, const Tokenizer *t, const Spelling *s) {
    str_puts(out, "#version: 0.2\n");
    for (int32_t i = 0; i < t->n_merges; i++) {
        put_token(out, s, t->merge[i].left);
        str_puts(out, " ");
        put_token(out, s, t->merge[i].right);
        str_puts(out, "\n");
    }
}

static void put_merges_json(Str *out, const Tokenizer *t, const Spelling *s, MergeSpelling spelling) {
    static const char *const around[][3] = {{"\"", " ", "\""}, {"[\"", "\", \"", "\"]"}};
    for (int32_t i = 0; i < t->n_merges; i++) {
        str_puts(out, i ? ",\n" : "\n");
        str_puts(out, around[spelling][0]);
        put_escaped(out, s, t->merge[i].left);
        str_puts(out, around[spelling][1]);
        put_escaped(out, s, t->merge[i].right);
        str_puts(out, around[spelling][2]);
    }
}

static int by_id(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static void put_added(Str *out, const Tokenizer *t, const Spelling *s) {
    int32_t *id = xmalloc((size_t)t->n_special * sizeof *id);
    if (t->n_special) memcpy(id, t->special, (size_t)t->n_special * sizeof *id);
    qsort(id, (size_t)t->n_special, sizeof *id, by_id);
    for (int32_t i = 0; i < t->n_special; i++) {
        str_printf(out, "%s{\"id\": %d, \"content\": \"", i ? ",\n" : "", id[i]);
        put_escaped(out, s, id[i]);
        str_puts(out,
                 "\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                 "\"special\": true}");
    }
    free(id);
}

/* What stands between the added tokens and the vocabulary: how text becomes pieces, and pieces text. */
static const char gpt2_pipeline[] =
    "\"normalizer\": null,\n"
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
    "\"use_regex\": true},\n"
    "\"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": false, "
    "\"use_regex\": true},\n"
    "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
    "\"use_regex\": true},\n"
    "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": "
    "null, "
    "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": "
    "false,\n";
static const char gpt1_pipeline[] =
    "\"normalizer\": {\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, "
    "\"strip_accents\": null, \"lowercase\": true},\n"
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},\n\"post_processor\": null,\n"
    "\"decoder\": {\"type\": \"BPEDecoder\", \"suffix\": \"</w>\"},\n"
    "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", "
    "\"continuing_subword_prefix\": \"\", "
    "\"end_of_word_suffix\": \"</w>\", \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": "
    "false,\n";

static void put_json(Str *out, const Tokenizer *t, const Spelling *s, MergeSpelling spelling) {
    str_puts(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n\"added_tokens\": [");
    put_added(out, t, s);
    str_puts(out, "],\n");
    str_puts(out, t->gpt1 ? gpt1_pipeline : gpt2_pipeline);
    str_puts(out, "\"vocab\": ");
    put_vocab(out, t, s);
    str_puts(out, ",\n\"merges\": [");
    put_merges_json(out, t, s, spelling);
    str_puts(out, "\n]}}\n");
}

/* What transformers reads beside the vocabulary: the class, in one of the two files, and which tokens are
 * special. */
static void put_names(Str *out, const Tokenizer *t, const Spelling *s, bool with_class) {
    static const char *const keys[] = {"unk_token", "bos_token", "eos_token"};
    int32_t id = t->gpt1 ? t->unk : t->eot;
    str_puts(out, "{");
    for (int i = 0; i < (t->gpt1 ? 1 : 3) && id >= 0; i++) {
        str_printf(out, "%s\"%s\": \"", i ? ", " : "", keys[i]);
        put_escaped(out, s, id);
        str_puts(out, "\"");
    }
    if (with_class)
        str_printf(out, "%s\"tokenizer_class\": \"%s\"", id >= 0 ? ", " : "",
                   t->gpt1 ? "OpenAIGPTTokenizer" : "GPT2Tokenizer");
    str_puts(out, "}\n");
}

bool tokenizer_save_as(const Tokenizer *t, const char *dir, MergeSpelling spelling, Err *e) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    Spelling s = spell(t);
    Str out[5] = {0};
    put_vocab(&out[0], t, &s);
    put_merges_txt(&out[1], t, &s);
    put_json(&out[2], t, &s, spelling);
    put_names(&out[3], t, &s, true);
    put_names(&out[4], t, &s, false);
    bool ok = true;
    for (int i = 0; i < 5; i++) {
        char *path = path_join(dir, names[i]);
        ok = ok && file_write(path, out[i].p, out[i].n, e);
        free(path);
        str_free(&out[i]);
    }
    str_free(&s.text);
    free(s.start);
    return ok;
}

bool tokenizer_save(const Tokenizer *t, const char *dir, Err *e) {
    return tokenizer_save_as(t, dir, MERGES_STRINGS, e);
}
