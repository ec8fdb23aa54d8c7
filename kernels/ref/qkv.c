/* q, k and v of a layer: a matrix product, and while its sums are in the cache what becomes of
 * them. Writes rows of q, of open pages and of sealed pages; a row of a head is one worker's, and
 * so is a head of a page that is sealed, because no part ends inside such a page. Bands may: then
 * the worker that is done with its rows of the page after the other seals it.
 *
 *   q   with a gain x / rms(x) * q_gain per head; not rotated (attention does that per chunk)
 *   k   with a gain the same, then rotated to its place in the chunk, and stored as f16
 *   v   stored as f16
 *
 * Pages hold finite numbers only: beyond the range of f16 a value is stored as +-65504, a NaN as
 * 65504 (the row's residual stream still carries it to the logits). */
#include <assert.h>
#include <math.h>
#include <stdatomic.h>

#include "kernels/isa.h"
#include "kernels/kvpage.h"
#include "kernels/ref/kv_seal.h"
#include "kernels/ref/lanes.h"
#include "kernels/ref/rope.h"
#include "kernels/row.h"
#include "kernels/work.h"

/* Sums of k and v wait at the end of the worker's scratch, which products and seals leave alone.
 * Their rows are a tile longer than they need be: a power of two would keep them from most of a
 * cache. */
#define SUMS (INGLE_SCRATCH_SUMS_BYTES / (uint32_t)sizeof(float))
static_assert(SUMS + INGLE_PAGE_TOKENS * INGLE_HEAD_DIM_MAX <= INGLE_SCRATCH_BYTES / sizeof(float),
              "the floats of a page that is sealed fit beside them");
static_assert(SUMS / (INGLE_HEAD_DIM_MAX + INGLE_TILE_ROWS) > INGLE_PAGE_TOKENS,
              "a page that is sealed is in one piece");

enum which {
    Q,
    K,
    V
};

/* Some heads of k or v, and their sums in some rows. */
struct piece {
    const struct ingle_arg_qkv *arg;
    enum which which;
    uint32_t from, to; /* heads */
    uint32_t row0, row1;
    float *sums;     /* [row1 - row0][stride] */
    uint64_t stride; /* floats */
    float *scratch;  /* of a page */
};

/* x = x / rms(x) * gain over one head. */
static void norm_head(float *x, const float *gain, uint32_t D, float eps)
{
    float rstd = ingle_lanes_inverse_rms(x, D, eps);
    for (uint32_t i = 0; i < D; i++) {
        x[i] = x[i] * rstd * gain[i];
    }
}

static void store_head(const float *x, uint32_t D, uint16_t *ret_row)
{
    float clamped[INGLE_HEAD_DIM_MAX];
    for (uint32_t i = 0; i < D; i++) {
        float v = x[i] < INGLE_KV_MAX ? x[i] : INGLE_KV_MAX;
        clamped[i] = v > -INGLE_KV_MAX ? v : -INGLE_KV_MAX;
    }
    ingle_f16_row_of_f32(clamped, D, ret_row);
}

/* Add tiles [from, to) of a matrix to a product. */
static void put_tiles(const struct ingle_arg_qkv *arg, enum which which, uint64_t from, uint64_t to,
                      float *y, uint64_t stride, struct ingle_arg_matmul *ret)
{
    const struct ingle_matrix *w = &arg->w[which];
    const uint32_t i = ret->n_w++;
    ret->w[i] = (struct ingle_matrix){
        .type = w->type,
        .rows = (uint32_t)((to - from) * INGLE_TILE_ROWS),
        .cols = w->cols,
        .data = ingle_tile_at(w, from),
    };
    ret->bias[i] = arg->bias[which] ? arg->bias[which] + from * INGLE_TILE_ROWS : NULL;
    ret->y[i] = y;
    ret->y_stride[i] = stride;
}

