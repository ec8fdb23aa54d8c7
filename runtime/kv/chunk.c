/* Owns all chunk records, their index and the eviction order. Not: page memory (pool.c), who uses a
 * chunk where (context.c). Invariants: a chunk is in the LRU list exactly when no context refers to
 * it; a parent outlives its children; a closed indexed chunk is the only one with its parent and
 * tokens. Thread: step. */
#include "runtime/kv/chunk.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <xxhash.h>

#include "runtime/base/mem.h"

int ingle_chunk_store_init(struct ingle_chunk_store *store, struct ingle_kv_pool *pool,
                           uint32_t n_chunks, struct ingle_error *err)
{
    uint32_t n_buckets = 1024;

    while (n_buckets < n_chunks) {
        n_buckets *= 2;
    }
    *store = (struct ingle_chunk_store){.pool = pool,
                                        .n_chunks = n_chunks,
                                        .bucket_mask = n_buckets - 1};
    store->slab = ingle_mem_map((uint64_t)n_chunks * sizeof *store->slab);
    store->buckets = ingle_mem_array(n_buckets, sizeof(struct ingle_chunk *));
    if (store->slab == NULL || store->buckets == NULL) {
        ingle_chunk_store_fini(store);
        return ingle_fail(err, -ENOMEM, "no memory for a table of %u chunks", n_chunks);
    }
    if (getrandom(&store->secret, sizeof store->secret, 0) != (ssize_t)sizeof store->secret) {
        ingle_chunk_store_fini(store);
        return ingle_fail(err, -EIO, "getrandom gave no seed for the chunk index");
    }
    store->next_serial = 1;
    store->n_free = n_chunks; /* the slab is taken from its end; freed records go to the list */
    return 0;
}

void ingle_chunk_store_fini(struct ingle_chunk_store *store)
{
    ingle_mem_unmap(store->slab, (uint64_t)store->n_chunks * sizeof *store->slab);
    ingle_mem_free(store->buckets);
    *store = (struct ingle_chunk_store){0};
}

/* Children of one parent that begin alike share a key: the first page, or all of a shorter chunk.
 */
static uint64_t chunk_key(const struct ingle_chunk_store *store, const struct ingle_chunk *parent,
                          uint32_t tenant, const int32_t *tokens, uint32_t n)
{
    uint64_t who[2] = {parent == NULL ? 0 : parent->serial, tenant};
    uint64_t seed = XXH3_64bits_withSeed(who, sizeof who, store->secret);

    return XXH3_64bits_withSeed(tokens,
                                (n < INGLE_PAGE_TOKENS ? n : INGLE_PAGE_TOKENS) * sizeof *tokens,
                                seed + (n < INGLE_PAGE_TOKENS ? n : INGLE_PAGE_TOKENS));
}

static uint32_t common_tokens(const struct ingle_chunk *chunk, const int32_t *tokens, uint32_t n)
{
    uint32_t m = chunk->n_tokens < n ? chunk->n_tokens : n;
    uint32_t i = 0;

    while (i < m && chunk->tokens[i] == tokens[i]) {
        i++;
    }
    return i;
}

static void lru_remove(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    if (chunk->lru_prev != NULL) {
        chunk->lru_prev->lru_next = chunk->lru_next;
    } else {
        store->lru_first = chunk->lru_next;
    }
    if (chunk->lru_next != NULL) {
        chunk->lru_next->lru_prev = chunk->lru_prev;
    } else {
        store->lru_last = chunk->lru_prev;
    }
    chunk->lru_prev = chunk->lru_next = NULL;
}

static void lru_append(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    chunk->lru_prev = store->lru_last;
    chunk->lru_next = NULL;
    if (store->lru_last != NULL) {
        store->lru_last->lru_next = chunk;
    } else {
        store->lru_first = chunk;
    }
    store->lru_last = chunk;
}

static void index_remove(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    struct ingle_chunk **link = &store->buckets[chunk->key & store->bucket_mask];

    while (*link != chunk) {
        ingle_assert(*link != NULL);
        link = &(*link)->bucket_next;
    }
    *link = chunk->bucket_next;
    chunk->bucket_next = NULL;
    chunk->indexed = false;
}

static void index_add(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    struct ingle_chunk **bucket;

    chunk->key = chunk_key(store, chunk->parent, chunk->tenant, chunk->tokens, chunk->n_tokens);
    bucket = &store->buckets[chunk->key & store->bucket_mask];
    chunk->bucket_next = *bucket;
    *bucket = chunk;
    chunk->indexed = true;
}

/* refs == 0, no children, not in the LRU list. */
static void chunk_free(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    struct ingle_chunk *parent = chunk->parent;

    ingle_assert(chunk->refs == 0 && chunk->n_children == 0);
    if (chunk->indexed) {
        index_remove(store, chunk);
    }
    for (uint32_t g = 0; g < store->pool->shape.n_groups; g++) {
        for (uint32_t k = 0; k < INGLE_CHUNK_PAGES; k++) {
            ingle_page_unref(store->pool, chunk->pages[g][k]);
        }
    }
    chunk->bucket_next = store->free_list;
    store->free_list = chunk;
    store->n_free++;
    if (parent != NULL) {
        ingle_assert(parent->n_children > 0);
        parent->n_children--;
    }
}

