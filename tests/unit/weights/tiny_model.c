/* Owns nothing. Writes what the loader's table of tensors asks for, kept apart from that table on
 * purpose: two lists that must agree. */
#include "tests/unit/weights/tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    struct gguf_file *f;
    const struct tiny_model *m;
};

float tiny_value(uint32_t row, uint32_t col)
{
    return (float)row + (float)col / 128.0F;
}

static bool kept(const struct writer *w, const char *name)
{
    return w->m->skip == NULL || strcmp(w->m->skip, name) != 0;
}

static void key_u32(struct writer *w, const char *suffix, uint32_t v)
{
    char key[96];

    (void)snprintf(key, sizeof key, "%s.%s", w->m->arch, suffix);
    if (kept(w, key)) {
        gguf_key_u32(w->f, key, v);
    }
}

static void key_f32(struct writer *w, const char *suffix, float v)
{
    char key[96];

    (void)snprintf(key, sizeof key, "%s.%s", w->m->arch, suffix);
    if (kept(w, key)) {
        gguf_key_f32(w->f, key, v);
    }
}

static void tensor(struct writer *w, const char *name, uint32_t cols, uint32_t rows)
{
    uint32_t n;
    float *v;

    if (!kept(w, name)) {
        return;
    }
    if (w->m->reshape != NULL && strcmp(w->m->reshape, name) == 0) {
        cols += rows == 0 ? 32 : 0;
        rows += rows == 0 ? 0 : 1;
    }
    n = rows == 0 ? 1 : rows;
    v = malloc((size_t)n * cols * sizeof *v);
    if (v == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < n * cols; i++) {
        v[i] = rows == 0 ? tiny_value(i, 0) + 1 : tiny_value(i / cols, i % cols);
    }
    gguf_tensor(w->f, name, cols, rows, GGUF_T_F32, v);
    free(v);
}

static void layer_tensor(struct writer *w, uint32_t layer, const char *suffix, uint32_t cols,
                         uint32_t rows)
{
    char name[64];

    (void)snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    tensor(w, name, cols, rows);
}

static uint32_t head_dim(const struct tiny_model *m)
{
    return m->head_dim != 0 ? m->head_dim : TINY_D;
}

static void layer(struct writer *w, uint32_t l)
{
    uint32_t D = head_dim(w->m), q = TINY_H * D, k = TINY_HK * D;
    bool gemma = strcmp(w->m->arch, "gemma3") == 0;

    layer_tensor(w, l, "attn_norm.weight", TINY_E, 0);
    layer_tensor(w, l, "attn_q.weight", TINY_E, q);
    layer_tensor(w, l, "attn_k.weight", TINY_E, k);
    layer_tensor(w, l, "attn_v.weight", TINY_E, k);
    layer_tensor(w, l, "attn_output.weight", q, TINY_E);
    if (w->m->biases || strcmp(w->m->arch, "qwen2") == 0) {
        layer_tensor(w, l, "attn_q.bias", q, 0);
        layer_tensor(w, l, "attn_k.bias", k, 0);
        layer_tensor(w, l, "attn_v.bias", k, 0);
    }
    if (gemma || strcmp(w->m->arch, "qwen3") == 0) {
        layer_tensor(w, l, "attn_q_norm.weight", D, 0);
        layer_tensor(w, l, "attn_k_norm.weight", D, 0);
    }
    if (gemma) {
        layer_tensor(w, l, "post_attention_norm.weight", TINY_E, 0);
        layer_tensor(w, l, "post_ffw_norm.weight", TINY_E, 0);
    }
    layer_tensor(w, l, "ffn_norm.weight", TINY_E, 0);
    layer_tensor(w, l, "ffn_gate.weight", TINY_E, TINY_F);
    layer_tensor(w, l, "ffn_up.weight", TINY_E, TINY_F);
    layer_tensor(w, l, "ffn_down.weight", TINY_F, TINY_E);
}

/* <unk>, <s>, </s>, the 256 bytes, then words nobody writes. */
static void vocabulary(struct writer *w)
{
    char word[16];

    gguf_key_str(w->f, "tokenizer.ggml.model", "llama");
    gguf_key_array(w->f, "tokenizer.ggml.tokens", GGUF_STR, TINY_V);
    for (uint32_t i = 0; i < TINY_V; i++) {
        if (i < 3) {
            (void)snprintf(word, sizeof word, "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
        } else if (i < 259) {
            (void)snprintf(word, sizeof word, "<0x%02X>", i - 3);
        } else {
            (void)snprintf(word, sizeof word, "word%u", i);
        }
        gguf_put_str(&w->f->keys, word);
    }
    gguf_key_array(w->f, "tokenizer.ggml.scores", GGUF_F32, TINY_V);
    gguf_put(&w->f->keys, NULL, TINY_V * sizeof(float));
    gguf_key_array(w->f, "tokenizer.ggml.token_type", GGUF_I32, TINY_V);
    for (uint32_t i = 0; i < TINY_V; i++) {
        gguf_put_u32(&w->f->keys, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    }
    gguf_key_u32(w->f, "tokenizer.ggml.bos_token_id", 1);
    gguf_key_u32(w->f, "tokenizer.ggml.eos_token_id", 2);
}

void tiny_model(struct gguf_file *f, const struct tiny_model *m)
{
    struct writer w = {.f = f, .m = m};
    bool gemma = strcmp(m->arch, "gemma3") == 0;
    uint32_t layers = m->layers != 0 ? m->layers : 2;

    gguf_file_init(f);
    gguf_key_str(f, "general.architecture", m->arch);
    gguf_key_str(f, "general.name", "Tiny");
    key_u32(&w, "block_count", layers);
    key_u32(&w, "context_length", TINY_CONTEXT);
    key_u32(&w, "embedding_length", TINY_E);
    key_u32(&w, "feed_forward_length", TINY_F);
    key_u32(&w, "attention.head_count", TINY_H);
    key_u32(&w, "attention.head_count_kv", TINY_HK);
    key_f32(&w, "attention.layer_norm_rms_epsilon", 1e-5F);
    key_f32(&w, "rope.freq_base", 500000);
    if (gemma) {
        key_u32(&w, "attention.key_length", head_dim(m));
        key_u32(&w, "attention.value_length", head_dim(m));
        key_u32(&w, "attention.sliding_window", 128);
    }
    vocabulary(&w);
    tensor(&w, "token_embd.weight", TINY_E, TINY_V);
    if (m->untied) {
        tensor(&w, "output.weight", TINY_E, TINY_V);
    }
    for (uint32_t l = 0; l < layers; l++) {
        layer(&w, l);
    }
    tensor(&w, "output_norm.weight", TINY_E, 0);
}
