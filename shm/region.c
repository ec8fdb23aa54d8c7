/* Sealed memory shared by two processes. Owns the mapping and, in the runtime, the memfd. The
 * runtime makes all of it and accepts none, so a client can neither shrink a region under the
 * reader (SIGBUS) nor hand over a file that stalls it. Invariant: a region's size never changes,
 * and each side's mapping is writable only where it is the one writer.
 * Any thread; create and fini are not for the step thread (system calls). */
#include "shm/region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3 */
#endif

#define PAGE_BYTES 4096u

static int seals_of(enum ingle_region_side side)
{
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    return side == INGLE_REGION_S2C ? seals | F_SEAL_FUTURE_WRITE : seals;
}

int ingle_copy_in(void *dst, const void *base, uint64_t cap, uint64_t off, uint64_t bytes)
{
    uint64_t keep;

    if (!ingle_range_ok(off, bytes, cap)) {
        return -EPROTO;
    }
    keep = (uint64_t)0 - (uint64_t)(off <= cap - bytes);
    __asm__("" : "+r"(keep)); /* all ones here, which the compiler must not know */
    memcpy(dst, (const uint8_t *)base + (off & keep), bytes);
    __asm__("" ::: "memory"); /* and it may not read the original again in place of the copy */
    return 0;
}

/* MADV_DONTFORK: a child must neither write its parent's ring nor keep its memory alive. */
static int map(int fd, uint64_t bytes, bool writable, int flags, void **ret_base)
{
    void *base =
        mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | flags, fd, 0);

    if (base == MAP_FAILED) {
        return -errno;
    }
    if (madvise(base, bytes, MADV_DONTFORK) != 0) {
        int res = -errno;

        (void)munmap(base, bytes);
        return res;
    }
    *ret_base = base;
    return 0;
}

static int memfd(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

    if (fd < 0 && errno == EINVAL) { /* an older kernel */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    return fd < 0 ? -errno : fd;
}

int ingle_region_create(struct ingle_region *ret, enum ingle_region_side side, uint64_t bytes)
{
    struct ingle_region r = INGLE_REGION_NONE;
    int res;

    if (bytes == 0 || bytes > UINT32_MAX) {
        return -EINVAL;
    }
    r.bytes = (bytes + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1);
    res = r.fd = memfd(side == INGLE_REGION_C2S ? "ingle-c2s" : "ingle-s2c");
    if (res < 0) {
        return res;
    }
    /* fallocate reserves what ftruncate would only promise: no memory is an error here, not a
     * signal at the first touch, and the populated map spares the step thread its page faults. The
     * seal comes after our own map, or it would forbid that too. */
    if (ftruncate(r.fd, (off_t)r.bytes) != 0 || fallocate(r.fd, 0, 0, (off_t)r.bytes) != 0) {
        res = -errno;
    } else {
        res = map(r.fd, r.bytes, side == INGLE_REGION_S2C, MAP_POPULATE, &r.base);
    }
    if (res == 0 && fcntl(r.fd, F_ADD_SEALS, seals_of(side)) != 0) {
        res = -errno;
    }
    if (res != 0) {
        ingle_region_fini(&r);
        return res;
    }
    *ret = r;
    return 0;
}

int ingle_region_join(struct ingle_region *ret, enum ingle_region_side side, int fd, uint64_t bytes)
{
    struct ingle_region r = {.base = NULL, .bytes = bytes, .fd = -1};
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    int res;

    if (seals < 0 || (seals & seals_of(side)) != seals_of(side) || fstat(fd, &st) != 0 ||
        st.st_size < 0 || (uint64_t)st.st_size != bytes || bytes == 0) {
        return -EPROTO;
    }
    res = map(fd, bytes, side == INGLE_REGION_C2S, 0, &r.base);
    if (res == 0) {
        *ret = r;
    }
    return res;
}

void ingle_region_fini(struct ingle_region *region)
{
    if (region == NULL) {
        return;
    }
    if (region->base != NULL) {
        (void)munmap(region->base, region->bytes);
    }
    if (region->fd >= 0) {
        (void)close(region->fd);
    }
    *region = (struct ingle_region)INGLE_REGION_NONE;
}
