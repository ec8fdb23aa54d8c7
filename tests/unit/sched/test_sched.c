/* The step thread over the null engine: streams, back-pressure, cancellation, contexts, detaching.
 * The test plays io and, over plain memory, the clients. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/sched/sched.h"

#define TOK_OFF    INGLE_RING_PAGE
#define TEXT_BYTES 65536u
#define PATIENCE   (5 * INGLE_NS_PER_S)

struct client {
    struct ingle_port port;
    struct ingle_tok_reader reader;
    void *c2s, *s2c;
    uint32_t *text_ends;
    char text[INGLE_TEXT_COPY_BYTES];
};

struct fixture {
    struct ingle_board board;
    struct ingle_sched *sched;
    struct ingle_engine *engine;
    struct ingle_backend *backend;
    pthread_t thread;
};

static void *step_main(void *arg)
{
    ingle_sched_run(arg);
    return NULL;
}

/* Without its thread: what is sent now waits for the first step. */
static void fixture_create(struct fixture *f)
{
    struct ingle_engine_options options = {.kv_bits = 8, .kv_bytes = 8 << 20};
    struct ingle_to_step add = {.kind = INGLE_TO_STEP_MODEL_ADD, .slot = 0};

    memset(f, 0, sizeof *f);
    assert_int_equal(ingle_sched_create(NULL, &f->board, &f->sched, NULL), 0);
    assert_int_equal(ingle_backend_null_create(&f->backend, NULL), 0);
    f->backend->n_workers = 2; /* steps are as long as theirs would be */
    assert_int_equal(ingle_engine_create(NULL, f->backend, NULL, &options, &f->engine, NULL), 0);
    add.engine = f->engine;
    assert_true(ingle_sched_send(f->sched, &add));
}

static void fixture_start(struct fixture *f)
{
    assert_int_equal(pthread_create(&f->thread, NULL, step_main, f->sched), 0);
}

static void fixture_init(struct fixture *f)
{
    fixture_create(f);
    fixture_start(f);
}

static struct ingle_from_step next_reply(struct fixture *f)
{
    uint64_t end = ingle_clock_ns() + PATIENCE;
    struct ingle_from_step msg;

    while (!ingle_sched_receive(f->sched, &msg)) {
        assert_true(ingle_clock_ns() < end);
        (void)sched_yield();
    }
    return msg;
}

static void fixture_fini(struct fixture *f)
{
    struct ingle_to_step msg = {.kind = INGLE_TO_STEP_STOP};

    assert_true(ingle_sched_send(f->sched, &msg));
    while (next_reply(f).kind != INGLE_FROM_STEP_STOPPED) {
    }
    assert_int_equal(pthread_join(f->thread, NULL), 0);
    ingle_sched_free(f->sched);
    ingle_engine_free(f->engine);
    ingle_backend_destroy(f->backend);
}

static struct client *attach(uint32_t slot, uint32_t tenant, uint32_t tok_n)
{
    struct client *c = calloc(1, sizeof *c);
    uint32_t text_off = TOK_OFF + tok_n * (uint32_t)sizeof(struct ingle_tok);

    assert_non_null(c);
    c->c2s = aligned_alloc(4096, INGLE_RING_PAGE);
    c->s2c = aligned_alloc(4096, (text_off + TEXT_BYTES + 4095) / 4096 * 4096);
    c->text_ends = calloc(tok_n, sizeof *c->text_ends);
    memset(c->c2s, 0, INGLE_RING_PAGE);
    memset(c->s2c, 0, text_off + TEXT_BYTES);
    c->port.slot = slot;
    c->port.tenant = tenant;
    ingle_tok_writer_init(&c->port.tok, c->c2s, c->s2c, TOK_OFF, tok_n, text_off, TEXT_BYTES,
                          c->text_ends);
    ingle_tok_reader_init(&c->reader, c->c2s, c->s2c, TOK_OFF, tok_n, text_off, TEXT_BYTES);
    return c;
}

static void client_free(struct client *c)
{
    free(c->c2s);
    free(c->s2c);
    free(c->text_ends);
    free(c);
}

