#!/usr/bin/env python3
"""Writes test/golden/pii/{positives,negatives}.txt: invented personal data in sentences, and what only looks like it.

A line of positives.txt is KIND, a tab, and a text in which ⟦...⟧ marks what must be found. A line of negatives.txt is
what it is, a tab, and a text in which nothing must be found. Check digits are computed here by the published rules,
without a look at the program. Numbers are drawn at random from a fixed seed; none was taken from a person.
"""

import os
import random

R = random.Random(20261123)
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pii")


def digits(n, first="0123456789"):
    return R.choice(first) + "".join(R.choice("0123456789") for _ in range(n - 1))


def letters(n, of="ABCDEFGHJKLMNPRSTWXYZ"):
    return "".join(R.choice(of) for _ in range(n))


def luhn(s):
    total = 0
    for i, c in enumerate(reversed(s)):
        v = int(c) * (2 if i % 2 == 0 else 1)
        total += v // 10 + v % 10
    return s + str(-total % 10)


def group(s, *sizes, sep=" "):
    out, at = [], 0
    for n in sizes:
        out.append(s[at : at + n])
        at += n
    return sep.join(out)


WORDS = "alder birch cedar dahlia elder fern grove hazel iris juniper".split()


def email():
    user = R.choice(["{a}.{b}", "{a}{n}", "{a}_{b}", "{a}+{b}", "{n}{a}", "{a}-{b}{n}", "{A}.{B}", "{a}%{b}"])
    host = R.choice(
        ["{a}mail.com", "mail.{b}.co.uk", "{a}-{b}.de", "{b}{n}.io", "uni-{a}.ac.jp", "{a}.{b}.museum"]
    )
    w = dict(a=R.choice(WORDS), b=R.choice(WORDS), n=digits(3))
    return (user + "@" + host).format(**w, A=w["a"].title(), B=w["b"].title())


def nanp():
    while True:
        area, office = digits(3, "23456789"), digits(3, "23456789")
        if area[1] != "9" and area[1:] != "11" and office[1:] != "11" and office != "555":
            return area, office, digits(4)


def phone():
    a, b, c = nanp()
    return R.choice(
        [
            f"({a}) {b}-{c}",
            f"{a}-{b}-{c}",
            f"{a}.{b}.{c}",
            f"+1 {a} {b} {c}",
            f"+1-{a}-{b}-{c}",
            f"1-{a}-{b}-{c}",
            f"+1 ({a}) {b}-{c}",
            f"+44 20 {digits(4, '3789')} {digits(4)}",
            f"+44 (0)161 {digits(3, '23456789')} {digits(4)}",
            f"020 {digits(4, '378')} {digits(4)}",
            f"07{digits(3)} {digits(6)}",
            f"(0131) {digits(3, '2345')} {digits(4)}",
            f"+33 {R.choice('12345679')} " + group(digits(8), 2, 2, 2, 2),
            f"0{R.choice('1234569')} " + group(digits(8), 2, 2, 2, 2),
            f"0{R.choice('1234569')}." + group(digits(8), 2, 2, 2, 2, sep="."),
            f"+49 30 {digits(7, '123456789')}",
            f"+49 (0)89 {digits(6, '123456789')}",
            f"0171/{digits(7, '123456789')}",
            f"+49-{digits(3, '1')}-{digits(7, '123456789')}",
            f"+34 6{digits(2)} {digits(3)} {digits(3)}",
            f"+31 6 {digits(8, '12345')}",
            f"+81 3-{digits(4, '3')}-{digits(4)}",
            f"+86 13{digits(1)} {digits(4)} {digits(4)}",
            f"+91 9{digits(4)} {digits(5)}",
            f"+55 11 9{digits(4)}-{digits(4)}",
            f"+61 4{digits(2)} {digits(3)} {digits(3)}",
            f"0044 20 {digits(4, '378')} {digits(4)}",
            f"+353 1 {digits(3, '2345678')} {digits(4)}",
            f"+972 54-{digits(3, '23456789')}-{digits(4)}",
        ]
    )


