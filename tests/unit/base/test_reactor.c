#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/list.h"
#include "runtime/base/reactor.h"

#define TIMER_N 200

struct alarm {
    struct ingle_timer timer;
    uint32_t *order;
    uint32_t id;
};

static uint32_t fired_order[TIMER_N];
static uint32_t n_fired;

static void fire(struct ingle_timer *timer)
{
    fired_order[n_fired++] = ingle_container(timer, struct alarm, timer)->id;
}

static void timers_fire_in_the_order_of_their_times(void **state)
{
    struct ingle_reactor reactor;
    struct alarm alarms[TIMER_N] = {0};
    uint64_t now_ns = ingle_clock_ns();

    (void)state;
    n_fired = 0;
    assert_int_equal(ingle_reactor_init(&reactor, NULL), 0);
    for (uint32_t i = 0; i < TIMER_N; i++) {
        alarms[i].id = (i * 83) % TIMER_N; /* 83 and 200 have no common factor: a permutation */
        alarms[i].timer.fire = fire;
        assert_int_equal(
            ingle_reactor_arm(&reactor, &alarms[i].timer, now_ns - TIMER_N + alarms[i].id), 0);
    }
    ingle_reactor_turn(&reactor, 0);
    assert_int_equal(n_fired, TIMER_N);
    for (uint32_t i = 0; i < TIMER_N; i++) {
        assert_int_equal(fired_order[i], i);
    }
    ingle_reactor_fini(&reactor);
}

static void a_disarmed_timer_stays_silent_and_a_moved_one_fires_once(void **state)
{
    struct ingle_reactor reactor;
    struct alarm alarms[8] = {0};
    uint64_t now_ns = ingle_clock_ns();

    (void)state;
    n_fired = 0;
    assert_int_equal(ingle_reactor_init(&reactor, NULL), 0);
    for (uint32_t i = 0; i < 8; i++) {
        alarms[i].id = i;
        alarms[i].timer.fire = fire;
        assert_int_equal(ingle_reactor_arm(&reactor, &alarms[i].timer, now_ns - 100 + i), 0);
    }
    ingle_reactor_disarm(&reactor, &alarms[3].timer);
    ingle_reactor_disarm(&reactor, &alarms[3].timer);
    assert_int_equal(ingle_reactor_arm(&reactor, &alarms[7].timer, now_ns - 200), 0);
    assert_int_equal(ingle_reactor_arm(&reactor, &alarms[0].timer, now_ns + 3600 * INGLE_NS_PER_S),
                     0);
    ingle_reactor_turn(&reactor, 0);
    assert_int_equal(n_fired, 6);
    assert_int_equal(fired_order[0], 7);
    assert_int_equal(fired_order[1], 1);
    assert_int_equal(fired_order[5], 6);
    assert_int_equal(reactor.n_timers, 1);
    ingle_reactor_fini(&reactor);
}

static void a_turn_ends_when_the_first_timer_is_due(void **state)
{
    struct ingle_reactor reactor;
    struct alarm alarm = {.timer = {.fire = fire}};
    uint64_t start_ns = ingle_clock_ns();

    (void)state;
    n_fired = 0;
    assert_int_equal(ingle_reactor_init(&reactor, NULL), 0);
    assert_int_equal(ingle_reactor_arm(&reactor, &alarm.timer, start_ns + 5 * INGLE_NS_PER_MS), 0);
    ingle_reactor_turn(&reactor, -1);
    assert_int_equal(n_fired, 1);
    assert_true(ingle_clock_ns() - start_ns >= 5 * INGLE_NS_PER_MS);
    ingle_reactor_fini(&reactor);
}

/* Two descriptors ready in one batch, of which the first takes away the second. */
struct killer {
    struct ingle_source source;
    struct ingle_reactor *reactor;
    struct killer *other;
    uint32_t n_ready;
};

static void kill_other(struct ingle_source *source, uint32_t events)
{
    struct killer *self = ingle_container(source, struct killer, source);

    (void)events;
    self->n_ready++;
    ingle_reactor_unwatch(self->reactor, &self->other->source);
}

static void a_source_that_was_unwatched_is_not_called_in_the_same_batch(void **state)
{
    struct ingle_reactor reactor;
    struct killer a = {.source = {.ready = kill_other}}, b = a;
    uint64_t one = 1;

    (void)state;
    assert_int_equal(ingle_reactor_init(&reactor, NULL), 0);
    a.reactor = b.reactor = &reactor;
    a.other = &b;
    b.other = &a;
    a.source.fd = eventfd(0, EFD_CLOEXEC);
    b.source.fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(ingle_reactor_watch(&reactor, &a.source, EPOLLIN), 0);
    assert_int_equal(ingle_reactor_watch(&reactor, &b.source, EPOLLIN), 0);
    assert_int_equal(write(a.source.fd, &one, sizeof one), sizeof one);
    assert_int_equal(write(b.source.fd, &one, sizeof one), sizeof one);
    ingle_reactor_turn(&reactor, 0);
    assert_int_equal(a.n_ready + b.n_ready, 1);
    (void)close(a.source.fd);
    (void)close(b.source.fd);
    ingle_reactor_fini(&reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_the_order_of_their_times),
        cmocka_unit_test(a_disarmed_timer_stays_silent_and_a_moved_one_fires_once),
        cmocka_unit_test(a_turn_ends_when_the_first_timer_is_due),
        cmocka_unit_test(a_source_that_was_unwatched_is_not_called_in_the_same_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
