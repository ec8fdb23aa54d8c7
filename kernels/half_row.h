/* Rows of f16, n a multiple of 8. Compiled by each instruction set's library for itself: vcvtph2ps
 * where it has F16C, half.h elsewhere; the results agree for everything that is not a NaN. */
#ifndef INGLE_KERNELS_HALF_ROW_H
#define INGLE_KERNELS_HALF_ROW_H
#include <stdint.h>

#ifdef __F16C__
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

#endif
#endif
