/* Owns the contexts' lists: entries, spans, tokens, open pages. Pages of sealed spans belong to the
 * chunks of the entries. Invariants: spans cover 0..n_tokens without a gap; only spans from
 * span_sealed on have an open page; only the last entry may be growing. Thread: step. */
#include "runtime/kv/context.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/carve.h"
#include "runtime/base/mem.h"

/* Lay the arrays of all contexts into one mapping (at = NULL only counts). */
static uint64_t lay_out(struct ingle_context_set *set, uint8_t *memory)
{
    uint8_t *at = memory;

    for (uint32_t i = 0; i < set->n_contexts; i++) {
        struct ingle_context dummy = {0}, *c = memory == NULL ? &dummy : &set->contexts[i];

        c->tokens = ingle_carve(&at, (uint64_t)set->tokens_max * sizeof *c->tokens);
        c->entries = ingle_carve(&at, (uint64_t)set->entries_max * sizeof *c->entries);
        for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
            c->spans[g] = ingle_carve(&at, (uint64_t)set->spans_max * sizeof *c->spans[g]);
            c->open_pages[g] =
                ingle_carve(&at, (uint64_t)set->spans_max * sizeof *c->open_pages[g]);
        }
    }
    return (uint64_t)(at - memory);
}

int ingle_context_set_init(struct ingle_context_set *set, struct ingle_kv_pool *pool,
                           struct ingle_chunk_store *store, uint32_t n_contexts,
                           uint32_t tokens_max, const uint32_t window[INGLE_GROUPS_MAX],
                           struct ingle_error *err)
{
    *set = (struct ingle_context_set){
        .pool = pool, .store = store, .n_contexts = n_contexts, .tokens_max = tokens_max};
    memcpy(set->window, window, sizeof set->window);
    set->entries_max = tokens_max / INGLE_CUT_STRUCT_MIN + 2;
    set->spans_max = tokens_max / INGLE_CUT_STRUCT_MIN + tokens_max / INGLE_PAGE_TOKENS + 2;
    set->contexts = ingle_mem_array(n_contexts, sizeof *set->contexts);
    set->in_use = ingle_mem_array(n_contexts, sizeof *set->in_use);
    set->memory_bytes = lay_out(set, NULL);
    set->memory = ingle_mem_map(set->memory_bytes); /* touched as contexts grow */
    if (set->contexts == NULL || set->in_use == NULL || set->memory == NULL) {
        ingle_context_set_fini(set);
        return ingle_fail(err, -ENOMEM, "no memory for %u contexts of %u tokens", n_contexts,
                          tokens_max);
    }
    (void)lay_out(set, set->memory);
    return 0;
}

void ingle_context_set_fini(struct ingle_context_set *set)
{
    ingle_mem_free(set->contexts);
    ingle_mem_free(set->in_use);
    ingle_mem_unmap(set->memory, set->memory_bytes);
    *set = (struct ingle_context_set){0};
}

struct ingle_context *ingle_context_open(struct ingle_context_set *set, uint32_t tenant)
{
    for (uint32_t i = 0; i < set->n_contexts; i++) {
        struct ingle_context *c = &set->contexts[i];

        if (!set->in_use[i]) {
            set->in_use[i] = true;
            c->tenant = tenant;
            c->n_tokens = c->n_committed = c->n_entries = c->n_spans = c->entry_settled =
                c->span_sealed = 0;
            c->growing = false;
            ingle_cut_reset(&c->cut);
            return c;
        }
    }
    return NULL;
}

static void release_open(struct ingle_context_set *set, struct ingle_context *ctx, uint32_t span)
{
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        ingle_page_unref(set->pool, ctx->open_pages[g][span]);
        ctx->open_pages[g][span] = INGLE_PAGE_NONE;
        ctx->spans[g][span].open = NULL;
        ctx->spans[g][span].seal = 0;
    }
}

