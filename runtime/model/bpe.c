/* Owns the merge table and the compiled pre-tokenizer of a byte-level BPE vocabulary. Does not know
 * about markers (tokenizer.c). The expressions are compiled once; matching uses only memory of the
 * call, so any number of threads may encode at once.
 *
 * A word is merged over its bytes as they are: the vocabulary is stored unmapped, so the GPT-2 byte
 * alphabet never appears here. */
#include "runtime/model/bpe.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* One pair of tokens that merges. Linear probing; id < 0 marks a free slot. */
struct merge {
    int32_t left, right, id;
    uint32_t rank;
};

struct ingle_bpe {
    struct merge *merges;
    uint32_t merge_mask;
    bool whole_words; /* a word that is a token is that token, merges or not */
    bool adds_bos;
    bool jit;
    pcre2_general_context *memory;
    pcre2_code *words;
    pcre2_match_context *limits;
    uint64_t bytes;
};

/* White_Space of Unicode, spelt out: PCRE's own \s counts U+180E as well. */
#define SPACE                                                                           \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
/* The end of a run of blanks that leaves one blank to the word behind it. */
#define BLANKS      "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
#define CONTRACTION "'(?i:[sdmt]|ll|ve|re)"
#define LINES       "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" BLANKS
#define WORDS       CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"

static const struct pre_tokenizer {
    const char *names; /* values of tokenizer.ggml.pre, each between blanks */
    const char *expression;
    bool whole_words, adds_bos;
} pre_tokenizers[] = {
    {" gpt2 gpt-2 ",
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|" BLANKS, false,
     false},
    /* Digits are set apart first, one by one, so a run of blanks may also end before a digit. */
    {" smollm starcoder ",
     "\\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE "]+(?![^" SPACE
     "\\p{N}])|[" SPACE "]+",
     false, false},
    {" llama-bpe llama3 llama-v3 ", WORDS "\\p{N}{1,3}" LINES, true, true},
    {" qwen2 deepseek-r1-qwen ", WORDS "\\p{N}" LINES, false, false},
};

static const struct pre_tokenizer *find_pre(struct ingle_str name)
{
    char wanted[34];

    if (name.bytes == 0 || name.bytes > sizeof(wanted) - 2 ||
        memchr(name.p, ' ', name.bytes) != NULL) {
        return NULL;
    }
    wanted[0] = ' ';
    memcpy(wanted + 1, name.p, name.bytes);
    wanted[name.bytes + 1] = ' ';
    for (uint64_t i = 0; i < sizeof(pre_tokenizers) / sizeof(pre_tokenizers[0]); i++) {
        const char *names = pre_tokenizers[i].names;

        if (memmem(names, strlen(names), wanted, name.bytes + 2) != NULL) {
            return &pre_tokenizers[i];
        }
    }
    return NULL;
}

/* ---- merges -----------------------------------------------------------------------------------
 */

static uint32_t merge_hash(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static struct merge *find_merge(const struct ingle_bpe *bpe, int32_t left, int32_t right)
{
    uint32_t i = merge_hash(left, right) & bpe->merge_mask;

    while (bpe->merges[i].id >= 0 &&
           (bpe->merges[i].left != left || bpe->merges[i].right != right)) {
        i = (i + 1) & bpe->merge_mask;
    }
    return &bpe->merges[i];
}

/* "left right" -> the three tokens. A merge of something that is no token can never happen in a
 * text and is passed over; of two equal ones the first counts. */
static void add_merge(struct ingle_bpe *bpe, const struct ingle_vocab *vocab, struct ingle_str text,
                      uint32_t rank, char *scratch)
{
    const char *gap = text.bytes < 2 ? NULL : memchr(text.p + 1, ' ', text.bytes - 1);
    int64_t n_left, n_right;
    struct merge m, *slot;

    if (gap == NULL) {
        return;
    }
    n_left = ingle_vocab_unmap(text.p, (uint64_t)(gap - text.p), scratch);
    if (n_left <= 0) {
        return;
    }
    n_right =
        ingle_vocab_unmap(gap + 1, text.bytes - (uint64_t)(gap - text.p) - 1, scratch + n_left);
    if (n_right <= 0) {
        return;
    }
    m.left = ingle_vocab_find(vocab, scratch, (uint64_t)n_left, INGLE_TOKEN_WORD);
    m.right = ingle_vocab_find(vocab, scratch + n_left, (uint64_t)n_right, INGLE_TOKEN_WORD);
    m.id = ingle_vocab_find(vocab, scratch, (uint64_t)(n_left + n_right), INGLE_TOKEN_WORD);
    m.rank = rank;
    if (m.left < 0 || m.right < 0 || m.id < 0) {
        return;
    }
    slot = find_merge(bpe, m.left, m.right);
    if (slot->id < 0) {
        *slot = m;
    }
}

static int load_merges(struct ingle_bpe *bpe, const struct ingle_vocab *vocab,
                       const struct ingle_gguf *gguf, struct ingle_error *err)
{
    uint64_t n = 0, n_slots = 16, longest = 0;
    const struct ingle_gguf_array *merges =
        ingle_gguf_array(gguf, "tokenizer.ggml.merges", INGLE_GGUF_STR, &n);
    char *scratch;

    if (merges == NULL || n > INT32_MAX) {
        return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                               "tokenizer: a byte-level vocabulary needs tokenizer.ggml.merges");
    }
    while (n_slots < n + n / 2) {
        n_slots *= 2;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t bytes = ingle_gguf_array_str(merges, i).bytes;

        longest = bytes > longest ? bytes : longest;
    }
    scratch = ingle_mem_alloc(longest);
    bpe->merges = ingle_mem_array(n_slots, sizeof(*bpe->merges));
    if (scratch == NULL || bpe->merges == NULL) {
        ingle_mem_free(scratch);
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for %llu merges",
                          (unsigned long long)n);
    }
    bpe->merge_mask = (uint32_t)(n_slots - 1);
    bpe->bytes += n_slots * sizeof(*bpe->merges);
    memset(bpe->merges, 0xff, n_slots * sizeof(*bpe->merges));
    for (uint64_t i = 0; i < n; i++) {
        add_merge(bpe, vocab, ingle_gguf_array_str(merges, i), (uint32_t)i, scratch);
    }
    ingle_mem_free(scratch);
    return 0;
}

