/* Owns the copies of token texts, kinds and scores that outlive the GGUF file, and the index over
 * them. Does not split or merge text (bpe.c, spm.c). Immutable after load, so any thread may look.
 *
 * All lookups are by the bytes of running text: "Ġthe" of a byte-level file and "▁the" of a
 * SentencePiece file are both stored as " the", so encoding needs no mapped copy of its input and
 * decoding is a copy. Two tokens may have the same bytes (an ordinary and a user-defined one): the
 * ordinary one is indexed first, and a lookup says which kinds it wants. */
#include "runtime/model/tokenizer_vocab.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/base/mem.h"
#include "runtime/model/textout.h"
#include "runtime/model/unicode.h"

/* tokenizer.ggml.token_type */
enum token_type {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN = 2,
    TYPE_CONTROL = 3,
    TYPE_USER_DEFINED = 4,
    TYPE_UNUSED = 5,
    TYPE_BYTE = 6
};

/* Tokens known by their text. Files often call them ordinary or user-defined, so they are control
 * tokens whatever the file says (llama.cpp does the same, and the ids must be equal to its ids). */
enum known_kind {
    KNOWN_END,  /* ends a generation */
    KNOWN_FILE, /* ends a completion in the middle of a file: the next file begins */
    KNOWN_FIM   /* opens a part of a fill-in-the-middle prompt */
};
static const struct known_token {
    const char *text;
    enum known_kind kind;
} known_tokens[] = {
    {"<|eot_id|>", KNOWN_END},
    {"<|im_end|>", KNOWN_END},
    {"<|end|>", KNOWN_END},
    {"<|return|>", KNOWN_END},
    {"<|call|>", KNOWN_END},
    {"<end_of_turn>", KNOWN_END},
    {"<|endoftext|>", KNOWN_END},
    {"<|eom_id|>", KNOWN_END},
    {"<EOT>", KNOWN_END},
    {"_<EOT>", KNOWN_END},
    {"[EOT]", KNOWN_END},
    {"[EOS]", KNOWN_END},
    {"<|end_of_text|>", KNOWN_END},
    {"<end_of_utterance>", KNOWN_END},
    {"<｜end▁of▁sentence｜>", KNOWN_END},
    {"<|fim_pad|>", KNOWN_END},
    {"<fim-pad>", KNOWN_END},
    {"<fim_pad>", KNOWN_END},
    {"<PAD>", KNOWN_END},
    {"[PAD]", KNOWN_END},
    {"<|fim_repo|>", KNOWN_FILE},
    {"<|repo_name|>", KNOWN_FILE},
    {"<fim-repo>", KNOWN_FILE},
    {"<REPO>", KNOWN_FILE},
    {"<reponame>", KNOWN_FILE},
    {"<|file_sep|>", KNOWN_FILE},
    {"<|fim_prefix|>", KNOWN_FIM},
    {"<fim-prefix>", KNOWN_FIM},
    {"<fim_prefix>", KNOWN_FIM},
    {"<｜fim▁begin｜>", KNOWN_FIM},
    {"<PRE>", KNOWN_FIM},
    {"▁<PRE>", KNOWN_FIM},
    {"<|code_prefix|>", KNOWN_FIM},
    {"<|fim_suffix|>", KNOWN_FIM},
    {"<fim-suffix>", KNOWN_FIM},
    {"<fim_suffix>", KNOWN_FIM},
    {"<｜fim▁hole｜>", KNOWN_FIM},
    {"<SUF>", KNOWN_FIM},
    {"▁<SUF>", KNOWN_FIM},
    {"<|code_suffix|>", KNOWN_FIM},
    {"<|fim_middle|>", KNOWN_FIM},
    {"<fim-middle>", KNOWN_FIM},
    {"<fim_middle>", KNOWN_FIM},
    {"<｜fim▁end｜>", KNOWN_FIM},
    {"<MID>", KNOWN_FIM},
    {"▁<MID>", KNOWN_FIM},
    {"<|code_middle|>", KNOWN_FIM},
};

static uint64_t hash_bytes(const char *text, uint64_t n)
{
    return XXH3_64bits(text, n);
}

static bool str_is(struct ingle_str s, const char *text)
{
    return s.bytes == strlen(text) && memcmp(s.p, text, s.bytes) == 0;
}

