/* A client that lies in its rings, rewrites what is being read, floods, stops reading: it is
 * counted and dropped, and another client's answers stay the same to the byte. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/check.h"
#include "tests/hostile/house.h"

static uint32_t *word(struct peer *p, size_t offset)
{
    return (uint32_t *)((uint8_t *)p->c2s.base + offset);
}

static void store(struct peer *p, size_t offset, uint32_t value)
{
    __atomic_store_n(word(p, offset), value, __ATOMIC_SEQ_CST);
    peer_ring(p);
}

static void assert_dropped_for_protocol(struct peer *p)
{
    uint32_t code;

    assert_true(peer_is_dropped(p, &code, 3000));
    assert_int_equal(code, INGLE_REJECT_PROTOCOL);
    peer_close(p);
}

/* ---- lies ------------------------------------------------------------------------------------ */

static void a_tail_that_is_too_far_ahead_ends_the_session(void **state)
{
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "liar");
    store(&p, offsetof(struct ingle_c2s_ctl, sq_tail), p.w.sq_n + 1);
    assert_dropped_for_protocol(&p);
}

static void a_tail_that_moves_back_ends_the_session(void **state)
{
    const struct ingle_sqe nop = {.op = INGLE_OP_NOP};
    struct ingle_cqe cqe;
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "liar");
    peer_submit(&p, &nop);
    assert_true(peer_completion(&p, &cqe, 2000));
    store(&p, offsetof(struct ingle_c2s_ctl, sq_tail), UINT32_MAX);
    assert_dropped_for_protocol(&p);
}

static void a_completion_head_beyond_the_tail_ends_the_session(void **state)
{
    const struct ingle_sqe nop = {.op = INGLE_OP_NOP};
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "liar");
    store(&p, offsetof(struct ingle_c2s_ctl, cq_head), 0x40000000);
    /* The runtime looks at the head when its known room is used up. */
    for (uint32_t i = 0; i < 3 * p.w.cq_n; i++) {
        if (ingle_sq_write(&p.sq, &nop) != 0) {
            break;
        }
        (void)ingle_sq_publish(&p.sq);
        peer_ring(&p);
        (void)usleep(500);
    }
    assert_dropped_for_protocol(&p);
}

static void a_token_head_beyond_the_tail_ends_the_session(void **state)
{
    struct ingle_sqe sqe;
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "liar");
    store(&p, offsetof(struct ingle_c2s_ctl, tk_head), 0x40000000);
    sqe = peer_generate(&p, 1, "x", 3000); /* more than the ring: the head has to be looked at */
    peer_submit(&p, &sqe);
    assert_dropped_for_protocol(&p);
}

