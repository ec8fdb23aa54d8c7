/* The packed form of a matrix.
 *
 * [ceil(N / 16)] tiles; a tile holds 16 matrix rows and all their columns, contiguous, as sections
 * that each begin on a 64-byte line:
 *
 *   low   codes, their low_bits bits       every 32 columns ("block") of the 16 rows
 *   high  codes, their high_bits upper bits
 *   sub   [blocks][2][16] bytes: integer scales of K-quants
 *   d     [groups][16] f16                 one group per block, or per 256 columns for K-quants
 *   m     [groups][16] f16                 minima of the types that have them
 *
 * A plane of width w bits stores 8 / w columns in a byte. Column c = 4 s + j of a block (s < 8,
 * j < 4) of row r is field s / w of byte
 *
 *   plane[64 (w block + s mod w) + 4 r + j],   field f in bits w f .. w f + w - 1.
 *
 * So one 64-byte line always is 16 rows x 4 columns, what one VPDPBUSD multiplies, and a step takes
 * a shift and a mask: w = 8: eight lines a block; w = 4: four lines, low nibbles first; w = 1: one.
 * Two 256-bit halves of a line are rows 0..7 and 8..15.
 *
 * Codes are unsigned; a weight is d * (code - zero) + m. Q8_0 is stored as code + 128. IQ4_NL keeps
 * its 4-bit index; its table adds 128. Scales keep their precision: f16, and whole bytes for the
 * 6-bit ones. Missing rows of the last tile are zero codes with zero scales.
 *
 * F32, F16, BF16: [cols][16] elements. */
#ifndef INGLE_KERNELS_PACK_H
#define INGLE_KERNELS_PACK_H
#include "kernels/kernels.h"

#define INGLE_BLOCK_COLS 32u
#define INGLE_SUPER_COLS 256u

/* They stand in the header of every image that is kept as a file. LAYOUT goes up with each change
 * of the bytes that ingle_pack_rows() writes. CPU_CLASS names the processors whose kernels read
 * this layout: today one layout serves all. */
#define INGLE_PACK_LAYOUT    1u
#define INGLE_PACK_CPU_CLASS 1u

enum ingle_wscale {
    INGLE_WS_FLOAT, /* not quantised */
    INGLE_WS_BLOCK, /* d, m per 32 columns */
    INGLE_WS_K,     /* d * sub[0], m * sub[1] per 32 columns */
    INGLE_WS_K16,   /* d * (signed) sub[half] per 16 columns */
    INGLE_WS_K16M   /* d * (sub[half] & 15), m * (sub[half] >> 4) per 16 columns */
};

/* What a kernel must know of a type; constant, so that a kernel for one type folds it. */
struct ingle_wform {
    uint8_t low_bits, high_bits;
    uint8_t zero;
    bool min; /* the type has minima */
    enum ingle_wscale scale;
};

static inline __attribute__((always_inline)) struct ingle_wform ingle_wform(enum ingle_wtype type)
{
    switch (type) {
    case INGLE_W_Q4_0:
        return (struct ingle_wform){4, 0, 8, false, INGLE_WS_BLOCK};
    case INGLE_W_Q4_1:
        return (struct ingle_wform){4, 0, 0, true, INGLE_WS_BLOCK};
    case INGLE_W_Q5_0:
        return (struct ingle_wform){4, 1, 16, false, INGLE_WS_BLOCK};
    case INGLE_W_Q5_1:
        return (struct ingle_wform){4, 1, 0, true, INGLE_WS_BLOCK};
    case INGLE_W_Q8_0:
        return (struct ingle_wform){8, 0, 128, false, INGLE_WS_BLOCK};
    case INGLE_W_IQ4_NL:
        return (struct ingle_wform){4, 0, 128, false, INGLE_WS_BLOCK};
    case INGLE_W_Q2_K:
        return (struct ingle_wform){2, 0, 0, true, INGLE_WS_K16M};
    case INGLE_W_Q3_K:
        return (struct ingle_wform){2, 1, 4, false, INGLE_WS_K16};
    case INGLE_W_Q4_K:
        return (struct ingle_wform){4, 0, 0, true, INGLE_WS_K};
    case INGLE_W_Q5_K:
        return (struct ingle_wform){4, 1, 0, true, INGLE_WS_K};
    case INGLE_W_Q6_K:
        return (struct ingle_wform){4, 2, 32, false, INGLE_WS_K16};
    case INGLE_W_F32:
    case INGLE_W_F16:
    case INGLE_W_BF16:
    case INGLE_W_COUNT:
    default:
        return (struct ingle_wform){0, 0, 0, false, INGLE_WS_FLOAT};
    }
}

static inline bool ingle_wtype_is_float(enum ingle_wtype type)
{
    return type == INGLE_W_F32 || type == INGLE_W_F16 || type == INGLE_W_BF16;
}

/* Byte offsets of the sections inside a tile. */
struct ingle_tile_shape {
    uint32_t blocks; /* cols / 32; 0 for floats */
    uint64_t high, sub, d, m, bytes;
};

static inline struct ingle_tile_shape ingle_tile_shape(enum ingle_wtype type, uint32_t cols)
{
    struct ingle_wform form = ingle_wform(type);
    struct ingle_tile_shape shape = {0};
    if (form.scale == INGLE_WS_FLOAT) {
        uint64_t element = type == INGLE_W_F32 ? 4 : 2;
        shape.bytes = (cols * element * INGLE_TILE_ROWS + 63) / 64 * 64;
        return shape;
    }
    uint64_t blocks = cols / INGLE_BLOCK_COLS;
    uint64_t groups = form.scale == INGLE_WS_BLOCK ? blocks : cols / INGLE_SUPER_COLS;
    uint64_t group_bytes = (groups * 2 * INGLE_TILE_ROWS + 63) / 64 * 64;
    uint64_t sub_bytes = form.scale == INGLE_WS_BLOCK ? 0 : blocks * 2 * INGLE_TILE_ROWS;
    shape.blocks = (uint32_t)blocks;
    shape.high = blocks * 64 * form.low_bits;
    shape.sub = shape.high + blocks * 64 * form.high_bits;
    shape.d = shape.sub + (sub_bytes + 63) / 64 * 64;
    shape.m = shape.d + group_bytes;
    shape.bytes = shape.m + (form.min ? group_bytes : 0);
    return shape;
}

/* Where tile `tile` of a matrix begins, or behind the last one ends. */
static inline const uint8_t *ingle_tile_at(const struct ingle_matrix *w, uint64_t tile)
{
    return w->data + tile * ingle_tile_shape(w->type, w->cols).bytes;
}

/* IQ4_NL: value of index i plus 128. */
#define INGLE_IQ4_NL_TABLE                                                      \
    {                                                                           \
        1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241 \
    }

static inline uint32_t ingle_tiles(uint32_t rows)
{
    return (rows + INGLE_TILE_ROWS - 1) / INGLE_TILE_ROWS;
}

#endif