/* ---- words ------------------------------------------------------------------------------------
 */

static void *regex_alloc(size_t bytes, void *arg)
{
    (void)arg;
    return ingle_mem_alloc(bytes);
}

static void regex_free(void *p, void *arg)
{
    (void)arg;
    ingle_mem_free(p);
}

static int compile(struct ingle_bpe *bpe, const char *expression, struct ingle_error *err)
{
    size_t code_bytes = 0, jit_bytes = 0;
    PCRE2_SIZE at;
    int code;

    bpe->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    bpe->limits = pcre2_match_context_create(bpe->memory);
    if (bpe->memory == NULL || bpe->limits == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for the pre-tokenizer");
    }
    /* Every expression takes a word at every position, so it is anchored; a long run of blanks is
     * tried backwards byte by byte, so steps are not limited. */
    (void)pcre2_set_match_limit(bpe->limits, UINT32_MAX);
    bpe->words = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                               PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C,
                               &code, &at, NULL);
    if (bpe->words == NULL) {
        return ingle_fail(err, -EINVAL,
                          "tokenizer: PCRE2 refuses the pre-tokenizer (error %d at %zu): it needs "
                          "Unicode support",
                          code, at);
    }
    /* Without JIT (not built in, or no executable memory) the interpreter gives the same words. */
    bpe->jit = pcre2_jit_compile(bpe->words, PCRE2_JIT_COMPLETE) == 0;
    (void)pcre2_pattern_info(bpe->words, PCRE2_INFO_SIZE, &code_bytes);
    (void)pcre2_pattern_info(bpe->words, PCRE2_INFO_JITSIZE, &jit_bytes);
    bpe->bytes += code_bytes + jit_bytes;
    return 0;
}

/* The length of the word at the start of text, at least one byte; < 0 is a PCRE2 error. */
static int64_t next_word(const struct ingle_bpe *bpe, const char *text, uint32_t at, uint32_t bytes,
                         pcre2_match_data *match)
{
    int rc = bpe->jit ? pcre2_jit_match(bpe->words, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK,
                                        match, bpe->limits)
                      : pcre2_match(bpe->words, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK,
                                    match, bpe->limits);

    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(bpe->words, (PCRE2_SPTR)text, bytes, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         match, bpe->limits);
    }
    return rc < 0 ? rc : (int64_t)(pcre2_get_ovector_pointer(match)[1] - at);
}

static bool pair_of_tokens(const void *arg, const char *text, const struct ingle_symbol *left,
                           const struct ingle_symbol *right, uint32_t *ret_order, int32_t *ret_id)
{
    const struct merge *m = find_merge(arg, left->id, right->id);

    (void)text;
    *ret_order = m->rank;
    *ret_id = m->id;
    return m->id >= 0;
}

