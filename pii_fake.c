/* pii_fake.c - floor 2, part of pii.c: surrogates, by a keyed hash of what they stand for.
 *
 * They look like the real thing and are none: names and numbers that are set aside for examples (RFC 2606,
 * RFC 5737, RFC 3849, 555-0100 to 0199), that no issuer uses (cards of 000000, SSNs of area 9xx and group 0x,
 * NINOs of QQ, NIRs of sex 9, Steuer-IDs of 0, IBANs of ZZ, codici fiscali of month F), or whose check is
 * wrong in one certain way. So the scanner knows them, and leaves them alone. */
#include "pii_impl.h"

#include <string.h>

/* ---- SipHash-2-4 (Aumasson and Bernstein 2012) --------------------------------------------------------- */

typedef struct Sip {
    uint64_t v[4];
} Sip;

static inline uint64_t rotate(uint64_t x, int b) {
    return x << b | x >> (64 - b);
}

static void sip_rounds(Sip *h, int n) {
    uint64_t *v = h->v;
    while (n-- > 0) {
        v[0] += v[1], v[1] = rotate(v[1], 13) ^ v[0], v[0] = rotate(v[0], 32);
        v[2] += v[3], v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3], v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1], v[1] = rotate(v[1], 17) ^ v[2], v[2] = rotate(v[2], 32);
    }
}

uint64_t pii_siphash(const uint64_t key[2], const char *s, size_t n) {
    Sip h = {{key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
              key[1] ^ 0x7465646279746573u}};
    for (size_t at = 0; at <= n; at += 8) {
        uint64_t word = at + 8 > n ? (uint64_t)n << 56 : 0;
        for (size_t i = 0; i < 8 && at + i < n; i++) word |= (uint64_t)(unsigned char)s[at + i] << (8 * i);
        h.v[3] ^= word;
        sip_rounds(&h, 2);
        h.v[0] ^= word;
    }
    h.v[2] ^= 0xff;
    sip_rounds(&h, 4);
    return h.v[0] ^ h.v[1] ^ h.v[2] ^ h.v[3];
}

/* ---- what surrogates are made of ----------------------------------------------------------------------- */

/* A stream of choices that the key and the original decide. */
typedef struct Dice {
    const uint64_t *key;
    uint64_t state, left;
} Dice;

static unsigned roll(Dice *d, unsigned sides) {
    if (d->left < ((uint64_t)1 << 16)) {
        d->state = pii_siphash(d->key, (const char *)&d->state, sizeof d->state);
        d->left = d->state;
    }
    unsigned r = (unsigned)(d->left % sides);
    d->left /= sides;
    return r;
}

const char *const pii_surnames[PII_SURNAMES] = {
    "Abernal",   "Brindova", "Caltessi",  "Dorvane",   "Elmquire", "Farnwick",  "Galdoni",  "Hestrup",
    "Iverlane",  "Jorvaske", "Kelmarin",  "Lundrey",   "Marvesk",  "Nordale",   "Ostervey", "Pellandro",
    "Quillmore", "Rosvaldi", "Sandrovic", "Tarnholt",  "Umberlin", "Valdasky",  "Wexholme", "Xantopel",
    "Yarvelle",  "Zelmanic", "Ashverly",  "Bellcrane", "Corvandt", "Drumhaven", "Evershaw", "Fenbrook"};

/* The original's letters and digits, each replaced by another of its sort; the rest stays. */
static void reshape(Dice *d, const char *text, size_t n, char *out) {
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        out[i] = pii_digit(c) ? (char)('0' + roll(d, 10)) : pii_upper(c) ? (char)('A' + roll(d, 26)) : c;
    }
}

/* Its letters and digits alone, and back into their places. */
static int squeeze(const char *shaped, size_t n, char *compact) {
    int k = 0;
    for (size_t i = 0; i < n; i++)
        if (pii_alnum(shaped[i])) compact[k++] = shaped[i];
    compact[k] = 0;
    return k;
}

static void spread(const char *compact, char *shaped, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (pii_alnum(shaped[i])) shaped[i] = *compact++;
}

