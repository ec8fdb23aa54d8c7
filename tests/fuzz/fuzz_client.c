/* libingle against a runtime that writes anything into S2C and says anything on the socket.
 * Input: a script of steps, each one byte of what and its arguments:
 *   0 off16 val32   store a word anywhere in S2C       1 len16 bytes   send a datagram
 *   2               ingle_next                         3               ingle_arm, ingle_wait(0)
 *   4 user          ingle_nop                          5 user len16    ingle_tokenize
 *   6 n             publish n more records as they lie 7 n             publish n more completions
 *   8 len16 bytes   send a well-formed header and this payload
 * The handshake is not part of it (fuzz_ctl has its messages): the client is put together here. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/c/client.h"
#include "clients/c/ingle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define SQ_N       16u
#define CQ_N       16u
#define TK_N       64u
#define TEXT_BYTES 65536u
#define ARENA      4096u
#define CQ_OFF     4096u
#define TK_OFF     (CQ_OFF + CQ_N * 32u)
#define TEXT_OFF   (TK_OFF + TK_N * 32u)
#define S2C_BYTES  (TEXT_OFF + TEXT_BYTES)
#define C2S_BYTES  (4096u + SQ_N * 64u + ARENA)

static struct ingle_client client;
static uint8_t *c2s, *s2c; /* from malloc, so that a step beyond either end is seen */
static int runtime_end = -1;

static void set_up(void)
{
    static const uint32_t home = 1;
    struct ingle_client *c = &client;
    int pair[2];

    if (runtime_end >= 0) {
        (void)close(runtime_end);
        (void)close(c->link.socket);
        (void)close(c->link.submit_fd);
    } else {
        c2s = malloc(C2S_BYTES);
        s2c = malloc(S2C_BYTES);
    }
    if (c2s == NULL || s2c == NULL ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) != 0) {
        abort();
    }
    runtime_end = pair[1];
    memset(c2s, 0, C2S_BYTES);
    memset(s2c, 0, TEXT_OFF + 256);
    memset(c, 0, offsetof(struct ingle_client, msg));
    c->home = &home;
    c->link.socket = pair[0];
    c->link.submit_fd = dup(pair[0]); /* written to only, never waited for */
    c->link.welcome.max_inflight = CQ_N / 2;
    c->link.s2c.base = s2c;
    ingle_sq_writer_init(&c->sq, c2s, s2c, 4096, SQ_N);
    ingle_cq_reader_init(&c->cq, c2s, s2c, CQ_OFF, CQ_N);
    ingle_tok_reader_init(&c->tok, c2s, s2c, TK_OFF, TK_N, TEXT_OFF, TEXT_BYTES);
    ingle_arena_init(&c->arena, c2s + 4096 + SQ_N * 64, ARENA);
}

struct script {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct script *s, uint32_t n)
{
    uint32_t v = 0;

    for (uint32_t i = 0; i < n && s->left != 0; i++, s->at++, s->left--) {
        v |= (uint32_t)*s->at << 8 * i;
    }
    return v;
}

static void poke(uint32_t off, uint32_t value)
{
    atomic_store_explicit((_Atomic uint32_t *)(void *)(s2c + off), value, memory_order_release);
}

static void publish(size_t off, uint32_t more)
{
    uint32_t now;

    memcpy(&now, s2c + off, sizeof now);
    poke((uint32_t)off, now + more);
}

static void say(struct script *s, bool with_hdr)
{
    uint8_t msg[INGLE_CTL_BYTES_MAX + 64];
    size_t n = take(s, 2) % (sizeof msg - 32), at = 0;

    n = n < s->left ? n : s->left;
    if (with_hdr) {
        struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC,
                                  .type = (uint16_t)(take(s, 1) % INGLE_CTL_TYPE_END),
                                  .payload_bytes = (uint32_t)n,
                                  .seq = client.seq};

        n = n < s->left ? n : s->left;
        h.payload_bytes = (uint32_t)n;
        memcpy(msg, &h, sizeof h);
        at = sizeof h;
    }
    memcpy(msg + at, s->at, n);
    s->at += n;
    s->left -= n;
    (void)send(runtime_end, msg, at + n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void next(void)
{
    struct ingle_event_info e;
    int res = ingle_next(&client, &e);

    if (res != 0 && res != 1 && res != -EPROTO && res != -EPIPE) {
        abort();
    }
    if (res == 1 && e.kind == INGLE_EVENT_TOKEN && e.text[e.text_bytes] != '\0') {
        abort();
    }
}

static void tokenize(struct script *s)
{
    static const char text[ARENA];
    struct ingle_generate g;

    ingle_generate_init(&g);
    g.user_data = take(s, 1);
    g.payload = text;
    g.payload_bytes = take(s, 2) % sizeof text;
    (void)ingle_tokenize(&client, &g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct script s = {.at = data, .left = bytes};
    uint32_t off;

    set_up();
    while (s.left != 0) {
        switch (take(&s, 1) % 9) {
        case 0:
            off = take(&s, 2) & ~3u;
            poke(off % S2C_BYTES, take(&s, 4));
            break;
        case 1:
            say(&s, false);
            break;
        case 2:
            next();
            break;
        case 3:
            (void)ingle_arm(&client);
            (void)ingle_wait(&client, 0);
            break;
        case 4:
            (void)ingle_nop(&client, take(&s, 1));
            break;
        case 5:
            tokenize(&s);
            break;
        case 6:
            publish(offsetof(struct ingle_s2c_ctl, tk_tail), take(&s, 1) % (TK_N + 2));
            break;
        case 7:
            publish(offsetof(struct ingle_s2c_ctl, cq_tail), take(&s, 1) % (CQ_N + 2));
            break;
        default:
            say(&s, true);
            break;
        }
    }
    for (int i = 0; i < 100; i++) {
        next();
    }
    return 0;
}
