/* UTF-8 by the table of well-formed sequences (Unicode 15, table 3-7): overlong forms, surrogates
 * and code points above U+10FFFF never pass. Pure functions; any thread. */
#include "runtime/model/unicode.h"

#include <string.h>

#include "runtime/model/tokenizer.h"

enum ingle_utf8_state ingle_utf8_next(const char *p, uint64_t n, uint32_t *ret_bytes)
{
    uint8_t lead = (uint8_t)p[0];
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
    uint32_t want;

    *ret_bytes = 1;
    if (lead < 0x80) {
        return INGLE_UTF8_VALID;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        want = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        want = 3;
        low = lead == 0xe0 ? 0xa0 : 0x80;
        high = lead == 0xed ? 0x9f : 0xbf;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        want = 4;
        low = lead == 0xf0 ? 0x90 : 0x80;
        high = lead == 0xf4 ? 0x8f : 0xbf;
    } else {
        return INGLE_UTF8_INVALID;
    }
    for (uint32_t i = 1; i < want; i++) {
        if (i == n) {
            return INGLE_UTF8_PARTIAL;
        }
        if ((uint8_t)p[i] < low || (uint8_t)p[i] > high) {
            return INGLE_UTF8_INVALID;
        }
        *ret_bytes = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return INGLE_UTF8_VALID;
}

uint32_t ingle_utf8_decode(const char *p, uint32_t *ret_bytes)
{
    const uint8_t *b = (const uint8_t *)p;

    if (b[0] < 0x80) {
        *ret_bytes = 1;
        return b[0];
    }
    if (b[0] < 0xe0) {
        *ret_bytes = 2;
        return (uint32_t)(b[0] & 0x1f) << 6 | (b[1] & 0x3f);
    }
    if (b[0] < 0xf0) {
        *ret_bytes = 3;
        return (uint32_t)(b[0] & 0x0f) << 12 | (uint32_t)(b[1] & 0x3f) << 6 | (b[2] & 0x3f);
    }
    *ret_bytes = 4;
    return (uint32_t)(b[0] & 0x07) << 18 | (uint32_t)(b[1] & 0x3f) << 12 |
           (uint32_t)(b[2] & 0x3f) << 6 | (b[3] & 0x3f);
}

int64_t ingle_utf8_check(const char *text, uint64_t bytes)
{
    uint64_t i = 0;

    while (i < bytes) {
        uint64_t eight;
        uint32_t used;

        if (bytes - i >= sizeof(eight)) { /* most prompts are mostly ASCII */
            memcpy(&eight, text + i, sizeof(eight));
            if ((eight & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof(eight);
                continue;
            }
        }
        if (ingle_utf8_next(text + i, bytes - i, &used) != INGLE_UTF8_VALID) {
            return (int64_t)i;
        }
        i += used;
    }
    return -1;
}
