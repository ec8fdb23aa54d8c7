/* The sampler against a slow reference: everything in double precision, everything sorted. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/sampler.h"
#include "tests/unit/tokenizer/head.h"
#include "tests/unit/tokenizer/toy.h"

#define V_MAX 70000u

static struct {
    const struct ingle_kernels *kernels;
    struct head head;
    void *scratch;
    uint64_t scratch_bytes;
} rig;

static int set_up(void **state)
{
    (void)state;
    rig.kernels = ingle_kernels_best();
    rig.scratch_bytes = ingle_sampler_scratch_bytes(V_MAX);
    rig.scratch = ingle_mem_map(rig.scratch_bytes);
    return rig.scratch == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    ingle_mem_unmap(rig.scratch, rig.scratch_bytes);
    return 0;
}

static struct ingle_sampling neutral(float temperature)
{
    return (struct ingle_sampling){
        .temperature = temperature, .top_p = 1.0f, .typical_p = 1.0f, .repeat_penalty = 1.0f};
}

static struct ingle_logits row_of(const struct ingle_sampling *s, float *logits, uint32_t V)
{
    return head_row(&rig.head, rig.kernels->row_stat, s, logits, V);
}

/* Logits are kept as they were, scratch is filled with garbage first: nothing may depend on it. */
static struct ingle_choice pick_with(const struct ingle_sampling *s, const float *logits,
                                     uint32_t V, const int32_t *history, uint32_t n_history,
                                     uint32_t index, const int32_t *banned, uint32_t n_banned)
{
    float *copy = test_malloc(V * sizeof(*copy));
    struct ingle_logits row;
    struct ingle_choice choice;

    memcpy(copy, logits, V * sizeof(*copy));
    row = row_of(s, copy, V);
    memset(rig.scratch, (int)index * 37, ingle_sampler_scratch_bytes(V));
    ingle_sampler_pick(s, &row, rig.kernels->row_stat, history, n_history, index, banned, n_banned,
                       rig.scratch, &choice);
    for (uint32_t i = 0; i < V; i++) { /* changes have been taken back */
        assert_true(copy[i] == logits[i] || !isfinite(logits[i]));
    }
    test_free(copy);
    return choice;
}

static struct ingle_choice pick(const struct ingle_sampling *s, const float *logits, uint32_t V,
                                uint32_t index)
{
    return pick_with(s, logits, V, NULL, 0, index, NULL, 0);
}

/* ---- reference --------------------------------------------------------------------------------
 */

struct candidate {
    double logit, p, far;
    uint32_t id;
};

static int by_logit(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->far != y->far) {
        return x->far < y->far ? -1 : 1;
    }
    return by_logit(a, b);
}

static void normalize(struct candidate *c, uint32_t n, double temperature)
{
    double max = -HUGE_VAL, sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        max = fmax(max, c[i].logit);
    }
    for (uint32_t i = 0; i < n; i++) {
        c[i].p = exp((c[i].logit - max) / temperature);
        sum += c[i].p;
    }
    for (uint32_t i = 0; i < n; i++) {
        c[i].p /= sum;
    }
}

/* What the filters leave, best first, with probabilities at the temperature. *ret_edge: how near
 * the nearest decision about a candidate that matters was to going the other way. */
static uint32_t reference(const struct ingle_sampling *s, const float *logits, uint32_t V,
                          struct candidate *c, double *ret_edge)
{
    uint32_t n = 0;
    double sum = 0.0, edge = 1.0;

    for (uint32_t id = 0; id < V; id++) {
        if (logits[id] > -INFINITY) {
            c[n++] = (struct candidate){.logit = (double)logits[id], .id = id};
        }
    }
    qsort(c, n, sizeof(*c), by_logit);
    n = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    if (s->typical_p < 1.0f) {
        double entropy = 0.0;
        uint32_t kept = n;

        normalize(c, n, 1.0);
        for (uint32_t i = 0; i < n; i++) {
            entropy -= c[i].p > 0.0 ? c[i].p * log(c[i].p) : 0.0;
        }
        for (uint32_t i = 0; i < n; i++) {
            c[i].far = fabs(-log(c[i].p) - entropy);
        }
        qsort(c, n, sizeof(*c), by_distance);
        for (uint32_t i = 0; i < n; i++) {
            sum += c[i].p;
            edge = c[i].p > 2e-5 ? fmin(edge, fabs(sum - (double)s->typical_p)) : edge;
            if (sum > (double)s->typical_p) {
                kept = i + 1;
                if (i + 1 < n && c[i + 1].logit != c[i].logit) {
                    edge = fmin(edge, c[i + 1].far - c[i].far);
                }
                break;
            }
        }
        n = kept;
        qsort(c, n, sizeof(*c), by_logit);
    }
    if (s->top_p < 1.0f) {
        normalize(c, n, 1.0);
        sum = 0.0;
        for (uint32_t i = 0; i < n; i++) {
            sum += c[i].p;
            edge = c[i].p > 2e-5 ? fmin(edge, fabs(sum - (double)s->top_p)) : edge;
            if (sum >= (double)s->top_p) {
                n = i + 1;
                break;
            }
        }
    }
    if (s->min_p > 0.0f) {
        uint32_t kept = 1;

        for (uint32_t i = 1; i < n; i++) {
            double ratio = exp(c[i].logit - c[0].logit);

            edge = fmin(edge, fabs(ratio / (double)s->min_p - 1.0));
            kept += ratio >= (double)s->min_p;
        }
        n = kept;
    }
    normalize(c, n, (double)s->temperature);
    *ret_edge = edge;
    return n;
}

