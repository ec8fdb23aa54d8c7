/* The matrix product of many rows with AMX tiles; the rest, and everything around, is AVX-512's
 * (matmul_zmm.h). ref/matmul.c states the arithmetic. A tile product multiplies a block of 16
 * activation rows (A: their signed codes, where they lie) with the same block of a packed tile (B:
 * 8 lines of 16 matrix rows x 4 columns, the packed layout) and gives 16 x 16 sums of 32 bits (C).
 * Where halves of a block have scales of their own, and for activations in two planes, a block
 * takes two of them.
 *
 * The panel holds codes as signed bytes with the zero point taken off, so a sum is ready as it
 * leaves its tile. It reaches the vectors through memory, and that takes long: so all rows, tiles
 * and blocks of a panel are one sequence in which products run two ahead and stores one ahead of
 * the vectors, which keep 16 rows' sums of one tile of the matrix in registers over all blocks.
 *
 * While tiles are in use, the core's second multiplier of 512 bits is not (measured: additions keep
 * both of their ports, conversions and multiplications one). So most integers become floats by two
 * additions instead of a conversion.
 *
 * Tiles are configured for the time of a panel on the thread that runs it; no thread keeps any. */
#include "kernels/x86/matmul_zmm.h"
#include "kernels/x86/tile_amx.h"

enum {
    GROUP = 16,     /* rows of a tile */
    BLOCKS = 28,    /* 28 KiB of codes */
    ROWS_LEAST = 32 /* below, groups that are not full cost too much */
};

/* Numbers of tile registers, which the intrinsics want as literals. */
#define TILE_C0 0
#define TILE_C1 1
#define TILE_A0 2
#define TILE_A1 3
#define TILE_B0 4
#define TILE_B1 5

/* Products of `cols` columns. */
#define TILE_CONFIG(cols)                                                                   \
    {                                                                                       \
        .palette = 1, .row_bytes = {[TILE_C0] = 64,     [TILE_C1] = 64, [TILE_A0] = (cols), \
                                    [TILE_A1] = (cols), [TILE_B0] = 64, [TILE_B1] = 64},    \
        .rows = {[TILE_C0] = GROUP, [TILE_C1] = GROUP,      [TILE_A0] = GROUP,              \
                 [TILE_A1] = GROUP, [TILE_B0] = (cols) / 4, [TILE_B1] = (cols) / 4},        \
    }
static const struct tile_config config_block = TILE_CONFIG(INGLE_BLOCK_COLS);
static const struct tile_config config_half = TILE_CONFIG(INGLE_BLOCK_COLS / 2);

struct panel {
    uint8_t codes[PAIR][BLOCKS][8][64]; /* signed */
    float d[PAIR][BLOCKS][2][16], m[PAIR][BLOCKS][16];
};
static_assert(sizeof(struct panel) <= INGLE_MM_PANEL_BYTES, "fits the scratch");

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
        _mm512_store_ps(panel->d[side][b][0], d[0]);
        if (ingle_mm_halves(type)) {
            _mm512_store_ps(panel->d[side][b][1], d[1]);
        }
        if (ingle_wform(type).min) {
            _mm512_store_ps(panel->m[side][b], m[0]);
        }
    }
}

/* What a panel's kernel is compiled for. */
struct form {
    bool two, halves, min;
};

/* What is read of a group over and over: the compiler must assume that what is written changes what
 * the group points to. */
struct rows {
    const struct panel *panel;
    const uint8_t *x; /* as the group's */
    uint64_t stride, block_bytes;
    uint32_t last, n; /* first of the last 16 rows; blocks */
};

/* A place in the sequence of a panel's products: 16 rows, one of its tiles, a block. */
struct place {
    const uint8_t *x, *w; /* the first row's codes, the tile's */
    uint32_t left;        /* blocks of this tile, with this one */
    uint32_t row, side;
};

INGLE_INLINE struct place place_at(const struct rows *rows, uint32_t row, uint32_t side)
{
    return (struct place){.x = rows->x + row * rows->stride,
                          .w = rows->panel->codes[side][0][0],
                          .left = rows->n,
                          .row = row,
                          .side = side};
}

/* The next place; behind the last one the last 16 rows again, whose sums nobody takes. */
INGLE_INLINE void place_next(const struct rows *rows, struct place *place)
{
    place->x += rows->block_bytes;
    place->w += sizeof rows->panel->codes[0][0];
    if (--place->left > 0) {
        return;
    }
    if (place->side + 1 < PAIR) {
        *place = place_at(rows, place->row, place->side + 1);
    } else {
        uint32_t row = place->row + GROUP;
        *place = place_at(rows, row < rows->last ? row : rows->last, 0);
    }
}

/* The sums of one block, one or two of each. */
struct sums {
    _Alignas(64) int32_t sum[2][GROUP][16];
};

#define TILE_PRODUCT(c, a, b)  \
    do {                       \
        _tile_zero(c);         \
        _tile_dpbssd(c, a, b); \
    } while (0)

