/* Owns the epoll fd and the timer heap; not the sources or the timers. Invariant: heap[i] is due no
 * later than heap[2i] and heap[2i + 1], and heap[t->heap_pos] == t for every armed timer. */
#include "runtime/base/reactor.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

int ingle_reactor_init(struct ingle_reactor *reactor, struct ingle_error *err)
{
    memset(reactor, 0, sizeof *reactor);
    reactor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (reactor->epoll_fd < 0) {
        int code = -errno;

        return ingle_fail(err, code, "cannot create an epoll descriptor: %s",
                          strerrordesc_np(-code));
    }
    return 0;
}

void ingle_reactor_fini(struct ingle_reactor *reactor)
{
    ingle_mem_free(reactor->heap);
    if (reactor->epoll_fd > 0) {
        (void)close(reactor->epoll_fd);
    }
    memset(reactor, 0, sizeof *reactor);
}

int ingle_reactor_watch(struct ingle_reactor *reactor, struct ingle_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    return epoll_ctl(reactor->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) == 0 ? 0 : -errno;
}

void ingle_reactor_unwatch(struct ingle_reactor *reactor, struct ingle_source *source)
{
    (void)epoll_ctl(reactor->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    for (int i = reactor->batch_i; i < reactor->batch_n; i++) {
        if (reactor->batch[i].data.ptr == source) {
            reactor->batch[i].data.ptr = NULL;
        }
    }
}

static void heap_put(struct ingle_reactor *reactor, uint32_t pos, struct ingle_timer *timer)
{
    reactor->heap[pos] = timer;
    timer->heap_pos = pos;
}

static void sift(struct ingle_reactor *reactor, uint32_t pos, struct ingle_timer *timer)
{
    while (pos > 1 && reactor->heap[pos / 2]->due_ns > timer->due_ns) {
        heap_put(reactor, pos, reactor->heap[pos / 2]);
        pos /= 2;
    }
    for (;;) {
        uint32_t child = pos * 2;

        if (child < reactor->n_timers &&
            reactor->heap[child + 1]->due_ns < reactor->heap[child]->due_ns) {
            child++;
        }
        if (child > reactor->n_timers || reactor->heap[child]->due_ns >= timer->due_ns) {
            break;
        }
        heap_put(reactor, pos, reactor->heap[child]);
        pos = child;
    }
    heap_put(reactor, pos, timer);
}

int ingle_reactor_arm(struct ingle_reactor *reactor, struct ingle_timer *timer, uint64_t due_ns)
{
    uint32_t pos = timer->heap_pos;

    if (pos == 0) {
        if (reactor->n_timers + 2 > reactor->heap_room) {
            uint32_t room = reactor->heap_room == 0 ? 64 : reactor->heap_room * 2;
            struct ingle_timer **heap =
                ingle_mem_grow(reactor->heap, reactor->heap_room, room, sizeof(void *));

            if (heap == NULL) {
                return -ENOMEM;
            }
            reactor->heap = heap;
            reactor->heap_room = room;
        }
        pos = ++reactor->n_timers;
    }
    timer->due_ns = due_ns;
    sift(reactor, pos, timer);
    return 0;
}

void ingle_reactor_disarm(struct ingle_reactor *reactor, struct ingle_timer *timer)
{
    uint32_t pos = timer->heap_pos;
    struct ingle_timer *last;

    if (pos == 0) {
        return;
    }
    ingle_assert(reactor->heap[pos] == timer);
    timer->heap_pos = 0;
    last = reactor->heap[reactor->n_timers--];
    if (last != timer) {
        sift(reactor, pos, last);
    }
}

static int wait_ms(const struct ingle_reactor *reactor, int64_t timeout_ns)
{
    if (timeout_ns != 0 && reactor->n_timers != 0) {
        uint64_t now_ns = ingle_clock_ns(), due_ns = reactor->heap[1]->due_ns;
        int64_t left_ns = due_ns > now_ns ? (int64_t)(due_ns - now_ns) : 0;

        timeout_ns = timeout_ns < 0 || left_ns < timeout_ns ? left_ns : timeout_ns;
    }
    if (timeout_ns < 0) {
        return -1;
    }
    timeout_ns = (timeout_ns + (int64_t)INGLE_NS_PER_MS - 1) / (int64_t)INGLE_NS_PER_MS;
    return timeout_ns > 3600000 ? 3600000 : (int)timeout_ns;
}

void ingle_reactor_turn(struct ingle_reactor *reactor, int64_t timeout_ns)
{
    reactor->batch_n = epoll_wait(reactor->epoll_fd, reactor->batch, INGLE_REACTOR_BATCH,
                                  wait_ms(reactor, timeout_ns));
    for (reactor->batch_i = 0; reactor->batch_i < reactor->batch_n;) {
        const struct epoll_event *event = &reactor->batch[reactor->batch_i++];
        struct ingle_source *source = event->data.ptr;

        if (source != NULL) {
            source->ready(source, event->events);
        }
    }
    reactor->batch_n = reactor->batch_i = 0;
    if (reactor->n_timers != 0) {
        uint64_t now_ns = ingle_clock_ns();

        while (reactor->n_timers != 0 && reactor->heap[1]->due_ns <= now_ns) {
            struct ingle_timer *timer = reactor->heap[1];

            ingle_reactor_disarm(reactor, timer);
            timer->fire(timer);
        }
    }
}
