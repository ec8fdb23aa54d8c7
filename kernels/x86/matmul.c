/* The loops of the matrix product around an instruction set's kernels (matmul.h): which tiles a
 * worker takes, which way a product goes, panels and groups. Owns nothing but its share of y and
 * the worker's scratch. */
#include "kernels/x86/matmul.h"

struct scratch {
    float acc[INGLE_MM_ROWS * INGLE_MM_PAIR * INGLE_TILE_ROWS]; /* [rows][pair][16] */
    float x[INGLE_MM_FEW * INGLE_MM_FLOAT_COLS];
    _Alignas(64) uint8_t panel[INGLE_MM_PANEL_BYTES];
};
static_assert(sizeof(struct scratch) + INGLE_SCRATCH_SUMS_BYTES <= INGLE_SCRATCH_BYTES,
              "fits a worker's scratch");

/* One panel's tiles against rows [row0, row0 + n_rows). */
struct strip {
    const struct ingle_mm_isa *isa;
    const struct ingle_arg_matmul *arg;
    struct scratch *scratch;
    float *acc;                     /* [n_rows][pair][16] of scratch->acc */
    const struct ingle_mm_out *out; /* [pair]: where the sums go, or NULL: they stay in acc */
    uint32_t i, row0, n_rows;
    uint64_t tile;
    const uint8_t *next; /* the tiles of the strip that comes after this one */
    uint64_t next_bytes; /* 0: none */
};

/* How many pieces n makes, none above max. */
static uint32_t pieces(uint32_t n, uint32_t max)
{
    return (n + max - 1) / max;
}

/* The next piece of `left` in pieces of nearly equal size, none above max. */
static uint32_t even_piece(uint32_t left, uint32_t max)
{
    return pieces(left, pieces(left, max));
}

/* Behind the last tile: the last one again, for a strip that lacks its second tile and for what is
 * prefetched at the end. */
static const uint8_t *tile_at(const struct ingle_matrix *w, uint64_t tile)
{
    uint64_t last = ingle_tiles(w->rows) - 1;
    return ingle_tile_at(w, tile < last ? tile : last);
}

static void decode(const struct strip *strip, ingle_mm_decode_fn *fn, uint32_t first, uint32_t n)
{
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    struct ingle_mm_decode decode = {.shape = ingle_tile_shape(w->type, w->cols),
                                     .first = first,
                                     .n = n,
                                     .panel = strip->scratch->panel};
    for (decode.side = 0; decode.side < strip->isa->pair; decode.side++) {
        decode.tile = tile_at(w, strip->tile + decode.side);
        fn(&decode);
    }
}

static void strip_int(const struct strip *strip)
{
    const struct ingle_mm_isa *isa = strip->isa;
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    const struct ingle_act *x = strip->arg->x;
    const bool two = x->mode == INGLE_ACT_INT16;
    const uint32_t blocks = w->cols / INGLE_BLOCK_COLS, most = isa->group;
    const uint64_t groups = (uint64_t)pieces(blocks, isa->blocks) * pieces(strip->n_rows, most);
    const uint64_t ahead = (strip->next_bytes / groups + 63) / 64 * 64;
    uint64_t fetched = 0;
    for (uint32_t b = 0, n; b < blocks; b += n) {
        n = even_piece(blocks - b, isa->blocks);
        decode(strip, isa->decode_fn(w->type), b, n);
        for (uint32_t r = 0, rows; r < strip->n_rows; r += rows, fetched += ahead) {
            const uint64_t row = strip->row0 + r;
            rows = even_piece(strip->n_rows - r, most);
            struct ingle_mm_group group = {
                .panel = strip->scratch->panel,
                .x = x->rows + row * x->row_stride + b * ingle_act_group_bytes(x->mode),
                .x_stride = x->row_stride,
                .acc = strip->acc + (uint64_t)r * isa->pair * INGLE_TILE_ROWS,
                .first = b == 0,
                .n = n,
                .out = b + n == blocks ? strip->out : NULL,
                .row = row,
                .rows = rows,
                .next = strip->next + fetched,
                .next_bytes = ahead};
            isa->group_fn(w->type, two, rows)(&group);
        }
    }
}

