/* fuzz_normalise.c - any bytes become clean UTF-8 in NFC, and doing it again changes nothing but what was mojibake. */
#include "normalise.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const Normalise how = {false, true, true};
    const Normalise all = {true, true, true};
    Str once = {0}, twice = {0}, spare = {0};
    NormaliseCounts counts = {0};
    normalise(&all, (const char *)data, n, &once, &spare, &counts);
    CHECK(!once.n || (utf8_valid(once.p, once.n) && !memchr(once.p, 0, once.n)));
    normalise(&how, (const char *)data, n, &once, &spare, &counts);
    normalise(&how, once.p, once.n, &twice, &spare, &counts);
    CHECK(once.n == twice.n && !memcmp(once.p ? once.p : "", twice.p ? twice.p : "", once.n));
    str_free(&once), str_free(&twice), str_free(&spare);
    return 0;
}
