/* The contexts that clients may name, and how they pass between clients: export, import and
 * revocation of capability tokens. A token stands for a held copy of the context, which step keeps
 * until the token's row is removed; this file sees to it that no row goes without its DROP.
 * Invariant: instance.n_kept counts the rows of all clients and all tokens of that model, and with
 * n_promised never exceeds INGLE_CONTEXTS_KEPT, so that a request that keeps nothing always finds a
 * context. Thread: io. */
#include <errno.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"
#include "shm/check.h"

#define NEVER UINT64_MAX

/* ---- a client's table ------------------------------------------------------------------------ */

struct ingle_context_row *ingle_context_find(struct ingle_session *session, uint64_t ctx)
{
    for (uint32_t i = 0; i < session->n_contexts; i++) {
        if (session->contexts[i].ctx == ctx) {
            return &session->contexts[i];
        }
    }
    return NULL;
}

int ingle_context_promise(struct ingle_ticket *ticket, bool mine)
{
    struct ingle_session *session = ticket->session;
    struct ingle_instance *instance = ticket->instance;

    if (instance->n_kept + instance->n_promised >= INGLE_CONTEXTS_KEPT ||
        (mine && session->n_contexts + session->n_promised >= INGLE_CONTEXTS_PER_SESSION)) {
        return -ENOSPC;
    }
    instance->n_promised++;
    ticket->promised = true;
    if (mine) {
        session->n_promised++;
        ticket->promised_mine = true;
    }
    return 0;
}

void ingle_context_unpromise(struct ingle_ticket *ticket)
{
    if (ticket->promised) {
        ticket->instance->n_promised--;
        ticket->promised = false;
    }
    if (ticket->promised_mine) {
        ticket->session->n_promised--;
        ticket->promised_mine = false;
    }
}

void ingle_context_add(struct ingle_session *session, uint64_t ctx, uint16_t slot)
{
    ingle_assert(session->n_contexts < INGLE_CONTEXTS_PER_SESSION);
    session->contexts[session->n_contexts++] = (struct ingle_context_row){.ctx = ctx, .slot = slot};
    session->io->models.all[slot].n_kept++;
}

void ingle_context_remove(struct ingle_session *session, uint64_t ctx)
{
    struct ingle_context_row *row = ingle_context_find(session, ctx);

    if (row != NULL) {
        session->io->models.all[row->slot].n_kept--;
        *row = session->contexts[--session->n_contexts];
    }
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void reply(struct ingle_session *session, uint64_t seq, int32_t res, uint64_t ctx,
                  const struct ingle_cap *cap)
{
    struct ingle_ctl_ctx m = {.res = res, .ctx = ctx};

    if (cap != NULL) {
        memcpy(m.token, cap->token, sizeof m.token);
        m.rights = cap->rights;
        m.n_tokens = cap->n_tokens;
    }
    ingle_session_send(session, INGLE_CTL_CTX_REPLY, 0, seq, (const uint8_t *)&m + sizeof m.h,
                       sizeof m - sizeof m.h);
}

void ingle_context_drop_held(struct ingle_io *io, uint64_t ctx)
{
    struct ingle_ticket *ticket = ingle_ticket_create(NULL, INGLE_TICKET_DROP);

    if (ticket == NULL) { /* it stays held until its model goes: a leak of pages, not of safety */
        ingle_log(INGLE_LOG_ERROR, "context-leak why=\"no memory to drop a held context\"");
        return;
    }
    ticket->req.in.op = INGLE_REQ_DROP_CTX;
    ticket->req.in.ctx = ctx;
    ingle_ticket_submit(io, ticket);
}

static void forget_cap(struct ingle_io *io, struct ingle_cap *cap)
{
    io->models.all[cap->model].n_kept--;
    ingle_caps_remove(&io->caps, cap);
}

static void remove_cap(struct ingle_io *io, struct ingle_cap *cap)
{
    ingle_context_drop_held(io, cap->held_ctx);
    forget_cap(io, cap);
}

/* Drop what has expired and arm the timer for what expires next. */
static void expire(struct ingle_io *io)
{
    uint64_t now_ns = ingle_clock_ns(), next_ns = NEVER;

    for (uint32_t i = 0; i < io->caps.n;) {
        struct ingle_cap *cap = &io->caps.all[i];

        if (cap->expire_ns <= now_ns) {
            remove_cap(io, cap); /* another row is at i now */
            continue;
        }
        next_ns = cap->expire_ns < next_ns ? cap->expire_ns : next_ns;
        i++;
    }
    if (next_ns != NEVER && ingle_reactor_arm(&io->reactor, &io->caps_timer, next_ns) != 0) {
        ingle_log(INGLE_LOG_ERROR, "timer why=\"no memory; tokens expire late\"");
    }
}

void ingle_context_caps_fired(struct ingle_timer *timer)
{
    expire(ingle_container(timer, struct ingle_io, caps_timer));
}

void ingle_context_session_over(struct ingle_session *session)
{
    struct ingle_io *io = session->io;

    while (session->n_contexts > 0) { /* step closes them when it detaches the port */
        ingle_context_remove(session, session->contexts[0].ctx);
    }
    for (uint32_t i = 0; i < io->caps.n;) {
        struct ingle_cap *cap = &io->caps.all[i];

        if (cap->owner == session->client_id && cap->expire_ns == NEVER) {
            remove_cap(io, cap);
        } else {
            i++;
        }
    }
}

void ingle_context_model_over(struct ingle_io *io, uint16_t slot)
{
    for (uint32_t i = 0; i < io->caps.n;) {
        if (io->caps.all[i].model == slot) {
            forget_cap(io, &io->caps.all[i]); /* step has closed the context */
        } else {
            i++;
        }
    }
    for (struct ingle_list *l = io->sessions.next; l != &io->sessions; l = l->next) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, link);

        for (uint32_t i = 0; i < session->n_contexts;) {
            if (session->contexts[i].slot == slot) {
                ingle_context_remove(session, session->contexts[i].ctx);
            } else {
                i++;
            }
        }
    }
}