static void group_floats(enum ingle_act_mode mode, const uint8_t *from, float *ret_x)
{
    const bool two = mode == INGLE_ACT_INT16;
    if (mode == INGLE_ACT_BF16) {
        for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
            ret_x[k] = ingle_f32_of_bf16(((const uint16_t *)(const void *)from)[k]);
        }
        return;
    }
    const float scale = ingle_mm_tail(two, from)->scale;
    const int8_t *q = (const int8_t *)from;
    for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
        ret_x[k] = scale * (float)(two ? 128 * q[k] + q[k + INGLE_ACT_GROUP] : q[k]);
    }
}

/* Columns [col0, col0 + n_cols) of some rows as f32: where they are, or multiplied out. */
static void float_rows(const struct strip *strip, uint32_t row, uint32_t n_rows, uint32_t col0,
                       uint32_t n_cols, struct ingle_mm_group *group)
{
    const struct ingle_act *x = strip->arg->x;
    if (x->mode == INGLE_ACT_F32) {
        group->x = x->rows + row * x->row_stride + col0 * sizeof(float);
        group->x_stride = x->row_stride;
        return;
    }
    const uint64_t bytes = ingle_act_group_bytes(x->mode);
    group->x = (const uint8_t *)strip->scratch->x;
    group->x_stride = INGLE_MM_FLOAT_COLS * sizeof(float);
    for (uint32_t r = 0; r < n_rows; r++) {
        float *out = strip->scratch->x + r * INGLE_MM_FLOAT_COLS;
        const uint8_t *from = x->rows + (row + r) * x->row_stride + col0 / INGLE_ACT_GROUP * bytes;
        for (uint32_t c = 0; c < n_cols; c += INGLE_ACT_GROUP, from += bytes) {
            group_floats(x->mode, from, out + c);
        }
    }
}

static void strip_float(const struct strip *strip)
{
    const struct ingle_mm_isa *isa = strip->isa;
    const struct ingle_matrix *w = &strip->arg->w[strip->i];
    for (uint32_t c = 0, n; c < w->cols; c += n) {
        n = w->cols - c < INGLE_MM_FLOAT_COLS ? w->cols - c : INGLE_MM_FLOAT_COLS;
        decode(strip, isa->decode_float_fn(w->type), c, n);
        for (uint32_t r = 0, rows; r < strip->n_rows; r += rows) {
            rows = even_piece(strip->n_rows - r, isa->group_float);
            struct ingle_mm_group group = {.panel = strip->scratch->panel,
                                           .acc = strip->acc +
                                                  (uint64_t)r * isa->pair * INGLE_TILE_ROWS,
                                           .first = c == 0,
                                           .n = n,
                                           .out = c + n == w->cols ? strip->out : NULL,
                                           .row = strip->row0 + r};
            float_rows(strip, strip->row0 + r, rows, c, n, &group);
            isa->group_float_fn(rows)(&group);
        }
    }
}

/* No columns for a tile behind the last. */
static struct ingle_mm_out tile_out(const struct ingle_arg_matmul *arg, uint32_t i, uint64_t tile)
{
    uint64_t n0 = tile * INGLE_TILE_ROWS, rows = arg->w[i].rows;
    uint64_t left = n0 < rows ? rows - n0 : 0;
    return (struct ingle_mm_out){.y = arg->y[i] + n0,
                                 .stride = arg->y_stride[i],
                                 .bias = arg->bias[i] ? arg->bias[i] + n0 : NULL,
                                 .n = left < INGLE_TILE_ROWS ? (uint32_t)left : INGLE_TILE_ROWS};
}

static void strip_run(const struct strip *strip)
{
    const struct ingle_arg_matmul *arg = strip->arg;
    if (arg->x->mode == INGLE_ACT_F32 || ingle_wtype_is_float(arg->w[strip->i].type)) {
        strip_float(strip);
    } else {
        strip_int(strip);
    }
}

static void set_next(struct strip *strip, uint32_t i, uint64_t tile, bool exists)
{
    const struct ingle_matrix *w = &strip->arg->w[i];
    strip->next = tile_at(w, tile);
    strip->next_bytes = exists ? strip->isa->pair * ingle_tile_shape(w->type, w->cols).bytes : 0;
}

