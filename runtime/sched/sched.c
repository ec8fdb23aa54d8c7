/* Owns the sequences, context handles and queues of the step thread. Not: tokens' way into a ring
 * (emit.c), pages (kv), arithmetic (model/graph). The loop: take messages, admit, build one batch
 * per engine (all decodes, then prefill up to the budget), run it, choose and emit, publish once
 * per client, wake at most one thread. Nothing in it blocks, allocates or logs.
 *
 * Invariant: a request is in exactly one place: io's hands, the waiting list, or a sequence. */
#include "runtime/sched/sched.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/base/spsc.h"
#include "runtime/sched/sequence.h"

struct ingle_sched {
    struct ingle_sched_options limits;
    struct ingle_board *board;
    struct ingle_spsc to_step, from_step;
    struct ingle_to_step *to_items;
    struct ingle_from_step *from_items;
    struct ingle_park park; /* step sleeps here */
    struct ingle_sched_stats stats;
    struct {
        struct ingle_engine *engines[INGLE_MODEL_SLOTS];
        struct ingle_sequence *sequences; /* [sequences_max], in order of their slots */
        uint32_t n_sequences;             /* in use */
        struct ingle_handle *handles;     /* [INGLE_HANDLES_MAX] */
        struct ingle_request *waiting_first, *waiting_last;
        uint32_t n_waiting;
        uint64_t now_ns;
        bool moved; /* this step computed, wrote or ended something */
        bool stopping;
    } step;
};

/* ---- creation -----------------------------------------------------------------------------------
 */

int ingle_sched_create(const struct ingle_sched_options *options, struct ingle_board *board,
                       struct ingle_sched **ret, struct ingle_error *err)
{
    struct ingle_sched *s = ingle_mem_map(sizeof *s); /* over-aligned queues */

    if (s == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for the scheduler");
    }
    s->limits = ingle_sched_limits(options);
    s->board = board;
    s->to_items = ingle_mem_array(s->limits.queue_messages, sizeof *s->to_items);
    s->from_items = ingle_mem_array(s->limits.queue_messages, sizeof *s->from_items);
    s->step.sequences = ingle_mem_array(s->limits.sequences_max, sizeof *s->step.sequences);
    s->step.handles = ingle_mem_array(INGLE_HANDLES_MAX, sizeof *s->step.handles);
    if (s->to_items == NULL || s->from_items == NULL || s->step.sequences == NULL ||
        s->step.handles == NULL) {
        ingle_sched_free(s);
        return ingle_fail(err, -ENOMEM, "no memory for %u sequences", s->limits.sequences_max);
    }
    ingle_spsc_init(&s->to_step, s->to_items, s->limits.queue_messages, sizeof *s->to_items);
    ingle_spsc_init(&s->from_step, s->from_items, s->limits.queue_messages, sizeof *s->from_items);
    *ret = s;
    return 0;
}

void ingle_sched_free(struct ingle_sched *s)
{
    if (s == NULL) {
        return;
    }
    ingle_mem_free(s->to_items);
    ingle_mem_free(s->from_items);
    ingle_mem_free(s->step.sequences);
    ingle_mem_free(s->step.handles);
    ingle_mem_unmap(s, sizeof *s);
}

bool ingle_sched_send(struct ingle_sched *s, const struct ingle_to_step *msg)
{
    if (!ingle_spsc_push(&s->to_step, msg)) {
        return false;
    }
    ingle_park_wake(&s->park);
    return true;
}

bool ingle_sched_receive(struct ingle_sched *s, struct ingle_from_step *ret)
{
    return ingle_spsc_pop(&s->from_step, ret);
}

const struct ingle_sched_stats *ingle_sched_stats(const struct ingle_sched *s)
{
    return &s->stats;
}

/* ---- small helpers ------------------------------------------------------------------------------
 */

static void count(_Atomic uint64_t *counter, uint64_t n) /* step is the only writer */
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* The queue holds more than io can have outstanding; if io is that far behind, let it run. */
static void reply(struct ingle_sched *s, const struct ingle_from_step *msg)
{
    while (!ingle_spsc_push(&s->from_step, msg)) {
        ingle_board_mark(s->board, INGLE_BOARD_IO);
        ingle_board_flush(s->board);
        (void)sched_yield();
    }
    ingle_board_mark(s->board, INGLE_BOARD_IO);
}

