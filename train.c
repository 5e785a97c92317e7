/* train.c - floor 6: see train.h.
 *
 * The loop: for each step, the global batch in micro batches through gpt_forward_backward, the gradient norm, the
 * optimizer, a line of metrics; evaluation, samples and checkpoints on the way. Everything a step depends on is a
 * function of (config, step) and of what a checkpoint holds, so stopping anywhere and resuming changes nothing. */
#include "train.h"

#include "checkpoint.h"
#include "dataloader.h"
#include "gpt.h"
#include "heldout.h"
#include "mixing.h"
#include "optim.h"
#include "plan.h"
#include "sample.h"
#include "tokenizer.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* A step that is queued, and whose verdict has not been read. */
typedef struct Pending {
    bool open;
    int64_t step;
    double lr, from; /* when the host began it, or read the verdict of the step before, if that was later */
} Pending;

typedef struct Run {
    Config c; /* resolved */
    char *dir, *tokenizer_dir;
    Grid grid;
    Comm *world; /* all ranks, without a back end's memory: for setting up */
    Comm *comm;  /* the grid's; NULL when alone */
    const Ops *ops;
    Dtype compute;
    Gpt *gpt;
    Optim optim;
    Tokenizer *tokenizer;
    Loader *train, *val;
    Mixing *mixing;   /* NULL: the loader's own, of weights that stay */
    double val_floor; /* nats per token, NAN if unknown */
    TrainState state;
    int lock, metrics, log;    /* file descriptors */
    int B, T;                  /* of a micro batch */
    int32_t *tokens, *targets; /* [B, T] */
    int64_t traced_to;         /* the timeline ends after this step */
    int64_t step, saved;       /* last step queued, last step saved */
    bool stop;                 /* a rank was asked to, and all know */
    double data_seconds;       /* spent on reading since the last step was settled */
    Pending pending;
    double settled; /* when */
    double peak_flops, seconds_a_step;
} Run;

/* ---- signals: the first asks for a clean stop, the second ends at once ------------------------------------ */

static volatile sig_atomic_t stop_asked, asks_again;

/* A rank may be asked more than once: by what ends all processes of a job, and by its mpirun, which that ends as well. There
 * only Ctrl-C ends at once. */
static void on_signal(int sig) {
    if (stop_asked && (sig == SIGINT || !asks_again)) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
    stop_asked = sig;
}

static void catch_signals(void) {
    struct sigaction s = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&s.sa_mask);
    stop_asked = 0, asks_again = comm_world() > 1;
    sigaction(SIGINT, &s, NULL);
    sigaction(SIGTERM, &s, NULL);
    sigaction(SIGUSR1, &s, NULL); /* which mpirun hands on to its ranks at once */
}

/* An error of one rank is one of all. */
static bool agreed(Run *r, bool ok, Err *e) {
    return comm_agree(r->world, ok, e);
}

/* ---- setting up ------------------------------------------------------------------------------------------ */

static bool choose_precision(Run *r, Err *e) {
    Str set = {0};
    if (!ops_precision(r->ops, r->c.train.precision, &r->compute, e)) return false;
    if (r->c.optimizer.stochastic_rounding && !r->ops->mirror(r->compute))
        return err_usage(
            e, "config: optimizer.stochastic_rounding: on this device (%s) %s keeps no bf16 weights to round",
            r->ops->name, dtype_names[r->compute]);
    str_printf(&set, "train.precision=%s", dtype_names[r->compute]);
    bool ok = config_set(&r->c, set.p, e);
    str_free(&set);
    return ok;
}

/* The architecture comes from init_from, if there is one, with the run's own dropout; the vocabulary's size from the
 * tokenizer, if the config leaves it open. */
static bool resolve_model(Run *r, Err *e) {
    Config *c = &r->c;
    if (*c->init_from) {
        ModelConfig m;
        if (!model_config_of(c->init_from, &m, e)) return false;
        m.resid_pdrop = c->model.resid_pdrop, m.embd_pdrop = c->model.embd_pdrop,
        m.attn_pdrop = c->model.attn_pdrop;
        c->model = m;
    }
    r->tokenizer_dir = *c->tokenizer   ? xstrdup(c->tokenizer)
                       : *c->init_from ? model_tokenizer(c->init_from)
                                       : NULL;
    if (r->tokenizer_dir && !(r->tokenizer = tokenizer_open(r->tokenizer_dir, e))) return false;
    int64_t ids = r->tokenizer ? tokenizer_size(r->tokenizer) : 0;
    if (!c->model.vocab_size && !ids)
        return err_usage(e,
                         "config: model.vocab_size is not given, and there is no tokenizer to take it from");
    if (!c->model.vocab_size) c->model.vocab_size = ids;
    if (r->tokenizer && tokenizer_eot(r->tokenizer) >= 0) /* one id ends a document and begins the next */
        c->model.bos_token_id = c->model.eos_token_id = tokenizer_eot(r->tokenizer);
    if (ids > c->model.vocab_size)
        return err_usage(e, "config: tokenizer %s has %lld ids, more than model.vocab_size %lld",
                         r->tokenizer_dir, (long long)ids, (long long)c->model.vocab_size);
    if (!c->train.seq_len) c->train.seq_len = c->model.n_positions;
    return true;
}

