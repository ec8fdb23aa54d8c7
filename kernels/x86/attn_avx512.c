/* Attention with AVX-512 and VNNI: the arithmetic of ref/attn.c for the tiles of attn_tile.c. No
 * state of its own; any worker.
 *
 * Quantised pages: sixteen tokens (or channels) of codes are one register, multiplied by both
 * planes of three queries before the next is loaded. f16 pages: sixteen rows are widened once for
 * all queries of the tile, each query then keeps sixteen sums in registers. */
#include <math.h>
#include <string.h>

#include <immintrin.h>

#include "kernels/half_row.h"
#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/x86/attn_tile.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    S = INGLE_PAGE_TOKENS,
    LANES = 16,
    VECTORS = 4, /* registers of columns in one pass */
    CODE_QUERIES = 3,
    ROW_QUERIES = 6
};

/* ref/lanes.h: halves are added, i with i + 8, 4, 2, 1. */
INLINE float tree(__m512 lanes)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

/* Sixteen trees at once: lane j of the result is tree(x[j]). */
INLINE __m512 trees(const __m512 x[LANES])
{
    __m512 quad[4], pair[2];
    for (int s = 0; s < 4; s++) {
        __m512 t = _mm512_add_ps(_mm512_shuffle_f32x4(x[s], x[4 + s], 0x44),
                                 _mm512_shuffle_f32x4(x[s], x[4 + s], 0xee));
        __m512 u = _mm512_add_ps(_mm512_shuffle_f32x4(x[8 + s], x[12 + s], 0x44),
                                 _mm512_shuffle_f32x4(x[8 + s], x[12 + s], 0xee));
        quad[s] = _mm512_add_ps(_mm512_shuffle_f32x4(t, u, 0x88), _mm512_shuffle_f32x4(t, u, 0xdd));
    }
    for (int s = 0; s < 2; s++) {
        pair[s] = _mm512_add_ps(_mm512_shuffle_ps(quad[2 * s], quad[2 * s + 1], 0x44),
                                _mm512_shuffle_ps(quad[2 * s], quad[2 * s + 1], 0xee));
    }
    return _mm512_add_ps(_mm512_shuffle_ps(pair[0], pair[1], 0x88),
                         _mm512_shuffle_ps(pair[0], pair[1], 0xdd));
}

/* ref/expf.h */
INLINE __m512 exp16(__m512 x)
{
    __m512 c = _mm512_min_ps(x, _mm512_set1_ps(INGLE_EXP_MAX));
    __m512 round = _mm512_set1_ps(INGLE_EXP_ROUND);
    __m512 z = _mm512_fmadd_ps(c, _mm512_set1_ps(INGLE_EXP_LOG2E), round);
    __m512 n = _mm512_sub_ps(z, round);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(INGLE_EXP_LN2HI), c);
    __m512 p = _mm512_set1_ps(INGLE_EXP_C5);
    __mmask16 keep = _mm512_cmp_ps_mask(c, _mm512_set1_ps(INGLE_EXP_MIN), _CMP_GE_OQ);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(INGLE_EXP_LN2LO), r);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(INGLE_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(INGLE_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(INGLE_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(
        keep, _mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(z), 23)));
}

/* ---- softmax -----------------------------------------------------------------------------------
 */

/* Bits of the tokens that a query sees. */
static uint64_t seen(const struct ingle_attn_tile *tile, uint32_t query)
{
    struct ingle_kv_view view = tile->view[query / tile->n_heads];
    return (view.t1 == S ? ~(uint64_t)0 : ((uint64_t)1 << view.t1) - 1) >> view.t0 << view.t0;
}

