/* The matrix product: every weight type, activation mode and shape class against the reference, the
 * reference against double precision, and the benchmark over the matrices of real models. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/top.h"
#include "tests/unit/kernels/check.h"

static void quantise(const float *x, struct ingle_act *act, uint32_t T)
{
    struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {x, act, T}};
    check_run(ingle_kernels_ref(), &op, 1);
}

/* Random activations with the odd large value, as transformers have them. */
static struct ingle_act random_act(struct check_rng *rng, enum ingle_act_mode mode, uint32_t T,
                                   uint32_t cols)
{
    struct ingle_act act = check_act(mode, T, cols);
    float *x = check_alloc_floats((uint64_t)T * cols);
    check_floats(rng, x, (uint64_t)T * cols);
    for (uint64_t i = 0; i < (uint64_t)T * cols; i += 53) {
        x[i] *= 30.0f;
    }
    quantise(x, &act, T);
    check_free(x);
    return act;
}

static void compare(const struct ingle_kernels *table, struct ingle_op *op, uint32_t workers)
{
    struct ingle_arg_matmul *arg = &op->matmul;
    float *y[2][3] = {{NULL}};
    char what[128];
    for (uint32_t side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < arg->n_w; i++) {
            /* The gap behind each row must stay as it is. */
            arg->y_stride[i] = arg->w[i].rows + 5;
            uint64_t n = arg->T * arg->y_stride[i];
            y[side][i] = arg->y[i] = check_alloc_floats(n);
            for (uint64_t k = 0; k < n; k++) {
                arg->y[i][k] = -7.0f;
            }
        }
        struct ingle_op whole = *op;
        whole.bands = NULL;
        check_run(side ? table : ingle_kernels_ref(), side ? op : &whole, side ? workers : 1);
    }
    for (uint32_t i = 0; i < arg->n_w; i++) {
        snprintf(what, sizeof what,
                 "%s matmul %s mode %d N %u K %u T %u matrix %u of %u, %u workers", table->isa,
                 ingle_wtype_name(arg->w[i].type), (int)arg->x->mode, arg->w[i].rows,
                 arg->w[i].cols, arg->T, i + 1, arg->n_w, workers);
        check_same_floats(y[1][i], y[0][i], arg->T * arg->y_stride[i], what);
        check_free(y[0][i]);
        check_free(y[1][i]);
    }
}

void matmul_equals_reference(void **state)
{
    static const uint32_t tokens[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 11,
                                      12, 13, 16, 17, 24, 31, 33, 47, 64, 65};
    static const uint32_t rows[] = {1, 15, 16, 17, 33, 80, 112};
    static const uint32_t blocks[] = {1, 2, 3, 7, 18};
    const struct ingle_kernels *table = check_table(state);
    struct check_rng rng = {3};
    uint32_t turn = 0;
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        uint32_t block = ingle_wtype_block(type);
        for (uint32_t n = 0; n < sizeof rows / sizeof rows[0]; n++) {
            for (uint32_t k = 0; k < sizeof blocks / sizeof blocks[0]; k++, turn++) {
                /* Now and then more than two panels of all; float weights may have any number of
                 * columns. */
                uint32_t count = block == 32 && k == 4 && n % 2 ? 61 : blocks[k];
                uint32_t cols = block == 1 ? 32 * count - 13 * (turn % 2) : block * count;
                enum ingle_act_mode mode = turn % INGLE_ACT_COUNT;
                struct ingle_matrix w = check_matrix(&rng, type, rows[n], cols);
                float *bias = check_alloc_floats(rows[n]);
                check_floats(&rng, bias, rows[n]);
                for (uint32_t t = turn % 3; t < sizeof tokens / sizeof tokens[0]; t += 3) {
                    struct ingle_act x = random_act(&rng, mode, tokens[t], cols);
                    struct ingle_op op = {.kind = INGLE_K_MATMUL,
                                          .matmul = {.x = &x, .n_w = 1, .T = tokens[t], .w = {w}}};
                    op.matmul.bias[0] = t % 2 ? bias : NULL;
                    compare(table, &op, 1 + (turn + t) % 4);
                    check_free(x.rows);
                }
                check_free(bias);
                check_free(w.data);
            }
        }
    }
}

