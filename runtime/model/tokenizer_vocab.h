/* The vocabulary of a tokenizer: the bytes of every token as they stand in running text, what kind
 * each is, a hash index from bytes to ids, and the sorted list of markers (tokens that are matched
 * verbatim before anything else). Private to runtime/model's tokenizer. Immutable after load. */
#ifndef INGLE_RUNTIME_MODEL_TOKENIZER_VOCAB_H
#define INGLE_RUNTIME_MODEL_TOKENIZER_VOCAB_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/weights/gguf.h"

enum ingle_token_flag {
    INGLE_TOKEN_WORD = 1,        /* made by merging ordinary text */
    INGLE_TOKEN_USER = 2,        /* a marker of every text */
    INGLE_TOKEN_CONTROL = 4,     /* a marker only where special tokens are parsed */
    INGLE_TOKEN_HIDDEN = 8,      /* no part of the running text */
    INGLE_TOKEN_EOG = 16,        /* ends a generation */
    INGLE_TOKEN_STRUCTURAL = 32, /* text is cut into chunks before it */
    INGLE_TOKEN_BYTE = 64        /* stands for one byte (SentencePiece byte fallback) */
};

struct ingle_vocab {
    bool byte_level; /* token texts are in the GPT-2 byte alphabet; else SentencePiece */
    uint32_t n;
    char *text;      /* all token bytes, one after the other */
    uint32_t *off;   /* [n + 1] into text */
    uint8_t *flags;  /* [n] enum ingle_token_flag */
    uint32_t *order; /* [n] SentencePiece: smaller is merged first (descending score) */
    uint64_t *slots; /* open addressing: high half of the hash, then id + 1; 0 = empty */
    uint32_t slot_mask;
    int32_t *markers; /* [n_markers] sorted by their bytes */
    uint32_t n_markers;
    uint32_t marker_first[257]; /* markers that begin with byte b: [first[b], first[b + 1]) */
    int32_t byte_id[256];       /* the token of one byte that no longer merges, or -1 */
    int32_t bos, eos, unk;      /* -1 = none */
    uint64_t bytes;             /* memory held */
};

/* Fill *vocab from a GGUF file. On failure what was filled is freed. */
int ingle_vocab_load(struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                     struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_vocab_fini(struct ingle_vocab *vocab); /* zeroed allowed */

/* The token with exactly these bytes and one of the kinds in `flags`, or -1. Ordinary tokens come
 * before markers of the same bytes. */
int32_t ingle_vocab_find(const struct ingle_vocab *vocab, const char *text, uint64_t bytes,
                         uint32_t flags);
/* The longest marker of the kinds in `flags` that text begins with, at most `bytes` long, or -1. */
int32_t ingle_vocab_marker(const struct ingle_vocab *vocab, const char *text, uint64_t bytes,
                           uint32_t flags);
/* Undo the GPT-2 byte alphabet: writes at most n bytes to dst and returns how many, or -1 when a
 * character is not of the alphabet. */
int64_t ingle_vocab_unmap(const char *text, uint64_t n, char *dst);

static inline uint32_t ingle_vocab_token_bytes(const struct ingle_vocab *vocab, int32_t id)
{
    return vocab->off[id + 1] - vocab->off[id];
}

#endif
