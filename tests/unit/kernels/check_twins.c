/* Owns the tables of twins.h: those of AVX-512, which executes them, with the products replaced. */
#include <string.h>

#include "kernels/isa.h"
#include "tests/unit/kernels/check.h"
#include "tests/unit/kernels/twins.h"

static struct ingle_kernels avxvnni_evex;

uint32_t check_twins(const struct ingle_kernels *ret[])
{
    const struct ingle_kernels *tables[CHECK_TABLES_MAX];
    uint32_t n = ingle_kernels_all(tables, CHECK_TABLES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (strcmp(tables[i]->isa, "avx512vnni") == 0) {
            avxvnni_evex = *tables[i];
            avxvnni_evex.isa = "avxvnni-evex";
            avxvnni_evex.op[INGLE_K_MATMUL] = ingle_matmul_avxvnni_evex;
            avxvnni_evex.op[INGLE_K_HEAD] = ingle_head_avxvnni_evex;
            avxvnni_evex.row_stat = ingle_row_stat_avxvnni_evex;
            ret[0] = &avxvnni_evex;
            return 1;
        }
    }
    return 0;
}
