/* KV pages and attention: against plain softmax in double precision, against the reference bit for
 * bit, and the invariance that sharing and batching rest on. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/kvpage.h"
#include "tests/unit/kernels/check_world.h"

enum {
    S = INGLE_PAGE_TOKENS
};

static const struct world_shape smol = {.H = 9,
                                        .Hk = 3,
                                        .D = 64,
                                        .n_rot = 64,
                                        .form = INGLE_KV_Q8,
                                        .n_seqs = 1,
                                        .tokens = 200,
                                        .chunk_min = 48,
                                        .chunk_max = 256,
                                        .seed = 1};

/* Root of the mean squared error over the root of the mean square of the plain answer, of the rows
 * from `from` on. */
static double relative_error(const struct world *w, uint32_t seq, uint32_t from)
{
    uint64_t row = (uint64_t)w->shape.H * w->shape.D, n = (w->seqs[seq].tokens - from) * row;
    const float *out = w->seqs[seq].out + from * row;
    double *plain = check_alloc(n * sizeof(*plain)), error = 0.0, square = 0.0;
    world_plain(w, seq, from, plain);
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)out[i] - plain[i];
        error += d * d;
        square += plain[i] * plain[i];
    }
    check_free(plain);
    return sqrt(error / square);
}

static double error_of(const struct world_shape *shape, const struct ingle_kernels *table)
{
    struct world w;
    double error;
    world_init(&w, shape);
    world_run(&w, table, 2, 100);
    error = relative_error(&w, 0, 0);
    world_fini(&w);
    return error;
}

/* ---- quality -----------------------------------------------------------------------------------
 */
void attn_of_f16_pages_agrees_with_plain_softmax(void **state)
{
    struct world_shape shape = smol;
    shape.form = INGLE_KV_F16;
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
    shape.norm = true;
    shape.window = 100;
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
    shape.n_rot = 32;
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
    shape.n_rot = 0;
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
}

/* A stored key serves at every base: the base enters through q alone. */
void attn_at_any_base_agrees_with_direct_rotation(void **state)
{
    struct world_shape shape = smol;
    shape.form = INGLE_KV_F16;
    shape.H = shape.Hk = 1;
    shape.tokens = 1200;
    shape.chunk_min = shape.chunk_max = 48;
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
    shape.chunk_min = shape.chunk_max = 1200; /* positions in the chunk beyond the small table */
    assert_true(error_of(&shape, check_table(state)) < 1e-3);
}

void attn_of_q8_pages_is_within_tolerance(void **state)
{
    struct world_shape shape = smol;
    assert_true(error_of(&shape, check_table(state)) < 0.01);
    shape.outlier = 60.0f; /* a channel's bias is in its minimum; f16 rounding of it remains */
    assert_true(error_of(&shape, check_table(state)) < 0.02);
}

void attn_of_q4_pages_is_within_tolerance(void **state)
{
    struct world_shape shape = smol;
    shape.form = INGLE_KV_Q4;
    assert_true(error_of(&shape, check_table(state)) < 0.12);
    shape.first_q8 = true;
    assert_true(error_of(&shape, check_table(state)) < 0.10);
}

/* ---- the reference, bit for bit ----------------------------------------------------------------
 */
static void assert_same_pages(const struct world *a, const struct world *b, uint32_t seq)
{
    const struct world_shape *s = &a->shape;
    for (uint32_t j = 0; j < a->seqs[seq].n_pages; j++) {
        const struct world_page *x = &a->seqs[seq].pages[j], *y = &b->seqs[seq].pages[j];
        assert_memory_equal(x->sealed, y->sealed,
                            a->n_layers * ingle_kv_layer_bytes(x->form, s->Hk, s->D));
        assert_memory_equal(x->open, y->open,
                            a->n_layers * ingle_kv_layer_bytes(INGLE_KV_OPEN, s->Hk, s->D));
    }
}

static void assert_same_world(const struct world *a, const struct world *b)
{
    const struct world_shape *s = &a->shape;
    for (uint32_t i = 0; i < s->n_seqs; i++) {
        const struct world_seq *x = &a->seqs[i], *y = &b->seqs[i];
        check_same_floats(x->out, y->out, (uint64_t)x->tokens * s->H * s->D, "attention");
        assert_same_pages(a, b, i);
    }
}

