/* out[t] = act(x[t]). Groups of 32 columns are divided among the workers. */
#include "kernels/isa.h"
#include "kernels/ref/act_put.h"
#include "kernels/work.h"

void INGLE_VARIANT(quant)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_quant *arg = &op->quant;
    uint64_t cols = arg->out->cols, groups = ingle_act_groups(arg->out->cols);
    struct ingle_share share = ingle_share(arg->T * groups, worker);
    uint64_t t = share.from / groups, group = share.from % groups;
    for (uint64_t i = share.from; i < share.to; i++) {
        ingle_act_put_group(arg->out, t, group, arg->x + t * cols + group * INGLE_ACT_GROUP);
        if (++group == groups) {
            group = 0;
            t++;
        }
    }
}
