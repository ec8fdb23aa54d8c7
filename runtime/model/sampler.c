/* Owns nothing: every buffer is the caller's. Thread: step. Allocates nothing, never sorts more of
 * a vocabulary than a request asks for.
 *
 * Order: logit bias, penalties, banned ids; then (temperature 0) the arg-max, or top-k, typical,
 * top-p, min-p, temperature, draw: what llama.cpp's default chain does. Every filter looks at the
 * probabilities of what the filters before it left, at temperature 1.
 *
 * Determinism. Candidates are ordered by logit, largest first, lowest id first on a tie. Weights
 * come from ingle_expf (kernels/ref/expf.h: the same bits on every machine), sums are taken in
 * candidate order in double precision (of a whole row: the head's sums of its parts, in order), and
 * the uniform number is Philox4x32-10 with the seed as its key and the token's index as its
 * counter: the draw depends on (seed, index, logits) alone.
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

#define BLOCK        INGLE_PEAK_COLS
#define MORE_CHANGES 128u /* besides one of each id: by bias, and banned */

INLINE float clean(float x)
{
    if (isnan(x)) {
        return -INFINITY;
    }
    return x > FLT_MAX ? FLT_MAX : x;
}

/* ---- scratch ----------------------------------------------------------------------------------
 */

struct change {
    uint32_t id;
    float before;
};

struct scratch {
    uint64_t *keys, *order, *spare; /* [V] each */
    struct change *changes;         /* [V + MORE_CHANGES] in the order in which they were made */
    bool *stale;                    /* [ingle_head_parts(V)] has a changed logit */
    uint32_t n_changes;
};

static uint64_t lane_bytes(uint64_t n, uint64_t item_bytes)
{
    return (n * item_bytes + 63) / 64 * 64;
}

uint64_t ingle_sampler_scratch_bytes(uint32_t V)
{
    return 3 * lane_bytes(V, sizeof(uint64_t)) +
           lane_bytes((uint64_t)V + MORE_CHANGES, sizeof(struct change)) +
           lane_bytes(ingle_head_parts(V), sizeof(bool));
}

static struct scratch lay_out(void *memory, uint32_t V)
{
    uint8_t *p = memory;
    uint64_t step = lane_bytes(V, sizeof(uint64_t));
    uint64_t changes = lane_bytes((uint64_t)V + MORE_CHANGES, sizeof(struct change));

    return (struct scratch){.keys = (void *)p,
                            .order = (void *)(p + step),
                            .spare = (void *)(p + 2 * step),
                            .changes = (void *)(p + 3 * step),
                            .stale = (void *)(p + 3 * step + changes)};
}

/* ---- statistics -------------------------------------------------------------------------------
 */

static void refresh(struct ingle_logits *row, uint32_t part, ingle_row_stat_fn *row_stat,
                    float inverse_temperature)
{
    uint32_t at = part * INGLE_HEAD_COLS;

    row->part[part] = row_stat(row->x + at, ingle_head_part_cols(row->V, part), inverse_temperature,
                               row->peak + at / BLOCK);
    row->part[part].argmax += (int32_t)at;
}

/* A row that is not finite: NaN becomes -Inf, +Inf the largest float. One without any usable number
 * has maximum -Inf and every log-probability -Inf. */
static void settle(struct ingle_logits *row, ingle_row_stat_fn *row_stat, float inverse_temperature)
{
    uint32_t n_parts = ingle_head_parts(row->V);

    if (isfinite(row->all.logsumexp)) {
        return;
    }
    for (uint32_t i = 0; i < row->V; i++) {
        row->x[i] = clean(row->x[i]);
    }
    for (uint32_t part = 0; part < n_parts; part++) {
        refresh(row, part, row_stat, inverse_temperature);
    }
    row->all = ingle_row_stat_merge(row->part, n_parts);
    row->all.logsumexp = row->all.max > -INFINITY ? row->all.logsumexp : 0.0f;
}

