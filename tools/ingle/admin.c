/* Owns nothing. The verbs that look after a running runtime: ps, load, unload, sessions, kill,
 * shutdown, logs. None of them starts one, except load. Thread: main. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

/* One question to a runtime that must be there. The caller puts *ret. */
static enum cli_exit ask(const char *verb, const char *key, const char *value,
                         struct json_object **ret)
{
    struct ingle_client *client;
    enum cli_exit e = runtime_attach(RUNTIME_MUST_RUN, 0, &client);

    if (e == CLI_OK) {
        e = runtime_ask(client, verb, key, value, ret);
        ingle_detach(client);
    }
    return e;
}

static void print_json(struct json_object *value)
{
    struct json j;

    json_init(&j, stdout);
    json_copy(&j, value);
    (void)putchar('\n');
}

enum cell {
    CELL_TEXT,
    CELL_NUMBER,
    CELL_BYTES,
    CELL_SECONDS
};

struct column {
    const char *title, *key;
    enum cell cell;
    int width; /* < 0: to the left */
};

static void print_cell(const struct column *c, struct json_object *row)
{
    struct json_object *value = json_get(row, c->key);
    char text[32];

    switch (c->cell) {
    case CELL_BYTES:
        (void)bytes_text((uint64_t)json_object_get_int64(value), text);
        break;
    case CELL_SECONDS: {
        int64_t s = json_object_get_int64(value);

        (void)snprintf(text, sizeof text, "%lld:%02lld:%02lld", (long long)(s / 3600),
                       (long long)(s / 60 % 60), (long long)(s % 60));
        break;
    }
    case CELL_TEXT:
    case CELL_NUMBER:
        (void)printf("%*s  ", c->width, value != NULL ? json_object_get_string(value) : "-");
        return;
    }
    (void)printf("%*s  ", c->width, text);
}

/* Rows of an array of objects; nothing where it is empty. */
static void print_table(struct json_object *rows, const struct column *columns)
{
    size_t n = json_count(rows);

    for (const struct column *c = columns; n > 0 && c->title != NULL; c++) {
        (void)printf("%*s  ", c->width, c->title);
    }
    for (size_t i = 0; i < n; i++) {
        (void)putchar('\n');
        for (const struct column *c = columns; c->title != NULL; c++) {
            print_cell(c, json_object_array_get_idx(rows, i));
        }
    }
    if (n > 0) {
        (void)putchar('\n');
    }
}

static void print_ps(struct json_object *status)
{
    static const struct column models[] = {
        {"SLOT", "slot", CELL_NUMBER, 4},     {"MODEL", "name", CELL_TEXT, -32},
        {"STATE", "state", CELL_TEXT, -7},    {"KERNELS", "kernels", CELL_TEXT, -12},
        {"ACT", "activations", CELL_TEXT, 4}, {"KV", "kv_bits", CELL_NUMBER, 2},
        {"CONTEXT", "n_ctx", CELL_NUMBER, 7}, {"REQUESTS", "requests", CELL_NUMBER, 8},
        {NULL, NULL, CELL_TEXT, 0},
    };
    static const struct column pools[] = {
        {"POOL", "name", CELL_TEXT, -12},
        {"OF", "owner", CELL_TEXT, -32},
        {"BYTES", "bytes", CELL_BYTES, 10},
        {NULL, NULL, CELL_TEXT, 0},
    };
    struct json_object *memory = json_get(status, "memory");
    struct json_object *sessions = json_get(status, "sessions");
    char used[16], budget[16];

    (void)printf("ingled %s, pid %lld, %zu clients, %s of %s in use\n\n",
                 json_get_str(status, "version", "?"), (long long)json_get_int(status, "pid", 0),
                 json_count(sessions), bytes_text((uint64_t)json_get_int(memory, "used", 0), used),
                 bytes_text((uint64_t)json_get_int(memory, "budget", 0), budget));
    if (json_count(json_get(status, "models")) == 0) {
        (void)puts("no model is loaded");
    }
    print_table(json_get(status, "models"), models);
    (void)putchar('\n');
    print_table(json_get(memory, "pools"), pools);
}

enum cli_exit verb_ps(const struct cli_call *call)
{
    struct json_object *status;
    enum cli_exit e = ask("ps", NULL, NULL, &status);