/* ---- the grid of ranks ----------------------------------------------------------------------------------- */

static bool choose_grid(Run *r, Err *e) {
    Config *c = &r->c;
    const int64_t N = comm_world(), model = c->parallel.tensor * c->parallel.pipeline;
    Str s = {0};
    bool ok = N % model == 0;
    str_divisors(&s, N, N);
    if (!ok)
        err_usage(
            e,
            "config: parallel.tensor=%lld times parallel.pipeline=%lld does not divide %lld ranks; %s would",
            (long long)c->parallel.tensor, (long long)c->parallel.pipeline, (long long)N, s.p);
    else if (c->parallel.data && c->parallel.data * model != N)
        ok = err_usage(
            e,
            "config: parallel.data=%lld times tensor=%lld times pipeline=%lld is not the %lld ranks that "
            "were started; parallel.data=%lld would fit",
            (long long)c->parallel.data, (long long)c->parallel.tensor, (long long)c->parallel.pipeline,
            (long long)N, (long long)(N / model));
    str_free(&s);
    if (!ok) return false;
    c->parallel.data = N / model;
    r->grid =
        grid_at((int)(N / model), (int)c->parallel.pipeline, (int)c->parallel.tensor, comm_world_rank());
    return true;
}

/* Sequences of a global batch that a data rank has, and how many micro steps they are. The micro batch is, if left open,
 * the largest that fits, and has at most 4096 tokens. */
static bool resolve_micro_batch(Run *r, Err *e) {
    Config *c = &r->c;
    const int64_t all = c->train.global_batch_size, dp = r->grid.dp;
    if (all % dp)
        return err_usage(e, "config: train.global_batch_size=%lld is not a multiple of the %lld data ranks",
                         (long long)all, (long long)dp);
    const int64_t own = all / dp;
    if (!c->train.micro_batch_size) c->train.micro_batch_size = plan_micro_batch(c, r->grid.dp);
    return own % c->train.micro_batch_size == 0 ||
           err_usage(
               e, "config: train.micro_batch_size=%lld does not divide the %lld sequences of each data rank",
               (long long)c->train.micro_batch_size, (long long)own);
}

static int64_t micro_steps(const Run *r) {
    return r->c.train.global_batch_size / r->grid.dp / r->c.train.micro_batch_size;
}

/* Cores are shared by the ranks on a host. */
static int choose_threads(const Run *r) {
    const int64_t cores = sysconf(_SC_NPROCESSORS_ONLN), ranks = comm_local_ranks();
    if (r->c.train.threads || ranks == 1) return (int)r->c.train.threads;
    return cores > ranks ? (int)(cores / ranks) : 1;
}

static GptOptions options_of(const Run *r) {
    GptOptions o = plan_options(&r->c, r->ops, r->compute, &r->grid);
    o.comm = r->comm;
    return o;
}

/* The largest micro batch that fits `room` bytes with this kind of recomputation; 0 if none does. */
static int64_t largest_that_fits(const Run *r, Recompute recompute, size_t room) {
    GptOptions o = options_of(r);
    o.recompute = recompute;
    for (int64_t b = r->c.train.micro_batch_size; b >= 1; b--) {
        GptMemory m;
        size_t optimizer, total;
        Err ignored = {0};
        o.B = (int)b;
        if (r->c.train.global_batch_size / r->grid.dp % b == 0 &&
            plan_memory(&r->c, &o, &m, &optimizer, &total, &ignored) && total <= room)
            return b;
    }
    return 0;
}

/* Print the plan as a table; when the machine cannot hold it, say which settings would fit. */
static bool fits_memory(const Run *r, Err *e) {
    GptOptions o = options_of(r);
    GptMemory m;
    size_t optimizer, total, room = r->ops->room();
    char b[8][24];
    if (!plan_memory(&r->c, &o, &m, &optimizer, &total, e)) return false;
    note("memory: weights %s, gradients %s, optimizer %s, prepared weights %s, activations %s, workspace %s: "
         "%s",
         human_bytes((double)m.weights, b[0]), human_bytes((double)m.gradients, b[1]),
         human_bytes((double)optimizer, b[2]), human_bytes((double)(m.prepared + m.mirror), b[3]),
         human_bytes((double)m.activations, b[4]), human_bytes((double)m.workspace, b[5]),
         human_bytes((double)total, b[6]));
    if (!room || total <= room) return true;
    for (Recompute k = o.recompute; k <= RECOMPUTE_BLOCK; k++) {
        const int64_t fits = largest_that_fits(r, k, room);
        if (!fits) continue;
        return err_set(e, "needs %s of memory, and %s are free; %s%s%strain.micro_batch_size=%lld would fit",
                       b[6], human_bytes((double)room, b[7]),
                       k == o.recompute ? "" : "train.recompute=", k == o.recompute ? "" : recompute_names[k],
                       k == o.recompute ? "" : " with ", (long long)fits);
    }
    return err_set(e, "needs %s of memory, and %s are free; no micro batch of this model fits this machine",
                   b[6], human_bytes((double)room, b[7]));
}

