/* Suite `engine`: prefill and decode of three small models, ours and the peers in turn within one
 * run, and both against what the machine can do. Owns the samples. A row (rows.c) is a question
 * about cells (engine.h); a cell is measured once in each round, however many rows ask for it, and
 * a ratio is the median of the rounds' ratios. Thread: main. */
#include "tools/benchmark/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/benchmark/machine.h"
#include "tools/ingle/paths.h"

#define CELLS_MAX 64
#define NO        ((double)NAN)

/* ---- samples --------------------------------------------------------------------------------- */

static struct sample {
    struct engine_cell cell;
    double value[BENCH_ROUNDS_MAX];
    int n; /* rounds measured */
} samples[CELLS_MAX];
static size_t n_samples;
static double limit_int8[BENCH_ROUNDS_MAX], limit_vectors[BENCH_ROUNDS_MAX];
static double limit_read[BENCH_ROUNDS_MAX];

/* The machine's own, which a row is measured against or shows; NULL: none. 0: not measured yet. */
static double *limits_of(enum engine_row_kind kind)
{
    switch (kind) {
    case ENGINE_ROW_INT8:
    case ENGINE_ROW_LIMIT_INT8:
        return limit_int8;
    case ENGINE_ROW_VECTORS:
    case ENGINE_ROW_LIMIT_VECTORS:
        return limit_vectors;
    case ENGINE_ROW_READ:
    case ENGINE_ROW_LIMIT_READ:
        return limit_read;
    case ENGINE_ROW_RATIO:
    case ENGINE_ROW_SCALE_READ:
    case ENGINE_ROW_SCALE_INT8:
    case ENGINE_ROW_ERROR:
        break;
    }
    return NULL;
}

static struct sample *sample_of(const struct engine_cell *cell)
{
    for (size_t i = 0; i < n_samples; i++) {
        if (memcmp(&samples[i].cell, cell, sizeof *cell) == 0) {
            return &samples[i];
        }
    }
    if (n_samples == CELLS_MAX) {
        return NULL;
    }
    samples[n_samples].cell = *cell;
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
    struct sample *s = takes_part(b, cell) ? sample_of(cell) : NULL;

    if (s == NULL || s->n > round) {
        return;
    }
    bench_progress(b, "round %d of %d: %s: %s, %s, %d tokens deep, kv %d bits", round + 1,
                   b->rounds, engine_who_names[cell->who], engine_models[cell->model].name,
                   whats[cell->what], cell->depth, cell->kv_bits);
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
    for (size_t i = 0; row->kind != ENGINE_ROW_ERROR && i < ENGINE_PEERS_MAX; i++) {
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

    for (size_t i = 0; i < ENGINE_PEERS_MAX; i++) {
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
    case ENGINE_ROW_RATIO:
    case ENGINE_ROW_SCALE_READ:
    case ENGINE_ROW_SCALE_INT8:
        *ret_ours = ours;
        *ret_peer = best_of(row, round);
        break;
    case ENGINE_ROW_INT8:
    case ENGINE_ROW_VECTORS:
        *ret_ours = ours * model->macs / 1e9;
        *ret_peer = limits_of(row->kind)[round];
        break;
    case ENGINE_ROW_READ:
        *ret_ours = ours * model->bytes / 1e9;
        *ret_peer = limits_of(row->kind)[round];
        break;
    case ENGINE_ROW_LIMIT_INT8:
    case ENGINE_ROW_LIMIT_VECTORS:
    case ENGINE_ROW_LIMIT_READ:
        *ret_ours = limits_of(row->kind)[round];
        *ret_peer = NO;
        break;
    case ENGINE_ROW_ERROR:
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

    for (size_t i = 0; i < ENGINE_PEERS_MAX; i++) {
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
    bool macs = row->kind == ENGINE_ROW_LIMIT_INT8 || row->kind == ENGINE_ROW_LIMIT_VECTORS;
    bool is_limit = macs || row->kind == ENGINE_ROW_LIMIT_READ;
    struct bench_row out = {.name = row->name,
                            .higher = row->kind != ENGINE_ROW_ERROR,
                            .floor = row->floor,
                            .goal = row->goal,
                            .unit = row->kind == ENGINE_ROW_ERROR        ? "dlogp"
                                    : macs                               ? "GMAC/s"
                                    : row->kind == ENGINE_ROW_LIMIT_READ ? "GB/s"
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
    if (row->kind == ENGINE_ROW_ERROR) {
        out.value = out.ours = out.quality;
        out.peer = out.peer_quality =
            row->peers[0].who == ENGINE_OURS ? NO : peer_quality(b, &row->peers[0]);
    } else if (row->peers[0].what != ENGINE_NOTHING) {
        const struct engine_cell *p = winner(b, row);

        out.peer_quality = p->who == ENGINE_OURS ? quality_of(b, p) : peer_quality(b, p);
    }
    if (row->kind == ENGINE_ROW_SCALE_READ) {
        out.goal = machine_read(2) / machine_read(1);
    } else if (row->kind == ENGINE_ROW_SCALE_INT8) {
        out.goal = machine_int8(2, true) / machine_int8(1, true);
    }
    if (lacks_peer(b, row)) {
        out.value = out.peer = out.spread = NO;
        out.note = "peer not set up: tools/bench --setup";
    } else if (isnan(out.value)) {
        out.note = "failed";
    }
    bench_report(b, &out);
}

/* Whether to believe the rest. All children have been waited for. */
static void report_others(struct bench *b)
{
    struct bench_row out = {.name = "machine: busy for others",
                            .value = 100 * machine_others(),
                            .floor = (double)NAN,
                            .goal = (double)NAN,
                            .unit = "%",
                            .ours = (double)NAN,
                            .peer = (double)NAN,
                            .spread = (double)NAN,
                            .quality = (double)NAN,
                            .peer_quality = (double)NAN};

    bench_report(b, &out);
}

static void measure_round(const struct bench *b, int round)
{
    for (size_t i = 0; i < engine_row_n; i++) {
        const struct engine_row *row = &engine_rows[i];
        double *limits = limits_of(row->kind);

        if (!wanted(b, row)) {
            continue;
        }
        if (limits != NULL && limits[round] == 0) {
            const int cores = machine_cores();
            limits[round] = (limits == limit_read ? machine_read(cores)
                                                  : machine_int8(cores, limits == limit_int8)) /
                            1e9;
        }
        measure(b, &row->ours, round);
        for (size_t p = 0; p < ENGINE_PEERS_MAX; p++) {
            measure(b, &row->peers[p], round);
        }
    }
}

void engine_model_path(const struct bench *b, enum engine_model model, char ret_path[PATH_MAX])
{
    char link[PATH_MAX];

    path_format(link, "%s/models/%s", b->cache, engine_models[model].file);
    if (realpath(link, ret_path) == NULL) { /* the runtime knows an instance by its file's path */
        path_format(ret_path, "%s", link);
    }
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
    (void)machine_others();
    for (int r = 0; r < b->rounds; r++) {
        measure_round(b, r);
    }
    for (size_t i = 0; i < engine_row_n; i++) {
        if (wanted(b, &engine_rows[i])) {
            report(b, &engine_rows[i]);
        }
    }
    peers_stop();
    ours_stop();
    report_others(b);
    return 0;
}

void bench_engine_list(void)
{
    for (size_t i = 0; i < engine_row_n; i++) {
        (void)printf("         %s\n", engine_rows[i].name);
    }
}
