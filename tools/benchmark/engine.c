/* Suite `engine`: prefill and decode of three small models, ours and the peers in turn within one
 * run, and both against what the machine can do. Owns the table of rows and the samples. A row is a
 * question about cells (engine.h); a cell is measured once in each round, however many rows ask for
 * it, and a ratio is the median of the rounds' ratios. Thread: main. */
#include "tools/benchmark/engine.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "tools/benchmark/machine.h"
#include "tools/ingle/paths.h"

#define PEERS_MAX 3
#define CELLS_MAX 64
#define NO        ((double)NAN)

/* Multiply-adds: elements of the blocks' matrices. Bytes: those matrices and the head. Both from
 * the files' tensor tables. */
const struct engine_model_info engine_models[ENGINE_MODEL_N] = {
    [ENGINE_SMOLLM2] = {"smollm2", "smollm2-135m-instruct-q4_1.gguf",
                        "smollm2-135m-instruct-q4_1.json", 106168320, 96436224},
    [ENGINE_QWEN] = {"qwen", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                     "qwen2.5-coder-0.5b-instruct-q4_k_m.json", 357826560, 391573504},
    [ENGINE_QWEN_Q8] = {"qwen-q8_0", "qwen2.5-coder-0.5b-instruct-q8_0.gguf",
                        "qwen2.5-coder-0.5b-instruct-q4_k_m.json", 357826560, 524833792},
    [ENGINE_GEMMA] = {"gemma", "gemma3-270m-q4_k_m.gguf", "gemma3-270m-q4_k_m.json", 100270080,
                      246364160},
};

enum row_kind {
    ROW_RATIO,      /* ours / the fastest of the peers' */
    ROW_INT8,       /* multiply-adds of ours / of the machine */
    ROW_READ,       /* bytes of ours / of the machine */
    ROW_ERROR,      /* mean |difference of log p| */
    ROW_LIMIT_INT8, /* the machine's own */
    ROW_LIMIT_READ
};

struct engine_row {
    const char *name;
    enum row_kind kind;
    double floor, goal;
    struct engine_cell ours, peers[PEERS_MAX];
};

#define CELL(who, what, model, depth, kv, act, threads)                      \
    {                                                                        \
        ENGINE_##who, ENGINE_##what, ENGINE_##model, depth, kv, act, threads \
    }
#define OURS(what, model, depth)     CELL(OURS, what, model, depth, 8, 8, 0)
#define OURS_KV(what, depth, kv)     CELL(OURS, what, QWEN, depth, kv, 8, 0)
#define OURS_ACT(what, model, depth) CELL(OURS, what, model, depth, 8, 16, 0)
#define OURS_N(what, depth, threads) CELL(OURS, what, QWEN, depth, 8, 8, threads)
#define THEIRS(who, what, model, n)  CELL(who, what, model, n, 16, 0, 0)
#define THEIRS_KV(who, what, n, kv)  CELL(who, what, QWEN, n, kv, 0, 0)
#define BEST(what, model, n)                                             \
    {                                                                    \
        THEIRS(LLAMA, what, model, n), THEIRS(OPENVINO, what, model, n), \
            THEIRS(IK, what, model, n)                                   \
    }