static void a_payload_outside_of_the_arena_ends_the_session(void **state)
{
    static const struct {
        uint32_t off, bytes;
    } wrong[] = {{UINT32_MAX, 1}, {0, UINT32_MAX}, {4096, UINT32_MAX - 100}, {262144, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct ingle_sqe sqe = {.op = INGLE_OP_GENERATE,
                                .off = wrong[i].off,
                                .payload_bytes = wrong[i].bytes,
                                .max_tokens = 1};
        struct peer p;

        peer_open(&p, house.socket, "liar");
        assert_int_equal(p.w.arena_bytes, 262144);
        peer_submit(&p, &sqe);
        assert_dropped_for_protocol(&p);
    }
}

static void what_is_only_wrong_is_answered_and_the_session_goes_on(void **state)
{
    static const struct {
        struct ingle_sqe sqe;
        int32_t res;
    } cases[] = {
        {{.op = 200, .user_data = 1}, -ENOSYS},
        {{.op = INGLE_OP_NOP, .flags = 255, .user_data = 2}, -EINVAL},
        {{.op = INGLE_OP_NOP, .rsv = 1, .user_data = 3}, -EINVAL},
        {{.op = INGLE_OP_GENERATE, .user_data = 4}, -EINVAL}, /* nothing to generate from */
        {{.op = INGLE_OP_GENERATE, .payload_bytes = 8, .par_bytes = 3, .user_data = 5}, -EINVAL},
        {{.op = INGLE_OP_GENERATE, .payload_bytes = 8, .par_bytes = 72, .user_data = 6}, -EINVAL},
        {{.op = INGLE_OP_GENERATE, .payload_bytes = 8, .model = 9, .user_data = 7}, -ENODEV},
        {{.op = INGLE_OP_GENERATE, .payload_bytes = 8, .model = 999, .user_data = 8}, -ENODEV},
        {{.op = INGLE_OP_GENERATE, .payload_bytes = 8, .ctx = 12345, .user_data = 9}, -ENOENT},
        {{.op = INGLE_OP_FORK_CTX, .ctx = 1, .user_data = 10}, -ENOENT},
        {{.op = INGLE_OP_CLOSE_CTX, .ctx = UINT64_MAX, .user_data = 11}, -ENOENT},
        {{.op = INGLE_OP_CANCEL, .arg = 4711, .user_data = 12}, -ENOENT},
        {{.op = INGLE_OP_TEMPLATE, .flags = 2, .payload_bytes = 2, .user_data = 13}, -EOPNOTSUPP},
        {{.op = INGLE_OP_DETOKENIZE, .flags = 1, .payload_bytes = 3, .user_data = 14}, -EINVAL},
    };
    struct ingle_cqe cqe;
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "clumsy");
    memset((uint8_t *)p.c2s.base + p.w.arena_off, 'a', 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        peer_submit(&p, &cases[i].sqe);
        if (peer_finish(&p, cases[i].sqe.user_data, NULL, 0) != cases[i].res) {
            fail_msg("case %zu: not %d", i, cases[i].res);
        }
    }
    peer_submit(&p, &(struct ingle_sqe){.op = INGLE_OP_NOP, .user_data = 99});
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_true(cqe.user_data == 99 && cqe.res == 0);
    peer_close(&p);
}

static void invalid_utf8_is_refused_with_its_offset_and_ids_with_their_range(void **state)
{
    static const int32_t ids[] = {1, 2, 1024};
    static const char text[] = "good \xc3\xa4 bad \xc3(";
    struct ingle_sqe sqe = {.op = INGLE_OP_GENERATE, .user_data = 1, .max_tokens = 1};
    struct ingle_cqe cqe;
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "clumsy");
    sqe.off = peer_put(&p, text, sizeof text - 1);
    sqe.payload_bytes = sizeof text - 1;
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.res, -EILSEQ);
    assert_int_equal(cqe.n_cached, 12);
    sqe.flags = INGLE_PAYLOAD_IDS;
    sqe.off = peer_put(&p, ids, sizeof ids);
    sqe.payload_bytes = sizeof ids;
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.res, -EINVAL);
    peer_close(&p);
}

static void a_prompt_beyond_the_context_is_refused_with_both_numbers(void **state)
{
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    struct peer p;
    char *text = malloc(9001);

    (void)state;
    assert_non_null(text);
    memset(text, 'a', 9000);
    text[9000] = '\0';
    peer_open(&p, house.socket, "wordy");
    sqe = peer_generate(&p, 1, text, 1);
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.res, -E2BIG);
    assert_int_equal(cqe.flags, INGLE_CQE_F_FINAL);
    assert_int_equal(cqe.n_prompt, 9000);
    assert_int_equal(cqe.n_cached, 8192);
    peer_close(&p);
    free(text);
}

/* ---- storms ---------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Entries of random bytes, half of them made plausible so that they get further. */
static void entries_of_random_bytes_hurt_nobody(void **state)
{
    struct honest *honest = honest_start();
    uint64_t seed = 0x1234567;
    uint32_t n_dropped = 0;

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct peer p;
        uint32_t code;

        peer_open(&p, house.socket, "storm");
        for (int i = 0; i < 60; i++) {
            struct ingle_sqe sqe;

            for (size_t b = 0; b < sizeof sqe; b += 8) {
                uint64_t r = next_random(&seed);

                memcpy((uint8_t *)&sqe + b, &r, 8);
            }
            if (i % 2 == 0) {
                sqe.op %= INGLE_OP_END;
                sqe.flags &= INGLE_SQE_F_ALL;
                sqe.rsv = 0;
                sqe.off %= p.w.arena_bytes;
                sqe.payload_bytes %= 64;
                sqe.par_off = sqe.par_bytes = 0;
                sqe.ctx = 0;
                sqe.arg = 0;
                sqe.model = 0;
                sqe.max_tokens %= 100;
            }
            if (ingle_sq_write(&p.sq, &sqe) != 0) {
                break;
            }
        }
        (void)ingle_sq_publish(&p.sq);
        peer_ring(&p);
        n_dropped += peer_is_dropped(&p, &code, 100);
        peer_leave(&p);
    }
    assert_true(n_dropped > 0);
    honest_stop(honest);
    (void)house_settle();
}

