/* KV.md T1, the hard gate: the state of every row and the logits of the last are the same bits
 * whatever the prefill cut, thread count, batch companions, fork, rows wanted, prefix hit or miss,
 * and what the machine does to a worker; and so are the sealed pages. Once per KV type and model.
 * Usage: test_exact MODEL.gguf ACT KV_BITS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/tokenizer.h"
#include "tests/model/forward.h"
#include "tests/stopper.h"

#define N 700u /* tokens of the prompt: several chunks, beyond the window of 512 */

struct reference {
    float *rows;   /* [N][E] */
    float *logits; /* [V] */
};

static int n_failed;

static void check(bool same, const char *what, uint32_t detail)
{
    if (!same) {
        (void)printf("DIFFERS: %s (%u)\n", what, detail);
        n_failed++;
    }
}

/* Feed tokens[from..N) in pieces of `cut` and compare (or, first, record) every row. */
static void run(struct forward *f, struct ingle_context *c, const int32_t *tokens, uint32_t from,
                uint32_t cut, struct reference *ref, bool record, const char *what)
{
    uint32_t E = f->model->E, V = f->model->V;

    for (uint32_t at = from; at < N; at += cut) {
        struct forward_piece piece = {.ctx = c,
                                      .tokens = tokens + at,
                                      .n = N - at < cut ? N - at : cut};

        forward_step(f, &piece, 1);
        for (uint32_t r = 0; r < piece.n; r++) {
            float *row = ref->rows + (uint64_t)(at + r) * E;

            if (record) {
                memcpy(row, f->graph.x + (uint64_t)r * E, E * sizeof *row);
            } else if (memcmp(row, f->graph.x + (uint64_t)r * E, E * sizeof *row) != 0) {
                check(false, what, at + r);
                return;
            }
        }
        if (at + piece.n == N) {
            const float *logits = forward_logits(f, piece.n - 1, 1);

            if (record) {
                memcpy(ref->logits, logits, V * sizeof *logits);
            } else {
                check(memcmp(ref->logits, logits, V * sizeof *logits) == 0, what, N);
            }
        }
    }
}

/* Sealed bytes of two contexts over the same tokens. */
static void compare_pages(const struct forward *f, const struct ingle_context *a,
                          const struct ingle_context *b)
{
    check(a->n_spans == b->n_spans, "number of pages", b->n_spans);
    for (uint32_t g = 0; g < f->model->n_groups; g++) {
        for (uint32_t s = 0; s < a->span_sealed && s < b->span_sealed; s++) {
            const struct ingle_kv_span *x = &a->spans[g][s], *y = &b->spans[g][s];
            uint64_t bytes =
                f->model->group_layers[g] *
                ingle_kv_layer_bytes((enum ingle_kv_form)x->form, f->model->Hk, f->model->D);

            check(x->form == y->form && memcmp(x->sealed, y->sealed, bytes) == 0, "sealed page", s);
        }
    }
}

static void batch_companions(struct forward *f, const int32_t *tokens, struct reference *ref,
                             uint32_t tenant)
{
    struct ingle_context *c = ingle_context_open(&f->set, tenant);
    struct ingle_context *other[3];
    uint32_t E = f->model->E, at = 0, step = 0;

    for (uint32_t i = 0; i < 3; i++) {
        other[i] = ingle_context_open(&f->set, tenant + 1 + i);
    }
    while (at < N) { /* pieces of 1..40 rows between pieces of three strangers */
        struct forward_piece pieces[4];
        uint32_t n = 1 + step * 13 % 40;

        n = N - at < n ? N - at : n;
        pieces[0] = (struct forward_piece){.ctx = other[0], .tokens = tokens + 100 + step, .n = 1};
        pieces[1] = (struct forward_piece){.ctx = other[1],
                                           .tokens = tokens + 200 + step,
                                           .n = 1 + step % 5};
        pieces[2] = (struct forward_piece){.ctx = c, .tokens = tokens + at, .n = n};
        pieces[3] = (struct forward_piece){.ctx = other[2],
                                           .tokens = tokens + 50 + step,
                                           .n = 1 + step % 9};
        forward_step(f, pieces, 4);
        check(memcmp(ref->rows + (uint64_t)at * E,
                     f->graph.x + (uint64_t)(pieces[0].n + pieces[1].n) * E,
                     n * E * sizeof(float)) == 0,
              "batch companions", at);
        at += n;
        step++;
    }
    ingle_context_close(&f->set, c);
    for (uint32_t i = 0; i < 3; i++) {
        ingle_context_close(&f->set, other[i]);
    }
}

