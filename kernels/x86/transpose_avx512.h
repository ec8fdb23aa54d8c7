/* Sixteen registers of sixteen lanes to one. */
#ifndef INGLE_KERNELS_X86_TRANSPOSE_AVX512_H
#define INGLE_KERNELS_X86_TRANSPOSE_AVX512_H
#include <immintrin.h>

/* Defines name(x): lane j of the result is made of the lanes of x[j], combined in the order of
 * ref/lanes.h: i with i + 8, 4, 2, 1. Sixteen registers take as many steps as one. */
#define INGLE_TRANSPOSED(name, COMBINE)                                                            \
    static inline __attribute__((always_inline)) __m512 name(const __m512 x[16])                   \
    {                                                                                              \
        __m512 quad[4], pair[2];                                                                   \
        for (int s = 0; s < 4; s++) {                                                              \
            __m512 t = COMBINE(_mm512_shuffle_f32x4(x[s], x[4 + s], 0x44),                         \
                               _mm512_shuffle_f32x4(x[s], x[4 + s], 0xee));                        \
            __m512 u = COMBINE(_mm512_shuffle_f32x4(x[8 + s], x[12 + s], 0x44),                    \
                               _mm512_shuffle_f32x4(x[8 + s], x[12 + s], 0xee));                   \
            quad[s] = COMBINE(_mm512_shuffle_f32x4(t, u, 0x88), _mm512_shuffle_f32x4(t, u, 0xdd)); \
        }                                                                                          \
        for (int s = 0; s < 2; s++) {                                                              \
            pair[s] = COMBINE(_mm512_shuffle_ps(quad[2 * s], quad[2 * s + 1], 0x44),               \
                              _mm512_shuffle_ps(quad[2 * s], quad[2 * s + 1], 0xee));              \
        }                                                                                          \
        return COMBINE(_mm512_shuffle_ps(pair[0], pair[1], 0x88),                                  \
                       _mm512_shuffle_ps(pair[0], pair[1], 0xdd));                                 \
    }

#endif