void matmul_in_bands_equals_reference(void **state)
{
    struct check_rng rng = {31};
    for (uint32_t turn = 0; turn < 16; turn++) {
        enum ingle_act_mode mode = turn % INGLE_ACT_COUNT;
        struct ingle_matrix w = check_matrix(&rng, turn < 8 ? INGLE_W_Q4_1 : INGLE_W_Q6_K, 80, 256);
        uint32_t T = INGLE_PAGE_TOKENS + check_u32(&rng) % 400;
        struct ingle_act x = random_act(&rng, mode, T, 256);
        struct ingle_bands bands;
        struct ingle_op op = {.kind = INGLE_K_MATMUL,
                              .bands = &bands,
                              .matmul = {.x = &x, .n_w = 1, .T = T, .w = {w}}};
        compare(check_table(state), &op, check_bands(&rng, T, 1 + turn % 5, &bands));
        check_free(x.rows);
        check_free(w.data);
    }
}

/* Few rows, which are divided by tiles, and many, of which workers share a strip's. */
void matmul_of_three_matrices_equals_reference(void **state)
{
    struct check_rng rng = {4};
    for (uint32_t turn = 0; turn < 16; turn++) {
        uint32_t workers = 1 + turn % 8, T = turn < 8 ? 2 * workers : 100 + 40 * workers;
        enum ingle_act_mode mode = workers % INGLE_ACT_COUNT;
        struct ingle_matrix w[3] = {check_matrix(&rng, INGLE_W_Q4_K, 70, 256),
                                    check_matrix(&rng, INGLE_W_Q8_0, 20, 256),
                                    check_matrix(&rng, INGLE_W_Q5_0, 32, 256)};
        struct ingle_act x = random_act(&rng, mode, T, 256);
        struct ingle_op op = {.kind = INGLE_K_MATMUL, .matmul = {.x = &x, .n_w = 3, .T = T}};
        memcpy(op.matmul.w, w, sizeof w);
        compare(check_table(state), &op, workers);
        check_free(x.rows);
        for (uint32_t i = 0; i < 3; i++) {
            check_free(w[i].data);
        }
    }
}

void matmul_row_does_not_depend_on_its_companions(void **state)
{
    enum {
        T = 70,
        N = 96,
        K = 512
    };
    const struct ingle_kernels *table = check_table(state);
    struct check_rng rng = {5};
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        struct ingle_matrix w = check_matrix(&rng, type, N, K);
        struct ingle_act x = random_act(&rng, INGLE_ACT_INT8, T, K);
        float *all = check_alloc_floats(T * N), *part = check_alloc_floats(T * N);
        struct ingle_op op = {
            .kind = INGLE_K_MATMUL,
            .matmul = {.x = &x, .n_w = 1, .T = T, .w = {w}, .y = {all}, .y_stride = {N}}};
        check_run(table, &op, 2);
        for (uint32_t t = 0, n = 1; t < T; t += n, n = n * 2 + 1) {
            n = n < T - t ? n : T - t;
            struct ingle_act some = x;
            some.rows += t * x.row_stride;
            op.matmul.x = &some;
            op.matmul.T = n;
            op.matmul.y[0] = part + t * N;
            check_run(table, &op, n);
        }
        check_same_floats(part, all, T * N, ingle_wtype_name(type));
        check_free(all);
        check_free(part);
        check_free(x.rows);
        check_free(w.data);
    }
}