static bool has(struct ingle_str s, const char *part)
{
    return memmem(s.p, s.bytes, part, strlen(part)) != NULL;
}

static bool begins(struct ingle_str s, const char *part)
{
    return s.bytes >= strlen(part) && memcmp(s.p, part, strlen(part)) == 0;
}

/* ---- bytes of a token -------------------------------------------------------------------------
 */

/* GPT-2's alphabet: a printable Latin-1 byte stands for itself, the other 68 bytes are numbered in
 * order from U+0100. */
static bool is_self_mapped(uint32_t byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

int64_t ingle_vocab_unmap(const char *text, uint64_t n, char *dst)
{
    int64_t n_dst = 0;

    for (uint64_t i = 0; i < n;) {
        uint32_t used, cp;

        if (ingle_utf8_next(text + i, n - i, &used) != INGLE_UTF8_VALID) {
            return -1;
        }
        cp = ingle_utf8_decode(text + i, &used);
        i += used;
        if (cp >= 0x100) { /* 0..0x20, 0x7f..0xa0, 0xad */
            if (cp <= 0x120) {
                cp -= 0x100;
            } else if (cp <= 0x142) {
                cp = cp - 0x121 + 0x7f;
            } else if (cp == 0x143) {
                cp = 0xad;
            } else {
                return -1;
            }
        } else if (!is_self_mapped(cp)) {
            return -1;
        }
        dst[n_dst++] = (char)cp;
    }
    return n_dst;
}

/* U+2581 back to the space it stands for. */
static uint64_t unescape_spaces(const char *text, uint64_t n, char *dst)
{
    uint64_t n_dst = 0;

    for (uint64_t i = 0; i < n;) {
        if (n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) {
            dst[n_dst++] = ' ';
            i += 3;
        } else {
            dst[n_dst++] = text[i++];
        }
    }
    return n_dst;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" -> 10, anything else -> -1. */
static int byte_of(struct ingle_str s)
{
    if (s.bytes != 6 || !begins(s, "<0x") || s.p[5] != '>' || hex_digit(s.p[3]) < 0 ||
        hex_digit(s.p[4]) < 0) {
        return -1;
    }
    return hex_digit(s.p[3]) * 16 + hex_digit(s.p[4]);
}

/* How many bytes of output one token can cause: invalid bytes become U+FFFD, three bytes each. */
static uint64_t shown_bytes(const char *text, uint64_t n)
{
    uint64_t shown = 0;

    for (uint64_t i = 0; i < n;) {
        uint32_t used;

        shown += ingle_utf8_next(text + i, n - i, &used) == INGLE_UTF8_VALID ? used : 3 * used;
        i += used;
    }
    return shown;
}

/* ---- kinds ------------------------------------------------------------------------------------
 */

static const struct known_token *find_known(struct ingle_str text)
{
    char last = '\0';

    if (text.bytes != 0) {
        last = text.p[text.bytes - 1];
    }
    if (last != '>' && last != ']') { /* nearly all of a vocabulary ends here */
        return NULL;
    }
    for (uint64_t i = 0; i < sizeof(known_tokens) / sizeof(known_tokens[0]); i++) {
        if (str_is(text, known_tokens[i].text)) {
            return &known_tokens[i];
        }
    }
    return NULL;
}

static uint8_t kind_of(const struct ingle_vocab *vocab, struct ingle_str text, int64_t type,
                       const struct known_token *known)
{
    uint8_t flags = INGLE_TOKEN_WORD;

    if (type == TYPE_BYTE) {
        return INGLE_TOKEN_BYTE;
    }
    if (known != NULL) {
        flags = INGLE_TOKEN_CONTROL | INGLE_TOKEN_HIDDEN;
        return known->kind == KNOWN_FIM ? flags : flags | INGLE_TOKEN_EOG;
    }
    if (type == TYPE_CONTROL || type == TYPE_UNKNOWN) {
        flags = INGLE_TOKEN_CONTROL | INGLE_TOKEN_HIDDEN;
    } else if (type == TYPE_USER_DEFINED) {
        flags = vocab->byte_level ? INGLE_TOKEN_USER | INGLE_TOKEN_WORD : INGLE_TOKEN_USER;
    }
    if (str_is(text, "</s>")) {
        /* Parsed like a control token, as llama.cpp does. But in a file that does not call it one
         * it is HTML for struck-out text: shown, reachable by merging, and no end. */
        return type == TYPE_CONTROL ? flags | INGLE_TOKEN_EOG
                                    : INGLE_TOKEN_CONTROL | INGLE_TOKEN_WORD;
    }
    return flags;
}

/* Does a marker open something (a turn, a file, a tool call), so that a cache chunk should begin at
 * it? A closing one ends a chunk that the next opening one cuts anyway. */
static bool opens_chunk(const struct ingle_vocab *vocab, struct ingle_str text, int64_t type,
                        const struct known_token *known)
{
    if (known != NULL) {
        return known->kind != KNOWN_END;
    }
    if (type == TYPE_USER_DEFINED) {
        /* In a byte-level file what its authors added to the vocabulary; in a SentencePiece file
         * mostly runs of blanks and HTML tags. */
        if (!begins(text, "<|") &&
            (!vocab->byte_level || (!begins(text, "<") && !begins(text, "[")))) {
            return false;
        }
    } else if (type != TYPE_CONTROL) {
        return false;
    }
    return !begins(text, "</") && !begins(text, "[/") && !has(text, "end") && !has(text, "unused");
}

static uint8_t flags_of(const struct ingle_vocab *vocab, struct ingle_str text, int64_t type)
{
    const struct known_token *known = find_known(text);
    uint8_t flags = kind_of(vocab, text, type, known);

    return opens_chunk(vocab, text, type, known) ? flags | INGLE_TOKEN_STRUCTURAL : flags;
}

/* ---- index ------------------------------------------------------------------------------------
 */

static bool slot_holds(const struct ingle_vocab *vocab, uint64_t slot, uint64_t hash,
                       const char *text, uint64_t n)
{
    int32_t id = (int32_t)(uint32_t)slot - 1;

    return slot >> 32 == hash >> 32 && ingle_vocab_token_bytes(vocab, id) == n &&
           memcmp(vocab->text + vocab->off[id], text, n) == 0;
}

int32_t ingle_vocab_find(const struct ingle_vocab *vocab, const char *text, uint64_t bytes,
                         uint32_t flags)
{
    uint64_t hash = hash_bytes(text, bytes);
    uint64_t slot;

    for (uint32_t i = (uint32_t)hash & vocab->slot_mask; (slot = vocab->slots[i]) != 0;
         i = (i + 1) & vocab->slot_mask) {
        int32_t id = (int32_t)(uint32_t)slot - 1;

        if (slot_holds(vocab, slot, hash, text, bytes) && (vocab->flags[id] & flags) != 0) {
            return id;
        }
    }
    return -1;
}

/* Index one token; of two with the same bytes and flags the later one stays. */
static void index_token(struct ingle_vocab *vocab, uint32_t id)
{
    const char *text = vocab->text + vocab->off[id];
    uint64_t n = ingle_vocab_token_bytes(vocab, (int32_t)id);
    uint64_t hash = hash_bytes(text, n);
    uint32_t i = (uint32_t)hash & vocab->slot_mask;

    while (vocab->slots[i] != 0) {
        uint32_t old = (uint32_t)vocab->slots[i] - 1;

        if (slot_holds(vocab, vocab->slots[i], hash, text, n) &&
            vocab->flags[old] == vocab->flags[id]) {
            break;
        }
        i = (i + 1) & vocab->slot_mask;
    }
    vocab->slots[i] = (hash >> 32 << 32) | (id + 1);
}

static int build_index(struct ingle_vocab *vocab, struct ingle_error *err)
{
    uint64_t n_slots = 16;

    while (n_slots < 2 * (uint64_t)vocab->n) {
        n_slots *= 2;
    }
    vocab->slots = ingle_mem_array(n_slots, sizeof(*vocab->slots));
    if (vocab->slots == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for the index of %u tokens",
                          vocab->n);
    }
    vocab->slot_mask = (uint32_t)(n_slots - 1);
    vocab->bytes += n_slots * sizeof(*vocab->slots);
    for (int pass = 0; pass < 2; pass++) { /* ordinary tokens first */
        for (uint32_t id = 0; id < vocab->n; id++) {
            bool marker = (vocab->flags[id] & (INGLE_TOKEN_CONTROL | INGLE_TOKEN_USER)) != 0;

            if (ingle_vocab_token_bytes(vocab, (int32_t)id) != 0 &&
                (vocab->flags[id] & INGLE_TOKEN_BYTE) == 0 && marker == (pass == 1)) {
                index_token(vocab, id);
            }
        }
    }
    return 0;
}

/* ---- markers ----------------------------------------------------------------------------------
 */

static int marker_order(const void *a, const void *b, void *arg)
{
    const struct ingle_vocab *vocab = arg;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    uint32_t nx = ingle_vocab_token_bytes(vocab, x), ny = ingle_vocab_token_bytes(vocab, y);
    int c = memcmp(vocab->text + vocab->off[x], vocab->text + vocab->off[y], nx < ny ? nx : ny);

    if (c != 0 || nx != ny) {
        return c != 0 ? c : (nx < ny ? -1 : 1);
    }
    return x < y ? -1 : x > y;
}

static int build_markers(struct ingle_vocab *vocab, struct ingle_error *err)
{
    uint32_t n = 0;

    for (uint32_t id = 0; id < vocab->n; id++) {
        n += (vocab->flags[id] & (INGLE_TOKEN_CONTROL | INGLE_TOKEN_USER)) != 0;
    }
    vocab->markers = ingle_mem_array(n, sizeof(*vocab->markers));
    if (vocab->markers == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for %u special tokens", n);
    }
    vocab->bytes += n * sizeof(*vocab->markers);
    for (uint32_t id = 0; id < vocab->n; id++) {
        if ((vocab->flags[id] & (INGLE_TOKEN_CONTROL | INGLE_TOKEN_USER)) != 0 &&
            ingle_vocab_token_bytes(vocab, (int32_t)id) != 0) {
            vocab->markers[vocab->n_markers++] = (int32_t)id;
        }
    }
    qsort_r(vocab->markers, vocab->n_markers, sizeof(*vocab->markers), marker_order, vocab);
    for (uint32_t i = vocab->n_markers; i-- > 0;) {
        vocab->marker_first[(uint8_t)vocab->text[vocab->off[vocab->markers[i]]]] = i + 1;
    }
    /* So far first[b] is 1 + the first marker with byte b, 0 without one; make it a prefix table.
     */
    vocab->marker_first[256] = vocab->n_markers;
    for (uint32_t b = 256; b-- > 0;) {
        vocab->marker_first[b] =
            vocab->marker_first[b] != 0 ? vocab->marker_first[b] - 1 : vocab->marker_first[b + 1];
    }
    return 0;
}

/* The first marker in [lo, hi) whose byte at `depth` is at least c; all are longer than depth. */
static uint32_t lower_bound(const struct ingle_vocab *vocab, uint32_t lo, uint32_t hi,
                            uint32_t depth, uint32_t c)
{
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if ((uint8_t)vocab->text[vocab->off[vocab->markers[mid]] + depth] < c) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

int32_t ingle_vocab_marker(const struct ingle_vocab *vocab, const char *text, uint64_t bytes,
                           uint32_t flags)
{
    uint32_t lo, hi;
    int32_t found = -1;

    if (bytes == 0) {
        return -1;
    }
    /* [lo, hi) are the markers that begin with the first `depth` bytes of text. */
    lo = vocab->marker_first[(uint8_t)text[0]];
    hi = vocab->marker_first[(uint8_t)text[0] + 1];
    for (uint32_t depth = 1; lo < hi; depth++) {
        for (; lo < hi && ingle_vocab_token_bytes(vocab, vocab->markers[lo]) == depth; lo++) {
            if ((vocab->flags[vocab->markers[lo]] & flags) != 0) {
                found = vocab->markers[lo];
            }
        }
        if (depth == bytes) {
            break;
        }
        lo = lower_bound(vocab, lo, hi, depth, (uint8_t)text[depth]);
        hi = lower_bound(vocab, lo, hi, depth, (uint8_t)text[depth] + 1u);
    }
    return found;
}

/* ---- load -------------------------------------------------------------------------------------
 */

static int bad(struct ingle_error *err, const char *what)
{
    return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL, "tokenizer: %s", what);
}

/* A token id under `key`: `absent` when the key is not there. */
static int read_id(const struct ingle_gguf *gguf, const struct ingle_vocab *vocab, const char *key,
                   int32_t absent, int32_t *ret, struct ingle_error *err)
{
    uint64_t id;

    if (!ingle_gguf_u64(gguf, key, &id)) {
        *ret = absent < (int64_t)vocab->n ? absent : -1;
        return 0;
    }
    if (id == UINT32_MAX) { /* how some writers say "none" */
        *ret = -1;
        return 0;
    }
    if (id >= vocab->n) {
        return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                               "tokenizer: %s is %llu, but the vocabulary has %u tokens", key,
                               (unsigned long long)id, vocab->n);
    }
    *ret = (int32_t)id;
    return 0;
}

