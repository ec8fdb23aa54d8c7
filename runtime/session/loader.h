/* The load thread: reads models, makes engines of them, frees them; between jobs it writes packed
 * images to where they are kept and has the kernel give the memory of KV pages. io hands it jobs
 * and gets each back when it is done. */
#ifndef INGLE_RUNTIME_SESSION_LOADER_H
#define INGLE_RUNTIME_SESSION_LOADER_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/error.h"
#include "runtime/base/park.h"
#include "runtime/base/spsc.h"
#include "runtime/sched/sched.h"
#include "runtime/weights/image.h"

/* What one instance of a model is: the file and every option that changes its answers. */
struct ingle_model_want {
    char name[64];  /* for people */
    char path[512]; /* of the GGUF file; empty: the null engine */
    uint8_t kv_bits;
    bool ref_kernels;
    enum ingle_act_mode activations;
    uint32_t context_tokens; /* 0 = the model's */
};

enum ingle_load_step {
    INGLE_LOAD_ESTIMATE, /* what would it take? sets resident_bytes */
    INGLE_LOAD_MODEL,    /* sets engine */
    INGLE_LOAD_FREE,     /* engine */
};

struct ingle_load {
    enum ingle_load_step step;
    uint16_t slot;
    struct ingle_model_want want;
    uint64_t kv_bytes;
    bool images; /* read and keep the packed image */
    uint64_t resident_bytes;
    struct ingle_engine *engine;
    struct ingle_error err; /* code 0: done */
    _Atomic bool cancel;    /* io stores relaxed; load reads relaxed: soon is enough */
    _Atomic uint64_t done_bytes, total_bytes; /* load stores relaxed; io loads relaxed */
};

struct ingle_loader {
    struct ingle_spsc jobs, done; /* of struct ingle_load *; io to load, load to io */
    struct ingle_load *job_slots[64], *done_slots[64];
    struct ingle_park park;
    _Atomic bool stop;
    int io_eventfd; /* borrowed */
    pthread_t thread;
    struct { /* load */
        uint32_t n_threads;
        struct ingle_sched_options limits;
        struct ingle_image_home home;
        struct ingle_image *unkept[INGLE_MODEL_SLOTS]; /* loaded, to be written; or NULL */
        struct ingle_engine *cold[INGLE_MODEL_SLOTS];  /* loaded, to be warmed; or NULL */
        struct ingle_backend *fast, *ref, *null;       /* made when first needed */
    } load;
};

/* Borrows the strings of home for as long as the loader lives. */
int ingle_loader_start(struct ingle_loader *loader, int io_eventfd, uint32_t n_threads,
                       const struct ingle_sched_options *limits,
                       const struct ingle_image_home *home,
                       struct ingle_error *err) INGLE_MUST_CHECK;
/* Joins; jobs that were not begun are left. The engines must be freed before the fini. */
void ingle_loader_stop(struct ingle_loader *loader);
void ingle_loader_fini(struct ingle_loader *loader); /* the backends */

/* io. At most one job an instance slot is under way, so neither queue can be full. */
void ingle_loader_give(struct ingle_loader *loader, struct ingle_load *job);
struct ingle_load *ingle_loader_take(struct ingle_loader *loader); /* NULL: none done */

#endif
