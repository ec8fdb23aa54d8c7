/* Owns the table of instances and who waits for them. The slow work is the load thread's; the
 * requests on an instance are step's. Invariant: a slot's engine belongs to load until the job
 * comes back, to step from MODEL_ADD to MODEL_DROPPED, then to load again to be freed; the ledger
 * has its bytes from before the load until after the free. Thread: io. */
#include "runtime/session/models.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/units.h"
#include "runtime/model/model.h"
#include "runtime/sched/limits.h"
#include "runtime/session/admin.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "runtime/session/ticket.h"

#define SCRATCH_GUESS_BYTES (32 * INGLE_MIB) /* until the engine says what it is */
#define NULL_KV_BYTES       (32 * INGLE_MIB)

/* ---- names ----------------------------------------------------------------------------------- */

static int not_found(const struct ingle_models *models, const char *name, struct ingle_error *err)
{
    char known[160];
    size_t n = 0;

    known[0] = '\0';
    for (uint32_t i = 0; i < models->n_specs && n < sizeof known; i++) {
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i == 0 ? ". Configured: " : ", ",
                              models->specs[i].want.name);
    }
    return ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -ENOENT,
                           "no model \"%.80s\": not in ingle.conf, no such file in %s%s. Try: "
                           "ingle pull %.80s, or give the absolute path of a GGUF file",
                           name, models->dir, known, name);
}

int ingle_models_find(const struct ingle_models *models, const char *name,
                      struct ingle_model_want *ret, struct ingle_error *err)
{
    struct ingle_model_want want = {.kv_bits = 8,
                                    .activations = INGLE_ACT_INT8,
                                    .context_tokens = 0};
    const char *base;

    if (name[0] == '\0') {
        const struct ingle_instance *instance = &models->all[models->default_slot];

        if (models->default_slot != 0 && instance->state != INGLE_INSTANCE_LEAVING) {
            *ret = instance->want;
            return 0;
        }
        if (models->default_name[0] == '\0') {
            return ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -ENODEV,
                                   "no model is named, and there is no default: name one, or set "
                                   "default_model in [daemon] of ingle.conf");
        }
        name = models->default_name;
    }
    for (uint32_t i = 0; i < models->n_specs; i++) {
        if (strcmp(models->specs[i].want.name, name) == 0) {
            *ret = models->specs[i].want;
            return 0;
        }
    }
    if (strlen(name) >= sizeof want.path) {
        return not_found(models, name, err);
    }
    if (name[0] == '/') { /* of any name: some stores call their files by a checksum */
        size_t bytes;

        base = strrchr(name, '/') + 1;
        bytes = strlen(base);
        bytes -= bytes > 5 && strcmp(base + bytes - 5, ".gguf") == 0 ? 5 : 0;
        (void)snprintf(want.path, sizeof want.path, "%s", name);
        (void)snprintf(want.name, sizeof want.name, "%.*s", (int)bytes, base);
    } else {
        int n = snprintf(want.path, sizeof want.path, "%s/%s.gguf", models->dir, name);

        if (strchr(name, '/') != NULL || name[0] == '.' || n < 0 || (size_t)n >= sizeof want.path) {
            return not_found(models, name, err);
        }
        (void)snprintf(want.name, sizeof want.name, "%s", name);
    }
    if (access(want.path, R_OK) != 0) {
        return errno == ENOENT
                   ? not_found(models, name, err)
                   : ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -errno, "cannot read %s: %s",
                                     want.path, strerrordesc_np(errno));
    }
    *ret = want;
    return 0;
}

static bool same_want(const struct ingle_model_want *a, const struct ingle_model_want *b)
{
    return strcmp(a->path, b->path) == 0 && a->kv_bits == b->kv_bits &&
           a->ref_kernels == b->ref_kernels && a->activations == b->activations &&
           a->context_tokens == b->context_tokens;
}

/* ---- waits ----------------------------------------------------------------------------------- */