static const struct engine_row rows[] = {
    {"limit: read bandwidth", ROW_LIMIT_READ, NO, NO, {0}, {{0}}},
    {"limit: int8 multiply-adds", ROW_LIMIT_INT8, NO, NO, {0}, {{0}}},

    {"prefill-512 smollm2 vs llama.cpp",
     ROW_RATIO,
     4,
     NO,
     OURS(PREFILL, SMOLLM2, 512),
     {THEIRS(LLAMA, PREFILL, SMOLLM2, 512)}},
    {"prefill-512 smollm2 vs openvino",
     ROW_RATIO,
     NO,
     1.05,
     OURS(PREFILL, SMOLLM2, 512),
     {THEIRS(OPENVINO, PREFILL, SMOLLM2, 512)}},
    {"prefill-512 qwen vs llama.cpp",
     ROW_RATIO,
     2.2,
     3,
     OURS(PREFILL, QWEN, 512),
     {THEIRS(LLAMA, PREFILL, QWEN, 512)}},
    {"prefill-512 qwen-q8_0 vs openvino",
     ROW_RATIO,
     0.8,
     1.05,
     OURS(PREFILL, QWEN_Q8, 512),
     {THEIRS(OPENVINO, PREFILL, QWEN_Q8, 512)}},
    {"prefill-512 gemma vs llama.cpp",
     ROW_RATIO,
     1.8,
     4,
     OURS(PREFILL, GEMMA, 512),
     {THEIRS(LLAMA, PREFILL, GEMMA, 512)}},
    {"prefill-512 smollm2 vs ik_llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS(PREFILL, SMOLLM2, 512),
     {THEIRS(IK, PREFILL, SMOLLM2, 512)}},
    {"prefill-512 qwen vs ik_llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS(PREFILL, QWEN, 512),
     {THEIRS(IK, PREFILL, QWEN, 512)}},
    {"prefill-512 gemma vs ik_llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS(PREFILL, GEMMA, 512),
     {THEIRS(IK, PREFILL, GEMMA, 512)}},
    {"prefill-512 qwen share of int8 peak", ROW_INT8, 0.65, 0.88, OURS(PREFILL, QWEN, 512), {{0}}},

    {"prefill-2048 qwen kv8 vs llama.cpp",
     ROW_RATIO,
     4,
     7,
     OURS_KV(PREFILL, 2048, 8),
     {THEIRS_KV(LLAMA, PREFILL, 2048, 8)}},
    {"prefill-2048 qwen kv4 vs llama.cpp",
     ROW_RATIO,
     4,
     7,
     OURS_KV(PREFILL, 2048, 4),
     {THEIRS_KV(LLAMA, PREFILL, 2048, 4)}},
    {"prefill-2048 qwen kv8 vs ik_llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS_KV(PREFILL, 2048, 8),
     {THEIRS_KV(IK, PREFILL, 2048, 8)}},
    {"prefill-2048 qwen kv4 vs ik_llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS_KV(PREFILL, 2048, 4),
     {THEIRS_KV(IK, PREFILL, 2048, 4)}},
    {"prefill-2048 qwen kv8 vs our kv16",
     ROW_RATIO,
     0.97,
     1.1,
     OURS_KV(PREFILL, 2048, 8),
     {OURS_KV(PREFILL, 2048, 16)}},
    {"prefill-2048 qwen kv4 vs our kv16",
     ROW_RATIO,
     0.97,
     1.1,
     OURS_KV(PREFILL, 2048, 4),
     {OURS_KV(PREFILL, 2048, 16)}},

    {"decode-1 qwen vs best", ROW_RATIO, 1.2, 1.6, OURS(DECODE, QWEN, ENGINE_SHORT),
     BEST(DECODE, QWEN, ENGINE_SHORT)},
    {"decode-1 gemma vs best", ROW_RATIO, 1.2, 1.6, OURS(DECODE, GEMMA, ENGINE_SHORT),
     BEST(DECODE, GEMMA, ENGINE_SHORT)},
    {"decode-1 smollm2 vs best", ROW_RATIO, 1.4, 2, OURS(DECODE, SMOLLM2, ENGINE_SHORT),
     BEST(DECODE, SMOLLM2, ENGINE_SHORT)},
    {"decode-1 qwen share of read bandwidth",
     ROW_READ,
     0.75,
     0.92,
     OURS(DECODE, QWEN, ENGINE_SHORT),
     {{0}}},
    {"decode-8 qwen-q8_0 vs openvino",
     ROW_RATIO,
     0.9,
     1.3,
     OURS(TOGETHER, QWEN_Q8, ENGINE_SHORT),
     {THEIRS(OPENVINO, TOGETHER, QWEN_Q8, ENGINE_SHORT)}},
    {"decode-8 smollm2 vs openvino",
     ROW_RATIO,
     0.9,
     1.3,
     OURS(TOGETHER, SMOLLM2, ENGINE_SHORT),
     {THEIRS(OPENVINO, TOGETHER, SMOLLM2, ENGINE_SHORT)}},
    {"decode-8 qwen-q8_0 vs llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS(TOGETHER, QWEN_Q8, ENGINE_SHORT),
     {THEIRS(LLAMA, TOGETHER, QWEN_Q8, ENGINE_SHORT)}},
    {"decode-8 smollm2 vs llama.cpp",
     ROW_RATIO,
     NO,
     NO,
     OURS(TOGETHER, SMOLLM2, ENGINE_SHORT),
     {THEIRS(LLAMA, TOGETHER, SMOLLM2, ENGINE_SHORT)}},
    {"decode-depth-2048 qwen kv4 vs our kv16",
     ROW_RATIO,
     1.1,
     1.5,
     OURS_KV(DECODE, 2048, 4),
     {OURS_KV(DECODE, 2048, 16)}},

    {"dlogp smollm2",
     ROW_ERROR,
     0.045,
     0.038,
     OURS(NOTHING, SMOLLM2, 0),
     {THEIRS(LLAMA, NOTHING, SMOLLM2, 0)}},
    {"dlogp qwen",
     ROW_ERROR,
     0.022,
     0.018,
     OURS(NOTHING, QWEN, 0),
     {THEIRS(LLAMA, NOTHING, QWEN, 0)}},
    {"dlogp gemma",
     ROW_ERROR,
     0.050,
     0.040,
     OURS(NOTHING, GEMMA, 0),
     {THEIRS(LLAMA, NOTHING, GEMMA, 0)}},

    {"precise dlogp smollm2", ROW_ERROR, 0.006, 0.004, OURS_ACT(NOTHING, SMOLLM2, 0), {{0}}},
    {"precise dlogp qwen", ROW_ERROR, 0.006, 0.004, OURS_ACT(NOTHING, QWEN, 0), {{0}}},
    {"precise dlogp gemma", ROW_ERROR, 0.006, 0.004, OURS_ACT(NOTHING, GEMMA, 0), {{0}}},
    {"precise decode-1 qwen vs our int8",
     ROW_RATIO,
     0.9,
     1,
     OURS_ACT(DECODE, QWEN, ENGINE_SHORT),
     {OURS(DECODE, QWEN, ENGINE_SHORT)}},
    {"precise prefill-512 qwen vs our int8",
     ROW_RATIO,
     0.45,
     0.5,
     OURS_ACT(PREFILL, QWEN, 512),
     {OURS(PREFILL, QWEN, 512)}},

    {"threads-2 decode-1 qwen vs 1",
     ROW_RATIO,
     1.6,
     2,
     OURS_N(DECODE, ENGINE_SHORT, 2),
     {OURS_N(DECODE, ENGINE_SHORT, 1)}},
    {"threads-2 prefill-512 qwen vs 1",
     ROW_RATIO,
     1.85,
     2,
     OURS_N(PREFILL, 512, 2),
     {OURS_N(PREFILL, 512, 1)}},
};
#define ROW_N (sizeof rows / sizeof rows[0])

