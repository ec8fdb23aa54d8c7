/* UTF-8, one sequence at a time. Leaf helpers of the tokenizer and of streaming output. */
#ifndef INGLE_RUNTIME_MODEL_UNICODE_H
#define INGLE_RUNTIME_MODEL_UNICODE_H
#include <stdint.h>

enum ingle_utf8_state {
    INGLE_UTF8_VALID,   /* one whole code point */
    INGLE_UTF8_INVALID, /* a maximal run of bytes that no continuation can repair */
    INGLE_UTF8_PARTIAL  /* the text ends inside a sequence that more bytes could complete */
};

/* Look at the sequence that begins at p (n >= 1 bytes are there). *ret_bytes, at least 1, is how
 * many bytes it covers. An invalid run is the "maximal subpart" of Unicode 3.9: what is replaced by
 * one U+FFFD. */
enum ingle_utf8_state ingle_utf8_next(const char *p, uint64_t n, uint32_t *ret_bytes);

/* The code point at p, which must begin a valid sequence; *ret_bytes is its length. */
uint32_t ingle_utf8_decode(const char *p, uint32_t *ret_bytes);

#endif
