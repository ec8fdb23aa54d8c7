/* Owns the life of a session, from accept to the moment step has let go of its port, and its
 * control socket. Everything read here is copied once, checked on the copy (shm/check.h) and then
 * acted on; a violation ends that session and touches no other.
 * Invariant: descriptors, timers and list links of a session are live only in the states that use
 * them; the regions stay mapped until step has replied to DETACH. Thread: io. */
#include "runtime/session/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"
#include "shm/check.h"
#include "shm/proto.h"

struct ingle_ctl_out {
    struct ingle_list link;
    enum ingle_ctl_type type;
    uint16_t flags;
    uint64_t seq;
    uint64_t bytes, sent;
    uint8_t payload[];
};

#define MESSAGES_PER_TURN 16u

/* ---- sending --------------------------------------------------------------------------------- */

/* The next datagram of a message; false when the socket takes no more now. */
static bool send_part(struct ingle_session *session, struct ingle_ctl_out *out)
{
    uint64_t room = INGLE_CTL_BYTES_MAX - sizeof(struct ingle_ctl_hdr);
    uint64_t left = out->bytes - out->sent;
    uint64_t part = left < room ? left : room;
    struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC,
                              .type = (uint16_t)out->type,
                              .flags =
                                  (uint16_t)(out->flags | (part < left ? INGLE_CTL_F_MORE : 0)),
                              .payload_bytes = (uint32_t)part,
                              .seq = out->seq,
                              .epoch = session->io->epoch};
    struct iovec iov[2] = {{.iov_base = &h, .iov_len = sizeof h},
                           {.iov_base = out->payload + out->sent, .iov_len = part}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (sendmsg(session->sock.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        out->sent += part;
    } else if (errno == EAGAIN || errno == ENOBUFS) {
        return false;
    } else {
        out->sent = out->bytes; /* the connection is over, which the read side will find */
    }
    return true;
}

static void free_out(struct ingle_session *session, struct ingle_ctl_out *out)
{
    ingle_list_remove(&out->link);
    session->n_outs--;
    ingle_mem_free(out);
}

static int watch_socket(struct ingle_session *session, bool want_out)
{
    int res;

    if (session->sock_watches_out == want_out) {
        return 0;
    }
    ingle_reactor_unwatch(&session->io->reactor, &session->sock);
    res = ingle_reactor_watch(&session->io->reactor, &session->sock,
                              want_out ? EPOLLIN | EPOLLOUT : EPOLLIN);
    session->sock_watches_out = want_out;
    return res;
}

static void flush_outs(struct ingle_session *session)
{
    while (!ingle_list_empty(&session->outs)) {
        struct ingle_ctl_out *out = ingle_container(session->outs.next, struct ingle_ctl_out, link);

        do {
            if (!send_part(session, out)) {
                if (watch_socket(session, true) != 0) {
                    ingle_session_end(session, 0, "the socket cannot be watched");
                }
                return;
            }
        } while (out->sent < out->bytes);
        free_out(session, out);
    }
    if (watch_socket(session, false) != 0) {
        ingle_session_end(session, 0, "the socket cannot be watched");
    }
}

void ingle_session_send(struct ingle_session *session, enum ingle_ctl_type type, uint16_t flags,
                        uint64_t seq, const void *payload, uint64_t bytes)
{
    struct ingle_ctl_out *out;

    if (session->sock.fd < 0) {
        return; /* lost: a client that comes back asks again */
    }
    if (session->n_outs == INGLE_REPLIES_QUEUED_MAX) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "%u replies were never read",
                          INGLE_REPLIES_QUEUED_MAX);
        return;
    }
    out = ingle_mem_alloc(sizeof *out + bytes);
    if (out == NULL) {
        ingle_session_end(session, INGLE_REJECT_NO_MEMORY, "no memory for a reply");
        return;
    }
    out->type = type;
    out->flags = flags;
    out->seq = seq;
    out->bytes = bytes;
    if (bytes != 0) {
        memcpy(out->payload, payload, bytes);
    }
    ingle_list_append(&session->outs, &out->link);
    session->n_outs++;
    if (session->n_outs == 1) {
        flush_outs(session);
    }
}

