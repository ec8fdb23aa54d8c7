/* Attention with AVX-512 and VNNI: the arithmetic of ref/attn.c for the tiles of attn_tile.c. No
 * state of its own; any worker.
 *
 * Quantised pages: sixteen tokens (or channels) of codes are one register, multiplied by both
 * planes of three queries before the next is loaded. f16 pages: sixteen rows are widened once for
 * all queries of the tile, each query then keeps sixteen sums in registers. */
#include <math.h>
#include <string.h>

#include <immintrin.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/row.h"
#include "kernels/x86/attn_tile.h"
#include "kernels/x86/transpose_avx512.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    S = INGLE_PAGE_TOKENS,
    LANES = 16,
    VECTORS = 4, /* registers of columns in one pass */
    CODE_QUERIES = 3,
    ROW_QUERIES = 6
};

/* One value of each of sixteen queries. */
INGLE_TRANSPOSED(trees, _mm512_add_ps)
INGLE_TRANSPOSED(maxima, _mm512_max_ps)

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

/* ref/rope.h on scale * x, sixteen pairs at a time. */
INLINE void rotate_head(const struct ingle_rope_turn *turn, const float *x, float scale, uint32_t D,
                        float *ret_q)
{
    const __m512 factor = _mm512_set1_ps(scale);
    uint32_t half = turn->half;

    for (uint32_t i = 0; i < half; i += LANES) {
        __mmask16 lanes = (__mmask16)(half - i < LANES ? (1u << (half - i)) - 1 : 0xffffu);
        __m512 c = _mm512_maskz_loadu_ps(lanes, turn->cos + i);
        __m512 s = _mm512_maskz_loadu_ps(lanes, turn->sin + i);
        __m512 a = _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(lanes, x + i));
        __m512 b = _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(lanes, x + half + i));
        _mm512_mask_storeu_ps(ret_q + i, lanes, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(ret_q + half + i, lanes, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
    for (uint32_t i = 2 * half; i < D; i += LANES) {
        __mmask16 lanes = (__mmask16)(D - i < LANES ? (1u << (D - i)) - 1 : 0xffffu);
        __m512 a = _mm512_mul_ps(factor, _mm512_maskz_loadu_ps(lanes, x + i));
        _mm512_mask_storeu_ps(ret_q + i, lanes, a);
    }
}

static void rotate(struct ingle_attn_tile *tile, uint32_t base)
{
    const struct ingle_arg_attn *a = tile->arg;
    struct ingle_rope_turn turn;

    for (uint32_t r = 0; r < tile->n_rows; r++) {
        const float *x = a->q + ((uint64_t)(tile->row + r) * a->H + tile->head) * a->D;
        float *q = tile->q + r * tile->n_heads * a->D;
        ingle_rope_turn_at(a->rope, tile->position + r - base, &turn);
        for (uint32_t h = 0; h < tile->n_heads; h++) {
            rotate_head(&turn, x + h * a->D, a->scale, a->D, q + h * a->D);
        }
    }
}

/* ---- softmax -----------------------------------------------------------------------------------
 */

/* A query's values of one page: 64 tokens, or 64 channels. Named members, because the compiler
 * keeps an array in registers only while every index is a literal. */
struct row64 {
    __m512 a, b, c, d;
};

INLINE struct row64 load64(const float *x)
{
    return (struct row64){_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), _mm512_loadu_ps(x + 32),
                          _mm512_loadu_ps(x + 48)};
}

INLINE void store64(float *x, struct row64 row)
{
    _mm512_storeu_ps(x, row.a);
    _mm512_storeu_ps(x + 16, row.b);
    _mm512_storeu_ps(x + 32, row.c);
    _mm512_storeu_ps(x + 48, row.d);
}

