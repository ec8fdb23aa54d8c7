/* Times what the protocol costs, against a running ingled: attach, a polled NOP, a NOP of a client
 * that sleeps, tokens of the null engine. Prints one line each; judges nothing. Run it on a quiet
 * machine, ingled --null --spin-us 200 on one core and this on another. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clients/c/ingle.h"

#define ATTACH_N 300
#define NOP_N    20000
#define SLEEP_N  300
#define TOKEN_N  4000

static uint64_t now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void print(const char *what, uint64_t *t, size_t n)
{
    qsort(t, n, sizeof *t, by_value);
    (void)printf("%-28s p50 %8.2f us  p99 %8.2f us  (n %zu)\n", what, (double)t[n / 2] / 1e3,
                 (double)t[n * 99 / 100] / 1e3, n);
}

static void must(int res, const char *what)
{
    if (res < 0) {
        (void)fprintf(stderr, "bench_ring: %s: %s\n", what, ingle_strerror(res));
        exit(1);
    }
}

static struct ingle_client *attach(const char *path)
{
    struct ingle_attach_options options = {.socket_path = path, .name = "bench_ring"};
    struct ingle_client *client = NULL;
    char why[256];

    if (ingle_attach(&options, &client, why, sizeof why) != 0) {
        (void)fprintf(stderr, "bench_ring: %s\n", why);
        exit(1);
    }
    return client;
}

static void rest(long us)
{
    struct timespec ts = {0, us * 1000};

    (void)nanosleep(&ts, NULL);
}

static void await_final(struct ingle_client *client, int sleeps)
{
    struct ingle_event_info event;

    for (;;) {
        int res = ingle_next(client, &event);

        must(res, "next");
        if (res == 1 && event.kind == INGLE_EVENT_COMPLETION &&
            (event.cqe_flags & INGLE_DONE_FINAL) != 0) {
            return;
        }
        if (res == 0 && sleeps != 0) {
            must(ingle_wait(client, 1000), "wait");
        }
    }
}

int main(int argc, char **argv)
{
    static uint64_t t[NOP_N];
    const char *path = argc > 1 ? argv[1] : NULL;
    struct ingle_client *client;
    struct ingle_generate g;
    uint64_t start_ns;

    for (int i = 0; i < ATTACH_N; i++) {
        start_ns = now_ns();
        client = attach(path);
        t[i] = now_ns() - start_ns;
        ingle_detach(client);
        rest(8000);
    }
    print("attach", t, ATTACH_N);

    client = attach(path);
    for (int i = 0; i < NOP_N; i++) {
        start_ns = now_ns();
        must(ingle_nop(client, 1), "nop");
        await_final(client, 0);
        t[i] = now_ns() - start_ns;
    }
    print("NOP, polled", t, NOP_N);
    for (int i = 0; i < SLEEP_N; i++) {
        rest(2000);
        start_ns = now_ns();
        must(ingle_nop(client, 1), "nop");
        await_final(client, 1);
        t[i] = now_ns() - start_ns;
    }
    print("NOP, both asleep", t, SLEEP_N);

    ingle_generate_init(&g);
    g.user_data = 1;
    g.payload = "x";
    g.payload_bytes = 1;
    g.max_tokens = TOKEN_N;
    start_ns = now_ns();
    must(ingle_submit(client, &g), "submit");
    await_final(client, 0);
    (void)printf("%-28s     %8.2f us each (n %d)\n", "null engine token, polled",
                 (double)(now_ns() - start_ns) / 1e3 / TOKEN_N, TOKEN_N);
    ingle_detach(client);
    return 0;
}
