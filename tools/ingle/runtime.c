/* Owns nothing after return but the client it hands out. Finds, starts and asks the runtime.
 * Thread: main. */
#include "tools/ingle/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/ingle/conf.h"
#include "tools/ingle/json.h"
#include "tools/ingle/models.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"
#include "tools/ingle/progress.h"

#define START_MS      10000
#define REPLY_BYTES   (4u << 20)
#define ARENA_DEFAULT (1u << 20)
#define ARENA_MAX     (16u << 20)

static bool beside(char ret_path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (n <= 0) {
        return false;
    }
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = 0;
    path_format(ret_path, "%s/ingled", self);
    return access(ret_path, X_OK) == 0;
}

bool runtime_program(char ret_path[PATH_MAX])
{
    const char *search = env_get("PATH");

    if (beside(ret_path)) {
        return true;
    }
    while (search != NULL && *search != 0) {
        size_t n = strcspn(search, ":");

        path_format(ret_path, "%.*s/ingled", (int)n, search);
        if (n > 0 && search[0] == '/' && access(ret_path, X_OK) == 0) {
            return true;
        }
        search += n + (search[n] == ':');
    }
    return false;
}

static int attach(size_t payload_bytes, struct ingle_client **ret, char *err, size_t err_bytes)
{
    struct ingle_attach_options options = {.name = "ingle", .arena_bytes = ARENA_DEFAULT};

    /* A request needs its payload, its parameters and some slack in one block. */
    while (options.arena_bytes < payload_bytes + 16384 && options.arena_bytes < ARENA_MAX) {
        options.arena_bytes *= 2;
    }
    err[0] = 0;
    return ingle_attach(&options, ret, err, err_bytes);
}

/* Start ingled in a session of its own, its output in the log. The pid, or 0 after a message. */
static pid_t start(char log[PATH_MAX])
{
    char program[PATH_MAX], folder[PATH_MAX];
    const char *argv[] = {program, NULL};
    pid_t pid;
    int fd, r;

    if (!runtime_program(program)) {
        (void)cli_fail(CLI_UNREACHABLE, "no runtime is running, and ingled is neither beside ingle "
                                        "nor in PATH. Install it: tools/quickstart");
        return 0;
    }
    path_in(PATH_STATE, folder, "%s", "");
    path_in(PATH_STATE, log, "ingled.log");
    r = path_make(folder);
    fd = r < 0 ? r : open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)cli_fail(CLI_FAIL, "cannot write %s: %s", log, strerrordesc_np(r < 0 ? -r : errno));
        return 0;
    }
    pid = proc_start_detached(argv, fd);
    (void)close(fd);
    if (pid < 0) {
        (void)cli_fail(CLI_UNREACHABLE, "cannot start %s: %s", program, strerrordesc_np(-pid));
        return 0;
    }
    return pid;
}

enum cli_exit runtime_attach(enum runtime_start may_start, size_t payload_bytes,
                             struct ingle_client **ret)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    char err[512], log[PATH_MAX];
    pid_t pid;
    int r = attach(payload_bytes, ret, err, sizeof err);
    int gone_ms = -1; /* since the child ended: another start may have won the race */

    if (r == 0) {
        return CLI_OK;
    }
    if (may_start == RUNTIME_MUST_RUN || (r != -ENOENT && r != -ECONNREFUSED)) {
        return cli_fail(CLI_UNREACHABLE, "%s", err[0] != 0 ? err : strerrordesc_np(-r));
    }
    pid = start(log);
    if (pid == 0) {
        return CLI_UNREACHABLE;
    }
    for (int ms = 0; ms < START_MS && (gone_ms < 0 || ms < gone_ms + 1000); ms += 20) {
        (void)nanosleep(&pause, NULL);
        if (attach(payload_bytes, ret, err, sizeof err) == 0) {
            if (gone_ms < 0) {
                cli_note("started the runtime (pid %d, log %s); stop it: ingle shutdown", (int)pid,
                         log);
            }
            return CLI_OK;
        }
        if (gone_ms < 0 && waitpid(pid, NULL, WNOHANG) != 0) {
            gone_ms = ms;
        }
    }
    file_show_tail(log, 5);
    return cli_fail(CLI_UNREACHABLE, "the runtime did not start: %s (log: %s)", err, log);
}

struct admin_progress {
    struct progress progress;
    const char *what;
    bool started;
};

static void take_progress(void *arg, const char *text)
{
    struct admin_progress *p = arg;
    struct json_object *object = json_parse(text, strlen(text));
    int64_t total = json_get_int(object, "total", 0);

    if (p->what != NULL && total > 0) {
        if (!p->started) {
            progress_start(&p->progress, p->what, (uint64_t)total);
            p->started = true;
        }
        progress_at(&p->progress, (uint64_t)json_get_int(object, "done", 0));
    }
    json_object_put(object);
}

enum cli_exit runtime_admin(struct ingle_client *client, const char *request, const char *what,
                            struct json_object **ret)
{
    struct admin_progress progress = {.what = what};
    char *reply = malloc(REPLY_BYTES);
    struct json_object *object;
    int64_t code;
    int r;