/* Store the products that were begun before, if any, and begin those of a block; x: its codes, w:
 * its lines. */
INGLE_INLINE void multiply(const struct form form, const uint8_t *x, uint64_t stride,
                           const uint8_t *w, struct sums *ret)
{
    _tile_loadd(TILE_B0, w, 64);
    _tile_loadd(TILE_A0, x, stride);
    if (form.halves) {
        _tile_loadd(TILE_B1, w + 256, 64);
        _tile_loadd(TILE_A1, x + 16, stride);
    } else if (form.two) {
        _tile_loadd(TILE_A1, x + 32, stride);
    }
    if (ret) {
        _tile_stored(TILE_C0, ret->sum[0], 64);
        if (form.halves || form.two) {
            _tile_stored(TILE_C1, ret->sum[1], 64);
        }
    }
    TILE_PRODUCT(TILE_C0, TILE_A0, TILE_B0);
    if (form.halves) {
        TILE_PRODUCT(TILE_C1, TILE_A1, TILE_B1);
    } else if (form.two) {
        TILE_PRODUCT(TILE_C1, TILE_A1, TILE_B0);
    }
}

/* Whole numbers below 2^22 as floats by two additions, for which there is another port. `bits` are
 * those of a float whose last bit is worth 1, or 128, which then multiplies. */
#define BITS_1   0x4b400000 /* 2^23 + 2^22 */
#define BITS_128 0x4ec00000 /* 2^30 + 2^29 */
INGLE_INLINE __m512 added(const int32_t *sum, int32_t bits)
{
    const __m512i base = _mm512_set1_epi32(bits);
    return _mm512_sub_ps(_mm512_castsi512_ps(_mm512_add_epi32(base, _mm512_load_si512(sum))),
                         _mm512_castsi512_ps(base));
}

INGLE_INLINE __m512 converted(const int32_t *sum)
{
    return _mm512_cvtepi32_ps(_mm512_load_si512(sum));
}

/* Row r's sums as floats, of two planes 128 times the first and the second: rounded once, as if a
 * whole number had been converted. Some are converted so that both ports have as much to do, one of
 * which also moves what tiles store. */
INGLE_INLINE __m512 value_of(const struct form form, const struct sums *sums, int part, int r)
{
    if (form.two) {
        return _mm512_add_ps(added(sums->sum[0][r], BITS_128), r % 4 == 3
                                                                   ? added(sums->sum[1][r], BITS_1)
                                                                   : converted(sums->sum[1][r]));
    }
    return r % 3 == 2 ? converted(sums->sum[part][r]) : added(sums->sum[part][r], BITS_1);
}

/* The sums of one block of 16 rows into acc; x: its codes, d, m: its scales. */
INGLE_INLINE void take(const struct form form, const struct sums *sums, const uint8_t *x,
                       uint64_t stride, const float (*d)[16], const float *m, __m512 acc[GROUP])
{
#pragma GCC unroll 16
    for (int r = 0; r < GROUP; r++, x += stride) {
        /* Walk, rather than keep all multiples of the stride in registers that there are not. */
        __asm__("" : "+r"(x));
        const struct ingle_act_tail *tail = ingle_mm_tail(form.two, x);
        const __m512 scale = _mm512_set1_ps(tail->scale);
        __m512 value = value_of(form, sums, 0, r);
        acc[r] = _mm512_fmadd_ps(value, _mm512_mul_ps(_mm512_load_ps(d[0]), scale), acc[r]);
        if (form.halves) {
            value = value_of(form, sums, 1, r);
            acc[r] = _mm512_fmadd_ps(value, _mm512_mul_ps(_mm512_load_ps(d[1]), scale), acc[r]);
        }
        if (form.min) {
            acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(tail->sum), _mm512_load_ps(m), acc[r]);
        }
    }
}

/* Where sums will be written in some blocks' time, a row with each of the last 16 blocks. The core
 * that read those lines last has them otherwise, and a store that waits for it holds up the tiles'
 * stores behind it. */
struct ahead {
    const float *y; /* NULL: they stay here */
    uint64_t stride;
};

INGLE_INLINE struct ahead ahead_of(const struct ingle_mm_group *group, uint32_t row, uint32_t p)
{
    const struct ingle_mm_out *out = &group->out[p];
    return group->out ? (struct ahead){out->y + (group->row + row) * out->stride, out->stride}
                      : (struct ahead){0};
}

INGLE_INLINE void ahead_fetch(struct ahead *ahead, uint32_t left)
{
    if (ahead->y && left <= GROUP) {
        __builtin_prefetch(ahead->y, 1, 3);
        ahead->y += ahead->stride;
    }
}

