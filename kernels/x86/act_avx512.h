/* Groups of INT8 and INT16 activations with AVX-512: what ref/act_put.h, which includes this, says
 * in plain C; of INT8 in 29 cycles a group instead of 48, and in 15 where there are sixteen. */
#ifndef INGLE_KERNELS_X86_ACT_AVX512_H
#define INGLE_KERNELS_X86_ACT_AVX512_H
#include "kernels/x86/transpose_avx512.h"

#define INGLE_ACT_TOGETHER 16u /* groups that ingle_act_put_together takes at once, at most */

static inline __m512i ingle_act_magnitude(const float *x)
{
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

static inline __m512i ingle_act_numbers(const float *x, __m512 inverse)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), inverse));
}

static inline void ingle_act8_put(struct ingle_act8 *out, const float *x)
{
    const __m128i ones = _mm_set1_epi8(1);
    __m512i top = _mm512_max_epu32(ingle_act_magnitude(x), ingle_act_magnitude(x + 16));
    float scale = ingle_act_scale(_mm512_reduce_max_epu32(top), INGLE_ACT8_MAX);
    if (!(scale > 0.0f)) {
        *out = (struct ingle_act8){.tail = ingle_act_tail(scale, 0, 0)};
        return;
    }
    __m512 inverse = _mm512_set1_ps(1.0f / scale);
    __m128i q0 = _mm512_cvtepi32_epi8(ingle_act_numbers(x, inverse));
    __m128i q1 = _mm512_cvtepi32_epi8(ingle_act_numbers(x + 16, inverse));
    __m128i sums = _mm_hadd_epi32(_mm_dpbusd_epi32(_mm_setzero_si128(), ones, q0),
                                  _mm_dpbusd_epi32(_mm_setzero_si128(), ones, q1));
    sums = _mm_hadd_epi32(sums, sums);
    _mm_storeu_si128((__m128i *)(void *)out->q, q0);
    _mm_storeu_si128((__m128i *)(void *)(out->q + 16), q1);
    out->tail = ingle_act_tail(scale, _mm_cvtsi128_si32(sums), _mm_extract_epi32(sums, 1));
}

/* The bits of non-negative floats and NaNs, which are ordered as whole numbers are. */
#define INGLE_MAX_BITS(a, b) \
    _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)))
INGLE_TRANSPOSED(ingle_act_tops, INGLE_MAX_BITS)
#undef INGLE_MAX_BITS

/* Sixteen scales from the largest |x| (ingle_act_scale); ret_huge: those that are NaN. 1 / scale is
 * 0 where there are no codes. */
static inline __m512 ingle_act_scales(__m512 top, float limit, __mmask16 *ret_huge,
                                      __m512 *ret_inverse)
{
    const int32_t below = (1 << (23 - INGLE_ACT_FRACTION_BITS)) - 1;
    __m512i bits = _mm512_castps_si512(top);
    __mmask16 huge =
        _mm512_cmpge_epu32_mask(bits,
                                _mm512_set1_epi32((int32_t)ingle_bits_of_f32(INGLE_ACT_HUGE)));
    __mmask16 tiny =
        _mm512_cmplt_epu32_mask(bits,
                                _mm512_set1_epi32((int32_t)ingle_bits_of_f32(INGLE_ACT_TINY)));
    __mmask16 good = (__mmask16) ~(huge | tiny);
    __m512i up =
        _mm512_add_epi32(_mm512_castps_si512(_mm512_mul_ps(top, _mm512_set1_ps(1.0f / limit))),
                         _mm512_set1_epi32(below));
    __m512 scale = _mm512_castsi512_ps(_mm512_maskz_and_epi32(good, up, _mm512_set1_epi32(~below)));
    *ret_huge = huge;
    *ret_inverse = _mm512_maskz_div_ps(good, _mm512_set1_ps(1.0f), scale);
    return scale;
}

/* One group's tail of every four in each of r[0..3]: group i's is lane i / 4 of r[i % 4]. */
static inline void ingle_act_tails(__m512 scale, __m512i first, __m512i last, __m512i r[4])
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i all = _mm512_add_epi32(first, last);
    __m512i bias = _mm512_sub_epi32(zero, _mm512_slli_epi32(all, 7));
    __m512i bias0 = _mm512_sub_epi32(zero, _mm512_slli_epi32(first, 7));
    __m512i sum = _mm512_castps_si512(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(all)));
    __m512i s = _mm512_castps_si512(scale);
    __m512i sb_low = _mm512_unpacklo_epi32(s, bias), sb_high = _mm512_unpackhi_epi32(s, bias);
    __m512i bs_low = _mm512_unpacklo_epi32(bias0, sum), bs_high = _mm512_unpackhi_epi32(bias0, sum);
    r[0] = _mm512_unpacklo_epi64(sb_low, bs_low);
    r[1] = _mm512_unpackhi_epi64(sb_low, bs_low);
    r[2] = _mm512_unpacklo_epi64(sb_high, bs_high);
    r[3] = _mm512_unpackhi_epi64(sb_high, bs_high);
}

