/* y[t][n] = sum over k of w[n][k] x[t][k] (+ bias[n]): the definition that every variant
 * reproduces bit for bit. With quantised weights, per block of 32 columns in ascending order, I the
 * exact integer sum of (code - zero) * q over the block (I0, I1 over its halves), Q the sum of q, s
 * the activations' scale:
 *
 *   one scale         acc = fmaf((float)I, s d, acc)
 *   and a minimum     acc = fmaf((float)Q, s m, acc)
 *   two halves        acc = fmaf((float)I0, s d0, acc);  acc = fmaf((float)I1, s d1, acc)
 *   and minima        acc = fmaf((float)Q0, s m0, acc);  acc = fmaf((float)Q1, s m1, acc)
 *
 * d and m are the block's scales multiplied out in f32, which is exact, and so are their products
 * with s (act.h) and s Q. In INT16 mode q is 128 hi + lo; I fits 32 bits: 32 * 128 * 16383 < 2^27.
 *
 * With F32 activations or float weights: acc = acc + w * x for every column in ascending order,
 * product and sum rounded apart (so that plain C vectorises), w multiplied out, x = s * q where the
 * activations are integers. At last y = acc + bias.
 *
 * With BF16 activations and quantised weights: w = bf16(fmaf(128 + code, d, c)) with c = fmaf(-(128
 * + zero), d, m), because codes are made floats that way; per block of 32 columns even = fmaf(w, x,
 * even) over its even columns in ascending order and odd over the others, both from 0, then acc =
 * acc + (even + odd): what an AMX tile product does (TDPBF16PS, which takes subnormal numbers for
 * 0; there are none, for x is 0 or at least 2^-80, and w, a sum of whole 2^-24, 0 or at least
 * that).
 *
 * The tiles of all matrices, one after the other, are divided among the workers; with `out`, pairs
 * of tiles of both matrices. */
#include <math.h>

#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/ref/tile.h"
#include "kernels/work.h"

enum {
    TOKENS = 256 /* rows that share the taking apart of a block */
};

static const uint8_t *act_row(const struct ingle_act *x, uint32_t t)
{
    return x->rows + t * x->row_stride;
}

/* The 32 integers of a group, as 128 hi + lo in INT16 mode; returns the scale. */
static float group_codes(const struct ingle_act *x, uint32_t t, uint32_t b,
                         int32_t q[INGLE_ACT_GROUP])
{
    if (x->mode == INGLE_ACT_INT8) {
        const struct ingle_act8 *a = (const struct ingle_act8 *)(const void *)act_row(x, t) + b;
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            q[i] = a->q[i];
        }
        return a->tail.scale;
    }
    const struct ingle_act16 *a = (const struct ingle_act16 *)(const void *)act_row(x, t) + b;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        q[i] = 128 * a->hi[i] + a->lo[i];
    }
    return a->tail.scale;
}

/* n values of a group as f32. */
static const float *group_floats(const struct ingle_act *x, uint32_t t, uint32_t b,
                                 float buffer[INGLE_ACT_GROUP])
{
    int32_t q[INGLE_ACT_GROUP];
    if (x->mode == INGLE_ACT_F32) {
        return (const float *)(const void *)act_row(x, t) + b * INGLE_ACT_GROUP;
    }
    if (x->mode == INGLE_ACT_BF16) {
        const uint16_t *h = (const uint16_t *)(const void *)act_row(x, t) + b * INGLE_ACT_GROUP;
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            buffer[i] = ingle_f32_of_bf16(h[i]);
        }
        return buffer;
    }
    float scale = group_codes(x, t, b, q);
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        buffer[i] = scale * (float)q[i];
    }
    return buffer;
}

static void block_int(const struct ingle_tile_block *w, struct ingle_wform form, const int32_t *q,
                      float scale, float *acc)
{
    bool halves = form.scale == INGLE_WS_K16 || form.scale == INGLE_WS_K16M;
    int32_t I[2][INGLE_TILE_ROWS] = {0}, Q[2] = {0, 0};
    for (uint32_t k = 0; k < INGLE_BLOCK_COLS; k++) {
        for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
            I[k / 16][n] += w->w[k][n] * q[k];
        }
        Q[k / 16] += q[k];
    }
    for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
        float sum = acc[n];
        if (halves) {
            sum = fmaf((float)I[0][n], scale * w->d[0][n], sum);
            sum = fmaf((float)I[1][n], scale * w->d[1][n], sum);
            if (form.min) {
                sum = fmaf((float)Q[0], scale * w->m[0][n], sum);
                sum = fmaf((float)Q[1], scale * w->m[1][n], sum);
            }
        } else {
            sum = fmaf((float)(I[0][n] + I[1][n]), scale * w->d[0][n], sum);
            if (form.min) {
                sum = fmaf((float)(Q[0] + Q[1]), scale * w->m[0][n], sum);
            }
        }
        acc[n] = sum;
    }
}

