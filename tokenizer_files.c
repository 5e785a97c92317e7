/* tokenizer_files.c - floor 2: the folders that tokenizers live in, as GPT-2 and Hugging Face write them.
 *
 * In these files a token is written in a byte alphabet: each byte is one character, itself where it is printable
 * and U+0100 onwards where it is not, so that a space is "Ġ". Special tokens are written as they are. */
#include "tokenizer_impl.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 28 }; /* no tokenizer known comes near 256 MiB */

/* ---- the byte alphabet ------------------------------------------------------------------------------------ */

/* Append the byte as its character. */
static void alphabet_put(Str *s, uint8_t byte) {
    uint8_t order[256];
    tokenizer_byte_order(order);
    int c = byte;
    for (int id = 188; id < 256; id++) /* 188 bytes are printable, and stand for themselves */
        if (order[id] == byte) c = 256 + id - 188;
    if (c < 128)
        str_put(s, &(char){(char)c}, 1);
    else
        str_put(s, (char[]){(char)(0xc0 | c >> 6), (char)(0x80 | (c & 0x3f))}, 2);
}

/* The byte of each character below U+0144, -1 where there is none. */
static void alphabet_table(int16_t byte_of[324]) {
    uint8_t order[256];
    tokenizer_byte_order(order);
    memset(byte_of, -1, 324 * sizeof *byte_of);
    for (int id = 0; id < 256; id++) byte_of[id < 188 ? order[id] : 256 + id - 188] = order[id];
}

/* Append to *out the bytes that text[0..n) spells; false if a character is not of the alphabet. */
static bool alphabet_read(const int16_t byte_of[324], const char *text, size_t n, Str *out) {
    for (size_t i = 0; i < n; i++) {
        unsigned c = (uint8_t)text[i];
        if (c >= 0x80) {
            if (c < 0xc2 || c > 0xdf || i + 1 >= n || (text[i + 1] & 0xc0) != 0x80) return false;
            c = (c & 0x1f) << 6 | (text[++i] & 0x3f);
        }
        if (c >= 324 || byte_of[c] < 0) return false;
        str_put(out, &(char){(char)byte_of[c]}, 1);
    }
    return true;
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

/* What the files say, before it is known to make sense. */
typedef struct Draft {
    const char *path;     /* that errors blame */
    int16_t byte_of[324]; /* the alphabet */
    const char **token;   /* [n] by id, as written; owned by the JSON trees */
    bool *special;        /* [n] */
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
        if (!draft_token(d, v->string, v, !strcmp(v->string, "<|endoftext|>"), e)) return false;
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
        else if (!alphabet_read(d->byte_of, text, strlen(text), &s))
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
    bool ok = alphabet_read(d->byte_of, left, n_left, &s);
    size_t middle = s.n;
    ok = ok && alphabet_read(d->byte_of, right, n_right, &s) && middle && s.n > middle;
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

/* Only what cuts and merges as GPT-2 does can be read; everything else would give other ids without a word. */
static bool check_pipeline(const char *path, const cJSON *json, Err *e) {
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    const cJSON *pre = cJSON_GetObjectItemCaseSensitive(json, "pre_tokenizer");
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(model, "type"));
    const char *cut = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(pre, "type"));
    if (!cJSON_IsObject(model)) return err_set(e, "%s: no \"model\" here; is this a tokenizer.json?", path);
    if (type && strcmp(type, "BPE"))
        return err_set(e, "%s: a %.64s model; only byte-level BPE can be read", path, type);
    if (!cut || strcmp(cut, "ByteLevel") || cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(pre, "use_regex")))
        return err_set(e, "%s: the pre_tokenizer is not ByteLevel with GPT-2's pattern", path);
    if (!unset(pre, "add_prefix_space"))
        return err_set(e, "%s: pre_tokenizer.add_prefix_space is not supported", path);
    if (!unset(json, "normalizer")) return err_set(e, "%s: a normalizer is not supported", path);
    static const char *const keys[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                       "byte_fallback", "ignore_merges"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!unset(model, keys[i])) return err_set(e, "%s: model.%s is not supported", path, keys[i]);
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(json, "added_tokens");
    for (const cJSON *a = added ? added->child : NULL; a; a = a->next)
        if (!unset(a, "lstrip") || !unset(a, "rstrip") || !unset(a, "single_word"))
            return err_set(e, "%s: added tokens with lstrip, rstrip or single_word are not supported", path);
    return true;
}

static bool open_json(Draft *d, const char *path, Err *e) {
    d->path = path;
    cJSON *json = read_json(path, e);
    if (!json) return false;
    const cJSON *model = cJSON_GetObjectItemCaseSensitive(json, "model");
    bool ok = check_pipeline(path, json, e) &&
              draft_vocab(d, cJSON_GetObjectItemCaseSensitive(model, "vocab"),
                          cJSON_GetObjectItemCaseSensitive(json, "added_tokens"), e) &&
              draft_add_tokens(d, e) &&
              draft_merges_json(d, cJSON_GetObjectItemCaseSensitive(model, "merges"), e) &&
              tokenizer_finish(d->t, path, e);
    cJSON_Delete(json);
    return ok;
}

