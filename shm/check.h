/* One function per thing that a peer sends: private bytes in, validated local copy out. They trust
 * nothing but their own arguments, allocate nothing and never stop the process.
 *
 * -EPROTO: no program that speaks this protocol sends it; drop the peer.
 * -EINVAL: well-formed, but a reserved field is not zero, a flag is unknown or a value is out of
 *          range; a request is answered with it. */
#ifndef INGLE_SHM_CHECK_H
#define INGLE_SHM_CHECK_H
#include <stddef.h>
#include <stdint.h>

#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define INGLE_FEAT_ALL 0u /* feature bits that this build knows */

#define INGLE_PARAMS_BYTES_MAX                                                                    \
    (sizeof(struct ingle_params) + INGLE_STOP_N_MAX * (sizeof(uint16_t) + INGLE_STOP_BYTES_MAX) + \
     3 + INGLE_STOP_ID_N_MAX * sizeof(int32_t) + INGLE_BIAS_N_MAX * sizeof(int32_t) * 2)

/**
 * The header of any message, and its length as the table in proto.h states it.
 *
 * @msg, @bytes  one whole datagram in private memory    @from  INGLE_FROM_* of proto.h
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, -EPROTO (magic, type, sender, or lengths
 * that disagree), or -EINVAL (unknown flag, wrong n_fds).
 */
int ingle_check_hdr(const void *msg, size_t bytes, uint32_t from, struct ingle_ctl_hdr *ret);

/**
 * HELLO, in the runtime.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.
 * Returns 0 and *ret (name and label are at most 31 bytes of printable ASCII and end with NUL, log2
 * fields are 0 or in the range of geometry.h), or an enum ingle_reject_code (> 0) to answer with.
 */
int ingle_check_hello(const void *msg, size_t bytes, struct ingle_ctl_hello *ret);

/**
 * WELCOME, in the client: the header, ver, feat, and ingle_geometry_check.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, or -EPROTO.
 */
int ingle_check_welcome(const void *msg, size_t bytes, struct ingle_ctl_welcome *ret);

/**
 * READY, in the runtime. Whether it is the right nonce is for the caller to say.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, -EPROTO or -EINVAL.
 */
int ingle_check_ready(const void *msg, size_t bytes, struct ingle_ctl_ready *ret);

/**
 * REJECT, in the client: text comes out NUL-terminated, its control characters turned into spaces.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, or -EPROTO.
 */
int ingle_check_reject(const void *msg, size_t bytes, struct ingle_ctl_reject *ret);

/**
 * CTX_EXPORT, CTX_IMPORT and CTX_REVOKE, in the runtime. EXPORT names a context and at least one
 * right and brings no token; IMPORT and REVOKE bring a token and nothing else but, for IMPORT,
 * rights.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, -EPROTO or -EINVAL.
 */
int ingle_check_ctx(const void *msg, size_t bytes, struct ingle_ctl_ctx *ret);

/**
 * CTX_REPLY, in the client: res is 0 or a -errno.
 *
 * @msg, @bytes  one whole datagram in private memory
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, or -EPROTO.
 */
int ingle_check_ctx_reply(const void *msg, size_t bytes, struct ingle_ctl_ctx *ret);

/**
 * ADMIN in the runtime, ADMIN_REPLY in the client: the payload is text without NUL bytes; whether
 * it is UTF-8 and JSON is for its parser to say.
 *
 * @msg, @bytes  one whole datagram in private memory     @from  INGLE_FROM_* of proto.h
 *
 * Ownership: *ret_text is borrowed from msg.  Thread: any.
 * Returns 0, *ret_hdr, *ret_text and *ret_text_bytes, or -EPROTO, -EINVAL.
 */
int ingle_check_admin(const void *msg, size_t bytes, uint32_t from, struct ingle_ctl_hdr *ret_hdr,
                      const char **ret_text, size_t *ret_text_bytes);

/**
 * A submission entry, in the runtime: which fields its operation uses, that all others are zero,
 * that payload and parameters lie in the arena.
 *
 * @sqe          the snapshot that ingle_sq_read took     @arena_bytes  of this client's arena
 *
 * Ownership: borrows.  Thread: io.
 * Returns 0; -ENOSYS (unknown operation) or -EINVAL: answer with a FINAL completion; -EPROTO (a
 * range outside of the arena, which no library produces): drop the client.
 */
int ingle_check_sqe(const struct ingle_sqe *sqe, uint32_t arena_bytes);

/**
 * The flags that an operation knows, beside the payload kind.
 *
 * @op  enum ingle_op_code, or anything else
 *
 * Returns INGLE_SQE_F_* bits, 0 for an unknown operation.  Thread: any.
 */
uint8_t ingle_op_flags(uint32_t op);

/* A parameter block taken apart: every value in the range that layout.h states. */
struct ingle_params_view {
    struct ingle_params p;
    struct {
        uint16_t bytes; /* 1..INGLE_STOP_BYTES_MAX */
        char text[INGLE_STOP_BYTES_MAX];
    } stops[INGLE_STOP_N_MAX];
    int32_t stop_ids[INGLE_STOP_ID_N_MAX]; /* >= 0; the vocabulary is the caller's to check */
    struct {
        int32_t id; /* >= 0 */
        float bias; /* finite */
    } biases[INGLE_BIAS_N_MAX];
};

/**
 * A parameter block, in the runtime. NaN and infinities are refused everywhere.
 *
 * @block, @bytes  sqe.par_bytes bytes, already copied out of the arena; bytes 0 is not a block:
 *                 see ingle_params_default
 *
 * Ownership: copies.  Thread: any.  Returns 0 and *ret, or -EINVAL; *ret is untouched on failure.
 */
int ingle_check_params(const void *block, size_t bytes, struct ingle_params_view *ret);

/**
 * The parameters of a request without a block: argmax, every filter and penalty off.
 *
 * Ownership: fills *ret.  Thread: any.
 */
void ingle_params_default(struct ingle_params *ret);

#ifdef __cplusplus
}
#endif
#endif
