/* A context: a list of (chunk, base position), the tokens it stands for, and the spans that tell
 * the attention kernel where each page is. It grows at its end only: plan() takes tokens in and
 * marks which pages the coming step seals, commit() makes that final once the step has run.
 *
 * The sealing rule (KV.md 0.3): a page is open until it is full or its chunk ends, then sealed.
 * Chunk borders depend on the tokens alone (cut.h), so neither do the pages depend on how a prompt
 * was split into steps. Thread: step. Nothing here allocates after init. */
#ifndef INGLE_RUNTIME_KV_CONTEXT_H
#define INGLE_RUNTIME_KV_CONTEXT_H
#include "runtime/kv/chunk.h"

struct ingle_context_entry {
    struct ingle_chunk *chunk;
    uint32_t base;  /* position of the chunk's first token */
    uint32_t span0; /* index of its first span */
};

struct ingle_context {
    uint32_t tenant;
    uint32_t n_tokens;
    uint32_t n_committed; /* tokens whose step has run */
    uint32_t n_entries, n_spans;
    uint32_t entry_settled;                        /* entries before it are final */
    uint32_t span_sealed;                          /* spans before it hold no open page */
    struct ingle_cut cut;                          /* of the last chunk, while it grows */
    bool growing;                                  /* the last entry's chunk is not closed */
    int32_t *tokens;                               /* [tokens_max] */
    struct ingle_context_entry *entries;           /* [entries_max] */
    struct ingle_kv_span *spans[INGLE_GROUPS_MAX]; /* [spans_max] */
    uint32_t *open_pages[INGLE_GROUPS_MAX];        /* [spans_max], parallel to spans */
};

/* Contexts of one engine, and what they share. */
struct ingle_context_set {
    struct ingle_kv_pool *pool;
    struct ingle_chunk_store *store;
    uint32_t n_contexts, tokens_max, entries_max, spans_max;
    uint32_t window[INGLE_GROUPS_MAX]; /* tokens; 0 = everything stays visible */
    struct ingle_context *contexts;    /* [n_contexts]; storage inside `memory` */
    bool *in_use;
    uint8_t *memory;
    uint64_t memory_bytes;
};

int ingle_context_set_init(struct ingle_context_set *set, struct ingle_kv_pool *pool,
                           struct ingle_chunk_store *store, uint32_t n_contexts,
                           uint32_t tokens_max, const uint32_t window[INGLE_GROUPS_MAX],
                           struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_context_set_fini(struct ingle_context_set *set);

/* An empty context, or NULL when all are in use. */
struct ingle_context *ingle_context_open(struct ingle_context_set *set, uint32_t tenant);
void ingle_context_close(struct ingle_context_set *set, struct ingle_context *ctx);
/* A copy: sealed pages are shared, the open page is copied. NULL: no context or page left. */
struct ingle_context *ingle_context_fork(struct ingle_context_set *set,
                                         const struct ingle_context *ctx, uint32_t tenant);

/* Which tokens start a new chunk (ingle_tokenizer_is_structural behind a plain function). */
typedef bool ingle_structural_fn(const void *arg, int32_t token);

/* An empty context takes over what is known of the prompt: the longest chain of sealed pages that
 * holds at most n - 1 of its tokens. Returns how many tokens that is. */
uint32_t ingle_context_adopt(struct ingle_context_set *set, struct ingle_context *ctx,
                             const int32_t *tokens, uint32_t n, ingle_structural_fn *structural,
                             const void *arg);

/* Take in up to n tokens; fewer when pages run out (0: none at all). They become the last rows of
 * the next step: position of the first = the old n_tokens. */
uint32_t ingle_context_plan(struct ingle_context_set *set, struct ingle_context *ctx,
                            const int32_t *tokens, uint32_t n, ingle_structural_fn *structural,
                            const void *arg);
/* The planned step has run: release sealed open pages, publish chunks. */
void ingle_context_commit(struct ingle_context_set *set, struct ingle_context *ctx);

/* The kernel's view of the last n_rows tokens, for one layer group. Valid until the next plan. */
struct ingle_kv_seq ingle_context_view(const struct ingle_context *ctx, uint32_t group,
                                       uint32_t row0, uint32_t n_rows);

/* Free pages under pressure: least recently used chunks first, then pages of running contexts that
 * have left the window. True when something was freed. */
bool ingle_context_reclaim(struct ingle_context_set *set);

#endif
