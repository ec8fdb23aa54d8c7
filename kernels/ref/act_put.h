/* The quantisation of one group of 32 activations; act.h states what is written. Inline, because
 * every operation that produces activations ends in it and is compiled for each instruction set. */
#ifndef INGLE_KERNELS_REF_ACT_PUT_H
#define INGLE_KERNELS_REF_ACT_PUT_H
#include <math.h>
#include <string.h>

#include "kernels/act.h"
#include "kernels/half.h"

/* v[i] = x[i] * (limit / max |x|), rounded; returns the scale. */
static inline float ingle_act_codes(const float *x, float limit, int32_t v[INGLE_ACT_GROUP])
{
    uint32_t max_bits = 0;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        uint32_t bits = ingle_bits_of_f32(x[i]) & 0x7fffffffu;
        max_bits = bits > max_bits ? bits : max_bits;
    }
    float max = ingle_f32_of_bits(max_bits);
    if (max_bits >= 0x7f800000u || max < INGLE_ACT_TINY) {
        memset(v, 0, INGLE_ACT_GROUP * sizeof v[0]);
        return max < INGLE_ACT_TINY ? 0.0f : NAN;
    }
    float inverse = limit / max;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        /* Adding 1.5 * 2^23 leaves the nearest even integer in the low bits. */
        float t = x[i] * inverse + 0x1.8p+23f;
        v[i] = (int32_t)(ingle_bits_of_f32(t) - ingle_bits_of_f32(0x1.8p+23f));
    }
    return max / limit;
}

/* By four vectors of four: written as one loop, gcc 12 adds sixteen scalars. */
static inline int32_t ingle_act_sum16(const int32_t *v)
{
    typedef int32_t four __attribute__((vector_size(16)));
    four s[4];
    memcpy(s, v, sizeof s);
    s[0] = (s[0] + s[1]) + (s[2] + s[3]);
    return (s[0][0] + s[0][1]) + (s[0][2] + s[0][3]);
}

static inline struct ingle_act_tail ingle_act_tail(float scale, const int32_t v[INGLE_ACT_GROUP])
{
    int32_t first = ingle_act_sum16(v), last = ingle_act_sum16(v + 16);
    return (struct ingle_act_tail){.scale = scale,
                                   .bias = -128 * (first + last),
                                   .bias0 = -128 * first,
                                   .sum = (float)(first + last)};
}

/* Columns [32 group, min(32 group + 32, cols)) of one row; values of x beyond cols are ignored. */
static inline void ingle_act_put_group(const struct ingle_act *act, uint64_t row, uint64_t group,
                                       const float *x)
{
    uint8_t *base = act->rows + row * act->row_stride;
    uint64_t first = group * INGLE_ACT_GROUP;
    uint64_t n = act->cols - first < INGLE_ACT_GROUP ? act->cols - first : INGLE_ACT_GROUP;
    float padded[INGLE_ACT_GROUP];
    int32_t v[INGLE_ACT_GROUP];
    if (act->mode == INGLE_ACT_F32) {
        memcpy((float *)(void *)base + first, x, n * sizeof *x);
        return;
    }
    if (n < INGLE_ACT_GROUP) {
        memset(padded, 0, sizeof padded);
        memcpy(padded, x, n * sizeof *x);
        x = padded;
    }
    if (act->mode == INGLE_ACT_INT8) {
        struct ingle_act8 *out = (struct ingle_act8 *)(void *)base + group;
        float scale = ingle_act_codes(x, INGLE_ACT8_MAX, v);
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            out->q[i] = (int8_t)v[i];
        }
        out->tail = ingle_act_tail(scale, v);
    } else {
        struct ingle_act16 *out = (struct ingle_act16 *)(void *)base + group;
        float scale = ingle_act_codes(x, INGLE_ACT16_MAX, v);
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            int32_t hi = (v[i] + 64) >> 7;
            out->hi[i] = (int8_t)hi;
            out->lo[i] = (int8_t)(v[i] - 128 * hi);
        }
        out->tail = ingle_act_tail(scale, v);
    }
}

#endif
