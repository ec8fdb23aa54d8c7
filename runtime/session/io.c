/* Owns the io thread: its loop, its queues, everything in struct ingle_io. What is untrusted is
 * parsed on this thread; nothing here waits for a client or for step.
 *
 *   turn:  replies of step -> rings of the clients that are awake -> completions published
 *   then:  something was done: again.  spin_us not over: again.  Else every awake client is told to
 *          ring, its ring is looked at once more (the order is ingle_doorbell's), and io sleeps.
 *
 * Invariant: while io sleeps, every live client's flags have SQ_NEED_WAKEUP or its doorbell or its
 * completion ring has a timer. */
#include "runtime/session/io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"

#define REPLIES_PER_TURN 256u
#define BUSY_TURNS       16u /* turns between looks at the descriptors while there is work */
#define SPIN_TURNS       64u /* the same while io spins: one look costs as much as many turns */

/* ---- messages to step ------------------------------------------------------------------------ */

void ingle_io_send(struct ingle_io *io, const struct ingle_to_step *msg)
{
    if (io->backlog_n == 0 && ingle_sched_send(io->sched, msg)) {
        return;
    }
    if (io->backlog_i + io->backlog_n == io->backlog_room) {
        uint32_t room = io->backlog_room == 0 ? 256 : io->backlog_room;
        struct ingle_to_step *backlog;

        if (io->backlog_i > 0) {
            memmove(io->backlog, io->backlog + io->backlog_i, io->backlog_n * sizeof *backlog);
            io->backlog_i = 0;
        } else {
            backlog =
                ingle_mem_grow(io->backlog, io->backlog_room, UINT64_C(2) * room, sizeof *backlog);
            ingle_assert(backlog != NULL); /* bounded by the requests in flight */
            io->backlog = backlog;
            io->backlog_room = 2 * room;
        }
    }
    io->backlog[io->backlog_i + io->backlog_n++] = *msg;
}

static void send_backlog(struct ingle_io *io)
{
    while (io->backlog_n > 0 && ingle_sched_send(io->sched, &io->backlog[io->backlog_i])) {
        io->backlog_i++;
        io->backlog_n--;
    }
    if (io->backlog_n == 0) {
        io->backlog_i = 0;
    }
}

/* ---- connections ----------------------------------------------------------------------------- */

/* One connection a turn: epoll tells of the next one at less than what asking in vain costs. */
static void listen_ready(struct ingle_source *source, uint32_t events)
{
    struct ingle_io *io = ingle_container(source, struct ingle_io, listen);
    uint32_t fds = (io->n_sessions + 1) * INGLE_FDS_PER_SESSION + INGLE_FDS_RESERVED;
    int fd;

    (void)events;
    if (fds > io->fds_max) {
        ingle_reactor_unwatch(&io->reactor, &io->listen); /* until a session has ended */
        io->listening = false;
        ingle_log(INGLE_LOG_WARN, "accept-paused sessions=%u fds_max=%u", io->n_sessions,
                  io->fds_max);
        return;
    }
    fd = accept4(io->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        ingle_session_accept(io, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        ingle_log(INGLE_LOG_WARN, "accept-failed why=\"%s\"", strerrordesc_np(errno));
        ingle_reactor_unwatch(&io->reactor, &io->listen);
        io->listening = false;
        if (ingle_reactor_arm(&io->reactor, &io->listen_timer,
                              ingle_clock_ns() + INGLE_ACCEPT_RETRY_MS * INGLE_NS_PER_MS) != 0) {
            ingle_log(INGLE_LOG_ERROR, "timer why=\"no memory\"");
        }
    }
}

void ingle_io_listen_again(struct ingle_io *io)
{
    if (!io->listening && !io->draining && io->listen.fd >= 0 &&
        ingle_reactor_watch(&io->reactor, &io->listen, EPOLLIN) == 0) {
        io->listening = true;
    }
}

static void listen_fired(struct ingle_timer *timer)
{
    ingle_io_listen_again(ingle_container(timer, struct ingle_io, listen_timer));
}

static void wake_ready(struct ingle_source *source, uint32_t events)
{
    (void)source; /* edge-triggered and never read; what it announces is looked at every turn */
    (void)events;
}

/* ---- life ------------------------------------------------------------------------------------ */

static uint32_t raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
            limit = more;
        }
    }
    return limit.rlim_cur > UINT32_MAX ? UINT32_MAX : (uint32_t)limit.rlim_cur;
}

