/* The machine's cores, through hwloc. Any thread; the topology is read at the first call. */
#ifndef INGLE_RUNTIME_BACKEND_TOPOLOGY_H
#define INGLE_RUNTIME_BACKEND_TOPOLOGY_H
#include <stdint.h>

/* Physical cores that this process may use (cgroup and affinity respected); at least 1. */
uint32_t ingle_topology_cores(void);
/* Bind the calling thread to physical core i (mod cores); failure is harmless and ignored. */
void ingle_topology_pin(uint32_t i);

#endif
