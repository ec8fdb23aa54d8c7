/* Arg-max, maximum and log-sum-exp of a row of logits: one pass for the maximum (lowest index on a
 * tie, NaN never wins; all NaN: index 0, maximum -Inf), one for the sum: lane j = 0..15 adds
 * ingle_expf(x[k] - max) for k = j, j + 16, .., then the lanes are added l + 8, l + 4, l + 2, l
 * + 1. logsumexp = max + logf(sum). A NaN anywhere makes it NaN. n >= 1. */
#include <assert.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"

enum {
    LANES = 16
};

struct ingle_row_stat ingle_row_stat_ref(const float *x, uint32_t n)
{
    struct ingle_row_stat stat = {.argmax = 0, .max = -INFINITY};
    bool nan = false;
    assert(n > 0);
    for (uint32_t k = 0; k < n; k++) {
        nan |= x[k] != x[k];
        if (x[k] > stat.max) {
            stat.max = x[k];
            stat.argmax = (int32_t)k;
        }
    }
    float lane[LANES] = {0};
    for (uint32_t k = 0; k < n; k++) {
        lane[k % LANES] += ingle_expf(x[k] - stat.max);
    }
    for (uint32_t step = LANES / 2; step > 0; step /= 2) {
        for (uint32_t j = 0; j < step; j++) {
            lane[j] += lane[j + step];
        }
    }
    stat.logsumexp = nan ? NAN : stat.max + logf(lane[0]);
    return stat;
}
