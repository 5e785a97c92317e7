/* test_config.c - config.c: the key table read, refused, printed and read back. */
#include "config.h"
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_text(Config *c, const char *json, Err *e) {
    char *path = path_join(test_dir(), "c.json");
    config_defaults(c);
    bool ok = file_write(path, json, strlen(json), e) && config_read(c, path, e);
    free(path);
    return ok;
}

TEST(config_reads_every_kind) {
    Config c;
    Err e = {0};
    EXPECT(
        read_text(
            &c,
            "{\"name\": \"x\", \"model\": {\"n_embd\": 48, \"n_inner\": null, \"tie_word_embeddings\": "
            "false},"
            " \"data\": {\"train\": [\"a.bin\", {\"path\": \"b\", \"weight\": 0.25}], \"shuffle\": false},"
            " \"optimizer\": {\"betas\": [0.8, 0.99], \"lr\": 1e-3}, \"lr_schedule\": {\"name\": \"wsd\"}}",
            &e),
        "%s", e.msg);
    EXPECT(!strcmp(c.name, "x") && c.model.n_embd == 48 && c.model.n_layer == 12 &&
           !c.model.tie_word_embeddings);
    EXPECT(c.data.train.n == 2 && c.data.train.at[0].weight == 1 && c.data.train.at[1].weight == 0.25);
    EXPECT(!strcmp(c.data.train.at[1].path, "b") && !c.data.shuffle);
    EXPECT(c.optimizer.betas[0] == 0.8 && c.optimizer.betas[1] == 0.99 && c.optimizer.lr == 1e-3);
    EXPECT(!strcmp(c.lr_schedule.name, "wsd"));
}

TEST(config_printed_reads_back) {
    static Config a, b;
    Err e = {0};
    config_defaults(&a);
    EXPECT(config_set(&a, "optimizer.lr=0.00061234567890123", &e) && config_set(&a, "name=a \"b\"", &e));
    EXPECT(config_set(&a, "data.train=[{\"path\":\"s.bin\",\"weight\":3}]", &e) &&
           config_set(&a, "data.val={\"path\":\"v\",\"name\":\"n\",\"val\":\"h\",\"epochs\":0.5}", &e));
    EXPECT(config_set(&a, "train.max_steps=77", &e) && config_set(&a, "optimizer.betas=[0.5,0.75]", &e));
    Str s = {0};
    config_print(&a, &s);
    EXPECT(read_text(&b, s.p, &e), "%s", e.msg);
    EXPECT(!memcmp(&a, &b, sizeof a), "%s", s.p);
    str_free(&s);
    EXPECT_OK(&e);
}

