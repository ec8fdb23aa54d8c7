/* x[t] = scale * row ids[t] of w: the row is gathered from its tile and multiplied out. Rows are
 * divided among the workers. */
#include "kernels/isa.h"
#include "kernels/ref/tile.h"
#include "kernels/work.h"

static void embed_row(const struct ingle_matrix *w, uint32_t row, float scale, float *x)
{
    struct ingle_tile_shape shape = ingle_tile_shape(w->type, w->cols);
    struct ingle_wform form = ingle_wform(w->type);
    const uint8_t *tile = ingle_tile_at(w, row / INGLE_TILE_ROWS);
    uint32_t r = row % INGLE_TILE_ROWS;
    if (form.scale == INGLE_WS_FLOAT) {
        for (uint32_t k = 0; k < w->cols; k++) {
            x[k] = scale * ingle_tile_float(w->type, tile, r, k);
        }
        return;
    }
    for (uint32_t b = 0; b < shape.blocks; b++) {
        float d[2], m[2];
        uint8_t code[INGLE_BLOCK_COLS];
        ingle_tile_scales(form, tile, shape, b, r, d, m);
        ingle_tile_codes(w->type, tile, shape, b, r, code);
        for (uint32_t c = 0; c < INGLE_BLOCK_COLS; c++) {
            float product = d[c / 16] * (float)(code[c] - form.zero);
            x[b * INGLE_BLOCK_COLS + c] = scale * (form.min ? product + m[c / 16] : product);
        }
    }
}

void INGLE_VARIANT(embed)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_embed *arg = &op->embed;
    struct ingle_share share = ingle_share_rows(op, arg->T, worker);
    for (uint64_t t = share.from; t < share.to; t++) {
        assert(arg->ids[t] >= 0 && (uint32_t)arg->ids[t] < arg->w->rows);
        embed_row(arg->w, (uint32_t)arg->ids[t], arg->scale, arg->x + t * arg->w->cols);
    }
}