/* Rows that strips share: as many as there are sums for and whose activations stay near, because
 * every strip reads them all. */
static uint32_t rows_of_strips(const struct ingle_mm_isa *isa, const struct ingle_act *x)
{
    const uint64_t near = isa->near_bytes > 0 ? isa->near_bytes / x->row_stride : INGLE_MM_ROWS,
                   rows = near > INGLE_ROWS_LEAST ? near : INGLE_ROWS_LEAST;
    return rows < INGLE_MM_ROWS ? (uint32_t)rows : INGLE_MM_ROWS;
}

static void tiles_many(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                       uint32_t i, const struct ingle_part *part, struct scratch *scratch)
{
    struct ingle_mm_out out[INGLE_MM_PAIR];
    struct strip strip = {
        .isa = isa, .arg = arg, .scratch = scratch, .acc = scratch->acc, .out = out, .i = i};
    for (strip.row0 = part->row0; strip.row0 < part->row1; strip.row0 += strip.n_rows) {
        strip.n_rows = even_piece(part->row1 - strip.row0, rows_of_strips(isa, arg->x));
        for (strip.tile = part->from; strip.tile < part->to; strip.tile += isa->pair) {
            for (uint32_t p = 0; p < isa->pair; p++) {
                out[p] = tile_out(arg, i, strip.tile + p);
                out[p].n = strip.tile + p < part->to ? out[p].n : 0; /* another worker's */
            }
            set_next(&strip, i, strip.tile + isa->pair, strip.tile + isa->pair < part->to);
            strip_run(&strip);
        }
    }
}

/* One tile against all rows; few->tile, next and out are set. */
static void tile_few(const struct ingle_mm_isa *isa, const struct ingle_matrix *w,
                     struct ingle_mm_few *few)
{
    few->shape = ingle_tile_shape(w->type, w->cols);
    few->ahead = (few->shape.bytes / few->shape.blocks + 63) / 64 * 64;
    for (uint32_t row = 0, rows; row < few->row_end; row += rows) {
        rows = even_piece(few->row_end - row, isa->few);
        few->row0 = row;
        isa->few_fn(w->type, few->x->mode == INGLE_ACT_INT16, rows)(few);
        few->ahead = 0;
    }
}

/* after: the tile that comes after the part's, or NULL. */
static void tiles_few(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                      uint32_t i, const struct ingle_part *part, const uint8_t *after)
{
    const struct ingle_matrix *w = &arg->w[i];
    struct ingle_mm_few few = {.x = arg->x, .row_end = arg->T};
    for (uint64_t tile = part->from; tile < part->to; tile++) {
        few.tile = tile_at(w, tile);
        few.next = tile + 1 < part->to ? tile_at(w, tile + 1) : after ? after : few.tile;
        few.out = tile_out(arg, i, tile);
        tile_few(isa, w, &few);
    }
}

static bool goes_few(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg, uint32_t i)
{
    return arg->T <= isa->few_max && arg->x->mode != INGLE_ACT_F32 &&
           !ingle_wtype_is_float(arg->w[i].type);
}

/* ---- gate and up: a group of 32 columns is two tiles of each ---- */

static void glu_few(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                    const struct ingle_part *part)
{
    float y[2][INGLE_FEW_ROWS][INGLE_ACT_GROUP] = {0};
    struct ingle_mm_few few = {.x = arg->x, .row_end = arg->T};
    for (uint64_t group = part->from; group < part->to; group++) {
        for (uint32_t i = 0; i < 2; i++) {
            for (uint64_t h = 0; h < 2 && 2 * group + h < ingle_tiles(arg->w[i].rows); h++) {
                few.tile = tile_at(&arg->w[i], 2 * group + h);
                few.next = h == 0   ? tile_at(&arg->w[i], 2 * group + 1)
                           : i == 0 ? tile_at(&arg->w[1], 2 * group)
                                    : tile_at(&arg->w[0], 2 * group + 2);
                few.out = tile_out(arg, i, 2 * group + h);
                few.out.y = y[i][0] + h * INGLE_TILE_ROWS;
                few.out.stride = INGLE_ACT_GROUP;
                tile_few(isa, &arg->w[i], &few);
            }
        }
        isa->glu_put(&(struct ingle_glu_rows){.out = arg->out,
                                              .kind = arg->glu,
                                              .n = arg->T,
                                              .group = group,
                                              .gate = {y[0][0], y[0][0] + INGLE_TILE_ROWS},
                                              .up = {y[1][0], y[1][0] + INGLE_TILE_ROWS},
                                              .stride = INGLE_ACT_GROUP});
    }
}

