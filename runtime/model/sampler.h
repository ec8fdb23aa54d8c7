/* One token from a row of logits. Counter-based randomness: the draw depends on (seed, index of the
 * generated token) alone, so a resumed stream continues bit for bit. No allocation. Thread: step.
 * sampler.c states the order of the filters and the arithmetic. */
#ifndef INGLE_RUNTIME_MODEL_SAMPLER_H
#define INGLE_RUNTIME_MODEL_SAMPLER_H
#include <stdbool.h>
#include <stdint.h>

#include "kernels/top.h"
#include "shm/layout.h"

struct ingle_sampling { /* validated copy of struct ingle_params */
    float temperature, top_p, min_p, typical_p, repeat_penalty, frequency_penalty, presence_penalty;
    uint32_t top_k, repeat_last_n, min_tokens;
    uint64_t seed;
    uint32_t n_logprobs, n_prompt_logprobs;
    bool ignore_eos;
    uint32_t n_stop_ids, n_bias;
    int32_t stop_ids[INGLE_STOP_ID_N_MAX];
    struct {
        int32_t id;
        float bias;
    } bias[INGLE_BIAS_N_MAX];
};

struct ingle_choice {
    int32_t token;
    float logprob; /* natural log, of the unmodified distribution at temperature 1 */
    uint32_t n_alt;
    struct {
        int32_t token;
        float logprob;
    } alt[INGLE_LOGPROBS_MAX]; /* the likeliest tokens of the unmodified distribution, likeliest
                                  first, lowest id first on a tie */
};

/* A row as the head left it (kernels.h). */
struct ingle_logits {
    float *x; /* [V], or NULL where ingle_sampler_n_top wants few and `all` is finite */
    uint32_t V;
    struct ingle_row_stat *part; /* [ingle_head_parts(V)] */
    float *peak;                 /* [ingle_head_peaks(V)], with x */
    struct ingle_row_stat all;   /* of the parts together */
    const struct ingle_top *top; /* [n_tops], without x: together they have the largest */
    uint32_t n_tops;
};

/* Bytes of scratch for a vocabulary of V. */
uint64_t ingle_sampler_scratch_bytes(uint32_t V);
#define INGLE_TOP_ALL (INGLE_TOP_MAX + 1)
/* How many of the largest logits of V a choice looks at, besides the largest, its place and the
 * log-sum-exp: 0 to INGLE_TOP_MAX, or INGLE_TOP_ALL: it depends on the logits themselves. */
uint32_t ingle_sampler_n_top(const struct ingle_sampling *s, uint32_t V, uint32_t n_history,
                             uint32_t n_banned);
/* By what the parts of its row have to be weighed; 0 where a filter stands before the draw. */
float ingle_sampler_inverse_temperature(const struct ingle_sampling *s, uint32_t V);
/* Pick the next token. row: afterwards NaN is -Inf in x and +Inf FLT_MAX, the statistics are those
 * of what was chosen from (with bias and penalties). row_stat: the kernel table's. history: the
 * tokens so far (prompt and generated), newest last. gen_index: how many tokens were generated
 * before. banned: ids that may not be chosen now (end-of-text before min_tokens or with
 * ignore_eos), at most 64 of them. memory: ingle_sampler_scratch_bytes(V), 64-byte aligned. */
void ingle_sampler_pick(const struct ingle_sampling *s, struct ingle_logits *row,
                        ingle_row_stat_fn *row_stat, const int32_t *history, uint32_t n_history,
                        uint32_t gen_index, const int32_t *banned, uint32_t n_banned, void *memory,
                        struct ingle_choice *ret);
/* The log-probability of `token` and the n_alt likeliest alternatives, nothing chosen (prompt
 * rows). The row as with ingle_sampler_pick. */
void ingle_sampler_score(struct ingle_logits *row, ingle_row_stat_fn *row_stat, int32_t token,
                         uint32_t n_alt, struct ingle_choice *ret);

#endif