static uint32_t pick(struct check_rng *rng, const uint32_t *from, uint32_t n)
{
    return from[check_u32(rng) % n];
}

static struct world_shape random_shape(struct check_rng *rng)
{
    static const uint32_t G[] = {1, 2, 3, 7, 5, 26}, D[] = {16, 32, 48, 64, 64, 80, 128, 256};
    static const uint32_t window[] = {0, 0, 1, 9, 64, 100}, chunk[] = {1, 17, 64, 65, 200};
    static const uint32_t type[] = {INGLE_W_F32, INGLE_W_Q8_0, INGLE_W_Q4_1, INGLE_W_Q5_0};
    struct world_shape s = {.seed = check_u32(rng)};
    s.Hk = 1 + check_u32(rng) % 3;
    s.H = s.Hk * pick(rng, G, 6);
    s.D = pick(rng, D, 8);
    s.n_rot = pick(rng, (uint32_t[]){0, s.D / 2, s.D, s.D}, 4);
    s.window = pick(rng, window, 6);
    s.form = INGLE_KV_F16 + check_u32(rng) % 3;
    s.first_q8 = check_u32(rng) % 2;
    s.norm = check_u32(rng) % 2;
    s.n_seqs = 1 + check_u32(rng) % 3;
    s.tokens = 1 + check_u32(rng) % 180;
    s.chunk_min = pick(rng, chunk, 5);
    s.chunk_max = s.chunk_min + check_u32(rng) % 70;
    s.outlier = check_u32(rng) % 2 ? 3.0f : 0.0f;
    s.mode = check_u32(rng) % INGLE_ACT_COUNT;
    s.type = pick(rng, type, 4);
    return s;
}

void attn_and_pages_equal_reference(void **state)
{
    struct check_rng rng = {7};
    for (uint32_t round = 0; round < 40; round++) {
        struct world_shape shape = random_shape(&rng);
        struct world a, b;
        world_init(&a, &shape);
        world_init(&b, &shape);
        world_run(&a, check_table(state), 1 + round % 3, 1 + check_u32(&rng) % 200);
        world_run(&b, ingle_kernels_ref(), 1, 64);
        assert_same_world(&a, &b);
        world_fini(&a);
        world_fini(&b);
    }
}

void attn_does_not_depend_on_the_cut(void **state)
{
    static const uint32_t cuts[] = {1, 7, 32, 256, 1000};
    for (uint32_t form = INGLE_KV_F16; form <= INGLE_KV_Q4; form++) {
        struct world_shape shape = smol;
        struct world whole, cut;
        shape.form = form;
        shape.window = form == INGLE_KV_Q4 ? 150 : 0;
        shape.tokens = 400;
        world_init(&whole, &shape);
        world_run(&whole, check_table(state), 1, shape.tokens);
        for (uint32_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
            world_init(&cut, &shape);
            world_run(&cut, check_table(state), 2, cuts[i]);
            assert_same_world(&cut, &whole);
            world_fini(&cut);
        }
        world_fini(&whole);
    }
}

void attn_does_not_depend_on_companions_or_workers(void **state)
{
    struct world_shape shape = smol;
    struct world together, alone;
    shape.H = 14;
    shape.Hk = 2;
    shape.n_seqs = 4;
    world_init(&together, &shape);
    world_init(&alone, &shape);
    world_run(&together, check_table(state), 5, 50);
    for (uint32_t i = 0; i < shape.n_seqs; i++) {
        for (uint32_t from = 0; from < shape.tokens; from += 33) {
            world_step(&alone, check_table(state), 1 + from % 4, 1u << i, from, from + 33);
        }
    }
    assert_same_world(&together, &alone);
    world_fini(&together);
    world_fini(&alone);
}

