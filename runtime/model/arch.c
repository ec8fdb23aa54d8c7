/* Owns nothing. Reads the hyperparameters of the served architectures, with the defaults that the
 * files' writers rely on, and refuses what the forward pass would compute wrongly. Thread: any. */
#include "runtime/model/arch.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EMBED_MAX         (1u << 17)
#define FFN_MAX           (1u << 20)
#define HEADS_MAX         1024u
#define VOCAB_MAX         (1u << 24)
#define CONTEXT_MAX       (1u << 24)
#define HEAD_DIM_READ_MAX 65536u /* so that what is too long is refused with its reason */

/* The file has no key for it: of this family only the 27B scales attention by E / H, not by D. */
#define GEMMA3_27B_LAYERS 62u

static const struct {
    const char *name;
    enum ingle_arch arch;
} archs[] = {
    {"llama", INGLE_ARCH_LLAMA},
    {"qwen2", INGLE_ARCH_QWEN2},
    {"qwen3", INGLE_ARCH_QWEN3},
    {"gemma3", INGLE_ARCH_GEMMA3},
};

/* Sticky: after the first error every read returns 1 and says nothing more. */
struct reader {
    const struct ingle_gguf *g;
    const char *arch;
    char key[96]; /* the last key looked at */
    int rc;
    struct ingle_error *err;
};

