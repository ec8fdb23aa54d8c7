/* The control messages as one table: id, name, who sends it, how many bytes, how many fds. It
 * drives the header check, the names in logs, and the fuzz dictionary. */
#ifndef INGLE_SHM_PROTO_H
#define INGLE_SHM_PROTO_H
#include <stdint.h>

#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define INGLE_FROM_CLIENT  1u
#define INGLE_FROM_RUNTIME 2u

/* X(kind, name, senders, bytes with header: least, most, fds) */
#define INGLE_CTL_TABLE(X)                                                   \
    X(HELLO, "HELLO", INGLE_FROM_CLIENT, 192, 192, 0)                        \
    X(WELCOME, "WELCOME", INGLE_FROM_RUNTIME, 160, 160, 3)                   \
    X(READY, "READY", INGLE_FROM_CLIENT, 40, 40, 0)                          \
    X(LIVE, "LIVE", INGLE_FROM_RUNTIME, 32, 32, 0)                           \
    X(REJECT, "REJECT", INGLE_FROM_RUNTIME, 160, 160, 0)                     \
    X(PING, "PING", INGLE_FROM_CLIENT | INGLE_FROM_RUNTIME, 32, 32, 0)       \
    X(PONG, "PONG", INGLE_FROM_CLIENT | INGLE_FROM_RUNTIME, 32, 32, 0)       \
    X(GOODBYE, "GOODBYE", INGLE_FROM_CLIENT | INGLE_FROM_RUNTIME, 32, 32, 0) \
    X(CTX_EXPORT, "CTX_EXPORT", INGLE_FROM_CLIENT, 104, 104, 0)              \
    X(CTX_IMPORT, "CTX_IMPORT", INGLE_FROM_CLIENT, 104, 104, 0)              \
    X(CTX_REVOKE, "CTX_REVOKE", INGLE_FROM_CLIENT, 104, 104, 0)              \
    X(CTX_REPLY, "CTX_REPLY", INGLE_FROM_RUNTIME, 104, 104, 0)               \
    X(ADMIN, "ADMIN", INGLE_FROM_CLIENT, 34, INGLE_CTL_BYTES_MAX, 0)         \
    X(ADMIN_REPLY, "ADMIN_REPLY", INGLE_FROM_RUNTIME, 32, INGLE_CTL_BYTES_MAX, 0)

struct ingle_ctl_rule {
    const char *name;
    uint32_t senders, bytes_min, bytes_max, n_fds;
};

/**
 * What is known about a kind of control message.
 *
 * @type  enum ingle_ctl_type, or anything else
 *
 * Returns static storage, NULL for a type that does not exist.  Thread: any.
 */
const struct ingle_ctl_rule *ingle_ctl_kind(uint32_t type);

/**
 * Why an attach was refused, in words for people.
 *
 * @code  enum ingle_reject_code, or anything else
 *
 * Returns static storage, never NULL.  Thread: any.
 */
const char *ingle_reject_name(uint32_t code);

#ifdef __cplusplus
}
#endif
#endif
