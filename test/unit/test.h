/* test.h - the table-driven runner: a test is a function that calls EXPECT; see run.c. */
#ifndef GPT_TEST_H
#define GPT_TEST_H

#include "util.h"

typedef void (*TestFn)(void);

/* TEST(name) { ... } registers itself before main: `test/run --list` shows all, `test/run name...` runs some. */
#define TEST(name)                                              \
    static void test_##name(void);                              \
    __attribute__((constructor)) static void add_##name(void) { \
        test_add(#name, test_##name);                           \
    }                                                           \
    static void test_##name(void)
void test_add(const char *name, TestFn fn);

/* A failed expectation is printed with its place; the test goes on, and counts as failed. */
#define EXPECT(cond, ...) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, #cond, "" __VA_ARGS__))
void test_fail(const char *file, int line, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The call must have failed, with a message that holds `part`; clears *e. */
#define EXPECT_ERR(e, part) test_expect_err(__FILE__, __LINE__, e, part)
void test_expect_err(const char *file, int line, Err *e, const char *part);
/* The call must not have failed. */
#define EXPECT_OK(e) ((e)->code == 0 ? (void)0 : test_fail(__FILE__, __LINE__, "no error", "%s", (e)->msg))

/* Leave the test as skipped, with the reason. */
#define SKIP(why)       \
    do {                \
        test_skip(why); \
        return;         \
    } while (0)
void test_skip(const char *why);

/* A folder of this test's own, empty, removed at the end of the run. */
const char *test_dir(void);

#endif
