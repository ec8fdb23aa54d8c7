/* Definition of INGLE_K_KV_SEAL: open f16 rows -> the sealed form of a page. Plain loops that each
 * instruction set's library compiles for itself. Each (span, KV head) is one worker's.
 *
 * The bytes are compared (a page is shared, hashed, spilled), so every rounding is stated: the
 * minimum is exact in f16; the scale is (max - min) / (2^b - 1) rounded up to f16, so that no code
 * is clipped; a code is round((x - min) * (1 / scale)), halves to even. Equal values: scale 1,
 * codes 0. Statistics are over the valid tokens; what lies behind them is zero (V scale 1). */
#ifndef INGLE_KERNELS_REF_KV_SEAL_H
#define INGLE_KERNELS_REF_KV_SEAL_H
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/half_row.h"
#include "kernels/kvpage.h"
#include "kernels/ref/lanes.h"
#include "kernels/work.h"

#define INGLE_F16_ONE 0x3c00u

/* From minimum and maximum: the stored scale and minimum, and what the codes are made with. */
static inline void ingle_seal_range(float min, float max, float code_max, uint16_t *ret_scale,
                                    uint16_t *ret_min, float *ret_low, float *ret_inverse)
{
    float exact = (max - min) / code_max;
    uint16_t scale = ingle_f16_of_f32(exact);
    if (ingle_f32_of_f16(scale) < exact) {
        scale++;
    }
    scale = max > min ? scale : INGLE_F16_ONE;
    *ret_scale = scale;
    *ret_low = min + 0.0f; /* -0 becomes +0, whichever of the two was met first */
    *ret_min = ingle_f16_of_f32(*ret_low);
    *ret_inverse = 1.0f / ingle_f32_of_f16(scale);
}

static inline uint8_t ingle_seal_code(float x, float low, float inverse, float code_max)
{
    float code = rintf((x - low) * inverse);
    code = code < code_max ? code : code_max;
    return (uint8_t)(int32_t)(code > 0.0f ? code : 0.0f);
}

/* K, quantised per channel over the tokens, `x` [n][D]: codes [D/4][S][4] or [D/8][S][4]. */
static inline void ingle_seal_keys(const float *x, uint32_t D, uint32_t n, bool nibbles,
                                   const struct ingle_kv_block *block)
{
    float code_max = nibbles ? 15.0f : 255.0f;
    float min[INGLE_HEAD_DIM_MAX], max[INGLE_HEAD_DIM_MAX];
    float low[INGLE_HEAD_DIM_MAX], inverse[INGLE_HEAD_DIM_MAX];
    uint8_t code[INGLE_HEAD_DIM_MAX];

    memcpy(min, x, D * sizeof(float));
    memcpy(max, x, D * sizeof(float));
    for (uint32_t t = 1; t < n; t++) {
        for (uint32_t c = 0; c < D; c++) {
            float v = x[t * D + c];
            min[c] = v < min[c] ? v : min[c];
            max[c] = v > max[c] ? v : max[c];
        }
    }
    for (uint32_t c = 0; c < D; c++) {
        ingle_seal_range(min[c], max[c], code_max, &block->k_scale[c], &block->k_min[c], &low[c],
                         &inverse[c]);
    }
    memset(block->k_codes, 0, INGLE_PAGE_TOKENS * D / (nibbles ? 2 : 1));
    for (uint32_t t = 0; t < n; t++) {
        for (uint32_t c = 0; c < D; c++) {
            code[c] = ingle_seal_code(x[t * D + c], low[c], inverse[c], code_max);
        }
        for (uint32_t c = 0; c < D; c += nibbles ? 8 : 4) {
            uint8_t *to = block->k_codes + (uint64_t)INGLE_PAGE_TOKENS * c / (nibbles ? 2 : 1);
            for (uint32_t i = 0; i < 4; i++) {
                to[4 * t + i] = (uint8_t)(code[c + i] | (nibbles ? code[c + 4 + i] << 4 : 0));
            }
        }
    }
}

