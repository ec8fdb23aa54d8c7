/* Owns the packing of GGUF rows into the tiles of pack.h, without loss. Writes only the rows it is
 * given; any thread, as long as two calls do not share a tile. */
#include "kernels/pack.h"

#include <assert.h>
#include <string.h>

#include "kernels/gguf_block.h"
#include "kernels/half.h"

uint64_t ingle_pack_bytes(enum ingle_wtype type, uint32_t rows, uint32_t cols)
{
    assert(cols % ingle_wtype_block(type) == 0);
    return ingle_tiles(rows) * ingle_tile_shape(type, cols).bytes;
}

/* Four codes at a time: column 4 s + j of row r lies in one 32-bit word with its neighbours. */
static void put_plane(uint8_t *plane, uint32_t width, uint32_t block, uint32_t r,
                      const uint8_t code[32], uint32_t shift)
{
    uint32_t mask = ((1u << width) - 1u) * 0x01010101u;
    for (uint32_t s = 0; s < 8; s++) {
        uint32_t four, word;
        uint8_t *at = plane + 64 * ((uint64_t)width * block + s % width) + 4 * r;
        memcpy(&four, code + 4 * s, sizeof four);
        memcpy(&word, at, sizeof word);
        word |= (four >> shift & mask) << width * (s / width);
        memcpy(at, &word, sizeof word);
    }
}

static bool f16_finite(uint16_t bits)
{
    return (bits & 0x7c00u) != 0x7c00u;
}

static bool pack_quantised_row(enum ingle_wtype type, const uint8_t *src, uint32_t r,
                               struct ingle_tile_shape shape, uint8_t *tile)
{
    struct ingle_wform form = ingle_wform(type);
    uint32_t parts = ingle_wtype_block(type) / INGLE_BLOCK_COLS;
    uint32_t bytes = ingle_wtype_block_bytes(type);
    bool finite = true;
    for (uint32_t b = 0; b < shape.blocks; b++) {
        struct ingle_gguf_part part;
        ingle_gguf_part(type, src + (uint64_t)(b / parts) * bytes, b % parts, &part);
        put_plane(tile, form.low_bits, b, r, part.code, 0);
        if (form.high_bits) {
            put_plane(tile + shape.high, form.high_bits, b, r, part.code, form.low_bits);
        }
        if (form.scale != INGLE_WS_BLOCK) {
            tile[shape.sub + 32 * (uint64_t)b + r] = part.sub[0];
            tile[shape.sub + 32 * (uint64_t)b + 16 + r] = part.sub[1];
        }
        if (b % parts == 0) {
            uint64_t at = 2 * (INGLE_TILE_ROWS * (uint64_t)(b / parts) + r);
            memcpy(tile + shape.d + at, &part.d, sizeof part.d);
            finite &= f16_finite(part.d) && f16_finite(part.m);
            if (form.min) {
                memcpy(tile + shape.m + at, &part.m, sizeof part.m);
            }
        }
    }
    return finite;
}

static bool pack_float_row(enum ingle_wtype type, const uint8_t *src, uint32_t cols, uint32_t r,
                           uint8_t *tile)
{
    uint32_t bytes = ingle_wtype_block_bytes(type);
    bool finite = true;
    for (uint64_t k = 0; k < cols; k++) {
        uint32_t bits = 0;
        memcpy(&bits, src + k * bytes, bytes);
        memcpy(tile + (k * INGLE_TILE_ROWS + r) * bytes, &bits, bytes);
        uint32_t exponent = type == INGLE_W_F32   ? 0x7f800000u
                            : type == INGLE_W_F16 ? 0x7c00u
                                                  : 0x7f80u;
        finite &= (bits & exponent) != exponent;
    }
    return finite;
}

bool ingle_pack_rows(enum ingle_wtype type, uint32_t rows, uint32_t cols, const uint8_t *src,
                     uint32_t n_rows, uint32_t row0, const uint32_t *dst_rows, uint8_t *dst)
{
    struct ingle_tile_shape shape = ingle_tile_shape(type, cols);
    uint64_t src_bytes = (uint64_t)(cols / ingle_wtype_block(type)) * ingle_wtype_block_bytes(type);
    bool finite = true;
    assert(cols % ingle_wtype_block(type) == 0);
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t row = dst_rows ? dst_rows[i] : row0 + i, r = row % INGLE_TILE_ROWS;
        uint8_t *tile = dst + row / INGLE_TILE_ROWS * shape.bytes;
        assert(row < rows);
        if (ingle_wtype_is_float(type)) {
            finite &= pack_float_row(type, src + i * src_bytes, cols, r, tile);
        } else {
            finite &= pack_quantised_row(type, src + i * src_bytes, r, shape, tile);
        }
    }
    return finite;
}
