/* Owns the walk of attention: which worker does which tile, and the order of pages inside a tile.
 * No arithmetic on keys and values (struct ingle_attn_isa brings it). Any worker; all its memory is
 * the worker's scratch.
 *
 * Work is split by cost: a row costs what it sees. The units are (rows, one q head), in batch
 * order; worker i of n takes those that start in its n-th part of the whole cost, so that one
 * decoded token of a model with one KV head still occupies several workers. */
#include "kernels/x86/attn_tile.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/work.h"

enum {
    S = INGLE_PAGE_TOKENS
};

/* The runs of rows that make tiles: inside one sequence and one page. */
struct run {
    const struct ingle_kv_seq *seq;
    uint32_t span; /* the page that holds the rows' positions */
    uint32_t row, n_rows;
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
        run->span = ingle_kv_span_find(run->seq, position);
    }
    assert(run->span < run->seq->n_spans);
    span = &run->seq->spans[run->span];
    if (position == ingle_kv_span_start(span) + span->n_tokens) {
        assert(run->span + 1 < run->seq->n_spans);
        span = &run->seq->spans[++run->span];
    }
    left_page = ingle_kv_span_start(span) + span->n_tokens - position;
    left_seq = run->seq->n_rows - run->row;
    run->n_rows = left_page < left_seq ? left_page : left_seq;
    run->n_rows = run->n_rows < rows_max ? run->n_rows : rows_max;
    return true;
}

static uint64_t run_cost(const struct ingle_arg_attn *a, const struct run *run)
{
    uint64_t seen = (uint64_t)run->seq->pos0 + run->row + run->n_rows;
    seen = a->window != 0 && seen > a->window ? a->window : seen;
    return (seen + S) * run->n_rows;
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

/* The page after this one is fetched while this one is computed (ingle_attn_fetch). Blocks are
 * short and lie apart, so no hardware sees them coming; it does see the rows of an f16 page. */
static void set_next(struct ingle_attn_tile *tile, const struct ingle_kv_span *span)
{
    const struct ingle_arg_attn *a = tile->arg;

    if (span->form == INGLE_KV_Q8 || span->form == INGLE_KV_Q4) {
        const uint8_t *block =
            ingle_kv_block_at(span->sealed, span->form, a->Hk, a->D, a->layer, tile->kv_head)
                .k_codes;
        tile->next = block;
        tile->next_end = block + ingle_kv_block_bytes(span->form, a->D);
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

static void walk_pages(struct ingle_attn_tile *tile, const struct run *run,
                       const struct ingle_attn_isa *isa)
{
    const struct ingle_arg_attn *a = tile->arg;
    uint32_t window = a->window, first = 0;
    const struct ingle_kv_span *chunk = NULL;

    tile->n_parts = 0;
    if (window != 0 && tile->position + 1 > window) {
        first = ingle_kv_span_find(run->seq, tile->position + 1 - window);
    }
    for (uint32_t i = first; i <= run->span; i++) {
        const struct ingle_kv_span *span = &run->seq->spans[i];
        bool own = i == run->span;
        enum ingle_kv_form form = own ? INGLE_KV_OPEN : span->form;
        uint8_t *page = own ? span->open : span->sealed;

        set_views(tile, span);
        if (tile->n_active == 0) {
            continue;
        }
        if (i == first || ingle_kv_span_part(span) != ingle_kv_span_part(span - 1)) {
            begin_part(tile);
        }
        if (chunk == NULL || chunk->base != span->base) {
            isa->rotate(tile, span->base);
            chunk = span;
        }
        assert(page != NULL);
        if (tile->n_rows == 1 && i + 1 < run->span) { /* more: the tile before has just read it */
            set_next(tile, span + 1);
        }
        if (form == INGLE_KV_Q8 || form == INGLE_KV_Q4) {
            struct ingle_kv_block block =
                ingle_kv_block_at(page, form, a->Hk, a->D, a->layer, tile->kv_head);
            isa->attend_block(tile, &block, form);
        } else {
            struct ingle_kv_rows rows =
                ingle_kv_rows_at(page, a->Hk, a->D, a->layer, tile->kv_head);
            isa->attend_rows(tile, &rows);
        }
        if (own || ingle_kv_span_part(span) != ingle_kv_span_part(span + 1)) {
            end_part(tile, isa);
        }
    }
    isa->finish(tile);
}

/* The first head of a run whose unit starts at or after the bound. */
static uint32_t head_from(uint64_t bound, uint64_t at, uint64_t cost, uint32_t H)
{
    uint64_t head = bound > at ? (bound - at + cost - 1) / cost : 0;
    return head < H ? (uint32_t)head : H;
}

void ingle_attn_tiles(const struct ingle_op *op, const struct ingle_worker *worker,
                      const struct ingle_attn_isa *isa)
{
    struct ingle_attn_tile tile = {.arg = &op->attn};
    const struct ingle_arg_attn *a = &op->attn;
    uint32_t G = a->H / a->Hk, rows_max = G < INGLE_TILE_QUERIES ? INGLE_TILE_QUERIES / G : 1;
    struct ingle_share share;
    uint64_t total = 0, at = 0;

    assert(a->D % 16 == 0 && a->D <= INGLE_HEAD_DIM_MAX && a->H % a->Hk == 0);
    assert(a->act == NULL || a->D % INGLE_ACT_GROUP == 0);
    for (struct run run = {0}; next_run(a, rows_max, &run);) {
        total += run_cost(a, &run) * a->H;
    }
    share = ingle_share(total, worker);
    lay_out(&tile, worker->scratch);
    for (struct run run = {0}; at < share.to && next_run(a, rows_max, &run);) {
        uint64_t cost = run_cost(a, &run);
        uint32_t head = head_from(share.from, at, cost, a->H);
        uint32_t end = head_from(share.to, at, cost, a->H);

        tile.row = run.seq->row0 + run.row;
        tile.position = run.seq->pos0 + run.row;
        tile.n_rows = run.n_rows;
        for (; head < end; head += tile.n_heads) {
            uint32_t group_end = (head / G + 1) * G;
            tile.head = head;
            tile.kv_head = head / G;
            tile.n_heads = (group_end < end ? group_end : end) - head;
            if (tile.n_heads > INGLE_TILE_QUERIES) {
                tile.n_heads = INGLE_TILE_QUERIES;
            }
            tile.n_queries = tile.n_rows * tile.n_heads;
            walk_pages(&tile, &run, isa);
        }
        at += cost * a->H;
    }
}
