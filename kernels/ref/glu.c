/* out[t] = act(f(gate[t]) * up[t]).
 *
 *   silu(g)      = g / (1 + exp(-g))
 *   gelu_tanh(g) = 0.5 g (1 + tanh(u)) = g / (1 + exp(-2 u)),  2 u = (A + B g^2) g,
 *                  A = 2 sqrt(2 / pi), B = 0.044715 A, in the order t = fmaf(B, g * g, A)
 *
 * with ingle_expf. Groups of 32 columns are divided among the workers. */
#include "kernels/ref/glu.h"

#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/work.h"

static float glu(enum ingle_glu kind, float gate, float up)
{
    float u = kind == INGLE_GLU_SILU ? gate : fmaf(INGLE_GELU_B, gate * gate, INGLE_GELU_A) * gate;
    return gate / (1.0f + ingle_expf(-u)) * up;
}

void ingle_glu_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_glu *arg = &op->glu;
    uint32_t cols = arg->out->cols, groups = ingle_act_groups(cols);
    struct ingle_share share = ingle_share((uint64_t)arg->T * groups, worker);
    for (uint64_t i = share.from; i < share.to; i++) {
        uint64_t t = i / groups, group = i % groups, first = group * INGLE_ACT_GROUP;
        const float *gate = arg->gate + t * cols + first, *up = arg->up + t * cols + first;
        uint64_t n = cols - first < INGLE_ACT_GROUP ? cols - first : INGLE_ACT_GROUP;
        float x[INGLE_ACT_GROUP];
        for (uint64_t k = 0; k < n; k++) {
            x[k] = glu(arg->kind, gate[k], up[k]);
        }
        ingle_act_put_group(arg->out, (uint32_t)t, (uint32_t)group, x);
    }
}
