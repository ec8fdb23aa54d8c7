/* libingle against the fake runtime of fake.c: the handshake and its lies, requests and events,
 * sleeping, contexts and administration, death and resurrection, forks. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/c/ingle.h"
#include "shm/check.h"
#include "tests/unit/clients/fake.h"

static struct fake *fake;

/* Every allocation of this program comes through here: the linker is told so. */
static _Atomic uint32_t n_allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *p, size_t bytes)
{
    atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
    return __real_realloc(p, bytes);
}

static int setup(void **state)
{
    (void)state;
    fake = calloc(1, sizeof *fake);
    return fake == NULL;
}

static int teardown(void **state)
{
    (void)state;
    if (fake->dir[0] != '\0') {
        fake_stop(fake);
    }
    free(fake);
    return 0;
}

static struct ingle_client *attach(void)
{
    struct ingle_attach_options o = {.name = "test", .label = "unit", .timeout_ms = 2000};
    struct ingle_client *c = NULL;
    char why[256] = "";

    assert_true(fake_start(fake));
    o.socket_path = fake->path;
    if (ingle_attach(&o, &c, why, sizeof why) != 0) {
        fail_msg("%s", why);
    }
    return c;
}

static struct ingle_generate generate(uint64_t user_data, const char *payload, uint32_t n)
{
    struct ingle_generate g;

    ingle_generate_init(&g);
    g.user_data = user_data;
    g.payload = payload;
    g.payload_bytes = strlen(payload);
    g.max_tokens = n;
    return g;
}

static uint32_t count(const _Atomic uint32_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* A copy of what the fake received last. */
static const struct fake_got *received(void)
{
    static struct fake_got got;

    (void)pthread_mutex_lock(&fake->lock);
    got = fake->got;
    (void)pthread_mutex_unlock(&fake->lock);
    return &got;
}

static int n_open_fds(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++) {
        n += fcntl(fd, F_GETFD) >= 0;
    }
    return n;
}

/* The next event, however long it takes. */
static struct ingle_event_info event(struct ingle_client *c)
{
    struct ingle_event_info e;
    int res;

    while ((res = ingle_next(c, &e)) == 0) {
        assert_int_equal(ingle_wait(c, 5000), 1);
    }
    assert_int_equal(res, 1);
    return e;
}

/* ---- attach ---------------------------------------------------------------------------------- */

static void attach_tells_the_runtime_who_it_is(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_session_info info;

    (void)state;
    assert_string_equal((const char *)fake->last_hello.name, "test");
    assert_string_equal((const char *)fake->last_hello.label, "unit");
    assert_int_equal(ingle_session(c, &info), 0);
    assert_int_equal(info.epoch, 100);
    assert_int_equal(info.client_id, 5);
    assert_int_equal(info.arena_bytes, 1 << 18);
    assert_int_equal(info.requests_max, 56);
    assert_int_equal(info.requests_now, 0);
    assert_false(info.draining);
    assert_string_equal(ingle_why(c), "");
    assert_true(ingle_fd(c) >= 0);
    ingle_detach(c);
    for (int i = 0; i < 1000 && count(&fake->n_goodbyes) == 0; i++) {
        (void)usleep(1000);
    }
    assert_int_equal(count(&fake->n_goodbyes), 1);
}

static void attach_and_detach_leak_no_descriptor(void **state)
{
    struct ingle_attach_options o = {.timeout_ms = 2000};
    struct ingle_client *c;
    int before;

    (void)state;
    c = attach();
    ingle_detach(c);
    o.socket_path = fake->path;
    fake_do(fake, FAKE_FORGET);
    before = n_open_fds();
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ingle_attach(&o, &c, NULL, 0), 0);
        ingle_detach(c);
        fake_do(fake, FAKE_FORGET);
        assert_int_equal(n_open_fds(), before);
    }
    ingle_detach(NULL);
}

static void nobody_at_home_is_said_with_what_to_do(void **state)
{
    struct ingle_attach_options o = {.socket_path = "/nonexistent/ingle.sock"};
    struct ingle_client *c = NULL;
    char why[256];

    (void)state;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/ingle.sock"));
    assert_non_null(strstr(why, "start one"));
    assert_null(c);
    assert_int_equal(ingle_attach(&o, NULL, why, sizeof why), -EINVAL);
    assert_int_equal(ingle_attach(&o, &c, why, 5), -ENOENT); /* a short buffer is filled, no more */
    assert_int_equal(why[4], '\0');
}

static void options_out_of_range_are_refused(void **state)
{
    struct ingle_client *c = NULL;
    char why[256], path[200];
    struct ingle_attach_options o = {.socket_path = "/x",
                                     .name = "a name of exactly 32 bytes xxxxx"};

    (void)state;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -EINVAL);
    o.name = "line\nbreak";
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -EINVAL);
    o.name = NULL, o.label = "\xff";
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -EINVAL);
    o.label = NULL, o.arena_bytes = (1 << 24) + 1;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -EINVAL);
    o.arena_bytes = 0, o.spin_us = 21;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -EINVAL);
    o.spin_us = 0;
    memset(path, 'x', sizeof path - 1);
    path[0] = '/', path[sizeof path - 1] = '\0';
    o.socket_path = path;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -ENAMETOOLONG);
    assert_null(c);
}

static void silent_runtime_times_out(void **state)
{
    struct ingle_attach_options o = {.timeout_ms = 50};
    struct ingle_client *c = NULL;
    char why[256];

    (void)state;
    fake->mute = true;
    assert_true(fake_start(fake));
    o.socket_path = fake->path;
    assert_int_equal(ingle_attach(&o, &c, why, sizeof why), -ETIMEDOUT);
    assert_null(c);
}