static void reply_done(struct ingle_sched *s, struct ingle_request *request, int32_t res)
{
    request->out.res = res;
    reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_DONE,
                                       .port = request->in.port,
                                       .request = request,
                                       .res = res});
}

/* ---- context handles ----------------------------------------------------------------------------
 */

static uint64_t handle_id(const struct ingle_sched *s, const struct ingle_handle *h)
{
    return ((uint64_t)h->generation << 32) | (uint64_t)(h - s->step.handles + 1);
}

/* The handle of an id that `owner` (NULL: held ones) may use, or NULL. */
static struct ingle_handle *handle_find(struct ingle_sched *s, uint64_t id,
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

/* A handle for ctx (taken over), or NULL: no handle left, ctx stays the caller's. */
static struct ingle_handle *handle_open(struct ingle_sched *s, struct ingle_engine *engine,
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

static void handle_close(struct ingle_sched *s, struct ingle_handle *h)
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
    h = handle_open(s, from->engine, ctx, owner);
    if (h == NULL) {
        ingle_context_close(&from->engine->contexts, ctx);
        return -ENFILE;
    }
    h->has_tail = from->has_tail;
    h->tail = from->tail;
    *ret = h;
    return 0;
}

/* ---- requests that need no forward pass
 * ---------------------------------------------------------- */

static void context_request(struct ingle_sched *s, struct ingle_request *request)
{
    bool held = request->in.op == INGLE_REQ_TAKE_CTX || request->in.op == INGLE_REQ_DROP_CTX;
    struct ingle_port *owner = request->in.port;
    struct ingle_handle *h = handle_find(s, request->in.ctx, held ? NULL : owner);
    struct ingle_handle *copy = NULL;
    int r = 0;

    if (h == NULL) {
        reply_done(s, request, -ENOENT);
        return;
    }
    if (request->in.op == INGLE_REQ_CLOSE_CTX || request->in.op == INGLE_REQ_DROP_CTX) {
        if (h->busy) {
            r = -EBUSY;
        } else {
            handle_close(s, h);
        }
    } else {
        bool to_nobody = request->in.op == INGLE_REQ_HOLD_CTX;

        r = handle_fork(s, h, to_nobody ? NULL : owner, to_nobody ? h->ctx->tenant : owner->tenant,
                        &copy);
    }
    if (copy != NULL) {
        request->out.ctx = handle_id(s, copy);
        request->out.n_prompt = copy->ctx->n_tokens + (copy->has_tail ? 1 : 0);
    }
    reply_done(s, request, r);
}

/* ---- admission
 * ----------------------------------------------------------------------------------- */

static struct ingle_sequence *sequence_slot(struct ingle_sched *s)
{
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        if (s->step.sequences[i].request == NULL) {
            return &s->step.sequences[i];
        }
    }
    return NULL;
}

/* The context that a request works on: its own, or a new one that takes over what is known. */
static int sequence_context(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_request *request = seq->request;
    struct ingle_port *port = request->in.port;
    struct ingle_context *ctx;
    bool all_rows =
        request->in.sampling.n_prompt_logprobs != 0 || request->in.op == INGLE_REQ_EMBED;

    if (request->in.ctx != 0) {
        seq->handle = handle_find(s, request->in.ctx, port);
        if (seq->handle == NULL) {
            return -ENOENT;
        }
        if (seq->handle->busy) {
            seq->handle = NULL;
            return -EBUSY;
        }
        seq->engine = seq->handle->engine;
        return 0;
    }
    seq->engine = request->in.model < INGLE_MODEL_SLOTS ? s->step.engines[request->in.model] : NULL;
    if (seq->engine == NULL) {
        return -ENODEV;
    }
    ctx = ingle_context_open(&seq->engine->contexts, port->tenant);
    if (ctx == NULL) {
        return -EMFILE;
    }
    seq->handle = handle_open(s, seq->engine, ctx, port);
    if (seq->handle == NULL) {
        ingle_context_close(&seq->engine->contexts, ctx);
        return -ENFILE;
    }
    if (!all_rows) {
        request->out.n_cached =
            ingle_context_adopt(&seq->engine->contexts, ctx, request->in.tokens,
                                request->in.n_tokens, ingle_engine_structural, seq->engine);
        seq->n_fed = request->out.n_cached;
    }
    return 0;
}

