/* test_util.c - util.c: random numbers against published vectors, atomic files, text, UTF-8. */
#include "test.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

TEST(util_philox_known_answers) {
    /* The three known-answer vectors of Random123's philox4x32-10 (Salmon et al. 2011). */
    static const struct {
        uint64_t key, hi, lo;
        uint32_t out[4];
    } kat[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {~0ull, ~0ull, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x0370734413198a2e,
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t r[4];
        philox4x32(kat[i].key, kat[i].hi, kat[i].lo, r);
        EXPECT(!memcmp(r, kat[i].out, sizeof r), "vector %zu", i);
    }
}

/* Against Box and Muller in double precision from the same words; pieces are pieces of one list. */
TEST(util_rand_normals) {
    enum { N = 1000, FIRST = 123456 };
    static float x[N], piece[N];
    rand_normals(x, N, 0.5f, 77, RAND_TEST, 3, FIRST);
    for (int i = 0; i < N; i += 4) {
        uint32_t w[4];
        philox4x32(77, (uint64_t)RAND_TEST << 40 | 3, (FIRST + (uint64_t)i) / 4, w);
        for (int k = 0; k < 4; k += 2) {
            double r = 0.5 * sqrt(-2 * log((w[k] + 0.5) * 0x1p-32)),
                   angle = 2 * M_PI * 0x1p-32 * (int32_t)w[k + 1];
            EXPECT(fabs(x[i + k] - r * cos(angle)) < 2e-6, "%g, not %g", x[i + k], r * cos(angle));
            EXPECT(fabs(x[i + k + 1] - r * sin(angle)) < 2e-6, "%g, not %g", x[i + k + 1], r * sin(angle));
        }
    }
    rand_normals(piece, 301, 0.5f, 77, RAND_TEST, 3, FIRST + 400);
    EXPECT(!memcmp(piece, x + 400, 301 * sizeof *x));
}

TEST(util_rand_below_is_even) {
    int count[7] = {0};
    for (uint64_t i = 0; i < 70000; i++) count[rand_below(1, RAND_TEST, 2, i, 7)]++;
    for (int i = 0; i < 7; i++) EXPECT(count[i] > 9600 && count[i] < 10400, "%d of 10000", count[i]);
}

TEST(util_files_are_atomic) {
    Err e = {0};
    OutFile f;
    char *path = path_join(test_dir(), "a"), *data;
    size_t n;
    EXPECT(file_write(path, "old", 3, &e));
    EXPECT(file_create(&f, path, &e));
    file_put(&f, "new text", 8);
    EXPECT(file_read(path, 100, &data, &n, &e) && n == 3); /* not yet */
    free(data);
    file_patch(&f, 0, "N", 1);
    EXPECT(f.crc == crc32_of(0, "new text", 8));
    EXPECT(file_commit(&f, &e));
    EXPECT(file_read(path, 100, &data, &n, &e) && n == 8 && !memcmp(data, "New text", 8));
    free(data);
    EXPECT(!file_read(path, 7, &data, &n, &e));
    EXPECT_ERR(&e, "larger than the 7 bytes");
    EXPECT(!file_create(&f, "/nonexistent/x", &e));
    EXPECT_ERR(&e, "cannot write");
    EXPECT(!file_read(test_dir(), 7, &data, &n, &e));
    EXPECT_ERR(&e, "is a folder");
    free(path);
}

TEST(util_text_lines) {
    Err e = {0};
    Text t;
    char *path = path_join(test_dir(), "lines"), *line;
    Str s = {0};
    for (int i = 0; i < 20000; i++) str_printf(&s, "%d %*s\n", i, i % 300, "");
    str_puts(&s, "last");
    EXPECT(file_write(path, s.p, s.n, &e) && text_open(&t, path, &e));
    size_t n;
    int lines = 0;
    while (text_line(&t, &line, &n, &e) && line) {
        EXPECT(lines == 20000 ? !strcmp(line, "last") : atoi(line) == lines, "line %d", lines);
        EXPECT(strlen(line) == n);
        lines++;
    }
    EXPECT(lines == 20001 && t.line == 20001, "%d lines", lines);
    text_close(&t);
    char *all;
    EXPECT(text_all(path, &all, &n, &e) && n == s.n && !memcmp(all, s.p, n));
    free(all);
    str_free(&s);
    free(path);
}

TEST(util_utf8) {
    static const struct {
        const char *s;
        bool valid;
        size_t whole;
    } cases[] = {
        {"abc", true, 3},
        {"\xc3\xa9", true, 2},
        {"a\xc3", false, 1},
        {"\xc0\x80", false, 2},
        {"\xed\xa0\x80", false, 3},
        {"a\xe2\x82", false, 1},
        {"\xf0\x9f\x98\x80", true, 4},
        {"\xf0\x9f\x98", false, 0},
        {"\xf4\x90\x80\x80", false, 4},
        {"\xff", false, 1},
        {"a\x80", false, 2},
        {"", true, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT(utf8_valid(cases[i].s, strlen(cases[i].s)) == cases[i].valid, "case %zu", i);
        EXPECT(utf8_whole(cases[i].s, strlen(cases[i].s)) == cases[i].whole, "case %zu", i);
    }
}

/* What a child that runs `act` says on stderr before it ends. */
static void last_words(void (*act)(void), char *said, size_t size) {
    int ends[2], status;
    EXPECT(!pipe(ends));
    pid_t pid = fork();
    if (!pid) {
        dup2(ends[1], STDERR_FILENO);
        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        signal(SIGABRT, SIG_DFL);
        act();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, size - 1);
    said[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    waitpid(pid, &status, 0);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "%d", status);
}

static void break_promise(void) {
    CHECK(2 + 2 == 5, "the sum is %d", 4);
}
static void break_promise_as_rank(void) {
    fault_by("rank 3 (node7)");
    CHECK(2 + 2 == 5);
}

TEST(util_broken_promises_are_named) {
    char said[512];
    last_words(break_promise, said, sizeof said);
    EXPECT(strstr(said, "gpt: internal error at ") == said && strstr(said, ": 2 + 2 == 5: the sum is 4\n"),
           "%s", said);
    last_words(break_promise_as_rank, said, sizeof said);
    EXPECT(strstr(said, "gpt: rank 3 (node7): internal error at ") == said && strstr(said, ": 2 + 2 == 5\n"),
           "%s", said);
}
