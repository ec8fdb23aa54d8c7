/* The tokenizer on small vocabularies made here: merging against slow references, markers, special
 * tokens, refusals, sizes. test_golden.c has the real models. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/unit/tokenizer/toy.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

/* ---- helpers ----------------------------------------------------------------------------------
 */

static void assert_ids(const struct ingle_tokenizer *tok, const char *text, uint32_t flags,
                       const int32_t *want, uint32_t n_want)
{
    struct ingle_error err = {0};
    int32_t *ids;
    uint32_t n;

    assert_int_equal(ingle_tokenizer_encode(tok, text, strlen(text), flags, &ids, &n, &err), 0);
    assert_int_equal(n, n_want);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(ids[i], want[i]);
    }
    ingle_mem_free(ids);
}
#define assert_encodes(tok, text, flags, ...)                                             \
    do {                                                                                  \
        const int32_t want_[] = {__VA_ARGS__};                                            \
        assert_ids(tok, text, flags, want_, (uint32_t)(sizeof(want_) / sizeof(int32_t))); \
    } while (0)

static char *decode(const struct ingle_tokenizer *tok, const int32_t *ids, uint32_t n,
                    uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    char *text;

    for (uint32_t i = 0; i < n; i++) {
        bytes += ingle_tokenizer_piece(tok, ids[i], true).bytes;
    }
    text = test_malloc(bytes + 1);
    bytes = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ingle_str piece = ingle_tokenizer_piece(tok, ids[i], true);

        memcpy(text + bytes, piece.p, piece.bytes);
        bytes += piece.bytes;
    }
    *ret_bytes = bytes;
    return text;
}

static void assert_round_trip(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes)
{
    struct ingle_error err = {0};
    uint64_t n_back;
    int32_t *ids;
    uint32_t n;
    char *back;

    assert_int_equal(ingle_tokenizer_encode(tok, text, bytes, 0, &ids, &n, &err), 0);
    back = decode(tok, ids, n, &n_back);
    assert_int_equal(n_back, bytes);
    assert_memory_equal(back, text, bytes);
    test_free(back);
    ingle_mem_free(ids);
}

/* Tokens 256.. over the alphabet of the letters a..d, merged in this order. */
static const struct toy_token letters[] = {
    {"ab", TOY_NORMAL, 0},
    {"cd", TOY_NORMAL, 0},
    {"bc", TOY_NORMAL, 0},
    {"abcd", TOY_NORMAL, 0},
    {"aa", TOY_NORMAL, 0},
    {"aaaa", TOY_NORMAL, 0},
    {"bcd", TOY_NORMAL, 0},
    {"aab", TOY_NORMAL, 0},
    {"\xc4\xa0"
     "ab",
     TOY_NORMAL, 0},
    {"da", TOY_NORMAL, 0},
    {"bb", TOY_NORMAL, 0},
};
static const char *const letter_merges[] = {"b c",  "a b",  "c d", "a a", "ab cd",      "aa aa",
                                            "bc d", "a ab", "d a", "b b", "\xc4\xa0 ab"};