/* The product of rows [row0, row1), whose y begins there too. */
static void run_product(const struct ingle_arg_qkv *arg, const struct ingle_worker *worker,
                        uint32_t row0, uint32_t row1, const struct ingle_arg_matmul *product)
{
    const struct ingle_worker alone = {.count = 1, .scratch = worker->scratch};
    struct ingle_act x = *arg->x;
    struct ingle_op op = {.kind = INGLE_K_MATMUL, .matmul = *product};
    x.rows += row0 * x.row_stride;
    op.matmul.x = &x;
    op.matmul.T = row1 - row0;
    INGLE_VARIANT(matmul)(&op, &alone);
}

/* ---- q ---- */

static void put_q(const struct ingle_arg_qkv *arg, const struct ingle_part *part,
                  struct ingle_arg_matmul *ret)
{
    const uint64_t stride = (uint64_t)arg->H * arg->D;
    float *y = arg->q + part->row0 * stride + part->from * INGLE_TILE_ROWS;
    put_tiles(arg, Q, part->from, part->to, y, stride, ret);
}

static void end_q(const struct ingle_arg_qkv *arg, const struct ingle_part *part)
{
    const uint64_t stride = (uint64_t)arg->H * arg->D;
    for (uint64_t row = part->row0; arg->q_gain && row < part->row1; row++) {
        for (uint64_t c = part->from; c < part->to; c += arg->D / INGLE_TILE_ROWS) {
            norm_head(arg->q + row * stride + c * INGLE_TILE_ROWS, arg->q_gain, arg->D, arg->eps);
        }
    }
}

static void part_q(const struct ingle_arg_qkv *arg, const struct ingle_worker *worker,
                   const struct ingle_part *part)
{
    struct ingle_arg_matmul product = {0};
    put_q(arg, part, &product);
    run_product(arg, worker, part->row0, part->row1, &product);
    end_q(arg, part);
}

/* ---- k and v ---- */

/* The first row that a step adds to a page of a sequence. */
static uint32_t first_row(const struct ingle_kv_seq *seq, const struct ingle_kv_span *span)
{
    const uint32_t start = ingle_kv_span_start(span);
    return seq->row0 + (start > seq->pos0 ? start - seq->pos0 : 0);
}

/* The page that is sealed and has rows of this step before `row` as well as from it on, or NULL. */
static const struct ingle_kv_span *page_across(const struct ingle_arg_qkv *arg, uint32_t row,
                                               uint32_t *ret_first)
{
    for (uint32_t i = 0; i < arg->n_seqs; i++) {
        const struct ingle_kv_seq *seq = &arg->seqs[i];
        if (row > seq->row0 && row - seq->row0 < seq->n_rows) {
            const uint32_t at = ingle_kv_span_find(seq, seq->pos0 + (row - seq->row0));
            assert(at < seq->n_spans);
            *ret_first = first_row(seq, &seq->spans[at]);
            return seq->spans[at].seal && *ret_first < row ? &seq->spans[at] : NULL;
        }
    }
    return NULL;
}

/* `row`, or the first row of the page that is sealed across it: there rows may be cut. */
static uint32_t cut(const struct ingle_arg_qkv *arg, uint32_t row)
{
    uint32_t first = row;
    return page_across(arg, row, &first) ? first : row;
}

/* n rows of a page, from token `token` of it on; x: their sums. */
static void store_keys(const struct piece *piece, const struct ingle_kv_span *span, uint32_t token,
                       uint32_t n, float *x)
{
    const struct ingle_arg_qkv *arg = piece->arg;
    const uint32_t D = arg->D, heads = piece->to - piece->from;
    uint16_t *row = ingle_kv_rows_at(span->open, arg->Hk, D, arg->layer, piece->from).k + token * D;
    for (uint32_t r = 0; r < n; r++, x += piece->stride, row += D) {
        struct ingle_rope_turn turn;
        ingle_rope_turn_at(arg->rope, span->first + token + r, &turn);
        for (uint32_t h = 0; h < heads; h++) {
            if (arg->k_gain) {
                norm_head(x + h * D, arg->k_gain, D, arg->eps);
            }
            ingle_rope_apply(&turn, x + h * D);
            store_head(x + h * D, D, row + h * INGLE_PAGE_TOKENS * D);
        }
    }
}

