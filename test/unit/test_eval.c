/* Loss over shards against a sum by hand, and tasks whose scores are worked out one sequence at a time. */
#include "eval.h"
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Tiny {
    Tokenizer *t;
    Gpt *m;
} Tiny;

/* Random weights, wide enough apart that a wrong token shows. Scores up to 40 rows at once. */
static Tiny tiny(void) {
    Err e = {0};
    Tiny y = {0};
    Config c;
    char *path = path_join(test_dir(), "text.txt");
    const char *text = "the cat sat on the mat, the dog on the log, the cat on the dog";
    EXPECT(file_write(path, text, strlen(text), &e));
    y.t = tokenizer_train((const char *const *)&path, 1, NULL, 274, 1, &e);
    EXPECT_OK(&e);
    config_defaults(&c);
    c.model.vocab_size = tokenizer_size(y.t) + 3; /* as padded checkpoints have it */
    c.model.n_layer = 1, c.model.n_embd = 32, c.model.n_head = 2, c.model.n_positions = 16;
    GptOptions o = {.ops = &cpu_ops, .B = 5, .T = 8};
    EXPECT(cpu_ops.start(1, &e) && (y.m = gpt_create(&c.model, &o, &e)));
    EXPECT_OK(&e);
    gpt_init(y.m, 3);
    int n;
    const Param *p = gpt_table(y.m, &n);
    for (int i = 0; i < n; i++)
        for (int64_t j = 0; j < p[i].count && p[i].init == INIT_NORMAL; j++)
            gpt_weights(y.m)[p[i].at + j] *= 15;
    gpt_weights_changed(y.m, false);
    free(path);
    return y;
}

static void tiny_free(Tiny *y) {
    gpt_free(y->m);
    tokenizer_free(y->t);
}

/* Loss of each token but the first, alone; whether each was the likeliest. */
static double losses_of(const Tiny *y, const int32_t *ids, int n, int from, bool *likeliest) {
    float loss[64];
    int32_t best[64];
    double sum = 0;
    *likeliest = true;
    gpt_losses(y->m, &(Batch){.tokens = ids, .targets = ids + 1, .B = 1, .T = n - 1}, loss, best);
    for (int i = from - 1; i < n - 1; i++) sum += loss[i], *likeliest &= best[i] == ids[i + 1];
    return sum;
}

/* ---- loss ---------------------------------------------------------------------------------------------- */

static bool encode(const void *ctx, const char *text, size_t n, int32_t **ids, size_t *n_ids, Err *e) {
    Ids out = {0};
    bool ok = tokenizer_encode(ctx, text, n, SPECIAL_TEXT, &out, e);
    *ids = out.id, *n_ids = out.n;
    return ok;
}

/* Three documents of known probability in shards of 30 tokens: DIR/train_*.bin. */
static const char *write_shards(const Tiny *y) {
    Err e = {0};
    const char *dir = test_dir();
    char *docs = path_join(dir, "docs.jsonl");
    const char *lines = "{\"text\": \"the cat sat on the log\", \"nats\": 20}\n"
                        "{\"text\": \"on the mat, the dog: two caf\xc3\xa9s\", \"nats\": 30.5}\n"
                        "{\"text\": \"the dog on the dog on the dog\", \"nats\": 9}\n";
    EXPECT(file_write(docs, lines, strlen(lines), &e));
    ShardJob job = {
        .files = (const char *const *)&docs, .n_files = 1, .out_dir = dir, .shard_tokens = 30, .threads = 1};
    EXPECT(shard_write(&job, encode, y->t, tokenizer_eot(y->t), tokenizer_size(y->t), &e));
    EXPECT_OK(&e);
    remove(docs);
    free(docs);
    return dir;
}

/* What eval_loss should find, window by window: nats, tokens, bytes of text. */
static EvalLoss by_hand(const Tiny *y, const char *dir, int T) {
    Err e = {0};
    EvalLoss r = {0};
    char **names;
    int n;
    EXPECT(shard_list(dir, &names, &n, &e) && n > 1);
    for (int i = 0; i < n; i++) {
        Shard s;
        EXPECT(shard_open(&s, names[i], true, &e));
        for (uint64_t at = 0; at + (uint64_t)T + 1 <= s.n; at += (uint64_t)T) {
            int32_t ids[32];
            bool likeliest;
            shard_read(&s, at, (uint64_t)T + 1, ids);
            r.loss += losses_of(y, ids, T + 1, 1, &likeliest);
            r.tokens += (uint64_t)T;
            for (int j = 1; j <= T; j++) {
                size_t bytes;
                tokenizer_bytes(y->t, ids[j], &bytes);
                if (ids[j] != tokenizer_eot(y->t)) r.bytes += bytes;
            }
        }
        shard_close(&s);
    }
    names_free(names, n);
    return r;
}

