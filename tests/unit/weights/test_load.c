/* From a file to a model: every architecture, every kind of misfit. The files are tiny, written
 * here. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/model.h"
#include "runtime/model/template.h"
#include "runtime/model/tokenizer.h"
#include "tests/unit/weights/tiny_model.h"

static char path[256];

static int load(const struct gguf_file *f, struct ingle_model **ret, struct ingle_error *err)
{
    static const struct ingle_model_options options = {.act_mode = INGLE_ACT_INT8};

    memset(err, 0, sizeof *err);
    assert_true(gguf_file_write(f, path));
    return ingle_model_load(path, &options, ret, err);
}

static struct ingle_model *accept(struct gguf_file *f)
{
    struct ingle_model *m = NULL;
    struct ingle_error err;

    if (load(f, &m, &err) != 0) {
        fail_msg("refused: %s", err.text);
    }
    gguf_file_fini(f);
    return m;
}

static void refuse(struct gguf_file *f, const char *word, const char *word2)
{
    struct ingle_model *m = NULL;
    struct ingle_error err;

    assert_true(load(f, &m, &err) < 0);
    assert_null(m);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    assert_non_null(strstr(err.text, "tiny.gguf: "));
    if (strstr(err.text, word) == NULL || strstr(err.text, word2) == NULL) {
        fail_msg("expected \"%s\" and \"%s\": %s", word, word2, err.text);
    }
    gguf_file_fini(f);
}

static void plain(struct gguf_file *f, const char *arch)
{
    tiny_model(f, &(struct tiny_model){.arch = arch});
}

/* An element of a packed F32 matrix: tiles of 16 rows, [cols][16]. */
static float element(const struct ingle_matrix *w, uint32_t row, uint32_t col)
{
    float v;

    assert_int_equal(w->type, INGLE_W_F32);
    memcpy(&v, w->data + ((uint64_t)(row / 16) * w->cols * 16 + col * 16 + row % 16) * sizeof v,
           sizeof v);
    return v;
}

static void expect_in_order(const struct ingle_matrix *w, uint32_t rows, uint32_t cols)
{
    assert_int_equal(w->rows, rows);
    assert_int_equal(w->cols, cols);
    assert_int_equal((uintptr_t)w->data % 64, 0);
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < cols; c++) {
            assert_true(element(w, r, c) == tiny_value(r, c));
        }
    }
}

/* Row (head, half, i) comes from row (head, 2 i + half) of the file. */
static uint32_t source_row(uint32_t row)
{
    uint32_t in_head = row % TINY_D;

    return row - in_head + in_head % (TINY_D / 2) * 2 + in_head / (TINY_D / 2);
}

static void expect_halves(const struct ingle_matrix *w, uint32_t rows)
{
    assert_int_equal(w->rows, rows);
    for (uint32_t r = 0; r < rows; r++) {
        assert_true(element(w, r, 5) == tiny_value(source_row(r), 5));
    }
}

static void expect_vector(const float *v, uint32_t n)
{
    assert_non_null(v);
    assert_int_equal((uintptr_t)v % 64, 0);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(v[i] == (float)i + 1);
    }
}

