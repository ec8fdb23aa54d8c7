/* Text to token ids and back, from the vocabulary of a GGUF file: byte-level BPE (gpt2, smollm,
 * llama-bpe, qwen2 pre-tokenizers) and SentencePiece-style BPE with byte fallback (llama, gemma).
 * Immutable after create. encode allocates (thread: io, tests); decode and piece do not (step). */
#ifndef INGLE_RUNTIME_MODEL_TOKENIZER_H
#define INGLE_RUNTIME_MODEL_TOKENIZER_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/weights/gguf.h"

struct ingle_tokenizer; /* opaque */

/* What one token may add to the shown text, bytes; a file with a longer token is refused. */
#define INGLE_TOKEN_SHOWN_MAX 896u

int ingle_tokenizer_create(const struct ingle_gguf *gguf, struct ingle_tokenizer **ret,
                           struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_tokenizer_free(struct ingle_tokenizer *tok);            /* NULL allowed */
uint64_t ingle_tokenizer_bytes(const struct ingle_tokenizer *tok); /* memory held */

uint32_t ingle_tokenizer_n_vocab(const struct ingle_tokenizer *tok);
int32_t ingle_tokenizer_bos(const struct ingle_tokenizer *tok); /* -1 = none */
int32_t ingle_tokenizer_eos(const struct ingle_tokenizer *tok);
bool ingle_tokenizer_add_bos(const struct ingle_tokenizer *tok);
/* Ends a generation: eos, eot, <|im_end|>, <end_of_turn>, ... */
bool ingle_tokenizer_is_eog(const struct ingle_tokenizer *tok, int32_t id);
bool ingle_tokenizer_is_control(const struct ingle_tokenizer *tok, int32_t id);
/* A token before which text is always cut into chunks (control and user-defined markers such as
 * <|im_start|>, <|file_sep|>, role headers): KV.md 2.2. */
bool ingle_tokenizer_is_structural(const struct ingle_tokenizer *tok, int32_t id);
/* SentencePiece files that put a space in front of a text: decoding takes it off again. */
bool ingle_tokenizer_adds_space(const struct ingle_tokenizer *tok);
/* The id of the token with exactly these bytes in running text, or -1. */
int32_t ingle_tokenizer_find(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes);

#define INGLE_TOKENIZE_SPECIAL 1u /* control tokens in the text are parsed */
#define INGLE_TOKENIZE_BOS     2u /* put BOS in front where the model asks for one */
/* text must be valid UTF-8 (ingle_utf8_check). On success *ret_ids is a new array (ingle_mem_free).
 */
int ingle_tokenizer_encode(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes,
                           uint32_t flags, int32_t **ret_ids, uint32_t *ret_n,
                           struct ingle_error *err) INGLE_MUST_CHECK;
/* The bytes of one token in running text (control tokens: empty unless `special`). Borrowed until
 * free. Not necessarily whole UTF-8. An id outside the vocabulary gives an empty string. */
struct ingle_str ingle_tokenizer_piece(const struct ingle_tokenizer *tok, int32_t id, bool special);

/* Offset of the first byte that is not valid UTF-8, or -1. Overlong, surrogate and > U+10FFFF are
 * invalid. */
int64_t ingle_utf8_check(const char *text, uint64_t bytes);

#endif
