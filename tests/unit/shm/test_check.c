/* shm/check.c, proto.c and geometry.c: everything that a peer can say, said wrongly. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shm/check.h"
#include "shm/geometry.h"
#include "shm/proto.h"
#include "shm/region.h"
#include "tests/unit/shm/rig.h"

#define ARENA 4096u

static struct ingle_ctl_hdr hdr_of(uint16_t type, size_t bytes)
{
    return (struct ingle_ctl_hdr){.magic = INGLE_MAGIC,
                                  .type = type,
                                  .payload_bytes = (uint32_t)(bytes - 32),
                                  .n_fds = ingle_ctl_kind(type)->n_fds};
}

static struct ingle_ctl_hello good_hello(void)
{
    struct ingle_ctl_hello m = {.h = hdr_of(INGLE_CTL_HELLO, sizeof m),
                                .ver_min = 1,
                                .ver_max = 3,
                                .endian = INGLE_ENDIAN_TAG,
                                .name = "tester",
                                .label = "key 7"};
    return m;
}

static struct ingle_ctl_welcome good_welcome(void)
{
    struct ingle_ctl_hello hello = good_hello();
    struct ingle_ctl_welcome m = {.h = hdr_of(INGLE_CTL_WELCOME, sizeof m), .client_id = 1};

    ingle_geometry_plan(&hello, &m);
    return m;
}

static struct ingle_sqe good_generate(void)
{
    return (struct ingle_sqe){.op = INGLE_OP_GENERATE, .user_data = 1, .payload_bytes = 10};
}

/* ---- ranges ---------------------------------------------------------------------------------- */

static void range_that_wraps_is_refused(void **state)
{
    (void)state;
    assert_true(ingle_range_ok(0, 0, 0));
    assert_true(ingle_range_ok(5, 5, 10));
    assert_true(ingle_range_ok(10, 0, 10));
    assert_false(ingle_range_ok(5, 6, 10));
    assert_false(ingle_range_ok(11, 0, 10));
    assert_false(ingle_range_ok(UINT64_MAX, 2, 10));
    assert_false(ingle_range_ok(2, UINT64_MAX, 10));
    assert_false(ingle_range_ok(UINT64_MAX - 4, 5, 10));
    assert_true(ingle_range_ok(UINT64_MAX, 0, UINT64_MAX));
}

static void copy_in_takes_only_what_lies_inside(void **state)
{
    uint8_t from[16], to[16];

    (void)state;
    memset(from, 7, sizeof from);
    memset(to, 0, sizeof to);
    assert_int_equal(ingle_copy_in(to, from, sizeof from, 12, 4), 0);
    assert_int_equal(to[3], 7);
    assert_int_equal(to[4], 0);
    memset(to, 0, sizeof to);
    assert_int_equal(ingle_copy_in(to, from, sizeof from, 12, 5), -EPROTO);
    assert_int_equal(ingle_copy_in(to, from, sizeof from, 0xFFFFFFFFu, 1), -EPROTO);
    assert_int_equal(to[0], 0);
    assert_int_equal(ingle_copy_in(to, from, sizeof from, 16, 0), 0);
}

/* ---- headers --------------------------------------------------------------------------------- */

static void every_kind_has_a_name_and_bounds_that_its_struct_meets(void **state)
{
    (void)state;
    assert_null(ingle_ctl_kind(0));
    assert_null(ingle_ctl_kind(INGLE_CTL_TYPE_END));
    assert_null(ingle_ctl_kind(UINT32_MAX));
    for (uint32_t t = 1; t < INGLE_CTL_TYPE_END; t++) {
        const struct ingle_ctl_rule *k = ingle_ctl_kind(t);

        assert_non_null(k->name);
        assert_in_range(k->bytes_min, 32, k->bytes_max);
        assert_true(k->bytes_max <= INGLE_CTL_BYTES_MAX);
        assert_true(k->senders != 0);
    }
    assert_int_equal(ingle_ctl_kind(INGLE_CTL_HELLO)->bytes_max, sizeof(struct ingle_ctl_hello));
    assert_int_equal(ingle_ctl_kind(INGLE_CTL_WELCOME)->bytes_min,
                     sizeof(struct ingle_ctl_welcome));
    assert_int_equal(ingle_ctl_kind(INGLE_CTL_READY)->bytes_min, sizeof(struct ingle_ctl_ready));
    assert_int_equal(ingle_ctl_kind(INGLE_CTL_REJECT)->bytes_min, sizeof(struct ingle_ctl_reject));
    assert_int_equal(ingle_ctl_kind(INGLE_CTL_CTX_REPLY)->bytes_min, sizeof(struct ingle_ctl_ctx));
    assert_string_equal(ingle_reject_name(0), "unknown reason");
    assert_string_equal(ingle_reject_name(99), "unknown reason");
}

