/* Builds and runs the world of check_world.h. Everything comes from the seed; nothing is shared. */
#include "tests/unit/kernels/check_world.h"

#include <math.h>
#include <string.h>

#include "kernels/kvpage.h"

enum {
    S = INGLE_PAGE_TOKENS,
    HI = 64,
    E = 64, /* columns of the product with q, k and v */
    LAYERS = 2
};

static const double rope_base = 10000.0;

/* NaNs, in f16 as in f32: what nobody wrote must not be read. */
static void *get_bytes(uint64_t bytes)
{
    void *p = check_alloc(bytes);
    memset(p, 0xff, bytes);
    return p;
}

static float *get_floats(uint64_t n)
{
    float *p = check_alloc_floats(n);
    memset(p, 0xff, n * sizeof *p);
    return p;
}

static float *get_normal(uint64_t n, struct check_rng *rng)
{
    float *x = get_floats(n);
    check_floats(rng, x, n);
    return x;
}

static void fill_rope(struct world *w)
{
    uint32_t n_rot = w->shape.n_rot;
    w->rope_lo = get_floats((uint64_t)256 * n_rot);
    w->rope_hi = get_floats((uint64_t)HI * n_rot);
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double theta = pow(rope_base, -2.0 * i / n_rot);
        for (uint32_t p = 0; p < 256; p++) {
            w->rope_lo[p * n_rot + 2 * i] = (float)cos(p * theta);
            w->rope_lo[p * n_rot + 2 * i + 1] = (float)sin(p * theta);
        }
        for (uint32_t p = 0; p < HI; p++) {
            w->rope_hi[p * n_rot + 2 * i] = (float)cos(256.0 * p * theta);
            w->rope_hi[p * n_rot + 2 * i + 1] = (float)sin(256.0 * p * theta);
        }
    }
    w->rope = (struct ingle_rope){.n_rot = n_rot, .n_hi = HI, .lo = w->rope_lo, .hi = w->rope_hi};
}

/* Cut the tokens into random chunks and these into pages. */
static void cut_pages(struct world *w, struct world_seq *seq, struct check_rng *random)
{
    const struct world_shape *s = &w->shape;
    uint32_t base = 0;
    seq->pages = check_alloc((seq->tokens + 1) * sizeof(*seq->pages));
    while (base < seq->tokens) {
        uint32_t spread = s->chunk_max - s->chunk_min + 1;
        uint32_t left = seq->tokens - base;
        uint32_t length = s->chunk_min + check_u32(random) % spread;
        length = length < left ? length : left;
        for (uint32_t first = 0; first < length; first += S) {
            struct world_page *page = &seq->pages[seq->n_pages++];
            page->base = base;
            page->first = first;
            page->n_tokens = length - first < S ? length - first : S;
            page->form = (uint8_t)(base + first == 0 && s->first_q8 ? INGLE_KV_Q8 : s->form);
            page->open = get_bytes(LAYERS * ingle_kv_layer_bytes(INGLE_KV_OPEN, s->Hk, s->D));
            page->sealed = get_bytes(LAYERS * ingle_kv_layer_bytes(page->form, s->Hk, s->D));
        }
        base += length;
    }
}

/* Biases are there where one channel has one. */
static void fill_matrices(struct world *w, struct check_rng *random)
{
    const struct world_shape *s = &w->shape;
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t rows = (i == 0 ? s->H : s->Hk) * s->D;
        w->w[i] = check_matrix(random, s->type, rows, E);
        w->bias[i] = s->outlier != 0.0f ? check_alloc_floats(rows) : NULL;
    }
    for (uint32_t i = s->D - 2; w->bias[1] && i < s->Hk * s->D; i += s->D) {
        w->bias[1][i] = s->outlier;
    }
}

/* What the product makes of all tokens. */
static void fill_products(const struct world *w, const struct world_seq *seq)
{
    const struct world_shape *s = &w->shape;
    struct ingle_act x = {
        .mode = s->mode, .cols = E, .row_stride = ingle_act_row_bytes(s->mode, E), .rows = seq->x};
    const struct ingle_op op = {.kind = INGLE_K_MATMUL,
                                .matmul = {.x = &x,
                                           .n_w = 3,
                                           .T = seq->tokens,
                                           .w = {w->w[0], w->w[1], w->w[2]},
                                           .bias = {w->bias[0], w->bias[1], w->bias[2]},
                                           .y = {seq->q, seq->k, seq->v},
                                           .y_stride = {s->H * s->D, s->Hk * s->D, s->Hk * s->D}}};
    check_run(ingle_kernels_ref(), &op, 1);
}

