/* HELLO to LIVE: who is it, may it, what does it get. Owns nothing beyond the session it fills.
 *
 *   HELLO ->            versions, sizes, name, label; uid and pid from the kernel
 *         <- WELCOME    two sealed regions, the doorbell, a nonce
 *   READY ->            the nonce, and again the kernel's word for the pid: it is still that
 * process
 *         <- LIVE       the rings are open
 *
 * Thread: io. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "shm/check.h"
#include "shm/geometry.h"
#include "shm/proto.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static bool random_bytes(void *dst, size_t bytes)
{
    return getrandom(dst, bytes, 0) == (ssize_t)bytes;
}

/* A pidfd of the peer. With an older kernel it is opened by number, and READY then proves that the
 * number still meant the peer when it was opened. */
static int open_pidfd(struct ingle_session *session)
{
    int fd;
    socklen_t bytes = sizeof fd;

    if (getsockopt(session->sock.fd, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0) {
        return fd;
    }
    if (errno != ENOPROTOOPT) {
        return -errno; /* the peer has ended: its number may be another's by now */
    }
    fd = (int)syscall(SYS_pidfd_open, session->pid, 0);
    return fd < 0 ? -errno : fd;
}

/* Whether the process of the pidfd runs: a pid that ended could have been given to another. */
static bool still_alive(const struct ingle_session *session)
{
    struct pollfd pidfd = {.fd = session->pidfd.fd, .events = POLLIN};

    return poll(&pidfd, 1, 0) == 0;
}

/* WELCOME with its three descriptors. The client's copies are made here; ours stay. */
static int send_welcome(struct ingle_session *session)
{
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(3 * sizeof(int))];
    } control = {.room = {0}};
    int fds[3] = {session->c2s.fd, session->s2c.fd, session->doorbell.fd};
    struct iovec iov = {.iov_base = &session->geometry, .iov_len = sizeof session->geometry};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.room,
                         .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    return sendmsg(session->sock.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The session of this process that lost its socket and whose resume token this is, or NULL. */
static struct ingle_session *find_lost(const struct ingle_session *session,
                                       const struct ingle_ctl_hello *hello)
{
    struct ingle_io *io = session->io;

    if (hello->last_epoch != io->epoch) {
        return NULL;
    }
    for (struct ingle_list *l = io->sessions.next; l != &io->sessions; l = l->next) {
        struct ingle_session *lost = ingle_container(l, struct ingle_session, link);
        unsigned differ = 0;

        for (size_t i = 0; i < sizeof lost->resume; i++) {
            differ |= (unsigned)(lost->resume[i] ^ hello->resume[i]);
        }
        if (lost->state == INGLE_SESSION_LOST && lost->uid == session->uid &&
            lost->pid == session->pid && differ == 0 && still_alive(lost)) {
            return lost;
        }
    }
    return NULL;
}

/* The new connection's socket becomes the lost session's; the new session itself goes away. */
static void resume(struct ingle_session *session, struct ingle_session *lost)
{
    struct ingle_io *io = session->io;
    int fd = session->sock.fd;

    ingle_reactor_unwatch(&io->reactor, &session->sock);
    session->sock.fd = -1;
    ingle_session_end(session, 0, "became session %u again", lost->client_id);
    ingle_reactor_disarm(&io->reactor, &lost->timer);
    lost->sock.fd = fd;
    lost->state = INGLE_SESSION_WELCOMED;
    if (!random_bytes(&lost->geometry.nonce, sizeof lost->nonce) ||
        ingle_reactor_watch(&io->reactor, &lost->sock, EPOLLIN) != 0 ||
        ingle_reactor_arm(&io->reactor, &lost->timer,
                          ingle_clock_ns() + INGLE_HANDSHAKE_MS * INGLE_NS_PER_MS) != 0 ||
        send_welcome(lost) != 0) {
        ingle_session_end(lost, INGLE_REJECT_NO_MEMORY, "could not be taken up again");
        return;
    }
    lost->nonce = lost->geometry.nonce;
    io->counters.n_resumed++;
}

static uint32_t free_slot(const struct ingle_io *io)
{
    for (uint32_t slot = 1; slot < INGLE_BOARD_SLOTS; slot++) {
        if (io->by_slot[slot] == NULL) {
            return slot;
        }
    }
    return 0;
}

/* The immutable part of S2C, its magic last: a client that sees the magic sees the rest. */
static void open_rings(struct ingle_session *session)
{
    const struct ingle_ctl_welcome *g = &session->geometry;
    void *c2s = session->c2s.base, *s2c = session->s2c.base;

    ingle_sq_reader_init(&session->sq, c2s, s2c, g->sq_off, g->sq_n);
    ingle_cq_writer_init(&session->cq, c2s, s2c, g->cq_off, g->cq_n);
    ingle_tok_writer_init(&session->port.tok, c2s, s2c, g->tk_off, g->tk_n, g->text_off,
                          g->text_bytes, session->text_ends);
    session->arena = (const uint8_t *)c2s + g->arena_off;
    session->port.slot = session->slot;
    session->port.client_id = session->client_id;
    session->port.tenant = session->tenant->index;
    memcpy(session->port.tenant_secret, session->tenant->secret,
           sizeof session->port.tenant_secret);
}

/* ---- kits ------------------------------------------------------------------------------------ */

void ingle_kit_fini(struct ingle_kit *kit)
{
    ingle_region_fini(&kit->c2s);
    ingle_region_fini(&kit->s2c);
    if (kit->doorbell >= 0) {
        (void)close(kit->doorbell);
    }
    ingle_mem_free(kit->text_ends);
    *kit = INGLE_KIT_NONE;
}

static int make_kit(struct ingle_io *io, const struct ingle_ctl_welcome *g, struct ingle_kit *ret)
{
    struct ingle_kit kit = INGLE_KIT_NONE;
    int res = ingle_region_create(&kit.c2s, INGLE_REGION_C2S, g->c2s_bytes);

    if (res == 0) {
        res = ingle_region_create(&kit.s2c, INGLE_REGION_S2C, g->s2c_bytes);
    }
    if (res == 0) {
        kit.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        kit.n_text_ends = g->tk_n;
        kit.text_ends = ingle_mem_array(g->tk_n, sizeof kit.text_ends[0]);
        res = kit.doorbell < 0 ? -errno : kit.text_ends == NULL ? -ENOMEM : 0;
    }
    if (res == 0 && !(random_bytes(kit.resume, sizeof kit.resume) &&
                      random_bytes(&kit.nonce, sizeof kit.nonce))) {
        res = -EIO;
    }
    if (res != 0) {
        ingle_kit_fini(&kit);
        return res;
    }
    io->rings->bytes += kit.c2s.bytes + kit.s2c.bytes;
    *ret = kit;
    return 0;
}

/* Reserving the pages of two regions takes longer than everything else in an attach together, so
 * one kit of the default sizes is made ahead, a moment after the last one was taken. */
void ingle_handshake_stock_up(struct ingle_timer *timer)
{
    const struct ingle_ctl_hello defaults = {0};
    struct ingle_ctl_welcome g = {0};
    struct ingle_stock *stock = ingle_container(timer, struct ingle_stock, timer);
    struct ingle_io *io = ingle_container(stock, struct ingle_io, stock);

    ingle_geometry_plan(&defaults, &g);
    if (ingle_ledger_admit(&io->ledger, "a session", (uint64_t)g.c2s_bytes + g.s2c_bytes, NULL) ==
        0) {
        (void)make_kit(io, &g, &stock->kit); /* else the attach makes its own, or says why not */
    }
}

static int take_kit(struct ingle_io *io, const struct ingle_ctl_welcome *g, struct ingle_kit *ret)
{
    struct ingle_stock *stock = &io->stock;

    if (stock->kit.c2s.bytes != g->c2s_bytes || stock->kit.s2c.bytes != g->s2c_bytes ||
        stock->kit.n_text_ends != g->tk_n) {
        return make_kit(io, g, ret);
    }
    *ret = stock->kit;
    stock->kit = INGLE_KIT_NONE;
    return ingle_reactor_arm(&io->reactor, &stock->timer,
                             ingle_clock_ns() + INGLE_STOCK_MS * INGLE_NS_PER_MS);
}

/* What a session is made of. 0, or -errno: whatever was made goes with the session. */
static int furnish(struct ingle_session *session, const struct ingle_ctl_hello *hello)
{
    struct ingle_io *io = session->io;
    struct ingle_ctl_welcome *g = &session->geometry;
    struct ingle_kit kit = INGLE_KIT_NONE;
    struct ingle_error err;
    uint64_t bytes;
    int res;

    ingle_geometry_plan(hello, g);
    bytes = (uint64_t)g->c2s_bytes + g->s2c_bytes;
    if (ingle_ledger_admit(&io->ledger, "a session", bytes, &err) != 0) {
        ingle_log(INGLE_LOG_WARN, "session-refused pid=%d why=\"%s\"", (int)session->pid, err.text);
        return -ENOMEM;
    }
    res = ingle_tenant_enter(&io->tenants, session->uid, hello->label, &session->tenant);
    if (res == 0) {
        res = take_kit(io, g, &kit);
    }
    session->c2s = kit.c2s;
    session->s2c = kit.s2c;
    session->doorbell.fd = kit.doorbell;
    session->text_ends = kit.text_ends;
    session->nonce = g->nonce = kit.nonce;
    memcpy(session->resume, kit.resume, sizeof session->resume);
    if (res == 0) {
        session->pidfd.fd = open_pidfd(session);
        res = session->pidfd.fd < 0 ? session->pidfd.fd : 0;
    }
    return res;
}

void ingle_handshake_hello(struct ingle_session *session, const void *msg, size_t bytes)
{
    struct ingle_io *io = session->io;
    struct ingle_ctl_hello hello;
    struct ingle_session *lost;
    struct ingle_ctl_welcome *g = &session->geometry;
    int res = ingle_check_hello(msg, bytes, &hello);

    if (res != 0) {
        io->counters.n_rejected++;
        ingle_session_end(session, (enum ingle_reject_code)res, "HELLO: %s",
                          ingle_reject_name((uint32_t)res));
        return;
    }
    memcpy(session->name, hello.name, sizeof session->name);
    memcpy(session->label, hello.label, sizeof session->label);
    lost = find_lost(session, &hello);
    if (lost != NULL) {
        resume(session, lost);
        return;
    }
    if (io->draining) {
        ingle_session_end(session, INGLE_REJECT_DRAINING, "ingled is shutting down");
        return;
    }
    session->slot = free_slot(io);
    if (session->slot == 0 || ingle_session_uid_full(session)) {
        session->slot = 0;
        io->counters.n_rejected++;
        ingle_session_end(session, INGLE_REJECT_TOO_MANY,
                          "uid %u has %u sessions already, the limit; close some",
                          (unsigned)session->uid, INGLE_SESSIONS_PER_UID);
        return;
    }
    io->by_slot[session->slot] = session;
    session->client_id = ++io->client_id_next;
    res = furnish(session, &hello);
    if (res == 0) {
        g->h = (struct ingle_ctl_hdr){.magic = INGLE_MAGIC,
                                      .type = INGLE_CTL_WELCOME,
                                      .payload_bytes = sizeof *g - sizeof g->h,
                                      .n_fds = 3,
                                      .epoch = io->epoch};
        g->client_id = session->client_id;
        g->tenant_id = session->tenant->index;
        g->wake_hz = INGLE_WAKE_HZ;
        memcpy(g->resume, session->resume, sizeof g->resume);
        ingle_header_publish(session->s2c.base, &session->geometry);
        open_rings(session);
        session->state = INGLE_SESSION_WELCOMED;
        res = send_welcome(session);
    }
    if (res == 0) { /* while the client maps; what rings or ends meanwhile is told then */
        res = ingle_reactor_watch(&io->reactor, &session->pidfd, EPOLLIN);
    }
    if (res == 0) {
        res = ingle_session_hear_doorbell(session);
    }
    if (res != 0) {
        io->counters.n_rejected++;
        ingle_session_end(session, INGLE_REJECT_NO_MEMORY, "no resources for a session: %s",
                          strerrordesc_np(-res));
    }
}

void ingle_handshake_ready(struct ingle_session *session, const void *msg, size_t bytes, pid_t pid)
{
    struct ingle_io *io = session->io;
    struct ingle_ctl_ready ready;
    struct ingle_bell_slot who;
    int off = 0;

    if (ingle_check_ready(msg, bytes, &ready) != 0 || ready.nonce != session->nonce ||
        pid != session->pid || !still_alive(session)) {
        io->counters.n_rejected++;
        ingle_session_end(session, INGLE_REJECT_DENIED, "READY is not from the process of HELLO");
        return;
    }
    /* Without it, any control data on a later message is a client that sends descriptors. */
    (void)setsockopt(session->sock.fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof off);
    ingle_reactor_disarm(&io->reactor, &session->timer);
    who = (struct ingle_bell_slot){
        .need_wake = (const INGLE_ATOMIC_U32 *)((const uint8_t *)session->c2s.base +
                                                offsetof(struct ingle_c2s_ctl, need_wake)),
        .wake_seq = (INGLE_ATOMIC_U32 *)((uint8_t *)session->s2c.base +
                                         offsetof(struct ingle_s2c_ctl, wake_seq)),
        .sock = session->sock.fd,
    };
    ingle_bell_assign(&io->bell, session->slot, &who);
    session->state = INGLE_SESSION_LIVE;
    ingle_session_send(session, INGLE_CTL_LIVE, 0, 0, NULL, 0);
    if (session->state == INGLE_SESSION_CLOSING) {
        return;
    }
    if (!session->was_live) {
        session->was_live = true;
        io->counters.n_attached++;
        ingle_log(INGLE_LOG_INFO, "attach client=%u pid=%d uid=%u tenant=%u", session->client_id,
                  (int)session->pid, (unsigned)session->uid, session->tenant->index);
    }
    ingle_session_wake(session); /* a resumed client may have submitted meanwhile */
}
