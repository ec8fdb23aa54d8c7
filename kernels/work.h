/* How an op is divided: worker i of n takes items [total i / n, total (i + 1) / n), or in bands its
 * rows of all. What an item computes never depends on where the borders fall. */
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

/* This worker's of the T rows of an op whose rows are all alike. */
static inline struct ingle_share ingle_share_rows(const struct ingle_op *op, uint32_t T,
                                                  const struct ingle_worker *worker)
{
    const struct ingle_bands *bands = op->bands;
    if (!bands) {
        return ingle_share(T, worker);
    }
    assert(bands->n == worker->count && worker->index < worker->count);
    assert(bands->first[bands->n] == T);
    return (struct ingle_share){bands->first[worker->index], bands->first[worker->index + 1]};
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

/* Blocks of rows that a strip of T rows is cut into where workers share it. */
static inline uint32_t ingle_part_blocks(uint32_t T)
{
    return T / INGLE_ROWS_LEAST > 0 ? T / INGLE_ROWS_LEAST : 1;
}

/* Blocks [at, end) of strips of T rows, each of which is ingle_part_blocks(T): the rest of a strip
 * that was begun, whole strips, the beginning of one. `from` and `to` are strips; returns how many.
 */
static inline uint32_t ingle_parts_of(uint64_t at, uint64_t end, uint32_t T,
                                      struct ingle_part ret[INGLE_PARTS_MAX])
{
    const uint32_t blocks = ingle_part_blocks(T);
    uint32_t n = 0;
    for (uint64_t to; at < end; at = to) {
        if (at % blocks == 0 && end - at >= blocks) {
            to = end - end % blocks;
        } else {
            to = at - at % blocks + blocks;
            to = to < end ? to : end;
        }
        uint64_t last = (to - 1) / blocks;
        ret[n++] = (struct ingle_part){
            .from = at / blocks,
            .to = last + 1,
            .row0 = (uint32_t)(T * (at % blocks) / blocks),
            .row1 = (uint32_t)(T * (to - last * blocks) / blocks),
        };
    }
    return n;
}

/* This worker's parts of matrix i of a product, in order; returns how many.
 *
 * A product's strips, over its matrices as if they were one, are cut by rows into blocks, and
 * workers take equal numbers of consecutive blocks: most of them whole strips, and a part of the
 * strip that they begin and of the one that they end with. A strip is a pair of tiles, a group, or
 * a single tile where rows are few, which are not cut. Whole strips alone would leave eight workers
 * of 28 strips with four or three each. In bands a worker takes all strips of its rows. */
static inline uint32_t ingle_parts(const struct ingle_op *op, uint32_t i,
                                   const struct ingle_worker *worker,
                                   struct ingle_part ret[INGLE_PARTS_MAX])
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    const uint64_t width = arg->out || arg->T <= INGLE_FEW_ROWS ? 1 : 2; /* units of a strip */
    const uint64_t units = ingle_part_units(arg, i), strips = (units + width - 1) / width;
    const uint32_t blocks = ingle_part_blocks(arg->T);
    uint64_t before = 0, total = 0; /* strips */
    if (op->bands) {
        const struct ingle_share rows = ingle_share_rows(op, arg->T, worker);
        ret[0] = (struct ingle_part){.to = units,
                                     .row0 = (uint32_t)rows.from,
                                     .row1 = (uint32_t)rows.to};
        return units > 0 ? 1 : 0;
    }
    for (uint32_t k = 0; k < arg->n_w; k++) {
        uint64_t here = (ingle_part_units(arg, k) + width - 1) / width;
        before += k < i ? here : 0;
        total += here;
    }
    struct ingle_share share = ingle_share(total * blocks, worker);
    uint64_t at = share.from > before * blocks ? share.from - before * blocks : 0;
    uint64_t end = share.to > before * blocks ? share.to - before * blocks : 0;
    uint32_t n = ingle_parts_of(at, end < strips * blocks ? end : strips * blocks, arg->T, ret);
    for (uint32_t p = 0; p < n; p++) {
        uint64_t to = ret[p].to * width;
        ret[p].from *= width;
        ret[p].to = to < units ? to : units;
    }
    return n;
}

/* A worker's share of the product with q, k and v. */
struct ingle_qkv_share {
    struct ingle_share kv; /* blocks of strips, a strip being a head: K 0, V 0, K 1, V 1 .. */
    struct ingle_share q;  /* blocks of strips of q */
    uint32_t q_tiles;      /* of a strip of q; its last strip may be shorter */
};