def ipv4():
    first = R.choice([5, 23, 31, 45, 62, 77, 81, 93, 104, 130, 144, 151, 176, 185, 195, 209, 212, 217])
    return f"{first}.{R.randrange(256)}.{R.randrange(256)}.{R.randrange(1, 255)}"


def ipv6():
    head = R.choice(["2a00:1450", "2a02:8109", "2607:f8b0", "2400:cb00", "2606:4700", "2804:14c", "3fff:ff0"])
    tail = [f"{R.randrange(1, 65536):x}" for _ in range(6)]
    return R.choice(
        [
            head + ":" + ":".join(tail),
            head + "::" + tail[0],
            head + ":" + ":".join(tail[:2]) + "::" + tail[3],
            (head + ":" + ":".join(tail)).upper(),
        ]
    )


def card():
    kind = R.randrange(6)
    if kind == 0:
        s = luhn("4" + digits(14))
    elif kind == 1:
        s = luhn("5" + R.choice("12345") + digits(13))
    elif kind == 2:
        s = luhn(R.choice(["34", "37"]) + digits(12))
        return R.choice([s, group(s, 4, 6, 5)])
    elif kind == 3:
        s = luhn("6011" + digits(11))
    elif kind == 4:
        s = luhn(str(R.randrange(2221, 2720)) + digits(11))
    else:
        s = luhn("36" + digits(11))
        return R.choice([s, group(s, 4, 6, 4)])
    return R.choice([s, group(s, 4, 4, 4, 4), group(s, 4, 4, 4, 4, sep="-")])


def iban():
    country, form = R.choice(
        [
            ("DE", "n18"),
            ("GB", "a4n14"),
            ("FR", "n10c11n2"),
            ("ES", "n20"),
            ("IT", "a1n10c12"),
            ("NL", "a4n10"),
            ("CH", "n5c12"),
            ("BE", "n12"),
            ("PL", "n24"),
            ("SE", "n20"),
            ("NO", "n11"),
            ("MT", "a4n5c18"),
            ("SA", "n2c18"),
        ]
    )
    body, i = "", 0
    while i < len(form):
        k, j = form[i], i + 1
        while j < len(form) and form[j].isdigit():
            j += 1
        n = int(form[i + 1 : j])
        body += (
            digits(n)
            if k == "n"
            else (
                letters(n)
                if k == "a"
                else "".join(R.choice("0123456789ABCDEFGHKLMNPRSTUVWXYZ") for _ in range(n))
            )
        )
        i = j
    value = int("".join(str(int(c, 36)) for c in body + country + "00"))
    s = f"{country}{98 - value % 97:02d}{body}"
    return R.choice([s, " ".join(s[k : k + 4] for k in range(0, len(s), 4))])


def us_ssn():
    return f"{R.choice([R.randrange(1, 666), R.randrange(667, 900)]):03d}-{R.randrange(1, 100):02d}-{R.randrange(1, 10000):04d}"


def uk_nino():
    while True:
        p = letters(1, "ABCEGHJKLMNOPRSTWXYZ") + letters(1, "ABCEGHJKLMNPRSTWXYZ")
        if p not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ"):
            break
    d, s = digits(6), R.choice("ABCD")
    return R.choice([p + d + s, f"{p} {group(d, 2, 2, 2)} {s}", f"{p} {d} {s}"])


def fr_nir():
    dep = R.choice(["75", "13", "33", "2A", "2B", "69", "59"])
    s = R.choice("12") + digits(2) + f"{R.randrange(1, 13):02d}" + dep + digits(3) + digits(3)
    n = s[:5] + {"2A": "19", "2B": "18"}.get(dep, dep) + s[7:]
    key = 97 - int(n) % 97
    return R.choice([f"{s}{key:02d}", f"{s} {key:02d}", f"{group(s, 1, 2, 2, 2, 3, 3)} {key:02d}"])


def de_steuer():
    while True:
        d = R.sample("0123456789", 9)
        d.insert(R.randrange(10), R.choice(d))
        if d[0] != "0":
            break
    p = 10
    for c in d:
        m = (int(c) + p) % 10 or 10
        p = m * 2 % 11
    s = "".join(d) + str((11 - p) % 10)
    return R.choice([s, group(s, 2, 3, 3, 3)])