/* Philox4x32-10 again, from the paper's figure: multiply, exchange, add the key schedule. */
static double philox(uint64_t seed, uint32_t index)
{
    uint32_t x[4] = {index, 0, 0, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};

    for (int r = 0; r < 10; r++) {
        uint64_t m0 = UINT64_C(0xd2511f53) * x[0], m1 = UINT64_C(0xcd9e8d57) * x[2];
        uint32_t y[4] = {(uint32_t)(m1 >> 32) ^ x[1] ^ key[0], (uint32_t)m1,
                         (uint32_t)(m0 >> 32) ^ x[3] ^ key[1], (uint32_t)m0};

        memcpy(x, y, sizeof(x));
        key[0] += 0x9e3779b9u;
        key[1] += 0xbb67ae85u;
    }
    return ldexp((double)((uint64_t)x[1] << 32 | x[0]), -64);
}

/* The token the reference draws, or -1 when rounding could decide. In id order where no filter is
 * set, best first elsewhere. */
static int32_t reference_draw(const struct ingle_sampling *s, const struct candidate *c, uint32_t n,
                              uint32_t V, uint32_t index)
{
    bool plain = (s->top_k == 0 || s->top_k >= V) && s->top_p >= 1.0f && s->typical_p >= 1.0f &&
                 s->min_p <= 0.0f;
    double u = philox(s->seed, index), sum = 0.0;
    double *by_id = test_calloc(V, sizeof(*by_id));
    int32_t token = -1;

    for (uint32_t i = 0; i < n; i++) {
        by_id[c[i].id] = c[i].p;
    }
    for (uint32_t i = 0; i < (plain ? V : n); i++) {
        sum += plain ? by_id[i] : c[i].p;
        if (fabs(sum - u) < 2e-5) {
            break;
        }
        if (sum > u) {
            token = (int32_t)(plain ? i : c[i].id);
            break;
        }
    }
    test_free(by_id);
    return token;
}

/* Logits like a language model's: few good candidates, a long tail, some equal values. */
static void make_logits(uint64_t *seed, float *logits, uint32_t V)
{
    for (uint32_t i = 0; i < V; i++) {
        double r = (double)(toy_random(seed) >> 11) * 0x1p-53;

        logits[i] = (float)(-1.3 * log(1.0 + r * V) +
                            (toy_random(seed) % 4 == 0 ? 0.0 : (double)(r * 3.0)));
        if (toy_random(seed) % 50 == 0) {
            logits[i] = -2.5f;
        }
    }
}

/* Draw with the sampler and the reference; at least most draws must be decidable and then equal. */
static void assert_like_reference(const struct ingle_sampling *settings, uint32_t V, int n_rows)
{
    struct candidate *c = test_malloc(V * sizeof(*c));
    float *logits = test_malloc(V * sizeof(*logits));
    struct ingle_sampling s = *settings;
    uint64_t seed = 31;
    int n_compared = 0;

    for (int row = 0; row < n_rows; row++) {
        double edge;
        uint32_t n;

        make_logits(&seed, logits, V);
        n = reference(&s, logits, V, c, &edge);
        for (uint32_t index = 0; index < 20; index++) {
            struct ingle_choice got;
            int32_t want;

            s.seed = toy_random(&seed);
            want = reference_draw(&s, c, n, V, index);
            got = pick(&s, logits, V, index);
            if (edge > 2e-6 && want >= 0) {
                assert_int_equal(got.token, want);
                n_compared++;
            }
        }
    }
    assert_true(n_compared > n_rows * 20 / 4);
    test_free(c);
    test_free(logits);
}

/* ---- filters ----------------------------------------------------------------------------------
 */

static const uint32_t vocabularies[] = {1, 2, 17, 63, 64, 65, 1000, 5003};

static void plain_temperature_draws_like_the_reference(void **state)
{
    (void)state;
    for (size_t v = 0; v < sizeof(vocabularies) / sizeof(vocabularies[0]); v++) {
        struct ingle_sampling s = neutral(v % 2 == 0 ? 1.0f : 0.7f);

        assert_like_reference(&s, vocabularies[v], 10);
    }
}

