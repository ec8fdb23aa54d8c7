/* Arg-max, maximum and log-sum-exp of a row of logits.
 *
 *   max        NaN never wins; all NaN: -Inf
 *   argmax     the lowest index that holds the maximum; all NaN: 0
 *   logsumexp  max + logf(sum of ingle_expf(x[k] - max), in the lanes of lanes.h); NaN if any logit
 *              is NaN
 *
 * n >= 1. */
#include <assert.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/ref/lanes.h"

static float row_max(const float *x, uint32_t n, bool *ret_nan)
{
    float lane[INGLE_LANES];
    uint32_t odd[INGLE_LANES] = {0}, k = 0;
    for (uint32_t j = 0; j < INGLE_LANES; j++) {
        lane[j] = -INFINITY;
    }
    for (; k + INGLE_LANES <= n; k += INGLE_LANES) {
        for (uint32_t j = 0; j < INGLE_LANES; j++) {
            float v = x[k + j];
            lane[j] = v > lane[j] ? v : lane[j];
            odd[j] |= v != v;
        }
    }
    for (; k < n; k++) {
        lane[0] = x[k] > lane[0] ? x[k] : lane[0];
        odd[0] |= x[k] != x[k];
    }
    for (uint32_t j = 1; j < INGLE_LANES; j++) {
        lane[0] = lane[j] > lane[0] ? lane[j] : lane[0];
        odd[0] |= odd[j];
    }
    *ret_nan = odd[0] != 0;
    return lane[0];
}

static uint32_t first_equal(const float *x, uint32_t n, float value)
{
    enum {
        STEP = 64
    };
    uint32_t k = 0;
    for (; k + STEP <= n; k += STEP) {
        uint32_t equal = 0;
        for (uint32_t j = 0; j < STEP; j++) {
            equal |= x[k + j] == value;
        }
        if (equal) {
            break;
        }
    }
    for (; k < n; k++) {
        if (x[k] == value) {
            return k;
        }
    }
    return 0;
}

struct ingle_row_stat INGLE_VARIANT(row_stat)(const float *x, uint32_t n)
{
    struct ingle_row_stat stat;
    float lane[INGLE_LANES] = {0};
    uint32_t k = 0;
    bool nan;
    assert(n > 0);
    stat.max = row_max(x, n, &nan);
    stat.argmax = (int32_t)first_equal(x, n, stat.max);
    for (; k + INGLE_LANES <= n; k += INGLE_LANES) {
        for (uint32_t j = 0; j < INGLE_LANES; j++) {
            lane[j] += ingle_expf(x[k + j] - stat.max);
        }
    }
    for (; k < n; k++) {
        lane[k % INGLE_LANES] += ingle_expf(x[k] - stat.max);
    }
    stat.logsumexp = nan ? NAN : stat.max + logf(ingle_lanes_tree(lane));
    return stat;
}
