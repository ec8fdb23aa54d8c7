/* Owns the table of contexts that have an id, kept or held. Not: the contexts' pages (kv/context).
 * Invariant: an id names one context for ever: a slot's generation changes with each use. Thread:
 * step. */
#include <errno.h>

#include "runtime/sched/state.h"

uint64_t ingle_handle_id(const struct ingle_sched *s, const struct ingle_handle *h)
{
    return ((uint64_t)h->generation << 32) | (uint64_t)(h - s->step.handles + 1);
}

struct ingle_handle *ingle_handle_find(struct ingle_sched *s, uint64_t id,
                                       const struct ingle_port *owner)
{
    uint32_t i = (uint32_t)id - 1;
    struct ingle_handle *h;

    if (i >= INGLE_HANDLES_MAX) {
        return NULL;
    }
    h = &s->step.handles[i];
    return h->ctx != NULL && h->generation == (uint32_t)(id >> 32) && h->owner == owner ? h : NULL;
}

struct ingle_handle *ingle_handle_open(struct ingle_sched *s, struct ingle_engine *engine,
                                       struct ingle_context *ctx, struct ingle_port *owner)
{
    for (uint32_t i = 0; i < INGLE_HANDLES_MAX; i++) {
        struct ingle_handle *h = &s->step.handles[i];

        if (h->ctx == NULL) {
            *h = (struct ingle_handle){
                .ctx = ctx, .engine = engine, .owner = owner, .generation = h->generation + 1};
            if (owner != NULL) {
                owner->step.n_contexts++;
            }
            atomic_fetch_add_explicit(&s->stats.n_contexts, 1, memory_order_relaxed);
            return h;
        }
    }
    return NULL;
}

void ingle_handle_close(struct ingle_sched *s, struct ingle_handle *h)
{
    ingle_assert(h->ctx != NULL && !h->busy);
    ingle_context_close(&h->engine->contexts, h->ctx);
    h->ctx = NULL;
    if (h->owner != NULL) {
        h->owner->step.n_contexts--;
    }
    atomic_fetch_sub_explicit(&s->stats.n_contexts, 1, memory_order_relaxed);
}

/* A copy of a context that is not being written. */
static int handle_fork(struct ingle_sched *s, const struct ingle_handle *from,
                       struct ingle_port *owner, uint32_t tenant, struct ingle_handle **ret)
{
    struct ingle_context *ctx;
    struct ingle_handle *h;

    if (from->busy) {
        return -EBUSY;
    }
    if (tenant != from->ctx->tenant) {
        return -EACCES;
    }
    ctx = ingle_context_fork(&from->engine->contexts, from->ctx, tenant);
    if (ctx == NULL) {
        return -ENOMEM;
    }
    h = ingle_handle_open(s, from->engine, ctx, owner);
    if (h == NULL) {
        ingle_context_close(&from->engine->contexts, ctx);
        return -ENFILE;
    }
    h->has_tail = from->has_tail;
    h->tail = from->tail;
    *ret = h;
    return 0;
}

void ingle_handle_close_all(struct ingle_sched *s, const struct ingle_port *port,
                            const struct ingle_engine *engine)
{
    for (uint32_t i = 0; i < INGLE_HANDLES_MAX; i++) {
        struct ingle_handle *h = &s->step.handles[i];

        if (h->ctx != NULL && (port == NULL || h->owner == port) &&
            (engine == NULL || h->engine == engine)) {
            ingle_handle_close(s, h);
        }
    }
}

void ingle_sched_context_request(struct ingle_sched *s, struct ingle_request *request)
{
    bool held = request->in.op == INGLE_REQ_TAKE_CTX || request->in.op == INGLE_REQ_DROP_CTX;
    struct ingle_port *owner = request->in.port;
    struct ingle_handle *h = ingle_handle_find(s, request->in.ctx, held ? NULL : owner);
    struct ingle_handle *copy = NULL;
    int r = 0;

    if (h == NULL) {
        ingle_sched_reply_done(s, request, -ENOENT);
        return;
    }
    if (request->in.op == INGLE_REQ_CLOSE_CTX || request->in.op == INGLE_REQ_DROP_CTX) {
        if (h->busy) {
            r = -EBUSY;
        } else {
            ingle_handle_close(s, h);
        }
    } else {
        bool to_nobody = request->in.op == INGLE_REQ_HOLD_CTX;

        r = handle_fork(s, h, to_nobody ? NULL : owner, to_nobody ? h->ctx->tenant : owner->tenant,
                        &copy);
    }
    if (copy != NULL) {
        request->out.ctx = ingle_handle_id(s, copy);
        request->out.n_prompt = copy->ctx->n_tokens + (copy->has_tail ? 1 : 0);
    }
    ingle_sched_reply_done(s, request, r);
}