static void fill_seq(struct world *w, struct world_seq *seq, uint32_t tokens,
                     struct check_rng *random)
{
    const struct world_shape *s = &w->shape;
    uint32_t q_row = s->H * s->D, k_row = s->Hk * s->D;
    float *x = get_normal((uint64_t)tokens * E, random);
    struct ingle_act act = check_act(s->mode, tokens, E);
    const struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {.x = x, .out = &act, .T = tokens}};
    for (uint32_t i = 0; i < tokens * E; i++) {
        x[i] *= 0.125f; /* so that sums of E products are about normal */
    }
    check_run(ingle_kernels_ref(), &op, 1);
    check_free(x);
    seq->tokens = tokens;
    seq->x = act.rows;
    seq->q = get_floats((uint64_t)tokens * q_row);
    seq->k = get_floats((uint64_t)tokens * k_row);
    seq->v = get_floats((uint64_t)tokens * k_row);
    seq->out = get_floats((uint64_t)tokens * q_row);
    fill_products(w, seq);
    cut_pages(w, seq, random);
}

void world_init(struct world *w, const struct world_shape *shape)
{
    struct check_rng random = {shape->seed};
    uint64_t rows = (uint64_t)shape->n_seqs * shape->tokens;
    memset(w, 0, sizeof(*w));
    w->shape = *shape;
    w->n_layers = LAYERS;
    w->layer = LAYERS - 1;
    fill_rope(w);
    fill_matrices(w, &random);
    w->q_gain = get_normal(shape->D, &random);
    w->k_gain = get_normal(shape->D, &random);
    assert_true(shape->n_seqs <= WORLD_SEQS_MAX);
    for (uint32_t i = 0; i < shape->n_seqs; i++) {
        uint32_t tokens = i == 0 ? shape->tokens : 1 + check_u32(&random) % shape->tokens;
        fill_seq(w, &w->seqs[i], tokens, &random);
        w->spans[i] = check_alloc(w->seqs[i].n_pages * sizeof(*w->spans[i]));
    }
    w->q = get_floats(rows * shape->H * shape->D);
    w->x = check_act(shape->mode, (uint32_t)rows, E);
    w->out = get_floats(rows * shape->H * shape->D);
    w->room.sums = check_alloc_floats((uint64_t)INGLE_ATTN_ROOM_PARTS * shape->H * (shape->D + 2));
    w->room.n_done = check_alloc(sizeof(*w->room.n_done) * INGLE_ATTN_ROOM_PARTS * shape->Hk);
}

void world_fini(struct world *w)
{
    for (uint32_t i = 0; i < w->shape.n_seqs; i++) {
        struct world_seq *seq = &w->seqs[i];
        for (uint32_t j = 0; j < seq->n_pages; j++) {
            check_free(seq->pages[j].open);
            check_free(seq->pages[j].sealed);
        }
        check_free(seq->pages);
        check_free(seq->x);
        check_free(seq->q);
        check_free(seq->k);
        check_free(seq->v);
        check_free(seq->out);
        check_free(w->spans[i]);
    }
    check_free(w->rope_lo);
    check_free(w->rope_hi);
    check_free(w->q_gain);
    check_free(w->k_gain);
    for (uint32_t i = 0; i < 3; i++) {
        check_free(w->w[i].data);
        if (w->bias[i]) {
            check_free(w->bias[i]);
        }
    }
    check_free(w->x.rows);
    check_free(w->q);
    check_free(w->out);
    check_free(w->room.sums);
    check_free(w->room.n_done);
    memset(w, 0, sizeof(*w));
}

/* Spans of the positions [0, to) after a step that adds [from, to). */
static uint32_t fill_spans(const struct world *w, const struct world_seq *seq, uint32_t from,
                           uint32_t to, struct ingle_kv_span *spans)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < seq->n_pages; i++) {
        const struct world_page *page = &seq->pages[i];
        uint32_t start = page->base + page->first, end = start + page->n_tokens;
        struct ingle_kv_span *span = &spans[n];
        if (start >= to) {
            break;
        }
        n++;
        *span =
            (struct ingle_kv_span){.base = page->base, .first = page->first, .form = page->form};
        span->n_tokens = (uint16_t)((to < end ? to : end) - start);
        span->seal = end > from && end <= to;
        span->open = end > from ? page->open : NULL;
        span->sealed = end <= to ? page->sealed : NULL;
        if (w->shape.window != 0 && end + w->shape.window <= from + 1) {
            span->open = NULL;
            span->sealed = NULL;
        }
    }
    return n;
}

