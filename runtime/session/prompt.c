/* Payloads into what step works with: token ids, or finished records. Everything that parses a
 * client's text (UTF-8, tokenizer, JSON, chat template) is called from here, on a private copy.
 * The null engine has a vocabulary too: one token a byte, id = byte + 1, shown as "t<id> ".
 * Owns nothing; what it makes belongs to the ticket. Thread: io. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/model/model.h"
#include "runtime/model/template.h"
#include "runtime/model/tokenizer.h"
#include "runtime/session/limits.h"
#include "runtime/session/models.h"
#include "runtime/session/ticket.h"

static enum ingle_payload payload_kind(const struct ingle_sqe *sqe)
{
    return (enum ingle_payload)(sqe->flags & INGLE_SQE_F_PAYLOAD_MASK);
}

static int check_utf8(const char *text, uint64_t bytes, struct ingle_prompt_refusal *ret)
{
    int64_t bad = ingle_utf8_check(text, bytes);

    if (bad < 0) {
        return 0;
    }
    ret->n_cached = (uint32_t)bad;
    return -EILSEQ;
}

/* ---- text to ids ----------------------------------------------------------------------------- */

static int null_encode(const char *text, uint64_t bytes, int32_t **ret_ids, uint32_t *ret_n)
{
    int32_t *ids = ingle_mem_array(bytes, sizeof *ids);

    if (ids == NULL) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < bytes; i++) {
        ids[i] = (int32_t)(uint8_t)text[i] + 1;
    }
    *ret_ids = ids;
    *ret_n = (uint32_t)bytes;
    return 0;
}

static int encode(const struct ingle_instance *instance, const char *text, uint64_t bytes,
                  uint32_t flags, int32_t **ret_ids, uint32_t *ret_n, struct ingle_error *err)
{
    if (instance->model == NULL) {
        return null_encode(text, bytes, ret_ids, ret_n);
    }
    return ingle_tokenizer_encode(instance->model->tokenizer, text, bytes, flags, ret_ids, ret_n,
                                  err);
}

/* A template usually writes the begin-of-text token itself; where it does not and the model asks
 * for one, it is put in front. */
static int add_bos(const struct ingle_instance *instance, int32_t **ids, uint32_t *n)
{
    const struct ingle_tokenizer *tokenizer;
    int32_t bos, *longer;

    if (instance->model == NULL) {
        return 0;
    }
    tokenizer = instance->model->tokenizer;
    bos = ingle_tokenizer_bos(tokenizer);
    if (!ingle_tokenizer_add_bos(tokenizer) || bos < 0 || (*n > 0 && (*ids)[0] == bos)) {
        return 0;
    }
    longer = ingle_mem_array((uint64_t)*n + 1, sizeof *longer);
    if (longer == NULL) {
        return -ENOMEM;
    }
    longer[0] = bos;
    memcpy(longer + 1, *ids, *n * sizeof *longer);
    ingle_mem_free(*ids);
    *ids = longer;
    *n += 1;
    return 0;
}

static int render(const struct ingle_instance *instance, const char *json, uint64_t bytes,
                  char **ret_text, uint64_t *ret_bytes, struct ingle_error *err)
{
    if (instance->model == NULL || instance->model->chat == NULL) {
        return ingle_fail(err, -EOPNOTSUPP,
                          "%s has no chat template; send text or token ids instead",
                          instance->want.name);
    }
    return ingle_template_render(instance->model->chat, json, bytes,
                                 (int64_t)(ingle_clock_wall_ns() / INGLE_NS_PER_S), ret_text,
                                 ret_bytes, err);
}

static int chat_to_ids(const struct ingle_instance *instance, const struct ingle_sqe *sqe,
                       const char *payload, int32_t **ret_ids, uint32_t *ret_n,
                       struct ingle_error *err)
{
    char *text = NULL;
    uint64_t bytes = 0;
    int res = render(instance, payload, sqe->payload_bytes, &text, &bytes, err);

    if (res != 0) {
        return res;
    }
    res = encode(instance, text, bytes, INGLE_TOKENIZE_SPECIAL, ret_ids, ret_n, err);
    ingle_mem_free(text);
    if (res == 0 && sqe->ctx == 0 && (sqe->flags & INGLE_SQE_F_NO_BOS) == 0) {
        res = add_bos(instance, ret_ids, ret_n);
    }
    return res;
}

static int take_ids(const struct ingle_instance *instance, const char *payload, uint32_t bytes,
                    int32_t **ret_ids, uint32_t *ret_n)
{
    uint32_t n = bytes / 4;
    int32_t *ids = ingle_mem_array(n, sizeof *ids);

    if (ids == NULL) {
        return -ENOMEM;
    }
    memcpy(ids, payload, (uint64_t)n * sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= instance->n_vocab) {
            ingle_mem_free(ids);
            return -EINVAL;
        }
    }
    *ret_ids = ids;
    *ret_n = n;
    return 0;
}