static void send_reject(struct ingle_session *session, enum ingle_reject_code code,
                        const char *text)
{
    struct ingle_ctl_reject reject = {
        .h = {.magic = INGLE_MAGIC,
              .type = INGLE_CTL_REJECT,
              .payload_bytes = sizeof reject - sizeof reject.h,
              .epoch = session->io->epoch},
        .code = code,
    };
    uint8_t scrap[64];

    (void)snprintf((char *)reject.text, sizeof reject.text, "%s", text);
    (void)send(session->sock.fd, &reject, sizeof reject, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* A socket closed with unread messages gives its peer ECONNRESET in place of the words just
     * sent. After the shutdown no more can come, so this ends. */
    (void)shutdown(session->sock.fd, SHUT_RD);
    while (recv(session->sock.fd, scrap, sizeof scrap, MSG_DONTWAIT) > 0) {
    }
}

/* ---- life ------------------------------------------------------------------------------------ */

static void drop_source(struct ingle_session *session, struct ingle_source *source)
{
    if (source->fd >= 0) {
        ingle_reactor_unwatch(&session->io->reactor, source);
        (void)close(source->fd);
        source->fd = -1;
    }
}

static void drop_socket(struct ingle_session *session)
{
    drop_source(session, &session->sock);
    session->sock_watches_out = false;
    while (!ingle_list_empty(&session->outs)) {
        free_out(session, ingle_container(session->outs.next, struct ingle_ctl_out, link));
    }
}

/* Everything but what step may still use. */
void ingle_session_bury(struct ingle_session *session)
{
    struct ingle_io *io = session->io;

    ingle_list_remove(&session->link);
    ingle_list_append(&io->dead, &session->link);
    if (session->slot != 0) {
        io->by_slot[session->slot] = NULL;
    }
    io->rings->bytes -= session->c2s.bytes + session->s2c.bytes;
    io->n_sessions--;
    ingle_io_listen_again(io);
}

void ingle_session_end(struct ingle_session *session, enum ingle_reject_code code, const char *fmt,
                       ...)
{
    struct ingle_io *io = session->io;
    struct ingle_to_step detach = {.kind = INGLE_TO_STEP_DETACH, .port = &session->port};
    char text[120], name[40];
    va_list ap;

    if (session->state == INGLE_SESSION_CLOSING) {
        return;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ingle_log_text(name, sizeof name, session->name, sizeof session->name);
    if (code != 0 && session->sock.fd >= 0) {
        send_reject(session, code, text);
    }
    if (code == INGLE_REJECT_PROTOCOL || code == INGLE_REJECT_MALFORMED) {
        io->counters.n_violations++;
    }
    ingle_log(code != 0 ? INGLE_LOG_WARN : INGLE_LOG_INFO,
              "session-end client=%u pid=%d uid=%u name=%s code=%u why=\"%s\"", session->client_id,
              (int)session->pid, (unsigned)session->uid, name, (unsigned)code, text);

    session->state = INGLE_SESSION_CLOSING;
    if (session->slot != 0) {
        ingle_bell_assign(&io->bell, session->slot, NULL);
    }
    drop_socket(session);
    drop_source(session, &session->pidfd);
    drop_source(session, &session->doorbell);
    ingle_reactor_disarm(&io->reactor, &session->timer);
    ingle_reactor_disarm(&io->reactor, &session->bell_timer);
    ingle_reactor_disarm(&io->reactor, &session->stall_timer);
    ingle_list_remove(&session->awake);
    ingle_list_remove(&session->dirty);
    ingle_models_forget(io, session);
    ingle_context_session_over(session);
    ingle_tenant_leave(session->tenant);
    session->tenant = NULL;
    if (session->known_to_step) {
        ingle_io_send(io, &detach);
    } else {
        ingle_session_bury(session);
    }
}

void ingle_session_detached(struct ingle_session *session)
{
    ingle_assert(session->state == INGLE_SESSION_CLOSING && session->n_inflight == 0);
    session->known_to_step = false;
    ingle_session_bury(session);
}

void ingle_session_free_dead(struct ingle_io *io)
{
    while (!ingle_list_empty(&io->dead)) {
        struct ingle_session *session = ingle_container(io->dead.next, struct ingle_session, link);

        ingle_list_remove(&session->link);
        while (!ingle_list_empty(&session->cancels)) {
            struct ingle_cancel *cancel =
                ingle_container(session->cancels.next, struct ingle_cancel, link);

            ingle_list_remove(&cancel->link);
            ingle_mem_free(cancel);
        }
        ingle_region_fini(&session->c2s);
        ingle_region_fini(&session->s2c);
        ingle_mem_free(session->text_ends);
        ingle_mem_free(session);
    }
}

void ingle_session_set_flags(struct ingle_session *session, uint32_t flags)
{
    session->flags = flags;
    if (ingle_sq_reader_flags(&session->sq, flags) == -EPROTO) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "sq_tail is a lie");
    }
}

