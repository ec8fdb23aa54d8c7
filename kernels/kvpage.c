/* Owns the geometry of KV pages: sizes, offsets, the search for a position's span. No arithmetic on
 * keys or values. Any thread: everything is computed from arguments. */
#include "kernels/kvpage.h"

uint64_t ingle_kv_layer_bytes(enum ingle_kv_form form, uint32_t Hk, uint32_t D)
{
    if (form == INGLE_KV_Q8 || form == INGLE_KV_Q4) {
        return (uint64_t)Hk * ingle_kv_block_bytes(form, D);
    }
    return (uint64_t)Hk * INGLE_PAGE_TOKENS * D * 2 * sizeof(uint16_t);
}

struct ingle_kv_rows ingle_kv_rows_at(uint8_t *page, uint32_t Hk, uint32_t D, uint32_t layer,
                                      uint32_t head)
{
    uint64_t head_values = (uint64_t)INGLE_PAGE_TOKENS * D;
    uint16_t *k = (uint16_t *)(page + layer * ingle_kv_layer_bytes(INGLE_KV_OPEN, Hk, D));
    k += head * head_values;
    return (struct ingle_kv_rows){.k = k, .v = k + Hk * head_values};
}

struct ingle_kv_block ingle_kv_block_at(uint8_t *page, enum ingle_kv_form form, uint32_t Hk,
                                        uint32_t D, uint32_t layer, uint32_t head)
{
    uint8_t *at = page + layer * ingle_kv_layer_bytes(form, Hk, D) +
                  (uint64_t)head * ingle_kv_block_bytes(form, D);
    uint32_t code_bytes = ingle_kv_code_bytes(form, D);
    struct ingle_kv_block block;
    block.k_codes = at;
    block.k_scale = (uint16_t *)(at + code_bytes);
    block.k_min = block.k_scale + D;
    block.v_codes = (uint8_t *)(block.k_min + D);
    block.v_scale = (uint16_t *)(block.v_codes + code_bytes);
    block.v_min = block.v_scale + INGLE_PAGE_TOKENS;
    return block;
}

uint32_t ingle_kv_span_find(const struct ingle_kv_seq *seq, uint32_t position)
{
    uint32_t low = 0, high = seq->n_spans;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct ingle_kv_span *span = &seq->spans[middle];
        if (position >= ingle_kv_span_start(span) + span->n_tokens) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < seq->n_spans && position < ingle_kv_span_start(&seq->spans[low])) {
        return seq->n_spans;
    }
    return low;
}

uint32_t ingle_kv_batch_rows(const struct ingle_kv_seq *seqs, uint32_t n_seqs)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < n_seqs; i++) {
        rows += seqs[i].n_rows;
    }
    return rows;
}
