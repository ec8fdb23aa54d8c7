/* The matrix product of many rows with AMX tiles, for what gains by it; the rest, and everything
 * around, is AVX-512's (matmul_zmm.h). ref/matmul.c states the arithmetic. A tile product
 * multiplies a block of 16 activation rows (A: their signed codes, where they lie) with the same
 * block of a packed tile (B: 8 lines of 16 matrix rows x 4 columns, the packed layout) and gives 16
 * x 16 sums of 32 bits (C).
 *
 * The panel holds codes as signed bytes with the zero point taken off, so a sum is ready as it
 * leaves its tile. It reaches the vectors through memory, and a load that follows a tile's store at
 * once waits for it to leave the store buffer. So the products of two blocks are begun before the
 * sums of the two before them are taken in. A group keeps 16 rows' sums of one tile of the matrix
 * in registers over all blocks of a panel.
 *
 * Tiles are configured for the time of an op on the thread that runs it; no thread keeps any. All
 * groups have 16 rows, so one configuration serves. */
#include "kernels/x86/matmul_zmm.h"

enum {
    GROUP = 16,
    RUN = 2, /* blocks whose products are begun together */
    RING = 2 * RUN,
    /* Below, groups that are not full cost too much; above, rows of activations do. */
    ROWS_LEAST = 64,
    COLS_MOST = 2048
};

/* Numbers of tile registers, which the intrinsics want as literals: two of each, so that one
 * product need not wait for the other. */
#define TILE_C0 0
#define TILE_C1 1
#define TILE_A0 2
#define TILE_A1 3
#define TILE_B0 4
#define TILE_B1 5

/* What LDTILECFG reads. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(struct tile_config) == 64, "as the processor has it");

static const struct tile_config tile_config = {
    .palette = 1,
    .row_bytes = {[TILE_C0] = 64,
                  [TILE_C1] = 64,
                  [TILE_A0] = INGLE_BLOCK_COLS,
                  [TILE_A1] = INGLE_BLOCK_COLS,
                  [TILE_B0] = 64,
                  [TILE_B1] = 64},
    .rows = {[TILE_C0] = GROUP,
             [TILE_C1] = GROUP,
             [TILE_A0] = GROUP,
             [TILE_A1] = GROUP,
             [TILE_B0] = INGLE_BLOCK_COLS / 4,
             [TILE_B1] = INGLE_BLOCK_COLS / 4},
};

struct panel {
    uint8_t codes[PAIR][INGLE_MM_BLOCKS][8][64]; /* signed */
    float d[PAIR][INGLE_MM_BLOCKS][16];
};
static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

/* The products of two runs of blocks, [block % RING]. A ring is 4 KiB: the sums that are loaded and
 * those that are on their way are never a multiple of that apart, where a load seems to the
 * processor to depend on the store. */
struct sums {
    _Alignas(64) int32_t sum[RING][GROUP][16];
};

INGLE_INLINE void decode_tile(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const __m512i zero = _mm512_set1_epi8((char)ingle_wform(type).zero);
    const uint32_t side = decode->side;
    struct panel *panel = decode->panel;
    for (uint32_t b = 0; b < decode->n; b++) {
        __m512i w[8];
        __m512 d[2], m[2];
        tile_codes_avx512(type, decode->tile, &decode->shape, decode->first + b, w);
        tile_scales_avx512(type, decode->tile, &decode->shape, decode->first + b, d, m);
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            _mm512_store_si512(panel->codes[side][b][s], _mm512_sub_epi8(w[s], zero));
        }
        _mm512_store_ps(panel->d[side][b], d[0]);
    }
}

/* C = A B into `to`; x: the rows' codes, row_bytes apart, w: lines of codes. */
#define TILE_PRODUCT(c, a, b, x, row_bytes, w, to) \
    do {                                           \
        _tile_loadd(b, w, 64);                     \
        _tile_loadd(a, x, row_bytes);              \
        _tile_zero(c);                             \
        _tile_dpbssd(c, a, b);                     \
        _tile_stored(c, to, 64);                   \
    } while (0)

/* The products of blocks [b, b + RUN) of a tile's n; x: the group's rows at b, w the tile's lines.
 */
