/* The handshake, and the life of a client. Owns the connection: socket, submit eventfd, the two
 * mappings, and the page by which a forked child is told from its parent. Invariant: a link is made
 * as a whole, verified, before any ring end points into it; on failure the client is what it was.
 * Used by one thread at a time; the only file of libingle that allocates. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clients/c/client.h"
#include "clients/c/ingle.h"
#include "shm/check.h"
#include "shm/proto.h"

#define TIMEOUT_MS_DEFAULT 5000u
#define SPIN_US_MAX        20u
#define AWAIT_SPIN_NS      100000u
#define RETRY_MS           5 /* while the runtime's backlog is full */
#define PAGE_BYTES         4096u

/* Where an attach writes why it failed. */
struct complaint {
    char *text;
    size_t bytes;
};

static int fail(struct complaint why, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct complaint why, int code, const char *fmt, ...)
{
    va_list ap;

    if (why.text != NULL && why.bytes != 0) {
        va_start(ap, fmt);
        (void)vsnprintf(why.text, why.bytes, fmt, ap);
        va_end(ap);
    }
    return code;
}

static void link_init(struct ingle_link *link)
{
    *link = (struct ingle_link){
        .socket = -1, .submit_fd = -1, .c2s = INGLE_REGION_NONE, .s2c = INGLE_REGION_NONE};
}

static void link_fini(struct ingle_link *link, bool at_home)
{
    if (at_home) { /* a forked child has no such mappings; others may lie where they were */
        ingle_region_fini(&link->c2s);
        ingle_region_fini(&link->s2c);
    }
    if (link->submit_fd >= 0) {
        (void)close(link->submit_fd);
    }
    if (link->socket >= 0) {
        (void)close(link->socket);
    }
    link_init(link);
}

/* ---- connecting ------------------------------------------------------------------------------ */

static int check_owner(const struct ingle_client *c, int socket, struct complaint why)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;

    if (c->opt.any_owner) {
        return 0;
    }
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        return fail(why, -errno, "cannot tell whose runtime listens at %s", c->opt.socket_path);
    }
    if (peer.uid != getuid() && peer.uid != 0) {
        return fail(why, -EACCES,
                    "the runtime at %s belongs to uid %u; to trust it all the same, name the "
                    "socket explicitly",
                    c->opt.socket_path, (unsigned)peer.uid);
    }
    return 0;
}

static int open_socket(const struct ingle_client *c, uint64_t deadline_ns, struct complaint why,
                       int *ret)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int res;

    if (fd < 0) {
        res = -errno;
        return fail(why, res, "cannot make a socket: %s", ingle_strerror(res));
    }
    memcpy(to.sun_path, c->opt.socket_path, sizeof c->opt.socket_path);
    while ((res = connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 ? 0 : -errno) ==
           -EAGAIN) {
        if (ingle_client_now_ns() >= deadline_ns) {
            res = -ETIMEDOUT;
            break;
        }
        (void)poll(NULL, 0, RETRY_MS);
    }
    if (res == 0) {
        res = check_owner(c, fd, why);
    } else if (res == -ENOENT || res == -ECONNREFUSED) {
        (void)fail(why, res,
                   "no runtime is listening at %s; start one with `ingle run` or `ingled`",
                   c->opt.socket_path);
    } else {
        (void)fail(why, res, "cannot connect to the runtime at %s: %s", c->opt.socket_path,
                   ingle_strerror(res));
    }
    if (res != 0) {
        (void)close(fd);
        return res;
    }
    *ret = fd;
    return 0;
}

/* ---- datagrams of the handshake -------------------------------------------------------------- */

/* recvmsg that waits: for a moment by yielding, because the answer is there sooner than a sleeper
 * is woken. Returns the bytes, or -errno. */
static int await_datagram(int socket, struct msghdr *m, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = socket, .events = POLLIN};
    uint64_t now_ns = ingle_client_now_ns(), spin_end_ns = now_ns + AWAIT_SPIN_NS;
    ssize_t bytes;

    for (;;) {
        (void)sched_yield();
        bytes = recvmsg(socket, m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (bytes >= 0 || errno != EAGAIN) {
            return bytes > 0 ? (int)bytes : bytes == 0 ? -EPIPE : -errno;
        }
        now_ns = ingle_client_now_ns();
        if (now_ns >= deadline_ns) {
            return -ETIMEDOUT;
        }
        if (now_ns >= spin_end_ns && poll(&p, 1, ingle_client_poll_ms(deadline_ns)) < 0) {
            return -errno;
        }
    }
}

