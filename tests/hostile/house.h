/* The ingled of a test program: a temporary directory, a socket in it, the null engine, open around
 * all its tests; and an honest client that lives in it and compares what it gets. */
#ifndef INGLE_TESTS_HOSTILE_HOUSE_H
#define INGLE_TESTS_HOSTILE_HOUSE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/hostile/peer.h"

/* What the runtime says about itself (verb ps). */
struct house_state {
    uint64_t fds, threads, rss_bytes, sessions, contexts, running;
    uint64_t violations, rejected, attached, floods, step_allocations, requests, io_sleeps;
};

extern struct house {
    char dir[64], socket[96], log[96];
    pid_t pid;
    struct house_state calm; /* when it was new, and nobody there but the asker */
} house;

/* The command line of a test program, INGLED, and what to give to `ingled --null` beside the socket
 * (NULL-terminated, NULL: nothing). */
void house_prepare(int argc, char **argv, const char *const *args);
/* Of a group of tests: set-up and tear-down. The latter expects exit status 0. */
int house_open(void **state);
int house_close(void **state);

/* In the same directory again; returns when the null engine is ready. */
void house_start(void);
/* SIGTERM, then the exit status; fails the test when it takes more than 10 s. */
int house_stop(void);
/* Whether the log holds this text by now. */
bool house_logged(const char *text);

/* One administrative request over a session of its own; the reply in room, NUL-terminated. */
void house_ask(const char *json, char *room, size_t bytes);
struct house_state house_look(void);
/* Wait until everybody has gone; fails after 10 s, and where it is not as calm as it was: RSS may
 * have grown by a little (the allocator's caches), fds by the kit that is made ahead of
 * the next attach, threads and contexts not at all. */
struct house_state house_settle(void);

/* A client that asks for the same answer again and again, in a process of its own: a test that had
 * a thread could not fork, for the child would find locked what the thread held. Shared with it. */
struct honest {
    pid_t pid;
    _Atomic bool stop;
    _Atomic uint32_t n_rounds, n_wrong;
    char solo[65536]; /* the answer that it got when it was alone */
};
struct honest *honest_start(void);
/* At least one round, and not one byte that differs from the solo answer. Frees it. */
void honest_stop(struct honest *honest);

#endif
