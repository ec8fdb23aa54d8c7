/* Owns the load thread and the backends; a job belongs to load from give to take. One job at a
 * time, in order. Everything slow about a model happens here: reading, packing, unmapping. While no
 * job waits, a packed image that is not kept yet is written a block at a time, then, while nothing
 * runs, the KV pages of new engines are warmed a little at a time: nobody is waiting for either. */
#include "runtime/session/loader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "runtime/backend/backend.h"
#include "runtime/backend/topology.h"
#include "runtime/model/model.h"

/* Nothing has run for so long: KV pages may be warmed. A little of it takes the kernel up to 5 ms,
 * and beside running workers it cost a prompt much more than what it spares the next ones. */
#define WARM_IDLE_NS 20000000

static void note_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct ingle_load *job = arg;

    atomic_store_explicit(&job->total_bytes, total_bytes, memory_order_relaxed);
    atomic_store_explicit(&job->done_bytes, done_bytes, memory_order_relaxed);
}

static int find_backend(struct ingle_loader *loader, const struct ingle_model_want *want,
                        struct ingle_backend **ret, struct ingle_error *err)
{
    bool null = want->path[0] == '\0';
    struct ingle_backend **backend = null                ? &loader->load.null
                                     : want->ref_kernels ? &loader->load.ref
                                                         : &loader->load.fast;
    struct ingle_cpu_options options = {
        .n_workers = loader->load.n_threads,
        .kernels = want->ref_kernels ? ingle_kernels_ref() : NULL,
        .pin = true,
        .spin_us = 20,
    };
    int res = 0;

    if (*backend == NULL && null) {
        res = ingle_backend_null_create(backend, err);
    } else if (*backend == NULL) {
        ingle_topology_spread(); /* this thread is the first to touch weights and KV pages */
        res = ingle_backend_cpu_create(&options, backend, err);
    }
    *ret = *backend;
    return res;
}

static int load_model(struct ingle_loader *loader, struct ingle_load *job, struct ingle_error *err)
{
    const struct ingle_model_want *want = &job->want;
    struct ingle_model_options options = {.act_mode = want->activations,
                                          .progress = note_progress,
                                          .progress_arg = job,
                                          .images = job->images ? &loader->load.home : NULL,
                                          .cancel = &job->cancel};
    struct ingle_engine_options engine = {.kv_bits = want->kv_bits,
                                          .kv_bytes = job->kv_bytes,
                                          .context_tokens = want->context_tokens};
    struct ingle_model *model = NULL;
    struct ingle_backend *backend;
    int res = find_backend(loader, want, &backend, err);

    if (res == 0 && want->path[0] != '\0' && want->activations == INGLE_ACT_BF16 &&
        !backend->kernels->bf16) {
        res = ingle_fail(err, -ENOTSUP,
                         "activations = bf16 needs a CPU with AMX, and this one's kernels are %s; "
                         "use 16, which is more exact, or 8, which is faster",
                         backend->kernels->isa);
    }
    if (res == 0 && want->path[0] != '\0') {
        res = ingle_model_load(want->path, &options, &model, err);
    }
    if (res == 0) {
        res = ingle_engine_create(model, backend, &loader->load.limits, &engine, &job->engine, err);
    }
    if (res != 0) {
        ingle_model_free(model);
    } else if (model != NULL) {
        loader->load.unkept[job->slot] = model->image;
        loader->load.cold[job->slot] = job->engine;
    }
    return res;
}

static void wake_io(const struct ingle_loader *loader)
{
    uint64_t one = 1;

    if (write(loader->io_eventfd, &one, sizeof one) != sizeof one) {
        return; /* a full counter already wakes io */
    }
}

/* A little of the first image that is not kept yet; false: there is none. */
static bool keep_some(struct ingle_loader *loader)
{
    for (uint32_t slot = 0; slot < INGLE_MODEL_SLOTS; slot++) {
        struct ingle_image *image = loader->load.unkept[slot];

        if (image != NULL) {
            if (!ingle_image_keep(image)) {
                loader->load.unkept[slot] = NULL;
                wake_io(loader); /* to write out what the log has of it */
            }
            return true;
        }
    }
    return false;
}

