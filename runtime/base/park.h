/* Where one thread of the runtime sleeps until another has something for it: an event count on a
 * futex. The waker makes no system call unless the sleeper sleeps. */
#ifndef INGLE_RUNTIME_BASE_PARK_H
#define INGLE_RUNTIME_BASE_PARK_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct ingle_park {
    _Atomic uint32_t seq;      /* wakers add seq_cst; the sleeper loads seq_cst: the futex word */
    _Atomic uint32_t sleeping; /* the sleeper stores seq_cst; wakers load seq_cst */
};

/* Sleeper: take a ticket, look at the work once more, then wait with the ticket. */
uint32_t ingle_park_ticket(struct ingle_park *park);
/* Sleep until a wake after the ticket was taken, or timeout_ns passed (< 0: no timeout). */
void ingle_park_wait(struct ingle_park *park, uint32_t ticket, int64_t timeout_ns);
/* Sleeper: there was work after all. */
void ingle_park_cancel(struct ingle_park *park);
/* Waker: after its work is visible. */
void ingle_park_wake(struct ingle_park *park);

#endif