void attn_in_codes_equals_the_codes_of_attn(void **state)
{
    static const uint32_t D[] = {32, 64, 96, 256};
    for (uint32_t turn = 0; turn < 4 * INGLE_ACT_COUNT; turn++) {
        enum ingle_act_mode mode = turn / 4;
        struct world_shape shape = smol;
        struct ingle_op ops[WORLD_OPS], quant;
        struct ingle_act act[2];
        struct world w;
        shape.H = 14;
        shape.Hk = 2;
        shape.D = shape.n_rot = D[turn % 4];
        shape.tokens = 100;
        world_init(&w, &shape);
        world_ops(&w, 1, 0, shape.tokens, ops);
        for (uint32_t i = 0; i < WORLD_OPS; i++) {
            check_run(ingle_kernels_ref(), &ops[i], 1);
        }
        act[0] = check_act(mode, shape.tokens, shape.H * shape.D);
        act[1] = check_act(mode, shape.tokens, shape.H * shape.D);
        quant = (struct ingle_op){.kind = INGLE_K_QUANT, .quant = {w.out, &act[0], shape.tokens}};
        check_run(ingle_kernels_ref(), &quant, 1);
        ops[WORLD_ATTN].attn.act = &act[1];
        ops[WORLD_ATTN].attn.out = NULL;
        check_run(check_table(state), &ops[WORLD_ATTN], 1 + turn % 3);
        assert_memory_equal(act[0].rows, act[1].rows, shape.tokens * act[0].row_stride);
        check_free(act[0].rows);
        check_free(act[1].rows);
        world_fini(&w);
    }
}

/* ---- pages that no store wrote -----------------------------------------------------------------
 */
/* Any codes under finite scales and minima. */
static void fill_block(struct check_rng *rng, const struct world *w, const struct world_page *page)
{
    const struct world_shape *s = &w->shape;
    for (uint32_t h = 0; h < s->Hk; h++) {
        struct ingle_kv_block block =
            ingle_kv_block_at(page->sealed, page->form, s->Hk, s->D, w->layer, h);
        for (uint32_t i = 0; i < ingle_kv_code_bytes(page->form, s->D); i++) {
            block.k_codes[i] = (uint8_t)check_u32(rng);
            block.v_codes[i] = (uint8_t)check_u32(rng);
        }
        for (uint32_t i = 0; i < s->D; i++) {
            block.k_scale[i] = ingle_f16_of_f32(fabsf(check_float(rng)) * 0.01f);
            block.k_min[i] = ingle_f16_of_f32(check_float(rng));
        }
        for (uint32_t i = 0; i < S; i++) {
            block.v_scale[i] = ingle_f16_of_f32(fabsf(check_float(rng)) * 0.01f);
            block.v_min[i] = ingle_f16_of_f32(check_float(rng));
        }
    }
}

static void run_last_page(struct world *w, const struct ingle_kernels *table)
{
    const struct world_page *last = &w->seqs[0].pages[w->seqs[0].n_pages - 1];
    world_step(w, table, 2, 1, last->base + last->first, w->shape.tokens);
}

void attn_of_random_codes_equals_reference(void **state)
{
    struct check_rng rng = {11};
    for (uint32_t round = 0; round < 12; round++) {
        struct world_shape shape = random_shape(&rng);
        struct world a, b;
        shape.form = INGLE_KV_Q8 + round % 2;
        shape.n_seqs = 1;
        world_init(&a, &shape);
        world_init(&b, &shape);
        for (uint32_t j = 0; j < a.seqs[0].n_pages; j++) {
            struct check_rng same = {round * 1000 + j}, again = same;
            fill_block(&same, &a, &a.seqs[0].pages[j]);
            fill_block(&again, &b, &b.seqs[0].pages[j]);
        }
        run_last_page(&a, check_table(state));
        run_last_page(&b, ingle_kernels_ref());
        assert_same_world(&a, &b);
        world_fini(&a);
        world_fini(&b);
    }
}

/* Pages are ours, but a flipped bit on disk must not crash: any bytes, scales of Inf and NaN. */
void attn_of_any_bytes_returns(void **state)
{
    struct check_rng rng = {13};
    for (uint32_t round = 0; round < 12; round++) {
        struct world_shape shape = random_shape(&rng);
        struct world w;
        shape.n_seqs = 1;
        world_init(&w, &shape);
        for (uint32_t j = 0; j < w.seqs[0].n_pages; j++) {
            const struct world_page *page = &w.seqs[0].pages[j];
            uint64_t bytes = w.n_layers * ingle_kv_layer_bytes(page->form, shape.Hk, shape.D);
            for (uint64_t i = 0; i < bytes; i++) {
                page->sealed[i] = (uint8_t)check_u32(&rng);
            }
        }
        run_last_page(&w, check_table(state));
        world_fini(&w);
    }
}

