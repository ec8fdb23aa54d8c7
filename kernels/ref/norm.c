/* The residual sum and RMS normalisation, row by row:
 *
 *   sum of squares  lane j = 0..15 takes k = j, j + 16, .. by fmaf; then the lanes are added
 *                   l + 8, l + 4, l + 2, l + 1
 *   r               1 / sqrtf(sum / E + eps)
 *   result          (v[k] * r) * gain[k]
 *
 * Rows are divided among the workers. */
#include <math.h>

#include "kernels/act.h"
#include "kernels/isa.h"
#include "kernels/work.h"

enum {
    LANES = 16
};

static float inverse_rms(const float *v, uint32_t n, float eps)
{
    float lane[LANES] = {0};
    for (uint32_t k = 0; k < n; k++) {
        lane[k % LANES] = fmaf(v[k], v[k], lane[k % LANES]);
    }
    for (uint32_t step = LANES / 2; step > 0; step /= 2) {
        for (uint32_t j = 0; j < step; j++) {
            lane[j] += lane[j + step];
        }
    }
    return 1.0f / sqrtf(lane[0] / (float)n + eps);
}

static void norm_row(const struct ingle_arg_norm *arg, uint64_t r)
{
    uint64_t t = arg->index ? arg->index[r] : r;
    uint32_t E = arg->E;
    float *x = arg->x + t * E;
    if (arg->add) {
        const float *add = arg->add + t * E;
        float scale = arg->post_gain ? inverse_rms(add, E, arg->eps) : 1.0f;
        for (uint32_t k = 0; k < E; k++) {
            x[k] += arg->post_gain ? add[k] * scale * arg->post_gain[k] : add[k];
        }
    }
    if (!arg->out && !arg->out_f32) {
        return;
    }
    float scale = inverse_rms(x, E, arg->eps);
    for (uint32_t first = 0; first < E; first += INGLE_ACT_GROUP) {
        uint32_t n = E - first < INGLE_ACT_GROUP ? E - first : INGLE_ACT_GROUP;
        float group[INGLE_ACT_GROUP];
        for (uint32_t k = 0; k < n; k++) {
            group[k] = x[first + k] * scale * arg->gain[first + k];
            if (arg->out_f32) {
                arg->out_f32[r * E + first + k] = group[k];
            }
        }
        if (arg->out) {
            ingle_act_put_group(arg->out, (uint32_t)r, first / INGLE_ACT_GROUP, group);
        }
    }
}

void ingle_norm_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_norm *arg = &op->norm;
    assert(!arg->index || !arg->add);
    struct ingle_share share = ingle_share(arg->R, worker);
    for (uint64_t r = share.from; r < share.to; r++) {
        norm_row(arg, r);
    }
}
