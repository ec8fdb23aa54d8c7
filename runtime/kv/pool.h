/* The page pool of one engine: all KV memory, taken once, handed out as pages.
 *
 * A page holds S tokens of one layer group. Sealed pages are counted: several chunks may hold the
 * same page. Open pages (f16, being written) belong to exactly one context. In a q4 domain the page
 * at position 0 is sealed as q8 (KV.md 2.6), so such a pool has two kinds of sealed pages per
 * group. Thread: step; the byte counts may be read by any thread. */
#ifndef INGLE_RUNTIME_KV_POOL_H
#define INGLE_RUNTIME_KV_POOL_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/backend/backend.h"
#include "runtime/base/error.h"

#define INGLE_PAGE_NONE UINT32_MAX

struct ingle_page {
    uint32_t i; /* index into the pool's page table */
};

struct ingle_page_info {
    uint8_t *mem;
    uint32_t refs;
    uint32_t next_free;
    uint8_t slab;
    uint8_t form; /* enum ingle_kv_form */
};

/* Pages of one size: a range of the page table and its free list. */
struct ingle_page_slab {
    uint8_t *mem;
    uint64_t page_bytes, bytes;
    uint32_t first, n_pages, n_free, free_head;
};

enum ingle_page_use {
    INGLE_USE_OPEN,
    INGLE_USE_SEALED,
    INGLE_USE_SEALED_FIRST,
    INGLE_USE_COUNT
};

struct ingle_kv_shape { /* what the pool must know of a model */
    uint32_t n_groups, Hk, D;
    uint32_t group_layers[INGLE_GROUPS_MAX];
};

struct ingle_kv_pool {
    struct ingle_backend *backend;
    struct ingle_kv_shape shape;
    enum ingle_kv_form form; /* of sealed pages */
    uint32_t n_pages;
    struct ingle_page_info *pages;
    struct ingle_page_slab slabs[INGLE_GROUPS_MAX]
                                [INGLE_USE_COUNT]; /* unused kinds have no pages */
    uint64_t bytes;                                /* taken from the backend */
    _Atomic uint64_t bytes_used;                   /* step stores relaxed; ledger loads relaxed */
    struct {                                       /* load: what was warmed so far */
        uint32_t n_slabs;
        uint64_t bytes; /* of the slab after those */
    } warm;
};

/* Divide kv_bytes among open and sealed pages of every group. kv_bits: 16, 8, 4. n_open: open pages
 * wanted per group (contexts plus the pages of one batch); fewer when they would take more than a
 * third of the budget. Refused when not even one batch fits. Thread: load. */
int ingle_kv_pool_init(struct ingle_kv_pool *pool, struct ingle_backend *backend,
                       const struct ingle_kv_shape *shape, uint8_t kv_bits, uint64_t kv_bytes,
                       uint32_t n_open, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_kv_pool_fini(struct ingle_kv_pool *pool);

/* Have the kernel give the next 2 MiB of the pages' memory, so that step does not wait for it when
 * it first writes there (faults were 3 % of a prompt's time); pages keep what they hold. False:
 * nothing is left to do. Thread: load, also while step uses the pool. */
bool ingle_kv_pool_warm(struct ingle_kv_pool *pool);

/* One page with one reference, or INGLE_PAGE_NONE. */
uint32_t ingle_page_take(struct ingle_kv_pool *pool, uint32_t group, enum ingle_page_use use);
void ingle_page_ref(struct ingle_kv_pool *pool, uint32_t page);
/* Drop a reference; INGLE_PAGE_NONE is allowed. The last one frees the page. */
void ingle_page_unref(struct ingle_kv_pool *pool, uint32_t page);

/* Which kind of sealed page position `pos` needs. */
static inline enum ingle_page_use ingle_page_use_at(const struct ingle_kv_pool *pool, uint32_t pos)
{
    return pos == 0 && pool->form == INGLE_KV_Q4 ? INGLE_USE_SEALED_FIRST : INGLE_USE_SEALED;
}

#endif