static void header_that_disagrees_with_its_datagram_is_refused(void **state)
{
    struct ingle_ctl_hdr good = hdr_of(INGLE_CTL_PING, 32), h, out;

    (void)state;
    assert_int_equal(ingle_check_hdr(&good, 32, INGLE_FROM_CLIENT, &out), 0);
    assert_int_equal(ingle_check_hdr(&good, 31, INGLE_FROM_CLIENT, &out), -EPROTO);
    assert_int_equal(ingle_check_hdr(&good, 0, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.magic ^= 1;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.payload_bytes = 1;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.payload_bytes = UINT32_MAX;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.type = 0;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.type = INGLE_CTL_TYPE_END;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.type = INGLE_CTL_LIVE; /* the runtime's to say */
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EPROTO);
    h = good, h.flags = INGLE_CTL_F_MORE;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EINVAL);
    h = good, h.n_fds = 1;
    assert_int_equal(ingle_check_hdr(&h, 32, INGLE_FROM_CLIENT, &out), -EINVAL);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void hello_is_answered_with_the_right_code(void **state)
{
    struct ingle_ctl_hello good = good_hello(), m, out;

    (void)state;
    assert_int_equal(ingle_check_hello(&good, sizeof good, &out), 0);
    assert_memory_equal(&good, &out, sizeof good);
    assert_int_equal(ingle_check_hello(&good, sizeof good - 1, &out), INGLE_REJECT_MALFORMED);
    m = good, m.endian = 0x04030201u;
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_ENDIAN);
    m = good, m.ver_min = 2;
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_VERSION);
    m = good, m.ver_max = 0;
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_VERSION);
    m = good, m.feat_need = 1ull << 63;
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_VERSION);
    m = good, m.feat_want = UINT64_MAX; /* wanting is free */
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), 0);
    m = good, m.rsv[15] = 1;
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_MALFORMED);
    m = good, memset(m.name, 'x', 32); /* no NUL */
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_MALFORMED);
    m = good, m.name[3] = '\n';
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_MALFORMED);
    m = good, m.label[31] = 'x'; /* something behind the NUL */
    assert_int_equal(ingle_check_hello(&m, sizeof m, &out), INGLE_REJECT_MALFORMED);
    for (uint32_t i = 0; i < 64; i++) {
        m = good, m.arena_log2 = i;
        assert_int_equal(ingle_check_hello(&m, sizeof m, &out),
                         i == 0 || (i >= 12 && i <= 24) ? 0 : INGLE_REJECT_MALFORMED);
        m = good, m.sq_log2 = i;
        assert_int_equal(ingle_check_hello(&m, sizeof m, &out),
                         i == 0 || (i >= 4 && i <= 10) ? 0 : INGLE_REJECT_MALFORMED);
    }
}

static void every_planned_geometry_is_accepted(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 400; i++) {
        struct ingle_ctl_hello hello = good_hello();
        struct ingle_ctl_welcome m = good_welcome(), out;
        uint64_t seed = i;

        hello.sq_log2 = i < 8 ? 0 : 4 + (uint32_t)(rig_random(&seed) % 7);
        hello.cq_log2 = i < 8 ? 0 : 4 + (uint32_t)(rig_random(&seed) % 9);
        hello.tk_log2 = i < 8 ? 0 : 6 + (uint32_t)(rig_random(&seed) % 11);
        hello.arena_log2 = i < 8 ? 0 : 12 + (uint32_t)(rig_random(&seed) % 13);
        ingle_geometry_plan(&hello, &m);
        assert_int_equal(ingle_check_welcome(&m, sizeof m, &out), 0);
        assert_int_equal(m.c2s_bytes % 4096, 0);
        assert_int_equal(m.s2c_bytes % 4096, 0);
        assert_true(m.max_inflight * 2 <= m.cq_n);
    }
}

