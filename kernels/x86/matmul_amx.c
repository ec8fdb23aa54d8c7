/* The matrix product of many rows with AMX tiles; few rows, floats and everything around are those
 * of AVX-512 (matmul_zmm.h), ref/matmul.c states the arithmetic. A tile product multiplies a block
 * of 16 activation rows (A: their signed codes, where they lie) with the same block of a packed
 * tile (B: 8 lines of 16 matrix rows x 4 columns, the packed layout) and gives 16 x 16 sums of 32
 * bits (C). Codes that are scaled by halves of a block take two products of 16 columns.
 *
 * The panel holds codes as signed bytes with the zero point taken off, so a sum is ready as it
 * leaves its tile. What a block costs by estimate is 16 cycles of the tile unit and 24 of two
 * vector ports: each of its 16 vectors takes a conversion, scale times d and a fused multiply-add.
 * So the products of a block are begun before the sums of the block before it are taken in, and a
 * group keeps 16 rows' sums of one tile in registers over all blocks of a panel.
 *
 * Tiles are configured for the time of an op on the thread that runs it; no thread keeps any. All
 * groups have 16 rows, so one configuration serves. */
#include "kernels/x86/matmul_zmm.h"

enum {
    GROUP = 16
};

/* Numbers of tile registers; the intrinsics want them as literals. Two of each for whole blocks, so
 * that one product need not wait for the other. */
#define TILE_C0     0
#define TILE_C1     1
#define TILE_A0     2 /* 32 columns */
#define TILE_A1     3
#define TILE_B0     4
#define TILE_B1     5
#define TILE_A_HALF 6 /* 16 columns */
#define TILE_B_HALF 7

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
                  [TILE_A0] = 32,
                  [TILE_A1] = 32,
                  [TILE_B0] = 64,
                  [TILE_B1] = 64,
                  [TILE_A_HALF] = 16,
                  [TILE_B_HALF] = 64},
    .rows = {[TILE_C0] = GROUP,
             [TILE_C1] = GROUP,
             [TILE_A0] = GROUP,
             [TILE_A1] = GROUP,
             [TILE_B0] = 8,
             [TILE_B1] = 8,
             [TILE_A_HALF] = GROUP,
             [TILE_B_HALF] = 4},
};

struct panel {
    uint8_t codes[PAIR][INGLE_MM_BLOCKS][8][64]; /* signed */
    float d[PAIR][INGLE_MM_BLOCKS][2][16], m[PAIR][INGLE_MM_BLOCKS][2][16];
};
static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

/* What the products of a block and of the one after it give: [plane][half of the block][odd block]
 * [row][matrix row]. The two blocks' sums are never 4 KiB apart, where a load seems to the
 * processor to depend on the other's store. */
struct sums {
    _Alignas(64) int32_t sum[2][2][2][GROUP][16];
};

INGLE_INLINE void decode_tile(enum ingle_wtype type, const struct ingle_mm_decode *decode)
{
    const bool halves = ingle_mm_halves(type), min = ingle_wform(type).min;
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
        for (int h = 0; h < (halves ? 2 : 1); h++) {
            _mm512_store_ps(panel->d[side][b][h], d[h]);
            if (min) {
                /* Halves: the sums at hand are -128 times what m belongs to. */
                __m512 scaled = _mm512_mul_ps(m[h], _mm512_set1_ps(-0.0078125f));
                _mm512_store_ps(panel->m[side][b][h], halves ? scaled : m[h]);
            }
        }
    }
}

/* C = A times the B that is loaded; at: the rows' codes, row_bytes apart. */
#define TILE_PRODUCT(c, a, b, at, row_bytes, to) \
    do {                                         \
        _tile_loadd(a, at, row_bytes);           \
        _tile_zero(c);                           \
        _tile_dpbssd(c, a, b);                   \
        _tile_stored(c, to, 64);                 \
    } while (0)

/* All products of one block: x the group's rows at it, w its lines. */
INGLE_INLINE void block_products(bool two, bool halves, bool odd, const uint8_t *x,
                                 uint64_t row_bytes, const uint8_t (*w)[64], struct sums *ret)
{
    if (halves) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const uint8_t *at = x + 16 * h;
            _tile_loadd(TILE_B_HALF, w[4 * h], 64);
            TILE_PRODUCT(TILE_C0, TILE_A_HALF, TILE_B_HALF, at, row_bytes, ret->sum[0][h][odd]);
            if (two) {
                TILE_PRODUCT(TILE_C1, TILE_A_HALF, TILE_B_HALF, at + INGLE_ACT_GROUP, row_bytes,
                             ret->sum[1][h][odd]);
            }
        }
    } else if (two) {
        _tile_loadd(TILE_B0, w, 64);
        TILE_PRODUCT(TILE_C0, TILE_A0, TILE_B0, x, row_bytes, ret->sum[0][0][odd]);
        TILE_PRODUCT(TILE_C1, TILE_A1, TILE_B0, x + INGLE_ACT_GROUP, row_bytes,
                     ret->sum[1][0][odd]);
    } else if (odd) {
        _tile_loadd(TILE_B1, w, 64);
        TILE_PRODUCT(TILE_C1, TILE_A1, TILE_B1, x, row_bytes, ret->sum[0][0][odd]);
    } else {
        _tile_loadd(TILE_B0, w, 64);
        TILE_PRODUCT(TILE_C0, TILE_A0, TILE_B0, x, row_bytes, ret->sum[0][0][odd]);
    }
}