static struct ingle_request *request(struct client *c, enum ingle_request_op op, uint64_t user_data,
                                     const int32_t *tokens, uint32_t n, uint32_t max_tokens)
{
    struct ingle_request *r = calloc(1, sizeof *r);

    assert_non_null(r);
    r->in.op = op;
    r->in.port = &c->port;
    r->in.user_data = user_data;
    r->in.max_tokens = max_tokens;
    r->in.n_tokens = n;
    r->in.tokens = calloc(n + 1, sizeof *r->in.tokens);
    memcpy(r->in.tokens, tokens, n * sizeof *tokens);
    r->in.sampling.top_p = r->in.sampling.typical_p = r->in.sampling.repeat_penalty = 1;
    r->in.accepted_ns = ingle_clock_ns();
    return r;
}

static void submit(struct fixture *f, struct ingle_request *r)
{
    struct ingle_to_step msg = {.kind = INGLE_TO_STEP_SUBMIT, .request = r};

    assert_true(ingle_sched_send(f->sched, &msg));
}

static void request_free(struct ingle_request *r)
{
    free(r->in.tokens);
    free(r->in.records);
    free(r->in.record_text);
    free(r);
}

/* The null engine's promise (sched.h). */
static uint32_t null_token(int32_t last, uint32_t i)
{
    return ((uint32_t)last + i * 7) % 256 + 1;
}

/* Read the next record of a client, waiting for it. */
static struct ingle_tok next_tok(struct client *c)
{
    uint64_t end = ingle_clock_ns() + PATIENCE;
    struct ingle_tok tok;
    int r;

    while ((r = ingle_tok_read(&c->reader, &tok, c->text)) == INGLE_RING_EMPTY) {
        assert_true(ingle_clock_ns() < end);
        (void)sched_yield();
    }
    assert_int_equal(r, 0);
    ingle_tok_release(&c->reader);
    return tok;
}

static void a_stream_is_dense_and_ends_before_its_completion(void **state)
{
    struct fixture f;
    struct client *c;
    int32_t prompt[300];
    struct ingle_from_step done;
    char want[32];

    (void)state;
    for (int i = 0; i < 300; i++) {
        prompt[i] = i % 200;
    }
    fixture_init(&f);
    c = attach(1, 1, 1024);
    submit(&f, request(c, INGLE_REQ_GENERATE, 77, prompt, 300, 50));
    done = next_reply(&f);
    assert_int_equal(done.kind, INGLE_FROM_STEP_DONE);
    assert_int_equal(done.res, 50);
    assert_int_equal(done.request->out.flags, INGLE_CQE_F_TRUNC);
    for (uint32_t i = 0; i < 50; i++) {
        struct ingle_tok tok;

        assert_int_equal(ingle_tok_read(&c->reader, &tok, c->text),
                         0); /* all there: DONE comes last */
        assert_int_equal(tok.user_data, 77);
        assert_int_equal(tok.index, i);
        assert_int_equal(tok.token, null_token(prompt[299], i));
        assert_int_equal((tok.flags & INGLE_TOK_F_LAST) != 0, i == 49);
        (void)snprintf(want, sizeof want, "t%u ", tok.token);
        assert_string_equal(c->text, want);
    }
    request_free(done.request);
    fixture_fini(&f);
    client_free(c);
}

static void a_full_ring_parks_the_sequence_and_loses_nothing(void **state)
{
    struct fixture f;
    struct client *slow, *fast;
    int32_t prompt[4] = {1, 2, 3, 4};
    struct ingle_from_step done;
    uint32_t i;

    (void)state;
    fixture_init(&f);
    slow = attach(1, 1, 16);
    fast = attach(2, 1, 1024);
    submit(&f, request(slow, INGLE_REQ_GENERATE, 1, prompt, 4, 500));
    submit(&f, request(fast, INGLE_REQ_GENERATE, 2, prompt, 4, 500));
    done = next_reply(&f);
    assert_int_equal(done.request->in.user_data, 2); /* nobody waits for the slow one */
    request_free(done.request);
    for (i = 0; i < 500; i++) {
        struct ingle_tok tok = next_tok(slow);

        assert_int_equal(tok.index, i);
        assert_int_equal(tok.token, null_token(4, i));
    }
    done = next_reply(&f);
    assert_int_equal(done.res, 500);
    assert_true(slow->port.step.n_stalls > 0);
    request_free(done.request);
    fixture_fini(&f);
    client_free(slow);
    client_free(fast);
}

