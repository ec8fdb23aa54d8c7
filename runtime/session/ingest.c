/* The submission ring: entries to answers or to requests for step. Owns nothing. Every entry is a
 * private copy (ingle_sq_read), checked before anything is made of it; the payload is copied out of
 * the arena once. Invariant: an entry is taken only when the completion ring has room for all that
 * it can bring, so a completion never has to wait. Thread: io. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"
#include "shm/check.h"

#define CQES_PER_SQE 2u /* ACCEPTED and FINAL */

static void answer(struct ingle_session *session, const struct ingle_sqe *sqe, int32_t res)
{
    struct ingle_cqe cqe = {
        .user_data = sqe->user_data, .res = res, .flags = INGLE_CQE_F_FINAL, .ctx = sqe->ctx};

    if (res < 0) {
        session->n_refused++;
        session->io->counters.n_refused++;
    }
    ingle_complete(session, &cqe);
}

/* A counter of the S2C region, for the client to read. */
static void count_for_client(struct ingle_session *session, size_t offset)
{
    INGLE_ATOMIC_U32 *word = (INGLE_ATOMIC_U32 *)((uint8_t *)session->s2c.base + offset);

    (void)atomic_fetch_add_explicit(word, 1, memory_order_relaxed);
}

static struct ingle_ticket *find_ticket(struct ingle_session *session, uint64_t user_data)
{
    for (struct ingle_list *l = session->tickets.next; l != &session->tickets; l = l->next) {
        struct ingle_ticket *ticket = ingle_container(l, struct ingle_ticket, link);

        if (ticket->kind == INGLE_TICKET_OP && ticket->req.in.user_data == user_data) {
            return ticket;
        }
    }
    return NULL;
}

static bool idem_is_live(const struct ingle_session *session, uint64_t idem)
{
    for (struct ingle_list *l = session->tickets.next; l != &session->tickets; l = l->next) {
        if (ingle_container(l, struct ingle_ticket, link)->idem == idem) {
            return true;
        }
    }
    return false;
}