static void make_ops(struct world *w, struct ingle_op ret_ops[WORLD_OPS])
{
    const struct world_shape *s = &w->shape;
    const struct ingle_rope *rope = s->n_rot != 0 ? &w->rope : NULL;
    ret_ops[WORLD_QKV] = (struct ingle_op){.kind = INGLE_K_QKV,
                                           .qkv = {.x = &w->x,
                                                   .w = {w->w[0], w->w[1], w->w[2]},
                                                   .bias = {w->bias[0], w->bias[1], w->bias[2]},
                                                   .T = ingle_kv_batch_rows(w->batch, w->n_batch),
                                                   .q = w->q,
                                                   .q_gain = s->norm ? w->q_gain : NULL,
                                                   .k_gain = s->norm ? w->k_gain : NULL,
                                                   .rope = rope,
                                                   .seqs = w->batch,
                                                   .n_seqs = w->n_batch,
                                                   .H = s->H,
                                                   .Hk = s->Hk,
                                                   .D = s->D,
                                                   .layer = w->layer,
                                                   .eps = 1e-6f}};
    ret_ops[WORLD_ATTN] = (struct ingle_op){.kind = INGLE_K_ATTN,
                                            .attn = {.q = w->q,
                                                     .out = w->out,
                                                     .room = &w->room,
                                                     .rope = rope,
                                                     .seqs = w->batch,
                                                     .n_seqs = w->n_batch,
                                                     .H = s->H,
                                                     .Hk = s->Hk,
                                                     .D = s->D,
                                                     .layer = w->layer,
                                                     .window = s->window,
                                                     .scale = 1.0f / sqrtf((float)s->D)}};
}

/* Rows [from, end) of sequence i join the batch. */
static void put_seq(struct world *w, uint32_t i, uint32_t from, uint32_t end)
{
    const struct world_seq *seq = &w->seqs[i];
    uint32_t row = ingle_kv_batch_rows(w->batch, w->n_batch);
    struct ingle_kv_seq *in = &w->batch[w->n_batch];

    w->who[w->n_batch++] = i;
    *in = (struct ingle_kv_seq){.row0 = row, .n_rows = end - from, .pos0 = from};
    in->n_spans = fill_spans(w, seq, from, end, w->spans[i]);
    in->spans = w->spans[i];
    memcpy(w->x.rows + row * w->x.row_stride, seq->x + from * w->x.row_stride,
           in->n_rows * w->x.row_stride);
}

void world_ops(struct world *w, uint32_t mask, uint32_t from, uint32_t to,
               struct ingle_op ret_ops[WORLD_OPS])
{
    w->n_batch = 0;
    for (uint32_t i = 0; i < w->shape.n_seqs; i++) {
        uint32_t end = to < w->seqs[i].tokens ? to : w->seqs[i].tokens;
        if ((mask >> i & 1) != 0 && end > from) {
            put_seq(w, i, from, end);
        }
    }
    make_ops(w, ret_ops);
}

void world_last_ops(struct world *w, uint32_t rows, struct ingle_op ret_ops[WORLD_OPS])
{
    w->n_batch = 0;
    for (uint32_t i = 0; i < w->shape.n_seqs; i++) {
        if (w->seqs[i].tokens >= rows) {
            put_seq(w, i, w->seqs[i].tokens - rows, w->seqs[i].tokens);
        }
    }
    make_ops(w, ret_ops);
}

void world_store(struct world *w, const struct ingle_kernels *kernels)
{
    struct ingle_op ops[WORLD_OPS];
    world_ops(w, ~0u, 0, w->shape.tokens, ops);
    check_run(kernels, &ops[WORLD_QKV], 1);
}

