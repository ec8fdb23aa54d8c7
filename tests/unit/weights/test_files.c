/* The three test models, loaded: what their files say, and single weights as they stand in the
 * packed image. Usage: test_files FILE.gguf, in the directory INGLE_TEST_MODELS.
 *
 * Spot values: spot_values.py beside this file, gguf 0.19.0 and numpy 2.4.6 from PyPI, on the files
 * of tests/model/golden/SHA256SUMS, 2026-11. At columns 0, 1, K / 2 and K - 1, and the sum of
 * |w| over the row in double. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/model.h"
#include "runtime/model/tokenizer.h"
#include "runtime/weights/gguf.h"

#define COLS_MAX 8192u

struct spot {
    const char *tensor;
    uint32_t row; /* of the file */
    float at[4];
    double total;
};

static const struct spot smollm2_spots[] = {
    {"token_embd.weight",
     0,
     {-0.106544495F, 0.0329780579F, -0.0885772705F, 0.0297546387F},
     54.6923208237},
    {"token_embd.weight",
     49151,
     {0.011505127F, 0.00575256348F, 0.0880737305F, -0.0417022705F},
     70.8194694519},
    {"blk.0.attn_q.weight",
     1,
     {-0.11730957F, -0.11730957F, -0.00567626953F, 0.47869873F},
     103.858093262},
    {"blk.0.attn_q.weight",
     575,
     {-0.156799316F, 0.154327393F, 0.00390625F, -0.255859375F},
     83.3226623535},
    {"blk.7.attn_k.weight",
     130,
     {-0.0460205078F, 0.102905273F, -0.141021729F, -0.168533325F},
     53.3999938965},
    {"blk.29.attn_v.weight",
     191,
     {0.0211791992F, 0.123535156F, -0.246154785F, 0.0532226562F},
     131.99029541},
    {"blk.12.attn_output.weight",
     300,
     {-0.166259766F, -0.166259766F, 0.241577148F, -0.0700683594F},
     82.9766540527},
    {"blk.3.ffn_gate.weight",
     1535,
     {-0.0318603516F, 0.232299805F, -0.321472168F, 0.0680541992F},
     101.559875488},
    {"blk.3.ffn_up.weight",
     16,
     {0.200012207F, 0.0430297852F, -0.175048828F, -0.0388183594F},
     87.8930969238},
    {"blk.29.ffn_down.weight",
     575,
     {-0.229187012F, -0.0391235352F, 0.0280761719F, 0.056640625F},
     227.886260986},
    {"blk.5.attn_norm.weight",
     0,
     {0.204101562F, 0.255859375F, 0.294921875F, 0.330078125F},
     146.775390625},
    {"output_norm.weight", 0, {1.7578125F, 1.8203125F, 1.78125F, 1.984375F}, 1045.09765625},
};

static const struct spot qwen2_coder_spots[] = {
    {"token_embd.weight",
     151935,
     {0.0193023682F, 0.00877380371F, 0.0F, 0.0207138062F},
     7.30226135254},
    {"output.weight",
     151935,
     {0.019449234F, 0.00906157494F, 0.000576496124F, 0.0205233097F},
     7.29489868879},
    {"blk.0.attn_q.weight",
     1,
     {-0.00316238403F, -0.0189743042F, -0.00580978394F, -0.00183200836F},
     8.62928390503},
    {"blk.23.attn_k.weight",
     127,
     {-0.00758361816F, 0.00379180908F, 0.00376319885F, -0.0150222778F},
     7.48236846924},
    {"blk.2.attn_v.weight",
     64,
     {0.00172042847F, 0.00172042847F, -0.00392150879F, -0.0F},
     4.49548792839},
    {"blk.11.attn_output.weight",
     895,
     {-0.0214691162F, 0.0061340332F, -0.0136413574F, 0.00202560425F},
     12.3044204712},
    {"blk.10.ffn_gate.weight",
     4863,
     {0.00914382935F, -0.0152397156F, -0.00579452515F, -0.00884056091F},
     6.2478351593},
    {"blk.0.ffn_down.weight",
     17,
     {0.00690722466F, -0.00575602055F, -0.0126171112F, -0.00141143799F},
     48.118964076},
    {"blk.5.ffn_down.weight",
     800,
     {-0.000418663025F, -0.00304603577F, 0.00112247467F, 0.00149869919F},
     22.9824617505},
    {"blk.0.attn_k.bias", 0, {-8.875F, -3.671875F, -10.0625F, -129.0F}, 2272.8589325},
    {"blk.4.ffn_norm.weight",
     0,
     {0.809570312F, 1.61425781F, 2.15429688F, 1.84277344F},
     1498.66902924},
};

