/* The tables that io keeps: budget, tenants, capability tokens. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/units.h"
#include "runtime/session/caps.h"
#include "runtime/session/ledger.h"
#include "runtime/session/limits.h"
#include "runtime/session/tenant.h"
#include "shm/layout.h"

/* ---- ledger ---------------------------------------------------------------------------------- */

static void hold(struct ingle_ledger *ledger, const char *name, const char *owner, uint64_t bytes)
{
    struct ingle_pool *pool = ingle_ledger_open(ledger, name, owner);

    assert_non_null(pool);
    pool->bytes = bytes;
}

static void what_fits_is_admitted_to_the_last_byte(void **state)
{
    struct ingle_ledger ledger;

    (void)state;
    ingle_ledger_init(&ledger, 1000);
    hold(&ledger, "weights", "a", 400);
    assert_int_equal(ingle_ledger_admit(&ledger, "x", 600, NULL), 0);
    assert_int_equal(ingle_ledger_admit(&ledger, "x", 601, NULL), -ENOMEM);
    assert_int_equal(ingle_ledger_admit(&ledger, "x", UINT64_MAX, NULL), -ENOMEM);
    assert_true(ingle_ledger_used(&ledger) == 400);
}

static void a_refusal_names_holders_and_what_to_try(void **state)
{
    struct ingle_ledger ledger;
    struct ingle_error err = {0};

    (void)state;
    ingle_ledger_init(&ledger, 16 * INGLE_GIB);
    hold(&ledger, "rings", "clients", 1 * INGLE_MIB);
    hold(&ledger, "weights", "llama-chat", 10 * INGLE_GIB);
    hold(&ledger, "kv", "llama-chat", 2 * INGLE_GIB);
    hold(&ledger, "weights", "small", 1 * INGLE_GIB);
    assert_int_equal(ingle_ledger_admit(&ledger, "model \"qwen-fim\"", UINT64_C(5476083302), &err),
                     -ENOMEM);
    assert_int_equal(err.kind, INGLE_ERR_REFUSED);
    assert_non_null(strstr(err.text, "model \"qwen-fim\" needs 5.1 GiB, budget has 3.0 GiB of"));
    assert_non_null(
        strstr(err.text, "(held by: llama-chat 12.0 GiB, small 1.0 GiB, clients 1.0 MiB)"));
    assert_non_null(strstr(err.text, "Try: ingle unload llama-chat, or"));
}

static void a_closed_pool_gives_its_bytes_back(void **state)
{
    struct ingle_ledger ledger;
    struct ingle_pool *pool;

    (void)state;
    ingle_ledger_init(&ledger, 100);
    for (uint32_t i = 0; i < INGLE_LEDGER_POOLS_MAX; i++) {
        hold(&ledger, "kv", "m", 0);
    }
    assert_null(ingle_ledger_open(&ledger, "kv", "one too many"));
    ingle_ledger_close(&ledger.pools[5]);
    pool = ingle_ledger_open(&ledger, "kv", "again");
    assert_ptr_equal(pool, &ledger.pools[5]);
    pool->bytes = 100;
    assert_int_equal(ingle_ledger_admit(&ledger, "x", 1, NULL), -ENOMEM);
    ingle_ledger_close(pool);
    ingle_ledger_close(NULL);
    assert_int_equal(ingle_ledger_admit(&ledger, "x", 100, NULL), 0);
}

/* ---- tenants --------------------------------------------------------------------------------- */

