/* The matrix product of BF16 activations with AMX tiles; ref/matmul.c states the arithmetic, which
 * is what a tile product (TDPBF16PS) does. Weights are multiplied out to bfloat16, so sums over
 * blocks of different scales stay in their tile, where sums of integers must leave it
 * (matmul_amx.c).
 *
 * Many rows: a panel is multiplied out for all of them, which then pass 32 at a time. Up to 16:
 * each block is used as soon as it is there. Tiles are configured for a panel, or for a tile of the
 * matrix, on the thread that runs it; no thread keeps any. */
#include "kernels/x86/matmul_zmm.h"
#include "kernels/x86/tile_amx.h"

enum {
    GROUP = 16,           /* rows of a tile */
    NEAR_BYTES = 5 << 18, /* every processor with tiles has 2 MiB of second-level cache */
    BLOCKS = 7            /* 14 KiB of weights, beside 14 KiB of 32 rows */
};

/* Numbers of tile registers, which the intrinsics want as literals: sums of 32 rows by 32 columns,
 * activations, weights. */
#define TILE_C00 0
#define TILE_C01 1
#define TILE_C10 2
#define TILE_C11 3
#define TILE_A0  4
#define TILE_A1  5
#define TILE_B0  6
#define TILE_B1  7

/* 16 matrix rows by 32 columns, as a tile product wants them. */
struct weights {
    _Alignas(64) uint16_t w[16][32]; /* [pair of columns][matrix row, column of the pair] */
};

struct panel {
    struct weights block[BLOCKS][PAIR];
};
static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

/* ---- weights to bfloat16 ---- */

/* Which bytes of a line (16 matrix rows x 4 columns) become 16 floats: columns 2 pair and
 * 2 pair + 1 of matrix rows 8 upper .. 8 upper + 7, two neighbours. */
INGLE_INLINE __m512i bytes_of(uint32_t pair, uint32_t upper)
{
    const __m512i lane =
        _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const __m512i first = _mm512_set1_epi32((int)(32 * upper + 2 * pair));
    return _mm512_mullo_epi32(_mm512_add_epi32(lane, first), _mm512_set1_epi32(0x01010101));
}

/* Scales of the matrix rows of 16 such floats. */
INGLE_INLINE __m512 twice(__m512 d, uint32_t upper)
{
    const __m512i row = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(_mm512_add_epi32(row, _mm512_set1_epi32((int)(8 * upper))), d);
}

/* Codes are below 128. The others have no minima. */
INGLE_INLINE bool is_small(enum ingle_wtype type)
{
    return type != INGLE_W_Q8_0 && type != INGLE_W_IQ4_NL;
}

/* 16 weights. A small code becomes a float in one step, as bits 16..23 of one that says 128: 128 +
 * code; others in two, and come to the same without the 128. */
INGLE_INLINE __m512 multiplied(enum ingle_wtype type, __m512i line, __m512i bytes, __m512 d,
                               __m512 rest)
{
    if (!is_small(type)) {
        __m512i code = _mm512_maskz_permutexvar_epi8(0x1111111111111111, bytes, line);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), d, rest);
    }
    const __m512i base = _mm512_set1_epi32(0x43000000); /* 128 */
    __m512i code = _mm512_mask_permutexvar_epi8(base, 0x4444444444444444, bytes, line);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(code), d, rest);
}

/* What is added to that times d: the minimum, and what the 128 and the zero point take away. */
INGLE_INLINE __m512 rest_of(enum ingle_wtype type, __m512 d, __m512 m)
{
    const struct ingle_wform form = ingle_wform(type);
    const __m512 origin = _mm512_set1_ps(-(is_small(type) ? 128.0f : 0.0f) - (float)form.zero);
    return form.min ? _mm512_fmadd_ps(d, origin, m) : _mm512_mul_ps(d, origin);
}

/* What the 64 bytes of a block's lines are taken apart with: kept in registers over all blocks. */
struct lanes {
    __m512i bytes[2][2]; /* [pair][upper] */
};

INGLE_INLINE struct lanes lanes_all(void)
{
    return (struct lanes){{{bytes_of(0, 0), bytes_of(0, 1)}, {bytes_of(1, 0), bytes_of(1, 1)}}};
}

