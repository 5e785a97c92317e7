/* report.h - floor 4: what became of the documents, as report.json for programs and report.html for people. */
#ifndef GPT_REPORT_H
#define GPT_REPORT_H

#include "stats.h"

/* Writes DIR/report.json, which depends on nothing but the input and the config, and DIR/report.html, one file without
 * anything outside it, which also says how fast it went. */
bool report_write(const char *dir, const Stats *s, const double limit[N_RULES], double seconds, Err *e);
#endif
