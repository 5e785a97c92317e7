/* pii.c - floor 2: see pii.h. */
#include "pii.h"
#include "pii_impl.h"

#include <stdlib.h>
#include <string.h>

struct Pii {
    unsigned kinds;
    bool fake;
    uint64_t key[2], by_run[LONGEST_RUN];
};

static const struct {
    const char *name, *mark;
} kinds[] = {
    [PII_EMAIL] = {"email", "<EMAIL>"},    [PII_PHONE] = {"phone", "<PHONE>"},
    [PII_IPV4] = {"ipv4", "<IP>"},         [PII_IPV6] = {"ipv6", "<IP>"},
    [PII_CARD] = {"card", "<CARD>"},       [PII_IBAN] = {"iban", "<IBAN>"},
    [PII_US_SSN] = {"us_ssn", "<ID>"},     [PII_UK_NINO] = {"uk_nino", "<ID>"},
    [PII_FR_NIR] = {"fr_nir", "<ID>"},     [PII_DE_STEUER] = {"de_steuer", "<ID>"},
    [PII_ES_DNI] = {"es_dni", "<ID>"},     [PII_NL_BSN] = {"nl_bsn", "<ID>"},
    [PII_IT_CF] = {"it_cf", "<ID>"},       [PII_BR_CPF] = {"br_cpf", "<ID>"},
    [PII_PL_PESEL] = {"pl_pesel", "<ID>"}, [PII_SE_PN] = {"se_pn", "<ID>"},
    [PII_CA_SIN] = {"ca_sin", "<ID>"},     [PII_ADDRESS] = {"address", "<ADDRESS>"},
    [PII_NAME] = {"name", "<NAME>"},
};
_Static_assert(sizeof kinds / sizeof *kinds == PII_KINDS, "every kind has a name and a mark");

const char *pii_name(PiiKind k) {
    return kinds[k].name;
}

const char *pii_mark(PiiKind k) {
    return kinds[k].mark;
}

Pii *pii_open(const PiiOptions *o, Err *e) {
    Pii *p = xcalloc(1, sizeof *p);
    p->kinds = o->kinds ? o->kinds : PII_DEFAULT;
    p->fake = o->secret != NULL;
    pii_shapes_by_run(p->by_run);
    if (p->fake && strlen(o->secret) < 16) {
        err_set(
            e, "the secret must have at least 16 bytes, or surrogates could be undone by trying all secrets");
        free(p);
        return NULL;
    }
    for (uint64_t i = 0; i < 2 && p->fake; i++)
        p->key[i] = pii_siphash((const uint64_t[2]){0x67707420706969, i}, o->secret, strlen(o->secret));
    return p;
}

void pii_close(Pii *p) {
    free(p);
}

uint64_t pii_fingerprint(const Pii *p) {
    return p->fake ? pii_siphash(p->key, "fingerprint", 11) : 0;
}

/* ---- where things start and end ---------------------------------------------------------------------------
 * A mark of ours counts as a letter: beside it nothing starts or ends that did not before it was put
 * there. */

static bool mark_ends(const Scan *s, size_t i) { /* before i */
    if (!i || s->s[i - 1] != '>') return false;
    for (int k = 0; k < PII_KINDS; k++) {
        size_t n = strlen(kinds[k].mark);
        if (i >= n && !memcmp(s->s + i - n, kinds[k].mark, n)) return true;
    }
    return false;
}

static bool mark_starts(const Scan *s, size_t i) {
    if (i >= s->n || s->s[i] != '<') return false;
    for (int k = 0; k < PII_KINDS; k++) {
        size_t n = strlen(kinds[k].mark);
        if (s->n - i >= n && !memcmp(s->s + i, kinds[k].mark, n)) return true;
    }
    return false;
}

static size_t digits_before(const Scan *s, size_t i) {
    size_t n = 0;
    while (i > n && n < 8 && pii_digit(s->s[i - 1 - n])) n++;
    return n;
}

