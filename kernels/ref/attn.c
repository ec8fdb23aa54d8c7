/* Definition of INGLE_K_ATTN: attention of one query row and head over the pages of its sequence,
 * page by page in position order with an online softmax (Milakov and Gimelshein 2018, algorithm 3).
 * State per (row, head): maximum m, sum l, mixed values o[D], all f32.
 *
 *   q'    = rotate(scale * q, position - base), once per chunk
 *   S_t   = q' . k_t                                             for the tokens t the row sees
 *   M     = max(m, max S),  alpha = exp(m - M),  p_t = exp(S_t - M), 0 where t is not seen
 *   l     = l * alpha + sum p_t
 *   o_c   = o_c * alpha + sum p_t v_tc
 *
 * Pages that start in the same INGLE_ATTN_PART_TOKENS positions are a part. Each part begins anew,
 * with m = -Inf and nothing in l and o, so that whoever has the pages can compute it; then parts
 * are merged in position order (attn_merge.h), the first that the row sees being taken as it is:
 *
 *   M     = max(m, m'),  a = exp(m - M),  b = exp(m' - M)
 *   l     = l * a + (l' * b)
 *   o_c   = o_c * a + (o'_c * b)                                 out_c = o_c * (1 / l)
 *
 * f16 page: dot products and sums in sixteen lanes and a tree (lanes.h); values in token order.
 *
 * Quantised page: never expanded. The scales fold into the other factor, which is then quantised
 * to 15 bits and sign, so that the inner sums are whole numbers and have no order:
 *   x_c = q'_c * kscale_c;  v = round(x * (16256 / max|x|)), s = max|x| / 16256
 *   S_t = s * (sum_c code_ct * v_c) + sum_c q'_c * kmin_c
 * and the same for values, with p_t * vscale_t and one sum_t p_t * vmin_t for all channels.
 *
 * What a row computes depends on its own position, pages and q alone. Pages hold finite numbers
 * (qkv.c). A q with a NaN or a component of 2^80 and more: NaN in that row and head alone. */
#include <assert.h>
#include <math.h>

#include "kernels/half.h"
#include "kernels/isa.h"
#include "kernels/kvpage.h"
#include "kernels/ref/attn_merge.h"
#include "kernels/ref/attn_put.h"
#include "kernels/ref/expf.h"
#include "kernels/ref/lanes.h"
#include "kernels/ref/rope.h"

enum {
    S = INGLE_PAGE_TOKENS,
    D_MAX = INGLE_HEAD_DIM_MAX
};

struct sums {
    float m, l;
    float o[D_MAX];
};

/* One row and head on its way through the pages. */
struct state {
    float q[D_MAX];       /* rotated for the present chunk */
    struct sums now, all; /* the present part; those before it */
};

/* x as whole numbers times the returned scale. */
static float to_planes(const float *x, uint32_t n, int32_t *ret_v)
{
    float max = 0.0f, inverse;
    for (uint32_t i = 0; i < n; i++) {
        float magnitude = fabsf(x[i]);
        max = magnitude > max ? magnitude : max;
    }
    inverse = max >= INGLE_KV_PLANE_MIN ? INGLE_KV_PLANE_MAX / max : 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        float v = x[i] * inverse;
        v = v < INGLE_KV_PLANE_MAX ? v : INGLE_KV_PLANE_MAX;
        ret_v[i] = (int32_t)rintf(v > -INGLE_KV_PLANE_MAX ? v : -INGLE_KV_PLANE_MAX);
    }
    return max >= INGLE_KV_PLANE_MIN ? max * (1.0f / INGLE_KV_PLANE_MAX) : 0.0f;
}

/* Code at index i of the summed axis and a column of [axis/4][columns][4]: kvpage.h. */
static int32_t code_at(const uint8_t *codes, enum ingle_kv_form form, uint32_t columns, uint32_t i,
                       uint32_t column)
{
    if (form == INGLE_KV_Q4) {
        return codes[((i / 8) * columns + column) * 4 + i % 4] >> (i % 8 < 4 ? 0 : 4) & 15;
    }
    return codes[((i / 4) * columns + column) * 4 + i % 4];
}