/* One token's text from the file's form to the bytes of running text. */
static int64_t add_text(const struct ingle_vocab *vocab, struct ingle_str text, uint32_t id,
                        char *dst)
{
    uint8_t flags = vocab->flags[id];
    int64_t n = -1;

    if ((flags & INGLE_TOKEN_BYTE) != 0) {
        dst[0] = (char)byte_of(text);
        return 1;
    }
    if (vocab->byte_level && (flags & INGLE_TOKEN_WORD) != 0 && (flags & INGLE_TOKEN_USER) == 0) {
        n = ingle_vocab_unmap(text.p, text.bytes, dst);
    } else if (!vocab->byte_level && (flags & (INGLE_TOKEN_WORD | INGLE_TOKEN_USER)) != 0) {
        n = (int64_t)unescape_spaces(text.p, text.bytes, dst);
    }
    if (n < 0) {
        memcpy(dst, text.p, text.bytes);
        n = (int64_t)text.bytes;
    }
    return n;
}

static int load_tokens(struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                       const struct ingle_gguf_array *tokens, struct ingle_error *err)
{
    uint64_t n_types = 0, text_bytes = 0;
    const struct ingle_gguf_array *types =
        ingle_gguf_array(gguf, "tokenizer.ggml.token_type", INGLE_GGUF_INT, &n_types);

    if (types != NULL && n_types < vocab->n) {
        return bad(err, "tokenizer.ggml.token_type has fewer entries than there are tokens");
    }
    for (uint32_t id = 0; id < vocab->n; id++) {
        text_bytes += ingle_gguf_array_str(tokens, id).bytes;
    }
    if (text_bytes > UINT32_MAX) {
        return bad(err, "the tokens have more than 4 GiB of text");
    }
    vocab->text = ingle_mem_alloc(text_bytes);
    vocab->off = ingle_mem_array((uint64_t)vocab->n + 1, sizeof(*vocab->off));
    vocab->flags = ingle_mem_array(vocab->n, sizeof(*vocab->flags));
    if (vocab->text == NULL || vocab->off == NULL || vocab->flags == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for %u tokens", vocab->n);
    }
    vocab->bytes += text_bytes + ((uint64_t)vocab->n + 1) * sizeof(*vocab->off) + vocab->n;
    for (uint32_t id = 0; id < vocab->n; id++) {
        struct ingle_str text = ingle_gguf_array_str(tokens, id);
        int64_t type = types != NULL ? ingle_gguf_array_int(types, id) : TYPE_NORMAL;
        int64_t n;

        if (type == TYPE_BYTE && byte_of(text) < 0) {
            return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                                   "tokenizer: token %u is of type byte but not of the form <0x0A>",
                                   id);
        }
        vocab->flags[id] = flags_of(vocab, text, type);
        n = add_text(vocab, text, id, vocab->text + vocab->off[id]);
        if (shown_bytes(vocab->text + vocab->off[id], (uint64_t)n) > INGLE_TOKEN_SHOWN_MAX) {
            return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                                   "tokenizer: token %u has %lld bytes, more than can be streamed",
                                   id, (long long)n);
        }
        vocab->off[id + 1] = vocab->off[id] + (uint32_t)n;
    }
    return 0;
}

