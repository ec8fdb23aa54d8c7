/* The row-wise operations: embed, quant, norm and row statistics. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/act.h"
#include "kernels/ref/lanes.h"
#include "tests/unit/kernels/check.h"

static const uint32_t widths[] = {1, 15, 16, 31, 32, 33, 48, 64, 95, 576, 640, 896};
enum {
    N_WIDTHS = sizeof widths / sizeof widths[0]
};

/* Values of every size, exact zeros, and a group of denormals. */
static float *odd_floats(struct check_rng *rng, uint64_t n)
{
    float *x = check_alloc_floats(n);
    for (uint64_t i = 0; i < n; i++) {
        x[i] = check_float(rng) * ldexpf(1.0f, (int)(check_u32(rng) % 12) - 6);
        if (check_u32(rng) % 16 == 0) {
            x[i] = 0.0f;
        }
        if (i / 32 % 7 == 3) {
            x[i] = i / 32 % 2 ? 0.0f : x[i] * 0x1p-130f;
        }
        if (i / 32 % 7 == 5) {
            x[i] *= 0x1p73f; /* some beyond what a group may hold */
        }
    }
    return x;
}

static bool bits_are_nan(uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

/* Rows of activations as 32-bit words, NaN scales being equal to each other. */
static void same_act(const struct ingle_act *a, const struct ingle_act *b, uint32_t T)
{
    for (uint64_t i = 0; i < T * a->row_stride; i += 4) {
        uint32_t wa, wb;
        memcpy(&wa, a->rows + i, 4);
        memcpy(&wb, b->rows + i, 4);
        if (wa != wb && !(bits_are_nan(wa) && bits_are_nan(wb))) {
            fail_msg("mode %d cols %u: byte %llu is %08x, reference %08x", (int)a->mode, a->cols,
                     (unsigned long long)i, wa, wb);
        }
    }
}

static void embed_case(const struct ingle_kernels *table, enum ingle_wtype type, uint32_t T,
                       struct check_rng *rng)
{
    enum {
        V = 50,
        T_MAX = 21
    };
    uint32_t block = ingle_wtype_block(type), cols = block == 1 ? 77 : 3 * block;
    uint64_t row_bytes = check_gguf_row_bytes(type, cols);
    uint8_t *src = check_alloc(V * row_bytes), *dst = check_alloc(ingle_pack_bytes(type, V, cols));
    float *x = check_alloc_floats(T * cols), *row = check_alloc_floats(cols);
    int32_t ids[T_MAX];
    assert_true(T <= T_MAX);
    check_gguf_rows(rng, type, V, cols, src);
    assert_true(ingle_pack_rows(type, V, cols, src, V, 0, NULL, dst));
    for (uint32_t t = 0; t < T; t++) {
        ids[t] = t == 0 ? V - 1 : (int32_t)(check_u32(rng) % V);
    }
    struct ingle_matrix w = {type, V, cols, dst};
    struct ingle_op op = {.kind = INGLE_K_EMBED, .embed = {&w, ids, x, 25.25f, T}};
    check_run(table, &op, 3);
    for (uint32_t t = 0; t < T; t++) {
        ingle_dequant_row(type, src + (uint32_t)ids[t] * row_bytes, cols, row);
        for (uint32_t k = 0; k < cols; k++) {
            row[k] = 25.25f * row[k];
        }
        check_same_floats(x + t * cols, row, cols, ingle_wtype_name(type));
    }
    check_free(src);
    check_free(dst);
    check_free(x);
    check_free(row);
}

void embed_equals_dequantised_rows(void **state)
{
    static const uint32_t tokens[] = {0, 1, 21};
    struct check_rng rng = {11};
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        for (uint32_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            embed_case(check_table(state), type, tokens[i], &rng);
        }
    }
}

