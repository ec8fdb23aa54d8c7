/* The block sum of the matrix product with AVX2, and its floats; matmul_ymm.h has the rest.
 * VPMADDUBSW multiplies unsigned by signed bytes and adds pairs into 16 bits with saturation,
 * so sums stay in 16 bits only as long as they cannot reach it:
 *
 *   codes of up to 4 bits   8 steps   8 * 2 * 15 * 127 = 30480
 *   5 bits                  4 steps   4 * 2 * 31 * 127 = 31496
 *   6 bits                  2 steps   2 * 2 * 63 * 127 = 32004
 *   8 bits (zero 128)       1 step    2 * 128 * 127 = 32512, of |w| and q with the sign of w
 *
 * and then go to 32 bits by VPMADDWD with ones. */
#include "kernels/x86/matmul_ymm.h"

enum {
    GROUP_FLOAT = INGLE_MM_GROUP_FLOAT_AVX2, /* rows: by two halves, eight accumulators */
};

/* Unsigned, or as signed bytes where zero is 128. */
INGLE_INLINE __m256i block_codes(enum ingle_wtype type, const uint8_t *tile,
                                 const struct ingle_tile_shape *shape, uint32_t b, int half, int s)
{
    __m256i codes = tile_codes_avx2(type, tile, shape, b, half, s);
    return ingle_wform(type).zero == 128 ? _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80))
                                         : codes;
}

/* Steps that 16 bits can hold. */
INGLE_INLINE int steps16(enum ingle_wtype type)
{
    const struct ingle_wform form = ingle_wform(type);
    const int bits = form.low_bits + form.high_bits;
    return form.zero == 128 ? 1 : bits <= 4 ? 8 : bits == 5 ? 4 : 2;
}

/* sum + the products of steps [s0, s1): w codes, x one plane of a group's bytes. */
INGLE_INLINE __m256i plane_sum(enum ingle_wtype type, const uint8_t *x, const __m256i *w, int s0,
                               int s1, __m256i sum)
{
    const bool sign = ingle_wform(type).zero == 128;
    const int run = steps16(type);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i narrow = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int s = s0; s < s1; s++) {
        __m256i q = load_four(x + 4 * s), product;
        if (sign) {
            product = _mm256_maddubs_epi16(_mm256_abs_epi8(w[s]), _mm256_sign_epi8(q, w[s]));
        } else {
            product = _mm256_maddubs_epi16(w[s], q);
        }
        narrow = (s - s0) % run == 0 ? product : _mm256_add_epi16(narrow, product);
        if ((s - s0) % run == run - 1 || s + 1 == s1) {
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, ones));
        }
    }
    return sum;
}

/* The integer sum over steps [s0, s1) of a block; bias is -128 times the sum of the codes of x. */
INGLE_INLINE __m256i block_sum(enum ingle_wtype type, bool two, const uint8_t *x, const __m256i *w,
                               int s0, int s1, int32_t bias)
{
    __m256i sum = _mm256_setzero_si256();
    if (two) {
        sum = _mm256_slli_epi32(plane_sum(type, x, w, s0, s1, sum), 7);
    }
    if (ingle_wform(type).zero != 0 && ingle_wform(type).zero != 128) {
        int shift = (int)ingle_mm_bias_shift(type);
        sum = _mm256_add_epi32(sum, _mm256_srai_epi32(_mm256_set1_epi32(bias), shift));
    }
    return plane_sum(type, two ? x + INGLE_ACT_GROUP : x, w, s0, s1, sum);
}

/* ---- floats ---- */

