/* The one order in which a kernel adds floats: sixteen partial sums, lane i taking the elements
 * i, i + 16, i + 32 ..., then a tree that halves the lanes (i with i + 8, 4, 2, 1). It is what one
 * 512-bit or two 256-bit registers do without a shuffle per element. */
#ifndef INGLE_KERNELS_REF_LANES_H
#define INGLE_KERNELS_REF_LANES_H
#include <math.h>
#include <stdint.h>

#define INGLE_LANES 16u

static inline float ingle_lanes_tree(float lane[INGLE_LANES])
{
    for (uint32_t width = INGLE_LANES / 2; width > 0; width /= 2) {
        for (uint32_t i = 0; i < width; i++) {
            lane[i] += lane[i + width];
        }
    }
    return lane[0];
}

/* sum a[i] * b[i] */
static inline float ingle_lanes_dot(const float *a, const float *b, uint32_t n)
{
    float lane[INGLE_LANES] = {0};
    uint32_t i = 0;
    for (; i + INGLE_LANES <= n; i += INGLE_LANES) {
        for (uint32_t j = 0; j < INGLE_LANES; j++) {
            lane[j] = fmaf(a[i + j], b[i + j], lane[j]);
        }
    }
    for (; i < n; i++) {
        lane[i % INGLE_LANES] = fmaf(a[i], b[i], lane[i % INGLE_LANES]);
    }
    return ingle_lanes_tree(lane);
}

/* 1 / sqrt(mean of x[i]^2 + eps): the scale of an RMS normalisation. */
static inline float ingle_lanes_inverse_rms(const float *x, uint32_t n, float eps)
{
    return 1.0f / sqrtf(ingle_lanes_dot(x, x, n) / (float)n + eps);
}

#endif
