/* shm/ring.c against a sequential queue, against lies, and with both ends as threads.
 * One address space, so that TSan and ASan see both sides; two processes are tests/system's. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/shm/rig.h"

#define FIRST 0xFFFFFFF0u /* every index wraps in the first moments of a test */

static struct rig rig;

static int setup(void **state)
{
    rig_init(&rig, FIRST);
    *state = &rig;
    return 0;
}

/* Text of record i: its length and every byte follow from i. */
static uint16_t text_of(uint64_t i, uint8_t *ret)
{
    uint64_t seed = i;
    uint16_t bytes = (uint16_t)(rig_random(&seed) % 97);

    for (uint16_t k = 0; k < bytes; k++) {
        ret[k] = (uint8_t)(i * 31 + k);
    }
    return bytes;
}

static struct ingle_sqe sqe_of(uint64_t i)
{
    return (struct ingle_sqe){.op = (uint8_t)i,
                              .user_data = i,
                              .ctx = i * 3,
                              .arg = ~i,
                              .off = (uint32_t)i,
                              .idem = i << 7,
                              .resume_idx = (uint32_t)(i >> 3)};
}

static struct ingle_cqe cqe_of(uint64_t i)
{
    return (struct ingle_cqe){.user_data = i, .res = -(int32_t)(i & 0xffff), .ctx = i * 5};
}

static struct ingle_tok tok_of(uint64_t i)
{
    return (struct ingle_tok){.user_data = i, .token = (uint32_t)(i * 7), .index = (uint32_t)i};
}

/* ---- against a sequential queue -------------------------------------------------------------- */

/* The model of a ring is two counts: pushed (written), shown (published), and what has been read is
 * a prefix of what was shown, in order. Entry number i is a function of i. */
struct model {
    uint64_t written, shown, read, released;
};

static void sq_follows_a_queue(void **state)
{
    struct rig *g = *state;
    struct model m = {0};
    uint64_t seed = 1;

    for (int step = 0; step < 1000000; step++) {
        struct ingle_sqe got, want;
        int res;

        switch (rig_random(&seed) % 5) {
        case 0:
        case 1:
            want = sqe_of(m.written);
            res = ingle_sq_write(&g->sq_writer, &want);
            if (res == INGLE_RING_FULL) {
                assert_int_equal(m.written - m.released, RIG_SQ_N);
            } else {
                assert_int_equal(res, 0);
                m.written++;
            }
            break;
        case 2:
            (void)ingle_sq_publish(&g->sq_writer);
            m.shown = m.written;
            break;
        case 3:
            res = ingle_sq_read(&g->sq_reader, &got);
            if (res == INGLE_RING_EMPTY) {
                assert_int_equal(m.read, m.shown);
            } else {
                assert_int_equal(res, 0);
                want = sqe_of(m.read);
                assert_memory_equal(&got, &want, sizeof got);
                m.read++;
            }
            break;
        default:
            ingle_sq_release(&g->sq_reader);
            m.released = m.read;
        }
    }
    assert_true(m.read > 100000);
}

static void cq_follows_a_queue(void **state)
{
    struct rig *g = *state;
    struct model m = {0};
    uint64_t seed = 2;

    for (int step = 0; step < 1000000; step++) {
        struct ingle_cqe got, want;
        int res;

        switch (rig_random(&seed) % 5) {
        case 0:
            want = cqe_of(m.written);
            res = ingle_cq_write(&g->cq_writer, &want);
            if (res == INGLE_RING_FULL) {
                assert_int_equal(m.written - m.released, RIG_CQ_N);
            } else {
                assert_int_equal(res, 0);
                m.written++;
            }
            break;
        case 1:
            (void)ingle_cq_publish(&g->cq_writer);
            m.shown = m.written;
            break;
        case 2:
        case 3:
            res = ingle_cq_read(&g->cq_reader, &got);
            if (res == INGLE_RING_EMPTY) {
                assert_int_equal(m.read, m.shown);
            } else {
                assert_int_equal(res, 0);
                want = cqe_of(m.read);
                assert_memory_equal(&got, &want, sizeof got);
                m.read++;
            }
            break;
        default:
            ingle_cq_release(&g->cq_reader);
            m.released = m.read;
        }
    }
    assert_true(m.read > 100000);
}

