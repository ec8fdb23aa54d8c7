/* Contexts, chunks and pages without any arithmetic: the null backend gives memory, commit stands
 * for a step that has run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/kv/context.h"

#define MARKER 7 /* the structural token of these tests */

struct fixture {
    struct ingle_backend *backend;
    struct ingle_kv_pool pool;
    struct ingle_chunk_store store;
    struct ingle_context_set set;
};

static bool is_marker(const void *arg, int32_t token)
{
    (void)arg;
    return token == MARKER;
}

static void fixture_init_chunks(struct fixture *f, uint8_t kv_bits, uint64_t kv_bytes,
                                uint32_t window, uint32_t n_chunks)
{
    struct ingle_kv_shape shape = {
        .n_groups = window == 0 ? 1 : 2, .Hk = 1, .D = 16, .group_layers = {1, 2}};
    uint32_t windows[INGLE_GROUPS_MAX] = {0, window};

    assert_int_equal(ingle_backend_null_create(&f->backend, NULL), 0);
    assert_int_equal(ingle_kv_pool_init(&f->pool, f->backend, &shape, kv_bits, kv_bytes, 48, NULL),
                     0);
    assert_int_equal(ingle_chunk_store_init(&f->store, &f->pool, n_chunks, NULL), 0);
    assert_int_equal(ingle_context_set_init(&f->set, &f->pool, &f->store, 12, 4096, windows, NULL),
                     0);
}

static void fixture_init(struct fixture *f, uint8_t kv_bits, uint64_t kv_bytes, uint32_t window)
{
    fixture_init_chunks(f, kv_bits, kv_bytes, window, 4096);
}

static void fixture_fini(struct fixture *f)
{
    while (ingle_chunk_evict(&f->store)) {
    }
    assert_int_equal(f->store.n_free, f->store.n_chunks); /* nobody has kept a chunk */
    for (uint32_t g = 0; g < f->pool.shape.n_groups; g++) {
        for (uint32_t u = 0; u < INGLE_USE_COUNT; u++) {
            assert_int_equal(f->pool.slabs[g][u].n_free,
                             f->pool.slabs[g][u].n_pages); /* nor a page */
        }
    }
    assert_int_equal(f->pool.bytes_used, 0);
    ingle_context_set_fini(&f->set);
    ingle_chunk_store_fini(&f->store);
    ingle_kv_pool_fini(&f->pool);
    ingle_backend_destroy(f->backend);
}

static void fill_text(int32_t *tokens, uint32_t n, unsigned seed)
{
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        tokens[i] = (int32_t)((seed >> 16) % 500u);
    }
}

/* Feed all of it in pieces of at most `cut` tokens. */
static void feed(struct fixture *f, struct ingle_context *c, const int32_t *tokens, uint32_t n,
                 uint32_t cut)
{
    while (n > 0) {
        uint32_t want = n < cut ? n : cut;
        uint32_t got = ingle_context_plan(&f->set, c, tokens, want, is_marker, NULL);

        assert_int_equal(got, want);
        ingle_context_commit(&f->set, c);
        tokens += got;
        n -= got;
    }
}

static void check_cover(const struct fixture *f, const struct ingle_context *c)
{
    for (uint32_t g = 0; g < f->pool.shape.n_groups; g++) {
        uint32_t at = 0;

        for (uint32_t s = 0; s < c->n_spans; s++) {
            const struct ingle_kv_span *span = &c->spans[g][s];

            assert_int_equal(span->base + span->first, at);
            assert_in_range(span->n_tokens, 1, INGLE_PAGE_TOKENS);
            assert_int_equal(span->seal, 0); /* between steps nothing waits to be sealed */
            assert_true((span->open != NULL) == (s >= c->span_sealed));
            at += span->n_tokens;
        }
        assert_int_equal(at, c->n_tokens);
    }
}