static char digit(int v) {
    return (char)('0' + v % 10);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* A zero, the other digits in some order, and one of them in another's place. */
static void fake_steuer(Dice *d, char *c) {
    char pool[] = "123456789";
    c[0] = '0';
    for (int i = 1; i < 10; i++) {
        int k = (int)roll(d, (unsigned)(10 - i));
        c[i] = pool[k];
        pool[k] = pool[9 - i];
    }
    int from = (int)roll(d, 9), to = (from + 1 + (int)roll(d, 8)) % 9;
    c[1 + to] = c[1 + from];
    c[10] = digit(pii_steuer_check(c));
}

static void put_two(char *dst, int v) {
    dst[0] = digit(v / 10), dst[1] = digit(v % 10);
}

static void fake_nir(char *c) {
    c[0] = '9';
    if (!pii_digit(c[6])) c[5] = '2', c[6] = 'A';
    put_two(c + 13, pii_nir_key(c));
}

static void fake_iban(char *c, size_t n) {
    memcpy(c, "ZZ00", 4);
    put_two(c + 2, 98 - pii_mod97(c, n));
}

static void fake_cf(Dice *d, char *c) {
    for (int i = 6; i < 15; i++)
        if (i != 8 && i != 11) c[i] = digit((int)roll(d, 10));
    c[8] = "FGIJ"[roll(d, 4)];
    c[9] = digit((int)roll(d, 2)), c[10] = digit(1 + (int)roll(d, 9));
    c[15] = pii_cf_check(c);
}

/* The 11-test's sum is 5 too much: the last digit, which counts -1, makes up for it unless that takes a
 * 10. */
static void fake_bsn(Dice *d, char *c) {
    for (int sum = 10; sum == 10;) {
        for (int i = 0; i < 8; i++) c[i] = digit((int)roll(d, 10));
        sum = 0;
        for (int i = 0; i < 8; i++) sum += (9 - i) * (c[i] - '0');
        sum = (sum + 6) % 11;
        c[8] = digit(sum);
    }
}

static void fake_personnummer(Dice *d, char *c, int n) {
    c += n - 10;
    c[2] = '0', c[3] = digit(1 + (int)roll(d, 9)), c[4] = digit((int)roll(d, 2)),
    c[5] = digit(1 + (int)roll(d, 9));
    c[9] = digit(pii_luhn(c, 9) + 5);
}

/* c holds random characters of the right sorts. */
static void break_rule(Dice *d, PiiKind kind, char *c, int n) {
    char check[2];
    switch (kind) {
    case PII_CARD:
        memcpy(c, "000000", 6);
        c[n - 1] = digit(pii_luhn(c, n - 1));
        break;
    case PII_IBAN: fake_iban(c, (size_t)n); break;
    case PII_US_SSN:
        c[0] = '9', c[3] = '0', c[4] = digit(1 + (int)roll(d, 9));
        if (!memcmp(c + 5, "0000", 4)) c[8] = '1';
        break;
    case PII_UK_NINO: c[0] = c[1] = 'Q', c[8] = "ABCD"[roll(d, 4)]; break;
    case PII_FR_NIR: fake_nir(c); break;
    case PII_DE_STEUER: fake_steuer(d, c); break;
    case PII_ES_DNI:
        c[8] = "IOU"[roll(d, 3)];
        if (!pii_digit(c[0])) c[0] = "XYZ"[roll(d, 3)];
        break;
    case PII_NL_BSN: fake_bsn(d, c); break;
    case PII_IT_CF: fake_cf(d, c); break;
    case PII_BR_CPF:
        pii_cpf_check(c, check);
        c[9] = check[0], c[10] = digit(check[1] - '0' + 5);
        break;
    case PII_PL_PESEL: c[10] = digit(pii_pesel_check(c) + 5); break;
    case PII_SE_PN: fake_personnummer(d, c, n); break;
    case PII_CA_SIN:
        c[0] = digit(1 + (int)roll(d, 7));
        c[8] = digit(pii_luhn(c, 8) + 5);
        break;
    default: CHECK(false, "no number: %d", (int)kind);
    }
}

static void fake_number(Dice *d, PiiKind kind, const char *text, size_t n, Str *out) {
    char shaped[2 * LONGEST_ID], compact[2 * LONGEST_ID];
    CHECK(n < sizeof shaped);
    reshape(d, text, n, shaped);
    break_rule(d, kind, compact, squeeze(shaped, n, compact));
    spread(compact, shaped, n);
    str_put(out, shaped, n);
}

/* ---- everything ---------------------------------------------------------------------------------------- */

static void fake_email(Dice *d, Str *out) {
    static const char *const tld[] = {"com", "org", "net"};
    str_puts(out, "user-");
    for (int i = 0; i < 10; i++) str_put(out, &"abcdefghijklmnopqrstuvwxyz234567"[roll(d, 32)], 1);
    str_printf(out, "@example.%s", tld[roll(d, 3)]);
}

static void fake_phone(Dice *d, Str *out) {
    static const uint16_t areas[] = {202, 206, 212, 213, 214, 303, 305, 312, 404, 415,
                                     503, 512, 602, 615, 617, 702, 713, 716, 801, 919};
    unsigned area = areas[roll(d, sizeof areas / sizeof *areas)];
    str_printf(out, "+1-%u-555-01%02u", area, roll(d, 100));
}

/* What does not depend on how it is written: small letters, in numbers without what stands between the
 * digits. */
static uint64_t identity(const uint64_t key[2], PiiKind kind, const char *text, size_t n) {
    char plain[512];
    size_t k = 0;
    for (size_t i = 0; i < n && k < sizeof plain; i++)
        if (pii_alnum(text[i]) || kind == PII_EMAIL || kind >= PII_ADDRESS || text[i] == ':')
            plain[k++] = (char)(pii_upper(text[i]) ? text[i] + 32 : text[i]);
    const char *from = plain;
    if (kind == PII_PHONE && k == 11 && *from == '1')
        from++, k--; /* 1 is North America's code, written or not */
    return pii_siphash(key, from, k) + (uint64_t)kind;
}

void pii_fake(const uint64_t key[2], PiiKind kind, const char *text, size_t n, Str *out) {
    static const char *const nets[] = {"192.0.2", "198.51.100", "203.0.113"};
    Dice d = {.key = key, .state = identity(key, kind, text, n)};
    switch (kind) {
    case PII_EMAIL: fake_email(&d, out); break;
    case PII_PHONE: fake_phone(&d, out); break;
    case PII_IPV4:
        str_puts(out, nets[roll(&d, 3)]);
        str_printf(out, ".%u", 1 + roll(&d, 254));
        break;
    case PII_IPV6:
        str_puts(out, "2001:db8");
        for (int i = 0; i < 6; i++) str_printf(out, ":%x", 1 + roll(&d, 65535));
        break;
    case PII_ADDRESS: str_printf(out, "%u Example Street", 1 + roll(&d, 999)); break;
    case PII_NAME: str_puts(out, pii_surnames[roll(&d, PII_SURNAMES)]); break;
    default: fake_number(&d, kind, text, n, out);
    }
}