/* ---- samples --------------------------------------------------------------------------------- */

static struct sample {
    struct engine_cell cell;
    double value[BENCH_ROUNDS_MAX];
    int n; /* rounds measured */
} samples[CELLS_MAX];
static size_t n_samples;
static double limit_int8[BENCH_ROUNDS_MAX], limit_read[BENCH_ROUNDS_MAX];

/* With its number of threads written out, so that "all" and 2 are one cell where there are 2. */
static struct engine_cell resolved(const struct engine_cell *cell)
{
    struct engine_cell c = *cell;

    c.threads = c.threads == 0 ? machine_cores() : c.threads;
    return c;
}

static struct sample *sample_of(const struct engine_cell *cell)
{
    struct engine_cell c = resolved(cell);

    for (size_t i = 0; i < n_samples; i++) {
        if (memcmp(&samples[i].cell, &c, sizeof c) == 0) {
            return &samples[i];
        }
    }
    if (n_samples == CELLS_MAX) {
        return NULL;
    }
    samples[n_samples].cell = c;
    return &samples[n_samples++];
}

static bool takes_part(const struct bench *b, const struct engine_cell *cell)
{
    return cell->what != ENGINE_NOTHING &&
           (cell->who == ENGINE_OURS ||
            (peer_can_read(cell->who, cell->model) && peer_is_set_up(b, cell->who)));
}

