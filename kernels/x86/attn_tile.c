/* Owns the walk of attention: which worker does which tile, and the order of pages inside a tile.
 * No arithmetic on keys and values (struct ingle_attn_isa brings it). Any worker; its memory is the
 * worker's scratch and, for rows that workers share, the op's room.
 *
 * Work is split by cost: a row costs what it sees. The units are (rows, KV head, part of the pages,
 * q head), in this order; worker i of n takes those that start in its n-th part of the whole cost.
 * So one decoded token of a model with one KV head still occupies several workers, and they read
 * different pages, but for the part in which their border falls. A worker that has all of a KV head
 * walks through its parts at once; else each part goes to the room, and who brings the last one
 * merges them. Without room the parts of a row are one unit. */
#include "kernels/x86/attn_tile.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/work.h"

enum {
    S = INGLE_PAGE_TOKENS,
    PAGES_AHEAD = 4,   /* whose translations are asked for at once */
    MEMORY_PAGE = 4096 /* the smallest, and what a host may map where its guest has larger ones */
};

/* The runs of rows that make tiles: inside one sequence and one page. */
struct run {
    const struct ingle_kv_seq *seq;
    uint32_t first, own; /* pages: the first that a row sees, and the one that holds the rows */
    uint32_t row, n_rows;
    uint32_t n_parts;  /* of what the first row sees, which is the most */
    uint32_t slot;     /* parts of all rows before: where this run's begin in the room */
    uint32_t n_slices; /* into which the division cuts its pages: n_parts, or 1 */
};

/* The run that follows `run` (all zero: the first); false at the end. */
static bool next_run(const struct ingle_arg_attn *a, uint32_t rows_max, struct run *run)
{
    const struct ingle_kv_span *span;
    uint32_t position, left_page, left_seq;

    if (run->seq == NULL) {
        run->seq = a->seqs;
    } else {
        run->row += run->n_rows;
        run->slot += run->n_rows * run->n_parts;
    }
    while (run->seq < a->seqs + a->n_seqs && run->row == run->seq->n_rows) {
        run->seq++;
        run->row = 0;
    }
    if (run->seq == a->seqs + a->n_seqs) {
        return false;
    }
    position = run->seq->pos0 + run->row;
    if (run->row == 0) {
        run->own = ingle_kv_span_find(run->seq, position);
    }
    assert(run->own < run->seq->n_spans);
    span = &run->seq->spans[run->own];
    if (position == ingle_kv_span_start(span) + span->n_tokens) {
        assert(run->own + 1 < run->seq->n_spans);
        span = &run->seq->spans[++run->own];
    }
    left_page = ingle_kv_span_start(span) + span->n_tokens - position;
    left_seq = run->seq->n_rows - run->row;
    run->n_rows = left_page < left_seq ? left_page : left_seq;
    run->n_rows = run->n_rows < rows_max ? run->n_rows : rows_max;
    run->first = 0;
    if (a->window != 0 && position + 1 > a->window) {
        run->first = ingle_kv_span_find(run->seq, position + 1 - a->window);
    }
    run->n_parts = ingle_kv_span_part(span) - ingle_kv_span_part(&run->seq->spans[run->first]) + 1;
    return true;
}

/* The first page of slice i, or behind the last slice's last. */
static uint32_t slice_page(const struct run *run, uint32_t i)
{
    const struct ingle_kv_span *spans = run->seq->spans;
    uint32_t position, page;

    if (i == 0) {
        return run->first;
    }
    if (i == run->n_slices) {
        return run->own + 1;
    }
    position = (ingle_kv_span_part(&spans[run->first]) + i) * INGLE_ATTN_PART_TOKENS;
    page = ingle_kv_span_find(run->seq, position);
    return ingle_kv_span_start(&spans[page]) < position ? page + 1 : page;
}

/* What slices before i cost for one head: tokens, and a page's worth for coming to them. */
static uint64_t slice_cost(const struct run *run, uint32_t i)
{
    const struct ingle_kv_span *spans = run->seq->spans;
    uint64_t end = i == run->n_slices ? (uint64_t)run->seq->pos0 + run->row + run->n_rows
                                      : ingle_kv_span_start(&spans[slice_page(run, i)]);
    return i == 0 ? 0 : (end - ingle_kv_span_start(&spans[run->first]) + S) * run->n_rows;
}

/* Take floats from the scratch in 64-byte steps. */
static float *take(uint8_t **at, uint64_t n)
{
    float *p = (float *)*at;
    *at += (n * sizeof(float) + 63) / 64 * 64;
    return p;
}

