/* Owns nothing. `ingle tokenize`, `ingle template` and `ingle embed`: text in, something else out,
 * nothing generated. Thread: main. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tools/ingle/generate.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

#define INPUT_BYTES_MAX (64u << 20)

/* Attach, open --model and run one request. */
static enum cli_exit one_request(const struct cli_call *call, enum request_kind kind,
                                 struct ingle_generate *g,
                                 void (*take)(void *arg, const struct ingle_event_info *event),
                                 void *arg)
{
    struct request_result result;
    struct ingle_client *client;
    struct model_info model;
    enum cli_exit e = runtime_attach(RUNTIME_MAY_START, g->payload_bytes, &client);

    if (e != CLI_OK) {
        return e;
    }
    interrupt_catch();
    e = runtime_open(client, call, &model);
    if (e == CLI_OK) {
        g->user_data = 1;
        g->model = model.slot;
        e = request_run(client, kind, g, take, arg, &result);
    }
    ingle_detach(client);
    return e;
}

struct id_list {
    struct json json;
    bool as_json;
    bool any;
};

static void take_id(void *arg, const struct ingle_event_info *event)
{
    struct id_list *l = arg;

    if (l->as_json) {
        json_int(&l->json, event->token);
    } else {
        (void)printf("%s%d", l->any ? " " : "", event->token);
    }
    l->any = true;
}

static void take_text(void *arg, const struct ingle_event_info *event)
{
    if (event->text_bytes > 0) {
        (void)fwrite(event->text, 1, event->text_bytes, arg);
    }
}

/* Ids from "[1,2,3]" or "1 2 3". The caller frees *ret. */
static enum cli_exit read_ids(const char *text, int32_t **ret, size_t *ret_n)
{
    int32_t *ids = malloc((strlen(text) / 2 + 1) * sizeof *ids);
    const char *p = text + strspn(text, " \t\r\n[");
    size_t n = 0;

    if (ids == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    while (*p != 0) {
        char *end;
        long id = strtol(p, &end, 10);

        if (end == p || id < 0 || id > INT32_MAX) {
            free(ids);
            return cli_fail(CLI_USAGE, "tokenize: no token id at byte %zu of the input",
                            (size_t)(p - text));
        }
        ids[n++] = (int32_t)id;
        p = end + strspn(end, ", \t\r\n]");
    }
    *ret = ids;
    *ret_n = n;
    return CLI_OK;
}

static enum cli_exit decode(const struct cli_call *call, const char *text)
{
    struct ingle_generate g;
    int32_t *ids = NULL;
    size_t n = 0;
    enum cli_exit e = read_ids(text, &ids, &n);

    if (e != CLI_OK) {
        return e;
    }
    ingle_generate_init(&g);
    g.kind = INGLE_IDS;
    g.payload = ids;
    g.payload_bytes = n * sizeof *ids;
    if (n > 0) {
        e = one_request(call, REQUEST_DETOKENIZE, &g, take_text, stdout);
    }
    free(ids);
    return e;
}

static enum cli_exit encode(const struct cli_call *call, const char *text, size_t bytes)
{
    struct id_list list = {.as_json = cli_has(call, "json")};
    struct ingle_generate g;
    enum cli_exit e;

    ingle_generate_init(&g);
    g.kind = INGLE_TEXT;
    g.payload = text;
    g.payload_bytes = bytes;
    g.no_special = cli_has(call, "no-special");
    g.no_bos = cli_has(call, "no-bos");
    json_init(&list.json, stdout);
    if (list.as_json) {
        json_open(&list.json, '[');
    }
    e = one_request(call, REQUEST_TOKENIZE, &g, take_id, &list);
    if (list.as_json) {
        json_close(&list.json, ']');
    }
    (void)putchar('\n');
    return e;
}

enum cli_exit verb_tokenize(const struct cli_call *call)
{
    char *text = NULL;
    size_t bytes = 0;
    int r = file_read("-", INPUT_BYTES_MAX, &text, &bytes);
    enum cli_exit e;

    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot read stdin: %s", strerrordesc_np(-r));
    }
    e = cli_has(call, "decode") ? decode(call, text) : encode(call, text, bytes);
    free(text);
    return e;
}

