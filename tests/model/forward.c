/* Owns the parts of one engine for the model tests. Single thread besides the backend's workers. */
#include "tests/model/forward.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/tokenizer.h"

#define ROWS 1024u
#define SEQS 16u

static void need(int r, const struct ingle_error *err)
{
    if (r < 0) {
        (void)fprintf(stderr, "forward: %s\n", err->text);
        exit(1);
    }
}

const char *forward_models(void)
{
    const char *dir = getenv("INGLE_TEST_MODELS");

    if (dir == NULL || dir[0] == '\0') {
        (void)printf("SKIP: INGLE_TEST_MODELS names no folder of test models\n");
        exit(77);
    }
    return dir;
}

void forward_init(struct forward *f, const struct forward_options *options)
{
    struct ingle_model_options load = {.act_mode = options->act_mode};
    struct ingle_cpu_options cpu = {.n_workers = options->n_workers,
                                    .kernels = options->ref ? ingle_kernels_ref() : NULL,
                                    .spin_us = 50};
    struct ingle_kv_shape shape;
    struct ingle_error err;

    if (options->act_mode == INGLE_ACT_BF16 && !options->ref && !ingle_kernels_best()->bf16) {
        (void)printf("SKIP: products of bf16 activations need a CPU with AMX\n");
        exit(77);
    }
    memset(f, 0, sizeof *f);
    f->model = options->model;
    if (f->model == NULL) {
        need(ingle_model_load(options->path, &load, &f->model, &err), &err);
    }
    need(ingle_backend_cpu_create(&cpu, &f->backend, &err), &err);
    need(ingle_graph_init(&f->graph, f->model, f->backend, ROWS, SEQS, FORWARD_HEADS, &err), &err);
    shape = (struct ingle_kv_shape){.n_groups = f->model->n_groups,
                                    .Hk = f->model->Hk,
                                    .D = f->model->D};
    memcpy(shape.group_layers, f->model->group_layers, sizeof shape.group_layers);
    need(ingle_kv_pool_init(&f->pool, f->backend, &shape, options->kv_bits, UINT64_C(512) << 20, 96,
                            &err),
         &err);
    need(ingle_chunk_store_init(&f->store, &f->pool, 4096, &err), &err);
    need(ingle_context_set_init(&f->set, &f->pool, &f->store, SEQS, 4096, f->model->group_window,
                                &err),
         &err);
}

void forward_fini(struct forward *f, bool keep_model)
{
    ingle_context_set_fini(&f->set);
    ingle_chunk_store_fini(&f->store);
    ingle_kv_pool_fini(&f->pool);
    ingle_graph_fini(&f->graph);
    ingle_backend_destroy(f->backend);
    if (!keep_model) {
        ingle_model_free(f->model);
    }
}

bool forward_structural(const void *arg, int32_t token)
{
    return ingle_tokenizer_is_structural(arg, token);
}

void forward_step(struct forward *f, const struct forward_piece *pieces, uint32_t n_pieces)
{
    struct ingle_batch *batch = &f->graph.batch;

    batch->T = batch->n_seqs = batch->n_out = 0;
    for (uint32_t i = 0; i < n_pieces; i++) {
        uint32_t n = ingle_context_plan(&f->set, pieces[i].ctx, pieces[i].tokens, pieces[i].n,
                                        forward_structural, f->model->tokenizer);

        if (n != pieces[i].n) {
            (void)fprintf(stderr, "forward: pages for %u of %u tokens only\n", n, pieces[i].n);
            exit(1);
        }
        memcpy(batch->ids + batch->T, pieces[i].tokens, n * sizeof *batch->ids);
        for (uint32_t g = 0; g < f->model->n_groups; g++) {
            batch->seqs[g][i] = ingle_context_view(pieces[i].ctx, g, batch->T, n);
        }
        for (uint32_t r = pieces[i].n_skip; r < n; r++) {
            batch->out[batch->n_out++] = batch->T + r;
        }
        batch->T += n;
        batch->n_seqs++;
    }
    ingle_graph_body(&f->graph);
    for (uint32_t i = 0; i < n_pieces; i++) {
        ingle_context_commit(&f->set, pieces[i].ctx);
    }
}

const float *forward_logits(struct forward *f, uint32_t row, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        f->graph.index[i] = row + i;
    }
    ingle_graph_head(&f->graph, n, INGLE_WANT_LOGITS);
    return f->graph.logits;
}

double forward_logsumexp(const float *logits, uint32_t V)
{
    double max = (double)-INFINITY, sum = 0;

    for (uint32_t i = 0; i < V; i++) {
        max = fmax(max, (double)logits[i]);
    }
    for (uint32_t i = 0; i < V; i++) {
        sum += exp((double)logits[i] - max);
    }
    return max + log(sum);
}
