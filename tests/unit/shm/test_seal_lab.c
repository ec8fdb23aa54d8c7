/* The kernel's behaviour on which the design of the shared regions rests, row by row
 * (docs/PROTOCOL.md), and shm/region.c, which puts it to use. If one of these fails on some kernel,
 * the protection that it stands for is not there. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/region.h"
#include "shm/wake.h"
#include "tests/unit/shm/rig.h"

#define BYTES 8192u

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&ts, NULL);
}

static int n_open_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

/* ---- regions --------------------------------------------------------------------------------- */

static void owner_writes_and_the_client_sees_it_through_the_seals(void **state)
{
    struct ingle_region owner, client;

    (void)state;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(ingle_region_join(&client, INGLE_REGION_S2C, owner.fd, BYTES), 0);
    rig_poke(owner.base, 100, 42);
    assert_int_equal(rig_peek(client.base, 100), 42);
    ingle_region_fini(&client);
    ingle_region_fini(&owner);

    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_C2S, BYTES), 0);
    assert_int_equal(ingle_region_join(&client, INGLE_REGION_C2S, owner.fd, BYTES), 0);
    rig_poke(client.base, 100, 43);
    assert_int_equal(rig_peek(owner.base, 100), 43);
    ingle_region_fini(&client);
    ingle_region_fini(&owner);
    ingle_region_fini(&owner); /* twice, and NULL */
    ingle_region_fini(NULL);
}

static void client_finds_no_way_to_write_what_the_runtime_owns(void **state)
{
    struct ingle_region owner, client;
    char path[64];
    int again;

    (void)state;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(ingle_region_join(&client, INGLE_REGION_S2C, owner.fd, BYTES), 0);
    assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, owner.fd, 0),
                     MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_equal(mprotect(client.base, BYTES, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(errno, EACCES);
    assert_int_equal(write(owner.fd, "x", 1), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(owner.fd, BYTES / 2), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(owner.fd, BYTES * 2), -1);
    assert_int_equal(errno, EPERM);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", owner.fd);
    again = open(path, O_RDWR | O_CLOEXEC);
    assert_true(again >= 0);
    assert_ptr_equal(mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fcntl(owner.fd, F_ADD_SEALS, F_SEAL_WRITE), -1); /* SEAL_SEAL holds */
    assert_int_equal(errno, EPERM);
    (void)close(again);
    ingle_region_fini(&client);
    ingle_region_fini(&owner);
}

static void client_cannot_change_the_size_of_what_it_may_write(void **state)
{
    struct ingle_region owner;

    (void)state;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_C2S, BYTES), 0);
    assert_int_equal(ftruncate(owner.fd, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(owner.fd, BYTES * 2), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(fallocate(owner.fd, 0, 0, BYTES * 2), -1);
    assert_int_equal(errno, EPERM);
    /* the runtime's own view is read-only in fact, not by promise */
    assert_int_equal(mprotect(owner.base, BYTES, PROT_READ), 0);
    ingle_region_fini(&owner);
}

static void memory_of_a_write_sealed_region_comes_back_only_whole(void **state)
{
    struct ingle_region owner;

    (void)state;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(fallocate(owner.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(madvise(owner.base, 4096, MADV_REMOVE), -1);
    assert_int_equal(errno, EPERM);
    ingle_region_fini(&owner);
}

static void region_that_lacks_a_seal_or_has_another_size_is_not_joined(void **state)
{
    const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE;
    const int lacks[] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_FUTURE_WRITE};
    struct ingle_region r = INGLE_REGION_NONE, owner;
    int pipe_fds[2];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        int fd = memfd_create("lab", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_int_equal(ftruncate(fd, BYTES), 0);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, all & ~lacks[i]), 0);
        assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, fd, BYTES), -EPROTO);
        assert_int_equal(ingle_region_join(&r, INGLE_REGION_C2S, fd, BYTES),
                         lacks[i] == F_SEAL_FUTURE_WRITE ? 0 : -EPROTO);
        ingle_region_fini(&r);
        (void)close(fd);
    }
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, owner.fd, BYTES + 1), -EPROTO);
    assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, owner.fd, BYTES - 4096), -EPROTO);
    assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, owner.fd, 0), -EPROTO);
    assert_int_equal(pipe(pipe_fds), 0);
    assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, pipe_fds[0], BYTES), -EPROTO);
    assert_int_equal(ingle_region_join(&r, INGLE_REGION_S2C, -1, BYTES), -EPROTO);
    assert_null(r.base);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    ingle_region_fini(&owner);
}

