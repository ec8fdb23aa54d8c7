/* The stream over a real file, on both ways to read, and with faults put between it and the kernel
 * by the linker's --wrap. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "runtime/weights/stream.h"

#define FILE_BYTES (5 * INGLE_STREAM_BLOCK_BYTES + 1234)

/* ---- faults --------------------------------------------------------------------------------- */

static struct {
    bool no_ring;
    int n_until; /* this many reads pass first; < 0: no fault */
    int code;    /* then: this error, if < 0 */
    int keep;    /* else: only this many bytes of the read arrive, on every read from then on */
    int n_ring_reads, n_preads;
} fault;

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return fault.no_ring ? -EPERM : __real_io_uring_queue_init(entries, ring, flags);
}

/* Submit, wait until it is done, and change what the kernel has answered. */
int __wrap_io_uring_submit(struct io_uring *ring)
{
    unsigned n_before = io_uring_cq_ready(ring);
    int rc = __real_io_uring_submit(ring);
    struct io_uring_cqe *cqe;

    assert_int_equal(rc, 1);
    assert_int_equal(io_uring_wait_cqe_nr(ring, &cqe, n_before + 1), 0);
    cqe = &ring->cq.cqes[(*ring->cq.ktail - 1) & *ring->cq.kring_mask];
    fault.n_ring_reads++;
    if (fault.n_until >= 0 && fault.n_until-- == 0) {
        if (fault.code < 0) {
            cqe->res = fault.code;
        } else {
            cqe->res = cqe->res < fault.keep ? cqe->res : fault.keep;
            fault.n_until = 0;
        }
    }
    return rc;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
    fault.n_preads++;
    if (fault.n_until >= 0 && fault.n_until-- == 0) {
        if (fault.code < 0) {
            errno = -fault.code;
            return -1;
        }
        fault.n_until = 0;
        n = n < (size_t)fault.keep ? n : (size_t)fault.keep;
    }
    return __real_pread64(fd, buf, n, off);
}

/* ---- the file and its reader ---------------------------------------------------------------- */

struct rig {
    char path[256];
    int fd;
    uint8_t *bytes;
};

struct taken {
    const struct rig *rig;
    const struct ingle_stream_span *spans;
    uint32_t span; /* the next byte that must come */
    uint64_t off;
    int stop_code;
    _Atomic bool cancel;
    uint32_t n_told;
    uint64_t told, total;
};

static int take(void *arg, uint32_t i, uint64_t off, const uint8_t *p, uint64_t n,
                struct ingle_error *err)
{
    struct taken *t = arg;

    assert_int_equal(i, t->span);
    assert_int_equal(off, t->off);
    assert_true(n > 0 && off + n <= t->spans[i].bytes);
    assert_memory_equal(p, t->rig->bytes + t->spans[i].file_off + off, n);
    t->off += n;
    if (t->off == t->spans[i].bytes) {
        t->span++;
        t->off = 0;
    }
    return t->stop_code < 0 ? ingle_fail(err, t->stop_code, "enough") : 0;
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    struct taken *t = arg;

    assert_true(done > t->told && done <= total);
    t->told = done;
    t->total = total;
    t->n_told++;
}

static int run(const struct rig *rig, const struct ingle_stream_span *spans, uint32_t n,
               struct taken *t, struct ingle_error *err)
{
    struct ingle_stream stream = {
        .fd = rig->fd,
        .shown = "some.gguf",
        .file_bytes = FILE_BYTES,
        .spans = spans,
        .n_spans = n,
        .take = take,
        .take_arg = t,
        .progress = progress,
        .progress_arg = t,
        .cancel = &t->cancel,
    };
    int rc;

    memset(err, 0, sizeof *err);
    t->rig = rig;
    t->spans = spans;
    rc = ingle_stream_run(&stream, err);
    /* The file is left as it was, and no read is under way. */
    assert_int_equal(fcntl(rig->fd, F_GETFL) & O_DIRECT, 0);
    return rc;
}

static const struct ingle_stream_span whole[] = {{0, FILE_BYTES}};

static void expect_whole(const struct rig *rig)
{
    struct taken t = {0};
    struct ingle_error err;

    if (run(rig, whole, 1, &t, &err) != 0) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(t.span, 1);
    assert_int_equal(t.told, FILE_BYTES);
    assert_int_equal(t.total, FILE_BYTES);
    assert_true(t.n_told <= 101);
}

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR");
    struct rig *rig = calloc(1, sizeof *rig);
    uint64_t x = 88172645463325252u;

    fault = (typeof(fault)){.n_until = -1};
    if (rig == NULL || (rig->bytes = malloc(FILE_BYTES)) == NULL) {
        return -1;
    }
    for (uint64_t i = 0; i < FILE_BYTES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        rig->bytes[i] = (uint8_t)x;
    }
    (void)snprintf(rig->path, sizeof rig->path, "%s/ingle-stream-XXXXXX",
                   base != NULL ? base : "/tmp");
    rig->fd = mkstemp(rig->path);
    *state = rig;
    return rig->fd >= 0 && write(rig->fd, rig->bytes, FILE_BYTES) == (ssize_t)FILE_BYTES ? 0 : -1;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    int rc = close(rig->fd) | unlink(rig->path);

    free(rig->bytes);
    free(rig);
    return rc;
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void a_whole_file_arrives_in_order(void **state)
{
    expect_whole(*state);
}

