/* Definition of INGLE_K_KV_SEAL: open f16 rows -> the sealed form of a page. The bytes are compared
 * (a page is shared, hashed, spilled), so every rounding is stated: the minimum is exact in f16;
 * the scale is (max - min) / (2^b - 1) rounded up to f16, so that no code is clipped; a code is
 * round((x - min) * (1 / scale)), halves to even, and clamped. Equal values: scale 1, codes 0.
 * Each (span, KV head) is one worker's. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/kvpage.h"

/* Quantiser of one channel of K or one token of V. */
struct range {
    float min, inverse;
    float code_max;
};

static struct range range_of(const uint16_t *x, uint32_t n, uint32_t stride, float code_max,
                             uint16_t *ret_scale, uint16_t *ret_min)
{
    struct range range = {.min = ingle_f32_of_f16(x[0]), .inverse = 1.0f, .code_max = code_max};
    float max = range.min;
    uint16_t scale = 0x3c00;

    for (uint32_t i = 1; i < n; i++) {
        float v = ingle_f32_of_f16(x[i * stride]);
        range.min = v < range.min ? v : range.min;
        max = v > max ? v : max;
    }
    range.min += 0.0f; /* -0 becomes +0, whichever of the two was met first */
    if (max > range.min) {
        float exact = (max - range.min) / code_max;
        scale = ingle_f16_of_f32(exact);
        if (ingle_f32_of_f16(scale) < exact) {
            scale++;
        }
        range.inverse = 1.0f / ingle_f32_of_f16(scale);
    }
    *ret_scale = scale;
    *ret_min = ingle_f16_of_f32(range.min);
    return range;
}

static uint8_t code_of(const struct range *range, uint16_t x)
{
    float code = rintf((ingle_f32_of_f16(x) - range->min) * range->inverse);
    code = code < range->code_max ? code : range->code_max;
    return (uint8_t)(code > 0.0f ? code : 0.0f);
}

/* Put a code at index `i` of the summed axis and column `column` of [axis/4][columns][4]. */
static void put_code(uint8_t *codes, bool nibbles, uint32_t columns, uint32_t i, uint32_t column,
                     uint8_t code)
{
    if (nibbles) {
        uint8_t *at = codes + ((i / 8) * columns + column) * 4 + i % 4;
        *at = (uint8_t)(*at | code << (i % 8 < 4 ? 0 : 4));
    } else {
        codes[((i / 4) * columns + column) * 4 + i % 4] = code;
    }
}

static void seal_head(const struct ingle_kv_rows *rows, const struct ingle_kv_block *block,
                      enum ingle_kv_form form, uint32_t D, uint32_t n)
{
    bool nibbles = form == INGLE_KV_Q4;
    float code_max = nibbles ? 15.0f : 255.0f;

    memset(block->k_codes, 0, ingle_kv_code_bytes(form, D));
    memset(block->v_codes, 0, ingle_kv_code_bytes(form, D));
    for (uint32_t c = 0; c < D; c++) {
        struct range range =
            range_of(rows->k + c, n, D, code_max, &block->k_scale[c], &block->k_min[c]);
        for (uint32_t t = 0; t < n; t++) {
            put_code(block->k_codes, nibbles, INGLE_PAGE_TOKENS, c, t,
                     code_of(&range, rows->k[t * D + c]));
        }
    }
    for (uint32_t t = 0; t < INGLE_PAGE_TOKENS; t++) {
        struct range range;
        if (t >= n) {
            block->v_scale[t] = 0x3c00;
            block->v_min[t] = 0;
            continue;
        }
        range = range_of(rows->v + t * D, D, 1, code_max, &block->v_scale[t], &block->v_min[t]);
        for (uint32_t c = 0; c < D; c++) {
            put_code(block->v_codes, nibbles, D, t, c, code_of(&range, rows->v[t * D + c]));
        }
    }
}

static void seal_span(const struct ingle_arg_kv_seal *a, const struct ingle_kv_span *span,
                      uint32_t head)
{
    struct ingle_kv_rows from = ingle_kv_rows_at(span->open, a->Hk, a->D, a->layer, head);

    assert(span->sealed != NULL && span->n_tokens >= 1 && span->n_tokens <= INGLE_PAGE_TOKENS);
    if (span->form == INGLE_KV_F16) { /* may be the same memory: then only the tail is cleared */
        struct ingle_kv_rows to = ingle_kv_rows_at(span->sealed, a->Hk, a->D, a->layer, head);
        uint32_t valid = span->n_tokens * a->D, all = INGLE_PAGE_TOKENS * a->D;
        memmove(to.k, from.k, valid * sizeof(uint16_t));
        memmove(to.v, from.v, valid * sizeof(uint16_t));
        memset(to.k + valid, 0, (all - valid) * sizeof(uint16_t));
        memset(to.v + valid, 0, (all - valid) * sizeof(uint16_t));
    } else {
        struct ingle_kv_block to =
            ingle_kv_block_at(span->sealed, span->form, a->Hk, a->D, a->layer, head);
        seal_head(&from, &to, span->form, a->D, span->n_tokens);
    }
}

void ingle_kv_seal_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_kv_seal *a = &op->kv_seal;
    uint32_t unit = 0;

    for (uint32_t i = 0; i < a->n_seqs; i++) {
        for (uint32_t j = 0; j < a->seqs[i].n_spans; j++) {
            const struct ingle_kv_span *span = &a->seqs[i].spans[j];
            for (uint32_t h = 0; h < a->Hk && span->seal; h++) {
                if (unit++ % worker->count == worker->index) {
                    seal_span(a, span, h);
                }
            }
        }
    }
}