struct panel_float {
    float w[INGLE_MM_FLOAT_COLS][16];
};
static_assert(sizeof(struct panel_float) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

INGLE_INLINE void decode_tile_float(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const struct ingle_wform form = ingle_wform(type);
    const __m256i byte = _mm256_set1_epi32(255);
    struct panel_float *panel = decode->panel;
    if (form.scale == INGLE_WS_FLOAT) {
        for (uint32_t c = 0; c < decode->n; c++) {
            for (int half = 0; half < 2; half++) {
                __m256 value = tile_float_avx2(type, decode->tile, decode->first + c, half);
                _mm256_store_ps(panel->w[c] + 8 * half, value);
            }
        }
        return;
    }
    for (uint32_t b = 0; b < decode->n / INGLE_BLOCK_COLS; b++) {
        const uint32_t block = decode->first / INGLE_BLOCK_COLS + b;
        for (int half = 0; half < 2; half++) {
            __m256 d[2], m[2];
            tile_scales_avx2(type, decode->tile, &decode->shape, block, half, d, m);
#pragma GCC unroll 8
            for (int s = 0; s < 8; s++) {
                const int h = ingle_mm_halves(type) ? s / 4 : 0;
                __m256i codes = tile_codes_avx2(type, decode->tile, &decode->shape, block, half, s);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) {
                    __m256i code = _mm256_and_si256(_mm256_srli_epi32(codes, 8 * j), byte);
                    code = _mm256_sub_epi32(code, _mm256_set1_epi32(form.zero));
                    __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(code), d[h]);
                    value = form.min ? _mm256_add_ps(value, m[h]) : value;
                    _mm256_store_ps(panel->w[INGLE_BLOCK_COLS * b + 4 * s + j] + 8 * half, value);
                }
            }
        }
    }
}

INGLE_INLINE void group_panel_float(const int rows, const struct ingle_mm_group *group)
{
    const struct panel_float *panel = group->panel;
    const float *x[GROUP_FLOAT];
    __m256 acc[GROUP_FLOAT][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        x[r] = (const float *)(const void *)(group->x + (uint64_t)r * group->x_stride);
        acc[r][0] = group->first ? _mm256_setzero_ps() : _mm256_load_ps(group->acc + 16 * r);
        acc[r][1] = group->first ? _mm256_setzero_ps() : _mm256_load_ps(group->acc + 16 * r + 8);
    }
    for (uint32_t c = 0; c < group->n; c++) {
        __m256 w0 = _mm256_load_ps(panel->w[c]), w1 = _mm256_load_ps(panel->w[c] + 8);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256 value = _mm256_set1_ps(x[r][c]);
            acc[r][0] = _mm256_add_ps(acc[r][0], _mm256_mul_ps(w0, value));
            acc[r][1] = _mm256_add_ps(acc[r][1], _mm256_mul_ps(w1, value));
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        _mm256_store_ps(group->acc + 16 * r, acc[r][0]);
        _mm256_store_ps(group->acc + 16 * r + 8, acc[r][1]);
    }
    end_rows(group, rows);
}

#define FLOAT_INSTANCE(type)                                              \
    static void decode_float_##type(const struct ingle_mm_decode *decode) \
    {                                                                     \
        decode_tile_float(INGLE_W_##type, decode);                        \
    }
INGLE_MM_ALL(FLOAT_INSTANCE)

#define GROUP_FLOAT_INSTANCE(rows)                                     \
    static void group_float_##rows(const struct ingle_mm_group *group) \
    {                                                                  \
        group_panel_float(rows, group);                                \
    }
GROUP_FLOAT_INSTANCE(1)
GROUP_FLOAT_INSTANCE(2)
GROUP_FLOAT_INSTANCE(3)
GROUP_FLOAT_INSTANCE(4)

ingle_mm_decode_fn *ingle_mm_decode_float_avx2(enum ingle_wtype type)
{
#define DECODE_FLOAT_ENTRY(type) [INGLE_W_##type] = decode_float_##type,
    static ingle_mm_decode_fn *const fns[INGLE_W_COUNT] = {INGLE_MM_ALL(DECODE_FLOAT_ENTRY)};
    return fns[type];
}

ingle_mm_group_fn *ingle_mm_group_float_avx2(uint32_t rows)
{
    static ingle_mm_group_fn *const fns[GROUP_FLOAT] = {group_float_1, group_float_2, group_float_3,
                                                        group_float_4};
    return fns[rows - 1];
}

void ingle_matmul_avx2(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_mm_run(&mm_isa, op, worker);
}
