/* run.c - the runner: test/run [--list] [NAME...]. Ends with "N passed, N failed, N skipped". */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *name;
    TestFn fn;
} tests[1024];
static int n_tests, failed_here;
static const char *skipped_here;
static char dir[64];

void test_add(const char *name, TestFn fn) {
    CHECK(n_tests < (int)(sizeof tests / sizeof *tests));
    tests[n_tests].name = name, tests[n_tests++].fn = fn;
}

void test_fail(const char *file, int line, const char *what, const char *fmt, ...) {
    va_list ap;
    if (failed_here++ >= 10) return; /* enough to see */
    printf("%s:%d: %s", file, line, what);
    if (*fmt) {
        printf(": ");
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
    }
    putchar('\n');
}

void test_expect_err(const char *file, int line, Err *e, const char *part) {
    if (!e->code)
        test_fail(file, line, "an error", "none came; expected one with \"%s\"", part);
    else if (!strstr(e->msg, part))
        test_fail(file, line, "this error", "\"%s\" in \"%s\"", part, e->msg);
    *e = (Err){0};
}

void test_skip(const char *why) {
    skipped_here = why;
}

const char *test_dir(void) {
    Err e = {0};
    if (!*dir) snprintf(dir, sizeof dir, "/tmp/gpt-test-%d", (int)getpid());
    if (!dir_remove(dir, &e) || !dir_make(dir, &e))
        test_fail(__FILE__, __LINE__, "a test folder", "%s", e.msg);
    return dir;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b); /* the name is the first member */
}

static bool wanted(const char *name, int argc, char **argv) {
    if (argc < 2) return true;
    for (int i = 1; i < argc; i++)
        if (!strncmp(name, argv[i], strlen(argv[i]))) return true;
    return false;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    qsort(tests, (size_t)n_tests, sizeof *tests, by_name);
    bool list = argc == 2 && !strcmp(argv[1], "--list");
    for (int i = 0; i < n_tests; i++) {
        if (list) puts(tests[i].name);
        if (list || !wanted(tests[i].name, argc, argv)) continue;
        double t0 = now_seconds();
        failed_here = 0, skipped_here = NULL;
        tests[i].fn();
        if (failed_here)
            failed++;
        else if (skipped_here)
            skipped++;
        else
            passed++;
        printf("%-7s %s (%.2f s)%s%s\n",
               failed_here    ? "FAILED"
               : skipped_here ? "skipped"
                              : "ok",
               tests[i].name, now_seconds() - t0, skipped_here ? ": " : "", skipped_here ? skipped_here : "");
    }
    Err e = {0};
    if (*dir) dir_remove(dir, &e);
    if (list) return 0;
    if (passed + failed + skipped == 0) printf("no test has such a name\n"), failed = 1;
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
