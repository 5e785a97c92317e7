/* fuzz_pii.c - any bytes: what pii_scrub() makes of them is bounded, is UTF-8 if they were, and stays as it
 * is when it is scrubbed again, with marks and with surrogates. */
#include "pii.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Pii *pii[2];
    Err e = {0};
    for (int i = 0; i < 2 && !pii[i]; i++)
        pii[i] = pii_open(&(PiiOptions){.kinds = PII_ALL, .secret = i ? "sixteen bytes or more" : NULL}, &e);
    char *text = xmalloc(n + 1); /* of exactly n bytes, so that a look past them is seen */
    if (n) memcpy(text, data, n);
    text = xrealloc(text, n ? n : 1);
    for (int i = 0; i < 2; i++) {
        PiiCounts counts = {{0}};
        Str once = {0}, twice = {0};
        uint64_t found = 0;
        pii_scrub(pii[i], text, n, &once, &counts);
        pii_scrub(pii[i], once.p, once.n, &twice, NULL);
        for (int k = 0; k < PII_KINDS; k++) found += counts.n[k];
        CHECK(found <= n / 4 + 1 && once.n <= n + 48 * found);
        CHECK(!utf8_valid(text, n) || utf8_valid(once.p, once.n));
        CHECK(once.n == twice.n && (!once.n || !memcmp(once.p, twice.p, once.n)), "%.200s", once.p);
        str_free(&once), str_free(&twice);
    }
    free(text);
    return 0;
}