void ingle_session_wake(struct ingle_session *session)
{
    if (session->state != INGLE_SESSION_LIVE || ingle_list_linked(&session->awake)) {
        return;
    }
    ingle_list_append(&session->io->awake, &session->awake);
    ingle_session_set_flags(session, session->flags & ~INGLE_S2C_SQ_NEED_WAKEUP);
}

/* The socket is gone. A live session waits for its process to come back with the resume token; its
 * requests go on meanwhile, until its rings are full. */
static void lose_socket(struct ingle_session *session)
{
    struct ingle_io *io = session->io;
    struct ingle_bell_slot who;

    if (session->state != INGLE_SESSION_LIVE) {
        ingle_session_end(session, 0, "closed during the handshake");
        return;
    }
    drop_socket(session);
    session->state = INGLE_SESSION_LOST;
    ingle_list_remove(&session->awake);
    who = io->bell.slots[session->slot]; /* io is the only writer of the table */
    who.sock = -1;
    ingle_bell_assign(&io->bell, session->slot, &who);
    if (ingle_reactor_arm(&io->reactor, &session->timer,
                          ingle_clock_ns() + INGLE_GRACE_MS * INGLE_NS_PER_MS) != 0) {
        ingle_session_end(session, 0, "no memory for a timer");
    }
}

static void timer_fired(struct ingle_timer *timer)
{
    struct ingle_session *session = ingle_container(timer, struct ingle_session, timer);

    if (session->state == INGLE_SESSION_LOST) {
        ingle_session_end(session, 0, "lost, and did not come back");
    } else {
        ingle_session_end(session, INGLE_REJECT_MALFORMED, "no handshake within %u ms",
                          INGLE_HANDSHAKE_MS);
    }
}

static void stall_fired(struct ingle_timer *timer)
{
    ingle_session_wake(ingle_container(timer, struct ingle_session, stall_timer));
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void live_message(struct ingle_session *session, const uint8_t *msg, size_t bytes)
{
    struct ingle_ctl_hdr h;
    int res = ingle_check_hdr(msg, bytes, INGLE_FROM_CLIENT, &h);

    if (res != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a malformed control message");
        return;
    }
    switch ((enum ingle_ctl_type)h.type) {
    case INGLE_CTL_PING:
        ingle_session_send(session, INGLE_CTL_PONG, 0, h.seq, NULL, 0);
        break;
    case INGLE_CTL_PONG:
        break;
    case INGLE_CTL_GOODBYE:
        ingle_session_end(session, 0, "goodbye");
        break;
    case INGLE_CTL_CTX_EXPORT:
    case INGLE_CTL_CTX_IMPORT:
    case INGLE_CTL_CTX_REVOKE:
        ingle_context_message(session, msg, bytes);
        break;
    case INGLE_CTL_ADMIN:
        ingle_admin_message(session, msg, bytes);
        break;
    case INGLE_CTL_HELLO:
    case INGLE_CTL_READY:
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "%s on a live session",
                          ingle_ctl_kind(h.type)->name);
        break;
    case INGLE_CTL_WELCOME:
    case INGLE_CTL_LIVE:
    case INGLE_CTL_REJECT:
    case INGLE_CTL_CTX_REPLY:
    case INGLE_CTL_ADMIN_REPLY:
    case INGLE_CTL_TYPE_END:
        ingle_assert(false); /* ingle_check_hdr lets nothing through that clients do not send */
    }
}

