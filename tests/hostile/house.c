/* Owns the one house of the program: its temporary directory and the process in it. */
#include "tests/hostile/house.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX 16

struct house house;

static const char *ingled; /* path */
static const char *const *ingled_args;

void house_start(void)
{
    char reply[4096], *argv[ARGS_MAX];
    const char *const *args = ingled_args;
    int n = 0, log;

    argv[n++] = (char *)(uintptr_t)ingled;
    argv[n++] = (char *)(uintptr_t) "--null";
    argv[n++] = (char *)(uintptr_t) "--socket";
    argv[n++] = house.socket;
    argv[n++] = (char *)(uintptr_t) "--config";
    argv[n++] = (char *)(uintptr_t) "/dev/null";
    for (; args != NULL && *args != NULL; args++) {
        assert_true(n < ARGS_MAX - 1);
        argv[n++] = (char *)(uintptr_t)*args;
    }
    argv[n] = NULL;
    log = open(house.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(log >= 0);
    house.pid = fork();
    assert_true(house.pid >= 0);
    if (house.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing outlives a test that is killed */
        (void)setenv("HOME", house.dir, 1);
        (void)unsetenv("XDG_CACHE_HOME");
        (void)unsetenv("XDG_CONFIG_HOME");
        (void)unsetenv("XDG_DATA_HOME");
        (void)unsetenv("XDG_STATE_HOME");
        (void)dup2(log, STDERR_FILENO);
        (void)execv(ingled, argv);
        _exit(127);
    }
    (void)close(log);
    house_ask("{\"verb\":\"open\",\"model\":\"null\"}", reply, sizeof reply);
    assert_non_null(strstr(reply, "\"ok\":true"));
}

void house_prepare(int argc, char **argv, const char *const *args)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s INGLED\n", argv[0]);
        exit(2);
    }
    ingled = argv[1];
    ingled_args = args;
}

int house_open(void **state)
{
    (void)state;
    (void)snprintf(house.dir, sizeof house.dir, "/tmp/ingle-test-XXXXXX");
    assert_non_null(mkdtemp(house.dir));
    (void)snprintf(house.socket, sizeof house.socket, "%s/run/ingle.sock", house.dir);
    (void)snprintf(house.log, sizeof house.log, "%s/log", house.dir);
    house_start();
    do { /* until the session that house_start had is over */
        house.calm = house_look();
    } while (house.calm.sessions > 1);
    return 0;
}

static int wait_for_exit(pid_t pid)
{
    for (int i = 0; i < 1000; i++) {
        int status;
        pid_t done = waitpid(pid, &status, WNOHANG);

        assert_true(done >= 0);
        if (done == pid) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        (void)usleep(10000);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    fail_msg("ingled did not end within 10 s");
    return -1;
}

int house_stop(void)
{
    int status;

    assert_int_equal(kill(house.pid, SIGTERM), 0);
    status = wait_for_exit(house.pid);
    house.pid = 0;
    return status;
}

static void print_log(void)
{
    FILE *file = fopen(house.log, "re");
    char line[600];

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)fputs(line, stderr);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
}

/* cmocka takes no notice of a group's end that fails, so this ends the program. */
int house_close(void **state)
{
    static const char *const left[] = {"log",          "run/ingle.sock.lock",
                                       "run",          ".cache/ingle/images",
                                       ".cache/ingle", ".cache"};
    int status = house.pid == 0 ? 0 : house_stop();
    char path[128];

    (void)state;
    if (status != 0) {
        print_log();
        (void)fprintf(stderr, "ingled ended with %d\n", status);
        exit(1);
    }
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", house.dir, left[i]);
        (void)remove(path);
    }
    if (rmdir(house.dir) != 0) { /* the socket, too, was taken away */
        (void)fprintf(stderr, "something is left in %s: %s\n", house.dir, strerror(errno));
        exit(1);
    }
    return 0;
}

bool house_logged(const char *text)
{
    FILE *file = fopen(house.log, "re");
    char line[1024];
    bool found = false;

    assert_non_null(file);
    while (!found && fgets(line, sizeof line, file) != NULL) {
        found = strstr(line, text) != NULL;
    }
    (void)fclose(file);
    return found;
}

/* ---- asking ---------------------------------------------------------------------------------- */

void house_ask(const char *json, char *room, size_t bytes)
{
    static _Thread_local struct peer p;
    struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC,
                              .type = INGLE_CTL_ADMIN,
                              .payload_bytes = (uint32_t)strlen(json),
                              .seq = 42};
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    size_t at = 0;

    assert_true(sizeof h + strlen(json) <= sizeof msg);
    peer_open(&p, house.socket, "asker");
    memcpy(msg, &h, sizeof h);
    memcpy(msg + sizeof h, json, strlen(json));
    peer_send(p.sock, msg, sizeof h + strlen(json));
    do {
        ssize_t n = peer_receive(p.sock, msg, sizeof msg, NULL);

        if (n == 8) {
            continue;
        }
        assert_true(n >= (ssize_t)sizeof h);
        memcpy(&h, msg, sizeof h);
        assert_int_equal(h.type, INGLE_CTL_ADMIN_REPLY);
        if ((h.flags & INGLE_CTL_F_PROGRESS) != 0) {
            continue;
        }
        assert_true(at + h.payload_bytes < bytes);
        memcpy(room + at, msg + sizeof h, h.payload_bytes);
        at += h.payload_bytes;
        room[at] = '\0';
    } while (at == 0 || (h.flags & (INGLE_CTL_F_MORE | INGLE_CTL_F_PROGRESS)) != 0);
    peer_leave(&p);
}

