/* Activation rows as the kernels lay them out; ref/act_put.h fills them.
 *
 *   F32    cols floats
 *   INT8   one struct ingle_act8 per group of 32 columns
 *   INT16  one struct ingle_act16 per group of 32 columns
 *   BF16   32 bfloat16 per group of 32 columns
 *
 * A group carries its codes, its scale and what zero points and minima need, so that one pointer
 * per token serves a whole row. Columns beyond cols are zero codes. Rows are 64-byte multiples.
 *
 * INT8:  a = max |x| of the group; the scale s is a / 127 rounded up to 2^e (1 + k / 8);
 *        q = x * (1 / s) rounded to nearest even.
 * INT16: s from a / 16256 in the same way, v = x * (1 / s) rounded; hi = (v + 64) >> 7 in
 *        -127..127, lo = v - 128 hi in -64..63; the value is s * v.
 * A scale of so few bits times a weight's scale is exact in f32, so a product may apply it in parts
 * and in any order: a panel holds each weight scale with the eight fractions multiplied in, and
 * what is left is a power of two. It costs 5 % of a code's precision (the mean of s over a / 127).
 *
 * BF16:  x rounded to nearest even; |x| < 2^-80 is 0. A NaN, an Inf or |x| of 2^80 and more: NaN.
 *
 * a < 2^-80: s = 0 and zero codes. A NaN, an Inf or a value of 2^80 and more in the group: s = NaN
 * and zero codes, so that every output of the row is NaN. The maximum is taken over the bit
 * patterns of |x|, in which Inf and NaN are the largest: no order of comparison can lose one. */
#ifndef INGLE_KERNELS_ACT_H
#define INGLE_KERNELS_ACT_H
#include <assert.h>
#include <stdint.h>

#include "kernels/half.h"
#include "kernels/kernels.h"

#define INGLE_ACT8_MAX  127.0f
#define INGLE_ACT16_MAX 16256.0f
#define INGLE_ACT_TINY  0x1p-80f
#define INGLE_ACT_HUGE  0x1p80f

/* Sums that are floats all along: the bits of an INT8 group's scale 2^e (1 + k / 8), plus these,
 * are the bits of 2^e (2^23 + 2^20 k + 2^19), and adding a whole number |I| < 2^19 to bits of that
 * is adding 2^e I to its value. So integer products are summed onto it, and taking it away again
 * leaves 2^e I, exactly and without a conversion. 32 columns with codes in -128..127 stay below. */
#define INGLE_ACT8_ORIGIN ((23 << 23) + (1 << 19))
static_assert(INGLE_ACT_GROUP * 128 * 127 < 1 << 19, "no sum of a group leaves its mantissa");

#define INGLE_ACT_FRACTION_BITS 3 /* of a scale: k */
#define INGLE_ACT_FRACTIONS     (1 << INGLE_ACT_FRACTION_BITS)

/* What a group carries beside its codes, Q0 and Q1 being the sums of its codes over the first and
 * the last 16 columns. The products with -128 are where an integer sum of unsigned codes with zero
 * point 128 begins; other zero points are powers of two and take a shift. */
struct ingle_act_tail {
    float scale;
    int32_t bias;  /* -128 (Q0 + Q1); with a scale of NaN -INGLE_ACT8_ORIGIN, so that */
    int32_t bias0; /* -128 Q0;        a sum that is a float all along is NaN too */
    float sum;     /* scale * (Q0 + Q1), exact */
};

struct ingle_act8 {
    int8_t q[INGLE_ACT_GROUP];
    struct ingle_act_tail tail;
};

struct ingle_act16 {
    int8_t hi[INGLE_ACT_GROUP], lo[INGLE_ACT_GROUP];
    struct ingle_act_tail tail;
};

static_assert(sizeof(struct ingle_act8) == 48, "act8 is three quarters of a line");
static_assert(sizeof(struct ingle_act16) == 80, "act16 is five quarters of a line");

/* k of a scale; any of the eight for 0 and NaN. */
static inline uint32_t ingle_act_fraction(float scale)
{
    return ingle_bits_of_f32(scale) >> (23 - INGLE_ACT_FRACTION_BITS) & (INGLE_ACT_FRACTIONS - 1);
}

/* Integers with a scale for each group. */
static inline bool ingle_act_is_codes(enum ingle_act_mode mode)
{
    return mode == INGLE_ACT_INT8 || mode == INGLE_ACT_INT16;
}

static inline uint64_t ingle_act_group_bytes(enum ingle_act_mode mode)
{
    return mode == INGLE_ACT_INT8    ? sizeof(struct ingle_act8)
           : mode == INGLE_ACT_INT16 ? sizeof(struct ingle_act16)
           : mode == INGLE_ACT_BF16  ? INGLE_ACT_GROUP * sizeof(uint16_t)
                                     : INGLE_ACT_GROUP * sizeof(float);
}

static inline uint32_t ingle_act_groups(uint32_t cols)
{
    return (cols + INGLE_ACT_GROUP - 1) / INGLE_ACT_GROUP;
}

#endif