static void refuse_attach(int want, const char *word)
{
    struct ingle_attach_options o = {.timeout_ms = 2000};
    struct ingle_client *c = NULL;
    char why[256] = "";
    int before, res;

    assert_true(fake_start(fake));
    o.socket_path = fake->path;
    before = n_open_fds();
    res = ingle_attach(&o, &c, why, sizeof why);
    if (res != want || strstr(why, word) == NULL) {
        fail_msg("%d: %s", res, why);
    }
    assert_null(c);
    fake_do(fake, FAKE_FORGET);
    assert_int_equal(n_open_fds(), before);
}

static void refusal_brings_the_runtimes_own_words(void **state)
{
    (void)state;
    fake->reject_hello = INGLE_REJECT_TOO_MANY;
    refuse_attach(-ECONNREFUSED, "too many clients: because the test says so");
}

static void refusal_of_ready_ends_the_session_with_its_words(void **state)
{
    struct ingle_client *c;

    (void)state;
    fake->reject_ready = INGLE_REJECT_DENIED;
    c = attach();
    assert_int_equal(ingle_wait(c, 2000), -EPIPE);
    assert_string_equal(ingle_why(c), "because the test says so");
    ingle_detach(c);
}

static void unsealed_memory_is_not_accepted(void **state)
{
    (void)state;
    fake->unsealed = true;
    refuse_attach(-EPROTO, "not as promised");
}

static void memory_of_another_size_is_not_accepted(void **state)
{
    (void)state;
    fake->other_size = true;
    refuse_attach(-EPROTO, "not as promised");
}

static void region_without_its_header_is_not_accepted(void **state)
{
    (void)state;
    fake->blank_header = true;
    refuse_attach(-EPROTO, "not as promised");
}

static void two_descriptors_are_not_three(void **state)
{
    (void)state;
    fake->n_fds = 2;
    refuse_attach(-EPROTO, "protocol violation");
}

static void eight_descriptors_are_not_three(void **state)
{
    (void)state;
    fake->n_fds = 8;
    refuse_attach(-EPROTO, "protocol violation");
}

static void bend_offset(struct ingle_ctl_welcome *w)
{
    w->arena_off = w->c2s_bytes - 64;
}

static void geometry_that_leaves_its_region_is_not_accepted(void **state)
{
    (void)state;
    fake->bend = bend_offset;
    refuse_attach(-EPROTO, "does not speak this protocol");
}

static void bend_version(struct ingle_ctl_welcome *w)
{
    w->ver = 7;
}

static void version_that_was_not_offered_is_not_accepted(void **state)
{
    (void)state;
    fake->bend = bend_version;
    refuse_attach(-EPROTO, "does not speak this protocol");
}

/* ---- requests and events --------------------------------------------------------------------- */

static void tokens_come_in_order_and_before_their_completion(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(42, "Once upon a time", 300);
    struct ingle_event_info e;
    char want[16];

    (void)state;
    assert_int_equal(ingle_submit(c, &g), 0);
    for (uint32_t i = 0; i < 300;) {
        e = event(c);
        assert_int_equal(e.user_data, 42);
        if (e.kind == INGLE_EVENT_COMPLETION) {
            assert_int_equal(e.cqe_flags, INGLE_DONE_ACCEPTED);
            assert_int_equal(e.n_prompt, 16);
            continue;
        }
        assert_int_equal(e.index, i);
        assert_int_equal(e.token, i * 3);
        (void)snprintf(want, sizeof want, "t%u ", i);
        assert_string_equal(e.text, want);
        assert_int_equal(e.text_bytes, strlen(want));
        assert_int_equal((e.flags & INGLE_TOKEN_LAST) != 0, i == 299);
        i++;
    }
    e = event(c);
    assert_int_equal(e.kind, INGLE_EVENT_COMPLETION);
    assert_int_equal(e.cqe_flags, INGLE_DONE_FINAL | INGLE_DONE_TRUNC);
    assert_int_equal(e.res, 300);
    assert_int_equal(e.n_cached, 3);
    assert_int_equal(ingle_next(c, &e), 0);
    assert_memory_equal(received()->payload, "Once upon a time", 16);
    assert_int_equal(count(&fake->n_bad_sqes), 0);
    ingle_detach(c);
}

static void answer_longer_than_the_ring_flows_through_it(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "x", 20000);
    struct ingle_event_info e;
    uint32_t n = 0;

    (void)state;
    assert_int_equal(ingle_submit(c, &g), 0);
    do {
        e = event(c);
        if (e.kind == INGLE_EVENT_TOKEN) {
            assert_int_equal(e.index, n++);
        }
    } while (e.kind == INGLE_EVENT_TOKEN || (e.cqe_flags & INGLE_DONE_FINAL) == 0);
    assert_int_equal(n, 20000);
    ingle_detach(c);
}