static void a_whole_file_arrives_where_io_uring_is_refused(void **state)
{
    fault.no_ring = true;
    expect_whole(*state);
    assert_int_equal(fault.n_ring_reads, 0);
    assert_true(fault.n_preads >= 6);
}

static void spans_arrive_without_the_gaps_between_them(void **state)
{
    static const struct ingle_stream_span spans[] = {
        {7, 1},
        {8, 4087},
        {4095, 2},
        {5000, INGLE_STREAM_BLOCK_BYTES},
        {5000 + INGLE_STREAM_BLOCK_BYTES, 3},
        {3 * INGLE_STREAM_BLOCK_BYTES + 4096, 4096},
        {4 * INGLE_STREAM_BLOCK_BYTES - 1, INGLE_STREAM_BLOCK_BYTES + 2},
        {FILE_BYTES - 1, 1},
    };

    for (int way = 0; way < 2; way++) {
        struct taken t = {0};
        struct ingle_error err;

        fault.no_ring = way == 1;
        assert_int_equal(run(*state, spans, 8, &t, &err), 0);
        assert_int_equal(t.span, 8);
        assert_int_equal(t.told, t.total);
    }
}

static void short_reads_are_continued(void **state)
{
    for (int way = 0; way < 2; way++) {
        fault = (typeof(fault)){.no_ring = way == 1, .n_until = 1, .keep = 300000};
        expect_whole(*state);
        assert_true(fault.n_ring_reads + fault.n_preads >= 18);
    }
}

static void a_read_error_is_named_with_its_byte(void **state)
{
    for (int way = 0; way < 2; way++) {
        struct taken t = {0};
        struct ingle_error err;

        fault = (typeof(fault)){.no_ring = way == 1, .n_until = 2, .code = -EIO};
        assert_int_equal(run(*state, whole, 1, &t, &err), -EIO);
        assert_non_null(strstr(err.text, "some.gguf: cannot read at byte"));
        assert_non_null(strstr(err.text, "Input/output error"));
    }
}

static void a_read_that_must_be_repeated_is_repeated(void **state)
{
    static const int codes[] = {-EINTR, -EAGAIN, -EINVAL};

    for (int i = 0; i < 3; i++) {
        fault = (typeof(fault)){.n_until = 1, .code = codes[i]};
        expect_whole(*state);
    }
    fault = (typeof(fault)){.no_ring = true, .n_until = 1, .code = -EINTR};
    expect_whole(*state);
}

static void a_file_that_shrank_is_an_error(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(ftruncate(rig->fd, 2 * INGLE_STREAM_BLOCK_BYTES + 100), 0);
    for (int way = 0; way < 2; way++) {
        struct taken t = {0};
        struct ingle_error err;

        fault.no_ring = way == 1;
        assert_int_equal(run(rig, whole, 1, &t, &err), -EBADMSG);
        assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
        assert_non_null(strstr(err.text, "some.gguf: ends at byte 2097252, it had 5244114"));
    }
}

static void what_take_says_ends_the_stream(void **state)
{
    for (int way = 0; way < 2; way++) {
        struct taken t = {.stop_code = -EDOM};
        struct ingle_error err;

        fault.no_ring = way == 1;
        assert_int_equal(run(*state, whole, 1, &t, &err), -EDOM);
        assert_string_equal(err.text, "enough");
        assert_true(t.off <= INGLE_STREAM_BLOCK_BYTES);
    }
}

static void a_cancelled_stream_delivers_nothing_more(void **state)
{
    struct taken t = {.cancel = true};
    struct ingle_error err;

    assert_int_equal(run(*state, whole, 1, &t, &err), -ECANCELED);
    assert_int_equal(t.off, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_whole_file_arrives_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_whole_file_arrives_where_io_uring_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(spans_arrive_without_the_gaps_between_them, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(short_reads_are_continued, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_error_is_named_with_its_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_that_must_be_repeated_is_repeated, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_shrank_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_take_says_ends_the_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cancelled_stream_delivers_nothing_more, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("weights/stream", tests, NULL, NULL);
}
