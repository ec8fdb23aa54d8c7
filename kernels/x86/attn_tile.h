/* The tiles of attention: what the vector variants share. A tile is a run of query rows inside one
 * page times some heads of one GQA group; it walks the pages once, so a page is loaded once for all
 * its queries. The arithmetic of each query is ref/attn.c's; grouping and split change no bit. */
#ifndef INGLE_KERNELS_X86_ATTN_TILE_H
#define INGLE_KERNELS_X86_ATTN_TILE_H
#include <math.h>

#include "kernels/kvpage.h"
#include "kernels/ref/attn_merge.h"
#include "kernels/ref/attn_put.h"
#include "kernels/ref/rope.h"

enum {
    INGLE_TILE_QUERIES = 24 /* a multiple of 3, the queries of one pass over quantised codes */
};

struct ingle_attn_tile {
    const struct ingle_arg_attn *arg;
    uint32_t row, position, n_rows; /* rows of the batch, and where the first one stands */
    uint32_t head, n_heads, kv_head;
    uint32_t n_queries;  /* n_rows * n_heads; query i is row i / n_heads, head i % n_heads */
    uint32_t n_active;   /* queries that see the present page: always the first ones */
    uint32_t plane_step; /* bytes between the planes of two queries, max(D, S) */

    /* Views of the present page by row, and their union [t0, t1) */
    struct ingle_kv_view view[INGLE_TILE_QUERIES];
    uint32_t t0, t1;

    float *q;                   /* [queries][D] rotated for the present chunk */
    float *s;                   /* [queries][S] scores, then weights */
    float *kv;                  /* room for 16 rows [16][D], or 2 * max(D, S) folding factors */
    int8_t *planes;             /* [queries][high, low or one int16][plane_step] */
    float *alpha, *scale, *off; /* [queries] */
    struct ingle_attn_sums now, all; /* of the present part; of the parts before it */
    uint32_t n_parts;                /* that are in `all` */
    const uint8_t *next, *next_end;  /* of the page after this one: not yet fetched */
    uint32_t n_lines;                /* of it to fetch with each step of a product */
};

/* Some lines of the next page go to the second-level cache. Spread over the work on this page,
 * because a core has few buffers for lines on their way, and waits when they are taken. */
static inline void ingle_attn_fetch(struct ingle_attn_tile *tile, uint32_t lines)
{
    for (; lines > 0 && tile->next < tile->next_end; lines--, tile->next += 64) {
        __builtin_prefetch(tile->next, 0, 2);
    }
}

/* Lines to fetch with each of the n steps that are left, so that none is left. */
static inline uint32_t ingle_attn_lines(const struct ingle_attn_tile *tile, uint32_t n)
{
    return (uint32_t)(((uint64_t)(tile->next_end - tile->next) / 64 + n - 1) / n);
}

/* What an instruction set brings. */
struct ingle_attn_isa {
    /* q = rotate(scale * q, position - base) for all queries. */
    void (*rotate)(struct ingle_attn_tile *tile, uint32_t base);
    /* Take a page into the first n_active queries. */
    void (*attend_rows)(struct ingle_attn_tile *tile, const struct ingle_kv_rows *rows);
    void (*attend_block)(struct ingle_attn_tile *tile, const struct ingle_kv_block *block,
                         enum ingle_kv_form form);
    /* `now` into `all` */
    void (*merge)(struct ingle_attn_tile *tile);
    /* o / l of `all` into out or act */
    void (*finish)(struct ingle_attn_tile *tile);
};

/* Plain loops, compiled by each instruction set's library for itself. */
static inline void ingle_attn_rotate(struct ingle_attn_tile *tile, uint32_t base)
{
    const struct ingle_arg_attn *a = tile->arg;
    struct ingle_rope_turn turn;

    for (uint32_t r = 0; r < tile->n_rows; r++) {
        const float *from = a->q + ((uint64_t)(tile->row + r) * a->H + tile->head) * a->D;
        float *to = tile->q + r * tile->n_heads * a->D;
        ingle_rope_turn_at(a->rope, tile->position + r - base, &turn);
        for (uint32_t i = 0; i < tile->n_heads * a->D; i++) {
            to[i] = a->scale * from[i];
        }
        for (uint32_t h = 0; h < tile->n_heads; h++) {
            ingle_rope_apply(&turn, to + h * a->D);
        }
    }
}

static inline void ingle_attn_merge_tile(struct ingle_attn_tile *tile)
{
    ingle_attn_merge(&tile->all, &tile->now, tile->n_queries, tile->arg->D, tile->alpha,
                     tile->scale);
}

static inline void ingle_attn_finish(struct ingle_attn_tile *tile)
{
    const struct ingle_arg_attn *a = tile->arg;

    for (uint32_t i = 0; i < tile->n_queries; i++) {
        uint32_t row = tile->row + i / tile->n_heads, head = tile->head + i % tile->n_heads;
        uint64_t at = ((uint64_t)row * a->H + head) * a->D;
        float inverse = 1.0f / tile->all.l[i];
        uint32_t wild = 0;
        for (uint32_t c = 0; c < a->D; c++) {
            wild |= fabsf(a->q[at + c]) < INGLE_KV_Q_MAX ? 0u : 1u;
        }
        inverse = wild ? NAN : inverse;
        for (uint32_t c = 0; c < a->D; c++) {
            tile->all.o[i * a->D + c] *= inverse;
        }
    }
    for (uint32_t r = 0; r < tile->n_rows; r++) {
        ingle_attn_put(a, tile->row + r, tile->head, tile->n_heads,
                       tile->all.o + r * tile->n_heads * a->D);
    }
}

/* This worker's share of the op. */
void ingle_attn_tiles(const struct ingle_op *op, const struct ingle_worker *worker,
                      const struct ingle_attn_isa *isa);

#endif