static void welcome_with_any_field_out_of_place_is_refused(void **state)
{
    struct ingle_ctl_welcome good = good_welcome(), m, out;

    (void)state;
    assert_int_equal(ingle_check_welcome(&good, sizeof good, &out), 0);
#define REFUSED(change)                                                     \
    do {                                                                    \
        m = good;                                                           \
        change;                                                             \
        assert_int_equal(ingle_check_welcome(&m, sizeof m, &out), -EPROTO); \
    } while (0)
    REFUSED(m.ver = 2);
    REFUSED(m.sqe_bytes = 128);
    REFUSED(m.cqe_bytes = 16);
    REFUSED(m.tok_bytes = 0);
    REFUSED(m.rsv0[1] = 1);
    REFUSED(m.rsv[7] = 1);
    REFUSED(m.feat = 1);
    REFUSED(m.sq_n = 63);
    REFUSED(m.sq_n = 0);
    REFUSED(m.sq_n = 2048);
    REFUSED(m.cq_n = 8);
    REFUSED(m.tk_n = 0x80000000u);
    REFUSED(m.arena_bytes = 3 << 12);
    REFUSED(m.text_bytes = 32768);
    REFUSED(m.max_inflight = 0);
    REFUSED(m.max_inflight = m.cq_n);
    REFUSED(m.sq_off = 0);
    REFUSED(m.sq_off += 4);
    REFUSED(m.sq_off = 0xFFFFFFC0u);
    REFUSED(m.arena_off = m.c2s_bytes);
    REFUSED(m.arena_off = m.sq_off);
    REFUSED(m.c2s_bytes = 4096);
    REFUSED(m.cq_off = m.tk_off);
    REFUSED(m.tk_off = m.text_off);
    REFUSED(m.text_off = m.cq_off);
    REFUSED(m.s2c_bytes -= 1);
    REFUSED(m.text_off = 0xFFFFFFFFu);
    REFUSED(m.h.n_fds = 2);
#undef REFUSED
}

static void small_messages_are_copied_or_refused(void **state)
{
    struct ingle_ctl_ready ready = {.h = hdr_of(INGLE_CTL_READY, sizeof ready), .nonce = 5}, r;
    struct ingle_ctl_reject reject = {.h = hdr_of(INGLE_CTL_REJECT, sizeof reject), .code = 1}, j;

    (void)state;
    assert_int_equal(ingle_check_ready(&ready, sizeof ready, &r), 0);
    assert_int_equal(r.nonce, 5);
    assert_int_equal(ingle_check_ready(&ready, sizeof ready - 8, &r), -EPROTO);
    ready.h.type = INGLE_CTL_HELLO;
    assert_int_equal(ingle_check_ready(&ready, sizeof ready, &r), -EPROTO);

    memset(reject.text, 'x', sizeof reject.text);
    reject.text[1] = '\n';
    reject.text[2] = 0x1b;
    assert_int_equal(ingle_check_reject(&reject, sizeof reject, &j), 0);
    assert_int_equal(j.text[119], 0);
    assert_memory_equal(j.text, "x  x", 4);
    reject.h.n_fds = 1;
    assert_int_equal(ingle_check_reject(&reject, sizeof reject, &j), -EPROTO);
}

static void context_messages_say_what_they_need_and_no_more(void **state)
{
    struct ingle_ctl_ctx m = {.h = hdr_of(INGLE_CTL_CTX_EXPORT, sizeof m), .ctx = 1, .rights = 1};
    struct ingle_ctl_ctx out;

    (void)state;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), 0);
    m.rights = 4;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.rights = 0;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.rights = 3, m.ctx = 0;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.ctx = 1, m.token[31] = 1;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.token[31] = 0, m.rsv[2] = 1;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.rsv[2] = 0, m.res = -1;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);

    m = (struct ingle_ctl_ctx){.h = hdr_of(INGLE_CTL_CTX_IMPORT, sizeof m), .token = {1}};
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), 0);
    m.rights = INGLE_CTX_RIGHT_FORK;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), 0);
    m.uses = 1;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);
    m.uses = 0, m.token[0] = 0;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EINVAL);

    m = (struct ingle_ctl_ctx){.h = hdr_of(INGLE_CTL_CTX_REVOKE, sizeof m), .token = {1}};
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), 0);
    m.h.type = INGLE_CTL_CTX_REPLY;
    assert_int_equal(ingle_check_ctx(&m, sizeof m, &out), -EPROTO);

    assert_int_equal(ingle_check_ctx_reply(&m, sizeof m, &out), 0);
    m.res = 1;
    assert_int_equal(ingle_check_ctx_reply(&m, sizeof m, &out), -EPROTO);
    m.res = INT32_MIN;
    assert_int_equal(ingle_check_ctx_reply(&m, sizeof m, &out), -EPROTO);
}

