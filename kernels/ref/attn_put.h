/* Where attention's result goes. */
#ifndef INGLE_KERNELS_REF_ATTN_PUT_H
#define INGLE_KERNELS_REF_ATTN_PUT_H
#include <string.h>

#include "kernels/ref/act_put.h"

/* x[D] of one row and head: into out, or as codes into act. Heads are whole groups of codes, so
 * workers that share a row write different groups. */
static inline void ingle_attn_put(const struct ingle_arg_attn *a, uint64_t row, uint64_t head,
                                  const float *x)
{
    if (a->act == NULL) {
        memcpy(a->out + (row * a->H + head) * a->D, x, a->D * sizeof *x);
        return;
    }
    for (uint64_t c = 0; c < a->D; c += INGLE_ACT_GROUP) {
        ingle_act_put_group(a->act, row, (head * a->D + c) / INGLE_ACT_GROUP, x + c);
    }
}

#endif
