/* A runtime of the bench's own: a process, its folder and its socket. */
#ifndef INGLE_TOOLS_BENCHMARK_RUNTIME_H
#define INGLE_TOOLS_BENCHMARK_RUNTIME_H
#include <sys/types.h>

#include "clients/c/ingle.h"
#include "tools/benchmark/bench.h"

struct bench_runtime {
    char folder[64]; /* under /tmp; also its XDG_RUNTIME_DIR, so that `ingle` finds the socket */
    char socket[96];
    pid_t pid;
};

/* Start ingled with this configuration (text) and these further arguments, NULL-terminated, and
 * wait until it answers: 0, or 1 after a message. Zeroed or not, stop it afterwards. */
int bench_runtime_start(const struct bench *b, const char *config, const char *const *more,
                        struct bench_runtime *r);
void bench_runtime_stop(struct bench_runtime *r);
/* A client of it, or NULL. */
struct ingle_client *bench_runtime_attach(const struct bench_runtime *r);

#endif