/* FULL may come from the text ring too, so the model checks what must hold then: something is in
 * flight, and the records or the text are short. */
static void tok_follows_a_queue(void **state)
{
    struct rig *g = *state;
    struct model m = {0};
    struct ingle_tok_mark mark = {0};
    uint64_t seed = 3, at_mark = 0;
    int marked = 0;

    for (int step = 0; step < 1000000; step++) {
        struct ingle_tok got, want;
        uint8_t text[97];
        uint16_t bytes;
        int res;

        switch (rig_random(&seed) % 16) {
        case 0 ... 5:
            want = tok_of(m.written);
            bytes = text_of(m.written, text);
            res = ingle_tok_write(&g->tok_writer, &want, text, bytes);
            if (res == INGLE_RING_FULL) {
                assert_true(m.written - m.released == RIG_TK_N ||
                            (m.written - m.released) * 96 + 2 * 96 > RIG_TEXT_BYTES);
            } else {
                assert_int_equal(res, 0);
                m.written++;
            }
            break;
        case 6:
        case 7:
            (void)ingle_tok_publish(&g->tok_writer);
            m.shown = m.written;
            marked = 0;
            break;
        case 8 ... 12:
            res = ingle_tok_read(&g->tok_reader, &got, g->text);
            if (res == INGLE_RING_EMPTY) {
                assert_int_equal(m.read, m.shown);
            } else {
                assert_int_equal(res, 0);
                want = tok_of(m.read);
                bytes = text_of(m.read, text);
                assert_int_equal(got.user_data, want.user_data);
                assert_int_equal(got.token, want.token);
                assert_int_equal(got.text_len, bytes);
                assert_memory_equal(g->text, text, bytes);
                assert_int_equal(g->text[bytes], 0);
                m.read++;
            }
            break;
        case 13:
            mark = ingle_tok_writer_mark(&g->tok_writer);
            at_mark = m.written;
            marked = 1;
            break;
        case 14:
            if (marked) {
                ingle_tok_writer_rewind(&g->tok_writer, mark);
                m.written = at_mark;
                marked = 0;
            }
            break;
        default:
            ingle_tok_release(&g->tok_reader);
            m.released = m.read;
            assert_int_equal(ingle_tok_writer_room(&g->tok_writer),
                             RIG_TK_N - (m.written - m.released));
        }
    }
    assert_true(m.read > 100000);
}

static void text_as_long_as_the_ring_fits_when_nothing_is_in_flight(void **state)
{
    struct rig *g = *state;
    struct ingle_tok rec = {.user_data = 9}, got;
    char big[RIG_TEXT_BYTES + 1];

    memset(big, 'x', sizeof big);
    /* leave the position in the middle of the text ring */
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, big, 100), 0);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, big, RIG_TEXT_BYTES), INGLE_RING_FULL);
    (void)ingle_tok_publish(&g->tok_writer);
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), 0);
    ingle_tok_release(&g->tok_reader);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, big, RIG_TEXT_BYTES), 0);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, big, 1), INGLE_RING_FULL);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, NULL, 0), 0);
    (void)ingle_tok_publish(&g->tok_writer);
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), 0);
    assert_int_equal(got.text_len, RIG_TEXT_BYTES);
    assert_memory_equal(g->text, big, RIG_TEXT_BYTES);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, big, RIG_TEXT_BYTES + 1), -EMSGSIZE);
}