TEST(eval_loss_by_hand) {
    Tiny y = tiny();
    Err e = {0};
    ShardInfo info;
    const char *dir = write_shards(&y);
    EXPECT(shard_info(dir, &info, &e) && info.nats == 59.5 && info.documents == 3);
    for (int T = 1; T <= 16; T += 5) { /* 40, 6, 3 and 2 windows at once */
        EvalLoss want = by_hand(&y, dir, T), got;
        EXPECT(eval_loss(y.m, y.t, dir, T, 0, &got, &e));
        EXPECT_OK(&e);
        EXPECT(got.tokens == want.tokens && got.bytes == want.bytes && got.tokens % (uint64_t)T == 0);
        double mean = want.loss / (double)want.tokens;
        EXPECT(fabs(got.loss - mean) < 1e-6 * mean && mean > 1, "%.9g, by hand %.9g", got.loss, mean);
        EXPECT(got.perplexity == exp(got.loss));
        EXPECT(fabs(got.bits_per_byte * (double)want.bytes * log(2) / want.loss - 1) < 1e-6);
        EXPECT(got.floor == 59.5 / (double)info.tokens);
        EvalLoss some;
        EXPECT(eval_loss(y.m, NULL, dir, T, (uint64_t)(2 * T - 1), &some, &e) && some.tokens == (uint64_t)T);
        EXPECT(isnan(some.bits_per_byte) && some.bytes == 0);
    }
    tiny_free(&y);
}

TEST(eval_loss_refuses) {
    Tiny y = tiny();
    Err e = {0};
    EvalLoss r;
    const char *dir = write_shards(&y);
    EXPECT(!eval_loss(y.m, y.t, dir, 17, 0, &r, &e) && e.code == EXIT_USAGE);
    EXPECT_ERR(&e, "a sequence length of 17; this model's context holds 1 to 16 tokens");
    EXPECT(!eval_loss(y.m, y.t, dir, 0, 0, &r, &e));
    EXPECT_ERR(&e, "a sequence length of 0");
    EXPECT(!eval_loss(y.m, y.t, "/nowhere/at/all.bin", 8, 0, &r, &e));
    EXPECT_ERR(&e, "/nowhere/at/all.bin");
    /* Ids that the model has and the tokenizer has not: fine for the loss, not for its bytes. */
    int32_t header[256] = {20240520, 1, 9};
    uint16_t tokens[9];
    Str s = {0};
    for (int i = 0; i < 9; i++) tokens[i] = (uint16_t)(tokenizer_size(y.t) + 2);
    str_put(&s, header, sizeof header), str_put(&s, tokens, sizeof tokens);
    char *path = path_join(test_dir(), "s.bin");
    EXPECT(file_write(path, s.p, s.n, &e));
    EXPECT(eval_loss(y.m, NULL, path, 8, 0, &r, &e) && r.tokens == 8);
    EXPECT(!eval_loss(y.m, y.t, path, 8, 0, &r, &e));
    EXPECT_ERR(&e, "beyond the tokenizer");
    str_free(&s), free(path);
    tiny_free(&y);
}

/* ---- tasks --------------------------------------------------------------------------------------------- */

static bool run_task(const Tiny *y, const char *lines, EvalTask *r, Err *e) {
    char *path = path_join(test_dir(), "task.jsonl");
    EXPECT(file_write(path, lines, strlen(lines), e));
    bool ok = eval_task(y->m, y->t, path, 0, r, e);
    free(path);
    return ok;
}

/* Loss of " " + target after the last tokens of context that fit, and the target's tokens. */
static double target_loss(const Tiny *y, const char *context, const char *target, int *n_target,
                          bool *likeliest) {
    Err e = {0};
    Ids ids = {0};
    Str text = {0};
    str_printf(&text, " %s", target);
    if (*context)
        tokenizer_encode(y->t, context, strlen(context), SPECIAL_TEXT, &ids, &e);
    else
        tokenizer_encode(y->t, "<|endoftext|>", 13, SPECIAL_SPLIT, &ids, &e);
    int given = (int)ids.n;
    tokenizer_encode(y->t, text.p, text.n, SPECIAL_TEXT, &ids, &e);
    EXPECT_OK(&e);
    int n = (int)ids.n, cut = n > 17 ? n - 17 : 0;
    *n_target = n - given;
    double loss = losses_of(y, ids.id + cut, n - cut, given - cut, likeliest);
    str_free(&text), ids_free(&ids);
    return loss;
}

