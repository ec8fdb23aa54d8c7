/* Owns a loaded model together with everything its sequences need at run time. Created on the load
 * thread, then used by step alone; the byte counts may be read by any thread, and load warms the
 * pool. */
#include "runtime/sched/engine.h"

#include <errno.h>

#include "runtime/base/mem.h"
#include "runtime/model/tokenizer.h"

bool ingle_engine_structural(const void *engine, int32_t token)
{
    const struct ingle_engine *e = engine;

    return e->model != NULL && ingle_tokenizer_is_structural(e->model->tokenizer, token);
}

/* Contexts, the pages of one batch, and one more page for each sequence that crosses a border. */
static uint32_t open_pages_wanted(const struct ingle_engine *e,
                                  const struct ingle_sched_options *limits)
{
    return limits->contexts_max + e->batch_tokens / INGLE_CUT_STRUCT_MIN + limits->sequences_max;
}

static uint64_t weights_of_layers(const struct ingle_model *m)
{
    uint64_t attn = 2 * (uint64_t)(m->H + m->Hk) * m->D;

    return (uint64_t)m->L * m->E * (attn + 3 * (uint64_t)m->F);
}

/* Rows of a step that nobody waits for: a band for each worker, if that is how they are divided. */
static uint32_t rows_alone(const struct ingle_engine *e, const struct ingle_sched_options *limits)
{
    bool large = e->model != NULL && weights_of_layers(e->model) >= INGLE_LARGE_WEIGHTS;
    uint32_t n = large || e->backend->n_workers > INGLE_BANDS_MAX ? 1 : e->backend->n_workers;
    uint32_t rows = n * INGLE_SHARED_TOKENS;

    return rows < limits->batch_tokens ? rows : limits->batch_tokens;
}

static int init_parts(struct ingle_engine *e, const struct ingle_sched_options *limits,
                      const struct ingle_engine_options *options, struct ingle_error *err)
{
    struct ingle_kv_shape shape = {.n_groups = 1, .Hk = 1, .D = 16, .group_layers = {1}};
    uint32_t window[INGLE_GROUPS_MAX] = {0};
    int r;

    e->batch_tokens = rows_alone(e, limits);
    e->V = INGLE_NULL_VOCAB;
    e->context_tokens = INGLE_NULL_CONTEXT;
    if (e->model != NULL) {
        const struct ingle_model *m = e->model;

        e->V = m->V;
        e->context_tokens = m->context_tokens;
        shape = (struct ingle_kv_shape){.n_groups = m->n_groups, .Hk = m->Hk, .D = m->D};
        for (uint32_t g = 0; g < m->n_groups; g++) {
            shape.group_layers[g] = m->group_layers[g];
            window[g] = m->group_window[g];
        }
        r = ingle_graph_init(&e->graph, m, e->backend, e->batch_tokens, limits->sequences_max,
                             INGLE_HEAD_ROWS, err);
        if (r < 0) {
            return r;
        }
        for (int32_t id = 0; (uint32_t)id < m->V && e->n_eog < INGLE_EOG_MAX; id++) {
            if (ingle_tokenizer_is_eog(m->tokenizer, id)) {
                e->eog[e->n_eog++] = id;
            }
        }
        e->embed_bytes = (uint64_t)limits->sequences_max * m->E * sizeof(float);
        e->embed_sums = ingle_mem_map(e->embed_bytes);
    }
    if (options->context_tokens != 0 && options->context_tokens < e->context_tokens) {
        e->context_tokens = options->context_tokens;
    }
    e->sampler_bytes = ingle_sampler_scratch_bytes(e->V);
    e->sampler_scratch = ingle_mem_map(e->sampler_bytes);
    if (e->sampler_scratch == NULL || (e->model != NULL && e->embed_sums == NULL)) {
        return ingle_fail(err, -ENOMEM, "no memory for the sampler of a vocabulary of %u", e->V);
    }
    r = ingle_kv_pool_init(&e->pool, e->backend, &shape, options->kv_bits, options->kv_bytes,
                           open_pages_wanted(e, limits), err);
    if (r < 0) {
        return r;
    }
    r = ingle_chunk_store_init(
        &e->store, &e->pool, e->pool.slabs[0][INGLE_USE_SEALED].n_pages + 2 * limits->contexts_max,
        err);
    if (r < 0) {
        return r;
    }
    return ingle_context_set_init(&e->contexts, &e->pool, &e->store, limits->contexts_max,
                                  e->context_tokens, window, err);
}

int ingle_engine_create(struct ingle_model *model, struct ingle_backend *backend,
                        const struct ingle_sched_options *limits,
                        const struct ingle_engine_options *options, struct ingle_engine **ret,
                        struct ingle_error *err)
{
    struct ingle_sched_options full = ingle_sched_limits(limits);
    struct ingle_engine *e = ingle_mem_alloc(sizeof *e);
    int r;

    if (e == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for an engine");
    }
    e->model = model;
    e->backend = backend;
    r = init_parts(e, &full, options, err);
    if (r < 0) {
        e->model = NULL; /* stays the caller's */
        ingle_engine_free(e);
        return r;
    }
    *ret = e;
    return 0;
}

void ingle_engine_free(struct ingle_engine *e)
{
    if (e == NULL) {
        return;
    }
    ingle_context_set_fini(&e->contexts);
    ingle_chunk_store_fini(&e->store);
    ingle_kv_pool_fini(&e->pool);
    ingle_graph_fini(&e->graph);
    ingle_mem_unmap(e->sampler_scratch, e->sampler_bytes);
    ingle_mem_unmap(e->embed_sums, e->embed_bytes);
    ingle_model_free(e->model);
    ingle_mem_free(e);
}

uint64_t ingle_engine_idle_ns(const struct ingle_engine *engine)
{
    return engine->backend->ops->idle_ns(engine->backend);
}

bool ingle_engine_warm(struct ingle_engine *engine)
{
    return ingle_kv_pool_warm(&engine->pool);
}

const struct ingle_model *ingle_engine_model(const struct ingle_engine *engine)
{
    return engine->model;
}

uint32_t ingle_engine_context_tokens(const struct ingle_engine *engine)
{
    return engine->context_tokens;
}

void ingle_engine_bytes(const struct ingle_engine *engine, struct ingle_engine_bytes *ret)
{
    *ret = (struct ingle_engine_bytes){
        .kv_pool = engine->pool.bytes,
        .kv_used = atomic_load_explicit(&engine->pool.bytes_used, memory_order_relaxed),
        .scratch = engine->graph.memory_bytes + engine->sampler_bytes + engine->embed_bytes,
    };
    if (engine->model != NULL) {
        ret->tokenizer = ingle_tokenizer_bytes(engine->model->tokenizer);
        ret->weights = engine->model->resident_bytes;
    }
}