/* A number does not start within a word, a longer number, a path or a sum of money. */
bool pii_starts(const Scan *s, size_t i) {
    if (i == 0) return true;
    if (i == s->lo) return false; /* something was found right before */
    char c = s->s[i - 1];
    if (pii_alnum(c) || strchr("_@-/+#$%&~\\", c ? c : '_') || mark_ends(s, i)) return false;
    if (c == '=' && i > 1 && pii_alnum(s->s[i - 2])) return true;
    size_t before = strchr(".,:=", c) ? digits_before(s, i - 1) : 0;
    return before == 0 || (c == ',' && before > 3);
}

bool pii_ends(const Scan *s, size_t i) {
    if (i >= s->n) return true;
    char c = s->s[i], next = i + 1 < s->n ? s->s[i + 1] : 0;
    if (pii_alnum(c) || strchr("_@%", c ? c : '_') || mark_starts(s, i)) return false;
    if (c == '-' || c == '/' || c == '.') return !pii_alnum(next);
    return !(strchr(":+", c) && pii_digit(next));
}

/* ---- the word before ----------------------------------------------------------------------------------- */

static const struct {
    const char *word;
    Context says;
} hints[] = {
    {"tel", SAYS_PHONE},       {"telephone", SAYS_PHONE}, {"phone", SAYS_PHONE},
    {"call", SAYS_PHONE},      {"fax", SAYS_PHONE},       {"mobile", SAYS_PHONE},
    {"mob", SAYS_PHONE},       {"cell", SAYS_PHONE},      {"whatsapp", SAYS_PHONE},
    {"telefon", SAYS_PHONE},   {"telefono", SAYS_PHONE},  {"handy", SAYS_PHONE},
    {"sms", SAYS_PHONE},       {"dial", SAYS_PHONE},      {"ph", SAYS_PHONE},
    {"texting", SAYS_PHONE},   {"ssn", SAYS_SSN},         {"security", SAYS_SSN},
    {"bsn", SAYS_BSN},         {"sofinummer", SAYS_BSN},  {"burgerservicenummer", SAYS_BSN},
    {"pesel", SAYS_PESEL},     {"sin", SAYS_SIN},         {"insurance", SAYS_SIN},
    {"ip", SAYS_IP},           {"address", SAYS_IP},      {"host", SAYS_IP},
    {"server", SAYS_IP},       {"ping", SAYS_IP},         {"isbn", SAYS_OTHER},
    {"issn", SAYS_OTHER},      {"doi", SAYS_OTHER},       {"sku", SAYS_OTHER},
    {"order", SAYS_OTHER},     {"invoice", SAYS_OTHER},   {"ref", SAYS_OTHER},
    {"reference", SAYS_OTHER}, {"version", SAYS_OTHER},   {"ver", SAYS_OTHER},
    {"v", SAYS_OTHER},         {"build", SAYS_OTHER},     {"release", SAYS_OTHER},
    {"part", SAYS_OTHER},      {"model", SAYS_OTHER},     {"serial", SAYS_OTHER},
    {"id", SAYS_OTHER},        {"uid", SAYS_OTHER},       {"case", SAYS_OTHER},
    {"docket", SAYS_OTHER},    {"article", SAYS_OTHER},   {"section", SAYS_OTHER},
    {"chapter", SAYS_OTHER},   {"commit", SAYS_OTHER},    {"revision", SAYS_OTHER},
    {"upc", SAYS_OTHER},       {"ean", SAYS_OTHER},       {"gtin", SAYS_OTHER},
    {"tracking", SAYS_OTHER},  {"ticket", SAYS_OTHER},    {"pmid", SAYS_OTHER},
    {"patent", SAYS_OTHER},    {"batch", SAYS_OTHER},     {"lot", SAYS_OTHER},
    {"firmware", SAYS_OTHER},  {"driver", SAYS_OTHER},    {"imei", SAYS_OTHER},
    {"software", SAYS_OTHER},  {"timestamp", SAYS_OTHER}, {"item", SAYS_OTHER},
    {"table", SAYS_OTHER},
};