static void cancel(struct ingle_session *session, const struct ingle_sqe *sqe)
{
    struct ingle_ticket *ticket = find_ticket(session, sqe->arg);
    struct ingle_cancel *record;
    struct ingle_to_step msg = {.kind = INGLE_TO_STEP_CANCEL,
                                .port = &session->port,
                                .user_data = sqe->arg,
                                .seq = session->cancel_seq + 1};

    if (ticket == NULL || ticket->cancelled) {
        answer(session, sqe, ticket == NULL ? -ENOENT : -EALREADY);
        return;
    }
    record = ingle_mem_alloc(sizeof *record);
    if (record == NULL) {
        answer(session, sqe, -ENOMEM);
        return;
    }
    record->seq = ++session->cancel_seq;
    record->user_data = sqe->user_data;
    ingle_list_append(&session->cancels, &record->link);
    ticket->cancelled = true;
    session->cqe_reserved++;
    ingle_io_send(session->io, &msg);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static int take_params(struct ingle_ticket *ticket, const struct ingle_sqe *sqe, uint32_t n_vocab)
{
    struct ingle_session *session = ticket->session;
    struct ingle_sampling *s = &ticket->req.in.sampling;
    struct ingle_stop_set *stops = &ticket->req.in.stops;
    struct ingle_params_view v;
    uint8_t block[INGLE_PARAMS_BYTES_MAX];

    memset(&v, 0, sizeof v);
    if (sqe->par_bytes == 0) {
        ingle_params_default(&v.p);
    } else if (ingle_copy_in(block, session->arena, session->geometry.arena_bytes, sqe->par_off,
                             sqe->par_bytes) != 0 ||
               ingle_check_params(block, sqe->par_bytes, &v) != 0) {
        return -EINVAL;
    }
    *s = (struct ingle_sampling){
        .temperature = v.p.temperature,
        .top_p = v.p.top_p,
        .min_p = v.p.min_p,
        .typical_p = v.p.typical_p,
        .repeat_penalty = v.p.repeat_penalty,
        .frequency_penalty = v.p.frequency_penalty,
        .presence_penalty = v.p.presence_penalty,
        .top_k = v.p.top_k,
        .repeat_last_n = v.p.repeat_last_n,
        .min_tokens = v.p.min_tokens,
        .seed = v.p.seed,
        .n_logprobs = v.p.n_logprobs,
        .n_prompt_logprobs = v.p.n_prompt_logprobs,
        .ignore_eos = (v.p.flags & INGLE_PAR_F_IGNORE_EOS) != 0,
        .n_stop_ids = v.p.n_stop_ids,
        .n_bias = v.p.n_bias,
    };
    for (uint32_t i = 0; i < v.p.n_stop_ids; i++) {
        if ((uint32_t)v.stop_ids[i] >= n_vocab) {
            return -EINVAL;
        }
        s->stop_ids[i] = v.stop_ids[i];
    }
    for (uint32_t i = 0; i < v.p.n_bias; i++) {
        if ((uint32_t)v.biases[i].id >= n_vocab) {
            return -EINVAL;
        }
        s->bias[i].id = v.biases[i].id;
        s->bias[i].bias = v.biases[i].bias;
    }
    stops->n = v.p.n_stop;
    for (uint32_t i = 0; i < v.p.n_stop; i++) {
        stops->bytes[i] = (uint8_t)v.stops[i].bytes;
        memcpy(stops->text[i], v.stops[i].text, v.stops[i].bytes);
    }
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------- */

static enum ingle_request_op request_op(uint8_t op)
{
    switch ((enum ingle_op_code)op) {
    case INGLE_OP_GENERATE:
        return INGLE_REQ_GENERATE;
    case INGLE_OP_APPEND:
        return INGLE_REQ_APPEND;
    case INGLE_OP_EMBED:
        return INGLE_REQ_EMBED;
    case INGLE_OP_FORK_CTX:
        return INGLE_REQ_FORK_CTX;
    case INGLE_OP_CLOSE_CTX:
        return INGLE_REQ_CLOSE_CTX;
    case INGLE_OP_NOP:
    case INGLE_OP_CANCEL:
    case INGLE_OP_TOKENIZE:
    case INGLE_OP_DETOKENIZE:
    case INGLE_OP_TEMPLATE:
    case INGLE_OP_END:
        break;
    }
    return INGLE_REQ_RECORDS;
}

/* What an operation with a context or a payload needs before its payload is read. */
static int find_instance(struct ingle_session *session, const struct ingle_sqe *sqe,
                         struct ingle_instance **ret)
{
    uint16_t slot = sqe->model;

    if (sqe->ctx != 0) {
        const struct ingle_context_row *row = ingle_context_find(session, sqe->ctx);

        if (row == NULL) {
            return -ENOENT;
        }
        slot = row->slot;
    }
    return ingle_models_serving(&session->io->models, slot, ret);
}

static bool brings_context(const struct ingle_sqe *sqe)
{
    return sqe->op == INGLE_OP_FORK_CTX ||
           (sqe->ctx == 0 && (sqe->flags & INGLE_SQE_F_KEEP_CTX) != 0);
}

/* The payload, NUL behind it, as memory of ours. */
static int take_payload(struct ingle_session *session, const struct ingle_sqe *sqe, char **ret)
{
    char *payload = ingle_mem_alloc((uint64_t)sqe->payload_bytes + 1);

    if (payload == NULL) {
        return -ENOMEM;
    }
    if (ingle_copy_in(payload, session->arena, session->geometry.arena_bytes, sqe->off,
                      sqe->payload_bytes) != 0) {
        ingle_mem_free(payload);
        return -EPROTO;
    }
    *ret = payload;
    return 0;
}

/* Fill the ticket; on failure *refusal says what the completion is to say. */
static int prepare(struct ingle_ticket *ticket, const struct ingle_sqe *sqe,
                   struct ingle_prompt_refusal *refusal)
{
    struct ingle_request *req = &ticket->req;
    char *payload = NULL;
    int res;

    ticket->op = sqe->op;
    ticket->idem = sqe->idem;
    ticket->keep = brings_context(sqe);
    req->in.op = request_op(sqe->op);
    req->in.model = ticket->instance->slot;
    req->in.prio = sqe->prio;
    req->in.sqe_flags = sqe->flags & (INGLE_SQE_F_KEEP_CTX | INGLE_SQE_F_LATEST);
    req->in.user_data = sqe->user_data;
    req->in.ctx = sqe->ctx;
    req->in.deadline_ns = sqe->arg;
    req->in.max_tokens = sqe->max_tokens;
    req->in.resume_idx = sqe->resume_idx;
    if (req->in.op == INGLE_REQ_FORK_CTX || req->in.op == INGLE_REQ_CLOSE_CTX) {
        return 0;
    }
    res = take_params(ticket, sqe, ticket->instance->n_vocab);
    if (res == 0) {
        res = take_payload(ticket->session, sqe, &payload);
    }
    if (res == 0) {
        res = req->in.op == INGLE_REQ_RECORDS ? ingle_prompt_records(ticket, sqe, payload, refusal)
                                              : ingle_prompt_tokens(ticket, sqe, payload, refusal);
    }
    ingle_mem_free(payload);
    return res;
}

static void request(struct ingle_session *session, const struct ingle_sqe *sqe)
{
    struct ingle_prompt_refusal refusal = {0};
    struct ingle_instance *instance = NULL;
    struct ingle_ticket *ticket = NULL;
    struct ingle_cqe cqe = {.user_data = sqe->user_data, .ctx = sqe->ctx};
    int res;

    if (session->n_inflight >= session->geometry.max_inflight) {
        res = -EBUSY;
    } else if (sqe->idem != 0 && idem_is_live(session, sqe->idem)) {
        res = -EEXIST;
    } else {
        res = find_instance(session, sqe, &instance);
    }
    if (res == 0) {
        ticket = ingle_ticket_create(session, INGLE_TICKET_OP);
        res = ticket == NULL ? -ENOMEM : 0;
    }
    if (res == 0) {
        ticket->instance = instance;
        res = brings_context(sqe) ? ingle_context_promise(ticket, true) : 0;
    }
    if (res == 0) {
        res = prepare(ticket, sqe, &refusal);
    }
    if (res != 0) {
        ingle_ticket_free(ticket);
        cqe.res = res;
        cqe.flags = INGLE_CQE_F_FINAL;
        cqe.n_prompt = refusal.n_prompt;
        cqe.n_cached = refusal.n_cached;
        session->n_refused++;
        session->io->counters.n_refused++;
        ingle_complete(session, &cqe);
        return;
    }
    cqe.flags = INGLE_CQE_F_ACCEPTED;
    cqe.n_prompt = ticket->req.in.n_tokens;
    session->cqe_reserved++; /* FINAL */
    session->n_requests++;
    session->io->counters.n_requests++;
    instance->n_requests++;
    ticket->req.in.accepted_ns = ingle_clock_ns();
    ingle_show_load(session);
    ingle_complete(session, &cqe);
    if (session->state == INGLE_SESSION_CLOSING) {
        ingle_ticket_free(ticket);
        return;
    }
    ingle_ticket_submit(session->io, ticket);
}

static void take(struct ingle_session *session, const struct ingle_sqe *sqe)
{
    int res = ingle_check_sqe(sqe, session->geometry.arena_bytes);

    session->n_sqes++;
    if (res == -EPROTO) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a payload outside of the arena");
    } else if (res != 0) {
        count_for_client(session, offsetof(struct ingle_s2c_ctl, sq_bad));
        answer(session, sqe, res);
    } else if (sqe->op == INGLE_OP_NOP) {
        answer(session, sqe, 0);
    } else if (sqe->op == INGLE_OP_CANCEL) {
        cancel(session, sqe);
    } else if (session->io->draining) {
        answer(session, sqe, -ESHUTDOWN);
    } else {
        request(session, sqe);
    }
}

/* The client leaves completions unread: it gets no more until it reads. Nothing tells us when it
 * does, so a timer looks. */
static void stall(struct ingle_session *session)
{
    struct ingle_io *io = session->io;

    count_for_client(session, offsetof(struct ingle_s2c_ctl, cq_stall));
    ingle_list_remove(&session->awake);
    if (ingle_reactor_arm(&io->reactor, &session->stall_timer,
                          ingle_clock_ns() + INGLE_STALL_RETRY_MS * INGLE_NS_PER_MS) != 0) {
        ingle_session_end(session, INGLE_REJECT_NO_MEMORY, "no memory for a timer");
    }
}

uint32_t ingle_ingest(struct ingle_session *session)
{
    struct ingle_sqe sqe;
    uint32_t n = 0;

    while (n < INGLE_SQES_PER_TURN && session->state == INGLE_SESSION_LIVE) {
        uint32_t want = session->cqe_reserved + CQES_PER_SQE;
        int room = ingle_cq_writer_room(&session->cq, want);
        int res;

        if (room >= 0 && (uint32_t)room < want) {
            stall(session);
            break;
        }
        res = room < 0 ? room : ingle_sq_read(&session->sq, &sqe);
        if (res == INGLE_RING_EMPTY) {
            break;
        }
        if (res != 0) {
            ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a ring index is a lie");
            break;
        }
        take(session, &sqe);
        n++;
    }
    if (n != 0 && session->state != INGLE_SESSION_CLOSING) {
        ingle_sq_release(&session->sq);
    }
    return n;
}
