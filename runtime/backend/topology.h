/* The machine's cores and their memory, through hwloc. Any thread; the topology is read at the
 * first call. */
#ifndef INGLE_RUNTIME_BACKEND_TOPOLOGY_H
#define INGLE_RUNTIME_BACKEND_TOPOLOGY_H
#include <stdint.h>

/* Physical cores that this process may use (cgroup and affinity respected); at least 1. */
uint32_t ingle_topology_cores(void);
/* Bind the calling thread to physical core i (mod cores), and to that core's memory what it is the
 * first to touch; failure is harmless and ignored. */
void ingle_topology_pin(uint32_t i);
/* What the calling thread is the first to touch lies by turns on the memory nodes of all cores: any
 * worker reads any weights, and one node alone has a part of the machine's bandwidth. Nothing on a
 * machine with one node; failure is harmless and ignored. */
void ingle_topology_spread(void);

#endif
