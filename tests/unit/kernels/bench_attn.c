/* The benchmark of attention, store and seal: one layer of the models that the figures of the
 * design speak of, in prefill and in decode, for every form of a page. */
#include <stdio.h>

#include "tests/unit/kernels/check_world.h"

struct bench_model {
    const char *name;
    uint32_t H, Hk, D, layers;
};

static const char *const form_names[] = {"open", "f16", "q8", "q4"};

/* Pairs of a query (row and head) and a key that it sees. */
static double pairs(const struct world_shape *s, uint32_t from, uint32_t to)
{
    return 0.5 * ((double)to * (to + 1) - (double)from * (from + 1)) * s->H;
}

static void bench_case(const struct ingle_kernels *table, const struct bench_model *model,
                       uint32_t form, uint32_t from, uint32_t to)
{
    struct world_shape shape = {.H = model->H,
                                .Hk = model->Hk,
                                .D = model->D,
                                .n_rot = model->D,
                                .form = form,
                                .n_seqs = 1,
                                .tokens = to,
                                .chunk_min = 128,
                                .chunk_max = 192,
                                .keep_open = true,
                                .seed = 1};
    struct world w;
    struct ingle_op ops[WORLD_OPS];

    world_init(&w, &shape);
    world_ops(&w, 1, 0, to, ops);
    check_run(table, &ops[WORLD_QKV], 1);
    world_ops(&w, 1, from, to, ops);
    printf("%-10s attn %-8s %-4s %-7s %4u", table->isa, model->name, form_names[form],
           to - from > 1 ? "prefill" : "decode", to);
    for (uint32_t workers = 1; workers <= 2; workers++) {
        double s = check_time_op(table, &ops[WORLD_ATTN], 1, workers);
        printf("  %ut %9.1f us (%4.2f ns/key, model %6.1f ms)", workers, s * 1e6,
               s * 1e9 / pairs(&shape, from, to), s * 1e3 * model->layers);
    }
    if (to - from > 1) {
        double s = check_time_op(table, &ops[WORLD_QKV], 1, 1);
        printf("  q, k, v of 64 columns, rotation, store and seal 1t %5.1f us", s * 1e6);
    }
    printf("\n");
    world_fini(&w);
}

void bench_attn(const struct ingle_kernels *table)
{
    static const struct bench_model models[] = {{"SmolLM2", 9, 3, 64, 30},
                                                {"Qwen", 14, 2, 64, 24},
                                                {"Gemma", 4, 1, 256, 18}};
    static const uint32_t depths[] = {512, 2048};
    for (uint32_t m = 0; m < 3; m++) {
        for (uint32_t d = 0; d < 2; d++) {
            for (uint32_t form = INGLE_KV_F16; form <= INGLE_KV_Q4; form++) {
                bench_case(table, &models[m], form, 0, depths[d]);
            }
            for (uint32_t form = INGLE_KV_F16; form <= INGLE_KV_Q4; form++) {
                bench_case(table, &models[m], form, depths[d] - 1, depths[d]);
            }
        }
    }
}