/* ---- selection --------------------------------------------------------------------------------
 */

INLINE uint32_t block_size(uint32_t at, uint32_t V)
{
    return V - at < BLOCK ? V - at : BLOCK;
}

/* The k largest logits above -Inf, best first; returns how many there are. */
INLINE uint32_t top_few(const struct ingle_logits *row, uint32_t k, uint64_t *best)
{
    uint32_t n = 0;

    if (row->x != NULL) {
        return ingle_top_offer(best, 0, k, row->x, row->V, 0, row->peak);
    }
    for (uint32_t i = 0; i < row->n_tops; i++) {
        n = ingle_top_merge(best, n, k, &row->top[i]);
    }
    return n;
}

/* Every logit of at least `floor` and above -Inf, in id order. */
INLINE uint32_t collect(const struct ingle_logits *row, float floor, uint64_t *keys)
{
    const float *x = row->x;
    uint32_t n = 0;

    for (uint32_t at = 0; at < row->V; at += BLOCK) {
        uint32_t end = at + block_size(at, row->V);

        if (!(row->peak[at / BLOCK] >= floor)) {
            continue;
        }
        for (uint32_t i = at; i < end; i++) {
            keys[n] = ingle_top_key(x[i], i);
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

static void change(struct ingle_logits *row, uint32_t id, float x, struct scratch *scratch)
{
    ingle_assert(scratch->n_changes < row->V + MORE_CHANGES);
    scratch->changes[scratch->n_changes++] = (struct change){.id = id, .before = row->x[id]};
    scratch->stale[id / INGLE_HEAD_COLS] = true;
    row->x[id] = x;
}

static void penalize(const struct ingle_sampling *s, struct ingle_logits *row,
                     const int32_t *history, uint32_t n_history, struct scratch *scratch)
{
    uint32_t window = s->repeat_last_n < n_history ? s->repeat_last_n : n_history;
    uint32_t n = 0;

    window = window < row->V ? window : row->V; /* what the scratch holds */
    for (uint32_t i = n_history - window; i < n_history; i++) {
        if (history[i] >= 0 && (uint32_t)history[i] < row->V) {
            scratch->keys[n++] = (uint64_t)(uint32_t)history[i] << 32;
        }
    }
    sort_keys(scratch->keys, scratch->spare, n);
    for (uint32_t i = 0, count; i < n; i += count) {
        uint32_t id = (uint32_t)(scratch->keys[i] >> 32);
        float x = row->x[id];

        for (count = 1; i + count < n && scratch->keys[i + count] == scratch->keys[i]; count++) {
        }
        x = x <= 0.0f ? x * s->repeat_penalty : x / s->repeat_penalty;
        x = clean(x - ((float)count * s->frequency_penalty + s->presence_penalty));
        change(row, id, x, scratch);
    }
}

static void change_logits(const struct ingle_sampling *s, struct ingle_logits *row,
                          ingle_row_stat_fn *row_stat, float inverse_temperature,
                          const int32_t *history, uint32_t n_history, const int32_t *banned,
                          uint32_t n_banned, struct scratch *scratch)
{
    uint32_t n_parts = ingle_head_parts(row->V);

    memset(scratch->stale, 0, n_parts * sizeof(*scratch->stale));
    for (uint32_t i = 0; i < s->n_bias; i++) {
        int32_t id = s->bias[i].id;

        if (id >= 0 && (uint32_t)id < row->V) {
            change(row, (uint32_t)id, clean(row->x[id] + s->bias[i].bias), scratch);
        }
    }
    penalize(s, row, history, n_history, scratch);
    for (uint32_t i = 0; i < n_banned; i++) {
        if (banned[i] >= 0 && (uint32_t)banned[i] < row->V) {
            change(row, (uint32_t)banned[i], -INFINITY, scratch);
        }
    }
    for (uint32_t part = 0; part < n_parts; part++) {
        if (scratch->stale[part]) {
            refresh(row, part, row_stat, inverse_temperature);
        }
    }
    row->all = ingle_row_stat_merge(row->part, n_parts);
}

static void undo_changes(struct ingle_logits *row, struct scratch *scratch)
{
    while (scratch->n_changes > 0) {
        const struct change *last = &scratch->changes[--scratch->n_changes];

        row->x[last->id] = last->before;
    }
}

/* ---- filters ----------------------------------------------------------------------------------
 * Each takes n candidates in order (n >= 1) and returns how many stay in front. */

INLINE float weight(uint64_t key, float max)
{
    return ingle_expf(ingle_top_logit(key) - max);
}

INLINE double weight_sum(const uint64_t *keys, uint32_t n, float max)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < n; i++) {
        sum += (double)weight(keys[i], max);
    }
    return sum;
}

/* Locally typical sampling (Meister 2022): keep the candidates whose surprise is nearest to the
 * entropy, until they hold more than typical_p. Surprise minus entropy is mean logit minus logit:
 * no logarithm is needed. */
INLINE uint32_t keep_typical(float typical_p, struct scratch *scratch, uint32_t n)
{
    uint64_t *keys = scratch->keys;
    float max = ingle_top_logit(keys[0]);
    double total = weight_sum(keys, n, max), mean = 0.0, sum = 0.0;
    uint64_t last = 0;
    uint32_t n_kept = 0;

    for (uint32_t i = 0; i < n; i++) {
        mean +=
            (double)weight(keys[i], max) / total * ((double)ingle_top_logit(keys[i]) - (double)max);
    }
    for (uint32_t i = 0; i < n; i++) {
        double far = fabs((double)ingle_top_logit(keys[i]) - (double)max - mean);

        scratch->order[i] = ingle_top_key(-(float)far, i); /* nearest first */
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
        double far = fabs((double)ingle_top_logit(keys[i]) - (double)max - mean);

        if (ingle_top_key(-(float)far, i) <= last) {
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
        sum += (double)weight(keys[i], ingle_top_logit(keys[0]));
        if (sum >= (double)top_p * total) {
            return i + 1;
        }
    }
    return n;
}

INLINE uint32_t keep_min_p(float min_p, const uint64_t *keys, uint32_t n)
{
    uint32_t kept = 1;

    while (kept < n && weight(keys[kept], ingle_top_logit(keys[0])) >= min_p) {
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

INLINE uint64_t draw(float temperature, const uint64_t *keys, uint32_t n, double u)
{
    float max = ingle_top_logit(keys[0]);
    double total = 0.0, sum = 0.0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        total += (double)ingle_expf((ingle_top_logit(keys[i]) - max) / temperature);
    }
    for (i = 0; i + 1 < n; i++) {
        sum += (double)ingle_expf((ingle_top_logit(keys[i]) - max) / temperature);
        if (sum > u * total) {
            break;
        }
    }
    return keys[i];
}

/* What a part's weights are worth beside the best of the row. */
INLINE double part_scale(const struct ingle_logits *row, uint32_t part, float inverse_temperature)
{
    return (double)ingle_expf((row->part[part].max - row->all.max) * inverse_temperature);
}

/* No filter at all: draw from the whole row, in id order, part by part. */
INLINE uint64_t draw_from_all(const struct ingle_logits *row, float inverse_temperature, double u)
{
    uint32_t n_parts = ingle_head_parts(row->V), p = 0;
    const struct ingle_row_stat *part = row->part;
    double total = 0.0, scale = 0.0, left;
    int32_t last;

    for (uint32_t i = 0; i < n_parts; i++) {
        total += (double)part[i].weight * part_scale(row, i, inverse_temperature);
    }
    left = u * total;
    for (;; p++) {
        scale = part_scale(row, p, inverse_temperature);
        if (p + 1 == n_parts || left < scale * (double)part[p].weight) {
            break;
        }
        left -= scale * (double)part[p].weight;
    }
    /* Rounding may leave a little more than the part holds: then its last candidate, or the best of
     * the row if it has none. */
    last = scale > 0.0 ? part[p].argmax : row->all.argmax;
    for (uint32_t i = 0; scale > 0.0 && i < ingle_head_part_cols(row->V, p); i++) {
        uint32_t id = p * INGLE_HEAD_COLS + i;
        double w = scale * (double)ingle_expf((row->x[id] - part[p].max) * inverse_temperature);

        if (w > 0.0) {
            last = (int32_t)id;
            if (left < w) {
                break;
            }
            left -= w;
        }
    }
    return ingle_top_key(row->x[last], (uint32_t)last);
}

/* ---- one token --------------------------------------------------------------------------------
 */

static void note_alternatives(const struct ingle_logits *row, uint32_t n_alt,
                              struct ingle_choice *ret)
{
    uint64_t best[INGLE_LOGPROBS_MAX];

    ret->n_alt = top_few(row, n_alt < INGLE_LOGPROBS_MAX ? n_alt : INGLE_LOGPROBS_MAX, best);
    for (uint32_t i = 0; i < ret->n_alt; i++) {
        ret->alt[i].token = (int32_t)ingle_top_id(best[i]);
        ret->alt[i].logprob = ingle_top_logit(best[i]) - row->all.logsumexp;
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

static bool takes_any_rank(const struct ingle_sampling *s, uint32_t V)
{
    return s->top_k == 0 || s->top_k >= V;
}

/* No filter stands between the row and the draw. */
static bool takes_all(const struct ingle_sampling *s, uint32_t V)
{
    return takes_any_rank(s, V) && s->typical_p >= 1.0f && s->top_p >= 1.0f && s->min_p <= 0.0f;
}

/* Choose a candidate at temperature > 0 from a row with something above -Inf. */
INLINE uint64_t choose(const struct ingle_sampling *s, const struct ingle_logits *row,
                       float inverse_temperature, double u, struct scratch *scratch)
{
    bool all = takes_any_rank(s, row->V);
    double total = -1.0; /* of what top-p chooses from; < 0: to be summed */
    uint32_t n;

    if (takes_all(s, row->V)) {
        return draw_from_all(row, inverse_temperature, u);
    }
    if (!all && s->top_k <= INGLE_TOP_MAX) {
        n = top_few(row, s->top_k, scratch->keys);
    } else {
        const struct ingle_row_stat *stat = &row->all;
        float floor = -INFINITY, at_least, depth = INFINITY;

        if (all && s->typical_p >= 1.0f) {
            /* A candidate with less than (1 - top_p) / V is not among those that top-p keeps: all
             * such together hold less than 1 - top_p. Nor is one below min_p. A little slack
             * covers rounding; the filters below decide. Most often much fewer hold top_p. */
            total = (double)ingle_expf(stat->logsumexp - stat->max);
            if (s->top_p < 1.0f) {
                floor = stat->logsumexp + logf((1.0f - s->top_p) / (float)row->V) - 0.01f;
                depth = 2.0f;
            }
            if (s->min_p > 0.0f) {
                floor = fmaxf(floor, stat->max + logf(s->min_p) - 0.01f);
            }
        }
        do {
            at_least = fmaxf(floor, stat->max - depth);
            n = collect(row, at_least, scratch->keys);
            depth *= 2.0f;
        } while (at_least > floor &&
                 weight_sum(scratch->keys, n, stat->max) < (double)s->top_p * total * 1.00001);
        sort_keys(scratch->keys, scratch->spare, n);
        n = all || n < s->top_k ? n : s->top_k;
    }
    ingle_assert(n > 0);
    if (s->typical_p < 1.0f) {
        n = keep_typical(s->typical_p, scratch, n);
    }
    if (s->top_p < 1.0f) {
        n = keep_top_p(s->top_p, scratch->keys, n,
                       total >= 0.0
                           ? total
                           : weight_sum(scratch->keys, n, ingle_top_logit(scratch->keys[0])));
    }
    if (s->min_p > 0.0f) {
        n = keep_min_p(s->min_p, scratch->keys, n);
    }
    return draw(s->temperature, scratch->keys, n, u);
}

static uint64_t choose_any(const struct ingle_sampling *s, const struct ingle_logits *row,
                           float inverse_temperature, double u, struct scratch *scratch)
{
    return choose(s, row, inverse_temperature, u, scratch);
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static uint64_t choose_fma(const struct ingle_sampling *s,
                                                               const struct ingle_logits *row,
                                                               float inverse_temperature, double u,
                                                               struct scratch *scratch)
{
    return choose(s, row, inverse_temperature, u, scratch);
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

uint32_t ingle_sampler_n_top(const struct ingle_sampling *s, uint32_t V, uint32_t n_history,
                             uint32_t n_banned)
{
    if (changes_logits(s, n_history, n_banned)) {
        return INGLE_TOP_ALL;
    }
    if (s->temperature <= 0.0f) {
        return s->n_logprobs;
    }
    if (takes_any_rank(s, V) || s->top_k > INGLE_TOP_MAX) {
        return INGLE_TOP_ALL;
    }
    return s->top_k > s->n_logprobs ? s->top_k : s->n_logprobs;
}

float ingle_sampler_inverse_temperature(const struct ingle_sampling *s, uint32_t V)
{
    return s->temperature > 0.0f && takes_all(s, V) ? fminf(1.0f / s->temperature, FLT_MAX) : 0.0f;
}

void ingle_sampler_pick(const struct ingle_sampling *s, struct ingle_logits *row,
                        ingle_row_stat_fn *row_stat, const int32_t *history, uint32_t n_history,
                        uint32_t gen_index, const int32_t *banned, uint32_t n_banned, void *memory,
                        struct ingle_choice *ret)
{
    struct scratch scratch = lay_out(memory, row->V);
    float inverse_temperature = ingle_sampler_inverse_temperature(s, row->V), logsumexp;
    uint64_t chosen;

    ingle_assert(row->x != NULL ||
                 (ingle_sampler_n_top(s, row->V, n_history, n_banned) <= INGLE_TOP_MAX &&
                  isfinite(row->all.logsumexp)));
    settle(row, row_stat, inverse_temperature);
    note_alternatives(row, s->n_logprobs, ret);
    logsumexp = row->all.logsumexp;
    if (changes_logits(s, n_history, n_banned)) {
        change_logits(s, row, row_stat, inverse_temperature, history, n_history, banned, n_banned,
                      &scratch);
    }
    if (!(row->all.max > -INFINITY)) {
        chosen = ingle_top_key(-INFINITY, (uint32_t)pick_without_logits(row->V, banned, n_banned));
    } else if (s->temperature <= 0.0f) {
        chosen = ingle_top_key(row->all.max, (uint32_t)row->all.argmax);
    } else {
        chosen = (has_fma() ? choose_fma : choose_any)(s, row, inverse_temperature,
                                                       uniform(s->seed, gen_index), &scratch);
    }
    undo_changes(row, &scratch);
    /* The logit that a candidate was chosen by may be a changed one, unless there is no row. */
    ret->token = (int32_t)ingle_top_id(chosen);
    ret->logprob = (row->x != NULL ? row->x[ret->token] + 0.0f /* -0 is 0, as in a candidate */
                                   : ingle_top_logit(chosen)) -
                   logsumexp;
}

void ingle_sampler_score(struct ingle_logits *row, ingle_row_stat_fn *row_stat, int32_t token,
                         uint32_t n_alt, struct ingle_choice *ret)
{
    settle(row, row_stat, 0.0f);
    ret->token = token;
    ret->logprob = -INFINITY;
    if (token >= 0 && (uint32_t)token < row->V) {
        ret->logprob = row->x[token] - row->all.logsumexp;
    }
    note_alternatives(row, n_alt, ret);
}
