/* Wake-ups across processes: the store-then-load handshake that loses none, and futex(2) on a word
 * of the S2C region. Owns no memory. This is the only file with sequentially consistent order, and
 * a model checker finds the lost wake-up as soon as either side has less (docs/PROTOCOL.md).
 * Any thread; nothing here blocks but ingle_wake_wait. */
#include "shm/wake.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shm/layout.h"

uint32_t ingle_doorbell(INGLE_ATOMIC_U32 *own, uint32_t value, const INGLE_ATOMIC_U32 *peer)
{
    atomic_store_explicit(own, value, memory_order_seq_cst);
    return atomic_load_explicit(peer, memory_order_seq_cst);
}

uint32_t ingle_wake_seq(const INGLE_ATOMIC_U32 *seq)
{
    return atomic_load_explicit(seq, memory_order_acquire);
}

int ingle_wake_wait(const INGLE_ATOMIC_U32 *seq, uint32_t seen, uint64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};

    if (syscall(SYS_futex, seq, FUTEX_WAIT, seen, timeout_ns == UINT64_MAX ? NULL : &ts, NULL, 0) ==
            0 ||
        errno == EAGAIN) {
        return 0;
    }
    return -errno;
}

void ingle_wake_all(INGLE_ATOMIC_U32 *seq)
{
    uint32_t now = atomic_load_explicit(seq, memory_order_relaxed);

    atomic_store_explicit(seq, now + 1, memory_order_release);
    (void)syscall(SYS_futex, seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int ingle_wake_bell(int socket, uint32_t bits)
{
    struct ingle_bell bell = {.magic = INGLE_BELL_MAGIC, .bits = bits};

    if (send(socket, &bell, sizeof bell, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno == EAGAIN) {
        return 0;
    }
    return -errno;
}
