/* Text to ids and back, streaming output, and vocabularies, on arbitrary bytes.
 *
 * The first byte chooses. Bits 0-2: one of the vocabularies made here, or (7) the rest is a GGUF
 * header whose vocabulary is loaded. Bit 3: special tokens are parsed. Bit 4: BOS. The rest, up to
 * a zero byte pair, is text; what follows are stop strings and token ids for the streaming output.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/textout.h"
#include "tests/unit/tokenizer/toy.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct toy_token extra[] = {
    {"ab", TOY_NORMAL, 0},   {"aa", TOY_NORMAL, 0},       {"aaaa", TOY_NORMAL, 0},
    {"th", TOY_NORMAL, 0},   {"the", TOY_NORMAL, 0},      {"\xc4\xa0the", TOY_NORMAL, 0},
    {"<tool>", TOY_USER, 0}, {"<tool", TOY_USER, 0},      {"ol>x", TOY_USER, 0},
    {"</s>", TOY_NORMAL, 0}, {"<|im_end|>", TOY_USER, 0}, {"<|x|>", TOY_CONTROL, 0},
    {"  ", TOY_USER, 0},     {"\n\n\n", TOY_USER, 0},     {"\xc3\xa0", TOY_NORMAL, 0},
};
static const char *const merges[] = {"a b", "a a", "aa aa", "t h", "th e", "\xc4\xa0 the"};
static const struct toy_token pieces[] = {
    {"\xe2\x96\x81", TOY_NORMAL, -1},
    {"a", TOY_NORMAL, -2},
    {"aa", TOY_NORMAL, -3},
    {"aaa", TOY_NORMAL, -3},
    {"t", TOY_NORMAL, -4},
    {"h", TOY_NORMAL, -5},
    {"th", TOY_NORMAL, -6},
    {"the", TOY_NORMAL, 7},
    {"\xe2\x96\x81the", TOY_NORMAL, 8},
    {"<tool>", TOY_USER, 0},
    {"\n\n", TOY_USER, 0},
    {"e\xe2\x96\x81", TOY_NORMAL, -9},
    {"\xe4\xb8\xad", TOY_NORMAL, -1},
    {"\xe4\xb8\xad\xe6\x96\x87", TOY_NORMAL, -1},
};

static const struct ingle_tokenizer *vocabulary(uint32_t i)
{
    static struct ingle_tokenizer *toks[6];
    static const char *const pres[] = {"gpt2", "smollm", "llama-bpe", "qwen2"};

    if (toks[i] == NULL) {
        int rc = i < 4 ? toy_bpe(pres[i], extra, N(extra), merges, N(merges), &toks[i], NULL)
                       : toy_spm(pieces, N(pieces), i == 5, &toks[i], NULL);

        if (rc != 0) {
            abort();
        }
    }
    return toks[i];
}

/* Ids are in range, and without BOS, added spaces and U+2581 they spell the text again. */
static void check_encode(const struct ingle_tokenizer *tok, const char *text, uint64_t bytes,
                         uint32_t flags)
{
    struct ingle_error err = {0};
    uint64_t at = 0;
    int32_t *ids;
    uint32_t n;
    bool exact = (flags & INGLE_TOKENIZE_BOS) == 0 && !ingle_tokenizer_adds_space(tok) &&
                 memmem(text, bytes, "\xe2\x96\x81", 3) == NULL;

    if (ingle_tokenizer_encode(tok, text, bytes, flags, &ids, &n, &err) != 0) {
        if (ingle_utf8_check(text, bytes) < 0 || err.text[0] == '\0') {
            abort();
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ingle_str piece = ingle_tokenizer_piece(tok, ids[i], true);

        if (ids[i] < 0 || (uint32_t)ids[i] >= ingle_tokenizer_n_vocab(tok) ||
            ((flags & INGLE_TOKENIZE_SPECIAL) == 0 && !ingle_tokenizer_is_control(tok, ids[i]) &&
             piece.bytes == 0)) {
            abort();
        }
        if (exact && (piece.bytes > bytes - at || memcmp(text + at, piece.p, piece.bytes) != 0)) {
            abort();
        }
        at += piece.bytes;
    }
    if (exact && at != bytes) {
        abort();
    }
    ingle_mem_free(ids);
}

/* data: number and lengths of stop strings, the strings, then ids of two bytes. */
static void check_textout(const struct ingle_tokenizer *tok, const uint8_t *data, uint64_t n)
{
    struct ingle_stop_set stops = {0};
    struct ingle_textout out;
    uint64_t at = 0;
    bool stopped = false;
    char dst[INGLE_TEXTOUT_HOLD_MAX];

    ingle_textout_init(&out, true);
    while (at < n && stops.n < INGLE_STOP_N_MAX && data[at] % 4 != 0) {
        uint8_t bytes = data[at++] % INGLE_STOP_BYTES_MAX;

        if (bytes > n - at) {
            return;
        }
        memcpy(stops.text[stops.n], data + at, bytes);
        stops.bytes[stops.n++] = bytes;
        at += bytes;
    }
    for (; at + 2 <= n && !stopped; at += 2) {
        int32_t id = (int32_t)((uint32_t)data[at] | (uint32_t)data[at + 1] << 8) - 2;
        uint32_t shown = ingle_textout_push(&out, tok, &stops, id, dst, &stopped);

        if (shown > sizeof(dst) || ingle_utf8_check(dst, shown) != -1) {
            if (stops.n == 0) { /* a stop string that is not UTF-8 may cut anywhere */
                abort();
            }
        }
    }
    if (ingle_textout_flush(&out, dst) > sizeof(dst)) {
        abort();
    }
}

static void check_vocabulary(const uint8_t *data, uint64_t n)
{
    struct ingle_tokenizer *tok = NULL;
    struct ingle_gguf *gguf = NULL;
    struct ingle_error err = {0};

    if (ingle_gguf_parse(data, n, n, &gguf, &err) != 0) {
        return;
    }
    if (ingle_tokenizer_create(gguf, &tok, &err) == 0) {
        int32_t *ids;
        uint32_t n_ids;

        if (ingle_tokenizer_encode(tok, " the aaab\n\n<s>", 14, INGLE_TOKENIZE_SPECIAL, &ids,
                                   &n_ids, &err) == 0) {
            ingle_mem_free(ids);
        }
        check_textout(tok, data, n);
        ingle_tokenizer_free(tok);
    } else if (err.text[0] == '\0') {
        abort();
    }
    ingle_gguf_close(gguf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct ingle_tokenizer *tok;
    const uint8_t *gap;
    uint64_t n_text;
    uint32_t choice;

    if (n == 0) {
        return 0;
    }
    choice = data[0] & 7;
    if (choice == 7) {
        check_vocabulary(data + 1, n - 1);
        return 0;
    }
    tok = vocabulary(choice % 6);
    gap = memmem(data + 1, n - 1, "\0\0", 2);
    n_text = gap == NULL ? n - 1 : (uint64_t)(gap - data) - 1;
    check_encode(tok, (const char *)data + 1, n_text,
                 ((data[0] & 8) != 0 ? INGLE_TOKENIZE_SPECIAL : 0) |
                     ((data[0] & 16) != 0 ? INGLE_TOKENIZE_BOS : 0));
    if (gap != NULL) {
        check_textout(tok, gap + 2, n - 1 - n_text - 2);
    }
    return 0;
}