static int start_threads(struct ingle_io *io, const struct ingle_io_options *options,
                         struct ingle_error *err)
{
    struct ingle_image_home home = {io->models.dir, io->models.images_dir};
    int res = ingle_bell_start(&io->bell, options->board, io->wake.fd, err);

    if (res == 0) {
        res = ingle_loader_start(&io->models.loader, io->wake.fd, options->n_threads,
                                 options->limits, &home, err);
        if (res != 0) {
            ingle_bell_stop(&io->bell);
        }
    }
    return res;
}

int ingle_io_init(struct ingle_io *io, const struct ingle_io_options *options,
                  struct ingle_error *err)
{
    int res;

    memset(io, 0, sizeof *io);
    io->sched = options->sched;
    io->board = options->board;
    io->socket_path = options->socket_path;
    io->reload = options->reload;
    io->reload_arg = options->reload_arg;
    io->spin_ns = options->spin_us * INGLE_NS_PER_US;
    io->started_ns = ingle_clock_ns();
    io->fds_max = raise_fd_limit();
    ingle_list_init(&io->sessions);
    ingle_list_init(&io->awake);
    ingle_list_init(&io->dirty);
    ingle_list_init(&io->dead);
    ingle_ledger_init(&io->ledger, options->budget_bytes);
    io->rings = ingle_ledger_open(&io->ledger, "rings", "clients");
    ingle_models_init(&io->models);
    io->models.kv_bytes = options->kv_bytes;
    io->stock =
        (struct ingle_stock){.kit = INGLE_KIT_NONE, .timer = {.fire = ingle_handshake_stock_up}};
    (void)snprintf(io->models.dir, sizeof io->models.dir, "%s", options->models_dir);
    (void)snprintf(io->models.images_dir, sizeof io->models.images_dir, "%s", options->images_dir);
    io->caps_timer.fire = ingle_context_caps_fired;
    io->listen_timer.fire = listen_fired;
    io->listen = (struct ingle_source){.fd = options->listen_fd, .ready = listen_ready};
    io->wake =
        (struct ingle_source){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = wake_ready};
    if (io->wake.fd < 0 || getrandom(&io->epoch, sizeof io->epoch, 0) != sizeof io->epoch) {
        return ingle_fail(err, -errno, "cannot start io: %s", strerrordesc_np(errno));
    }
    res = ingle_reactor_init(&io->reactor, err);
    if (res == 0) {
        res = ingle_reactor_watch(&io->reactor, &io->wake, EPOLLIN | EPOLLET);
        ingle_io_listen_again(io);
        if (res != 0 || !io->listening) {
            return ingle_fail(err, res != 0 ? res : -errno, "cannot watch %s", io->socket_path);
        }
    }
    return res != 0 ? res : start_threads(io, options, err);
}

void ingle_io_shutdown(struct ingle_io *io)
{
    struct ingle_to_step stop = {.kind = INGLE_TO_STEP_STOP};

    if (io->draining) {
        return;
    }
    io->draining = true;
    if (io->listening) {
        ingle_reactor_unwatch(&io->reactor, &io->listen);
        io->listening = false;
    }
    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        atomic_store_explicit(&io->models.all[slot].job.cancel, true, memory_order_relaxed);
    }
    for (struct ingle_list *l = io->sessions.next; l != &io->sessions;) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, link);

        l = l->next;
        if (session->state == INGLE_SESSION_LIVE) {
            ingle_session_set_flags(session, session->flags | INGLE_S2C_DRAINING);
        }
    }
    ingle_io_send(io, &stop);
}

/* Step has ended: whoever still listens is told that this was an orderly end. */
static void say_goodbye(struct ingle_io *io)
{
    for (struct ingle_list *l = io->sessions.next; l != &io->sessions; l = l->next) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, link);

        if (session->state == INGLE_SESSION_LIVE) {
            ingle_session_send(session, INGLE_CTL_GOODBYE, 0, 0, NULL, 0);
        }
    }
}

