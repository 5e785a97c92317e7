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
        str_printf(json, "    \"%s\": {\"documents\": %llu, \"bytes\": %llu%s}%s\n", reason_name(i),
                   (unsigned long long)s->dropped[i], (unsigned long long)s->dropped_bytes[i], "",
                   i + 1 < N_REASONS ? "," : "");
    str_puts(json, "  },\n  \"lines_dropped\": {");
    for (int i = 0; i < N_LINE_RULES; i++)
        str_printf(json, "\"%s\": %llu, ", line_rule_names[i], (unsigned long long)s->lines[i]);
    str_printf(json, "\"duplicate\": %llu},\n", (unsigned long long)s->duplicate_lines);
    str_printf(json,
               "  \"normalised\": {\"bytes_not_utf8\": %llu, \"mojibake\": %llu, \"controls\": %llu, "
               "\"texts_composed\": %llu},\n",
               (unsigned long long)s->normalised.repaired, (unsigned long long)s->normalised.mojibake,
               (unsigned long long)s->normalised.controls, (unsigned long long)s->normalised.composed);
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
    put_rules(json, s, limit);
    put_histograms(json, s);
    put_problems(json, s);
    str_puts(json, "}\n");
}

bool report_write(const char *dir, const Stats *s, const double limit[N_RULES], double seconds, Err *e) {
    Str json = {0};
    char *json_path = path_join(dir, "report.json");
    (void)seconds;
    put_json(&json, s, limit);
    bool ok = file_write(json_path, json.p, json.n, e);
    str_free(&json);
    free(json_path);
    return ok;
}
