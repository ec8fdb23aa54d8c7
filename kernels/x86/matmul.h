/* The parts of the matrix product that an instruction set supplies to matmul.c, and their
 * arguments. Two ways through a product with integer activations:
 *
 *   few rows   one pass over the packed weights: a block is taken apart in registers and multiplied
 *              with up to INGLE_MM_FEW rows; the following tile is prefetched meanwhile
 *   many rows  some blocks of one or two tiles are decoded once into a panel that fits the
 *              first-level cache, then groups of rows run over it; their partial sums wait
 *              in the scratch for the next panel
 *
 * Float weights or float activations go the second way with a panel of f32. */
#ifndef INGLE_KERNELS_X86_MATMUL_H
#define INGLE_KERNELS_X86_MATMUL_H
#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/pack.h"
#include "kernels/work.h"

#define INGLE_INLINE static inline __attribute__((always_inline))

#define INGLE_MM_FEW         8u   /* rows that share a block taken apart in registers, at most */
#define INGLE_MM_NEAR        4u   /* blocks from a few rows' block to what it fetches of its tile */
#define INGLE_MM_FLOAT_COLS  128u /* columns of a panel of floats: 8 KiB a tile */
#define INGLE_MM_PAIR        2u   /* tiles of a panel, at most */
#define INGLE_MM_ROWS        1024u /* rows whose partial sums fit the scratch */
#define INGLE_MM_PANEL_BYTES (64u * 1024u)

/* Every quantised type; every type. */
#define INGLE_MM_QUANTISED(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL)
#define INGLE_MM_ALL(X) X(F32) X(F16) X(BF16) INGLE_MM_QUANTISED(X)

/* Where the sums of one tile go. */
struct ingle_mm_out {
    float *y; /* row 0, the tile's first column */
    uint64_t stride;
    const float *bias; /* of the first column, or NULL */
    uint32_t n;        /* columns, 1..16 */
};

