/* The block sum of the matrix product with AVX-VNNI, for processors that have VPDPBUSD in registers
 * of 256 bits only; matmul_ymm.h has the rest, matmul_avx2.c the floats. VPDPBUSD adds four
 * products of unsigned by signed bytes into 32 bits, exactly, so every type goes the same way:
 * unsigned codes, and a sum that starts from -zero times the sum of the activations. */
#include "kernels/x86/matmul_ymm.h"

INGLE_INLINE __m256i block_codes(enum ingle_wtype type, const uint8_t *tile,
                                 const struct ingle_tile_shape *shape, uint32_t b, int half, int s)
{
    return tile_codes_avx2(type, tile, shape, b, half, s);
}

/* sum + the products of steps [s0, s1): w codes, x one plane of a group's bytes. The intrinsic
 * without _avx_ is the same builtin; named so, the file compiles with AVX-512's encoding too, which
 * is how machines without AVX-VNNI test it. */
INGLE_INLINE __m256i plane_sum(const uint8_t *x, const __m256i *w, int s0, int s1, __m256i sum)
{
#pragma GCC unroll 8
    for (int s = s0; s < s1; s++) {
        sum = _mm256_dpbusd_epi32(sum, w[s], load_four(x + 4 * s));
    }
    return sum;
}

INGLE_INLINE __m256i block_sum(enum ingle_wtype type, bool two, const uint8_t *x, const __m256i *w,
                               int s0, int s1, int32_t bias)
{
    __m256i start = _mm256_setzero_si256();
    if (ingle_wform(type).zero != 0) {
        start = _mm256_srai_epi32(_mm256_set1_epi32(bias), (int)ingle_mm_bias_shift(type));
    }
    if (!two) {
        return plane_sum(x, w, s0, s1, start);
    }
    __m256i high = plane_sum(x, w, s0, s1, _mm256_setzero_si256());
    __m256i low = plane_sum(x + INGLE_ACT_GROUP, w, s0, s1, start);
    return _mm256_add_epi32(low, _mm256_slli_epi32(high, 7));
}

void INGLE_VARIANT(matmul)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_mm_run(&mm_isa, op, worker);
}
