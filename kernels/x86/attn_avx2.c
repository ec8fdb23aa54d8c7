/* Attention with AVX2: the arithmetic of ref/attn.c for the tiles of attn_tile.c. No state of its
 * own; any worker.
 *
 * vpmaddubsw would saturate (255 * 127 * 2 > 32767), so codes are widened to 16 bits and multiplied
 * by the whole number itself (vpmaddwd), not by its planes: the same sum. Sixteen lanes are two
 * registers. */
#include <math.h>
#include <string.h>

#include <immintrin.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/row.h"
#include "kernels/x86/attn_tile.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    S = INGLE_PAGE_TOKENS,
    LANES = 16,
    HALF = 8
};

struct lanes {
    __m256 low, high; /* lanes 0..7, 8..15 */
};

/* ref/lanes.h: halves are added, i with i + 8, 4, 2, 1. */
INLINE float tree(struct lanes lanes)
{
    __m256 a = _mm256_add_ps(lanes.low, lanes.high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

INLINE float max_of(__m256 x)
{
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

/* ref/expf.h */
INLINE __m256 exp8(__m256 x)
{
    __m256 c = _mm256_min_ps(x, _mm256_set1_ps(INGLE_EXP_MAX));
    __m256 round = _mm256_set1_ps(INGLE_EXP_ROUND);
    __m256 z = _mm256_fmadd_ps(c, _mm256_set1_ps(INGLE_EXP_LOG2E), round);
    __m256 n = _mm256_sub_ps(z, round);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(INGLE_EXP_LN2HI), c);
    __m256 p = _mm256_set1_ps(INGLE_EXP_C5);
    __m256 keep = _mm256_cmp_ps(c, _mm256_set1_ps(INGLE_EXP_MIN), _CMP_GE_OQ);
    __m256i bits;
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(INGLE_EXP_LN2LO), r);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(INGLE_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(INGLE_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(INGLE_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    bits = _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(z), 23));
    return _mm256_and_ps(_mm256_castsi256_ps(bits), keep);
}

/* ---- softmax -----------------------------------------------------------------------------------
 */

/* Scores to weights; m, l and alpha of the active queries. */
static void softmax(struct ingle_attn_tile *tile)
{
    for (uint32_t i = 0; i < tile->n_active; i++) {
        struct ingle_kv_view view = tile->view[i / tile->n_heads];
        float *s = tile->s + i * S, max;
        __m256 top = _mm256_set1_ps(-INFINITY), now;
        struct lanes sum = {_mm256_setzero_ps(), _mm256_setzero_ps()};

        /* What is not seen becomes -Inf, whose weight is 0. */
        for (uint32_t t = 0; t < view.t0; t++) {
            s[t] = -INFINITY;
        }
        for (uint32_t t = view.t1; t < S; t++) {
            s[t] = -INFINITY;
        }
        for (uint32_t t = 0; t < S; t += HALF) {
            top = _mm256_max_ps(top, _mm256_loadu_ps(s + t));
        }
        max = max_of(top);
        max = max > tile->now.m[i] ? max : tile->now.m[i];
        now = _mm256_set1_ps(max);
        for (uint32_t t = 0; t < S; t += LANES) {
            __m256 low = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + t), now));
            __m256 high = exp8(_mm256_sub_ps(_mm256_loadu_ps(s + t + HALF), now));
            _mm256_storeu_ps(s + t, low);
            _mm256_storeu_ps(s + t + HALF, high);
            sum.low = _mm256_add_ps(sum.low, low);
            sum.high = _mm256_add_ps(sum.high, high);
        }
        tile->alpha[i] = ingle_expf(tile->now.m[i] - max);
        tile->now.l[i] = fmaf(tile->now.l[i], tile->alpha[i], tree(sum));
        tile->now.m[i] = max;
    }
}

/* ---- quantised pages ---------------------------------------------------------------------------
 */

/* The whole numbers of a query: int16 in the place of its two planes. */
INLINE int16_t *numbers(const struct ingle_attn_tile *tile, uint32_t query)
{
    return (int16_t *)(tile->planes + 2 * query * tile->plane_step);
}

