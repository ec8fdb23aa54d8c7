/* The kernels of the matrix product with AVX-512 VNNI; ref/matmul.c states the arithmetic, matmul.h
 * the two ways. A panel holds two tiles: codes as bytes with zero point 128 (or 0 with minima), so
 * that an activation group's ready-made bias starts each sum, and f32 scales times the eight
 * fractions of an activation scale: what a sum of products then takes is one subtraction (act.h,
 * sums that are floats), for which Zen 4 has other pipes than for vpdpbusd, and one fused
 * multiply-add. A group of six rows and two tiles keeps twelve integer and twelve float
 * accumulators in registers. */
#include <string.h>

#include "kernels/x86/matmul_zmm.h"

enum {
    FEW = INGLE_MM_FEW,
    GROUP = 6,   /* rows of a register tile */
    BLOCKS = 10, /* 10 KiB of codes, 10 of scales */
    GROUP_FLOAT = 8,
};

/* ---- few rows ---- */

/* The integer a sum starts from: -zero times the sum of the row's codes. */
INGLE_INLINE __m512i bias_start(enum ingle_wtype type, int32_t bias)
{
    return ingle_wform(type).zero
               ? _mm512_srai_epi32(_mm512_set1_epi32(bias), ingle_mm_bias_shift(type))
               : _mm512_setzero_si512();
}

/* The integer sum over steps [s0, s1) of a block, from `start`. In INT16 mode 128 * high + low. */
INGLE_INLINE __m512i block_sum(bool two, const uint8_t *x, const __m512i w[8], int s0, int s1,
                               __m512i start)
{
    __m512i even = start, odd = _mm512_setzero_si512();
    if (two) {
        __m512i high = _mm512_setzero_si512();
#pragma GCC unroll 8
        for (int s = s0; s < s1; s++) {
            int32_t four, low_four;
            memcpy(&four, x + 4 * s, sizeof four);
            memcpy(&low_four, x + 32 + 4 * s, sizeof low_four);
            high = _mm512_dpbusd_epi32(high, w[s], _mm512_set1_epi32(four));
            even = _mm512_dpbusd_epi32(even, w[s], _mm512_set1_epi32(low_four));
        }
        return _mm512_add_epi32(even, _mm512_slli_epi32(high, 7));
    }
#pragma GCC unroll 8
    for (int s = s0; s < s1; s++) {
        int32_t four;
        memcpy(&four, x + 4 * s, sizeof four);
        /* Two chains: the sum of a block is shorter than the latency of eight steps. */
        if ((s - s0) % 2) {
            odd = _mm512_dpbusd_epi32(odd, w[s], _mm512_set1_epi32(four));
        } else {
            even = _mm512_dpbusd_epi32(even, w[s], _mm512_set1_epi32(four));
        }
    }
    return _mm512_add_epi32(even, odd);
}

/* acc + one block of one row and one tile. */
INGLE_INLINE __m512 block_row(enum ingle_wtype type, bool two, const uint8_t *x, const __m512i w[8],
                              const __m512 d[2], const __m512 m[2], __m512 acc)
{
    const struct ingle_wform form = ingle_wform(type);
    const struct ingle_act_tail *tail = ingle_mm_tail(two, x);
    const __m512 scale = _mm512_set1_ps(tail->scale);
    if (ingle_mm_halves(type)) {
        __m512i first = block_sum(two, x, w, 0, 4, bias_start(type, tail->bias0));
        __m512i last = block_sum(two, x, w, 4, 8, bias_start(type, tail->bias - tail->bias0));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(first), _mm512_mul_ps(d[0], scale), acc);
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), _mm512_mul_ps(d[1], scale), acc);
        if (form.min) {
            float sum0 = (float)tail->bias0 * -0.0078125f * tail->scale;
            float sum1 = (float)(tail->bias - tail->bias0) * -0.0078125f * tail->scale;
            acc = _mm512_fmadd_ps(_mm512_set1_ps(sum0), m[0], acc);
            acc = _mm512_fmadd_ps(_mm512_set1_ps(sum1), m[1], acc);
        }
    } else {
        __m512i sum = block_sum(two, x, w, 0, 8, bias_start(type, tail->bias));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(d[0], scale), acc);
        if (form.min) {
            acc = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), m[0], acc);
        }
    }
    return acc;
}

/* Rows [row0, row0 + rows) against one tile. Rows beyond T are computed again from the last one and
 * not stored. */
