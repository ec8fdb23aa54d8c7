/* The benchmark's clock, its threads, and the machine's own limits. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "tests/unit/kernels/check.h"

enum {
    ROUNDS = 7,
    ROUND_NS = 20 * 1000 * 1000
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* One thread is measured by its own time, which other processes stretch less than the wall's. */
static uint64_t now_ns(uint32_t threads)
{
    return clock_ns(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

double check_time(void (*run)(void *arg), void *arg)
{
    uint64_t start = now_ns(1);
    run(arg);
    uint64_t once = now_ns(1) - start, calls = ROUND_NS / (once + 1) + 1;
    double best = (double)once;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        start = now_ns(1);
        for (uint64_t i = 0; i < calls; i++) {
            run(arg);
        }
        double each = (double)(now_ns(1) - start) / (double)calls;
        best = each < best ? each : best;
    }
    return best * 1e-9;
}

/* Workers that meet at a spinning barrier after each op, as the runtime's do. */
struct team {
    const struct ingle_kernels *table;
    const struct ingle_op *ops;
    uint32_t n_ops, workers, repeat;
    _Atomic uint32_t arrived; /* every member adds, all read; never reset */
};

struct member {
    struct team *team;
    uint32_t met; /* what `arrived` must reach: one step of `workers` a barrier */
    struct ingle_worker worker;
};

static void meet(struct member *member)
{
    member->met += member->team->workers;
    atomic_fetch_add_explicit(&member->team->arrived, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&member->team->arrived, memory_order_acquire) < member->met) {
    }
}

static void *member_main(void *arg)
{
    struct member *member = arg;
    struct team *team = member->team;
    meet(member);
    for (uint32_t round = 0; round < team->repeat; round++) {
        for (uint32_t i = 0; i < team->n_ops; i++) {
            team->table->op[team->ops[i].kind](&team->ops[i], &member->worker);
            meet(member);
        }
    }
    return NULL;
}

/* Nanoseconds of one walk over the ops, the average of `repeat` walks. */
static double time_walks(struct team *team)
{
    pthread_t threads[64];
    struct member members[64];
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < team->workers; i++) {
        members[i] =
            (struct member){.team = team,
                            .worker = {i, team->workers, check_alloc(INGLE_SCRATCH_BYTES)}};
        if (i > 0) {
            assert_int_equal(pthread_create(&threads[i], NULL, member_main, &members[i]), 0);
        }
    }
    uint64_t start = now_ns(team->workers);
    member_main(&members[0]);
    double ns = (double)(now_ns(team->workers) - start) / team->repeat;
    for (uint32_t i = 0; i < team->workers; i++) {
        if (i > 0) {
            pthread_join(threads[i], NULL);
        }
        check_free(members[i].worker.scratch);
    }
    return ns;
}

double check_time_op(const struct ingle_kernels *table, const struct ingle_op *ops, uint32_t n_ops,
                     uint32_t workers)
{
    struct team team = {
        .table = table, .ops = ops, .n_ops = n_ops, .workers = workers, .repeat = 1};
    double best = time_walks(&team); /* warms up, and says how many walks a round needs */
    team.repeat = best > ROUND_NS ? 1 : (uint32_t)(ROUND_NS / best) + 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double ns = time_walks(&team);
        best = round == 0 || ns < best ? ns : best;
    }
    return best * 1e-9;
}

/* ---- the machine's limits ---- */

enum {
    LIMIT_THREADS = 2,
    READ_BYTES = 256u << 20,
    PEAK_STEPS = 2 * 1000 * 1000
};

struct limit_thread {
    pthread_barrier_t *barrier;
    const uint8_t *data;
    uint64_t sink, ns; /* ns: the thread's own time */
};

static void *read_main(void *arg)
{
    struct limit_thread *thread = arg;
    uint64_t sum[8] = {0};
    pthread_barrier_wait(thread->barrier);
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint64_t i = 0; i < READ_BYTES; i += 64) {
        uint64_t line[8];
        memcpy(line, thread->data + i, 64);
        for (uint32_t j = 0; j < 8; j++) {
            sum[j] += line[j];
        }
    }
    for (uint32_t j = 0; j < 8; j++) {
        thread->sink += sum[j];
    }
    thread->ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    return NULL;
}

/* Multiply-adds of one step, on twelve independent accumulators. */
#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni,avx512bw"))) static uint64_t peak_avx512(void)
{
    __m512i acc[12], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
#pragma GCC unroll 12
    for (uint32_t i = 0; i < 12; i++) {
        acc[i] = _mm512_set1_epi32((int)i);
    }
    for (uint32_t step = 0; step < PEAK_STEPS; step++) {
#pragma GCC unroll 12
        for (uint32_t i = 0; i < 12; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
        }
    }
#pragma GCC unroll 12
    for (uint32_t i = 1; i < 12; i++) {
        acc[0] = _mm512_add_epi32(acc[0], acc[i]);
    }
    return (uint64_t)(uint32_t)_mm512_reduce_add_epi32(acc[0]);
}

static void *peak_main(void *arg)
{
    struct limit_thread *thread = arg;
    pthread_barrier_wait(thread->barrier);
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    thread->sink += peak_avx512();
    thread->ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    return NULL;
}
#endif

/* Seconds that n threads at once need, each in its own time; least of several rounds. */
static double time_threads(void *(*run)(void *), uint32_t n, const uint8_t *data)
{
    double best = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        pthread_barrier_t barrier;
        pthread_t threads[LIMIT_THREADS];
        struct limit_thread args[LIMIT_THREADS];
        double sum = 0;
        pthread_barrier_init(&barrier, NULL, n);
        for (uint32_t i = 0; i < n; i++) {
            args[i] = (struct limit_thread){&barrier, data + (uint64_t)i * READ_BYTES, 0, 0};
            assert_int_equal(pthread_create(&threads[i], NULL, run, &args[i]), 0);
        }
        for (uint32_t i = 0; i < n; i++) {
            pthread_join(threads[i], NULL);
            sum += (double)args[i].ns * 1e-9 / n;
        }
        pthread_barrier_destroy(&barrier);
        best = round == 0 || sum < best ? sum : best;
    }
    return best;
}

void bench_machine(void)
{
    uint8_t *data = check_alloc((uint64_t)LIMIT_THREADS * READ_BYTES);
    memset(data, 1, (uint64_t)LIMIT_THREADS * READ_BYTES);
    for (uint32_t n = 1; n <= LIMIT_THREADS; n++) {
        double s = time_threads(read_main, n, data);
        printf("machine: reads, %u threads: %.1f GB/s\n", n, 1e-9 * n * READ_BYTES / s);
    }
    check_free(data);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw")) {
        for (uint32_t n = 1; n <= LIMIT_THREADS; n++) {
            double s = time_threads(peak_main, n, NULL);
            printf("machine: vpdpbusd, %u threads: %.1f GMAC/s\n", n,
                   1e-9 * n * 12.0 * 64.0 * PEAK_STEPS / s);
        }
    }
#endif
}
