/* One event loop: epoll for descriptors, a heap for timers. Used by one thread (io). */
#ifndef INGLE_RUNTIME_BASE_REACTOR_H
#define INGLE_RUNTIME_BASE_REACTOR_H
#include <stdint.h>
#include <sys/epoll.h>

#include "runtime/base/error.h"

/* A descriptor that is watched; embedded in its owner, which closes the fd after unwatch. */
struct ingle_source {
    int fd;
    void (*ready)(struct ingle_source *source, uint32_t events);
};

/* Fires once; embedded in its owner. A zeroed timer is disarmed. */
struct ingle_timer {
    uint64_t due_ns;
    uint32_t heap_pos; /* 1-based; 0 = disarmed */
    void (*fire)(struct ingle_timer *timer);
};

#define INGLE_REACTOR_BATCH 64
struct ingle_reactor {
    int epoll_fd;
    struct ingle_timer **heap; /* [1..n_timers], earliest first */
    uint32_t n_timers, heap_room;
    struct epoll_event batch[INGLE_REACTOR_BATCH]; /* a source that is unwatched leaves it too */
    int batch_i, batch_n;
};

int ingle_reactor_init(struct ingle_reactor *reactor, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_reactor_fini(struct ingle_reactor *reactor);

int ingle_reactor_watch(struct ingle_reactor *reactor, struct ingle_source *source,
                        uint32_t events) INGLE_MUST_CHECK;
void ingle_reactor_unwatch(struct ingle_reactor *reactor, struct ingle_source *source);

/* Set or move a timer. -ENOMEM only when more timers are armed than ever before. */
int ingle_reactor_arm(struct ingle_reactor *reactor, struct ingle_timer *timer,
                      uint64_t due_ns) INGLE_MUST_CHECK;
void ingle_reactor_disarm(struct ingle_reactor *reactor, struct ingle_timer *timer);

/* One round: wait for descriptors (0: do not; < 0: as long as the timers allow), call the ready
 * ones, fire the timers that are due. */
void ingle_reactor_turn(struct ingle_reactor *reactor, int64_t timeout_ns);

#endif
