/* The socket after READY: bells, pings, farewells, and the requests that are answered
 * there (contexts between processes, administration). Owns no memory; one reply is awaited at a
 * time and known by its seq, so an answer that nobody waits for any more is dropped. Invariant:
 * whatever arrives is checked before it is believed, and no descriptor is ever accepted here.
 * Used by one thread at a time. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "clients/c/client.h"
#include "clients/c/ingle.h"
#include "shm/check.h"
#include "shm/proto.h"

#define ADMIN_BYTES_MAX (INGLE_CTL_BYTES_MAX - sizeof(struct ingle_ctl_hdr))
#define TOKEN_PREFIX    "ctx1_"
#define TOKEN_BYTES     32u
#define TOKEN_CHARS     43u /* of base64url, unpadded */

_Static_assert(sizeof TOKEN_PREFIX + TOKEN_CHARS <= INGLE_TOKEN_TEXT, "a token's text has room");

/* ---- receiving ------------------------------------------------------------------------------- */

static int closed(struct ingle_client *c)
{
    return ingle_client_dies(c, -EPIPE, "the runtime closed the connection");
}

static int wait_readable(struct ingle_client *c, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = c->link.socket, .events = POLLIN};

    return poll(&p, 1, ingle_client_poll_ms(deadline_ns)) < 0 ? -errno : 0;
}

static int send_all(struct ingle_client *c, const void *msg, size_t bytes, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd p = {.fd = c->link.socket, .events = POLLOUT};

        if (send(c->link.socket, msg, bytes, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)bytes) {
            return 0;
        }
        if (errno != EAGAIN) {
            return errno == EPIPE || errno == ECONNRESET ? closed(c) : -errno;
        }
        if (ingle_client_now_ns() >= deadline_ns) {
            return -ETIMEDOUT;
        }
        if (poll(&p, 1, ingle_client_poll_ms(deadline_ns)) < 0) {
            return -errno;
        }
    }
}

/* What needs no caller. Returns 1 for a reply, 0 when dealt with, or c->dead. */
static int handle(struct ingle_client *c, size_t bytes)
{
    struct ingle_ctl_hdr h;
    struct ingle_ctl_reject reject;
    struct ingle_bell bell;

    if (bytes == sizeof bell) {
        memcpy(&bell, c->msg, sizeof bell);
        if (bell.magic == INGLE_BELL_MAGIC) {
            return 0; /* what it announces is in the rings */
        }
    }
    if (ingle_check_hdr(c->msg, bytes, INGLE_FROM_RUNTIME, &h) != 0) {
        return ingle_client_dies(c, -EPROTO, "the runtime sent a malformed message");
    }
    switch (h.type) {
    case INGLE_CTL_CTX_REPLY:
    case INGLE_CTL_ADMIN_REPLY:
        return 1;
    case INGLE_CTL_PING:
        h.type = INGLE_CTL_PONG;
        (void)send(c->link.socket, &h, sizeof h, MSG_DONTWAIT | MSG_NOSIGNAL);
        return 0;
    case INGLE_CTL_PONG:
        return 0;
    case INGLE_CTL_GOODBYE:
        c->draining = true;
        return 0;
    case INGLE_CTL_LIVE:
        if (!c->link.live) {
            c->link.live = true;
            return 0;
        }
        break;
    case INGLE_CTL_REJECT:
        if (ingle_check_reject(c->msg, bytes, &reject) == 0) {
            return ingle_client_dies(c, -EPIPE,
                                     reject.text[0] != '\0' ? (const char *)reject.text
                                                            : ingle_reject_name(reject.code));
        }
        break;
    default:
        break;
    }
    return ingle_client_dies(c, -EPROTO, "the runtime sent a message out of place");
}