static void close_all(const int *fds, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        (void)close(fds[i]);
    }
}

/* One datagram, with exactly three descriptors or with none; any other number is a violation, and
 * what came is closed. Returns its bytes, or -errno; *ret_n_fds is 0 or 3. */
static int receive(int socket, uint8_t msg[INGLE_CTL_BYTES_MAX], int ret_fds[3],
                   uint32_t *ret_n_fds, uint64_t deadline_ns)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = msg, .iov_len = INGLE_CTL_BYTES_MAX};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    int fds[8];
    uint32_t n = 0;
    int bytes = await_datagram(socket, &m, deadline_ns);

    if (bytes < 0) {
        return bytes;
    }
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h != NULL; h = CMSG_NXTHDR(&m, h)) {
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && n == 0) {
            n = (uint32_t)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(fds, CMSG_DATA(h), n * sizeof(int));
        }
    }
    if ((m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || (n != 0 && n != 3)) {
        close_all(fds, n);
        return -EPROTO;
    }
    memcpy(ret_fds, fds, n * sizeof(int));
    *ret_n_fds = n;
    return bytes;
}

static void fill_hdr(struct ingle_ctl_hdr *h, uint16_t type, size_t bytes, uint64_t epoch)
{
    *h = (struct ingle_ctl_hdr){.magic = INGLE_MAGIC,
                                .type = type,
                                .payload_bytes = (uint32_t)(bytes - sizeof *h),
                                .epoch = epoch};
}

static int send_hello(const struct ingle_client *c, int socket)
{
    struct ingle_ctl_hello m = {
        .ver_min = INGLE_PROTO_VER,
        .ver_max = INGLE_PROTO_VER,
        .endian = INGLE_ENDIAN_TAG,
        .feat_want = INGLE_FEAT_ALL,
        .arena_log2 = c->opt.arena_log2,
        .last_epoch = c->link.welcome.h.epoch,
    };

    fill_hdr(&m.h, INGLE_CTL_HELLO, sizeof m, 0);
    memcpy(m.resume, c->link.welcome.resume, sizeof m.resume);
    memcpy(m.name, c->opt.name, sizeof m.name);
    memcpy(m.label, c->opt.label, sizeof m.label);
    return send(socket, &m, sizeof m, MSG_NOSIGNAL) == sizeof m ? 0 : -errno;
}

/* The kernel adds our credentials, since the runtime asks for them: that is how it knows that the
 * process on this socket is the one it has a pidfd of. */
static int send_ready(int socket, const struct ingle_ctl_welcome *w)
{
    struct ingle_ctl_ready m = {.nonce = w->nonce};

    fill_hdr(&m.h, INGLE_CTL_READY, sizeof m, w->h.epoch);
    return send(socket, &m, sizeof m, MSG_NOSIGNAL) == sizeof m ? 0 : -errno;
}

/* An answer that is not the one hoped for: the runtime's own words, or that it made no sense. */
static int refused(const uint8_t *msg, int bytes, struct complaint why)
{
    struct ingle_ctl_reject m;

    if (ingle_check_reject(msg, (size_t)bytes, &m) != 0) {
        return fail(why, -EPROTO,
                    "the runtime does not speak this protocol; update one of the two");
    }
    return fail(why, -ECONNREFUSED, "the runtime refused: %s%s%s", ingle_reject_name(m.code),
                m.text[0] != '\0' ? ": " : "", (const char *)m.text);
}

/* ---- the handshake ---------------------------------------------------------------------------
 * It ends with READY. LIVE comes while the caller goes on: what is submitted before is taken up
 * with READY, and a REJECT in its place ends the session as any later one would (control.c). */

static int lost(struct complaint why, int code)
{
    return fail(why, code, "the handshake with the runtime failed: %s", ingle_strerror(code));
}

static int map_regions(struct ingle_link *link, const int fds[3])
{
    const struct ingle_ctl_welcome *w = &link->welcome;
    int res = ingle_region_join(&link->c2s, INGLE_REGION_C2S, fds[0], w->c2s_bytes);

    if (res == 0) {
        res = ingle_region_join(&link->s2c, INGLE_REGION_S2C, fds[1], w->s2c_bytes);
    }
    return res == 0 ? ingle_header_check(link->s2c.base, w) : res;
}