int ingle_models_wait(struct ingle_io *io, enum ingle_wait_kind kind, struct ingle_session *session,
                      uint64_t seq, uint32_t slots)
{
    struct ingle_wait *wait;
    uint32_t n = 0;

    for (struct ingle_list *l = io->models.waits.next; l != &io->models.waits; l = l->next) {
        n += ingle_container(l, struct ingle_wait, link)->session == session;
    }
    if (n >= INGLE_OPENS_WAITING_MAX) {
        return -EBUSY;
    }
    wait = ingle_mem_alloc(sizeof *wait);
    if (wait == NULL) {
        return -ENOMEM;
    }
    wait->kind = kind;
    wait->session = session;
    wait->seq = seq;
    wait->slots = slots;
    wait->n_unloaded = (uint32_t)__builtin_popcount(slots);
    ingle_list_append(&io->models.waits, &wait->link);
    return 0;
}

static void free_wait(struct ingle_wait *wait)
{
    ingle_list_remove(&wait->link);
    ingle_mem_free(wait);
}

static bool is_awaited(const struct ingle_models *models, uint16_t slot)
{
    for (struct ingle_list *l = models->waits.next; l != &models->waits; l = l->next) {
        const struct ingle_wait *wait = ingle_container(l, struct ingle_wait, link);

        if (wait->kind == INGLE_WAIT_OPEN && (wait->slots & 1u << slot) != 0) {
            return true;
        }
    }
    return false;
}

void ingle_models_forget(struct ingle_io *io, const struct ingle_session *session)
{
    struct ingle_models *models = &io->models;
    uint32_t left = 0;

    for (struct ingle_list *l = models->waits.next; l != &models->waits;) {
        struct ingle_wait *wait = ingle_container(l, struct ingle_wait, link);

        l = l->next;
        if (wait->session == session) {
            left |= wait->kind == INGLE_WAIT_OPEN ? wait->slots : 0;
            free_wait(wait);
        }
    }
    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        struct ingle_instance *instance = &models->all[slot];

        if ((left & 1u << slot) != 0 && instance->state == INGLE_INSTANCE_LOADING &&
            !instance->keep && !is_awaited(models, slot)) {
            ingle_models_close(io, instance);
        }
    }
}

/* Answer everybody who waits for this slot; err NULL: it is there, or it is gone, as they wished.
 */
static void tell(struct ingle_io *io, struct ingle_instance *instance, enum ingle_wait_kind kind,
                 const struct ingle_error *err)
{
    struct ingle_list *waits = &io->models.waits;

    for (struct ingle_list *l = waits->next; l != waits;) {
        struct ingle_wait *wait = ingle_container(l, struct ingle_wait, link);
        struct ingle_session *session = wait->session;
        uint64_t seq = wait->seq;
        uint32_t n_unloaded = wait->n_unloaded;

        l = l->next;
        if (wait->kind != kind || (wait->slots & 1u << instance->slot) == 0) {
            continue;
        }
        wait->slots &= ~(1u << instance->slot);
        if (wait->slots != 0) {
            continue;
        }
        free_wait(wait);
        if (kind == INGLE_WAIT_OPEN) {
            ingle_admin_opened(session, seq, instance, err);
        } else {
            ingle_admin_unloaded(session, seq, n_unloaded);
        }
        /* The answer may have ended its session, and with it waits of the same session. */
        l = waits->next;
    }
}

static void progress_fired(struct ingle_timer *timer)
{
    struct ingle_models *models = ingle_container(timer, struct ingle_models, progress);
    struct ingle_io *io = ingle_container(models, struct ingle_io, models);
    bool again = false;

    for (struct ingle_list *l = models->waits.next; l != &models->waits;) {
        struct ingle_wait *wait = ingle_container(l, struct ingle_wait, link);
        const struct ingle_instance *instance;

        l = l->next;
        if (wait->kind != INGLE_WAIT_OPEN) {
            continue;
        }
        instance = &models->all[__builtin_ctz(wait->slots)];
        if (instance->state == INGLE_INSTANCE_LOADING) {
            struct ingle_session *session = wait->session;

            again = true;
            ingle_admin_progress(session, wait->seq, instance);
            if (session->state == INGLE_SESSION_CLOSING) {
                break; /* its waits are gone from the list; the rest at the next tick */
            }
        }
    }
    if (again && ingle_reactor_arm(&io->reactor, &models->progress,
                                   ingle_clock_ns() + INGLE_PROGRESS_MS * INGLE_NS_PER_MS) != 0) {
        ingle_log(INGLE_LOG_WARN, "timer why=\"no memory; no more progress is shown\"");
    }
}

