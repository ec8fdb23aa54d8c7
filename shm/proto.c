/* Names and bounds of the control messages, from the table in proto.h. Owns nothing but constants.
 * Any thread. */
#include "shm/proto.h"

#include <stddef.h>

#define KIND(id, text, from, least, most, fds) \
    [INGLE_CTL_##id] = {.name = (text),        \
                        .senders = (from),     \
                        .bytes_min = (least),  \
                        .bytes_max = (most),   \
                        .n_fds = (fds)},
static const struct ingle_ctl_rule kinds[INGLE_CTL_TYPE_END] = {INGLE_CTL_TABLE(KIND)};
#undef KIND

#define COUNT(id, text, from, least, most, fds) +1 /* NOLINT(bugprone-macro-parentheses) */
_Static_assert(0 INGLE_CTL_TABLE(COUNT) == INGLE_CTL_TYPE_END - 1, "every type is in the table");
#undef COUNT

static const char *const rejects[INGLE_REJECT_DENIED + 1] = {
    [INGLE_REJECT_VERSION] = "protocol version or feature not supported",
    [INGLE_REJECT_ENDIAN] = "byte order differs",
    [INGLE_REJECT_MALFORMED] = "malformed message",
    [INGLE_REJECT_TOO_MANY] = "too many clients",
    [INGLE_REJECT_NO_MEMORY] = "not enough memory",
    [INGLE_REJECT_DRAINING] = "the runtime is shutting down",
    [INGLE_REJECT_PROTOCOL] = "protocol violation",
    [INGLE_REJECT_DENIED] = "permission denied",
};

const struct ingle_ctl_rule *ingle_ctl_kind(uint32_t type)
{
    return type > 0 && type < INGLE_CTL_TYPE_END ? &kinds[type] : NULL;
}

const char *ingle_reject_name(uint32_t code)
{
    return code > 0 && code <= INGLE_REJECT_DENIED ? rejects[code] : "unknown reason";
}
