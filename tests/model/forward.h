/* A forward pass without a scheduler: one engine's parts, fed by hand. For tests only. */
#ifndef INGLE_TESTS_MODEL_FORWARD_H
#define INGLE_TESTS_MODEL_FORWARD_H
#include "runtime/kv/context.h"
#include "runtime/model/graph.h"
#include "runtime/model/model.h"

struct forward {
    struct ingle_model *model;
    struct ingle_backend *backend;
    struct ingle_graph graph;
    struct ingle_kv_pool pool;
    struct ingle_chunk_store store;
    struct ingle_context_set set;
};

struct forward_options {
    const char *path; /* of the GGUF file */
    enum ingle_act_mode act_mode;
    bool ref; /* the plain C kernels */
    uint8_t kv_bits;
    uint32_t n_workers;
    struct ingle_model *model; /* not NULL: borrow this one instead of loading */
};

/* Ends the test program with a message when a part cannot be had, as skipped when this CPU lacks
 * it. */
void forward_init(struct forward *f, const struct forward_options *options);
/* keep_model: it was borrowed or goes on to another forward. */
void forward_fini(struct forward *f, bool keep_model);

/* Which tokens begin a chunk; arg: the model's tokenizer. */
bool forward_structural(const void *arg, int32_t token);

/* One piece of one context in a batch. */
struct forward_piece {
    struct ingle_context *ctx;
    const int32_t *tokens;
    uint32_t n;
    uint32_t n_skip; /* the first so many rows are not wanted */
};
/* Run one batch of pieces; afterwards graph.x holds the wanted rows, in order. */
void forward_step(struct forward *f, const struct forward_piece *pieces, uint32_t n_pieces);
#define FORWARD_HEADS 16u
/* Logits of n <= FORWARD_HEADS rows of the last step from `row` on, [n][V], valid until the next
 * call. */
const float *forward_logits(struct forward *f, uint32_t row, uint32_t n);
/* Natural log-probabilities of a row: log(sum(exp)) in double. */
double forward_logsumexp(const float *logits, uint32_t V);

/* The folder of test models, or exit 77 with the reason. */
const char *forward_models(void);

#endif
