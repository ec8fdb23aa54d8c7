/* One long answer over a connection that breaks again and again: every 500 tokens the client cuts
 * its own socket, and takes the session up where it was. Usage: reconnect SOCKET TOKENS. Prints
 * what it saw; exit 1 where a token is lost, doubled or out of order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "clients/c/ingle.h"

static struct ingle_client *client;
static uint32_t n_tokens, n_cuts;

static int give_up(const char *what, int res)
{
    (void)fprintf(stderr, "reconnect: %s: %s (%s)\n", what, ingle_strerror(res), ingle_why(client));
    return 1;
}

/* 0: go on. */
static int take(const struct ingle_event_info *e)
{
    if (e->kind != INGLE_EVENT_TOKEN) {
        return 0;
    }
    if (e->index != n_tokens) {
        (void)fprintf(stderr, "reconnect: token %u where %u was due\n", e->index, n_tokens);
        return 1;
    }
    if (++n_tokens % 500 == 0) {
        n_cuts++;
        (void)shutdown(ingle_fd(client), SHUT_RDWR);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct ingle_attach_options options = {.name = "reconnect"};
    struct ingle_event_info e;
    struct ingle_generate g;
    char why[256];

    if (argc != 3) {
        return 2;
    }
    options.socket_path = argv[1];
    if (ingle_attach(&options, &client, why, sizeof why) != 0) {
        (void)fprintf(stderr, "reconnect: %s\n", why);
        return 1;
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.payload = "over and over";
    g.payload_bytes = 13;
    g.max_tokens = (uint32_t)strtoul(argv[2], NULL, 10);
    if (ingle_submit(client, &g) != 0) {
        return give_up("submit", EINVAL);
    }
    do {
        int res = ingle_next(client, &e);

        if (res == 0) {
            e.kind = INGLE_EVENT_TOKEN;
            res = ingle_wait(client, 10000);
            if (res == 0) {
                return give_up("wait", ETIMEDOUT);
            }
        } else if (res == 1 && take(&e) != 0) {
            return 1;
        }
        if (res == -EPIPE) {
            res = ingle_reattach(client, why, sizeof why);
            if (res != 0) {
                (void)fprintf(stderr, "reconnect: %d: %s\n", res, why);
                return 1;
            }
        } else if (res < 0) {
            return give_up("next", res);
        }
    } while (e.kind == INGLE_EVENT_TOKEN || (e.cqe_flags & INGLE_DONE_FINAL) == 0);
    (void)printf("%u tokens, %u cuts, res %d\n", n_tokens, n_cuts, e.res);
    ingle_detach(client);
    return n_tokens == g.max_tokens && e.res == (int)g.max_tokens ? 0 : 1;
}
