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
static inline void scale_group(const float *x, float scale, const float *gain, uint32_t n,
                               float group[INGLE_ACT_GROUP])
{
    for (uint32_t k = 0; k < n; k++) {
        group[k] = x[k] * scale * gain[k];
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
    for (uint32_t first = 0; first < E; first += INGLE_ACT_GROUP) {
        uint32_t n = E - first < INGLE_ACT_GROUP ? E - first : INGLE_ACT_GROUP;
        float group[INGLE_ACT_GROUP];
        if (n == INGLE_ACT_GROUP) {
            scale_group(x + first, scale, arg->gain + first, INGLE_ACT_GROUP, group);
        } else {
            scale_group(x + first, scale, arg->gain + first, n, group);
        }
        if (arg->out_f32) {
            memcpy(arg->out_f32 + r * E + first, group, n * sizeof group[0]);
        }
        if (arg->out) {
            ingle_act_put_group(arg->out, r, first / INGLE_ACT_GROUP, group);
        }
    }
}

void INGLE_VARIANT(norm)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_norm *arg = &op->norm;
    assert(!arg->index || !arg->add);
    struct ingle_share share = ingle_share(arg->R, worker);
    for (uint64_t r = share.from; r < share.to; r++) {
        norm_row(arg, r);
    }
}