void attn_of_nan_query_is_nan_in_its_head_only(void **state)
{
    static const float bad[] = {NAN, INFINITY, -0x1p80f};
    const uint64_t row = (uint64_t)smol.H * smol.D, at = 130 * row + 4 * smol.D;
    for (uint32_t round = 0; round < 3; round++) {
        struct ingle_op ops[WORLD_OPS];
        struct world w;
        world_init(&w, &smol);
        world_ops(&w, 1, 0, smol.tokens, ops);
        check_run(check_table(state), &ops[WORLD_QKV], 1);
        check_run(check_table(state), &ops[WORLD_ATTN], 1);
        float *good = w.seqs[0].out;
        memcpy(good, w.out, smol.tokens * row * sizeof(*good));
        w.q[at + 17 * round] = bad[round];
        check_run(check_table(state), &ops[WORLD_ATTN], 1);
        for (uint32_t c = 0; c < smol.D; c++) {
            assert_true(isnan(w.out[at + c]));
            w.out[at + c] = good[at + c];
        }
        check_same_floats(w.out, good, smol.tokens * row, "attention beside a NaN");
        world_fini(&w);
    }
}

/* ---- parts, and workers that share them --------------------------------------------------------
 */
/* Room that holds nothing and says that nothing is there. */
static void empty_room(struct world *w)
{
    const struct world_shape *s = &w->shape;
    memset(w->room.sums, 0xff, sizeof(float) * INGLE_ATTN_ROOM_PARTS * s->H * (s->D + 2));
}

static void assert_nobody_is_awaited(const struct world *w)
{
    for (uint32_t i = 0; i < INGLE_ATTN_ROOM_PARTS * w->shape.Hk; i++) {
        assert_int_equal(atomic_load_explicit(&w->room.n_done[i], memory_order_relaxed), 0);
    }
}

static struct world_shape long_shape(struct check_rng *rng, uint32_t round)
{
    static const uint32_t tokens[] = {1, 511, 512, 513, 1100, 3000};
    static const uint32_t window[] = {0, 0, 1, 100, 600, 1000};
    static const uint32_t Hk[] = {1, 2, 3, 8}, G[] = {1, 3, 4, 7, 26};
    static const uint32_t chunk[] = {17, 64, 65, 200, 3000};
    struct world_shape s = random_shape(rng);
    s.tokens = tokens[round % 6];
    s.form = INGLE_KV_F16 + round / 6 % 3;
    s.window = pick(rng, window, 6);
    s.Hk = pick(rng, Hk, 4);
    s.H = s.Hk * pick(rng, G, s.Hk == 8 ? 3 : 5);
    s.D = pick(rng, (uint32_t[]){16, 64, 80}, 3);
    s.n_rot = pick(rng, (uint32_t[]){0, s.D}, 2);
    s.chunk_min = pick(rng, chunk, 5);
    s.chunk_max = s.chunk_min + check_u32(rng) % 70;
    return s;
}

/* With room and without, by one to sixteen workers; 120 rows of 1100 tokens find no room. */
void attn_by_parts_equals_reference(void **state)
{
    static const uint32_t rows[] = {1, 1, 2, 5, 24};
    struct check_rng rng = {19};
    for (uint32_t round = 0; round < 37; round++) {
        struct world_shape shape = long_shape(&rng, round);
        uint32_t n_rows = round == 36 ? 120 : pick(&rng, rows, 5);
        struct ingle_op ops[WORLD_OPS];
        struct world w;
        if (round == 36) {
            shape.tokens = 1100;
            shape.n_seqs = 1;
            shape.H = shape.Hk = 2;
        }
        n_rows = n_rows < shape.tokens ? n_rows : shape.tokens;
        world_init(&w, &shape);
        world_store(&w, check_table(state));
        world_last_ops(&w, n_rows, ops);
        uint64_t n = (uint64_t)ingle_kv_batch_rows(w.batch, w.n_batch) * shape.H * shape.D;
        float *same = check_alloc_floats(n);
        check_run(ingle_kernels_ref(), &ops[WORLD_ATTN], 1);
        memcpy(same, w.out, n * sizeof(*same));
        for (uint32_t turn = 0; turn < 4; turn++) {
            memset(w.out, 0xff, n * sizeof(*same));
            empty_room(&w);
            ops[WORLD_ATTN].attn.room = turn == 3 ? NULL : &w.room;
            check_run_shuffled(check_table(state), &ops[WORLD_ATTN], 1 + (round * 4 + turn) % 16,
                               &rng);
            check_same_floats(w.out, same, n, "attention by parts");
            assert_nobody_is_awaited(&w);
        }
        check_free(same);
        world_fini(&w);
    }
}

