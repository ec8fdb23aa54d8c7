/* Suite `proto`: what the border costs, against a runtime of its own with the null engine (no
 * model, no arithmetic). Owns that runtime while the suite runs.
 *
 * attach    socket, credentials, two memfds, mapping, until the client may submit; nobody pinned,
 *           as programs do it, now and then. And the same with the answer to a first NOP, behind
 *           which the rest of the handshake cannot hide
 * nop       a request that asks for nothing, client and io thread polling on different cores
 * sleeping  the same, both asleep between requests
 * publish   a token record with its text into the ring and out, a reader busy on another core
 * Thread: main, and the reader's. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clients/c/ingle.h"
#include "shm/layout.h"
#include "shm/ring.h"
#include "tools/benchmark/bench.h"
#include "tools/benchmark/runtime.h"

#define REPEATS        5
#define ATTACHES       200
#define ATTACH_REST_US 8000 /* a storm of them is another question */
#define NOPS           20000
#define SLEEPERS       500
#define BURSTS         20000
#define BURST          8
#define RING_N         4096u
#define TEXT_N         65536u

enum place {
    PLACE_ANY,
    PLACE_FIRST, /* the first processor that we may use */
    PLACE_OTHERS
};

/* Where this thread, and what it starts, runs from now on. */
static void pin(enum place place)
{
    static cpu_set_t machine; /* as it was before the first call */
    cpu_set_t some;
    int n = 0;

    if (CPU_COUNT(&machine) == 0) {
        (void)sched_getaffinity(0, sizeof machine, &machine);
    }
    CPU_ZERO(&some);
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &machine) &&
            (place == PLACE_ANY || (n++ == 0) == (place == PLACE_FIRST))) {
            CPU_SET(i, &some);
        }
    }
    if (CPU_COUNT(&some) > 0) { /* there is only one: share it */
        (void)sched_setaffinity(0, sizeof some, &some);
    }
}

static int start(const struct bench *b, const char *spin_us, bool apart, struct bench_runtime *r)
{
    const char *more[] = {"--null", "--log-level", "error", "--spin-us", spin_us, NULL};
    int status;

    pin(apart ? PLACE_OTHERS : PLACE_ANY);
    status = bench_runtime_start(b, "", more, r);
    pin(apart ? PLACE_FIRST : PLACE_ANY);
    return status;
}

/* Run once() REPEATS times; value and spread of what it gives (negative: it failed). */
static int repeat(struct bench *b, struct bench_row *row, double (*once)(struct bench_runtime *r),
                  struct bench_runtime *r)
{
    double all[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        all[i] = once(r);
        if (all[i] < 0) {
            (void)fprintf(stderr, "bench: %s failed\n", row->name);
            return 1;
        }
    }
    row->value = row->ours = bench_quantile(all, REPEATS, 0.5); /* sorts */
    row->spread = (all[REPEATS - 1] - all[0]) / row->value;
    row->peer = row->quality = row->peer_quality = (double)NAN;
    bench_report(b, row);
    return 0;
}

/* One NOP there and back. sleeping: through ingle_wait. */
static bool nop(struct ingle_client *client, uint64_t user_data, bool sleeping)
{
    struct ingle_event_info event;

    if (ingle_nop(client, user_data) != 0) {
        return false;
    }
    for (;;) {
        int n = ingle_next(client, &event);

        if (n < 0) {
            return false;
        }
        if (n > 0 && (event.cqe_flags & INGLE_CQE_F_FINAL) != 0) {
            return event.user_data == user_data;
        }
        if (n == 0 && sleeping && ingle_wait(client, 1000) < 0) {
            return false;
        }
    }
}

static double attaches_us(struct bench_runtime *r, bool with_nop)
{
    double samples[ATTACHES];

    for (int i = 0; i < ATTACHES; i++) {
        uint64_t t = bench_now_ns();
        struct ingle_client *client = bench_runtime_attach(r);
        bool ok = client != NULL && (!with_nop || nop(client, 1, true));

        samples[i] = (double)(bench_now_ns() - t) / 1e3;
        ingle_detach(client);
        if (!ok) {
            return -1;
        }
        (void)usleep(ATTACH_REST_US);
    }
    return bench_quantile(samples, ATTACHES, 0.5);
}

static double attach_us(struct bench_runtime *r)
{
    return attaches_us(r, false);
}

static double attach_nop_us(struct bench_runtime *r)
{
    return attaches_us(r, true);
}

static double nop_us(struct bench_runtime *r, double *samples, size_t n, bool sleeping)
{
    struct ingle_client *client = bench_runtime_attach(r);
    double p50 = -1;
    size_t i;

    if (client == NULL) {
        return -1;
    }
    for (i = 0; i < n; i++) {
        uint64_t t = bench_now_ns();

        if (!nop(client, i + 1, sleeping)) {
            break;
        }
        samples[i] = (double)(bench_now_ns() - t) / 1e3;
        if (sleeping) {
            (void)usleep(300);
        }
    }
    if (i == n) {
        p50 = bench_quantile(samples, n, 0.5);
    }
    ingle_detach(client);
    return p50;
}