static Loader *open_loader(const Run *r, const DataSources *s, bool shuffle, Err *e) {
    Source at[CONFIG_SOURCES];
    for (int i = 0; i < s->n; i++) at[i] = (Source){s->at[i].path, s->at[i].weight};
    return loader_open(at, s->n, r->T, shuffle, (uint64_t)r->c.train.seed, (int32_t)r->c.model.vocab_size, e);
}

/* Validation shards that our grammar wrote know the lowest loss any model can reach. */
static bool find_floor(Run *r, Err *e) {
    r->val_floor = NAN;
    if (r->c.data.val.n != 1) return true;
    ShardInfo info;
    if (!shard_info(r->c.data.val.at[0].path, &info, e)) return false;
    if (info.nats > 0 && info.tokens) r->val_floor = info.nats / (double)info.tokens;
    return true;
}

static bool open_data(Run *r, Err *e) {
    char b[24];
    r->B = (int)r->c.train.micro_batch_size, r->T = (int)r->c.train.seq_len;
    r->train = open_loader(r, &r->c.data.train, r->c.data.shuffle, e);
    if (!r->train) return false;
    if (r->c.data.val.n && !(r->val = open_loader(r, &r->c.data.val, false, e))) return false;
    if (!mixing_open(&r->mixing, &r->c, r->train, e)) return false;
    note("data: %s training tokens, %.2f epochs in %lld steps",
         human_count((double)loader_tokens(r->train), b),
         (double)r->c.train.max_steps * (double)r->c.train.global_batch_size /
             (double)loader_sequences(r->train),
         (long long)r->c.train.max_steps);
    size_t n = (size_t)r->B * (size_t)r->T;
    r->tokens = xcalloc(n, sizeof *r->tokens);
    r->targets = xcalloc(n, sizeof *r->targets);
    return find_floor(r, e);
}

/* What will be trained, on what; does it fit? */
static bool plan_run(const Run *r, Err *e) {
    char b[24], line[256];
    GptOptions o = options_of(r);
    r->ops->describe(line, sizeof line);
    note("%s: %s", r->ops->name, line);
    if (*r->c.notes) note("%s", r->c.notes);
    if (r->grid.ranks > 1)
        note("grid: %d ranks: data %d, pipeline %d, tensor %d", r->grid.ranks, r->grid.dp, r->grid.pp,
             r->grid.tp);
    note("model: %s, %s parameters, %s", r->c.model.model_type,
         human_count((double)gpt_count(&r->c.model, true), b), r->c.train.precision);
    return gpt_grid_check(&r->c.model, &o, e) && fits_memory(r, e);
}

static bool build_model(Run *r, Err *e) {
    const GptOptions o = options_of(r);
    if (!agreed(r, mixing_reference(r->mixing, &o, e), e)) return false;
    r->gpt = gpt_create(&r->c.model, &o, e);
    return r->gpt && optim_create(&r->optim, r->gpt, &r->c, e);
}

/* ---- the run's folder ------------------------------------------------------------------------------------ */

static bool folder_is_empty(const char *dir) {
    char **names;
    int n;
    Err ignored = {0};
    bool empty = !path_is_dir(dir) || (dir_list(dir, &names, &n, &ignored) && (names_free(names, n), n == 0));
    return empty;
}

/* Remove what a run writes, and nothing else: `out` may be any folder. */
static bool clear_run(const char *dir, Err *e) {
    static const char *const ours[] = {"checkpoints", "metrics.jsonl", "config.json",
                                       "latest",      "logs",          "trace.json"};
    bool ok = true;
    for (size_t i = 0; i < sizeof ours / sizeof *ours && ok; i++) {
        char *p = path_join(dir, ours[i]);
        ok = dir_remove(p, e);
        free(p);
    }
    return ok;
}

static bool check_folder(Run *r, const TrainOptions *o, Err *e) {
    r->dir = *r->c.out ? xstrdup(r->c.out) : path_join("runs", r->c.name);
    if (path_exists(r->dir) && !path_is_dir(r->dir))
        return err_set(e, "%s: is a file; a folder is needed for the run", r->dir);
    if (!o->resume && !o->overwrite && !folder_is_empty(r->dir))
        return err_usage(e, "%s: exists already; --resume goes on with it, --overwrite starts it again",
                         r->dir);
    return true;
}

