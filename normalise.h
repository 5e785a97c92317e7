/* normalise.h - floor 2: any bytes to clean UTF-8. */
#ifndef GPT_NORMALISE_H
#define GPT_NORMALISE_H

#include "util.h"

typedef struct Normalise {
    bool mojibake; /* undo UTF-8 that was once read as Windows-1252: "cafÃ©" to "café" */
    bool nfc;      /* Unicode's canonical composition, form C */
    bool spaces; /* no white space at the ends of lines, at most one empty line in a row, none at both ends */
} Normalise;

typedef struct NormaliseCounts {
    uint64_t repaired; /* bytes that were not UTF-8 */
    uint64_t first;    /* where the first one stood */
    uint64_t mojibake; /* characters put right */
    uint64_t controls; /* control characters and the like left out */
    uint64_t composed; /* texts that were not in NFC */
} NormaliseCounts;

/* Writes text[n] to `out` (emptied first), using `spare` on the way:
 *   - UTF-16 with a byte order mark is decoded.
 *   - Bytes that are not UTF-8: where the text holds no UTF-8 beyond ASCII either, it is read as Windows-1252, else each
 *     becomes U+FFFD.
 *   - Line breaks of every kind (CR, CR LF, U+0085, U+2028, U+2029, form feed) become "\n".
 *   - NUL and other control characters, U+FEFF, soft hyphens, zero-width spaces and directional marks are left out;
 *     no-break and other wide spaces become a space, tabs stay.
 * Counts add up. */
void normalise(const Normalise *how, const char *text, size_t n, Str *out, Str *spare,
               NormaliseCounts *counts);

/* The parts, for tests and others: each appends to `out`. */
void utf8_repair(const char *text, size_t n, Str *out, NormaliseCounts *counts);
void mojibake_undo(const char *text, size_t n, Str *out, NormaliseCounts *counts); /* text is UTF-8 */
bool nfc_is(const char *text, size_t n);
void nfc_compose(const char *text, size_t n, Str *out);
#endif