static const struct spot gemma3_spots[] = {
    {"token_embd.weight",
     262143,
     {-0.00755023956F, 0.0429782867F, -0.0107359886F, -0.0174245834F},
     17.5767741203},
    {"token_embd.weight",
     2,
     {-0.0142424107F, 0.0105669498F, 0.00212752819F, -0.0703082085F},
     7.60993731022},
    {"blk.0.attn_q.weight",
     1023,
     {-0.0219726562F, 0.0109863281F, -0.00381469727F, 0.0131225586F},
     16.6997833252},
    {"blk.17.attn_k.weight",
     255,
     {0.0791015625F, -0.03515625F, 0.00616455078F, -0.0655517578F},
     24.4179992676},
    {"blk.9.attn_v.weight",
     3,
     {-0.068359375F, 0.0537109375F, -0.0177001953F, -0.0037689209F},
     20.5918121338},
    {"blk.1.attn_output.weight",
     639,
     {0.0113085508F, 0.0250650048F, -0.0221099854F, -0.000680923462F},
     13.8355383873},
    {"blk.16.ffn_down.weight",
     100,
     {0.010351181F, 0.0F, -0.00752311945F, -0.0414276123F},
     27.4370514154},
    {"blk.0.ffn_down.weight",
     101,
     {0.0121665001F, 0.0173807144F, -0.00163650513F, -0.00975072384F},
     35.8785308003},
    {"blk.6.ffn_up.weight",
     2047,
     {-0.00433349609F, -0.0606689453F, -0.0751953125F, 0.0278320312F},
     16.1913757324},
    {"blk.5.attn_q_norm.weight",
     0,
     {0.05859375F, -0.0234375F, 0.09765625F, 0.942626953F},
     521.662597656},
    {"blk.5.post_ffw_norm.weight", 0, {13.8125F, 7.0F, 2.796875F, 25.375F}, 7440.37890625},
};

struct expected {
    const char *file;
    uint32_t n_tensors;
    enum ingle_arch arch;
    uint32_t L, E, H, Hk, D, F, V, context_tokens, n_groups, window;
    float rms_eps, attn_scale, embed_scale;
    double rope_base[2];
    bool tied, chat;
    const struct spot *spots;
    uint32_t n_spots;
};

#define SPOTS(s) s, sizeof(s) / sizeof((s)[0])
static const struct expected models[] = {
    {"smollm2-135m-instruct-q4_1.gguf",
     272,
     INGLE_ARCH_LLAMA,
     30,
     576,
     9,
     3,
     64,
     1536,
     49152,
     8192,
     1,
     0,
     1e-5F,
     0.125F,
     1,
     {1e5, 0},
     true,
     true,
     SPOTS(smollm2_spots)},
    {"qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
     291,
     INGLE_ARCH_QWEN2,
     24,
     896,
     14,
     2,
     64,
     4864,
     151936,
     32768,
     1,
     0,
     1e-6F,
     0.125F,
     1,
     {1e6, 0},
     false,
     true,
     SPOTS(qwen2_coder_spots)},
    {"gemma3-270m-q4_k_m.gguf",
     236,
     INGLE_ARCH_GEMMA3,
     18,
     640,
     4,
     1,
     256,
     2048,
     262144,
     32768,
     2,
     512,
     1e-6F,
     0.0625F,
     25.2982213F,
     {1e6, 1e4},
     true,
     true,
     SPOTS(gemma3_spots)},
};

static int n_failed;

static void check(bool ok, const char *what, double got, double want)
{
    if (!ok) {
        (void)printf("FAILED %s: %.9g, expected %.9g\n", what, got, want);
        n_failed++;
    }
}

static void equal(const char *what, double got, double want)
{
    check(got == want, what, got, want);
}

