/* out[t] = act(x[t]). Groups of 32 columns are divided among the workers. */
#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/work.h"

void ingle_quant_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_quant *arg = &op->quant;
    uint32_t cols = arg->out->cols, groups = ingle_act_groups(cols);
    struct ingle_share share = ingle_share((uint64_t)arg->T * groups, worker);
    for (uint64_t i = share.from; i < share.to; i++) {
        uint64_t t = i / groups, group = i % groups;
        ingle_act_put_group(arg->out, (uint32_t)t, (uint32_t)group,
                            arg->x + t * cols + group * INGLE_ACT_GROUP);
    }
}