def es_dni():
    n = R.randrange(1, 10**8)
    if R.randrange(2):
        return f"{n:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[n % 23]}"
    k, m = R.randrange(3), R.randrange(10**7)
    return f"{'XYZ'[k]}{m:07d}{'TRWAGMYFPDXBNJZSQVHLCKE'[(k * 10**7 + m) % 23]}"


def nl_bsn():
    while True:
        d = digits(8, "123456789")
        last = sum((9 - i) * int(c) for i, c in enumerate(d)) % 11
        if last < 10:
            return d + str(last)


def it_cf():
    odd = dict(
        zip(
            "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            [
                1,
                0,
                5,
                7,
                9,
                13,
                15,
                17,
                19,
                21,
                1,
                0,
                5,
                7,
                9,
                13,
                15,
                17,
                19,
                21,
                2,
                4,
                18,
                20,
                11,
                3,
                6,
                8,
                12,
                14,
                16,
                10,
                22,
                25,
                24,
                23,
            ],
        )
    )
    s = (
        letters(6)
        + digits(2)
        + R.choice("ABCDEHLMPRST")
        + f"{R.randrange(1, 32) + 40 * R.randrange(2):02d}"
        + R.choice("ABCDEFGHIL")
        + digits(3)
    )
    total = sum(odd[c] if i % 2 == 0 else int(c, 36) - (10 if c.isalpha() else 0) for i, c in enumerate(s))
    return s + chr(65 + total % 26)


def br_cpf():
    d = digits(9)
    for n in (10, 11):
        d += str(sum((n - i) * int(c) for i, c in enumerate(d)) * 10 % 11 % 10)
    return f"{d[:3]}.{d[3:6]}.{d[6:9]}-{d[9:]}"


def pl_pesel():
    d = digits(2) + f"{R.randrange(1, 13):02d}{R.randrange(1, 29):02d}" + digits(4)
    return d + str(-sum(int(c) * w for c, w in zip(d, [1, 3, 7, 9] * 3)) % 10)


def se_pn():
    d = luhn(digits(2) + f"{R.randrange(1, 13):02d}{R.randrange(1, 29):02d}" + digits(3))
    return R.choice(["", "19"]) + d[:6] + "-" + d[6:]


def ca_sin():
    d = luhn(digits(8, "1234567"))
    return R.choice([d, group(d, 3, 3, 3), group(d, 3, 3, 3, sep="-")])


PLAIN = [
    "Please write to {} before Friday.",
    "{}",
    "Contact: {}.",
    "We noted {} in the file ({} again).",
    "It was {}, he said.",
    "<td>{}</td>",
    "- {}",
    "a;{};b",
    '"{}", she wrote',
]
KINDS = {
    "email": (email, PLAIN + ["mailto:{}", "<{}>", "Reply to {}; thanks!", "{}, {} and {}"]),
    "phone": (phone, PLAIN + ["Call {} now!", "Tel.: {}", "fax {} or {}"]),
    "ipv4": (
        ipv4,
        PLAIN
        + [
            "from {} port 4022 ssh2",
            "http://{}/index.html",
            "{}:8080",
            '{} - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 2326',
        ],
    ),
    "ipv6": (ipv6, PLAIN + ["http://[{}]/", "Received: from [{}] by mx"]),
    "card": (card, PLAIN + ["card number {}, exp. 04/29", "Visa: {}"]),
    "iban": (iban, PLAIN + ["IBAN: {}", "to account {} at once"]),
    "us_ssn": (us_ssn, PLAIN + ["SSN: {}", "social security number {}"]),
    "uk_nino": (uk_nino, PLAIN + ["NI number {}"]),
    "fr_nir": (fr_nir, PLAIN + ["numéro de sécurité sociale : {}"]),
    "de_steuer": (de_steuer, PLAIN + ["Steuer-ID: {}", "IdNr. {}"]),
    "es_dni": (es_dni, PLAIN + ["DNI {}", "con NIE {}."]),
    "nl_bsn": (nl_bsn, ["BSN {}", "BSN: {}.", "burgerservicenummer {} van"]),
    "it_cf": (it_cf, PLAIN + ["C.F. {}", "codice fiscale: {}"]),
    "br_cpf": (br_cpf, PLAIN + ["CPF {}"]),
    "pl_pesel": (pl_pesel, ["PESEL {}", "PESEL: {},", "nr PESEL {}"]),
    "se_pn": (se_pn, PLAIN + ["personnummer {}"]),
    "ca_sin": (ca_sin, ["SIN {}", "SIN: {}.", "social insurance number {}"]),
}