void ingle_context_close(struct ingle_context_set *set, struct ingle_context *ctx)
{
    uint32_t i = (uint32_t)(ctx - set->contexts);

    ingle_assert(i < set->n_contexts && set->in_use[i]);
    for (uint32_t s = ctx->span_sealed; s < ctx->n_spans; s++) {
        release_open(set, ctx, s);
    }
    while (ctx->n_entries > 0) { /* from the end: leaves become the least recently used */
        ingle_chunk_unref(set->store, ctx->entries[--ctx->n_entries].chunk);
    }
    set->in_use[i] = false;
}

/* Begin an entry behind the last one. `chunk` comes with the reference that the entry will hold. */
static struct ingle_context_entry *push_entry(struct ingle_context_set *set,
                                              struct ingle_context *ctx, struct ingle_chunk *chunk,
                                              uint32_t base)
{
    struct ingle_context_entry *e = &ctx->entries[ctx->n_entries];

    ingle_assert(ctx->n_entries < set->entries_max);
    *e = (struct ingle_context_entry){.chunk = chunk, .base = base, .span0 = ctx->n_spans};
    ctx->n_entries++;
    return e;
}

/* Append the span of a sealed page k of the entry's chunk. */
static void push_sealed_span(struct ingle_context_set *set, struct ingle_context *ctx,
                             const struct ingle_context_entry *e, uint32_t k, uint32_t n_tokens)
{
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        uint32_t page = e->chunk->pages[g][k];
        const struct ingle_page_info *info =
            page == INGLE_PAGE_NONE ? NULL : &set->pool->pages[page];

        ctx->spans[g][ctx->n_spans] = (struct ingle_kv_span){
            .sealed = info == NULL ? NULL : info->mem,
            .base = e->base,
            .first = k * INGLE_PAGE_TOKENS,
            .n_tokens = (uint16_t)n_tokens,
            .form = info == NULL ? (uint8_t)set->pool->form : info->form,
        };
        ctx->open_pages[g][ctx->n_spans] = INGLE_PAGE_NONE;
    }
    ctx->n_spans++;
}

/* A page from the pool, reclaiming while that helps. */
static uint32_t take_page(struct ingle_context_set *set, uint32_t group, enum ingle_page_use use)
{
    uint32_t page = ingle_page_take(set->pool, group, use);

    while (page == INGLE_PAGE_NONE && use != INGLE_USE_OPEN && ingle_context_reclaim(set)) {
        page = ingle_page_take(set->pool, group, use);
    }
    return page;
}

/* Take an open and a sealed page in every group for page k of `chunk` and append their span. The
 * sealed page is reserved now, so that sealing cannot fail later. */
static bool push_open_span(struct ingle_context_set *set, struct ingle_context *ctx,
                           const struct ingle_context_entry *e, uint32_t k)
{
    uint32_t n_groups = set->pool->shape.n_groups;
    uint32_t open[INGLE_GROUPS_MAX], sealed[INGLE_GROUPS_MAX];
    uint32_t pos = e->base + k * INGLE_PAGE_TOKENS;
    bool ok = true;

    for (uint32_t g = 0; g < n_groups; g++) {
        open[g] = take_page(set, g, INGLE_USE_OPEN);
        sealed[g] = take_page(set, g, ingle_page_use_at(set->pool, pos));
        ok = ok && open[g] != INGLE_PAGE_NONE && sealed[g] != INGLE_PAGE_NONE;
    }
    for (uint32_t g = 0; g < n_groups; g++) {
        if (!ok) {
            ingle_page_unref(set->pool, open[g]);
            ingle_page_unref(set->pool, sealed[g]);
            continue;
        }
        e->chunk->pages[g][k] = sealed[g];
        ctx->open_pages[g][ctx->n_spans] = open[g];
        ctx->spans[g][ctx->n_spans] = (struct ingle_kv_span){
            .open = set->pool->pages[open[g]].mem,
            .sealed = set->pool->pages[sealed[g]].mem,
            .base = e->base,
            .first = k * INGLE_PAGE_TOKENS,
            .form = set->pool->pages[sealed[g]].form,
        };
    }
    ctx->n_spans += ok ? 1 : 0;
    return ok;
}

