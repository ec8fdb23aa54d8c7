/* Streaming output against its definition: decode all, replace what is not UTF-8, cut at the stop
 * string that is complete first. */
#ifndef INGLE_TESTS_UNIT_TOKENIZER_BATCH_H
#define INGLE_TESTS_UNIT_TOKENIZER_BATCH_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/model/textout.h"

/* Push ids one by one and compare; also checks that every released part is whole UTF-8 and that
 * nothing released could still have become a stop string. stops: NULL = none. */
void assert_streams_like_batch(const struct ingle_tokenizer *tok, const int32_t *ids, uint32_t n,
                               bool first, const struct ingle_stop_set *stops);

#endif
