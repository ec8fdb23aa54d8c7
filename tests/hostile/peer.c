/* Owns one connection and its mappings. Uses the client's ends of shm/ directly, none of libingle.
 */
#include "tests/hostile/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "shm/proto.h"

#define CHECK(cond)                                                                           \
    ((cond) ? (void)0                                                                         \
            : (void)(fprintf(stderr, "%s:%d: %s failed (errno %d: %s)\n", __FILE__, __LINE__, \
                             #cond, errno, strerror(errno)),                                  \
                     _exit(99)))

static uint64_t now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

int peer_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    CHECK(sock >= 0);
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    for (int i = 0; connect(sock, (struct sockaddr *)&address, sizeof address) != 0; i++) {
        CHECK(i < 500 && (errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN));
        (void)usleep(10000);
    }
    return sock;
}

struct ingle_ctl_hello peer_hello(const char *name)
{
    struct ingle_ctl_hello hello = {
        .h = {.magic = INGLE_MAGIC,
              .type = INGLE_CTL_HELLO,
              .payload_bytes = sizeof hello - sizeof hello.h},
        .ver_min = 1,
        .ver_max = 1,
        .endian = INGLE_ENDIAN_TAG,
    };

    (void)snprintf((char *)hello.name, sizeof hello.name, "%s", name);
    return hello;
}

void peer_send(int sock, const void *msg, size_t bytes)
{
    CHECK(send(sock, msg, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
}

ssize_t peer_receive(int sock, void *msg, size_t bytes, int fds[3])
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = msg, .iov_len = bytes};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = fds == NULL ? NULL : control.room,
                        .msg_controllen = fds == NULL ? 0 : sizeof control.room};
    struct pollfd in = {.fd = sock, .events = POLLIN};
    struct cmsghdr *c;
    ssize_t n;

    if (poll(&in, 1, 2000) != 1) {
        return -ETIMEDOUT;
    }
    n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    if (n < 0) {
        return -errno;
    }
    c = fds == NULL ? NULL : CMSG_FIRSTHDR(&mh);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
        CHECK(c->cmsg_len == CMSG_LEN(3 * sizeof(int)));
        memcpy(fds, CMSG_DATA(c), 3 * sizeof(int));
    }
    return n;
}

static bool take_reject(const void *msg, ssize_t n, uint32_t *ret_code)
{
    struct ingle_ctl_reject reject;

    if (n != (ssize_t)sizeof reject) {
        return false;
    }
    memcpy(&reject, msg, sizeof reject);
    if (reject.h.type != INGLE_CTL_REJECT) {
        return false;
    }
    *ret_code = reject.code;
    return true;
}

bool peer_greet(struct peer *p, const char *path, const struct ingle_ctl_hello *hello,
                uint32_t *ret_code)
{
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    int fds[3] = {-1, -1, -1};
    ssize_t n;

    memset(p, 0, sizeof *p);
    p->sock = peer_connect(path);
    p->doorbell = -1;
    p->c2s.fd = p->s2c.fd = -1;
    peer_send(p->sock, hello, sizeof *hello);
    n = peer_receive(p->sock, msg, sizeof msg, fds);
    if (take_reject(msg, n, ret_code)) {
        (void)close(p->sock);
        return false;
    }
    CHECK(n == (ssize_t)sizeof p->w && fds[2] >= 0);
    memcpy(&p->w, msg, sizeof p->w);
    CHECK(ingle_region_join(&p->c2s, INGLE_REGION_C2S, fds[0], p->w.c2s_bytes) == 0);
    CHECK(ingle_region_join(&p->s2c, INGLE_REGION_S2C, fds[1], p->w.s2c_bytes) == 0);
    p->doorbell = fds[2];
    (void)close(fds[0]);
    (void)close(fds[1]);
    ingle_sq_writer_init(&p->sq, p->c2s.base, p->s2c.base, p->w.sq_off, p->w.sq_n);
    ingle_cq_reader_init(&p->cq, p->c2s.base, p->s2c.base, p->w.cq_off, p->w.cq_n);
    ingle_tok_reader_init(&p->tk, p->c2s.base, p->s2c.base, p->w.tk_off, p->w.tk_n, p->w.text_off,
                          p->w.text_bytes);
    p->text = malloc(INGLE_TEXT_COPY_BYTES);
    CHECK(p->text != NULL);
    return true;
}

void peer_ready(const struct peer *p)
{
    struct ingle_ctl_ready ready = {.h = {.magic = INGLE_MAGIC,
                                          .type = INGLE_CTL_READY,
                                          .payload_bytes = sizeof ready - sizeof ready.h},
                                    .nonce = p->w.nonce};

    peer_send(p->sock, &ready, sizeof ready);
}

