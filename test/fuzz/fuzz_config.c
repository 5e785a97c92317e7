/* fuzz_config.c - any bytes as a config of a run, or of data clean: a JSON file, or KEY=VALUE lines as --set has them. What
 * is refused must be refused with a message; what is taken prints as a config that reads back as the same. */
#include "config.h"
#include "curate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/dev/shm/gpt-fuzz-XXXXXX"; /* in memory */
static bool is_run;                              /* or of data clean */
static Config run;
static CurateConfig clean;

static void clean_up(void) {
    unlink(path);
}

static void start(void) {
    int fd = mkstemp(path);
    CHECK(fd >= 0 && close(fd) == 0);
    atexit(clean_up);
}

static bool set(const char *line, Err *e) {
    return is_run ? config_set(&run, line, e) : curate_set(&clean, line, e);
}

/* What every run must say is said already. */
static void defaults(void) {
    Err e = {0};
    is_run ? config_defaults(&run) : curate_defaults(&clean);
    if (is_run) CHECK(set("name=a", &e) && set("data.train=b", &e) && set("tokenizer=c", &e), "%s", e.msg);
}

static bool read_file(const void *bytes, size_t n, Err *e) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
    return is_run ? config_read(&run, path, e) : curate_read(&clean, path, e);
}

static bool check(Err *e) {
    return is_run ? config_check(&run, e) : curate_check(&clean, e);
}

static void print(Str *json) {
    is_run ? config_print(&run, json) : curate_print(&clean, json);
}

static bool set_lines(const uint8_t *data, size_t n, Err *e) {
    Str text = {0};
    bool ok = true;
    str_put(&text, data, n);
    for (char *line = strtok(text.p, "\n"); line && ok; line = strtok(NULL, "\n")) ok = set(line, e);
    str_free(&text);
    return ok && check(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static bool started;
    if (!started) start(), started = true;
    if (n == 0) return 0;
    Str once = {0}, twice = {0};
    Err e = {0};
    is_run = *data & 1;
    defaults();
    bool taken = *data & 2 ? set_lines(data + 1, n - 1, &e) : read_file(data + 1, n - 1, &e);
    CHECK(taken || (*e.msg && e.code == EXIT_USAGE), "%s", e.msg);
    if (taken) {
        print(&once);
        defaults();
        CHECK(read_file(once.p, once.n, &e), "%s\n%s", e.msg, once.p);
        print(&twice);
        CHECK(!strcmp(once.p, twice.p), "%s became %s", once.p, twice.p);
    }
    str_free(&once), str_free(&twice);
    return 0;
}