static void prefix_hit(struct forward *f, const int32_t *tokens, struct reference *ref,
                       uint32_t tenant)
{
    struct ingle_context *cold = ingle_context_open(&f->set, tenant), *warm;
    uint32_t known;

    run(f, cold, tokens, 0, 90, ref, false, "cold");
    ingle_context_close(&f->set, cold); /* what it sealed stays findable */
    warm = ingle_context_open(&f->set, tenant);
    known = ingle_context_adopt(&f->set, warm, tokens, N, forward_structural, f->model->tokenizer);
    check(known > N - 3 * INGLE_PAGE_TOKENS && known < N, "tokens taken over", known);
    run(f, warm, tokens, known, 256, ref, false, "warm");
    ingle_context_close(&f->set, warm);
}

static void fork_in_the_middle(struct forward *f, const int32_t *tokens, struct reference *ref,
                               uint32_t tenant)
{
    struct ingle_context *a = ingle_context_open(&f->set, tenant), *b;
    struct forward_piece piece = {.ctx = a, .tokens = tokens, .n = 333};

    forward_step(f, &piece, 1);
    b = ingle_context_fork(&f->set, a, tenant);
    check(b != NULL, "fork", 0);
    run(f, a, tokens, 333, 50, ref, false, "forked from");
    run(f, b, tokens, 333, 256, ref, false, "fork");
    compare_pages(f, a, b);
    ingle_context_close(&f->set, a);
    ingle_context_close(&f->set, b);
}

/* Rows that nobody wants are not computed to the end; those that are wanted do not notice. */
static void unwanted_rows(struct forward *f, const struct ingle_context *first,
                          const int32_t *tokens, struct reference *ref, uint32_t tenant,
                          uint32_t cut)
{
    enum {
        WANTED = 3 /* the last rows of the prompt */
    };
    struct ingle_context *c = ingle_context_open(&f->set, tenant);
    struct ingle_context *other = ingle_context_open(&f->set, tenant + 1);
    uint64_t E = f->model->E;

    for (uint32_t at = 0; at < N; at += cut) {
        uint32_t n = N - at < cut ? N - at : cut, skip = at + n < N ? n : n - WANTED;
        struct forward_piece pieces[2] = {
            {.ctx = other, .tokens = tokens + 10 + at, .n = 5, .n_skip = at + n < N ? 5 : 4},
            {.ctx = c, .tokens = tokens + at, .n = n, .n_skip = skip}};

        forward_step(f, pieces, 2);
    }
    check(f->graph.batch.n_out == 1 + WANTED, "wanted rows", f->graph.batch.n_out);
    check(memcmp(ref->rows + (N - WANTED) * E, f->graph.x + E, WANTED * E * sizeof(float)) == 0,
          "rows behind unwanted ones", N);
    check(memcmp(ref->logits, forward_logits(f, WANTED, 1), f->model->V * sizeof(float)) == 0,
          "logits behind unwanted rows", N);
    compare_pages(f, first, c);
    ingle_context_close(&f->set, c);
    ingle_context_close(&f->set, other);
}

/* One of two workers loses its processor for a second, again and again. */
static void stopped_worker(struct forward *f, const int32_t *tokens, struct reference *ref,
                           uint32_t tenant)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct ingle_context *c = ingle_context_open(&f->set, tenant + i);
        struct stopper stopper;

        stopper_begin(&stopper, "ingle-work/1", 10000 + 30000 * i);
        run(f, c, tokens, 0, i == 1 ? N : 100, ref, false, "stopped worker");
        check(stopper_end(&stopper), "a worker to stop", i);
        ingle_context_close(&f->set, c);
    }
}

