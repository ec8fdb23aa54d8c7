/* Owns the bell thread and the table of who is to be woken; borrows every mapping and descriptor in
 * it. Invariant: a slot is read and used only under the lock, so io can take a client's mappings
 * away. What a client holds can be made to block, hence no write() to its eventfd ever: the futex
 * and MSG_DONTWAIT cannot. */
#include "runtime/session/bell.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "shm/layout.h"
#include "shm/wake.h"

void ingle_bell_ring(struct ingle_ringer *bell, uint32_t slot)
{
    const struct ingle_bell_slot *who = &bell->slots[slot];
    uint32_t how = 0;

    (void)pthread_mutex_lock(&bell->lock);
    if (who->need_wake != NULL) {
        how = atomic_load_explicit(who->need_wake, memory_order_acquire);
    }
    if ((how & INGLE_WAKE_FUTEX) != 0) {
        ingle_wake_all(who->wake_seq);
    }
    if ((how & INGLE_WAKE_BELL) != 0 && who->sock >= 0) {
        (void)ingle_wake_bell(who->sock, how); /* a closed socket is io's to notice */
    }
    (void)pthread_mutex_unlock(&bell->lock);
}

void ingle_bell_assign(struct ingle_ringer *bell, uint32_t slot, const struct ingle_bell_slot *who)
{
    static const struct ingle_bell_slot nobody = {.sock = -1};

    (void)pthread_mutex_lock(&bell->lock);
    bell->slots[slot] = who == NULL ? nobody : *who;
    (void)pthread_mutex_unlock(&bell->lock);
}

static bool ring_marked(struct ingle_ringer *bell)
{
    bool any = false;

    for (uint32_t w = 0; w < INGLE_BOARD_SLOTS / 64; w++) {
        uint64_t bits = atomic_exchange_explicit(&bell->board->bits[w], 0, memory_order_acquire);

        for (; bits != 0; bits &= bits - 1) {
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits);

            any = true;
            if (slot == INGLE_BOARD_IO) {
                uint64_t one = 1;
                ssize_t n = write(bell->io_eventfd, &one, sizeof one);

                (void)n; /* a full counter already wakes io */
            } else {
                ingle_bell_ring(bell, slot);
            }
        }
    }
    return any;
}

static void *bell_main(void *arg)
{
    struct ingle_ringer *bell = arg;

    while (!atomic_load_explicit(&bell->stop, memory_order_acquire)) {
        uint32_t ticket = ingle_park_ticket(&bell->board->park);

        if (ring_marked(bell)) {
            ingle_park_cancel(&bell->board->park);
        } else {
            ingle_park_wait(&bell->board->park, ticket, -1);
        }
    }
    return NULL;
}

int ingle_bell_start(struct ingle_ringer *bell, struct ingle_board *board, int io_eventfd,
                     struct ingle_error *err)
{
    int res;

    memset(bell, 0, sizeof *bell);
    bell->board = board;
    bell->io_eventfd = io_eventfd;
    for (uint32_t i = 0; i < INGLE_BOARD_SLOTS; i++) {
        bell->slots[i].sock = -1;
    }
    (void)pthread_mutex_init(&bell->lock, NULL);
    res = pthread_create(&bell->thread, NULL, bell_main, bell);
    if (res != 0) {
        return ingle_fail(err, -res, "cannot start the bell thread: %s", strerrordesc_np(res));
    }
    (void)pthread_setname_np(bell->thread, "ingle-bell");
    return 0;
}

void ingle_bell_stop(struct ingle_ringer *bell)
{
    atomic_store_explicit(&bell->stop, true, memory_order_release);
    ingle_park_wake(&bell->board->park);
    (void)pthread_join(bell->thread, NULL);
    (void)pthread_mutex_destroy(&bell->lock);
}
