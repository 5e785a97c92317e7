/* html_none.c - floor 2: html.h on a machine without libxml2. */
#include "html.h"

bool html_text(const HtmlOptions *o, const char *html, size_t n, Str *out, Err *e) {
    (void)o, (void)html, (void)n, (void)out;
    return err_set(e, "HTML cannot be read: this gpt was built without libxml2 (Debian: libxml2-dev); "
                      "install it and make again");
}