NEGATIVES = {
    "version": [
        "version {a}.{b}.{c}.{d}",
        "v{a}.{b}.{c}",
        "Chrome/{c}.0.{x}.{c}",
        "release {a}.{b}.{c}.{d}-rc1",
        "Python {a}.{b}.{c}",
        "libfoo-{a}.{b}.{c}.so",
        "{a}.{b}.{c}.{d}",
        "firmware {c}.{d}.{a}.{b}",
    ],
    "isbn": [
        "ISBN 978-{a}-{x2}-{x6}-{a}",
        "ISBN-10: 0-{x3}-{x5}-{a}",
        "ISBN 0{x3} {x6}",
        "ISBN: 978{x10}",
        "ISSN {x}-{x}",
    ],
    "doi": [
        "doi:10.{x}/s{x5}-{x3}-{x5}-{a}",
        "https://doi.org/10.{x}/j.{x}.{x}.{x6}",
        "10.{x}/{x6}.{x3}",
        "arXiv:{x}.{x5}",
        "PMID {x8}",
    ],
    "date": [
        "{y}-{m}-{e}",
        "{e}.{m}.{y}",
        "{m}/{e}/{y}",
        "{y}{m}{e}",
        "{e}-{m}-{y} 10:{e}",
        "{y}-{m}-{e}T{h}:{e}:{e}Z",
        "from {y} to {y}",
        "{y}/{m}/{e} {h}:{e}:{e}.{x3}",
    ],
    "time": [
        "{h}:{e}:{e}",
        "at {h}:{e}",
        "{h}:{e}:{e},{x3} --> {h}:{e}:{e},{x3}",
        "UTC+05:30",
        "{h}h{e}",
        "timestamp 1{x9}",
        "1{x9}{x3}",
    ],
    "money": [
        "${a},{x3},{x3}.{e}",
        "{x3}.{x3}.{x3},{e} €",
        "£{x6}",
        "USD {x9}",
        "{x3},{x3},{x3} people",
        "{x3} {x3} {x3} km",
        "¥{x8}",
        "{x2}.{x}%",
    ],
    "hash": [
        "commit {hex40}",
        "sha256:{hex64}",
        "{hex32}",
        "{uuid}",
        "md5 {hex32}",
        "0x{hex8}",
        "index {hex7}..{hex7} 100644",
        'etag "{hex32}"',
    ],
    "coordinates": ["{f}, {f}", "{f} N {f} W", "lat={f}&lon=-{f}", "({f}; {f})", "[{f},{f},{f}]"],
    "mac": [
        "{hex2}:{hex2}:{hex2}:{hex2}:{hex2}:{hex2}",
        "00:1a:{hex2}:{hex2}:{hex2}:{hex2}",
        "std::vector<int>::size_type",
        "a[{a}::{b}]",
        "10::20",
    ],
    "private": [
        "10.{o}.{o}.{o}",
        "192.168.{o}.{o}",
        "172.16.{o}.{o}",
        "127.0.0.1",
        "169.254.{o}.{o}",
        "255.255.255.0",
        "224.0.0.{o}",
        "fe80::{hex3}",
        "::1",
        "fd00::{hex3}",
        "2001:db8::{hex3}",
        "192.0.2.{o}",
        "203.0.113.{o}",
        "{x3}.{x3}.{x3}.{x3}.{x3}",
    ],
    "mention": [
        "@{w}",
        "see @{w}/core@{a}.{b}.{c}",
        "{w}@2x.png",
        "ssh root@localhost",
        "git@github.com:{w}/{w}.git",
        "{w} @ {w}",
        "user@example.com",
        "{w}@{w}",
        "@{w}.com",
        "{w}@{w}.test",
        "a@",
        "@Override",
    ],
    "order": [
        "order no. {x6}-{x4}",
        "order {x3}-{x7}-{x7}",
        "invoice {x10}",
        "tracking 1Z{x3}{x3}{x10}",
        "ticket #{x7}",
        "case {x2}-cv-{x5}",
        "part number {x3}-{x4}",
        "item {x3}-{x3}-{x4}",
        "serial {x4} {x4} {x4} {x3}",
        "RFC {x}, section {a}.{b}.{c}",
        "UPC {x6}{x6}",
        "https://host.test/status/{x9}{x10}",
        "id={x10}",
        "page {x3}-{x3}",
    ],
    "wrong check": ["{badcard}", "{badiban}", "{badnino}", "{baddni}", "{badssn}", "{badcf}", "{badcpf}"],
    "fiction": ["call 555-01{x2}", "+1-202-555-01{x2}", "(312) 555-01{x2}"],
    "number": [
        "{x5}",
        "{x7}",
        "{x8}",
        "{x9}",
        "{x10}",
        "{x3} {x3}",
        "{x4} {x4}",
        "pi is 3.14159265358979",
        "1 234 567 890",
        "{x2} {x2} {x2} {x2}",
        "1-2-3-4-5-6-7",
        "{x2}-{x2}-{x2}",
        "R{x3}-{x3}-{x2}",
    ],
}