static void expect_shape(const struct ingle_model *m, enum ingle_arch arch)
{
    assert_int_equal(m->arch, arch);
    assert_int_equal(m->E, TINY_E);
    assert_int_equal(m->H, TINY_H);
    assert_int_equal(m->Hk, TINY_HK);
    assert_int_equal(m->D, TINY_D);
    assert_int_equal(m->F, TINY_F);
    assert_int_equal(m->V, TINY_V);
    assert_int_equal(m->context_tokens, TINY_CONTEXT);
    assert_true(m->rms_eps == 1e-5F);
    assert_true(m->attn_scale == 0.25F);
    assert_string_equal(m->name, "Tiny");
    assert_string_equal(m->path, path);
    assert_int_equal(m->act_mode, INGLE_ACT_INT8);
    assert_int_equal(m->head_act_mode, INGLE_ACT_INT16);
    assert_int_equal(ingle_tokenizer_n_vocab(m->tokenizer), TINY_V);
    expect_in_order(&m->token_embed, TINY_V, TINY_E);
    expect_vector(m->output_norm, TINY_E);
    for (uint32_t l = 0; l < m->L; l++) {
        expect_vector(m->layers[l].attn_norm, TINY_E);
        expect_vector(m->layers[l].ffn_norm, TINY_E);
        expect_in_order(&m->layers[l].v, TINY_HK * TINY_D, TINY_E);
        expect_in_order(&m->layers[l].o, TINY_E, TINY_H * TINY_D);
        expect_in_order(&m->layers[l].gate, TINY_F, TINY_E);
        expect_in_order(&m->layers[l].up, TINY_F, TINY_E);
        expect_in_order(&m->layers[l].down, TINY_E, TINY_F);
    }
}

/* ---- architectures -------------------------------------------------------------------------- */

static void llama_loads_with_heads_in_halves(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    m = accept(&f);
    expect_shape(m, INGLE_ARCH_LLAMA);
    assert_int_equal(m->L, 2);
    assert_int_equal(m->glu, INGLE_GLU_SILU);
    assert_true(m->embed_scale == 1.0F);
    for (uint32_t l = 0; l < 2; l++) {
        const struct ingle_layer *layer = &m->layers[l];

        expect_halves(&layer->q, TINY_H * TINY_D);
        expect_halves(&layer->k, TINY_HK * TINY_D);
        assert_null(layer->q_bias);
        assert_null(layer->q_norm);
        assert_null(layer->post_attn_norm);
        assert_int_equal(layer->window, 0);
        assert_int_equal(layer->group, 0);
        assert_int_equal(layer->group_layer, l);
        assert_int_equal(layer->rope, 0);
    }
    assert_int_equal(m->n_groups, 1);
    assert_int_equal(m->group_layers[0], 2);
    assert_ptr_equal(m->output.data, m->token_embed.data);
    ingle_model_free(m);
}

static void biases_of_llama_turn_with_their_rows(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "llama", .biases = true});
    m = accept(&f);
    for (uint32_t i = 0; i < TINY_H * TINY_D; i++) {
        assert_true(m->layers[1].q_bias[i] == (float)source_row(i) + 1);
    }
    for (uint32_t i = 0; i < TINY_HK * TINY_D; i++) {
        assert_true(m->layers[1].k_bias[i] == (float)source_row(i) + 1);
    }
    expect_vector(m->layers[1].v_bias, TINY_HK * TINY_D);
    ingle_model_free(m);
}

static void qwen2_loads_with_biases(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "qwen2", .untied = true});
    m = accept(&f);
    expect_shape(m, INGLE_ARCH_QWEN2);
    expect_in_order(&m->layers[0].q, TINY_H * TINY_D, TINY_E);
    expect_in_order(&m->layers[1].k, TINY_HK * TINY_D, TINY_E);
    expect_vector(m->layers[0].q_bias, TINY_H * TINY_D);
    expect_vector(m->layers[1].k_bias, TINY_HK * TINY_D);
    expect_vector(m->layers[1].v_bias, TINY_HK * TINY_D);
    expect_in_order(&m->output, TINY_V, TINY_E);
    assert_ptr_not_equal(m->output.data, m->token_embed.data);
    ingle_model_free(m);
}

static void qwen3_loads_with_normed_heads(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "qwen3");
    m = accept(&f);
    expect_shape(m, INGLE_ARCH_QWEN3);
    expect_in_order(&m->layers[0].q, TINY_H * TINY_D, TINY_E);
    expect_vector(m->layers[1].q_norm, TINY_D);
    expect_vector(m->layers[1].k_norm, TINY_D);
    assert_null(m->layers[1].q_bias);
    ingle_model_free(m);
}