/* The four sums of fours that lie in each 128-bit lane of s[0..3]. */
static inline __m512i ingle_act_quarters(const __m512i s[4])
{
    __m512i t0 =
        _mm512_add_epi32(_mm512_unpacklo_epi32(s[0], s[1]), _mm512_unpackhi_epi32(s[0], s[1]));
    __m512i t1 =
        _mm512_add_epi32(_mm512_unpacklo_epi32(s[2], s[3]), _mm512_unpackhi_epi32(s[2], s[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(t0, t1), _mm512_unpackhi_epi64(t0, t1));
}

/* A plane of the codes of groups a and b, 16-bit numbers packed inside 128-bit lanes; returns for
 * each half of each four partial sums. */
static inline __m512i ingle_act_plane(__m512i a, __m512i b, uint8_t *ret_a, uint8_t *ret_b)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b));
    _mm256_storeu_si256((__m256i *)(void *)ret_a, _mm512_castsi512_si256(q));
    _mm256_storeu_si256((__m256i *)(void *)ret_b, _mm512_extracti64x4_epi64(q, 1));
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
}

/* The codes of groups a and b, in one plane or two. */
static inline __m512i ingle_act_pair(const bool two, const float *a, const float *b,
                                     const float inverse[2], uint8_t *ret_a, uint8_t *ret_b)
{
    __m512 ia = _mm512_set1_ps(inverse[0]), ib = _mm512_set1_ps(inverse[1]);
    __m512i va = _mm512_packs_epi32(ingle_act_numbers(a, ia), ingle_act_numbers(a + 16, ia));
    __m512i vb = _mm512_packs_epi32(ingle_act_numbers(b, ib), ingle_act_numbers(b + 16, ib));
    if (!two) {
        return ingle_act_plane(va, vb, ret_a, ret_b);
    }
    const __m512i round = _mm512_set1_epi16(64);
    __m512i ha = _mm512_srai_epi16(_mm512_add_epi16(va, round), 7);
    __m512i hb = _mm512_srai_epi16(_mm512_add_epi16(vb, round), 7);
    __m512i high = ingle_act_plane(ha, hb, ret_a, ret_b);
    __m512i low = ingle_act_plane(_mm512_sub_epi16(va, _mm512_slli_epi16(ha, 7)),
                                  _mm512_sub_epi16(vb, _mm512_slli_epi16(hb, 7)),
                                  ret_a + INGLE_ACT_GROUP, ret_b + INGLE_ACT_GROUP);
    return _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);
}

/* ref/act_put.h */
static inline void ingle_act_put_together(const bool two, uint8_t *out, uint64_t stride,
                                          const float *x, uint32_t n)
{
    enum {
        N = INGLE_ACT_TOGETHER
    };
    const __m512i firsts =
        _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 16, 24, 17, 25, 18, 26, 19, 27);
    const uint64_t codes = two ? 2 * INGLE_ACT_GROUP : INGLE_ACT_GROUP;
    uint8_t spare[2 * INGLE_ACT_GROUP];
    __m512 top[N], inverse;
    __m512i sums[N / 2], tails[4];
    float inverses[N];
    __mmask16 huge;
    for (uint32_t i = 0; i < N; i++) {
        const float *g = x + (i < n ? i : n - 1) * INGLE_ACT_GROUP;
        top[i] = _mm512_castsi512_ps(
            _mm512_max_epu32(ingle_act_magnitude(g), ingle_act_magnitude(g + 16)));
    }
    const __m512 scale = ingle_act_scales(ingle_act_tops(top),
                                          two ? INGLE_ACT16_MAX : INGLE_ACT8_MAX, &huge, &inverse);
    _mm512_storeu_ps(inverses, inverse);
    for (uint32_t i = 0; i < N; i += 2) {
        if (i < n) {
            const bool pair = i + 1 < n;
            const float *g = x + i * INGLE_ACT_GROUP;
            uint8_t *at = out + i * stride;
            sums[i / 2] = ingle_act_pair(two, g, pair ? g + INGLE_ACT_GROUP : g, inverses + i, at,
                                         pair ? at + stride : spare);
        } else {
            sums[i / 2] = _mm512_setzero_si512();
        }
    }
    const __m512i low = ingle_act_quarters(sums), high = ingle_act_quarters(sums + 4);
    const __m512i lasts = _mm512_add_epi32(firsts, _mm512_set1_epi32(4));
    ingle_act_tails(scale, _mm512_permutex2var_epi32(low, firsts, high),
                    _mm512_permutex2var_epi32(low, lasts, high), tails);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(out + i * stride + codes,
               (const uint8_t *)&tails[i % 4] + sizeof(struct ingle_act_tail) * (i / 4),
               sizeof(struct ingle_act_tail));
    }
    for (uint32_t left = huge & ((1u << n) - 1u); left != 0; left &= left - 1) {
        const struct ingle_act_tail none = ingle_act_tail(NAN, 0, 0);
        uint8_t *at = out + (uint32_t)__builtin_ctz(left) * stride;
        memset(at, 0, codes);
        memcpy(at + codes, &none, sizeof none);
    }
}

#endif