/* ---- open and close -------------------------------------------------------------------------- */

void ingle_models_init(struct ingle_models *models)
{
    memset(models, 0, sizeof *models);
    for (uint16_t slot = 0; slot < INGLE_MODEL_SLOTS; slot++) {
        models->all[slot].slot = slot;
    }
    ingle_list_init(&models->waits);
    models->progress.fire = progress_fired;
}

static struct ingle_instance *free_instance(struct ingle_models *models)
{
    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        if (models->all[slot].state == INGLE_INSTANCE_NONE) {
            return &models->all[slot];
        }
    }
    return NULL;
}

static void give_job(struct ingle_io *io, struct ingle_instance *instance,
                     enum ingle_load_step step)
{
    instance->job.step = step;
    ingle_loader_give(&io->models.loader, &instance->job);
}

int ingle_models_open(struct ingle_io *io, const struct ingle_model_want *want, bool keep,
                      struct ingle_instance **ret, struct ingle_error *err)
{
    struct ingle_models *models = &io->models;
    struct ingle_instance *instance;

    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        instance = &models->all[slot];
        if (instance->state == INGLE_INSTANCE_NONE || !same_want(&instance->want, want)) {
            continue;
        }
        if (instance->state == INGLE_INSTANCE_LEAVING || instance->doomed) {
            return ingle_fail_kind(err, INGLE_ERR_REFUSED, -EBUSY,
                                   "%s is being unloaded; try again when it is gone", want->name);
        }
        instance->keep |= keep;
        *ret = instance;
        return 0;
    }
    instance = free_instance(models);
    if (instance == NULL) {
        return ingle_fail_kind(err, INGLE_ERR_REFUSED, -ENOSPC,
                               "%u models are loaded, the limit. Try: ingle unload one of them",
                               INGLE_MODEL_SLOTS - 1);
    }
    instance->state = INGLE_INSTANCE_LOADING;
    instance->keep = keep;
    instance->doomed = false;
    instance->want = *want;
    instance->n_requests = 0;
    instance->n_kept = 0;
    memset(&instance->job, 0, sizeof instance->job);
    instance->job.slot = instance->slot;
    instance->job.want = *want;
    instance->job.images = models->images;
    instance->begin_ns = ingle_clock_ns();
    instance->job.kv_bytes = want->path[0] == '\0' ? NULL_KV_BYTES : models->kv_bytes;
    give_job(io, instance, INGLE_LOAD_ESTIMATE);
    if (models->progress.heap_pos == 0 &&
        ingle_reactor_arm(&io->reactor, &models->progress,
                          ingle_clock_ns() + INGLE_PROGRESS_MS * INGLE_NS_PER_MS) != 0) {
        ingle_log(INGLE_LOG_WARN, "timer why=\"no memory; no progress is shown\"");
    }
    ingle_log(INGLE_LOG_INFO, "load-begin model=%s slot=%u path=\"%s\"", want->name, instance->slot,
              want->path);
    *ret = instance;
    return 0;
}

void ingle_models_close(struct ingle_io *io, struct ingle_instance *instance)
{
    struct ingle_to_step msg = {.kind = INGLE_TO_STEP_MODEL_DROP, .slot = instance->slot};

    if (instance->state == INGLE_INSTANCE_LOADING) {
        instance->doomed = true;
        atomic_store_explicit(&instance->job.cancel, true, memory_order_relaxed);
    } else if (instance->state == INGLE_INSTANCE_READY) {
        instance->state = INGLE_INSTANCE_LEAVING;
        ingle_io_send(io, &msg);
    }
}

