/* Owns nothing: every buffer is the caller's. Thread: step. Allocates nothing, never sorts more of
 * a vocabulary than a request asks for.
 *
 * Order: logit bias, penalties, banned ids; then (temperature 0) the arg-max, or top-k, typical,
 * top-p, min-p, temperature, draw: what llama.cpp's default chain does. Every filter looks at the
 * probabilities of what the filters before it left, at temperature 1.
 *
 * Determinism. Candidates are ordered by logit, largest first, lowest id first on a tie. Weights
 * come from ingle_expf (kernels/ref/expf.h: the same bits on every machine), sums are taken in
 * candidate order in double precision, and the uniform number is Philox4x32-10 with the seed as its
 * key and the token's index as its counter: the draw depends on (seed, index, logits) alone.
 *
 * A NaN counts as -Inf and +Inf as the largest float, wherever the logits come from. */
#include "runtime/model/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/ref/expf.h"
#include "runtime/base/error.h"

/* What runs once per candidate is compiled twice: for any machine, and with fused multiply-add
 * instructions for what ingle_expf spells as fmaf. The operations, and so the bits, are the same.
 */
#define INLINE __attribute__((always_inline)) static inline

#define FEW   256u /* top-k up to here keeps a short sorted list, above it sorts everything */
#define BLOCK 64u
#define LANES 16u

