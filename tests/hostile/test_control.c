/* The control socket in wrong hands: handshakes out of order, forged and skewed; messages too long,
 * too many, with descriptors, never read; connections without end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/hostile/house.h"

/* What the runtime answers to these bytes as a first message: a REJECT code, or -errno, or 0 when
 * it just closes. */
static int first_word(const void *msg, size_t bytes)
{
    uint8_t reply[INGLE_CTL_BYTES_MAX];
    struct ingle_ctl_reject reject;
    int sock = peer_connect(house.socket);
    ssize_t n;

    (void)send(sock, msg, bytes, MSG_NOSIGNAL);
    n = peer_receive(sock, reply, sizeof reply, NULL);
    (void)close(sock);
    if (n != (ssize_t)sizeof reject) {
        return (int)n;
    }
    memcpy(&reject, reply, sizeof reject);
    return reject.h.type == INGLE_CTL_REJECT ? (int)reject.code : -EBADMSG;
}

static int hello_word(const struct ingle_ctl_hello *hello)
{
    return first_word(hello, sizeof *hello);
}

/* ---- version, sizes, names --------------------------------------------------------------------
 */

static void a_client_of_another_version_is_told_so(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("skewed");

    (void)state;
    hello.ver_min = 2;
    hello.ver_max = 9;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_VERSION);
    hello.ver_min = 0;
    hello.ver_max = 0;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_VERSION);
    hello = peer_hello("needy");
    hello.feat_need = UINT64_C(1) << 63;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_VERSION);
    hello = peer_hello("swapped");
    hello.endian = 0x04030201;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_ENDIAN);
}

static void a_client_that_can_speak_more_versions_gets_ours(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("newer");
    uint32_t code = 0;
    struct peer p;

    (void)state;
    hello.ver_min = 1;
    hello.ver_max = 7;
    hello.feat_want = UINT64_MAX;
    assert_true(peer_attach(&p, house.socket, &hello, &code));
    assert_int_equal(p.w.ver, INGLE_PROTO_VER);
    assert_true(p.w.feat == 0);
    peer_close(&p);
}

static void sizes_out_of_range_are_refused_and_those_within_are_given(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("large");
    uint32_t code = 0;
    struct peer p;

    (void)state;
    hello.arena_log2 = 25;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_MALFORMED);
    hello.arena_log2 = UINT32_MAX;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_MALFORMED);
    hello = peer_hello("small");
    hello.sq_log2 = 4;
    hello.cq_log2 = 5;
    hello.tk_log2 = 7;
    hello.arena_log2 = 13;
    assert_true(peer_attach(&p, house.socket, &hello, &code));
    assert_int_equal(p.w.sq_n, 16);
    assert_int_equal(p.w.cq_n, 32);
    assert_int_equal(p.w.tk_n, 128);
    assert_int_equal(p.w.arena_bytes, 8192);
    assert_int_equal(p.w.max_inflight, 16);
    peer_close(&p);
}

static void names_that_could_forge_a_log_line_are_refused(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("two\nlines");

    (void)state;
    assert_int_equal(hello_word(&hello), INGLE_REJECT_MALFORMED);
    hello = peer_hello("\x1b[2J");
    assert_int_equal(hello_word(&hello), INGLE_REJECT_MALFORMED);
    memset(hello.name, 'a', sizeof hello.name); /* no NUL */
    assert_int_equal(hello_word(&hello), INGLE_REJECT_MALFORMED);
}

/* ---- order ------------------------------------------------------------------------------------
 */

static void anything_but_hello_comes_too_early(void **state)
{
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    struct ingle_ctl_hdr ping = {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING};
    uint8_t noise[300];

    (void)state;
    assert_int_equal(first_word(&ready, sizeof ready), INGLE_REJECT_MALFORMED);
    assert_int_equal(first_word(&ping, sizeof ping), INGLE_REJECT_MALFORMED);
    memset(noise, 0xa5, sizeof noise);
    for (size_t n = 1; n <= sizeof noise; n += 13) {
        assert_int_equal(first_word(noise, n), INGLE_REJECT_MALFORMED);
    }
}

static void a_second_hello_ends_the_session(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("again");
    struct peer p;
    uint32_t code;

    (void)state;
    peer_open(&p, house.socket, "again");
    peer_send(p.sock, &hello, sizeof hello);
    assert_true(peer_is_dropped(&p, &code, 2000));
    assert_int_equal(code, INGLE_REJECT_PROTOCOL);
    peer_close(&p);
}

