/* What the files of checkkern share: the table under test, repeatable random numbers, running an op
 * as several workers would, comparing bits, and the clock of the benchmark. */
#ifndef INGLE_TESTS_UNIT_KERNELS_CHECK_H
#define INGLE_TESTS_UNIT_KERNELS_CHECK_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels/kernels.h"

struct check_rng {
    uint64_t s;
};
uint32_t check_u32(struct check_rng *rng);
float check_float(struct check_rng *rng); /* about normal, mean 0, deviation 1 */
void check_floats(struct check_rng *rng, float *x, uint64_t n);

/* Zeroed, 64-byte aligned, padded to a line, behind which a page faults; check_free verifies the
 * padding and what lies before. Fails the test when there is no memory. */
void *check_alloc(uint64_t bytes);
/* The same for n floats, but at the alignment of a float and of no vector of 16 bytes and more; the
 * page that faults is no more than one float behind them. */
float *check_alloc_floats(uint64_t n);
void check_free(const void *p);

/* Random GGUF rows with finite scales of a size that weights have. */
void check_gguf_rows(struct check_rng *rng, enum ingle_wtype type, uint32_t rows, uint32_t cols,
                     uint8_t *dst);
uint64_t check_gguf_row_bytes(enum ingle_wtype type, uint32_t cols);
/* Set every byte of quantised rows that is not part of an f16 scale. */
void check_gguf_fill(enum ingle_wtype type, uint32_t rows, uint32_t cols, uint8_t byte,
                     uint8_t *dst);
/* A packed random matrix; check_free(matrix.data). */
struct ingle_matrix check_matrix(struct check_rng *rng, enum ingle_wtype type, uint32_t rows,
                                 uint32_t cols);
/* T zeroed activation rows; check_free(act.rows). */
struct ingle_act check_act(enum ingle_act_mode mode, uint32_t T, uint32_t cols);

/* Run every share of an op, one after the other. */
void check_run(const struct ingle_kernels *table, const struct ingle_op *op, uint32_t workers);
/* The same in any order, each worker with a scratch of its own noise; at most 16. */
void check_run_shuffled(const struct ingle_kernels *table, const struct ingle_op *op,
                        uint32_t workers, struct check_rng *rng);
/* Bands of any heights for as many as `workers` of T rows, none if they are too few; returns for
 * how many. */
uint32_t check_bands(struct check_rng *rng, uint32_t T, uint32_t workers, struct ingle_bands *ret);
/* Equal bits, any NaN being equal to any other. what and the index name the first difference. */
void check_same_floats(const float *a, const float *b, uint64_t n, const char *what);

/* Tables whose products are twins of what this machine cannot execute (twins.h); ret has room for
 * CHECK_TABLES_MAX. */
enum {
    CHECK_TABLES_MAX = 8
};
uint32_t check_twins(const struct ingle_kernels *ret[]);

/* The table under test, from a CMocka state. */
const struct ingle_kernels *check_table(void **state);

/* The tests of the matrix product, to be run for twins also. */
#define CHECK_MATMUL_TESTS(X)                       \
    X(matmul_equals_reference)                      \
    X(matmul_of_three_matrices_equals_reference)    \
    X(matmul_in_bands_equals_reference)             \
    X(matmul_row_does_not_depend_on_its_companions) \
    X(matmul_of_extreme_codes_equals_reference)     \
    X(matmul_of_nan_activations_is_nan)             \
    X(matmul_of_gate_and_up_equals_reference)       \
    X(matmul_of_gate_and_up_is_close_to_exact_glu)  \
    X(head_equals_reference)                        \
    X(head_lists_the_largest_of_each_row)           \
    X(head_statistics_are_those_of_the_whole_row)   \
    X(qkv_equals_reference)                         \
    X(qkv_in_bands_by_threads_equals_that_of_one)

/* The tests of each file, to be run for every table. */
#define CHECK_TESTS(X)                                  \
    X(embed_equals_dequantised_rows)                    \
    X(quant_equals_reference)                           \
    X(quant_of_nan_or_huge_poisons_its_group_only)      \
    X(quant_scale_is_the_next_of_four_significant_bits) \
    X(quant_to_bf16_rounds_to_even_and_keeps_nan)       \
    X(norm_equals_reference)                            \
    X(rows_in_bands_equal_reference)                    \
    X(row_stat_equals_reference)                        \
    X(row_stat_takes_lowest_index_on_a_tie)             \
    CHECK_MATMUL_TESTS(X)                               \
    X(attn_of_f16_pages_agrees_with_plain_softmax)      \
    X(attn_at_any_base_agrees_with_direct_rotation)     \
    X(attn_of_q8_pages_is_within_tolerance)             \
    X(attn_of_q4_pages_is_within_tolerance)             \
    X(attn_and_pages_equal_reference)                   \
    X(attn_does_not_depend_on_the_cut)                  \
    X(attn_does_not_depend_on_companions_or_workers)    \
    X(attn_in_codes_equals_the_codes_of_attn)           \
    X(attn_of_random_codes_equals_reference)            \
    X(attn_of_any_bytes_returns)                        \
    X(attn_of_nan_query_is_nan_in_its_head_only)        \
    X(attn_by_parts_equals_reference)                   \
    X(attn_of_long_contexts_agrees_with_plain_softmax)  \
    X(attn_of_nan_query_stays_in_its_head_when_shared)  \
    X(attn_shared_by_threads_equals_that_of_one)        \
    X(qkv_and_attn_of_no_rows_touch_nothing)            \
    X(qkv_keeps_pages_finite)                           \
    X(seal_codes_are_within_half_a_step)                \
    X(seal_of_equal_values_has_scale_one)

/* The tests of what does not depend on a table. */
#define CHECK_ONCE_TESTS(X)                                   \
    X(dequantised_rows_equal_the_gguf_library)                \
    X(packing_of_infinite_scale_is_refused)                   \
    X(packing_by_row_list_equals_packing_in_order)            \
    X(packed_size_is_near_gguf_size)                          \
    X(workers_divide_every_tile_and_row_and_know_their_first) \
    X(workers_divide_q_k_and_v_and_know_their_first)          \
    X(workers_in_bands_have_all_of_their_rows)                \
    X(matmul_reference_is_close_to_double_precision)          \
    X(half_conversions_round_to_nearest_even)                 \
    X(expf_is_close_to_exp)                                   \
    X(kv_layer_bytes_are_those_of_the_table)

#define CHECK_DECLARE(name) void name(void **state);
CHECK_TESTS(CHECK_DECLARE)
CHECK_ONCE_TESTS(CHECK_DECLARE)
#undef CHECK_DECLARE

/* ---- benchmark ---- */
/* Seconds of one call of run(arg), the least of several rounds. */
double check_time(void (*run)(void *arg), void *arg);
/* Op on n threads at once: seconds, least of several rounds. */
double check_time_op(const struct ingle_kernels *table, const struct ingle_op *ops, uint32_t n_ops,
                     uint32_t workers);

/* The benchmark prints only lines whose name or type contains this; "" for all. */
extern const char *check_pattern;

void bench_machine(void);
void bench_attn(const struct ingle_kernels *table);
void bench_matmul(const struct ingle_kernels *table);
void bench_rows(const struct ingle_kernels *table);

#endif
