/* The runtime's side of the protocol, as small as it can be; see fake.h. Owns its directory, its
 * socket and the regions. One thread, which alone touches f->t after fake_start. */
#include "tests/unit/clients/fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/check.h"
#include "shm/geometry.h"
#include "shm/proto.h"
#include "shm/wake.h"

static struct ingle_ctl_hdr hdr_of(const struct fake *f, uint16_t type, size_t bytes, uint64_t seq)
{
    return (struct ingle_ctl_hdr){.magic = INGLE_MAGIC,
                                  .type = type,
                                  .payload_bytes = (uint32_t)(bytes - 32),
                                  .n_fds = ingle_ctl_kind(type)->n_fds,
                                  .seq = seq,
                                  .epoch = f->t.epoch};
}

static void say(struct fake *f, const void *msg, size_t bytes)
{
    (void)send(f->t.socket, msg, bytes, MSG_NOSIGNAL);
}

static void say_plain(struct fake *f, uint16_t type)
{
    struct ingle_ctl_hdr h = hdr_of(f, type, sizeof h, 0);

    say(f, &h, sizeof h);
}

static void say_reject(struct fake *f, uint32_t code)
{
    struct ingle_ctl_reject m = {.h = hdr_of(f, INGLE_CTL_REJECT, sizeof m, 0),
                                 .code = code,
                                 .text = "because the test says so"};

    say(f, &m, sizeof m);
}

static void say_with_fds(struct fake *f, const void *msg, size_t bytes, const int *fds, uint32_t n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {.bytes = {0}};
    union { /* sendmsg wants a writable pointer and writes nothing */
        const void *in;
        void *out;
    } text = {.in = msg};
    struct iovec part = {.iov_base = text.out, .iov_len = bytes};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    (void)sendmsg(f->t.socket, &m, MSG_NOSIGNAL);
}

/* ---- sessions -------------------------------------------------------------------------------- */

static void forget(struct fake *f)
{
    ingle_region_fini(&f->t.c2s);
    ingle_region_fini(&f->t.s2c);
    f->t.has_session = f->t.streaming = false;
    f->t.epoch++;
}

static void hang_up(struct fake *f)
{
    if (f->t.socket >= 0) {
        (void)close(f->t.socket);
    }
    f->t.socket = -1;
    f->t.live = false;
}

static bool bad_region(struct ingle_region *r, uint64_t bytes)
{
    r->fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    r->bytes = bytes;
    if (r->fd < 0 || ftruncate(r->fd, (off_t)bytes) != 0) {
        return false;
    }
    r->base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    return r->base != MAP_FAILED;
}

static bool create(struct fake *f, const struct ingle_ctl_hello *hello)
{
    struct ingle_ctl_welcome *w = &f->t.welcome;
    uint64_t more = f->other_size ? 4096 : 0;

    *w = (struct ingle_ctl_welcome){.h = hdr_of(f, INGLE_CTL_WELCOME, sizeof *w, 0),
                                    .client_id = 5,
                                    .tenant_id = 1,
                                    .nonce = 0x1122334455667788u,
                                    .wake_hz = 2000,
                                    .resume = {9, 9, 9}};
    ingle_geometry_plan(hello, w);
    if (f->unsealed) {
        if (!bad_region(&f->t.c2s, w->c2s_bytes) || !bad_region(&f->t.s2c, w->s2c_bytes)) {
            return false;
        }
    } else if (ingle_region_create(&f->t.c2s, INGLE_REGION_C2S, w->c2s_bytes + more) != 0 ||
               ingle_region_create(&f->t.s2c, INGLE_REGION_S2C, w->s2c_bytes + more) != 0) {
        return false;
    }
    ingle_sq_reader_init(&f->t.sq, f->t.c2s.base, f->t.s2c.base, w->sq_off, w->sq_n);
    ingle_cq_writer_init(&f->t.cq, f->t.c2s.base, f->t.s2c.base, w->cq_off, w->cq_n);
    ingle_tok_writer_init(&f->t.tok, f->t.c2s.base, f->t.s2c.base, w->tk_off, w->tk_n, w->text_off,
                          w->text_bytes, f->t.text_ends);
    if (!f->blank_header) {
        ingle_header_publish(f->t.s2c.base, w);
    }
    if (f->bend != NULL) {
        f->bend(w);
    }
    f->t.has_session = true;
    return true;
}