/* Sums as large as codes and activations allow: no variant may saturate or overflow on the way. */
void matmul_of_extreme_codes_equals_reference(void **state)
{
    enum {
        N = 48,
        K = 512
    };
    static const uint8_t fill[] = {0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0};
    struct check_rng rng = {9};
    for (enum ingle_wtype type = INGLE_W_Q4_0; type < INGLE_W_COUNT; type++) {
        for (uint32_t f = 0; f < sizeof fill; f++) {
            uint64_t bytes = N * check_gguf_row_bytes(type, K);
            uint8_t *src = check_alloc(bytes), *dst = check_alloc(ingle_pack_bytes(type, N, K));
            check_gguf_rows(&rng, type, N, K, src);
            check_gguf_fill(type, N, K, fill[f], src);
            assert_true(ingle_pack_rows(type, N, K, src, N, 0, NULL, dst));
            for (enum ingle_act_mode mode = INGLE_ACT_INT8; mode < INGLE_ACT_COUNT; mode++) {
                for (uint32_t T = 1; T < 48; T += T < 20 ? 5 : 16) { /* few, many, and more */
                    struct ingle_act x = check_act(mode, T, K);
                    float *values = check_alloc_floats(T * K);
                    for (uint32_t i = 0; i < T * K; i++) {
                        values[i] = i / K % 3 == 0 || (i / K % 3 == 1 && i % 2) ? 1.0f : -1.0f;
                    }
                    quantise(values, &x, T);
                    struct ingle_op op = {
                        .kind = INGLE_K_MATMUL,
                        .matmul = {.x = &x, .n_w = 1, .T = T, .w = {{type, N, K, dst}}}};
                    compare(check_table(state), &op, 2);
                    check_free(values);
                    check_free(x.rows);
                }
            }
            check_free(src);
            check_free(dst);
        }
    }
}

void matmul_of_nan_activations_is_nan(void **state)
{
    enum {
        T = 40,
        K = 64
    };
    static const uint32_t tokens[] = {3, T};
    struct check_rng rng = {6};
    for (enum ingle_act_mode mode = 0; mode < INGLE_ACT_COUNT; mode++) {
        for (uint32_t t = 0; t < 2; t++) {
            float x[T][K], y[T][16];
            struct ingle_matrix w = check_matrix(&rng, INGLE_W_Q4_0, 16, K);
            struct ingle_act act = check_act(mode, tokens[t], K);
            check_floats(&rng, x[0], T * K);
            x[1][40] = x[T - 2][3] = NAN;
            quantise(x[0], &act, tokens[t]);
            struct ingle_op op = {
                .kind = INGLE_K_MATMUL,
                .matmul = {
                    .x = &act, .n_w = 1, .T = tokens[t], .w = {w}, .y = {y[0]}, .y_stride = {16}}};
            check_run(check_table(state), &op, 1);
            for (uint32_t i = 0; i < tokens[t] * 16; i++) {
                const bool bad = i / 16 == 1 || i / 16 == T - 2;
                assert_true(bad ? isnan(y[i / 16][i % 16]) : isfinite(y[i / 16][i % 16]));
            }
            check_free(act.rows);
            check_free(w.data);
        }
    }
}