/* The chat to render: an object with "messages", or only the array of messages. */
static enum cli_exit chat_object(const char *text, size_t bytes, char **ret, size_t *ret_bytes)
{
    struct json_object *value = json_parse(text, bytes);
    FILE *out;
    struct json j;

    if (!json_object_is_type(value, json_type_array) &&
        !json_object_is_type(json_get(value, "messages"), json_type_array)) {
        json_object_put(value);
        return cli_fail(CLI_USAGE, "template: the input is not JSON like "
                                   "{\"messages\":[{\"role\":\"user\",\"content\":\"...\"}]}");
    }
    out = open_memstream(ret, ret_bytes);
    if (out != NULL) {
        json_init(&j, out);
        if (json_object_is_type(value, json_type_array)) {
            json_open(&j, '{');
            json_key(&j, "messages");
            json_copy(&j, value);
            json_key(&j, "add_generation_prompt");
            json_boolean(&j, true);
            json_close(&j, '}');
        } else {
            json_copy(&j, value);
        }
    }
    json_object_put(value);
    return out != NULL && fclose(out) == 0 ? CLI_OK : cli_fail(CLI_FAIL, "out of memory");
}

enum cli_exit verb_template(const struct cli_call *call)
{
    const char *file = call->n_operands > 0 ? call->operands[0] : "-";
    char *text, *chat = NULL;
    size_t bytes = 0, chat_bytes = 0;
    struct ingle_generate g;
    enum cli_exit e;
    int r = file_read(file, INPUT_BYTES_MAX, &text, &bytes);

    if (r < 0) {
        return cli_fail(CLI_NOT_FOUND, "cannot read %s: %s", file, strerrordesc_np(-r));
    }
    e = chat_object(text, bytes, &chat, &chat_bytes);
    free(text);
    if (e == CLI_OK) {
        ingle_generate_init(&g);
        g.kind = INGLE_CHAT;
        g.payload = chat;
        g.payload_bytes = chat_bytes;
        e = one_request(call, REQUEST_TEMPLATE, &g, take_text, stdout);
    }
    free(chat);
    return e;
}

struct vector {
    FILE *bytes;
};

static void take_floats(void *arg, const struct ingle_event_info *event)
{
    struct vector *v = arg;

    (void)fwrite(event->text, 1, event->text_bytes, v->bytes);
}

enum cli_exit verb_embed(const struct cli_call *call)
{
    char *text = NULL, *data = NULL;
    size_t bytes = 0, data_bytes = 0;
    struct vector v;
    struct ingle_generate g;
    struct json j;
    enum cli_exit e = prompt_read(call, &text, &bytes);

    if (e != CLI_OK) {
        return e;
    }
    v.bytes = open_memstream(&data, &data_bytes);
    if (v.bytes == NULL) {
        free(text);
        return cli_fail(CLI_FAIL, "out of memory");
    }
    ingle_generate_init(&g);
    g.kind = INGLE_TEXT;
    g.payload = text;
    g.payload_bytes = bytes;
    e = one_request(call, REQUEST_EMBED, &g, take_floats, &v);
    if (fclose(v.bytes) != 0) {
        e = cli_fail(CLI_FAIL, "out of memory");
    }
    if (e == CLI_OK) {
        json_init(&j, stdout);
        json_open(&j, '[');
        for (size_t i = 0; i + sizeof(float) <= data_bytes; i += sizeof(float)) {
            float x;

            memcpy(&x, data + i, sizeof x);
            json_num(&j, (double)x);
        }
        json_close(&j, ']');
        (void)putchar('\n');
    }
    free(data);
    free(text);
    return e;
}