/* The matrix or vector that a tensor of the file became. */
static const float *find(const struct ingle_model *m, const char *name, struct ingle_matrix *ret)
{
    unsigned l = 0;
    int n = 0;
    const struct ingle_layer *layer;

    *ret = (struct ingle_matrix){0};
    if (strcmp(name, "token_embd.weight") == 0) {
        *ret = m->token_embed;
    } else if (strcmp(name, "output.weight") == 0) {
        *ret = m->output;
    } else if (strcmp(name, "output_norm.weight") == 0) {
        return m->output_norm;
    } else if (sscanf(name, "blk.%u.%n", &l, &n) == 1 && l < m->L) {
        layer = &m->layers[l];
        const struct {
            const char *suffix;
            const struct ingle_matrix *matrix;
            const float *vector;
        } parts[] = {
            {"attn_q.weight", &layer->q, NULL},
            {"attn_k.weight", &layer->k, NULL},
            {"attn_v.weight", &layer->v, NULL},
            {"attn_output.weight", &layer->o, NULL},
            {"ffn_gate.weight", &layer->gate, NULL},
            {"ffn_up.weight", &layer->up, NULL},
            {"ffn_down.weight", &layer->down, NULL},
            {"attn_k.bias", NULL, layer->k_bias},
            {"attn_norm.weight", NULL, layer->attn_norm},
            {"ffn_norm.weight", NULL, layer->ffn_norm},
            {"attn_q_norm.weight", NULL, layer->q_norm},
            {"post_ffw_norm.weight", NULL, layer->post_ffn_norm},
        };
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            if (strcmp(name + n, parts[i].suffix) == 0) {
                if (parts[i].matrix != NULL) {
                    *ret = *parts[i].matrix;
                }
                return parts[i].vector;
            }
        }
    }
    return NULL;
}

/* Where a row of the file stands: q and k of llama files change from neighbours to halves. */
static uint32_t packed_row(const struct ingle_model *m, const struct spot *spot)
{
    bool turned = m->arch == INGLE_ARCH_LLAMA && (strstr(spot->tensor, "attn_q.") != NULL ||
                                                  strstr(spot->tensor, "attn_k.") != NULL);
    uint32_t in_head = spot->row % m->D;

    return turned ? spot->row - in_head + in_head / 2 + in_head % 2 * (m->D / 2) : spot->row;
}

