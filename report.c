/* report.c - floor 4: see report.h. */
#include "report.h"
#include "docs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- report.json ----------------------------------------------------------------------------------------- */

static void put_count(Str *json, const char *key, uint64_t n) {
    str_printf(json, "  \"%s\": %llu,\n", key, (unsigned long long)n);
}

static void put_text(Str *json, const char *text) {
    doc_put_json(json, text, strlen(text));
}

static void put_funnel(Str *json, const Stats *s) {
    str_puts(json, "  \"dropped\": {\n");
    for (int i = 0; i < N_REASONS; i++)
        str_printf(json, "    \"%s\": {\"documents\": %llu, \"bytes\": %llu}%s\n", reason_name(i),
                   (unsigned long long)s->dropped[i], (unsigned long long)s->dropped_bytes[i],
                   i + 1 < N_REASONS ? "," : "");
    str_puts(json, "  },\n  \"lines_dropped\": {");
    for (int i = 0; i < N_LINE_RULES; i++)
        str_printf(json, "\"%s\": %llu, ", line_rule_names[i], (unsigned long long)s->lines[i]);
    str_printf(json, "\"duplicate\": %llu},\n", (unsigned long long)s->duplicate_lines);
    str_printf(json,
               "  \"normalised\": {\"bytes_not_utf8\": %llu, \"mojibake\": %llu, \"controls\": %llu, "
               "\"texts_composed\": %llu},\n  \"anonymised\": {",
               (unsigned long long)s->normalised.repaired, (unsigned long long)s->normalised.mojibake,
               (unsigned long long)s->normalised.controls, (unsigned long long)s->normalised.composed);
    for (int k = 0; k < PII_KINDS; k++)
        str_printf(json, "%s\"%s\": %llu", k ? ", " : "", pii_name((PiiKind)k),
                   (unsigned long long)s->anonymised.n[k]);
    str_puts(json, "},\n");
}

static void put_rules(Str *json, const Stats *s, const double limit[N_RULES]) {
    str_puts(json, "  \"rules\": {\n");
    for (int i = 0; i < N_RULES; i++) {
        str_printf(json, "    \"%s\": {\"measure\": \"%s\", \"side\": \"%s\", \"limit\": ", rules[i].name,
                   measure_names[rules[i].measure], rules[i].most ? "most" : "least");
        if (isnan(limit[i]))
            str_puts(json, "null");
        else
            str_printf(json, "%.10g", limit[i]);
        str_printf(json, ", \"broken_by\": %llu}%s\n", (unsigned long long)s->breaks[i],
                   i + 1 < N_RULES ? "," : "");
    }
    str_puts(json, "  },\n");
}

static void put_histograms(Str *json, const Stats *s) {
    str_puts(json, "  \"histograms\": {\n");
    for (int m = 0; m < N_RULE_MEASURES; m++) {
        str_printf(json, "    \"%s\": {\"edges\": [", measure_names[m]);
        for (int b = 0; b <= STATS_BINS; b++) str_printf(json, "%s%.6g", b ? ", " : "", stats_edge(m, b));
        str_puts(json, "], \"documents\": [");
        for (int b = 0; b < STATS_BINS; b++)
            str_printf(json, "%s%llu", b ? ", " : "", (unsigned long long)s->histogram[m][b]);
        str_printf(json, "]}%s\n", m + 1 < N_RULE_MEASURES ? "," : "");
    }
    str_puts(json, "  },\n");
}

static void put_languages(Str *json, const Stats *s) {
    const char *before = "";
    str_puts(json, "  \"languages\": {");
    for (int k = 0; k < CLASSIFIER_LABELS; k++) {
        if (!s->language[k].documents) continue;
        str_puts(json, before);
        put_text(json, s->language[k].name);
        str_printf(json, ": {\"documents\": %llu, \"bytes\": %llu}",
                   (unsigned long long)s->language[k].documents, (unsigned long long)s->language[k].bytes);
        before = ", ";
    }
    str_puts(json, "},\n");
}

static void put_problems(Str *json, const Stats *s) {
    put_count(json, "problems", s->problems);
    str_puts(json, "  \"first_problems\": [");
    for (uint64_t i = 0; i < s->problems && i < STATS_PROBLEMS; i++) {
        str_puts(json, i ? ",\n    {\"file\": " : "\n    {\"file\": ");
        put_text(json, s->problem[i].file);
        str_printf(json, ", \"offset\": %llu, \"what\": ", (unsigned long long)s->problem[i].is.offset);
        put_text(json, s->problem[i].is.what);
        str_puts(json, "}");
    }
    str_puts(json, s->problems ? "\n  ]\n" : "]\n");
}