static void on_hello(struct fake *f, const struct ingle_ctl_hello *hello)
{
    int fds[8];

    f->last_hello = *hello;
    if (f->reject_hello != 0) {
        say_reject(f, f->reject_hello);
        return;
    }
    if (!(f->t.has_session && hello->last_epoch == f->t.epoch &&
          memcmp(hello->resume, f->t.welcome.resume, 32) == 0)) {
        if (f->t.has_session) {
            forget(f);
        }
        if (!create(f, hello)) {
            return;
        }
    }
    fds[0] = f->t.c2s.fd;
    fds[1] = f->t.s2c.fd;
    for (int i = 2; i < 8; i++) {
        fds[i] = f->t.submit_fd;
    }
    say_with_fds(f, &f->t.welcome, sizeof f->t.welcome, fds, f->n_fds != 0 ? f->n_fds : 3);
}

/* ---- the engine ------------------------------------------------------------------------------ */

static void complete(struct fake *f, uint64_t user_data, int32_t res, uint32_t flags, uint64_t ctx)
{
    const struct ingle_cqe cqe = {.user_data = user_data,
                                  .res = res,
                                  .flags = flags,
                                  .ctx = ctx,
                                  .n_prompt = f->got.sqe.payload_bytes,
                                  .n_cached = 3};

    (void)!ingle_cq_write(&f->t.cq, &cqe);
}

static void wake(struct fake *f)
{
    uint32_t bits = ingle_tok_publish(&f->t.tok) | ingle_cq_publish(&f->t.cq);

    if ((bits & INGLE_WAKE_FUTEX) != 0) {
        ingle_wake_all((INGLE_ATOMIC_U32 *)((uint8_t *)f->t.s2c.base +
                                            offsetof(struct ingle_s2c_ctl, wake_seq)));
    }
    if ((bits & INGLE_WAKE_BELL) != 0) {
        (void)ingle_wake_bell(f->t.socket, INGLE_WAKE_BELL);
        atomic_fetch_add_explicit(&f->n_bells, 1, memory_order_relaxed);
    }
}

static void stream(struct fake *f)
{
    while (f->t.streaming) {
        bool last = f->t.stream_index + 1 == f->t.stream_end;
        struct ingle_tok tok = {.user_data = f->t.stream_user_data,
                                .token = f->t.stream_index * 3,
                                .index = f->t.stream_index,
                                .flags = last ? INGLE_TOK_F_LAST | INGLE_TOK_F_LENGTH : 0,
                                .logprob = -0.5F};
        char text[16];
        int n = snprintf(text, sizeof text, "t%u ", f->t.stream_index);

        if (ingle_tok_write(&f->t.tok, &tok, text, (uint16_t)n) != 0) {
            break; /* parked */
        }
        f->t.stream_index++;
        if (last) {
            f->t.streaming = false;
            wake(f);
            complete(f, f->t.stream_user_data, (int32_t)f->t.stream_index,
                     INGLE_CQE_F_FINAL | INGLE_CQE_F_TRUNC, 0);
        } else if (f->t.stream_end == 0) {
            break; /* one at a time, so that a cancellation finds it alive */
        }
    }
    wake(f);
}

static void cancel(struct fake *f, const struct ingle_sqe *s)
{
    if (f->t.streaming && f->t.stream_user_data == s->arg) {
        f->t.streaming = false;
        wake(f);
        complete(f, s->arg, -ECANCELED, INGLE_CQE_F_FINAL, 0);
        complete(f, s->user_data, 0, INGLE_CQE_F_FINAL, 0);
    } else {
        complete(f, s->user_data, -ENOENT, INGLE_CQE_F_FINAL, 0);
    }
}