struct ingle_chunk *ingle_chunk_new(struct ingle_chunk_store *store, struct ingle_chunk *parent,
                                    uint32_t tenant)
{
    struct ingle_chunk *chunk;

    if (store->n_free == 0 && !ingle_chunk_evict(store)) {
        return NULL;
    }
    if (store->free_list != NULL) {
        chunk = store->free_list;
        store->free_list = chunk->bucket_next;
    } else {
        chunk = &store->slab[store->n_free - 1];
    }
    store->n_free--;
    *chunk = (struct ingle_chunk){
        .parent = parent, .serial = store->next_serial++, .tenant = tenant, .refs = 1};
    memset(chunk->pages, 0xff, sizeof chunk->pages);
    if (parent != NULL) {
        parent->n_children++;
    }
    return chunk;
}

void ingle_chunk_ref(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    if (chunk->refs++ == 0) {
        lru_remove(store, chunk);
    }
}

/* An indexed chunk other than `chunk` that begins with the same whole pages or, for a closed chunk,
 * is the same. */
static struct ingle_chunk *find_twin(struct ingle_chunk_store *store,
                                     const struct ingle_chunk *chunk)
{
    uint64_t key = chunk_key(store, chunk->parent, chunk->tenant, chunk->tokens, chunk->n_tokens);

    for (struct ingle_chunk *c = store->buckets[key & store->bucket_mask]; c != NULL;
         c = c->bucket_next) {
        if (c == chunk || c->key != key || c->parent != chunk->parent ||
            c->tenant != chunk->tenant ||
            common_tokens(c, chunk->tokens, chunk->n_tokens) != chunk->n_tokens) {
            continue;
        }
        if (chunk->closed ? c->closed && c->n_tokens == chunk->n_tokens
                          : c->n_sealed >= chunk->n_sealed) {
            return c;
        }
    }
    return NULL;
}

void ingle_chunk_unref(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    ingle_assert(chunk->refs > 0);
    if (--chunk->refs > 0) {
        return;
    }
    if (!chunk->closed) { /* what was not sealed is lost with its context */
        uint32_t whole = chunk->n_sealed;

        chunk->n_tokens = (uint16_t)(whole * INGLE_PAGE_TOKENS);
        for (uint32_t g = 0; g < store->pool->shape.n_groups; g++) {
            for (uint32_t k = whole; k < INGLE_CHUNK_PAGES; k++) {
                ingle_page_unref(store->pool, chunk->pages[g][k]);
                chunk->pages[g][k] = INGLE_PAGE_NONE;
            }
        }
    }
    if (chunk->n_children == 0 &&
        (!chunk->indexed || (!chunk->closed && find_twin(store, chunk) != NULL))) {
        chunk_free(store, chunk);
    } else {
        lru_append(store, chunk);
    }
}

/* Give a twin the windowed pages that it has lost in the meantime. */
static void adopt_pages(struct ingle_chunk_store *store, struct ingle_chunk *twin,
                        const struct ingle_chunk *chunk)
{
    for (uint32_t g = 0; g < store->pool->shape.n_groups; g++) {
        for (uint32_t k = 0; k < INGLE_CHUNK_PAGES; k++) {
            if (twin->pages[g][k] == INGLE_PAGE_NONE && chunk->pages[g][k] != INGLE_PAGE_NONE) {
                ingle_page_ref(store->pool, chunk->pages[g][k]);
                twin->pages[g][k] = chunk->pages[g][k];
            }
        }
    }
}

struct ingle_chunk *ingle_chunk_settle(struct ingle_chunk_store *store, struct ingle_chunk *chunk)
{
    if (chunk->closed) {
        struct ingle_chunk *twin = find_twin(store, chunk);

        if (twin != NULL) {
            adopt_pages(store, twin, chunk);
            ingle_chunk_ref(store, twin);
            if (chunk->indexed) {
                index_remove(store, chunk);
            }
            ingle_chunk_unref(store, chunk);
            return twin;
        }
    }
    if (!chunk->indexed && (chunk->closed || chunk->n_sealed > 0)) {
        index_add(store, chunk);
    }
    return chunk;
}

struct ingle_chunk *ingle_chunk_match(struct ingle_chunk_store *store, struct ingle_chunk *parent,
                                      uint32_t tenant, const int32_t *tokens, uint32_t n,
                                      uint32_t n_exact, uint32_t *ret_tokens)
{
    uint32_t n_key = n_exact != 0 ? n_exact : n;
    struct ingle_chunk *best = NULL;
    uint32_t best_tokens = 0;
    uint64_t key;

    if (n_key == 0 || (n_exact == 0 && n < INGLE_PAGE_TOKENS)) {
        return NULL;
    }
    key = chunk_key(store, parent, tenant, tokens, n_key);
    for (struct ingle_chunk *c = store->buckets[key & store->bucket_mask]; c != NULL;
         c = c->bucket_next) {
        uint32_t common, whole;

        if (c->key != key || c->parent != parent || c->tenant != tenant) {
            continue;
        }
        common = common_tokens(c, tokens, n);
        if (n_exact != 0 && c->closed && c->n_tokens == n_exact && common == n_exact) {
            *ret_tokens = n_exact;
            return c;
        }
        whole = common / INGLE_PAGE_TOKENS;
        if (whole > c->n_sealed) {
            whole = c->n_sealed;
        }
        if (whole * INGLE_PAGE_TOKENS > best_tokens) {
            best = c;
            best_tokens = whole * INGLE_PAGE_TOKENS;
        }
    }
    *ret_tokens = best_tokens;
    return best;
}

bool ingle_chunk_evict(struct ingle_chunk_store *store)
{
    for (struct ingle_chunk *c = store->lru_first; c != NULL; c = c->lru_next) {
        if (c->n_children == 0) {
            lru_remove(store, c);
            chunk_free(store, c);
            store->n_evicted++;
            return true;
        }
    }
    return false;
}