static void gemma3_loads_with_two_groups_and_two_ropes(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "gemma3", .layers = 13});
    m = accept(&f);
    expect_shape(m, INGLE_ARCH_GEMMA3);
    assert_int_equal(m->glu, INGLE_GLU_GELU_TANH);
    assert_true(m->embed_scale == sqrtf(32.0F));
    assert_int_equal(m->n_groups, 2);
    assert_int_equal(m->group_layers[0], 2);
    assert_int_equal(m->group_window[0], 0);
    assert_int_equal(m->group_layers[1], 11);
    assert_int_equal(m->group_window[1], 128);
    for (uint32_t l = 0; l < 13; l++) {
        const struct ingle_layer *layer = &m->layers[l];
        bool full = l == 5 || l == 11;

        assert_int_equal(layer->window, full ? 0 : 128);
        assert_int_equal(layer->group, full ? 0 : 1);
        assert_int_equal(layer->rope, full ? 0 : 1);
        assert_int_equal(layer->group_layer, full ? l / 6 : l - l / 6);
        expect_vector(layer->post_attn_norm, TINY_E);
        expect_vector(layer->post_ffn_norm, TINY_E);
        expect_vector(layer->q_norm, TINY_D);
    }
    ingle_model_free(m);
}

static void a_pattern_in_the_file_beats_the_family(void **state)
{
    static const uint8_t pattern[] = {0, 1, 1};
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "gemma3", .layers = 3});
    gguf_key_u32(&f, "gemma3.attention.sliding_window_pattern", 2);
    m = accept(&f);
    assert_int_equal(m->layers[0].window, 128);
    assert_int_equal(m->layers[1].window, 0);
    assert_int_equal(m->layers[2].window, 128);
    ingle_model_free(m);

    tiny_model(&f, &(struct tiny_model){.arch = "gemma3", .layers = 3});
    gguf_key_array(&f, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, 3);
    gguf_put(&f.keys, pattern, 3);
    m = accept(&f);
    assert_int_equal(m->layers[0].window, 0);
    assert_int_equal(m->layers[1].window, 128);
    assert_int_equal(m->layers[2].window, 128);
    ingle_model_free(m);

    tiny_model(&f, &(struct tiny_model){.arch = "gemma3", .layers = 3});
    gguf_key_array(&f, "gemma3.attention.sliding_window_pattern", GGUF_BOOL, 2);
    gguf_put(&f.keys, pattern, 2);
    refuse(&f, "sliding_window_pattern has 2 entries", "3 layers");
}

static void gemma3_27b_scales_attention_by_its_width(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    for (uint32_t layers = 61; layers <= 62; layers++) {
        tiny_model(&f, &(struct tiny_model){.arch = "gemma3", .layers = layers, .head_dim = 64});
        m = accept(&f);
        assert_int_equal(m->D, 64);
        assert_true(m->attn_scale == (layers == 62 ? 0.25F : 0.125F)); /* E / H = 16, or D */
        ingle_model_free(m);
    }
}

static void mistral_s_window_is_honoured(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    gguf_key_u32(&f, "llama.attention.sliding_window", 64);
    m = accept(&f);
    assert_int_equal(m->n_groups, 1);
    assert_int_equal(m->group_window[0], 64);
    assert_int_equal(m->group_layers[0], 2);
    assert_int_equal(m->layers[1].window, 64);
    assert_int_equal(m->layers[1].rope, 0);
    ingle_model_free(m);

    plain(&f, "llama");
    gguf_key_u32(&f, "llama.attention.sliding_window", TINY_CONTEXT);
    m = accept(&f);
    assert_int_equal(m->n_groups, 1);
    assert_int_equal(m->group_window[0], 0);
    ingle_model_free(m);
}

/* ---- rope ----------------------------------------------------------------------------------- */

