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

/* What a worker does of a product at a time: some tiles of a matrix (with `out` some groups of 32
 * columns, each two tiles of gate and two of up) against rows [row0, row1). */
struct ingle_part {
    uint64_t from, to;
    uint32_t row0, row1;
};
#define INGLE_PARTS_MAX 3u

#define INGLE_FEW_ROWS   16u /* a product of so few rows is divided tile by tile */
#define INGLE_ROWS_LEAST 64u /* of a strip that several workers share, each */

/* What matrix i of a product is divided into: its tiles; with `out` the groups, all at i = 0. */
static inline uint64_t ingle_part_units(const struct ingle_arg_matmul *arg, uint32_t i)
{
    if (!arg->out) {
        return ingle_tiles(arg->w[i].rows);
    }
    return i == 0 ? ingle_act_groups(arg->out->cols) : 0;
}

/* This worker's parts of matrix i of a product, in order; returns how many.
 *
 * A product's strips, over its matrices as if they were one, are cut by rows into blocks, and
 * workers take equal numbers of consecutive blocks: most of them whole strips, and a part of the
 * strip that they begin and of the one that they end with. A strip is a pair of tiles, a group, or
 * a single tile where rows are few, which are not cut. Whole strips alone would leave eight workers
 * of 28 strips with four or three each. */
static inline uint32_t ingle_parts(const struct ingle_arg_matmul *arg, uint32_t i,
                                   const struct ingle_worker *worker,
                                   struct ingle_part ret[INGLE_PARTS_MAX])
{
    const uint64_t width = arg->out || arg->T <= INGLE_FEW_ROWS ? 1 : 2; /* units of a strip */
    const uint64_t units = ingle_part_units(arg, i), strips = (units + width - 1) / width;
    const uint32_t T = arg->T, blocks = T / INGLE_ROWS_LEAST > 0 ? T / INGLE_ROWS_LEAST : 1;
    uint64_t before = 0, total = 0; /* strips */
    uint32_t n = 0;
    for (uint32_t k = 0; k < arg->n_w; k++) {
        uint64_t here = (ingle_part_units(arg, k) + width - 1) / width;
        before += k < i ? here : 0;
        total += here;
    }
    struct ingle_share share = ingle_share(total * blocks, worker);
    uint64_t at = share.from > before * blocks ? share.from - before * blocks : 0;
    uint64_t end = share.to > before * blocks ? share.to - before * blocks : 0;
    end = end < strips * blocks ? end : strips * blocks;
    for (uint64_t to; at < end; at = to) {
        if (at % blocks == 0 && end - at >= blocks) {
            to = end - end % blocks; /* whole strips */
        } else {
            to = at - at % blocks + blocks; /* some blocks of one */
            to = to < end ? to : end;
        }
        uint64_t last = (to - 1) / blocks, unit_end = (last + 1) * width;
        ret[n++] = (struct ingle_part){
            .from = at / blocks * width,
            .to = unit_end < units ? unit_end : units,
            .row0 = (uint32_t)(T * (at % blocks) / blocks),
            .row1 = (uint32_t)(T * (to - last * blocks) / blocks),
        };
    }
    return n;
}

#endif
