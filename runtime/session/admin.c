/* Dispatches administrative requests. Everything in them is a stranger's: each field is looked up
 * by name and type, and what is wrong is answered, never assumed. Owns nothing that outlives a
 * call; a request that has to wait is remembered by models.c. Thread: io. */
#include "runtime/session/admin.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/model/tokenizer.h"
#include "runtime/session/io.h"
#include "runtime/session/limits.h"
#include "shm/check.h"
#include "shm/proto.h"

#define JSON_DEPTH_MAX 8

/* ---- answers --------------------------------------------------------------------------------- */

/* Takes object; NULL stands for "no memory". */
static void send_json(struct ingle_session *session, uint64_t seq, uint16_t flags,
                      struct json_object *object)
{
    size_t bytes;
    const char *text =
        object == NULL ? NULL
                       : json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN, &bytes);

    if (text == NULL) {
        text = "{\"ok\":false,\"kind\":\"other\",\"exit\":1,\"error\":\"not enough memory\"}";
        bytes = strlen(text);
    }
    ingle_session_send(session, INGLE_CTL_ADMIN_REPLY, flags, seq, text, bytes);
    (void)json_object_put(object);
}

static void send_error(struct ingle_session *session, uint64_t seq, const struct ingle_error *err)
{
    static const char *const kinds[] = {
        [INGLE_ERR_NONE] = "other",          [INGLE_ERR_OTHER] = "other",
        [INGLE_ERR_USAGE] = "usage",         [INGLE_ERR_UNREACHABLE] = "unreachable",
        [INGLE_ERR_NOT_FOUND] = "not_found", [INGLE_ERR_REFUSED] = "refused",
        [INGLE_ERR_BAD_MODEL] = "bad_model",
    };
    struct json_object *reply = json_object_new_object();

    (void)json_object_object_add(reply, "ok", json_object_new_boolean(0));
    (void)json_object_object_add(reply, "kind", json_object_new_string(kinds[err->kind]));
    (void)json_object_object_add(
        reply, "exit", json_object_new_int(err->kind == INGLE_ERR_NONE ? 1 : (int)err->kind));
    (void)json_object_object_add(reply, "error", json_object_new_string(err->text));
    send_json(session, seq, 0, reply);
}

static struct json_object *ok_object(void)
{
    struct json_object *reply = json_object_new_object();

    (void)json_object_object_add(reply, "ok", json_object_new_boolean(1));
    return reply;
}

/* ---- fields of a request --------------------------------------------------------------------- */

#define USAGE(err, ...) ingle_fail_kind(err, INGLE_ERR_USAGE, -EINVAL, __VA_ARGS__)

/* A string member; absent: "". */
static int take_string(struct json_object *object, const char *key, const char **ret,
                       struct ingle_error *err)
{
    struct json_object *value;

    *ret = "";
    if (!json_object_object_get_ex(object, key, &value) || value == NULL) {
        return 0;
    }
    if (json_object_get_type(value) != json_type_string) {
        return USAGE(err, "\"%s\" must be a string", key);
    }
    *ret = json_object_get_string(value);
    return 0;
}

/* An integer member within min..max; absent: *ret stays. */
static int take_int(struct json_object *object, const char *key, int64_t min, int64_t max,
                    int64_t *ret, struct ingle_error *err)
{
    struct json_object *value;
    int64_t n;

    if (!json_object_object_get_ex(object, key, &value) || value == NULL) {
        return 0;
    }
    n = json_object_get_int64(value);
    if (json_object_get_type(value) != json_type_int || n < min || n > max) {
        return USAGE(err, "\"%s\" must be a whole number from %lld to %lld", key, (long long)min,
                     (long long)max);
    }
    *ret = n;
    return 0;
}

/* A number of bits, or a name; absent: *ret stays. */
static int take_activations(struct json_object *options, enum ingle_act_mode *ret,
                            struct ingle_error *err)
{
    struct json_object *value;
    json_type type;

    if (!json_object_object_get_ex(options, "activations", &value)) {
        return 0;
    }
    type = json_object_get_type(value);
    if ((type != json_type_int && type != json_type_string) ||
        !ingle_act_mode_find(json_object_get_string(value), ret)) {
        return USAGE(err, "\"activations\" must be 8, 16, 32 or \"bf16\"");
    }
    return 0;
}

static int take_model_options(struct json_object *options, struct ingle_model_want *want,
                              struct ingle_error *err)
{
    int64_t kv_bits = want->kv_bits, context = want->context_tokens;
    const char *kernels;
    int res;

