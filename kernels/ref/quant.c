/* out[t] = act(x[t]). Groups of 32 columns are divided among the workers, or rows. */
#include "kernels/isa.h"
#include "kernels/ref/act_put.h"
#include "kernels/work.h"

void INGLE_VARIANT(quant)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_quant *arg = &op->quant;
    uint64_t cols = arg->out->cols, groups = ingle_act_groups(arg->out->cols);
    struct ingle_share share = ingle_share(arg->T * groups, worker);
    if (op->bands) {
        const struct ingle_share rows = ingle_share_rows(op, arg->T, worker);
        share = (struct ingle_share){rows.from * groups, rows.to * groups};
    }
    for (uint64_t i = share.from, n; i < share.to; i += n) {
        uint64_t t = i / groups, group = i % groups;
        n = groups - group < share.to - i ? groups - group : share.to - i;
        ingle_act_put_many(arg->out, t, group, false, arg->x + t * cols + group * INGLE_ACT_GROUP,
                           (uint32_t)n);
    }
}
