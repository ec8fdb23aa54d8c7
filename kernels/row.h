/* Rows of floats: f16 conversion and extremes, n a multiple of 8. Compiled by each instruction
 * set's library for itself: intrinsics where it has AVX2 and F16C, plain C elsewhere; the results
 * agree for everything that is not a NaN. */
#ifndef INGLE_KERNELS_ROW_H
#define INGLE_KERNELS_ROW_H
#include <stdint.h>

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>

static inline void ingle_f32_row_of_f16(const uint16_t *h, uint32_t n, float *ret_x)
{
    for (uint32_t i = 0; i < n; i += 8) {
        _mm256_storeu_ps(ret_x + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + i))));
    }
}

static inline void ingle_f16_row_of_f32(const float *x, uint32_t n, uint16_t *ret_h)
{
    for (uint32_t i = 0; i < n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(ret_h + i), h);
    }
}

static inline void ingle_row_extremes(const float *x, uint32_t n, float *ret_min, float *ret_max)
{
    __m256 min = _mm256_loadu_ps(x), max = min;
    __m128 low, high;
    for (uint32_t i = 8; i < n; i += 8) {
        min = _mm256_min_ps(min, _mm256_loadu_ps(x + i));
        max = _mm256_max_ps(max, _mm256_loadu_ps(x + i));
    }
    low = _mm_min_ps(_mm256_castps256_ps128(min), _mm256_extractf128_ps(min, 1));
    high = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
    low = _mm_min_ps(low, _mm_movehl_ps(low, low));
    high = _mm_max_ps(high, _mm_movehl_ps(high, high));
    *ret_min = _mm_cvtss_f32(_mm_min_ss(low, _mm_movehdup_ps(low)));
    *ret_max = _mm_cvtss_f32(_mm_max_ss(high, _mm_movehdup_ps(high)));
}

#else
#include "kernels/half.h"

static inline void ingle_f32_row_of_f16(const uint16_t *h, uint32_t n, float *ret_x)
{
    for (uint32_t i = 0; i < n; i++) {
        ret_x[i] = ingle_f32_of_f16(h[i]);
    }
}

static inline void ingle_f16_row_of_f32(const float *x, uint32_t n, uint16_t *ret_h)
{
    for (uint32_t i = 0; i < n; i++) {
        ret_h[i] = ingle_f16_of_f32(x[i]);
    }
}

static inline void ingle_row_extremes(const float *x, uint32_t n, float *ret_min, float *ret_max)
{
    *ret_min = *ret_max = x[0];
    for (uint32_t i = 1; i < n; i++) {
        *ret_min = x[i] < *ret_min ? x[i] : *ret_min;
        *ret_max = x[i] > *ret_max ? x[i] : *ret_max;
    }
}

#endif
#endif
