/* Owns the few bytes of an answer that may not be shown yet. Does not own the tokenizer or the stop
 * strings. Invariant: what is held is whole text that is a proper prefix of some stop string, then
 * at most three bytes that begin a code point; so the text released so far, plus flush, is the
 * decoded text whatever the token borders were. Thread: step. */
#include "runtime/model/textout.h"

#include <string.h>

#include "runtime/base/error.h"
#include "runtime/model/unicode.h"

#define REPLACEMENT "\xef\xbf\xbd"

void ingle_textout_init(struct ingle_textout *out, bool first)
{
    *out = (struct ingle_textout){.first = first};
}

/* How many of the last bytes begin a code point that is not complete. */
static uint32_t unfinished(const char *text, uint32_t n)
{
    for (uint32_t k = 1; k <= 3 && k <= n; k++) {
        uint8_t b = (uint8_t)text[n - k];
        uint32_t used;

        if (b < 0x80 || b >= 0xc0) {
            return ingle_utf8_next(text + n - k, k, &used) == INGLE_UTF8_PARTIAL ? k : 0;
        }
    }
    return 0;
}

/* Copy whole code points to dst, U+FFFD for what is none. *ret_rest: how many bytes at the end of
 * text are not copied because they may still become one. */
static uint32_t copy_whole(const char *text, uint32_t n, char *dst, uint32_t *ret_rest)
{
    uint32_t n_dst = 0, used;

    *ret_rest = 0;
    for (uint32_t i = 0; i < n; i += used) {
        switch (ingle_utf8_next(text + i, n - i, &used)) {
        case INGLE_UTF8_VALID:
            memcpy(dst + n_dst, text + i, used);
            n_dst += used;
            break;
        case INGLE_UTF8_INVALID:
            memcpy(dst + n_dst, REPLACEMENT, 3);
            n_dst += 3;
            break;
        case INGLE_UTF8_PARTIAL:
            *ret_rest = n - i;
            return n_dst;
        }
    }
    return n_dst;
}

/* Where the stop string that is complete first begins, or -1. */
static int64_t find_stop(const struct ingle_stop_set *stops, const char *text, uint32_t n)
{
    int64_t begin = -1, end = INT64_MAX;

    for (uint32_t i = 0; i < stops->n; i++) {
        uint32_t bytes = stops->bytes[i];
        const char *at = bytes == 0 ? NULL : memmem(text, n, stops->text[i], bytes);

        if (at != NULL &&
            ((at - text) + bytes < end || ((at - text) + bytes == end && at - text < begin))) {
            begin = at - text;
            end = begin + bytes;
        }
    }
    return begin;
}

/* How many of the last bytes may turn out to begin a stop string. */
static uint32_t may_stop(const struct ingle_stop_set *stops, const char *text, uint32_t n)
{
    uint32_t most = 0;

    for (uint32_t i = 0; i < stops->n; i++) {
        uint32_t k = stops->bytes[i] == 0 ? 0 : stops->bytes[i] - 1u;

        k = k < n ? k : n;
        while (k > most && memcmp(text + n - k, stops->text[i], k) != 0) {
            k--;
        }
        most = k > most ? k : most;
    }
    return most;
}

uint32_t ingle_textout_push(struct ingle_textout *out, const struct ingle_tokenizer *tok,
                            const struct ingle_stop_set *stops, int32_t id, char *dst,
                            bool *ret_stopped)
{
    struct ingle_str piece = ingle_tokenizer_piece(tok, id, false);
    char fresh[3 + INGLE_TOKEN_SHOWN_MAX];
    uint32_t n_tail = unfinished(out->held, out->n_held);
    uint32_t n = out->n_held - n_tail, n_fresh, rest, keep;
    int64_t stop;

    *ret_stopped = false;
    if (piece.bytes == 0) {
        return 0;
    }
    if (out->first && piece.p[0] == ' ' && ingle_tokenizer_adds_space(tok)) {
        piece.p++;
        piece.bytes--;
    }
    out->first = false;
    ingle_assert(piece.bytes <= INGLE_TOKEN_SHOWN_MAX); /* checked when the file was read */
    memcpy(fresh, out->held + n, n_tail);
    memcpy(fresh + n_tail, piece.p, piece.bytes);
    n_fresh = n_tail + (uint32_t)piece.bytes;

    memcpy(dst, out->held, n);
    n += copy_whole(fresh, n_fresh, dst + n, &rest);
    stop = find_stop(stops, dst, n);
    if (stop >= 0) {
        *ret_stopped = true;
        out->n_held = 0;
        return (uint32_t)stop;
    }
    keep = may_stop(stops, dst, n);
    n -= keep;
    memcpy(out->held, dst + n, keep);
    memcpy(out->held + keep, fresh + n_fresh - rest, rest);
    out->n_held = keep + rest;
    return n;
}

uint32_t ingle_textout_flush(struct ingle_textout *out, char *dst)
{
    uint32_t n = out->n_held - unfinished(out->held, out->n_held);

    memcpy(dst, out->held, n);
    if (n < out->n_held) {
        memcpy(dst + n, REPLACEMENT, 3);
        n += 3;
    }
    out->n_held = 0;
    return n;
}
