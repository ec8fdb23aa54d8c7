/* A bounded single-producer single-consumer queue of fixed-size messages between two threads of the
 * runtime. Storage belongs to the caller. Never blocks, never allocates. */
#ifndef INGLE_RUNTIME_BASE_SPSC_H
#define INGLE_RUNTIME_BASE_SPSC_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ingle_spsc {
    uint8_t *items;
    uint32_t mask, item_bytes;
    _Alignas(128) _Atomic uint32_t tail; /* producer stores release; consumer loads acquire */
    _Alignas(128) _Atomic uint32_t head; /* consumer stores release; producer loads acquire */
};

/* items: n * item_bytes, n a power of two; borrowed for the queue's life. */
static inline void ingle_spsc_init(struct ingle_spsc *q, void *items, uint32_t n,
                                   uint32_t item_bytes)
{
    q->items = items;
    q->mask = n - 1;
    q->item_bytes = item_bytes;
    atomic_init(&q->tail, 0);
    atomic_init(&q->head, 0);
}

/* Producer. False when full. */
static inline bool ingle_spsc_push(struct ingle_spsc *q, const void *item)
{
    uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

    if (tail - atomic_load_explicit(&q->head, memory_order_acquire) > q->mask) {
        return false;
    }
    memcpy(q->items + (uint64_t)(tail & q->mask) * q->item_bytes, item, q->item_bytes);
    atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
    return true;
}

/* Consumer. Nothing to pop at this moment? */
static inline bool ingle_spsc_empty(struct ingle_spsc *q)
{
    return atomic_load_explicit(&q->head, memory_order_relaxed) ==
           atomic_load_explicit(&q->tail, memory_order_acquire);
}

/* Consumer. False when empty. */
static inline bool ingle_spsc_pop(struct ingle_spsc *q, void *ret_item)
{
    uint32_t head = atomic_load_explicit(&q->head, memory_order_relaxed);

    if (head == atomic_load_explicit(&q->tail, memory_order_acquire)) {
        return false;
    }
    memcpy(ret_item, q->items + (uint64_t)(head & q->mask) * q->item_bytes, q->item_bytes);
    atomic_store_explicit(&q->head, head + 1, memory_order_release);
    return true;
}

#endif
