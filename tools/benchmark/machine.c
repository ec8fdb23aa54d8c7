/* Measures the machine: reading with 64-byte loads over buffers far larger than the caches, and the
 * widest multiply-add of bytes that CPUID names, on registers alone. Owns its threads and buffers
 * during a call. The best of several passes counts: a limit is what the machine can do, not what it
 * did. Thread: main, and those it starts. */
#include "tools/benchmark/machine.h"

#include <cpuid.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <immintrin.h>

#include "tools/benchmark/bench.h"
#include "tools/benchmark/machine_work.h"

#define THREADS_MAX     256
#define PASSES          25 /* of some 15 ms: one of them is left alone by everybody */
#define HUGE_PAGE_BYTES (2u << 20)
#define BUFFER_BYTES    (512u << 20) /* of all threads together: many times any cache we expect */

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

static void read_plain(struct machine_worker *w)
{
    w->result += machine_read_lines(w->data, w->bytes);
}

/* ---- several threads ------------------------------------------------------------------------- */

struct machine_team {
    pthread_barrier_t barrier;
    uint32_t n;
    _Atomic uint32_t awake; /* every thread adds acq_rel, all load acquire; never reset */
};

/* The barrier wakes threads one after the other, some tenths of a millisecond apart; the counter
 * lets them start at once. */
static void pass(struct machine_worker *w, uint32_t number)
{
    struct machine_team *team = w->team;

    (void)pthread_barrier_wait(&team->barrier);
    (void)atomic_fetch_add_explicit(&team->awake, 1, memory_order_acq_rel);
    while (atomic_load_explicit(&team->awake, memory_order_acquire) < (number + 1) * team->n) {
    }
    w->start_ns = bench_now_ns();
    w->work(w);
    w->end_ns = bench_now_ns();
    (void)pthread_barrier_wait(&team->barrier);
}

static void *run(void *arg)
{
    for (uint32_t i = 0; i < PASSES; i++) {
        pass(arg, i);
    }
    return NULL;
}

/* Seconds from the first start to the last end of the last pass. No thread's own clock would do: it
 * may come out of the barrier when another has half its work behind it. */
static double pass_seconds(const struct machine_worker *workers, int n)
{
    uint64_t start = workers[0].start_ns, end = workers[0].end_ns;

    for (int i = 1; i < n; i++) {
        start = workers[i].start_ns < start ? workers[i].start_ns : start;
        end = workers[i].end_ns > end ? workers[i].end_ns : end;
    }
    return (double)(end - start) / 1e9;
}

/* Seconds of the best pass in which every thread does its work once; NAN: no threads. */
static double best_pass(struct machine_worker *workers, int n)
{
    struct machine_team team = {.n = (uint32_t)n};
    double best = (double)NAN;
    int started = 0;

    if (pthread_barrier_init(&team.barrier, NULL, team.n) != 0) {
        return best;
    }
    for (int i = 0; i < n; i++) {
        workers[i].team = &team;
    }
    while (started < n - 1 &&
           pthread_create(&workers[started].thread, NULL, run, &workers[started]) == 0) {
        started++;
    }
    if (started < n - 1) { /* those at the barrier wait for ever */
        (void)fprintf(stderr, "bench: cannot start %d threads\n", n);
        exit(1);
    }
    for (uint32_t i = 0; i < PASSES; i++) {
        /* The others' times of this pass stand until this thread comes to the next barrier. */
        pass(&workers[n - 1], i);
        best = fmin(best, pass_seconds(workers, n)); /* the number where one is NAN */
    }
    for (int i = 0; i < started; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    (void)pthread_barrier_destroy(&team.barrier);
    return best;
}

double machine_read(int n)
{
    struct machine_worker workers[THREADS_MAX] = {{0}};
    machine_work_fn *work = machine_read_work();
    double best;
    uint8_t *data;
    size_t share;

    n = n < 1 ? 1 : n < THREADS_MAX ? n : THREADS_MAX;
    share = BUFFER_BYTES / (size_t)n / MACHINE_BLOCK_BYTES * MACHINE_BLOCK_BYTES;
    data = aligned_alloc(HUGE_PAGE_BYTES, BUFFER_BYTES);
    if (data == NULL) {
        return (double)NAN;
    }
    (void)madvise(data, BUFFER_BYTES, MADV_HUGEPAGE); /* as the runtime's weights lie */
    memset(data, 1, share * (size_t)n);
    for (int i = 0; i < n; i++) {
        workers[i].data = data + share * (size_t)i;
        workers[i].bytes = share;
        workers[i].work = work != NULL ? work : read_plain;
    }
    best = best_pass(workers, n);
    free(data);
    return (double)(share * (size_t)n) / best;
}

double machine_int8(int n, bool tiles)
{
    struct machine_worker workers[THREADS_MAX] = {{0}};
    double products;
    machine_work_fn *work = machine_int8_work(tiles, &products);

    if (work == NULL) {
        return (double)NAN;
    }
    n = n < 1 ? 1 : n < THREADS_MAX ? n : THREADS_MAX;
    for (int i = 0; i < n; i++) {
        workers[i].work = work;
    }
    return products * n / best_pass(workers, n);
}

/* ---- others ---------------------------------------------------------------------------------- */

static double seconds_of(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* Processor seconds of the whole machine outside idle, and of this process with the children that
 * it has waited for. */
static bool seconds_busy(double *ret_all, double *ret_own)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    struct rusage self, children;
    FILE *in = fopen("/proc/stat", "re");
    int n = in == NULL ? 0
                       : fscanf(in, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
                                &system, &idle, &iowait, &irq, &softirq, &steal);

    if (in != NULL) {
        (void)fclose(in);
    }
    if (n != 8 || getrusage(RUSAGE_SELF, &self) != 0 ||
        getrusage(RUSAGE_CHILDREN, &children) != 0) {
        return false;
    }
    *ret_all =
        (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
    *ret_own = seconds_of(&self.ru_utime) + seconds_of(&self.ru_stime) +
               seconds_of(&children.ru_utime) + seconds_of(&children.ru_stime);
    return true;
}

double machine_others(void)
{
    static double all, own;
    static uint64_t since_ns;
    double all_now, own_now, share = (double)NAN;
    uint64_t now_ns = bench_now_ns();

    if (!seconds_busy(&all_now, &own_now)) {
        return share;
    }
    if (since_ns != 0) {
        share = fmax(0, all_now - all - (own_now - own)) / ((double)(now_ns - since_ns) / 1e9) /
                (double)sysconf(_SC_NPROCESSORS_ONLN);
    }
    all = all_now;
    own = own_now;
    since_ns = now_ns;
    return share;
}