enum { LONGEST_HINT = 20 };

/* The word that ends before *i, in small letters; *i moves to its start. What stands between is a few of "
 * .:(#='". */
static bool word_before(const Scan *s, size_t *i, char word[LONGEST_HINT + 1]) {
    size_t at = *i, n = 0;
    for (int k = 0; k < 4 && at > s->lo && strchr(" .:(#='\"", s->s[at - 1] ? s->s[at - 1] : 'x'); k++) at--;
    while (at > s->lo && n <= LONGEST_HINT && pii_alpha(s->s[at - 1])) at--, n++;
    if (!n || n > LONGEST_HINT || (at > 0 && pii_digit(s->s[at - 1]))) return false;
    for (size_t k = 0; k < n; k++) word[k] = (char)(s->s[at + k] | 0x20);
    word[n] = 0;
    *i = at;
    return true;
}

Context pii_context(const Scan *s, size_t i) {
    static const char *const fillers[] = {"number", "no",  "nr", "num", "nummer", "at",   "is",     "me",
                                          "us",     "was", "on", "or",  "home",   "work", "office", "code"};
    char word[LONGEST_HINT + 1];
    for (int steps = 0; steps < 3 && word_before(s, &i, word); steps++) {
        for (size_t k = 0; k < sizeof hints / sizeof *hints; k++)
            if (!strcmp(word, hints[k].word)) return hints[k].says;
        bool filler = false;
        for (size_t k = 0; k < sizeof fillers / sizeof *fillers; k++) filler |= !strcmp(word, fillers[k]);
        if (!filler) break;
    }
    return ANYTHING;
}

/* ---- e-mail -------------------------------------------------------------------------------------------- */

static bool is_local(char c) {
    return pii_alnum(c) || (c && strchr("._%+-", c));
}

static bool is_host(char c) {
    return pii_alnum(c) || c == '-' || c == '.';
}

/* The last label: letters, and no ending of a file ("logo@2x.png"). */
static bool is_tld(const char *p, size_t n) {
    static const char *const files[] = {"png", "jpg", "jpeg", "gif",  "svg",  "webp",
                                        "css", "js",  "json", "html", "htm",  "py",
                                        "txt", "pdf", "xml",  "so",   "conf", "service"};
    for (size_t i = 0; i < n; i++)
        if (!pii_alpha(p[i])) return false;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strlen(files[i]) == n && !strncmp(files[i], p, n)) return false;
    return n >= 2 && n <= 24;
}

/* The length of the domain name at i: labels of 1 to 63 characters, the last one a top-level domain. */
static size_t domain_length(const Scan *s, size_t i) {
    size_t end = i, label = i, good = 0;
    while (end < s->n && end - i < 254 && is_host(s->s[end])) {
        if (s->s[end] == '.') {
            if (end == label || end - label > 63 || s->s[end - 1] == '-' || s->s[label] == '-') return good;
            label = end + 1;
        }
        end++;
        bool last = end == s->n || !is_host(s->s[end]) ||
                    (s->s[end] == '.' && (end + 1 == s->n || !pii_alnum(s->s[end + 1])));
        if (last && label > i && is_tld(s->s + label, end - label)) good = end - i;
        if (last && label < end) break;
    }
    return good;
}

static bool ends_in(const char *s, size_t n, const char *end) {
    size_t k = strlen(end);
    if (n < k || (n > k && s[n - k - 1] != '.')) return false;
    for (size_t i = 0; i < k; i++)
        if ((s[n - k + i] | 0x20) != end[i]) return false;
    return true;
}