/* Make this step's records visible, once per client, and note who sleeps. */
static void publish(struct ingle_sched *s, struct ingle_port *port)
{
    if (port->step.published && !port->step.bad) {
        uint32_t need = ingle_tok_publish(&port->tok) & (INGLE_WAKE_FUTEX | INGLE_WAKE_BELL);

        port->step.published = false;
        if (need != 0) {
            ingle_board_mark(s->board, port->slot);
        }
    }
}

/* Close what the request does not keep, answer, free the slot. */
static void sequence_finish(struct ingle_sched *s, struct ingle_sequence *seq, int32_t res)
{
    struct ingle_request *request = seq->request;
    struct ingle_handle *h = seq->handle;

    if (res < 0 && request->in.op == INGLE_REQ_GENERATE && !request->in.port->step.bad) {
        ingle_sequence_emit_cut(seq, s->step.now_ns);
    }
    if (h != NULL) {
        bool keep = request->in.ctx != 0 ||
                    ((request->in.sqe_flags & INGLE_SQE_F_KEEP_CTX) != 0 && res >= 0);

        h->busy = false;
        if (keep) {
            if (seq->decoding && seq->n_generated > 0) {
                h->has_tail = true;
                h->tail = seq->next;
            }
            request->out.ctx = handle_id(s, h);
        } else {
            handle_close(s, h);
        }
    }
    s->step.moved = true;
    request->in.port->step.n_requests--;
    publish(s, request->in.port); /* its last record comes before its completion */
    seq->request = NULL;
    s->step.n_sequences--;
    reply_done(s, request, res);
}

/* How many rows must be computed: an APPEND leaves its last token as the new tail. */
static void sequence_start(struct ingle_sched *s, struct ingle_request *request)
{
    struct ingle_sequence *seq = sequence_slot(s);
    uint32_t total, room;
    int r;

    ingle_assert(seq != NULL);
    memset(seq, 0, sizeof *seq);
    seq->request = request;
    s->step.n_sequences++;
    request->in.port->step.n_requests++;
    request->out.n_prompt = request->in.n_tokens;
    if (request->in.op == INGLE_REQ_RECORDS) {
        return;
    }
    r = sequence_context(s, seq);
    if (r < 0) {
        sequence_finish(s, seq, r);
        return;
    }
    seq->handle->busy = true;
    seq->feeds_tail = request->in.ctx != 0 && seq->handle->has_tail;
    total = request->in.n_tokens + (seq->feeds_tail ? 1 : 0);
    room = seq->engine->context_tokens - (request->in.ctx != 0 ? seq->handle->ctx->n_tokens : 0);
    if (total > room) {
        request->out.n_cached = seq->engine->context_tokens;
        request->out.n_prompt = seq->engine->context_tokens - room + total;
        sequence_finish(s, seq, -E2BIG);
        return;
    }
    if (request->in.op == INGLE_REQ_GENERATE && total == 0) {
        sequence_finish(s, seq, -EINVAL); /* nothing to go on from */
        return;
    }
    seq->n_feed = total;
    if (request->in.op == INGLE_REQ_APPEND && total > 0) {
        seq->n_feed = total - 1;
    }
    ingle_textout_init(&seq->textout, false);
    if (request->in.op == INGLE_REQ_EMBED && seq->engine->embed_sums != NULL) {
        uint32_t E = seq->engine->model->E;

        memset(seq->engine->embed_sums + (uint64_t)(seq - s->step.sequences) * E, 0,
               E * sizeof(float));
    }
    count(&s->stats.n_requests, 1);
    count(&s->stats.n_prompt_tokens, request->in.n_tokens);
    count(&s->stats.n_cached_tokens, request->out.n_cached);
}

static void admit(struct ingle_sched *s)
{
    while (s->step.waiting_first != NULL && s->step.n_sequences < s->limits.sequences_max) {
        struct ingle_request *request = s->step.waiting_first;

        s->step.waiting_first = request->next;
        if (s->step.waiting_first == NULL) {
            s->step.waiting_last = NULL;
        }
        request->next = NULL;
        s->step.n_waiting--;
        sequence_start(s, request);
    }
}

/* ---- messages
 * ------------------------------------------------------------------------------------ */