/* Descending score as ascending integers: heap keys then compare as plain numbers. */
static int load_scores(struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                       struct ingle_error *err)
{
    uint64_t n = 0;
    const struct ingle_gguf_array *scores =
        ingle_gguf_array(gguf, "tokenizer.ggml.scores", INGLE_GGUF_FLOAT, &n);

    if (scores == NULL || n < vocab->n) {
        return bad(err, "a SentencePiece vocabulary needs tokenizer.ggml.scores, one per token");
    }
    vocab->order = ingle_mem_array(vocab->n, sizeof(*vocab->order));
    if (vocab->order == NULL) {
        return ingle_fail(err, -ENOMEM, "tokenizer: no memory for %u scores", vocab->n);
    }
    vocab->bytes += vocab->n * sizeof(*vocab->order);
    for (uint32_t id = 0; id < vocab->n; id++) {
        float score = (float)ingle_gguf_array_float(scores, id) + 0.0f; /* -0 and 0 are equal */
        uint32_t bits;

        if (isnan(score)) {
            return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL,
                                   "tokenizer: the score of token %u is not a number", id);
        }
        memcpy(&bits, &score, sizeof(bits));
        bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
        vocab->order[id] = ~bits;
    }
    return 0;
}

static void fill_byte_ids(struct ingle_vocab *vocab)
{
    for (uint32_t b = 0; b < 256; b++) {
        char c = (char)b;
        int32_t id = ingle_vocab_find(vocab, &c, 1, INGLE_TOKEN_WORD);

        vocab->byte_id[b] = id < 0 && !vocab->byte_level ? vocab->unk : id;
    }
    for (uint32_t id = 0; id < vocab->n; id++) {
        if ((vocab->flags[id] & INGLE_TOKEN_BYTE) != 0) {
            vocab->byte_id[(uint8_t)vocab->text[vocab->off[id]]] = (int32_t)id;
        }
    }
}

