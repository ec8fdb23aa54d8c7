/* Streaming output: stop strings cut at every place, code points that arrive byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/tokenizer/batch.h"
#include "tests/unit/tokenizer/toy.h"

static struct ingle_stop_set stop_set(uint32_t n, const char *const *texts)
{
    struct ingle_stop_set stops = {.n = n};

    for (uint32_t i = 0; i < n; i++) {
        stops.bytes[i] = (uint8_t)strlen(texts[i]);
        memcpy(stops.text[i], texts[i], strlen(texts[i]));
    }
    return stops;
}

/* A vocabulary with the given tokens from id 256 on. */
static struct ingle_tokenizer *with_tokens(const char *const *texts, uint32_t n)
{
    struct toy_token *tokens = test_calloc(n + 1, sizeof(*tokens));
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (struct toy_token){texts[i], TOY_USER, 0};
    }
    if (toy_bpe("qwen2", tokens, n, NULL, 0, &tok, &err) != 0) {
        fail_msg("%s", err.text);
    }
    test_free(tokens);
    return tok;
}

static uint32_t push_text(struct ingle_textout *out, const struct ingle_tokenizer *tok,
                          const struct ingle_stop_set *stops, const char *text, char *dst,
                          bool *ret_stopped)
{
    uint32_t n = 0;

    *ret_stopped = false;
    for (; *text != '\0' && !*ret_stopped; text++) {
        n += ingle_textout_push(out, tok, stops, (uint8_t)*text, dst + n, ret_stopped);
    }
    return n;
}

static void a_stop_string_is_found_wherever_tokens_cut_it(void **state)
{
    static const char stop[] = "ST\xc3\x96P! \xf0\x9f\x98\x80.";
    const char *stop_text = stop;
    struct ingle_stop_set stops = stop_set(1, &stop_text);
    uint32_t n_stop = sizeof(stop) - 1;

    (void)state;
    for (uint32_t a = 0; a <= n_stop; a++) {
        for (uint32_t b = a; b <= n_stop; b++) {
            char parts[3][64];
            const char *texts[3] = {parts[0], parts[1], parts[2]};
            int32_t ids[3] = {256, 257, 258};
            struct ingle_tokenizer *tok;
            struct ingle_textout out;
            char text[3 * INGLE_TEXTOUT_HOLD_MAX];
            uint32_t n = 0;
            bool stopped = false;

            (void)snprintf(parts[0], sizeof(parts[0]), "before %.*s", (int)a, stop);
            (void)snprintf(parts[1], sizeof(parts[1]), "%.*s", (int)(b - a), stop + a);
            (void)snprintf(parts[2], sizeof(parts[2]), "%s after", stop + b);
            if (a == b) {
                texts[1] = "<nothing>"; /* no token is empty */
                ids[1] = 258;
            }
            tok = with_tokens(texts, 3);
            ingle_textout_init(&out, true);
            for (int i = 0; i < 3 && !stopped; i++) {
                n += ingle_textout_push(&out, tok, &stops, ids[i], text + n, &stopped);
            }
            assert_true(stopped);
            assert_int_equal(n, 7);
            assert_memory_equal(text, "before ", 7);
            assert_int_equal(ingle_textout_flush(&out, text), 0);
            ingle_tokenizer_free(tok);
        }
    }
}

static void what_only_begins_like_a_stop_string_is_shown(void **state)
{
    static const char *const texts[] = {"\n\nUser:", "aab"};
    struct ingle_stop_set stops = stop_set(2, texts);
    struct ingle_tokenizer *tok = with_tokens(NULL, 0);
    struct ingle_textout out;
    char text[4096];
    bool stopped;
    uint32_t n;

    (void)state;
    ingle_textout_init(&out, false);
    n = push_text(&out, tok, &stops, "x\n\nUser", text, &stopped);
    assert_int_equal(n, 1); /* the rest waits */
    n += push_text(&out, tok, &stops, " aaa", text + n, &stopped);
    assert_false(stopped);
    assert_memory_equal(text, "x\n\nUser a", n);
    assert_int_equal(n, 9);
    n += push_text(&out, tok, &stops, "b", text + n, &stopped);
    assert_true(stopped);
    assert_int_equal(n, 9); /* "aaab": the first a is text */
    ingle_tokenizer_free(tok);
}

static void the_stop_string_that_is_complete_first_counts(void **state)
{
    static const char *const texts[] = {"abcd", "bc", "xbc", "c"};
    struct ingle_stop_set stops = stop_set(4, texts);
    const char *whole[] = {"1abcd2", "1xbc2"};
    struct ingle_tokenizer *tok = with_tokens(whole, 2);
    struct ingle_textout out;
    char text[4096];
    bool stopped;

    (void)state;
    ingle_textout_init(&out, false);
    assert_int_equal(push_text(&out, tok, &stops, "1abcd2", text, &stopped), 2);
    assert_true(stopped);
    assert_memory_equal(text, "1a", 2);
    ingle_textout_init(&out, false);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 256, text, &stopped), 2);
    assert_true(stopped);
    ingle_textout_init(&out, false);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 257, text, &stopped), 1);
    assert_true(stopped);
    ingle_tokenizer_free(tok);
}

