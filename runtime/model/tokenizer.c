/* Owns one tokenizer: vocabulary, and the merger of its kind (bpe.c or spm.c). Finds the markers of
 * a text and hands what is between them to the merger. Immutable after create: any thread encodes,
 * step asks for pieces. */
#include "runtime/model/tokenizer.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/model/bpe.h"
#include "runtime/model/spm.h"
#include "runtime/model/tokenizer_merge.h"
#include "runtime/model/tokenizer_vocab.h"

struct ingle_tokenizer {
    struct ingle_vocab vocab;
    struct ingle_bpe *bpe; /* one of the two */
    struct ingle_spm *spm;
    bool add_bos, add_space;
};

int ingle_tokenizer_create(const struct ingle_gguf *gguf, struct ingle_tokenizer **ret,
                           struct ingle_error *err)
{
    struct ingle_tokenizer *tok = ingle_mem_alloc(sizeof(*tok));
    int rc;

    if (tok == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory");
    }
    rc = ingle_vocab_load(&tok->vocab, gguf, err);
    if (rc == 0) {
        rc = tok->vocab.byte_level ? ingle_bpe_create(&tok->vocab, gguf, &tok->bpe, err)
                                   : ingle_spm_create(&tok->vocab, &tok->spm, err);
    }
    if (rc != 0) {
        ingle_tokenizer_free(tok);
        return rc;
    }
    tok->add_bos = tok->spm != NULL || ingle_bpe_adds_bos(tok->bpe);
    tok->add_space = tok->spm != NULL;
    (void)ingle_gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &tok->add_bos);
    if (tok->spm != NULL) {
        (void)ingle_gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &tok->add_space);
    }
    tok->add_bos = tok->add_bos && tok->vocab.bos >= 0;
    *ret = tok;
    return 0;
}

void ingle_tokenizer_free(struct ingle_tokenizer *tok)
{
    if (tok == NULL) {
        return;
    }
    ingle_bpe_free(tok->bpe);
    ingle_spm_free(tok->spm);
    ingle_vocab_fini(&tok->vocab);
    ingle_mem_free(tok);
}

uint64_t ingle_tokenizer_bytes(const struct ingle_tokenizer *tok)
{
    return sizeof(*tok) + tok->vocab.bytes +
           (tok->bpe != NULL ? ingle_bpe_bytes(tok->bpe) : ingle_spm_bytes(tok->spm));
}

uint32_t ingle_tokenizer_n_vocab(const struct ingle_tokenizer *tok)
{
    return tok->vocab.n;
}

int32_t ingle_tokenizer_bos(const struct ingle_tokenizer *tok)
{
    return tok->vocab.bos;
}

int32_t ingle_tokenizer_eos(const struct ingle_tokenizer *tok)
{
    return tok->vocab.eos;
}

bool ingle_tokenizer_add_bos(const struct ingle_tokenizer *tok)
{
    return tok->add_bos;
}

bool ingle_tokenizer_adds_space(const struct ingle_tokenizer *tok)
{
    return tok->add_space;
}

static bool has_flag(const struct ingle_tokenizer *tok, int32_t id, uint8_t flag)
{
    return id >= 0 && (uint32_t)id < tok->vocab.n && (tok->vocab.flags[id] & flag) != 0;
}

bool ingle_tokenizer_is_eog(const struct ingle_tokenizer *tok, int32_t id)
{
    return has_flag(tok, id, INGLE_TOKEN_EOG);
}

bool ingle_tokenizer_is_control(const struct ingle_tokenizer *tok, int32_t id)
{
    return has_flag(tok, id, INGLE_TOKEN_CONTROL);
}

bool ingle_tokenizer_is_structural(const struct ingle_tokenizer *tok, int32_t id)
{
    return has_flag(tok, id, INGLE_TOKEN_STRUCTURAL);
}

int32_t ingle_tokenizer_find(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes)
{
    return ingle_vocab_find(&tok->vocab, text, bytes, UINT8_MAX);
}