enum { N_QUESTIONS = 60, ENDINGS = 4 };
typedef struct Question {
    char ctx[200], ending[ENDINGS][100];
} Question;

/* lo .. hi words, drawn by (question, part). */
static void words(char *to, int question, int part, int lo, int hi) {
    static const char *const word[] = {"the",       "cat", "sat", "on",  "mat", "\xc3\xa9",
                                       "t\xc3\xa9", "z,",  "a",   "log", "dog"};
    uint64_t q = (uint64_t)question, p = (uint64_t)part * 100;
    int n = lo + (int)rand_below(1, RAND_TEST, q, p, (uint64_t)(hi - lo + 1));
    for (int i = 0; i < n; i++)
        to += sprintf(to, "%s%s", i ? " " : "", word[rand_below(1, RAND_TEST, q, p + (uint64_t)i + 1, 11)]);
}

/* Contexts of none (from end-of-text) to too many words; every ninth has equal endings: the first wins. */
static Question question(int i) {
    Question q = {0};
    words(q.ctx, i, 0, i % 7 ? 1 : 0, i % 7 ? 18 : 0);
    for (int k = 0; k < ENDINGS; k++) words(q.ending[k], i, i % 9 || k < 2 ? k + 1 : k - 1, 1, 3);
    return q;
}

static int characters(const char *s) {
    int n = 0;
    for (; *s; s += utf8_length(s, strlen(s))) n++;
    return n;
}

/* The ending that each of the three rules chooses. */
static void choose(const Tiny *y, const Question *q, int chosen[3]) {
    double least[3] = {INFINITY, INFINITY, INFINITY};
    for (int i = 0; i < ENDINGS; i++) {
        bool likeliest;
        int n_tokens;
        double loss = target_loss(y, q->ctx, q->ending[i], &n_tokens, &likeliest);
        double by[3] = {loss, loss / characters(q->ending[i]), loss / n_tokens};
        for (int k = 0; k < 3; k++)
            if (by[k] < least[k]) least[k] = by[k], chosen[k] = i;
    }
}

/* The labels are what one rule chooses: it must always be right, and the others where they agree with it. */
TEST(eval_task_multiple_choice) {
    Tiny y = tiny();
    Err e = {0};
    for (int rule = 0; rule < 3; rule++) {
        Str lines = {0};
        double right[3] = {0};
        for (int i = 0; i < N_QUESTIONS; i++) {
            Question q = question(i);
            int chosen[3];
            choose(&y, &q, chosen);
            str_printf(&lines, "{\"ind\": %d, \"ctx\": \"%s\", \"endings\": [", i, q.ctx);
            for (int k = 0; k < ENDINGS; k++) str_printf(&lines, "%s\"%s\"", k ? ", " : "", q.ending[k]);
            str_printf(&lines, i % 2 ? "], \"label\": \"%d\"}\n\n" : "], \"label\": %d}\n", chosen[rule]);
            for (int k = 0; k < 3; k++) right[k] += chosen[k] == chosen[rule];
        }
        EvalTask r;
        EXPECT(run_task(&y, lines.p, &r, &e));
        EXPECT_OK(&e);
        EXPECT(!strcmp(r.kind, "multiple_choice") && r.items == N_QUESTIONS && right[rule] == N_QUESTIONS);
        EXPECT(r.acc == right[0] / N_QUESTIONS, "rule %d: %g", rule, r.acc);
        EXPECT(r.acc_norm == right[1] / N_QUESTIONS, "rule %d: %g", rule, r.acc_norm);
        EXPECT(r.acc_norm_tokens == right[2] / N_QUESTIONS, "rule %d: %g", rule, r.acc_norm_tokens);
        for (int k = 0; k < 3; k++)
            EXPECT(k == rule || right[k] < N_QUESTIONS, "nothing tells the rules apart");
        str_free(&lines);
    }
    tiny_free(&y);
}

/* Make the model say words: longer embeddings give larger logits, either way. */
static void prefer_words(const Tiny *y) {
    int n;
    const Param *p = gpt_table(y->m, &n);
    while (strcmp(p->name, "wte.weight")) p++;
    for (int32_t id = 0; id < tokenizer_size(y->t); id++) {
        size_t len;
        const char *bytes = tokenizer_bytes(y->t, id, &len);
        for (int64_t c = 0; c < p->shape[1] && bytes[0] == ' ' && len > 1; c++)
            gpt_weights(y->m)[p->at + id * p->shape[1] + c] *= 3;
    }
    gpt_weights_changed(y->m, false);
}

