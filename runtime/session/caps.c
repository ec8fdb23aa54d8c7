/* Owns the table of capability tokens; the held contexts belong to step and are dropped by whoever
 * removes a row. Thread: io. */
#include "runtime/session/caps.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/base/mem.h"
#include "runtime/session/limits.h"

#define NAME_BYTES 8u /* of the token: looked up; the rest is compared in constant time */

int ingle_caps_add(struct ingle_caps *caps, const struct ingle_cap *cap, struct ingle_cap **ret)
{
    uint32_t n_owned = 0;
    struct ingle_cap *row;

    for (uint32_t i = 0; i < caps->n; i++) {
        n_owned += caps->all[i].owner == cap->owner;
    }
    if (n_owned >= INGLE_CAPS_PER_SESSION || caps->n >= INGLE_CAPS_MAX) {
        return -ENOSPC;
    }
    if (caps->n == caps->room) {
        uint32_t room = caps->room == 0 ? 16 : caps->room * 2;
        struct ingle_cap *all = ingle_mem_grow(caps->all, caps->room, room, sizeof caps->all[0]);

        if (all == NULL) {
            return -ENOMEM;
        }
        caps->all = all;
        caps->room = room;
    }
    row = &caps->all[caps->n];
    *row = *cap;
    if (getrandom(row->token, sizeof row->token, 0) != (ssize_t)sizeof row->token) {
        return -EIO;
    }
    caps->n++;
    *ret = row;
    return 0;
}

static bool same_secret(const uint8_t *a, const uint8_t *b)
{
    unsigned differ = 0;

    for (uint32_t i = NAME_BYTES; i < 32; i++) {
        differ |= (unsigned)(a[i] ^ b[i]);
    }
    return differ == 0;
}

struct ingle_cap *ingle_caps_find(struct ingle_caps *caps, const uint8_t token[32], uint32_t tenant)
{
    for (uint32_t i = 0; i < caps->n; i++) {
        struct ingle_cap *cap = &caps->all[i];

        if (memcmp(cap->token, token, NAME_BYTES) == 0 && same_secret(cap->token, token) &&
            cap->tenant == tenant) {
            return cap;
        }
    }
    return NULL;
}

void ingle_caps_remove(struct ingle_caps *caps, struct ingle_cap *cap)
{
    ingle_assert(cap >= caps->all && cap < caps->all + caps->n);
    *cap = caps->all[--caps->n];
    memset(&caps->all[caps->n], 0, sizeof caps->all[0]);
}

void ingle_caps_fini(struct ingle_caps *caps)
{
    ingle_mem_free(caps->all);
    memset(caps, 0, sizeof *caps);
}