/* Scores to weights; m, l and alpha of the active queries. */
static void softmax(struct ingle_attn_tile *tile)
{
    const __m512 least = _mm512_set1_ps(-INFINITY);
    float max[2 * INGLE_TILE_QUERIES];

    for (uint32_t i = 0; i < tile->n_active; i++) {
        const float *s = tile->s + i * S;
        uint64_t mask = seen(tile, i);
        __m512 top = least;
        float page_max;
        for (uint32_t v = 0; v < S / LANES; v++) {
            top = _mm512_mask_max_ps(top, (__mmask16)(mask >> v * LANES), top,
                                     _mm512_loadu_ps(s + v * LANES));
        }
        page_max = _mm512_reduce_max_ps(top);
        max[i] = page_max > tile->m[i] ? page_max : tile->m[i];
    }
    for (uint32_t i = 0; i < tile->n_active; i += LANES) {
        uint32_t left = tile->n_active - i;
        __mmask16 lanes = (__mmask16)(left < LANES ? (1u << left) - 1 : 0xffffu);
        __m512 now = _mm512_maskz_loadu_ps(lanes, max + i);
        __m512 alpha = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, tile->m + i), now));
        _mm512_mask_storeu_ps(tile->alpha + i, lanes, alpha);
        _mm512_mask_storeu_ps(tile->m + i, lanes, now);
    }
    for (uint32_t i = 0; i < tile->n_active; i++) {
        float *s = tile->s + i * S;
        uint64_t mask = seen(tile, i);
        __m512 now = _mm512_set1_ps(max[i]), sum = _mm512_setzero_ps();
        for (uint32_t v = 0; v < S / LANES; v++) {
            __m512 p = exp16(_mm512_sub_ps(_mm512_loadu_ps(s + v * LANES), now));
            p = _mm512_maskz_mov_ps((__mmask16)(mask >> v * LANES), p);
            sum = _mm512_add_ps(sum, p);
            _mm512_storeu_ps(s + v * LANES, p);
        }
        tile->l[i] = fmaf(tile->l[i], tile->alpha[i], tree(sum));
    }
}

/* ---- quantised pages ---------------------------------------------------------------------------
 */

/* Fold scale and min into x and write the product as planes. */
INLINE void fold(struct ingle_attn_tile *tile, uint32_t query, const float *x, const float *scale,
                 const float *min, uint32_t n)
{
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi32((int32_t)0x80000000u));
    int8_t *high = tile->planes + 2 * query * tile->plane_step, *low = high + tile->plane_step;
    __m512 off = _mm512_setzero_ps(), top = _mm512_setzero_ps(), inverse;
    float folded[INGLE_HEAD_DIM_MAX] __attribute__((aligned(64))), max;

    for (uint32_t i = 0; i < n; i += LANES) {
        __m512 v = _mm512_loadu_ps(x + i);
        off = _mm512_fmadd_ps(v, _mm512_loadu_ps(min + i), off);
        v = _mm512_mul_ps(v, _mm512_loadu_ps(scale + i));
        top = _mm512_max_ps(top, _mm512_andnot_ps(sign, v));
        _mm512_store_ps(folded + i, v);
    }
    max = _mm512_reduce_max_ps(top);
    inverse = _mm512_set1_ps(max >= INGLE_KV_PLANE_MIN ? INGLE_KV_PLANE_MAX / max : 0.0f);
    tile->off[query] = tree(off);
    tile->scale[query] = max >= INGLE_KV_PLANE_MIN ? max * (1.0f / INGLE_KV_PLANE_MAX) : 0.0f;
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(folded + i), inverse));
        __m512i h = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(64)), 7);
        __m512i l = _mm512_sub_epi32(v, _mm512_slli_epi32(h, 7));
        _mm_storeu_si128((__m128i *)(high + i), _mm512_cvtepi32_epi8(h));
        _mm_storeu_si128((__m128i *)(low + i), _mm512_cvtepi32_epi8(l));
    }
}

INLINE __m512i four_bytes(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm512_set1_epi32(v);
}

/* One register of codes against both planes of the queries; step k of the summed axis. */
INLINE void dot_step(__m512i codes, const int8_t *planes, uint32_t plane_step, uint32_t k, int nq,
                     int v, __m512i high[CODE_QUERIES][VECTORS], __m512i low[CODE_QUERIES][VECTORS])
{
    for (int q = 0; q < nq; q++) {
        const int8_t *p = planes + 2 * q * plane_step + 4 * k;
        high[q][v] = _mm512_dpbusd_epi32(high[q][v], codes, four_bytes(p));
        low[q][v] = _mm512_dpbusd_epi32(low[q][v], codes, four_bytes(p + plane_step));
    }
}

