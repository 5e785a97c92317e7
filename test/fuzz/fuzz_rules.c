/* fuzz_rules.c - any bytes are measured and their lines judged: shares are shares, lines only go. */
#include "rules.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Measurer *m;
    const LineRules all = {true, 10, 3, n % 2, true, true, true};
    uint64_t dropped[N_LINE_RULES] = {0};
    double value[N_RULE_MEASURES];
    Str text = {0};
    if (!n) return 0;
    if (!m) m = measurer_new(MEASURE_SHORT);
    str_put(&text, data, n);
    measure(m, text.p, n, value);
    for (int i = 0; i < M_PERPLEXITY; i++) CHECK(value[i] >= 0 && isfinite(value[i]));
    for (int i = M_DUP_LINES; i <= M_DUP_PARA_CHARS; i++) CHECK(value[i] <= 1);
    for (int i = M_DUP_5; i <= M_DUP_10; i++) CHECK(value[i] <= 1);
    CHECK(value[M_ALPHA] <= 1 && value[M_URLS] <= 1 && value[M_SPECIAL] <= 1 && value[M_STOP_WORDS] <= 8);
    CHECK(lines_clean(&all, text.p, n, (const char *)data, dropped) <= n);
    str_free(&text);
    return 0;
}