static void latest_gives_up_where_others_park(void **state)
{
    struct fixture f;
    struct client *c;
    int32_t prompt[4] = {1, 2, 3, 4};
    struct ingle_from_step done;
    struct ingle_request *r;

    (void)state;
    fixture_init(&f);
    c = attach(1, 1, 16);
    r = request(c, INGLE_REQ_GENERATE, 1, prompt, 4, 500);
    r->in.sqe_flags = INGLE_SQE_F_LATEST;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, -EOVERFLOW);
    request_free(done.request);
    fixture_fini(&f);
    client_free(c);
}

static void a_cancelled_request_is_done_before_the_cancel_is_answered(void **state)
{
    struct fixture f;
    struct client *c;
    int32_t prompt[4] = {1, 2, 3, 4};
    struct ingle_to_step cancel = {.kind = INGLE_TO_STEP_CANCEL, .user_data = 9, .seq = 1234};
    struct ingle_from_step msg;

    (void)state;
    fixture_init(&f);
    c = attach(1, 1, 16);
    submit(&f, request(c, INGLE_REQ_GENERATE, 9, prompt, 4, 0)); /* parks: nobody reads */
    (void)next_tok(c);
    cancel.port = &c->port;
    assert_true(ingle_sched_send(f.sched, &cancel));
    msg = next_reply(&f);
    assert_int_equal(msg.kind, INGLE_FROM_STEP_DONE);
    assert_int_equal(msg.res, -ECANCELED);
    request_free(msg.request);
    msg = next_reply(&f);
    assert_int_equal(msg.kind, INGLE_FROM_STEP_CANCELLED);
    assert_int_equal(msg.seq, 1234);
    assert_int_equal(msg.res, 0);
    assert_true(ingle_sched_send(f.sched, &cancel));
    assert_int_equal(next_reply(&f).res, -ENOENT);
    fixture_fini(&f);
    client_free(c);
}

static void a_context_is_kept_forked_handed_over_and_closed(void **state)
{
    struct fixture f;
    struct client *a, *b, *stranger;
    int32_t prompt[200];
    struct ingle_request *r;
    struct ingle_from_step done;
    uint64_t ctx, held, theirs;

    (void)state;
    for (int i = 0; i < 200; i++) {
        prompt[i] = i;
    }
    fixture_init(&f);
    a = attach(1, 1, 1024);
    b = attach(2, 1, 1024);
    stranger = attach(3, 2, 1024);

    r = request(a, INGLE_REQ_APPEND, 1, prompt, 200, 0);
    r->in.sqe_flags = INGLE_SQE_F_KEEP_CTX;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, 200);
    ctx = done.request->out.ctx;
    assert_int_not_equal(ctx, 0);
    request_free(done.request);

    r = request(a, INGLE_REQ_HOLD_CTX, 2, prompt, 0, 0);
    r->in.ctx = ctx;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, 0);
    assert_int_equal(done.request->out.n_prompt, 200);
    held = done.request->out.ctx;
    request_free(done.request);

    r = request(stranger, INGLE_REQ_TAKE_CTX, 3, prompt, 0, 0);
    r->in.ctx = held;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, -EACCES); /* another tenant */
    request_free(done.request);

    r = request(b, INGLE_REQ_TAKE_CTX, 4, prompt, 0, 0);
    r->in.ctx = held;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, 0);
    theirs = done.request->out.ctx;
    request_free(done.request);

    r = request(b, INGLE_REQ_GENERATE, 5, prompt, 0, 3); /* nothing new: it goes on from the tail */
    r->in.ctx = theirs;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, 3);
    request_free(done.request);

    r = request(b, INGLE_REQ_CLOSE_CTX, 6, prompt, 0, 0);
    r->in.ctx = ctx;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, -ENOENT); /* not b's */
    request_free(done.request);

    r = request(a, INGLE_REQ_CLOSE_CTX, 7, prompt, 0, 0);
    r->in.ctx = ctx;
    submit(&f, r);
    done = next_reply(&f);
    assert_int_equal(done.res, 0);
    request_free(done.request);
    fixture_fini(&f);
    client_free(a);
    client_free(b);
    client_free(stranger);
}

