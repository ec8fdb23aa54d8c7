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

/* Four codes at a time: field s / w of the word that holds columns 4 s .. 4 s + 3 of row r. */
static inline void ingle_tile_plane(const uint8_t *plane, uint32_t width, uint32_t b, uint32_t r,
                                    uint32_t shift, uint32_t code[8])
{
    uint32_t mask = ((1u << width) - 1u) * 0x01010101u;
    for (uint32_t s = 0; s < 8; s++) {
        uint32_t word;
        memcpy(&word, plane + 64 * ((uint64_t)width * b + s % width) + 4 * r, sizeof word);
        code[s] |= (word >> width * (s / width) & mask) << shift;
    }
}

/* The 32 codes of one row of a block. */
static inline void ingle_tile_codes(enum ingle_wtype type, const uint8_t *tile,
                                    struct ingle_tile_shape shape, uint32_t b, uint32_t r,
                                    uint8_t ret[INGLE_BLOCK_COLS])
{
    static const uint8_t iq4_nl[16] = INGLE_IQ4_NL_TABLE;
    struct ingle_wform form = ingle_wform(type);
    uint32_t code[8] = {0};
    ingle_tile_plane(tile, form.low_bits, b, r, 0, code);
    if (form.high_bits) {
        ingle_tile_plane(tile + shape.high, form.high_bits, b, r, form.low_bits, code);
    }
    memcpy(ret, code, sizeof code);
    if (type == INGLE_W_IQ4_NL) {
        for (uint32_t c = 0; c < INGLE_BLOCK_COLS; c++) {
            ret[c] = iq4_nl[ret[c]];
        }
    }
}

static inline void ingle_tile_block(enum ingle_wtype type, const uint8_t *tile,
                                    struct ingle_tile_shape shape, uint32_t b,
                                    struct ingle_tile_block *ret)
{
    struct ingle_wform form = ingle_wform(type);
    for (uint32_t r = 0; r < INGLE_TILE_ROWS; r++) {
        float d[2], m[2];
        uint8_t code[INGLE_BLOCK_COLS];
        ingle_tile_scales(form, tile, shape, b, r, d, m);
        ingle_tile_codes(type, tile, shape, b, r, code);
        for (uint32_t h = 0; h < 2; h++) {
            ret->d[h][r] = d[h];
            ret->m[h][r] = m[h];
        }
        for (uint32_t c = 0; c < INGLE_BLOCK_COLS; c++) {
            ret->w[c][r] = (int16_t)(code[c] - form.zero);
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