static void top_k_draws_like_the_reference(void **state)
{
    static const uint32_t ks[] = {1, 2, 40, 64, 255, 256, 257, 900, 5003, 6000};

    (void)state;
    for (size_t k = 0; k < sizeof(ks) / sizeof(ks[0]); k++) {
        struct ingle_sampling s = neutral(1.3f);

        s.top_k = ks[k];
        assert_like_reference(&s, 5003, 6);
        assert_like_reference(&s, 100, 6);
    }
}

static void top_p_draws_like_the_reference(void **state)
{
    static const float ps[] = {0.01f, 0.5f, 0.9f, 0.95f, 0.999f};

    (void)state;
    for (size_t p = 0; p < sizeof(ps) / sizeof(ps[0]); p++) {
        struct ingle_sampling s = neutral(0.8f);

        s.top_p = ps[p];
        assert_like_reference(&s, 5003, 6);
        s.top_k = 50;
        assert_like_reference(&s, 5003, 6);
        s.top_k = 600;
        assert_like_reference(&s, 5003, 6);
    }
}

static void min_p_draws_like_the_reference(void **state)
{
    static const float ps[] = {0.001f, 0.05f, 0.3f, 0.99f};

    (void)state;
    for (size_t p = 0; p < sizeof(ps) / sizeof(ps[0]); p++) {
        struct ingle_sampling s = neutral(1.0f);

        s.min_p = ps[p];
        assert_like_reference(&s, 5003, 6);
        s.top_p = 0.9f;
        assert_like_reference(&s, 5003, 6);
        s.top_k = 40;
        assert_like_reference(&s, 5003, 6);
    }
}

static void typical_draws_like_the_reference(void **state)
{
    static const float ps[] = {0.2f, 0.5f, 0.95f};

    (void)state;
    for (size_t p = 0; p < sizeof(ps) / sizeof(ps[0]); p++) {
        struct ingle_sampling s = neutral(1.0f);

        s.typical_p = ps[p];
        assert_like_reference(&s, 1000, 8);
        s.top_k = 60;
        assert_like_reference(&s, 5003, 8);
        s.top_p = 0.8f;
        s.min_p = 0.02f;
        assert_like_reference(&s, 5003, 8);
    }
}

/* ---- temperature 0 ----------------------------------------------------------------------------
 */

static void temperature_zero_takes_the_lowest_id_on_a_tie(void **state)
{
    struct ingle_sampling s = neutral(0.0f);
    float logits[300];

    (void)state;
    for (uint32_t i = 0; i < 300; i++) {
        logits[i] = -1.0f;
    }
    assert_int_equal(pick(&s, logits, 300, 0).token, 0);
    logits[299] = logits[130] = logits[129] = 2.0f;
    assert_int_equal(pick(&s, logits, 300, 0).token, 129);
    logits[70] = -0.0f; /* and when the row was changed */
    logits[60] = 0.0f;
    s.n_bias = 3;
    for (uint32_t i = 0; i < 3; i++) {
        s.bias[i].id = i == 0 ? 299 : 128 + (int32_t)i;
        s.bias[i].bias = -10.0f;
    }
    assert_int_equal(pick(&s, logits, 300, 0).token, 60);
}

static void ties_at_the_border_of_top_k_keep_the_lowest_ids(void **state)
{
    static const uint32_t ks[] = {5, 300};
    static float logits[1000];

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct ingle_sampling s = neutral(5.0f);
        int32_t highest = 0;

        s.top_k = ks[k];
        for (uint32_t i = 0; i < 1000; i++) {
            logits[i] = i % 2 == 0 ? 1.0f : 0.0f;
        }
        for (uint32_t index = 0; index < 2000; index++) {
            int32_t token = pick(&s, logits, 1000, index).token;

            assert_int_equal(token % 2, 0);
            highest = token > highest ? token : highest;
        }
        assert_true(highest <= (int32_t)(2 * (ks[k] - 1)));
        assert_true(highest > (int32_t)ks[k]);
    }
}

/* ---- bias, penalties, bans --------------------------------------------------------------------
 */

