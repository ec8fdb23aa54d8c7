/* Owns the CPU backend's workers. Not: what they compute (kernels/), when (sched). A program is
 * walked by all workers at once; a barrier separates an op from the next, unless both are divided
 * in bands (kernels.h). The caller of submit is worker 0, so one worker needs no thread and no
 * barrier at all.
 *
 * Invariant: between programs every worker waits for `generation` to change; inside a program all
 * are between the same two barriers. Waiting spins for a bounded time and then sleeps on a futex,
 * so an oversubscribed machine loses a wake-up, never a time slice. Threads: step, work/N. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/backend/backend.h"
#include "runtime/backend/topology.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define WORKERS_MAX 256u
#define LINE_BYTES  64
#define FETCH_BYTES (64u << 10) /* leaves most of any second-level cache to the activations */

/* A counter that threads wait on: spin, then sleep. */
struct wait_word {
    _Alignas(128) _Atomic uint32_t value;      /* the writer stores seq_cst; waiters load seq_cst */
    _Alignas(128) _Atomic uint32_t n_sleepers; /* waiters add seq_cst; the writer loads seq_cst */
};

struct cpu_backend {
    struct ingle_backend base;
    uint32_t spin_ns;
    bool pin;
    pthread_t threads[WORKERS_MAX];
    uint8_t *scratch;
    const struct ingle_op *ops; /* caller stores before `generation`; workers load after it */
    uint32_t n_ops;
    _Atomic bool stop;
    struct wait_word generation, phase;
    _Alignas(128) _Atomic uint32_t arrived; /* workers add acq_rel; the last one resets */
    uint64_t n_events;
    _Atomic uint64_t ended_ns; /* of the last program, 0: one runs; step stores relaxed */
};

struct worker_start {
    struct cpu_backend *cpu;
    uint32_t index;
};

/* Weights that a waiting worker brings nearer, a line with each look at the word: memory is idle
 * while an op without weights runs. A worker's own; what is left of it waits for the next wait. */
struct fetch {
    const uint8_t *at;
    uint64_t lines; /* left */
};

/* Returns whether there was something to fetch. */
static bool fetch_line(struct fetch *fetch)
{
    if (fetch->lines == 0) {
        return false;
    }
    __builtin_prefetch(fetch->at, 0, 2); /* into the second-level cache */
    fetch->at += LINE_BYTES;
    fetch->lines--;
    return true;
}

static void word_wait(struct wait_word *word, uint32_t old, uint32_t spin_ns, struct fetch *fetch)
{
    uint64_t deadline = 0;

    for (uint32_t i = 0;; i++) {
        if (atomic_load_explicit(&word->value, memory_order_seq_cst) != old) {
            return;
        }
        if (!fetch_line(fetch)) {
            __builtin_ia32_pause();
        }
        if (i % 64 == 63) {
            uint64_t now = ingle_clock_ns();

            if (deadline == 0) {
                deadline = now + spin_ns;
            } else if (now > deadline) {
                break;
            }
        }
    }
    (void)atomic_fetch_add_explicit(&word->n_sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&word->value, memory_order_seq_cst) == old) {
        (void)syscall(SYS_futex, &word->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    }
    (void)atomic_fetch_sub_explicit(&word->n_sleepers, 1, memory_order_seq_cst);
}

static void word_advance(struct wait_word *word)
{
    (void)atomic_fetch_add_explicit(&word->value, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&word->n_sleepers, memory_order_seq_cst) != 0) {
        (void)syscall(SYS_futex, &word->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    }
}

static void barrier(struct cpu_backend *cpu, struct fetch *fetch)
{
    uint32_t phase = atomic_load_explicit(&cpu->phase.value, memory_order_seq_cst);

    if (atomic_fetch_add_explicit(&cpu->arrived, 1, memory_order_acq_rel) + 1 ==
        cpu->base.n_workers) {
        atomic_store_explicit(&cpu->arrived, 0, memory_order_relaxed);
        word_advance(&cpu->phase);
    } else {
        word_wait(&cpu->phase, phase, cpu->spin_ns, fetch);
    }
}

