/* The names of every variant of every operation, for the tables alone (kernels.c, x86/tables.c).
 * A file kernels/x86/<op>_<isa>.c defines ingle_<op>_<isa>; the reference is kernels/ref/<op>.c.
 */
#ifndef INGLE_KERNELS_ISA_H
#define INGLE_KERNELS_ISA_H
#include "kernels/kernels.h"

/* The row-wise operations are one plain source (kernels/ref) that is compiled once for each
 * instruction set: INGLE_ISA, a compiler argument, is the suffix of the names it defines. The
 * compiler may use wider registers, never another order or rounding. */
#ifndef INGLE_ISA
#define INGLE_ISA ref
#endif
#define INGLE_PASTE2(op, isa) ingle_##op##_##isa
#define INGLE_PASTE(op, isa)  INGLE_PASTE2(op, isa)
#define INGLE_VARIANT(op)     INGLE_PASTE(op, INGLE_ISA)

/* The end of a worker's scratch, which products leave alone: for the sums of who calls them. */
#define INGLE_SCRATCH_SUMS_BYTES (272u * 1024u)

/* How a matrix product with `out` ends: columns [32 group, 32 group + 32) of rows [row, row + n)
 * are act(f(gate) * up). Values beyond out's columns are ignored. */
struct ingle_glu_rows {
    const struct ingle_act *out;
    enum ingle_glu kind;
    uint64_t row, n, group;
    const float *gate[2], *up[2]; /* of the first row: two tiles of 16 columns */
    uint64_t stride;              /* floats, from row to row of all four */
};
typedef void ingle_glu_put_fn(const struct ingle_glu_rows *rows);

ingle_op_fn ingle_embed_ref, ingle_norm_ref, ingle_quant_ref, ingle_matmul_ref;
ingle_glu_put_fn ingle_glu_put_ref;
ingle_op_fn ingle_qkv_ref, ingle_attn_ref, ingle_head_ref;
ingle_row_stat_fn ingle_row_stat_ref;

ingle_op_fn ingle_embed_avx2, ingle_norm_avx2, ingle_quant_avx2, ingle_matmul_avx2;
ingle_glu_put_fn ingle_glu_put_avx2;
ingle_op_fn ingle_qkv_avx2, ingle_attn_avx2, ingle_head_avx2;
ingle_row_stat_fn ingle_row_stat_avx2;

ingle_op_fn ingle_matmul_avxvnni, ingle_qkv_avxvnni, ingle_head_avxvnni;
ingle_row_stat_fn ingle_row_stat_avxvnni;

ingle_op_fn ingle_embed_avx512, ingle_norm_avx512, ingle_quant_avx512, ingle_matmul_avx512;
ingle_glu_put_fn ingle_glu_put_avx512;
ingle_op_fn ingle_qkv_avx512, ingle_attn_avx512, ingle_head_avx512;
ingle_row_stat_fn ingle_row_stat_avx512;

ingle_op_fn ingle_matmul_amx, ingle_qkv_amx, ingle_head_amx;
ingle_row_stat_fn ingle_row_stat_amx;

/* Tables of this machine's instruction sets that this CPU can execute, slowest first; returns how
 * many were written to ret. */
uint32_t ingle_kernels_isa(const struct ingle_kernels *ret[], uint32_t max);

#endif
