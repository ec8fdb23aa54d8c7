/* Owns the tables of twins.h: those of AVX-512, which executes them, with the products replaced. */
#include <string.h>

#include "kernels/isa.h"
#include "tests/unit/kernels/check.h"
#include "tests/unit/kernels/twins.h"

static const struct {
    const char *isa;
    ingle_op_fn *matmul, *qkv, *head;
    ingle_row_stat_fn *row_stat;
} twins[] = {
    {"avxvnni-evex", ingle_matmul_avxvnni_evex, ingle_qkv_avxvnni_evex, ingle_head_avxvnni_evex,
     ingle_row_stat_avxvnni_evex},
    {"amx-emulated", ingle_matmul_amx_emulated, ingle_qkv_amx_emulated, ingle_head_amx_emulated,
     ingle_row_stat_amx_emulated},
};

enum {
    TWINS = sizeof twins / sizeof twins[0]
};
static struct ingle_kernels twin_tables[TWINS];

uint32_t check_twins(const struct ingle_kernels *ret[])
{
    const struct ingle_kernels *tables[CHECK_TABLES_MAX], *base = NULL;
    uint32_t n = ingle_kernels_all(tables, CHECK_TABLES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        base = strcmp(tables[i]->isa, "avx512vnni") == 0 ? tables[i] : base;
    }
    for (uint32_t i = 0; base && i < TWINS; i++) {
        twin_tables[i] = *base;
        twin_tables[i].isa = twins[i].isa;
        twin_tables[i].op[INGLE_K_MATMUL] = twins[i].matmul;
        twin_tables[i].op[INGLE_K_QKV] = twins[i].qkv;
        twin_tables[i].op[INGLE_K_HEAD] = twins[i].head;
        twin_tables[i].row_stat = twins[i].row_stat;
        ret[i] = &twin_tables[i];
    }
    return base ? TWINS : 0;
}