    if (json_object_get_type(options) != json_type_object) {
        return USAGE(err, "\"options\" must be an object");
    }
    json_object_object_foreach(options, key, unused)
    {
        (void)unused;
        if (strcmp(key, "kv_bits") != 0 && strcmp(key, "kernels") != 0 &&
            strcmp(key, "activations") != 0 && strcmp(key, "context") != 0) {
            return USAGE(err,
                         "unknown option \"%.60s\"; there are kv_bits, kernels, activations, "
                         "context",
                         key);
        }
    }
    res = take_int(options, "kv_bits", 4, 16, &kv_bits, err);
    if (res == 0) {
        res = take_activations(options, &want->activations, err);
    }
    if (res == 0) {
        res = take_int(options, "context", 0, 1 << 24, &context, err);
    }
    if (res == 0) {
        res = take_string(options, "kernels", &kernels, err);
    }
    if (res != 0) {
        return res;
    }
    if (kv_bits != 16 && kv_bits != 8 && kv_bits != 4) {
        return USAGE(err, "\"kv_bits\" must be 16, 8 or 4");
    }
    if (kernels[0] != '\0' && strcmp(kernels, "auto") != 0 && strcmp(kernels, "ref") != 0) {
        return USAGE(err, "\"kernels\" must be \"auto\" or \"ref\"");
    }
    want->kv_bits = (uint8_t)kv_bits;
    want->context_tokens = (uint32_t)context;
    if (kernels[0] != '\0') {
        want->ref_kernels = strcmp(kernels, "ref") == 0;
    }
    return 0;
}

/* ---- verbs ----------------------------------------------------------------------------------- */

struct call {
    struct ingle_io *io;
    struct ingle_session *session;
    uint64_t seq;
    struct json_object *request;
};

void ingle_admin_opened(struct ingle_session *session, uint64_t seq,
                        const struct ingle_instance *instance, const struct ingle_error *err)
{
    struct json_object *reply;

    if (err != NULL) {
        send_error(session, seq, err);
        return;
    }
    reply = ingle_show_model(session->io, instance, false);
    (void)json_object_object_add(reply, "ok", json_object_new_boolean(1));
    send_json(session, seq, 0, reply);
}

void ingle_admin_unloaded(struct ingle_session *session, uint64_t seq, uint32_t n)
{
    struct json_object *reply = ok_object();

    (void)json_object_object_add(reply, "unloaded", json_object_new_int((int)n));
    send_json(session, seq, 0, reply);
}

void ingle_admin_progress(struct ingle_session *session, uint64_t seq,
                          const struct ingle_instance *instance)
{
    const struct ingle_load *job = &instance->job;
    struct json_object *reply = json_object_new_object();
    uint64_t total = atomic_load_explicit(&job->total_bytes, memory_order_relaxed);
    uint64_t done = atomic_load_explicit(&job->done_bytes, memory_order_relaxed);

    (void)json_object_object_add(reply, "progress", json_object_new_string("load"));
    (void)json_object_object_add(reply, "model", json_object_new_string(instance->want.name));
    (void)json_object_object_add(reply, "done", json_object_new_int64((int64_t)done));
    (void)json_object_object_add(reply, "total", json_object_new_int64((int64_t)total));
    send_json(session, seq, INGLE_CTL_F_PROGRESS, reply);
}

static int verb_open(const struct call *call, struct ingle_error *err)
{
    struct json_object *options;
    struct ingle_model_want want;
    struct ingle_instance *instance;
    const char *name;
    int res = take_string(call->request, "model", &name, err);

    if (res == 0) {
        res = ingle_models_find(&call->io->models, name, &want, err);
    }
    if (res == 0 && json_object_object_get_ex(call->request, "options", &options)) {
        res = take_model_options(options, &want, err);
    }
    if (res == 0) {
        res = ingle_models_open(call->io, &want, false, &instance, err);
    }
    if (res != 0) {
        return res;
    }
    if (instance->state == INGLE_INSTANCE_READY) {
        ingle_admin_opened(call->session, call->seq, instance, NULL);
        return 0;
    }
    res = ingle_models_wait(call->io, INGLE_WAIT_OPEN, call->session, call->seq,
                            1u << instance->slot);
    return res == 0 ? 0 : ingle_fail(err, res, "too many requests wait for a model already");
}