static struct ingle_tokenizer *make_letters(void)
{
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    if (toy_bpe("gpt2", letters, N(letters), letter_merges, N(letter_merges), &tok, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return tok;
}

/* SentencePiece over the same letters; the score is the order. */
static const struct toy_token pieces[] = {
    {"\xe2\x96\x81", TOY_NORMAL, -1},
    {"a", TOY_NORMAL, -2},
    {"b", TOY_NORMAL, -3},
    {"c", TOY_NORMAL, -4},
    {"ab", TOY_NORMAL, -6},
    {"bc", TOY_NORMAL, -5},
    {"abc", TOY_NORMAL, -7},
    {"\xe2\x96\x81"
     "a",
     TOY_NORMAL, -8},
    {"\xe2\x96\x81"
     "abc",
     TOY_NORMAL, -9},
    {"aa", TOY_NORMAL, -10},
    {"\xe2\x96\x81\xe2\x96\x81", TOY_NORMAL, -11},
    {"c\xe2\x96\x81", TOY_NORMAL, -12},
    {"\xc3\xa9", TOY_NORMAL, -13},
    {"ca", TOY_NORMAL, -10},
};

static struct ingle_tokenizer *make_pieces(bool add_space)
{
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    if (toy_spm(pieces, N(pieces), add_space, &tok, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return tok;
}

/* ---- UTF-8 ------------------------------------------------------------------------------------
 */

static void every_code_point_passes_and_its_neighbours_do_not(void **state)
{
    static const char *const bad[] = {
        "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xe0\x9f\xbf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xc3",         "\xe2\x82",         "\xf0\x9f\x98",     "\xe2\x28\xa1"};
    (void)state;
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char b[4];
        uint32_t n = 0;

        if (c < 0x80) {
            b[n++] = (char)c;
        } else if (c < 0x800) {
            b[n++] = (char)(0xc0 | c >> 6);
        } else if (c < 0x10000) {
            b[n++] = (char)(0xe0 | c >> 12);
            b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        } else {
            b[n++] = (char)(0xf0 | c >> 18);
            b[n++] = (char)(0x80 | (c >> 12 & 0x3f));
            b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        }
        if (c >= 0x80) {
            b[n++] = (char)(0x80 | (c & 0x3f));
        }
        if ((ingle_utf8_check(b, n) == -1) != (c < 0xd800 || c > 0xdfff)) {
            fail_msg("U+%04X", c);
        }
        if (n > 1 && ingle_utf8_check(b, n - 1) != 0) {
            fail_msg("U+%04X without its last byte", c);
        }
    }
    for (size_t i = 0; i < N(bad); i++) {
        char text[64] = "0123456789abcdef0123456789";

        memcpy(text + 20, bad[i], strlen(bad[i]));
        text[20 + strlen(bad[i])] = '\0';
        assert_int_equal(ingle_utf8_check(text, strlen(text)), 20);
    }
    assert_int_equal(ingle_utf8_check("", 0), -1);
}

static void text_that_is_not_utf8_is_refused_with_its_offset(void **state)
{
    struct ingle_tokenizer *tok = make_letters();
    struct ingle_error err = {0};
    int32_t *ids = NULL;
    uint32_t n = 7;

    (void)state;
    assert_int_equal(ingle_tokenizer_encode(tok, "abc\xff", 4, 0, &ids, &n, &err), -EILSEQ);
    assert_non_null(strstr(err.text, "byte 3"));
    assert_null(ids);
    assert_int_equal(n, 7);
    ingle_tokenizer_free(tok);
}

/* ---- byte-level BPE ---------------------------------------------------------------------------
 */

static void merges_follow_their_rank(void **state)
{
    struct ingle_tokenizer *tok = make_letters();

    (void)state;
    assert_encodes(tok, "abcd", 0, 'a', 262); /* b c, then bc d; a b came too late */
    assert_encodes(tok, "ab", 0, 256);
    assert_encodes(tok, "aaaaa", 0, 261, 'a'); /* equal ranks: leftmost first */
    assert_encodes(tok, "aab", 0, 263);        /* a b, then a ab; a a is ranked behind */
    assert_encodes(tok, " ab ab", 0, 264, 264);
    assert_encodes(tok, "", 0, );
    ingle_tokenizer_free(tok);
}

/* The definition: look at all pairs, merge the best, begin again. */
static uint32_t slow_bpe(const struct ingle_tokenizer *tok, const char *word, uint32_t n,
                         int32_t *ids)
{
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (uint8_t)word[i];
    }
    for (;;) {
        uint32_t best_rank = UINT32_MAX, best_at = 0;
        int32_t best_id = -1;

        for (uint32_t i = 0; i + 1 < n; i++) {
            struct ingle_str l = ingle_tokenizer_piece(tok, ids[i], true);
            struct ingle_str r = ingle_tokenizer_piece(tok, ids[i + 1], true);

            for (uint32_t m = 0; m < N(letter_merges) && m < best_rank; m++) {
                char both[16];
                uint64_t nl = (uint64_t)(strchr(letter_merges[m], ' ') - letter_merges[m]);

                if (nl == l.bytes && memcmp(letter_merges[m], l.p, nl) == 0 &&
                    strlen(letter_merges[m]) == nl + 1 + r.bytes &&
                    memcmp(letter_merges[m] + nl + 1, r.p, r.bytes) == 0) {
                    memcpy(both, l.p, l.bytes);
                    memcpy(both + l.bytes, r.p, r.bytes);
                    best_rank = m;
                    best_at = i;
                    best_id = ingle_tokenizer_find(tok, both, l.bytes + r.bytes);
                }
            }
        }
        if (best_id < 0) {
            return n;
        }
        ids[best_at] = best_id;
        memmove(ids + best_at + 1, ids + best_at + 2, (n - best_at - 2) * sizeof(*ids));
        n--;
    }
}

static void random_words_merge_as_the_definition_says(void **state)
{
    struct ingle_tokenizer *tok = make_letters();
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t n = (uint32_t)(toy_random(&seed) % 40);
        int32_t want[40];
        char word[41] = {0};

        for (uint32_t i = 0; i < n; i++) {
            word[i] = (char)('a' + toy_random(&seed) % 4);
        }
        assert_ids(tok, word, 0, want, slow_bpe(tok, word, n, want));
    }
    ingle_tokenizer_free(tok);
}

static void words_of_each_pre_tokenizer(void **state)
{
    static const struct toy_token extra[] = {{"aa", TOY_NORMAL, 0},
                                             {"11", TOY_NORMAL, 0},
                                             {"111", TOY_NORMAL, 0},
                                             {"\xc4\xa0\xc4\xa0", TOY_NORMAL, 0},
                                             {"\xc4\xa0"
                                              "1",
                                              TOY_NORMAL, 0},
                                             {"\xc4\x8a\xc4\x8a", TOY_NORMAL, 0},
                                             {"!\xc4\x8a", TOY_NORMAL, 0},
                                             {"'s", TOY_NORMAL, 0},
                                             {"'S", TOY_NORMAL, 0},
                                             {"(a", TOY_NORMAL, 0},
                                             {"\xc4\xa0"
                                              "a",
                                              TOY_NORMAL, 0},
                                             {"1111", TOY_NORMAL, 0}};
    static const char *const merges[] = {
        "a a", "1 1", "11 1", "\xc4\xa0 \xc4\xa0", "\xc4\xa0 1", "\xc4\x8a \xc4\x8a", "! \xc4\x8a",
        "' s", "' S", "( a",  "\xc4\xa0 a",        "11 11"};
    enum {
        AA = 256,
        D11,
        D111,
        SS,
        S1,
        LL,
        BL,
        QS,
        QCS,
        PA,
        SA,
        D1111
    };
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    (void)state;
    assert_int_equal(toy_bpe("gpt2", extra, N(extra), merges, N(merges), &tok, &err), 0);
    assert_encodes(tok, "1111", 0, D1111);
    assert_encodes(tok, "  1", 0, ' ', S1); /* the run leaves one blank to the word */
    assert_encodes(tok, "  ", 0, SS);
    assert_encodes(tok, "a's", 0, 'a', QS);
    assert_encodes(tok, "a'S", 0, 'a', '\'', 'S');
    assert_encodes(tok, "!\n", 0, '!', '\n');
    assert_encodes(tok, "(a", 0, '(', 'a');
    ingle_tokenizer_free(tok);

    assert_int_equal(toy_bpe("smollm", extra, N(extra), merges, N(merges), &tok, &err), 0);
    assert_encodes(tok, "1111", 0, '1', '1', '1', '1');
    assert_encodes(tok, "  1", 0, SS, '1'); /* digits stand alone, blanks do not join them */
    assert_encodes(tok, "  a", 0, ' ', SA);
    ingle_tokenizer_free(tok);

    assert_int_equal(toy_bpe("llama-bpe", extra, N(extra), merges, N(merges), &tok, &err), 0);
    assert_encodes(tok, "1111", 0, D111, '1'); /* three at most */
    assert_encodes(tok, "a'S", 0, 'a', QCS);
    assert_encodes(tok, "!\n", 0, BL);
    assert_encodes(tok, "(a", 0, PA); /* one mark may lead a word */
    assert_encodes(tok, "  1", 0, ' ', ' ', '1');
    ingle_tokenizer_free(tok);

    assert_int_equal(toy_bpe("qwen2", extra, N(extra), merges, N(merges), &tok, &err), 0);
    assert_encodes(tok, "1111", 0, '1', '1', '1', '1');
    assert_encodes(tok, "a\n\n a", 0, 'a', LL, SA);
    assert_encodes(tok, "(a", 0, PA);
    ingle_tokenizer_free(tok);
}

static void a_word_that_is_a_token_needs_no_merges_in_llama_bpe(void **state)
{
    static const struct toy_token extra[] = {{"hello", TOY_NORMAL, 0}};
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    (void)state;
    assert_int_equal(toy_bpe("llama-bpe", extra, 1, NULL, 0, &tok, &err), 0);
    assert_encodes(tok, "hello", 0, 256);
    ingle_tokenizer_free(tok);
    assert_int_equal(toy_bpe("qwen2", extra, 1, NULL, 0, &tok, &err), 0);
    assert_encodes(tok, "hello", 0, 'h', 'e', 'l', 'l', 'o');
    ingle_tokenizer_free(tok);
}

static void byte_level_round_trip_on_random_text(void **state)
{
    static const char *const pres[] = {"gpt2", "smollm", "llama-bpe", "qwen2"};
    uint64_t seed = 2;
    char text[4 * 300];

    (void)state;
    for (size_t p = 0; p < N(pres); p++) {
        struct ingle_tokenizer *tok;
        struct ingle_error err = {0};

        assert_int_equal(
            toy_bpe(pres[p], letters, N(letters), letter_merges, N(letter_merges), &tok, &err), 0);
        for (int round = 0; round < 300; round++) {
            uint32_t n = toy_random_text(&seed, (uint32_t)(toy_random(&seed) % 300), text);

            assert_round_trip(tok, text, n);
        }
        ingle_tokenizer_free(tok);
    }
}

/* ---- SentencePiece ----------------------------------------------------------------------------
 */

static void best_score_merges_first(void **state)
{
    struct ingle_tokenizer *tok = make_pieces(false);

    (void)state;
    assert_encodes(tok, "abc", 0, 265); /* bc before ab, then abc */
    assert_encodes(tok, "ab", 0, 263);
    assert_encodes(tok, " abc", 0, 267);
    assert_encodes(tok,
                   "\xe2\x96\x81"
                   "abc",
                   0, 267);                  /* U+2581 is a space */
    assert_encodes(tok, "caa", 0, 272, 260); /* equal scores: leftmost first */
    ingle_tokenizer_free(tok);
}

static void what_is_no_token_becomes_bytes(void **state)
{
    struct ingle_tokenizer *tok = make_pieces(false);

    (void)state;
    assert_encodes(tok, "a\xc3\xa9\xc3\xa8", 0, 260, 271, 3 + 0xc3, 3 + 0xa8);
    assert_encodes(tok, "\n", 0, 3 + '\n');
    assert_encodes(tok, "<0x0A>", 0, 3 + '<', 3 + '0', 3 + 'x', 3 + '0', 3 + 'A', 3 + '>');
    ingle_tokenizer_free(tok);
}

static void a_vocabulary_without_bytes_uses_unknown(void **state)
{
    static const struct toy_token tokens[] = {{"<unk>", TOY_UNKNOWN, 0},
                                              {"<s>", TOY_CONTROL, 0},
                                              {"</s>", TOY_CONTROL, 0},
                                              {"a", TOY_NORMAL, 0}};
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};
    struct toy toy;