struct ingle_str ingle_tokenizer_piece(const struct ingle_tokenizer *tok, int32_t id, bool special)
{
    if (id < 0 || (uint32_t)id >= tok->vocab.n ||
        (!special && (tok->vocab.flags[id] & INGLE_TOKEN_HIDDEN) != 0)) {
        return (struct ingle_str){"", 0};
    }
    return (struct ingle_str){tok->vocab.text + tok->vocab.off[id],
                              ingle_vocab_token_bytes(&tok->vocab, id)};
}

/* ---- markers in a text ------------------------------------------------------------------------
 *
 * The longest marker is cut out first, wherever it stands, then the next longest from what is left
 * (llama.cpp's rule; of markers equally long, the leftmost). Every position where some marker
 * begins enters a heap under the longest one there. What comes up is taken when its bytes are free;
 * when only its end is taken, the position goes back under its next shorter marker. */

struct marker {
    uint32_t at, bytes;
    int32_t id;
};

struct marker_list {
    struct marker *items;
    uint64_t n, cap;
};

static int list_add(struct marker_list *list, struct marker marker)
{
    if (list->n == list->cap) {
        uint64_t cap = list->cap == 0 ? 64 : 2 * list->cap;
        void *p = ingle_mem_grow(list->items, list->n, cap, sizeof(marker));

        if (p == NULL) {
            return -ENOMEM;
        }
        list->items = p;
        list->cap = cap;
    }
    list->items[list->n++] = marker;
    return 0;
}

static int offer_marker(const struct ingle_vocab *vocab, const char *text, uint32_t at,
                        uint64_t bytes, uint32_t flags, struct ingle_heap *heap)
{
    int32_t id = ingle_vocab_marker(vocab, text + at, bytes, flags);
    uint32_t n;

    if (id < 0) {
        return 0;
    }
    n = ingle_vocab_token_bytes(vocab, id);
    return ingle_heap_push(heap,
                           (struct ingle_heap_item){
                               .key = (uint64_t)(UINT32_MAX - n) << 32 | at, .id = id, .bytes = n});
}

static bool is_taken(const uint64_t *taken, uint32_t at)
{
    return (taken[at / 64] >> (at % 64) & 1) != 0;
}

static int order_by_place(const void *a, const void *b)
{
    uint32_t x = ((const struct marker *)a)->at, y = ((const struct marker *)b)->at;

    return x < y ? -1 : x > y;
}

static int find_markers(const struct ingle_vocab *vocab, const char *text, uint32_t bytes,
                        uint32_t flags, struct ingle_heap *heap, struct marker_list *ret)
{
    uint64_t *taken = NULL;
    int rc = 0;

    heap->n = 0;
    for (uint32_t at = 0; rc == 0 && at < bytes; at++) {
        uint8_t b = (uint8_t)text[at];

        if (vocab->marker_first[b] != vocab->marker_first[b + 1]) {
            rc = offer_marker(vocab, text, at, bytes - at, flags, heap);
        }
    }
    if (rc == 0 && heap->n > 0) {
        taken = ingle_mem_array((uint64_t)bytes / 64 + 1, sizeof(*taken));
        rc = taken == NULL ? -ENOMEM : 0;
    }
    while (rc == 0 && heap->n > 0) {
        struct ingle_heap_item top = ingle_heap_pop(heap);
        uint32_t at = (uint32_t)top.key;

        /* Whatever is taken is at least as long: it covers an end of this one or none of it. */
        if (is_taken(taken, at)) {
            continue;
        }
        if (is_taken(taken, at + top.bytes - 1)) {
            rc = offer_marker(vocab, text, at, top.bytes - 1, flags, heap);
            continue;
        }
        for (uint32_t i = at; i < at + top.bytes; i++) {
            taken[i / 64] |= UINT64_C(1) << (i % 64);
        }
        rc = list_add(ret, (struct marker){.at = at, .bytes = top.bytes, .id = top.id});
    }
    ingle_mem_free(taken);
    if (rc == 0 && ret->n > 1) {
        qsort(ret->items, ret->n, sizeof(*ret->items), order_by_place);
    }
    return rc;
}