/* Bits of the tokens that each active query sees. */
static void set_seen(const struct ingle_attn_tile *tile, uint64_t seen[INGLE_TILE_QUERIES])
{
    for (uint32_t i = 0; i < tile->n_active; i += tile->n_heads) {
        struct ingle_kv_view view = tile->view[i / tile->n_heads];
        uint64_t bits = view.t1 == S ? ~(uint64_t)0 : ((uint64_t)1 << view.t1) - 1;
        for (uint32_t h = 0; h < tile->n_heads; h++) {
            seen[i + h] = bits >> view.t0 << view.t0;
        }
    }
}

/* What sixteen lanes of a query become one number of, for every active query: the lanes wait here,
 * because sixteen queries at a time take as many steps as one. */
struct parts {
    float lane[(INGLE_TILE_QUERIES + LANES - 1) / LANES * LANES][LANES];
};

INLINE void put_part(struct parts *parts, uint32_t query, __m512 lanes)
{
    _mm512_storeu_ps(parts->lane[query], lanes);
}

/* Sixteen queries' parts; those of queries that there are not are any numbers. */
INLINE void load_parts(const struct parts *parts, uint32_t query, __m512 ret_x[LANES])
{
    for (uint32_t i = 0; i < LANES; i++) {
        ret_x[i] = _mm512_loadu_ps(parts->lane[query + i]);
    }
}

INLINE __m512 sum_parts(const struct parts *parts, uint32_t query)
{
    __m512 x[LANES];
    load_parts(parts, query, x);
    return trees(x);
}

INLINE __m512 max_parts(const struct parts *parts, uint32_t query)
{
    __m512 x[LANES];
    load_parts(parts, query, x);
    return maxima(x);
}

/* Which of the sixteen queries from `query` on are active: what the others keep must stay. */
INLINE __mmask16 active(const struct ingle_attn_tile *tile, uint32_t query)
{
    uint32_t left = tile->n_active - query;
    return (__mmask16)(left < LANES ? (1u << left) - 1 : 0xffffu);
}

/* The new maximum of every active query, and alpha. */
static void raise_max(struct ingle_attn_tile *tile, const uint64_t seen[])
{
    const __m512 least = _mm512_set1_ps(-INFINITY);
    struct parts max;

    for (uint32_t i = 0; i < tile->n_active; i++) {
        struct row64 s = load64(tile->s + i * S);
        uint64_t mask = seen[i];
        __m512 ab = _mm512_max_ps(_mm512_mask_mov_ps(least, (__mmask16)mask, s.a),
                                  _mm512_mask_mov_ps(least, (__mmask16)(mask >> 16), s.b));
        __m512 cd = _mm512_max_ps(_mm512_mask_mov_ps(least, (__mmask16)(mask >> 32), s.c),
                                  _mm512_mask_mov_ps(least, (__mmask16)(mask >> 48), s.d));
        put_part(&max, i, _mm512_max_ps(ab, cd));
    }
    for (uint32_t i = 0; i < tile->n_active; i += LANES) {
        __m512 before = _mm512_loadu_ps(tile->now.m + i);
        __m512 now = _mm512_max_ps(max_parts(&max, i), before);
        _mm512_storeu_ps(tile->alpha + i, exp16(_mm512_sub_ps(before, now)));
        _mm512_mask_storeu_ps(tile->now.m + i, active(tile, i), now);
    }
}

INLINE __m512 weight16(__m512 s, __m512 max, uint64_t mask)
{
    return _mm512_maskz_mov_ps((__mmask16)mask, exp16(_mm512_sub_ps(s, max)));
}

/* A query's weights in the place of its scores; their sum goes to `sums`. */
INLINE void weigh(struct ingle_attn_tile *tile, uint32_t query, uint64_t mask, struct parts *sums)
{
    struct row64 s = load64(tile->s + query * S), p;
    __m512 max = _mm512_set1_ps(tile->now.m[query]);
    p.a = weight16(s.a, max, mask);
    p.b = weight16(s.b, max, mask >> 16);
    p.c = weight16(s.c, max, mask >> 32);
    p.d = weight16(s.d, max, mask >> 48);
    put_part(sums, query, _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(p.a, p.b), p.c), p.d));
    store64(tile->s + query * S, p);
}