    (void)state;
    toy_init(&toy);
    toy_str(&toy, "tokenizer.ggml.model", "llama");
    toy_bool(&toy, "tokenizer.ggml.add_space_prefix", false);
    toy_tokens(&toy, tokens, N(tokens));
    assert_int_equal(toy_finish(&toy, &tok, &err), 0);
    assert_encodes(tok, "aza", 0, 3, 0, 3);
    ingle_tokenizer_free(tok);
}

static void a_space_goes_in_front_of_text_where_the_model_wants_it(void **state)
{
    struct ingle_tokenizer *tok = make_pieces(true);

    (void)state;
    assert_true(ingle_tokenizer_adds_space(tok));
    assert_encodes(tok, "abc", INGLE_TOKENIZE_BOS, 1, 267);
    assert_encodes(tok, "abc<s>abc", INGLE_TOKENIZE_SPECIAL, 267, 1, 267);
    assert_encodes(tok, "", INGLE_TOKENIZE_BOS, 1);
    ingle_tokenizer_free(tok);
}

static uint32_t slow_spm(const struct ingle_tokenizer *tok, const char *text, uint32_t n,
                         int32_t *ids)
{
    uint32_t at[64], n_symbols = 0, n_ids = 0;

    for (uint32_t i = 0; i < n; i++) {
        at[n_symbols++] = i;
    }
    at[n_symbols] = n;
    for (;;) {
        float best = -INFINITY;
        uint32_t best_i = 0;

        for (uint32_t i = 0; i + 1 < n_symbols; i++) {
            int32_t id = ingle_tokenizer_find(tok, text + at[i], at[i + 2] - at[i]);

            if (id >= 259 && pieces[id - 259].score > best) {
                best = pieces[id - 259].score;
                best_i = i;
            }
        }
        if (best == -INFINITY) {
            break;
        }
        memmove(at + best_i + 1, at + best_i + 2, (n_symbols - best_i - 1) * sizeof(*at));
        n_symbols--;
    }
    for (uint32_t i = 0; i < n_symbols; i++) {
        int32_t id = ingle_tokenizer_find(tok, text + at[i], at[i + 1] - at[i]);

        ids[n_ids++] = id >= 0 ? id : 3 + (uint8_t)text[at[i]];
    }
    return n_ids;
}

