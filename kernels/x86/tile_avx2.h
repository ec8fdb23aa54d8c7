/* Half of a block (32 columns x 8 rows) of a packed tile in AVX2 registers: the codes as eight
 * vectors of 8 rows x 4 columns, the scales multiplied out. `half` 0 is rows 0..7 of the tile.
 * `type` is a constant wherever these are called. */
#ifndef INGLE_KERNELS_X86_TILE_AVX2_H
#define INGLE_KERNELS_X86_TILE_AVX2_H
#include <immintrin.h>

#include "kernels/x86/matmul.h"

INGLE_INLINE __m256i tile_line_avx2(const uint8_t *at)
{
    return _mm256_load_si256((const __m256i *)(const void *)at);
}

/* x shifted so that bit `from` lands on bit `to` of each byte; neighbours' bits come along. */
INGLE_INLINE __m256i shift_bit_avx2(__m256i x, int from, int to)
{
    return to >= from ? _mm256_slli_epi16(x, to - from) : _mm256_srli_epi16(x, from - to);
}

/* Unsigned codes of columns 4 s .. 4 s + 3. */
INGLE_INLINE __m256i tile_codes_avx2(enum ingle_wtype type, const uint8_t *tile,
                                     const struct ingle_tile_shape *shape, uint32_t b, int half,
                                     int s)
{
    const struct ingle_wform form = ingle_wform(type);
    const int low = form.low_bits, high = form.high_bits;
    const uint8_t *lows = tile + 64 * ((uint64_t)low * b + (uint64_t)(s % low)) + 32 * half;
    __m256i code = tile_line_avx2(lows);
    if (low < 8) {
        __m256i mask = _mm256_set1_epi8((char)((1 << low) - 1));
        code = _mm256_and_si256(shift_bit_avx2(code, low * (s / low), 0), mask);
    }
    if (high) {
        const uint8_t *highs =
            tile + shape->high + 64 * ((uint64_t)high * b + (uint64_t)(s % high)) + 32 * half;
        __m256i mask = _mm256_set1_epi8((char)(((1 << high) - 1) << low));
        __m256i bits = shift_bit_avx2(tile_line_avx2(highs), high * (s / high), low);
        code = _mm256_or_si256(code, _mm256_and_si256(bits, mask));
    }
    if (type == INGLE_W_IQ4_NL) {
        static const uint8_t table[16] = INGLE_IQ4_NL_TABLE;
        __m128i values = _mm_loadu_si128((const __m128i *)(const void *)table);
        code = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), code);
    }
    return code;
}

INGLE_INLINE __m256 tile_f16_avx2(const uint8_t *at)
{
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)at));
}

/* 8 bytes, unsigned or signed, as f32. */
INGLE_INLINE __m256 tile_bytes_avx2(__m128i bytes, bool sign)
{
    return _mm256_cvtepi32_ps(sign ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}

/* d and m for each half of the columns; types with one scale a block set the first only. */
INGLE_INLINE void tile_scales_avx2(enum ingle_wtype type, const uint8_t *tile,
                                   const struct ingle_tile_shape *shape, uint32_t b, int half,
                                   __m256 d[2], __m256 m[2])
{
    const struct ingle_wform form = ingle_wform(type);
    const uint64_t group = form.scale == INGLE_WS_BLOCK ? b : b / 8;
    const uint8_t *sub = tile + shape->sub + 32 * (uint64_t)b + 8 * half;
    const __m128i nibble = _mm_set1_epi8(15);
    __m256 scale = tile_f16_avx2(tile + shape->d + 32 * group + 16 * half);
    __m256 min =
        form.min ? tile_f16_avx2(tile + shape->m + 32 * group + 16 * half) : _mm256_setzero_ps();
    d[0] = scale;
    m[0] = min;
    if (form.scale == INGLE_WS_BLOCK) {
        return;
    }
    __m128i sub0 = _mm_loadl_epi64((const __m128i *)(const void *)sub);
    __m128i sub1 = _mm_loadl_epi64((const __m128i *)(const void *)(sub + 16));
    /* -(m * sub) is (-m) * sub, signs of zeros included. */
    __m256 minus = _mm256_xor_ps(min, _mm256_set1_ps(-0.0f));
    if (form.scale == INGLE_WS_K) {
        d[0] = _mm256_mul_ps(scale, tile_bytes_avx2(sub0, false));
        m[0] = _mm256_mul_ps(minus, tile_bytes_avx2(sub1, false));
    } else if (form.scale == INGLE_WS_K16) {
        d[0] = _mm256_mul_ps(scale, tile_bytes_avx2(sub0, true));
        d[1] = _mm256_mul_ps(scale, tile_bytes_avx2(sub1, true));
    } else {
        d[0] = _mm256_mul_ps(scale, tile_bytes_avx2(_mm_and_si128(sub0, nibble), false));
        d[1] = _mm256_mul_ps(scale, tile_bytes_avx2(_mm_and_si128(sub1, nibble), false));
        sub0 = _mm_and_si128(_mm_srli_epi16(sub0, 4), nibble);
        sub1 = _mm_and_si128(_mm_srli_epi16(sub1, 4), nibble);
        m[0] = _mm256_mul_ps(minus, tile_bytes_avx2(sub0, false));
        m[1] = _mm256_mul_ps(minus, tile_bytes_avx2(sub1, false));
    }
}

/* Column c of a tile of floats, rows of one half, as f32. */
INGLE_INLINE __m256 tile_float_avx2(enum ingle_wtype type, const uint8_t *tile, uint64_t c,
                                    int half)
{
    if (type == INGLE_W_F32) {
        return _mm256_load_ps((const float *)(const void *)(tile + 64 * c + 32 * half));
    }
    const uint8_t *at = tile + 32 * c + 16 * half;
    if (type == INGLE_W_F16) {
        return tile_f16_avx2(at);
    }
    __m128i bits = _mm_load_si128((const __m128i *)(const void *)at);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

#endif