static void penalties_change_logits_as_documented(void **state)
{
    /* id 0: once, 1: twice, 2: five times but outside the window, 3: never. */
    static const int32_t history[] = {2, 2, 2, 2, 2, 1, 0, 1};
    float logits[4] = {2.0f, -2.0f, 1.0f, 0.0f};
    struct ingle_sampling s = neutral(1.0f);
    struct candidate c[4];
    double edge;

    (void)state;
    s.repeat_penalty = 1.5f;
    s.frequency_penalty = 0.25f;
    s.presence_penalty = 0.5f;
    s.repeat_last_n = 3;
    for (uint32_t index = 0; index < 3000; index++) {
        float changed[4] = {2.0f / 1.5f - 0.25f - 0.5f, -2.0f * 1.5f - 0.5f - 0.5f, 1.0f, 0.0f};
        uint32_t n = reference(&s, changed, 4, c, &edge);
        int32_t want = reference_draw(&s, c, n, 4, index);
        struct ingle_choice got = pick_with(&s, logits, 4, history, 8, index, NULL, 0);

        assert_true(want < 0 || got.token == want);
        /* Log-probabilities are those of the model, not of the penalised row. */
        assert_float_equal(got.logprob,
                           logits[got.token] - (float)log(exp(2) + exp(-2) + exp(1) + 1), 1e-5);
    }
    s.temperature = 0.0f;
    assert_int_equal(pick_with(&s, logits, 4, history, 8, 0, NULL, 0).token, 2);
    s.repeat_last_n = 8;
    assert_int_equal(pick_with(&s, logits, 4, history, 8, 0, NULL, 0).token, 0);
    s.repeat_last_n = 0; /* no window, no penalty */
    s.presence_penalty = 100.0f;
    assert_int_equal(pick_with(&s, logits, 4, history, 8, 0, NULL, 0).token, 0);
}

static void penalties_count_over_long_histories(void **state)
{
    enum {
        V = 500,
        N = 3000
    };
    static int32_t history[N];
    static float logits[V], changed[V];
    struct ingle_sampling s = neutral(0.0f);
    uint32_t window = V; /* what fits the scratch */
    uint64_t seed = 41;

    (void)state;
    s.frequency_penalty = 0.1f;
    s.repeat_last_n = UINT32_MAX;
    for (int round = 0; round < 50; round++) {
        int32_t best = 0;

        make_logits(&seed, logits, V);
        memcpy(changed, logits, sizeof(changed));
        for (uint32_t i = 0; i < N; i++) {
            history[i] = (int32_t)(toy_random(&seed) % V) - 2; /* some are no ids at all */
        }
        for (uint32_t id = 0; id < V; id++) {
            uint32_t count = 0;

            for (uint32_t i = N - window; i < N; i++) {
                count += history[i] == (int32_t)id;
            }
            changed[id] -= (float)count * 0.1f + 0.0f;
            best = changed[id] > changed[best] ? (int32_t)id : best;
        }
        assert_int_equal(pick_with(&s, logits, V, history, N, 0, NULL, 0).token, best);
    }
}

static void bias_moves_a_token(void **state)
{
    float logits[100] = {0};
    struct ingle_sampling s = neutral(0.0f);

    (void)state;
    s.n_bias = 4;
    s.bias[0].id = 42;
    s.bias[0].bias = 5.0f;
    s.bias[1].id = 77;
    s.bias[1].bias = 100.0f;
    s.bias[2].id = 77;
    s.bias[2].bias = -INFINITY;
    s.bias[3].id = 100; /* outside: ignored */
    s.bias[3].bias = 1000.0f;
    assert_int_equal(pick(&s, logits, 100, 0).token, 42);
    s.temperature = 1.0f;
    for (uint32_t index = 0; index < 500; index++) {
        assert_int_not_equal(pick(&s, logits, 100, index).token, 77);
    }
    assert_float_equal(pick(&s, logits, 100, 0).logprob, -logf(100.0f), 1e-5);
}

static void banned_ids_are_never_chosen(void **state)
{
    static const int32_t banned[] = {0, 3, 1000000, -1};
    float logits[5] = {50.0f, 0.0f, 0.1f, 49.0f, -1.0f};
    struct ingle_sampling s = neutral(0.0f);

    (void)state;
    assert_int_equal(pick_with(&s, logits, 5, NULL, 0, 0, banned, 4).token, 2);
    s.temperature = 2.0f;
    for (uint32_t k = 0; k < 5; k++) {
        s.top_k = k;
        for (uint32_t index = 0; index < 500; index++) {
            struct ingle_choice c = pick_with(&s, logits, 5, NULL, 0, index, banned, 4);

            assert_true(c.token == 1 || c.token == 2 || c.token == 4);
            assert_true(c.logprob < -40.0f); /* the model wanted something else */
        }
    }
}

/* ---- odd numbers ------------------------------------------------------------------------------
 */

