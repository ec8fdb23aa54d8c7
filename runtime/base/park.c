/* Owns nothing. The order is Dekker's: each side stores its own word seq_cst, then loads the
 * other's, so either the sleeper sees the new sequence number or the waker sees the sleeper. */
#include "runtime/base/park.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint32_t ingle_park_ticket(struct ingle_park *park)
{
    atomic_store_explicit(&park->sleeping, 1, memory_order_seq_cst);
    return atomic_load_explicit(&park->seq, memory_order_seq_cst);
}

void ingle_park_wait(struct ingle_park *park, uint32_t ticket, int64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};

    (void)syscall(SYS_futex, &park->seq, FUTEX_WAIT_PRIVATE, ticket, timeout_ns < 0 ? NULL : &ts,
                  NULL, 0);
    ingle_park_cancel(park);
}

void ingle_park_cancel(struct ingle_park *park)
{
    atomic_store_explicit(&park->sleeping, 0, memory_order_seq_cst);
}

void ingle_park_wake(struct ingle_park *park)
{
    (void)atomic_fetch_add_explicit(&park->seq, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&park->sleeping, memory_order_seq_cst) != 0) {
        (void)syscall(SYS_futex, &park->seq, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}