/* Workers that divide each op, and those that keep to their bands of rows. */
static void several_workers(struct forward *f, const struct ingle_context *first,
                            const int32_t *tokens, struct reference *ref)
{
    uint32_t n = f->backend->n_workers;

    for (uint32_t i = 0; i < 2; i++) {
        struct ingle_context *c = ingle_context_open(&f->set, 1 + i);

        run(f, c, tokens, 0, i == 0 ? 100 : N, ref, false, "several workers");
        check(f->graph.bands.n == (i == 0 ? 0 : n), "bands", f->graph.bands.n);
        compare_pages(f, first, c);
        ingle_context_close(&f->set, c);
    }
    unwanted_rows(f, first, tokens, ref, 3, N);
    check(f->graph.bands.n == n, "bands with unwanted rows", f->graph.bands.n);
}

/* A text of code and prose with markers, as ids of this vocabulary. */
static int32_t *make_prompt(const struct ingle_model *model)
{
    char text[8192];
    uint32_t n = 0, bytes = 0;
    int32_t *ids;
    struct ingle_error err;

    for (unsigned i = 0; bytes + 200 < sizeof text; i++) {
        bytes += (uint32_t)snprintf(
            text + bytes, sizeof text - bytes,
            "<|im_start|>user\nfor (int i%u = %u; i%u < n; i%u++) { sum += a[i%u]; } "
            "The ship number %u came home late.\n",
            i, i * i, i, i, i, i * 37);
    }
    if (ingle_tokenizer_encode(model->tokenizer, text, bytes,
                               INGLE_TOKENIZE_SPECIAL | INGLE_TOKENIZE_BOS, &ids, &n, &err) < 0 ||
        n < N) {
        (void)printf("the prompt has %u tokens only\n", n);
        exit(1);
    }
    return ids;
}

int main(int argc, char **argv)
{
    static const uint32_t cuts[] = {1, 7, 32, 256, N};
    char path[1024];
    struct forward f, g;
    struct forward_options options = {.path = path, .n_workers = 1};
    struct reference ref;
    struct ingle_context *first;
    int32_t *tokens;

    if (argc != 4 || !ingle_act_mode_find(argv[2], &options.act_mode)) {
        (void)fprintf(stderr, "usage: test_exact MODEL.gguf ACT KV_BITS\n");
        return 2;
    }
    (void)snprintf(path, sizeof path, "%s/%s", forward_models(), argv[1]);
    options.kv_bits = (uint8_t)strtoul(argv[3], NULL, 10);
    forward_init(&f, &options);
    tokens = make_prompt(f.model);
    ref.rows = calloc((uint64_t)N * f.model->E, sizeof(float));
    ref.logits = calloc(f.model->V, sizeof(float));
    first = ingle_context_open(&f.set, 1);
    run(&f, first, tokens, 0, 128, &ref, true, "reference");
    for (uint32_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct ingle_context *c = ingle_context_open(&f.set, 10 + i);

        run(&f, c, tokens, 0, cuts[i], &ref, false, "prefill cut");
        compare_pages(&f, first, c);
        ingle_context_close(&f.set, c);
        (void)printf("cut %u: %s\n", cuts[i], n_failed == 0 ? "the same bits" : "DIFFERENT");
    }
    batch_companions(&f, tokens, &ref, 20);
    prefix_hit(&f, tokens, &ref, 30);
    fork_in_the_middle(&f, tokens, &ref, 31);
    unwanted_rows(&f, first, tokens, &ref, 40, 90);
    options.model = f.model;
    for (options.n_workers = 2; options.n_workers <= 3; options.n_workers++) {
        forward_init(&g, &options);
        several_workers(&g, first, tokens, &ref);
        if (options.n_workers == 2) {
            stopped_worker(&g, tokens, &ref, 10);
        }
        forward_fini(&g, true);
    }
    forward_fini(&f, false);
    free(ref.rows);
    free(ref.logits);
    ingle_mem_free(tokens);
    (void)printf("%s act %s kv %s: %s\n", argv[1], argv[2], argv[3],
                 n_failed == 0 ? "bit for bit" : "NOT EXACT");
    return n_failed == 0 ? 0 : 1;
}