static void pages_do_not_depend_on_how_the_prompt_was_cut(void **state)
{
    static const uint32_t cuts[] = {1, 7, 32, 64, 256, 4096};
    struct fixture f;
    int32_t tokens[1500];
    uint32_t n_spans = 0;

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    fill_text(tokens, 1500, 1);
    for (uint32_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct ingle_context *c =
            ingle_context_open(&f.set, i); /* tenants apart: nothing is reused */

        feed(&f, c, tokens, 1500, cuts[i]);
        check_cover(&f, c);
        assert_true(i == 0 || c->n_spans == n_spans);
        n_spans = c->n_spans;
        for (uint32_t s = 0; i > 0 && s < n_spans; s++) {
            assert_int_equal(c->spans[0][s].n_tokens, f.set.contexts[0].spans[0][s].n_tokens);
            assert_int_equal(c->spans[0][s].base, f.set.contexts[0].spans[0][s].base);
        }
    }
    for (uint32_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        ingle_context_close(&f.set, &f.set.contexts[i]);
    }
    fixture_fini(&f);
}

static void a_known_prompt_is_taken_over_but_for_its_last_page(void **state)
{
    struct fixture f;
    struct ingle_context *a, *b;
    int32_t tokens[1000];
    uint32_t known;

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    fill_text(tokens, 1000, 2);
    a = ingle_context_open(&f.set, 1);
    feed(&f, a, tokens, 1000, 256);
    b = ingle_context_open(&f.set, 1);
    known = ingle_context_adopt(&f.set, b, tokens, 1000, is_marker, NULL);
    assert_in_range(known, 1000 - 2 * INGLE_PAGE_TOKENS, 999);
    for (uint32_t s = 0; s < b->n_spans; s++) {
        assert_ptr_equal(b->spans[0][s].sealed, a->spans[0][s].sealed); /* one copy */
    }
    feed(&f, b, tokens + known, 1000 - known, 64);
    check_cover(&f, b);
    assert_int_equal(b->n_spans, a->n_spans);
    ingle_context_close(&f.set, a);
    ingle_context_close(&f.set, b);
    fixture_fini(&f);
}

static void texts_that_part_share_the_whole_pages_before(void **state)
{
    struct fixture f;
    struct ingle_context *a, *b;
    int32_t one[600], two[600];
    uint32_t known;

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    fill_text(one, 600, 3);
    memcpy(two, one, sizeof one);
    two[400]++;
    a = ingle_context_open(&f.set, 1);
    feed(&f, a, one, 600, 600);
    b = ingle_context_open(&f.set, 1);
    known = ingle_context_adopt(&f.set, b, two, 600, is_marker, NULL);
    assert_in_range(known, 400 - INGLE_PAGE_TOKENS - INGLE_CUT_MIN, 400);
    feed(&f, b, two + known, 600 - known, 600);
    check_cover(&f, b);
    ingle_context_close(&f.set, a);
    ingle_context_close(&f.set, b);
    fixture_fini(&f);
}

/* The record for the new chunk must not come from the very chunk whose pages it is to share. */
static void a_chunk_that_is_being_taken_over_is_not_evicted(void **state)
{
    struct fixture f;
    struct ingle_context *c;
    int32_t known[70], other[70], asked[100];

    (void)state;
    fixture_init_chunks(&f, 8, 4 << 20, 0, 2);
    for (int32_t i = 0; i < 70; i++) {
        known[i] = i;
        other[i] = 1000 + i;
    }
    fill_text(asked, 100, 12);
    memcpy(asked, known, sizeof known);
    c = ingle_context_open(&f.set, 1);
    feed(&f, c, known, 70, 70); /* the older of the two: the first to go */
    assert_int_equal(c->n_entries, 1);
    ingle_context_close(&f.set, c);
    c = ingle_context_open(&f.set, 1);
    feed(&f, c, other, 70, 70);
    assert_int_equal(c->n_entries, 1);
    ingle_context_close(&f.set, c);
    assert_int_equal(f.store.n_free, 0);
    c = ingle_context_open(&f.set, 1);
    assert_int_equal(ingle_context_adopt(&f.set, c, asked, 100, is_marker, NULL),
                     INGLE_PAGE_TOKENS);
    assert_int_equal(f.store.n_evicted, 1);
    check_cover(&f, c);
    ingle_context_close(&f.set, c);
    fixture_fini(&f);
}

