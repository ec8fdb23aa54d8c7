/* The definition of streaming output, written the slow way. */
#include "tests/unit/tokenizer/batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Is [p, p + n) one whole code point? By ranges of the number, not by lead bytes. */
static bool is_code_point(const uint8_t *p, uint32_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0}, mask[5] = {0, 0, 0x1f, 0x0f, 0x07};
    uint32_t c;

    if (n == 1) {
        return p[0] < 0x80;
    }
    if ((p[0] & ~mask[n]) != lead[n]) {
        return false;
    }
    c = p[0] & mask[n];
    for (uint32_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return false;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    return c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

/* Could these bytes be the first ones of a code point? Tries all continuations of the last places
 * that matter: the second byte decides, any third and fourth will do. */
static bool begins_code_point(const uint8_t *p, uint32_t n)
{
    for (uint32_t total = n + 1; total <= 4; total++) {
        for (uint32_t second = 0x80; second < 0xc0; second++) {
            uint8_t full[4] = {p[0], (uint8_t)second, 0x80, 0x80};

            memcpy(full, p, n);
            if (is_code_point(full, total)) {
                return true;
            }
        }
    }
    return false;
}

static uint32_t replace_invalid(const char *text, uint32_t n, char *dst)
{
    const uint8_t *p = (const uint8_t *)text;
    uint32_t n_dst = 0;

    for (uint32_t i = 0; i < n;) {
        uint32_t len = 1;

        while (len <= 4 && i + len <= n && !is_code_point(p + i, len)) {
            len++;
        }
        if (len <= 4 && i + len <= n) {
            memcpy(dst + n_dst, text + i, len);
            n_dst += len;
            i += len;
            continue;
        }
        for (len = 1; len < 3 && i + len < n && begins_code_point(p + i, len + 1);) {
            len++; /* the longest run that might have gone on */
        }
        memcpy(dst + n_dst, "\xef\xbf\xbd", 3);
        n_dst += 3;
        i += len;
    }
    return n_dst;
}

static uint32_t cut_at_stop(const struct ingle_stop_set *stops, const char *text, uint32_t n,
                            bool *ret_stopped)
{
    for (uint32_t end = 1; end <= n; end++) {
        uint32_t longest = 0;

        for (uint32_t s = 0; stops != NULL && s < stops->n; s++) {
            uint32_t bytes = stops->bytes[s];

            if (bytes <= end && bytes > longest &&
                memcmp(text + end - bytes, stops->text[s], bytes) == 0) {
                longest = bytes;
            }
        }
        if (longest > 0) {
            *ret_stopped = true;
            return end - longest;
        }
    }
    *ret_stopped = false;
    return n;
}

void assert_streams_like_batch(const struct ingle_tokenizer *tok, const int32_t *ids, uint32_t n,
                               bool first, const struct ingle_stop_set *stops)
{
    static const struct ingle_stop_set none = {0};
    uint64_t room = (uint64_t)n * INGLE_TOKEN_SHOWN_MAX + 16;
    char *raw = test_malloc(room), *want = test_malloc(3 * room), *got = test_malloc(3 * room);
    uint32_t n_raw = 0, n_want, n_got = 0;
    bool want_stopped, stopped = false;
    struct ingle_textout out;

    for (uint32_t i = 0; i < n; i++) {
        struct ingle_str piece = ingle_tokenizer_piece(tok, ids[i], false);

        memcpy(raw + n_raw, piece.p, piece.bytes);
        n_raw += (uint32_t)piece.bytes;
    }
    if (first && ingle_tokenizer_adds_space(tok) && n_raw > 0 && raw[0] == ' ') {
        memmove(raw, raw + 1, --n_raw);
    }
    n_want = cut_at_stop(stops, want, replace_invalid(raw, n_raw, want), &want_stopped);

    ingle_textout_init(&out, first);
    for (uint32_t i = 0; i < n && !stopped; i++) {
        char part[INGLE_TEXTOUT_HOLD_MAX];
        uint32_t n_part =
            ingle_textout_push(&out, tok, stops != NULL ? stops : &none, ids[i], part, &stopped);

        assert_int_equal(ingle_utf8_check(part, n_part), -1);
        memcpy(got + n_got, part, n_part);
        n_got += n_part;
        assert_true(n_got <= n_want || !want_stopped); /* never a byte of the stop string */
    }
    if (!stopped) {
        n_got += ingle_textout_flush(&out, got + n_got);
    }
    /* A truncated code point at the very end may complete a stop string only in the batch. */
    if (stopped == want_stopped) {
        assert_int_equal(n_got, n_want);
        assert_memory_equal(got, want, n_want);
    } else {
        assert_true(want_stopped);
        assert_memory_equal(got, want, n_want);
    }
    test_free(raw);
    test_free(want);
    test_free(got);
}