    if (reply == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    r = ingle_admin(client, request, reply, REPLY_BYTES, take_progress, &progress);
    if (progress.started) {
        progress_end(&progress.progress);
    }
    if (r < 0) {
        free(reply);
        return cli_fail(CLI_UNREACHABLE, "the runtime did not answer: %s", strerrordesc_np(-r));
    }
    object = json_parse(reply, strlen(reply));
    free(reply);
    if (object == NULL) {
        return cli_fail(CLI_FAIL, "the runtime's answer is not JSON: is it of another version?");
    }
    if (!json_get_bool(object, "ok", false)) {
        code = json_get_int(object, "exit", CLI_FAIL);
        code = code > 0 && code < 126 ? code : CLI_FAIL;
        (void)cli_fail((enum cli_exit)code, "%s", json_get_str(object, "error", "refused"));
        json_object_put(object);
        return (enum cli_exit)code;
    }
    *ret = object;
    return CLI_OK;
}

enum cli_exit runtime_ask(struct ingle_client *client, const char *verb, const char *key,
                          const char *value, struct json_object **ret)
{
    char *request = NULL;
    size_t bytes;
    FILE *out = open_memstream(&request, &bytes);
    enum cli_exit e;
    struct json j;

    if (out == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    json_init(&j, out);
    json_open(&j, '{');
    json_key(&j, "verb");
    json_str(&j, verb);
    if (key != NULL) {
        json_key(&j, key);
        json_str(&j, value);
    }
    json_close(&j, '}');
    e = fclose(out) == 0 ? runtime_admin(client, request, NULL, ret)
                         : cli_fail(CLI_FAIL, "out of memory");
    free(request);
    return e;
}

static enum cli_exit open_request(const struct cli_call *call, const char *path, char **ret)
{
    static const int bits[] = {16, 8, 4};
    const char *activations = NULL;
    int kv = -1, kernels = -1, mode;
    enum cli_exit e;
    size_t bytes;
    struct json j;
    FILE *out;

    if (cli_knows(call, "kernels")) {
        e = cli_choice(call, "kv-bits", &kv);
        e = e == CLI_OK ? cli_choice(call, "kernels", &kernels) : e;
        e = e == CLI_OK ? cli_choice(call, "activations", &mode) : e;
        if (e != CLI_OK) {
            return e;
        }
        activations = cli_value(call, "activations");
    }
    if (kernels == KERNELS_REF && activations == NULL) {
        activations = "32"; /* the reference is meant to be exact */
    }
    out = open_memstream(ret, &bytes);
    if (out == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    json_init(&j, out);
    json_open(&j, '{');
    json_key(&j, "verb");
    json_str(&j, "open");
    json_key(&j, "model");
    json_str(&j, path);
    json_key(&j, "options");
    json_open(&j, '{');
    if (kv >= 0) {
        json_key(&j, "kv_bits");
        json_int(&j, bits[kv]);
    }
    if (kernels >= 0) {
        json_key(&j, "kernels");
        json_str(&j, kernels == KERNELS_REF ? "ref" : "auto");
    }
    if (activations != NULL) {
        json_key(&j, "activations");
        json_str(&j, activations);
    }
    json_close(&j, '}');
    json_close(&j, '}');
    return fclose(out) == 0 ? CLI_OK : cli_fail(CLI_FAIL, "out of memory");
}

enum cli_exit runtime_open_named(struct ingle_client *client, const struct cli_call *call,
                                 const char *name, struct model_info *ret)
{
    char path[PATH_MAX];
    struct json_object *reply = NULL;
    char *request = NULL;
    enum cli_exit e = CLI_OK;

    if (name[0] == 0 || conf_has_model(name)) { /* the runtime's default, or its own section */
        path_format(path, "%s", name);
    } else {
        e = model_resolve(name, path);
    }
    if (e == CLI_OK) {
        e = open_request(call, path, &request);
    }
    if (e == CLI_OK) {
        e = runtime_admin(client, request, "loading", &reply);
    }
    free(request);
    if (e != CLI_OK) {
        return e;
    }
    ret->slot = (uint16_t)json_get_int(reply, "slot", 0);
    ret->has_template = json_get_bool(reply, "has_template", false);
    ret->n_ctx = (uint32_t)json_get_int(reply, "n_ctx", 0);
    ret->n_vocab = (uint32_t)json_get_int(reply, "n_vocab", 0);
    ret->bos = (int32_t)json_get_int(reply, "bos", -1);
    json_object_put(reply);
    return CLI_OK;
}

/* The one model of our own folder. */
struct only {
    char name[256];
    int n;
};

static bool count_own(const struct model_entry *entry, void *arg)
{
    struct only *only = arg;

    if (entry->store != STORE_INGLE) {
        return false;
    }
    (void)snprintf(only->name, sizeof only->name, "%s", entry->name);
    only->n++;
    return true;
}

static enum cli_exit has_default(struct ingle_client *client, bool *ret)
{
    struct json_object *reply = NULL, *models;
    enum cli_exit e = runtime_ask(client, "models", NULL, NULL, &reply);

    *ret = false;
    if (e != CLI_OK) {
        return e;
    }
    models = json_get(reply, "models");
    for (size_t i = 0; i < json_count(models); i++) {
        *ret |= json_get_bool(json_object_array_get_idx(models, i), "default", false);
    }
    json_object_put(reply);
    return CLI_OK;
}

enum cli_exit runtime_open(struct ingle_client *client, const struct cli_call *call,
                           struct model_info *ret)
{
    const char *name = cli_value(call, "model");
    struct only only = {"", 0};
    enum cli_exit e;
    bool there;

    if (name != NULL) {
        return runtime_open_named(client, call, name, ret);
    }
    e = has_default(client, &there);
    if (e != CLI_OK) {
        return e;
    }
    if (there) {
        return runtime_open_named(client, call, "", ret);
    }
    models_scan(count_own, &only);
    if (only.n == 1) {
        return runtime_open_named(client, call, only.name, ret);
    }
    return only.n == 0 ? cli_fail(CLI_NOT_FOUND, "no model on this machine yet. Get one: "
                                                 "ingle pull smollm2-135m")
                       : cli_fail(CLI_USAGE, "which model? -m NAME (see: ingle ls)");
}
