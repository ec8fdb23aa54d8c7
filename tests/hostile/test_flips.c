/* A client that changes what it has submitted while it is being read: one field at a time flips
 * between two values as fast as a thread can store them. Whenever the runtime looks, it must take
 * the one or the other, once: every answer is, whole, the answer to one of the two. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/check.h"
#include "tests/hostile/house.h"

#define FLIP_MS     100 /* a field, a session */
#define FLIP_MS_MAX 600 /* a field, where the machine is busy */
#define ENOUGH      300 /* of either value: what is read twice shows within a hundred or so */
#define WAIT_MS     5000

/* What is submitted when nothing flips: two prompts and a parameter block lie in the arena. */
#define PROMPT_A_OFF 0u
#define PROMPT_B_OFF 256u
#define PARAMS_OFF   512u
static const char prompt_a[] = "the first of two prompts", prompt_b[] = "and the second, no less";
static const struct ingle_sqe plain = {.op = INGLE_OP_GENERATE,
                                       .max_tokens = 3,
                                       .user_data = 77,
                                       .off = PROMPT_A_OFF,
                                       .payload_bytes = sizeof prompt_a - 1,
                                       .par_off = PARAMS_OFF,
                                       .par_bytes = sizeof(struct ingle_params)};

enum place {
    ENTRY,
    ARENA
};
#define FIELD(f) ENTRY, offsetof(struct ingle_sqe, f), sizeof(((struct ingle_sqe *)NULL)->f)
#define PARAM(f) \
    ARENA, PARAMS_OFF + offsetof(struct ingle_params, f), sizeof(((struct ingle_params *)NULL)->f)

/* `res` is what the other value brings: tokens, -errno, or DROPPED. */
#define DROPPED INT32_MIN
static const struct flip {
    const char *what;
    enum place place;
    size_t offset, bytes;
    uint64_t other;
    int32_t res;
} flips[] = {
    {"an unknown operation", FIELD(op), 200, -ENOSYS},
    {"an operation without payload", FIELD(op), INGLE_OP_NOP, -EINVAL},
    {"an unknown flag", FIELD(flags), 0x80, -EINVAL},
    {"text or ids", FIELD(flags), INGLE_PAYLOAD_IDS, -EINVAL},
    {"more tokens", FIELD(max_tokens), 7, 7},
    {"another user_data", FIELD(user_data), UINT64_MAX, 3},
    {"no such context", FIELD(ctx), 0x123456789, -ENOENT},
    {"no such model", FIELD(model), 999, -ENODEV},
    {"the second prompt", FIELD(off), PROMPT_B_OFF, 3},
    {"a prompt outside of the arena", FIELD(off), UINT32_MAX - 8, DROPPED},
    {"a shorter prompt", FIELD(payload_bytes), 5, 3},
    {"no prompt", FIELD(payload_bytes), 0, -EINVAL},
    {"a prompt longer than the arena", FIELD(payload_bytes), UINT32_MAX, DROPPED},
    {"parameters outside of the arena", FIELD(par_off), UINT32_MAX - 8, DROPPED},
    {"parameters that are a prompt", FIELD(par_off), PROMPT_A_OFF, -EINVAL},
    {"parameters cut short", FIELD(par_bytes), 8, -EINVAL},
    {"a reserved field", FIELD(rsv), 1, -EINVAL},
    {"invalid UTF-8", ARENA, PROMPT_A_OFF + 4, 1, 0xff, -EILSEQ},
    {"a temperature that is no number", PARAM(temperature), 0x7fc00000, -EINVAL},
    {"more stop strings than there are bytes", PARAM(n_stop), 16, -EINVAL},
};

/* Everything that a client can tell about the end of a request. */
struct outcome {
    int32_t res;   /* of FINAL, or DROPPED */
    uint32_t code; /* why dropped */
    uint64_t user_data;
    uint32_t n_prompt, n_tokens, n_strange; /* records that name another request */
    char text[128];
};

