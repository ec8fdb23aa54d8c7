/* A client that never sleeps: submits one request and polls for its tokens. Prints how many came.
 * Usage: poller SOCKET N_TOKENS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/c/ingle.h"

int main(int argc, char **argv)
{
    struct ingle_attach_options options = {.name = "poller"};
    struct ingle_client *client;
    struct ingle_generate g;
    struct ingle_event_info event;
    char err[256];
    unsigned n = 0;
    int r;

    if (argc != 3) {
        return 2;
    }
    options.socket_path = argv[1];
    if (ingle_attach(&options, &client, err, sizeof err) < 0) {
        (void)fprintf(stderr, "poller: %s\n", err);
        return 1;
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.payload = "go";
    g.payload_bytes = 2;
    g.max_tokens = (uint32_t)strtoul(argv[2], NULL, 10);
    g.ignore_eos = 1;
    r = ingle_submit(client, &g);
    while (r >= 0) {
        r = ingle_next(client, &event);
        if (r == 1 && event.kind == INGLE_EVENT_TOKEN) {
            n++;
        } else if (r == 1 && (event.cqe_flags & INGLE_DONE_FINAL) != 0) {
            r = event.res;
            break;
        }
    }
    ingle_detach(client);
    (void)printf("%u\n", n);
    return r == (int)g.max_tokens ? 0 : 1;
}