/* s * (sum_i codes[i][column] * v[i]) + off for every column. */
static void mix_codes(const uint8_t *codes, enum ingle_kv_form form, uint32_t columns, uint32_t n,
                      const int32_t *v, float scale, float off, float *ret_mix)
{
    for (uint32_t column = 0; column < columns; column++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            sum += code_at(codes, form, columns, i, column) * v[i];
        }
        ret_mix[column] = fmaf(scale, (float)sum, off);
    }
}

static void unhalf(const uint16_t *h, uint32_t n, float *ret_x)
{
    for (uint32_t i = 0; i < n; i++) {
        ret_x[i] = ingle_f32_of_f16(h[i]);
    }
}

/* x *= scale in place after off = sum x * min: what a quantised page does to q' and to p. */
static float fold(float *x, const uint16_t *scale, const uint16_t *min, uint32_t n)
{
    float f[D_MAX], off;
    unhalf(min, n, f);
    off = ingle_lanes_dot(x, f, n);
    unhalf(scale, n, f);
    for (uint32_t i = 0; i < n; i++) {
        x[i] *= f[i];
    }
    return off;
}

static void scores_rows(const struct state *st, const uint16_t *k, uint32_t D,
                        struct ingle_kv_view view, float *ret_s)
{
    float row[D_MAX];
    for (uint32_t t = view.t0; t < view.t1; t++) {
        unhalf(k + t * D, D, row);
        ret_s[t] = ingle_lanes_dot(st->q, row, D);
    }
}

static void scores_block(const struct state *st, const struct ingle_kv_block *block,
                         enum ingle_kv_form form, uint32_t D, float *ret_s)
{
    float x[D_MAX], off, scale;
    int32_t v[D_MAX];
    for (uint32_t c = 0; c < D; c++) {
        x[c] = st->q[c];
    }
    off = fold(x, block->k_scale, block->k_min, D);
    scale = to_planes(x, D, v);
    mix_codes(block->k_codes, form, S, D, v, scale, off, ret_s);
}

/* Scores to weights in place, 0 for tokens outside the view; m and l take the page in. Returns what
 * the older sums are to be multiplied by. */
static float softmax_page(struct state *st, struct ingle_kv_view view, float *s)
{
    float max = st->now.m, alpha, lane[INGLE_LANES] = {0};
    for (uint32_t t = view.t0; t < view.t1; t++) {
        max = s[t] > max ? s[t] : max;
    }
    alpha = ingle_expf(st->now.m - max);
    for (uint32_t t = 0; t < S; t++) {
        s[t] = t >= view.t0 && t < view.t1 ? ingle_expf(s[t] - max) : 0.0f;
        lane[t % INGLE_LANES] += s[t];
    }
    st->now.m = max;
    st->now.l = fmaf(st->now.l, alpha, ingle_lanes_tree(lane));
    return alpha;
}

static void values_rows(const uint16_t *v, uint32_t D, struct ingle_kv_view view, const float *p,
                        float *ret_mix)
{
    float row[D_MAX];
    for (uint32_t c = 0; c < D; c++) {
        ret_mix[c] = 0.0f;
    }
    for (uint32_t t = view.t0; t < view.t1; t++) {
        unhalf(v + t * D, D, row);
        for (uint32_t c = 0; c < D; c++) {
            ret_mix[c] = fmaf(p[t], row[c], ret_mix[c]);
        }
    }
}

static void values_block(const struct ingle_kv_block *block, enum ingle_kv_form form, uint32_t D,
                         float *p, float *ret_mix)
{
    int32_t v[S];
    float off = fold(p, block->v_scale, block->v_min, S);
    float scale = to_planes(p, S, v);
    mix_codes(block->v_codes, form, D, S, v, scale, off, ret_mix);
}