INGLE_INLINE void few_rows(enum ingle_wtype type, bool two, const uint32_t rows,
                           const struct ingle_mm_few *few)
{
    const struct ingle_tile_shape shape = few->shape;
    const uint64_t group_bytes = ingle_mm_group_bytes(two);
    const uint8_t *tile = few->tile;
    const uint8_t *x[FEW];
    __m512 acc[FEW];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t row = few->row0 + r < few->row_end ? few->row0 + r : few->row_end - 1;
        x[r] = few->x->rows + row * few->x->row_stride;
        acc[r] = _mm512_setzero_ps();
    }
    for (uint32_t b = 0; b < shape.blocks; b++) {
        __m512i w[8];
        __m512 d[2], m[2];
        ingle_mm_fetch(type, few, b);
        tile_codes_avx512(type, tile, &shape, b, w);
        tile_scales_avx512(type, tile, &shape, b, d, m);
#pragma GCC unroll 8
        for (uint32_t r = 0; r < rows; r++) {
            acc[r] = block_row(type, two, x[r] + b * group_bytes, w, d, m, acc[r]);
        }
    }
#pragma GCC unroll 8
    for (uint32_t r = 0; r < rows; r++) {
        if (few->row0 + r < few->row_end) {
            store_tile(&few->out, few->row0 + r, acc[r]);
        }
    }
}

/* ---- many rows ---- */

struct panel {
    uint8_t codes[BLOCKS][8][PAIR][64];
    float d[2][BLOCKS][INGLE_ACT_FRACTIONS][PAIR][16], m[2][BLOCKS][PAIR][16];
};

struct panel_float {
    float w[INGLE_MM_FLOAT_COLS][PAIR][16];
};
static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");
static_assert(sizeof(struct panel_float) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

INGLE_INLINE void decode_tile(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const struct ingle_wform form = ingle_wform(type);
    const bool halves = ingle_mm_halves(type);
    const uint32_t side = decode->side;
    struct panel *panel = decode->panel;
    const __m512i lift = _mm512_set1_epi8((char)(128 - form.zero));
    for (uint32_t b = 0; b < decode->n; b++) {
        __m512i w[8];
        __m512 d[2], m[2];
        tile_codes_avx512(type, decode->tile, &decode->shape, decode->first + b, w);
        tile_scales_avx512(type, decode->tile, &decode->shape, decode->first + b, d, m);
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            if (form.zero != 0 && form.zero != 128) {
                w[s] = _mm512_add_epi8(w[s], lift);
            }
            _mm512_store_si512(panel->codes[b][s][side], w[s]);
        }
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            if (h == 1 && !halves) {
                continue;
            }
#pragma GCC unroll 8
            for (int k = 0; k < INGLE_ACT_FRACTIONS; k++) {
                __m512 fraction = _mm512_set1_ps(1.0f + (float)k / INGLE_ACT_FRACTIONS);
                _mm512_store_ps(panel->d[h][b][k][side], _mm512_mul_ps(d[h], fraction));
            }
            if (form.min) {
                /* Halves: the sums at hand are -128 times what m belongs to. */
                __m512 scaled = _mm512_mul_ps(m[h], _mm512_set1_ps(-0.0078125f));
                _mm512_store_ps(panel->m[h][b][side], halves ? scaled : m[h]);
            }
        }
    }
}

INGLE_INLINE void end_rows(const struct ingle_mm_group *group, const int rows, __m512 acc[][PAIR])
{
#pragma GCC unroll 2
    for (int p = 0; p < PAIR; p++) {
        end_tile(group, 0, p, rows, 0, acc[0] + p, PAIR);
    }
}

/* Where a sum of INT8 products begins as the bits of a float, act.h says how. */
INGLE_INLINE __m512i sum_origin(const struct ingle_act_tail *tail)
{
    int32_t scale;
    memcpy(&scale, &tail->scale, sizeof scale);
    return _mm512_add_epi32(_mm512_set1_epi32(INGLE_ACT8_ORIGIN), _mm512_set1_epi32(scale));
}