static void group_that_does_not_fit_is_taken_back_whole(void **state)
{
    struct rig *g = *state;
    struct ingle_tok rec = {.user_data = 1}, got;
    struct ingle_tok_mark mark;
    int res = 0;

    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, "kept", 4), 0);
    mark = ingle_tok_writer_mark(&g->tok_writer);
    while (res == 0) {
        res = ingle_tok_write(&g->tok_writer, &rec, "group", 5);
    }
    assert_int_equal(res, INGLE_RING_FULL);
    ingle_tok_writer_rewind(&g->tok_writer, mark);
    assert_int_equal(ingle_tok_writer_room(&g->tok_writer), RIG_TK_N - 1);
    (void)ingle_tok_publish(&g->tok_writer);
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), 0);
    assert_string_equal(g->text, "kept");
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), INGLE_RING_EMPTY);
}

/* ---- against lies ---------------------------------------------------------------------------- */

static void sq_reader_refuses_every_tail_it_did_not_allow(void **state)
{
    struct rig *g = *state;
    struct ingle_sqe got, some = sqe_of(1);
    const uint32_t lies[] = {FIRST + 1 + RIG_SQ_N + 1, FIRST, FIRST + 0x80000000u, FIRST - 1,
                             FIRST + 1 + 0xFFFFFFFFu};

    assert_int_equal(ingle_sq_write(&g->sq_writer, &some), 0);
    (void)ingle_sq_publish(&g->sq_writer);
    assert_int_equal(ingle_sq_read(&g->sq_reader, &got), 0);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        rig_poke(g->c2s, C2S_OFF(sq_tail), lies[i]);
        assert_int_equal(ingle_sq_read(&g->sq_reader, &got), -EPROTO);
        assert_int_equal(ingle_sq_reader_flags(&g->sq_reader, INGLE_S2C_SQ_NEED_WAKEUP), -EPROTO);
        assert_int_equal(g->sq_reader.in.head, FIRST + 1);
        assert_int_equal(g->sq_reader.in.tail, FIRST + 1);
    }
    rig_poke(g->c2s, C2S_OFF(sq_tail), FIRST + 1 + RIG_SQ_N); /* exactly full is no lie */
    assert_int_equal(ingle_sq_read(&g->sq_reader, &got), 0);
}

static void tail_that_moves_back_while_entries_wait_is_refused(void **state)
{
    struct rig *g = *state;
    struct ingle_sqe got;

    rig_poke(g->c2s, C2S_OFF(sq_tail), FIRST + 4);
    assert_int_equal(ingle_sq_read(&g->sq_reader, &got), 0);
    rig_poke(g->c2s, C2S_OFF(sq_tail), FIRST + 2);
    assert_int_equal(ingle_sq_reader_flags(&g->sq_reader, 0), -EPROTO);
    rig_poke(g->c2s, C2S_OFF(sq_tail), FIRST + 1 + RIG_SQ_N + 1);
    assert_int_equal(ingle_sq_reader_flags(&g->sq_reader, 0), -EPROTO);
}

static void writers_refuse_heads_beyond_what_was_published(void **state)
{
    struct rig *g = *state;
    struct ingle_cqe cqe = cqe_of(1);
    struct ingle_tok tok = tok_of(1);
    struct ingle_sqe sqe = sqe_of(1);
    uint32_t lies[] = {FIRST + 1, FIRST - 1, FIRST + RIG_TK_N, 0x7fffffffu};

    /* rings full, nothing published: no head but the first is true */
    for (uint32_t i = 0; i < RIG_CQ_N; i++) {
        assert_int_equal(ingle_cq_write(&g->cq_writer, &cqe), 0);
    }
    for (uint32_t i = 0; i < RIG_SQ_N; i++) {
        assert_int_equal(ingle_sq_write(&g->sq_writer, &sqe), 0);
    }
    for (uint32_t i = 0; i < RIG_TK_N; i++) {
        assert_int_equal(ingle_tok_write(&g->tok_writer, &tok, NULL, 0), 0);
    }
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        rig_poke(g->c2s, C2S_OFF(cq_head), lies[i]);
        rig_poke(g->c2s, C2S_OFF(tk_head), lies[i]);
        rig_poke(g->s2c, S2C_OFF(sq_head), lies[i]);
        assert_int_equal(ingle_cq_write(&g->cq_writer, &cqe), -EPROTO);
        assert_int_equal(ingle_sq_write(&g->sq_writer, &sqe), -EPROTO);
        assert_int_equal(ingle_tok_write(&g->tok_writer, &tok, NULL, 0), -EPROTO);
        assert_int_equal(ingle_tok_writer_room(&g->tok_writer), -EPROTO);
    }
    (void)ingle_tok_publish(&g->tok_writer);
    rig_poke(g->c2s, C2S_OFF(tk_head), FIRST + 5);
    assert_int_equal(ingle_tok_writer_room(&g->tok_writer), 5);
    rig_poke(g->c2s, C2S_OFF(tk_head), FIRST + 4); /* a head never moves back */
    assert_int_equal(ingle_tok_writer_room(&g->tok_writer), -EPROTO);
}

