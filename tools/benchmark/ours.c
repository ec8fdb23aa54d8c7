/* Measures Ingle as a user gets it: ingled as it is built for release, a client on libingle that
 * sleeps between events, token ids that nobody computed before. Owns the private runtimes and their
 * clients until ours_stop. Invariant: a prompt is counted only if not one of its tokens came from
 * the cache. Thread: main. */
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/benchmark/engine.h"
#include "tools/benchmark/machine.h"
#include "tools/benchmark/runtime.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"

#define RUNTIMES    3 /* numbers of threads that the rows ask for: all, 1 and 2 */
#define OPENED_MAX  16
#define PROMPT_MAX  2048
#define REPLY_BYTES 65536
#define EVAL_BYTES  (1u << 20)
#define WARM_US     1500000
#define ID_FIRST    1000u /* the first few are control tokens and single bytes */

struct opened {
    struct engine_cell cell; /* of which model, bits and activations count */
    uint16_t slot;
    uint32_t n_vocab;
};

static struct ours {
    struct bench_runtime runtime;
    struct ingle_client *client;
    int threads;
    struct opened opened[OPENED_MAX];
    size_t n_opened;
} all_ours[RUNTIMES];

/* One of a number of requests in flight. */
struct answer {
    uint64_t first_ns, last_ns;
    uint32_t n, n_prompt, n_cached;
    int32_t res;
    bool done;
};

/* A bijection with good mixing (splitmix64): id i of the whole run, the same in every run. */
static int32_t fresh_id(uint32_t n_vocab)
{
    static uint64_t counter;
    uint64_t x = ++counter * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (int32_t)(ID_FIRST + x % (n_vocab - ID_FIRST));
}

/* ---- the runtime and its models -------------------------------------------------------------- */

static struct ours *started(const struct bench *b, int threads)
{
    static const char *const more[] = {NULL};
    char config[256];
    struct ours *o = all_ours;

    threads = threads == 0 ? machine_cores() : threads;
    while (o < all_ours + RUNTIMES && o->threads != 0 && o->threads != threads) {
        o++;
    }
    if (o == all_ours + RUNTIMES || o->client != NULL) {
        return o == all_ours + RUNTIMES ? NULL : o;
    }
    (void)snprintf(config, sizeof config,
                   "[daemon]\nthreads = %d\nlog_level = error\n[cache]\nkv_bytes = 256MiB\n",
                   threads);
    o->threads = threads;
    if (bench_runtime_start(b, config, more, &o->runtime) == 0) {
        o->client = bench_runtime_attach(&o->runtime);
    }
    return o->client != NULL ? o : NULL;
}

static int submit(struct ours *o, const struct opened *model, uint64_t name, uint32_t n_prompt,
                  uint32_t n_tokens)
{
    int32_t prompt[PROMPT_MAX];
    struct ingle_generate g;
    int res;

    for (uint32_t i = 0; i < n_prompt; i++) {
        prompt[i] = fresh_id(model->n_vocab);
    }
    ingle_generate_init(&g);
    g.user_data = name;
    g.model = model->slot;
    g.kind = INGLE_IDS;
    g.payload = prompt;
    g.payload_bytes = n_prompt * sizeof prompt[0];
    g.max_tokens = n_tokens;
    g.ignore_eos = 1;
    res = ingle_submit(o->client, &g);
    if (res < 0) {
        (void)fprintf(stderr, "bench: submit: %s\n", ingle_strerror(res));
    }
    return res;
}

static void take(struct answer *a, const struct ingle_event_info *event)
{
    if (event->kind == INGLE_EVENT_TOKEN) {
        a->last_ns = bench_now_ns();
        a->first_ns = a->n++ == 0 ? a->last_ns : a->first_ns;
    } else if ((event->cqe_flags & INGLE_DONE_FINAL) != 0) {
        a->n_prompt = event->n_prompt;
        a->n_cached = event->n_cached;
        a->res = event->res;
        a->done = true;
    }
}

