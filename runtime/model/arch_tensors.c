/* Owns the table of tensors per architecture. Every tensor of a file is matched against it, both
 * ways: one that is missing and one that nobody would read are errors, because either would make
 * answers wrong without a sign. Thread: any. */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/arch.h"

enum extent {
    X_ONE, /* a vector has one row */
    X_E,
    X_F,
    X_V,
    X_Q, /* H * D */
    X_K, /* Hk * D */
    X_D,
    X_PAIRS /* n_rot / 2 */
};

#define LLAMA  (1u << INGLE_ARCH_LLAMA)
#define QWEN2  (1u << INGLE_ARCH_QWEN2)
#define QWEN3  (1u << INGLE_ARCH_QWEN3)
#define GEMMA3 (1u << INGLE_ARCH_GEMMA3)
#define ALL    (LLAMA | QWEN2 | QWEN3 | GEMMA3)

struct ingle_tensor_rule {
    const char *name; /* after "blk.N." in a layer */
    unsigned archs, may_lack;
    enum extent cols, rows;
    size_t field; /* in struct ingle_layer, or ingle_model: a pointer to f32, or a matrix */
    bool rotated; /* rows of q or k */
};

#define NOWHERE SIZE_MAX /* kept in the image only: rope_freqs */

/* In the order in which a forward pass reads them. */
#define IN_LAYER(f) offsetof(struct ingle_layer, f)
static const struct ingle_tensor_rule layer_rules[] = {
    {"attn_norm.weight", ALL, 0, X_E, X_ONE, IN_LAYER(attn_norm), false},
    {"attn_q.weight", ALL, 0, X_E, X_Q, IN_LAYER(q), true},
    {"attn_k.weight", ALL, 0, X_E, X_K, IN_LAYER(k), true},
    {"attn_v.weight", ALL, 0, X_E, X_K, IN_LAYER(v), false},
    {"attn_q.bias", LLAMA | QWEN2, LLAMA, X_Q, X_ONE, IN_LAYER(q_bias), true},
    {"attn_k.bias", LLAMA | QWEN2, LLAMA, X_K, X_ONE, IN_LAYER(k_bias), true},
    {"attn_v.bias", LLAMA | QWEN2, LLAMA, X_K, X_ONE, IN_LAYER(v_bias), false},
    {"attn_q_norm.weight", QWEN3 | GEMMA3, 0, X_D, X_ONE, IN_LAYER(q_norm), false},
    {"attn_k_norm.weight", QWEN3 | GEMMA3, 0, X_D, X_ONE, IN_LAYER(k_norm), false},
    {"attn_output.weight", ALL, 0, X_Q, X_E, IN_LAYER(o), false},
    {"post_attention_norm.weight", GEMMA3, 0, X_E, X_ONE, IN_LAYER(post_attn_norm), false},
    {"ffn_norm.weight", ALL, 0, X_E, X_ONE, IN_LAYER(ffn_norm), false},
    {"ffn_gate.weight", ALL, 0, X_E, X_F, IN_LAYER(gate), false},
    {"ffn_up.weight", ALL, 0, X_E, X_F, IN_LAYER(up), false},
    {"ffn_down.weight", ALL, 0, X_F, X_E, IN_LAYER(down), false},
    {"post_ffw_norm.weight", GEMMA3, 0, X_E, X_ONE, IN_LAYER(post_ffn_norm), false},
};

#define IN_MODEL(f) offsetof(struct ingle_model, f)
static const struct ingle_tensor_rule model_rules[] = {
    {"token_embd.weight", ALL, 0, X_E, X_V, IN_MODEL(token_embed), false},
    {"output_norm.weight", ALL, 0, X_E, X_ONE, IN_MODEL(output_norm), false},
    {"output.weight", ALL, ALL, X_E, X_V, IN_MODEL(output), false},
    {"rope_freqs.weight", LLAMA, LLAMA, X_PAIRS, X_ONE, NOWHERE, false},
};
#define N_LAYER_RULES (sizeof layer_rules / sizeof layer_rules[0])
#define N_MODEL_RULES (sizeof model_rules / sizeof model_rules[0])

struct binder {
    const struct ingle_gguf *g;
    const struct ingle_hparams *hp;
    struct ingle_bindings *b;
    bool *known; /* [tensors of the file] */
    struct ingle_error *err;
};

#define bad(bi, fmt, ...)                                                           \
    ingle_fail_kind((bi)->err, INGLE_ERR_BAD_MODEL, -EBADMSG, "%s: tensor %s " fmt, \
                    ingle_gguf_shown((bi)->g), __VA_ARGS__)

static uint64_t extent(const struct ingle_hparams *hp, enum extent x)
{
    switch (x) {
    case X_E:
        return hp->E;
    case X_F:
        return hp->F;
    case X_V:
        return hp->V;
    case X_Q:
        return (uint64_t)hp->H * hp->D;
    case X_K:
        return (uint64_t)hp->Hk * hp->D;
    case X_D:
        return hp->D;
    case X_PAIRS:
        return hp->n_rot / 2;
    case X_ONE:
    default:
        return 1;
    }
}