/* k and v are divided by heads, for their ends want whole ones, and equally, because ends take time
 * too. Of q each worker takes what makes the products equal: whole heads if they are to be
 * normalised, and else strips as of any product. */
static inline struct ingle_qkv_share ingle_qkv_share(const struct ingle_arg_qkv *arg,
                                                     const struct ingle_worker *worker)
{
    const uint32_t T[2] = {arg->T - arg->q0, arg->T}, n = worker->count; /* rows of q; of k, v */
    const uint64_t head = arg->D / INGLE_TILE_ROWS, tiles = arg->H * head;
    const uint64_t blocks[2] = {ingle_part_blocks(T[0]), ingle_part_blocks(T[1])};
    struct ingle_qkv_share ret = {.q_tiles = (uint32_t)(arg->q_gain              ? head
                                                        : T[0] <= INGLE_FEW_ROWS ? 1
                                                                                 : 2)};
    /* In tiles times rows, and all times the numbers of blocks. */
    const uint64_t cost_q = (uint64_t)ret.q_tiles * T[0] * blocks[1];
    const uint64_t cost_kv = head * T[1] * blocks[0];
    const uint64_t n_q = T[0] > 0 ? (tiles + ret.q_tiles - 1) / ret.q_tiles * blocks[0] : 0;
    const uint64_t n_kv = 2 * (uint64_t)arg->Hk * blocks[1], total = n_q * cost_q + n_kv * cost_kv;
    for (uint64_t i = 0, q = 0; n_q > 0 && i <= worker->index + 1; i++) {
        const uint64_t until = total * i / n, before = n_kv * i / n * cost_kv;
        const uint64_t fair = until > before ? (until - before + cost_q / 2) / cost_q : 0;
        q = fair > q ? fair : q;
        q = i < n && q < n_q ? q : n_q;
        ret.q.from = ret.q.to;
        ret.q.to = q;
    }
    ret.kv = ingle_share(n_kv, worker);
    return ret;
}

/* This worker's parts of q, in tiles, and of k and v, in heads: 2 h is K's head h, 2 h + 1 V's. In
 * bands a worker takes all of its rows, of q those that are made. */
struct ingle_qkv_parts {
    struct ingle_part q[INGLE_PARTS_MAX], kv[INGLE_PARTS_MAX];
    uint32_t n_q, n_kv;
};

static inline void ingle_qkv_parts_of_band(const struct ingle_arg_qkv *arg, struct ingle_share rows,
                                           struct ingle_qkv_parts *ret)
{
    ret->q[0] = (struct ingle_part){.to = (uint64_t)arg->H * arg->D / INGLE_TILE_ROWS,
                                    .row0 = (uint32_t)(rows.from > arg->q0 ? rows.from : arg->q0),
                                    .row1 = (uint32_t)rows.to};
    ret->kv[0] = (struct ingle_part){.to = 2 * (uint64_t)arg->Hk,
                                     .row0 = (uint32_t)rows.from,
                                     .row1 = (uint32_t)rows.to};
    ret->n_q = ret->q[0].row0 < ret->q[0].row1 ? 1 : 0;
    ret->n_kv = 1;
}

static inline void ingle_qkv_parts(const struct ingle_op *op, const struct ingle_worker *worker,
                                   struct ingle_qkv_parts *ret)
{
    const struct ingle_arg_qkv *arg = &op->qkv;
    const uint64_t tiles = (uint64_t)arg->H * arg->D / INGLE_TILE_ROWS;
    if (op->bands) {
        ingle_qkv_parts_of_band(arg, ingle_share_rows(op, arg->T, worker), ret);
        return;
    }
    const struct ingle_qkv_share share = ingle_qkv_share(arg, worker);
    ret->n_q = ingle_parts_of(share.q.from, share.q.to, arg->T - arg->q0, ret->q);
    for (uint32_t p = 0; p < ret->n_q; p++) {
        const uint64_t to = ret->q[p].to * share.q_tiles;
        ret->q[p].from *= share.q_tiles;
        ret->q[p].to = to < tiles ? to : tiles;
        ret->q[p].row0 += arg->q0;
        ret->q[p].row1 += arg->q0;
    }
    ret->n_kv = ingle_parts_of(share.kv.from, share.kv.to, arg->T, ret->kv);
}

#endif