/* Fold scale and min into x and write the product as whole numbers. */
static void fold(struct ingle_attn_tile *tile, uint32_t query, const float *x, const float *scale,
                 const float *min, uint32_t n)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    int16_t *number = numbers(tile, query);
    struct lanes off = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    float folded[INGLE_HEAD_DIM_MAX] __attribute__((aligned(64))), max;
    __m256 top = _mm256_setzero_ps(), inverse;

    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 low = _mm256_loadu_ps(x + i), high = _mm256_loadu_ps(x + i + HALF);
        off.low = _mm256_fmadd_ps(low, _mm256_loadu_ps(min + i), off.low);
        off.high = _mm256_fmadd_ps(high, _mm256_loadu_ps(min + i + HALF), off.high);
        low = _mm256_mul_ps(low, _mm256_loadu_ps(scale + i));
        high = _mm256_mul_ps(high, _mm256_loadu_ps(scale + i + HALF));
        top = _mm256_max_ps(top, _mm256_andnot_ps(sign, low));
        top = _mm256_max_ps(top, _mm256_andnot_ps(sign, high));
        _mm256_store_ps(folded + i, low);
        _mm256_store_ps(folded + i + HALF, high);
    }
    max = max_of(top);
    inverse = _mm256_set1_ps(max >= INGLE_KV_PLANE_MIN ? INGLE_KV_PLANE_MAX / max : 0.0f);
    tile->off[query] = tree(off);
    tile->scale[query] = max >= INGLE_KV_PLANE_MIN ? max * (1.0f / INGLE_KV_PLANE_MAX) : 0.0f;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 low = _mm256_mul_ps(_mm256_load_ps(folded + i), inverse);
        __m256 high = _mm256_mul_ps(_mm256_load_ps(folded + i + HALF), inverse);
        __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
        _mm256_storeu_si256((__m256i *)(number + i), _mm256_permute4x64_epi64(both, 0xd8));
    }
}

/* Four columns of codes [4] times the four numbers of step k: two partial sums a column. */
INLINE __m256i dot_step(__m256i sum, __m128i codes, const int16_t *number, uint32_t k)
{
    long long four;
    memcpy(&four, number + 4 * k, sizeof(four));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepu8_epi16(codes),
                                                   _mm256_set1_epi64x(four)));
}

/* The whole-number sums of one query over eight columns of codes [axis][columns][4]. */
INLINE __m256 dot_codes(const uint8_t *codes, bool nibbles, uint32_t columns, uint32_t axis,
                        const int16_t *number)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    const __m128i nibble = _mm_set1_epi8(15);

    for (uint32_t k = 0; k < axis / 4; k += nibbles ? 2 : 1, codes += 4 * columns) {
        __m128i low = _mm_loadu_si128((const __m128i *)codes);
        __m128i high = _mm_loadu_si128((const __m128i *)(codes + 16));
        if (nibbles) {
            a = dot_step(a, _mm_and_si128(low, nibble), number, k);
            b = dot_step(b, _mm_and_si128(high, nibble), number, k);
            a = dot_step(a, _mm_and_si128(_mm_srli_epi16(low, 4), nibble), number, k + 1);
            b = dot_step(b, _mm_and_si128(_mm_srli_epi16(high, 4), nibble), number, k + 1);
        } else {
            a = dot_step(a, low, number, k);
            b = dot_step(b, high, number, k);
        }
    }
    return _mm256_cvtepi32_ps(_mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8));
}

