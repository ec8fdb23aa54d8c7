/* Owns the conversation and the terminal while a line is edited. `ingle chat`: each turn sends the
 * whole conversation; the runtime reuses what it has computed of it. Thread: main. */
#include <errno.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/layout.h"
#include "tools/ingle/generate.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

#define HISTORY_LINES 1000

struct chat {
    struct ingle_client *client;
    struct generate_options options;
    const char *system; /* NULL: none */
    struct chat_message *messages;
    size_t n_messages, room;
    EditLine *editor; /* NULL: stdin is no terminal */
    History *history;
    char history_path[PATH_MAX];
    FILE *answer; /* what the model says, for the conversation */
    char last;
};

static enum cli_exit add_message(struct chat *c, const char *role, const char *text)
{
    if (c->n_messages == c->room) {
        size_t room = c->room * 2 + 16;
        struct chat_message *more = realloc(c->messages, room * sizeof *more);

        if (more == NULL) {
            return cli_fail(CLI_FAIL, "out of memory");
        }
        c->messages = more;
        c->room = room;
    }
    c->messages[c->n_messages].role = role;
    c->messages[c->n_messages].text = strdup(text);
    c->messages[c->n_messages].bytes = strlen(text);
    if (c->messages[c->n_messages].text == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    c->n_messages++;
    return CLI_OK;
}

static void drop_messages(struct chat *c, size_t keep)
{
    while (c->n_messages > keep) {
        free(c->messages[--c->n_messages].text);
    }
}

static void take(void *arg, const struct ingle_event_info *event)
{
    struct chat *c = arg;

    if (event->text_bytes > 0 && !(event->flags & (INGLE_TOK_F_ALT | INGLE_TOK_F_PROMPT))) {
        (void)fwrite(event->text, 1, event->text_bytes, stdout);
        (void)fflush(stdout);
        (void)fwrite(event->text, 1, event->text_bytes, c->answer);
        c->last = event->text[event->text_bytes - 1];
    }
}

/* Ask, print the answer while it comes, keep it (what there is of it after Ctrl-C). */
static enum cli_exit turn(struct chat *c, const char *question)
{
    struct request_result result;
    char *payload = NULL, *answer = NULL;
    size_t payload_bytes, answer_bytes, before = c->n_messages;
    enum cli_exit e = text_check(question, strlen(question));

