/* The loops of the matrix product around an instruction set's kernels (matmul.h): which tiles a
 * worker takes, which way a product goes, panels and groups. Owns nothing but its share of y and
 * the worker's scratch. */
#include "kernels/x86/matmul.h"

#include <string.h>

#include "kernels/work.h"

struct scratch {
    float acc[INGLE_MM_ROWS * INGLE_MM_PAIR * INGLE_TILE_ROWS]; /* [rows][pair][16] */
    float x[INGLE_MM_FEW * INGLE_MM_FLOAT_COLS];
    _Alignas(64) uint8_t panel[INGLE_MM_PANEL_BYTES];
};
static_assert(sizeof(struct scratch) <= INGLE_SCRATCH_BYTES, "fits a worker's scratch");

/* One panel's tiles against rows [row0, row0 + n_rows). */
struct strip {
    const struct ingle_mm_isa *isa;
    const struct ingle_arg_matmul *arg;
    struct scratch *scratch;
    uint32_t i, row0, n_rows;
    uint64_t tile;
};

/* The next piece of `left` in pieces of nearly equal size, none above max. */
static uint32_t even_piece(uint32_t left, uint32_t max)
{
    uint32_t pieces = (left + max - 1) / max;
    return (left + pieces - 1) / pieces;
}

static void decode(const struct strip *strip, ingle_mm_decode_fn *fn, uint32_t first, uint32_t n)
{
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    struct ingle_mm_decode decode = {.shape = ingle_tile_shape(w->type, w->cols),
                                     .first = first,
                                     .n = n,
                                     .panel = strip->scratch->panel};
    uint64_t last = ingle_tiles(w->rows) - 1;
    for (decode.side = 0; decode.side < strip->isa->pair; decode.side++) {
        /* A strip that lacks its second tile takes the last one again. */
        uint64_t tile = strip->tile + decode.side;
        decode.tile = w->data + (tile < last ? tile : last) * decode.shape.bytes;
        fn(&decode);
    }
}

static void strip_int(const struct strip *strip)
{
    const struct ingle_mm_isa *isa = strip->isa;
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    const struct ingle_act *x = strip->arg->x;
    const bool two = x->mode == INGLE_ACT_INT16;
    const uint32_t blocks = w->cols / INGLE_BLOCK_COLS;
    for (uint32_t b = 0, n; b < blocks; b += n) {
        n = even_piece(blocks - b, INGLE_MM_BLOCKS);
        decode(strip, isa->decode_fn(w->type), b, n);
        for (uint32_t r = 0, rows; r < strip->n_rows; r += rows) {
            rows = even_piece(strip->n_rows - r, isa->group_rows(w->type));
            struct ingle_mm_group group = {
                .panel = strip->scratch->panel,
                .x = x->rows + (strip->row0 + r) * x->row_stride + b * ingle_mm_group_bytes(two),
                .x_stride = x->row_stride,
                .acc = strip->scratch->acc + (uint64_t)r * isa->pair * INGLE_TILE_ROWS,
                .n = n};
            isa->group_fn(w->type, two, rows)(&group);
        }
    }
}

/* Columns [col0, col0 + n_cols) of some rows as f32: where they are, or multiplied out. */
static void float_rows(const struct strip *strip, uint32_t row, uint32_t n_rows, uint32_t col0,
                       uint32_t n_cols, struct ingle_mm_group *group)
{
    const struct ingle_act *x = strip->arg->x;
    if (x->mode == INGLE_ACT_F32) {
        group->x = x->rows + row * x->row_stride + col0 * sizeof(float);
        group->x_stride = x->row_stride;
        return;
    }
    const bool two = x->mode == INGLE_ACT_INT16;
    group->x = (const uint8_t *)strip->scratch->x;
    group->x_stride = INGLE_MM_FLOAT_COLS * sizeof(float);
    for (uint32_t r = 0; r < n_rows; r++) {
        float *out = strip->scratch->x + r * INGLE_MM_FLOAT_COLS;
        const uint8_t *from = x->rows + (row + r) * x->row_stride +
                              col0 / INGLE_ACT_GROUP * ingle_mm_group_bytes(two);
        for (uint32_t c = 0; c < n_cols; c += INGLE_ACT_GROUP, from += ingle_mm_group_bytes(two)) {
            float scale = ingle_mm_tail(two, from)->scale;
            const int8_t *q = (const int8_t *)from;
            for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
                out[c + k] = scale * (float)(two ? 128 * q[k] + q[k + INGLE_ACT_GROUP] : q[k]);
            }
        }
    }
}

