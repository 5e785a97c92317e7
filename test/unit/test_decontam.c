/* test_decontam.c - decontam.c against a plain search, and on planted pieces of evaluation sets. */
#include "decontam.h"
#include "test.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

typedef struct Lines {
    cJSON *line[4096];
    int n;
} Lines;

static void read_lines(const char *dir, const char *name, Lines *l) {
    Err e = {0};
    Text t;
    char *line, *path = path_join(dir, name);
    size_t n;
    l->n = 0;
    EXPECT(text_open(&t, path, &e), "%s", e.msg);
    while (text_line(&t, &line, &n, &e) && line) {
        l->line[l->n] = cJSON_Parse(line);
        EXPECT(l->line[l->n] != NULL, "%s", line);
        l->n += l->line[l->n] != NULL;
    }
    EXPECT_OK(&e);
    text_close(&t);
    free(path);
}

static void free_lines(Lines *l) {
    for (int i = 0; i < l->n; i++) cJSON_Delete(l->line[i]);
}

static const char *text_of(const Lines *l, int i, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItem(l->line[i], key));
}

static char *write_file(const char *dir, const char *name, const char *text) {
    Err e = {0};
    char *path = path_join(dir, name);
    EXPECT(file_write(path, text, strlen(text), &e), "%s", e.msg);
    return path;
}

static void run_job(DecontamJob *job, const char *dir, const char *input, const char *against, Lines kept[2],
                    uint64_t counts[3]) {
    Err e = {0};
    const char *files[] = {input}, *sets[] = {against};
    char *out = path_join(dir, "out");
    job->files = files, job->n_files = 1, job->against = sets, job->n_against = 1, job->out = out;
    job->overwrite = true;
    EXPECT(decontam_run(job, counts, &e), "%s", e.msg);
    read_lines(out, "kept_000000.jsonl.gz", &kept[0]);
    read_lines(out, "dropped_000000.jsonl.gz", &kept[1]);
    free(out);
}

/* Random texts over two words: a document goes exactly if some 8 words of it are 8 words of the evaluation
 * set. */
TEST(decontam_agrees_with_a_plain_search) {
    enum { N = 300, WORDS = 40 };
    const char *dir = test_dir();
    Str eval = {0}, docs = {0};
    static char text[N][2 * WORDS + 8];
    char set[64] = "", needle[32];
    for (uint64_t i = 0; i < 12; i++) strcat(set, rand_below(3, RAND_TEST, 0, i, 2) ? "b " : "a ");
    str_printf(&eval, "{\"q\": {\"deep\": [\"%s\"]}}\n", set);
    for (uint64_t k = 0; k < N; k++) {
        text[k][0] = 0;
        for (uint64_t i = 0; i < WORDS; i++)
            strcat(text[k], rand_below(3, RAND_TEST, k + 1, i, 2) ? "b " : "a ");
        str_printf(&docs, "{\"text\": \"%s\"}\n", text[k]);
    }
    char *a = write_file(dir, "eval.jsonl", eval.p), *b = write_file(dir, "docs.jsonl", docs.p);
    Lines kept[2];
    uint64_t counts[3];
    run_job(&(DecontamJob){.ngram = 8, .most = N, .threads = 2}, dir, b, a, kept, counts);
    int at[2] = {0};
    for (int k = 0; k < N; k++) {
        bool shares = false;
        for (int i = 0; i + 8 <= 12; i++) {
            memcpy(needle, set + 2 * i, 16);
            needle[15] = 0;
            shares |= strstr(text[k], needle) != NULL;
        }
        const char *found =
            at[shares] < kept[shares].n ? text_of(&kept[shares], at[shares], "text") : "nothing";
        EXPECT(!strcmp(found, text[k]), "document %d should %s", k, shares ? "go" : "stay");
        at[shares]++;
    }
    EXPECT(kept[0].n > 20 && kept[1].n > 20 && kept[0].n + kept[1].n == N, "%d stay, %d go", kept[0].n,
           kept[1].n);
    EXPECT(counts[0] == (uint64_t)kept[0].n && counts[2] == (uint64_t)kept[1].n);
    free_lines(&kept[0]), free_lines(&kept[1]);
    str_free(&eval), str_free(&docs);
    free(a), free(b);
}

#define THIRTEEN "one two three four five six seven eight nine ten eleven twelve thirteen"

TEST(decontam_what_counts) {
    static const struct {
        const char *text;
        bool stays;
    } cases[] = {
        {"So: ONE, two; three (four) five six\\nseven eight \\\"nine\\\" ten eleven twelve Thirteen!", false},
        {"one two three four five six seven eight nine ten eleven twelve", true},
        {"one two three four five six seven eight nine ten eleven twelve and thirteen", true},
        {"and here: what is the capital of the old kingdom, then", false}, /* 8 words, whole */
        {"what is the capital of the old", true},
        {"a short one of seven words here", true}, /* the set has this, but shorter than 8 words */
        {"", true},
    };
    const char *dir = test_dir();
    Str docs = {0};
    char *a = write_file(dir, "eval.jsonl",
                         "{\"a\": \"zero " THIRTEEN "\", \"n\": 3}\n"
                         "{\"b\": [\"What is the capital of the old kingdom?\"]}\n"
                         "{\"c\": \"a short one of seven words here\"}\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        str_printf(&docs, "{\"text\": \"%s\", \"i\": %zu}\n", cases[i].text, i);
    char *b = write_file(dir, "docs.jsonl", docs.p);
    Lines kept[2];
    run_job(&(DecontamJob){.ngram = 13, .most = 10}, dir, b, a, kept, NULL);
    int at[2] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int set = !cases[i].stays;
        bool there =
            at[set] < kept[set].n && cJSON_GetObjectItem(kept[set].line[at[set]], "i")->valueint == (int)i;
        EXPECT(there, "case %zu: %s", i, cases[i].text);
        at[set]++;
    }
    EXPECT(kept[1].n == 2 &&
           !strcmp(text_of(&kept[1], 1, "ngram"), "what is the capital of the old kingdom"));
    const char *by = text_of(&kept[1], 1, "contaminated_by");
    EXPECT(strlen(by) > 12 && !strcmp(by + strlen(by) - 12, "eval.jsonl:2"), "%s", by);
    free_lines(&kept[0]), free_lines(&kept[1]);
    str_free(&docs);
    free(a), free(b);
}