static void take_sums(struct ingle_attn_sums *sums, uint8_t **at, uint32_t D)
{
    sums->o = take(at, INGLE_TILE_QUERIES * D);
    sums->m = take(at, 2 * INGLE_TILE_QUERIES);
    sums->l = take(at, 2 * INGLE_TILE_QUERIES);
}

static void lay_out(struct ingle_attn_tile *tile, uint8_t *scratch)
{
    uint32_t D = tile->arg->D, wide = D > S ? D : S;
    uint8_t *at = scratch;

    tile->plane_step = wide;
    tile->q = take(&at, INGLE_TILE_QUERIES * D);
    tile->s = take(&at, INGLE_TILE_QUERIES * S);
    tile->kv = take(&at, 16 * wide);
    tile->planes = (int8_t *)take(&at, INGLE_TILE_QUERIES * wide * 2 / sizeof(float));
    tile->alpha = take(&at, 2 * INGLE_TILE_QUERIES);
    tile->scale = take(&at, 2 * INGLE_TILE_QUERIES);
    tile->off = take(&at, 2 * INGLE_TILE_QUERIES);
    take_sums(&tile->now, &at, D);
    take_sums(&tile->all, &at, D);
    assert(at <= scratch + INGLE_SCRATCH_BYTES);
}

/* Views of a page, and how many rows see it. Later rows lose a page to the window first. */
static void set_views(struct ingle_attn_tile *tile, const struct ingle_kv_span *span)
{
    uint32_t rows = 0;
    for (; rows < tile->n_rows; rows++) {
        struct ingle_kv_view view =
            ingle_kv_span_view(span, tile->position + rows, tile->arg->window);
        if (view.t0 >= view.t1) {
            break;
        }
        tile->view[rows] = view;
    }
    tile->n_active = rows * tile->n_heads;
    if (rows > 0) {
        tile->t0 = tile->view[0].t0;
        tile->t1 = tile->view[rows - 1].t1;
    }
}

/* A page as the run reads it: its own is open, those before it are sealed. */
static enum ingle_kv_form form_of(const struct run *run, uint32_t page)
{
    return page == run->own ? INGLE_KV_OPEN : run->seq->spans[page].form;
}

static bool is_block(const struct run *run, uint32_t page)
{
    enum ingle_kv_form form = form_of(run, page);
    return form == INGLE_KV_Q8 || form == INGLE_KV_Q4;
}

static struct ingle_kv_block block_of(const struct ingle_attn_tile *tile, const struct run *run,
                                      uint32_t page)
{
    const struct ingle_arg_attn *a = tile->arg;
    const struct ingle_kv_span *span = &run->seq->spans[page];
    assert(span->sealed != NULL);
    return ingle_kv_block_at(span->sealed, span->form, a->Hk, a->D, a->layer, tile->kv_head);
}

static struct ingle_kv_rows rows_of(const struct ingle_attn_tile *tile, const struct run *run,
                                    uint32_t page)
{
    const struct ingle_arg_attn *a = tile->arg;
    const struct ingle_kv_span *span = &run->seq->spans[page];
    uint8_t *at = page == run->own ? span->open : span->sealed;
    assert(at != NULL);
    return ingle_kv_rows_at(at, a->Hk, a->D, a->layer, tile->kv_head);
}

/* The page after this one is fetched while this one is computed (ingle_attn_fetch). Blocks are
 * short and lie apart, so no hardware sees them coming; it does see the rows of an f16 page. */
static void set_next(struct ingle_attn_tile *tile, const struct run *run, uint32_t page)
{
    if (is_block(run, page)) {
        tile->next = block_of(tile, run, page).k_codes;
        tile->next_end = tile->next + ingle_kv_block_bytes(form_of(run, page), tile->arg->D);
    }
}

/* One line of every memory page that [at, at + bytes) touches. */
static void translate(const void *at, uint64_t bytes)
{
    const uint8_t *p = at, *last = p + bytes - 1;
    for (; p < last; p += MEMORY_PAGE) {
        __builtin_prefetch(p, 0, 2);
    }
    __builtin_prefetch(last, 0, 2);
}

/* KV pages [from, to) of a head. Nothing retires behind a prefetch until its address is translated,
 * which with KV pages far apart is a walk through tables that are not in the cache either; those
 * that are asked for together go on together. */