static void store_values(const struct piece *piece, const struct ingle_kv_span *span,
                         uint32_t token, uint32_t n, const float *x)
{
    const struct ingle_arg_qkv *arg = piece->arg;
    const uint32_t D = arg->D, heads = piece->to - piece->from;
    uint16_t *row = ingle_kv_rows_at(span->open, arg->Hk, D, arg->layer, piece->from).v + token * D;
    for (uint32_t r = 0; r < n; r++, x += piece->stride, row += D) {
        for (uint32_t h = 0; h < heads; h++) {
            store_head(x + h * D, D, row + h * INGLE_PAGE_TOKENS * D);
        }
    }
}

/* Rows [from, to) of a sequence into its pages. */
static void store_seq(const struct piece *piece, const struct ingle_kv_seq *seq, uint32_t from,
                      uint32_t to)
{
    uint32_t position = seq->pos0 + (from - seq->row0);
    const struct ingle_kv_span *span = &seq->spans[ingle_kv_span_find(seq, position)];
    for (uint32_t row = from, n; row < to; row += n, span++, position += n) {
        const uint32_t token = position - ingle_kv_span_start(span);
        float *x = piece->sums + (row - piece->row0) * piece->stride;
        assert(span < seq->spans + seq->n_spans && span->open);
        n = span->n_tokens - token < to - row ? span->n_tokens - token : to - row;
        if (piece->which == K) {
            store_keys(piece, span, token, n, x);
        } else {
            store_values(piece, span, token, n, x);
        }
    }
}

static void seal_head(const struct ingle_arg_qkv *arg, const struct ingle_kv_span *span,
                      enum which which, uint32_t head, float *scratch)
{
    if (which == K) {
        ingle_seal_keys(span, arg->Hk, arg->D, arg->layer, head, scratch);
    } else {
        ingle_seal_values(span, arg->Hk, arg->D, arg->layer, head, scratch);
    }
}

/* Seal the pages whose last row is in [from, to), but for one that began before the piece; one
 * without a new row comes right before the sequence's first, and is sealed with that. */
static void seal_seq(const struct piece *piece, const struct ingle_kv_seq *seq, uint32_t from,
                     uint32_t to)
{
    const struct ingle_arg_qkv *arg = piece->arg;
    for (uint32_t i = seq->n_spans; i-- > 0 && seq->spans[i].open;) {
        const struct ingle_kv_span *span = &seq->spans[i];
        const uint32_t last = ingle_kv_span_start(span) + span->n_tokens - 1;
        const uint32_t row = seq->row0 + (last > seq->pos0 ? last - seq->pos0 : 0);
        if (!span->seal || row < from || row >= to || first_row(seq, span) < piece->row0) {
            continue;
        }
        for (uint32_t h = piece->from; h < piece->to; h++) {
            seal_head(arg, span, piece->which, h, piece->scratch);
        }
    }
}

static void end_piece(const struct piece *piece)
{
    for (uint32_t i = 0; i < piece->arg->n_seqs; i++) {
        const struct ingle_kv_seq *seq = &piece->arg->seqs[i];
        const uint32_t end = seq->row0 + seq->n_rows;
        const uint32_t from = piece->row0 > seq->row0 ? piece->row0 : seq->row0;
        const uint32_t to = piece->row1 < end ? piece->row1 : end;
        if (from < to) {
            store_seq(piece, seq, from, to);
            seal_seq(piece, seq, from, to);
        }
    }
}

/* Rows whose sums of one head fit. */
static uint32_t rows_of_piece(const struct ingle_arg_qkv *arg)
{
    return SUMS / (arg->D + INGLE_TILE_ROWS);
}

/* Heads of k and v in turn (work.h), so many that the sums of their rows fit; with q if that is not
 * NULL, a part of the same rows. */
