/* The CPU backend's workers: every op is every worker's, one op after the other, whatever the
 * machine does to a worker meanwhile. The ops are the test's own; kernels have tests of theirs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "runtime/backend/backend.h"
#include "runtime/base/clock.h"
#include "tests/stopper.h"

enum {
    WORKERS = 5,
    OPS = 400,
    PROGRAMS = 6
};

/* What an op leaves for the next: a number of each worker. Two ops may not write the same. */
static struct {
    struct ingle_op ops[OPS];
    uint64_t cells[2][WORKERS];
    _Atomic uint32_t n_wrong_workers;
} world;

static uint64_t mixed(uint64_t own, uint64_t neighbour, uint32_t op, uint32_t worker)
{
    return (own * 6364136223846793005u + neighbour) ^ ((uint64_t)op << 8 | worker);
}

static void next_cells(uint64_t cells[2][WORKERS], uint32_t op, uint32_t worker, uint32_t count)
{
    const uint64_t *from = cells[op % 2];

    cells[(op + 1) % 2][worker] = mixed(from[worker], from[(worker + 1) % count], op, worker);
}

/* Reads what another worker wrote in the op before. */
static void take_neighbour(const struct ingle_op *op, const struct ingle_worker *worker)
{
    if (worker->index >= worker->count || worker->count > WORKERS || worker->scratch == NULL) {
        (void)atomic_fetch_add_explicit(&world.n_wrong_workers, 1, memory_order_relaxed);
        return;
    }
    worker->scratch[0] = (uint8_t)worker->index;
    worker->scratch[INGLE_SCRATCH_BYTES - 1] = (uint8_t)worker->index;
    next_cells(world.cells, (uint32_t)(op - world.ops), worker->index, worker->count);
}

static const struct ingle_kernels kernels = {.isa = "test",
                                             .op = {[INGLE_K_QUANT] = take_neighbour}};

static struct ingle_backend *create(uint32_t n_workers, uint32_t spin_us)
{
    const struct ingle_cpu_options options = {.n_workers = n_workers,
                                              .kernels = &kernels,
                                              .spin_us = spin_us};
    struct ingle_backend *backend;

    assert_int_equal(ingle_backend_cpu_create(&options, &backend, NULL), 0);
    for (uint32_t i = 0; i < OPS; i++) {
        world.ops[i] = (struct ingle_op){.kind = INGLE_K_QUANT};
    }
    memset(world.cells, 0, sizeof world.cells);
    return backend;
}

static void submit(struct ingle_backend *backend, uint32_t n_ops)
{
    backend->ops->wait(backend, backend->ops->submit(backend, world.ops, n_ops));
}

/* The same on one thread. */
static void expect_cells(uint32_t n_workers, uint32_t n_programs)
{
    uint64_t cells[2][WORKERS] = {{0}};

    for (uint32_t i = 0; i < n_programs * OPS; i++) {
        for (uint32_t w = 0; w < n_workers; w++) {
            next_cells(cells, i % OPS, w, n_workers);
        }
    }
    assert_memory_equal(world.cells, cells, sizeof cells);
    assert_int_equal(atomic_load_explicit(&world.n_wrong_workers, memory_order_relaxed), 0);
}

static void an_op_sees_what_every_worker_wrote_in_the_one_before(void **state)
{
    static const uint32_t spins_us[] = {0, 20};

    (void)state;
    for (uint32_t n = 1; n <= WORKERS; n++) {
        for (uint32_t i = 0; i < sizeof spins_us / sizeof spins_us[0]; i++) {
            struct ingle_backend *backend = create(n, spins_us[i]);

            for (uint32_t p = 0; p < PROGRAMS; p++) {
                submit(backend, OPS);
            }
            expect_cells(n, PROGRAMS);
            ingle_backend_destroy(backend);
        }
    }
}

/* How many ops of the program each worker has begun. */
static struct {
    _Atomic uint32_t n_begun[2];
    _Atomic bool too_early;
} progress;

