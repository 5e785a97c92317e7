/* test_pii.c - pii.c on a set of invented data and of what only looks like it (test/golden/make_pii.py):
 * precision and recall by kind; surrogates; twice is once. */
#include "pii.h"
#include "pii_impl.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char OPEN[] = "\xe2\x9f\xa6", CLOSE[] = "\xe2\x9f\xa7"; /* brackets around what must be found */

static Pii *scrubber(unsigned kinds, const char *secret) {
    Err e = {0};
    Pii *p = pii_open(&(PiiOptions){.kinds = kinds, .secret = secret}, &e);
    EXPECT_OK(&e);
    return p;
}

static Str scrubbed(const Pii *p, const char *text, size_t n, PiiCounts *counts) {
    Str out = {0};
    pii_scrub(p, text, n, &out, counts);
    return out;
}

static int kind_of(const char *line) {
    for (int k = 0; k < PII_KINDS; k++) {
        size_t n = strlen(pii_name((PiiKind)k));
        if (!strncmp(line, pii_name((PiiKind)k), n) && line[n] == '\t') return k;
    }
    return -1;
}

/* The text of a line without its brackets, and what must come out: a mark for each pair of them. */
static int split(const char *line, int kind, Str *text, Str *want) {
    int found = 0;
    text->n = want->n = 0;
    for (const char *p = strchr(line, '\t') + 1, *open, *close; *p; p = close + 3) {
        open = strstr(p, OPEN);
        size_t n = open ? (size_t)(open - p) : strlen(p);
        str_put(text, p, n);
        str_put(want, p, n);
        if (!open) break;
        close = strstr(open, CLOSE);
        str_put(text, open + 3, (size_t)(close - open - 3));
        str_puts(want, pii_mark((PiiKind)kind));
        found++;
    }
    return found;
}

typedef void (*LineFn)(const char *line, void *ctx);

static void each_line(const char *path, LineFn fn, void *ctx) {
    Err e = {0};
    Text t;
    char *line;
    size_t n;
    EXPECT(text_open(&t, path, &e), "%s", e.msg);
    while (text_line(&t, &line, &n, &e) && line) fn(line, ctx);
    EXPECT_OK(&e);
    text_close(&t);
}

typedef struct Score {
    const Pii *p;
    int there[PII_KINDS], right[PII_KINDS], found[PII_KINDS], negatives;
    Str text, want;
} Score;

/* What is found counts as right if the line comes out exactly as it should: the same places, nothing more. */
static void score_positive(const char *line, void *ctx) {
    Score *s = ctx;
    PiiCounts c = {{0}};
    int kind = kind_of(line), n = split(line, kind, &s->text, &s->want);
    Str out = scrubbed(s->p, s->text.p, s->text.n, &c);
    bool exact = out.n == s->want.n && !memcmp(out.p, s->want.p, out.n);
    EXPECT(n > 0);
    s->there[kind] += n;
    s->right[kind] += exact ? n : 0;
    for (int k = 0; k < PII_KINDS; k++) s->found[k] += (int)c.n[k];
    str_free(&out);
}

static void score_negative(const char *line, void *ctx) {
    Score *s = ctx;
    PiiCounts c = {{0}};
    const char *text = strchr(line, '\t') + 1;
    Str out = scrubbed(s->p, text, strlen(text), &c);
    for (int k = 0; k < PII_KINDS; k++) s->found[k] += (int)c.n[k];
    s->negatives++;
    str_free(&out);
}

TEST(pii_precision_and_recall) {
    Pii *p = scrubber(0, NULL);
    Score s = {.p = p};
    each_line("test/golden/pii/positives.txt", score_positive, &s);
    each_line("test/golden/pii/negatives.txt", score_negative, &s);
    EXPECT(s.negatives == 900);
    int there = 0, right = 0, found = 0;
    for (int k = 0; k < PII_ADDRESS; k++) {
        there += s.there[k], right += s.right[k], found += s.found[k];
        double recall = (double)s.right[k] / s.there[k], precision = (double)s.right[k] / s.found[k];
        EXPECT(s.there[k] >= 60 && recall >= 0.98, "%s: recall %.3f", pii_name((PiiKind)k), recall);
        EXPECT(precision >= 0.98, "%s: precision %.3f", pii_name((PiiKind)k), precision);
    }
    printf("    %d to be found, %d lines that only look like it: recall %.4f, precision %.4f\n", there,
           s.negatives, (double)right / there, (double)right / found);
    str_free(&s.text), str_free(&s.want);
    pii_close(p);
}