/* Whatever filter follows, a row that is changed draws as one that came so. */
static void a_changed_row_draws_like_one_that_came_so(void **state)
{
    enum {
        V = 5003
    };
    static const int32_t history[] = {9, 4000, 9, 1023, 1024, 5002}, banned[] = {0, 2048, 7};
    static float logits[V], changed[V];
    struct ingle_sampling filters[] = {neutral(0.0f), neutral(0.8f), neutral(0.8f),
                                       neutral(1.3f), neutral(1.0f), neutral(0.9f)};
    uint64_t seed = 47;

    (void)state;
    filters[2].top_k = 40;
    filters[3].top_p = 0.9f;
    filters[4].min_p = 0.05f;
    filters[5].typical_p = 0.9f;
    for (size_t f = 0; f < sizeof(filters) / sizeof(filters[0]); f++) {
        for (uint32_t index = 0; index < 50; index++) {
            struct ingle_sampling plain = filters[f], with;
            struct ingle_choice a, b;

            make_logits(&seed, logits, V);
            for (size_t i = 0; i < 3; i++) { /* what the changes are about matters */
                logits[history[i + 1]] = logits[banned[i]] = 1.0f;
            }
            memcpy(changed, logits, sizeof(changed));
            for (size_t i = 0; i < 6; i++) {
                changed[history[i]] = logits[history[i]] - (history[i] == 9 ? 0.5f : 0.25f);
            }
            changed[4999] += 9.0f;
            for (size_t i = 0; i < 3; i++) {
                changed[banned[i]] = -INFINITY;
            }
            plain.seed = toy_random(&seed);
            with = plain;
            with.frequency_penalty = 0.25f;
            with.repeat_last_n = 6;
            with.n_bias = 1;
            with.bias[0].id = 4999;
            with.bias[0].bias = 9.0f;
            a = pick_with(&with, logits, V, history, 6, index, banned, 3);
            b = pick(&plain, changed, V, index);
            assert_int_equal(a.token, b.token);
            plain.temperature = 0.0f; /* and its log-probability is of the row as it was */
            plain.top_k = 0;
            plain.n_logprobs = 64;
            b = pick(&plain, logits, V, index);
            for (uint32_t i = 0; i < b.n_alt; i++) {
                assert_true(b.alt[i].token != a.token || b.alt[i].logprob == a.logprob);
            }
        }
    }
}

static void nan_counts_as_minus_infinity(void **state)
{
    static float logits[1000];
    uint64_t seed = 51;

    (void)state;
    for (int round = 0; round < 400; round++) {
        struct ingle_sampling s = neutral(round % 2 == 0 ? 0.0f : 1.0f);
        struct ingle_choice choice, score;

        s.top_k = (uint32_t)(round / 2 % 3) * 200;
        s.top_p = round % 5 == 0 ? 0.9f : 1.0f;
        s.min_p = round % 7 == 0 ? 0.1f : 0.0f;
        s.typical_p = round % 11 == 0 ? 0.9f : 1.0f;
        s.repeat_penalty = round % 3 == 0 ? 1.1f : 1.0f;
        s.repeat_last_n = 4;
        s.n_logprobs = 5;
        make_logits(&seed, logits, 1000);
        for (uint32_t i = 0; i < 1000; i++) {
            if (toy_random(&seed) % 3 == 0) {
                logits[i] = NAN;
            }
        }
        choice =
            pick_with(&s, logits, 1000, (const int32_t[]){1, 2, 3, 4}, 4, (uint32_t)round, NULL, 0);
        assert_in_range(choice.token, 0, 999);
        assert_false(isnan(logits[choice.token]));
        assert_true(isfinite(choice.logprob) && choice.logprob <= 0.0f);
        assert_int_equal(choice.n_alt, 5);
        struct ingle_logits row = row_of(&s, logits, 1000);
        ingle_sampler_score(&row, rig.kernels->row_stat, choice.token, 5, &score);
        assert_true(score.logprob == choice.logprob);
        assert_memory_equal(score.alt, choice.alt, 5 * sizeof(score.alt[0]));
    }
}

static void rows_without_a_usable_number_still_give_a_token(void **state)
{
    static const float values[] = {NAN, -INFINITY, INFINITY, FLT_MAX, -FLT_MAX, 0.0f};
    static const int32_t banned[] = {0, 1};
    float logits[130];

    (void)state;
    for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
        for (int t = 0; t < 2; t++) {
            struct ingle_sampling s = neutral((float)t);
            struct ingle_choice c;

            for (uint32_t i = 0; i < 130; i++) {
                logits[i] = values[v];
            }
            s.n_logprobs = 3;
            c = pick_with(&s, logits, 130, NULL, 0, 0, banned, 2);
            assert_in_range(c.token, 2, 129);
            assert_false(isnan(c.logprob));
            s.top_p = 0.5f;
            c = pick(&s, logits, 130, 1);
            assert_in_range(c.token, 0, 129);
            assert_false(isnan(c.logprob));
        }
    }
    /* Infinity wins, and among several the lowest id. */
    for (uint32_t i = 0; i < 130; i++) {
        logits[i] = (float)i;
    }
    logits[40] = logits[50] = INFINITY;
    for (int t = 0; t < 2; t++) {
        struct ingle_sampling s = neutral(0.0f);

        assert_int_equal(pick(&s, logits, 130, 0).token, 40);
    }
}