/* The last rows of long sequences, by workers that share them. More random values average to less,
 * and four bits are coarser beside it than in short ones. */
void attn_of_long_contexts_agrees_with_plain_softmax(void **state)
{
    static const double tolerance[] = {
        [INGLE_KV_F16] = 1e-3, [INGLE_KV_Q8] = 0.01, [INGLE_KV_Q4] = 0.15};
    for (uint32_t form = INGLE_KV_F16; form <= INGLE_KV_Q4; form++) {
        struct world_shape shape = smol;
        struct world w;
        shape.form = form;
        shape.tokens = 3000;
        shape.H = 6;
        shape.window = form == INGLE_KV_Q8 ? 1300 : 0;
        world_init(&w, &shape);
        world_store(&w, check_table(state));
        world_step(&w, check_table(state), 5, 1, shape.tokens - 3, shape.tokens);
        assert_true(relative_error(&w, 0, shape.tokens - 3) < tolerance[form]);
        world_fini(&w);
    }
}

/* The last row of a sequence of several parts, and what one worker makes of it; w is the caller's
 * to end. */
static void attend_last_row(struct world *w, const struct ingle_kernels *table,
                            struct ingle_op ret_ops[WORLD_OPS], float ret_out[9 * 64])
{
    struct world_shape shape = smol;
    shape.tokens = 1700;
    world_init(w, &shape);
    world_store(w, table);
    world_last_ops(w, 1, ret_ops);
    check_run(table, &ret_ops[WORLD_ATTN], 1);
    memcpy(ret_out, w->out, sizeof(float) * shape.H * shape.D);
}

void attn_of_nan_query_stays_in_its_head_when_shared(void **state)
{
    struct check_rng rng = {23};
    struct ingle_op ops[WORLD_OPS];
    struct world w;
    float good[9 * 64];
    attend_last_row(&w, check_table(state), ops, good);
    w.q[4 * smol.D + 17] = NAN;
    for (uint32_t workers = 1; workers <= 16; workers++) {
        check_run_shuffled(check_table(state), &ops[WORLD_ATTN], workers, &rng);
        for (uint32_t i = 0; i < smol.H * smol.D; i++) {
            if (i / smol.D == 4) {
                assert_true(isnan(w.out[i]));
            } else {
                check_same_floats(&w.out[i], &good[i], 1, "attention beside a NaN");
            }
        }
    }
    world_fini(&w);
}

struct sharer {
    const struct ingle_kernels *table;
    const struct ingle_op *op;
    struct ingle_worker worker;
};

static void *sharer_main(void *arg)
{
    struct sharer *sharer = arg;
    sharer->table->op[sharer->op->kind](sharer->op, &sharer->worker);
    return NULL;
}

