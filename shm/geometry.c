/* The arithmetic of region layouts and the header that names them, both directions in one place.
 * Owns nothing.
 * Invariant: what ingle_geometry_plan makes, ingle_geometry_check accepts.  Any thread.
 *
 *   C2S  | control page | SQE x sq_n | pad to a page | arena |
 *   S2C  | control page | CQE x cq_n | TOK x tk_n | text ring | pad to a page | */
#include "shm/geometry.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "shm/atomic.h"
#include "shm/region.h"

static uint32_t log2_or(uint32_t asked, uint32_t otherwise)
{
    return 1u << (asked != 0 ? asked : otherwise);
}

static uint32_t page_up(uint32_t bytes)
{
    return (bytes + INGLE_RING_PAGE - 1) & ~(INGLE_RING_PAGE - 1);
}

void ingle_geometry_plan(const struct ingle_ctl_hello *hello, struct ingle_ctl_welcome *w)
{
    w->ver = INGLE_PROTO_VER;
    w->sqe_bytes = sizeof(struct ingle_sqe);
    w->cqe_bytes = sizeof(struct ingle_cqe);
    w->tok_bytes = sizeof(struct ingle_tok);

    w->sq_n = log2_or(hello->sq_log2, INGLE_SQ_LOG2_DEFAULT);
    w->cq_n = log2_or(hello->cq_log2, INGLE_CQ_LOG2_DEFAULT);
    w->tk_n = log2_or(hello->tk_log2, INGLE_TK_LOG2_DEFAULT);
    w->arena_bytes = log2_or(hello->arena_log2, INGLE_ARENA_LOG2_DEFAULT);
    w->max_inflight = w->cq_n / 2;
    w->text_bytes = w->tk_n * INGLE_TEXT_BYTES_PER_TOK;
    if (w->text_bytes < 65536u) {
        w->text_bytes = 65536u; /* so that any record's text fits */
    }

    w->sq_off = INGLE_RING_PAGE;
    w->arena_off = page_up(w->sq_off + w->sq_n * (uint32_t)sizeof(struct ingle_sqe));
    w->c2s_bytes = page_up(w->arena_off + w->arena_bytes);

    w->cq_off = INGLE_RING_PAGE;
    w->tk_off = w->cq_off + w->cq_n * (uint32_t)sizeof(struct ingle_cqe);
    w->text_off = w->tk_off + w->tk_n * (uint32_t)sizeof(struct ingle_tok);
    w->s2c_bytes = page_up(w->text_off + w->text_bytes);
}

static bool power_of_two(uint32_t n, uint32_t least_log2, uint32_t most_log2)
{
    return n >= 1u << least_log2 && n <= 1u << most_log2 && (n & (n - 1)) == 0;
}

/* A part lies behind the control page and inside its region, on its own alignment. */
static bool part_ok(uint32_t off, uint64_t bytes, uint32_t align, uint32_t region_bytes)
{
    return off >= INGLE_RING_PAGE && off % align == 0 && ingle_range_ok(off, bytes, region_bytes);
}

static bool apart(uint32_t a, uint64_t a_bytes, uint32_t b, uint64_t b_bytes)
{
    return a + a_bytes <= b || b + b_bytes <= a;
}

int ingle_geometry_check(const struct ingle_ctl_welcome *w)
{
    uint64_t sq = (uint64_t)w->sq_n * sizeof(struct ingle_sqe);
    uint64_t cq = (uint64_t)w->cq_n * sizeof(struct ingle_cqe);
    uint64_t tk = (uint64_t)w->tk_n * sizeof(struct ingle_tok);

    if (w->ver != INGLE_PROTO_VER || w->sqe_bytes != sizeof(struct ingle_sqe) ||
        w->cqe_bytes != sizeof(struct ingle_cqe) || w->tok_bytes != sizeof(struct ingle_tok)) {
        return -EPROTO;
    }
    if (!power_of_two(w->sq_n, INGLE_SQ_LOG2_MIN, INGLE_SQ_LOG2_MAX) ||
        !power_of_two(w->cq_n, INGLE_CQ_LOG2_MIN, INGLE_CQ_LOG2_MAX) ||
        !power_of_two(w->tk_n, INGLE_TK_LOG2_MIN, INGLE_TK_LOG2_MAX) ||
        !power_of_two(w->arena_bytes, INGLE_ARENA_LOG2_MIN, INGLE_ARENA_LOG2_MAX) ||
        !power_of_two(w->text_bytes, 16, 24) || w->max_inflight == 0 ||
        w->max_inflight > w->cq_n / 2) {
        return -EPROTO;
    }
    if (!part_ok(w->sq_off, sq, 64, w->c2s_bytes) ||
        !part_ok(w->arena_off, w->arena_bytes, 64, w->c2s_bytes) ||
        !part_ok(w->cq_off, cq, 32, w->s2c_bytes) || !part_ok(w->tk_off, tk, 32, w->s2c_bytes) ||
        !part_ok(w->text_off, w->text_bytes, 1, w->s2c_bytes)) {
        return -EPROTO;
    }
    if (!apart(w->sq_off, sq, w->arena_off, w->arena_bytes) ||
        !apart(w->cq_off, cq, w->tk_off, tk) || !apart(w->cq_off, cq, w->text_off, w->text_bytes) ||
        !apart(w->tk_off, tk, w->text_off, w->text_bytes)) {
        return -EPROTO;
    }
    return 0;
}

void ingle_header_publish(void *s2c, const struct ingle_ctl_welcome *w)
{
    struct ingle_s2c_ctl *ctl = s2c;

    ctl->ver = w->ver;
    ctl->hdr_bytes = sizeof *ctl;
    ctl->epoch = w->h.epoch;
    ctl->feat = w->feat;
    ctl->client_id = w->client_id;
    ctl->tenant_id = w->tenant_id;
    atomic_store_explicit((INGLE_ATOMIC_U32 *)&ctl->magic, INGLE_MAGIC, memory_order_release);
}

int ingle_header_check(const void *s2c, const struct ingle_ctl_welcome *w)
{
    const struct ingle_s2c_ctl *ctl = s2c;
    uint32_t magic =
        atomic_load_explicit((const INGLE_ATOMIC_U32 *)&ctl->magic, memory_order_acquire);

    return magic == INGLE_MAGIC && ctl->ver == w->ver && ctl->hdr_bytes == sizeof *ctl &&
                   ctl->epoch == w->h.epoch && ctl->client_id == w->client_id
               ? 0
               : -EPROTO;
}