static void bad(struct reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void bad(struct reader *r, const char *fmt, ...)
{
    char reason[256];
    va_list ap;

    if (r->rc == 0) {
        va_start(ap, fmt);
        (void)vsnprintf(reason, sizeof reason, fmt, ap);
        va_end(ap);
        r->rc = ingle_fail_kind(r->err, INGLE_ERR_BAD_MODEL, -EBADMSG, "%s: %s %s",
                                ingle_gguf_shown(r->g), r->key, reason);
    }
}

/* Look at ARCH.suffix; whether it is there. */
static bool look(struct reader *r, const char *suffix)
{
    (void)snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return ingle_gguf_has(r->g, r->key);
}

/* The number at the key, which is there. Some writers give one per layer: served when all agree. */
static uint64_t whole(struct reader *r)
{
    uint64_t v = 0, n = 0;
    const struct ingle_gguf_array *a = ingle_gguf_array(r->g, r->key, INGLE_GGUF_INT, &n);

    if (ingle_gguf_u64(r->g, r->key, &v)) {
        return v;
    }
    if (a == NULL || n == 0) {
        bad(r, "is not a whole number");
        return 0;
    }
    for (uint64_t i = 1; i < n; i++) {
        if (ingle_gguf_array_int(a, i) != ingle_gguf_array_int(a, 0)) {
            bad(r,
                "differs between layers (%" PRId64 " in layer 0, %" PRId64 " in layer %" PRIu64
                "), which is not served",
                ingle_gguf_array_int(a, 0), ingle_gguf_array_int(a, i), i);
        }
    }
    return (uint64_t)ingle_gguf_array_int(a, 0);
}

#define REQUIRED 0u /* in place of a default */

static uint32_t read_u32(struct reader *r, const char *suffix, uint32_t max, uint32_t otherwise)
{
    uint64_t v = otherwise;

    if (look(r, suffix)) {
        v = whole(r);
    } else if (otherwise == REQUIRED) {
        bad(r, "is missing");
    }
    if (v == 0 || v > max) {
        bad(r, "is %" PRIu64 ": served are 1 to %u", v, max);
    }
    ingle_assert(r->rc != 0 || v != 0); /* callers divide by it */
    return r->rc == 0 ? (uint32_t)v : 1;
}

static double read_f64(struct reader *r, const char *suffix, double otherwise)
{
    double v = otherwise;

    if (!look(r, suffix)) {
        if (otherwise == (double)REQUIRED) {
            bad(r, "is missing");
        }
    } else if (!ingle_gguf_f64(r->g, r->key, &v)) {
        bad(r, "is not a number");
    } else if (!isfinite(v) || v <= 0) {
        bad(r, "is %g: it must be positive", v);
    }
    return r->rc == 0 ? v : 1;
}

/* ---- parts ---------------------------------------------------------------------------------- */

static void read_arch(struct reader *r, struct ingle_hparams *hp)
{
    struct ingle_str name;
    uint64_t n_files = 0;

    (void)snprintf(r->key, sizeof r->key, "general.architecture");
    if (!ingle_gguf_str(r->g, r->key, &name)) {
        bad(r, "is missing: this is not a model");
        return;
    }
    for (uint32_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        if (name.bytes == strlen(archs[i].name) && memcmp(name.p, archs[i].name, name.bytes) == 0) {
            r->arch = archs[i].name;
            hp->arch = archs[i].arch;
        }
    }
    if (r->arch == NULL) {
        bad(r, "is \"%s\": served are llama (with mistral), qwen2, qwen3 and gemma3",
            ingle_show(name).text);
    }
    (void)snprintf(r->key, sizeof r->key, "split.count");
    if (ingle_gguf_u64(r->g, r->key, &n_files) && n_files > 1) {
        bad(r, "is %" PRIu64 ": this is one part of a model, join the parts first", n_files);
    }
}

static void read_shape(struct reader *r, struct ingle_hparams *hp)
{
    const struct ingle_gguf_tensor *embed = ingle_gguf_find_tensor(r->g, "token_embd.weight");
    uint32_t value_length;

    hp->L = read_u32(r, "block_count", INGLE_LAYERS_MAX, REQUIRED);
    hp->E = read_u32(r, "embedding_length", EMBED_MAX, REQUIRED);
    hp->F = read_u32(r, "feed_forward_length", FFN_MAX, REQUIRED);
    hp->context_tokens = read_u32(r, "context_length", CONTEXT_MAX, REQUIRED);
    hp->H = read_u32(r, "attention.head_count", HEADS_MAX, REQUIRED);
    hp->Hk = read_u32(r, "attention.head_count_kv", HEADS_MAX, hp->H);
    if (hp->H % hp->Hk != 0) {
        bad(r, "is %u, which does not divide the %u heads", hp->Hk, hp->H);
    }
    value_length = read_u32(r, "attention.value_length", HEAD_DIM_READ_MAX, hp->E / hp->H);
    hp->D = read_u32(r, "attention.key_length", HEAD_DIM_READ_MAX, hp->E / hp->H);
    if (value_length != hp->D) {
        bad(r, "is %u, the values have %u: only equal lengths are served", hp->D, value_length);
    }
    if (hp->D % 16 != 0 || hp->D > INGLE_HEAD_DIM_MAX) {
        bad(r, "is %u: served are multiples of 16 up to %u", hp->D, INGLE_HEAD_DIM_MAX);
    }
    if (hp->E % INGLE_ACT_GROUP != 0 || hp->F % INGLE_ACT_GROUP != 0 ||
        hp->H * hp->D % INGLE_ACT_GROUP != 0) {
        (void)look(r, "embedding_length");
        bad(r,
            "is %u, with %u in the feed-forward and %u x %u in the heads: served are multiples "
            "of %u",
            hp->E, hp->F, hp->H, hp->D, INGLE_ACT_GROUP);
    }
    hp->rms_eps = (float)read_f64(r, "attention.layer_norm_rms_epsilon", REQUIRED);
    (void)snprintf(r->key, sizeof r->key, "tensor token_embd.weight");
    if (embed == NULL) {
        bad(r, "is missing");
    } else if (embed->dims[1] > VOCAB_MAX) {
        bad(r, "has %" PRIu64 " rows: served are vocabularies up to %u", embed->dims[1], VOCAB_MAX);
    } else {
        hp->V = (uint32_t)embed->dims[1];
    }
}

/* What the forward pass does not do. */
static void refuse_extras(struct reader *r)
{
    static const char *const caps[] = {"final_logit_softcapping", "attn_logit_softcapping"};

    if (look(r, "expert_count") && whole(r) != 0) {
        bad(r, "is %" PRIu64 ": mixtures of experts are not served", whole(r));
    }
    for (uint32_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        double cap = 0;

        if (look(r, caps[i]) && (!ingle_gguf_f64(r->g, r->key, &cap) || cap != 0)) {
            bad(r, "is %g: capped logits are not served", cap);
        }
    }
}

static void read_scaling(struct reader *r, struct ingle_hparams *hp)
{
    struct ingle_str type = {"linear", 6};

    if (look(r, "rope.scaling.type") && !ingle_gguf_str(r->g, r->key, &type)) {
        bad(r, "is not a string");
    }
    hp->rope_slow[0] = 1;
    if (type.bytes == 4 && memcmp(type.p, "none", 4) == 0) {
        return;
    }
    if (type.bytes != 6 || memcmp(type.p, "linear", 6) != 0) {
        bad(r, "is \"%s\": served are none, linear and the factors of rope_freqs.weight",
            ingle_show(type).text);
        return;
    }
    hp->rope_slow[0] = read_f64(r, "rope.scale_linear", 1);
    hp->rope_slow[0] = read_f64(r, "rope.scaling.factor", hp->rope_slow[0]);
}

static void read_rope(struct reader *r, struct ingle_hparams *hp)
{
    hp->n_ropes = 1;
    hp->rope_base[0] = read_f64(r, "rope.freq_base", 10000);
    hp->n_rot = read_u32(r, "rope.dimension_count", hp->D, hp->D);
    if (hp->n_rot % 2 != 0 || (hp->arch == INGLE_ARCH_LLAMA && hp->n_rot != hp->D)) {
        bad(r, "is %u: served is %s %u", hp->n_rot,
            hp->arch == INGLE_ARCH_LLAMA ? "the head's length," : "any even number up to", hp->D);
    }
    read_scaling(r, hp);
}

/* gemma3: every `period`-th layer sees everything, the others a window, with a rope of their own,
 * which is never scaled. */
static void read_gemma_windows(struct reader *r, struct ingle_hparams *hp)
{
    uint64_t n = 0;
    const struct ingle_gguf_array *a;
    uint32_t period;

    hp->n_ropes = 2;
    hp->rope_base[1] = read_f64(r, "rope.freq_base_swa", 10000);
    hp->rope_slow[1] = 1;
    (void)look(r, "attention.sliding_window_pattern");
    a = ingle_gguf_array(r->g, r->key, INGLE_GGUF_BOOL, &n);
    if (a != NULL) {
        if (n < hp->L) {
            bad(r, "has %" PRIu64 " entries for %u layers", n, hp->L);
        }
        for (uint32_t i = 0; i < hp->L && r->rc == 0; i++) {
            hp->windowed[i] = ingle_gguf_array_int(a, i) != 0;
        }
        return;
    }
    period = read_u32(r, "attention.sliding_window_pattern", INGLE_LAYERS_MAX, 6);
    for (uint32_t i = 0; i < hp->L; i++) {
        hp->windowed[i] = i % period != period - 1;
    }
}

static void read_windows(struct reader *r, struct ingle_hparams *hp)
{
    uint64_t window = 0;

    if (hp->arch != INGLE_ARCH_LLAMA && hp->arch != INGLE_ARCH_GEMMA3) {
        return; /* qwen's key speaks of a mode that its models do not use */
    }
    if (look(r, "attention.sliding_window")) {
        window = whole(r);
    } else if (hp->arch == INGLE_ARCH_GEMMA3) {
        bad(r, "is missing");
    }
    if (hp->arch == INGLE_ARCH_GEMMA3) {
        read_gemma_windows(r, hp);
    } else {
        for (uint32_t i = 0; i < hp->L; i++) {
            hp->windowed[i] = window != 0;
        }
    }
    /* A window that no context leaves is none. */
    hp->window = window < hp->context_tokens ? (uint32_t)window : 0;
}

int ingle_hparams_read(const struct ingle_gguf *gguf, struct ingle_hparams *ret,
                       struct ingle_error *err)
{
    struct reader r = {.g = gguf, .err = err};
    struct ingle_hparams hp = {.glu = INGLE_GLU_SILU, .embed_scale = 1};

    read_arch(&r, &hp);
    if (r.rc == 0) {
        read_shape(&r, &hp);
        refuse_extras(&r);
        read_rope(&r, &hp);
        read_windows(&r, &hp);
    }
    if (r.rc < 0) {
        return r.rc;
    }
    hp.attn_scale = (float)(1 / sqrt((double)hp.D));
    if (hp.arch == INGLE_ARCH_GEMMA3) {
        hp.glu = INGLE_GLU_GELU_TANH;
        hp.embed_scale = (float)sqrt((double)hp.E);
        if (hp.L == GEMMA3_27B_LAYERS) {
            hp.attn_scale = (float)(1 / sqrt((double)hp.E / hp.H));
        }
    }
    *ret = hp;
    return 0;
}
