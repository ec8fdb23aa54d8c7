/* One block (32 columns) of a packed tile, taken apart in plain C: integer weights, their scales
 * and minima as f32, or everything multiplied out. */
#ifndef INGLE_KERNELS_REF_TILE_H
#define INGLE_KERNELS_REF_TILE_H
#include <assert.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/pack.h"

struct ingle_tile_block {
    int16_t w[INGLE_BLOCK_COLS][INGLE_TILE_ROWS]; /* code - zero */
    /* Per half of 16 columns; types with one scale a block have both halves equal. */
    float d[2][INGLE_TILE_ROWS], m[2][INGLE_TILE_ROWS];
};

static inline float ingle_tile_f16(const uint8_t *at)
{
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return ingle_f32_of_f16(bits);
}

static inline void ingle_tile_scales(struct ingle_wform form, const uint8_t *tile,
                                     struct ingle_tile_shape shape, uint32_t b, uint32_t r,
                                     float d[2], float m[2])
{
    uint64_t group = form.scale == INGLE_WS_BLOCK ? b : b / (INGLE_SUPER_COLS / INGLE_BLOCK_COLS);
    uint64_t at = 2 * (group * INGLE_TILE_ROWS + r);
    float scale = ingle_tile_f16(tile + shape.d + at);
    float min = form.min ? ingle_tile_f16(tile + shape.m + at) : 0.0f;
    const uint8_t *sub = tile + shape.sub + 32 * (uint64_t)b + r;
    for (uint32_t h = 0; h < 2; h++) {
        if (form.scale == INGLE_WS_K) {
            d[h] = scale * (float)sub[0];
            m[h] = -(min * (float)sub[16]);
        } else if (form.scale == INGLE_WS_K16) {
            d[h] = scale * (float)(int8_t)sub[16 * h];
            m[h] = 0.0f;
        } else if (form.scale == INGLE_WS_K16M) {
            d[h] = scale * (float)(sub[16 * h] & 15u);
            m[h] = -(min * (float)(sub[16 * h] >> 4));
        } else {
            d[h] = scale;
            m[h] = min;
        }
    }
}

static inline uint32_t ingle_tile_code(enum ingle_wtype type, struct ingle_wform form,
                                       const uint8_t *tile, struct ingle_tile_shape shape,
                                       uint32_t b, uint32_t r, uint32_t c)
{
    static const uint8_t iq4_nl[16] = INGLE_IQ4_NL_TABLE;
    uint32_t s = c / 4, j = c % 4, code;
    uint32_t low = form.low_bits, high = form.high_bits;
    code = tile[64 * ((uint64_t)low * b + s % low) + 4 * r + j] >> low * (s / low);
    code &= (1u << low) - 1u;
    if (high) {
        uint32_t bits = tile[shape.high + 64 * ((uint64_t)high * b + s % high) + 4 * r + j];
        code |= (bits >> high * (s / high) & ((1u << high) - 1u)) << low;
    }
    return type == INGLE_W_IQ4_NL ? iq4_nl[code] : code;
}

static inline void ingle_tile_block(enum ingle_wtype type, const uint8_t *tile,
                                    struct ingle_tile_shape shape, uint32_t b,
                                    struct ingle_tile_block *ret)
{
    struct ingle_wform form = ingle_wform(type);
    for (uint32_t r = 0; r < INGLE_TILE_ROWS; r++) {
        float d[2], m[2];
        ingle_tile_scales(form, tile, shape, b, r, d, m);
        for (uint32_t h = 0; h < 2; h++) {
            ret->d[h][r] = d[h];
            ret->m[h][r] = m[h];
        }
        for (uint32_t c = 0; c < INGLE_BLOCK_COLS; c++) {
            uint32_t code = ingle_tile_code(type, form, tile, shape, b, r, c);
            ret->w[c][r] = (int16_t)((int32_t)code - form.zero);
        }
    }
}

/* Element (r, k) of a tile of floats. */
static inline float ingle_tile_float(enum ingle_wtype type, const uint8_t *tile, uint32_t r,
                                     uint32_t k)
{
    uint64_t i = (uint64_t)k * INGLE_TILE_ROWS + r;
    uint16_t bits;
    float f;
    if (type == INGLE_W_F32) {
        memcpy(&f, tile + 4 * i, sizeof f);
        return f;
    }
    memcpy(&bits, tile + 2 * i, sizeof bits);
    return type == INGLE_W_F16 ? ingle_f32_of_f16(bits) : ingle_f32_of_bf16(bits);
}

#endif
