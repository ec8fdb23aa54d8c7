/* The kernels of a matrix product with integer activations in registers of 256 bits, for an
 * instruction set that includes this file and defines what differs: codes as its block sum wants
 * them, and that sum. A panel holds one tile; a group works on the tile's two halves of eight rows
 * one after the other. ref/matmul.c states the arithmetic, matmul.h the two ways. */
#ifndef INGLE_KERNELS_X86_MATMUL_YMM_H
#define INGLE_KERNELS_X86_MATMUL_YMM_H
#include <string.h>

#include "kernels/isa.h"
#include "kernels/x86/matmul.h"
#include "kernels/x86/tile_avx2.h"

enum {
    FEW = 4,
    GROUP = 4,   /* rows of a group of codes */
    BLOCKS = 16, /* of a panel: 8 KiB of codes */
};

/* ---- what the including file defines ---- */

/* Columns 4 s .. 4 s + 3 of half a block, for block_sum(). */
INGLE_INLINE __m256i block_codes(enum ingle_wtype type, const uint8_t *tile,
                                 const struct ingle_tile_shape *shape, uint32_t b, int half, int s);
/* The sum of (code - zero) * q over steps [s0, s1) of a block: w codes, x one group of activations,
 * bias -128 times the sum of its q. */
INGLE_INLINE __m256i block_sum(enum ingle_wtype type, bool two, const uint8_t *x, const __m256i *w,
                               int s0, int s1, int32_t bias);

/* ---- a block ---- */

INGLE_INLINE __m256i load_four(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/* acc + one block of one row and half a tile. */
INGLE_INLINE __m256 block_row(enum ingle_wtype type, bool two, const uint8_t *x, const __m256i *w,
                              const __m256 d[2], const __m256 m[2], __m256 acc)
{
    const struct ingle_act_tail *tail = ingle_mm_tail(two, x);
    const bool min = ingle_wform(type).min;
    const __m256 scale = _mm256_set1_ps(tail->scale);
    if (ingle_mm_halves(type)) {
        int32_t bias1 = tail->bias - tail->bias0;
        __m256i first = block_sum(type, two, x, w, 0, 4, tail->bias0);
        __m256i last = block_sum(type, two, x, w, 4, 8, bias1);
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(first), _mm256_mul_ps(d[0], scale), acc);
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(last), _mm256_mul_ps(d[1], scale), acc);
        if (min) {
            float sum0 = (float)tail->bias0 * -0.0078125f * tail->scale;
            float sum1 = (float)bias1 * -0.0078125f * tail->scale;
            acc = _mm256_fmadd_ps(_mm256_set1_ps(sum0), m[0], acc);
            acc = _mm256_fmadd_ps(_mm256_set1_ps(sum1), m[1], acc);
        }
    } else {
        __m256i sum = block_sum(type, two, x, w, 0, 8, tail->bias);
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d[0], scale), acc);
        if (min) {
            acc = _mm256_fmadd_ps(_mm256_set1_ps(tail->sum), m[0], acc);
        }
    }
    return acc;
}

static void store(const struct ingle_mm_out *out, uint64_t row, const float *acc)
{
    float *y = out->y + row * out->stride;
    for (uint32_t n = 0; n < out->n; n++) {
        y[n] = out->bias ? acc[n] + out->bias[n] : acc[n];
    }
}

/* ---- few rows ---- */

INGLE_INLINE void few_rows(enum ingle_wtype type, bool two, const uint32_t rows,
                           const struct ingle_mm_few *few)
{
    const struct ingle_tile_shape shape = few->shape;
    const uint64_t group_bytes = ingle_mm_group_bytes(two);
    const uint8_t *x[FEW];
    __m256 acc[FEW][2];
#pragma GCC unroll 4
    for (uint32_t r = 0; r < rows; r++) {
        /* Beyond the last row: compute it again, store nothing. */
        uint32_t row = few->row0 + r < few->row_end ? few->row0 + r : few->row_end - 1;
        x[r] = few->x->rows + row * few->x->row_stride;
        acc[r][0] = acc[r][1] = _mm256_setzero_ps();
    }
    for (uint32_t b = 0; b < shape.blocks; b++) {
        ingle_mm_fetch(type, few, b);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            __m256i w[8];
            __m256 d[2], m[2];
#pragma GCC unroll 8
            for (int s = 0; s < 8; s++) {
                w[s] = block_codes(type, few->tile, &shape, b, half, s);
            }
            tile_scales_avx2(type, few->tile, &shape, b, half, d, m);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < rows; r++) {
                acc[r][half] = block_row(type, two, x[r] + b * group_bytes, w, d, m, acc[r][half]);
            }
        }
    }
    for (uint32_t r = 0; r < rows && few->row0 + r < few->row_end; r++) {
        _Alignas(32) float sums[INGLE_TILE_ROWS];
        _mm256_store_ps(sums, acc[r][0]);
        _mm256_store_ps(sums + 8, acc[r][1]);
        store(&few->out, few->row0 + r, sums);
    }
}

/* ---- many rows ---- */

struct panel {
    uint8_t codes[2][BLOCKS][8][32]; /* half of the tile's rows first */
    float d[2][BLOCKS][2][8], m[2][BLOCKS][2][8];
};

static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