/* A little of the first engine that is not warm yet, unless something runs. Returns how long to
 * wait before the next: < 0: there is none. */
static int64_t warm_some(struct ingle_loader *loader)
{
    for (uint32_t slot = 0; slot < INGLE_MODEL_SLOTS; slot++) {
        struct ingle_engine *engine = loader->load.cold[slot];

        if (engine != NULL && ingle_engine_idle_ns(engine) < WARM_IDLE_NS) {
            return WARM_IDLE_NS;
        }
        if (engine != NULL) {
            loader->load.cold[slot] = ingle_engine_warm(engine) ? engine : NULL;
            return 0;
        }
    }
    return -1;
}

static void work(struct ingle_loader *loader, struct ingle_load *job)
{
    int res = 0;

    memset(&job->err, 0, sizeof job->err);
    switch (job->step) {
    case INGLE_LOAD_ESTIMATE:
        if (job->want.path[0] != '\0') {
            res = ingle_model_estimate(job->want.path, &job->resident_bytes, &job->err);
        }
        break;
    case INGLE_LOAD_MODEL:
        res = load_model(loader, job, &job->err);
        break;
    case INGLE_LOAD_FREE:
        loader->load.unkept[job->slot] = NULL; /* given up where it was not finished */
        loader->load.cold[job->slot] = NULL;
        ingle_engine_free(job->engine);
        job->engine = NULL;
        break;
    }
    ingle_assert(res == job->err.code);
}

static void *load_main(void *arg)
{
    struct ingle_loader *loader = arg;
    struct ingle_load *job;

    while (!atomic_load_explicit(&loader->stop, memory_order_acquire)) {
        uint32_t ticket = ingle_park_ticket(&loader->park);

        if (!ingle_spsc_pop(&loader->jobs, &job)) {
            int64_t pause_ns = keep_some(loader) ? 0 : warm_some(loader);

            if (pause_ns == 0) {
                ingle_park_cancel(&loader->park);
            } else {
                ingle_park_wait(&loader->park, ticket, pause_ns);
            }
            continue;
        }
        ingle_park_cancel(&loader->park);
        work(loader, job);
        ingle_assert(ingle_spsc_push(&loader->done, &job));
        wake_io(loader);
    }
    return NULL;
}

int ingle_loader_start(struct ingle_loader *loader, int io_eventfd, uint32_t n_threads,
                       const struct ingle_sched_options *limits,
                       const struct ingle_image_home *home, struct ingle_error *err)
{
    int res;

    memset(loader, 0, sizeof *loader);
    ingle_spsc_init(&loader->jobs, loader->job_slots, 64, sizeof(struct ingle_load *));
    ingle_spsc_init(&loader->done, loader->done_slots, 64, sizeof(struct ingle_load *));
    loader->io_eventfd = io_eventfd;
    loader->load.n_threads = n_threads;
    loader->load.limits = *limits;
    loader->load.home = *home;
    res = pthread_create(&loader->thread, NULL, load_main, loader);
    if (res != 0) {
        return ingle_fail(err, -res, "cannot start the load thread: %s", strerrordesc_np(res));
    }
    (void)pthread_setname_np(loader->thread, "ingle-load");
    return 0;
}

void ingle_loader_stop(struct ingle_loader *loader)
{
    atomic_store_explicit(&loader->stop, true, memory_order_release);
    ingle_park_wake(&loader->park);
    (void)pthread_join(loader->thread, NULL);
}

void ingle_loader_fini(struct ingle_loader *loader)
{
    ingle_backend_destroy(loader->load.fast);
    ingle_backend_destroy(loader->load.ref);
    ingle_backend_destroy(loader->load.null);
    memset(&loader->load, 0, sizeof loader->load);
}

void ingle_loader_give(struct ingle_loader *loader, struct ingle_load *job)
{
    ingle_assert(ingle_spsc_push(&loader->jobs, &job));
    ingle_park_wake(&loader->park);
}

struct ingle_load *ingle_loader_take(struct ingle_loader *loader)
{
    struct ingle_load *job;

    return ingle_spsc_pop(&loader->done, &job) ? job : NULL;
}
