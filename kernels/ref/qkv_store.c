/* Definition of INGLE_K_QKV_STORE: normalise q and k per head, rotate k to its place in the chunk,
 * write k and v as f16 rows of the open page. Writes q in place and rows of open pages; each row is
 * one worker's. Pages hold finite numbers only: beyond the range of f16 a value is stored as
 * +-65504, a NaN as 65504 (the row's residual stream still carries it to the logits). */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/kvpage.h"
#include "kernels/ref/lanes.h"
#include "kernels/ref/rope.h"

/* x = x / rms(x) * gain over one head. */
static void norm_head(float *x, const float *gain, uint32_t D, float eps)
{
    float mean = ingle_lanes_dot(x, x, D) / (float)D;
    float rstd = 1.0f / sqrtf(mean + eps);
    for (uint32_t i = 0; i < D; i++) {
        x[i] = x[i] * rstd * gain[i];
    }
}

static void store_f16(uint16_t *out, const float *x, uint32_t D)
{
    for (uint32_t i = 0; i < D; i++) {
        float v = x[i] < INGLE_KV_MAX ? x[i] : INGLE_KV_MAX;
        out[i] = ingle_f16_of_f32(v > -INGLE_KV_MAX ? v : -INGLE_KV_MAX);
    }
}

static void store_row(const struct ingle_arg_qkv_store *a, const struct ingle_kv_span *span,
                      uint32_t row, uint32_t position)
{
    uint32_t token = position - ingle_kv_span_start(span), D = a->D;

    assert(span->open != NULL);
    for (uint32_t h = 0; h < a->H && a->q_gain != NULL; h++) {
        norm_head(a->q + ((uint64_t)row * a->H + h) * D, a->q_gain, D, a->eps);
    }
    for (uint32_t h = 0; h < a->Hk; h++) {
        struct ingle_kv_rows rows = ingle_kv_rows_at(span->open, a->Hk, D, a->layer, h);
        uint64_t at = ((uint64_t)row * a->Hk + h) * D;
        float k[INGLE_HEAD_DIM_MAX];
        memcpy(k, a->k + at, D * sizeof(float));
        if (a->k_gain != NULL) {
            norm_head(k, a->k_gain, D, a->eps);
        }
        ingle_rope_rotate_ref(a->rope, span->first + token, k);
        store_f16(rows.k + token * D, k, D);
        store_f16(rows.v + token * D, a->v + at, D);
    }
}

void ingle_qkv_store_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_qkv_store *a = &op->qkv_store;
    uint32_t row = 0;

    for (uint32_t i = 0; i < a->n_seqs; i++) {
        const struct ingle_kv_seq *seq = &a->seqs[i];
        for (uint32_t r = 0; r < seq->n_rows; r++, row++) {
            if (row % worker->count == worker->index) {
                uint32_t at = ingle_kv_span_find(seq, seq->pos0 + r);
                assert(at < seq->n_spans);
                store_row(a, &seq->spans[at], seq->row0 + r, seq->pos0 + r);
            }
        }
    }
}