/* A candidate as one number: ascending order is descending logit, then ascending id. */
INLINE uint32_t descending(float x)
{
    uint32_t bits;

    x += 0.0f; /* -0 is 0 */
    memcpy(&bits, &x, sizeof(bits));
    return (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
}

INLINE uint64_t key_of(float logit, uint32_t id)
{
    return (uint64_t)descending(logit) << 32 | id;
}

INLINE float logit_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    float x;

    bits = (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

INLINE float clean(float x)
{
    if (isnan(x)) {
        return -INFINITY;
    }
    return x > FLT_MAX ? FLT_MAX : x;
}

/* ---- scratch ----------------------------------------------------------------------------------
 */

struct scratch {
    uint64_t *keys, *order, *spare; /* [V] each */
    float *logits;                  /* [V] the row with bias and penalties, when there are any */
};

static uint64_t lane_bytes(uint32_t V, uint64_t item_bytes)
{
    return (V * item_bytes + 63) / 64 * 64;
}

uint64_t ingle_sampler_scratch_bytes(uint32_t V)
{
    return 3 * lane_bytes(V, sizeof(uint64_t)) + lane_bytes(V, sizeof(float));
}

static struct scratch lay_out(void *memory, uint32_t V)
{
    uint8_t *p = memory;
    uint64_t step = lane_bytes(V, sizeof(uint64_t));

    return (struct scratch){.keys = (void *)p,
                            .order = (void *)(p + step),
                            .spare = (void *)(p + 2 * step),
                            .logits = (void *)(p + 3 * step)};
}

/* ---- selection --------------------------------------------------------------------------------
 */

INLINE float block_max(const float *x, uint32_t n)
{
    float lane[LANES], max;

    for (uint32_t l = 0; l < LANES; l++) {
        lane[l] = -INFINITY;
    }
    if (n == BLOCK) {
        for (uint32_t i = 0; i < BLOCK; i += LANES) {
            for (uint32_t l = 0; l < LANES; l++) {
                lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
            }
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            lane[0] = x[i] > lane[0] ? x[i] : lane[0];
        }
    }
    max = lane[0];
    for (uint32_t l = 1; l < LANES; l++) {
        max = lane[l] > max ? lane[l] : max;
    }
    return max;
}

INLINE uint32_t block_size(uint32_t at, uint32_t V)
{
    return V - at < BLOCK ? V - at : BLOCK;
}

/* The k largest logits above -Inf, best first; returns how many there are. Whole blocks are passed
 * over by their maximum, so the cost is one reading of the row and a few insertions. */
INLINE uint32_t top_few(const float *x, uint32_t V, uint32_t k, uint64_t *best)
{
    uint32_t n = 0;
    float worst = -INFINITY; /* of the list once it is full */

    if (k == 0) {
        return 0;
    }
    for (uint32_t at = 0; at < V; at += BLOCK) {
        uint32_t n_block = block_size(at, V);

        if (!(block_max(x + at, n_block) > worst)) {
            continue;
        }
        for (uint32_t i = at; i < at + n_block; i++) {
            uint64_t key;
            uint32_t j;

            if (!(x[i] > worst)) { /* NaN and -Inf end here too */
                continue;
            }
            key = key_of(clean(x[i]), i);
            j = n < k ? n++ : n - 1;
            for (; j > 0 && best[j - 1] > key; j--) {
                best[j] = best[j - 1];
            }
            best[j] = key;
            worst = n == k ? logit_of(best[n - 1]) : worst;
        }
    }
    return n;
}

/* The arg-max, lowest id on a tie, or -1 when nothing is above -Inf. */
static int32_t top_one(const float *x, uint32_t V)
{
    float max = -INFINITY;
    int32_t best = -1;

    for (uint32_t at = 0; at < V; at += BLOCK) {
        float most = block_max(x + at, block_size(at, V));

        if (most > max) {
            max = most;
            for (best = (int32_t)at; x[best] != most; best++) {
            }
        }
    }
    return best;
}

/* Every logit of at least `floor` and above -Inf, in id order. */
INLINE uint32_t collect(const float *x, uint32_t V, float floor, uint64_t *keys)
{
    uint32_t n = 0;

    for (uint32_t at = 0; at < V; at += BLOCK) {
        uint32_t n_block = block_size(at, V);

        if (!(block_max(x + at, n_block) >= floor)) {
            continue;
        }
        for (uint32_t i = at; i < at + n_block; i++) {
            keys[n] = key_of(clean(x[i]), i);
            n += x[i] >= floor && x[i] > -INFINITY;
        }
    }
    return n;
}

/* Sort by the high halves; the input's order decides between equals. Least significant digit
 * first, 11 bits a digit; short lists by insertion. */
static void sort_keys(uint64_t *keys, uint64_t *spare, uint32_t n)
{
    uint32_t count[2048];
    uint64_t *from = keys, *to = spare;

    if (n <= 64) {
        for (uint32_t i = 1; i < n; i++) {
            uint64_t key = keys[i];
            uint32_t j = i;

            for (; j > 0 && keys[j - 1] >> 32 > key >> 32; j--) {
                keys[j] = keys[j - 1];
            }
            keys[j] = key;
        }
        return;
    }
    for (uint32_t shift = 32; shift < 64; shift += 11) {
        uint64_t *done = from;
        uint32_t sum = 0;

        memset(count, 0, sizeof(count));
        for (uint32_t i = 0; i < n; i++) {
            count[from[i] >> shift & 2047]++;
        }
        for (uint32_t d = 0; d < 2048; d++) {
            uint32_t c = count[d];

            count[d] = sum;
            sum += c;
        }
        for (uint32_t i = 0; i < n; i++) {
            to[count[from[i] >> shift & 2047]++] = from[i];
        }
        from = to;
        to = done;
    }
    memcpy(keys, from, n * sizeof(*keys)); /* three passes end in spare */
}

/* ---- bias and penalties -----------------------------------------------------------------------
 */

static bool changes_logits(const struct ingle_sampling *s, uint32_t n_history, uint32_t n_banned)
{
    bool penalties =
        s->repeat_penalty != 1.0f || s->frequency_penalty != 0.0f || s->presence_penalty != 0.0f;

    return s->n_bias > 0 || n_banned > 0 || (penalties && s->repeat_last_n > 0 && n_history > 0);
}

static void penalize(const struct ingle_sampling *s, float *x, uint32_t V, const int32_t *history,
                     uint32_t n_history, struct scratch *scratch)
{
    uint32_t window = s->repeat_last_n < n_history ? s->repeat_last_n : n_history;
    uint32_t n = 0;

    window = window < V ? window : V; /* what the scratch holds */
    for (uint32_t i = n_history - window; i < n_history; i++) {
        if (history[i] >= 0 && (uint32_t)history[i] < V) {
            scratch->keys[n++] = (uint64_t)(uint32_t)history[i] << 32;
        }
    }
    sort_keys(scratch->keys, scratch->spare, n);
    for (uint32_t i = 0, count; i < n; i += count) {
        uint32_t id = (uint32_t)(scratch->keys[i] >> 32);

        for (count = 1; i + count < n && scratch->keys[i + count] == scratch->keys[i]; count++) {
        }
        x[id] = x[id] <= 0.0f ? x[id] * s->repeat_penalty : x[id] / s->repeat_penalty;
        x[id] = clean(x[id] - ((float)count * s->frequency_penalty + s->presence_penalty));
    }
}

static void change_logits(const struct ingle_sampling *s, float *x, uint32_t V,
                          const int32_t *history, uint32_t n_history, const int32_t *banned,
                          uint32_t n_banned, struct scratch *scratch)
{
    for (uint32_t i = 0; i < s->n_bias; i++) {
        int32_t id = s->bias[i].id;

        if (id >= 0 && (uint32_t)id < V) {
            x[id] = clean(x[id] + s->bias[i].bias);
        }
    }
    penalize(s, x, V, history, n_history, scratch);
    for (uint32_t i = 0; i < n_banned; i++) {
        if (banned[i] >= 0 && (uint32_t)banned[i] < V) {
            x[banned[i]] = -INFINITY;
        }
    }
}

/* ---- filters ----------------------------------------------------------------------------------
 * Each takes n candidates in order (n >= 1) and returns how many stay in front. */

INLINE float weight(uint64_t key, float max)
{
    return ingle_expf(logit_of(key) - max);
}

INLINE double weight_sum(const uint64_t *keys, uint32_t n)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += (double)weight(keys[i], logit_of(keys[0]));
    }
    return sum;
}