static void serve_one(struct fake *f, const struct ingle_sqe *s)
{
    const uint8_t *arena = (const uint8_t *)f->t.c2s.base + f->t.welcome.arena_off;
    int res = ingle_check_sqe(s, f->t.welcome.arena_bytes);

    (void)pthread_mutex_lock(&f->lock);
    f->got.sqe = *s;
    if (s->payload_bytes <= sizeof f->got.payload) {
        (void)!ingle_copy_in(f->got.payload, arena, f->t.welcome.arena_bytes, s->off,
                             s->payload_bytes);
    }
    (void)!ingle_copy_in(f->got.params, arena, f->t.welcome.arena_bytes, s->par_off, s->par_bytes);
    (void)pthread_mutex_unlock(&f->lock);
    atomic_fetch_add_explicit(&f->n_sqes, 1, memory_order_relaxed);
    if (res != 0) {
        atomic_fetch_add_explicit(&f->n_bad_sqes, 1, memory_order_relaxed);
        complete(f, s->user_data, res, INGLE_CQE_F_FINAL, 0);
        return;
    }
    switch (s->op) {
    case INGLE_OP_CANCEL:
        cancel(f, s);
        break;
    case INGLE_OP_GENERATE:
        complete(f, s->user_data, 0, INGLE_CQE_F_ACCEPTED, 0);
        wake(f);
        f->t.streaming = true;
        f->t.stream_user_data = s->user_data;
        f->t.stream_index = s->resume_idx;
        f->t.stream_end = s->max_tokens;
        break;
    case INGLE_OP_FORK_CTX:
        complete(f, s->user_data, 0, INGLE_CQE_F_FINAL, s->ctx + 1000);
        break;
    case INGLE_OP_NOP:
    case INGLE_OP_CLOSE_CTX:
        complete(f, s->user_data, 0, INGLE_CQE_F_FINAL, 0);
        break;
    default:
        complete(f, s->user_data, 0, INGLE_CQE_F_ACCEPTED, 0);
        complete(f, s->user_data, 1, INGLE_CQE_F_FINAL, 0);
        break;
    }
}

static void serve(struct fake *f)
{
    struct ingle_sqe s;

    if (f->withhold && !atomic_load_explicit(&f->t.let_go, memory_order_acquire)) {
        return;
    }
    while (!f->t.streaming || f->t.stream_end == 0) {
        if (ingle_sq_read(&f->t.sq, &s) != 0) {
            break;
        }
        ingle_sq_release(&f->t.sq);
        serve_one(f, &s);
        if (f->t.streaming && f->t.stream_end == 0) {
            break;
        }
    }
    stream(f);
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void on_ctx(struct fake *f, const struct ingle_ctl_ctx *asked)
{
    struct ingle_ctl_ctx m = {.h = hdr_of(f, INGLE_CTL_CTX_REPLY, sizeof m, asked->h.seq)};

    for (uint8_t i = 0; i < 32; i++) {
        m.token[i] = (uint8_t)(i * 9 + 200);
    }
    m.n_tokens = 5;
    if (asked->h.type == INGLE_CTL_CTX_EXPORT) {
        m.res = asked->ctx == 404 ? -ENOENT : 0;
    } else {
        m.res = memcmp(asked->token, m.token, 32) == 0 ? 0 : -ENOENT;
        m.ctx = 77;
    }
    say(f, &m, sizeof m);
}

static void say_admin(struct fake *f, uint64_t seq, uint16_t flags, const char *text, size_t bytes)
{
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    struct ingle_ctl_hdr h = hdr_of(f, INGLE_CTL_ADMIN_REPLY, sizeof h + bytes, seq);

    h.flags = flags;
    memcpy(msg, &h, sizeof h);
    memcpy(msg + sizeof h, text, bytes);
    say(f, msg, sizeof h + bytes);
}

static void on_admin(struct fake *f, uint64_t seq, const char *text, size_t bytes)
{
    static const char part[4000] = {[0 ... 3999] = 'p'};

    say_admin(f, seq + 1000, 0, "stale", 5);
    if (bytes >= 5 && memcmp(text, "{\"big", 5) == 0) {
        say_admin(f, seq, INGLE_CTL_F_MORE, part, sizeof part);
        say_admin(f, seq, INGLE_CTL_F_MORE, part, sizeof part);
        say_admin(f, seq, 0, part, 7);
        return;
    }
    say_admin(f, seq, INGLE_CTL_F_PROGRESS, "{\"done\":1}", 10);
    say_admin(f, seq, INGLE_CTL_F_PROGRESS, "{\"done\":2}", 10);
    say_admin(f, seq, 0, text, bytes);
}

static void on_datagram(struct fake *f)
{
    _Alignas(8) uint8_t msg[INGLE_CTL_BYTES_MAX];
    ssize_t n = recv(f->t.socket, msg, sizeof msg, MSG_DONTWAIT);
    struct ingle_ctl_hdr h;
    struct ingle_ctl_hello hello;
    struct ingle_ctl_ctx ctx;
    const char *text;
    size_t bytes;

    if (n < 0 && errno == ECONNRESET) { /* it closed with LIVE unread: its last words come yet */
        n = recv(f->t.socket, msg, sizeof msg, MSG_DONTWAIT);
    }
    if (n <= 0) {
        hang_up(f);
        return;
    }
    if (f->mute || ingle_check_hdr(msg, (size_t)n, INGLE_FROM_CLIENT, &h) != 0) {
        return;
    }
    if (h.type == INGLE_CTL_HELLO && ingle_check_hello(msg, (size_t)n, &hello) == 0) {
        on_hello(f, &hello);
    } else if (h.type == INGLE_CTL_READY) {
        if (f->reject_ready != 0) {
            say_reject(f, f->reject_ready);
        } else {
            f->t.live = true;
            say_plain(f, INGLE_CTL_LIVE);
        }
    } else if (h.type == INGLE_CTL_PONG) {
        atomic_fetch_add_explicit(&f->n_pongs, 1, memory_order_relaxed);
    } else if (h.type == INGLE_CTL_GOODBYE) {
        atomic_fetch_add_explicit(&f->n_goodbyes, 1, memory_order_relaxed);
    } else if (ingle_check_ctx(msg, (size_t)n, &ctx) == 0) {
        on_ctx(f, &ctx);
    } else if (ingle_check_admin(msg, (size_t)n, INGLE_FROM_CLIENT, &h, &text, &bytes) == 0) {
        on_admin(f, h.seq, text, bytes);
    }
}

static void lie(struct fake *f, size_t word_off, uint32_t by)
{
    INGLE_ATOMIC_U32 *word = (INGLE_ATOMIC_U32 *)((uint8_t *)f->t.s2c.base + word_off);

    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + by,
                          memory_order_release);
}