static void impossible_sizes_are_an_error_and_leak_nothing(void **state)
{
    struct ingle_region r = INGLE_REGION_NONE;
    int before = n_open_fds();

    (void)state;
    assert_int_equal(ingle_region_create(&r, INGLE_REGION_C2S, 0), -EINVAL);
    assert_int_equal(ingle_region_create(&r, INGLE_REGION_C2S, UINT64_MAX), -EINVAL);
    assert_null(r.base);
    assert_int_equal(n_open_fds(), before);
}

static void write_seal_is_impossible_while_a_writable_map_exists(void **state)
{
    int fd = memfd_create("lab", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *p;

    (void)state;
    assert_int_equal(ftruncate(fd, BYTES), 0);
    p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(errno, EBUSY);
    (void)munmap(p, BYTES);
    (void)close(fd);
}

static void read_only_descriptor_is_no_protection_within_one_uid(void **state)
{
    int fd = memfd_create("lab", MFD_CLOEXEC);
    char path[64];
    int read_only, again;
    void *p;

    (void)state;
    assert_int_equal(ftruncate(fd, BYTES), 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    read_only = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(read_only >= 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", read_only);
    again = open(path, O_RDWR | O_CLOEXEC);
    assert_true(again >= 0);
    p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    (void)munmap(p, BYTES);
    (void)close(again);
    (void)close(read_only);
    (void)close(fd);
}

/* ---- what happens without the seals ---------------------------------------------------------- */

static void unsealed_region_truncated_by_its_peer_kills_the_reader(void **state)
{
    int status;
    pid_t pid;

    (void)state;
    pid = fork();
    if (pid == 0) {
        int fd = memfd_create("lab", MFD_CLOEXEC);
        const uint8_t *p;

        (void)signal(SIGBUS, SIG_DFL);
        if (ftruncate(fd, BYTES) != 0) {
            _exit(1);
        }
        p = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
        if (ftruncate(fd, 0) != 0) {
            _exit(1);
        }
        _exit((int)rig_peek(p, 0) + 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    /* under a sanitizer the signal ends in its own exit code */
    assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS) ||
                (WIFEXITED(status) && WEXITSTATUS(status) > 2));
}

/* ---- bells ----------------------------------------------------------------------------------- */

static void eventfd_that_a_client_holds_can_freeze_its_writer(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const uint64_t almost = UINT64_MAX - 1;
    pid_t pid;

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0); /* the client's side of one file description */
    assert_int_equal(write(fd, &almost, sizeof almost), sizeof almost);
    pid = fork();
    if (pid == 0) {
        const uint64_t one = 1;

        _exit(write(fd, &one, sizeof one) == sizeof one);
    }
    sleep_ms(50);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* still in write(2) */
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(fd);
}

static void bells_to_a_sleeping_client_never_block_and_never_fail(void **state)
{
    int pair[2];
    int n = 0;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    while (send(pair[0], "bell bell", 8, MSG_DONTWAIT | MSG_NOSIGNAL) == 8) {
        assert_true(++n < 100000);
    }
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(ingle_wake_bell(pair[0], INGLE_WAKE_BELL), 0);
    (void)close(pair[1]);
    assert_int_equal(ingle_wake_bell(pair[0], INGLE_WAKE_BELL), -ECONNRESET); /* bells unread */
    assert_int_equal(ingle_wake_bell(pair[0], INGLE_WAKE_BELL), -EPIPE);
    (void)close(pair[0]);
}

static void edge_triggered_eventfd_that_nobody_reads_wakes_each_time(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), ep = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    const uint64_t one = 1;

    (void)state;
    assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(write(fd, &one, sizeof one), sizeof one);
        assert_int_equal(epoll_wait(ep, &e, 1, 1000), 1);
        assert_int_equal(epoll_wait(ep, &e, 1, 0), 0);
    }
    (void)close(ep);
    (void)close(fd);
}