/* ---- messages -------------------------------------------------------------------------------- */

static int begin_export(struct ingle_session *session, const struct ingle_ctl_ctx *m)
{
    const struct ingle_context_row *row = ingle_context_find(session, m->ctx);
    struct ingle_ticket *ticket;
    int res;

    if (row == NULL) {
        return -ENOENT;
    }
    if (m->ttl_s > INGLE_CAP_TTL_S_MAX) {
        return -ERANGE;
    }
    ticket = ingle_ticket_create(session, INGLE_TICKET_EXPORT);
    if (ticket == NULL) {
        return -ENOMEM;
    }
    ticket->instance = &session->io->models.all[row->slot];
    res = ingle_context_promise(ticket, false);
    if (res != 0) {
        ingle_ticket_free(ticket);
        return res;
    }
    ticket->req.in.op = INGLE_REQ_HOLD_CTX;
    ticket->req.in.ctx = m->ctx;
    ticket->req.in.model = row->slot;
    ticket->seq = m->h.seq;
    ticket->rights = m->rights;
    ticket->ttl_s = m->ttl_s;
    ticket->uses = m->uses;
    ingle_ticket_submit(session->io, ticket);
    return 0;
}

static int begin_import(struct ingle_session *session, const struct ingle_ctl_ctx *m)
{
    struct ingle_io *io = session->io;
    struct ingle_cap *cap = ingle_caps_find(&io->caps, m->token, session->tenant->index);
    uint32_t rights = m->rights == 0 ? INGLE_CTX_RIGHT_FORK : m->rights;
    struct ingle_ticket *ticket;
    int res;

    if (cap == NULL || cap->expire_ns <= ingle_clock_ns()) {
        return -ENOENT;
    }
    if ((rights & ~cap->rights) != 0) {
        return -EACCES;
    }
    ticket = ingle_ticket_create(session, INGLE_TICKET_IMPORT);
    if (ticket == NULL) {
        return -ENOMEM;
    }
    ticket->instance = &io->models.all[cap->model];
    res = ingle_context_promise(ticket, true);
    if (res != 0) {
        ingle_ticket_free(ticket);
        return res;
    }
    ticket->req.in.op = INGLE_REQ_TAKE_CTX;
    ticket->req.in.ctx = cap->held_ctx;
    ticket->req.in.model = cap->model;
    ticket->seq = m->h.seq;
    ticket->n_tokens = cap->n_tokens;
    ingle_ticket_submit(io, ticket);
    /* APPEND is the right to be the one who goes on: it is used up by its first use. Messages to
     * step keep their order, so the drop comes after the fork. */
    if (cap->uses_left != UINT32_MAX) {
        cap->uses_left--;
    }
    if (cap->uses_left == 0 || (rights & INGLE_CTX_RIGHT_APPEND) != 0) {
        remove_cap(io, cap);
    }
    return 0;
}

