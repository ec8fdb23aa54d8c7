/* Clients and runtimes that die: kill -9 at any moment, forked children that outlive their parent,
 * a socket that is lost and found, a runtime that is gone and comes back. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/hostile/house.h"

static uint64_t now_us(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* A client that uses everything: contexts kept, forked and exported, requests in flight, a full
 * token ring, messages on the socket. It never returns. */
static void live_dangerously(void)
{
    uint64_t ctx = 0;
    struct peer p;

    peer_open(&p, house.socket, "victim");
    for (uint64_t i = 1;; i++) {
        struct ingle_sqe sqe = peer_generate(&p, i, "a life that may end at any moment", 40);
        struct ingle_ctl_ctx export = {.h = {.magic = INGLE_MAGIC,
                                             .type = INGLE_CTL_CTX_EXPORT,
                                             .payload_bytes = sizeof export - sizeof export.h},
                                       .ctx = ctx,
                                       .rights = INGLE_CTX_RIGHT_FORK};
        struct ingle_cqe cqe;
        struct ingle_tok tok;

        sqe.flags = i % 3 == 0 ? INGLE_SQE_F_KEEP_CTX : 0;
        (void)ingle_sq_write(&p.sq, &sqe);
        if (ctx != 0 && i % 5 == 0) {
            sqe = (struct ingle_sqe){.op = i % 2 == 0 ? INGLE_OP_FORK_CTX : INGLE_OP_CLOSE_CTX,
                                     .user_data = i + 1000000,
                                     .ctx = ctx};
            (void)ingle_sq_write(&p.sq, &sqe);
        }
        if (i % 7 == 0) {
            sqe = (struct ingle_sqe){.op = INGLE_OP_CANCEL, .user_data = i + 2000000, .arg = i};
            (void)ingle_sq_write(&p.sq, &sqe);
        }
        if ((ingle_sq_publish(&p.sq) & INGLE_S2C_SQ_NEED_WAKEUP) != 0) {
            peer_ring(&p);
        }
        if (ctx != 0 && i % 11 == 0) {
            (void)send(p.sock, &export, sizeof export, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        while (recv(p.sock, &export, sizeof export, MSG_DONTWAIT) > 0) {
        }
        while (ingle_cq_read(&p.cq, &cqe) == 0) {
            ctx = (cqe.flags & INGLE_CQE_F_FINAL) != 0 && cqe.ctx != 0 ? cqe.ctx : ctx;
        }
        ingle_cq_release(&p.cq);
        while (ingle_tok_read(&p.tk, &tok, p.text) == 0) {
        }
        ingle_tok_release(&p.tk);
    }
}

static void clients_killed_at_any_moment_leave_nothing_behind(void **state)
{
    struct honest *honest = honest_start();
    struct house_state after;
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            live_dangerously();
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (void)usleep((useconds_t)(seed % 12000)); /* from before connect to well into the traffic */
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    honest_stop(honest);
    after = house_settle();
    assert_true(after.attached > house.calm.attached + 100);
    assert_true(after.violations == house.calm.violations); /* dying is no violation */
}

/* The socket alone would not tell: a child still holds it. */
static void a_parent_that_dies_is_noticed_although_its_child_holds_the_socket(void **state)
{
    int report[2];
    pid_t parent, child = 0;
    struct house_state now;
    uint64_t start_us;

    (void)state;
    assert_int_equal(pipe(report), 0);
    parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        struct peer p;

        peer_open(&p, house.socket, "parent");
        child = fork();
        if (child == 0) {
            (void)usleep(10 * 1000 * 1000);
            _exit(0);
        }
        (void)!write(report[1], &child, sizeof child);
        (void)pause();
    }
    (void)close(report[1]);
    assert_int_equal(read(report[0], &child, sizeof child), sizeof child);
    assert_int_equal(house_look().sessions, house.calm.sessions + 1);
    assert_int_equal(kill(parent, SIGKILL), 0);
    start_us = now_us();
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    do {
        now = house_look();
    } while (now.sessions > house.calm.sessions && now_us() - start_us < 2000000);
    assert_int_equal(now.sessions, house.calm.sessions);
    assert_int_equal(kill(child, 0), 0); /* it lives, and holds the socket */
    assert_int_equal(kill(child, SIGKILL), 0);
    (void)close(report[0]);
}

static void children_of_a_client_do_not_disturb_it(void **state)
{
    struct peer p;
    struct ingle_sqe sqe;
    char *a = malloc(65536), *b = malloc(65536);

    (void)state;
    assert_true(a != NULL && b != NULL);
    peer_open(&p, house.socket, "family");
    sqe = peer_generate(&p, 1, "family", 1000);
    peer_submit(&p, &sqe);
    assert_int_equal(peer_finish(&p, 1, a, 65536), 1000);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            _exit(0);
        }
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    sqe = peer_generate(&p, 2, "family", 1000);
    peer_submit(&p, &sqe);
    assert_int_equal(peer_finish(&p, 2, b, 65536), 1000);
    assert_string_equal(a, b);
    peer_close(&p);
    free(a);
    free(b);
}

