/* Owns the reference table and the choice of a table. The tables are constants: choosing one reads
 * CPUID, asks the system for AMX's registers and writes nothing, so any thread may ask at any time.
 */
#include "kernels/kernels.h"

#include <math.h>

#include "kernels/isa.h"
#include "kernels/ref/expf.h"
#include "kernels/work.h"

enum {
    TABLES_MAX = 8
};

static const struct ingle_kernels table_ref = {
    .isa = "ref",
    .op =
        {
            [INGLE_K_EMBED] = ingle_embed_ref,
            [INGLE_K_NORM] = ingle_norm_ref,
            [INGLE_K_QUANT] = ingle_quant_ref,
            [INGLE_K_MATMUL] = ingle_matmul_ref,
            [INGLE_K_QKV] = ingle_qkv_ref,
            [INGLE_K_ATTN] = ingle_attn_ref,
            [INGLE_K_HEAD] = ingle_head_ref,
        },
    .row_stat = ingle_row_stat_ref,
};

const struct ingle_kernels *ingle_kernels_ref(void)
{
    return &table_ref;
}

struct ingle_row_stat ingle_row_stat_merge(const struct ingle_row_stat *part, uint32_t n)
{
    struct ingle_row_stat all = part[0];
    all.weight = 0;
    float top = -INFINITY, sum = 0; /* relative to the largest log-sum-exp */
    for (uint32_t i = 1; i < n; i++) {
        if (part[i].max > all.max) {
            all.max = part[i].max;
            all.argmax = part[i].argmax;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(part[i].logsumexp)) {
            all.logsumexp = NAN;
            return all;
        }
        top = part[i].logsumexp > top ? part[i].logsumexp : top;
    }
    for (uint32_t i = 0; i < n; i++) {
        sum += ingle_expf(part[i].logsumexp - top);
    }
    all.logsumexp = isfinite(top) ? top + logf(sum) : top;
    return all;
}

/* Tiles [from, to) of a matrix, or what there is of them. */
static struct ingle_weights_span tiles_span(const struct ingle_matrix *w, uint64_t from,
                                            uint64_t to)
{
    const uint64_t tiles = ingle_tiles(w->rows);
    const uint8_t *at = ingle_tile_at(w, from), *end = ingle_tile_at(w, to < tiles ? to : tiles);

    return (struct ingle_weights_span){.at = at, .bytes = (uint64_t)(end - at)};
}

static struct ingle_weights_span weights_of_matmul(const struct ingle_op *op,
                                                   const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;
    uint64_t width = arg->out ? 2 : 1; /* tiles of a unit */

    for (uint32_t i = 0; i < arg->n_w; i++) {
        struct ingle_part parts[INGLE_PARTS_MAX];
        if (ingle_parts(op, i, worker, parts) > 0) {
            return tiles_span(&arg->w[i], parts[0].from * width, parts[0].to * width);
        }
    }
    return (struct ingle_weights_span){0};
}

static struct ingle_weights_span weights_of_qkv(const struct ingle_op *op,
                                                const struct ingle_worker *worker)
{
    const struct ingle_arg_qkv *arg = &op->qkv;
    uint64_t head = arg->D / INGLE_TILE_ROWS;
    struct ingle_qkv_parts parts;

    ingle_qkv_parts(op, worker, &parts);
    if (parts.n_q > 0) {
        return tiles_span(&arg->w[0], parts.q[0].from, parts.q[0].to);
    }
    if (parts.n_kv > 0) { /* heads of k and v in turn */
        uint64_t from = (parts.kv[0].from + 1) / 2, to = (parts.kv[0].to + 1) / 2;
        return from < to ? tiles_span(&arg->w[1], from * head, to * head)
                         : tiles_span(&arg->w[2], parts.kv[0].from / 2 * head, to * head);
    }
    return (struct ingle_weights_span){0};
}

struct ingle_weights_span ingle_op_weights(const struct ingle_op *op,
                                           const struct ingle_worker *worker)
{
    if (op->kind == INGLE_K_MATMUL) {
        return weights_of_matmul(op, worker);
    }
    if (op->kind == INGLE_K_QKV) {
        return weights_of_qkv(op, worker);
    }
    return (struct ingle_weights_span){0};
}

uint32_t ingle_kernels_all(const struct ingle_kernels *ret[], uint32_t max)
{
    if (max == 0) {
        return 0;
    }
    ret[0] = &table_ref;
    return 1 + ingle_kernels_isa(ret + 1, max - 1);
}

const struct ingle_kernels *ingle_kernels_best(void)
{
    const struct ingle_kernels *all[TABLES_MAX];
    uint32_t n = ingle_kernels_all(all, TABLES_MAX);
    return all[n - 1];
}