void quant_equals_reference(void **state)
{
    struct check_rng rng = {12};
    for (uint32_t i = 0; i < N_WIDTHS; i++) {
        for (uint32_t T = 0; T < 6; T++) {
            float *x = odd_floats(&rng, (uint64_t)T * widths[i]);
            for (enum ingle_act_mode mode = 0; mode < INGLE_ACT_COUNT; mode++) {
                struct ingle_act a = check_act(mode, T, widths[i]);
                struct ingle_act b = check_act(mode, T, widths[i]);
                struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {x, &a, T}};
                check_run(check_table(state), &op, 1 + T % 3);
                op.quant.out = &b;
                check_run(ingle_kernels_ref(), &op, 1);
                same_act(&a, &b, T);
                check_free(a.rows);
                check_free(b.rows);
            }
            check_free(x);
        }
    }
}

void quant_of_nan_or_huge_poisons_its_group_only(void **state)
{
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, INGLE_ACT_HUGE, -INGLE_ACT_HUGE};
    struct check_rng rng = {13};
    for (uint32_t i = 0; i < 6; i++) {
        float x[96];
        struct ingle_act act = check_act(INGLE_ACT_INT8, 1, 96);
        struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {x, &act, 1}};
        check_floats(&rng, x, 96);
        x[33 + 5 * i] = bad[i];
        check_run(check_table(state), &op, 1);
        const struct ingle_act8 *group = (const struct ingle_act8 *)(const void *)act.rows;
        assert_true(isfinite(group[0].tail.scale) && isfinite(group[2].tail.scale));
        assert_true(isnan(group[1].tail.scale) && group[1].q[5] == 0);
        assert_true(group[1].tail.bias == -INGLE_ACT8_ORIGIN &&
                    group[1].tail.bias0 == -INGLE_ACT8_ORIGIN);
        check_free(act.rows);
    }
}

/* What makes products with weight scales exact, at the smallest cost: no smaller one would do. */
void quant_scale_is_the_next_of_four_significant_bits(void **state)
{
    struct check_rng rng = {19};
    for (uint32_t i = 0; i < 2000; i++) {
        float x[INGLE_ACT_GROUP], a = 0.0f;
        struct ingle_act act = check_act(INGLE_ACT_INT8, 1, INGLE_ACT_GROUP);
        struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {x, &act, 1}};
        int exponent = (int)(check_u32(&rng) % 120) - 60;
        for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
            x[k] = ldexpf(check_float(&rng), exponent);
            a = fmaxf(a, fabsf(x[k]));
        }
        check_run(check_table(state), &op, 1);
        const struct ingle_act8 *group = (const struct ingle_act8 *)(const void *)act.rows;
        double scale = (double)group->tail.scale, want = (double)a / 127.0;
        int e;
        double sixteenths = frexp(scale, &e) * 16.0;
        assert_true(sixteenths == floor(sixteenths));
        assert_true(!(want > scale * (1.0 + 1e-6)));
        assert_true(!(scale - ldexp(1.0, e - 4) >= want * (1.0 + 1e-6)));
        for (uint32_t k = 0; k < INGLE_ACT_GROUP; k++) {
            assert_true(!(fabs((double)x[k] - scale * group->q[k]) > 0.50001 * scale));
        }
        check_free(act.rows);
    }
}

