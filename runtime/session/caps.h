/* Capability tokens of contexts: 32 random bytes that stand for a held copy of a context. Whoever
 * presents them, within the tenant, may fork it. Thread: io. */
#ifndef INGLE_RUNTIME_SESSION_CAPS_H
#define INGLE_RUNTIME_SESSION_CAPS_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"

struct ingle_cap {
    uint8_t token[32];
    uint64_t held_ctx;  /* step's id of the held context */
    uint64_t expire_ns; /* UINT64_MAX: with its owner */
    uint32_t owner;     /* client_id */
    uint32_t tenant;    /* index */
    uint32_t rights;    /* INGLE_CTX_RIGHT_* */
    uint32_t uses_left; /* UINT32_MAX: any number */
    uint32_t n_tokens;
    uint16_t model; /* instance slot */
};

struct ingle_caps {
    struct ingle_cap *all;
    uint32_t n, room;
};

/* Add, with a fresh token; *ret is valid until the next call. -ENOSPC at a limit, -ENOMEM. */
int ingle_caps_add(struct ingle_caps *caps, const struct ingle_cap *cap,
                   struct ingle_cap **ret) INGLE_MUST_CHECK;
/* By token, within a tenant; NULL. The time taken does not depend on where a wrong token differs
 * from a right one beyond the first 8 bytes, which are a name and no secret. */
struct ingle_cap *ingle_caps_find(struct ingle_caps *caps, const uint8_t token[32],
                                  uint32_t tenant);
/* Forget one; the order of the others changes. */
void ingle_caps_remove(struct ingle_caps *caps, struct ingle_cap *cap);
void ingle_caps_fini(struct ingle_caps *caps);

#endif
