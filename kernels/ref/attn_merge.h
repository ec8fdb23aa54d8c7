/* How the parts of a row's pages become one: what ref/attn.c states, for it and for every variant.
 * A plain loop that each instruction set's library compiles for itself. */
#ifndef INGLE_KERNELS_REF_ATTN_MERGE_H
#define INGLE_KERNELS_REF_ATTN_MERGE_H
#include "kernels/ref/expf.h"

/* What some pages come to, for some queries. */
struct ingle_attn_sums {
    float *o;     /* [queries][D] mixed values */
    float *m, *l; /* [queries] maximum, sum of weights: 0 if nothing was seen, else at least 1 */
};

/* Take a part of n queries, all of which see it, into the parts before it. ret_a, ret_b: [n], what
 * the parts before and the part are multiplied by. */
static inline void ingle_attn_merge(const struct ingle_attn_sums *all,
                                    const struct ingle_attn_sums *part, uint32_t n, uint32_t D,
                                    float *restrict ret_a, float *restrict ret_b)
{
    const float *restrict part_m = part->m, *restrict part_l = part->l;
    float *restrict m = all->m, *restrict l = all->l;

    for (uint32_t i = 0; i < n; i++) {
        float top = m[i] > part_m[i] ? m[i] : part_m[i];
        ret_a[i] = ingle_expf(m[i] - top);
        ret_b[i] = ingle_expf(part_m[i] - top);
        m[i] = top;
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *restrict x = part->o + i * D;
        float *restrict o = all->o + i * D;
        if (l[i] == 0.0f) {
            l[i] = part_l[i];
            memcpy(o, x, D * sizeof *o);
            continue;
        }
        l[i] = fmaf(l[i], ret_a[i], part_l[i] * ret_b[i]);
        for (uint32_t c = 0; c < D; c++) {
            o[c] = fmaf(o[c], ret_a[i], x[c] * ret_b[i]);
        }
    }
}

#endif
