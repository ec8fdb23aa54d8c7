/* The forward pass against the golden vectors: what each row says about the next token. Bars are
 * those of the golden README and of the peer that runs the same file (PEERS figures in
 * docs/KERNELS.md). Usage: test_golden MODEL.gguf GOLDEN.json ACT(8|16|32) KERNELS(ref|auto)
 * KV_BITS MEAN_MAX TOP1_MIN */
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "tests/model/forward.h"

#define N_MAX 2048u

struct score {
    uint32_t n, n_top1;
    double sum, max;
};

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    if (!json_object_object_get_ex(o, key, &v)) {
        (void)fprintf(stderr, "golden file without \"%s\"\n", key);
        exit(1);
    }
    return v;
}

static void score_row(const struct forward *f, const float *logits, int32_t next, double want,
                      int32_t top1, struct score *score)
{
    double got = (double)logits[next] - forward_logsumexp(logits, f->model->V);
    double d = fabs(got - want);

    score->n++;
    score->sum += d;
    score->max = !(d <= score->max) ? d : score->max;
    struct ingle_row_stat stat = f->backend->kernels->row_stat(logits, f->model->V, 0, NULL);
    score->n_top1 += stat.argmax == top1 ? 1 : 0;
}

static void score_prompt(struct forward *f, struct json_object *prompt, uint32_t tenant,
                         struct score *score)
{
    struct json_object *ids = member(prompt, "ids"), *lp = member(prompt, "next_logprob"),
                       *top1 = member(prompt, "top1");
    uint32_t n = (uint32_t)json_object_array_length(ids);
    struct ingle_context *c = ingle_context_open(&f->set, tenant);
    static int32_t tokens[N_MAX];

    if (n > N_MAX) {
        (void)fprintf(stderr, "prompt of %u tokens\n", n);
        exit(1);
    }
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = json_object_get_int(json_object_array_get_idx(ids, i));
    }
    for (uint32_t at = 0; at < n; at += 256) {
        struct forward_piece piece = {.ctx = c,
                                      .tokens = tokens + at,
                                      .n = n - at < 256 ? n - at : 256};

        forward_step(f, &piece, 1);
        for (uint32_t r = 0; r < piece.n; r += FORWARD_HEADS) {
            uint32_t n_rows = piece.n - r < FORWARD_HEADS ? piece.n - r : FORWARD_HEADS;
            const float *logits = forward_logits(f, r, n_rows);

            for (uint32_t i = 0; i < n_rows && at + r + i + 1 < n; i++) {
                score_row(f, logits + (uint64_t)i * f->model->V, tokens[at + r + i + 1],
                          json_object_get_double(json_object_array_get_idx(lp, at + r + i)),
                          json_object_get_int(json_object_array_get_idx(top1, at + r + i)), score);
            }
        }
    }
    ingle_context_close(&f->set, c);
}

int main(int argc, char **argv)
{
    char path[1024];
    struct forward f;
    struct forward_options options = {.path = path};
    struct json_object *golden, *prompts;
    struct score score = {0};
    double mean, share, mean_max, share_min;
    uint64_t start;

    if (argc != 8) {
        (void)fprintf(stderr,
                      "usage: test_golden MODEL GOLDEN ACT KERNELS KV_BITS MEAN_MAX TOP1_MIN\n");
        return 2;
    }
    (void)snprintf(path, sizeof path, "%s/%s", forward_models(), argv[1]);
    if (!ingle_act_mode_find(argv[3], &options.act_mode)) {
        (void)fprintf(stderr, "there is no ACT \"%s\"\n", argv[3]);
        return 2;
    }
    options.ref = strcmp(argv[4], "ref") == 0;
    options.kv_bits = (uint8_t)strtoul(argv[5], NULL, 10);
    mean_max = strtod(argv[6], NULL);
    share_min = strtod(argv[7], NULL);
    golden = json_object_from_file(argv[2]);
    if (golden == NULL) {
        (void)fprintf(stderr, "%s: %s\n", argv[2], json_util_get_last_err());
        return 1;
    }
    forward_init(&f, &options);
    start = ingle_clock_ns();
    prompts = member(golden, "prompts");
    for (uint32_t i = 0; i < json_object_array_length(prompts); i++) {
        score_prompt(&f, json_object_array_get_idx(prompts, i), 1 + i, &score);
    }
    mean = score.sum / score.n;
    share = (double)score.n_top1 / score.n;
    (void)printf("%s act %s kernels %s kv %s: n %u mean|dlogp| %.5f max %.3f top1 %.4f (bars %.3f, "
                 "%.3f) %.1f s\n",
                 argv[1], argv[3], argv[4], argv[5], score.n, mean, score.max, share, mean_max,
                 share_min, (double)(ingle_clock_ns() - start) * 1e-9);
    forward_fini(&f, false);
    (void)json_object_put(golden);
    return mean <= mean_max && share >= share_min ? 0 : 1;
}
