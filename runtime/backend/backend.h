/* The border to a device. Above it nobody knows whether an op runs on workers or on a GPU: memory
 * comes from a space, bytes move by copies, programs run in order, events say when.
 *
 * The CPU backend has one space and copies with memcpy; its events are complete when submit
 * returns. CUDA fits behind the same table: spaces DEVICE and PINNED, copies on a stream, a program
 * as a sequence of launches, events as CUevents. Thread: step, unless a line says otherwise. */
#ifndef INGLE_RUNTIME_BACKEND_BACKEND_H
#define INGLE_RUNTIME_BACKEND_BACKEND_H
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/error.h"

struct ingle_backend;

enum ingle_space {
    INGLE_SPACE_DEVICE,
    INGLE_SPACE_PINNED
};

struct ingle_event {
    uint64_t id;
};

struct ingle_backend_ops {
    const char *name;
    void (*destroy)(struct ingle_backend *backend);
    /* 64-byte aligned, zeroed; NULL when there is not enough. Thread: load, at creation only. */
    void *(*alloc)(struct ingle_backend *backend, enum ingle_space space, uint64_t bytes);
    void (*free)(struct ingle_backend *backend, enum ingle_space space, void *p, uint64_t bytes);
    /* Have a part of an allocation, a multiple of 4 KiB into it, be there before it is first
     * written; false: nothing to be gained. Thread: load, also while step uses the memory. */
    bool (*populate)(struct ingle_backend *backend, void *p, uint64_t bytes);
    /* Ordered after every earlier copy and program. */
    void (*copy)(struct ingle_backend *backend, void *dst, const void *src, uint64_t bytes);
    /* Run a program: op i + 1 sees what op i wrote, of the same bands each band its own rows. */
    struct ingle_event (*submit)(struct ingle_backend *backend, const struct ingle_op *ops,
                                 uint32_t n_ops);
    /* Wait until everything up to the event is done and visible to the host. */
    void (*wait)(struct ingle_backend *backend, struct ingle_event event);
    /* How long nothing has run; 0: something runs. Any thread. */
    uint64_t (*idle_ns)(struct ingle_backend *backend);
};

struct ingle_backend {
    const struct ingle_backend_ops *ops;
    const struct ingle_kernels *kernels; /* host kernels: row statistics for the sampler */
    uint32_t n_workers; /* of an op: as many lists of logits, and bands; 1: no bands are wanted */
};

struct ingle_cpu_options {
    uint32_t n_workers; /* 0 = one per physical core; the caller of submit is worker 0 */
    const struct ingle_kernels *kernels; /* NULL = ingle_kernels_best() */
    bool pin;                            /* bind workers to cores (hwloc) */
    uint32_t spin_us; /* how long an idle worker spins inside a step before it sleeps */
};
int ingle_backend_cpu_create(const struct ingle_cpu_options *options, struct ingle_backend **ret,
                             struct ingle_error *err) INGLE_MUST_CHECK;
/* Accepts programs and runs nothing. */
int ingle_backend_null_create(struct ingle_backend **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_backend_destroy(struct ingle_backend *backend); /* NULL allowed */

#endif