static void put_json(Str *json, const Stats *s, const double limit[N_RULES]) {
    str_puts(json, "{\n");
    put_count(json, "documents", s->documents);
    put_count(json, "bytes", s->bytes);
    put_count(json, "kept", s->kept);
    put_count(json, "kept_bytes", s->kept_bytes);
    put_funnel(json, s);
    put_languages(json, s);
    put_rules(json, s, limit);
    put_histograms(json, s);
    put_problems(json, s);
    str_puts(json, "}\n");
}

/* ---- report.html ----------------------------------------------------------------------------------------- */

static const char page_top[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>gpt data "
    "clean</title>\n<style>\n"
    "body{font:15px/1.45 sans-serif;max-width:60em;margin:2em auto;padding:0 "
    "1em;color:#222;background:#fff}\n"
    "table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:left;vertical-align:top}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}rect.bar{fill:#5b8db8}rect.drop{fill:#c8553d}\n"
    "line.limit{stroke:#c8553d;stroke-width:2}text{font:11px sans-serif;fill:#444}\n"
    "blockquote{margin:.2em 0 .6em 0;padding-left:.7em;border-left:3px solid #5b8db8;white-space:pre-wrap;"
    "overflow-wrap:anywhere}blockquote.drop{border-color:#c8553d}small{color:#666}\n</style></head><body>\n";

static void put_html(Str *html, const char *text) {
    for (; *text; text++) {
        size_t plain = strcspn(text, "<>&\"");
        str_put(html, text, plain);
        text += plain;
        if (!*text) break;
        str_puts(html, *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : "&quot;");
    }
}

static double percent(uint64_t a, uint64_t b) {
    return b ? 100.0 * (double)a / (double)b : 0;
}

static void put_row(Str *html, const char *what, uint64_t documents, uint64_t bytes, const Stats *s,
                    bool drop) {
    double share = percent(documents, s->documents);
    str_printf(html,
               "<tr><td>%s<td class=\"n\">%llu<td class=\"n\">%.2f %%<td class=\"n\">%llu<td>"
               "<svg width=\"200\" height=\"12\"><rect class=\"%s\" width=\"%.1f\" height=\"12\"/></svg>\n",
               what, (unsigned long long)documents, share, (unsigned long long)bytes, drop ? "drop" : "bar",
               2 * share);
}

static void html_funnel(Str *html, const Stats *s) {
    str_puts(
        html,
        "<h2>What became of the documents</h2>\n<table><tr><th><th class=\"n\">documents<th class=\"n\">share"
        "<th class=\"n\">bytes<th>\n");
    put_row(html, "read", s->documents, s->bytes, s, false);
    for (int i = REASON_UNREADABLE; i < N_REASONS; i++)
        put_row(html, reason_name(i), s->dropped[i], s->dropped_bytes[i], s, true);
    for (int i = 0; i < N_RULES; i++)
        if (s->dropped[i]) put_row(html, reason_name(i), s->dropped[i], s->dropped_bytes[i], s, true);
    put_row(html, "<b>kept</b>", s->kept, s->kept_bytes, s, false);
    str_puts(html, "</table>\n<p>Lines dropped:");
    for (int i = 0; i < N_LINE_RULES; i++)
        str_printf(html, " %s %llu,", line_rule_names[i], (unsigned long long)s->lines[i]);
    str_printf(html, " duplicate %llu.</p>\n", (unsigned long long)s->duplicate_lines);
}

static void html_anonymised(Str *html, const Stats *s) {
    const char *between = "<p>Anonymised: ";
    for (int k = 0; k < PII_KINDS; k++) {
        if (!s->anonymised.n[k]) continue;
        str_printf(html, "%s%s %llu", between, pii_name((PiiKind)k), (unsigned long long)s->anonymised.n[k]);
        between = ", ";
    }
    if (*between == ',') str_puts(html, ".</p>\n");
}

static void html_languages(Str *html, const Stats *s) {
    bool any = false;
    for (int k = 0; k < CLASSIFIER_LABELS; k++) {
        if (!s->language[k].documents) continue;
        str_puts(html, any ? ", " : "<p>Languages of what reached the rules: ");
        put_html(html, s->language[k].name);
        str_printf(html, " %llu", (unsigned long long)s->language[k].documents);
        any = true;
    }
    if (any) str_puts(html, ".</p>\n");
}

enum { PLOT_BIN = 10, PLOT_HEIGHT = 100 };

static void html_plot(Str *html, const Stats *s, int m, const double limit[N_RULES]) {
    uint64_t most = 1;
    for (int b = 0; b < STATS_BINS; b++)
        if (s->histogram[m][b] > most) most = s->histogram[m][b];
    str_printf(html, "<svg width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"histogram of %s\">\n",
               PLOT_BIN * STATS_BINS, PLOT_HEIGHT + 18, measure_names[m]);
    for (int b = 0; b < STATS_BINS; b++) {
        double high = fmax(1, PLOT_HEIGHT * (double)s->histogram[m][b] / (double)most); /* few can be seen */
        if (s->histogram[m][b])
            str_printf(html,
                       "<rect class=\"bar\" x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\"><title>%.4g to "
                       "%.4g: %llu</title></rect>\n",
                       b * PLOT_BIN, PLOT_HEIGHT - high, PLOT_BIN - 1, high, stats_edge(m, b),
                       stats_edge(m, b + 1), (unsigned long long)s->histogram[m][b]);
    }
    for (int b = 0; b < STATS_BINS; b += 12) {
        double edge = stats_edge(m, b);
        str_printf(html,
                   edge < 1000 ? "<text x=\"%d\" y=\"%d\">%.3g</text>\n"
                               : "<text x=\"%d\" y=\"%d\">%.0f</text>\n",
                   b * PLOT_BIN, PLOT_HEIGHT + 13, edge);
    }
    for (int i = 0; i < N_RULES; i++)
        if (rules[i].measure == m && !isnan(limit[i])) {
            double x = PLOT_BIN * stats_position(m, limit[i]);
            str_printf(html, "<line class=\"limit\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%d\"/>\n", x, x,
                       PLOT_HEIGHT);
        }
    str_puts(html, "</svg>\n");
}

static void html_samples(Str *html, const Stats *s, int rule) {
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < STATS_SAMPLES && s->sample[rule][side][i].order; i++) {
            const Sample *x = &s->sample[rule][side][i];
            str_printf(html, "<blockquote%s><small>%.6g, %s, ", side ? " class=\"drop\"" : "", x->value,
                       side ? "breaks it" : "passes");
            put_html(html, x->file);
            str_puts(html, "</small>\n");
            put_html(html, x->text);
            str_puts(html, "</blockquote>\n");
        }
}

