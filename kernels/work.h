/* How an op is divided: worker i of n takes items [total i / n, total (i + 1) / n). What an item
 * computes never depends on where the borders fall. */
#ifndef INGLE_KERNELS_WORK_H
#define INGLE_KERNELS_WORK_H
#include <assert.h>

#include "kernels/act.h"
#include "kernels/pack.h"

struct ingle_share {
    uint64_t from, to;
};

static inline struct ingle_share ingle_share(uint64_t total, const struct ingle_worker *worker)
{
    assert(worker->index < worker->count);
    return (struct ingle_share){total * worker->index / worker->count,
                                total * (worker->index + 1) / worker->count};
}

/* Groups of 32 columns of a product's `out` that are this worker's: each a pair of tiles of gate
 * and one of up. */
static inline struct ingle_share ingle_group_share(const struct ingle_arg_matmul *arg,
                                                   const struct ingle_worker *worker)
{
    return ingle_share(ingle_act_groups(arg->out->cols), worker);
}

/* Tiles of matrix i of a product that are this worker's. They go in pairs, over the matrices as if
 * they were one; with `out` in its groups. */
static inline struct ingle_share ingle_tile_share(const struct ingle_arg_matmul *arg, uint32_t i,
                                                  const struct ingle_worker *worker)
{
    uint64_t tiles = ingle_tiles(arg->w[i].rows), before = 0, total = 0;
    struct ingle_share share;

    if (arg->out != NULL) {
        share = ingle_group_share(arg, worker);
    } else {
        for (uint32_t k = 0; k < arg->n_w; k++) {
            before = k == i ? total : before;
            total += (ingle_tiles(arg->w[k].rows) + 1) / 2;
        }
        share = ingle_share(total, worker);
        share.from = share.from > before ? share.from - before : 0;
        share.to = share.to > before ? share.to - before : 0;
    }
    share.from = 2 * share.from < tiles ? 2 * share.from : tiles;
    share.to = 2 * share.to < tiles ? 2 * share.to : tiles;
    return share;
}

#endif
