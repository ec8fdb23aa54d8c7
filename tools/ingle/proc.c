/* Owns the children it starts until it has waited for them. Thread: main. */
#include "tools/ingle/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t spawn(const char *const *argv, int out_fd, int err_fd, bool detached)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = -1;
    int r = posix_spawnattr_init(&attributes);

    if (r != 0) {
        return -r;
    }
    r = posix_spawn_file_actions_init(&actions);
    if (r != 0) {
        (void)posix_spawnattr_destroy(&attributes);
        return -r;
    }
    if (detached) {
        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
        r = r == 0
                ? posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
                : r;
    }
    if (r == 0 && out_fd >= 0) {
        r = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    }
    if (r == 0 && err_fd >= 0) {
        r = posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    }
    if (r == 0) { /* posix_spawn wants char *const *, and does not write */
        r = posix_spawnp(&pid, argv[0], &actions, &attributes, (char *const *)(uintptr_t)argv,
                         environ);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return r != 0 ? -r : pid;
}

pid_t proc_start(const char *const *argv, int out_fd, int err_fd)
{
    return spawn(argv, out_fd, err_fd, false);
}

pid_t proc_start_detached(const char *const *argv, int log_fd)
{
    return spawn(argv, log_fd, log_fd, true);
}

int proc_wait(pid_t pid, void (*tick)(void *arg), void *arg)
{
    struct pollfd p = {.fd = tick != NULL ? pidfd_open(pid, 0) : -1, .events = POLLIN};
    int status;

    while (p.fd >= 0) {
        int n = poll(&p, 1, 200);

        tick(arg);
        if (n > 0 || (n < 0 && errno != EINTR)) {
            (void)close(p.fd);
            break;
        }
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return -errno;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int proc_capture(const char *const *argv, char *ret_text, size_t text_bytes)
{
    size_t used = 0;
    int pipe_fd[2];
    pid_t pid;

    ret_text[0] = 0;
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        return -errno;
    }
    pid = proc_start(argv, pipe_fd[1], -1);
    (void)close(pipe_fd[1]);
    if (pid < 0) {
        (void)close(pipe_fd[0]);
        return pid;
    }
    for (;;) {
        char spill[4096];
        int keep = used + 1 < text_bytes;
        ssize_t n = read(pipe_fd[0], keep ? ret_text + used : spill,
                         keep ? text_bytes - used - 1 : sizeof spill);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        used += keep ? (size_t)n : 0;
    }
    ret_text[used] = 0;
    (void)close(pipe_fd[0]);
    return proc_wait(pid, NULL, NULL);
}