static int payload_to_ids(const struct ingle_instance *instance, const struct ingle_sqe *sqe,
                          const char *payload, int32_t **ret_ids, uint32_t *ret_n,
                          struct ingle_prompt_refusal *ret)
{
    uint32_t flags = (sqe->flags & INGLE_SQE_F_NO_SPECIAL) != 0 ? 0 : INGLE_TOKENIZE_SPECIAL;
    int res;

    switch (payload_kind(sqe)) {
    case INGLE_PAYLOAD_IDS:
        return take_ids(instance, payload, sqe->payload_bytes, ret_ids, ret_n);
    case INGLE_PAYLOAD_CHAT:
        res = check_utf8(payload, sqe->payload_bytes, ret);
        return res != 0 ? res : chat_to_ids(instance, sqe, payload, ret_ids, ret_n, &ret->err);
    case INGLE_PAYLOAD_TEXT:
        break;
    }
    if (sqe->ctx == 0 && (sqe->flags & INGLE_SQE_F_NO_BOS) == 0) {
        flags |= INGLE_TOKENIZE_BOS;
    }
    res = check_utf8(payload, sqe->payload_bytes, ret);
    return res != 0
               ? res
               : encode(instance, payload, sqe->payload_bytes, flags, ret_ids, ret_n, &ret->err);
}

/* An error that has words: they go to the client as the text of a last record, and the completion
 * says the number. */
static int explain(struct ingle_ticket *ticket, int res, const char *text)
{
    struct ingle_request *req = &ticket->req;
    size_t bytes = strlen(text);

    req->in.records = ingle_mem_alloc(sizeof *req->in.records);
    req->in.record_text = ingle_mem_strdup(text);
    if (req->in.records == NULL || req->in.record_text == NULL) {
        return -ENOMEM;
    }
    req->in.op = INGLE_REQ_RECORDS;
    req->in.n_records = 1;
    req->in.records[0] = (struct ingle_tok){.token = UINT32_MAX,
                                            .text_len = (uint16_t)bytes,
                                            .flags = INGLE_TOK_F_LAST | INGLE_TOK_F_CUT};
    ticket->res = res;
    ticket->keep = false;
    return 0;
}

int ingle_prompt_tokens(struct ingle_ticket *ticket, const struct ingle_sqe *sqe,
                        const char *payload, struct ingle_prompt_refusal *ret)
{
    const struct ingle_instance *instance = ticket->instance;
    struct ingle_request *req = &ticket->req;
    int res = payload_to_ids(instance, sqe, payload, &req->in.tokens, &req->in.n_tokens, ret);

    if (res != 0) {
        return ret->err.code != 0 ? explain(ticket, res, ret->err.text) : res;
    }
    if (sqe->ctx == 0 && req->in.n_tokens == 0) {
        return -EINVAL; /* text of which no token is left */
    }
    /* step knows how much of an old context is taken; a payload that is too long for an empty one
     * need not go there. */
    if (req->in.n_tokens > instance->context_tokens) {
        ret->n_prompt = req->in.n_tokens;
        ret->n_cached = instance->context_tokens;
        return -E2BIG;
    }
    return 0;
}

/* ---- records --------------------------------------------------------------------------------- */

static int id_records(struct ingle_ticket *ticket, const struct ingle_sqe *sqe, const char *payload,
                      struct ingle_prompt_refusal *ret)
{
    struct ingle_request *req = &ticket->req;
    int32_t *ids = NULL;
    uint32_t n = 0;
    int res = payload_to_ids(ticket->instance, sqe, payload, &ids, &n, ret);

    if (res != 0) {
        return ret->err.code != 0 ? explain(ticket, res, ret->err.text) : res;
    }
    req->in.records = ingle_mem_array(n, sizeof *req->in.records);
    for (uint32_t i = 0; req->in.records != NULL && i < n; i++) {
        req->in.records[i] =
            (struct ingle_tok){.token = (uint32_t)ids[i],
                               .index = i,
                               .flags = i + 1 == n ? INGLE_TOK_F_LAST : (uint16_t)0};
    }
    ingle_mem_free(ids);
    req->in.n_records = n;
    ticket->res = (int32_t)n;
    return req->in.records == NULL ? -ENOMEM : 0;
}