static void translate_pages(const struct ingle_attn_tile *tile, const struct run *run,
                            uint32_t from, uint32_t to)
{
    const uint32_t D = tile->arg->D;

    for (uint32_t i = from; i < to; i++) {
        if (is_block(run, i)) {
            translate(block_of(tile, run, i).k_codes, ingle_kv_block_bytes(form_of(run, i), D));
        } else {
            struct ingle_kv_rows rows = rows_of(tile, run, i);
            translate(rows.k, (uint64_t)S * D * sizeof *rows.k);
            translate(rows.v, (uint64_t)S * D * sizeof *rows.v);
        }
    }
}

static void begin_part(struct ingle_attn_tile *tile)
{
    for (uint32_t i = 0; i < tile->n_queries; i++) {
        tile->now.m[i] = -INFINITY;
        tile->now.l[i] = 0.0f;
    }
    memset(tile->now.o, 0, tile->n_queries * tile->arg->D * sizeof *tile->now.o);
}

/* `now` into `all`; the first becomes it, so that a single part costs nothing. */
static void end_part(struct ingle_attn_tile *tile, const struct ingle_attn_isa *isa)
{
    if (tile->n_parts++ == 0) {
        struct ingle_attn_sums first = tile->now;
        tile->now = tile->all;
        tile->all = first;
    } else {
        isa->merge(tile);
    }
}

/* Pages [from, to) into `all`. */
static void walk_pages(struct ingle_attn_tile *tile, const struct run *run, uint32_t from,
                       uint32_t to, const struct ingle_attn_isa *isa)
{
    const struct ingle_kv_span *chunk = NULL;

    tile->n_parts = 0;
    for (uint32_t i = from; i < to; i++) {
        const struct ingle_kv_span *span = &run->seq->spans[i];

        if (tile->n_rows == 1 && (i - from) % PAGES_AHEAD == 0) {
            uint32_t first = i == from ? i : i + 1, end = i + 1 + PAGES_AHEAD;
            translate_pages(tile, run, first, end < to ? end : to);
        }
        set_views(tile, span);
        assert(tile->n_active > 0);
        if (i == from || ingle_kv_span_part(span) != ingle_kv_span_part(span - 1)) {
            begin_part(tile);
        }
        if (chunk == NULL || chunk->base != span->base) {
            isa->rotate(tile, span->base);
            chunk = span;
        }
        /* Of several rows the tile before has just read it. */
        if (tile->n_rows == 1 && i + 1 < to) {
            set_next(tile, run, i + 1);
        }
        if (is_block(run, i)) {
            struct ingle_kv_block block = block_of(tile, run, i);
            isa->attend_block(tile, &block, form_of(run, i));
        } else {
            struct ingle_kv_rows rows = rows_of(tile, run, i);
            isa->attend_rows(tile, &rows);
        }
        if (i + 1 == to || ingle_kv_span_part(span) != ingle_kv_span_part(span + 1)) {
            end_part(tile, isa);
        }
    }
}

/* Queries of up to INGLE_TILE_QUERIES: as many of the heads [head, end), of one group, as fit. */
static void set_heads(struct ingle_attn_tile *tile, uint32_t head, uint32_t end)
{
    tile->head = head;
    tile->n_heads = end - head < INGLE_TILE_QUERIES ? end - head : INGLE_TILE_QUERIES;
    tile->n_queries = tile->n_rows * tile->n_heads;
}

/* Where a part of query i of the tile lies in the room: o, m, l. */
static float *room_at(const struct ingle_attn_tile *tile, const struct run *run, uint32_t part,
                      uint32_t i)
{
    const struct ingle_arg_attn *a = tile->arg;
    uint64_t slot = run->slot + i / tile->n_heads * run->n_parts + part;
    return a->room->sums + (slot * a->H + tile->head + i % tile->n_heads) * (a->D + 2);
}

static void leave_part(const struct ingle_attn_tile *tile, const struct run *run, uint32_t part)
{
    uint32_t D = tile->arg->D;
    for (uint32_t i = 0; i < tile->n_queries; i++) {
        float *to = room_at(tile, run, part, i);
        memcpy(to, tile->all.o + i * D, D * sizeof *to);
        to[D] = tile->all.m[i];
        to[D + 1] = tile->all.l[i];
    }
}

/* All parts of a group of heads, from the room to the result. */
static void join_parts(struct ingle_attn_tile *tile, const struct run *run, uint32_t head,
                       uint32_t end, const struct ingle_attn_isa *isa)
{
    uint32_t D = tile->arg->D;
    for (; head < end; head += tile->n_heads) {
        set_heads(tile, head, end);
        tile->n_parts = 0;
        for (uint32_t part = 0; part < run->n_parts; part++) {
            for (uint32_t i = 0; i < tile->n_queries; i++) {
                const float *from = room_at(tile, run, part, i);
                memcpy(tile->now.o + i * D, from, D * sizeof *from);
                tile->now.m[i] = from[D];
                tile->now.l[i] = from[D + 1];
            }
            end_part(tile, isa);
        }
        isa->finish(tile);
    }
}