/* The whole-number sums of nq queries over nv * 16 columns of codes [axis][columns][4]. */
INLINE void dot_codes(const uint8_t *codes, bool nibbles, uint32_t columns, uint32_t axis,
                      const int8_t *planes, uint32_t plane_step, int nq, int nv,
                      __m512 ret_sum[CODE_QUERIES][VECTORS])
{
    __m512i high[CODE_QUERIES][VECTORS], low[CODE_QUERIES][VECTORS];
    const __m512i nibble = _mm512_set1_epi8(15);

    for (int q = 0; q < nq; q++) {
        for (int v = 0; v < nv; v++) {
            high[q][v] = low[q][v] = _mm512_setzero_si512();
        }
    }
    for (uint32_t k = 0; k < axis / 4; k += nibbles ? 2 : 1, codes += 4 * columns) {
        for (int v = 0; v < nv; v++) {
            __m512i c = _mm512_loadu_si512(codes + 64 * v);
            if (nibbles) {
                dot_step(_mm512_and_si512(c, nibble), planes, plane_step, k, nq, v, high, low);
                c = _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble);
                dot_step(c, planes, plane_step, k + 1, nq, v, high, low);
            } else {
                dot_step(c, planes, plane_step, k, nq, v, high, low);
            }
        }
    }
    for (int q = 0; q < nq; q++) {
        for (int v = 0; v < nv; v++) {
            ret_sum[q][v] =
                _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high[q][v], 7), low[q][v]));
        }
    }
}

INLINE void scores_of(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                      uint32_t query, int nq)
{
    const int8_t *planes = tile->planes + 2 * query * tile->plane_step;
    __m512 sum[CODE_QUERIES][VECTORS];

    dot_codes(codes, nibbles, S, tile->arg->D, planes, tile->plane_step, nq, VECTORS, sum);
    for (int q = 0; q < nq; q++) {
        __m512 scale = _mm512_set1_ps(tile->scale[query + q]);
        __m512 off = _mm512_set1_ps(tile->off[query + q]);
        for (int v = 0; v < VECTORS; v++) {
            _mm512_storeu_ps(tile->s + (query + q) * S + v * LANES,
                             _mm512_fmadd_ps(scale, sum[q][v], off));
        }
    }
}

INLINE void values_of(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                      uint32_t query, int nq, uint32_t column, int nv)
{
    const int8_t *planes = tile->planes + 2 * query * tile->plane_step;
    uint32_t D = tile->arg->D;
    __m512 sum[CODE_QUERIES][VECTORS];

    dot_codes(codes + 4 * column, nibbles, D, S, planes, tile->plane_step, nq, nv, sum);
    for (int q = 0; q < nq; q++) {
        __m512 scale = _mm512_set1_ps(tile->scale[query + q]);
        __m512 off = _mm512_set1_ps(tile->off[query + q]);
        __m512 alpha = _mm512_set1_ps(tile->alpha[query + q]);
        for (int v = 0; v < nv; v++) {
            float *o = tile->o + (query + q) * D + column + v * LANES;
            __m512 mix = _mm512_fmadd_ps(scale, sum[q][v], off);
            _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_loadu_ps(o), alpha, mix));
        }
    }
}

INLINE void values_columns(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                           uint32_t query, int nq)
{
    uint32_t D = tile->arg->D, column = 0;
    for (; column + VECTORS * LANES <= D; column += VECTORS * LANES) {
        values_of(tile, codes, nibbles, query, nq, column, VECTORS);
    }
    for (; column < D; column += LANES) {
        values_of(tile, codes, nibbles, query, nq, column, 1);
    }
}

