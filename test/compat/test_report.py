#!/usr/bin/env python3
"""report.html of `gpt data clean` in a headless browser: what it draws is there and has a size, and nothing is amiss.

    python3 test/compat/test_report.py [--screenshot FILE.png]

A copy of the page gets a script that measures it once it is laid out; the browser then prints the page it made of it.
GPT is the program (./gpt), BROWSER the browser (chromium, or whatever of its kind is there).
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
GPT = os.path.abspath(os.environ.get("GPT", os.path.join(ROOT, "gpt")))
BROWSERS = [os.environ.get("BROWSER", ""), "chromium", "chromium-browser", "google-chrome", "chrome"]

MEASURE = """<script>
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const size = e => { const r = e.getBoundingClientRect(); return [r.width, r.height]; };
  const inside = e => { const r = e.getBoundingClientRect(), s = e.ownerSVGElement.getBoundingClientRect();
    return r.left >= s.left - 1 && r.right <= s.right + 1 && r.top >= s.top - 1 && r.bottom <= s.bottom + 1; };
  const all = q => [...document.querySelectorAll(q)];
  const found = {
    svg: all("svg").map(size), bars: all("svg[role=img] rect").map(size), limits: all("line.limit").map(size),
    outside: all("svg rect, svg line, svg text").filter(e => !inside(e)).map(e => e.outerHTML),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    plots: all("svg[role=img]").length, headings: all("h3").length, quotes: all("blockquote").map(size),
  };
  const pre = document.createElement("pre");
  pre.id = "found";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
});
</script></body>"""


def browse(browser, scratch, *flags):
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1000,1400",
               f"--user-data-dir={scratch}/profile", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def make_report(scratch):
    """Stories, a few of them broken in ways that rules catch, and one that HTML would trip over."""
    raw = os.path.join(scratch, "raw.jsonl")
    subprocess.run([GPT, "data", "demo", "--out", raw, "--bytes", "300K"], check=True)
    with open(raw, "a") as f:
        for i in range(40):
            f.write(json.dumps({"text": f"Line {i} # {{ }} <b>&amp;</b> </blockquote><script>alert({i})</script>.\n" * (i + 9)}) + "\n")
        f.write(json.dumps({"text": "x" * 5000}) + "\n{\n")
    out = os.path.join(scratch, "out")
    subprocess.run([GPT, "data", "clean", "--input", raw, "--out", out, "--set", "gopher.min_words=60"], check=True, capture_output=True)
    return os.path.join(out, "report.html")


def checks(found, errors, page):
    some = lambda sizes: len(sizes) > 0 and all(w > 0 and h > 0 for w, h in sizes)
    yield "every plot has a size", some(found["svg"])
    yield "a plot for every measure", found["plots"] == found["headings"] > 20
    yield "bars have a size", some(found["bars"])
    yield "limits are drawn", len(found["limits"]) > 10 and all(h > 0 for _, h in found["limits"])
    yield f"nothing is drawn outside its plot {found['outside'][:3]}", not found["outside"]
    yield "samples have a size", some(found["quotes"])
    yield "the page is no wider than the window", found["wide"] <= 0
    yield "the texts of documents are text", "<script>alert" not in page
    yield "it loads nothing from elsewhere", not re.search(r"\b(src|href)=", page)
    yield f"the browser has no complaints {errors[:3]}", not errors


def main():
    browser = next(filter(None, map(shutil.which, filter(None, BROWSERS))), None)
    if not browser:
        print("0 passed, 0 failed, 1 skipped: no chromium here")
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = make_report(scratch)
        page = open(path).read()
        if len(sys.argv) > 2:
            browse(browser, scratch, f"--screenshot={os.path.abspath(sys.argv[2])}", "file://" + path)
        with open(path, "w") as f:
            f.write(page.replace("</body>", MEASURE))
        r = browse(browser, scratch, "--dump-dom", "file://" + path)
    errors = re.findall(r"CONSOLE.*", r.stderr)
    measured = re.search(r'<pre id="found">(.*?)</pre>', r.stdout, re.S)
    if not measured:
        sys.exit(f"{browser} printed no page:\n{r.stderr[-2000:]}\n0 passed, 1 failed, 0 skipped")
    failed = passed = 0
    for what, ok in checks(json.loads(html.unescape(measured[1])), errors, page):
        print(f"{'ok     ' if ok else 'FAILED '} {what}")
        passed, failed = passed + bool(ok), failed + (not ok)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
