/* What step needs to run one model: forward pass scratch, KV pool, chunk index, contexts. Internal
 * to runtime/sched; others see the opaque struct of sched.h. */
#ifndef INGLE_RUNTIME_SCHED_ENGINE_H
#define INGLE_RUNTIME_SCHED_ENGINE_H
#include "runtime/kv/context.h"
#include "runtime/model/graph.h"
#include "runtime/sched/limits.h"

struct ingle_engine {
    struct ingle_model *model; /* owned; NULL: the null engine */
    struct ingle_backend *backend;
    struct ingle_graph graph; /* unused by the null engine */
    struct ingle_kv_pool pool;
    struct ingle_chunk_store store;
    struct ingle_context_set contexts;
    uint32_t V, context_tokens, batch_tokens;
    void *sampler_scratch;
    float *embed_sums; /* [sequences_max][E]: running sums of EMBED requests */
    uint64_t sampler_bytes, embed_bytes;
    uint32_t n_eog;
    int32_t eog[INGLE_EOG_MAX]; /* ids that end an answer: banned before min_tokens */
    uint32_t slot;              /* in the scheduler's table */
};

/* Is `token` a marker before which text is cut? A plain function for kv/context. */
bool ingle_engine_structural(const void *engine, int32_t token);

#endif