/* l takes the page's weights in. */
INLINE void raise_sums(struct ingle_attn_tile *tile, const struct parts *sums)
{
    for (uint32_t i = 0; i < tile->n_active; i += LANES) {
        __m512 l = _mm512_loadu_ps(tile->now.l + i), alpha = _mm512_loadu_ps(tile->alpha + i);
        l = _mm512_fmadd_ps(l, alpha, sum_parts(sums, i));
        _mm512_mask_storeu_ps(tile->now.l + i, active(tile, i), l);
    }
}

/* ---- quantised pages ---------------------------------------------------------------------------
 */

INLINE __m512i number16(__m512 folded, __m512 inverse)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(folded, inverse));
}

/* Sixteen folded values to planes. */
INLINE void split16(__m512 folded, __m512 inverse, int8_t *high, int8_t *low)
{
    __m512i v = number16(folded, inverse);
    __m512i h = _mm512_srai_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(64)), 7);
    __m512i l = _mm512_sub_epi32(v, _mm512_slli_epi32(h, 7));
    _mm_storeu_si128((__m128i *)high, _mm512_cvtepi32_epi8(h));
    _mm_storeu_si128((__m128i *)low, _mm512_cvtepi32_epi8(l));
}

/* Sixty-four, packed to 16 and to 8 bits inside 128-bit lanes: four values stay together, and one
 * permutation puts the fours in order. */
INLINE void split64(struct row64 folded, __m512 inverse, int8_t *high, int8_t *low)
{
    const __m512i round = _mm512_set1_epi16(64);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = _mm512_packs_epi32(number16(folded.a, inverse), number16(folded.b, inverse));
    __m512i b = _mm512_packs_epi32(number16(folded.c, inverse), number16(folded.d, inverse));
    __m512i ha = _mm512_srai_epi16(_mm512_add_epi16(a, round), 7);
    __m512i hb = _mm512_srai_epi16(_mm512_add_epi16(b, round), 7);
    __m512i la = _mm512_sub_epi16(a, _mm512_slli_epi16(ha, 7));
    __m512i lb = _mm512_sub_epi16(b, _mm512_slli_epi16(hb, 7));
    _mm512_storeu_si512(high, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(ha, hb)));
    _mm512_storeu_si512(low, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(la, lb)));
}

/* What folding scale and min into values v needs to know of them all: the lanes of sum v * min and
 * of the largest |v * scale|. The products are made again by those who split them. */
struct fold {
    struct parts off, top;
};

INLINE void measure16(__m512 v, const float *scale, const float *min, __m512 *off, __m512 *top)
{
    *off = _mm512_fmadd_ps(v, _mm512_loadu_ps(min), *off);
    *top = _mm512_max_ps(*top, _mm512_abs_ps(_mm512_mul_ps(v, _mm512_loadu_ps(scale))));
}

INLINE void measure(struct fold *fold, uint32_t query, const float *v, const float *scale,
                    const float *min, uint32_t n)
{
    __m512 off = _mm512_setzero_ps(), top = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i += LANES) {
        measure16(_mm512_loadu_ps(v + i), scale + i, min + i, &off, &top);
    }
    put_part(&fold->off, query, off);
    put_part(&fold->top, query, top);
}

/* Every active query's off and scale, and the scale's inverse. */
INLINE void fold_end(struct ingle_attn_tile *tile, const struct fold *fold, float *ret_inverse)
{
    for (uint32_t i = 0; i < tile->n_active; i += LANES) {
        const __m512 most = _mm512_set1_ps(INGLE_KV_PLANE_MAX);
        __m512 max = max_parts(&fold->top, i);
        __mmask16 some = _mm512_cmp_ps_mask(max, _mm512_set1_ps(INGLE_KV_PLANE_MIN), _CMP_GE_OQ);
        _mm512_storeu_ps(tile->off + i, sum_parts(&fold->off, i));
        _mm512_storeu_ps(tile->scale + i,
                         _mm512_maskz_mul_ps(some, max, _mm512_set1_ps(1.0f / INGLE_KV_PLANE_MAX)));
        _mm512_storeu_ps(ret_inverse + i, _mm512_maskz_div_ps(some, most, max));
    }
}