/* A run in 10 documents counts, in 11 it is a common phrase; twice in one document is once. */
TEST(decontam_common_phrases) {
    const char *dir = test_dir();
    char *a = write_file(dir, "eval.txt", THIRTEEN);
    for (int copies = 10; copies <= 11; copies++) {
        Str docs = {0};
        for (int i = 0; i < copies; i++) str_puts(&docs, "{\"text\": \"" THIRTEEN " " THIRTEEN "\"}\n");
        char *b = write_file(dir, "docs.jsonl", docs.p);
        Lines kept[2];
        run_job(&(DecontamJob){.ngram = 13, .most = 10}, dir, b, a, kept, NULL);
        EXPECT(kept[copies == 10].n == copies, "%d copies: %d stay", copies, kept[0].n);
        free_lines(&kept[0]), free_lines(&kept[1]);
        str_free(&docs);
        free(b);
    }
    free(a);
}

static void put_filler(Str *s, int chars) {
    for (int i = 0; i < chars; i++) str_puts(s, i % 10 == 9 ? " " : "\xc3\xa9");
}

/* 200 characters go on both sides of the run, then what has fewer than 200 goes as well. */
TEST(decontam_cuts) {
    const char *dir = test_dir();
    char *a = write_file(dir, "eval.txt", THIRTEEN);
    static const struct {
        int before, between, after, runs; /* characters around and between that many runs */
        int pieces, first;                /* what stays, and how many characters its first piece has */
    } cases[] = {{500, 0, 300, 1, 1, 300},     {399, 0, 399, 1, 0, 0},       {400, 0, 400, 1, 2, 200},
                 {1000, 600, 1000, 2, 3, 800}, {1000, 599, 1000, 2, 2, 800}, {0, 700, 0, 11, 10, 300},
                 {0, 700, 0, 12, 0, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        Str docs = {0};
        str_puts(&docs, "{\"text\": \"");
        put_filler(&docs, cases[k].before);
        for (int i = 0; i < cases[k].runs; i++) {
            str_puts(&docs, THIRTEEN);
            put_filler(&docs, i + 1 < cases[k].runs ? cases[k].between : cases[k].after);
        }
        str_puts(&docs, "\"}\n");
        /* letters next to a run would be one word with it: an exclamation mark, as long */
        for (char *p = docs.p; (p = strstr(p, "\xc3\xa9one")); p++) memcpy(p, "\xc2\xa1", 2);
        for (char *p = docs.p; (p = strstr(p, "thirteen\xc3\xa9")); p++) memcpy(p + 8, "\xc2\xa1", 2);
        char *b = write_file(dir, "docs.jsonl", docs.p);
        Lines kept[2];
        run_job(&(DecontamJob){.ngram = 13, .most = 10, .cut = true}, dir, b, a, kept, NULL);
        EXPECT(kept[0].n == cases[k].pieces && kept[1].n == 1, "case %zu: %d pieces", k, kept[0].n);
        EXPECT(!strcmp(text_of(&kept[1], 0, "action"), cases[k].pieces ? "cut" : "dropped"), "case %zu", k);
        for (int i = 0; i < kept[0].n; i++) {
            const char *text = text_of(&kept[0], i, "text");
            EXPECT(utf8_valid(text, strlen(text)) && !strstr(text, "seven"), "case %zu, piece %d", k, i);
            EXPECT(cJSON_GetObjectItem(kept[0].line[i], "piece")->valueint == i);
        }
        int chars = 0;
        for (const char *p = kept[0].n ? text_of(&kept[0], 0, "text") : ""; *p; p++)
            chars += ((unsigned char)*p & 0xc0) != 0x80;
        EXPECT(chars == cases[k].first, "case %zu: %d characters", k, chars);
        free_lines(&kept[0]), free_lines(&kept[1]);
        str_free(&docs);
        free(b);
    }
    free(a);
}

TEST(decontam_refuses) {
    Err e = {0};
    const char *dir = test_dir();
    char *a = write_file(dir, "eval.txt", "too short"), *b = write_file(dir, "docs.txt", "words"),
         *out = path_join(dir, "out");
    DecontamJob job = {.files = (const char *[]){b},
                       .n_files = 1,
                       .against = (const char *[]){a},
                       .n_against = 1,
                       .out = out,
                       .ngram = 7};
    EXPECT(!decontam_run(&job, NULL, &e));
    EXPECT_ERR(&e, "an n-gram of 7 words");
    job.ngram = 13;
    EXPECT(!decontam_run(&job, NULL, &e));
    EXPECT_ERR(&e, "hold no text of 8 words");
    job.n_against = 0;
    EXPECT(!decontam_run(&job, NULL, &e));
    EXPECT_ERR(&e, "no evaluation sets");
    free(a), free(b), free(out);
}
