/* SentencePiece-style BPE: adjacent symbols merge while what they form is a token, best score
 * first; what is no token falls back to bytes. Private to runtime/model's tokenizer. Immutable. */
#ifndef INGLE_RUNTIME_MODEL_SPM_H
#define INGLE_RUNTIME_MODEL_SPM_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/model/tokenizer_merge.h"
#include "runtime/model/tokenizer_vocab.h"

struct ingle_spm; /* opaque */

int ingle_spm_create(const struct ingle_vocab *vocab, struct ingle_spm **ret,
                     struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_spm_free(struct ingle_spm *spm); /* NULL allowed */
uint64_t ingle_spm_bytes(const struct ingle_spm *spm);

/* Append the tokens of text (valid UTF-8, no markers in it) to enc, as if a space stood in front
 * of it when `space` is set. */
int ingle_spm_encode(const struct ingle_spm *spm, const struct ingle_vocab *vocab, const char *text,
                     uint32_t bytes, bool space, struct ingle_encoding *enc,
                     struct ingle_error *err) INGLE_MUST_CHECK;

#endif
