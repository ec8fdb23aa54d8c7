/* Owns the memory of all KV pages of an engine and their free lists and counts. Not: which page
 * belongs to which text (chunk.c, context.c). Invariant: a page is on its slab's free list exactly
 * when its reference count is zero. Thread: step; creation and warming on load. */
#include "runtime/kv/pool.h"

#include <errno.h>

#include "runtime/base/mem.h"

static void slab_fill(struct ingle_kv_pool *pool, struct ingle_page_slab *slab, uint8_t slab_id,
                      enum ingle_kv_form form)
{
    slab->free_head = INGLE_PAGE_NONE;
    slab->n_free = slab->n_pages;
    for (uint32_t i = slab->n_pages; i-- > 0;) {
        struct ingle_page_info *page = &pool->pages[slab->first + i];

        page->mem = slab->mem + (uint64_t)i * slab->page_bytes;
        page->slab = slab_id;
        page->form = (uint8_t)form;
        page->next_free = slab->free_head;
        slab->free_head = slab->first + i;
    }
}

static enum ingle_kv_form use_form(const struct ingle_kv_pool *pool, uint32_t use)
{
    return use == INGLE_USE_OPEN     ? INGLE_KV_OPEN
           : use == INGLE_USE_SEALED ? pool->form
                                     : INGLE_KV_Q8;
}

/* How many pages of each kind kv_bytes buys. Groups share in proportion to their page size, so each
 * holds the same number of tokens. */
static int plan_slabs(struct ingle_kv_pool *pool, uint64_t kv_bytes, uint32_t n_open,
                      struct ingle_error *err)
{
    uint64_t unit[INGLE_USE_COUNT] = {0};
    uint64_t open_bytes, left;
    uint32_t n_first = 0, n_sealed;

    for (uint32_t g = 0; g < pool->shape.n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            struct ingle_page_slab *slab = &pool->slabs[g][u];

            slab->page_bytes =
                ingle_kv_layer_bytes(use_form(pool, u), pool->shape.Hk, pool->shape.D) *
                pool->shape.group_layers[g];
            unit[u] += slab->page_bytes;
        }
    }
    ingle_assert(unit[INGLE_USE_OPEN] != 0 && unit[INGLE_USE_SEALED] != 0);
    ingle_assert(pool->form != INGLE_KV_Q4 || unit[INGLE_USE_SEALED_FIRST] != 0);
    open_bytes = kv_bytes / 3;
    if ((uint64_t)n_open * unit[INGLE_USE_OPEN] > open_bytes) {
        n_open = (uint32_t)(open_bytes / unit[INGLE_USE_OPEN]);
    }
    left = kv_bytes - (uint64_t)n_open * unit[INGLE_USE_OPEN];
    if (pool->form == INGLE_KV_Q4) { /* an eighth for first pages: one per distinct beginning */
        n_first = (uint32_t)(left / 8 / unit[INGLE_USE_SEALED_FIRST]);
        left -= (uint64_t)n_first * unit[INGLE_USE_SEALED_FIRST];
    }
    n_sealed = (uint32_t)(left / unit[INGLE_USE_SEALED]);
    if (n_open < 4 || n_sealed < 8 || (pool->form == INGLE_KV_Q4 && n_first < 2)) {
        return ingle_fail_kind(
            err, INGLE_ERR_REFUSED, -ENOMEM,
            "a KV budget of %llu MiB is too small for this model: one page of %u tokens "
            "takes %llu KiB open and %llu KiB sealed. Give it more (kv_bytes)",
            (unsigned long long)(kv_bytes >> 20), INGLE_PAGE_TOKENS,
            (unsigned long long)(unit[INGLE_USE_OPEN] >> 10),
            (unsigned long long)(unit[INGLE_USE_SEALED] >> 10));
    }
    for (uint32_t g = 0; g < pool->shape.n_groups; g++) {
        pool->slabs[g][INGLE_USE_OPEN].n_pages = n_open;
        pool->slabs[g][INGLE_USE_SEALED].n_pages = n_sealed;
        pool->slabs[g][INGLE_USE_SEALED_FIRST].n_pages = n_first;
    }
    return 0;
}