static void random_text_merges_as_sentencepiece_says(void **state)
{
    struct ingle_tokenizer *tok = make_pieces(false);
    uint64_t seed = 3;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t n = (uint32_t)(toy_random(&seed) % 40);
        int32_t want[64];
        char text[41] = {0};

        for (uint32_t i = 0; i < n; i++) {
            text[i] = " abcx"[toy_random(&seed) % 5];
        }
        assert_ids(tok, text, 0, want, slow_spm(tok, text, n, want));
    }
    ingle_tokenizer_free(tok);
}

static void byte_fallback_round_trip_on_random_text(void **state)
{
    struct ingle_tokenizer *tok = make_pieces(false);
    uint64_t seed = 4;
    char text[4 * 300];

    (void)state;
    for (int round = 0; round < 300; round++) {
        uint32_t n = toy_random_text(&seed, (uint32_t)(toy_random(&seed) % 300), text);

        if (memmem(text, n, "\xe2\x96\x81", 3) == NULL) {
            assert_round_trip(tok, text, n);
        }
    }
    ingle_tokenizer_free(tok);
}

/* ---- markers ----------------------------------------------------------------------------------
 */

static const struct toy_token markers[] = {
    {"<|im_start|>", TOY_CONTROL, 0},
    {"<|im_end|>", TOY_NORMAL, 0},
    {"<tool>", TOY_USER, 0},
    {"xy", TOY_USER, 0},
    {"xyx", TOY_USER, 0},
    {"yxyx", TOY_USER, 0},
    {"zx", TOY_CONTROL, 0},
    {"x", TOY_USER, 0},
    {"zzz", TOY_USER, 0},
};
enum {
    IM_START = 256,
    IM_END,
    TOOL,
    XY,
    XYX,
    YXYX,
    ZX,
    X,
    ZZZ
};

