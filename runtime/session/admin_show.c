/* What the runtime holds, as JSON for people and tools: the ledger, the models, the sessions, the
 * counters. Reads only; owns nothing. Thread: io (step's counters are atomics). */
#include <dirent.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/model/model.h"
#include "runtime/model/template.h"
#include "runtime/model/tokenizer.h"
#include "runtime/session/admin.h"
#include "runtime/session/io.h"

static void add_string(struct json_object *object, const char *key, const char *value)
{
    (void)json_object_object_add(object, key, json_object_new_string(value));
}

static void add_number(struct json_object *object, const char *key, uint64_t value)
{
    (void)json_object_object_add(object, key, json_object_new_uint64(value));
}

static void add_bool(struct json_object *object, const char *key, bool value)
{
    (void)json_object_object_add(object, key, json_object_new_boolean(value));
}

static double seconds_since(uint64_t then_ns)
{
    return (double)(ingle_clock_ns() - then_ns) / 1e9;
}

/* ---- models ---------------------------------------------------------------------------------- */

static const char *const arch_names[] = {
    [INGLE_ARCH_LLAMA] = "llama",
    [INGLE_ARCH_QWEN2] = "qwen2",
    [INGLE_ARCH_QWEN3] = "qwen3",
    [INGLE_ARCH_GEMMA3] = "gemma3",
};

static const char *const state_names[] = {
    [INGLE_INSTANCE_NONE] = "none",
    [INGLE_INSTANCE_LOADING] = "loading",
    [INGLE_INSTANCE_READY] = "ready",
    [INGLE_INSTANCE_LEAVING] = "leaving",
};

static void add_loaded(struct json_object *o, const struct ingle_instance *instance)
{
    const struct ingle_model *model = instance->model;
    struct ingle_engine_bytes bytes;

    ingle_engine_bytes(instance->engine, &bytes);
    add_number(o, "kv_used_bytes", bytes.kv_used);
    add_number(o, "n_ctx", instance->context_tokens);
    add_number(o, "n_vocab", instance->n_vocab);
    if (model == NULL) {
        add_string(o, "arch", "null");
        return;
    }
    add_string(o, "arch", arch_names[model->arch]);
    add_string(o, "title", model->name);
    add_number(o, "n_layers", model->L);
    add_number(o, "n_embd", model->E);
    add_number(o, "n_ctx_train", model->context_tokens);
    add_number(o, "file_bytes", model->file_bytes);
    (void)json_object_object_add(o, "bos",
                                 json_object_new_int(ingle_tokenizer_bos(model->tokenizer)));
    (void)json_object_object_add(o, "eos",
                                 json_object_new_int(ingle_tokenizer_eos(model->tokenizer)));
    add_bool(o, "add_bos", ingle_tokenizer_add_bos(model->tokenizer));
    add_bool(o, "has_template", model->chat != NULL);
}

struct json_object *ingle_show_model(const struct ingle_io *io,
                                     const struct ingle_instance *instance, bool everything)
{
    const struct ingle_model_want *want = &instance->want;
    struct json_object *o = json_object_new_object();

    add_number(o, "slot", instance->slot);
    add_string(o, "name", want->name);
    add_string(o, "path", want->path);
    add_string(o, "state", state_names[instance->state]);
    add_bool(o, "default", io->models.default_slot == instance->slot);
    add_string(o, "kernels",
               want->ref_kernels ? ingle_kernels_ref()->isa : ingle_kernels_best()->isa);
    add_number(o, "kv_bits", want->kv_bits);
    add_string(o, "activations", ingle_act_mode_name(want->activations));
    add_number(o, "requests", instance->n_requests);
    add_number(o, "weights_bytes", instance->weights == NULL ? 0 : instance->weights->bytes);
    add_number(o, "kv_bytes", instance->kv == NULL ? 0 : instance->kv->bytes);
    add_number(o, "scratch_bytes", instance->scratch == NULL ? 0 : instance->scratch->bytes);
    if (instance->state == INGLE_INSTANCE_READY) {
        add_loaded(o, instance);
        if (everything && instance->model != NULL && instance->model->chat != NULL) {
            add_string(o, "template", ingle_template_source(instance->model->chat));
        }
    }
    return o;
}

struct json_object *ingle_show_models(struct ingle_io *io)
{
    struct json_object *models = json_object_new_array();

    for (uint16_t slot = 1; slot < INGLE_MODEL_SLOTS; slot++) {
        const struct ingle_instance *instance = &io->models.all[slot];

        if (instance->state != INGLE_INSTANCE_NONE) {
            (void)json_object_array_add(models, ingle_show_model(io, instance, false));
        }
    }
    return models;
}

/* ---- sessions -------------------------------------------------------------------------------- */

struct json_object *ingle_show_sessions(struct ingle_io *io)
{
    static const char *const states[] = {
        [INGLE_SESSION_HELLO] = "hello",     [INGLE_SESSION_WELCOMED] = "welcomed",
        [INGLE_SESSION_LIVE] = "live",       [INGLE_SESSION_LOST] = "lost",
        [INGLE_SESSION_CLOSING] = "closing",
    };
    struct json_object *sessions = json_object_new_array();

