/* Owns the SIGINT flag. One request at a time, waited for here; nothing is left in flight on
 * return. Thread: main; the handler only sets the flag. */
#include "tools/ingle/generate.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shm/layout.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"

#define PROMPT_BYTES_MAX (128u << 20)
#define CANCEL_MARK      (1ull << 63) /* user_data of the cancel request itself */
#define CANCEL_WAIT_MS   5000

static atomic_bool interrupted; /* the handler stores; main exchanges */

static void on_interrupt(int signal)
{
    (void)signal;
    atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

void interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt}; /* no SA_RESTART: waits end early */

    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
}

bool interrupt_taken(void)
{
    return atomic_exchange_explicit(&interrupted, false, memory_order_relaxed);
}

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum cli_exit generate_options_read(const struct cli_call *call, struct generate_options *ret)
{
    struct ingle_generate *g = &ret->g;
    enum cli_exit e = CLI_OK;

    ingle_generate_init(g);
    const struct {
        const char *name;
        float min, max, *value;
    } floats[] = {
        {"temperature", 0, 100, &g->temperature},
        {"top-p", 0, 1, &g->top_p},
        {"min-p", 0, 1, &g->min_p},
        {"typical-p", 0, 1, &g->typical_p},
        {"repeat-penalty", 0, 100, &g->repeat_penalty},
        {"frequency-penalty", -100, 100, &g->frequency_penalty},
        {"presence-penalty", -100, 100, &g->presence_penalty},
    };
    const struct {
        const char *name;
        uint32_t *value;
    } numbers[] = {
        {"tokens", &g->max_tokens},
        {"top-k", &g->top_k},
        {"repeat-last-n", &g->repeat_last_n},
    };

    for (size_t i = 0; e == CLI_OK && i < sizeof floats / sizeof floats[0]; i++) {
        e = cli_float(call, floats[i].name, floats[i].min, floats[i].max, floats[i].value);
    }
    for (size_t i = 0; e == CLI_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        e = cli_u32(call, numbers[i].name, 0, INT32_MAX, numbers[i].value);
    }
    if (e == CLI_OK) {
        e = cli_u64(call, "seed", 0, UINT64_MAX, &g->seed);
    }
    if (e != CLI_OK) {
        return e;
    }
    for (uint32_t i = 0;; i++) {
        const char *text = cli_value_at(call, "stop", (int)i);

        if (text == NULL) {
            break;
        }
        if (i == GENERATE_STOPS || text[0] == 0 || strlen(text) > INGLE_STOP_BYTES_MAX) {
            return cli_fail(CLI_USAGE, "%s: at most %d --stop texts of 1 to %u bytes",
                            call->verb->name, GENERATE_STOPS, INGLE_STOP_BYTES_MAX);
        }
        ret->stops[i] = (struct ingle_stop){text, strlen(text)};
        g->stops = ret->stops;
        g->n_stops = i + 1;
    }
    g->ignore_eos = cli_has(call, "ignore-eos");
    return CLI_OK;
}

static enum cli_exit submit(struct ingle_client *client, enum request_kind kind,
                            const struct ingle_generate *g)
{
    static int (*const entry[])(struct ingle_client *, const struct ingle_generate *) = {
        ingle_submit, ingle_embed, ingle_tokenize, ingle_detokenize, ingle_template};
    int r = entry[kind](client, g);

    if (r == 0) {
        return CLI_OK;
    }
    return r == -EPIPE ? cli_fail(CLI_UNREACHABLE, "the runtime is gone")
           : r == -EMSGSIZE
               ? cli_fail(CLI_REFUSED, "the text has %zu bytes; a request holds 16 MiB",
                          g->payload_bytes)
           : r == -EINVAL ? cli_fail(CLI_USAGE, "an option has a value that the runtime refuses")
                          : cli_fail(CLI_FAIL, "cannot send the request: %s", ingle_strerror(r));
}

static enum cli_exit failed(const struct ingle_event_info *final)
{
    switch (final->res) {
    case -ECANCELED:
        return CLI_CANCELLED;
    case -E2BIG:
        return cli_fail(CLI_REFUSED,
                        "the prompt has %u tokens, the model's context holds %u. Shorten it",
                        final->n_prompt, final->n_cached);
    case -EILSEQ:
        return cli_fail(CLI_USAGE, "the text is not UTF-8 at byte %u", final->n_cached);
    case -ENOENT:
        return cli_fail(CLI_NOT_FOUND, "the runtime no longer has this model or context");
    case -ENOMEM:
    case -ENOSPC:
    case -EDQUOT:
        return cli_fail(CLI_REFUSED, "the runtime has no room for this request (%s); see: ingle ps",
                        strerrordesc_np(-final->res));
    default:
        return cli_fail(CLI_FAIL, "the runtime refused the request: %s",
                        strerrordesc_np(-final->res));
    }
}

