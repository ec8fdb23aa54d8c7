/* Owns how a file becomes a model: header, tokenizer, chat template, weights, rope tables, in the
 * order in which a bad file is found out soonest. Invariant: a model that leaves this file is
 * complete. Thread: load; estimate also others. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/arch.h"
#include "runtime/model/model.h"
#include "runtime/model/template.h"
#include "runtime/model/tokenizer.h"

/* What a model owns beyond what others may see. The model comes first: free() goes back by it. */
struct loaded {
    struct ingle_model model;
    float *rope_tables;
    uint64_t rope_bytes;
};

/* A file whose header has been read and checked. */
struct plan {
    struct ingle_gguf *gguf;
    struct ingle_hparams hp;
    struct ingle_bindings bindings;
    struct ingle_tokenizer *tokenizer;
    uint64_t resident_bytes;
};

/* The turns of gemma3, whose base models come without a template. */
static const char gemma_turns[] =
    "{{ bos_token }}{% set ns = namespace(system='') %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.system = m['content'] | trim ~ '\\n\\n' %}"
    "{% else %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ ns.system }}{{ m['content'] | trim }}<end_of_turn>\n{% set ns.system = '' %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}";

/* ---- header --------------------------------------------------------------------------------- */

static void plan_fini(struct plan *plan)
{
    ingle_tokenizer_free(plan->tokenizer);
    ingle_bindings_fini(&plan->bindings);
    ingle_gguf_close(plan->gguf);
}

static int check_vocab(const struct plan *plan, struct ingle_error *err)
{
    uint32_t n = ingle_tokenizer_n_vocab(plan->tokenizer);

    if (n != plan->hp.V) {
        return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EBADMSG,
                               "%s: tensor token_embd.weight has %u rows, tokenizer.ggml.tokens "
                               "has %u entries",
                               ingle_gguf_shown(plan->gguf), plan->hp.V, n);
    }
    return 0;
}

static int plan_init(struct plan *plan, const char *path, struct ingle_error *err)
{
    int rc;

    *plan = (struct plan){0};
    rc = ingle_gguf_open(path, &plan->gguf, err);
    if (rc == 0) {
        rc = ingle_hparams_read(plan->gguf, &plan->hp, err);
    }
    if (rc == 0) {
        rc = ingle_bindings_init(&plan->bindings, plan->gguf, &plan->hp, err);
    }
    if (rc == 0) {
        rc = ingle_tokenizer_create(plan->gguf, &plan->tokenizer, err);
    }
    if (rc == 0) {
        rc = check_vocab(plan, err);
    }
    if (rc < 0) {
        plan_fini(plan);
        return rc;
    }
    plan->resident_bytes = plan->bindings.image_bytes + ingle_tokenizer_bytes(plan->tokenizer) +
                           plan->hp.n_ropes * ingle_rope_floats(&plan->hp) * sizeof(float) +
                           sizeof(struct loaded) + plan->hp.L * sizeof(struct ingle_layer);
    return 0;
}

int ingle_model_estimate(const char *path, uint64_t *ret_resident_bytes, struct ingle_error *err)
{
    struct plan plan;
    int rc = plan_init(&plan, path, err);

    if (rc == 0) {
        *ret_resident_bytes = plan.resident_bytes;
        plan_fini(&plan);
    }
    return rc;
}

/* ---- the model ------------------------------------------------------------------------------ */

static void set_names(const struct plan *plan, struct ingle_model *model)
{
    struct ingle_str name = {"", 0};
    struct ingle_shown shown;

    (void)ingle_gguf_str(plan->gguf, "general.name", &name);
    shown = ingle_show(name);
    memcpy(model->name, shown.text, sizeof model->name - 1);
    (void)snprintf(model->path, sizeof model->path, "%s", ingle_gguf_path(plan->gguf));
    ingle_gguf_hash(plan->gguf, model->file_hash);
}