    if (e == CLI_OK) {
        if (cli_has(call, "json")) {
            print_json(status);
        } else {
            print_ps(status);
        }
        json_object_put(status);
    }
    return e;
}

enum cli_exit verb_load(const struct cli_call *call)
{
    struct ingle_client *client;
    struct model_info model;
    enum cli_exit e = runtime_attach(RUNTIME_MAY_START, 0, &client);

    if (e == CLI_OK) {
        e = runtime_open_named(client, call, call->operands[0], &model);
        ingle_detach(client);
    }
    if (e == CLI_OK) {
        cli_note("%s is loaded (slot %u, context %u tokens)", call->operands[0], model.slot,
                 model.n_ctx);
    }
    return e;
}

enum cli_exit verb_unload(const struct cli_call *call)
{
    const char *name = call->operands[0];
    char *path = strchr(name, '/') != NULL ? realpath(name, NULL) : NULL;
    struct json_object *reply;
    enum cli_exit e = ask("unload", "model", path != NULL ? path : name, &reply);

    free(path);
    if (e == CLI_OK) {
        cli_note("%s is unloaded", name);
        json_object_put(reply);
    }
    return e;
}

enum cli_exit verb_sessions(const struct cli_call *call)
{
    static const struct column columns[] = {
        {"CLIENT", "client", CELL_NUMBER, 6},
        {"PID", "pid", CELL_NUMBER, 8},
        {"NAME", "name", CELL_TEXT, -24},
        {"LABEL", "label", CELL_TEXT, -12},
        {"STATE", "state", CELL_TEXT, -9},
        {"AGE", "age_s", CELL_SECONDS, 9},
        {"IN FLIGHT", "requests_now", CELL_NUMBER, 9},
        {"REQUESTS", "requests", CELL_NUMBER, 8},
        {"TOKENS", "tokens", CELL_NUMBER, 8},
        {NULL, NULL, CELL_TEXT, 0},
    };
    struct json_object *reply;
    enum cli_exit e = ask("sessions", NULL, NULL, &reply);

    if (e == CLI_OK) {
        if (cli_has(call, "json")) {
            print_json(json_get(reply, "sessions"));
        } else {
            print_table(json_get(reply, "sessions"), columns);
        }
        json_object_put(reply);
    }
    return e;
}

enum cli_exit verb_kill(const struct cli_call *call)
{
    struct json_object *reply;
    char request[64];
    unsigned long client;
    char *end;
    struct ingle_client *session;
    enum cli_exit e;

    client = strtoul(call->operands[0], &end, 10);
    if (*end != 0 || client == 0 || client > UINT32_MAX) {
        return cli_fail(CLI_USAGE, "kill: \"%s\" is no client number (see: ingle sessions)",
                        call->operands[0]);
    }
    (void)snprintf(request, sizeof request, "{\"verb\":\"kill\",\"client\":%lu}", client);
    e = runtime_attach(RUNTIME_MUST_RUN, 0, &session);
    if (e == CLI_OK) {
        e = runtime_admin(session, request, NULL, &reply);
        ingle_detach(session);
    }
    if (e == CLI_OK) {
        cli_note("client %lu is disconnected", client);
        json_object_put(reply);
    }
    return e;
}

enum cli_exit verb_shutdown(const struct cli_call *call)
{
    struct json_object *reply;
    enum cli_exit e = ask("shutdown", NULL, NULL, &reply);

    (void)call;
    if (e == CLI_OK) {
        cli_note("the runtime is shutting down");
        json_object_put(reply);
    }
    return e;
}

enum cli_exit verb_logs(const struct cli_call *call)
{
    struct json_object *reply, *lines;
    struct ingle_client *client;
    uint32_t n = 50;
    char request[64];
    enum cli_exit e = cli_u32(call, "lines", 1, 512, &n);

    if (e == CLI_OK) {
        e = runtime_attach(RUNTIME_MUST_RUN, 0, &client);
    }
    if (e != CLI_OK) {
        return e;
    }
    (void)snprintf(request, sizeof request, "{\"verb\":\"logs\",\"lines\":%u}", n);
    e = runtime_admin(client, request, NULL, &reply);
    ingle_detach(client);
    if (e == CLI_OK) {
        lines = json_get(reply, "lines");
        for (size_t i = 0; i < json_count(lines); i++) {
            (void)puts(json_object_get_string(json_object_array_get_idx(lines, i)));
        }
        json_object_put(reply);
    }
    return e;
}
