/* Inside libingle: the client's struct and the functions that its files share. Not installed. */
#ifndef INGLE_CLIENTS_C_CLIENT_H
#define INGLE_CLIENTS_C_CLIENT_H
#include <stdbool.h>
#include <stdint.h>

#include "clients/c/ingle.h"
#include "shm/geometry.h"
#include "shm/layout.h"
#include "shm/paths.h"
#include "shm/region.h"
#include "shm/ring.h"

#define INGLE_REQUESTS_MAX (1u << (INGLE_CQ_LOG2_MAX - 1)) /* the most that WELCOME may allow */
#define INGLE_NO_BLOCK     UINT32_MAX
#define INGLE_FOREVER      UINT64_MAX

/* Prompts in transit: a ring of bytes over the C2S arena. Blocks are freed in any order and taken
 * back in order of allocation. */
struct ingle_arena {
    uint8_t *base;
    uint32_t bytes;       /* a power of two */
    uint32_t head, tail;  /* free-running; tail - head bytes are taken */
    uint32_t first, last; /* free-running indices of blocks */
    struct {
        uint32_t end; /* what head becomes when this block goes */
        bool free;
    } blocks[INGLE_REQUESTS_MAX];
};

struct ingle_live { /* one request in flight */
    uint64_t user_data;
    uint32_t block; /* in the arena; INGLE_NO_BLOCK */
};

/* One connection and its regions: what a handshake makes, as a whole or not at all. */
struct ingle_link {
    int socket, submit_fd;
    bool live; /* LIVE came */
    struct ingle_region c2s, s2c;
    struct ingle_ctl_welcome welcome;
};

struct ingle_client {
    const uint32_t *home; /* a page that the kernel zeroes in a forked child; 1 at home */
    struct ingle_link link;
    struct ingle_sq_writer sq;
    struct ingle_cq_reader cq;
    struct ingle_tok_reader tok;
    struct ingle_arena arena;

    uint32_t n_live;
    struct ingle_live live[INGLE_REQUESTS_MAX]; /* compact; in no order */

    struct ingle_cqe held; /* a completion that waits for the tokens published before it */
    bool holding;
    uint32_t held_until; /* of tok.in.head */
    uint32_t n_unreleased, n_idle;
    bool armed;

    int dead;      /* 0, -EPIPE, -EPROTO; final until ingle_reattach */
    bool draining; /* GOODBYE came */
    uint64_t seq;  /* of the last control request */
    char why[160];

    struct { /* of ingle_attach, for ingle_reattach */
        char socket_path[INGLE_SOCKET_PATH_BYTES];
        bool any_owner; /* the caller named the socket, so it may be anybody's */
        char name[32], label[32];
        uint32_t arena_log2, spin_us, timeout_ms;
    } opt;

    uint8_t msg[INGLE_CTL_BYTES_MAX + 1]; /* a received datagram, with room for a NUL */
    char text[INGLE_TEXT_COPY_BYTES];     /* of the last token event */
};

/* 0 when the caller may use c here, -EINVAL or -ECHILD. Whether the runtime lives is another
 * question (c->dead): what has arrived can still be taken after its death. */
int ingle_client_usable(const struct ingle_client *c);

/* The session cannot go on: remember the first reason, return code. */
int ingle_client_dies(struct ingle_client *c, int code, const char *why);

/* CLOCK_MONOTONIC. */
uint64_t ingle_client_now_ns(void);
/* timeout_ms from now; < 0: INGLE_FOREVER. */
uint64_t ingle_client_deadline(int64_t timeout_ms);
/* How far the deadline is, as poll(2) wants it: rounded up, -1 for INGLE_FOREVER. */
int ingle_client_poll_ms(uint64_t deadline_ns);

/* Take one datagram from the socket, answer or note what needs no caller, and stop at a reply
 * (CTX_REPLY, ADMIN_REPLY). Returns its bytes (in c->msg), 0 when the deadline passed, -EINTR, or
 * c->dead. deadline_ns 0: only what is there already. */
int ingle_client_receive(struct ingle_client *c, uint64_t deadline_ns);

/* Everything free. base: bytes bytes, a power of two, borrowed. */
void ingle_arena_init(struct ingle_arena *a, void *base, uint32_t bytes);
/* Room for bytes in one piece: the block's index, with *ret_off set; INGLE_NO_BLOCK: none now. */
uint32_t ingle_arena_take(struct ingle_arena *a, uint32_t bytes, uint32_t *ret_off);
/* The block may be used again once every block before it is free too. */
void ingle_arena_free(struct ingle_arena *a, uint32_t block);

#endif