static void html_rules(Str *html, const Stats *s, const double limit[N_RULES]) {
    str_printf(html,
               "<h2>Measures and limits</h2>\n<p>Of %llu documents that reached the rules. A red line is a "
               "limit.</p>\n",
               (unsigned long long)s->judged);
    for (int m = 0; m < N_RULE_MEASURES; m++) {
        str_printf(html, "<h3>%s</h3>\n", measure_names[m]);
        html_plot(html, s, m, limit);
        for (int i = 0; i < N_RULES; i++) {
            if (rules[i].measure != m || isnan(limit[i])) continue;
            str_printf(html, "<details><summary>%s: %s, %.6g; %llu documents break it</summary>\n",
                       rules[i].name, rules[i].help, limit[i], (unsigned long long)s->breaks[i]);
            html_samples(html, s, i);
            str_puts(html, "</details>\n");
        }
    }
}

static void html_problems(Str *html, const Stats *s) {
    str_printf(html, "<h2>Problems: %llu</h2>\n<ul>\n", (unsigned long long)s->problems);
    for (uint64_t i = 0; i < s->problems && i < STATS_PROBLEMS; i++) {
        str_puts(html, "<li>");
        put_html(html, s->problem[i].file);
        str_printf(html, ", at byte %llu: ", (unsigned long long)s->problem[i].is.offset);
        put_html(html, s->problem[i].is.what);
        str_puts(html, "\n");
    }
    str_puts(html, "</ul>\n");
}

static void put_page(Str *html, const Stats *s, const double limit[N_RULES], double seconds) {
    str_puts(html, page_top);
    str_printf(html, "<h1>gpt data clean</h1>\n<p>%llu of %llu documents kept, %.4g of %.4g MB. ",
               (unsigned long long)s->kept, (unsigned long long)s->documents, (double)s->kept_bytes / 1e6,
               (double)s->bytes / 1e6);
    if (isnan(seconds))
        str_puts(html, "The run went on from an earlier call, so its speed is not known.</p>\n");
    else
        str_printf(html, "It took %.2f s: %.1f MB/s.</p>\n", seconds, (double)s->bytes / 1e6 / seconds);
    html_funnel(html, s);
    html_languages(html, s);
    html_anonymised(html, s);
    html_rules(html, s, limit);
    html_problems(html, s);
    str_puts(html, "</body></html>\n");
}

static bool write_str(const char *dir, const char *name, Str *s, Err *e) {
    char *path = path_join(dir, name);
    bool ok = file_write(path, s->p, s->n, e);
    free(path);
    str_free(s);
    return ok;
}

/* report.json goes last: where it is, a run is complete. */
bool report_write(const char *dir, const Stats *s, const double limit[N_RULES], double seconds, Err *e) {
    Str json = {0}, html = {0};
    put_page(&html, s, limit, seconds);
    put_json(&json, s, limit);
    bool ok = write_str(dir, "report.html", &html, e);
    return write_str(dir, "report.json", &json, e) && ok;
}