static void account(struct request_result *ret, const struct ingle_event_info *event, double start)
{
    if (event->kind == INGLE_EVENT_TOKEN) {
        if ((event->flags & (INGLE_TOK_F_ALT | INGLE_TOK_F_PROMPT)) == 0) {
            if (ret->n_tokens++ == 0) {
                ret->prompt_s = now_s() - start;
            }
            ret->last_flags = event->flags;
        }
    } else {
        ret->n_prompt = event->n_prompt;
        ret->n_cached = event->n_cached;
    }
    ret->total_s = now_s() - start;
}

enum cli_exit request_run(struct ingle_client *client, enum request_kind kind,
                          const struct ingle_generate *g,
                          void (*take)(void *arg, const struct ingle_event_info *event), void *arg,
                          struct request_result *ret)
{
    double start = now_s(), cancelled = 0;
    enum cli_exit e = submit(client, kind, g);
    struct ingle_event_info event;

    *ret = (struct request_result){0};
    while (e == CLI_OK) {
        int r = ingle_next(client, &event);

        if (r == 0) {
            r = ingle_wait(client, cancelled != 0 ? CANCEL_WAIT_MS / 10 : 1000);
            r = r == -EINTR ? 0 : r;
        } else if (r > 0 && event.user_data == g->user_data) {
            account(ret, &event, start);
            if (event.kind == INGLE_EVENT_TOKEN) {
                take(arg, &event);
            } else if (event.cqe_flags & INGLE_CQE_F_FINAL) {
                e = event.res < 0 ? failed(&event) : CLI_OK;
                return cancelled != 0 && e == CLI_OK ? CLI_CANCELLED : e;
            }
        }
        if (r < 0) {
            return r == -EPIPE ? cli_fail(CLI_UNREACHABLE, "the runtime went away")
                               : cli_fail(CLI_FAIL, "the session broke: %s", strerrordesc_np(-r));
        }
        if (cancelled == 0 && interrupt_taken()) {
            cancelled = now_s();
            (void)ingle_cancel(client, CANCEL_MARK, g->user_data);
        }
        if (cancelled != 0 && now_s() - cancelled > CANCEL_WAIT_MS / 1e3) {
            return CLI_CANCELLED; /* leaving ends the request as well */
        }
    }
    return e;
}

enum cli_exit chat_payload(const char *system, const struct chat_message *messages, size_t n,
                           char **ret, size_t *ret_bytes)
{
    FILE *out = open_memstream(ret, ret_bytes);
    struct json j;

    if (out == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    json_init(&j, out);
    json_open(&j, '{');
    json_key(&j, "messages");
    json_open(&j, '[');
    if (system != NULL) {
        json_message(&j, "system", system, strlen(system));
    }
    for (size_t i = 0; i < n; i++) {
        json_message(&j, messages[i].role, messages[i].text, messages[i].bytes);
    }
    json_close(&j, ']');
    json_key(&j, "add_generation_prompt");
    json_boolean(&j, true);
    json_close(&j, '}');
    return fclose(out) == 0 ? CLI_OK : cli_fail(CLI_FAIL, "out of memory");
}

enum cli_exit text_check(const char *text, size_t bytes)
{
    int64_t bad = json_utf8_check(text, bytes);

    return bad < 0 ? CLI_OK
                   : cli_fail(CLI_USAGE, "the text is not UTF-8 at byte %lld", (long long)bad);
}

static enum cli_exit join_operands(const struct cli_call *call, char **ret, size_t *ret_bytes)
{
    FILE *out = open_memstream(ret, ret_bytes);

    for (int i = 0; out != NULL && i < call->n_operands; i++) {
        (void)fprintf(out, "%s%s", i == 0 ? "" : " ", call->operands[i]);
    }
    return out != NULL && fclose(out) == 0 ? CLI_OK : cli_fail(CLI_FAIL, "out of memory");
}

enum cli_exit prompt_read(const struct cli_call *call, char **ret, size_t *ret_bytes)
{
    enum cli_exit e = CLI_OK;
    int r;

    if (call->n_operands > 1 || (call->n_operands == 1 && strcmp(call->operands[0], "-") != 0)) {
        e = join_operands(call, ret, ret_bytes);
    } else if (call->n_operands == 0 && isatty(STDIN_FILENO) == 1) {
        e = cli_fail(CLI_USAGE, "%s: no text given (as operand or on stdin)", call->verb->name);
    } else {
        r = file_read("-", PROMPT_BYTES_MAX, ret, ret_bytes);
        if (r < 0) {
            e = cli_fail(CLI_FAIL, "cannot read stdin: %s", strerrordesc_np(-r));
        }
    }
    if (e == CLI_OK) {
        e = text_check(*ret, *ret_bytes);
        if (e != CLI_OK) {
            free(*ret);
        }
    }
    return e;
}