static void run_by_threads(const struct ingle_kernels *table, const struct ingle_op *op, uint32_t n)
{
    struct sharer sharers[16];
    pthread_t threads[16];
    assert_true(n <= 16);
    for (uint32_t i = 0; i < n; i++) {
        sharers[i] = (struct sharer){table, op, {i, n, check_alloc(INGLE_SCRATCH_BYTES)}};
        assert_int_equal(pthread_create(&threads[i], NULL, sharer_main, &sharers[i]), 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        check_free(sharers[i].worker.scratch);
    }
}

void attn_shared_by_threads_equals_that_of_one(void **state)
{
    enum {
        THREADS = 7,
        TIMES = 50
    };
    struct ingle_op ops[WORLD_OPS];
    struct world w;
    float same[9 * 64];
    attend_last_row(&w, check_table(state), ops, same);
    for (uint32_t turn = 0; turn < TIMES; turn++) {
        memset(w.out, 0xff, sizeof(same));
        empty_room(&w);
        run_by_threads(check_table(state), &ops[WORLD_ATTN], THREADS);
        check_same_floats(w.out, same, smol.H * smol.D, "attention by threads");
        assert_nobody_is_awaited(&w);
    }
    world_fini(&w);
}

/* ---- q, k, v, and the seal ---------------------------------------------------------------------
 */
/* With every cut of the rows among workers, in bands too, whichever comes first, and q of the last
 * rows only. */
void qkv_equals_reference(void **state)
{
    static const uint32_t tokens[] = {1, 3, 16, 17, 63, 200, 600};
    struct check_rng rng = {29};
    for (uint32_t round = 0; round < 42; round++) {
        struct world_shape shape = random_shape(&rng);
        struct ingle_op ops[2][WORLD_OPS];
        struct world w[2];
        shape.tokens = tokens[round % 7];
        shape.H = shape.H > 26 ? shape.Hk * 7 : shape.H;
        for (uint32_t i = 0; i < 2; i++) {
            world_init(&w[i], &shape);
        }
        for (uint32_t from = 0, to; from < shape.tokens; from = to) {
            to = from + 1 + check_u32(&rng) % shape.tokens;
            for (uint32_t i = 0; i < 2; i++) {
                world_ops(&w[i], ~0u, from, to, ops[i]);
            }
            const uint32_t T = ops[0][WORLD_QKV].qkv.T, row = shape.H * shape.D;
            const uint32_t q0 = round % 3 == 0 ? check_u32(&rng) % (T + 1) : 0;
            ops[0][WORLD_QKV].qkv.q0 = q0;
            memset(w[0].q, 0xff, sizeof(float) * T * row);
            struct ingle_bands bands;
            uint32_t workers = 1 + check_u32(&rng) % 16;
            if (check_u32(&rng) % 2 == 0 && T >= INGLE_PAGE_TOKENS) {
                workers = check_bands(&rng, T, workers, &bands);
                ops[0][WORLD_QKV].bands = &bands;
            }
            check_run_shuffled(check_table(state), &ops[0][WORLD_QKV], workers, &rng);
            for (uint32_t i = 0; ops[0][WORLD_QKV].bands && i < INGLE_BANDS_MAX; i++) {
                assert_int_equal(atomic_load_explicit(&bands.n_stored[i], memory_order_relaxed), 0);
            }
            check_run(ingle_kernels_ref(), &ops[1][WORLD_QKV], 1);
            memset(w[1].q, 0xff, sizeof(float) * q0 * row);
            check_same_floats(w[0].q, w[1].q, (uint64_t)T * row, "q");
        }
        for (uint32_t i = 0; i < shape.n_seqs; i++) {
            assert_same_pages(&w[0], &w[1], i);
        }
        world_fini(&w[0]);
        world_fini(&w[1]);
    }
}

/* Two borders inside pages that the step seals: who stores his rows last seals them. */
void qkv_in_bands_by_threads_equals_that_of_one(void **state)
{
    struct world_shape shape = smol;
    shape.tokens = 320;
    shape.chunk_min = shape.chunk_max = 320;
    for (uint32_t turn = 0; turn < 20; turn++) {
        struct ingle_bands bands = {.n = 3, .first = {0, 97, 201, 320}};
        struct ingle_op ops[2][WORLD_OPS];
        struct world w[2];
        for (uint32_t i = 0; i < 2; i++) {
            world_init(&w[i], &shape);
            world_ops(&w[i], 1, 0, 320, ops[i]);
        }
        assert_true(w[0].batch[0].spans[1].seal && w[0].batch[0].spans[3].seal);
        ops[0][WORLD_QKV].bands = &bands;
        run_by_threads(check_table(state), &ops[0][WORLD_QKV], 3);
        check_run(check_table(state), &ops[1][WORLD_QKV], 1);
        assert_same_pages(&w[0], &w[1], 0);
        world_fini(&w[0]);
        world_fini(&w[1]);
    }
}

void qkv_and_attn_of_no_rows_touch_nothing(void **state)
{
    for (uint32_t workers = 1; workers <= 3; workers++) {
        struct ingle_op ops[WORLD_OPS];
        struct world w, untouched;
        world_init(&w, &smol);
        world_init(&untouched, &smol);
        world_ops(&w, 0, 0, smol.tokens, ops);
        assert_int_equal(w.n_batch, 0);
        for (uint32_t i = 0; i < WORLD_OPS; i++) {
            check_run(check_table(state), &ops[i], workers);
        }
        assert_same_world(&w, &untouched);
        const uint64_t bytes = sizeof(float) * smol.tokens * smol.H * smol.D;
        assert_memory_equal(w.q, untouched.q, bytes);
        assert_memory_equal(w.out, untouched.out, bytes);
        world_fini(&w);
        world_fini(&untouched);
    }
}

/* By biases: what the product makes of good rows and bad weights. */
void qkv_keeps_pages_finite(void **state)
{
    struct world_shape shape = smol;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f};
    static const float kept[] = {65504.0f, 65504.0f, -65504.0f, 65504.0f};
    struct world w;
    shape.tokens = 4;
    shape.n_rot = 0;
    shape.outlier = 1.0f;
    world_init(&w, &shape);
    for (uint32_t i = 0; i < 4; i++) {
        w.bias[1][5 + i] = w.bias[2][5 + i] = bad[i];
    }
    world_step(&w, check_table(state), 1, 1, 0, 3);
    for (uint32_t i = 0; i < 3 * 4; i++) {
        struct ingle_kv_rows rows =
            ingle_kv_rows_at(w.seqs[0].pages[0].open, shape.Hk, shape.D, w.layer, 0);
        uint32_t at = i / 4 * shape.D + 5 + i % 4;
        assert_float_equal(ingle_f32_of_f16(rows.k[at]), kept[i % 4], 0);
        assert_float_equal(ingle_f32_of_f16(rows.v[at]), kept[i % 4], 0);
    }
    world_fini(&w);
}