/* HELLO and WELCOME; the caller goes on from there. Returns the socket. */
static int half_open(struct ingle_ctl_welcome *w)
{
    struct ingle_ctl_hello hello = peer_hello("half");
    uint8_t msg[INGLE_CTL_BYTES_MAX];
    int fds[3] = {-1, -1, -1}, sock = peer_connect(house.socket);

    peer_send(sock, &hello, sizeof hello);
    assert_int_equal(peer_receive(sock, msg, sizeof msg, fds), sizeof *w);
    memcpy(w, msg, sizeof *w);
    for (int i = 0; i < 3; i++) {
        (void)close(fds[i]);
    }
    return sock;
}

static uint32_t reject_after(int sock)
{
    struct ingle_ctl_reject reject;

    if (peer_receive(sock, &reject, sizeof reject, NULL) != (ssize_t)sizeof reject) {
        return 0;
    }
    return reject.h.type == INGLE_CTL_REJECT ? reject.code : 0;
}

static void a_wrong_nonce_is_denied(void **state)
{
    struct ingle_ctl_welcome w;
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    int sock = half_open(&w);

    (void)state;
    ready.nonce = w.nonce ^ 1;
    peer_send(sock, &ready, sizeof ready);
    assert_int_equal(reject_after(sock), INGLE_REJECT_DENIED);
    (void)close(sock);
}

/* The pid of HELLO is the kernel's; a child that answers in its parent's place is another. */
static void ready_from_another_process_is_denied(void **state)
{
    struct ingle_ctl_welcome w;
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    int sock = half_open(&w), status;
    pid_t child;

    (void)state;
    ready.nonce = w.nonce;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        peer_send(sock, &ready, sizeof ready);
        _exit(reject_after(sock) == INGLE_REJECT_DENIED ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)close(sock);
}

static void what_is_submitted_before_live_is_answered(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("hasty");

    (void)state;
    for (int ready_first = 0; ready_first < 2; ready_first++) {
        char text[256] = "";
        struct ingle_sqe sqe;
        struct peer p;
        uint32_t code;

        assert_true(peer_greet(&p, house.socket, &hello, &code));
        if (ready_first) {
            peer_ready(&p);
        }
        sqe = peer_generate(&p, 1, "in haste", 3);
        peer_submit(&p, &sqe);
        if (!ready_first) {
            peer_ready(&p);
        }
        assert_int_equal(peer_finish(&p, 1, text, sizeof text), 3);
        peer_leave(&p);
    }
}

/* The kernel reports the unread messages of a closed peer before the last ones that it sent. */
static void goodbye_is_heard_from_a_client_that_read_nothing(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("curt");
    uint64_t sessions = house_settle().sessions;
    int tries = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        struct peer p;
        uint32_t code;

        assert_true(peer_greet(&p, house.socket, &hello, &code));
        peer_ready(&p);
        (void)usleep(1000); /* LIVE is there now */
        peer_leave(&p);
    }
    while (house_look().sessions > sessions) { /* the lost are kept for longer than this */
        assert_true(tries++ < 100);
        (void)usleep(20000);
    }
}

static void a_handshake_that_stops_half_way_is_cut(void **state)
{
    struct ingle_ctl_welcome w;
    int silent = peer_connect(house.socket), half = half_open(&w);
    struct pollfd in[2] = {{.fd = silent, .events = POLLIN}, {.fd = half, .events = POLLIN}};

    (void)state;
    assert_int_equal(poll(&in[0], 1, 4000), 1); /* 2 s */
    assert_int_equal(poll(&in[1], 1, 1000), 1);
    assert_int_equal(reject_after(half), INGLE_REJECT_MALFORMED);
    (void)close(silent);
    (void)close(half);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static void a_message_longer_than_4096_bytes_ends_the_session(void **state)
{
    static uint8_t huge[100000];
    struct peer p;
    uint32_t code;

    (void)state;
    peer_open(&p, house.socket, "huge");
    memset(huge, 'x', sizeof huge);
    peer_send(p.sock, huge, sizeof huge);
    assert_true(peer_is_dropped(&p, &code, 2000));
    assert_int_equal(code, INGLE_REJECT_PROTOCOL);
    peer_close(&p);
}

static void send_fds(int sock, const void *msg, size_t bytes, int n)
{
    static union {
        struct cmsghdr align;
        char room[CMSG_SPACE(253 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)msg, .iov_len = bytes};
    struct msghdr mh = {.msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.room,
                        .msg_controllen = CMSG_SPACE((size_t)n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
    int fds[253] = {0};

    for (int i = 0; i < n; i++) {
        fds[i] = 1;
    }
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
    assert_true(sendmsg(sock, &mh, MSG_NOSIGNAL) == (ssize_t)bytes || errno == EPIPE);
}

static void descriptors_are_never_installed(void **state)
{
    struct ingle_ctl_hdr ping = {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING};
    struct ingle_ctl_hello hello = peer_hello("giver");
    struct ingle_ctl_ready ready = {
        .h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_READY, .payload_bytes = 8}};
    struct ingle_ctl_welcome w;
    struct peer p;
    uint32_t code;
    int sock;

    (void)state;
    peer_open(&p, house.socket, "giver");
    send_fds(p.sock, &ping, sizeof ping, 253);
    assert_true(peer_is_dropped(&p, &code, 2000));
    assert_int_equal(code, INGLE_REJECT_PROTOCOL);
    peer_close(&p);

    sock = peer_connect(house.socket); /* with HELLO */
    send_fds(sock, &hello, sizeof hello, 253);
    assert_int_equal(reject_after(sock), INGLE_REJECT_PROTOCOL);
    (void)close(sock);

    sock = half_open(&w); /* with READY, whose control room is for the credentials alone */
    ready.nonce = w.nonce;
    send_fds(sock, &ready, sizeof ready, 253);
    assert_int_equal(reject_after(sock), INGLE_REJECT_PROTOCOL);
    (void)close(sock);

    (void)house_settle();
}

static void malformed_control_messages_end_the_session(void **state)
{
    static const struct ingle_ctl_hdr wrong[] = {
        {.magic = 0, .type = INGLE_CTL_PING},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_WELCOME},
        {.magic = INGLE_MAGIC, .type = 999},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING, .payload_bytes = 1},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING, .payload_bytes = UINT32_MAX},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING, .flags = 1},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING, .n_fds = 1},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_CTX_EXPORT},
        {.magic = INGLE_MAGIC, .type = INGLE_CTL_ADMIN},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct peer p;
        uint32_t code = 0;

        peer_open(&p, house.socket, "odd");
        peer_send(p.sock, &wrong[i], sizeof wrong[i]);
        if (!peer_is_dropped(&p, &code, 2000) || code != INGLE_REJECT_PROTOCOL) {
            fail_msg("case %zu: code %u", i, code);
        }
        peer_close(&p);
    }
}

