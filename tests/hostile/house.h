/* An ingled of one's own for a test: a temporary directory, a socket in it, the null engine unless
 * said otherwise; and an honest client that lives in it and compares what it gets. */
#ifndef INGLE_TESTS_HOSTILE_HOUSE_H
#define INGLE_TESTS_HOSTILE_HOUSE_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/hostile/peer.h"

struct house {
    char dir[64], socket[96], log[96];
    pid_t pid;
};

/* What the runtime says about itself (verb ps). */
struct house_state {
    uint64_t fds, threads, rss_bytes, sessions, contexts, running;
    uint64_t violations, rejected, attached, floods, step_allocations, requests, io_sleeps;
};

/* Start `ingled --null` with further arguments (NULL-terminated, NULL: none) and, where config is
 * not NULL, that configuration file. */
void house_open(struct house *house, const char *ingled, const char *config,
                const char *const *args);
/* The same directory again, for a second start. Both return when the null engine is ready. */
void house_start(struct house *house, const char *ingled, const char *const *args);
/* SIGTERM, then the exit status; fails the test when it takes more than 10 s. */
int house_stop(struct house *house);
/* Stop if it runs, expect status 0, remove the directory. */
void house_close(struct house *house);
/* Whether the log holds this text by now. */
bool house_logged(const struct house *house, const char *text);

/* One administrative request over a session of its own; the reply in room, NUL-terminated. */
void house_ask(const struct house *house, const char *json, char *room, size_t bytes);
struct house_state house_look(const struct house *house);
/* The same once nobody but the asker is there: what later states are compared with. */
struct house_state house_calm(const struct house *house);
/* Wait until the sessions, fds and contexts are down to what `before` had; fails after 10 s. */
struct house_state house_settle(const struct house *house, const struct house_state *before);
/* RSS may grow by a little (the allocator's caches), fds by the pair of regions that is made ahead
 * of the next attach, threads and contexts not at all. */
void house_assert_flat(const struct house_state *before, const struct house_state *after);

/* A client that asks for the same answer again and again, on a thread of its own. */
struct honest {
    const struct house *house;
    pthread_t thread;
    _Atomic bool stop;
    uint32_t n_rounds, n_wrong;
    char solo[65536];
};
void honest_start(struct honest *honest, const struct house *house);
/* At least one round, and not one byte that differs from the answer it got when it was alone. */
void honest_stop(struct honest *honest);

#endif