void quant_to_bf16_rounds_to_even_and_keeps_nan(void **state)
{
    static const struct {
        float x;
        uint16_t bits;
    } cases[] = {
        {1.0f, 0x3f80},
        {-1.0f, 0xbf80},
        {0x1.01p+0f, 0x3f80}, /* halves go to the even one */
        {0x1.03p+0f, 0x3f82},
        {0x1.0102p+0f, 0x3f81},
        {-0x1.03p+0f, 0xbf82},
        {0x1.ffp-1f, 0x3f80},
        {0x1p-80f, 0x1780},
        {0x1.fffffep-81f, 0},
        {-0x1p-100f, 0},
        {0.0f, 0},
        {0x1.fffffep+79f, 0x6780},
        {INGLE_ACT_HUGE, 0x7fc0},
        {-INFINITY, 0x7fc0},
        {NAN, 0x7fc0},
    };
    enum {
        N = sizeof cases / sizeof cases[0]
    };
    float x[INGLE_ACT_GROUP + N];
    struct ingle_act act = check_act(INGLE_ACT_BF16, 1, INGLE_ACT_GROUP + N);
    struct ingle_op op = {.kind = INGLE_K_QUANT, .quant = {x, &act, 1}};
    for (uint32_t i = 0; i < INGLE_ACT_GROUP + N; i++) {
        x[i] = cases[i % N].x;
    }
    check_run(check_table(state), &op, 1);
    for (uint32_t i = 0; i < INGLE_ACT_GROUP + N; i++) {
        uint16_t bits;
        memcpy(&bits, act.rows + i * sizeof bits, sizeof bits);
        assert_int_equal(bits, cases[i % N].bits);
    }
    check_free(act.rows);
}

static void norm_case(const struct ingle_kernels *table, struct check_rng *rng, uint32_t E,
                      uint32_t T, uint32_t variant)
{
    enum ingle_act_mode mode = variant % INGLE_ACT_COUNT;
    bool add = variant & 1, post = variant & 2, index = !add && (variant & 4);
    bool out = !(variant & 8), out_f32 = variant & 16;
    uint64_t n = (uint64_t)T * E;
    float *x = odd_floats(rng, n), *x2 = check_alloc_floats(n), *sum = odd_floats(rng, n);
    float *gain = odd_floats(rng, E), *post_gain = odd_floats(rng, E);
    float *f32[2] = {check_alloc_floats(n), check_alloc_floats(n)};
    struct ingle_act act[2] = {check_act(mode, T, E), check_act(mode, T, E)};
    uint32_t rows[8];
    memcpy(x2, x, n * sizeof *x2);
    for (uint32_t r = 0; r < 8; r++) {
        rows[r] = T ? (r * 5 + 2) % T : 0;
    }
    for (uint32_t side = 0; side < 2; side++) {
        struct ingle_op op = {.kind = INGLE_K_NORM,
                              .norm = {.x = side ? x2 : x,
                                       .add = add ? sum : NULL,
                                       .post_gain = add && post ? post_gain : NULL,
                                       .gain = gain,
                                       .index = index ? rows : NULL,
                                       .out = out ? &act[side] : NULL,
                                       .out_f32 = out_f32 ? f32[side] : NULL,
                                       .eps = 1e-5f,
                                       .T = T,
                                       .E = E,
                                       .R = index && T > 3 ? 3 : T}};
        check_run(side ? ingle_kernels_ref() : table, &op, side ? 1 : 1 + variant % 3);
    }
    check_same_floats(x, x2, n, "norm residual");
    check_same_floats(f32[0], f32[1], n, "norm out_f32");
    same_act(&act[0], &act[1], T);
    for (uint32_t side = 0; side < 2; side++) {
        check_free(f32[side]);
        check_free(act[side].rows);
    }
    check_free(x);
    check_free(x2);
    check_free(sum);
    check_free(gain);
    check_free(post_gain);
}

void norm_equals_reference(void **state)
{
    struct check_rng rng = {14};
    for (uint32_t i = 0; i < N_WIDTHS; i++) {
        for (uint32_t variant = 0; variant < 32; variant++) {
            norm_case(check_table(state), &rng, widths[i], variant % 7, variant);
        }
    }
}

