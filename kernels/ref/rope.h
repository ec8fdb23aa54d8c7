/* The definition of a rotation, for every variant: plain loops that each instruction set's library
 * compiles for itself.
 *
 * The cosine and sine of position p are the complex product lo[p % 256] * hi[p / 256], each part
 * one multiplication and one fused multiply-add in the order below; the pair (i, i + n_rot/2) of a
 * head is then multiplied by it in the same order. hi[0] is (1, 0), so positions below 256 have
 * exactly the angles of lo. */
#ifndef INGLE_KERNELS_REF_ROPE_H
#define INGLE_KERNELS_REF_ROPE_H
#include <assert.h>
#include <math.h>

#include "kernels/kernels.h"

/* The angles of one position, for all heads of a row. */
struct ingle_rope_turn {
    uint32_t half; /* pairs; 0 without rotation */
    float cos[INGLE_HEAD_DIM_MAX / 2], sin[INGLE_HEAD_DIM_MAX / 2];
};

/* NULL rope: no rotation. */
static inline void ingle_rope_turn_at(const struct ingle_rope *rope, uint32_t position,
                                      struct ingle_rope_turn *ret_turn)
{
    const float *lo, *hi;

    ret_turn->half = 0;
    if (rope == NULL) {
        return;
    }
    assert(position / 256 < rope->n_hi && rope->n_rot <= INGLE_HEAD_DIM_MAX);
    ret_turn->half = rope->n_rot / 2;
    lo = rope->lo + (uint64_t)(position % 256) * rope->n_rot;
    hi = rope->hi + (uint64_t)(position / 256) * rope->n_rot;
    for (uint32_t i = 0; i < ret_turn->half; i++) {
        float lo_cos = lo[2 * i], lo_sin = lo[2 * i + 1];
        float hi_cos = hi[2 * i], hi_sin = hi[2 * i + 1];
        ret_turn->cos[i] = fmaf(lo_cos, hi_cos, -(lo_sin * hi_sin));
        ret_turn->sin[i] = fmaf(lo_cos, hi_sin, lo_sin * hi_cos);
    }
}

/* Rotate one head in place. */
static inline void ingle_rope_apply(const struct ingle_rope_turn *turn, float *restrict x)
{
    float *restrict y = x + turn->half;
    for (uint32_t i = 0; i < turn->half; i++) {
        float a = x[i], b = y[i]; /* NOLINT(clang-analyzer-core.uninitialized.Assign) */
        x[i] = fmaf(a, turn->cos[i], -(b * turn->sin[i]));
        y[i] = fmaf(a, turn->sin[i], b * turn->cos[i]);
    }
}

#endif