/* The word that the model, left alone, would have said after the context, if that is a word. */
static bool likely_word(const Tiny *y, const char *context, Str *word) {
    Err e = {0};
    Ids ids = {0};
    int32_t best[16];
    float loss[16];
    size_t n;
    tokenizer_encode(y->t, context, strlen(context), SPECIAL_TEXT, &ids, &e);
    if (ids.n > 15) return ids_free(&ids), false;
    gpt_losses(y->m, &(Batch){.tokens = ids.id, .targets = ids.id, .B = 1, .T = (int)ids.n}, loss, best);
    const char *bytes = tokenizer_bytes(y->t, best[ids.n - 1], &n);
    bool is_word = bytes && n > 1 && bytes[0] == ' ' && !memchr(bytes + 1, ' ', n - 1);
    if (is_word) str_put(word, bytes + 1, n - 1);
    ids_free(&ids);
    return is_word;
}

TEST(eval_task_cloze) {
    Tiny y = tiny();
    prefer_words(&y);
    Err e = {0};
    Str lines = {0};
    double nats = 0;
    int n = 0, right = 0;
    for (int i = 0; i < 26; i++) {
        const char context[] = {(char)('z' - i), ' ', 'o', 'n', (char)('a' + i), 0};
        Str word = {0};
        bool known = i % 3 && likely_word(&y, context, &word);
        if (!known) str_puts(&word, i % 2 ? "dog" : "zebra-stripes");
        if (known || i % 5 == 0) {
            bool likeliest;
            int n_tokens;
            nats += target_loss(&y, context, word.p, &n_tokens, &likeliest);
            right += likeliest, n++;
            str_printf(&lines, "{\"text\": \"%s %s%s\"}\n", context, word.p, i == 0 ? "\\n" : "");
        }
        str_free(&word);
    }
    /* More than the context holds: the beginning is not read. */
    const char *far = "a b c d e f g h i j k l m n o p the cat sat on the";
    bool far_likeliest;
    int far_tokens;
    nats += target_loss(&y, far, "log", &far_tokens, &far_likeliest);
    right += far_likeliest, n++;
    str_printf(&lines, "{\"text\": \"%s log\"}\n", far);
    EXPECT(right > 2 && right < n - 2, "%d of %d", right, n);
    EvalTask r;
    EXPECT(run_task(&y, lines.p, &r, &e));
    EXPECT_OK(&e);
    EXPECT(!strcmp(r.kind, "cloze") && r.items == (uint64_t)n);
    EXPECT(r.accuracy == (double)right / n, "%g, %d of %d", r.accuracy, right, n);
    EXPECT(fabs(log(r.perplexity) * n / nats - 1) < 1e-6);
    str_free(&lines);
    tiny_free(&y);
}

TEST(eval_task_refuses) {
    static const struct {
        const char *lines, *why;
    } cases[] = {
        {"\n \n", "holds no items"},
        {"{\"text\": \"a b\"}\n{\"text\": 3}\n", "task.jsonl:2: \"text\" must be a text"},
        {"{\"text\": \"a b\"}\n\n{\"text\": \"word\"}\n",
         "task.jsonl:3: \"text\" must hold at least two words"},
        {"{\"text\": \" word \"}\n", "at least two words"},
        {"{\"text\": \"a b\"\n", "task.jsonl:1: is not a JSON object"},
        {"{\"text\": \"a b\"} x\n", "is not a JSON object"},
        {"[1]\n", "is not a JSON object"},
        {"{\"text\": \"caf\xe9 b\"}\n", "task.jsonl:1: is not valid UTF-8"},
        {"{\"txt\": \"a b\"}\n", "has neither"},
        {"{\"text\": \"the extraordinarily-long-word-of-more-than-sixteen-tokens\"}\n",
         "longer than the model's context"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 2}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": -1}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0.5}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"1x\"}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": \"\"}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"]}\n", "\"label\" must be"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\"], \"label\": 0}\n", "two or more"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"\"], \"label\": 0}\n", "none of them empty"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", 4], \"label\": 0}\n", "a list of texts"},
        {"{\"endings\": [\"b\", \"c\"], \"label\": 0}\n", "\"ctx\" must be a text"},
        {"{\"ctx\": \"a\", \"endings\": [\"b\", \"c\"], \"label\": 0}\n{\"text\": \"a b\"}\n",
         "task.jsonl:2: \"ctx\""},
    };
    Tiny y = tiny();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EvalTask r;
        Err e = {0};
        EXPECT(!run_task(&y, cases[i].lines, &r, &e), "case %zu", i);
        EXPECT_ERR(&e, cases[i].why);
    }
    tiny_free(&y);
}
