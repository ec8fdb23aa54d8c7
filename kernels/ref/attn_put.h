/* Where attention's result goes. */
#ifndef INGLE_KERNELS_REF_ATTN_PUT_H
#define INGLE_KERNELS_REF_ATTN_PUT_H
#include <string.h>

#include "kernels/ref/act_put.h"

/* x[n][D] of n heads of one row: into out, or as codes into act. Heads are whole groups of codes,
 * so workers that share a row write different groups. */
static inline void ingle_attn_put(const struct ingle_arg_attn *a, uint64_t row, uint64_t head,
                                  uint32_t n, const float *x)
{
    if (a->act == NULL) {
        memcpy(a->out + (row * a->H + head) * a->D, x, (uint64_t)n * a->D * sizeof *x);
        return;
    }
    ingle_act_put_many(a->act, row, head * a->D / INGLE_ACT_GROUP, false, x,
                       n * a->D / INGLE_ACT_GROUP);
}

#endif