static void measure(const struct bench *b, const struct engine_cell *cell, int round)
{
    static const char *const whats[] = {"", "prefill", "decode", "decode together"};
    static const char *const whos[] = {"ours", "llama.cpp", "openvino", "ik_llama.cpp"};
    struct sample *s = takes_part(b, cell) ? sample_of(cell) : NULL;

    if (s == NULL || s->n > round) {
        return;
    }
    bench_progress(b, "round %d of %d: %s: %s, %s, %d tokens deep, kv %d bits", round + 1,
                   b->rounds, whos[cell->who], engine_models[cell->model].name, whats[cell->what],
                   cell->depth, cell->kv_bits);
    s->value[s->n++] =
        cell->who == ENGINE_OURS ? ours_measure(b, &s->cell) : peer_measure(b, &s->cell);
}

static double value_of(const struct engine_cell *cell, int round)
{
    const struct sample *s = cell->what == ENGINE_NOTHING ? NULL : sample_of(cell);

    return s != NULL && s->n > round ? s->value[round] : NO;
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Rows about ik_llama.cpp alone are there when it is. */
static bool wanted(const struct bench *b, const struct engine_row *row)
{
    return bench_wants(b, row->name) && (row->peers[0].who != ENGINE_IK || b->peer != NULL);
}

/* A peer that the row cannot do without. */
static bool lacks_peer(const struct bench *b, const struct engine_row *row)
{
    for (size_t i = 0; row->kind == ROW_RATIO && i < PEERS_MAX; i++) {
        const struct engine_cell *p = &row->peers[i];

        if (p->what != ENGINE_NOTHING && p->who != ENGINE_OURS && peer_can_read(p->who, p->model) &&
            !peer_is_set_up(b, p->who) && (p->who != ENGINE_IK || i == 0)) {
            return true;
        }
    }
    return false;
}

static double best_of(const struct engine_row *row, int round)
{
    double best = NO;

    for (size_t i = 0; i < PEERS_MAX; i++) {
        best = fmax(best, value_of(&row->peers[i], round)); /* the number where one is NAN */
    }
    return best;
}

/* Both parts of a row's value in one round, in the same unit. */
static void parts(const struct engine_row *row, int round, double *ret_ours, double *ret_peer)
{
    const struct engine_model_info *model = &engine_models[row->ours.model];
    double ours = value_of(&row->ours, round);

    switch (row->kind) {
    case ROW_RATIO:
        *ret_ours = ours;
        *ret_peer = best_of(row, round);
        break;
    case ROW_INT8:
        *ret_ours = ours * model->macs / 1e9;
        *ret_peer = limit_int8[round];
        break;
    case ROW_READ:
        *ret_ours = ours * model->bytes / 1e9;
        *ret_peer = limit_read[round];
        break;
    case ROW_LIMIT_INT8:
        *ret_ours = limit_int8[round];
        *ret_peer = NO;
        break;
    case ROW_LIMIT_READ:
        *ret_ours = limit_read[round];
        *ret_peer = NO;
        break;
    case ROW_ERROR:
        *ret_ours = *ret_peer = NO;
        break;
    }
}

/* The peer that was faster more often than not. */
static const struct engine_cell *winner(const struct bench *b, const struct engine_row *row)
{
    const struct engine_cell *best = &row->peers[0];
    double best_value = -1, value, spread;
    double all[BENCH_ROUNDS_MAX];

    for (size_t i = 0; i < PEERS_MAX; i++) {
        for (int r = 0; r < b->rounds; r++) {
            all[r] = value_of(&row->peers[i], r);
        }
        bench_summary(all, (size_t)b->rounds, &value, &spread);
        if (value > best_value) {
            best_value = value;
            best = &row->peers[i];
        }
    }
    return best;
}

/* Each configuration of ours is evaluated once. */
static double quality_of(const struct bench *b, const struct engine_cell *cell)
{
    static double known[ENGINE_MODEL_N][17][33]; /* 0: not yet */
    double *q = &known[cell->model][cell->kv_bits][cell->activations];

    if (*q == 0) {
        bench_progress(b, "error of ours: %s, kv %d bits, activations %d bits",
                       engine_models[cell->model].name, cell->kv_bits, cell->activations);
        *q = ours_quality(b, cell);
    }
    return *q;
}

static void report(struct bench *b, const struct engine_row *row)
{
    double value[BENCH_ROUNDS_MAX], ours[BENCH_ROUNDS_MAX], peer[BENCH_ROUNDS_MAX], ignored;
    bool is_limit = row->kind == ROW_LIMIT_INT8 || row->kind == ROW_LIMIT_READ;
    struct bench_row out = {.name = row->name,
                            .higher = row->kind != ROW_ERROR,
                            .floor = row->floor,
                            .goal = row->goal,
                            .unit = row->kind == ROW_ERROR        ? "dlogp"
                                    : row->kind == ROW_LIMIT_INT8 ? "GMAC/s"
                                    : row->kind == ROW_LIMIT_READ ? "GB/s"
                                                                  : "x",
                            .value = NO,
                            .spread = NO,
                            .quality = is_limit ? NO : quality_of(b, &row->ours),
                            .peer_quality = NO};

    for (int r = 0; r < b->rounds; r++) {
        parts(row, r, &ours[r], &peer[r]);
        value[r] = is_limit ? ours[r] : ours[r] / peer[r];
    }
    bench_summary(value, (size_t)b->rounds, &out.value, &out.spread);
    bench_summary(ours, (size_t)b->rounds, &out.ours, &ignored);
    bench_summary(peer, (size_t)b->rounds, &out.peer, &ignored);
    if (row->kind == ROW_ERROR) {
        out.value = out.ours = out.quality;
        out.peer = out.peer_quality =
            row->peers[0].who == ENGINE_OURS ? NO : peer_quality(b, &row->peers[0]);
    } else if (row->kind == ROW_RATIO) {
        const struct engine_cell *p = winner(b, row);

        out.peer_quality = p->who == ENGINE_OURS ? quality_of(b, p) : peer_quality(b, p);
    }
    if (lacks_peer(b, row)) {
        out.value = out.peer = out.spread = NO;
        out.note = "peer not set up: tools/bench --setup";
    } else if (isnan(out.value)) {
        out.note = "failed";
    }
    bench_report(b, &out);
}

static void measure_round(const struct bench *b, int round)
{
    for (size_t i = 0; i < ROW_N; i++) {
        const struct engine_row *row = &rows[i];
        bool read = row->kind == ROW_READ || row->kind == ROW_LIMIT_READ;
        bool int8 = row->kind == ROW_INT8 || row->kind == ROW_LIMIT_INT8;

        if (!wanted(b, row)) {
            continue;
        }
        if (read && limit_read[round] == 0) {
            limit_read[round] = machine_read(machine_cores()) / 1e9;
        }
        if (int8 && limit_int8[round] == 0) {
            limit_int8[round] = machine_int8(machine_cores()) / 1e9;
        }
        measure(b, &row->ours, round);
        for (size_t p = 0; p < PEERS_MAX; p++) {
            measure(b, &row->peers[p], round);
        }
    }
}

void engine_model_path(const struct bench *b, enum engine_model model, char ret_path[4096])
{
    path_format(ret_path, "%s/models/%s", b->cache, engine_models[model].file);
}

int bench_engine(struct bench *b)
{
    char path[PATH_MAX];

    for (int m = 0; m < ENGINE_MODEL_N; m++) {
        engine_model_path(b, m, path);
        if (access(path, R_OK) != 0) {
            (void)fprintf(stderr, "bench: no %s. Run: tools/bench --setup\n", path);
            return 1;
        }
    }
    for (int r = 0; r < b->rounds; r++) {
        measure_round(b, r);
    }
    for (size_t i = 0; i < ROW_N; i++) {
        if (wanted(b, &rows[i])) {
            report(b, &rows[i]);
        }
    }
    peers_stop();
    ours_stop();
    return 0;
}

void bench_engine_list(void)
{
    for (size_t i = 0; i < ROW_N; i++) {
        (void)printf("         %s\n", rows[i].name);
    }
}