static void half_a_code_point_is_never_shown(void **state)
{
    struct ingle_stop_set stops = {0};
    struct ingle_tokenizer *tok = with_tokens(NULL, 0);
    struct ingle_textout out;
    char text[4096];
    bool stopped;

    (void)state;
    ingle_textout_init(&out, false);
    assert_int_equal(push_text(&out, tok, &stops, "\xf0\x9f\x98", text, &stopped), 0);
    assert_int_equal(push_text(&out, tok, &stops, "\x80", text, &stopped), 4);
    assert_memory_equal(text, "\xf0\x9f\x98\x80", 4);
    assert_int_equal(push_text(&out, tok, &stops, "\xe2\x82", text, &stopped), 0);
    assert_int_equal(push_text(&out, tok, &stops, "a", text, &stopped), 4);
    assert_memory_equal(text,
                        "\xef\xbf\xbd"
                        "a",
                        4);
    assert_int_equal(push_text(&out, tok, &stops, "\xff\xc0", text, &stopped), 6);
    assert_int_equal(push_text(&out, tok, &stops, "\xc3", text, &stopped), 0);
    assert_int_equal(ingle_textout_flush(&out, text), 3);
    assert_memory_equal(text, "\xef\xbf\xbd", 3);
    assert_int_equal(ingle_textout_flush(&out, text), 0);
    ingle_tokenizer_free(tok);
}

static void the_first_space_of_a_sentencepiece_text_goes(void **state)
{
    static const struct toy_token tokens[] = {{"\xe2\x96\x81", TOY_NORMAL, -1},
                                              {"\xe2\x96\x81"
                                               "a",
                                               TOY_NORMAL, -2}};
    struct ingle_stop_set stops = {0};
    struct ingle_tokenizer *tok;
    struct ingle_textout out;
    struct ingle_error err = {0};
    char text[4096];
    bool stopped;

    (void)state;
    assert_int_equal(toy_spm(tokens, 2, true, &tok, &err), 0);
    ingle_textout_init(&out, true);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 1, text, &stopped), 0); /* <s> */
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 260, text, &stopped), 1);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 260, text, &stopped), 2);
    ingle_textout_init(&out, false); /* an answer that continues a text keeps it */
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 260, text, &stopped), 2);
    ingle_tokenizer_free(tok);
    assert_int_equal(toy_spm(tokens, 2, false, &tok, &err), 0);
    ingle_textout_init(&out, true);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 260, text, &stopped), 2);
    ingle_tokenizer_free(tok);
}

static void the_longest_admitted_token_fits(void **state)
{
    char longest[INGLE_TOKEN_SHOWN_MAX + 1], stop[64];
    const char *texts[] = {longest}, *stop_text = stop;
    struct ingle_tokenizer *tok;
    struct ingle_textout out;
    struct ingle_stop_set stops;
    char text[INGLE_TEXTOUT_HOLD_MAX];
    bool stopped;
    uint32_t n;

    (void)state;
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    memset(stop, 's', sizeof(stop) - 1);
    stop[sizeof(stop) - 1] = '\0';
    stops = stop_set(1, &stop_text);
    tok = with_tokens(texts, 1);
    ingle_textout_init(&out, false);
    for (int i = 0; i < 62; i++) {
        assert_int_equal(ingle_textout_push(&out, tok, &stops, 's', text, &stopped), 0);
    }
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 0xf0, text, &stopped), 0);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 0x9f, text, &stopped), 0);
    assert_int_equal(ingle_textout_push(&out, tok, &stops, 0x98, text, &stopped), 0);
    n = ingle_textout_push(&out, tok, &stops, 256, text, &stopped);
    assert_int_equal(n, 62 + 3 + INGLE_TOKEN_SHOWN_MAX);
    assert_false(stopped);
    ingle_tokenizer_free(tok);
}

static void random_bytes_and_stops_stream_as_the_definition_says(void **state)
{
    static const char *const fixed[] = {"ab", "aab", "\xc3\xa9", "b\xf0\x9f\x98\x80",
                                        "a\xef\xbf\xbd"};
    static const char alphabet[] = "aab\xc3\xa9\xf0\x9f\x98\x80\xe2\xff";
    static const char *const longer[] = {"aa", "ba", "bab"};
    struct ingle_tokenizer *tok = with_tokens(longer, 3);
    uint64_t seed = 21;
    int32_t ids[60];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint32_t n = (uint32_t)(toy_random(&seed) % 60);
        struct ingle_stop_set stops = {0};

        for (uint32_t i = 0; i < n; i++) {
            uint64_t r = toy_random(&seed) % (sizeof(alphabet) - 1 + 3);

            ids[i] = r < sizeof(alphabet) - 1 ? (uint8_t)alphabet[r]
                                              : 256 + (int32_t)(r - (sizeof(alphabet) - 1));
        }
        for (uint32_t i = 0; i < 5; i++) {
            if (toy_random(&seed) % 6 == 0) {
                stops.bytes[stops.n] = (uint8_t)strlen(fixed[i]);
                memcpy(stops.text[stops.n++], fixed[i], strlen(fixed[i]));
            }
        }
        assert_streams_like_batch(tok, ids, n, false, &stops);
    }
    ingle_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_is_found_wherever_tokens_cut_it),
        cmocka_unit_test(what_only_begins_like_a_stop_string_is_shown),
        cmocka_unit_test(the_stop_string_that_is_complete_first_counts),
        cmocka_unit_test(half_a_code_point_is_never_shown),
        cmocka_unit_test(the_first_space_of_a_sentencepiece_text_goes),
        cmocka_unit_test(the_longest_admitted_token_fits),
        cmocka_unit_test(random_bytes_and_stops_stream_as_the_definition_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