    if (e == CLI_OK) {
        e = add_message(c, "user", question);
    }
    if (e == CLI_OK) {
        e = chat_payload(c->system, c->messages, c->n_messages, &payload, &payload_bytes);
    }
    c->answer = e == CLI_OK ? open_memstream(&answer, &answer_bytes) : NULL;
    if (c->answer != NULL) {
        c->options.g.payload = payload;
        c->options.g.payload_bytes = payload_bytes;
        c->last = 0;
        e = request_run(c->client, REQUEST_GENERATE, &c->options.g, take, c, &result);
        (void)fputs(c->last == '\n' ? "" : "\n", stdout);
        (void)fflush(stdout);
        if (fclose(c->answer) == 0 && (e == CLI_OK || e == CLI_CANCELLED)) {
            enum cli_exit kept = add_message(c, "assistant", answer);

            e = kept == CLI_OK ? e : kept;
        }
    }
    if (e != CLI_OK && e != CLI_CANCELLED) {
        drop_messages(c, before); /* a refused question is as if it had not been asked */
    }
    free(answer);
    free(payload);
    return e;
}

static char *prompt_text(EditLine *editor)
{
    static char text[] = "> ";

    (void)editor;
    return text;
}

static void edit_init(struct chat *c)
{
    char folder[PATH_MAX];
    HistEvent event;

    path_in(PATH_STATE, folder, "%s", "");
    path_in(PATH_STATE, c->history_path, "history");
    (void)path_make(folder); /* without it there is just no history */
    c->history = history_init();
    c->editor = el_init("ingle", stdin, stdout, stderr);
    if (c->editor == NULL || c->history == NULL) {
        return;
    }
    (void)history(c->history, &event, H_SETSIZE, HISTORY_LINES);
    (void)history(c->history, &event, H_SETUNIQUE, 1);
    (void)history(c->history, &event, H_LOAD, c->history_path);
    (void)el_set(c->editor, EL_PROMPT, prompt_text);
    (void)el_set(c->editor, EL_HIST, history, c->history);
    (void)el_set(c->editor, EL_EDITOR, "emacs");
    (void)el_source(c->editor, NULL); /* ~/.editrc */
}

static void edit_fini(struct chat *c)
{
    HistEvent event;

    if (c->editor != NULL) {
        el_end(c->editor);
    }
    if (c->history != NULL) {
        (void)history(c->history, &event, H_SAVE, c->history_path);
        history_end(c->history);
    }
}

/* The next line without its end: 1, 0 at the end of input, -1 after Ctrl-C. The caller frees. */
static int read_line(struct chat *c, char **ret)
{
    HistEvent event;
    char *line = NULL;
    int n = 0;

    if (c->editor != NULL) {
        const char *edited = el_gets(c->editor, &n);

        if (edited == NULL || n <= 0) {
            if (interrupt_taken()) {
                (void)fputs("^C\n", stdout);
                return -1;
            }
            return 0;
        }
        line = strdup(edited);
        if (strspn(edited, " \t\n") < (size_t)n) {
            (void)history(c->history, &event, H_ENTER, edited);
        }
    } else {
        size_t room = 0;
        ssize_t got = getline(&line, &room, stdin);

        if (got < 0) {
            free(line);
            return interrupt_taken() ? -1 : 0;
        }
    }
    if (line == NULL) {
        return 0;
    }
    (void)interrupt_taken(); /* one from before the line must end neither its answer nor the chat */
    line[strcspn(line, "\n")] = 0;
    *ret = line;
    return 1;
}

static const char help[] = "/clear          forget the conversation\n"
                           "/system TEXT    begin anew with this system message\n"
                           "/retry          ask the last question again\n"
                           "/exit           leave (Ctrl-D does too)\n"
                           "Ctrl-C ends an answer; a line that ends in \\ goes on.\n";

/* Lines joined as long as they end in a backslash. As read_line. */
static int read_question(struct chat *c, char **ret)
{
    char *question = NULL;
    size_t used = 0;

    for (;;) {
        char *line, *more;
        size_t bytes;
        int r = read_line(c, &line);
        bool goes_on;

        if (r <= 0) {
            free(question);
            return r;
        }
        bytes = strlen(line);
        goes_on = bytes > 0 && line[bytes - 1] == '\\';
        if (goes_on) {
            line[bytes - 1] = '\n';
        }
        more = realloc(question, used + bytes + 1);
        if (more == NULL) {
            free(question);
            free(line);
            return 0;
        }
        question = more;
        memcpy(question + used, line, bytes + 1);
        used += bytes;
        free(line);
        if (!goes_on) {
            *ret = question;
            return 1;
        }
    }
}

/* A line that begins with a slash. False: leave. */
static bool command(struct chat *c, char **system_text, const char *line)
{
    if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0 || strcmp(line, "/bye") == 0) {
        return false;
    }
    if (strcmp(line, "/clear") == 0) {
        drop_messages(c, 0);
    } else if (strncmp(line, "/system ", 8) == 0) {
        free(*system_text);
        *system_text = strdup(line + 8);
        c->system = *system_text;
        drop_messages(c, 0);
    } else if (strcmp(line, "/retry") == 0 && c->n_messages >= 2) {
        char *question = strdup(c->messages[c->n_messages - 2].text);

        drop_messages(c, c->n_messages - 2);
        c->options.g.seed++;
        (void)(question != NULL ? turn(c, question) : CLI_FAIL);
        free(question);
    } else {
        (void)fputs(help, stdout);
    }
    return true;
}

static enum cli_exit talk(struct chat *c)
{
    char *system_text = NULL;
    enum cli_exit e = CLI_OK;
    bool stay = true;

    while (stay) {
        char *line;
        int r = read_question(c, &line);

        if (r < 0) {
            continue; /* Ctrl-C at the prompt: an empty line */
        }
        if (r == 0) {
            break;
        }
        if (line[0] == '/') {
            stay = command(c, &system_text, line);
        } else if (line[strspn(line, " \t\n")] != 0) {
            e = turn(c, line);
            stay = e != CLI_UNREACHABLE;
        }
        free(line);
    }
    free(system_text);
    return e == CLI_UNREACHABLE ? e : CLI_OK;
}

enum cli_exit verb_chat(const struct cli_call *call)
{
    struct chat c = {.system = cli_value(call, "system")};
    struct model_info model;
    enum cli_exit e = generate_options_read(call, &c.options);

    if (e == CLI_OK) {
        e = runtime_attach(RUNTIME_MAY_START, 8u << 20, &c.client);
    }
    if (e != CLI_OK) {
        return e;
    }
    e = runtime_open(c.client, call, &model);
    if (e == CLI_OK && !model.has_template) {
        e = cli_fail(CLI_REFUSED, "this model has no chat template (a base model). Continue a text "
                                  "with it: ingle complete");
    }
    if (e == CLI_OK) {
        interrupt_catch();
        c.options.g.user_data = 1;
        c.options.g.model = model.slot;
        c.options.g.kind = INGLE_CHAT;
        if (isatty(STDIN_FILENO) == 1) {
            edit_init(&c);
            cli_note("/help shows what else there is; Ctrl-D leaves");
        }
        e = talk(&c);
        edit_fini(&c);
    }
    drop_messages(&c, 0);
    free(c.messages);
    ingle_detach(c.client);
    return e;
}
