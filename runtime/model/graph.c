/* Owns activations, logits and the op array of one engine. Not: weights (model), pages (kv), when
 * to run (sched). Invariant: an op writes only buffers of this graph, except the pages named in
 * seqs. Every op is row-wise (kernels.h), so a row's result does not depend on its batch. Thread:
 * step. */
#include "runtime/model/graph.h"

#include <errno.h>

#include "kernels/top.h"
#include "runtime/base/carve.h"

#define OPS_PER_LAYER 8u

/* Rows of a band, on average, at least: each worker multiplies with all weights, and takes them
 * apart for its own rows alone. */
#define BAND_ROWS 192u
#define BAND_STEP 16u /* rows of a kernel's group */

static float *carve_rows(uint8_t **at, uint32_t rows, uint64_t cols)
{
    return ingle_carve(at, (uint64_t)rows * cols * sizeof(float));
}

static struct ingle_act carve_act(uint8_t **at, enum ingle_act_mode mode, uint32_t rows,
                                  uint32_t cols)
{
    struct ingle_act act = {.mode = mode,
                            .cols = cols,
                            .row_stride = ingle_act_row_bytes(mode, cols)};

    act.rows = ingle_carve(at, rows * act.row_stride);
    return act;
}

/* Heads are whole groups: attention writes the codes that o reads, and no f32 result. */
static bool attn_in_codes(const struct ingle_model *m)
{
    return m->D % INGLE_ACT_GROUP == 0;
}

/* Assign every buffer from `memory`; NULL only counts. */
static uint64_t lay_out(struct ingle_graph *g, uint8_t *memory)
{
    const struct ingle_model *m = g->model;
    uint64_t hd = (uint64_t)m->H * m->D;
    uint8_t *at = memory;

    g->x = carve_rows(&at, g->rows_max, m->E);
    g->y = carve_rows(&at, g->rows_max, m->E);
    g->q = carve_rows(&at, g->rows_max, hd);
    g->attn = carve_rows(&at, attn_in_codes(m) ? 0 : g->rows_max, hd);
    g->attn_room.sums = carve_rows(&at, INGLE_ATTN_ROOM_PARTS, hd + 2 * (uint64_t)m->H);
    g->attn_room.n_done =
        ingle_carve(&at, (uint64_t)INGLE_ATTN_ROOM_PARTS * m->Hk * sizeof *g->attn_room.n_done);
    g->logits = carve_rows(&at, g->head_rows_max, m->V);
    g->hidden = carve_rows(&at, g->head_rows_max, m->E);
    g->stats = ingle_carve(&at, g->head_rows_max * sizeof *g->stats);
    g->parts =
        ingle_carve(&at, (uint64_t)g->head_rows_max * ingle_head_parts(m->V) * sizeof *g->parts);
    g->peaks = carve_rows(&at, g->head_rows_max, ingle_head_peaks(m->V));
    g->inverse_temperature = carve_rows(&at, g->head_rows_max, 1);
    g->n_top = ingle_carve(&at, g->head_rows_max * sizeof *g->n_top);
    g->tops =
        ingle_carve(&at, (uint64_t)g->head_rows_max * g->backend->n_workers * sizeof *g->tops);
    g->act_qkv = carve_act(&at, m->qkv_act_mode, g->rows_max, m->E);
    g->act_gate_up = carve_act(&at, m->act_mode, g->rows_max, m->E);
    g->act_attn = carve_act(&at, m->act_mode, g->rows_max, (uint32_t)hd);
    g->act_ffn = carve_act(&at, m->act_mode, g->rows_max, m->F);
    g->act_head = carve_act(&at, m->head_act_mode, g->head_rows_max, m->E);
    g->index = ingle_carve(&at, g->head_rows_max * sizeof *g->index);
    g->batch.ids = ingle_carve(&at, g->rows_max * sizeof *g->batch.ids);
    g->batch.out = ingle_carve(&at, g->rows_max * sizeof *g->batch.out);
    for (uint32_t i = 0; i < m->n_groups; i++) {
        g->batch.seqs[i] = ingle_carve(&at, g->seqs_max * sizeof *g->batch.seqs[i]);
    }
    g->seqs_wanted = ingle_carve(&at, g->seqs_max * sizeof *g->seqs_wanted);
    g->n_ops_max = 3 + m->L * OPS_PER_LAYER;
    g->ops = ingle_carve(&at, g->n_ops_max * sizeof *g->ops);
    return (uint64_t)(at - memory);
}