/* `rows` rows times a panel. */
INGLE_INLINE void group_panel(bool two, bool halves, bool min, const int rows,
                              const struct ingle_mm_group *group)
{
    const struct panel *panel = group->panel;
    const uint64_t group_bytes = ingle_mm_group_bytes(two);
    const uint8_t *x[GROUP];
    __m512 acc[GROUP][PAIR];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        x[r] = group->x + (uint64_t)r * group->x_stride;
#pragma GCC unroll 2
        for (int p = 0; p < PAIR; p++) {
            acc[r][p] = group->first ? _mm512_setzero_ps()
                                     : _mm512_load_ps(group->acc + (PAIR * r + p) * 16);
        }
    }
    for (uint32_t b = 0; b < group->n; b++) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            if (h == 1 && !halves) {
                continue;
            }
            const int s0 = 4 * h, s1 = halves ? s0 + 4 : 8;
            __m512i sum[GROUP][PAIR];
#pragma GCC unroll 2
            for (int plane = 0; plane < 2; plane++) {
                if (plane == 0 && !two) {
                    continue;
                }
                if (two) {
                    /* gcc 12 would load for the second plane before the first one is done, and keep
                     * sums on the stack instead. */
                    __asm__("" ::: "memory");
                }
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    const struct ingle_act_tail *tail = ingle_mm_tail(two, x[r]);
                    __m512i start = two ? _mm512_setzero_si512() : sum_origin(tail);
                    if (!min && plane == 1) {
                        int32_t bias = !halves  ? tail->bias
                                       : h == 0 ? tail->bias0
                                                : tail->bias - tail->bias0;
                        start = _mm512_add_epi32(start, _mm512_set1_epi32(bias));
                    }
#pragma GCC unroll 2
                    for (int p = 0; p < PAIR; p++) {
                        sum[r][p] = two && plane == 1
                                        ? _mm512_add_epi32(start, _mm512_slli_epi32(sum[r][p], 7))
                                        : start;
                    }
                }
#pragma GCC unroll 8
                for (int s = s0; s < s1; s++) {
                    __m512i w0 = _mm512_load_si512(panel->codes[b][s][0]);
                    __m512i w1 = _mm512_load_si512(panel->codes[b][s][1]);
#pragma GCC unroll 6
                    for (int r = 0; r < rows; r++) {
                        int32_t four;
                        memcpy(&four, x[r] + (two && plane == 1 ? 32 : 0) + 4 * s, sizeof four);
                        __m512i q = _mm512_set1_epi32(four);
                        sum[r][0] = _mm512_dpbusd_epi32(sum[r][0], w0, q);
                        sum[r][1] = _mm512_dpbusd_epi32(sum[r][1], w1, q);
                    }
                }
            }
            /* Rather read the origins again than keep them on the stack. */
            __asm__("" ::: "memory");
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const struct ingle_act_tail *tail = ingle_mm_tail(two, x[r]);
                const __m512 power = two ? _mm512_getexp_ps(_mm512_set1_ps(tail->scale))
                                         : _mm512_castsi512_ps(sum_origin(tail));
                const uint32_t k = ingle_act_fraction(tail->scale);
#pragma GCC unroll 2
                for (int p = 0; p < PAIR; p++) {
                    __m512 value = two ? _mm512_scalef_ps(_mm512_cvtepi32_ps(sum[r][p]), power)
                                       : _mm512_sub_ps(_mm512_castsi512_ps(sum[r][p]), power);
                    __m512 d = _mm512_load_ps(panel->d[h][b][k][p]);
                    acc[r][p] = _mm512_fmadd_ps(value, d, acc[r][p]);
                }
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const struct ingle_act_tail *tail = ingle_mm_tail(two, x[r]);
#pragma GCC unroll 2
            for (int p = 0; p < PAIR; p++) {
                if (min && !halves) {
                    __m512 m = _mm512_load_ps(panel->m[0][b][p]);
                    acc[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), m, acc[r][p]);
                } else if (min) {
                    __m512 m0 = _mm512_load_ps(panel->m[0][b][p]);
                    __m512 m1 = _mm512_load_ps(panel->m[1][b][p]);
                    __m512 sum0 = _mm512_set1_ps((float)tail->bias0 * tail->scale);
                    __m512 sum1 = _mm512_set1_ps((float)(tail->bias - tail->bias0) * tail->scale);
                    acc[r][p] = _mm512_fmadd_ps(sum0, m0, acc[r][p]);
                    acc[r][p] = _mm512_fmadd_ps(sum1, m1, acc[r][p]);
                }
            }
            x[r] += group_bytes;
        }
    }
    end_rows(group, rows, acc);
    ingle_mm_fetch_next(group, 0, 1);
}

/* ---- floats ---- */