static void submit(struct ingle_sched *s, struct ingle_request *request)
{
    request->next = NULL;
    if (s->step.stopping) {
        reply_done(s, request, -ESHUTDOWN);
        return;
    }
    switch (request->in.op) {
    case INGLE_REQ_FORK_CTX:
    case INGLE_REQ_CLOSE_CTX:
    case INGLE_REQ_HOLD_CTX:
    case INGLE_REQ_TAKE_CTX:
    case INGLE_REQ_DROP_CTX:
        context_request(s, request);
        return;
    case INGLE_REQ_GENERATE:
    case INGLE_REQ_APPEND:
    case INGLE_REQ_EMBED:
    case INGLE_REQ_RECORDS:
        break;
    }
    if (s->step.waiting_last != NULL) {
        s->step.waiting_last->next = request;
    } else {
        s->step.waiting_first = request;
    }
    s->step.waiting_last = request;
    s->step.n_waiting++;
}

/* Which requests a sweep ends. */
struct sweep {
    const struct ingle_port *port;     /* NULL: of every client */
    const struct ingle_engine *engine; /* NULL: of every model */
    const uint64_t *user_data;         /* NULL: all of them */
};

static bool swept(const struct sweep *sweep, const struct ingle_request *request)
{
    return (sweep->port == NULL || request->in.port == sweep->port) &&
           (sweep->user_data == NULL || request->in.user_data == *sweep->user_data);
}

/* End every matching request with res; returns how many. */
static uint32_t end_requests(struct ingle_sched *s, const struct sweep *sweep, int32_t res)
{
    struct ingle_request **link = &s->step.waiting_first, *last = NULL;
    uint32_t n = 0;

    while (*link != NULL) {
        struct ingle_request *request = *link;

        if (swept(sweep, request) &&
            (sweep->engine == NULL ||
             (request->in.op != INGLE_REQ_RECORDS && request->in.model == sweep->engine->slot))) {
            *link = request->next;
            request->next = NULL;
            s->step.n_waiting--;
            n++;
            reply_done(s, request, res);
        } else {
            last = request;
            link = &request->next;
        }
    }
    s->step.waiting_last = last;
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (seq->request != NULL && swept(sweep, seq->request) &&
            (sweep->engine == NULL || seq->engine == sweep->engine)) {
            n++;
            sequence_finish(s, seq, res);
        }
    }
    return n;
}

static void close_contexts(struct ingle_sched *s, const struct ingle_port *port,
                           const struct ingle_engine *engine)
{
    for (uint32_t i = 0; i < INGLE_HANDLES_MAX; i++) {
        struct ingle_handle *h = &s->step.handles[i];

        if (h->ctx != NULL && (port == NULL || h->owner == port) &&
            (engine == NULL || h->engine == engine)) {
            handle_close(s, h);
        }
    }
}

static void detach(struct ingle_sched *s, struct ingle_port *port)
{
    port->step.bad = port->step.bad_told = true;
    (void)end_requests(s, &(struct sweep){.port = port}, -ECANCELED);
    close_contexts(s, port, NULL);
    reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_DETACHED, .port = port});
}

static void drop_model(struct ingle_sched *s, uint32_t slot)
{
    struct ingle_engine *engine = slot < INGLE_MODEL_SLOTS ? s->step.engines[slot] : NULL;

    if (engine != NULL) {
        (void)end_requests(s, &(struct sweep){.engine = engine}, -ENODEV);
        close_contexts(s, NULL, engine);
        s->step.engines[slot] = NULL;
    }
    reply(s, &(struct ingle_from_step){
                 .kind = INGLE_FROM_STEP_MODEL_DROPPED, .slot = slot, .engine = engine});
}

