/* Writes GGUF v3 headers with tokenizer keys only. Owns its buffer until toy_finish. */
#include "tests/unit/tokenizer/toy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { /* GGUF value types */
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STR = 8,
    GGUF_ARRAY = 9
};

static void put(struct toy *toy, const void *p, uint64_t n)
{
    while (toy->n_bytes + n > toy->cap) {
        toy->cap *= 2;
        toy->bytes = realloc(toy->bytes, toy->cap);
        if (toy->bytes == NULL) {
            abort();
        }
    }
    memcpy(toy->bytes + toy->n_bytes, p, n);
    toy->n_bytes += n;
}

static void put_u32(struct toy *toy, uint32_t x)
{
    put(toy, &x, sizeof(x));
}

static void put_u64(struct toy *toy, uint64_t x)
{
    put(toy, &x, sizeof(x));
}

static void put_text(struct toy *toy, const char *text)
{
    put_u64(toy, strlen(text));
    put(toy, text, strlen(text));
}

static void put_key(struct toy *toy, const char *key, uint32_t type)
{
    put_text(toy, key);
    put_u32(toy, type);
    toy->n_keys++;
}

static void put_array(struct toy *toy, const char *key, uint32_t type, uint64_t n)
{
    put_key(toy, key, GGUF_ARRAY);
    put_u32(toy, type);
    put_u64(toy, n);
}

void toy_init(struct toy *toy)
{
    *toy = (struct toy){.bytes = malloc(4096), .cap = 4096};
    if (toy->bytes == NULL) {
        abort();
    }
    put(toy, "GGUF", 4);
    put_u32(toy, 3);
    put_u64(toy, 0); /* tensors */
    put_u64(toy, 0); /* keys: patched by toy_finish */
}

void toy_str(struct toy *toy, const char *key, const char *value)
{
    put_key(toy, key, GGUF_STR);
    put_text(toy, value);
}

void toy_u32(struct toy *toy, const char *key, uint32_t value)
{
    put_key(toy, key, GGUF_U32);
    put_u32(toy, value);
}

void toy_bool(struct toy *toy, const char *key, bool value)
{
    uint8_t byte = value;

    put_key(toy, key, GGUF_BOOL);
    put(toy, &byte, 1);
}

void toy_strs(struct toy *toy, const char *key, const char *const *values, uint64_t n)
{
    put_array(toy, key, GGUF_STR, n);
    for (uint64_t i = 0; i < n; i++) {
        put_text(toy, values[i]);
    }
}

void toy_tokens(struct toy *toy, const struct toy_token *tokens, uint64_t n)
{
    put_array(toy, "tokenizer.ggml.tokens", GGUF_STR, n);
    for (uint64_t i = 0; i < n; i++) {
        put_text(toy, tokens[i].text);
    }
    put_array(toy, "tokenizer.ggml.token_type", GGUF_I32, n);
    for (uint64_t i = 0; i < n; i++) {
        put_u32(toy, tokens[i].type);
    }
    put_array(toy, "tokenizer.ggml.scores", GGUF_F32, n);
    for (uint64_t i = 0; i < n; i++) {
        put(toy, &tokens[i].score, sizeof(float));
    }
}

int toy_finish(struct toy *toy, struct ingle_tokenizer **ret, struct ingle_error *err)
{
    struct ingle_gguf *gguf;
    uint64_t used;
    int rc;

    memcpy(toy->bytes + 16, &toy->n_keys, sizeof(toy->n_keys));
    while (toy->n_bytes % 32 != 0) {
        put(toy, "", 1);
    }
    used = toy->n_bytes;
    rc = ingle_gguf_parse(toy->bytes, used, used, &gguf, err);
    free(toy->bytes);
    toy->bytes = NULL;
    if (rc == 0) {
        rc = ingle_tokenizer_create(gguf, ret, err);
        ingle_gguf_close(gguf);
    }
    return rc;
}

