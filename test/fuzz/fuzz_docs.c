/* fuzz_docs.c - any bytes as a line of JSON: doc_text() refuses it, or cJSON takes it too and finds the same text
 * (up to the first zero byte, where cJSON's strings end). */
#include "docs.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Err e = {0};
    Doc doc = {.text = xmalloc(n + 1), .n = n, .file = "fuzz", .line = 1, .first = true};
    if (n) memcpy(doc.text, data, n);
    doc.text[n] = 0;
    char *line = strdup(doc.text);
    bool ok = doc_text(&doc, "t", &e);
    CHECK(ok == (e.code == 0) && doc.n <= n && doc.text[doc.n] == 0);
    bool half_pair = strstr(line, "\\ud") || strstr(line, "\\uD"); /* these cJSON refuses */
    if (ok && !half_pair && !strstr(line, "\\u0000")) {
        cJSON *o = cJSON_Parse(line), *it;
        const char *text = NULL;
        CHECK(o);
        cJSON_ArrayForEach(it, o) if (!strcmp(it->string, "t")) text = it->valuestring;
        CHECK(text && strlen(text) == doc.n && !memcmp(text, doc.text, doc.n));
        cJSON_Delete(o);
    }
    free(line);
    free(doc.text);
    return 0;
}
