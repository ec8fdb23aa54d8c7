/* Owns the hwloc topology for the life of the process: read once, then only read. */
#include "runtime/backend/topology.h"

#include <pthread.h>

#include <hwloc.h>

static hwloc_topology_t topology;
static uint32_t n_cores;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    int n;

    n_cores = 1;
    if (hwloc_topology_init(&topology) != 0 || hwloc_topology_load(topology) != 0) {
        topology = NULL;
        return;
    }
    n = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    n_cores = n > 0 ? (uint32_t)n : 1;
}

uint32_t ingle_topology_cores(void)
{
    (void)pthread_once(&once, load);
    return n_cores;
}

void ingle_topology_pin(uint32_t i)
{
    hwloc_obj_t core;

    (void)pthread_once(&once, load);
    if (topology == NULL) {
        return;
    }
    core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, i % n_cores);
    if (core != NULL) {
        (void)hwloc_set_cpubind(topology, core->cpuset, HWLOC_CPUBIND_THREAD);
    }
}