INGLE_INLINE void decode_tile_float(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const struct ingle_wform form = ingle_wform(type);
    const uint32_t side = decode->side;
    struct panel_float *panel = decode->panel;
    const __m512i byte = _mm512_set1_epi32(255), zero = _mm512_set1_epi32(form.zero);
    if (form.scale == INGLE_WS_FLOAT) {
        for (uint32_t c = 0; c < decode->n; c++) {
            _mm512_store_ps(panel->w[c][side],
                            tile_float_avx512(type, decode->tile, decode->first + c));
        }
        return;
    }
    for (uint32_t b = 0; b < decode->n / INGLE_BLOCK_COLS; b++) {
        const uint32_t block = decode->first / INGLE_BLOCK_COLS + b;
        __m512i w[8];
        __m512 d[2], m[2];
        tile_codes_avx512(type, decode->tile, &decode->shape, block, w);
        tile_scales_avx512(type, decode->tile, &decode->shape, block, d, m);
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            const int h = ingle_mm_halves(type) ? s / 4 : 0;
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                __m512i code = _mm512_and_si512(_mm512_srli_epi32(w[s], 8 * (unsigned)j), byte);
                __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zero));
                value = _mm512_mul_ps(value, d[h]);
                value = form.min ? _mm512_add_ps(value, m[h]) : value;
                _mm512_store_ps(panel->w[INGLE_BLOCK_COLS * b + 4 * s + j][side], value);
            }
        }
    }
}

INGLE_INLINE void group_panel_float(const int rows, const struct ingle_mm_group *group)
{
    const struct panel_float *panel = group->panel;
    const float *x[GROUP_FLOAT];
    __m512 acc[GROUP_FLOAT][PAIR];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        x[r] = (const float *)(const void *)(group->x + (uint64_t)r * group->x_stride);
        acc[r][0] = group->first ? _mm512_setzero_ps() : _mm512_load_ps(group->acc + 32 * r);
        acc[r][1] = group->first ? _mm512_setzero_ps() : _mm512_load_ps(group->acc + 32 * r + 16);
    }
    for (uint32_t c = 0; c < group->n; c++) {
        __m512 w0 = _mm512_load_ps(panel->w[c][0]);
        __m512 w1 = _mm512_load_ps(panel->w[c][1]);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_set1_ps(x[r][c]);
            acc[r][0] = _mm512_add_ps(acc[r][0], _mm512_mul_ps(w0, value));
            acc[r][1] = _mm512_add_ps(acc[r][1], _mm512_mul_ps(w1, value));
        }
    }
    end_rows(group, rows, acc);
}

/* ---- instances ---- */

#define FEW_INSTANCES(type)           \
    INGLE_MM_FEW_INSTANCE(type, 0, 1) \
    INGLE_MM_FEW_INSTANCE(type, 0, 2) \
    INGLE_MM_FEW_INSTANCE(type, 0, 3) \
    INGLE_MM_FEW_INSTANCE(type, 0, 4) \
    INGLE_MM_FEW_INSTANCE(type, 0, 6) \
    INGLE_MM_FEW_INSTANCE(type, 0, 8) \
    INGLE_MM_FEW_INSTANCE(type, 1, 1) \
    INGLE_MM_FEW_INSTANCE(type, 1, 2) \
    INGLE_MM_FEW_INSTANCE(type, 1, 3) \
    INGLE_MM_FEW_INSTANCE(type, 1, 4) \
    INGLE_MM_FEW_INSTANCE(type, 1, 6) \
    INGLE_MM_FEW_INSTANCE(type, 1, 8)
INGLE_MM_QUANTISED(FEW_INSTANCES)

static ingle_mm_few_fn *few_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
#define FEW_ROWS(type, two)                                                         \
    {                                                                               \
        few_##type##_##two##_1, few_##type##_##two##_2, few_##type##_##two##_3,     \
            few_##type##_##two##_4, few_##type##_##two##_6, few_##type##_##two##_6, \
            few_##type##_##two##_8, few_##type##_##two##_8                          \
    }
#define FEW_ENTRY(type) [INGLE_W_##type] = {FEW_ROWS(type, 0), FEW_ROWS(type, 1)},
    static ingle_mm_few_fn *const fns[INGLE_W_COUNT][2][FEW] = {INGLE_MM_QUANTISED(FEW_ENTRY)};
    return fns[type][two][rows - 1];
}

INGLE_MM_DECODE_FN()

