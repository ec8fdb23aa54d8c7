/* Byte-level BPE: a regular expression cuts text into words, ranked merges make tokens of each.
 * Private to runtime/model's tokenizer. Immutable after create. */
#ifndef INGLE_RUNTIME_MODEL_BPE_H
#define INGLE_RUNTIME_MODEL_BPE_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/model/tokenizer_merge.h"
#include "runtime/model/tokenizer_vocab.h"
#include "runtime/weights/gguf.h"

struct ingle_bpe; /* opaque */

int ingle_bpe_create(const struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                     struct ingle_bpe **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_bpe_free(struct ingle_bpe *bpe); /* NULL allowed */
uint64_t ingle_bpe_bytes(const struct ingle_bpe *bpe);
/* Whether this family puts BOS in front unless the file says otherwise. */
bool ingle_bpe_adds_bos(const struct ingle_bpe *bpe);

/* Append the tokens of text (valid UTF-8, no markers in it) to enc. */
int ingle_bpe_encode(const struct ingle_bpe *bpe, const struct ingle_vocab *vocab, const char *text,
                     uint32_t bytes, struct ingle_encoding *enc,
                     struct ingle_error *err) INGLE_MUST_CHECK;
/* Free what the pre-tokenizer keeps in enc. */
void ingle_bpe_release(struct ingle_encoding *enc);

#endif
