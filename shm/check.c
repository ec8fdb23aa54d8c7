/* Validation of everything that crosses the border. Owns nothing; each function reads private
 * bytes only and writes its result only on success. Ranges are asked with ingle_range_ok, at full
 * width, before any narrowing.  Any thread. */
#include "shm/check.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "shm/geometry.h"
#include "shm/proto.h"
#include "shm/region.h"

static bool all_zero(const void *p, size_t bytes)
{
    const uint8_t *b = p;
    uint8_t any = 0;

    for (size_t i = 0; i < bytes; i++) {
        any |= b[i];
    }
    return any == 0;
}

/* ---- control messages ------------------------------------------------------------------------ */

int ingle_check_hdr(const void *msg, size_t bytes, uint32_t from, struct ingle_ctl_hdr *ret)
{
    struct ingle_ctl_hdr h;
    const struct ingle_ctl_rule *kind;
    uint16_t flags_known;

    if (bytes < sizeof h || bytes > INGLE_CTL_BYTES_MAX) {
        return -EPROTO;
    }
    memcpy(&h, msg, sizeof h);
    kind = ingle_ctl_kind(h.type);
    if (h.magic != INGLE_MAGIC || kind == NULL || (kind->senders & from) == 0 ||
        h.payload_bytes != bytes - sizeof h || bytes < kind->bytes_min || bytes > kind->bytes_max) {
        return -EPROTO;
    }
    flags_known = h.type == INGLE_CTL_ADMIN_REPLY ? INGLE_CTL_F_MORE | INGLE_CTL_F_PROGRESS : 0;
    if ((h.flags & ~flags_known) != 0 || h.n_fds != kind->n_fds) {
        return -EINVAL;
    }
    *ret = h;
    return 0;
}

/* A message of one kind and one size, copied whole. */
static int fixed(const void *msg, size_t bytes, uint32_t from, uint32_t type, void *ret,
                 size_t ret_bytes)
{
    struct ingle_ctl_hdr h;
    int res = ingle_check_hdr(msg, bytes, from, &h);

    if (res != 0) {
        return res;
    }
    if (h.type != type || bytes != ret_bytes) {
        return -EPROTO;
    }
    memcpy(ret, msg, ret_bytes);
    return 0;
}

/* Printable ASCII and then only NUL, at least one: it goes into logs, listings and hashes. */
static bool name_ok(const uint8_t name[32])
{
    size_t n = 0;

    while (n < 32 && name[n] >= 0x20 && name[n] < 0x7f) {
        n++;
    }
    return n < 32 && all_zero(name + n, 32 - n);
}

static bool log2_ok(uint32_t log2, uint32_t least, uint32_t most)
{
    return log2 == 0 || (log2 >= least && log2 <= most);
}

int ingle_check_hello(const void *msg, size_t bytes, struct ingle_ctl_hello *ret)
{
    struct ingle_ctl_hello m;

    if (fixed(msg, bytes, INGLE_FROM_CLIENT, INGLE_CTL_HELLO, &m, sizeof m) != 0) {
        return INGLE_REJECT_MALFORMED;
    }
    if (m.endian != INGLE_ENDIAN_TAG) {
        return INGLE_REJECT_ENDIAN;
    }
    if (m.ver_min > INGLE_PROTO_VER || m.ver_max < INGLE_PROTO_VER ||
        (m.feat_need & ~(uint64_t)INGLE_FEAT_ALL) != 0) {
        return INGLE_REJECT_VERSION;
    }
    if (!log2_ok(m.sq_log2, INGLE_SQ_LOG2_MIN, INGLE_SQ_LOG2_MAX) ||
        !log2_ok(m.cq_log2, INGLE_CQ_LOG2_MIN, INGLE_CQ_LOG2_MAX) ||
        !log2_ok(m.tk_log2, INGLE_TK_LOG2_MIN, INGLE_TK_LOG2_MAX) ||
        !log2_ok(m.arena_log2, INGLE_ARENA_LOG2_MIN, INGLE_ARENA_LOG2_MAX) || !name_ok(m.name) ||
        !name_ok(m.label) || !all_zero(m.rsv, sizeof m.rsv)) {
        return INGLE_REJECT_MALFORMED;
    }
    *ret = m;
    return 0;
}