INGLE_INLINE void group_panel(const struct form form, const struct ingle_mm_group *group)
{
    const struct rows rows = {.panel = group->panel,
                              .x = group->x,
                              .stride = group->x_stride,
                              .block_bytes = ingle_mm_group_bytes(form.two),
                              .last = group->rows - GROUP,
                              .n = group->n};
    const uint32_t pieces = (group->rows + GROUP - 1) / GROUP;
    struct place place = place_at(&rows, 0, 0);
    struct sums ring[2], *now = &ring[0], *next = &ring[1];
    _tile_loadconfig(form.halves ? &config_half : &config_block);
    /* Loading a tile does not tell gcc 12 that it reads memory: the panel must be there. */
    __asm__("" ::: "memory");
    multiply(form, place.x, rows.stride, place.w, NULL);
    place_next(&rows, &place);
    multiply(form, place.x, rows.stride, place.w, now);
    place_next(&rows, &place);
    for (uint32_t k = 0; k < pieces; k++) {
        const uint32_t row = k * GROUP < rows.last ? k * GROUP : rows.last;
        for (uint32_t p = 0; p < PAIR; p++) {
            const uint8_t *x = rows.x + row * rows.stride;
            struct ahead ahead = ahead_of(group, row, p);
            const float(*d)[2][16] = rows.panel->d[p], (*m)[16] = rows.panel->m[p];
            const float *from = group->acc + (PAIR * (uint64_t)row + p) * 16;
            __m512 acc[GROUP];
#pragma GCC unroll 16
            for (int r = 0; r < GROUP; r++) {
                acc[r] =
                    group->first ? _mm512_setzero_ps() : _mm512_load_ps(from + (PAIR * r) * 16);
            }
            for (uint32_t b = rows.n; b > 0; b--) {
                ahead_fetch(&ahead, b);
                multiply(form, place.x, rows.stride, place.w, next);
                place_next(&rows, &place);
                take(form, now, x, rows.stride, *d, *m, acc);
                struct sums *was = now;
                now = next;
                next = was;
                x += rows.block_bytes;
                d++;
                m++;
            }
            end_tile(group, row, (int)p, GROUP, (int)(k * GROUP - row), acc, 1);
        }
        ingle_mm_fetch_next(group, k, pieces);
    }
    _tile_release();
}

/* ---- instances ---- */

INGLE_MM_DECODE_FN()

#define FORM_INSTANCE(two, halves, min)                                      \
    static void group_##two##halves##min(const struct ingle_mm_group *group) \
    {                                                                        \
        group_panel((struct form){two, halves, min}, group);                 \
    }
FORM_INSTANCE(0, 0, 0)
FORM_INSTANCE(0, 0, 1)
FORM_INSTANCE(0, 1, 0)
FORM_INSTANCE(1, 0, 0)
FORM_INSTANCE(1, 0, 1)

/* NULL for what would take four products a block, or two minima. */
static ingle_mm_group_fn *form_fn(enum ingle_wtype type, bool two)
{
    static ingle_mm_group_fn *const fns[2][2][2] = {{{group_000, group_001}, {group_010, NULL}},
                                                    {{group_100, group_101}, {NULL, NULL}}};
    return fns[two][ingle_mm_halves(type)][ingle_wform(type).min];
}

static ingle_mm_group_fn *group_fn(enum ingle_wtype type, bool two, uint32_t rows)
{
    ingle_mm_group_fn *fn = form_fn(type, two);
    assert(fn && rows >= GROUP);
    return fn;
}

/* No matrix of floats. */
static bool all_codes(const struct ingle_arg_matmul *arg)
{
    bool all = true;
    for (uint32_t i = 0; i < arg->n_w; i++) {
        all = all && !ingle_wtype_is_float(arg->w[i].type);
    }
    return all;
}

static bool gains(const struct ingle_arg_matmul *arg)
{
    const bool two = arg->x->mode == INGLE_ACT_INT16;
    bool all = arg->T >= ROWS_LEAST && ingle_act_is_codes(arg->x->mode) && all_codes(arg);
    for (uint32_t i = 0; all && i < arg->n_w; i++) {
        all = form_fn(arg->w[i].type, two);
    }
    return all;
}

void INGLE_VARIANT(matmul)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    static const struct ingle_mm_isa isa = {.pair = PAIR,
                                            .blocks = BLOCKS,
                                            .few = INGLE_MM_FEW,
                                            .few_max = INGLE_FEW_ROWS,
                                            .group = INGLE_MM_ROWS,
                                            .decode_fn = decode_fn,
                                            .group_fn = group_fn,
                                            .glu_put = ingle_glu_put_avx512};
    static_assert(ROWS_LEAST > INGLE_FEW_ROWS, "no op of few rows comes here");
    if (all_codes(&op->matmul) && op->matmul.x->mode == INGLE_ACT_BF16) {
        ingle_mm_run(&INGLE_VARIANT(mm_bf16), op, worker);
    } else if (gains(&op->matmul)) {
        ingle_mm_run(&isa, op, worker);
    } else {
        ingle_matmul_avx512(op, worker);
    }
}