/* Narrow models err most, and a quarter of it comes from what q, k and v are made of
 * (docs/decisions/activations.md). */
#define QKV_TWO_PLANES_TO 640u

static void set_shape(const struct plan *plan, enum ingle_act_mode act_mode,
                      struct ingle_model *model)
{
    const struct ingle_hparams *hp = &plan->hp;

    model->arch = hp->arch;
    model->L = hp->L;
    model->E = hp->E;
    model->H = hp->H;
    model->Hk = hp->Hk;
    model->D = hp->D;
    model->F = hp->F;
    model->V = hp->V;
    model->context_tokens = hp->context_tokens;
    model->rms_eps = hp->rms_eps;
    model->attn_scale = hp->attn_scale;
    model->embed_scale = hp->embed_scale;
    model->glu = hp->glu;
    model->act_mode = act_mode;
    /* A decoded token waits for the head's weights, not for arithmetic: its second plane is nearly
     * free and takes 10 to 15 % of the rounding error off. */
    model->head_act_mode = act_mode == INGLE_ACT_F32 ? INGLE_ACT_F32 : INGLE_ACT_INT16;
    model->qkv_act_mode =
        act_mode == INGLE_ACT_INT8 && hp->E <= QKV_TWO_PLANES_TO ? INGLE_ACT_INT16 : act_mode;
    model->file_bytes = plan->bindings.file_bytes;
    model->resident_bytes = plan->resident_bytes;
}

/* Layers of one span share a group: full attention first, then the windowed. */
static void set_groups(const struct ingle_hparams *hp, struct ingle_model *model)
{
    for (uint32_t windowed = 0; windowed < 2; windowed++) {
        uint32_t g = model->n_groups;

        for (uint32_t l = 0; l < hp->L; l++) {
            struct ingle_layer *layer = &model->layers[l];
            uint32_t window = hp->windowed[l] ? hp->window : 0;

            if ((window != 0) == (windowed != 0)) {
                layer->window = window;
                layer->rope = hp->n_ropes == 2 && hp->windowed[l];
                layer->group = (uint8_t)g;
                layer->group_layer = (uint16_t)model->group_layers[g]++;
                model->group_window[g] = window;
                model->n_groups = g + 1;
            }
        }
    }
}

static int set_ropes(const struct plan *plan, struct loaded *loaded, struct ingle_error *err)
{
    const struct ingle_hparams *hp = &plan->hp;
    const struct ingle_image_item *item = plan->bindings.rope_freqs;
    uint64_t floats = ingle_rope_floats(hp);
    const float *factors = NULL;

    if (item != NULL) {
        factors = (const float *)(const void *)ingle_image_at(loaded->model.image, item);
        for (uint32_t i = 0; i < hp->n_rot / 2; i++) {
            if (!(factors[i] > 0)) {
                return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EBADMSG,
                                       "%s: tensor rope_freqs.weight has %g at byte %" PRIu64
                                       ": a factor must be positive",
                                       ingle_gguf_shown(plan->gguf), (double)factors[i],
                                       item->src->file_off + i * sizeof(float));
            }
        }
    }
    loaded->rope_bytes = hp->n_ropes * floats * sizeof(float);
    loaded->rope_tables = ingle_mem_map(loaded->rope_bytes);
    if (loaded->rope_tables == NULL) {
        return ingle_fail(err, -ENOMEM, "%s: no memory for its rope tables",
                          ingle_gguf_shown(plan->gguf));
    }
    for (uint32_t i = 0; i < hp->n_ropes; i++) {
        ingle_rope_fill(hp, i, factors, loaded->rope_tables + i * floats, &loaded->model.rope[i]);
    }
    return 0;
}

/* The text of a token as a C string; empty when there is none, or none that fits. */
static void token_text(const struct ingle_tokenizer *tok, int32_t id, char *text, uint64_t room)
{
    struct ingle_str piece = ingle_tokenizer_piece(tok, id, true);
    uint64_t n = piece.bytes < room ? piece.bytes : 0;

    if (n > 0) {
        memcpy(text, piece.p, n);
    }
    text[n] = '\0';
}