int ingle_graph_init(struct ingle_graph *graph, const struct ingle_model *model,
                     struct ingle_backend *backend, uint32_t rows_max, uint32_t seqs_max,
                     uint32_t head_rows_max, struct ingle_error *err)
{
    ingle_assert(head_rows_max <= INGLE_HEAD_ROWS);
    *graph = (struct ingle_graph){.model = model,
                                  .backend = backend,
                                  .rows_max = rows_max,
                                  .seqs_max = seqs_max,
                                  .head_rows_max = head_rows_max};
    graph->memory_bytes = lay_out(graph, NULL);
    graph->memory = backend->ops->alloc(backend, INGLE_SPACE_DEVICE, graph->memory_bytes);
    if (graph->memory == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for %llu MiB of activations and logits",
                          (unsigned long long)(graph->memory_bytes >> 20));
    }
    (void)lay_out(graph, graph->memory);
    return 0;
}

void ingle_graph_fini(struct ingle_graph *graph)
{
    if (graph->memory != NULL) {
        graph->backend->ops->free(graph->backend, INGLE_SPACE_DEVICE, graph->memory,
                                  graph->memory_bytes);
    }
    *graph = (struct ingle_graph){0};
}

/* Every worker the same number of rows, or each op divided by itself. */
static void set_bands(struct ingle_graph *g)
{
    struct ingle_bands *bands = &g->bands;
    uint32_t n = g->backend->n_workers, T = g->batch.T;

    bands->n = n >= 2 && n <= INGLE_BANDS_MAX && T / n >= BAND_ROWS ? n : 0;
    for (uint32_t i = 0; i < bands->n; i++) {
        bands->first[i] = T * i / n / BAND_STEP * BAND_STEP;
        bands->first[i + 1] = T;
    }
}

/* Those of an op of T rows. */
static struct ingle_bands *bands_of(struct ingle_graph *g, uint32_t T)
{
    return g->bands.n > 0 && T == g->batch.T ? &g->bands : NULL;
}

/* A layer is 7 ops, one more for heads of odd sizes. First its K and V, and its q of rows from q0
 * on; `add` is what the layer before left to be added. */
static struct ingle_op *put_kv(struct ingle_graph *g, struct ingle_op *op,
                               const struct ingle_layer *w, const float *add, const float *add_gain,
                               uint32_t q0)
{
    const struct ingle_model *m = g->model;
    const struct ingle_kv_seq *seqs = g->batch.seqs[w->group];
    uint32_t T = g->batch.T;
    struct ingle_bands *bands = bands_of(g, T);

    *op++ = (struct ingle_op){.kind = INGLE_K_NORM,
                              .bands = bands,
                              .norm = {.x = g->x,
                                       .add = add,
                                       .post_gain = add_gain,
                                       .gain = w->attn_norm,
                                       .out = &g->act_qkv,
                                       .eps = m->rms_eps,
                                       .T = T,
                                       .E = m->E,
                                       .R = T}};
    *op++ = (struct ingle_op){.kind = INGLE_K_QKV,
                              .bands = bands,
                              .qkv = {.x = &g->act_qkv,
                                      .w = {w->q, w->k, w->v},
                                      .bias = {w->q_bias, w->k_bias, w->v_bias},
                                      .T = T,
                                      .q0 = q0,
                                      .q = g->q,
                                      .q_gain = w->q_norm,
                                      .k_gain = w->k_norm,
                                      .rope = &m->rope[w->rope],
                                      .seqs = seqs,
                                      .n_seqs = g->batch.n_seqs,
                                      .H = m->H,
                                      .Hk = m->Hk,
                                      .D = m->D,
                                      .layer = w->group_layer,
                                      .eps = m->rms_eps}};
    return op;
}