/* ---- encode -----------------------------------------------------------------------------------
 */

/* Ordinary text between markers. SentencePiece files may want a space in front of it. */
static int encode_text(const struct ingle_tokenizer *tok, const char *text, uint32_t bytes,
                       struct ingle_encoding *enc, struct ingle_error *err)
{
    if (bytes == 0) {
        return 0;
    }
    return tok->bpe != NULL
               ? ingle_bpe_encode(tok->bpe, &tok->vocab, text, bytes, enc, err)
               : ingle_spm_encode(tok->spm, &tok->vocab, text, bytes, tok->add_space, enc, err);
}

static int encode(const struct ingle_tokenizer *tok, const char *text, uint32_t bytes,
                  uint32_t flags, struct marker_list *markers, struct ingle_encoding *enc,
                  struct ingle_error *err)
{
    uint32_t kinds = (flags & INGLE_TOKENIZE_SPECIAL) != 0 ? INGLE_TOKEN_USER | INGLE_TOKEN_CONTROL
                                                           : INGLE_TOKEN_USER;
    uint32_t at = 0;
    int rc = find_markers(&tok->vocab, text, bytes, kinds, &enc->heap, markers);

    if (rc == 0 && (flags & INGLE_TOKENIZE_BOS) != 0 && tok->add_bos) {
        rc = ingle_encoding_add(enc, tok->vocab.bos);
    }
    if (rc != 0) {
        return ingle_fail(err, rc, "tokenizer: no memory to encode %u bytes", bytes);
    }
    for (uint64_t i = 0; i < markers->n; i++) {
        const struct marker *m = &markers->items[i];

        rc = encode_text(tok, text + at, m->at - at, enc, err);
        if (rc != 0) {
            return rc;
        }
        rc = ingle_encoding_add(enc, m->id);
        if (rc != 0) {
            return ingle_fail(err, rc, "tokenizer: no memory to encode %u bytes", bytes);
        }
        at = m->at + m->bytes;
    }
    return encode_text(tok, text + at, bytes - at, enc, err);
}

int ingle_tokenizer_encode(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes,
                           uint32_t flags, int32_t **ret_ids, uint32_t *ret_n,
                           struct ingle_error *err)
{
    struct ingle_encoding enc = {0};
    struct marker_list markers = {0};
    int64_t wrong = ingle_utf8_check(text, bytes);
    int rc;

    if (wrong >= 0) {
        return ingle_fail_kind(err, INGLE_ERR_USAGE, -EILSEQ,
                               "the text is not valid UTF-8 at byte %lld; send token ids for "
                               "anything that is no text",
                               (long long)wrong);
    }
    if (bytes > INT32_MAX / 2) {
        return ingle_fail_kind(err, INGLE_ERR_REFUSED, -E2BIG,
                               "a text of %llu bytes is too long to encode (1 GiB at most)",
                               (unsigned long long)bytes);
    }
    rc = encode(tok, text, (uint32_t)bytes, flags, &markers, &enc, err);
    ingle_mem_free(markers.items);
    ingle_mem_free(enc.symbols);
    ingle_mem_free(enc.heap.items);
    ingle_mem_free(enc.text);
    ingle_bpe_release(&enc);
    if (rc == 0 && enc.ids == NULL) { /* nothing to say is an array too */
        enc.ids = ingle_mem_alloc(sizeof(*enc.ids));
        rc = enc.ids != NULL ? 0 : ingle_fail(err, -ENOMEM, "tokenizer: no memory");
    }
    if (rc != 0) {
        ingle_mem_free(enc.ids);
        return rc;
    }
    *ret_ids = enc.ids;
    *ret_n = (uint32_t)enc.n;
    return 0;
}
