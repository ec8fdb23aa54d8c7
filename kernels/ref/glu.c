/* act(f(gate) * up), the end of the product with the gate and up matrices.
 *
 *   silu(g)      = g / (1 + exp(-g))
 *   gelu_tanh(g) = 0.5 g (1 + tanh(u)) = g / (1 + exp(-2 u)),  2 u = (A + B g^2) g,
 *                  A = 2 sqrt(2 / pi), B = 0.044715 A, in the order t = fmaf(B, g * g, A)
 *
 * with ingle_expf. */
#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/ref/act_put.h"
#include "kernels/ref/expf.h"

#define INGLE_GELU_A 1.5957691216057308f
#define INGLE_GELU_B 0.07135481627260025f

/* Rows at a time: their codes are made together, or one row's chain of dependent steps beside the
 * next one's. */
#define BLOCK INGLE_ACT_TOGETHER

/* 16 values; `kind` is a constant at each call, the loop is straight code. */
static inline void glu_tile(enum ingle_glu kind, const float *gate, const float *up, float *x)
{
    for (uint32_t k = 0; k < INGLE_TILE_ROWS; k++) {
        float u = gate[k];
        if (kind == INGLE_GLU_GELU_TANH) {
            u = fmaf(INGLE_GELU_B, u * u, INGLE_GELU_A) * u;
        }
        x[k] = gate[k] / (1.0f + ingle_expf(-u)) * up[k];
    }
}

/* Where the next block's codes go: a group is no whole line, and what the group beside it left of
 * the line has gone to a slower cache since. */
static void prefetch_codes(const struct ingle_glu_rows *rows, uint64_t r0)
{
    uint64_t bytes = ingle_act_group_bytes(rows->out->mode);
    uint8_t *at = rows->out->rows + (rows->row + r0) * rows->out->row_stride + rows->group * bytes;
    for (uint64_t r = r0; r < rows->n && r < r0 + BLOCK; r++, at += rows->out->row_stride) {
        __builtin_prefetch(at, 1);
        __builtin_prefetch(at + bytes - 1, 1);
    }
}

void INGLE_VARIANT(glu_put)(const struct ingle_glu_rows *rows)
{
    float x[BLOCK][INGLE_ACT_GROUP];
    for (uint64_t r0 = 0; r0 < rows->n; r0 += BLOCK) {
        uint64_t n = rows->n - r0 < BLOCK ? rows->n - r0 : BLOCK;
        prefetch_codes(rows, r0 + BLOCK);
        for (uint64_t i = 0; i < 2 * n; i++) {
            uint64_t at = (r0 + i / 2) * rows->stride;
            const float *gate = rows->gate[i % 2] + at, *up = rows->up[i % 2] + at;
            if (rows->kind == INGLE_GLU_SILU) {
                glu_tile(INGLE_GLU_SILU, gate, up, x[i / 2] + i % 2 * INGLE_TILE_ROWS);
            } else {
                glu_tile(INGLE_GLU_GELU_TANH, gate, up, x[i / 2] + i % 2 * INGLE_TILE_ROWS);
            }
        }
        ingle_act_put_many(rows->out, rows->row + r0, rows->group, true, x[0], (uint32_t)n);
    }
}