/* embed, norm with its residual sum, and quant, of rows that workers have in bands. */
void rows_in_bands_equal_reference(void **state)
{
    enum {
        T = 300,
        E = 96,
        V = 50
    };
    struct check_rng rng = {41};
    for (uint32_t workers = 1; workers <= 4; workers++) {
        struct ingle_matrix w = check_matrix(&rng, INGLE_W_Q8_0, V, E);
        struct ingle_bands bands;
        int32_t ids[T];
        float *x[2], *add = odd_floats(&rng, T * E), gain[E];
        struct ingle_act out[2][2];
        check_floats(&rng, gain, E);
        for (uint32_t t = 0; t < T; t++) {
            ids[t] = (int32_t)(check_u32(&rng) % V);
        }
        assert_int_equal(check_bands(&rng, T, workers, &bands), workers);
        for (uint32_t i = 0; i < 2; i++) {
            x[i] = check_alloc_floats(T * E);
            out[i][0] = check_act(INGLE_ACT_INT8, T, E);
            out[i][1] = check_act(INGLE_ACT_INT16, T, E);
            struct ingle_op ops[] = {{.kind = INGLE_K_EMBED, .embed = {&w, ids, x[i], 1.5f, T}},
                                     {.kind = INGLE_K_NORM,
                                      .norm = {.x = x[i],
                                               .add = add,
                                               .gain = gain,
                                               .out = &out[i][0],
                                               .eps = 1e-6f,
                                               .T = T,
                                               .E = E,
                                               .R = T}},
                                     {.kind = INGLE_K_QUANT, .quant = {x[i], &out[i][1], T}}};
            for (uint32_t k = 0; k < 3; k++) {
                ops[k].bands = i == 0 ? &bands : NULL;
                check_run(i == 0 ? check_table(state) : ingle_kernels_ref(), &ops[k],
                          i == 0 ? workers : 1);
            }
        }
        check_same_floats(x[0], x[1], T * E, "embed and residual sum");
        for (uint32_t k = 0; k < 2; k++) {
            same_act(&out[0][k], &out[1][k], T);
            check_free(out[0][k].rows);
            check_free(out[1][k].rows);
        }
        check_free(x[0]);
        check_free(x[1]);
        check_free(add);
        check_free(w.data);
    }
}

void row_stat_equals_reference(void **state)
{
    static const uint32_t sizes[] = {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 100, 511, 49152, 151936};
    struct check_rng rng = {16};
    for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (uint32_t turn = 0; turn < 5; turn++) {
            uint32_t n = sizes[i];
            float *x = check_alloc_floats(n);
            check_floats(&rng, x, n);
            for (uint32_t k = 0; k < n; k++) {
                /* Steps of 1/4 make ties. */
                x[k] = turn == 1 ? floorf(4.0f * x[k]) / 4.0f : 8.0f * x[k];
            }
            if (turn == 2) {
                x[n / 2] = NAN;
            } else if (turn == 3) {
                x[n / 3] = INFINITY;
            } else if (turn == 4) {
                for (uint32_t k = 0; k < n; k++) {
                    x[k] = -INFINITY;
                }
            }
            float inverse = (float)(i % 4) * 0.5f;
            float *peaks[2] = {check_alloc_floats(ingle_head_peaks(n)),
                               check_alloc_floats(ingle_head_peaks(n))};
            struct ingle_row_stat a = check_table(state)->row_stat(x, n, inverse, peaks[0]);
            struct ingle_row_stat b = ingle_kernels_ref()->row_stat(x, n, inverse, peaks[1]);
            assert_int_equal(a.argmax, b.argmax);
            check_same_floats(&a.max, &b.max, 1, "max");
            check_same_floats(&a.logsumexp, &b.logsumexp, 1, "logsumexp");
            check_same_floats(&a.weight, &b.weight, 1, "weight");
            check_same_floats(peaks[0], peaks[1], ingle_head_peaks(n), "peaks");
            if (turn == 0) {
                double sum = 0, weight = 0;
                for (uint32_t k = 0; k < n; k++) {
                    double far = (double)x[k] - (double)a.max;
                    sum += exp(far);
                    weight += inverse > 0 ? exp(far * (double)inverse) : 0;
                }
                assert_true(fabs((double)a.logsumexp - ((double)a.max + log(sum))) < 1e-5);
                /* a lane's additions round by 2^-24 each */
                assert_true(fabs((double)a.weight - weight) <=
                            (1e-5 + n / INGLE_LANES * 0x1p-24) * weight);
            }
            if (turn == 4) {
                assert_true(a.logsumexp == -INFINITY && a.weight == 0);
            }
            for (uint32_t k = 0; k < n; k++) { /* NaN is below everything */
                assert_false(x[k] > peaks[0][k / INGLE_PEAK_COLS]);
            }
            for (uint32_t side = 0; side < 2; side++) {
                check_free(peaks[side]);
            }
            check_free(x);
        }
    }
}

