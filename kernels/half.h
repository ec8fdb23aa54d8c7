/* 16-bit floats as bits: the conversions of the reference and of packing. Vector variants use the
 * machine's own (vcvtph2ps, vcvtps2ph), which agree for every input that is not a NaN. */
#ifndef INGLE_KERNELS_HALF_H
#define INGLE_KERNELS_HALF_H
#include <stdint.h>
#include <string.h>

static inline float ingle_f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t ingle_bits_of_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float ingle_f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu);
    uint32_t bits;
    if (rest >= 0x7c00u) {
        bits = 0x7f800000u | (rest & 0x3ffu) << 13; /* Inf and NaN */
    } else if (rest >= 0x400u) {
        bits = (rest << 13) + (112u << 23);
    } else {
        /* Subnormal: rest * 2^-24, exact in f32. */
        bits = ingle_bits_of_f32((float)rest * 0x1p-24f);
    }
    return ingle_f32_of_bits(sign | bits);
}

/* Round to nearest even; too large becomes Inf. */
static inline uint16_t ingle_f16_of_f32(float f)
{
    uint32_t bits = ingle_bits_of_f32(f), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    uint32_t h;
    if (rest > 0x7f800000u) {
        h = 0x7e00u;
    } else if (rest >= 0x477ff000u) {
        h = 0x7c00u; /* 65520 and more */
    } else if (rest >= 0x38800000u) {
        uint32_t odd = rest >> 13 & 1u;
        h = (rest - (112u << 23) + 0xfffu + odd) >> 13;
    } else {
        /* Subnormal: adding 0.5 lets the f32 adder round to a multiple of 2^-24. */
        h = ingle_bits_of_f32(ingle_f32_of_bits(rest) + 0.5f) - ingle_bits_of_f32(0.5f);
    }
    return (uint16_t)(sign | h);
}

static inline float ingle_f32_of_bf16(uint16_t h)
{
    return ingle_f32_of_bits((uint32_t)h << 16);
}

/* Round to nearest even. Not for NaN, nor for what rounds to Inf. */
static inline uint16_t ingle_bf16_of_f32(float f)
{
    uint32_t bits = ingle_bits_of_f32(f);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#endif
