/* checkkern: every kernel table against the reference, bit for bit, and the benchmark.
 *
 * checkkern            run the tests for every table that this CPU can execute, and those of the
 *                      matrix product for twins of tables that it cannot (twins.h)
 * checkkern --bench [ISA [PATTERN]]   print times; ISA selects one table, PATTERN lines that begin
 *                                     with or contain it
 *
 * The tests live in one file per operation (check_matmul.c, ..), declared in check.h. */
#include <stdio.h>
#include <string.h>

#include "tests/unit/kernels/check.h"

const char *check_pattern = "";
static const struct ingle_kernels *current;

const struct ingle_kernels *check_table(void **state)
{
    return *state;
}

static int set_table(void **state)
{
    /* CMocka hands the state on as void *; the table is only read. */
    memcpy(state, &current, sizeof current);
    return 0;
}

#define CHECK_ENTRY(name) cmocka_unit_test(name),
static const struct CMUnitTest table_tests[] = {CHECK_TESTS(CHECK_ENTRY)};
static const struct CMUnitTest matmul_tests[] = {CHECK_MATMUL_TESTS(CHECK_ENTRY)};
static const struct CMUnitTest once_tests[] = {CHECK_ONCE_TESTS(CHECK_ENTRY)};

int main(int argc, char **argv)
{
    const struct ingle_kernels *tables[CHECK_TABLES_MAX], *twins[CHECK_TABLES_MAX];
    uint32_t n = ingle_kernels_all(tables, CHECK_TABLES_MAX), n_twins = check_twins(twins);
    if (argc > 1 && strcmp(argv[1], "--bench") == 0) {
        check_pattern = argc > 3 ? argv[3] : "";
        bench_machine();
        for (uint32_t i = 0; i < n; i++) {
            if (argc > 2 ? strcmp(argv[2], tables[i]->isa) == 0 : i > 0) {
                bench_rows(tables[i]);
                if (strstr("attn", check_pattern)) {
                    bench_attn(tables[i]);
                }
                bench_matmul(tables[i]);
            }
        }
        for (uint32_t i = 0; i < n_twins; i++) {
            if (argc > 2 && strcmp(argv[2], twins[i]->isa) == 0) {
                bench_matmul(twins[i]);
            }
        }
        return 0;
    }
    int failed = cmocka_run_group_tests_name("all", once_tests, NULL, NULL);
    for (uint32_t i = 0; i < n; i++) {
        current = tables[i];
        failed += cmocka_run_group_tests_name(tables[i]->isa, table_tests, set_table, NULL);
    }
    for (uint32_t i = 0; i < n_twins; i++) {
        current = twins[i];
        failed += cmocka_run_group_tests_name(twins[i]->isa, matmul_tests, set_table, NULL);
    }
    return failed != 0;
}
