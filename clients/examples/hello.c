/* The smallest whole client: one prompt in, its answer as it comes.
 *
 *     hello "Once upon a time"
 *
 * Needs a running ingled; see README.md. */
#include <ingle.h>
#include <stdio.h>
#include <string.h>

static int show(void *arg, const struct ingle_event_info *event)
{
    (void)arg;
    if (event->kind == INGLE_EVENT_TOKEN) {
        (void)fwrite(event->text, 1, event->text_bytes, stdout);
        (void)fflush(stdout);
    }
    return 0; /* anything else would cancel the request */
}

int main(int argc, char **argv)
{
    const struct ingle_attach_options options = {.name = "hello"};
    const char *prompt = argc > 1 ? argv[1] : "Once upon a time";
    struct ingle_event_info final = {0};
    struct ingle_generate g;
    struct ingle_client *client;
    char why[256];
    int res = ingle_attach(&options, &client, why, sizeof why);

    if (res != 0) {
        (void)fprintf(stderr, "hello: %s\n", why);
        return 3;
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.payload = prompt;
    g.payload_bytes = strlen(prompt);
    g.max_tokens = 64;
    res = ingle_submit(client, &g);
    if (res == 0) {
        res = ingle_await(client, g.user_data, -1, show, NULL, &final);
    }
    if (res == 0) {
        res = final.res;
    }
    if (res < 0) {
        (void)fprintf(stderr, "hello: %s\n", ingle_strerror(res));
    } else {
        (void)fprintf(stderr, "\n%d tokens; of %u in the prompt %u were known already\n", res,
                      final.n_prompt, final.n_cached);
    }
    ingle_detach(client);
    return res < 0 ? 1 : 0;
}