bool peer_attach(struct peer *p, const char *path, const struct ingle_ctl_hello *hello,
                 uint32_t *ret_code)
{
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    ssize_t n;

    if (!peer_greet(p, path, hello, ret_code)) {
        return false;
    }
    peer_ready(p);
    n = peer_receive(p->sock, msg, sizeof msg, NULL);
    if (take_reject(msg, n, ret_code)) {
        peer_close(p);
        return false;
    }
    CHECK(n == (ssize_t)sizeof(struct ingle_ctl_hdr));
    return true;
}

void peer_open(struct peer *p, const char *path, const char *name)
{
    struct ingle_ctl_hello hello = peer_hello(name);
    uint32_t code = 0, n_tries = 0;

    while (!peer_attach(p, path, &hello, &code)) {
        if (code != INGLE_REJECT_TOO_MANY || n_tries++ == 500) {
            (void)fprintf(stderr, "%s is refused: %s\n", name, ingle_reject_name(code));
            _exit(99);
        }
        (void)usleep(10000);
    }
}

void peer_close(struct peer *p)
{
    if (p->sock >= 0) {
        (void)close(p->sock);
    }
    if (p->doorbell >= 0) {
        (void)close(p->doorbell);
    }
    ingle_region_fini(&p->c2s);
    ingle_region_fini(&p->s2c);
    free(p->text);
    memset(p, 0, sizeof *p);
    p->sock = p->doorbell = p->c2s.fd = p->s2c.fd = -1;
}

void peer_leave(struct peer *p)
{
    const struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_GOODBYE};

    (void)send(p->sock, &h, sizeof h, MSG_NOSIGNAL); /* the runtime may have gone first */
    peer_close(p);
}

uint32_t peer_put(struct peer *p, const void *bytes, uint32_t n)
{
    uint32_t off = p->arena_end;

    if (n > p->w.arena_bytes - off) {
        off = 0;
    }
    memcpy((uint8_t *)p->c2s.base + p->w.arena_off + off, bytes, n);
    p->arena_end = (off + n + 7) & ~7u;
    if (p->arena_end > p->w.arena_bytes) {
        p->arena_end = 0;
    }
    return off;
}

void peer_ring(struct peer *p)
{
    uint64_t one = 1;

    CHECK(write(p->doorbell, &one, sizeof one) == sizeof one);
}

void peer_submit(struct peer *p, const struct ingle_sqe *sqe)
{
    CHECK(ingle_sq_write(&p->sq, sqe) == 0);
    if ((ingle_sq_publish(&p->sq) & INGLE_S2C_SQ_NEED_WAKEUP) != 0) {
        peer_ring(p);
    }
}

struct ingle_sqe peer_generate(struct peer *p, uint64_t user_data, const char *prompt,
                               uint32_t max_tokens)
{
    uint32_t n = (uint32_t)strlen(prompt);

    return (struct ingle_sqe){.op = INGLE_OP_GENERATE,
                              .user_data = user_data,
                              .off = peer_put(p, prompt, n),
                              .payload_bytes = n,
                              .max_tokens = max_tokens};
}

bool peer_completion(struct peer *p, struct ingle_cqe *ret, int timeout_ms)
{
    uint64_t end_ms = now_ms() + (uint64_t)timeout_ms;

    for (;;) {
        int res = ingle_cq_read(&p->cq, ret);

        CHECK(res >= 0);
        if (res == 0) {
            ingle_cq_release(&p->cq);
            return true;
        }
        if (now_ms() > end_ms) {
            return false;
        }
        (void)usleep(200);
    }
}

int32_t peer_finish(struct peer *p, uint64_t user_data, char *into, size_t into_bytes)
{
    size_t at = 0;
    bool over = false;
    struct ingle_cqe cqe = {0};
    uint64_t end_ms = now_ms() + 30000;

    while (!over || now_ms() == 0) {
        struct ingle_tok tok;
        bool final = peer_completion(p, &cqe, 0) && cqe.user_data == user_data &&
                     (cqe.flags & INGLE_CQE_F_FINAL) != 0;

        while (ingle_tok_read(&p->tk, &tok, p->text) == 0) {
            if (tok.user_data == user_data && into != NULL && at + tok.text_len < into_bytes) {
                memcpy(into + at, p->text, tok.text_len);
                at += tok.text_len;
                into[at] = '\0';
            }
        }
        ingle_tok_release(&p->tk);
        over = final;
        CHECK(over || now_ms() < end_ms);
        if (!over) {
            (void)usleep(100);
        }
    }
    return cqe.res;
}

bool peer_is_dropped(struct peer *p, uint32_t *ret_code, int timeout_ms)
{
    uint64_t end_ms = now_ms() + (uint64_t)timeout_ms;
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    struct pollfd in = {.fd = p->sock, .events = POLLIN};

    *ret_code = 0;
    do {
        while (poll(&in, 1, timeout_ms == 0 ? 0 : 20) == 1) {
            ssize_t n = recv(p->sock, msg, sizeof msg, 0);

            if (n <= 0) {
                return true;
            }
            (void)take_reject(msg, n, ret_code);
        }
    } while (now_ms() < end_ms);
    return false;
}