/* The first of ops [i, n) that has weights for the worker, n if none has; what it reads first. */
static uint32_t next_weights(const struct ingle_op *ops, uint32_t i, uint32_t n,
                             const struct ingle_worker *worker, struct fetch *ret)
{
    struct ingle_weights_span span = {0};

    while (i < n && span.bytes == 0) {
        span = ingle_op_weights(&ops[i++], worker);
    }
    span.bytes = span.bytes < FETCH_BYTES ? span.bytes : FETCH_BYTES;
    *ret = (struct fetch){.at = span.at, .lines = span.bytes / LINE_BYTES};
    return span.bytes == 0 ? n : i - 1;
}

static void walk(struct cpu_backend *cpu, const struct ingle_worker *worker)
{
    const struct ingle_op *ops = cpu->ops;
    uint32_t n_ops = cpu->n_ops, next = 0; /* the op whose weights are fetched */
    struct fetch fetch = {0};

    for (uint32_t i = 0; i < n_ops; i++) {
        cpu->base.kernels->op[ops[i].kind](&ops[i], worker);
        if (worker->count == 1 || (i + 1 < n_ops && !ingle_op_joins(&ops[i], &ops[i + 1]))) {
            continue;
        }
        if (i >= next) {
            next = next_weights(ops, i + 1, n_ops, worker, &fetch);
        }
        barrier(cpu, &fetch);
    }
}

static struct ingle_worker worker_of(const struct cpu_backend *cpu, uint32_t index)
{
    return (struct ingle_worker){.index = index,
                                 .count = cpu->base.n_workers,
                                 .scratch = cpu->scratch + (uint64_t)index * INGLE_SCRATCH_BYTES};
}

static void *worker_main(void *arg)
{
    struct worker_start start = *(struct worker_start *)arg;
    struct cpu_backend *cpu = start.cpu;
    struct ingle_worker worker = worker_of(cpu, start.index);
    struct fetch nothing = {0}; /* between programs nobody knows what comes */
    uint32_t seen = 0;
    char name[16];

    ingle_mem_free(arg);
    (void)snprintf(name, sizeof name, "ingle-work/%u", start.index % 1000);
    (void)pthread_setname_np(pthread_self(), name);
    if (cpu->pin) {
        ingle_topology_pin(start.index);
    }
    for (;;) {
        word_wait(&cpu->generation, seen, cpu->spin_ns, &nothing);
        seen++;
        if (atomic_load_explicit(&cpu->stop, memory_order_relaxed)) {
            return NULL;
        }
        walk(cpu, &worker);
    }
}

static struct cpu_backend *cpu_of(struct ingle_backend *backend)
{
    return (struct cpu_backend *)(void *)backend;
}

static void cpu_destroy(struct ingle_backend *backend)
{
    struct cpu_backend *cpu = cpu_of(backend);

    atomic_store_explicit(&cpu->stop, true, memory_order_relaxed);
    word_advance(&cpu->generation);
    for (uint32_t i = 1; i < cpu->base.n_workers; i++) {
        (void)pthread_join(cpu->threads[i], NULL);
    }
    ingle_mem_unmap(cpu->scratch, (uint64_t)cpu->base.n_workers * INGLE_SCRATCH_BYTES);
    ingle_mem_unmap(cpu, sizeof *cpu);
}

static void *cpu_alloc(struct ingle_backend *backend, enum ingle_space space, uint64_t bytes)
{
    (void)backend;
    (void)space; /* one space */
    return ingle_mem_map_huge(bytes);
}

static void cpu_free(struct ingle_backend *backend, enum ingle_space space, void *p, uint64_t bytes)
{
    (void)backend;
    (void)space;
    ingle_mem_unmap(p, bytes);
}