/* The sums of row r over a block or half of it, as floats. In INT16 mode 128 * high + low. */
INGLE_INLINE __m512 sum_floats(bool two, const struct sums *sums, bool odd, int h, int r)
{
    __m512i sum = _mm512_load_si512(sums->sum[0][h][odd][r]);
    if (two) {
        __m512i low = _mm512_load_si512(sums->sum[1][h][odd][r]);
        sum = _mm512_add_epi32(low, _mm512_slli_epi32(sum, 7));
    }
    return _mm512_cvtepi32_ps(sum);
}

/* acc + one block of row r and one tile. */
INGLE_INLINE __m512 block_row(bool two, bool halves, bool min, const struct ingle_act_tail *tail,
                              const struct sums *sums, bool odd, int r, const __m512 d[2],
                              const __m512 m[2], __m512 acc)
{
    const __m512 scale = _mm512_set1_ps(tail->scale);
    acc = _mm512_fmadd_ps(sum_floats(two, sums, odd, 0, r), _mm512_mul_ps(d[0], scale), acc);
    if (halves) {
        acc = _mm512_fmadd_ps(sum_floats(two, sums, odd, 1, r), _mm512_mul_ps(d[1], scale), acc);
    }
    if (min && halves) {
        float sum0 = (float)tail->bias0 * tail->scale;
        float sum1 = (float)(tail->bias - tail->bias0) * tail->scale;
        acc = _mm512_fmadd_ps(_mm512_set1_ps(sum0), m[0], acc);
        acc = _mm512_fmadd_ps(_mm512_set1_ps(sum1), m[1], acc);
    } else if (min) {
        acc = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), m[0], acc);
    }
    return acc;
}

/* 16 rows times tile p of a panel. */
INGLE_INLINE void group_tile(bool two, bool halves, bool min, const struct ingle_mm_group *group,
                             int p)
{
    const struct panel *panel = group->panel;
    const uint64_t group_bytes = ingle_mm_group_bytes(two), row_bytes = group->x_stride;
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
    block_products(two, halves, false, x, row_bytes, panel->codes[p][0], &sums);
    for (uint32_t b = 0; b < group->n; b++, x += group_bytes, x8 += group_bytes) {
        const bool odd = b % 2;
        if (b + 1 < group->n) {
            block_products(two, halves, !odd, x + group_bytes, row_bytes, panel->codes[p][b + 1],
                           &sums);
        }
        const __m512 d[2] = {_mm512_load_ps(panel->d[p][b][0]), _mm512_load_ps(panel->d[p][b][1])};
        const __m512 m[2] = {_mm512_load_ps(panel->m[p][b][0]), _mm512_load_ps(panel->m[p][b][1])};
#pragma GCC unroll 16
        for (int r = 0; r < GROUP; r++) {
            const uint8_t *at = (r < 8 ? x : x8) + (uint64_t)(r % 8) * row_bytes;
            const struct ingle_act_tail *tail = ingle_mm_tail(two, at);
            acc[r] = block_row(two, halves, min, tail, &sums, odd, r, d, m, acc[r]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < GROUP; r++) {
        if ((uint32_t)r >= group->skip) {
            end_tile(group, r, p, acc[r]);
        }
    }
}

/* ---- instances ---- */

#define DECODE_INSTANCE(type)                                       \
    static void decode_##type(const struct ingle_mm_decode *decode) \
    {                                                               \
        decode_tile(INGLE_W_##type, decode);                        \
    }
INGLE_MM_QUANTISED(DECODE_INSTANCE)

static ingle_mm_decode_fn *decode_fn(enum ingle_wtype type)
{
#define DECODE_ENTRY(type) [INGLE_W_##type] = decode_##type,
    static ingle_mm_decode_fn *const fns[INGLE_W_COUNT] = {INGLE_MM_QUANTISED(DECODE_ENTRY)};
    return fns[type];
}

#define GROUP_INSTANCE(two, halves, min)                                     \
    static void group_##two##halves##min(const struct ingle_mm_group *group) \
    {                                                                        \
        for (int p = 0; p < PAIR; p++) {                                     \
            group_tile(two, halves, min, group, p);                          \
        }                                                                    \
    }
GROUP_INSTANCE(0, 0, 0)
GROUP_INSTANCE(0, 0, 1)
GROUP_INSTANCE(0, 1, 0)
GROUP_INSTANCE(0, 1, 1)
GROUP_INSTANCE(1, 0, 0)
GROUP_INSTANCE(1, 0, 1)
GROUP_INSTANCE(1, 1, 0)
GROUP_INSTANCE(1, 1, 1)

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
    static ingle_mm_group_fn *const fns[2][2][2] = {
        {{group_000, group_001}, {group_010, group_011}},
        {{group_100, group_101}, {group_110, group_111}}};
    assert(rows == GROUP);
    return fns[two][ingle_mm_halves(type)][ingle_wform(type).min];
}

void INGLE_VARIANT(matmul)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    static const struct ingle_mm_isa isa = {.pair = PAIR,
                                            .few = INGLE_MM_FEW,
                                            .few_max = INGLE_MM_FEW_MAX,
                                            .group_float = INGLE_MM_GROUP_FLOAT_AVX512,
                                            .group = GROUP,
                                            .whole = true,
                                            .few_fn = ingle_mm_few_avx512,
                                            .decode_fn = decode_fn,
                                            .group_fn = group_fn,
                                            .decode_float_fn = ingle_mm_decode_float_avx512,
                                            .group_float_fn = ingle_mm_group_float_avx512,
                                            .glu_put = ingle_glu_put_avx512};
    const bool tiles = op->matmul.T > isa.few_max && op->matmul.x->mode != INGLE_ACT_F32;
    static_assert(GROUP <= INGLE_MM_FEW_MAX, "an op of many rows fills a group");
    if (tiles) {
        _tile_loadconfig(&tile_config);
    }
    ingle_mm_run(&isa, op, worker);
    if (tiles) {
        _tile_release();
    }
}
