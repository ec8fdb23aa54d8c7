/* What the sampler wants to know of a row of logits, or of a part of one.
 *
 *   peak       the largest of each INGLE_PEAK_COLS in turn; NaN never wins, nothing but NaN: -Inf
 *   max        the largest of these
 *   argmax     the lowest index that holds the maximum; nothing but NaN: 0
 *   logsumexp  max + logf(sum of ingle_expf(x[k] - max), in the lanes of lanes.h); NaN if any logit
 *              is NaN; -Inf if all are
 *   weight     sum of ingle_expf((x[k] - max) * inverse_temperature), in the same lanes; 0 if
 *              inverse_temperature is 0 or max is -Inf
 *
 * n >= 1. Loops over whole blocks take a pointer to theirs: an index of 32 bits that may wrap keeps
 * gcc 12 from making vectors of them. */
#include <assert.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/ref/lanes.h"

enum {
    BLOCK = INGLE_PEAK_COLS
};

static inline float larger(float x, float unless)
{
    return x > unless ? x : unless;
}

static inline float block_max(const float *x)
{
    float most[INGLE_LANES];
    for (uint32_t j = 0; j < INGLE_LANES; j++) {
        float v = larger(x[j], -INFINITY);
        v = larger(x[INGLE_LANES + j], v);
        v = larger(x[2 * INGLE_LANES + j], v);
        most[j] = larger(x[3 * INGLE_LANES + j], v);
    }
    for (uint32_t width = INGLE_LANES / 2; width > 0; width /= 2) {
        for (uint32_t j = 0; j < width; j++) {
            most[j] = larger(most[j + width], most[j]);
        }
    }
    return most[0];
}

static inline bool block_nan(const float *x)
{
    uint32_t odd = 0;
    for (uint32_t j = 0; j < BLOCK; j++) {
        odd |= x[j] != x[j];
    }
    return odd != 0;
}

/* Where the maximum stands, which is in the block at *ret_from or behind it. */
static float row_max(const float *x, uint32_t n, float *peak, uint32_t *ret_from, bool *ret_nan)
{
    float max = -INFINITY;
    bool nan = false;
    *ret_from = 0;
    for (uint32_t k = 0; k < n; k += BLOCK) {
        float most = -INFINITY;
        if (n - k >= BLOCK) {
            most = block_max(x + k);
            nan |= block_nan(x + k);
        } else {
            for (uint32_t j = k; j < n; j++) {
                most = larger(x[j], most);
                nan |= x[j] != x[j];
            }
        }
        if (peak) {
            peak[k / BLOCK] = most;
        }
        if (most > max) {
            max = most;
            *ret_from = k;
        }
    }
    *ret_nan = nan;
    return max;
}

static uint32_t first_equal(const float *x, uint32_t from, uint32_t n, float value)
{
    for (uint32_t k = from; k < n; k++) {
        if (x[k] == value) {
            return k;
        }
    }
    return 0;
}

static inline void add_weights(const float *x, float max, float inverse_temperature, float *lane)
{
    float w[BLOCK];
    for (uint32_t j = 0; j < BLOCK; j++) {
        w[j] = ingle_expf((x[j] - max) * inverse_temperature);
    }
    for (uint32_t i = 0; i < BLOCK; i += INGLE_LANES) {
        for (uint32_t j = 0; j < INGLE_LANES; j++) {
            lane[j] += w[i + j];
        }
    }
}

static float weigh(const float *x, uint32_t n, float max, float inverse_temperature)
{
    float lane[INGLE_LANES] = {0};
    uint32_t k = 0;
    for (; k + BLOCK <= n; k += BLOCK) {
        add_weights(x + k, max, inverse_temperature, lane);
    }
    for (; k < n; k++) {
        lane[k % INGLE_LANES] += ingle_expf((x[k] - max) * inverse_temperature);
    }
    return ingle_lanes_tree(lane);
}

struct ingle_row_stat INGLE_VARIANT(row_stat)(const float *x, uint32_t n, float inverse_temperature,
                                              float *peak)
{
    struct ingle_row_stat stat = {.logsumexp = -INFINITY};
    uint32_t from;
    bool nan;
    assert(n > 0);
    stat.max = row_max(x, n, peak, &from, &nan);
    stat.argmax = (int32_t)first_equal(x, from, n, stat.max);
    if (stat.max > -INFINITY) {
        float sum = weigh(x, n, stat.max, 1.0f);
        stat.logsumexp = stat.max + logf(sum);
        if (inverse_temperature == 1.0f) {
            stat.weight = sum;
        } else if (inverse_temperature > 0.0f) {
            stat.weight = weigh(x, n, stat.max, inverse_temperature);
        }
    }
    if (nan) {
        stat.logsumexp = NAN;
    }
    return stat;
}
