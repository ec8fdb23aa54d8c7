/* Several arrays in one mapping: each takes its 64-byte aligned piece in turn. Laying out from NULL
 * only counts the bytes. No state; any thread. */
#ifndef INGLE_RUNTIME_BASE_CARVE_H
#define INGLE_RUNTIME_BASE_CARVE_H
#include <stdint.h>

/* The next `bytes` at *at, which moves behind them. Borrowed from the mapping. */
static inline void *ingle_carve(uint8_t **at, uint64_t bytes)
{
    uint8_t *p = *at;

    *at += (bytes + 63) / 64 * 64;
    return p;
}

#endif