void ingle_models_open_kept(struct ingle_io *io)
{
    struct ingle_models *models = &io->models;
    struct ingle_instance *instance = NULL;
    struct ingle_model_want want = {0};
    struct ingle_error err;

    for (uint32_t i = 0; i < models->n_specs; i++) {
        if (models->specs[i].keep &&
            ingle_models_open(io, &models->specs[i].want, true, &instance, &err) != 0) {
            ingle_log(INGLE_LOG_ERROR, "load-failed model=%s why=\"%s\"",
                      models->specs[i].want.name, err.text);
        }
    }
    if (models->default_name[0] == '\0') {
        return;
    }
    if (ingle_models_find(models, models->default_name, &want, &err) != 0 ||
        ingle_models_open(io, &want, true, &instance, &err) != 0) {
        ingle_log(INGLE_LOG_ERROR, "load-failed model=\"%s\" why=\"%s\"", models->default_name,
                  err.text);
        return;
    }
    ingle_assert(instance != NULL);
    models->default_slot = instance->slot;
}

/* ---- what load and step give back ------------------------------------------------------------ */

static void close_pools(struct ingle_instance *instance)
{
    ingle_ledger_close(instance->weights);
    ingle_ledger_close(instance->tokenizer);
    ingle_ledger_close(instance->kv);
    ingle_ledger_close(instance->scratch);
    instance->weights = instance->tokenizer = instance->kv = instance->scratch = NULL;
}

static void gone(struct ingle_io *io, struct ingle_instance *instance)
{
    close_pools(instance);
    instance->state = INGLE_INSTANCE_NONE;
    instance->engine = NULL;
    instance->model = NULL;
    if (io->models.default_slot == instance->slot) {
        io->models.default_slot = 0;
    }
    tell(io, instance, INGLE_WAIT_UNLOAD, NULL);
}

static void load_failed(struct ingle_io *io, struct ingle_instance *instance,
                        const struct ingle_error *err)
{
    ingle_log(INGLE_LOG_ERROR, "load-failed model=%s slot=%u why=\"%s\"", instance->want.name,
              instance->slot, err->text);
    tell(io, instance, INGLE_WAIT_OPEN, err);
    gone(io, instance);
}

/* Admission: the estimate is known, nothing is allocated yet. */
static void estimated(struct ingle_io *io, struct ingle_instance *instance)
{
    struct ingle_load *job = &instance->job;
    struct ingle_error err;
    char what[96];

    (void)snprintf(what, sizeof what, "model \"%s\"", instance->want.name);
    if (ingle_ledger_admit(&io->ledger, what,
                           job->resident_bytes + job->kv_bytes + SCRATCH_GUESS_BYTES, &err) != 0) {
        load_failed(io, instance, &err);
        return;
    }
    instance->weights = ingle_ledger_open(&io->ledger, "weights", instance->want.name);
    instance->tokenizer = ingle_ledger_open(&io->ledger, "tokenizer", instance->want.name);
    instance->kv = ingle_ledger_open(&io->ledger, "kv", instance->want.name);
    instance->scratch = ingle_ledger_open(&io->ledger, "scratch", instance->want.name);
    ingle_assert(instance->scratch != NULL); /* INGLE_LEDGER_POOLS_MAX has room for all slots */
    instance->weights->bytes = job->resident_bytes;
    instance->kv->bytes = job->kv_bytes;
    instance->scratch->bytes = SCRATCH_GUESS_BYTES;
    give_job(io, instance, INGLE_LOAD_MODEL);
}

/* Whether requests that name no model are for this one: as the configuration says, or where it says
 * nothing the first. */
static bool is_default(const struct ingle_models *models, const struct ingle_instance *instance)
{
    struct ingle_model_want want = {0};

    return models->default_name[0] == '\0' ||
           (ingle_models_find(models, models->default_name, &want, NULL) == 0 &&
            same_want(&want, &instance->want));
}