INLINE struct row64 scaled64(const float *v, const float *scale)
{
    struct row64 x = load64(v), y = load64(scale);
    return (struct row64){_mm512_mul_ps(x.a, y.a), _mm512_mul_ps(x.b, y.b), _mm512_mul_ps(x.c, y.c),
                          _mm512_mul_ps(x.d, y.d)};
}

/* n folded values of a query as planes. */
INLINE void split(struct ingle_attn_tile *tile, uint32_t query, const float *v, const float *scale,
                  uint32_t n, float inverse)
{
    int8_t *high = tile->planes + 2 * query * tile->plane_step, *low = high + tile->plane_step;
    const __m512 factor = _mm512_set1_ps(inverse);
    uint32_t i = 0;

    for (; i + 64 <= n; i += 64) {
        split64(scaled64(v + i, scale + i), factor, high + i, low + i);
    }
    for (; i < n; i += LANES) {
        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(v + i), _mm512_loadu_ps(scale + i));
        split16(x, factor, high + i, low + i);
    }
}

INLINE __m512i four_bytes(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof(v));
    return _mm512_set1_epi32(v);
}

/* sum += codes . four. In assembly, because gcc 12 copies every accumulator of its own intrinsic.
 */
INLINE void dot4(__m512i *sum, __m512i codes, __m512i four)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(codes), "v"(four));
}

/* Whole-number sums of one query over four registers of columns. Named members and no loops: the
 * compiler keeps an array in registers only while every index is a literal. */
struct sums {
    __m512i high[VECTORS], low[VECTORS];
};

/* Registers of codes against both planes of a query. */
INLINE void dot_query(struct sums *sum, const __m512i code[VECTORS], const int8_t *plane,
                      uint32_t plane_step, int nv)
{
    __m512i high = four_bytes(plane), low = four_bytes(plane + plane_step);
    dot4(&sum->high[0], code[0], high);
    dot4(&sum->low[0], code[0], low);
    if (nv > 1) {
        dot4(&sum->high[1], code[1], high);
        dot4(&sum->low[1], code[1], low);
    }
    if (nv > 2) {
        dot4(&sum->high[2], code[2], high);
        dot4(&sum->low[2], code[2], low);
        dot4(&sum->high[3], code[3], high);
        dot4(&sum->low[3], code[3], low);
    }
}

INLINE void dot_queries(struct sums sum[CODE_QUERIES], const __m512i code[VECTORS],
                        const int8_t *plane, uint32_t plane_step, int nq, int nv)
{
    dot_query(&sum[0], code, plane, plane_step, nv);
    if (nq > 1) {
        dot_query(&sum[1], code, plane + 2 * plane_step, plane_step, nv);
    }
    if (nq > 2) {
        dot_query(&sum[2], code, plane + 4 * plane_step, plane_step, nv);
    }
}

INLINE void load_codes(__m512i code[VECTORS], const uint8_t *from, int nv)
{
    code[0] = _mm512_loadu_si512(from);
    if (nv > 1) {
        code[1] = _mm512_loadu_si512(from + 64);
    }
    if (nv > 2) {
        code[2] = _mm512_loadu_si512(from + 128);
        code[3] = _mm512_loadu_si512(from + 192);
    }
}