static void attend_page(const struct ingle_arg_attn *a, const struct ingle_kv_span *span,
                        uint32_t kv_head, struct ingle_kv_view view, bool own, struct state *st)
{
    float s[S], mix[D_MAX], alpha;
    uint8_t *page = own ? span->open : span->sealed;
    enum ingle_kv_form form = own ? INGLE_KV_OPEN : span->form;

    assert(page != NULL);
    if (form == INGLE_KV_Q8 || form == INGLE_KV_Q4) {
        struct ingle_kv_block block = ingle_kv_block_at(page, form, a->Hk, a->D, a->layer, kv_head);
        scores_block(st, &block, form, a->D, s);
        alpha = softmax_page(st, view, s);
        values_block(&block, form, a->D, s, mix);
    } else {
        struct ingle_kv_rows rows = ingle_kv_rows_at(page, a->Hk, a->D, a->layer, kv_head);
        scores_rows(st, rows.k, a->D, view, s);
        alpha = softmax_page(st, view, s);
        values_rows(rows.v, a->D, view, s, mix);
    }
    for (uint32_t c = 0; c < a->D; c++) {
        st->now.o[c] = fmaf(st->now.o[c], alpha, mix[c]);
    }
}

/* The present part joins those before it, and the next begins. */
static void end_part(struct state *st, uint32_t D)
{
    struct ingle_attn_sums all = {st->all.o, &st->all.m, &st->all.l};
    struct ingle_attn_sums now = {st->now.o, &st->now.m, &st->now.l};
    float a, b;
    ingle_attn_merge(&all, &now, 1, D, &a, &b);
    st->now = (struct sums){.m = -INFINITY};
}

static void attend_row(const struct ingle_arg_attn *a, const struct ingle_kv_seq *seq, uint32_t row,
                       uint32_t position, uint32_t head)
{
    uint64_t at = ((uint64_t)row * a->H + head) * a->D;
    uint32_t own = ingle_kv_span_find(seq, position);
    const struct ingle_kv_span *chunk = NULL;
    struct ingle_rope_turn turn;
    struct state st = {.now.m = -INFINITY, .all.m = -INFINITY};
    float inverse;
    bool sane = true;

    assert(own < seq->n_spans);
    for (uint32_t i = 0; i <= own; i++) {
        const struct ingle_kv_span *span = &seq->spans[i];
        struct ingle_kv_view view = ingle_kv_span_view(span, position, a->window);
        if (view.t0 >= view.t1) {
            continue;
        }
        if (chunk == NULL || chunk->base != span->base) {
            for (uint32_t c = 0; c < a->D; c++) {
                st.q[c] = a->scale * a->q[at + c];
            }
            ingle_rope_turn_at(a->rope, position - span->base, &turn);
            ingle_rope_apply(&turn, st.q);
            chunk = span;
        }
        attend_page(a, span, head / (a->H / a->Hk), view, i == own, &st);
        if (i == own || ingle_kv_span_part(span) != ingle_kv_span_part(span + 1)) {
            end_part(&st, a->D);
        }
    }
    for (uint32_t c = 0; c < a->D; c++) {
        sane = sane && fabsf(a->q[at + c]) < INGLE_KV_Q_MAX;
    }
    inverse = sane ? 1.0f / st.all.l : NAN;
    for (uint32_t c = 0; c < a->D; c++) {
        st.all.o[c] *= inverse;
    }
    ingle_attn_put(a, row, head, 1, st.all.o);
}

void ingle_attn_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    const struct ingle_arg_attn *a = &op->attn;
    uint32_t unit = 0;

    assert(a->D % INGLE_LANES == 0 && a->D <= D_MAX && a->H % a->Hk == 0);
    assert(a->act == NULL || a->D % INGLE_ACT_GROUP == 0);
    for (uint32_t i = 0; i < a->n_seqs; i++) {
        const struct ingle_kv_seq *seq = &a->seqs[i];
        for (uint32_t r = 0; r < seq->n_rows; r++) {
            for (uint32_t h = 0; h < a->H; h++) {
                if (unit++ % worker->count == worker->index) {
                    attend_row(a, seq, seq->row0 + r, seq->pos0 + r, h);
                }
            }
        }
    }
}