/* Text as records that end between code points. Takes text. */
static int text_records(struct ingle_ticket *ticket, char *text, uint64_t bytes)
{
    struct ingle_request *req = &ticket->req;
    uint64_t room = bytes / (INGLE_TEXT_RECORD_BYTES - 4) + 1, at = 0;
    uint32_t n = 0;

    req->in.record_text = text;
    req->in.records = ingle_mem_array(room, sizeof *req->in.records);
    if (req->in.records == NULL) {
        return -ENOMEM;
    }
    do {
        uint64_t part = bytes - at;

        if (part > INGLE_TEXT_RECORD_BYTES) {
            part = INGLE_TEXT_RECORD_BYTES;
            while (part > INGLE_TEXT_RECORD_BYTES - 4 &&
                   ((uint8_t)text[at + part] & 0xc0) == 0x80) {
                part--; /* a continuation byte: its code point goes to the next record */
            }
        }
        req->in.records[n] =
            (struct ingle_tok){.token = UINT32_MAX,
                               .index = n,
                               .text_len = (uint16_t)part,
                               .flags = at + part == bytes ? INGLE_TOK_F_LAST : (uint16_t)0};
        n++;
        at += part;
    } while (at < bytes);
    req->in.n_records = n;
    ticket->res = bytes > INT32_MAX ? INT32_MAX : (int32_t)bytes;
    return 0;
}

/* Bytes of pieces joined: what is not UTF-8 becomes U+FFFD, so that the answer is text. Returns the
 * new length; dst has room for three times the bytes. */
static uint64_t make_utf8(char *dst, const char *src, uint64_t bytes)
{
    uint64_t n = 0;

    while (bytes > 0) {
        int64_t bad = ingle_utf8_check(src, bytes);
        uint64_t good = bad < 0 ? bytes : (uint64_t)bad;

        memcpy(dst + n, src, good);
        n += good;
        src += good;
        bytes -= good;
        if (bytes > 0) {
            memcpy(dst + n, "\xef\xbf\xbd", 3);
            n += 3;
            src++;
            bytes--;
        }
    }
    return n;
}

static uint64_t piece(const struct ingle_instance *instance, int32_t id, bool special,
                      char null_piece[16], const char **ret)
{
    struct ingle_str str;

    if (instance->model == NULL) {
        *ret = null_piece;
        return (uint64_t)snprintf(null_piece, 16, "t%d ", id);
    }
    str = ingle_tokenizer_piece(instance->model->tokenizer, id, special);
    *ret = str.p;
    return str.bytes;
}

static int detokenize(struct ingle_ticket *ticket, const struct ingle_sqe *sqe, const char *payload)
{
    const struct ingle_instance *instance = ticket->instance;
    bool special = (sqe->flags & INGLE_SQE_F_NO_SPECIAL) == 0;
    int32_t *ids = NULL;
    uint32_t n = 0;
    uint64_t bytes = 0, at = 0;
    char *joined, *text, small[16];
    const char *p;
    int res = take_ids(instance, payload, sqe->payload_bytes, &ids, &n);

    if (res != 0) {
        return res;
    }
    for (uint32_t i = 0; i < n; i++) {
        bytes += piece(instance, ids[i], special, small, &p);
    }
    joined = ingle_mem_alloc(bytes + 1);
    text = ingle_mem_alloc(3 * bytes + 1);
    for (uint32_t i = 0; joined != NULL && i < n; i++) {
        uint64_t part = piece(instance, ids[i], special, small, &p);

        memcpy(joined + at, p, part);
        at += part;
    }
    ingle_mem_free(ids);
    if (joined == NULL || text == NULL) {
        res = -ENOMEM;
        ingle_mem_free(text);
    } else {
        res = text_records(ticket, text, make_utf8(text, joined, bytes));
    }
    ingle_mem_free(joined);
    ticket->req.in.n_tokens = n;
    return res;
}

int ingle_prompt_records(struct ingle_ticket *ticket, const struct ingle_sqe *sqe,
                         const char *payload, struct ingle_prompt_refusal *ret)
{
    char *text = NULL;
    uint64_t bytes = 0;
    int res;

    if (sqe->op == INGLE_OP_TOKENIZE) {
        return id_records(ticket, sqe, payload, ret);
    }
    if (sqe->op == INGLE_OP_DETOKENIZE) {
        return detokenize(ticket, sqe, payload);
    }
    ingle_assert(sqe->op == INGLE_OP_TEMPLATE);
    res = check_utf8(payload, sqe->payload_bytes, ret);
    if (res != 0) {
        return res;
    }
    res = render(ticket->instance, payload, sqe->payload_bytes, &text, &bytes, &ret->err);
    return res != 0 ? explain(ticket, res, ret->err.text) : text_records(ticket, text, bytes);
}
