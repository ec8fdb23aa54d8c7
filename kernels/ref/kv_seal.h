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

#include "kernels/kvpage.h"
#include "kernels/ref/lanes.h"
#include "kernels/row.h"
#include "kernels/work.h"

#define INGLE_F16_ONE 0x3c00u

/* Quantise every row of x [rows][columns] with its own scale and minimum, rows and columns
 * multiples of 16, and write the codes as [rows/4][columns][4] (nibbles: [rows/8][columns][4]).
 * Codes of the columns from `valid` on are 0. For values a row is a token, for keys a channel. */
static inline void ingle_seal_rows(const float *x, uint32_t rows, uint32_t columns, uint32_t valid,
                                   bool nibbles, uint8_t *codes, uint16_t *ret_scale,
                                   uint16_t *ret_min)
{
    const float code_max = nibbles ? 15.0f : 255.0f;
    const uint32_t group = nibbles ? 8 : 4;
    float min[INGLE_HEAD_DIM_MAX], max[INGLE_HEAD_DIM_MAX];
    float exact[INGLE_HEAD_DIM_MAX], stored[INGLE_HEAD_DIM_MAX];
    uint32_t words[INGLE_HEAD_DIM_MAX];

    for (uint32_t r = 0; r < rows; r++) {
        ingle_row_extremes(x + r * columns, columns, &min[r], &max[r]);
        min[r] += 0.0f; /* -0 becomes +0, whichever of the two was met first */
        exact[r] = (max[r] - min[r]) / code_max;
    }
    ingle_f16_row_of_f32(min, rows, ret_min);
    ingle_f16_row_of_f32(exact, rows, ret_scale);
    ingle_f32_row_of_f16(ret_scale, rows, stored);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t up = (uint32_t)ret_scale[r] + (stored[r] < exact[r] ? 1u : 0u);
        ret_scale[r] = (uint16_t)(max[r] > min[r] ? up : INGLE_F16_ONE);
    }
    ingle_f32_row_of_f16(ret_scale, rows, stored);
    for (uint32_t r = 0; r < rows; r++) {
        const float *row = x + r * columns;
        uint32_t shift = 8 * (r % 4) + (r % group >= 4 ? 4 : 0);
        float low = min[r], inverse = 1.0f / stored[r];
        if (r % group == 0) {
            memset(words, 0, sizeof(words));
        }
        for (uint32_t c = 0; c < valid; c++) {
            float code = rintf((row[c] - low) * inverse); /* not negative: low is the least */
            words[c] |= (uint32_t)(int32_t)(code < code_max ? code : code_max) << shift;
        }
        if (r % group == group - 1) { /* little-endian: byte i is row i of the group */
            memcpy(codes + (uint64_t)(r / group) * columns * 4, words, columns * 4);
        }
    }
}

/* The tokens of a page as f32 columns: [D][S], a short page repeating its last token. */
static inline void ingle_seal_turn(const float *x, uint32_t D, uint32_t n, float *ret_turned)
{
    for (uint32_t c = 0; c < D; c++) {
        for (uint32_t t = 0; t < n; t++) {
            ret_turned[c * INGLE_PAGE_TOKENS + t] = x[t * D + c];
        }
        for (uint32_t t = n; t < INGLE_PAGE_TOKENS; t++) {
            ret_turned[c * INGLE_PAGE_TOKENS + t] = x[(n - 1) * D + c];
        }
    }
}

static inline void ingle_seal_span(const struct ingle_arg_kv_seal *a,
                                   const struct ingle_kv_span *span, uint32_t head, float *x)
{
    uint32_t D = a->D, n = span->n_tokens, valid = n * D, all = INGLE_PAGE_TOKENS * D;
    struct ingle_kv_rows from = ingle_kv_rows_at(span->open, a->Hk, D, a->layer, head);
    bool nibbles = span->form == INGLE_KV_Q4;

    assert(span->sealed != NULL && n >= 1 && n <= INGLE_PAGE_TOKENS);
    if (span->form == INGLE_KV_F16) { /* may be the same memory: then only the tail is cleared */
        struct ingle_kv_rows to = ingle_kv_rows_at(span->sealed, a->Hk, D, a->layer, head);
        memmove(to.k, from.k, valid * sizeof(uint16_t));
        memmove(to.v, from.v, valid * sizeof(uint16_t));
        memset(to.k + valid, 0, (all - valid) * sizeof(uint16_t));
        memset(to.v + valid, 0, (all - valid) * sizeof(uint16_t));
    } else {
        struct ingle_kv_block to =
            ingle_kv_block_at(span->sealed, span->form, a->Hk, D, a->layer, head);
        float *turned = x + all;
        ingle_f32_row_of_f16(from.k, valid, x);
        ingle_seal_turn(x, D, n, turned);
        ingle_seal_rows(turned, D, INGLE_PAGE_TOKENS, n, nibbles, to.k_codes, to.k_scale, to.k_min);
        ingle_f32_row_of_f16(from.v, valid, x);
        memset(x + valid, 0, (all - valid) * sizeof(float));
        ingle_seal_rows(x, INGLE_PAGE_TOKENS, D, D, nibbles, to.v_codes, to.v_scale, to.v_min);
    }
}

static inline void ingle_kv_seal(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_kv_seal *a = &op->kv_seal;
    uint32_t unit = 0;

    static_assert(2 * INGLE_PAGE_TOKENS * INGLE_HEAD_DIM_MAX * sizeof(float) <= INGLE_SCRATCH_BYTES,
                  "a page's rows and columns in f32 fit the scratch");
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
