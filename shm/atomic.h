/* The types of words that two processes share, spelled for C11 and for C++17. Only the types are
 * here: every access is in a .c of this folder, so that no header needs either language's calls. */
#ifndef INGLE_SHM_ATOMIC_H
#define INGLE_SHM_ATOMIC_H

#ifdef __cplusplus
#include <atomic>
#include <cstdint>
#define INGLE_ATOMIC_U32 std::atomic<std::uint32_t>
#define INGLE_ATOMIC_U64 std::atomic<std::uint64_t>
static_assert(sizeof(INGLE_ATOMIC_U32) == 4 && sizeof(INGLE_ATOMIC_U64) == 8, "plain words");
#else
#include <stdint.h>
#define INGLE_ATOMIC_U32 _Atomic uint32_t
#define INGLE_ATOMIC_U64 _Atomic uint64_t
_Static_assert(sizeof(INGLE_ATOMIC_U32) == 4 && sizeof(INGLE_ATOMIC_U64) == 8, "plain words");
#endif

#endif