static void loaded(struct ingle_io *io, struct ingle_instance *instance)
{
    struct ingle_models *models = &io->models;
    struct ingle_engine_bytes bytes;
    struct ingle_to_step add = {.kind = INGLE_TO_STEP_MODEL_ADD,
                                .slot = instance->slot,
                                .engine = instance->job.engine};

    instance->engine = instance->job.engine;
    instance->model = ingle_engine_model(instance->engine);
    instance->context_tokens = ingle_engine_context_tokens(instance->engine);
    instance->n_vocab = instance->model == NULL ? INGLE_NULL_VOCAB : instance->model->V;
    ingle_engine_bytes(instance->engine, &bytes);
    instance->weights->bytes = bytes.weights;
    instance->tokenizer->bytes = bytes.tokenizer;
    instance->kv->bytes = bytes.kv_pool;
    instance->scratch->bytes = bytes.scratch;
    instance->state = INGLE_INSTANCE_READY;
    instance->ready_ns = ingle_clock_ns();
    ingle_io_send(io, &add);
    if (models->default_slot == 0 && is_default(models, instance)) {
        ingle_assert(instance != NULL);
        models->default_slot = instance->slot;
    }
    ingle_log(INGLE_LOG_INFO, "load-done model=%s slot=%u weights_bytes=%llu kv_bytes=%llu ms=%llu",
              instance->want.name, instance->slot, (unsigned long long)bytes.weights,
              (unsigned long long)bytes.kv_pool,
              (unsigned long long)((instance->ready_ns - instance->begin_ns) / INGLE_NS_PER_MS));
    tell(io, instance, INGLE_WAIT_OPEN, NULL);
    if (instance->doomed) {
        ingle_models_close(io, instance);
    }
}

void ingle_models_take_loaded(struct ingle_io *io)
{
    struct ingle_load *job;

    while ((job = ingle_loader_take(&io->models.loader)) != NULL) {
        struct ingle_instance *instance = &io->models.all[job->slot];
        struct ingle_error cancelled;

        if (job->step == INGLE_LOAD_FREE) {
            ingle_log(INGLE_LOG_INFO, "unloaded model=%s slot=%u", instance->want.name,
                      instance->slot);
            gone(io, instance);
        } else if (job->err.code == 0 && instance->doomed && job->step == INGLE_LOAD_ESTIMATE) {
            (void)ingle_fail(&cancelled, -ECANCELED, "%s was unloaded while it was being loaded",
                             instance->want.name);
            load_failed(io, instance, &cancelled);
        } else if (job->err.code != 0) {
            load_failed(io, instance, &job->err);
        } else if (job->step == INGLE_LOAD_ESTIMATE) {
            estimated(io, instance);
        } else {
            loaded(io, instance);
        }
    }
}

void ingle_models_dropped(struct ingle_io *io, uint16_t slot)
{
    struct ingle_instance *instance = &io->models.all[slot];

    ingle_assert(instance->state == INGLE_INSTANCE_LEAVING);
    ingle_context_model_over(io, slot);
    instance->model = NULL;
    give_job(io, instance, INGLE_LOAD_FREE);
}

/* ---- for requests ---------------------------------------------------------------------------- */

int ingle_models_serving(struct ingle_models *models, uint16_t slot, struct ingle_instance **ret)
{
    struct ingle_instance *instance;

    slot = slot == 0 ? models->default_slot : slot;
    if (slot == 0 || slot >= INGLE_MODEL_SLOTS) {
        return -ENODEV;
    }
    instance = &models->all[slot];
    if (instance->state == INGLE_INSTANCE_LOADING) {
        return -EAGAIN;
    }
    if (instance->state != INGLE_INSTANCE_READY) {
        return -ENODEV;
    }
    *ret = instance;
    return 0;
}

void ingle_models_fini(struct ingle_models *models)
{
    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        struct ingle_instance *instance = &models->all[slot];

        if (instance->state != INGLE_INSTANCE_NONE) {
            ingle_engine_free(instance->job.engine); /* NULL where load had none yet */
        }
    }
    while (!ingle_list_empty(&models->waits)) {
        free_wait(ingle_container(models->waits.next, struct ingle_wait, link));
    }
    ingle_loader_fini(&models->loader);
}
