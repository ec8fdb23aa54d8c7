/* Contexts that are kept and handed on, over the real socket: export, import, revoke, lifetimes,
 * other tenants, and how many one client may keep. Usage: tokens SOCKET (an ingled with the null
 * engine) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/c/ingle.h"

static const char *socket_path;

static struct ingle_client *attach(const char *label)
{
    struct ingle_attach_options options = {.socket_path = socket_path,
                                           .name = "tokens",
                                           .label = label};
    struct ingle_client *client = NULL;
    char err[256];

    if (ingle_attach(&options, &client, err, sizeof err) < 0) {
        fail_msg("%s", err);
    }
    return client;
}

/* A kept context over some text; returns its id, or the completion's error in *ret_res. */
static uint64_t keep(struct ingle_client *client, int *ret_res)
{
    static const char text[] = "a text that is worth keeping";
    struct ingle_generate g;
    struct ingle_event_info done;

    ingle_generate_init(&g);
    g.user_data = 5;
    g.payload = text;
    g.payload_bytes = sizeof text - 1;
    g.keep_ctx = 1;
    assert_int_equal(ingle_append(client, &g), 0);
    assert_true(ingle_await(client, 5, 10000, NULL, NULL, &done) >= 0);
    *ret_res = done.res;
    return done.ctx;
}

static void a_token_hands_a_context_on_until_it_is_revoked(void **state)
{
    struct ingle_client *a = attach(NULL), *b = attach(NULL);
    char token[INGLE_TOKEN_TEXT], bad[INGLE_TOKEN_TEXT];
    uint64_t ctx, got = 0;
    uint32_t n = 0;
    int res;

    (void)state;
    ctx = keep(a, &res);
    assert_true(res > 0);
    assert_int_equal(ingle_ctx_export(a, ctx, 0, 0, token), 0);
    for (int i = 0; i < 3; i++) { /* any number of times */
        assert_int_equal(ingle_ctx_import(b, token, &got, &n), 0);
        assert_int_not_equal(got, 0);
        assert_int_equal((int)n, res);
    }
    memcpy(bad, token, sizeof bad);
    bad[10] = bad[10] == 'A' ? 'B' : 'A';
    assert_int_equal(ingle_ctx_import(b, bad, &got, &n), -ENOENT);
    assert_true(ingle_ctx_import(b, "no token at all", &got, &n) < 0);
    assert_true(ingle_ctx_export(b, ctx, 0, 0, bad) < 0); /* a's, not b's */
    assert_true(ingle_ctx_export(a, ctx + 1000, 0, 0, bad) < 0);
    assert_int_equal(ingle_ctx_revoke(a, token), 0);
    assert_int_equal(ingle_ctx_import(b, token, &got, &n), -ENOENT);
    assert_true(ingle_ctx_revoke(a, token) < 0);
    ingle_detach(a);
    ingle_detach(b);
}

static void uses_and_time_run_out(void **state)
{
    struct ingle_client *a = attach(NULL), *b = attach(NULL);
    char once[INGLE_TOKEN_TEXT], brief[INGLE_TOKEN_TEXT];
    uint64_t ctx, got;
    uint32_t n;
    int res;

    (void)state;
    ctx = keep(a, &res);
    assert_int_equal(ingle_ctx_export(a, ctx, 0, 1, once), 0);
    assert_int_equal(ingle_ctx_export(a, ctx, 1, 0, brief), 0);
    assert_int_equal(ingle_ctx_import(b, once, &got, &n), 0);
    assert_int_equal(ingle_ctx_import(b, once, &got, &n), -ENOENT);
    assert_int_equal(ingle_ctx_import(b, brief, &got, &n), 0);
    (void)sleep(2);
    assert_int_equal(ingle_ctx_import(b, brief, &got, &n), -ENOENT);
    ingle_detach(a);
    ingle_detach(b);
}

static void another_tenant_cannot_import(void **state)
{
    struct ingle_client *a = attach(NULL), *stranger = attach("somebody else");
    char token[INGLE_TOKEN_TEXT];
    uint64_t ctx, got;
    uint32_t n;
    int res;

    (void)state;
    ctx = keep(a, &res);
    assert_int_equal(ingle_ctx_export(a, ctx, 0, 0, token), 0);
    assert_true(ingle_ctx_import(stranger, token, &got, &n) < 0);
    ingle_detach(a);
    ingle_detach(stranger);
}

static void a_client_keeps_a_bounded_number_of_contexts(void **state)
{
    struct ingle_client *a = attach(NULL);
    struct ingle_event_info done;
    uint64_t last = 0;
    int res = 0, n = 0;

    (void)state;
    while (n < 200) {
        uint64_t ctx = keep(a, &res);

        if (res < 0) {
            break;
        }
        last = ctx;
        n++;
    }
    assert_in_range(n, 8, 64);
    assert_true(res < 0);
    assert_int_equal(ingle_ctx_close(a, last, 9), 0);
    assert_true(ingle_await(a, 9, 10000, NULL, NULL, &done) >= 0);
    assert_int_equal(done.res, 0);
    (void)keep(a, &res); /* one was given back */
    assert_true(res > 0);
    ingle_detach(a);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_hands_a_context_on_until_it_is_revoked),
        cmocka_unit_test(uses_and_time_run_out),
        cmocka_unit_test(another_tenant_cannot_import),
        cmocka_unit_test(a_client_keeps_a_bounded_number_of_contexts),
    };

    if (argc != 2) {
        return 2;
    }
    socket_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