/* V, quantised per token over the channels: codes [S/4][D][4] or [S/8][D][4]. */
static inline void ingle_seal_values(const float *x, uint32_t D, uint32_t n, bool nibbles,
                                     const struct ingle_kv_block *block)
{
    float code_max = nibbles ? 15.0f : 255.0f;
    uint32_t group = nibbles ? 8 : 4;
    uint8_t code[8][INGLE_HEAD_DIM_MAX];

    for (uint32_t t = 0; t < INGLE_PAGE_TOKENS; t++) {
        uint8_t *row = code[t % group];
        memset(row, 0, D);
        block->v_scale[t] = INGLE_F16_ONE;
        block->v_min[t] = 0;
        if (t < n) {
            float min[INGLE_LANES], max[INGLE_LANES], low, inverse;
            memcpy(min, x + t * D, sizeof(min));
            memcpy(max, x + t * D, sizeof(max));
            for (uint32_t c = INGLE_LANES; c < D; c += INGLE_LANES) {
                for (uint32_t i = 0; i < INGLE_LANES; i++) {
                    float v = x[t * D + c + i];
                    min[i] = v < min[i] ? v : min[i];
                    max[i] = v > max[i] ? v : max[i];
                }
            }
            for (uint32_t i = 1; i < INGLE_LANES; i++) {
                min[0] = min[i] < min[0] ? min[i] : min[0];
                max[0] = max[i] > max[0] ? max[i] : max[0];
            }
            ingle_seal_range(min[0], max[0], code_max, &block->v_scale[t], &block->v_min[t], &low,
                             &inverse);
            for (uint32_t c = 0; c < D; c++) {
                row[c] = ingle_seal_code(x[t * D + c], low, inverse, code_max);
            }
        }
        if (t % group == group - 1) {
            uint8_t *to = block->v_codes + (uint64_t)(t / group) * D * 4;
            for (uint32_t c = 0; c < D; c++) {
                for (uint32_t i = 0; i < 4; i++) {
                    to[4 * c + i] = (uint8_t)(code[i][c] | (nibbles ? code[4 + i][c] << 4 : 0));
                }
            }
        }
    }
}

static inline void ingle_seal_span(const struct ingle_arg_kv_seal *a,
                                   const struct ingle_kv_span *span, uint32_t head, float *x)
{
    uint32_t D = a->D, n = span->n_tokens;
    struct ingle_kv_rows from = ingle_kv_rows_at(span->open, a->Hk, D, a->layer, head);

    assert(span->sealed != NULL && n >= 1 && n <= INGLE_PAGE_TOKENS);
    if (span->form == INGLE_KV_F16) { /* may be the same memory: then only the tail is cleared */
        struct ingle_kv_rows to = ingle_kv_rows_at(span->sealed, a->Hk, D, a->layer, head);
        uint32_t valid = n * D, tail = (INGLE_PAGE_TOKENS - n) * D;
        memmove(to.k, from.k, valid * sizeof(uint16_t));
        memmove(to.v, from.v, valid * sizeof(uint16_t));
        memset(to.k + valid, 0, tail * sizeof(uint16_t));
        memset(to.v + valid, 0, tail * sizeof(uint16_t));
    } else {
        struct ingle_kv_block to =
            ingle_kv_block_at(span->sealed, span->form, a->Hk, D, a->layer, head);
        ingle_f32_row_of_f16(from.k, n * D, x);
        ingle_seal_keys(x, D, n, span->form == INGLE_KV_Q4, &to);
        ingle_f32_row_of_f16(from.v, n * D, x);
        ingle_seal_values(x, D, n, span->form == INGLE_KV_Q4, &to);
    }
}

static inline void ingle_kv_seal(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_kv_seal *a = &op->kv_seal;
    uint32_t unit = 0;

    static_assert(INGLE_PAGE_TOKENS * INGLE_HEAD_DIM_MAX * sizeof(float) <= INGLE_SCRATCH_BYTES,
                  "a page's rows in f32 fit the scratch");
    assert(a->D % INGLE_LANES == 0 && a->D <= INGLE_HEAD_DIM_MAX);
    for (uint32_t i = 0; i < a->n_seqs; i++) {
        for (uint32_t j = 0; j < a->seqs[i].n_spans; j++) {
            const struct ingle_kv_span *span = &a->seqs[i].spans[j];
            for (uint32_t h = 0; h < a->Hk && span->seal; h++) {
                if (unit++ % worker->count == worker->index) {
                    ingle_seal_span(a, span, h, (float *)worker->scratch);
                }
            }
        }
    }
}

#endif
