/* From step back to the client: completions. io is the only writer of a completion ring. A FINAL is
 * written when step has given the request back, after its last record was published. Owns tickets
 * while step has their requests. Thread: io. */
#include <stdatomic.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"

struct ingle_ticket *ingle_ticket_create(struct ingle_session *session, enum ingle_ticket_kind kind)
{
    struct ingle_ticket *ticket = ingle_mem_alloc(sizeof *ticket);

    if (ticket != NULL) {
        ticket->kind = kind;
        ticket->session = session;
        ticket->req.in.port = session == NULL ? NULL : &session->port;
        ticket->req.in.io_private = ticket;
    }
    return ticket;
}

void ingle_ticket_free(struct ingle_ticket *ticket)
{
    if (ticket != NULL) {
        ingle_context_unpromise(ticket);
        ingle_mem_free(ticket->req.in.tokens);
        ingle_mem_free(ticket->req.in.records);
        ingle_mem_free(ticket->req.in.record_text);
        ingle_mem_free(ticket);
    }
}

void ingle_ticket_submit(struct ingle_io *io, struct ingle_ticket *ticket)
{
    struct ingle_to_step msg = {.kind = INGLE_TO_STEP_SUBMIT,
                                .port = ticket->req.in.port,
                                .request = &ticket->req};

    if (ticket->session != NULL) {
        ingle_list_append(&ticket->session->tickets, &ticket->link);
        ticket->session->n_inflight++;
        ticket->session->known_to_step = true;
    }
    ingle_io_send(io, &msg);
}

void ingle_complete(struct ingle_session *session, const struct ingle_cqe *cqe)
{
    int res = ingle_cq_write(&session->cq, cqe);

    ingle_assert(res != INGLE_RING_FULL); /* reserved when the entry was taken */
    if (res != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "cq_head is a lie");
    } else if (!ingle_list_linked(&session->dirty)) {
        ingle_list_append(&session->io->dirty, &session->dirty);
    }
}

void ingle_publish_completions(struct ingle_io *io)
{
    while (!ingle_list_empty(&io->dirty)) {
        struct ingle_session *session =
            ingle_container(io->dirty.next, struct ingle_session, dirty);

        ingle_list_remove(&session->dirty);
        if ((ingle_cq_publish(&session->cq) & (INGLE_WAKE_FUTEX | INGLE_WAKE_BELL)) != 0) {
            ingle_bell_ring(&io->bell, session->slot);
        }
    }
}

/* How busy the runtime is, for the client's scheduling: in eighths, so that it tells little about
 * what others do. */
void ingle_show_load(struct ingle_session *session)
{
    const struct ingle_sched_stats *stats = ingle_sched_stats(session->io->sched);
    uint32_t running = atomic_load_explicit(&stats->n_running, memory_order_relaxed);
    uint32_t waiting = atomic_load_explicit(&stats->n_waiting, memory_order_relaxed);
    struct ingle_s2c_ctl *ctl = session->s2c.base;
    uint32_t eighths = (running * 8 + INGLE_SEQUENCES_MAX - 1) / INGLE_SEQUENCES_MAX;

    atomic_store_explicit((INGLE_ATOMIC_U64 *)&ctl->beat_ns, ingle_clock_ns(),
                          memory_order_relaxed);
    atomic_store_explicit((INGLE_ATOMIC_U32 *)&ctl->load_pct, eighths * 100 / 8,
                          memory_order_relaxed);
    atomic_store_explicit((INGLE_ATOMIC_U32 *)&ctl->queue_hint, (waiting + 7) / 8 * 8,
                          memory_order_relaxed);
}

/* The completion of an operation, once step is done with it. */
static void finish(struct ingle_ticket *ticket)
{
    struct ingle_session *session = ticket->session;
    const struct ingle_request *req = &ticket->req;
    struct ingle_cqe cqe = {
        .user_data = req->in.user_data,
        .res = req->out.res,
        .flags = INGLE_CQE_F_FINAL | (req->out.flags & INGLE_CQE_F_TRUNC),
        .ctx = req->out.ctx,
        .n_prompt = req->out.n_prompt,
        .n_cached = req->out.n_cached,
    };

    if (req->in.op == INGLE_REQ_RECORDS) {
        cqe.n_prompt = req->in.n_tokens;
        cqe.res = req->out.res >= 0 ? ticket->res : req->out.res;
    }
    if (req->in.op == INGLE_REQ_GENERATE && cqe.res > 0) {
        session->n_tokens += (uint64_t)cqe.res;
        session->io->counters.n_tokens += (uint64_t)cqe.res;
    }
    if (ticket->keep && cqe.ctx != 0) {
        ingle_context_add(session, cqe.ctx, req->in.model);
    }
    if (req->in.op == INGLE_REQ_CLOSE_CTX && cqe.res >= 0) {
        ingle_context_remove(session, req->in.ctx);
    }
    session->cqe_reserved--;
    ingle_show_load(session);
    ingle_complete(session, &cqe);
}

static void request_done(struct ingle_request *req)
{
    struct ingle_ticket *ticket = req->in.io_private;
    struct ingle_session *session = ticket->session;

    if (session != NULL) {
        ingle_assert(session->n_inflight > 0);
        ingle_list_remove(&ticket->link);
        session->n_inflight--;
        if (ticket->kind != INGLE_TICKET_OP) {
            ingle_context_done(ticket);
        } else if (session->state != INGLE_SESSION_CLOSING) {
            finish(ticket);
        }
    }
    ingle_ticket_free(ticket);
}

static void cancel_done(struct ingle_session *session, uint64_t seq, int32_t res)
{
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a ring of links has no end */
    for (struct ingle_list *l = session->cancels.next; l != &session->cancels; l = l->next) {
        struct ingle_cancel *cancel = ingle_container(l, struct ingle_cancel, link);

        if (cancel->seq == seq) {
            struct ingle_cqe cqe = {.user_data = cancel->user_data,
                                    .res = res,
                                    .flags = INGLE_CQE_F_FINAL};

            ingle_list_remove(&cancel->link);
            ingle_mem_free(cancel);
            if (session->state != INGLE_SESSION_CLOSING) {
                session->cqe_reserved--;
                ingle_complete(session, &cqe);
            }
            return;
        }
    }
    ingle_assert(false); /* step answers each cancel once */
}

void ingle_take_reply(struct ingle_io *io, const struct ingle_from_step *msg)
{
    struct ingle_session *session =
        msg->port == NULL ? NULL : ingle_container(msg->port, struct ingle_session, port);

    switch (msg->kind) {
    case INGLE_FROM_STEP_DONE:
        request_done(msg->request);
        break;
    case INGLE_FROM_STEP_CANCELLED:
        cancel_done(session, msg->seq, msg->res);
        break;
    case INGLE_FROM_STEP_DETACHED:
        ingle_session_detached(session);
        break;
    case INGLE_FROM_STEP_PORT_BAD:
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "tk_head is a lie");
        break;
    case INGLE_FROM_STEP_MODEL_DROPPED:
        ingle_models_dropped(io, (uint16_t)msg->slot);
        break;
    case INGLE_FROM_STEP_STOPPED:
        io->stopped = true;
        break;
    }
}