static void admin_text_has_no_nul_and_ends_with_its_datagram(void **state)
{
    uint8_t msg[INGLE_CTL_BYTES_MAX + 1] = {0};
    struct ingle_ctl_hdr h = hdr_of(INGLE_CTL_ADMIN, 34), out;
    const char *text = NULL;
    size_t bytes = 0;

    (void)state;
    memcpy(msg, &h, sizeof h);
    memcpy(msg + 32, "{}", 2);
    assert_int_equal(ingle_check_admin(msg, 34, INGLE_FROM_CLIENT, &out, &text, &bytes), 0);
    assert_int_equal(bytes, 2);
    assert_memory_equal(text, "{}", 2);
    assert_int_equal(ingle_check_admin(msg, 33, INGLE_FROM_CLIENT, &out, &text, &bytes), -EPROTO);
    assert_int_equal(ingle_check_admin(msg, 34, INGLE_FROM_RUNTIME, &out, &text, &bytes), -EPROTO);
    msg[33] = 0;
    assert_int_equal(ingle_check_admin(msg, 34, INGLE_FROM_CLIENT, &out, &text, &bytes), -EINVAL);
    h.payload_bytes = INGLE_CTL_BYTES_MAX + 1 - 32;
    memset(msg, '1', sizeof msg);
    memcpy(msg, &h, sizeof h);
    assert_int_equal(ingle_check_admin(msg, sizeof msg, INGLE_FROM_CLIENT, &out, &text, &bytes),
                     -EPROTO);
    h = hdr_of(INGLE_CTL_ADMIN_REPLY, 34), h.flags = INGLE_CTL_F_MORE | INGLE_CTL_F_PROGRESS;
    memcpy(msg, &h, sizeof h);
    assert_int_equal(ingle_check_admin(msg, 34, INGLE_FROM_RUNTIME, &out, &text, &bytes), 0);
    h.flags = 4;
    memcpy(msg, &h, sizeof h);
    assert_int_equal(ingle_check_admin(msg, 34, INGLE_FROM_RUNTIME, &out, &text, &bytes), -EINVAL);
}

/* ---- submission entries ---------------------------------------------------------------------- */

static void payload_or_parameters_outside_of_the_arena_are_a_violation(void **state)
{
    struct ingle_sqe s = good_generate();

    (void)state;
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s.off = ARENA - 10;
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s.off = ARENA - 9;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
    s.off = 0xFFFFFFF6u; /* off + bytes wraps to 0 */
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
    s.off = 0, s.payload_bytes = UINT32_MAX;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
    s = good_generate(), s.par_off = ARENA - 71, s.par_bytes = 72;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
    s.par_off = UINT32_MAX;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
    s.par_off = ARENA - 72;
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s.op = INGLE_OP_NOP; /* a range is checked whatever the operation makes of it */
    s.par_off = ARENA - 71;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EPROTO);
}

static void unknown_operations_and_flags_have_their_own_answers(void **state)
{
    struct ingle_sqe s = good_generate();

    (void)state;
    for (uint32_t op = INGLE_OP_END; op < 256; op++) {
        s.op = (uint8_t)op;
        assert_int_equal(ingle_check_sqe(&s, ARENA), -ENOSYS);
        assert_int_equal(ingle_op_flags(op), 0);
    }
    s = good_generate(), s.flags = 0x40;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s.flags = 0x80;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s.flags = 3; /* no such payload kind */
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s = good_generate(), s.rsv = 1;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s = good_generate(), s.flags = INGLE_SQE_F_ALL & ~INGLE_SQE_F_PAYLOAD_MASK;
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s.op = INGLE_OP_EMBED; /* KEEP_CTX and LATEST mean nothing to it */
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
}

