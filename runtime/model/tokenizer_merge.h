/* The merge loop that both kinds of BPE share, and the heap under it.
 *
 * A text is a row of symbols. The adjacent pair with the smallest (order, position) that may merge
 * becomes one symbol, until no pair may. A heap holds every pair that may merge; pairs that another
 * merge has overtaken are recognised when they come up. O(n log n) for n symbols. `pair` is a
 * constant at every use, so the compiler builds one loop for each kind.
 * Private to runtime/model's tokenizer. Thread: whoever encodes. */
#ifndef INGLE_RUNTIME_MODEL_TOKENIZER_MERGE_H
#define INGLE_RUNTIME_MODEL_TOKENIZER_MERGE_H
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/mem.h"

/* One symbol, stored at the offset of its first byte. */
struct ingle_symbol {
    uint32_t bytes; /* 0: swallowed by its left neighbour */
    uint32_t prev;  /* offset of the symbol to the left (own offset for the first one) */
    int32_t id;     /* its token, or -1 when not looked up or not there */
};

struct ingle_heap_item {
    uint64_t key; /* smallest comes first */
    int32_t id;
    uint32_t bytes;
};

struct ingle_heap {
    struct ingle_heap_item *items;
    uint64_t n, cap;
};

static inline int ingle_heap_push(struct ingle_heap *heap, struct ingle_heap_item item)
{
    uint64_t i = heap->n;

    if (i == heap->cap) {
        uint64_t cap = i < 128 ? 256 : 2 * i;
        void *p = ingle_mem_grow(heap->items, i, cap, sizeof(item));

        if (p == NULL) {
            return -ENOMEM;
        }
        heap->items = p;
        heap->cap = cap;
    }
    heap->n++;
    for (; i > 0 && heap->items[(i - 1) / 2].key > item.key; i = (i - 1) / 2) {
        heap->items[i] = heap->items[(i - 1) / 2];
    }
    heap->items[i] = item;
    return 0;
}

/* The heap must not be empty. */
static inline struct ingle_heap_item ingle_heap_pop(struct ingle_heap *heap)
{
    struct ingle_heap_item top = heap->items[0];
    struct ingle_heap_item last = heap->items[--heap->n];
    uint64_t i = 0;

    for (uint64_t child = 1; child < heap->n; child = 2 * i + 1) {
        child += child + 1 < heap->n && heap->items[child + 1].key < heap->items[child].key;
        if (heap->items[child].key >= last.key) {
            break;
        }
        heap->items[i] = heap->items[child];
        i = child;
    }
    heap->items[i] = last;
    return top;
}

/* What one call of encode needs: the ids so far, and room for merging that is kept between words.
 */
struct ingle_encoding {
    int32_t *ids;
    uint64_t n, cap;
    struct ingle_symbol *symbols; /* [symbol_cap], indexed by byte offset in the word */
    uint64_t symbol_cap;
    struct ingle_heap heap;
    char *text; /* SentencePiece: the fragment in vocabulary form */
    uint64_t text_cap;
    void *match; /* pcre2_match_data of the pre-tokenizer */
};

static inline int ingle_encoding_add(struct ingle_encoding *enc, int32_t id)
{
    if (enc->n == enc->cap) {
        uint64_t cap = enc->cap == 0 ? 256 : 2 * enc->cap;
        void *p = ingle_mem_grow(enc->ids, enc->n, cap, sizeof(*enc->ids));

        if (p == NULL) {
            return -ENOMEM;
        }
        enc->ids = p;
        enc->cap = cap;
    }
    enc->ids[enc->n++] = id;
    return 0;
}

/* Room for a word of n bytes. What the symbols held is lost. */
static inline int ingle_encoding_reserve(struct ingle_encoding *enc, uint64_t n)
{
    if (n > enc->symbol_cap) {
        uint64_t cap = n + n / 2 + 64;
        struct ingle_symbol *p = ingle_mem_array(cap, sizeof(*p));

        if (p == NULL) {
            return -ENOMEM;
        }
        ingle_mem_free(enc->symbols);
        enc->symbols = p;
        enc->symbol_cap = cap;
    }
    return 0;
}

/* May the symbols at offsets left and right = left + symbols[left].bytes merge? If so, in which
 * order (smallest first) and into which token. */
typedef bool ingle_pair_fn(const void *arg, const char *text, const struct ingle_symbol *left,
                           const struct ingle_symbol *right, uint32_t *ret_order, int32_t *ret_id);

__attribute__((always_inline)) static inline int ingle_merge_offer(struct ingle_encoding *enc,
                                                                   const char *text, uint32_t n,
                                                                   uint32_t at, ingle_pair_fn *pair,
                                                                   const void *arg)
{
    const struct ingle_symbol *left = &enc->symbols[at];
    uint32_t right = at + left->bytes;
    uint32_t order;
    int32_t id;

    if (right >= n || !pair(arg, text + at, left, &enc->symbols[right], &order, &id)) {
        return 0;
    }
    return ingle_heap_push(
        &enc->heap, (struct ingle_heap_item){.key = (uint64_t)order << 32 | at,
                                             .id = id,
                                             .bytes = left->bytes + enc->symbols[right].bytes});
}

/* Merge the symbols that the caller laid over text[0..n). */
__attribute__((always_inline)) static inline int ingle_merge(struct ingle_encoding *enc,
                                                             const char *text, uint32_t n,
                                                             ingle_pair_fn *pair, const void *arg)
{
    int rc = 0;

    enc->heap.n = 0;
    for (uint32_t at = 0; rc == 0 && at < n; at += enc->symbols[at].bytes) {
        rc = ingle_merge_offer(enc, text, n, at, pair, arg);
    }
    while (rc == 0 && enc->heap.n > 0) {
        struct ingle_heap_item top = ingle_heap_pop(&enc->heap);
        uint32_t at = (uint32_t)top.key;
        struct ingle_symbol *left = &enc->symbols[at];
        uint32_t right = at + left->bytes;

        /* Two symbols that still cover exactly the pair's bytes are the pair: a border inside a
         * merged symbol never comes back. */
        if (left->bytes == 0 || right >= n ||
            left->bytes + enc->symbols[right].bytes != top.bytes) {
            continue;
        }
        enc->symbols[right].bytes = 0;
        left->bytes = top.bytes;
        left->id = top.id;
        if (at + top.bytes < n) {
            enc->symbols[at + top.bytes].prev = at;
            rc = ingle_merge_offer(enc, text, n, at, pair, arg);
        }
        if (rc == 0 && at > 0) {
            rc = ingle_merge_offer(enc, text, n, left->prev, pair, arg);
        }
    }
    return rc;
}

#endif