int ingle_client_receive(struct ingle_client *c, uint64_t deadline_ns)
{
    for (;;) {
        /* No control buffer: descriptors that nobody asked for are not even installed. */
        ssize_t bytes = recv(c->link.socket, c->msg, INGLE_CTL_BYTES_MAX, MSG_DONTWAIT | MSG_TRUNC);
        int res;

        if (bytes > INGLE_CTL_BYTES_MAX) {
            return ingle_client_dies(c, -EPROTO, "the runtime sent an oversized message");
        }
        if (bytes > 0) {
            res = handle(c, (size_t)bytes);
            if (res != 0) {
                return res < 0 ? res : (int)bytes;
            }
            continue;
        }
        if (bytes == 0 || (errno != EAGAIN && errno != EINTR)) {
            return closed(c);
        }
        if (deadline_ns == 0 || ingle_client_now_ns() >= deadline_ns) {
            return 0;
        }
        res = wait_readable(c, deadline_ns);
        if (res != 0) {
            return res;
        }
    }
}

/* ---- contexts between processes -------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void token_print(const uint8_t token[TOKEN_BYTES], char ret_text[INGLE_TOKEN_TEXT])
{
    char *at = ret_text + sizeof TOKEN_PREFIX - 1;
    uint32_t bits = 0, n_bits = 0;

    memcpy(ret_text, TOKEN_PREFIX, sizeof TOKEN_PREFIX);
    for (uint32_t i = 0; i < TOKEN_BYTES; i++) {
        bits = bits << 8 | token[i];
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            *at++ = alphabet[bits >> n_bits & 63];
        }
    }
    *at++ = alphabet[bits << (6 - n_bits) & 63];
    *at = '\0';
}

static int token_parse(const char *text, uint8_t ret_token[TOKEN_BYTES])
{
    static const uint8_t none[TOKEN_BYTES]; /* says "no token" on the wire */
    uint8_t token[TOKEN_BYTES];
    uint32_t bits = 0, n_bits = 0, n = 0;

    if (text == NULL || strncmp(text, TOKEN_PREFIX, sizeof TOKEN_PREFIX - 1) != 0 ||
        strnlen(text, INGLE_TOKEN_TEXT) != sizeof TOKEN_PREFIX - 1 + TOKEN_CHARS) {
        return -EINVAL;
    }
    for (const char *at = text + sizeof TOKEN_PREFIX - 1; *at != '\0'; at++) {
        const char *digit = strchr(alphabet, *at);

        if (digit == NULL) {
            return -EINVAL;
        }
        bits = bits << 6 | (uint32_t)(digit - alphabet);
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            token[n++] = (uint8_t)(bits >> n_bits);
        }
    }
    if ((bits & ((1u << n_bits) - 1)) != 0 /* one token has one spelling */ ||
        memcmp(token, none, sizeof none) == 0) {
        return -EINVAL;
    }
    memcpy(ret_token, token, sizeof token);
    return 0;
}

static int ctx_call(struct ingle_client *c, uint16_t type, struct ingle_ctl_ctx *m)
{
    uint64_t deadline_ns = ingle_client_deadline(c->opt.timeout_ms);
    uint64_t seq = ++c->seq;
    int res;

    m->h = (struct ingle_ctl_hdr){.magic = INGLE_MAGIC,
                                  .type = type,
                                  .payload_bytes = sizeof *m - sizeof m->h,
                                  .seq = seq,
                                  .epoch = c->link.welcome.h.epoch};
    res = send_all(c, m, sizeof *m, deadline_ns);
    while (res == 0) {
        struct ingle_ctl_ctx reply;
        int bytes = ingle_client_receive(c, deadline_ns);

        if (bytes <= 0) {
            return bytes < 0 ? bytes : -ETIMEDOUT;
        }
        if (ingle_check_ctx_reply(c->msg, (size_t)bytes, &reply) == 0 && reply.h.seq == seq) {
            *m = reply;
            return reply.res;
        }
    }
    return res;
}

static int ctx_begin(const struct ingle_client *c)
{
    int res = ingle_client_usable(c);

    return res != 0 ? res : c->dead;
}