/* Three queries at a time, then what is left; every count is its own unrolled code. */
INLINE void block_of(struct ingle_attn_tile *tile, const struct ingle_kv_block *block, bool nibbles)
{
    uint32_t D = tile->arg->D, n = tile->n_active;
    float *scale = tile->kv, *min = tile->kv + tile->plane_step;

    ingle_f32_row_of_f16(block->k_scale, D, scale);
    ingle_f32_row_of_f16(block->k_min, D, min);
    for (uint32_t i = 0; i < n; i++) {
        fold(tile, i, tile->q + i * D, scale, min, D);
    }
    for (uint32_t i = 0; i < n; i += CODE_QUERIES) {
        if (n - i >= CODE_QUERIES) {
            scores_of(tile, block->k_codes, nibbles, i, CODE_QUERIES);
        } else if (n - i == 2) {
            scores_of(tile, block->k_codes, nibbles, i, 2);
        } else {
            scores_of(tile, block->k_codes, nibbles, i, 1);
        }
    }
    softmax(tile);
    ingle_f32_row_of_f16(block->v_scale, S, scale);
    ingle_f32_row_of_f16(block->v_min, S, min);
    for (uint32_t i = 0; i < n; i++) {
        fold(tile, i, tile->s + i * S, scale, min, S);
    }
    for (uint32_t i = 0; i < n; i += CODE_QUERIES) {
        if (n - i >= CODE_QUERIES) {
            values_columns(tile, block->v_codes, nibbles, i, CODE_QUERIES);
        } else if (n - i == 2) {
            values_columns(tile, block->v_codes, nibbles, i, 2);
        } else {
            values_columns(tile, block->v_codes, nibbles, i, 1);
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

/* Scores of sixteen tokens from t on; those beyond the last token seen repeat it and are masked. */
static void scores_rows(struct ingle_attn_tile *tile, const uint16_t *k, uint32_t t)
{
    uint32_t D = tile->arg->D;
    for (uint32_t j = 0; j < LANES; j++) {
        uint32_t token = t + j < tile->t1 ? t + j : tile->t1 - 1;
        ingle_f32_row_of_f16(k + token * D, D, tile->kv + j * D);
    }
    for (uint32_t i = 0; i < tile->n_active; i++) {
        const float *q = tile->q + i * D, *row = tile->kv;
        __m512 sum[LANES];
#pragma GCC unroll 16
        for (uint32_t j = 0; j < LANES; j++) {
            sum[j] = _mm512_setzero_ps();
        }
        for (uint32_t c = 0; c < D; c += LANES) {
            __m512 part = _mm512_loadu_ps(q + c);
#pragma GCC unroll 16
            for (uint32_t j = 0; j < LANES; j++) {
                sum[j] = _mm512_fmadd_ps(part, _mm512_loadu_ps(row + j * D + c), sum[j]);
            }
        }
        _mm512_storeu_ps(tile->s + i * S + t, trees(sum));
    }
}

/* Weighted sums of nq queries over nv * 16 channels; a weight that is not seen is zero. */
INLINE void values_rows(struct ingle_attn_tile *tile, const uint16_t *v, uint32_t query, int nq,
                        uint32_t column, int nv)
{
    uint32_t D = tile->arg->D;
    __m512 sum[ROW_QUERIES][VECTORS], row[VECTORS];

    for (int q = 0; q < nq; q++) {
        for (int i = 0; i < nv; i++) {
            sum[q][i] = _mm512_setzero_ps();
        }
    }
    for (uint32_t t = tile->t0; t < tile->t1; t++) {
        for (int i = 0; i < nv; i++) {
            const uint16_t *h = v + t * D + column + i * LANES;
            row[i] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
        }
        for (int q = 0; q < nq; q++) {
            __m512 p = _mm512_set1_ps(tile->s[(query + q) * S + t]);
            for (int i = 0; i < nv; i++) {
                sum[q][i] = _mm512_fmadd_ps(p, row[i], sum[q][i]);
            }
        }
    }
    for (int q = 0; q < nq; q++) {
        __m512 alpha = _mm512_set1_ps(tile->alpha[query + q]);
        for (int i = 0; i < nv; i++) {
            float *o = tile->o + (query + q) * D + column + i * LANES;
            _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_loadu_ps(o), alpha, sum[q][i]));
        }
    }
}

INLINE void values_rows_columns(struct ingle_attn_tile *tile, const uint16_t *v, uint32_t query,
                                int nq)
{
    uint32_t D = tile->arg->D, column = 0;
    for (; column + VECTORS * LANES <= D; column += VECTORS * LANES) {
        values_rows(tile, v, query, nq, column, VECTORS);
    }
    for (; column < D; column += LANES) {
        values_rows(tile, v, query, nq, column, 1);
    }
}

static void attend_rows(struct ingle_attn_tile *tile, const struct ingle_kv_rows *rows)
{
    uint32_t n = tile->n_active, i = 0;

    for (uint32_t t = tile->t0 / LANES * LANES; t < tile->t1; t += LANES) {
        scores_rows(tile, rows->k, t);
    }
    softmax(tile);
    for (; n - i >= ROW_QUERIES; i += ROW_QUERIES) {
        values_rows_columns(tile, rows->v, i, ROW_QUERIES);
    }
    for (; n - i >= 3; i += 3) {
        values_rows_columns(tile, rows->v, i, 3);
    }
    for (; i < n; i++) {
        values_rows_columns(tile, rows->v, i, 1);
    }
}

static const struct ingle_attn_isa isa = {.rotate = ingle_attn_rotate,
                                          .attend_rows = attend_rows,
                                          .attend_block = attend_block,
                                          .finish = ingle_attn_finish};

void ingle_attn_avx512(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_attn_tiles(op, worker, &isa);
}
