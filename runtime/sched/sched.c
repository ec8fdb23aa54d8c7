/* Owns the two queues between io and step and the step loop: take messages, admit, run one batch
 * per engine, settle, publish once per client, wake at most one thread. Nothing in it blocks,
 * allocates or logs. Not: contexts (handle.c), a request's life (sequence.c), rows (batch.c),
 * records (emit.c). */
#include "runtime/sched/sched.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/sched/state.h"

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

/* The queue holds more than io can have outstanding; if io is that far behind, let it run. */
void ingle_sched_reply(struct ingle_sched *s, const struct ingle_from_step *msg)
{
    while (!ingle_spsc_push(&s->from_step, msg)) {
        ingle_board_mark(s->board, INGLE_BOARD_IO);
        ingle_board_flush(s->board);
        (void)sched_yield();
    }
    ingle_board_mark(s->board, INGLE_BOARD_IO);
}

void ingle_sched_reply_done(struct ingle_sched *s, struct ingle_request *request, int32_t res)
{
    request->out.res = res;
    ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_DONE,
                                                   .port = request->in.port,
                                                   .request = request,
                                                   .res = res});
}

static void submit(struct ingle_sched *s, struct ingle_request *request)
{
    request->next = NULL;
    if (s->step.stopping) {
        ingle_sched_reply_done(s, request, -ESHUTDOWN);
        return;
    }
    switch (request->in.op) {
    case INGLE_REQ_FORK_CTX:
    case INGLE_REQ_CLOSE_CTX:
    case INGLE_REQ_HOLD_CTX:
    case INGLE_REQ_TAKE_CTX:
    case INGLE_REQ_DROP_CTX:
        ingle_sched_context_request(s, request);
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
            ingle_sched_reply_done(s, request, res);
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
            ingle_sequence_finish(s, seq, res);
        }
    }
    return n;
}

static void detach(struct ingle_sched *s, struct ingle_port *port)
{
    port->step.bad = port->step.bad_told = true;
    (void)end_requests(s, &(struct sweep){.port = port}, -ECANCELED);
    ingle_handle_close_all(s, port, NULL);
    ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_DETACHED, .port = port});
}

static void drop_model(struct ingle_sched *s, uint32_t slot)
{
    struct ingle_engine *engine = slot < INGLE_MODEL_SLOTS ? s->step.engines[slot] : NULL;

    if (engine != NULL) {
        (void)end_requests(s, &(struct sweep){.engine = engine}, -ENODEV);
        ingle_handle_close_all(s, NULL, engine);
        s->step.engines[slot] = NULL;
    }
    ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_MODEL_DROPPED,
                                                   .slot = slot,
                                                   .engine = engine});
}

static void take_messages(struct ingle_sched *s)
{
    struct ingle_to_step msg;

    while (ingle_spsc_pop(&s->to_step, &msg)) {
        switch (msg.kind) {
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

            ingle_sched_count(&s->stats.n_cancelled, n);
            ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_CANCELLED,
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
            ingle_handle_close_all(s, NULL, NULL);
            s->step.stopping = true;
            break;
        }
    }
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
        ingle_sequence_finish(s, newest, -ENOMEM);
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
            ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_STOPPED});
            ingle_board_flush(s->board);
            return;
        }
        start_ns = s->step.now_ns = ingle_clock_ns();
        ingle_sched_admit(s);
        for (uint32_t i = 0; i < INGLE_MODEL_SLOTS && s->step.n_sequences > 0; i++) {
            if (s->step.engines[i] != NULL) {
                n_rows += ingle_sched_run_engine(s, s->step.engines[i]);
            }
        }
        n_parked = ingle_sched_settle(s);
        for (uint32_t i = 0; i < s->limits.sequences_max && s->step.n_sequences > 0; i++) {
            if (s->step.sequences[i].request != NULL) {
                ingle_port_publish(s, s->step.sequences[i].request->in.port);
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