INGLE_INLINE void run_products(const uint8_t *x, uint64_t row_bytes, const uint8_t (*w)[8][64],
                               uint32_t b, uint32_t n, struct sums *ret)
{
    if (b < n) {
        TILE_PRODUCT(TILE_C0, TILE_A0, TILE_B0, x, row_bytes, w[b], ret->sum[b % RING]);
    }
    if (b + 1 < n) {
        TILE_PRODUCT(TILE_C1, TILE_A1, TILE_B1, x + ingle_mm_group_bytes(false), row_bytes,
                     w[b + 1], ret->sum[(b + 1) % RING]);
    }
}

/* 16 rows times tile p of a panel. */
INGLE_INLINE void group_tile(const struct ingle_mm_group *group, int p)
{
    const struct panel *panel = group->panel;
    const uint64_t group_bytes = ingle_mm_group_bytes(false), row_bytes = group->x_stride;
    const uint8_t *x = group->x, *x8 = x + 8 * row_bytes; /* two, so that registers hold them all */
    struct sums sums;
    __m512 acc[GROUP];
#pragma GCC unroll 16
    for (int r = 0; r < GROUP; r++) {
        acc[r] =
            group->first ? _mm512_setzero_ps() : _mm512_load_ps(group->acc + (PAIR * r + p) * 16);
    }
    /* Loading a tile does not tell gcc 12 that it reads memory: the panel must be there. */
    __asm__("" ::: "memory");
    run_products(x, row_bytes, panel->codes[p], 0, group->n, &sums);
    for (uint32_t b = 0; b < group->n; b++, x += group_bytes, x8 += group_bytes) {
        if (b % RUN == 0) {
            run_products(x + RUN * group_bytes, row_bytes, panel->codes[p], b + RUN, group->n,
                         &sums);
        }
        const __m512 d = _mm512_load_ps(panel->d[p][b]);
#pragma GCC unroll 16
        for (int r = 0; r < GROUP; r++) {
            const uint8_t *at = (r < 8 ? x : x8) + (uint64_t)(r % 8) * row_bytes;
            const __m512 scale = _mm512_set1_ps(ingle_mm_tail(false, at)->scale);
            const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums.sum[b % RING][r]));
            acc[r] = _mm512_fmadd_ps(sum, _mm512_mul_ps(d, scale), acc[r]);
        }
    }
    end_tile(group, p, GROUP, (int)group->skip, acc, 1);
}

static void group_tiles(const struct ingle_mm_group *group)
{
    for (int p = 0; p < PAIR; p++) {
        group_tile(group, p);
    }
}

/* ---- instances ---- */

/* The types of one scale a block and no minimum: with more of them the vectors have more to do than
 * the tiles save. */
#define PLAIN(X) X(Q4_0) X(Q5_0) X(Q8_0) X(IQ4_NL)

#define DECODE_INSTANCE(type)                                       \
    static void decode_##type(const struct ingle_mm_decode *decode) \
    {                                                               \
        decode_tile(INGLE_W_##type, decode);                        \
    }
PLAIN(DECODE_INSTANCE)

static ingle_mm_decode_fn *decode_fn(enum ingle_wtype type)
{
#define DECODE_ENTRY(type) [INGLE_W_##type] = decode_##type,
    static ingle_mm_decode_fn *const fns[INGLE_W_COUNT] = {PLAIN(DECODE_ENTRY)};
    return fns[type];
}

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
    assert(decode_fn(type) && !two && rows == GROUP);
    return group_tiles;
}

static bool gains(const struct ingle_arg_matmul *arg)
{
    bool plain =
        arg->T >= ROWS_LEAST && arg->x->mode == INGLE_ACT_INT8 && arg->x->cols <= COLS_MOST;
    for (uint32_t i = 0; i < arg->n_w; i++) {
        plain = plain && decode_fn(arg->w[i].type);
    }
    return plain;
}

void INGLE_VARIANT(matmul)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    static const struct ingle_mm_isa isa = {.pair = PAIR,
                                            .blocks = INGLE_MM_BLOCKS,
                                            .few = INGLE_MM_FEW,
                                            .few_max = INGLE_FEW_ROWS,
                                            .group = GROUP,
                                            .whole = true,
                                            .decode_fn = decode_fn,
                                            .group_fn = group_fn,
                                            .glu_put = ingle_glu_put_avx512};
    static_assert(ROWS_LEAST > INGLE_FEW_ROWS, "no op of few rows comes here");
    if (!gains(&op->matmul)) {
        ingle_matmul_avx512(op, worker);
        return;
    }
    _tile_loadconfig(&tile_config);
    ingle_mm_run(&isa, op, worker);
    _tile_release();
}