static void mark_seal(struct ingle_context_set *set, struct ingle_context *ctx, uint32_t span)
{
    if (span < ctx->span_sealed) {
        return; /* a full page that an earlier step sealed, or one taken over */
    }
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        ctx->spans[g][span].seal = 1;
    }
}

/* End the growing chunk: its last page, however short, is sealed by the coming step. */
static void end_chunk(struct ingle_context_set *set, struct ingle_context *ctx)
{
    struct ingle_chunk *chunk = ctx->entries[ctx->n_entries - 1].chunk;

    ingle_assert(ctx->growing && chunk->n_tokens > 0);
    mark_seal(set, ctx, ctx->n_spans - 1);
    chunk->closed = true;
    ctx->growing = false;
    ingle_cut_reset(&ctx->cut);
}

uint32_t ingle_context_plan(struct ingle_context_set *set, struct ingle_context *ctx,
                            const int32_t *tokens, uint32_t n, ingle_structural_fn *structural,
                            const void *arg)
{
    uint32_t i;

    for (i = 0; i < n && ctx->n_tokens < set->tokens_max; i++) {
        struct ingle_context_entry *e;
        struct ingle_chunk *chunk;

        if (ctx->growing && ingle_cut_before(&ctx->cut, structural(arg, tokens[i]))) {
            end_chunk(set, ctx);
        }
        if (!ctx->growing) {
            struct ingle_chunk *parent =
                ctx->n_entries == 0 ? NULL : ctx->entries[ctx->n_entries - 1].chunk;

            chunk = ingle_chunk_new(set->store, parent, ctx->tenant);
            if (chunk == NULL) {
                break;
            }
            (void)push_entry(set, ctx, chunk, ctx->n_tokens);
            ctx->growing = true;
        }
        e = &ctx->entries[ctx->n_entries - 1];
        chunk = e->chunk;
        if (chunk->n_tokens % INGLE_PAGE_TOKENS == 0 &&
            !push_open_span(set, ctx, e, chunk->n_tokens / INGLE_PAGE_TOKENS)) {
            if (chunk->n_tokens == 0) { /* an entry without a page: take it back */
                ctx->n_entries--;
                ctx->growing = false;
                ingle_chunk_unref(set->store, chunk);
            }
            break;
        }
        ctx->tokens[ctx->n_tokens++] = tokens[i];
        chunk->tokens[chunk->n_tokens++] = tokens[i];
        for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
            ctx->spans[g][ctx->n_spans - 1].n_tokens++;
        }
        if (ingle_cut_after(&ctx->cut, tokens[i])) {
            end_chunk(set, ctx);
        } else if (chunk->n_tokens % INGLE_PAGE_TOKENS == 0) {
            mark_seal(set, ctx, ctx->n_spans - 1);
        }
    }
    return i;
}

/* The chunk of an entry was merged into a twin: the same bytes at other addresses. */
static void repoint_entry(struct ingle_context_set *set, struct ingle_context *ctx, uint32_t entry)
{
    const struct ingle_context_entry *e = &ctx->entries[entry];
    uint32_t end = entry + 1 < ctx->n_entries ? ctx->entries[entry + 1].span0 : ctx->n_spans;

    for (uint32_t s = e->span0; s < end; s++) {
        for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
            uint32_t page = e->chunk->pages[g][s - e->span0];

            ctx->spans[g][s].sealed = page == INGLE_PAGE_NONE ? NULL : set->pool->pages[page].mem;
        }
    }
    if (entry + 1 < ctx->n_entries) { /* not indexed yet: it was begun after this one was closed */
        struct ingle_chunk *child = ctx->entries[entry + 1].chunk;

        ingle_assert(!child->indexed);
        child->parent->n_children--;
        child->parent = e->chunk;
        e->chunk->n_children++;
    }
}