INLINE void block_of(struct ingle_attn_tile *tile, const struct ingle_kv_block *block, bool nibbles)
{
    uint32_t D = tile->arg->D;
    float *scale = tile->kv, *min = tile->kv + tile->plane_step;
    const uint32_t lines = ingle_attn_lines(tile, 2 * tile->n_active);

    ingle_f32_row_of_f16(block->k_scale, D, scale);
    ingle_f32_row_of_f16(block->k_min, D, min);
    for (uint32_t i = 0; i < tile->n_active; i++) {
        ingle_attn_fetch(tile, lines);
        fold(tile, i, tile->q + i * D, scale, min, D);
        for (uint32_t t = 0; t < S; t += HALF) {
            __m256 sum = dot_codes(block->k_codes + 4 * t, nibbles, S, D, numbers(tile, i));
            _mm256_storeu_ps(tile->s + i * S + t,
                             _mm256_fmadd_ps(_mm256_set1_ps(tile->scale[i]), sum,
                                             _mm256_set1_ps(tile->off[i])));
        }
    }
    softmax(tile);
    ingle_f32_row_of_f16(block->v_scale, S, scale);
    ingle_f32_row_of_f16(block->v_min, S, min);
    for (uint32_t i = 0; i < tile->n_active; i++) {
        ingle_attn_fetch(tile, lines);
        fold(tile, i, tile->s + i * S, scale, min, S);
        for (uint32_t c = 0; c < D; c += HALF) {
            float *o = tile->now.o + i * D + c;
            __m256 sum = dot_codes(block->v_codes + 4 * c, nibbles, D, S, numbers(tile, i));
            __m256 mix =
                _mm256_fmadd_ps(_mm256_set1_ps(tile->scale[i]), sum, _mm256_set1_ps(tile->off[i]));
            _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_loadu_ps(o), _mm256_set1_ps(tile->alpha[i]),
                                                mix));
        }
    }
}

static void attend_block(struct ingle_attn_tile *tile, const struct ingle_kv_block *block,
                         enum ingle_kv_form form)
{
    if (form == INGLE_KV_Q4) {
        block_of(tile, block, true);
    } else {
        block_of(tile, block, false);
    }
}

/* ---- f16 pages ---------------------------------------------------------------------------------
 */
static void scores_rows(struct ingle_attn_tile *tile, const uint16_t *k)
{
    uint32_t D = tile->arg->D;
    float *row = tile->kv;
    for (uint32_t t = tile->t0; t < tile->t1; t++) {
        ingle_f32_row_of_f16(k + t * D, D, row);
        for (uint32_t i = 0; i < tile->n_active; i++) {
            const float *q = tile->q + i * D;
            struct lanes sum = {_mm256_setzero_ps(), _mm256_setzero_ps()};
            for (uint32_t c = 0; c < D; c += LANES) {
                sum.low =
                    _mm256_fmadd_ps(_mm256_loadu_ps(q + c), _mm256_loadu_ps(row + c), sum.low);
                sum.high = _mm256_fmadd_ps(_mm256_loadu_ps(q + c + HALF),
                                           _mm256_loadu_ps(row + c + HALF), sum.high);
            }
            tile->s[i * S + t] = tree(sum);
        }
    }
}

/* Weighted sums of one query over sixteen channels; a weight that is not seen is zero. */
INLINE void values_rows(struct ingle_attn_tile *tile, const uint16_t *v, uint32_t query,
                        uint32_t column)
{
    uint32_t D = tile->arg->D;
    float *o = tile->now.o + query * D + column;
    __m256 low = _mm256_setzero_ps(), high = low, alpha = _mm256_set1_ps(tile->alpha[query]);

    for (uint32_t t = tile->t0; t < tile->t1; t++) {
        const __m128i *h = (const __m128i *)(v + t * D + column);
        __m256 p = _mm256_set1_ps(tile->s[query * S + t]);
        low = _mm256_fmadd_ps(p, _mm256_cvtph_ps(_mm_loadu_si128(h)), low);
        high = _mm256_fmadd_ps(p, _mm256_cvtph_ps(_mm_loadu_si128(h + 1)), high);
    }
    _mm256_storeu_ps(o, _mm256_fmadd_ps(_mm256_loadu_ps(o), alpha, low));
    _mm256_storeu_ps(o + HALF, _mm256_fmadd_ps(_mm256_loadu_ps(o + HALF), alpha, high));
}

static void attend_rows(struct ingle_attn_tile *tile, const struct ingle_kv_rows *rows)
{
    scores_rows(tile, rows->k);
    softmax(tile);
    for (uint32_t i = 0; i < tile->n_active; i++) {
        for (uint32_t c = 0; c < tile->arg->D; c += LANES) {
            values_rows(tile, rows->v, i, c);
        }
    }
}

static const struct ingle_attn_isa isa = {.rotate = ingle_attn_rotate,
                                          .attend_rows = attend_rows,
                                          .attend_block = attend_block,
                                          .merge = ingle_attn_merge_tile,
                                          .finish = ingle_attn_finish};

void ingle_attn_avx2(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_attn_tiles(op, worker, &isa);
}
