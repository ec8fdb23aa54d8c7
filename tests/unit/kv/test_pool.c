/* The memory of KV pages as the kernel sees it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/kv/pool.h"

enum {
    KERNEL_PAGE = 4096
};

/* Kernel pages of a slab that are in memory. */
static uint64_t resident_pages(const struct ingle_page_slab *slab)
{
    uint64_t n = (slab->bytes + KERNEL_PAGE - 1) / KERNEL_PAGE, there = 0;
    unsigned char *state = calloc(1, n);

    assert_non_null(state);
    assert_int_equal(mincore(slab->mem, slab->bytes, state), 0);
    for (uint64_t i = 0; i < n; i++) {
        there += state[i] & 1u;
    }
    free(state);
    return there;
}

static void warming_gives_every_page_its_memory_and_changes_none(void **state)
{
    const struct ingle_kv_shape shape = {.n_groups = 2, .Hk = 2, .D = 64, .group_layers = {3, 1}};
    const struct ingle_cpu_options options = {.n_workers = 1};
    struct ingle_backend *backend;
    struct ingle_kv_pool pool;
    uint32_t n_steps = 0;
    char page[2 * KERNEL_PAGE] = {0};

    (void)state;
    if (!ingle_mem_populate(page + KERNEL_PAGE - (uintptr_t)page % KERNEL_PAGE, KERNEL_PAGE)) {
        print_message("a kernel before 5.14 gives no memory before it is written\n");
        skip();
    }
    assert_int_equal(ingle_backend_cpu_create(&options, &backend, NULL), 0);
    assert_int_equal(ingle_kv_pool_init(&pool, backend, &shape, 4, 24 << 20, 8, NULL), 0);
    for (uint32_t i = 0; i < pool.n_pages; i += 7) {
        memset(pool.pages[i].mem, (int)(i % 255 + 1), 64);
    }
    while (ingle_kv_pool_warm(&pool)) {
        n_steps++;
    }
    assert_false(ingle_kv_pool_warm(&pool));
    assert_true(n_steps >= pool.bytes >> 21 && n_steps <= (pool.bytes >> 21) + 6);
    for (uint32_t g = 0; g < shape.n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            const struct ingle_page_slab *slab = &pool.slabs[g][u];

            assert_int_equal(resident_pages(slab), (slab->bytes + KERNEL_PAGE - 1) / KERNEL_PAGE);
        }
    }
    for (uint32_t i = 0; i < pool.n_pages; i++) {
        uint8_t first = i % 7 == 0 ? (uint8_t)(i % 255 + 1) : 0;

        assert_int_equal(pool.pages[i].mem[0], first);
        assert_int_equal(pool.pages[i].mem[63], first);
        assert_int_equal(pool.pages[i].mem[64], 0);
    }
    ingle_kv_pool_fini(&pool);
    ingle_backend_destroy(backend);
}

static void a_backend_that_gives_no_memory_ends_the_warming(void **state)
{
    const struct ingle_kv_shape shape = {.n_groups = 1, .Hk = 1, .D = 16, .group_layers = {1}};
    struct ingle_backend *backend;
    struct ingle_kv_pool pool;

    (void)state;
    assert_int_equal(ingle_backend_null_create(&backend, NULL), 0);
    assert_int_equal(ingle_kv_pool_init(&pool, backend, &shape, 8, 1 << 20, 8, NULL), 0);
    assert_false(ingle_kv_pool_warm(&pool));
    ingle_kv_pool_fini(&pool);
    ingle_backend_destroy(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warming_gives_every_page_its_memory_and_changes_none),
        cmocka_unit_test(a_backend_that_gives_no_memory_ends_the_warming),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