void toy_byte_text(uint8_t byte, char text[3])
{
    uint32_t cp = byte;

    if (!((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae)) {
        cp = 0x100;
        for (uint32_t b = 0; b < byte; b++) {
            cp += !((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
        }
    }
    if (cp < 0x80) {
        text[0] = (char)cp;
        text[1] = '\0';
    } else {
        text[0] = (char)(0xc0 | cp >> 6);
        text[1] = (char)(0x80 | (cp & 0x3f));
        text[2] = '\0';
    }
}

int toy_bpe(const char *pre, const struct toy_token *extra, uint64_t n_extra,
            const char *const *merges, uint64_t n_merges, struct ingle_tokenizer **ret,
            struct ingle_error *err)
{
    struct toy_token *tokens = calloc(256 + n_extra, sizeof(*tokens));
    char texts[256][3];
    struct toy toy;

    if (tokens == NULL) {
        abort();
    }
    for (uint32_t b = 0; b < 256; b++) {
        toy_byte_text((uint8_t)b, texts[b]);
        tokens[b] = (struct toy_token){texts[b], TOY_NORMAL, 0.0f};
    }
    memcpy(tokens + 256, extra, n_extra * sizeof(*tokens));
    toy_init(&toy);
    toy_str(&toy, "tokenizer.ggml.model", "gpt2");
    toy_str(&toy, "tokenizer.ggml.pre", pre);
    toy_tokens(&toy, tokens, 256 + n_extra);
    toy_strs(&toy, "tokenizer.ggml.merges", merges, n_merges);
    free(tokens);
    return toy_finish(&toy, ret, err);
}

int toy_spm(const struct toy_token *extra, uint64_t n_extra, bool add_space,
            struct ingle_tokenizer **ret, struct ingle_error *err)
{
    struct toy_token *tokens = calloc(259 + n_extra, sizeof(*tokens));
    char texts[256][8];
    struct toy toy;

    if (tokens == NULL) {
        abort();
    }
    tokens[0] = (struct toy_token){"<unk>", TOY_UNKNOWN, 0.0f};
    tokens[1] = (struct toy_token){"<s>", TOY_CONTROL, 0.0f};
    tokens[2] = (struct toy_token){"</s>", TOY_CONTROL, 0.0f};
    for (uint32_t b = 0; b < 256; b++) {
        (void)snprintf(texts[b], sizeof(texts[b]), "<0x%02X>", b);
        tokens[3 + b] = (struct toy_token){texts[b], TOY_BYTE, 0.0f};
    }
    memcpy(tokens + 259, extra, n_extra * sizeof(*tokens));
    toy_init(&toy);
    toy_str(&toy, "tokenizer.ggml.model", "llama");
    toy_bool(&toy, "tokenizer.ggml.add_space_prefix", add_space);
    toy_tokens(&toy, tokens, 259 + n_extra);
    free(tokens);
    return toy_finish(&toy, ret, err);
}

uint64_t toy_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t toy_random_text(uint64_t *state, uint32_t n, char *text)
{
    static const uint32_t ranges[][2] = {
        {' ', '~'},       {' ', '~'},       {'a', 'z'},         {'0', '9'},
        {0, 0x1f},        {0x80, 0x24f},    {0x300, 0x36f},     {0x400, 0x5ff},
        {0x900, 0x97f},   {0x2000, 0x206f}, {0x3000, 0x30ff},   {0x4e00, 0x9fff},
        {0xac00, 0xd7a3}, {0xe000, 0xffff}, {0x1f300, 0x1faff}, {0x10000, 0x10ffff},
    };
    uint32_t bytes = 0;

    while (n > 0) {
        const uint32_t *range = ranges[toy_random(state) % (sizeof(ranges) / sizeof(ranges[0]))];

        for (uint32_t run = 1 + (uint32_t)(toy_random(state) % 8); run > 0 && n > 0; run--, n--) {
            uint32_t c = range[0] + (uint32_t)(toy_random(state) % (range[1] - range[0] + 1));

            if (c < 0x80) {
                text[bytes++] = (char)c;
                continue;
            }
            if (c < 0x800) {
                text[bytes++] = (char)(0xc0 | c >> 6);
            } else if (c < 0x10000) {
                text[bytes++] = (char)(0xe0 | c >> 12);
                text[bytes++] = (char)(0x80 | (c >> 6 & 0x3f));
            } else {
                text[bytes++] = (char)(0xf0 | c >> 18);
                text[bytes++] = (char)(0x80 | (c >> 12 & 0x3f));
                text[bytes++] = (char)(0x80 | (c >> 6 & 0x3f));
            }
            text[bytes++] = (char)(0x80 | (c & 0x3f));
        }
    }
    return bytes;
}