/* Two processes in one folder would spoil each other's files. The lock goes with the process, however it ends. */
static bool lock_folder(Run *r, Err *e) {
    char *path = path_join(r->dir, ".lock");
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    bool ok = r->lock >= 0 || err_set(e, "%s: cannot write: %s", path, strerror(errno));
    if (ok && flock(r->lock, LOCK_EX | LOCK_NB) != 0)
        ok = err_set(e, "%s: another process trains in this folder", r->dir);
    free(path);
    return ok;
}

/* Each rank of several keeps what it has to say in a file of its own; the first says it as well. */
static bool open_log(Run *r, Err *e) {
    Str path = {0};
    if (r->grid.ranks == 1) return true;
    str_printf(&path, "%s/logs/rank-%05d.log", r->dir, r->grid.rank);
    r->log = open(path.p, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    const bool ok = r->log >= 0 || err_set(e, "%s: cannot write: %s", path.p, strerror(errno));
    str_free(&path);
    note_to(grid_is_root(&r->grid), r->log);
    return ok;
}

/* The root rank's. */
static bool open_folder(Run *r, const TrainOptions *o, Err *e) {
    if (!dir_make(r->dir, e) || !lock_folder(r, e)) return false;
    if (o->overwrite && !o->resume && !clear_run(r->dir, e)) return false;
    Str json = {0};
    char *path = path_join(r->dir, "config.json"), *logs = path_join(r->dir, "logs");
    config_print(&r->c, &json);
    bool ok = file_write(path, json.p, json.n, e) && (r->grid.ranks == 1 || dir_make(logs, e));
    str_free(&json);
    free(path);
    free(logs);
    return ok;
}

/* ---- metrics.jsonl --------------------------------------------------------------------------------------- */

/* The step of a whole line of metrics, -1 for a broken one. */
static int64_t step_of_line(const char *line, size_t n) {
    long long step;
    if (n < 2 || line[n - 1] != '}' || sscanf(line, "{\"step\": %lld,", &step) != 1) return -1;
    return step;
}

/* Keep the whole lines of steps up to `step`, each once, then open for appending. */
static bool open_metrics(Run *r, Err *e) {
    char *path = path_join(r->dir, "metrics.jsonl"), *text = NULL, *line;
    size_t n;
    bool ok = true;
    if (path_exists(path)) {
        OutFile f;
        ok = file_read(path, SIZE_MAX - 1, &text, &n, e) && file_create(&f, path, e);
        int64_t last = 0;
        for (line = text; ok && *line;) {
            size_t len = strcspn(line, "\n");
            int64_t s = step_of_line(line, len);
            if (s > last && s <= r->step) last = s, file_put(&f, line, len), file_put(&f, "\n", 1);
            line += len + (line[len] == '\n');
        }
        ok = ok && file_commit(&f, e);
    }
    r->metrics = ok ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    if (ok && r->metrics < 0) ok = err_set(e, "%s: cannot write: %s", path, strerror(errno));
    free(path);
    free(text);
    return ok;
}

typedef struct StepReport {
    int64_t step;
    double loss, lr, grad_norm, seconds, tokens_per_second, mfu, val_loss;
    double comm_seconds, data_seconds; /* of a step's: in communication that nothing hid; waiting for data */
    bool skipped, published;           /* new weights of the mixture */
} StepReport;

static void put_number(Str *s, const char *key, double x) {
    if (isfinite(x))
        str_printf(s, ", \"%s\": %.17g", key, x);
    else
        str_printf(s, ", \"%s\": null", key);
}

static bool write_metrics(const Run *r, const StepReport *p, Err *e) {
    Str s = {0};
    if (!grid_is_root(&r->grid)) return true;
    str_printf(&s, "{\"step\": %lld", (long long)p->step);
    put_number(&s, "loss", p->loss);
    put_number(&s, "lr", p->lr);
    put_number(&s, "grad_norm", p->grad_norm);
    str_printf(&s, ", \"tokens\": %lld", (long long)(p->step * r->c.train.global_batch_size * r->T));
    put_number(&s, "tokens_per_second", p->tokens_per_second);
    put_number(&s, "mfu", p->mfu);
    put_number(&s, "seconds", p->seconds);
    if (r->comm)
        put_number(&s, "comm_seconds", p->comm_seconds), put_number(&s, "data_seconds", p->data_seconds);
    if (!isnan(p->val_loss)) put_number(&s, "val_loss", p->val_loss);
    if (p->skipped) str_puts(&s, ", \"skipped\": true");
    if (p->published) str_puts(&s, ", \"mixing\": "), mixing_print(r->mixing, &s);
    str_puts(&s, "}\n");
    bool ok = write(r->metrics, s.p, s.n) == (ssize_t)s.n; /* one write a line: a kill leaves whole lines */
    str_free(&s);
    return ok || err_set(e, "%s/metrics.jsonl: cannot write: %s", r->dir, strerror(errno));
}

/* ---- checkpoints ----------------------------------------------------------------------------------------- */

static bool save(Run *r, Err *e) {
    const Moment moments[] = {{"m", r->optim.m, r->optim.elements}, {"v", r->optim.v, r->optim.adamw}};
    if (r->saved == r->step) return true;
    gpt_weights_share(r->gpt, true);
    state_set(&r->state, "step", (double)r->step);
    mixing_save(r->mixing, &r->state);
    if (!checkpoint_save(r->dir, r->step, r->gpt, moments, 2, &r->state, r->tokenizer_dir,
                         r->c.train.keep_checkpoints, e))
        return false;
    r->saved = r->step;
    return true;
}

static bool load_or_init(Run *r, const TrainOptions *o, Err *e) {
    const Moment moments[] = {{"m", r->optim.m, r->optim.elements}, {"v", r->optim.v, r->optim.adamw}};
    char *dir = NULL;
    bool ok = true;
    r->saved = -1;
    if (o->resume && !checkpoint_newest(r->dir, gpt_options(r->gpt)->comm, &dir, &r->step, e)) return false;
    if (dir) {
        ok = checkpoint_load(dir, r->gpt, moments, 2, &r->state, e);
        r->saved = r->step = (int64_t)state_get(&r->state, "step", 0);
        if (ok) note("resumed from %s", dir);
    } else {
        if (o->resume) note("%s has no complete checkpoint yet; starting from the beginning", r->dir);
        if (*r->c.init_from)
            ok = model_load(r->gpt, r->c.init_from, e);
        else
            gpt_init(r->gpt, (uint64_t)r->c.train.seed);
    }
    free(dir);
    if (ok) gpt_weights_changed(r->gpt, false);
    return ok && mixing_load(r->mixing, &r->state, r->step, e);
}

/* ---- a step ---------------------------------------------------------------------------------------------- */

/* Sequences of micro step i of this rank: micro steps take turns over the data ranks, so that the order in which rows
 * are read does not depend on how many there are. */
static bool next_batch(void *run, int64_t i, Batch *b, Err *e) {
    Run *r = run;
    const double from = now_seconds();
    const int64_t row = (i * r->grid.dp + r->grid.dp_rank) * r->B, all = r->c.train.global_batch_size;
    if (!loader_rows(r->train, (uint64_t)(r->step * all + row), r->B, r->tokens, r->targets, e)) return false;
    *b = (Batch){.tokens = r->tokens,
                 .targets = r->targets,
                 .B = r->B,
                 .T = r->T,
                 .step = (uint64_t)r->step,
                 .first_row = (uint64_t)row,
                 .seed = (uint64_t)r->c.train.seed};
    r->data_seconds += now_seconds() - from;
    return true;
}

/* Forward and backward of the whole global batch. */
static bool accumulate(Run *r, Err *e) {
    const int64_t all = r->c.train.global_batch_size;
    mixing_deal(r->mixing, r->step);
    loader_prefetch(r->train, (uint64_t)((r->step + 1) * all), (int)all);
    return gpt_accumulate(r->gpt, micro_steps(r), next_batch, r, 1.0f / ((float)all * (float)r->T), e);
}

/* A loss above this is an outlier among the recent ones. The window is exponential, 1/64 a step; its mean and variance
 * are part of the training state. Losses of skipped steps do not enter it. */
static double worst_loss(const Run *r) {
    const double z = r->c.train.spike_zscore;
    if (z == 0 || state_get(&r->state, "loss_count", 0) < 64) return INFINITY;
    return state_get(&r->state, "loss_mean", 0) + z * sqrt(state_get(&r->state, "loss_var", 0));
}

static void remember_loss(Run *r, double loss) {
    const double n = state_get(&r->state, "loss_count", 0), mean = state_get(&r->state, "loss_mean", loss),
                 var = state_get(&r->state, "loss_var", 0), d = loss - mean,
                 a = n < 64 ? 1 / (n + 1) : 1.0 / 64;
    state_set(&r->state, "loss_mean", mean + a * d);
    state_set(&r->state, "loss_var", (1 - a) * (var + a * d * d));
    state_set(&r->state, "loss_count", n + 1);
}

/* A step whose loss or gradient was not finite, or whose loss was a spike, changed no weight. */
static bool skip_step(Run *r, const StepReport *p, Err *e) {
    double in_a_row = state_get(&r->state, "skips_in_a_row", 0) + 1;
    state_set(&r->state, "skips_in_a_row", in_a_row);
    state_set(&r->state, "skips", state_get(&r->state, "skips", 0) + 1);
    note("step %lld: loss %g, gradient norm %g: skipped (%.0f in a row, %.0f in all)", (long long)p->step,
         p->loss, p->grad_norm, in_a_row, state_get(&r->state, "skips", 0));
    if (in_a_row >= (double)r->c.train.max_skips)
        return err_set(
            e,
            "%.0f steps in a row were skipped (train.max_skips); try a lower optimizer.lr or a longer "
            "warmup, and --resume from the last checkpoint",
            in_a_row);
    return true;
}

static void add_up(void *sum, uint64_t row, int n, int T, const float *losses) {
    (void)row;
    for (int64_t i = 0; i < (int64_t)n * T; i++) *(double *)sum += losses[i];
}

/* Mean loss over the first eval_batches global batches of the validation data (at most all of it, once). */
static bool evaluate(Run *r, double *loss, Err *e) {
    uint64_t rows = (uint64_t)(r->c.train.eval_batches * r->c.train.global_batch_size),
             all = loader_sequences(r->val);
    double sum = 0;
    if (rows > all) rows = all;
    if (!heldout_losses(r->gpt, r->val, rows, add_up, &sum, e)) return false;
    heldout_sum(r->comm, &sum, 1);
    *loss = sum / ((double)rows * r->T);
    return true;
}

static void collect(void *ctx, int i, const char *text, size_t n, bool last) {
    (void)i, (void)last;
    str_put(ctx, text, n);
}

/* By the ranks of one whole model, which go through it together; the others wait. */
static bool print_sample(Run *r, Err *e) {
    SampleParams p;
    if (r->grid.dp_rank) return true;
    SampleStats stats;
    Str text = {0};
    int32_t start = tokenizer_eot(r->tokenizer);
    sample_defaults(&p);
    p.seed = (uint64_t)r->step;
    p.max_tokens = r->T < 128 ? r->T - 1 : 127;
    bool ok = start < 0 || sample_run(r->gpt, r->tokenizer, &start, 1, 1, &p, collect, &text, &stats, e);
    if (ok && text.p) note("a sample at step %lld:\n%s", (long long)r->step, text.p);
    str_free(&text);
    return ok;
}

/* ---- reports --------------------------------------------------------------------------------------------- */

static bool is_due(int64_t step, int64_t interval) {
    return interval > 0 && step % interval == 0;
}

static void show_progress(Run *r, const StepReport *p) {
    char left[24], rate[24];
    int64_t last = r->c.train.max_steps;
    bool line = is_due(p->step, r->c.train.log_interval) || p->step == last;
    r->seconds_a_step = r->seconds_a_step ? 0.95 * r->seconds_a_step + 0.05 * p->seconds : p->seconds;
    if (!line && !progress_is_terminal()) return;
    progress_line(line, "step %lld/%lld  loss %.4f  lr %.2e  norm %.2f  %s tok/s  %.1f%% MFU  %s left",
                  (long long)p->step, (long long)last, p->loss, p->lr, p->grad_norm,
                  human_count((double)r->c.train.global_batch_size * r->T / r->seconds_a_step, rate),
                  100 * p->mfu, human_time((double)(last - p->step) * r->seconds_a_step, left));
}

static void show_validation(const Run *r, double loss) {
    if (isnan(r->val_floor))
        note("step %lld: validation loss %.4f, perplexity %.2f", (long long)r->step, loss, exp(loss));
    else
        note("step %lld: validation loss %.4f, %.1f%% above the grammar's floor of %.4f nats a token",
             (long long)r->step, loss, 100 * (loss / r->val_floor - 1), r->val_floor);
}

/* Is there more to do after this step than to report it? */
static bool is_stop(const Run *r) {
    const Config *c = &r->c;
    return r->step == c->train.max_steps || r->stop || (r->val && is_due(r->step, c->train.eval_interval)) ||
           (r->tokenizer && is_due(r->step, c->train.sample_interval)) ||
           is_due(r->step, c->train.checkpoint_interval) || mixing_is_due(r->mixing, r->step) ||
           (trace_is_on() && r->step >= r->traced_to) ||
           (r->comm && is_due(r->step, c->parallel.checksum_interval));
}

static bool report(Run *r, StepReport *p, Err *e) {
    const Config *c = &r->c;
    const bool now = p->step == r->step, last = p->step == c->train.max_steps;
    p->val_loss = NAN;
    if (now && r->val && (last || is_due(p->step, c->train.eval_interval)) && !evaluate(r, &p->val_loss, e))
        return false;
    p->published = now && mixing_is_due(r->mixing, p->step);
    if (p->published && !mixing_publish(r->mixing, r->gpt, e)) return false;
    if (!write_metrics(r, p, e)) return false;
    show_progress(r, p);
    if (!isnan(p->val_loss)) show_validation(r, p->val_loss);
    return true;
}

/* Read the verdict on the queued step, and report it. */
static bool settle(Run *r, Err *e) {
    const Pending *q = &r->pending;
    Judged judged;
    r->ops->answer(&judged, sizeof judged);
    const Verdict v = judged.verdict;
    const double now = now_seconds();
    StepReport p = {
        .step = q->step, .loss = v.loss, .lr = q->lr, .grad_norm = v.grad_norm, .skipped = v.skip};
    p.seconds = now - q->from;
    p.tokens_per_second = (double)r->c.train.global_batch_size * r->T / p.seconds;
    p.mfu = p.tokens_per_second * gpt_flops_per_token(&r->c.model, r->T) / (r->peak_flops * r->grid.ranks);
    p.comm_seconds = r->comm ? comm_exposed(r->comm) : 0;
    p.data_seconds = r->data_seconds, r->data_seconds = 0;
    r->stop |= judged.votes > 0;
    r->settled = now;
    r->pending.open = false;
    if (v.skip) {
        if (!skip_step(r, &p, e)) return false;
    } else {
        remember_loss(r, v.loss);
        state_set(&r->state, "updates", state_get(&r->state, "updates", 0) + 1);
        state_set(&r->state, "skips_in_a_row", 0);
    }
    return report(r, &p, e);
}

/* Queue a step. The one before it is settled only when this one's passes are queued, so that a GPU never waits for
 * the host; the optimizer needs to know whether it was skipped, and what loss would now be a spike. */
static bool queue_step(Run *r, Err *e) {
    const double from = now_seconds(), tokens = (double)r->c.train.global_batch_size * r->T;
    if (!accumulate(r, e) || (r->pending.open && !settle(r, e))) return false;
    const double lr = lr_at(&r->c, ++r->step), updates = state_get(&r->state, "updates", 0);
    optim_judge(&r->optim, r->gpt, &r->c, 1 / tokens, worst_loss(r), stop_asked != 0);
    optim_step(&r->optim, r->gpt, &r->c, lr, (uint64_t)updates + 1);
    r->ops->ask(r->optim.judged, sizeof(Judged));
    r->pending = (Pending){true, r->step, lr, from > r->settled ? from : r->settled};
    return true;
}

/* ---- do ranks hold the same? ----------------------------------------------------------------------------- */

/* Hashes of what a rank has in common with its data group, with its tensor group, and with the other end of the
 * pipeline. Where they differ, memory or a wire has lied: the job ends before a checkpoint carries it on. */
static bool compare_weights(Run *r, Err *e) {
    static const char *const with[N_SHARED] = {"data rank 0", "tensor rank 0", "the first stage's embedding"};
    const int N = r->grid.ranks;
    uint64_t own[N_SHARED], (*all)[N_SHARED] = xcalloc((size_t)N, sizeof *all);
    gpt_checksums(r->gpt, own);
    comm_host_gather(r->comm, all, own, sizeof own);
    bool ok = true;
    for (int i = 0; i < N && grid_is_root(&r->grid) && ok; i++) {
        const Grid g = grid_at(r->grid.dp, r->grid.pp, r->grid.tp, i);
        const int same[N_SHARED] = {(g.pp_rank * g.dp) * g.tp + g.tp_rank,
                                    (g.pp_rank * g.dp + g.dp_rank) * g.tp,
                                    g.pp_rank == g.pp - 1 ? g.dp_rank * g.tp + g.tp_rank : i};
        for (int k = 0; k < N_SHARED && ok; k++)
            if (all[i][k] != all[same[k]][k])
                ok = err_set(e,
                             "step %lld: the weights of rank %d differ from those of %s (rank %d): bad "
                             "memory, or a bad "
                             "wire; start again from the last checkpoint, without that host",
                             (long long)r->step, i, with[k], same[k]);
    }
    free(all);
    return ok;
}

/* ---- timeline -------------------------------------------------------------------------------------------- */

/* All ranks' events in one file. */
static bool write_trace(Run *r, Err *e) {
    Str own = {0}, all = {0};
    bool ok = true;
    trace_stop(&own);
    if (!grid_is_root(&r->grid)) {
        comm_host_send(r->comm, 0, &own.n, sizeof own.n);
        comm_host_send(r->comm, 0, own.p, own.n);
    } else {
        str_puts(&all, "[\n");
        str_put(&all, own.p, own.n);
        for (int i = 1; i < r->grid.ranks; i++) {
            size_t n;
            comm_host_recv(r->comm, i, &n, sizeof n);
            char *text = xmalloc(n + 1);
            comm_host_recv(r->comm, i, text, n);
            if (n) str_puts(&all, all.n > 2 ? ",\n" : "");
            str_put(&all, text, n);
            free(text);
        }
        str_puts(&all, "\n]\n");
        char *path = path_join(r->dir, "trace.json");
        ok = file_write(path, all.p, all.n, e);
        if (ok) note("timeline: %s (chrome://tracing opens it)", path);
        free(path);
    }
    str_free(&own);
    str_free(&all);
    return ok;
}

/* ---- the loop -------------------------------------------------------------------------------------------- */

/* What comes after a step that was settled. */
static bool after_step(Run *r, Err *e) {
    const Config *c = &r->c;
    if (trace_is_on() && r->step >= r->traced_to && !write_trace(r, e)) return false;
    if (r->comm && is_due(r->step, c->parallel.checksum_interval) && !compare_weights(r, e)) return false;
    if (r->tokenizer && is_due(r->step, c->train.sample_interval) && !print_sample(r, e)) return false;
    return !is_due(r->step, c->train.checkpoint_interval) || save(r, e);
}

static bool loop(Run *r, Err *e) {
    r->traced_to = r->step + r->c.train.trace_steps;
    if (r->c.train.trace_steps) trace_start(r->grid.rank);
    while (r->step < r->c.train.max_steps && !r->stop) {
        if (!r->comm && stop_asked) break;
        if (!queue_step(r, e)) return false;
        if (r->ops->queues && !is_stop(r)) continue;
        if (!settle(r, e) || !after_step(r, e)) return false;
    }
    if (r->pending.open && !settle(r, e)) return false;
    if (trace_is_on() && !write_trace(r, e)) return false;
    if (!save(r, e)) return false;
    if (r->step >= r->c.train.max_steps) return true;
    err_set(e, "stopped by a signal after step %lld, all saved; go on with --resume", (long long)r->step);
    e->code = EXIT_STOPPED;
    return false;
}

static void release(Run *r) {
    gpt_free(r->gpt);
    optim_free(&r->optim);
    tokenizer_free(r->tokenizer);
    mixing_close(r->mixing);
    loader_close(r->train);
    loader_close(r->val);
    state_free(&r->state);
    if (r->metrics >= 0) close(r->metrics);
    if (r->lock >= 0) close(r->lock);
    note_to(true, -1);
    if (r->log >= 0) close(r->log);
    free(r->tokens);
    free(r->targets);
    free(r->dir);
    free(r->tokenizer_dir);
    if (r->comm) comm_close(r->comm);
    if (r->world) comm_close(r->world);
    free(r);
}

/* Everything that can be wrong is found before the run's folder is touched. */
static bool prepare(Run *r, const TrainOptions *o, Err *e) {
    if (!config_check(&r->c, e) || !choose_grid(r, e) || !check_folder(r, o, e)) return false;
    r->ops = ops_choose(r->c.train.device, e);
    if (!r->ops || !r->ops->start(choose_threads(r), e) || !choose_precision(r, e) || !resolve_model(r, e))
        return false;
    return resolve_micro_batch(r, e) && config_check(&r->c, e) && open_data(r, e) && plan_run(r, e);
}

static bool open_grid(Run *r, Err *e) {
    if (r->grid.ranks == 1) return true;
    r->comm = comm_open(&r->grid, r->ops, !strcmp(r->c.parallel.comm, "mpi"), e);
    if (!r->comm) return false;
    comm_watch(r->c.parallel.timeout);
    return comm_self_test(r->comm, e);
}

static bool set_up(Run *r, const TrainOptions *o, Err *e) {
    if (!comm_start(e)) return false;
    const Grid all = grid_at(comm_world(), 1, 1, comm_world_rank());
    note_to(grid_is_root(&all), -1);
    r->world = comm_open(&all, &cpu_ops, false, e);
    if (!r->world || !agreed(r, prepare(r, o, e), e) || !agreed(r, open_grid(r, e), e) ||
        !agreed(r, build_model(r, e), e))
        return false;
    const bool root = grid_is_root(&r->grid);
    if (!agreed(r, !root || open_folder(r, o, e), e) || !agreed(r, open_log(r, e), e)) return false;
    r->peak_flops = r->ops->peak_flops(r->compute);
    return agreed(r, load_or_init(r, o, e), e) && agreed(r, !root || open_metrics(r, e), e);
}

bool train_run(const Config *c, const TrainOptions *o, Err *e) {
    Run *r = xcalloc(1, sizeof *r);
    r->c = *c;
    r->lock = r->metrics = r->log = -1;
    catch_signals();
    double t0 = now_seconds();
    bool ok = set_up(r, o, e);
    if (ok) {
        if (comm_stop_advice()) note("%s", comm_stop_advice());
        note("ready after %.2f s", now_seconds() - t0);
        ok = loop(r, e);
        if (!ok && e->code != EXIT_STOPPED) comm_fail(e); /* the others would wait for this rank */
    }
    release(r);
    return ok;
}