def bad(kind):
    s = KINDS[kind][0]()
    if kind == "us_ssn":
        return R.choice(["000", "666"]) + s[3:]
    if kind == "uk_nino":
        return "GB" + s[2:]
    at = max(i for i, c in enumerate(s) if c.isdigit() and (kind not in ("es_dni",) or i < 8))
    return s[:at] + str((int(s[at]) + 1) % 10) + s[at + 1 :]


class Fill(dict):
    def __missing__(self, k):
        if k.startswith("x"):
            return digits(int(k[1:] or 4), "123456789")
        if k.startswith("hex"):
            return "".join(R.choice("0123456789abcdef") for _ in range(int(k[3:])))
        return {
            "a": lambda: str(R.randrange(10)),
            "b": lambda: str(R.randrange(10)),
            "c": lambda: str(R.randrange(10)),
            "d": lambda: str(R.randrange(10)),
            "w": lambda: R.choice(WORDS),
            "y": lambda: str(R.randrange(1900, 2030)),
            "m": lambda: f"{R.randrange(1, 13):02d}",
            "e": lambda: f"{R.randrange(10, 29)}",
            "h": lambda: f"{R.randrange(24):02d}",
            "o": lambda: str(R.randrange(256)),
            "f": lambda: f"{R.uniform(0, 90):.6f}",
            "uuid": lambda: "-".join(
                "".join(R.choice("0123456789abcdef") for _ in range(n)) for n in (8, 4, 4, 4, 12)
            ),
            "badcard": lambda: bad("card"),
            "badiban": lambda: bad("iban"),
            "badnino": lambda: bad("uk_nino"),
            "baddni": lambda: bad("es_dni"),
            "badssn": lambda: bad("us_ssn"),
            "badcf": lambda: bad("it_cf"),
            "badcpf": lambda: bad("br_cpf"),
        }[k]()


def main():
    os.makedirs(HERE, exist_ok=True)
    with open(os.path.join(HERE, "positives.txt"), "w", encoding="utf-8") as f:
        for kind, (make, frames) in KINDS.items():
            for i in range(60):
                frame = frames[i % len(frames)]
                f.write(f"{kind}\t{frame.format(*['⟦' + make() + '⟧' for _ in range(3)])}\n")
    frames = ["{}", "See {} for more.", "({})", "It is {}, as before.", "key: {}"]
    with open(os.path.join(HERE, "negatives.txt"), "w", encoding="utf-8") as f:
        for kind, texts in NEGATIVES.items():
            for i in range(60):
                f.write(
                    f"{kind}\t{frames[i // len(texts) % len(frames)].format(texts[i % len(texts)].format_map(Fill()))}\n"
                )


if __name__ == "__main__":
    main()