int ingle_check_welcome(const void *msg, size_t bytes, struct ingle_ctl_welcome *ret)
{
    struct ingle_ctl_welcome m;

    if (fixed(msg, bytes, INGLE_FROM_RUNTIME, INGLE_CTL_WELCOME, &m, sizeof m) != 0 ||
        (m.feat & ~(uint64_t)INGLE_FEAT_ALL) != 0 || !all_zero(m.rsv0, sizeof m.rsv0) ||
        !all_zero(m.rsv, sizeof m.rsv) || ingle_geometry_check(&m) != 0) {
        return -EPROTO;
    }
    *ret = m;
    return 0;
}

int ingle_check_ready(const void *msg, size_t bytes, struct ingle_ctl_ready *ret)
{
    return fixed(msg, bytes, INGLE_FROM_CLIENT, INGLE_CTL_READY, ret, sizeof *ret);
}

int ingle_check_reject(const void *msg, size_t bytes, struct ingle_ctl_reject *ret)
{
    struct ingle_ctl_reject m;

    if (fixed(msg, bytes, INGLE_FROM_RUNTIME, INGLE_CTL_REJECT, &m, sizeof m) != 0) {
        return -EPROTO;
    }
    m.text[sizeof m.text - 1] = '\0';
    for (size_t i = 0; m.text[i] != '\0'; i++) {
        if (m.text[i] < 0x20 || m.text[i] == 0x7f) {
            m.text[i] = ' ';
        }
    }
    *ret = m;
    return 0;
}

int ingle_check_ctx(const void *msg, size_t bytes, struct ingle_ctl_ctx *ret)
{
    struct ingle_ctl_hdr h;
    struct ingle_ctl_ctx m;
    bool token;
    int res = ingle_check_hdr(msg, bytes, INGLE_FROM_CLIENT, &h);

    if (res == 0) {
        res = fixed(msg, bytes, INGLE_FROM_CLIENT, h.type, &m, sizeof m);
    }
    if (res != 0) {
        return res;
    }
    token = !all_zero(m.token, sizeof m.token);
    if ((m.rights & ~(INGLE_CTX_RIGHT_FORK | INGLE_CTX_RIGHT_APPEND)) != 0 || m.res != 0 ||
        m.n_tokens != 0 || !all_zero(m.rsv, sizeof m.rsv)) {
        return -EINVAL;
    }
    if (h.type == INGLE_CTL_CTX_EXPORT) {
        if (token || m.ctx == 0 || m.rights == 0) {
            return -EINVAL;
        }
    } else if (h.type == INGLE_CTL_CTX_IMPORT || h.type == INGLE_CTL_CTX_REVOKE) {
        if (!token || m.ctx != 0 || m.ttl_s != 0 || m.uses != 0 ||
            (h.type == INGLE_CTL_CTX_REVOKE && m.rights != 0)) {
            return -EINVAL;
        }
    } else {
        return -EPROTO;
    }
    *ret = m;
    return 0;
}

int ingle_check_ctx_reply(const void *msg, size_t bytes, struct ingle_ctl_ctx *ret)
{
    struct ingle_ctl_ctx m;

    if (fixed(msg, bytes, INGLE_FROM_RUNTIME, INGLE_CTL_CTX_REPLY, &m, sizeof m) != 0 ||
        m.res > 0 || m.res < -4095) {
        return -EPROTO;
    }
    *ret = m;
    return 0;
}

int ingle_check_admin(const void *msg, size_t bytes, uint32_t from, struct ingle_ctl_hdr *ret_hdr,
                      const char **ret_text, size_t *ret_text_bytes)
{
    struct ingle_ctl_hdr h;
    const char *text = (const char *)msg + sizeof h;
    int res = ingle_check_hdr(msg, bytes, from, &h);

    if (res != 0) {
        return res;
    }
    if (h.type != (from == INGLE_FROM_CLIENT ? INGLE_CTL_ADMIN : INGLE_CTL_ADMIN_REPLY)) {
        return -EPROTO;
    }
    if (memchr(text, '\0', bytes - sizeof h) != NULL) {
        return -EINVAL;
    }
    *ret_hdr = h;
    *ret_text = text;
    *ret_text_bytes = bytes - sizeof h;
    return 0;
}

/* ---- submission entries ---------------------------------------------------------------------- */

#define USES_PAYLOAD 1u  /* off, payload_bytes, model, prio, the payload kind in flags */
#define USES_EMPTY   2u  /* a payload of no bytes means something */
#define USES_PARAMS  4u  /* par_off, par_bytes, max_tokens, resume_idx */
#define USES_CTX     8u  /* ctx may be given */
#define NEEDS_CTX    16u /* ctx must be given */
#define USES_ARG     32u
#define TAKES_TEXT   64u /* payload kinds */
#define TAKES_IDS    128u
#define TAKES_CHAT   256u