/* cos and sin of a position as the kernels form them. */
static void expect_angle(const struct ingle_rope *rope, uint32_t p, uint32_t i, double theta)
{
    uint32_t pairs = rope->n_rot / 2;
    const float *lo = rope->lo + 2 * ((uint64_t)(p % 256) * pairs + i);
    const float *hi = rope->hi + 2 * ((uint64_t)(p / 256) * pairs + i);
    double c = (double)lo[0] * (double)hi[0] - (double)lo[1] * (double)hi[1];
    double s = (double)lo[0] * (double)hi[1] + (double)lo[1] * (double)hi[0];

    assert_true(fabs(c - cos(p * theta)) < 2e-7);
    assert_true(fabs(s - sin(p * theta)) < 2e-7);
}

static void expect_rope(const struct ingle_rope *rope, double base, double slow,
                        const float *factors)
{
    assert_int_equal(rope->n_rot, TINY_D);
    assert_int_equal(rope->n_hi, 4);
    for (uint32_t p = 0; p < TINY_CONTEXT; p += 37) {
        for (uint32_t i = 0; i < TINY_D / 2; i++) {
            double theta = 1 / pow(base, (double)i / (TINY_D / 2)) / slow;

            expect_angle(rope, p, i, factors != NULL ? theta / (double)factors[i] : theta);
        }
    }
}

static void rope_follows_base_and_linear_scaling(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "qwen3");
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 1, NULL);
    ingle_model_free(m);

    plain(&f, "llama");
    gguf_key_str(&f, "llama.rope.scaling.type", "linear");
    gguf_key_f32(&f, "llama.rope.scaling.factor", 4);
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 4, NULL);
    ingle_model_free(m);

    plain(&f, "llama");
    gguf_key_str(&f, "llama.rope.scaling.type", "none");
    gguf_key_f32(&f, "llama.rope.scaling.factor", 4);
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 1, NULL);
    ingle_model_free(m);

    tiny_model(&f, &(struct tiny_model){.arch = "llama", .skip = "llama.rope.freq_base"});
    m = accept(&f);
    expect_rope(&m->rope[0], 10000, 1, NULL);
    ingle_model_free(m);
}

static void rope_factors_divide_the_frequencies(void **state)
{
    static const float factors[TINY_D / 2] = {1, 1, 1, 1.5F, 2, 4, 8, 32};
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    gguf_tensor(&f, "rope_freqs.weight", TINY_D / 2, 0, GGUF_T_F32, factors);
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 1, factors);
    ingle_model_free(m);

    plain(&f, "llama");
    gguf_tensor(&f, "rope_freqs.weight", TINY_D / 2, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor rope_freqs.weight has 0 at byte", "must be positive");
}

static void gemma3_scales_its_full_layers_only(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "gemma3");
    gguf_key_str(&f, "gemma3.rope.scaling.type", "linear");
    gguf_key_f32(&f, "gemma3.rope.scaling.factor", 8);
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 8, NULL);
    expect_rope(&m->rope[1], 10000, 1, NULL);
    ingle_model_free(m);

    plain(&f, "gemma3");
    gguf_key_f32(&f, "gemma3.rope.freq_base_swa", 20000);
    m = accept(&f);
    expect_rope(&m->rope[0], 500000, 1, NULL);
    expect_rope(&m->rope[1], 20000, 1, NULL);
    ingle_model_free(m);
}

/* ---- misfits -------------------------------------------------------------------------------- */