INLINE void nibbles_of(__m512i code[VECTORS], const __m512i both[VECTORS], int shift, int nv)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    code[0] = _mm512_and_si512(_mm512_srli_epi16(both[0], shift), nibble);
    if (nv > 1) {
        code[1] = _mm512_and_si512(_mm512_srli_epi16(both[1], shift), nibble);
    }
    if (nv > 2) {
        code[2] = _mm512_and_si512(_mm512_srli_epi16(both[2], shift), nibble);
        code[3] = _mm512_and_si512(_mm512_srli_epi16(both[3], shift), nibble);
    }
}

/* The sums of nq queries, from `query` on, over nv * 16 columns of codes [axis][columns][4]. */
INLINE void dot_codes(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                      uint32_t columns, uint32_t axis, uint32_t query, int nq, int nv,
                      struct sums sum[CODE_QUERIES])
{
    const uint32_t plane_step = tile->plane_step, lines = tile->n_lines;
    const int8_t *plane = tile->planes + 2 * query * plane_step;
    const __m512i zero = _mm512_setzero_si512();
    const struct sums zeros = {{zero, zero, zero, zero}, {zero, zero, zero, zero}};
    const int8_t *end = plane + axis;
    uint64_t step = 4 * (uint64_t)columns;

    sum[0] = sum[1] = sum[2] = zeros;
    for (; plane < end; plane += nibbles ? 8 : 4, codes += step) {
        __m512i code[VECTORS], both[VECTORS];
        ingle_attn_fetch(tile, lines);
        if (nibbles) {
            load_codes(both, codes, nv);
            nibbles_of(code, both, 0, nv);
            dot_queries(sum, code, plane, plane_step, nq, nv);
            nibbles_of(code, both, 4, nv);
            dot_queries(sum, code, plane + 4, plane_step, nq, nv);
        } else {
            load_codes(code, codes, nv);
            dot_queries(sum, code, plane, plane_step, nq, nv);
        }
    }
}

/* scale * sum + off of sixteen columns. */
INLINE __m512 unfold(__m512i high, __m512i low, __m512 scale, __m512 off)
{
    __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(high, 7), low));
    return _mm512_fmadd_ps(scale, sum, off);
}

INLINE void put_scores(struct ingle_attn_tile *tile, uint32_t query, const struct sums *sum, int nv)
{
    __m512 scale = _mm512_set1_ps(tile->scale[query]), off = _mm512_set1_ps(tile->off[query]);
    float *s = tile->s + query * S;
    _mm512_storeu_ps(s, unfold(sum->high[0], sum->low[0], scale, off));
    _mm512_storeu_ps(s + LANES, unfold(sum->high[1], sum->low[1], scale, off));
    if (nv > 2) {
        _mm512_storeu_ps(s + 2 * LANES, unfold(sum->high[2], sum->low[2], scale, off));
        _mm512_storeu_ps(s + 3 * LANES, unfold(sum->high[3], sum->low[3], scale, off));
    }
}

/* Scores of nq queries for the first nv * 16 tokens. */
INLINE void scores_of(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                      uint32_t query, int nq, int nv)
{
    struct sums sum[CODE_QUERIES];

    dot_codes(tile, codes, nibbles, S, tile->arg->D, query, nq, nv, sum);
    put_scores(tile, query, &sum[0], nv);
    if (nq > 1) {
        put_scores(tile, query + 1, &sum[1], nv);
    }
    if (nq > 2) {
        put_scores(tile, query + 2, &sum[2], nv);
    }
}

/* Short pages are common (a chunk's last): half the work where half the tokens do. */
INLINE void scores_tokens(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                          uint32_t query, int nq)
{
    if (tile->t1 > S / 2) {
        scores_of(tile, codes, nibbles, query, nq, VECTORS);
    } else {
        scores_of(tile, codes, nibbles, query, nq, VECTORS / 2);
    }
}

INLINE void add_values(float *o, __m512 alpha, __m512 mix)
{
    _mm512_storeu_ps(o, _mm512_fmadd_ps(_mm512_loadu_ps(o), alpha, mix));
}