static int revoke(struct ingle_session *session, const struct ingle_ctl_ctx *m)
{
    struct ingle_cap *cap = ingle_caps_find(&session->io->caps, m->token, session->tenant->index);

    if (cap == NULL) {
        return -ENOENT;
    }
    if (cap->owner != session->client_id) {
        return -EACCES;
    }
    remove_cap(session->io, cap);
    reply(session, m->h.seq, 0, 0, NULL);
    return 0;
}

void ingle_context_message(struct ingle_session *session, const void *msg, size_t bytes)
{
    struct ingle_ctl_ctx m;
    int res = ingle_check_ctx(msg, bytes, &m);

    if (res != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a malformed context message");
        return;
    }
    if (session->io->draining) {
        res = -ESHUTDOWN;
    } else if (m.h.type == INGLE_CTL_CTX_EXPORT) {
        res = begin_export(session, &m);
    } else if (m.h.type == INGLE_CTL_CTX_IMPORT) {
        res = begin_import(session, &m);
    } else {
        res = revoke(session, &m);
    }
    if (res != 0) {
        reply(session, m.h.seq, res, 0, NULL);
    }
}

/* ---- step's answers -------------------------------------------------------------------------- */

static void exported(struct ingle_ticket *ticket)
{
    struct ingle_session *session = ticket->session;
    struct ingle_io *io = session->io;
    struct ingle_cap cap = {
        .held_ctx = ticket->req.out.ctx,
        .expire_ns = ticket->ttl_s == 0 ? NEVER : ingle_clock_ns() + ticket->ttl_s * INGLE_NS_PER_S,
        .owner = session->client_id,
        .rights = ticket->rights,
        .uses_left = ticket->uses == 0 ? UINT32_MAX : ticket->uses,
        .n_tokens = ticket->req.out.n_prompt,
        .model = ticket->req.in.model,
    };
    struct ingle_cap *row = NULL;
    int res = ticket->req.out.res;

    if (res < 0) {
        reply(session, ticket->seq, res, 0, NULL);
        return;
    }
    if (session->state == INGLE_SESSION_CLOSING) {
        ingle_context_drop_held(io, cap.held_ctx);
        return;
    }
    cap.tenant = session->tenant->index;
    res = ingle_caps_add(&io->caps, &cap, &row);
    if (res != 0) {
        ingle_context_drop_held(io, cap.held_ctx);
    } else {
        ticket->instance->n_kept++;
    }
    reply(session, ticket->seq, res, ticket->req.in.ctx, row);
    expire(io);
}

void ingle_context_done(struct ingle_ticket *ticket)
{
    struct ingle_session *session = ticket->session;
    struct ingle_ctl_ctx m = {.res = ticket->req.out.res};

    if (ticket->kind == INGLE_TICKET_EXPORT) {
        exported(ticket);
        return;
    }
    ingle_assert(ticket->kind == INGLE_TICKET_IMPORT);
    if (session->state == INGLE_SESSION_CLOSING) {
        return; /* DETACH closes what the port owns */
    }
    if (m.res >= 0) {
        m.res = 0;
        m.ctx = ticket->req.out.ctx;
        m.n_tokens = ticket->n_tokens;
        ingle_context_add(session, m.ctx, ticket->req.in.model);
    }
    ingle_session_send(session, INGLE_CTL_CTX_REPLY, 0, ticket->seq, (uint8_t *)&m + sizeof m.h,
                       sizeof m - sizeof m.h);
}