struct mutator {
    struct peer *p;
    _Atomic bool stop;
};

/* Rewrites entries and arena while they are being read. */
static void *mutate(void *arg)
{
    struct mutator *m = arg;
    uint8_t *entries = (uint8_t *)m->p->c2s.base + m->p->w.sq_off;
    uint8_t *arena = (uint8_t *)m->p->c2s.base + m->p->w.arena_off;
    uint64_t seed = 99;

    while (!atomic_load_explicit(&m->stop, memory_order_relaxed)) {
        uint64_t r = next_random(&seed);

        __atomic_fetch_xor(&entries[r % (m->p->w.sq_n * 64)], (uint8_t)(1u << (r >> 32) % 8),
                           __ATOMIC_RELAXED);
        __atomic_fetch_xor(&arena[(r >> 16) % 4096], (uint8_t)(r >> 40), __ATOMIC_RELAXED);
    }
    return NULL;
}

static void a_client_that_rewrites_what_is_read_hurts_nobody(void **state)
{
    struct honest *honest = honest_start();
    uint64_t end = (uint64_t)time(NULL) + 4;
    uint32_t n_sessions = 0;

    (void)state;
    while ((uint64_t)time(NULL) < end || n_sessions < 3) {
        struct peer p;
        struct mutator m = {.p = &p};
        pthread_t thread;
        uint32_t code;

        n_sessions++;
        peer_open(&p, house.socket, "mutator");
        assert_int_equal(pthread_create(&thread, NULL, mutate, &m), 0);
        for (int i = 0; i < 2000; i++) {
            struct ingle_sqe sqe = peer_generate(&p, (uint64_t)i, "some words to read", 5);
            struct ingle_cqe cqe;
            struct ingle_tok tok;

            if (ingle_sq_write(&p.sq, &sqe) != 0) {
                (void)usleep(100);
            }
            (void)ingle_sq_publish(&p.sq);
            if (i % 16 == 0) {
                peer_ring(&p);
            }
            while (ingle_cq_read(&p.cq, &cqe) == 0) {
            }
            ingle_cq_release(&p.cq);
            while (ingle_tok_read(&p.tk, &tok, p.text) == 0) {
            }
            ingle_tok_release(&p.tk);
            if (i % 100 == 0 && peer_is_dropped(&p, &code, 0)) {
                break;
            }
        }
        atomic_store_explicit(&m.stop, true, memory_order_relaxed);
        (void)pthread_join(thread, NULL);
        peer_leave(&p);
    }
    honest_stop(honest);
    (void)house_settle();
}

static void a_client_that_floods_its_doorbell_is_counted_and_unheard(void **state)
{
    struct honest *honest = honest_start();
    struct house_state before, after;
    struct peer p;
    struct ingle_cqe cqe;
    time_t start;

    (void)state;
    peer_open(&p, house.socket, "ringer");
    before = house_look();
    start = time(NULL);
    do {
        for (int i = 0; i < 100000; i++) {
            peer_ring(&p);
        }
        after = house_look();
    } while (after.floods == before.floods && time(NULL) < start + 5);
    /* Counted, or on a machine so busy that io was not woken often enough to count it: then it has
     * not cost more than what is allowed either. */
    assert_true(after.floods > before.floods ||
                after.io_sleeps - before.io_sleeps <= 2000u * (uint64_t)(time(NULL) - start + 2));
    peer_submit(&p, &(struct ingle_sqe){.op = INGLE_OP_NOP, .user_data = 5});
    assert_true(peer_completion(&p, &cqe, 2000)); /* late, but heard */
    peer_close(&p);
    honest_stop(honest);
    after = house_settle();
}

/* The client shares the eventfd's file description: it can make it blocking and fill it. The
 * runtime never writes to it, so nothing happens. */