static void client_refuses_lying_tails_and_text_outside_of_its_ring(void **state)
{
    struct rig *g = *state;
    struct ingle_cqe cqe;
    struct ingle_tok got, rec = tok_of(1);
    struct ingle_tok *entries = (struct ingle_tok *)(void *)(g->s2c + RIG_TK_OFF);

    rig_poke(g->s2c, S2C_OFF(cq_tail), FIRST + RIG_CQ_N + 1);
    assert_int_equal(ingle_cq_read(&g->cq_reader, &cqe), -EPROTO);
    rig_poke(g->s2c, S2C_OFF(tk_tail), FIRST - 1);
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), -EPROTO);

    rig_poke(g->s2c, S2C_OFF(tk_tail), FIRST);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, "abc", 3), 0);
    (void)ingle_tok_publish(&g->tok_writer);
    entries[FIRST & (RIG_TK_N - 1)].text_off = RIG_TEXT_BYTES - 2; /* 3 bytes would split */
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), -EPROTO);
    entries[FIRST & (RIG_TK_N - 1)].text_off = 0xFFFFFFFFu;
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), -EPROTO);
    entries[FIRST & (RIG_TK_N - 1)].text_off = 7;
    entries[FIRST & (RIG_TK_N - 1)].text_len = 0xFFFFu;
    assert_int_equal(ingle_tok_read(&g->tok_reader, &got, g->text), -EPROTO);
    assert_int_equal(g->tok_reader.in.head, FIRST);
}

static void snapshot_does_not_change_with_the_original(void **state)
{
    struct rig *g = *state;
    struct ingle_sqe want = sqe_of(77), got;

    assert_int_equal(ingle_sq_write(&g->sq_writer, &want), 0);
    (void)ingle_sq_publish(&g->sq_writer);
    assert_int_equal(ingle_sq_read(&g->sq_reader, &got), 0);
    memset(g->c2s + RIG_SQ_OFF, 0xff, RIG_SQ_N * 64u);
    assert_memory_equal(&got, &want, sizeof got);
}

/* ---- doorbell -------------------------------------------------------------------------------- */

static void publisher_sees_the_sleeper_and_the_sleeper_sees_the_tail(void **state)
{
    struct rig *g = *state;
    struct ingle_tok rec = tok_of(1);
    struct ingle_sqe sqe = sqe_of(1);

    assert_int_equal(ingle_tok_publish(&g->tok_writer), 0); /* nothing new: no bell */
    assert_int_equal(ingle_tok_reader_arm(&g->tok_reader, INGLE_WAKE_FUTEX), INGLE_RING_EMPTY);
    assert_int_equal(ingle_cq_reader_arm(&g->cq_reader, INGLE_WAKE_FUTEX), INGLE_RING_EMPTY);
    assert_int_equal(ingle_tok_write(&g->tok_writer, &rec, NULL, 0), 0);
    assert_int_equal(ingle_tok_publish(&g->tok_writer), INGLE_WAKE_FUTEX);
    assert_int_equal(ingle_tok_reader_arm(&g->tok_reader, INGLE_WAKE_FUTEX), 0);

    assert_int_equal(ingle_sq_reader_flags(&g->sq_reader, INGLE_S2C_SQ_NEED_WAKEUP),
                     INGLE_RING_EMPTY);
    assert_int_equal(ingle_sq_write(&g->sq_writer, &sqe), 0);
    assert_int_equal(ingle_sq_publish(&g->sq_writer), INGLE_S2C_SQ_NEED_WAKEUP);
    assert_int_equal(ingle_sq_reader_flags(&g->sq_reader, 0), 0);
    assert_int_equal(rig_peek(g->s2c, S2C_OFF(flags)), 0);
}