static void glu_many(const struct ingle_mm_isa *isa, const struct ingle_arg_matmul *arg,
                     const struct ingle_part *part, struct scratch *scratch)
{
    struct strip strip = {.isa = isa, .arg = arg, .scratch = scratch};
    for (strip.row0 = part->row0; strip.row0 < part->row1; strip.row0 += strip.n_rows) {
        strip.n_rows = even_piece(part->row1 - strip.row0, INGLE_MM_ROWS * INGLE_MM_PAIR / 4);
        const uint64_t tile_floats = (uint64_t)strip.n_rows * INGLE_TILE_ROWS;
        for (uint64_t group = part->from; group < part->to; group++) {
            const float *half[4]; /* gate, gate, up, up */
            for (uint32_t k = 0; k < 4; k += isa->pair) {
                strip.i = k / 2;
                strip.tile = 2 * group + k % 2;
                strip.acc = scratch->acc + k * tile_floats;
                uint32_t after = (k + isa->pair) % 4;
                set_next(&strip, after / 2, 2 * (group + (after == 0)) + after % 2,
                         after != 0 || group + 1 < part->to);
                strip_run(&strip);
                for (uint32_t p = 0; p < isa->pair; p++) {
                    half[k + p] = strip.acc + p * INGLE_TILE_ROWS;
                }
            }
            isa->glu_put(&(struct ingle_glu_rows){.out = arg->out,
                                                  .kind = arg->glu,
                                                  .row = strip.row0,
                                                  .n = strip.n_rows,
                                                  .group = group,
                                                  .gate = {half[0], half[1]},
                                                  .up = {half[2], half[3]},
                                                  .stride = isa->pair * INGLE_TILE_ROWS});
        }
    }
}

void ingle_mm_run(const struct ingle_mm_isa *isa, const struct ingle_op *op,
                  const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    struct scratch *scratch = (struct scratch *)(void *)worker->scratch;
    struct ingle_part parts[3][INGLE_PARTS_MAX];
    uint32_t n[4] = {0};
    bool floats = true; /* only */
    if (arg->T == 0) {
        return;
    }
    for (uint32_t i = 0; i < arg->n_w; i++) {
        assert(arg->w[i].cols == arg->x->cols);
        floats = floats && ingle_wtype_is_float(arg->w[i].type);
        n[i] = ingle_parts(op, i, worker, parts[i]);
    }
    if (arg->x->mode == INGLE_ACT_BF16 && !isa->bf16 && !floats) {
        ingle_matmul_ref(op, worker);
        return;
    }
    if (arg->out) {
        assert(arg->n_w == 2 && arg->w[0].rows == arg->out->cols &&
               arg->w[1].rows == arg->out->cols && !arg->bias[0] && !arg->bias[1]);
    }
    for (uint32_t i = 0; i < arg->n_w; i++) {
        const bool few = goes_few(isa, arg, i) && (!arg->out || goes_few(isa, arg, 1));
        const uint8_t *after = n[i + 1] > 0 ? tile_at(&arg->w[i + 1], parts[i + 1][0].from) : NULL;
        for (uint32_t p = 0; p < n[i]; p++) {
            if (arg->out && few) {
                glu_few(isa, arg, &parts[i][p]);
            } else if (arg->out) {
                glu_many(isa, arg, &parts[i][p], scratch);
            } else if (few) {
                tiles_few(isa, arg, i, &parts[i][p], after);
            } else {
                tiles_many(isa, arg, i, &parts[i][p], scratch);
            }
        }
    }
}