/* Both kinds, every mode of activations on either side, shapes with half a group at the end. */
void matmul_of_gate_and_up_equals_reference(void **state)
{
    static const enum ingle_wtype types[][2] = {{INGLE_W_Q5_0, INGLE_W_Q5_0},
                                                {INGLE_W_Q4_K, INGLE_W_Q6_K},
                                                {INGLE_W_Q4_1, INGLE_W_BF16},
                                                {INGLE_W_F32, INGLE_W_Q8_0}};
    static const uint32_t rows[] = {1, 16, 33, 64, 80, 113},
                          tokens[] = {0, 1, 3, 8, 13, 17, 40, 150, 205};
    enum {
        K = 512
    };
    struct check_rng rng = {10};
    uint32_t turn = 0;
    for (uint32_t n = 0; n < sizeof rows / sizeof rows[0]; n++) {
        for (uint32_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++, turn++) {
            const enum ingle_wtype *type = types[turn % 4];
            enum ingle_act_mode mode = turn / 4 % INGLE_ACT_COUNT, out = turn % INGLE_ACT_COUNT;
            struct ingle_act x = random_act(&rng, mode, tokens[t], K);
            struct ingle_act act[2] = {check_act(out, tokens[t], rows[n]),
                                       check_act(out, tokens[t], rows[n])};
            struct ingle_op op = {.kind = INGLE_K_MATMUL,
                                  .matmul = {.x = &x,
                                             .n_w = 2,
                                             .T = tokens[t],
                                             .w = {check_matrix(&rng, type[0], rows[n], K),
                                                   check_matrix(&rng, type[1], rows[n], K)},
                                             .glu = (enum ingle_glu)(turn % 2)}};
            for (uint32_t side = 0; side < 2; side++) {
                op.matmul.out = &act[side];
                check_run(side ? check_table(state) : ingle_kernels_ref(), &op,
                          side ? 1 + turn % 4 : 1);
            }
            assert_memory_equal(act[0].rows, act[1].rows, tokens[t] * act[0].row_stride);
            for (uint32_t i = 0; i < 2; i++) {
                check_free(op.matmul.w[i].data);
                check_free(act[i].rows);
            }
            check_free(x.rows);
        }
    }
}

void matmul_of_gate_and_up_is_close_to_exact_glu(void **state)
{
    enum {
        F = 4096
    };
    float *gate = check_alloc(sizeof(float) * F), *up = check_alloc(sizeof(float) * F), one = 1;
    struct ingle_act x = check_act(INGLE_ACT_F32, 1, 1), act = check_act(INGLE_ACT_F32, 1, F);
    uint8_t *w[2] = {check_alloc(ingle_pack_bytes(INGLE_W_F32, F, 1)),
                     check_alloc(ingle_pack_bytes(INGLE_W_F32, F, 1))};
    for (uint32_t k = 0; k < F; k++) {
        gate[k] = ((float)k - F / 2) * (24.0f / F);
        up[k] = 1.0f;
    }
    quantise(&one, &x, 1);
    assert_true(ingle_pack_rows(INGLE_W_F32, F, 1, (uint8_t *)gate, F, 0, NULL, w[0]));
    assert_true(ingle_pack_rows(INGLE_W_F32, F, 1, (uint8_t *)up, F, 0, NULL, w[1]));
    for (enum ingle_glu kind = INGLE_GLU_SILU; kind <= INGLE_GLU_GELU_TANH; kind++) {
        struct ingle_op op = {.kind = INGLE_K_MATMUL,
                              .matmul = {.x = &x,
                                         .n_w = 2,
                                         .T = 1,
                                         .w = {{INGLE_W_F32, F, 1, w[0]},
                                               {INGLE_W_F32, F, 1, w[1]}},
                                         .out = &act,
                                         .glu = kind}};
        check_run(check_table(state), &op, 1);
        for (uint32_t k = 0; k < F; k++) {
            double g = (double)gate[k], u = 0.79788456080286535588 * (g + 0.044715 * g * g * g);
            double exact = kind == INGLE_GLU_SILU ? g / (1 + exp(-g)) : 0.5 * g * (1 + tanh(u));
            float got;
            memcpy(&got, act.rows + k * sizeof got, sizeof got);
            assert_true(fabs((double)got - exact) <= 1e-6 * (fabs(exact) + 1e-2));
        }
    }
    check_free(gate);
    check_free(up);
    check_free(x.rows);
    check_free(act.rows);
    check_free(w[0]);
    check_free(w[1]);
}