/* Until all n requests, named 0..n-1, have ended. on_token, if any, sees who got a token. */
static int collect(struct ours *o, struct answer *answers, size_t n, uint32_t n_prompt,
                   uint64_t *token_ns)
{
    struct ingle_event_info event;
    size_t n_done = 0, n_tokens = 0;

    while (n_done < n) {
        int r = ingle_next(o->client, &event);

        if (r == 0) {
            r = ingle_wait(o->client, -1);
        } else if (r > 0) {
            struct answer *a = &answers[event.user_data];

            take(a, &event);
            n_done += a->done;
            if (event.kind == INGLE_EVENT_TOKEN && token_ns != NULL) {
                token_ns[n_tokens++] = a->last_ns;
            }
        }
        if (r < 0) {
            (void)fprintf(stderr, "bench: %s\n", ingle_strerror(r));
            return -1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (answers[i].res < 0 || answers[i].n_cached != 0 || answers[i].n_prompt != n_prompt) {
            (void)fprintf(stderr, "bench: request of %u tokens: %s, %u read, %u from the cache\n",
                          n_prompt, answers[i].res < 0 ? ingle_strerror(answers[i].res) : "done",
                          answers[i].n_prompt, answers[i].n_cached);
            return -1;
        }
    }
    return 0;
}

/* Loaded, and warm: its first request is over, and the runtime had a moment without any, in which
 * it gets the memory of its KV pages. */
static struct opened *opened(const struct bench *b, struct ours *o, const struct engine_cell *cell)
{
    struct opened *model = o->opened;
    struct answer answer = {0};
    struct json_object *object;
    char path[PATH_MAX], request[PATH_MAX + 128], reply[REPLY_BYTES];
    int res;

    for (size_t i = 0; i < o->n_opened; i++, model++) {
        if (model->cell.model == cell->model && model->cell.kv_bits == cell->kv_bits &&
            model->cell.activations == cell->activations) {
            return model;
        }
    }
    if (o->n_opened == OPENED_MAX) {
        return NULL;
    }
    engine_model_path(b, cell->model, path);
    bench_progress(b, "loading %s", path);
    (void)snprintf(request, sizeof request,
                   "{\"verb\":\"open\",\"model\":\"%s\",\"options\":{\"kv_bits\":%d,"
                   "\"activations\":%d}}",
                   path, cell->kv_bits, cell->activations);
    res = ingle_admin(o->client, request, reply, sizeof reply, NULL, NULL);
    object = res < 0 ? NULL : json_parse(reply, strlen(reply));
    if (!json_get_bool(object, "ok", false)) {
        (void)fprintf(stderr, "bench: cannot load %s: %s\n", path,
                      res < 0 ? ingle_strerror(res) : json_get_str(object, "error", reply));
        json_object_put(object);
        return NULL;
    }
    model->cell = *cell;
    model->slot = (uint16_t)json_get_int(object, "slot", 0);
    model->n_vocab = (uint32_t)json_get_int(object, "n_vocab", ID_FIRST + 1);
    json_object_put(object);
    if (submit(o, model, 0, 64, 4) < 0 || collect(o, &answer, 1, 64, NULL) < 0) {
        return NULL;
    }
    (void)usleep(WARM_US);
    o->n_opened++;
    return model;
}

/* ---- what is measured ------------------------------------------------------------------------ */

/* Seconds until the first token; NAN: it failed. */
static double prompt_seconds(struct ours *o, const struct opened *model, uint32_t n)
{
    uint64_t t = bench_now_ns();
    struct answer a = {0};

    if (submit(o, model, 0, n, 1) < 0 || collect(o, &a, 1, n, NULL) < 0) {
        return (double)NAN;
    }
    return (double)(a.first_ns - t) / 1e9;
}

static double prefill(struct ours *o, const struct opened *model, uint32_t n)
{
    (void)prompt_seconds(o, model, (uint32_t)engine_warm_up((int)n));
    return n / prompt_seconds(o, model, n);
}

static double decode(struct ours *o, const struct opened *model, uint32_t depth)
{
    struct answer a = {0};

    if (submit(o, model, 0, depth, ENGINE_TOKENS) < 0 || collect(o, &a, 1, depth, NULL) < 0) {
        return (double)NAN;
    }
    return (a.n - 1) / ((double)(a.last_ns - a.first_ns) / 1e9);
}

/* Steady state: from when the last of them has its first token until the first of them ends. */
static double together(struct ours *o, const struct opened *model, uint32_t depth)
{
    struct answer answers[ENGINE_SEQUENCES] = {{0}};
    uint64_t token_ns[(size_t)ENGINE_SEQUENCES * ENGINE_TOKENS] = {0};
    uint64_t from = 0, to = UINT64_MAX;
    size_t n = 0;

    for (size_t i = 0; i < ENGINE_SEQUENCES; i++) {
        if (submit(o, model, i, depth, ENGINE_TOKENS) < 0) {
            return (double)NAN;
        }
    }
    if (collect(o, answers, ENGINE_SEQUENCES, depth, token_ns) < 0) {
        return (double)NAN;
    }
    for (size_t i = 0; i < ENGINE_SEQUENCES; i++) {
        from = answers[i].first_ns > from ? answers[i].first_ns : from;
        to = answers[i].last_ns < to ? answers[i].last_ns : to;
    }
    for (size_t i = 0; i < sizeof token_ns / sizeof token_ns[0]; i++) {
        n += token_ns[i] > from && token_ns[i] <= to;
    }
    return to > from ? (double)n / ((double)(to - from) / 1e9) : (double)NAN;
}

double ours_measure(const struct bench *b, const struct engine_cell *cell)
{
    struct ours *o = started(b, cell->threads);
    const struct opened *model = o == NULL ? NULL : opened(b, o, cell);

    if (model == NULL) {
        return (double)NAN;
    }
    return cell->what == ENGINE_PREFILL  ? prefill(o, model, (uint32_t)cell->depth)
           : cell->what == ENGINE_DECODE ? decode(o, model, (uint32_t)cell->depth)
                                         : together(o, model, (uint32_t)cell->depth);
}

double ours_quality(const struct bench *b, const struct engine_cell *cell)
{
    struct ours *o = started(b, 0);
    char runtime_dir[PATH_MAX], path[PATH_MAX], golden[PATH_MAX], kv_bits[8], activations[8];
    const char *argv[] = {"env",       runtime_dir, b->ingle,        "eval",
                          "-m",        path,        golden,          "--json",
                          "--kv-bits", kv_bits,     "--activations", activations,
                          NULL};
    struct json_object *object;
    double value = (double)NAN;
    char *reply = o == NULL ? NULL : malloc(EVAL_BYTES);

    if (reply == NULL) {
        return value;
    }
    engine_model_path(b, cell->model, path);
    path_format(golden, "%s/tests/model/golden/%s", b->source, engine_models[cell->model].golden);
    (void)snprintf(kv_bits, sizeof kv_bits, "%d", cell->kv_bits);
    (void)snprintf(activations, sizeof activations, "%d", cell->activations);
    path_format(runtime_dir, "XDG_RUNTIME_DIR=%s", o->runtime.folder);
    if (proc_capture(argv, reply, EVAL_BYTES) == 0) {
        object = json_parse(reply, strlen(reply));
        value = json_object_get_double(json_get(json_get(object, "all"), "mean_abs_dlogp"));
        json_object_put(object);
    }
    free(reply);
    return value > 0 ? value : (double)NAN;
}

void ours_stop(void)
{
    for (struct ours *o = all_ours; o < all_ours + RUNTIMES; o++) {
        ingle_detach(o->client);
        bench_runtime_stop(&o->runtime);
        memset(o, 0, sizeof *o);
    }
}
