/* How an op is divided: worker i of n takes items [total i / n, total (i + 1) / n). What an item
 * computes never depends on where the borders fall. */
#ifndef INGLE_KERNELS_WORK_H
#define INGLE_KERNELS_WORK_H
#include <assert.h>

#include "kernels/kernels.h"

struct ingle_share {
    uint64_t from, to;
};

static inline struct ingle_share ingle_share(uint64_t total, const struct ingle_worker *worker)
{
    assert(worker->index < worker->count);
    return (struct ingle_share){total * worker->index / worker->count,
                                total * (worker->index + 1) / worker->count};
}

#endif
