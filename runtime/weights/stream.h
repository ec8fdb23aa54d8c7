/* The stream of one file's bytes: the parts that somebody wants, in file order, read several blocks
 * ahead. io_uring with O_DIRECT where kernel and file system take them, otherwise buffered reads
 * whose pages are dropped again; never mmap, so that a failing disk is an error and not a signal.
 * Holds INGLE_STREAM_STAGING_BYTES while it runs, unless the bytes go straight to their place.
 * Thread: load. */
#ifndef INGLE_RUNTIME_WEIGHTS_STREAM_H
#define INGLE_RUNTIME_WEIGHTS_STREAM_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"

#define INGLE_STREAM_BLOCK_BYTES   (UINT64_C(1) << 20)
#define INGLE_STREAM_DEPTH         4u             /* blocks in flight */
#define INGLE_STREAM_SECTOR_BYTES  UINT64_C(4096) /* what every O_DIRECT file system accepts */
#define INGLE_STREAM_STAGING_BYTES (INGLE_STREAM_BLOCK_BYTES * INGLE_STREAM_DEPTH)

struct ingle_stream_span {
    uint64_t file_off, bytes;
};

struct ingle_stream {
    int fd;            /* its O_DIRECT flag is the stream's while it runs */
    const char *shown; /* the file's name, for messages */
    uint64_t file_bytes;
    const struct ingle_stream_span *spans; /* ascending, disjoint, inside the file, not empty */
    uint32_t n_spans;
    /* Where the one span is read to, without staging; NULL: staging blocks. Then the span begins
     * and ends on a multiple of INGLE_STREAM_SECTOR_BYTES, and so does this. */
    uint8_t *into;
    /* Bytes [off, off + n) of span i, borrowed for the call. Every byte of every span arrives once,
     * in file order. A result < 0 ends the stream and is its result. */
    int (*take)(void *arg, uint32_t i, uint64_t off, const uint8_t *p, uint64_t n,
                struct ingle_error *err);
    void *take_arg;
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* each 1 %; or NULL */
    void *progress_arg;
    const _Atomic bool *cancel; /* others store relaxed, the stream loads relaxed; or NULL */
};

/* Read all spans. Errors: -ECANCELED; -EBADMSG (kind BAD_MODEL) when the file became shorter; what
 * the kernel or take() said. */
int ingle_stream_run(const struct ingle_stream *stream, struct ingle_error *err) INGLE_MUST_CHECK;

#endif
