/* Owns the size of activation rows and the reference quantisation of one group. Any worker; rows
 * do not overlap. */
#include "kernels/act.h"

#include <math.h>
#include <string.h>

#include "kernels/half.h"

uint64_t ingle_act_row_bytes(enum ingle_act_mode mode, uint32_t cols)
{
    uint64_t groups = ingle_act_groups(cols), bytes;
    switch (mode) {
    case INGLE_ACT_INT8:
        bytes = groups * sizeof(struct ingle_act8);
        break;
    case INGLE_ACT_INT16:
        bytes = groups * sizeof(struct ingle_act16);
        break;
    case INGLE_ACT_F32:
    case INGLE_ACT_COUNT:
    default:
        bytes = (uint64_t)cols * sizeof(float);
        break;
    }
    return (bytes + 63) / 64 * 64;
}

/* v[i] = x[i] * (limit / max |x|), rounded; returns the scale. */
static float group_codes(const float *x, float limit, int32_t v[INGLE_ACT_GROUP])
{
    uint32_t max_bits = 0;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        uint32_t bits = ingle_bits_of_f32(x[i]) & 0x7fffffffu;
        max_bits = bits > max_bits ? bits : max_bits;
    }
    memset(v, 0, INGLE_ACT_GROUP * sizeof v[0]);
    if (max_bits >= 0x7f800000u) {
        return NAN;
    }
    float max = ingle_f32_of_bits(max_bits);
    if (max < INGLE_ACT_TINY) {
        return 0.0f;
    }
    float inverse = limit / max;
    for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
        /* Adding 1.5 * 2^23 leaves the nearest even integer in the low bits. */
        float t = x[i] * inverse + 0x1.8p+23f;
        v[i] = (int32_t)(ingle_bits_of_f32(t) - ingle_bits_of_f32(0x1.8p+23f));
    }
    return max / limit;
}

static struct ingle_act_tail group_tail(float scale, const int32_t sum[2])
{
    return (struct ingle_act_tail){.scale = scale,
                                   .bias = -128 * (sum[0] + sum[1]),
                                   .bias0 = -128 * sum[0],
                                   .sum = (float)(sum[0] + sum[1])};
}

void ingle_act_put_group(const struct ingle_act *act, uint32_t row, uint32_t group, const float *x)
{
    uint8_t *base = act->rows + row * act->row_stride;
    uint32_t first = group * INGLE_ACT_GROUP;
    uint32_t n = act->cols - first < INGLE_ACT_GROUP ? act->cols - first : INGLE_ACT_GROUP;
    if (act->mode == INGLE_ACT_F32) {
        memcpy((float *)(void *)base + first, x, n * sizeof(float));
        return;
    }
    float padded[INGLE_ACT_GROUP] = {0};
    memcpy(padded, x, n * sizeof(float));
    int32_t v[INGLE_ACT_GROUP], sum[2] = {0, 0};
    if (act->mode == INGLE_ACT_INT8) {
        struct ingle_act8 *out = (struct ingle_act8 *)(void *)base + group;
        float scale = group_codes(padded, INGLE_ACT8_MAX, v);
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            out->q[i] = (int8_t)v[i];
            sum[i / 16] += v[i];
        }
        out->tail = group_tail(scale, sum);
    } else {
        struct ingle_act16 *out = (struct ingle_act16 *)(void *)base + group;
        float scale = group_codes(padded, INGLE_ACT16_MAX, v);
        for (uint32_t i = 0; i < INGLE_ACT_GROUP; i++) {
            int32_t hi = (v[i] + 64) >> 7;
            out->hi[i] = (int8_t)hi;
            out->lo[i] = (int8_t)(v[i] - 128 * hi);
            sum[i / 16] += v[i];
        }
        out->tail = group_tail(scale, sum);
    }
}
