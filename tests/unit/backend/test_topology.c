/* Where memory goes on a machine with two memory nodes. hwloc describes one that is not there (its
 * HWLOC_SYNTHETIC); what the kernel was asked for is read back from the kernel. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/backend/topology.h"

/* linux/mempolicy.h, which not every system has */
enum {
    POLICY_DEFAULT = 0,
    POLICY_INTERLEAVE = 3
};

/* The calling thread's. */
static int policy(void)
{
    int mode = -1;

    return syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) == 0 ? mode : -1;
}

struct seen {
    int inherited, pinned;
};

static void *pinned_main(void *arg)
{
    struct seen *seen = arg;

    seen->inherited = policy();
    ingle_topology_pin(1);
    seen->pinned = policy();
    return NULL;
}

static void memory_is_spread_over_nodes_and_a_pinned_thread_keeps_to_its_own(void **state)
{
    struct seen seen;
    pthread_t thread;

    (void)state;
    if (syscall(SYS_set_mempolicy, POLICY_DEFAULT, NULL, 0) != 0) {
        print_message("the kernel, or a container's rules, refuse memory policies\n");
        skip();
    }
    assert_int_equal(ingle_topology_cores(), 4);
    assert_int_equal(policy(), POLICY_DEFAULT);
    ingle_topology_spread();
    assert_int_equal(policy(), POLICY_INTERLEAVE);
    assert_int_equal(pthread_create(&thread, NULL, pinned_main, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(seen.inherited, POLICY_INTERLEAVE);
    assert_int_equal(seen.pinned, POLICY_DEFAULT);
    assert_int_equal(policy(), POLICY_INTERLEAVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_spread_over_nodes_and_a_pinned_thread_keeps_to_its_own),
    };

    if (setenv("HWLOC_SYNTHETIC", "numa:2 core:2 pu:1", 1) != 0 ||
        setenv("HWLOC_THISSYSTEM", "1", 1) != 0) {
        return 1;
    }
    return cmocka_run_group_tests_name("topology", tests, NULL, NULL);
}