/* Cases by hand: a name for each, so that a failure says what broke. */
TEST(pii_cases) {
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"john123@mail.org", "<EMAIL>"},
        {"8005551234@sms.org and 4111111111111111@x.org", "<EMAIL> and <EMAIL>"},
        {"a.b@c.d.org.", "<EMAIL>."},
        {".a@b.org, a.@b.org, a@-b.org, a@b..org", ".<EMAIL>, a.@b.org, a@-b.org, a@b..org"},
        {"a@b.org@c.org", "a@b.org@c.org"},
        {"1.2.3.4 and IP 1.2.3.4 and 1.2.3.400", "1.2.3.4 and IP <IP> and 1.2.3.400"},
        {"81.2.69.142/24, 81.2.69.142.5, 081.2.69.142", "<IP>/24, 81.2.69.142.5, 081.2.69.142"},
        {"2a00::1:2:3:4:5:6:7, 2a00::1::2, 2a00:1:2:3:4:5:6:7:8",
         "2a00::1:2:3:4:5:6:7, 2a00::1::2, 2a00:1:2:3:4:5:6:7:8"},
        {"+44 20 7946 0018 12 items", "<PHONE> 12 items"},
        {"+1 202 555 9999, +1 102 555 9999, +890 123 456 789", "<PHONE>, +1 102 555 9999, +890 123 456 789"},
        {"4111 1111 1111 1111 2026", "<CARD> 2026"},
        {"DE89370400440532013000X, DE89 3704 0044 0532 0130 01",
         "DE89370400440532013000X, DE89 3704 0044 0532 0130 01"},
        {"123-45-6789-1, 1123-45-6789, 078-05-1120", "123-45-6789-1, 1123-45-6789, <ID>"},
        {"tel 12 34 56 78", "tel <PHONE>"},
        {"", ""},
    };
    Pii *p = scrubber(0, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Str out = scrubbed(p, cases[i].text, strlen(cases[i].text), NULL);
        str_put(&out, "", 0);
        EXPECT(!strcmp(out.p, cases[i].want), "\"%s\": \"%s\"", cases[i].text, out.p);
        str_free(&out);
    }
    pii_close(p);
}

TEST(pii_streets_and_names) {
    static const char text[] =
        "Dr. Jane Roe, 12 Elm Tree Avenue, and Mrs Smith of 221b Baker St. met Mr. 5 Star Hotels.";
    Pii *all = scrubber(PII_ALL, NULL), *most = scrubber(0, NULL);
    Str a = scrubbed(all, text, strlen(text), NULL), b = scrubbed(most, text, strlen(text), NULL);
    EXPECT(!strcmp(a.p, "Dr. <NAME>, <ADDRESS>, and Mrs <NAME> of <ADDRESS>. met Mr. 5 Star Hotels."), "%s",
           a.p);
    EXPECT(!strcmp(b.p, text), "%s", b.p);
    str_free(&a), str_free(&b);
    pii_close(all), pii_close(most);
}

/* ---- surrogates ---------------------------------------------------------------------------------------- */

/* The vector of the paper's appendix A. */
TEST(pii_siphash) {
    char in[15];
    for (int i = 0; i < 15; i++) in[i] = (char)i;
    const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    EXPECT(pii_siphash(key, in, 15) == 0xa129ca6149be45e5u);
}

typedef struct Fakes {
    const Pii *one, *two;
    Str text, want;
    int same, lines;
} Fakes;

static void check_fake(const char *line, void *ctx) {
    Fakes *f = ctx;
    PiiCounts c = {{0}}, again = {{0}};
    int kind = kind_of(line);
    split(line, kind, &f->text, &f->want);
    Str a = scrubbed(f->one, f->text.p, f->text.n, &c), b = scrubbed(f->one, a.p, a.n, &again);
    Str other = scrubbed(f->two, f->text.p, f->text.n, NULL), marked = {0};
    uint64_t left = 0;
    for (int k = 0; k < PII_KINDS; k++) left += again.n[k];
    EXPECT(c.n[kind] > 0 && left == 0, "%s: %s: %llu found again", f->text.p, a.p, (unsigned long long)left);
    EXPECT(a.n == b.n && !memcmp(a.p, b.p, a.n), "%s: %s, then %s", f->text.p, a.p, b.p);
    EXPECT(strcmp(a.p, f->text.p) != 0, "%s stayed", a.p);
    f->same += !strcmp(a.p, other.p), f->lines++;
    str_free(&a), str_free(&b), str_free(&other), str_free(&marked);
}

/* A surrogate is left alone, is not what it stands for, and is another one under another key. */
TEST(pii_surrogates) {
    Pii *one = scrubber(PII_ALL, "sixteen bytes or more"),
        *two = scrubber(PII_ALL, "another secret, as long");
    Fakes f = {.one = one, .two = two};
    each_line("test/golden/pii/positives.txt", check_fake, &f);
    EXPECT(f.lines == 1020 && f.same <= 2, "%d of %d are the same under two keys", f.same, f.lines);
    str_free(&f.text), str_free(&f.want);
    EXPECT(pii_fingerprint(one) != pii_fingerprint(two) && pii_fingerprint(one));
    pii_close(one), pii_close(two);
}