static void every_parameter_reaches_the_runtime(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "prompt", 5);
    const struct ingle_stop stops[2] = {{"\n\n", 2}, {"END", 3}};
    const int32_t ids[3] = {1, 2, 3};
    const struct ingle_bias bias = {.id = 9, .bias = -2.5F};
    struct ingle_params_view v;
    struct ingle_event_info final;

    (void)state;
    g.ctx = 7, g.model = 3, g.prio = 2, g.deadline_ns = 12345, g.latest = 1, g.no_bos = 1;
    g.no_special = 1, g.ignore_eos = 1, g.min_tokens = 4, g.top_k = 40, g.repeat_last_n = 10;
    g.temperature = 0.7F, g.top_p = 0.9F, g.min_p = 0.05F, g.typical_p = 0.95F;
    g.repeat_penalty = 1.1F, g.frequency_penalty = 0.5F, g.presence_penalty = -0.5F, g.seed = 99;
    g.n_logprobs = 5, g.n_prompt_logprobs = 1, g.resume_idx = 2;
    g.stops = stops, g.n_stops = 2, g.stop_ids = ids, g.n_stop_ids = 3, g.biases = &bias;
    g.n_biases = 1;
    assert_int_equal(ingle_submit(c, &g), 0);
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, &final), 0);
    assert_int_equal(received()->sqe.ctx, 7);
    assert_int_equal(received()->sqe.model, 3);
    assert_int_equal(received()->sqe.prio, 2);
    assert_int_equal(received()->sqe.arg, 12345);
    assert_int_equal(received()->sqe.resume_idx, 2);
    assert_int_equal(received()->sqe.flags,
                     INGLE_SQE_F_LATEST | INGLE_SQE_F_NO_BOS | INGLE_SQE_F_NO_SPECIAL);
    assert_int_equal(ingle_check_params(received()->params, received()->sqe.par_bytes, &v), 0);
    assert_int_equal(v.p.flags, INGLE_PAR_F_IGNORE_EOS);
    assert_int_equal(v.p.top_k, 40);
    assert_int_equal(v.p.seed, 99);
    assert_true(v.p.temperature == 0.7F && v.p.presence_penalty == -0.5F);
    assert_int_equal(v.p.n_stop, 2);
    assert_memory_equal(v.stops[1].text, "END", 3);
    assert_int_equal(v.stop_ids[2], 3);
    assert_int_equal(v.biases[0].id, 9);
    ingle_detach(c);
}

static void each_operation_is_sent_as_itself(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate text = generate(1, "text", 0), ids = text, chat = text;
    struct ingle_event_info final;
    const int32_t some[2] = {5, 6};

    (void)state;
    text.keep_ctx = 1, text.latest = 1; /* what an operation has no use for is left out */
    ids.kind = INGLE_IDS, ids.payload = some, ids.payload_bytes = sizeof some;
    chat.kind = INGLE_CHAT;
#define SENT(call, what)                                                  \
    do {                                                                  \
        assert_int_equal(call, 0);                                        \
        assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, &final), 0); \
        assert_true(final.res >= 0);                                      \
        assert_int_equal(received()->sqe.op, what);                       \
    } while (0)
    SENT(ingle_append(c, &text), INGLE_OP_APPEND);
    assert_int_equal(received()->sqe.flags, INGLE_SQE_F_KEEP_CTX);
    SENT(ingle_embed(c, &text), INGLE_OP_EMBED);
    SENT(ingle_tokenize(c, &text), INGLE_OP_TOKENIZE);
    SENT(ingle_detokenize(c, &ids), INGLE_OP_DETOKENIZE);
    SENT(ingle_template(c, &chat), INGLE_OP_TEMPLATE);
    SENT(ingle_nop(c, 1), INGLE_OP_NOP);
    SENT(ingle_ctx_fork(c, 8, 1), INGLE_OP_FORK_CTX);
    assert_int_equal(final.ctx, 1008);
    SENT(ingle_ctx_close(c, 8, 1), INGLE_OP_CLOSE_CTX);
#undef SENT
    assert_int_equal(count(&fake->n_bad_sqes), 0);
    ingle_detach(c);
}

static void values_that_the_runtime_would_refuse_are_refused_here(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate good = generate(1, "text", 5), g;
    struct ingle_stop stop = {"", 0};
    struct ingle_bias bias = {.id = 1, .bias = NAN};
    int32_t id = -1;

    (void)state;
#define REFUSED(call, change)            \
    do {                                 \
        g = good;                        \
        change;                          \
        assert_int_equal(call, -EINVAL); \
    } while (0)
    REFUSED(ingle_submit(c, &g), g.temperature = NAN);
    REFUSED(ingle_submit(c, &g), g.temperature = -1);
    REFUSED(ingle_submit(c, &g), g.top_p = 0);
    REFUSED(ingle_submit(c, &g), g.min_p = 1);
    REFUSED(ingle_submit(c, &g), g.repeat_penalty = 0);
    REFUSED(ingle_submit(c, &g), g.n_logprobs = 65);
    REFUSED(ingle_submit(c, &g), g.n_stops = 1);
    REFUSED(ingle_submit(c, &g), (g.n_stops = 1, g.stops = &stop));
    REFUSED(ingle_submit(c, &g), (g.n_stops = 65537, g.stops = &stop));
    REFUSED(ingle_submit(c, &g), (g.n_stop_ids = 1, g.stop_ids = &id));
    REFUSED(ingle_submit(c, &g), (g.n_biases = 1, g.biases = &bias));
    REFUSED(ingle_submit(c, &g), g.payload = NULL);
    REFUSED(ingle_submit(c, &g), g.payload_bytes = 0);
    REFUSED(ingle_submit(c, &g), g.kind = (enum ingle_payload_kind)3);
    REFUSED(ingle_submit(c, &g), (g.kind = INGLE_IDS, g.payload_bytes = 3));
    REFUSED(ingle_tokenize(c, &g), g.kind = INGLE_IDS);
    REFUSED(ingle_detokenize(c, &g), g.kind = INGLE_TEXT);
    REFUSED(ingle_submit(NULL, &g), (void)0);
    REFUSED(ingle_submit(c, NULL), (void)0);
    REFUSED(ingle_ctx_fork(c, 0, 1), (void)0);
    REFUSED(ingle_ctx_close(c, 0, 1), (void)0);
    REFUSED(ingle_next(c, NULL), (void)0);
    REFUSED(ingle_next(NULL, NULL), (void)0);
    REFUSED(ingle_wait(NULL, 0), (void)0);
    REFUSED(ingle_arm(NULL), (void)0);
    REFUSED(ingle_fd(NULL), (void)0);
    REFUSED(ingle_reattach(NULL, NULL, 0), (void)0);
    REFUSED(ingle_session(c, NULL), (void)0);
#undef REFUSED
    assert_int_equal(count(&fake->n_sqes), 0);
    ingle_generate_init(NULL);
    ingle_detach(c);
}