TEST(config_refuses) {
    static const struct {
        const char *json, *error;
    } bad[] = {
        {"{\"model\": {\"n_head\": \"12\"}}", "model.n_head is a text; it must be a number"},
        {"{\"model\": {\"n_head\": 1.5}}", "model.n_head is 1.5; it must be a whole number from 1 to 4096"},
        {"{\"model\": {\"n_heads\": 12}}", "unknown key \"model.n_heads\"; did you mean \"model.n_head\"?"},
        {"{\"max_steps\": 12}", "unknown key \"max_steps\"; did you mean \"train.max_steps\"?"},
        {"{\"train\": {\"batch_size\": 12}}", "batch_size"},
        {"{\"train\": {\"precision\": \"fp17\"}}", "it must be one of auto|fp32|bf16"},
        {"{\"train\": 3}", "train is a number; it must be an object"},
        {"{\"optimizer\": {\"betas\": [0.9]}}", "list of two numbers"},
        {"{\"optimizer\": {\"betas\": [0.9, 1]}}",
         "optimizer.betas is 1; it must be a number from 0 to 0.9999999"},
        {"{\"data\": {\"train\": [{\"weight\": 1}]}}", "has no path"},
        {"{\"data\": {\"train\": [{\"path\": \"a\", \"wieght\": 1}]}}", "no key \"wieght\""},
        {"{\"name\": \"a\", \"name\": \"b\"}", "name is given twice"},
        {"{\n\"name\":\n oops}", "look at line 3"},
        {"[]", "must hold one JSON object"},
        {"", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Config c;
        Err e = {0};
        EXPECT(!read_text(&c, bad[i].json, &e), "case %zu", i);
        EXPECT(e.code == EXIT_USAGE);
        EXPECT_ERR(&e, bad[i].error);
    }
}

TEST(config_checks_what_one_key_cannot_know) {
    static const struct {
        const char *set[2], *error;
    } bad[] = {
        {{"model.n_head=7", ""}, "model.n_head 7 does not divide model.n_embd 768"},
        {{"train.seq_len=2048", ""}, "train.seq_len 2048 is longer than model.n_positions 1024"},
        {{"train.micro_batch_size=3", "train.global_batch_size=8"},
         "does not divide train.global_batch_size"},
        {{"data.train=[]", ""}, "data.train names no token shards"},
        {{"name=", ""}, "give the run a name"},
        {{"name=a/b", ""}, "must be a plain word"},
        {{"lr_schedule.min_lr=1", ""}, "is above optimizer.lr"},
    };
    Config good;
    Err e = {0};
    config_defaults(&good);
    EXPECT(config_set(&good, "name=x", &e) && config_set(&good, "data.train=t.bin", &e));
    EXPECT(config_check(&good, &e), "%s", e.msg);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Config c = good;
        for (int j = 0; j < 2; j++)
            if (*bad[i].set[j]) EXPECT(config_set(&c, bad[i].set[j], &e), "%s", e.msg);
        EXPECT(!config_check(&c, &e), "case %zu", i);
        EXPECT_ERR(&e, bad[i].error);
    }
    EXPECT(!config_set(&good, "train.max_steps", &e));
    EXPECT_ERR(&e, "write key=value");
    EXPECT(!config_set(&good, "train.max_step=1", &e));
    EXPECT_ERR(&e, "did you mean \"train.max_steps\"");
    EXPECT(!config_set(&good, "train.max_steps=1x", &e));
    EXPECT_ERR(&e, "cannot read the value");
}

TEST(config_hugging_face) {
    ModelConfig m, back;
    Err e = {0};
    const char *gpt1 =
        "{\"model_type\": \"openai-gpt\", \"afn\": \"gelu\", \"n_embd\": 48, \"n_head\": 4, \"n_layer\": 2,"
        " \"n_positions\": 64, \"vocab_size\": 99, \"summary_type\": \"cls_index\","
        " \"bos_token_id\": null, \"eos_token_id\": 7}";
    EXPECT(model_read(&m, gpt1, strlen(gpt1), "config.json", &e), "%s", e.msg);
    EXPECT(m.n_layer == 2 && m.vocab_size == 99 && !strcmp(m.activation_function, "gelu_new"));
    EXPECT(m.bos_token_id == -1 && m.eos_token_id == 7);
    Str s = {0};
    model_print(&m, &s);
    EXPECT(strstr(s.p, "\"afn\": \"gelu\"") && strstr(s.p, "OpenAIGPTLMHeadModel"));
    EXPECT(strstr(s.p, "\"bos_token_id\": null") && strstr(s.p, "\"eos_token_id\": 7"));
    EXPECT(model_read(&back, s.p, s.n, "config.json", &e), "%s", e.msg);
    EXPECT(!memcmp(&m, &back, sizeof m), "%s", s.p);
    str_free(&s);
    static const struct {
        const char *json, *error;
    } bad[] = {
        {"{\"model_type\": \"gpt2\", \"activation_function\": \"relu\", \"vocab_size\": 9}",
         "must be one of gelu_new"},
        {"{\"model_type\": \"llama\", \"vocab_size\": 9}", "must be one of gpt2|openai-gpt|gpt3"},
        {"{\"vocab_size\": 9}", "has no model_type"},
        {"{\"model_type\": \"gpt2\"}", "has no vocab_size"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 9, \"n_head\": 5}", "does not divide"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 9, \"reorder_and_upcast_attn\": true}",
         "is not supported"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(!model_read(&m, bad[i].json, strlen(bad[i].json), "config.json", &e), "case %zu", i);
        EXPECT(e.code == EXIT_FAULT);
        EXPECT_ERR(&e, bad[i].error);
    }
}
