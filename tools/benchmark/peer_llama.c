/* peer_llama MODEL.gguf GOLDEN.json KV_BITS THREADS: what llama.cpp's arithmetic costs. Feeds the
 * token ids of a golden file (tests/model/golden/README.md) and prints the mean |difference of log
 * p| over all positions, as `ingle eval` has it. Built by tools/bench --setup against the llama.cpp
 * that is measured, not by meson. Owns all it makes until the process ends. Thread: main. */
#include <json-c/json.h>
#include <llama.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 512 /* llama.cpp's own default, as its bench uses it */

static void be_quiet(enum ggml_log_level level, const char *text, void *arg)
{
    (void)level;
    (void)text;
    (void)arg;
}

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    return json_object_object_get_ex(object, key, &value) ? value : NULL;
}

static double log_probability(const float *logits, int n_vocab, int id)
{
    double sum = 0;
    float top = logits[0];

    for (int i = 1; i < n_vocab; i++) {
        top = fmaxf(top, logits[i]);
    }
    for (int i = 0; i < n_vocab; i++) {
        sum += exp((double)(logits[i] - top));
    }
    return (double)(logits[id] - top) - log(sum);
}

/* One prompt into an empty cache; adds to the sum. False: llama.cpp refused. */
static bool feed(struct llama_context *ctx, int n_vocab, struct json_object *prompt, double *sum,
                 size_t *count)
{
    struct json_object *ids = member(prompt, "ids"), *next = member(prompt, "next_logprob");
    int n = (int)json_object_array_length(ids);
    struct llama_batch batch = llama_batch_init(BATCH, 0, 1);
    bool ok = true;

    llama_memory_clear(llama_get_memory(ctx), true);
    for (int from = 0; ok && from < n; from += BATCH) {
        batch.n_tokens = n - from < BATCH ? n - from : BATCH;
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] =
                json_object_get_int(json_object_array_get_idx(ids, (size_t)(from + i)));
            batch.pos[i] = from + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        ok = llama_decode(ctx, batch) == 0;
        for (int i = from; ok && i < from + batch.n_tokens && i + 1 < n; i++) {
            int id = json_object_get_int(json_object_array_get_idx(ids, (size_t)i + 1));
            double said = log_probability(llama_get_logits_ith(ctx, i - from), n_vocab, id);

            *sum += fabs(said - json_object_get_double(json_object_array_get_idx(next, (size_t)i)));
            ++*count;
        }
    }
    llama_batch_free(batch);
    return ok;
}

int main(int argc, char **argv)
{
    struct llama_context_params params = llama_context_default_params();
    struct json_object *golden = argc == 5 ? json_object_from_file(argv[2]) : NULL;
    struct json_object *prompts = member(golden, "prompts");
    struct llama_context *ctx;
    struct llama_model *model;
    double sum = 0;
    size_t count = 0;
    int n_vocab;

    if (prompts == NULL) {
        (void)fputs("usage: peer_llama MODEL.gguf GOLDEN.json KV_BITS THREADS\n", stderr);
        return 2;
    }
    llama_log_set(be_quiet, NULL);
    model = llama_model_load_from_file(argv[1], llama_model_default_params());
    params.n_ctx = 4096;
    params.n_batch = params.n_ubatch = BATCH;
    params.n_threads = params.n_threads_batch = (int)strtol(argv[4], NULL, 10);
    if (strcmp(argv[3], "16") != 0) {
        params.type_k = params.type_v = strcmp(argv[3], "8") == 0 ? GGML_TYPE_Q8_0 : GGML_TYPE_Q4_0;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    }
    ctx = model == NULL ? NULL : llama_init_from_model(model, params);
    if (ctx == NULL) {
        (void)fprintf(stderr, "peer_llama: cannot load %s\n", argv[1]);
        return 1;
    }
    n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    for (size_t i = 0; i < json_object_array_length(prompts); i++) {
        if (!feed(ctx, n_vocab, json_object_array_get_idx(prompts, i), &sum, &count)) {
            (void)fprintf(stderr, "peer_llama: prompt %zu failed\n", i);
            return 1;
        }
    }
    (void)printf("%.6f\n", sum / (double)count);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
