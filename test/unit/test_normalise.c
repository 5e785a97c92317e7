/* test_normalise.c - normalise.c: bytes repaired, mojibake undone, NFC, characters left out. */
#include "normalise.h"
#include "test.h"
#include "words.h"

#include <string.h>

static const Normalise all = {true, true, true};

static void expect_normal(const char *text, size_t n, const char *want, NormaliseCounts *c) {
    static Str out, spare;
    memset(c, 0, sizeof *c);
    normalise(&all, text, n, &out, &spare, c);
    EXPECT(out.n == strlen(want) && !memcmp(out.p, want, out.n), "\"%s\" became \"%s\", not \"%s\"", text,
           out.p, want);
}
#define NORMAL(text, want) expect_normal(text, sizeof(text) - 1, want, &c)

TEST(normalise_ascii) {
    NormaliseCounts c;
    NORMAL("", "");
    NORMAL("plain text", "plain text");
    NORMAL("\n\nx", "x");
    NORMAL("a\r\nb\rc\fd\ve", "a\nb\nc\nd\ne");
    NORMAL("  x \t\ny  \n\n\n\nz\n\n", "  x\ny\n\nz");
    NORMAL("a\0b\x01\x7f"
           "c\td",
           "abc\td");
    EXPECT(c.controls == 3);
}

TEST(normalise_spaces_and_marks) {
    NormaliseCounts c;
    NORMAL("a\u00a0b\u3000c\u2003d", "a b c d");
    NORMAL("\ufeffx\u00ady\u200bz\u202e\u2066", "xyz");
    EXPECT(c.controls == 5);
    NORMAL("a\xc2\x85"
           "b\u2028c\u2029d",
           "a\nb\nc\nd");
    NORMAL("\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645",
           "\u0646\u0645\u06cc\u200c\u062f\u0627\u0646\u0645"); /* Persian needs its joiners */
    const Normalise bare = {0};
    Str out = {0}, spare = {0};
    normalise(&bare, " a \n\n\n\xc3\xa9 ", 9, &out, &spare, &c);
    EXPECT(!strcmp(out.p, " a \n\n\n\xc3\xa9 "));
    str_free(&out), str_free(&spare);
}

TEST(normalise_repairs_utf8) {
    NormaliseCounts c;
    NORMAL("caf\xe9 \x93so\x94", "caf\u00e9 \u201cso\u201d"); /* nothing else beyond ASCII: Windows-1252 */
    EXPECT(c.repaired == 3 && c.first == 3);
    NORMAL("\xc3\xa9 caf\xe9", "\u00e9 caf\ufffd");
    EXPECT(c.repaired == 1 && c.first == 6);
    NORMAL("\u00e9 \xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80 \xe2\x82",
           "\u00e9 \ufffd\ufffd\ufffd \ufffd\ufffd \ufffd\ufffd\ufffd\ufffd \ufffd\ufffd");
}

TEST(normalise_utf16) {
    NormaliseCounts c;
    NORMAL("\xff\xfe", "");
    NORMAL("\xff\xfe"
           "a\0\xe9\0\r\0\n\0\x3d\xd8\x00\xde",
           "a\u00e9\n\U0001f600");
    NORMAL("\xfe\xff\0a\0 \x04\x34", "a \u0434");
    EXPECT(c.repaired == 0);
    NORMAL("\xff\xfe"
           "a\0\x3d\xd8z\0\x00\xde!",
           "a\ufffdz\ufffd\ufffd"); /* half a pair, the other half, half a unit */
    EXPECT(c.repaired == 3 && c.first == 4);
}

TEST(normalise_mojibake) {
    NormaliseCounts c;
    NORMAL("It\u00e2\u20ac\u2122s na\u00c3\u00afve", "It\u2019s na\u00efve");
    EXPECT(c.mojibake == 2);
    NORMAL("\u00c3\u0192\u00c2\u00a9t\u00c3\u0192\u00c2\u00a9", "\u00e9t\u00e9"); /* twice */
    NORMAL("\u00e2\u20ac\u0153so\u00e2\u20ac\xc2\x9d", "\u201cso\u201d"); /* a byte that Windows-1252 lacks */
    NORMAL("\u00d0\u00bf\u00d1\u20ac\u00d0\u00b8", "\u043f\u0440\u0438"); /* Russian, all of it */
    /* What looks a little like it and is none. */
    NORMAL("\u00abCAF\u00c9\u00bb \u00e9t\u00e9", "\u00abCAF\u00c9\u00bb \u00e9t\u00e9");
    NORMAL("\u00c9t\u00e9 N\u00c3O \u00c2ge", "\u00c9t\u00e9 N\u00c3O \u00c2ge");
    EXPECT(c.mojibake == 0);
}

TEST(normalise_nfc) {
    NormaliseCounts c;
    NORMAL("e\u0301 A\u030a \u212b", "\u00e9 \u00c5 \u00c5");
    EXPECT(c.composed == 1);
    NORMAL("a\u0323\u0307 a\u0307\u0323", "\u1ea1\u0307 \u1ea1\u0307");
    NORMAL("\u1100\u1161\u11a8 \uac00\u11a8", "\uac01 \uac01");
    NORMAL("\u0958 \u0915\u093c", "\u0915\u093c \u0915\u093c"); /* excluded from composition */
    NORMAL("a\u0305\u0301", "a\u0305\u0301");                   /* blocked by a mark of the same class */
    NORMAL("\u0344", "\u0308\u0301");
    EXPECT(nfc_is("caf\u00e9 \u4e00", 8) && !nfc_is("e\u0301", 3));
}

/* Every character alone: composing is idempotent, and undoes decomposing. Python's unicodedata was compared with once,
 * character by character, by test/compat/test_normalise.py. */
TEST(normalise_nfc_of_every_character) {
    Str once = {0}, twice = {0};
    int changed = 0;
    for (uint32_t ch = 1; ch < 0x30000; ch++) {
        char b[4];
        if (ch >= 0xd800 && ch < 0xe000) continue;
        size_t n = char_put(b, ch);
        if (nfc_is(b, n)) continue;
        once.n = twice.n = 0;
        nfc_compose(b, n, &once);
        nfc_compose(once.p, once.n, &twice);
        EXPECT(once.n == twice.n && !memcmp(once.p, twice.p, once.n), "U+%04X", ch);
        changed += once.n != n || memcmp(once.p, b, n);
    }
    EXPECT(changed == 1120, "%d characters are not in NFC", changed);
    str_free(&once), str_free(&twice);
}

TEST(normalise_marks_without_end) {
    Str in = {0}, out = {0};
    str_puts(&in, "a");
    for (int i = 0; i < 100000; i++) str_puts(&in, i % 2 ? "\u0301" : "\u0323");
    nfc_compose(in.p, in.n, &out); /* must not be quadratic */
    EXPECT(out.n > 100000 && utf8_valid(out.p, out.n));
    str_free(&in), str_free(&out);
}
