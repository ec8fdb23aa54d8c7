/* exp(x) in f32, the one definition that every kernel uses (softmax, SiLU, GELU, log-sum-exp).
 *
 * x = n ln 2 + r with n the nearest integer and |r| <= ln 2 / 2; exp(r) by a polynomial of degree 5
 * (minimax with its first two coefficients fixed to 1), then 2^n is added to the exponent. Every
 * step is one rounded f32 operation, so a vector variant that does the same operations gives the
 * same bits. Relative error <= 1.8e-7 on [-80, 88].
 *
 * Above 88 the result is that of 88 (1.65e38, finite). Below -80 it is +0: a weight is then either
 * nothing or so large that its product with any f16 is not lost to underflow, which keeps negative
 * zeros out of sums. NaN counts as 88. Rounding mode: to nearest even, the default. */
#ifndef INGLE_KERNELS_REF_EXPF_H
#define INGLE_KERNELS_REF_EXPF_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INGLE_EXP_MAX   88.0f
#define INGLE_EXP_MIN   (-80.0f)
#define INGLE_EXP_LOG2E 0x1.715476p+0f
#define INGLE_EXP_ROUND 0x1.8p+23f /* adding it leaves round(x) in the low bits */
#define INGLE_EXP_LN2HI 0x1.62e430p-1f
#define INGLE_EXP_LN2LO (-0x1.05c610p-29f)
#define INGLE_EXP_C2    0x1.fffdfcp-2f
#define INGLE_EXP_C3    0x1.5557aep-3f
#define INGLE_EXP_C4    0x1.572a06p-5f
#define INGLE_EXP_C5    0x1.10627ap-7f

static inline float ingle_expf(float x)
{
    float c = x < INGLE_EXP_MAX ? x : INGLE_EXP_MAX;
    float z = fmaf(c, INGLE_EXP_LOG2E, INGLE_EXP_ROUND);
    float n = z - INGLE_EXP_ROUND;
    float r = fmaf(n, -INGLE_EXP_LN2HI, c);
    float p = INGLE_EXP_C5;
    uint32_t bits, shift;

    r = fmaf(n, -INGLE_EXP_LN2LO, r);
    p = fmaf(p, r, INGLE_EXP_C4);
    p = fmaf(p, r, INGLE_EXP_C3);
    p = fmaf(p, r, INGLE_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    memcpy(&bits, &p, sizeof(bits));
    memcpy(&shift, &z, sizeof(shift));
    bits += shift << 23;
    memcpy(&p, &bits, sizeof(p));
    return c < INGLE_EXP_MIN ? 0.0f : p;
}

#endif