void row_stat_takes_lowest_index_on_a_tie(void **state)
{
    for (uint32_t n = 2; n < 200; n += 3) {
        float x[200];
        for (uint32_t k = 0; k < n; k++) {
            x[k] = -1.0f;
        }
        for (uint32_t first = 0; first < n; first++) {
            x[first] = x[n - 1] = 3.0f;
            assert_int_equal(check_table(state)->row_stat(x, n, 0, NULL).argmax, first);
            x[first] = -1.0f;
            x[n - 1] = -1.0f;
        }
    }
}

/* ---- benchmark ---- */

static void report(const struct ingle_kernels *table, const char *name, struct ingle_op *op,
                   uint32_t T, uint32_t cols)
{
    if (!strstr(name, check_pattern)) {
        return;
    }
    double s = check_time_op(table, op, 1, 1);
    printf("%-10s %-22s T %3u cols %5u  %10.0f ns %8.2f ns/value\n", table->isa, name, T, cols,
           s * 1e9, s * 1e9 / T / cols);
}

struct stat_call {
    const struct ingle_kernels *table;
    const float *x;
    uint32_t n;
    struct ingle_row_stat stat;
};

static void call_row_stat(void *arg)
{
    struct stat_call *call = arg;
    call->stat = call->table->row_stat(call->x, call->n, 0, NULL);
}

void bench_rows(const struct ingle_kernels *table)
{
    static const uint32_t tokens[] = {1, 64};
    struct check_rng rng = {17};
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t T = tokens[i], E = 896, F = 4864, V = 151936;
        float *x = check_alloc(sizeof(float) * T * F), *y = check_alloc(sizeof(float) * T * F);
        struct ingle_act act = check_act(INGLE_ACT_INT8, T, E);
        int32_t ids[64];
        check_floats(&rng, x, (uint64_t)T * F);
        check_floats(&rng, y, (uint64_t)T * F);
        for (uint32_t t = 0; t < T; t++) {
            ids[t] = (int32_t)(check_u32(&rng) % 1000);
        }
        struct ingle_matrix w = check_matrix(&rng, INGLE_W_Q5_0, 1000, E);
        struct ingle_op op = {.kind = INGLE_K_EMBED, .embed = {&w, ids, x, 1.0f, T}};
        report(table, "embed Q5_0", &op, T, E);
        op = (struct ingle_op){
            .kind = INGLE_K_NORM,
            .norm = {
                .x = x, .add = y, .gain = y, .out = &act, .eps = 1e-5f, .T = T, .E = E, .R = T}};
        report(table, "norm + add -> int8", &op, T, E);
        op = (struct ingle_op){.kind = INGLE_K_QUANT, .quant = {x, &act, T}};
        report(table, "quant -> int8", &op, T, E);
        if (T == 1 && strstr("row_stat", check_pattern)) {
            float *logits = check_alloc(sizeof(float) * V);
            check_floats(&rng, logits, V);
            struct stat_call call = {.table = table, .x = logits, .n = V};
            double s = check_time(call_row_stat, &call);
            printf("%-10s %-22s n %u  %10.0f ns\n", table->isa, "row_stat", V, s * 1e9);
            check_free(logits);
        }
        check_free(x);
        check_free(y);
        check_free(act.rows);
        check_free(w.data);
    }
}