/* The pid in a message that the kernel has vouched for; 0 without one. */
static pid_t sender_pid(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        struct ucred cred;

        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS &&
            c->cmsg_len == CMSG_LEN(sizeof cred)) {
            memcpy(&cred, CMSG_DATA(c), sizeof cred);
            return cred.pid;
        }
    }
    return 0;
}

/* One datagram; false when there is none, or the session is over. */
static bool receive(struct ingle_session *session)
{
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    bool handshake =
        session->state == INGLE_SESSION_HELLO || session->state == INGLE_SESSION_WELCOMED;
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    struct iovec iov = {.iov_base = msg, .iov_len = sizeof msg};
    /* No room for descriptors, ever: what is not installed cannot stall us when it is closed. Until
     * READY there is room for exactly the credentials that the kernel adds. */
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = handshake ? control.room : NULL,
                        .msg_controllen = handshake ? sizeof control.room : 0};
    ssize_t n = recvmsg(session->sock.fd, &mh, MSG_DONTWAIT);

    if (n < 0 && errno == ECONNRESET) { /* it closed with bells unread: its last words come yet */
        n = recvmsg(session->sock.fd, &mh, MSG_DONTWAIT);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        lose_socket(session);
        return false;
    }
    if ((mh.msg_flags & MSG_TRUNC) != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a message longer than %u bytes",
                          INGLE_CTL_BYTES_MAX);
        return false;
    }
    if ((mh.msg_flags & MSG_CTRUNC) != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "descriptors are not accepted");
        return false;
    }
    switch (session->state) {
    case INGLE_SESSION_HELLO:
        ingle_handshake_hello(session, msg, (size_t)n);
        break;
    case INGLE_SESSION_WELCOMED:
        ingle_handshake_ready(session, msg, (size_t)n, sender_pid(&mh));
        break;
    case INGLE_SESSION_LIVE:
        live_message(session, msg, (size_t)n);
        break;
    case INGLE_SESSION_LOST:
    case INGLE_SESSION_CLOSING:
        break;
    }
    return session->sock.fd >= 0;
}

static void socket_ready(struct ingle_source *source, uint32_t events)
{
    struct ingle_session *session = ingle_container(source, struct ingle_session, sock);

    if ((events & EPOLLOUT) != 0) {
        flush_outs(session);
    }
    if (session->sock.fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        uint32_t n = 0;

        while (n < MESSAGES_PER_TURN && receive(session)) {
            n++;
        }
    }
}

static void pidfd_ready(struct ingle_source *source, uint32_t events)
{
    (void)events;
    ingle_session_end(ingle_container(source, struct ingle_session, pidfd), 0,
                      "its process is gone");
}

/* ---- doorbell -------------------------------------------------------------------------------- */

/* Buy one doorbell from the bucket: INGLE_WAKE_HZ a second, one second's worth at most. */
static bool pay_for_bell(struct ingle_session *session)
{
    const uint64_t price_ns = INGLE_NS_PER_S / INGLE_WAKE_HZ;
    uint64_t now_ns = ingle_clock_ns();

    session->bell_tokens_ns += now_ns - session->bell_filled_ns;
    session->bell_filled_ns = now_ns;
    if (session->bell_tokens_ns > INGLE_NS_PER_S) {
        session->bell_tokens_ns = INGLE_NS_PER_S;
    }
    if (session->bell_tokens_ns < price_ns) {
        return false;
    }
    session->bell_tokens_ns -= price_ns;
    return true;
}

static int listen_to_bell(struct ingle_session *session)
{
    /* Edge-triggered and never read: each write wakes once, and there is nothing to drain. */
    return ingle_reactor_watch(&session->io->reactor, &session->doorbell, EPOLLIN | EPOLLET);
}

