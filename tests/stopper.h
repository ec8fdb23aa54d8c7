/* Takes the processor from a thread for a second, wherever it is at that moment, as a busy machine
 * does to a worker. For tests only. */
#ifndef INGLE_TESTS_STOPPER_H
#define INGLE_TESTS_STOPPER_H
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct stopper {
    const char *name; /* of a thread of this process */
    uint32_t after_us;
    pthread_t thread;
    uint32_t n_before;
    bool found;
};

/* Stops that are over. */
static _Atomic uint32_t stopper_n;

static void stopper_handle(int number)
{
    const struct timespec second = {.tv_sec = 1};

    (void)number;
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
    (void)atomic_fetch_add_explicit(&stopper_n, 1, memory_order_relaxed);
}

/* The thread's id, 0 when there is none of this name. */
static pid_t stopper_find(const char *name)
{
    DIR *tasks = opendir("/proc/self/task");
    pid_t found = 0;

    for (struct dirent *task; tasks != NULL && found == 0 && (task = readdir(tasks)) != NULL;) {
        char path[300], comm[32] = "";
        FILE *file;

        (void)snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        file = fopen(path, "re");
        if (file != NULL) {
            (void)fgets(comm, sizeof comm, file);
            (void)fclose(file);
        }
        comm[strcspn(comm, "\n")] = 0;
        found = strcmp(comm, name) == 0 ? (pid_t)strtol(task->d_name, NULL, 10) : 0;
    }
    (void)closedir(tasks);
    return found;
}

static void *stopper_main(void *arg)
{
    struct stopper *stopper = arg;
    pid_t tid;

    (void)usleep(stopper->after_us);
    tid = stopper_find(stopper->name);
    stopper->found = tid != 0 && syscall(SYS_tgkill, getpid(), tid, SIGUSR1) == 0;
    return NULL;
}

/* Stops the named thread, which has its name by now, for a second, after so many microseconds. */
static inline void stopper_begin(struct stopper *stopper, const char *name, uint32_t after_us)
{
    const struct sigaction action = {.sa_handler = stopper_handle, .sa_flags = SA_RESTART};

    *stopper = (struct stopper){.name = name,
                                .after_us = after_us,
                                .n_before = atomic_load_explicit(&stopper_n, memory_order_relaxed)};
    if (sigaction(SIGUSR1, &action, NULL) != 0 ||
        pthread_create(&stopper->thread, NULL, stopper_main, stopper) != 0) {
        abort();
    }
}

static inline bool stopper_is_over(const struct stopper *stopper)
{
    return atomic_load_explicit(&stopper_n, memory_order_relaxed) != stopper->n_before;
}

/* Waits for its end; false: there was no such thread. */
static inline bool stopper_end(struct stopper *stopper)
{
    (void)pthread_join(stopper->thread, NULL);
    while (stopper->found && !stopper_is_over(stopper)) {
        (void)usleep(1000);
    }
    return stopper->found;
}

#endif