static double nop_polled_us(struct bench_runtime *r)
{
    static double samples[NOPS];

    return nop_us(r, samples, NOPS, false);
}

static double nop_sleeping_us(struct bench_runtime *r)
{
    static double samples[SLEEPERS];

    return nop_us(r, samples, SLEEPERS, true);
}

/* Both ends of a token ring in one process. */
struct pipe {
    uint8_t *c2s, *s2c;
    atomic_bool stop; /* main stores; the reader loads */
};

static void *read_tokens(void *arg)
{
    struct pipe *p = arg;
    struct ingle_tok_reader reader;
    struct ingle_tok tok;
    static char text[INGLE_TEXT_COPY_BYTES];
    uint32_t unreleased = 0;

    ingle_tok_reader_init(&reader, p->c2s, p->s2c, INGLE_RING_PAGE, RING_N,
                          INGLE_RING_PAGE + RING_N * sizeof(struct ingle_tok), TEXT_N);
    while (!atomic_load_explicit(&p->stop, memory_order_relaxed)) {
        if (ingle_tok_read(&reader, &tok, text) != 0 || ++unreleased == RING_N / 8) {
            ingle_tok_release(&reader);
            unreleased = 0;
        }
    }
    return NULL;
}

/* Bursts as a step with many sequences writes them; between bursts the reader catches up. */
static bool publish_bursts(struct ingle_tok_writer *writer, double *samples)
{
    struct ingle_tok tok = {.user_data = 1, .token = 1};

    for (int i = 0; i < BURSTS; i++) {
        uint64_t t;

        while (ingle_tok_writer_room(writer) < (int)RING_N - BURST) {
            (void)sched_yield();
        }
        t = bench_now_ns();
        for (int k = 0; k < BURST; k++) {
            if (ingle_tok_write(writer, &tok, " word", 5) != 0) {
                return false;
            }
            (void)ingle_tok_publish(writer);
            tok.index++;
        }
        samples[i] = (double)(bench_now_ns() - t) / 1e3 / BURST;
    }
    return true;
}

static double publish_us(struct bench_runtime *r)
{
    const size_t bytes = INGLE_RING_PAGE + RING_N * sizeof(struct ingle_tok) + TEXT_N;
    static uint32_t text_ends[RING_N];
    static double samples[BURSTS];
    struct ingle_tok_writer writer;
    struct pipe p = {.c2s = NULL};
    pthread_t reader;
    bool ok;
    uint8_t *memory = mmap(NULL, INGLE_RING_PAGE + bytes, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    (void)r;
    if (memory == MAP_FAILED) {
        return -1;
    }
    p.c2s = memory;
    p.s2c = memory + INGLE_RING_PAGE;
    ingle_tok_writer_init(&writer, p.c2s, p.s2c, INGLE_RING_PAGE, RING_N,
                          INGLE_RING_PAGE + RING_N * sizeof(struct ingle_tok), TEXT_N, text_ends);
    pin(PLACE_OTHERS);
    ok = pthread_create(&reader, NULL, read_tokens, &p) == 0;
    pin(PLACE_FIRST);
    if (ok) {
        ok = publish_bursts(&writer, samples);
        atomic_store_explicit(&p.stop, true, memory_order_relaxed);
        (void)pthread_join(reader, NULL);
    }
    (void)munmap(memory, INGLE_RING_PAGE + bytes);
    return ok ? bench_quantile(samples, BURSTS, 0.5) : -1;
}

int bench_proto(struct bench *b)
{
    static const struct {
        const char *name, *spin_us;
        bool apart; /* runtime and client on different processors */
        double floor, goal;
        double (*once)(struct bench_runtime *r);
    } rows[] = {
        {"attach p50", "0", false, 150, 100, attach_us},
        {"attach and first nop, p50", "0", false, (double)NAN, (double)NAN, attach_nop_us},
        {"nop round trip, polled, p50", "1000", true, 0.5, 0.3, nop_polled_us},
        {"nop round trip, sleeping, p50", "0", false, (double)NAN, (double)NAN, nop_sleeping_us},
        {"token publish, p50", NULL, true, 0.3, 0.15, publish_us},
    };
    int status = 0;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bench_row row = {
            .name = rows[i].name, .floor = rows[i].floor, .goal = rows[i].goal, .unit = "us"};
        struct bench_runtime r = {.pid = 0};

        if (!bench_wants(b, row.name)) {
            continue;
        }
        status |= (rows[i].spin_us != NULL && start(b, rows[i].spin_us, rows[i].apart, &r) != 0) ||
                  repeat(b, &row, rows[i].once, &r) != 0;
        bench_runtime_stop(&r);
        pin(PLACE_ANY);
    }
    return status;
}