static int load_special_ids(struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                            struct ingle_error *err)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    bool spm = !vocab->byte_level; /* whose files may leave the usual ids out */
    int rc = read_id(gguf, vocab, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, &vocab->bos, err);

    for (int i = 0; rc == 0 && i < 3; i++) {
        int32_t id = -1;

        rc = read_id(gguf, vocab, ends[i], spm && i == 0 ? 2 : -1, &id, err);
        if (rc == 0 && id >= 0) {
            vocab->flags[id] |= INGLE_TOKEN_EOG;
            vocab->flags[id] &= (uint8_t)~INGLE_TOKEN_STRUCTURAL;
        }
        if (i == 0) {
            vocab->eos = id;
        }
    }
    if (rc == 0) {
        rc =
            read_id(gguf, vocab, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1, &vocab->unk, err);
    }
    return rc;
}

int ingle_vocab_load(struct ingle_vocab *vocab, const struct ingle_gguf *gguf,
                     struct ingle_error *err)
{
    uint64_t n = 0;
    struct ingle_str model;
    const struct ingle_gguf_array *tokens =
        ingle_gguf_array(gguf, "tokenizer.ggml.tokens", INGLE_GGUF_STR, &n);
    int rc;

    *vocab = (struct ingle_vocab){.bos = -1, .eos = -1, .unk = -1};
    if (!ingle_gguf_str(gguf, "tokenizer.ggml.model", &model) ||
        (!str_is(model, "gpt2") && !str_is(model, "llama"))) {
        return bad(err, "tokenizer.ggml.model must be gpt2 (byte-level BPE) or llama "
                        "(SentencePiece)");
    }
    if (tokens == NULL || n == 0 || n >= INT32_MAX) {
        return bad(err, "tokenizer.ggml.tokens is missing, empty or too long");
    }
    vocab->byte_level = str_is(model, "gpt2");
    vocab->n = (uint32_t)n;
    rc = load_tokens(vocab, gguf, tokens, err);
    if (rc == 0) {
        rc = build_index(vocab, err);
    }
    if (rc == 0) {
        rc = build_markers(vocab, err);
    }
    if (rc == 0) {
        rc = load_special_ids(vocab, gguf, err);
    }
    if (rc == 0 && !vocab->byte_level) {
        rc = load_scores(vocab, gguf, err);
    }
    if (rc != 0) {
        ingle_vocab_fini(vocab);
        return rc;
    }
    fill_byte_ids(vocab);
    return 0;
}

void ingle_vocab_fini(struct ingle_vocab *vocab)
{
    ingle_mem_free(vocab->text);
    ingle_mem_free(vocab->off);
    ingle_mem_free(vocab->flags);
    ingle_mem_free(vocab->order);
    ingle_mem_free(vocab->slots);
    ingle_mem_free(vocab->markers);
    *vocab = (struct ingle_vocab){0};
}