/* ---- the socket is lost and found -------------------------------------------------------------
 */

/* Connect again with the resume token; true when the same session answers. */
static bool come_back(struct peer *p, const uint8_t resume[32], uint64_t epoch)
{
    struct ingle_ctl_hello hello = peer_hello("comeback");
    struct ingle_ctl_welcome w;
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    struct ingle_ctl_hdr live;
    int fds[3] = {-1, -1, -1};

    memcpy(hello.resume, resume, sizeof hello.resume);
    hello.last_epoch = epoch;
    p->sock = peer_connect(house.socket);
    peer_send(p->sock, &hello, sizeof hello);
    assert_int_equal(peer_receive(p->sock, &w, sizeof w, fds), sizeof w);
    (void)close(fds[0]);
    (void)close(fds[1]);
    (void)close(p->doorbell);
    p->doorbell = fds[2];
    ready.nonce = w.nonce;
    peer_send(p->sock, &ready, sizeof ready);
    assert_int_equal(peer_receive(p->sock, &live, sizeof live, NULL), sizeof live);
    assert_int_equal(live.type, INGLE_CTL_LIVE);
    return w.client_id == p->w.client_id;
}

static void a_lost_socket_is_found_again_and_the_answer_goes_on(void **state)
{
    struct peer p;
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    char *text = malloc(65536);
    uint32_t client;

    (void)state;
    assert_non_null(text);
    peer_open(&p, house.socket, "comeback");
    client = p.w.client_id;
    sqe = peer_generate(&p, 1, "goes on", 4000); /* more than the ring: it parks */
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    (void)close(p.sock);
    (void)usleep(200000);
    assert_true(come_back(&p, p.w.resume, p.w.h.epoch));
    assert_int_equal(p.w.client_id, client);
    assert_int_equal(peer_finish(&p, 1, text, 65536), 4000);
    peer_submit(&p, &(struct ingle_sqe){.op = INGLE_OP_NOP, .user_data = 2});
    assert_int_equal(peer_finish(&p, 2, NULL, 0), 0);
    peer_close(&p);
    free(text);
}