static void take_messages(struct ingle_sched *s)
{
    struct ingle_to_step msg;

    while (ingle_spsc_pop(&s->to_step, &msg)) {
        switch (msg.kind) {
        case INGLE_TO_STEP_ATTACH:
            memset(&msg.port->step, 0, sizeof msg.port->step);
            break;
        case INGLE_TO_STEP_DETACH:
            detach(s, msg.port);
            break;
        case INGLE_TO_STEP_SUBMIT:
            submit(s, msg.request);
            break;
        case INGLE_TO_STEP_CANCEL: {
            uint32_t n =
                end_requests(s, &(struct sweep){.port = msg.port, .user_data = &msg.user_data},
                             -ECANCELED);

            count(&s->stats.n_cancelled, n);
            reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_CANCELLED,
                                               .port = msg.port,
                                               .seq = msg.seq,
                                               .res = n > 0 ? 0 : -ENOENT});
            break;
        }
        case INGLE_TO_STEP_MODEL_ADD:
            ingle_assert(msg.slot < INGLE_MODEL_SLOTS && s->step.engines[msg.slot] == NULL);
            msg.engine->slot = msg.slot;
            s->step.engines[msg.slot] = msg.engine;
            break;
        case INGLE_TO_STEP_MODEL_DROP:
            drop_model(s, msg.slot);
            break;
        case INGLE_TO_STEP_STOP:
            (void)end_requests(s, &(struct sweep){0}, -ESHUTDOWN);
            close_contexts(s, NULL, NULL);
            s->step.stopping = true;
            break;
        }
    }
}

/* ---- one step of one engine
 * ----------------------------------------------------------------------- */

/* Take n feed tokens of a sequence into its context and into the batch; fewer when pages run out.
 */
static void put_rows(struct ingle_engine *e, struct ingle_sequence *seq, struct ingle_batch *batch,
                     uint32_t n)
{
    struct ingle_context *ctx = seq->handle->ctx;
    const struct ingle_request *request = seq->request;
    uint32_t done = 0, off = seq->feeds_tail ? 1 : 0;

    if (seq->decoding) {
        done = ingle_context_plan(&e->contexts, ctx, &seq->next, 1, ingle_engine_structural, e);
    } else {
        if (seq->feeds_tail && seq->n_fed == 0 && n > 0) {
            done = ingle_context_plan(&e->contexts, ctx, &seq->handle->tail, 1,
                                      ingle_engine_structural, e);
        }
        seq->handle->has_tail = seq->handle->has_tail && done == 0;
        if (seq->n_fed + done >= off && n > done) {
            done +=
                ingle_context_plan(&e->contexts, ctx, request->in.tokens + seq->n_fed + done - off,
                                   n - done, ingle_engine_structural, e);
        }
    }
    seq->row0 = batch->T;
    seq->n_rows = done;
    if (done == 0) {
        return;
    }
    if (e->model != NULL) {
        memcpy(batch->ids + batch->T, ctx->tokens + ctx->n_tokens - done,
               done * sizeof *batch->ids);
        for (uint32_t g = 0; g < e->model->n_groups; g++) {
            batch->seqs[g][batch->n_seqs] = ingle_context_view(ctx, g, batch->T, done);
        }
    }
    batch->T += done;
    batch->n_seqs++;
}

/* Rows that may be fed now: prompt scores need a place in the ring for each of their records. */
static uint32_t prefill_rows(struct ingle_sequence *seq, uint32_t budget)
{
    uint32_t n = seq->n_feed - seq->n_fed, n_lp = seq->request->in.sampling.n_prompt_logprobs;
    struct ingle_port *port = seq->request->in.port;

    n = n < budget ? n : budget;
    if (n_lp != 0) {
        int room = ingle_tok_writer_room(&port->tok);
        uint32_t rows;

        if (room < 0) {
            port->step.bad = true;
            return 0;
        }
        rows = (uint32_t)room > port->step.n_reserved + 1
                   ? ((uint32_t)room - port->step.n_reserved - 1) / n_lp
                   : 0;
        n = n < rows ? n : rows;
        seq->parked = n == 0;
        port->step.n_reserved += n * n_lp + 1; /* one for prompt token 0 */
    }
    return n;
}

static bool wants_rows(const struct ingle_sequence *seq, const struct ingle_engine *e)
{
    return seq->request != NULL && seq->engine == e && !seq->output.waiting && !seq->ended;
}

static void build_batch(struct ingle_sched *s, struct ingle_engine *e, struct ingle_batch *batch)
{
    batch->T = batch->n_seqs = 0;
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        seq->n_rows = seq->engine == e ? 0 : seq->n_rows;
        if (wants_rows(seq, e) && seq->decoding && batch->T < e->batch_tokens) {
            put_rows(e, seq, batch, 1);
        }
        if (seq->request != NULL) {
            seq->request->in.port->step.n_reserved = 0;
        }
    }
    for (uint32_t i = 0; i < s->limits.sequences_max && batch->T < e->batch_tokens; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (wants_rows(seq, e) && !seq->decoding && seq->n_fed < seq->n_feed) {
            put_rows(e, seq, batch, prefill_rows(seq, e->batch_tokens - batch->T));
        }
    }
}