static void arena_fills_and_empties(void **state)
{
    static char big[1 << 18];
    struct ingle_client *c;
    struct ingle_generate g;
    struct ingle_event_info final;
    int n = 0;

    (void)state;
    memset(big, 'b', sizeof big);
    fake->withhold = true;
    c = attach();
    g = generate(1, "", 1);
    g.payload = big, g.payload_bytes = sizeof big + 1;
    assert_int_equal(ingle_tokenize(c, &g), -EMSGSIZE);
    g.payload_bytes = sizeof big; /* fits, but not with parameters behind it */
    assert_int_equal(ingle_submit(c, &g), -EMSGSIZE);
    g.payload_bytes = 60000;
    while (ingle_tokenize(c, &g) == 0) {
        g.user_data++;
        n++;
    }
    assert_int_equal(n, 4);
    assert_int_equal(ingle_tokenize(c, &g), -EAGAIN);
    fake_let_go(fake);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(ingle_await(c, i, 5000, NULL, NULL, &final), 0);
    }
    /* round and round, at lengths that never divide the arena */
    for (uint32_t i = 0; i < 200; i++) {
        g.payload_bytes = 1 + i * 1237u % 60001u;
        big[0] = (char)i, big[g.payload_bytes - 1] = (char)~i;
        assert_int_equal(ingle_tokenize(c, &g), 0);
        assert_int_equal(ingle_await(c, g.user_data, 5000, NULL, NULL, &final), 0);
        assert_int_equal(final.n_prompt, g.payload_bytes);
        assert_memory_equal(received()->payload, big, g.payload_bytes);
    }
    g.payload_bytes = sizeof big; /* empty again: the whole of it is one piece */
    assert_int_equal(ingle_tokenize(c, &g), 0);
    assert_int_equal(ingle_await(c, g.user_data, 5000, NULL, NULL, &final), 0);
    ingle_detach(c);
}

static void full_house_still_takes_a_cancellation(void **state)
{
    struct ingle_client *c;
    struct ingle_session_info info;
    struct ingle_event_info final;
    uint64_t i = 0;

    (void)state;
    fake->withhold = true;
    c = attach();
    while (ingle_nop(c, i) == 0) {
        i++;
    }
    assert_int_equal(ingle_nop(c, i), -EAGAIN);
    assert_int_equal(ingle_session(c, &info), 0);
    assert_int_equal(i, info.requests_max);
    assert_int_equal(info.requests_now, info.requests_max);
    assert_int_equal(ingle_nop(c, 3), -EEXIST);
    assert_int_equal(ingle_cancel(c, 1000, 3), 0);
    fake_let_go(fake);
    assert_int_equal(ingle_await(c, 1000, 5000, NULL, NULL, &final), 0);
    assert_int_equal(final.res, -ENOENT);
    assert_int_equal(ingle_nop(c, 0), 0);
    ingle_detach(c);
}

static int stop_at_ten(void *arg, const struct ingle_event_info *e)
{
    uint32_t *n = arg;

    (*n)++;
    return e->kind == INGLE_EVENT_TOKEN && e->index >= 10;
}

static void callback_that_has_enough_cancels(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(5, "go on for ever", 0);
    struct ingle_event_info final, e;
    uint32_t n = 0;

    (void)state;
    assert_int_equal(ingle_submit(c, &g), 0);
    assert_int_equal(ingle_await(c, 5, 10000, stop_at_ten, &n, &final), 0);
    assert_int_equal(final.user_data, 5);
    assert_int_equal(final.res, -ECANCELED);
    assert_true(n >= 11);
    assert_int_equal(ingle_next(c, &e), 0); /* the cancellation's own completion stays inside */
    assert_int_equal(ingle_nop(c, 6), 0);
    assert_int_equal(ingle_await(c, 6, 5000, NULL, NULL, NULL), 0);
    ingle_detach(c);
}

/* ---- sleeping -------------------------------------------------------------------------------- */

static void wait_times_out_and_sees_what_comes(void **state)
{
    struct ingle_client *c;
    struct ingle_event_info e;

    (void)state;
    fake->withhold = true;
    c = attach();
    assert_int_equal(ingle_wait(c, 0), 0);
    assert_int_equal(ingle_nop(c, 1), 0);
    assert_int_equal(ingle_wait(c, 0), 0);
    assert_int_equal(ingle_wait(c, 5), 0);  /* a futex's sleep */
    assert_int_equal(ingle_wait(c, 40), 0); /* and then the socket's */
    assert_int_equal(ingle_await(c, 1, 1, NULL, NULL, NULL), -ETIMEDOUT);
    fake_let_go(fake);
    assert_int_equal(ingle_wait(c, 5000), 1);
    assert_int_equal(ingle_wait(c, 0), 1);
    assert_int_equal(ingle_next(c, &e), 1);
    assert_int_equal(e.user_data, 1);
    ingle_detach(c);
}

