/* Chunks: what is matched, shared and evicted. A trie of canonical nodes: a chunk's parent is the
 * chunk before it, and two closed chunks with the same parent and tokens are merged, so identity
 * never rests on a hash: a hash only finds candidates, token ids decide (KV.md 2.1).
 *
 * A growing chunk belongs to one context; its sealed whole pages can be matched as soon as they
 * exist. A closed chunk never changes. Every tenant has its own roots and hash seed, so a foreign
 * probe is an ordinary miss. Thread: step. */
#ifndef INGLE_RUNTIME_KV_CHUNK_H
#define INGLE_RUNTIME_KV_CHUNK_H
#include "runtime/kv/cut.h"
#include "runtime/kv/pool.h"

#define INGLE_CHUNK_PAGES (INGLE_CHUNK_TOKENS / INGLE_PAGE_TOKENS)

struct ingle_chunk {
    struct ingle_chunk *parent; /* NULL at position 0; counted in its n_children */
    uint64_t serial;            /* never reused: part of the children's key */
    uint64_t key;
    uint64_t needed_epoch; /* mark of the last sweep that found it inside a window */
    struct ingle_chunk *bucket_next;
    struct ingle_chunk *lru_prev, *lru_next; /* linked while refs == 0 */
    uint32_t tenant;
    uint32_t refs; /* contexts that list it */
    uint32_t n_children;
    uint16_t n_tokens;
    uint8_t n_sealed; /* pages whose bytes are final */
    bool closed, indexed;
    uint32_t pages[INGLE_GROUPS_MAX][INGLE_CHUNK_PAGES]; /* a reference each, or INGLE_PAGE_NONE */
    int32_t tokens[INGLE_CHUNK_TOKENS];
};

struct ingle_chunk_store {
    struct ingle_kv_pool *pool;
    struct ingle_chunk *slab, *free_list; /* through bucket_next */
    uint32_t n_chunks, n_free;
    struct ingle_chunk **buckets;
    uint32_t bucket_mask;
    uint64_t next_serial, secret;
    struct ingle_chunk *lru_first, *lru_last; /* first = least recently used */
    uint64_t n_evicted, epoch;
};

int ingle_chunk_store_init(struct ingle_chunk_store *store, struct ingle_kv_pool *pool,
                           uint32_t n_chunks, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_chunk_store_fini(struct ingle_chunk_store *store);

/* A growing chunk behind `parent`, with one reference, or NULL when all are in use. */
struct ingle_chunk *ingle_chunk_new(struct ingle_chunk_store *store, struct ingle_chunk *parent,
                                    uint32_t tenant);
void ingle_chunk_ref(struct ingle_chunk_store *store, struct ingle_chunk *chunk);
/* Drop a context's reference. What nobody can match any more is freed, the rest waits in LRU order.
 */
void ingle_chunk_unref(struct ingle_chunk_store *store, struct ingle_chunk *chunk);

/* n_sealed or closed has changed: make the chunk findable, or merge it. Returns the canonical
 * chunk: `chunk` itself, or an older twin whose reference the caller now holds instead. */
struct ingle_chunk *ingle_chunk_settle(struct ingle_chunk_store *store, struct ingle_chunk *chunk);

/* The best match for `tokens` behind `parent`: a closed chunk of exactly n_exact tokens (n_exact 0:
 * none wanted), else the one with the longest common run of whole pages within n tokens. NULL: no
 * match. *ret_tokens is how many tokens match. No reference is taken. */
struct ingle_chunk *ingle_chunk_match(struct ingle_chunk_store *store, struct ingle_chunk *parent,
                                      uint32_t tenant, const int32_t *tokens, uint32_t n,
                                      uint32_t n_exact, uint32_t *ret_tokens);

/* Free the least recently used chunk that no context and no child needs. False: there is none. */
bool ingle_chunk_evict(struct ingle_chunk_store *store);

#endif
