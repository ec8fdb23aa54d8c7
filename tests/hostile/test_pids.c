/* A pid that is used again: another process gets the number of a dead client, and neither keeps its
 * session alive nor inherits it. Runs where it may choose pids (own_pids.py). The runtime is
 * stopped while the number changes hands, so that it never sees it free. */
#include <errno.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/hostile/house.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* What the processes of a test tell each other. */
static struct {
    _Atomic pid_t holder;       /* of the dead client's socket */
    _Atomic uint32_t client_id; /* of the first owner of the pid, then of the second */
    uint64_t epoch;
    uint8_t resume[32];
    _Atomic int verdict;
} * shared;

static int set_up(void **state)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return house_open(state);
}

/* fork(), where the child gets this pid; -1 with errno as clone3 has it. */
static pid_t fork_as(pid_t pid)
{
    struct clone_args args = {.exit_signal = SIGCHLD,
                              .set_tid = (uint64_t)(uintptr_t)&pid,
                              .set_tid_size = 1};

    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/* Kill the client and have another process of its pid, which runs `second`; the runtime sees
 * nothing of it before the second owner has had a moment for its first words. A connection that
 * came before has the runtime accept, the second owner's as well, before it looks at pidfds. */
static void hand_over(pid_t pid, void (*second)(void))
{
    pid_t again;
    int early;

    assert_int_equal(kill(house.pid, SIGSTOP), 0);
    early = peer_connect(house.socket);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    again = fork_as(pid);
    if (again == 0) {
        (void)close(early);
        second();
        _exit(0);
    }
    assert_int_equal(again, pid);
    (void)usleep(100000);
    assert_int_equal(kill(house.pid, SIGCONT), 0);
    (void)close(early);
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, 0), 0); /* it was there all the time */
    assert_int_equal(kill(pid, SIGKILL), 0);
    (void)waitpid(pid, NULL, 0);
}

/* ---- the first owner is attached ------------------------------------------------------------- */

static void be_a_parent(void)
{
    struct peer p;
    pid_t child;

    peer_open(&p, house.socket, "parent");
    child = fork();
    if (child > 0) {
        shared->holder = child;
    }
    (void)pause();
}

static void be_a_stranger(void)
{
    (void)pause();
}

/* Neither the end of the socket tells, since a child still holds it, nor does the number. */
static void a_dead_client_is_noticed_although_its_pid_lives_again(void **state)
{
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        be_a_parent();
    }
    for (int i = 0; i < 200 && shared->holder == 0; i++) {
        (void)usleep(10000);
    }
    assert_int_not_equal(shared->holder, 0);
    assert_int_equal(house_look().sessions, house.calm.sessions + 1);
    hand_over(pid, be_a_stranger);
    (void)house_settle();
    assert_true(house_logged("its process is gone"));
    end(shared->holder);
    end(pid);
}

/* ---- the first owner has lost its socket ----------------------------------------------------- */

static void lose_the_socket(void)
{
    struct peer p;

    peer_open(&p, house.socket, "first");
    memcpy(shared->resume, p.w.resume, sizeof shared->resume);
    shared->epoch = p.w.h.epoch;
    (void)close(p.sock);
    shared->client_id = p.w.client_id;
    (void)pause();
}

static void ask_for_the_session(void)
{
    struct ingle_ctl_hello hello = peer_hello("second");
    struct ingle_cqe cqe;
    struct peer p;
    uint32_t code;

    memcpy(hello.resume, shared->resume, sizeof hello.resume);
    hello.last_epoch = shared->epoch;
    if (!peer_attach(&p, house.socket, &hello, &code)) {
        shared->verdict = -1;
        return;
    }
    peer_submit(&p, &(struct ingle_sqe){.op = INGLE_OP_NOP, .user_data = 1});
    shared->client_id = p.w.client_id;
    shared->verdict = peer_completion(&p, &cqe, 2000) && cqe.res == 0 ? 1 : -2;
    (void)pause();
}