static void spinner_sees_what_comes_while_it_spins(void **state)
{
    struct ingle_attach_options o = {.spin_us = 20, .timeout_ms = 2000};
    struct ingle_client *c;
    struct ingle_event_info e;

    (void)state;
    assert_true(fake_start(fake));
    o.socket_path = fake->path;
    assert_int_equal(ingle_attach(&o, &c, NULL, 0), 0);
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(ingle_nop(c, i), 0);
        assert_int_equal(ingle_wait(c, 5000), 1);
        assert_int_equal(ingle_next(c, &e), 1);
        assert_int_equal(e.user_data, i);
    }
    assert_int_equal(ingle_wait(c, 1), 0); /* nothing in flight: straight to sleep */
    ingle_detach(c);
}

static void *let_go_late(void *arg)
{
    (void)usleep(*(useconds_t *)arg);
    fake_let_go(fake);
    return NULL;
}

static void sleeper_is_woken_in_either_phase(void **state)
{
    useconds_t late[] = {5000, 60000}; /* asleep on the futex, asleep on the socket */

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct ingle_client *c;
        pthread_t thread;

        fake->withhold = true;
        atomic_store_explicit(&fake->t.let_go, false, memory_order_relaxed);
        c = attach();
        assert_int_equal(ingle_nop(c, 1), 0);
        assert_int_equal(pthread_create(&thread, NULL, let_go_late, &late[i]), 0);
        assert_int_equal(ingle_wait(c, 5000), 1);
        assert_int_equal(pthread_join(thread, NULL), 0);
        ingle_detach(c);
        fake_stop(fake);
        memset(fake, 0, sizeof *fake);
    }
}

static void event_loop_is_woken_through_the_descriptor(void **state)
{
    struct ingle_client *c = attach();
    struct pollfd p = {.fd = ingle_fd(c), .events = POLLIN};
    struct ingle_event_info e;

    (void)state;
    for (uint64_t i = 0; i < 100; i++) {
        bool got = false;

        assert_int_equal(ingle_nop(c, i), 0);
        while (!got) {
            if (ingle_arm(c) == 0) {
                assert_int_equal(poll(&p, 1, 5000), 1);
            }
            while (ingle_next(c, &e) == 1) {
                assert_int_equal(e.user_data, i);
                got = true;
            }
        }
    }
    ingle_detach(c);
}

static void polling_client_is_sent_no_bells(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "x", 2000);
    struct ingle_event_info e = {.kind = INGLE_EVENT_TOKEN};

    (void)state;
    assert_int_equal(ingle_arm(c), 0);
    assert_int_equal(ingle_submit(c, &g), 0);
    do {
        (void)ingle_next(c, &e);
    } while (e.kind == INGLE_EVENT_TOKEN || (e.cqe_flags & INGLE_DONE_FINAL) == 0);
    /* the first event turned the bell off */
    assert_true(count(&fake->n_bells) < 50);
    ingle_detach(c);
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void signal_ends_a_wait(void **state)
{
    struct ingle_client *c = attach();
    struct sigaction act = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {.tv_usec = 60000}};
    int res;

    (void)state;
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    for (int i = 0; i < 2; i++) {
        soon.it_value.tv_usec = i == 0 ? 3000 : 60000;
        assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
        res = ingle_wait(c, 5000);
        /* the fake's thread may have taken the signal instead; then the wait goes on */
        assert_true(res == -EINTR || res == 0);
        if (res == 0) {
            break;
        }
    }
    ingle_detach(c);
}

/* ---- contexts and administration ------------------------------------------------------------- */