/* A model whose template is missing or cannot be used still completes raw prompts. */
static void set_chat(const struct plan *plan, struct ingle_model *model)
{
    struct ingle_str source = {gemma_turns, sizeof gemma_turns - 1};
    char bos[128], eos[128];

    if (!ingle_gguf_str(plan->gguf, "tokenizer.chat_template", &source) &&
        plan->hp.arch != INGLE_ARCH_GEMMA3) {
        (void)ingle_fail(&model->chat_err, -ENOENT, "%s: tokenizer.chat_template is missing",
                         ingle_gguf_shown(plan->gguf));
        return;
    }
    token_text(plan->tokenizer, ingle_tokenizer_bos(plan->tokenizer), bos, sizeof bos);
    token_text(plan->tokenizer, ingle_tokenizer_eos(plan->tokenizer), eos, sizeof eos);
    if (ingle_template_create(source.p, source.bytes, bos, eos, &model->chat, &model->chat_err) <
        0) {
        model->chat = NULL;
    }
}

static int fill(struct plan *plan, const struct ingle_model_options *options, struct loaded *loaded,
                struct ingle_error *err)
{
    struct ingle_model *model = &loaded->model;
    struct ingle_image_load load = {
        .gguf = plan->gguf,
        .items = plan->bindings.items,
        .n_items = plan->bindings.n_items,
        .home = options->images,
        .progress = options->progress,
        .progress_arg = options->progress_arg,
        .cancel = options->cancel,
    };
    int rc;

    set_names(plan, model);
    set_shape(plan, options->act_mode, model);
    model->layers = ingle_mem_array(plan->hp.L, sizeof *model->layers);
    if (model->layers == NULL) {
        return ingle_fail(err, -ENOMEM, "%s: no memory for its layers",
                          ingle_gguf_shown(plan->gguf));
    }
    set_groups(&plan->hp, model);
    rc = ingle_image_load(&load, &model->image, err);
    if (rc < 0) {
        return rc;
    }
    ingle_bindings_apply(&plan->bindings, model->image, model);
    rc = set_ropes(plan, loaded, err);
    if (rc < 0) {
        return rc;
    }
    set_chat(plan, model);
    model->tokenizer = plan->tokenizer;
    plan->tokenizer = NULL;
    return 0;
}

int ingle_model_load(const char *path, const struct ingle_model_options *options,
                     struct ingle_model **ret, struct ingle_error *err)
{
    struct loaded *loaded;
    struct plan plan;
    int rc;

    if (strlen(path) >= sizeof loaded->model.path) {
        return ingle_fail(err, -ENAMETOOLONG, "%.64s...: the path has more than %zu bytes", path,
                          sizeof loaded->model.path - 1);
    }
    rc = plan_init(&plan, path, err);
    if (rc < 0) {
        return rc;
    }
    loaded = ingle_mem_alloc(sizeof *loaded);
    rc = loaded == NULL ? ingle_fail(err, -ENOMEM, "%s: no memory for a model", path)
                        : fill(&plan, options, loaded, err);
    plan_fini(&plan);
    if (rc < 0) {
        ingle_model_free(loaded != NULL ? &loaded->model : NULL);
        return rc;
    }
    *ret = &loaded->model;
    return 0;
}

void ingle_model_free(struct ingle_model *model)
{
    struct loaded *loaded = (struct loaded *)(void *)model;

    if (model == NULL) {
        return;
    }
    ingle_tokenizer_free(model->tokenizer);
    ingle_template_free(model->chat);
    ingle_image_free(model->image);
    ingle_mem_free(model->layers);
    ingle_mem_unmap(loaded->rope_tables, loaded->rope_bytes);
    ingle_mem_free(loaded);
}