void world_step(struct world *w, const struct ingle_kernels *kernels, uint32_t n_workers,
                uint32_t mask, uint32_t from, uint32_t to)
{
    const struct world_shape *s = &w->shape;
    uint64_t q_row = (uint64_t)s->H * s->D;
    struct ingle_op ops[WORLD_OPS];

    world_ops(w, mask, from, to, ops);
    for (uint32_t i = 0; i < WORLD_OPS; i++) {
        check_run(kernels, &ops[i], n_workers);
    }
    for (uint32_t b = 0; b < w->n_batch; b++) {
        const struct ingle_kv_seq *in = &w->batch[b];
        memcpy(w->seqs[w->who[b]].out + from * q_row, w->out + in->row0 * q_row,
               sizeof(float) * in->n_rows * q_row);
        for (uint32_t i = 0; i < in->n_spans && !s->keep_open; i++) {
            if (in->spans[i].seal) {
                memset(in->spans[i].open, 0xff,
                       w->n_layers * ingle_kv_layer_bytes(INGLE_KV_OPEN, s->Hk, s->D));
            }
        }
    }
}

void world_run(struct world *w, const struct ingle_kernels *kernels, uint32_t n_workers,
               uint32_t cut)
{
    for (uint32_t from = 0; from < w->shape.tokens; from += cut) {
        world_step(w, kernels, n_workers, ~0u, from, from + cut);
    }
}

/* ---- the plain definition in double precision --------------------------------------------------
 */

static void plain_head(const struct world *w, const float *x, const float *gain, uint32_t position,
                       double *ret_x)
{
    const struct world_shape *s = &w->shape;
    double square = 0.0;
    for (uint32_t i = 0; i < s->D; i++) {
        square += (double)x[i] * (double)x[i];
    }
    for (uint32_t i = 0; i < s->D; i++) {
        ret_x[i] = (double)x[i];
        if (s->norm) {
            ret_x[i] *= (double)gain[i] / sqrt(square / s->D + 1e-6);
        }
    }
    for (uint32_t i = 0; i < s->n_rot / 2; i++) {
        double angle = position * pow(rope_base, -2.0 * i / s->n_rot);
        double a = ret_x[i], b = ret_x[i + s->n_rot / 2];
        ret_x[i] = a * cos(angle) - b * sin(angle);
        ret_x[i + s->n_rot / 2] = a * sin(angle) + b * cos(angle);
    }
}

static void plain_row(const struct world *w, const struct world_seq *seq, const double *k,
                      uint32_t row, uint32_t head, double *ret_out)
{
    const struct world_shape *s = &w->shape;
    uint32_t kv = head / (s->H / s->Hk);
    uint32_t first = s->window != 0 && row + 1 > s->window ? row + 1 - s->window : 0;
    double q[INGLE_HEAD_DIM_MAX], sum = 0.0, max = -1e30;
    double *p = check_alloc((row + 1) * sizeof(*p));

    plain_head(w, seq->q + ((uint64_t)row * s->H + head) * s->D, w->q_gain, row, q);
    for (uint32_t j = first; j <= row; j++) {
        p[j] = 0.0;
        for (uint32_t c = 0; c < s->D; c++) {
            p[j] += q[c] * k[((uint64_t)j * s->Hk + kv) * s->D + c] / sqrt(s->D);
        }
        max = p[j] > max ? p[j] : max;
    }
    for (uint32_t c = 0; c < s->D; c++) {
        ret_out[c] = 0.0;
    }
    for (uint32_t j = first; j <= row; j++) {
        double weight = exp(p[j] - max);
        sum += weight;
        for (uint32_t c = 0; c < s->D; c++) {
            ret_out[c] += weight * (double)seq->v[((uint64_t)j * s->Hk + kv) * s->D + c];
        }
    }
    for (uint32_t c = 0; c < s->D; c++) {
        ret_out[c] /= sum;
    }
    check_free(p);
}

void world_plain(const struct world *w, uint32_t which, uint32_t from, double *ret_out)
{
    const struct world_shape *s = &w->shape;
    const struct world_seq *seq = &w->seqs[which];
    double *k = check_alloc((uint64_t)seq->tokens * s->Hk * s->D * sizeof(*k));

    for (uint32_t j = 0; j < seq->tokens; j++) {
        for (uint32_t h = 0; h < s->Hk; h++) {
            uint64_t at = ((uint64_t)j * s->Hk + h) * s->D;
            plain_head(w, seq->k + at, w->k_gain, j, k + at);
        }
    }
    for (uint32_t i = from; i < seq->tokens; i++) {
        for (uint32_t h = 0; h < s->H; h++) {
            plain_row(w, seq, k, i, h, ret_out + ((uint64_t)(i - from) * s->H + h) * s->D);
        }
    }
    check_free(k);
}
