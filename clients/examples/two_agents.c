/* Two processes, one context: the first reads a text once and exports what it has read, the second
 * takes a copy and asks about it. Nothing is computed twice.
 *
 *     two_agents                          both of them, the token handed over through a pipe
 *     two_agents prepare [TEXT]           print a token, keep it alive until stdin closes
 *     two_agents go-on TOKEN [QUESTION]   as any other process of this user, anywhere
 *
 * Needs a running ingled; see README.md. */
#include <ingle.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const text =
    "A house keeps one fire. In the evening it is covered with ash, and in the morning the embers "
    "light the new one, so that nobody has to strike a flint twice. Whoever needs fire takes an "
    "ember home in a pot; the hearth has no less for it. ";
static const char *const question = "Why does nobody strike a flint twice? Because";

static int fail(struct ingle_client *client, const char *what, int res)
{
    (void)fprintf(stderr, "two_agents: %s: %s\n", what, ingle_strerror(res));
    ingle_detach(client);
    return 1;
}

static struct ingle_client *attach(const char *name)
{
    const struct ingle_attach_options options = {.name = name};
    struct ingle_client *client = NULL;
    char why[256];

    if (ingle_attach(&options, &client, why, sizeof why) != 0) {
        (void)fprintf(stderr, "two_agents: %s\n", why);
        return NULL;
    }
    return client;
}

/* The request's end: its result, or why there is none. */
static int finish(struct ingle_client *client, int submitted, struct ingle_event_info *ret_final,
                  int (*on_event)(void *arg, const struct ingle_event_info *event))
{
    int res = submitted;

    if (res == 0) {
        res = ingle_await(client, 1, -1, on_event, NULL, ret_final);
    }
    return res == 0 ? ret_final->res : res;
}

static int show(void *arg, const struct ingle_event_info *event)
{
    (void)arg;
    if (event->kind == INGLE_EVENT_TOKEN) {
        (void)fwrite(event->text, 1, event->text_bytes, stdout);
        (void)fflush(stdout);
    }
    return 0;
}

/* Read what into a context, write its token to fd_out, stay until fd_in closes: a token without a
 * time to live ends with the client that made it. */
static int prepare(const char *what, int fd_out, int fd_in)
{
    struct ingle_client *client = attach("agent one");
    struct ingle_event_info final = {0};
    struct ingle_generate g;
    char token[INGLE_TOKEN_TEXT], c;
    int res;

    if (client == NULL) {
        return 3;
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.payload = what;
    g.payload_bytes = strlen(what);
    g.keep_ctx = 1;
    res = finish(client, ingle_append(client, &g), &final, NULL);
    if (res < 0) {
        return fail(client, "cannot read the text", res);
    }
    res = ingle_ctx_export(client, final.ctx, 0, 0, token);
    if (res != 0) {
        return fail(client, "cannot export the context", res);
    }
    (void)fprintf(stderr, "agent one has read %u tokens\n", final.n_prompt);
    if (dprintf(fd_out, "%s\n", token) < 0) {
        return fail(client, "cannot hand the token over", 0);
    }
    while (read(fd_in, &c, 1) > 0) {
    }
    ingle_detach(client);
    return 0;
}

static int go_on(const char *token, const char *ask)
{
    struct ingle_client *client = attach("agent two");
    struct ingle_event_info final = {0};
    struct ingle_generate g;
    uint64_t ctx;
    uint32_t n_taken;
    int res;

    if (client == NULL) {
        return 3;
    }
    res = ingle_ctx_import(client, token, &ctx, &n_taken);
    if (res != 0) {
        return fail(client, "cannot take the context", res);
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.ctx = ctx;
    g.payload = ask;
    g.payload_bytes = strlen(ask);
    g.max_tokens = 48;
    (void)fprintf(stderr, "agent two asks: %s\n", ask);
    res = finish(client, ingle_submit(client, &g), &final, show);
    if (res < 0) {
        return fail(client, "cannot go on", res);
    }
    (void)fprintf(stderr,
                  "\nagent two took over %u tokens without computing them, read %u of its own "
                  "(n_cached %u) and wrote %d\n",
                  n_taken, final.n_prompt, final.n_cached, res);
    ingle_detach(client);
    return 0;
}

static int both(void)
{
    int to_two[2], to_one[2], status = 1;
    char token[INGLE_TOKEN_TEXT] = "";
    pid_t one;
    ssize_t n;
    int res;

    if (pipe(to_two) != 0 || pipe(to_one) != 0) {
        perror("two_agents: pipe");
        return 1;
    }
    one = fork(); /* before either attaches: a client does not outlive a fork */
    if (one == 0) {
        (void)close(to_two[0]);
        (void)close(to_one[1]);
        return prepare(text, to_two[1], to_one[0]);
    }
    (void)close(to_two[1]);
    (void)close(to_one[0]);
    n = read(to_two[0], token, sizeof token - 1);
    token[n > 0 ? strcspn(token, "\n") : 0] = '\0';
    res = n > 0 ? go_on(token, question) : 1;
    (void)close(to_one[1]);
    (void)waitpid(one, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : res;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "prepare") == 0) {
        return prepare(argc > 2 ? argv[2] : text, STDOUT_FILENO, STDIN_FILENO);
    }
    if (argc >= 3 && strcmp(argv[1], "go-on") == 0) {
        return go_on(argv[2], argc > 3 ? argv[3] : question);
    }
    if (argc == 1) {
        return both();
    }
    (void)fprintf(stderr, "usage: two_agents [prepare [TEXT] | go-on TOKEN [QUESTION]]\n");
    return 2;
}
