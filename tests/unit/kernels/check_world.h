/* A small world for the KV kernels: one or more sequences, their chunks and pages, run step by step
 * as the runtime does (q, k and v into pages, attend), with any cut of the prefill and any number
 * of workers. Open pages are overwritten with garbage once they are sealed, and pages out of the
 * window lose their pointers, so a kernel that reads what it may not shows. */
#ifndef INGLE_TESTS_UNIT_KERNELS_CHECK_WORLD_H
#define INGLE_TESTS_UNIT_KERNELS_CHECK_WORLD_H
#include "tests/unit/kernels/check.h"

enum {
    WORLD_SEQS_MAX = 4
};

struct world_shape {
    uint32_t H, Hk, D, n_rot; /* n_rot 0: no rotation */
    uint32_t window;
    uint32_t form;           /* enum ingle_kv_form of sealed pages */
    bool first_q8;           /* the page at position 0 sealed as q8 */
    bool norm;               /* q and k gains */
    uint32_t n_seqs, tokens; /* tokens of the first sequence; the others are shorter */
    uint32_t chunk_min, chunk_max;
    float outlier;            /* bias of one slowly turning K channel, as Qwen has */
    enum ingle_act_mode mode; /* of what q, k and v are made from, */
    enum ingle_wtype type;    /* and by which matrices */
    uint64_t seed;
    bool keep_open; /* leave sealed pages' open rows alone: for the benchmark */
};

struct world_page {
    uint32_t base, first, n_tokens;
    uint8_t form;
    uint8_t *open, *sealed;
};

struct world_seq {
    uint32_t tokens, n_pages;
    struct world_page *pages;
    uint8_t *x;       /* [tokens] activation rows */
    float *q, *k, *v; /* [tokens][..], as the product makes them: the reference's */
    float *out;       /* [tokens][H*D] */
};

struct world {
    struct world_shape shape;
    uint32_t n_layers, layer; /* the others hold garbage that must survive */
    struct ingle_rope rope;
    float *rope_lo, *rope_hi, *q_gain, *k_gain;
    struct world_seq seqs[WORLD_SEQS_MAX];
    struct ingle_matrix w[3]; /* of q, k, v */
    float *bias[3];
    /* One step's batch. */
    struct ingle_act x;
    float *q, *out;
    uint32_t n_batch, who[WORLD_SEQS_MAX];
    struct ingle_kv_seq batch[WORLD_SEQS_MAX];
    struct ingle_kv_span *spans[WORLD_SEQS_MAX];
    struct ingle_attn_room room;
};

void world_init(struct world *world, const struct world_shape *shape);
void world_fini(struct world *world);

/* The step that adds positions [from, to) of the sequences in `mask`: fill the batch, make its ops.
 */
enum {
    WORLD_QKV,
    WORLD_ATTN,
    WORLD_OPS
};
void world_ops(struct world *world, uint32_t mask, uint32_t from, uint32_t to,
               struct ingle_op ret_ops[WORLD_OPS]);

/* The step that adds the last `rows` positions of every sequence that has as many. */
void world_last_ops(struct world *world, uint32_t rows, struct ingle_op ret_ops[WORLD_OPS]);

/* All positions of all sequences into pages; nothing is attended. */
void world_store(struct world *world, const struct ingle_kernels *kernels);

/* Run a step. */
void world_step(struct world *world, const struct ingle_kernels *kernels, uint32_t n_workers,
                uint32_t mask, uint32_t from, uint32_t to);

/* All tokens of all sequences in steps of `cut` rows, sequences together. */
void world_run(struct world *world, const struct ingle_kernels *kernels, uint32_t n_workers,
               uint32_t cut);

/* Plain attention in double precision with K rotated to absolute positions, of the rows from `from`
 * on: [tokens - from][H*D]. */
void world_plain(const struct world *world, uint32_t seq, uint32_t from, double *ret_out);

#endif
