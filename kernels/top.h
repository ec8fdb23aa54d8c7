/* The k largest logits of a row, collected as they come by: who chooses a token from few of them
 * needs no row. For the vocabulary head, where each worker has a list of its parts, and the
 * sampler, which merges these lists or makes one of a row. Owns nothing; no state.
 *
 * A list is n <= k candidates, best first: the larger logit, on a tie the lower id. Only logits
 * above -Inf are candidates, so a NaN is none. Lists of k together hold the k largest of all that
 * were offered to them, whichever was offered to which. */
#ifndef INGLE_KERNELS_TOP_H
#define INGLE_KERNELS_TOP_H
#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define INGLE_TOP_MAX 256u /* k; who wants more sorts a row */

/* One of a worker, which shares no line of the cache with another's. */
struct ingle_top {
    _Alignas(64) uint32_t n;
    uint64_t key[INGLE_TOP_MAX];
};

static inline uint32_t ingle_top_descending(float x)
{
    uint32_t bits;

    x += 0.0f; /* -0 is 0 */
    memcpy(&bits, &x, sizeof(bits));
    return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

/* A candidate as one number: ascending order is descending logit, then ascending id. */
static inline uint64_t ingle_top_key(float logit, uint32_t id)
{
    return (uint64_t)ingle_top_descending(logit) << 32 | id;
}

static inline uint32_t ingle_top_id(uint64_t key)
{
    return (uint32_t)key;
}

static inline float ingle_top_logit(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float x;

    bits = (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* A key that belongs into a list of n <= k, k > 0; returns how many are in it then. */
static inline uint32_t ingle_top_insert(uint64_t *list, uint32_t n, uint32_t k, uint64_t key)
{
    uint32_t i = n < k ? n++ : n - 1;

    for (; i > 0 && list[i - 1] > key; i--) {
        list[i] = list[i - 1];
    }
    list[i] = key;
    return n;
}

/* Offer the V logits x of ids from id0 on, with their peaks, to a list of ids below id0; returns
 * how many are in it then. Whole blocks are passed over by their peaks. */
static inline uint32_t ingle_top_offer(uint64_t *list, uint32_t n, uint32_t k, const float *x,
                                       uint32_t V, uint32_t id0, const float *peak)
{
    float worst = n == k && k > 0 ? ingle_top_logit(list[n - 1]) : -INFINITY;

    for (uint32_t at = 0; k > 0 && at < V; at += INGLE_PEAK_COLS) {
        uint32_t end = V - at < INGLE_PEAK_COLS ? V : at + INGLE_PEAK_COLS;

        if (!(peak[at / INGLE_PEAK_COLS] > worst)) {
            continue;
        }
        for (uint32_t i = at; i < end; i++) {
            if (x[i] > worst) { /* an equal one of a higher id stays out */
                n = ingle_top_insert(list, n, k, ingle_top_key(x[i], id0 + i));
                worst = n == k ? ingle_top_logit(list[n - 1]) : worst;
            }
        }
    }
    return n;
}

/* The same of what another list holds, in any order of ids. */
static inline uint32_t ingle_top_merge(uint64_t *list, uint32_t n, uint32_t k,
                                       const struct ingle_top *other)
{
    for (uint32_t i = 0; k > 0 && i < other->n; i++) {
        if (n == k && other->key[i] > list[n - 1]) {
            break;
        }
        n = ingle_top_insert(list, n, k, other->key[i]);
    }
    return n;
}

#endif
