/* Measures the machine: reading with 64-byte loads over buffers far larger than the caches, and the
 * widest multiply-add of bytes that CPUID names, on registers alone. Owns its threads and buffers
 * during a call. The best of several passes counts: a limit is what the machine can do, not what it
 * did. Thread: main, and those it starts. */
#include "tools/benchmark/machine.h"

#include <cpuid.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <immintrin.h>

#include "tools/benchmark/bench.h"

#define THREADS_MAX  256
#define PASSES       7
#define BUFFER_BYTES (512u << 20) /* of all threads together: many times any cache we expect */
#define BLOCK_BYTES  512u
#define INT8_LOOPS   (4u << 20)
#define CHAINS       12u /* more than latency times units, few enough for 16 registers */

int machine_cores(void)
{
    char seen[THREADS_MAX][64], path[96];
    cpu_set_t allowed;
    int n = 0;

    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return 1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && n < THREADS_MAX; cpu++) {
        FILE *file = NULL;
        int same = 0;

        if (!CPU_ISSET(cpu, &allowed)) {
            continue;
        }
        (void)snprintf(path, sizeof path,
                       "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
        file = fopen(path, "re");
        if (file == NULL || fgets(seen[n], sizeof seen[n], file) == NULL) {
            (void)snprintf(seen[n], sizeof seen[n], "%d", cpu);
        }
        if (file != NULL) {
            (void)fclose(file);
        }
        while (same < n && strcmp(seen[same], seen[n]) != 0) {
            same++;
        }
        n += same == n;
    }
    return n > 0 ? n : 1;
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    void (*work)(struct worker *w);
    const uint8_t *data; /* of machine_read */
    size_t bytes;
    uint64_t result; /* so that the compiler cannot leave the work out */
};

/* ---- reading --------------------------------------------------------------------------------- */

/* Eight loads of 64 bytes at a time into eight sums, in whatever registers the caller's target
 * has. */
static inline __attribute__((always_inline)) uint64_t read_all(const uint8_t *data, size_t bytes)
{
    typedef uint64_t line __attribute__((vector_size(64)));
    line sum[BLOCK_BYTES / 64] = {{0}};
    uint64_t result = 0;

    for (size_t at = 0; at + BLOCK_BYTES <= bytes; at += BLOCK_BYTES) {
        const line *block = (const line *)(const void *)(data + at);

        for (size_t i = 0; i < BLOCK_BYTES / 64; i++) {
            sum[i] ^= block[i];
        }
    }
    for (size_t i = 0; i < BLOCK_BYTES / 64; i++) {
        result += sum[i][0] + sum[i][7];
    }
    return result;
}

__attribute__((target("avx512f"))) static void read_avx512(struct worker *w)
{
    w->result += read_all(w->data, w->bytes);
}

__attribute__((target("avx2"))) static void read_avx2(struct worker *w)
{
    w->result += read_all(w->data, w->bytes);
}

static void read_plain(struct worker *w)
{
    w->result += read_all(w->data, w->bytes);
}

/* ---- multiply-adds --------------------------------------------------------------------------- */

/* The operand goes through an empty asm in each turn: the compiler must not take a product out of
 * the loop. */
__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(struct worker *w)
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

__attribute__((target("avx2,avxvnni"))) static void int8_avxvnni(struct worker *w)
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

__attribute__((target("avx2"))) static void int8_avx2(struct worker *w)
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

/* ---- several threads ------------------------------------------------------------------------- */

static void *run(void *arg)
{
    struct worker *w = arg;

    for (int pass = 0; pass < PASSES; pass++) {
        (void)pthread_barrier_wait(w->barrier);
        w->work(w);
        (void)pthread_barrier_wait(w->barrier);
    }
    return NULL;
}

/* Seconds of the best pass in which every thread does its work once; NAN: no threads. */
static double best_pass(struct worker *workers, int n)
{
    pthread_barrier_t barrier;
    double best = (double)NAN;
    int started = 0;

    if (pthread_barrier_init(&barrier, NULL, (unsigned)n) != 0) {
        return best;
    }
    for (int i = 0; i < n; i++) {
        workers[i].barrier = &barrier;
    }
    while (started < n - 1 &&
           pthread_create(&workers[started].thread, NULL, run, &workers[started]) == 0) {
        started++;
    }
    if (started < n - 1) { /* those at the barrier wait for ever */
        (void)fprintf(stderr, "bench: cannot start %d threads\n", n);
        exit(1);
    }
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t t;

        (void)pthread_barrier_wait(&barrier);
        t = bench_now_ns();
        workers[n - 1].work(&workers[n - 1]);
        (void)pthread_barrier_wait(&barrier);
        best = fmin(best, (double)(bench_now_ns() - t) / 1e9); /* the number where one is NAN */
    }
    for (int i = 0; i < started; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    (void)pthread_barrier_destroy(&barrier);
    return best;
}

double machine_read(int n)
{
    struct worker workers[THREADS_MAX] = {{0}};
    double best;
    uint8_t *data;
    size_t share;

    n = n < THREADS_MAX ? n : THREADS_MAX;
    share = BUFFER_BYTES / (size_t)n / BLOCK_BYTES * BLOCK_BYTES;
    data = aligned_alloc(BLOCK_BYTES, share * (size_t)n);
    if (data == NULL) {
        return (double)NAN;
    }
    memset(data, 1, share * (size_t)n);
    for (int i = 0; i < n; i++) {
        workers[i].data = data + share * (size_t)i;
        workers[i].bytes = share;
        workers[i].work = __builtin_cpu_supports("avx512f") ? read_avx512
                          : __builtin_cpu_supports("avx2")  ? read_avx2
                                                            : read_plain;
    }
    best = best_pass(workers, n);
    free(data);
    return (double)(share * (size_t)n) / best;
}

static bool has_avxvnni(void)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;

    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
           (eax & 1u << 4) != 0;
}

double machine_int8(int n)
{
    struct worker workers[THREADS_MAX] = {{0}};
    void (*work)(struct worker * w) = NULL;
    double lanes = 32; /* products of one turn of one chain */

    if (__builtin_cpu_supports("avx512vnni")) {
        work = int8_avx512;
        lanes = 64;
    } else if (has_avxvnni()) {
        work = int8_avxvnni;
    } else if (__builtin_cpu_supports("avx2")) {
        work = int8_avx2;
    } else {
        return (double)NAN;
    }
    n = n < THREADS_MAX ? n : THREADS_MAX;
    for (int i = 0; i < n; i++) {
        workers[i].work = work;
    }
    return lanes * CHAINS * INT8_LOOPS * n / best_pass(workers, n);
}
