/* The forward pass as a program: which ops, on which buffers, for one batch. Owns the scratch of
 * one engine (activations, logits) and the op array; borrows the model. Nothing allocates after
 * init. Thread: step. */
#ifndef INGLE_RUNTIME_MODEL_GRAPH_H
#define INGLE_RUNTIME_MODEL_GRAPH_H
#include "runtime/backend/backend.h"
#include "runtime/model/model.h"

struct ingle_batch {
    uint32_t T, n_seqs, n_out;
    int32_t *ids;                                /* [rows_max] */
    uint32_t *out;                               /* [rows_max]: the rows wanted, ascending */
    struct ingle_kv_seq *seqs[INGLE_GROUPS_MAX]; /* [seqs_max] per layer group */
};

struct ingle_graph {
    const struct ingle_model *model;
    struct ingle_backend *backend;
    uint32_t rows_max, seqs_max, head_rows_max;
    float *x, *y, *q, *attn;          /* [rows_max][...] */
    struct ingle_attn_room attn_room; /* one, because ops run one after the other */
    float *logits;                    /* [head_rows_max][V] */
    float *hidden;                    /* [head_rows_max][E]: the normed final state */
    struct ingle_row_stat *stats;     /* [head_rows_max]: of the logits */
    struct ingle_row_stat *parts;     /* [head_rows_max][ingle_head_parts(V)] */
    float *peaks;                     /* [head_rows_max][ingle_head_peaks(V)] */
    float *inverse_temperature;       /* [head_rows_max] */
    uint32_t *n_top;                  /* [head_rows_max], each at most INGLE_TOP_MAX */
    struct ingle_top *tops;           /* [head_rows_max][backend->n_workers] */
    uint32_t *index;                  /* [head_rows_max] */
    struct ingle_act act_qkv, act_attn, act_gate_up, act_ffn, act_head; /* what goes into .. */
    struct ingle_kv_seq *seqs_wanted; /* [seqs_max]: what the last layer attends for */
    struct ingle_batch batch;
    struct ingle_bands bands; /* of this batch; n is 0 where an op is better divided by itself */
    struct ingle_op *ops;
    uint32_t n_ops_max;
    uint8_t *memory;
    uint64_t memory_bytes;
};

/* rows_max: tokens of one step; seqs_max: sequences of one step; head_rows_max: rows of logits at a
 * time. Thread: load. */
int ingle_graph_init(struct ingle_graph *graph, const struct ingle_model *model,
                     struct ingle_backend *backend, uint32_t rows_max, uint32_t seqs_max,
                     uint32_t head_rows_max, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_graph_fini(struct ingle_graph *graph);

/* Run all layers over graph->batch (filled by the caller): K and V of its rows are stored, marked
 * pages sealed, and the first n_out rows of x hold the residual stream of the rows in `out`. The
 * last layer does no more than that takes: most of a prompt is there for its K and V alone. */
void ingle_graph_body(struct ingle_graph *graph);
enum ingle_graph_want {
    INGLE_WANT_HIDDEN,
    INGLE_WANT_STATS,
    INGLE_WANT_LOGITS
};
/* After body: for the n rows named in graph->index, which count in `out`, the normed state in
 * `hidden`; with STATS also the logits' statistics and the graph->n_top[i] largest of each row, in
 * its lists in `tops`; with LOGITS the statistics, the logits themselves with their peaks and, by
 * graph->inverse_temperature, the weights of their parts. n <= head_rows_max <= INGLE_HEAD_ROWS. */
void ingle_graph_head(struct ingle_graph *graph, uint32_t n, enum ingle_graph_want want);

#endif
