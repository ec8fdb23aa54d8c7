/* The null backend: takes programs and runs nothing. Behind it the protocol, the scheduler and the
 * KV lists work as ever, at no cost, for protocol, fuzz and storm tests. Thread: step. */
#include <errno.h>
#include <string.h>

#include "runtime/backend/backend.h"
#include "runtime/base/mem.h"

static void null_destroy(struct ingle_backend *backend)
{
    ingle_mem_free(backend);
}

static void *null_alloc(struct ingle_backend *backend, enum ingle_space space, uint64_t bytes)
{
    (void)backend;
    (void)space;
    return ingle_mem_map(bytes);
}

static void null_free(struct ingle_backend *backend, enum ingle_space space, void *p,
                      uint64_t bytes)
{
    (void)backend;
    (void)space;
    ingle_mem_unmap(p, bytes);
}

static bool null_populate(struct ingle_backend *backend, void *p, uint64_t bytes)
{
    (void)backend;
    (void)p;
    (void)bytes;
    return false;
}

static void null_copy(struct ingle_backend *backend, void *dst, const void *src, uint64_t bytes)
{
    (void)backend;
    memcpy(dst, src, bytes);
}

static struct ingle_event null_submit(struct ingle_backend *backend, const struct ingle_op *ops,
                                      uint32_t n_ops)
{
    (void)backend;
    (void)ops;
    (void)n_ops;
    return (struct ingle_event){0};
}

static void null_wait(struct ingle_backend *backend, struct ingle_event event)
{
    (void)backend;
    (void)event;
}

static uint64_t null_idle_ns(struct ingle_backend *backend)
{
    (void)backend;
    return UINT64_MAX;
}

static const struct ingle_backend_ops null_ops = {
    .name = "null",
    .destroy = null_destroy,
    .alloc = null_alloc,
    .free = null_free,
    .populate = null_populate,
    .copy = null_copy,
    .submit = null_submit,
    .wait = null_wait,
    .idle_ns = null_idle_ns,
};

int ingle_backend_null_create(struct ingle_backend **ret, struct ingle_error *err)
{
    struct ingle_backend *backend = ingle_mem_alloc(sizeof *backend);

    if (backend == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory for the null backend");
    }
    backend->ops = &null_ops;
    backend->kernels = ingle_kernels_ref();
    backend->n_workers = 1;
    *ret = backend;
    return 0;
}