/* RFC 2606 and 6761: names that are nobody's. */
static bool is_reserved(const char *domain, size_t n) {
    static const char *const names[] = {"example.com", "example.org", "example.net", "example",
                                        "test",        "invalid",     "localhost",   "local"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (ends_in(domain, n, names[i])) return true;
    return false;
}

static Match match_email(const Scan *s, size_t at, Found *f) {
    size_t start = at, n = domain_length(s, at + 1);
    if (!n) return NO;
    while (start > s->lo && at - start <= 64 && is_local(s->s[start - 1])) start--;
    while (start < at && (s->s[start] == '.' || s->s[start] == '-')) start++;
    if (start == at || at - start > 64 || s->s[at - 1] == '.' || (start == s->lo && start > 0)) return NO;
    if (start > 0 && (s->s[start - 1] == '@' || mark_ends(s, start))) return NO;
    size_t end = at + 1 + n;
    bool path =
        end < s->n && (s->s[end] == ':' || s->s[end] == '/') && end + 1 < s->n && pii_alnum(s->s[end + 1]);
    if (path && at - start == 3 && !memcmp(s->s + start, "git", 3)) return NO; /* git@host:path */
    if (mark_starts(s, end) || (end < s->n && s->s[end] == '@')) return NO;
    *f = (Found){PII_EMAIL, start, end - start};
    return is_reserved(s->s + at + 1, n) ? OURS : REAL;
}

/* ---- IP addresses -------------------------------------------------------------------------------------- */

/* Four numbers up to 255 without leading zeros. */
static size_t ipv4_parse(const Scan *s, size_t i, uint8_t octet[4]) {
    size_t at = i;
    for (int k = 0; k < 4; k++) {
        unsigned v = 0;
        size_t first = at;
        while (at < s->n && at - first < 4 && pii_digit(s->s[at])) v = 10 * v + (unsigned)(s->s[at++] - '0');
        if (at == first || v > 255 || (at - first > 1 && s->s[first] == '0')) return 0;
        octet[k] = (uint8_t)v;
        if (k < 3 && (at >= s->n || s->s[at++] != '.')) return 0;
    }
    return at - i;
}

/* RFC 6890: what is routed on the public internet. */
static bool is_public(const uint8_t o[4]) {
    uint32_t a = (uint32_t)o[0] << 24 | (uint32_t)o[1] << 16 | (uint32_t)o[2] << 8 | o[3];
    static const struct {
        uint32_t net;
        uint8_t bits;
    } not [] = {{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
                {0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
                {0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3}};
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
        if ((a ^ not [i].net) >> (32 - not [i].bits) == 0) return false;
    return true;
}

/* "1.2.3.4" is a version more often than an address, "version 8.12.41.7" always. */
static Match match_ipv4(const Scan *s, size_t i, size_t run, Found *f) {
    uint8_t o[4];
    if (run > 3 || i + run >= s->n || s->s[i + run] != '.') return NO;
    size_t n = ipv4_parse(s, i, o), end = i + n;
    if (!n || (i > 0 &&
               (pii_alnum(s->s[i - 1]) || strchr("._-", s->s[i - 1] ? s->s[i - 1] : '_') || mark_ends(s, i))))
        return NO;
    if (i == s->lo && i > 0) return NO;
    if (i > 1 && s->s[i - 1] == '/' && pii_alpha(s->s[i - 2])) return NO; /* Browser/1.2.3.4 */
    if (end < s->n &&
        (pii_alnum(s->s[end]) || strchr("_-@", s->s[end] ? s->s[end] : '_') || mark_starts(s, end)))
        return NO;
    if (end + 1 < s->n && s->s[end] == '.' && pii_alnum(s->s[end + 1])) return NO;
    *f = (Found){PII_IPV4, i, n};
    if (!is_public(o)) return OURS;
    Context c = pii_context(s, i);
    bool small = o[0] < 10 && o[1] < 10 && o[2] < 10 && o[3] < 10;
    return c == SAYS_OTHER || (small && c != SAYS_IP) ? NO : REAL;
}

static int hex_value(char c) {
    if (pii_digit(c)) return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Eight groups of hex digits, or fewer with one "::" (RFC 4291; without a dotted tail). */
static size_t ipv6_parse(const Scan *s, size_t i, uint16_t first[2]) {
    size_t at = i;
    int groups = 0;
    bool gap = false;
    while (groups < 8) {
        size_t start = at;
        unsigned v = 0;
        for (int h; at < s->n && at - start < 5 && (h = hex_value(s->s[at])) >= 0; at++)
            v = v << 4 | (unsigned)h;
        if (at - start > 4 || (at == start && !gap)) return 0;
        if (at == start) break; /* "::" at the end */
        if (groups < 2) first[groups] = gap ? 0 : (uint16_t)v;
        groups++;
        if (at >= s->n || s->s[at] != ':' || groups == 8) break;
        if (at + 1 < s->n && s->s[at + 1] == ':') {
            if (gap) return 0;
            gap = true, at += 2;
        } else if (at + 1 < s->n && hex_value(s->s[at + 1]) >= 0) {
            at++;
        } else {
            break;
        }
    }
    if (groups == 1) first[1] = 0;
    return groups == 8 ? (gap ? 0 : at - i) : gap ? at - i : 0;
}

static Match match_ipv6(const Scan *s, size_t i, size_t run, Found *f) {
    uint16_t g[2] = {0};
    if (run > 4 || (s->s[i] != '2' && s->s[i] != '3') || (i > 0 && i == s->lo)) return NO;
    size_t n = ipv6_parse(s, i, g), end = i + n;
    if (!n || (g[0] & 0xe000) != 0x2000) return NO;
    if (i > 0 &&
        (pii_alnum(s->s[i - 1]) || strchr(":._-", s->s[i - 1] ? s->s[i - 1] : '_') || mark_ends(s, i)))
        return NO;
    if (end < s->n &&
        (pii_alnum(s->s[end]) || strchr(":_@", s->s[end] ? s->s[end] : '_') || mark_starts(s, end)))
        return NO;
    *f = (Found){PII_IPV6, i, n};
    return g[0] == 0x2001 && g[1] == 0x0db8 ? OURS : REAL;
}

/* ---- telephone numbers --------------------------------------------------------------------------------- */

/* E.164: a country's code, and how many digits a national number has; codes of three digits by their first
 * two. */
static int country_code(const char *d, int *least, int *most) {
    static const struct {
        uint16_t code;
        uint8_t least, most;
    } known[] = {{1, 10, 10},  {7, 10, 10}, {20, 8, 10},  {27, 9, 9},   {30, 10, 10}, {31, 9, 9},
                 {32, 8, 9},   {33, 9, 9},  {34, 9, 9},   {36, 8, 9},   {39, 8, 11},  {40, 9, 9},
                 {41, 9, 9},   {43, 7, 12}, {44, 9, 10},  {45, 8, 8},   {46, 7, 10},  {47, 8, 8},
                 {48, 9, 9},   {49, 7, 11}, {51, 8, 9},   {52, 10, 11}, {53, 8, 8},   {54, 10, 11},
                 {55, 10, 11}, {56, 9, 9},  {57, 8, 10},  {58, 10, 10}, {60, 8, 10},  {61, 9, 9},
                 {62, 8, 12},  {63, 8, 10}, {64, 8, 10},  {65, 8, 8},   {66, 8, 9},   {81, 9, 10},
                 {82, 8, 10},  {84, 9, 10}, {86, 10, 11}, {90, 10, 10}, {91, 10, 10}, {92, 9, 10},
                 {93, 9, 9},   {94, 9, 9},  {95, 8, 10},  {98, 10, 10}};
    static const char three[] = "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99 ";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        unsigned two = (unsigned)(d[0] - '0') * 10 + (unsigned)(d[1] - '0');
        if (known[i].code != (known[i].code < 10 ? (unsigned)(d[0] - '0') : two)) continue;
        *least = known[i].least, *most = known[i].most;
        return known[i].code < 10 ? 1 : 2;
    }
    *least = 7, *most = 10;
    for (const char *p = three; *p; p += 3)
        if (p[0] == d[0] && p[1] == d[1]) return 3;
    return 0;
}

/* Digits from i on, single characters of " -./" and brackets between; where they stop. Not more than `most`
 * digits. */
static size_t gather(const Scan *s, size_t i, int most, char *digits, int *n, int *groups) {
    size_t end = i;
    *n = 0, *groups = 0;
    while (i < s->n) {
        size_t run = i;
        while (run < s->n && pii_digit(s->s[run]) && run - i < 20) run++;
        if (run == i || (int)(run - i) > most - *n) break;
        memcpy(digits + *n, s->s + i, run - i);
        *n += (int)(run - i), ++*groups;
        end = i = run;
        if (i < s->n && s->s[i] == ')') i++;
        if (i < s->n && strchr(" -./", s->s[i] ? s->s[i] : 'x')) i++;
        if (i + 2 < s->n && !memcmp(s->s + i, "(0)", 3)) i += 3, i += i < s->n && s->s[i] == ' ';
        if (i < s->n && s->s[i] == '(') i++;
    }
    return end;
}

/* +44 20 7946 0018, +49 (0)30 901820, 0033-1-... with what can be dialled. */
static Match match_international(const Scan *s, size_t i, size_t run, Found *f) {
    char d[16];
    int n, groups, least, most;
    bool plus = i > s->lo && s->s[i - 1] == '+';
    size_t at = i - plus, from = plus ? i : i + 2;
    if (!plus && (run < 3 || memcmp(s->s + i, "00", 2) || s->s[i + 2] == '0')) return NO;
    if (at > 0 && (pii_alnum(s->s[at - 1]) || s->s[at - 1] == '+' || s->s[at - 1] == '_' ||
                   mark_ends(s, at) || at == s->lo))
        return NO;
    if (!plus && !pii_starts(s, at)) return NO;
    if (gather(s, from, 15, d, &n, &groups), n < 4) return NO;
    int code = country_code(d, &least, &most);
    if (!code) return NO;
    size_t end = gather(s, from, code + most, d, &n, &groups);
    if (n < code + least || d[code] == '0' || !pii_ends(s, end) || (!plus && groups < 2)) return NO;
    *f = (Found){PII_PHONE, at, end - at};
    if (code != 1) return REAL;
    if (d[1] < '2' || d[4] < '2') return NO;
    return !memcmp(d + 4, "55501", 5) ? OURS : REAL;
}

/* 7 to 15 digits after a word that says that a number follows. */
static Match match_after_word(const Scan *s, size_t i, size_t run, Found *f) {
    char d[16];
    int n, groups;
    size_t at = i - (i > s->lo && s->s[i - 1] == '(');
    if (run > 15 || !pii_starts(s, at)) return NO;
    size_t end = gather(s, i, 15, d, &n, &groups);
    if (n < 7 || !pii_ends(s, end) || pii_context(s, at) != SAYS_PHONE) return NO;
    *f = (Found){PII_PHONE, at, end - at};
    return n == 7 && !memcmp(d, "55501", 5) ? OURS : REAL;
}

/* ---- streets and names --------------------------------------------------------------------------------- */

static bool one_of(const char *p, size_t n, const char *words) {
    for (const char *w = words; *w;) {
        size_t k = strcspn(w, " ");
        if (k == n && !memcmp(w, p, n)) return true;
        w += k + (w[k] == ' ');
    }
    return false;
}

/* The length of the word at i: ASCII letters, and bytes of others; 0 if it is too long for a name. */
static size_t word_length(const Scan *s, size_t i) {
    enum { MOST = 40 };
    size_t n = 0;
    for (; i + n < s->n && n <= MOST; n++) {
        char c = s->s[i + n];
        if (!pii_alpha(c) && (unsigned char)c < 0x80 && (c != '\'' || n == 0)) break;
    }
    return n <= MOST ? n : 0;
}

/* "221b Baker Street", "1600 Pennsylvania Ave." */
static Match match_address(const Scan *s, size_t i, size_t run, Found *f) {
    static const char types[] = "Street St Avenue Ave Road Rd Lane Ln Drive Dr Boulevard Blvd Court Ct Place "
                                "Pl Square Sq Terrace Highway Hwy Parkway Pkwy Close Crescent";
    size_t at = i + run;
    if (run > 5 || !pii_starts(s, i)) return NO;
    at += at < s->n && s->s[at] >= 'a' && s->s[at] <= 'd';
    for (int words = 0; words < 4 && at + 1 < s->n && s->s[at] == ' ' && pii_upper(s->s[at + 1]); words++) {
        size_t n = word_length(s, at + 1), end = at + 1 + n;
        if (words && one_of(s->s + at + 1, n, types)) {
            if (end < s->n && (pii_alnum(s->s[end]) || mark_starts(s, end))) return NO;
            *f = (Found){PII_ADDRESS, i, end - i};
            return n == 6 && at - i > 7 && !memcmp(s->s + at - 7, "Example", 7) ? OURS : REAL;
        }
        at = end;
    }
    return NO;
}

/* One or two names, capital letter first, after "Mr. " and the like; i is where the title starts. */
static Match match_name(const Scan *s, size_t i, Found *f) {
    static const char titles[] = "Mr Mrs Ms Miss Dr Prof Professor Sir Madam Herr Frau Monsieur Madame Mme "
                                 "Signor Signora Senor Senora";
    size_t n = word_length(s, i), at = i + n, end = 0;
    if (!one_of(s->s + i, n, titles) ||
        (i > 0 && (pii_alnum(s->s[i - 1]) || (unsigned char)s->s[i - 1] >= 0x80)))
        return NO;
    at += at < s->n && s->s[at] == '.';
    size_t first = at + 1;
    for (int words = 0; words < 2 && at + 1 < s->n && s->s[at] == ' ' && pii_upper(s->s[at + 1]); words++) {
        size_t k = word_length(s, at + 1);
        if (k < 2 || one_of(s->s + at + 1, k, titles)) break;
        at = end = at + 1 + k;
    }
    if (!end || first < s->lo || mark_starts(s, end) ||
        (end < s->n && (pii_digit(s->s[end]) || s->s[end] == '_' || s->s[end] == '@')))
        return NO;
    *f = (Found){PII_NAME, first, end - first};
    for (int k = 0; k < PII_SURNAMES; k++)
        if (word_length(s, first) == strlen(pii_surnames[k]) &&
            !memcmp(s->s + first, pii_surnames[k], strlen(pii_surnames[k]))) {
            f->n = strlen(pii_surnames[k]);
            return OURS;
        }
    return REAL;
}

/* ---- the scan ------------------------------------------------------------------------------------------ */

enum { PASSED = 64 };

/* '@' and digits, or also capitals. */
static inline bool is_candidate(uint8_t c, bool capitals) {
    return (uint8_t)(c - '0') < 10 || c == '@' || (capitals && (uint8_t)(c - 'A') < 26);
}

/* The first candidate at or after i; 64 bytes without one are passed over as vectors. */
static size_t next_candidate(const char *s, size_t i, size_t n, bool capitals) {
    while (n - i >= PASSED) {
        uint8_t any = 0;
        for (size_t k = 0; k < PASSED; k++) {
            uint8_t c = (uint8_t)s[i + k];
            any |= (uint8_t)((uint8_t)(c - '0') < 10) | (uint8_t)(c == '@') |
                   (uint8_t)(capitals & ((uint8_t)(c - 'A') < 26));
        }
        if (any) break;
        i += PASSED;
    }
    while (i < n && !is_candidate((uint8_t)s[i], capitals)) i++;
    return i;
}

/* Is the match the beginning of an e-mail address ("12345678@host.org")? Then that is what it is. */
static bool in_email(const Scan *s, const Found *f) {
    Found mail;
    size_t at = f->at + f->n;
    for (int k = 0; k < 64 && at < s->n && is_local(s->s[at]); k++) at++;
    return at < s->n && s->s[at] == '@' && match_email(s, at, &mail) != NO && mail.at < f->at + f->n;
}

/* Whatever starts with the run of digits at i, the most certain first. */
static Match match_number(const Scan *s, size_t i, size_t run, unsigned wanted, Found *f) {
    static Match (*const matchers[])(const Scan *, size_t, size_t, Found *) = {
        pii_match_iban,  match_ipv6,       match_ipv4,   match_international,
        pii_match_shape, match_after_word, match_address};
    for (size_t k = 0; k < sizeof matchers / sizeof *matchers; k++) {
        Match m = matchers[k](s, i, run, f);
        if (m == OURS || (m == REAL && (wanted >> f->kind & 1))) return in_email(s, f) ? NO : m;
    }
    return NO;
}

/* The next real match, and past all that is not. */
static bool next_found(const Pii *p, Scan *s, size_t *i, Found *f) {
    const bool names = p->kinds >> PII_NAME & 1;
    while ((*i = next_candidate(s->s, *i, s->n, names)) < s->n) {
        size_t run = 0;
        while (*i + run < s->n && pii_digit(s->s[*i + run])) run++;
        Match m = run               ? match_number(s, *i, run, p->kinds, f)
                  : s->s[*i] == '@' ? match_email(s, *i, f)
                                    : match_name(s, *i, f);
        if (m == REAL && !(p->kinds >> f->kind & 1)) m = NO;
        *i = m == NO ? *i + run + !run : f->at + f->n;
        if (m != NO) s->lo = *i;
        if (m == REAL) return true;
    }
    return false;
}

/* One pass over a line: how much was found. */
static int scrub_once(const Pii *p, const char *line, size_t n, Str *out, PiiCounts *counts) {
    Scan s = {line, n, 0, p->by_run};
    Found f;
    size_t done = 0;
    int found = 0;
    out->n = 0;
    for (size_t i = 0; next_found(p, &s, &i, &f); found++) {
        str_put(out, line + done, f.at - done);
        done = f.at + f.n;
        if (p->fake)
            pii_fake(p->key, f.kind, line + f.at, f.n, out);
        else
            str_puts(out, kinds[f.kind].mark);
        if (counts) counts->n[f.kind]++;
    }
    str_put(out, line + done, n - done);
    return found;
}

/* What one pass takes out may have hidden something beside it ("Dr. Jane Roe6@host.org"), so a line in which
 * something was found is looked at again. Nothing that is looked for, nor what decides about it, reaches past
 * a line's end. */
void pii_scrub(const Pii *p, const char *text, size_t n, Str *out, PiiCounts *counts) {
    enum { MOST_PASSES = 8 };
    Scan s = {text, n, 0, p->by_run};
    Found f;
    Str line[2] = {{0}};
    size_t done = 0;
    for (size_t i = 0; next_found(p, &s, &i, &f); i = s.lo = done) {
        const char *before = memrchr(text + done, '\n', f.at - done), *after = memchr(text + i, '\n', n - i);
        size_t from = before ? (size_t)(before - text) : done;
        str_put(out, text + done, from - done);
        done = after ? (size_t)(after - text) : n;
        scrub_once(p, text + from, done - from, &line[0], counts);
        int now = 0;
        for (int pass = 1; pass < MOST_PASSES && scrub_once(p, line[now].p, line[now].n, &line[!now], counts);
             pass++)
            now ^= 1;
        str_put(out, line[now].p, line[now].n);
    }
    str_put(out, text + done, n - done);
    str_free(&line[0]), str_free(&line[1]);
}
