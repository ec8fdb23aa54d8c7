/* The residual sum and RMS normalisation, row by row:
 *
 *   sum of squares  in the lanes of lanes.h
 *   r               1 / sqrtf(sum / E + eps)
 *   result          (v[k] * r) * gain[k]
 *
 * Rows are divided among the workers. */
#include "kernels/isa.h"
#include "kernels/ref/act_put.h"
#include "kernels/ref/lanes.h"
#include "kernels/work.h"

/* Columns scaled and turned to codes at once. */
#define PART (INGLE_ACT_TOGETHER * INGLE_ACT_GROUP)

/* x += add, or the normed add. */
static void add_residual(const struct ingle_arg_norm *arg, const float *add, float *x)
{
    if (!arg->post_gain) {
        for (uint32_t k = 0; k < arg->E; k++) {
            x[k] += add[k];
        }
        return;
    }
    float scale = ingle_lanes_inverse_rms(add, arg->E, arg->eps);
    for (uint32_t k = 0; k < arg->E; k++) {
        x[k] += add[k] * scale * arg->post_gain[k];
    }
}

/* n is a constant at the call that matters, so that the loop has no rest. */
static inline void scale_values(const float *x, float scale, const float *gain, uint32_t n,
                                float *ret)
{
    for (uint32_t k = 0; k < n; k++) {
        ret[k] = x[k] * scale * gain[k];
    }
}

static void norm_row(const struct ingle_arg_norm *arg, uint64_t r)
{
    uint64_t t = arg->index ? arg->index[r] : r;
    uint32_t E = arg->E;
    float *x = arg->x + t * E;
    if (arg->add) {
        add_residual(arg, arg->add + t * E, x);
    }
    if (!arg->out && !arg->out_f32) {
        return;
    }
    float scale = ingle_lanes_inverse_rms(x, E, arg->eps);
    for (uint32_t first = 0; first < E; first += PART) {
        uint32_t n = E - first < PART ? E - first : PART;
        float part[PART];
        if (n == PART) {
            scale_values(x + first, scale, arg->gain + first, PART, part);
        } else {
            scale_values(x + first, scale, arg->gain + first, n, part);
        }
        if (arg->out_f32) {
            memcpy(arg->out_f32 + r * E + first, part, n * sizeof part[0]);
        }
        if (arg->out) {
            ingle_act_put_many(arg->out, r, first / INGLE_ACT_GROUP, false, part,
                               ingle_act_groups(n));
        }
    }
}

void INGLE_VARIANT(norm)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_norm *arg = &op->norm;
    assert(!arg->index || !arg->add);
    assert(!op->bands || !arg->index);
    struct ingle_share share = ingle_share_rows(op, arg->R, worker);
    for (uint64_t r = share.from; r < share.to; r++) {
        norm_row(arg, r);
    }
}
