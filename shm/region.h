/* The two memfds of one client: made, sealed and mapped by the runtime, verified and mapped by the
 * client. */
#ifndef INGLE_SHM_REGION_H
#define INGLE_SHM_REGION_H
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ingle_region_side {
    INGLE_REGION_C2S, /* the client writes, the runtime reads */
    INGLE_REGION_S2C  /* the runtime writes, the client reads; sealed against later writers */
};

struct ingle_region {
    void *base;
    uint64_t bytes;
    int fd; /* -1: none */
};

#define INGLE_REGION_NONE \
    {                     \
        NULL, 0, -1       \
    }

/**
 * Whether [off, off + bytes) lies within [0, cap): the one form of this question in the code base.
 * It holds for all inputs; off + bytes would wrap.
 *
 * @off, @bytes, @cap  in the same unit
 *
 * Thread: any.
 */
static inline bool ingle_range_ok(uint64_t off, uint64_t bytes, uint64_t cap)
{
    return off <= cap && bytes <= cap - off;
}

/**
 * Copy a peer's bytes out of a shared mapping, once. What was checked is what is copied: off is
 * bounded a second time without a branch, so that a mispredicted check reads nothing beyond cap.
 *
 * @dst   bytes bytes of private memory
 * @base  of the shared part, cap bytes      @off, @bytes  untrusted
 *
 * Ownership: borrows both.  Thread: any.
 * Returns 0, or -EPROTO (out of range: drop the peer; dst is untouched).
 */
int ingle_copy_in(void *dst, const void *base, uint64_t cap, uint64_t off, uint64_t bytes);

/**
 * Runtime: create a region. Its memory exists when this returns (no SIGBUS later), it is zero, its
 * size is fixed for ever, and after this call nobody can map an S2C region writable.
 *
 * @side   decides the runtime's own mapping: read-only for C2S, read-write for S2C
 * @bytes  > 0, rounded up to whole pages in ret->bytes
 *
 * Ownership: fills *ret, to be ended by ingle_region_fini; ret->fd is what goes to the client.
 * Thread: any.  Returns 0 or -errno (-ENOSPC, -ENOMEM: no memory; -EMFILE, -ENFILE: no fds);
 * *ret is untouched on failure.
 */
int ingle_region_create(struct ingle_region *ret, enum ingle_region_side side, uint64_t bytes);

/**
 * Client: verify that fd is such a region, of exactly these bytes and with all its seals, and map
 * it: read-write for C2S, read-only for S2C. A forked child does not inherit the mapping.
 *
 * @fd     from WELCOME         @bytes  c2s_bytes or s2c_bytes of WELCOME, > 0
 *
 * Ownership: fills *ret; borrows fd (a mapping needs no fd: ret->fd is -1).  Thread: any.
 * Returns 0, -EPROTO (wrong size, a seal is missing, not a memfd), or -errno of mmap(2).
 */
int ingle_region_join(struct ingle_region *ret, enum ingle_region_side side, int fd,
                      uint64_t bytes);

/**
 * Unmap and close. Accepts NULL and a region that is INGLE_REGION_NONE.
 *
 * Ownership: ends *region, leaves it INGLE_REGION_NONE.  Thread: any, once nobody uses the memory.
 */
void ingle_region_fini(struct ingle_region *region);

#ifdef __cplusplus
}
#endif
#endif