static void a_missing_tensor_is_named(void **state)
{
    static const struct {
        const char *arch, *name;
    } cases[] = {
        {"llama", "token_embd.weight"},           {"llama", "output_norm.weight"},
        {"llama", "blk.0.attn_norm.weight"},      {"llama", "blk.1.ffn_down.weight"},
        {"qwen2", "blk.1.attn_k.bias"},           {"qwen3", "blk.0.attn_q_norm.weight"},
        {"gemma3", "blk.1.post_ffw_norm.weight"}, {"gemma3", "blk.0.attn_k_norm.weight"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char word[96];
        struct gguf_file f;

        tiny_model(&f, &(struct tiny_model){.arch = cases[i].arch, .skip = cases[i].name});
        (void)snprintf(word, sizeof word, "tensor %s is missing", cases[i].name);
        refuse(&f, word, "");
    }
}

static void a_tensor_of_another_shape_is_named_with_both(void **state)
{
    static const char *const names[] = {"blk.0.attn_q.weight", "blk.1.attn_norm.weight",
                                        "blk.1.ffn_down.weight", "blk.0.attn_k.weight",
                                        "output_norm.weight"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char word[96];
        struct gguf_file f;

        tiny_model(&f, &(struct tiny_model){.arch = "llama", .reshape = names[i]});
        (void)snprintf(word, sizeof word, "tensor %s at byte", names[i]);
        refuse(&f, word, "has the shape");
    }
}

static void a_tensor_that_nobody_would_read_is_named(void **state)
{
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    gguf_tensor(&f, "blk.0.attn_output.bias", TINY_E, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor blk.0.attn_output.bias at byte", "no place in the architecture");
    plain(&f, "qwen3");
    gguf_tensor(&f, "blk.0.attn_q.bias", TINY_H * TINY_D, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor blk.0.attn_q.bias at byte", "no place");
    plain(&f, "llama");
    gguf_tensor(&f, "blk.2.attn_norm.weight", TINY_E, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor blk.2.attn_norm.weight at byte", "no place");
}

static void another_vocabulary_than_the_tokenizer_s_is_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "llama", .reshape = "token_embd.weight"});
    refuse(&f, "token_embd.weight has 273 rows", "tokenizer.ggml.tokens has 272");
}

static void a_missing_key_is_named(void **state)
{
    static const char *const keys[] = {"block_count",          "context_length",
                                       "embedding_length",     "feed_forward_length",
                                       "attention.head_count", "attention.layer_norm_rms_epsilon"};

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[64], word[96];
        struct gguf_file f;

        (void)snprintf(key, sizeof key, "qwen2.%s", keys[i]);
        (void)snprintf(word, sizeof word, "%s is missing", key);
        tiny_model(&f, &(struct tiny_model){.arch = "qwen2", .skip = key});
        refuse(&f, word, "");
    }
}

/* With the key's value replaced, the model is refused with its reason. */
static void a_key_that_is_not_served_is_named_with_its_reason(void **state)
{
    static const struct {
        const char *arch, *key;
        uint32_t value;
        const char *word, *word2;
    } cases[] = {
        {"llama", "block_count", 0, "llama.block_count is 0", "1 to 256"},
        {"llama", "block_count", 257, "llama.block_count is 257", "1 to 256"},
        {"llama", "embedding_length", 48, "llama.attention.key_length is 24", "multiples of 16"},
        {"llama", "embedding_length", 1u << 31, "llama.embedding_length is 2147483648", "1 to"},
        {"llama", "feed_forward_length", 40, "40 in the feed-forward", "multiples of 32"},
        {"llama", "attention.head_count", 0, "llama.attention.head_count is 0", "1 to"},
        {"llama", "attention.head_count_kv", 3, "head_count_kv is 3", "2 heads"},
        {"llama", "context_length", UINT32_MAX, "llama.context_length is 4294967295", "1 to"},
        {"llama", "attention.key_length", 32, "attention.key_length is 32", "values have 16"},
        {"llama", "attention.value_length", 8, "attention.key_length is 16", "values have 8"},
        {"llama", "rope.dimension_count", 8, "rope.dimension_count is 8", "length, 16"},
        {"qwen2", "rope.dimension_count", 7, "rope.dimension_count is 7", "even"},
        {"qwen2", "rope.dimension_count", 18, "rope.dimension_count is 18", "1 to 16"},
        {"llama", "expert_count", 8, "llama.expert_count is 8", "experts"},
        {"gemma3", "final_logit_softcapping", 30, "final_logit_softcapping is 30", "capped"},
        {"gemma3", "attention.sliding_window_pattern", 0, "sliding_window_pattern is 0", "1 to"},
        {"llama", "rope.freq_base", 0, "llama.rope.freq_base is 0", "positive"},
        {"llama", "rope.scaling.factor", 0, "llama.rope.scaling.factor is 0", "positive"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char key[96];
        struct gguf_file f;

        (void)snprintf(key, sizeof key, "%s.%s", cases[i].arch, cases[i].key);
        tiny_model(&f, &(struct tiny_model){.arch = cases[i].arch, .skip = key});
        gguf_key_u32(&f, key, cases[i].value);
        refuse(&f, cases[i].word, cases[i].word2);
    }
}

static void heads_per_layer_are_served_when_all_agree(void **state)
{
    struct tiny_model tiny = {.arch = "llama", .skip = "llama.attention.head_count_kv"};
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &tiny);
    gguf_key_array(&f, tiny.skip, GGUF_I32, 2);
    gguf_put_u32(&f.keys, 1);
    gguf_put_u32(&f.keys, 1);
    m = accept(&f);
    assert_int_equal(m->Hk, 1);
    ingle_model_free(m);
    tiny_model(&f, &tiny);
    gguf_key_array(&f, tiny.skip, GGUF_I32, 2);
    gguf_put_u32(&f.keys, 1);
    gguf_put_u32(&f.keys, 2);
    refuse(&f, "head_count_kv differs between layers", "2 in layer 1");
    tiny_model(&f, &tiny);
    gguf_key_str(&f, tiny.skip, "1");
    refuse(&f, "head_count_kv is not a whole number", "");
}

