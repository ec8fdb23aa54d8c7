/* act(f(gate) * up), the end of the product with the gate and up matrices.
 *
 *   silu(g)      = g / (1 + exp(-g))
 *   gelu_tanh(g) = 0.5 g (1 + tanh(u)) = g / (1 + exp(-2 u)),  2 u = (A + B g^2) g,
 *                  A = 2 sqrt(2 / pi), B = 0.044715 A, in the order t = fmaf(B, g * g, A)
 *
 * with ingle_expf. */
#include "kernels/isa.h"
#include "kernels/ref/act_put.h"
#include "kernels/ref/expf.h"

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

void INGLE_VARIANT(glu_put)(const struct ingle_act *out, enum ingle_glu kind, uint64_t row,
                            uint64_t group, const float *gate, const float *up)
{
    float x[INGLE_ACT_GROUP];
    if (kind == INGLE_GLU_SILU) {
        glu_group(INGLE_GLU_SILU, gate, up, x);
    } else {
        glu_group(INGLE_GLU_GELU_TANH, gate, up, x);
    }
    ingle_act_put_group(out, row, group, x);
}