void ingle_context_commit(struct ingle_context_set *set, struct ingle_context *ctx)
{
    for (uint32_t s = ctx->span_sealed; s < ctx->n_spans; s++) {
        if (ctx->spans[0][s].seal != 0) {
            ingle_assert(s == ctx->span_sealed);
            release_open(set, ctx, s);
            ctx->span_sealed++;
        }
    }
    for (uint32_t i = ctx->entry_settled; i < ctx->n_entries; i++) {
        struct ingle_context_entry *e = &ctx->entries[i];
        uint32_t end = i + 1 < ctx->n_entries ? ctx->entries[i + 1].span0 : ctx->n_spans;
        struct ingle_chunk *old = e->chunk, *settled;

        old->n_sealed = (uint8_t)((end < ctx->span_sealed ? end : ctx->span_sealed) - e->span0);
        /* settle() may free `old`; its child's parent link is moved before that can matter, because
         * a chunk with children is not freed */
        settled = ingle_chunk_settle(set->store, old);
        if (settled != old) {
            e->chunk = settled;
            repoint_entry(set, ctx, i);
        }
        if (settled->closed) {
            ctx->entry_settled = i + 1;
        }
    }
    ctx->n_committed = ctx->n_tokens;
}

/* Length of the chunk that starts at tokens[0]; *ret_closed: whether it ends there for good (the
 * end of a prompt is not a border). */
static uint32_t next_chunk(const int32_t *tokens, uint32_t n, ingle_structural_fn *structural,
                           const void *arg, bool *ret_closed)
{
    struct ingle_cut cut = {0};

    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && ingle_cut_before(&cut, structural(arg, tokens[i]))) {
            *ret_closed = true;
            return i;
        }
        if (ingle_cut_after(&cut, tokens[i])) {
            *ret_closed = true;
            return i + 1;
        }
    }
    *ret_closed = false;
    return n;
}

/* Append an entry over `chunk` (its reference is taken over) with n tokens in sealed pages. */
static void push_known(struct ingle_context_set *set, struct ingle_context *ctx,
                       struct ingle_chunk *chunk, const int32_t *tokens, uint32_t n)
{
    const struct ingle_context_entry *e = push_entry(set, ctx, chunk, ctx->n_tokens);

    for (uint32_t at = 0; at < n; at += INGLE_PAGE_TOKENS) {
        uint32_t left = n - at;

        push_sealed_span(set, ctx, e, at / INGLE_PAGE_TOKENS,
                         left < INGLE_PAGE_TOKENS ? left : INGLE_PAGE_TOKENS);
    }
    memcpy(ctx->tokens + ctx->n_tokens, tokens, n * sizeof *tokens);
    ctx->n_tokens += n;
    ctx->span_sealed = ctx->n_spans;
}

/* Go on inside a chunk of which only whole leading pages are known: a chunk of our own that shares
 * these pages. */
static bool push_partial(struct ingle_context_set *set, struct ingle_context *ctx,
                         struct ingle_chunk *parent, struct ingle_chunk *known,
                         const int32_t *tokens, uint32_t n)
{
    struct ingle_chunk *chunk;
    bool closed = false;

    ingle_chunk_ref(set->store, known); /* making room for the new one must not evict it */
    chunk = ingle_chunk_new(set->store, parent, ctx->tenant);
    if (chunk == NULL) {
        ingle_chunk_unref(set->store, known);
        return false;
    }
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        for (uint32_t k = 0; k < n / INGLE_PAGE_TOKENS; k++) {
            if (known->pages[g][k] != INGLE_PAGE_NONE) {
                ingle_page_ref(set->pool, known->pages[g][k]);
                chunk->pages[g][k] = known->pages[g][k];
            }
        }
    }
    ingle_chunk_unref(set->store, known);
    memcpy(chunk->tokens, tokens, n * sizeof *tokens);
    chunk->n_tokens = (uint16_t)n;
    chunk->n_sealed = (uint8_t)(n / INGLE_PAGE_TOKENS);
    push_known(set, ctx, chunk, tokens, n);
    for (uint32_t i = 0; i < n; i++) {
        closed = ingle_cut_after(&ctx->cut, tokens[i]);
    }
    if (closed) {
        chunk->closed = true;
        ingle_cut_reset(&ctx->cut);
    } else {
        ctx->growing = true;
    }
    return true;
}

