/* Owns nothing. Fills rope tables: angles and their sines in double, stored as f32, so that the
 * error of a table does not grow with the position. Thread: any. */
#include <math.h>

#include "runtime/model/arch.h"

#define STEP 256u /* positions in lo; one entry of hi */

static uint32_t n_hi_of(const struct ingle_hparams *hp)
{
    return (hp->context_tokens + STEP - 1) / STEP;
}

uint64_t ingle_rope_floats(const struct ingle_hparams *hp)
{
    return ((uint64_t)STEP + n_hi_of(hp)) * hp->n_rot;
}

void ingle_rope_fill(const struct ingle_hparams *hp, uint32_t which, const float *factors,
                     float *floats, struct ingle_rope *ret)
{
    uint32_t pairs = hp->n_rot / 2, n_hi = n_hi_of(hp);
    float *lo = floats, *hi = floats + (uint64_t)STEP * hp->n_rot;

    for (uint32_t i = 0; i < pairs; i++) {
        double theta = pow(hp->rope_base[which], -2.0 * i / hp->n_rot) / hp->rope_slow[which];

        if (factors != NULL) {
            theta /= (double)factors[i];
        }
        for (uint32_t p = 0; p < STEP; p++) {
            lo[2 * ((uint64_t)p * pairs + i)] = (float)cos(theta * p);
            lo[2 * ((uint64_t)p * pairs + i) + 1] = (float)sin(theta * p);
        }
        for (uint32_t p = 0; p < n_hi; p++) {
            hi[2 * ((uint64_t)p * pairs + i)] = (float)cos(theta * STEP * p);
            hi[2 * ((uint64_t)p * pairs + i) + 1] = (float)sin(theta * STEP * p);
        }
    }
    *ret = (struct ingle_rope){.n_rot = hp->n_rot, .n_hi = n_hi, .lo = lo, .hi = hi};
}
