/* html.h - floor 2: HTML to the text that a reader sees, by libxml2's parser: html.c where that is installed, else
 * html_none.c, which refuses. */
#ifndef GPT_HTML_H
#define GPT_HTML_H

#include "util.h"

typedef struct HtmlOptions {
    double
        max_links; /* a block with more of its characters in links is navigation, and dropped; 1: keep all */
} HtmlOptions;

/* Appends the text of a page: blocks on lines of their own, paragraphs with an empty line between, list items after
 * "- ", cells of a table after tabs, <pre> as it stands; without scripts, styles, forms, <nav>, <footer>, <aside> and
 * what is hidden. In any encoding that the page names and iconv knows; else UTF-8, or Windows-1252 if it is not that.
 * An error names no file. */
bool html_text(const HtmlOptions *o, const char *html, size_t n, Str *out, Err *e);
#endif