static uint64_t now_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void open_peer(struct peer *p)
{
    struct ingle_params params;
    uint8_t *arena;

    peer_open(p, house.socket, "flipper");
    arena = (uint8_t *)p->c2s.base + p->w.arena_off;
    memcpy(arena + PROMPT_A_OFF, prompt_a, sizeof prompt_a);
    memcpy(arena + PROMPT_B_OFF, prompt_b, sizeof prompt_b);
    ingle_params_default(&params);
    memcpy(arena + PARAMS_OFF, &params, sizeof params);
}

/* All that comes has one name, which is not 0. */
static void name(struct outcome *o, uint64_t user_data)
{
    if (o->user_data == 0) {
        o->user_data = user_data;
    }
    o->n_strange += user_data != o->user_data;
}

/* What comes of the one request that is submitted. */
static struct outcome await_outcome(struct peer *p)
{
    uint64_t end_ms = now_ms() + WAIT_MS;
    struct outcome o;
    bool over = false;
    size_t at = 0;

    memset(&o, 0, sizeof o);
    while (!over) {
        struct ingle_cqe cqe;
        struct ingle_tok tok;
        uint32_t code = 0;

        assert_true(now_ms() < end_ms);
        while (ingle_cq_read(&p->cq, &cqe) == 0) {
            name(&o, cqe.user_data);
            if ((cqe.flags & INGLE_CQE_F_ACCEPTED) != 0) {
                o.n_prompt = cqe.n_prompt;
            } else {
                assert_int_equal(cqe.flags & INGLE_CQE_F_FINAL, INGLE_CQE_F_FINAL);
                assert_false(over);
                o.res = cqe.res;
                over = true;
            }
        }
        ingle_cq_release(&p->cq);
        while (ingle_tok_read(&p->tk, &tok, p->text) == 0) {
            assert_true(at + tok.text_len < sizeof o.text);
            memcpy(o.text + at, p->text, tok.text_len);
            at += tok.text_len;
            name(&o, tok.user_data);
            o.n_tokens++;
        }
        ingle_tok_release(&p->tk);
        if (!over && peer_is_dropped(p, &code, 0)) {
            o.res = DROPPED;
            over = true;
        }
        if (!over) {
            (void)usleep(50); /* the flipper has one processor, the runtime may need the other */
        }
        o.code = code != 0 ? code : o.code; /* its last words may come a moment before the end */
    }
    return o;
}

/* ---- flipping -------------------------------------------------------------------------------- */

struct flipper {
    uint8_t *_Atomic at; /* the test stores: the field in the entry to be read next */
    size_t bytes;
    uint64_t value[2];
    _Atomic bool stop;
    _Atomic uint32_t n_flips;
    pthread_t thread;
};