INGLE_INLINE void decode_tile(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    struct panel *panel = decode->panel;
    for (uint32_t b = 0; b < decode->n; b++) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            __m256 d[2], m[2];
#pragma GCC unroll 8
            for (int s = 0; s < 8; s++) {
                __m256i code =
                    block_codes(type, decode->tile, &decode->shape, decode->first + b, half, s);
                _mm256_store_si256((__m256i *)(void *)panel->codes[half][b][s], code);
            }
            tile_scales_avx2(type, decode->tile, &decode->shape, decode->first + b, half, d, m);
            _mm256_store_ps(panel->d[half][b][0], d[0]);
            if (ingle_mm_halves(type)) {
                _mm256_store_ps(panel->d[half][b][1], d[1]);
            }
            if (ingle_wform(type).min) {
                _mm256_store_ps(panel->m[half][b][0], m[0]);
                if (ingle_mm_halves(type)) {
                    _mm256_store_ps(panel->m[half][b][1], m[1]);
                }
            }
        }
    }
}

/* The sums of a group that end here, from acc to where they go. */
static void end_rows(const struct ingle_mm_group *group, int rows)
{
    for (int r = 0; group->out && r < rows; r++) {
        store(group->out, group->row + (uint64_t)r, group->acc + 16 * r);
    }
}

INGLE_INLINE void group_panel(enum ingle_wtype type, bool two, const int rows,
                              const struct ingle_mm_group *group)
{
    const uint64_t group_bytes = ingle_mm_group_bytes(two);
    const struct panel *panel = group->panel;
    for (int half = 0; half < 2; half++) {
        const uint8_t *x[GROUP];
        __m256 acc[GROUP];
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            x[r] = group->x + (uint64_t)r * group->x_stride;
            acc[r] =
                group->first ? _mm256_setzero_ps() : _mm256_load_ps(group->acc + 16 * r + 8 * half);
        }
        for (uint32_t b = 0; b < group->n; b++) {
            const __m256i *w = (const __m256i *)(const void *)panel->codes[half][b];
            __m256 d[2] = {_mm256_load_ps(panel->d[half][b][0]),
                           _mm256_load_ps(panel->d[half][b][1])};
            __m256 m[2] = {_mm256_load_ps(panel->m[half][b][0]),
                           _mm256_load_ps(panel->m[half][b][1])};
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                acc[r] = block_row(type, two, x[r], w, d, m, acc[r]);
                x[r] += group_bytes;
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            _mm256_store_ps(group->acc + 16 * r + 8 * half, acc[r]);
        }
    }
    end_rows(group, rows);
    ingle_mm_fetch_next(group, 0, 1);
}

/* ---- instances ---- */

#define GROUP_INSTANCE(type, two, rows)                                           \
    static void group_##type##_##two##_##rows(const struct ingle_mm_group *group) \
    {                                                                             \
        group_panel(INGLE_W_##type, two, rows, group);                            \
    }
#define INSTANCES(type)               \
    INGLE_MM_FEW_INSTANCE(type, 0, 1) \
    INGLE_MM_FEW_INSTANCE(type, 0, 2) \
    INGLE_MM_FEW_INSTANCE(type, 0, 4) \
    INGLE_MM_FEW_INSTANCE(type, 1, 1) \
    INGLE_MM_FEW_INSTANCE(type, 1, 2) \
    INGLE_MM_FEW_INSTANCE(type, 1, 4) \
    GROUP_INSTANCE(type, 0, 1)        \
    GROUP_INSTANCE(type, 0, 2)        \
    GROUP_INSTANCE(type, 0, 3)        \
    GROUP_INSTANCE(type, 0, 4)        \
    GROUP_INSTANCE(type, 1, 1)        \
    GROUP_INSTANCE(type, 1, 2)        \
    GROUP_INSTANCE(type, 1, 3)        \
    GROUP_INSTANCE(type, 1, 4)
INGLE_MM_QUANTISED(INSTANCES)
INGLE_MM_DECODE_FN()

static ingle_mm_few_fn *few_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
#define FEW_ROWS(type, two)                                                     \
    {                                                                           \
        few_##type##_##two##_1, few_##type##_##two##_2, few_##type##_##two##_4, \
            few_##type##_##two##_4                                              \
    }
#define FEW_ENTRY(type) [INGLE_W_##type] = {FEW_ROWS(type, 0), FEW_ROWS(type, 1)},
    static ingle_mm_few_fn *const fns[INGLE_W_COUNT][2][FEW] = {INGLE_MM_QUANTISED(FEW_ENTRY)};
    return fns[type][two][rows - 1];
}

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
#define GROUP_ROWS(type, two)                                                         \
    {                                                                                 \
        group_##type##_##two##_1, group_##type##_##two##_2, group_##type##_##two##_3, \
            group_##type##_##two##_4                                                  \
    }
#define GROUP_ENTRY(type) [INGLE_W_##type] = {GROUP_ROWS(type, 0), GROUP_ROWS(type, 1)},
    static ingle_mm_group_fn *const fns[INGLE_W_COUNT][2][GROUP] = {
        INGLE_MM_QUANTISED(GROUP_ENTRY)};
    return fns[type][two][rows - 1];
}

/* Floats: matmul_avx2.c's. */
ingle_mm_decode_fn *ingle_mm_decode_float_avx2(enum ingle_wtype type);
ingle_mm_group_fn *ingle_mm_group_float_avx2(uint32_t rows);
#define INGLE_MM_GROUP_FLOAT_AVX2 4

static const struct ingle_mm_isa mm_isa = {.pair = 1,
                                           .blocks = BLOCKS,
                                           .few = FEW,
                                           .few_max = 8,
                                           .group_float = INGLE_MM_GROUP_FLOAT_AVX2,
                                           .group = GROUP,
                                           .few_fn = few_fn,
                                           .decode_fn = decode_fn,
                                           .group_fn = group_fn,
                                           .decode_float_fn = ingle_mm_decode_float_avx2,
                                           .group_float_fn = ingle_mm_group_float_avx2,
                                           .glu_put = ingle_glu_put_avx2};

#endif