/* Locally typical sampling (Meister 2022): keep the candidates whose surprise is nearest to the
 * entropy, until they hold more than typical_p. Surprise minus entropy is mean logit minus logit:
 * no logarithm is needed. */
INLINE uint32_t keep_typical(float typical_p, struct scratch *scratch, uint32_t n)
{
    uint64_t *keys = scratch->keys;
    float max = logit_of(keys[0]);
    double total = weight_sum(keys, n), mean = 0.0, sum = 0.0;
    uint64_t last = 0;
    uint32_t n_kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        mean += (double)weight(keys[i], max) / total * ((double)logit_of(keys[i]) - (double)max);
    }
    for (uint32_t i = 0; i < n; i++) {
        double far = fabs((double)logit_of(keys[i]) - (double)max - mean);

        scratch->order[i] = key_of(-(float)far, i); /* nearest first */
    }
    sort_keys(scratch->order, scratch->spare, n);
    for (uint32_t i = 0; i < n; i++) {
        last = scratch->order[i];
        sum += (double)weight(keys[(uint32_t)last], max);
        if (sum > (double)typical_p * total) {
            break;
        }
    }
    for (uint32_t i = 0; i < n; i++) { /* back to the order of logits */
        double far = fabs((double)logit_of(keys[i]) - (double)max - mean);

        if (key_of(-(float)far, i) <= last) {
            keys[n_kept++] = keys[i];
        }
    }
    return n_kept;
}

/* total: the weight of all that top-p chooses from, relative to the best candidate. */
INLINE uint32_t keep_top_p(float top_p, const uint64_t *keys, uint32_t n, double total)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += (double)weight(keys[i], logit_of(keys[0]));
        if (sum >= (double)top_p * total) {
            return i + 1;
        }
    }
    return n;
}

INLINE uint32_t keep_min_p(float min_p, const uint64_t *keys, uint32_t n)
{
    uint32_t kept = 1;

    while (kept < n && weight(keys[kept], logit_of(keys[0])) >= min_p) {
        kept++;
    }
    return kept;
}

/* ---- draw -------------------------------------------------------------------------------------
 */

/* Philox4x32-10 (Salmon 2011), its first 64 bits as a number in [0, 1). */
static double uniform(uint64_t seed, uint32_t index)
{
    uint32_t c[4] = {index, 0, 0, 0};
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xd2511f53u, b = (uint64_t)c[2] * 0xcd9e8d57u;

        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return (double)(((uint64_t)c[1] << 32 | c[0]) >> 11) * 0x1p-53;
}

INLINE int32_t draw(float temperature, const uint64_t *keys, uint32_t n, double u)
{
    float max = logit_of(keys[0]);
    double total = 0.0, sum = 0.0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        total += (double)ingle_expf((logit_of(keys[i]) - max) / temperature);
    }
    for (i = 0; i + 1 < n; i++) {
        sum += (double)ingle_expf((logit_of(keys[i]) - max) / temperature);
        if (sum > u * total) {
            break;
        }
    }
    return (int32_t)(uint32_t)keys[i];
}

/* The sum of a block's weights: 16 lanes, then a tree. */
INLINE float block_weight(const float *x, uint32_t n, float max, float temperature)
{
    float lane[LANES] = {0};

    if (n == BLOCK) {
        for (uint32_t i = 0; i < BLOCK; i += LANES) {
            for (uint32_t l = 0; l < LANES; l++) {
                lane[l] += ingle_expf((x[i + l] - max) / temperature);
            }
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            lane[i % LANES] += ingle_expf((x[i] - max) / temperature);
        }
    }
    for (uint32_t step = LANES / 2; step > 0; step /= 2) {
        for (uint32_t l = 0; l < step; l++) {
            lane[l] += lane[l + step];
        }
    }
    return lane[0];
}

