/* A row of logits as the vocabulary head leaves it (kernels/ref/head.c), for the sampler. */
#ifndef INGLE_TESTS_UNIT_TOKENIZER_HEAD_H
#define INGLE_TESTS_UNIT_TOKENIZER_HEAD_H
#include "runtime/model/sampler.h"

#define HEAD_V_MAX 262144u

struct head {
    struct ingle_row_stat part[HEAD_V_MAX / INGLE_HEAD_COLS];
    float peak[HEAD_V_MAX / INGLE_PEAK_COLS];
};

/* The statistics stay in `head`, the logits where they are. */
static inline struct ingle_logits head_row(struct head *head, ingle_row_stat_fn *row_stat,
                                           const struct ingle_sampling *s, float *x, uint32_t V)
{
    float inverse_temperature = ingle_sampler_inverse_temperature(s, V);

    for (uint32_t at = 0; at < V; at += INGLE_HEAD_COLS) {
        struct ingle_row_stat *part = &head->part[at / INGLE_HEAD_COLS];

        *part = row_stat(x + at, ingle_head_part_cols(V, at / INGLE_HEAD_COLS), inverse_temperature,
                         head->peak + at / INGLE_PEAK_COLS);
        part->argmax += (int32_t)at;
    }
    return (struct ingle_logits){.x = x,
                                 .V = V,
                                 .part = head->part,
                                 .peak = head->peak,
                                 .all = ingle_row_stat_merge(head->part, ingle_head_parts(V))};
}

#endif
