/* pii_impl.h - floor 2: what pii.c (looking), pii_ids.c (numbers with rules) and pii_fake.c (surrogates)
 * share. */
#ifndef GPT_PII_IMPL_H
#define GPT_PII_IMPL_H

#include "pii.h"

/* What a matcher says: nothing here; found; one of our own surrogates, to be left alone as a whole. */
typedef enum Match { NO, REAL, OURS } Match;

typedef struct Scan {
    const char *s;
    size_t n, lo; /* nothing before lo may be a part of a match */
    const uint64_t *by_run;
} Scan;

enum { LONGEST_ID = 40 };

typedef struct Found {
    PiiKind kind;
    size_t at, n;
} Found;

/* What the word before position i says of a number there: "Tel.: ", "order no. ", ... */
typedef enum Context {
    ANYTHING,
    SAYS_PHONE,
    SAYS_SSN,
    SAYS_BSN,
    SAYS_PESEL,
    SAYS_SIN,
    SAYS_IP,
    SAYS_OTHER, /* a number of another kind */
} Context;
Context pii_context(const Scan *s, size_t i);

static inline bool pii_digit(char c) {
    return c >= '0' && c <= '9';
}
static inline bool pii_upper(char c) {
    return c >= 'A' && c <= 'Z';
}
static inline bool pii_alpha(char c) {
    return pii_upper(c) || (c >= 'a' && c <= 'z');
}
static inline bool pii_alnum(char c) {
    return pii_alpha(c) || pii_digit(c);
}

/* May something start at i, end before i? */
bool pii_starts(const Scan *s, size_t i);
bool pii_ends(const Scan *s, size_t i);

/* Matchers; s->s[i] is the first of `run` digits. */
Match pii_match_shape(const Scan *s, size_t i, size_t run, Found *f);
Match pii_match_iban(const Scan *s, size_t i, size_t run, Found *f);

/* Which shapes may begin with a run of k digits, k < LONGEST_RUN: a bit for each. */
enum { LONGEST_RUN = 20 };
void pii_shapes_by_run(uint64_t by_run[LONGEST_RUN]);

/* (of an IBAN, letters and digits only) the number that its letters and digits make, mod 97 */
int pii_mod97(const char *iban, size_t n);

/* The check characters of several kinds, from the characters before them. */
int pii_luhn(const char *digits, int n);  /* the digit that follows */
int pii_steuer_check(const char *digits); /* of 10 digits */
char pii_cf_check(const char *c);         /* of 15 characters */
int pii_nir_key(const char *c);           /* of 13 characters */
void pii_cpf_check(const char *c, char check[2]);
int pii_pesel_check(const char *c);

/* The stand-in for text[n] of this kind. */
void pii_fake(const uint64_t key[2], PiiKind kind, const char *text, size_t n, Str *out);
uint64_t pii_siphash(const uint64_t key[2], const char *s, size_t n);
extern const char *const pii_surnames[];
enum { PII_SURNAMES = 32 };
#endif