static uint32_t code_at(const uint8_t *codes, uint32_t form, uint32_t columns, uint32_t i,
                        uint32_t column)
{
    if (form == INGLE_KV_Q4) {
        return codes[((i / 8) * columns + column) * 4 + i % 4] >> (i % 8 < 4 ? 0 : 4) & 15u;
    }
    return codes[((i / 4) * columns + column) * 4 + i % 4];
}

/* One value against what its code stands for. */
static void assert_close_code(uint16_t value, uint16_t scale, uint16_t min, uint32_t code)
{
    float step = ingle_f32_of_f16(scale), x = ingle_f32_of_f16(value);
    float back = ingle_f32_of_f16(min) + step * (float)code;
    assert_true(fabsf(x - back) <= step * 0.5001f + fabsf(x) * 1e-6f);
}

/* Seal a page without new rows, as a chunk that ends before the batch's row. */
static void run_seal(const struct ingle_kernels *table, uint8_t *open, uint8_t *sealed,
                     uint32_t form, uint32_t D, uint32_t n)
{
    struct check_rng rng = {31};
    struct ingle_act x = check_act(INGLE_ACT_F32, 1, 16);
    struct ingle_matrix w = check_matrix(&rng, INGLE_W_F32, D, 16);
    uint8_t *next = check_alloc(ingle_kv_layer_bytes(INGLE_KV_OPEN, 1, D));
    float *q = check_alloc_floats(D);
    struct ingle_kv_span spans[2] = {
        {.open = open, .sealed = sealed, .n_tokens = (uint16_t)n, .form = (uint8_t)form, .seal = 1},
        {.open = next, .base = n, .n_tokens = 1, .form = (uint8_t)form}};
    struct ingle_kv_seq seq = {.spans = spans, .n_spans = 2, .n_rows = 1, .pos0 = n};
    struct ingle_op op = {.kind = INGLE_K_QKV,
                          .qkv = {.x = &x,
                                  .w = {w, w, w},
                                  .T = 1,
                                  .q = q,
                                  .seqs = &seq,
                                  .n_seqs = 1,
                                  .H = 1,
                                  .Hk = 1,
                                  .D = D}};
    check_run(table, &op, 3);
    check_free(x.rows);
    check_free(w.data);
    check_free(next);
    check_free(q);
}

