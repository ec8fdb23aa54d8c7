/* What the matrix products with registers of 512 bits share: where sums go. */
#ifndef INGLE_KERNELS_X86_MATMUL_ZMM_H
#define INGLE_KERNELS_X86_MATMUL_ZMM_H
#include "kernels/isa.h"
#include "kernels/x86/matmul.h"
#include "kernels/x86/tile_avx512.h"

enum {
    PAIR = 2 /* tiles of a panel */
};

INGLE_INLINE void store_tile(const struct ingle_mm_out *out, uint64_t row, __m512 acc)
{
    __mmask16 mask = (__mmask16)((1u << out->n) - 1u);
    if (out->bias) {
        acc = _mm512_add_ps(acc, _mm512_maskz_loadu_ps(mask, out->bias));
    }
    _mm512_mask_storeu_ps(out->y + row * out->stride, mask, acc);
}

/* The sums of `rows` rows of a group, from row `from` on, in tile p of its panel, to where they go
 * on or end; row r's lie at acc[r * step]. The first `skip` are there already. What `group` points
 * to is read before anything is written: the compiler cannot know that y is not it. */
INGLE_INLINE void end_tile(const struct ingle_mm_group *group, const uint32_t from, const int p,
                           const int rows, const int skip, __m512 *acc, const int step)
{
    if (!group->out) {
        float *sums = group->acc + (uint64_t)from * PAIR * 16;
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            if (r >= skip) {
                _mm512_store_ps(sums + (PAIR * r + p) * 16, acc[r * step]);
            }
        }
        return;
    }
    const struct ingle_mm_out out = group->out[p];
    const __mmask16 mask = (__mmask16)((1u << out.n) - 1u);
    float *y = out.y + (group->row + from) * out.stride;
    if (out.bias) {
        const __m512 bias = _mm512_maskz_loadu_ps(mask, out.bias);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            acc[r * step] = _mm512_add_ps(acc[r * step], bias);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        if (r >= skip) {
            _mm512_mask_storeu_ps(y + (uint64_t)r * out.stride, mask, acc[r * step]);
        }
    }
}

#endif