static void extreme_temperatures_do_no_harm(void **state)
{
    static const float temperatures[] = {FLT_MIN / 8, 1e-30f, 1e-6f, 1e6f, FLT_MAX};
    static float logits[1000];
    uint64_t seed = 61;

    (void)state;
    make_logits(&seed, logits, 1000);
    logits[700] = 30.0f;
    for (size_t t = 0; t < sizeof(temperatures) / sizeof(temperatures[0]); t++) {
        for (uint32_t k = 0; k < 3; k++) {
            struct ingle_sampling s = neutral(temperatures[t]);

            s.top_k = k * 20;
            for (uint32_t index = 0; index < 50; index++) {
                int32_t token = pick(&s, logits, 1000, index).token;

                assert_in_range(token, 0, 999);
                assert_true(token == 700 || temperatures[t] > 1.0f);
            }
        }
    }
}

/* ---- randomness -------------------------------------------------------------------------------
 */

static void draws_come_from_philox4x32_10(void **state)
{
    /* Known answer of the Random123 library: counter 0, key 0 -> 6627e8d5 e169c58d .. */
    static float logits[1024];
    struct ingle_sampling s = neutral(1.0f);

    (void)state;
    assert_true(philox(0, 0) == (double)0xe169c58d6627e8d5u / 18446744073709551616.0);
    assert_int_equal(pick(&s, logits, 1024, 0).token, 0xe169c58du >> 22);
    for (uint32_t index = 1; index < 2000; index++) {
        s.seed = index * UINT64_C(0x9e3779b97f4a7c15);
        assert_int_equal(pick(&s, logits, 1024, index).token, (int)(philox(s.seed, index) * 1024));
    }
}

static void a_seed_and_an_index_decide_the_draw(void **state)
{
    static float logits[5000];
    struct ingle_sampling s = neutral(1.5f);
    uint64_t seed = 71;
    int32_t first[200];
    int n_same_seed = 0, n_same_index = 0;

    (void)state;
    make_logits(&seed, logits, 5000);
    for (int round = 0; round < 3; round++) {
        for (uint32_t index = 200; index-- > 0;) { /* in any order */
            int32_t token;

            s.seed = 12345;
            token = pick(&s, logits, 5000, index).token;
            if (round == 0) {
                first[index] = token;
            }
            assert_int_equal(token, first[index]);
        }
    }
    for (uint32_t index = 0; index < 200; index++) {
        s.seed = 12345;
        n_same_seed += pick(&s, logits, 5000, index + 1).token == first[index];
        s.seed = 12346;
        n_same_index += pick(&s, logits, 5000, index).token == first[index];
    }
    assert_true(n_same_seed < 40 && n_same_index < 40);
}

/* 99.9999 % of honest samplers pass with these fixed seeds; the seeds make it repeat. */
static void draws_follow_the_distribution(void **state)
{
    enum {
        V = 50,
        N = 40000
    };
    float logits[V];
    uint64_t seed = 81;

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct ingle_sampling s = neutral(1.0f);
        uint32_t count[V] = {0};
        double sum = 0.0, chi = 0.0;

        s.top_k = k == 0 ? 0 : V - 1;
        for (uint32_t i = 0; i < V; i++) {
            logits[i] = (float)(toy_random(&seed) % 1000) / 400.0f;
        }
        logits[7] = -50.0f;
        for (uint32_t i = 0; i < V; i++) {
            sum += exp((double)logits[i]);
        }
        for (uint32_t i = 0; i < N; i++) {
            s.seed = i / 200;
            count[pick(&s, logits, V, i % 200).token]++;
        }
        assert_int_equal(count[7], 0);
        for (uint32_t i = 0; i < V; i++) {
            double want = N * exp((double)logits[i]) / sum;

            chi += i == 7 ? 0.0 : (count[i] - want) * (count[i] - want) / want;
        }
        assert_true(chi < 110.0); /* 48 degrees of freedom */
        assert_true(chi > 15.0);
    }
}

/* ---- log-probabilities ------------------------------------------------------------------------
 */