static void another_tenant_finds_nothing(void **state)
{
    struct fixture f;
    struct ingle_context *a, *b;
    int32_t tokens[500];

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    fill_text(tokens, 500, 4);
    a = ingle_context_open(&f.set, 1);
    feed(&f, a, tokens, 500, 128);
    b = ingle_context_open(&f.set, 2);
    assert_int_equal(ingle_context_adopt(&f.set, b, tokens, 500, is_marker, NULL), 0);
    ingle_context_close(&f.set, a);
    ingle_context_close(&f.set, b);
    fixture_fini(&f);
}

static void equal_contexts_side_by_side_end_with_one_copy(void **state)
{
    struct fixture f;
    struct ingle_context *a, *b;
    int32_t tokens[900];

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    fill_text(tokens, 900, 5);
    a = ingle_context_open(&f.set, 1);
    b = ingle_context_open(&f.set, 1);
    for (uint32_t i = 0; i < 900; i += 50) { /* in turn: neither can take over from the other */
        feed(&f, a, tokens + i, 50, 50);
        feed(&f, b, tokens + i, 50, 50);
    }
    check_cover(&f, a);
    check_cover(&f, b);
    for (uint32_t i = 0; i + 1 < a->n_entries; i++) {
        assert_ptr_equal(a->entries[i].chunk, b->entries[i].chunk); /* closed chunks were merged */
    }
    ingle_context_close(&f.set, a);
    ingle_context_close(&f.set, b);
    fixture_fini(&f);
}

static void markers_cut_but_never_into_crumbs(void **state)
{
    struct fixture f;
    struct ingle_context *c;
    int32_t tokens[2000];

    (void)state;
    fixture_init(&f, 8, 4 << 20, 0);
    for (uint32_t i = 0; i < 2000; i++) {
        tokens[i] = MARKER;
    }
    c = ingle_context_open(&f.set, 1);
    feed(&f, c, tokens, 2000, 100);
    check_cover(&f, c);
    assert_in_range(c->n_spans, 2000 / INGLE_PAGE_TOKENS, 2000 / INGLE_CUT_STRUCT_MIN);
    for (uint32_t s = 0; s + 1 < c->n_spans; s++) {
        assert_true(c->spans[0][s].n_tokens >= INGLE_CUT_STRUCT_MIN);
    }
    ingle_context_close(&f.set, c);
    fixture_fini(&f);
}

static void a_fork_shares_sealed_pages_and_copies_the_open_one(void **state)
{
    struct fixture f;
    struct ingle_context *a, *b;
    int32_t tokens[300];

    (void)state;
    fixture_init(&f, 16, 8 << 20, 0);
    fill_text(tokens, 300, 6);
    a = ingle_context_open(&f.set, 1);
    feed(&f, a, tokens, 210, 210);
    assert_true(a->span_sealed < a->n_spans);
    memset(a->spans[0][a->n_spans - 1].open, 0x5a, 64);
    b = ingle_context_fork(&f.set, a, 1);
    assert_non_null(b);
    check_cover(&f, b);
    for (uint32_t s = 0; s < a->span_sealed; s++) {
        assert_ptr_equal(a->spans[0][s].sealed, b->spans[0][s].sealed);
    }
    assert_ptr_not_equal(a->spans[0][a->n_spans - 1].open, b->spans[0][b->n_spans - 1].open);
    assert_memory_equal(a->spans[0][a->n_spans - 1].open, b->spans[0][b->n_spans - 1].open, 64);
    feed(&f, a, tokens + 210, 90, 10);
    feed(&f, b, tokens + 210, 90, 90);
    check_cover(&f, a);
    check_cover(&f, b);
    ingle_context_close(&f.set, a);
    ingle_context_close(&f.set, b);
    fixture_fini(&f);
}

