/* The vocabulary head, part by part: a matrix product of INGLE_HEAD_COLS rows of weights, then the
 * row statistics of what it gave, and what of it is among the largest so far. The parts are divided
 * among the workers, each of which goes on with its lists from part to part: what enters one has to
 * be larger than all but few before it. Where logits are not kept, they go through the end of the
 * worker's scratch, which the product leaves alone. */
#include <assert.h>

#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/top.h"
#include "kernels/work.h"

#define LOGITS_BYTES (INGLE_HEAD_ROWS * INGLE_HEAD_COLS * sizeof(float))
static_assert(LOGITS_BYTES <= INGLE_SCRATCH_SUMS_BYTES, "products leave them alone");
static_assert(INGLE_HEAD_COLS % INGLE_TILE_ROWS == 0, "a part is whole tiles");
static_assert(INGLE_HEAD_COLS % INGLE_PEAK_COLS == 0, "a part has its own peaks");

static struct ingle_top *list_of(const struct ingle_arg_head *arg,
                                 const struct ingle_worker *worker, uint32_t r)
{
    return &arg->top[(uint64_t)r * worker->count + worker->index];
}

void INGLE_VARIANT(head)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_head *arg = &op->head;
    const struct ingle_worker alone = {.count = 1, .scratch = worker->scratch};
    const uint32_t n_parts = ingle_head_parts(arg->w.rows);
    struct ingle_share share = ingle_share(n_parts, worker);
    assert(arg->logits || arg->R <= INGLE_HEAD_ROWS);
    for (uint32_t r = 0; arg->n_top && r < arg->R; r++) { /* also of a worker without parts */
        assert(arg->n_top[r] <= INGLE_TOP_MAX);
        list_of(arg, worker, r)->n = 0;
    }
    for (uint64_t i = share.from; i < share.to; i++) {
        uint32_t n0 = (uint32_t)i * INGLE_HEAD_COLS;
        uint32_t n = ingle_head_part_cols(arg->w.rows, (uint32_t)i);
        struct ingle_matrix w = {.type = arg->w.type,
                                 .rows = n,
                                 .cols = arg->w.cols,
                                 .data = ingle_tile_at(&arg->w, n0 / INGLE_TILE_ROWS)};
        void *end = worker->scratch + INGLE_SCRATCH_BYTES - LOGITS_BYTES;
        float *y = arg->logits ? arg->logits + n0 : end;
        uint64_t stride = arg->logits ? arg->w.rows : INGLE_HEAD_COLS;
        struct ingle_op part = {
            .kind = INGLE_K_MATMUL,
            .matmul = {
                .x = arg->x, .n_w = 1, .T = arg->R, .w = {w}, .y = {y}, .y_stride = {stride}}};
        INGLE_VARIANT(matmul)(&part, &alone);
        for (uint32_t r = 0; r < arg->R; r++) {
            struct ingle_row_stat *stat = &arg->part[(uint64_t)r * n_parts + i];
            uint32_t k = arg->n_top ? arg->n_top[r] : 0;
            float own_peak[INGLE_HEAD_COLS / INGLE_PEAK_COLS], *peak = k > 0 ? own_peak : NULL;
            if (arg->peak) {
                peak =
                    arg->peak + (uint64_t)r * ingle_head_peaks(arg->w.rows) + n0 / INGLE_PEAK_COLS;
            }
            float inverse = arg->inverse_temperature ? arg->inverse_temperature[r] : 0.0f;
            *stat = INGLE_VARIANT(row_stat)(y + r * stride, n, inverse, peak);
            stat->argmax += (int32_t)n0;
            if (k > 0) {
                struct ingle_top *top = list_of(arg, worker, r);
                top->n = ingle_top_offer(top->key, top->n, k, y + r * stride, n, n0, peak);
            }
        }
    }
}