static void alternatives_are_the_likeliest_of_the_unmodified_row(void **state)
{
    static const uint32_t sizes[] = {1, 3, 64, 100, 5003};
    struct candidate *c = test_malloc(5003 * sizeof(*c));
    float *logits = test_malloc(5003 * sizeof(*logits));
    uint64_t seed = 91;

    (void)state;
    for (size_t v = 0; v < 5; v++) {
        for (uint32_t n_alt = 0; n_alt <= INGLE_LOGPROBS_MAX; n_alt += 16) {
            struct ingle_sampling s = neutral(0.0f), all = neutral(1.0f);
            uint32_t V = sizes[v], n;
            struct ingle_choice got, score;
            double edge;

            make_logits(&seed, logits, V);
            n = reference(&all, logits, V, c, &edge);
            s.n_logprobs = n_alt;
            s.n_bias = 1;
            s.bias[0].id = (int32_t)(V / 2);
            s.bias[0].bias = 1000.0f;
            got = pick(&s, logits, V, 0);
            assert_int_equal(got.token, V / 2);
            assert_int_equal(got.n_alt, n_alt < n ? n_alt : n);
            for (uint32_t i = 0; i < got.n_alt; i++) {
                assert_int_equal(got.alt[i].token, c[i].id);
                assert_float_equal(got.alt[i].logprob, (float)log(c[i].p), 2e-5);
            }
            for (uint32_t i = 0; i < n; i++) {
                if (c[i].id == V / 2) {
                    assert_float_equal(got.logprob, (float)log(c[i].p), 2e-5);
                }
            }
            struct ingle_logits row = row_of(&s, logits, V);
            ingle_sampler_score(&row, rig.kernels->row_stat, (int32_t)(V / 2), n_alt, &score);
            assert_true(score.logprob == got.logprob && score.n_alt == got.n_alt);
        }
    }
    test_free(c);
    test_free(logits);
}

static void a_greedy_choice_needs_statistics_alone(void **state)
{
    static float logits[V_MAX];
    struct ingle_sampling s = neutral(0.0f);
    uint64_t seed = 103;

    (void)state;
    make_logits(&seed, logits, V_MAX);
    struct ingle_choice with = pick(&s, logits, V_MAX, 0), without;
    struct ingle_logits row = row_of(&s, logits, V_MAX);

    row.x = row.peak = NULL;
    ingle_sampler_pick(&s, &row, rig.kernels->row_stat, NULL, 0, 0, NULL, 0, rig.scratch, &without);
    assert_int_equal(without.token, with.token);
    assert_true(without.logprob == with.logprob && without.n_alt == 0);
}

static void a_choice_needs_no_more_of_the_largest_than_its_settings_say(void **state)
{
    struct ingle_sampling s = neutral(0.0f);

    (void)state;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), 0);
    s.top_k = 40; /* which temperature 0 does not ask */
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), 0);
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 1), INGLE_TOP_ALL);
    s.n_logprobs = INGLE_LOGPROBS_MAX;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_LOGPROBS_MAX);
    s.temperature = 0.5f;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_LOGPROBS_MAX);
    s.top_k = INGLE_TOP_MAX;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_TOP_MAX);
    s.typical_p = s.top_p = 0.9f;
    s.min_p = 0.05f;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_TOP_MAX);
    assert_int_equal(ingle_sampler_n_top(&s, INGLE_TOP_MAX, 10, 0), INGLE_TOP_ALL);
    s.top_k = INGLE_TOP_MAX + 1;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_TOP_ALL);
    s.top_k = 0;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 10, 0), INGLE_TOP_ALL);
    s = neutral(0.5f);
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 0, 0), INGLE_TOP_ALL);
    s = neutral(0.0f);
    s.repeat_penalty = 1.1f;
    s.repeat_last_n = 4;
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 0, 0), 0);
    assert_int_equal(ingle_sampler_n_top(&s, 1000, 1, 0), INGLE_TOP_ALL);
}

/* The lists of `n_tops` workers, each of neighbouring parts, some of none; in any order. */
static void list_largest(const struct ingle_logits *row, uint32_t k, uint64_t *seed,
                         struct ingle_top *tops, uint32_t n_tops)
{
    uint32_t n_parts = ingle_head_parts(row->V), from = 0, first = (uint32_t)toy_random(seed) % 5;

    for (uint32_t i = 0; i < n_tops; i++) {
        struct ingle_top *top = &tops[(first + i) % n_tops];
        uint32_t left = n_parts - from;
        uint32_t to = i + 1 == n_tops ? n_parts : from + (uint32_t)(toy_random(seed) % (left + 1));

        memset(top, 0xff, sizeof *top);
        top->n = 0;
        for (; from < to; from++) {
            uint32_t id0 = from * INGLE_HEAD_COLS;

            top->n = ingle_top_offer(top->key, top->n, k, row->x + id0,
                                     ingle_head_part_cols(row->V, from), id0,
                                     row->peak + id0 / INGLE_PEAK_COLS);
        }
    }
}

static struct ingle_sampling random_sampling(uint64_t *seed)
{
    static const float ps[] = {1.0f, 1.0f, 0.95f, 0.6f};
    struct ingle_sampling s = neutral((float)(toy_random(seed) % 4) * 0.6f);

