/* KV pages as the kernels read them: layout of a layer of a page, which tokens a query sees.
 *
 * A page is its layers one after the other, each ingle_kv_layer_bytes(form, Hk, D).
 *
 * OPEN, F16   K [Hk][S][D] f16, then V [Hk][S][D] f16. Row t is the page's token t.
 *
 * Q8, Q4      [Hk] blocks, each:
 *               K codes | K scale [D] f16 | K min [D] f16 | V codes | V scale [S] f16 | V min [S]
 * f16 K is quantised per channel over the page's tokens, V per token over its channels (KIVI): x =
 * min + scale * code, code = round((x - min) / scale) in 0..2^b-1. Codes come in groups of four
 * along the summed axis, the unit of a u8 x s8 dot product: Q8  K u8 [D/4][S][4 channels]    V u8
 * [S/4][D][4 tokens] Q4  K u8 [D/8][S][4]             V u8 [S/8][D][4] A q4 byte b of group i holds
 * channel (token) 8i+b in its low and 8i+4+b in its high nibble, so that the bytes masked or
 * shifted by four are two groups of Q8. Tokens past the end of a short page: codes 0, V scale 1, V
 * min 0; never weighted.
 *
 * Everything is little-endian and aligned to 16 bytes inside a page that is aligned to 64. */
#ifndef INGLE_KERNELS_KVPAGE_H
#define INGLE_KERNELS_KVPAGE_H
#include "kernels/kernels.h"

/* Values are stored clamped to the largest finite f16. */
#define INGLE_KV_MAX 65504.0f

/* q and p are quantised to whole numbers of 15 bits and sign, carried as two signed bytes:
 * v = 128 * high + low, high in -127..127, low in -64..63. A sum of D products with u8 codes stays
 * below 255 * 16256 * 256 = 1.06e9 < 2^31, each plane below 255 * 127 * 256: int32 is exact. */
#define INGLE_KV_PLANE_MAX 16256.0f /* 128 * 127 */
/* Below this largest magnitude a folded vector counts as zero: its reciprocal would overflow. */
#define INGLE_KV_PLANE_MIN 0x1p-100f

/* A query with a NaN or a component of this magnitude or more gives NaN for its row and head: below
 * it no score can overflow. */
#define INGLE_KV_Q_MAX 0x1p80f

/* Bytes of a block's parts: one KV head's K or V codes; the whole block. */
static inline uint32_t ingle_kv_code_bytes(enum ingle_kv_form form, uint32_t D)
{
    return INGLE_PAGE_TOKENS * D / (form == INGLE_KV_Q4 ? 2u : 1u);
}

static inline uint32_t ingle_kv_block_bytes(enum ingle_kv_form form, uint32_t D)
{
    return 2 * ingle_kv_code_bytes(form, D) + 4 * (D + INGLE_PAGE_TOKENS);
}

/* One KV head of one layer of an OPEN or F16 page. */
struct ingle_kv_rows {
    uint16_t *k, *v; /* [S][D] f16 */
};

/* One KV head of one layer of a Q8 or Q4 page. */
struct ingle_kv_block {
    uint8_t *k_codes;
    uint16_t *k_scale, *k_min; /* [D] f16 */
    uint8_t *v_codes;
    uint16_t *v_scale, *v_min; /* [S] f16 */
};

struct ingle_kv_rows ingle_kv_rows_at(uint8_t *page, uint32_t Hk, uint32_t D, uint32_t layer,
                                      uint32_t head);
struct ingle_kv_block ingle_kv_block_at(uint8_t *page, enum ingle_kv_form form, uint32_t Hk,
                                        uint32_t D, uint32_t layer, uint32_t head);

static inline uint32_t ingle_kv_span_start(const struct ingle_kv_span *span)
{
    return span->base + span->first;
}

/* The part of attention (ref/attn.c) that a page belongs to: where it starts decides. */
static inline uint32_t ingle_kv_span_part(const struct ingle_kv_span *span)
{
    return ingle_kv_span_start(span) / INGLE_ATTN_PART_TOKENS;
}

/* Index of the span that holds the position, n_spans if none does. O(log n). */
uint32_t ingle_kv_span_find(const struct ingle_kv_seq *seq, uint32_t position);

/* The page's tokens [t0, t1) that a query at the position sees; t0 >= t1: none. */
struct ingle_kv_view {
    uint32_t t0, t1;
};

static inline struct ingle_kv_view ingle_kv_span_view(const struct ingle_kv_span *span,
                                                      uint32_t position, uint32_t window)
{
    uint32_t start = ingle_kv_span_start(span);
    uint32_t low = window != 0 && position + 1 > window ? position + 1 - window : 0;
    struct ingle_kv_view view = {.t0 = low > start ? low - start : 0, .t1 = 0};
    if (position >= start) {
        view.t1 = position - start + 1 < span->n_tokens ? position - start + 1 : span->n_tokens;
    }
    return view;
}

/* Rows of all sequences together: what a batch's T is for the KV operations. */
uint32_t ingle_kv_batch_rows(const struct ingle_kv_seq *seqs, uint32_t n_seqs);

#endif
