/* Measures the others, each through the program that its own authors measure it with: llama-bench
 * and llama-batched-bench, of llama.cpp and of ik_llama.cpp; peer_openvino.py, one process that
 * stays and takes orders, because OpenVINO converts a model for many seconds. Owns that process and
 * what it learned about settings. A process that does not measure sleeps. Thread: main. */
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/benchmark/engine.h"
#include "tools/benchmark/machine.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"

#define REPLY_BYTES 65536
#define LEARNED_MAX 64

/* A program of llama.cpp or ik_llama.cpp: false where there is none. */
static bool find_program(const struct bench *b, enum engine_who who, const char *name,
                         char ret_path[PATH_MAX])
{
    static const char *const below[] = {"", "bin/", "build/bin/"};

    if (who == ENGINE_LLAMA) {
        path_format(ret_path, "%s/llama.cpp/build/bin/%s", b->cache, name);
        return access(ret_path, X_OK) == 0;
    }
    for (size_t i = 0; b->peer != NULL && i < sizeof below / sizeof below[0]; i++) {
        path_format(ret_path, "%s/%s%s", b->peer, below[i], name);
        if (access(ret_path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static void openvino_python(const struct bench *b, char ret_path[PATH_MAX])
{
    path_format(ret_path, "%s/openvino/bin/python", b->cache);
}

bool peer_is_set_up(const struct bench *b, enum engine_who who)
{
    char path[PATH_MAX];

    if (who == ENGINE_OPENVINO) {
        openvino_python(b, path);
        return access(path, X_OK) == 0;
    }
    return find_program(b, who, "llama-bench", path);
}

/* OpenVINO's reader knows neither Q5_0 nor Gemma. */
bool peer_can_read(enum engine_who who, enum engine_model model)
{
    return who != ENGINE_OPENVINO || model == ENGINE_SMOLLM2 || model == ENGINE_QWEN_Q8;
}

/* ---- llama.cpp ------------------------------------------------------------------------------- */

static const char *kv_type(int bits)
{
    return bits == 16 ? "f16" : bits == 8 ? "q8_0" : "q4_0";
}

/* The speed in a reply of llama-bench: of the last of its tests. */
static double bench_reply(const char *reply)
{
    struct json_object *tests = json_parse(reply, strlen(reply));
    size_t n = json_count(tests);
    double speed = (double)NAN;

    if (n > 0) {
        speed = json_object_get_double(json_get(json_object_array_get_idx(tests, n - 1), "avg_ts"));
    }
    json_object_put(tests);
    return speed;
}

/* The sum of all sequences in a reply of llama-batched-bench: one line. */
static double batched_reply(const char *reply)
{
    const char *line = strchr(reply, '{');
    struct json_object *object = line == NULL ? NULL : json_parse(line, strlen(line));
    double speed = json_object_get_double(json_get(object, "speed_tg"));

    json_object_put(object);
    return speed;
}

static double llama_once(const struct bench *b, const struct engine_cell *cell, bool flash)
{
    const bool batched = cell->what == ENGINE_TOGETHER;
    char program[PATH_MAX], model[PATH_MAX], prompt[32], depth[16], threads[16], tokens[16];
    char sequences[16], context[16];
    char *reply;
    double speed = (double)NAN;
    const char *argv[40] = {program,
                            "-m",
                            model,
                            "-t",
                            threads,
                            "-fa",
                            flash ? "1" : "0",
                            "-ctk",
                            kv_type(cell->kv_bits),
                            "-ctv",
                            kv_type(cell->kv_bits)};
    size_t n = 11;

#define ADD(...)                             \
    do {                                     \
        const char *more[] = {__VA_ARGS__};  \
        memcpy(argv + n, more, sizeof more); \
        n += sizeof more / sizeof more[0];   \
    } while (0)
    (void)snprintf(threads, sizeof threads, "%d",
                   cell->threads == 0 ? machine_cores() : cell->threads);
    (void)snprintf(tokens, sizeof tokens, "%d", cell->what == ENGINE_PREFILL ? 0 : ENGINE_TOKENS);
    (void)snprintf(depth, sizeof depth, "%d", cell->depth);
    (void)snprintf(sequences, sizeof sequences, "%d", ENGINE_SEQUENCES);
    (void)snprintf(context, sizeof context, "%d",
                   ENGINE_SEQUENCES * (cell->depth + ENGINE_TOKENS) + 256);
    engine_model_path(b, cell->model, model);
    if (batched) {
        ADD("-npp", depth, "-ntg", tokens, "-npl", sequences, "-c", context, "-lv", "0",
            "--output-format", "jsonl");
    } else if (cell->what == ENGINE_PREFILL) {
        /* Its own warm-up is the whole prompt; a shorter one comes as a test before. */
        bool shorter = engine_warm_up(cell->depth) < cell->depth && cell->who == ENGINE_LLAMA;

        if (shorter) {
            (void)snprintf(prompt, sizeof prompt, "%d,%d", engine_warm_up(cell->depth),
                           cell->depth);
        } else {
            (void)snprintf(prompt, sizeof prompt, "%d", cell->depth);
        }
        ADD("-p", prompt, "-n", tokens, "-r", "1", "-o", "json");
        if (shorter) {
            ADD("--no-warmup");
        }
    } else {
        ADD("-p", "0", "-n", tokens, "-r", "1", "-o", "json");
        if (cell->depth > ENGINE_SHORT) {
            ADD("-d", depth);
        }
    }
#undef ADD
    reply = malloc(REPLY_BYTES);
    if (reply != NULL &&
        find_program(b, cell->who, batched ? "llama-batched-bench" : "llama-bench", program) &&
        proc_capture(argv, reply, REPLY_BYTES) == 0) {
        speed = batched ? batched_reply(reply) : bench_reply(reply);
    }
    free(reply);
    return speed > 0 ? speed : (double)NAN;
}

/* With or without flash attention: tried at the first call, then the better one. Quantised values
 * need it. */
static double llama_measure(const struct bench *b, const struct engine_cell *cell)
{
    static struct {
        struct engine_cell cell;
        bool flash;
    } learned[LEARNED_MAX];
    static size_t n_learned;
    double with, without;

    if (cell->kv_bits < 16) {
        return llama_once(b, cell, true);
    }
    for (size_t i = 0; i < n_learned; i++) {
        if (memcmp(&learned[i].cell, cell, sizeof *cell) == 0) {
            return llama_once(b, cell, learned[i].flash);
        }
    }
    with = llama_once(b, cell, true);
    without = llama_once(b, cell, false);
    if (n_learned < LEARNED_MAX && !isnan(with) && !isnan(without)) {
        learned[n_learned].cell = *cell;
        learned[n_learned++].flash = with > without;
    }
    return fmax(with, without); /* the number where one is NAN */
}

/* ---- OpenVINO -------------------------------------------------------------------------------- */

static struct {
    FILE *answers; /* of the socket on which the orders go */
    pid_t pid;
} openvino;

static bool openvino_start(const struct bench *b)
{
    char python[PATH_MAX], script[PATH_MAX], fd_text[16], threads[16];
    const char *argv[] = {python, script, fd_text, threads, NULL};
    int fds[2];

    if (openvino.answers != NULL) {
        return true;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return false;
    }
    openvino_python(b, python);
    path_format(script, "%s/tools/benchmark/peer_openvino.py", b->source);
    (void)snprintf(threads, sizeof threads, "%d", machine_cores());
    int theirs = dup(fds[1]); /* without CLOEXEC, until it is started */

    (void)close(fds[1]);
    (void)snprintf(fd_text, sizeof fd_text, "%d", theirs);
    openvino.pid = proc_start(argv, STDERR_FILENO, -1);
    (void)close(theirs);
    openvino.answers = openvino.pid < 0 ? NULL : fdopen(fds[0], "re");
    return openvino.answers != NULL;
}

/* One order, one line of answer: a number, or a sentence. */
static double openvino_measure(const struct bench *b, const struct engine_cell *cell)
{
    static const char *const verbs[] = {"", "prefill", "decode", "together"};
    char model[PATH_MAX], line[PATH_MAX + 64], *end;
    double speed = (double)NAN;
    int n;

    if (!openvino_start(b)) {
        (void)fprintf(stderr, "bench: cannot start OpenVINO's process\n");
        return speed;
    }
    engine_model_path(b, cell->model, model);
    n = snprintf(line, sizeof line, "%s %d %d %d %d %s\n", verbs[cell->what],
                 engine_warm_up(cell->depth), cell->depth, ENGINE_TOKENS, ENGINE_SEQUENCES, model);
    if (n < (int)sizeof line &&
        send(fileno(openvino.answers), line, (size_t)n, MSG_NOSIGNAL) == n &&
        fgets(line, sizeof line, openvino.answers) != NULL) {
        speed = strtod(line, &end);
        if (end == line) {
            speed = (double)NAN;
            (void)fprintf(stderr, "bench: OpenVINO: %s", line);
        }
    }
    return speed;
}

void peers_stop(void)
{
    if (openvino.answers != NULL) {
        (void)fclose(openvino.answers); /* end of orders: it ends */
        (void)waitpid(openvino.pid, NULL, 0);
        openvino.answers = NULL;
    }
}

/* ---- all of them ----------------------------------------------------------------------------- */

double peer_measure(const struct bench *b, const struct engine_cell *cell)
{
    return cell->who == ENGINE_OPENVINO ? openvino_measure(b, cell) : llama_measure(b, cell);
}

double peer_quality(const struct bench *b, const struct engine_cell *cell)
{
    char path[PATH_MAX], who[32], model[32];
    double found = (double)NAN, value;
    int kv_bits;
    FILE *in;

    path_format(path, "%s/quality", b->cache);
    in = fopen(path, "re");
    while (in != NULL && fscanf(in, "%31s %31s %d %lf", who, model, &kv_bits, &value) == 4) {
        if (strcmp(who, engine_who_names[cell->who]) == 0 && kv_bits == cell->kv_bits &&
            strcmp(model, engine_models[cell->model].name) == 0) {
            found = value;
        }
    }
    if (in != NULL) {
        (void)fclose(in);
    }
    return found;
}