/* Four floats that any compiler keeps in one register: the whole of the f32 mode's speed. */
typedef float four __attribute__((vector_size(16), may_alias));

static void columns_f32(const float (*w)[INGLE_TILE_ROWS], uint32_t n_cols, const float *x,
                        float *acc)
{
    four *out = (four *)(void *)acc;
    four a = out[0], b = out[1], c = out[2], d = out[3];
    for (uint32_t k = 0; k < n_cols; k++) {
        const four *column = (const four *)(const void *)w[k];
        a += column[0] * x[k];
        b += column[1] * x[k];
        c += column[2] * x[k];
        d += column[3] * x[k];
    }
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
}

static void columns_bf16(const float (*w)[INGLE_TILE_ROWS], const float *x, float *acc)
{
    for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
        float even = 0.0f, odd = 0.0f;
        for (uint32_t k = 0; k < INGLE_BLOCK_COLS; k += 2) {
            even = fmaf(w[k][n], x[k], even);
            odd = fmaf(w[k + 1][n], x[k + 1], odd);
        }
        acc[n] += even + odd;
    }
}

/* A block of codes multiplied out and rounded. */
static void block_bf16(const struct ingle_matrix *w, const uint8_t *tile,
                       struct ingle_tile_shape shape, uint32_t b, float (*out)[INGLE_TILE_ROWS])
{
    const float origin = 128.0f + (float)ingle_wform(w->type).zero;
    struct ingle_tile_block block;
    ingle_tile_block(w->type, tile, shape, b, &block);
    for (uint32_t k = 0; k < INGLE_BLOCK_COLS; k++) {
        for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
            float d = block.d[k / 16][n], rest = fmaf(-origin, d, block.m[k / 16][n]);
            float weight = fmaf(origin + (float)block.w[k][n], d, rest);
            out[k][n] = ingle_f32_of_bf16(ingle_bf16_of_f32(weight));
        }
    }
}

/* Columns [32 b, 32 b + n_cols) of a tile multiplied out. */
static void block_floats(const struct ingle_matrix *w, const uint8_t *tile,
                         struct ingle_tile_shape shape, uint32_t b, uint32_t n_cols,
                         float (*out)[INGLE_TILE_ROWS])
{
    struct ingle_wform form = ingle_wform(w->type);
    if (form.scale == INGLE_WS_FLOAT) {
        for (uint32_t k = 0; k < n_cols; k++) {
            for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
                out[k][n] = ingle_tile_float(w->type, tile, n, b * INGLE_BLOCK_COLS + k);
            }
        }
        return;
    }
    struct ingle_tile_block block;
    ingle_tile_block(w->type, tile, shape, b, &block);
    for (uint32_t k = 0; k < n_cols; k++) {
        for (uint32_t n = 0; n < INGLE_TILE_ROWS; n++) {
            float product = block.d[k / 16][n] * (float)block.w[k][n];
            out[k][n] = form.min ? product + block.m[k / 16][n] : product;
        }
    }
}

static void tile_rows(const struct ingle_act *x, const struct ingle_matrix *w, const uint8_t *tile,
                      uint32_t t0, uint32_t n_tokens, float (*acc)[INGLE_TILE_ROWS])
{
    struct ingle_tile_shape shape = ingle_tile_shape(w->type, w->cols);
    struct ingle_wform form = ingle_wform(w->type);
    bool codes = form.scale != INGLE_WS_FLOAT, bf16 = codes && x->mode == INGLE_ACT_BF16;
    bool integer = codes && !bf16 && x->mode != INGLE_ACT_F32;
    for (uint32_t b = 0; b < ingle_act_groups(w->cols); b++) {
        uint32_t n_cols = w->cols - b * INGLE_BLOCK_COLS;
        n_cols = n_cols < INGLE_BLOCK_COLS ? n_cols : INGLE_BLOCK_COLS;
        struct ingle_tile_block block;
        _Alignas(64) float floats[INGLE_BLOCK_COLS][INGLE_TILE_ROWS];
        if (integer) {
            ingle_tile_block(w->type, tile, shape, b, &block);
        } else if (bf16) {
            block_bf16(w, tile, shape, b, floats);
        } else {
            block_floats(w, tile, shape, b, n_cols, floats);
        }
        for (uint32_t t = 0; t < n_tokens; t++) {
            int32_t q[INGLE_ACT_GROUP];
            float buffer[INGLE_ACT_GROUP];
            if (integer) {
                float scale = group_codes(x, t0 + t, b, q);
                block_int(&block, form, q, scale, acc[t]);
            } else if (bf16) {
                columns_bf16(floats, group_floats(x, t0 + t, b, buffer), acc[t]);
            } else {
                columns_f32(floats, n_cols, group_floats(x, t0 + t, b, buffer), acc[t]);
            }
        }
    }
}

