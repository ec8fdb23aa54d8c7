/* Owns the staging blocks and the ring of one run; borrows the file and the place to read to.
 * Blocks are issued and delivered in file order, whatever order they complete in: slot (n % DEPTH)
 * holds block n from issue until it is delivered. Invariant: no buffer is released while the kernel
 * may write to it. Thread: load. */
#include "runtime/weights/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <liburing.h>

#include "runtime/base/mem.h"

#define SECTOR_BYTES INGLE_STREAM_SECTOR_BYTES

struct block {
    uint64_t start, bytes; /* multiples of SECTOR_BYTES; may reach beyond the end of the file */
    uint64_t want, got;    /* bytes of it that the file has; that have arrived */
    int code;              /* < 0: the read failed */
    bool in_flight;
    uint8_t *buf;
};

struct run {
    const struct ingle_stream *s;
    struct ingle_error *err;
    struct block blocks[INGLE_STREAM_DEPTH];
    uint8_t *staging;
    struct io_uring ring;
    bool has_ring, direct;
    uint32_t issue_span, take_span; /* first span not wholly issued, not wholly delivered */
    uint64_t issue_at;              /* file bytes below are issued; multiple of SECTOR_BYTES */
    uint64_t done_bytes, total_bytes, told_bytes;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The next block to read: from the first byte still wanted, up to a block's length, gaps between
 * spans included, nothing behind the last wanted byte. False when all is issued. */
static bool next_block(struct run *r, struct block *b)
{
    const struct ingle_stream_span *spans = r->s->spans;
    uint64_t start, limit, end = 0;

    while (r->issue_span < r->s->n_spans &&
           spans[r->issue_span].file_off + spans[r->issue_span].bytes <= r->issue_at) {
        r->issue_span++;
    }
    if (r->issue_span == r->s->n_spans) {
        return false;
    }
    start = spans[r->issue_span].file_off & ~(SECTOR_BYTES - 1);
    start = start > r->issue_at ? start : r->issue_at;
    limit = start + INGLE_STREAM_BLOCK_BYTES;
    for (uint32_t i = r->issue_span; i < r->s->n_spans && spans[i].file_off < limit; i++) {
        end = min_u64(limit, spans[i].file_off + spans[i].bytes);
    }
    end = (end + SECTOR_BYTES - 1) & ~(SECTOR_BYTES - 1);
    r->issue_at = end;
    if (r->s->into != NULL) {
        b->buf = r->s->into + (start - spans[0].file_off);
    }
    b->start = start;
    b->bytes = end - start;
    b->want = min_u64(end, r->s->file_bytes) - start;
    b->got = 0;
    b->code = 0;
    return true;
}

/* ---- two ways to read ---------------------------------------------------------------- */

static void set_direct(struct run *r, bool on)
{
    int flags = fcntl(r->s->fd, F_GETFL);

    r->direct = flags >= 0 &&
                fcntl(r->s->fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && on;
}

static void submit(struct run *r, struct block *b)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    int n;

    ingle_assert(sqe != NULL); /* as many entries as blocks */
    io_uring_prep_read(sqe, r->s->fd, b->buf + b->got, (unsigned)(b->bytes - b->got),
                       b->start + b->got);
    io_uring_sqe_set_data(sqe, b);
    do {
        n = io_uring_submit(&r->ring);
    } while (n == -EINTR || n == -EAGAIN || n == -EBUSY);
    b->in_flight = n >= 0;
    b->code = n < 0 ? n : 0;
}

static void completed(struct run *r, struct block *b, int res)
{
    b->in_flight = false;
    if (res == -EINTR || res == -EAGAIN) {
        submit(r, b);
    } else if (res == -EINVAL && r->direct) {
        set_direct(r, false); /* the flag was taken, the read was not: some stacked file systems */
        submit(r, b);
    } else if (res < 0) {
        b->code = res;
    } else {
        b->got += (uint64_t)res;
        /* Short: O_DIRECT goes on from a sector; less than one means that the file ends here. */
        if (b->got < b->want && (uint64_t)res >= SECTOR_BYTES) {
            b->got &= ~(SECTOR_BYTES - 1);
            submit(r, b);
        }
    }
}

static void wait_ring(struct run *r, struct block *b)
{
    while (b->in_flight) {
        struct io_uring_cqe *cqe;
        int rc = io_uring_wait_cqe(&r->ring, &cqe);

        if (rc == 0) {
            struct block *other = io_uring_cqe_get_data(cqe);
            int res = cqe->res;

            io_uring_cqe_seen(&r->ring, cqe);
            completed(r, other, res);
        } else {
            ingle_assert(rc == -EINTR); /* anything else would be misuse of the ring */
        }
    }
}

static void wait_pread(struct run *r, struct block *b)
{
    while (b->got < b->want) {
        ssize_t n = pread(r->s->fd, b->buf + b->got, b->want - b->got, (off_t)(b->start + b->got));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            b->code = n < 0 ? -errno : 0;
            return;
        }
        b->got += (uint64_t)n;
    }
}

