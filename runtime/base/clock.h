/* The one door to time inside runtime/: every thread reads the same two clocks through here. */
#ifndef INGLE_RUNTIME_BASE_CLOCK_H
#define INGLE_RUNTIME_BASE_CLOCK_H
#include <stdint.h>
#include <time.h>

#define INGLE_NS_PER_US UINT64_C(1000)
#define INGLE_NS_PER_MS UINT64_C(1000000)
#define INGLE_NS_PER_S  UINT64_C(1000000000)

static inline uint64_t ingle_clock_read_ns(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * INGLE_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Monotonic: for intervals and deadlines. Through the vDSO, no system call. */
static inline uint64_t ingle_clock_ns(void)
{
    return ingle_clock_read_ns(CLOCK_MONOTONIC);
}

/* Wall clock, since 1970: for people. */
static inline uint64_t ingle_clock_wall_ns(void)
{
    return ingle_clock_read_ns(CLOCK_REALTIME);
}

#endif
