/* The matrix product with AVX-512 VNNI. Three ways through it, all of which do the arithmetic of
 * ref/matmul.c:
 *
 *   few rows   one pass over the packed weights: a block is taken apart in registers and multiplied
 *              with every row (up to FEW) before the next; the following tile is prefetched
 *   many rows  two tiles and PANEL_BLOCKS blocks are decoded once into the scratch, as bytes with
 *              zero point 128 (or 0 with minima) and f32 scales; then groups of up to GROUP rows
 *              run over that panel, which stays in the first-level cache
 *   floats     the same with a panel of f32 weights, for float weights or float activations
 *
 * Tiles (in pairs for many rows) are divided among the workers. */
#include <string.h>

#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/work.h"
#include "kernels/x86/tile_avx512.h"

enum {
    FEW = 4,           /* rows up to which weights are decoded in registers */
    PAIR = 2,          /* tiles of a panel */
    GROUP = 6,         /* rows of a register tile: 2 x 6 integer and 2 x 6 float accumulators */
    GROUP_HALVES = 4,  /* the same where each half of a block has its own scale */
    GROUP_FLOAT = 8,   /* rows of a register tile of floats */
    PANEL_BLOCKS = 16, /* 512 columns: 16 KiB of codes */
    ROWS_MAX = 1024    /* rows whose partial sums fit the scratch */
};

/* ---- few rows ---- */

/* What one call of a few-rows kernel does: tiles [from, to) of one matrix. */
struct few {
    const struct ingle_arg_matmul *arg;
    uint32_t i; /* matrix */
    uint64_t from, to;
};

INGLE_INLINE const struct ingle_act_tail *act_tail(bool two, const uint8_t *group)
{
    return (const struct ingle_act_tail *)(const void *)(group + (two ? 64 : 32));
}

/* The integer a sum starts from: -zero times the sum of the row's codes. */
INGLE_INLINE __m512i bias_start(struct ingle_wform form, int32_t bias)
{
    int shift = form.zero == 128  ? 0
                : form.zero == 32 ? 2
                : form.zero == 16 ? 3
                : form.zero == 8  ? 4
                                  : 5;
    return form.zero ? _mm512_srai_epi32(_mm512_set1_epi32(bias), (unsigned)shift)
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

/* acc + s * t for one row, one block and one tile. */
INGLE_INLINE __m512 block_row(enum ingle_wtype type, bool two, const uint8_t *x, const __m512i w[8],
                              const __m512 d[2], const __m512 m[2], __m512 acc)
{
    const struct ingle_wform form = ingle_wform(type);
    const bool halves = form.scale == INGLE_WS_K16 || form.scale == INGLE_WS_K16M;
    const struct ingle_act_tail *tail = act_tail(two, x);
    __m512 t;
    if (halves) {
        __m512i first = block_sum(two, x, w, 0, 4, bias_start(form, tail->bias0));
        __m512i last = block_sum(two, x, w, 4, 8, bias_start(form, tail->bias - tail->bias0));
        t = _mm512_mul_ps(_mm512_cvtepi32_ps(first), d[0]);
        t = _mm512_fmadd_ps(_mm512_cvtepi32_ps(last), d[1], t);
        if (form.min) {
            float sum0 = (float)tail->bias0 * -0.0078125f;
            float sum1 = (float)(tail->bias - tail->bias0) * -0.0078125f;
            t = _mm512_fmadd_ps(_mm512_set1_ps(sum0), m[0], t);
            t = _mm512_fmadd_ps(_mm512_set1_ps(sum1), m[1], t);
        }
    } else {
        __m512i sum = block_sum(two, x, w, 0, 8, bias_start(form, tail->bias));
        t = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), d[0]);
        if (form.min) {
            t = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), m[0], t);
        }
    }
    return _mm512_fmadd_ps(t, _mm512_set1_ps(tail->scale), acc);
}

