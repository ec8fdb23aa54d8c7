/* The tile instructions of AMX in plain C, for the twin of matmul_amx.c, as the instruction set's
 * manual defines them. What the processor answers with an invalid instruction fails an assertion:
 * tiles without a configuration, shapes that do not fit one another. */
#ifndef INGLE_TESTS_UNIT_KERNELS_AMX_EMULATED_H
#define INGLE_TESTS_UNIT_KERNELS_AMX_EMULATED_H
#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <immintrin.h>

#include "kernels/half.h"
#include "tests/unit/kernels/twins.h"

struct amx_tile {
    uint32_t rows, row_bytes; /* 0: not configured */
    uint8_t byte[16][64];
};
static _Thread_local struct amx_tile amx_tile[8];

static inline struct amx_tile *amx_configured(int i)
{
    assert(i >= 0 && i < 8 && amx_tile[i].rows != 0);
    return &amx_tile[i];
}

static inline void amx_release(void)
{
    memset(amx_tile, 0, sizeof amx_tile);
}

static inline void amx_loadconfig(const void *config)
{
    const uint8_t *bytes = config;
    assert(bytes[0] == 1 && bytes[1] == 0);
    amx_release();
    for (int i = 0; i < 16; i++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
        uint8_t rows = bytes[48 + i];
        assert(bytes[2 + i % 14] == 0 && rows <= 16 && row_bytes <= 64);
        assert((rows == 0) == (row_bytes == 0) && (i < 8 || rows == 0));
        if (i < 8) {
            amx_tile[i].rows = rows;
            amx_tile[i].row_bytes = row_bytes;
        }
    }
}

static inline void amx_loadd(int i, const void *base, uint64_t stride)
{
    struct amx_tile *tile = amx_configured(i);
    memset(tile->byte, 0, sizeof tile->byte);
    for (uint32_t r = 0; r < tile->rows; r++) {
        memcpy(tile->byte[r], (const uint8_t *)base + r * stride, tile->row_bytes);
    }
}

static inline void amx_stored(int i, void *base, uint64_t stride)
{
    const struct amx_tile *tile = amx_configured(i);
    for (uint32_t r = 0; r < tile->rows; r++) {
        memcpy((uint8_t *)base + r * stride, tile->byte[r], tile->row_bytes);
    }
}

static inline void amx_zero(int i)
{
    memset(amx_configured(i)->byte, 0, sizeof amx_tile[i].byte);
}

/* What the processor wants of the tiles of a product. */
static inline void amx_assert_fit(const struct amx_tile *c, const struct amx_tile *a,
                                  const struct amx_tile *b)
{
    assert(c != a && c != b && a != b);
    assert(a->row_bytes % 4 == 0 && b->row_bytes % 4 == 0 && c->row_bytes % 4 == 0);
    assert(c->rows == a->rows && c->row_bytes == b->row_bytes && a->row_bytes / 4 == b->rows);
}

/* C[m][n] += sum over k, j of A[m][4 k + j] * B[k][4 n + j], both signed. */
static inline void amx_dpbssd(int ci, int ai, int bi)
{
    struct amx_tile *c = amx_configured(ci);
    const struct amx_tile *a = amx_configured(ai), *b = amx_configured(bi);
    amx_assert_fit(c, a, b);
    for (uint32_t m = 0; m < c->rows; m++) {
        int32_t sum[16];
        memcpy(sum, c->byte[m], sizeof sum);
        for (uint32_t k = 0; k < b->rows; k++) {
            for (uint32_t n = 0; n < b->row_bytes; n++) {
                sum[n / 4] += (int8_t)a->byte[m][4 * k + n % 4] * (int8_t)b->byte[k][n];
            }
        }
        memcpy(c->byte[m], sum, sizeof sum);
    }
}

static inline float amx_float(const uint8_t *half)
{
    uint16_t h;
    memcpy(&h, half, sizeof h);
    return ingle_f32_of_bf16(h);
}

/* C[m][n] += sum over k of A[m][2 k] * B[k][2 n], and the same of the odd ones, then both: by fused
 * steps. */
static inline void amx_dpbf16ps(int ci, int ai, int bi)
{
    struct amx_tile *c = amx_configured(ci);
    const struct amx_tile *a = amx_configured(ai), *b = amx_configured(bi);
    amx_assert_fit(c, a, b);
    for (uint32_t m = 0; m < c->rows; m++) {
        float sum[16];
        memcpy(sum, c->byte[m], sizeof sum);
        for (uint32_t n = 0; n < c->row_bytes / 4; n++) {
            float part[2] = {0.0f, 0.0f};
            for (uint32_t k = 0; k < b->rows; k++) {
                for (uint32_t j = 0; j < 2; j++) {
                    part[j] = fmaf(amx_float(a->byte[m] + 4 * k + 2 * j),
                                   amx_float(b->byte[k] + 4 * n + 2 * j), part[j]);
                }
            }
            sum[n] += part[0] + part[1];
        }
        memcpy(c->byte[m], sum, sizeof sum);
    }
}

/* Instructions that come with AMX and that AVX-512 VNNI alone does not promise. */
static inline __m512i amx_permute_bytes(__m512i from, uint64_t mask, __m512i index, __m512i x)
{
    uint8_t out[64], at[64], in[64];
    memcpy(out, &from, sizeof out);
    memcpy(at, &index, sizeof at);
    memcpy(in, &x, sizeof in);
    for (uint32_t i = 0; i < 64; i++) {
        out[i] = mask >> i & 1 ? in[at[i] % 64] : out[i];
    }
    memcpy(&from, out, sizeof out);
    return from;
}

static inline __m512i amx_bf16_of_two(__m512 high, __m512 low)
{
    float x[32];
    uint16_t h[32];
    __m512i ret;
    memcpy(x, &low, sizeof low);
    memcpy(x + 16, &high, sizeof high);
    for (uint32_t i = 0; i < 32; i++) {
        h[i] = ingle_bf16_of_f32(x[i]);
    }
    memcpy(&ret, h, sizeof ret);
    return ret;
}

/* NOLINTBEGIN(readability-identifier-naming): the intrinsics' names */
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#define _tile_loadconfig amx_loadconfig
#define _tile_release    amx_release
#define _tile_loadd      amx_loadd
#define _tile_stored     amx_stored
#define _tile_zero       amx_zero
#define _tile_dpbssd     amx_dpbssd
#undef _tile_dpbf16ps
#define _tile_dpbf16ps               amx_dpbf16ps
#define _mm512_mask_permutexvar_epi8 amx_permute_bytes
#define _mm512_maskz_permutexvar_epi8(mask, index, x) \
    amx_permute_bytes(_mm512_setzero_si512(), mask, index, x)
#define _mm512_cvtne2ps_pbh amx_bf16_of_two
/* NOLINTEND(readability-identifier-naming) */

#endif
