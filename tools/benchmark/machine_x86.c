/* The machine's widest loads and multiply-adds of bytes, each behind a question to CPUID. Owns
 * nothing. Thread: any. */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <immintrin.h>

#include "tools/benchmark/machine_work.h"

#define INT8_LOOPS (4u << 20)
#define CHAINS     12u /* more than latency times units, few enough for 16 registers */

__attribute__((target("avx512f"))) static void read_avx512(struct machine_worker *w)
{
    w->result += machine_read_lines(w->data, w->bytes);
}

__attribute__((target("avx2"))) static void read_avx2(struct machine_worker *w)
{
    w->result += machine_read_lines(w->data, w->bytes);
}

/* ---- multiply-adds --------------------------------------------------------------------------- */

/* The operand goes through an empty asm in each turn: the compiler must not take a product out of
 * the loop. */
__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(struct machine_worker *w)
{
    __m512i sum[CHAINS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);

    for (size_t i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_si512();
    }
    for (uint32_t n = 0; n < INT8_LOOPS; n++) {
        __asm__("" : "+v"(a));
        for (size_t i = 0; i < CHAINS; i++) {
            sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
        }
    }
    for (size_t i = 0; i < CHAINS; i++) {
        w->result += (uint64_t)_mm512_reduce_add_epi32(sum[i]);
    }
}

static inline __attribute__((always_inline, target("avx2"))) uint64_t total_avx2(__m256i x)
{
    return (uint64_t)_mm256_extract_epi32(x, 0) + (uint64_t)_mm256_extract_epi32(x, 7);
}

__attribute__((target("avx2,avxvnni"))) static void int8_avxvnni(struct machine_worker *w)
{
    __m256i sum[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(1);

    for (size_t i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    for (uint32_t n = 0; n < INT8_LOOPS; n++) {
        __asm__("" : "+x"(a));
        for (size_t i = 0; i < CHAINS; i++) {
            sum[i] = _mm256_dpbusd_avx_epi32(sum[i], a, b);
        }
    }
    for (size_t i = 0; i < CHAINS; i++) {
        w->result += total_avx2(sum[i]);
    }
}

__attribute__((target("avx2"))) static void int8_avx2(struct machine_worker *w)
{
    __m256i sum[CHAINS], a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(1);
    const __m256i ones = _mm256_set1_epi16(1);

    for (size_t i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    for (uint32_t n = 0; n < INT8_LOOPS; n++) {
        for (size_t i = 0; i < CHAINS; i++) {
            __asm__("" : "+x"(a));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
        }
    }
    for (size_t i = 0; i < CHAINS; i++) {
        w->result += total_avx2(sum[i]);
    }
}

/* Tiles of 16 x 64 bytes, all that there are: four products, of which none waits for another. */
#define TILE_PRODUCTS (4 * 16 * 16 * 64)
#define TILE_LOOPS    (1u << 19)

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

__attribute__((target("amx-tile,amx-int8"))) static void int8_amx(struct machine_worker *w)
{
    static const struct tile_config config = {.palette = 1,
                                              .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                              .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

    (void)w; /* sums of zeros are as long in coming, and tiles' instructions are never left out */
    _tile_loadconfig(&config);
    for (uint32_t n = 0; n < TILE_LOOPS; n++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
}

/* The system keeps tiles' registers for those who have asked; asking again changes nothing. */
static bool has_amx(void)
{
    enum {
        TILE_INT8 = 1 << 24 | 1 << 25, /* EDX of leaf 7 */
        REQ_XCOMP_PERM = 0x1023,
        XTILEDATA = 18
    };
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & TILE_INT8) == TILE_INT8 &&
           syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}

static bool has_avxvnni(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
           (eax & 1u << 4) != 0;
}

machine_work_fn *machine_read_work(void)
{
    return __builtin_cpu_supports("avx512f") ? read_avx512
           : __builtin_cpu_supports("avx2")  ? read_avx2
                                             : NULL;
}

machine_work_fn *machine_int8_work(bool tiles, double *ret_products)
{
    if (tiles && has_amx()) {
        *ret_products = (double)TILE_PRODUCTS * TILE_LOOPS;
        return int8_amx;
    }
    *ret_products = 32.0 * CHAINS * INT8_LOOPS;
    if (__builtin_cpu_supports("avx512vnni")) {
        *ret_products *= 2;
        return int8_avx512;
    }
    if (has_avxvnni()) {
        return int8_avxvnni;
    }
    return __builtin_cpu_supports("avx2") ? int8_avx2 : NULL;
}