INGLE_INLINE void store_tile(const struct ingle_arg_matmul *arg, uint32_t i, uint64_t tile,
                             uint32_t row, __m512 acc)
{
    uint64_t n0 = tile * INGLE_TILE_ROWS, left = arg->w[i].rows - n0;
    __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1u);
    if (arg->bias[i]) {
        acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(mask, arg->bias[i] + n0));
    }
    _mm512_mask_storeu_ps(arg->y[i] + row * arg->y_stride[i] + n0, mask, acc);
}

INGLE_INLINE void few_rows(enum ingle_wtype type, bool two, const uint32_t rows,
                           const struct few *few)
{
    const struct ingle_arg_matmul *arg = few->arg;
    const struct ingle_matrix *matrix = &arg->w[few->i];
    const struct ingle_tile_shape shape = ingle_tile_shape(type, matrix->cols);
    const uint64_t group_bytes = two ? sizeof(struct ingle_act16) : sizeof(struct ingle_act8);
    const uint64_t ahead = (shape.bytes / shape.blocks + 63) / 64 * 64;
    const uint8_t *x[FEW];
    for (uint32_t r = 0; r < rows; r++) {
        /* Beyond the last row: compute it again, store nothing. */
        uint32_t row = r < arg->T ? r : arg->T - 1;
        x[r] = arg->x->rows + row * arg->x->row_stride;
    }
    for (uint64_t t = few->from; t < few->to; t++) {
        const uint8_t *tile = matrix->data + t * shape.bytes;
        const uint8_t *next = tile + (t + 1 < few->to ? shape.bytes : 0);
        __m512 acc[FEW];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            acc[r] = _mm512_setzero_ps();
        }
        for (uint32_t b = 0; b < shape.blocks; b++) {
            __m512i w[8];
            __m512 d[2], m[2];
            for (uint64_t line = 0; line < ahead; line += 64) {
                __builtin_prefetch(next + line, 0, 2);
            }
            next += ahead;
            tile_codes_avx512(type, tile, &shape, b, w);
            tile_scales_avx512(type, tile, &shape, b, d, m);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++) {
                acc[r] = block_row(type, two, x[r] + b * group_bytes, w, d, m, acc[r]);
            }
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < rows; r++) {
            if (r < arg->T) {
                store_tile(arg, few->i, t, r, acc[r]);
            }
        }
    }
}

/* ---- many rows ---- */

/* Two tiles, PANEL_BLOCKS blocks: integers. */
struct panel {
    uint8_t codes[PANEL_BLOCKS][8][PAIR][64];
    float d[PANEL_BLOCKS][2][PAIR][16], m[PANEL_BLOCKS][2][PAIR][16];
};

/* The same of floats: [columns][PAIR][16]. */
struct panel_float {
    float w[PANEL_BLOCKS * INGLE_BLOCK_COLS][PAIR][16];
};

struct many_scratch {
    float acc[ROWS_MAX][PAIR][16]; /* partial sums between two panels */
    float x[GROUP_FLOAT][PANEL_BLOCKS * INGLE_BLOCK_COLS];
    union {
        struct panel panel;
        struct panel_float panel_float;
    };
};
static_assert(sizeof(struct many_scratch) <= INGLE_SCRATCH_BYTES, "fits a worker's scratch");

INGLE_INLINE void decode_tile(enum ingle_wtype type, const uint8_t *tile,
                              const struct ingle_tile_shape *shape, uint32_t block0,
                              uint32_t n_blocks, uint32_t side, struct panel *panel)
{
    const struct ingle_wform form = ingle_wform(type);
    const bool halves = form.scale == INGLE_WS_K16 || form.scale == INGLE_WS_K16M;
    const __m512i lift = _mm512_set1_epi8((char)(128 - form.zero));
    for (uint32_t b = 0; b < n_blocks; b++) {
        __m512i w[8];
        __m512 d[2], m[2];
        tile_codes_avx512(type, tile, shape, block0 + b, w);
        tile_scales_avx512(type, tile, shape, block0 + b, d, m);
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
            _mm512_store_ps(panel->d[b][h][side], d[h]);
            if (form.min) {
                /* Halves: the sums at hand are -128 times what m belongs to. */
                __m512 scaled = _mm512_mul_ps(m[h], _mm512_set1_ps(-0.0078125f));
                _mm512_store_ps(panel->m[b][h][side], halves ? scaled : m[h]);
            }
        }
    }
}