static void a_full_and_blocking_eventfd_does_not_stop_the_runtime(void **state)
{
    struct honest *honest = honest_start();
    uint64_t most = UINT64_MAX - 1;
    struct peer p;
    struct ingle_sqe sqe;

    (void)state;
    peer_open(&p, house.socket, "trapper");
    __atomic_store_n(word(&p, offsetof(struct ingle_c2s_ctl, need_wake)),
                     INGLE_WAKE_FUTEX | INGLE_WAKE_BELL, __ATOMIC_SEQ_CST);
    assert_int_equal(fcntl(p.doorbell, F_SETFL, fcntl(p.doorbell, F_GETFL) & ~O_NONBLOCK), 0);
    sqe = peer_generate(&p, 1, "trap", 500);
    assert_int_equal(ingle_sq_write(&p.sq, &sqe), 0);
    (void)ingle_sq_publish(&p.sq);
    assert_int_equal(write(p.doorbell, &most, sizeof most), sizeof most); /* rings, and is full */
    assert_int_equal(peer_finish(&p, 1, NULL, 0), 500);
    honest_stop(honest);
    peer_close(&p);
}

/* ---- consumers that do not consume ------------------------------------------------------------
 */

static void a_stopped_consumer_is_parked_and_goes_on_where_it_was(void **state)
{
    struct honest *honest = honest_start();
    int report[2];
    pid_t child;
    struct timespec ms300 = {0, 300000000};
    char answer = 'x';

    (void)state;
    assert_int_equal(pipe(report), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct peer p;
        struct ingle_sqe sqe;
        char *text = malloc(65536);

        peer_open(&p, house.socket, "sleeper");
        sqe = peer_generate(&p, 1, "the honest client's prompt", 2000);
        peer_submit(&p, &sqe);
        (void)raise(SIGSTOP);
        answer =
            peer_finish(&p, 1, text, 65536) == 2000 && strcmp(text, honest->solo) == 0 ? 'y' : 'n';
        (void)!write(report[1], &answer, 1);
        _exit(0);
    }
    (void)close(report[1]); /* a child that fails is an end of file */
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    for (int i = 0; i < 8; i++) { /* 2.4 s: the ring is full within the first millisecond */
        (void)nanosleep(&ms300, NULL);
        assert_true(house_look().running >= 1);
    }
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(read(report[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)close(report[0]);
    honest_stop(honest);
}

static void a_client_that_reads_no_completions_is_not_served_until_it_does(void **state)
{
    const struct ingle_sqe nop = {.op = INGLE_OP_NOP, .user_data = 1};
    struct ingle_cqe cqe;
    struct peer p;
    uint32_t n_sent = 0, n_read = 0;

    (void)state;
    peer_open(&p, house.socket, "hoarder");
    for (int i = 0; i < 2000 && n_sent < 2 * p.w.cq_n; i++) {
        if (ingle_sq_write(&p.sq, &nop) == 0) {
            n_sent++;
        }
        (void)ingle_sq_publish(&p.sq);
        peer_ring(&p);
        (void)usleep(200);
    }
    assert_true(n_sent >= p.w.cq_n); /* the submission ring is full behind a full CQ */
    while (n_read < n_sent && peer_completion(&p, &cqe, 2000)) {
        assert_int_equal(cqe.res, 0);
        n_read++;
    }
    assert_int_equal(n_read, n_sent);
    peer_close(&p);
}

/* ---- cancelling, twice-sent requests, room ----------------------------------------------------
 */

static void a_cancelled_request_has_one_final_and_so_has_the_cancel(void **state)
{
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    struct peer p;
    int32_t request = 1, cancel = 1, second = 1;
    uint32_t n_final = 0;

    (void)state;
    peer_open(&p, house.socket, "canceller");
    /* It fills the ring and parks there: certain to be alive. */
    sqe = peer_generate(&p, 10, "long", 5000);
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.flags, INGLE_CQE_F_ACCEPTED);
    (void)usleep(20000);
    assert_int_equal(ingle_sq_write(&p.sq, &(struct ingle_sqe){.op = INGLE_OP_CANCEL,
                                                               .user_data = 11,
                                                               .arg = 10}),
                     0);
    peer_submit(&p, &(struct ingle_sqe){.op = INGLE_OP_CANCEL, .user_data = 12, .arg = 10});
    while (n_final < 3 && peer_completion(&p, &cqe, 2000)) {
        assert_true((cqe.flags & INGLE_CQE_F_FINAL) != 0);
        n_final++;
        if (cqe.user_data == 10) {
            request = cqe.res;
            assert_int_equal(cancel, 1); /* the request's own word comes first */
        } else if (cqe.user_data == 11) {
            cancel = cqe.res;
        } else {
            second = cqe.res;
        }
    }
    assert_int_equal(n_final, 3);
    assert_int_equal(request, -ECANCELED);
    assert_int_equal(cancel, 0);
    assert_int_equal(second, -EALREADY);
    assert_false(peer_completion(&p, &cqe, 50));
    peer_close(&p);
}

static void a_repeated_idempotency_key_of_a_live_request_is_refused(void **state)
{
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "twice");
    sqe = peer_generate(&p, 1, "long", 5000);
    sqe.idem = 777;
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_int_equal(cqe.flags, INGLE_CQE_F_ACCEPTED);
    sqe.user_data = 2;
    peer_submit(&p, &sqe);
    assert_true(peer_completion(&p, &cqe, 2000));
    assert_true(cqe.user_data == 2);
    assert_int_equal(cqe.res, -EEXIST);
    assert_int_equal(peer_finish(&p, 1, NULL, 0), 5000);
    sqe.user_data = 3;
    peer_submit(&p, &sqe); /* the first is over: the key is free */
    assert_int_equal(peer_finish(&p, 3, NULL, 0), 5000);
    peer_close(&p);
}