/* Numbers keep their shape, and are known as ours, under any key: never real, and never a part of something
 * else. */
TEST(pii_surrogates_are_known) {
    static const struct {
        PiiKind kind;
        const char *before, *text;
    } cases[] = {
        {PII_CARD, "", "4111 1111 1111 1111"},   {PII_CARD, "", "378282246310005"},
        {PII_US_SSN, "", "123-45-6789"},         {PII_UK_NINO, "", "AB 12 34 56 C"},
        {PII_FR_NIR, "", "1850578006084 91"},    {PII_FR_NIR, "", "1 85 05 2A 006 084 91"},
        {PII_DE_STEUER, "", "86 095 742 719"},   {PII_ES_DNI, "", "12345678Z"},
        {PII_ES_DNI, "", "X1234567L"},           {PII_NL_BSN, "BSN ", "111222333"},
        {PII_IT_CF, "", "RSSMRA85T10A562S"},     {PII_BR_CPF, "", "529.982.247-25"},
        {PII_PL_PESEL, "PESEL ", "44051401359"}, {PII_SE_PN, "", "19811218-9876"},
        {PII_CA_SIN, "SIN ", "130-692-544"},
    };
    uint64_t by_run[LONGEST_RUN];
    pii_shapes_by_run(by_run);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        for (uint64_t key = 0; key < 200; key++) {
            Str s = {0};
            Found f = {0};
            size_t at = strlen(cases[k].before), i = at, run = 0;
            str_puts(&s, cases[k].before);
            pii_fake((const uint64_t[2]){key, 7}, cases[k].kind, cases[k].text, strlen(cases[k].text), &s);
            while (!pii_digit(s.p[i])) i++;
            while (pii_digit(s.p[i + run])) run++;
            Match m = pii_match_shape(&(Scan){s.p, s.n, 0, by_run}, i, run, &f);
            EXPECT(m == OURS && f.kind == cases[k].kind && f.at == at && f.at + f.n == s.n, "%s: %s",
                   cases[k].text, s.p);
            EXPECT(s.n == at + strlen(cases[k].text));
            str_free(&s);
        }
}

/* The same thing, however it is written, becomes the same. */
TEST(pii_surrogates_are_consistent) {
    Pii *p = scrubber(0, "sixteen bytes or more");
    static const char *const pairs[][2] = {{"Jo.Doe@Mail.org", "jo.doe@mail.org"},
                                           {"(415) 555-2671", "+1-415-555-2671"},
                                           {"415.555.2671", "1-415-555-2671"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        Str a = scrubbed(p, pairs[i][0], strlen(pairs[i][0]), NULL),
            b = scrubbed(p, pairs[i][1], strlen(pairs[i][1]), NULL);
        EXPECT(!strcmp(a.p, b.p), "%s: %s; %s: %s", pairs[i][0], a.p, pairs[i][1], b.p);
        str_free(&a), str_free(&b);
    }
    pii_close(p);
}

TEST(pii_short_secret_refused) {
    Err e = {0};
    EXPECT(!pii_open(&(PiiOptions){.secret = "fifteen bytes.."}, &e));
    EXPECT_ERR(&e, "at least 16 bytes");
}

/* ---- twice is once ------------------------------------------------------------------------------------- */

static void collect(const char *line, void *ctx) {
    Str text = {0}, want = {0};
    split(line, PII_EMAIL, &text, &want);
    str_put(ctx, text.p, text.n);
    str_puts(ctx, "\n");
    str_free(&text), str_free(&want);
}

/* Pieces of both sets, cut anywhere and put next to each other. */
TEST(pii_twice_is_once) {
    Str all = {0};
    each_line("test/golden/pii/positives.txt", collect, &all);
    each_line("test/golden/pii/negatives.txt", collect, &all);
    Pii *marks = scrubber(PII_ALL, NULL), *fakes = scrubber(PII_ALL, "sixteen bytes or more");
    for (uint64_t i = 0; i < 6000; i++) {
        Str mix = {0};
        for (uint64_t k = 0; k < 6; k++) {
            size_t at = rand_below(9, RAND_TEST, i, 2 * k, all.n - 40);
            str_put(&mix, all.p + at, rand_below(9, RAND_TEST, i, 2 * k + 1, 40));
        }
        str_put(&mix, "", 0);
        for (int fake = 0; fake < 2; fake++) {
            const Pii *p = fake ? fakes : marks;
            Str once = scrubbed(p, mix.p, mix.n, NULL), twice = scrubbed(p, once.p, once.n, NULL);
            EXPECT(once.n == twice.n && (!once.n || !memcmp(once.p, twice.p, once.n)),
                   "%s\n once: %s\ntwice: %s", mix.p, once.p, twice.p);
            str_free(&once), str_free(&twice);
        }
        str_free(&mix);
    }
    pii_close(marks), pii_close(fakes);
    str_free(&all);
}