INLINE void put_values(struct ingle_attn_tile *tile, uint32_t query, uint32_t column,
                       const struct sums *sum, int nv)
{
    __m512 scale = _mm512_set1_ps(tile->scale[query]), off = _mm512_set1_ps(tile->off[query]);
    __m512 alpha = _mm512_set1_ps(tile->alpha[query]);
    float *o = tile->now.o + query * tile->arg->D + column;
    add_values(o, alpha, unfold(sum->high[0], sum->low[0], scale, off));
    if (nv == VECTORS) {
        add_values(o + LANES, alpha, unfold(sum->high[1], sum->low[1], scale, off));
        add_values(o + 2 * LANES, alpha, unfold(sum->high[2], sum->low[2], scale, off));
        add_values(o + 3 * LANES, alpha, unfold(sum->high[3], sum->low[3], scale, off));
    }
}

/* Tokens whose values are mixed: what is not seen has no weight. */
INLINE uint32_t tokens_of(const struct ingle_attn_tile *tile)
{
    return (tile->t1 + 7) / 8 * 8;
}

INLINE void values_of(struct ingle_attn_tile *tile, const uint8_t *codes, bool nibbles,
                      uint32_t query, int nq, uint32_t column, int nv)
{
    struct sums sum[CODE_QUERIES];

    dot_codes(tile, codes + 4 * column, nibbles, tile->arg->D, tokens_of(tile), query, nq, nv, sum);
    put_values(tile, query, column, &sum[0], nv);
    if (nq > 1) {
        put_values(tile, query + 1, column, &sum[1], nv);
    }
    if (nq > 2) {
        put_values(tile, query + 2, column, &sum[2], nv);
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

/* Steps of a page's products (dot_codes), of K and of V, whose last columns go one by one. */
INLINE uint32_t steps_of(const struct ingle_attn_tile *tile, bool nibbles)
{
    const uint32_t D = tile->arg->D, width = VECTORS * LANES;
    const uint32_t per = nibbles ? 8 : 4, groups = D / width + D % width / LANES;
    const uint32_t passes = (tile->n_active + CODE_QUERIES - 1) / CODE_QUERIES;
    return passes * (D / per + groups * tokens_of(tile) / per);
}

/* Three queries at a time, then what is left; every count is its own unrolled code. */
INLINE void block_of(struct ingle_attn_tile *tile, const struct ingle_kv_block *block, bool nibbles)
{
    uint32_t D = tile->arg->D, n = tile->n_active;
    float *scale = tile->kv, *min = tile->kv + tile->plane_step;
    float inverse[2 * INGLE_TILE_QUERIES];
    uint64_t seen[INGLE_TILE_QUERIES] = {0};
    struct fold fold;
    struct parts sums;

    tile->n_lines = ingle_attn_lines(tile, steps_of(tile, nibbles));
    set_seen(tile, seen);
    ingle_f32_row_of_f16(block->k_scale, D, scale);
    ingle_f32_row_of_f16(block->k_min, D, min);
    for (uint32_t i = 0; i < n; i++) {
        measure(&fold, i, tile->q + i * D, scale, min, D);
    }
    fold_end(tile, &fold, inverse);
    for (uint32_t i = 0; i < n; i++) {
        split(tile, i, tile->q + i * D, scale, D, inverse[i]);
    }
    for (uint32_t i = 0; i < n; i += CODE_QUERIES) {
        if (n - i >= CODE_QUERIES) {
            scores_tokens(tile, block->k_codes, nibbles, i, CODE_QUERIES);
        } else if (n - i == 2) {
            scores_tokens(tile, block->k_codes, nibbles, i, 2);
        } else {
            scores_tokens(tile, block->k_codes, nibbles, i, 1);
        }
    }
    raise_max(tile, seen);
    ingle_f32_row_of_f16(block->v_scale, S, scale);
    ingle_f32_row_of_f16(block->v_min, S, min);
    for (uint32_t i = 0; i < n; i++) {
        weigh(tile, i, seen[i], &sums);
        measure(&fold, i, tile->s + i * S, scale, min, S);
    }
    raise_sums(tile, &sums);
    fold_end(tile, &fold, inverse);
    for (uint32_t i = 0; i < n; i++) {
        split(tile, i, tile->s + i * S, scale, S, inverse[i]);
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

/* Scores of sixteen tokens from t on; those beyond the last token seen repeat it and are masked.
 * The rows are widened as [D/16][16 rows][16], so that a query finds every row at a fixed offset.
 */
static void scores_rows(struct ingle_attn_tile *tile, const uint16_t *k, uint32_t t)
{
    uint32_t D = tile->arg->D;
    for (uint32_t j = 0; j < LANES; j++) {
        const uint16_t *row = k + (t + j < tile->t1 ? t + j : tile->t1 - 1) * D;
        for (uint32_t c = 0; c < D; c += LANES) {
            __m256i half = _mm256_loadu_si256((const __m256i *)(row + c));
            _mm512_store_ps(tile->kv + (c + j) * LANES, _mm512_cvtph_ps(half));
        }
    }
    for (uint32_t i = 0; i < tile->n_active; i++) {
        const float *q = tile->q + i * D, *row = tile->kv;
        __m512 sum[LANES];
#pragma GCC unroll 16
        for (uint32_t j = 0; j < LANES; j++) {
            sum[j] = _mm512_setzero_ps();
        }
        for (uint32_t c = 0; c < D; c += LANES, row += LANES * LANES) {
            __m512 part = _mm512_loadu_ps(q + c);
#pragma GCC unroll 16
            for (uint32_t j = 0; j < LANES; j++) {
                sum[j] = _mm512_fmadd_ps(part, _mm512_load_ps(row + j * LANES), sum[j]);
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
            float *o = tile->now.o + (query + q) * D + column + i * LANES;
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
    uint64_t seen[INGLE_TILE_QUERIES] = {0};
    struct parts sums;

    set_seen(tile, seen);
    for (uint32_t t = tile->t0 / LANES * LANES; t < tile->t1; t += LANES) {
        scores_rows(tile, rows->k, t);
    }
    raise_max(tile, seen);
    for (uint32_t j = 0; j < n; j++) {
        weigh(tile, j, seen[j], &sums);
    }
    raise_sums(tile, &sums);
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

static void finish(struct ingle_attn_tile *tile)
{
    const struct ingle_arg_attn *a = tile->arg;
    const __m512 limit = _mm512_set1_ps(INGLE_KV_Q_MAX);

    for (uint32_t i = 0; i < tile->n_queries; i++) {
        uint32_t row = tile->row + i / tile->n_heads, head = tile->head + i % tile->n_heads;
        uint64_t at = ((uint64_t)row * a->H + head) * a->D;
        __mmask16 sane = 0xffff;
        __m512 inverse;
        for (uint32_t c = 0; c < a->D; c += LANES) {
            sane &= _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(a->q + at + c)), limit,
                                       _CMP_LT_OQ);
        }
        inverse = _mm512_set1_ps(sane == 0xffff ? 1.0f / tile->all.l[i] : NAN);
        for (uint32_t c = 0; c < a->D; c += LANES) {
            float *o = tile->all.o + i * a->D + c;
            _mm512_storeu_ps(o, _mm512_mul_ps(_mm512_loadu_ps(o), inverse));
        }
    }
    for (uint32_t r = 0; r < tile->n_rows; r++) {
        ingle_attn_put(a, tile->row + r, tile->head, tile->n_heads,
                       tile->all.o + r * tile->n_heads * a->D);
    }
}

static const struct ingle_attn_isa isa = {.rotate = rotate,
                                          .attend_rows = attend_rows,
                                          .attend_block = attend_block,
                                          .merge = ingle_attn_merge_tile,
                                          .finish = finish};

void ingle_attn_avx512(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_attn_tiles(op, worker, &isa);
}
