/* Where everything lies in the two regions: planned by the runtime, checked by the client. */
#ifndef INGLE_SHM_GEOMETRY_H
#define INGLE_SHM_GEOMETRY_H
#include <stdint.h>

#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* log2 of what a client may ask for in HELLO, and what 0 stands for. The defaults are sized by the
 * attach: memory is reserved when it is created, at 0.2 us a page. */
#define INGLE_SQ_LOG2_MIN        4u
#define INGLE_SQ_LOG2_MAX        10u
#define INGLE_SQ_LOG2_DEFAULT    6u
#define INGLE_CQ_LOG2_MIN        4u
#define INGLE_CQ_LOG2_MAX        12u
#define INGLE_CQ_LOG2_DEFAULT    7u
#define INGLE_TK_LOG2_MIN        6u
#define INGLE_TK_LOG2_MAX        16u
#define INGLE_TK_LOG2_DEFAULT    10u
#define INGLE_ARENA_LOG2_MIN     12u
#define INGLE_ARENA_LOG2_MAX     24u
#define INGLE_ARENA_LOG2_DEFAULT 18u

/* Text bytes for each record of the token ring, on average. */
#define INGLE_TEXT_BYTES_PER_TOK 64u

/**
 * Lay out the regions that HELLO asks for: sets ver, sqe/cqe/tok_bytes, c2s_bytes, s2c_bytes, every
 * offset and count, and max_inflight (half of the completions: each request has two) in *welcome.
 *
 * @hello    checked by ingle_check_hello, so that its log2 fields are 0 or in range
 * @welcome  the other fields stay as they are
 *
 * Ownership: borrows both.  Thread: any.  Errors: none.
 */
void ingle_geometry_plan(const struct ingle_ctl_hello *hello, struct ingle_ctl_welcome *welcome);

/**
 * Whether a WELCOME describes regions that this build can use: entry sizes, powers of two, limits,
 * everything inside its region, aligned, and nothing overlapping.
 *
 * @welcome  a private copy, untrusted
 *
 * Ownership: borrows.  Thread: any.  Returns 0 or -EPROTO (detach).
 */
int ingle_geometry_check(const struct ingle_ctl_welcome *welcome);

/**
 * Runtime: fill the immutable header of a new S2C region; the magic comes last, with release.
 *
 * @s2c  the mapped region, all zero       @welcome  as it will be sent (ver, feat, ids, h.epoch)
 *
 * Ownership: borrows both.  Thread: the one that created the region.  Errors: none.
 */
void ingle_header_publish(void *s2c, const struct ingle_ctl_welcome *welcome);

/**
 * Client: whether the region's header says what WELCOME said.
 *
 * @s2c  the mapped region       @welcome  already checked
 *
 * Ownership: borrows both.  Thread: any.  Returns 0 or -EPROTO (detach).
 */
int ingle_header_check(const void *s2c, const struct ingle_ctl_welcome *welcome);

#ifdef __cplusplus
}
#endif
#endif