static int shake_hands(struct ingle_client *c, struct ingle_link *link, uint64_t deadline_ns,
                       struct complaint why)
{
    uint8_t *msg = c->msg;
    int fds[3];
    uint32_t n_fds = 0;
    int res = send_hello(c, link->socket);
    int bytes = res == 0 ? receive(link->socket, msg, fds, &n_fds, deadline_ns) : res;

    if (bytes < 0) {
        return lost(why, bytes);
    }
    if (n_fds == 0 || ingle_check_welcome(msg, (size_t)bytes, &link->welcome) != 0) {
        close_all(fds, n_fds);
        return refused(msg, bytes, why);
    }
    link->submit_fd = fds[2];
    res = map_regions(link, fds);
    if (res != 0) {
        (void)fail(why, res, "the runtime's shared memory is not as promised: %s",
                   ingle_strerror(res));
    } else {
        res = send_ready(link->socket, &link->welcome);
        res = res == 0 ? 0 : lost(why, res);
    }
    close_all(fds, 2); /* a mapping needs no descriptor */
    return res;
}

static int make_link(struct ingle_client *c, struct ingle_link *link, struct complaint why)
{
    uint64_t deadline_ns = ingle_client_deadline(c->opt.timeout_ms);
    int res = open_socket(c, deadline_ns, why, &link->socket);

    if (res == 0) {
        res = shake_hands(c, link, deadline_ns, why);
    }
    if (res != 0) {
        link_fini(link, true);
    }
    return res;
}

/* Begin a session on c->link: every private index at its start, nothing in flight. */
static void begin(struct ingle_client *c)
{
    const struct ingle_ctl_welcome *w = &c->link.welcome;
    uint8_t *c2s = c->link.c2s.base;
    const uint8_t *s2c = c->link.s2c.base;

    ingle_sq_writer_init(&c->sq, c2s, s2c, w->sq_off, w->sq_n);
    ingle_cq_reader_init(&c->cq, c2s, s2c, w->cq_off, w->cq_n);
    ingle_tok_reader_init(&c->tok, c2s, s2c, w->tk_off, w->tk_n, w->text_off, w->text_bytes);
    ingle_arena_init(&c->arena, c2s + w->arena_off, w->arena_bytes);
    c->n_live = c->n_unreleased = 0;
    c->holding = false;
}

static void revive(struct ingle_client *c)
{
    c->dead = 0;
    c->draining = c->armed = false;
    c->n_idle = 0;
    c->why[0] = '\0';
}

/* ---- attach, reattach, detach ---------------------------------------------------------------- */

static int copy_name(char dst[32], const char *name, const char *what, struct complaint why)
{
    size_t bytes = name != NULL ? strnlen(name, 32) : 0;
    bool plain = bytes < 32;

    for (size_t i = 0; i < bytes; i++) {
        plain &= name[i] >= 0x20 && name[i] <= 0x7e;
    }
    if (!plain) {
        return fail(why, -EINVAL, "the %s must be at most 31 bytes of printable ASCII", what);
    }
    memset(dst, 0, 32);
    memcpy(dst, name != NULL ? name : "", bytes);
    return 0;
}

static int take_path(struct ingle_client *c, const char *path, struct complaint why)
{
    int res;

    c->opt.any_owner = path != NULL;
    if (path == NULL) {
        res = ingle_path_socket(secure_getenv("XDG_RUNTIME_DIR"), secure_getenv("HOME"), getuid(),
                                c->opt.socket_path);
        return res == 0 ? 0
                        : fail(why, res,
                               "where the socket is cannot be told: set XDG_RUNTIME_DIR or HOME");
    }
    if (strnlen(path, INGLE_SOCKET_PATH_BYTES) == INGLE_SOCKET_PATH_BYTES) {
        return fail(why, -ENAMETOOLONG, "the socket's path is longer than %u bytes",
                    INGLE_SOCKET_PATH_BYTES - 1);
    }
    memcpy(c->opt.socket_path, path, strlen(path) + 1);
    return 0;
}

static int take_options(struct ingle_client *c, const struct ingle_attach_options *o,
                        struct complaint why)
{
    uint32_t log2 = 0;
    int res;

