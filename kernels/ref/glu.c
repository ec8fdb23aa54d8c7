/* out[t] = act(f(gate[t]) * up[t]).
 *
 *   silu(g)      = g / (1 + exp(-g))
 *   gelu_tanh(g) = 0.5 g (1 + tanh(u)) = g / (1 + exp(-2 u)),  2 u = (A + B g^2) g,
 *                  A = 2 sqrt(2 / pi), B = 0.044715 A, in the order t = fmaf(B, g * g, A)
 *
 * with ingle_expf. Groups of 32 columns are divided among the workers. */

#include "kernels/isa.h"
#include "kernels/ref/act_put.h"
#include "kernels/ref/expf.h"
#include "kernels/work.h"

#define INGLE_GELU_A 1.5957691216057308f
#define INGLE_GELU_B 0.07135481627260025f

/* f(gate) * up of a whole group: `kind` is a constant at each call, the loop is straight code. */
static inline void glu_group(enum ingle_glu kind, const float *gate, const float *up, float *x)
{
    for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
        float u = gate[k];
        if (kind == INGLE_GLU_GELU_TANH) {
            u = fmaf(INGLE_GELU_B, u * u, INGLE_GELU_A) * u;
        }
        x[k] = gate[k] / (1.0f + ingle_expf(-u)) * up[k];
    }
}

static void glu_put(const struct ingle_arg_glu *arg, uint64_t t, uint64_t group, const float *gate,
                    const float *up, uint64_t n)
{
    float padded[2][INGLE_ACT_GROUP], x[INGLE_ACT_GROUP];
    if (n < INGLE_ACT_GROUP) {
        memset(padded, 0, sizeof padded);
        memcpy(padded[0], gate, n * sizeof *gate);
        memcpy(padded[1], up, n * sizeof *up);
        gate = padded[0];
        up = padded[1];
    }
    if (arg->kind == INGLE_GLU_SILU) {
        glu_group(INGLE_GLU_SILU, gate, up, x);
    } else {
        glu_group(INGLE_GLU_GELU_TANH, gate, up, x);
    }
    ingle_act_put_group(arg->out, t, group, x);
}

void INGLE_VARIANT(glu)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_glu *arg = &op->glu;
    uint64_t cols = arg->out->cols, groups = ingle_act_groups(arg->out->cols);
    struct ingle_share share = ingle_share(arg->T * groups, worker);
    uint64_t t = share.from / groups, group = share.from % groups;
    for (uint64_t i = share.from; i < share.to; i++) {
        uint64_t first = group * INGLE_ACT_GROUP;
        glu_put(arg, t, group, arg->gate + t * cols + first, arg->up + t * cols + first,
                cols - first < INGLE_ACT_GROUP ? cols - first : INGLE_ACT_GROUP);
        if (++group == groups) {
            group = 0;
            t++;
        }
    }
}
