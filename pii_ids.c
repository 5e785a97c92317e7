/* pii_ids.c - floor 2, part of pii.c: numbers that are written in known shapes and keep known rules. */
#include "pii_impl.h"

#include <string.h>

/* ---- check digits -------------------------------------------------------------------------------------- */

static int value(char c) {
    return c - '0';
}

static int number(const char *c, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) v = 10 * v + value(c[i]);
    return v;
}

/* ISO/IEC 7812-1: every second digit, from the right, counts twice, its digits added. */
int pii_luhn(const char *digits, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int v = value(digits[i]) << ((n - i) & 1);
        sum += v > 9 ? v - 9 : v;
    }
    return (10 - sum % 10) % 10;
}

static bool luhn_holds(const char *c, int n) {
    return pii_luhn(c, n - 1) == value(c[n - 1]);
}

/* ISO 7064, mod 11,10. */
int pii_steuer_check(const char *digits) {
    int product = 10;
    for (int i = 0; i < 10; i++) {
        int sum = (value(digits[i]) + product) % 10;
        product = (sum ? sum : 10) * 2 % 11;
    }
    return (11 - product) % 10;
}

/* ISO 13616: the first four characters move to the end, letters count 10 to 35. */
int pii_mod97(const char *iban, size_t n) {
    int rest = 0;
    for (size_t i = 0; i < n; i++) {
        char c = iban[(i + 4) % n];
        rest = pii_digit(c) ? rest * 10 + value(c) : rest * 100 + (c - 'A' + 10);
        rest %= 97;
    }
    return rest;
}

/* 97 - (the 13 digits mod 97); Corsica's 2A and 2B count as 19 and 18. */
int pii_nir_key(const char *c) {
    char d[13];
    int rest = 0;
    memcpy(d, c, sizeof d);
    if (!pii_digit(c[6])) d[5] = '1', d[6] = c[6] == 'A' ? '9' : '8';
    for (int i = 0; i < 13; i++) rest = (10 * rest + value(d[i])) % 97;
    return 97 - rest;
}

/* Decree of 23 December 1976: characters in odd places have values of their own. */
char pii_cf_check(const char *c) {
    static const uint8_t odd[26] = {1,  0,  5, 7, 9, 13, 15, 17, 19, 21, 2,  4,  18,
                                    20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23};
    int sum = 0;
    for (int i = 0; i < 15; i++) {
        int v = pii_digit(c[i]) ? value(c[i]) : c[i] - 'A';
        sum += i % 2 ? v : odd[v];
    }
    return (char)('A' + sum % 26);
}

void pii_cpf_check(const char *c, char check[2]) {
    int a = 0, b = 0;
    for (int i = 0; i < 9; i++) a += (10 - i) * value(c[i]), b += (11 - i) * value(c[i]);
    a = a * 10 % 11 % 10;
    b = (b + 2 * a) * 10 % 11 % 10;
    check[0] = (char)('0' + a), check[1] = (char)('0' + b);
}

int pii_pesel_check(const char *c) {
    static const int weight[10] = {1, 3, 7, 9, 1, 3, 7, 9, 1, 3};
    int sum = 0;
    for (int i = 0; i < 10; i++) sum += weight[i] * value(c[i]);
    return (10 - sum % 10) % 10;
}

/* ---- rules -----------------------------------------------------------------------------------------------
 * Each takes the letters and digits of a number whose shape is right. Where it says OURS, see pii_fake.c. */

/* A check digit as it should be, or five off, as our surrogates have it. */
static Match check_digit(int found, int right) {
    return found == right ? REAL : found == (right + 5) % 10 ? OURS : NO;
}

static Match is_ssn(const char *c) {
    int area = number(c, 3), group = number(c + 3, 2), serial = number(c + 5, 4);
    if (area == 0 || area == 666 || group == 0 || serial == 0) return NO;
    if (area >= 900) return group < 10 ? OURS : NO; /* others of these are ITINs' */
    return REAL;
}