static void a_small_pool_evicts_what_nobody_uses(void **state)
{
    struct fixture f;
    int32_t tokens[1000];

    (void)state;
    fixture_init(&f, 8, 400 << 10, 0);
    for (unsigned round = 0; round < 40; round++) {
        struct ingle_context *c = ingle_context_open(&f.set, 1);

        fill_text(tokens, 1000, 100 + round);
        feed(&f, c, tokens, 1000, 128);
        check_cover(&f, c);
        ingle_context_close(&f.set, c);
    }
    assert_true(f.store.n_evicted > 0);
    fixture_fini(&f);
}

static void a_full_pool_takes_fewer_tokens_and_recovers(void **state)
{
    struct fixture f;
    struct ingle_context *c, *d;
    int32_t tokens[4000];
    uint32_t got;

    (void)state;
    fixture_init(&f, 8, 200 << 10, 0);
    fill_text(tokens, 4000, 8);
    c = ingle_context_open(&f.set, 1);
    for (got = 0; got < 4000;) {
        uint32_t n = ingle_context_plan(&f.set, c, tokens + got, 64, is_marker, NULL);

        ingle_context_commit(&f.set, c);
        got += n;
        if (n == 0) {
            break;
        }
    }
    assert_in_range(got, 64, 3999);
    check_cover(&f, c);
    ingle_context_close(&f.set, c);
    d = ingle_context_open(&f.set, 2);
    feed(&f, d, tokens + 1000, 200, 64);
    check_cover(&f, d);
    ingle_context_close(&f.set, d);
    fixture_fini(&f);
}

static void windowed_pages_go_first_and_are_missed_when_they_matter(void **state)
{
    struct fixture f;
    struct ingle_context *c, *d;
    int32_t tokens[3000];
    uint32_t n_missing = 0, known;

    (void)state;
    fixture_init(&f, 8, 1 << 20, 128);
    fill_text(tokens, 3000, 9);
    c = ingle_context_open(&f.set, 1);
    feed(&f, c, tokens, 3000, 64);
    while (ingle_context_reclaim(&f.set)) {
    }
    for (uint32_t s = 0; s < c->n_spans; s++) {
        uint32_t end = c->spans[1][s].base + c->spans[1][s].first + c->spans[1][s].n_tokens;

        assert_non_null(s < c->span_sealed ? c->spans[0][s].sealed : c->spans[0][s].open);
        n_missing += s < c->span_sealed && c->spans[1][s].sealed == NULL ? 1 : 0;
        assert_true(end + 128 <= c->n_tokens || s >= c->span_sealed ||
                    c->spans[1][s].sealed != NULL);
    }
    assert_true(n_missing > 0);
    d = ingle_context_open(&f.set, 1);
    known = ingle_context_adopt(&f.set, d, tokens, 1500, is_marker, NULL);
    for (uint32_t s = 0; s < d->n_spans;
         s++) { /* whatever is taken over is complete in its window */
        uint32_t end = d->spans[1][s].base + d->spans[1][s].first + d->spans[1][s].n_tokens;

        assert_true(end + 128 <= known || d->spans[1][s].sealed != NULL);
    }
    feed(&f, d, tokens + known, 1500 - known, 64);
    ingle_context_close(&f.set, d);
    ingle_context_close(&f.set, c);
    fixture_fini(&f);
}

