/* Owns the table of tenants. A tenant outlives its sessions, so that who comes back finds its
 * cache; at INGLE_TENANTS_MAX the longest known one without a session makes room. Thread: io. */
#include "runtime/session/tenant.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/base/mem.h"
#include "runtime/session/limits.h"

/* A place in the table: grown, or taken from a tenant that nobody uses. */
static int make_room(struct ingle_tenants *tenants)
{
    if (tenants->n == INGLE_TENANTS_MAX) {
        uint32_t i = 0;

        while (i < tenants->n && tenants->all[i]->n_sessions != 0) {
            i++;
        }
        if (i == tenants->n) {
            return -EUSERS;
        }
        ingle_mem_free(tenants->all[i]);
        memmove(&tenants->all[i], &tenants->all[i + 1],
                (tenants->n - i - 1) * sizeof tenants->all[0]);
        tenants->n--;
    } else if (tenants->n == tenants->room) {
        uint32_t room = tenants->room == 0 ? 16 : tenants->room * 2;
        struct ingle_tenant **all =
            ingle_mem_grow(tenants->all, tenants->room, room, sizeof(void *));

        if (all == NULL) {
            return -ENOMEM;
        }
        tenants->all = all;
        tenants->room = room;
    }
    return 0;
}

int ingle_tenant_enter(struct ingle_tenants *tenants, uid_t uid, const uint8_t label[32],
                       struct ingle_tenant **ret)
{
    struct ingle_tenant *tenant;
    int res;

    for (uint32_t i = 0; i < tenants->n; i++) {
        tenant = tenants->all[i];
        if (tenant->uid == uid && memcmp(tenant->label, label, sizeof tenant->label) == 0) {
            tenant->n_sessions++;
            *ret = tenant;
            return 0;
        }
    }
    res = make_room(tenants);
    if (res != 0) {
        return res;
    }
    tenant = ingle_mem_alloc(sizeof *tenant);
    if (tenant == NULL) {
        return -ENOMEM;
    }
    if (getrandom(tenant->secret, sizeof tenant->secret, 0) != (ssize_t)sizeof tenant->secret) {
        ingle_mem_free(tenant);
        return -EIO;
    }
    tenant->index = ++tenants->index_next;
    tenant->uid = uid;
    memcpy(tenant->label, label, sizeof tenant->label);
    tenant->n_sessions = 1;
    tenants->all[tenants->n++] = tenant;
    *ret = tenant;
    return 0;
}

void ingle_tenant_leave(struct ingle_tenant *tenant)
{
    if (tenant != NULL) {
        ingle_assert(tenant->n_sessions > 0);
        tenant->n_sessions--;
    }
}

void ingle_tenants_fini(struct ingle_tenants *tenants)
{
    for (uint32_t i = 0; i < tenants->n; i++) {
        ingle_mem_free(tenants->all[i]);
    }
    ingle_mem_free(tenants->all);
    memset(tenants, 0, sizeof *tenants);
}