static void other_architectures_scalings_and_parts_are_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    plain(&f, "phi3");
    refuse(&f, "general.architecture is \"phi3\"", "served are llama");
    gguf_file_init(&f);
    refuse(&f, "general.architecture is missing", "");
    plain(&f, "qwen2");
    gguf_key_str(&f, "qwen2.rope.scaling.type", "yarn");
    refuse(&f, "qwen2.rope.scaling.type is \"yarn\"", "linear");
    plain(&f, "llama");
    gguf_key_u32(&f, "split.count", 3);
    refuse(&f, "split.count is 3", "join");
    tiny_model(&f,
               &(struct tiny_model){.arch = "gemma3", .skip = "gemma3.attention.sliding_window"});
    refuse(&f, "gemma3.attention.sliding_window is missing", "");
}

/* ---- values --------------------------------------------------------------------------------- */

static void a_scale_that_is_no_number_is_named_with_row_and_byte(void **state)
{
    uint8_t rows[TINY_F][18] = {0};
    struct ingle_model *m = NULL;
    struct ingle_error err;
    struct gguf_file f;

    (void)state;
    rows[41][1] = 0x7c; /* f16 infinity */
    tiny_model(&f, &(struct tiny_model){.arch = "qwen3", .skip = "blk.1.ffn_up.weight"});
    gguf_tensor(&f, "blk.1.ffn_up.weight", TINY_E, TINY_F, GGUF_T_Q4_0, rows);
    assert_true(load(&f, &m, &err) < 0);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    assert_non_null(strstr(err.text, "tensor blk.1.ffn_up.weight has a NaN or infinite scale in "
                                     "row 41, at or after byte"));
    rows[41][1] = 0x3c;
    gguf_file_fini(&f);
    tiny_model(&f, &(struct tiny_model){.arch = "qwen3", .skip = "blk.1.ffn_up.weight"});
    gguf_tensor(&f, "blk.1.ffn_up.weight", TINY_E, TINY_F, GGUF_T_Q4_0, rows);
    m = accept(&f);
    assert_int_equal(m->layers[1].up.type, INGLE_W_Q4_0);
    ingle_model_free(m);
}