static struct ingle_op *put_attn(struct ingle_graph *g, struct ingle_op *op,
                                 const struct ingle_layer *w, const struct ingle_kv_seq *seqs)
{
    const struct ingle_model *m = g->model;
    bool codes = attn_in_codes(m);

    *op++ = (struct ingle_op){.kind = INGLE_K_ATTN,
                              .attn = {.q = g->q,
                                       .out = codes ? NULL : g->attn,
                                       .act = codes ? &g->act_attn : NULL,
                                       .room = &g->attn_room,
                                       .rope = &m->rope[w->rope],
                                       .seqs = seqs,
                                       .n_seqs = g->batch.n_seqs,
                                       .H = m->H,
                                       .Hk = m->Hk,
                                       .D = m->D,
                                       .layer = w->group_layer,
                                       .window = w->window,
                                       .scale = m->attn_scale}};
    if (!codes) {
        *op++ = (struct ingle_op){.kind = INGLE_K_QUANT,
                                  .bands = bands_of(g, g->batch.T),
                                  .quant = {.x = g->attn, .out = &g->act_attn, .T = g->batch.T}};
    }
    return op;
}

/* From attention's result to the end of the layer, for the first T rows. */
static struct ingle_op *put_rest(struct ingle_graph *g, struct ingle_op *op,
                                 const struct ingle_layer *w, uint32_t T)
{
    const struct ingle_model *m = g->model;
    struct ingle_bands *bands = bands_of(g, T);

    *op++ = (struct ingle_op){
        .kind = INGLE_K_MATMUL,
        .bands = bands,
        .matmul = {
            .x = &g->act_attn, .n_w = 1, .T = T, .w = {w->o}, .y = {g->y}, .y_stride = {m->E}}};
    *op++ = (struct ingle_op){.kind = INGLE_K_NORM,
                              .bands = bands,
                              .norm = {.x = g->x,
                                       .add = g->y,
                                       .post_gain = w->post_attn_norm,
                                       .gain = w->ffn_norm,
                                       .out = &g->act_gate_up,
                                       .eps = m->rms_eps,
                                       .T = T,
                                       .E = m->E,
                                       .R = T}};
    *op++ = (struct ingle_op){.kind = INGLE_K_MATMUL,
                              .bands = bands,
                              .matmul = {.x = &g->act_gate_up,
                                         .n_w = 2,
                                         .T = T,
                                         .w = {w->gate, w->up},
                                         .out = &g->act_ffn,
                                         .glu = m->glu}};
    *op++ = (struct ingle_op){
        .kind = INGLE_K_MATMUL,
        .bands = bands,
        .matmul = {
            .x = &g->act_ffn, .n_w = 1, .T = T, .w = {w->down}, .y = {g->y}, .y_stride = {m->E}}};
    return op;
}

static void run(struct ingle_graph *g, const struct ingle_op *end)
{
    uint32_t n = (uint32_t)(end - g->ops);

    ingle_assert(n <= g->n_ops_max);
    g->backend->ops->wait(g->backend, g->backend->ops->submit(g->backend, g->ops, n));
}

/* The wanted rows of x and of attention's result to the front. */
static void keep_wanted(struct ingle_graph *g)
{
    const struct ingle_backend_ops *ops = g->backend->ops;
    uint64_t x_bytes = g->model->E * sizeof *g->x, act_bytes = g->act_attn.row_stride;

    for (uint32_t i = 0; i < g->batch.n_out; i++) {
        uint64_t from = g->batch.out[i];

        if (from != i) {
            ops->copy(g->backend, g->x + (uint64_t)i * g->model->E, g->x + from * g->model->E,
                      x_bytes);
            ops->copy(g->backend, g->act_attn.rows + i * act_bytes,
                      g->act_attn.rows + from * act_bytes, act_bytes);
        }
    }
}

/* The sequences without the rows before the first that somebody wants of each. */
static const struct ingle_kv_seq *wanted_seqs(struct ingle_graph *g, uint32_t group)
{
    const struct ingle_batch *batch = &g->batch;
    uint32_t n = 0;

    for (uint32_t i = 0; i < batch->n_seqs; i++) {
        struct ingle_kv_seq *seq = &g->seqs_wanted[i];
        uint32_t end, skip;

        *seq = batch->seqs[group][i];
        end = seq->row0 + seq->n_rows;
        skip = n < batch->n_out && batch->out[n] < end ? batch->out[n] - seq->row0 : seq->n_rows;
        seq->row0 += skip;
        seq->pos0 += skip;
        seq->n_rows -= skip;
        while (n < batch->n_out && batch->out[n] < end) {
            n++;
        }
    }
    return g->seqs_wanted;
}