static void context_travels_as_text(void **state)
{
    struct ingle_client *c = attach();
    char token[INGLE_TOKEN_TEXT], bad[INGLE_TOKEN_TEXT];
    uint64_t ctx = 0;
    uint32_t n = 0;

    (void)state;
    assert_int_equal(ingle_ctx_export(c, 0, 0, 0, token), -EINVAL);
    assert_int_equal(ingle_ctx_export(c, 404, 0, 0, token), -ENOENT);
    assert_int_equal(ingle_ctx_export(c, 12, 60, 1, token), 0);
    assert_memory_equal(token, "ctx1_", 5);
    assert_int_equal(strlen(token), 48);
    assert_int_equal(strspn(token + 5, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789-_"),
                     43);
    fake_do(fake, FAKE_STALE_REPLY);
    assert_int_equal(ingle_ctx_import(c, token, &ctx, &n), 0);
    assert_int_equal(ctx, 77);
    assert_int_equal(n, 5);
    assert_int_equal(ingle_ctx_import(c, token, &ctx, NULL), 0);
    assert_int_equal(ingle_ctx_revoke(c, token), 0);

    memcpy(bad, token, sizeof bad);
    bad[10] = bad[10] == 'A' ? 'B' : 'A';
    assert_int_equal(ingle_ctx_import(c, bad, &ctx, &n), -ENOENT);
    bad[10] = '+';
    assert_int_equal(ingle_ctx_import(c, bad, &ctx, &n), -EINVAL);
    memcpy(bad, token, sizeof bad);
    bad[47] = '\0';
    assert_int_equal(ingle_ctx_import(c, bad, &ctx, &n), -EINVAL);
    memcpy(bad, token, sizeof bad);
    bad[47]++; /* the spare bits of the last digit */
    assert_int_equal(ingle_ctx_revoke(c, bad), -EINVAL);
    memset(bad + 5, 'A', 43); /* 32 zero bytes: no token at all */
    assert_int_equal(ingle_ctx_import(c, bad, &ctx, &n), -EINVAL);
    assert_int_equal(ingle_ctx_import(c, "", &ctx, &n), -EINVAL);
    assert_int_equal(ingle_ctx_import(c, NULL, &ctx, &n), -EINVAL);
    assert_int_equal(ingle_ctx_import(c, token, NULL, &n), -EINVAL);
    ingle_detach(c);
}

static void count_progress(void *arg, const char *json)
{
    char want[16];

    (void)snprintf(want, sizeof want, "{\"done\":%d}", ++*(int *)arg);
    assert_string_equal(json, want);
}

static void administration_joins_parts_and_reports_progress(void **state)
{
    struct ingle_client *c = attach();
    static char reply[10000], request[5000];
    int n = 0;

    (void)state;
    assert_int_equal(ingle_admin(c, "{\"verb\":\"ps\"}", reply, sizeof reply, count_progress, &n),
                     0);
    assert_string_equal(reply, "{\"verb\":\"ps\"}");
    assert_int_equal(n, 2);
    assert_int_equal(ingle_admin(c, "{\"big\":1}", reply, sizeof reply, NULL, NULL), 0);
    assert_int_equal(strlen(reply), 8007);
    assert_int_equal(strspn(reply, "p"), 8007);
    assert_int_equal(ingle_admin(c, "{\"big\":1}", reply, 8007, NULL, NULL), -ENOBUFS);
    assert_int_equal(strlen(reply), 8006);
    assert_int_equal(ingle_admin(c, "{\"big\":1}", reply, 1, NULL, NULL), -ENOBUFS);
    assert_int_equal(ingle_admin(c, "{\"big\":1}", reply, 0, NULL, NULL), -EINVAL);
    memset(request, ' ', sizeof request - 1);
    assert_int_equal(ingle_admin(c, request, reply, sizeof reply, NULL, NULL), -E2BIG);
    request[4064] = '\0';
    assert_int_equal(ingle_admin(c, request, reply, sizeof reply, NULL, NULL), 0);
    assert_int_equal(strlen(reply), 4064);
    assert_int_equal(ingle_admin(c, NULL, reply, sizeof reply, NULL, NULL), -EINVAL);
    ingle_detach(c);
}

static void rings_go_on_during_administration(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(3, "x", 50);
    struct ingle_event_info final;
    char reply[64];

    (void)state;
    assert_int_equal(ingle_arm(c), 0);
    assert_int_equal(ingle_submit(c, &g), 0);
    assert_int_equal(ingle_admin(c, "{}", reply, sizeof reply, NULL, NULL), 0);
    assert_string_equal(reply, "{}");
    assert_int_equal(ingle_await(c, 3, 5000, NULL, NULL, &final), 0);
    assert_int_equal(final.res, 50);
    ingle_detach(c);
}

static void nothing_is_allocated_after_attach(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "x", 3000);
    struct ingle_event_info e;
    char token[INGLE_TOKEN_TEXT], reply[256];
    uint32_t before = count(&n_allocations);
    uint64_t ctx;
    int res[8];

    (void)state;
    assert_true(before > 0);
    res[0] = ingle_submit(c, &g);
    res[1] = ingle_await(c, 1, 10000, NULL, NULL, &e);
    res[2] = ingle_ctx_export(c, 1, 0, 0, token);
    res[3] = ingle_ctx_import(c, token, &ctx, NULL);
    res[4] = ingle_admin(c, "{}", reply, sizeof reply, NULL, NULL);
    res[5] = ingle_arm(c);
    fake_do(fake, FAKE_HANG_UP);
    res[6] = ingle_wait(c, 1000) == -EPIPE ? 0 : 1;
    res[7] = ingle_reattach(c, reply, sizeof reply);
    assert_int_equal(count(&n_allocations), before);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(res[i], 0);
    }
    ingle_detach(c);
}

/* ---- the runtime misbehaves ------------------------------------------------------------------ */

static void pings_are_answered_and_farewells_noted(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_session_info info;

    (void)state;
    fake_do(fake, FAKE_PING);
    assert_int_equal(ingle_arm(c), 0);
    fake_do(fake, FAKE_GOODBYE);
    assert_int_equal(ingle_wait(c, 0), 0);
    assert_int_equal(ingle_session(c, &info), 0);
    assert_true(info.draining);
    fake_do(fake, FAKE_PING);
    assert_int_equal(ingle_nop(c, 1), 0); /* and it still serves */
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, NULL), 0);
    assert_true(count(&fake->n_pongs) >= 1);
    ingle_detach(c);
}

static void descriptors_nobody_asked_for_are_dropped(void **state)
{
    struct ingle_client *c = attach();
    int before = n_open_fds();

    (void)state;
    fake_do(fake, FAKE_GIFT);
    assert_int_equal(ingle_wait(c, 0), 0);
    assert_int_equal(n_open_fds(), before);
    assert_int_equal(ingle_nop(c, 1), 0);
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, NULL), 0);
    ingle_detach(c);
}