static void a_norm_that_is_no_number_is_named(void **state)
{
    float norm[TINY_E] = {[9] = NAN};
    struct gguf_file f;

    (void)state;
    tiny_model(&f, &(struct tiny_model){.arch = "llama", .skip = "blk.0.ffn_norm.weight"});
    gguf_tensor(&f, "blk.0.ffn_norm.weight", TINY_E, 0, GGUF_T_F32, norm);
    refuse(&f, "tensor blk.0.ffn_norm.weight has a NaN", "byte");
}

static void norms_in_f16_become_f32(void **state)
{
    static const uint16_t one_and_half = 0x3e00;
    uint16_t norm[TINY_E];
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    for (uint32_t i = 0; i < TINY_E; i++) {
        norm[i] = one_and_half;
    }
    tiny_model(&f, &(struct tiny_model){.arch = "llama", .skip = "blk.0.ffn_norm.weight"});
    gguf_tensor(&f, "blk.0.ffn_norm.weight", TINY_E, 0, GGUF_T_F16, norm);
    m = accept(&f);
    assert_true(m->layers[0].ffn_norm[31] == 1.5F);
    ingle_model_free(m);
}

/* ---- the call ------------------------------------------------------------------------------- */

static void progress(void *arg, uint64_t done, uint64_t total)
{
    uint64_t *last = arg;

    assert_true(done > *last && done <= total);
    *last = done;
}

static void loading_tells_its_progress_and_can_be_cancelled(void **state)
{
    _Atomic bool cancel = false;
    uint64_t last = 0;
    struct ingle_model_options options = {
        .act_mode = INGLE_ACT_F32, .progress = progress, .progress_arg = &last, .cancel = &cancel};
    struct ingle_model *m = NULL;
    struct ingle_error err = {0};
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    assert_true(gguf_file_write(&f, path));
    gguf_file_fini(&f);
    assert_int_equal(ingle_model_load(path, &options, &m, &err), 0);
    assert_int_equal(last, m->file_bytes);
    assert_int_equal(m->act_mode, INGLE_ACT_F32);
    assert_int_equal(m->head_act_mode, INGLE_ACT_F32);
    ingle_model_free(m);
    m = NULL;
    atomic_store_explicit(&cancel, true, memory_order_relaxed);
    assert_int_equal(ingle_model_load(path, &options, &m, &err), -ECANCELED);
    assert_null(m);
}

static void the_estimate_is_what_loading_takes(void **state)
{
    static const char *const archs[] = {"llama", "qwen2", "qwen3", "gemma3"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct ingle_model *m;
        struct ingle_error err;
        struct gguf_file f;
        uint64_t bytes = 0;

        plain(&f, archs[i]);
        m = accept(&f);
        assert_int_equal(ingle_model_estimate(path, &bytes, &err), 0);
        assert_int_equal(bytes, m->resident_bytes);
        assert_true(bytes >= m->file_bytes);
        ingle_model_free(m);
    }
}

static void a_path_that_is_missing_or_too_long_is_refused(void **state)
{
    static const struct ingle_model_options options = {.act_mode = INGLE_ACT_INT8};
    struct ingle_model *m = NULL;
    struct ingle_error err;
    uint64_t bytes = 0;
    char name[600];

    (void)state;
    assert_int_equal(ingle_model_load("/none/tiny.gguf", &options, &m, &err), -ENOENT);
    assert_int_equal(err.kind, INGLE_ERR_NOT_FOUND);
    assert_int_equal(ingle_model_estimate("/none/tiny.gguf", &bytes, &err), -ENOENT);
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    assert_int_equal(ingle_model_load(name, &options, &m, &err), -ENAMETOOLONG);
    ingle_model_free(NULL);
}

/* ---- chat ----------------------------------------------------------------------------------- */

