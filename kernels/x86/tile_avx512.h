/* One block (32 columns x 16 rows) of a packed tile in AVX-512 registers: the codes as eight
 * vectors of 16 rows x 4 columns, the scales multiplied out. `type` is a constant wherever these
 * are called, so each call is the straight code of one type. */
#ifndef INGLE_KERNELS_X86_TILE_AVX512_H
#define INGLE_KERNELS_X86_TILE_AVX512_H
#include <immintrin.h>

#include "kernels/x86/matmul.h"

/* x shifted so that bit `from` lands on bit `to` of each byte; neighbours' bits come along. */
INGLE_INLINE __m512i shift_bit_avx512(__m512i x, int from, int to)
{
    return to >= from ? _mm512_slli_epi16(x, (unsigned)(to - from))
                      : _mm512_srli_epi16(x, (unsigned)(from - to));
}

/* Unsigned codes: w[s] holds columns 4 s .. 4 s + 3. */
INGLE_INLINE void tile_codes_avx512(enum ingle_wtype type, const uint8_t *tile,
                                    const struct ingle_tile_shape *shape, uint32_t b, __m512i w[8])
{
    const struct ingle_wform form = ingle_wform(type);
    const int low = form.low_bits, high = form.high_bits;
    const __m512i low_mask = _mm512_set1_epi8((char)((1 << low) - 1));
    const __m512i high_mask = _mm512_set1_epi8((char)(((1 << high) - 1) << low));
    const uint8_t *lows = tile + 64 * (uint64_t)low * b;
    const uint8_t *highs = tile + shape->high + 64 * (uint64_t)high * b;
    __m512i line[8], high_line[2];
#pragma GCC unroll 8
    for (int i = 0; i < low; i++) {
        line[i] = _mm512_loadu_si512(lows + 64 * i);
    }
#pragma GCC unroll 2
    for (int i = 0; i < high; i++) {
        high_line[i] = _mm512_loadu_si512(highs + 64 * i);
    }
#pragma GCC unroll 8
    for (int s = 0; s < 8; s++) {
        __m512i code = line[s % low];
        if (low < 8) {
            code = _mm512_and_si512(shift_bit_avx512(code, low * (s / low), 0), low_mask);
        }
        if (high) {
            __m512i bits = shift_bit_avx512(high_line[s % high], high * (s / high), low);
            /* code | (bits & high_mask) */
            code = _mm512_ternarylogic_epi32(code, bits, high_mask, 0xf8);
        }
        if (type == INGLE_W_IQ4_NL) {
            static const uint8_t table[16] = INGLE_IQ4_NL_TABLE;
            code = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(
                                           _mm_loadu_si128((const __m128i *)(const void *)table)),
                                       code);
        }
        w[s] = code;
    }
}

INGLE_INLINE __m512 tile_f16_avx512(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

/* 16 unsigned bytes, masked, as f32. */
INGLE_INLINE __m512 tile_bytes_avx512(__m128i bytes)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

/* d and m for each half; types with one scale a block set the first only. */
INGLE_INLINE void tile_scales_avx512(enum ingle_wtype type, const uint8_t *tile,
                                     const struct ingle_tile_shape *shape, uint32_t b, __m512 d[2],
                                     __m512 m[2])
{
    const struct ingle_wform form = ingle_wform(type);
    const uint64_t group = form.scale == INGLE_WS_BLOCK ? b : b / 8;
    const __m128i *sub = (const __m128i *)(const void *)(tile + shape->sub + 32 * (uint64_t)b);
    const __m128i nibble = _mm_set1_epi8(15);
    __m512 scale = tile_f16_avx512(tile + shape->d + 32 * group);
    __m512 min = form.min ? tile_f16_avx512(tile + shape->m + 32 * group) : _mm512_setzero_ps();
    d[0] = scale;
    m[0] = min;
    if (form.scale == INGLE_WS_BLOCK) {
        return;
    }
    __m128i sub0 = _mm_loadu_si128(sub), sub1 = _mm_loadu_si128(sub + 1);
    /* -(m * sub) is (-m) * sub, signs of zeros included. */
    __m512 minus = _mm512_xor_ps(min, _mm512_set1_ps(-0.0f));
    if (form.scale == INGLE_WS_K) {
        d[0] = _mm512_mul_ps(scale, tile_bytes_avx512(sub0));
        m[0] = _mm512_mul_ps(minus, tile_bytes_avx512(sub1));
    } else if (form.scale == INGLE_WS_K16) {
        d[0] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sub0)));
        d[1] = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sub1)));
    } else {
        d[0] = _mm512_mul_ps(scale, tile_bytes_avx512(_mm_and_si128(sub0, nibble)));
        d[1] = _mm512_mul_ps(scale, tile_bytes_avx512(_mm_and_si128(sub1, nibble)));
        sub0 = _mm_and_si128(_mm_srli_epi16(sub0, 4), nibble);
        sub1 = _mm_and_si128(_mm_srli_epi16(sub1, 4), nibble);
        m[0] = _mm512_mul_ps(minus, tile_bytes_avx512(sub0));
        m[1] = _mm512_mul_ps(minus, tile_bytes_avx512(sub1));
    }
}

/* Column c of a tile of floats, as f32. */
INGLE_INLINE __m512 tile_float_avx512(enum ingle_wtype type, const uint8_t *tile, uint64_t c)
{
    if (type == INGLE_W_F32) {
        return _mm512_loadu_ps(tile + 64 * c);
    }
    if (type == INGLE_W_F16) {
        return tile_f16_avx512(tile + 32 * c);
    }
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)(tile + 32 * c));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

#endif