int ingle_ctx_export(struct ingle_client *client, uint64_t ctx, uint32_t ttl_s, uint32_t uses,
                     char ret_token[INGLE_TOKEN_TEXT])
{
    struct ingle_ctl_ctx m = {
        .ctx = ctx, .rights = INGLE_CTX_RIGHT_FORK, .ttl_s = ttl_s, .uses = uses};
    int res = ctx_begin(client);

    if (res == 0 && (ctx == 0 || ret_token == NULL)) {
        res = -EINVAL;
    }
    if (res == 0) {
        res = ctx_call(client, INGLE_CTL_CTX_EXPORT, &m);
    }
    if (res == 0) {
        token_print(m.token, ret_token);
    }
    return res;
}

int ingle_ctx_import(struct ingle_client *client, const char *token, uint64_t *ret_ctx,
                     uint32_t *ret_tokens)
{
    struct ingle_ctl_ctx m = {.rights = INGLE_CTX_RIGHT_FORK};
    int res = ctx_begin(client);

    if (res == 0) {
        res = ret_ctx == NULL ? -EINVAL : token_parse(token, m.token);
    }
    if (res == 0) {
        res = ctx_call(client, INGLE_CTL_CTX_IMPORT, &m);
    }
    if (res == 0) {
        *ret_ctx = m.ctx;
        if (ret_tokens != NULL) {
            *ret_tokens = m.n_tokens;
        }
    }
    return res;
}

int ingle_ctx_revoke(struct ingle_client *client, const char *token)
{
    struct ingle_ctl_ctx m = {.rights = 0};
    int res = ctx_begin(client);

    if (res == 0) {
        res = token_parse(token, m.token);
    }
    return res == 0 ? ctx_call(client, INGLE_CTL_CTX_REVOKE, &m) : res;
}

/* ---- administration -------------------------------------------------------------------------- */

static int send_admin(struct ingle_client *c, const char *request, size_t bytes)
{
    struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC,
                              .type = INGLE_CTL_ADMIN,
                              .payload_bytes = (uint32_t)bytes,
                              .seq = ++c->seq,
                              .epoch = c->link.welcome.h.epoch};

    memcpy(c->msg, &h, sizeof h);
    memcpy(c->msg + sizeof h, request, bytes);
    return send_all(c, c->msg, sizeof h + bytes, INGLE_FOREVER);
}

int ingle_admin(struct ingle_client *client, const char *request, char *reply, size_t reply_bytes,
                void (*progress)(void *arg, const char *json), void *arg)
{
    struct ingle_client *c = client;
    size_t bytes = request != NULL ? strnlen(request, ADMIN_BYTES_MAX + 1) : 0;
    size_t n = 0;
    bool whole = true;
    int res = ctx_begin(c);

    if (res == 0 && (bytes < 2 || reply == NULL || reply_bytes == 0)) {
        res = -EINVAL;
    }
    if (res == 0 && bytes > ADMIN_BYTES_MAX) {
        res = -E2BIG;
    }
    if (res == 0) {
        res = send_admin(c, request, bytes);
    }
    while (res == 0) {
        struct ingle_ctl_hdr h;
        const char *part;
        size_t part_bytes, fits;

        res = ingle_client_receive(c, INGLE_FOREVER);
        if (res < 0) {
            return res;
        }
        bytes = (size_t)res;
        res = 0;
        if (ingle_check_admin(c->msg, bytes, INGLE_FROM_RUNTIME, &h, &part, &part_bytes) != 0 ||
            h.seq != c->seq) {
            continue;
        }
        if ((h.flags & INGLE_CTL_F_PROGRESS) != 0) {
            c->msg[bytes] = '\0';
            if (progress != NULL) {
                progress(arg, part);
            }
            continue;
        }
        fits = part_bytes < reply_bytes - 1 - n ? part_bytes : reply_bytes - 1 - n;
        whole &= fits == part_bytes;
        memcpy(reply + n, part, fits);
        n += fits;
        reply[n] = '\0';
        if ((h.flags & INGLE_CTL_F_MORE) == 0) {
            return whole ? 0 : -ENOBUFS;
        }
    }
    return res;
}