INLINE double weigh_all(const float *x, uint32_t V, float max, float temperature, float *sums)
{
    double total = 0.0;

    for (uint32_t at = 0; at < V; at += BLOCK) {
        sums[at / BLOCK] = block_weight(x + at, block_size(at, V), max, temperature);
        total += (double)sums[at / BLOCK];
    }
    return total;
}

/* No filter at all: draw from the whole row, in id order, block by block. */
INLINE int32_t draw_from_all(float temperature, const float *x, uint32_t V, int32_t best, double u,
                             struct scratch *scratch)
{
    float *sums = (void *)scratch->keys;
    float max = x[best];
    uint32_t at = 0, last = (uint32_t)best;
    double left = u * weigh_all(x, V, max, temperature, sums);
    while (at + BLOCK < V && left >= (double)sums[at / BLOCK]) {
        left -= (double)sums[at / BLOCK];
        at += BLOCK;
    }
    /* Rounding may leave a little more than the block holds: then its last candidate, or the
     * best of the row if it has none. */
    for (uint32_t i = at; i < at + block_size(at, V); i++) {
        double w = (double)ingle_expf((x[i] - max) / temperature);

        if (w > 0.0) {
            last = i;
            if (left < w) {
                break;
            }
            left -= w;
        }
    }
    return (int32_t)last;
}

/* ---- one token --------------------------------------------------------------------------------
 */

/* The kernel's statistics, or for a row that is not finite the same by hand. A row without any
 * usable number has maximum -Inf and every log-probability -Inf. */
static struct ingle_row_stat cleaned(const float *x, uint32_t V, struct ingle_row_stat stat,
                                     bool *ret_finite)
{
    double sum = 0.0;

    *ret_finite = isfinite(stat.logsumexp);
    if (*ret_finite) {
        return stat;
    }
    stat = (struct ingle_row_stat){.max = -INFINITY};
    for (uint32_t i = 0; i < V; i++) {
        if (clean(x[i]) > stat.max) {
            stat.max = clean(x[i]);
            stat.argmax = (int32_t)i;
        }
    }
    if (stat.max > -INFINITY) {
        for (uint32_t i = 0; i < V; i++) {
            sum += (double)ingle_expf(clean(x[i]) - stat.max);
        }
        stat.logsumexp = stat.max + logf((float)sum);
    } else {
        stat.logsumexp = 0.0f;
    }
    return stat;
}

static void note_alternatives(const float *x, uint32_t V, float logsumexp, uint32_t n_alt,
                              struct ingle_choice *ret)
{
    uint64_t best[INGLE_LOGPROBS_MAX];

    ret->n_alt = top_few(x, V, n_alt < INGLE_LOGPROBS_MAX ? n_alt : INGLE_LOGPROBS_MAX, best);
    for (uint32_t i = 0; i < ret->n_alt; i++) {
        ret->alt[i].token = (int32_t)(uint32_t)best[i];
        ret->alt[i].logprob = logit_of(best[i]) - logsumexp;
    }
}

/* Everything is banned or unusable: the lowest id that is not banned. */
static int32_t pick_without_logits(uint32_t V, const int32_t *banned, uint32_t n_banned)
{
    for (uint32_t id = 0; id < V; id++) {
        uint32_t i = 0;

        while (i < n_banned && (uint32_t)banned[i] != id) {
            i++;
        }
        if (i == n_banned) {
            return (int32_t)id;
        }
    }
    return 0;
}

/* Choose at temperature > 0. best: the arg-max of x; known: x's statistics or NULL. */
INLINE int32_t choose(const struct ingle_sampling *s, const float *x, uint32_t V, int32_t best,
                      const struct ingle_row_stat *known, ingle_row_stat_fn *row_stat, double u,
                      struct scratch *scratch)
{
    bool all = s->top_k == 0 || s->top_k >= V;
    double total = -1.0; /* of what top-p chooses from; < 0: to be summed */
    uint32_t n;