static uint64_t number(struct json_object *root, const char *part, const char *key)
{
    struct json_object *object, *value;

    assert_true(json_object_object_get_ex(root, part, &object));
    assert_true(json_object_object_get_ex(object, key, &value));
    return json_object_get_uint64(value);
}

struct house_state house_look(void)
{
    static char room[1 << 20];
    struct json_object *root, *sessions;
    struct house_state s;

    house_ask("{\"verb\":\"ps\"}", room, sizeof room);
    root = json_tokener_parse(room);
    assert_non_null(root);
    assert_true(json_object_object_get_ex(root, "sessions", &sessions));
    s = (struct house_state){
        .fds = number(root, "process", "fds"),
        .threads = number(root, "process", "threads"),
        .rss_bytes = number(root, "process", "rss_bytes"),
        .sessions = json_object_array_length(sessions),
        .contexts = number(root, "counters", "contexts"),
        .running = number(root, "counters", "running"),
        .violations = number(root, "counters", "violations"),
        .rejected = number(root, "counters", "rejected"),
        .attached = number(root, "counters", "attached"),
        .floods = number(root, "counters", "floods"),
        .requests = number(root, "counters", "requests"),
        .io_sleeps = number(root, "counters", "io_sleeps"),
        .step_allocations = number(root, "counters", "step_allocations"),
    };
    (void)json_object_put(root);
    return s;
}

#define KIT_FDS 3 /* made ahead of the next attach: two regions, a doorbell */

static void assert_as_calm(const struct house_state *now)
{
    const struct house_state *calm = &house.calm;

    assert_true(now->fds <= calm->fds + KIT_FDS);
    assert_int_equal(now->threads, calm->threads);
    assert_int_equal(now->sessions, calm->sessions);
    assert_int_equal(now->contexts, calm->contexts);
#ifndef __SANITIZE_ADDRESS__ /* which keeps freed memory for a while */
    assert_true(now->rss_bytes < calm->rss_bytes + (8u << 20));
#endif
    assert_int_equal(now->step_allocations, 0);
}

struct house_state house_settle(void)
{
    const struct house_state *calm = &house.calm;
    struct house_state now = house_look();

    for (int i = 0; i < 500; i++) {
        if (now.sessions <= calm->sessions && now.fds <= calm->fds + KIT_FDS &&
            now.contexts <= calm->contexts) {
            assert_as_calm(&now);
            return now;
        }
        (void)usleep(20000);
        now = house_look();
    }
    print_log();
    fail_msg("sessions %llu of %llu, fds %llu of %llu, contexts %llu of %llu",
             (unsigned long long)now.sessions, (unsigned long long)calm->sessions,
             (unsigned long long)now.fds, (unsigned long long)calm->fds,
             (unsigned long long)now.contexts, (unsigned long long)calm->contexts);
    return now;
}

/* ---- the honest client ----------------------------------------------------------------------- */

#define HONEST_PROMPT "the honest client's prompt"
#define HONEST_TOKENS 2000

static void one_answer(struct peer *p, char *into, size_t bytes)
{
    struct ingle_sqe sqe = peer_generate(p, 1, HONEST_PROMPT, HONEST_TOKENS);

    into[0] = '\0';
    peer_submit(p, &sqe);
    if (peer_finish(p, 1, into, bytes) != HONEST_TOKENS) {
        into[0] = '\0';
    }
}

static void honest_main(struct honest *honest)
{
    struct peer p;
    char *text = malloc(sizeof honest->solo);

    peer_open(&p, house.socket, "honest");
    do { /* at least one round, however early the end is */
        one_answer(&p, text, sizeof honest->solo);
        (void)atomic_fetch_add_explicit(&honest->n_wrong, strcmp(text, honest->solo) != 0,
                                        memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&honest->n_rounds, 1, memory_order_relaxed);
    } while (!atomic_load_explicit(&honest->stop, memory_order_relaxed));
    peer_leave(&p);
    _exit(0);
}

struct honest *honest_start(void)
{
    struct honest *honest =
        mmap(NULL, sizeof *honest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct peer p;
    pid_t pid;

    assert_ptr_not_equal(honest, MAP_FAILED);
    peer_open(&p, house.socket, "solo");
    one_answer(&p, honest->solo, sizeof honest->solo);
    peer_leave(&p);
    assert_true(strlen(honest->solo) > HONEST_TOKENS);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        honest_main(honest);
    }
    honest->pid = pid;
    return honest;
}

void honest_stop(struct honest *honest)
{
    int status;

    atomic_store_explicit(&honest->stop, true, memory_order_relaxed);
    assert_int_equal(waitpid(honest->pid, &status, 0), honest->pid);
    assert_int_equal(status, 0);
    assert_true(honest->n_rounds > 0);
    assert_int_equal(honest->n_wrong, 0);
    (void)munmap(honest, sizeof *honest);
}
