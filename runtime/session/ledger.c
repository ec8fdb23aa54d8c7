/* Owns the table of pools; the memory itself belongs to whoever opened the pool. Invariant: the sum
 * of the pools is what the runtime holds or is about to hold; only ingle_ledger_admit compares it
 * with the budget, and every opener calls it first. Thread: io. */
#include "runtime/session/ledger.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/units.h"

void ingle_ledger_init(struct ingle_ledger *ledger, uint64_t budget_bytes)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->budget_bytes = budget_bytes;
}

uint64_t ingle_ledger_used(const struct ingle_ledger *ledger)
{
    uint64_t used = 0;

    for (uint32_t i = 0; i < INGLE_LEDGER_POOLS_MAX; i++) {
        used += ledger->pools[i].bytes;
    }
    return used;
}

struct ingle_pool *ingle_ledger_open(struct ingle_ledger *ledger, const char *name,
                                     const char *owner)
{
    for (uint32_t i = 0; i < INGLE_LEDGER_POOLS_MAX; i++) {
        struct ingle_pool *pool = &ledger->pools[i];

        if (pool->name[0] == '\0') {
            (void)snprintf(pool->name, sizeof pool->name, "%s", name);
            (void)snprintf(pool->owner, sizeof pool->owner, "%s", owner);
            pool->bytes = 0;
            return pool;
        }
    }
    return NULL;
}

void ingle_ledger_close(struct ingle_pool *pool)
{
    if (pool != NULL) {
        memset(pool, 0, sizeof *pool);
    }
}

/* The largest holders, each owner once with all its pools, until the text is full. Returns the
 * largest owner that is a model: what could be unloaded. */
static const char *holders(const struct ingle_ledger *ledger, char *text, size_t text_bytes)
{
    bool told[INGLE_LEDGER_POOLS_MAX] = {false};
    const char *largest = NULL;
    size_t n = 0;

    text[0] = '\0';
    for (int round = 0; round < 4; round++) {
        uint64_t best_bytes = 0;
        uint32_t best = 0;

        for (uint32_t i = 0; i < INGLE_LEDGER_POOLS_MAX; i++) {
            const struct ingle_pool *pool = &ledger->pools[i];
            uint64_t bytes = 0;

            if (pool->name[0] == '\0' || told[i]) {
                continue;
            }
            for (uint32_t j = i; j < INGLE_LEDGER_POOLS_MAX; j++) {
                if (strcmp(ledger->pools[j].owner, pool->owner) == 0) {
                    bytes += ledger->pools[j].bytes;
                }
            }
            if (bytes > best_bytes) {
                best_bytes = bytes;
                best = i;
            }
        }
        if (best_bytes == 0) {
            break;
        }
        for (uint32_t j = 0; j < INGLE_LEDGER_POOLS_MAX; j++) {
            told[j] |= strcmp(ledger->pools[j].owner, ledger->pools[best].owner) == 0;
        }
        if (largest == NULL && strcmp(ledger->pools[best].name, "rings") != 0) {
            largest = ledger->pools[best].owner;
        }
        n += (size_t)snprintf(text + n, text_bytes - n, "%s%s %s", round == 0 ? "" : ", ",
                              ledger->pools[best].owner, ingle_units_bytes(best_bytes).s);
        if (n >= text_bytes) {
            break;
        }
    }
    return largest;
}

int ingle_ledger_admit(const struct ingle_ledger *ledger, const char *what, uint64_t bytes,
                       struct ingle_error *err)
{
    uint64_t used = ingle_ledger_used(ledger);
    uint64_t left = used < ledger->budget_bytes ? ledger->budget_bytes - used : 0;
    char held[160], advice[96];
    const char *largest;

    if (bytes <= left) {
        return 0;
    }
    largest = holders(ledger, held, sizeof held);
    if (largest != NULL) {
        (void)snprintf(advice, sizeof advice, "ingle unload %s, or ", largest);
    } else {
        advice[0] = '\0';
    }
    return ingle_fail_kind(err, INGLE_ERR_REFUSED, -ENOMEM,
                           "%s needs %s, budget has %s of %s free%s%s%s. Try: %sa smaller kv_bytes "
                           "in [cache], fewer kv_bits, or a larger memory in [daemon]",
                           what, ingle_units_bytes(bytes).s, ingle_units_bytes(left).s,
                           ingle_units_bytes(ledger->budget_bytes).s,
                           held[0] == '\0' ? "" : " (held by: ", held, held[0] == '\0' ? "" : ")",
                           advice);
}
