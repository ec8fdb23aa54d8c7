/* Owns the hwloc topology for the life of the process: read once, then only read. */
#include "runtime/backend/topology.h"

#include <pthread.h>

#include <hwloc.h>

static hwloc_topology_t topology;
static hwloc_bitmap_t nodes; /* of the cores' memory, NULL: one, or unknown */
static uint32_t n_cores;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Each core's first node: the others of its place are slower memory, or memory of a device. */
static hwloc_bitmap_t find_nodes(void)
{
    hwloc_bitmap_t found = hwloc_bitmap_alloc();

    for (uint32_t i = 0; found != NULL && i < n_cores; i++) {
        hwloc_obj_t core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, i);

        if (core != NULL && hwloc_bitmap_first(core->nodeset) >= 0) {
            (void)hwloc_bitmap_set(found, (unsigned)hwloc_bitmap_first(core->nodeset));
        }
    }
    if (found != NULL && hwloc_bitmap_weight(found) < 2) {
        hwloc_bitmap_free(found);
        found = NULL;
    }
    return found;
}

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
    nodes = find_nodes();
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
    if (nodes != NULL) {
        (void)hwloc_set_membind(topology, nodes, HWLOC_MEMBIND_DEFAULT,
                                HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET);
    }
}

void ingle_topology_spread(void)
{
    (void)pthread_once(&once, load);
    if (nodes != NULL) {
        (void)hwloc_set_membind(topology, nodes, HWLOC_MEMBIND_INTERLEAVE,
                                HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET);
    }
}