static void more_requests_than_max_inflight_are_refused(void **state)
{
    struct ingle_sqe sqe;
    struct ingle_cqe cqe;
    struct peer p;
    uint32_t n_accepted = 0, n_busy = 0;

    (void)state;
    peer_open(&p, house.socket, "greedy");
    for (uint32_t i = 0; i < p.w.max_inflight + 3; i++) {
        sqe = peer_generate(&p, i, "long", 8000);
        peer_submit(&p, &sqe);
        assert_true(peer_completion(&p, &cqe, 2000));
        n_accepted += cqe.flags == INGLE_CQE_F_ACCEPTED;
        n_busy += cqe.res == -EBUSY;
    }
    assert_int_equal(n_accepted, p.w.max_inflight);
    assert_int_equal(n_busy, 3);
    peer_close(&p);
}

static void after_all_of_it_the_runtime_is_as_it_was(void **state)
{
    struct house_state after;

    (void)state;
    after = house_settle();
    assert_true(after.violations > house.calm.violations);
}

int main(int argc, char **argv)
{
    static const char *const args[] = {"--spin-us", "20", NULL};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tail_that_is_too_far_ahead_ends_the_session),
        cmocka_unit_test(a_tail_that_moves_back_ends_the_session),
        cmocka_unit_test(a_completion_head_beyond_the_tail_ends_the_session),
        cmocka_unit_test(a_token_head_beyond_the_tail_ends_the_session),
        cmocka_unit_test(a_payload_outside_of_the_arena_ends_the_session),
        cmocka_unit_test(what_is_only_wrong_is_answered_and_the_session_goes_on),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_offset_and_ids_with_their_range),
        cmocka_unit_test(a_prompt_beyond_the_context_is_refused_with_both_numbers),
        cmocka_unit_test(entries_of_random_bytes_hurt_nobody),
        cmocka_unit_test(a_client_that_rewrites_what_is_read_hurts_nobody),
        cmocka_unit_test(a_client_that_floods_its_doorbell_is_counted_and_unheard),
        cmocka_unit_test(a_full_and_blocking_eventfd_does_not_stop_the_runtime),
        cmocka_unit_test(a_stopped_consumer_is_parked_and_goes_on_where_it_was),
        cmocka_unit_test(a_client_that_reads_no_completions_is_not_served_until_it_does),
        cmocka_unit_test(a_cancelled_request_has_one_final_and_so_has_the_cancel),
        cmocka_unit_test(a_repeated_idempotency_key_of_a_live_request_is_refused),
        cmocka_unit_test(more_requests_than_max_inflight_are_refused),
        cmocka_unit_test(after_all_of_it_the_runtime_is_as_it_was),
    };

    house_prepare(argc, argv, args);
    return cmocka_run_group_tests(tests, house_open, house_close);
}
