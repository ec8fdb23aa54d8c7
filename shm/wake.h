/* The doorbell between a publisher and a sleeper in two processes, and the futex behind it. */
#ifndef INGLE_SHM_WAKE_H
#define INGLE_SHM_WAKE_H
#include <stdint.h>

#include "shm/atomic.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Store own = value, then load peer, both in the one total order of sequentially consistent
 * operations. A publisher calls it with its tail and the sleeper's flag, the sleeper with its flag
 * and the publisher's tail: at least one of them sees the other, so no wake-up is lost.
 *
 * @own    a word that only this thread writes       @value  what to store
 * @peer   the other side's word, mapped read-only
 *
 * Ownership: borrows both.  Thread: the only writer of own.
 * Returns what peer held; untrusted.
 */
uint32_t ingle_doorbell(INGLE_ATOMIC_U32 *own, uint32_t value, const INGLE_ATOMIC_U32 *peer);

/**
 * The futex word's present value, to be read before arming and given to ingle_wake_wait.
 *
 * @seq  s2c.wake_seq
 *
 * Ownership: borrows.  Thread: any.
 */
uint32_t ingle_wake_seq(const INGLE_ATOMIC_U32 *seq);

/**
 * Sleep while *seq == seen. Works on a read-only sealed mapping.
 *
 * @seq  s2c.wake_seq        @seen  from ingle_wake_seq, read before the sleeper armed itself
 * @timeout_ns               0 returns at once; UINT64_MAX waits for ever
 *
 * Ownership: borrows.  Thread: any of the client.
 * Returns 0 when *seq has changed or a wake (possibly spurious) came, -ETIMEDOUT, -EINTR, or
 * another -errno of futex(2).
 */
int ingle_wake_wait(const INGLE_ATOMIC_U32 *seq, uint32_t seen, uint64_t timeout_ns);

/**
 * Advance *seq and wake every process that sleeps on it.
 *
 * @seq  s2c.wake_seq; the calling thread is its only writer
 *
 * Ownership: borrows.  Thread: bell.  Never blocks.  Errors: none.
 */
void ingle_wake_all(INGLE_ATOMIC_U32 *seq);

/**
 * Send a bell datagram, for a client that sleeps in an event loop on its socket.
 *
 * @socket  connected, SOCK_SEQPACKET      @bits  what is new, INGLE_WAKE_*
 *
 * Ownership: borrows.  Thread: bell.  Never blocks.
 * Returns 0 (also when the queue is full: then the client has unread bells, which wake it as well),
 * or -errno of send(2) (-EPIPE, -ECONNRESET: the client is gone).
 */
int ingle_wake_bell(int socket, uint32_t bits);

#ifdef __cplusplus
}
#endif
#endif
