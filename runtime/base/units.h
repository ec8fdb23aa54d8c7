/* Numbers as people write them: byte counts with units. */
#ifndef INGLE_RUNTIME_BASE_UNITS_H
#define INGLE_RUNTIME_BASE_UNITS_H
#include <stdint.h>

#include "runtime/base/error.h"

#define INGLE_KIB (UINT64_C(1) << 10)
#define INGLE_MIB (UINT64_C(1) << 20)
#define INGLE_GIB (UINT64_C(1) << 30)

/* "512", "64 KiB", "1.5GiB" (K, KB, KiB mean the same, powers of 1024). -EINVAL, -ERANGE. */
int ingle_units_parse_bytes(const char *text, uint64_t *ret_bytes) INGLE_MUST_CHECK;

/* "5.1 GiB", "512 B". */
struct ingle_units_text {
    char s[24];
};
struct ingle_units_text ingle_units_bytes(uint64_t bytes);

#endif