void matmul_reference_is_close_to_double_precision(void **state)
{
    enum {
        T = 3,
        N = 37,
        K = 512
    };
    static const double bound[INGLE_ACT_COUNT] = {[INGLE_ACT_F32] = 2e-6,
                                                  [INGLE_ACT_INT8] = 1e-2,
                                                  [INGLE_ACT_INT16] = 1e-4,
                                                  [INGLE_ACT_BF16] = 4e-3};
    struct check_rng rng = {7};
    (void)state;
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        uint8_t *src = check_alloc(N * check_gguf_row_bytes(type, K));
        uint8_t *dst = check_alloc(ingle_pack_bytes(type, N, K));
        static float w[N][K], x[T][K], y[T][N];
        check_gguf_rows(&rng, type, N, K, src);
        assert_true(ingle_pack_rows(type, N, K, src, N, 0, NULL, dst));
        for (uint32_t n = 0; n < N; n++) {
            ingle_dequant_row(type, src + n * check_gguf_row_bytes(type, K), K, w[n]);
        }
        check_floats(&rng, x[0], T * K);
        for (enum ingle_act_mode mode = 0; mode < INGLE_ACT_COUNT; mode++) {
            struct ingle_act act = check_act(mode, T, K);
            quantise(x[0], &act, T);
            struct ingle_op op = {.kind = INGLE_K_MATMUL,
                                  .matmul = {.x = &act,
                                             .n_w = 1,
                                             .T = T,
                                             .w = {{type, N, K, dst}},
                                             .y = {y[0]},
                                             .y_stride = {N}}};
            check_run(ingle_kernels_ref(), &op, 1);
            double error = 0, power = 0;
            for (uint32_t t = 0; t < T; t++) {
                for (uint32_t n = 0; n < N; n++) {
                    double sum = 0;
                    for (uint32_t k = 0; k < K; k++) {
                        sum += (double)w[n][k] * (double)x[t][k];
                    }
                    error += (sum - (double)y[t][n]) * (sum - (double)y[t][n]);
                    power += sum * sum;
                }
            }
            assert_true(sqrt(error / power) < bound[mode]);
            check_free(act.rows);
        }
        check_free(src);
        check_free(dst);
    }
}

/* Logits and statistics by parts, kept or not, a last part of any length. */
void head_equals_reference(void **state)
{
    static const uint32_t vocabs[] = {1, 40, 1024, 1025, 2100, 4095}, tokens[] = {0, 1, 3, 9, 16};
    static const enum ingle_wtype types[] = {INGLE_W_Q8_0, INGLE_W_Q5_0, INGLE_W_Q6_K, INGLE_W_F16};
    enum {
        K = 256
    };
    struct check_rng rng = {11};
    uint32_t turn = 0;
    for (uint32_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++) {
        for (uint32_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++, turn++) {
            uint32_t V = vocabs[v], R = tokens[t], n_parts = ingle_head_parts(V);
            struct ingle_act x = random_act(&rng, turn % INGLE_ACT_COUNT, R, K);
            struct ingle_matrix w = check_matrix(&rng, types[turn % 4], V, K);
            float *logits[2], *peak[2], *inverse_temperature = check_alloc_floats(R);
            uint32_t n_peaks = ingle_head_peaks(V);
            struct ingle_row_stat *part[3];
            for (uint32_t r = 0; r < R; r++) {
                inverse_temperature[r] = (float)(r % 3) * 0.7f;
            }
            for (uint32_t side = 0; side < 3; side++) { /* the reference, kept, not kept */
                part[side] = check_alloc(sizeof *part[side] * R * n_parts);
                if (side < 2) {
                    logits[side] = check_alloc_floats((uint64_t)R * V);
                    peak[side] = check_alloc_floats((uint64_t)R * n_peaks);
                }
                struct ingle_op op = {.kind = INGLE_K_HEAD,
                                      .head = {.x = &x,
                                               .w = w,
                                               .R = R,
                                               .inverse_temperature = inverse_temperature,
                                               .logits = side < 2 ? logits[side] : NULL,
                                               .peak = side < 2 ? peak[side] : NULL,
                                               .part = part[side]}};
                check_run(side ? check_table(state) : ingle_kernels_ref(), &op,
                          side ? 1 + turn % 4 : 1);
            }
            check_same_floats(logits[1], logits[0], (uint64_t)R * V, "logits of the head");
            check_same_floats(peak[1], peak[0], (uint64_t)R * n_peaks, "peaks of the head");
            for (uint32_t r = 0; r < R; r++) {
                assert_int_equal(part[1][(uint64_t)r * n_parts].weight > 0, r % 3 > 0);
                for (uint32_t k = 0; k < V; k++) {
                    assert_true(peak[1][(uint64_t)r * n_peaks + k / INGLE_PEAK_COLS] >=
                                logits[1][(uint64_t)r * V + k]);
                }
            }
            assert_memory_equal(part[1], part[0], sizeof *part[0] * R * n_parts);
            assert_memory_equal(part[2], part[0], sizeof *part[0] * R * n_parts);
            for (uint32_t side = 0; side < 3; side++) {
                check_free(part[side]);
                if (side < 2) {
                    check_free(logits[side]);
                    check_free(peak[side]);
                }
            }
            check_free(inverse_temperature);
            check_free(w.data);
            check_free(x.rows);
        }
    }
}