#define DECODE_FLOAT_INSTANCE(type)                                       \
    static void decode_float_##type(const struct ingle_mm_decode *decode) \
    {                                                                     \
        decode_tile_float(INGLE_W_##type, decode);                        \
    }
INGLE_MM_ALL(DECODE_FLOAT_INSTANCE)

static ingle_mm_decode_fn *decode_float_fn(enum ingle_wtype type)
{
#define DECODE_FLOAT_ENTRY(type) [INGLE_W_##type] = decode_float_##type,
    static ingle_mm_decode_fn *const fns[INGLE_W_COUNT] = {INGLE_MM_ALL(DECODE_FLOAT_ENTRY)};
    return fns[type];
}

#define GROUP_INSTANCE(two, halves, min, rows)                                        \
    static void group_##two##halves##min##_##rows(const struct ingle_mm_group *group) \
    {                                                                                 \
        group_panel(two, halves, min, rows, group);                                   \
    }
#define GROUP_INSTANCES(two, halves, min) \
    GROUP_INSTANCE(two, halves, min, 1)   \
    GROUP_INSTANCE(two, halves, min, 2)   \
    GROUP_INSTANCE(two, halves, min, 3)   \
    GROUP_INSTANCE(two, halves, min, 4)   \
    GROUP_INSTANCE(two, halves, min, 5)   \
    GROUP_INSTANCE(two, halves, min, 6)
GROUP_INSTANCES(0, 0, 0)
GROUP_INSTANCES(0, 0, 1)
GROUP_INSTANCES(0, 1, 0)
GROUP_INSTANCES(0, 1, 1)
GROUP_INSTANCES(1, 0, 0)
GROUP_INSTANCES(1, 0, 1)
GROUP_INSTANCES(1, 1, 0)
GROUP_INSTANCES(1, 1, 1)

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
#define GROUP_ROWS(two, halves, min)                                                              \
    {                                                                                             \
        group_##two##halves##min##_1, group_##two##halves##min##_2, group_##two##halves##min##_3, \
            group_##two##halves##min##_4, group_##two##halves##min##_5,                           \
            group_##two##halves##min##_6                                                          \
    }
    static ingle_mm_group_fn *const fns[2][2][2][GROUP] = {
        {{GROUP_ROWS(0, 0, 0), GROUP_ROWS(0, 0, 1)}, {GROUP_ROWS(0, 1, 0), GROUP_ROWS(0, 1, 1)}},
        {{GROUP_ROWS(1, 0, 0), GROUP_ROWS(1, 0, 1)}, {GROUP_ROWS(1, 1, 0), GROUP_ROWS(1, 1, 1)}}};
    return fns[two][ingle_mm_halves(type)][ingle_wform(type).min][rows - 1];
}

#define GROUP_FLOAT_INSTANCE(rows)                                     \
    static void group_float_##rows(const struct ingle_mm_group *group) \
    {                                                                  \
        group_panel_float(rows, group);                                \
    }
GROUP_FLOAT_INSTANCE(1)
GROUP_FLOAT_INSTANCE(2)
GROUP_FLOAT_INSTANCE(3)
GROUP_FLOAT_INSTANCE(4)
GROUP_FLOAT_INSTANCE(5)
GROUP_FLOAT_INSTANCE(6)
GROUP_FLOAT_INSTANCE(7)
GROUP_FLOAT_INSTANCE(8)

static ingle_mm_group_fn *group_float_fn(uint32_t rows)
{
    static ingle_mm_group_fn *const fns[GROUP_FLOAT] = {group_float_1, group_float_2, group_float_3,
                                                        group_float_4, group_float_5, group_float_6,
                                                        group_float_7, group_float_8};
    return fns[rows - 1];
}

void ingle_matmul_avx512(const struct ingle_op *op, const struct ingle_worker *worker)
{
    static const struct ingle_mm_isa isa = {.pair = PAIR,
                                            .blocks = BLOCKS,
                                            .few = FEW,
                                            .few_max = INGLE_FEW_ROWS,
                                            .group_float = GROUP_FLOAT,
                                            .group = GROUP,
                                            .few_fn = few_fn,
                                            .decode_fn = decode_fn,
                                            .group_fn = group_fn,
                                            .decode_float_fn = decode_float_fn,
                                            .group_float_fn = group_float_fn,
                                            .glu_put = ingle_glu_put_avx512};
    ingle_mm_run(&isa, op, worker);
}
