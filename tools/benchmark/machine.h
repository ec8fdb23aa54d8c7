/* What the machine itself can do. Each takes well under a second. */
#ifndef INGLE_TOOLS_BENCHMARK_MACHINE_H
#define INGLE_TOOLS_BENCHMARK_MACHINE_H
#include <stdbool.h>

/* Physical cores that this process may use; at least 1. */
int machine_cores(void);
/* Bytes per second that n threads read together from memory; NAN without memory or threads. */
double machine_read(int n);
/* Multiply-adds of bytes per second that n threads do together in registers, with matrix tiles
 * where the machine has them, or in vectors alone. */
double machine_int8(int n, bool tiles);
/* Share of all processors, 0..1, that was busy for others since the last call, as far as the
 * children of this process have been waited for; NAN at the first. */
double machine_others(void);

#endif
