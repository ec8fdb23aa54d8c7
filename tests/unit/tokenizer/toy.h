/* Small vocabularies made in memory, as GGUF headers, for tests and the fuzzer. */
#ifndef INGLE_TESTS_UNIT_TOKENIZER_TOY_H
#define INGLE_TESTS_UNIT_TOKENIZER_TOY_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/model/tokenizer.h"

/* A GGUF header under construction. */
struct toy {
    uint8_t *bytes;
    uint64_t n_bytes, cap, n_keys;
};

enum toy_type { /* tokenizer.ggml.token_type */
    TOY_NORMAL = 1,
    TOY_UNKNOWN = 2,
    TOY_CONTROL = 3,
    TOY_USER = 4,
    TOY_BYTE = 6
};
struct toy_token {
    const char *text;
    enum toy_type type;
    float score;
};

void toy_init(struct toy *toy);
void toy_str(struct toy *toy, const char *key, const char *value);
void toy_u32(struct toy *toy, const char *key, uint32_t value);
void toy_bool(struct toy *toy, const char *key, bool value);
void toy_strs(struct toy *toy, const char *key, const char *const *values, uint64_t n);
/* tokens, scores and types */
void toy_tokens(struct toy *toy, const struct toy_token *tokens, uint64_t n);
/* Make the tokenizer and free what toy holds. Returns what create returns. */
int toy_finish(struct toy *toy, struct ingle_tokenizer **ret, struct ingle_error *err);

/* Byte-level: ids 0..255 are the bytes, then `extra` tokens; merges in rank order. */
int toy_bpe(const char *pre, const struct toy_token *extra, uint64_t n_extra,
            const char *const *merges, uint64_t n_merges, struct ingle_tokenizer **ret,
            struct ingle_error *err);
/* SentencePiece: ids 0 <unk>, 1 <s>, 2 </s>, 3..258 the byte tokens, then `extra`. */
int toy_spm(const struct toy_token *extra, uint64_t n_extra, bool add_space,
            struct ingle_tokenizer **ret, struct ingle_error *err);

/* The GPT-2 alphabet's text of one byte, NUL-terminated. */
void toy_byte_text(uint8_t byte, char text[3]);

/* xorshift64*: tests that repeat. */
uint64_t toy_random(uint64_t *state);
/* Valid UTF-8 of about n code points, of every length and from several scripts; returns its bytes.
 * text needs room for 4 * n. */
uint32_t toy_random_text(uint64_t *state, uint32_t n, char *text);

#endif