    if (!all && s->top_k <= FEW) {
        n = top_few(x, V, s->top_k, scratch->keys);
    } else if (all && s->typical_p >= 1.0f && s->top_p >= 1.0f && s->min_p <= 0.0f) {
        return draw_from_all(s->temperature, x, V, best, u, scratch);
    } else {
        float floor = -INFINITY;

        if (all && s->typical_p >= 1.0f) {
            /* A candidate with less than (1 - top_p) / V is not among those that top-p keeps: all
             * such together hold less than 1 - top_p. Nor is one below min_p. A little slack
             * covers rounding; the filters below decide. */
            bool finite;
            struct ingle_row_stat stat =
                known != NULL ? *known : cleaned(x, V, row_stat(x, V), &finite);

            total = (double)ingle_expf(stat.logsumexp - stat.max);
            if (s->top_p < 1.0f) {
                floor = stat.logsumexp + logf((1.0f - s->top_p) / (float)V) - 0.01f;
            }
            if (s->min_p > 0.0f) {
                floor = fmaxf(floor, stat.max + logf(s->min_p) - 0.01f);
            }
        }
        n = collect(x, V, floor, scratch->keys);
        sort_keys(scratch->keys, scratch->spare, n);
        n = all || n < s->top_k ? n : s->top_k;
    }
    ingle_assert(n > 0);
    if (s->typical_p < 1.0f) {
        n = keep_typical(s->typical_p, scratch, n);
    }
    if (s->top_p < 1.0f) {
        n = keep_top_p(s->top_p, scratch->keys, n,
                       total >= 0.0 ? total : weight_sum(scratch->keys, n));
    }
    if (s->min_p > 0.0f) {
        n = keep_min_p(s->min_p, scratch->keys, n);
    }
    return draw(s->temperature, scratch->keys, n, u);
}

static int32_t choose_any(const struct ingle_sampling *s, const float *x, uint32_t V, int32_t best,
                          const struct ingle_row_stat *known, ingle_row_stat_fn *row_stat, double u,
                          struct scratch *scratch)
{
    return choose(s, x, V, best, known, row_stat, u, scratch);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static int32_t choose_fma(const struct ingle_sampling *s,
                                                              const float *x, uint32_t V,
                                                              int32_t best,
                                                              const struct ingle_row_stat *known,
                                                              ingle_row_stat_fn *row_stat, double u,
                                                              struct scratch *scratch)
{
    return choose(s, x, V, best, known, row_stat, u, scratch);
}

static bool has_fma(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
#define choose_fma choose_any
static bool has_fma(void)
{
    return false;
}
#endif

bool ingle_sampler_wants_logits(const struct ingle_sampling *s, uint32_t n_history,
                                uint32_t n_banned)
{
    return s->temperature > 0.0f || s->n_logprobs > 0 || changes_logits(s, n_history, n_banned);
}

void ingle_sampler_pick(const struct ingle_sampling *s, float *logits, uint32_t V,
                        const struct ingle_row_stat *stat_of_row, ingle_row_stat_fn *row_stat,
                        const int32_t *history, uint32_t n_history, uint32_t gen_index,
                        const int32_t *banned, uint32_t n_banned, void *memory,
                        struct ingle_choice *ret)
{
    struct scratch scratch = lay_out(memory, V);
    const float *x = logits;
    struct ingle_row_stat stat;
    const struct ingle_row_stat *known = &stat;
    bool finite;
    int32_t best;

    if (logits == NULL) {
        ingle_assert(!ingle_sampler_wants_logits(s, n_history, n_banned));
        ingle_assert(isfinite(stat_of_row->logsumexp));
        ret->token = stat_of_row->argmax;
        ret->logprob = stat_of_row->max - stat_of_row->logsumexp;
        ret->n_alt = 0;
        return;
    }
    stat = cleaned(logits, V, *stat_of_row, &finite);

    for (uint32_t i = 0; !finite && i < V; i++) {
        logits[i] = clean(logits[i]);
    }
    note_alternatives(logits, V, stat.logsumexp, s->n_logprobs, ret);
    best = stat.max > -INFINITY ? stat.argmax : -1;
    if (changes_logits(s, n_history, n_banned)) {
        memcpy(scratch.logits, logits, V * sizeof(*logits));
        change_logits(s, scratch.logits, V, history, n_history, banned, n_banned, &scratch);
        x = scratch.logits;
        known = NULL;
        best = top_one(x, V);
    }
    if (best < 0) {
        ret->token = pick_without_logits(V, banned, n_banned);
    } else if (s->temperature <= 0.0f) {
        ret->token = best;
    } else {
        ret->token = (has_fma() ? choose_fma : choose_any)(s, x, V, best, known, row_stat,
                                                           uniform(s->seed, gen_index), &scratch);
    }
    ret->logprob = clean(logits[ret->token]) - stat.logsumexp;
}

void ingle_sampler_score(const float *logits, uint32_t V, const struct ingle_row_stat *stat_of_row,
                         int32_t token, uint32_t n_alt, struct ingle_choice *ret)
{
    bool finite;
    struct ingle_row_stat stat = cleaned(logits, V, *stat_of_row, &finite);

    ret->token = token;
    ret->logprob = -INFINITY;
    if (token >= 0 && (uint32_t)token < V) {
        ret->logprob = clean(logits[token]) - stat.logsumexp;
    }
    note_alternatives(logits, V, stat.logsumexp, n_alt, ret);
}
