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

/* This worker's parts of matrix i of a product (with `out`: of gate and up, i = 0), in order;
 * returns how many.
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
    const uint64_t width = arg->out || arg->T <= INGLE_FEW_ROWS ? 1 : 2;
    const uint32_t T = arg->T, blocks = T / INGLE_ROWS_LEAST > 0 ? T / INGLE_ROWS_LEAST : 1;
    uint64_t strips = 0, before = 0, total = 0, units = 0;
    uint32_t n = 0;
    if (arg->out) {
        total = strips = units = ingle_act_groups(arg->out->cols);
    } else {
        for (uint32_t k = 0; k < arg->n_w; k++) {
            uint64_t tiles = ingle_tiles(arg->w[k].rows), here = (tiles + width - 1) / width;
            before = k == i ? total : before;
            strips = k == i ? here : strips;
            units = k == i ? tiles : units;
            total += here;
        }
    }
    struct ingle_share share = ingle_share(total * blocks, worker);
    uint64_t at = share.from > before * blocks ? share.from - before * blocks : 0;
    uint64_t end = share.to > before * blocks ? share.to - before * blocks : 0;
    end = end < strips * blocks ? end : strips * blocks;
    while (at < end) {
        /* To the end of a strip that was begun, whole strips, or the beginning of one. */
        uint64_t to = at % blocks != 0     ? at - at % blocks + blocks
                      : end - at >= blocks ? end - end % blocks
                                           : end;
        to = to < end ? to : end;
        uint64_t strip = at / blocks, strip_end = (to + blocks - 1) / blocks;
        uint64_t block = at % blocks, block_end = to - (strip_end - 1) * blocks;
        ret[n++] = (struct ingle_part){
            .from = strip * width,
            .to = strip_end * width < units ? strip_end * width : units,
            .row0 = (uint32_t)(T * block / blocks),
            .row1 = (uint32_t)(T * block_end / blocks),
        };
        at = to;
    }
    return n;
}

#endif
