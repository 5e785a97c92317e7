/* fuzz_html.c - any bytes as a page: text comes out as UTF-8 without NUL, or one clear error. */
#include "html.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Err e = {0};
    Str out = {0};
    const HtmlOptions o = {n % 2 ? 0.5 : 1};
    bool ok = html_text(&o, (const char *)data, n, &out, &e);
    CHECK(ok == (e.code == 0));
    CHECK(!out.n || (utf8_valid(out.p, out.n) && !memchr(out.p, 0, out.n)));
    str_free(&out);
    return 0;
}