/* A row whose result somebody wants. */
struct head_row {
    struct ingle_sequence *seq;
    uint32_t row;
    uint32_t feed_index; /* of the row's token; the last one is where a choice is made */
};

static void use_score(struct ingle_sched *s, const struct head_row *h, const float *logits)
{
    struct ingle_sequence *seq = h->seq;
    struct ingle_engine *e = seq->engine;
    uint32_t off = seq->feeds_tail ? 1 : 0, index = h->feed_index + 1 - off;
    struct ingle_choice *score = &seq->output.choice; /* free: nothing waits while prefilling */

    ingle_sampler_score(logits, e->V, e->backend->kernels->row_stat, seq->request->in.tokens[index],
                        seq->request->in.sampling.n_prompt_logprobs - 1u, score);
    (void)ingle_sequence_emit_score(seq, index, score, s->step.now_ns);
}

static void use_embedding(struct ingle_sched *s, const struct head_row *h, const float *hidden)
{
    uint32_t E = h->seq->engine->model->E;
    float *sum = h->seq->engine->embed_sums + (uint64_t)(h->seq - s->step.sequences) * E;

    for (uint32_t i = 0; i < E; i++) {
        sum[i] += hidden[i];
    }
}

static void emit_or_park(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_port *port = seq->request->in.port;

    if (ingle_sequence_emit(seq) == INGLE_EMIT_FULL && !seq->parked) {
        seq->parked = true;
        port->step.n_stalls++;
        count(&s->stats.n_parked, 1);
    }
}

/* Run the head over `n` collected rows and hand the results out. */
static void flush_head(struct ingle_sched *s, struct ingle_engine *e, const struct head_row *rows,
                       uint32_t n)
{
    bool want_logits = false;

    if (n == 0) {
        return;
    }
    if (e->model != NULL) {
        for (uint32_t i = 0; i < n; i++) {
            e->graph.index[i] = rows[i].row;
            want_logits = want_logits || rows[i].seq->request->in.op != INGLE_REQ_EMBED;
        }
        ingle_graph_head(&e->graph, n, want_logits);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ingle_sequence *seq = rows[i].seq;
        float *logits = e->model == NULL ? NULL : e->graph.logits + (uint64_t)i * e->V;

        if (seq->request->in.op == INGLE_REQ_EMBED) {
            if (e->model != NULL) {
                use_embedding(s, &rows[i], e->graph.hidden + (uint64_t)i * e->model->E);
            }
        } else if (rows[i].feed_index + 1 < seq->n_feed) {
            use_score(s, &rows[i], logits);
        } else {
            seq->decoding = true;
            ingle_sequence_choose(seq, logits, s->step.now_ns);
            count(&s->stats.n_generated_tokens, 1);
        }
    }
}

/* Prompt token 0 has nothing before it: its record comes with the first rows. */
static void score_first_token(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_choice none = {.token = seq->request->in.tokens[0]};

    if (seq->n_fed == 0 && !seq->feeds_tail) {
        (void)ingle_sequence_emit_score(seq, 0, &none, s->step.now_ns);
    }
}

/* After the body has run: rows of interest to the head, `INGLE_HEAD_ROWS` at a time. Scores come
 * first, because their place in the ring was reserved before any choice was made. */