/* Of U rows, again and again: equal logits, in other parts too. */
static struct ingle_matrix repeating_matrix(struct check_rng *rng, enum ingle_wtype type,
                                            uint32_t rows, uint32_t cols, uint32_t U)
{
    uint64_t row_bytes = check_gguf_row_bytes(type, cols);
    uint8_t *src = check_alloc(U * row_bytes);
    uint8_t *dst = check_alloc(ingle_pack_bytes(type, rows, cols));
    check_gguf_rows(rng, type, U, cols, src);
    for (uint32_t n = 0; n < rows; n++) {
        assert_true(ingle_pack_rows(type, rows, cols, src + n % U * row_bytes, 1, n, NULL, dst));
    }
    check_free(src);
    return (struct ingle_matrix){type, rows, cols, dst};
}

struct ranked {
    float logit;
    uint32_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The workers' lists of one row, each in order, hold together its k largest. */
static void assert_largest(const struct ingle_top *top, uint32_t workers, uint32_t k,
                           const float *logits, uint32_t V)
{
    struct ranked *ranked = check_alloc(sizeof *ranked * V);
    uint64_t *keys = check_alloc(sizeof *keys * workers * INGLE_TOP_MAX);
    uint32_t n = 0;
    for (uint32_t id = 0; id < V; id++) {
        ranked[id] = (struct ranked){logits[id], id};
    }
    qsort(ranked, V, sizeof *ranked, by_rank);
    for (uint32_t i = 0; i < workers; i++) {
        assert_in_range(top[i].n, 0, k);
        for (uint32_t j = 0; j < top[i].n; j++) {
            assert_true(j == 0 || top[i].key[j - 1] < top[i].key[j]);
            keys[n++] = top[i].key[j];
        }
    }
    qsort(keys, n, sizeof *keys, by_key);
    assert_true(n >= (k < V ? k : V));
    for (uint32_t i = 0; i < k && i < V; i++) {
        assert_int_equal(ingle_top_id(keys[i]), ranked[i].id);
        assert_true(ingle_top_logit(keys[i]) == ranked[i].logit);
    }
    check_free(keys);
    check_free(ranked);
}

/* Whether logits are kept or not, with workers that have no part, rows of several k at once. */
void head_lists_the_largest_of_each_row(void **state)
{
    static const uint32_t vocabs[] = {1, 40, 1025, 4095}, tokens[] = {0, 1, 3, 9};
    static const uint32_t ks[] = {1, 0, 40, 256};
    static const enum ingle_wtype types[] = {INGLE_W_Q8_0, INGLE_W_Q5_0, INGLE_W_Q6_K, INGLE_W_F16};
    enum {
        K = 256
    };
    struct check_rng rng = {13};
    uint32_t turn = 0;
    for (uint32_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++) {
        for (uint32_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++, turn++) {
            uint32_t V = vocabs[v], R = tokens[t], workers = 1 + turn % 7, n_top[16];
            struct ingle_act x = random_act(&rng, turn % INGLE_ACT_COUNT, R, K);
            struct ingle_matrix w = repeating_matrix(&rng, types[turn % 4], V, K, V / 3 + 1);
            float *logits[2] = {check_alloc_floats((uint64_t)R * V),
                                check_alloc_floats((uint64_t)R * V)};
            struct ingle_row_stat *part = check_alloc(sizeof *part * R * ingle_head_parts(V));
            struct ingle_top *top = check_alloc(sizeof *top * R * workers);
            struct ingle_op op = {.kind = INGLE_K_HEAD,
                                  .head = {.x = &x, .w = w, .R = R, .part = part}};
            for (uint32_t r = 0; r < R; r++) {
                n_top[r] = ks[(turn + r) % 4];
            }
            op.head.logits = logits[0];
            check_run(ingle_kernels_ref(), &op, 1);
            op.head.n_top = n_top;
            op.head.top = top;
            for (uint32_t side = 0; side < 3; side++) { /* the reference, kept, not kept */
                memset(top, 0xff, sizeof *top * R * workers);
                op.head.logits = side < 2 ? logits[1] : NULL;
                check_run_shuffled(side ? check_table(state) : ingle_kernels_ref(), &op, workers,
                                   &rng);
                for (uint32_t r = 0; r < R; r++) {
                    assert_largest(top + (uint64_t)r * workers, workers, n_top[r],
                                   logits[0] + (uint64_t)r * V, V);
                }
            }
            check_free(top);
            check_free(part);
            check_free(logits[0]);
            check_free(logits[1]);
            check_free(w.data);
            check_free(x.rows);
        }
    }
}

void head_statistics_are_those_of_the_whole_row(void **state)
{
    enum {
        V = 5000,
        PARTS = 5
    };
    const struct ingle_kernels *table = check_table(state);
    struct check_rng rng = {12};
    float *x = check_alloc_floats(V);
    for (uint32_t turn = 0; turn < 40; turn++) {
        struct ingle_row_stat part[PARTS];
        check_floats(&rng, x, V);
        for (uint32_t k = 0; k < V; k++) {
            x[k] *= (float)(turn + 1);
        }
        if (turn % 2) { /* a tie across two parts: the lowest index wins */
            x[1500] = x[4500] = 1000;
        }
        for (uint32_t i = 0; i < PARTS; i++) {
            uint32_t n0 = i * INGLE_HEAD_COLS;
            part[i] = table->row_stat(x + n0, ingle_head_part_cols(V, i), 0, NULL);
            part[i].argmax += (int32_t)n0;
        }
        struct ingle_row_stat all = ingle_row_stat_merge(part, PARTS),
                              whole = table->row_stat(x, V, 0, NULL);
        assert_int_equal(all.argmax, whole.argmax);
        assert_true(all.max == whole.max);
        assert_true(fabsf(all.logsumexp - whole.logsumexp) <=
                    1e-6f * fmaxf(1.0f, fabsf(whole.logsumexp)));
        part[turn % PARTS].logsumexp = NAN;
        assert_true(isnan(ingle_row_stat_merge(part, PARTS).logsumexp));
    }
    check_free(x);
}

/* ---- benchmark ---- */

static void bench_shape(const struct ingle_kernels *table, const char *name, enum ingle_wtype type,
                        enum ingle_act_mode mode, uint32_t N, uint32_t K, const uint32_t *tokens,
                        uint32_t n_tokens)
{
    enum {
        COLD_BYTES = 160u << 20
    };
    struct check_rng rng = {8};
    if (!strstr(name, check_pattern) && !strstr(ingle_wtype_name(type), check_pattern)) {
        return;
    }
    for (uint32_t i = 0; i < n_tokens; i++) {
        uint32_t T = tokens[i];
        /* Few tokens: a model's weights come from memory, so go through enough copies of the
         * matrix that no cache holds them. */
        uint64_t bytes = ingle_pack_bytes(type, N, K);
        uint32_t copies = T <= 8 ? (uint32_t)(COLD_BYTES / bytes) + 1 : 1;
        uint8_t *data = check_alloc(copies * bytes);
        struct ingle_matrix one = check_matrix(&rng, type, N, K);
        struct ingle_act x = random_act(&rng, mode, T, K);
        float *y = check_alloc((uint64_t)T * N * sizeof *y);
        struct ingle_op *ops = check_alloc(copies * sizeof *ops);
        for (uint32_t c = 0; c < copies; c++) {
            memcpy(data + c * bytes, one.data, bytes);
            ops[c] = (struct ingle_op){.kind = INGLE_K_MATMUL,
                                       .matmul = {.x = &x,
                                                  .n_w = 1,
                                                  .T = T,
                                                  .y = {y},
                                                  .w = {{type, N, K, data + c * bytes}},
                                                  .y_stride = {N}}};
        }
        printf("%-10s %-22s %-6s %-5s T %3u ", table->isa, name, ingle_wtype_name(type),
               mode == INGLE_ACT_INT8    ? "int8"
               : mode == INGLE_ACT_INT16 ? "int16"
                                         : "f32",
               T);
        for (uint32_t workers = 1; workers <= 2; workers++) {
            double s = check_time_op(table, ops, copies, workers) / copies;
            printf("  | %u thr %10.0f ns %7.1f GMAC/s %5.1f GB/s", workers, s * 1e9,
                   1e-9 * N * K * T / s, 1e-9 * (double)bytes / s);
        }
        printf("\n");
        check_free(ops);
        check_free(y);
        check_free(x.rows);
        check_free(one.data);
        check_free(data);
    }
}

void bench_matmul(const struct ingle_kernels *table)
{
    static const uint32_t tokens[] = {1, 4, 8, 16, 64, 256};
    static const uint32_t one = 1;
    static const struct {
        const char *name;
        enum ingle_wtype type;
        uint32_t N, K;
    } shapes[] = {
        {"SmolLM2 qo 576x576", INGLE_W_Q4_1, 576, 576},
        {"SmolLM2 gate 1536x576", INGLE_W_Q4_1, 1536, 576},
        {"SmolLM2 down 576x1536", INGLE_W_Q4_1, 576, 1536},
        {"SmolLM2 head 49152x576", INGLE_W_Q8_0, 49152, 576},
        {"Qwen qo 896x896", INGLE_W_Q5_0, 896, 896},
        {"Qwen gate 4864x896", INGLE_W_Q5_0, 4864, 896},
        {"Qwen down 896x4864", INGLE_W_Q4_K, 896, 4864},
        {"Qwen down 896x4864", INGLE_W_Q6_K, 896, 4864},
        {"Qwen head 151936x896", INGLE_W_Q8_0, 151936, 896},
        {"Gemma q 1024x640", INGLE_W_Q5_0, 1024, 640},
        {"Gemma gate 2048x640", INGLE_W_Q5_0, 2048, 640},
        {"Gemma down 640x2048", INGLE_W_Q4_K, 640, 2048},
        {"Gemma down 640x2048", INGLE_W_Q6_K, 640, 2048},
        {"Gemma head 262144x640", INGLE_W_Q8_0, 262144, 640},
    };
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        bool head = shapes[i].N > 40000;
        bench_shape(table, shapes[i].name, shapes[i].type, INGLE_ACT_INT8, shapes[i].N, shapes[i].K,
                    tokens, head ? 3 : 6);
        if (head) {
            bench_shape(table, shapes[i].name, shapes[i].type, INGLE_ACT_INT16, shapes[i].N,
                        shapes[i].K, &one, 1);
        }
    }
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        bench_shape(table, "2048x2048", type, INGLE_ACT_INT8, 2048, 2048, tokens, 6);
        bench_shape(table, "2048x2048", type, INGLE_ACT_INT16, 2048, 2048, tokens, 6);
    }
}
