/* One loaded model: shape, packed weights, rope tables. Immutable after load and shared by every
 * sequence; the only mutable things of a forward pass are in graph.h (scratch) and runtime/kv. */
#ifndef INGLE_RUNTIME_MODEL_MODEL_H
#define INGLE_RUNTIME_MODEL_MODEL_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/error.h"

enum ingle_arch {
    INGLE_ARCH_LLAMA,
    INGLE_ARCH_QWEN2,
    INGLE_ARCH_QWEN3,
    INGLE_ARCH_GEMMA3
};

#define INGLE_LAYERS_MAX 256u

struct ingle_layer {
    const float *attn_norm, *ffn_norm;           /* [E] */
    const float *post_attn_norm, *post_ffn_norm; /* [E] or NULL (gemma3) */
    const float *q_norm, *k_norm;                /* [D] or NULL (qwen3, gemma3) */
    const float *q_bias, *k_bias, *v_bias;       /* or NULL (qwen2) */
    struct ingle_matrix q, k, v, o, gate, up, down;
    uint32_t window;      /* 0 = full attention */
    uint8_t group;        /* layer group */
    uint8_t rope;         /* index into model.rope */
    uint16_t group_layer; /* index inside the group */
};

struct ingle_model {
    enum ingle_arch arch;
    char name[64]; /* general.name */
    char path[512];
    uint8_t file_hash[16]; /* identity of the file for the KV key: ingle_gguf_hash() */
    uint32_t L, E, H, Hk, D, F, V;
    uint32_t context_tokens; /* the model's trained context */
    float rms_eps, attn_scale, embed_scale;
    enum ingle_glu glu;
    enum ingle_act_mode act_mode, qkv_act_mode, head_act_mode;
    uint32_t n_groups;
    uint32_t group_layers[INGLE_GROUPS_MAX];
    uint32_t group_window[INGLE_GROUPS_MAX]; /* 0 = full */
    struct ingle_rope rope[2];
    struct ingle_layer *layers;      /* [L] */
    struct ingle_matrix token_embed; /* [V][E] */
    struct ingle_matrix output;      /* [V][E]; the same data as token_embed when tied */
    const float *output_norm;        /* [E] */
    uint64_t file_bytes,
        resident_bytes; /* of tensor data in the file; of memory held by this model */
    struct ingle_tokenizer *tokenizer; /* owned */
    struct ingle_template *chat;       /* owned, NULL when the model has none that can be used */
    struct ingle_error chat_err;       /* why chat is NULL */
    struct ingle_image *image;         /* owned: the packed weights (runtime/weights) */
};

struct ingle_model_options {
    enum ingle_act_mode act_mode; /* INT8 default; F32 with the reference kernels */
    /* Called from the loading thread, at most every 1 %; NULL allowed. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
    const struct ingle_image_home *images; /* where packed images are kept; NULL: nowhere */
    const _Atomic bool *cancel;            /* true: give up soon with -ECANCELED; NULL allowed */
};

/* What loading would take, from the header alone (for admission before allocation). */
int ingle_model_estimate(const char *path, uint64_t *ret_resident_bytes,
                         struct ingle_error *err) INGLE_MUST_CHECK;
/* Load: parse, check names and shapes, stream with io_uring, pack. Thread: load. */
int ingle_model_load(const char *path, const struct ingle_model_options *options,
                     struct ingle_model **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_model_free(struct ingle_model *model); /* NULL allowed */

#endif
