/* The memory budget: one number, and the list of named pools that hold parts of it. Nothing large
 * is allocated before its bytes were taken here. Thread: io. */
#ifndef INGLE_RUNTIME_SESSION_LEDGER_H
#define INGLE_RUNTIME_SESSION_LEDGER_H
#include <stdint.h>

#include "runtime/base/error.h"

#define INGLE_LEDGER_POOLS_MAX 128u

struct ingle_pool { /* a row of the ledger; free when name is empty */
    char name[24];  /* weights, tokenizer, kv, scratch, rings, ... */
    char owner[48]; /* the model, or "clients" */
    uint64_t bytes;
};

struct ingle_ledger {
    uint64_t budget_bytes;
    struct ingle_pool pools[INGLE_LEDGER_POOLS_MAX];
};

void ingle_ledger_init(struct ingle_ledger *ledger, uint64_t budget_bytes);
uint64_t ingle_ledger_used(const struct ingle_ledger *ledger);

/* Check that `bytes` more would fit. -ENOMEM (kind REFUSED): err says who holds the rest and what
 * to try. what: the thing to be admitted, for the message. */
int ingle_ledger_admit(const struct ingle_ledger *ledger, const char *what, uint64_t bytes,
                       struct ingle_error *err) INGLE_MUST_CHECK;
/* A new pool, empty; NULL when the table is full. */
struct ingle_pool *ingle_ledger_open(struct ingle_ledger *ledger, const char *name,
                                     const char *owner);
/* NULL allowed. */
void ingle_ledger_close(struct ingle_pool *pool);

#endif
