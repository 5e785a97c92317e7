/* test_html.c - html.c: blocks, white space, what is not meant to be read, encodings, pages that are broken. */
#include "html.h"
#include "test.h"

#include <string.h>

/* Without libxml2 there is nothing to test. */
static bool here(void) {
    Str out = {0};
    Err e = {0};
    bool ok = html_text(&(HtmlOptions){1}, "x", 1, &out, &e);
    str_free(&out);
    return ok;
}

static void expect_text(const char *html, size_t n, double links, const char *want) {
    Str out = {0};
    Err e = {0};
    EXPECT(html_text(&(HtmlOptions){links}, html, n, &out, &e), "%s", e.msg);
    EXPECT(out.n == strlen(want) && !memcmp(out.p ? out.p : "", want, out.n), "%s\ngave \"%s\"\nnot  \"%s\"",
           html, out.p ? out.p : "", want);
    str_free(&out);
}
#define TEXT_LESS(html, links, want) expect_text(html, sizeof(html) - 1, links, want)
#define TEXT_OF(html, want)          TEXT_LESS(html, 1, want)

TEST(html_blocks) {
    if (!here()) SKIP("built without libxml2");
    TEXT_OF("", "");
    TEXT_OF("just  text\n here", "just text here");
    TEXT_OF("<p>one<p>two</p><div>three<br>four</div>five", "one\n\ntwo\n\nthree\nfour\nfive");
    TEXT_OF("<h1>Title</h1>text <b>bo</b>ld<i> it</i>", "Title\n\ntext bold it");
    TEXT_OF("<ul><li>a<li>b <p>c</ul>d", "- a\n- b\n\nc\n\nd");
    TEXT_OF("<table><tr><th>h1<th>h2<tr><td>1<td> 2 </table>", "h1\th2\n1\t2");
    TEXT_OF("a<pre>  x\n    y\n</pre>b", "a\n\n  x\n    y\n\n\nb");
    TEXT_OF("<p>a &amp; b &lt;c&gt; &eacute;&#233;&#xe9; &hellip; &nosuch;</p>",
            "a & b <c> \u00e9\u00e9\u00e9 \u2026 &nosuch;");
}

TEST(html_what_is_not_read) {
    if (!here()) SKIP("built without libxml2");
    TEXT_OF("<head><title>t</title><style>p{}</style></head><body>x<script>if (a<b) y('</p>')</script>y<!-- "
            "no --></body>",
            "xy");
    TEXT_OF("<nav>no<p>no</p>no</nav><p>yes<footer><div>no</div></footer><aside>no</aside>", "yes");
    TEXT_OF("<div role=navigation>no</div><div hidden>no<p>no</p></div><p aria-hidden=true>no</p>"
            "<div style='display: none'>no</div>yes<br hidden>yes",
            "yes\nyes");
    TEXT_LESS("<p><a href=x>Home</a> | <a href=y>News</a><p>See <a>this</a> long text", 0.5,
              "See this long text");
}

TEST(html_encodings) {
    if (!here()) SKIP("built without libxml2");
    TEXT_OF("<p>caf\xc3\xa9", "caf\u00e9");
    TEXT_OF("<meta charset=iso-8859-1><p>caf\xc3\xa9", "caf\u00e9"); /* it is UTF-8, whatever it says */
    TEXT_OF("<meta charset=\"iso-8859-2\"><p>\xb3", "\u0142");
    TEXT_OF("<meta http-equiv=Content-Type content='text/html; charset=shift_jis'><p>\x93\xfa\x96\x7b",
            "\u65e5\u672c");
    TEXT_OF("<p>caf\xe9 \x93so\x94", "caf\u00e9 \u201cso\u201d");
    TEXT_OF("\xff\xfe<\0p\0>\0\xe9\0", "\u00e9");
    TEXT_OF("<p>a\0b", "a b");
}

TEST(html_broken_pages) {
    if (!here()) SKIP("built without libxml2");
    TEXT_OF("<p>a<b>b</p>c</i></div>d</html>e", "ab\n\ncd\n\ne");
    TEXT_OF("<p>a<!-- open", "a");
    TEXT_OF("<p>a<b", "a");
    Str s = {0}, out = {0};
    Err e = {0};
    for (int i = 0; i < 1000; i++) str_puts(&s, "<div>");
    str_puts(&s, "deep");
    EXPECT(html_text(&(HtmlOptions){1}, s.p, s.n, &out, &e) && !strcmp(out.p, "deep"));
    s.n = 0;
    for (int i = 0; i < 200000; i++) str_puts(&s, "<b>");
    for (int i = 0; i < 200000; i++) str_puts(&s, "</i>"); /* each would search all of them */
    EXPECT(!html_text(&(HtmlOptions){1}, s.p, s.n, &out, &e));
    EXPECT_ERR(&e, "nested more than 4096 deep");
    str_free(&s), str_free(&out);
}