    if (o->arena_bytes > 1u << INGLE_ARENA_LOG2_MAX || o->spin_us > SPIN_US_MAX) {
        return fail(why, -EINVAL, "arena_bytes can be 16 MiB at most, spin_us %u", SPIN_US_MAX);
    }
    if (o->arena_bytes != 0) {
        log2 = INGLE_ARENA_LOG2_MIN;
        while (1u << log2 < o->arena_bytes) {
            log2++;
        }
    }
    c->opt.arena_log2 = log2;
    c->opt.spin_us = o->spin_us;
    c->opt.timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : TIMEOUT_MS_DEFAULT;
    res = copy_name(c->opt.name, o->name, "name", why);
    if (res == 0) {
        res = copy_name(c->opt.label, o->label, "label", why);
    }
    return res == 0 ? take_path(c, o->socket_path, why) : res;
}

/* A private page that the kernel zeroes in a child: the only way to know of a fork that costs
 * nothing and that no library has to be told about. */
static int mark_home(struct ingle_client *c)
{
    uint32_t *page =
        mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        return -errno;
    }
    if (madvise(page, PAGE_BYTES, MADV_WIPEONFORK) != 0) {
        int res = -errno;

        (void)munmap(page, PAGE_BYTES);
        return res;
    }
    *page = 1;
    c->home = page;
    return 0;
}

int ingle_attach(const struct ingle_attach_options *options, struct ingle_client **ret, char *err,
                 size_t err_bytes)
{
    const struct ingle_attach_options none = {0};
    struct complaint why = {.text = err, .bytes = err_bytes};
    struct ingle_client *c;
    int res;

    if (ret == NULL) {
        return fail(why, -EINVAL, "ret is NULL");
    }
    c = calloc(1, sizeof *c);
    if (c == NULL) {
        return fail(why, -ENOMEM, "not enough memory to attach");
    }
    link_init(&c->link);
    res = mark_home(c);
    if (res != 0) {
        free(c);
        return fail(why, res, "not enough memory to attach");
    }
    res = take_options(c, options != NULL ? options : &none, why);
    if (res == 0) {
        struct ingle_link link;

        link_init(&link);
        res = make_link(c, &link, why);
        if (res == 0) {
            c->link = link;
            begin(c);
            *ret = c;
            return 0;
        }
    }
    ingle_detach(c);
    return res;
}

int ingle_reattach(struct ingle_client *client, char *err, size_t err_bytes)
{
    struct complaint why = {.text = err, .bytes = err_bytes};
    struct ingle_client *c = client;
    struct ingle_link link, old;
    bool same;
    int res = ingle_client_usable(c);

    if (res != 0) {
        return fail(why, res, "%s", ingle_strerror(res));
    }
    /* The runtime takes a session up again only once it knows that its connection is lost. */
    (void)shutdown(c->link.socket, SHUT_RDWR);
    (void)ingle_client_dies(c, -EPIPE, "the connection was given up");
    link_init(&link);
    res = make_link(c, &link, why);
    if (res != 0) {
        return res;
    }
    old = c->link;
    same = link.welcome.h.epoch == old.welcome.h.epoch &&
           link.welcome.client_id == old.welcome.client_id;
    if (same) {
        /* The same memfds: keep the old views, into which the ring ends already point. */
        struct ingle_region c2s = link.c2s, s2c = link.s2c;

        link.c2s = old.c2s;
        link.s2c = old.s2c;
        old.c2s = c2s;
        old.s2c = s2c;
    }
    c->link = link;
    link_fini(&old, true);
    revive(c);
    if (!same) {
        begin(c);
        return 1;
    }
    const uint64_t one = 1; /* a bell that rang into the broken connection may be lost */
    ssize_t n = write(c->link.submit_fd, &one, sizeof one);

    (void)n;
    return 0;
}

void ingle_detach(struct ingle_client *client)
{
    struct ingle_client *c = client;
    bool at_home;

    if (c == NULL) {
        return;
    }
    at_home = c->home == NULL || *c->home == 1; /* NULL: an attach that did not get far */
    if (at_home && c->dead == 0 && c->link.socket >= 0) {
        struct ingle_ctl_hdr bye;

        fill_hdr(&bye, INGLE_CTL_GOODBYE, sizeof bye, c->link.welcome.h.epoch);
        (void)send(c->link.socket, &bye, sizeof bye, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    link_fini(&c->link, at_home);
    (void)munmap((void *)(uintptr_t)c->home, PAGE_BYTES);
    free(c);
}