static void each_operation_refuses_the_fields_of_another(void **state)
{
    (void)state;
    for (uint8_t op = 0; op < INGLE_OP_END; op++) {
        bool wants_ctx = op == INGLE_OP_FORK_CTX || op == INGLE_OP_CLOSE_CTX;
        bool takes_payload = op != INGLE_OP_NOP && op != INGLE_OP_CANCEL && !wants_ctx;
        struct ingle_sqe good = {.op = op, .ctx = wants_ctx ? 1 : 0}, s;

        if (takes_payload) {
            good.payload_bytes = 8;
            good.flags = op == INGLE_OP_DETOKENIZE ? INGLE_PAYLOAD_IDS
                         : op == INGLE_OP_TEMPLATE ? INGLE_PAYLOAD_CHAT
                                                   : INGLE_PAYLOAD_TEXT;
        }
        assert_int_equal(ingle_check_sqe(&good, ARENA), 0);
        s = good, s.payload_bytes = 8, s.model = 1;
        assert_int_equal(ingle_check_sqe(&s, ARENA), takes_payload ? 0 : -EINVAL);
        s = good, s.max_tokens = 1;
        assert_int_equal(ingle_check_sqe(&s, ARENA), op == INGLE_OP_GENERATE ? 0 : -EINVAL);
        s = good, s.par_bytes = 72;
        assert_int_equal(ingle_check_sqe(&s, ARENA), op == INGLE_OP_GENERATE ? 0 : -EINVAL);
        s = good, s.resume_idx = 1;
        assert_int_equal(ingle_check_sqe(&s, ARENA), op == INGLE_OP_GENERATE ? 0 : -EINVAL);
        s = good, s.ctx = wants_ctx ? 0 : 9;
        assert_int_equal(ingle_check_sqe(&s, ARENA),
                         op == INGLE_OP_GENERATE || op == INGLE_OP_APPEND ? 0 : -EINVAL);
        s = good, s.user_data = UINT64_MAX, s.idem = 7;
        assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    }
}

static void empty_payload_is_refused_where_nothing_would_be_done(void **state)
{
    struct ingle_sqe s = {.op = INGLE_OP_GENERATE};

    (void)state;
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s.ctx = 4; /* goes on from what the context holds */
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s = (struct ingle_sqe){.op = INGLE_OP_APPEND, .ctx = 4};
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s = (struct ingle_sqe){.op = INGLE_OP_TOKENIZE};
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
    s = (struct ingle_sqe){.op = INGLE_OP_GENERATE, .flags = INGLE_PAYLOAD_IDS, .payload_bytes = 7};
    assert_int_equal(ingle_check_sqe(&s, ARENA), -EINVAL);
    s.payload_bytes = 8;
    assert_int_equal(ingle_check_sqe(&s, ARENA), 0);
}

/* ---- parameters ------------------------------------------------------------------------------ */

static uint8_t block[INGLE_PARAMS_BYTES_MAX + 64];

static size_t put_params(const struct ingle_params *p)
{
    memset(block, 0, sizeof block);
    memcpy(block, p, sizeof *p);
    return sizeof *p;
}

static void every_float_is_bounded_and_no_nan_passes(void **state)
{
    const struct {
        size_t off;
        float least, most;
        bool least_in, most_in;
    } fields[] = {
        {offsetof(struct ingle_params, temperature), 0, 100, true, true},
        {offsetof(struct ingle_params, top_p), 0, 1, false, true},
        {offsetof(struct ingle_params, min_p), 0, 1, true, false},
        {offsetof(struct ingle_params, typical_p), 0, 1, false, true},
        {offsetof(struct ingle_params, repeat_penalty), 0, 100, false, true},
        {offsetof(struct ingle_params, frequency_penalty), -100, 100, true, true},
        {offsetof(struct ingle_params, presence_penalty), -100, 100, true, true},
    };
    struct ingle_params p;
    struct ingle_params_view v;

    (void)state;
    ingle_params_default(&p);
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), 0);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const float bad[] = {
            NAN, -NAN, INFINITY, -INFINITY, fields[i].least - 0.001F, fields[i].most + 0.001F};

        for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
            put_params(&p);
            memcpy(block + fields[i].off, &bad[k], 4);
            assert_int_equal(ingle_check_params(block, sizeof p, &v), -EINVAL);
        }
        put_params(&p);
        memcpy(block + fields[i].off, &fields[i].least, 4);
        assert_int_equal(ingle_check_params(block, sizeof p, &v), fields[i].least_in ? 0 : -EINVAL);
        memcpy(block + fields[i].off, &fields[i].most, 4);
        assert_int_equal(ingle_check_params(block, sizeof p, &v), fields[i].most_in ? 0 : -EINVAL);
    }
}

