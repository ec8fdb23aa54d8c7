/* From sampled tokens to text that may be shown: never half a code point, never the beginning of a
 * stop string. One per generating sequence; fixed size, no allocation. Thread: step. */
#ifndef INGLE_RUNTIME_MODEL_TEXTOUT_H
#define INGLE_RUNTIME_MODEL_TEXTOUT_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/model/tokenizer.h"
#include "shm/layout.h"

struct ingle_stop_set { /* validated copy of a request's stop strings */
    uint32_t n;
    uint8_t bytes[INGLE_STOP_N_MAX];
    char text[INGLE_STOP_N_MAX][INGLE_STOP_BYTES_MAX];
};

/* Room for what one call may release: the longest token with each of its bytes replaced, behind a
 * stop string all but complete and a code point all but complete. */
#define INGLE_TEXTOUT_HOLD_MAX 1024u
_Static_assert(INGLE_TOKEN_SHOWN_MAX + INGLE_STOP_BYTES_MAX + 3 <= INGLE_TEXTOUT_HOLD_MAX,
               "one token fits");

struct ingle_textout {
    uint32_t n_held;
    bool first; /* SentencePiece strips one leading space of an answer that begins a text */
    char held[INGLE_STOP_BYTES_MAX + 3]; /* whole text that may begin a stop string, then the
                                            beginning of a code point */
};

void ingle_textout_init(struct ingle_textout *out, bool first);
/* Add one token. Writes what may be shown now to dst (room for INGLE_TEXTOUT_HOLD_MAX bytes) and
 * returns its length. *ret_stopped: a stop string was completed; the text before it is in dst,
 * nothing after it will follow. Of several stop strings the one that is complete first counts, the
 * longest of those that end together: where token borders lie makes no difference. Invalid bytes
 * become U+FFFD once they can no longer be completed. */
uint32_t ingle_textout_push(struct ingle_textout *out, const struct ingle_tokenizer *tok,
                            const struct ingle_stop_set *stops, int32_t id, char *dst,
                            bool *ret_stopped);
/* End of generation without a stop string: release what is held. */
uint32_t ingle_textout_flush(struct ingle_textout *out, char *dst);

#endif