static void use_rows(struct ingle_sched *s, struct ingle_engine *e)
{
    struct head_row rows[INGLE_HEAD_ROWS];
    uint32_t n = 0;

    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
            struct ingle_sequence *seq = &s->step.sequences[i];
            bool every = seq->request != NULL && (seq->request->in.op == INGLE_REQ_EMBED ||
                                                  seq->request->in.sampling.n_prompt_logprobs != 0);
            uint32_t first = seq->decoding ? seq->n_feed - 1 : seq->n_fed;

            if (seq->request == NULL || seq->engine != e || seq->n_rows == 0 ||
                seq->output.waiting) {
                continue;
            }
            if (pass == 0 && every && !seq->decoding && seq->request->in.op == INGLE_REQ_GENERATE) {
                score_first_token(s, seq);
            }
            for (uint32_t r = 0; r < seq->n_rows; r++) {
                bool last = seq->decoding || first + r + 1 == seq->n_feed;
                bool choice = last && seq->request->in.op == INGLE_REQ_GENERATE;
                bool score = !last && every;
                bool embed = seq->request->in.op == INGLE_REQ_EMBED;

                if (pass == 0 ? score || embed : choice) {
                    rows[n++] = (struct head_row){.seq = seq,
                                                  .row = seq->row0 + r,
                                                  .feed_index = first + r};
                }
                if (n == INGLE_HEAD_ROWS) {
                    flush_head(s, e, rows, n);
                    n = 0;
                }
            }
        }
        flush_head(s, e, rows, n);
        n = 0;
    }
}

/* The answer of an EMBED request: one record whose text is E floats. */
static void finish_embedding(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_engine *e = seq->engine;
    struct ingle_port *port = seq->request->in.port;
    struct ingle_tok tok = {.user_data = seq->request->in.user_data, .flags = INGLE_TOK_F_LAST};
    float *sum, norm = 0.0f;
    int r;

    if (e->model == NULL) {
        sequence_finish(s, seq, -EOPNOTSUPP);
        return;
    }
    sum = e->embed_sums + (uint64_t)(seq - s->step.sequences) * e->model->E;
    if (!seq->ended) {
        for (uint32_t i = 0; i < e->model->E; i++) {
            norm += sum[i] * sum[i];
        }
        norm = norm > 0.0f ? 1.0f / __builtin_sqrtf(norm) : 0.0f;
        for (uint32_t i = 0; i < e->model->E; i++) {
            sum[i] *= norm;
        }
        seq->ended = true;
    }
    r = e->model->E * sizeof(float) > UINT16_MAX ? -EMSGSIZE
        : port->step.bad
            ? -EPROTO
            : ingle_tok_write(&port->tok, &tok, sum, (uint16_t)(e->model->E * sizeof(float)));
    if (r == INGLE_RING_FULL) {
        return; /* the next step tries again */
    }
    port->step.published = port->step.published || r == 0;
    port->step.bad = port->step.bad || r == -EPROTO;
    sequence_finish(s, seq,
                    r == 0           ? (int32_t)e->model->E
                    : r == -EMSGSIZE ? -EMSGSIZE
                                     : -ECANCELED);
}

/* Returns the rows computed. */
static uint32_t run_engine(struct ingle_sched *s, struct ingle_engine *e)
{
    struct ingle_batch null_batch = {0};
    struct ingle_batch *batch = e->model != NULL ? &e->graph.batch : &null_batch;

    build_batch(s, e, batch);
    if (batch->T == 0) {
        return 0;
    }
    if (e->model != NULL) {
        ingle_graph_body(&e->graph);
    }
    s->step.now_ns = ingle_clock_ns();
    use_rows(s, e);
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (seq->request != NULL && seq->engine == e && seq->n_rows > 0) {
            ingle_context_commit(&e->contexts, seq->handle->ctx);
            if (seq->n_fed < seq->n_feed) {
                seq->n_fed += seq->n_rows;
            }
        }
    }
    count(&s->stats.n_steps, 1);
    atomic_store_explicit(&s->stats.n_evicted_chunks, e->store.n_evicted, memory_order_relaxed);
    return batch->T;
}

/* ---- the loop
 * -------------------------------------------------------------------------------------- */

/* Bring finished outputs into the rings and end what has ended. Returns the sequences that cannot
 * go on before their client reads. */