static void some_heads(const struct ingle_arg_qkv *arg, const struct ingle_worker *worker,
                       const struct ingle_part *q, uint32_t from, uint32_t to, uint32_t row0,
                       uint32_t row1)
{
    const uint64_t head = arg->D / INGLE_TILE_ROWS;
    float *const sums = (float *)(void *)(worker->scratch + INGLE_SCRATCH_BYTES) - SUMS;
    const uint32_t most = rows_of_piece(arg);
    struct piece keys = {.arg = arg,
                         .which = K,
                         .from = (from + 1) / 2,
                         .to = (to + 1) / 2,
                         .sums = sums,
                         .stride = (uint64_t)(to - from) * arg->D + INGLE_TILE_ROWS,
                         .scratch = (float *)(void *)worker->scratch};
    struct piece values = keys;
    values.which = V;
    values.from = from / 2;
    values.to = to / 2;
    values.sums += (keys.to - keys.from) * arg->D;
    for (uint32_t row = row0, end; row < row1; row = end) {
        struct ingle_arg_matmul product = {0};
        end = row1 - row > most ? cut(arg, row + most) : row1;
        if (q) {
            put_q(arg, q, &product);
        }
        put_tiles(arg, K, keys.from * head, keys.to * head, keys.sums, keys.stride, &product);
        put_tiles(arg, V, values.from * head, values.to * head, values.sums, values.stride,
                  &product);
        run_product(arg, worker, row, end, &product);
        keys.row0 = values.row0 = row;
        keys.row1 = values.row1 = end;
        end_piece(&keys);
        end_piece(&values);
    }
    if (q) {
        end_q(arg, q);
    }
}

static void part_kv(const struct ingle_arg_qkv *arg, const struct ingle_worker *worker,
                    const struct ingle_part *q, const struct ingle_part *part)
{
    const uint32_t row0 = part->row0, row1 = part->row1, rows = row1 - row0;
    if (rows == 0) {
        return;
    }
    const uint32_t whole = rows_of_piece(arg), stride = SUMS / (rows < whole ? rows : whole);
    const uint32_t most = (stride - INGLE_TILE_ROWS) / arg->D, to = (uint32_t)part->to;
    for (uint32_t from = (uint32_t)part->from, n; from < to; from += n) {
        n = to - from < most ? to - from : most;
        some_heads(arg, worker, from == part->from ? q : NULL, from, from + n, row0, row1);
    }
}

/* The page that the border before band i cuts, if it is sealed and the other worker is done. */
static void seal_across(const struct ingle_op *op, const struct ingle_worker *worker, uint32_t i)
{
    const struct ingle_arg_qkv *arg = &op->qkv;
    uint32_t first;
    const struct ingle_kv_span *span = page_across(arg, op->bands->first[i], &first);
    _Atomic uint32_t *n_stored = &op->bands->n_stored[i];
    if (!span || atomic_fetch_add_explicit(n_stored, 1, memory_order_acq_rel) == 0) {
        return;
    }
    atomic_store_explicit(n_stored, 0, memory_order_relaxed);
    for (uint32_t h = 0; h < arg->Hk; h++) {
        seal_head(arg, span, K, h, (float *)(void *)worker->scratch);
        seal_head(arg, span, V, h, (float *)(void *)worker->scratch);
    }
}

/* Few rows go through all their weights in one product, which fetches what comes next. */
void INGLE_VARIANT(qkv)(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_qkv *arg = &op->qkv;
    struct ingle_qkv_parts parts;
    assert(arg->D % INGLE_TILE_ROWS == 0 && arg->D <= INGLE_HEAD_DIM_MAX && arg->q0 <= arg->T);
    ingle_qkv_parts(op, worker, &parts);
    const bool few = arg->q0 == 0 && arg->T <= INGLE_FEW_ROWS;
    const bool together = few && parts.n_q > 0 && parts.n_kv > 0;
    for (uint32_t p = 0; p < parts.n_q && !together; p++) {
        part_q(arg, worker, &parts.q[p]);
    }
    for (uint32_t p = 0; p < parts.n_kv; p++) {
        struct ingle_part part = parts.kv[p];
        if (!op->bands) {
            part.row0 = cut(arg, part.row0);
            part.row1 = cut(arg, part.row1);
        }
        part_kv(arg, worker, together ? &parts.q[p] : NULL, &part);
    }
    if (op->bands && worker->index > 0) {
        seal_across(op, worker, worker->index);
    }
    if (op->bands && worker->index + 1 < worker->count) {
        seal_across(op, worker, worker->index + 1);
    }
}