/* Some rows against one tile of one matrix: reads activations, writes y. */
struct ingle_mm_few {
    const struct ingle_act *x;
    struct ingle_mm_out out;
    struct ingle_tile_shape shape;
    uint32_t row0, row_end;     /* rows from row_end on are not stored */
    const uint8_t *tile, *next; /* `next` is prefetched, `ahead` bytes for each block */
    uint64_t ahead;
};
typedef void ingle_mm_few_fn(const struct ingle_mm_few *few);
/* few_TYPE_TWO_ROWS(), of a file whose few_rows() wants all three as constants. */
#define INGLE_MM_FEW_INSTANCE(type, two, rows)                              \
    static void few_##type##_##two##_##rows(const struct ingle_mm_few *few) \
    {                                                                       \
        few_rows(INGLE_W_##type, two, rows, few);                           \
    }

/* Blocks [first, first + n) of a tile, or columns of a tile of floats, into side `side` of a panel.
 */
struct ingle_mm_decode {
    const uint8_t *tile;
    struct ingle_tile_shape shape;
    uint32_t first, n, side;
    void *panel;
};
typedef void ingle_mm_decode_fn(const struct ingle_mm_decode *decode);

/* decode_fn() of a file whose decode_tile() wants the type as a constant: an instance of each. */
#define INGLE_MM_DECODE_INSTANCE(type)                              \
    static void decode_##type(const struct ingle_mm_decode *decode) \
    {                                                               \
        decode_tile(INGLE_W_##type, decode);                        \
    }
#define INGLE_MM_DECODE_ENTRY(type) [INGLE_W_##type] = decode_##type,
#define INGLE_MM_DECODE_FN()                                    \
    INGLE_MM_QUANTISED(INGLE_MM_DECODE_INSTANCE)                \
    static ingle_mm_decode_fn *decode_fn(enum ingle_wtype type) \
    {                                                           \
        static ingle_mm_decode_fn *const fns[INGLE_W_COUNT] = { \
            INGLE_MM_QUANTISED(INGLE_MM_DECODE_ENTRY)};         \
        return fns[type];                                       \
    }

/* A group of rows times a panel: acc += .., or y = acc + .. where the sums end. */
struct ingle_mm_group {
    const void *panel;
    const uint8_t *x;               /* first row's activations at the panel's first column */
    uint64_t x_stride;              /* bytes */
    float *acc;                     /* [rows][pair][16], 64-byte aligned */
    bool first;                     /* acc is only written: the sums begin here */
    uint32_t n;                     /* blocks, or columns of floats */
    const struct ingle_mm_out *out; /* [pair], or NULL: acc is wanted; */
    uint64_t row;                   /* out's row of the first one */
    uint32_t rows;
    const uint8_t *next; /* packed bytes of the strip that comes after this one, to be fetched */
    uint64_t next_bytes; /* meanwhile: ingle_mm_fetch_next(); whole lines */
};
typedef void ingle_mm_group_fn(const struct ingle_mm_group *group);

struct ingle_mm_isa {
    uint32_t pair;       /* tiles of a panel */
    bool bf16;           /* its codes are for BF16 activations, and else for integers */
    uint32_t blocks;     /* of a panel of codes, at most: what stays in the first-level cache beside
                          * rows and sums */
    uint64_t near_bytes; /* of activations that strips read in turn, at most; 0: any */
    uint32_t few, few_max; /* rows of one few call; rows of an op up to which it is used, at most
                            * INGLE_FEW_ROWS */
    uint32_t group, group_float; /* rows of a group of codes, of floats, at most */
    ingle_mm_few_fn *(*few_fn)(enum ingle_wtype type, bool two, uint32_t rows);
    ingle_mm_decode_fn *(*decode_fn)(enum ingle_wtype type);
    ingle_mm_group_fn *(*group_fn)(enum ingle_wtype type, bool two, uint32_t rows);
    ingle_mm_decode_fn *(*decode_float_fn)(enum ingle_wtype type);
    ingle_mm_group_fn *(*group_float_fn)(uint32_t rows);
    ingle_glu_put_fn *glu_put;
};

/* What a kernel of few rows fetches at block b of its tile: a share of the next tile into the
 * second-level cache, and this tile's codes a little further on into the first. */
INGLE_INLINE void ingle_mm_fetch(enum ingle_wtype type, const struct ingle_mm_few *few, uint32_t b)
{
    const struct ingle_wform form = ingle_wform(type);
    const uint8_t *next = few->next + few->ahead * b;
    const uint64_t line = 64 * (uint64_t)(b + INGLE_MM_NEAR);
    for (uint64_t at = 0; at < few->ahead; at += 64) {
        __builtin_prefetch(next + at, 0, 2);
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < form.low_bits; i++) {
        __builtin_prefetch(few->tile + line * form.low_bits + 64 * i, 0, 3);
    }
#pragma GCC unroll 2
    for (uint32_t i = 0; i < form.high_bits; i++) {
        __builtin_prefetch(few->tile + few->shape.high + line * form.high_bits + 64 * i, 0, 3);
    }
}

/* Part i of n of what a group is to fetch. It goes to the second-level cache, a little with each
 * few rows: a panel decoded from memory would wait for every line. */
INGLE_INLINE void ingle_mm_fetch_next(const struct ingle_mm_group *group, uint64_t i, uint64_t n)
{
    const uint64_t lines = group->next_bytes / 64;
    for (uint64_t line = lines * i / n; line < lines * (i + 1) / n; line++) {
        __builtin_prefetch(group->next + 64 * line, 0, 2);
    }
}

void ingle_mm_run(const struct ingle_mm_isa *isa, const struct ingle_op *op,
                  const struct ingle_worker *worker);

INGLE_INLINE uint64_t ingle_mm_group_bytes(bool two)
{
    return ingle_act_group_bytes(two ? INGLE_ACT_INT16 : INGLE_ACT_INT8);
}

INGLE_INLINE const struct ingle_act_tail *ingle_mm_tail(bool two, const uint8_t *group)
{
    return (const struct ingle_act_tail *)(const void *)(group + (two ? 64 : 32));
}

INGLE_INLINE bool ingle_mm_halves(enum ingle_wtype type)
{
    enum ingle_wscale scale = ingle_wform(type).scale;
    return scale == INGLE_WS_K16 || scale == INGLE_WS_K16M;
}

/* Bits by which a group's bias (-128 Q) is shifted right to be -zero Q. */
INGLE_INLINE unsigned int ingle_mm_bias_shift(enum ingle_wtype type)
{
    unsigned int zero = ingle_wform(type).zero;
    return zero == 128 ? 0 : zero == 32 ? 2 : zero == 16 ? 3 : zero == 8 ? 4 : 5;
}

#endif