struct sleeper {
    const INGLE_ATOMIC_U32 *word;
    uint32_t seen;
    int res;
};

static void *sleep_on(void *arg)
{
    struct sleeper *s = arg;

    s->res = ingle_wake_wait(s->word, s->seen, 5000000000u);
    return NULL;
}

static void futex_of_a_read_only_view_sleeps_and_wakes(void **state)
{
    struct ingle_region owner, client;
    INGLE_ATOMIC_U32 *ours;
    struct sleeper s;
    pthread_t thread;

    (void)state;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(ingle_region_join(&client, INGLE_REGION_S2C, owner.fd, BYTES), 0);
    ours = (INGLE_ATOMIC_U32 *)((uint8_t *)owner.base + S2C_OFF(wake_seq));
    s.word = (const INGLE_ATOMIC_U32 *)((const uint8_t *)client.base + S2C_OFF(wake_seq));
    s.seen = ingle_wake_seq(s.word);
    assert_int_equal(ingle_wake_wait(s.word, s.seen, 1000000), -ETIMEDOUT);
    assert_int_equal(ingle_wake_wait(s.word, s.seen + 1, UINT64_MAX), 0); /* it has changed */
    assert_int_equal(pthread_create(&thread, NULL, sleep_on, &s), 0);
    sleep_ms(20);
    ingle_wake_all(ours);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.res, 0);
    assert_int_equal(ingle_wake_seq(s.word), s.seen + 1);
    ingle_region_fini(&client);
    ingle_region_fini(&owner);
}

/* ---- death and birth ------------------------------------------------------------------------- */

static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, timeout_ms) == 1;
}

static void killed_client_shows_on_its_socket_and_its_pidfd(void **state)
{
    int pair[2], pidfd;
    char c;
    pid_t pid;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        (void)pause();
        _exit(0);
    }
    (void)close(pair[1]);
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(pidfd >= 0);
    assert_false(readable(pidfd, 0));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(readable(pidfd, 1000));
    assert_true(readable(pair[0], 1000));
    assert_int_equal(recv(pair[0], &c, 1, 0), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(pidfd);
    (void)close(pair[0]);
}

static void forked_child_hides_its_parents_death_from_the_socket_only(void **state)
{
    int pair[2], hold[2], pidfd;
    char c;
    pid_t pid;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe(hold), 0); /* the grandchild lives until this closes */
    pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        (void)close(hold[1]);
        if (fork() == 0) {
            (void)!read(hold[0], &c, 1);
            _exit(0);
        }
        (void)pause();
        _exit(0);
    }
    (void)close(pair[1]);
    (void)close(hold[0]);
    sleep_ms(20);
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(readable(pidfd, 1000));
    assert_false(readable(pair[0], 50));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(hold[1]);
    assert_true(readable(pair[0], 1000));
    (void)close(pidfd);
    (void)close(pair[0]);
}