static int bind(struct binder *bi, const struct ingle_tensor_rule *rule, uint32_t slot)
{
    const struct ingle_hparams *hp = bi->hp;
    unsigned arch = 1u << hp->arch;
    uint64_t cols = extent(hp, rule->cols), rows = extent(hp, rule->rows);
    const struct ingle_gguf_tensor *t;
    char name[64];

    if ((rule->archs & arch) == 0) {
        return 0;
    }
    if (slot < hp->L) {
        (void)snprintf(name, sizeof name, "blk.%u.%s", slot, rule->name);
    } else {
        (void)snprintf(name, sizeof name, "%s", rule->name);
    }
    t = ingle_gguf_find_tensor(bi->g, name);
    if (t == NULL) {
        return (rule->may_lack & arch) != 0 ? 0 : bad(bi, "is missing", name);
    }
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1) {
        return bad(bi,
                   "at byte %" PRIu64 " has the shape %" PRIu64 " x %" PRIu64 " x %" PRIu64
                   " x %" PRIu64 ", the model's keys ask for %" PRIu64 " x %" PRIu64,
                   name, t->file_off, t->dims[0], t->dims[1], t->dims[2], t->dims[3], cols, rows);
    }
    bi->known[t - ingle_gguf_tensor_at(bi->g, 0)] = true;
    bi->b->rules[bi->b->n_items] = rule;
    bi->b->items[bi->b->n_items] = (struct ingle_image_item){
        .src = t,
        .slot = slot,
        .vector = rule->rows == X_ONE,
        .dst_rows = rule->rotated ? bi->b->row_order : NULL,
    };
    bi->b->n_items++;
    bi->b->file_bytes += t->bytes;
    return 0;
}

static int bind_all(struct binder *bi)
{
    int rc = 0;

    for (uint32_t l = 0; l < bi->hp->L; l++) {
        for (uint32_t i = 0; i < N_LAYER_RULES && rc == 0; i++) {
            rc = bind(bi, &layer_rules[i], l);
        }
    }
    for (uint32_t i = 0; i < N_MODEL_RULES && rc == 0; i++) {
        rc = bind(bi, &model_rules[i], bi->hp->L);
    }
    for (uint32_t i = 0; i < ingle_gguf_n_tensors(bi->g) && rc == 0; i++) {
        if (!bi->known[i]) {
            const struct ingle_gguf_tensor *t = ingle_gguf_tensor_at(bi->g, i);

            rc = bad(bi, "at byte %" PRIu64 " has no place in the architecture",
                     ingle_show(t->name).text, t->file_off);
        }
    }
    return rc;
}

/* The writer of llama files stores a head's rows as (0, D/2, 1, D/2 + 1, ...), so that a rotation
 * turns neighbours; the kernels turn (i, i + D/2). */
static uint32_t *halves_order(const struct ingle_hparams *hp)
{
    uint32_t n = hp->H * hp->D;
    uint32_t *order = ingle_mem_array(n, sizeof *order);

    for (uint32_t r = 0; order != NULL && r < n; r++) {
        uint32_t in_head = r % hp->D;

        order[r] = r - in_head + in_head / 2 + in_head % 2 * (hp->D / 2);
    }
    return order;
}

int ingle_bindings_init(struct ingle_bindings *b, const struct ingle_gguf *gguf,
                        const struct ingle_hparams *hp, struct ingle_error *err)
{
    struct binder bi = {.g = gguf, .hp = hp, .b = b, .err = err};
    uint64_t n_max = (uint64_t)hp->L * N_LAYER_RULES + N_MODEL_RULES;
    int rc;

    *b = (struct ingle_bindings){0};
    b->items = ingle_mem_array(n_max, sizeof *b->items);
    b->rules = ingle_mem_array(n_max, sizeof *b->rules); /* NOLINT(bugprone-sizeof-expression) */
    bi.known = ingle_mem_array(ingle_gguf_n_tensors(gguf), sizeof *bi.known);
    if (hp->arch == INGLE_ARCH_LLAMA) {
        b->row_order = halves_order(hp);
    }
    if (b->items == NULL || b->rules == NULL || bi.known == NULL ||
        (hp->arch == INGLE_ARCH_LLAMA && b->row_order == NULL)) {
        rc = ingle_fail(err, -ENOMEM, "%s: no memory to list its tensors", ingle_gguf_shown(gguf));
    } else {
        rc = bind_all(&bi);
    }
    ingle_mem_free(bi.known);
    if (rc < 0) {
        ingle_bindings_fini(b);
        return rc;
    }
    ingle_assert(b->rules != NULL);
    b->image_bytes = ingle_image_layout(b->items, b->n_items);
    for (uint32_t i = 0; i < b->n_items; i++) {
        if (b->rules[i]->field == NOWHERE) {
            b->rope_freqs = &b->items[i];
        }
    }
    return 0;
}

void ingle_bindings_fini(struct ingle_bindings *b)
{
    ingle_mem_free(b->items);
    ingle_mem_free(b->rules);
    ingle_mem_free(b->row_order);
    *b = (struct ingle_bindings){0};
}

void ingle_bindings_apply(const struct ingle_bindings *b, const struct ingle_image *image,
                          struct ingle_model *model)
{
    for (uint32_t i = 0; i < b->n_items; i++) {
        const struct ingle_image_item *item = &b->items[i];
        const uint8_t *data = ingle_image_at(image, item);
        char *owner = item->slot < model->L ? (char *)&model->layers[item->slot] : (char *)model;
        size_t field = b->rules[i]->field;

        if (field == NOWHERE) {
            continue;
        }
        if (item->vector) {
            *(const float **)(void *)(owner + field) = (const float *)(const void *)data;
        } else {
            *(struct ingle_matrix *)(void *)(owner + field) = (struct ingle_matrix){
                .type = item->src->type,
                .rows = (uint32_t)item->src->dims[1],
                .cols = (uint32_t)item->src->dims[0],
                .data = data,
            };
        }
    }
    if (model->output.data == NULL) {
        model->output = model->token_embed;
    }
}