/* ---- both ends as threads -------------------------------------------------------------------- */

#define STRESS_N 200000u

static void *stress_runtime(void *arg)
{
    struct rig *g = arg;
    uint64_t n_read = 0, n_written = 0;

    while (n_read < STRESS_N || n_written < STRESS_N) {
        struct ingle_sqe got, want = sqe_of(n_read);
        struct ingle_tok rec = tok_of(n_written);
        uint8_t text[97];
        uint16_t bytes = text_of(n_written, text);

        if (ingle_sq_read(&g->sq_reader, &got) == 0) {
            if (memcmp(&got, &want, sizeof got) != 0) {
                return g; /* an entry is not what was written */
            }
            n_read++;
            ingle_sq_release(&g->sq_reader);
        }
        if (n_written < STRESS_N && ingle_tok_write(&g->tok_writer, &rec, text, bytes) == 0) {
            n_written++;
            (void)ingle_tok_publish(&g->tok_writer);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void both_ends_as_threads_lose_and_change_nothing(void **state)
{
    struct rig *g = *state;
    uint64_t n_written = 0, n_read = 0;
    pthread_t runtime;
    void *spoilt;

    assert_int_equal(pthread_create(&runtime, NULL, stress_runtime, g), 0);
    while (n_read < STRESS_N || n_written < STRESS_N) {
        struct ingle_sqe sqe = sqe_of(n_written);
        struct ingle_tok got;
        uint8_t text[97];

        if (n_written < STRESS_N && ingle_sq_write(&g->sq_writer, &sqe) == 0) {
            n_written++;
            (void)ingle_sq_publish(&g->sq_writer);
        }
        if (ingle_tok_read(&g->tok_reader, &got, g->text) == 0) {
            assert_int_equal(got.user_data, n_read);
            assert_int_equal(got.text_len, text_of(n_read, text));
            assert_memory_equal(g->text, text, got.text_len);
            n_read++;
            ingle_tok_release(&g->tok_reader);
        } else {
            sched_yield();
        }
    }
    assert_int_equal(pthread_join(runtime, &spoilt), 0);
    assert_null(spoilt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(sq_follows_a_queue, setup),
        cmocka_unit_test_setup(cq_follows_a_queue, setup),
        cmocka_unit_test_setup(tok_follows_a_queue, setup),
        cmocka_unit_test_setup(text_as_long_as_the_ring_fits_when_nothing_is_in_flight, setup),
        cmocka_unit_test_setup(group_that_does_not_fit_is_taken_back_whole, setup),
        cmocka_unit_test_setup(sq_reader_refuses_every_tail_it_did_not_allow, setup),
        cmocka_unit_test_setup(tail_that_moves_back_while_entries_wait_is_refused, setup),
        cmocka_unit_test_setup(writers_refuse_heads_beyond_what_was_published, setup),
        cmocka_unit_test_setup(client_refuses_lying_tails_and_text_outside_of_its_ring, setup),
        cmocka_unit_test_setup(snapshot_does_not_change_with_the_original, setup),
        cmocka_unit_test_setup(publisher_sees_the_sleeper_and_the_sleeper_sees_the_tail, setup),
        cmocka_unit_test_setup(both_ends_as_threads_lose_and_change_nothing, setup),
    };

    return cmocka_run_group_tests_name("shm/ring", tests, NULL, NULL);
}