static void obey(struct fake *f, int command)
{
    const struct ingle_ctl_ctx stale = {.h = hdr_of(f, INGLE_CTL_CTX_REPLY, sizeof stale, 4711)};
    static const uint8_t big[INGLE_CTL_BYTES_MAX + 100];
    struct ingle_tok *records =
        (struct ingle_tok *)(void *)((uint8_t *)f->t.s2c.base + f->t.welcome.tk_off);
    int fds[8];

    switch (command) {
    case FAKE_FORGET:
        forget(f);
        hang_up(f);
        break;
    case FAKE_HANG_UP:
        hang_up(f);
        break;
    case FAKE_PING:
        say_plain(f, INGLE_CTL_PING);
        break;
    case FAKE_GOODBYE:
        say_plain(f, INGLE_CTL_GOODBYE);
        break;
    case FAKE_REJECT:
        say_reject(f, INGLE_REJECT_PROTOCOL);
        break;
    case FAKE_GARBAGE:
        say(f, "this is not a message, is it?!", 30);
        break;
    case FAKE_OVERSIZED:
        say(f, big, sizeof big);
        break;
    case FAKE_LIVE_AGAIN:
        say_plain(f, INGLE_CTL_LIVE);
        break;
    case FAKE_GIFT:
        for (int i = 0; i < 8; i++) {
            fds[i] = f->t.nudge;
        }
        say_with_fds(f, &(struct ingle_bell){.magic = INGLE_BELL_MAGIC}, 8, fds, 8);
        break;
    case FAKE_STALE_REPLY:
        say(f, &stale, sizeof stale);
        break;
    case FAKE_LIE_TOK_TAIL:
        lie(f, offsetof(struct ingle_s2c_ctl, tk_tail), f->t.welcome.tk_n + 1);
        break;
    case FAKE_LIE_CQ_TAIL:
        lie(f, offsetof(struct ingle_s2c_ctl, cq_tail), 0x80000000u);
        break;
    case FAKE_LIE_SQ_HEAD:
        lie(f, offsetof(struct ingle_s2c_ctl, sq_head), 1);
        break;
    case FAKE_LIE_TEXT:
        records[0].text_off = f->t.welcome.text_bytes - 1;
        records[0].text_len = 2;
        lie(f, offsetof(struct ingle_s2c_ctl, tk_tail), 1);
        break;
    default:
        break;
    }
}

