/* The definition of a rotation. The cosine and sine of position p are the complex product
 * lo[p % 256] * hi[p / 256], each part one multiplication and one fused multiply-add in the order
 * below; the pair (i, i + n_rot/2) of a head is then multiplied by it in the same order. hi[0] is
 * (1, 0), so positions below 256 have exactly the angles of lo. Any thread. */
#include "kernels/ref/rope.h"

#include <assert.h>
#include <math.h>

void ingle_rope_rotate_ref(const struct ingle_rope *rope, uint32_t position, float *x)
{
    uint32_t half;
    const float *lo, *hi;

    if (rope == NULL) {
        return;
    }
    assert(position / 256 < rope->n_hi);
    half = rope->n_rot / 2;
    lo = rope->lo + (uint64_t)(position % 256) * rope->n_rot;
    hi = rope->hi + (uint64_t)(position / 256) * rope->n_rot;
    for (uint32_t i = 0; i < half; i++) {
        float lo_cos = lo[2 * i], lo_sin = lo[2 * i + 1];
        float hi_cos = hi[2 * i], hi_sin = hi[2 * i + 1];
        float c = fmaf(lo_cos, hi_cos, -(lo_sin * hi_sin));
        float s = fmaf(lo_cos, hi_sin, lo_sin * hi_cos);
        float a = x[i], b = x[i + half];
        x[i] = fmaf(a, c, -(b * s));
        x[i + half] = fmaf(a, s, b * c);
    }
}
