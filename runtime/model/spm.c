/* Owns one bitmap: which pairs of neighbouring characters occur inside any token. Two characters
 * whose pair occurs in none are never merged across, so a long text falls apart into short runs
 * (in practice words) that are merged one at a time; the result is the same and the heap stays in
 * the cache. The bitmap is hashed: a false hit only makes a run longer.
 * Does not know about markers (tokenizer.c). Immutable after create. */
#include "runtime/model/spm.h"

#include <string.h>

#include "runtime/model/unicode.h"

#define PAIR_BITS (UINT32_C(1) << 21)

struct ingle_spm {
    uint64_t pairs[PAIR_BITS / 64];
};

static uint32_t pair_bit(uint32_t a, uint32_t b)
{
    uint64_t key = (uint64_t)a << 32 | b;

    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 43); /* 21 bits */
}

static bool may_join(const struct ingle_spm *spm, uint32_t a, uint32_t b)
{
    uint32_t bit = pair_bit(a, b);

    return (spm->pairs[bit / 64] >> (bit % 64) & 1) != 0;
}

static void note_pairs(struct ingle_spm *spm, const char *text, uint32_t n)
{
    uint32_t used, bytes, last = 0;

    for (uint32_t i = 0; i < n; i += used) {
        uint32_t c, bit;

        if (ingle_utf8_next(text + i, n - i, &used) != INGLE_UTF8_VALID) {
            return; /* no valid text contains this token */
        }
        c = ingle_utf8_decode(text + i, &bytes);
        bit = pair_bit(last, c);
        if (i > 0) {
            spm->pairs[bit / 64] |= UINT64_C(1) << (bit % 64);
        }
        last = c;
    }
}

int ingle_spm_create(const struct ingle_vocab *vocab, struct ingle_spm **ret,
                     struct ingle_error *err)
{
    struct ingle_spm *spm = ingle_mem_alloc(sizeof(*spm));

    if (spm == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory");
    }
    for (uint32_t id = 0; id < vocab->n; id++) {
        if ((vocab->flags[id] & INGLE_TOKEN_WORD) != 0) {
            note_pairs(spm, vocab->text + vocab->off[id],
                       ingle_vocab_token_bytes(vocab, (int32_t)id));
        }
    }
    *ret = spm;
    return 0;
}

void ingle_spm_free(struct ingle_spm *spm)
{
    ingle_mem_free(spm);
}

uint64_t ingle_spm_bytes(const struct ingle_spm *spm)
{
    return sizeof(*spm);
}

/* Copy text in vocabulary form: U+2581 is another way to write a space. */
static int normalize(const char *text, uint32_t bytes, bool space, struct ingle_encoding *enc,
                     uint32_t *ret_n)
{
    uint32_t n = 0;

    if ((uint64_t)bytes + 1 > enc->text_cap) {
        char *p = ingle_mem_alloc((uint64_t)bytes + 1);

        if (p == NULL) {
            return -ENOMEM;
        }
        ingle_mem_free(enc->text);
        enc->text = p;
        enc->text_cap = (uint64_t)bytes + 1;
    }
    if (space) {
        enc->text[n++] = ' ';
    }
    for (uint32_t i = 0; i < bytes;) {
        if (text[i] == '\xe2' && bytes - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            enc->text[n++] = ' ';
            i += 3;
        } else {
            enc->text[n++] = text[i++];
        }
    }
    *ret_n = n;
    return 0;
}

static bool pair_of_texts(const void *arg, const char *text, const struct ingle_symbol *left,
                          const struct ingle_symbol *right, uint32_t *ret_order, int32_t *ret_id)
{
    const struct ingle_vocab *vocab = arg;
    int32_t id = ingle_vocab_find(vocab, text, left->bytes + right->bytes, INGLE_TOKEN_WORD);

    if (id < 0) {
        return false;
    }
    *ret_order = vocab->order[id];
    *ret_id = id;
    return true;
}

/* The symbol at text: a token, or a character that is none and becomes bytes. */
static int emit(const struct ingle_vocab *vocab, const char *text,
                const struct ingle_symbol *symbol, struct ingle_encoding *enc)
{
    int32_t id = symbol->id;
    int rc = 0;

    if (id < 0) {
        id = ingle_vocab_find(vocab, text, symbol->bytes, INGLE_TOKEN_WORD);
    }
    if (id >= 0) {
        return ingle_encoding_add(enc, id);
    }
    for (uint32_t i = 0; rc == 0 && i < symbol->bytes; i++) {
        id = vocab->byte_id[(uint8_t)text[i]];
        rc = id < 0 ? 0 : ingle_encoding_add(enc, id);
    }
    return rc;
}

int ingle_spm_encode(const struct ingle_spm *spm, const struct ingle_vocab *vocab, const char *text,
                     uint32_t bytes, bool space, struct ingle_encoding *enc,
                     struct ingle_error *err)
{
    uint32_t n, run = 0;
    int rc = normalize(text, bytes, space, enc, &n);

    if (rc == 0) {
        rc = ingle_encoding_reserve(enc, n);
    }
    while (rc == 0 && run < n) {
        const char *at = enc->text + run;
        uint32_t used, n_run = 0, prev = 0;
        uint32_t c = ingle_utf8_decode(at, &used), next = c;

        do { /* lay one symbol over each character of the run */
            c = next;
            enc->symbols[n_run] = (struct ingle_symbol){.bytes = used, .prev = prev, .id = -1};
            prev = n_run;
            n_run += used;
            if (run + n_run == n) {
                break;
            }
            next = ingle_utf8_decode(at + n_run, &used);
        } while (may_join(spm, c, next));
        rc = ingle_merge(enc, at, n_run, pair_of_texts, vocab);
        for (uint32_t i = 0; rc == 0 && i < n_run; i += enc->symbols[i].bytes) {
            rc = emit(vocab, at + i, &enc->symbols[i], enc);
        }
        run += n_run;
    }
    return rc == 0 ? 0 : ingle_fail(err, rc, "tokenizer: no memory to encode %u bytes", bytes);
}