static uint32_t settle_sequences(struct ingle_sched *s)
{
    uint32_t n_parked = 0;

    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];
        struct ingle_request *request = seq->request;

        if (request == NULL) {
            continue;
        }
        if (request->in.port->step.bad) {
            if (!request->in.port->step.bad_told) {
                request->in.port->step.bad_told = true;
                reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_PORT_BAD,
                                                   .port = request->in.port});
            }
            sequence_finish(s, seq, -ECANCELED);
            continue;
        }
        if (request->in.deadline_ns != 0 && s->step.now_ns > request->in.deadline_ns) {
            sequence_finish(s, seq, -ETIME);
            continue;
        }
        if (request->in.op == INGLE_REQ_RECORDS) {
            enum ingle_emit e = ingle_sequence_emit_records(seq, s->step.now_ns);

            n_parked += e == INGLE_EMIT_FULL ? 1 : 0;
            if (e == INGLE_EMIT_DONE) {
                sequence_finish(s, seq, (int32_t)request->in.n_records);
            }
            continue;
        }
        if (seq->output.waiting) {
            emit_or_park(s, seq);
            if (seq->output.waiting) {
                n_parked++;
                if ((request->in.sqe_flags & INGLE_SQE_F_LATEST) != 0) {
                    sequence_finish(s, seq, -EOVERFLOW);
                }
                continue;
            }
            seq->parked = false;
            s->step.moved = true;
        }
        if (seq->ended && request->in.op == INGLE_REQ_GENERATE) {
            sequence_finish(s, seq, seq->end_res);
        } else if (request->in.op == INGLE_REQ_EMBED && seq->n_fed >= seq->n_feed) {
            finish_embedding(s, seq);
            n_parked += seq->request != NULL ? 1 : 0;
        } else if (request->in.op == INGLE_REQ_APPEND && seq->n_fed >= seq->n_feed) {
            if (request->in.n_tokens > 0) {
                seq->handle->has_tail = true;
                seq->handle->tail = request->in.tokens[request->in.n_tokens - 1];
            }
            sequence_finish(s, seq, (int32_t)request->in.n_tokens);
        } else if (seq->parked) { /* scores that found no room */
            n_parked++;
        }
    }
    return n_parked;
}

/* Nothing could be computed and nobody waits for a client: the pages are all in use by the running
 * sequences themselves. The newest gives way, so that the others can go on. */
static void break_deadlock(struct ingle_sched *s)
{
    struct ingle_sequence *newest = NULL;

    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (seq->request != NULL && seq->engine != NULL &&
            (newest == NULL || seq->request->in.accepted_ns > newest->request->in.accepted_ns)) {
            newest = seq;
        }
    }
    if (newest != NULL) {
        sequence_finish(s, newest, -ENOMEM);
    }
}

static void sleep_until_work(struct ingle_sched *s, int64_t timeout_ns)
{
    uint32_t ticket = ingle_park_ticket(&s->park);

    if (ingle_spsc_empty(&s->to_step)) {
        ingle_park_wait(&s->park, ticket, timeout_ns);
    } else {
        ingle_park_cancel(&s->park);
    }
}

void ingle_sched_run(struct ingle_sched *s)
{
    (void)pthread_setname_np(pthread_self(), "ingle-step");
    ingle_mem_watch_thread();
    for (;;) {
        uint32_t n_rows = 0, n_parked;
        uint64_t start_ns;

        s->step.moved = false;
        take_messages(s);
        if (s->step.stopping && s->step.n_sequences == 0) {
            reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_STOPPED});
            ingle_board_flush(s->board);
            return;
        }
        start_ns = s->step.now_ns = ingle_clock_ns();
        admit(s);
        for (uint32_t i = 0; i < INGLE_MODEL_SLOTS && s->step.n_sequences > 0; i++) {
            if (s->step.engines[i] != NULL) {
                n_rows += run_engine(s, s->step.engines[i]);
            }
        }
        n_parked = settle_sequences(s);
        for (uint32_t i = 0; i < s->limits.sequences_max && s->step.n_sequences > 0; i++) {
            if (s->step.sequences[i].request != NULL) {
                publish(s, s->step.sequences[i].request->in.port);
            }
        }
        s->step.moved = s->step.moved || n_rows > 0;
        if (!s->step.moved && n_parked == 0 && s->step.n_sequences > 0) {
            break_deadlock(s);
        }
        atomic_store_explicit(&s->stats.n_running, s->step.n_sequences, memory_order_relaxed);
        atomic_store_explicit(&s->stats.n_waiting, s->step.n_waiting, memory_order_relaxed);
        if (n_rows > 0) {
            atomic_store_explicit(&s->stats.step_ns_last, ingle_clock_ns() - start_ns,
                                  memory_order_relaxed);
        }
        ingle_board_flush(s->board);
        if (!s->step.moved) {
            sleep_until_work(s, s->step.n_sequences > 0 ? INGLE_PARKED_POLL_NS : -1);
        }
    }
}
