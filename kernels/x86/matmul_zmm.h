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

/* The sums of row r of a group and tile p of its panel, to where they go on or end. */
INGLE_INLINE void end_tile(const struct ingle_mm_group *group, int r, int p, __m512 acc)
{
    if (group->out) {
        store_tile(&group->out[p], group->row + (uint64_t)r, acc);
    } else {
        _mm512_store_ps(group->acc + (PAIR * r + p) * 16, acc);
    }
}

#endif
