/* Owns nothing. `ingle run` and `ingle complete`: one prompt, one answer. Thread: main. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tools/ingle/generate.h"
#include "tools/ingle/json.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

struct answer {
    FILE *text;       /* stdout, or memory for --json */
    struct json *ids; /* NULL: not wanted */
    char last;        /* byte written */
};

static void take(void *arg, const struct ingle_event_info *event)
{
    struct answer *a = arg;

    if (event->flags & (INGLE_TOK_F_ALT | INGLE_TOK_F_PROMPT)) {
        return;
    }
    if (event->text_bytes > 0) {
        (void)fwrite(event->text, 1, event->text_bytes, a->text);
        (void)fflush(a->text);
        a->last = event->text[event->text_bytes - 1];
    }
    if (a->ids != NULL) {
        json_int(a->ids, event->token);
    }
}

static void print_json(const char *text, size_t text_bytes, const char *ids,
                       const struct request_result *result)
{
    struct json j;

    json_init(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "text");
    json_text(&j, text, text_bytes);
    json_key(&j, "tokens");
    json_raw(&j, ids);
    json_key(&j, "n_prompt");
    json_u64(&j, result->n_prompt);
    json_key(&j, "n_cached");
    json_u64(&j, result->n_cached);
    json_key(&j, "n_tokens");
    json_u64(&j, result->n_tokens);
    json_key(&j, "stopped_by");
    json_str(&j, result->last_flags & INGLE_TOK_F_STOP     ? "stop"
                 : result->last_flags & INGLE_TOK_F_LENGTH ? "length"
                                                           : "cancel");
    json_key(&j, "prompt_s");
    json_num(&j, result->prompt_s);
    json_key(&j, "total_s");
    json_num(&j, result->total_s);
    json_close(&j, '}');
    (void)putchar('\n');
}

static enum cli_exit generate_json(struct ingle_client *client, const struct ingle_generate *g,
                                   struct request_result *result)
{
    char *text = NULL, *ids = NULL;
    size_t text_bytes = 0, ids_bytes = 0;
    FILE *text_out = open_memstream(&text, &text_bytes);
    FILE *ids_out = open_memstream(&ids, &ids_bytes);
    enum cli_exit e = CLI_FAIL;

    if (text_out != NULL && ids_out != NULL) {
        struct json j;
        struct answer a = {.text = text_out, .ids = &j};

        json_init(&j, ids_out);
        json_open(&j, '[');
        e = request_run(client, REQUEST_GENERATE, g, take, &a, result);
        json_close(&j, ']');
    }
    if ((text_out != NULL && fclose(text_out) != 0) || (ids_out != NULL && fclose(ids_out) != 0) ||
        text == NULL || ids == NULL) {
        e = cli_fail(CLI_FAIL, "out of memory");
    }
    if (e == CLI_OK || e == CLI_CANCELLED) {
        print_json(text, text_bytes, ids, result);
    }
    free(text);
    free(ids);
    return e;
}

static enum cli_exit generate_text(struct ingle_client *client, const struct ingle_generate *g,
                                   struct request_result *result)
{
    struct answer a = {.text = stdout};
    enum cli_exit e = request_run(client, REQUEST_GENERATE, g, take, &a, result);

    if (a.last != '\n' && (a.last != 0 || e == CLI_OK)) {
        (void)putchar('\n');
    }
    (void)fflush(stdout); /* before anything is said on stderr */
    return e;
}

static void note_speed(const struct request_result *r)
{
    double decode_s = r->total_s - r->prompt_s;

    cli_note("prompt: %u tokens (%u reused), first token after %.3f s; answer: %u tokens, %.1f per "
             "second",
             r->n_prompt, r->n_cached, r->prompt_s, r->n_tokens,
             decode_s > 0 && r->n_tokens > 1 ? (r->n_tokens - 1) / decode_s : 0.0);
}

/* raw: the prompt as it is, without the model's chat template. */
static enum cli_exit one_answer(const struct cli_call *call, bool raw, char *prompt,
                                size_t prompt_bytes)
{
    struct generate_options options = {0};
    struct request_result result = {0};
    struct ingle_client *client;
    struct model_info model;
    char *chat = NULL;
    size_t chat_bytes = 0;
    const char *system = cli_knows(call, "system") ? cli_value(call, "system") : NULL;
    enum cli_exit e = generate_options_read(call, &options);

    if (e == CLI_OK && system != NULL) {
        e = text_check(system, strlen(system));
    }
    if (e == CLI_OK) {
        e = runtime_attach(RUNTIME_MAY_START, prompt_bytes * 2, &client);
    }
    if (e != CLI_OK) {
        return e;
    }
    interrupt_catch();
    e = runtime_open(client, call, &model);
    if (e == CLI_OK && !raw && model.has_template) {
        e = chat_payload(system, &(struct chat_message){"user", prompt, prompt_bytes}, 1, &chat,
                         &chat_bytes);
    }
    if (e == CLI_OK) {
        options.g.user_data = 1;
        options.g.model = model.slot;
        options.g.kind = chat != NULL ? INGLE_CHAT : INGLE_TEXT;
        options.g.payload = chat != NULL ? chat : prompt;
        options.g.payload_bytes = chat != NULL ? chat_bytes : prompt_bytes;
        e = cli_has(call, "json") ? generate_json(client, &options.g, &result)
                                  : generate_text(client, &options.g, &result);
        if (e == CLI_OK && cli_has(call, "stats")) {
            note_speed(&result);
        }
    }
    free(chat);
    ingle_detach(client);
    return e;
}

static enum cli_exit answer_operands(const struct cli_call *call, bool raw)
{
    char *prompt;
    size_t bytes;
    enum cli_exit e = prompt_read(call, &prompt, &bytes);

    if (e == CLI_OK) {
        e = one_answer(call, raw, prompt, bytes);
        free(prompt);
    }
    return e;
}

enum cli_exit verb_run(const struct cli_call *call)
{
    return answer_operands(call, cli_has(call, "raw"));
}

enum cli_exit verb_complete(const struct cli_call *call)
{
    return answer_operands(call, true);
}