static void pop_entry(struct ingle_context_set *set, struct ingle_context *ctx)
{
    struct ingle_context_entry *e = &ctx->entries[--ctx->n_entries];

    ctx->n_tokens = e->base;
    ctx->n_spans = ctx->span_sealed = e->span0;
    ctx->growing = false;
    ingle_cut_reset(&ctx->cut);
    ingle_chunk_unref(set->store, e->chunk);
}

/* Are all pages that the next query can see still there? (Windowed ones may have been freed.) */
static bool window_complete(const struct ingle_context_set *set, const struct ingle_context *ctx)
{
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        for (uint32_t s = ctx->n_spans; s-- > 0;) {
            const struct ingle_kv_span *span = &ctx->spans[g][s];
            uint32_t end = span->base + span->first + span->n_tokens;

            if (set->window[g] != 0 && end + set->window[g] <= ctx->n_tokens + 1) {
                break;
            }
            if (span->sealed == NULL) {
                return false;
            }
        }
    }
    return true;
}

uint32_t ingle_context_adopt(struct ingle_context_set *set, struct ingle_context *ctx,
                             const int32_t *tokens, uint32_t n, ingle_structural_fn *structural,
                             const void *arg)
{
    struct ingle_chunk *parent = NULL;
    uint32_t limit = n == 0 ? 0 : n - 1; /* somebody has to compute the last row */

    ingle_assert(ctx->n_tokens == 0);
    if (limit > set->tokens_max) {
        limit = set->tokens_max;
    }
    while (ctx->n_tokens < limit) {
        const int32_t *rest = tokens + ctx->n_tokens;
        uint32_t left = limit - ctx->n_tokens, n_match = 0, chunk_tokens;
        struct ingle_chunk *known;
        bool closed, whole;

        chunk_tokens = next_chunk(rest, n - ctx->n_tokens, structural, arg, &closed);
        whole = closed && chunk_tokens <= left;
        known = ingle_chunk_match(set->store, parent, ctx->tenant, rest,
                                  chunk_tokens < left ? chunk_tokens : left,
                                  whole ? chunk_tokens : 0, &n_match);
        if (known == NULL) {
            break;
        }
        if (!whole || n_match < chunk_tokens || !known->closed || known->n_tokens != chunk_tokens) {
            (void)push_partial(set, ctx, parent, known, rest, n_match);
            break;
        }
        ingle_chunk_ref(set->store, known);
        push_known(set, ctx, known, rest, n_match);
        parent = known;
    }
    while (ctx->n_entries > 0 && !window_complete(set, ctx)) {
        pop_entry(set, ctx);
    }
    ctx->entry_settled = 0; /* the next commit looks at all: a taken-over chunk settles as itself */
    ctx->n_committed = ctx->n_tokens;
    return ctx->n_tokens;
}

/* The fork's own copy of a growing chunk: sealed pages shared, room for the rest. */
static bool fork_growing(struct ingle_context_set *set, struct ingle_context *dst,
                         const struct ingle_context *src)
{
    struct ingle_context_entry *e = &dst->entries[dst->n_entries - 1];
    const struct ingle_chunk *old = src->entries[src->n_entries - 1].chunk;
    struct ingle_chunk *chunk = ingle_chunk_new(set->store, old->parent, dst->tenant);
    uint32_t open_span = src->n_spans - 1;

    if (chunk == NULL) {
        dst->n_entries--;
        return false;
    }
    e->chunk = chunk;
    memcpy(chunk->tokens, old->tokens, sizeof chunk->tokens);
    chunk->n_tokens = old->n_tokens;
    chunk->n_sealed = old->n_sealed;
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        for (uint32_t k = 0; k < old->n_sealed; k++) {
            if (old->pages[g][k] != INGLE_PAGE_NONE) {
                ingle_page_ref(set->pool, old->pages[g][k]);
                chunk->pages[g][k] = old->pages[g][k];
            }
        }
    }
    if (src->span_sealed == src->n_spans) {
        return true;
    }
    ingle_assert(src->span_sealed == open_span);
    dst->n_spans = open_span;
    if (!push_open_span(set, dst, e, open_span - e->span0)) {
        return false;
    }
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        const struct ingle_kv_span *from = &src->spans[g][open_span];

        dst->spans[g][open_span].n_tokens = from->n_tokens;
        set->pool->backend->ops->copy(set->pool->backend, dst->spans[g][open_span].open, from->open,
                                      set->pool->slabs[g][INGLE_USE_OPEN].page_bytes);
    }
    return true;
}