static void rest(struct fake *f)
{
    struct pollfd p[4] = {{.fd = f->t.nudge, .events = POLLIN},
                          {.fd = f->t.listener, .events = POLLIN},
                          {.fd = f->t.submit_fd, .events = POLLIN},
                          {.fd = f->t.socket, .events = POLLIN}};
    bool busy = f->t.live && f->t.streaming;
    uint64_t n;

    if (f->t.live && !busy &&
        ingle_sq_reader_flags(&f->t.sq, INGLE_S2C_SQ_NEED_WAKEUP) != INGLE_RING_EMPTY) {
        busy = !f->withhold || atomic_load_explicit(&f->t.let_go, memory_order_acquire);
    }
    (void)poll(p, 4, busy ? 0 : 1000);
    if (f->t.live) {
        (void)!ingle_sq_reader_flags(&f->t.sq, 0);
    }
    if ((p[0].revents & POLLIN) != 0) {
        (void)!read(f->t.nudge, &n, sizeof n);
    }
    if ((p[2].revents & POLLIN) != 0) {
        (void)!read(f->t.submit_fd, &n, sizeof n);
    }
    if ((p[3].revents & (POLLIN | POLLHUP)) != 0 && f->t.socket >= 0) {
        on_datagram(f);
    }
    if ((p[1].revents & POLLIN) != 0) {
        hang_up(f);
        f->t.socket = accept4(f->t.listener, NULL, NULL, SOCK_CLOEXEC);
    }
}

static void *run(void *arg)
{
    struct fake *f = arg;

    while (!atomic_load_explicit(&f->t.stop, memory_order_acquire)) {
        int command = atomic_load_explicit(&f->t.command, memory_order_acquire);

        if (command != FAKE_NONE) {
            obey(f, command);
            atomic_store_explicit(&f->t.command, FAKE_NONE, memory_order_release);
        }
        if (f->t.live) {
            serve(f);
        }
        rest(f);
    }
    return NULL;
}

/* ---- the test's side ------------------------------------------------------------------------- */

bool fake_start(struct fake *f)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    memcpy(f->dir, "/tmp/ingle-fake-XXXXXX", 23);
    if (mkdtemp(f->dir) == NULL) {
        return false;
    }
    (void)snprintf(f->path, sizeof f->path, "%s/ingle.sock", f->dir);
    memcpy(at.sun_path, f->path, sizeof f->path);
    (void)pthread_mutex_init(&f->lock, NULL);
    f->t.epoch = 100;
    f->t.socket = -1;
    f->t.c2s = f->t.s2c = (struct ingle_region)INGLE_REGION_NONE;
    f->t.nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->t.submit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    f->t.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return f->t.listener >= 0 && bind(f->t.listener, (struct sockaddr *)&at, sizeof at) == 0 &&
           listen(f->t.listener, 8) == 0 && pthread_create(&f->t.thread, NULL, run, f) == 0;
}

static void nudge(struct fake *f)
{
    const uint64_t one = 1;

    (void)!write(f->t.nudge, &one, sizeof one);
}

void fake_stop(struct fake *f)
{
    atomic_store_explicit(&f->t.stop, true, memory_order_release);
    nudge(f);
    (void)pthread_join(f->t.thread, NULL);
    hang_up(f);
    forget(f);
    (void)close(f->t.listener);
    (void)close(f->t.nudge);
    (void)close(f->t.submit_fd);
    (void)unlink(f->path);
    (void)rmdir(f->dir);
}

void fake_do(struct fake *f, enum fake_command command)
{
    const struct timespec moment = {.tv_nsec = 200000};

    atomic_store_explicit(&f->t.command, (int)command, memory_order_release);
    nudge(f);
    while (atomic_load_explicit(&f->t.command, memory_order_acquire) != FAKE_NONE) {
        (void)nanosleep(&moment, NULL);
    }
}

void fake_let_go(struct fake *f)
{
    atomic_store_explicit(&f->t.let_go, true, memory_order_release);
    nudge(f);
}