static void block_with_everything_comes_back_whole(void **state)
{
    struct ingle_params p;
    struct ingle_params_view v;
    const uint16_t one = 1, two = 2;
    const int32_t ids[2] = {7, 0};
    const float bias = -1.5F;
    size_t at = sizeof p;

    (void)state;
    ingle_params_default(&p);
    p.n_stop = 2, p.n_stop_ids = 2, p.n_bias = 1, p.flags = INGLE_PAR_F_IGNORE_EOS;
    p.n_logprobs = 64, p.n_prompt_logprobs = 65;
    put_params(&p);
    memcpy(block + at, &one, 2), block[at + 2] = 'x', at += 3;
    memcpy(block + at, &two, 2), memcpy(block + at + 2, "\n\n", 2), at += 4;
    at += 1; /* 7 bytes of stops, padded to 8 */
    memcpy(block + at, ids, 8), at += 8;
    memcpy(block + at, &ids[0], 4), memcpy(block + at + 4, &bias, 4), at += 8;
    assert_int_equal(ingle_check_params(block, at, &v), 0);
    assert_int_equal(v.stops[0].bytes, 1);
    assert_int_equal(v.stops[0].text[0], 'x');
    assert_int_equal(v.stops[1].bytes, 2);
    assert_memory_equal(v.stops[1].text, "\n\n", 2);
    assert_int_equal(v.stop_ids[0], 7);
    assert_int_equal(v.biases[0].id, 7);
    assert_true(v.biases[0].bias == -1.5F);

    for (size_t cut = 0; cut < at; cut++) { /* every shorter block, and a longer one */
        assert_int_equal(ingle_check_params(block, cut, &v), -EINVAL);
    }
    assert_int_equal(ingle_check_params(block, at + 4, &v), -EINVAL);
    block[sizeof p + 7] = 1; /* the padding */
    assert_int_equal(ingle_check_params(block, at, &v), -EINVAL);
}

static void counts_lengths_and_ids_out_of_range_are_refused(void **state)
{
    struct ingle_params base, p;
    struct ingle_params_view v;
    uint16_t bytes;
    int32_t id = -1;
    float bias = INFINITY;

    (void)state;
    ingle_params_default(&base);
    p = base, p.ver = 2;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.rsv0 = 1;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.rsv1 = 1;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.rsv2 = 1;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.flags = 2;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.n_logprobs = 65;
    assert_int_equal(ingle_check_params(block, put_params(&p), &v), -EINVAL);
    p = base, p.n_stop = 17;
    put_params(&p);
    assert_int_equal(ingle_check_params(block, sizeof block, &v), -EINVAL);
    p = base, p.n_stop_ids = 0xFFFF;
    put_params(&p);
    assert_int_equal(ingle_check_params(block, sizeof block, &v), -EINVAL);
    p = base, p.n_stop = 1;
    for (uint32_t n = 0; n < 65536; n += n < 70 ? 1 : 997) {
        put_params(&p);
        bytes = (uint16_t)n;
        memcpy(block + sizeof p, &bytes, 2);
        assert_int_equal(ingle_check_params(block, sizeof p + ((2 + n + 3) & ~3u), &v),
                         n >= 1 && n <= 64 ? 0 : -EINVAL);
    }
    p = base, p.n_stop_ids = 1;
    put_params(&p);
    memcpy(block + sizeof p, &id, 4);
    assert_int_equal(ingle_check_params(block, sizeof p + 4, &v), -EINVAL);
    p = base, p.n_bias = 1;
    put_params(&p);
    memcpy(block + sizeof p + 4, &bias, 4);
    assert_int_equal(ingle_check_params(block, sizeof p + 8, &v), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(range_that_wraps_is_refused),
        cmocka_unit_test(copy_in_takes_only_what_lies_inside),
        cmocka_unit_test(every_kind_has_a_name_and_bounds_that_its_struct_meets),
        cmocka_unit_test(header_that_disagrees_with_its_datagram_is_refused),
        cmocka_unit_test(hello_is_answered_with_the_right_code),
        cmocka_unit_test(every_planned_geometry_is_accepted),
        cmocka_unit_test(welcome_with_any_field_out_of_place_is_refused),
        cmocka_unit_test(small_messages_are_copied_or_refused),
        cmocka_unit_test(context_messages_say_what_they_need_and_no_more),
        cmocka_unit_test(admin_text_has_no_nul_and_ends_with_its_datagram),
        cmocka_unit_test(payload_or_parameters_outside_of_the_arena_are_a_violation),
        cmocka_unit_test(unknown_operations_and_flags_have_their_own_answers),
        cmocka_unit_test(each_operation_refuses_the_fields_of_another),
        cmocka_unit_test(empty_payload_is_refused_where_nothing_would_be_done),
        cmocka_unit_test(every_float_is_bounded_and_no_nan_passes),
        cmocka_unit_test(block_with_everything_comes_back_whole),
        cmocka_unit_test(counts_lengths_and_ids_out_of_range_are_refused),
    };

    return cmocka_run_group_tests_name("shm/check", tests, NULL, NULL);
}
