/* pii.h - floor 2: finding what identifies a person in a text, and putting something else in its place.
 *
 * One pass over the text: a vectorised search for the characters that such things cannot do without ('@' and
 * digits), then matchers of bounded length around each. What has a check digit must pass it; what has none
 * must be written as people write it, or stand after a word that says what it is ("Tel.", "SSN"). */
#ifndef GPT_PII_H
#define GPT_PII_H

#include "util.h"

typedef enum PiiKind {
    PII_EMAIL,
    PII_PHONE, /* international with +, North American, those with a trunk 0, any after "tel" and the like */
    PII_IPV4,  /* public addresses only */
    PII_IPV6,  /* 2000::/3 without what is set aside for documentation */
    PII_CARD,  /* issuers' prefixes and lengths, Luhn */
    PII_IBAN,  /* length by country, mod 97 */
    PII_US_SSN,
    PII_UK_NINO,
    PII_FR_NIR,    /* "numero INSEE", with its key */
    PII_DE_STEUER, /* Steuer-ID: ISO 7064 mod 11,10 */
    PII_ES_DNI,    /* and NIE: the letter */
    PII_NL_BSN,    /* the 11-test, after a word that says so */
    PII_IT_CF,     /* codice fiscale: the control letter */
    PII_BR_CPF,    /* written as 123.456.789-09, both check digits */
    PII_PL_PESEL,  /* check digit, after a word that says so */
    PII_SE_PN,     /* personnummer: a date, Luhn */
    PII_CA_SIN,    /* Luhn, after a word that says so */
    PII_ADDRESS,   /* a house number and a street: a pattern without a check, so an option */
    PII_NAME,      /* a name after a title: the same */
    PII_KINDS
} PiiKind;

enum { PII_DEFAULT = (1 << PII_ADDRESS) - 1, PII_ALL = (1 << PII_KINDS) - 1 };

const char *pii_name(PiiKind k); /* "email" */
const char *pii_mark(PiiKind k); /* "<EMAIL>" */

typedef struct PiiOptions {
    unsigned kinds; /* bits 1 << PiiKind; 0: PII_DEFAULT */
    /* NULL: placeholders. Otherwise surrogates, a keyed hash of what they stand for: the same address always
     * becomes the same other one, in ranges that are set aside for examples or that no issuer uses
     * (example.com, 555-0100, 192.0.2.0/24, IBANs of no country, ...). */
    const char *secret;
} PiiOptions;

typedef struct PiiCounts {
    uint64_t n[PII_KINDS];
} PiiCounts;

typedef struct Pii Pii;

/* NULL for a secret of less than 16 bytes. */
Pii *pii_open(const PiiOptions *o, Err *e);
void pii_close(Pii *p);
uint64_t pii_fingerprint(const Pii *p); /* tells secrets apart without telling them; 0 without one */

/* Appends the scrubbed text to *out and adds to *counts (which may be NULL). Any thread. Any bytes; UTF-8
 * stays UTF-8. Scrubbed text has nothing left to scrub: doing it again changes nothing. */
void pii_scrub(const Pii *p, const char *text, size_t n, Str *out, PiiCounts *counts);
#endif
