/* Definition of INGLE_K_QKV_STORE: normalise q and k per head, rotate k to its place in the chunk,
 * write k and v as f16 rows of the open page. Writes q in place and rows of open pages; each row is
 * one worker's. Plain loops that each instruction set's library compiles for itself.
 *
 * Pages hold finite numbers only: beyond the range of f16 a value is stored as +-65504, a NaN as
 * 65504 (the row's residual stream still carries it to the logits). */
#ifndef INGLE_KERNELS_REF_QKV_STORE_H
#define INGLE_KERNELS_REF_QKV_STORE_H
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/kvpage.h"
#include "kernels/ref/lanes.h"
#include "kernels/ref/rope.h"
#include "kernels/row.h"
#include "kernels/work.h"

/* x = x / rms(x) * gain over one head. */
static inline void ingle_qkv_norm_head(float *x, const float *gain, uint32_t D, float eps)
{
    float rstd = ingle_lanes_inverse_rms(x, D, eps);
    for (uint32_t i = 0; i < D; i++) {
        x[i] = x[i] * rstd * gain[i];
    }
}

static inline void ingle_qkv_store_head(const float *x, uint32_t D, uint16_t *ret_row)
{
    float clamped[INGLE_HEAD_DIM_MAX];
    for (uint32_t i = 0; i < D; i++) {
        float v = x[i] < INGLE_KV_MAX ? x[i] : INGLE_KV_MAX;
        clamped[i] = v > -INGLE_KV_MAX ? v : -INGLE_KV_MAX;
    }
    ingle_f16_row_of_f32(clamped, D, ret_row);
}

static inline void ingle_qkv_store_row(const struct ingle_arg_qkv_store *a,
                                       const struct ingle_kv_span *span, uint32_t row,
                                       uint32_t token)
{
    struct ingle_rope_turn turn;
    uint32_t D = a->D;

    assert(span->open != NULL);
    for (uint32_t h = 0; h < a->H && a->q_gain != NULL; h++) {
        ingle_qkv_norm_head(a->q + ((uint64_t)row * a->H + h) * D, a->q_gain, D, a->eps);
    }
    ingle_rope_turn_at(a->rope, span->first + token, &turn);
    for (uint32_t h = 0; h < a->Hk; h++) {
        struct ingle_kv_rows rows = ingle_kv_rows_at(span->open, a->Hk, D, a->layer, h);
        uint64_t at = ((uint64_t)row * a->Hk + h) * D;
        float k[INGLE_HEAD_DIM_MAX];
        memcpy(k, a->k + at, D * sizeof(float));
        if (a->k_gain != NULL) {
            ingle_qkv_norm_head(k, a->k_gain, D, a->eps);
        }
        ingle_rope_apply(&turn, k);
        ingle_qkv_store_head(k, D, rows.k + token * D);
        ingle_qkv_store_head(a->v + at, D, rows.v + token * D);
    }
}

static inline void ingle_qkv_store(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_qkv_store *a = &op->qkv_store;
    struct ingle_share share = ingle_share(ingle_kv_batch_rows(a->seqs, a->n_seqs), worker);
    uint64_t before = 0;

    assert(a->D % INGLE_LANES == 0 && a->D <= INGLE_HEAD_DIM_MAX);
    for (uint32_t i = 0; i < a->n_seqs; before += a->seqs[i++].n_rows) {
        const struct ingle_kv_seq *seq = &a->seqs[i];
        for (uint32_t r = 0; r < seq->n_rows; r++) {
            if (before + r >= share.from && before + r < share.to) {
                uint32_t position = seq->pos0 + r, at = ingle_kv_span_find(seq, position);
                assert(at < seq->n_spans);
                ingle_qkv_store_row(a, &seq->spans[at], seq->row0 + r,
                                    position - ingle_kv_span_start(&seq->spans[at]));
            }
        }
    }
}

#endif