static bool open_pair(Draft *d, const char *vocab_path, const char *merges_path, const char *added_path,
                      Err *e) {
    d->path = vocab_path;
    cJSON *added = NULL, *vocab = read_json(vocab_path, e);
    bool ok = vocab != NULL;
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
    alphabet_table(d.byte_of);
    bool ok = path_is_dir(path) ? open_dir(&d, path, e) : open_json(&d, path, e);
    free(d.token);
    free(d.special);
    if (ok) return d.t;
    tokenizer_free(d.t);
    return NULL;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

static void put_text(OutFile *f, const char *text) {
    file_put(f, text, strlen(text));
}

/* A JSON string of bytes that are UTF-8. */
static void put_string(OutFile *f, const char *p, size_t n) {
    put_text(f, "\"");
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '"' || p[i] == '\\')
            file_put(f, (char[]){'\\', p[i]}, 2);
        else if ((uint8_t)p[i] < ' ')
            file_printf(f, "\\u%04x", p[i]);
        else
            file_put(f, p + i, 1);
    }
    put_text(f, "\"");
}

/* How the files spell a token. */
static void spell(const Tokenizer *t, int32_t id, Str *s) {
    Bytes b = tokenizer_token(t, id);
    bool special = false;
    for (int32_t i = 0; i < t->n_special; i++) special |= t->special[i] == id;
    s->n = 0;
    if (special) str_put(s, b.p, b.n);
    for (size_t i = 0; i < b.n && !special; i++) alphabet_put(s, (uint8_t)b.p[i]);
}

static void put_vocab(OutFile *f, const Tokenizer *t) {
    Str s = {0};
    for (int32_t id = 0; id < t->n; id++) {
        spell(t, id, &s);
        put_text(f, id ? ", " : "{");
        put_string(f, s.p, s.n);
        file_printf(f, ": %d", id);
    }
    put_text(f, "}");
    str_free(&s);
}

static void put_merges_txt(OutFile *f, const Tokenizer *t) {
    Str s = {0};
    put_text(f, "#version: 0.2\n");
    for (int32_t i = 0; i < t->n_merges; i++) {
        spell(t, t->merge[i].left, &s);
        file_put(f, s.p, s.n);
        put_text(f, " ");
        spell(t, t->merge[i].right, &s);
        file_put(f, s.p, s.n);
        put_text(f, "\n");
    }
    str_free(&s);
}

static void put_merges_json(OutFile *f, const Tokenizer *t, MergeSpelling spelling) {
    Str s = {0}, line = {0};
    for (int32_t i = 0; i < t->n_merges; i++) {
        put_text(f, i ? ",\n" : "\n");
        spell(t, t->merge[i].left, &line);
        if (spelling == MERGES_PAIRS) {
            put_text(f, "[");
            put_string(f, line.p, line.n);
            put_text(f, ", ");
            line.n = 0;
        } else {
            str_puts(&line, " ");
        }
        spell(t, t->merge[i].right, &s);
        str_put(&line, s.p, s.n);
        put_string(f, line.p, line.n);
        if (spelling == MERGES_PAIRS) put_text(f, "]");
    }
    str_free(&s);
    str_free(&line);
}

static void put_added(OutFile *f, const Tokenizer *t) {
    bool first = true;
    for (int32_t id = 0; id < t->n; id++)
        for (int32_t i = 0; i < t->n_special; i++) {
            if (t->special[i] != id) continue;
            Bytes b = tokenizer_token(t, id);
            file_printf(f, "%s{\"id\": %d, \"content\": ", first ? "" : ", ", id);
            put_string(f, b.p, b.n);
            put_text(f,
                     ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
                     "\"special\": true}");
            first = false;
        }
}

static void put_json(OutFile *f, const Tokenizer *t, MergeSpelling spelling) {
    put_text(f, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n\"added_tokens\": [");
    put_added(f, t);
    put_text(
        f,
        "],\n\"normalizer\": null,\n"
        "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
        "\"use_regex\": true},\n"
        "\"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": false, "
        "\"use_regex\": true},\n"
        "\"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, "
        "\"use_regex\": true},\n"
        "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
        "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": false, "
        "\"byte_fallback\": false, \"ignore_merges\": false,\n\"vocab\": ");
    put_vocab(f, t);
    put_text(f, ",\n\"merges\": [");
    put_merges_json(f, t, spelling);
    put_text(f, "\n]}}\n");
}

/* The two small files that tell transformers' AutoTokenizer which class to make and what ends a text. */
static void put_config(OutFile *f, const Tokenizer *t, bool with_class) {
    put_text(f, "{");
    if (with_class) put_text(f, "\"tokenizer_class\": \"GPT2Tokenizer\", \"add_prefix_space\": false");
    for (int i = 0; i < 3 && t->eot >= 0; i++) {
        file_printf(f, "%s\"%s\": ", with_class || i ? ", " : "",
                    (const char *[]){"bos_token", "eos_token", "unk_token"}[i]);
        Bytes b = tokenizer_token(t, t->eot);
        put_string(f, b.p, b.n);
    }
    put_text(f, "}\n");
}

bool tokenizer_save_as(const Tokenizer *t, const char *dir, MergeSpelling spelling, Err *e) {
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
                                        "special_tokens_map.json"};
    bool ok = true;
    for (int i = 0; i < 5 && ok; i++) {
        OutFile f;
        char *path = path_join(dir, names[i]);
        ok = file_create(&f, path, e);
        if (ok) {
            if (i == 0) put_vocab(&f, t);
            if (i == 1) put_merges_txt(&f, t);
            if (i == 2) put_json(&f, t, spelling);
            if (i == 3) put_config(&f, t, true);
            if (i == 4) put_config(&f, t, false);
            ok = file_commit(&f, e);
        }
        free(path);
    }
    return ok;
}

bool tokenizer_save(const Tokenizer *t, const char *dir, Err *e) {
    return tokenizer_save_as(t, dir, MERGES_STRINGS, e);
}