static void put(uint8_t *at, size_t bytes, uint64_t value)
{
    if (bytes == 1) {
        __atomic_store_n(at, (uint8_t)value, __ATOMIC_RELAXED);
    } else if (bytes == 2) {
        __atomic_store_n((uint16_t *)(void *)at, (uint16_t)value, __ATOMIC_RELAXED);
    } else if (bytes == 4) {
        __atomic_store_n((uint32_t *)(void *)at, (uint32_t)value, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n((uint64_t *)(void *)at, value, __ATOMIC_RELAXED);
    }
}

static void *flip_main(void *arg)
{
    struct flipper *f = arg;

    for (uint32_t i = 0; !atomic_load_explicit(&f->stop, memory_order_relaxed); i++) {
        put(atomic_load_explicit(&f->at, memory_order_relaxed), f->bytes, f->value[i % 2]);
        atomic_store_explicit(&f->n_flips, i, memory_order_relaxed);
    }
    return NULL;
}

/* Where the flipping field of the next submission is. */
static uint8_t *field_of(struct peer *p, const struct flip *flip)
{
    uint8_t *c2s = p->c2s.base;
    uint32_t i = p->sq.out.tail & (p->w.sq_n - 1);

    return flip->place == ARENA ? c2s + p->w.arena_off + flip->offset
                                : c2s + p->w.sq_off + i * sizeof(struct ingle_sqe) + flip->offset;
}

/* The outcome where nothing flips, with the field as it is or with its other value. */
static struct outcome steady(const struct flip *flip, bool other)
{
    struct ingle_sqe sqe = plain;
    struct outcome o;
    struct peer p;

    open_peer(&p);
    if (other) {
        put(flip->place == ARENA ? field_of(&p, flip) : (uint8_t *)&sqe + flip->offset, flip->bytes,
            flip->other);
    }
    peer_submit(&p, &sqe);
    o = await_outcome(&p);
    peer_leave(&p);
    return o;
}

/* The entry is published while its field flips: at its first reading it has either value. */
static void submit_flipping(struct peer *p, const struct flip *flip, struct flipper *f)
{
    uint32_t n_flips;

    atomic_store_explicit(&f->at, field_of(p, flip), memory_order_relaxed);
    assert_int_equal(ingle_sq_write(&p->sq, &plain), 0);
    n_flips = atomic_load_explicit(&f->n_flips, memory_order_relaxed);
    while (atomic_load_explicit(&f->n_flips, memory_order_relaxed) - n_flips < 3) {
        (void)sched_yield();
    }
    if ((ingle_sq_publish(&p->sq) & INGLE_S2C_SQ_NEED_WAKEUP) != 0) {
        peer_ring(p);
    }
}

/* Submissions over one session until it is dropped or the time is up. */
static void flip_a_session(const struct flip *flip, const struct outcome expected[2],
                           uint32_t n_seen[2], uint64_t end_ms)
{
    struct flipper f = {.bytes = flip->bytes, .value = {0, flip->other}};
    struct outcome o = {0};
    struct peer p;

    open_peer(&p);
    memcpy(&f.value[0], /* little endian */
           flip->place == ARENA ? field_of(&p, flip) : (const uint8_t *)&plain + flip->offset,
           flip->bytes);
    f.at = field_of(&p, flip);
    assert_int_equal(pthread_create(&f.thread, NULL, flip_main, &f), 0);
    while (o.res != DROPPED && now_ms() < end_ms) {
        submit_flipping(&p, flip, &f);
        o = await_outcome(&p);
        if (memcmp(&o, &expected[0], sizeof o) == 0) {
            n_seen[0]++;
        } else if (memcmp(&o, &expected[1], sizeof o) == 0) {
            n_seen[1]++;
        } else {
            fail_msg("%s: an answer to neither: res %d, user_data %llx, %u of the prompt, %u tokens"
                     " (\"%s\"), %u strange records",
                     flip->what, o.res, (unsigned long long)o.user_data, o.n_prompt, o.n_tokens,
                     o.text, o.n_strange);
        }
    }
    atomic_store_explicit(&f.stop, true, memory_order_relaxed);
    (void)pthread_join(f.thread, NULL);
    peer_leave(&p);
}

static void a_field_that_flips_is_taken_as_one_of_its_values(void **state)
{
    struct honest *honest = honest_start();

    (void)state;
    for (size_t i = 0; i < sizeof flips / sizeof flips[0]; i++) {
        const struct flip *flip = &flips[i];
        const struct outcome expected[2] = {steady(flip, false), steady(flip, true)};
        uint64_t start_ms = now_ms();
        uint32_t n_seen[2] = {0};

        if (expected[0].res != 3 || expected[0].n_tokens != 3 || expected[1].res != flip->res ||
            expected[0].n_strange + expected[1].n_strange != 0) {
            fail_msg("%s: %d and %d without any flipping", flip->what, expected[0].res,
                     expected[1].res);
        }
        assert_int_equal(expected[1].code, flip->res == DROPPED ? INGLE_REJECT_PROTOCOL : 0);
        assert_memory_not_equal(&expected[0], &expected[1], sizeof expected[0]);
        do {
            flip_a_session(flip, expected, n_seen, now_ms() + FLIP_MS);
        } while ((n_seen[0] < ENOUGH || n_seen[1] < ENOUGH) && now_ms() < start_ms + FLIP_MS_MAX);
        print_message("%s: %u and %u times\n", flip->what, n_seen[0], n_seen[1]);
        assert_true(n_seen[0] > 0 && n_seen[1] > 0);
    }
    honest_stop(honest);
    (void)house_settle();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_that_flips_is_taken_as_one_of_its_values),
    };

    house_prepare(argc, argv, NULL);
    return cmocka_run_group_tests(tests, house_open, house_close);
}