static void a_wrong_resume_token_or_another_process_gets_a_new_session(void **state)
{
    struct peer p, q;
    uint8_t token[32];
    int status;
    pid_t child;

    (void)state;
    peer_open(&p, house.socket, "owner");
    memcpy(token, p.w.resume, sizeof token);
    (void)close(p.sock);
    (void)usleep(50000);
    child = fork(); /* knows the token, but is another process */
    if (child == 0) {
        q = p;
        q.doorbell = dup(p.doorbell);
        _exit(come_back(&q, token, p.w.h.epoch) ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    q = p;
    q.doorbell = dup(p.doorbell);
    token[31] ^= 1;
    assert_false(come_back(&q, token, p.w.h.epoch));
    (void)close(q.sock);
    (void)close(q.doorbell);
    q.doorbell = dup(p.doorbell);
    assert_false(come_back(&q, p.w.resume, p.w.h.epoch + 1)); /* of another run */
    (void)close(q.sock);
    (void)close(q.doorbell);
    p.sock = -1;
    peer_close(&p);
}

static void lost_sessions_end_after_their_time_of_grace(void **state)
{
    (void)state;
    (void)house_settle(); /* waits for up to 10 s */
}

/* ---- the runtime dies -------------------------------------------------------------------------
 */

static void a_killed_runtime_is_seen_at_once_and_its_socket_is_no_obstacle(void **state)
{
    struct peer p;
    struct pollfd gone;
    struct ingle_sqe sqe;
    char *before = malloc(65536), *again = malloc(65536);
    uint64_t epoch, start_us;

    (void)state;
    assert_true(before != NULL && again != NULL);
    peer_open(&p, house.socket, "survivor");
    epoch = p.w.h.epoch;
    sqe = peer_generate(&p, 1, "bit for bit", 1500);
    peer_submit(&p, &sqe);
    assert_int_equal(peer_finish(&p, 1, before, 65536), 1500);

    start_us = now_us();
    assert_int_equal(kill(house.pid, SIGKILL), 0);
    gone = (struct pollfd){.fd = p.sock, .events = POLLIN};
    assert_int_equal(poll(&gone, 1, 1000), 1);
    assert_true(now_us() - start_us < 200000);
    assert_int_equal(waitpid(house.pid, NULL, 0), house.pid);
    peer_close(&p);

    assert_int_equal(access(house.socket, F_OK), 0); /* left over */
    house_start();
    peer_open(&p, house.socket, "survivor");
    assert_true(p.w.h.epoch != epoch);
    sqe = peer_generate(&p, 1, "bit for bit", 1500);
    sqe.resume_idx = 700; /* it has these */
    peer_submit(&p, &sqe);
    assert_int_equal(peer_finish(&p, 1, again, 65536), 1500);
    assert_true(strlen(again) < strlen(before));
    assert_string_equal(before + strlen(before) - strlen(again), again);
    peer_close(&p);
    free(before);
    free(again);
}

static void an_orderly_end_answers_what_is_in_flight_and_takes_the_socket_away(void **state)
{
    struct peer p;
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    const INGLE_ATOMIC_U32 *flags;

    (void)state;
    peer_open(&p, house.socket, "guest");
    sqe = peer_generate(&p, 1, "never ends", 8000); /* parks on the full ring */
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.flags, INGLE_CQE_F_ACCEPTED);
    assert_int_equal(house_stop(), 0);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.res, -ESHUTDOWN);
    assert_true((cqe.flags & INGLE_CQE_F_FINAL) != 0);
    flags = (const INGLE_ATOMIC_U32 *)((const uint8_t *)p.s2c.base +
                                       offsetof(struct ingle_s2c_ctl, flags));
    assert_true((atomic_load_explicit(flags, memory_order_acquire) & INGLE_S2C_DRAINING) != 0);
    peer_close(&p);
    assert_int_equal(access(house.socket, F_OK), -1);
    house_start();
    (void)house_look();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_killed_at_any_moment_leave_nothing_behind),
        cmocka_unit_test(a_parent_that_dies_is_noticed_although_its_child_holds_the_socket),
        cmocka_unit_test(children_of_a_client_do_not_disturb_it),
        cmocka_unit_test(a_lost_socket_is_found_again_and_the_answer_goes_on),
        cmocka_unit_test(a_wrong_resume_token_or_another_process_gets_a_new_session),
        cmocka_unit_test(lost_sessions_end_after_their_time_of_grace),
        cmocka_unit_test(a_killed_runtime_is_seen_at_once_and_its_socket_is_no_obstacle),
        cmocka_unit_test(an_orderly_end_answers_what_is_in_flight_and_takes_the_socket_away),
    };

    house_prepare(argc, argv, NULL);
    return cmocka_run_group_tests(tests, house_open, house_close);
}
