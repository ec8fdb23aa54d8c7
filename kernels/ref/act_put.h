/* The quantisation of one group of 32 activations; act.h states what is written. Inline, because
 * every operation that produces activations ends in it and is compiled for each instruction set. */
#ifndef INGLE_KERNELS_REF_ACT_PUT_H
#define INGLE_KERNELS_REF_ACT_PUT_H
#include <math.h>
#include <string.h>

#include "kernels/act.h"

/* The scale of a group whose largest |x| has these bits; NaN and Inf are above every number. */
static inline float ingle_act_scale(uint32_t max_bits, float limit)
{
    const uint32_t below = (1u << (23 - INGLE_ACT_FRACTION_BITS)) - 1u;
    if (max_bits >= ingle_bits_of_f32(INGLE_ACT_HUGE)) {
        return NAN;
    }
    if (max_bits < ingle_bits_of_f32(INGLE_ACT_TINY)) {
        return 0.0f;
    }
    uint32_t bits = ingle_bits_of_f32(ingle_f32_of_bits(max_bits) * (1.0f / limit));
    return ingle_f32_of_bits((bits + below) & ~below);
}

/* v[i] = x[i] / scale, rounded; returns the scale. */
static inline float ingle_act_codes(const float *x, float limit, int32_t v[INGLE_ACT_GROUP])
{
    uint32_t max_bits = 0;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        uint32_t bits = ingle_bits_of_f32(x[i]) & 0x7fffffffu;
        max_bits = bits > max_bits ? bits : max_bits;
    }
    float scale = ingle_act_scale(max_bits, limit);
    if (!(scale > 0.0f)) {
        memset(v, 0, INGLE_ACT_GROUP * sizeof v[0]);
        return scale;
    }
    float inverse = 1.0f / scale;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        /* Adding 1.5 * 2^23 leaves the nearest even integer in the low bits. */
        float t = x[i] * inverse + 0x1.8p+23f;
        v[i] = (int32_t)(ingle_bits_of_f32(t) - ingle_bits_of_f32(0x1.8p+23f));
    }
    return scale;
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

/* first, last: sums of the codes of a half. */
static inline struct ingle_act_tail ingle_act_tail(float scale, int32_t first, int32_t last)
{
    const bool nan = isnan(scale);
    return (struct ingle_act_tail){.scale = scale,
                                   .bias = nan ? -INGLE_ACT8_ORIGIN : -128 * (first + last),
                                   .bias0 = nan ? -INGLE_ACT8_ORIGIN : -128 * first,
                                   .sum = scale * (float)(first + last)};
}

static inline void ingle_act16_put(struct ingle_act16 *out, const float *x)
{
    int32_t v[INGLE_ACT_GROUP];
    float scale = ingle_act_codes(x, INGLE_ACT16_MAX, v);
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        int32_t hi = (v[i] + 64) >> 7;
        out->hi[i] = (int8_t)hi;
        out->lo[i] = (int8_t)(v[i] - 128 * hi);
    }
    out->tail = ingle_act_tail(scale, ingle_act_sum16(v), ingle_act_sum16(v + 16));
}

static inline void ingle_act_bf16_put(uint16_t *out, const float *x)
{
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        uint32_t size = ingle_bits_of_f32(x[i]) & 0x7fffffffu;
        uint16_t h = ingle_bf16_of_f32(x[i]);
        h = size < ingle_bits_of_f32(INGLE_ACT_TINY) ? 0 : h;
        out[i] = size >= ingle_bits_of_f32(INGLE_ACT_HUGE) ? 0x7fc0u : h;
    }
}

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#include "kernels/x86/act_avx512.h"
#else
#define INGLE_ACT_TOGETHER 8u

static inline void ingle_act8_put(struct ingle_act8 *out, const float *x)
{
    int32_t v[INGLE_ACT_GROUP];
    float scale = ingle_act_codes(x, INGLE_ACT8_MAX, v);
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        out->q[i] = (int8_t)v[i];
    }
    out->tail = ingle_act_tail(scale, ingle_act_sum16(v), ingle_act_sum16(v + 16));
}

/* Up to INGLE_ACT_TOGETHER groups x[n][32], in one plane or two, each `stride` bytes after the one
 * before. */
static inline void ingle_act_put_together(bool two, uint8_t *out, uint64_t stride, const float *x,
                                          uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, out += stride, x += INGLE_ACT_GROUP) {
        if (two) {
            ingle_act16_put((struct ingle_act16 *)(void *)out, x);
        } else {
            ingle_act8_put((struct ingle_act8 *)(void *)out, x);
        }
    }
}
#endif

/* Columns [32 group, min(32 group + 32, cols)) of one row; values of x beyond cols are ignored. */
static inline void ingle_act_put_group(const struct ingle_act *act, uint64_t row, uint64_t group,
                                       const float *x)
{
    uint8_t *base = act->rows + row * act->row_stride;
    uint64_t first = group * INGLE_ACT_GROUP;
    uint64_t n = act->cols - first < INGLE_ACT_GROUP ? act->cols - first : INGLE_ACT_GROUP;
    float padded[INGLE_ACT_GROUP];
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
        ingle_act8_put((struct ingle_act8 *)(void *)base + group, x);
    } else if (act->mode == INGLE_ACT_BF16) {
        ingle_act_bf16_put((uint16_t *)(void *)base + first, x);
    } else {
        ingle_act16_put((struct ingle_act16 *)(void *)base + group, x);
    }
}

/* n groups of x[n][32], the first of which is `group` of `row`; the others lie beside it in the
 * row, or (down) below it in the next rows. */
static inline void ingle_act_put_many(const struct ingle_act *act, uint64_t row, uint64_t group,
                                      bool down, const float *x, uint32_t n)
{
    const uint64_t bytes = ingle_act_group_bytes(act->mode),
                   stride = down ? act->row_stride : bytes;
    const uint64_t end = (group + (down ? 1 : n)) * INGLE_ACT_GROUP;
    /* Sixteen together take as long as three alone, and so does any smaller number. */
    if (ingle_act_is_codes(act->mode) && end <= act->cols && n > 2) {
        uint8_t *out = act->rows + row * act->row_stride + group * bytes;
        for (uint32_t i = 0; i < n; i += INGLE_ACT_TOGETHER) {
            uint32_t left = n - i;
            ingle_act_put_together(act->mode == INGLE_ACT_INT16, out + i * stride, stride,
                                   x + i * INGLE_ACT_GROUP,
                                   left < INGLE_ACT_TOGETHER ? left : INGLE_ACT_TOGETHER);
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        ingle_act_put_group(act, row + (down ? i : 0), group + (down ? 0 : i),
                            x + i * INGLE_ACT_GROUP);
    }
}

#endif