static void a_prompt_seen_before_is_not_computed_again(void **state)
{
    struct fixture f;
    struct client *a, *b, *stranger;
    int32_t prompt[1000];
    struct ingle_from_step done;
    uint32_t cached[3];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        prompt[i] = i * i % 900;
    }
    fixture_init(&f);
    a = attach(1, 1, 1024);
    b = attach(2, 1, 1024);
    stranger = attach(3, 2, 1024);
    for (int i = 0; i < 3; i++) {
        submit(&f, request(i == 0   ? a
                           : i == 1 ? b
                                    : stranger,
                           INGLE_REQ_GENERATE, 1, prompt, 1000, 2));
        done = next_reply(&f);
        assert_int_equal(done.res, 2);
        cached[i] = done.request->out.n_cached;
        request_free(done.request);
    }
    assert_int_equal(cached[0], 0);
    assert_in_range(cached[1], 1000 - 2 * INGLE_PAGE_TOKENS, 999);
    assert_int_equal(cached[2], 0);
    fixture_fini(&f);
    client_free(a);
    client_free(b);
    client_free(stranger);
}

/* Prompts alone go by 512 rows, beside a stream by 256 with its own. */
static void a_step_is_shorter_while_somebody_waits_for_a_token(void **state)
{
    static const uint32_t n_streamed[] = {0, 3}, n_steps[] = {2, 4};
    static int32_t prompt[1024];

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct fixture f;
        struct client *a, *b;

        fixture_create(&f);
        a = attach(1, 1, 64);
        b = attach(2, 2, 64);
        if (n_streamed[i] > 0) {
            submit(&f, request(a, INGLE_REQ_GENERATE, 1, prompt, 1, n_streamed[i]));
        }
        submit(&f, request(b, INGLE_REQ_GENERATE, 2, prompt, 1024, 1));
        fixture_start(&f);
        for (uint32_t done = 0; done < 1 + (n_streamed[i] > 0); done++) {
            request_free(next_reply(&f).request);
        }
        /* 512, 512; 1 + 511, 1 + 255, 1 + 255, 3 */
        assert_int_equal(atomic_load_explicit(&ingle_sched_stats(f.sched)->n_steps,
                                              memory_order_relaxed),
                         n_steps[i]);
        fixture_fini(&f);
        client_free(a);
        client_free(b);
    }
}

static void detaching_ends_everything_of_that_client_only(void **state)
{
    struct fixture f;
    struct client *gone, *stays;
    int32_t prompt[4] = {1, 2, 3, 4};
    struct ingle_to_step detach = {.kind = INGLE_TO_STEP_DETACH};
    struct ingle_from_step msg;
    uint32_t n_cancelled = 0;

    (void)state;
    fixture_init(&f);
    gone = attach(1, 1, 16);
    stays = attach(2, 1, 1024);
    for (uint64_t i = 0; i < 100; i++) { /* more than can run at once */
        submit(&f, request(gone, INGLE_REQ_GENERATE, i, prompt, 4, 0));
    }
    submit(&f, request(stays, INGLE_REQ_GENERATE, 5, prompt, 4, 100));
    detach.port = &gone->port;
    assert_true(ingle_sched_send(f.sched, &detach));
    while ((msg = next_reply(&f)).kind != INGLE_FROM_STEP_DETACHED) {
        assert_int_equal(msg.kind, INGLE_FROM_STEP_DONE);
        n_cancelled += msg.request->in.port == &gone->port && msg.res == -ECANCELED ? 1 : 0;
        request_free(msg.request);
    }
    assert_int_equal(n_cancelled, 100);
    client_free(gone); /* step does not touch it any more */
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(next_tok(stays).token, null_token(4, i));
    }
    msg = next_reply(&f);
    assert_int_equal(msg.res, 100);
    request_free(msg.request);
    fixture_fini(&f);
    client_free(stays);
}

