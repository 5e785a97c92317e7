/* fuzz_stage.c - any bytes as a line of JSON with a text, and any as another text for it: the line that
 * item_put() makes reads back as that text, its other members as they were, with one more at the end. */
#include "stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static Doc doc_of(const char *p, size_t n) {
    Doc d = {.text = xmalloc(n + 1), .n = n, .file = "fuzz", .line = 1, .first = true, .nats = NAN};
    memcpy(d.text, p, n);
    d.text[n] = 0;
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Err e = {0};
    const uint8_t *cut = n ? memchr(data, '\n', n) : NULL;
    size_t n_line = cut ? (size_t)(cut - data) : n, n_text = cut ? n - n_line - 1 : 0;
    const char *text = cut ? (const char *)cut + 1 : "";
    char *line = xmalloc(n_line + 1);
    if (n_line) memcpy(line, data, n_line);
    line[n_line] = 0;
    Item it = {.doc = doc_of(line, n_line), .line = line, .n_line = n_line};
    if (doc_text(&it.doc, "t", &e)) {
        Str same = {0}, other = {0};
        item_put(&same, &it, NULL, 0, NULL);
        item_put(&other, &it, text, n_text, "\"u\": 1");
        Doc a = doc_of(same.p, same.n - 1), b = doc_of(other.p, other.n - 1),
            u = doc_of(other.p, other.n - 1);
        CHECK(doc_text(&a, "t", &e) && a.n == it.doc.n && !memcmp(a.text, it.doc.text, a.n), "%s", e.msg);
        CHECK(doc_text(&b, "t", &e) && b.n == n_text && !memcmp(b.text, text, n_text), "%s", e.msg);
        CHECK(!doc_text(&u, "u", &e) && strstr(e.msg, "no text in"), "%s", e.msg);
        free(a.text), free(b.text), free(u.text);
        str_free(&same), str_free(&other);
    }
    free(it.doc.text);
    free(line);
    return 0;
}