static void a_tenant_is_a_uid_and_a_label(void **state)
{
    struct ingle_tenants tenants = {0};
    struct ingle_tenant *a, *b, *c, *d;
    const uint8_t none[32] = {0}, key[32] = "key-1";

    (void)state;
    assert_int_equal(ingle_tenant_enter(&tenants, 1000, none, &a), 0);
    assert_int_equal(ingle_tenant_enter(&tenants, 1000, key, &b), 0);
    assert_int_equal(ingle_tenant_enter(&tenants, 1001, none, &c), 0);
    assert_int_equal(ingle_tenant_enter(&tenants, 1000, none, &d), 0);
    assert_ptr_equal(a, d);
    assert_int_equal(a->n_sessions, 2);
    assert_ptr_not_equal(a, b);
    assert_int_not_equal(a->index, b->index);
    assert_int_not_equal(a->index, c->index);
    assert_memory_not_equal(a->secret, b->secret, sizeof a->secret);
    ingle_tenants_fini(&tenants);
}

static void a_tenant_without_sessions_makes_room_and_one_with_stays(void **state)
{
    struct ingle_tenants tenants = {0};
    struct ingle_tenant *first, *tenant, *again;
    uint8_t label[32] = {0};
    uint32_t index;

    (void)state;
    assert_int_equal(ingle_tenant_enter(&tenants, 1, label, &first), 0);
    for (uint32_t i = 1; i < INGLE_TENANTS_MAX; i++) {
        (void)snprintf((char *)label, sizeof label, "%u", i);
        assert_int_equal(ingle_tenant_enter(&tenants, 1, label, &tenant), 0);
    }
    assert_int_equal(ingle_tenant_enter(&tenants, 2, label, &tenant), -EUSERS);
    index = first->index;
    ingle_tenant_leave(first);
    assert_int_equal(ingle_tenant_enter(&tenants, 2, label, &again), 0);
    assert_true(again->index > index); /* an index is never given twice */
    assert_int_equal(tenants.n, INGLE_TENANTS_MAX);
    ingle_tenants_fini(&tenants);
}

/* ---- capability tokens ----------------------------------------------------------------------- */

static void a_token_is_found_by_its_tenant_alone(void **state)
{
    struct ingle_caps caps = {0};
    struct ingle_cap cap = {.held_ctx = 77, .tenant = 3, .owner = 1}, *row;
    uint8_t token[32];

    (void)state;
    assert_int_equal(ingle_caps_add(&caps, &cap, &row), 0);
    memcpy(token, row->token, sizeof token);
    assert_ptr_equal(ingle_caps_find(&caps, token, 3), row);
    assert_null(ingle_caps_find(&caps, token, 4));
    for (uint32_t i = 0; i < 32; i++) {
        token[i] ^= 1;
        assert_null(ingle_caps_find(&caps, token, 3));
        token[i] ^= 1;
    }
    ingle_caps_remove(&caps, row);
    assert_null(ingle_caps_find(&caps, token, 3));
    ingle_caps_fini(&caps);
}

static void a_client_has_only_so_many_tokens(void **state)
{
    struct ingle_caps caps = {0};
    struct ingle_cap cap = {.tenant = 1, .owner = 1}, *row;

    (void)state;
    for (uint32_t i = 0; i < INGLE_CAPS_PER_SESSION; i++) {
        assert_int_equal(ingle_caps_add(&caps, &cap, &row), 0);
    }
    assert_int_equal(ingle_caps_add(&caps, &cap, &row), -ENOSPC);
    cap.owner = 2;
    assert_int_equal(ingle_caps_add(&caps, &cap, &row), 0);
    for (uint32_t i = 0; i + 1 < caps.n; i++) {
        assert_memory_not_equal(caps.all[i].token, caps.all[i + 1].token, 32);
    }
    ingle_caps_fini(&caps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_admitted_to_the_last_byte),
        cmocka_unit_test(a_refusal_names_holders_and_what_to_try),
        cmocka_unit_test(a_closed_pool_gives_its_bytes_back),
        cmocka_unit_test(a_tenant_is_a_uid_and_a_label),
        cmocka_unit_test(a_tenant_without_sessions_makes_room_and_one_with_stays),
        cmocka_unit_test(a_token_is_found_by_its_tenant_alone),
        cmocka_unit_test(a_client_has_only_so_many_tokens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