static void records_pass_through_a_ring_smaller_than_they_are(void **state)
{
    struct fixture f;
    struct client *c;
    struct ingle_request *r;
    struct ingle_from_step done;
    int32_t none = 0;

    (void)state;
    fixture_init(&f);
    c = attach(1, 1, 16);
    r = request(c, INGLE_REQ_RECORDS, 3, &none, 0, 0);
    r->in.n_records = 1000;
    r->in.records = calloc(1000, sizeof *r->in.records);
    r->in.record_text = calloc(1000, 4);
    for (uint32_t i = 0; i < 1000; i++) {
        r->in.records[i] = (struct ingle_tok){.token = i * 3, .index = i, .text_len = 4};
        memcpy(r->in.record_text + i * 4, &i, 4);
    }
    submit(&f, r);
    for (uint32_t i = 0; i < 1000; i++) {
        struct ingle_tok tok = next_tok(c);

        assert_int_equal(tok.token, i * 3);
        assert_int_equal(tok.user_data, 3);
        assert_memory_equal(c->text, &i, 4);
    }
    done = next_reply(&f);
    assert_int_equal(done.res, 1000);
    request_free(done.request);
    fixture_fini(&f);
    client_free(c);
}

static void a_lying_reader_is_dropped_and_told_of_once(void **state)
{
    struct fixture f;
    struct client *liar, *honest;
    int32_t prompt[4] = {1, 2, 3, 4};
    struct ingle_from_step msg;
    uint32_t n_bad = 0, n_done = 0;

    (void)state;
    fixture_init(&f);
    liar = attach(1, 1, 16);
    honest = attach(2, 1, 1024);
    ((struct ingle_c2s_ctl *)liar->c2s)->tk_head = 1u << 30;
    submit(&f, request(liar, INGLE_REQ_GENERATE, 1, prompt, 4, 100));
    submit(&f, request(liar, INGLE_REQ_GENERATE, 2, prompt, 4, 100));
    submit(&f, request(honest, INGLE_REQ_GENERATE, 3, prompt, 4, 100));
    while (n_done < 3 || n_bad < 1) {
        msg = next_reply(&f);
        n_bad += msg.kind == INGLE_FROM_STEP_PORT_BAD ? 1 : 0;
        if (msg.kind == INGLE_FROM_STEP_DONE) {
            n_done++;
            assert_int_equal(msg.res, msg.request->in.port == &honest->port ? 100 : -ECANCELED);
            request_free(msg.request);
        }
    }
    assert_int_equal(n_bad, 1);
    fixture_fini(&f);
    client_free(liar);
    client_free(honest);
}

static void step_allocates_nothing(void **state)
{
    struct fixture f;
    struct client *c;
    int32_t prompt[600];
    uint64_t before;
    struct ingle_from_step done;

    (void)state;
    for (int i = 0; i < 600; i++) {
        prompt[i] = i % 500;
    }
    fixture_init(&f);
    c = attach(1, 1, 1024);
    before = ingle_mem_watched_calls();
    for (int i = 0; i < 20; i++) {
        prompt[0] = i;
        submit(&f, request(c, INGLE_REQ_GENERATE, 1, prompt, 600, 20));
        for (uint32_t k = 0; k < 20; k++) {
            (void)next_tok(c);
        }
        done = next_reply(&f);
        assert_int_equal(done.res, 20);
        request_free(done.request);
    }
    assert_int_equal(ingle_mem_watched_calls(), before);
    fixture_fini(&f);
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_dense_and_ends_before_its_completion),
        cmocka_unit_test(a_full_ring_parks_the_sequence_and_loses_nothing),
        cmocka_unit_test(latest_gives_up_where_others_park),
        cmocka_unit_test(a_cancelled_request_is_done_before_the_cancel_is_answered),
        cmocka_unit_test(a_context_is_kept_forked_handed_over_and_closed),
        cmocka_unit_test(a_prompt_seen_before_is_not_computed_again),
        cmocka_unit_test(a_step_is_shorter_while_somebody_waits_for_a_token),
        cmocka_unit_test(detaching_ends_everything_of_that_client_only),
        cmocka_unit_test(records_pass_through_a_ring_smaller_than_they_are),
        cmocka_unit_test(a_lying_reader_is_dropped_and_told_of_once),
        cmocka_unit_test(step_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