static void the_first_page_of_a_q4_domain_is_q8(void **state)
{
    struct fixture f;
    struct ingle_context *c;
    int32_t tokens[300];

    (void)state;
    fixture_init(&f, 4, 4 << 20, 0);
    fill_text(tokens, 300, 10);
    c = ingle_context_open(&f.set, 1);
    feed(&f, c, tokens, 300, 300);
    assert_int_equal(c->spans[0][0].form, INGLE_KV_Q8);
    for (uint32_t s = 1; s < c->n_spans; s++) {
        assert_int_equal(c->spans[0][s].form, INGLE_KV_Q4);
    }
    ingle_context_close(&f.set, c);
    fixture_fini(&f);
}

/* Random life: open, adopt, feed, fork and close in any order, under pressure; the invariants hold
 * after each action and everything returns at the end. */
static void nothing_is_lost_in_a_random_life(void **state)
{
    struct fixture f;
    struct ingle_context *live[8] = {0};
    static int32_t texts[6][2048];
    uint32_t text_of[8] = {0};
    unsigned seed = 42;

    (void)state;
    fixture_init(&f, 8, 1 << 20, 0);
    for (unsigned t = 0; t < 6; t++) {
        fill_text(texts[t], 2048, 77);                         /* alike ... */
        fill_text(texts[t] + 300 * t, 2048 - 300 * t, 78 + t); /* ... up to a point */
    }
    for (unsigned step = 0; step < 4000; step++) {
        uint32_t i, r;

        seed = seed * 1664525u + 1013904223u;
        i = (seed >> 8) % 8;
        r = (seed >> 16) % 100;
        if (live[i] == NULL) {
            live[i] = ingle_context_open(&f.set, (seed >> 24) % 2);
            assert_non_null(live[i]);
            text_of[i] = (seed >> 20) % 6;
            (void)ingle_context_adopt(&f.set, live[i], texts[text_of[i]], 600 + r, is_marker, NULL);
        } else if (r < 80) {
            uint32_t left = 2000 - live[i]->n_tokens, want = r + 1;

            (void)ingle_context_plan(&f.set, live[i], texts[text_of[i]] + live[i]->n_tokens,
                                     want < left ? want : left, is_marker, NULL);
            ingle_context_commit(&f.set, live[i]);
        } else if (r < 88) {
            uint32_t j = (i + 1) % 8;

            if (live[j] == NULL) {
                live[j] = ingle_context_fork(&f.set, live[i], live[i]->tenant);
                text_of[j] = text_of[i];
            }
        } else {
            ingle_context_close(&f.set, live[i]);
            live[i] = NULL;
        }
        for (uint32_t k = 0; k < 8; k++) {
            if (live[k] != NULL) {
                check_cover(&f, live[k]);
                assert_memory_equal(live[k]->tokens, texts[text_of[k]],
                                    live[k]->n_tokens * sizeof(int32_t));
            }
        }
    }
    for (uint32_t k = 0; k < 8; k++) {
        if (live[k] != NULL) {
            ingle_context_close(&f.set, live[k]);
        }
    }
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_do_not_depend_on_how_the_prompt_was_cut),
        cmocka_unit_test(a_known_prompt_is_taken_over_but_for_its_last_page),
        cmocka_unit_test(texts_that_part_share_the_whole_pages_before),
        cmocka_unit_test(a_chunk_that_is_being_taken_over_is_not_evicted),
        cmocka_unit_test(another_tenant_finds_nothing),
        cmocka_unit_test(equal_contexts_side_by_side_end_with_one_copy),
        cmocka_unit_test(markers_cut_but_never_into_crumbs),
        cmocka_unit_test(a_fork_shares_sealed_pages_and_copies_the_open_one),
        cmocka_unit_test(a_small_pool_evicts_what_nobody_uses),
        cmocka_unit_test(a_full_pool_takes_fewer_tokens_and_recovers),
        cmocka_unit_test(windowed_pages_go_first_and_are_missed_when_they_matter),
        cmocka_unit_test(the_first_page_of_a_q4_domain_is_q8),
        cmocka_unit_test(nothing_is_lost_in_a_random_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