/* Block b of a packed tile as the weights of a tile product. */
INGLE_INLINE void decode_block(enum ingle_wtype type, const uint8_t *tile,
                               const struct ingle_tile_shape *shape, uint32_t b,
                               const struct lanes *lanes, struct weights *ret)
{
    __m512i line[8];
    __m512 d[2], m[2], scale[2][2], rest[2][2];
    tile_codes_avx512(type, tile, shape, b, line);
    tile_scales_avx512(type, tile, shape, b, d, m);
    for (uint32_t h = 0; h < (ingle_mm_halves(type) ? 2 : 1); h++) {
#pragma GCC unroll 2
        for (uint32_t upper = 0; upper < 2; upper++) {
            scale[h][upper] = twice(d[h], upper);
            rest[h][upper] = rest_of(type, scale[h][upper], twice(m[h], upper));
        }
    }
#pragma GCC unroll 8
    for (uint32_t s = 0; s < 8; s++) {
        const uint32_t h = ingle_mm_halves(type) ? s / 4 : 0;
#pragma GCC unroll 2
        for (uint32_t pair = 0; pair < 2; pair++) {
            const __m512i *bytes = lanes->bytes[pair];
            __m512 low = multiplied(type, line[s], bytes[0], scale[h][0], rest[h][0]);
            __m512 high = multiplied(type, line[s], bytes[1], scale[h][1], rest[h][1]);
            _mm512_store_si512(ret->w[2 * s + pair], (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

INGLE_INLINE void decode_tile(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const struct ingle_tile_shape shape = decode->shape;
    const struct lanes lanes = lanes_all();
    struct panel *panel = decode->panel;
    for (uint32_t b = 0; b < decode->n; b++) {
        decode_block(type, decode->tile, &shape, decode->first + b, &lanes,
                     &panel->block[b][decode->side]);
    }
}

/* ---- products ---- */

/* Tiles for n0 rows and n1 more. */
static void configure(uint8_t n0, uint8_t n1)
{
    struct tile_config config = {.palette = 1,
                                 .rows = {[TILE_C00] = n0,
                                          [TILE_C01] = n0,
                                          [TILE_C10] = n1,
                                          [TILE_C11] = n1,
                                          [TILE_A0] = n0,
                                          [TILE_A1] = n1,
                                          [TILE_B0] = GROUP,
                                          [TILE_B1] = GROUP}};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = config.rows[i] > 0 ? 64 : 0;
    }
    _tile_loadconfig(&config);
}

/* The configured rows from `row` on, two tiles of them or one, times the panel onto their sums. */
INGLE_INLINE void product(const struct ingle_mm_group *group, uint32_t row, const bool two)
{
    enum {
        STEP = PAIR * 16 * sizeof(float) /* from row to row of sums */
    };
    const struct panel *panel = group->panel;
    const uint8_t *x = group->x + row * group->x_stride;
    const uint8_t *x1 = x + GROUP * group->x_stride;
    float *acc = group->acc + (uint64_t)row * PAIR * 16, *acc1 = acc + GROUP * PAIR * 16;
    if (group->first) {
        _tile_zero(TILE_C00);
        _tile_zero(TILE_C01);
        if (two) {
            _tile_zero(TILE_C10);
            _tile_zero(TILE_C11);
        }
    } else {
        _tile_loadd(TILE_C00, acc, STEP);
        _tile_loadd(TILE_C01, acc + 16, STEP);
        if (two) {
            _tile_loadd(TILE_C10, acc1, STEP);
            _tile_loadd(TILE_C11, acc1 + 16, STEP);
        }
    }
    for (uint32_t b = 0; b < group->n; b++, x += 64, x1 += 64) {
        _tile_loadd(TILE_B0, panel->block[b][0].w, 64);
        _tile_loadd(TILE_A0, x, group->x_stride);
        _tile_loadd(TILE_B1, panel->block[b][1].w, 64);
        if (two) {
            _tile_loadd(TILE_A1, x1, group->x_stride);
        }
        _tile_dpbf16ps(TILE_C00, TILE_A0, TILE_B0);
        _tile_dpbf16ps(TILE_C01, TILE_A0, TILE_B1);
        if (two) {
            _tile_dpbf16ps(TILE_C10, TILE_A1, TILE_B0);
            _tile_dpbf16ps(TILE_C11, TILE_A1, TILE_B1);
        }
    }
    _tile_stored(TILE_C00, acc, STEP);
    _tile_stored(TILE_C01, acc + 16, STEP);
    if (two) {
        _tile_stored(TILE_C10, acc1, STEP);
        _tile_stored(TILE_C11, acc1 + 16, STEP);
    }
}

/* The sums of rows [row, row + n) to where they end. */
static void put(const struct ingle_mm_group *group, uint32_t row, uint32_t n)
{
    for (uint32_t r = row; r < row + n; r++) {
        for (uint32_t p = 0; p < PAIR; p++) {
            store_tile(&group->out[p], group->row + r,
                       _mm512_load_ps(group->acc + ((uint64_t)r * PAIR + p) * 16));
        }
    }
}

static void group_panel(const struct ingle_mm_group *group)
{
    uint32_t row = 0, left = group->rows;
    /* Loading a tile does not tell gcc 12 that it reads memory: the panel must be there. */
    __asm__("" ::: "memory");
    if (left >= 2 * GROUP) {
        configure(GROUP, GROUP);
    }
    for (; left >= 2 * GROUP; row += 2 * GROUP, left -= 2 * GROUP) {
        product(group, row, true);
        if (group->out) {
            __asm__("" ::: "memory");
            put(group, row, 2 * GROUP);
        }
    }
    if (left > GROUP) {
        configure(GROUP, (uint8_t)(left - GROUP));
        product(group, row, true);
    } else if (left > 0) {
        configure((uint8_t)left, 0);
        product(group, row, false);
    }
    _tile_release();
    __asm__("" ::: "memory");
    if (group->out) {
        put(group, row, left);
    }
}

/* ---- few rows: a block is multiplied out and used while it is in the first-level cache ---- */

INGLE_INLINE void few_tile(enum ingle_wtype type, const struct ingle_mm_few *few)
{
    enum {
        RING = 4,
        BEHIND = 2 /* blocks from the one written to the one read: stores are not forwarded */
    };
    const struct lanes lanes = lanes_all();
    const uint32_t left = few->row_end - few->row0, rows = left < GROUP ? left : GROUP;
    const uint8_t *x = few->x->rows + few->row0 * few->x->row_stride;
    struct weights ring[RING];
    _Alignas(64) float sum[GROUP][16];
    configure((uint8_t)rows, 0);
    _tile_zero(TILE_C00);
    for (uint32_t b = 0; b < few->shape.blocks + BEHIND; b++) {
        if (b < few->shape.blocks) {
            ingle_mm_fetch(type, few, b);
            decode_block(type, few->tile, &few->shape, b, &lanes, &ring[b % RING]);
            __asm__("" ::: "memory"); /* as in group_panel */
        }
        if (b >= BEHIND) {
            _tile_loadd(TILE_A0, x, few->x->row_stride);
            _tile_loadd(TILE_B0, ring[(b - BEHIND) % RING].w, 64);
            _tile_dpbf16ps(TILE_C00, TILE_A0, TILE_B0);
            x += sizeof(uint16_t) * INGLE_ACT_GROUP;
        }
    }
    _tile_stored(TILE_C00, sum, 64);
    _tile_release();
    __asm__("" ::: "memory");
    for (uint32_t r = 0; r < rows; r++) {
        store_tile(&few->out, few->row0 + r, _mm512_load_ps(sum[r]));
    }
}

/* ---- instances ---- */

#define FEW_INSTANCE(type)                                 \
    static void few_##type(const struct ingle_mm_few *few) \
    {                                                      \
        few_tile(INGLE_W_##type, few);                     \
    }
INGLE_MM_QUANTISED(FEW_INSTANCE)

static ingle_mm_few_fn *few_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
#define FEW_ENTRY(type) [INGLE_W_##type] = few_##type,
    static ingle_mm_few_fn *const fns[INGLE_W_COUNT] = {INGLE_MM_QUANTISED(FEW_ENTRY)};
    (void)two;
    (void)rows;
    return fns[type];
}

INGLE_MM_DECODE_FN()

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
    (void)type;
    (void)two;
    (void)rows;
    return group_panel;
}

const struct ingle_mm_isa INGLE_VARIANT(mm_bf16) = {.pair = PAIR,
                                                    .bf16 = true,
                                                    .blocks = BLOCKS,
                                                    .near_bytes = NEAR_BYTES,
                                                    .few = GROUP,
                                                    .few_max = GROUP,
                                                    .group = INGLE_MM_ROWS,
                                                    .few_fn = few_fn,
                                                    .decode_fn = decode_fn,
                                                    .group_fn = group_fn,
                                                    .glu_put = ingle_glu_put_avx512};
