/* The board between step and bell: one bit per client slot that wants to be woken. step marks and
 * flushes once per step (at most one futex wake, only when bell sleeps); bell takes the bits and
 * makes the system calls. Bit INGLE_BOARD_IO stands for the io thread. */
#ifndef INGLE_RUNTIME_BASE_BOARD_H
#define INGLE_RUNTIME_BASE_BOARD_H
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/base/park.h"

#define INGLE_BOARD_SLOTS 1024u
#define INGLE_BOARD_IO    0u /* client slots start at 1 */

struct ingle_board {
    _Atomic uint64_t bits[INGLE_BOARD_SLOTS / 64]; /* step ors release; bell exchanges acquire */
    struct ingle_park park;                        /* bell sleeps here */
    struct {
        uint32_t n_marked;
    } step;
};

/* step: slot < INGLE_BOARD_SLOTS has something new and wants a wake. */
static inline void ingle_board_mark(struct ingle_board *board, uint32_t slot)
{
    atomic_fetch_or_explicit(&board->bits[slot / 64], UINT64_C(1) << (slot % 64),
                             memory_order_release);
    board->step.n_marked++;
}

/* step, once after all of a step's results are published. */
static inline void ingle_board_flush(struct ingle_board *board)
{
    if (board->step.n_marked != 0) {
        board->step.n_marked = 0;
        ingle_park_wake(&board->park);
    }
}

#endif