/* It has the pid and even the token, and gets a session of its own. */
static void a_lost_session_is_not_for_the_next_process_of_its_pid(void **state)
{
    uint32_t first;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        lose_the_socket();
    }
    for (int i = 0; i < 200 && shared->client_id == 0; i++) {
        (void)usleep(10000);
    }
    first = shared->client_id;
    assert_int_not_equal(first, 0);
    assert_int_equal(house_look().sessions, house.calm.sessions + 1); /* lost, but kept */
    hand_over(pid, ask_for_the_session);
    for (int i = 0; i < 500 && shared->verdict == 0; i++) {
        (void)usleep(10000);
    }
    assert_int_equal(shared->verdict, 1);
    assert_int_not_equal(shared->client_id, first);
    end(pid);
    (void)house_settle();
}

/* ---- the first owner has only connected ------------------------------------------------------ */

static int half_open;

static void connect_only(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", house.socket);
    shared->verdict = connect(half_open, (struct sockaddr *)&address, sizeof address) == 0 ? 1 : -1;
    (void)pause();
}

/* The handshake of a process that is what SO_PEERCRED says, but for being that process. */
static void shake_hands(void)
{
    struct ingle_ctl_hello hello = peer_hello("second");
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    struct ingle_ctl_welcome w;
    struct ingle_ctl_hdr h = {0};
    int fds[3];
    ssize_t n;

    peer_send(half_open, &hello, sizeof hello);
    n = peer_receive(half_open, msg, sizeof msg, fds);
    if (n == (ssize_t)sizeof w) {
        memcpy(&w, msg, sizeof w);
        ready.nonce = w.nonce;
        (void)send(half_open, &ready, sizeof ready, MSG_NOSIGNAL);
        n = peer_receive(half_open, msg, sizeof msg, NULL);
    }
    if (n >= (ssize_t)sizeof h) {
        memcpy(&h, msg, sizeof h);
    }
    shared->verdict = n == -ETIMEDOUT ? -3 : h.type == INGLE_CTL_LIVE ? -2 : 2;
    (void)pause();
}

static void a_connection_is_not_for_the_next_process_of_its_pid(void **state)
{
    socklen_t bytes = sizeof(int);
    int pidfd;
    pid_t pid;

    (void)state;
    shared->verdict = 0;
    half_open = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_true(half_open >= 0);
    pid = fork();
    if (pid == 0) {
        connect_only();
    }
    for (int i = 0; i < 200 && shared->verdict == 0; i++) {
        (void)usleep(10000);
    }
    assert_int_equal(shared->verdict, 1);
    if (getsockopt(half_open, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) != 0) {
        assert_int_equal(errno, ENOPROTOOPT); /* a kernel that cannot tell */
        end(pid);
        (void)close(half_open);
        skip();
    }
    (void)close(pidfd);
    shared->verdict = 0;
    hand_over(pid, shake_hands);
    for (int i = 0; i < 500 && shared->verdict == 0; i++) {
        (void)usleep(10000);
    }
    assert_int_equal(shared->verdict, 2);
    end(pid);
    (void)close(half_open);
    (void)house_settle();
}

static bool pids_can_be_chosen(void)
{
    pid_t pid = fork(), again;

    if (pid == 0) {
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
    again = fork_as(pid);
    if (again == 0) {
        _exit(0);
    }
    if (again < 0) {
        (void)printf("skipped: clone3 with a chosen pid: %s\n", strerror(errno));
        return false;
    }
    (void)waitpid(again, NULL, 0);
    return true;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_client_is_noticed_although_its_pid_lives_again),
        cmocka_unit_test(a_lost_session_is_not_for_the_next_process_of_its_pid),
        cmocka_unit_test(a_connection_is_not_for_the_next_process_of_its_pid),
    };

    if (!pids_can_be_chosen()) {
        return 77;
    }
    house_prepare(argc, argv, NULL);
    return cmocka_run_group_tests(tests, set_up, house_close);
}