static bool cpu_populate(struct ingle_backend *backend, void *p, uint64_t bytes)
{
    (void)backend;
    return ingle_mem_populate(p, bytes);
}

static void cpu_copy(struct ingle_backend *backend, void *dst, const void *src, uint64_t bytes)
{
    (void)backend;
    memcpy(dst, src, bytes);
}

static struct ingle_event cpu_submit(struct ingle_backend *backend, const struct ingle_op *ops,
                                     uint32_t n_ops)
{
    struct cpu_backend *cpu = cpu_of(backend);
    struct ingle_worker worker = worker_of(cpu, 0);

    if (n_ops == 0) {
        return (struct ingle_event){.id = cpu->n_events};
    }
    cpu->ops = ops;
    cpu->n_ops = n_ops;
    atomic_store_explicit(&cpu->ended_ns, 0, memory_order_relaxed);
    if (cpu->base.n_workers > 1) {
        word_advance(&cpu->generation);
    }
    walk(cpu, &worker); /* the last barrier is what makes this synchronous */
    atomic_store_explicit(&cpu->ended_ns, ingle_clock_ns(), memory_order_relaxed);
    return (struct ingle_event){.id = ++cpu->n_events};
}

static void cpu_wait(struct ingle_backend *backend, struct ingle_event event)
{
    ingle_assert(event.id <= cpu_of(backend)->n_events);
}

static uint64_t cpu_idle_ns(struct ingle_backend *backend)
{
    uint64_t ended = atomic_load_explicit(&cpu_of(backend)->ended_ns, memory_order_relaxed);

    return ended == 0 ? 0 : ingle_clock_ns() - ended;
}

static const struct ingle_backend_ops cpu_ops = {
    .name = "cpu",
    .destroy = cpu_destroy,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .populate = cpu_populate,
    .copy = cpu_copy,
    .submit = cpu_submit,
    .wait = cpu_wait,
    .idle_ns = cpu_idle_ns,
};

int ingle_backend_cpu_create(const struct ingle_cpu_options *options, struct ingle_backend **ret,
                             struct ingle_error *err)
{
    uint32_t n = options->n_workers != 0 ? options->n_workers : ingle_topology_cores();
    struct cpu_backend *cpu;

    n = n > WORKERS_MAX ? WORKERS_MAX : n;
    cpu = ingle_mem_map(sizeof *cpu); /* over-aligned members: page alignment serves them */
    if (cpu == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for the CPU backend");
    }
    cpu->base.ops = &cpu_ops;
    cpu->base.kernels = options->kernels != NULL ? options->kernels : ingle_kernels_best();
    cpu->spin_ns = options->spin_us * 1000u;
    atomic_init(&cpu->ended_ns, ingle_clock_ns());
    cpu->pin = options->pin;
    cpu->scratch = ingle_mem_map_huge((uint64_t)n * INGLE_SCRATCH_BYTES);
    cpu->base.n_workers = 1;
    if (cpu->scratch == NULL) {
        ingle_mem_unmap(cpu, sizeof *cpu);
        return ingle_fail(err, -ENOMEM, "no memory for %u workers' scratch", n);
    }
    cpu->base.n_workers = n;
    for (uint32_t i = 1; i < n; i++) {
        struct worker_start *start = ingle_mem_alloc(sizeof *start);
        int r = ENOMEM;

        if (start != NULL) {
            *start = (struct worker_start){.cpu = cpu, .index = i};
            r = pthread_create(&cpu->threads[i], NULL, worker_main, start);
        }
        if (r != 0) {
            ingle_mem_free(start);
            cpu->base.n_workers = i;
            cpu_destroy(&cpu->base);
            return ingle_fail(err, -r, "cannot start worker %u of %u: error %d", i, n, r);
        }
    }
    *ret = &cpu->base;
    return 0;
}

void ingle_backend_destroy(struct ingle_backend *backend)
{
    if (backend != NULL) {
        backend->ops->destroy(backend);
    }
}