/* The instances that a request names, by "slot" or by "model", as a set of bits; never empty. */
static int take_instances(const struct call *call, uint32_t *ret, struct ingle_error *err)
{
    const char *name;
    int64_t slot = 0;
    uint32_t slots = 0;
    int res = take_string(call->request, "model", &name, err);

    if (res == 0) {
        res = take_int(call->request, "slot", 1, INGLE_MODEL_SLOTS - 1, &slot, err);
    }
    if (res != 0) {
        return res;
    }
    for (uint16_t i = 1; i < INGLE_MODEL_SLOTS; i++) {
        const struct ingle_instance *instance = &call->io->models.all[i];

        if (instance->state != INGLE_INSTANCE_NONE &&
            (slot != 0 ? i == slot
                       : strcmp(instance->want.name, name) == 0 ||
                             (name[0] == '/' && strcmp(instance->want.path, name) == 0))) {
            slots |= 1u << i;
        }
    }
    if (slots == 0) {
        return slot != 0 ? ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -ENOENT,
                                           "no model is loaded in slot %lld. Try: ingle ps",
                                           (long long)slot)
                         : ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -ENOENT,
                                           "no model \"%.80s\" is loaded. Try: ingle ps", name);
    }
    *ret = slots;
    return 0;
}

static int verb_unload(const struct call *call, struct ingle_error *err)
{
    uint32_t slots;
    int res = take_instances(call, &slots, err);

    if (res == 0) {
        res = ingle_models_wait(call->io, INGLE_WAIT_UNLOAD, call->session, call->seq, slots);
        if (res != 0) {
            return ingle_fail(err, res, "too many requests wait for a model already");
        }
    }
    for (uint16_t slot = 1; res == 0 && slot < INGLE_MODEL_SLOTS; slot++) {
        if ((slots & 1u << slot) != 0) {
            ingle_models_close(call->io, &call->io->models.all[slot]);
        }
    }
    return res;
}

static int verb_model(const struct call *call, struct ingle_error *err)
{
    struct json_object *reply;
    uint32_t slots;
    int res = take_instances(call, &slots, err);

    if (res != 0) {
        return res;
    }
    reply = ingle_show_model(call->io, &call->io->models.all[__builtin_ctz(slots)], true);
    (void)json_object_object_add(reply, "ok", json_object_new_boolean(1));
    send_json(call->session, call->seq, 0, reply);
    return 0;
}

static int verb_ps(const struct call *call, struct ingle_error *err)
{
    (void)err;
    send_json(call->session, call->seq, 0, ingle_show_all(call->io));
    return 0;
}

static int verb_models(const struct call *call, struct ingle_error *err)
{
    struct json_object *reply = ok_object();

    (void)err;
    (void)json_object_object_add(reply, "models", ingle_show_models(call->io));
    send_json(call->session, call->seq, 0, reply);
    return 0;
}

static int verb_sessions(const struct call *call, struct ingle_error *err)
{
    struct json_object *reply = ok_object();

    (void)err;
    (void)json_object_object_add(reply, "sessions", ingle_show_sessions(call->io));
    send_json(call->session, call->seq, 0, reply);
    return 0;
}

/* A uid may end its own sessions; root and the runtime's own uid any. */
static bool may_kill(const struct ingle_session *who, const struct ingle_session *whom)
{
    return who->uid == whom->uid || who->uid == 0 || who->uid == getuid();
}

static int verb_kill(const struct call *call, struct ingle_error *err)
{
    int64_t client = 0;
    int res = take_int(call->request, "client", 1, UINT32_MAX, &client, err);

    if (res != 0) {
        return res;
    }
    for (struct ingle_list *l = call->io->sessions.next; l != &call->io->sessions; l = l->next) {
        struct ingle_session *session = ingle_container(l, struct ingle_session, link);

        if (client != 0 && session->client_id == client) {
            if (!may_kill(call->session, session)) {
                return ingle_fail_kind(err, INGLE_ERR_REFUSED, -EPERM,
                                       "session %lld belongs to uid %u", (long long)client,
                                       (unsigned)session->uid);
            }
            send_json(call->session, call->seq, 0, ok_object());
            ingle_session_end(session, INGLE_REJECT_DENIED, "ended by `ingle kill` of pid %d",
                              (int)call->session->pid);
            return 0;
        }
    }
    return ingle_fail_kind(err, INGLE_ERR_NOT_FOUND, -ENOENT,
                           "no session %lld. Try: ingle sessions", (long long)client);
}