/* Worker 0 waits in the first op until worker 1 has begun the last one of the same bands. */
static void note_progress(const struct ingle_op *op, const struct ingle_worker *worker)
{
    uint32_t i = (uint32_t)(op - world.ops);

    (void)atomic_fetch_add_explicit(&progress.n_begun[worker->index], 1, memory_order_seq_cst);
    while (i == 0 && worker->index == 0 &&
           atomic_load_explicit(&progress.n_begun[1], memory_order_seq_cst) < 3) {
        (void)usleep(100);
    }
    if (i == 0 && worker->index == 0) {
        (void)usleep(20000); /* time to go too far */
    }
    if (i >= 3 &&
        atomic_load_explicit(&progress.n_begun[1 - worker->index], memory_order_seq_cst) < i) {
        atomic_store_explicit(&progress.too_early, true, memory_order_seq_cst);
    }
}

static void ops_of_the_same_bands_wait_for_nobody_and_others_for_all(void **state)
{
    struct ingle_backend *backend = create(2, 20);
    struct ingle_bands bands = {.n = 2}, others = {.n = 2};
    const struct ingle_kernels noting = {.isa = "test", .op = {[INGLE_K_QUANT] = note_progress}};

    (void)state;
    backend->kernels = &noting;
    assert_int_equal(backend->n_workers, 2);
    for (uint32_t i = 0; i < 3; i++) {
        world.ops[i].bands = &bands;
    }
    world.ops[3].bands = &others; /* .. and op 4 and on have none */
    submit(backend, 6);
    assert_int_equal(atomic_load_explicit(&progress.n_begun[0], memory_order_seq_cst), 6);
    assert_int_equal(atomic_load_explicit(&progress.n_begun[1], memory_order_seq_cst), 6);
    assert_false(atomic_load_explicit(&progress.too_early, memory_order_seq_cst));
    ingle_backend_destroy(backend);
}

static void a_program_without_ops_is_done_at_once(void **state)
{
    struct ingle_backend *backend = create(2, 20);

    (void)state;
    submit(backend, 0);
    submit(backend, OPS);
    submit(backend, 0);
    expect_cells(2, 1);
    assert_true(backend->ops->idle_ns(backend) > 0);
    ingle_backend_destroy(backend);
}

static void a_worker_that_is_stopped_for_a_second_delays_and_changes_nothing(void **state)
{
    struct ingle_backend *backend = create(3, 20);
    uint32_t n = 1;
    uint64_t longest = 0;
    struct stopper stopper;

    (void)state;
    submit(backend, OPS); /* now the workers have their names */
    stopper_begin(&stopper, "ingle-work/1", 20000);
    for (; !stopper_is_over(&stopper); n++) {
        uint64_t began = ingle_clock_ns(), ns;

        submit(backend, OPS);
        ns = ingle_clock_ns() - began;
        longest = ns > longest ? ns : longest;
    }
    assert_true(stopper_end(&stopper));
    assert_true(longest >= 900000000);
    expect_cells(3, n);
    ingle_backend_destroy(backend);
}

static uint64_t process_us(void)
{
    struct rusage used;

    assert_int_equal(getrusage(RUSAGE_SELF, &used), 0);
    return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static void workers_without_work_take_no_processor_time(void **state)
{
    struct ingle_backend *backend = create(WORKERS, 20);
    uint64_t before;

    (void)state;
    submit(backend, OPS);
    (void)usleep(50000); /* spinning ends */
    before = process_us();
    (void)usleep(400000);
    assert_true(process_us() - before < 40000);
    submit(backend, OPS);
    expect_cells(WORKERS, 2);
    ingle_backend_destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_op_sees_what_every_worker_wrote_in_the_one_before),
        cmocka_unit_test(ops_of_the_same_bands_wait_for_nobody_and_others_for_all),
        cmocka_unit_test(a_program_without_ops_is_done_at_once),
        cmocka_unit_test(a_worker_that_is_stopped_for_a_second_delays_and_changes_nothing),
        cmocka_unit_test(workers_without_work_take_no_processor_time),
    };
    return cmocka_run_group_tests_name("cpu_backend", tests, NULL, NULL);
}
