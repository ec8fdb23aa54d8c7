/* Owns a runtime's folder and process from start to stop. The suites decide where it runs and what
 * it is asked. Invariant: what start made, stop removes, whether start succeeded or not.
 * Thread: main. */
#include "tools/benchmark/runtime.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"

#define START_TRIES 200 /* of 20 ms */
#define MORE_MAX    8

struct ingle_client *bench_runtime_attach(const struct bench_runtime *r)
{
    struct ingle_attach_options options = {.socket_path = r->socket, .name = "bench"};
    struct ingle_client *client;
    char err[256];

    return ingle_attach(&options, &client, err, sizeof err) == 0 ? client : NULL;
}

static int make_folder(struct bench_runtime *r, const char *config, char ret_conf[PATH_MAX])
{
    char path[PATH_MAX];
    FILE *out;

    (void)snprintf(r->folder, sizeof r->folder, "/tmp/ingle-bench-XXXXXX");
    if (mkdtemp(r->folder) == NULL) {
        r->folder[0] = '\0';
        (void)fprintf(stderr, "bench: cannot make a folder in /tmp: %m\n");
        return 1;
    }
    path_format(path, "%s/ingle", r->folder);
    (void)snprintf(r->socket, sizeof r->socket, "%s/ingle/ingle.sock", r->folder);
    path_format(ret_conf, "%s/ingle.conf", r->folder);
    out = mkdir(path, 0700) == 0 ? fopen(ret_conf, "we") : NULL;
    if (out == NULL || fputs(config, out) == EOF || fclose(out) != 0) {
        (void)fprintf(stderr, "bench: cannot write %s: %m\n", ret_conf);
        return 1;
    }
    return 0;
}

int bench_runtime_start(const struct bench *b, const char *config, const char *const *more,
                        struct bench_runtime *r)
{
    char conf[PATH_MAX];
    const char *argv[8 + MORE_MAX] = {b->ingled, "--config", conf, "--socket", r->socket};
    struct ingle_client *client = NULL;
    size_t n = 5;

    memset(r, 0, sizeof *r);
    if (make_folder(r, config, conf) != 0) {
        return 1;
    }
    for (size_t i = 0; i < MORE_MAX && more[i] != NULL; i++) {
        argv[n++] = more[i];
    }
    r->pid = proc_start(argv, -1, -1);
    if (r->pid < 0) {
        (void)fprintf(stderr, "bench: cannot start %s: %s\n", b->ingled, strerrordesc_np(-r->pid));
        return 1;
    }
    for (int i = 0; i < START_TRIES && client == NULL; i++) {
        (void)usleep(20000);
        client = bench_runtime_attach(r);
    }
    if (client == NULL) {
        (void)fprintf(stderr, "bench: %s does not answer at %s\n", b->ingled, r->socket);
        return 1;
    }
    ingle_detach(client);
    return 0;
}

void bench_runtime_stop(struct bench_runtime *r)
{
    static const char *const left[] = {"ingle/ingle.sock", "ingle/ingle.sock.lock", "ingle",
                                       "ingle.conf"};
    char path[PATH_MAX];

    if (r->pid > 0) {
        (void)kill(r->pid, SIGTERM);
        (void)waitpid(r->pid, NULL, 0);
    }
    for (size_t i = 0; r->folder[0] != '\0' && i < sizeof left / sizeof left[0]; i++) {
        path_format(path, "%s/%s", r->folder, left[i]);
        (void)remove(path);
    }
    if (r->folder[0] != '\0') {
        (void)rmdir(r->folder);
    }
    memset(r, 0, sizeof *r);
}