struct ingle_context *ingle_context_fork(struct ingle_context_set *set,
                                         const struct ingle_context *ctx, uint32_t tenant)
{
    struct ingle_context *dst;

    ingle_assert(tenant == ctx->tenant);
    dst = ingle_context_open(set, tenant);
    if (dst == NULL) {
        return NULL;
    }
    dst->n_tokens = ctx->n_tokens;
    dst->n_committed = ctx->n_committed;
    dst->n_entries = ctx->n_entries;
    dst->n_spans = dst->span_sealed = ctx->span_sealed;
    dst->entry_settled = ctx->entry_settled;
    dst->cut = ctx->cut;
    dst->growing = ctx->growing;
    memcpy(dst->tokens, ctx->tokens, ctx->n_tokens * sizeof *ctx->tokens);
    memcpy(dst->entries, ctx->entries, ctx->n_entries * sizeof *ctx->entries);
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        memcpy(dst->spans[g], ctx->spans[g], ctx->span_sealed * sizeof *ctx->spans[g]);
        memset(dst->open_pages[g], 0xff, ctx->span_sealed * sizeof *ctx->open_pages[g]);
    }
    for (uint32_t i = 0; i < ctx->n_entries - (ctx->growing ? 1 : 0); i++) {
        ingle_chunk_ref(set->store, ctx->entries[i].chunk);
    }
    if (ctx->growing && !fork_growing(set, dst, ctx)) {
        ingle_context_close(set, dst);
        return NULL;
    }
    return dst;
}

/* Contexts whose next query cannot see a chunk through the group's window let its pages go. */
static bool reclaim_window(struct ingle_context_set *set, uint32_t group)
{
    uint64_t epoch = ++set->store->epoch;
    bool freed = false;

    for (uint32_t i = 0; i < set->n_contexts; i++) {
        const struct ingle_context *c = &set->contexts[i];

        for (uint32_t k = 0; set->in_use[i] && k < c->n_entries; k++) {
            uint32_t end = k + 1 < c->n_entries ? c->entries[k + 1].base : c->n_tokens;

            if (end + set->window[group] > c->n_committed) {
                c->entries[k].chunk->needed_epoch = epoch;
            }
        }
    }
    for (uint32_t i = 0; i < set->n_contexts; i++) {
        struct ingle_context *c = &set->contexts[i];

        for (uint32_t k = 0; set->in_use[i] && k < c->n_entries; k++) {
            struct ingle_chunk *chunk = c->entries[k].chunk;
            uint32_t end = k + 1 < c->n_entries ? c->entries[k + 1].span0 : c->n_spans;

            if (chunk->needed_epoch == epoch) {
                continue;
            }
            for (uint32_t s = c->entries[k].span0; s < end; s++) {
                uint32_t *page = &chunk->pages[group][s - c->entries[k].span0];

                freed = freed || *page != INGLE_PAGE_NONE;
                ingle_page_unref(set->pool, *page);
                *page = INGLE_PAGE_NONE;
                c->spans[group][s].sealed = NULL;
            }
        }
    }
    return freed;
}

bool ingle_context_reclaim(struct ingle_context_set *set)
{
    if (ingle_chunk_evict(set->store)) {
        return true;
    }
    for (uint32_t g = 0; g < set->pool->shape.n_groups; g++) {
        if (set->window[g] != 0 && reclaim_window(set, g)) {
            return true;
        }
    }
    return false;
}

struct ingle_kv_seq ingle_context_view(const struct ingle_context *ctx, uint32_t group,
                                       uint32_t row0, uint32_t n_rows)
{
    return (struct ingle_kv_seq){
        .spans = ctx->spans[group],
        .n_spans = ctx->n_spans,
        .row0 = row0,
        .n_rows = n_rows,
        .pos0 = ctx->n_tokens - n_rows,
    };
}
