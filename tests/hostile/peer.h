/* A client without manners, for tests: the protocol by hand, so that each step can be done wrongly.
 * Every function ends the test with a message when what it is about fails. */
#ifndef INGLE_TESTS_HOSTILE_PEER_H
#define INGLE_TESTS_HOSTILE_PEER_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "shm/layout.h"
#include "shm/region.h"
#include "shm/ring.h"

struct peer {
    int sock, doorbell;
    struct ingle_ctl_welcome w;
    struct ingle_region c2s, s2c;
    struct ingle_sq_writer sq;
    struct ingle_cq_reader cq;
    struct ingle_tok_reader tk;
    char *text;         /* of the last record */
    uint32_t arena_end; /* a bump allocator that starts again at 0 when full */
};

int peer_connect(const char *path);
struct ingle_ctl_hello peer_hello(const char *name);
void peer_send(int sock, const void *msg, size_t bytes);
/* One datagram, within a second: its bytes, 0 at the end of the connection, -errno. fds: up to 3,
 * closed on the next call of exec; NULL: none wanted. */
ssize_t peer_receive(int sock, void *msg, size_t bytes, int fds[3]);
/* HELLO to LIVE with `hello`. False: the runtime said REJECT, *ret_code is why. */
bool peer_attach(struct peer *p, const char *path, const struct ingle_ctl_hello *hello,
                 uint32_t *ret_code);
/* Its halves: HELLO, WELCOME and the mappings; READY, whose LIVE is not read. */
bool peer_greet(struct peer *p, const char *path, const struct ingle_ctl_hello *hello,
                uint32_t *ret_code);
void peer_ready(const struct peer *p);
/* The same with patience: a crowd that has just left may still be counted. */
void peer_open(struct peer *p, const char *path, const char *name);
void peer_close(struct peer *p);
/* The same after a GOODBYE: the session is not kept for a client that comes back. */
void peer_leave(struct peer *p);

/* Copy into the arena; returns the offset. */
uint32_t peer_put(struct peer *p, const void *bytes, uint32_t n);
void peer_submit(struct peer *p, const struct ingle_sqe *sqe);
void peer_ring(struct peer *p);
struct ingle_sqe peer_generate(struct peer *p, uint64_t user_data, const char *prompt,
                               uint32_t max_tokens);
/* The next completion within timeout_ms. */
bool peer_completion(struct peer *p, struct ingle_cqe *ret, int timeout_ms);
/* Tokens and completions of one request until its FINAL; text is appended to `into` (bytes, with a
 * NUL). Returns FINAL.res. */
int32_t peer_finish(struct peer *p, uint64_t user_data, char *into, size_t into_bytes);
/* True once the runtime has ended the session; the code of its REJECT, if one came. */
bool peer_is_dropped(struct peer *p, uint32_t *ret_code, int timeout_ms);

#endif
