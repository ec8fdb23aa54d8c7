/* The bell thread: takes client slots from the board and wakes those clients, by futex or by a
 * datagram, so that step makes no system call for them; and wakes io through an eventfd. */
#ifndef INGLE_RUNTIME_SESSION_BELL_H
#define INGLE_RUNTIME_SESSION_BELL_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/board.h"
#include "runtime/base/error.h"
#include "shm/atomic.h"

struct ingle_bell_slot {
    const INGLE_ATOMIC_U32 *need_wake; /* C2S; NULL: nobody here */
    INGLE_ATOMIC_U32 *wake_seq;        /* S2C */
    int sock;                          /* -1: lost, its session may come back */
};

struct ingle_ringer {
    struct ingle_board *board;
    int io_eventfd; /* borrowed; no client holds it, so a write to it cannot be made to block */
    pthread_t thread;
    _Atomic bool stop;
    /* Guards slots: a slot's mappings stay while its wake-up is under way. Held for one wake-up at
     * most; innermost. */
    pthread_mutex_t lock;
    struct ingle_bell_slot slots[INGLE_BOARD_SLOTS];
};

int ingle_bell_start(struct ingle_ringer *bell, struct ingle_board *board, int io_eventfd,
                     struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_bell_stop(struct ingle_ringer *bell); /* joins */

/* io: who answers to a slot from now on; NULL: nobody. When this returns, no wake-up of the slot's
 * last holder is under way. */
void ingle_bell_assign(struct ingle_ringer *bell, uint32_t slot, const struct ingle_bell_slot *who);
/* io, bell: wake the holder of slot in the way that it asked for. Never blocks on the client. */
void ingle_bell_ring(struct ingle_ringer *bell, uint32_t slot);

#endif