/* After the command the session is dead with this code, for every call, and stays so. */
static void dies_of(enum fake_command command, int code)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(2, "x", 1);
    struct ingle_event_info e;
    char token[INGLE_TOKEN_TEXT];
    int res;

    fake_do(fake, command);
    res = ingle_wait(c, 2000);
    if (res != code) {
        fail_msg("command %d: %d, not %d: %s", (int)command, res, code, ingle_why(c));
    }
    assert_int_equal(ingle_next(c, &e), code);
    assert_int_equal(ingle_arm(c), code);
    assert_int_equal(ingle_submit(c, &g), code);
    assert_int_equal(ingle_nop(c, 1), code);
    assert_int_equal(ingle_ctx_export(c, 1, 0, 0, token), code);
    assert_int_equal(ingle_await(c, 1, 100, NULL, NULL, NULL), code);
    assert_string_not_equal(ingle_why(c), "");
    ingle_detach(c);
    fake_stop(fake);
    memset(fake, 0, sizeof *fake);
}

static void lies_and_garbage_end_the_session_and_nothing_else(void **state)
{
    (void)state;
    dies_of(FAKE_GARBAGE, -EPROTO);
    dies_of(FAKE_OVERSIZED, -EPROTO);
    dies_of(FAKE_LIVE_AGAIN, -EPROTO);
    dies_of(FAKE_LIE_TOK_TAIL, -EPROTO);
    dies_of(FAKE_LIE_CQ_TAIL, -EPROTO);
    dies_of(FAKE_HANG_UP, -EPIPE);
    dies_of(FAKE_REJECT, -EPIPE);
}

static void text_outside_of_its_ring_ends_the_session(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_event_info e;

    (void)state;
    fake_do(fake, FAKE_LIE_TEXT);
    assert_int_equal(ingle_wait(c, 2000), 1);
    assert_int_equal(ingle_next(c, &e), -EPROTO);
    assert_int_equal(ingle_next(c, &e), -EPROTO);
    ingle_detach(c);
}

static void head_beyond_what_was_submitted_ends_the_session(void **state)
{
    struct ingle_client *c;
    int res = 0;

    (void)state;
    fake->withhold = true;
    c = attach();
    fake_do(fake, FAKE_LIE_SQ_HEAD);
    for (uint64_t i = 0; i < 200 && res == 0; i++) {
        res = ingle_nop(c, i);
    }
    assert_int_equal(res, -EAGAIN); /* the limit of requests keeps the ring from filling up */
    ingle_detach(c);
}

static void last_words_are_kept(void **state)
{
    struct ingle_client *c = attach();

    (void)state;
    fake_do(fake, FAKE_REJECT);
    assert_int_equal(ingle_wait(c, 2000), -EPIPE);
    assert_string_equal(ingle_why(c), "because the test says so");
    ingle_detach(c);
}

static void what_had_arrived_can_be_taken_after_death(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "x", 20);
    struct ingle_event_info e;
    int n = 0;

    (void)state;
    assert_int_equal(ingle_submit(c, &g), 0);
    (void)usleep(20000);
    fake_do(fake, FAKE_FORGET);
    while (ingle_wait(c, 1000) == 1 && ingle_next(c, &e) == 1) {
        n++;
    }
    assert_int_equal(n, 22);
    assert_int_equal(ingle_next(c, &e), -EPIPE);
    ingle_detach(c);
}

/* ---- life after death ------------------------------------------------------------------------ */

static void broken_connection_is_resumed_where_it_was(void **state)
{
    struct ingle_client *c;
    struct ingle_event_info final;
    char why[256];

    (void)state;
    fake->withhold = true;
    c = attach();
    assert_int_equal(ingle_nop(c, 1), 0);
    fake_do(fake, FAKE_HANG_UP);
    assert_int_equal(ingle_wait(c, 2000), -EPIPE);
    if (ingle_reattach(c, why, sizeof why) != 0) {
        fail_msg("%s", why);
    }
    assert_int_equal(fake->last_hello.last_epoch, 100);
    assert_string_equal(ingle_why(c), "");
    assert_int_equal(ingle_nop(c, 1), -EEXIST); /* still in flight */
    fake_let_go(fake);
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, &final), 0);
    assert_int_equal(ingle_nop(c, 2), 0);
    assert_int_equal(ingle_await(c, 2, 5000, NULL, NULL, &final), 0);
    ingle_detach(c);
}

static void restarted_runtime_is_a_new_session(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(9, "x", 12);
    struct ingle_session_info info;
    struct ingle_event_info final, e;
    int before = n_open_fds();

    (void)state;
    assert_int_equal(ingle_submit(c, &g), 0);
    assert_int_equal(ingle_await(c, 9, 5000, NULL, NULL, &final), 0);
    assert_int_equal(ingle_nop(c, 1), 0);
    fake_do(fake, FAKE_FORGET);
    while (ingle_next(c, &e) >= 0) {
        (void)ingle_wait(c, 100);
    }
    assert_int_equal(ingle_reattach(c, NULL, 0), 1);
    assert_int_equal(ingle_session(c, &info), 0);
    assert_int_equal(info.epoch, 101);
    assert_int_equal(info.requests_now, 0);
    g.resume_idx = 10;
    assert_int_equal(ingle_submit(c, &g), 0);
    do {
        e = event(c);
    } while (e.kind != INGLE_EVENT_TOKEN);
    assert_int_equal(e.index, 10);
    assert_int_equal(ingle_await(c, 9, 5000, NULL, NULL, &final), 0);
    assert_int_equal(final.res, 12);
    assert_int_equal(n_open_fds(), before);
    ingle_detach(c);
}