static void ping_is_answered_with_its_number(void **state)
{
    struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_PING, .seq = 0xabcdef};
    struct peer p;

    (void)state;
    peer_open(&p, house.socket, "pinger");
    peer_send(p.sock, &h, sizeof h);
    assert_int_equal(peer_receive(p.sock, &h, sizeof h, NULL), sizeof h);
    assert_int_equal(h.type, INGLE_CTL_PONG);
    assert_true(h.seq == 0xabcdef);
    peer_close(&p);
}

/* ---- administration ---------------------------------------------------------------------------
 */

static void administrative_nonsense_is_answered_with_what_is_wrong(void **state)
{
    static const struct {
        const char *request, *kind, *text;
    } cases[] = {
        {"not json", "usage", "not one JSON object"},
        {"{\"verb\":\"ps\"} x", "usage", "not one JSON object"},
        {"[1,2]", "usage", "not one JSON object"},
        {"{}", "usage", "unknown verb"},
        {"{\"verb\":7}", "usage", "must be a string"},
        {"{\"verb\":\"fly\"}", "usage", "unknown verb \\\"fly\\\""},
        {"[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]", "usage", "not one JSON object"},
        {"{\"verb\":\"open\",\"model\":\"nowhere\"}", "not_found", "no model \\\"nowhere\\\""},
        {"{\"verb\":\"open\",\"model\":\"../../etc/passwd\"}", "not_found", "no model"},
        {"{\"verb\":\"open\",\"model\":\"/no/such.gguf\"}", "not_found", "no model"},
        {"{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"kv_bits\":7}}", "usage",
         "must be 16, 8 or 4"},
        {"{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"kv\":8}}", "usage",
         "unknown option \\\"kv\\\""},
        {"{\"verb\":\"open\",\"model\":\"null\",\"options\":[]}", "usage", "must be an object"},
        {"{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"context\":-1}}", "usage",
         "whole number"},
        {"{\"verb\":\"unload\",\"model\":\"absent\"}", "not_found", "is loaded"},
        {"{\"verb\":\"unload\",\"slot\":99}", "usage", "whole number from 1 to 15"},
        {"{\"verb\":\"kill\",\"client\":123456}", "not_found", "no session 123456"},
        {"{\"verb\":\"logs\",\"lines\":0}", "usage", "whole number from 1 to 512"},
        {"{\"verb\":\"ps\",\"\xff\":1}", "usage", "not UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char room[8192], kind[64];

        house_ask(cases[i].request, room, sizeof room);
        (void)snprintf(kind, sizeof kind, "\"kind\":\"%s\"", cases[i].kind);
        if (strstr(room, "\"ok\":false") == NULL || strstr(room, kind) == NULL ||
            strstr(room, cases[i].text) == NULL) {
            fail_msg("%s -> %s", cases[i].request, room);
        }
    }
}

static void a_long_reply_comes_in_parts(void **state)
{
    static char room[1 << 20];

    (void)state;
    for (int i = 0; i < 50; i++) {
        (void)house_look(); /* lines for the log */
    }
    house_ask("{\"verb\":\"logs\",\"lines\":512}", room, sizeof room);
    assert_true(strlen(room) > 2 * INGLE_CTL_BYTES_MAX);
    assert_non_null(strstr(room, "\"ok\":true"));
    assert_int_equal(room[strlen(room) - 1], '}');
}

static void replies_that_are_never_read_end_the_session(void **state)
{
    char msg[128];
    struct ingle_ctl_hdr h = {.magic = INGLE_MAGIC, .type = INGLE_CTL_ADMIN};
    const char *json = "{\"verb\":\"logs\",\"lines\":512}";
    struct peer p;
    struct pollfd gone;
    struct house_state after;
    bool over = false;

    (void)state;
    h.payload_bytes = (uint32_t)strlen(json);
    memcpy(msg, &h, sizeof h);
    memcpy(msg + sizeof h, json, strlen(json));
    peer_open(&p, house.socket, "deaf");
    for (int i = 0; i < 2000 && !over; i++) {
        over = send(p.sock, msg, sizeof h + strlen(json), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
               errno == EPIPE;
        (void)usleep(500);
    }
    gone = (struct pollfd){.fd = p.sock, .events = POLLRDHUP};
    assert_int_equal(poll(&gone, 1, 3000), 1);
    peer_close(&p);
    after = house_settle();
    assert_true(after.violations > house.calm.violations);
}

/* ---- connections ------------------------------------------------------------------------------
 */

static void a_uid_has_64_sessions_and_gets_room_again_when_one_ends(void **state)
{
    struct ingle_ctl_hello hello = peer_hello("crowd");
    struct peer *crowd = calloc(64, sizeof *crowd), extra;
    uint32_t code = 0, n = 0;

    (void)state;
    assert_non_null(crowd);
    while (n < 64 && peer_attach(&crowd[n], house.socket, &hello, &code)) {
        n++;
    }
    assert_int_equal(n, 64);
    assert_false(peer_attach(&extra, house.socket, &hello, &code));
    assert_int_equal(code, INGLE_REJECT_TOO_MANY);
    peer_leave(&crowd[0]);
    (void)usleep(100000);
    assert_true(peer_attach(&crowd[0], house.socket, &hello, &code));
    for (uint32_t i = 0; i < n; i++) {
        peer_leave(&crowd[i]);
    }
    free(crowd);
    (void)house_settle();
}

static void a_flood_of_silent_connections_keeps_nobody_out_for_long(void **state)
{
    struct honest *honest = honest_start();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(sock >= 0);
        (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", house.socket);
        (void)connect(sock, (struct sockaddr *)&address, sizeof address);
        (void)close(sock);
    }
    honest_stop(honest);
    (void)house_settle();
}

static void after_all_of_it_the_runtime_is_as_it_was(void **state)
{
    struct house_state after;

    (void)state;
    after = house_settle();
    assert_true(after.rejected > house.calm.rejected);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_of_another_version_is_told_so),
        cmocka_unit_test(a_client_that_can_speak_more_versions_gets_ours),
        cmocka_unit_test(sizes_out_of_range_are_refused_and_those_within_are_given),
        cmocka_unit_test(names_that_could_forge_a_log_line_are_refused),
        cmocka_unit_test(anything_but_hello_comes_too_early),
        cmocka_unit_test(a_second_hello_ends_the_session),
        cmocka_unit_test(a_wrong_nonce_is_denied),
        cmocka_unit_test(ready_from_another_process_is_denied),
        cmocka_unit_test(what_is_submitted_before_live_is_answered),
        cmocka_unit_test(goodbye_is_heard_from_a_client_that_read_nothing),
        cmocka_unit_test(a_handshake_that_stops_half_way_is_cut),
        cmocka_unit_test(a_message_longer_than_4096_bytes_ends_the_session),
        cmocka_unit_test(descriptors_are_never_installed),
        cmocka_unit_test(malformed_control_messages_end_the_session),
        cmocka_unit_test(ping_is_answered_with_its_number),
        cmocka_unit_test(administrative_nonsense_is_answered_with_what_is_wrong),
        cmocka_unit_test(a_long_reply_comes_in_parts),
        cmocka_unit_test(replies_that_are_never_read_end_the_session),
        cmocka_unit_test(a_uid_has_64_sessions_and_gets_room_again_when_one_ends),
        cmocka_unit_test(a_flood_of_silent_connections_keeps_nobody_out_for_long),
        cmocka_unit_test(after_all_of_it_the_runtime_is_as_it_was),
    };

    house_prepare(argc, argv, NULL);
    return cmocka_run_group_tests(tests, house_open, house_close);
}