    s.top_k = 1 + (uint32_t)(toy_random(seed) % INGLE_TOP_MAX);
    s.top_p = ps[toy_random(seed) % 4];
    s.typical_p = ps[toy_random(seed) % 4];
    s.min_p = toy_random(seed) % 3 == 0 ? 0.05f : 0.0f;
    s.n_logprobs =
        toy_random(seed) % 2 == 0 ? (uint32_t)(toy_random(seed) % (INGLE_LOGPROBS_MAX + 1)) : 0;
    s.seed = toy_random(seed);
    return s;
}

static void a_choice_from_the_largest_alone_is_that_from_the_row(void **state)
{
    static const uint32_t sizes[] = {1, 2, 100, 1024, 5003, 9000};
    static float logits[9000];
    static struct ingle_top tops[5];
    uint64_t seed = 107;
    uint32_t n_drawn = 0;

    (void)state;
    for (uint32_t round = 0; round < 3000; round++) {
        struct ingle_sampling s = random_sampling(&seed);
        uint32_t V = sizes[round % 6], n_tops = 1 + (uint32_t)(toy_random(&seed) % 5), n_top;
        struct ingle_choice with = {0}, without = {0};
        struct ingle_logits row;

        if (round % 8 == 0) {
            make_logits(&seed, logits, 9000);
            for (uint32_t i = 1; i < 9000; i++) {
                logits[i] = toy_random(&seed) % 3 == 0 ? -INFINITY : logits[i];
            }
        }
        logits[0] = round % 16 < 6 ? -0.0f : -1.0f;
        n_top = ingle_sampler_n_top(&s, V, 0, 0);
        if (n_top > INGLE_TOP_MAX) {
            assert_true(s.top_k >= V && s.temperature > 0.0f);
            continue;
        }
        row = row_of(&s, logits, V);
        ingle_sampler_pick(&s, &row, rig.kernels->row_stat, NULL, 0, round, NULL, 0, rig.scratch,
                           &with);
        list_largest(&row, n_top, &seed, tops, n_tops);
        row.x = row.peak = NULL;
        row.part = NULL;
        row.top = tops;
        row.n_tops = n_tops;
        ingle_sampler_pick(&s, &row, rig.kernels->row_stat, NULL, 0, round, NULL, 0, rig.scratch,
                           &without);
        assert_memory_equal(&without, &with, sizeof with); /* bit for bit */
        n_drawn += with.token != row.all.argmax;
    }
    assert_in_range(n_drawn, 500, 2500);
}

static void choosing_allocates_nothing(void **state)
{
    static float logits[V_MAX];
    struct ingle_sampling s = neutral(0.9f);
    struct ingle_logits row;
    uint64_t seed = 101, before;

    (void)state;
    make_logits(&seed, logits, V_MAX);
    row = row_of(&s, logits, V_MAX);
    s.typical_p = 0.9f;
    s.repeat_penalty = 1.2f;
    s.repeat_last_n = 3;
    s.n_logprobs = 20;
    ingle_mem_watch_thread();
    before = ingle_mem_watched_calls();
    for (uint32_t i = 0; i < 4; i++) {
        struct ingle_choice c;

        s.top_k = i * 200;
        ingle_sampler_pick(&s, &row, rig.kernels->row_stat, (const int32_t[]){1, 1, 2}, 3, i, NULL,
                           0, rig.scratch, &c);
        assert_in_range(c.token, 0, V_MAX - 1);
    }
    assert_int_equal(ingle_mem_watched_calls(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_temperature_draws_like_the_reference),
        cmocka_unit_test(top_k_draws_like_the_reference),
        cmocka_unit_test(top_p_draws_like_the_reference),
        cmocka_unit_test(min_p_draws_like_the_reference),
        cmocka_unit_test(typical_draws_like_the_reference),
        cmocka_unit_test(temperature_zero_takes_the_lowest_id_on_a_tie),
        cmocka_unit_test(ties_at_the_border_of_top_k_keep_the_lowest_ids),
        cmocka_unit_test(penalties_change_logits_as_documented),
        cmocka_unit_test(penalties_count_over_long_histories),
        cmocka_unit_test(bias_moves_a_token),
        cmocka_unit_test(banned_ids_are_never_chosen),
        cmocka_unit_test(a_changed_row_draws_like_one_that_came_so),
        cmocka_unit_test(nan_counts_as_minus_infinity),
        cmocka_unit_test(rows_without_a_usable_number_still_give_a_token),
        cmocka_unit_test(extreme_temperatures_do_no_harm),
        cmocka_unit_test(draws_come_from_philox4x32_10),
        cmocka_unit_test(a_seed_and_an_index_decide_the_draw),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(alternatives_are_the_likeliest_of_the_unmodified_row),
        cmocka_unit_test(a_greedy_choice_needs_statistics_alone),
        cmocka_unit_test(a_choice_needs_no_more_of_the_largest_than_its_settings_say),
        cmocka_unit_test(a_choice_from_the_largest_alone_is_that_from_the_row),
        cmocka_unit_test(choosing_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
