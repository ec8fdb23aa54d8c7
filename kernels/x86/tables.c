/* Owns the tables of x86-64 and the questions to CPUID. A table names the fastest variant of each
 * operation that its instruction set can execute; where a set has none of its own, the next lower
 * one stands in. */
#include <cpuid.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernels/isa.h"

static const struct ingle_kernels table_avx2 = {
    .isa = "avx2",
    .op =
        {
            [INGLE_K_EMBED] = ingle_embed_avx2,
            [INGLE_K_NORM] = ingle_norm_avx2,
            [INGLE_K_QUANT] = ingle_quant_avx2,
            [INGLE_K_MATMUL] = ingle_matmul_avx2,
            [INGLE_K_QKV] = ingle_qkv_avx2,
            [INGLE_K_ATTN] = ingle_attn_avx2,
            [INGLE_K_HEAD] = ingle_head_avx2,
        },
    .row_stat = ingle_row_stat_avx2,
};

/* VPDPBUSD in registers of 256 bits. */
static const struct ingle_kernels table_avxvnni = {
    .isa = "avxvnni",
    .op =
        {
            [INGLE_K_EMBED] = ingle_embed_avx2,
            [INGLE_K_NORM] = ingle_norm_avx2,
            [INGLE_K_QUANT] = ingle_quant_avx2,
            [INGLE_K_MATMUL] = ingle_matmul_avxvnni,
            [INGLE_K_QKV] = ingle_qkv_avxvnni,
            [INGLE_K_ATTN] = ingle_attn_avx2,
            [INGLE_K_HEAD] = ingle_head_avxvnni,
        },
    .row_stat = ingle_row_stat_avxvnni,
};

static const struct ingle_kernels table_avx512 = {
    .isa = "avx512vnni",
    .op =
        {
            [INGLE_K_EMBED] = ingle_embed_avx512,
            [INGLE_K_NORM] = ingle_norm_avx512,
            [INGLE_K_QUANT] = ingle_quant_avx512,
            [INGLE_K_MATMUL] = ingle_matmul_avx512,
            [INGLE_K_QKV] = ingle_qkv_avx512,
            [INGLE_K_ATTN] = ingle_attn_avx512,
            [INGLE_K_HEAD] = ingle_head_avx512,
        },
    .row_stat = ingle_row_stat_avx512,
};

/* Tile products: of 8-bit integers for many rows, of bfloat16 for any. */
static const struct ingle_kernels table_amx = {
    .isa = "amx",
    .op =
        {
            [INGLE_K_EMBED] = ingle_embed_avx512,
            [INGLE_K_NORM] = ingle_norm_avx512,
            [INGLE_K_QUANT] = ingle_quant_avx512,
            [INGLE_K_MATMUL] = ingle_matmul_amx,
            [INGLE_K_QKV] = ingle_qkv_amx,
            [INGLE_K_ATTN] = ingle_attn_avx512,
            [INGLE_K_HEAD] = ingle_head_amx,
        },
    .row_stat = ingle_row_stat_amx,
    .bf16 = true,
};

/* __builtin_cpu_supports also asks whether the system saves the registers; F16C it does not know
 * in every compiler. */
static bool has_avx2(void)
{
    unsigned int eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0 &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* Its registers are AVX2's, so nothing more is asked of the system. */
static bool has_avxvnni(void)
{
    unsigned int eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
           (eax & bit_AVXVNNI) != 0;
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/* Tiles are 8 KiB of state for each thread, which the system saves only for a process that has
 * asked to use them. Asking holds for all its threads, and asking again changes nothing. A system
 * that knows nothing of them, or has too little room where a thread's signals are handled, refuses.
 */
static bool has_amx(void)
{
    enum {
        TILE_INT8_BF16 = 1 << 24 | 1 << 25 | 1 << 22, /* EDX of leaf 7 */
        REQ_XCOMP_PERM = 0x1023,                      /* arch_prctl */
        XTILEDATA = 18
    };
    unsigned int eax, ebx, ecx, edx;
    return has_avx512() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 &&
           (edx & TILE_INT8_BF16) == TILE_INT8_BF16 && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512bf16") &&
           syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}

uint32_t ingle_kernels_isa(const struct ingle_kernels *ret[], uint32_t max)
{
    uint32_t n = 0;
    if (n < max && has_avx2()) {
        ret[n++] = &table_avx2;
    }
    if (n < max && has_avxvnni()) {
        ret[n++] = &table_avxvnni;
    }
    if (n < max && has_avx512()) {
        ret[n++] = &table_avx512;
    }
    if (n < max && has_amx()) {
        ret[n++] = &table_amx;
    }
    return n;
}