struct group {
    const struct panel *panel;
    const uint8_t *x; /* first row's activations at the panel's first column */
    uint64_t x_stride;
    float (*acc)[PAIR][16];
    uint32_t n_blocks;
};

/* `rows` rows times a panel. */
INGLE_INLINE void group_panel(bool two, bool halves, bool min, const int rows,
                              const struct group *group)
{
    const uint64_t group_bytes = two ? sizeof(struct ingle_act16) : sizeof(struct ingle_act8);
    const uint8_t *x[GROUP];
    __m512 acc[GROUP][PAIR];
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        x[r] = group->x + (uint64_t)r * group->x_stride;
#pragma GCC unroll 2
        for (int p = 0; p < PAIR; p++) {
            acc[r][p] = _mm512_load_ps(group->acc[r][p]);
        }
    }
    for (uint32_t b = 0; b < group->n_blocks; b++) {
        __m512 t[GROUP][PAIR];
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
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    const struct ingle_act_tail *tail = act_tail(two, x[r]);
                    __m512i start = _mm512_setzero_si512();
                    if (!min && plane == 1) {
                        start = !halves  ? _mm512_set1_epi32(tail->bias)
                                : h == 0 ? _mm512_set1_epi32(tail->bias0)
                                         : _mm512_sub_epi32(_mm512_set1_epi32(tail->bias),
                                                            _mm512_set1_epi32(tail->bias0));
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
                    __m512i w0 = _mm512_load_si512(group->panel->codes[b][s][0]);
                    __m512i w1 = _mm512_load_si512(group->panel->codes[b][s][1]);
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
#pragma GCC unroll 2
            for (int p = 0; p < PAIR; p++) {
                __m512 d = _mm512_load_ps(group->panel->d[b][h][p]);
#pragma GCC unroll 6
                for (int r = 0; r < rows; r++) {
                    __m512 value = _mm512_cvtepi32_ps(sum[r][p]);
                    t[r][p] = h == 0 ? _mm512_mul_ps(value, d) : _mm512_fmadd_ps(value, d, t[r][p]);
                }
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            const struct ingle_act_tail *tail = act_tail(two, x[r]);
            __m512 scale = _mm512_set1_ps(tail->scale);
#pragma GCC unroll 2
            for (int p = 0; p < PAIR; p++) {
                if (min && !halves) {
                    __m512 m = _mm512_load_ps(group->panel->m[b][0][p]);
                    t[r][p] = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), m, t[r][p]);
                } else if (min) {
                    __m512 m0 = _mm512_load_ps(group->panel->m[b][0][p]);
                    __m512 m1 = _mm512_load_ps(group->panel->m[b][1][p]);
                    __m512 sum0 = _mm512_set1_ps((float)tail->bias0);
                    __m512 sum1 = _mm512_set1_ps((float)(tail->bias - tail->bias0));
                    t[r][p] = _mm512_fmadd_ps(sum0, m0, t[r][p]);
                    t[r][p] = _mm512_fmadd_ps(sum1, m1, t[r][p]);
                }
                acc[r][p] = _mm512_fmadd_ps(t[r][p], scale, acc[r][p]);
            }
            x[r] += group_bytes;
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 2
        for (int p = 0; p < PAIR; p++) {
            _mm512_store_ps(group->acc[r][p], acc[r][p]);
        }
    }
}

/* ---- floats ---- */