static void reattach_that_fails_leaves_the_client_to_try_again(void **state)
{
    struct ingle_client *c = attach();
    char path[120], why[256];

    (void)state;
    fake_do(fake, FAKE_FORGET);
    assert_int_equal(ingle_wait(c, 1000), -EPIPE);
    (void)snprintf(path, sizeof path, "%s.away", fake->path);
    assert_int_equal(rename(fake->path, path), 0);
    assert_int_equal(ingle_reattach(c, why, sizeof why), -ENOENT);
    assert_int_equal(ingle_wait(c, 0), -EPIPE);
    assert_int_equal(rename(path, fake->path), 0);
    assert_int_equal(ingle_reattach(c, why, sizeof why), 1);
    assert_int_equal(ingle_nop(c, 1), 0);
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, NULL), 0);
    ingle_detach(c);
}

static void forked_child_is_refused_and_harms_nobody(void **state)
{
    struct ingle_client *c = attach();
    struct ingle_generate g = generate(1, "x", 5);
    struct ingle_event_info e;
    char token[INGLE_TOKEN_TEXT] = "";
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        bool refused = ingle_submit(c, &g) == -ECHILD && ingle_next(c, &e) == -ECHILD &&
                       ingle_wait(c, 100) == -ECHILD && ingle_arm(c) == -ECHILD &&
                       ingle_fd(c) == -ECHILD && ingle_nop(c, 1) == -ECHILD &&
                       ingle_ctx_export(c, 1, 0, 0, token) == -ECHILD &&
                       ingle_reattach(c, NULL, 0) == -ECHILD &&
                       ingle_admin(c, "{}", token, sizeof token, NULL, NULL) == -ECHILD;

        ingle_detach(c);
        _exit(refused ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(ingle_submit(c, &g), 0);
    assert_int_equal(ingle_await(c, 1, 5000, NULL, NULL, &e), 0);
    assert_int_equal(count(&fake->n_goodbyes), 0);
    ingle_detach(c);
}

static void out_of_descriptors_is_an_error_in_words(void **state)
{
    struct ingle_attach_options o = {.timeout_ms = 2000};
    struct ingle_client *c = NULL;
    struct rlimit old, low;
    char why[256];
    int res;

    (void)state;
    assert_true(fake_start(fake));
    o.socket_path = fake->path;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    res = dup(0); /* the lowest free number */
    assert_true(res > 0);
    (void)close(res);
    low.rlim_cur = (rlim_t)res;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    res = ingle_attach(&o, &c, why, sizeof why);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(res, -EMFILE);
    assert_non_null(strstr(why, "too many open files"));
    assert_null(c);
}

static void every_code_has_words(void **state)
{
    (void)state;
    assert_string_equal(ingle_strerror(-EPIPE), ingle_strerror(EPIPE));
    assert_string_not_equal(ingle_strerror(EPIPE), "unknown error");
    assert_string_equal(ingle_strerror(0), "no error");
    assert_string_equal(ingle_strerror(99999), "unknown error");
    assert_string_equal(ingle_strerror(INT32_MIN), "unknown error");
    assert_string_equal(ingle_why(NULL), "");
    assert_true(strchr(ingle_version(), '.') != NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(attach_tells_the_runtime_who_it_is),
        T(attach_and_detach_leak_no_descriptor),
        T(nobody_at_home_is_said_with_what_to_do),
        T(options_out_of_range_are_refused),
        T(silent_runtime_times_out),
        T(refusal_brings_the_runtimes_own_words),
        T(refusal_of_ready_ends_the_session_with_its_words),
        T(unsealed_memory_is_not_accepted),
        T(memory_of_another_size_is_not_accepted),
        T(region_without_its_header_is_not_accepted),
        T(two_descriptors_are_not_three),
        T(eight_descriptors_are_not_three),
        T(geometry_that_leaves_its_region_is_not_accepted),
        T(version_that_was_not_offered_is_not_accepted),
        T(tokens_come_in_order_and_before_their_completion),
        T(answer_longer_than_the_ring_flows_through_it),
        T(every_parameter_reaches_the_runtime),
        T(each_operation_is_sent_as_itself),
        T(values_that_the_runtime_would_refuse_are_refused_here),
        T(arena_fills_and_empties),
        T(full_house_still_takes_a_cancellation),
        T(callback_that_has_enough_cancels),
        T(wait_times_out_and_sees_what_comes),
        T(spinner_sees_what_comes_while_it_spins),
        T(sleeper_is_woken_in_either_phase),
        T(event_loop_is_woken_through_the_descriptor),
        T(polling_client_is_sent_no_bells),
        T(signal_ends_a_wait),
        T(context_travels_as_text),
        T(administration_joins_parts_and_reports_progress),
        T(rings_go_on_during_administration),
        T(nothing_is_allocated_after_attach),
        T(pings_are_answered_and_farewells_noted),
        T(descriptors_nobody_asked_for_are_dropped),
        T(lies_and_garbage_end_the_session_and_nothing_else),
        T(text_outside_of_its_ring_ends_the_session),
        T(head_beyond_what_was_submitted_ends_the_session),
        T(last_words_are_kept),
        T(what_had_arrived_can_be_taken_after_death),
        T(broken_connection_is_resumed_where_it_was),
        T(restarted_runtime_is_a_new_session),
        T(reattach_that_fails_leaves_the_client_to_try_again),
        T(forked_child_is_refused_and_harms_nobody),
        T(out_of_descriptors_is_an_error_in_words),
        T(every_code_has_words),
    };

    return cmocka_run_group_tests_name("clients/c", tests, NULL, NULL);
}