    for (struct ingle_list *l = io->sessions.next; l != &io->sessions; l = l->next) {
        const struct ingle_session *session = ingle_container(l, struct ingle_session, link);
        struct json_object *o = json_object_new_object();

        add_number(o, "client", session->client_id);
        (void)json_object_object_add(o, "pid", json_object_new_int(session->pid));
        add_number(o, "uid", session->uid);
        add_string(o, "name", session->name);
        add_string(o, "label", session->label);
        add_string(o, "state", states[session->state]);
        (void)json_object_object_add(o, "age_s",
                                     json_object_new_double(seconds_since(session->since_ns)));
        add_number(o, "tenant", session->tenant == NULL ? 0 : session->tenant->index);
        add_number(o, "requests", session->n_requests);
        add_number(o, "requests_now", session->n_inflight);
        add_number(o, "tokens", session->n_tokens);
        add_number(o, "contexts", session->n_contexts);
        add_number(o, "refused", session->n_refused);
        add_number(o, "floods", session->n_floods);
        add_number(o, "shared_bytes", session->c2s.bytes + session->s2c.bytes);
        (void)json_object_array_add(sessions, o);
    }
    return sessions;
}

/* ---- everything ------------------------------------------------------------------------------ */

static struct json_object *show_memory(const struct ingle_io *io)
{
    struct json_object *memory = json_object_new_object(), *pools = json_object_new_array();

    for (uint32_t i = 0; i < INGLE_LEDGER_POOLS_MAX; i++) {
        const struct ingle_pool *pool = &io->ledger.pools[i];

        if (pool->name[0] != '\0') {
            struct json_object *o = json_object_new_object();

            add_string(o, "name", pool->name);
            add_string(o, "owner", pool->owner);
            add_number(o, "bytes", pool->bytes);
            (void)json_object_array_add(pools, o);
        }
    }
    add_number(memory, "budget", io->ledger.budget_bytes);
    add_number(memory, "used", ingle_ledger_used(&io->ledger));
    (void)json_object_object_add(memory, "pools", pools);
    return memory;
}

static uint64_t count_entries(const char *path)
{
    DIR *dir = opendir(path);
    uint64_t n = 0;

    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) { /* NOLINT(concurrency-mt-unsafe): a stream of our own */
        n++;
    }
    (void)closedir(dir);
    return n >= 2 ? n - 2 : 0; /* "." and ".." */
}

/* What the kernel says that this process has: the tests of hostile clients hold it to that. */
static struct json_object *show_process(void)
{
    struct json_object *o = json_object_new_object();
    FILE *statm = fopen("/proc/self/statm", "re");
    unsigned long long pages[3] = {0};

    if (statm != NULL) {
        if (fscanf(statm, "%llu %llu %llu", &pages[0], &pages[1], &pages[2]) != 3) {
            memset(pages, 0, sizeof pages);
        }
        (void)fclose(statm);
    }
    add_number(o, "rss_bytes", pages[1] * (uint64_t)sysconf(_SC_PAGESIZE));
    add_number(o, "shared_bytes", pages[2] * (uint64_t)sysconf(_SC_PAGESIZE));
    add_number(o, "fds", count_entries("/proc/self/fd") - 1); /* but for the one that counts */
    add_number(o, "threads", count_entries("/proc/self/task"));
    return o;
}

static uint64_t stat_of(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static struct json_object *show_counters(const struct ingle_io *io)
{
    const struct ingle_io_counters *c = &io->counters;
    const struct ingle_sched_stats *s = ingle_sched_stats(io->sched);
    struct json_object *o = json_object_new_object();

    add_number(o, "accepted", c->n_accepted);
    add_number(o, "attached", c->n_attached);
    add_number(o, "rejected", c->n_rejected);
    add_number(o, "resumed", c->n_resumed);
    add_number(o, "violations", c->n_violations);
    add_number(o, "refused", c->n_refused);
    add_number(o, "floods", c->n_floods);
    add_number(o, "requests", c->n_requests);
    add_number(o, "tokens", c->n_tokens);
    add_number(o, "io_sleeps", c->n_sleeps);
    add_number(o, "log_lost", ingle_log_lost());
    add_number(o, "steps", stat_of(&s->n_steps));
    add_number(o, "prompt_tokens", stat_of(&s->n_prompt_tokens));
    add_number(o, "cached_tokens", stat_of(&s->n_cached_tokens));
    add_number(o, "generated_tokens", stat_of(&s->n_generated_tokens));
    add_number(o, "cancelled", stat_of(&s->n_cancelled));
    add_number(o, "parked", stat_of(&s->n_parked));
    add_number(o, "evicted_chunks", stat_of(&s->n_evicted_chunks));
    add_number(o, "running", atomic_load_explicit(&s->n_running, memory_order_relaxed));
    add_number(o, "waiting", atomic_load_explicit(&s->n_waiting, memory_order_relaxed));
    add_number(o, "contexts", atomic_load_explicit(&s->n_contexts, memory_order_relaxed));
    add_number(o, "step_allocations", ingle_mem_watched_calls());
    return o;
}

struct json_object *ingle_show_all(struct ingle_io *io)
{
    struct json_object *o = json_object_new_object();

    add_bool(o, "ok", true);
    add_string(o, "version", INGLE_VERSION);
    (void)json_object_object_add(o, "pid", json_object_new_int(getpid()));
    (void)json_object_object_add(o, "uptime_s",
                                 json_object_new_double(seconds_since(io->started_ns)));
    add_string(o, "socket", io->socket_path);
    add_string(o, "kernels", ingle_kernels_best()->isa);
    add_bool(o, "draining", io->draining);
    (void)json_object_object_add(o, "process", show_process());
    (void)json_object_object_add(o, "memory", show_memory(io));
    (void)json_object_object_add(o, "models", ingle_show_models(io));
    (void)json_object_object_add(o, "sessions", ingle_show_sessions(io));
    (void)json_object_object_add(o, "counters", show_counters(io));
    return o;
}