static int may_control(const struct call *call, struct ingle_error *err)
{
    if (call->session->uid == 0 || call->session->uid == getuid()) {
        return 0;
    }
    return ingle_fail_kind(err, INGLE_ERR_REFUSED, -EPERM,
                           "only root and uid %u, which runs ingled, may do that",
                           (unsigned)getuid());
}

static int verb_shutdown(const struct call *call, struct ingle_error *err)
{
    int res = may_control(call, err);

    if (res == 0) {
        send_json(call->session, call->seq, 0, ok_object());
        ingle_log(INGLE_LOG_INFO, "shutdown by=client client=%u pid=%d", call->session->client_id,
                  (int)call->session->pid);
        ingle_io_shutdown(call->io);
    }
    return res;
}

static int verb_reload(const struct call *call, struct ingle_error *err)
{
    int res = may_control(call, err);

    if (res == 0) {
        res = call->io->reload(call->io->reload_arg, err);
    }
    if (res == 0) {
        send_json(call->session, call->seq, 0, ok_object());
    }
    return res;
}

static void add_line(void *arg, const char *line)
{
    (void)json_object_array_add(arg, json_object_new_string(line));
}

static int verb_logs(const struct call *call, struct ingle_error *err)
{
    struct json_object *reply, *lines;
    int64_t n = 100;
    int res = may_control(call, err);

    if (res == 0) {
        res = take_int(call->request, "lines", 1, INGLE_LOG_LINES_MAX, &n, err);
    }
    if (res != 0) {
        return res;
    }
    reply = ok_object();
    lines = json_object_new_array();
    ingle_log_drain();
    ingle_log_history((uint32_t)n, add_line, lines);
    (void)json_object_object_add(reply, "lines", lines);
    (void)json_object_object_add(reply, "lost", json_object_new_int64((int64_t)ingle_log_lost()));
    send_json(call->session, call->seq, 0, reply);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(const struct call *call, struct ingle_error *err);
} verbs[] = {
    {"open", verb_open},         {"unload", verb_unload}, {"model", verb_model},
    {"models", verb_models},     {"ps", verb_ps},         {"sessions", verb_sessions},
    {"kill", verb_kill},         {"logs", verb_logs},     {"reload", verb_reload},
    {"shutdown", verb_shutdown},
};

static int dispatch(const struct call *call, struct ingle_error *err)
{
    const char *verb;
    int res = take_string(call->request, "verb", &verb, err);

    for (size_t i = 0; res == 0 && i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            return verbs[i].run(call, err);
        }
    }
    return res != 0 ? res
                    : USAGE(err,
                            "unknown verb \"%.40s\"; there are open, unload, model, models, ps, "
                            "sessions, kill, logs, reload, shutdown",
                            verb);
}

static struct json_object *parse(const char *text, size_t bytes, struct ingle_error *err)
{
    struct json_tokener *tokener;
    struct json_object *object = NULL;

    if (ingle_utf8_check(text, bytes) >= 0) {
        (void)USAGE(err, "the request is not UTF-8");
        return NULL;
    }
    tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (tokener == NULL) {
        (void)ingle_fail(err, -ENOMEM, "not enough memory");
        return NULL;
    }
    object = json_tokener_parse_ex(tokener, text, (int)bytes);
    if (object == NULL || json_tokener_get_parse_end(tokener) != bytes ||
        json_object_get_type(object) != json_type_object) {
        (void)USAGE(err, "the request is not one JSON object (byte %zu)",
                    json_tokener_get_parse_end(tokener));
        (void)json_object_put(object);
        object = NULL;
    }
    json_tokener_free(tokener);
    return object;
}

void ingle_admin_message(struct ingle_session *session, const void *msg, size_t bytes)
{
    struct ingle_ctl_hdr h;
    struct ingle_error err = {0};
    const char *text;
    size_t text_bytes;
    struct call call = {.io = session->io, .session = session};

    if (ingle_check_admin(msg, bytes, INGLE_FROM_CLIENT, &h, &text, &text_bytes) != 0) {
        ingle_session_end(session, INGLE_REJECT_PROTOCOL, "a malformed administrative message");
        return;
    }
    call.seq = h.seq;
    call.request = parse(text, text_bytes, &err);
    if (call.request == NULL || dispatch(&call, &err) != 0) {
        send_error(session, h.seq, &err);
    }
    (void)json_object_put(call.request);
}