static void bell_fired(struct ingle_timer *timer)
{
    struct ingle_session *session = ingle_container(timer, struct ingle_session, bell_timer);

    if (listen_to_bell(session) != 0) {
        ingle_session_end(session, 0, "the doorbell cannot be watched");
    } else {
        ingle_session_wake(session);
    }
}

static void doorbell_ready(struct ingle_source *source, uint32_t events)
{
    struct ingle_session *session = ingle_container(source, struct ingle_session, doorbell);
    struct ingle_io *io = session->io;

    (void)events;
    if (!pay_for_bell(session)) {
        session->n_floods++;
        io->counters.n_floods++;
        ingle_reactor_unwatch(&io->reactor, source);
        if (ingle_reactor_arm(&io->reactor, &session->bell_timer,
                              ingle_clock_ns() + INGLE_BELL_MASK_MS * INGLE_NS_PER_MS) != 0) {
            ingle_session_end(session, 0, "no memory for a timer");
        }
        return;
    }
    ingle_session_wake(session);
}

int ingle_session_hear_doorbell(struct ingle_session *session)
{
    session->bell_tokens_ns = INGLE_NS_PER_S;
    session->bell_filled_ns = ingle_clock_ns();
    return listen_to_bell(session);
}

/* ---- accept ---------------------------------------------------------------------------------- */

static uint32_t count_of_uid(const struct ingle_io *io, uid_t uid)
{
    uint32_t n = 0;

    for (struct ingle_list *l = io->sessions.next; l != &io->sessions; l = l->next) {
        n += ingle_container(l, struct ingle_session, link)->uid == uid;
    }
    return n;
}

bool ingle_session_uid_full(const struct ingle_session *session)
{
    return count_of_uid(session->io, session->uid) > INGLE_SESSIONS_PER_UID;
}

void ingle_session_accept(struct ingle_io *io, int fd)
{
    struct ucred cred;
    socklen_t cred_bytes = sizeof cred;
    struct ingle_session *session;
    int on = 1;

    io->counters.n_accepted++;
    /* HELLO is refused beyond the limit, with words; a flood that does not even say HELLO is cut
     * here, without. */
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 /* for READY */ ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_bytes) != 0 ||
        io->n_sessions >= INGLE_SESSIONS_MAX ||
        count_of_uid(io, cred.uid) >= 2 * INGLE_SESSIONS_PER_UID) {
        io->counters.n_rejected++;
        (void)close(fd);
        return;
    }
    session = ingle_mem_alloc(sizeof *session);
    if (session == NULL) {
        io->counters.n_rejected++;
        (void)close(fd);
        return;
    }
    session->io = io;
    session->state = INGLE_SESSION_HELLO;
    session->pid = cred.pid;
    session->uid = cred.uid;
    session->since_ns = ingle_clock_ns();
    session->sock = (struct ingle_source){.fd = fd, .ready = socket_ready};
    session->pidfd = (struct ingle_source){.fd = -1, .ready = pidfd_ready};
    session->doorbell = (struct ingle_source){.fd = -1, .ready = doorbell_ready};
    session->timer.fire = timer_fired;
    session->bell_timer.fire = bell_fired;
    session->stall_timer.fire = stall_fired;
    session->c2s.fd = session->s2c.fd = -1;
    ingle_list_init(&session->outs);
    ingle_list_init(&session->tickets);
    ingle_list_init(&session->cancels);
    ingle_list_append(&io->sessions, &session->link);
    io->n_sessions++;
    if (ingle_reactor_watch(&io->reactor, &session->sock, EPOLLIN) != 0 ||
        ingle_reactor_arm(&io->reactor, &session->timer,
                          session->since_ns + INGLE_HANDSHAKE_MS * INGLE_NS_PER_MS) != 0) {
        ingle_session_end(session, INGLE_REJECT_NO_MEMORY, "the connection cannot be watched");
        return;
    }
    (void)receive(session); /* HELLO is usually there already: one turn of the loop less */
}