static void strip_float(const struct strip *strip)
{
    const struct ingle_mm_isa *isa = strip->isa;
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    for (uint32_t c = 0, n; c < w->cols; c += n) {
        n = w->cols - c < INGLE_MM_FLOAT_COLS ? w->cols - c : INGLE_MM_FLOAT_COLS;
        decode(strip, isa->decode_float_fn(w->type), c, n);
        for (uint32_t r = 0, rows; r < strip->n_rows; r += rows) {
            rows = even_piece(strip->n_rows - r, isa->group_float);
            struct ingle_mm_group group = {.panel = strip->scratch->panel,
                                           .acc = strip->scratch->acc +
                                                  (uint64_t)r * isa->pair * INGLE_TILE_ROWS,
                                           .n = n};
            float_rows(strip, strip->row0 + r, rows, c, n, &group);
            isa->group_float_fn(rows)(&group);
        }
    }
}

/* Tiles [from, to) of matrix i against all rows. */
static void tiles_many(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                       uint32_t i, uint64_t from, uint64_t to, struct scratch *scratch)
{
    const uint64_t row_floats = (uint64_t)isa->pair * INGLE_TILE_ROWS;
    struct strip strip = {.isa = isa, .arg = arg, .scratch = scratch, .i = i};
    for (strip.row0 = 0; strip.row0 < arg->T; strip.row0 += strip.n_rows) {
        strip.n_rows = even_piece(arg->T - strip.row0, INGLE_MM_ROWS);
        for (strip.tile = from; strip.tile < to; strip.tile += isa->pair) {
            memset(scratch->acc, 0, strip.n_rows * row_floats * sizeof(float));
            if (arg->x->mode == INGLE_ACT_F32 || ingle_wtype_is_float(arg->w[i].type)) {
                strip_float(&strip);
            } else {
                strip_int(&strip);
            }
            for (uint32_t r = 0; r < strip.n_rows; r++) {
                for (uint32_t p = 0; p < isa->pair && strip.tile + p < to; p++) {
                    isa->store(arg, i, strip.tile + p, strip.row0 + r,
                               scratch->acc + r * row_floats + p * INGLE_TILE_ROWS);
                }
            }
        }
    }
}

static void tiles_few(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                      uint32_t i, uint64_t from, uint64_t to)
{
    const struct ingle_matrix *w = &arg->w[i];
    const bool two = arg->x->mode == INGLE_ACT_INT16;
    struct ingle_mm_few few = {.arg = arg, .shape = ingle_tile_shape(w->type, w->cols), .i = i};
    const uint64_t block_bytes = (few.shape.bytes / few.shape.blocks + 63) / 64 * 64;
    for (few.n_tile = from; few.n_tile < to; few.n_tile++) {
        few.tile = w->data + few.n_tile * few.shape.bytes;
        few.next = few.tile + (few.n_tile + 1 < to ? few.shape.bytes : 0);
        few.ahead = block_bytes;
        for (uint32_t rows; few.row0 < arg->T; few.row0 += rows) {
            rows = even_piece(arg->T - few.row0, isa->few);
            isa->few_fn(w->type, two, rows)(&few);
            few.ahead = 0;
        }
        few.row0 = 0;
    }
}

void ingle_mm_run(const struct ingle_mm_isa *isa, const struct ingle_op *op,
                  const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    const uint64_t pair = isa->pair;
    uint64_t total = 0, before = 0;
    if (arg->T == 0) {
        return;
    }
    /* Shares begin at whole strips. */
    for (uint32_t i = 0; i < arg->n_w; i++) {
        assert(arg->w[i].cols == arg->x->cols);
        total += (ingle_tiles(arg->w[i].rows) + pair - 1) / pair;
    }
    struct ingle_share share = ingle_share(total, worker);
    for (uint32_t i = 0; i < arg->n_w; i++) {
        const struct ingle_matrix *w = &arg->w[i];
        uint64_t tiles = ingle_tiles(w->rows), strips = (tiles + pair - 1) / pair;
        uint64_t from = share.from > before ? share.from - before : 0;
        uint64_t to = share.to > before ? share.to - before : 0;
        from = (from < strips ? from : strips) * pair;
        to = (to < strips ? to : strips) * pair;
        to = to < tiles ? to : tiles;
        before += strips;
        if (from >= to) {
            continue;
        }
        if (arg->T <= isa->few_max && arg->x->mode != INGLE_ACT_F32 &&
            !ingle_wtype_is_float(w->type)) {
            tiles_few(isa, arg, i, from, to);
        } else {
            tiles_many(isa, arg, i, from, to, (struct scratch *)(void *)worker->scratch);
        }
    }
}
