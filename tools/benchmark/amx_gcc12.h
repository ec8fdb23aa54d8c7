/* Included before every file of llama.cpp that `setup` builds: gcc 12's intrinsics do not tell the
 * compiler that LDTILECFG reads 64 bytes, nor that TILELOADD reads memory at all. Stores before
 * them are dropped, and what is built so dies of SIGILL on processors with AMX. */
#ifdef __AMX_TILE__
#include <immintrin.h>
#undef _tile_loadd_internal
#define _tile_loadd_internal(tile, base, stride)                  \
    __asm__("tileloadd (%0,%1,1), %%tmm" #tile                    \
            :                                                     \
            : "r"((const void *)(base)), "r"((long long)(stride)) \
            : "memory")
#define _tile_loadconfig(config) \
    __asm__("ldtilecfg %0" : : "m"(*(const char(*)[64])(const void *)(config)))
#endif
