/* Owns the reference table and the choice of a table. The tables are constants: choosing one reads
 * CPUID, asks the system for AMX's registers and writes nothing, so any thread may ask at any time.
 */
#include <math.h>

#include "kernels/isa.h"
#include "kernels/kernels.h"
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
            [INGLE_K_QKV_STORE] = ingle_qkv_store_ref,
            [INGLE_K_KV_SEAL] = ingle_kv_seal_ref,
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

struct ingle_weights_span ingle_op_weights(const struct ingle_op *op,
                                           const struct ingle_worker *worker)
{
    const struct ingle_arg_matmul *arg = &op->matmul;

    for (uint32_t i = 0; op->kind == INGLE_K_MATMUL && i < arg->n_w; i++) {
        struct ingle_part parts[INGLE_PARTS_MAX];
        if (ingle_parts(arg, i, worker, parts) > 0) {
            uint64_t bytes = ingle_tile_shape(arg->w[i].type, arg->w[i].cols).bytes;
            uint64_t tiles = ingle_tiles(arg->w[i].rows), width = arg->out ? 2 : 1;
            uint64_t from = parts[0].from * width, to = parts[0].to * width;
            return (struct ingle_weights_span){.at = arg->w[i].data + from * bytes,
                                               .bytes = ((to < tiles ? to : tiles) - from) * bytes};
        }
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