static struct ingle_tokenizer *make_markers(void)
{
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    if (toy_bpe("qwen2", markers, N(markers), NULL, 0, &tok, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return tok;
}

static void control_tokens_are_parsed_only_when_asked(void **state)
{
    struct ingle_tokenizer *tok = make_markers();

    (void)state;
    assert_encodes(tok, "<|im_start|>a<tool>", INGLE_TOKENIZE_SPECIAL, IM_START, 'a', TOOL);
    assert_encodes(tok, "<|im_start|>", 0, '<', '|', 'i', 'm', '_', 's', 't', 'a', 'r', 't', '|',
                   '>');
    assert_encodes(tok, "a<tool>", 0, 'a', TOOL);
    /* Known by its text, whatever the file says. */
    assert_encodes(tok, "<|im_end|>", INGLE_TOKENIZE_SPECIAL, IM_END);
    assert_true(ingle_tokenizer_is_control(tok, IM_END));
    assert_true(ingle_tokenizer_is_eog(tok, IM_END));
    assert_int_equal(ingle_tokenizer_piece(tok, IM_END, false).bytes, 0);
    assert_int_equal(ingle_tokenizer_piece(tok, IM_END, true).bytes, 10);
    assert_int_equal(ingle_tokenizer_piece(tok, TOOL, false).bytes, 6);
    ingle_tokenizer_free(tok);
}

static void chunks_begin_at_opening_markers(void **state)
{
    struct ingle_tokenizer *tok = make_markers();

    (void)state;
    assert_true(ingle_tokenizer_is_structural(tok, IM_START));
    assert_true(ingle_tokenizer_is_structural(tok, TOOL));
    assert_false(ingle_tokenizer_is_structural(tok, IM_END));
    assert_false(ingle_tokenizer_is_structural(tok, XY));
    assert_false(ingle_tokenizer_is_structural(tok, 'a'));
    assert_false(ingle_tokenizer_is_structural(tok, -1));
    assert_false(ingle_tokenizer_is_structural(tok, 1 << 20));
    ingle_tokenizer_free(tok);
}

/* The definition: for each marker, longest first, cut it out of every piece of text that is left.
 */
static uint32_t slow_markers(const struct ingle_tokenizer *tok, const char *text, uint32_t n,
                             bool special, int32_t *ids)
{
    bool taken[64] = {false};
    int32_t id_at[64];
    uint32_t n_ids = 0;

    memset(id_at, 0xff, sizeof(id_at));
    for (uint32_t bytes = 12; bytes > 0; bytes--) {
        for (uint32_t at = 0; at + bytes <= n; at++) {
            for (uint32_t m = 0; m < N(markers); m++) {
                if (strlen(markers[m].text) == bytes && (special || markers[m].type == TOY_USER) &&
                    memcmp(text + at, markers[m].text, bytes) == 0 &&
                    memchr(taken + at, true, bytes) == NULL) {
                    memset(taken + at, true, bytes);
                    id_at[at] = 256 + (int32_t)m;
                }
            }
        }
    }
    for (uint32_t at = 0; at < n;) {
        ids[n_ids++] = id_at[at] >= 0 ? id_at[at] : (uint8_t)text[at];
        at += (uint32_t)ingle_tokenizer_piece(tok, ids[n_ids - 1], true).bytes;
    }
    return n_ids;
}

static void overlapping_markers_are_cut_longest_first(void **state)
{
    struct ingle_tokenizer *tok = make_markers();
    uint64_t seed = 5;

    (void)state;
    assert_encodes(tok, "xyxyx", 0, X, YXYX); /* not xyx, y, x */
    for (int round = 0; round < 5000; round++) {
        uint32_t n = (uint32_t)(toy_random(&seed) % 40);
        bool special = toy_random(&seed) % 2 == 0;
        int32_t want[64];
        char text[41] = {0};

        for (uint32_t i = 0; i < n; i++) {
            text[i] = "xyzq"[toy_random(&seed) % 4];
        }
        assert_ids(tok, text, special ? INGLE_TOKENIZE_SPECIAL : 0, want,
                   slow_markers(tok, text, n, special, want));
    }
    ingle_tokenizer_free(tok);
}

static void html_strike_is_text_where_the_file_says_so(void **state)
{
    static const struct toy_token extra[] = {{"</s>", TOY_NORMAL, 0}};
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};

    (void)state;
    assert_int_equal(toy_bpe("qwen2", extra, 1, NULL, 0, &tok, &err), 0);
    assert_encodes(tok, "</s>", INGLE_TOKENIZE_SPECIAL, 256);
    assert_encodes(tok, "</s>", 0, '<', '/', 's', '>');
    assert_false(ingle_tokenizer_is_eog(tok, 256));
    assert_int_equal(ingle_tokenizer_piece(tok, 256, false).bytes, 4);
    ingle_tokenizer_free(tok);
}

/* ---- ids, lookups, sizes ----------------------------------------------------------------------
 */

static void ids_outside_the_vocabulary_are_empty(void **state)
{
    struct ingle_tokenizer *tok = make_letters();

    (void)state;
    assert_int_equal(ingle_tokenizer_n_vocab(tok), 256 + N(letters));
    assert_int_equal(ingle_tokenizer_piece(tok, -1, true).bytes, 0);
    assert_int_equal(ingle_tokenizer_piece(tok, (int32_t)(256 + N(letters)), true).bytes, 0);
    assert_int_equal(ingle_tokenizer_piece(tok, INT32_MIN, false).bytes, 0);
    assert_false(ingle_tokenizer_is_eog(tok, INT32_MAX));
    assert_int_equal(ingle_tokenizer_bos(tok), -1);
    assert_false(ingle_tokenizer_add_bos(tok));
    assert_int_equal(ingle_tokenizer_find(tok, " ab", 3), 264);
    assert_int_equal(ingle_tokenizer_find(tok, "zz", 2), -1);
    assert_int_equal(ingle_tokenizer_find(tok, "", 0), -1);
    assert_true(ingle_tokenizer_bytes(tok) > 1000);
    ingle_tokenizer_free(tok);
}

/* A quadratic merge would need 10^12 steps here and run into the test's time limit. */
static void a_mebibyte_without_a_word_border_is_encoded(void **state)
{
    struct ingle_tokenizer *toks[2] = {make_letters(), make_pieces(false)};
    uint32_t bytes = 1u << 20;
    char *text = test_malloc(bytes);

    (void)state;
    for (int t = 0; t < 2; t++) {
        memset(text, 'a', bytes);
        assert_round_trip(toks[t], text, bytes);
        memset(text, ' ', bytes);
        assert_round_trip(toks[t], text, bytes);
        memset(text, '\n', bytes);
        assert_round_trip(toks[t], text, bytes);
        for (uint32_t i = 0; i < bytes; i++) {
            text[i] = (char)('a' + i % 3);
        }
        assert_round_trip(toks[t], text, bytes);
        ingle_tokenizer_free(toks[t]);
    }
    test_free(text);
}

static void a_mebibyte_of_markers_is_encoded(void **state)
{
    struct ingle_tokenizer *tok = make_markers();
    uint32_t bytes = 1u << 20;
    char *text = test_malloc(bytes);

    (void)state;
    for (uint32_t i = 0; i < bytes; i++) {
        text[i] = "xy"[i % 2];
    }
    assert_round_trip(tok, text, bytes);
    memset(text, 'z', bytes);
    assert_round_trip(tok, text, bytes);
    test_free(text);
    ingle_tokenizer_free(tok);
}

/* ---- bad files --------------------------------------------------------------------------------
 */

static void assert_refused(struct toy *toy, const char *why)
{
    struct ingle_tokenizer *tok = NULL;
    struct ingle_error err = {0};

    assert_true(toy_finish(toy, &tok, &err) < 0);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    if (strstr(err.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, why);
    }
    assert_null(tok);
}

static void begin(struct toy *toy, const char *model, const char *pre)
{
    toy_init(toy);
    toy_str(toy, "tokenizer.ggml.model", model);
    toy_str(toy, "tokenizer.ggml.pre", pre);
}

static void a_vocabulary_that_cannot_work_is_refused(void **state)
{
    static const struct toy_token one[] = {{"a", TOY_NORMAL, 0}};
    static const struct toy_token byte[] = {{"<0xZZ>", TOY_BYTE, 0}};
    static const struct toy_token nan_score[] = {{"a", TOY_NORMAL, NAN}};
    static const char *const merges[] = {"a b"};
    char long_text[2000] = {0};
    struct toy_token long_token[] = {{long_text, TOY_NORMAL, 0}};
    struct toy toy;

    (void)state;
    begin(&toy, "bert", "default");
    toy_tokens(&toy, one, 1);
    assert_refused(&toy, "tokenizer.ggml.model");

    begin(&toy, "gpt2", "qwen2");
    assert_refused(&toy, "tokenizer.ggml.tokens");

    begin(&toy, "gpt2", "qwen2");
    toy_tokens(&toy, one, 1);
    assert_refused(&toy, "merges");

    begin(&toy, "gpt2", "klingon");
    toy_tokens(&toy, one, 1);
    toy_strs(&toy, "tokenizer.ggml.merges", merges, 1);
    assert_refused(&toy, "'klingon' is not known");

    begin(&toy, "gpt2", "");
    toy_tokens(&toy, one, 1);
    toy_strs(&toy, "tokenizer.ggml.merges", merges, 1);
    assert_refused(&toy, "'' is not known");

    begin(&toy, "llama", "default");
    toy_tokens(&toy, byte, 1);
    assert_refused(&toy, "token 0 is of type byte");

    begin(&toy, "llama", "default");
    toy_tokens(&toy, nan_score, 1);
    assert_refused(&toy, "score of token 0");

    begin(&toy, "llama", "default");
    toy_tokens(&toy, one, 1);
    toy_u32(&toy, "tokenizer.ggml.bos_token_id", 1);
    assert_refused(&toy, "bos_token_id is 1");

    memset(long_text, 'a', sizeof(long_text) - 1);
    begin(&toy, "llama", "default");
    toy_tokens(&toy, long_token, 1);
    assert_refused(&toy, "more than can be streamed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_passes_and_its_neighbours_do_not),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_its_offset),
        cmocka_unit_test(merges_follow_their_rank),
        cmocka_unit_test(random_words_merge_as_the_definition_says),
        cmocka_unit_test(words_of_each_pre_tokenizer),
        cmocka_unit_test(a_word_that_is_a_token_needs_no_merges_in_llama_bpe),
        cmocka_unit_test(byte_level_round_trip_on_random_text),
        cmocka_unit_test(best_score_merges_first),
        cmocka_unit_test(what_is_no_token_becomes_bytes),
        cmocka_unit_test(a_vocabulary_without_bytes_uses_unknown),
        cmocka_unit_test(a_space_goes_in_front_of_text_where_the_model_wants_it),
        cmocka_unit_test(random_text_merges_as_sentencepiece_says),
        cmocka_unit_test(byte_fallback_round_trip_on_random_text),
        cmocka_unit_test(control_tokens_are_parsed_only_when_asked),
        cmocka_unit_test(chunks_begin_at_opening_markers),
        cmocka_unit_test(overlapping_markers_are_cut_longest_first),
        cmocka_unit_test(html_strike_is_text_where_the_file_says_so),
        cmocka_unit_test(ids_outside_the_vocabulary_are_empty),
        cmocka_unit_test(a_mebibyte_without_a_word_border_is_encoded),
        cmocka_unit_test(a_mebibyte_of_markers_is_encoded),
        cmocka_unit_test(a_vocabulary_that_cannot_work_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