/* From tiny spreads (subnormal scales) to the whole range of f16, and pages of every length. */
void seal_codes_are_within_half_a_step(void **state)
{
    static const float size[] = {1e-6f, 1e-3f, 1.0f, 15000.0f};
    struct check_rng rng = {17};
    for (uint32_t round = 0; round < 48; round++) {
        uint32_t form = INGLE_KV_Q8 + round % 2, D = 16 * (1 + check_u32(&rng) % 16);
        uint32_t n = round < 2 ? 1 : 1 + check_u32(&rng) % S;
        uint8_t *open = check_alloc(ingle_kv_layer_bytes(INGLE_KV_OPEN, 1, D));
        uint8_t *sealed = check_alloc(ingle_kv_layer_bytes(form, 1, D));
        struct ingle_kv_rows rows = ingle_kv_rows_at(open, 1, D, 0, 0);
        struct ingle_kv_block block = ingle_kv_block_at(sealed, form, 1, D, 0, 0);
        for (uint32_t i = 0; i < n * D; i++) {
            rows.k[i] = ingle_f16_of_f32(check_float(&rng) * size[round / 2 % 4]);
            rows.v[i] = ingle_f16_of_f32(check_float(&rng) * size[round / 2 % 4] + 1.0f);
        }
        run_seal(check_table(state), open, sealed, form, D, n);
        for (uint32_t t = 0; t < S; t++) {
            for (uint32_t c = 0; c < D; c++) {
                uint32_t k = code_at(block.k_codes, form, S, c, t);
                uint32_t v = code_at(block.v_codes, form, D, t, c);
                if (t < n) {
                    assert_close_code(rows.k[t * D + c], block.k_scale[c], block.k_min[c], k);
                    assert_close_code(rows.v[t * D + c], block.v_scale[t], block.v_min[t], v);
                } else {
                    assert_int_equal(k | v, 0);
                }
            }
        }
        check_free(open);
        check_free(sealed);
    }
}

void seal_of_equal_values_has_scale_one(void **state)
{
    uint8_t *open = check_alloc(ingle_kv_layer_bytes(INGLE_KV_OPEN, 1, 64));
    uint8_t *sealed = check_alloc(ingle_kv_layer_bytes(INGLE_KV_Q8, 1, 64));
    struct ingle_kv_rows rows = ingle_kv_rows_at(open, 1, 64, 0, 0);
    struct ingle_kv_block block = ingle_kv_block_at(sealed, INGLE_KV_Q8, 1, 64, 0, 0);
    for (uint32_t i = 0; i < S * 64; i++) {
        rows.k[i] = ingle_f16_of_f32(-3.5f);
        rows.v[i] = i % 2 == 0 ? 0x8000u : 0; /* both zeros: one stored minimum */
    }
    run_seal(check_table(state), open, sealed, INGLE_KV_Q8, 64, S);
    for (uint32_t i = 0; i < 64; i++) {
        assert_int_equal(block.k_scale[i], 0x3c00);
        assert_int_equal(block.k_min[i], ingle_f16_of_f32(-3.5f));
        assert_int_equal(block.v_scale[i], 0x3c00);
        assert_int_equal(block.v_min[i], 0);
    }
    for (uint32_t i = 0; i < S * 64; i++) {
        assert_int_equal(block.k_codes[i] | block.v_codes[i], 0);
    }
    check_free(open);
    check_free(sealed);
}

/* What KV.md and the budget count on. */
void kv_layer_bytes_are_those_of_the_table(void **state)
{
    (void)state;
    assert_int_equal(ingle_kv_layer_bytes(INGLE_KV_OPEN, 1, 64), 16384);
    assert_int_equal(ingle_kv_layer_bytes(INGLE_KV_F16, 3, 64), 3 * 16384);
    assert_int_equal(ingle_kv_layer_bytes(INGLE_KV_Q8, 1, 64), 8704);
    assert_int_equal(ingle_kv_layer_bytes(INGLE_KV_Q4, 1, 64), 4608);
    for (uint32_t D = 16; D <= INGLE_HEAD_DIM_MAX; D += 16) {
        for (uint32_t form = INGLE_KV_OPEN; form < INGLE_KV_FORM_COUNT; form++) {
            assert_int_equal(ingle_kv_layer_bytes(form, 1, D) % 64, 0);
        }
    }
}