static int encode_word(const struct ingle_bpe *bpe, const struct ingle_vocab *vocab,
                       const char *word, uint32_t n, struct ingle_encoding *enc)
{
    int rc;

    if (n == 1) {
        int32_t id = vocab->byte_id[(uint8_t)word[0]];

        return id < 0 ? 0 : ingle_encoding_add(enc, id);
    }
    if (bpe->whole_words) {
        int32_t id = ingle_vocab_find(vocab, word, n, INGLE_TOKEN_WORD);

        if (id >= 0) {
            return ingle_encoding_add(enc, id);
        }
    }
    rc = ingle_encoding_reserve(enc, n);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i < n; i++) {
        enc->symbols[i] = (struct ingle_symbol){.bytes = 1,
                                                .prev = i == 0 ? 0 : i - 1,
                                                .id = vocab->byte_id[(uint8_t)word[i]]};
    }
    rc = ingle_merge(enc, word, n, pair_of_tokens, bpe);
    for (uint32_t i = 0; rc == 0 && i < n; i += enc->symbols[i].bytes) {
        /* A byte that the vocabulary lacks leaves no token, as in llama.cpp. */
        rc = enc->symbols[i].id < 0 ? 0 : ingle_encoding_add(enc, enc->symbols[i].id);
    }
    return rc;
}

int ingle_bpe_encode(const struct ingle_bpe *bpe, const struct ingle_vocab *vocab, const char *text,
                     uint32_t bytes, struct ingle_encoding *enc, struct ingle_error *err)
{
    if (enc->match == NULL) {
        enc->match = pcre2_match_data_create(1, bpe->memory);
        if (enc->match == NULL) {
            return ingle_fail(err, -ENOMEM, "tokenizer: no memory for the pre-tokenizer");
        }
    }
    for (uint32_t at = 0; at < bytes;) {
        int64_t n = next_word(bpe, text, at, bytes, enc->match);
        int rc;

        if (n <= 0) {
            return ingle_fail(err, n == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -EIO,
                              "tokenizer: the pre-tokenizer fails at byte %u (PCRE2 error %lld)",
                              at, (long long)n);
        }
        rc = encode_word(bpe, vocab, text + at, (uint32_t)n, enc);
        if (rc != 0) {
            return ingle_fail(err, rc, "tokenizer: no memory to encode %u bytes", bytes);
        }
        at += (uint32_t)n;
    }
    return 0;
}

void ingle_bpe_release(struct ingle_encoding *enc)
{
    pcre2_match_data_free(enc->match);
    enc->match = NULL;
}

/* ---- life -------------------------------------------------------------------------------------
 */

int ingle_bpe_create(const struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                     struct ingle_bpe **ret, struct ingle_error *err)
{
    struct ingle_str name = {"", 0};
    const struct pre_tokenizer *pre;
    struct ingle_bpe *bpe;
    int rc;

    (void)ingle_gguf_str(gguf, "tokenizer.ggml.pre", &name);
    pre = find_pre(name);
    if (pre == NULL) {
        return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                               "tokenizer: the pre-tokenizer '%.*s' is not known (gpt2, smollm, "
                               "llama-bpe, qwen2 are); convert the model again",
                               name.bytes > 32 ? 32 : (int)name.bytes, name.p);
    }
    bpe = ingle_mem_alloc(sizeof(*bpe));
    if (bpe == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory");
    }
    *bpe = (struct ingle_bpe){.whole_words = pre->whole_words,
                              .adds_bos = pre->adds_bos,
                              .bytes = sizeof(*bpe)};
    rc = load_merges(bpe, vocab, gguf, err);
    if (rc == 0) {
        rc = compile(bpe, pre->expression, err);
    }
    if (rc != 0) {
        ingle_bpe_free(bpe);
        return rc;
    }
    *ret = bpe;
    return 0;
}

void ingle_bpe_free(struct ingle_bpe *bpe)
{
    if (bpe == NULL) {
        return;
    }
    pcre2_code_free(bpe->words);
    pcre2_match_context_free(bpe->limits);
    pcre2_general_context_free(bpe->memory);
    ingle_mem_free(bpe->merges);
    ingle_mem_free(bpe);
}

uint64_t ingle_bpe_bytes(const struct ingle_bpe *bpe)
{
    return bpe->bytes;
}

bool ingle_bpe_adds_bos(const struct ingle_bpe *bpe)
{
    return bpe->adds_bos;
}