static const struct {
    uint16_t uses;
    uint8_t flags; /* INGLE_SQE_F_* beside the payload kind */
} op_rules[INGLE_OP_END] = {
    [INGLE_OP_NOP] = {0, 0},
    [INGLE_OP_GENERATE] = {USES_PAYLOAD | USES_PARAMS | USES_CTX | USES_ARG | TAKES_TEXT |
                               TAKES_IDS | TAKES_CHAT,
                           INGLE_SQE_F_KEEP_CTX | INGLE_SQE_F_NO_SPECIAL | INGLE_SQE_F_NO_BOS |
                               INGLE_SQE_F_LATEST},
    [INGLE_OP_APPEND] = {USES_PAYLOAD | USES_CTX | USES_ARG | TAKES_TEXT | TAKES_IDS | TAKES_CHAT,
                         INGLE_SQE_F_KEEP_CTX | INGLE_SQE_F_NO_SPECIAL | INGLE_SQE_F_NO_BOS},
    [INGLE_OP_FORK_CTX] = {USES_CTX | NEEDS_CTX, 0},
    [INGLE_OP_CLOSE_CTX] = {USES_CTX | NEEDS_CTX, 0},
    [INGLE_OP_CANCEL] = {USES_ARG, 0},
    [INGLE_OP_EMBED] = {USES_PAYLOAD | USES_ARG | TAKES_TEXT | TAKES_IDS | TAKES_CHAT,
                        INGLE_SQE_F_NO_SPECIAL | INGLE_SQE_F_NO_BOS},
    [INGLE_OP_TOKENIZE] = {USES_PAYLOAD | USES_EMPTY | TAKES_TEXT | TAKES_CHAT,
                           INGLE_SQE_F_NO_SPECIAL | INGLE_SQE_F_NO_BOS},
    [INGLE_OP_DETOKENIZE] = {USES_PAYLOAD | USES_EMPTY | TAKES_IDS, INGLE_SQE_F_NO_SPECIAL},
    [INGLE_OP_TEMPLATE] = {USES_PAYLOAD | TAKES_CHAT, 0},
};

uint8_t ingle_op_flags(uint32_t op)
{
    return op < INGLE_OP_END ? op_rules[op].flags : 0;
}

static bool payload_kind_ok(const struct ingle_sqe *s, uint16_t uses)
{
    switch (s->flags & INGLE_SQE_F_PAYLOAD_MASK) {
    case INGLE_PAYLOAD_TEXT:
        return (uses & TAKES_TEXT) != 0;
    case INGLE_PAYLOAD_IDS:
        return (uses & TAKES_IDS) != 0 && s->payload_bytes % 4 == 0;
    case INGLE_PAYLOAD_CHAT:
        return (uses & TAKES_CHAT) != 0;
    default:
        return false;
    }
}

static int check_payload(const struct ingle_sqe *s, uint16_t uses)
{
    if ((uses & USES_PAYLOAD) == 0) {
        return s->off == 0 && s->payload_bytes == 0 && s->model == 0 && s->prio == 0 &&
                       (s->flags & INGLE_SQE_F_PAYLOAD_MASK) == 0
                   ? 0
                   : -EINVAL;
    }
    if (!payload_kind_ok(s, uses)) {
        return -EINVAL;
    }
    /* Nothing to do is refused where it could look like progress; GENERATE may go on from a
     * context that already holds its prompt. */
    if (s->payload_bytes == 0 && (uses & USES_EMPTY) == 0 &&
        !(s->op == INGLE_OP_GENERATE && s->ctx != 0)) {
        return -EINVAL;
    }
    return 0;
}