static void issue(struct run *r, struct block *b)
{
    if (r->has_ring) {
        submit(r, b);
    } else {
        (void)posix_fadvise(r->s->fd, (off_t)b->start, (off_t)b->bytes, POSIX_FADV_WILLNEED);
    }
}

static int finish(struct run *r, struct block *b)
{
    if (r->has_ring) {
        wait_ring(r, b);
    } else {
        wait_pread(r, b);
    }
    if (!r->direct) {
        (void)posix_fadvise(r->s->fd, (off_t)b->start, (off_t)b->bytes, POSIX_FADV_DONTNEED);
    }
    if (b->code < 0) {
        return ingle_fail(r->err, b->code, "%s: cannot read at byte %" PRIu64 ": %s", r->s->shown,
                          b->start + b->got, strerrordesc_np(-b->code));
    }
    if (b->got < b->want) {
        return ingle_fail_kind(r->err, INGLE_ERR_BAD_MODEL, -EBADMSG,
                               "%s: ends at byte %" PRIu64 ", it had %" PRIu64
                               " when it was opened (is something writing to it?)",
                               r->s->shown, b->start + b->got, r->s->file_bytes);
    }
    return 0;
}

/* ---- delivery ------------------------------------------------------------------------ */

static void tell(struct run *r)
{
    if (r->s->progress != NULL && (r->done_bytes - r->told_bytes >= r->total_bytes / 100 ||
                                   r->done_bytes == r->total_bytes)) {
        r->told_bytes = r->done_bytes;
        r->s->progress(r->s->progress_arg, r->done_bytes, r->total_bytes);
    }
}

static int deliver(struct run *r, const struct block *b)
{
    uint64_t end = b->start + b->bytes;

    while (r->take_span < r->s->n_spans) {
        const struct ingle_stream_span *span = &r->s->spans[r->take_span];
        uint64_t span_end = span->file_off + span->bytes;
        uint64_t lo = b->start > span->file_off ? b->start : span->file_off;
        uint64_t hi = min_u64(end, span_end);
        int rc;

        if (lo >= hi) {
            break;
        }
        rc = r->s->take(r->s->take_arg, r->take_span, lo - span->file_off, b->buf + (lo - b->start),
                        hi - lo, r->err);
        if (rc < 0) {
            return rc;
        }
        r->done_bytes += hi - lo;
        if (hi < span_end) {
            break;
        }
        r->take_span++;
    }
    tell(r);
    return 0;
}

static bool cancelled(const struct run *r)
{
    return r->s->cancel != NULL && atomic_load_explicit(r->s->cancel, memory_order_relaxed);
}

static int pump(struct run *r)
{
    uint64_t n_issued = 0;
    bool more = true;

    for (uint64_t n = 0;; n++) {
        int rc;

        while (more && n_issued < n + INGLE_STREAM_DEPTH) {
            struct block *b = &r->blocks[n_issued % INGLE_STREAM_DEPTH];

            more = next_block(r, b);
            if (more) {
                issue(r, b);
                n_issued++;
            }
        }
        if (n == n_issued) {
            return 0;
        }
        if (cancelled(r)) {
            return ingle_fail(r->err, -ECANCELED, "%s: loading was cancelled", r->s->shown);
        }
        rc = finish(r, &r->blocks[n % INGLE_STREAM_DEPTH]);
        if (rc == 0) {
            rc = deliver(r, &r->blocks[n % INGLE_STREAM_DEPTH]);
        }
        if (rc < 0) {
            return rc;
        }
    }
}

int ingle_stream_run(const struct ingle_stream *stream, struct ingle_error *err)
{
    struct run r = {.s = stream, .err = err};
    int rc;

    if (stream->into != NULL) {
        ingle_assert(stream->n_spans == 1);
        ingle_assert((stream->spans[0].file_off | stream->spans[0].bytes) % SECTOR_BYTES == 0);
    } else {
        r.staging = ingle_mem_map(INGLE_STREAM_STAGING_BYTES);
        if (r.staging == NULL) {
            return ingle_fail(err, -ENOMEM, "%s: no memory to read it", stream->shown);
        }
        for (uint32_t i = 0; i < INGLE_STREAM_DEPTH; i++) {
            r.blocks[i].buf = r.staging + i * INGLE_STREAM_BLOCK_BYTES;
        }
    }
    for (uint32_t i = 0; i < stream->n_spans; i++) {
        r.total_bytes += stream->spans[i].bytes;
    }
    /* Containers and hardened kernels refuse io_uring; then readahead keeps the disk busy, which
     * needs the page cache. */
    r.has_ring = io_uring_queue_init(INGLE_STREAM_DEPTH, &r.ring, 0) == 0;
    set_direct(&r, r.has_ring);
    rc = pump(&r);
    if (r.has_ring) {
        for (uint32_t i = 0; i < INGLE_STREAM_DEPTH; i++) {
            wait_ring(&r, &r.blocks[i]);
        }
        io_uring_queue_exit(&r.ring);
    }
    set_direct(&r, false);
    ingle_mem_unmap(r.staging, INGLE_STREAM_STAGING_BYTES);
    return rc;
}