void ingle_graph_body(struct ingle_graph *graph)
{
    const struct ingle_model *m = graph->model;
    const struct ingle_batch *batch = &graph->batch;
    struct ingle_op *op = graph->ops;
    const float *add_gain = NULL;

    ingle_assert(batch->T > 0 && batch->T <= graph->rows_max && batch->n_out <= batch->T);
    set_bands(graph);
    *op++ = (struct ingle_op){.kind = INGLE_K_EMBED,
                              .bands = bands_of(graph, batch->T),
                              .embed = {.w = &m->token_embed,
                                        .ids = batch->ids,
                                        .x = graph->x,
                                        .scale = m->embed_scale,
                                        .T = batch->T}};
    for (uint32_t l = 0; l < m->L; l++) {
        const struct ingle_layer *layer = &m->layers[l];
        bool last = l + 1 == m->L;
        uint32_t q0 = !last ? 0 : batch->n_out == 0 ? batch->T : batch->out[0];

        op = put_kv(graph, op, layer, l == 0 ? NULL : graph->y, add_gain, q0);
        if (last && batch->n_out == 0) {
            run(graph, op);
            return;
        }
        op = put_attn(graph, op, layer,
                      last ? wanted_seqs(graph, layer->group) : batch->seqs[layer->group]);
        if (last && batch->n_out < batch->T) {
            run(graph, op);
            keep_wanted(graph);
            op = graph->ops;
        }
        op = put_rest(graph, op, layer, last ? batch->n_out : batch->T);
        add_gain = layer->post_ffn_norm;
    }
    *op++ = (struct ingle_op){.kind = INGLE_K_NORM,
                              .norm = {.x = graph->x,
                                       .add = graph->y,
                                       .post_gain = add_gain,
                                       .eps = m->rms_eps,
                                       .T = batch->n_out,
                                       .E = m->E,
                                       .R = batch->n_out}};
    run(graph, op);
}

static bool wants_lists(const struct ingle_graph *g, uint32_t n, enum ingle_graph_want want)
{
    bool any = false;

    for (uint32_t i = 0; i < n && want == INGLE_WANT_STATS; i++) {
        any |= g->n_top[i] > 0;
    }
    return any;
}

void ingle_graph_head(struct ingle_graph *graph, uint32_t n, enum ingle_graph_want want)
{
    const struct ingle_model *m = graph->model;
    uint32_t n_parts = ingle_head_parts(m->V);
    bool keep = want == INGLE_WANT_LOGITS, lists = wants_lists(graph, n, want);

    ingle_assert(n > 0 && n <= graph->head_rows_max);
    graph->ops[0] = (struct ingle_op){.kind = INGLE_K_NORM,
                                      .norm = {.x = graph->x,
                                               .gain = m->output_norm,
                                               .index = graph->index,
                                               .out = &graph->act_head,
                                               .out_f32 = graph->hidden,
                                               .eps = m->rms_eps,
                                               .T = graph->batch.n_out,
                                               .E = m->E,
                                               .R = n}};
    graph->ops[1] =
        (struct ingle_op){.kind = INGLE_K_HEAD,
                          .head = {.x = &graph->act_head,
                                   .w = m->output,
                                   .R = n,
                                   .inverse_temperature = keep ? graph->inverse_temperature : NULL,
                                   .logits = keep ? graph->logits : NULL,
                                   .peak = keep ? graph->peaks : NULL,
                                   .part = graph->parts,
                                   .n_top = lists ? graph->n_top : NULL,
                                   .top = graph->tops}};
    graph->backend->ops->wait(graph->backend,
                              graph->backend->ops->submit(graph->backend, graph->ops,
                                                          want == INGLE_WANT_HIDDEN ? 1 : 2));
    for (uint32_t i = 0; i < n && want != INGLE_WANT_HIDDEN; i++) {
        graph->stats[i] = ingle_row_stat_merge(graph->parts + (uint64_t)i * n_parts, n_parts);
    }
}