int ingle_kv_pool_init(struct ingle_kv_pool *pool, struct ingle_backend *backend,
                       const struct ingle_kv_shape *shape, uint8_t kv_bits, uint64_t kv_bytes,
                       uint32_t n_open, struct ingle_error *err)
{
    int r;

    *pool = (struct ingle_kv_pool){.backend = backend, .shape = *shape};
    pool->form = kv_bits == 16 ? INGLE_KV_F16 : kv_bits == 8 ? INGLE_KV_Q8 : INGLE_KV_Q4;
    r = plan_slabs(pool, kv_bytes, n_open, err);
    if (r < 0) {
        return r;
    }
    for (uint32_t g = 0; g < shape->n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            pool->slabs[g][u].first = pool->n_pages;
            pool->n_pages += pool->slabs[g][u].n_pages;
        }
    }
    pool->pages = ingle_mem_array(pool->n_pages, sizeof *pool->pages);
    if (pool->pages == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for a table of %u KV pages", pool->n_pages);
    }
    for (uint32_t g = 0; g < shape->n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            struct ingle_page_slab *slab = &pool->slabs[g][u];

            if (slab->n_pages == 0) {
                continue;
            }
            slab->bytes = slab->page_bytes * slab->n_pages;
            slab->mem = backend->ops->alloc(backend, INGLE_SPACE_DEVICE, slab->bytes);
            if (slab->mem == NULL) {
                ingle_kv_pool_fini(pool);
                return ingle_fail(err, -ENOMEM, "no memory for %llu MiB of KV pages",
                                  (unsigned long long)(slab->bytes >> 20));
            }
            pool->bytes += slab->bytes;
            slab_fill(pool, slab, (uint8_t)(g * INGLE_USE_COUNT + u), use_form(pool, u));
        }
    }
    return 0;
}

void ingle_kv_pool_fini(struct ingle_kv_pool *pool)
{
    for (uint32_t g = 0; g < pool->shape.n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            struct ingle_page_slab *slab = &pool->slabs[g][u];

            if (slab->mem != NULL) {
                pool->backend->ops->free(pool->backend, INGLE_SPACE_DEVICE, slab->mem, slab->bytes);
            }
        }
    }
    ingle_mem_free(pool->pages);
    *pool = (struct ingle_kv_pool){0};
}

bool ingle_kv_pool_warm(struct ingle_kv_pool *pool)
{
    const uint64_t step = UINT64_C(2) << 20;
    uint32_t n_slabs = pool->shape.n_groups * INGLE_USE_COUNT;

    while (pool->warm.n_slabs < n_slabs) {
        /* Sealed pages first: all of them come into use, open ones again and again the same. */
        uint32_t use = INGLE_USE_COUNT - 1 - pool->warm.n_slabs / pool->shape.n_groups;
        struct ingle_page_slab *slab = &pool->slabs[pool->warm.n_slabs % pool->shape.n_groups][use];
        uint64_t at = pool->warm.bytes, left = slab->bytes - at;

        if (left == 0) {
            pool->warm.n_slabs++;
            pool->warm.bytes = 0;
            continue;
        }
        left = left < step ? left : step;
        pool->warm.bytes += left;
        if (pool->backend->ops->populate(pool->backend, slab->mem + at, left)) {
            return true;
        }
        pool->warm.n_slabs = n_slabs; /* then it will not be given elsewhere either */
    }
    return false;
}

static struct ingle_page_slab *slab_of(struct ingle_kv_pool *pool, uint32_t page)
{
    uint32_t id = pool->pages[page].slab;

    return &pool->slabs[id / INGLE_USE_COUNT][id % INGLE_USE_COUNT];
}

static void count_used(struct ingle_kv_pool *pool, int64_t delta_bytes)
{
    uint64_t used = atomic_load_explicit(&pool->bytes_used, memory_order_relaxed);

    atomic_store_explicit(&pool->bytes_used, used + (uint64_t)delta_bytes, memory_order_relaxed);
}

uint32_t ingle_page_take(struct ingle_kv_pool *pool, uint32_t group, enum ingle_page_use use)
{
    struct ingle_page_slab *slab = &pool->slabs[group][use];
    uint32_t page = slab->free_head;

    if (slab->n_free == 0) {
        return INGLE_PAGE_NONE;
    }
    ingle_assert(pool->pages[page].refs == 0);
    slab->free_head = pool->pages[page].next_free;
    slab->n_free--;
    pool->pages[page].refs = 1;
    count_used(pool, (int64_t)slab->page_bytes);
    return page;
}

void ingle_page_ref(struct ingle_kv_pool *pool, uint32_t page)
{
    ingle_assert(pool->pages[page].refs > 0);
    pool->pages[page].refs++;
}

void ingle_page_unref(struct ingle_kv_pool *pool, uint32_t page)
{
    struct ingle_page_slab *slab;

    if (page == INGLE_PAGE_NONE) {
        return;
    }
    ingle_assert(pool->pages[page].refs > 0);
    if (--pool->pages[page].refs > 0) {
        return;
    }
    slab = slab_of(pool, page);
    pool->pages[page].next_free = slab->free_head;
    slab->free_head = page;
    slab->n_free++;
    count_used(pool, -(int64_t)slab->page_bytes);
}