static void expect_chat(const struct ingle_model *m, const char *json, const char *want)
{
    struct ingle_error err;
    char *text = NULL;
    uint64_t bytes = 0;

    assert_non_null(m->chat);
    if (ingle_template_render(m->chat, json, strlen(json), 0, &text, &bytes, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(text, want);
    ingle_mem_free(text);
}

static void the_file_s_template_knows_bos_and_eos(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    gguf_key_str(&f, "tokenizer.chat_template",
                 "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}");
    m = accept(&f);
    expect_chat(m, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}", "<s>Hi</s>");
    ingle_model_free(m);
}

static void gemma3_has_its_turns_without_a_template(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "gemma3");
    m = accept(&f);
    expect_chat(m,
                "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief. \"},"
                "{\"role\":\"user\",\"content\":\" Hi\"},"
                "{\"role\":\"assistant\",\"content\":\"Yes?\"},"
                "{\"role\":\"user\",\"content\":\"Bye\"}],\"add_generation_prompt\":true}",
                "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
                "<start_of_turn>model\nYes?<end_of_turn>\n"
                "<start_of_turn>user\nBye<end_of_turn>\n"
                "<start_of_turn>model\n");
    ingle_model_free(m);
}

static void a_model_without_a_usable_template_still_loads_and_says_why(void **state)
{
    struct ingle_model *m;
    struct gguf_file f;

    (void)state;
    plain(&f, "llama");
    m = accept(&f);
    assert_null(m->chat);
    assert_non_null(strstr(m->chat_err.text, "chat_template is missing"));
    ingle_model_free(m);

    plain(&f, "llama");
    gguf_key_str(&f, "tokenizer.chat_template", "one\n{% endfor %}");
    m = accept(&f);
    assert_null(m->chat);
    assert_non_null(strstr(m->chat_err.text, "line 2"));
    ingle_model_free(m);
}

static char dir[200];

static int make_dir(void **state)
{
    const char *base = getenv("TMPDIR");

    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/ingle-load-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/tiny.gguf", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return unlink(path) | rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_loads_with_heads_in_halves),
        cmocka_unit_test(biases_of_llama_turn_with_their_rows),
        cmocka_unit_test(qwen2_loads_with_biases),
        cmocka_unit_test(qwen3_loads_with_normed_heads),
        cmocka_unit_test(gemma3_loads_with_two_groups_and_two_ropes),
        cmocka_unit_test(a_pattern_in_the_file_beats_the_family),
        cmocka_unit_test(gemma3_27b_scales_attention_by_its_width),
        cmocka_unit_test(mistral_s_window_is_honoured),
        cmocka_unit_test(rope_follows_base_and_linear_scaling),
        cmocka_unit_test(rope_factors_divide_the_frequencies),
        cmocka_unit_test(gemma3_scales_its_full_layers_only),
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_tensor_of_another_shape_is_named_with_both),
        cmocka_unit_test(a_tensor_that_nobody_would_read_is_named),
        cmocka_unit_test(another_vocabulary_than_the_tokenizer_s_is_refused),
        cmocka_unit_test(a_missing_key_is_named),
        cmocka_unit_test(a_key_that_is_not_served_is_named_with_its_reason),
        cmocka_unit_test(heads_per_layer_are_served_when_all_agree),
        cmocka_unit_test(other_architectures_scalings_and_parts_are_refused),
        cmocka_unit_test(a_scale_that_is_no_number_is_named_with_row_and_byte),
        cmocka_unit_test(a_norm_that_is_no_number_is_named),
        cmocka_unit_test(norms_in_f16_become_f32),
        cmocka_unit_test(loading_tells_its_progress_and_can_be_cancelled),
        cmocka_unit_test(the_estimate_is_what_loading_takes),
        cmocka_unit_test(a_path_that_is_missing_or_too_long_is_refused),
        cmocka_unit_test(the_file_s_template_knows_bos_and_eos),
        cmocka_unit_test(gemma3_has_its_turns_without_a_template),
        cmocka_unit_test(a_model_without_a_usable_template_still_loads_and_says_why),
    };

    return cmocka_run_group_tests_name("model/load", tests, make_dir, drop_dir);
}
