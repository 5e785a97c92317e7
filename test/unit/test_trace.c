/* test_trace.c - spans in, JSON out. */
#include "test.h"
#include "trace.h"

#include <cjson/cJSON.h>
#include <string.h>

static const char *text(const cJSON *o, const char *key) {
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
    return s ? s : "";
}

TEST(trace_spans) {
    Str s = {0};
    EXPECT(!trace_is_on());
    trace_span("compute", "before", 0, 1); /* off: forgotten */
    trace_start(3);
    EXPECT(trace_is_on());
    trace_span("compute", "forward", 1.5, 1.75);
    trace_span("tensor", "all-reduce", 1.6, 1.7);
    trace_span("compute", "backward", 1.75, 2);
    str_puts(&s, "[");
    trace_stop(&s);
    str_puts(&s, "]");
    EXPECT(!trace_is_on());
    cJSON *all = cJSON_Parse(s.p), *o;
    EXPECT(all && cJSON_GetArraySize(all) == 6, "%s", s.p); /* the rank, two lanes, three spans */
    double lane_of_forward = -1, lane_of_backward = -2, lane_of_reduce = -1;
    cJSON_ArrayForEach(o, all) {
        const double tid = cJSON_GetNumberValue(cJSON_GetObjectItem(o, "tid"));
        EXPECT(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "pid")) == 3);
        if (!strcmp(text(o, "name"), "forward")) {
            lane_of_forward = tid;
            EXPECT(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "ts")) == 1.5e6);
            EXPECT(cJSON_GetNumberValue(cJSON_GetObjectItem(o, "dur")) == 0.25e6);
        }
        if (!strcmp(text(o, "name"), "backward")) lane_of_backward = tid;
        if (!strcmp(text(o, "name"), "all-reduce")) lane_of_reduce = tid;
    }
    EXPECT(lane_of_forward == lane_of_backward && lane_of_forward != lane_of_reduce && lane_of_reduce >= 0);
    cJSON_Delete(all);
    str_free(&s);
}

TEST(trace_of_nothing) {
    Str s = {0};
    trace_start(0);
    trace_stop(&s);
    cJSON *o = cJSON_Parse(s.p);
    EXPECT(o && !strcmp(text(o, "name"), "process_name"));
    cJSON_Delete(o);
    str_free(&s);
}