INGLE_INLINE void decode_tile_float(enum ingle_wtype type, const uint8_t *tile,
                                    const struct ingle_tile_shape *shape, uint32_t col0,
                                    uint32_t n_cols, uint32_t side, struct panel_float *panel)
{
    const struct ingle_wform form = ingle_wform(type);
    const __m512i byte = _mm512_set1_epi32(255), zero = _mm512_set1_epi32(form.zero);
    if (form.scale == INGLE_WS_FLOAT) {
        for (uint32_t c = 0; c < n_cols; c++) {
            _mm512_store_ps(panel->w[c][side], tile_float_avx512(type, tile, col0 + c));
        }
        return;
    }
    for (uint32_t b = 0; b < n_cols / INGLE_BLOCK_COLS; b++) {
        const bool halves = form.scale == INGLE_WS_K16 || form.scale == INGLE_WS_K16M;
        __m512i w[8];
        __m512 d[2], m[2];
        tile_codes_avx512(type, tile, shape, col0 / INGLE_BLOCK_COLS + b, w);
        tile_scales_avx512(type, tile, shape, col0 / INGLE_BLOCK_COLS + b, d, m);
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            const int h = halves ? s / 4 : 0;
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

struct group_float {
    const struct panel_float *panel;
    const float *x;
    uint64_t x_stride; /* floats */
    float (*acc)[PAIR][16];
    uint32_t n_cols;
};

INGLE_INLINE void group_panel_float(const int rows, const struct group_float *group)
{
    const float *x[GROUP_FLOAT];
    __m512 acc[GROUP_FLOAT][PAIR];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        x[r] = group->x + (uint64_t)r * group->x_stride;
        acc[r][0] = _mm512_load_ps(group->acc[r][0]);
        acc[r][1] = _mm512_load_ps(group->acc[r][1]);
    }
    for (uint32_t c = 0; c < group->n_cols; c++) {
        __m512 w0 = _mm512_load_ps(group->panel->w[c][0]);
        __m512 w1 = _mm512_load_ps(group->panel->w[c][1]);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            __m512 value = _mm512_set1_ps(x[r][c]);
            acc[r][0] = _mm512_add_ps(acc[r][0], _mm512_mul_ps(w0, value));
            acc[r][1] = _mm512_add_ps(acc[r][1], _mm512_mul_ps(w1, value));
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        _mm512_store_ps(group->acc[r][0], acc[r][0]);
        _mm512_store_ps(group->acc[r][1], acc[r][1]);
    }
}

/* ---- instances ---- */

#define QUANTISED(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL)
#define ALL_TYPES(X) X(F32) X(F16) X(BF16) QUANTISED(X)

#define FEW_INSTANCE(type, two, rows)                              \
    static void few_##type##_##two##_##rows(const struct few *few) \
    {                                                              \
        few_rows(INGLE_W_##type, two, rows, few);                  \
    }
#define FEW_INSTANCES(type)  \
    FEW_INSTANCE(type, 0, 1) \
    FEW_INSTANCE(type, 0, 2) \
    FEW_INSTANCE(type, 0, 4) \
    FEW_INSTANCE(type, 1, 1) \
    FEW_INSTANCE(type, 1, 2) \
    FEW_INSTANCE(type, 1, 4)
QUANTISED(FEW_INSTANCES)

/* [type][INT16][1, 2, 3 to 4 rows] */
typedef void few_fn(const struct few *few);
#define FEW_ENTRY(type)                                                         \
    [INGLE_W_##type] = {{few_##type##_0_1, few_##type##_0_2, few_##type##_0_4}, \
                        {few_##type##_1_1, few_##type##_1_2, few_##type##_1_4}},
static few_fn *const few_fns[INGLE_W_COUNT][2][3] = {QUANTISED(FEW_ENTRY)};

#define DECODE_INSTANCE(type)                                                            \
    static void decode_##type(const uint8_t *tile, const struct ingle_tile_shape *shape, \
                              uint32_t block0, uint32_t n_blocks, uint32_t side,         \
                              struct panel *panel)                                       \
    {                                                                                    \
        decode_tile(INGLE_W_##type, tile, shape, block0, n_blocks, side, panel);         \
    }
QUANTISED(DECODE_INSTANCE)

typedef void decode_fn(const uint8_t *tile, const struct ingle_tile_shape *shape, uint32_t block0,
                       uint32_t n_blocks, uint32_t side, struct panel *panel);
#define DECODE_ENTRY(type) [INGLE_W_##type] = decode_##type,
static decode_fn *const decode_fns[INGLE_W_COUNT] = {QUANTISED(DECODE_ENTRY)};

#define DECODE_FLOAT_INSTANCE(type)                                                            \
    static void decode_float_##type(const uint8_t *tile, const struct ingle_tile_shape *shape, \
                                    uint32_t col0, uint32_t n_cols, uint32_t side,             \
                                    struct panel_float *panel)                                 \
    {                                                                                          \
        decode_tile_float(INGLE_W_##type, tile, shape, col0, n_cols, side, panel);             \
    }
ALL_TYPES(DECODE_FLOAT_INSTANCE)

typedef void decode_float_fn(const uint8_t *tile, const struct ingle_tile_shape *shape,
                             uint32_t col0, uint32_t n_cols, uint32_t side,
                             struct panel_float *panel);
#define DECODE_FLOAT_ENTRY(type) [INGLE_W_##type] = decode_float_##type,
static decode_float_fn *const decode_float_fns[INGLE_W_COUNT] = {ALL_TYPES(DECODE_FLOAT_ENTRY)};

#define GROUP_INSTANCE(two, halves, min, rows)                               \
    static void group_##two##halves##min##_##rows(const struct group *group) \
    {                                                                        \
        group_panel(two, halves, min, rows, group);                          \
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

/* [INT16][halves][minima][rows - 1] */
typedef void group_fn(const struct group *group);
#define GROUP_ENTRY(two, halves, min)                                                             \
    {                                                                                             \
        group_##two##halves##min##_1, group_##two##halves##min##_2, group_##two##halves##min##_3, \
            group_##two##halves##min##_4, group_##two##halves##min##_5,                           \
            group_##two##halves##min##_6                                                          \
    }
static group_fn *const group_fns[2][2][2][GROUP] = {
    {{GROUP_ENTRY(0, 0, 0), GROUP_ENTRY(0, 0, 1)}, {GROUP_ENTRY(0, 1, 0), GROUP_ENTRY(0, 1, 1)}},
    {{GROUP_ENTRY(1, 0, 0), GROUP_ENTRY(1, 0, 1)}, {GROUP_ENTRY(1, 1, 0), GROUP_ENTRY(1, 1, 1)}}};

#define GROUP_FLOAT_INSTANCE(rows)                                  \
    static void group_float_##rows(const struct group_float *group) \
    {                                                               \
        group_panel_float(rows, group);                             \
    }
GROUP_FLOAT_INSTANCE(1)
GROUP_FLOAT_INSTANCE(2)
GROUP_FLOAT_INSTANCE(3)
GROUP_FLOAT_INSTANCE(4)
GROUP_FLOAT_INSTANCE(5)
GROUP_FLOAT_INSTANCE(6)
GROUP_FLOAT_INSTANCE(7)
GROUP_FLOAT_INSTANCE(8)

typedef void group_float_fn(const struct group_float *group);
static group_float_fn *const group_float_fns[GROUP_FLOAT] = {group_float_1, group_float_2,
                                                             group_float_3, group_float_4,
                                                             group_float_5, group_float_6,
                                                             group_float_7, group_float_8};

/* ---- drivers ---- */

/* One pair of tiles against rows [row0, row0 + n_rows). */
struct pair {
    const struct ingle_arg_matmul *arg;
    struct many_scratch *scratch;
    uint32_t i, row0, n_rows;
    uint64_t tile;
};

/* Rows of the next group: `left` rows in groups of nearly equal size, none above max. */
static uint32_t group_rows(uint32_t left, uint32_t max)
{
    uint32_t groups = (left + max - 1) / max;
    return (left + groups - 1) / groups;
}

static void pair_int(const struct pair *pair)
{
    const struct ingle_matrix *w = &pair->arg->w[pair->i];
    const struct ingle_act *x = pair->arg->x;
    const struct ingle_wform form = ingle_wform(w->type);
    const struct ingle_tile_shape shape = ingle_tile_shape(w->type, w->cols);
    const bool two = x->mode == INGLE_ACT_INT16;
    const bool halves = form.scale == INGLE_WS_K16 || form.scale == INGLE_WS_K16M;
    const uint64_t group_bytes = two ? sizeof(struct ingle_act16) : sizeof(struct ingle_act8);
    const uint64_t last = ingle_tiles(w->rows) - 1;
    for (uint32_t b = 0; b < shape.blocks; b += PANEL_BLOCKS) {
        uint32_t n_blocks = shape.blocks - b < PANEL_BLOCKS ? shape.blocks - b : PANEL_BLOCKS;
        for (uint32_t p = 0; p < PAIR; p++) {
            uint64_t tile = pair->tile + p < last ? pair->tile + p : last;
            decode_fns[w->type](w->data + tile * shape.bytes, &shape, b, n_blocks, p,
                                &pair->scratch->panel);
        }
        for (uint32_t r = 0, n; r < pair->n_rows; r += n) {
            n = group_rows(pair->n_rows - r, halves ? GROUP_HALVES : GROUP);
            struct group group = {.panel = &pair->scratch->panel,
                                  .x = x->rows + (pair->row0 + r) * x->row_stride + b * group_bytes,
                                  .x_stride = x->row_stride,
                                  .acc = pair->scratch->acc + r,
                                  .n_blocks = n_blocks};
            group_fns[two][halves][form.min][n - 1](&group);
        }
    }
}

/* Rows of activations as f32: where they are, or multiplied out into a buffer. */
static const float *float_rows(const struct ingle_act *x, uint32_t row, uint32_t n_rows,
                               uint32_t col0, uint32_t n_cols, float *buffer, uint64_t *ret_stride)
{
    if (x->mode == INGLE_ACT_F32) {
        *ret_stride = x->row_stride / sizeof(float);
        return (const float *)(const void *)(x->rows + row * x->row_stride) + col0;
    }
    const bool two = x->mode == INGLE_ACT_INT16;
    const uint64_t group_bytes = two ? sizeof(struct ingle_act16) : sizeof(struct ingle_act8);
    *ret_stride = PANEL_BLOCKS * INGLE_BLOCK_COLS;
    for (uint32_t r = 0; r < n_rows; r++) {
        const uint8_t *group =
            x->rows + (row + r) * x->row_stride + col0 / INGLE_ACT_GROUP * group_bytes;
        float *out = buffer + r * *ret_stride;
        for (uint32_t c = 0; c < n_cols; c += 16) {
            const uint8_t *from = group + c / INGLE_ACT_GROUP * group_bytes;
            const __m128i *codes = (const __m128i *)(const void *)(from + c % INGLE_ACT_GROUP);
            __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128(codes));
            if (two) {
                q = _mm512_add_epi32(_mm512_slli_epi32(q, 7),
                                     _mm512_cvtepi8_epi32(_mm_loadu_si128(codes + 2)));
            }
            __m512 scale = _mm512_set1_ps(act_tail(two, from)->scale);
            _mm512_storeu_ps(out + c, _mm512_mul_ps(scale, _mm512_cvtepi32_ps(q)));
        }
    }
    return buffer;
}

static void pair_float(const struct pair *pair)
{
    const struct ingle_matrix *w = &pair->arg->w[pair->i];
    const struct ingle_tile_shape shape = ingle_tile_shape(w->type, w->cols);
    const uint64_t last = ingle_tiles(w->rows) - 1;
    const uint32_t panel_cols = PANEL_BLOCKS * INGLE_BLOCK_COLS;
    for (uint32_t c = 0; c < w->cols; c += panel_cols) {
        uint32_t n_cols = w->cols - c < panel_cols ? w->cols - c : panel_cols;
        for (uint32_t p = 0; p < PAIR; p++) {
            uint64_t tile = pair->tile + p < last ? pair->tile + p : last;
            decode_float_fns[w->type](w->data + tile * shape.bytes, &shape, c, n_cols, p,
                                      &pair->scratch->panel_float);
        }
        for (uint32_t r = 0, n; r < pair->n_rows; r += n) {
            n = group_rows(pair->n_rows - r, GROUP_FLOAT);
            struct group_float group = {.panel = &pair->scratch->panel_float,
                                        .acc = pair->scratch->acc + r,
                                        .n_cols = n_cols};
            group.x = float_rows(pair->arg->x, pair->row0 + r, n, c, n_cols, pair->scratch->x[0],
                                 &group.x_stride);
            group_float_fns[n - 1](&group);
        }
    }
}

static void pair_rows(const struct pair *pair, uint64_t end)
{
    const struct ingle_arg_matmul *arg = pair->arg;
    memset(pair->scratch->acc, 0, pair->n_rows * sizeof pair->scratch->acc[0]);
    if (arg->x->mode == INGLE_ACT_F32 || ingle_wtype_is_float(arg->w[pair->i].type)) {
        pair_float(pair);
    } else {
        pair_int(pair);
    }
    for (uint32_t r = 0; r < pair->n_rows; r++) {
        for (uint32_t p = 0; p < PAIR && pair->tile + p < end; p++) {
            store_tile(arg, pair->i, pair->tile + p, pair->row0 + r,
                       _mm512_load_ps(pair->scratch->acc[r][p]));
        }
    }
}

/* Tiles [from, to) of matrix i, all rows. */
static void tiles_rows(const struct ingle_arg_matmul *arg, uint32_t i, uint64_t from, uint64_t to,
                       uint8_t *scratch)
{
    const struct ingle_matrix *w = &arg->w[i];
    if (arg->T <= FEW && arg->x->mode != INGLE_ACT_F32 && !ingle_wtype_is_float(w->type)) {
        struct few few = {arg, i, from, to};
        few_fns[w->type][arg->x->mode == INGLE_ACT_INT16][arg->T == 1   ? 0
                                                          : arg->T == 2 ? 1
                                                                        : 2](&few);
        return;
    }
    for (uint32_t row = 0; row < arg->T; row += ROWS_MAX) {
        for (uint64_t tile = from; tile < to; tile += PAIR) {
            struct pair pair = {.arg = arg,
                                .scratch = (struct many_scratch *)(void *)scratch,
                                .i = i,
                                .row0 = row,
                                .n_rows = arg->T - row < ROWS_MAX ? arg->T - row : ROWS_MAX,
                                .tile = tile};
            pair_rows(&pair, to);
        }
    }
}

void ingle_matmul_avx512(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    uint64_t total = 0, before = 0;
    if (arg->T == 0) {
        return;
    }
    /* Shares begin at even tiles, so that many rows find whole pairs. */
    for (uint32_t i = 0; i < arg->n_w; i++) {
        assert(arg->w[i].cols == arg->x->cols);
        total += (ingle_tiles(arg->w[i].rows) + 1) / PAIR;
    }
    struct ingle_share share = ingle_share(total, worker);
    for (uint32_t i = 0; i < arg->n_w; i++) {
        uint64_t tiles = ingle_tiles(arg->w[i].rows), pairs = (tiles + 1) / PAIR;
        uint64_t from = share.from > before ? share.from - before : 0;
        uint64_t to = share.to > before ? share.to - before : 0;
        from = from < pairs ? from : pairs;
        to = to < pairs ? to : pairs;
        if (from < to) {
            tiles_rows(arg, i, from * PAIR, to * PAIR < tiles ? to * PAIR : tiles, worker->scratch);
        }
        before += pairs;
    }
}