/* y of some rows and one tile; zeros for a tile behind the last. */
static void tile_y(const struct ingle_arg_matmul *arg, uint32_t i, uint64_t tile, uint32_t t0,
                   uint32_t n_tokens, float (*acc)[INGLE_TILE_ROWS])
{
    const struct ingle_matrix *w = &arg->w[i];
    uint64_t n0 = tile * INGLE_TILE_ROWS;
    memset(acc, 0, n_tokens * sizeof acc[0]);
    if (n0 >= w->rows) {
        return;
    }
    tile_rows(arg->x, w, ingle_tile_at(w, tile), t0, n_tokens, acc);
    for (uint32_t t = 0; arg->bias[i] && t < n_tokens; t++) {
        for (uint64_t n = 0; n < INGLE_TILE_ROWS && n0 + n < w->rows; n++) {
            acc[t][n] += arg->bias[i][n0 + n];
        }
    }
}

/* Rows [row0, row1) of a tile's columns. */
static void matmul_tile(const struct ingle_arg_matmul *arg, uint32_t i, uint64_t tile,
                        uint32_t row0, uint32_t row1)
{
    uint64_t n0 = tile * INGLE_TILE_ROWS, left = arg->w[i].rows - n0;
    uint64_t n = left < INGLE_TILE_ROWS ? left : INGLE_TILE_ROWS;
    for (uint32_t t0 = row0; t0 < row1; t0 += TOKENS) {
        uint32_t n_tokens = row1 - t0 < TOKENS ? row1 - t0 : TOKENS;
        _Alignas(64) float acc[TOKENS][INGLE_TILE_ROWS];
        tile_y(arg, i, tile, t0, n_tokens, acc);
        for (uint32_t t = 0; t < n_tokens; t++) {
            memcpy(arg->y[i] + (t0 + t) * arg->y_stride[i] + n0, acc[t], n * sizeof(float));
        }
    }
}

/* The same of columns [32 group, 32 group + 32) of gate and up, and of out. */
static void matmul_glu(const struct ingle_arg_matmul *arg, uint64_t group, uint32_t row0,
                       uint32_t row1)
{
    for (uint32_t t0 = row0; t0 < row1; t0 += TOKENS) {
        uint32_t n_tokens = row1 - t0 < TOKENS ? row1 - t0 : TOKENS;
        _Alignas(64) float acc[4][TOKENS][INGLE_TILE_ROWS]; /* gate, gate, up, up */
        for (uint32_t i = 0; i < 4; i++) {
            tile_y(arg, i / 2, 2 * group + i % 2, t0, n_tokens, acc[i]);
        }
        ingle_glu_put_ref(&(struct ingle_glu_rows){.out = arg->out,
                                                   .kind = arg->glu,
                                                   .row = t0,
                                                   .n = n_tokens,
                                                   .group = group,
                                                   .gate = {acc[0][0], acc[1][0]},
                                                   .up = {acc[2][0], acc[3][0]},
                                                   .stride = INGLE_TILE_ROWS});
    }
}

void ingle_matmul_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    for (uint32_t i = 0; i < arg->n_w; i++) {
        assert(arg->w[i].cols == arg->x->cols);
    }
    if (arg->out) {
        assert(arg->n_w == 2 && arg->w[0].rows == arg->out->cols &&
               arg->w[1].rows == arg->out->cols && !arg->bias[0] && !arg->bias[1]);
    }
    for (uint32_t i = 0; i < arg->n_w; i++) {
        struct ingle_part parts[INGLE_PARTS_MAX];
        uint32_t n = ingle_parts(op, i, worker, parts);
        for (uint32_t p = 0; p < n; p++) {
            for (uint64_t at = parts[p].from; at < parts[p].to; at++) {
                if (arg->out) {
                    matmul_glu(arg, at, parts[p].row0, parts[p].row1);
                } else {
                    matmul_tile(arg, i, at, parts[p].row0, parts[p].row1);
                }
            }
        }
    }
}
