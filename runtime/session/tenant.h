/* Who pays: (uid, label). The uid comes from the kernel; the label only subdivides it. The index
 * and the secret salt the cache keys, so one tenant's prompts cannot be probed by another. */
#ifndef INGLE_RUNTIME_SESSION_TENANT_H
#define INGLE_RUNTIME_SESSION_TENANT_H
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/error.h"

struct ingle_tenant {
    uint32_t index; /* never used twice */
    uint32_t n_sessions;
    uid_t uid;
    uint8_t label[32];
    uint8_t secret[32]; /* of this run of the runtime */
};

struct ingle_tenants {
    struct ingle_tenant **all;
    uint32_t n, room, index_next;
};

/* Find or make; the caller holds one session of it until ingle_tenant_leave. -ENOMEM, -EUSERS when
 * every one of INGLE_TENANTS_MAX has a session. */
int ingle_tenant_enter(struct ingle_tenants *tenants, uid_t uid, const uint8_t label[32],
                       struct ingle_tenant **ret) INGLE_MUST_CHECK;
void ingle_tenant_leave(struct ingle_tenant *tenant); /* NULL allowed; it stays known */
void ingle_tenants_fini(struct ingle_tenants *tenants);

#endif