/* Heads [head, end), all of one group, over the pages of a slice. */
static void attend_slice(struct ingle_attn_tile *tile, const struct run *run, uint32_t slice,
                         uint32_t head, uint32_t end, const struct ingle_attn_isa *isa)
{
    uint32_t from = slice_page(run, slice), to = slice_page(run, slice + 1);
    for (; head < end; head += tile->n_heads) {
        set_heads(tile, head, end);
        walk_pages(tile, run, from, to, isa);
        if (run->n_slices == 1) {
            isa->finish(tile);
        } else {
            leave_part(tile, run, slice);
        }
    }
}

/* How many units of a group of G heads start before `cost`. */
static uint32_t units_before(const struct run *run, uint32_t G, uint64_t cost)
{
    uint32_t i = cost < slice_cost(run, run->n_slices) * G ? 0 : run->n_slices;
    for (uint64_t at = 0, end; i < run->n_slices; i++, at = end) {
        end = slice_cost(run, i + 1);
        if (cost <= end * G) {
            return i * G + (uint32_t)((cost - at * G + end - at - 1) / (end - at));
        }
    }
    return i * G;
}

/* Units [from, to) of a KV head: slice by slice, and in each head by head. */
static void attend_units(struct ingle_attn_tile *tile, struct run run, uint32_t from, uint32_t to,
                         const struct ingle_attn_isa *isa)
{
    const struct ingle_arg_attn *a = tile->arg;
    uint32_t G = a->H / a->Hk, head = tile->kv_head * G, n_units = run.n_slices * G;

    if (to - from == n_units) { /* nobody shares it */
        run.n_slices = 1;
        to = G;
    }
    for (uint32_t at = from, end; at < to; at = end) {
        uint32_t slice = at / G;
        end = (slice + 1) * G < to ? (slice + 1) * G : to;
        attend_slice(tile, &run, slice, head + at % G, head + end - slice * G, isa);
    }
    if (run.n_slices > 1) {
        _Atomic uint32_t *n_done = &a->room->n_done[run.slot * a->Hk + tile->kv_head];
        if (atomic_fetch_add_explicit(n_done, to - from, memory_order_acq_rel) + to - from ==
            n_units) {
            atomic_store_explicit(n_done, 0, memory_order_relaxed);
            join_parts(tile, &run, head, head + G, isa);
        }
    }
}

void ingle_attn_tiles(const struct ingle_op *op, const struct ingle_worker *worker,
                      const struct ingle_attn_isa *isa)
{
    struct ingle_attn_tile tile = {.arg = &op->attn};
    const struct ingle_arg_attn *a = &op->attn;
    uint32_t G = a->H / a->Hk, rows_max = G < INGLE_TILE_QUERIES ? INGLE_TILE_QUERIES / G : 1;
    struct run run = {.n_slices = 1};
    struct ingle_share share;
    uint64_t total = 0, at = 0;
    bool shared;

    assert(a->D % 16 == 0 && a->D <= INGLE_HEAD_DIM_MAX && a->H % a->Hk == 0);
    assert(a->act == NULL || a->D % INGLE_ACT_GROUP == 0);
    while (next_run(a, rows_max, &run)) {
        total += slice_cost(&run, 1) * a->H;
    }
    shared = a->room != NULL && run.slot <= INGLE_ATTN_ROOM_PARTS;
    share = ingle_share(total, worker);
    lay_out(&tile, worker->scratch);
    run = (struct run){0};
    while (at < share.to && next_run(a, rows_max, &run)) {
        run.n_slices = shared ? run.n_parts : 1;
        tile.row = run.seq->row0 + run.row;
        tile.position = run.seq->pos0 + run.row;
        tile.n_rows = run.n_rows;
        for (tile.kv_head = 0; tile.kv_head < a->Hk; tile.kv_head++) {
            uint64_t cost = slice_cost(&run, run.n_slices) * G;
            if (at + cost > share.from && at < share.to) {
                uint32_t from = share.from > at ? units_before(&run, G, share.from - at) : 0;
                uint32_t to = units_before(&run, G, share.to - at);
                if (from < to) {
                    attend_units(&tile, run, from, to, isa);
                }
            }
            at += cost;
        }
    }
}