void ingle_io_fini(struct ingle_io *io)
{
    ingle_loader_stop(&io->models.loader);
    while (!ingle_list_empty(&io->sessions)) {
        struct ingle_session *session =
            ingle_container(io->sessions.next, struct ingle_session, link);

        session->known_to_step = false; /* step has ended */
        if (session->state == INGLE_SESSION_CLOSING) {
            ingle_session_bury(session);
        } else {
            ingle_session_end(session, 0, "shutdown");
        }
    }
    ingle_session_free_dead(io);
    ingle_kit_fini(&io->stock.kit);
    ingle_bell_stop(&io->bell);
    ingle_models_fini(&io->models);
    ingle_tenants_fini(&io->tenants);
    ingle_caps_fini(&io->caps);
    ingle_mem_free(io->backlog);
    ingle_reactor_fini(&io->reactor);
    (void)close(io->wake.fd);
    ingle_log_drain();
}

/* ---- the loop -------------------------------------------------------------------------------- */

static bool turn(struct ingle_io *io)
{
    struct ingle_from_step msg;
    uint32_t n = 0;

    while (n < REPLIES_PER_TURN && ingle_sched_receive(io->sched, &msg)) {
        ingle_take_reply(io, &msg);
        n++;
    }
    send_backlog(io);
    for (struct ingle_list *l = io->awake.next; l != &io->awake;) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, awake);

        l = l->next;
        n += ingle_ingest(session);
    }
    ingle_publish_completions(io);
    if (!ingle_list_empty(&io->dead)) {
        ingle_session_free_dead(io);
    }
    return n > 0;
}

/* Tell every client that is awake to ring from now on. False: one of them has something. */
static bool let_sleep(struct ingle_io *io)
{
    for (struct ingle_list *l = io->awake.next; l != &io->awake;) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, awake);
        int res;

        l = l->next;
        session->flags |= INGLE_S2C_SQ_NEED_WAKEUP;
        res = ingle_sq_reader_flags(&session->sq, session->flags);
        if (res == INGLE_RING_EMPTY) {
            ingle_list_remove(&session->awake);
            continue;
        }
        session->flags &= ~INGLE_S2C_SQ_NEED_WAKEUP;
        if (res != 0) {
            ingle_session_end(session, INGLE_REJECT_PROTOCOL, "sq_tail is a lie");
        } else {
            ingle_session_set_flags(session, session->flags);
        }
        return false;
    }
    return true;
}

static void look_at_descriptors(struct ingle_io *io, int64_t timeout_ns)
{
    ingle_reactor_turn(&io->reactor, timeout_ns);
    ingle_models_take_loaded(io);
    ingle_log_drain();
}

void ingle_io_run(struct ingle_io *io)
{
    uint32_t n_busy = 0, n_idle = 0;
    uint64_t idle_ns = 0;

    ingle_models_open_kept(io);
    ingle_handshake_stock_up(&io->stock.timer);
    while (!io->stopped) {
        if (turn(io)) {
            n_idle = 0;
            if (++n_busy % BUSY_TURNS == 0) {
                look_at_descriptors(io, 0);
            }
            continue;
        }
        if (io->spin_ns != 0 && !ingle_list_empty(&io->awake)) {
            uint64_t now_ns = n_idle % 8 == 0 ? ingle_clock_ns() : idle_ns;

            idle_ns = n_idle == 0 ? now_ns : idle_ns;
            if (now_ns - idle_ns < io->spin_ns) {
                if (++n_idle % SPIN_TURNS == 0) {
                    look_at_descriptors(io, 0);
                }
                __builtin_ia32_pause();
                continue;
            }
        }
        n_idle = 0;
        if (let_sleep(io)) {
            io->counters.n_sleeps++;
            look_at_descriptors(io, io->backlog_n == 0 ? -1 : (int64_t)INGLE_NS_PER_MS);
        }
    }
    ingle_publish_completions(io);
    say_goodbye(io);
}