static void check_spot(const struct ingle_model *m, const struct spot *spot)
{
    static _Alignas(64) uint8_t scratch[INGLE_SCRATCH_BYTES];
    static _Alignas(64) float row[COLS_MAX];
    struct ingle_worker worker = {.index = 0, .count = 1, .scratch = scratch};
    struct ingle_matrix w;
    const float *v = find(m, spot->tensor, &w);
    int32_t id = (int32_t)packed_row(m, spot);
    uint32_t cols = m->E;
    double total = 0;

    if (v == NULL) {
        struct ingle_op op = {.kind = INGLE_K_EMBED,
                              .embed = {.w = &w, .ids = &id, .x = row, .scale = 1, .T = 1}};

        if (w.data == NULL || w.cols > COLS_MAX) {
            check(false, spot->tensor, 0, 1);
            return;
        }
        ingle_kernels_ref()->op[INGLE_K_EMBED](&op, &worker);
        v = row;
        cols = w.cols;
    } else if (strstr(spot->tensor, "bias") != NULL) {
        cols = m->Hk * m->D;
    } else if (strstr(spot->tensor, "q_norm") != NULL) {
        cols = m->D;
    }
    for (uint32_t i = 0; i < cols; i++) {
        total += fabs((double)v[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t at[4] = {0, 1, cols / 2, cols - 1};

        /* d * (code - zero) may round once otherwise than d * code + m. */
        check(fabs((double)v[at[i]] - (double)spot->at[i]) <=
                  1e-6 * fabs((double)spot->at[i]) + 1e-8,
              spot->tensor, (double)v[at[i]], (double)spot->at[i]);
    }
    check(fabs(total - spot->total) <= 1e-6 * spot->total, spot->tensor, total, spot->total);
}

static void check_rope(const struct ingle_model *m, uint32_t which, double base)
{
    const struct ingle_rope *rope = &m->rope[which];

    equal("rope n_rot", rope->n_rot, m->D);
    equal("rope n_hi", rope->n_hi, m->context_tokens / 256);
    for (uint32_t i = 0; i < m->D / 2; i++) {
        double theta = pow(base, -2.0 * i / m->D);

        equal("rope lo", (double)rope->lo[(uint64_t)255 * m->D + 2 * i],
              (double)(float)cos(255 * theta));
        equal("rope hi", (double)rope->hi[(uint64_t)3 * m->D + 2 * i + 1],
              (double)(float)sin(768 * theta));
    }
}

static void check_model(const struct ingle_model *m, const struct expected *e)
{
    equal("arch", m->arch, e->arch);
    equal("L", m->L, e->L);
    equal("E", m->E, e->E);
    equal("H", m->H, e->H);
    equal("Hk", m->Hk, e->Hk);
    equal("D", m->D, e->D);
    equal("F", m->F, e->F);
    equal("V", m->V, e->V);
    equal("context", m->context_tokens, e->context_tokens);
    equal("eps", (double)m->rms_eps, (double)e->rms_eps);
    equal("attention scale", (double)m->attn_scale, (double)e->attn_scale);
    equal("embedding scale", (double)m->embed_scale, (double)e->embed_scale);
    equal("groups", m->n_groups, e->n_groups);
    equal("window", m->group_window[m->n_groups - 1], e->window);
    equal("tied", m->output.data == m->token_embed.data, e->tied);
    equal("chat template", m->chat != NULL, e->chat);
    equal("tokens", ingle_tokenizer_n_vocab(m->tokenizer), e->V);
    for (uint32_t i = 0; i < 2 && e->rope_base[i] != 0; i++) {
        check_rope(m, i, e->rope_base[i]);
    }
    for (uint32_t i = 0; i < e->n_spots; i++) {
        check_spot(m, &e->spots[i]);
    }
    /* One copy: 15 % above the file, and what is said is what is estimated. */
    check((double)m->resident_bytes <= 1.15 * (double)m->file_bytes, "resident bytes",
          (double)m->resident_bytes, 1.15 * (double)m->file_bytes);
}

/* Bytes of this process that are in memory. */
static uint64_t resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long long pages = 0;

    if (f != NULL) {
        if (fscanf(f, "%*u %llu", &pages) != 1) {
            pages = 0;
        }
        (void)fclose(f);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int run(const char *path, const struct expected *e)
{
    static const struct ingle_model_options options = {.act_mode = INGLE_ACT_INT8};
    struct ingle_error err = {0};
    struct ingle_gguf *g = NULL;
    struct ingle_model *m = NULL;
    uint64_t estimate = 0, before;

    if (ingle_gguf_open(path, &g, &err) != 0 || ingle_model_estimate(path, &estimate, &err) != 0) {
        (void)printf("FAILED %s\n", err.text);
        return 1;
    }
    equal("tensors", ingle_gguf_n_tensors(g), e->n_tensors);
    ingle_gguf_close(g);
    before = resident();
    if (ingle_model_load(path, &options, &m, &err) != 0) {
        (void)printf("FAILED %s\n", err.text);
        return 1;
    }
    check_model(m, e);
    equal("estimate", (double)estimate, (double)m->resident_bytes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* What the kernel counts stays near what is said: within 2 % and what malloc keeps. */
    check((double)(resident() - before) <= 1.02 * (double)m->resident_bytes + (8 << 20),
          "bytes in memory", (double)(resident() - before), (double)m->resident_bytes);
#endif
    (void)printf("%s: file %llu, resident %llu, in memory %llu more\n", e->file,
                 (unsigned long long)m->file_bytes, (unsigned long long)m->resident_bytes,
                 (unsigned long long)(resident() - before));
    ingle_model_free(m);
    return n_failed != 0;
}

int main(int argc, char **argv)
{
    const char *dir = getenv("INGLE_TEST_MODELS");
    char path[512];

    if (argc != 2 || dir == NULL) {
        (void)printf("skipped: INGLE_TEST_MODELS is not set\n");
        return 77;
    }
    (void)snprintf(path, sizeof path, "%s/%s", dir, argv[1]);
    if (access(path, R_OK) != 0) {
        (void)printf("skipped: no %s\n", path);
        return 77;
    }
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (strcmp(models[i].file, argv[1]) == 0) {
            return run(path, &models[i]);
        }
    }
    (void)printf("FAILED nothing is known of %s\n", argv[1]);
    return 1;
}