static void region_is_not_mapped_in_a_child_and_a_guard_page_is_wiped_there(void **state)
{
    struct ingle_region owner;
    uint32_t *guard = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t pid;

    (void)state;
    assert_ptr_not_equal(guard, MAP_FAILED);
    assert_int_equal(madvise(guard, 4096, MADV_WIPEONFORK), 0);
    *guard = 1;
    assert_int_equal(ingle_region_create(&owner, INGLE_REGION_S2C, BYTES), 0);
    assert_int_equal(madvise(owner.base, 4096, MADV_WIPEONFORK), -1);
    assert_int_equal(errno, EINVAL);
    pid = fork();
    if (pid == 0) {
        unsigned char in_core;
        bool gone = mincore(owner.base, 4096, &in_core) != 0 && errno == ENOMEM;

        _exit((gone ? 0 : 1) | (*guard == 0 ? 0 : 2));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(*guard, 1);
    (void)munmap(guard, 4096);
    ingle_region_fini(&owner);
}

static void lock_in_shared_memory_is_lost_with_its_owner(void **state)
{
    pthread_mutex_t *lock =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attr;
    pid_t pid;

    (void)state;
    assert_ptr_not_equal(lock, MAP_FAILED);
    (void)pthread_mutexattr_init(&attr);
    (void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    assert_int_equal(pthread_mutex_init(lock, &attr), 0);
    pid = fork();
    if (pid == 0) {
        _exit(pthread_mutex_lock(lock)); /* and dies with it: why there are no locks here */
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(pthread_mutex_lock(lock), EOWNERDEAD);
    (void)munmap(lock, 4096);
}

/* ---- descriptors and credentials ------------------------------------------------------------- */

static void descriptors_that_nobody_asked_for_are_not_installed(void **state)
{
    int pair[2], before;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    char text[8] = "8 fds";
    struct iovec part = {.iov_base = text, .iov_len = sizeof text};
    struct msghdr out = {.msg_iov = &part,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    struct msghdr in = {.msg_iov = &part, .msg_iovlen = 1};
    struct cmsghdr *h;

    (void)state;
    memset(&control, 0, sizeof control);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    h = CMSG_FIRSTHDR(&out);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(8 * sizeof(int));
    for (size_t i = 0; i < 8; i++) {
        memcpy(CMSG_DATA(h) + i * sizeof(int), &pair[0], sizeof(int));
    }
    assert_int_equal(sendmsg(pair[0], &out, 0), sizeof text);
    before = n_open_fds();
    assert_int_equal(recvmsg(pair[1], &in, 0), sizeof text);
    assert_true((in.msg_flags & MSG_CTRUNC) != 0);
    assert_int_equal(n_open_fds(), before);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

static void kernel_states_who_sent_a_datagram(void **state)
{
    int pair[2], on = 1;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    char text[1] = {'x'};
    struct iovec part = {.iov_base = text, .iov_len = 1};
    struct msghdr in = {.msg_iov = &part,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof control.bytes};
    struct ucred who;
    pid_t pid;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on), 0);
    pid = fork();
    if (pid == 0) {
        _exit(send(pair[0], "x", 1, 0) != 1);
    }
    assert_int_equal(recvmsg(pair[1], &in, 0), 1);
    assert_non_null(CMSG_FIRSTHDR(&in));
    memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&in)), sizeof who);
    assert_int_equal(who.pid, pid); /* the sender, not the one that made the socket */
    assert_int_equal(who.uid, getuid());
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(owner_writes_and_the_client_sees_it_through_the_seals),
        cmocka_unit_test(client_finds_no_way_to_write_what_the_runtime_owns),
        cmocka_unit_test(client_cannot_change_the_size_of_what_it_may_write),
        cmocka_unit_test(memory_of_a_write_sealed_region_comes_back_only_whole),
        cmocka_unit_test(region_that_lacks_a_seal_or_has_another_size_is_not_joined),
        cmocka_unit_test(impossible_sizes_are_an_error_and_leak_nothing),
        cmocka_unit_test(write_seal_is_impossible_while_a_writable_map_exists),
        cmocka_unit_test(read_only_descriptor_is_no_protection_within_one_uid),
        cmocka_unit_test(unsealed_region_truncated_by_its_peer_kills_the_reader),
        cmocka_unit_test(eventfd_that_a_client_holds_can_freeze_its_writer),
        cmocka_unit_test(bells_to_a_sleeping_client_never_block_and_never_fail),
        cmocka_unit_test(edge_triggered_eventfd_that_nobody_reads_wakes_each_time),
        cmocka_unit_test(futex_of_a_read_only_view_sleeps_and_wakes),
        cmocka_unit_test(killed_client_shows_on_its_socket_and_its_pidfd),
        cmocka_unit_test(forked_child_hides_its_parents_death_from_the_socket_only),
        cmocka_unit_test(region_is_not_mapped_in_a_child_and_a_guard_page_is_wiped_there),
        cmocka_unit_test(lock_in_shared_memory_is_lost_with_its_owner),
        cmocka_unit_test(descriptors_that_nobody_asked_for_are_not_installed),
        cmocka_unit_test(kernel_states_who_sent_a_datagram),
    };

    return cmocka_run_group_tests_name("shm/seal_lab", tests, NULL, NULL);
}