int ingle_check_sqe(const struct ingle_sqe *s, uint32_t arena_bytes)
{
    uint16_t uses;

    if (!ingle_range_ok(s->off, s->payload_bytes, arena_bytes) ||
        !ingle_range_ok(s->par_off, s->par_bytes, arena_bytes)) {
        return -EPROTO;
    }
    if (s->op >= INGLE_OP_END) {
        return -ENOSYS;
    }
    uses = op_rules[s->op].uses;
    if ((s->flags & ~(INGLE_SQE_F_PAYLOAD_MASK | op_rules[s->op].flags)) != 0 || s->rsv != 0) {
        return -EINVAL;
    }
    if ((uses & USES_PARAMS) == 0 &&
        (s->par_off != 0 || s->par_bytes != 0 || s->max_tokens != 0 || s->resume_idx != 0)) {
        return -EINVAL;
    }
    if (s->par_bytes != 0 &&
        (s->par_bytes < sizeof(struct ingle_params) || s->par_bytes > INGLE_PARAMS_BYTES_MAX)) {
        return -EINVAL;
    }
    if (((uses & USES_CTX) == 0 && s->ctx != 0) || ((uses & NEEDS_CTX) != 0 && s->ctx == 0) ||
        ((uses & USES_ARG) == 0 && s->arg != 0)) {
        return -EINVAL;
    }
    return check_payload(s, uses);
}

/* ---- parameter block ------------------------------------------------------------------------- */

void ingle_params_default(struct ingle_params *ret)
{
    *ret = (struct ingle_params){
        .ver = 1, .top_p = 1.0F, .typical_p = 1.0F, .repeat_penalty = 1.0F, .repeat_last_n = 64};
}

/* Comparisons with NaN are false, so a range stated positively refuses it. */
static bool within(float x, float least, float most)
{
    return x >= least && x <= most;
}

static bool fixed_params_ok(const struct ingle_params *p)
{
    return p->ver == 1 && p->rsv0 == 0 && p->rsv1 == 0 && p->rsv2 == 0 &&
           (p->flags & ~INGLE_PAR_F_ALL) == 0 && within(p->temperature, 0.0F, 100.0F) &&
           within(p->top_p, 0.0F, 1.0F) && p->top_p > 0.0F && within(p->min_p, 0.0F, 1.0F) &&
           p->min_p < 1.0F && within(p->typical_p, 0.0F, 1.0F) && p->typical_p > 0.0F &&
           within(p->repeat_penalty, 0.0F, 100.0F) && p->repeat_penalty > 0.0F &&
           within(p->frequency_penalty, -100.0F, 100.0F) &&
           within(p->presence_penalty, -100.0F, 100.0F) && p->n_logprobs <= INGLE_LOGPROBS_MAX &&
           p->n_prompt_logprobs <= INGLE_LOGPROBS_MAX + 1 && p->n_stop <= INGLE_STOP_N_MAX &&
           p->n_stop_ids <= INGLE_STOP_ID_N_MAX && p->n_bias <= INGLE_BIAS_N_MAX;
}

/* A cursor over the block: take() is the only way to get bytes out of it. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *c, void *dst, size_t bytes)
{
    if (bytes > c->left) {
        return false;
    }
    memcpy(dst, c->at, bytes);
    c->at += bytes;
    c->left -= bytes;
    return true;
}

static bool take_stops(struct cursor *c, struct ingle_params_view *v)
{
    static const uint8_t zero[4];
    uint8_t pad[4];
    size_t begin = c->left;

    for (uint32_t i = 0; i < v->p.n_stop; i++) {
        uint16_t bytes;

        if (!take(c, &bytes, sizeof bytes) || bytes == 0 || bytes > INGLE_STOP_BYTES_MAX ||
            !take(c, v->stops[i].text, bytes)) {
            return false;
        }
        v->stops[i].bytes = bytes;
    }
    begin = (begin - c->left) % 4;
    return begin == 0 || (take(c, pad, 4 - begin) && memcmp(pad, zero, 4 - begin) == 0);
}

int ingle_check_params(const void *block, size_t bytes, struct ingle_params_view *ret)
{
    struct ingle_params_view v = {0};
    struct cursor c = {.at = block, .left = bytes};

    if (!take(&c, &v.p, sizeof v.p) || !fixed_params_ok(&v.p) || !take_stops(&c, &v)) {
        return -EINVAL;
    }
    for (uint32_t i = 0; i < v.p.n_stop_ids; i++) {
        if (!take(&c, &v.stop_ids[i], 4) || v.stop_ids[i] < 0) {
            return -EINVAL;
        }
    }
    for (uint32_t i = 0; i < v.p.n_bias; i++) {
        if (!take(&c, &v.biases[i].id, 4) || v.biases[i].id < 0 ||
            !take(&c, &v.biases[i].bias, 4) || !isfinite(v.biases[i].bias)) {
            return -EINVAL;
        }
    }
    if (c.left != 0) {
        return -EINVAL;
    }
    *ret = v;
    return 0;
}