static Match is_nino(const char *c) {
    static const char *const never[] = {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"};
    if (c[8] < 'A' || c[8] > 'D') return NO;
    if (c[0] == 'Q' && c[1] == 'Q') return OURS;
    if (strchr("DFIQUV", c[0]) || strchr("DFIOQUV", c[1])) return NO;
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (!memcmp(c, never[i], 2)) return NO;
    return REAL;
}

/* Sex, year, month (past 12 where it is not known), department, commune, order, key. */
static Match is_nir(const char *c) {
    int month = number(c + 3, 2);
    if (!pii_digit(c[6]) && (c[5] != '2' || c[6] > 'B')) return NO;
    if (number(c + 13, 2) != pii_nir_key(c)) return NO;
    if (c[0] == '9') return OURS;
    return strchr("123478", c[0]) && month >= 1 && (month <= 12 || month >= 20) ? REAL : NO;
}

/* Of the first ten digits one is there two or three times, the others at most once. */
static Match is_steuer(const char *c) {
    int count[10] = {0}, repeated = 0;
    for (int i = 0; i < 10; i++) count[value(c[i])]++;
    for (int i = 0; i < 10; i++) {
        if (count[i] > 3) return NO;
        repeated += count[i] > 1;
    }
    if (repeated != 1 || value(c[10]) != pii_steuer_check(c)) return NO;
    return c[0] == '0' ? OURS : REAL; /* a leading zero marks test data */
}

static Match dni_letter(int v, char letter) {
    if (strchr("IOU", letter)) return OURS; /* no number has these */
    return letter == "TRWAGMYFPDXBNJZSQVHLCKE"[v % 23] ? REAL : NO;
}

static Match is_dni(const char *c) {
    return dni_letter(number(c, 8), c[8]);
}

static Match is_nie(const char *c) {
    if (c[0] < 'X' || c[0] > 'Z') return NO;
    return dni_letter((c[0] - 'X') * 10000000 + number(c + 1, 7), c[8]);
}

static Match is_bsn(const char *c) {
    int sum = -value(c[8]);
    for (int i = 0; i < 8; i++) sum += (9 - i) * value(c[i]);
    sum = (sum % 11 + 11) % 11;
    return sum == 0 ? REAL : sum == 5 ? OURS : NO;
}

/* Who shares all with another gets letters for digits. A month has a letter; ours is one that no month
 * has. */
static Match is_cf(const char *c) {
    bool plain = pii_digit(c[9]) && pii_digit(c[10]);
    int day = plain ? number(c + 9, 2) % 40 : 1;
    if (pii_cf_check(c) != c[15] || day < 1 || day > 31) return NO;
    for (int i = 6; i < 15; i++)
        if (i != 8 && i != 11 && !pii_digit(c[i]) && !strchr("LMNPQRSTUV", c[i])) return NO;
    if (strchr("FGIJ", c[8])) return OURS;
    return strchr("ABCDEHLMPRST", c[8]) ? REAL : NO;
}

static Match is_cpf(const char *c) {
    char check[2];
    pii_cpf_check(c, check);
    if (strspn(c, (char[2]){c[0], 0}) == 11 || c[9] != check[0]) return NO;
    return check_digit(value(c[10]), value(check[1]));
}

static Match is_pesel(const char *c) {
    return check_digit(value(c[10]), pii_pesel_check(c));
}

static bool is_date(const char *c) { /* month and day; 60 is added to the day of a person without a number */
    int month = number(c, 2), day = number(c + 2, 2) % 60;
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

static Match is_personnummer(const char *c) {
    c += strlen(c) == 12 ? 2 : 0;
    return is_date(c + 2) ? check_digit(value(c[9]), pii_luhn(c, 9)) : NO;
}

static Match is_sin(const char *c) {
    return c[0] == '0' || c[0] == '8' ? NO : check_digit(value(c[8]), pii_luhn(c, 8));
}

/* Issuers' ranges: Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Maestro. */
static Match is_card(const char *c) {
    static const struct {
        uint16_t from, to; /* of the first four digits */
        uint8_t least, most;
    } issuers[] = {{4000, 4999, 13, 19}, {5100, 5599, 16, 16}, {2221, 2720, 16, 16}, {3400, 3499, 15, 15},
                   {3700, 3799, 15, 15}, {6011, 6011, 16, 19}, {6440, 6599, 16, 19}, {3000, 3059, 14, 19},
                   {3600, 3699, 14, 19}, {3800, 3999, 14, 19}, {3528, 3589, 16, 19}, {6200, 6299, 16, 19},
                   {5018, 5038, 13, 19}, {5893, 5893, 13, 19}, {6304, 6304, 13, 19}, {6759, 6763, 13, 19}};
    int n = (int)strlen(c), first = number(c, 4);
    if (!luhn_holds(c, n)) return NO;
    if (!memcmp(c, "000000", 6)) return OURS;
    for (size_t i = 0; i < sizeof issuers / sizeof *issuers; i++)
        if (first >= issuers[i].from && first <= issuers[i].to && n >= issuers[i].least &&
            n <= issuers[i].most)
            return n == 14 && c[0] != '3' ? NO : REAL;
    return NO;
}

/* Area and exchange from 200, no x11; 555-0100 to 555-0199 are for fiction. */
static Match is_nanp(const char *c) {
    size_t n = strlen(c);
    if (n == 11 && *c++ != '1') return NO;
    if (c[0] < '2' || c[3] < '2' || c[1] == '9' || (c[1] == '1' && c[2] == '1') ||
        (c[4] == '1' && c[5] == '1'))
        return NO;
    return !memcmp(c + 3, "55501", 5) ? OURS : REAL;
}

/* With the zero that is dialled first. */
static Match is_trunk(const char *c) {
    return c[0] == '0' && c[1] != '0' ? REAL : NO;
}

/* ---- shapes -----------------------------------------------------------------------------------------------
 * d a digit, A a capital, c either, ~ a space, hyphen or nothing, = a space, hyphen or full stop (in one
 * number all are the same), anything else itself. */

typedef struct Shape {
    PiiKind kind;
    const char *shape;
    Match (*rule)(const char *compact);
    Context
        needs; /* ANYTHING: but not SAYS_OTHER, unless there is a letter or a check digit that says enough */
} Shape;

static const Shape shapes[] = {
    {PII_US_SSN, "ddd-dd-dddd", is_ssn, ANYTHING},
    {PII_US_SSN, "ddd~dd~dddd", is_ssn, SAYS_SSN},
    {PII_UK_NINO, "AA~dd~dd~dd~A", is_nino, ANYTHING},
    {PII_UK_NINO, "AA~dddddd~A", is_nino, ANYTHING},
    {PII_FR_NIR, "d~dd~dd~dc~ddd~ddd~dd", is_nir, ANYTHING},
    {PII_FR_NIR, "ddddddcdddddd dd", is_nir, ANYTHING},
    {PII_ES_DNI, "dddddddd~A", is_dni, ANYTHING},
    {PII_ES_DNI, "dd.ddd.ddd~A", is_dni, ANYTHING},
    {PII_ES_DNI, "A~ddddddd~A", is_nie, ANYTHING},
    {PII_IT_CF, "AAAAAAdcAccAcccA", is_cf, ANYTHING},
    {PII_BR_CPF, "ddd.ddd.ddd-dd", is_cpf, ANYTHING},
    {PII_PL_PESEL, "ddddddddddd", is_pesel, SAYS_PESEL},
    {PII_NL_BSN, "ddd~ddd~ddd", is_bsn, SAYS_BSN},
    {PII_NL_BSN, "dddd.dd.ddd", is_bsn, SAYS_BSN},
    {PII_CA_SIN, "ddd~ddd~ddd", is_sin, SAYS_SIN},
    {PII_CARD, "dddd~dddd~dddd~dddd", is_card, ANYTHING},
    {PII_CARD, "dddd~dddddd~ddddd", is_card, ANYTHING},
    {PII_CARD, "dddd~dddddd~dddd", is_card, ANYTHING},
    {PII_CARD, "dddd~dddd~dddd~dddd~ddd", is_card, ANYTHING},
    {PII_SE_PN, "dddddd-dddd", is_personnummer, ANYTHING},
    {PII_SE_PN, "dddddddd-dddd", is_personnummer, ANYTHING},
    {PII_PHONE, "(ddd) ddd-dddd", is_nanp, ANYTHING},
    {PII_PHONE, "(ddd)ddd-dddd", is_nanp, ANYTHING},
    {PII_PHONE, "(ddd) ddd dddd", is_nanp, ANYTHING},
    {PII_PHONE, "(ddd) ddd.dddd", is_nanp, ANYTHING},
    {PII_PHONE, "d (ddd) ddd-dddd", is_nanp, ANYTHING},
    {PII_PHONE, "d=ddd=ddd=dddd", is_nanp, ANYTHING},
    {PII_PHONE, "ddd=ddd=dddd", is_nanp, ANYTHING},
    {PII_PHONE, "ddd ddd-dddd", is_nanp, ANYTHING},
    {PII_PHONE, "ddd/ddd-dddd", is_nanp, ANYTHING},
    {PII_PHONE, "dd=dd=dd=dd=dd", is_trunk, ANYTHING},
    {PII_PHONE, "ddd=dddd=dddd", is_trunk, ANYTHING},
    {PII_PHONE, "dddd=ddd=dddd", is_trunk, ANYTHING},
    {PII_PHONE, "dddd=ddd=ddd", is_trunk, ANYTHING},
    {PII_PHONE, "ddddd=ddd=ddd", is_trunk, ANYTHING},
    {PII_PHONE, "ddddd=dddddd", is_trunk, ANYTHING},
    {PII_PHONE, "(ddd) dddd dddd", is_trunk, ANYTHING},
    {PII_PHONE, "(dddd) ddd dddd", is_trunk, ANYTHING},
    {PII_PHONE, "(ddddd) dddddd", is_trunk, ANYTHING},
    {PII_PHONE, "dddd/ddddddd", is_trunk, ANYTHING},
    {PII_PHONE, "dddd/dddddd", is_trunk, ANYTHING},
    {PII_PHONE, "ddd/ddddddd", is_trunk, ANYTHING},
    {PII_PHONE, "dddd-ddddddd", is_trunk, ANYTHING},
    {PII_PHONE, "ddd-ddddddd", is_trunk, ANYTHING},
    {PII_DE_STEUER, "dd~ddd~ddd~ddd", is_steuer, ANYTHING},
};

static bool sep_fits(char kind, char c) {
    return c == ' ' || c == '-' || (kind == '=' && c == '.');
}

/* The length of the shape at `at`, 0 if it is not there; letters and digits go to `compact`, with a NUL. */
static size_t fits(const Scan *s, size_t at, const char *shape, char *compact) {
    size_t i = at;
    char sep = 0;
    bool chosen = false;
    for (const char *p = shape; *p; p++) {
        char c = i < s->n ? s->s[i] : 0;
        if (*p == '~' || *p == '=') {
            if (!chosen) sep = sep_fits(*p, c) ? c : 0;
            chosen = true;
            if ((!sep && *p == '=') || (sep && c != sep)) return 0;
            i += sep != 0;
            continue;
        }
        bool ok = *p == 'd'   ? pii_digit(c)
                  : *p == 'A' ? pii_upper(c)
                  : *p == 'c' ? pii_digit(c) || pii_upper(c)
                              : c == *p;
        if (!ok) return 0;
        if (pii_alnum(c)) *compact++ = c;
        i++;
    }
    *compact = 0;
    return i - at;
}

/* What stands before the first digit of a shape: 0 to 6 characters, and one more if a separator follows a
 * letter. */
static size_t before_digit(const char *shape, bool *maybe_one_more) {
    size_t n = 0;
    *maybe_one_more = false;
    for (; *shape != 'd'; shape++)
        if (*shape == '~')
            *maybe_one_more = true;
        else
            n++;
    return n;
}

static bool context_fits(const Shape *sh, Context c) {
    if (sh->needs != ANYTHING) return c == sh->needs;
    return c != SAYS_OTHER || (sh->kind != PII_PHONE && sh->kind != PII_CARD);
}

static Match try_shape(const Scan *s, size_t at, const Shape *sh, Found *f) {
    char compact[LONGEST_ID];
    size_t n = fits(s, at, sh->shape, compact);
    if (!n || !pii_starts(s, at) || !pii_ends(s, at + n)) return NO;
    Match m = sh->rule(compact);
    if (m == NO || !context_fits(sh, pii_context(s, at))) return NO;
    *f = (Found){sh->kind, at, n};
    return m;
}

Match pii_match_shape(const Scan *s, size_t i, size_t run, Found *f) {
    for (uint64_t left = run < LONGEST_RUN ? s->by_run[run] : 0; left; left &= left - 1) {
        const Shape *sh = &shapes[__builtin_ctzll(left)];
        bool more;
        size_t back = before_digit(sh->shape, &more);
        for (size_t extra = 0; extra <= (size_t)more && i >= s->lo + back + extra; extra++) {
            Match m = try_shape(s, i - back - extra, sh, f);
            if (m != NO) return m;
        }
    }
    return NO;
}

/* The lengths that a shape's first run of digits can have, with separators or without. */
static void add_runs(const char *p, bool separators, uint64_t bit, uint64_t by_run[LONGEST_RUN]) {
    int n = 0;
    for (; *p == 'd' || *p == 'c' || (*p == '~' && !separators); p++) {
        if (*p == 'c') by_run[n] |= bit; /* a letter ends it, a digit does not */
        n += *p != '~';
    }
    CHECK(n < LONGEST_RUN);
    by_run[n] |= bit;
}

void pii_shapes_by_run(uint64_t by_run[LONGEST_RUN]) {
    _Static_assert(sizeof shapes / sizeof *shapes <= 64, "a bit for every shape");
    memset(by_run, 0, LONGEST_RUN * sizeof *by_run);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int separators = 0; separators < 2; separators++)
            add_runs(strchr(shapes[i].shape, 'd'), separators, (uint64_t)1 << i, by_run);
}

/* ---- IBAN ---------------------------------------------------------------------------------------------- */

/* Lengths by country, from the registry of SWIFT. */
static int iban_length(const char *country) {
    static const char table[] = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28EE20"
                                "EG29ES24FI18FO18FR27GB22GE22"
                                "GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20"
                                "LV21LY25MC27MD24ME22MK19MR27"
                                "MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24SI19SK24SM27ST25SV28"
                                "TL23TN24TR26UA29VA22VG24XK20";
    for (const char *p = table; *p; p += 4)
        if (p[0] == country[0] && p[1] == country[1]) return number(p + 2, 2);
    return 0;
}

/* Letters and digits from `at`, in groups of four or in one; where a number of `n` characters ends, or 0. */
static size_t iban_end(const Scan *s, size_t at, int n, char *compact) {
    size_t i = at;
    bool spaced = at + 4 < s->n && s->s[at + 4] == ' ';
    for (int k = 0; k < n; k++, i++) {
        if (spaced && k && k % 4 == 0 && (i >= s->n || s->s[i++] != ' ')) return 0;
        if (i >= s->n || !(pii_digit(s->s[i]) || pii_upper(s->s[i]))) return 0;
        compact[k] = s->s[i];
    }
    return i;
}

Match pii_match_iban(const Scan *s, size_t i, size_t run, Found *f) {
    char compact[LONGEST_ID];
    if (run < 2 || i < s->lo + 2 || !pii_upper(s->s[i - 2]) || !pii_upper(s->s[i - 1])) return NO;
    size_t at = i - 2, end = 0;
    bool ours = !memcmp(s->s + at, "ZZ", 2); /* a code that ISO 3166 gives to no country; then any length */
    int length = iban_length(s->s + at);
    if (ours)
        for (int n = 32; n >= 15 && !end; n--) {
            end = iban_end(s, at, length = n, compact);
            if (end && (!pii_ends(s, end) || pii_mod97(compact, (size_t)n) != 1)) end = 0;
        }
    else if (length)
        end = iban_end(s, at, length, compact);
    if (!end || !pii_starts(s, at) || !pii_ends(s, end) || pii_mod97(compact, (size_t)length) != 1) return NO;
    *f = (Found){PII_IBAN, at, end - at};
    return ours ? OURS : REAL;
}
